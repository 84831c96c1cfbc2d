"""Edit blocks as local models misquote them by habit: the same is done to every line, or around all of them.

To the old lines and the new ones alike, or to the old ones only. A function returns None where the change
does not lend itself to the misquote, or where it would leave undecidable what the user wants.
"""

import html
import itertools
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


def block_of(change: Change, search: list[str], replace: list[str], *others: list[str]) -> Block | None:
    """The block, if anything in it is misquoted."""
    if search == change.old and replace == change.new:
        return None
    return Block(change, search, replace, [change.new, *others])


def _each(lines: Sequence[str], done: Callable[[int, str], str]) -> list[str]:
    return [done(n, line) for n, line in enumerate(lines)]


def _habit(habit: Habit, in_new: bool, added: bool = False) -> Misquote:
    """`added`: added lines are as good as they were written, because nothing says how they should be."""

    def misquote(change: Change, chance: random.Random) -> Block | None:
        done = habit(change, chance)
        if done is None or (search := _each(change.old, done)) == change.old:
            return None
        replace = _each(change.new, done) if in_new else change.new
        if change.kind == "all new" and not _is_known(change, search, replace, in_new):
            return None
        if not added:
            return block_of(change, search, replace)
        trios = zip(change.new, replace, change.origin, strict=True)
        as_written = [x if idx is None else line for line, x, idx in trios]
        return block_of(change, search, replace, *_either(change.new, as_written))

    return misquote


def _is_known(change: Change, search: list[str], replace: list[str], in_new: bool) -> bool:
    """Whether the depth of lines that are all new can be told: as in the document, or as it was quoted."""
    real, quoted = ({indent_of(line) for line in lines if line.strip()} for lines in (change.old, search))
    return real == quoted or indent_of(replace[0]) not in (real if in_new else quoted)


def _either(lines: Sequence[str], others: Sequence[str]) -> Iterator[list[str]]:
    """Every mixture of the two, line by line; of those that differ in many lines only the second."""
    pairs = [(line,) if line == other else (line, other) for line, other in zip(lines, others, strict=True)]
    if sum(len(pair) - 1 for pair in pairs) > 6:
        yield [*others]
    else:
        yield from map(list, itertools.product(*pairs))


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
        seen, needed = (set(pattern.findall("\n".join(lines))) for lines in (change.old, change.new))
        # What only the new lines have nobody can know to be misquoted.
        if not _plain(change) or not needed <= seen:
            return None
        return lambda _, line: pattern.sub(lambda m: table[m.group()], line)

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
    """The change in a document that is so written. Added lines stay as they are, unless wanted."""
    at, end = change.at, change.at + len(change.old)
    old = [done(line) for line in change.old]
    pairs = zip(change.new, change.origin, strict=True)
    new = [done(line) if idx is not None or added else line for line, idx in pairs]
    lines = [done(line) if at <= n < end or added else line for n, line in enumerate(change.document.lines)]
    return change._replace(document=change.document._replace(lines=lines), old=old, new=new)


def _prose_of(line: str, change: Change) -> str:
    """The comment at the end of a line, or all of one without code."""
    language = change.document.language
    return comment_of(line, language) if is_code(line, language) else line


def _normal_form(form: str) -> Misquote:
    """A document with accents, quoted in the other normal form."""

    def misquote(change: Change, _: random.Random) -> Block | None:
        def accented(line: str) -> str:
            comment = _prose_of(line, change)
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
        others = _either(here.new, as_written) if other == "NFC" else ()
        return Block(here, quoted, written, [here.new, *others])

    return misquote


def _typographic_document(change: Change, _: random.Random) -> Block | None:
    """The document has typographic punctuation, the model writes ASCII."""

    def done(line: str) -> str:
        comment = _prose_of(line, change)
        typographic = re.sub(r"\.\.\.| - |(?<=\w)'(?=\w)|(?<=\d) (?=\w)", lambda m: shown[m.group()], comment)
        return line.removesuffix(comment) + re.sub(r'"([^"]+)"', r"“\1”", typographic)

    shown = {"...": "…", " - ": " – ", "'": "’", " ": "\u00a0"}
    here = _rewritten(change, done, added=False)
    if not _plain(change) or here.old == change.old:
        return None
    # In a line that the model changed, its own punctuation is no less right.
    as_written = [a if a in here.old else b for a, b in zip(here.new, change.new, strict=True)]
    return Block(here, change.old, change.new, [here.new, *_either(here.new, as_written)])


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


def _no_last_line_end(change: Change, _: random.Random) -> Block | None:
    if not change.new or not change.new[-1].strip():
        return None  # a blank line at the end would be a line end
    lines = change.document.lines[: change.at + len(change.old)]
    here = change._replace(document=change.document._replace(lines=lines))
    return Block(here, change.old, change.new, [change.new], ends=False)


# Indentation.


def _tabs(change: Change, chance: random.Random) -> Callable[[int, str], str] | None:
    unit, indents = unit_of(change.document.lines), [*map(indent_of, change.old)]
    # Without a line that is some tabs deep and nothing else, what a tab stands for is not known.
    if (
        unit == "\t"
        or "\t" in "".join(indents)
        or all(len(indent) % len(unit) for indent in indents if indent)
    ):
        return None
    return lambda _, line: _tabbed(line, unit)


def _spaces_for_tabs(in_new: bool) -> Misquote:
    """In a document with tabs, its own or put there for the purpose."""

    def misquote(change: Change, chance: random.Random) -> Block | None:
        unit = unit_of(change.document.lines)
        if unit != "\t":
            change = _rewritten(change, lambda line: _tabbed(line, unit))
            if re.search("^\t* ", "\n".join((*change.old, *change.new)), re.MULTILINE):
                return None
        width = chance.choice([2, 4, 4, 8])

        def done(_: int, line: str) -> str:
            return indent_of(line).replace("\t", " " * width) + line.lstrip()

        search = _each(change.old, done)
        replace = _each(change.new, done) if in_new else change.new
        return None if search == change.old else block_of(change, search, replace)

    return misquote


def _tabbed(line: str, unit: str) -> str:
    return re.sub(f"^(?:{unit})+", lambda found: "\t" * (len(found.group()) // len(unit)), line)


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
    return block_of(change, search, replace, other)


def _dedented(change: Change, _: random.Random) -> Callable[[int, str], str] | None:
    """What all lines have in common is left out."""
    common = min((indent_of(line) for line in (*change.old, *change.new) if line.strip()), key=len)
    return lambda _, line: line.removeprefix(common)


def _deeper(change: Change, chance: random.Random) -> Callable[[int, str], str] | None:
    more = chance.choice([" ", "  ", "    ", unit_of(change.document.lines)])
    return lambda _, line: more + line if line.strip() else line


def _first_bare(change: Change, _: random.Random) -> Callable[[int, str], str] | None:
    # Where another line is indented it shows that the first one should be, and where the first line is as
    # deep as before, how deep.
    is_as_deep = bool(change.new) and indent_of(change.new[0]) == indent_of(change.old[0])
    is_known = is_as_deep and any(indent_of(line) for line in change.old[1:])
    return (lambda n, line: line.lstrip() if n == 0 else line) if is_known else None


# What is inside lines.


def _single_spaces(change: Change, _: random.Random) -> Callable[[int, str], str] | None:
    return lambda _, line: re.sub(r"(?<=\S)[ \t]{2,}", " ", line)


def _other_quotes(change: Change, chance: random.Random) -> Callable[[int, str], str] | None:
    """Where the strings themselves have no quotes."""
    text = "\n".join((*change.old, *change.new))
    if re.search(r"\w'\w|\\|'{2}|\"{2}", text) or ("'" in text and '"' in text):
        return None
    return lambda _, line: line.translate({ord("'"): '"', ord('"'): "'"})


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
    return block_of(change, [f"-{blank}{x}" for x in change.old], [f"+{blank}{x}" for x in change.new])


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
        return None if is_trivial else block_of(change, search if in_old else change.old, replace)

    return misquote


def _fences(in_old: bool, in_new: bool) -> Misquote:
    def misquote(change: Change, chance: random.Random) -> Block | None:
        name = chance.choice(["", "python", "code"])

        def fenced(lines: list[str], wanted: bool) -> list[str]:
            return [f"```{name}", *lines, "```"] if wanted else lines

        return block_of(change, fenced(change.old, in_old), fenced(change.new, in_new))

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
            # Where the new lines begin or end with a blank one of their own, it may be taken for the other.
            first, last = not change.new[0].strip(), not change.new[-1].strip()
            return block_of(change, search, change.new, change.new[first : len(change.new) - last])
        # Among lines that are all new, it may be meant.
        return block_of(change, search, replace, *([replace] if change.kind == "all new" else []))

    return misquote


_FULL_WIDTH = dict(zip("(),:;!?=", "（），：；！？＝", strict=True))
_HABITS: dict[str, Habit] = {
    "smart quotes": _smart_quotes,
    "HTML entities": _entities,
    "typographic dashes, ellipsis": _characters(
        {"--": "—", " - ": " – ", "...": "…"}, {"-": "‑", "...": "…"}
    ),
    "full-width punctuation": _characters(_FULL_WIDTH, {"(": "（", ")": "）", ",": "，"}),
    "no-break spaces": _blanks,
    "JSON escapes": _characters({'"': '\\"', "\\": "\\\\"}),
    "Markdown escapes": _characters({"_": "\\_", "*": "\\*"}),
    "white space at line ends": _trailing,
    "tabs for spaces": _tabs,
    "half the indentation": _half,
    "double indentation": _double,
    "common indentation left out": _dedented,
    "more indentation": _deeper,
    "first line not indented": _first_bare,
    "line numbers": _numbers,
    "`> ` in front": _quoted,
}


def kinds() -> Iterator[Kind]:
    """All of them, and a control."""
    yield Kind("nothing: as it is in the document", _line_ends("\n", "\n"))
    for name, before, after in (("after", 0, 1), ("before", 1, 0), ("before and after", 1, 1)):
        yield Kind(f"blank line {name} the old lines", _blank_lines(before, after, in_new=False))
        yield Kind(f"blank line {name}, in old and new", _blank_lines(before, after, in_new=True))
    yield Kind("two blank lines after the old lines", _blank_lines(0, 2, in_new=False))
    for name, habit in _HABITS.items():
        yield Kind(name, _habit(habit, in_new=True))
        yield Kind(f"{name}, old lines only", _habit(habit, in_new=False))
    yield Kind("spaces for tabs", _spaces_for_tabs(in_new=True))
    yield Kind("spaces for tabs, old lines only", _spaces_for_tabs(in_new=False))
    yield Kind("indentation left out", _all_stripped)
    yield Kind("indentation left out, old lines only", _habit(_stripped, in_new=False))
    yield Kind("one space for several", _habit(_single_spaces, in_new=True, added=True))
    yield Kind("other quotes", _habit(_other_quotes, in_new=True, added=True))
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
