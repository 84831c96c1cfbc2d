import struct

import pytest
from singlepass_backends.base import (
    Finished,
    GenerateRequest,
    Miss,
    ModelInfo,
    PrefillProgress,
    PrewarmRequest,
    Sampling,
    Segment,
    SegmentUse,
    TextChunk,
    Timings,
)
from singlepass_backends.wire import (
    MAX_FRAME_BYTES,
    Cancel,
    ClientMessage,
    Decoder,
    EngineMessage,
    Failed,
    Generate,
    Hello,
    Inspect,
    Inspected,
    Loaded,
    LoadFailed,
    Loading,
    Prewarm,
    Progress,
    Refused,
    StatusReply,
    StatusRequest,
    Stop,
    Stopping,
    Welcome,
    WireError,
    encode,
)

SEGMENTS = (Segment("system", "You edit code.", "system"), Segment("é.py", "naïve = '🙂'\n"))
TIMINGS = Timings(n_prompt=10, n_cached=4, n_prefilled=6, n_decoded=2, inferred=("n_cached",))

FROM_CLIENT: list[ClientMessage] = [
    Hello(1, "0.1.0"),
    Generate(1, GenerateRequest(SEGMENTS, "start: /a/", 10, Sampling(0.5, 0.9, 7))),
    Generate(2, GenerateRequest(())),
    Prewarm(3, PrewarmRequest(SEGMENTS, "start: /a/")),
    Inspect(6, (Segment("map", "x", shared=True),)),
    Cancel(1),
    StatusRequest(4),
    Stop(5, "shared"),
]
FROM_ENGINE: list[EngineMessage] = [
    Welcome(1, "0.1.0", 42),
    Refused(2, "0.2.0", 42, "no"),
    Loading(0.5),
    Loaded(ModelInfo(backend="llama_cpp", name="m")),
    LoadFailed("model_missing", "gone"),
    Progress(1, PrefillProgress(10, 4, 4, 0.0, None)),
    Progress(1, TextChunk("🙂", 1, 2.0)),
    Progress(1, Finished("stop", TIMINGS)),
    Progress(1, Finished("stop", TIMINGS, (SegmentUse("é.py", 5, 3),), Miss("é.py", 2, "changed"))),
    Inspected(6, (SegmentUse("map", 4, 4),)),
    Failed(1, "internal", "no", b"\x80"),
    StatusReply(
        id=4,
        pid=42,
        version="0.1.0",
        info=None,
        n_clients=1,
        n_queued=0,
        busy=False,
        n_cached=0,
        rss_bytes=1,
        uptime_s=1.0,
        idle_s=0.5,
        idle_exit_s=1800.0,
    ),
    Stopping(5, True),
]
CASES = [(ClientMessage, FROM_CLIENT), (EngineMessage, FROM_ENGINE)]


@pytest.mark.parametrize(("union", "messages"), CASES)
def test_every_split_gives_the_same_messages(union: object, messages: list) -> None:
    data = b"".join(map(encode, messages))
    for at in range(len(data) + 1):
        decoder: Decoder = Decoder(union)
        assert [*decoder.feed(data[:at]), *decoder.feed(data[at:])] == messages
    for size in (1, 3, 7, 64):
        decoder = Decoder(union)
        pieces = [data[at : at + size] for at in range(0, len(data), size)]
        assert [message for piece in pieces for message in decoder.feed(piece)] == messages


@pytest.mark.parametrize(
    "data",
    [
        struct.pack(">I", MAX_FRAME_BYTES + 1),
        b"GET / HTTP/1.1\r\n\r\n",
        struct.pack(">I", 1) + b"\x01",
        struct.pack(">I", 3) + b"\xff\xff\xff",
        encode(Loading(0.5)),  # a message of the other direction
        struct.pack(">I", 0),
        encode(Hello(1, "0.1.0")).replace(b"0.1.0", b"\xff.1.0"),
    ],
)
def test_bytes_that_are_not_the_protocol_are_refused(data: bytes) -> None:
    with pytest.raises(WireError):
        list(Decoder(ClientMessage).feed(data))


def test_messages_before_the_nonsense_are_delivered() -> None:
    messages = Decoder(ClientMessage).feed(encode(Cancel(1)) + b"\xff\xff\xff\xff")
    assert next(messages) == Cancel(1)
    with pytest.raises(WireError, match="over the limit"):
        next(messages)


def test_what_cannot_be_encoded() -> None:
    with pytest.raises(ValueError, match="surrogates"):
        encode(Prewarm(1, PrewarmRequest((Segment("a", "\ud800"),))))
    with pytest.raises(ValueError, match="over the limit"):
        encode(Prewarm(1, PrewarmRequest((Segment("a", "x" * MAX_FRAME_BYTES),))))
