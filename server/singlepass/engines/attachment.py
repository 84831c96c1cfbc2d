"""The attachment to a target's engine: the connection, and what is known about the engine while it lasts.

What is cached, how much fits and what was left out for that apply to one engine process. When the connection
ends, because the engine was idle, was stopped or died, the next request starts an engine with an empty cache;
so this knowledge is dropped together with the connection.
"""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import anyio
from singlepass_backends.base import ModelInfo, ReplyForm, Segment, Target

from singlepass.core.context import Context

if TYPE_CHECKING:
    from singlepass_backends.client import EngineClient

ASSUMED_CONTEXT = 32_768
"""Assumed context in tokens, until an engine has reported its own."""

_MAX_FITTED = 8


MOST_PARAMS = 2_000_000_000
"""Number of parameters up to which a model is asked to write lines anew, unless the target's `form` says
otherwise. Measured with 0.5 and 1.5 billion."""


class Known:
    """What is known about an engine while this server is attached to it."""

    def __init__(self) -> None:
        self.uri: str | None = None
        """The URI of the document that was prewarmed last; None for the segments that all documents share."""
        self.n_cached: int | None = None
        """Tokens of its context that are cached, as last reported by the engine; None before that."""
        self.n_uncached = 0
        """Tokens of its context that are still to be prefilled."""
        self.pending: tuple[Segment, ...] = ()
        """The running prewarm. It is not requested again while it runs, since that would only interrupt
        it."""
        self._fitted: dict[Context, Context] = {}

    def fitted(self, context: Context) -> Context | None:
        """The context as fitted to this model, if already known."""
        found = self._fitted.pop(context, None)
        if found is not None:
            self._fitted[context] = found  # the latest last
        return found

    def remember(self, context: Context, fitted: Context) -> None:
        """Store how a context was fitted to this model."""
        self._fitted[context] = fitted
        if len(self._fitted) > _MAX_FITTED:
            del self._fitted[next(iter(self._fitted))]


class Attachment:
    """The attachment to one target's engine. The first request attaches to the engine or starts it."""

    def __init__(self, name: str, target: Target, client: "EngineClient") -> None:
        self.name = name
        self.target = target
        self.client = client
        self.known = Known()
        """Replaced by a new object when the connection ends."""
        self.on_lost: Callable[[], None] = lambda: None
        """Called when the connection ended."""
        self._n_users = 0
        self._left = anyio.Event()
        client.on_lost = self._lost

    @property
    def info(self) -> ModelInfo | None:
        """The engine's model; None while not attached."""
        return self.client.info

    @property
    def n_ctx(self) -> int:
        """Context in tokens, or an assumption until it is known."""
        info = self.info
        return (info.n_ctx if info is not None else self.target.n_ctx) or ASSUMED_CONTEXT

    @property
    def may_rewrite(self) -> bool:
        """Whether the model may be asked for rewrites; False until it is known."""
        return self.info is not None and may_rewrite(self.info, self.target.form)

    def cached(self, uri: str) -> tuple[int, int] | None:
        """Number of cached and of uncached tokens of the document's context; None if unknown."""
        known = self.known
        if uri != known.uri or known.n_cached is None:
            return None
        return known.n_cached, known.n_uncached

    @contextmanager
    def used(self) -> Generator[None, None, None]:
        """While a job uses the engine; `aclose` waits for its end."""
        self._n_users += 1
        try:
            yield
        finally:
            self._n_users -= 1
            self._left.set()

    async def aclose(self) -> None:
        """Detach for good once the jobs that use the engine have ended. The engine keeps running."""
        while self._n_users:
            self._left = anyio.Event()
            await self._left.wait()
        await self.client.aclose()
        self.known = Known()

    def _lost(self) -> None:
        self.known = Known()
        self.on_lost()


def may_rewrite(info: ModelInfo, form: ReplyForm) -> bool:
    """Whether a model is asked for rewrites, where the request allows it."""
    if form != "auto":
        return form == "rewrite"
    return not (info.random_weights or info.is_demo) and 0 < info.n_params <= MOST_PARAMS
