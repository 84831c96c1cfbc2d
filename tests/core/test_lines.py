"""Offsets, positions and lines, against slow models that follow the protocol's words."""

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from core.texts import texts
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from singlepass.core import lines
from singlepass.core.lines import Encoding, LineIndex, line_ending, split_lines, visible_lines

ENCODINGS: tuple[Encoding, ...] = ("utf-8", "utf-16", "utf-32")
CODECS = {"utf-8": ("utf-8", 1), "utf-16": ("utf-16-le", 2), "utf-32": ("utf-32-le", 4)}


def slow_positions(text: str, encoding: Encoding) -> list[tuple[int, int]]:
    """The position of every offset, walking character by character."""
    codec, unit = CODECS[encoding]
    positions: list[tuple[int, int]] = []
    line = character = 0
    for idx, char in enumerate(text):
        positions.append((line, character))
        if char == "\n" or (char == "\r" and text[idx + 1 : idx + 2] != "\n"):
            line, character = line + 1, 0
        else:
            character += len(char.encode(codec, "surrogatepass")) // unit
    return [*positions, (line, character)]


@pytest.mark.parametrize("encoding", ENCODINGS)
@settings(max_examples=150, deadline=None)
@given(text=texts())
def test_positions_and_offsets_agree_with_the_slow_model(encoding: Encoding, text: str) -> None:
    index = LineIndex(text, encoding)
    positions = slow_positions(text, encoding)
    assert [index.position(offset) for offset in range(len(text) + 1)] == positions
    assert index.n_lines == positions[-1][0] + 1

    for line in range(-1, index.n_lines + 1):
        on_line = [(place, offset) for offset, place in enumerate(positions) if place[0] == max(line, 0)]
        # A position in the middle of \r\n has an offset, but is past the content of its line.
        content = [(p, o) for p, o in on_line if text[o - 1 : o + 1] != "\r\n" or o == 0]
        for character in range(-1, 12):
            expected = max((o for p, o in content if p[1] <= max(character, 0)), default=len(text))
            assert index.offset(line, character) == expected
        if 0 <= line < index.n_lines:
            assert (index.line_start(line), index.line_end(line)) == (content[0][1], content[-1][1])


@pytest.fixture(params=[1, 2, 3, 7])
def small_blocks(request: pytest.FixtureRequest) -> Iterator[None]:
    """A text of a few lines lies in many blocks, as a long one does."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines, "_MIN_BLOCK", 4)
        patch.setattr(lines, "_block_size", lambda _: request.param)
        yield


spans = st.tuples(st.integers(0, 30), st.integers(0, 10), texts(max_lines=3))


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("encoding", ENCODINGS)
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=texts(), changes=st.lists(spans, max_size=5))
def test_an_index_that_was_changed_is_as_one_made_anew(
    encoding: Encoding, text: str, changes: Sequence[tuple[int, int, str]]
) -> None:
    index = LineIndex(text, encoding)
    for start, n, new in changes:
        start = min(start, len(text))
        end = min(start + n, len(text))
        index.change(start, end, new)
        text = text[:start] + new + text[end:]
        assert index.is_text(text)
        assert not index.is_text(text + "x")
        assert not text or not index.is_text(text[:-1] + "\ue000")
        assert (index.text, index.n_chars) == (text, len(text))
        positions = slow_positions(text, encoding)
        assert [index.position(offset) for offset in range(len(text) + 1)] == positions
        assert index.n_lines == positions[-1][0] + 1
        for line in range(index.n_lines + 1):
            content = [(p[1], o) for o, p in enumerate(positions) if p[0] == line]
            content = [(units, o) for units, o in content if text[o - 1 : o + 1] != "\r\n" or o == 0]
            assert index.line_end(line) == (content[-1][1] if content else len(text))
            for character in range(12):
                expected = max((o for units, o in content if units <= character), default=len(text))
                assert index.offset(line, character) == expected


@pytest.mark.parametrize(("start", "end"), [(-1, 0), (0, 4), (3, 2), (4, 4)])
def test_a_change_outside_of_the_text_is_an_error_and_changes_nothing(start: int, end: int) -> None:
    index = LineIndex("abc")
    with pytest.raises(ValueError, match="leaves the text of 3"):
        index.change(start, end, "x")
    assert index.text == "abc"


def test_a_text_that_grew_from_nothing() -> None:
    index = LineIndex("")
    for n in range(3000):
        index.change(index.n_chars, index.n_chars, f"line {n}\n")
    assert index.text == "".join(f"line {n}\n" for n in range(3000))
    assert index.position(index.text.index("line 2999")) == (2999, 0)


@settings(max_examples=200, deadline=None)
@given(text=texts())
def test_lines_tile_the_text(text: str) -> None:
    lines = split_lines(text)
    bom = 1 if text.startswith("\ufeff") else 0
    assert "".join(text[line.start : line.next] for line in lines) == text[bom:]
    assert all(text[line.end : line.next] in ("\n", "\r\n", "\r") for line in lines[:-1])
    assert not any(set(text[line.start : line.end]) & {"\n", "\r"} for line in lines)
    shown = visible_lines(text)
    assert [text[line.start : line.end].replace("\ud800", "\ufffd") for line in lines] == shown
    "".join(shown).encode()


@pytest.mark.parametrize(
    ("text", "shown", "eol"),
    [
        ("", [], "\n"),
        ("\ufeff", [], "\n"),
        ("a", ["a"], "\n"),
        ("a\n", ["a"], "\n"),
        ("\n", [""], "\n"),
        ("\ufeffa\r\nb\r\nc\n", ["a", "b", "c"], "\r\n"),
        ("a\rb\r", ["a", "b"], "\r"),
        ("a\x0cb\u2028c\x85d\n", ["a\x0cb\u2028c\x85d"], "\n"),
        ("a\r\nb\n", ["a", "b"], "\n"),
    ],
)
def test_visible_lines(text: str, shown: list[str], eol: str) -> None:
    assert visible_lines(text) == shown
    assert line_ending(text) == eol


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (("offset", 0, 2), 1),  # the second half of a surrogate pair
        (("offset", 0, 99), 2),
        (("offset", 9, 0), 6),
        (("offset", -1, -1), 0),
        (("position", 99), (2, 0)),
        (("position", -1), (0, 0)),
        (("position", 3), (0, 4)),  # between \r and \n
    ],
)
def test_what_lies_outside_is_moved_to_the_edge(call: tuple[Any, ...], expected: object) -> None:
    index = LineIndex("a\U0001f600\r\nb\n", "utf-16")
    assert getattr(index, call[0])(*call[1:]) == expected
