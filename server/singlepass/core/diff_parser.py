"""The diff parser: text of a model in, hunks out.

Theory of operation
===================

A reply is a list of blocks

    path/of/file.py
    <<<<<<< SEARCH
    old lines
    =======
    new lines
    >>>>>>> REPLACE

`DiffParser.feed` takes the text in pieces as it is decoded and returns the events that became certain;
`DiffParser.close` says that no more will come. How the text was cut into pieces never shows: events are made
of whole lines. Nothing raises, whatever the text is.

There are three states and four kinds of line, and every pair of them stands in `TRANSITIONS`. Lines between
the markers are never looked at otherwise.

**Constrained** models write nothing but blocks, with markers of exactly the size that was asked for.

**Others** write prose around the blocks, fences, a path in backticks or as a heading, or leave it out after
the first block; outside of blocks all that is understood (`paths.py`). Markers are known by their shape: any
five or more characters, in any case, indented as a whole block may be, with the path behind. The opening one
says how long the others of its block are. Inside a block these mistakes are:

- an opening marker, which means that the block before was never closed. That block is dropped, because where
  its text ends is not known, and the new one counts. It gets the path of the line before it or none: never
  the one of the block before;
- a second separator, or a marker that is a line of the files: which of the lines is the marker is not known.

A block that repeats an earlier one to the letter is left out. Where a reply with text has no block at all, it
may be new text as a whole (`rewrite.py`); if not, it is dropped as a whole, so that nothing is lost silently.
"""

import re
from collections.abc import Callable, Mapping
from enum import Enum, auto
from types import MappingProxyType
from typing import Literal

import msgspec

from singlepass.core.grammar import SMALLEST_MARKER, markers
from singlepass.core.habits import is_fence
from singlepass.core.paths import Named, named
from singlepass.core.rewrite import read_rewrites


class Hunk(msgspec.Struct, frozen=True):
    """One finished block. Lines have no line end."""

    index: int
    """Which block of the reply, from 0; dropped ones are counted."""
    path: str
    """The file it is for, as far as the reply tells; empty when it never named one."""
    old: tuple[str, ...]
    new: tuple[str, ...]
    is_path_stated: bool = True
    """Whether the block itself names its file. If not, `path` is the one of the block before."""
    is_rewrite: bool = False
    """Whether `new` is new text of the file or of the selection as a whole, and there are no old lines."""


DropReason = Literal[
    "cut_off", "unclosed", "reopened", "no_separator", "second_separator", "repeated", "unreadable"
]
"""Why a block was dropped: generation was cut off in it; the reply ended in it; another block opened in it;
it was closed before its separator; it has several lines that may be its separator or its end; it is the same
as an earlier one, which is told once for all of them. `unreadable` is a reply without any block."""

MalformedReason = Literal["stray_marker"]


class HunkOpened(msgspec.Struct, frozen=True):
    """A block has begun."""

    index: int
    path: str


class OldLine(msgspec.Struct, frozen=True):
    """A line of the old text of the open block."""

    index: int
    text: str


class NewLine(msgspec.Struct, frozen=True):
    """A line of the new text of the open block."""

    index: int
    text: str


class HunkFinished(msgspec.Struct, frozen=True):
    """The open block is complete, or the reply is new text as a whole."""

    hunk: Hunk


class HunkRepeated(msgspec.Struct, frozen=True):
    """The open block is the same as an earlier one, so it is left out. The end of the reply tells how many
    were."""

    index: int


class HunkDropped(msgspec.Struct, frozen=True):
    """The open block was abandoned. Its text is kept, to be shown and not applied."""

    index: int
    path: str
    reason: DropReason
    text: str
    """What the model wrote of it, from its opening marker on; of an unreadable reply, all of it."""
    hunk: Hunk
    """What there is of it, the last line possibly not whole. An unreadable reply stands in its new lines."""
    n: int = 1
    """How many blocks this stands for."""


class Ignored(msgspec.Struct, frozen=True):
    """A line of prose outside of any block."""

    text: str


class Malformed(msgspec.Struct, frozen=True):
    """A line that has no business where it stands."""

    reason: MalformedReason
    text: str


ParserEvent = HunkOpened | OldLine | NewLine | HunkFinished | HunkRepeated | HunkDropped | Ignored | Malformed


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


TRANSITIONS: dict[tuple[State, Kind], tuple[str, State]] = {
    (State.OUTSIDE, Kind.OPEN): ("open", State.OLD),
    (State.OUTSIDE, Kind.SEPARATOR): ("stray", State.OUTSIDE),
    (State.OUTSIDE, Kind.CLOSE): ("stray", State.OUTSIDE),
    (State.OUTSIDE, Kind.TEXT): ("outside", State.OUTSIDE),
    (State.OLD, Kind.OPEN): ("reopen", State.OLD),
    (State.OLD, Kind.SEPARATOR): ("separate", State.NEW),
    (State.OLD, Kind.CLOSE): ("close_early", State.OUTSIDE),
    (State.OLD, Kind.TEXT): ("old", State.OLD),
    (State.NEW, Kind.OPEN): ("reopen", State.OLD),
    (State.NEW, Kind.SEPARATOR): ("separate_again", State.NEW),
    (State.NEW, Kind.CLOSE): ("finish", State.OUTSIDE),
    (State.NEW, Kind.TEXT): ("new", State.NEW),
}
"""For each state and kind of line: what is done, and the state after it."""

_MARKER = re.compile(r"(?P<indent>\s*)(?P<run><{5,}|={5,}|>{5,})(?P<rest>[^<=>]*(?:[>:]\s*)?)$")
_THOUGHT = re.compile(r"([<\[])(think(?:ing)?|thought|reasoning)[>\]]", re.IGNORECASE)
_SEARCH = re.compile(r"\s*search\b", re.IGNORECASE)
_REPLACE = re.compile(r"\s*replace\b", re.IGNORECASE)
_WORD = re.compile(r"\s*(?:search|original|old|before|head|find)?\b\s*[>:(\[]*\s*", re.IGNORECASE)
_PLAIN_END = re.compile(r"\s*[\w.\-/ ]*[>:]?\s*")


class DiffParser:
    """Parses one reply.

    `files` are those that the prompt showed, by path: a line that is one of the paths is taken as it is, so
    that any path can be written, and a line of a text is no marker unless it has the size that was asked for.
    With `is_constrained`, the reply follows the edit grammar of the same marker size.
    """

    def __init__(
        self,
        marker_size: int = SMALLEST_MARKER,
        files: Mapping[str, str] = MappingProxyType({}),
        *,
        is_constrained: bool = False,
    ) -> None:
        self._size = marker_size
        self._exact = dict(zip(markers(marker_size), (Kind.OPEN, Kind.SEPARATOR, Kind.CLOSE), strict=True))
        self._is_constrained = is_constrained
        self._files = files
        self._paths = frozenset(files)
        self._marker_lines: frozenset[str] | None = None
        self._state = State.OUTSIDE
        self._partial: list[str] = []
        self._events: list[ParserEvent] = []
        self._closed = False
        self._has_begun = False
        self._thought_end = ""
        """What ends the thought in which the reply is."""
        self._prose: list[str] = []
        """All lines outside of blocks."""
        self._n_hunks = 0
        self._finished: set[tuple[str, tuple[str, ...], tuple[str, ...]]] = set()
        self._repeated: list[Hunk] = []
        self._path = ""
        self._is_path_stated = False
        self._outside: list[str] = []
        """The lines since the last block."""
        self._candidate: str | None = None
        """The last of them with text, which may turn out to be a path and not prose."""
        self._opening = (SMALLEST_MARKER, "")
        """The length and the indentation of the open block's first marker."""
        self._is_doubtful = False
        """Whether the open block has several lines that may be one of its markers."""
        self._old: list[str] = []
        self._new: list[str] = []
        self._raw: list[str] = []
        self._actions: dict[str, Callable[[str], None]] = {
            "open": self._open,
            "stray": self._stray,
            "outside": self._outside_line,
            "reopen": self._reopen,
            "separate": self._separate,
            "separate_again": self._separate_again,
            "close_early": lambda line: self._drop("no_separator", line),
            "old": self._old_line,
            "new": self._new_line,
            "finish": self._finish,
        }

    @property
    def state(self) -> State:
        """Where in the reply the parser is now."""
        return self._state

    def feed(self, chunk: str) -> list[ParserEvent]:
        """The events that the text so far makes certain and that were not returned before."""
        first, *others = chunk.split("\n")
        self._partial.append(first if self._has_begun else first.removeprefix("\ufeff"))
        self._has_begun = self._has_begun or bool(chunk)
        for part in others:
            self._line("".join(self._partial))
            self._partial = [part]
        return self._take_events()

    def close(self, complete: bool = True) -> list[ParserEvent]:
        """The last events. `complete` is False when generation was cut off, by a limit or a cancel.

        A last line without its line end counts if it is a whole marker. A block that is still open is
        dropped.
        """
        if self._closed:
            return []
        self._closed = True
        line = "".join(self._partial)
        if line:
            # What was cut off may be the beginning of another line.
            is_whole = complete or line.rstrip().upper().endswith("REPLACE")
            if self._state is State.OUTSIDE or (self._kind(line) is Kind.CLOSE and is_whole):
                self._line(line)
            else:
                (self._old if self._state is State.OLD else self._new).append(line)
                self._raw.append(line)
        if self._state is not State.OUTSIDE:
            self._drop("unclosed" if complete else "cut_off")
            self._state = State.OUTSIDE
        self._ignore_candidate()
        if self._n_hunks == 0 and any(line.strip() for line in self._prose):
            self._whole_reply(complete)
        if self._repeated:
            first, n = self._repeated[0], len(self._repeated)
            self._events.append(HunkDropped(first.index, first.path, "repeated", "", first, n))
        return self._take_events()

    def _take_events(self) -> list[ParserEvent]:
        events, self._events = self._events, []
        return events

    def _line(self, line: str) -> None:
        line = self._without_thought(line)
        action, following = TRANSITIONS[self._state, self._kind(line)]
        self._actions[action](line.removesuffix("\r"))
        self._state = following

    def _without_thought(self, line: str) -> str:
        """What is left of a line without what the model thinks aloud before it answers."""
        if not self._thought_end:
            begun = _THOUGHT.match(line.strip()) if self._state is State.OUTSIDE else None
            if begun is None or self._is_constrained:
                return line
            self._thought_end = f"{begun[1]}/{begun[2]}"
        self._prose.append(line)
        _, end, rest = line.partition(self._thought_end)
        if not end:
            return ""
        self._thought_end = ""
        return rest.removeprefix(">").removeprefix("]")

    # Markers.

    def _kind(self, line: str) -> Kind:
        kind = self._exact.get(line.rstrip())
        if self._is_constrained:
            return kind or Kind.TEXT
        found = _MARKER.match(line.rstrip())
        if found is None:
            return Kind.TEXT
        kind = self._kind_by_shape(found["run"], found["indent"], found["rest"])
        if kind is Kind.TEXT or self._state is State.OUTSIDE or len(found["run"]) == self._size:
            return kind
        if line.strip() in self._lines_like_markers():
            # Whether this is the marker or a line of the file is not known.
            if kind is not Kind.OPEN:
                self._is_doubtful = True
            return Kind.TEXT if kind is Kind.OPEN else kind
        return kind

    def _kind_by_shape(self, run: str, indent: str, rest: str) -> Kind:
        length, indent_here = self._opening
        is_of_the_block = len(run) == length and len(indent) <= len(indent_here)
        if self._state is State.OUTSIDE:
            if run[0] == "<":
                return Kind.OPEN
            is_mark = not rest.strip() if run[0] == "=" else _REPLACE.match(rest) is not None
            return {"=": Kind.SEPARATOR, ">": Kind.CLOSE}[run[0]] if is_mark else Kind.TEXT
        if run[0] == "=":
            return Kind.SEPARATOR if is_of_the_block and not rest.strip(" :") else Kind.TEXT
        # The word makes a marker of a run of another length, unless files have lines of that shape.
        is_free = self._size == SMALLEST_MARKER and len(indent) <= len(indent_here)
        if run[0] == "<":
            is_mark = _SEARCH.match(rest) is not None and (is_of_the_block or is_free)
            return Kind.OPEN if is_mark else Kind.TEXT
        if (is_of_the_block and _PLAIN_END.fullmatch(rest)) or (is_free and _REPLACE.match(rest)):
            return Kind.CLOSE
        return Kind.TEXT

    def _lines_like_markers(self) -> frozenset[str]:
        if self._marker_lines is None:
            self._marker_lines = frozenset(
                line.strip()
                for text in self._files.values()
                if any(mark * 5 in text for mark in "<=>")
                for line in text.split("\n")
                if _MARKER.match(line.rstrip())
            )
        return self._marker_lines

    # Outside of blocks. The last line with text is held back: it may be the path of the next block.

    def _outside_line(self, line: str) -> None:
        self._outside.append(line)
        self._prose.append(line)
        if (line.strip() and not is_fence(line)) or line in self._paths:
            self._ignore_candidate()
            self._candidate = line

    def _stray(self, line: str) -> None:
        self._outside.append(line)
        self._prose.append(line)
        self._ignore_candidate()
        self._events.append(Malformed("stray_marker", line))

    def _ignore_candidate(self) -> None:
        if self._candidate is not None:
            self._events.append(Ignored(self._candidate))
            self._candidate = None

    def _whole_reply(self, complete: bool) -> None:
        """A reply without any block: new text as a whole, or nothing that could be read."""
        rewrites = read_rewrites(self._outside, self._paths) if complete and not self._is_constrained else []
        for rewrite in rewrites:
            stated = bool(rewrite.path)
            hunk = Hunk(self._n_hunks, rewrite.path, (), rewrite.lines, stated, is_rewrite=True)
            self._events.append(HunkFinished(hunk))
            self._n_hunks += 1
        if not rewrites:
            hunk = Hunk(self._n_hunks, "", (), tuple(self._prose), is_path_stated=False)
            text = "\n".join(self._prose)
            reason = "unreadable" if complete else "cut_off"
            self._events.append(HunkDropped(self._n_hunks, "", reason, text, hunk))
            self._n_hunks += 1

    # Blocks.

    def _open(self, line: str) -> None:
        name, naming = self._named_before(line)
        self._is_path_stated = name is not None
        if name is not None:
            self._path = name.path
        if naming == self._candidate:
            self._candidate = None
        self._ignore_candidate()
        self._begin(line)

    def _begin(self, line: str) -> None:
        self._outside.clear()
        self._old.clear()
        self._new.clear()
        self._raw[:] = [line]
        self._is_doubtful = False
        found = _MARKER.match(line.rstrip())
        self._opening = (len(found["run"]), found["indent"]) if found else (self._size, "")
        self._events.append(HunkOpened(self._n_hunks, self._path))

    def _named_before(self, line: str) -> tuple[Named | None, str]:
        """The file that the opening marker or a line before it names, the nearest first; and that line."""
        if self._is_constrained:
            before = self._candidate or ""
            return (Named(before, before in self._paths) if before else None), before
        rest = line.lstrip().lstrip("<")
        behind = rest[word.end() :] if (word := _WORD.match(rest)) else rest
        if behind.strip() and (name := named(behind, self._paths)) is not None:
            return name, line
        is_nearest = True
        for before in reversed(self._outside):
            if not before.strip() and before not in self._paths:
                continue
            name = named(before, self._paths, alone=not is_nearest)
            if name is not None:
                return name, before
            # A fence tells little; a path may stand before it.
            is_nearest = is_nearest and is_fence(before)
        return None, ""

    def _reopen(self, line: str) -> None:
        # The path of the block that opens was taken for the last line of the one that was not closed.
        lines = self._new or self._old
        self._drop("reopened")
        last = next((one for one in reversed(lines) if one.strip() and not is_fence(one)), "")
        self._outside = [last]
        self._path = ""
        self._open(line)

    def _separate(self, line: str) -> None:
        self._raw.append(line)

    def _separate_again(self, line: str) -> None:
        self._is_doubtful = True
        self._new_line(line)

    def _old_line(self, line: str) -> None:
        self._old.append(line)
        self._raw.append(line)
        self._events.append(OldLine(self._n_hunks, line))

    def _new_line(self, line: str) -> None:
        self._new.append(line)
        self._raw.append(line)
        self._events.append(NewLine(self._n_hunks, line))

    def _hunk(self) -> Hunk:
        return Hunk(self._n_hunks, self._path, tuple(self._old), tuple(self._new), self._is_path_stated)

    def _finish(self, line: str) -> None:
        if self._is_doubtful:
            self._drop("second_separator", line)
            return
        hunk = self._hunk()
        identity = (hunk.path, hunk.old, hunk.new)
        if identity in self._finished:
            self._repeated.append(hunk)
            self._events.append(HunkRepeated(self._n_hunks))
        else:
            self._finished.add(identity)
            self._events.append(HunkFinished(hunk))
        self._n_hunks += 1

    def _drop(self, reason: DropReason, line: str | None = None) -> None:
        if line is not None:
            self._raw.append(line)
        self._events.append(
            HunkDropped(self._n_hunks, self._path, reason, "\n".join(self._raw), self._hunk())
        )
        self._n_hunks += 1
