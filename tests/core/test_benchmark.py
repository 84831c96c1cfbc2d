"""Which runs are left, how long they take, and what results say of each other."""

from typing import Any

import msgspec
import pytest
from singlepass.measuring.calculator import Speed
from singlepass.measuring.rates import (
    Result,
    Run,
    compare,
    differences,
    left_s,
    remaining,
    rows,
    speeds,
)


def run(depth: int, prefill_ms: float = 1000.0, decode_ms: float = 1000.0, n_decoded: int = 11) -> Run:
    return Run(
        depth=depth,
        n_cached=0,
        n_prefilled=depth,
        prefill_ms=prefill_ms,
        n_decoded=n_decoded,
        decode_ms=decode_ms,
        ttft_ms=prefill_ms,
    )


def result(*runs: Run, **fields: Any) -> Result:
    values: dict[str, Any] = {
        "created": "2026-11-22T09:50:00",
        "target": "llama_cpp m.gguf",
        "model": {"name": "m"},
        "machine": {"cpu": "a"},
        "versions": {"python": "3.12"},
        "settings": {"n_ctx": 4096},
        "depths": (100, 200),
        "n_runs": 2,
        "n_reply": 10,
    }
    return Result(runs=runs, **{**values, **fields})


@pytest.mark.parametrize(
    ("made", "left"),
    [
        ((), (100, 200, 100, 200)),
        ((100,), (200, 100, 200)),
        ((100, 200), (100, 200)),
        ((100, 200, 100), (200,)),
        ((100, 200, 100, 200), ()),
        # However it was stopped and gone on with.
        ((200, 200), (100, 100)),
    ],
)
def test_what_is_left(made: tuple[int, ...], left: tuple[int, ...]) -> None:
    found = result(*(run(depth) for depth in made))
    assert remaining(found) == left
    assert found.is_complete == (not left)


def test_the_time_that_is_left() -> None:
    assert left_s(result()) is None
    # 0.01 s for each prompt token, 0.1 s for each of the reply, at any depth.
    made = result(run(100, 1000.0), run(200, 2000.0))
    assert left_s(made) == pytest.approx(1 + 1 + 2 + 1)
    assert left_s(made, 100, 0.5) == pytest.approx(1 + 1 + 2 + 1 - 0.5)
    assert left_s(result(*made.runs, *made.runs)) == 0.0


def test_speeds_for_the_calculator() -> None:
    assert speeds([]) is None
    assert speeds([run(100, n_decoded=0)]) is None
    found = speeds([run(100, 1000.0), run(200, 2400.0)])
    assert found is not None
    prefill, decode = found
    # 10 ms a token over the first 100, 12 ms over the first 200.
    assert (prefill.token_s, prefill.depth_s) == pytest.approx((0.008, 0.00004))
    assert decode == Speed(pytest.approx(0.1))


def test_rows() -> None:
    found = rows(result(run(100, 1000.0), run(100, 500.0), run(100, 2000.0), n_runs=3))
    (row,) = found
    assert (row.depth, row.n_runs) == (100, 3)
    assert (row.prefill.least, row.prefill.median, row.prefill.most) == (50, 100, 200)
    assert row.prefill.share == 1.5
    assert row.decode.share == 0
    assert rows(result(run(100, 0.0, 0.0)))[0].prefill.share == 0


def test_two_results_side_by_side() -> None:
    first = result(run(100, 1000.0), run(100, 1100.0), run(200))
    second = result(run(100, 500.0), run(100, 550.0, 1200.0))
    (change,) = compare(first, second)
    assert change.depth == 100
    assert change.prefill == pytest.approx(2.0)
    assert change.is_prefill_clear
    assert change.decode == pytest.approx((10 + 10 / 1.2) / 2 / 10)
    assert not change.is_decode_clear


def test_what_else_is_different() -> None:
    other = result(versions={"python": "3.13"}, settings={"n_ctx": 4096, "repack": True})
    assert differences(result(), result()) == ()
    assert differences(result(), other) == (
        "versions: python was 3.12, is 3.13",
        "settings: repack was not there, is True",
    )


def test_a_result_survives_its_file() -> None:
    made = result(run(100))
    assert msgspec.json.decode(msgspec.json.encode(made), type=Result) == made
