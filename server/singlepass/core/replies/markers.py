"""The markers of edit blocks: which of a reply's lines is one.

A constrained model writes those that it was asked for, and nothing that looks like them. Of others, markers
are known by their shape: any five or more characters, in any case, indented as a whole block may be, with the
path behind. The opening one says how long the others of its block are; another rule among the old lines may
be the separator if no file has it.
"""

import re
from collections.abc import Iterable
from enum import Enum, auto

from singlepass.core.grammar import SMALLEST_MARKER, markers
from singlepass.core.replies.end_tokens import without_end


class State(Enum):
    """Where in the reply the parser is."""

    OUTSIDE = auto()
    OLD = auto()
    NEW = auto()


class Kind(Enum):
    """What a line is."""

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
    """The markers of one reply, by the size that was asked for and the block that is open.

    `texts` are those of the files: where one has a line like a marker, a line of that shape is none unless it
    has the size that was asked for.
    """

    def __init__(self, size: int, texts: Iterable[str], *, is_exact: bool) -> None:
        self._size = size
        self._exact = dict(zip(markers(size), (Kind.OPEN, Kind.SEPARATOR, Kind.CLOSE), strict=True))
        self._is_exact = is_exact
        self._texts = texts
        self._known: frozenset[str] | None = None
        self._opening = (SMALLEST_MARKER, "", "")
        """The length, the indentation and the word of the open block's first marker."""
        self._is_separated_by_rule = False
        """Whether another line than the one that was asked for separates its old and new lines."""

    def open(self, line: str) -> None:
        """A block begins with this marker."""
        found = _MARKER.match(without_end(line).rstrip())
        opening = (len(found["run"]), found["indent"], _opening_word(found["rest"])) if found else None
        self._opening = opening or (self._size, "", "search")

    def separate(self, line: str) -> None:
        """This line separates its old and new lines."""
        self._is_separated_by_rule = line.strip(" \t:") != "=" * self._opening[0]

    def kind(self, line: str, state: State) -> tuple[Kind, bool]:
        """What a line is in this state, and whether it cannot be known which lines of the block are its
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
            # Whether this is the marker or a line of the file is not known.
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
        """What a line with the shape of a marker is; None where it may be one that the model got wrong."""
        length, indent_here, word = self._opening
        if state is State.OUTSIDE:
            if run[0] == "<":
                return Kind.OPEN
            is_mark = not rest if run[0] == "=" else _REPLACE.match(rest) is not None
            return {"=": Kind.SEPARATOR, ">": Kind.CLOSE}[run[0]] if is_mark else Kind.TEXT
        if len(indent) > len(indent_here):
            return Kind.TEXT
        is_of_the_block = len(run) == length
        # The word makes a marker of a run of another length, unless files have lines of that shape.
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
        """Whether a line among old ones is a rule that no file has, which a model wrote as the separator; or
        another rule after such a one."""
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
    """What stands behind an opening marker and its word."""
    rest = line.lstrip().lstrip("<")
    found = _WORD.match(rest)
    return rest[found.end() :] if found else rest


def _opening_word(rest: str) -> str:
    """The word behind an opening marker, in lower case; empty where it is none of the usual ones."""
    found = _WORD.match(rest)
    return (found["word"] or "").casefold() if found else ""
