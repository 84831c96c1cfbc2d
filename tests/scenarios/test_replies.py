"""Over stdio: replies of models that nothing constrains, and what the user is told and can open."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from lsprotocol import types as lsp
from scenarios.clients import FullEditor, edit, full_capabilities, lines, write
from singlepass.core.lines import LineIndex

pytestmark = pytest.mark.anyio

SOURCE = """\
def total(rows):
    result = sum(row.amount for row in rows)  # in cents
    return result


def average(rows):
    return total(rows) / len(rows)
"""


def options(folder: Path, reply: str) -> dict[str, Any]:
    model = folder / "recording.json"
    model.write_text(json.dumps({"replies": [{"text": [reply]}]}), encoding="utf-8")
    return {"target": {"backend": "scripted", "model": str(model)}, "prewarm": False}


class Reader(FullEditor):
    """An editor that opens documents it is asked to show, and notes what was in them."""

    def __init__(self, folder: Path, reply: str, *, opens: bool = True) -> None:
        announced = full_capabilities()
        if opens:
            assert announced.window is not None
            announced.window.show_document = lsp.ShowDocumentClientCapabilities(support=True)
        super().__init__(folder, options(folder, reply), announced)
        self.shown: list[str] = []

        @self.client.feature(lsp.WINDOW_SHOW_DOCUMENT)
        def show(params: lsp.ShowDocumentParams) -> lsp.ShowDocumentResult:  # pyright: ignore[reportUnusedFunction]
            self.shown.append(Path(params.uri.removeprefix("file://")).read_text(encoding="utf-8"))
            return lsp.ShowDocumentResult(success=True)


def codes(diagnostics: Sequence[lsp.Diagnostic]) -> list[Any]:
    return sorted(str(one.code) for one in diagnostics)


@pytest.mark.parametrize(
    "reply",
    [
        "I cannot do that:\nthe file has no tests.",
        "--- a/shop.py\n+++ b/shop.py\n@@ -1 +1 @@\n-def total(rows):\n+def total(items):\n",
        "def total(items):\n    return 0\n",
        "```python\ndef total(items):\n    return 0\n```\n",
        "<think>\nIt is fine.\n</think>\n",
        '{"tool": "edit", "path": "shop.py"}\n',
    ],
)
async def test_a_reply_that_led_to_nothing_is_told_and_can_be_opened(reply: str, tmp_path: Path) -> None:
    path = write(tmp_path, "shop.py", SOURCE)
    async with Reader(tmp_path, reply) as editor:
        file = editor.open(path)
        told = await edit(editor, file, lines(6, 6))
        assert (told["outcome"], told["n_applied"], file.text) == ("done", 0, SOURCE)
        assert [one["reason"] for one in told["rejected"]] == ["unreadable"]
        assert "nothing was changed" in told["message"]
        (warning,) = [text for level, text in editor.messages if level == "warning"]
        assert "Show what the model wrote" in warning
        first = next(line for line in reply.splitlines() if line.strip() and not line.startswith("```"))
        if not reply.startswith("```"):
            assert first.strip()[:40].replace("<", "< ") in warning

        (problem,) = [one for one in editor.diagnostics[file.uri] if one.code == "unreadable"]
        offers = await editor.actions(file, problem.range, [problem])
        (offer,) = [one for one in offers if one.title == "Show what the model wrote"]
        assert isinstance(offer, lsp.CodeAction)
        assert offer.command is not None
        answer = await editor.command(offer.command.command, *(offer.command.arguments or ()))
        assert (answer["text"], answer["shown"]) == (reply, True)
        assert editor.shown == [reply]


async def test_an_editor_that_opens_nothing_is_given_the_text(tmp_path: Path) -> None:
    path = write(tmp_path, "shop.py", SOURCE)
    async with Reader(tmp_path, "No.", opens=False) as editor:
        file = editor.open(path)
        told = await edit(editor, file, lines(1, 3))
        (problem,) = [one for one in editor.diagnostics[file.uri] if one.code == "unreadable"]
        titles = [one.title for one in await editor.actions(file, problem.range, [problem])]
        assert "Show what the model wrote" not in titles
        assert told["rejected"][0]["new"] == ["No."]
        assert await editor.command("singlepass.reply") == {"job": 1, "text": "No.", "shown": False}


async def test_a_rewritten_file_is_reviewed_as_the_lines_that_differ(tmp_path: Path) -> None:
    wanted = SOURCE.replace("sum(", "fsum(").replace("/ len(rows)", "/ max(1, len(rows))")
    path = write(tmp_path, "shop.py", SOURCE)
    async with Reader(tmp_path, f"Here is the file:\n\n```python\n{wanted}```\n") as editor:
        file = editor.open(path)
        told = await edit(editor, file, lines(1, 7))
        assert (told["n_applied"], file.text) == (1, wanted)
        hunks = editor.hunks[file.uri]["hunks"]
        assert [(hunk["how"], hunk["new"].count("\n")) for hunk in hunks] == [("rewrite", 1), ("rewrite", 1)]
        assert await editor.command("singlepass.undo", {}) == {"undone": 2, "changed": 0}
        assert file.text == SOURCE


async def test_what_was_placed_by_similarity_is_told_in_three_places(tmp_path: Path) -> None:
    block = (
        "<<<<<<< SEARCH\ndef total(rows):\n    result = sum(row.amount for row in rows)\n=======\n"
        "def total(rows):\n    result = fsum(row.amount for row in rows)\n>>>>>>> REPLACE\n"
    )
    path = write(tmp_path, "shop.py", SOURCE)
    async with Reader(tmp_path, block) as editor:
        file = editor.open(path)
        told = await edit(editor, file, lines(1, 3))
        assert file.text == SOURCE.replace("sum(", "fsum(")
        assert told["n_similar"] == 1
        assert "placed by similarity" in told["message"]
        (hunk,) = editor.hunks[file.uri]["hunks"]
        assert hunk["how"] == "fuzzy"
        assert codes(editor.diagnostics[file.uri]) == ["similar", "timings"]
        (problem,) = [one for one in editor.diagnostics[file.uri] if one.code == "similar"]
        place = LineIndex(file.text).offset(problem.range.start.line, 0)
        assert file.text[place:].startswith("    result = fsum")


async def test_what_was_not_read_beside_a_block_is_told_and_can_be_opened(tmp_path: Path) -> None:
    block = "shop.py\n<<<<<<< SEARCH\ndef average(rows):\n=======\ndef mean(rows):\n>>>>>>> REPLACE\n"
    reply = f"{block}\nAnd the test:\n```python\nassert mean([1]) == 1\n```\n"
    path = write(tmp_path, "shop.py", SOURCE)
    async with Reader(tmp_path, reply) as editor:
        file = editor.open(path)
        told = await edit(editor, file, lines(1, 7))
        assert (told["n_applied"], file.text) == (1, SOURCE.replace("average", "mean"))
        assert "1 hunk applied, 1 part of the reply not read" in told["message"]
        assert [one["reason"] for one in told["rejected"]] == ["unread"]
        (warning,) = [text for level, text in editor.messages if level == "warning"]
        assert "assert mean([1]) == 1" in warning
        assert "Show what the model wrote" in warning
        (problem,) = [one for one in editor.diagnostics[file.uri] if one.code == "unread"]
        titles = [one.title for one in await editor.actions(file, problem.range, [problem])]
        assert "Show what the model wrote" in titles


async def test_a_block_that_is_repeated_is_applied_once_and_told_once(tmp_path: Path) -> None:
    block = "shop.py\n<<<<<<< SEARCH\ndef average(rows):\n=======\ndef mean(rows):\n>>>>>>> REPLACE\n"
    path = write(tmp_path, "shop.py", SOURCE)
    async with Reader(tmp_path, block * 40) as editor:
        file = editor.open(path)
        told = await edit(editor, file, lines(1, 7))
        assert (told["n_applied"], told["rejected"]) == (1, [])
        assert "the same block again, 39 times" in told["message"]
        assert codes(editor.diagnostics[file.uri]) == ["timings"]
        assert [text for level, text in editor.messages if level == "warning"] == []
