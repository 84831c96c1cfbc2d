"""A target's engine as this server is attached to it: the connection, and what is known as long as it lasts.

What is cached, how much fits and what was left out for it are true of one engine process. When the connection
ends, because the engine was idle, was stopped or died, the next request starts an engine that has nothing
cached; so what was known of the one before is dropped with the connection.
"""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from singlepass_backends.base import ModelInfo, Segment, Target

from singlepass.core.context import Context

if TYPE_CHECKING:
    from singlepass_backends.client import EngineClient

ASSUMED_CONTEXT = 32_768
"""In tokens, until an engine has said what it has."""

_MAX_FITTED = 8


class Known:
    """What is known of an engine while this server is attached to it."""

    def __init__(self) -> None:
        self.uri: str | None = None
        """The document that was prewarmed last; None is what all documents share."""
        self.n_cached: int | None = None
        """Tokens of its context that the engine has cached, by the engine's last word; None before that."""
        self.n_uncached = 0
        """Those still to be prefilled."""
        self.pending: tuple[Segment, ...] = ()
        """The prewarm that the engine was asked for and has not ended. Asked again it would only be
        interrupted."""
        self._fitted: dict[Context, Context] = {}

    def fitted(self, context: Context) -> Context | None:
        """What is left of the context in this model's window, where that was found out already."""
        found = self._fitted.pop(context, None)
        if found is not None:
            self._fitted[context] = found  # the latest last
        return found

    def remember(self, context: Context, fitted: Context) -> None:
        """Keep what is left of a context in this model's window."""
        self._fitted[context] = fitted
        if len(self._fitted) > _MAX_FITTED:
            del self._fitted[next(iter(self._fitted))]


class Attachment:
    """The engine of one target of the settings. It is attached, or started, by the first request."""

    def __init__(self, name: str, target: Target, client: "EngineClient") -> None:
        self.name = name
        self.target = target
        self.client = client
        self.known = Known()
        """Another object after the connection ended."""
        self.on_lost: Callable[[], None] = lambda: None
        """Called when the connection ended."""
        self._users: set[asyncio.Task[object]] = set()
        client.on_lost = self._lost

    @property
    def info(self) -> ModelInfo | None:
        """What the engine has loaded; None while there is none."""
        return self.client.info

    @property
    def n_ctx(self) -> int:
        """Tokens of context, as far as they are known."""
        info = self.info
        return (info.n_ctx if info is not None else self.target.n_ctx) or ASSUMED_CONTEXT

    def cached(self, uri: str) -> tuple[int, int] | None:
        """Tokens of the document's context that are cached, and those that are not; None where not known."""
        known = self.known
        if uri != known.uri or known.n_cached is None:
            return None
        return known.n_cached, known.n_uncached

    def use(self, task: "asyncio.Task[object]") -> None:
        """A job that uses the engine; `aclose` waits for it."""
        self._users.add(task)
        task.add_done_callback(self._users.discard)

    async def aclose(self) -> None:
        """Detach for good once the jobs that use the engine have ended. The engine lives on."""
        if self._users:
            await asyncio.wait(self._users)
        await self.client.aclose()
        self.known = Known()

    def _lost(self) -> None:
        self.known = Known()
        self.on_lost()
