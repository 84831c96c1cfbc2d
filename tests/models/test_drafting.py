"""Drafts pay, by costs of passes that were measured or assumed: no clock and no model has a part in it."""

from collections.abc import Mapping

import pytest
from counting import Tokenizer
from drafting import CLOCKED, Priced, measured, summarised
from oracle import held_out_edits
from singlepass_backends.base import DEMO_MODEL
from singlepass_backends.generation.loop import InProcessBackend

TWO_CORES = {1: 1.0, 2: 2.04, 4: 2.83, 8: 3.99, 16: 6.6, 32: 12.1, 64: 17.7, 128: 35.0}
"""An AMD EPYC, a model of 0.5B parameters in Q8_0: see benchmarks/README.md."""
GPU = {1: 1.0, 8: 1.1, 16: 1.25, 32: 1.5, 64: 2.2, 128: 4.0}


@pytest.mark.parametrize(("costs", "least"), [(TWO_CORES, 1.3), (GPU, 3.0)])
def test_a_reply_is_never_slower_and_mostly_faster(
    costs: Mapping[int, float], least: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = Priced(Tokenizer(DEMO_MODEL), costs)
    for module in CLOCKED:
        monkeypatch.setattr(module, "time", driver)
    found = summarised(measured(driver, InProcessBackend(driver), held_out_edits(), 46))
    assert found["ours, over all time"] >= least
    assert found["ours, edits below 0.98"] == 0
    assert found["ours, over all time"] > found["forced, over all time"]
