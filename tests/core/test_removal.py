"""Which hunks remove most of what they quote without being asked to."""

import pytest
from singlepass.core.actions import BUILTIN_ACTIONS
from singlepass.core.diff_parser import Hunk
from singlepass.core.edits import Snapshot
from singlepass.core.planner import PlannedHunk, plan
from singlepass.core.removal import unasked_removal

TEXT = "".join(f"line {n}\n\n" for n in range(40))


def question(n_old: int, new: list[str], request: str = "Fix the error.") -> str:
    hunk = Hunk(0, "a.py", tuple(TEXT.splitlines()[: 2 * n_old]), tuple(new))
    planned = plan(hunk, {"a.py": Snapshot("file:///a.py", 1, TEXT)}, None, ())
    assert isinstance(planned, PlannedHunk), planned
    return unasked_removal(planned, request)


@pytest.mark.parametrize(
    ("n_old", "n_new", "is_asked"),
    [
        (10, 0, True),
        (9, 0, False),
        (20, 6, True),
        (20, 7, False),
        (20, 19, False),
        (40, 12, True),
        (12, 2, True),
        (12, 3, False),
        (1, 0, False),
    ],
)
def test_most_of_many_lines(n_old: int, n_new: int, is_asked: bool) -> None:
    kept = TEXT.splitlines()[: 2 * n_new]
    other = [f"other {n}" for n in range(n_new)]
    assert bool(question(n_old, kept)) == bool(question(n_old, other)) == is_asked


def test_what_is_said() -> None:
    expected = "of 20 lines 2 are left, and nobody asked to remove any"
    assert question(20, ["line 0", "line 1"]) == expected


def test_a_rewrite_quotes_its_region() -> None:
    shown = TEXT.splitlines()
    for n_kept, is_asked in [(35, False), (28, False), (12, True), (0, True)]:
        old, new = tuple(shown[:80]), shown[: 2 * n_kept] or ["x"]
        hunk = Hunk(0, "a.py", old, tuple(new), is_rewrite=True, is_constrained=True)
        planned = plan(hunk, {"a.py": Snapshot("file:///a.py", 1, TEXT)}, ("a.py", 0, 80), ())
        assert isinstance(planned, PlannedHunk), planned
        assert bool(unasked_removal(planned, "Fix it.")) == is_asked


@pytest.mark.parametrize(
    ("request_", "is_asked"),
    [
        ("Delete this function", False),
        ("please REMOVE the old code", False),
        ("Simplify the selected code.", False),
        ("'os' imported but unused", False),
        ("this is unreachable code", False),
        ("replace the loop by a comprehension", False),
        ("use sum()", False),
        ("get rid of it", False),
        ("make it shorter", False),
        ("move it to utils.py", False),
        ("Split this into two", False),
        ("Rename total to count", True),
        ("Add a docstring", True),
        ("Fix the user's name", True),
        ("handle errors", True),
        ("", True),
    ],
)
def test_words_that_ask_for_less(request_: str, is_asked: bool) -> None:
    assert bool(question(20, [], request_)) == is_asked


def test_built_in_actions() -> None:
    asks = {one.title for one in BUILTIN_ACTIONS if not question(20, [], f"{one.title}\n{one.instruction}")}
    assert asks == {"Simplify", "Extract function"}
