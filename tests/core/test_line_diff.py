"""The difference of two lists of lines, short ones and those that are divided first."""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from singlepass.core import line_diff
from singlepass.core.line_diff import changed_blocks

LINES = st.lists(st.sampled_from("abcdefghijklmnop"), max_size=30)


@pytest.fixture(params=[line_diff._MOST_AT_ONCE, 3], ids=["short", "divided"], autouse=True)
def length(request: pytest.FixtureRequest) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(line_diff, "_MOST_AT_ONCE", request.param)
        yield


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("abc", "abc", []),
        ("", "ab", [(0, 0, 0, 2)]),
        ("ab", "", [(0, 2, 0, 0)]),
        ("abcdef", "abXdeYf", [(2, 3, 2, 3), (5, 5, 5, 6)]),
        ("XabcdeY", "abcde", [(0, 1, 0, 0), (6, 7, 5, 5)]),
        ("aXbbbYc", "aPbbbQc", [(1, 2, 1, 2), (5, 6, 5, 6)]),
        ("abcdefgh", "XdefghabcY", [(0, 3, 0, 1), (8, 8, 6, 10)]),
    ],
)
def test_cases(old: str, new: str, expected: list[tuple[int, int, int, int]]) -> None:
    assert changed_blocks(old, new) == expected


@given(LINES, LINES)
def test_the_blocks_make_the_new_lines_of_the_old_ones(old: list[str], new: list[str]) -> None:
    made: list[str] = []
    end_old, end_new = -1, -1
    for a, b, c, d in changed_blocks(old, new):
        assert a > end_old
        assert c > end_new
        assert old[max(end_old, 0) : a] == new[max(end_new, 0) : c]
        made += [*old[max(end_old, 0) : a], *new[c:d]]
        end_old, end_new = b, d
    assert [*made, *old[max(end_old, 0) :]] == new
