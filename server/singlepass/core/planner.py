"""The planner: turns a finished hunk and a snapshot into edits, or into a reason for rejecting it.

Theory of operation
===================

`plan` finds the hunk's file among the snapshots and its old lines in that file, and turns the difference
between old and new lines into edits. Four rules keep what the user has:

- An edit consists of whole lines, and only of changed ones. A line that the model repeats unchanged is not in
  any edit, so its bytes are preserved: line end, trailing spaces, characters that could not be shown to a
  model.
- New lines get the line end of the lines they replace, and a text without a final line end stays so: if its
  last line is deleted, the line end before it is deleted too, if it belongs to the hunk.
- Blank lines at a hunk's borders are not lost, or doubled, beside other changes (`borders.py`).
- Nothing is guessed. A hunk is rejected, with its text and a sentence for the user, if it fits nowhere or in
  several places, if another hunk of the same reply changes the same lines, or if its new lines are not code.
  So is one without a file name, unless its old lines occur in one file only.

The user may type while a reply is generated. `rebase` moves the planned edits to the current position of
their lines, and rejects them if the user touched those lines. It compares the content: the lines must be
unchanged and must still be whole lines.
"""

from collections.abc import Mapping, Sequence

import msgspec

from singlepass.core.diff_parser import DropReason, Hunk, HunkDropped
from singlepass.core.edits import Edit, Snapshot
from singlepass.core.hunks import PlannedHunk, RejectedHunk, RejectReason, rebase
from singlepass.core.line_diff import changed_blocks
from singlepass.core.lines import Line, line_ending, split_lines, visible_lines
from singlepass.core.matcher import (
    Ambiguous,
    Differs,
    Found,
    Match,
    NotFound,
    Unclear,
    locate,
    match,
)
from singlepass.core.replies.borders import with_blank_lines
from singlepass.core.replies.paths import fitting
from singlepass.core.replies.regions import place_region
from singlepass.core.replies.rewrite import place
from singlepass.core.replies.stray import stray, without_path_comment

__all__ = [
    "PlannedHunk",
    "RejectReason",
    "RejectedHunk",
    "Selection",
    "plan",
    "rebase",
    "reject_dropped",
    "resolve",
]

Selection = tuple[str, int, int]
"""The path of a file and a range of its lines, end exclusive."""


def plan(
    hunk: Hunk,
    snapshots: Mapping[str, Snapshot],
    selection: Selection | None,
    taken: Sequence[PlannedHunk],
) -> PlannedHunk | RejectedHunk:
    """The edits that do what the hunk says.

    `snapshots` are the editable files, by path as shown in the prompt. `taken` are the hunks of the same
    reply that were already planned, on the same snapshots.
    """
    resolved = resolve(hunk, snapshots, selection)
    if isinstance(resolved, RejectedHunk):
        return resolved
    hunk = resolved
    snapshot = snapshots[hunk.path]
    lines = split_lines(snapshot.text)
    shown = visible_lines(snapshot.text)
    hunk = without_path_comment(hunk, shown)
    if problem := stray(hunk.old, hunk.new, shown, hunk.path, is_constrained=hunk.is_constrained):
        return RejectedHunk(hunk, "malformed", f"The block was not applied. {problem}")

    selected = selection[1:] if selection is not None and selection[0] == hunk.path else None
    found = (
        _rewritten(hunk, shown, selected)
        if hunk.is_rewrite
        else match(shown, hunk.old, hunk.new, selected, is_literal=hunk.is_constrained)
    )
    if isinstance(found, RejectedHunk):
        return found
    if not isinstance(found, Found):
        return _unmatched(hunk, len(lines), found)
    if not hunk.is_rewrite:
        found = found._replace(new=tuple(with_blank_lines(shown, found.start, found.end, found.new)))

    first = lines[0].start if lines else len(snapshot.text)
    start = lines[found.start].start if found.start < len(lines) else first
    end = lines[found.end - 1].next if found.end else first
    edits = _line_edits(found, snapshot.text, lines, shown)
    if hunk.is_rewrite and edits:
        start, end = edits[0].start, max(edit.end for edit in edits)
    span = _beside(start, end, edits, [one for one in taken if one.snapshot.uri == snapshot.uri])
    if isinstance(span, PlannedHunk):
        by = f"by block {span.hunk.index + 1}."
        return RejectedHunk(hunk, "overlap", f"{_place(found.start, found.end)} already changed {by}")
    return PlannedHunk(hunk, snapshot, *span, edits, found.how)


def resolve(
    hunk: Hunk, snapshots: Mapping[str, Snapshot], selection: Selection | None
) -> Hunk | RejectedHunk:
    """The hunk with the path of its file.

    If the path is missing or ambiguous, the old lines decide, which must occur in exactly one file; if they
    occur in none, it is the file of the previous block, or the one with the selection.
    """
    paths = [*snapshots]
    if hunk.is_path_stated and hunk.path:
        paths = fitting(hunk.path, snapshots)
        if not paths:
            message = f"“{hunk.path}” is none of the files that may be edited."
            return RejectedHunk(hunk, "unknown_file", message)
    likely = (hunk.path, selection[0] if selection else "", *paths[: len(paths) == 1])
    path = next((one for one in likely if one in paths), None)
    if len(paths) > 1:
        texts = {one: visible_lines(snapshots[one].text) for one in paths}
        stands_in = [one for one, text in texts.items() if _stands_in(hunk, text)]
        if len(stands_in) > 1:
            path = (
                selection[0] if selection and _is_selected(hunk, texts.get(selection[0]), selection) else None
            )
            if path is None:
                names = " and ".join(stands_in)
                message = f"Its old lines stand in {names}; which is meant is not known."
                return RejectedHunk(hunk, "ambiguous", message)
        path = stands_in[0] if len(stands_in) == 1 else path
    if path is None:
        message = "A block without a path is for none of the files that may be edited."
        return RejectedHunk(hunk, "unknown_file", message)
    for rival in fitting(hunk.rival, snapshots):
        both = [visible_lines(snapshots[one].text) for one in (path, rival)]
        if rival != path and all(_stands_in(hunk, shown, whole=True) for shown in both):
            message = f"The reply names both {path} and {rival} for it; which is meant is not known."
            return RejectedHunk(hunk, "ambiguous", message)
    return msgspec.structs.replace(hunk, path=path, is_path_stated=True)


def _stands_in(hunk: Hunk, shown: Sequence[str], *, whole: bool = False) -> bool:
    """Whether the old lines occur in the file; with `whole`, also whether the text is a rewrite of the whole
    file."""
    if hunk.is_rewrite:
        return whole and isinstance(place(shown, hunk.new, None), Found)
    return isinstance(locate(shown, hunk.old, hunk.new), Found | Ambiguous)


def _is_selected(hunk: Hunk, shown: Sequence[str] | None, selection: Selection) -> bool:
    if shown is None or hunk.is_rewrite:
        return False
    found = locate(shown, hunk.old, hunk.new, selection[1:])
    return isinstance(found, Found) and selection[1] <= found.start and found.end <= selection[2]


def _rewritten(hunk: Hunk, shown: Sequence[str], selection: tuple[int, int] | None) -> Found | RejectedHunk:
    if not any(line.strip() for line in shown):
        return Found(0, len(shown), "rewrite", hunk.new)
    if hunk.is_constrained and selection is not None:
        found = place_region(shown, hunk.new, selection)
    else:
        found = place(shown, hunk.new, selection)
    return found if isinstance(found, Found) else RejectedHunk(hunk, "unreadable", found.message)


def _unmatched(hunk: Hunk, n_lines: int, found: Match) -> RejectedHunk:
    n_old = len(hunk.old)
    match found:
        case Ambiguous():
            return RejectedHunk(hunk, "ambiguous", _ambiguous_message(n_old, found))
        case Differs(start, end):
            message = (
                f"{_old_lines(n_old)} resemble{'s' * (n_old == 1)} {_range(start, end)}, but "
                f"{'that' if end - start == 1 else 'those'} read otherwise where the block makes its change."
            )
            return RejectedHunk(hunk, "not_found", message)
        case Unclear(start, end, why):
            message = {
                "signs": "Whether the “+” before its new lines belongs to them is not known.",
                "repeated": "Its new lines repeat lines beside the old ones, which would stand there twice.",
            }[why]
            return RejectedHunk(hunk, "ambiguous", f"{_range(start, end).capitalize()}: {message}")
        case NotFound():
            return RejectedHunk(hunk, "not_found", _not_found_message(n_old, n_lines, found))
        case Found():
            raise AssertionError("a hunk that was found is planned")


def _beside(
    start: int, end: int, edits: Sequence[Edit], taken: Sequence[PlannedHunk]
) -> tuple[int, int] | PlannedHunk:
    """The lines that a hunk can rely on, without those that earlier hunks change; or the hunk that it
    conflicts with.

    Hunks may quote the same lines as long as they change different ones.
    """
    for other in taken:
        # Two adjacent hunks may both insert at their border.
        quotes_same = (start < other.end and other.start < end) or (start, end) == (other.start, other.end)
        if quotes_same and (not edits or any(_clash(a, b) for a in edits for b in other.edits)):
            return other
    first, last = (edits[0].start, max(edit.end for edit in edits)) if edits else (start, end)
    for other in taken:
        for theirs in other.edits:
            if not (start < theirs.end and theirs.start < end):
                continue
            if theirs.end <= first:
                start = theirs.end
            elif last <= theirs.start:
                end = theirs.start
            else:
                return other
    return start, end


def _clash(one: Edit, other: Edit) -> bool:
    """Whether both change the same characters, or insert at the same position."""
    if one.start == one.end and other.start == other.end:
        return one.start == other.start
    return one.start < other.end and other.start < one.end


def reject_dropped(dropped: HunkDropped) -> RejectedHunk:
    """The rejection of a block that the parser had to drop."""
    messages: dict[DropReason, str] = {
        "cut_off": "Generation was cut off inside this block.",
        "unclosed": "The reply ended inside this block.",
        "reopened": "The block was not closed before the next one began.",
        "no_separator": "The block was closed without new text.",
        "doubtful": "Which of its lines are the markers around old and new lines is not known.",
        "repeated": f"The model wrote the same block again{f', {dropped.n} times' if dropped.n > 1 else ''}; "
        "it was applied once.",
        "unreadable": "The model wrote no edit block that can be read.",
        "unread": "Beside its edit blocks the reply has text that was not read.",
    }
    message = messages[dropped.reason]
    if dropped.reason in ("unreadable", "unread"):
        begins = next((line.strip() for line in dropped.hunk.new if line.strip()), "")
        begins = begins[:_MOST_SHOWN] + "…" * (len(begins) > _MOST_SHOWN)
        message = f"{message} {'It' if dropped.reason == 'unread' else 'Its reply'} begins: “{begins}”"
    reasons = ("cut_off", "repeated", "unreadable", "unread")
    reason = dropped.reason if dropped.reason in reasons else "malformed"
    return RejectedHunk(dropped.hunk, reason, message)


_MOST_SHOWN = 100
"""Maximum number of characters of a reply's first line in a message."""


def _line_edits(found: Found, text: str, lines: Sequence[Line], shown: Sequence[str]) -> tuple[Edit, ...]:
    window = shown[found.start : found.end]
    if found.end > found.start:
        span = text[lines[found.start].start : lines[found.end - 1].next]
        eol = line_ending(span if "\n" in span or "\r" in span else text)
    else:
        eol = line_ending(text)
    ends_open = bool(lines) and lines[-1].end == lines[-1].next
    edits: list[Edit] = []
    for old_start, old_end, new_start, new_end in changed_blocks(window, found.new):
        first, last = found.start + old_start, found.start + old_end
        start = lines[first].start if first < len(lines) else _end_of(text, lines)
        end = lines[last - 1].next if last > first else start
        written = found.new[new_start:new_end]
        new = "".join(line + eol for line in written)
        if ends_open and last == len(lines):
            # The text must still end without a line end.
            if written and written[-1]:
                new = new.removesuffix(eol)
            if not written and old_start and shown[first - 1]:
                start = lines[first - 1].end
            if first == last:
                new = eol + new
        edits.append(Edit(start, end, _keep_apart(text, start, end, new)))
    return tuple(edits)


def _end_of(text: str, lines: Sequence[Line]) -> int:
    """Offset at which a line after the last one would start."""
    return lines[-1].next if lines else len(text)


def _keep_apart(text: str, start: int, end: int, new: str) -> str:
    """The new text, changed if necessary so that a `\\r` and a `\\n` of two line ends do not become adjacent,
    which would make them one line end.

    Needed only for texts with mixed line ends and an empty line at the border.
    """
    before, after = text[start - 1 : start] if start else "", text[end : end + 1]
    front = "\r" if before == "\r" and (new or after).startswith("\n") else ""
    # Not another "\r", which would form a line end with the "\n" that follows: a hunk may begin there.
    back = "\n" if new.endswith("\r") and after == "\n" else ""
    return front + new + back


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
    return f"{message} Most similar: {_range(*found.nearest)} ({found.similarity:.0%})."


def _range(start: int, end: int) -> str:
    return f"line {start + 1}" if end - start == 1 else f"lines {start + 1} to {end}"
