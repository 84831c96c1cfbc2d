"""The region of a request: the lines that an edit is about.

It is the selection, or without one the definition around the cursor. Nothing is parsed: a definition is told
by the shape of its first line and by indentation (`core/replies/definitions.py`), in about every language.
Lines inside of strings and comments say nothing of that, and are found first.
"""

import re
from collections.abc import Iterator, Sequence

from singlepass.core.replies.definitions import COMMENT, CONTROL, defined_name
from singlepass.core.replies.depths import is_directive
from singlepass.core.replies.extent import n_open
from singlepass.core.replies.habits import text_span
from singlepass.core.replies.levels import balance, columns, indent_of

_GOES_ON = re.compile(r"[)}\]]|\{$|\??\.\w|(?:end|rescue|ensure|else|catch|where)\b")
"""What is as deep as the first line of a definition and still belongs to it."""
_CLOSES = re.compile(r"[)}\]]|end\b")
_BODY = re.compile(r"\{$|where\b")
_ATTRIBUTE = re.compile(r"@\w|#!?\[|\[\w|template\s*<")
_LABEL = re.compile(r"\w+:$")
_MOST_ROWS = 40
"""Lines of one signature or attribute."""
_CHAIN = re.compile(r"\??\.\w")
_CHAINED = re.compile(r"[.?&|+*/=-]")
_HEADS = re.compile(
    # A function as a value whose type is given, or in a call; a struct without a name, a property, a macro.
    r"(?:\w+\s+)*[\w$.]+\s*(?::[^=]*)?(?:=|<-)\s*(?:[\w.]+\()*(?:async\s*)?"
    r"(?:function\b|\([^()]*\)[^=()]*=>|\w+\s*=>)"
    r"|(?:\w+\s+)*(?:struct|enum|union)\s*\{$|(?:\w+\s+)*var\s+\w+\s*:[^=]*\{$|init[?!]?\(.*\{$|macro_rules!"
    r"|(?:describe|context|it|test)\s+[\"'].*\bdo$"
)
_PROPERTY = re.compile(r"(?:[\w<>\[\],?]+\s+)+\w+")
_ON_ONE_LINE = re.compile(
    r"(?:\w+\s+)*(?:(?:def|fn|fun|func|function|sub|class|struct)\s+(?:\([^)]*\)\s*)?[\w.:$]+[?!]?\s*[\[(<:{;=]"
    r"|(?:const|let|var)\s+[\w$]+\s*(?::[^=]*)?=.*=>)"
)
"""A definition that may have no lines below its first."""
_QUOTES = re.compile(
    r"(?P<long>\"\"\"|'''|`+|/\*|<!--)|<<[-~]?[\"']?(?P<word>[A-Za-z_]\w*)[\"']?|//|(?<![\w$&{])#(?!!?\[)"
    r"|\"(?:\\.|[^\"\\])*\"|'(?:\\.|[^'\\])*'"
)
"""What begins a string or comment of several lines, or keeps something from doing so."""
_ENDS = {"/*": "*/", "<!--": "-->"}


def region_of(lines: Sequence[str], first: int, end: int) -> tuple[int, int] | None:
    """The lines that an edit is about, end exclusive, without blank lines at its borders.

    The lines first…end-1 are selected; `first` equals `end` for a cursor in that line. None where nothing but
    blank lines is selected, or the cursor is in no definition.
    """
    if first < end:
        start, stop = text_span(lines, (first, end))
        return (start, stop) if start < stop else None
    if not 0 <= first < len(lines):
        return None
    code = _Code(lines)
    # A cursor in the comments or attributes above a definition is in that.
    at = first
    while at < len(lines) - 1 and at in code.above:
        at += 1
    around = (code.whole(head) for n in (at, first) for head in code.heads(n))
    return next((one for one in around if one[0] <= first < one[1] and code.is_balanced(*one)), None)


def definitions(lines: Sequence[str]) -> dict[int, tuple[int, str]]:
    """The first lines of definitions with a name, each with how deep it is, and the name."""
    code = _Code(lines)
    heads = (
        (n, depth, defined_name(code.header(n)[0]))
        for n, depth in enumerate(code.depths)
        if depth is not None
    )
    return {n: (depth, name) for n, depth, name in heads if name and code.is_head(n)}


class _Code:
    """Lines of a document, with what is known of each."""

    def __init__(self, lines: Sequence[str]) -> None:
        self.lines = lines
        self.code, self.inside = _without_strings(lines)
        self.bare = ["" if n in self.inside else line.strip() for n, line in enumerate(lines)]
        """The lines without indentation; empty where they begin in a string or comment."""
        self.depths = [
            None if not bare or COMMENT.match(bare) or is_directive(bare) else columns(indent_of(line))
            for bare, line in zip(self.bare, lines, strict=True)
        ]
        """How deep the lines with code are."""
        self.above = self._above()
        """The lines that belong to a definition directly below them: attributes, comments."""

    def _above(self) -> set[int]:
        above: set[int] = set()
        for n, bare in enumerate(self.bare):
            if _ATTRIBUTE.match(bare) and n not in above:
                above.update(range(n, self.header(n, whole=True)[1]))
            elif self.inside.get(n) in above or COMMENT.match(bare):
                above.add(n)
        return above

    def header(self, n: int, *, whole: bool = False) -> tuple[str, int]:
        """What begins in this line up to the end of its brackets, or to a body in these, on one line; and the
        line after it."""
        end = n + 1
        opened = balance(self.code[n:end])
        while opened > 0 and end < min(len(self.bare), n + _MOST_ROWS):
            if self.bare[end - 1].endswith("{") and not whole:
                break
            opened += balance(self.code[end : end + 1])
            end += 1
        return " ".join(filter(None, self.bare[n:end])), end

    def heads(self, at: int) -> Iterator[int]:
        """The first lines of definitions at or above a line that may be around it, the nearest first."""
        deepest: int | None = None
        for n in range(at, -1, -1):
            depth = self.depths[n]
            if depth is None or _LABEL.match(self.bare[n]):
                continue
            deepest = depth + 1 if deepest is None else deepest
            # What goes on with a block belongs to a line above that is as deep.
            if depth < deepest and not _GOES_ON.match(self.bare[n]):
                deepest = depth
                if self.is_head(n):
                    yield n

    def is_head(self, n: int) -> bool:
        line = self.bare[n]
        header, below = self.header(n) if line.endswith(("(", ",", "[")) else (line, n + 1)
        if CONTROL.match(header.removeprefix("async ")):
            return False
        is_property = self.bare[self._below(below - 1)] == "{" and _PROPERTY.fullmatch(header)
        if not (defined_name(header) or _HEADS.match(header) or is_property):
            return False
        if _ON_ONE_LINE.match(header):
            return True
        if header.endswith(")"):
            # A call, if no body follows.
            return self._has_body(below - 1, n)
        return self._end(n) > below or header.endswith("}")

    def _below(self, n: int) -> int:
        """The next line with code; the same where none is."""
        return next((row for row in range(n + 1, len(self.lines)) if self.depths[row] is not None), n)

    def _has_body(self, n: int, head: int | None = None) -> bool:
        """Whether the body of a definition begins below a line, which ends what begins in the line `head`."""
        row = self._below(n)
        is_deeper = (self.depths[row] or 0) > (self.depths[n if head is None else head] or 0)
        return (
            _BODY.match(self.bare[row]) is not None if not is_deeper else not _CHAINED.match(self.bare[row])
        )

    def _end(self, head: int) -> int:
        """Where the definition that begins with this line ends, exclusive."""
        depth = self.depths[head] or 0
        end = head + 1
        for n in range(head + 1, len(self.lines)):
            its = self.depths[n]
            if its is None:
                is_its = self.bare[n] and columns(indent_of(self.lines[n])) > depth
                end = n + 1 if is_its or self.inside.get(n, n) < end else end
                continue
            bare = self.bare[n]
            is_label = _LABEL.match(bare) and balance(self.code[head:n]) > 0
            if its <= depth and not is_label and (its < depth or not _GOES_ON.match(bare)):
                break
            end = n + 1
            is_chained = _CHAIN.match(self.bare[self._below(n)])
            if its == depth and _CLOSES.match(bare) and not is_chained and not self._has_body(n):
                break
        return end

    def whole(self, head: int) -> tuple[int, int]:
        """The lines of a definition, with what belongs to it above."""
        start = head
        depth = self.depths[head]
        while start - 1 in self.above:
            start -= 1
        # A comment of another depth belongs to what is above.
        while start < head and columns(indent_of(self.lines[start])) != depth:
            start += 1
        return start, self._end(head)

    def is_balanced(self, start: int, end: int) -> bool:
        """Whether no bracket begins or ends among these lines that does not also end or begin there."""
        return balance(self.code[start:end]) == 0 or n_open(self.bare[start:end]) == 0


def _without_strings(lines: Sequence[str]) -> tuple[list[str], dict[int, int]]:
    """The lines without strings and comments; and those that begin inside of one, each with the line where
    that begins."""
    code = ["" for _ in lines]
    inside: dict[int, int] = {}
    n = at = 0
    while n < len(lines):
        found = _QUOTES.search(lines[n], at)
        if found is None or found[0] in ("//", "#"):
            code[n] += lines[n][at : found.start() if found else None]
            n, at = n + 1, 0
            continue
        code[n] += lines[n][at : found.start()]
        end, at = n, found.end()
        if found["long"] or found["word"]:
            end, at = _closed(lines, n, at, found)
        inside.update((row, n) for row in range(n + 1, end + 1))
        n = end
    return [*map(str.strip, code)], inside


def _closed(lines: Sequence[str], n: int, at: int, found: re.Match[str]) -> tuple[int, int]:
    """The line and the column where a string or comment has ended; where it begins, if it has no end."""
    if word := found["word"]:
        end = next((row for row in range(n + 1, len(lines)) if lines[row].strip() == word), None)
        return (n, at) if end is None else (end, len(lines[end]))
    closing = _ENDS.get(found["long"], found["long"])
    for row in range(n, len(lines)):
        column = lines[row].find(closing, at if row == n else 0)
        while column > 0 and lines[row][column - 1] == "\\":
            column = lines[row].find(closing, column + 1)
        if column >= 0:
            return row, column + len(closing)
    return n, at
