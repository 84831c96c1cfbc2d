"""Requests and notifications to the editor, in the richest form that it supports.

Everything that is shown to the user passes through `inert` here, since editors render messages in different
ways.

Every request has a fallback: without progress support no progress is shown, without versioned edits a plain
`changes` map is sent, without annotations only a label.
"""

import logging
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, Literal, cast

import anyio
import msgspec
from lsprotocol import types as lsp
from pygls.exceptions import JsonRpcException, JsonRpcMethodNotFound
from pygls.lsp.server import LanguageServer

from singlepass.core.inert import inert
from singlepass.core.lines import Encoding
from singlepass.editor.positions import (
    Capabilities,
    TextEdit,
    encoding_from_lsp,
    plain,
    workspace_edit_to_lsp,
)
from singlepass.editor.shown_text import write_shown
from singlepass.editor.tasks import Owner, Work, in_thread

log = logging.getLogger(__name__)

NO_EDITS = "this editor does not support workspace/applyEdit, so that nothing can be written into it"

STATUS = "singlepass/status"

_ANSWER_TIMEOUT_S = 60.0
_CONFIGURATION_S = 10.0
_PROGRESS_S = 5.0
_WAKE_S = 0.5
"""Seconds after which a log message is sent to wake the editor. Emacs 28 does not process messages that
arrive together with a response until it receives more data (its jsonrpc.el leaves the loop over messages by a
`throw`). If our edit is among these messages, both sides would wait for each other."""
_LEVELS = {
    "error": lsp.MessageType.Error,
    "warning": lsp.MessageType.Warning,
    "info": lsp.MessageType.Info,
}


class ApplyResult(msgspec.Struct, frozen=True):
    """The editor's answer to `workspace/applyEdit`."""

    applied: bool
    reason: str = ""


class Status(msgspec.Struct, frozen=True):
    """The parameters of `singlepass/status`: the state of a job, or without a job that of the prewarm.

    `message` is for users. Clients that want their own text use the numbers.
    """

    state: str
    message: str
    percent: int | None = None
    job: int | None = None
    uri: str | None = None
    eta_ms: float | None = None
    """Time until the end of prefill in ms, if known."""
    decode_rate: float | None = None
    """Tokens per second, once measured."""
    target: str = ""


def tell_status(editor: "Editor", status: Status) -> None:
    """Send the notification `singlepass/status`."""
    editor.notify(STATUS, msgspec.structs.asdict(status))


class Editor:
    """The client."""

    def __init__(self, server: LanguageServer) -> None:
        self._server = server
        self.capabilities = Capabilities(lsp.ClientCapabilities())
        """The client's capabilities; empty until it has announced them."""
        self.tasks = Owner()
        """Owns what waits for the editor longer than whoever asked."""
        self._refreshing: Work | None = None
        self._refresh_again = False

    @property
    def encoding(self) -> Encoding:
        """The negotiated position encoding."""
        return encoding_from_lsp(self._server.workspace.position_encoding)

    async def apply(
        self,
        edits: Mapping[tuple[str, int | None], list[TextEdit]],
        label: str,
        description: str,
        *,
        confirm: bool = False,
    ) -> ApplyResult:
        """Send one workspace edit and wait for the answer, without a timeout. Never raises for an error
        answer.

        It is sent before any other task can run, unless the user has to be asked first.
        """
        if not self.capabilities.apply_edit:
            return ApplyResult(False, NO_EDITS)
        label, description = inert(label), inert(description)
        if confirm and not self.capabilities.annotations and not await self._confirmed(label, description):
            return ApplyResult(False, "it was not confirmed")
        edit = workspace_edit_to_lsp(
            edits,
            label,
            description,
            versioned=self.capabilities.versioned_edits,
            annotated=self.capabilities.annotations,
            confirm=confirm,
        )
        wake = self.tasks.start(self._wake, label)
        try:
            result = await self._server.workspace_apply_edit_async(lsp.ApplyWorkspaceEditParams(edit, label))
        except JsonRpcException as error:
            if error.code == JsonRpcMethodNotFound.CODE:
                self.capabilities.apply_edit = False
                return ApplyResult(False, NO_EDITS)
            return ApplyResult(False, f"the editor answered with an error: {error.message}")
        finally:
            wake.cancel()
        return ApplyResult(bool(result.applied), result.failure_reason or "")

    async def _wake(self, label: str) -> None:
        await anyio.sleep(_WAKE_S)
        self.log(f"{label}: the editor has not answered yet")

    async def _confirmed(self, label: str, description: str) -> bool:
        """Ask by a message, for editors without change annotations."""
        yes = lsp.MessageActionItem("Apply")
        params = lsp.ShowMessageRequestParams(
            lsp.MessageType.Info, f"{label}: {description}.", [yes, lsp.MessageActionItem("Discard")]
        )
        try:
            answer = await self._server.window_show_message_request_async(params)
        except JsonRpcException:
            return False
        return answer is not None and answer.title == yes.title

    def say(self, level: Literal["error", "warning", "info"], message: str) -> None:
        """Show a message to the user, and log it."""
        message = inert(message)
        log.log(getattr(logging, level.upper()), "%s", message)
        self._server.window_show_message(lsp.ShowMessageParams(_LEVELS[level], message))

    def notify(self, method: str, params: Mapping[str, Any]) -> None:
        """Send one of our own notifications, `singlepass/status` or `singlepass/timings`."""
        self._server.protocol.notify(method, dict(params))

    def log(self, message: str) -> None:
        """One line for the editor's log of this server."""
        message = inert(message)
        log.info("%s", message)
        self._server.window_log_message(lsp.LogMessageParams(lsp.MessageType.Log, message))

    def publish(self, uri: str, version: int | None, diagnostics: Sequence[lsp.Diagnostic]) -> None:
        """Replace our diagnostics of a document."""
        for one in diagnostics:
            one.message = inert(one.message)
        self._server.text_document_publish_diagnostics(
            lsp.PublishDiagnosticsParams(
                uri, list(diagnostics), version if self.capabilities.diagnostic_versions else None
            )
        )

    async def configuration(self) -> Mapping[str, Any] | None:
        """The `singlepass` section of the editor's settings; None when it has none."""
        if not self.capabilities.configuration:
            return None
        params = lsp.ConfigurationParams([lsp.ConfigurationItem(section="singlepass")])
        try:
            with anyio.fail_after(_CONFIGURATION_S):
                answer = await self._server.workspace_configuration_async(params)
        except (TimeoutError, JsonRpcException) as error:
            log.warning("the editor gave no configuration: %r", error)
            return None
        section: Any = plain(answer[0]) if answer else None
        return cast("Mapping[str, Any]", section) if isinstance(section, dict) else None

    async def show_text(self, text: str) -> bool:
        """Open a text for the user to read; False if the editor cannot. Raises OSError."""
        if not self.capabilities.show_document:
            return False
        path = await in_thread(write_shown, text)
        params = lsp.ShowDocumentParams(path.as_uri(), take_focus=True)
        try:
            with anyio.fail_after(_ANSWER_TIMEOUT_S):
                answer = await self._server.window_show_document_async(params)
        except (TimeoutError, JsonRpcException) as error:
            log.warning("the editor did not show a document: %r", error)
            return False
        return answer.success

    def refresh_lenses(self) -> None:
        """Make the editor request code lenses again; without support it does so when the text changes."""
        if not (self.capabilities.lenses and self.capabilities.lens_refresh):
            return
        self._refresh_again = True
        if self._refreshing is None or self._refreshing.ended.is_set():
            self._refreshing = self.tasks.start(self._refresh_lenses)

    async def _refresh_lenses(self) -> None:
        """Send one request at a time, since hunks may arrive faster than the editor answers."""
        while self._refresh_again:
            self._refresh_again = False
            try:
                with anyio.fail_after(_ANSWER_TIMEOUT_S):
                    await self._server.workspace_code_lens_refresh_async(None)
            except (TimeoutError, JsonRpcException) as error:
                log.info("this editor refreshes no code lenses: %r", error)

    async def watch(self, globs: Sequence[str]) -> None:
        """Register for changes of files outside the editor, if supported."""
        if self.capabilities.watching:
            watchers = [lsp.FileSystemWatcher(glob) for glob in globs]
            options = lsp.DidChangeWatchedFilesRegistrationOptions(watchers)
            await self._register(lsp.WORKSPACE_DID_CHANGE_WATCHED_FILES, options)

    async def follow_configuration(self) -> None:
        """Register for changes of the editor's settings, if supported."""
        if self.capabilities.dynamic_configuration:
            # With a section VS Code sends the values twice; we request them instead.
            section = None if self.capabilities.configuration else "singlepass"
            options = lsp.DidChangeConfigurationRegistrationOptions(section)
            await self._register(lsp.WORKSPACE_DID_CHANGE_CONFIGURATION, options)

    async def _register(self, method: str, options: Any) -> None:
        registration = lsp.Registration(str(uuid.uuid4()), method, options)
        try:
            await self._server.client_register_capability_async(lsp.RegistrationParams([registration]))
        except JsonRpcException as error:
            log.info("this editor does not register %s: %r", method, error)

    async def progress(self, title: str, on_cancel: Callable[[], object]) -> "Progress":
        """Begin a work-done progress; without client support, one that does nothing."""
        if not self.capabilities.progress:
            return Progress(None, "")
        token = f"singlepass-{uuid.uuid4()}"
        progress: Any = self._server.work_done_progress
        try:
            with anyio.fail_after(_PROGRESS_S):
                await progress.create_async(token)
        except (TimeoutError, JsonRpcException) as error:
            log.info("no progress in this editor: %r", error)
            return Progress(None, "")

        def done(future: "Future[None]") -> None:
            if future.cancelled():
                on_cancel()

        progress.tokens[token].add_done_callback(done)
        progress.begin(token, lsp.WorkDoneProgressBegin(title=inert(title), cancellable=True, percentage=0))
        return Progress(self._server, token)


class Progress:
    """A work-done progress of one job. `end` must be called, once."""

    def __init__(self, server: LanguageServer | None, token: str) -> None:
        self._server = server
        self._token = token

    def report(self, message: str, percentage: int | None = None) -> None:
        """Show a message, and a percentage if known."""
        if self._server:
            self._server.work_done_progress.report(
                self._token, lsp.WorkDoneProgressReport(message=inert(message), percentage=percentage)
            )

    def end(self, message: str) -> None:
        """End the progress with a last message."""
        if self._server:
            self._server.work_done_progress.end(self._token, lsp.WorkDoneProgressEnd(message=inert(message)))
            progress: Any = self._server.work_done_progress
            progress.tokens.pop(self._token, None)  # pygls never removes them
