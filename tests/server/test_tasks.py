"""Nothing outlives its owner: what is counted is every task of the loop, before and after."""

import asyncio
import contextlib
import json
import os
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint
from server.fakes import FakeEngine
from server.test_jobs import (
    ONE,
    SETTINGS,
    URI,
    World,
    current,  # pyright: ignore[reportUnusedImport]  # noqa: F401  # a fixture
    settle,
)
from singlepass.config import Settings
from singlepass.editor.tasks import Owner, Work, first, in_thread, shielded_for
from singlepass.lsp.app import build_server
from singlepass.lsp.stdio import Connection
from singlepass_backends.base import BackendError, Target

pytestmark = pytest.mark.anyio


@pytest.fixture
async def owner(anyio_backend: str) -> AsyncIterator[Owner]:
    async with anyio.create_task_group() as tasks:
        found = Owner()
        tasks.start_soon(found.run)
        yield found
        await found.aclose()


async def failing() -> None:
    raise ValueError("no")


async def test_work_begins_before_or_after_its_owner_and_fails_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    owner, started = Owner(), list[str]()

    async def note(name: str) -> None:
        started.append(name)

    early = owner.start(note, "early")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(owner.run)
        await early.ended.wait()
        await owner.start(failing).ended.wait()
        await owner.start(note, "after an error").ended.wait()
        await owner.aclose()
        assert owner.start(note, "too late").ended.is_set()
    assert started == ["early", "after an error"]
    assert "failed inside singlepass" in caplog.text


async def test_a_future_of_pygls_that_is_cancelled_ends_who_waits_for_it_alone(owner: Owner) -> None:
    answer: asyncio.Future[None] = asyncio.Future()

    async def wait() -> None:
        await answer

    waiting, other = owner.start(wait), owner.start(anyio.sleep_forever)
    await settle()
    answer.cancel()
    await waiting.ended.wait()
    await settle()
    assert not other.ended.is_set()


@pytest.mark.parametrize("ending", ["result", "error", "cancel"])
async def test_the_future_of_a_handler(owner: Owner, ending: str) -> None:
    ended = anyio.Event()

    async def handler(number: int) -> int:
        try:
            await checkpoint()
            if ending == "cancel":
                await anyio.sleep_forever()
            if ending == "error":
                raise ValueError
            return number
        finally:
            ended.set()

    future = owner.future(handler, 7)
    await settle()
    if ending == "cancel":
        future.cancel()
    await asyncio.wait([future])
    await ended.wait()
    match ending:
        case "result":
            assert future.result() == 7
        case "error":
            assert isinstance(future.exception(), ValueError)
        case _:
            assert future.cancelled()


@pytest.mark.parametrize(("within_s", "is_finished"), [(60, True), (0, False)])
async def test_what_must_be_finished_goes_on_after_a_cancel(
    owner: Owner, within_s: float, is_finished: bool
) -> None:
    gate, seen = anyio.Event(), list[str]()

    async def job() -> None:
        async with shielded_for(within_s):
            await gate.wait()
            seen.append("finished")
        seen.append("went on")

    work = Work()
    owner.start(job, work=work)
    await settle()
    work.cancel()
    await settle()
    gate.set()
    await work.ended.wait()
    assert seen == (["finished"] if is_finished else [])


async def test_an_error_in_what_must_be_finished_is_that_error() -> None:
    with pytest.raises(ValueError, match="no"):
        async with shielded_for(1):
            await failing()


async def test_the_first_of_several_ends_the_others() -> None:
    before = asyncio.all_tasks()
    await first(anyio.sleep_forever, checkpoint, anyio.sleep_forever)
    assert asyncio.all_tasks() == before


async def test_a_thread_that_hangs_keeps_no_cancelled_job(owner: Owner) -> None:
    gate = threading.Event()
    work = owner.start(in_thread, gate.wait)
    await settle()
    work.cancel()
    await work.ended.wait()
    gate.set()


# Jobs, prewarms, engines.


async def cancelled(world: World) -> None:
    job = world.start()
    await world.editor.until(job, "decode")
    world.jobs.cancel(job)
    await world.editor.finish(job)


async def killed(world: World) -> None:
    job = world.start()
    await world.editor.finish(job)
    world.engine.end()


async def prewarmed(world: World) -> None:
    world.parts.prewarm.document(URI, 0)
    newest = world.parts.prewarm.newest
    assert newest is not None
    await newest.ended.wait()


async def another_target(world: World) -> None:
    world.parts.configure(Settings(target=Target(model="other.gguf")))
    world.parts.prewarm.document(URI, 0)
    await prewarmed(world)
    world.parts.configure(SETTINGS)


DIED = BackendError("engine_lost", "The engine died.")


@pytest.mark.parametrize(
    ("script", "act", "n"),
    [
        ([], World.run, 20),
        ([ONE, asyncio.Event()], cancelled, 3),
        ([DIED], killed, 3),
        ([], prewarmed, 3),
        ([], another_target, 3),
    ],
)
async def test_as_many_tasks_as_before(script: list[Any], act: Callable[[World], Any], n: int) -> None:
    world = World(*[script] * n)
    await settle()
    before = asyncio.all_tasks()
    for _ in range(n):
        await act(world)
    await settle()
    assert asyncio.all_tasks() == before


# The connection.


def message(**fields: Any) -> bytes:
    body = json.dumps({"jsonrpc": "2.0", **fields}).encode()
    return b"Content-Length: %d\r\n\r\n%b" % (len(body), body)


@pytest.mark.parametrize("ending", ["exit", "end of input", "output lost"])
async def test_nothing_outlives_the_connection(ending: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a handler, a job, a prewarm and a request to the editor that would all wait for ever."""
    engine = FakeEngine()
    engine.connecting = asyncio.Event()
    monkeypatch.setattr("singlepass_backends.client.EngineClient", lambda *_, **__: engine)
    document = {"uri": "file:///w/a.py", "languageId": "python", "version": 1, "text": "one\n"}
    asked = {"command": "singlepass.edit", "arguments": [{"uri": document["uri"], "instruction": "Do."}]}
    asked["arguments"][0]["range"] = {
        "start": {"line": 0, "character": 0},
        "end": {"line": 0, "character": 1},
    }
    can = {"workspace": {"applyEdit": True, "configuration": True}, "window": {"workDoneProgress": True}}
    initialize = {"processId": os.getpid(), "rootUri": "file:///w", "capabilities": can}
    messages = [
        message(id=1, method="initialize", params=initialize),
        message(method="initialized", params={}),  # it waits for the editor's settings
        message(method="textDocument/didOpen", params={"textDocument": document}),
        message(id=2, method="workspace/executeCommand", params=asked),
    ]
    (server_in, editor_out), (editor_in, server_out) = os.pipe(), os.pipe()
    os.set_blocking(editor_in, False)
    before = asyncio.all_tasks()
    server = build_server()
    codes = list[int]()

    async def connection() -> None:
        codes.append(await Connection(server, server_in, server_out).run())

    parts = server.protocol.parts  # type: ignore[attr-defined]
    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(connection)
            os.write(editor_out, b"".join(messages[:3]))
            await settle()
            parts.settled.set()
            os.write(editor_out, messages[3])
            while not parts.jobs.is_busy:  # noqa: ASYNC110 - of the thread that reads
                await anyio.sleep(0.01)
            parts.prewarm.document(document["uri"], 0)
            await settle()
            if ending == "exit":
                os.write(editor_out, message(method="exit"))
            elif ending == "output lost":
                os.close(editor_in)
                parts.editor.log("to nobody")
            else:
                os.close(editor_out)
    assert codes == [1]
    assert asyncio.all_tasks() == before
    for descriptor in {server_in, editor_out, editor_in, server_out}:
        with contextlib.suppress(OSError):
            os.close(descriptor)
