"""Streams of remote servers and what is around a reply, however they are cut."""

import itertools
from collections.abc import Callable
from typing import Any

import pytest
from endpoints import LM_STUDIO_STREAM, OLLAMA_STREAM, event, reply
from singlepass_backends.drivers.remote.replies import (
    Format,
    Lines,
    Piece,
    ReplyError,
    ReplyFilter,
    StreamReader,
)

# Streams, sans-IO.


def check_every_split(run: Callable[[list[Any]], Any], whole: Any) -> None:
    """The result is the same however `whole` is cut: in one, in two at each place, in ones, and at random."""
    expected = run([whole])
    ones = [whole[at : at + 1] for at in range(len(whole))]
    assert run(ones) == expected
    for at in range(len(whole)):
        assert run([whole[:at], whole[at:]]) == expected
    for step in (2, 3, 7):
        assert run([whole[at : at + step] for at in range(0, len(whole), step)]) == expected


def pieces(format: Format, parts: list[bytes], *, is_sse: bool = True) -> list[Piece]:
    reader = StreamReader(format, is_sse=is_sse)
    found = [piece for part in parts for piece in reader.feed(part)]
    return [*found, *reader.close()]


@pytest.mark.parametrize("newline", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
def test_every_split_of_a_stream_gives_the_same_pieces(newline: bytes, bom: bytes) -> None:
    stream = (
        bom
        + b": ping\n\nevent: x\nid: 3\nretry: 5\n"
        + reply(["nä", "🙂", "\u2028\x85"], usage={"prompt_tokens": 5})
    )
    stream = stream.replace(b"\n", newline)
    found = pieces("openai", [stream])
    assert "".join(piece.text for piece in found) == "nä🙂\u2028\x85"
    assert found[-1].is_end
    check_every_split(lambda parts: pieces("openai", parts), stream)


def test_every_split_of_the_other_formats() -> None:
    found = pieces("ollama", [OLLAMA_STREAM], is_sse=False)
    assert [piece.text for piece in found] == ["", "Hé", ""]
    assert found[-1].report["prefill_ms"] == pytest.approx(342.546)
    check_every_split(lambda parts: pieces("ollama", parts, is_sse=False), OLLAMA_STREAM)
    found = pieces("lm_studio", [LM_STUDIO_STREAM])
    assert "".join(piece.text for piece in found) == "The ënd"
    assert found[-1].report == {"n_prompt": 329, "n_decoded": 40, "prefill_ms": 500, "decode_ms": 2000}
    check_every_split(lambda parts: pieces("lm_studio", parts), LM_STUDIO_STREAM)


def test_streams_that_are_none() -> None:
    with pytest.raises(ReplyError, match="not JSON"):
        pieces("openai", [b"data: {nonsense\n\n"])
    with pytest.raises(ReplyError, match="a line of over"):
        Lines().feed(b"x" * 1_000_001)
    odd: list[Any] = [[], 3, None, '"x"', {"choices": 3}, {"choices": [3]}, {"choices": [{"delta": 4}]}]
    odd += [{"choices": [{"delta": {"content": 5}}]}, {"usage": [1]}, {"timings": {"prompt_n": "many"}}]
    odd += [
        {"choices": [], "prompt_progress": 7},
        {"usage": {"prompt_tokens": -1, "completion_tokens": True}},
    ]
    for payload in odd:
        for format in ("openai", "ollama", "lm_studio"):
            assert not "".join(piece.text for piece in pieces(format, [event(payload)]))


FILTERED = [
    ("plain\ntext", "plain\ntext"),
    ("", ""),
    ("  \n\n  indented\n", "  indented\n"),
    ("<think>x\n</think>\n\nreply\n", "reply\n"),
    ("<think></think>", ""),
    ("<think>never closed", ""),
    ("<think>a</think>\n<think>b</think>```x\nreply\n```\n\n \n", "```x\nreply\n```\n\n \n"),
    ("<thinking>x</thinking>reply", "reply"),
    ("[THINK]x[/THINK]reply", "reply"),
    ("<thi", "<thi"),
    ("<thing>", "<thing>"),
    ("reply <think>stays</think>", "reply <think>stays</think>"),
    # Fences stay: the server sees whether they are the reply's own.
    ("```python\nreply\n```\n", "```python\nreply\n```\n"),
    ("\n```\n\n", "```\n\n"),
    ("`code` first\n", "`code` first\n"),
]


@pytest.mark.parametrize(("written", "kept"), FILTERED)
def test_every_split_of_what_is_around_a_reply(written: str, kept: str) -> None:
    def filtered(parts: list[str]) -> str:
        reply_filter = ReplyFilter()
        return "".join(reply_filter.feed(part) for part in parts) + reply_filter.close()

    assert filtered([written]) == kept
    check_every_split(filtered, written)
    for first, second in itertools.combinations(range(len(written)), 2):
        assert filtered([written[:first], written[first:second], written[second:]]) == kept
