"""The planner: a finished hunk and a snapshot in, edits or a reason against them out.

Theory of operation
===================

`plan` finds the hunk's file among the snapshots and its old lines in that file, and turns the difference
between old and new lines into edits. Three rules keep what the user has:

- An edit consists of whole lines, and only of changed ones. A line that the model repeats unchanged is in no
  edit, so its bytes stay: its line end, its trailing spaces, characters that could not be shown to a model.
- New lines take the line end of the lines they replace, and a text whose last line has none keeps that: when
  that line is deleted, the line end before it goes too, if it is the hunk's.
- Nothing is guessed. A hunk that fits nowhere, or in several places, or whose lines another hunk of the same
  reply has taken, is returned as a `RejectedHunk` with its text and a sentence for people.

While a reply is generated the user may type. `rebase` moves the planned edits to where their lines are now,
and refuses when the user touched those lines. It trusts content, not arithmetic: the lines must read as they
did and must still be whole lines.
"""

import difflib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from singlepass.core.diff_parser import Hunk, HunkDropped
from singlepass.core.edits import Edit, Snapshot, rebase_span
from singlepass.core.lines import Line, is_line_start, line_ending, split_lines, visible_lines
from singlepass.core.matcher import Ambiguous, Found, How, NotFound, match, reindent

RejectReason = Literal[
    "unknown_file", "not_found", "ambiguous", "overlap", "stale", "cut_off", "malformed", "refused"
]
"""Why a hunk is not applied. `refused` is for those who refuse it later, such as the editor."""

MOST_COMPARISONS = 2_000_000
"""Above this many pairs of equal lines the difference of two texts is not worth its time; one edit then
replaces all that lies between their first and last change."""


class PlannedHunk(msgspec.Struct, frozen=True):
    """A hunk that fits its snapshot."""

    hunk: Hunk
    snapshot: Snapshot
    start: int
    """Where the matched lines start in `snapshot.text`."""
    end: int
    """Where they end, the last one's line end included."""
    edits: tuple[Edit, ...]
    """In ascending order, inside start..end. Empty when the hunk changes nothing."""
    how: How = "exact"
    """How the old lines were found."""


class RejectedHunk(msgspec.Struct, frozen=True):
    """A hunk that is not applied, and why."""

    hunk: Hunk
    reason: RejectReason
    message: str
    """For people, without the file's name."""


def plan(
    hunk: Hunk,
    snapshots: Mapping[str, Snapshot],
    selection: tuple[str, int, int] | None,
    taken: Sequence[PlannedHunk],
) -> PlannedHunk | RejectedHunk:
    """The edits that do what the hunk says.

    `snapshots` are the editable files by their path as shown in the prompt. `selection` is a path and a range
    of lines, end exclusive. `taken` are the hunks of the same reply that were planned before, on the same
    snapshots. A hunk without a path means the file of the selection, or the only file there is.
    """
    path = _resolve(hunk.path, snapshots, selection)
    if path is None:
        name = f"“{hunk.path}”" if hunk.path else "A block without a path"
        return RejectedHunk(hunk, "unknown_file", f"{name} is none of the files that may be edited.")
    snapshot = snapshots[path]
    lines = split_lines(snapshot.text)
    shown = visible_lines(snapshot.text)
    selected = selection[1:] if selection is not None and selection[0] == path else None

    found = match(shown, hunk.old, selected)
    if isinstance(found, Ambiguous):
        return RejectedHunk(hunk, "ambiguous", _ambiguous_message(len(hunk.old), found))
    if isinstance(found, NotFound):
        return RejectedHunk(hunk, "not_found", _not_found_message(len(hunk.old), len(lines), found))

    first = lines[0].start if lines else len(snapshot.text)
    start = lines[found.start].start if found.start < len(lines) else first
    end = lines[found.end - 1].next if found.end else first
    for other in taken:
        if other.snapshot.uri != snapshot.uri:
            continue
        if (start < other.end and other.start < end) or (start, end) == (other.start, other.end):
            message = f"{_place(found.start, found.end)} already changed by block {other.hunk.index + 1}."
            return RejectedHunk(hunk, "overlap", message)
    edits = _line_edits(hunk, snapshot.text, lines, shown, found)
    return PlannedHunk(hunk, snapshot, start, end, edits, found.how)


def reject_dropped(dropped: HunkDropped) -> RejectedHunk:
    """The rejection of a block that the parser had to drop."""
    messages: dict[str, str] = {
        "cut_off": "Generation was cut off inside this block.",
        "unclosed": "The reply ended inside this block.",
        "reopened": "The block was not closed before the next one began.",
        "no_separator": "The block was closed without new text.",
    }
    reason = "cut_off" if dropped.reason == "cut_off" else "malformed"
    return RejectedHunk(dropped.hunk, reason, messages[dropped.reason])


def rebase(planned: PlannedHunk, changes: Sequence[Edit], text: str) -> tuple[Edit, ...] | RejectedHunk:
    """The planned edits, moved to the current text.

    `changes` are all edits of the document since the snapshot, each referring to the text after the one
    before, as in `didChange`; `text` is the result. Lines added or removed beside the hunk's move it. A
    change to its lines, or one that joins another line to them, rejects it as stale.
    """
    stale = RejectedHunk(
        planned.hunk, "stale", "The lines of this block were changed while it was generated."
    )
    before = planned.snapshot.text[planned.start : planned.end]
    if not before and text != planned.snapshot.text:
        return stale
    span = rebase_span(planned.start, planned.end, changes)
    if span is None:
        return stale
    start, end = span
    if start < 0 or text[start:end] != before or not is_line_start(text, start):
        return stale
    # A last line without a line end may have got one since, together with further lines.
    whole = before.endswith(("\n", "\r")) or text[end : end + 1] not in ("\n", "\r")
    if whole and not (is_line_start(text, end) or end == len(text)):
        return stale
    shift = start - planned.start
    return tuple(Edit(edit.start + shift, edit.end + shift, edit.new) for edit in planned.edits)


def _resolve(
    path: str, snapshots: Mapping[str, Snapshot], selection: tuple[str, int, int] | None
) -> str | None:
    if path in snapshots:
        return path
    if not path:
        if selection is not None and selection[0] in snapshots:
            return selection[0]
        return next(iter(snapshots)) if len(snapshots) == 1 else None
    plain = path.replace("\\", "/").removeprefix("./")
    return plain if plain in snapshots else None


def _line_edits(
    hunk: Hunk, text: str, lines: Sequence[Line], shown: Sequence[str], found: Found
) -> tuple[Edit, ...]:
    # What the model repeats of its own old lines it leaves unchanged, also where it had misquoted them. Only
    # the old lines of a document without text differ in number from the lines they were found at.
    window = shown[found.start : found.end]
    old = hunk.old if len(hunk.old) == len(window) else window
    if found.end > found.start:
        span = text[lines[found.start].start : lines[found.end - 1].next]
        eol = line_ending(span if "\n" in span or "\r" in span else text)
    else:
        eol = line_ending(text)
    ends_open = bool(lines) and lines[-1].end == lines[-1].next
    edits: list[Edit] = []
    for old_start, old_end, new_start, new_end in changed_blocks(old, hunk.new):
        first, last = found.start + old_start, found.start + old_end
        start = lines[first].start if first < len(lines) else _end_of(text, lines)
        end = lines[last - 1].next if last > first else start
        written = [reindent(line, found) for line in hunk.new[new_start:new_end]]
        if written == shown[first:last]:
            continue
        new = "".join(line + eol for line in written)
        if ends_open and last == len(lines):
            # The text keeps ending without a line end. An empty line there would not be one.
            if written and written[-1]:
                new = new.removesuffix(eol)
            if not written and old_start and shown[first - 1]:
                start = lines[first - 1].end
            if first == last:
                new = eol + new
        edits.append(Edit(start, end, _keep_apart(text, start, end, new)))
    return tuple(edits)


def _end_of(text: str, lines: Sequence[Line]) -> int:
    """Where a line after the last one starts."""
    return lines[-1].next if lines else len(text)


def _keep_apart(text: str, start: int, end: int, new: str) -> str:
    """The new text such that no `\\r` and `\\n` which end two lines meet and become one line end.

    It takes a text that mixes line ends, and an empty line at the border, to need this.
    """
    before, after = text[start - 1 : start] if start else "", text[end : end + 1]
    front = "\r" if before == "\r" and (new or after).startswith("\n") else ""
    back = "\r" if new.endswith("\r") and after == "\n" else ""
    return front + new + back


def changed_blocks(old: Sequence[str], new: Sequence[str]) -> list[tuple[int, int, int, int]]:
    """What differs: `old[a:b]` becomes `new[c:d]`, in ascending order."""
    n_front = 0
    while n_front < min(len(old), len(new)) and old[n_front] == new[n_front]:
        n_front += 1
    n_back = 0
    while n_back < min(len(old), len(new)) - n_front and old[-1 - n_back] == new[-1 - n_back]:
        n_back += 1
    a, b, c, d = n_front, len(old) - n_back, n_front, len(new) - n_back
    if a == b and c == d:
        return []
    counts = Counter(new[c:d])
    if sum(counts[line] for line in old[a:b]) > MOST_COMPARISONS:
        return [(a, b, c, d)]
    matcher = difflib.SequenceMatcher(None, old[a:b], new[c:d], autojunk=False)
    return [(a + i, a + j, c + k, c + m) for tag, i, j, k, m in matcher.get_opcodes() if tag != "equal"]


def _place(start: int, end: int) -> str:
    if end - start > 1:
        return f"Lines {start + 1} to {end} are"
    return f"Line {start + 1} is"


def _old_lines(n: int) -> str:
    return "The old line" if n == 1 else f"The {n} old lines"


def _ambiguous_message(n_old: int, found: Ambiguous) -> str:
    n, verb = len(found.candidates), "occurs" if n_old == 1 else "occur"
    numbers = [str(start + 1) for start, _ in found.candidates[:5]]
    if n > len(numbers):
        listed = ", ".join(numbers) + ", …"
    else:
        listed = ", ".join(numbers[:-1]) + " and " + numbers[-1]
    return f"{_old_lines(n_old)} {verb} {n} times (from lines {listed}); which is meant is not known."


def _not_found_message(n_old: int, n_lines: int, found: NotFound) -> str:
    if not n_old:
        return "The block has no old lines, and the file is not empty."
    if n_old > n_lines:
        return f"The block has {n_old} old lines, the file only {n_lines}."
    verb = "is" if n_old == 1 else "are"
    message = f"{_old_lines(n_old)} {verb} not in the file."
    if found.nearest is None:
        return message
    start, end = found.nearest
    place = f"line {start + 1}" if end - start == 1 else f"lines {start + 1} to {end}"
    return f"{message} Most similar: {place} ({found.similarity:.0%})."
