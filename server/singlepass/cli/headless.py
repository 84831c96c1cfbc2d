"""A headless editor: a real LSP client of `singlepass serve` over stdio, for the command line and the tests.

It does only what any editor does: opens documents, applies workspace edits whose version is current to its
own text, sends the resulting `didChange`, and answers requests.
"""

import asyncio
import os
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Union

from lsprotocol import types as lsp
from pygls.lsp.client import LanguageClient
from pygls.protocol import default_converter

from singlepass import __version__
from singlepass.cli.paths import read_edited, real_path
from singlepass.core.edits import Edit, apply
from singlepass.core.lines import Encoding, LineIndex
from singlepass.editor.positions import encoding_from_lsp, path_from_uri, plain, span_from_lsp
from singlepass.editor.workspace import decode_source

_START_TIMEOUT_S = 30.0
_FINAL_STATES = ("done", "failed", "cancelled")


class ServerGone(Exception):
    """The language server exited unexpectedly."""


class OpenFile:
    """An open document of this editor."""

    def __init__(
        self, uri: str, path: Path, text: str, data: bytes | None = None, name: Path | None = None
    ) -> None:
        self.uri = uri
        self.path = path
        self.name = name or path
        """The absolute path by which it was opened; may be a link."""
        self.original = text
        self.text = text
        self.data = text.encode() if data is None else data
        """The bytes of the file when it was read."""
        self.version = 1
        self.is_open = False


def load(path: Path) -> OpenFile:
    """Read a file for editing; its text has no byte order mark. Raises UserError, OSError."""
    real = real_path(path)
    data = read_edited(real)
    text = decode_source(data, real).removeprefix("\ufeff")
    return OpenFile(real.as_uri(), real, text, data, path.absolute())


def headless_capabilities() -> lsp.ClientCapabilities:
    """The capabilities of this editor: everything that singlepass can use."""
    return lsp.ClientCapabilities(
        general=lsp.GeneralClientCapabilities(position_encodings=[lsp.PositionEncodingKind.Utf16]),
        window=lsp.WindowClientCapabilities(work_done_progress=True),
        workspace=lsp.WorkspaceClientCapabilities(
            apply_edit=True,
            code_lens=lsp.CodeLensWorkspaceClientCapabilities(refresh_support=True),
            workspace_edit=lsp.WorkspaceEditClientCapabilities(
                document_changes=True,
                change_annotation_support=lsp.ChangeAnnotationsSupportOptions(),
            ),
        ),
        text_document=lsp.TextDocumentClientCapabilities(
            code_action=lsp.CodeActionClientCapabilities(
                code_action_literal_support=lsp.ClientCodeActionLiteralOptions(
                    lsp.ClientCodeActionKindOptions(
                        ["quickfix", "refactor", "refactor.rewrite", "refactor.extract"]
                    )
                ),
                tag_support=lsp.CodeActionTagOptions([lsp.CodeActionTag.LlmGenerated]),
            ),
            code_lens=lsp.CodeLensClientCapabilities(),
            publish_diagnostics=lsp.PublishDiagnosticsClientCapabilities(
                data_support=True, version_support=True
            ),
        ),
    )


class HeadlessEditor:
    """One connection to one server process. Use as an asynchronous context manager."""

    def __init__(
        self,
        folder: Path | None,
        options: Mapping[str, Any] | None = None,
        capabilities: lsp.ClientCapabilities | None = None,
    ) -> None:
        self.folder = folder
        self.options = dict(options or {})
        self.capabilities = capabilities or headless_capabilities()
        self.files: dict[str, OpenFile] = {}
        self.messages: list[tuple[str, str]] = []
        """(level, text) of every window/showMessage."""
        self.diagnostics: dict[str, Sequence[lsp.Diagnostic]] = {}
        self.statuses: list[dict[str, Any]] = []
        self.timings: list[dict[str, Any]] = []
        self.hunks: dict[str, dict[str, Any]] = {}
        """The latest `singlepass/hunks` of each document."""
        self.n_refreshed = 0
        """Number of refresh requests for code lenses."""
        self.log: deque[str] = deque(maxlen=200)
        """The last lines of the server's log."""
        self.on_change: Callable[[], None] = lambda: None
        """Called after every message of the server that changes what is known here, and every applied
        edit."""
        self.client = LanguageClient("singlepass-headless", __version__, converter_factory=_converter)
        self.initialized: lsp.InitializeResult | None = None
        self.encoding: Encoding = "utf-16"
        self._changed = asyncio.Event()
        self._register()

    async def __aenter__(self) -> "HeadlessEditor":
        client: Any = self.client  # pygls leaves these arguments untyped
        await client.start_io(sys.executable, "-P", "-m", "singlepass", "serve")
        self._stderr = asyncio.ensure_future(self._read_stderr())
        try:
            await self._initialize()
        except BaseException:
            # A server that does not answer, or whose start was cancelled, must not be left running.
            server = self._server()
            if server.returncode is None:
                server.kill()
            await server.wait()
            await self.__aexit__()
            raise
        return self

    async def _initialize(self) -> None:
        folders = [lsp.WorkspaceFolder(self.folder.as_uri(), self.folder.name)] if self.folder else None
        self.initialized = await asyncio.wait_for(
            self._ask(
                self.client.initialize_async(
                    lsp.InitializeParams(
                        process_id=os.getpid(),
                        capabilities=self.capabilities,
                        initialization_options=self.options,
                        workspace_folders=folders,
                    )
                )
            ),
            _START_TIMEOUT_S,
        )
        encoding = self.initialized.capabilities.position_encoding if self.initialized else None
        self.encoding = encoding_from_lsp(encoding)
        self.client.initialized(lsp.InitializedParams())

    async def __aexit__(self, *_: object) -> None:
        server = self._server()
        if server.returncode is None:
            try:
                await asyncio.wait_for(self.client.shutdown_async(None), 10)
                self.client.exit(None)
            except (RuntimeError, TimeoutError):
                server.kill()
        await self.client.stop()
        await self._stderr

    async def _read_stderr(self) -> None:
        """Keep the end of the server's log, which also keeps its pipe from filling up."""
        stream = self._server().stderr
        assert stream is not None
        async for line in stream:
            self.log.append(line.decode("utf-8", "replace").rstrip())

    def _server(self) -> asyncio.subprocess.Process:
        server = self.client._server  # pyright: ignore[reportPrivateUsage]
        assert server is not None
        return server

    async def _ask(self, request: Any) -> Any:
        """The answer to a request. Raises ServerGone if the server exits before it answers."""
        try:
            return await request
        except RuntimeError as error:
            raise ServerGone(f"The language server ended: {error}") from None

    # Documents.

    def open(self, path: Path, language: str = "") -> OpenFile:
        """Read a file and open it as a document. Raises UserError, OSError."""
        return self.show(load(path), language)

    def show(self, file: OpenFile, language: str = "") -> OpenFile:
        """Open a file that was read by `load`."""
        self.files[file.uri] = file
        file.is_open = True
        item = lsp.TextDocumentItem(file.uri, language or _language(file.path), file.version, file.text)
        self.client.text_document_did_open(lsp.DidOpenTextDocumentParams(item))
        return file

    def close(self, file: OpenFile) -> None:
        """Close a document and forget its text."""
        file.is_open = False
        del self.files[file.uri]
        self.client.text_document_did_close(
            lsp.DidCloseTextDocumentParams(lsp.TextDocumentIdentifier(file.uri))
        )

    def configure(self, settings: Mapping[str, Any]) -> None:
        """Send new settings (workspace/didChangeConfiguration)."""
        self.client.workspace_did_change_configuration(
            lsp.DidChangeConfigurationParams({"singlepass": dict(settings)})
        )

    def type(self, file: OpenFile, edit: Edit) -> None:
        """Change a document as if the user had typed."""
        self._change(file, [edit])

    def _change(self, file: OpenFile, edits: Sequence[Edit]) -> None:
        """Apply non-overlapping edits and send them to the server, the last one first, as VS Code does."""
        index = LineIndex(file.text, self.encoding)
        changes: list[lsp.TextDocumentContentChangeEvent] = [
            lsp.TextDocumentContentChangePartial(
                lsp.Range(lsp.Position(*index.position(edit.start)), lsp.Position(*index.position(edit.end))),
                edit.new,
            )
            for edit in sorted(edits, key=lambda edit: edit.start, reverse=True)
        ]
        file.text = apply(file.text, edits)
        file.version += 1
        if file.is_open:
            self.client.text_document_did_change(
                lsp.DidChangeTextDocumentParams(
                    lsp.VersionedTextDocumentIdentifier(file.version, file.uri), changes
                )
            )

    # Requests.

    async def command(self, name: str, *arguments: Any) -> Any:
        """Result of workspace/executeCommand. Raises pygls.exceptions.JsonRpcException for an error."""
        params = lsp.ExecuteCommandParams(name, list(arguments))
        return await self._ask(self.client.workspace_execute_command_async(params))

    async def actions(
        self, file: OpenFile, range: lsp.Range, diagnostics: Sequence[lsp.Diagnostic] = ()
    ) -> list[lsp.CodeAction | lsp.Command]:
        """Result of textDocument/codeAction."""
        params = lsp.CodeActionParams(
            lsp.TextDocumentIdentifier(file.uri),
            range,
            lsp.CodeActionContext(list(diagnostics)),
        )
        return list(await self._ask(self.client.text_document_code_action_async(params)) or ())

    async def lenses(self, file: OpenFile) -> list[lsp.CodeLens]:
        """Result of textDocument/codeLens."""
        params = lsp.CodeLensParams(lsp.TextDocumentIdentifier(file.uri))
        return list(await self._ask(self.client.text_document_code_lens_async(params)) or ())

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until messages of the server make the condition true. Raises ServerGone if it exits first."""
        while not condition():
            if self._server().returncode is not None:
                last = self.log[-1] if self.log else "it said nothing"
                code = self._server().returncode
                raise ServerGone(f"The language server ended with code {code}: {last}")
            self._changed.clear()
            try:
                await asyncio.wait_for(self._changed.wait(), 0.5)
            except TimeoutError:
                continue

    async def finish(self, job: int) -> dict[str, Any]:
        """Wait until a job has ended; its `singlepass/timings`."""
        await self.until(
            lambda: any(one["job"] == job and one["state"] in _FINAL_STATES for one in self.statuses)
        )
        return next(one for one in self.timings if one["job"] == job)

    # What the server sends.

    def _register(self) -> None:
        for method, handler in (
            (lsp.WORKSPACE_APPLY_EDIT, self.apply_edit),
            (lsp.WINDOW_WORK_DONE_PROGRESS_CREATE, _ignore),
            (lsp.PROGRESS, _ignore),
            (lsp.WORKSPACE_CODE_LENS_REFRESH, self._refresh),
            (lsp.WINDOW_SHOW_MESSAGE, self._show_message),
            (lsp.WINDOW_SHOW_MESSAGE_REQUEST, self.answer),
            (lsp.WINDOW_LOG_MESSAGE, _ignore),
            (lsp.TEXT_DOCUMENT_PUBLISH_DIAGNOSTICS, self._publish),
            ("singlepass/status", self._status),
            ("singlepass/timings", self._timings),
            ("singlepass/hunks", self._hunks),
        ):
            self.client.feature(method)(partial(handler))  # a bound method takes no attributes

    def apply_edit(self, params: lsp.ApplyWorkspaceEditParams) -> lsp.ApplyWorkspaceEditResult:
        """Apply a workspace edit to this editor's documents, completely or not at all."""
        planned: list[tuple[OpenFile, list[Edit]]] = []
        for change in params.edit.document_changes or ():
            if not isinstance(change, lsp.TextDocumentEdit):
                return lsp.ApplyWorkspaceEditResult(False, failure_reason="only text edits are supported")
            file = self._file(change.text_document.uri)
            if change.text_document.version not in (None, file.version):
                return lsp.ApplyWorkspaceEditResult(False, failure_reason="the document has changed")
            planned.append((file, self._edits(file, change.edits)))
        for uri, edits in (params.edit.changes or {}).items():
            file = self._file(uri)
            planned.append((file, self._edits(file, edits)))
        for file, edits in planned:
            self._change(file, edits)
        self._notify()
        return lsp.ApplyWorkspaceEditResult(True)

    def _edits(self, file: OpenFile, edits: Sequence[Any]) -> list[Edit]:
        index = LineIndex(file.text, self.encoding)
        return [Edit(*span_from_lsp(index, edit.range), edit.new_text) for edit in edits]

    def _file(self, uri: str) -> OpenFile:
        """The document with this URI; if the server edits a file that is not open, it is read from disk."""
        if uri not in self.files:
            path = path_from_uri(uri)
            assert path is not None
            data = read_edited(path)
            self.files[uri] = OpenFile(uri, path, decode_source(data, path), data)
        return self.files[uri]

    def _show_message(self, params: lsp.ShowMessageParams) -> None:
        self.messages.append((params.type.name.lower(), params.message))
        self._notify()

    def answer(self, params: lsp.ShowMessageRequestParams) -> lsp.MessageActionItem | None:
        """Answer a question with its first choice."""
        self.messages.append(("question", params.message))
        return params.actions[0] if params.actions else None

    def _publish(self, params: lsp.PublishDiagnosticsParams) -> None:
        self.diagnostics[params.uri] = params.diagnostics
        self._notify()

    def _status(self, params: Any) -> None:
        self.statuses.append(plain(params))
        self._notify()

    def _timings(self, params: Any) -> None:
        self.timings.append(plain(params))
        self._notify()

    def _refresh(self, _: Any) -> None:
        self.n_refreshed += 1
        self._notify()

    def _hunks(self, params: Any) -> None:
        told = plain(params)
        self.hunks[told["uri"]] = told
        self._notify()

    def _notify(self) -> None:
        self._changed.set()
        self.on_change()


def _converter() -> Any:
    """pygls's converter, which with lsprotocol 2025.0.0 mistakes a code action with a command for a
    command."""
    converter: Any = default_converter()

    def code_action(value: Any, _: Any) -> lsp.Command | lsp.CodeAction:
        kind = lsp.Command if isinstance(value.get("command"), str) else lsp.CodeAction
        return converter.structure(value, kind)

    converter.register_structure_hook(Union[lsp.Command, lsp.CodeAction], code_action)  # noqa: UP007
    return converter


def _ignore(_: Any) -> None:
    pass


_LANGUAGES = {
    ".py": "python",
    ".js": "javascript",
    ".jsx": "javascriptreact",
    ".ts": "typescript",
    ".tsx": "typescriptreact",
    ".go": "go",
    ".rs": "rust",
    ".java": "java",
    ".c": "c",
    ".h": "c",
    ".cpp": "cpp",
    ".cc": "cpp",
    ".hpp": "cpp",
    ".cs": "csharp",
    ".rb": "ruby",
    ".lua": "lua",
    ".sh": "shellscript",
    ".md": "markdown",
    ".html": "html",
    ".css": "css",
    ".json": "json",
    ".toml": "toml",
    ".yaml": "yaml",
    ".yml": "yaml",
}


def _language(path: Path) -> str:
    """The LSP language identifier that an editor would use for a file name."""
    return _LANGUAGES.get(path.suffix, "plaintext")
