"""Shows a job to the user: progress, status, a preview of the current block, and the outcome."""

import time
from collections.abc import Callable, Mapping, Sequence

from lsprotocol import types as lsp
from singlepass_backends.base import PrefillProgress

from singlepass.config import Settings
from singlepass.core import report
from singlepass.core.diff_parser import ParserEvent
from singlepass.core.inert import inert
from singlepass.editor.documents import Documents, EditableFile
from singlepass.editor.requests import Editor, Progress, Status, tell_status
from singlepass.jobs.outcome import (
    Job,
    Outcome,
    diagnostics,
    payload,
    rejected_sentence,
    summary,
    unseen_sentence,
    with_applied,
)
from singlepass.jobs.preview import Preview

_REPORT_EVERY_S = 0.1
"""Minimum interval of progress reports while decoding; one per token would flood the editor."""


class JobDisplay:
    """Shows one job. `files` are the files that it may edit, by URI."""

    def __init__(
        self,
        job: Job,
        files: Mapping[str, EditableFile],
        *,
        documents: Documents,
        editor: Editor,
        settings: Settings,
    ) -> None:
        self._job = job
        self._files = files
        self._documents = documents
        self._editor = editor
        self._has_timings = settings.timings
        self._reported = 0.0
        self._progress = Progress(None, "")
        shown = (
            [one for one in files.values() if not one.protection]
            if settings.review == "stream" and editor.capabilities.preview
            else []
        )
        self._preview = Preview(job.id, shown, editor)

    async def open(self, on_cancel: Callable[[], object]) -> None:
        """Show that the job has begun, with a way to cancel it."""
        self._tell("starting", "starting")
        self._progress = await self._editor.progress(f"singlepass: {self._job.request.title}", on_cancel)

    def loading(self, fraction: float) -> None:
        """Report the progress of loading the model."""
        percent = round(100 * fraction)
        self._tell("loading", f"loading the model: {percent}%", percent)

    def prefill(self, event: PrefillProgress) -> None:
        """Report the progress of prefill."""
        message = report.prefill_message(event.n_prompt, event.n_cached, event.n_done, event.eta_ms)
        percent = 100 * event.n_done // max(1, event.n_prompt)
        self._tell("prefill", message, percent, eta_ms=event.eta_ms)

    def parsed(self, events: Sequence[ParserEvent]) -> None:
        """Show the parser's events; called before finished hunks are sent to the buffer."""
        self._preview.take(events)

    def decoding(self) -> None:
        """Report the progress of decoding."""
        self._preview.tell()
        now = time.monotonic()
        if self._job.state != "decode" or now - self._reported >= _REPORT_EVERY_S:
            self._reported = now
            spent = self._job.timings
            rate = report.tokens_per_second(spent.n_decoded, spent.decode_ms)
            message = report.decode_message(spent.n_decoded, rate, self._job.n_hunks)
            self._tell("decode", message, decode_rate=rate or None)

    def conclude(self, outcome: Outcome) -> None:
        """Show the outcome: progress, diagnostics, notifications, log; the status comes last, so that clients
        can wait for it."""
        self._preview.clear()
        job, editor = self._job, self._editor
        sentence = inert(summary(job, outcome))
        self._progress.end(sentence)
        self._progress = Progress(None, "")  # the protocol forbids reports after the end
        edited = self._documents.get(job.request.uri)
        found = diagnostics(job, outcome, sentence, self._files.values(), edited, timings=self._has_timings)
        for document, listed in found.values():
            editor.publish(document.uri, document.version, listed)
            document.published = True
            document.transient = all(one.severity is lsp.DiagnosticSeverity.Information for one in listed)
        if job.error is not None:
            editor.say("error", f"singlepass: {with_applied(job.error.message, job)}")
        for mismatch in job.mismatches:
            editor.say("warning", f"singlepass: {mismatch}")
        if job.unseen:
            editor.say("warning", f"singlepass: {unseen_sentence(job)}")
        if job.rejected and outcome == "done":
            editor.say("warning", f"singlepass: {rejected_sentence(job.rejected)}")
        editor.log(f"{job.request.title}: {sentence}")
        editor.notify("singlepass/timings", payload(job, outcome, sentence))
        self._tell(outcome, sentence)

    def _tell(
        self,
        state: str,
        message: str,
        percent: int | None = None,
        *,
        eta_ms: float | None = None,
        decode_rate: float | None = None,
    ) -> None:
        job = self._job
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
        tell_status(self._editor, status)
