"""Whether a rewrite of some lines also contains the lines around them.

A model that is asked for a selection often writes more: the decorator or signature above it, the brace below
it, the class around it. `within` removes such lines if they are exactly the document's. If they are only
similar, it returns None, because the document would then have two versions of them.
"""

import itertools
import re
from collections.abc import Collection, Iterator, Mapping, Sequence

from singlepass.core.replies.definitions import WORD, defined_name
from singlepass.core.replies.imports import IMPORT
from singlepass.core.replies.levels import balance, columns, indent_of
from singlepass.core.replies.pairing import MIN_ALIKE, similarity

_N_NEAR = 3
"""Minimum number of lines before and after the replaced lines with which a rewrite is compared."""
_MOST_NEAR = 10
"""Maximum number of these lines."""
_CLOSES = re.compile(r"[)}\]\s;,]+$")
_END = re.compile(r"(?:end|fi|done|esac)\b\s*;?\s*$|</([\w.-]+)>\s*$")
_ASSIGNED = re.compile(
    r"(?:(?:const|let|var|final|static|public|private|export|auto)\s+)*([\w$.]+)\s*(?::[^=]*|:)?=[^=]"
)
_OPENS_BEFORE_COMMENT = re.compile(r"[{(\[]\s*(?://|#|/\*)")
_ATTRIBUTE = re.compile(r"@\w|#!?\[")


def within(
    document: Sequence[str], span: tuple[int, int], new: Sequence[str], pairs: Mapping[int, int]
) -> list[str] | None:
    """The rewrite `new` of the lines `span` without the lines around them that it repeats; None if it has
    similar lines in place of these.

    `pairs` maps each new line that repeats or changes one of the replaced lines to it.
    """
    start, end = span
    before, behind = (
        [line.strip() for line in lines if line.strip()] for lines in (document[:start], document[end:])
    )
    text = [n for n, line in enumerate(new) if line.strip()]
    if not pairs or not (before or behind):
        return [*new]
    names = frozenset(map(defined_name, (*before, *behind)))

    first, last = min(pairs), max(pairs)
    front = [n for n in text if n < first]
    imports = {line for line in (*before, *behind) if IMPORT.match(line)}
    front_left = [n for n in front if new[n].strip() not in imports]
    around = [*_around(document, start)][-_MOST_NEAR:]
    written = [new[n].strip() for n in front_left]
    front_left = front_left[max(_n_repeated(written, before), _n_repeated(written, around)) :]
    is_before = pairs[first] == 0
    if front_left and is_before and before and _ATTRIBUTE.match(before[-1]):
        # An attribute above the replaced lines belongs to their first line.
        return None
    if _is_repeated(new, front_left, before[: -_n_near(front) - 1 : -1] + around, names):
        return None

    cut = {*front} - {*front_left}
    left = _without_ends(new, [n for n in text if n not in cut], last, document, span, behind)
    if left is None:
        return None
    back = [n for n in left if n > last]
    written = [new[n].strip() for n in reversed(back)]
    n_cut = 0 if not back or _is_end(written[0]) else _n_repeated(written, behind[: len(written)][::-1])
    back = back[: len(back) - n_cut]
    if _is_repeated(new, back, behind[: _n_near(back)], names):
        return None
    left = left[: len(left) - n_cut]
    return [line for n, line in enumerate(new) if left and left[0] <= n <= left[-1] and n not in cut]


def without_neighbours(document: Sequence[str], span: tuple[int, int], new: Sequence[str]) -> Sequence[str]:
    """The rewrite without first and last lines that are the lines around the replaced ones. They are kept if
    they also occur in these, or have no words."""
    known = {line.strip() for line in document[span[0] : span[1]]}
    text = [n for n, line in enumerate(new) if line.strip()]
    bare = [new[n].strip() for n in text]
    before, behind = (
        [line.strip() for line in lines if line.strip()]
        for lines in (document[: span[0]], document[span[1] :])
    )
    n_front = _n_repeated(bare, before[-len(bare) :])
    n_back = _n_repeated(bare[::-1], behind[: len(bare)][::-1])

    def says(lines: Sequence[str]) -> bool:
        return any(WORD.search(line) and not _END.match(line) and line not in known for line in lines)

    n_front *= says(bare[:n_front])
    n_back *= says(bare[len(bare) - n_back :])
    left = text[n_front : len(text) - n_back]
    return new[left[0] : left[-1] + 1] if left and n_front + n_back else new


def _n_near(lines: Sequence[int]) -> int:
    return min(max(_N_NEAR, len(lines)), _MOST_NEAR)


def _around(document: Sequence[str], start: int) -> Iterator[str]:
    """The first lines of the blocks around a line, the outermost first."""
    return reversed([*_outwards(document, start)])


def _outwards(document: Sequence[str], start: int) -> Iterator[str]:
    least = columns(indent_of(document[start]))
    for line in reversed(document[:start]):
        if line.strip() and columns(indent_of(line)) < least:
            least = columns(indent_of(line))
            yield line.strip()


def _n_repeated(written: Sequence[str], before: Sequence[str]) -> int:
    """The maximum number of lines at the beginning of `written` that are the last ones of `before`."""
    # The prefix function of Knuth, Morris and Pratt: linear time even if many lines are equal.
    lines = [*written, None, *before[len(before) - min(len(written), len(before)) :]]
    longest = [0] * len(lines)
    for n in range(1, len(lines)):
        k = longest[n - 1]
        while k and lines[n] != lines[k]:
            k = longest[k - 1]
        longest[n] = k + (lines[n] == lines[k])
    return longest[-1] if before else 0


def _is_repeated(
    new: Sequence[str], lines: Sequence[int], near: Sequence[str], names: Collection[str]
) -> bool:
    """Whether one of these new lines equals or resembles one of the lines nearby. Lines in definitions that
    the document does not have yet do not count."""
    checked = [new[n].strip() for n in _outside_definitions(new, lines, names)]
    checked = [line for line in checked if WORD.search(line) and not _END.match(line)]
    if {*checked} & {*near}:
        return True
    some = [*checked[:_MOST_NEAR], *checked[-_MOST_NEAR:]]
    return any(_is_changed(line, one) for line, one in itertools.product(some, near))


def _is_changed(line: str, other: str) -> bool:
    """Whether a line may be a changed version of another one. Lines that define different names are not."""
    if IMPORT.match(line):
        return False
    names = [
        (defined_name(one), found[1] if (found := _ASSIGNED.match(one)) else "") for one in (line, other)
    ]
    if any(all(both) and both[0] != both[1] for both in zip(*names, strict=True)):
        return False
    return similarity(line, other, MIN_ALIKE) > 0


def _outside_definitions(new: Sequence[str], lines: Sequence[int], names: Collection[str]) -> Iterator[int]:
    """Those of the lines that are not in a definition of a new name."""
    depth: int | None = None
    attributes: list[int] = []
    for n in lines:
        its = columns(indent_of(new[n]))
        if depth is not None and (its > depth or (its == depth and not WORD.search(new[n]))):
            continue
        name = defined_name(new[n].strip())
        below = next((one for one in new[n + 1 : n + _MOST_NEAR] if one.strip()), "")
        has_body = columns(indent_of(below)) > its or below.strip() == "{"
        depth = its if has_body and name and name not in names else None
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
    new: Sequence[str],
    text: Sequence[int],
    last: int,
    document: Sequence[str],
    span: tuple[int, int],
    behind: Sequence[str],
) -> list[int] | None:
    """The lines without those at their end that close a block which none of them opens; None if that cannot
    be determined. `last` is the last line with a counterpart."""
    left = [*text]
    opened: dict[str, int] = {}
    while left and _is_end(line := new[left[-1]].strip()):
        found = _END.match(line)
        if found and not found[1]:
            # Which word opens the block depends on the language; but no line of it is shallower than its end.
            its = columns(indent_of(new[left[-1]]))
            least = min((columns(indent_of(new[n])) for n in left[:-1]), default=its)
            if least > its and behind[:1] == [line]:
                return left[:-1]
            is_flat = least == its == max(columns(indent_of(new[n])) for n in left)
            return None if is_flat and left[-1] > last and behind[:1] == [line] else left
        tag = found[1] if found else ""
        if tag not in opened:
            whole = [*document[: span[0]], *(new[n] for n in left), *document[span[1] :]]
            opened[tag] = n_open(whole, tag)
        without = opened[tag] - n_open([line], tag)
        if abs(opened[tag]) <= abs(without):
            break
        opened[tag] = without
        left.pop()
    return left


def n_open(lines: Sequence[str], tag: str = "") -> int:
    """How many brackets, or elements named `tag`, are opened and not closed. Brackets count only at the
    beginning or end of a line, because others may be in strings."""
    if tag:
        text = "\n".join(lines)
        return len(re.findall(rf"<{re.escape(tag)}\b", text)) - text.count(f"</{tag}>")
    n = 0
    for line in lines:
        bare = line.strip()
        if (
            bare.endswith(("{", "(", "["))
            or bare.startswith(("}", ")", "]"))
            or _OPENS_BEFORE_COMMENT.search(bare)
            or (n > 0 and balance([bare]) < 0)
        ):
            n += balance([bare])
    return n
