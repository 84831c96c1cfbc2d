"""The engine's two halves: connections on the event loop, and the model on its own thread.

`Service.run` owns all tasks, in a task group, and returns once the model's thread has ended and no client is
connected, each within a time.

The halves share one `Scheduler` under one lock. The model thread never waits for a client: it hands frames to
the loop, which buffers them, and drops a client that stops reading. Prompt text is never logged.
"""

import asyncio
import contextlib
import logging
import os
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator

import msgspec

from singlepass_backends import __version__
from singlepass_backends.base import (
    Backend,
    BackendError,
    Finished,
    GenerateRequest,
    ModelInfo,
    Target,
    Timings,
)
from singlepass_backends.engine.evictions import Evictions
from singlepass_backends.engine.scheduler import Job, Scheduler
from singlepass_backends.wire import (
    PROTOCOL,
    Cancel,
    ClientMessage,
    Decoder,
    EngineMessage,
    Failed,
    Generate,
    Hello,
    Inspect,
    Inspected,
    Loaded,
    LoadFailed,
    Loading,
    Prewarm,
    PrewarmEvicted,
    Progress,
    Refused,
    StatusReply,
    StatusRequest,
    Stop,
    Stopping,
    Welcome,
    WireError,
    encode,
)

EXIT_LOAD_FAILED = 3
MAX_UNREAD_BYTES = 8 * 1024 * 1024
"""A client that leaves more than this unread is dropped."""
REST_AFTER_S = 5.0
"""Seconds without a request after which the backend may save what it has."""
_JOIN_S = 60.0
"""Longest wait for the model thread: a chunk, and saving the prefix."""
_FLUSH_S = 1.0
"""Longest wait, when stopping, for clients to read what was sent to them."""
_LOAD_FAILED_LINGER_S = 5.0
"""How long the engine stays after its model failed to load, so that a first client hears why."""

OpenBackend = Callable[[Target, Callable[[float], bool]], Backend]

_log = logging.getLogger(__name__)


class Service:
    """One engine: created on the event loop, which runs `accept` for each connection and `run` once."""

    def __init__(self, target: Target, open_backend: OpenBackend, idle_exit_s: float) -> None:
        self._target = target
        self._open_backend = open_backend
        self._idle_exit_s = idle_exit_s
        self._loop = asyncio.get_running_loop()
        self._stopped = asyncio.Event()
        self._failed = asyncio.Event()  # to load the model
        self._told = asyncio.Event()  # a client has heard of that
        self._thread_ended = asyncio.Event()
        self._all_closed = asyncio.Event()  # no client is connected
        self._all_closed.set()
        self._connections: dict[int, _Connection] = {}
        self._n_accepted = 0
        self._fraction = 0.0
        self._info: ModelInfo | None = None
        self._failure: LoadFailed | None = None
        self._started = self._last_used = time.monotonic()
        # Shared with the model thread:
        self._wake = threading.Condition()
        self._scheduler = Scheduler()
        self._is_stopping = False
        self._inspections: deque[tuple[int, Inspect]] = deque()  # by connection
        self._backend: Backend | None = None
        self._thread = threading.Thread(target=self._model_thread, name="model", daemon=True)

    # On the event loop.

    def accept(self) -> asyncio.Protocol:
        """A protocol for a new connection."""
        self._n_accepted += 1
        return _Connection(self, self._n_accepted)

    async def run(self, on_stopping: Callable[[], None]) -> int:
        """Load the model, serve until stopped, idle or failed. Returns the process's exit code.

        `on_stopping` is called before the running job is waited for: the moment to remove the socket.
        """
        self._thread.start()
        async with asyncio.TaskGroup() as tasks:
            watching = [tasks.create_task(self._watch_idle()), tasks.create_task(self._stop_after_failure())]
            await self._stopped.wait()
            on_stopping()
            await _within(_JOIN_S, self._thread_ended)
            if self._thread_ended.is_set():
                self._thread.join()  # at once
            for job in self._left_over():
                self._answer_unstarted(job)
            for connection in list(self._connections.values()):
                connection.transport.close()
            await _within(_FLUSH_S, self._all_closed)
            for task in watching:
                task.cancel()
        return EXIT_LOAD_FAILED if self._failure else 0

    def stop(self) -> None:
        """Make `run` return soon; the running job is interrupted."""
        with self._wake:
            self._is_stopping = True
            self._scheduler.must_stop.set()
            self._wake.notify_all()
        self._stopped.set()

    def _left_over(self) -> list[Job]:
        """Jobs that were never begun. One that did not end within the wait may still run meanwhile."""
        found: list[Job] = []
        with self._wake:
            while job := self._scheduler.take():
                self._scheduler.finish()
                found.append(job)
        return found

    async def _watch_idle(self) -> None:
        while True:
            with self._wake:
                is_idle = self._scheduler.is_idle
            if self._info is None or not is_idle:
                self._last_used = time.monotonic()
            left = self._last_used + self._idle_exit_s - time.monotonic()
            if left <= 0:
                _log.info("idle for %.0f s: exiting", self._idle_exit_s)
                self.stop()
                return
            await asyncio.sleep(min(left, 5.0) + 0.01)

    def opened(self, connection: "_Connection") -> None:
        self._connections[connection.number] = connection
        self._all_closed.clear()

    def closed(self, connection: "_Connection") -> None:
        self._connections.pop(connection.number, None)
        if not self._connections:
            self._all_closed.set()
        with self._wake:
            self._scheduler.drop(connection.number)

    def greeted(self, connection: "_Connection") -> None:
        """A client has introduced itself: tell it how far loading is."""
        if self._failure:
            connection.send(self._failure)
            self._told.set()
        elif self._info:
            connection.send(Loaded(self._info))
        else:
            connection.send(Loading(self._fraction))

    def received(self, connection: "_Connection", message: ClientMessage) -> None:
        """Act on a message of a greeted client."""
        match message:
            case Generate(id, request):
                self._submit(Job(connection.number, id, request, time.perf_counter()))
            case Prewarm(id, request):
                self._submit(Job(connection.number, id, request, time.perf_counter()))
            case Inspect():
                with self._wake:
                    self._inspections.append((connection.number, message))
                    self._wake.notify_all()
            case Cancel(id):
                with self._wake:
                    job = self._scheduler.cancel(connection.number, id)
                if job:
                    self._answer_unstarted(job)
            case StatusRequest(id):
                connection.send(self._status(id))
            case Stop(id, unless):
                is_shared = unless == "shared" and len(self._connections) > 1
                with self._wake:
                    is_accepted = unless == "never" or not (is_shared or self._scheduler.has_foreground)
                connection.send(Stopping(id, is_accepted))
                if is_accepted:
                    _log.info("stopped by a client")
                    self.stop()
            case Hello():
                raise WireError("a second Hello")

    def _submit(self, job: Job) -> None:
        self._last_used = time.monotonic()
        with self._wake:
            replaced = self._scheduler.submit(job)
            self._wake.notify_all()
        if replaced:
            self._answer_unstarted(replaced)

    def _answer_unstarted(self, job: Job) -> None:
        waited_ms = (time.perf_counter() - job.arrived) * 1e3
        timings = Timings(
            n_prompt=0, n_cached=0, n_prefilled=0, n_decoded=0, queue_ms=waited_ms, total_ms=waited_ms
        )
        self._deliver(job.connection, encode(Progress(job.id, Finished("cancelled", timings))))

    def _status(self, id: int) -> StatusReply:
        import psutil

        now = time.monotonic()
        with self._wake:
            scheduler, backend = self._scheduler, self._backend
            is_idle = self._info is not None and scheduler.is_idle
            return StatusReply(
                id=id,
                pid=os.getpid(),
                version=__version__,
                info=self._info,
                n_clients=len(self._connections),
                n_queued=scheduler.n_queued,
                busy=scheduler.running is not None,
                n_cached=backend.n_cached if backend else 0,
                rss_bytes=psutil.Process().memory_info().rss,
                uptime_s=now - self._started,
                idle_s=now - self._last_used if is_idle else 0.0,
                idle_exit_s=self._idle_exit_s,
            )

    def _deliver(self, number: int, frame: bytes) -> None:
        if connection := self._connections.get(number):
            connection.write(frame)

    def _broadcast(self, message: EngineMessage) -> None:
        for connection in list(self._connections.values()):
            if connection.is_greeted:
                connection.send(message)
                if isinstance(message, LoadFailed):
                    self._told.set()

    def _on_loading(self, fraction: float) -> None:
        self._fraction = fraction
        self._broadcast(Loading(fraction))

    def _on_loaded(self, info: ModelInfo) -> None:
        self._info = info
        self._last_used = time.monotonic()
        self._broadcast(Loaded(info))
        _log.info("loaded %s in %.0f ms on %s", info.name, info.load_ms, info.device)

    def _on_load_failed(self, failure: LoadFailed) -> None:
        _log.error("loading failed (%s): %s", failure.code, failure.message)
        if not self._is_stopping:  # else loading was interrupted, which says nothing about the model
            self._failure = failure
        self._broadcast(failure)
        self._failed.set()

    async def _stop_after_failure(self) -> None:
        await self._failed.wait()
        await _within(_LOAD_FAILED_LINGER_S, self._told)
        self.stop()

    # On the model thread.

    def _post(self, function: Callable[..., None], *arguments: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: the process is exiting
            self._loop.call_soon_threadsafe(function, *arguments)

    def _model_thread(self) -> None:
        try:
            self._load_and_work()
        finally:
            self._post(self._thread_ended.set)

    def _load_and_work(self) -> None:
        def on_progress(fraction: float) -> bool:
            nonlocal told
            if fraction - told >= 0.01:
                told = fraction
                self._post(self._on_loading, fraction)
            return not self._is_stopping

        told = 0.0
        try:
            backend = self._open_backend(self._target, on_progress)
        except BackendError as error:
            self._post(self._on_load_failed, LoadFailed(error.code, error.message))
            return
        except Exception as error:
            _log.error("loading: %s", _where(error))
            message = (
                f"Loading {self._target.model or self._target.url} failed: {type(error).__name__}: {error}"
            )
            self._post(self._on_load_failed, LoadFailed("internal", message))
            return
        with self._wake:
            self._backend = backend
        self._post(self._on_loaded, backend.info)
        evictions = Evictions()
        while (job := self._next_job(backend)) is not None:
            is_done = self._run_job(backend, job)
            with self._wake:
                self._scheduler.finish()
            self._tell_evicted(evictions.after(job, backend, is_done=is_done))
        with self._wake:
            self._backend = None
        backend.close()

    def _next_job(self, backend: Backend) -> Job | None:
        """Wait for the next job; None when stopping. Meanwhile inspections are answered, and `backend` may
        save what it has."""
        is_rested = False
        while True:
            with self._wake:
                if self._is_stopping:
                    return None
                if not self._inspections:
                    if job := self._scheduler.take():
                        return job
                    is_woken = self._wake.wait(None if is_rested else REST_AFTER_S)
                else:
                    is_woken = True
            if is_woken:
                self._inspect(backend)
            else:
                is_rested = True
                self._rest(backend)

    def _rest(self, backend: Backend) -> None:
        try:
            backend.rest()
        except Exception as error:
            _log.error("saving failed: %s", _where(error))

    def _inspect(self, backend: Backend) -> None:
        """Answer the inspections that wait. Runs between two events of a job, too."""
        while self._inspections:
            connection, message = self._inspections.popleft()
            try:
                reply = Inspected(message.id, backend.inspect(message.segments))
            except BackendError as error:
                reply = Failed(message.id, error.code, error.message)
            except Exception as error:
                _log.error("an inspection failed: %s", _where(error))
                reply = Failed(message.id, "internal", f"The engine failed: {type(error).__name__}.")
            self._post(self._deliver, connection, encode(reply))

    def _tell_evicted(self, found: Iterator[tuple[int, PrewarmEvicted]]) -> None:
        try:
            for connection, evicted in found:
                self._post(self._deliver, connection, encode(evicted))
        except Exception as error:
            _log.error("what was evicted is not known: %s", _where(error))

    def _run_job(self, backend: Backend, job: Job) -> bool:
        """Do the job and tell of it; whether all of it was done."""
        interrupt = self._scheduler.must_stop
        is_done = False
        try:
            if isinstance(job.work, GenerateRequest):
                events = backend.generate(job.work, interrupt, job.arrived)
            else:
                events = backend.prewarm(job.work, interrupt)
            for event in events:
                self._post(self._deliver, job.connection, encode(Progress(job.id, event)))
                is_done = isinstance(event, Finished) and event.finish_reason == "stop"
                if self._inspections:
                    self._inspect(backend)
        except BackendError as error:
            data = msgspec.msgpack.encode(error.data) if error.data else b""
            self._fail(job, Failed(job.id, error.code, error.message, data))
        except Exception as error:
            _log.error("a request failed: %s", _where(error))
            self._fail(job, Failed(job.id, "internal", f"The engine failed: {type(error).__name__}."))
        return is_done

    def _fail(self, job: Job, failed: Failed) -> None:
        self._post(self._deliver, job.connection, encode(failed))


async def _within(seconds: float, event: asyncio.Event) -> None:
    """Wait for `event`, but not longer than that."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()


def _where(error: Exception) -> str:
    """The traceback without the error's message, which might quote a prompt."""
    return f"{type(error).__name__}\n{''.join(traceback.format_tb(error.__traceback__))}"


class _Connection(asyncio.Protocol):
    """One client."""

    transport: asyncio.Transport

    def __init__(self, service: Service, number: int) -> None:
        self._service = service
        self.number = number
        self.is_greeted = False
        self._is_refused = False
        self._decoder: Decoder[ClientMessage] = Decoder(ClientMessage)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._service.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._service.closed(self)

    def data_received(self, data: bytes) -> None:
        try:
            for message in self._decoder.feed(data):
                self._receive(message)
        except WireError as error:
            _log.warning("client %d dropped: %s", self.number, error)
            self.transport.abort()

    def _receive(self, message: ClientMessage) -> None:
        if self.is_greeted:
            self._service.received(self, message)
        elif self._is_refused:
            if isinstance(message, Stop):
                self._service.received(self, message)
        elif not isinstance(message, Hello):
            raise WireError("the first message is not Hello")
        elif (message.protocol, message.version) != (PROTOCOL, __version__):
            self._is_refused = True
            text = f"This engine is singlepass {__version__} (protocol {PROTOCOL})."
            self.send(Refused(PROTOCOL, __version__, os.getpid(), text))
        else:
            self.is_greeted = True
            self.send(Welcome(PROTOCOL, __version__, os.getpid()))
            self._service.greeted(self)

    def send(self, message: EngineMessage) -> None:
        self.write(encode(message))

    def write(self, frame: bytes) -> None:
        if self.transport.is_closing():
            return
        self.transport.write(frame)
        if self.transport.get_write_buffer_size() > MAX_UNREAD_BYTES:
            _log.warning("client %d dropped: it stopped reading", self.number)
            self.transport.abort()
