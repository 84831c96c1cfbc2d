"""Asking for one token and asking for all tokens must give the same answer."""

from fake_driver import FakeDriver
from singlepass_backends.generation.constraint import Constraints


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
