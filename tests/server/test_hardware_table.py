"""The reference table: complete, with sources, and explained by the calculator's law."""

import datetime
import re

import pytest
from singlepass.measuring.calculator import decode_ceiling, fit, prefill_ceiling
from singlepass.measuring.hardware_table import Hardware, hardware_table

TABLE = hardware_table()
DATE = re.compile(r"(read )?20\d\d(-\d\d)?(-\d\d)?(, read 20\d\d-\d\d-\d\d)?")


def ids(one: Hardware) -> str:
    return one.name


def test_it_has_what_people_ask_about() -> None:
    names = [one.name for one in TABLE.hardware]
    assert len(names) == len(set(names))
    assert {"a100", "rtx-4090", "m2-ultra", "m4-max"} <= set(names)
    assert isinstance(TABLE.checked, datetime.date)


@pytest.mark.parametrize("one", TABLE.hardware, ids=ids)
def test_every_figure_has_a_source_and_a_date(one: Hardware) -> None:
    for figure in (one.memory, one.bandwidth, *([one.compute] if one.compute else []), *one.rates):
        assert figure.source.startswith("https://"), figure
        assert DATE.fullmatch(figure.date), figure
    for rates in one.rates:
        assert rates.software
        assert rates.model in TABLE.models


@pytest.mark.parametrize("one", TABLE.hardware, ids=ids)
def test_a_token_takes_longer_with_what_stands_before_it(one: Hardware) -> None:
    """The law, two numbers for each phase, explains all rates of others within 8 %."""
    for rates in one.rates:
        for measured in (rates.prefill, rates.decode):
            speed = fit(measured)
            for point in measured:
                assert speed.rate(point.n_tokens, point.depth) == pytest.approx(point.rate, rel=0.08)


@pytest.mark.parametrize("one", TABLE.hardware, ids=ids)
def test_no_rate_is_above_its_ceiling(one: Hardware) -> None:
    for rates in one.rates:
        shape = TABLE.models[rates.model].shape
        for point in rates.decode:
            assert point.rate <= decode_ceiling(shape, one.bandwidth.value * 1e9, 0, 0)
        for point in rates.prefill:
            if one.compute is not None:
                # Integer units may do more, so that is no law; none of these does.
                assert point.rate <= prefill_ceiling(shape, one.compute.value * 1e12, point.n_tokens)


@pytest.mark.parametrize(
    ("typed", "name"),
    [("rtx-4090", "rtx-4090"), ("RTX 4090", "rtx-4090"), (" M4  Max ", "m4-max"), ("M9", None)],
)
def test_names(typed: str, name: str | None) -> None:
    found = TABLE.find(typed)
    assert (found.name if found else None) == name


def test_names_that_may_have_been_meant() -> None:
    assert "rtx-4090" in TABLE.similar("rtx4090")
    assert TABLE.similar("zzz") == [one.name for one in TABLE.hardware]
