"""Guesses of the text that comes next in an edit, as drafts (sans-IO).

An edit mostly copies the document, which gives these kinds of guesses. A wrong one costs time but never
changes the reply, because every drafted token is verified:

*opening*: the reply begins as the server expects (`Draft.opening`); *first*: the quoted lines begin with one
that the server expects (`Draft.likely`) or, in a later block, with one that has a word which was replaced
before; *more*, *stop*: after a quoted line the next line of the document is quoted too, or the quotation
ends; *lines*: the new lines continue like the old ones that they replace; *change*: the same in the middle of
a change, as if it ended here; *close*, *next*: the new lines end; another block follows.

Guesses from what followed the same tokens elsewhere are made in `tree`, which merges all guesses.

Guesses are text, not tokens, because the same text may be tokenized differently in different places.
"""

import re
from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from singlepass_backends.base import Draft

Kind = Literal["lines", "change", "opening", "first", "more", "stop", "close", "next", "text"]
"""*text* is what followed the same tokens elsewhere."""

_UNIT = re.compile(rb"[\w\x80-\xff]+|\n|[^\S\n]+|[^\w\s]")
_UNIT_WORD = re.compile(rb"[\w\x80-\xff]+")
_WORD, _BLANKS, _LINE_FEED, _OTHER = range(4)
_LONG = (_WORD, _BLANKS)
"""Classes of units that the next characters may extend."""
_WEIGHTS = (1.0, 0.3, 1.0, 1.0)
"""Weights of units by class: blanks matter less."""
_FAR = 1e6
"""An infinite cost."""
_BEGIN, _GO_ON = 1.0, 0.15
"""Affine gap costs: to open a gap (of inserted or deleted units), and to extend it, times the unit's
weight."""
_BREAK = 2.0
"""Extra cost of a line feed inserted within an old line."""
_REPLACE = 1.0
"""Cost of substituting a unit by another of its class."""
_MOST_CHANGED = 3
"""Maximum number of candidates for the first line of a later block."""


Place = Literal["first", "line", "within"]
"""Position of a token in a guess: its first token, or a later one at the start of a line or within a line."""


class Guess(NamedTuple):
    """Text that may come next, and the kind of guess."""

    kind: Kind
    text: bytes


class _Costs(NamedTuple):
    """Gotoh's three rows: for each position in the old units, the minimum cost of an alignment that ends
    there, by its last step."""

    kept: NDArray[np.float32]
    """The unit before the position was kept or substituted."""
    added: NDArray[np.float32]
    left_out: NDArray[np.float32]


class Follower:
    """Aligns new text incrementally with the old text that it replaces, and predicts how it continues.

    The new text is aligned with a prefix of the old one, with affine gap costs (Gotoh, "An improved algorithm
    for matching biological sequences", 1982); the prediction is the old text after the cheapest prefix.
    Units are words, runs of blanks, line feeds and other single characters.
    """

    def __init__(self, old: bytes, changes: dict[bytes, bytes]) -> None:
        """`changes` are the words that were replaced so far; replacements found here are added."""
        self._old: list[bytes] = _UNIT.findall(old)
        self._changes = changes
        self._numbers: dict[bytes, int] = {}
        self._units = np.array([self._number(unit) for unit in self._old], np.int32)
        self._classes = np.array([*map(_class, self._old)], np.int8)
        self._is_inside = np.array([False, *(unit != b"\n" for unit in self._old)])
        """For each position, whether it is within a line."""
        weights = np.array(_WEIGHTS)[self._classes]
        self._skipped = np.cumsum([0.0, *weights], dtype=np.float32) * _GO_ON
        """For each position, the cost of extending a gap over all units before it."""
        far = np.full(len(self._old) + 1, _FAR, np.float32)
        kept = far.copy()
        kept[0] = 0.0
        self._costs = _Costs(kept, far, _BEGIN + self._skipped)
        self._unread = bytearray()
        self._open = b""
        """The last unit, if the next characters may extend it."""
        self._at: int = 0
        self._is_equal = True
        self._replaced: tuple[bytes, bytes] | None = None

    def append(self, text: bytes) -> None:
        """Append `text` to the new text."""
        self._unread += text

    def read(self) -> None:
        """Align the text appended so far. Takes 0.05 ms per unit, so it is done only when a guess is
        needed."""
        text, self._unread = bytes(self._unread), bytearray()
        units: list[bytes] = _UNIT.findall(self._open + text)
        self._open = units.pop() if units and _class(units[-1]) in _LONG else b""
        for unit in units:
            self._costs = self._after(unit)
            at = _cheapest(self._costs)
            is_equal = at > 0 and self._old[at - 1] == unit
            is_replaced = self._is_equal and not is_equal and at == self._at + 1
            if is_replaced and unit[:1].isalpha():
                self._replaced = self._old[at - 1], unit
            elif self._replaced and not (is_equal and _class(unit) == _BLANKS):
                # Only what follows tells whether that word alone was replaced.
                if is_equal:
                    old, new = self._replaced
                    self._changes[old] = new
                self._replaced = None
            self._at, self._is_equal = at, is_equal

    def guess(self, n_bytes: int) -> Guess:
        """The predicted continuation, about `n_bytes` long; empty at the end of the old text."""
        self.read()
        at, is_equal = self._at, self._is_equal
        if begun := self._open:
            text = self._from(at, n_bytes + len(begun))
            if text.startswith(begun):
                return Guess("lines" if is_equal else "change", text[len(begun) :])
            at = _cheapest(self._after(begun))
            is_equal = at > 0 and self._old[at - 1] == begun
        return Guess("lines" if is_equal else "change", self._from(at, n_bytes))

    def _after(self, unit: bytes) -> _Costs:
        """The costs with one more new unit."""
        kept, added, left_out = self._costs
        kind = _class(unit)
        go_on = _GO_ON * _WEIGHTS[kind]
        best = np.minimum(kept, left_out)
        added = np.minimum(best + (_BEGIN + go_on), added + go_on)
        if unit == b"\n":
            added += _BREAK * self._is_inside
        best = np.minimum(best, self._costs.added)[:-1]
        differ = np.where(self._classes == kind, _REPLACE, _FAR) if kind in _LONG else _FAR
        kept = np.concatenate(([_FAR], best + np.where(self._units == self._number(unit), 0.0, differ)))
        # For each position, the cheapest earlier position from which all units in between are deleted.
        begun = np.minimum.accumulate(np.minimum(kept, added) - self._skipped)
        left_out = np.concatenate(([_FAR], begun[:-1] + self._skipped[1:] + _BEGIN))
        return _Costs(kept, added, left_out)

    def _number(self, unit: bytes) -> int:
        return self._numbers.setdefault(unit, len(self._numbers))

    def _from(self, at: int, n_bytes: int) -> bytes:
        """Old text from a position on, with known word replacements applied."""
        parts: list[bytes] = []
        while at < len(self._old) and n_bytes > 0:
            parts.append(self._changes.get(self._old[at], self._old[at]))
            n_bytes -= len(parts[-1])
            at += 1
        return b"".join(parts)


def _cheapest(costs: _Costs) -> int:
    """The cheapest position, the last one on ties. An alignment does not end with deleted units."""
    best = np.minimum(costs.kept, costs.added)[::-1]
    return len(best) - 1 - int(np.argmax(best <= best.min() + 1e-3))


def _class(unit: bytes) -> int:
    if unit == b"\n":
        return _LINE_FEED
    if unit.isspace():
        return _BLANKS
    return _WORD if _UNIT_WORD.fullmatch(unit) else _OTHER


class Drafter:
    """Guesses for one reply. `append` the text of the reply as it arrives; `guesses` may be called in
    between."""

    def __init__(self, draft: Draft) -> None:
        self._search, self._separator, self._close = (
            f"{marker}\n".encode() for marker in (draft.search, draft.separator, draft.close)
        )
        self._document = draft.document.encode()
        self._likely = [line.encode() for line in draft.likely]
        self._text = bytearray()
        self._changes: dict[bytes, bytes] = {}
        self._follower: Follower | None = Follower(draft.opening.encode(), {})
        self._line_start = self._block_start = 0
        """Start of the current line, and of the current block."""
        self._old_start: int | None = None
        """Start of the block's old lines, while they are being written."""
        self._is_new = False
        self._header = b""
        """The text before the old lines of the last block."""
        self._after = 0
        """Position in the document where the old lines of the last block ended."""

    @property
    def text(self) -> bytes:
        """The reply so far."""
        return bytes(self._text)

    def append(self, text: bytes) -> None:
        """`text` was added to the reply."""
        for line in text.splitlines(keepends=True):
            self._text += line
            if self._follower:
                self._follower.append(line)
            if line.endswith(b"\n"):
                self._end_line(bytes(self._text[self._line_start :]))
                self._line_start = len(self._text)

    def guesses(self, n_bytes: int) -> Iterator[Guess]:
        """Guesses of what comes next, about `n_bytes` each, at any point of a line."""
        old = self._old_start
        is_line_start = self._line_start == len(self._text)
        if self._follower:
            kind, text = self._follower.guess(n_bytes)
            line = b"" if text else self._text[self._line_start :]
            if (
                self._is_new
                and len(text) < n_bytes
                and text[-1:] in (b"", b"\n")
                and self._close.startswith(line)
            ):
                text += self._close[len(line) :]
            yield Guess(kind if self._is_new else "opening", text)
        if old is not None and is_line_start and len(self._text) > old:
            at = self._document.find(self._text[old:])
            if at >= 0:
                at += len(self._text) - old
                yield Guess("more", self._document[at : at + n_bytes])

    def starts(self, text: bytes) -> Iterator[Guess]:
        """Guesses at the start of a line, after `text`: the reply, or the reply and a guess."""
        search, separator, close = self._search, self._separator, self._close
        start = max(0, self._block_start - len(close))
        old = text.rfind(search, start)
        new = text.rfind(b"\n" + separator, max(start, old))
        end = text.rfind(close, max(start, new))
        if end > max(old, new):
            if text.endswith(close) and (header := self._header or self._header_of(text)):
                yield Guess("next", header)
        elif new > old >= 0:
            yield Guess("close", close)
        elif old >= 0:
            quoted = text[old + len(search) :]
            if quoted:
                yield Guess("stop", separator + quoted)
            else:
                for line in self._changed_lines() if self._block_start else self._likely:
                    yield Guess("first", line)

    def _header_of(self, text: bytes) -> bytes:
        at = text.find(self._search)
        return text[: at + len(self._search)] if at >= 0 else b""

    def _changed_lines(self) -> list[bytes]:
        """The next lines of the document that contain a word that was replaced."""
        words = [word for word in self._changes if len(word) > 2]
        lines = self._document[self._after :].splitlines(keepends=True) if words else ()
        return [line for line in lines if any(word in line for word in words)][:_MOST_CHANGED]

    def _end_line(self, line: bytes) -> None:
        if self._is_new:
            if line == self._close and self._follower:
                self._follower.read()
                self._is_new, self._follower = False, None
                self._block_start = len(self._text)
        elif self._old_start is None:
            if line == self._search:
                self._old_start = len(self._text)
                self._header = bytes(self._text[self._block_start :])
        elif line == self._separator:
            old = bytes(self._text[self._old_start : self._line_start])
            self._follower = Follower(old, self._changes)
            self._after = max(0, self._document.find(old)) + len(old)
            self._old_start, self._is_new = None, True
