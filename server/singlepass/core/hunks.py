"""A hunk on its way from the model's reply to the editor, as values: parsed, planned, or rejected.

`rebase` moves a planned hunk to the current text. The parser and the planner are imported with the first job,
because the editor waits for the imports of the server.
"""

from collections.abc import Sequence
from typing import Literal

import msgspec

from singlepass.core.edits import Edit, Snapshot, rebase_span
from singlepass.core.lines import is_line_start

How = Literal["exact", "trailing_whitespace", "indentation", "characters", "habits", "fuzzy", "rewrite"]
"""Which level found the old lines. `habits` is one of the first four, without the model's habits; `rewrite`
is a rewrite of the whole selection or file (`replies/rewrite.py`)."""

RejectReason = Literal[
    "unknown_file",
    "not_found",
    "ambiguous",
    "overlap",
    "stale",
    "cut_off",
    "malformed",
    "repeated",
    "unreadable",
    "unread",
    "refused",
]
"""Why a hunk is not applied. `repeated`: it was already applied; `unreadable`: a reply without a block, or
a rewrite that could not be placed; `unread`: code outside the blocks; `refused`: rejected later, for example
by the editor."""


class Hunk(msgspec.Struct, frozen=True):
    """One finished block. Lines have no line end."""

    index: int
    """Which block of the reply, from 0; dropped ones are counted."""
    path: str
    """The file it is for, as far as the reply tells; empty when it never named one."""
    old: tuple[str, ...]
    new: tuple[str, ...]
    is_path_stated: bool = True
    """Whether the block itself names its file. If not, `path` is the one of the block before."""
    is_rewrite: bool = False
    """Whether `new` is new text of the file or of the selection as a whole, and there are no old lines."""
    rival: str = ""
    """Another file that the reply names for it; where it fits both, which is meant is not known."""
    is_constrained: bool = False
    """Whether the edit grammar held the model, so that its old lines are copied, and stand in one place."""


class PlannedHunk(msgspec.Struct, frozen=True):
    """A hunk with its edits on a snapshot."""

    hunk: Hunk
    """The hunk, its path resolved."""
    snapshot: Snapshot
    start: int
    """Start offset in `snapshot.text` of the lines that must not change until the edits are applied: the
    matched ones, without those that another hunk changes."""
    end: int
    """Their end offset, including the last line's line end."""
    edits: tuple[Edit, ...]
    """In ascending order, within start..end. Empty if the hunk changes nothing."""
    how: How = "exact"
    """How the old lines were found."""
    question: str = ""
    """Why the user is asked before it is applied; empty where that is not needed."""


class RejectedHunk(msgspec.Struct, frozen=True):
    """A hunk that is not applied, and why."""

    hunk: Hunk
    reason: RejectReason
    message: str
    """For users, without the file's name."""


def rebase(planned: PlannedHunk, changes: Sequence[Edit], text: str) -> tuple[Edit, ...] | RejectedHunk:
    """The planned edits, moved to the current text.

    `changes` are all edits of the document since the snapshot, each referring to the text after the one
    before, as in `didChange`; `text` is the result. Lines added or removed outside the hunk shift it. A
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
    # A last line without a line end may have one by now, followed by new lines.
    whole = before.endswith(("\n", "\r")) or text[end : end + 1] not in ("\n", "\r")
    if whole and not (is_line_start(text, end) or end == len(text)):
        return stale
    shift = start - planned.start
    return tuple(Edit(edit.start + shift, edit.end + shift, edit.new) for edit in planned.edits)
