"""Habits of models in rewrites: diff signs, line numbers, different spellings of characters.

A rewrite is new text for a whole file or selection, instead of blocks. `as_diff` reads one whose lines have
diff signs (`+`, `-`); `in_document_spelling` removes the other habits.
"""

import re
from collections.abc import Collection, Sequence
from typing import NamedTuple

from singlepass.core.replies.characters import canonical, respelling
from singlepass.core.replies.definitions import WORD
from singlepass.core.replies.habits import quotations, text_span
from singlepass.core.replies.levels import columns, indent_of

_NUMBER = re.compile(r"\s*(?:line\s+)?L?\d+\s*[|│┃→:.)\]]?\s*", re.IGNORECASE)
_BLANKS = re.compile(r"[ \t]+")
_INSTEAD = {
    "<": re.compile(r"&lt;"),
    ">": re.compile(r"&gt;"),
    '"': re.compile(r"&quot;|&#34;|[“”„]"),
    "'": re.compile(r"&#x27;|&#39;|&apos;|[‘’‚]"),
    "& ": re.compile(r"&amp; "),
}
"""What models write instead of a character of code."""


class Diff(NamedTuple):
    """A rewrite whose lines are marked as old or new."""

    old: list[str]
    """The lines without those marked as new; signs are kept."""
    new: list[str]
    """The lines without those marked as old; signs are kept."""
    is_clear: bool
    """Whether every line is either marked or a line of the document."""
    unsigned: list[str] | None = None
    """The new text without signs, if no line is marked as old; then it is unknown what the text replaces."""


def as_diff(written: Sequence[str], document: Sequence[str]) -> Diff | None:
    """The rewrite read as a diff; None if it has no diff signs."""
    least = min((indent_of(line) for line in written if line.strip()), key=columns, default="")
    lines = [line.removeprefix(least) for line in written]
    known = {line.strip() for line in document}
    has_pluses = any((line.strip() if least else line).startswith("+") for line in document)
    unknown = [line for line in lines if line.strip() and line.strip() not in known]
    added = {line for line in unknown if line.startswith("+") and not has_pluses}
    removed = {line for line in unknown if line.startswith("-") and (added or line[1:].strip() in known)}
    if not added and not removed:
        return None
    # Lines with `-` alone may be a list.
    is_clear = bool(added) and len(added) + len(removed) == len({*unknown})
    return Diff(
        [line for line in lines if line not in added],
        [line for line in lines if line not in removed],
        is_clear,
        None if removed else _unsigned(lines, added, document),
    )


def _unsigned(lines: Sequence[str], added: Collection[str], document: Sequence[str]) -> list[str]:
    kept = [line for line in lines if line.strip() and line not in added]
    there = {*document}
    has_column = all(line[0] == " " for line in kept) and not any(line in there for line in kept)
    return [line[1:] if has_column or line in added else line for line in lines]


def in_document_spelling(written: Sequence[str], document: Sequence[str]) -> list[str] | None:
    """The rewrite without line numbers, quote marks and the like, and with the document's spelling; None if
    it is not clear what belongs to the text."""
    known = {line.strip() for line in document} - {""}

    def n_known(lines: Sequence[str]) -> int:
        return sum(line.strip() in known for line in lines)

    first, end = text_span(written)
    written = written[first:end]
    readings = [one.new for one in quotations(written, written, document) if not one.is_exact]
    lines = max(readings, key=n_known, default=())
    if lines != tuple(written) and {line.strip() for line in lines} <= known | {""}:
        # The only thing that is new is what would be removed, so it may be the requested change.
        return None
    if sum(_is_numbered(line, known) for line in lines) > 1:
        return None
    return _respelled(_in_ascii(lines, document), document, known)


def _in_ascii(lines: Sequence[str], document: Sequence[str]) -> Sequence[str]:
    """The lines with entities and typographic quotation marks replaced by plain characters. Each is replaced
    only if the lines have no such plain character and the document has none of its substitutes."""
    text, there = "\n".join(lines), "\n".join(document)
    for plain, written in _INSTEAD.items():
        if plain not in text and written.search(text) and not written.search(there):
            text = written.sub(plain, text)
    return text.split("\n")


def _is_numbered(line: str, known: Collection[str]) -> bool:
    """Whether the line is a line of the document with a number in front."""
    number = _NUMBER.match(line) if line.strip() not in known else None
    rest = line[number.end() :].strip() if number else ""
    return rest in known and WORD.search(rest) is not None


def _respelled(lines: Sequence[str], document: Sequence[str], known: Collection[str]) -> list[str]:
    """Lines that are the document's in another spelling become those of the document; the same substitutions
    are undone in the other lines."""
    by_form: dict[str, set[str]] = {}
    for line in known:
        by_form.setdefault(canonical(line), set()).add(line)
    theirs: dict[int, str] = {}
    for n, line in enumerate(lines):
        forms = [*by_form.get(canonical(line), ())] if line.strip() not in known else []
        if len(forms) == 1 and _is_spelling(line.strip(), forms[0]):
            theirs[n] = indent_of(line) + forms[0]
    respelled = respelling((lines[n], line) for n, line in theirs.items())
    return [
        theirs[n] if n in theirs else line if line.strip() in known else respelled(line)
        for n, line in enumerate(lines)
    ]


def _is_spelling(one: str, other: str) -> bool:
    """Whether two lines with the same canonical form differ in spelling: in more than white space and ASCII
    dashes."""
    is_plain = one.isascii() and other.isascii() and "&" not in one + other
    return not is_plain and _BLANKS.sub("", one) != _BLANKS.sub("", other)
