"""Over stdio: editors that can do all but one thing, and what becomes of an edit and its review there."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from lsprotocol import types as lsp
from pygls.exceptions import JsonRpcException
from scenarios.clients import FullEditor, edit, eventually, full_capabilities, lines, write
from singlepass.cli.headless import OpenFile
from singlepass.core.edits import Edit
from singlepass.core.lines import LineIndex

pytestmark = pytest.mark.anyio

SOURCE = "one = '𝔘'; a = 1\ntwo = 2\nthree = 3\nfour = 4\n"
REPLY = [
    "values.py\n<<<<<<< SEARCH\none = '𝔘'; a = 1\n=======\none = '𝔘𝔘'; a = 1\n>>>>>>> REPLACE\n",
    "values.py\n<<<<<<< SEARCH\nthree = 3\n=======\nthree = 33\nmore = 0\n>>>>>>> REPLACE\n",
]
AFTER = SOURCE.replace("'𝔘'", "'𝔘𝔘'").replace("three = 3\n", "three = 33\nmore = 0\n")
MINE = {"title": "Mine", "instruction": "Do mine."}

CREATE = lsp.WINDOW_WORK_DONE_PROGRESS_CREATE
REFRESH = lsp.WORKSPACE_CODE_LENS_REFRESH
ASKS_ALL = {
    lsp.WORKSPACE_APPLY_EDIT,
    CREATE,
    lsp.WORKSPACE_CONFIGURATION,
    lsp.CLIENT_REGISTER_CAPABILITY,
    REFRESH,
}
REGISTERS_ALL = [lsp.WORKSPACE_DID_CHANGE_WATCHED_FILES, lsp.WORKSPACE_DID_CHANGE_CONFIGURATION]


def options(folder: Path, **more: Any) -> dict[str, Any]:
    model = folder / "recording.json"
    model.write_text(json.dumps({"replies": [{"text": REPLY}]}), encoding="utf-8")
    target = {"backend": "scripted", "model": str(model)}
    return {"target": target, "prewarm": False, "code_lenses": True, **more}


class Lacking(msgspec.Struct, frozen=True):
    """An editor that lacks something."""

    path: str = ""
    """The capability that it does not announce."""
    value: Any = None
    """What it announces instead."""
    asks_no: tuple[str, ...] = ()
    """Requests that it must not get."""
    registers_no: tuple[str, ...] = ()
    lenses: bool = True
    check: Callable[[FullEditor], None] = lambda _: None


def versioned_and_annotated(editor: FullEditor) -> None:
    for params in editor.edits:
        assert params.edit.changes is None
        assert params.edit.change_annotations
        for change in params.edit.document_changes or ():
            assert isinstance(change, lsp.TextDocumentEdit)
            assert isinstance(change.text_document.version, int)


def without_versions(editor: FullEditor) -> None:
    for params in editor.edits:
        assert params.edit.changes
        assert params.edit.document_changes is None
        assert params.edit.change_annotations is None


def without_annotations(editor: FullEditor) -> None:
    for params in editor.edits:
        assert params.edit.document_changes
        assert params.edit.change_annotations is None
        for change in params.edit.document_changes:
            assert isinstance(change, lsp.TextDocumentEdit)
            assert not any(isinstance(one, lsp.AnnotatedTextEdit) for one in change.edits)


def encoding(name: str) -> Callable[[FullEditor], None]:
    def check(editor: FullEditor) -> None:
        assert editor.encoding == name

    return check


WATCHES, CONFIGURATION = REGISTERS_ALL
EDITORS = {
    "nothing": Lacking(check=versioned_and_annotated),
    "progress": Lacking("window.work_done_progress", False, (CREATE,)),
    "all of window": Lacking("window", None, (CREATE,)),
    "versions": Lacking("workspace.workspace_edit.document_changes", False, check=without_versions),
    "all of workspace edits": Lacking("workspace.workspace_edit", None, check=without_versions),
    "annotations": Lacking(
        "workspace.workspace_edit.change_annotation_support", None, check=without_annotations
    ),
    "configuration": Lacking("workspace.configuration", False, (lsp.WORKSPACE_CONFIGURATION,)),
    "registration of settings": Lacking(
        "workspace.did_change_configuration", None, registers_no=(CONFIGURATION,)
    ),
    "registration of files": Lacking("workspace.did_change_watched_files", None, registers_no=(WATCHES,)),
    "code lenses": Lacking("text_document.code_lens", None, (REFRESH,), lenses=False),
    "refreshing code lenses": Lacking("workspace.code_lens", None, (REFRESH,)),
    "actions as objects": Lacking("text_document.code_action", None),
    "an announcement that it applies edits": Lacking("workspace.apply_edit", None),
    "all of workspace": Lacking(
        "workspace",
        None,
        (lsp.WORKSPACE_CONFIGURATION, REFRESH, lsp.CLIENT_REGISTER_CAPABILITY),
        (WATCHES, CONFIGURATION),
        check=without_versions,
    ),
    "any encoding but utf-8": Lacking("general.position_encodings", ["utf-8"], check=encoding("utf-8")),
    "any encoding but utf-16": Lacking("general.position_encodings", ["utf-16"], check=encoding("utf-16")),
    "any encoding but utf-32": Lacking("general.position_encodings", ["utf-32"], check=encoding("utf-32")),
    "a word on encodings": Lacking("general", None, check=encoding("utf-16")),
}


def capabilities(lacking: Lacking) -> lsp.ClientCapabilities:
    announced: Any = full_capabilities()
    owner = announced
    *owners, name = lacking.path.split(".") if lacking.path else [""]
    for one in owners:
        owner = getattr(owner, one)
    if name:
        assert hasattr(owner, name)
        setattr(owner, name, lacking.value)
    return announced


def check_ranges(editor: FullEditor, file: OpenFile) -> list[int]:
    """The ranges of the hunks as last told are right in the editor's own text; their numbers."""
    told = editor.hunks[file.uri]
    assert told["version"] == file.version
    index = LineIndex(file.text, editor.encoding)
    for hunk in told["hunks"]:
        start, end = (
            index.offset(hunk["range"][name]["line"], hunk["range"][name]["character"])
            for name in ("start", "end")
        )
        assert file.text[start:end] == hunk["new"]
    return [hunk["id"] for hunk in told["hunks"]]


@pytest.mark.parametrize("name", EDITORS)
async def test_an_edit_and_its_review_in_an_editor_that_lacks(name: str, tmp_path: Path) -> None:
    lacking = EDITORS[name]
    path = write(tmp_path, "values.py", SOURCE)
    async with FullEditor(tmp_path, options(tmp_path), capabilities(lacking)) as editor:
        file = editor.open(path)
        # A character before the place on its line, which counts 1, 2 or 4.
        place = file.text.index("a = 1")
        editor.type(file, Edit(place, place + 1, "b"))
        editor.type(file, Edit(place, place + 1, "a"))
        timings = await edit(editor, file, lines(1, 4))
        assert (timings["outcome"], timings["n_applied"], timings["n_rejected"]) == ("done", 2, 0)
        assert file.text == AFTER
        assert {one["state"] for one in editor.statuses} >= {"prefill", "decode", "done"}

        first, second = check_ranges(editor, file)
        assert len(await editor.lenses(file)) == (6 if lacking.lenses else 0)
        assert await editor.command("singlepass.undo", {"hunk": first}) == {"undone": 1, "changed": 0}
        assert await editor.command("singlepass.keep", {"hunk": second}) == {"kept": 1}
        assert file.text == AFTER.replace("'𝔘𝔘'", "'𝔘'")
        assert await editor.command("singlepass.revert") == {"message": "1 of 1 edits taken back"}
        assert file.text == SOURCE

        editor.set(actions=[MINE])

        async def is_offered() -> bool:
            whole = lsp.Range(lsp.Position(0, 0), lsp.Position(4, 0))
            return "Mine" in [offer.title for offer in await editor.actions(file, whole)]

        await eventually(is_offered)
        assert set(editor.asked) == ASKS_ALL - set(lacking.asks_no)
        assert editor.registered == [one for one in REGISTERS_ALL if one not in lacking.registers_no]
        assert [text for level, text in editor.messages if level in ("warning", "error")] == []
        lacking.check(editor)


async def test_an_editor_that_applies_no_edits_is_offered_none(tmp_path: Path) -> None:
    path = write(tmp_path, "values.py", SOURCE)
    announced = capabilities(Lacking("workspace.apply_edit", False))
    async with FullEditor(tmp_path, options(tmp_path), announced) as editor:
        file = editor.open(path)
        assert await editor.actions(file, lsp.Range(lsp.Position(0, 0), lsp.Position(1, 0))) == []
        with pytest.raises(JsonRpcException, match="does not support workspace/applyEdit"):
            await edit(editor, file, lines(1, 1))


async def test_an_editor_that_turns_out_to_apply_no_edits_loses_no_text(tmp_path: Path) -> None:
    path = write(tmp_path, "values.py", SOURCE)
    announced = capabilities(Lacking("workspace.apply_edit", None))
    async with FullEditor(tmp_path, options(tmp_path), announced) as editor:
        del editor.client.protocol.fm.features[lsp.WORKSPACE_APPLY_EDIT]
        file = editor.open(path)
        timings = await edit(editor, file, lines(1, 4))
        assert [one["new"] for one in timings["rejected"]] == [
            ["one = '𝔘𝔘'; a = 1"],
            ["three = 33", "more = 0"],
        ]
        assert "does not support workspace/applyEdit" in timings["rejected"][0]["message"]
        assert editor.asked.count(lsp.WORKSPACE_APPLY_EDIT) == 1
        with pytest.raises(JsonRpcException, match="does not support workspace/applyEdit"):
            await edit(editor, file, lines(1, 1))


async def test_wrong_settings_are_named_once(tmp_path: Path) -> None:
    """Some editors tell of every change of any setting."""
    path = write(tmp_path, "values.py", SOURCE)
    async with FullEditor(tmp_path, options(tmp_path), settings={"seeed": 1}) as editor:
        file = editor.open(path)
        await editor.until(lambda: bool(editor.messages))
        editor.set()
        editor.set(max_tokens="many")
        await editor.until(lambda: len(editor.messages) == 2)
        await edit(editor, file, lines(1, 4))
        assert [text.rpartition(": ")[0] for _, text in editor.messages] == [
            "singlepass settings: the editor's settings",
            "singlepass settings: the editor's settings: `max_tokens`",
        ]


async def test_an_answer_that_comes_too_late_is_dropped(tmp_path: Path) -> None:
    """To a job that was cancelled meanwhile. Nothing is said of it, and the next job is as any other."""
    editor = FullEditor(tmp_path, options(tmp_path))
    protocol: Any = editor.client.protocol
    handle = protocol._handle_request
    waiting: list[Any] = []

    def slow(id: Any, method: str, params: Any) -> None:
        if method == CREATE:
            waiting.append((id, method, params))
        else:
            handle(id, method, params)

    protocol._handle_request = slow
    async with editor:
        file = editor.open(write(tmp_path, "values.py", SOURCE))
        arguments = {"uri": file.uri, "range": lines(1, 4), "instruction": "Do it."}
        job = (await editor.command("singlepass.edit", arguments))["job"]

        async def asked() -> bool:
            return bool(waiting)

        await eventually(asked)
        await editor.command("singlepass.cancel")
        assert (await editor.finish(job))["outcome"] == "cancelled"
        protocol._handle_request = handle
        handle(*waiting.pop())
        assert (await edit(editor, file, lines(1, 4)))["outcome"] == "done"
        assert file.text == AFTER
    assert editor.messages == []
    assert [line for line in editor.log if "CANCELLED" in line] == []
