"""Messages on a pipe: every spelling, every split, every kind of nonsense between them."""

import json
import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from singlepass.lsp import framing
from singlepass.lsp.framing import Body, Frame, Framing, Garbage, NotJson, TooLong


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


FALSE_HEADERS = [
    b"X: Content-Length: 5\r\n",
    b"Content-Length: 5\r\n",
    b"Content-Length: 50\r\n\r\n",
    b"Content-Length: 50\r\n\r\n{",
    b"Content-Length: 1000000\r\n\r\n",
    b"Content-Length: 0\r\n\r\n",
    b"Content-Length: x",
    b"Content-Length:",
    b"content-lengt",
    b"A: b\r\n",
    b"\r\n",
]


@pytest.mark.parametrize("one", FALSE_HEADERS)
def test_a_message_behind_many_false_headers_is_read(one: bytes) -> None:
    """Each byte is looked at a few times at most: what the reader is asked for is in proportion to them."""
    for n in (1, 2, 3, 400):
        reader = Framing(b"{[")
        found = read_json(reader, one * n + framed(b'{"id": 1}') + b" " * 100 + framed(b'{"id": 2}'))
        assert found[-1] == b'{"id": 2}'
        assert found[0] == b'{"id": 1}' or b"50" in one  # the last false header takes the message along


@given(st.lists(st.sampled_from(FALSE_HEADERS), max_size=40), st.lists(st.integers(1, 40), max_size=12))
def test_false_headers_are_found_out_alike_however_they_are_split(
    headers: list[bytes], sizes: list[int]
) -> None:
    data = b"".join(headers) + framed(b"{}")

    def frames(sizes: Sequence[int]) -> list[Frame]:
        reader, at, found = Framing(b"{["), 0, []
        for size in [*sizes, len(data)]:
            reader.feed(data[at : at + size])
            at += size
            while (frame := reader.next_frame()) is not None:
                found.append(frame)
                if isinstance(frame, Body) and frame.data not in (b"{}", b""):
                    reader.reread(frame.data)
        return [one for one in found if not isinstance(one, Garbage)]

    assert frames(sizes) == frames([])


def test_a_body_that_begins_as_no_message_is_not_waited_for() -> None:
    reader = Framing(b"{[")
    assert feed(reader, b"Content-Length: 60000000\r\n\r\n \n") == []
    assert feed(reader, b"x") == [NotJson()]
    assert feed(reader, framed(b" [1]")) == [Body(b" [1]")]


def test_bytes_are_given_back_a_few_times_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """False lengths that reach over each other would have all that follows read at each of them."""
    monkeypatch.setattr(framing, "_SPARE", 10_000)
    reader = Framing(b"{[")
    data = b"Content-Length: 9000\r\n\r\n{" * 2000
    reader.feed(data + b" " * 9000 + framed(b'{"id": 1}'))
    n_read = 0
    while (frame := reader.next_frame()) is not None:
        if isinstance(frame, Body) and frame.data != b'{"id": 1}':
            n_read += len(frame.data)
            reader.reread(frame.data)
    assert frame is None
    assert len(data) < n_read < 5 * len(data)


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
