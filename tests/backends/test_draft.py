"""What is guessed about the rest of a reply, and how much of it is worth a try."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from singlepass_backends.base import Draft
from singlepass_backends.generation.draft import Drafter, Follower
from singlepass_backends.generation.pace import Pace

OLD = b"def total(items):\n    count = 0\n    for item in items:\n        count += item\n    return count\n"


@pytest.mark.parametrize(
    ("new", "expected"),
    [
        pytest.param(b"", OLD, id="nothing yet"),
        pytest.param(b"def total(", b"items):\n    count = 0\n", id="a copy"),
        pytest.param(b"def tot", b"al(items):\n", id="within a word"),
        pytest.param(b"def sum_of(", b"items):\n    count = 0\n", id="a word replaced"),
        pytest.param(b"def total(items: list", b"):\n    count = 0\n", id="words added"),
        pytest.param(b"def total(items: list[int], start", b"):\n", id="many words added"),
        pytest.param(
            b"def total(items):\n    count = 0\n    rest = 1\n", b"    for item in", id="a line added"
        ),
        pytest.param(
            b"def total(items):\n    '''All of them, and nothing else.'''\n    x = call(1, 2)\n",
            b"    count = 0\n    for",
            id="two lines added",
        ),
        pytest.param(b"def total(items):\n    for item in items:\n", b"        count", id="a line left out"),
        pytest.param(
            b"def total(items):\n    count = None\n", b"    for item in items:\n", id="a line changed"
        ),
        pytest.param(OLD, b"", id="all of it"),
    ],
)
@pytest.mark.parametrize("n_chunk", [1, 3, 1000])
def test_new_text_is_expected_to_follow_the_old(new: bytes, expected: bytes, n_chunk: int) -> None:
    follower = Follower(OLD, {})
    for start in range(0, len(new), n_chunk):
        follower.append(new[start : start + n_chunk])
    assert follower.guess(1000).text.startswith(expected)
    if not expected:
        assert follower.guess(1000).text == b""


def test_a_word_that_was_replaced_is_replaced_again() -> None:
    changes: dict[bytes, bytes] = {}
    follower = Follower(OLD, changes)
    follower.append(b"def total(items):\n    n = 0\n")
    assert follower.guess(1000).text.endswith(b"        n += item\n    return n\n")
    assert changes == {b"count": b"n"}
    assert b"n += item" in Follower(OLD, changes).guess(1000).text


@given(st.binary(max_size=60), st.lists(st.binary(max_size=9), max_size=12))
def test_any_text_can_be_followed(old: bytes, new: list[bytes]) -> None:
    """In pieces or at once, which comes to the same."""
    pieces, whole = Follower(old, {}), Follower(old, {})
    for piece in new:
        pieces.append(piece)
        assert pieces.guess(7).text in old or pieces.guess(7)
    whole.append(b"".join(new))
    if len(new) < 2 or all(piece.isalnum() for piece in new):
        assert pieces.guess(20) == whole.guess(20)


SEARCH, SEPARATOR, CLOSE = "<<<<<<< SEARCH", "=======", ">>>>>>> REPLACE"


def drafter(opening: str = "", prompt: bytes = b"") -> Drafter:
    return Drafter(prompt, Draft(opening, SEARCH, SEPARATOR, CLOSE))


def said(one: Drafter, text: str, n_chunk: int = 1) -> dict[str, bytes]:
    data = text.encode()
    for start in range(0, len(data), n_chunk):
        one.append(data[start : start + n_chunk])
    found: dict[str, bytes] = {}
    for guess in one.guesses(200):
        found.setdefault(guess.kind, guess.text)
    return found


@pytest.mark.parametrize("n_chunk", [1, 4, 1000])
def test_each_part_of_a_reply_has_its_guesses(n_chunk: int) -> None:
    block = f"a.py\n{SEARCH}\nx = 1\n{SEPARATOR}\nx = 1\n"
    one = drafter(block)
    assert said(one, "")["opening"] == block.encode()
    assert said(one, f"a.py\n{SEARCH}\n", n_chunk)["opening"].startswith(b"x = 1\n=======\n")
    asked = said(one, "x = 1\n", n_chunk)
    assert asked["more"].startswith(b"=======\n")
    assert asked["stop"] == b"=======\nx = 1\n"
    assert said(one, f"{SEPARATOR}\n", n_chunk)["lines"] == f"x = 1\n{CLOSE}\n".encode()
    assert said(one, "x = 2", n_chunk)["change"] == f"\n{CLOSE}\n".encode()
    assert said(one, "\n", n_chunk)["lines"] == f"{CLOSE}\n".encode()
    assert "lines" not in said(one, f"{CLOSE}\n", n_chunk)


def test_a_renamed_word_is_expected_in_later_blocks() -> None:
    one = drafter()
    said(one, f"a.py\n{SEARCH}\nx = old + 1\n{SEPARATOR}\nx = new + 1\n{CLOSE}\n")
    found = said(one, f"a.py\n{SEARCH}\ny = old * 2\n{SEPARATOR}\n")
    assert found["lines"] == f"y = new * 2\n{CLOSE}\n".encode()


def test_what_stood_in_the_prompt_is_expected_again() -> None:
    prompt = b"import asyncio\nimport collections.abc\nimport contextlib\n"
    assert said(drafter(prompt=prompt), "import collections")["text"].startswith(b".abc\nimport contextlib\n")
    assert said(drafter(prompt=prompt), "x, coll")["echo"].startswith(b"ections.abc\n")
    assert said(drafter(prompt=prompt), "\x00") == {"opening": b""}


@pytest.mark.parametrize(
    "text", ["\r", "\x0c", "é", "\u2028", "<<<<<<< SEARCH", "=======\n=======\n", "\n\n"]
)
def test_strange_text_is_no_error(text: str) -> None:
    one = drafter(text, text.encode())
    for _ in range(3):
        said(one, text)


# Pace.


def learned(costs: dict[int, float]) -> Pace:
    pace = Pace(slope=0.5)
    for n, seconds in costs.items():
        pace.learn_pass(n, seconds)
    return pace


def test_much_is_drafted_where_a_larger_pass_costs_nothing_and_little_where_it_costs_much() -> None:
    flat, steep = (learned({n: slope * (n - 1) + 1 for n in (1, 2, 4, 8, 16, 32)}) for slope in (0.0, 0.25))
    assert flat.lengths(1, 30).get("lines", 0) == 30
    assert 0 < steep.lengths(1, 30).get("lines", 0) < 10
    assert "change" not in learned({1: 1.0, 2: 2.0, 4: 4.0}).lengths(1, 30)


def test_a_guess_that_fails_is_not_tried_any_more_and_again_some_time() -> None:
    pace = learned({1: 1.0, 2: 1.2, 4: 1.6, 8: 2.4})
    assert pace.lengths(1, 8).get("lines", 0) > 0
    for _ in range(200):
        pace.learn_draft("lines", 4, 0)
    assert pace.lengths(1, 8).get("lines", 0) == 0
    assert any(pace.lengths(1, 8).get("lines", 0) for _ in range(2000))


def test_a_guess_that_is_always_right_is_tried_for_ever() -> None:
    pace = learned({1: 1.0, 2: 1.2, 4: 1.6, 8: 2.4})
    for _ in range(3000):
        pace.learn_draft("text", 4, 4)
    assert pace.lengths(1, 7)["text"] == 7
    assert pace.expected("text", 7) < 7


def test_passes_are_filled_up_to_a_size_whose_cost_is_known() -> None:
    pace = learned({1: 1.0, 8: 1.1, 12: 4.0})
    assert pace.lengths(3, 30).get("lines", 0) == 5


@given(st.dictionaries(st.integers(1, 80), st.floats(0.001, 10), max_size=8), st.integers(1, 90))
def test_a_pass_has_a_cost_whatever_was_measured(seconds: dict[int, float], n: int) -> None:
    pace = learned(seconds)
    assert pace.cost(n) >= 0
    assert 0 <= pace.lengths(n, 20).get("text", 0) <= 20
