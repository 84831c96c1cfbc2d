"""Three kinds of editor, as sets of announced capabilities, and what every job must have done in them."""

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
    assert timings["n_hunks"] > 0
    assert timings["n_rejected"] == 0
    assert timings["n_applied"] + timings["n_unchanged"] == timings["n_hunks"]
    numbers = timings["timings"]
    assert numbers["n_cached"] + numbers["n_prefilled"] == numbers["n_prompt"]
    assert numbers["n_prefilled"] >= 1
    assert numbers["n_decoded"] > 0
    assert numbers["n_forward"] <= numbers["n_decoded"]
    assert 0 < timings["ttft_ms"] <= timings["total_ms"]
