"""The indentation of a rewrite in the document.

A model indents a rewrite as the document does, or begins without indentation; with the document's unit of
indentation, or with its own. `at_depth` tries these interpretations. It accepts those in which the first line
and the least indented line are as deep as in the lines that are replaced. If there are several, it prefers
plausible code (`is_sound`), then the one in which most unchanged lines keep their indentation. A single line
decides nothing, because a change of indentation may be what was requested.
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
    """Whether a line is a preprocessor directive, whose indentation says nothing."""
    return _DIRECTIVE.match(line) is not None


def at_depth(
    there: Sequence[str], new: Sequence[str], pairs: Mapping[int, int], document: Sequence[str]
) -> list[str] | None:
    """The new lines with the document's indentation; None if it cannot be determined.

    `there` are the lines of the document that they replace. `pairs` maps each new line that repeats or
    changes one of these to it, in order.
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
    """Interpretations: only the first line lost its indentation; indented as unchanged lines show; moved as a
    whole; as written."""
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
    """The lines with the first one indented by `indent`; None if the lines below it show that they lost their
    indentation too."""
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
    """The indentation of the first line with text, and the least indentation."""
    indents = [indent_of(line) for line in lines if line.strip() and not is_directive(line)]
    return indents[0] if indents else "", min(indents, key=columns, default="")


def _is_in_order(new: Sequence[str], lines: Sequence[str]) -> bool:
    """Whether lines that are deeper in `new` are deeper in `lines`."""
    depths = [
        (columns(indent_of(a)), columns(indent_of(b))) for a, b in zip(new, lines, strict=True) if a.strip()
    ]
    return all(a[0] < b[0] and a[1] < b[1] for a, b in pairwise(sorted({*depths[1:]})))


def _moved(new: Sequence[str], least: str, base: str, units: tuple[str, str]) -> list[str] | None:
    """The lines with `base` in place of the least indentation, and with deeper levels in the document's
    unit."""
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
