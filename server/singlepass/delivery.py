"""From planned hunks to the editor's buffer, and back out of it.

`deliver` rebases hunks onto the buffers as they are now and sends them as one versioned workspace edit.
Three kinds of editor are reckoned with: one that applies the edit as sent; one that refuses because the user
typed in between (the hunks are rebased again); and one that applies it late, to a version it was not planned
for (vscode-languageserver-node #1756). The last is told from the first by what comes back: the document must
have had, at some change, exactly the text that was predicted, and no change on the way there may have
overwritten another.
"""

from collections.abc import Mapping, Sequence

import msgspec

from singlepass.core import report
from singlepass.core.edits import Edit, Snapshot, apply, invert, rebase_span
from singlepass.core.lines import Encoding, LineIndex
from singlepass.core.planner import PlannedHunk, RejectedHunk, rebase
from singlepass.documents import Document
from singlepass.editor import Editor
from singlepass.lsp import TextEdit, edits_to_lsp

_TRIES = 8
"""Times hunks are rebased and sent because the user typed meanwhile."""
_ECHO_TIMEOUT_S = 5.0
"""How long the didChange of an applied edit may take."""
_TYPED_TIMEOUT_S = 0.5
"""How long the didChange may take that explains a refusal."""


class Source(msgspec.Struct, frozen=True):
    """A file of a job: what the model saw, and the document behind it, if it is open."""

    path: str
    """As the prompt names it."""
    snapshot: Snapshot
    document: Document | None
    revision: int


class AppliedEdit(msgspec.Struct, frozen=True):
    """An edit that the editor applied to an open document, and how to take it back."""

    document: Document
    revision: int
    """Of the document right after the edit."""
    inverse: tuple[Edit, ...]
    """On the text at that revision."""


class Delivery(msgspec.Struct, frozen=True):
    """What became of the hunks sent together."""

    n_applied: int = 0
    applied: tuple[AppliedEdit, ...] = ()
    rejected: tuple[RejectedHunk, ...] = ()
    mismatches: tuple[str, ...] = ()
    """Applied edits whose result is not what was predicted, in words for the user."""


class _Place(msgspec.Struct):
    """The edits for one file, on its text as it is now."""

    source: Source
    version: int | None
    revision: int
    text: str
    index: LineIndex
    edits: list[Edit]

    @property
    def moved_on(self) -> bool:
        """Whether the document is another version by now."""
        document = self.source.document
        return document is not None and document.is_open and document.version != self.version


async def deliver(
    hunks: Sequence[PlannedHunk],
    sources: Mapping[str, Source],
    editor: Editor,
    encoding: Encoding,
    title: str,
    *,
    confirm: bool = False,
) -> Delivery:
    """Send the hunks as one workspace edit, again after keystrokes in between, and check what comes back.

    `sources` has the files by URI.
    """
    label = f"singlepass: {title}"
    rejected: list[RejectedHunk] = []
    for _ in range(_TRIES):
        placed: list[PlannedHunk] = []
        places: dict[str, _Place] = {}
        # In the order of the text: two hunks that border on each other may both insert at the border.
        for hunk in sorted(hunks, key=lambda hunk: (hunk.start, hunk.end)):
            problem = _place(hunk, sources[hunk.snapshot.uri], encoding, places)
            if problem is None:
                placed.append(hunk)
            else:
                rejected.append(problem)
        hunks = placed
        if not hunks:
            return Delivery(rejected=tuple(rejected))
        expected = {
            uri: (place.source.document, place.source.document.expect(apply(place.text, place.edits)))
            for uri, place in places.items()
            if place.source.document is not None
        }
        try:
            result = await editor.apply(
                {
                    (place.source.snapshot.uri, place.version): edits_to_lsp(
                        place.index, place.edits, editor.capabilities.annotations
                    )
                    for place in places.values()
                },
                label,
                _describe(hunks),
                confirm=confirm,
            )
            if result.applied or any(one.met_at is not None for _, one in expected.values()):
                for document, one in expected.values():
                    await document.until(lambda one=one: one.met_at is not None, _ECHO_TIMEOUT_S)
                met = {
                    uri: None if _overwrites(document, places[uri].revision, one.met_at) else one.met_at
                    for uri, (document, one) in expected.items()
                }
                return _applied(hunks, places, met, rejected)
        finally:
            for document, one in expected.values():
                document.forget(one)
        # Refused: because the user typed, which a didChange tells, or for a reason of the editor's own.
        for place in places.values():
            if place.source.document is not None:
                await place.source.document.until(lambda place=place: place.moved_on, _TYPED_TIMEOUT_S)
        if not any(place.moved_on for place in places.values()):
            refused = [_refused(hunk, result.reason) for hunk in hunks]
            return Delivery(rejected=(*rejected, *refused))
    stale = "The document changed again and again while the hunk was sent; nothing was written."
    return Delivery(rejected=(*rejected, *(RejectedHunk(hunk.hunk, "stale", stale) for hunk in hunks)))


def _place(
    planned: PlannedHunk, source: Source, encoding: Encoding, places: dict[str, _Place]
) -> RejectedHunk | None:
    """Add the hunk's edits to the place of its file, or say why they have none any more."""
    document = source.document
    if document is None:
        text, version, revision = source.snapshot.text, None, 0
        edits: tuple[Edit, ...] | RejectedHunk = planned.edits
        index = LineIndex(text, encoding)
    elif not document.is_open:
        return RejectedHunk(planned.hunk, "stale", "The document was closed; nothing was written.")
    else:
        text, version, revision = document.text, document.version, document.revision
        index = document.index
        changes = document.changes_since(source.revision)
        if changes is None:
            return RejectedHunk(planned.hunk, "stale", "The document changed too often; nothing was written.")
        edits = rebase(planned, changes, text)
    if isinstance(edits, RejectedHunk):
        return edits
    place = places.setdefault(source.snapshot.uri, _Place(source, version, revision, text, index, []))
    place.edits.extend(edits)
    return None


def _overwrites(document: Document, revision: int, met_at: int | None) -> bool:
    """Whether, on its way to the predicted text, the document lost what somebody had just written there.

    An editor that applies late removes what was typed into the lines meanwhile, and may still end up with the
    prediction. One that sends an edit in several changes never removes what it wrote.
    """
    changes = document.changes_since(revision) if met_at is not None else None
    written: list[tuple[int, int]] = []
    for change in (changes or ())[: (met_at or 0) - revision]:
        if any(
            start < change.end and change.start < end for start, end in written if change.start < change.end
        ):
            return True
        shift = len(change.new) - (change.end - change.start)
        written = [
            (start + shift * (change.end <= start), end + shift * (change.start < end))
            for start, end in written
        ]
        written.append((change.start, change.start + len(change.new)))
    return False


def _applied(
    hunks: Sequence[PlannedHunk],
    places: Mapping[str, _Place],
    met: Mapping[str, int | None],
    rejected: Sequence[RejectedHunk],
) -> Delivery:
    applied: list[AppliedEdit] = []
    mismatches: list[str] = []
    for uri, place in places.items():
        document = place.source.document
        if document is None:
            continue
        met_at = met[uri]
        if met_at is None:
            mismatches.append(
                f"The editor says it applied an edit to {place.source.path}, but what came back is not "
                "what was planned. It was probably applied to a later version. Look at the lines around it; "
                "undo takes it back."
            )
        else:
            applied.append(AppliedEdit(document, met_at, tuple(invert(place.text, place.edits))))
    wrong = {uri for uri, met_at in met.items() if met_at is None}
    n_applied = sum(hunk.snapshot.uri not in wrong for hunk in hunks)
    return Delivery(n_applied, tuple(applied), tuple(rejected), tuple(mismatches))


def _refused(planned: PlannedHunk, reason: str) -> RejectedHunk:
    why = reason.rstrip(".") or "it gave no reason; the file may be read-only"
    return RejectedHunk(planned.hunk, "refused", f"The editor refused the edit: {why}.")


def _describe(hunks: Sequence[PlannedHunk]) -> str:
    n_old = sum(len(hunk.hunk.old) for hunk in hunks)
    n_new = sum(len(hunk.hunk.new) for hunk in hunks)
    paths = ", ".join(dict.fromkeys(hunk.hunk.path for hunk in hunks))
    return f"{report.count(n_old, 'line')} of {paths} become {n_new:,}"


def revert_edits(
    applied: Sequence[AppliedEdit],
) -> tuple[dict[tuple[str, int | None], list[TextEdit]], list[AppliedEdit]]:
    """The workspace edit that takes edits back, and those that cannot be taken back any more.

    An edit goes back only where the text is still as it was left.
    """
    back: dict[tuple[str, int | None], list[TextEdit]] = {}
    kept: list[AppliedEdit] = []
    # The newest first: where two are put back at one place, the older one stood behind.
    for one in reversed(applied):
        document = one.document
        changes = document.changes_since(one.revision) if document.is_open else None
        spans = [None if changes is None else rebase_span(e.start, e.end, changes) for e in one.inverse]
        moved = [
            Edit(*span, edit.new) for span, edit in zip(spans, one.inverse, strict=True) if span is not None
        ]
        if len(moved) < len(one.inverse) or not all(_fits(document, edit) for edit in moved):
            kept.append(one)
            continue
        edits = edits_to_lsp(document.index, moved, annotated=False)
        back.setdefault((document.uri, document.version), []).extend(edits)
    return back, kept[::-1]


def _fits(document: Document, back: Edit) -> bool:
    """Whether lines that are put back where nothing is left of them do not land inside another line."""
    whole_lines = back.start == back.end and back.new.endswith(("\n", "\r"))
    return not whole_lines or document.index.position(back.start)[1] == 0
