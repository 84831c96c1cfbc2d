"""The server's side of the wire: attach to the engine of a target, or start one; requests and event streams.

Everything runs on the caller's asyncio event loop, in callbacks: there is no background task, so nothing
outlives `aclose`. Importing this loads no model runtime.
"""

import asyncio
import fcntl
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path
from typing import Any, cast, get_args

import msgspec

from singlepass_backends import __version__
from singlepass_backends.base import (
    BackendError,
    ErrorCode,
    Event,
    Evicted,
    Finished,
    GenerateRequest,
    ModelInfo,
    PrewarmRequest,
    Segment,
    SegmentUse,
    Target,
)
from singlepass_backends.choose import check_target
from singlepass_backends.runtime_dir import (
    ENVIRONMENT_VARIABLE,
    EnginePaths,
    absolute,
    engine_paths,
    identity,
    list_engines,
)
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
    Unless,
    Welcome,
    WireError,
    encode,
)

__all__ = ["EngineClient", "EnginePaths"]
__all__ += ["engine_paths", "engine_status", "identity", "list_engines", "stop_engine"]

_ANSWER_S = 10.0
"""Longest wait for an engine's loop to answer; it answers at once unless its process is stopped or stuck."""
_START_S = 60.0
"""Longest wait for a new engine to listen; most of it is Python starting on a busy machine."""
_POLL_S = 0.02
_MAX_LOG_BYTES = 1_000_000
_EXIT_ALREADY_RUNNING = 4

Listener = Callable[[Event | Evicted | None], object]

_log = logging.getLogger(__name__)
_children: list["subprocess.Popen[bytes]"] = []  # engines that this process started, kept to be reaped


class EngineClient:
    """Requests to the engine of one target. One client serves any number of concurrent requests."""

    def __init__(
        self,
        target: Target,
        *,
        runtime_dir: Path | None = None,
        idle_exit_s: float = 1800.0,
        version: str = __version__,
    ) -> None:
        """Does nothing yet. `idle_exit_s` is for an engine that this client starts."""
        self.target = absolute(target)
        self.info: ModelInfo | None = None
        """What the engine has loaded; None while this client is attached to none."""
        self.on_loading: Callable[[float], None] | None = None
        """Told fractions from 0 to 1 while the model loads."""
        self.before_start: Callable[[], Awaitable[None]] | None = None
        """Awaited before an engine is started: time to make room for its model."""
        self.on_lost: Callable[[], None] | None = None
        """Told when the engine ended, or its connection broke: another one knows nothing of what this had
        cached. Not when this client is closed."""
        self._runtime_dir = runtime_dir
        self._idle_exit_s = idle_exit_s
        self._version = version
        self._link: _Link | None = None
        self._process: subprocess.Popen[bytes] | None = None
        """The engine that this client started last."""
        self._connecting = asyncio.Lock()
        self._attempt: asyncio.Timeout | None = None
        """To attach or start, which `aclose` ends."""
        self._n_requests = 0
        self._is_closed = False

    async def connect(self) -> ModelInfo:
        """Attach or start an engine, and wait until its model is loaded.

        Raises BackendError: `no_model`, `model_*`, `out_of_memory`, `unsupported` where the model cannot be
        loaded; `engine_start_failed`; `engine_version` where an engine of another version is busy;
        `engine_lost` where one does not answer, or the client is closed.
        """
        link = await self._attached(spawn=True)
        assert link is not None
        return await self._loaded(link)

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[Event, None]:
        """The events of `request`, the last of them `Finished`. Closing the iterator cancels the request.

        Raises BackendError: those of `connect`, those of `base.Backend.generate`, and `engine_lost` when the
        engine dies; the next request starts another.
        """
        for may_retry in (True, False):
            link = await self._attached(spawn=True)
            assert link is not None
            await self._loaded(link)
            id = self._next_id()
            replies = link.open(id)
            is_over = False
            has_events = False
            try:
                self._send(link, Generate(id, request))
                while not is_over:
                    reply = await replies.get()
                    if reply is None:
                        is_over = True
                    elif isinstance(reply, Failed):
                        is_over = True
                        raise _error(reply.code, reply.message, reply.data)
                    elif isinstance(reply, Progress):
                        has_events = True
                        is_over = isinstance(reply.event, Finished)
                        yield reply.event
                        if is_over:
                            return
            finally:
                link.forget(id)
                if not is_over:
                    link.send(Cancel(id))
            # The connection was lost. Before any event this is most likely an engine that had just
            # decided to exit; afterwards it is a crash that the user should hear of.
            if has_events or not may_retry:
                raise await _lost(link)

    async def prewarm(
        self,
        segments: tuple[Segment, ...],
        *,
        grammar: str | None = None,
        sources: tuple[str, ...] = (),
        spawn: bool = True,
        on_event: Listener | None = None,
    ) -> None:
        """Ask for `segments` to be prefilled, and then for `grammar` to be compiled and `sources` to be made
        ready for drafts, when nothing else is to be done; does not wait for it.

        Without `spawn`, does nothing where no engine runs. `on_event` is told of `PrefillProgress`, and at
        the end of `Finished`, or of None where the prewarm failed; then of `Evicted`, until another prewarm
        is asked for; and of nothing once the connection is lost. Raises BackendError like `connect`, but
        returns while the model loads.
        """
        link = await self._attached(spawn=spawn)
        if link is None:
            return
        id = self._next_id()
        if on_event is not None:
            link.listen(id, on_event)
        try:
            self._send(link, Prewarm(id, PrewarmRequest(tuple(segments), grammar, sources)))
        except BackendError:
            link.forget(id)
            raise

    async def inspect(
        self, segments: tuple[Segment, ...], *, spawn: bool = False
    ) -> tuple[SegmentUse, ...] | None:
        """How many tokens each segment of a request has, and how many are cached. Computes nothing.

        None where no engine runs, or its model still loads, unless `spawn`. Raises BackendError: those of
        `connect`, `unsupported` for segments that cannot be tokenized, `engine_lost`.
        """
        link = await self._attached(spawn=spawn)
        if link is None or (not spawn and not link.settled.is_set()):
            return None
        await self._loaded(link)
        id = self._next_id()
        replies = link.open(id)
        try:
            self._send(link, Inspect(id, tuple(segments)))
            reply = await replies.get()
        finally:
            link.forget(id)
        if isinstance(reply, Failed):
            raise _error(reply.code, reply.message, reply.data)
        if not isinstance(reply, Inspected):
            raise await _lost(link)
        return reply.segments

    async def status(self, *, spawn: bool = False) -> StatusReply | None:
        """What the engine does; None where none runs, or one of another version."""
        try:
            link = await self._attached(spawn=spawn)
        except BackendError:
            if spawn:
                raise
            return None
        if link is None:
            return None
        reply = await _ask(link, StatusRequest(self._next_id()))
        return reply if isinstance(reply, StatusReply) else None

    async def stop(self, unless: Unless = "never") -> bool:
        """Stop the engine, interrupting what it does. False where none runs, or it is not to be stopped."""
        link = self._link
        if link is None or link.is_closed:
            link = await _attach(self._paths(), self._version, self._on_loading)
        if link is None:
            return False
        try:
            return await _stop(link, self._next_id(), unless)
        finally:
            await link.close()

    async def aclose(self) -> None:
        """Close the connection for good, which cancels this client's requests, those too that still attach or
        start an engine. The engine lives on."""
        if not self._is_closed:
            self._is_closed = True
            if self._attempt is not None:
                self._attempt.reschedule(asyncio.get_running_loop().time())
        async with self._connecting:  # which nobody holds for long any more
            link, self._link, self.info = self._link, None, None
        if link is not None:
            await link.close()
        _reap()

    def _paths(self) -> EnginePaths:
        return engine_paths(self.target, self._runtime_dir)

    def _next_id(self) -> int:
        self._n_requests += 1
        return self._n_requests

    def _on_loading(self, fraction: float) -> None:
        if self.on_loading is not None:
            self.on_loading(fraction)

    def _send(self, link: "_Link", message: ClientMessage) -> None:
        try:
            link.send(message)
        except ValueError as error:
            raise BackendError("unsupported", f"The request cannot be sent: {error}.") from None

    async def _attached(self, *, spawn: bool) -> "_Link | None":
        """A greeted connection, its model perhaps still loading; None where none runs and none may start."""
        async with self._connecting:
            if self._is_closed:
                raise _closed()
            if self._link is not None and not self._link.is_closed:
                return self._link
            if self._link is not None:
                self._on_closed(self._link)  # its transport closes, and will say so later
            try:
                async with asyncio.timeout(None) as self._attempt:
                    self._link = await self._open(spawn=spawn)
            except TimeoutError:
                raise _closed() from None
            finally:
                self._attempt = None
            if self._link is not None:
                self._link.on_closed = self._on_closed
            return self._link

    def _on_closed(self, link: "_Link") -> None:
        if link is self._link:
            self._link = self.info = None
            if self.on_lost is not None:
                self.on_lost()

    async def _open(self, *, spawn: bool) -> "_Link | None":
        """See `_attached`. Cancelled, it leaves no connection behind."""
        paths = self._paths()
        deadline = time.monotonic() + _START_S
        is_ours = False
        while True:
            link = await _attach(paths, self._version, self._on_loading)
            if link is None and not spawn:
                return None
            if link is None:
                link = await self._spawn(paths)
            if link is not None and link.refused is not None:
                # Started by this very installation and still of another version: replacing cannot help.
                await self._replace(link, link.refused, may_stop=not is_ours)
                link, is_ours = None, True
            if link is not None:
                return link
            if time.monotonic() > deadline:
                raise BackendError(
                    "engine_start_failed",
                    f"No engine could be reached on {paths.socket}. See its log {paths.log}.",
                )
            await asyncio.sleep(_POLL_S)

    async def _replace(self, link: "_Link", refused: Refused, *, may_stop: bool) -> None:
        """Make an engine of another version go, unless it is at work."""
        try:
            if may_stop and await _stop(link, self._next_id(), "busy"):
                return
        finally:
            await link.close()
        raise BackendError(
            "engine_version",
            f"An engine of singlepass {refused.version} (this is {self._version}) is at work for another "
            "editor. Wait for it to finish, or run `singlepass engine stop`.",
        )

    async def _spawn(self, paths: EnginePaths) -> "_Link | None":
        """Start an engine and connect to it, or to one that another client starts meanwhile."""
        check_target(self.target)
        lock = _open(paths.spawn_lock, os.O_RDWR)
        try:
            while not _try_lock(lock):  # noqa: ASYNC110 - another process holds it
                await asyncio.sleep(_POLL_S)
            if link := await _attach(paths, self._version, self._on_loading):
                return link
            # One that was started for a request which was cancelled meanwhile is on its way.
            process = self._process
            is_new = process is None or process.poll() is not None
            if process is None or is_new:
                if self.before_start is not None:
                    await self.before_start()
                process = self._process = _start(self.target, paths, self._idle_exit_s)
            deadline = time.monotonic() + _START_S
            while time.monotonic() < deadline:
                if link := await _attach(paths, self._version, self._on_loading):
                    return link
                if (code := process.poll()) is not None:
                    if code == _EXIT_ALREADY_RUNNING or not is_new:
                        return None
                    raise _start_failed(paths, ending(code))
                await asyncio.sleep(_POLL_S)
            raise _start_failed(paths, f"did not listen within {_START_S:.0f} s")
        finally:
            os.close(lock)
            _reap()

    async def _loaded(self, link: "_Link") -> ModelInfo:
        await link.settled.wait()
        if link.info is not None:
            if link is self._link:
                self.info = link.info
            return link.info
        if link.failure is not None:
            raise _error(link.failure.code, link.failure.message)
        if self._is_closed:
            raise _closed()
        raise _start_failed(link.paths, f"{await _end_of(link.pid)} while loading the model")


async def engine_status(paths: EnginePaths) -> StatusReply | None:
    """What the engine of `paths` does; None where it is gone, or of another version."""
    link = await _attach(paths, __version__, _ignore)
    if link is None:
        return None
    try:
        reply = await _ask(link, StatusRequest(1)) if link.refused is None else None
        return reply if isinstance(reply, StatusReply) else None
    finally:
        await link.close()


async def stop_engine(paths: EnginePaths) -> bool:
    """Stop the engine of `paths`, of whatever version. False where it is gone."""
    link = await _attach(paths, __version__, _ignore)
    if link is None:
        return False
    try:
        return await _stop(link, 1)
    finally:
        await link.close()


class _Link(asyncio.Protocol):
    """One connection. What it hears is kept as state, with an event for each thing worth waiting for."""

    def __init__(self, paths: EnginePaths, on_loading: Callable[[float], None]) -> None:
        self.paths = paths
        self.pid = 0
        self.refused: Refused | None = None
        self.info: ModelInfo | None = None
        self.failure: LoadFailed | None = None
        self.greeted = asyncio.Event()
        """`Welcome` or `Refused` came, or the connection is closed."""
        self.settled = asyncio.Event()
        """`Loaded` or `LoadFailed` came, or the connection is closed."""
        self.on_closed: Callable[[_Link], None] = lambda _: None
        self._closed = asyncio.Event()
        self._on_loading = on_loading
        self._transport: asyncio.Transport | None = None
        self._decoder: Decoder[EngineMessage] = Decoder(EngineMessage)
        self._replies: dict[int, asyncio.Queue[EngineMessage | None]] = {}
        self._listeners: dict[int, Listener] = {}
        self._ended: set[int] = set()
        """Of requests that ended; what becomes of them is told until another one is listened to."""

    @property
    def is_closed(self) -> bool:
        return self._transport is None or self._transport.is_closing()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        for event in (self.greeted, self.settled, self._closed):
            event.set()
        for replies in self._replies.values():
            replies.put_nowait(None)
        self._listeners.clear()
        self.on_closed(self)

    def data_received(self, data: bytes) -> None:
        try:
            for message in self._decoder.feed(data):
                self._receive(message)
        except WireError as error:
            _log.error("the engine sent nonsense: %s", error)
            if self._transport is not None:
                self._transport.abort()

    def _receive(self, message: EngineMessage) -> None:
        match message:
            case Welcome(pid=pid):
                self.pid = pid
                self.greeted.set()
            case Refused(pid=pid):
                self.pid = pid
                self.refused = message
                self.greeted.set()
            case Loading(fraction):
                self._on_loading(fraction)
            case Loaded(info):
                self.info = info
                self.settled.set()
            case LoadFailed():
                self.failure = message
                self.settled.set()
            case Progress(id) | Failed(id) | Inspected(id) | StatusReply(id=id) | Stopping(id):
                if replies := self._replies.get(id):
                    replies.put_nowait(message)
                elif listener := self._listeners.get(id):
                    if not isinstance(message, Progress) or isinstance(message.event, Finished):
                        self._ended.add(id)
                    listener(message.event if isinstance(message, Progress) else None)
            case PrewarmEvicted(id, evicted):
                if listener := self._listeners.get(id):
                    listener(evicted)

    def open(self, id: int) -> "asyncio.Queue[EngineMessage | None]":
        """Where replies to `id` arrive; None says that the connection is closed."""
        replies: asyncio.Queue[EngineMessage | None] = asyncio.Queue()
        if self.is_closed:
            replies.put_nowait(None)
        self._replies[id] = replies
        return replies

    def listen(self, id: int, listener: Listener) -> None:
        """Tell `listener` of the events of the request `id`, of None where it failed, and of what is evicted
        of it later, until it is listened to another one."""
        for ended in self._ended:
            self._listeners.pop(ended, None)
        self._ended.clear()
        self._listeners[id] = listener

    def forget(self, id: int) -> None:
        self._replies.pop(id, None)
        self._listeners.pop(id, None)

    def send(self, message: ClientMessage) -> None:
        """Raises ValueError for what cannot be encoded; a closed connection is noticed by reading."""
        frame = encode(message)
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(frame)

    async def close(self) -> None:
        if self._transport is not None:
            self._transport.close()
        await self._closed.wait()

    async def wait_closed(self) -> None:
        await self._closed.wait()


async def _attach(paths: EnginePaths, version: str, on_loading: Callable[[float], None]) -> _Link | None:
    """Connect and greet; None where nothing listens. Raises BackendError `engine_lost` without an answer."""
    loop = asyncio.get_running_loop()
    try:
        _, link = await loop.create_unix_connection(lambda: _Link(paths, on_loading), str(paths.socket))
    except OSError:
        return None
    try:
        link.send(Hello(PROTOCOL, version))
        await asyncio.wait_for(link.greeted.wait(), _ANSWER_S)
    except TimeoutError:
        await link.close()
        raise BackendError(
            "engine_lost",
            f"The engine on {paths.socket} does not answer. End its process, or see its log {paths.log}.",
        ) from None
    except BaseException:
        await link.close()
        raise
    return None if link.is_closed else link


async def _ask(link: _Link, message: StatusRequest | Stop) -> EngineMessage | None:
    replies = link.open(message.id)
    try:
        link.send(message)
        return await asyncio.wait_for(replies.get(), _ANSWER_S)
    except TimeoutError:
        return None
    finally:
        link.forget(message.id)


async def _stop(link: _Link, id: int, unless: Unless = "never") -> bool:
    """Stop the engine and wait until it is gone. False where it will not, or did not answer."""
    reply = await _ask(link, Stop(id, unless))
    if reply is not None and not (isinstance(reply, Stopping) and reply.accepted):
        return False
    await link.wait_closed()
    for _ in range(50):  # its last steps; only a child can be waited for
        _reap()
        if all(child.pid != link.pid for child in _children):
            break
        await asyncio.sleep(_POLL_S)
    return True


def _ignore(_fraction: float) -> None:
    pass


def _try_lock(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _start(target: Target, paths: EnginePaths, idle_exit_s: float) -> "subprocess.Popen[bytes]":
    """Start an engine that outlives this process."""
    # -P: a folder of this package's name in the editor's working folder must not be what runs.
    command = [sys.executable, "-P", "-m", "singlepass_backends.engine"]
    command += ["--socket", str(paths.socket), "--target", msgspec.json.encode(target).decode()]
    command += ["--idle-exit", str(idle_exit_s)]
    if paths.log.exists() and paths.log.stat().st_size > _MAX_LOG_BYTES:
        paths.log.replace(paths.log.with_suffix(".log.1"))
    log = _open(paths.log, os.O_WRONLY | os.O_APPEND)
    try:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    except OSError as error:
        raise BackendError("engine_start_failed", f"The engine cannot be started: {error}.") from None
    finally:
        os.close(log)
    _children.append(process)
    return process


def _open(path: Path, flags: int) -> int:
    """A file of the runtime folder, made if need be. Raises BackendError `engine_start_failed`."""
    try:
        return os.open(path, flags | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise BackendError(
            "engine_start_failed",
            f"The engine cannot be started: {path} cannot be written: {error.strerror}. Make room there, or "
            f"set {ENVIRONMENT_VARIABLE} to another folder.",
        ) from None


def _reap() -> None:
    _children[:] = [child for child in _children if child.poll() is None]


async def _lost(link: _Link) -> BackendError:
    return BackendError(
        "engine_lost",
        f"The engine {await _end_of(link.pid)} in the middle of a request. Its log is {link.paths.log}. Try "
        "again: the next request starts it anew.",
    )


async def _end_of(pid: int) -> str:
    """How the process ended, where it was started here."""
    for child in _children:
        if child.pid == pid:
            for _ in range(50):
                if (code := child.poll()) is not None:
                    return ending(code)
                await asyncio.sleep(_POLL_S)
    return "died"


def ending(code: int) -> str:
    """How a process ended, from its `returncode`, with a way out where there is one."""
    if code >= 0:
        return f"exited with code {code}"
    hint = " (an instruction this processor lacks; set `repack` to false)" if -code == signal.SIGILL else ""
    return f"was killed by {signal.Signals(-code).name}{hint}"


def _closed() -> BackendError:
    return BackendError("engine_lost", "This connection to the engine was closed.")


def _start_failed(paths: EnginePaths, what: str) -> BackendError:
    lines: list[str] = []
    if paths.log.exists():
        lines = paths.log.read_text(errors="replace").splitlines()[-5:]
    tail = "".join(f"\n  {line}" for line in lines)
    return BackendError(
        "engine_start_failed",
        f"The engine {what}. The end of its log {paths.log}:{tail}",
        {"log": str(paths.log), "lines": lines},
    )


def _error(code: str, message: str, data: bytes = b"") -> BackendError:
    known = cast(ErrorCode, code if code in get_args(ErrorCode) else "internal")
    numbers: dict[str, Any] = msgspec.msgpack.decode(data) if data else {}
    return BackendError(known, message, numbers)
