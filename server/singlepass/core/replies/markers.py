"""The markers of edit blocks: which lines of a reply are markers.

A constrained model writes exactly the requested markers. In other replies markers are recognized by their
shape: a run of at least five characters, perhaps with the word in another case, indented, or followed by the
path. The length of the opening marker determines that of the others in its block. A line of `-` or `=` among
the old lines counts as the separator if no file has such a line.
"""

import re
from collections.abc import Iterable
from enum import Enum, auto

from singlepass.core.grammar import SMALLEST_MARKER, markers
from singlepass.core.replies.end_tokens import without_end


class State(Enum):
    """Where the parser is: outside of blocks, or among the old or the new lines of one."""

    OUTSIDE = auto()
    OLD = auto()
    NEW = auto()


class Kind(Enum):
    """The kind of a line: one of the three markers, or text."""

    OPEN = auto()
    SEPARATOR = auto()
    CLOSE = auto()
    TEXT = auto()


_MARKER = re.compile(r"(?P<indent>\s*)(?P<run><{5,}|={5,}|>{5,})(?P<rest>[^<=>]*(?:[>:]\s*)?)$")
_RULE = re.compile(r"-{5,}|={5,}")
_REPLACE = re.compile(r"\s*replace\b", re.IGNORECASE)
_WORD = re.compile(r"\s*(?P<word>search|original|old|before|head|find)?\b\s*[>:(\[]*\s*", re.IGNORECASE)
_PLAIN_END = re.compile(r"[\w.\-/ ]*[>:]?")
_CLOSE = markers(SMALLEST_MARKER).close
_MOST_MARKER = 100
_LAST_CLOSE = re.compile(r">{7,} REPLACE$")
_CLOSING_WORDS = frozenset({"", ":", ">", "updated", "update", "new", "after", "end", "replaced"})


class Markers:
    """Recognizes the markers of one reply.

    `size` is the requested length of markers, and `texts` are the contents of the files. If a file has a line
    that looks like a marker, the same line in the reply counts as one only if it has the requested size. With
    `is_exact`, only the requested markers count.
    """

    def __init__(self, size: int, texts: Iterable[str], *, is_exact: bool) -> None:
        self._size = size
        self._exact = dict(zip(markers(size), (Kind.OPEN, Kind.SEPARATOR, Kind.CLOSE), strict=True))
        self._is_exact = is_exact
        self._texts = texts
        self._known: frozenset[str] | None = None
        self._opening = (SMALLEST_MARKER, "", "")
        """Length, indentation and word of the opening marker of the current block."""
        self._is_separated_by_rule = False
        """Whether the separator of the current block is not the requested line of `=`."""

    def open(self, line: str) -> None:
        """Note the opening marker of a block."""
        found = _MARKER.match(without_end(line).rstrip())
        opening = (len(found["run"]), found["indent"], _opening_word(found["rest"])) if found else None
        self._opening = opening or (self._size, "", "search")

    def separate(self, line: str) -> None:
        """Note the separator of the current block."""
        self._is_separated_by_rule = line.strip(" \t:") != "=" * self._opening[0]

    def kind(self, line: str, state: State) -> tuple[Kind, bool]:
        """The kind of a line in this state, and whether it is ambiguous which lines of the block are its
        markers."""
        if self._is_exact:
            return self._exact.get(line.rstrip(), Kind.TEXT), False
        bare = without_end(line).rstrip()
        found = _MARKER.match(bare)
        if found is None:
            return (Kind.SEPARATOR if self._is_rule(bare, state) else Kind.TEXT), False
        kind = self._kind_by_shape(found["run"], found["indent"], found["rest"].strip(), state)
        is_asked_for = state is State.OUTSIDE or (len(found["run"]) == self._size and not found["indent"])
        if not is_asked_for and kind is not Kind.TEXT and bare.strip() in self._lines_like_markers():
            # It may be the marker or a line of the file.
            return (kind, True) if kind in (Kind.SEPARATOR, Kind.CLOSE) else (Kind.TEXT, False)
        return kind or Kind.TEXT, kind is None

    def before_close(self, line: str, state: State) -> str:
        """The text before a closing marker at the end of a new line; empty where it ends otherwise, or where
        files have such lines."""
        if self._is_exact or state is not State.NEW:
            return ""
        bare = without_end(line).rstrip()
        found = _LAST_CLOSE.search(bare, max(0, len(bare) - _MOST_MARKER))
        if found is None or any(_CLOSE in text for text in self._texts):
            return ""
        return bare[: found.start()].rstrip(">").rstrip()

    def _kind_by_shape(self, run: str, indent: str, rest: str, state: State) -> Kind | None:
        """The kind of a line with the shape of a marker; None if it may be a wrongly written marker."""
        length, indent_here, word = self._opening
        if state is State.OUTSIDE:
            if run[0] == "<":
                return Kind.OPEN
            is_mark = not rest if run[0] == "=" else _REPLACE.match(rest) is not None
            return {"=": Kind.SEPARATOR, ">": Kind.CLOSE}[run[0]] if is_mark else Kind.TEXT
        if len(indent) > len(indent_here):
            return Kind.TEXT
        is_of_the_block = len(run) == length
        # A run of another length with the right word is a marker too, unless files have such lines.
        is_free = self._size == SMALLEST_MARKER
        if run[0] == "=":
            if is_of_the_block:
                return Kind.SEPARATOR if not rest.strip(" :") else None
            return Kind.SEPARATOR if self._is_rule(run + rest, state) else Kind.TEXT
        if run[0] == "<":
            found = _opening_word(rest)
            if found in ("search", word) and found and (is_of_the_block or is_free):
                return Kind.OPEN
            return None if is_of_the_block or found or _REPLACE.match(rest) else Kind.TEXT
        if (is_of_the_block and _PLAIN_END.fullmatch(rest)) or (is_free and _REPLACE.match(rest)):
            return Kind.CLOSE
        is_near = is_of_the_block or rest.casefold() in _CLOSING_WORDS or _REPLACE.match(rest)
        return None if is_near else Kind.TEXT

    def _is_rule(self, bare: str, state: State) -> bool:
        """Whether a line of `-` or `=` among the old lines counts as the separator, because no file has it.
        After such a separator, further ones count too."""
        may_be = state is State.OLD or (state is State.NEW and self._is_separated_by_rule)
        is_rule = may_be and _RULE.fullmatch(bare.strip()) is not None
        return is_rule and bare.strip() not in self._lines_like_markers()

    def _lines_like_markers(self) -> frozenset[str]:
        if self._known is None:
            self._known = frozenset(
                bare
                for text in self._texts
                if any(mark * 5 in text for mark in "<=>-")
                for line in text.split("\n")
                if _MARKER.match(bare := line.strip()) or _RULE.fullmatch(bare)
            )
        return self._known


def behind_word(line: str) -> str:
    """The text after an opening marker and its word."""
    rest = line.lstrip().lstrip("<")
    found = _WORD.match(rest)
    return rest[found.end() :] if found else rest


def _opening_word(rest: str) -> str:
    """The word after an opening marker, in lower case; empty if it is not a usual one."""
    found = _WORD.match(rest)
    return (found["word"] or "").casefold() if found else ""
