"""What is shown to people does nothing, and what nobody sees is found."""

import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from singlepass.core.inert import inert, unseen, visible

# As VS Code reads the messages of a server (`parseLinkedText`), and as markdown has links and pictures.
LINK = re.compile(r"\[[^\]]*\]\([^)\s]", re.IGNORECASE)
SCHEME = re.compile(r"\b(command|javascript):\S", re.IGNORECASE)

HOSTILE = [
    "[Fix all](command:workbench.action.terminal.sendSequence?%7B%7D)",
    "[x](COMMAND:a)",
    "![x](https://example.com/a.png?secret)",
    "[x][y]\n[y]: https://example.com",
    '<img src="https://example.com/a.png">',
    "<a href='command:x'>y</a>",
    "<command:x>",
    "\x1b]8;;https://example.com\x07click\x1b]8;;\x07",
    "\x1b[2J\x1b[31mred",
    "\x9b31m",
    "\rover",
    "command:\x1fx",
    "a\u202eb\u2066c\u200b",
    "\U000e0041",
]
pieces = st.one_of(st.sampled_from(["](", "[", "!", "<", "img ", "command:", "\x1b[", "a", " "]), st.text())


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_messages(text: str) -> None:
    check(inert(text))
    assert inert(text) != text


@given(st.lists(pieces).map("".join))
def test_no_message_does_anything(text: str) -> None:
    check(inert(text))


def check(shown: str) -> None:
    assert not LINK.search(shown)
    assert not SCHEME.search(shown)
    assert not re.search(r"<[a-z!/?]", shown.replace("<U+", ""), re.IGNORECASE)
    for char in shown:
        assert char in "\n\t" or unicodedata.category(char) not in ("Cc", "Cs")
        assert not unseen("", char)


@pytest.mark.parametrize(
    "text", ["", "plain words", "a[0] = f(x)", "größe\t1", "if a < b: c", "list[int]", "a\nb", "x -> y: 5"]
)
def test_ordinary_messages_stay(text: str) -> None:
    assert inert(text) == visible(text) == text


def test_characters_that_nobody_sees_are_found_when_they_are_new() -> None:
    assert unseen("", "a\u202eb\u200b") == ["\u200b", "\u202e"]
    assert unseen("a\u200b", "\u200bb") == []
    assert unseen("a\u200b", "\u200bb\u200b") == ["\u200b"]
    assert unseen("\u202e", "plain größe 😀") == []


def test_every_control_of_direction_is_known() -> None:
    """By Unicode's own table: what turns text round, and formats it unseen."""
    for code in range(0x110000):
        char = chr(code)
        if unicodedata.bidirectional(char) in ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"):
            assert unseen("", char) == [char]


def test_all_of_a_diff_is_seen() -> None:
    assert visible("a\u202e\x1b[1m\u200b\tb\x07") == "a<U+202E>␛[1m<U+200B>\tb␇"
