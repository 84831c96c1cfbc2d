"""Tracks the positions of applied hunks while the text around them changes.

Theory of operation
===================

A `TrackedText` is a value: a text and our hunks in it, each with its position and the text that it replaced.
The text at that position is always what the hunk wrote. Three things can happen, each a function from one
value to the next:

- `typed`: the user changed the text. Hunks beside the change are shifted. A hunk whose lines were touched is
  no longer tracked.
- `wrote`: singlepass changed the text. Hunks under the new edits are dropped, the others are shifted, and
  every edit becomes a hunk.
- `undone`: some hunks were replaced by their old text. All others stay, even those that border on them.

Our own edits do not go through `typed`, because two adjacent deletions leave two empty hunks at one offset.
When the lines of one are restored, only the order of the hunks tells on which side of them the other is.

A hunk consists of whole lines. Text typed in its first line, before its first character, touches it, although
no character of it changed. So the borders of a hunk must remain line borders in the text, unless they were
none from the beginning, as at the end of a file without a final line end.
"""

from bisect import bisect_right
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

import msgspec

from singlepass.core.edits import Edit, apply, rebase_span, validate
from singlepass.core.hunks import How
from singlepass.core.line_diff import changed_blocks
from singlepass.core.lines import is_line_start, visible_lines


class Origin(NamedTuple):
    """The origin of one of our edits."""

    start: int
    """Its offset in the snapshot of its job."""
    how: How = "exact"
    """How the lines that it changes were found."""


class TrackedHunk(msgspec.Struct, frozen=True):
    """One of our edits. Its `TrackedText` has `new` at `text[start:end]`."""

    id: int
    job: int
    start: int
    end: int
    old: str
    """The text that it replaced."""
    new: str
    origin: Origin | None = None
    """None if unknown."""
    is_kept: bool = False
    """The user kept it. It can still be reverted with the rest of its job."""


class TrackedText(msgspec.Struct, frozen=True):
    """A document's text and our hunks in it, in text order and without overlap."""

    text: str
    hunks: tuple[TrackedHunk, ...] = ()


def typed(tracked: TrackedText, changes: Sequence[Edit], text: str) -> TrackedText:
    """After sequential changes that were not ours; `text` is their result."""
    if not changes:
        return tracked

    def move(hunk: TrackedHunk) -> Iterable[TrackedHunk]:
        span = rebase_span(hunk.start, hunk.end, changes)
        if span is None:
            return
        start, end = span
        if is_line_start(tracked.text, hunk.start) and not is_line_start(text, start):
            return
        if _ends_lines(tracked.text, hunk.end) and not _ends_lines(text, end):
            return
        yield msgspec.structs.replace(hunk, start=start, end=end)

    return TrackedText(text, tuple(moved for hunk in tracked.hunks for moved in move(hunk)))


def wrote(
    tracked: TrackedText, edits: Iterable[Edit], job: int, first_id: int, origins: Sequence[Origin] = ()
) -> TrackedText:
    """After edits of ours, applied as if at once. Each becomes a hunk, numbered from `first_id` on.

    `origins` has the origin of each edit. Raises ValueError as `validate` does.
    """
    edits = [*edits]
    begins = {id(edit): origin for edit, origin in zip(edits, origins, strict=False)}
    ordered = validate(tracked.text, edits)
    in_order: list[TrackedHunk | Edit] = [
        hunk for hunk in tracked.hunks if not any(_overlap(hunk, edit) for edit in ordered)
    ]
    for edit in ordered:
        at = bisect_right(in_order, _span(edit), key=_span)
        while at and _comes_before(begins.get(id(edit)), edit, job, in_order[at - 1]):
            at -= 1
        in_order.insert(at, edit)
    hunks: list[TrackedHunk] = []
    shift = 0
    for one in in_order:
        start = one.start + shift
        if isinstance(one, TrackedHunk):
            hunks.append(msgspec.structs.replace(one, start=start, end=one.end + shift))
        else:
            old, origin = tracked.text[one.start : one.end], begins.get(id(one))
            hunks.append(TrackedHunk(first_id, job, start, start + len(one.new), old, one.new, origin))
            first_id += 1
            shift += len(one.new) - len(old)
    return TrackedText(apply(tracked.text, ordered), tuple(hunks))


def _span(one: TrackedHunk | Edit) -> tuple[int, int]:
    return one.start, one.end


def _comes_before(origin: Origin | None, edit: Edit, job: int, other: TrackedHunk | Edit) -> bool:
    """Whether an insertion comes before an empty hunk at the same offset.

    This can be decided only by their offsets in the job's snapshot. Without these the hunk, which is older,
    is first.
    """
    if not isinstance(other, TrackedHunk) or edit.start != edit.end or _span(other) != _span(edit):
        return False
    if other.job != job or origin is None or other.origin is None:
        return False
    return origin.start <= other.origin.start


def undo_edits(tracked: TrackedText, ids: Collection[int]) -> list[Edit]:
    """The edits that restore the old text of these hunks.

    Adjacent ones are merged into one edit, because editors treat several edits at one position differently.
    """
    edits: list[Edit] = []
    for hunk in tracked.hunks:
        if hunk.id not in ids:
            continue
        if edits and edits[-1].end == hunk.start:
            last = edits.pop()
            edits.append(Edit(last.start, hunk.end, last.new + hunk.old))
        else:
            edits.append(Edit(hunk.start, hunk.end, hunk.old))
    return edits


def undone(tracked: TrackedText, ids: Collection[int]) -> TrackedText:
    """After `undo_edits` of the same hunks."""
    hunks: list[TrackedHunk] = []
    shift = 0
    for hunk in tracked.hunks:
        if hunk.id in ids:
            shift += len(hunk.old) - len(hunk.new)
        else:
            hunks.append(msgspec.structs.replace(hunk, start=hunk.start + shift, end=hunk.end + shift))
    return TrackedText(apply(tracked.text, undo_edits(tracked, ids)), tuple(hunks))


def kept(tracked: TrackedText, ids: Collection[int]) -> TrackedText:
    """After the user kept these hunks."""
    return msgspec.structs.replace(
        tracked,
        hunks=tuple(
            msgspec.structs.replace(hunk, is_kept=True) if hunk.id in ids else hunk for hunk in tracked.hunks
        ),
    )


def without(tracked: TrackedText, ids: Collection[int]) -> TrackedText:
    """Without these hunks, whose text stays."""
    left = tuple(hunk for hunk in tracked.hunks if hunk.id not in ids)
    return msgspec.structs.replace(tracked, hunks=left)


def merged(one: TrackedText, other: TrackedText) -> TrackedText:
    """The hunks of both, which must have the same text; if hunks overlap, those of the second."""
    assert one.text == other.text
    left = [hunk for hunk in one.hunks if not any(_overlap(hunk, newer) for newer in other.hunks)]
    hunks = sorted([*left, *other.hunks], key=lambda hunk: (hunk.start, hunk.end))
    return TrackedText(one.text, tuple(hunks))


def lines_now(before: str, now: str, first: int, end: int) -> tuple[int, int]:
    """The current position of lines of an earlier text (0-based, `end` exclusive).

    For lines that were replaced, the lines that replaced them, judging from a diff of the texts.
    """
    shift, first_now, end_now = 0, None, None
    for old_start, old_end, new_start, new_end in changed_blocks(visible_lines(before), visible_lines(now)):
        if end_now is None and end <= old_start:
            end_now = end + shift
        if first_now is None and first < old_end:
            first_now = first + shift if first <= old_start else new_start
        if end_now is None and end < old_end:
            end_now = new_end
        shift = new_end - old_end
    first_now = first + shift if first_now is None else first_now
    end_now = end + shift if end_now is None else end_now
    return first_now, max(first_now, end_now)


def _overlap(hunk: TrackedHunk, other: TrackedHunk | Edit) -> bool:
    return other.start < hunk.end and hunk.start < other.end


def _ends_lines(text: str, offset: int) -> bool:
    """Whether a run of lines may end here: before a line, before a line end, or at the end of the text."""
    return offset == len(text) or text[offset] in "\r\n" or is_line_start(text, offset)
