"""Delivers planned hunks to the editor's buffer.

`deliver` rebases hunks onto the current buffers and sends them as one versioned workspace edit. `send` is its
last step, also used to undo edits.

An editor may do four things with the edit:

- apply it as sent;
- reject it, because the user typed in between: the hunks are rebased and sent again;
- apply it late, to a version that it was not planned for (vscode-languageserver-node #1756). The `didChange`
  notifications distinguish this from the first case: after some change the document must have exactly the
  predicted text, and no change before that may overwrite what another one has just written;
- not answer. Then it is unknown whether the edit was applied. A busy editor may still apply it, so the
  documents are watched for it (`_Awaited.watch`).
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence

import anyio
import msgspec

from singlepass.core import report
from singlepass.core.edits import Edit, apply
from singlepass.core.hunk_tracking import Origin
from singlepass.core.hunks import PlannedHunk, RejectedHunk, RejectReason, rebase
from singlepass.core.lines import Encoding, LineIndex
from singlepass.editor.documents import Document, EditableFile
from singlepass.editor.positions import edits_to_lsp
from singlepass.editor.requests import ApplyResult, Editor
from singlepass.editor.tasks import Work, first

MAY_BE_THERE = "the edit may be there or not. If it shows up later, it is in review then."
TRIES = 8
"""Maximum number of times that hunks are rebased and sent because the user typed in between."""
_ANSWER_TIMEOUT_S = 60.0
"""Timeout for the answer to an edit without a confirmation."""
_WATCH_S = 3600.0
"""How long to watch for an edit that was not answered."""
_ECHO_TIMEOUT_S = 5.0
"""Timeout for the didChange of an applied edit."""
_TYPED_TIMEOUT_S = 0.5
"""Timeout for the didChange that explains a rejection."""


class AppliedEdit(msgspec.Struct, frozen=True):
    """Edits that the editor applied to one file as if at once."""

    uri: str
    text: str
    """The text before, to which the edits refer."""
    edits: tuple[Edit, ...]
    document: Document | None = None
    """The document; None for a file that was not open."""
    before: int = 0
    """The document's revision with that text."""
    after: int = 0
    """The revision at which it had all edits."""
    origins: tuple[Origin, ...] = ()
    """The origin of each edit."""


class Delivery(msgspec.Struct, frozen=True):
    """What became of the hunks sent together."""

    n_applied: int = 0
    applied: tuple[AppliedEdit, ...] = ()
    rejected: tuple[RejectedHunk, ...] = ()
    mismatches: tuple[str, ...] = ()
    """Messages for the user about applied edits whose result differs from the prediction."""
    is_unanswered: bool = False
    """Whether the answer is no longer awaited, so that the edit may be there or not."""


class FilePart(msgspec.Struct):
    """The part of a workspace edit for one file, on its current text."""

    uri: str
    path: str
    """The path in messages."""
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
        """Whether the document has changed since."""
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
    """Why it was not applied."""
    is_answered: bool = True
    """If False, it is unknown whether it was applied."""
    typed: bool = False
    """Whether it was rejected because the user typed in between, so that a retry makes sense."""
    applied: tuple[AppliedEdit, ...] = ()
    mismatches: tuple[FilePart, ...] = ()
    """Messages about results that differ from the prediction."""


_NOT_SENT = ApplyResult(False, "it was cancelled before it was sent")
_UNKNOWN = Sent(False, is_answered=False)


class _Awaited:
    """A workspace edit that was sent, and the predicted texts of its documents."""

    def __init__(self, parts: Sequence[FilePart], ask: Callable[[], Awaitable[ApplyResult]]) -> None:
        self.answered = anyio.Event()
        self._ask = ask
        self._answer = ApplyResult(False)
        self.error: BaseException | None = None
        self._parts = parts
        self._expected = [
            (part, part.document, part.document.expect(apply(part.text, part.edits)))
            for part in parts
            if part.document is not None
        ]

    async def ask(self) -> None:
        """Send it, and wait for the answer."""
        try:
            self._answer = await self._ask()
        except BaseException as error:  # for whoever waits for the answer
            self.error = error
        self.answered.set()

    @property
    def is_there(self) -> bool:
        """Whether a document has had its predicted text."""
        return any(one.met_at is not None for _, _, one in self._expected)

    def end(self, asking: Work) -> None:
        """Stop asking and watching."""
        asking.cancel()
        for _, document, one in self._expected:
            document.forget(one)

    async def outcome(self) -> Sent:
        """The result; `is_answered` is False if neither the editor nor a document has told it."""
        if self.error is not None:
            raise self.error
        if not (self.answered.is_set() or self.is_there):
            return _UNKNOWN
        result = self._answer
        if result is _NOT_SENT:
            return Sent(False, result.reason)
        if result.applied or self.is_there:
            for _, document, one in self._expected:
                await document.until(lambda one=one: one.met_at is not None, _ECHO_TIMEOUT_S)
            return self._applied()
        # Rejected: because the user typed, which a didChange shows, or for another reason.
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

    async def watch(self, asking: Work, on_late: Callable[[Sent], object]) -> None:
        """Go on waiting for the result of an edit that was not answered in time."""
        try:
            with anyio.move_on_after(_WATCH_S):
                await first(self.answered.wait, self._seen)
            on_late(await self.outcome())
        finally:
            self.end(asking)

    async def _seen(self) -> None:
        """Wait until a document shows the edit, or all documents are closed."""
        async with anyio.create_task_group() as watches:

            async def watch(document: Document) -> None:
                await document.until(lambda: self.is_there, _WATCH_S)
                if self.is_there:
                    watches.cancel_scope.cancel()

            for _, document, _ in self._expected:
                watches.start_soon(watch, document)
        if not self._expected:
            await anyio.sleep_forever()


async def send(
    parts: Sequence[FilePart],
    editor: Editor,
    encoding: Encoding,
    label: str,
    description: str,
    *,
    confirm: bool = False,
    is_cancelled: Callable[[], bool] = lambda: False,
    on_late: Callable[[Sent], object] = lambda _: None,
) -> Sent:
    """Send one workspace edit, once, and check the result.

    The edits of a part are in text order. Nothing is sent if `is_cancelled`. If the answer is no longer
    awaited, because of the timeout or because the caller was cancelled, `on_late` is called with the eventual
    result.
    """
    annotated = editor.capabilities.annotations
    edits = {
        (part.uri, part.version): edits_to_lsp(part.index(encoding), part.edits, annotated) for part in parts
    }

    async def ask() -> ApplyResult:
        # Another task may have run since, and not every editor checks the version.
        if is_cancelled():
            return _NOT_SENT
        if any(part.moved_on for part in parts):
            return ApplyResult(False, "the document changed")
        return await editor.apply(edits, label, description, confirm=confirm)

    awaited = _Awaited(parts, ask)
    asking = editor.tasks.start(awaited.ask)
    sent = _UNKNOWN
    try:
        # The user may need long for a confirmation; any other edit is answered at once.
        with anyio.move_on_after(None if confirm else _ANSWER_TIMEOUT_S):
            await awaited.answered.wait()
        sent = await awaited.outcome()
        return sent
    finally:
        if sent.is_answered or awaited.error is not None:
            awaited.end(asking)
        else:
            editor.tasks.start(awaited.watch, asking, on_late)


async def deliver(
    hunks: Sequence[PlannedHunk],
    files: Mapping[str, EditableFile],
    editor: Editor,
    encoding: Encoding,
    title: str,
    *,
    confirm: bool = False,
    is_cancelled: Callable[[], bool] = lambda: False,
    on_late: Callable[[Sent, Sequence[PlannedHunk]], object] = lambda _, __: None,
) -> Delivery:
    """Send the hunks as one workspace edit, again after keystrokes in between, and check the result.

    `files` has the hunks' files by URI; with `confirm` the user is asked first. Nothing is sent if
    `is_cancelled`. `on_late` is called with the eventual result of an edit that was not answered in time, and
    with its hunks.
    """
    protections = (what for hunk in hunks if (what := files[hunk.snapshot.uri].protection))
    warnings = [*(f"the file is {what}" for what in protections), *(hunk.question for hunk in hunks)]
    warning = next(filter(None, warnings), "")
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
        description = f"{_describe(hunks)}; {warning}" if warning else _describe(hunks)
        sent = await send(
            parts,
            editor,
            encoding,
            f"singlepass: {title}",
            description,
            confirm=confirm,
            is_cancelled=is_cancelled,
            on_late=lambda sent, hunks=tuple(hunks): on_late(sent, hunks),
        )
        if sent.is_applied:
            return msgspec.structs.replace(delivery_of(sent, hunks), rejected=tuple(rejected))
        if not sent.is_answered:
            timeout = f"The editor did not answer within {_ANSWER_TIMEOUT_S:.0f} s; {MAY_BE_THERE}"
            return msgspec.structs.replace(ended("refused", timeout), is_unanswered=True)
        if not sent.typed and sent.reason != _NOT_SENT.reason:
            why = sent.reason.rstrip(".") or "it gave no reason; the file may be read-only"
            return ended("refused", f"The editor refused the edit: {why}.")
    return ended(
        "stale", "The document changed again and again while the hunk was sent; nothing was written."
    )


def delivery_of(sent: Sent, hunks: Sequence[PlannedHunk]) -> Delivery:
    """The delivery of hunks whose edit was applied."""
    wrong = {part.named for part in sent.mismatches}
    return Delivery(
        sum(hunk.snapshot.uri not in wrong for hunk in hunks),
        sent.applied,
        mismatches=tuple(mismatch_message(part.path) for part in sent.mismatches),
    )


def mismatch_message(path: str) -> str:
    """The message for an edit that was applied differently than planned."""
    return (
        f"The editor says it applied an edit to {path}, but what came back is not what was planned. It was "
        "probably applied to a later version. Look at the lines around it; undo takes it back."
    )


def _rebased(
    hunks: Sequence[PlannedHunk], files: Mapping[str, EditableFile]
) -> tuple[list[PlannedHunk], list[FilePart], list[RejectedHunk]]:
    """The hunks that fit the current texts, their edits by file, and the hunks that do not fit."""
    fitting: list[PlannedHunk] = []
    rejected: list[RejectedHunk] = []
    parts: dict[str, FilePart] = {}
    # In text order: two adjacent hunks may both insert at their border.
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
    """The hunk's edits on the current text of its file."""
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
    """A part for the current text of a file, without edits yet."""
    named, document = file.snapshot.uri, file.document
    if document is None:
        return FilePart(named, file.path, file.snapshot.text, [], named=named)
    # The file may have been opened in the meantime under another URI.
    return FilePart(
        document.uri, file.path, document.text, [], document, document.version, document.revision, named=named
    )


def _overwrites(document: Document, text: str, revision: int, met_at: int | None) -> bool:
    """Whether, between a text and the predicted one, a change removed text that another one had just written.

    An editor that applies an edit late removes what the user typed in its lines in the meantime, and may
    still reach the predicted text. An editor that splits an edit into several changes never removes what it
    wrote.
    """
    if met_at is None:
        return False
    changes = (document.changes_since(revision) or ())[: met_at - revision]
    # A text with one mark per character: old, written, or after a deletion. So each of thousands of changes
    # takes no longer than a change of the document itself.
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
