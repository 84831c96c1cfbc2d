"""The server's side of the wire: attach to the engine of a target, or start one; requests and event streams.

Everything runs on the caller's asyncio event loop, in callbacks and without background tasks, so nothing runs
after `aclose`. Importing this loads no model runtime.
"""

import os
import subprocess
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path
from typing import Any, cast, get_args

import anyio
import msgspec

from singlepass_backends import __version__
from singlepass_backends.base import (
    BackendError,
    ErrorCode,
    Event,
    Finished,
    GenerateRequest,
    ModelInfo,
    PrewarmRequest,
    Segment,
    SegmentUse,
    Target,
)
from singlepass_backends.engine_link import Link, Listener, ask, attach, stop_by
from singlepass_backends.engine_process import (
    POLL_S,
    end_of,
    ending,
    open_private,
    reap,
    start,
    start_failed,
    try_lock,
)
from singlepass_backends.opening import check_target
from singlepass_backends.runtime_dir import (
    EnginePaths,
    absolute,
    engine_paths,
    identity,
    list_engines,
)
from singlepass_backends.wire import (
    Cancel,
    ClientMessage,
    Failed,
    Generate,
    Inspect,
    Inspected,
    Prewarm,
    Progress,
    Refused,
    StatusReply,
    StatusRequest,
    Unless,
)

__all__ = ["EngineClient", "EnginePaths", "ending"]
__all__ += ["engine_paths", "engine_status", "identity", "list_engines", "stop_engine"]

_START_S = 60.0
"""Maximum wait for a new engine to listen; most of it is Python's startup on a busy machine."""
_EXIT_ALREADY_RUNNING = 4


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
        """The engine's model; None while not attached to an engine."""
        self.on_loading: Callable[[float], None] | None = None
        """Called with fractions from 0 to 1 while the model loads."""
        self.before_start: Callable[[], Awaitable[None]] | None = None
        """Awaited before an engine is started, so that the caller can free memory for the model."""
        self.on_lost: Callable[[], None] | None = None
        """Called when the engine ended or its connection broke, so that nothing is cached any more. Not
        called when this client is closed."""
        self._runtime_dir = runtime_dir
        self._idle_exit_s = idle_exit_s
        self._version = version
        self._link: Link | None = None
        self._process: subprocess.Popen[bytes] | None = None
        """The process of the engine that this client started last."""
        self._connecting = anyio.Lock()
        self._attempt: anyio.CancelScope | None = None
        """The running attempt to attach or start an engine; `aclose` cancels it."""
        self._n_requests = 0
        self._is_closed = False

    async def connect(self) -> ModelInfo:
        """Attach or start an engine, and wait until its model is loaded.

        Raises BackendError: `no_model`, `model_*`, `out_of_memory`, `unsupported` if the model cannot be
        loaded; `engine_start_failed`; `engine_version` if an engine of another version is busy; `engine_lost`
        if the engine does not answer, or the client is closed.
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
                async for reply in replies:
                    if isinstance(reply, Failed):
                        is_over = True
                        raise _error(reply.code, reply.message, reply.data)
                    if isinstance(reply, Progress):
                        has_events = True
                        is_over = isinstance(reply.event, Finished)
                        yield reply.event
                        if is_over:
                            return
                is_over = True
            finally:
                link.forget(id)
                if not is_over:
                    link.send(Cancel(id))
            # The connection was lost. Before any event the engine was most likely just exiting; after one it
            # crashed, which the user should know.
            if has_events or not may_retry:
                raise await _lost(link)

    async def prewarm(
        self,
        segments: tuple[Segment, ...],
        *,
        grammar: str | None = None,
        corpus: tuple[str, ...] = (),
        spawn: bool = True,
        on_event: Listener | None = None,
    ) -> None:
        """Ask for a prewarm when the engine is idle: prefill `segments`, compile `grammar` and index the
        draft corpus. Does not wait for it.

        Without `spawn`, does nothing if no engine is running. `on_event` is called with `PrefillProgress`,
        and at the end with `Finished`, or None if the prewarm failed; later with `Evicted`, until the next
        prewarm; and never after the connection is lost. Raises BackendError like `connect`, but returns while
        the model loads.
        """
        link = await self._attached(spawn=spawn)
        if link is None:
            return
        id = self._next_id()
        if on_event is not None:
            link.listen(id, on_event)
        try:
            self._send(link, Prewarm(id, PrewarmRequest(tuple(segments), grammar, corpus)))
        except BackendError:
            link.forget(id)
            raise

    async def inspect(
        self, segments: tuple[Segment, ...], *, spawn: bool = False
    ) -> tuple[SegmentUse, ...] | None:
        """How many tokens each segment of a request has, and how many are cached. Runs no model.

        None if no engine is running or its model is loading, unless `spawn`. Raises BackendError: those of
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
            async for reply in replies:
                if isinstance(reply, Failed):
                    raise _error(reply.code, reply.message, reply.data)
                if isinstance(reply, Inspected):
                    return reply.segments
        finally:
            link.forget(id)
        raise await _lost(link)

    async def status(self, *, spawn: bool = False) -> StatusReply | None:
        """The engine's status; None if none is running, or one of another version."""
        try:
            link = await self._attached(spawn=spawn)
        except BackendError:
            if spawn:
                raise
            return None
        if link is None:
            return None
        reply = await ask(link, StatusRequest(self._next_id()))
        return reply if isinstance(reply, StatusReply) else None

    async def stop(self, unless: Unless = "never") -> bool:
        """Stop the engine, interrupting its work. False if none is running, or `unless` applies."""
        link = self._link
        if link is None or link.is_closed:
            link = await attach(self._paths(), self._version, self._on_loading)
        if link is None:
            return False
        try:
            return await stop_by(link, self._next_id(), unless)
        finally:
            await link.close()

    async def aclose(self) -> None:
        """Close the connection for good, which cancels this client's requests, even while they attach to or
        start an engine. The engine keeps running."""
        if not self._is_closed:
            self._is_closed = True
            if self._attempt is not None:
                self._attempt.cancel()
        async with self._connecting:  # released soon, since the attempt was cancelled
            link, self._link, self.info = self._link, None, None
        if link is not None:
            await link.close()
        reap()

    def _paths(self) -> EnginePaths:
        return engine_paths(self.target, self._runtime_dir)

    def _next_id(self) -> int:
        self._n_requests += 1
        return self._n_requests

    def _on_loading(self, fraction: float) -> None:
        if self.on_loading is not None:
            self.on_loading(fraction)

    def _send(self, link: Link, message: ClientMessage) -> None:
        try:
            link.send(message)
        except ValueError as error:
            raise BackendError("unsupported", f"The request cannot be sent: {error}.") from None

    async def _attached(self, *, spawn: bool) -> Link | None:
        """An open connection, the model possibly still loading; None if no engine is running or may be
        started."""
        async with self._connecting:
            if self._is_closed:
                raise _closed()
            if self._link is not None and not self._link.is_closed:
                return self._link
            if self._link is not None:
                self._on_closed(self._link)  # its transport is closing, and `connection_lost` comes later
            with anyio.CancelScope() as self._attempt:
                self._link = await self._open(spawn=spawn)
            if self._attempt.cancelled_caught:
                raise _closed()
            if self._link is not None:
                self._link.on_closed = self._on_closed
            return self._link

    def _on_closed(self, link: Link) -> None:
        if link is self._link:
            self._link = self.info = None
            if self.on_lost is not None:
                self.on_lost()

    async def _open(self, *, spawn: bool) -> Link | None:
        """See `_attached`. If cancelled, leaves no connection open."""
        paths = self._paths()
        deadline = time.monotonic() + _START_S
        is_ours = False
        while True:
            link = await attach(paths, self._version, self._on_loading)
            if link is None and not spawn:
                return None
            if link is None:
                link = await self._spawn(paths)
            if link is not None and link.refused is not None:
                # We just started it and it has another version: replacing it again cannot help.
                await self._replace(link, link.refused, may_stop=not is_ours)
                link, is_ours = None, True
            if link is not None:
                return link
            if time.monotonic() > deadline:
                raise BackendError(
                    "engine_start_failed",
                    f"No engine could be reached on {paths.socket}. See its log {paths.log}.",
                )
            await anyio.sleep(POLL_S)

    async def _replace(self, link: Link, refused: Refused, *, may_stop: bool) -> None:
        """Stop an engine of another version, unless it is busy."""
        try:
            if may_stop and await stop_by(link, self._next_id(), "busy"):
                return
        finally:
            await link.close()
        raise BackendError(
            "engine_version",
            f"An engine of singlepass {refused.version} (this is {self._version}) is at work for another "
            "editor. Wait for it to finish, or run `singlepass engine stop`.",
        )

    async def _spawn(self, paths: EnginePaths) -> Link | None:
        """Start an engine and connect to it, or to one that another client starts at the same time."""
        check_target(self.target)
        lock = open_private(paths.spawn_lock, os.O_RDWR)
        try:
            while not try_lock(lock):  # noqa: ASYNC110 - another process holds it
                await anyio.sleep(POLL_S)
            if link := await attach(paths, self._version, self._on_loading):
                return link
            # The engine may still be starting, for a request that was cancelled.
            process = self._process
            is_new = process is None or process.poll() is not None
            if process is None or is_new:
                if self.before_start is not None:
                    await self.before_start()
                process = self._process = start(self.target, paths, self._idle_exit_s)
            deadline = time.monotonic() + _START_S
            while time.monotonic() < deadline:
                if link := await attach(paths, self._version, self._on_loading):
                    return link
                if (code := process.poll()) is not None:
                    if code == _EXIT_ALREADY_RUNNING or not is_new:
                        return None
                    raise start_failed(paths, ending(code))
                await anyio.sleep(POLL_S)
            raise start_failed(paths, f"did not listen within {_START_S:.0f} s")
        finally:
            os.close(lock)
            reap()

    async def _loaded(self, link: Link) -> ModelInfo:
        await link.settled.wait()
        if link.info is not None:
            if link is self._link:
                self.info = link.info
            return link.info
        if link.failure is not None:
            raise _error(link.failure.code, link.failure.message)
        if self._is_closed:
            raise _closed()
        raise start_failed(link.paths, f"{await end_of(link.pid)} while loading the model")


async def engine_status(paths: EnginePaths) -> StatusReply | None:
    """The status of the engine of `paths`; None if it is gone, or of another version."""
    link = await attach(paths, __version__, _ignore)
    if link is None:
        return None
    try:
        reply = await ask(link, StatusRequest(1)) if link.refused is None else None
        return reply if isinstance(reply, StatusReply) else None
    finally:
        await link.close()


async def stop_engine(paths: EnginePaths) -> bool:
    """Stop the engine of `paths`, whatever its version. False if it is gone."""
    link = await attach(paths, __version__, _ignore)
    if link is None:
        return False
    try:
        return await stop_by(link, 1)
    finally:
        await link.close()


def _ignore(_fraction: float) -> None:
    pass


async def _lost(link: Link) -> BackendError:
    return BackendError(
        "engine_lost",
        f"The engine {await end_of(link.pid)} in the middle of a request. Its log is {link.paths.log}. Try "
        "again: the next request starts it anew.",
    )


def _closed() -> BackendError:
    return BackendError("engine_lost", "This connection to the engine was closed.")


def _error(code: str, message: str, data: bytes = b"") -> BackendError:
    known = cast(ErrorCode, code if code in get_args(ErrorCode) else "internal")
    numbers: dict[str, Any] = msgspec.msgpack.decode(data) if data else {}
    return BackendError(known, message, numbers)
