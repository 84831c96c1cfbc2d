"""Over stdio, with a recorded model: hunks are told, kept one by one, undone one by one, tried again."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from lsprotocol import types as lsp
from pygls.exceptions import JsonRpcException
from scenarios.clients import CLIENTS, edit, lines, write
from singlepass.cli.headless import HeadlessEditor, OpenFile
from singlepass.core.edits import Edit
from singlepass.core.lines import LineIndex

pytestmark = pytest.mark.anyio

SOURCE = "".join(f"value_{n} = {n}\n" for n in range(20))


def block(path: str, old: str, new: str) -> str:
    return f"{path}\n<<<<<<< SEARCH\n{old}=======\n{new}>>>>>>> REPLACE\n"


REPLIES = {
    "First": [
        block("values.py", "value_2 = 2\nvalue_3 = 3\nvalue_4 = 4\n", "value_2 = 22\nvalue_3 = 3\n"),
        block("values.py", "value_9 = 9\n", "value_9 = 9  # 𝔘\nmore = 10\n"),
    ],
    "Second": [block("values.py", "value_15 = 15\n", "value_15 = 150\n")],
    "Both": [
        block("values.py", "value_0 = 0\n", "value_0 = 1\n"),
        block("other.py", "a = 1\n", "a = 2\n"),
    ],
    "Nothing": ["\n"],
}


def options(folder: Path, **more: Any) -> dict[str, Any]:
    model = folder / "recording.json"
    replies = [{"when": when, "text": text} for when, text in REPLIES.items()]
    model.write_text(json.dumps({"replies": replies}), encoding="utf-8")
    return {"target": {"backend": "scripted", "model": str(model)}, "prewarm": False, **more}


def hunks(editor: HeadlessEditor, file: OpenFile) -> Sequence[dict[str, Any]]:
    """The hunks as last told; their ranges are checked against the editor's own text."""
    told = editor.hunks[file.uri]
    assert told["version"] == file.version
    index = LineIndex(file.text, editor.encoding)
    for hunk in told["hunks"]:
        start, end = (
            index.offset(hunk["range"][name]["line"], hunk["range"][name]["character"])
            for name in ("start", "end")
        )
        assert file.text[start:end] == hunk["new"]
    return told["hunks"]


@pytest.fixture(params=CLIENTS)
def capabilities(request: pytest.FixtureRequest) -> lsp.ClientCapabilities:
    return CLIENTS[request.param]()


async def test_hunks_are_told_kept_and_undone_one_by_one(
    tmp_path: Path, capabilities: lsp.ClientCapabilities
) -> None:
    path = write(tmp_path, "values.py", SOURCE)
    async with HeadlessEditor(tmp_path, options(tmp_path), capabilities) as editor:
        file = editor.open(path)
        first = await edit(editor, file, lines(1, 20), "First")
        assert first["n_applied"] == 2
        listed = hunks(editor, file)
        assert [(hunk["old"], hunk["new"]) for hunk in listed] == [
            ("value_2 = 2\n", "value_2 = 22\n"),
            ("value_4 = 4\n", ""),
            ("value_9 = 9\n", "value_9 = 9  # 𝔘\nmore = 10\n"),
        ]
        assert editor.hunks[file.uri]["job"] == first["job"]
        after_first = file.text
        second = await edit(editor, file, lines(1, 20), "Second")
        assert editor.hunks[file.uri]["job"] == second["job"]
        ids = [hunk["id"] for hunk in hunks(editor, file)]
        assert len(ids) == 4

        # Typing elsewhere moves them; typing in one takes it out of review.
        editor.type(file, Edit(0, 0, "# typed\n"))
        place = file.text.index("value_9 = 9") + 3
        editor.type(file, Edit(place, place, "X"))
        await editor.until(lambda: len(editor.hunks[file.uri]["hunks"]) == 3)
        assert [hunk["id"] for hunk in hunks(editor, file)] == [ids[0], ids[1], ids[3]]
        assert await editor.command("singlepass.undo", {"hunk": ids[2]}) == {"undone": 0, "changed": 1}

        assert await editor.command("singlepass.keep", {"hunk": ids[0]}) == {"kept": 1}
        await editor.until(lambda: len(editor.hunks[file.uri]["hunks"]) == 2)
        assert await editor.command("singlepass.undo", {"hunk": ids[1], "job": first["job"]}) == {
            "undone": 1,
            "changed": 0,
        }
        await editor.until(lambda: len(editor.hunks[file.uri]["hunks"]) == 1)
        assert hunks(editor, file)[0]["old"] == "value_15 = 15\n"
        assert await editor.command("singlepass.undo", {"uri": file.uri}) == {"undone": 1, "changed": 0}
        await editor.until(lambda: not editor.hunks[file.uri]["hunks"])
        expected = "# typed\n" + after_first.replace("value_3 = 3\n", "value_3 = 3\nvalue_4 = 4\n")
        assert file.text == expected.replace("value_9", "valXue_9")
        for name, answer in (("undo", {"undone": 0, "changed": 0}), ("keep", {"kept": 0})):
            assert await editor.command(f"singlepass.{name}") == answer
        assert editor.messages == []


async def test_undoing_all_of_several_files_is_one_edit(tmp_path: Path) -> None:
    sent: list[lsp.ApplyWorkspaceEditParams] = []

    class Recording(HeadlessEditor):
        def apply_edit(self, params: lsp.ApplyWorkspaceEditParams) -> lsp.ApplyWorkspaceEditResult:
            sent.append(params)
            return super().apply_edit(params)

    path, other = write(tmp_path, "values.py", SOURCE), write(tmp_path, "other.py", "a = 1\nb = 2\n")
    async with Recording(tmp_path, options(tmp_path)) as editor:
        file, beside = editor.open(path), editor.open(other)
        await edit(editor, file, lines(1, 1), "Both", files=[beside.uri])
        assert [hunk["old"] for one in (file, beside) for hunk in hunks(editor, one)] == [
            "value_0 = 0\n",
            "a = 1\n",
        ]
        sent.clear()
        assert await editor.command("singlepass.undo") == {"undone": 2, "changed": 0}
        assert (file.text, beside.text) == (SOURCE, "a = 1\nb = 2\n")
        (params,) = sent
        assert params.label == "singlepass: undo"


async def test_a_file_that_was_not_open_is_reviewed_too(tmp_path: Path) -> None:
    """Its hunks are told without a version, and belong to the document once it is opened with their text."""
    path, other = write(tmp_path, "values.py", SOURCE), write(tmp_path, "other.py", "a = 1\nb = 2\n")
    async with HeadlessEditor(tmp_path, options(tmp_path)) as editor:
        file = editor.open(path)
        await edit(editor, file, lines(1, 1), "Both", files=[other.as_uri()])
        told = editor.hunks[other.as_uri()]
        assert told["version"] is None
        assert [(one["old"], one["new"]) for one in told["hunks"]] == [("a = 1\n", "a = 2\n")]
        other.write_text(editor.files[other.as_uri()].text)  # as an editor saves it
        beside = editor.open(other)
        await editor.until(lambda: editor.hunks[beside.uri]["version"] == 1)
        (hunk,) = hunks(editor, beside)
        assert await editor.command("singlepass.undo", {"hunk": hunk["id"]}) == {"undone": 1, "changed": 0}
        assert beside.text == "a = 1\nb = 2\n"
        assert "value_0 = 1" in file.text


async def test_try_again_restores_the_text_and_tells_what_was_asked(tmp_path: Path) -> None:
    path = write(tmp_path, "values.py", SOURCE)
    async with HeadlessEditor(tmp_path, options(tmp_path)) as editor:
        file = editor.open(path)
        with pytest.raises(JsonRpcException, match="Nothing was asked for yet"):
            await editor.command("singlepass.retry")
        first = await edit(editor, file, lines(3, 10), "First", title="Mine")
        editor.type(file, Edit(0, 0, "# typed\n"))
        await edit(editor, file, lines(1, 20), "Nothing")
        asked = await editor.command("singlepass.retry", {"job": first["job"]})
        assert file.text == "# typed\n" + SOURCE
        named = {name: asked[name] for name in ("uri", "range", "instruction", "title", "files")}
        assert named == {
            "uri": file.uri,
            "range": lines(4, 11),
            "instruction": "First",
            "title": "Mine",
            "files": [],
        }
        # What is answered is what `singlepass.edit` takes.
        again = await editor.command("singlepass.edit", {**asked, "instruction": "Second"})
        await editor.finish(again["job"])
        assert (await editor.command("singlepass.retry"))["instruction"] == "Second"
        assert file.text == "# typed\n" + SOURCE
        with pytest.raises(JsonRpcException, match="There is no job 99"):
            await editor.command("singlepass.retry", {"job": 99})


async def test_code_lenses_offer_to_keep_and_undo(tmp_path: Path) -> None:
    path = write(tmp_path, "values.py", SOURCE)
    async with HeadlessEditor(tmp_path, options(tmp_path, code_lenses=True)) as editor:
        assert editor.initialized is not None
        assert editor.initialized.capabilities.code_lens_provider is not None
        file = editor.open(path)
        await edit(editor, file, lines(1, 20), "First")
        await editor.until(lambda: editor.n_refreshed > 0)
        lenses = await editor.lenses(file)
        assert [(one.range.start.line, one.command and one.command.title) for one in lenses] == [
            (2, "Keep"),
            (2, "Undo"),
            (2, "Keep all"),
            (2, "Undo all"),
            (4, "Keep deletion"),
            (4, "Undo deletion"),
            (8, "Keep"),
            (8, "Undo"),
        ]

        async def click(lens: lsp.CodeLens) -> Any:
            assert lens.command is not None
            return await editor.command(lens.command.command, *lens.command.arguments or ())

        assert await click(lenses[-2]) == {"kept": 1}
        assert await click(lenses[5]) == {"undone": 1, "changed": 0}
        lenses = await editor.lenses(file)
        assert [one.command and one.command.title for one in lenses] == ["Keep", "Undo"]
        assert await click(lenses[1]) == {"undone": 1, "changed": 0}
        assert await editor.lenses(file) == []
        assert file.text == SOURCE.replace("value_9 = 9\n", "value_9 = 9  # 𝔘\nmore = 10\n")


async def test_code_lenses_come_and_go_with_the_setting(tmp_path: Path) -> None:
    path = write(tmp_path, "values.py", SOURCE)
    async with HeadlessEditor(tmp_path, options(tmp_path)) as editor:
        file = editor.open(path)
        await edit(editor, file, lines(1, 20), "Second")
        assert await editor.lenses(file) == []
        assert editor.n_refreshed == 0
        editor.configure({"code_lenses": True})
        await editor.until(lambda: editor.n_refreshed == 1)
        assert len(await editor.lenses(file)) == 2


@pytest.mark.parametrize("name", ["plain", "poor"])
async def test_no_code_lenses_where_the_editor_shows_none(name: str, tmp_path: Path) -> None:
    path = write(tmp_path, "values.py", SOURCE)
    async with HeadlessEditor(tmp_path, options(tmp_path, code_lenses=True), CLIENTS[name]()) as editor:
        file = editor.open(path)
        await edit(editor, file, lines(1, 20), "Second")
        assert await editor.lenses(file) == []
        assert editor.n_refreshed == 0


@pytest.mark.parametrize("name", ["keep", "undo", "retry"])
async def test_wrong_arguments_are_named(name: str, tmp_path: Path) -> None:
    async with HeadlessEditor(tmp_path, options(tmp_path)) as editor:
        for arguments in (["x"], [{"hunk": "1"}], [{"hunks": 1}], [{}, {}], [{"job": 1.5}]):
            with pytest.raises(JsonRpcException, match=f"singlepass.{name} takes"):
                await editor.command(f"singlepass.{name}", *arguments)
