"""Offsets, positions and lines, against slow models that follow the protocol's words."""

from typing import Any

import pytest
from core.texts import texts
from hypothesis import given, settings
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
