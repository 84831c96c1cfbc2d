"""Asking for one token and asking for all tokens must give the same answer."""

import pytest
from fake_driver import FakeDriver
from singlepass_backends.generation.constraint import Constraint, Constraints


def test_a_token_is_admitted_exactly_if_it_is_among_the_allowed() -> None:
    driver = FakeDriver()
    constraint = Constraints(driver).open('start: "x" /[a-c]*/ "z"')
    assert constraint.take_forced(9) == driver.tokenize(b"x", special=False)
    for text in (b"b", b"z"):
        (token,) = driver.tokenize(text, special=False)
        assert constraint.admits(token)
        admitted = [token for token in range(driver.n_vocab) if constraint.admits(token)]
        assert admitted == list(constraint.allowed())
        constraint.consume(token)
    assert constraint.stopped


@pytest.mark.parametrize("text", [b"a", b"ab", b"abc", b"abcx", b"abd", b"x", b"ax", b"abcz", b""])
def test_what_would_be_forced_is_what_is_forced_then(text: bytes) -> None:
    driver = FakeDriver()
    constraints = Constraints(driver)
    grammar = 'start: ("a" | "z") "b" ("c" "xyz" | "d" | "e" /[a-c]+/ "!")'
    asked, used = constraints.open(grammar), constraints.open(grammar)
    tokens = driver.tokenize(text, special=False)
    forced = asked.forced_after(tokens)
    if _takes(used, tokens):
        assert forced == used.take_forced(9)
    else:
        assert forced is None
    # Nothing was consumed.
    assert list(asked.allowed()) == list(constraints.open(grammar).allowed())


def _takes(constraint: Constraint, tokens: list[int]) -> bool:
    """Whether the grammar admits the tokens, one after the other; they are consumed."""
    for token in tokens:
        if constraint.stopped or not constraint.admits(token):
            return False
        constraint.consume(token)
    return True
