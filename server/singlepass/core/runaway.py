"""Tells when a reply goes round in circles, or on without an end (sans-IO).

A small model that lost its way writes the same lines until the token limit ends it: a minute at full load,
and nothing comes of it. Three things are a runaway:

- lines that repeat the ones a fixed number of lines above them, again and again; with other numbers in them
  many more are needed, since tables and test data look like that;
- one line that repeats a phrase;
- far more text than the files have.

Code repeats itself too. The limits are such that no file of Python's standard library is a runaway, and where
a file to be edited would be one, its lines may be quoted.
"""

import re
from collections import deque
from collections.abc import Collection

MOST_APART = 40
"""The longest loop, in lines."""
MOST_EQUAL = 60
"""From this many lines on that each repeat the one a loop above, lines are a runaway. There are at least four
rounds."""
MOST_ALIKE = 300
"""The same for lines whose numbers differ."""
LONGEST_PHRASE = 400
MOST_REPEATED = 2_000
"""From this many characters on a phrase that repeats in a line is a runaway."""
_LOOK_EVERY = 250
"""How many characters of a line come between two looks for a phrase."""
LEAST_ROOM = 40_000
ROOM_FOR_EACH = 4
"""A reply may have so many characters, and so many for each of the files that it may edit."""

REPEATS = "the model began to repeat itself, so the reply was ended"
GROWS = "the reply grew far beyond its files, so it was ended"

_NUMBER = re.compile(r"\d+")


class Runaway:
    """Watches one reply for edits of these texts."""

    def __init__(self, texts: Collection[str] = ()) -> None:
        self._n_left = LEAST_ROOM + ROOM_FOR_EACH * sum(map(len, texts))
        self._loops = None if any(_Loops().feed(text) for text in texts) else _Loops()

    def feed(self, text: str) -> str:
        """What is wrong with the reply, now that it goes on with this text; empty where nothing is."""
        self._n_left -= len(text)
        if self._loops is not None and self._loops.feed(text):
            return REPEATS
        return GROWS if self._n_left < 0 else ""


class _Loops:
    def __init__(self) -> None:
        self._lines = _Lines(MOST_EQUAL)
        self._alike = _Lines(MOST_ALIKE)
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
    """For each number of lines up to `MOST_APART`, how many in a row repeat the one so far above."""

    def __init__(self, n_most: int) -> None:
        self._n_most = n_most
        self._above: deque[str] = deque(maxlen=MOST_APART)
        self._n_equal: list[int] = []

    def add(self, line: str) -> bool:
        """Whether that are too many with this line."""
        if line in self._above:
            pairs = zip(self._n_equal, self._above, strict=True)
            self._n_equal = [n + 1 if line == one else 0 for n, one in pairs]
        else:
            self._n_equal = [0] * len(self._above)
        if len(self._above) < MOST_APART:
            self._n_equal.append(0)
        self._above.appendleft(line)
        if max(self._n_equal) < self._n_most:
            return False
        return any(n >= max(self._n_most, 3 * apart) for apart, n in enumerate(self._n_equal, 1))


def _repeats_a_phrase(line: str) -> bool:
    end = line[-MOST_REPEATED:]
    if len(end) < MOST_REPEATED:
        return False
    return any(end[n:] == end[:-n] for n in range(1, LONGEST_PHRASE + 1))
