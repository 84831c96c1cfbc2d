"""The whole chain over stdio: a real server, a real engine, llama.cpp with random weights, three editors.

Random weights write nonsense, but the edit grammar makes every finished hunk fit, so what must hold for any
model can be asserted exactly.
"""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from lsprotocol import types as lsp
from pygls.exceptions import JsonRpcException
from scenarios.clients import CLIENTS, check_done, edit, lines, write
from singlepass.cli.headless import HeadlessEditor
from singlepass.core.edits import Edit

pytestmark = pytest.mark.anyio

SOURCE = """import os


def read(path):
    # AI: close the file
    return open(path).read()


def größe(path):  # 𝔘nicode, and a tab:\there
    return os.stat(path).st_size
"""


@pytest.fixture(params=CLIENTS)
def capabilities(request: pytest.FixtureRequest) -> lsp.ClientCapabilities:
    return CLIENTS[request.param]()


def options(model: Path, **more: Any) -> dict[str, Any]:
    return {"target": {"model": str(model)}, "prewarm": False, **more}


async def test_an_action_from_the_menu_streams_its_hunks(
    random_gguf: Path, tmp_path: Path, capabilities: lsp.ClientCapabilities
) -> None:
    path = write(tmp_path, "files.py", SOURCE.replace("\n", "\r\n"))
    async with HeadlessEditor(tmp_path, options(random_gguf), capabilities) as editor:
        file = editor.open(path)
        cursor = lsp.Position(4, 0)
        offers = await editor.actions(file, lsp.Range(cursor, lsp.Position(9, 0)))
        titles = [offer.title for offer in offers]
        assert titles == [
            "Do: close the file",
            "Simplify",
            "Add docstrings",
            "Add type annotations",
            "Add error handling",
            "Extract function",
        ]
        offer = offers[1]
        command = offer.command if isinstance(offer, lsp.CodeAction) else offer
        assert command is not None
        assert command.arguments is not None
        job = (await editor.command("singlepass.edit", *command.arguments))["job"]
        timings = await editor.finish(job)

        check_done(timings)
        assert timings["title"] == "Simplify"
        assert editor.messages == []
        assert "\n" not in file.text.replace("\r\n", "")
        (told,) = editor.diagnostics[file.uri]
        assert (told.severity, told.source, told.code) == (
            lsp.DiagnosticSeverity.Information,
            "singlepass",
            "timings",
        )
        assert told.message == timings["message"]

        again = await edit(editor, file, lines(4, 6))
        check_done(again)
        assert again["timings"]["n_cached"] > timings["timings"]["n_prompt"] // 4


async def test_the_server_and_the_editor_agree_after_each_job(
    random_gguf: Path, tmp_path: Path, capabilities: lsp.ClientCapabilities
) -> None:
    """Revert plans on the server's mirror; it restores the editor's text only if the two are equal."""
    path = write(tmp_path, "files.py", SOURCE)
    async with HeadlessEditor(tmp_path, options(random_gguf, temperature=1.0), capabilities) as editor:
        file = editor.open(path)
        for seed in range(4):
            before = file.text
            check_done(await edit(editor, file, lines(1, 10), f"Change something, {seed}."))
            answer = await editor.command("singlepass.revert")
            assert "taken back" in answer["message"]
            assert file.text == before
        with pytest.raises(JsonRpcException, match="no edit of singlepass to take back"):
            await editor.command("singlepass.revert")


async def test_the_comment_that_asks_goes(random_gguf: Path, tmp_path: Path) -> None:
    path = write(tmp_path, "files.py", SOURCE)
    async with HeadlessEditor(tmp_path, options(random_gguf)) as editor:
        file = editor.open(path)
        cursor = lsp.Position(5, 4)
        (offer, *_) = await editor.actions(file, lsp.Range(cursor, cursor))
        assert isinstance(offer, lsp.CodeAction)
        assert offer.title == "Do: close the file"
        assert list(offer.tags or ()) == [lsp.CodeActionTag.LlmGenerated]
        assert offer.command is not None
        job = (await editor.command("singlepass.edit", *offer.command.arguments or ()))["job"]
        timings = await editor.finish(job)
        check_done(timings)
        assert "AI:" not in file.text


async def test_a_diagnostic_becomes_a_quick_fix(random_gguf: Path, tmp_path: Path) -> None:
    path = write(tmp_path, "files.py", SOURCE)
    async with HeadlessEditor(tmp_path, options(random_gguf)) as editor:
        file = editor.open(path)
        place = lsp.Range(lsp.Position(5, 11), lsp.Position(5, 21))
        found = lsp.Diagnostic(place, "file is never closed", source="linter", code="R1732")
        offers = await editor.actions(file, place, [found])
        fixes = [one for one in offers if isinstance(one, lsp.CodeAction) and one.kind == "quickfix"]
        assert [one.title for one in fixes] == ["Fix: file is never closed"]
        assert fixes[0].command is not None
        job = (await editor.command("singlepass.edit", *fixes[0].command.arguments or ()))["job"]
        check_done(await editor.finish(job))


async def test_with_confirm_one_edit_comes_at_the_end(random_gguf: Path, tmp_path: Path) -> None:
    path = write(tmp_path, "files.py", SOURCE)
    sent: list[lsp.ApplyWorkspaceEditParams] = []

    class Recording(HeadlessEditor):
        def apply_edit(self, params: lsp.ApplyWorkspaceEditParams) -> lsp.ApplyWorkspaceEditResult:
            sent.append(params)
            return super().apply_edit(params)

    async with Recording(tmp_path, options(random_gguf, review="confirm")) as editor:
        file = editor.open(path)
        check_done(await edit(editor, file, lines(1, 10)))
        (params,) = sent
        assert params.label == "singlepass: Do it."
        assert params.edit.change_annotations is not None
        assert [one.needs_confirmation for one in params.edit.change_annotations.values()] == [True]


@pytest.mark.parametrize("says_yes", [True, False])
async def test_an_editor_without_annotations_asks_in_words(
    says_yes: bool, random_gguf: Path, tmp_path: Path
) -> None:
    path = write(tmp_path, "files.py", SOURCE)

    class Asked(HeadlessEditor):
        def answer(self, params: lsp.ShowMessageRequestParams) -> lsp.MessageActionItem | None:
            first = super().answer(params)
            return first if says_yes else None

    async with Asked(tmp_path, options(random_gguf, review="confirm"), CLIENTS["plain"]()) as editor:
        file = editor.open(path)
        timings = await edit(editor, file, lines(1, 10))
        (question,) = [text for level, text in editor.messages if level == "question"]
        assert question.startswith("singlepass: Do it.: ")
        assert (file.text != SOURCE) == says_yes
        assert (timings["n_applied"] > 0) == says_yes
        if not says_yes:
            assert all("not confirmed" in one["message"] for one in timings["rejected"])


async def test_a_file_that_is_not_open_can_be_edited_on_request(random_gguf: Path, tmp_path: Path) -> None:
    edited = write(tmp_path, "pkg/one.py", "one = 1\n")
    other = write(tmp_path, "pkg/two.py", "two = 2\r\nthree = 3\r\n")
    async with HeadlessEditor(tmp_path, options(random_gguf, temperature=1.0)) as editor:
        file = editor.open(edited)
        touched: set[str] = set()
        for seed in range(40):
            timings = await edit(editor, file, lines(1, 1), f"Number {seed}.", files=[other.as_uri()])
            check_done(timings)
            touched |= {one.path.name for one in editor.files.values() if one.text != one.original}
            if other.as_uri() in editor.files:
                break
        assert "two.py" in touched
        assert other.read_bytes() == b"two = 2\r\nthree = 3\r\n"  # the server writes no file


async def test_typing_while_a_job_runs_loses_nothing(random_gguf: Path, tmp_path: Path) -> None:
    path = write(tmp_path, "files.py", SOURCE * 8)
    async with HeadlessEditor(tmp_path, options(random_gguf, temperature=1.0)) as editor:
        file = editor.open(path)
        marks = map(chr, range(0xE000, 0xF8FF))  # one character each, so that no later one can split it
        typed: list[str] = []

        def type_on() -> None:
            typed.append(next(marks))
            place = len(file.text) * (len(typed) % 7) // 7
            editor.type(file, Edit(place, place, typed[-1]))

        n_typed = n_rejected = 0
        for seed in range(5):
            typed.clear()  # the next job may well replace what it has seen
            arguments = {"uri": file.uri, "range": lines(1, 80), "instruction": f"Change it, {seed}."}
            job = (await editor.command("singlepass.edit", arguments))["job"]
            editor.on_change = lambda: type_on() if len(typed) < 200 else None
            timings = await editor.finish(job)
            editor.on_change = lambda: None
            assert timings["outcome"] == "done", timings
            accounted = timings["n_applied"] + timings["n_unchanged"] + timings["n_rejected"]
            assert accounted == timings["n_hunks"]
            assert all(mark in file.text for mark in typed)
            n_typed += len(typed)
            n_rejected += timings["n_rejected"]
        assert n_typed > n_rejected


async def test_cancel_stops_the_job_and_leaves_whole_hunks(random_gguf: Path, tmp_path: Path) -> None:
    path = write(tmp_path, "files.py", SOURCE)
    async with HeadlessEditor(tmp_path, options(random_gguf)) as editor:
        file = editor.open(path)
        for state in ("starting", "prefill", "decode"):
            n_seen = len(editor.statuses)
            arguments = {"uri": file.uri, "range": lines(1, 10), "instruction": f"Cancel in {state}."}
            job = (await editor.command("singlepass.edit", arguments))["job"]
            await editor.until(
                lambda n_seen=n_seen, state=state: state in [one["state"] for one in editor.statuses[n_seen:]]
            )
            await editor.command("singlepass.cancel", job)
            timings = await editor.finish(job)
            assert timings["outcome"] in ("cancelled", "done")
            text = file.text
            check_done(await edit(editor, file, lines(1, 10), "The next one works."))
            await editor.command("singlepass.revert")
            assert file.text == text


async def test_the_newest_job_on_a_document_wins(random_gguf: Path, tmp_path: Path) -> None:
    path = write(tmp_path, "files.py", SOURCE)
    async with HeadlessEditor(tmp_path, options(random_gguf)) as editor:
        file = editor.open(path)
        arguments = {"uri": file.uri, "range": lines(1, 10), "instruction": "First."}
        # At once: a small model would have answered the first before a busy machine sends the second.
        answers = await asyncio.gather(
            editor.command("singlepass.edit", arguments),
            editor.command("singlepass.edit", {**arguments, "instruction": "Second."}),
        )
        first, second = (answer["job"] for answer in answers)
        ended = await editor.finish(first)
        assert ended["outcome"] == "cancelled"
        assert "a newer request took its place" in ended["message"]
        check_done(await editor.finish(second))
