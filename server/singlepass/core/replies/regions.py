"""Where the reply of a model stands that was asked for a region, and held to write nothing but code.

What it writes is taken as the whole new text of the region. But a model repeats the class around it or the
lines beside it, writes a method as deep as a function, or all of it twice. Lines that only repeat others go,
indentation is corrected, imports become those of the document; anything else beside the region is refused.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from singlepass.core.line_diff import changed_blocks
from singlepass.core.matcher import Found
from singlepass.core.region import definitions
from singlepass.core.replies.definitions import COMMENT, WORD, assigned
from singlepass.core.replies.depths import at_depth, is_directive
from singlepass.core.replies.extent import within, without_neighbours
from singlepass.core.replies.habits import text_span
from singlepass.core.replies.imports import IMPORT, with_imports, without_imports
from singlepass.core.replies.levels import columns, indent_of
from singlepass.core.replies.rewrite import (
    BRACKETS,
    HAS_MORE,
    NO_DEPTH,
    Unplaced,
    is_unbalanced,
    pairs_of_text,
    placed,
    with_own_lines,
)

_BLOCK = re.compile(
    r"(?:(?:async\s+)?(?:def|class|for|with)\b.*|(?:if|elif|while|except)\b.*|else|try|finally):\s*(?:#.*)?$"
)
_PLAIN = re.compile(r"(?:async\s+)?def\s")
_BELONGS = re.compile(r"[)}\]@{]|#\[|(?:end|else|rescue|ensure|catch|finally)\b|public:|private:|protected:")
_ENDS = ("}", "};", "end")
_FUNCTION = re.compile(r"(?:export\s+)?(?:async\s+)?function\b")
_USE = re.compile(r"if\s+__name__\b|[\w.]+\(.*\)\s*;?$")
"""What shows how a definition is used."""
_QUOTES = re.compile(r"\"\"\"|'''")
_HALF = "The reply is only a part of the lines that it is for."
_TWICE = "The reply defines the same thing twice."


def place_region(
    document: Sequence[str], written: Sequence[str], region: tuple[int, int]
) -> Found | Unplaced:
    """The lines that the new text of a region takes the place of, and what is to stand there.

    No line outside of the region changes, but for new imports.
    """
    start, end = region
    old = document[start:end]
    if region != text_span(document):
        of_file = placed(document, written, text_span(document), region, is_selected=True)
        if isinstance(of_file, Found):
            return of_file if _stays_within(document, region, of_file) else Unplaced(HAS_MORE)
    imports: list[str] = []
    if not IMPORT.match(old[0]):
        imports, written = without_imports(written, [*document[:start], *document[end:]])
    names = _names(document, region)
    new = _without_surroundings(document, region, names, without_neighbours(document, region, written))
    new = None if new is None else _without_repeated(document, region, names, new)
    if new is None:
        return Unplaced(HAS_MORE)
    if is_unbalanced(document, old, new):
        new = within(document, region, new, pairs_of_text(old, new))
        if new is None or is_unbalanced(document, old, new):
            return Unplaced(BRACKETS)
    if _n_quotes(old) % 2 != _n_quotes(new) % 2:
        return Unplaced(BRACKETS)
    if (problem := _problem(document, region, names, new)) is not None:
        return Unplaced(problem)
    lines = _indented(document, old, new)
    if lines is None:
        return Unplaced(NO_DEPTH)
    at, above = with_imports(document, start, imports) if imports else (start, [])
    return Found(at, end, "exact", (*above, *with_own_lines(old, lines)))


def _stays_within(document: Sequence[str], region: tuple[int, int], found: Found) -> bool:
    """Whether new text of the whole document changes no line outside of the region, but for new imports."""
    changed = changed_blocks([*document[found.start : found.end]], [*found.new])
    return all(
        (region[0] <= found.start + start and found.start + end <= region[1])
        or (start == end and all(IMPORT.match(line) for line in found.new[first:last] if line.strip()))
        for start, end, first, last in changed
    )


class _Names(NamedTuple):
    """The definitions of a document as seen from a region."""

    inside: frozenset[str]
    """All in the region."""
    own: frozenset[str]
    """Those that the region begins with, or that are as deep."""
    beside: frozenset[str]
    """Those in the same block."""
    around: Mapping[int, str]
    """Those around, by line."""


def _names(document: Sequence[str], region: tuple[int, int]) -> _Names:
    start, end = region
    found = definitions(document)
    depth = least = columns(indent_of(document[start]))
    around: dict[int, str] = {}
    first = 0
    for n in range(start - 1, -1, -1):
        if document[n].strip() and columns(indent_of(document[n])) < least and not COMMENT.match(document[n]):
            least = columns(indent_of(document[n]))
            first = max(first, n)
            around |= {n: found[n][1]} if n in found else {}
    last = next((n for n in range(end, len(document)) if 0 <= _depth(document[n]) < depth), len(document))
    inside = frozenset(name for n, (_, name) in found.items() if start <= n < end)
    own = {name for n, (its, name) in found.items() if start <= n < end and its == depth}
    beside = {
        name
        for n, (its, name) in found.items()
        if first <= n < last and not start <= n < end and its == depth
    }
    return _Names(inside, frozenset(own), frozenset(beside - own), around)


def _depth(line: str) -> int:
    """How deep a line is; -1 for one that does not tell."""
    bare = line.strip()
    return columns(indent_of(line)) if bare and not COMMENT.match(bare) and not is_directive(bare) else -1


def _without_surroundings(
    document: Sequence[str], region: tuple[int, int], names: _Names, new: Sequence[str]
) -> Sequence[str] | None:
    """The text without the first lines of the definitions around it, and what it repeats between these and
    the region; None where that is not what the document has."""
    around = names.around
    first = next((n for n, line in enumerate(new) if _depth(line) >= 0), None)
    found = definitions(new)
    if first not in found or found[first][1] not in around.values():
        return new
    depth, name = found[first]
    header = max(n for n, one in around.items() if one == name)
    if new[first].strip() != document[header].strip():
        return None
    deeper = min((_depth(line) for line in new[first + 1 :] if _depth(line) > depth), default=depth)
    begins = next((n for n, (its, one) in found.items() if its == deeper and one in names.inside), None)
    if begins is None:
        begins = next((n for n in range(first + 1, len(new)) if new[n].strip()), len(new))
    while begins > first + 1 and (
        COMMENT.match(new[begins - 1].strip()) or new[begins - 1].strip()[:1] == "@"
    ):
        begins -= 1
    left = iter([line.strip() for line in document[header : region[0]]])
    if not all(line.strip() in left for line in new[first:begins] if line.strip()):
        return None
    rest = [*new[begins:]]
    if rest and text_span(rest)[1]:
        rest = rest[: text_span(rest)[1]]
        if rest[-1].strip() in ("}", "};", "end") and _depth(rest[-1]) == depth:
            rest = rest[:-1]
    return _without_surroundings(document, region, names, without_neighbours(document, region, rest))


def _without_repeated(
    document: Sequence[str], region: tuple[int, int], names: _Names, new: Sequence[str]
) -> Sequence[str]:
    """The text without what ends a block around it, and without statements before and behind a definition
    that the document has beside it."""
    while (code := [n for n, line in enumerate(new) if _depth(line) >= 0])[1:] and (
        new[code[-1]].strip() in _ENDS and _depth(new[code[-1]]) < min(_depth(new[n]) for n in code[:-1])
    ):
        new = new[: code[-1]]
    start, end = region
    if not names.own:
        return new
    depth = _depth(document[start])
    known = {line.strip() for line in (*document[:start], *document[end:]) if _depth(line) == depth}
    known -= {line.strip() for line in document[start:end]}
    least = min((_depth(new[n]) for n in code), default=0)
    left = [*code]
    while len(left) > 1 and _is_statement(new[left[0]], known) and _depth(new[left[1]]) == least:
        left.pop(0)
    while left and _is_statement(new[left[-1]], known) and _depth(new[left[-1]]) == least:
        left.pop()
    if left == code or not left:
        return new
    first = 0 if left[0] == code[0] else code[code.index(left[0]) - 1] + 1
    last = len(new) if left[-1] == code[-1] else code[code.index(left[-1]) + 1]
    rest = new[first:last]
    return rest[slice(*text_span(rest))]


def _is_statement(line: str, known: Collection[str]) -> bool:
    """Whether a line is one of these, and ends there."""
    bare = line.strip()
    is_one = bare[:1] not in "@[#" and (bool(assigned(line)) or bare.endswith((";", ")", '"', "'")))
    return is_one and bare in known and WORD.search(bare) is not None


def _problem(
    document: Sequence[str], region: tuple[int, int], names: _Names, new: Sequence[str]
) -> str | None:
    """Why a text cannot be the new one of a region; None where nothing speaks against it."""
    old = document[slice(*region)]
    code = [line for line in new if _depth(line) >= 0]
    if not code:
        # To delete all of it, or to make a comment of it, may be meant.
        bare = [line.strip() for line in old if _depth(line) >= 0]
        return _HALF if new and bare and not any(one in line for one in bare for line in new) else None
    least = min(map(_depth, code))
    outer = [line for line in code if _depth(line) == least]
    found = definitions(new)
    plain = [line for n, line in enumerate(new) if _depth(line) == least and n not in found]
    heads = [(n, name) for n, (depth, name) in found.items() if depth == least]
    defined = {name for _, name in heads}
    if defined & (names.beside | {*names.around.values()}) or _says_more(document, region, names, plain):
        return HAS_MORE
    if names.around and re.search(r"\bclass\b", document[max(names.around)]):
        keywords = [_FUNCTION.match(line.strip()) for lines in (outer, old) for line in lines]
        if any(keywords[: len(outer)]) and not any(keywords[len(outer) :]):
            return HAS_MORE
    seen: set[str] = set()
    for n, name in heads:
        bare = new[n].strip()
        is_plain = _PLAIN.match(bare) and (n == 0 or new[n - 1].strip()[:1] != "@")
        for key in (bare, name if is_plain else bare):
            if key in seen and sum(one.strip() == bare for one in new) > sum(
                one.strip() == bare for one in old
            ):
                return _TWICE
        seen |= {bare, name} if is_plain else {bare}
    text = "\n".join(code)
    gone = (one for one in names.own - defined if not any(one in assigned(line) for line in outer))
    if any(
        re.search(rf"(?<![\w.])(?:self\.|this\.)?{re.escape(one)}\s*\(", text) for one in gone if one
    ) and not any(line.rstrip().endswith("(") for line in outer):
        # What uses a definition does not take its place.
        return _HALF
    if names.own and not defined:
        words = re.compile("|".join(rf"\b{re.escape(re.split(r'[.:]+', one)[-1])}\b" for one in names.own))
        if not any(words.search(line) or line.rstrip().endswith("(") for line in outer):
            return _HALF
    if (lacking := _without_body(new)) is not None and _without_body(old) is None:
        return _HALF if lacking == len(code) - 1 else NO_DEPTH
    return None


def _without_body(lines: Sequence[str]) -> int | None:
    """Which line with code begins a block in Python that has no lines."""
    code = [line for line in lines if _depth(line) >= 0]
    below = [*map(_depth, code[1:]), -1]
    return next(
        (n for n, line in enumerate(code) if below[n] <= _depth(line) and _BLOCK.match(line.strip())), None
    )


def _says_more(document: Sequence[str], region: tuple[int, int], names: _Names, plain: Sequence[str]) -> bool:
    """Whether statements beside a definition assign what the document assigns there, or only use it."""
    start, end = region
    if not names.own:
        return False
    depth = _depth(document[start])
    there = [line for line in (*document[:start], *document[end:]) if _depth(line) == depth]
    bound = frozenset[str]().union(*map(assigned, there))
    known = {line.strip() for line in document[start:end]}
    more = [line.strip() for line in plain if line.strip() not in known]
    return any(bound & assigned(line) or _USE.match(line) for line in more if not IMPORT.match(line))


def _n_quotes(lines: Sequence[str]) -> int:
    return sum(len(_QUOTES.findall(line)) for line in lines)


def _indented(document: Sequence[str], old: Sequence[str], new: Sequence[str]) -> Sequence[str] | None:
    """The new lines as deep as the old ones; None where that is not clear."""
    if not any(line.strip() for line in new):
        return new
    borders, borders_new = (
        [one[0] if (one := _indents(lines)) else "", min(one, key=columns, default="")]
        for lines in (old, new)
    )
    if borders == borders_new:
        return new
    lines = at_depth(old, new, pairs_of_text(old, new), document)
    if lines is None:
        return None
    least = columns(borders[1])
    if any(0 <= _depth(line) < least for line in lines):
        return None
    if _indents(lines) != _indents(new) and definitions(old):
        # Statements beside a method that was written as deep as a function are of the file.
        found = definitions(lines)
        outer = [n for n, line in enumerate(lines) if _depth(line) == least]
        if not all(n in found or _BELONGS.match(lines[n].strip()) for n in outer):
            return None
    return lines


def _indents(lines: Sequence[str]) -> list[str]:
    return [indent_of(line) for line in lines if line.strip() and not is_directive(line)]
