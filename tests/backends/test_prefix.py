import pytest
from hypothesis import given
from hypothesis import strategies as st
from singlepass_backends.generation.prefix import Reuse, common_prefix, reuse


@pytest.mark.parametrize(
    ("cached", "prompt", "can_trim", "needs_logits", "expected"),
    [
        ("", "abc", True, True, Reuse(0, False)),
        ("ab", "abc", True, True, Reuse(2, False)),
        ("abc", "abc", True, True, Reuse(2, True)),
        ("abc", "abc", True, False, Reuse(3, False)),
        ("abcd", "abc", True, False, Reuse(3, True)),
        ("abX", "abc", True, True, Reuse(2, True)),
        ("X", "abc", True, True, Reuse(0, True)),
        ("ab", "abc", False, True, Reuse(2, False)),
        ("abc", "abc", False, True, Reuse(0, True)),
        ("abc", "abc", False, False, Reuse(3, False)),
        ("abX", "abc", False, True, Reuse(0, True)),
        ("abc", "", True, True, Reuse(0, True)),
    ],
)
def test_what_is_kept(cached: str, prompt: str, can_trim: bool, needs_logits: bool, expected: Reuse) -> None:
    plan = reuse(list(map(ord, cached)), list(map(ord, prompt)), can_trim=can_trim, needs_logits=needs_logits)
    assert plan == expected


TOKENS = st.lists(st.integers(0, 2), max_size=12)


@given(TOKENS, TOKENS)
def test_common_prefix_is_the_longest(a: list[int], b: list[int]) -> None:
    n = common_prefix(a, b)
    assert a[:n] == b[:n]
    assert n == min(len(a), len(b)) or a[n] != b[n]


@given(TOKENS, TOKENS, st.booleans(), st.booleans())
def test_what_is_kept_is_always_true_of_the_prompt(
    cached: list[int], prompt: list[int], can_trim: bool, needs_logits: bool
) -> None:
    plan = reuse(cached, prompt, can_trim=can_trim, needs_logits=needs_logits)
    assert cached[: plan.n_keep] == prompt[: plan.n_keep]
    assert plan.trims == (plan.n_keep < len(cached))
    assert not (needs_logits and prompt and plan.n_keep == len(prompt))
    assert can_trim or plan.n_keep in (0, len(cached))
