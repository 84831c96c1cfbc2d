"""Undoes a change of indentation that a model made in the lines of a block.

A model that changes the indentation of quoted lines does it consistently: it removes it, halves it, or
replaces tabs by spaces, in the new lines as well. `indentation_map` learns the change from pairs of a quoted
line and a line of the document; `reindent` undoes it in the new lines. Both return None if the pairs
contradict each other, or if it is not clear which indentation the new lines have.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from singlepass.core.replies.levels import columns, indent_of, is_sound, unit_of
from singlepass.core.replies.pairing import MIN_ALIKE, pairs_of, similarity

_MOST_BESIDE = 10
"""Number of lines above and below that are searched for one with text."""
_LABEL = re.compile(r"\w+:")
_MOST_ABOVE = 1_000
"""Number of lines above that are searched for one with less indentation."""
_SPACES = re.compile(r" +[^\s*]")


class IndentationMap(NamedTuple):
    """A mapping from the indentation of a model's lines to that of the document."""

    known: dict[str, str]
    """By indentation of quoted lines, that of the document's lines at their place."""
    unit: str
    """One level of indentation in the model's lines; empty if it is the same as in the document."""
    unit_there: str
    """One level of indentation in the document; empty if `unit` is."""
    first: tuple[str, str] | None = None
    """If only the first quoted line lost its indentation: what it has, and what the document has."""
    tab: str = "\t"
    """What replaces a tab of the model's lines: a tab if the document uses tabs."""
    flat: str | None = None
    """The indentation of all quoted lines, if they have only one where the document has several."""
    level: str = ""
    """One level of indentation in the document, even if the model's is the same; empty if unknown."""
    has_tabs_only: bool = False
    """Whether lines of the document are indented by tabs, and none by spaces (block comments aside)."""

    @property
    def is_identity(self) -> bool:
        """Whether no indentation is changed."""
        return (
            self.first is None
            and self.flat is None
            and all(one == there for one, there in self.known.items())
        )

    def convert(self, indent: str) -> str:
        """The document's indentation for that of a new line."""
        if indent in self.known:
            return self.known[indent]
        prefixes = [one for one in self.known if indent.startswith(one)]
        if prefixes:
            longest = max(prefixes, key=len)
            return self.known[longest] + self._scaled(indent[len(longest) :])
        deeper = min((one for one in self.known if one.startswith(indent)), key=len, default="")
        there, less = self.known.get(deeper, ""), self._scaled(deeper[len(indent) :])
        return there[: max(0, len(there) - len(less))] if deeper else self._scaled(indent)

    def _scaled(self, indent: str) -> str:
        """Whole levels in the document's unit; anything else, such as alignment with a bracket, is kept."""
        n_levels = len(indent) // len(self.unit) if self.unit else 0
        if not n_levels or self.unit * n_levels != indent:
            return indent.replace("\t", self.tab)
        return self.unit_there * n_levels


def indentation_map(
    old: Sequence[str], there: Sequence[str], new: Sequence[str], document: Sequence[str]
) -> IndentationMap | None:
    """The map from the indentation of the old lines to that of the document's lines `there`.

    `new` and `document` are used to determine the unit of indentation. None if no map exists, because lines
    of equal depth have different depths in the document, or the other way round.
    """
    pairs = [(indent_of(a), indent_of(b)) for a, b in zip(old, there, strict=True) if a.strip() and b.strip()]
    unit = unit_of(document)
    has_tabs_only = unit == "\t" and not any(_SPACES.match(line) for line in document)
    if not pairs:
        return IndentationMap({}, "", "", level=unit, has_tabs_only=has_tabs_only)
    tab = unit if unit and not any(line.startswith("\t") for line in document) else "\t"
    known, rest = _growing(pairs), _growing(pairs[1:]) or {}
    is_shallower = columns(pairs[0][0]) < columns(pairs[0][1])
    is_first_alone = is_shallower and bool(rest) and all(one == there for one, there in rest.items())
    # Pairs of lines without indentation are no evidence that only the first line lost its own.
    if is_first_alone and (known is None or any(rest)):
        return IndentationMap(rest, "", "", first=pairs[0], tab=tab, level=unit)
    if known is not None:
        units = _units(known, old, new, unit)
        return IndentationMap(known, *units, tab=tab, level=unit, has_tabs_only=has_tabs_only)
    indents = {one for one, _ in pairs}
    return IndentationMap({}, "", "", flat=indents.pop()) if len(indents) == 1 else None


def is_mappable(old: Sequence[str], there: Sequence[str]) -> bool:
    """Whether there is a map from the indentation of the old lines to that of the lines there."""
    return indentation_map(old, there, (), ()) is not None


def _growing(pairs: Sequence[tuple[str, str]]) -> dict[str, str] | None:
    known: dict[str, str] = {}
    for one, there in pairs:
        if known.setdefault(one, there) != there:
            return None
    ordered = sorted((columns(one), columns(there)) for one, there in known.items())
    grows = all(a[0] < b[0] and a[1] < b[1] for a, b in pairwise(ordered))
    return known if grows else None


def _units(known: dict[str, str], old: Sequence[str], new: Sequence[str], unit: str) -> tuple[str, str]:
    if all(one == there for one, there in known.items()):
        return "", ""
    steps = [
        (deeper[len(one) :], known[deeper][len(known[one]) :])
        for one, deeper in pairwise(sorted(known, key=len))
        if deeper.startswith(one) and known[deeper].startswith(known[one])
    ]
    if steps:
        # The quoted lines show the unit themselves.
        shortest = min(steps, key=lambda step: len(step[0]))
        return shortest if shortest[0] != shortest[1] else ("", "")
    units = unit_of(old) or unit_of([*old, *new]), unit
    return units if all(units) and units[0] != units[1] else ("", "")


def reindent(
    old: Sequence[str], there: Sequence[str], new: Sequence[str], found: IndentationMap
) -> list[str] | None:
    """The new lines with the document's indentation; None if it is not clear which indentation they have now.

    `old` are the quoted lines, `there` the document's lines at their place. New lines that already have the
    document's indentation, although the old lines have not, are left unchanged.
    """
    if found.is_identity:
        return _with_tabs(new) if found.has_tabs_only else _with_spaces(new, found.tab)
    if _has_lost_levels(old, new):
        return None
    if found.flat is not None:
        return _raised(old, there, new, found.flat)
    if found.first is not None:
        lines = _first_moved(new, *found.first, found.known)
        return lines if is_sound(lines) or not is_sound(there) else None
    converted = {indent: found.convert(indent) for indent in {indent_of(line) for line in new}}
    lines = [converted[indent_of(line)] + line.lstrip() if line.strip() else line for line in new]
    if lines == [*new]:
        return lines
    quoted, real = next(iter(found.known.items()))
    if sum(bool(line.strip()) for line in old) == 1 and columns(quoted) < columns(real):
        # With one quoted line, either all new lines lost their indentation or only the first one.
        as_there = _first_moved(new, quoted, real, {})
        readings = [one for one in (lines, as_there) if is_sound(one, found.level)]
        has_quoted = any(line.strip() and indent_of(line) == quoted for line in new)
        if lines == as_there or len(readings) < 2 or has_quoted:
            return readings[0] if len(readings) == 1 or (readings and lines == as_there) else None
    is_the_documents = _is_the_documents(old, there, new, found)
    return None if is_the_documents is None else [*new] if is_the_documents else lines


def raised_again(
    above: Sequence[str], there: Sequence[str], new: Sequence[str], below: Sequence[str]
) -> Sequence[str] | None:
    """The new lines with the indentation that they lost, if they lost it although the quoted lines did not.

    All new lines may have lost it, or only the first one. That is assumed if they would otherwise be outside
    the bracket that contains them, or if they begin like the old lines and their depth does not fit the lines
    `above` and `below`. None if no interpretation fits, or more than one.
    """
    first, first_new = (next((line for line in lines if line.strip()), "") for lines in (there, new))
    indent = indent_of(first)
    depths = [columns(indent_of(line)) for line in there if line.strip()]
    if not indent or not first_new or indent_of(first_new) or min(depths) < columns(indent):
        return new
    may_be_shallow = first_new.startswith("#") or _LABEL.fullmatch(first_new) is not None
    is_in_bracket = not may_be_shallow and _is_in_bracket(above, indent)
    is_alike = similarity(first, first_new) >= MIN_ALIKE
    if not is_alike and not is_in_bracket:
        return new
    before = [line for line in above[-_MOST_BESIDE:] if line.strip()][-1:]
    after = [line for line in below[:_MOST_BESIDE] if line.strip()][:1]

    def fits(lines: Sequence[str]) -> bool:
        return is_sound([*before, *lines, *after])

    all_raised = [indent + line if line.strip() else line for line in new]
    if fits(new):
        beside = [*before, *after]
        is_between = len(beside) == 2 and min(columns(indent_of(one)) for one in beside) >= columns(indent)
        return all_raised if (is_in_bracket or is_between) and fits(all_raised) else new
    if not fits(there):
        return new
    n = new.index(first_new)
    first_raised = [*new[:n], indent + first_new, *new[n + 1 :]]
    is_first_alone = all(columns(indent_of(line)) >= columns(indent) for line in new[n + 1 :] if line.strip())
    readings = [all_raised, *[first_raised] * (is_first_alone and first_raised != all_raised)]
    readings = [lines for lines in readings if fits(lines)]
    return readings[0] if len(readings) == 1 else None


def _is_in_bracket(above: Sequence[str], indent: str) -> bool:
    """Whether the nearest line above with less indentation ends with an opening bracket."""
    shallower = (
        one
        for one in above[: -_MOST_ABOVE - 1 : -1]
        if one.strip() and columns(indent_of(one)) < columns(indent)
    )
    return next(shallower, "").rstrip().endswith(("{", "(", "["))


def _with_tabs(new: Sequence[str]) -> list[str]:
    """The new lines with tabs in place of indentation by spaces; unchanged if the number of spaces per level
    is not clear."""
    is_spaced = [line.strip() != "" and {*indent_of(line)} == {" "} for line in new]
    depths = [len(indent_of(line)) for line, spaced in zip(new, is_spaced, strict=True) if spaced]
    n_columns = next((n for n in (4, 8, 2) if n in depths and not any(one % n for one in depths)), 0)
    if not n_columns:
        return [*new]
    return [
        "\t" * (len(indent_of(line)) // n_columns) + line.lstrip() if spaced else line
        for line, spaced in zip(new, is_spaced, strict=True)
    ]


def _with_spaces(new: Sequence[str], tab: str) -> list[str]:
    """The new lines with `tab` in place of each tab in their indentation."""
    return [indent_of(line).replace("\t", tab) + line.lstrip() if line.strip() else line for line in new]


def _first_moved(new: Sequence[str], quoted: str, real: str, known: Mapping[str, str]) -> list[str]:
    """The new lines if only the first quoted line lost its indentation (`quoted` instead of `real`): lines
    with the indentation `quoted` get `real`; if other quoted lines have it too (in `known`), only the first
    line does."""
    first = next((n for n, line in enumerate(new) if line.strip()), -1)
    return [
        real + line.lstrip()
        if line.strip() and indent_of(line) == quoted and (n == first or quoted not in known)
        else line
        for n, line in enumerate(new)
    ]


def _has_lost_levels(old: Sequence[str], new: Sequence[str]) -> bool:
    """Whether an added line opens a block and the line below it is not deeper."""
    lines = [line.rstrip() for line in new if line.strip()]
    known = {line.strip() for line in old}
    return any(
        line.endswith((":", "{"))
        and line.strip() not in known
        and columns(indent_of(below)) <= columns(indent_of(line))
        for line, below in pairwise(lines)
    )


def _raised(old: Sequence[str], there: Sequence[str], new: Sequence[str], flat: str) -> list[str] | None:
    """The new lines, which all have the indentation `flat`, each with that of the line that it changes; None
    if one changes no line."""
    pairs = pairs_of(old, new)
    if any(line.strip() and (indent_of(line) != flat or j not in pairs) for j, line in enumerate(new)):
        return None
    return [
        indent_of(there[pairs[j]]) + line.lstrip() if line.strip() else line for j, line in enumerate(new)
    ]


def _is_the_documents(
    old: Sequence[str], there: Sequence[str], new: Sequence[str], found: IndentationMap
) -> bool | None:
    """Whether the new lines have the document's indentation and not that of the quoted lines; None if
    unclear."""
    indents, indents_there, wanted = (
        {indent_of(line) for line in lines if line.strip()} for lines in (old, there, new)
    )
    as_quoted = all(_is_reached(indent, indents, found.unit) for indent in wanted)
    as_there = all(_is_reached(indent, indents_there, found.unit_there) for indent in wanted)
    if as_quoted != as_there:
        return as_there
    votes = {
        (indent_of(new[j]) == indent_of(old[i]), indent_of(new[j]) == indent_of(there[i]))
        for j, i in pairs_of(old, new).items()
    } & {(True, False), (False, True)}
    if len(votes) == 1:
        return votes == {(False, True)}
    if votes:
        return None
    least, least_new = (min(map(columns, one), default=0) for one in (indents, wanted))
    return False if least_new == least else None


def _is_reached(indent: str, known: Iterable[str], unit: str) -> bool:
    """Whether an indentation is a known one, or one plus whole levels."""
    return any(
        indent.startswith(one)
        and (not (deeper := indent[len(one) :]) or not unit or unit * (len(deeper) // len(unit)) == deeper)
        for one in known
    )
