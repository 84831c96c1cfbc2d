"""The demo's three edits in a real Neovim where nothing is configured: shipped weights, real llama.cpp."""

import asyncio
import os
import shutil
import signal
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import pytest
from neovim import Neovim, find_program, running
from singlepass.cli.demo import EDITS, Edit
from singlepass_backends.client import engine_status, list_engines

WORDS, REPORT = "tally/words.py", "report.py"
EDITED = [
    {WORDS: [("words = text", "found = text"), ("Counter(words)", "Counter(found)")]},
    {WORDS: [("def most_common(", "def top_words(")], REPORT: [("most_common", "top_words")]},
    {WORDS: [("(text):\n", '(text):\n    """Return how often each word occurs."""\n')]},
]
"""What each edit replaces in which file."""


async def kill_engines() -> None:
    statuses = [await engine_status(paths) for paths in list_engines()]
    for pid in {status.pid for status in statuses if status is not None}:
        os.kill(pid, signal.SIGKILL)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    with resources.as_file(resources.files("singlepass") / "samples" / "tally") as sample:
        shutil.copytree(sample, folder)
    (folder / ".git").mkdir(exist_ok=True)
    return folder


@pytest.fixture
def editor(project: Path) -> Iterator[Neovim]:
    with running(find_program("newest"), project, {}) as one:
        yield one


def after(project: Path, changes: dict[str, list[tuple[str, str]]]) -> dict[str, str]:
    texts = {name: (project / name).read_text(encoding="utf-8") for name in changes}
    for name, replacements in changes.items():
        for old, new in replacements:
            assert old in texts[name]
            texts[name] = texts[name].replace(old, new)
    return texts


def ask(editor: Neovim, project: Path, edit: Edit) -> dict[str, int]:
    """Give the instruction on the lines as a user does; the buffers by name."""
    buffers = {name: editor.open(project / name) for name in (*edit.also, edit.file)}
    first, last = edit.lines.split(":")
    editor.command(f"{first},{last}Singlepass {edit.instruction}")
    return buffers


@pytest.mark.parametrize("n", range(len(EDITS)))
def test_an_edit_comes_out_right_and_u_takes_it_back(editor: Neovim, project: Path, n: int) -> None:
    buffers = ask(editor, project, EDITS[n])
    timings = editor.ended()
    assert timings["message"].endswith("; demo model"), timings
    expected = after(project, EDITED[n])
    assert {name: editor.text(buffers[name]) for name in expected} == expected
    for name in expected:
        editor.command(f"buffer {buffers[name]}")
        editor.keys("u")
        editor.until_text((project / name).read_text(encoding="utf-8"), buffers[name])


def test_an_action_from_the_menu(editor: Neovim, project: Path) -> None:
    editor.open(project / WORDS)
    editor.lua(
        "vim.lsp.buf.code_action({ apply = true, range = { start = { 6, 0 }, ['end'] = { 8, 0 } },"
        " filter = function(action) return vim.startswith(action.title, 'Add docstrings') end })"
    )
    timings = editor.ended()
    assert (timings["title"], timings["outcome"], timings["n_applied"]) == ("Add docstrings", "done", 1)
    assert editor.text().count('"""') == 6
    editor.keys("u")
    editor.until_text((project / WORDS).read_text(encoding="utf-8"))


def test_one_hunk_is_kept_and_another_undone(editor: Neovim, project: Path) -> None:
    ask(editor, project, EDITS[1])
    n = editor.ended()["n_applied"]
    assert n >= 2
    editor.until_hunks(lambda hunks: len(hunks) == n)
    editor.keys("gg]h\\pk")
    editor.until_hunks(lambda hunks: len(hunks) == n - 1)
    editor.command("Singlepass undo_all")
    editor.until_hunks(lambda hunks: not hunks)
    kept = {WORDS: EDITED[1][WORDS]}
    assert editor.text() == after(project, kept)[WORDS]


def test_what_is_typed_meanwhile_stays(editor: Neovim, project: Path) -> None:
    ask(editor, project, EDITS[0])
    editor.keys("ggOtyped<Esc>")
    assert editor.ended()["outcome"] == "done"
    editor.until_text("typed\n" + after(project, EDITED[0])[WORDS])


def test_a_killed_engine_is_replaced(editor: Neovim, project: Path) -> None:
    ask(editor, project, EDITS[2])
    editor.ended()
    editor.keys("u")
    asyncio.run(kill_engines())
    ask(editor, project, EDITS[2])
    editor.ended(2)
    assert editor.text() == after(project, EDITED[2])[WORDS]
