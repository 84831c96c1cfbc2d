"""Edit blocks as local models misquote them: each block in one way.

A *habit* is done to every line, in the old lines and in the new ones alike, or in the old ones only. A *slip* is
one line or word. `KINDS` has them all by name. A function returns None where the change does not lend itself to
the misquote, or where it would leave undecidable what the user wants.
"""

import html
import random
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from changes import Change, comment_of, indent_of, is_code, unit_of


class Block(NamedTuple):
    """A change, as a model writes it."""

    change: Change
    search: list[str]
    replace: list[str]
    accepted: list[list[str]]
    """What may stand in place of the old lines: the first is what the user wants, others are as good."""
    eol: str = "\n"
    """The line end of the document."""
    reply_eol: str = "\n"
    ends: bool = True
    """Whether the last line of the document has a line end."""


Misquote = Callable[[Change, random.Random], Block | None]
Habit = Callable[[Change, random.Random], Callable[[int, str], str] | None]
"""Gives what is done to each line, told its number in the block."""


class Kind(NamedTuple):
    """A way to misquote."""

    name: str
    misquote: Misquote
    changes: tuple[str, ...] = ()
    """The kinds of change it suits; all if there are none."""


def _block(change: Change, search: list[str], replace: list[str], *others: list[str]) -> Block | None:
    """The block, if anything in it is misquoted."""
    if search == change.old and replace == change.new:
        return None
    return Block(change, search, replace, [change.new, *others])


def _each(lines: Sequence[str], done: Callable[[int, str], str]) -> list[str]:
    return [done(n, line) for n, line in enumerate(lines)]


def _habit(habit: Habit, in_new: bool) -> Misquote:
    def misquote(change: Change, chance: random.Random) -> Block | None:
        done = habit(change, chance)
        if done is None or (search := _each(change.old, done)) == change.old:
            return None
        return _block(change, search, _each(change.new, done) if in_new else change.new)

    return misquote


# Characters.


def _plain(change: Change) -> bool:
    """Whether the lines have nothing that could be taken for the work of a habit."""
    text = "\n".join((*change.old, *change.new))
    return text.isascii() and not re.search(r"&#?\w+;|\\[\"'_*]", text)


def _characters(*tables: dict[str, str]) -> Habit:
    """Each text of a table becomes the other, whichever table is chosen."""

    def habit(change: Change, chance: random.Random) -> Callable[[int, str], str] | None:
        table = chance.choice(tables)
        pattern = re.compile("|".join(map(re.escape, sorted(table, key=len, reverse=True))))
        return (lambda _, line: pattern.sub(lambda m: table[m.group()], line)) if _plain(change) else None

    return habit


def _smart_quotes(change: Change, chance: random.Random) -> Callable[[int, str], str] | None:
    low = chance.random() < 0.2

    def done(_: int, line: str) -> str:
        line = re.sub(r'"([^"]*)"', "„\\1“" if low else "“\\1”", line)
        return re.sub(r"'([^']*)'", r"‘\1’", line).replace("'", "’").replace('"', "”")

    return done if _plain(change) else None


def _entities(change: Change, chance: random.Random) -> Callable[[int, str], str] | None:
    quotes = chance.random() < 0.5
    return (lambda _, line: html.escape(line, quotes)) if _plain(change) else None


def _blanks(change: Change, chance: random.Random) -> Callable[[int, str], str] | None:
    """No-break spaces, in the indentation only or wherever a space is."""
    space, everywhere = chance.choice("\u00a0\u00a0\u202f\u3000"), chance.random() < 0.5

    def done(_: int, line: str) -> str:
        n = len(line) if everywhere else len(indent_of(line))
        return line[:n].replace(" ", space) + line[n:]

    return done if _plain(change) else None


def _rewritten(change: Change, done: Callable[[str], str], added: bool = True) -> Change:
    """The change in a document where it reads so. Added lines stay, unless wanted."""
    old = [done(line) for line in change.old]
    new = [
        done(line) if idx is not None or added else line
        for line, idx in zip(change.new, change.origin, strict=True)
    ]
    lines = [*change.document.lines[: change.at], *old, *change.document.lines[change.at + len(old) :]]
    return change._replace(document=change.document._replace(lines=lines), old=old, new=new)


def _normal_form(form: str) -> Misquote:
    """A document with accents, quoted in the other normal form."""

    def misquote(change: Change, _: random.Random) -> Block | None:
        def accented(line: str) -> str:
            comment = comment_of(line, change.document.language) or (
                "" if is_code(line, change.document.language) else line
            )
            return line.removesuffix(comment) + re.sub("[aeou]", lambda m: m.group() + "\u0308", comment)

        if not _plain(change):
            return None
        here = _rewritten(change, lambda line: unicodedata.normalize(form, accented(line)))
        other = "NFD" if form == "NFC" else "NFC"
        quoted = [unicodedata.normalize(other, line) for line in here.old]
        written = [unicodedata.normalize(other, line) for line in here.new]
        if quoted == here.old:
            return None
        # What a model writes anew may be composed, as nearly all text is, whatever the rest of the file is.
        as_written = [old if old in here.old else new for old, new in zip(here.new, written, strict=True)]
        return Block(here, quoted, written, [here.new, as_written] if other == "NFC" else [here.new])

    return misquote


def _typographic_document(change: Change, _: random.Random) -> Block | None:
    """The document has typographic punctuation, the model writes ASCII."""

    def done(line: str) -> str:
        comment = comment_of(line, change.document.language) or (
            "" if is_code(line, change.document.language) else line
        )
        typographic = re.sub(r"\.\.\.| - |(?<=\w)'(?=\w)|(?<=\d) (?=\w)", lambda m: shown[m.group()], comment)
        return line.removesuffix(comment) + re.sub(r'"([^"]+)"', r"“\1”", typographic)

    shown = {"...": "…", " - ": " – ", "'": "’", " ": "\u00a0"}
    here = _rewritten(change, done, added=False)
    if not _plain(change) or here.old == change.old:
        return None
    # In a line that the model changed, its own punctuation is no less right.
    as_written = [a if a in here.old else b for a, b in zip(here.new, change.new, strict=True)]
    return Block(here, change.old, change.new, [here.new, as_written])


def _trailing(change: Change, chance: random.Random) -> Callable[[int, str], str] | None:
    blanks = [chance.choice(["", "  ", " ", "\t"]) for _ in range(40)]
    return lambda n, line: line + blanks[n % 40]


def _trailing_in_document(change: Change, chance: random.Random) -> Block | None:
    blanks = {line: chance.choice(["", "  ", "\t"]) for line in change.old}
    if not any(blanks.values()):
        return None
    here = _rewritten(change, lambda line: line + blanks.get(line, ""), added=False)
    return Block(here, change.old, change.new, [here.new])


def _line_ends(eol: str, reply_eol: str) -> Misquote:
    return lambda change, _: Block(change, change.old, change.new, [change.new], eol, reply_eol)


def _no_last_line_end(change: Change, _: random.Random) -> Block:
    lines = change.document.lines[: change.at + len(change.old)]
    here = change._replace(document=change.document._replace(lines=lines))
    return Block(here, change.old, change.new, [change.new], ends=False)


# Indentation.


def _tabs(change: Change, chance: random.Random) -> Callable[[int, str], str] | None:
    unit = unit_of(change.document.lines)
    if unit == "\t" or "\t" in "".join(map(indent_of, change.old)):
        return None
    return lambda _, line: re.sub(f"^(?:{unit})+", lambda m: "\t" * (len(m.group()) // len(unit)), line)


def _spaces(change: Change, chance: random.Random) -> Callable[[int, str], str] | None:
    width = chance.choice([2, 4, 4, 8])
    return lambda _, line: indent_of(line).replace("\t", " " * width) + line.lstrip()


def _half(change: Change, _: random.Random) -> Callable[[int, str], str] | None:
    indents = [indent_of(line) for line in (*change.old, *change.new)]
    if any("\t" in indent or len(indent) % 2 for indent in indents):
        return None
    return lambda _, line: line[len(indent_of(line)) // 2 :] if line.strip() else line


def _double(change: Change, _: random.Random) -> Callable[[int, str], str] | None:
    return lambda _, line: indent_of(line) + line if line.strip() else line


def _stripped(change: Change, _: random.Random) -> Callable[[int, str], str] | None:
    return lambda _, line: line.lstrip()


def _all_stripped(change: Change, _: random.Random) -> Block | None:
    search, replace = [x.lstrip() for x in change.old], [x.lstrip() for x in change.new]
    is_known = change.kind != "all new" or len({indent_of(line) for line in change.new}) == 1
    if search == change.old or change.kind == "wrapped" or not is_known:
        return None
    # A line added between two depths may be as deep as either.
    other, indent = [*change.new], ""
    for n in reversed(range(len(other))):
        if change.origin[n] is None and n < len(other) - 1:
            other[n] = indent + other[n].lstrip()
        indent = indent_of(other[n])
    return _block(change, search, replace, other)


def _dedented(change: Change, _: random.Random) -> Callable[[int, str], str] | None:
    """What all lines have in common is left out."""
    common = min((indent_of(line) for line in (*change.old, *change.new) if line.strip()), key=len)
    return lambda _, line: line.removeprefix(common)


def _deeper(change: Change, chance: random.Random) -> Callable[[int, str], str] | None:
    more = chance.choice([" ", "  ", "    ", unit_of(change.document.lines)])
    return lambda _, line: more + line if line.strip() else line


def _first_bare(change: Change, _: random.Random) -> Callable[[int, str], str] | None:
    return lambda n, line: line.lstrip() if n == 0 else line


# What is put in front of lines, and around them.


def _numbers(change: Change, chance: random.Random) -> Callable[[int, str], str] | None:
    shape = chance.choice(
        ["{}| ", "{}|", "{}: ", "{}:", "{:>4}\t", "{} ", "{}. ", "{:>3} | ", "L{}: ", "{:>6}→", "[{}] "]
    )
    return lambda n, line: (shape.format(change.at + 1 + n) + line).rstrip()


def _quoted(change: Change, _: random.Random) -> Callable[[int, str], str] | None:
    return lambda _, line: f"> {line}".rstrip()


def _all_prefixed(change: Change, chance: random.Random) -> Block | None:
    blank = chance.choice(["", "", " "])
    return _block(change, [f"-{blank}{x}" for x in change.old], [f"+{blank}{x}" for x in change.new])


def _minus_only(change: Change, _: random.Random) -> Callable[[int, str], str] | None:
    return lambda _, line: f"-{line}"


def _like_a_diff(context: str, in_old: bool = True) -> Misquote:
    """`-` and `+` in front of what changes, and this in front of what stays."""

    def misquote(change: Change, _: random.Random) -> Block | None:
        kept = {idx for idx in range(len(change.old)) if change.stays(idx)}
        search = [(context if n in kept else "-") + line for n, line in enumerate(change.old)]
        replace = [
            (context if idx in kept else "+") + line
            for line, idx in zip(change.new, change.origin, strict=True)
        ]
        is_trivial = not kept or replace == [context + line for line in change.new]
        return None if is_trivial else _block(change, search if in_old else change.old, replace)

    return misquote


def _fences(in_old: bool, in_new: bool) -> Misquote:
    def misquote(change: Change, chance: random.Random) -> Block | None:
        name = chance.choice(["", "python", "code"])

        def fenced(lines: list[str], wanted: bool) -> list[str]:
            return [f"```{name}", *lines, "```"] if wanted else lines

        return _block(change, fenced(change.old, in_old), fenced(change.new, in_new))

    return misquote


def _blank_lines(before: int, after: int, in_new: bool) -> Misquote:
    def misquote(change: Change, chance: random.Random) -> Block | None:
        lines, end = change.document.lines, change.at + len(change.old)
        # Where the document has a blank line there, it is no misquote.
        if (before and change.at and not lines[change.at - 1].strip()) or (
            after and end < len(lines) and not lines[end].strip()
        ):
            return None
        blank = chance.choice(["", "", indent_of(change.old[0])])
        front, back = [blank] * before, [blank] * after
        search, replace = [*front, *change.old, *back], [*front, *change.new, *back]
        if not in_new:
            return _block(change, search, change.new)
        # Among lines that are all new, it may be meant.
        return _block(change, search, replace, *([replace] if change.kind == "all new" else []))

    return misquote


# Whole lines.


def _inner(change: Change, *, blank: bool = False, comment: bool = False) -> list[int]:
    """Old lines that stay and have others around them: those with code, blank ones, or those of a comment."""
    found: list[int] = []
    for idx in range(1, len(change.old) - 1):
        line = change.old[idx]
        is_comment = line.lstrip().startswith((change.document.language.comment, "/*", "* "))
        if (
            not line.strip() if blank else is_comment if comment else is_code(line, change.document.language)
        ) and (change.kind == "all new" or change.stays(idx)):
            found.append(idx)
    return found


def _left_out(in_new: bool, n: int = 1, *, blank: bool = False, comment: bool = False) -> Misquote:
    """Lines left out in the middle. `in_new`: the new lines, made from the quoted ones, lack them too."""

    def misquote(change: Change, chance: random.Random) -> Block | None:
        choices = _inner(change, blank=blank, comment=comment)
        if change.kind == "all new" or len(choices) < n:
            return None
        left = sorted(chance.sample(choices, n))
        search = [line for idx, line in enumerate(change.old) if idx not in left]
        if not in_new:
            return _block(change, search, change.new)
        replace = [line for line, idx in zip(change.new, change.origin, strict=True) if idx not in left]
        # Beside lines that are added at that place, nobody can know on which side of them it stands.
        others = [x for idx in left for x in _moved(change, change.new_idx(idx) or 0)] if n == 1 else []
        if n > 1 and None in change.origin:
            return None
        return _block(change, search, replace, *others)

    return misquote


def _moved(change: Change, at: int) -> Iterator[list[str]]:
    """The new lines with the one at this index on other sides of the added lines around it."""
    first = last = at
    while first and change.origin[first - 1] is None:
        first -= 1
    while last + 1 < len(change.new) and change.origin[last + 1] is None:
        last += 1
    rest = [*change.new[:at], *change.new[at + 1 :]]
    for place in range(first, last + 1):
        if place != at:
            yield [*rest[:place], change.new[at], *rest[place:]]


def _left_out_of_rewrite(blank: bool) -> Misquote:
    """A line left out of the old lines, and the new ones are all new."""

    def misquote(change: Change, chance: random.Random) -> Block | None:
        choices = _inner(change, blank=blank)
        if change.kind != "all new" or not choices:
            return None
        idx = chance.choice(choices)
        line, search = change.old[idx], [*change.old[:idx], *change.old[idx + 1 :]]
        # Nobody can know whether a line with code that was not quoted should go, so it stays. A blank one may go.
        kept = [[line, *change.new], [*change.new, line]]
        accepted = [*kept, change.new] if blank else kept
        return Block(change, search, change.new, accepted)

    return misquote


def _doubled(in_new: bool) -> Misquote:
    """A line twice."""

    def misquote(change: Change, chance: random.Random) -> Block | None:
        choices = [
            x
            for x in range(len(change.old))
            if change.stays(x) and is_code(change.old[x], change.document.language)
        ]
        if not choices:
            return None
        idx = chance.choice(choices)
        at = change.new_idx(idx) or 0
        line = change.old[idx]
        replace = [*change.new[:at], line, *change.new[at:]] if in_new else change.new
        return _block(change, [*change.old[:idx], line, *change.old[idx:]], replace)

    return misquote


def _swapped(in_new: bool) -> Misquote:
    """Two neighbouring lines in the other order."""

    def misquote(change: Change, chance: random.Random) -> Block | None:
        stays = [change.stays(idx) and bool(line.strip()) for idx, line in enumerate(change.old)]
        choices: list[int] = []
        for idx in range(len(change.old) - 1):
            at = change.new_idx(idx)
            if stays[idx] and stays[idx + 1] and at is not None and change.new_idx(idx + 1) == at + 1:
                # Not beside added lines: on which side they belong would depend on the order.
                beside = change.origin[max(at - 1, 0) : at + 3]
                if None not in beside and change.old[idx] != change.old[idx + 1]:
                    choices.append(idx)
        if not choices:
            return None
        idx = chance.choice(choices)
        at = change.new_idx(idx) or 0
        search, replace = [*change.old], [*change.new]
        search[idx : idx + 2] = reversed(search[idx : idx + 2])
        replace[at : at + 2] = reversed(replace[at : at + 2])
        return _block(change, search, replace if in_new else change.new)

    return misquote


def _extra(in_new: bool) -> Misquote:
    """A line of elsewhere among the old ones."""

    def misquote(change: Change, chance: random.Random) -> Block | None:
        lines, end = change.document.lines, change.at + len(change.old)
        # Of a line nearby the model might have meant that it goes.
        far = [line for n, line in enumerate(lines) if n < change.at - 6 or n >= end + 6]
        near = lines[max(change.at - 6, 0) : end + 6]
        far = [line for line in far if is_code(line, change.document.language) and line not in near]
        if not far:
            return None
        line, idx = chance.choice(far), chance.randrange(len(change.old))
        search = [*change.old[: idx + 1], line, *change.old[idx + 1 :]]
        if not in_new:
            return _block(change, search, change.new)
        at = change.new_idx(idx)
        if at is None or (at + 1 < len(change.new) and change.origin[at + 1] != idx + 1):
            return None
        return _block(change, search, [*change.new[: at + 1], line, *change.new[at + 1 :]])

    return misquote


def _reflowed(change: Change, chance: random.Random) -> Block | None:
    """A call over several lines is quoted on one, or the reverse."""
    lines = change.old
    for first in chance.sample(range(len(lines)), len(lines)):
        last, depth = first, _depth(lines[first])
        while depth > 0 and last + 1 < len(lines):
            last += 1
            depth += _depth(lines[last])
        at = change.new_idx(first)
        if (
            last == first
            or depth
            or at is None
            or any(comment_of(x, change.document.language) for x in lines[first:last])
        ):
            continue
        if change.origin[at : at + last + 1 - first] != [*range(first, last + 1)]:
            continue
        written = [
            *change.new[:at],
            _joined(change.new[at : at + last + 1 - first]),
            *change.new[at + last + 1 - first :],
        ]
        is_changed = change.new[at : at + last + 1 - first] != lines[first : last + 1]
        # Where the call itself changes, either layout will do.
        return _block(
            change,
            [*lines[:first], _joined(lines[first : last + 1]), *lines[last + 1 :]],
            written,
            *[written] * is_changed,
        )
    return None


def _depth(line: str) -> int:
    return sum(line.count(x) for x in "([{") - sum(line.count(x) for x in ")]}")


def _joined(lines: Sequence[str]) -> str:
    text = lines[0].rstrip()
    for line in lines[1:]:
        tight = text.endswith(("(", "[", "{")) or line.strip().startswith((")", "]", "}"))
        text = (
            text.removesuffix("," if tight and line.strip()[:1] in ")]}" else "\0")
            + ("" if tight else " ")
            + line.strip()
        )
    return text


_ELISIONS = (
    *("{} ... existing code ...", "{} ...", "...", "{} ... rest of the code ...", "{} (unchanged)", "{} …"),
    *("{} existing code", "{} rest of the code remains unchanged", "{} ... (omitted for brevity) ..."),
)


def _elided(in_old: bool, in_new: bool) -> Misquote:
    """Two or more lines that stay are replaced by a comment that says so."""

    def misquote(change: Change, chance: random.Random) -> Block | None:
        runs: list[tuple[int, int]] = []
        for first in range(len(change.old)):
            last, at = first, change.new_idx(first)
            while (
                at is not None
                and last < len(change.old)
                and change.stays(last)
                and change.new_idx(last) == at + last - first
            ):
                last += 1
                if last - first > 1 and last - first < len(change.old):
                    runs.append((first, last))
        if not runs:
            return None
        first, last = chance.choice(runs)
        at = change.new_idx(first) or 0
        mark = indent_of(change.old[first]) + chance.choice(_ELISIONS).format(
            change.document.language.comment
        )
        search = [*change.old[:first], mark, *change.old[last:]] if in_old else change.old
        replace = [*change.new[:at], mark, *change.new[at + last - first :]] if in_new else change.new
        return _block(change, search, replace)

    return misquote


# Comments at the end of lines.


def _comment_left_out(where: str, in_new: bool, part: bool = False) -> Misquote:
    """`where`: on a line that is changed, kept or deleted. `part`: only its last words are left out."""

    def misquote(change: Change, chance: random.Random) -> Block | None:
        choices: list[tuple[int, str]] = []
        for idx, line in enumerate(change.old):
            comment, at = comment_of(line, change.document.language), change.new_idx(idx)
            if part and not comment.endswith("/"):
                comment = "".join(re.findall(r"(?<=\w\w\w)[ ,]+\S+ ?\S*$", comment))
            state = "deleted" if at is None else "kept" if change.stays(idx) else "changed"
            if comment and state == where and (at is None or change.new[at].endswith(comment)):
                choices.append((idx, comment))
        if not choices:
            return None
        idx, comment = chance.choice(choices)
        search, replace, at = [*change.old], [*change.new], change.new_idx(idx)
        search[idx] = search[idx].removesuffix(comment)
        if in_new and at is not None:
            replace[at] = replace[at].removesuffix(comment)
        return _block(change, search, replace)

    return misquote


# Words.

Span = tuple[int, int, str]
_WORDS = re.compile(r"[A-Za-z_]\w{2,}")


def _word(line: str, change: Change, chance: random.Random) -> Iterator[Span]:
    others = _WORDS.findall("\n".join(change.document.lines))
    for found in _WORDS.finditer(line):
        yield (
            *found.span(),
            chance.choice([found.group() + "s", "new_" + found.group(), *chance.sample(others, 2)]),
        )


def _digit(line: str, change: Change, chance: random.Random) -> Iterator[Span]:
    for found in re.finditer(r"\d", line):
        yield *found.span(), chance.choice(["", str((int(found.group()) + chance.randint(1, 9)) % 10)])


def _leading(line: str, change: Change, chance: random.Random) -> Iterator[Span]:
    pattern = (
        r"(?<![\w.])(?:self\.|this\.|await |async |const |let |local |my |static |extern |export |unsigned )"
    )
    for found in re.finditer(pattern, line):
        yield *found.span(), ""


def _ending(line: str, change: Change, chance: random.Random) -> Iterator[Span]:
    if line.endswith((",", ";", ":")):
        yield len(line) - 1, len(line), ""


def _case(line: str, change: Change, chance: random.Random) -> Iterator[Span]:
    for found in _WORDS.finditer(line):
        word = found.group()
        yield *found.span(), chance.choice([word[0].swapcase() + word[1:], word.lower(), word.upper()])


def _typo(line: str, change: Change, chance: random.Random) -> Iterator[Span]:
    for found in _WORDS.finditer(line):
        at = found.start() + chance.randrange(len(found.group()) - 1)
        yield at, at + 2, chance.choice([line[at + 1] + line[at], line[at], line[at] + line[at : at + 2]])


SLIPS = {
    "a word": _word,
    "a digit": _digit,
    "a leading `self.`, `const `, …": _leading,
    "a `,` or `;` at the end": _ending,
    "letter case": _case,
    "a typing error": _typo,
}


def _slip(names: Sequence[str], where: str, in_new: bool) -> Misquote:
    """A word is not as it is in the document, in a line that is kept or changed; not where it is changed."""

    def misquote(change: Change, chance: random.Random) -> Block | None:
        idx, slip = chance.randrange(len(change.old)), SLIPS[chance.choice(names)]
        line, at = change.old[idx], change.new_idx(idx)
        if at is None or change.stays(idx) != (where == "kept"):
            return None
        new = change.new[at]
        n_front = n_back = 0
        while n_front < min(len(line), len(new)) and line[n_front] == new[n_front]:
            n_front += 1
        while n_back < min(len(line), len(new)) - n_front and line[-1 - n_back] == new[-1 - n_back]:
            n_back += 1
        # A word that only begins or ends as the changed one does is part of what is changed.
        while line != new and n_front and re.match(r"[\w.]", line[n_front - 1]):
            n_front -= 1
        while line != new and n_back and re.match(r"[\w.]", line[-n_back]):
            n_back -= 1
        spans = [
            span
            for span in slip(line, change, chance)
            if (span[1] <= n_front or span[0] >= len(line) - n_back) and line[span[0] : span[1]] != span[2]
        ]
        if not spans:
            return None
        start, end, text = chance.choice(spans)
        shift = 0 if end <= n_front else len(new) - len(line)
        search, replace = [*change.old], [*change.new]
        search[idx] = line[:start] + text + line[end:]
        replace[at] = new[: start + shift] + text + new[end + shift :]
        return _block(change, search, replace if in_new else change.new)

    return misquote


def _kinds() -> Iterator[Kind]:
    for name, before, after in (("after", 0, 1), ("before", 1, 0), ("before and after", 1, 1)):
        yield Kind(f"blank line {name} the old lines", _blank_lines(before, after, in_new=False))
        yield Kind(f"blank line {name}, in old and new", _blank_lines(before, after, in_new=True))
    yield Kind("two blank lines after the old lines", _blank_lines(0, 2, in_new=False))

    commented, gone = ("a line with a comment",), ("a line deleted", "all new")
    kept = ("a line", "a name everywhere", "lines added", "a line deleted")
    yield Kind(
        "end-of-line comment left out, line changed", _comment_left_out("changed", in_new=True), commented
    )
    yield Kind("… in the old lines only", _comment_left_out("changed", in_new=False), commented)
    yield Kind("… the comment's last words only", _comment_left_out("changed", True, part=True), commented)
    yield Kind("end-of-line comment left out, line kept", _comment_left_out("kept", in_new=True), kept)
    yield Kind("… in the old lines only, line kept", _comment_left_out("kept", in_new=False), kept)
    yield Kind("end-of-line comment left out, line deleted", _comment_left_out("deleted", in_new=False), gone)

    full_width = dict(zip("(),:;!?=", "（），：；！？＝", strict=True))
    habits: dict[str, Habit] = {
        "smart quotes": _smart_quotes,
        "HTML entities": _entities,
        "typographic dashes, ellipsis": _characters(
            {"--": "—", " - ": " – ", "...": "…"}, {"-": "‑", "...": "…"}
        ),
        "full-width punctuation": _characters(full_width, {"(": "（", ")": "）", ", ": "，"}),
        "no-break spaces": _blanks,
        "JSON escapes": _characters({'"': '\\"', "\\": "\\\\"}),
        "Markdown escapes": _characters({"_": "\\_", "*": "\\*"}),
        "white space at line ends": _trailing,
        "tabs for spaces": _tabs,
        "spaces for tabs": _spaces,
        "half the indentation": _half,
        "double indentation": _double,
        "common indentation left out": _dedented,
        "more indentation": _deeper,
        "first line not indented": _first_bare,
        "line numbers": _numbers,
        "`> ` in front": _quoted,
    }
    for name, habit in habits.items():
        yield Kind(name, _habit(habit, in_new=True))
        yield Kind(f"{name}, old lines only", _habit(habit, in_new=False))
    yield Kind("indentation left out", _all_stripped)
    yield Kind("indentation left out, old lines only", _habit(_stripped, in_new=False))
    yield Kind("NFD for NFC", _normal_form("NFC"))
    yield Kind("NFC for NFD", _normal_form("NFD"))
    yield Kind("ASCII for the document's typography", _typographic_document)
    yield Kind("white space at line ends of the document", _trailing_in_document)
    yield Kind("CRLF in the document only", _line_ends("\r\n", "\n"))
    yield Kind("CRLF in the reply only", _line_ends("\n", "\r\n"))
    yield Kind("no line end at the document's end", _no_last_line_end)

    yield Kind("`-` and `+` before all lines", _all_prefixed)
    yield Kind("`-` before the old lines only", _habit(_minus_only, in_new=False))
    yield Kind("`-`, `+` and spaces, as in a diff", _like_a_diff(" "))
    yield Kind("`-` and `+` before changed lines", _like_a_diff(""))
    yield Kind("`+` before new lines only", _like_a_diff("", in_old=False))
    yield Kind("fences around old and new lines", _fences(True, True))
    yield Kind("fence around the old lines", _fences(True, False))
    yield Kind("fence around the new lines", _fences(False, True))

    yield Kind("line left out of old and new", _left_out(in_new=True))
    yield Kind("line left out of the old lines", _left_out(in_new=False))
    yield Kind("two lines left out of old and new", _left_out(in_new=True, n=2))
    yield Kind("comment line left out of old and new", _left_out(in_new=True, comment=True))
    yield Kind("blank line left out of old and new", _left_out(in_new=True, blank=True))
    yield Kind("blank line left out of the old lines", _left_out(in_new=False, blank=True))
    yield Kind("line left out, all lines new", _left_out_of_rewrite(blank=False), ("all new",))
    yield Kind("blank line left out, all lines new", _left_out_of_rewrite(blank=True), ("all new",))
    for name, lines in (
        ("line twice", _doubled),
        ("two lines swapped", _swapped),
        ("line of elsewhere", _extra),
    ):
        yield Kind(f"{name}, in old and new", lines(True))
        yield Kind(f"{name}, old lines only", lines(False))
    yield Kind("call joined to one line", _reflowed)
    yield Kind("`... existing code ...` in new", _elided(False, True))
    yield Kind("`... existing code ...` in old", _elided(True, False))
    yield Kind("`... existing code ...` in both", _elided(True, True))

    changed = ("a line", "two lines", "a name everywhere", "a line with a comment")
    for name in SLIPS:
        yield Kind(f"{name}, line kept", _slip([name], "kept", in_new=True))
        yield Kind(f"{name}, line changed", _slip([name], "changed", in_new=True), changed)
    yield Kind("any of these in the old lines only, line kept", _slip([*SLIPS], "kept", in_new=False))
    yield Kind("any of these in the old lines only, line changed", _slip([*SLIPS], "changed", False), changed)


KINDS = {kind.name: kind for kind in _kinds()}
