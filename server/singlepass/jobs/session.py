"""One job: context → engine → parser → hunks → outcome. This module is the place to begin reading.

`Session.run` is one loop over the engine's events. The text goes through the parser, and the parser's events
go through the `HunkPipeline` (`hunks.py`) before the next engine event is handled. The user's keystrokes win:
a hunk whose lines they touched is rejected and reported with its text. A reply that repeats itself or grows
without end is ended (`runaway.py`), and its finished hunks stay.
"""

import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import Protocol

import anyio
import msgspec
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
from singlepass.core import report
from singlepass.core.context import Context, shrink
from singlepass.core.diff_parser import ParserEvent
from singlepass.core.prompt import Task
from singlepass.core.runaway import Runaway
from singlepass.editor.documents import EditableFile
from singlepass.editor.tasks import in_thread
from singlepass.editor.workspace import UserError
from singlepass.jobs.asking import EngineRequest, Parser, build_request
from singlepass.jobs.display import JobDisplay
from singlepass.jobs.hunks import HunkPipeline
from singlepass.jobs.outcome import Job, Outcome

log = logging.getLogger(__name__)

_MIN_EXPLAINED = 32
"""Minimum tokens of context prefilled after the click before a miss is explained."""


class Engine(Protocol):
    """The part of the engine's client that jobs and benchmarks use."""

    async def connect(self) -> ModelInfo: ...

    def generate(self, request: GenerateRequest) -> AsyncGenerator[Event, None]: ...

    async def inspect(
        self, segments: tuple[Segment, ...], *, spawn: bool = False
    ) -> tuple[SegmentUse, ...] | None: ...


class Session:
    """Runs one job; `run` is called once.

    `hunks.files` are the files as they were at the request, because selection and comment refer to their
    lines; edits are rebased over later changes. `fit` builds the context once the engine is attached, leaving
    out what does not fit. `draft_corpus` reads the draft corpus.
    """

    def __init__(
        self,
        job: Job,
        hunks: HunkPipeline,
        display: JobDisplay,
        *,
        engine: Engine,
        settings: Settings,
        fit: Callable[[], Awaitable[Context]],
        draft_corpus: Callable[[Context], tuple[str, ...]],
    ) -> None:
        self.job = job
        self.engine = engine
        self.display = display
        self._hunks = hunks
        self._settings = settings
        self._fit = fit
        self._draft_corpus = draft_corpus
        self._started = time.monotonic()

    @property
    def edited(self) -> EditableFile:
        """The file with the selection."""
        return self._hunks.files[self.job.request.uri]

    async def run(self, cancel: Callable[[], object]) -> Outcome:
        """Run the job and show its outcome. `cancel` is called if the user cancels the job in the editor."""
        outcome: Outcome = "failed"
        try:
            await self.display.open(cancel)
            await self._generate()
            outcome = "done"
        except anyio.get_cancelled_exc_class():
            outcome = "cancelled"
            raise
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
        """Run the request, with fewer neighbours if the prompt is too long for the model."""
        job = self.job
        before_ms = self._elapsed_ms()
        job.info = await self.engine.connect()
        job.connect_ms = self._elapsed_ms() - before_ms
        context = await self._fit()
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
        """Stream the engine's reply and process its hunks."""
        job = self.job
        job.left_out = context.left_out
        # Prompt and grammar of a long file take 0.1 s to compute; do that in a thread to keep the loop free.
        built = await in_thread(self._build_request, context)
        job.region, parser = built.region, built.parser
        job.is_bounded = built.request.max_tokens < self._settings.max_tokens
        runaway = await in_thread(lambda: Runaway(context.editable.values()))
        job.reply.clear()
        try:
            async with aclosing(self.engine.generate(built.request)) as events:
                async for event in events:
                    await self._handle_event(event, parser)
                    if isinstance(event, TextChunk) and (problem := runaway.feed(event.text)):
                        # Leaving the stream cancels the generation.
                        job.finish_reason = "runaway"
                        job.notes.append(problem)
                        break
            await self._handle_parsed(parser.close(complete=job.finish_reason == "stop"))
            await self._hunks.finish()
        except (anyio.get_cancelled_exc_class(), BackendError):
            self._hunks.abandon(parser.close(complete=False))
            raise

    def _build_request(self, context: Context) -> EngineRequest:
        request, settings = self.job.request, self._settings
        task = Task(
            request.instruction,
            context.edited.path,
            request.first_line,
            request.end_line,
            request.diagnostics,
        )
        info = self.job.info
        assert info is not None
        return build_request(
            context,
            task,
            info,
            comment=request.comment,
            is_one_file=not request.files,
            max_tokens=settings.max_tokens,
            sampling=Sampling(settings.temperature, settings.top_p, settings.seed),
            draft_corpus=self._draft_corpus,
        )

    async def _handle_event(self, event: Event, parser: Parser) -> None:
        job = self.job
        match event:
            case PrefillProgress():
                job.timings = msgspec.structs.replace(
                    job.timings,
                    n_prompt=event.n_prompt,
                    n_cached=event.n_cached,
                    n_prefilled=event.n_done - event.n_cached,
                    prefill_ms=event.elapsed_ms,
                )
                self.display.prefill(event)
            case TextChunk():
                if job.ttft_ms is None:
                    job.ttft_ms = self._elapsed_ms()
                n_decoded, decode_ms = event.n_decoded, event.elapsed_ms
                job.timings = msgspec.structs.replace(job.timings, n_decoded=n_decoded, decode_ms=decode_ms)
                job.reply.append(event.text)
                await self._handle_parsed(parser.feed(event.text))
                self.display.decoding()
            case Finished():
                job.timings = event.timings
                job.finish_reason = event.finish_reason
                job.segments = event.segments
                if event.miss is not None and event.miss.n_tokens >= _MIN_EXPLAINED:
                    job.missed = event.miss
                    job.miss = report.miss_sentence(event.miss, self._saved_s_ago(event.miss.segment))

    async def _handle_parsed(self, events: Sequence[ParserEvent]) -> None:
        self.display.parsed(events)
        await self._hunks.take(events)

    def conclude(self, outcome: Outcome) -> None:
        """Show the outcome."""
        self.job.total_ms = self._elapsed_ms()
        self.display.conclude(outcome)

    def _saved_s_ago(self, path: str) -> float | None:
        """Seconds since the file with this path in the prompt was last saved; None if unknown."""
        named = (one.document for one in self._hunks.files.values() if one.path == path and one.document)
        saved_at = next((document.saved_at for document in named), None)
        return None if saved_at is None else time.monotonic() - saved_at

    def _elapsed_ms(self) -> float:
        return (time.monotonic() - self._started) * 1000
