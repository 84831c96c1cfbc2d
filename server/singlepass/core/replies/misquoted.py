"""Applies the change of a block to the document's lines if the model misquoted them.

Theory of operation
===================

A block says how old lines become new ones. If a quoted line differs from the document's line, the new line
usually has the same mistake, so writing it would change something that nobody asked for: a comment that was
left out, a number, a name. Therefore `carried_over` applies the difference between quoted and new lines to
the document's lines:

- A line that the block repeats is left as it is in the document.
- A line that the block changes is merged word by word (`merged`). The base is the quotation; the two sides
are the document's line and the new line. If both sides changed the same or adjacent words, there is no
result. - A line that the block deletes or replaces must have been quoted correctly, apart from a comment at
its end; otherwise there is no result.
"""

import re
from bisect import bisect_left
from collections.abc import Sequence
from typing import NamedTuple

from singlepass.core.line_diff import MOST_COMPARISONS, changed_blocks
from singlepass.core.replies.characters import canonical, with_one_quote
from singlepass.core.replies.levels import indent_of
from singlepass.core.replies.pairing import pairs_of, similarity

_WORDS = re.compile(r"&#?\w+;|\w+|\s+|\.+|-+|.", re.DOTALL)
_SPACE = re.compile(r"(?<!\s)\s+(?=\S)")
_COMMENT = re.compile(r"(?<!\s)\s+(?:#|//|/\*|--|;|%|<!--)")
"""The beginning of a comment after code, in any language."""
_LETTER = re.compile(r"[^\W\d_]")

_SURELY_ALIKE = 0.8
"""Minimum similarity of a new line to the old line that it changes, if the number of lines changes."""

_MARGIN = 0.15
"""Minimum amount by which all other old lines must be less similar in that case."""

_MOST_COMPARED = 20
"""Number of old lines before and after it that are compared in that case."""


class Change(NamedTuple):
    """A change in a list of words: `base[start:end]` became `new`."""

    start: int
    end: int
    new: tuple[str, ...]


def comment_left_out(old: str, line: str) -> str:
    """The comment at the end of the document's line, if the quoted line differs only in lacking it; otherwise
    empty."""
    code = canonical(old)
    line = line.rstrip()
    if not code or not canonical(line).startswith(code):
        return ""
    # Canonical forms do not get shorter with longer beginnings, so binary search works.
    starts = [found.start() for found in _SPACE.finditer(line) if found.start()]
    n = bisect_left(starts, len(code), key=lambda start: len(canonical(line[:start])))
    if n == len(starts) or canonical(line[: starts[n]]) != code:
        return ""
    tail = line[starts[n] :]
    return tail if is_comment(tail) else ""


def is_comment(text: str) -> bool:
    """Whether a text is white space followed by a comment with letters, in any language."""
    return _COMMENT.match(text) is not None and _LETTER.search(text) is not None


def _has_comment(text: str) -> bool:
    """Whether a text has a comment with letters."""
    found = _COMMENT.search(text)
    # If a later comment has letters, they also follow the first comment mark.
    return found is not None and _LETTER.search(text, found.end()) is not None


def merged(old: str, line: str, new: str) -> str | None:
    """The document's line with the change from the old (quoted) to the new line; None if they conflict.

    They conflict if the quotation differs from the document in a word that is changed or adjacent to a
    changed one. A comment at the end of the document's line that was not quoted is no conflict.
    """
    tail = comment_left_out(old, line)
    if tail and canonical(new).endswith(canonical(tail)):
        # The new line has the comment that the old one lacks.
        old = old.rstrip() + tail
    base, there, asked = (tuple(_WORDS.findall(text.strip())) for text in (old, line, new))
    key = {word: with_one_quote(word) or " " for word in {*base, *there}}
    keys, keys_there = ([key[word] for word in words] for words in (base, there))
    ours = [change._replace(new=there[c:d]) for change, (c, d) in _changes(keys, keys_there)]
    theirs = [change._replace(new=asked[c:d]) for change, (c, d) in _changes(base, asked)]
    if len(ours) * len(theirs) > MOST_COMPARISONS:
        return None
    for one in ours:
        for other in theirs:
            if one.start <= other.end and other.start <= one.end and one != other:
                is_tail = one.start == one.end == len(base) and is_comment("".join(one.new))
                if not is_tail or _has_comment("".join(other.new)):
                    return None
    # Unchanged words are written as they are in the document.
    written = _aligned(keys, keys_there, there)
    changes = sorted({*ours, *theirs}, key=lambda change: (change.start, change.end, change in ours))
    words: list[str] = []
    at = 0
    for change in changes:
        words += written[at : change.start]
        words += change.new
        at = max(at, change.end)
    return "".join([*words, *written[at:]])


def _changes(base: Sequence[str], other: Sequence[str]) -> list[tuple[Change, tuple[int, int]]]:
    return [(Change(i, j, ()), (c, d)) for i, j, c, d in changed_blocks(base, other)]


def _aligned(keys: Sequence[str], keys_there: Sequence[str], there: Sequence[str]) -> list[str]:
    """For each word of the base the document's word; empty for words that differ."""
    written = [""] * len(keys)
    i = c = 0
    ends = (len(keys), len(keys), len(keys_there), len(keys_there))
    for a, b, start, end in (*changed_blocks(keys, keys_there), ends):
        written[i:a] = there[c:start]
        i, c = b, end
    return written


def carried_over(old: Sequence[str], window: Sequence[str], new: Sequence[str]) -> list[str] | None:
    """The lines that replace `window`; None if they cannot be determined.

    `window` are the document's lines, one for each old line. Old and new lines have the document's
    indentation.
    """
    if [*old] == [*window]:
        return [*new]
    blocks = changed_blocks([line.rstrip() for line in old], [line.rstrip() for line in new])
    lines: list[str] = []
    at = 0
    for a, b, c, d in blocks:
        block = _block(old[a:b], window[a:b], new[c:d])
        if block is None:
            return None
        lines += [*window[at:a], *block]
        at = b
    return [*lines, *window[at:]]


def _block(old: Sequence[str], window: Sequence[str], new: Sequence[str]) -> list[str] | None:
    """What replaces a run of lines that all change; None if it cannot be determined."""
    lines: list[str] = []
    a = c = 0
    # A new line that equals a line of the document is not a change of another line.
    for i, j in [*_own_lines(window, new), (len(window), len(new))]:
        part = _part(old[a:i], window[a:i], new[c:j])
        if part is None:
            return None
        lines += [*part, *window[i : i + 1]]
        a, c = i + 1, j + 1
    return lines


def _own_lines(window: Sequence[str], new: Sequence[str]) -> list[tuple[int, int]]:
    """The lines of the document (blank ones aside) that are among the new lines, in order, as pairs of
    numbers."""
    pairs: list[tuple[int, int]] = []
    a = c = 0
    blocks = changed_blocks([*map(str.rstrip, window)], [*map(str.rstrip, new)])
    for i, end, j, end_new in (*blocks, (len(window), 0, len(new), 0)):
        pairs += [pair for pair in zip(range(a, i), range(c, j), strict=True) if window[pair[0]].strip()]
        a, c = end, end_new
    return pairs


def _part(old: Sequence[str], window: Sequence[str], new: Sequence[str]) -> list[str] | None:
    """What replaces lines of which none is among the new lines; None if it cannot be determined."""
    is_equal = [a.strip() == b.strip() for a, b in zip(old, window, strict=True)]
    if all(is_equal):
        return [*new]
    pairs = pairs_of(old, new)
    merged_ones = {*pairs.values()}
    for i, (a, b) in enumerate(zip(old, window, strict=True)):
        if i in merged_ones or with_one_quote(a) == with_one_quote(b):
            continue
        # A line is deleted with its comment, unless a new line may be its changed version.
        if len(merged_ones) < len(new) or not comment_left_out(a, b):
            return None
    lines: list[str] = []
    for j, line in enumerate(new):
        i = pairs.get(j)
        if i is None or is_equal[i]:
            lines.append(line)
            continue
        if len(old) != len(new) and not _is_surely(i, old, line):
            return None
        change = merged(old[i], window[i], line)
        if change is None:
            return None
        lines.append(indent_of(line) + change)
    return lines


def _is_surely(i: int, old: Sequence[str], line: str) -> bool:
    """Whether a new line can only be a change of old line `i`."""
    old = old[max(0, i - _MOST_COMPARED) : i + _MOST_COMPARED + 1]
    i = min(i, _MOST_COMPARED)
    alike = similarity(old[i], line)
    others = (similarity(one, line) for n, one in enumerate(old) if n != i)
    return alike >= _SURELY_ALIKE and all(other < alike - _MARGIN for other in others)
