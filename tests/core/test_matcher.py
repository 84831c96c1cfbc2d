"""The matcher: one table over all levels, and the exact level against a slow model."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from singlepass.core.matcher import Ambiguous, Differs, Found, Match, NotFound, find_runs, match

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
    """What becomes of the lines is told by the tests of the planner; here it is where they are found."""
    found = match(lines, old, ["new"], selection)
    assert (found._replace(new=()) if isinstance(found, Found) else found) == expected


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
        (["result = width * height", "return result"], None, Found(1, 3, "indentation")),
        (["\tresult = width * height", "\treturn result"], None, Found(1, 3, "indentation")),
        (["  def area(width, height):", "      result = width * height"], None, Found(0, 2, "indentation")),
        (["return result"], None, Ambiguous(((2, 3), (6, 7)))),
        (["return result"], (2, 4), Found(2, 3, "indentation")),
        (["def area(width,  height):"], None, Found(0, 1, "characters")),
        (["", *CODE[1:3], ""], None, Found(1, 3, "habits")),
        (["", *CODE[5:7], ""], None, Found(5, 7, "habits")),
        (["1| def area(width, height):", "2|     result = width * height"], None, Found(0, 2, "habits")),
        (["    return results"], None, Ambiguous(((2, 3), (6, 7)))),
        ([], None, NotFound(None, 0.0)),
        (["x"] * 9, None, NotFound(None, 0.0)),
        ([""], None, Found(3, 4, "exact")),
    ],
)
def test_levels(old: list[str], selection: tuple[int, int] | None, expected: Match) -> None:
    check(CODE, old, expected, selection)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        # What the block changes is not where the quotation differs.
        (["def area(width, heigth):"], ["def surface(width, heigth):"], Found(0, 1, "fuzzy")),
        (["result = width * heigth * depth"], ["total = width * heigth * depth"], Found(5, 6, "fuzzy")),
        # It is: nothing is changed, and nothing deleted.
        (["def area(width, heigth):"], ["def area(width, depth):"], Differs(0, 1)),
        (["def area(width, heigth):", CODE[1]], [CODE[1]], Differs(0, 2)),
        (["def area(width, heigth):"], ["pass"], Differs(0, 1)),
    ],
)
def test_what_is_only_alike_is_merged_or_refused(old: list[str], new: list[str], expected: Match) -> None:
    found = match(CODE, old, new)
    assert (found._replace(new=()) if isinstance(found, Found) else found) == expected


def test_a_quoted_line_that_stands_elsewhere_means_that_line() -> None:
    lines = ["read(first)", "write(second_name)", "close(third)", "go()", "write(second_names)"]
    found = match(lines, ["read(first)", "write(second_names)"], ["read(first)", "write(x)"])
    assert isinstance(found, NotFound)


def test_two_places_with_the_same_equal_lines_are_ambiguous() -> None:
    lines = [
        *("{", "  value: undefined,", "  writable: true,", "}"),
        *("{", "  value: parsed,", "  writable: true,", "}"),
    ]
    found = match(lines, ["  value: https,", "  writable: true,"], ["  value: https,"])
    assert not isinstance(found, Found)


def test_blank_against_text_is_never_alike() -> None:
    lines = ["first = 1", "second = 2", "third = 3", "fourth = 4"]
    assert not isinstance(match(lines, ["first = 1", "second = 2", ""], ["x"]), Found) or (
        match(lines, ["first = 1", "second = 2", ""], ["x"]) == Found(0, 2, "habits", ("x",))
    )
    assert isinstance(match(lines, ["first = 1", "", "third = 3"], ["x"]), NotFound)


def test_an_uneven_shift_is_not_the_same_lines() -> None:
    found = match(CODE, ["result = width * height", "  return result"], [])
    assert isinstance(found, NotFound)
    assert found.nearest == (1, 3)


def test_other_lines_are_not_found_but_the_nearest_are_named() -> None:
    found = match(CODE, ["class Shape:", "    result = width * height", "    pass"], [])
    assert isinstance(found, NotFound)
    assert found.nearest == (0, 3)
    assert 0.2 < found.similarity < 0.85


def test_documents_without_text() -> None:
    check([], [], Found(0, 0, "exact"))
    check(["", " "], [], Found(0, 2, "exact"))
    check([], [""], Found(0, 0, "exact"))
    check([""], [""], Found(0, 1, "exact"))
    check([], ["x"], NotFound(None, 0.0))


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
    found = match(lines, old, [], selection)
    inside = [i for i in places if selection and selection[0] <= i and i + len(old) <= selection[1]]
    if len(places) == 1 or len(inside) == 1:
        place = (inside if len(inside) == 1 else places)[0]
        assert found == Found(place, place + len(old), "exact", ())
    elif places:
        assert found == Ambiguous(tuple((i, i + len(old)) for i in places))
    else:
        assert not isinstance(found, Found) or found.how != "exact" or not any(old)


def test_long_documents_come_to_an_end() -> None:
    equal = ["x = 1"] * 5000
    varied = [f"    value_{i} = compute({i % 7}, other={i % 11})" for i in range(5000)]
    assert isinstance(match(equal, equal[:2500], []), Ambiguous)
    assert match(varied, varied[3000:3050], []) == Found(3000, 3050, "exact")
    assert isinstance(match(varied, ["value = nothing()", "else:"], []), NotFound)
    changed = [line.replace("compute", "compute_") for line in varied[3000:3050:5]]
    match(varied, [*varied[2000:2040], *changed], [])
