"""Lines of a text, and the two ways to point into it: an offset, or an LSP position.

Theory of operation
===================

A line ends at `\\n`, `\\r\\n` or a lone `\\r`, and nowhere else: that is the rule of the Language Server
Protocol 3.17 ("Text Documents": `export const EOL: string[] = ['\\n', '\\r\\n', '\\r']`). `str.splitlines`
also breaks at form feeds, U+0085, U+2028 and others, which would move every later line, so it is not used.

Two views of the same text live here. They differ at the end of the text, on purpose:

- `LineIndex` counts as LSP does. `"a\\n"` has two lines, the second one empty, because an editor can put its
  cursor there.
- `split_lines` and `visible_lines` count as people and language models do. `"a\\n"` is one line.

A byte order mark at the start of a text belongs to the file, not to its first line. `LineIndex`, which has to
agree with the editor, counts it as a character; `split_lines` begins after it, so it is never shown to the
model and never replaced.
"""

import re
from bisect import bisect_right
from typing import Literal, NamedTuple

Encoding = Literal["utf-8", "utf-16", "utf-32"]
"""The unit in which LSP positions count characters. The default of the protocol is UTF-16."""

BYTE_ORDER_MARK = "\ufeff"

_EOL = re.compile(r"\r\n|\n|\r")
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


class Line(NamedTuple):
    """One line of a text. `text[start:end]` is its content and `text[end:next]` its line end, if any."""

    start: int
    end: int
    next: int
    """Where the following line starts."""


def split_lines(text: str) -> list[Line]:
    """The lines of a text, without a byte order mark, and without the empty line after a final line end.

    `""` has no line, `"a"` and `"a\\n"` have one, `"\\n"` has one, which is empty.
    """
    start = 1 if text.startswith(BYTE_ORDER_MARK) else 0
    lines: list[Line] = []
    for match in _EOL.finditer(text):
        end, following = match.span()
        lines.append(Line(start, end, following))
        start = following
    if start < len(text):
        lines.append(Line(start, len(text), len(text)))
    return lines


def visible_lines(text: str) -> list[str]:
    """The lines of `split_lines` as the model sees them.

    They have no line end. A lone surrogate, which no tokenizer can encode, is shown as U+FFFD.
    """
    shown = text if text.isascii() else _LONE_SURROGATE.sub("\ufffd", text).removeprefix(BYTE_ORDER_MARK)
    # Every code action asks for this; `str.split` takes a thirtieth of the time.
    lines = _EOL.split(shown) if "\r" in shown else shown.split("\n")
    return lines if lines[-1] else lines[:-1]


def line_ending(text: str) -> str:
    """The line end that most lines of the text have; `"\\n"` when there is none or on a tie with it."""
    n_crlf = text.count("\r\n")
    counts = {"\n": text.count("\n") - n_crlf, "\r\n": n_crlf, "\r": text.count("\r") - n_crlf}
    return max(counts, key=counts.__getitem__)


def is_line_start(text: str, offset: int) -> bool:
    """Whether a line, as people count them, starts at the offset."""
    if offset == 0 or (offset == 1 and text.startswith(BYTE_ORDER_MARK)):
        return True
    previous = text[offset - 1 : offset]
    return previous == "\n" or (previous == "\r" and text[offset : offset + 1] != "\n")


class LineIndex:
    """Converts between offsets and LSP positions of one text.

    Line numbers and characters count from 0; characters are units of `encoding`. Nothing raises: what lies
    outside the text is moved to its nearest edge, as the protocol asks for characters past a line's end.
    """

    def __init__(self, text: str, encoding: Encoding = "utf-16") -> None:
        self.text = text
        self.encoding: Encoding = encoding
        self._starts = [0]
        self._ends: list[int] = []
        for match in _EOL.finditer(text):
            self._ends.append(match.start())
            self._starts.append(match.end())
        self._ends.append(len(text))
        self._one_unit_each = encoding == "utf-32" or text.isascii()

    @property
    def n_lines(self) -> int:
        """How many lines there are, at least 1. A text that ends with a line end has an empty last line."""
        return len(self._starts)

    def offset(self, line: int, character: int) -> int:
        """The offset of a position.

        A character past the line's end means the end of its content. One inside a character (the second
        half of a surrogate pair, a continuation byte) means that character's start. A line past the last
        means the end of the text. Negative numbers count as 0.
        """
        line, character = max(line, 0), max(character, 0)
        if line >= len(self._starts):
            return len(self.text)
        start, end = self._starts[line], self._ends[line]
        if self._one_unit_each:
            return min(start + character, end)
        content = self.text[start:end]
        if content.isascii():
            return start + min(character, len(content))
        n_units = 0
        for idx, char in enumerate(content):
            n_units += _n_units(char, self.encoding)
            if n_units > character:
                return start + idx
        return end

    def position(self, offset: int) -> tuple[int, int]:
        """The line and character of an offset. Between a `\\r` and its `\\n` it is still on that line."""
        offset = min(max(offset, 0), len(self.text))
        line = self.line_of(offset)
        before = self.text[self._starts[line] : offset]
        if self._one_unit_each or before.isascii():
            return line, len(before)
        return line, sum(_n_units(char, self.encoding) for char in before)

    def line_of(self, offset: int) -> int:
        """The line an offset is on; a line's end belongs to it."""
        return max(bisect_right(self._starts, offset) - 1, 0)

    def line_start(self, line: int) -> int:
        """Where a line starts; the end of the text for a line past the last."""
        return self.offset(line, 0)

    def line_end(self, line: int) -> int:
        """Where the content of a line ends, before its line end."""
        return self._ends[max(line, 0)] if line < len(self._ends) else len(self.text)


def _n_units(char: str, encoding: Encoding) -> int:
    code = ord(char)
    if encoding == "utf-32":
        return 1
    if encoding == "utf-16":
        return 1 if code < 0x10000 else 2
    if code < 0x80:
        return 1
    if code < 0x800:
        return 2
    return 3 if code < 0x10000 else 4
