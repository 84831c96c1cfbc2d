"""What is guessed about the rest of a reply, and how much of it is worth a try."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from singlepass_backends.base import Draft
from singlepass_backends.generation.drafting.draft import Drafter, Follower
from singlepass_backends.generation.drafting.pace import Pace

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


def drafter(opening: str = "", document: str = "", likely: tuple[str, ...] = ()) -> Drafter:
    return Drafter(Draft(opening, SEARCH, SEPARATOR, CLOSE, likely, document))


def said(one: Drafter, text: str, n_chunk: int = 1) -> dict[str, bytes]:
    data = text.encode()
    for start in range(0, len(data), n_chunk):
        one.append(data[start : start + n_chunk])
    return {guess.kind: guess.text for guess in one.guesses(200)}


def at_line_start(one: Drafter, more: str = "") -> list[tuple[str, str]]:
    return [(guess.kind, guess.text.decode()) for guess in one.starts(one.text + more.encode())]


@pytest.mark.parametrize("n_chunk", [1, 4, 1000])
def test_each_part_of_a_reply_has_its_guesses(n_chunk: int) -> None:
    block = f"a.py\n{SEARCH}\nx = 1\n{SEPARATOR}\nx = 1\n"
    one = drafter(block, document="y = 0\nx = 1\nz = 2\n", likely=("x = 1\n",))
    assert said(one, "")["opening"] == block.encode()
    assert said(one, f"a.py\n{SEARCH}\n", n_chunk)["opening"].startswith(b"x = 1\n=======\n")
    assert at_line_start(one) == [("first", "x = 1\n")]
    asked = said(one, "x = 1\n", n_chunk)
    assert asked["opening"].startswith(b"=======\n")
    assert asked["more"] == b"z = 2\n"
    assert at_line_start(one) == [("stop", "=======\nx = 1\n")]
    assert said(one, f"{SEPARATOR}\n", n_chunk)["lines"] == f"x = 1\n{CLOSE}\n".encode()
    assert said(one, "x = 2", n_chunk)["change"] == f"\n{CLOSE}\n".encode()
    assert said(one, "\n", n_chunk)["lines"] == f"{CLOSE}\n".encode()
    assert at_line_start(one) == [("close", f"{CLOSE}\n")]
    assert "lines" not in said(one, f"{CLOSE}\n", n_chunk)
    assert at_line_start(one) == [("next", f"a.py\n{SEARCH}\n")]


def test_what_may_come_after_a_guess_is_guessed_too() -> None:
    one = drafter()
    said(one, f"a.py\n{SEARCH}\nx = 1\n")
    assert at_line_start(one, "y = 2\n") == [("stop", "=======\nx = 1\ny = 2\n")]
    assert at_line_start(one, "=======\n") == [("close", f"{CLOSE}\n")]
    assert at_line_start(one, f"=======\n{CLOSE}\n") == [("next", f"a.py\n{SEARCH}\n")]


def test_a_renamed_word_is_expected_in_later_blocks() -> None:
    one = drafter(document="x = old + 1\nz = 3\ny = old * 2\n")
    said(one, f"a.py\n{SEARCH}\nx = old + 1\n{SEPARATOR}\nx = new + 1\n{CLOSE}\n")
    said(one, f"a.py\n{SEARCH}\n")
    assert at_line_start(one) == [("first", "y = old * 2\n")]
    found = said(one, f"y = old * 2\n{SEPARATOR}\n")
    assert found["lines"] == f"y = new * 2\n{CLOSE}\n".encode()


@pytest.mark.parametrize(
    "text", ["\r", "\x0c", "é", "\u2028", "<<<<<<< SEARCH", "=======\n=======\n", "\n\n"]
)
def test_strange_text_is_no_error(text: str) -> None:
    one = drafter(text, text, (text,))
    for _ in range(3):
        said(one, text)
        at_line_start(one, "\n")


# Pace.


def learned(costs: dict[int, float]) -> Pace:
    pace = Pace(slope=0.5)
    for n, seconds in costs.items():
        pace.learn_pass(n, seconds)
    return pace


SURE, UNSURE = [0.95**n for n in range(1, 31)], [0.3**n for n in range(1, 31)]
FREE, FORCED = [False] * 30, [True] * 30


def test_much_is_drafted_where_a_larger_pass_costs_nothing_and_little_where_it_costs_much() -> None:
    flat, steep = (learned({n: slope * (n - 1) + 1 for n in (1, 2, 4, 8, 16, 32)}) for slope in (0.0, 0.25))
    assert flat.best_size(1, SURE, FREE) == 30
    assert 0 < steep.best_size(1, SURE, FREE) < 20
    assert flat.best_size(1, UNSURE, FREE) > 0
    assert learned({1: 1.0, 2: 2.0, 4: 4.0}).best_size(1, UNSURE, FREE) == 0


def test_what_the_grammar_forces_is_no_reason_to_draft() -> None:
    """It joins the next pass unasked, and saves only what it would have cost there."""
    steep = learned({n: 0.25 * (n - 1) + 1 for n in (1, 2, 4, 8, 16, 32)})
    assert steep.best_size(1, [0.8] * 30, FORCED) == 0 < steep.best_size(1, [0.8] * 30, FREE)


def test_a_token_is_worth_less_where_drafts_made_tokens_cheap() -> None:
    costs = {n: 0.1 * (n - 1) + 1 for n in (1, 2, 4, 8, 16, 32)}
    fast, slow = learned(costs), learned(costs)
    for _ in range(100):
        for pace, n_said in ((fast, 6), (slow, 1)):
            pace.learn_pass(1, 1.0)
            pace.learn_output(n_said, 0)
    assert 0 < fast.best_size(1, SURE, FREE) < slow.best_size(1, SURE, FREE)


def test_no_more_is_looked_for_than_can_pay() -> None:
    flat, steep = (learned({n: slope * (n - 1) + 1 for n in (1, 2, 4, 8, 16, 32)}) for slope in (0.0, 0.5))
    assert not any(flat.is_saturated(1, SURE[:n], FREE[:n]) for n in range(30))
    assert any(steep.is_saturated(1, UNSURE[:n], FREE[:n]) for n in range(8))
    assert learned({1: 0.001}).limit(1, 30) == 0, "a tiny model's pass is shorter than the looking"


def test_a_guess_that_fails_is_expected_less_and_more_again_some_time() -> None:
    pace = learned({1: 1.0, 2: 2.0, 4: 4.0, 8: 8.0})
    before = pace.acceptance("lines", "line")
    for _ in range(200):
        pace.learn_guess("lines", "line", is_accepted=False)
    worst = pace.acceptance("lines", "line")
    assert worst < 0.05 < before
    for _ in range(2000):
        pace.best_size(1, [worst], [False])
    assert pace.acceptance("lines", "line") > before / 2
    assert pace.acceptance("lines", "first") == pytest.approx(learned({}).acceptance("lines", "first"))


def test_a_guess_that_is_always_right_is_never_certain() -> None:
    pace = learned({1: 1.0})
    for _ in range(3000):
        pace.learn_guess("lines", "within", is_accepted=True)
    assert 0.99 < pace.acceptance("lines", "within") < 1


def test_what_followed_elsewhere_is_believed_as_far_as_it_was_true() -> None:
    pace = learned({1: 1.0})
    for _ in range(500):
        pace.learn_text(1.0, 1)
        pace.learn_text(1.0, 0)
    assert pace.acceptance("text", "first") == pytest.approx(0.5, abs=0.05)


def test_passes_are_filled_up_to_a_size_whose_cost_is_known() -> None:
    assert learned({1: 1.0, 8: 1.1, 12: 4.0}).best_size(3, SURE, FREE) == 5


@given(st.dictionaries(st.integers(1, 80), st.floats(0.001, 10), max_size=8), st.integers(1, 90))
def test_a_pass_has_a_cost_whatever_was_measured(seconds: dict[int, float], n: int) -> None:
    pace = learned(seconds)
    assert pace.cost(n) >= 0
    assert 0 <= pace.best_size(n, SURE, FREE) <= 30
