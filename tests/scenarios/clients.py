"""Kinds of editor, as sets of announced capabilities, and what every job must have done in them."""

import asyncio
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from lsprotocol import types as lsp
from singlepass.cli.headless import HeadlessEditor, OpenFile, headless_capabilities


def plain_capabilities() -> lsp.ClientCapabilities:
    """Versioned edits and nothing else; speaks UTF-8."""
    return lsp.ClientCapabilities(
        general=lsp.GeneralClientCapabilities(
            position_encodings=[lsp.PositionEncodingKind.Utf8, lsp.PositionEncodingKind.Utf16]
        ),
        workspace=lsp.WorkspaceClientCapabilities(
            apply_edit=True, workspace_edit=lsp.WorkspaceEditClientCapabilities(document_changes=True)
        ),
        text_document=lsp.TextDocumentClientCapabilities(
            code_action=lsp.CodeActionClientCapabilities(
                code_action_literal_support=lsp.ClientCodeActionLiteralOptions(
                    lsp.ClientCodeActionKindOptions(["refactor"])
                )
            )
        ),
    )


def poor_capabilities() -> lsp.ClientCapabilities:
    """The least that can receive an edit: no versions, no progress, commands instead of code actions."""
    return lsp.ClientCapabilities(workspace=lsp.WorkspaceClientCapabilities(apply_edit=True))


CLIENTS = {"rich": headless_capabilities, "plain": plain_capabilities, "poor": poor_capabilities}


def full_capabilities() -> lsp.ClientCapabilities:
    """All that a server can make use of."""
    capabilities = headless_capabilities()
    assert capabilities.workspace is not None
    capabilities.workspace.configuration = True
    capabilities.workspace.workspace_folders = True
    capabilities.workspace.did_change_configuration = lsp.DidChangeConfigurationClientCapabilities(
        dynamic_registration=True
    )
    capabilities.workspace.did_change_watched_files = lsp.DidChangeWatchedFilesClientCapabilities(
        dynamic_registration=True
    )
    return capabilities


class FullEditor(HeadlessEditor):
    """An editor that can do all that a server may ask of it, and notes what it was asked.

    `settings` is its section for us. It is given to who asks, and told of to who registered for that; only an
    editor that announces neither sends it along.
    """

    def __init__(
        self,
        folder: Path | None,
        options: Mapping[str, Any] | None = None,
        capabilities: lsp.ClientCapabilities | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(folder, options, capabilities or full_capabilities())
        self.settings = dict(settings or {})
        self.asked: list[str] = []
        """The methods of all requests of the server."""
        self.registered: list[str] = []
        self.edits: list[lsp.ApplyWorkspaceEditParams] = []
        protocol: Any = self.client.protocol
        handle = protocol._handle_request

        def noted(id: Any, method: str, params: Any) -> None:
            self.asked.append(method)
            handle(id, method, params)

        protocol._handle_request = noted
        for method, handler in (
            (lsp.WORKSPACE_CONFIGURATION, self._configuration),
            (lsp.CLIENT_REGISTER_CAPABILITY, self._register_capability),
        ):
            self.client.feature(method)(partial(handler))

    def set(self, **settings: Any) -> None:
        """The user changes settings."""
        self.settings |= settings
        announced = self.capabilities.workspace
        if announced is not None and announced.configuration:
            self.client.workspace_did_change_configuration(lsp.DidChangeConfigurationParams(None))
        else:
            self.configure(self.settings)

    def apply_edit(self, params: lsp.ApplyWorkspaceEditParams) -> lsp.ApplyWorkspaceEditResult:
        self.edits.append(params)
        return super().apply_edit(params)

    def _configuration(self, params: lsp.ConfigurationParams) -> list[Any]:
        return [self.settings if item.section == "singlepass" else None for item in params.items]

    def _register_capability(self, params: lsp.RegistrationParams) -> None:
        self.registered += [one.method for one in params.registrations]
        self._notify()


async def eventually(condition: Any) -> None:
    """Wait for something that no message tells of."""
    async with asyncio.timeout(20):
        while not await condition():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


def lines(first: int, last: int) -> dict[str, Any]:
    """The range of whole lines, from 1, both included, as in a command's arguments."""
    return {"start": {"line": first - 1, "character": 0}, "end": {"line": last, "character": 0}}


def write(folder: Path, name: str, text: str) -> Path:
    """A file with exactly these line ends."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode("utf-8"))
    return path


async def edit(
    editor: HeadlessEditor, file: OpenFile, range: dict[str, Any], instruction: str = "Do it.", **more: Any
) -> dict[str, Any]:
    """Run a job to its end; its timings."""
    arguments = {"uri": file.uri, "range": range, "instruction": instruction, **more}
    return await editor.finish((await editor.command("singlepass.edit", arguments))["job"])


def check_done(timings: dict[str, Any]) -> None:
    """A finished job whose every hunk went in, and whose numbers add up."""
    assert timings["outcome"] == "done", timings
    assert timings["n_hunks"] > 0, timings
    assert timings["n_rejected"] == 0
    assert timings["n_applied"] + timings["n_unchanged"] == timings["n_hunks"]
    numbers = timings["timings"]
    assert numbers["n_cached"] + numbers["n_prefilled"] == numbers["n_prompt"]
    assert numbers["n_prefilled"] >= 1
    assert numbers["n_decoded"] > 0
    assert numbers["n_forward"] <= numbers["n_decoded"]
    assert 0 < timings["ttft_ms"] <= timings["total_ms"]
