"""Lines of a text, and conversion between offsets and LSP positions.

Theory of operation
===================

A line ends at `\\n`, `\\r\\n` or a lone `\\r`, and nowhere else: that is the rule of the Language Server
Protocol 3.17 ("Text Documents": `export const EOL: string[] = ['\\n', '\\r\\n', '\\r']`). `str.splitlines`
also breaks at form feeds, U+0085, U+2028 and others, which would move every later line, so it is not used.

There are two views of a text, which intentionally differ at its end:

- `LineIndex` counts as LSP does. `"a\\n"` has two lines, the second one empty, because an editor can put its
  cursor there.
- `split_lines` and `visible_lines` count as people and language models do. `"a\\n"` is one line.

A byte order mark at the start of a text belongs to the file, not to its first line. `LineIndex`, which must
agree with the editor, counts it as a character; `split_lines` begins after it, so it is never shown to the
model and never replaced.
"""

import re
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate, islice
from math import isqrt
from typing import Literal, NamedTuple

Encoding = Literal["utf-8", "utf-16", "utf-32"]
"""The unit in which LSP positions count characters. The default of the protocol is UTF-16."""

BYTE_ORDER_MARK = "\ufeff"

_MIN_BLOCK = 1024
"""Minimum block size in characters. Longer texts have longer blocks, and more of them."""

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
    """The most frequent line end of the text; `"\\n"` if there is none or on a tie."""
    n_crlf = text.count("\r\n")
    counts = {"\n": text.count("\n") - n_crlf, "\r\n": n_crlf, "\r": text.count("\r") - n_crlf}
    return max(counts, key=counts.__getitem__)


def is_line_start(text: str, offset: int) -> bool:
    """Whether a line (as in `split_lines`) starts at the offset."""
    if offset == 0 or (offset == 1 and text.startswith(BYTE_ORDER_MARK)):
        return True
    previous = text[offset - 1 : offset]
    return previous == "\n" or (previous == "\r" and text[offset : offset + 1] != "\n")


class LineIndex:
    """Converts between offsets and LSP positions of one text, which can be changed in place.

    Line numbers and characters count from 0; characters are units of `encoding`. No conversion raises:
    positions outside the text are clamped, as the protocol demands for characters past a line's end.

    The text is stored in blocks with known numbers of characters, line ends and units, so that a lookup or a
    change touches only one or two blocks, however long the text or its lines are.
    """

    def __init__(self, text: str, encoding: Encoding = "utf-16") -> None:
        self.encoding: Encoding = encoding
        self._load(text)

    def _load(self, text: str) -> None:
        self._text: str | None = text
        self._most_chars = max(_MIN_BLOCK, 16 * len(text))
        """Length from which on the text has to be split into larger blocks."""
        self._size = _block_size(len(text))
        self._blocks = _split(text, self._size)
        self._n_chars = [*map(len, self._blocks)]
        self._n_breaks = [*map(_n_breaks, self._blocks)]
        self._n_units = self._units_of(self._blocks)
        # Cumulative counts before each block, and before the end.
        self._chars_before, self._breaks_before, self._units_before = [0], [0], [0]
        self._sum(0)

    def _units_of(self, blocks: Sequence[str]) -> list[int]:
        return [_n_units(block, self.encoding) for block in blocks]

    def _sum(self, first: int) -> None:
        """Update the cumulative counts from one block on."""
        for before, each in (
            (self._chars_before, self._n_chars),
            (self._breaks_before, self._n_breaks),
            (self._units_before, self._n_units),
        ):
            before[first:] = accumulate(each[first:], initial=before[first])

    @property
    def _one_unit_each(self) -> bool:
        return self._units_before[-1] == self._chars_before[-1]

    @property
    def text(self) -> str:
        """The whole text."""
        if self._text is None:
            self._text = "".join(self._blocks)
        return self._text

    @property
    def n_chars(self) -> int:
        """Length of the text in characters."""
        return self._chars_before[-1]

    @property
    def n_lines(self) -> int:
        """Number of lines, at least 1. A text that ends with a line end has an empty last line."""
        return self._breaks_before[-1] + 1

    def is_text(self, text: str) -> bool:
        """Whether the text equals `text`, without joining the blocks."""
        if len(text) != self.n_chars:
            return False
        return all(map(text.startswith, self._blocks, self._chars_before))

    def change(self, start: int, end: int, new: str) -> None:
        """Replace the text between two offsets. Raises ValueError if they are outside the text."""
        if not 0 <= start <= end <= self.n_chars:
            raise ValueError(f"edit {start}..{end} leaves the text of {self.n_chars} characters")
        blocks, before = self._blocks, self._chars_before
        first, last = self._block_at(start), self._block_at(end)
        middle = blocks[first][: start - before[first]] + new + blocks[last][end - before[last] :]
        # A block that is too small is merged with its neighbour, and so is one that splits \r\n.
        if first and (len(middle) < _MIN_BLOCK // 4 or (middle[0] == "\n" and blocks[first - 1][-1] == "\r")):
            first -= 1
            middle = blocks[first] + middle
        if last + 1 < len(blocks) and (not middle or (middle[-1] == "\r" and blocks[last + 1][0] == "\n")):
            last += 1
            middle += blocks[last]
        made = [middle] if len(middle) <= 2 * self._size else _split(middle, self._size)
        blocks[first : last + 1] = made
        self._n_chars[first : last + 1] = map(len, made)
        self._n_breaks[first : last + 1] = map(_n_breaks, made)
        self._n_units[first : last + 1] = self._units_of(made)
        self._text = None
        self._sum(first)
        if self.n_chars > self._most_chars:
            self._load(self.text)

    def offset(self, line: int, character: int) -> int:
        """The offset of a position.

        A position past the line's end means the end of its content. One inside a character (the second half
        of a surrogate pair, a continuation byte) means that character's start. A line past the last means the
        end of the text. Negative numbers count as 0.
        """
        line, character = max(line, 0), max(character, 0)
        if line >= self.n_lines:
            return self.n_chars
        start, end = self._start_of(line), self.line_end(line)
        if self._one_unit_each:
            return min(start + character, end)
        if end - start < self._size:
            return start + _n_chars(self.between(start, end), character, self.encoding)
        n_units = self._units_to(start) + character
        if n_units >= self._units_before[-1]:
            return end
        block = bisect_right(self._units_before, n_units) - 1
        n_inside = _n_chars(self._blocks[block], n_units - self._units_before[block], self.encoding)
        return min(self._chars_before[block] + n_inside, end)

    def position(self, offset: int) -> tuple[int, int]:
        """The line and character of an offset. Between a `\r` and its `\n` it is still on that line."""
        offset = min(max(offset, 0), self.n_chars)
        line = self.line_of(offset)
        start = self._start_of(line)
        if self._one_unit_each:
            return line, offset - start
        return line, self._units_to(offset) - self._units_to(start)

    def line_of(self, offset: int) -> int:
        """The line an offset is on; a line's end belongs to it."""
        offset = min(max(offset, 0), self.n_chars)
        block = self._block_at(offset)
        text, n = self._blocks[block], offset - self._chars_before[block]
        is_between = n > 0 and text[n - 1 : n + 1] == "\r\n"
        return self._breaks_before[block] + _n_breaks(text[:n]) - is_between

    def line_start(self, line: int) -> int:
        """Offset of a line's start; the end of the text for a line past the last."""
        return self.offset(line, 0)

    def line_end(self, line: int) -> int:
        """Offset of the end of a line's content, before its line end."""
        line = max(line, 0)
        return self._break(line)[0] if line + 1 < self.n_lines else self.n_chars

    def _start_of(self, line: int) -> int:
        return self._break(line - 1)[1] if line else 0

    def _break(self, n: int) -> tuple[int, int]:
        """Start and end offset of the `n`-th line end."""
        block = bisect_right(self._breaks_before, n) - 1
        text, n = self._blocks[block], n - self._breaks_before[block]
        if "\r" in text and text.count("\r") > text.count("\r\n"):
            start, end = next(islice(_EOL.finditer(text), n, None)).span()
        else:
            end = len(text) - len(text.split("\n", n + 1)[-1])
            start = end - 1 - (text[end - 2 : end] == "\r\n")
        before = self._chars_before[block]
        return before + start, before + end

    def _block_at(self, offset: int) -> int:
        """The block that contains an offset; between two blocks the second."""
        return min(bisect_right(self._chars_before, offset), len(self._blocks)) - 1

    def between(self, start: int, end: int) -> str:
        """A short part of the text between two offsets, clamped to the text."""
        end = min(end, self.n_chars)
        first, last = self._block_at(start), self._block_at(end)
        before = self._chars_before
        if first == last:
            return self._blocks[first][start - before[first] : end - before[first]]
        return "".join(self._blocks[first : last + 1])[start - before[first] : end - before[first]]

    def _units_to(self, offset: int) -> int:
        """Number of units before an offset."""
        block = self._block_at(offset)
        part = self._blocks[block][: offset - self._chars_before[block]]
        return self._units_before[block] + _n_units(part, self.encoding)


def _block_size(n_chars: int) -> int:
    return max(_MIN_BLOCK, 4 * isqrt(n_chars))


def _split(text: str, size: int) -> list[str]:
    """The text in pieces of about `size` characters, none of which splits `\r\n`. At least one piece."""
    blocks: list[str] = []
    start = 0
    while len(text) - start > size + 1:
        end = start + size
        end += text[end - 1 : end + 1] == "\r\n"
        blocks.append(text[start:end])
        start = end
    blocks.append(text[start:])
    return blocks


def _n_breaks(text: str) -> int:
    n = text.count("\n")
    return n + text.count("\r") - text.count("\r\n") if "\r" in text else n


def _n_units(text: str, encoding: Encoding) -> int:
    if encoding == "utf-32" or text.isascii():
        return len(text)
    if encoding == "utf-16":
        return len(text.encode("utf-16-le", "surrogatepass")) // 2
    return len(text.encode("utf-8", "surrogatepass"))


def _n_chars(text: str, n_units: int, encoding: Encoding) -> int:
    """The largest number of leading characters that have at most `n_units` units."""
    if text.isascii() or encoding == "utf-32":
        return min(len(text), n_units)
    low, high = 0, min(len(text), n_units)
    while low < high:
        middle = (low + high + 1) // 2
        n_half = _n_units(text[low:middle], encoding)
        if n_half <= n_units:
            low, n_units = middle, n_units - n_half
        else:
            high = middle - 1
    return low


def encodable(text: str) -> str:
    """`text` without lone surrogates, which can be neither tokenized nor sent."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")
