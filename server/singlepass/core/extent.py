"""Whether a text that was written anew for some lines goes on with those around them.

A model that is asked for a selection often writes more: the decorator or the signature above, the brace below,
the class around it. `within` takes such lines off where they repeat the document's to the letter; a text that
goes on with them in other words would have them twice, and has no answer.
"""

import itertools
import re
from collections.abc import Collection, Iterator, Mapping, Sequence

from singlepass.core.indentation import columns, indent_of
from singlepass.core.left_out import defined_name
from singlepass.core.pairing import MIN_ALIKE, similarity

_N_NEAR = 3
"""How many lines before and after its place a text is compared with at least, …"""
_MOST_NEAR = 20
"""… and how many at most."""
_WORD = re.compile(r"\w")
_CLOSES = re.compile(r"[)}\]\s;,]+$")
_END = re.compile(r"(?:end|fi|done|esac)\b\s*;?\s*$|</([\w.-]+)>\s*$")
_IMPORT = re.compile(r"(?:import|from|using|use|require|package)\b|#\s*include\b|const .*=\s*require\(")
_ATTRIBUTE = re.compile(r"@\w|#!?\[")


def within(
    document: Sequence[str], span: tuple[int, int], new: Sequence[str], pairs: Mapping[int, int]
) -> list[str] | None:
    """The text without what it repeats of the lines around its place; None where it goes on with these in
    other words.

    `pairs` are the lines of the text that have a counterpart in its place.
    """
    start, end = span
    before, behind = (
        [line.strip() for line in lines if line.strip()] for lines in (document[:start], document[end:])
    )
    text = [n for n, line in enumerate(new) if line.strip()]
    if not pairs or not (before or behind):
        return [*new]
    names = frozenset(map(defined_name, (*before, *behind)))

    front = [n for n in text if n < min(pairs)]
    imports = {line for line in (*before, *behind) if _IMPORT.match(line)}
    front_left = [n for n in front if new[n].strip() not in imports]
    around = [*_around(document, start)]
    written = [new[n].strip() for n in front_left]
    front_left = front_left[max(_n_repeated(written, before), _n_repeated(written, around)) :]
    is_before = pairs[min(pairs)] == 0
    if front_left and is_before and before and _ATTRIBUTE.match(before[-1]):
        # What stands above the place belongs to its first line.
        return None
    if _is_repeated(new, front_left, before[: -_n_near(front) - 1 : -1] + around, names):
        return None

    back = [n for n in text if n > max(pairs)]
    kept = [new[n] for n in text if n not in front or n in front_left]
    back_left = _without_ends(new, back, document[start:end], kept, behind)
    if back_left is None:
        return None
    written = [new[n].strip() for n in reversed(back_left)]
    if back_left and not _is_end(written[0]):
        back_left = back_left[: len(back_left) - _n_repeated(written, behind[: len(written)][::-1])]
    if _is_repeated(new, back_left, behind[: _n_near(back)], names):
        return None
    first = front_left[0] if front_left else min(pairs)
    last = back_left[-1] if back_left else max(pairs)
    cut = {*front} - {*front_left}
    return [line for n, line in enumerate(new) if first <= n <= last and n not in cut]


def _n_near(lines: Sequence[int]) -> int:
    return min(max(_N_NEAR, len(lines)), _MOST_NEAR)


def _around(document: Sequence[str], start: int) -> Iterator[str]:
    """The lines that the blocks around a place begin with, from the outermost one on."""
    return reversed([*_outwards(document, start)])


def _outwards(document: Sequence[str], start: int) -> Iterator[str]:
    least = columns(indent_of(document[start]))
    for line in reversed(document[:start]):
        if line.strip() and columns(indent_of(line)) < least:
            least = columns(indent_of(line))
            yield line.strip()


def _n_repeated(written: Sequence[str], before: Sequence[str]) -> int:
    """How many of the first lines are the last ones of what stands before."""
    most = min(len(written), len(before))
    return next((n for n in range(most, 0, -1) if [*written[:n]] == [*before[-n:]]), 0)


def _is_repeated(
    new: Sequence[str], lines: Sequence[int], near: Sequence[str], names: Collection[str]
) -> bool:
    """Whether one of these new lines is, or resembles, one of those nearby. In a definition that the document
    has not yet, it may."""
    checked = [new[n].strip() for n in _outside_definitions(new, lines, names)]
    checked = [line for line in checked if _WORD.search(line)]
    if {*checked} & {*near}:
        return True
    some = [*checked[:_MOST_NEAR], *checked[-_MOST_NEAR:]]
    return any(similarity(line, one, MIN_ALIKE) for line, one in itertools.product(some, near))


def _outside_definitions(new: Sequence[str], lines: Sequence[int], names: Collection[str]) -> Iterator[int]:
    """The lines that are in no definition of a new name."""
    depth: int | None = None
    attributes: list[int] = []
    for n in lines:
        its = columns(indent_of(new[n]))
        if depth is not None and (its > depth or (its == depth and not _WORD.search(new[n]))):
            continue
        name = defined_name(new[n].strip())
        depth = its if name and name not in names else None
        if depth is not None:
            attributes = []
        elif _ATTRIBUTE.match(new[n].strip()):
            attributes.append(n)
        else:
            yield from (*attributes, n)
            attributes = []
    yield from attributes


def _is_end(line: str) -> bool:
    return _CLOSES.match(line) is not None or _END.match(line) is not None


def _without_ends(
    new: Sequence[str], back: Sequence[int], old: Sequence[str], kept: Sequence[str], behind: Sequence[str]
) -> list[int] | None:
    """The last lines without those that end a block which the text does not begin; None if that is unclear."""
    left = [*back]
    kept = [*kept]
    while left and _is_end(line := new[left[-1]].strip()):
        found = _END.match(line)
        if found and not found[1]:
            # Which word begins a block depends on the language.
            return None if behind and behind[0] == line else left
        tag = found[1] if found else ""
        if _n_open(kept, tag) >= _n_open(old, tag):
            break
        kept.pop()
        left.pop()
    return left


def _n_open(lines: Sequence[str], tag: str) -> int:
    """How many brackets, or elements of this name, are begun and not ended."""
    text = "\n".join(lines)
    if tag:
        return len(re.findall(rf"<{re.escape(tag)}\b", text)) - text.count(f"</{tag}>")
    return sum(map(text.count, "([{")) - sum(map(text.count, ")]}"))
