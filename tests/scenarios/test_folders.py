"""Over stdio: several workspace folders, which come and go while the editor runs."""

import json
from pathlib import Path
from typing import Any

import pytest
from lsprotocol import types as lsp
from pygls.exceptions import JsonRpcException
from scenarios.clients import FullEditor, edit, eventually, lines, write
from singlepass.cli.headless import HeadlessEditor

pytestmark = pytest.mark.anyio

REPLY = "same.py\n<<<<<<< SEARCH\nb = 2\n=======\nb = 3\n>>>>>>> REPLACE\n"


def options(folder: Path) -> dict[str, Any]:
    replies = [
        {"when": "two/src/same.py", "text": [REPLY.replace("same.py", "two/src/same.py")]},
        {"when": "src/same.py", "text": [REPLY.replace("same.py", "src/same.py")]},
    ]
    model = write(folder, "recording.json", json.dumps({"replies": replies}))
    return {"target": {"backend": "scripted", "model": str(model)}}


def change(editor: HeadlessEditor, *, added: tuple[Path, ...] = (), removed: tuple[Path, ...] = ()) -> None:
    event = lsp.WorkspaceFoldersChangeEvent(
        [lsp.WorkspaceFolder(one.as_uri(), one.name) for one in added],
        [lsp.WorkspaceFolder(one.as_uri(), one.name) for one in removed],
    )
    editor.client.workspace_did_change_workspace_folders(lsp.DidChangeWorkspaceFoldersParams(event))


async def segments(editor: HeadlessEditor, uri: str) -> list[str]:
    found = await editor.command("singlepass.context", uri)
    return [one["name"] for one in found["segments"]]


async def test_folders_come_and_go(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    first = write(one, "src/same.py", "a = 1\nb = 2\n")
    second = write(two, "src/same.py", "class Thing:\n    pass\nb = 2\n")
    write(two, ".singlepass.toml", '[[actions]]\ntitle = "House style"\ninstruction = "Do it."\n')
    async with FullEditor(one, options(tmp_path)) as editor:
        assert editor.initialized is not None
        announced = editor.initialized.capabilities.workspace
        assert announced is not None
        assert announced.workspace_folders == lsp.WorkspaceFoldersServerCapabilities(True, True)
        file, beside = editor.open(first), editor.open(second)
        with pytest.raises(JsonRpcException, match="outside the workspace"):
            await edit(editor, beside, lines(1, 2))
        assert "src/same.py" in await segments(editor, file.uri)

        change(editor, added=(two,))
        # Paths are told apart by their folders from now on, and the new folder is in the map.
        await eventually(lambda: _has(editor, file.uri, "repository map"))
        assert {"one/src/same.py", "two/src/same.py"} < set(await segments(editor, file.uri))
        assert (await edit(editor, beside, lines(1, 2)))["n_applied"] == 1
        whole = lsp.Range(lsp.Position(0, 0), lsp.Position(1, 0))
        assert "House style" in [offer.title for offer in await editor.actions(file, whole)]

        change(editor, removed=(two,))
        # What is gone is in no prompt any more, and what it brought along is gone too.
        assert await segments(editor, file.uri) == ["system", "src/same.py"]
        with pytest.raises(JsonRpcException, match="outside the workspace"):
            await edit(editor, beside, lines(1, 2))
        assert "House style" not in [offer.title for offer in await editor.actions(file, whole)]
        assert (await edit(editor, file, lines(1, 2)))["n_applied"] == 1
        assert await editor.command("singlepass.undo") == {"undone": 2, "changed": 0}
        assert file.text == file.original


async def _has(editor: HeadlessEditor, uri: str, name: str) -> bool:
    return name in await segments(editor, uri)


async def test_a_first_folder_that_comes_late_is_known(tmp_path: Path) -> None:
    folder = tmp_path / "two"
    path = write(folder, "src/same.py", "class Thing:\n    pass\nb = 2\n")
    async with FullEditor(None, options(tmp_path)) as editor:
        file = editor.open(path)
        assert await segments(editor, file.uri) == ["system", "same.py"]
        change(editor, added=(folder,))
        await eventually(lambda: _has(editor, file.uri, "repository map"))
        assert "src/same.py" in await segments(editor, file.uri)
