"""The engine's two halves: connections on the event loop, and the model on its own thread.

`Service.run` owns all tasks: a group with one for each client, and within it the scope of what serves them,
the listener and the model's task. This scope ends when the engine is stopped or was idle for long enough.

The model has one thread, which anyio keeps; the event loop decides what it does next. The thread never waits
for a client: it hands frames to the loop, which buffers them, and drops a client that stops reading. Prompt
text is never logged.
"""

import asyncio
import logging
import math
import os
import time
import traceback
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

import anyio
import msgspec
from anyio.abc import ByteStream, Listener, TaskGroup
from anyio.lowlevel import checkpoint_if_cancelled

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
_FLUSH_S = 1.0
"""Longest wait, when stopping, for clients to read what was sent to them."""
_LOAD_FAILED_LINGER_S = 5.0
"""How long the engine stays after its model failed to load, so that a first client hears why."""
_ACCEPT_AGAIN_S = 0.1
"""Pause after a connection could not be accepted, such as for want of file descriptors."""

OpenBackend = Callable[[Target, Callable[[float], bool]], Backend]
_Result = TypeVar("_Result")

_log = logging.getLogger(__name__)


class Service:
    """One engine: created on the event loop, which runs `run` once."""

    def __init__(self, target: Target, open_backend: OpenBackend, idle_exit_s: float) -> None:
        self._target = target
        self._open_backend = open_backend
        self._idle_exit_s = idle_exit_s
        self._loop = asyncio.get_running_loop()
        self._serving = anyio.CancelScope()
        """Its deadline is when the engine has been idle for long enough."""
        self._connections: dict[int, _Connection] = {}
        self._n_accepted = 0
        self._fraction = 0.0
        self._info: ModelInfo | None = None
        self._failure: LoadFailed | None = None
        self._told = anyio.Event()  # a client has heard that loading failed
        self._started = self._last_used = anyio.current_time()
        self._scheduler = Scheduler()
        self._wake = anyio.Event()  # there is something to do for the model
        self._inspections: deque[tuple[int, Inspect]] = deque()
        """By connection. The loop appends, the model's thread takes."""
        self._backend: Backend | None = None
        self._one_thread = anyio.CapacityLimiter(1)

    async def run(self, listener: Listener[ByteStream], on_stopping: Callable[[], None]) -> int:
        """Load the model, serve until stopped, idle or failed. Returns the process's exit code.

        `on_stopping` is called before the running job is waited for: the moment to remove the socket.
        """
        async with anyio.create_task_group() as clients:
            with self._serving:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(self._run_model)
                    async with listener:
                        try:
                            await self._accept(listener, clients)
                        finally:
                            if self._serving.deadline <= anyio.current_time():
                                _log.info("idle for %.0f s: exiting", self._idle_exit_s)
                            on_stopping()
            while job := self._scheduler.take():
                self._answer_unstarted(job)
            for connection in self._connections.values():
                connection.finish()
            clients.cancel_scope.deadline = anyio.current_time() + _FLUSH_S
        return EXIT_LOAD_FAILED if self._failure else 0

    def stop(self) -> None:
        """Make `run` return soon; the running job is interrupted."""
        self._scheduler.must_stop.set()
        self._serving.cancel()

    # Connections.

    async def _accept(self, listener: Listener[ByteStream], clients: TaskGroup) -> None:
        while True:
            with suppress(anyio.BrokenResourceError):
                await listener.serve(self.attend, clients)
            await anyio.sleep(_ACCEPT_AGAIN_S)

    async def attend(self, stream: ByteStream) -> None:
        """Serve one client until it leaves."""
        self._n_accepted += 1
        connection = _Connection(self, self._n_accepted, stream)
        self._connections[connection.number] = connection
        try:
            await connection.run()
        finally:
            del self._connections[connection.number]
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
                self._inspections.append((connection.number, message))
                self._wake.set()
            case Cancel(id):
                if job := self._scheduler.cancel(connection.number, id):
                    self._answer_unstarted(job)
            case StatusRequest(id):
                connection.send(self._status(id))
            case Stop(id, unless):
                is_shared = unless == "shared" and len(self._connections) > 1
                is_accepted = unless == "never" or not (is_shared or self._scheduler.has_foreground)
                connection.send(Stopping(id, is_accepted))
                if is_accepted:
                    _log.info("stopped by a client")
                    self.stop()
            case Hello():
                raise WireError("a second Hello")

    def _submit(self, job: Job) -> None:
        self._last_used = anyio.current_time()
        self._serving.deadline = math.inf
        if replaced := self._scheduler.submit(job):
            self._answer_unstarted(replaced)
        self._wake.set()

    def _answer_unstarted(self, job: Job) -> None:
        waited_ms = (time.perf_counter() - job.arrived) * 1e3
        timings = Timings(
            n_prompt=0, n_cached=0, n_prefilled=0, n_decoded=0, queue_ms=waited_ms, total_ms=waited_ms
        )
        self._deliver(job.connection, encode(Progress(job.id, Finished("cancelled", timings))))

    def _status(self, id: int) -> StatusReply:
        import psutil

        now = anyio.current_time()
        scheduler = self._scheduler
        return StatusReply(
            id=id,
            pid=os.getpid(),
            version=__version__,
            info=self._info,
            n_clients=len(self._connections),
            n_queued=scheduler.n_queued,
            busy=scheduler.running is not None,
            n_cached=self._backend.n_cached if self._backend else 0,
            rss_bytes=psutil.Process().memory_info().rss,
            uptime_s=now - self._started,
            idle_s=now - self._last_used if self._info and scheduler.is_idle else 0.0,
            idle_exit_s=self._idle_exit_s,
        )

    def _deliver(self, number: int, frame: bytes) -> None:
        if connection := self._connections.get(number):
            connection.write(frame)

    def _broadcast(self, message: EngineMessage) -> None:
        for connection in self._connections.values():
            if connection.is_greeted:
                connection.send(message)
                if isinstance(message, LoadFailed):
                    self._told.set()

    def _on_loading(self, fraction: float) -> None:
        self._fraction = fraction
        self._broadcast(Loading(fraction))

    # The model, on the event loop.

    async def _run_model(self) -> None:
        """Load the model and do what is asked of it, until cancelled."""
        loaded = await self._on_thread(self._load)
        if isinstance(loaded, LoadFailed):
            await self._load_failed(loaded)
            return
        self._backend, self._info = loaded, loaded.info
        self._last_used = anyio.current_time()
        self._broadcast(Loaded(loaded.info))
        _log.info("loaded %s in %.0f ms on %s", loaded.info.name, loaded.info.load_ms, loaded.info.device)
        try:
            await self._work(loaded)
        finally:
            self._backend = None
            await self._on_thread(self._save, loaded.close)

    async def _load_failed(self, failure: LoadFailed) -> None:
        _log.error("loading failed (%s): %s", failure.code, failure.message)
        if not self._serving.cancel_called:  # else it was interrupted, which says nothing about the model
            self._failure = failure
        self._broadcast(failure)
        with anyio.move_on_after(_LOAD_FAILED_LINGER_S):
            await self._told.wait()
        self.stop()

    async def _work(self, backend: Backend) -> None:
        """Do one job after the other. Without any, the backend may save what it has."""
        evictions = Evictions()
        is_rested = False
        while True:
            await checkpoint_if_cancelled()  # what is taken from here on is also run
            if self._inspections:
                await self._on_thread(self._inspect, backend)
            elif job := self._scheduler.take():
                await self._on_thread(self._do, backend, job, evictions)
                is_rested = False
            elif not await self._is_woken(within_s=math.inf if is_rested else REST_AFTER_S):
                is_rested = True
                await self._on_thread(self._save, backend.rest)

    def _finish(self) -> None:
        self._scheduler.finish()
        self._last_used = anyio.current_time()

    async def _is_woken(self, *, within_s: float) -> bool:
        """Wait for something to do. The engine is idle meanwhile."""
        self._wake = anyio.Event()
        self._serving.deadline = self._last_used + self._idle_exit_s
        with anyio.move_on_after(within_s):
            await self._wake.wait()
        return self._wake.is_set()

    async def _on_thread(self, function: Callable[..., _Result], *arguments: object) -> _Result:
        """Run on the model's thread: the one that anyio keeps, because nothing else here asks for one.

        Whatever was begun is waited for, stopped or not.
        """
        with anyio.CancelScope(shield=True):
            return await anyio.to_thread.run_sync(function, *arguments, limiter=self._one_thread)
        raise AssertionError("nothing cancels a shielded scope")

    # On the model's thread.

    def _post(self, function: Callable[..., None], *arguments: object) -> None:
        """Call on the event loop, without waiting for it, which anyio's `from_thread` would."""
        self._loop.call_soon_threadsafe(function, *arguments)

    def _load(self) -> Backend | LoadFailed:
        def on_progress(fraction: float) -> bool:
            nonlocal told
            if fraction - told >= 0.01:
                told = fraction
                self._post(self._on_loading, fraction)
            return not self._serving.cancel_called

        told = 0.0
        try:
            return self._open_backend(self._target, on_progress)
        except BackendError as error:
            return LoadFailed(error.code, error.message)
        except Exception as error:
            _log.error("loading: %s", _where(error))
            what = self._target.model or self._target.url
            return LoadFailed("internal", f"Loading {what} failed: {type(error).__name__}: {error}")

    def _save(self, save: Callable[[], None]) -> None:
        try:
            save()
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

    def _do(self, backend: Backend, job: Job, evictions: Evictions) -> None:
        """Do the job, then tell what it evicted."""
        is_done = self._run_job(backend, job)
        self._post(self._finish)
        try:
            for connection, evicted in evictions.after(job, backend, is_done=is_done):
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


def _where(error: Exception) -> str:
    """The traceback without the error's message, which might quote a prompt."""
    return f"{type(error).__name__}\n{''.join(traceback.format_tb(error.__traceback__))}"


class _Connection:
    """One client."""

    def __init__(self, service: Service, number: int, stream: ByteStream) -> None:
        self._service = service
        self.number = number
        self.is_greeted = False
        self._is_refused = False
        self._stream = stream
        self._tasks = anyio.create_task_group()
        self._outgoing, self._unsent = anyio.create_memory_object_stream[bytes](math.inf)
        self._n_unread = 0  # bytes
        self._decoder: Decoder[ClientMessage] = Decoder(ClientMessage)

    async def run(self) -> None:
        """Until the client leaves, is dropped or, after `finish`, has read everything."""
        async with self._stream, self._outgoing, self._unsent, self._tasks:
            self._tasks.start_soon(self._write)
            try:
                async for data in self._stream:
                    for message in self._decoder.feed(data):
                        self._receive(message)
            except anyio.BrokenResourceError:
                pass  # it is gone
            except WireError as error:
                _log.warning("client %d dropped: %s", self.number, error)
            except Exception as error:  # harms nobody else
                _log.error("client %d dropped: %s", self.number, _where(error))
            self._tasks.cancel_scope.cancel()

    async def _write(self) -> None:
        with suppress(anyio.BrokenResourceError):
            async for frame in self._unsent:
                frames = [frame]
                with suppress(anyio.WouldBlock, anyio.EndOfStream):  # what waits is sent with it
                    while True:
                        frames.append(self._unsent.receive_nowait())
                data = b"".join(frames)
                await self._stream.send(data)
                self._n_unread -= len(data)
        self._tasks.cancel_scope.cancel()

    def finish(self) -> None:
        """Nothing more will be sent."""
        self._outgoing.close()

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
        if self._tasks.cancel_scope.cancel_called:
            return
        with suppress(anyio.ClosedResourceError):  # after `finish`
            self._outgoing.send_nowait(frame)
            self._n_unread += len(frame)
        if self._n_unread > MAX_UNREAD_BYTES:
            _log.warning("client %d dropped: it stopped reading", self.number)
            self._tasks.cancel_scope.cancel()
