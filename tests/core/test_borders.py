"""Blank lines at the borders of a block, in a table of what the user wanted."""

import pytest
from core.texts import plain_lines
from hypothesis import given
from hypothesis import strategies as st
from singlepass.core.replies.borders import with_blank_lines


def check(document: str, old: str, new: str, expected: str) -> None:
    """Blank lines are written as `_`, and lines are divided by spaces."""

    def lines(text: str) -> list[str]:
        return ["" if word == "_" else word for word in text.split()]

    shown, quoted = lines(document), lines(old)
    start = next(n for n in range(len(shown)) if shown[n : n + len(quoted)] == quoted)
    end = start + len(quoted)
    there = with_blank_lines(shown, start, end, lines(new))
    assert [*shown[:start], *there, *shown[end:]] == lines(expected)
    turned = with_blank_lines(shown[::-1], len(shown) - end, len(shown) - start, lines(new)[::-1])
    assert turned == there[::-1]


@pytest.mark.parametrize(
    ("document", "old", "new", "expected"),
    [
        # Quoted and not repeated.
        ("a _ b", "a _", "x", "x _ b"),
        ("a _ _ b", "a _ _", "x _", "x _ _ b"),
        ("a _ _ b", "a _", "x", "x _ _ b"),
        ("a _ b", "_ b", "x", "a _ x"),
        ("a b _ c", "b _", "x y _", "a x y _ c"),
        ("a _ b _ c", "_ b _", "x", "a _ x _ c"),
        ("a _", "a _", "x", "x _"),
        ("a b _ c", "a b _", "a", "a _ c"),
        # Only blank lines change: they are what was asked for.
        ("a _ b", "a _", "a", "a b"),
        ("a _ _ b", "a _ _ b", "a b", "a b"),
        ("a _ _ b", "a _ _", "a _", "a _ b"),
        ("a _ b", "a", "a _", "a _ _ b"),
        ("a b", "a b", "_ a _ b", "_ a _ b"),
        ("_ _ a", "_ _ a", "a", "a"),
        # Whole parts go, with the blank lines around.
        ("a _ b _ c", "b _", "", "a _ c"),
        ("a _ b _ c", "_ b _", "_", "a _ c"),
        ("a _ b _ c", "a _ b", "a", "a _ c"),
        ("a _ b _ c", "a _ b _ c", "a c", "a c"),
        ("_ a _ b", "a _ b", "_ b", "_ _ b"),
        ("a _ b _ c", "a _ b", "a _", "a _ _ c"),
        # Inside, new text stands as it was written.
        ("a _ b", "a _ b", "x b", "x b"),
        ("a b", "a b", "x _ _ b", "x _ _ b"),
        # A function after another one, and before it.
        ("a _ _ b", "a", "a _ _ x", "a _ _ x _ _ b"),
        ("a _ _ b", "a", "a _ _ x _ _", "a _ _ x _ _ b"),
        ("a _ _ b", "a", "a _ _ x _", "a _ _ x _ _ b"),
        ("a _ b", "a", "a _ _ x _ _", "a _ _ x _ _ b"),
        ("a _ _ b", "a _", "a _ _ x _ _", "a _ _ x _ _ b"),
        ("a _ _ b", "a _ _", "a _ _ x _ _", "a _ _ x _ _ b"),
        ("a b", "a", "a _ x _", "a _ x _ b"),
        ("a _ b", "b", "x _ b", "a _ x _ b"),
        ("a _ b", "b", "_ x _ b", "a _ x _ b"),
        ("a", "a", "a _ x", "a _ x"),
        ("a", "a", "x _", "x _"),
        # Blank lines alone are the place for new text.
        ("a _ b", "_", "x", "a x b"),
        ("a _ _ b", "_ _", "_ x _", "a _ x _ b"),
    ],
)
def test_blank_lines_at_borders(document: str, old: str, new: str, expected: str) -> None:
    check(document, old, new, expected)


@given(st.lists(plain_lines), st.lists(plain_lines), st.lists(plain_lines), st.lists(plain_lines))
def test_lines_with_text_are_never_touched(
    above: list[str], old: list[str], below: list[str], new: list[str]
) -> None:
    document, start, end = [*above, *old, *below], len(above), len(above) + len(old)
    there = with_blank_lines(document, start, end, new)
    assert [line for line in there if line.strip()] == [line for line in new if line.strip()]
    assert with_blank_lines(document, start, end, there) == there
    assert with_blank_lines(document, start, end, old) == old
