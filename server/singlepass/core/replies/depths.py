"""How deep the lines of a text that was written anew stand in the document.

A model writes a text at the document's depths, or begins at none; with the document's unit of indentation,
or with its own. `at_depth` tries these readings, and takes one by which the text begins as deep as the lines
that it takes the place of and, like them, is nowhere shallower. Of several it takes
one whose depths code can have, and of these the one that leaves most of the unchanged lines as deep as they
are. No line decides alone: other depths may be what was asked for.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

from singlepass.core.replies.definitions import WORD
from singlepass.core.replies.indentation import indentation_map, reindent
from singlepass.core.replies.levels import columns, indent_of, is_sound, unit_of

_OPENS = re.compile(r".*(?:[:{(\[>,\\]|\b(?:do|then|else|try|begin))\s*$")
_DIRECTIVE = re.compile(
    r"#\s*(?:if|ifdef|ifndef|else|elif|endif|define|undef|include|pragma|region|endregion)\b"
)


def is_directive(line: str) -> bool:
    """Whether a line is for a preprocessor, which stands at no depth."""
    return _DIRECTIVE.match(line) is not None


def at_depth(
    there: Sequence[str], new: Sequence[str], pairs: Mapping[int, int], document: Sequence[str]
) -> list[str] | None:
    """The new lines with the document's indentation; None where it is not clear how deep they stand.

    `there` are the document's lines that they take the place of. `pairs` are the new lines that repeat or
    change one of them, in order.
    """
    equal = {j: i for j, i in pairs.items() if new[j].strip() == there[i].strip() and WORD.search(new[j])}
    pairs = equal or pairs
    borders = _borders(there)
    unit = unit_of(document)
    best: tuple[tuple[bool, int], list[str]] | None = None
    for lines in _readings(there, new, pairs, document):
        n_kept = sum(indent_of(lines[j]) == indent_of(there[i]) for j, i in pairs.items())
        begins, least = (one == other for one, other in zip(_borders(lines), borders, strict=True))
        is_right = (begins and least) or ((begins or least) and 0 < n_kept == len(pairs))
        rank = is_sound(lines, unit), n_kept
        if is_right and (best is None or rank > best[0]):
            best = rank, lines
    return None if best is None else best[1]


def _readings(
    there: Sequence[str], new: Sequence[str], pairs: Mapping[int, int], document: Sequence[str]
) -> Iterator[list[str]]:
    """The lines as they are but for the first; as the unchanged ones tell; moved as a whole; as they are."""
    if (lines := _with_first(new, _borders(there)[0])) is not None:
        yield lines
    old, window = [new[j] for j in pairs], [there[i] for i in pairs.values()]
    learned = indentation_map(old, window, new, document)
    if learned is not None and not learned.is_identity:
        lines = reindent(old, window, new, learned)
        if lines is not None and (learned.flat is not None or _is_in_order(new, lines)):
            yield lines
    moved = _moved(new, _borders(new)[1], _borders(there)[1], (unit_of(new), unit_of(document)))
    if moved is not None:
        yield moved
    yield [*new]


def _with_first(new: Sequence[str], indent: str) -> list[str] | None:
    """The lines where only the first has lost its indentation; None where those below tell otherwise."""
    first, *below = (n for n, line in enumerate(new) if line.strip())
    least = columns(indent) + (_OPENS.match(new[first]) is not None)
    if (
        not below
        or columns(indent_of(new[first])) >= columns(indent)
        or columns(indent_of(new[below[0]])) < least
    ):
        return None
    if any(columns(indent_of(new[n])) < columns(indent) for n in below if not is_directive(new[n])):
        return None
    return [*new[:first], indent + new[first].lstrip(), *new[first + 1 :]]


def _borders(lines: Sequence[str]) -> tuple[str, str]:
    """The indentation of the first line, and the least one."""
    indents = [indent_of(line) for line in lines if line.strip() and not is_directive(line)]
    return indents[0] if indents else "", min(indents, key=columns, default="")


def _is_in_order(new: Sequence[str], lines: Sequence[str]) -> bool:
    """Whether what is deeper stays deeper. The first line may be one that lost its indentation."""
    depths = [
        (columns(indent_of(a)), columns(indent_of(b))) for a, b in zip(new, lines, strict=True) if a.strip()
    ]
    return all(a[0] < b[0] and a[1] < b[1] for a, b in pairwise(sorted({*depths[1:]})))


def _moved(new: Sequence[str], least: str, base: str, units: tuple[str, str]) -> list[str] | None:
    """The lines with another least indentation, and deeper levels in another unit."""
    unit, unit_there = units if all(units) else ("", "")
    lines: list[str] = []
    for line in new:
        indent = indent_of(line)
        if not line.strip() or is_directive(line):
            lines.append(line)
            continue
        if not indent.startswith(least):
            return None
        deeper = indent[len(least) :]
        n_levels = len(deeper) // len(unit) if unit else 0
        if deeper.startswith(unit * n_levels):
            deeper = unit_there * n_levels + deeper[len(unit) * n_levels :]
        lines.append(base + deeper + line.lstrip())
    return lines
