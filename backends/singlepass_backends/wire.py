"""The messages between server and engine, and their framing.

The wire is a byte stream in both directions (currently a Unix socket; any stream would do). Each frame is a
4-byte big-endian length and that many bytes of msgpack. The client begins with `Hello`, and the engine
answers `Welcome` or `Refused`. After that both sides send messages at any time; `id` tells which request a
reply belongs to.

`Decoder` is sans-IO: feed it bytes in any pieces, and it returns complete messages.
"""

import struct
from collections.abc import Iterator
from typing import Any, Generic, Literal, TypeVar

import msgspec

from singlepass_backends.base import (
    Event,
    Evicted,
    GenerateRequest,
    ModelInfo,
    PrewarmRequest,
    Segment,
    SegmentUse,
)

PROTOCOL = 7
"""Incremented whenever a message changes its meaning; client and engine must have the same."""

MAX_FRAME_BYTES = 64 * 1024 * 1024

Message = TypeVar("Message")


class WireError(Exception):
    """The other side sent bytes that are not this protocol; the connection must be closed."""


class Hello(msgspec.Struct, frozen=True, tag=True):
    """The client's first message."""

    protocol: int
    version: str


class Generate(msgspec.Struct, frozen=True, tag=True):
    """Run a foreground request; answered by `Progress` or `Failed`."""

    id: int
    request: GenerateRequest


class Prewarm(msgspec.Struct, frozen=True, tag=True):
    """Run this prewarm when the engine is otherwise idle. Answered like `Generate`, without text, and
    possibly by `PrewarmEvicted` later. A newer prewarm of the same connection replaces it."""

    id: int
    request: PrewarmRequest


class Cancel(msgspec.Struct, frozen=True, tag=True):
    """Stop the request `id`, queued or running; it still ends with `Finished`."""

    id: int


class Inspect(msgspec.Struct, frozen=True, tag=True):
    """Ask how much of these segments is cached. Answered by `Inspected` or `Failed`, within one chunk."""

    id: int
    segments: tuple[Segment, ...]


class StatusRequest(msgspec.Struct, frozen=True, tag=True):
    """Ask for the engine's status. Answered by `StatusReply`."""

    id: int


Unless = Literal["never", "busy", "shared"]
"""The condition under which an engine is not stopped."""


class Stop(msgspec.Struct, frozen=True, tag=True):
    """Stop the engine: in any case, unless it is busy, or unless it is shared.

    It is busy if a foreground request is queued or running, and shared if it is busy or another client is
    connected.
    """

    id: int
    unless: Unless = "never"


ClientMessage = Hello | Generate | Prewarm | Inspect | Cancel | StatusRequest | Stop


class Welcome(msgspec.Struct, frozen=True, tag=True):
    """The engine's answer to a `Hello` of its own version."""

    protocol: int
    version: str
    pid: int


class Refused(msgspec.Struct, frozen=True, tag=True):
    """The engine speaks another protocol version. It still accepts `Stop` on this connection."""

    protocol: int
    version: str
    pid: int
    message: str


class Loading(msgspec.Struct, frozen=True, tag=True):
    """Sent to every connection while the model loads."""

    fraction: float


class Loaded(msgspec.Struct, frozen=True, tag=True):
    """Sent once to every connection: when the model is loaded, or on connecting if it already is."""

    info: ModelInfo


class LoadFailed(msgspec.Struct, frozen=True, tag=True):
    """The model cannot be loaded; the engine exits after telling every connection."""

    code: str
    message: str


class Progress(msgspec.Struct, frozen=True, tag=True):
    """One event of the request `id`. `Finished` is its last."""

    id: int
    event: Event


class Failed(msgspec.Struct, frozen=True, tag=True):
    """The request `id` ended in an error."""

    id: int
    code: str
    message: str
    data: bytes = b""
    """The error's `data`, encoded as msgpack."""


class PrewarmEvicted(msgspec.Struct, frozen=True, tag=True):
    """Other requests evicted a part of what the finished prewarm `id` had cached."""

    id: int
    evicted: Evicted


class Inspected(msgspec.Struct, frozen=True, tag=True):
    """The answer to `Inspect`."""

    id: int
    segments: tuple[SegmentUse, ...]


class StatusReply(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    """The engine's status."""

    id: int
    pid: int
    version: str
    info: ModelInfo | None
    """None while the model loads."""
    n_clients: int
    n_queued: int
    busy: bool
    n_cached: int
    """Tokens held in the KV cache."""
    rss_bytes: int
    uptime_s: float
    idle_s: float
    idle_exit_s: float


class Stopping(msgspec.Struct, frozen=True, tag=True):
    """The answer to `Stop`; `accepted` is False if the condition in `unless` holds."""

    id: int
    accepted: bool


EngineMessage = (
    Welcome
    | Refused
    | Loading
    | Loaded
    | LoadFailed
    | Progress
    | Failed
    | PrewarmEvicted
    | Inspected
    | StatusReply
    | Stopping
)

_encoder = msgspec.msgpack.Encoder()


def encode(message: ClientMessage | EngineMessage) -> bytes:
    """One frame. Raises ValueError above `MAX_FRAME_BYTES`, and for text with lone surrogates."""
    payload = _encoder.encode(message)
    if len(payload) > MAX_FRAME_BYTES:
        raise ValueError(f"a message of {len(payload):,} bytes is over the limit of {MAX_FRAME_BYTES:,}")
    return struct.pack(">I", len(payload)) + payload


class Decoder(Generic[Message]):
    """Turns bytes, in any pieces, into messages."""

    def __init__(self, messages: Any) -> None:
        """`messages` is the union to expect, `ClientMessage` or `EngineMessage`."""
        self._decode = msgspec.msgpack.Decoder[Message](messages).decode
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Message]:
        """The messages that `data` completes. Raises WireError; after that the stream is lost."""
        self._buffer += data
        while len(self._buffer) >= 4:
            (size,) = struct.unpack_from(">I", self._buffer)
            if size > MAX_FRAME_BYTES:
                raise WireError(f"a frame of {size:,} bytes is over the limit of {MAX_FRAME_BYTES:,}")
            if len(self._buffer) < 4 + size:
                return
            payload = bytes(self._buffer[4 : 4 + size])
            del self._buffer[: 4 + size]
            try:
                yield self._decode(payload)
            except (msgspec.MsgspecError, ValueError) as error:  # the latter for text that is not UTF-8
                raise WireError(f"not a message of this protocol: {error}") from None
