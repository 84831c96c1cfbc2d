"""Message framing on the editor's pipe: bytes in, complete messages out.

Theory of operation
===================

A message is a block of header lines, an empty line, and as many bytes as `Content-Length` says. pygls's
reader supports that header in one spelling only, hangs on others, and reads messages of any length. This one
accepts every spelling that the specification allows, and recovers from all errors:

- Of a message that is longer than `MAX_BODY`, nothing is kept. It is reported as `TooLong`, once, at its
  header.
- Bytes that are no header are reported as `Garbage` and skipped up to the next `Content-Length`. A length
  that no message can have is garbage too, because waiting for it would be for ever. Many such bytes are
  reported more than once, so that who reads can do something else in between.
- A body that begins as no message does is reported as `NotJson` at once, however long its header says it is.
- `reread` gives back a body that was no JSON because its length was wrong: the messages that it had
  swallowed are found. A header needs a line feed after it, and in JSON there is none inside a string, so
  that what stands in a document's text is never taken for a message.

All this takes time in proportion to the bytes that come. A header line is looked at once: where it turns out
to belong to no header, none that begins before it can be whole either. And only a few times as many bytes are
given back as come, so bodies of false lengths that reach over each other are read only for a while.
"""

import re

import msgspec

MAX_BODY = 64 * 1024 * 1024
"""Bytes of the longest message that is read."""
MAX_SKIPPED = 1024 * 1024 * 1024
"""A length above this is no length."""
_MAX_HEADER = 8 * 1024
_WINDOW = 256 * 1024
"""Bytes of garbage that are looked through at a time."""
_SPARE, _SPARE_EACH = 1024 * 1024, 2
"""Bytes that can be read again from the start, and how many more with each byte that comes."""

_START = re.compile(rb"content-length[ \t]{0,40}:", re.IGNORECASE)
_START_CHARS = len(b"content-length:") + 40
_LENGTH = re.compile(rb"content-length[ \t]*:[ \t]*([0-9]{1,20})[ \t]*", re.IGNORECASE)
_FIELD = re.compile(rb"[!-9;-~]+[ \t]*:[^\r\n]*")
_NOT_BLANK = re.compile(rb"[^ \t\r\n]")


class Body(msgspec.Struct, frozen=True):
    """A whole message."""

    data: bytes


class TooLong(msgspec.Struct, frozen=True):
    """A message that is not read."""

    n_bytes: int


class NotJson(msgspec.Struct, frozen=True):
    """A header with a body that cannot be a message. The bytes after it are searched for headers."""


class Garbage(msgspec.Struct, frozen=True):
    """Bytes that are not a message; `start` is their beginning."""

    start: bytes


Frame = Body | TooLong | NotJson | Garbage


class Framing:
    """The reader of one pipe. `openings` are the bytes that a body may begin with; by default all."""

    def __init__(self, openings: bytes = b"") -> None:
        self._openings = openings
        self._buffer = bytearray()
        self._at = 0
        """All before it is taken."""
        self._n_header = 0
        """Bytes of the header lines that were read of a message."""
        self._length: int | None = None
        """What they say."""
        self._hidden: int | None = None
        """What one says behind other text, which may be what is left of a message before."""
        self._n_body: int | None = None
        """How long the body is that comes; None while its header is read."""
        self._body_at = 0
        """Where the last one began."""
        self._n_skip = 0
        self._lost = False
        """Whether garbage was found and its end is looked for."""
        self._n_lost = 0
        """Bytes of garbage since the last report."""
        self._spare = _SPARE

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the pipe."""
        del self._buffer[: self._at]
        self._at = 0
        self._buffer += data
        self._spare = min(self._spare + _SPARE_EACH * len(data), 4 * MAX_BODY)

    def next_frame(self) -> Frame | None:
        """The next frame; None if more bytes are needed."""
        found: list[Frame] = []
        while not found:
            if not self._step(found):
                return None
        return found[0]

    def reread(self, body: bytes) -> None:
        """The body that came last is no message: look for what its wrong length has swallowed.

        To be called before `feed`.
        """
        if len(body) <= self._spare:
            self._spare -= len(body)
            self._at = self._body_at
        self._lost, self._n_lost = True, 1

    def _step(self, found: list[Frame]) -> bool:
        """Consume one item of the buffer; False if more bytes are needed."""
        if self._n_skip:
            n_skipped = min(self._n_skip, len(self._buffer) - self._at)
            self._at += n_skipped
            self._n_skip -= n_skipped
            return not self._n_skip
        if self._n_body is not None:
            return self._body(found, self._n_body)
        if self._lost:
            return self._look_for_start(found)
        return self._line(found)

    def _body(self, found: list[Frame], n: int) -> bool:
        if n and self._openings:
            first = _NOT_BLANK.search(self._buffer, self._at, self._at + n)
            if first is not None and first[0] not in self._openings:
                found.append(NotJson())
                self._n_body = None
                self._lost, self._n_lost = True, 1
                return True
        if len(self._buffer) - self._at < n:
            return False
        self._body_at = self._at
        self._at += n
        found.append(Body(bytes(memoryview(self._buffer)[self._body_at : self._at])))
        self._n_body = None
        return True

    def _look_for_start(self, found: list[Frame]) -> bool:
        """Skip garbage up to the next header."""
        end = min(len(self._buffer), self._at + _WINDOW)
        start = _START.search(self._buffer, self._at, end)
        if start is not None:
            self._n_lost += start.start() - self._at
            self._at = start.start()
            self._lost = False
            return True
        # Its first half may be there already.
        n_looked = max(0, end - self._at - _START_CHARS)
        self._report(found, n_looked)
        self._at += n_looked
        return bool(found) or end < len(self._buffer)

    def _line(self, found: list[Frame]) -> bool:
        """Read one line of a header."""
        buffer, at = self._buffer, self._at
        end = buffer.find(b"\n", at, at + _MAX_HEADER + 1)
        if end < 0:
            if len(buffer) - at <= _MAX_HEADER and self._may_be_header():
                return False
            return self._lose(found, 1)
        line = bytes(buffer[at:end]).removesuffix(b"\r")
        n = end + 1 - at
        if not line:
            return self._end_header(found, n)
        if not _FIELD.fullmatch(line):
            return self._lose(found, 1)
        if self._n_header + n > _MAX_HEADER:
            return self._lose(found, 0)
        if _START.match(line):
            given = _LENGTH.fullmatch(line)
            if given is None:
                *_, last = _START.finditer(line)
                return self._lose(found, last.start() or n)
            # Of two headers the first may have been cut off; whether a body comes behind the second is seen.
            if self._length is not None and not self._openings:
                return self._lose(found, n)
            if self._length is not None:
                self._report(found, self._n_header)
            self._length = int(given[1])
            self._n_header = 0  # if garbage stood before, the header begins here
        elif (start := _START.search(line)) and (given := _LENGTH.fullmatch(line, start.start())):
            self._hidden = int(given[1])
        self._n_header += n
        self._at = end + 1
        return True

    def _end_header(self, found: list[Frame], n: int) -> bool:
        """An empty line of `n` bytes."""
        length = self._length if self._length is not None else self._hidden
        if length is None and not self._n_header:
            self._at += n  # an empty line between two messages does no harm
            return True
        if length is None or length > MAX_SKIPPED:
            return self._lose(found, n)
        self._at += n
        self._n_header, self._length, self._hidden, self._n_lost = 0, None, None, 0
        if length > MAX_BODY:
            found.append(TooLong(length))
            self._n_skip = length
        else:
            self._n_body = length
        return True

    def _may_be_header(self) -> bool:
        """Whether the line that is not complete may become one of a header."""
        first = self._buffer[self._at : self._at + 1]
        return not first or bool(re.match(rb"[!-9;-~\r]", first))

    def _lose(self, found: list[Frame], n: int) -> bool:
        """What was read of a header is none; look for the next behind so many bytes more."""
        self._report(found, self._n_header + n)
        self._at += n
        self._lost = True
        self._n_header, self._length, self._hidden = 0, None, None
        return True

    def _report(self, found: list[Frame], n: int) -> None:
        """So many bytes of garbage are skipped: report their beginning, and much of it again and again."""
        if n and (not self._n_lost or self._n_lost + n > _WINDOW):
            found.append(Garbage(bytes(self._buffer[self._at : self._at + 40])))
            self._n_lost = 0
        self._n_lost += n
