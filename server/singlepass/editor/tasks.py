"""Who owns what runs: anyio's task groups, and the one place where they meet the plain asyncio of pygls.

Each part of the server that begins work has an `Owner`: a task group in a task of the connection's group, so
that nothing outlives the connection. Handlers of pygls and listeners for events are plain functions, in which
no task group can be entered; they give their work to an owner and return.

pygls forces plain asyncio in two points. It runs a coroutine handler as a task that nobody waits for, cancels
it by its future and reads the result there: `Owner.future` is such a future, of owned work. And the answer to
a request of ours is a future, awaited as in any asyncio program, which pygls cancels at shutdown. Nobody has
cancelled who waits for it then: the CancelledError ends that work, and not its owner (`Work.run`).
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

_AT_ONCE = anyio.CapacityLimiter(4)
"""Files and grammars are read and computed by so many threads; more would only take time from the editor."""


class Work:
    """Something that an owner has begun, or will as soon as it runs."""

    def __init__(self) -> None:
        self.ended = anyio.Event()
        self._scope = anyio.CancelScope()

    @property
    def is_cancelled(self) -> bool:
        """Whether it was cancelled, though it may not have noticed yet."""
        return self._scope.cancel_called

    def cancel(self) -> None:
        """End it at its next step; nothing if it has ended."""
        self._scope.cancel()

    async def run(self, function: _Function, *arguments: object) -> None:
        """Called by the owner. An error ends this work alone, and is logged."""
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
    """Owns the work that it is given: all of it ends with `run`, which is called once."""

    def __init__(self) -> None:
        self._group: TaskGroup | None = None
        self._early: list[tuple[object, ...]] = []
        self._is_closed = False
        self._ended = anyio.Event()

    async def run(self) -> None:
        """Do what is given, until cancelled or `aclose`."""
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
        """Begin this work, and return it. Nothing is begun after the owner's end."""
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
        """Begin this work for pygls, which cancels it by its future and takes the result from there."""
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
        """Cancel what it does, and wait for the end of that."""
        self._is_closed = True
        if self._group is not None:
            self._group.cancel_scope.cancel()
            await self._ended.wait()


async def in_thread(function: Callable[..., _Result], *arguments: object) -> _Result:
    """Call what blocks on the disk or computes for long. If cancelled, its result is not waited for."""
    return await anyio.to_thread.run_sync(function, *arguments, abandon_on_cancel=True, limiter=_AT_ONCE)


@asynccontextmanager
async def finishing(within_s: float) -> AsyncGenerator[None, None]:
    """What begins in this context goes on after a cancel, at most for so long; then the cancel counts."""

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
    """Wait for the first of these, and end the others."""
    async with anyio.create_task_group() as tasks:

        async def end_with(wait: Callable[[], Awaitable[object]]) -> None:
            await wait()
            tasks.cancel_scope.cancel()

        for wait in waits:
            tasks.start_soon(end_with, wait)
