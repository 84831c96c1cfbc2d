"""The plugin in a real Neovim: real server, real engine, random weights or a recording where the text must be
known."""

import json
import re
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from neovim import LEGS, PLUGIN, Neovim, find_program, running, running_with

SOURCE = "".join(f"value_{n} = {n}\n" for n in range(12))


def hunk(old: Sequence[str], new: Sequence[str], path: str = "values.py") -> str:
    return "\n".join([path, "<<<<<<< SEARCH", *old, "=======", *new, ">>>>>>> REPLACE", ""])


def line(n: int, new: str, path: str = "values.py") -> str:
    return hunk([f"value_{n} = {n}"], [f"value_{n} = {new}"], path)


def pieces(text: str, size: int = 8) -> list[str]:
    return [text[n : n + size] for n in range(0, len(text), size)]


PAUSE = [" "] * 50 + ["\n"]
DIES = {"code": "internal", "message": "killed", "exits": True}
THREE = line(1, "'one'") + hunk(["value_4 = 4"], []) + line(9, "'nine'")

LONG = ["value_4 = 4", *(f"# {n}" for n in range(20))]

REPLIES: dict[str, dict[str, Any]] = {
    "A long hunk.": {
        "text": hunk(["value_4 = 4", "value_5 = 5"], LONG).splitlines(keepends=True),
        "delay_ms": 60,
    },
    "Spell it out.": {"text": pieces(line(3, "'three'"))},
    "Three files.": {
        "text": pieces(line(1, "'one'") + line(2, "'two'", "other.py") + line(2, "'two'", "closed.py"))
    },
    "Three hunks.": {"text": pieces(THREE), "delay_ms": 3},
    "One more.": {"text": [line(2, "'two'")]},
    "Two with a pause.": {"text": [line(1, "'one'"), *PAUSE, line(9, "'nine'")], "delay_ms": 15},
    "After a pause.": {"text": [*PAUSE, line(9, "'nine'")], "delay_ms": 15},
    "At both ends.": {"text": [hunk(["value_0 = 0"], []) + hunk(["value_11 = 11"], [])]},
    "Read for long.": {"n_prompt": 6400, "chunk_ms": 20, "text": [line(1, "'one'")]},
    "Write for long.": {"text": [line(1, "'one'"), *(["thinking\n"] * 2000)], "delay_ms": 10},
    "Die.": {"text": [line(1, "'one'"), "and"], "delay_ms": 30, "fail": DIES},
    "No file type.": {"text": [line(1, "'one'", "plain")]},
    "": {"text": [" "] * 30, "n_prompt": 1000, "chunk_tokens": 100, "chunk_ms": 20, "delay_ms": 20},
}
"""What the recorded model answers to which instruction. One engine serves all tests with it."""

Start = Callable[..., Neovim]


def record(path: Path, replies: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Write a recording; a target that replays it."""
    listed = [{"when": when, **reply} for when, reply in replies.items()]
    path.write_text(json.dumps({"name": path.stem, "replies": listed}), encoding="utf-8")
    return {"backend": "scripted", "model": str(path)}


@pytest.fixture(scope="module")
def scripted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Settings with the recorded model."""
    return {
        "target": record(tmp_path_factory.mktemp("recording") / "recording.json", REPLIES),
        "prewarm": False,
    }


@pytest.fixture(params=LEGS)
def start(request: pytest.FixtureRequest, source: Path) -> Iterator[Start]:
    """Starts editors with given settings, of each leg."""
    program = find_program(request.param)
    with ExitStack() as stack:
        yield lambda settings, **more: stack.enter_context(running(program, source.parent, settings, **more))


newest_only = pytest.mark.parametrize("start", ["newest"], indirect=True)
"""For what no version of Neovim can make a difference to."""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A file in a project of its own."""
    path = tmp_path / "project" / "values.py"
    (path.parent / ".git").mkdir(parents=True)
    path.write_text(SOURCE, encoding="utf-8")
    return path


def with_lines(**lines: str) -> str:
    """The source with other values, such as `_1="'one'"`."""
    text = SOURCE
    for n, value in lines.items():
        text = text.replace(f"value{n} = {n[1:]}\n", f"value{n} = {value}\n")
    return text


THREE_APPLIED = with_lines(_1="'one'", _9="'nine'").replace("value_4 = 4\n", "")


def check_drawn(editor: Neovim, buffer: int = 0) -> None:
    """Each hunk in review stands where its text is, coloured, with what was removed above it."""
    lines = editor.text(buffer).splitlines()
    drawn = editor.lua(
        "local ns = require('singlepass.render').namespaces.hunks\n"
        "return vim.api.nvim_buf_get_extmarks(..., ns, 0, -1, { details = true })",
        buffer,
    )
    added: set[int] = set()
    removed: list[str] = []
    for _, row, _, details in drawn:
        if details.get("line_hl_group") == "SinglepassAdded":
            added.add(row)
        removed += ["".join(text for text, _ in chunks).rstrip() for chunks in details.get("virt_lines", ())]
    hunks = editor.hunks(buffer)
    for one in hunks:
        assert lines[one["first"] - 1 : one["last"]] == one["new"]
    assert added == {row for one in hunks for row in range(one["first"] - 1, one["last"])}
    assert removed == [text for one in hunks for text in one["old"]]


def test_an_action_from_the_menu_and_u_takes_it_back(start: Start, source: Path, random_gguf: Path) -> None:
    editor = start({"target": {"model": str(random_gguf)}})
    editor.open(source)
    editor.lua(
        "vim.lsp.buf.code_action({ apply = true, range = { start = { 2, 0 }, ['end'] = { 5, 0 } },"
        " filter = function(action) return vim.startswith(action.title, 'Simplify') end })"
    )
    timings = editor.ended()
    assert timings["outcome"] == "done", timings
    assert timings["title"] == "Simplify"
    assert timings["n_applied"] > 0
    changed = editor.text()
    assert changed != SOURCE
    editor.until_hunks(lambda hunks: hunks)
    check_drawn(editor)
    editor.keys("u")
    editor.until_text(SOURCE)
    editor.until_hunks(lambda hunks: not hunks)
    editor.keys("<C-r>")
    editor.until_text(changed)


def test_an_instruction_on_a_range_with_history(start: Start, source: Path, scripted: dict[str, Any]) -> None:
    editor = start(scripted)
    editor.open(source)
    editor.command("3,5Singlepass")
    editor.until("vim.bo.filetype == 'singlepass-prompt'")
    editor.keys("Spell it out.<CR>")
    timings = editor.ended()
    assert (timings["outcome"], timings["title"]) == ("done", "Spell it out.")
    assert editor.text() == with_lines(_3="'three'")

    editor.keys("u5G")
    editor.until_text(SOURCE)
    editor.keys("Vk\\pp")  # the default map, from visual mode
    editor.until("vim.bo.filetype == 'singlepass-prompt'")
    editor.keys("<Up> Please.<CR>")
    assert editor.ended(2)["title"] == "Spell it out. Please."
    stored = json.loads((editor.home / ".state/nvim/singlepass/history.json").read_text(encoding="utf-8"))
    assert stored == ["Spell it out.", "Spell it out. Please."]

    editor.command("Singlepass")
    editor.until("vim.bo.filetype == 'singlepass-prompt'")
    editor.keys("never<C-c>")
    editor.until("vim.bo.filetype == 'python'")
    assert editor.lua("return vim.tbl_count(SEEN.jobs)") == 2
    assert (
        editor.lua(
            "local ns = require('singlepass.render').namespaces.working "
            "return #vim.api.nvim_buf_get_extmarks(0, ns, 0, -1, {})"
        )
        == 0
    )


def test_several_files(start: Start, source: Path, scripted: dict[str, Any]) -> None:
    other, closed = source.with_name("other.py"), source.with_name("closed.py")
    for path in (other, closed):
        path.write_text(SOURCE, encoding="utf-8")
    editor = start(scripted)
    second = editor.open(other)
    first = editor.open(source)
    editor.lua("require('singlepass').edit({ instruction = 'Three files.', files = { ... } })", str(closed))
    assert editor.ended()["n_applied"] == 3
    third = editor.lua("return vim.fn.bufnr(...)", str(closed))
    changed = {
        first: with_lines(_1="'one'"),
        second: with_lines(_2="'two'"),
        third: with_lines(_2="'two'"),
    }
    assert {buffer: editor.text(buffer) for buffer in changed} == changed
    assert closed.read_text(encoding="utf-8") == SOURCE  # nothing is written but by the user

    editor.until_hunks(lambda hunks: len(hunks) == 3)
    seen: set[int] = set()
    for _ in changed:  # from file to file
        editor.keys("]h")
        time.sleep(0.05)
        seen.add(editor.lua("return vim.api.nvim_get_current_buf()"))
    assert seen == set(changed)
    editor.command("Singlepass list")
    assert len(editor.lua("return vim.fn.getqflist()")) == 3
    editor.command("cclose")
    for buffer in changed:
        editor.command(f"buffer {buffer}")
        editor.keys("u")
        editor.until_text(SOURCE, buffer)
    editor.until_hunks(lambda hunks: not hunks)


def test_keep_one_hunk_and_undo_another(start: Start, source: Path, scripted: dict[str, Any]) -> None:
    editor = start(scripted)
    editor.open(source)
    editor.lua("vim.keymap.set('n', ']h', 'mine', { buffer = 0 })")
    editor.command("1,10Singlepass Three hunks.")
    assert editor.ended()["n_applied"] == 3
    editor.until_hunks(lambda hunks: len(hunks) == 3)
    check_drawn(editor)
    assert "3 hunks to review" in editor.lua("return require('singlepass').status()")

    editor.keys("gg]h\\pk")
    editor.until_hunks(lambda hunks: len(hunks) == 2)
    assert editor.text() == THREE_APPLIED
    editor.keys("]h\\pu")
    editor.until_text(with_lines(_1="'one'", _9="'nine'"))
    (last,) = editor.until_hunks(lambda hunks: len(hunks) == 1)
    check_drawn(editor)
    editor.keys("gg[h")
    editor.until(f"vim.fn.line('.') == {last['first']}")
    editor.keys("\\pU")
    editor.until_text(with_lines(_1="'one'"))
    editor.until_hunks(lambda hunks: not hunks)
    assert editor.lua("return vim.fn.maparg(']h', 'n')") == "mine"  # is there again
    assert editor.lua("return vim.fn.maparg('\\\\pk', 'n')") == ""


@newest_only
def test_hunks_at_both_ends_of_a_file(start: Start, source: Path, scripted: dict[str, Any]) -> None:
    editor = start(scripted)
    editor.open(source)
    editor.command("Singlepass At both ends.")
    editor.ended()
    editor.until_hunks(lambda hunks: len(hunks) == 2)
    check_drawn(editor)
    assert (
        editor.lua("return vim.fn.winsaveview().topfill") == 1
    )  # what was removed above the first line shows
    editor.keys("G\\pu")
    editor.until_text(SOURCE.removeprefix("value_0 = 0\n"))
    editor.keys("gg\\pu")
    editor.until_text(SOURCE)


def test_one_undo_block_for_all_hunks_of_a_job(start: Start, source: Path, scripted: dict[str, Any]) -> None:
    editor = start(scripted)
    editor.open(source)
    editor.keys("ggA  # mine<Esc>")
    editor.command("1,10Singlepass Three hunks.")
    assert editor.ended()["n_applied"] == 3
    changed = editor.text()
    editor.keys("u")
    editor.until_text(SOURCE.replace("value_0 = 0", "value_0 = 0  # mine"))
    editor.keys("<C-r>")
    editor.until_text(changed)
    # Two jobs, one after the other, are two blocks.
    editor.command("1,10Singlepass One more.")
    assert editor.ended(2)["n_applied"] == 1
    editor.keys("u")
    editor.until_text(changed)


def test_typing_while_it_streams(start: Start, source: Path, scripted: dict[str, Any]) -> None:
    """Keystrokes between hunks stay, in insert mode as well, and are no part of the job's undo block."""
    editor = start(scripted)
    editor.open(source)
    editor.command("1,12Singlepass Two with a pause.")
    editor.keys("5GAtyped")
    editor.until("vim.fn.search(\"value_1 = 'one'\", 'nw') > 0")
    editor.keys(" between<CR>new<Esc>")
    assert editor.ended()["n_applied"] == 2
    typed = SOURCE.replace("value_4 = 4\n", "value_4 = 4typed between\nnew\n")
    both = typed.replace("value_1 = 1\n", "value_1 = 'one'\n").replace("value_9 = 9", "value_9 = 'nine'")
    editor.until_text(both)
    editor.until_hunks(lambda hunks: len(hunks) == 2)
    check_drawn(editor)
    editor.keys("u")
    editor.until_text(both.replace("value_9 = 'nine'", "value_9 = 9"))  # nothing typed goes with it
    editor.keys("20u")
    editor.until_text(SOURCE)
    editor.keys("20<C-r>")
    editor.until_text(both)


def test_a_hunk_that_the_user_changes_leaves_review(
    start: Start, source: Path, scripted: dict[str, Any]
) -> None:
    editor = start(scripted)
    editor.open(source)
    editor.command("1,12Singlepass Three hunks.")
    editor.ended()
    first, *rest = editor.until_hunks(lambda hunks: len(hunks) == 3)
    editor.keys(f"{first['first']}GA # mine<Esc>")
    editor.until_hunks(lambda hunks: [one["id"] for one in hunks] == [one["id"] for one in rest])
    editor.command("Singlepass undo_all")
    editor.until_text(SOURCE.replace("value_1 = 1\n", "value_1 = 'one' # mine\n"))


def previewed(editor: Neovim) -> tuple[int, list[str]]:
    """Below which line a hunk is shown that is being written, from 1, and how."""
    marks = editor.lua(
        "local ns = require('singlepass.render').namespaces.preview\n"
        "return vim.api.nvim_buf_get_extmarks(0, ns, 0, -1, { details = true })"
    )
    lines = [
        "".join(text for text, _ in chunks).rstrip() for mark in marks for chunks in mark[3]["virt_lines"]
    ]
    return (marks[0][1] + 1 if marks else 0), lines


def test_a_hunk_is_shown_while_it_is_written(start: Start, source: Path, scripted: dict[str, Any]) -> None:
    editor = start(scripted)
    editor.open(source)
    editor.command("1,12Singlepass A long hunk.")
    editor.keys("ggOtyped<Esc>")
    seen: list[list[str]] = []
    while editor.lua("return #SEEN.timings") == 0:
        line, lines = previewed(editor)
        if lines and lines not in seen:
            assert editor.text() == f"typed\n{SOURCE}"  # it is only shown
            assert line == 6  # after the line that it repeats
            seen.append(lines)
    assert len(seen) > 5
    assert ["# 0", "# 1", "# 2"] in [one[:3] for one in seen]
    assert max(len(one) for one in seen) == 16
    assert re.fullmatch(r"⋮ [1-5] more above", seen[-1][0])
    assert editor.ended()["n_applied"] == 1
    assert previewed(editor) == (0, [])
    changed = SOURCE.replace("value_4 = 4\nvalue_5 = 5\n", "".join(f"{line}\n" for line in LONG))
    editor.until_text(f"typed\n{changed}")


@newest_only
def test_what_is_shown_goes_with_a_cancel(start: Start, source: Path, scripted: dict[str, Any]) -> None:
    editor = start(scripted)
    editor.open(source)
    editor.command("1,12Singlepass A long hunk.")
    deadline = time.monotonic() + 30
    while previewed(editor) == (0, []):
        assert time.monotonic() < deadline
    editor.keys("\\pc")
    assert editor.ended()["outcome"] == "cancelled"
    assert previewed(editor) == (0, [])
    assert editor.text() == SOURCE


@newest_only
def test_nothing_is_shown_before_it_is_whole_where_nobody_wants_that(
    start: Start, source: Path, scripted: dict[str, Any]
) -> None:
    editor = start(scripted, options="preview = false")
    editor.open(source)
    editor.command("1,12Singlepass A long hunk.")
    while editor.lua("return #SEEN.timings") == 0:
        assert previewed(editor) == (0, [])
    assert editor.ended()["n_applied"] == 1


@newest_only
def test_lines_that_the_user_changed_are_not_overwritten(
    start: Start, source: Path, scripted: dict[str, Any]
) -> None:
    editor = start(scripted)
    editor.open(source)
    editor.command("1,12Singlepass After a pause.")
    editor.until("vim.list_contains(SEEN.states, 'decode')")
    editor.keys("10GAmine<Esc>")
    timings = editor.ended()
    assert (timings["n_applied"], timings["n_rejected"]) == (0, 1)
    assert editor.text() == SOURCE.replace("value_9 = 9", "value_9 = 9mine")


@newest_only
def test_try_again_with_other_words(start: Start, source: Path, scripted: dict[str, Any]) -> None:
    editor = start(scripted)
    editor.open(source)
    editor.command("3,5Singlepass Spell it out.")
    editor.ended()
    editor.keys("\\pr")
    editor.until("vim.bo.filetype == 'singlepass-prompt'")
    assert editor.text(editor.lua("return vim.fn.bufnr(...)", str(source))) == SOURCE
    assert editor.text() == "Spell it out.\n"
    editor.keys("<C-u>One more.<CR>")
    assert editor.ended(2)["title"] == "One more."
    assert editor.text() == with_lines(_2="'two'")


@newest_only
@pytest.mark.parametrize(
    ("instruction", "state"), [("Read for long.", "prefill"), ("Write for long.", "decode")]
)
def test_cancel(start: Start, source: Path, scripted: dict[str, Any], instruction: str, state: str) -> None:
    editor = start(scripted)
    editor.open(source)
    editor.command(f"1,12Singlepass {instruction}")
    editor.until(f"vim.startswith(require('singlepass').status(), '{state} ')")
    marks = editor.lua(
        "local ns = require('singlepass.render').namespaces.working\n"
        "return vim.api.nvim_buf_get_extmarks(0, ns, 0, -1, { details = true })"
    )
    assert [f"singlepass: {state}" in mark[3]["virt_text"][0][0] for mark in marks] == [True]
    if state == "decode":
        editor.until("vim.fn.search(\"value_1 = 'one'\", 'nw') > 0")
    editor.keys("\\pc")
    timings = editor.ended()
    assert timings["outcome"] == "cancelled"
    assert timings["n_applied"] == (state == "decode")
    assert editor.lua("return require('singlepass').status()").startswith("cancelled")
    if state == "decode":
        editor.keys("u")
    editor.until_text(SOURCE)


@newest_only
def test_the_engine_dies(start: Start, source: Path, tmp_path: Path) -> None:
    target = record(tmp_path / "dies.json", {name: REPLIES[name] for name in ("Die.", "One more.")})
    editor = start({"target": target, "prewarm": False})
    editor.open(source)
    editor.command("1,12Singlepass Die.")
    assert editor.ended()["outcome"] == "failed"
    assert editor.lua("return require('singlepass').status()").startswith("failed")
    editor.until("vim.fn.execute('messages'):find('engine') ~= nil")
    editor.command("1,12Singlepass One more.")
    assert editor.ended(2)["outcome"] == "done"
    assert editor.text() == with_lines(_1="'one'", _2="'two'")


@newest_only
def test_the_statusline_through_all_states(start: Start, source: Path, scripted: dict[str, Any]) -> None:
    editor = start({**scripted, "prewarm": True})
    assert editor.lua("return require('singlepass').status()") == ""
    editor.open(source)
    editor.until("require('singlepass').status() == 'warm'")
    editor.command("1,2Singlepass Show every state.")
    editor.ended()
    editor.keys("Otyped<Esc>")  # something new to prewarm
    editor.until("vim.startswith(require('singlepass').status(), 'warm · ')")
    texts = editor.lua("return SEEN.texts")
    for pattern in (
        r"warming \d+%",
        "warm",
        "starting",
        r"prefill \d+% · \d+ s left",
        r"decode \d+ tok/s",
        r"done · \d+\.\d s \+ \d+ tok/s",
        r"warm · \d+\.\d s \+ \d+ tok/s",
    ):
        assert any(re.fullmatch(pattern, text) for text in texts), (pattern, texts)


STATUSES: list[tuple[dict[str, Any], str]] = [
    ({"state": "prefill", "percent": 40, "eta_ms": 2310.5}, "prefill 40% · 3 s left"),
    ({"state": "prefill", "percent": 4, "eta_ms": 124_700}, "prefill 4% · 2 min 5 s left"),
    ({"state": "prefill", "percent": 100, "eta_ms": 0}, "prefill 100%"),
    ({"state": "prefill", "percent": 0, "eta_ms": None}, "prefill 0%"),
    ({"state": "decode", "percent": None, "decode_rate": 61.4}, "decode 61 tok/s"),
    ({"state": "decode", "percent": None, "decode_rate": None}, "decode"),
    ({"state": "loading", "percent": 42}, "loading 42%"),
    ({"state": "demo_model", "percent": None}, "demo model"),
]


@pytest.mark.parametrize("leg", LEGS)
def test_a_status_in_words(leg: str, tmp_path: Path) -> None:
    """Of the notification as Neovim decodes it, where `null` is `vim.NIL`."""
    script = tmp_path / "words.lua"
    script.write_text(
        "for _, params in ipairs(vim.json.decode(arg[1])) do\n"
        "  local status = require('singlepass.status').new()\n"
        "  status:feed(params)\n"
        "  io.write(status.text, '\\n')\n"
        "end\n",
        encoding="utf-8",
    )
    told = json.dumps([{"message": "", **params} for params, _ in STATUSES])
    command = [find_program(leg), "--clean", "--cmd", f"set rtp^={PLUGIN}", "-l", str(script), told]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert (done.stdout + done.stderr).splitlines() == [text for _, text in STATUSES]


@newest_only
def test_diagnostics_are_shown(start: Start, source: Path, scripted: dict[str, Any]) -> None:
    editor = start(scripted)
    editor.open(source)
    editor.command("3,5Singlepass Spell it out.")
    timings = editor.ended()
    (told,) = editor.until("#vim.diagnostic.get(0) > 0 and vim.diagnostic.get(0)")
    assert (told["source"], told["lnum"], told["severity"]) == ("singlepass", 3, 3)
    assert told["message"] == timings["message"]
    editor.command("Singlepass timings")
    assert editor.text() == f"Spell it out.: {timings['message']}\n"


def test_settings_change_while_it_runs(
    start: Start, source: Path, scripted: dict[str, Any], tmp_path: Path
) -> None:
    editor = start(scripted)
    editor.open(source)
    target = record(tmp_path / "other.json", {"": {"text": [line(1, "'other'")]}})
    mine = {"title": "Mine", "instruction": "Do it."}
    editor.lua("require('singlepass').configure(...)", {"target": target, "actions": [mine]})
    editor.until("offers('Mine')")
    editor.lua(
        "vim.lsp.buf.code_action({ apply = true, filter = function(action)"
        " return vim.startswith(action.title, 'Mine') end })"
    )
    assert editor.ended()["title"] == "Mine"
    assert editor.text() == with_lines(_1="'other'")


@newest_only
def test_the_target_is_selected(start: Start, source: Path, scripted: dict[str, Any], tmp_path: Path) -> None:
    second = record(tmp_path / "second.json", {"": {"text": [line(1, "'second'")]}})
    editor = start({**scripted, "targets": {"second": second}})
    editor.open(source)
    editor.lua("vim.ui.select = function(items, options, choose) ASKED = items; choose('second') end")
    editor.command("Singlepass target")
    editor.until("vim.fn.execute('messages'):find('target: second') ~= nil")
    assert editor.lua("return ASKED") == ["auto", "default", "second"]
    editor.command("1,2Singlepass Spell it out.")
    assert editor.ended()["target"]["name"] == "second"
    assert editor.text() == with_lines(_1="'second'")
    editor.command("Singlepass target auto")
    editor.until("vim.fn.execute('messages'):find('chosen for each request') ~= nil")
    editor.command("Singlepass target nowhere")
    editor.until("vim.fn.execute('messages'):find('no target `nowhere`') ~= nil")


def test_health_and_context(start: Start, source: Path, random_gguf: Path) -> None:
    editor = start({"target": {"model": str(random_gguf)}})
    editor.open(source)
    editor.command("Singlepass context")
    editor.until("vim.bo.filetype == 'singlepass-view'")
    assert re.match(r"\d+ of 4096 tokens of context\n", editor.text())
    assert "values.py" in editor.text()
    editor.command("close")
    editor.command("checkhealth singlepass")
    report = editor.text()
    assert "ERROR" not in report, report
    for expected in ("Neovim 0.1", "found by setup()", "random.gguf", str(source.parent)):
        assert expected in report, report


@newest_only
def test_what_is_wrong_in_setup_is_named(start: Start, source: Path, scripted: dict[str, Any]) -> None:
    editor = start(scripted, options="keys = { kep = 'x' }, colour = 1, signs = 'no'")
    messages = editor.messages()
    for expected in (
        "`keys` takes a table of keys",
        "unknown option `colour`",
        "`signs` takes true or false",
    ):
        assert expected in messages
    editor.open(source)  # the rest is used


@newest_only
def test_without_the_server(start: Start, source: Path, scripted: dict[str, Any]) -> None:
    """Nobody is bothered until they ask; then it is said what to do."""
    editor = start(
        scripted, after="require('singlepass.config').current.cmd = false; vim.env.PATH = '/nowhere'"
    )
    editor.command(f"edit {source}")
    assert "singlepass" not in editor.messages()
    editor.command("1,2Singlepass Do it.")
    assert ":Singlepass install" in editor.messages()
    editor.command("checkhealth singlepass")
    assert "the server was not found" in editor.text()


@pytest.mark.parametrize("folder", ["{project}/.venv/bin", "{link}", ".venv/bin", "./.venv/bin"])
def test_no_program_is_taken_from_the_project(
    start: Start, source: Path, scripted: dict[str, Any], folder: str
) -> None:
    """However PATH names it: an active environment, a link to it, a relative folder."""
    programs, link = source.parent / ".venv" / "bin", source.parents[1] / "link"
    ran = source.with_name("ran")
    programs.mkdir(parents=True)
    link.symlink_to(programs)
    for name in ("singlepass", "python3"):
        write_program(programs / name, f"touch '{ran}'")
    path = folder.format(project=source.parent, link=link)
    after = f"require('singlepass.config').current.cmd = false; vim.env.PATH = '{path}'"
    editor = start(scripted, after=after)
    editor.command(f"edit {source}")
    editor.command("1,2Singlepass Do it.")
    assert "the server was not found" in editor.messages()
    assert "there is no python3" in refused(editor, "Singlepass install")
    assert not ran.exists()
    # The same program where the user put it is taken.
    write_program(source.parents[1] / "own" / "singlepass", f"touch '{ran}'")
    editor.lua("vim.env.PATH = ...", f"{path}:{source.parents[1] / 'own'}")
    assert editor.lua("return require('singlepass.server').find()") == [
        str(source.parents[1] / "own" / "singlepass"),
        "serve",
    ]


@newest_only
@pytest.mark.parametrize(("code", "said"), [(1, "does not run"), (3, "is older"), (4, "python3-venv")])
def test_what_an_installation_lacks_is_said_first(
    start: Start, source: Path, scripted: dict[str, Any], code: int, said: str
) -> None:
    programs = source.parents[1] / "programs"
    write_program(programs / "python3", f"exit {code}")
    editor = start(scripted, after=f"vim.env.PATH = '{programs}'")
    assert said in refused(editor, "Singlepass install")
    assert editor.lua("return #vim.api.nvim_list_wins()") == 1  # nothing runs


def refused(editor: Neovim, command: str) -> str:
    """What is said to the user, as an error."""
    ok, said = editor.lua("return { pcall(vim.cmd, ...) }", command)
    assert not ok
    return said


def write_program(path: Path, script: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    path.chmod(0o755)


@pytest.mark.parametrize("leg", ["newest"])
def test_the_first_use(leg: str, source: Path, random_gguf: Path) -> None:
    """From a clone to the first edit, in a home folder where nothing is, by the steps of the README.

    Python and pip are real, and so is what they install. What the server needs of others is there already,
    since tests download nothing.
    """
    readme = (PLUGIN / "README.md").read_text(encoding="utf-8")
    section = readme.split("## From nothing to the first edit")[1].split("\n## ")[0]
    steps = re.findall(r"^\d\. ((?:.|\n(?!\d\.))*)", section, re.MULTILINE)
    assert len(steps) <= 4
    clone, setup, install, ask = steps
    assert "git clone REPOSITORY ~/.local/share/singlepass" in clone
    init = re.sub(r"(?m)^ {7}", "", "".join(re.findall(r"(?m)^ {7}.*\n", setup)))
    assert len(init.splitlines()) <= 12
    assert "`:Singlepass install`" in install
    assert "`:Singlepass`" in ask

    home, programs, others = (source.parents[1] / name for name in ("home", "programs", "others"))
    for folder in (home / ".local" / "share", programs, others):
        folder.mkdir(parents=True)
    (home / ".local" / "share" / "singlepass").symlink_to(PLUGIN.parents[1])
    (programs / "python3").symlink_to(Path(sys.executable).resolve())
    sh = shutil.which("sh")
    assert sh is not None
    (programs / "sh").symlink_to(sh)
    for path in Path(sysconfig.get_path("purelib")).iterdir():
        if not re.match(r"_?singlepass|__editable__|pip\b|setuptools|_distutils|distutils", path.name):
            (others / path.name).symlink_to(path)
    environment = {"PATH": str(programs), "PYTHONPATH": str(others), "PIP_NO_DEPS": "1", "PIP_NO_INDEX": "1"}
    environment["PIP_NO_BUILD_ISOLATION"] = "0"  # which means that there is none
    init = init.replace("/path/to/model.gguf", str(random_gguf))
    # Python would import it, started here.
    source.with_name("venv.py").write_text("raise SystemExit('a module of the project')\n", encoding="utf-8")
    with running_with(find_program(leg), source.parent, init, environment, home) as editor:
        editor.command(f"edit {source}")
        editor.command("Singlepass install")
        deadline = time.monotonic() + 120
        while not editor.lua("return vim.lsp.get_clients({ bufnr = 0, name = 'singlepass' })[1] ~= nil"):
            assert time.monotonic() < deadline, editor.messages()
            assert "failed" not in editor.messages()
            time.sleep(0.1)
        assert "the server is installed" in editor.messages()
        editor.keys("Vjj:Singlepass<CR>")
        editor.until("vim.bo.filetype == 'singlepass-prompt'")
        editor.keys("Spell it out.<CR>")
        timings = editor.ended()
        assert timings["outcome"] == "done", timings
        assert timings["n_applied"] > 0
        assert editor.text() != SOURCE
    python = home / ".data" / "nvim" / "singlepass" / "venv" / "bin" / "python3"
    code = "import singlepass; print(singlepass.__file__)"
    done = subprocess.run([python, "-I", "-c", code], capture_output=True, text=True, check=True)
    assert Path(done.stdout).is_relative_to(python.parents[1])


def test_a_buffer_without_a_file_type_and_a_restart(
    start: Start, source: Path, scripted: dict[str, Any]
) -> None:
    path = source.with_name("plain")
    path.write_text(SOURCE, encoding="utf-8")
    editor = start(scripted)
    editor.command(f"edit {path}")
    assert editor.lua("return vim.bo.filetype") == ""
    editor.command("1,2Singlepass No file type.")
    assert editor.ended()["n_applied"] == 1
    client = "(vim.lsp.get_clients({ name = 'singlepass', bufnr = 0 })[1] or {}).id"
    before = editor.lua(f"return {client}")
    editor.command("undo")
    editor.command("Singlepass restart")
    editor.until(f"({client} or 0) > {before}")
    editor.command("1,2Singlepass No file type.")
    assert editor.ended(2)["n_applied"] == 1


def test_the_help_has_every_option_command_and_function() -> None:
    help = (PLUGIN / "doc" / "singlepass.txt").read_text(encoding="utf-8")
    config = (PLUGIN / "lua/singlepass/config.lua").read_text(encoding="utf-8")
    command = (PLUGIN / "lua/singlepass/command.lua").read_text(encoding="utf-8")
    module = (PLUGIN / "lua/singlepass/init.lua").read_text(encoding="utf-8")
    options = re.findall(r"^---@field (\w+)\?? ", config, re.MULTILINE)
    assert len(options) > 15
    subcommands = [*re.findall(r'^  "(\w+)",$', command, re.MULTILINE), "target"]
    assert len(subcommands) > 10
    functions = re.findall(r"^function M\.(\w+)", module, re.MULTILINE)
    named = [
        *(f"`{name}`" for name in options),
        *(f"*:Singlepass-{name}*" for name in subcommands),
        *(f"*singlepass.{name}()*" for name in functions),
    ]
    assert [name for name in named if name not in help] == []


@newest_only
def test_an_editor_that_does_not_answer_fails_its_test(
    start: Start, scripted: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    editor = start(scripted)
    monkeypatch.setattr("neovim._ANSWER_TIMEOUT_S", 0.5)
    with pytest.raises(pytest.fail.Exception, match=r"did not answer .*getchar"):
        editor.lua("vim.fn.getchar()")
