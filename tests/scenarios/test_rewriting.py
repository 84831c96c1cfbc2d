"""Over stdio: a region that a model rewrites, with a recorded reply and with a real engine."""

import json
from pathlib import Path
from typing import Any

import pytest
from scenarios.clients import FullEditor, edit, full_capabilities, write

pytestmark = pytest.mark.anyio

SOURCE = """\
def total(rows):
    result = sum(row.amount for row in rows)
    return result


def average(rows):
    return total(rows) / len(rows)
"""
SAFE = SOURCE.replace("/ len(rows)", "/ max(1, len(rows))")
CURSOR = {"start": {"line": 6, "character": 4}, "end": {"line": 6, "character": 4}}
AVERAGE = "def average(rows):\n    return total(rows) / max(1, len(rows))\n"


def editor_with(folder: Path, *reply: str, **options: Any) -> FullEditor:
    model = folder / "recording.json"
    model.write_text(json.dumps({"replies": [{"text": reply}]}), encoding="utf-8")
    target = {"backend": "scripted", "model": str(model), "form": "rewrite"}
    return FullEditor(folder, {"target": target, "prewarm": False, **options}, full_capabilities())


@pytest.mark.parametrize(
    "reply",
    [
        f"```py\n{AVERAGE}```",
        f"Here it is:\n\n```python\n{AVERAGE}```\nIt divides by one at least.\n",
        f"```py\n{SAFE}```",
    ],
)
async def test_a_cursor_is_enough_for_a_definition_to_be_rewritten(reply: str, tmp_path: Path) -> None:
    path = write(tmp_path, "shop.py", SOURCE)
    async with editor_with(tmp_path, reply) as editor:
        file = editor.open(path)
        told = await edit(editor, file, CURSOR)
        assert (told["n_applied"], told["rejected"], file.text) == (1, [], SAFE)
        (hunk,) = editor.hunks[file.uri]["hunks"]
        assert hunk["new"] == "    return total(rows) / max(1, len(rows))\n"
        assert await editor.command("singlepass.undo", {}) == {"undone": 1, "changed": 0}
        assert file.text == SOURCE


async def test_a_server_that_ignores_the_form_is_read_all_the_same(tmp_path: Path) -> None:
    block = (
        "shop.py\n<<<<<<< SEARCH\n    return total(rows) / len(rows)\n=======\n"
        "    return total(rows) / max(1, len(rows))\n>>>>>>> REPLACE\n"
    )
    path = write(tmp_path, "shop.py", SOURCE)
    async with editor_with(tmp_path, block) as editor:
        file = editor.open(path)
        told = await edit(editor, file, CURSOR)
        assert (told["n_applied"], file.text) == (1, SAFE)


async def test_a_real_model_changes_no_line_outside_of_the_region(tmp_path: Path, random_gguf: Path) -> None:
    """Random weights under the grammar: the text is nonsense, its place is not."""
    path = write(tmp_path, "shop.py", SOURCE)
    target = {"backend": "llama_cpp", "model": str(random_gguf), "form": "rewrite"}
    options = {"target": target, "prewarm": False, "max_tokens": 400}
    async with FullEditor(tmp_path, options, full_capabilities()) as editor:
        file = editor.open(path)
        for n in range(4):
            told = await edit(editor, file, CURSOR, instruction=f"Number {n}.")
            head = SOURCE[: SOURCE.index("def average")]
            assert file.text.startswith(head)
            assert told["n_applied"] + len(told["rejected"]) == 1
            await editor.command("singlepass.undo", {})
            assert file.text == SOURCE


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["again and again\n"] * 5_000, "the model began to repeat itself"),
        (
            [f"and {chr(97 + n % 23)}{chr(97 + n % 25)}\n" for n in range(5_000)],
            "was several times as long as the lines that it is for",
        ),
    ],
)
async def test_a_reply_without_end_is_cut_off_soon_and_told(
    tmp_path: Path, lines: list[str], message: str
) -> None:
    path = write(tmp_path, "shop.py", SOURCE)
    async with editor_with(tmp_path, "```py\n", *lines) as editor:
        file = editor.open(path)
        told = await edit(editor, file, CURSOR)
        assert (told["n_applied"], file.text) == (0, SOURCE)
        assert told["timings"]["n_decoded"] < 512
        assert message in told["message"]
        assert [one["reason"] for one in told["rejected"]] == ["cut_off"]
