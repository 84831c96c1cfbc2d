"""Which target serves a request: tables of rules and estimates, and what holds for all."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from singlepass.config import Route
from singlepass.engines.routing import (
    LONG_PREFILL_S,
    MANY_ITERATIONS,
    Candidate,
    Request,
    advise,
    compare,
    estimate_s,
    route,
)
from singlepass.stats.estimate import Rates

ASKED = Request(n_prompt=10_000, n_reply=200, kind="refactor.rewrite", language="python")


def candidate(
    name: str, prefill: float | None = None, *, cached: int = 0, allowed: bool = True, remote: bool = False
) -> Candidate:
    """With a reply of 200 tokens at 100 a second: two seconds beside the prefill."""
    known = Rates(prefill, 100.0, 200.0) if prefill else None
    return Candidate(name=name, rates=known, n_cached=cached, is_allowed=allowed, is_remote=remote)


SLOW, FAST, NEW = candidate("slow", 500.0), candidate("fast", 5000.0), candidate("new")
BARRED = candidate("barred", 50_000.0, allowed=False, remote=True)


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        (SLOW, 22.0),
        (FAST, 4.0),
        (candidate("slow", 500.0, cached=9000), 4.0),
        (candidate("slow", 500.0, cached=99_000), 2.0),
        (NEW, None),
    ],
)
def test_estimates(one: Candidate, expected: float | None) -> None:
    assert estimate_s(one, ASKED) == (None if expected is None else pytest.approx(expected))


@pytest.mark.parametrize(
    ("candidates", "max_wait_s", "target", "why"),
    [
        ([FAST, SLOW], 10, "fast", "`fast` comes first, and about 4.00 s is within 10.0 s"),
        ([SLOW, FAST], 10, "fast", "`slow` would take about 22.0 s, `fast` about 4.00 s"),
        ([SLOW, FAST], 30, "slow", "comes first"),
        ([SLOW, FAST], 4.0, "fast", "would take about 22.0 s"),  # within is at most
        (
            [SLOW, FAST],
            1,
            "fast",
            "no target is expected within 1.00 s; `fast` is the fastest with about 4.00 s",
        ),
        ([FAST, SLOW], 1, "fast", "is the fastest"),
        ([SLOW, BARRED], 1, "slow", "`slow` is the only target allowed"),
        ([BARRED, SLOW, FAST], 10, "fast", "`slow` would take"),
        ([NEW, FAST], 10, "new", "`new` was not measured yet, so it is tried"),
        ([FAST, NEW], 10, "fast", "; `new` not measured yet"),
        ([SLOW, NEW], 10, "slow", "`slow` is the fastest with about 22.0 s; `new` not measured yet"),
        ([BARRED], 10, None, "no target is allowed in this workspace"),
        ([], 10, None, "no target is allowed"),
        ([candidate("slow", 500.0, cached=9500), FAST], 3.5, "slow", "about 3.00 s is within 3.50 s"),
    ],
)
def test_without_rules(candidates: list[Candidate], max_wait_s: float, target: str | None, why: str) -> None:
    found = route(ASKED, candidates, max_wait_s=max_wait_s)
    assert found.target == target
    assert why in found.why


@pytest.mark.parametrize(
    ("rules", "target", "why"),
    [
        ([Route(target="slow")], "slow", "a rule sends everything to `slow`"),
        ([Route(target="slow", languages=("python",))], "slow", "sends every action in python to `slow`"),
        ([Route(target="slow", languages=("rust",))], "fast", "comes first"),
        ([Route(target="slow", kinds=("refactor",))], "slow", "a rule sends refactor to `slow`"),
        ([Route(target="slow", kinds=("refactor.rewrite",))], "slow", "a rule"),
        ([Route(target="slow", kinds=("refactor.re",))], "fast", "comes first"),
        ([Route(target="slow", kinds=("quickfix", "source"))], "fast", "comes first"),
        ([Route(target="slow", kinds=("refactor",), languages=("rust",))], "fast", "comes first"),
        ([Route(target="new", kinds=("refactor",)), Route(target="slow")], "new", "`new`"),
        ([Route(target="barred"), Route(target="slow")], "slow", "a rule sends everything to `slow`"),
        ([Route(target="barred")], "fast", "a rule names `barred`, which is not allowed in this workspace;"),
        ([Route(target="gone")], "fast", "a rule names `gone`, which is not among the targets; `fast` comes"),
    ],
)  # fmt: skip
def test_rules(rules: list[Route], target: str, why: str) -> None:
    found = route(ASKED, [FAST, SLOW, NEW, BARRED], rules, 10)
    assert found.target == target
    assert why in found.why


def test_settings_can_hold_rules() -> None:
    rule = msgspec.convert({"target": "big", "kinds": ["quickfix"], "languages": ["c"]}, Route)
    assert rule == Route(target="big", kinds=("quickfix",), languages=("c",))
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"target": "big", "language": ["c"]}, Route)


# Asking again at the same place.


def test_the_options_stand_side_by_side() -> None:
    again = candidate("slow", 500.0, cached=9000)
    options = compare(ASKED, [FAST, NEW, again, BARRED], "slow")
    assert [(one.target, one.is_here, one.estimate_s, one.prefill_s) for one in options] == [
        ("slow", True, pytest.approx(4.0), pytest.approx(2.0)),
        ("fast", False, pytest.approx(4.0), pytest.approx(2.0)),
        ("new", False, None, None),
    ]


@pytest.mark.parametrize(
    ("prefills_s", "n_iterations"),
    [
        ([], None),
        ([LONG_PREFILL_S] * (MANY_ITERATIONS - 1), None),
        ([LONG_PREFILL_S] * MANY_ITERATIONS, MANY_ITERATIONS),
        ([19.9] * 50, None),
        ([25.0, 3.0, 25.0, 25.0, 0.1, 25.0], None),  # four of them
        ([25.0, 3.0, 30.0, 25.0, 0.1, 25.0, 41.0], 5),
    ],
)
def test_when_there_is_advice(prefills_s: list[float], n_iterations: int | None) -> None:
    advice = advise(prefills_s, ASKED, [SLOW, FAST], "slow")
    assert (advice.n_iterations if advice else None) == n_iterations
    if advice:
        assert all(one >= LONG_PREFILL_S for one in advice.prefill_s)


def test_advice_has_its_numbers() -> None:
    advice = advise([25.0, 20.0, 30.0, 21.0, 24.0], ASKED, [SLOW, FAST, NEW, BARRED], "slow")
    assert advice is not None
    assert advice.prefill_s == (25.0, 20.0, 30.0, 21.0, 24.0)
    assert [option.target for option in advice.options] == ["slow", "fast", "new"]
    assert advice.text == (
        "5 requests here took 20.0 s to 30.0 s of prefill each, 2 min 0 s in all. Give the task less context "
        "or cut it into smaller ones, or take another target: again on `slow` about 22.0 s (20.0 s of "
        "prefill), `fast` about 4.00 s (2.00 s of prefill), `new` not measured yet."
    )


# What holds for all.

CANDIDATES = st.lists(
    st.builds(
        Candidate,
        name=st.sampled_from("abcdef"),
        is_remote=st.booleans(),
        is_allowed=st.booleans(),
        rates=st.none() | st.builds(Rates, *[st.floats(1, 1e5)] * 3),
        n_cached=st.integers(0, 20_000),
    ),
    unique_by=lambda one: one.name,
    max_size=6,
)
ROUTES = st.lists(
    st.builds(
        Route,
        target=st.sampled_from("abcdefgh"),
        kinds=st.sampled_from([(), ("refactor",), ("quickfix",)]),
        languages=st.sampled_from([(), ("python",), ("rust",)]),
    ),
    max_size=3,
)
WAIT = st.floats(0, 100)


@given(CANDIDATES, ROUTES, WAIT)
def test_only_what_is_allowed_is_chosen(
    candidates: list[Candidate], rules: list[Route], max_wait_s: float
) -> None:
    found = route(ASKED, candidates, rules, max_wait_s)
    allowed = [one for one in candidates if one.is_allowed]
    assert found.why
    assert (found.target is None) == (not allowed)
    assert found.target is None or found.target in [one.name for one in allowed]
    # Those that are not allowed change nothing but what is said.
    again = route(ASKED, allowed, rules, max_wait_s)
    assert (again.target, again.estimate_s) == (found.target, found.estimate_s)


@given(CANDIDATES, WAIT)
def test_the_first_within_the_wait_or_the_fastest(candidates: list[Candidate], max_wait_s: float) -> None:
    found = route(ASKED, candidates, (), max_wait_s)
    allowed = [one for one in candidates if one.is_allowed]
    if not allowed or allowed[0].rates is None:
        return
    measured = [(one.name, needed) for one in allowed if (needed := estimate_s(one, ASKED)) is not None]
    within = [name for name, needed in measured if needed <= max_wait_s]
    assert found.estimate_s is not None
    if within:
        assert found.target == within[0]
    else:
        assert found.estimate_s == min(needed for _, needed in measured)


@given(CANDIDATES, st.lists(st.floats(0, 100), max_size=12))
def test_advice_lists_no_target_that_is_not_allowed(
    candidates: list[Candidate], prefills_s: list[float]
) -> None:
    advice = advise(prefills_s, ASKED, candidates, "a")
    assert (advice is None) == (sum(one >= LONG_PREFILL_S for one in prefills_s) < MANY_ITERATIONS)
    if advice:
        barred = {one.name for one in candidates if not one.is_allowed} - {"a"}
        assert not barred & {option.target for option in advice.options}
