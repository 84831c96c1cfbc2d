"""From planned hunks to the editor's buffer.

`deliver` rebases hunks onto the buffers as they are now and sends them as one versioned workspace edit.
`send` is its last step alone, for edits that are taken back.

An editor may do four things with the edit:

- apply it as sent;
- refuse it, because the user typed in between: the hunks are rebased and sent again;
- apply it late, to a version that it was not planned for (vscode-languageserver-node #1756). What comes back
  by `didChange` tells this from the first case: at some change the document must have exactly the predicted
  text, and no change on the way there may overwrite what another had just written;
- not answer. Then it is unknown whether the edit was applied. An editor that was busy may still apply it, so
  the documents are watched for it (`Late`).
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence

import msgspec

from singlepass.core import report
from singlepass.core.edits import Edit, apply
from singlepass.core.hunk_tracking import Origin
from singlepass.core.lines import Encoding, LineIndex
from singlepass.core.planner import PlannedHunk, RejectedHunk, RejectReason, rebase
from singlepass.editor.documents import Document, EditableFile
from singlepass.editor.positions import edits_to_lsp
from singlepass.editor.requests import ApplyResult, Editor

MAY_BE_THERE = "the edit may be there or not. If it shows up later, it is in review then."
TRIES = 8
"""Times hunks are rebased and sent because the user typed meanwhile."""
_ANSWER_TIMEOUT_S = 60.0
"""How long an editor may take to answer an edit that asks the user nothing."""
_WATCH_S = 3600.0
"""How long an edit that was not answered is watched for."""
_ECHO_TIMEOUT_S = 5.0
"""How long the didChange of an applied edit may take."""
_TYPED_TIMEOUT_S = 0.5
"""How long the didChange may take that explains a refusal."""


class AppliedEdit(msgspec.Struct, frozen=True):
    """Edits that the editor applied to one file as if at once."""

    uri: str
    text: str
    """Before, which the edits refer to."""
    edits: tuple[Edit, ...]
    document: Document | None = None
    """None for a file that was not open."""
    before: int = 0
    """The document's revision with that text."""
    after: int = 0
    """The revision at which it had all edits."""
    origins: tuple[Origin, ...] = ()
    """Where each edit comes from."""


class Delivery(msgspec.Struct, frozen=True):
    """What became of the hunks sent together."""

    n_applied: int = 0
    applied: tuple[AppliedEdit, ...] = ()
    rejected: tuple[RejectedHunk, ...] = ()
    mismatches: tuple[str, ...] = ()
    """Applied edits whose result is not what was predicted, in words for the user."""


class FilePart(msgspec.Struct):
    """The part of a workspace edit that is for one file, on its text as it is now."""

    uri: str
    path: str
    """As the user is told it."""
    text: str
    edits: list[Edit]
    document: Document | None = None
    version: int | None = None
    revision: int = 0
    origins: list[Origin] = []
    """As in `AppliedEdit`; empty where edits are taken back."""
    named: str = ""
    """The URI that the file had when the job was asked for, before the editor opened it under another."""

    @property
    def moved_on(self) -> bool:
        """Whether the document is another version by now."""
        document = self.document
        return document is not None and document.is_open and document.version != self.version

    def index(self, encoding: Encoding) -> LineIndex:
        """Offsets and positions of the text."""
        document = self.document
        if document is not None and document.revision == self.revision:
            return document.index
        return LineIndex(self.text, encoding)


class Sent(msgspec.Struct, frozen=True):
    """What became of one workspace edit."""

    is_applied: bool
    reason: str = ""
    """Why not."""
    is_answered: bool = True
    """If not, it may have been applied or not."""
    typed: bool = False
    """Whether it was refused because the user typed meanwhile, so that another try makes sense."""
    applied: tuple[AppliedEdit, ...] = ()
    mismatches: tuple[FilePart, ...] = ()
    """Where what came back is not what was predicted."""


_NO_ANSWER = ApplyResult(False)
_NOT_SENT = ApplyResult(False, "it was cancelled before it was sent")
_UNKNOWN = Sent(False, is_answered=False)


class Late(msgspec.Struct, frozen=True):
    """An edit that is no longer waited for."""

    sent: "asyncio.Task[Sent]"
    """What became of it after all."""
    hunks: tuple[PlannedHunk, ...] = ()


class _Awaited:
    """A workspace edit that was sent, and the texts that its documents should have then."""

    def __init__(self, parts: Sequence[FilePart], answer: "asyncio.Future[ApplyResult]") -> None:
        self.answer = answer
        self._parts = parts
        self._expected = [
            (part, part.document, part.document.expect(apply(part.text, part.edits)))
            for part in parts
            if part.document is not None
        ]

    @property
    def is_there(self) -> bool:
        """Whether a document has had the text."""
        return any(one.met_at is not None for _, _, one in self._expected)

    def end(self) -> None:
        """Watch for nothing more."""
        self.answer.cancel()
        for _, document, one in self._expected:
            document.forget(one)

    async def outcome(self, result: ApplyResult) -> Sent:
        """What became of it, once the editor has answered or a document shows it."""
        if result is _NOT_SENT:
            return Sent(False, result.reason)
        if result.applied or self.is_there:
            for _, document, one in self._expected:
                await document.until(lambda one=one: one.met_at is not None, _ECHO_TIMEOUT_S)
            return self._applied()
        # Refused: because the user typed, which a didChange tells, or for a reason of the editor's own.
        for part, document, _ in self._expected:
            await document.until(lambda part=part: part.moved_on, _TYPED_TIMEOUT_S)
        return Sent(False, result.reason, typed=any(part.moved_on for part in self._parts))

    def _applied(self) -> Sent:
        applied = [
            AppliedEdit(part.uri, part.text, tuple(part.edits), origins=tuple(part.origins))
            for part in self._parts
            if part.document is None
        ]
        mismatches: list[FilePart] = []
        for part, document, one in self._expected:
            if one.met_at is None or _overwrites(document, part.text, part.revision, one.met_at):
                mismatches.append(part)
            else:
                edits, origins = tuple(part.edits), tuple(part.origins)
                applied.append(
                    AppliedEdit(part.uri, part.text, edits, document, part.revision, one.met_at, origins)
                )
        return Sent(True, applied=tuple(applied), mismatches=tuple(mismatches))

    async def late_outcome(self) -> Sent:
        """What became of it in the end; `is_answered` is False if that never shows."""
        seen = asyncio.ensure_future(self._seen())
        try:
            await asyncio.wait([self.answer, seen], timeout=_WATCH_S, return_when=asyncio.FIRST_COMPLETED)
            if self.answer.done() or self.is_there:
                return await self.outcome(self.answer.result() if self.answer.done() else _NO_ANSWER)
            return _UNKNOWN
        finally:
            seen.cancel()
            self.end()

    async def _seen(self) -> None:
        """Wait until a document shows the edit, or all are closed and none can any more."""
        waits = {
            asyncio.ensure_future(document.until(lambda one=one: one.met_at is not None, _WATCH_S))
            for _, document, one in self._expected
        }
        left = waits or {asyncio.ensure_future(asyncio.sleep(_WATCH_S))}
        try:
            while left and not self.is_there:
                _, left = await asyncio.wait(left, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in left:
                wait.cancel()


async def send(
    parts: Sequence[FilePart],
    editor: Editor,
    encoding: Encoding,
    label: str,
    description: str,
    *,
    confirm: bool = False,
    is_cancelled: Callable[[], bool] = lambda: False,
    on_late: Callable[[Late], None] = lambda _: None,
) -> Sent:
    """Send one workspace edit, once, and check what comes back.

    The edits of a part are in the order of its text. Nothing is sent once `is_cancelled`. `on_late` is told
    of an edit that was sent and is no longer waited for: the editor takes too long, or the caller was
    cancelled.
    """
    annotated = editor.capabilities.annotations
    edits = {
        (part.uri, part.version): edits_to_lsp(part.index(encoding), part.edits, annotated) for part in parts
    }

    async def ask() -> ApplyResult:
        # Another task may have run since, and not every editor looks at the version.
        if is_cancelled():
            return _NOT_SENT
        if any(part.moved_on for part in parts):
            return ApplyResult(False, "the document changed")
        return await editor.apply(edits, label, description, confirm=confirm)

    awaited = _Awaited(parts, asyncio.ensure_future(ask()))
    sent = _UNKNOWN
    try:
        # The user may take long over a confirmation; any other edit is answered at once.
        await asyncio.wait([awaited.answer], timeout=None if confirm else _ANSWER_TIMEOUT_S)
        if awaited.answer.done() or awaited.is_there:
            sent = await awaited.outcome(awaited.answer.result() if awaited.answer.done() else _NO_ANSWER)
        return sent
    finally:
        if sent.is_answered:
            awaited.end()
        else:
            on_late(Late(asyncio.ensure_future(awaited.late_outcome())))


async def deliver(
    hunks: Sequence[PlannedHunk],
    files: Mapping[str, EditableFile],
    editor: Editor,
    encoding: Encoding,
    title: str,
    *,
    confirm: bool = False,
    is_cancelled: Callable[[], bool] = lambda: False,
    on_late: Callable[[Late], None] = lambda _: None,
) -> Delivery:
    """Send the hunks as one workspace edit, again after keystrokes in between, and check what comes back.

    `files` has the hunks' files by URI; `confirm` asks the user first. Nothing is sent once `is_cancelled`.
    `on_late` is told of an edit that is no longer waited for.
    """
    warning = next((what for hunk in hunks if (what := files[hunk.snapshot.uri].protection)), "")
    rejected: list[RejectedHunk] = []

    def ended(reason: RejectReason, message: str) -> Delivery:
        return Delivery(rejected=(*rejected, *(RejectedHunk(one.hunk, reason, message) for one in hunks)))

    for _ in range(TRIES):
        if is_cancelled():
            return ended("refused", "The job was cancelled before this hunk was sent; nothing was written.")
        hunks, parts, refused = _rebased(hunks, files)
        rejected += refused
        if not hunks:
            return Delivery(rejected=tuple(rejected))
        description = f"{_describe(hunks)}; the file is {warning}" if warning else _describe(hunks)
        sent = await send(
            parts,
            editor,
            encoding,
            f"singlepass: {title}",
            description,
            confirm=confirm,
            is_cancelled=is_cancelled,
            on_late=lambda late, hunks=tuple(hunks): on_late(msgspec.structs.replace(late, hunks=hunks)),
        )
        if sent.is_applied:
            return msgspec.structs.replace(booked(sent, hunks), rejected=tuple(rejected))
        if not sent.is_answered:
            timeout = f"The editor did not answer within {_ANSWER_TIMEOUT_S:.0f} s; {MAY_BE_THERE}"
            return ended("refused", timeout)
        if not sent.typed and sent.reason != _NOT_SENT.reason:
            why = sent.reason.rstrip(".") or "it gave no reason; the file may be read-only"
            return ended("refused", f"The editor refused the edit: {why}.")
    return ended(
        "stale", "The document changed again and again while the hunk was sent; nothing was written."
    )


def booked(sent: Sent, hunks: Sequence[PlannedHunk]) -> Delivery:
    """What became of hunks whose edit was applied."""
    wrong = {part.named for part in sent.mismatches}
    return Delivery(
        sum(hunk.snapshot.uri not in wrong for hunk in hunks),
        sent.applied,
        mismatches=tuple(mismatch_message(part.path) for part in sent.mismatches),
    )


def mismatch_message(path: str) -> str:
    """What the user is told when an edit was applied, but not as it was planned."""
    return (
        f"The editor says it applied an edit to {path}, but what came back is not what was planned. It was "
        "probably applied to a later version. Look at the lines around it; undo takes it back."
    )


def _rebased(
    hunks: Sequence[PlannedHunk], files: Mapping[str, EditableFile]
) -> tuple[list[PlannedHunk], list[FilePart], list[RejectedHunk]]:
    """The hunks that fit the texts as they are now, their edits by file, and the hunks that do not fit."""
    fitting: list[PlannedHunk] = []
    rejected: list[RejectedHunk] = []
    parts: dict[str, FilePart] = {}
    # In the order of the text: two hunks that border on each other may both insert at the border.
    for hunk in sorted(hunks, key=lambda hunk: (hunk.start, hunk.end)):
        uri = hunk.snapshot.uri
        edits = _edits_now(hunk, files[uri])
        if isinstance(edits, RejectedHunk):
            rejected.append(edits)
            continue
        fitting.append(hunk)
        part = parts.setdefault(uri, _part_of(files[uri]))
        part.edits.extend(edits)
        part.origins.extend(Origin(edit.start, hunk.how) for edit in hunk.edits)
    return fitting, [*parts.values()], rejected


def _edits_now(planned: PlannedHunk, file: EditableFile) -> Sequence[Edit] | RejectedHunk:
    """The hunk's edits on the text that its file has now."""
    document = file.document
    if document is None:
        return planned.edits
    if not document.is_open:
        return RejectedHunk(planned.hunk, "stale", "The document was closed; nothing was written.")
    changes = document.changes_since(file.revision)
    if changes is None:
        return RejectedHunk(planned.hunk, "stale", "The document changed too often; nothing was written.")
    return rebase(planned, changes, document.text)


def _part_of(file: EditableFile) -> FilePart:
    """A part for the text that a file has now, without edits yet."""
    named, document = file.snapshot.uri, file.document
    if document is None:
        return FilePart(named, file.path, file.snapshot.text, [], named=named)
    # A file may have been opened meanwhile under another URI than it was named by.
    return FilePart(
        document.uri, file.path, document.text, [], document, document.version, document.revision, named=named
    )


def _overwrites(document: Document, text: str, revision: int, met_at: int | None) -> bool:
    """Whether, between a text and the predicted one, the document lost what somebody had just written.

    An editor that applies an edit late removes what was typed into its lines meanwhile, and may still end up
    with the predicted text. One that sends an edit in several changes never removes what it wrote.
    """
    if met_at is None:
        return False
    changes = (document.changes_since(revision) or ())[: met_at - revision]
    # A text of marks, one for each character: it was there, was written, or stands behind a deletion. So each
    # of thousands of changes takes no longer than a change of the document itself.
    marks = LineIndex(_THERE * len(text), "utf-32")
    for start, end, new in changes:
        gone = marks.between(start, end)
        if _WRITTEN in gone or _CUT in gone[1:]:
            return True
        marks.change(start, end, _WRITTEN * len(new))
        if start < end and not new and marks.between(start, start + 1) == _THERE:
            marks.change(start, start + 1, _CUT)
    return False


_THERE, _WRITTEN, _CUT = ".", "w", "c"


def _describe(hunks: Sequence[PlannedHunk]) -> str:
    n_old = sum(len(hunk.hunk.old) for hunk in hunks)
    n_new = sum(len(hunk.hunk.new) for hunk in hunks)
    paths = ", ".join(dict.fromkeys(hunk.hunk.path for hunk in hunks))
    return f"{report.count(n_old, 'line')} of {paths} become {n_new:,}"
