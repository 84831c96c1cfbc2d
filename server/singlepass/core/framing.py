"""How messages are told apart on the editor's pipe: bytes in, whole messages out.

Theory of operation
===================

A message is a block of header lines, an empty line, and as many bytes as `Content-Length` says. pygls's
reader knows that header in one spelling, waits for ever when it is another one, and reads as many bytes as
it is told, however many. This one takes every spelling the specification allows, and is never lost:

- Of a message that is longer than `MAX_BODY`, nothing is kept. It is reported as `TooLong`, once, at its
  header.
- Bytes that are no header are reported as `Garbage`, once, and skipped up to the next `Content-Length`. A
  length that no message can have is garbage too, because waiting for it would be for ever.
- `reread` gives back a body that was no JSON because its length was wrong: the messages that it had
  swallowed are found. A header needs a line feed after it, and in JSON there is none inside a string, so
  that what stands in a document's text is never taken for a message.
"""

import re

import msgspec

MAX_BODY = 64 * 1024 * 1024
"""Bytes of the longest message that is read."""
MAX_SKIPPED = 1024 * 1024 * 1024
"""A length above this is no length."""
_MAX_HEADER = 8 * 1024

_START = re.compile(rb"content-length[ \t]*:", re.IGNORECASE)
_START_CHARS = len(b"content-length")
_LENGTH = re.compile(rb"content-length[ \t]*:[ \t]*([0-9]{1,20})[ \t]*", re.IGNORECASE)
_FIELD = re.compile(rb"[!-9;-~]+[ \t]*:[^\r\n]*")


class Body(msgspec.Struct, frozen=True):
    """A whole message."""

    data: bytes


class TooLong(msgspec.Struct, frozen=True):
    """A message that is not read."""

    n_bytes: int


class Garbage(msgspec.Struct, frozen=True):
    """Bytes that are no message; they begin like this."""

    start: bytes


Frame = Body | TooLong | Garbage


class Framing:
    """The reader of one pipe."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._n_body: int | None = None
        """How long the body is that comes; None while its header is read."""
        self._n_skip = 0
        self._lost = False
        """Whether garbage was reported and its end is looked for."""

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the pipe."""
        self._buffer += data

    def next_frame(self) -> Frame | None:
        """What comes first in the bytes there are; None when more are needed."""
        found: list[Frame] = []
        while not found:
            if not self._step(found):
                return None
        return found[0]

    def reread(self, body: bytes) -> None:
        """The body that came last is no message: look for what its wrong length has swallowed."""
        self._buffer[:0] = body[1:]
        self._lost = True

    def _step(self, found: list[Frame]) -> bool:
        """Take one thing off the buffer; False when more bytes are needed."""
        if self._n_skip:
            n_skipped = min(self._n_skip, len(self._buffer))
            del self._buffer[:n_skipped]
            self._n_skip -= n_skipped
            return not self._n_skip
        if self._n_body is not None:
            if len(self._buffer) < self._n_body:
                return False
            found.append(Body(bytes(self._buffer[: self._n_body])))
            del self._buffer[: self._n_body]
            self._n_body = None
            return True
        if self._lost and not self._found_start():
            return False
        return self._header(found)

    def _found_start(self) -> bool:
        start = _START.search(self._buffer)
        if start is None:
            # Its first half may be there already.
            del self._buffer[: max(0, len(self._buffer) - _START_CHARS - _MAX_HEADER)]
            return False
        del self._buffer[: start.start()]
        self._lost = False
        return True

    def _header(self, found: list[Frame]) -> bool:
        """Read header lines up to the empty one."""
        length: int | None = None
        at = 0
        while True:
            end = self._buffer.find(b"\n", at, at + _MAX_HEADER + 1)
            if end < 0:
                if len(self._buffer) - at > _MAX_HEADER or not self._may_be_header(at):
                    self._lose(found, 1)
                return bool(found)
            line = bytes(self._buffer[at:end]).removesuffix(b"\r")
            at = end + 1
            if not line:
                break
            if at > _MAX_HEADER or not _FIELD.fullmatch(line):
                return self._lose(found, 1)
            if _START.match(line):
                given = _LENGTH.fullmatch(line)
                if given is None or length is not None:
                    return self._lose(found, at)
                length = int(given[1])
        if length is None and at <= 2:
            del self._buffer[:at]  # an empty line between two messages does no harm
            return True
        if length is None or length > MAX_SKIPPED:
            return self._lose(found, at)
        del self._buffer[:at]
        if length > MAX_BODY:
            found.append(TooLong(length))
            self._n_skip = length
        else:
            self._n_body = length
        return True

    def _may_be_header(self, at: int) -> bool:
        """Whether the line that is not complete may become one of a header."""
        return not self._buffer[at : at + 1] or bool(re.match(rb"[!-9;-~\r]", self._buffer[at : at + 1]))

    def _lose(self, found: list[Frame], n: int) -> bool:
        """Report garbage, and look for the next header behind so many of its bytes."""
        found.append(Garbage(bytes(self._buffer[:40])))
        del self._buffer[:n]
        self._lost = True
        return True
