"""What is recommended, and that the reasons name the numbers."""

from typing import Any

import pytest
from singlepass.measuring.calculator import Phases, Shape
from singlepass.measuring.hardware_choice import (
    Option,
    advise_loop,
    bound_sentence,
    recommend,
    textbook_remarks,
)

GIB = 1 << 30


def option(name: str, prefill_s: float = 0, decode_s: float = 0, warm_s: float = 1, **more: Any) -> Option:
    cold = Phases(prefill_s, decode_s) if prefill_s or decode_s else None
    memory = {"usable_bytes": 20 * GIB, "needed_bytes": 10 * GIB, **more}
    return Option(name=name, title=name.upper(), cold=cold, warm=cold and Phases(0, warm_s), **memory)


@pytest.mark.parametrize(
    ("options", "name", "words"),
    [
        (
            [option("a", 4, 1), option("b", 20, 2)],
            "a",
            "A takes 5.00 s for a cold request and 1.00 s for a warm",
        ),
        ([option("a", 4, 1), option("b", 20, 2)], "a", "4.4 times as fast as B"),
        ([option("a", 20, 2), option("b", 19, 2)], "b", "A is about as fast"),
        (
            [option("a", 4, 1, needed_bytes=21 * GIB), option("b", 20, 2)],
            "b",
            "A is too small: 21.0 GiB are needed",
        ),
        ([option("a", 4, 1, needed_bytes=21 * GIB, largest_ctx=900)], None, "enough for 900 tokens"),
        ([option("a"), option("b", 20, 2)], "b", "A has no published rates"),
        (
            [option("a", 4, 1), option("b", 9, 2, is_rough=True)],
            "a",
            "rates of B were measured with much shorter",
        ),
        ([option("a", 9, 1)], "a", "a local model is fast enough: even a cold request takes at most 10 s"),
        ([option("a", 30, 1)], "a", "a local model is fast enough once the context is prewarmed (1.00 s)"),
        ([option("a", 30, 30, warm_s=31)], "a", "even a warm request takes 31.0 s: use a smaller model"),
    ],
)
def test_recommendations(options: list[Option], name: str | None, words: str) -> None:
    found = recommend(options, 20_000)
    assert found.name == name
    assert words in "; ".join(found.reasons)


@pytest.mark.parametrize(
    ("n_ctx", "words"), [(5000, "short (below 10,000)"), (20_000, "medium"), (50_000, "long (above 30,000)")]
)
def test_the_class_of_a_context_is_the_first_reason(n_ctx: int, words: str) -> None:
    assert words in recommend([option("a", 1, 1)], n_ctx).reasons[0]


@pytest.mark.parametrize(
    ("prefill_s", "decode_s", "words"),
    [
        (9, 1, "90.0% of a cold request, so compute and the prefix cache"),
        (1, 9, "decode and memory bandwidth"),
        (5, 5, "both matter"),
    ],
)
def test_what_a_request_waits_for(prefill_s: float, decode_s: float, words: str) -> None:
    assert words in bound_sentence(Phases(prefill_s, decode_s))


def test_a_loop_or_a_single_request() -> None:
    """Eight iterations at 30 s: 4 minutes against 30 seconds."""
    advice = advise_loop(8, Phases(240, 0), Phases(60, 0), Phases(30, 0))
    assert advice.text.startswith(
        "8 iterations take 4 min 0 s, with a prefix cache 60.0 s, and a single request takes 30.0 s"
    )
    assert "ask once, with the context prewarmed" in advice.text
    assert "ask once" in advise_loop(8, Phases(40, 0), Phases(20, 0), Phases(5, 0)).text
    assert "fast enough" in advise_loop(8, Phases(40, 0), Phases(9, 0), Phases(5, 0)).text


def shape(n_head: int, n_head_kv: int) -> Shape:
    return Shape(name="m", n_layer=2, n_head=n_head, n_head_kv=n_head_kv, key_length=10, value_length=10)


def test_where_the_textbook_is_wrong() -> None:
    (grouped,) = textbook_remarks(shape(8, 2), "f16", 160)
    assert "4.0 times the real KV cache: 4 query heads share each of its 2 KV heads" in grouped
    (latent,) = textbook_remarks(shape(8, 8), "f16", 160)
    assert "less than a key and a value for each head" in latent
    (scales,) = textbook_remarks(shape(8, 8), "q8_0", 340)
    assert "1.06 times that of the textbook" in scales
    assert textbook_remarks(shape(8, 8), "f16", 640) == ()
