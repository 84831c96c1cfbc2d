"""What a model puts into a text that it writes anew beside what it says: the signs of a diff,
line numbers, other spellings.

`as_diff` reads a text with the signs of a diff; `in_document_spelling` takes the other habits off.
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
"""What models write instead of characters of code."""


class Diff(NamedTuple):
    """A text in which lines are marked as old or new."""

    old: list[str]
    """Its lines but the new ones, as they were written."""
    new: list[str]
    is_clear: bool
    """Whether every line is marked, or is one of the document's."""
    unsigned: list[str] | None = None
    """The new text itself, where no line is marked as old, so that what the text replaces is not known."""


def as_diff(written: Sequence[str], document: Sequence[str]) -> Diff | None:
    """The text with the signs of a diff; None where it has none."""
    least = min((indent_of(line) for line in written if line.strip()), key=columns, default="")
    lines = [line.removeprefix(least) for line in written]
    known = {line.strip() for line in document}
    has_pluses = any((line.strip() if least else line).startswith("+") for line in document)
    unknown = [line for line in lines if line.strip() and line.strip() not in known]
    added = {line for line in unknown if line.startswith("+") and not has_pluses}
    removed = {line for line in unknown if line.startswith("-") and (added or line[1:].strip() in known)}
    if not added and not removed:
        return None
    # Without added lines they may be a list.
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
    """The text without its model's habits, and spelled as the document is; None where it is not clear what
    they are."""
    known = {line.strip() for line in document} - {""}

    def n_known(lines: Sequence[str]) -> int:
        return sum(line.strip() in known for line in lines)

    first, end = text_span(written)
    written = written[first:end]
    readings = [one.new for one in quotations(written, written, document) if not one.is_exact]
    lines = max(readings, key=n_known, default=())
    if lines != tuple(written) and {line.strip() for line in lines} <= known | {""}:
        # Nothing is new but what would be taken off.
        return None
    if sum(_is_numbered(line, known) for line in lines) > 1:
        return None
    return _respelled(_in_ascii(lines, document), document, known)


def _in_ascii(lines: Sequence[str], document: Sequence[str]) -> Sequence[str]:
    """The text without entities and typographic quotation marks, if it has these and nowhere what they stand
    for, and the document has none."""
    text, there = "\n".join(lines), "\n".join(document)
    for plain, written in _INSTEAD.items():
        if plain not in text and written.search(text) and not written.search(there):
            text = written.sub(plain, text)
    return text.split("\n")


def _is_numbered(line: str, known: Collection[str]) -> bool:
    """Whether a number stands before a line of the document."""
    number = _NUMBER.match(line) if line.strip() not in known else None
    rest = line[number.end() :].strip() if number else ""
    return rest in known and WORD.search(rest) is not None


def _respelled(lines: Sequence[str], document: Sequence[str], known: Collection[str]) -> list[str]:
    """The document's lines where the text has them in another spelling, and its other lines spelled alike."""
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
    """Whether two lines of one form differ in more than the white space and the dashes that ASCII has."""
    is_plain = one.isascii() and other.isascii() and "&" not in one + other
    return not is_plain and _BLANKS.sub("", one) != _BLANKS.sub("", other)
