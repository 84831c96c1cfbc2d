"""Indentation that a model changed: how that of its lines becomes the document's.

A model that quotes with other indentation does so throughout: without it, with half of it, with spaces for
tabs. So what tells one quoted line's indentation tells that of all, and of the new lines that go with them.
`indentation_map` learns it from pairs of lines; `reindent` applies it. Both are None where the lines
contradict each other, or where it is not clear which indentation the new lines have.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from singlepass.core.replies.levels import columns, indent_of, is_sound, unit_of
from singlepass.core.replies.pairing import MIN_ALIKE, pairs_of, similarity

_MOST_BESIDE = 10
"""How many lines above and below are looked at for one with text."""
_LABEL = re.compile(r"\w+:")
_MOST_ABOVE = 1_000
"""How many lines above are looked at for one that is shallower."""
_SPACES = re.compile(r" +[^\s*]")


class IndentationMap(NamedTuple):
    """From the indentation of quoted lines to the document's."""

    known: dict[str, str]
    """What the quoted lines have, and what the document has there."""
    unit: str
    """One level in the model's lines …"""
    unit_there: str
    """… and in the document's; both are empty where a level is the same."""
    first: tuple[str, str] | None = None
    """Where the first quoted line alone lost its indentation: what it has, and what the document has."""
    tab: str = "\t"
    """What a tab stands for in the document; a tab where it has some itself."""
    flat: str | None = None
    """The one indentation that all quoted lines have, where the document's lines have several."""
    level: str = ""
    """One level of the document, whether or not the model's are the same; empty where it is not known."""
    has_tabs_only: bool = False
    """Whether no line of the document, comments aside, is indented by spaces, and some are by tabs."""

    @property
    def is_identity(self) -> bool:
        """Whether nothing changes."""
        return (
            self.first is None
            and self.flat is None
            and all(one == there for one, there in self.known.items())
        )

    def convert(self, indent: str) -> str:
        """The document's indentation for a new line's."""
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
        """Deeper levels in the document's unit; what is no whole level, as behind a bracket, stays."""
        n_levels = len(indent) // len(self.unit) if self.unit else 0
        if not n_levels or self.unit * n_levels != indent:
            return indent.replace("\t", self.tab)
        return self.unit_there * n_levels


def indentation_map(
    old: Sequence[str], there: Sequence[str], new: Sequence[str], document: Sequence[str]
) -> IndentationMap | None:
    """How the indentation of the old lines becomes that of the lines there.

    New lines and document tell how deep a level is. None where no such map exists: two lines of one depth
    stand at different depths in the document, or two of different depth at the same.
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
    # Lines without indentation are the same in whatever unit, so they tell nothing where a map exists.
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
        # The quoted lines themselves tell.
        shortest = min(steps, key=lambda step: len(step[0]))
        return shortest if shortest[0] != shortest[1] else ("", "")
    units = unit_of(old) or unit_of([*old, *new]), unit
    return units if all(units) and units[0] != units[1] else ("", "")


def reindent(
    old: Sequence[str], there: Sequence[str], new: Sequence[str], found: IndentationMap
) -> list[str] | None:
    """The new lines with the document's indentation; None where it is not clear which one they have now.

    `old` and `there` are the quoted lines and the document's. New lines that have the document's indentation
    already, although the old ones lack it, stay as they are.
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
        # Nothing else is quoted that tells whether all lines lost their indentation or the first one alone.
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
    """New lines that alone lost the indentation of those they replace, all of them or the first one, with it.

    They did where they would be as shallow as the bracket around them; and where they begin as the old ones
    do, and cannot stand as they are between the lines above and below, or these are as deep as the old ones.
    None where they can stand in no way, or in two.
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
    """Whether lines of this depth stand in a bracket that the next shallower line above opens."""
    shallower = (
        one
        for one in above[: -_MOST_ABOVE - 1 : -1]
        if one.strip() and columns(indent_of(one)) < columns(indent)
    )
    return next(shallower, "").rstrip().endswith(("{", "(", "["))


def _with_tabs(new: Sequence[str]) -> list[str]:
    """New lines with tabs for the spaces by which some are indented; as they are, where it is not clear how
    many are a level."""
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
    """New lines with what a tab stands for in the document in place of those by which some are indented."""
    return [indent_of(line).replace("\t", tab) + line.lstrip() if line.strip() else line for line in new]


def _first_moved(new: Sequence[str], quoted: str, real: str, known: Mapping[str, str]) -> list[str]:
    """The new lines where the first quoted one alone lost its indentation: what is as deep as it was quoted
    goes along, unless other quoted lines are that deep too, and all else has the document's indentation."""
    first = next((n for n, line in enumerate(new) if line.strip()), -1)
    return [
        real + line.lstrip()
        if line.strip() and indent_of(line) == quoted and (n == first or quoted not in known)
        else line
        for n, line in enumerate(new)
    ]


def _has_lost_levels(old: Sequence[str], new: Sequence[str]) -> bool:
    """Whether a new line opens a block, and the line below it is not deeper."""
    lines = [line.rstrip() for line in new if line.strip()]
    known = {line.strip() for line in old}
    return any(
        line.endswith((":", "{"))
        and line.strip() not in known
        and columns(indent_of(below)) <= columns(indent_of(line))
        for line, below in pairwise(lines)
    )


def _raised(old: Sequence[str], there: Sequence[str], new: Sequence[str], flat: str) -> list[str] | None:
    """New lines without indentation, each with that of the line that it changes; None where one changes
    none."""
    pairs = pairs_of(old, new)
    if any(line.strip() and (indent_of(line) != flat or j not in pairs) for j, line in enumerate(new)):
        return None
    return [
        indent_of(there[pairs[j]]) + line.lstrip() if line.strip() else line for j, line in enumerate(new)
    ]


def _is_the_documents(
    old: Sequence[str], there: Sequence[str], new: Sequence[str], found: IndentationMap
) -> bool | None:
    """Whether the new lines have the document's indentation, and not that of the quoted ones; None if
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
    """Whether an indentation is one of these, or some levels deeper than one of them."""
    return any(
        indent.startswith(one)
        and (not (deeper := indent[len(one) :]) or not unit or unit * (len(deeper) // len(unit)) == deeper)
        for one in known
    )
