"""Detects replies that repeat themselves or grow without end (sans-IO).

A small model that lost its way writes the same lines until the token limit ends it: a minute at full load,
and nothing comes of it. A reply is a runaway if it

- repeats the lines that stand a fixed number of lines above, again and again; if the numbers in them differ,
  many more are needed, since tables and test data look like that;
- repeats a phrase within one line;
- has far more text than the files.

Code repeats itself too. The limits are such that no file of Python's standard library is a runaway, and where
a file to be edited would be one, its lines may be quoted.
"""

import re
from collections import deque
from collections.abc import Collection

MAX_LOOP = 40
"""Maximum number of lines in a loop."""
LOOP_LINES = 60
"""Number of lines in a row, each equal to the one a loop above, that make a reply a runaway. They must also
make three rounds after the first."""
LOOP_LINES_ALIKE = 300
"""The number of lines needed if the numbers in them differ."""
MAX_PHRASE = 400
"""Maximum number of characters in a repeated phrase."""
PHRASE_CHARS = 2_000
"""Number of characters at the end of a line that must consist of one repeated phrase."""
_LOOK_EVERY = 250
"""Number of new characters in a line before it is searched for a phrase again."""
MIN_ROOM = 40_000
"""A reply may have this many characters, plus four for each character of the editable files."""
ROOM_PER_CHAR = 4

REPEATS = "the model began to repeat itself, so the reply was ended"
GROWS = "the reply grew far beyond its files, so it was ended"

_NUMBER = re.compile(r"\d+")


class Runaway:
    """Watches one reply; `texts` are those of the editable files."""

    def __init__(self, texts: Collection[str] = ()) -> None:
        self._n_left = MIN_ROOM + ROOM_PER_CHAR * sum(map(len, texts))
        self._loops = None if any(_Loops().feed(text) for text in texts) else _Loops()

    def feed(self, text: str) -> str:
        """Read the next text of the reply. Returns why it is a runaway, in words; empty if it is none."""
        self._n_left -= len(text)
        if self._loops is not None and self._loops.feed(text):
            return REPEATS
        return GROWS if self._n_left < 0 else ""


class _Loops:
    def __init__(self) -> None:
        self._lines = _Lines(LOOP_LINES)
        self._alike = _Lines(LOOP_LINES_ALIKE)
        self._line = ""
        self._n_looked = 0

    def feed(self, text: str) -> bool:
        """Whether the text so far ends in a loop."""
        *lines, rest = text.split("\n")
        for line in lines:
            line, self._line, self._n_looked = self._line + line, "", 0
            if _repeats_a_phrase(line) or self._lines.add(line) or self._alike.add(_NUMBER.sub("0", line)):
                return True
        self._line += rest
        if len(self._line) < self._n_looked + _LOOK_EVERY:
            return False
        self._n_looked = len(self._line)
        return _repeats_a_phrase(self._line)


class _Lines:
    """Counts, for each possible length of a loop, how many lines in a row equal the one that far above."""

    def __init__(self, n_needed: int) -> None:
        self._n_needed = n_needed
        self._above: deque[str] = deque(maxlen=MAX_LOOP)
        self._n_equal: list[int] = []

    def add(self, line: str) -> bool:
        """Add a line. Returns whether the lines are a loop now."""
        if line in self._above:
            pairs = zip(self._n_equal, self._above, strict=True)
            self._n_equal = [n + 1 if line == one else 0 for n, one in pairs]
        else:
            self._n_equal = [0] * len(self._above)
        if len(self._above) < MAX_LOOP:
            self._n_equal.append(0)
        self._above.appendleft(line)
        if max(self._n_equal) < self._n_needed:
            return False
        return any(n >= max(self._n_needed, 3 * apart) for apart, n in enumerate(self._n_equal, 1))


def _repeats_a_phrase(line: str) -> bool:
    end = line[-PHRASE_CHARS:]
    if len(end) < PHRASE_CHARS:
        return False
    return any(end[n:] == end[:-n] for n in range(1, MAX_PHRASE + 1))
