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
the first block; outside of blocks all that is understood (`paths.py`). What a model thinks aloud is left out,
and where the thought never ends the blocks in it count. Markers are known by their shape (`markers.py`).
Inside a block these mistakes are:

- an opening marker, which means that the block before was never closed. That block is dropped, because where
  its text ends is not known, and the new one counts. It gets the path of the line before it or none: never
  the one of the block before;
- the closing marker at the end of a new line. It counts where nothing but the next block follows;
- a second separator, an opening marker with another word, a bare closing one of another length, or a marker
  that is a line of the files: which of the lines is the marker is not known.

A block that repeats an earlier one to the letter is left out. Where a reply with text has no block at all, it
may be new text as a whole (`rewrite.py`); if not, it is dropped as a whole, so that nothing is lost silently.
Beside blocks, code and stray markers are dropped with their text.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Literal

import msgspec

from singlepass.core.grammar import SMALLEST_MARKER
from singlepass.core.hunks import Hunk
from singlepass.core.replies.end_tokens import is_users_turn, without_end, without_start
from singlepass.core.replies.markers import Kind, Markers, State, behind_word
from singlepass.core.replies.paths import Before, Named, is_source, named, named_before
from singlepass.core.replies.rewrite import read_rewrites, unread_parts
from singlepass.core.replies.sections import element_path, is_fence

DropReason = Literal[
    "cut_off", "unclosed", "reopened", "no_separator", "doubtful", "repeated", "unreadable", "unread"
]
"""Why a block was dropped: generation was cut off in it; the reply ended in it; another block opened in it;
it was closed before its separator; which of its lines are its markers is not known; it is the same as an
earlier one, which is told once for all of them. `unreadable` is a reply without any block; `unread` is what
stands beside the blocks and is no prose."""


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
    """The open block is the same as an earlier one, so it is left out. The end tells how many were."""

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
    """A line outside of any block."""

    text: str


ParserEvent = HunkOpened | OldLine | NewLine | HunkFinished | HunkRepeated | HunkDropped | Ignored


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

_THOUGHT = re.compile(r"([<\[])(think(?:ing)?|thought|reasoning)[>\]]", re.IGNORECASE)
_THOUGHT_END = re.compile(r"[<\[]/(?:think(?:ing)?|thought|reasoning)[>\]]", re.IGNORECASE)
_AROUND_PATH = " \t#*`:"


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
        self._markers = Markers(marker_size, files.values(), is_exact=is_constrained)
        self._is_constrained = is_constrained
        self._files = files
        self._paths = frozenset(files)
        self._state = State.OUTSIDE
        self._partial: list[str] = []
        self._events: list[ParserEvent] = []
        self._closed = False
        self._has_begun = False
        self._thought: list[str] | None = None
        """The lines of the thought in which the reply is."""
        self._may_think = not is_constrained
        self._after: list[str] | None = None
        """What the model wrote after its answer, as the user's next message."""
        self._enclosed_by = ""
        """What ends the fence or the element in which the reply is: their text holds no thoughts."""
        self._prose: list[str] = []
        """All lines outside of blocks."""
        self._beside: list[str | None] = []
        """Lines outside of blocks, without those that name a block's file, and None for each block."""
        self._strays: list[str] = []
        self._n_hunks = 0
        self._finished: set[tuple[str, tuple[str, ...], tuple[str, ...]]] = set()
        self._repeated: list[Hunk] = []
        self._path = ""
        self._is_path_stated = False
        self._outside: list[str] = []
        """The lines since the last block."""
        self._candidate: str | None = None
        """The last of them with text, which may turn out to be a path and not prose."""
        self._rival = ""
        self._is_doubtful = False
        """Whether the open block has several lines that may be one of its markers."""
        self._closed_at: int | None = None
        """The first of its new lines that ends with a closing marker."""
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
            is_close = self._kind(line) is Kind.CLOSE or self._markers.before_close(line, self._state)
            if self._state is State.OUTSIDE or (is_close and is_whole):
                self._line(line)
            else:
                (self._old if self._state is State.OLD else self._new).append(line)
                self._raw.append(line)
        has_open_thought = self._thought is not None
        self._end_thought(complete)
        if self._state is not State.OUTSIDE:
            if self._finish_at_close(0) is None:
                self._drop("unclosed" if complete else "cut_off")
            self._state = State.OUTSIDE
        self._ignore_candidate()
        if self._n_hunks == 0 and any(line.strip() for line in self._prose):
            self._whole_reply(complete, may_be_new_text=complete and not has_open_thought)
        else:
            self._beside += self._outside
            parts = [] if self._is_constrained else unread_parts(self._beside)
            for part in (*parts, self._strays, self._after or ()):
                if part:
                    self._drop_text("unread", part)
        if self._repeated:
            first, n = self._repeated[0], len(self._repeated)
            self._events.append(HunkDropped(first.index, first.path, "repeated", "", first, n))
        return self._take_events()

    def _take_events(self) -> list[ParserEvent]:
        events, self._events = self._events, []
        return events

    def _line(self, line: str) -> None:
        if self._state is State.OUTSIDE and not self._is_constrained:
            outside = self._without_thought(without_end(line))
            if outside is None or self._is_after(outside):
                return
            line = outside if self._enclosed_by else without_start(outside)
        action, following = TRANSITIONS[self._state, self._kind(line)]
        self._actions[action](line.removesuffix("\r"))
        self._state = following

    def _without_thought(self, line: str) -> str | None:
        """What is left of a line without what the model thinks aloud; None where nothing is."""
        if self._thought is None:
            is_thought = self._may_think and not self._enclosed_by and _THOUGHT.match(line.strip())
            if not is_thought:
                return line
            self._thought = []
        self._thought.append(line)
        end = _THOUGHT_END.search(line)
        if end is None:
            return None
        self._prose += self._thought
        self._thought = None
        return line[end.end() :]

    def _is_after(self, line: str) -> bool:
        """Whether the line stands behind the answer."""
        if self._after is None and not self._enclosed_by and is_users_turn(line):
            self._after = []
        if self._after is None:
            return False
        self._after.append(line)
        return True

    def _end_thought(self, complete: bool) -> None:
        """The reply ended inside a thought. Where the model meant to end, what follows may be its answer."""
        lines, self._thought = self._thought or [], None
        self._may_think = False
        if not complete:
            self._prose += lines
            return
        for line in lines:
            begun = _THOUGHT.match(line.strip()) if line is lines[0] else None
            self._line(line.strip()[begun.end() :] if begun else line)

    def _kind(self, line: str) -> Kind:
        kind, is_doubtful = self._markers.kind(line, self._state)
        self._is_doubtful = self._is_doubtful or is_doubtful
        return kind

    # Outside of blocks. The last line with text is held back: it may be the path of the next block.

    def _outside_line(self, line: str) -> None:
        self._outside.append(line)
        self._prose.append(line)
        self._enclose(line)
        if (line.strip() and not is_fence(line)) or line in self._paths:
            self._ignore_candidate()
            self._candidate = line

    def _enclose(self, line: str) -> None:
        """Follow whether the lines outside of blocks are those of a fence or an element."""
        bare = line.strip()
        if self._enclosed_by:
            if bare.startswith(self._enclosed_by) and not bare.removeprefix(self._enclosed_by).strip("`~"):
                self._enclosed_by = ""
        elif is_fence(line):
            self._enclosed_by = bare[:3]
        elif element_path(line) is not None:
            self._enclosed_by = f"</{bare[1:].split(None, 1)[0]}>"

    def _stray(self, line: str) -> None:
        self._strays.append(line)
        self._outside.append(line)
        self._prose.append(line)
        self._ignore_candidate()

    def _ignore_candidate(self) -> None:
        if self._candidate is not None:
            self._events.append(Ignored(self._candidate))
            self._candidate = None

    def _whole_reply(self, complete: bool, *, may_be_new_text: bool) -> None:
        """A reply without any block: new text as a whole, or nothing that could be read."""
        is_read = may_be_new_text and not self._is_constrained
        rewrites = read_rewrites(self._outside, self._files) if is_read else []
        for one in rewrites:
            hunk = Hunk(self._n_hunks, one.path, (), one.lines, bool(one.path), True, one.rival)
            self._events.append(HunkFinished(hunk))
            self._n_hunks += 1
        if not rewrites:
            self._drop_text("unreadable" if complete else "cut_off", self._prose)

    def _drop_text(self, reason: DropReason, lines: Sequence[str]) -> None:
        hunk = Hunk(self._n_hunks, "", (), tuple(lines), is_path_stated=False)
        self._events.append(HunkDropped(self._n_hunks, "", reason, "\n".join(lines), hunk))
        self._n_hunks += 1

    # Blocks.

    def _open(self, line: str) -> None:
        before = self._named_before(line)
        self._is_path_stated = before.named is not None
        self._rival = before.rival
        if before.named is not None:
            self._path = before.named.path
        if before.line == self._candidate:
            self._candidate = None
        self._ignore_candidate()
        self._beside += (one for one in self._outside if before.named is None or one != before.line)
        self._beside.append(None)
        self._begin(line)

    def _begin(self, line: str) -> None:
        self._outside.clear()
        self._old.clear()
        self._new.clear()
        self._raw[:] = [line]
        self._is_doubtful = False
        self._closed_at = None
        self._markers.open(line)
        self._events.append(HunkOpened(self._n_hunks, self._path))

    def _named_before(self, line: str) -> Before:
        """The file that the opening marker or a line before it names."""
        if self._is_constrained:
            before = self._candidate or ""
            return Before(Named(before, before in self._paths) if before else None, before)
        behind = behind_word(line)
        if behind.strip() and (name := named(behind, self._paths)) is not None:
            return Before(name, line)
        return named_before(self._outside, self._paths)

    def _reopen(self, line: str) -> None:
        # The path of the block that opens was taken for the last line of the one that was not closed.
        lines = self._finish_at_close(1)
        if lines is None:
            lines = self._new or self._old
            self._drop("reopened")
        last = next((one for one in reversed(lines) if one.strip() and not is_fence(one)), "")
        self._outside = [last]
        self._path = ""
        self._open(line)

    def _finish_at_close(self, n_most: int) -> list[str] | None:
        """Finish the open block if a new line ends with its closing marker, and at most `n_most` lines with
        text follow, which are returned."""
        at = self._closed_at
        if at is None or self._is_doubtful:
            return None
        behind = [line for line in self._new[at + 1 :] if line.strip() and not is_fence(line)]
        if len(behind) > n_most:
            return None
        self._new[at:], self._closed_at = [self._markers.before_close(self._new[at], State.NEW)], None
        self._finish("")
        return behind

    def _separate(self, line: str) -> None:
        self._markers.separate(line)
        self._raw.append(line)

    def _separate_again(self, line: str) -> None:
        self._is_doubtful = True
        self._new_line(line)

    def _names_a_file(self, line: str) -> bool:
        """Whether a new line is only the path of a file: the next block may have begun."""
        bare = line.strip(_AROUND_PATH)
        if self._closed_at is not None or bare not in self._paths or not is_source(bare):
            return False
        is_on_top = bare == self._path and not any(one.strip() for one in self._new)
        return not is_on_top and not any(line.strip() in text for text in self._files.values())

    def _old_line(self, line: str) -> None:
        self._old.append(line)
        self._raw.append(line)
        self._events.append(OldLine(self._n_hunks, line))

    def _new_line(self, line: str) -> None:
        if not self._is_constrained:
            self._is_doubtful = self._is_doubtful or self._names_a_file(line)
        if self._closed_at is None and self._markers.before_close(line, State.NEW):
            self._closed_at = len(self._new)
        self._new.append(line)
        self._raw.append(line)
        self._events.append(NewLine(self._n_hunks, line))

    def _hunk(self) -> Hunk:
        old, new = tuple(self._old), tuple(self._new)
        is_stated, rival, is_constrained = self._is_path_stated, self._rival, self._is_constrained
        return Hunk(self._n_hunks, self._path, old, new, is_stated, False, rival, is_constrained)

    def _finish(self, line: str) -> None:
        if self._is_doubtful or self._closed_at is not None:
            self._drop("doubtful", line)
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
