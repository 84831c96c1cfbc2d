"""What models add to quoted lines and to new lines: blank lines, fences, line numbers, diff signs.

`quotations` removes these habits one after another and yields each version. The matcher decides which version
is right: it accepts only old lines that occur in exactly one place of the document. Diff signs are removed
first if they would otherwise be written into a file that has no line with such a sign.
"""

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Literal, NamedTuple

from singlepass.core.replies.characters import canonical
from singlepass.core.replies.pairing import MIN_ALIKE, similarity
from singlepass.core.replies.sections import is_fence


class Quotation(NamedTuple):
    """The old and the new lines of a block."""

    old: tuple[str, ...]
    new: tuple[str, ...]
    is_exact: bool = False
    """Whether the old lines must occur in the document exactly, apart from trailing white space."""
    is_doubtful: bool = False
    """Whether a `+` before new lines may be either a diff sign or a part of them."""


Habit = Callable[[Quotation], Quotation | None]
"""A function that removes a habit from a block, and returns None if the block does not have it."""

_NUMBERED = (
    re.compile(r"\s*(?:line\s+)?\d+\s*[|│┃→]", re.IGNORECASE),
    re.compile(r"\s*\[\d+\]:?"),
    re.compile(r"\s*L?\d+\s*:"),
    re.compile(r"\s*\d+\t"),
    re.compile(r"\s*\d+[.)](?=\s|$)"),
    re.compile(r"\s*\d+ -(?=\s|$)"),
    re.compile(r"\s*\d+(?=\s|$)"),
)
"""Formats of line numbers before a line."""

_BEFORE_INDENTATION = re.compile(r"\+(?:\t| {2})\s*\S")
_PHONE = re.compile(r"\+(?=(?:\D*\d){6})\d[\d ()/.-]*")
_BULLETS = ("- ", "* ")
_MOST_COMPARED = 9
"""Number of old and of new lines, from the first, that are compared to find a similar pair."""

Signs = Literal["none", "diff", "unclear"]
"""What a `+` before new lines is: a part of them, a diff sign, or undecidable."""

_ESCAPED = re.compile(r"\\([_*`~\[\](){}<>#+.!|\"'-])")


def quotations(old: Sequence[str], new: Sequence[str], document: Sequence[str]) -> Iterator[Quotation]:
    """The block as written, then without one habit after another, as long as old lines remain."""
    written = Quotation(tuple(old), tuple(new))
    for one in _without_habits(written, document):
        if one == written or any(line.strip() for line in one.old):
            yield one


def _without_habits(written: Quotation, document: Sequence[str]) -> Iterator[Quotation]:
    may_be_signed = not any(line.startswith("+") for line in document)
    stands = {line.rstrip() for line in document} if may_be_signed else set[str]()
    signs: Signs = "none"
    for around in (written, *_in_turn(written, _AROUND)):
        written = around
        signs = _signs(written, stands) if may_be_signed else "none"
        if signs != "diff":
            yield written._replace(is_doubtful=signs == "unclear")
    if signs == "unclear":
        return
    yield from _unsigned(written, is_diff=signs == "diff" or (not may_be_signed and _is_signed(written)))
    if signs == "diff":
        return
    known = {canonical(line) for line in document}
    escapes: Habit = lambda written: _escapes(written, known)  # noqa: E731
    yield from _in_turn(written, (_numbers, _quoted, _border_blanks, escapes))


def _in_turn(written: Quotation, habits: Iterable[Habit]) -> Iterator[Quotation]:
    """The block without one more of these habits each time; habits that it does not have are skipped."""
    for take_off in habits:
        changed = take_off(written)
        if changed is not None and changed != written and changed.old:
            written = changed
            yield written


def _is_signed(written: Quotation) -> bool:
    """Whether each added line begins with a diff sign, and at least one with `+`."""
    added = _added(written)
    return any(line[0] == "+" for line in added) and all(line[0] in "+-" for line in added)


def _added(written: Quotation) -> list[str]:
    old = {*written.old}
    return [line for line in written.new if line.strip() and line not in old]


def _signs(written: Quotation, stands: Collection[str]) -> Signs:
    """What signs before the new lines are, for a document without a line that begins with `+`.

    `stands` are the document's lines. A sign may be a part of its line, as in `++n;` and `+49 30 901820`.
    """
    if not _is_signed(written):
        return "none"
    old = [line for line in written.old if line.strip()]
    bare_old, bare_stands = ({line.strip() for line in lines} for lines in (old, stands))
    added = _added(written)
    plus = [line for line in added if line[0] == "+"]
    context = [line for line in old if line[0] not in "-+"]
    has_column = bool(context) and all(line[0] == " " for line in context)
    if (
        any(
            line[0] in "-+" and line.rstrip() not in stands and line[1:].strip() in bare_stands
            for line in old
        )
        or any(line[0] == "-" and line[1:].strip() in bare_old for line in added)
        or any(has_column and line.rstrip() not in stands and line[1:].rstrip() in stands for line in context)
        or any(_BEFORE_INDENTATION.match(line) for line in plus)
    ):
        return "diff"
    bare = [line[1:].strip() for line in plus]
    was_bullet = any(bullet + line in bare_old for line in bare for bullet in _BULLETS)
    if was_bullet or all(line.startswith("++") or _PHONE.fullmatch(line.strip()) for line in plus):
        return "none"
    changes = any(
        similarity(line, one) >= MIN_ALIKE and line != one.strip()
        for line in bare[:_MOST_COMPARED]
        for one in old[:_MOST_COMPARED]
    )
    if all(line[1:2].isdigit() for line in plus):
        return "unclear" if changes else "none"
    if any(line in bare_old for line in bare):
        return "unclear"
    are_several = len(plus) > 1 and not all(line[1:2] == " " for line in plus)
    return "diff" if changes or are_several else "unclear"


def _unsigned(written: Quotation, is_diff: bool) -> Iterator[Quotation]:
    """The block without diff signs (`-` before old lines, `+` before new ones). The signs may be directly
    before the line, in a column of their own (a space before unchanged lines), or followed by a space."""
    old, new = ([line for line in lines if line.strip()] for lines in written[:2])
    if not is_diff and not any(line[0] in "-+" for line in old):
        return
    quoted = {*written.old}
    removed = {line[1:].strip() for line in old if line[0] == "-"} | {line.strip() for line in old}
    kept = [
        line
        for line in written.new
        if line in quoted or not (is_diff and line.startswith("-") and line[1:].strip() in removed)
    ]
    sign_old = "+" if all(line[0] == "+" for line in (*old, *new)) else "-"

    def without(lines: Sequence[str], sign: str, n: int) -> tuple[str, ...]:
        return tuple(line[n:] if line.startswith(sign) else line for line in lines)

    if is_diff:
        yield Quotation(written.old, without(kept, "+", 1), True)
    yield Quotation(without(written.old, sign_old, 1), without(kept, "+", 1), True)
    if all(line[0] in "- " for line in old) and all(line[0] in "+ " for line in kept if line.strip()):
        yield Quotation(tuple(line[1:] for line in written.old), tuple(line[1:] for line in kept), True)
    if any(line.startswith(sign_old + " ") for line in old):
        yield Quotation(without(written.old, sign_old + " ", 2), without(kept, "+ ", 2), True)


def _fences(written: Quotation) -> Quotation | None:
    """Removes fences around the old lines, and around the new lines if there are any."""
    old = _fenced(written.old)
    return None if old is None else Quotation(old, _fenced(written.new) or written.new)


def _fenced(lines: tuple[str, ...]) -> tuple[str, ...] | None:
    first, last = text_span(lines)
    if last - first < 2 or not (is_fence(lines[first]) and is_fence(lines[last - 1])):
        return None
    return lines[first + 1 : last - 1]


def text_span(lines: Sequence[str], within: tuple[int, int] | None = None) -> tuple[int, int]:
    """The range of all lines, or of those `within` a range, without blank lines at its borders. Ends are
    exclusive."""
    start, end = within or (0, len(lines))
    start, end = max(0, start), min(end, len(lines))
    text = [n for n in range(start, end) if lines[n].strip()]
    return (text[0], text[-1] + 1) if text else (start, start)


def _border_blanks(written: Quotation) -> Quotation | None:
    """Removes blank lines before and after the old lines, and as many before and after the new ones."""
    old, new = written.old, written.new
    first, last = text_span(old)
    if last == 0:
        return None
    first_new, last_new = text_span(new)
    n_front, n_back = min(first, first_new), min(len(old) - last, len(new) - last_new)
    if last_new == 0:
        return Quotation(old[first:last], ())
    return Quotation(old[first:last], new[n_front : len(new) - n_back])


def _numbers(written: Quotation) -> Quotation | None:
    """Removes line numbers, if each old line has one."""
    for number in _NUMBERED:
        if all(number.match(line) for line in written.old if line.strip()):
            return _without(written, number)
    return None


def _quoted(written: Quotation) -> Quotation | None:
    """Removes `>`, the mark of quoted e-mail, if each old line has it."""
    if all(line.startswith(">") for line in written.old if line.strip()):
        return _without(written, re.compile(">"))
    return None


def _without(written: Quotation, before: re.Pattern[str]) -> Quotation:
    """The block without the prefix that the pattern matches, and without the space after it if every old line
    has one."""
    bare = [line[found.end() :] if (found := before.match(line)) else line for line in written.old]
    has_space = all(line.startswith(" ") for line in bare if line.strip())
    old = tuple(line.removeprefix(" ") if has_space else line for line in bare)
    new: list[str] = []
    for line in written.new:
        found = before.match(line)
        rest = line[found.end() :] if found else line
        new.append(rest.removeprefix(" ") if found and has_space else rest)
    return Quotation(old, tuple(new))


def _escapes(written: Quotation, known: Collection[str]) -> Quotation | None:
    """Removes backslashes as Markdown and JSON require them before some characters. Only characters are
    unescaped that have a backslash in an old line which the document has without it."""
    found: set[str] = set()
    old: list[str] = []
    for line in written.old:
        plain = _ESCAPED.sub(r"\1", line)
        is_habit = plain != line and canonical(line) not in known and canonical(plain) in known
        if is_habit:
            found.update(_ESCAPED.findall(line))
        old.append(plain if is_habit else line)
    if not found:
        return None
    if found & {"_", "*"}:
        found |= {"_", "*"}  # as Markdown needs it for emphasis
    # Lines of the document, and those quoted without the habit, are left unchanged.
    right = {*known, *map(canonical, old)}
    new = (
        line if canonical(line) in right else _ESCAPED.sub(lambda one: one[one[1] in found], line)
        for line in written.new
    )
    return Quotation(tuple(old), tuple(new))


_AROUND = (_border_blanks, _fences, _border_blanks)
