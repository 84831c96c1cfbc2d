"""Message framing on the editor's pipe: bytes in, complete messages out.

Theory of operation
===================

A message consists of header lines, an empty line, and a body of `Content-Length` bytes. pygls's reader
supports only one spelling of that header, hangs on others, and reads messages of any length. This one accepts
every spelling that the specification allows, and recovers from all errors:

- A message longer than `MAX_BODY` is skipped, and reported as `TooLong` when its header was read.
  - Bytes that are not a header are reported as `Garbage` and skipped up to the next `Content-Length`. An
  impossible length is garbage too, because its body would never be complete. Long garbage is reported
  repeatedly, so that the reader can do something else in between. - A body that cannot be a message by its
  first byte is reported as `NotJson` at once, whatever its length. - `reread` searches a body that is not
  JSON again, because its header may have given a wrong length: messages that the body swallowed are found.
  The text of a document cannot be mistaken for a message, because a header needs a line feed, and strings in
  JSON contain none.

The time is proportional to the number of received bytes. Each header line is examined once: if it is not a
part of a header, no header that begins before it is complete either. The number of bytes that are read again
is limited to a few times those received, so that overlapping bodies with wrong lengths cannot cost more.
"""

import re

import msgspec

MAX_BODY = 64 * 1024 * 1024
"""Maximum length of a message, in bytes; longer ones are skipped."""
MAX_SKIPPED = 1024 * 1024 * 1024
"""Headers with a greater length are garbage."""
_MAX_HEADER = 8 * 1024
_WINDOW = 256 * 1024
"""Number of bytes of garbage that are searched at a time."""
_SPARE, _SPARE_EACH = 1024 * 1024, 2
"""Number of bytes that may be read again at the start, and how many more for each received byte."""

_START = re.compile(rb"content-length[ \t]{0,40}:", re.IGNORECASE)
_START_CHARS = len(b"content-length:") + 40
_LENGTH = re.compile(rb"content-length[ \t]*:[ \t]*([0-9]{1,20})[ \t]*", re.IGNORECASE)
_FIELD = re.compile(rb"[!-9;-~]+[ \t]*:[^\r\n]*")
_NOT_BLANK = re.compile(rb"[^ \t\r\n]")


class Body(msgspec.Struct, frozen=True):
    """The body of a complete message."""

    data: bytes


class TooLong(msgspec.Struct, frozen=True):
    """A message that is skipped because it is too long."""

    n_bytes: int


class NotJson(msgspec.Struct, frozen=True):
    """A header with a body that cannot be a message. The bytes after it are searched for headers."""


class Garbage(msgspec.Struct, frozen=True):
    """Bytes that are not a message; `start` is their beginning."""

    start: bytes


Frame = Body | TooLong | NotJson | Garbage


class Framing:
    """The parser of one pipe. `openings` are the bytes with which a body may begin; empty allows all."""

    def __init__(self, openings: bytes = b"") -> None:
        self._openings = openings
        self._buffer = bytearray()
        self._at = 0
        """Position in the buffer; everything before it is consumed."""
        self._n_header = 0
        """Number of bytes of the current header that were read."""
        self._length: int | None = None
        """The `Content-Length` of the current header."""
        self._hidden: int | None = None
        """A `Content-Length` that was found after other text in a header line, which may be the rest of an
        earlier message."""
        self._n_body: int | None = None
        """Length of the body to be read; None while a header is read."""
        self._body_at = 0
        """Position of the last body."""
        self._n_skip = 0
        """Number of bytes of a too long body that are still to be skipped."""
        self._lost = False
        """Whether garbage is being skipped."""
        self._n_lost = 0
        """Number of bytes of garbage since the last report."""
        self._spare = _SPARE
        """Number of bytes that may still be read again."""

    def feed(self, data: bytes) -> None:
        """Add the next bytes of the pipe."""
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
        """Search the last body again, because it is not a message. Must be called before the next `feed`."""
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
        # The buffer may end with the first part of a header name.
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
            # Two lengths: the first header may have been cut off. With `openings` the body shows whether the
            # second
            # one is right.
            if self._length is not None and not self._openings:
                return self._lose(found, n)
            if self._length is not None:
                self._report(found, self._n_header)
            self._length = int(given[1])
            self._n_header = 0  # the header begins here, after possible garbage
        elif (start := _START.search(line)) and (given := _LENGTH.fullmatch(line, start.start())):
            self._hidden = int(given[1])
        self._n_header += n
        self._at = end + 1
        return True

    def _end_header(self, found: list[Frame], n: int) -> bool:
        """Handle the empty line, of `n` bytes, that ends a header."""
        length = self._length if self._length is not None else self._hidden
        if length is None and not self._n_header:
            self._at += n  # ignore empty lines between messages
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
        """Whether the incomplete line may become a header line."""
        first = self._buffer[self._at : self._at + 1]
        return not first or bool(re.match(rb"[!-9;-~\r]", first))

    def _lose(self, found: list[Frame], n: int) -> bool:
        """Treat the current header and the next `n` bytes as garbage, and search for the next header."""
        self._report(found, self._n_header + n)
        self._at += n
        self._lost = True
        self._n_header, self._length, self._hidden = 0, None, None
        return True

    def _report(self, found: list[Frame], n: int) -> None:
        """Count `n` bytes of garbage, and report their beginning if they are the first or the window is
        full."""
        if n and (not self._n_lost or self._n_lost + n > _WINDOW):
            found.append(Garbage(bytes(self._buffer[self._at : self._at + 40])))
            self._n_lost = 0
        self._n_lost += n
