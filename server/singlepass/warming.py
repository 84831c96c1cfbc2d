"""Reading ahead: the context of the document the user is in, before an action is asked for.

A prewarm is exactly the beginning of the prompt that an action would have. It is asked for when the editor
starts, when a document is opened, after a pause in typing, when the editor asks for actions, and when the
files around it change; the newest replaces the others, and the engine lets any job pass. The status
notification carries how far it is.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Protocol

import msgspec
from singlepass_backends.base import BackendError, Event, Finished, ModelInfo, PrefillProgress, Segment

from singlepass.config import Settings
from singlepass.editor import Editor, Status, tell_status
from singlepass.workspace import UserError

log = logging.getLogger(__name__)

ASKED_PAUSE_S = 0.3
"""After a request for actions. Editors send one at every move of the cursor."""
OPENED_PAUSE_S = 0.3
TYPED_PAUSE_S = 0.8
"""After a keystroke: long enough that few prewarms are thrown away, short enough to be done at the click."""


class Reader(Protocol):
    """The part of the engine's client that reads ahead."""

    async def connect(self) -> ModelInfo: ...

    async def prewarm(
        self,
        segments: tuple[Segment, ...],
        *,
        grammar: str | None = None,
        sources: tuple[str, ...] = (),
        spawn: bool = True,
        on_event: Callable[[Event], None] | None = None,
    ) -> None: ...


class Ahead(msgspec.Struct, frozen=True):
    """What can be done for a request that has not come yet."""

    segments: tuple[Segment, ...]
    grammar: Callable[[], str | None] = lambda: None
    """Builds the grammar of the request, which takes some 20 ms."""
    beside: Callable[[], tuple[str, ...]] = lambda: ()
    """Reads texts beside the prompt to draft from."""


Plan = Callable[[str | None], Awaitable[Ahead]]
"""What to do for a document (a URI) as it is now, or for what all documents share (None). Raises UserError,
BackendError."""


class Warming:
    """At most one prewarm, waiting or under way."""

    def __init__(
        self,
        editor: Editor,
        plan: Plan,
        reader: Callable[[str | None], Reader],
        is_busy: Callable[[], bool],
        target: Callable[[], str],
        settled: asyncio.Event,
    ) -> None:
        """`reader` gives the engine's client or raises UserError. Nothing is read ahead while `is_busy`.
        `target` names the target in use. Before the settings are `settled` another model could be meant."""
        self.settings = Settings()
        self.task: asyncio.Task[None] | None = None
        self._editor = editor
        self._plan = plan
        self._reader = reader
        self._is_busy = is_busy
        self._target = target
        self._settled = settled
        self._asked: str | None = None
        self._segments: tuple[Segment, ...] = ()
        self._uri: str | None = None
        self._read: tuple[int, int] | None = None

    def soon(self, uri: str | None, pause_s: float = ASKED_PAUSE_S) -> None:
        """Read ahead for a document, or what all share, after a pause, unless another is asked for before."""
        if not self._is_allowed():
            return
        self._asked = uri
        if self.task is not None:
            self.task.cancel()
        self.task = asyncio.ensure_future(self._after(uri, pause_s))

    def again(self, pause_s: float = TYPED_PAUSE_S) -> None:
        """What stands around the document may have changed: see whether there is something new to read."""
        self.soon(self._asked, pause_s)

    def read(self, uri: str) -> tuple[int, int] | None:
        """Tokens of the document's context that are read, and those still to be; None where not known."""
        return self._read if uri == self._uri else None

    def forget(self) -> None:
        """Another engine knows nothing of what was read."""
        self._segments, self._uri, self._read = (), None, None

    def stop(self) -> list[asyncio.Task[None]]:
        """Cancel what waits; returns the tasks to wait for."""
        if self.task is None:
            return []
        self.task.cancel()
        return [self.task]

    def _is_allowed(self) -> bool:
        if not self.settings.prewarm:
            return False
        return self.settings.prewarm != "plugged" or _is_plugged()

    async def _after(self, uri: str | None, pause_s: float) -> None:
        await asyncio.sleep(pause_s)
        await self._settled.wait()
        try:
            reader = self._reader(uri)
            await reader.connect()  # only then is it known how much fits
            ahead = await self._plan(uri)
            if ahead.segments == self._segments or self._is_busy():
                return
            grammar, beside = await asyncio.to_thread(lambda: (ahead.grammar(), ahead.beside()))
            if self._is_busy():
                return
            self._uri, self._read = uri, None
            await reader.prewarm(
                ahead.segments,
                grammar=grammar,
                sources=beside,
                on_event=lambda event: self._take(uri, event),
            )
            self._segments = ahead.segments
        except (BackendError, UserError) as error:
            # The job that follows will say it to the user; a prewarm nobody asked for stays silent.
            log.info("no prewarm: %s", error)

    def _take(self, uri: str | None, event: Event) -> None:
        match event:
            case PrefillProgress():
                if uri == self._uri:
                    self._read = event.n_done, event.n_prompt - event.n_done
                percent = 100 * event.n_done // max(1, event.n_prompt)
                self._tell(uri, "warming", f"warming {percent}%", percent, event.eta_ms)
            case Finished("stop"):
                self._tell(uri, "warm", "warm", 100)
            case Finished():
                self._segments = ()  # interrupted: worth another try
            case _:
                pass

    def _tell(
        self, uri: str | None, state: str, message: str, percent: int, eta_ms: float | None = None
    ) -> None:
        if not self._is_busy():
            status = Status(state, message, percent, uri=uri, eta_ms=eta_ms, target=self._target())
            tell_status(self._editor, status)


def _is_plugged() -> bool:
    """Whether the machine runs on mains power, or has no battery."""
    import psutil  # here, since the editor waits for our imports

    battery = psutil.sensors_battery()
    return battery is None or battery.power_plugged is not False
