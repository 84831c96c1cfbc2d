"""The engine's service inside this process, over a real socket, with a model that waits for the test."""

import asyncio
import contextlib
import logging
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.abc import ByteStream, Listener
from fake_driver import FakeDriver
from singlepass_backends import __version__
from singlepass_backends.base import (
    Backend,
    BackendError,
    Event,
    Evicted,
    Finished,
    GenerateRequest,
    PrefillProgress,
    Segment,
    Target,
    TextChunk,
)
from singlepass_backends.client import EngineClient
from singlepass_backends.engine import service as service_module
from singlepass_backends.engine.scheduler import Scheduler
from singlepass_backends.engine.service import EXIT_LOAD_FAILED, Service
from singlepass_backends.generation.loop import InProcessBackend
from singlepass_backends.runtime_dir import engine_paths
from singlepass_backends.wire import (
    PROTOCOL,
    Cancel,
    ClientMessage,
    Generate,
    Hello,
    StatusReply,
    StatusRequest,
    encode,
)

SYSTEM = Segment("rules", "Edit files. " * 10, "system")
REQUEST = GenerateRequest((SYSTEM, Segment("task", "Fix.")), max_tokens=4)


class Gate:
    """Stops the model thread before the forward passes whose numbers (from 1) are in `stops`."""

    def __init__(self, *stops: int) -> None:
        self.stops = set(stops)
        self.n_passes = 0
        self.reached = threading.Event()
        self.open = threading.Event()

    def __call__(self) -> None:
        self.n_passes += 1
        if self.n_passes in self.stops:
            self.reached.set()
            assert self.open.wait(20)
            self.open.clear()

    async def wait_reached(self) -> None:
        await asyncio.to_thread(self.reached.wait, 20)
        assert self.reached.is_set()
        self.reached.clear()


class ObservedScheduler(Scheduler):
    """Tells when a job ended."""

    on_finish: Callable[[], None]

    def finish(self) -> None:
        super().finish()
        self.on_finish()


class ObservedService(Service):
    """Tells when something changed that its status shows, so that a test need not ask again and again."""

    def __init__(self, target: Target, open_backend: Callable[..., Backend], idle_exit_s: float) -> None:
        super().__init__(target, open_backend, idle_exit_s)
        self.changed = asyncio.Event()
        self.is_stopped = asyncio.Event()
        self._scheduler = ObservedScheduler()
        self._scheduler.on_finish = self.changed.set

    async def attend(self, stream: ByteStream) -> None:
        await super().attend(stream)
        self.changed.set()

    def greeted(self, connection: Any) -> None:
        super().greeted(connection)
        self.changed.set()

    def received(self, connection: Any, message: ClientMessage) -> None:
        super().received(connection, message)
        if not isinstance(message, StatusRequest):
            self.changed.set()

    def stop(self) -> None:
        super().stop()
        self.is_stopped.set()


class Client(EngineClient):
    """A client that can wait for a state of the engine."""

    service: ObservedService

    async def until(self, condition: Callable[[StatusReply], bool]) -> None:
        async with asyncio.timeout(20):
            while True:
                self.service.changed.clear()
                status = await self.status()
                if status is not None and condition(status):
                    return
                await self.service.changed.wait()


class Heard:
    """The events of a request, for `on_event`."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._is_finished = asyncio.Event()

    def __call__(self, event: Event) -> None:
        self.events.append(event)
        if isinstance(event, Finished):
            self._is_finished.set()

    async def finished(self) -> Finished:
        await asyncio.wait_for(self._is_finished.wait(), 20)
        return finished(self.events)


Wrap = Callable[[Listener[ByteStream]], Listener[ByteStream]]


@contextlib.asynccontextmanager
async def serving(
    folder: Path, open_backend: Callable[..., Backend], idle_exit_s: float = 100, wrap: Wrap = lambda one: one
) -> AsyncIterator[tuple[Client, "asyncio.Task[int]"]]:
    """A client of a service in this process, and the service's task."""
    model = folder / "model.json"
    model.write_text('{"name": "recorded", "replies": []}')
    target = Target(backend="scripted", model=str(model))
    path = engine_paths(target, folder).socket
    before = asyncio.all_tasks()
    service = ObservedService(target, open_backend, idle_exit_s)
    listener = wrap(await anyio.create_unix_listener(path))
    task = asyncio.create_task(service.run(listener, path.unlink))
    client = Client(target, runtime_dir=folder)
    client.service = service
    try:
        yield client, task
    finally:
        await client.aclose()
        service.stop()
        await task
        # Nothing outlives its owner, whatever the test did.
        others = asyncio.all_tasks() - {asyncio.current_task()} - before
        assert not [one for one in others if not one.done()]


@pytest.fixture(autouse=True)
def no_thread_outlives_the_event_loop() -> Iterator[None]:
    before = threading.enumerate()
    yield
    for thread in set(threading.enumerate()) - set(before):
        thread.join(20)  # one that was told to end
        assert not thread.is_alive()


def fake(driver: FakeDriver) -> Callable[..., Backend]:
    return lambda _target, _on_progress: InProcessBackend(driver)


async def collect(client: EngineClient, request: GenerateRequest = REQUEST) -> list[Event]:
    return [event async for event in client.generate(request)]


def finished(events: list[Event]) -> Finished:
    assert isinstance(events[-1], Finished)
    return events[-1]


def test_foreground_waits_for_at_most_one_chunk_of_prewarm(folder: Path) -> None:
    async def main() -> None:
        gate = Gate(3)
        driver = FakeDriver(reply=b"ok", n_batch=16, on_forward=gate)
        async with serving(folder, fake(driver)) as (client, _):
            await client.prewarm((SYSTEM, Segment("big", "x" * 1000)))
            await gate.wait_reached()  # the third chunk of the prewarm is running
            request = asyncio.create_task(collect(client))
            await client.until(lambda status: status.n_queued > 0)
            gate.open.set()
            timings = finished(await request).timings
            assert timings.n_cached == 3 * 16  # what the prewarm did is not lost
            n_chunks = -(-timings.n_prefilled // 16)
            assert len(driver.passes) == 3 + n_chunks + timings.n_forward

    asyncio.run(main())


def test_an_inspection_is_answered_within_a_chunk_and_stops_nothing(folder: Path) -> None:
    async def main() -> None:
        gate = Gate(3, 4)
        driver = FakeDriver(reply=b"ok", n_batch=16, on_forward=gate)
        async with serving(folder, fake(driver)) as (client, _):
            await client.connect()
            big = (SYSTEM, Segment("big", "x" * 100))
            prewarmed = Heard()
            await client.prewarm(big, on_event=prewarmed)
            await gate.wait_reached()
            asked = asyncio.create_task(client.inspect(big))
            await asyncio.sleep(0)
            assert await client.status()  # answered after the inspection was read
            gate.open.set()
            await gate.wait_reached()  # the next chunk: the one before it is counted
            uses = await asked
            assert uses is not None
            assert [use.name for use in uses] == ["rules", "big"]
            assert sum(use.n_cached for use in uses) == 3 * 16
            gate.open.set()
            end = await prewarmed.finished()
            done = [event.n_done for event in prewarmed.events if isinstance(event, PrefillProgress)]
            assert done == sorted(done)
            assert done[0] == 0
            assert end.finish_reason == "stop"
            assert done[-1] == end.timings.n_prompt
            uses = await client.inspect(big)
            assert uses is not None
            assert uses[0].n_cached == uses[0].n_tokens

    asyncio.run(main())


def test_an_inspection_starts_no_engine_and_its_errors_are_told(folder: Path) -> None:
    async def main() -> None:
        async with serving(folder, fake(FakeDriver())) as (client, task):
            await client.connect()
            with pytest.raises(BackendError, match="cannot be sent"):
                await client.inspect((Segment("bad", "\udc00"),))
            assert await client.stop()
            await task
            assert await client.inspect(REQUEST.segments) is None

    asyncio.run(main())


def test_a_prewarm_that_is_replaced_says_so(folder: Path) -> None:
    async def main() -> None:
        gate = Gate(1)
        driver = FakeDriver(reply=b"ok", n_batch=16, on_forward=gate)
        async with serving(folder, fake(driver)) as (client, _):
            working = asyncio.create_task(collect(client))
            await gate.wait_reached()
            heard = Heard()
            await client.prewarm((SYSTEM,), on_event=heard)
            await client.prewarm((SYSTEM, Segment("b", "x")))
            assert (await heard.finished()).finish_reason == "cancelled"
            gate.open.set()
            await working

    asyncio.run(main())


def test_who_prewarmed_is_told_what_others_evict(folder: Path) -> None:
    """Once, and not of what takes the place of its own earlier prewarm."""

    async def main() -> None:
        driver = FakeDriver(reply=b"ok", n_batch=64, n_ctx=600)
        document = (SYSTEM, Segment("a", "a" * 250))

        async def prewarm(client: EngineClient, segments: tuple[Segment, ...]) -> list[Any]:
            events: list[Any] = []
            await client.prewarm(segments, on_event=events.append)
            while not any(isinstance(event, Finished) for event in events):
                assert await client.status()
            return events

        async def n_cached(client: EngineClient) -> int:
            return sum(use.n_cached for use in await client.inspect(document) or ())

        async with serving(folder, fake(driver)) as (client, _):
            other = EngineClient(client.target, runtime_dir=folder)
            await client.connect()
            replaced = await prewarm(client, (SYSTEM, Segment("a", "b" * 250)))
            told = await prewarm(client, document)
            n_before = await n_cached(client)
            await prewarm(other, (SYSTEM, Segment("c", "c" * 20)))  # there is room for both
            assert await n_cached(client) == n_before
            n_told = len(told)
            await prewarm(other, (SYSTEM, Segment("d", "d" * 350)))
            n_lost = n_before - await n_cached(client)
            assert n_lost > 0
            with anyio.fail_after(10):
                while len(told) == n_told:  # an event is handled by a task of its own
                    await client.status()
            assert told[n_told:] == [Evicted(n_lost)]
            await prewarm(other, (SYSTEM, Segment("d", "d" * 340)))
            assert await client.status()
            assert len(told) == n_told + 1
            assert not any(isinstance(event, Evicted) for event in replaced)
            await other.aclose()

    asyncio.run(main())


def test_the_backend_rests_once_after_each_activity(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        monkeypatch.setattr(service_module, "REST_AFTER_S", 0.02)
        rested = threading.Semaphore(0)

        class Resting(InProcessBackend):
            def rest(self) -> None:
                rested.release()
                raise OSError("the disk is gone")

        backend = Resting(FakeDriver(reply=b"ok"))
        async with serving(folder, lambda _target, _on_progress: backend) as (client, _):
            for _ in range(3):
                await collect(client)
                assert await asyncio.to_thread(rested.acquire, timeout=20)
                await asyncio.sleep(0.1)
                assert not rested.acquire(blocking=False)

    asyncio.run(main())


def test_the_model_is_called_on_one_thread(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        monkeypatch.setattr(service_module, "REST_AFTER_S", 0.02)
        threads: list[tuple[str, int]] = []
        rested = threading.Event()

        def note(what: str) -> None:
            threads.append((what, threading.get_ident()))

        class Noting(InProcessBackend):
            def inspect(self, segments: tuple[Segment, ...]) -> Any:
                note("inspect")
                return super().inspect(segments)

            def rest(self) -> None:
                note("rest")
                rested.set()

            def close(self) -> None:
                note("close")
                super().close()

        def load(_target: Target, _on_progress: Callable[[float], bool]) -> Backend:
            note("load")
            return Noting(FakeDriver(reply=b"ok", on_forward=lambda: note("forward")))

        async with serving(folder, load) as (client, _):
            for _ in range(3):
                rested.clear()
                await asyncio.gather(*(collect(client) for _ in range(3)), client.inspect(REQUEST.segments))
                await asyncio.to_thread(rested.wait, 20)
        assert {what for what, _ in threads} == {"load", "forward", "inspect", "rest", "close"}
        assert len({thread for _, thread in threads}) == 1
        assert threads[0][1] != threading.get_ident()

    asyncio.run(main())


def test_closing_the_iterator_cancels(folder: Path) -> None:
    async def main() -> None:
        gate = Gate(2)
        driver = FakeDriver(n_batch=16, on_forward=gate)
        async with serving(folder, fake(driver)) as (client, _):
            events = client.generate(REQUEST)
            assert isinstance(await anext(events), PrefillProgress)
            await gate.wait_reached()
            await events.aclose()
            assert await client.status()  # answered after the cancel was read
            gate.open.set()
            await client.until(lambda status: not status.busy)
            assert len(driver.passes) == 2

    asyncio.run(main())


def test_a_lost_connection_cancels_its_requests_only(folder: Path) -> None:
    async def main() -> None:
        gate = Gate(2)
        driver = FakeDriver(reply=b"ok", n_batch=16, on_forward=gate)
        async with serving(folder, fake(driver)) as (client, _):
            other = EngineClient(client.target, runtime_dir=folder)
            lost = asyncio.create_task(collect(other))
            await gate.wait_reached()
            waiting = asyncio.create_task(collect(client))
            await client.until(lambda status: status.n_queued > 0)
            await other.aclose()
            await client.until(lambda status: status.n_clients == 1)
            gate.open.set()
            assert finished(await waiting).finish_reason == "stop"
            with pytest.raises(BackendError) as caught:
                await lost
            assert caught.value.code == "engine_lost"

    asyncio.run(main())


def test_a_queued_request_can_be_cancelled(folder: Path) -> None:
    async def main() -> None:
        gate = Gate(1)
        driver = FakeDriver(reply=b"ok", on_forward=gate)
        async with serving(folder, fake(driver)) as (client, _):
            first = asyncio.create_task(collect(client))
            await gate.wait_reached()
            second = asyncio.create_task(collect(client))
            await client.until(lambda status: status.n_queued > 0)
            second.cancel()
            with pytest.raises(asyncio.CancelledError):
                await second
            await client.until(lambda status: status.n_queued == 0)
            gate.open.set()
            assert finished(await first).finish_reason == "stop"

    asyncio.run(main())


def test_stopping_ends_what_runs_and_what_is_queued(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    async def main() -> None:
        gate = Gate(1)
        async with serving(folder, fake(FakeDriver(on_forward=gate))) as (client, task):
            requests = [asyncio.create_task(collect(client)) for _ in range(3)]
            await gate.wait_reached()
            await client.until(lambda status: status.n_queued == 2)
            stopping = asyncio.create_task(client.stop())
            # The pass that runs must not end before the engine has heard of it.
            await asyncio.wait_for(client.service.is_stopped.wait(), 20)
            gate.open.set()
            assert await stopping
            assert "stopped by a client" in caplog.text
            for request in requests:
                assert finished(await request).finish_reason == "cancelled"
            assert await task == 0

    asyncio.run(main())


def test_a_closed_client_does_not_come_back(folder: Path) -> None:
    async def main() -> None:
        gate = Gate(1)
        async with serving(folder, fake(FakeDriver(reply=b"ok", on_forward=gate))) as (client, _):
            other = EngineClient(client.target, runtime_dir=folder)
            running = asyncio.create_task(collect(client))
            await gate.wait_reached()
            queued = asyncio.create_task(collect(other))
            await client.until(lambda status: status.n_queued > 0)
            await other.aclose()
            with pytest.raises(BackendError, match="closed"):
                await queued
            gate.open.set()
            await running

    asyncio.run(main())


def test_errors_of_a_request_reach_its_client_and_the_engine_lives_on(folder: Path) -> None:
    async def main() -> None:
        driver = FakeDriver(reply=b"ok", n_ctx=400)
        async with serving(folder, fake(driver)) as (client, _):
            for request, code in (
                (GenerateRequest(REQUEST.segments, "start: ("), "grammar_invalid"),
                (GenerateRequest((Segment("huge", "x" * 1000),)), "prompt_too_long"),
                (GenerateRequest((Segment("bad", "\ud800"),)), "unsupported"),
            ):
                with pytest.raises(BackendError) as caught:
                    await collect(client, request)
                assert caught.value.code == code
                if code == "prompt_too_long":
                    assert caught.value.data["segments"] == [["huge", 1000]]
            driver.error = ZeroDivisionError("with text of the prompt")
            with pytest.raises(BackendError, match="ZeroDivisionError") as caught:
                await collect(client)
            assert "prompt" not in caught.value.message
            driver.error = None
            assert "".join(e.text for e in await collect(client) if isinstance(e, TextChunk)) == "ok"

    asyncio.run(main())


@pytest.mark.parametrize("nonsense", [b"GET / HTTP/1.1\r\n\r\n", b"\x00\x00\x00\x01\x01", b"\xff" * 8])
def test_nonsense_on_the_socket_harms_nobody_else(folder: Path, nonsense: bytes) -> None:
    async def main() -> None:
        async with serving(folder, fake(FakeDriver(reply=b"ok"))) as (client, _):
            await client.connect()
            reader, writer = await asyncio.open_unix_connection(
                str(engine_paths(client.target, folder).socket)
            )
            writer.write(nonsense)
            assert await reader.read() == b""  # dropped
            writer.close()
            assert finished(await collect(client)).finish_reason == "stop"

    asyncio.run(main())


def test_the_first_message_must_be_hello(folder: Path) -> None:
    async def main() -> None:
        async with serving(folder, fake(FakeDriver())) as (client, _):
            reader, writer = await asyncio.open_unix_connection(
                str(engine_paths(client.target, folder).socket)
            )
            writer.write(encode(Generate(1, REQUEST)))
            assert await reader.read() == b""
            writer.close()

    asyncio.run(main())


def test_a_client_that_stops_reading_is_dropped_and_blocks_nobody(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        monkeypatch.setattr(service_module, "MAX_UNREAD_BYTES", 20_000)
        driver = FakeDriver(n_ctx=100_000)
        async with serving(folder, fake(driver)) as (client, _):
            await client.connect()
            with socket.socket(socket.AF_UNIX) as deaf:
                deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
                deaf.connect(str(engine_paths(client.target, folder).socket))
                endless = GenerateRequest((Segment("task", "x"),), max_tokens=50_000)
                deaf.sendall(encode(Hello(PROTOCOL, __version__)) + encode(Generate(1, endless)))
                assert finished(await collect(client)).finish_reason == "length"
                await client.until(lambda status: status.n_clients == 1)
            assert len(driver.cells) < 50_000

    asyncio.run(main())


def test_loading_is_told_and_requests_wait_for_it(folder: Path) -> None:
    async def main() -> None:
        may_load = threading.Event()

        def open_slowly(_target: Target, on_progress: Callable[[float], bool]) -> Backend:
            on_progress(0.25)
            assert may_load.wait(20)
            on_progress(0.75)
            return InProcessBackend(FakeDriver(reply=b"ok"))

        fractions: list[float] = []
        async with serving(folder, open_slowly) as (client, _):
            client.on_loading = fractions.append
            await client.prewarm((SYSTEM,))  # returns while the model loads
            status = await client.status()
            assert status is not None
            assert status.info is None
            request = asyncio.create_task(collect(client))
            may_load.set()
            assert finished(await request).finish_reason == "stop"
            assert client.info is not None
            assert fractions[-1] == 0.75

    asyncio.run(main())


def test_a_failed_load_is_told_to_every_client(folder: Path) -> None:
    async def main() -> None:
        may_fail = threading.Event()

        def fail(_target: Target, _on_progress: Callable[[float], bool]) -> Backend:
            assert may_fail.wait(20)
            raise BackendError("out_of_memory", "too large")

        async with serving(folder, fail) as (client, task):
            other = EngineClient(client.target, runtime_dir=folder)
            connecting = [asyncio.create_task(c.connect()) for c in (client, other)]
            await client.until(lambda status: status.n_clients == 2)
            may_fail.set()
            for failing in connecting:
                with pytest.raises(BackendError, match="too large") as caught:
                    await failing
                assert caught.value.code == "out_of_memory"
            await other.aclose()
            assert await task == EXIT_LOAD_FAILED

    asyncio.run(main())


def test_a_stop_while_loading_is_no_failure(folder: Path) -> None:
    async def main() -> None:
        def load(_target: Target, on_progress: Callable[[float], bool]) -> Backend:
            while on_progress(0.5):
                time.sleep(0.001)
            raise BackendError("internal", "Loading the model was stopped.")

        async with serving(folder, load) as (client, task):
            connecting = asyncio.create_task(client.connect())
            await client.until(lambda status: status.n_clients == 1)
            other = EngineClient(client.target, runtime_dir=folder)
            assert await other.stop()
            with pytest.raises(BackendError, match="was stopped"):
                await connecting
            assert await task == 0

    asyncio.run(main())


def test_idle_exit_counts_from_the_last_request(folder: Path) -> None:
    async def main() -> None:
        async with serving(folder, fake(FakeDriver(reply=b"ok")), idle_exit_s=0.05) as (client, task):
            await client.connect()
            assert await asyncio.wait_for(task, 20) == 0
            assert not engine_paths(client.target, folder).socket.exists()

    asyncio.run(main())


def test_a_request_that_was_cancelled_at_once_does_not_keep_the_engine(folder: Path) -> None:
    async def main() -> None:
        async with serving(folder, fake(FakeDriver()), idle_exit_s=0.3) as (client, task):
            await client.connect()
            with socket.socket(socket.AF_UNIX) as other:
                other.connect(str(engine_paths(client.target, folder).socket))
                hello = encode(Hello(PROTOCOL, __version__))
                other.sendall(hello + encode(Generate(1, REQUEST)) + encode(Cancel(1)))
                assert await asyncio.wait_for(task, 20) == 0

    asyncio.run(main())


def test_a_connection_that_cannot_be_accepted_ends_nothing(folder: Path) -> None:
    """For want of file descriptors, or because the client has gone already."""

    class Failing(Listener[ByteStream]):
        def __init__(self, listener: Listener[ByteStream]) -> None:
            self.listener = listener
            self.n_failures = 2

        async def serve(self, handler: Callable[[ByteStream], Any], task_group: Any = None) -> None:
            self.n_failures -= 1
            if self.n_failures >= 0:
                raise anyio.BrokenResourceError
            await self.listener.serve(handler, task_group)

        async def aclose(self) -> None:
            await self.listener.aclose()

    async def main() -> None:
        async with serving(folder, fake(FakeDriver(reply=b"ok")), wrap=Failing) as (client, _):
            assert finished(await collect(client)).finish_reason == "stop"

    asyncio.run(main())


def test_an_idle_engine_of_another_version_is_replaced(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        monkeypatch.setattr(service_module, "__version__", "0.0.1")
        async with serving(folder, fake(FakeDriver())) as (client, task):
            info = await client.connect()
            assert info.name == "recorded"
            assert await task == 0
            assert await client.stop()

    asyncio.run(main())


def test_a_busy_engine_of_another_version_is_left_alone(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        gate = Gate(1)
        async with serving(folder, fake(FakeDriver(reply=b"ok", on_forward=gate))) as (client, _):
            working = asyncio.create_task(collect(client))
            await gate.wait_reached()
            newer = EngineClient(client.target, runtime_dir=folder, version="9.0.0")
            assert await newer.status() is None
            with pytest.raises(BackendError, match="is at work for another editor") as caught:
                await newer.connect()
            assert caught.value.code == "engine_version"
            gate.open.set()
            assert finished(await working).finish_reason == "stop"

    asyncio.run(main())
