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

There are three states and four kinds of line, and every pair of them stands in `TRANSITIONS`. A line is a
marker only if it is exactly that, white space at its end aside; in particular a longer or shorter run of the
marker's character is text. Lines between the markers are never looked at otherwise.

Constrained models write nothing but blocks. Others write prose around them, fences, a path in backticks or as
a heading, or leave the path out after the first block; outside of blocks all that is understood. Inside, one
mistake is: an opening marker means that the block before was never closed. That block is dropped, because
where its text ends is not known, and the new one counts.
"""

import re
from collections.abc import Callable, Collection
from enum import Enum, auto
from typing import Literal

import msgspec

from singlepass.core.grammar import markers


class Hunk(msgspec.Struct, frozen=True):
    """One finished block. Lines have no line end."""

    index: int
    """Which block of the reply, from 0; dropped ones are counted."""
    path: str
    """As the model wrote it, decoration removed; empty when it never wrote one."""
    old: tuple[str, ...]
    new: tuple[str, ...]


DropReason = Literal["cut_off", "unclosed", "reopened", "no_separator"]
"""Why a block was dropped: generation was cut off in it; the reply ended in it; another block opened in it;
it was closed before its separator."""

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
    """The open block is complete."""

    hunk: Hunk


class HunkDropped(msgspec.Struct, frozen=True):
    """The open block was abandoned. Its text is kept, to be shown and not applied."""

    index: int
    path: str
    reason: DropReason
    text: str
    """What the model wrote of it, from its opening marker on."""
    hunk: Hunk
    """What there is of it, the last line possibly not whole."""


class Ignored(msgspec.Struct, frozen=True):
    """A line of prose outside of any block."""

    text: str


class Malformed(msgspec.Struct, frozen=True):
    """A line that has no business where it stands."""

    reason: MalformedReason
    text: str


ParserEvent = HunkOpened | OldLine | NewLine | HunkFinished | HunkDropped | Ignored | Malformed


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
    # An underline of seven characters is what reStructuredText and Markdown make headings with.
    (State.NEW, Kind.SEPARATOR): ("new", State.NEW),
    (State.NEW, Kind.CLOSE): ("finish", State.OUTSIDE),
    (State.NEW, Kind.TEXT): ("new", State.NEW),
}
"""For each state and kind of line: what is done, and the state after it."""

_FENCE = re.compile(r"\s*(```|~~~)")
_DECORATION = re.compile(r"^(?:[#>*\-\s]+\s)?\s*(?:(?:file|path)(?:name)?\s*:\s*)?", re.IGNORECASE)
_EXTENSION = re.compile(r"[^\s.]\.\w{1,12}$")


class DiffParser:
    """Parses one reply. `paths`, when given, are the paths that the prompt showed: a line that is one of them
    is taken as it is, so that any path can be written."""

    def __init__(self, marker_size: int = 7, paths: Collection[str] = ()) -> None:
        self._markers = dict(zip(markers(marker_size), (Kind.OPEN, Kind.SEPARATOR, Kind.CLOSE), strict=True))
        self._paths = frozenset(paths)
        self._state = State.OUTSIDE
        self._partial: list[str] = []
        self._events: list[ParserEvent] = []
        self._closed = False
        self._n_hunks = 0
        self._path = ""
        self._candidate: str | None = None
        self._old: list[str] = []
        self._new: list[str] = []
        self._raw: list[str] = []
        self._actions: dict[str, Callable[[str], None]] = {
            "open": self._open,
            "stray": self._stray,
            "outside": self._outside,
            "reopen": self._reopen,
            "separate": self._raw.append,
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
        self._partial.append(first)
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
            kind = self._kind(line)
            if self._state is State.OUTSIDE or kind is Kind.CLOSE:
                self._line(line)
            else:
                (self._old if self._state is State.OLD else self._new).append(line)
                self._raw.append(line)
        if self._state is not State.OUTSIDE:
            self._drop("unclosed" if complete else "cut_off")
            self._state = State.OUTSIDE
        self._ignore_candidate()
        return self._take_events()

    def _take_events(self) -> list[ParserEvent]:
        events, self._events = self._events, []
        return events

    def _kind(self, line: str) -> Kind:
        return self._markers.get(line.rstrip(), Kind.TEXT)

    def _line(self, line: str) -> None:
        action, following = TRANSITIONS[self._state, self._kind(line)]
        self._actions[action](line.removesuffix("\r"))
        self._state = following

    # Outside of blocks. The last line with text is held back: it may be the path of the next block.

    def _outside(self, line: str) -> None:
        if (line.strip() and not _FENCE.match(line)) or line in self._paths:
            self._ignore_candidate()
            self._candidate = line

    def _stray(self, line: str) -> None:
        self._ignore_candidate()
        self._events.append(Malformed("stray_marker", line))

    def _ignore_candidate(self) -> None:
        if self._candidate is not None:
            self._events.append(Ignored(self._candidate))
            self._candidate = None

    def _path_in(self, line: str) -> str | None:
        """The path that a line names, if it is one and not prose."""
        if line in self._paths:
            return line
        plain = _DECORATION.sub("", line).strip().strip("*`\"'").rstrip(":").strip("*`\"' \t")
        if plain in self._paths or not plain:
            return plain or None
        has_space = re.search(r"\s", plain)
        if has_space and (self._paths or not _EXTENSION.search(plain)):
            return None
        return plain if has_space or re.search(r"[./\\]|^\w+$", plain) else None

    # Blocks.

    def _open(self, line: str) -> None:
        if self._candidate is not None:
            if path := self._path_in(self._candidate):
                self._path, self._candidate = path, None
            else:
                self._ignore_candidate()
        self._old.clear()
        self._new.clear()
        self._raw[:] = [line]
        self._events.append(HunkOpened(self._n_hunks, self._path))

    def _reopen(self, line: str) -> None:
        # The path of the block that opens was taken for the last line of the one that was not closed.
        last = (self._new or self._old or [""])[-1]
        self._drop("reopened")
        if last in self._paths:
            self._path = last
        self._open(line)

    def _old_line(self, line: str) -> None:
        self._old.append(line)
        self._raw.append(line)
        self._events.append(OldLine(self._n_hunks, line))

    def _new_line(self, line: str) -> None:
        self._new.append(line)
        self._raw.append(line)
        self._events.append(NewLine(self._n_hunks, line))

    def _hunk(self) -> Hunk:
        return Hunk(self._n_hunks, self._path, tuple(self._old), tuple(self._new))

    def _finish(self, line: str) -> None:
        self._events.append(HunkFinished(self._hunk()))
        self._n_hunks += 1

    def _drop(self, reason: DropReason, line: str | None = None) -> None:
        if line is not None:
            self._raw.append(line)
        self._events.append(
            HunkDropped(self._n_hunks, self._path, reason, "\n".join(self._raw), self._hunk())
        )
        self._n_hunks += 1
