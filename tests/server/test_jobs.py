"""Jobs from command to outcome, with a scripted engine and an editor in memory."""

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest
from server.fakes import TIMINGS, FakeEditor, FakeEngine, LateEditor, ReadOnlyEditor, Step, block, edit_of
from singlepass.config import DEFAULT, DEMO, Settings
from singlepass.core.actions import CommentTask
from singlepass.core.edits import Edit
from singlepass.editor.documents import Documents
from singlepass.editor.requests import ApplyResult
from singlepass.editor.tasks import Owner
from singlepass.editor.workspace import UserError
from singlepass.engines.targets import rates_key
from singlepass.jobs.outcome import JobRequest
from singlepass.jobs.review import ALL
from singlepass.lsp.parts import Parts
from singlepass.stats.history_file import read
from singlepass_backends.base import (
    RANDOM_MODEL_NAME,
    BackendError,
    Evicted,
    Finished,
    Miss,
    ModelInfo,
    PrefillProgress,
    SegmentUse,
    Target,
    TextChunk,
    Timings,
)

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[2]
URI = "file:///w/a.py"
OTHER = "file:///w/b.py"
TEXT = "one\ntwo\nthree\n"
SETTINGS = Settings(target=Target(model="m.gguf"))


class World:
    """An editor with `a.py` open, and jobs whose engine plays the scripts."""

    def __init__(
        self,
        *scripts: list[Step],
        settings: Settings = SETTINGS,
        kind: type[FakeEditor] = FakeEditor,
        **of: Any,
    ) -> None:
        self.documents = Documents()
        self.editor = kind(self.documents)
        self.editor.open(URI, of.pop("text", TEXT))
        self.engine = FakeEngine(*scripts, **of)
        self.engines: list[tuple[Target, FakeEngine]] = []
        self.editor.tasks = Owner()
        self.parts = Parts(self.editor, self.documents)  # type: ignore[arg-type]
        self.jobs = self.parts.jobs
        self.workspace = self.parts.workspace
        self.workspace.folders = [Path("/w")]
        self.parts.configure(settings)
        self.parts.settled.set()

    @property
    def text(self) -> str:
        return self.editor.texts[URI]

    def start(self, instruction: str = "Do it.", uri: str = URI, **fields: Any) -> int:
        request = JobRequest(uri, "Do", instruction, 0, 1, **fields)
        return self.jobs.start(self.jobs.looking(request)())

    async def run(self, **fields: Any) -> dict[str, Any]:
        told = await self.editor.finish(self.start(**fields))
        self.parts.history.close(10)  # estimates follow in the background
        return told


@pytest.fixture(autouse=True)
async def current(anyio_backend: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """Runs the parts of the worlds, with the fake engine of the newest; nothing waits for what these editors
    tell at once."""
    worlds: list[World] = []
    init = World.__init__

    def noted(self: World, *args: Any, **options: Any) -> None:
        worlds.append(self)
        init(self, *args, **options)
        connection.start_soon(self.parts.run)

    def client(target: Target, *, idle_exit_s: float) -> FakeEngine:
        world = worlds[-1]
        engine = world.engine if not world.engines else FakeEngine()
        world.engines.append((target, engine))
        return engine

    monkeypatch.setattr(World, "__init__", noted)
    monkeypatch.setattr("singlepass_backends.client.EngineClient", client)
    monkeypatch.setattr("singlepass.jobs.delivery._ECHO_TIMEOUT_S", 0)
    monkeypatch.setattr("singlepass.jobs.delivery._TYPED_TIMEOUT_S", 0)
    async with anyio.create_task_group() as connection:
        yield
        connection.cancel_scope.cancel()
    assert all(engine.n_streams == 0 for world in worlds for _, engine in world.engines)


ONE = block("a.py", ["one"], ["1"])
THREE = block("a.py", ["three"], ["3"])


@pytest.mark.parametrize(
    ("announced", "review", "path", "shows"),
    [
        (True, "stream", "a.py", True),
        (False, "stream", "a.py", False),
        (True, "confirm", "a.py", False),  # nothing goes into the text yet
        (True, "stream", ".envrc", False),  # a question comes first
    ],
)
async def test_a_block_is_shown_while_it_is_written(
    announced: bool, review: Any, path: str, shows: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("singlepass.jobs.preview._TELL_EVERY_S", 0)
    lines = block(path, ["one", "two"], ["1", "2"]).splitlines(keepends=True)
    world = World(
        [*lines, block(path, ["three"], ["3"])], settings=Settings(target=SETTINGS.target, review=review)
    )
    world.editor.capabilities.preview = announced
    uri = f"file:///w/{path}"
    world.editor.open(uri, TEXT)
    job = world.start(uri=uri)
    told = await world.editor.finish(job)
    assert (told["outcome"], told["n_applied"]) == ("done", 2)
    shown = [params for method, params in world.editor.calls if method == "singlepass/preview"]
    assert {(one["job"], one["uri"]) for one in shown} <= {(job, uri)}
    assert [one["lines"] for one in shown] == ([["1"], ["1", "2"], []] if shows else [])


@pytest.mark.parametrize("constrains", [True, False])
async def test_a_whole_job(constrains: bool) -> None:
    progress = PrefillProgress(n_prompt=10, n_cached=4, n_done=4, elapsed_ms=0, eta_ms=None)
    # Cut anywhere: chunks carry no meaning.
    chunks = [(ONE + THREE)[i : i + 7] for i in range(0, len(ONE + THREE), 7)]
    world = World([progress, *chunks], constrains=constrains)
    told = await world.run(diagnostics=("line 1: bad",))
    assert world.text == "1\ntwo\n3\n"
    assert (told["outcome"], told["finish_reason"], told["error"]) == ("done", "stop", None)
    assert (told["n_hunks"], told["n_applied"], told["n_unchanged"], told["n_rejected"]) == (2, 2, 0, 0)
    assert told["timings"]["n_cached"] == TIMINGS.n_cached
    assert told["total_ms"] >= told["ttft_ms"] > 0
    assert told["target"]["model"] == "fake model"

    (request,) = world.engine.requests
    assert [segment.name for segment in request.segments] == ["system", "a.py", "task"]
    assert "line 1: bad" in request.segments[-1].text
    assert (request.grammar is not None) == constrains
    assert (request.max_tokens, request.sampling.temperature) == (4096, 0.0)

    assert world.editor.states(1)[:2] == ["starting", "prefill"]
    assert world.editor.states(1)[-2:] == ["decode", "done"]
    # Progress, diagnostics, log, timings; the status last, so that it can be waited for.
    kinds = [kind for kind, _ in world.editor.calls]
    assert kinds[-4:] == ["publish", "log", "singlepass/timings", "singlepass/status"]
    (uri, version, (diagnostic,)) = world.editor.told("publish")[-1]
    assert (uri, version) == (URI, 3)
    assert (diagnostic.code, diagnostic.source, diagnostic.range.start.line) == ("timings", "singlepass", 0)
    assert diagnostic.data == told
    assert diagnostic.message == told["message"]
    (shown,) = world.editor.progresses
    assert shown.ended == [told["message"]]
    assert world.editor.told("say") == []


async def test_the_timings_go_with_the_next_keystroke() -> None:
    world = World([ONE])
    await world.run()
    document = world.documents.get(URI)
    assert document is not None
    world.parts.jobs.document_changed(document)
    assert world.editor.told("publish")[-1] == (URI, None, [])
    n = len(world.editor.calls)
    world.parts.jobs.document_changed(document)
    assert len(world.editor.calls) == n


async def test_no_timings_where_they_are_not_wanted() -> None:
    world = World([ONE], settings=Settings(target=SETTINGS.target, timings=False))
    await world.run()
    assert world.editor.told("publish") == []


async def test_an_answer_without_a_change() -> None:
    world = World(["\n"], [block("a.py", ["two"], ["two"])])
    told = await world.run()
    assert (told["outcome"], told["n_hunks"]) == ("done", 0)
    assert "the model proposed no change" in told["message"]
    told = await world.run()
    assert (told["n_hunks"], told["n_applied"], told["n_unchanged"]) == (1, 0, 1)
    assert world.text == TEXT
    assert world.editor.applied == []


def too_long(n_excess: int, **sizes: int) -> BackendError:
    n_ctx = 100
    listed = [[name.replace("_", "."), size] for name, size in sizes.items()]
    data = {
        "n_prompt": n_ctx - 1 + n_excess,
        "n_ctx": n_ctx,
        "n_excess": n_excess,
        "segments": listed,
    }
    return BackendError("prompt_too_long", "The prompt is too long.", data)


async def test_neighbours_are_left_out_until_the_prompt_fits() -> None:
    world = World([too_long(5, b_py=10, c_py=10)], [too_long(5, c_py=5)], [ONE])
    for name in "bc":
        world.editor.open(f"file:///w/{name}.py", "x\n")
    told = await world.run()
    assert told["outcome"] == "done"
    assert world.text == "1\ntwo\nthree\n"
    # The most recently used is the last to go.
    assert told["left_out"] == ["b.py", "c.py"]
    assert "left out of the prompt: b.py, c.py" in told["message"]
    names = [[segment.name for segment in request.segments][1:-1] for request in world.engine.requests]
    assert names == [["b.py", "c.py", "a.py"], ["c.py", "a.py"], ["a.py"]]


async def test_a_file_that_alone_is_too_long_is_an_error() -> None:
    world = World([too_long(5, b_py=2, a_py=90)])
    world.editor.open(OTHER, "x\n")
    told = await world.run()
    assert (told["outcome"], told["error"]["code"]) == ("failed", "prompt_too_long")
    assert world.editor.said("error") == ["singlepass: The prompt is too long."]


@pytest.mark.parametrize(
    ("loop", "reason"),
    [
        (["a.py\n<<<<<<< SEARCH\nthree\n=======\n", *["again\n"] * 900], "cut_off"),
        (["And then ", *["again and "] * 900], "unread"),
    ],
)
async def test_a_reply_that_repeats_itself_is_ended_and_keeps_its_whole_hunks(
    loop: list[str], reason: str
) -> None:
    world = World([ONE, *loop, pytest.fail])
    told = await world.run()
    assert (told["outcome"], told["finish_reason"], told["n_applied"]) == ("done", "runaway", 1)
    assert world.text == "1\ntwo\nthree\n"
    assert "1 hunk applied" in told["message"]
    assert "the model began to repeat itself" in told["message"]
    assert told["timings"]["n_decoded"] < 300
    assert [one["reason"] for one in told["rejected"]] in ([reason], [])


async def test_a_reply_that_was_cut_off_keeps_its_whole_hunks() -> None:
    world = World([ONE, THREE[:-3], Finished("length", TIMINGS)])
    told = await world.run()
    assert world.text == "1\ntwo\nthree\n"
    assert (told["outcome"], told["finish_reason"]) == ("done", "length")
    assert "cut off by max_tokens" in told["message"]
    (rejected,) = told["rejected"]
    assert (rejected["reason"], rejected["old"]) == ("cut_off", ["three"])
    assert rejected["new"][0] == "3"
    (warning,) = world.editor.said("warning")
    assert "a.py" in warning
    _, _, published = world.editor.told("publish")[-1]
    assert sorted(one.code for one in published) == ["cut_off", "timings"]
    document = world.documents.get(URI)
    assert document is not None
    world.parts.jobs.document_changed(document)
    assert world.editor.told("publish")[-1][2] == published  # warnings stay while the user types


async def test_what_does_not_fit_is_reported_with_its_text() -> None:
    world = World([block("a.py", ["four"], ["4"]), block("zzz.py", ["one"], ["1"]), ONE])
    told = await world.run()
    assert world.text == "1\ntwo\nthree\n"
    assert [(one["reason"], one["new"]) for one in told["rejected"]] == [
        ("not_found", ["4"]),
        ("unknown_file", ["1"]),
    ]


async def test_cancel_keeps_whole_hunks_only() -> None:
    in_second = asyncio.Event()
    world = World([ONE, THREE[:-12], in_second.set, asyncio.Event()])
    job = world.start()
    await in_second.wait()
    assert world.jobs.cancel(99) == 0
    assert world.jobs.cancel(job) == 1
    told = await world.editor.finish(job)
    assert world.text == "1\ntwo\nthree\n"
    assert (told["outcome"], told["n_applied"]) == ("cancelled", 1)
    assert [one["reason"] for one in told["rejected"]] == ["cut_off"]
    assert world.editor.said("warning") == []
    assert world.jobs.cancel() == 0
    assert await world.jobs.revert() == "1 of 1 edits taken back"
    assert world.text == TEXT


async def test_the_editors_own_cancel_button() -> None:
    world = World([ONE, asyncio.Event()])
    job = world.start()
    await world.editor.until(job, "decode")
    world.editor.cancel[0]()
    assert (await world.editor.finish(job))["outcome"] == "cancelled"


async def test_a_cancel_while_an_edit_is_under_way_knows_what_became_of_it() -> None:
    world = World([ONE, THREE])
    world.editor.before_apply = lambda: world.jobs.cancel()
    told = await world.run()
    assert (told["outcome"], told["n_applied"]) == ("cancelled", 1)
    assert world.text == "1\ntwo\nthree\n"
    await world.jobs.revert()
    assert world.text == TEXT


async def test_a_cancel_just_before_an_edit_is_sent_keeps_it_from_going() -> None:
    loop = asyncio.get_running_loop()
    # In the turn of the loop after the block has come, before the task that sends it has its first.
    world = World([lambda: loop.call_soon(loop.call_soon, world.jobs.cancel), ONE, THREE])
    told = await world.run()
    assert (told["outcome"], told["n_applied"]) == ("cancelled", 0)
    assert (world.text, world.editor.applied) == (TEXT, [])


async def test_an_edit_that_is_never_answered_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("singlepass.jobs.hunks._LAST_EDIT_S", 0)

    class Silent(FakeEditor):
        async def apply(self, *args: Any, **options: Any) -> Any:
            world.jobs.cancel()
            await asyncio.Event().wait()

    world = World([ONE], kind=Silent)
    told = await world.run()
    (rejected,) = told["rejected"]
    assert (told["outcome"], rejected["reason"], rejected["new"]) == ("cancelled", "refused", ["1"])


class Slow(FakeEditor):
    """Answers an edit when it is let, and shows it before, then or never."""

    def __init__(self, documents: Documents | None = None) -> None:
        super().__init__(documents)
        self.asked, self.gate = asyncio.Event(), asyncio.Event()
        self.says: bool | None = True
        """What it answers; None for nothing, though it applies the edit."""

    async def apply(self, *args: Any, **options: Any) -> ApplyResult:
        self.asked.set()
        await self.gate.wait()
        if self.says is False:
            return ApplyResult(False, "too late")
        result = await super().apply(*args, **options)
        if self.says is None:
            await asyncio.Event().wait()
        return result


@pytest.mark.parametrize("ending", ["time-out", "cancel"])
@pytest.mark.parametrize("says", [True, None, False])
async def test_an_edit_that_is_answered_late_comes_into_review(
    ending: str, says: bool | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("singlepass.jobs.hunks._LAST_EDIT_S", 0)
    if ending == "time-out":
        monkeypatch.setattr("singlepass.jobs.delivery._ANSWER_TIMEOUT_S", 0.01)
    world = World([ONE, THREE], [""], kind=Slow)
    editor = world.editor
    assert isinstance(editor, Slow)
    job = world.start()
    await editor.asked.wait()
    if ending == "cancel":
        world.jobs.cancel(job)
    told = await editor.finish(job)
    first, *others = told["rejected"]
    assert (told["n_applied"], first["reason"], first["new"]) == (0, "refused", ["1"])
    assert "may be there or not" in first["message"]
    # What the model wrote meanwhile is not sent after it, for nobody knows what it would meet.
    assert [one["new"] for one in others] == ([["3"]] if ending == "time-out" else [])
    assert all("has not answered" in one["message"] for one in others)
    assert (world.text, editor.applied) == (TEXT, [])

    editor.says = says
    editor.gate.set()
    await settle()
    if says is False:
        assert world.text == TEXT
        assert editor.told("singlepass/hunks") == []
        return
    assert world.text == "1\ntwo\nthree\n"
    (hunks,) = editor.told("singlepass/hunks")
    assert (hunks["job"], [hunk["old"] for hunk in hunks["hunks"]]) == (job, ["one\n"])
    assert any("applied late" in line for line in editor.told("log"))
    # It can be taken back like all others.
    monkeypatch.setattr("singlepass.jobs.delivery._ANSWER_TIMEOUT_S", 0.01)
    assert await world.jobs.revert() == "1 of 1 edits taken back"
    assert world.text == TEXT


async def test_an_edit_that_comes_late_while_the_job_goes_on_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("singlepass.jobs.delivery._ANSWER_TIMEOUT_S", 0.01)
    gate, given_up = asyncio.Event(), asyncio.Event()
    world = World([ONE, given_up.set, gate, THREE], kind=Slow)
    editor = world.editor
    assert isinstance(editor, Slow)
    job = world.start()
    await editor.asked.wait()
    await given_up.wait()
    editor.gate.set()
    await settle()
    gate.set()
    told = await editor.finish(job)
    assert (told["outcome"], told["n_applied"], told["rejected"]) == ("done", 2, [])
    assert world.text == "1\ntwo\n3\n"


async def test_a_late_edit_of_a_document_that_was_closed_is_nobodys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("singlepass.jobs.delivery._ANSWER_TIMEOUT_S", 0.01)
    world = World([ONE], kind=Slow)
    job = world.start()
    await world.editor.finish(job)
    document = world.documents.get(URI)
    assert document is not None
    world.documents.close(URI)
    world.parts.jobs.document_closed(document)
    await settle()
    assert world.parts.reviews.keep(ALL) == 0
    assert document._expectations == []  # nothing watches it any more


async def settle() -> None:
    """Let every task run until all of them wait."""
    for _ in range(50):
        await asyncio.sleep(0)


async def test_a_job_ends_with_its_document() -> None:
    never = asyncio.Event()
    world = World([ONE, THREE[:-5], never])
    job = world.start()
    await world.editor.until(job, "decode")
    await settle()
    assert world.engine.n_streams == 1
    document = world.documents.get(URI)
    assert document is not None
    world.documents.close(URI)
    world.parts.jobs.document_closed(document)
    told = await world.editor.finish(job)
    assert world.engine.n_streams == 0  # the engine computes no further
    assert (told["outcome"], told["n_applied"]) == ("cancelled", 1)
    assert told["message"].startswith("cancelled: its document was closed after ")
    assert world.editor.said("warning") == world.editor.said("error") == []


async def test_a_job_goes_on_where_another_of_its_files_is_closed() -> None:
    gate = asyncio.Event()
    world = World([gate, ONE, block("b.py", ["x"], ["y"])])
    world.editor.open(OTHER, "x\n")
    job = world.start(files=(OTHER,))
    document = world.documents.get(OTHER)
    assert document is not None
    world.documents.close(OTHER)
    world.parts.jobs.document_closed(document)
    gate.set()
    told = await world.editor.finish(job)
    assert (told["outcome"], told["n_applied"]) == ("done", 1)
    assert [(one["reason"], one["new"]) for one in told["rejected"]] == [("stale", ["y"])]


@pytest.mark.parametrize(
    ("script", "n", "sentence"),
    [
        ([ONE], 1, "1 hunk was applied before; it is in the buffer and in review."),
        ([ONE, THREE], 2, "2 hunks were applied before; they are in the buffer and in review."),
    ],
)
@pytest.mark.parametrize(
    "error", [BackendError("engine_lost", "The engine died."), RuntimeError("oops"), UserError("No.")]
)
async def test_a_failure_says_what_it_has_left_in_the_buffer(
    script: list[Step], n: int, sentence: str, error: Exception
) -> None:
    world = World([*script, error])
    told = await world.run()
    assert (told["outcome"], told["n_applied"]) == ("failed", n)
    (said,) = world.editor.said("error")
    assert told["message"].endswith(f". {sentence}")
    assert said.endswith(f". {sentence}")
    assert len(world.editor.told("singlepass/hunks")[-1]["hunks"]) == n
    assert await world.jobs.revert() == f"{n} of {n} edits taken back"
    assert world.text == TEXT


async def test_the_newest_job_of_a_document_wins() -> None:
    world = World([ONE, asyncio.Event()], [THREE])
    first = world.start()
    await world.editor.until(first, "decode")
    second = world.start()
    told = [await world.editor.finish(job) for job in (first, second)]
    assert [one["outcome"] for one in told] == ["cancelled", "done"]
    assert "a newer request took its place" in told[0]["message"]
    assert world.text == "1\ntwo\n3\n"


async def test_a_job_replaced_before_it_began_says_so_too() -> None:
    world = World([ONE])
    first, second = world.start(), world.start()
    told = [await world.editor.finish(job) for job in (first, second)]
    assert [one["outcome"] for one in told] == ["cancelled", "done"]


async def test_jobs_of_different_documents_run_side_by_side() -> None:
    gate = asyncio.Event()
    world = World([gate, ONE], [block("b.py", ["x"], ["y"])])
    world.editor.open(OTHER, "x\n")
    first = world.start()
    await world.engine.asked.wait()  # the first request gets the first reply
    second = world.start(uri=OTHER)
    assert (await world.editor.finish(second))["outcome"] == "done"
    gate.set()
    assert (await world.editor.finish(first))["outcome"] == "done"
    assert (world.text, world.editor.texts[OTHER]) == ("1\ntwo\nthree\n", "y\n")


async def test_typing_while_the_model_loads_moves_nothing_that_was_asked_for() -> None:
    text = "def f():\n    # AI: shout\n    return 'a'\n"
    world = World([block("a.py", ["    return 'a'"], ["    return 'A'"])], text=text)
    world.engine.connecting = asyncio.Event()
    job = world.start(comment=CommentTask(1, 2, "shout"))
    world.editor.type(URI, Edit(0, 0, "import a\nimport b\n"))
    await world.editor.until(job, "starting")
    world.engine.connecting.set()
    await world.editor.finish(job)
    assert "import a" not in world.engine.requests[0].segments[-2].text
    assert world.text == "import a\nimport b\ndef f():\n    return 'A'\n"


COMMENTED = "/* AI: document\n   this */\nint f();\nint g();\n"
ASKING = ["/* AI: document", "   this */"]


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        # The model left the comment alone, kept it, took it away, or wrote one that ends alike.
        (
            block("a.py", ["int f();"], ["/* f", "   this */", "int f();"]),
            "/* f\n   this */\nint f();\nint g();\n",
        ),
        (block("a.py", [*ASKING, "int f();"], [*ASKING, "int F();"]), "int F();\nint g();\n"),
        (block("a.py", [*ASKING, "int f();"], ["int F();"]), "int F();\nint g();\n"),
        (block("a.py", ASKING, ["/* f", "   this */"]), "/* f\n   this */\nint f();\nint g();\n"),
        # Its wish was not done, so it stays.
        ("", COMMENTED),
        (block("a.py", ["int h();"], ["int H();"]), COMMENTED),
    ],
)
@pytest.mark.parametrize("review", ["stream", "confirm"])
async def test_a_comment_goes_when_its_wish_is_done(reply: str, expected: str, review: Any) -> None:
    settings = Settings(target=SETTINGS.target, review=review)
    world = World([reply], text=COMMENTED, settings=settings)
    await world.run(comment=CommentTask(0, 2, "document this"))
    assert world.text == expected


async def test_a_comment_stays_when_the_editor_refused_its_edit() -> None:
    world = World([block("a.py", ["int f();"], ["int F();"])], text=COMMENTED, kind=ReadOnlyEditor)
    told = await world.run(comment=CommentTask(0, 2, "document this"))
    assert world.text == COMMENTED
    assert [one["reason"] for one in told["rejected"]] == ["refused"]


async def test_confirm_sends_one_edit_at_the_end() -> None:
    world = World([ONE, THREE], settings=Settings(target=SETTINGS.target, review="confirm"))
    told = await world.run()
    assert world.text == "1\ntwo\n3\n"
    assert told["n_applied"] == 2
    assert [confirm for _, _, confirm in world.editor.applied] == [True]


async def test_a_cancel_at_the_first_question_keeps_the_text_of_those_that_would_come() -> None:
    """Each protected file has a question of its own, at the end of the reply."""
    files = ".envrc", "AGENTS.md"
    world = World([block(name, ["one"], ["1"]) for name in files])
    uris = [f"file:///w/{name}" for name in files]
    for uri in uris:
        world.editor.open(uri, TEXT)
    world.editor.before_apply = lambda: world.jobs.cancel()
    told = await world.editor.finish(world.start(uri=uris[0], files=(uris[1],)))
    assert (told["outcome"], told["n_applied"]) == ("cancelled", 1)
    assert [(one["path"], one["reason"], one["new"]) for one in told["rejected"]] == [
        ("AGENTS.md", "refused", ["1"])
    ]


LONG = "one\n" + "".join(f"line {n}\n" for n in range(20)) + "three\n"
GONE = block("a.py", [f"line {n}" for n in range(20)], ["line 1"])


@pytest.mark.parametrize(
    ("instruction", "is_confirmed", "n_lines", "asked"),
    [
        ("Rename it.", True, 3, [False, False, True]),
        ("Rename it.", False, 22, [False, False, True]),
        ("Remove what is not needed.", True, 3, [False, False, False]),
    ],
)
async def test_a_hunk_that_removes_most_of_what_it_quotes_is_asked_about(
    instruction: str, is_confirmed: bool, n_lines: int, asked: list[bool]
) -> None:
    world = World([ONE, GONE, THREE], text=LONG)
    if not is_confirmed:
        world.editor.refuses = lambda _: "it was not confirmed" if world.editor.applied[-1][2] else ""
    told = await world.run(instruction=instruction)
    assert len(world.text.splitlines()) == n_lines
    assert world.text.startswith("1\n")
    assert world.text.endswith("\n3\n")
    assert told["n_applied"] == 2 + (n_lines == 3)
    assert [confirm for *_, confirm in world.editor.applied] == asked
    if True in asked:
        assert "of 20 lines 1 are left" in world.editor.applied[-1][1]


async def test_confirm_keeps_the_text_of_hunks_that_were_never_sent() -> None:
    lost = BackendError("engine_lost", "The engine died.")
    world = World([ONE, lost], settings=Settings(target=SETTINGS.target, review="confirm"))
    told = await world.run()
    assert world.text == TEXT
    assert [(one["reason"], one["new"]) for one in told["rejected"]] == [("refused", ["1"])]


async def test_a_late_edit_is_told_to_the_user() -> None:
    world = World([ONE], kind=LateEditor)
    world.editor.before_apply = lambda: world.editor.type(URI, Edit(0, 0, "typed\n"))
    told = await world.run()
    assert told["n_applied"] == 0
    (warning,) = world.editor.said("warning")
    assert "not what was planned" in warning


@pytest.mark.parametrize(
    ("script", "code"),
    [
        ([BackendError("engine_lost", "The engine died.")], "engine_lost"),
        ([ONE, THREE[:20], BackendError("engine_lost", "The engine died.")], "engine_lost"),
        ([RuntimeError("oops")], "internal"),
    ],
)
async def test_errors_are_told_and_what_was_applied_stays(script: list[Step], code: str) -> None:
    world = World(script)
    told = await world.run()
    assert (told["outcome"], told["error"]["code"]) == ("failed", code)
    assert world.text == ("1\ntwo\nthree\n" if ONE in script else TEXT)
    assert len(world.editor.said("error")) == 1
    assert world.editor.progresses[0].ended == [told["message"]]


async def test_an_engine_that_does_not_start_is_told() -> None:
    world = World()
    world.engine.fails = BackendError("model_missing", "There is no file m.gguf.")
    told = await world.run()
    assert told["error"] == {"code": "model_missing", "message": "There is no file m.gguf."}
    assert world.editor.said("error") == ["singlepass: There is no file m.gguf."]


async def test_loading_is_told_to_the_job_that_waits() -> None:
    world = World([ONE])
    world.engine.connecting = asyncio.Event()
    job = world.start()
    await world.editor.until(job, "starting")
    assert world.engine.on_loading is not None
    world.engine.on_loading(0.42)
    assert world.editor.told("singlepass/status")[-1]["percent"] == 42
    world.engine.connecting.set()
    await world.editor.finish(job)


async def test_the_status_has_the_numbers_that_its_message_words() -> None:
    world = World(
        [
            PrefillProgress(n_prompt=1000, n_cached=400, n_done=400, elapsed_ms=0, eta_ms=None),
            PrefillProgress(n_prompt=1000, n_cached=400, n_done=700, elapsed_ms=2000, eta_ms=2310.0),
            PrefillProgress(n_prompt=1000, n_cached=400, n_done=1000, elapsed_ms=4300, eta_ms=0.0),
            TextChunk("", n_decoded=1, elapsed_ms=0.0),
            *ONE,
        ]
    )
    await world.run()
    told = world.editor.told("singlepass/status")
    prefill = [one for one in told if one["state"] == "prefill"]
    assert [(one["percent"], one["eta_ms"]) for one in prefill] == [(40, None), (70, 2310.0), (100, 0.0)]
    assert "2.31 s left" in prefill[1]["message"]
    first = next(one for one in told if one["state"] == "decode")
    assert (first["decode_rate"], first["eta_ms"]) == (None, None)  # no time was measured yet
    assert told[-1]["state"] == "done"
    assert told[-1]["decode_rate"] is None
    documented = (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8")
    named = re.search(r"`singlepass/status`\*\* carries `\{(.+?)\}`", documented)
    assert named is not None
    assert set(named[1].split(", ")) == set(told[0])


async def test_the_status_has_the_rate_while_text_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("singlepass.jobs.display._REPORT_EVERY_S", 0.0)
    world = World([TextChunk(ONE, n_decoded=122, elapsed_ms=2000.0)])
    await world.run()
    (decode,) = (one for one in world.editor.told("singlepass/status") if one["state"] == "decode")
    assert decode["decode_rate"] == 61.0
    assert "61 tok/s" in decode["message"]


async def test_the_demo_model_is_told_once_and_so_is_its_end() -> None:
    world = World(settings=Settings())
    for settings in (Settings(), Settings(seed=1), SETTINGS, SETTINGS, Settings()):
        world.parts.configure(settings)
        world.parts.tell_whether_demo()
    told = [(one["state"], one["target"]) for one in world.editor.told("singlepass/status")]
    assert told == [("demo_model", DEMO), ("target", DEFAULT), ("demo_model", DEMO)]


# Files.


def in_folder(world: World, folder: Path) -> None:
    world.workspace.folders = [folder]


async def test_hunks_of_a_file_that_is_not_open_go_together(tmp_path: Path) -> None:
    path = tmp_path / "c.py"
    path.write_bytes(b"\xef\xbb\xbfa\nb\nc\n")
    uri = path.as_uri()
    blocks = [block("c.py", ["a"], ["A", "A"]), block("c.py", ["c"], ["C"])]
    world = World(blocks)
    in_folder(world, tmp_path)
    world.editor.open((tmp_path / "a.py").as_uri(), "x\n")
    world.editor.put(uri, "a\nb\nc\n")  # an editor keeps a byte order mark out of the text
    told = await world.run(uri=(tmp_path / "a.py").as_uri(), files=(uri,))
    assert (told["n_applied"], told["rejected"]) == (2, [])
    assert world.editor.texts[uri] == "A\nA\nb\nC\n"
    assert len(world.editor.applied) == 1


@pytest.mark.parametrize(
    ("now", "is_open", "expected"),
    [
        ("a\nb\n", True, "A\nb\n"),
        ("other\na\n", True, None),
        ("other\na\n", False, None),
        (None, False, None),
    ],
)
async def test_a_file_that_changes_while_it_is_not_open_is_left_alone(
    tmp_path: Path, now: str | None, is_open: bool, expected: str | None
) -> None:
    path = tmp_path / "c.py"
    path.write_text("a\nb\n")
    uri, edited = path.as_uri(), (tmp_path / "a.py").as_uri()

    def change() -> None:
        if is_open:
            assert now is not None
            world.editor.open(uri, now)
        elif now is None:
            path.unlink()
        else:
            path.write_text(now)

    world = World([block("c.py", ["a"], ["A"]), change])
    in_folder(world, tmp_path)
    world.editor.open(edited, "x\n")
    world.editor.put(uri, "a\nb\n")
    told = await world.run(uri=edited, files=(uri,))
    if expected is None:
        assert [(one["reason"], one["new"]) for one in told["rejected"]] == [("stale", ["A"])]
        assert world.editor.applied == []
    else:
        assert world.editor.texts[uri] == expected
        assert await world.jobs.revert() == "1 of 1 edits taken back"
        assert world.editor.texts[uri] == now


@pytest.mark.parametrize(
    ("data", "part"),
    [(None, "does not exist"), (b"\xff", "is not UTF-8 text: byte 0 is 0xff"), (b"a\0", "NUL")],
)
async def test_files_that_cannot_be_read_are_refused_at_once(
    tmp_path: Path, data: bytes | None, part: str
) -> None:
    path = tmp_path / "c.py"
    if data is not None:
        path.write_bytes(data)
    world = World()
    in_folder(world, tmp_path)
    for fields in ({"uri": path.as_uri()}, {"uri": "untitled:a", "files": (path.as_uri(),)}):
        world.editor.open("untitled:a", "x\n")
        with pytest.raises(UserError, match=part):
            world.start(**fields)
    assert world.editor.calls == []


@pytest.mark.parametrize("uri", ["file:///w", "untitled:gone", "file:///w/a%00b"])
async def test_what_is_no_file_is_refused(uri: str, tmp_path: Path) -> None:
    world = World()
    in_folder(world, tmp_path)
    world.parts.configure(Settings(target=SETTINGS.target, allow_outside_workspace=True))
    with pytest.raises(UserError):
        world.start(uri=uri if uri != "file:///w" else tmp_path.as_uri())


async def test_files_of_the_same_name_are_told_apart() -> None:
    world = World([block("a.py (2)", ["one"], ["1"])])
    world.editor.open("untitled:a.py", TEXT)
    await world.run()
    assert (world.text, world.editor.texts["untitled:a.py"]) == (TEXT, "1\ntwo\nthree\n")
    assert [segment.name for segment in world.engine.requests[0].segments][1:3] == ["a.py (2)", "a.py"]


async def test_secrets_and_ignored_files_are_no_neighbours() -> None:
    settings = Settings(target=SETTINGS.target, ignore=("/b.py", "gen/"), max_neighbours=2)
    world = World([ONE], settings=settings)
    world.workspace.folders = [Path("/w"), Path("/v")]
    for name in ("c", "d", "e", ".env", "b.py", "x/b.py", "gen/c.py", "id_rsa"):
        world.editor.open(f"file:///v/{name}", "x\n")
    world.editor.open("file:///outside/z.py", "x\n")
    world.editor.open("file:///v/big.py", "x" * 200_001)
    await world.run()
    assert [one.name for one in world.engine.requests[0].segments][1:-1] == ["v/e", "v/x/b.py", "w/a.py"]


async def test_lone_surrogates_never_reach_the_engine() -> None:
    world = World([ONE], text="one\n\ud800\n", constrains=True)
    await world.run()
    (request,) = world.engine.requests
    "".join(segment.text + segment.name for segment in request.segments).encode()
    assert request.grammar is not None
    request.grammar.encode()
    assert world.text == "1\n\ud800\n"


# What is refused at once.


async def test_requests_that_cannot_be_served() -> None:
    world = World()
    for fields, part in (
        ({"uri": "file:///elsewhere/a.py"}, "outside the workspace folders"),
        ({"files": ("file:///w/../etc/passwd",)}, "outside the workspace folders"),
        ({"instruction": " \n"}, "The instruction is empty"),
    ):
        with pytest.raises(UserError, match=part):
            world.start(**fields)
    assert world.engines == []


# Revert.


async def test_revert_takes_back_what_was_not_changed_since() -> None:
    world = World([ONE, THREE])
    await world.run()
    world.editor.type(URI, edit_of(world.text, "3", "3!"))
    assert await world.jobs.revert() == "1 of 2 edits taken back; the others were changed since and stay"
    assert world.text == "one\ntwo\n3!\n"
    world.editor.type(URI, edit_of(world.text, "two", "2"))
    assert await world.jobs.revert() == "0 of 1 edits taken back; the others were changed since and stay"
    assert world.text == "one\n2\n3!\n"


async def test_revert_without_an_edit() -> None:
    world = World(["\n"], [asyncio.Event()])
    with pytest.raises(UserError, match="no edit of singlepass"):
        await world.jobs.revert()
    await world.run()
    with pytest.raises(UserError, match="no edit of singlepass"):
        await world.jobs.revert()
    job = world.start()
    with pytest.raises(UserError, match="still running"):
        await world.jobs.revert()
    world.jobs.cancel()
    await world.editor.finish(job)


async def test_revert_means_the_last_job_that_changed_anything() -> None:
    world = World([ONE], ["\n"])
    await world.run()
    await world.run()
    assert await world.jobs.revert() == "1 of 1 edits taken back"
    assert world.text == TEXT
    with pytest.raises(UserError, match="no edit of singlepass"):
        await world.jobs.revert()


async def test_a_revert_under_which_somebody_types_on_and_on_can_be_tried_again() -> None:
    world = World([ONE])
    await world.run()
    world.editor.before_apply = lambda: world.editor.type(URI, Edit(0, 0, "x\n"))
    with pytest.raises(UserError, match="refused to take the edits back: the document changed"):
        await world.jobs.revert()
    world.editor.before_apply = lambda: None
    await world.jobs.revert()
    assert world.text == "x\n" * 8 + TEXT


async def test_kept_edits_are_reverted_too() -> None:
    world = World([ONE, THREE])
    await world.run()
    assert world.parts.reviews.keep(ALL) == 2
    assert await world.jobs.revert() == "2 of 2 edits taken back"
    assert world.text == TEXT


async def test_trying_again_ends_a_job_that_still_runs() -> None:
    decoding = asyncio.Event()
    world = World([ONE, decoding.set, asyncio.Event()], text="# AI: do\n" + TEXT)
    with pytest.raises(UserError, match="Nothing was asked for yet"):
        await world.jobs.retry()
    job = world.start(comment=CommentTask(0, 1, "do"), kind="quickfix", diagnostics=("bad",))
    await decoding.wait()
    world.editor.type(URI, Edit(0, 0, "typed\n"))
    asked = await world.jobs.retry()
    assert world.editor.states(job)[-1] == "cancelled"
    assert world.text == "typed\n# AI: do\n" + TEXT
    assert asked == {
        "uri": URI,
        "range": {"start": {"line": 1, "character": 0}, "end": {"line": 2, "character": 0}},
        "instruction": "Do it.",
        "title": "Do",
        "files": [],
        "kind": "quickfix",
        "diagnostics": ["bad"],
        "comment": 1,
    }
    with pytest.raises(UserError, match="There is no job 7 to try again"):
        await world.jobs.retry(7)


async def test_only_the_latest_requests_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("singlepass.jobs.jobs._MAX_ASKED", 2)
    world = World(*(["\n"] for _ in range(3)))
    for _ in range(3):
        await world.run()
    assert (await world.jobs.retry(2))["title"] == "Do"
    with pytest.raises(UserError, match="There is no job 1 to try again"):
        await world.jobs.retry(1)


# Prewarm and the engine.


async def prewarmed(world: World) -> None:
    """Wait for the prewarm that was asked for last."""
    newest = world.parts.prewarm.newest
    assert newest is not None
    await newest.ended.wait()


def estimate(world: World) -> str:
    """What a title says of an action in the first line."""
    return world.parts.forecast.titles(URI, 0, 0)("", "")


async def test_no_model_is_loaded_before_the_settings_are_known() -> None:
    world = World()
    world.parts.prewarm._settled = settled = anyio.Event()
    world.parts.prewarm.document(URI, 0)
    await asyncio.sleep(0.02)
    assert (world.engine.info, world.engine.prewarmed) == (None, [])
    settled.set()
    await prewarmed(world)
    assert len(world.engine.prewarmed) == 1


async def test_prewarm_waits_for_a_pause_and_is_not_repeated() -> None:
    world = World([ONE])
    for _ in range(3):
        world.parts.prewarm.document(URI, 0)
    await prewarmed(world)
    assert [[one.name for one in segments] for segments in world.engine.prewarmed] == [["system", "a.py"]]
    world.parts.prewarm.document(URI, 0)
    await prewarmed(world)
    assert len(world.engine.prewarmed) == 1
    world.editor.type(URI, Edit(0, 0, "x\n"))
    world.parts.prewarm.document(URI, 0)
    await prewarmed(world)
    assert len(world.engine.prewarmed) == 2
    await world.run()
    assert world.engine.requests[0].segments[:2] == world.engine.prewarmed[1]


async def test_near_files_that_have_no_place_in_the_prompt_are_drafted_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that stand in the prompt are not sent twice, and a prewarm has what the request has."""
    world = World([ONE], settings=msgspec.structs.replace(SETTINGS, max_neighbours=1))
    paths = [tmp_path / name for name in ("first.py", "second.py", "third.py")]
    for path in paths:
        path.write_text(f"# {path.name}\n")
    monkeypatch.setattr(world.parts.repository, "near", lambda uri: paths)
    world.parts.prewarm.document(URI, 0)
    await prewarmed(world)
    await world.run()
    (request,) = world.engine.requests
    assert request.draft is not None
    assert request.draft.corpus == ("# second.py\n", "# third.py\n")
    assert world.engine.corpora == [request.draft.corpus]
    prompt = "".join(segment.text for segment in request.segments)
    assert "first.py" in prompt
    assert "second.py" not in prompt


async def test_what_every_prompt_begins_with_is_read_before_a_document_is_open() -> None:
    world = World()
    world.parts.repository.map = "a.py\n"
    world.parts.workspace_opened()
    await prewarmed(world)
    (shared,) = world.engine.prewarmed
    assert [one.name for one in shared] == ["system", "repository map"]
    world.parts.prewarm.document(URI, 0)
    await prewarmed(world)
    assert world.engine.prewarmed[1][:2] == shared
    statuses = [told for method, told in world.editor.calls if method == "singlepass/status"]
    assert statuses == []
    await world.parts.aclose()


async def test_nothing_is_prewarmed_without_a_folder() -> None:
    world = World()
    world.workspace.folders = []
    world.parts.workspace_opened()
    assert world.parts.prewarm.newest is None


async def test_another_map_is_prewarmed_for_the_document_in_use() -> None:
    world = World()
    world.parts.prewarm.document(URI, 0)
    await prewarmed(world)
    for _ in range(2):  # the second finds nothing new
        world.parts.repository.map = "b.py\n"
        world.parts.repository.on_update()
        world.parts.prewarm.again(0)
        await prewarmed(world)
    names = [[one.name for one in segments] for segments in world.engine.prewarmed]
    assert names == [["system", "a.py"], ["system", "repository map", "a.py"]]


async def test_what_does_not_fit_is_left_out_before_it_is_prewarmed() -> None:
    world = World([ONE])
    world.engine.model = msgspec.structs.replace(world.engine.model, n_ctx=4000)
    world.editor.open(OTHER, "x = 1\n" * 500)
    world.parts.prewarm.document(URI, 0)
    await prewarmed(world)
    told = await world.run()
    (ahead,), (request,) = world.engine.prewarmed, world.engine.requests
    assert [one.name for one in ahead] == ["system", "a.py"]
    assert request.segments[:-1] == ahead
    assert told["left_out"] == ["b.py"]
    assert world.engine.n_inspected == 1  # the job knows what the prewarm found out


@pytest.mark.parametrize("is_prewarmed", [False, True])
async def test_what_is_left_out_is_told_whether_or_not_it_was_prewarmed(
    tmp_path: Path, is_prewarmed: bool
) -> None:
    """Here a file near the document that is too long to stand beside it."""
    near = tmp_path / "near.py"
    near.write_text("value = 1\n" * 3000)
    edited = tmp_path / "a.py"
    edited.write_text(TEXT)
    world = World([block("a.py", ["one"], ["1"])])
    world.workspace.folders = [tmp_path]
    world.parts.repository.near = lambda uri: (near,)  # type: ignore[method-assign]
    world.editor.open(edited.as_uri(), TEXT)
    if is_prewarmed:
        world.parts.prewarm.document(edited.as_uri(), 0)
        await prewarmed(world)
    told = await world.run(uri=edited.as_uri())
    assert told["outcome"] == "done"
    assert told["left_out"] == ["near.py"]
    assert "left out of the prompt: near.py" in told["message"]


async def test_a_prewarm_carries_the_grammar_of_the_request() -> None:
    world = World([ONE], constrains=True)
    world.parts.prewarm.document(URI, 0)
    await prewarmed(world)
    await world.run()
    assert world.engine.grammars == [world.engine.requests[0].grammar]
    assert world.engine.grammars[0] is not None


async def test_a_prewarm_that_failed_is_tried_again_in_silence() -> None:
    world = World()
    world.engine.fails = BackendError("engine_lost", "gone")
    world.parts.prewarm.document(URI, 0)
    await prewarmed(world)
    world.engine.fails = None
    world.parts.prewarm.document(URI, 0)
    await prewarmed(world)
    assert len(world.engine.prewarmed) == 1
    assert world.editor.calls == []


async def test_no_prewarm_where_it_is_turned_off() -> None:
    world = World(settings=Settings(target=SETTINGS.target, prewarm=False))
    world.parts.prewarm.document(URI, 0)
    assert world.parts.prewarm.newest is None


async def test_no_prewarm_beside_a_job() -> None:
    world = World([asyncio.Event()])
    job = world.start()
    world.parts.prewarm.document(URI, 0)
    await prewarmed(world)
    assert world.engine.prewarmed == []
    world.jobs.cancel()
    await world.editor.finish(job)


async def test_the_status_tells_how_warm_a_document_is() -> None:
    world = World([ONE])
    world.parts.prewarm.document(URI, 0)
    await prewarmed(world)
    told = world.engine.on_prewarm
    assert told is not None
    told(PrefillProgress(200, 20, 20, 0.0, None))
    told(PrefillProgress(200, 20, 126, 50.0, 30.0))
    assert world.parts.targets.cached(DEFAULT, URI) == (126, 74)
    assert world.parts.targets.cached(DEFAULT, "file:///other.py") is None
    told(Finished("stop", TIMINGS))
    statuses = [told for method, told in world.editor.calls if method == "singlepass/status"]
    states = [(one["state"], one["message"], one["job"], one["uri"], one["eta_ms"]) for one in statuses]
    assert states == [
        ("warming", "warming 10%", None, URI, None),
        ("warming", "warming 63%", None, URI, 30.0),
        ("warm", "warm", None, URI, None),
    ]


async def test_a_prewarm_is_asked_for_again_unless_it_still_runs() -> None:
    """The engine knows what it holds, the server does not. What runs would only be interrupted."""
    world = World()

    async def ask() -> int:
        world.parts.prewarm.document(URI, 0)
        await prewarmed(world)
        return len(world.engine.prewarmed)

    assert await ask() == 1
    for event in (Finished("stop", TIMINGS), Finished("cancelled", TIMINGS), None):
        n_asked = len(world.engine.prewarmed)
        assert await ask() == n_asked
        assert world.engine.on_prewarm is not None
        world.engine.on_prewarm(event)
        assert await ask() == n_asked + 1
    # The end of one that was replaced says nothing of the one that runs.
    replaced = world.engine.on_prewarm
    world.editor.type(URI, Edit(0, 0, "x\n"))
    n_asked = await ask()
    assert replaced is not None
    replaced(Finished("cancelled", TIMINGS))
    assert await ask() == n_asked


async def test_what_is_known_of_an_engine_ends_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Status, titles and routing count on nothing that it had cached, and the next prewarm is a whole one."""
    monkeypatch.setenv("SINGLEPASS_STATE_DIR", str(tmp_path))
    spent = Timings(n_prompt=900, n_cached=0, n_prefilled=900, n_decoded=9, prefill_ms=9000, decode_ms=900)
    world = World([Finished("stop", spent)], [Finished("stop", spent)])
    world.engine.model = msgspec.structs.replace(world.engine.model, n_ctx=4000)
    world.editor.open(OTHER, "x = 1\n" * 500)
    await world.run()
    world.parts.prewarm.document(URI, 0)
    await prewarmed(world)
    assert world.engine.on_prewarm is not None
    world.engine.on_prewarm(PrefillProgress(n_prompt=850, n_cached=0, n_done=850, elapsed_ms=0, eta_ms=None))
    world.engine.on_prewarm(Finished("stop", spent))
    n_inspected = world.engine.n_inspected
    assert estimate(world) != ""

    world.engine.end()
    assert world.editor.told("singlepass/status")[-1]["state"] == "cold"
    assert world.parts.targets.cached(DEFAULT, URI) is None
    assert world.parts.targets.n_ctx(DEFAULT) != 4000
    assert estimate(world) == ""
    (option,) = (await world.run())["options"]
    assert option["prefill_s"] == pytest.approx(9)

    world.parts.prewarm.document(URI, 0)
    await prewarmed(world)
    assert len(world.engine.prewarmed) == 2
    assert world.engine.n_inspected > n_inspected  # how much fits is found out anew


async def test_what_other_requests_evict_counts_as_uncached() -> None:
    world = World()
    world.parts.prewarm.document(URI, 0)
    await prewarmed(world)
    told = world.engine.on_prewarm
    assert told is not None
    told(PrefillProgress(850, 0, 850, 0.0, None))
    told(Finished("stop", TIMINGS))
    told(Evicted(600))
    assert world.parts.targets.cached(DEFAULT, URI) == (250, 600)
    told(Evicted(50))
    assert world.parts.targets.cached(DEFAULT, URI) == (200, 650)
    states = [one["state"] for one in world.editor.told("singlepass/status")]
    assert states == ["warm", "cold"]


async def test_only_what_was_told_as_warm_grows_cold() -> None:
    world = World()
    world.parts.prewarm.document(URI, 0)
    await prewarmed(world)
    world.engine.end()
    assert world.editor.told("singlepass/status") == []


async def test_an_estimate_needs_rates_and_knowledge_of_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SINGLEPASS_STATE_DIR", str(tmp_path))
    slow = Timings(
        n_prompt=1000, n_cached=0, n_prefilled=1000, n_decoded=50, prefill_ms=10_000, decode_ms=5000
    )
    segments = SegmentUse("a.py", 910, 0), SegmentUse("task", 90, 0)
    world = World([Finished("stop", slow, segments)], [Finished("stop", slow)])
    assert estimate(world) == ""
    await world.run()
    known = world.parts.history.rates(rates_key(SETTINGS.target))
    assert known is not None
    (kept,) = known.records
    assert (kept.n_selected, kept.n_task) == (len("one"), 90)
    assert kept.other_ms is not None
    assert estimate(world) == ""
    world.parts.prewarm.document(URI, 0)
    await prewarmed(world)
    assert world.engine.on_prewarm is not None
    world.engine.on_prewarm(PrefillProgress(2000, 0, 2000, 0.0, None))
    assert estimate(world) == " · ~6 s"  # 90 tokens of task at 100 tok/s, 50 of reply at 10
    await world.run()
    first, second = sorted(read(tmp_path / "requests.sqlite3"), key=lambda one: one.at)
    assert first.estimate_ms is None
    assert second.estimate_ms == pytest.approx(5900, rel=0.05)  # what the title said, as `stats` compares it
    world.parts.configure(msgspec.structs.replace(world.parts.settings, estimates=False))
    assert estimate(world) == ""


async def test_the_context_of_a_document() -> None:
    world = World()
    told = await world.parts.contexts.show(URI)
    assert [(one["name"], one["n_cached"]) for one in told["segments"]] == [("system", 0), ("a.py", 0)]
    assert told["left_out"] == []


@pytest.mark.parametrize(("n_tokens", "is_told"), [(1204, True), (31, False)])
async def test_what_was_read_again_is_explained(n_tokens: int, is_told: bool) -> None:
    finished = Finished("stop", TIMINGS, (SegmentUse("a.py", 9, 0),), Miss("a.py", n_tokens, "changed"))
    world = World([finished])
    told = await world.run()
    assert (told["miss"] == f"`a.py` changed: {n_tokens:,} tokens read again") == is_told
    assert (" tokens read again" in told["message"]) == is_told
    assert told["segments"] == [{"name": "a.py", "n_tokens": 9, "n_cached": 0}]


async def test_neighbours_stand_as_last_saved() -> None:
    """Typing in one document leaves the prompts of the others as they are."""
    world = World([ONE], [ONE])
    world.editor.open(OTHER, "saved\n")
    world.editor.type(OTHER, Edit(0, 0, "typed "))
    await world.run()
    texts = [[one.text for one in world.engine.requests[0].segments if one.name == "b.py"]]
    document = world.documents.get(OTHER)
    assert document is not None
    document.save(1.0)
    await world.run()
    texts += [[one.text for one in world.engine.requests[1].segments if one.name == "b.py"]]
    assert "typed" not in texts[0][0]
    assert "typed saved" in texts[1][0]


async def test_another_target_gets_another_engine() -> None:
    world = World([ONE])
    await world.run()
    world.parts.prewarm.document(URI, 0)
    await prewarmed(world)
    world.parts.configure(Settings(target=SETTINGS.target, max_tokens=5))
    assert world.engine.n_closed == 0
    world.parts.configure(Settings(target=Target(model="other.gguf")))
    world.parts.prewarm.document(URI, 0)
    await prewarmed(world)
    assert [target.model for target, _ in world.engines] == ["m.gguf", "other.gguf"]
    assert world.engine.n_closed == 1
    assert len(world.engines[1][1].prewarmed) == 1
    await world.parts.aclose()
    assert [engine.n_closed for _, engine in world.engines] == [1, 1]


async def test_shutdown_ends_everything() -> None:
    world = World([ONE, asyncio.Event()])
    await settle()
    tasks = asyncio.all_tasks()
    job = world.start()
    await world.editor.until(job, "decode")
    world.parts.prewarm.document(URI, 0)
    world.parts.configure(Settings(target=Target(model="other.gguf")))  # the engine is left when the job ends
    world.parts.prewarm.again(0)
    await world.parts.aclose()
    assert (await world.editor.finish(job))["outcome"] == "cancelled"
    assert all(engine.n_closed == 1 for _, engine in world.engines)
    assert asyncio.all_tasks() < tasks  # nothing outlives its owner


async def test_random_weights_are_said_to_be_random() -> None:
    world = World([ONE])
    world.engine.model = ModelInfo(backend="fake", name=RANDOM_MODEL_NAME)
    told = await world.run()
    assert "random weights" in told["message"]
    grammar = world.engine.requests[0].grammar
    assert grammar is not None
    assert "~0..4" in grammar or "{0,4}" in grammar


async def test_a_closed_document_takes_its_diagnostics_along() -> None:
    world = World([ONE])
    await world.run()
    document = world.documents.get(URI)
    assert document is not None
    world.documents.close(URI)
    world.parts.jobs.document_closed(document)
    assert world.editor.told("publish")[-1] == (URI, None, [])


# What is kept of them.


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of the history, of this test alone."""
    monkeypatch.setenv("SINGLEPASS_STATE_DIR", str(tmp_path))
    return tmp_path / "requests.sqlite3"


async def test_what_a_job_took_is_kept(kept: Path) -> None:
    finished = Finished("stop", TIMINGS, (), Miss("a.py", 40, "changed"))
    world = World([ONE, block("a.py", ["nothing"], ["1"]), finished])
    await world.run(kind="quickfix")
    world.parts.reviews.keep(ALL)
    await world.parts.aclose()
    (found,) = read(kept)
    assert (found.outcome, found.finish_reason, found.kind) == ("done", "stop", "quickfix")
    assert (found.repository, found.target, found.model) == ("/w", "default", "fake model")
    assert found.timings == TIMINGS
    assert found.total_ms >= (found.ttft_ms or 0) > 0
    assert (found.miss, found.n_missed) == ("changed", 40)
    assert (found.n_hunks, found.n_applied, found.n_edits, found.n_kept) == (2, 1, 1, 1)
    assert found.rejected == {"not_found": 1}
    assert found.day
    everything = msgspec.json.encode(found)
    assert b"a.py" not in everything  # no code, no instruction, no name of a file
    assert b"Do it" not in everything


@pytest.mark.parametrize(
    ("review", "path", "was_asked"),
    [("stream", "a.py", False), ("confirm", "a.py", True), ("stream", ".envrc", True)],
)
async def test_the_time_in_which_the_user_was_asked_is_nobody_elses(
    review: Any, path: str, was_asked: bool, kept: Path
) -> None:
    world = World([block(path, ["one"], ["1"])], settings=Settings(target=SETTINGS.target, review=review))
    uri = f"file:///w/{path}"
    world.editor.open(uri, TEXT)
    await world.run(uri=uri)
    await world.parts.aclose()
    (found,) = read(kept)
    assert (found.other_ms is None) == was_asked
    assert (found.rates_key, found.n_selected) == (rates_key(SETTINGS.target), len("one"))


async def test_jobs_that_fail_or_are_cancelled_are_kept_as_such(kept: Path) -> None:
    gate = asyncio.Event()
    world = World([BackendError("out_of_memory", "No memory.")], [ONE, gate])
    await world.run()
    job = world.start()
    await world.editor.until(job, "decode")
    world.jobs.cancel()
    await world.editor.finish(job)
    await world.parts.aclose()
    failed, cancelled = read(kept)
    assert (failed.outcome, failed.error, failed.ttft_ms) == ("failed", "out_of_memory", None)
    assert (cancelled.outcome, cancelled.error) == ("cancelled", "")
    assert (cancelled.finish_reason, cancelled.timings.n_decoded) == ("", 1)  # as far as it came


async def test_nothing_is_kept_where_the_user_wants_none(kept: Path) -> None:
    world = World([ONE], settings=Settings(target=Target(model="m.gguf"), stats=False))
    await world.run()
    await world.parts.aclose()
    assert read(kept) == []


async def test_a_history_that_cannot_be_written_costs_no_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SINGLEPASS_STATE_DIR", "/dev/null/state")
    world = World([ONE])
    assert (await world.run())["outcome"] == "done"
    await world.parts.aclose()
