"""The matcher: one table over all levels, and the exact level against a slow model."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from singlepass.core.matcher import Ambiguous, Found, Match, NotFound, find_runs, match, reindent

CODE = """\
def area(width, height):
    result = width * height
    return result

def volume(width, height, depth):
    result = width * height * depth
    return result
""".splitlines()


def check(
    lines: list[str], old: list[str], expected: Match, selection: tuple[int, int] | None = None
) -> None:
    assert match(lines, old, selection) == expected


@pytest.mark.parametrize(
    ("old", "selection", "expected"),
    [
        (CODE[1:3], None, Found(1, 3, "exact")),
        (CODE, None, Found(0, 7, "exact")),
        (["    return result"], None, Ambiguous(((2, 3), (6, 7)))),
        (["    return result"], (4, 7), Found(6, 7, "exact")),
        (["    return result"], (0, 7), Ambiguous(((2, 3), (6, 7)))),
        (["    return result"], (3, 4), Ambiguous(((2, 3), (6, 7)))),
        (["    return result  ", ""], None, Found(2, 4, "trailing_whitespace")),
        (["def area(width, height): "], None, Found(0, 1, "trailing_whitespace")),
        (["result = width * height", "return result"], None, Found(1, 3, "indentation", "", "    ")),
        (["\tresult = width * height", "\treturn result"], None, Found(1, 3, "indentation", "\t", "    ")),
        (
            ["  def area(width, height):", "      result = width * height"],
            None,
            Found(0, 2, "indentation", "  ", ""),
        ),
        (["return result"], None, Ambiguous(((2, 3), (6, 7)))),
        (["return result"], (2, 4), Found(2, 3, "indentation", "", "    ")),
        (["def area(width, heigth):", "    result = width * height"], None, Found(0, 2, "fuzzy")),
        (["result = width * heigth * depth"], None, Found(5, 6, "fuzzy", "", "    ")),
        (["def volume(w, height, depth):", *CODE[5:7]], None, Found(4, 7, "fuzzy")),
        (["    return results"], None, Ambiguous(((2, 3), (6, 7)))),
        ([], None, NotFound(None, 0.0)),
        (["x"] * 9, None, NotFound(None, 0.0)),
        ([""], None, Found(3, 4, "exact")),
    ],
)
def test_levels(old: list[str], selection: tuple[int, int] | None, expected: Match) -> None:
    check(CODE, old, expected, selection)


def test_an_uneven_shift_is_not_the_same_lines() -> None:
    found = match(CODE, ["result = width * height", "  return result"])
    assert isinstance(found, NotFound)
    assert found.nearest == (1, 3)


def test_other_lines_are_not_found_but_the_nearest_are_named() -> None:
    found = match(CODE, ["class Shape:", "    result = width * height", "    pass"])
    assert isinstance(found, NotFound)
    assert found.nearest == (0, 3)
    assert 0.2 < found.similarity < 0.85


def test_documents_without_text() -> None:
    check([], [], Found(0, 0, "exact"))
    check(["", " "], [], Found(0, 2, "exact"))
    check([], [""], Found(0, 0, "exact"))
    check([""], [""], Found(0, 1, "exact"))
    check([], ["x"], NotFound(None, 0.0))


@pytest.mark.parametrize(
    ("line", "remove", "add", "expected"),
    [
        ("  x", "  ", "\t", "\tx"),
        ("    x", "  ", "\t", "\t  x"),
        (" x", "  ", "\t", "\tx"),
        ("x", "", "    ", "    x"),
        ("", "", "    ", ""),
        ("  ", "", "    ", "  "),
    ],
)
def test_new_lines_are_shifted_alike(line: str, remove: str, add: str, expected: str) -> None:
    assert reindent(line, Found(0, 1, "indentation", remove, add)) == expected


few_lines = st.sampled_from(["a", "b", "", "c"])


@settings(max_examples=300, deadline=None)
@given(
    st.lists(few_lines, max_size=14),
    st.lists(few_lines, min_size=1, max_size=4),
    st.none() | st.tuples(st.integers(0, 9), st.integers(0, 14)),
)
def test_the_exact_level_agrees_with_the_slow_model(
    lines: list[str], old: list[str], selection: tuple[int, int] | None
) -> None:
    places = [i for i in range(len(lines)) if lines[i : i + len(old)] == old]
    assert find_runs(lines, old) == places
    found = match(lines, old, selection)
    inside = [i for i in places if selection and selection[0] <= i and i + len(old) <= selection[1]]
    if len(places) == 1 or len(inside) == 1:
        place = (inside if len(inside) == 1 else places)[0]
        assert found == Found(place, place + len(old), "exact")
    elif places:
        assert found == Ambiguous(tuple((i, i + len(old)) for i in places))
    else:
        assert not isinstance(found, Found) or found.how != "exact" or not any(old)


def test_long_documents_are_quick() -> None:
    equal = ["x = 1"] * 5000
    varied = [f"    value_{i} = compute({i % 7}, other={i % 11})" for i in range(5000)]
    start = time.perf_counter()
    assert isinstance(match(equal, equal[:2500]), Ambiguous)
    assert match(varied, varied[3000:3050]) == Found(3000, 3050, "exact")
    assert isinstance(match(varied, ["value = nothing()", "else:"]), NotFound)
    changed = [line.replace("compute", "compute_") for line in varied[3000:3050:5]]
    match(varied, [*varied[2000:2040], *changed])
    assert time.perf_counter() - start < 4
