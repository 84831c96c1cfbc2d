"""Prewarms: the context of the document in use is prefilled before an action is requested.

A prewarm is exactly a prefix of the prompt that an action would have. It is requested when the editor starts,
when a document is opened, after a pause in typing, when the editor asks for actions, and when related files
change; the newest replaces the others, and jobs have priority in the engine.

It is requested each time, regardless of earlier ones, because only the engine knows what is still cached:
another window may have evicted it, and a new engine has nothing. If everything is cached, a prewarm costs
almost nothing. The status notification reports the engine's answers.
"""

import logging
from collections.abc import Callable
from typing import NamedTuple

import anyio
from singlepass_backends.base import BackendError, Event, Evicted, Finished, PrefillProgress, Segment

from singlepass.config import Settings
from singlepass.editor.documents import Document
from singlepass.editor.requests import Editor, Status, tell_status
from singlepass.editor.tasks import Owner, Work, in_thread
from singlepass.editor.workspace import UserError
from singlepass.engines.attachment import Attachment
from singlepass.engines.contexts import Contexts

log = logging.getLogger(__name__)

ASKED_PAUSE_S = 0.3
"""Pause in seconds after a request for actions, which editors send at every move of the cursor."""
OPENED_PAUSE_S = 0.3
TYPED_PAUSE_S = 0.8
"""Pause in seconds after a keystroke: long enough that few prewarms are wasted, short enough to finish before
the click."""


class _Told(NamedTuple):
    """The state that was last reported to the editor."""

    attachment: Attachment
    uri: str | None


class Prewarm:
    """Manages prewarms: at most one is waiting or running."""

    def __init__(
        self, editor: Editor, contexts: Contexts, is_busy: Callable[[], bool], settled: anyio.Event
    ) -> None:
        """Nothing is prewarmed while jobs keep the engine busy, nor before the settings are `settled`, since
        they may name another model."""
        self.settings = Settings()
        self.tasks = Owner()
        self.newest: Work | None = None
        """What was requested last."""
        self._editor = editor
        self._contexts = contexts
        self._is_busy = is_busy
        self._settled = settled
        self._asked: str | None = None
        self._told: _Told | None = None

    @property
    def target(self) -> str:
        """The target that is prewarmed for the document in use; empty if there is none."""
        try:
            return self._contexts.target_for(self._asked)
        except UserError:
            return ""

    def document(self, uri: str, pause_s: float = ASKED_PAUSE_S) -> None:
        """Prewarm for a document after a pause, unless another prewarm is requested first."""
        if self._contexts.may_prewarm(uri):
            self.soon(uri, pause_s)

    def document_opened(self, document: Document) -> None:
        """A document was opened: prewarm it."""
        self.document(document.uri, OPENED_PAUSE_S)

    def document_changed(self, document: Document) -> None:
        """The user typed."""
        self.document(document.uri, TYPED_PAUSE_S)

    def soon(self, uri: str | None, pause_s: float = ASKED_PAUSE_S) -> None:
        """Prewarm a document's context, or the shared segments (None)."""
        if not self._is_on():
            return
        self._asked = uri
        if self.newest is not None:
            self.newest.cancel()
        self.newest = self.tasks.start(self._after, uri, pause_s)

    def again(self, pause_s: float = TYPED_PAUSE_S) -> None:
        """Prewarm the same document again: its context or the target may have changed."""
        self.soon(self._asked, pause_s)

    def detached(self, attachment: Attachment) -> None:
        """An engine ended, so nothing is cached: tell the editor."""
        if self._told is not None and self._told.attachment is attachment:
            self._tell_cold(attachment, self._told.uri, "cold: its engine is gone")

    def _is_on(self) -> bool:
        if not self.settings.prewarm:
            return False
        return self.settings.prewarm != "plugged" or _is_plugged()

    async def _after(self, uri: str | None, pause_s: float) -> None:
        await anyio.sleep(pause_s)
        await self._settled.wait()
        try:
            attachment = self._contexts.attachment_for(uri)
            if self._told is not None and self._told.attachment is not attachment:
                self._tell_cold(attachment, uri, f"cold: `{attachment.name}` has not read it yet")
            await attachment.client.connect()  # the context's size must be known
            plan = await self._contexts.plan(uri, attachment)
            if plan.segments == attachment.known.pending or self._is_busy():
                return
            grammar, corpus = await in_thread(lambda: (plan.grammar(), plan.draft_corpus()))
            if self._is_busy():
                return
            await attachment.client.prewarm(
                plan.segments,
                grammar=grammar,
                corpus=corpus,
                on_event=lambda event: self._take(attachment, uri, plan.segments, event),
            )
            attachment.known.pending = plan.segments
        except (BackendError, UserError) as error:
            # A later job will report the error; a prewarm, which the user did not request, stays silent.
            log.info("no prewarm: %s", error)

    def _take(
        self,
        attachment: Attachment,
        uri: str | None,
        segments: tuple[Segment, ...],
        event: Event | Evicted | None,
    ) -> None:
        """Handle the engine's events about a prewarm, in order; None means that it failed."""
        known = attachment.known
        match event:
            case PrefillProgress():
                known.uri = uri
                known.n_cached, known.n_uncached = event.n_done, event.n_prompt - event.n_done
                if known.n_uncached:
                    percent = 100 * event.n_done // event.n_prompt
                    message = f"warming {percent}%"
                    self._tell(attachment, uri, "warming", message, percent, event.eta_ms)
            case Finished() | None:
                if known.pending is segments:
                    known.pending = ()
                if event is not None and event.finish_reason == "stop":
                    self._tell(attachment, uri, "warm", "warm", 100)
            case Evicted() if known.uri == uri and known.n_cached is not None:
                known.n_cached -= event.n_tokens
                known.n_uncached += event.n_tokens
                if self._told == (attachment, uri):
                    self._tell_cold(attachment, uri, "cold: other requests took its place in the cache")
            case _:
                pass

    def _tell(
        self,
        attachment: Attachment,
        uri: str | None,
        state: str,
        message: str,
        percent: int,
        eta_ms: float | None = None,
    ) -> None:
        if not self._is_busy():
            self._told = _Told(attachment, uri)
            status = Status(state, message, percent, uri=uri, eta_ms=eta_ms, target=attachment.name)
            tell_status(self._editor, status)

    def _tell_cold(self, attachment: Attachment, uri: str | None, message: str) -> None:
        self._told = None
        tell_status(self._editor, Status("cold", message, 0, uri=uri, target=attachment.name))


def _is_plugged() -> bool:
    """Whether the machine runs on mains power, or has no battery."""
    import psutil  # here, since the editor waits for our imports

    battery = psutil.sensors_battery()
    return battery is None or battery.power_plugged is not False
