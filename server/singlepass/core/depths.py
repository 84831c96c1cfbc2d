"""How deep the lines of a text that was written anew stand in the document.

A model writes a text at the document's depths, or begins at none; with the document's unit of indentation, or
with its own. `at_depth` tries these readings, and takes one by which the text begins as deep as the lines that
it takes the place of and, like them, is nowhere shallower. Of several it takes the one that leaves most of the
unchanged lines as deep as they are. No line decides alone, because other depths may be what was asked for.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

from singlepass.core.indentation import columns, indent_of, indentation_map, reindent, unit_of

_WORD = re.compile(r"\w")
_OPENS = re.compile(r".*(?:[:{(\[>]|\b(?:do|then|else|try|begin))\s*$")
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
    equal = {j: i for j, i in pairs.items() if new[j].strip() == there[i].strip() and _WORD.search(new[j])}
    pairs = equal or pairs
    found: list[tuple[int, bool, list[str]]] = []
    for lines in _readings(there, new, pairs, document):
        n_kept = sum(indent_of(lines[j]) == indent_of(there[i]) for j, i in pairs.items())
        begins, least = (a == b for a, b in zip(_borders(lines), _borders(there), strict=True))
        is_all_kept = 0 < n_kept == len(pairs)
        found.append((n_kept, (begins and least) or ((begins or least) and is_all_kept), lines))
    fitting = [one for one in found if one[1]]
    if not fitting:
        return None
    n_kept, _, lines = max(fitting, key=lambda one: one[0])
    if n_kept < max(one[0] for one in found) and not _is_around(there, new, pairs):
        return None
    return lines


def _readings(
    there: Sequence[str], new: Sequence[str], pairs: Mapping[int, int], document: Sequence[str]
) -> Iterator[list[str]]:
    """The lines as the unchanged ones tell, as they are, and moved as a whole."""
    old, window = [new[j] for j in pairs], [there[i] for i in pairs.values()]
    learned = indentation_map(old, window, new, document)
    lines = None if learned is None else reindent(old, window, new, learned)
    if learned is not None and lines is not None and (learned.flat is not None or _is_in_order(new, lines)):
        yield lines
    yield [*new]
    moved = _moved(new, _borders(new)[1], _borders(there)[1], (unit_of(new), unit_of(document)))
    if moved is not None:
        yield moved


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


def _is_around(there: Sequence[str], new: Sequence[str], pairs: Mapping[int, int]) -> bool:
    """Whether the text, or what it replaces, begins with a line around all others that the other lacks."""
    first_new, first = (
        next((n for n, line in enumerate(lines) if line.strip()), 0) for lines in (new, there)
    )
    is_wrapped = first_new not in pairs and _OPENS.match(new[first_new]) is not None
    is_unwrapped = first not in pairs.values() and _OPENS.match(there[first]) is not None
    return is_wrapped or is_unwrapped
