"""Who owns what runs: anyio's task groups, and the one place where they meet the plain asyncio of pygls.

Each part of the server has an `Owner`, a task group that runs inside the connection's. `lsp/parts.py` starts
them. So nothing outlives the connection. Handlers of pygls and listeners for events are plain functions, in
which no task group can be entered; they give their work to an owner and return.

pygls forces plain asyncio in two points. It runs a coroutine handler as a task that nobody waits for, cancels
it by its future and reads the result there: `Owner.future` is such a future, of owned work. And the answer to
a request of ours is a future. At shutdown pygls cancels this future. The waiting task then gets a
CancelledError although its own scope was not cancelled; `Work.run` catches it, so that only this work ends.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import anyio
from anyio.abc import TaskGroup
from anyio.lowlevel import checkpoint_if_cancelled

log = logging.getLogger(__name__)

_Result = TypeVar("_Result")
_Function = Callable[..., Awaitable[object]]

_MAX_THREADS = anyio.CapacityLimiter(4)
"""Maximum number of threads that read files and build grammars at once; more would only take time from the
editor."""


class Work:
    """One piece of work of an owner."""

    def __init__(self) -> None:
        self.ended = anyio.Event()
        self._scope = anyio.CancelScope()

    @property
    def is_cancelled(self) -> bool:
        """Whether it was cancelled, though it may not have noticed yet."""
        return self._scope.cancel_called

    def cancel(self) -> None:
        """Cancel it; no effect if it has ended."""
        self._scope.cancel()

    async def run(self, function: _Function, *arguments: object) -> None:
        """Called by the owner. An error ends only this work, and is logged."""
        try:
            with self._scope:
                await function(*arguments)
        except Exception:
            log.exception("%s failed inside singlepass", function)
        except asyncio.CancelledError:
            pass  # the owner's end, or the cancel of a future of pygls, which must not end the owner
        finally:
            self.ended.set()


class Owner:
    """Runs the work that it is given. When `run` ends, all of it is cancelled."""

    def __init__(self) -> None:
        self._group: TaskGroup | None = None
        self._early: list[tuple[object, ...]] = []
        self._is_closed = False
        self._ended = anyio.Event()

    async def run(self) -> None:
        """Run work until cancelled or closed by `aclose`; called once."""
        try:
            async with anyio.create_task_group() as self._group:
                for work in self._early:
                    self._group.start_soon(*work)  # type: ignore[arg-type]
                if not self._is_closed:
                    await anyio.sleep_forever()
                self._group.cancel_scope.cancel()
        finally:
            self._is_closed = True
            self._ended.set()

    def start(self, function: _Function, *arguments: object, work: Work | None = None) -> Work:
        """Start this work, as soon as the owner runs, and return it. Nothing starts after the owner's end."""
        work = work or Work()
        if self._is_closed:
            work.cancel()
            work.ended.set()
        elif self._group is None:
            self._early.append((work.run, function, *arguments))
        else:
            self._group.start_soon(work.run, function, *arguments)
        return work

    def future(self, function: _Function, *arguments: object) -> "asyncio.Future[Any]":
        """Start this work for pygls, which cancels it by its future and takes the result from there."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        async def settle() -> None:
            try:
                result = await function(*arguments)
            except Exception as error:
                if not future.done():
                    future.set_exception(error)
            else:
                if not future.done():
                    future.set_result(result)
            finally:
                future.cancel()

        work = self.start(settle)
        future.add_done_callback(lambda _: work.cancel())
        return future

    async def aclose(self) -> None:
        """Cancel all its work, and wait until that has ended."""
        self._is_closed = True
        if self._group is not None:
            self._group.cancel_scope.cancel()
            await self._ended.wait()


async def in_thread(function: Callable[..., _Result], *arguments: object) -> _Result:
    """Call a function that blocks on the disk or computes for long. A cancelled caller does not wait."""
    return await anyio.to_thread.run_sync(function, *arguments, abandon_on_cancel=True, limiter=_MAX_THREADS)


@asynccontextmanager
async def shielded_for(within_s: float) -> AsyncGenerator[None, None]:
    """The block is shielded from cancellation for up to `within_s` seconds after a cancel; then it is
    cancelled too."""

    async def limit() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            scope.deadline = anyio.current_time() + within_s

    try:
        async with anyio.create_task_group() as tasks:
            with anyio.CancelScope(shield=True) as scope:
                tasks.start_soon(limit)
                yield
            tasks.cancel_scope.cancel()
    except ExceptionGroup as group:
        raise group.exceptions[0] from None  # only what runs in the context raises
    await checkpoint_if_cancelled()


async def first(*waits: Callable[[], Awaitable[object]]) -> None:
    """Wait until the first of these ends, and cancel the others."""
    async with anyio.create_task_group() as tasks:

        async def end_with(wait: Callable[[], Awaitable[object]]) -> None:
            await wait()
            tasks.cancel_scope.cancel()

        for wait in waits:
            tasks.start_soon(end_with, wait)
