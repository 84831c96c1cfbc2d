"""Review: applied hunks that wait for the user's decision to keep or undo them.

`core/hunk_tracking.py` defines how hunks move. This module updates them with the documents, undoes them by
versioned workspace edits, and reports them to the editor with `singlepass/hunks`.

A document's changes do not tell who made them. So while an edit of ours is in flight (`sending`), the changes
of its documents are not processed; afterwards it is known which of them were ours. Only one edit is in flight
at a time, because an editor might apply two that were planned on the same text.

Hunks of a file that is not open wait until it is opened with the text that they belong to.
"""

import contextlib
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Mapping, Sequence

import anyio
import msgspec

from singlepass.core import report
from singlepass.core.hunk_tracking import (
    TrackedHunk,
    TrackedText,
    kept,
    merged,
    typed,
    undo_edits,
    undone,
    without,
    wrote,
)
from singlepass.core.lines import LineIndex
from singlepass.editor.documents import Document, Documents, Expectation
from singlepass.editor.positions import id_of_uri, range_to_json
from singlepass.editor.requests import Editor
from singlepass.editor.tasks import in_thread
from singlepass.editor.workspace import UserError, Workspace, read_source
from singlepass.files.same_file import FileId, is_same
from singlepass.jobs.delivery import TRIES, AppliedEdit, FilePart, Sent, mismatch_message, send
from singlepass.stats.record import Judgement


class Selected(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Selects hunks for a command: those that match all fields that are not None."""

    job: int | None = None
    uri: str | None = None
    hunk: int | None = None


ALL = Selected()


class Undone(msgspec.Struct, frozen=True):
    """How many hunks were undone."""

    undone: int = 0
    changed: int = 0
    """Number of hunks that stay, because their text was changed since."""


class _Reviewed(msgspec.Struct):
    """A file with hunks in review."""

    uri: str
    file: FileId
    tracked: TrackedText
    document: Document | None = None
    """The document; None while the file is not open with the text that the hunks belong to."""
    revision: int = 0
    """The document's revision with the tracked text."""
    is_fresh: bool = False
    """Whether an edit of ours may still be in flight to a document that is opened for it."""
    awaited: tuple[Document, Expectation] | None = None
    told: tuple[int, ...] = ()
    """The ids of the hunks that were reported to the editor."""
    job: int = 0
    """The newest job that edited this file."""

    @property
    def listed(self) -> list[TrackedHunk]:
        """The hunks that wait for a decision."""
        return [hunk for hunk in self.tracked.hunks if not hunk.is_kept]

    def matching(self, selected: Selected, *, also_kept: bool) -> set[int]:
        """The ids of the selected hunks."""
        if selected.uri not in (None, self.uri):
            return set()
        return {
            hunk.id
            for hunk in self.tracked.hunks
            if (also_kept or not hunk.is_kept)
            and selected.job in (None, hunk.job)
            and selected.hunk in (None, hunk.id)
        }


class Reviews:
    """All hunks in review, of all documents."""

    def __init__(self, documents: Documents, workspace: Workspace, editor: Editor) -> None:
        self.editor = editor
        self.on_told: Callable[[], None] = lambda: None
        """Called when the hunks in review changed."""
        self.on_judged: Callable[[int, Judgement, int], None] = lambda job, judgement, n: None
        """Called with a job, the user's decision on some of its edits, and their number; a negative number
        cancels an earlier call."""
        self._documents = documents
        self._workspace = workspace
        self._by_uri: dict[str, _Reviewed] = {}
        self._changed: dict[int, int] = {}
        """The hunks that left review because the user changed them, with their jobs."""
        self._n_hunks = 0
        self._lock = anyio.Lock()
        self._held: frozenset[str] = frozenset()

    # Our edits.

    @contextlib.asynccontextmanager
    async def sending(self, uris: Iterable[str]) -> AsyncGenerator[None, None]:
        """Active while an edit to these files is in flight; `add` must be called for it within."""
        async with self._lock:
            self._held = frozenset(uris)
            try:
                yield
            finally:
                held, self._held = self._held, frozenset()
                for uri in held:
                    self.catch_up(uri)

    def add(self, job: int, applied: AppliedEdit) -> None:
        """The hunks of an edit that the editor has applied."""
        for one in [*self._by_uri.values()]:
            old = {hunk.id for hunk in one.tracked.hunks if hunk.is_kept and hunk.job != job}
            one.tracked = without(one.tracked, old)
        document = applied.document
        entry = self._entry(applied.uri)
        if entry is None:
            file = document.file if document is not None else id_of_uri(applied.uri)
            entry = _Reviewed(applied.uri, file, TrackedText(applied.text), document, applied.before)
            self._by_uri[applied.uri] = entry
        entry.job = job
        first_id = self._n_hunks + 1
        self._n_hunks += len(applied.edits)
        if document is None or entry.document is not document:
            # It was not open, or it was opened anew.
            if entry.document is not None or entry.tracked.text != applied.text:
                self._drop(entry)
                entry.tracked = TrackedText(applied.text)
            entry.tracked = wrote(entry.tracked, applied.edits, job, first_id, applied.origins)
            entry.document, entry.revision, entry.is_fresh = document, applied.after, document is None
        elif entry.revision <= applied.before:
            self._move(entry, applied.before, applied.text)
            entry.tracked = wrote(entry.tracked, applied.edits, job, first_id, applied.origins)
            entry.revision = applied.after
        else:
            # The edit arrived outside `sending`, as after a confirmation, and was taken for typing.
            written = wrote(TrackedText(applied.text), applied.edits, job, first_id, applied.origins)
            changes = document.changes_since(applied.after) or ()
            since = typed(written, changes[: entry.revision - applied.after], entry.tracked.text)
            entry.tracked = merged(entry.tracked, since)
        self.catch_up(applied.uri)

    # The documents.

    def catch_up(self, uri: str) -> None:
        """The document was opened, changed or closed: update its hunks and report them."""
        entry = self._entry(uri)
        if entry is None or not self._held.isdisjoint((uri, entry.uri)):
            return
        if entry.document is not None:
            self._move(entry, entry.document.revision, entry.document.text)
            if not entry.document.is_open:
                # They wait until it is opened again.
                entry.document, entry.is_fresh, entry.told = None, False, _ids(entry.listed)
        if entry.awaited is not None and not entry.awaited[0].is_open:
            entry.awaited = None
        if entry.document is None and (document := self._documents.get(uri)) is not None:
            self._rename(entry, document.uri)
            self._attach(entry, document)
        self._tell(entry)

    def _entry(self, uri: str) -> _Reviewed | None:
        """The file that a URI names, if it has hunks in review."""
        if (entry := self._by_uri.get(uri)) is not None or not self._by_uri:
            return entry
        document = self._documents.get_exactly(uri)
        # Open documents are separate, even if they have the same file.
        others = [one for one in self._by_uri.values() if document is None or one.document is None]
        if not others:
            return None
        file = document.file if document is not None else id_of_uri(uri)
        return next((one for one in others if is_same(one.file, file)), None)

    def _rename(self, entry: _Reviewed, uri: str) -> None:
        """The editor has opened the file under another URI."""
        if uri != entry.uri:
            del self._by_uri[entry.uri]
            entry.uri = uri
            self._by_uri[uri] = entry

    def _attach(self, entry: _Reviewed, document: Document) -> None:
        """Attach waiting hunks to their document if it has their text."""
        if entry.awaited is None and document.text != entry.tracked.text:
            if entry.is_fresh:
                entry.awaited = document, document.expect(entry.tracked.text)
            else:
                self._drop(entry)
            return
        met_at = document.revision
        if entry.awaited is not None:
            if entry.awaited[1].met_at is None:
                return
            met_at = entry.awaited[1].met_at
            document.forget(entry.awaited[1])
        entry.awaited, entry.is_fresh, entry.told = None, False, ()
        entry.document, entry.revision = document, met_at
        self._move(entry, document.revision, document.text)

    def _move(self, entry: _Reviewed, revision: int, text: str) -> None:
        """Apply the user's changes up to a revision, at which the document had this text."""
        document = entry.document
        assert document is not None
        changes = document.changes_since(entry.revision)
        if changes is None:
            self._drop(entry)
            entry.tracked = TrackedText(text)
        else:
            before = entry.tracked.hunks
            entry.tracked = typed(entry.tracked, changes[: revision - entry.revision], text)
            left = {hunk.id for hunk in entry.tracked.hunks}
            self._leave([hunk for hunk in before if hunk.id not in left])
        entry.revision = revision

    def _drop(self, entry: _Reviewed) -> None:
        """Drop the hunks: the text is no longer the one that they belong to."""
        self._leave(entry.tracked.hunks)
        entry.tracked = without(entry.tracked, {hunk.id for hunk in entry.tracked.hunks})

    def _leave(self, hunks: Sequence[TrackedHunk]) -> None:
        """Remove hunks whose text the user changed."""
        self._changed.update((hunk.id, hunk.job) for hunk in hunks)
        self._judge("changed", (hunk for hunk in hunks if not hunk.is_kept))

    def _judge(self, judgement: Judgement, hunks: Iterable[TrackedHunk], sign: int = 1) -> None:
        for job, n in Counter(hunk.job for hunk in hunks).items():
            self.on_judged(job, judgement, sign * n)

    # Reports to the editor.

    def _tell(self, entry: _Reviewed) -> None:
        """Send `singlepass/hunks` if the hunks in review changed since the last report."""
        listed = entry.listed
        if entry.awaited is None and _ids(listed) != entry.told:
            entry.told = _ids(listed)
            index = self._index(entry)
            self.editor.notify(
                "singlepass/hunks",
                {
                    "job": max((hunk.job for hunk in listed), default=entry.job),
                    "uri": entry.uri,
                    "version": entry.document.version if entry.document is not None else None,
                    "hunks": [
                        {
                            "id": hunk.id,
                            "range": range_to_json(index, hunk.start, hunk.end),
                            "old": hunk.old,
                            "new": hunk.new,
                            "how": hunk.origin.how if hunk.origin is not None else None,
                        }
                        for hunk in listed
                    ],
                },
            )
            self.on_told()
        if not entry.tracked.hunks:
            del self._by_uri[entry.uri]

    def _index(self, entry: _Reviewed) -> LineIndex:
        document = entry.document
        if document is not None and document.revision == entry.revision:
            return document.index
        return LineIndex(entry.tracked.text, self._documents.encoding)

    def listed(self, uri: str) -> tuple[LineIndex, list[TrackedHunk]]:
        """The hunks in review of an open document, with the index of their text."""
        entry = self._entry(uri)
        if entry is None or entry.document is None:
            return LineIndex(""), []
        return self._index(entry), entry.listed

    # The user's decisions.

    def keep(self, selected: Selected = ALL) -> int:
        """Keep these hunks: remove them from review. Returns their number."""
        selected, n_kept = self._meant(selected), 0
        for entry in [*self._by_uri.values()]:
            ids = entry.matching(selected, also_kept=False)
            if ids:
                n_kept += len(ids)
                self._judge("kept", (hunk for hunk in entry.tracked.hunks if hunk.id in ids))
                entry.tracked = kept(entry.tracked, ids)
                self.catch_up(entry.uri)
        return n_kept

    async def undo(self, selected: Selected, title: str, *, also_kept: bool = False) -> Undone:
        """Restore the old text of these hunks, where their text is unchanged.

        `title` is the label in the editor's undo history. Raises UserError if the editor rejects the edit.
        """
        selected = self._meant(selected)
        asked = {
            id for entry in self._by_uri.values() for id in entry.matching(selected, also_kept=also_kept)
        }
        if not asked:
            return Undone(changed=int(selected.hunk in self._changed))
        async with self.sending(entry.uri for entry in self._with(asked)):
            for _ in range(TRIES):
                now = await self._texts_now(asked)
                parts = [part for entry in self._with(asked) if (part := self._undo_part(entry, asked, now))]
                if not parts:
                    return Undone(changed=len(asked))
                n_hunks = sum(len(asked & {h.id for h in e.tracked.hunks}) for e in self._with(asked))
                sent = await send(
                    parts,
                    self.editor,
                    self._documents.encoding,
                    f"singlepass: {title}",
                    f"{report.count(n_hunks, 'edit')} taken back",
                )
                if sent.is_applied:
                    return self._record(sent, asked)
                if not sent.is_answered:
                    raise UserError("The editor did not answer in time; the edits may be taken back or not.")
                if not sent.typed:
                    reason = sent.reason.rstrip(".") or "no reason"
                    raise UserError(f"The editor refused to take the edits back: {reason}.")
        raise UserError("The editor refused to take the edits back: the document changed again and again.")

    def _meant(self, selected: Selected) -> Selected:
        """The same selection, with the file's URI as used here."""
        entry = self._entry(selected.uri) if selected.uri is not None else None
        return msgspec.structs.replace(selected, uri=entry.uri) if entry is not None else selected

    def _with(self, ids: set[int]) -> Iterator[_Reviewed]:
        for entry in [*self._by_uri.values()]:
            if any(hunk.id in ids for hunk in entry.tracked.hunks):
                yield entry

    async def _texts_now(self, asked: set[int]) -> Mapping[str, str | None]:
        """The texts of files that are not open, by URI; None if they cannot be read."""
        uris = [entry.uri for entry in self._with(asked) if entry.document is None]
        return await in_thread(lambda: {uri: _read(uri) for uri in uris}) if uris else {}

    def _undo_part(self, entry: _Reviewed, asked: set[int], now: Mapping[str, str | None]) -> FilePart | None:
        """The edits that undo hunks of one file; None if its text was changed since."""
        document = entry.document
        if document is not None:
            self._move(entry, document.revision, document.text)
        elif self._documents.get(entry.uri) is not None or now.get(entry.uri) != entry.tracked.text:
            return None
        edits = undo_edits(entry.tracked, asked)
        if not edits:
            return None
        path = self._workspace.name(entry.uri)[0]
        part = FilePart(entry.uri, path, entry.tracked.text, edits, document)
        if document is not None:
            part.version, part.revision = document.version, document.revision
        return part

    def _record(self, sent: Sent, asked: set[int]) -> Undone:
        n_undone = 0
        for applied in sent.applied:
            entry = self._by_uri[applied.uri]
            ids = {hunk.id for hunk in entry.tracked.hunks} & asked
            taken = [hunk for hunk in entry.tracked.hunks if hunk.id in ids]
            self._judge("undone", taken)
            self._judge("kept", (hunk for hunk in taken if hunk.is_kept), -1)
            entry.tracked = undone(entry.tracked, ids)
            entry.revision = applied.after
            entry.is_fresh = applied.document is None
            n_undone += len(ids)
        for part in sent.mismatches:
            self.editor.say("warning", f"singlepass: {mismatch_message(part.path)}")
        return Undone(n_undone, len(asked) - n_undone)

    def n_changed(self, job: int) -> int:
        """Number of a job's edits that the user has changed since."""
        return sum(one == job for one in self._changed.values())

    def has_edits(self, job: int) -> bool:
        """Whether edits of a job exist that were kept, changed or are in review."""
        hunks = (hunk for entry in self._by_uri.values() for hunk in entry.tracked.hunks)
        return any(hunk.job == job for hunk in hunks) or self.n_changed(job) > 0


def _read(uri: str) -> str | None:
    try:
        return read_source(uri)
    except UserError:
        return None


def _ids(hunks: Sequence[TrackedHunk]) -> tuple[int, ...]:
    return tuple(hunk.id for hunk in hunks)
