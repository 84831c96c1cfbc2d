"""One job from instruction to applied hunks: context → engine → parser → planner → editor.

`Session.run` is one loop over the engine's events. Each finished hunk is planned on the snapshot that the
prompt was made of and delivered before the next is taken, so at most one edit is in flight. The user's
keystrokes win: a hunk whose lines they touched is rejected and reported with its text.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Protocol

import msgspec
from lsprotocol import types as lsp
from singlepass_backends.base import (
    BackendError,
    Event,
    Finished,
    GenerateRequest,
    ModelInfo,
    PrefillProgress,
    Sampling,
    Segment,
    SegmentUse,
    TextChunk,
)

from singlepass.config import Settings
from singlepass.contexts import MIN_REPLY_TOKENS, encodable, grammar_for
from singlepass.core import report
from singlepass.core.context import Context, shrink
from singlepass.core.diff_parser import DiffParser, Hunk, HunkDropped, HunkFinished, ParserEvent
from singlepass.core.edits import Edit
from singlepass.core.grammar import marker_size
from singlepass.core.inert import inert
from singlepass.core.lines import split_lines, visible_lines
from singlepass.core.matcher import find_runs
from singlepass.core.planner import (
    PlannedHunk,
    RejectedHunk,
    RejectReason,
    plan,
    reject_dropped,
    resolve,
)
from singlepass.core.prompt import Task, expect_reply, render_prompt
from singlepass.delivery import MAY_BE_THERE, Delivery, Late, Sent, Source, booked, deliver
from singlepass.documents import Documents
from singlepass.editor import Editor, Progress, Status, tell_status
from singlepass.outcome import (
    Job,
    Outcome,
    diagnostics,
    note_unseen,
    payload,
    rejected_sentence,
    summary,
    unseen_sentence,
    with_applied,
)
from singlepass.preview import Preview
from singlepass.reviewing import Reviews
from singlepass.workspace import UserError, read_source

log = logging.getLogger(__name__)

_WORTH_EXPLAINING = 32
"""Tokens of context read after the click that are worth a word why."""
_REPORT_EVERY_S = 0.1
"""How often decoding is told; each token would flood the editor."""
_LAST_EDIT_S = 2.0
"""How long a cancelled job waits for the answer to the edit it has already sent."""


def _text_now(uri: str) -> str | None:
    """What a file holds that is not open; None where it cannot be read."""
    try:
        return read_source(uri)
    except UserError:
        return None


class Engine(Protocol):
    """The part of the engine's client that a job uses."""

    async def connect(self) -> ModelInfo: ...

    def generate(self, request: GenerateRequest) -> AsyncGenerator[Event, None]: ...

    async def inspect(
        self, segments: tuple[Segment, ...], *, spawn: bool = False
    ) -> tuple[SegmentUse, ...] | None: ...


class Session:
    """The life of one job; `run` is called once.

    `context` and `sources` are those of the moment the job was asked for, because the selection and the
    comment are given in its lines; what is typed while the model loads is rebased over like the rest. `fit`
    leaves out of it what has no place in the model's. `protected` are the files, by URI, that are edited only
    after a question of their own, each with what it is.
    """

    def __init__(
        self,
        job: Job,
        context: Context,
        sources: dict[str, Source],
        *,
        documents: Documents,
        settings: Settings,
        engine: Engine,
        editor: Editor,
        reviews: Reviews,
        fit: Callable[[Context], Awaitable[Context]],
        beside: Callable[[Context], tuple[str, ...]],
        protected: Mapping[str, str],
        is_inside: Callable[[str], bool],
    ) -> None:
        self.job = job
        self._protected = protected
        self._is_inside = is_inside
        self._fit = fit
        self._beside = beside
        self.documents = documents
        self.settings = settings
        self.engine = engine
        self.editor = editor
        self.reviews = reviews
        self.sources = sources
        self._context = context
        self._target_path = context.target.path
        self._started = time.monotonic()
        self._reported = 0.0
        self._waiting: list[PlannedHunk] = []
        """Hunks that are sent together at the end."""
        self._late: set[asyncio.Task[Sent]] = set()
        """Edits that the editor has not answered in time."""
        self.on_late: Callable[[], object] = lambda: None
        """Called when one of them was applied after all."""
        self._progress = Progress(None, "")
        shown = {uri: one for uri, one in sources.items() if uri not in protected}
        is_shown = settings.review == "stream" and editor.capabilities.preview
        self._preview = Preview(job.id, shown if is_shown else {}, editor)

    async def run(self, cancel: Callable[[], object]) -> Outcome:
        """Do the job and tell how it went."""
        outcome: Outcome = "failed"
        try:
            self._tell("starting", "starting")
            self._progress = await self.editor.progress(f"singlepass: {self.job.request.title}", cancel)
            await self._generate()
            outcome = "done"
        except asyncio.CancelledError:
            outcome = "cancelled"
        except BackendError as error:
            self.job.error = error
        except UserError as error:
            self.job.error = BackendError("unsupported", str(error))
        except Exception as error:
            log.exception("job %d failed inside singlepass", self.job.id)
            message = f"An internal error, which is a bug of singlepass: {error!r}. The log has more."
            self.job.error = BackendError("internal", message)
        finally:
            self.conclude(outcome)
        return outcome

    async def _generate(self) -> None:
        """Run the request, with fewer neighbours when the prompt is too long for the model."""
        job = self.job
        before_ms = self._elapsed_ms()
        job.info = await self.engine.connect()
        job.connect_ms = self._elapsed_ms() - before_ms
        context = await self._fit(self._context)
        while True:
            try:
                return await self._stream(context)
            except BackendError as error:
                if error.code != "prompt_too_long":
                    raise
                n_tokens = {str(name): int(n) for name, n in error.data.get("segments", ())}
                smaller = shrink(context, n_tokens, int(error.data.get("n_excess", 1)))
                if smaller is None:
                    raise
                context = smaller

    async def _stream(self, context: Context) -> None:
        self.job.left_out = context.left_out
        size = marker_size([*context.editable, *context.editable.values()])
        # Prompt and grammar of a long file take 0.1 s of computing; the editor is answered meanwhile.
        request = await asyncio.to_thread(self._request, context, size)
        parser = DiffParser(size, context.editable, is_constrained=self._is_constrained(request))
        self.job.reply.clear()
        try:
            async with aclosing(self.engine.generate(request)) as events:
                async for event in events:
                    await self._take(event, parser)
        except (asyncio.CancelledError, BackendError):
            # What was cut off is reported with its text, never half-applied.
            self._note_dropped(parser.close(complete=False))
            message = "The job ended before its edits were sent together."
            self.job.rejected += (RejectedHunk(one.hunk, "refused", message) for one in self._waiting)
            raise
        await self._take_parsed(parser.close(complete=self.job.finish_reason == "stop"))
        await self._remove_comment()
        await self._deliver([one for one in self._waiting if one.snapshot.uri not in self._protected])
        for uri in dict.fromkeys(one.snapshot.uri for one in self._waiting):
            if uri in self._protected:
                await self._deliver([one for one in self._waiting if one.snapshot.uri == uri])

    def _request(self, context: Context, size: int) -> GenerateRequest:
        asked, settings = self.job.request, self.settings
        task = Task(asked.instruction, self._target_path, asked.first_line, asked.end_line, asked.diagnostics)
        info = self.job.info
        assert info is not None
        return GenerateRequest(
            segments=encodable(render_prompt(context, task, size)),
            grammar=grammar_for(context, info, asked.first_line, asked.end_line),
            max_tokens=settings.max_tokens,
            min_reply=min(settings.max_tokens, MIN_REPLY_TOKENS, info.n_ctx // 4),
            sampling=Sampling(settings.temperature, settings.top_p, settings.seed),
            draft=expect_reply(context, task, size, self._beside(context)),
        )

    def _is_constrained(self, request: GenerateRequest) -> bool:
        info = self.job.info
        return request.grammar is not None and info is not None and info.always_constrains

    # Events of the engine.

    async def _take(self, event: Event, parser: DiffParser) -> None:
        job = self.job
        match event:
            case PrefillProgress():
                job.progress = event
                message = report.prefill_message(event.n_prompt, event.n_cached, event.n_done, event.eta_ms)
                percent = 100 * event.n_done // max(1, event.n_prompt)
                self._tell("prefill", message, percent, eta_ms=event.eta_ms)
            case TextChunk():
                if job.ttft_ms is None:
                    job.ttft_ms = self._elapsed_ms()
                job.n_decoded, job.decode_ms = event.n_decoded, event.elapsed_ms
                job.reply.append(event.text)
                await self._take_parsed(parser.feed(event.text))
                self._preview.tell()
                self._tell_decode()
            case Finished():
                job.timings = event.timings
                job.finish_reason = event.finish_reason
                job.segments = event.segments
                if event.miss is not None and event.miss.n_tokens >= _WORTH_EXPLAINING:
                    job.missed = event.miss
                    job.miss = report.miss_sentence(event.miss, self._saved_s_ago(event.miss.segment))

    async def _take_parsed(self, events: Sequence[ParserEvent]) -> None:
        self._preview.take(events)
        self._note_dropped(events)
        for event in events:
            if isinstance(event, HunkFinished):
                self.job.n_hunks += 1
                await self._take_hunk(event.hunk)

    def _note_dropped(self, events: Sequence[ParserEvent]) -> None:
        for event in events:
            if isinstance(event, HunkDropped):
                rejected = reject_dropped(event)
                if rejected.reason == "repeated":
                    self.job.notes.append(rejected.message)
                else:
                    self.job.rejected.append(rejected)

    async def _take_hunk(self, hunk: Hunk) -> None:
        asked = self.job.request
        snapshots = {source.path: source.snapshot for source in self.sources.values()}
        selection = self._target_path, asked.first_line, asked.end_line
        resolved = resolve(hunk, snapshots, selection)
        if isinstance(resolved, RejectedHunk):
            await self._take_planned(resolved)
            return
        hunk = resolved
        if asked.comment and hunk.path == self._target_path:
            # Only the whole comment: one of its lines alone, such as a closing `*/`, may be another's.
            asking = self._comment_lines()
            for start in find_runs(hunk.new, asking)[:1]:
                new = (*hunk.new[:start], *hunk.new[start + len(asking) :])
                hunk = msgspec.structs.replace(hunk, new=new)
        await self._take_planned(plan(hunk, snapshots, selection, self.job.planned))

    async def _take_planned(self, planned: PlannedHunk | RejectedHunk) -> None:
        if isinstance(planned, RejectedHunk):
            self.job.rejected.append(planned)
            return
        self.job.planned.append(planned)
        if not planned.edits:
            return
        uri = planned.snapshot.uri
        is_open = self.sources[uri].document is not None
        if self.settings.review == "stream" and is_open and uri not in self._protected:
            await self._deliver([planned])
        else:
            # A file that is not open sends no changes to rebase through, so its hunks go as one edit; so do
            # those of a protected file, so that there is one question about it.
            self._waiting.append(planned)

    async def _deliver(self, hunks: Sequence[PlannedHunk]) -> None:
        """Deliver hunks and book what became of them, also when the job is cancelled meanwhile."""
        if not hunks:
            return
        hunks = await self._current(hunks)
        if not hunks:
            return
        # A cancel is answered at once, and this task hears of it only after `sending` may have begun.
        job = asyncio.current_task()
        assert job is not None
        sending = asyncio.ensure_future(self._send(hunks, lambda: job.cancelling() > 0))
        try:
            await asyncio.shield(sending)
        except asyncio.CancelledError:
            # The edit is on its way already: know what became of it, so that it can be reverted.
            try:
                await asyncio.wait([sending], timeout=_LAST_EDIT_S)
            finally:
                if not sending.done():
                    sending.cancel()
                    message = f"The job was cancelled before the editor answered; {MAY_BE_THERE}"
                    self._reject(hunks, "refused", message)
            raise

    async def _current(self, hunks: Sequence[PlannedHunk]) -> list[PlannedHunk]:
        """The hunks that can be sent; rejects the others."""
        if self._late:
            message = "The editor has not answered an edit before this one; nothing was written."
            self._reject(hunks, "refused", message)
            return []
        current: list[PlannedHunk] = []
        n_looked = 0
        try:
            for hunk in hunks:
                if await self._is_current(hunk):
                    current.append(hunk)
                n_looked += 1
        except asyncio.CancelledError:
            message = "The job was cancelled before this hunk was sent; nothing was written."
            self._reject([*current, *hunks[n_looked:]], "refused", message)
            raise
        return current

    async def _is_current(self, planned: PlannedHunk) -> bool:
        """Whether the hunk's file, when it is not open, still is what the model saw; rejects the hunk if not.

        A file that was opened meanwhile is edited as a document from now on.
        """
        uri = planned.snapshot.uri
        source = self.sources[uri]
        if source.document is not None:
            return True
        text, is_inside = await asyncio.to_thread(lambda: (_text_now(uri), self._is_inside(uri)))
        document = self.documents.get(uri)
        if document is not None:
            text = document.text
        if not is_inside:
            self._reject([planned], "stale", "A link leads out of the workspace now; nothing was written.")
            return False
        if text != source.snapshot.text:
            message = "The file was changed while the block was generated; nothing was written."
            self._reject([planned], "stale", message)
            return False
        if document is not None:
            self.sources[uri] = msgspec.structs.replace(source, document=document, revision=document.revision)
        return True

    def _reject(self, hunks: Sequence[PlannedHunk], reason: RejectReason, message: str) -> None:
        self.job.rejected += (RejectedHunk(one.hunk, reason, message) for one in hunks)

    async def _send(self, hunks: Sequence[PlannedHunk], is_cancelled: Callable[[], bool]) -> None:
        # Someone may take long over a confirmation; nothing else waits for that.
        uris = [hunk.snapshot.uri for hunk in hunks]
        warning = next((self._protected[uri] for uri in uris if uri in self._protected), "")
        opened = [document for uri in uris if (document := self.sources[uri].document) is not None]
        uris += (document.uri for document in opened)  # under which it is edited
        confirm = self.settings.review == "confirm" or bool(warning)
        async with contextlib.nullcontext() if confirm else self.reviews.sending(uris):
            encoding, title = self.documents.encoding, self.job.request.title
            delivery = await deliver(
                hunks,
                self.sources,
                self.editor,
                encoding,
                title,
                confirm=confirm,
                warning=warning,
                is_cancelled=is_cancelled,
                on_late=self._wait_late,
            )
            self._book(delivery)

    def _wait_late(self, late: Late) -> None:
        """An edit was not answered in time. If it shows up after all, it is booked like all others."""
        self._late.add(late.sent)
        late.sent.add_done_callback(lambda _: self._take_late(late))

    def _take_late(self, late: Late) -> None:
        self._late.discard(late.sent)
        if late.sent.cancelled():
            return
        if (error := late.sent.exception()) is not None:
            log.error("what became of an edit of job %d cannot be told", self.job.id, exc_info=error)
            return
        sent = late.sent.result()
        if not sent.is_applied:
            return
        delivery = booked(sent, late.hunks)
        ours = [one.hunk for one in late.hunks]
        self.job.rejected = [one for one in self.job.rejected if one.hunk not in ours]
        self._book(delivery)
        self.on_late()
        for mismatch in delivery.mismatches:
            self.editor.say("warning", f"singlepass: {mismatch}")
        if delivery.applied:
            self.editor.log(f"{self.job.request.title}: an edit was applied late; it is in review")

    def _book(self, delivery: Delivery) -> None:
        job = self.job
        for applied in delivery.applied:
            self.reviews.add(job.id, applied)
        job.n_applied += delivery.n_applied
        job.applied += delivery.applied
        job.rejected += delivery.rejected
        job.mismatches += delivery.mismatches
        note_unseen(job, delivery.applied)

    # The comment that asked.

    def _comment_lines(self) -> tuple[str, ...]:
        comment = self.job.request.comment
        lines = visible_lines(self.sources[self.job.request.uri].snapshot.text)
        return tuple(lines[comment.start : comment.end]) if comment else ()

    async def _remove_comment(self) -> None:
        """Once its wish is done the comment goes, also where the model left it alone."""
        comment, source = self.job.request.comment, self.sources[self.job.request.uri]
        if comment is None or not (self.job.n_applied or self._waiting):
            return
        lines = split_lines(source.snapshot.text)[comment.start : comment.end]
        start, end = lines[0].start, lines[-1].next
        ours = (planned for planned in self.job.planned if planned.snapshot.uri == source.snapshot.uri)
        if not any(planned.start < end and start < planned.end for planned in ours):
            hunk = Hunk(self.job.n_hunks, self._target_path, self._comment_lines(), ())
            self.job.n_hunks += 1
            await self._take_planned(PlannedHunk(hunk, source.snapshot, start, end, (Edit(start, end, ""),)))

    # Telling.

    def _saved_s_ago(self, path: str) -> float | None:
        named = (one.document for one in self.sources.values() if one.path == path and one.document)
        saved_at = next((document.saved_at for document in named), None)
        return None if saved_at is None else time.monotonic() - saved_at

    def _elapsed_ms(self) -> float:
        return (time.monotonic() - self._started) * 1000

    def tell_loading(self, fraction: float) -> None:
        """The model is being loaded."""
        percent = round(100 * fraction)
        self._tell("loading", f"loading the model: {percent}%", percent)

    def _tell_decode(self) -> None:
        now = time.monotonic()
        if self.job.state != "decode" or now - self._reported >= _REPORT_EVERY_S:
            self._reported = now
            job = self.job
            rate = report.tokens_per_second(job.n_decoded, job.decode_ms)
            self._tell(
                "decode", report.decode_message(job.n_decoded, rate, job.n_hunks), decode_rate=rate or None
            )

    def _tell(
        self,
        state: str,
        message: str,
        percent: int | None = None,
        *,
        eta_ms: float | None = None,
        decode_rate: float | None = None,
    ) -> None:
        job = self.job
        message = inert(message)
        job.state = state
        self._progress.report(message, percent)
        status = Status(
            state,
            message,
            percent,
            job=job.id,
            uri=job.request.uri,
            eta_ms=eta_ms,
            decode_rate=decode_rate,
            target=job.target,
        )
        tell_status(self.editor, status)

    def conclude(self, outcome: Outcome) -> None:
        """Progress, diagnostics, notifications, log; the status comes last, so it can be waited for."""
        self._preview.clear()
        job = self.job
        job.total_ms = self._elapsed_ms()
        sentence = inert(summary(job, outcome))
        self._progress.end(sentence)
        self._progress = Progress(None, "")  # nothing may be reported after the end
        target = self.documents.get(job.request.uri)
        found = diagnostics(job, outcome, sentence, self.sources, target, timings=self.settings.timings)
        for document, listed in found.values():
            self.editor.publish(document.uri, document.version, listed)
            document.published = True
            document.transient = all(one.severity is lsp.DiagnosticSeverity.Information for one in listed)
        if job.error is not None:
            self.editor.say("error", f"singlepass: {with_applied(job.error.message, job)}")
        for mismatch in job.mismatches:
            self.editor.say("warning", f"singlepass: {mismatch}")
        if job.unseen:
            self.editor.say("warning", f"singlepass: {unseen_sentence(job)}")
        if job.rejected and outcome == "done":
            self.editor.say("warning", f"singlepass: {rejected_sentence(job.rejected)}")
        self.editor.log(f"{job.request.title}: {sentence}")
        self.editor.notify("singlepass/timings", payload(job, outcome, sentence))
        self._tell(outcome, sentence)
