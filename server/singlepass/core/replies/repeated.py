"""New lines that repeat lines of the document which are adjacent to the quoted ones.

Theory of operation
===================

A model may quote only `def f():` and write the whole function, or quote a body and also write the closing
bracket after it. If only the quoted lines were replaced, the document would have the repeated lines twice.
`with_repeated` detects this and adds the repeated lines to the quoted ones. They cause no edit, because they
are the same before and after.

The evidence is that the new lines end with the lines that follow the quoted ones in the document, or begin
with the lines before them, while the quoted lines do not. It is not enough if equal lines may follow each
other: a new function ends with `}` before the `}` of its class. Brackets are counted to find out whether they
close something in the new lines; for keywords such as `end`, indentation decides. Blank lines, tags and lines
without a word are no evidence.

If the new lines resemble the block after the quoted lines, but are not that block with additions, a line
would have to be deleted that was not quoted. In this case there is no result.
"""

import re
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import NamedTuple

from singlepass.core.line_diff import changed_blocks
from singlepass.core.replies.levels import balance, columns, indent_of
from singlepass.core.replies.pairing import MIN_ALIKE, similarity

_MOST = 1_000
"""Maximum number of lines above and below that are examined."""
_MOST_ALIKE = 30
"""Maximum number of lines on each side that are compared for similarity."""
_WORD = re.compile(r"[^\W\d_]{2}|\w[\"']?\s*[:=(]")
_ENTRY = re.compile(r"(?:[-*+]\s+)?([\"'`]?)[\w.+-]*\w\1,?")
"""A line that may be one value of a list."""
_OF_ENTRIES = "\"'`,-*"
"""Characters of which such a line must have one."""
_EMPTY_ELEMENT = re.compile(r"<[A-Za-z][^<>]*/>")
_TAG = re.compile(r"</?[A-Za-z][^<>]*>")
_VOID = re.compile(r"<(?:area|br|col|hr|img|input|link|meta|source|wbr)\b", re.IGNORECASE)
_CLOSING = re.compile(r"\s*(?:end\b.*|fi|done|esac|#\s*endif\b.*|\{%-?\s*end.*|\w*END\w*)\s*;?\s*")
"""Lines that close a block with a keyword."""
_BEFORE_DEFINITION = re.compile(r"\s*(?:@|#\[|\[\w+.*\]$|///|/\*\*|\*|template\b)")
"""Lines that belong to the definition below them, such as decorators and doc comments."""
_COMMENT = re.compile(r"\s*(?:#(?![\[!])|//|/\*|\*|--|;;)")
_WORDS = re.compile(r"\w+")
_OPENING = ("{", "(", "[")
_HEAD = re.compile(
    r"\s*(?:if|elif|while|for|foreach|switch|match|with|unless|def|class|fn|func|function)\b.+[:{]"
)
"""First lines of blocks that hardly ever occur twice in a row."""
_LEAVES = re.compile(r"\s*(return|raise|throw)\b")


class Change(NamedTuple):
    """A range of the document's lines and the lines that replace it."""

    start: int
    end: int
    """Exclusive."""
    new: list[str]


def with_repeated(document: Sequence[str], start: int, end: int, new: Sequence[str]) -> Change | None:
    """The change of the lines from `start` to `end` (exclusive), extended by the adjacent lines that `new`
    repeats; None if lines would be duplicated or lost."""
    old = document[start:end]
    plain_old, plain = [line.rstrip() for line in old], [line.rstrip() for line in new]
    if not any(plain_old) or not any(plain) or plain == plain_old:
        return Change(start, end, [*new])
    above = [line.rstrip() for line in document[max(0, start - _MOST) : start]]
    below = [line.rstrip() for line in document[end : end + _MOST]]
    n_back = n_front = 0
    if plain[-1] != plain_old[-1]:
        n_back = _n_repeated(plain_old, plain, below, _overlaps(plain, below))
    if plain[0] != plain_old[0] and not n_back:
        backwards = _overlaps(plain[::-1], above[::-1])
        n_front = _n_repeated(plain_old[::-1], plain[::-1], above[::-1], backwards)
        n_front = n_front or _n_decorations(plain_old, plain, above)
        if not n_front and _is_version_above(plain_old, plain, above):
            return None
    if n_back < 0 or n_front < 0:
        return None
    if n_back:
        return Change(start, end + n_back, [*new[: len(new) - n_back], *document[end : end + n_back]])
    if n_front:
        return Change(start - n_front, end, [*new])
    return _with_block(document, start, end, new, plain, below)


def _overlaps(lines: Sequence[str], beside: Sequence[str]) -> list[int]:
    """The numbers n for which the last n lines equal the first n adjacent ones, the largest first."""
    most = min(len(lines), len(beside))
    return [n for n in range(most, 0, -1) if lines[-n] == beside[0] and lines[-n:] == beside[:n]]


def _n_repeated(old: Sequence[str], new: Sequence[str], beside: Sequence[str], numbers: Sequence[int]) -> int:
    """How many of the adjacent lines the new lines repeat at their end; -1 if it cannot be determined."""
    surplus = balance(new) - balance(old)
    not_quoted = _added(old, new) if numbers else []
    for n in numbers:
        if not any(i >= len(new) - n for i in not_quoted):
            continue
        repeated, rest = beside[:n], new[: len(new) - n]
        closed = balance(repeated)
        if closed:
            if surplus == closed:
                return n
            continue
        if all(line.lstrip().startswith("<") for line in repeated if line) and (tags := _tags(repeated)):
            if _tags(new) - _tags(old) == tags:
                return n
            continue
        words = [line for line in repeated if _WORD.search(_TAG.sub("", line))]
        words = words or _entries(repeated, [*old, *rest, *beside[n:]])
        if not words:
            continue
        if all(_CLOSING.fullmatch(line) for line in words):
            least = min(columns(indent_of(line)) for line in words)
            quoted = {*old}
            added = [line for line in rest if line.strip() and line not in quoted]
            # An added line that is not deeper may open what is closed.
            if any(columns(indent_of(line)) <= least and not _is_version(line, old) for line in added):
                continue
            return n
        stay = {*rest}
        gone = [line for line in old[-_MOST_ALIKE:] if line and line not in stay]
        gone = [line for line in gone if not any(_is_change(line, one) for one in rest[-_MOST_ALIKE:])]
        if any(_is_change(line, one) for line in gone for one in words[:_MOST_ALIKE]):
            continue
        return n if any(rest) else -1
    return 0


def _entries(lines: Sequence[str], others: Sequence[str]) -> list[str]:
    """The lines, if each is one value of a list or one empty element and none of `others` is equal; otherwise
    none."""

    def is_one(bare: str) -> bool:
        is_value = _ENTRY.fullmatch(bare) is not None and not {*_OF_ENTRIES}.isdisjoint(bare)
        return is_value or _EMPTY_ELEMENT.fullmatch(bare) is not None

    text = [line for line in lines if line]
    return text if all(is_one(line.strip()) for line in text) and {*text}.isdisjoint(others) else []


def _added(old: Sequence[str], new: Sequence[str]) -> list[int]:
    """The numbers of the new lines with text that are not old lines."""
    return [n for *_, start, end in changed_blocks(old, new) for n in range(start, end) if new[n]]


def _tags(lines: Sequence[str]) -> int:
    """The number of opening HTML tags minus that of closing ones."""
    tags = [tag for line in lines for tag in _TAG.findall(line)]
    return sum(-1 if tag[1] == "/" else not (tag.endswith("/>") or _VOID.match(tag)) for tag in tags)


def _is_change(old: str, new: str) -> bool:
    return old == new or similarity(old, new) >= MIN_ALIKE


def _is_version(line: str, old: Sequence[str]) -> bool:
    return any(_is_change(one, line) for one in old[-_MOST_ALIKE:])


def _n_decorations(old: Sequence[str], new: Sequence[str], above: Sequence[str]) -> int:
    """How many of the lines above the old ones are repeated at the end of the decorators and comments with
    which the new lines begin."""
    n_added = next((n for n, line in enumerate(new) if not _BEFORE_DEFINITION.match(line)), 0)
    if not n_added or not _is_change(old[0], new[n_added]):
        return 0
    added = new[:n_added]
    equal = (n for n in range(min(n_added, len(above)), 0, -1) if added[-n:] == above[-n:])
    return next((n for n in equal if not _is_part_of_comment(above[-n:])), 0)


def _is_part_of_comment(lines: Sequence[str]) -> bool:
    """Whether these lines end a comment that begins above them."""
    return sum(line.lstrip().startswith("/*") - line.endswith("*/") for line in lines) < 0


def _is_version_above(old: Sequence[str], new: Sequence[str], above: Sequence[str]) -> bool:
    """Whether the new lines begin with another version of the comment or decorator above the quoted
    definition, which would then have both."""

    def belongs(line: str) -> bool:
        return bool(_BEFORE_DEFINITION.match(line) or _COMMENT.match(line))

    n_added = next((n for n, line in enumerate(new) if not belongs(line)), 0)
    last = above[-1] if above else ""
    if not n_added or not belongs(last) or belongs(old[0]) or not _is_change(old[0], new[n_added]):
        return False
    if last.endswith("*/") and any(line.lstrip().startswith("/*") for line in new[:n_added]):
        return True
    if _COMMENT.match(last):
        return any(_COMMENT.match(line) and similarity(last, line) >= MIN_ALIKE for line in new[:n_added])
    # `@route("/a")` may well be followed by `@route("/b")`.
    words = _WORDS.findall(last)
    return any(_is_subsequence(words, _WORDS.findall(line)) for line in new[:n_added])


def _is_subsequence(words: Sequence[str], others: Iterable[str]) -> bool:
    left = iter(others)
    return all(word in left for word in words)


def _with_block(
    document: Sequence[str],
    start: int,
    end: int,
    new: Sequence[str],
    plain: Sequence[str],
    below: Sequence[str],
) -> Change | None:
    """The change extended by the block after the old lines, if the new lines have all of it with additions;
    the change as it is, if they have little of it; otherwise None."""
    as_it_is = Change(start, end, [*new])
    old = [line.rstrip() for line in document[start:end]]
    last = next(line for line in reversed(old) if line)
    n_kept = _n_kept(last, plain)
    tail, block = plain[n_kept:], _block(last, below)
    first = next((line for line in block if line), "")
    if n_kept and first.strip() == "{" and plain[n_kept - 1].endswith("{"):
        return None
    if _closes(old, plain, last) and any(line.endswith(_OPENING) for line in plain):
        return None
    if not first or not any(n_kept and n >= n_kept for n in _added(old, plain)):
        return as_it_is
    changed = changed_blocks(block, tail)
    kept = _others(changed, len(block))
    begins_same = next(line for line in tail if line) == first
    if begins_same and len(kept) > 2 and tail[-1] and tail[-1] == block[kept[-1]]:
        # The new lines end with some line of the block: compare only the block up to that line.
        block = block[: kept[-1] + 1]
        changed = changed_blocks(block, tail)
        kept = _others(changed, len(block))
    n_equal = sum(bool(_WORD.search(block[n])) for n in kept)
    if n_equal > 1 and all(not line for a, b, *_ in changed for line in block[a:b]):
        # Lines of the document keep their trailing white space.
        own = dict(zip(_others([(c, d, a, b) for a, b, c, d in changed], len(tail)), kept, strict=True))
        written = [document[end + own[n]] if n in own else line for n, line in enumerate(new[n_kept:])]
        return Change(start, end + len(block), [*new[:n_kept], *written])
    is_rewrite = begins_same and (
        first.strip() == "{"
        or _HEAD.fullmatch(first)
        or (bool(_WORD.search(first)) and 1 < n_equal >= sum(map(bool, block)) / 2)
    )
    is_wrong = (
        is_rewrite
        or _is_moved(tail, block)
        or _is_dead(tail, block, first)
        or _closes(old, plain, last)
        or (columns(indent_of(first)) > columns(indent_of(last)) and _ends(tail, last))
        or ("(" in last and _is_other_version(tail, block))
    )
    return None if is_wrong else as_it_is


def _n_kept(last: str, new: Sequence[str]) -> int:
    """How many of the new lines correspond to the quoted ones, of which `last` is the last; 0 if none
    does."""
    equal = next((n for n in range(len(new) - 1, -1, -1) if new[n] == last), None)
    if equal is not None:
        return equal + 1
    alike = (
        n for n in range(min(len(new), _MOST_ALIKE), 0, -1) if new[n - 1] and _is_change(last, new[n - 1])
    )
    return next(alike, 0)


def _others(ranges: Iterable[tuple[int, ...]], n: int) -> list[int]:
    """The numbers below `n` that are in none of the ranges."""
    inside = {number for start, end, *_ in ranges for number in range(start, end)}
    return [number for number in range(n) if number not in inside]


def _block(last: str, below: Sequence[str]) -> list[str]:
    """The block after the old lines: the lines at least as deep as its first one, and the line that closes
    them. If the first line is `{`, the lines up to the matching bracket."""
    first = next((line for line in below if line), "")
    depth = columns(indent_of(first))
    if first.strip() == "{":
        start = below.index(first)
        opened = [*accumulate(balance([line]) for line in below[start:])]
        return [*below[: start + opened.index(0) + 1]] if 0 in opened else []
    if depth < columns(indent_of(last)) or not first:
        return []
    n = next((n for n, line in enumerate(below) if line and columns(indent_of(line)) < depth), len(below))
    if n < len(below) and (
        (balance(below[:n]) == 0 > balance([below[n]]) and not _WORD.search(below[n]))
        or (_CLOSING.fullmatch(below[n]) and indent_of(below[n]) == indent_of(last))
    ):
        n += 1
    while n and not below[n - 1]:
        n -= 1
    return [*below[:n]]


def _is_moved(tail: Sequence[str], block: Sequence[str]) -> bool:
    """Whether the new lines have most of the block at another depth, for example in a new `try`."""
    bare, bare_new = ([line.strip() for line in lines if line] for lines in (block, tail))
    kept = _others(changed_blocks(bare, bare_new), len(bare))
    deeper = {line.strip() for line in tail} - {line.strip() for line in tail if line in {*block}}
    n_moved = sum(bool(_WORDS.search(bare[n])) and bare[n] in deeper for n in kept)
    n_words = sum(bool(_WORDS.search(line)) for line in bare)
    return n_moved > 0 and 3 * n_moved >= 2 * n_words and not (n_words == 1 and _LEAVES.match(bare[kept[0]]))


def _is_dead(tail: Sequence[str], block: Sequence[str], first: str) -> bool:
    """Whether both the new lines and the block after them end with a statement such as `return` at the
    block's depth, so that the block would be unreachable."""
    depth = columns(indent_of(first))
    ends = [next((line for line in reversed(lines) if _WORD.search(line)), "") for lines in (tail, block)]
    leaves = [_LEAVES.match(line) for line in ends]
    return all(leaves) and all(columns(indent_of(line)) == depth for line in ends)


def _closes(old: Sequence[str], new: Sequence[str], last: str) -> bool:
    """Whether the quoted lines open a bracket, and the new lines close it."""
    opened = balance([last])
    return opened > 0 and balance(old) == opened and balance(new) == 0


def _ends(tail: Sequence[str], last: str) -> bool:
    """Whether the new lines end with a keyword that closes what the quoted lines open."""
    end = next(line for line in reversed(tail) if line)
    return _CLOSING.fullmatch(end) is not None and indent_of(end) == indent_of(last)


def _is_other_version(tail: Sequence[str], block: Sequence[str]) -> bool:
    """Whether the block and the new lines correspond one to one, with more than one line."""
    lines, others = ([line for line in one if line] for one in (tail, block))
    return 1 < len(lines) == len(others) <= _MOST_ALIKE and all(map(_is_change, others, lines))
