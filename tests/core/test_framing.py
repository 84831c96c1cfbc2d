"""Messages on a pipe: every spelling, every split, every kind of nonsense between them."""

import json
import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from singlepass.core import framing
from singlepass.core.framing import Body, Frame, Framing, Garbage, TooLong


def framed(body: bytes, header: bytes = b"Content-Length: %d\r\n\r\n") -> bytes:
    return header % len(body) + body


def read(data: bytes, sizes: Sequence[int] = ()) -> list[Frame]:
    """All frames of the bytes, fed in pieces of these sizes and the rest byte by byte."""
    reader = Framing()
    frames: list[Frame] = []
    at = 0
    for size in [*sizes, *([1] * len(data))]:
        frames += feed(reader, data[at : at + size])
        at += size
    return frames


def feed(reader: Framing, data: bytes) -> list[Frame]:
    reader.feed(data)
    frames: list[Frame] = []
    while (frame := reader.next_frame()) is not None:
        frames.append(frame)
    return frames


def bodies(frames: Sequence[Frame]) -> list[bytes]:
    return [one.data for one in frames if isinstance(one, Body)]


@pytest.mark.parametrize(
    "header",
    [
        b"Content-Length: %d\r\n\r\n",
        b"content-length: %d\r\n\r\n",
        b"CONTENT-LENGTH:%d\r\n\r\n",
        b"Content-Length:\t %d \r\n\r\n",
        b"Content-Type: application/vscode-jsonrpc; charset=utf-8\r\nContent-Length: %d\r\n\r\n",
        b"Content-Length: %d\r\nX-More: a: b\r\n\r\n",
        b"Content-Length: %d\n\n",
        b"\r\nContent-Length: %d\r\n\r\n",
    ],
)
def test_spellings(header: bytes) -> None:
    data = framed(b'{"a": 1}', header) + framed(b"{}", header)
    assert read(data, [len(data)]) == read(data) == [Body(b'{"a": 1}'), Body(b"{}")]


@pytest.mark.parametrize(
    "nonsense",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x00\xff\xfe",
        b"Content-Length: -5\r\n\r\n",
        b"Content-Length: 1e3\r\n\r\n",
        b"Content-Length: 99999999999999999999\r\n\r\n",
        b"Content-Length: 1099511627776\r\n\r\n",
        b"Content-Length: \xd9\xa3\r\n\r\n",
        b"Content-Length: 3\r\nContent-Length: 4\r\n\r\n",
        b"X: y\r\n\r\n",
        b"{}\n",
        b"A" * 20_000,
        b"X: " + b"y" * 20_000 + b"\r\n\r\n",
    ],
)
def test_after_nonsense_the_next_message_is_read(nonsense: bytes) -> None:
    for data in (nonsense + framed(b"{}"), framed(b"[]") + nonsense + framed(b"{}")):
        frames = read(data, [len(data)])
        assert bodies(frames)[-1] == b"{}"
        assert any(isinstance(one, Garbage) for one in frames)
        assert bodies(read(data, [7] * (len(data) // 7))) == bodies(frames)


def test_nothing_of_a_message_that_is_too_long_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(framing, "MAX_BODY", 100)
    reader = Framing()
    assert feed(reader, b"Content-Length: 1000\r\n\r\n") == [TooLong(1000)]
    for _ in range(10):
        assert feed(reader, b"x" * 100) == []
    assert feed(reader, framed(b"{}")) == [Body(b"{}")]
    assert feed(reader, framed(b"x" * 100)) == [Body(b"x" * 100)]


def read_json(reader: Framing, data: bytes) -> list[bytes]:
    """The bodies that are JSON objects; others are read again."""
    reader.feed(data)
    found: list[bytes] = []
    while (frame := reader.next_frame()) is not None:
        if isinstance(frame, Body):
            try:
                json.loads(frame.data)
                found.append(frame.data)
            except ValueError:
                reader.reread(frame.data)
    return found


@pytest.mark.parametrize("n_bytes", range(3, 60))
def test_what_a_wrong_length_swallowed_is_found_again(n_bytes: int) -> None:
    start = b"Content-Length: %d\r\n\r\n{" % n_bytes
    data = start + framed(b'{"id": 1}') + framed(b'{"id": 2}') + framed(b'{"id": 3}')
    assert read_json(Framing(), data) == [b'{"id": 1}', b'{"id": 2}', b'{"id": 3}']


@given(
    st.lists(st.binary(max_size=30), max_size=6),
    st.lists(st.integers(1, 40), max_size=12),
)
def test_every_split_gives_the_same(texts: list[bytes], sizes: list[int]) -> None:
    data = b"".join(map(framed, texts))
    assert read(data, sizes) == [Body(text) for text in texts]


@given(st.binary(max_size=200), st.lists(st.integers(1, 40), max_size=12))
def test_any_bytes_are_read_without_an_error_and_alike_however_split(data: bytes, sizes: list[int]) -> None:
    assert bodies(read(data, [len(data)])) == bodies(read(data, sizes))


def test_mutated_streams_are_read_on() -> None:
    """Whatever happened to a message, those that come after it are found, all and once."""
    chance = random.Random(5)
    later = b"".join(framed(b'{"id": %d}' % number) for number in range(10, 20))
    for _ in range(2000):
        broken = bytearray(framed(b'{"id": 1}'))
        for _ in range(chance.randint(1, 4)):
            broken[chance.randrange(len(broken))] = chance.randrange(256)
        found = read_json(Framing(), bytes(broken) + later)
        assert found[-10:] == [b'{"id": %d}' % number for number in range(10, 20)], bytes(broken)
