"""What two results of a workload say of each other."""

from typing import Any

import pytest
from singlepass.measuring.workload import Change, Request, Workload, compare, differences


def request(path: str, phase: Any = "cold", ttft_ms: float | None = 100.0, **fields: Any) -> Request:
    values: dict[str, Any] = {"outcome": "done", "n_prompt": 10, "n_cached": 0, "first_hunk_ms": None}
    return Request(path=path, phase=phase, ttft_ms=ttft_ms, **{**values, "total_ms": 0.0, **fields})


def result(*requests: Request, **fields: Any) -> Workload:
    values: dict[str, Any] = {"created": "2026-11-22T09:50:00", "repository": "/r", "target": {"model": "m"}}
    return Workload(requests=requests, **{**values, **fields})


def test_the_same_files_are_compared() -> None:
    first = result(request("a", ttft_ms=100.0), request("b", ttft_ms=300.0), request("only"))
    second = result(request("b", ttft_ms=150.0), request("a", ttft_ms=80.0), request("a", "warm"))
    (change,) = compare(first, second)
    assert (change.phase, change.figure, change.n) == ("cold", "ttft_ms", 2)
    assert (change.first_ms, change.second_ms) == (200.0, 115.0)
    assert change.ratio == pytest.approx((0.8 + 0.5) / 2)
    assert not change.is_clear  # two are too few


@pytest.mark.parametrize(
    ("times", "is_clear"),
    [((90, 80, 99), True), ((110, 101, 200), True), ((90, 80, 101), False), ((90, 80, 100), False)],
)
def test_a_change_is_clear_when_all_files_show_it(times: tuple[float, ...], is_clear: bool) -> None:
    first = result(*(request(str(n)) for n in range(3)))
    second = result(*(request(str(n), ttft_ms=ms) for n, ms in enumerate(times)))
    assert [one.is_clear for one in compare(first, second)] == [is_clear]


def test_what_was_not_done_or_not_measured_counts_for_nothing() -> None:
    first = result(request("a", outcome="failed"), request("b", ttft_ms=None), request("c"))
    second = result(request("a"), request("b"), request("c", outcome="cancelled"))
    assert compare(first, second) == ()
    both = compare(result(request("a", total_ms=10.0)), result(request("a", ttft_ms=None, total_ms=20.0)))
    assert [(one.figure, one.ratio) for one in both] == [("total_ms", 2.0)]
    assert isinstance(both[0], Change)


def test_what_else_is_different() -> None:
    first = result(request("a"), request("b"), machine={"cpu": "x"})
    second = result(request("a"), request("c"), repository="/s", target={"model": "n"}, machine={"cpu": "x"})
    assert differences(first, second) == (
        "repository: was /r, is /s",
        "target: model was m, is n",
        "left out, only in the first: b",
        "left out, only in the second: c",
    )
    assert differences(first, first) == ()
