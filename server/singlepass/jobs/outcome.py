"""The outcome of a job: one sentence, the payload of `singlepass/timings`, diagnostics, and the record."""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from datetime import datetime
from typing import Any, Literal

import msgspec
from lsprotocol import types as lsp
from singlepass_backends.base import BackendError, Miss, ModelInfo, SegmentUse, Timings

from singlepass.core import report
from singlepass.core.actions import CommentTask
from singlepass.core.edits import rebase_span
from singlepass.core.hunks import PlannedHunk, RejectedHunk
from singlepass.core.inert import inert, names, unseen
from singlepass.core.lines import visible_lines
from singlepass.editor.documents import Document, EditableFile
from singlepass.editor.positions import range_to_lsp
from singlepass.engines.routing import Option
from singlepass.jobs.delivery import AppliedEdit
from singlepass.stats.record import NOTHING_SPENT, Record

Outcome = Literal["done", "failed", "cancelled"]

SHOW_REPLY = "The code action “Show what the model wrote” has all of it."
"""A hint for replies without a readable edit."""


class JobRequest(msgspec.Struct, frozen=True):
    """The user's request, with line numbers of the document at that moment."""

    uri: str
    title: str
    instruction: str
    first_line: int
    end_line: int
    """0-based, exclusive; equal to `first_line` for a cursor."""
    diagnostics: tuple[str, ...] = ()
    comment: CommentTask | None = None
    """The comment that asked for the edit, which is removed once the edit is done."""
    files: tuple[str, ...] = ()
    """URIs of further files that may be edited, open or not."""
    kind: str = ""
    """The LSP CodeActionKind of the action; empty for a free-form instruction."""


class Job(msgspec.Struct):
    """The state of a job, running or done. Only its session and its `HunkPipeline` change it."""

    id: int
    request: JobRequest
    state: str = "starting"
    superseded: bool = False
    is_closed: bool = False
    """Whether it ended because its document was closed."""
    target: str = ""
    """The name of the target in use."""
    routed: str = ""
    """Why this target was chosen."""
    advice: str = ""
    """Advice with alternatives, if repeated requests for these lines take too long."""
    options: tuple[Option, ...] = ()
    """For a repeated request for these lines: estimates for this target and all others."""
    info: ModelInfo | None = None
    timings: Timings = NOTHING_SPENT
    """The engine's timings, as far as received."""
    connect_ms: float = 0.0
    """Time to attach to the engine, or to start it and load the model."""
    ttft_ms: float | None = None
    """From the command to the first text."""
    total_ms: float = 0.0
    """From the command to the end."""
    segments: tuple[SegmentUse, ...] = ()
    """How much of each part of the prompt was cached."""
    estimate_s: float | None = None
    """The estimate when it was requested."""
    n_selected: int = 0
    """Characters of the selected lines, or of the one with the cursor."""
    miss: str = ""
    """Why a part of the context had to be prefilled after the click; empty if none had."""
    missed: Miss | None = None
    """The miss that `miss` describes."""
    finish_reason: str = ""
    """Empty until the engine has finished."""
    was_asked: bool = False
    """Whether the user was asked before an edit, so that the total includes their time."""
    region: tuple[int, int] | None = None
    """The lines that the model is asked to rewrite, end exclusive; None if it answers with edit blocks."""
    is_bounded: bool = False
    """Whether the limit of the reply follows from the region, and not from the settings."""
    n_hunks: int = 0
    planned: list[PlannedHunk] = msgspec.field(default_factory=list[PlannedHunk])
    n_applied: int = 0
    applied: list[AppliedEdit] = msgspec.field(default_factory=list[AppliedEdit])
    rejected: list[RejectedHunk] = msgspec.field(default_factory=list[RejectedHunk])
    notes: list[str] = msgspec.field(default_factory=list[str])
    """Remarks about the reply, in sentences."""
    reply: list[str] = msgspec.field(default_factory=list[str])
    """The reply, in pieces."""
    mismatches: list[str] = msgspec.field(default_factory=list[str])
    unseen: dict[str, list[str]] = msgspec.field(default_factory=dict[str, list[str]])
    """The invisible characters that its edits added, by URI."""
    left_out: tuple[str, ...] = ()
    error: BackendError | None = None

    @property
    def n_unchanged(self) -> int:
        """Number of hunks whose new lines equal the old ones."""
        return sum(not planned.edits for planned in self.planned)

    @property
    def n_similar(self) -> int:
        """Number of edits that were placed by similarity: their old lines differ from the file's."""
        return sum(origin.how == "fuzzy" for applied in self.applied for origin in applied.origins)

    @property
    def unread(self) -> RejectedHunk | None:
        """The rejection of a reply that has text but no readable edit; None otherwise."""
        return next((one for one in self.rejected if one.reason == "unreadable"), None)


def summary(job: Job, outcome: Outcome) -> str:
    """The outcome in one sentence."""
    if outcome == "done" and job.finish_reason:
        parts = [report.timings_sentence(job.timings, job.total_ms, job.ttft_ms, job.connect_ms), _hunks(job)]
        if job.finish_reason in ("length", "context"):
            limit = "by max_tokens" if job.finish_reason == "length" else "by the model's context"
            if job.is_bounded and job.finish_reason == "length":
                limit = "where it was several times as long as the lines that it is for"
            parts.append(f"the reply was cut off {limit}")
        parts += job.notes
        if job.miss:
            parts.append(job.miss)
        if job.unseen:
            parts.append(unseen_sentence(job))
        if job.left_out:
            parts.append(f"left out of the prompt: {', '.join(job.left_out)}")
        if job.advice:
            parts.append(job.advice)
        if job.info and job.info.random_weights:
            parts.append("random weights: valid but meaningless edits")
        if job.info and job.info.is_demo:
            parts.append("demo model")
        return "; ".join(parts)
    took = report.seconds(job.total_ms)
    if outcome == "cancelled":
        why = "cancelled: a newer request took its place" if job.superseded else "cancelled"
        why = "cancelled: its document was closed" if job.is_closed else why
        spent = job.timings
        return (
            f"{why} after {took}: {report.count(spent.n_cached + spent.n_prefilled, 'prompt token')} read, "
            f"{report.count(spent.n_decoded, 'token')} decoded, {report.count(job.n_applied, 'hunk')} applied"
        )
    message = job.error.message if job.error else "an internal error; see the log"
    return with_applied(f"failed after {took}: {message}", job)


def with_applied(message: str, job: Job) -> str:
    """A failure's message, with the number of hunks that were already applied."""
    if not job.n_applied:
        return message
    what = "hunk was applied before; it is" if job.n_applied == 1 else "hunks were applied before; they are"
    return f"{message.rstrip('.')}. {job.n_applied:,} {what} in the buffer and in review."


def _hunks(job: Job) -> str:
    if not job.n_hunks and not job.rejected:
        return "the model proposed no change"
    if job.unread is not None and not job.n_applied:
        return f"nothing was changed: {_uncapitalized(job.unread.message)}"
    parts = [f"{report.count(job.n_applied, 'hunk')} applied"]
    if job.n_similar:
        parts.append(f"{report.count(job.n_similar, 'edit')} placed by similarity, please look at it")
    if job.n_unchanged:
        parts.append(f"{job.n_unchanged} without a change")
    n_unread = sum(one.reason == "unread" for one in job.rejected)
    if len(job.rejected) > n_unread:
        parts.append(f"{len(job.rejected) - n_unread} rejected")
    if n_unread:
        parts.append(f"{report.count(n_unread, 'part')} of the reply not read")
    return ", ".join(parts)


def _uncapitalized(sentence: str) -> str:
    return (sentence[:1].lower() + sentence[1:]).rstrip(".")


def rejected_sentence(rejected: Sequence[RejectedHunk]) -> str:
    """The message about rejected hunks."""
    first = rejected[0]
    if first.reason == "unreadable":
        return f"nothing was changed: {_uncapitalized(first.message)}. {SHOW_REPLY}"
    if first.reason == "unread":
        return f"{_uncapitalized(first.message)}. {SHOW_REPLY}"
    more = f" (and {len(rejected) - 1} more)" if len(rejected) > 1 else ""
    return f"a hunk for {first.hunk.path} was rejected{more}: {first.message}"


def note_unseen(job: Job, applied: Sequence[AppliedEdit]) -> None:
    """Record the invisible characters that these edits added."""
    for one in applied:
        for edit in one.edits:
            known = job.unseen.get(one.uri, [])
            found = [*known, *unseen(one.text[edit.start : edit.end], edit.new)]
            if found:
                job.unseen[one.uri] = sorted(set(found))


def unseen_sentence(job: Job) -> str:
    """The message about invisible characters in the new text."""
    chars = sorted({char for found in job.unseen.values() for char in found})
    return f"the new text holds characters that cannot be seen, or that turn text round: {names(chars)}"


def payload(job: Job, outcome: Outcome, sentence: str) -> dict[str, Any]:
    """All numbers of a job, as in `singlepass/timings` and in the diagnostic's `data`. Times in ms."""
    info = job.info
    return {
        "job": job.id,
        "uri": job.request.uri,
        "title": job.request.title,
        "outcome": outcome,
        "message": sentence,
        "total_ms": round(job.total_ms, 1),
        "connect_ms": round(job.connect_ms, 1),
        "ttft_ms": None if job.ttft_ms is None else round(job.ttft_ms, 1),
        "finish_reason": job.finish_reason or None,
        "n_hunks": job.n_hunks,
        "n_applied": job.n_applied,
        "n_unchanged": job.n_unchanged,
        "n_rejected": len(job.rejected),
        "n_similar": job.n_similar,
        "rejected": [_rejected(one) for one in job.rejected],
        "unseen": [
            {"uri": uri, "characters": [f"U+{ord(char):04X}" for char in found]}
            for uri, found in job.unseen.items()
        ],
        "left_out": list(job.left_out),
        "segments": [msgspec.to_builtins(segment) for segment in job.segments],
        "miss": job.miss or None,
        "timings": msgspec.to_builtins(job.timings) if job.finish_reason else None,
        "target": info
        and {
            "name": job.target,
            "why": job.routed,
            "backend": info.backend,
            "model": info.name,
            "n_ctx": info.n_ctx,
            "device": info.device,
        },
        "options": [msgspec.to_builtins(option) for option in job.options],
        "error": job.error and {"code": job.error.code, "message": inert(job.error.message)},
    }


def record(
    job: Job, outcome: Outcome, *, id: str, ended: datetime, repository: str, rates_key: str, action: str
) -> Record:
    """The record of a job for the history: numbers and names, no code."""
    info, spent, missed = job.info, job.timings, job.missed
    known_ms = job.connect_ms + spent.queue_ms + spent.prefill_ms + spent.decode_ms
    return Record(
        id=id,
        day=ended.date().isoformat(),
        at=ended.timestamp(),
        repository=repository,
        target=job.target,
        model=info.name if info else "",
        backend=info.backend if info else "",
        device=info.device if info else "",
        rates_key=rates_key,
        kind=job.request.kind,
        action=action,
        outcome=outcome,
        finish_reason=job.finish_reason,
        error=job.error.code if job.error else "",
        estimate_ms=None if job.estimate_s is None else job.estimate_s * 1000,
        timings=spent,
        connect_ms=job.connect_ms,
        ttft_ms=job.ttft_ms,
        total_ms=job.total_ms,
        other_ms=None if job.was_asked else max(0.0, job.total_ms - known_ms),
        n_selected=job.n_selected,
        n_task=job.segments[-1].n_tokens if job.segments else None,
        miss=missed.reason if missed else "",
        n_missed=missed.n_tokens if missed else 0,
        n_hunks=job.n_hunks,
        n_applied=job.n_applied,
        n_unchanged=job.n_unchanged,
        n_edits=sum(len(applied.edits) for applied in job.applied),
        rejected=dict(Counter(one.reason for one in job.rejected)),
    )


def diagnostics(
    job: Job,
    outcome: Outcome,
    sentence: str,
    files: Collection[EditableFile],
    edited: Document | None,
    *,
    timings: bool,
) -> dict[str, tuple[Document, list[lsp.Diagnostic]]]:
    """Diagnostics by URI: an Information with the timings in the document of the request; a Warning for each
    rejected hunk, each edit that was placed by similarity, and each line with new invisible characters.
    `files` are those of the job."""
    found: dict[str, tuple[Document, list[lsp.Diagnostic]]] = {}

    def add(document: Document, line: int, diagnostic: lsp.Diagnostic) -> None:
        index = document.index
        line = min(line, index.n_lines - 1)
        diagnostic.range = range_to_lsp(index, index.line_start(line), index.line_end(line))
        diagnostic.source = "singlepass"
        found.setdefault(document.uri, (document, []))[1].append(diagnostic)

    nowhere = lsp.Range(lsp.Position(0, 0), lsp.Position(0, 0))
    if edited is not None and timings and outcome == "done":
        severity = lsp.DiagnosticSeverity.Information
        data = payload(job, outcome, sentence)
        add(
            edited,
            _first_edited_line(job, edited),
            lsp.Diagnostic(nowhere, sentence, severity=severity, code="timings", data=data),
        )
    for rejected in job.rejected:
        named = (file.document for file in files if file.path == rejected.hunk.path)
        document = next((one for one in named if one is not None and one.is_open), edited)
        if document is not None:
            message = f"A hunk was rejected: {rejected.message}"
            if rejected.reason in ("unreadable", "unread"):
                message = f"{rejected.message} {SHOW_REPLY}"
            severity = lsp.DiagnosticSeverity.Warning
            add(
                document,
                job.request.first_line if document is edited else 0,
                lsp.Diagnostic(
                    nowhere,
                    message,
                    severity=severity,
                    code=rejected.reason,
                    data={**_rejected(rejected), "job": job.id},
                ),
            )
    for document, line in _similar_lines(job):
        message = (
            "Placed by similarity: the model quoted other lines than these, so only its change was taken "
            "over. Please look at it."
        )
        severity = lsp.DiagnosticSeverity.Warning
        add(document, line, lsp.Diagnostic(nowhere, message, severity=severity, code="similar"))
    for uri, chars in job.unseen.items():
        ours = (one for file in files if (one := file.document) is not None and one.uri == uri)
        document = next((one for one in ours if one.is_open), None)
        for number, line in enumerate(visible_lines(document.text) if document is not None else ()):
            here = [char for char in chars if char in line]
            if document is not None and here:
                message = f"Characters that cannot be seen, or that turn text round: {names(here)}"
                severity = lsp.DiagnosticSeverity.Warning
                diagnostic = lsp.Diagnostic(nowhere, message, severity=severity, code="unseen_characters")
                add(document, number, diagnostic)
    return found


def _similar_lines(job: Job) -> Iterator[tuple[Document, int]]:
    """The lines of edits that were placed by similarity, in open documents."""
    for applied in job.applied:
        document, shift = applied.document, 0
        changes = document.changes_since(applied.after) if document is not None else None
        for edit, origin in zip(applied.edits, applied.origins, strict=True):
            start = edit.start + shift
            shift += len(edit.new) - (edit.end - edit.start)
            if origin.how != "fuzzy" or document is None or not document.is_open or changes is None:
                continue
            span = rebase_span(start, start + len(edit.new), changes)
            if span is not None:
                yield document, document.index.line_of(span[0])


def _rejected(rejected: RejectedHunk) -> dict[str, Any]:
    """A rejected hunk with its text, so that the text is not lost."""
    hunk = rejected.hunk
    return {
        "path": inert(hunk.path),
        "reason": rejected.reason,
        "message": inert(rejected.message),
        "old": list(hunk.old),
        "new": list(hunk.new),
    }


def _first_edited_line(job: Job, document: Document) -> int:
    """The line of the first edit in the document, or of the selection."""
    for applied in job.applied:
        if applied.document is document and applied.edits:
            # The first edit of its workspace edit, so no earlier edit has shifted it.
            return document.index.line_of(min(applied.edits[0].start, len(document.text)))
    return job.request.first_line
