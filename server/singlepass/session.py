"""One job from instruction to applied hunks: context → engine → parser → planner → editor.

`Session.run` is one loop over the engine's events. Each finished hunk is planned on the snapshot that the
prompt was made of and delivered before the next is taken, so at most one edit is in flight. The user's
keystrokes win: a hunk whose lines they touched is rejected and reported with its text.
"""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Sequence
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
    TextChunk,
)

from singlepass.config import Settings
from singlepass.core import report
from singlepass.core.context import Context, SourceFile, build_context, shrink
from singlepass.core.diff_parser import DiffParser, Hunk, HunkDropped, HunkFinished, ParserEvent
from singlepass.core.edits import Edit, Snapshot
from singlepass.core.grammar import UNBOUNDED, Bounds, edit_grammar, marker_size
from singlepass.core.lines import split_lines, visible_lines
from singlepass.core.planner import PlannedHunk, RejectedHunk, plan, reject_dropped
from singlepass.core.prompt import Task, render_prompt
from singlepass.delivery import Delivery, Source, deliver
from singlepass.documents import Documents
from singlepass.editor import Editor, Progress
from singlepass.outcome import Job, Outcome, diagnostics, payload, rejected_sentence, summary
from singlepass.workspace import UserError, Workspace, read_source

log = logging.getLogger(__name__)

RANDOM_BOUNDS = Bounds(max_lines=4, max_line_chars=60, max_hunks=3)
"""Random weights never choose to stop, so the grammar stops them."""

_REPORT_EVERY_S = 0.1
"""How often decoding is told; each token would flood the editor."""
_LAST_EDIT_S = 2.0
"""How long a cancelled job waits for the answer to the edit it has already sent."""


class Engine(Protocol):
    """The part of the engine's client that a job uses."""

    async def connect(self) -> ModelInfo: ...

    def generate(self, request: GenerateRequest) -> AsyncGenerator[Event, None]: ...


def gather(
    uri: str, files: Sequence[str], documents: Documents, workspace: Workspace, settings: Settings
) -> tuple[Context, dict[str, Source]]:
    """The context for work on one document, and the snapshots it was made of, by URI.

    Raises UserError for a file that is not open and cannot be read.
    """
    sources: dict[str, Source] = {}

    def add(uri: str) -> SourceFile:
        path, _ = workspace.name(uri)
        document = documents.get(uri)
        if document is not None:
            sources[uri] = Source(path, document.snapshot(), document, document.revision)
        else:
            sources[uri] = Source(path, Snapshot(uri, None, read_source(uri)), None, 0)
        return SourceFile(path, sources[uri].snapshot.text)

    target = add(uri)
    neighbours = [add(file) for file in files if file != uri]
    near = workspace.neighbours(uri, documents, settings.ignore, settings.max_neighbours)
    neighbours += [add(other.uri) for other in near if other.uri not in sources]
    return build_context(target, neighbours), sources


class Session:
    """The life of one job; `run` is called once."""

    def __init__(
        self,
        job: Job,
        *,
        documents: Documents,
        workspace: Workspace,
        settings: Settings,
        engine: Engine,
        editor: Editor,
    ) -> None:
        self.job = job
        self.documents = documents
        self.workspace = workspace
        self.settings = settings
        self.engine = engine
        self.editor = editor
        self.sources: dict[str, Source] = {}
        self._target_path, _ = workspace.name(job.request.uri)
        self._started = time.monotonic()
        self._reported = 0.0
        self._progress = Progress(None, "")

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
            self._conclude(outcome)
        return outcome

    async def _generate(self) -> None:
        """Run the request, with fewer neighbours when the prompt is too long for the model."""
        job = self.job
        job.info = await self.engine.connect()
        context, self.sources = gather(
            job.request.uri, job.request.files, self.documents, self.workspace, self.settings
        )
        while True:
            try:
                return await self._stream(context)
            except BackendError as error:
                if error.code != "prompt_too_long":
                    raise
                n_tokens = {str(name): int(n) for name, n in error.data["segments"]}
                smaller = shrink(context, n_tokens, int(error.data["n_excess"]))
                if smaller is None:
                    raise
                context = smaller
                job.left_out = smaller.left_out

    async def _stream(self, context: Context) -> None:
        size = marker_size(context.editable.values())
        parser = DiffParser(size, context.editable)
        try:
            async with aclosing(self.engine.generate(self._request(context, size))) as events:
                async for event in events:
                    await self._take(event, parser)
        except (asyncio.CancelledError, BackendError):
            # What was cut off is reported with its text, never half-applied.
            self._note_dropped(parser.close(complete=False))
            raise
        await self._take_parsed(parser.close(complete=self.job.finish_reason == "stop"))
        await self._remove_comment()
        if self.settings.review == "confirm":
            await self._deliver([planned for planned in self.job.planned if planned.edits])

    def _request(self, context: Context, size: int) -> GenerateRequest:
        asked, settings = self.job.request, self.settings
        task = Task(asked.instruction, self._target_path, asked.first_line, asked.end_line, asked.diagnostics)
        constrains = self.job.info is not None and self.job.info.constrains
        return GenerateRequest(
            segments=_encodable(render_prompt(context, task, size)),
            grammar=edit_grammar(context.editable, size, self._bounds()) if constrains else None,
            max_tokens=settings.max_tokens,
            sampling=Sampling(settings.temperature, settings.top_p, settings.seed),
        )

    def _bounds(self) -> Bounds:
        info = self.job.info
        return RANDOM_BOUNDS if info is not None and info.random_weights else UNBOUNDED

    # Events of the engine.

    async def _take(self, event: Event, parser: DiffParser) -> None:
        job = self.job
        match event:
            case PrefillProgress():
                job.progress = event
                message = report.prefill_message(event.n_prompt, event.n_cached, event.n_done, event.eta_ms)
                self._tell("prefill", message, 100 * event.n_done // max(1, event.n_prompt))
            case TextChunk():
                if job.ttft_ms is None:
                    job.ttft_ms = self._elapsed_ms()
                job.n_decoded, job.decode_ms = event.n_decoded, event.elapsed_ms
                await self._take_parsed(parser.feed(event.text))
                self._tell_decode()
            case Finished():
                job.timings = event.timings
                job.finish_reason = event.finish_reason

    async def _take_parsed(self, events: Sequence[ParserEvent]) -> None:
        self._note_dropped(events)
        for event in events:
            if isinstance(event, HunkFinished):
                self.job.n_hunks += 1
                await self._take_hunk(event.hunk)

    def _note_dropped(self, events: Sequence[ParserEvent]) -> None:
        for event in events:
            if isinstance(event, HunkDropped):
                self.job.rejected.append(reject_dropped(event))

    async def _take_hunk(self, hunk: Hunk) -> None:
        asked = self.job.request
        if asked.comment and hunk.path == self._target_path:
            asking = self._comment_lines()
            new = tuple(line for line in hunk.new if line not in asking)
            hunk = msgspec.structs.replace(hunk, new=new)
        planned = plan(
            hunk,
            {source.path: source.snapshot for source in self.sources.values()},
            (self._target_path, asked.first_line, asked.end_line),
            self.job.planned,
        )
        await self._take_planned(planned)

    async def _take_planned(self, planned: PlannedHunk | RejectedHunk) -> None:
        if isinstance(planned, RejectedHunk):
            self.job.rejected.append(planned)
            return
        self.job.planned.append(planned)
        if planned.edits and self.settings.review == "stream":
            await self._deliver([planned])

    async def _deliver(self, hunks: Sequence[PlannedHunk]) -> None:
        """Deliver hunks and book what became of them, also when the job is cancelled meanwhile."""
        if not hunks:
            return
        sending = asyncio.ensure_future(
            deliver(
                hunks,
                self.sources,
                self.editor,
                self.documents.encoding,
                self.job.request.title,
                confirm=self.settings.review == "confirm",
            )
        )
        try:
            self._book(await asyncio.shield(sending))
        except asyncio.CancelledError:
            # The edit is on its way already: know what became of it, so that it can be reverted.
            await asyncio.wait([sending], timeout=_LAST_EDIT_S)
            if sending.done():
                self._book(sending.result())
            sending.cancel()
            raise

    def _book(self, delivery: Delivery) -> None:
        job = self.job
        job.n_applied += delivery.n_applied
        job.applied += delivery.applied
        job.rejected += delivery.rejected
        job.mismatches += delivery.mismatches

    # The comment that asked.

    def _comment_lines(self) -> tuple[str, ...]:
        comment = self.job.request.comment
        lines = visible_lines(self.sources[self.job.request.uri].snapshot.text)
        return tuple(lines[comment.start : comment.end]) if comment else ()

    async def _remove_comment(self) -> None:
        """Once its wish is done the comment goes, also where the model left it alone."""
        comment, source = self.job.request.comment, self.sources[self.job.request.uri]
        if comment is None or not any(planned.edits for planned in self.job.planned):
            return
        lines = split_lines(source.snapshot.text)[comment.start : comment.end]
        start, end = lines[0].start, lines[-1].next
        ours = (planned for planned in self.job.planned if planned.snapshot.uri == source.snapshot.uri)
        if not any(planned.start < end and start < planned.end for planned in ours):
            hunk = Hunk(self.job.n_hunks, self._target_path, self._comment_lines(), ())
            self.job.n_hunks += 1
            await self._take_planned(PlannedHunk(hunk, source.snapshot, start, end, (Edit(start, end, ""),)))

    # Telling.

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
            self._tell("decode", report.decode_message(job.n_decoded, job.decode_ms, job.n_hunks))

    def _tell(self, state: str, message: str, percent: int | None = None) -> None:
        job = self.job
        job.state = state
        self._progress.report(message, percent)
        self.editor.notify(
            "singlepass/status",
            {"job": job.id, "uri": job.request.uri, "state": state, "message": message, "percent": percent},
        )

    def _conclude(self, outcome: Outcome) -> None:
        """Progress, diagnostics, notifications, log; the status comes last, so it can be waited for."""
        job = self.job
        job.total_ms = self._elapsed_ms()
        sentence = summary(job, outcome)
        self._progress.end(sentence)
        target = self.documents.get(job.request.uri)
        found = diagnostics(job, outcome, sentence, self.sources, target, timings=self.settings.timings)
        for document, listed in found.values():
            self.editor.publish(document.uri, document.version, listed)
            document.published = True
            document.transient = all(one.severity is lsp.DiagnosticSeverity.Information for one in listed)
        if job.error is not None:
            self.editor.say("error", f"singlepass: {job.error.message}")
        for mismatch in job.mismatches:
            self.editor.say("warning", f"singlepass: {mismatch}")
        if job.rejected and outcome == "done":
            self.editor.say("warning", f"singlepass: {rejected_sentence(job.rejected)}")
        self.editor.log(f"{job.request.title}: {sentence}")
        self.editor.notify("singlepass/timings", payload(job, outcome, sentence))
        self._tell(outcome, sentence)


def _encodable(segments: Sequence[Segment]) -> tuple[Segment, ...]:
    """Segments without lone surrogates, which neither tokenizer nor wire takes."""
    return tuple(
        segment
        if segment.text.isascii()
        else msgspec.structs.replace(segment, text=segment.text.encode("utf-8", "replace").decode("utf-8"))
        for segment in segments
    )
