"""Edits as values: an `Edit` is a span of a text, in offsets, and what replaces it.

Offsets count characters of a Python string (Unicode code points) everywhere inside singlepass; LSP
positions exist only in `editor/positions.py`. The edits of one list all refer to the same text, do not
overlap, and are applied as if at once, as in an LSP `TextEdit[]`.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec


class Edit(NamedTuple):
    """Replace `text[start:end]` by `new`."""

    start: int
    end: int
    new: str


class Snapshot(msgspec.Struct, frozen=True):
    """The text of a document at one version, on which edits are planned."""

    uri: str
    version: int | None
    """None for a file that is not open in the editor."""
    text: str


def validate(text: str, edits: Iterable[Edit]) -> list[Edit]:
    """The edits sorted by position.

    Raises ValueError if an edit is outside the text or two overlap. Several insertions at one position are
    legal and keep their order; an insertion at the border of a replacement is legal too.
    """
    ordered = sorted(edits, key=lambda edit: (edit.start, edit.end))
    previous_end = 0
    for edit in ordered:
        if not 0 <= edit.start <= edit.end <= len(text):
            raise ValueError(f"edit {edit.start}..{edit.end} leaves the text of {len(text)} characters")
        if edit.start < previous_end:
            raise ValueError(f"edit {edit.start}..{edit.end} overlaps the one that ends at {previous_end}")
        previous_end = edit.end
    return ordered


def apply(text: str, edits: Iterable[Edit]) -> str:
    """The text after all edits. Raises ValueError as `validate` does."""
    parts: list[str] = []
    position = 0
    for edit in validate(text, edits):
        parts += (text[position : edit.start], edit.new)
        position = edit.end
    parts.append(text[position:])
    return "".join(parts)


def invert(text: str, edits: Iterable[Edit]) -> list[Edit]:
    """The edits that turn `apply(text, edits)` back into `text`."""
    inverse: list[Edit] = []
    shift = 0
    for edit in validate(text, edits):
        start = edit.start + shift
        inverse.append(Edit(start, start + len(edit.new), text[edit.start : edit.end]))
        shift += len(edit.new) - (edit.end - edit.start)
    return inverse


def rebase_span(start: int, end: int, changes: Sequence[Edit]) -> tuple[int, int] | None:
    """Where the span is after the changes, or None if one of them touched it.

    The changes are sequential, as in `didChange`: each refers to the text after the one before. A change that
    only borders on the span does not touch it: text inserted exactly at its start shifts it, text inserted
    exactly at its end stays outside. An empty span is shifted. The caller has to check in the text whether
    the span still consists of whole lines.
    """
    for change in changes:
        if change.start >= end and not (start == end == change.start):
            continue
        if change.end > start:
            return None
        shift = len(change.new) - (change.end - change.start)
        start, end = start + shift, end + shift
    return start, end


def difference(old: str, new: str) -> Edit:
    """One edit that turns the old text into the new one, without their common prefix and suffix."""
    n_front = _n_shared(old, new)
    n_back = _n_shared(old[n_front:][::-1], new[n_front:][::-1])
    return Edit(n_front, len(old) - n_back, new[n_front : len(new) - n_back])


def _n_shared(one: str, other: str) -> int:
    """Length of the common prefix of two texts; by bisection, since slices compare fast."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
