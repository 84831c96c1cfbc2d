"""An edit and what was saved meanwhile: both in full, or a refusal; nothing of either is lost."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from singlepass.core.merge import Conflict, merge

BASE = "one\ntwo\nthree\nfour\nfive\nsix\n"


@pytest.mark.parametrize(
    ("edited", "saved", "expected"),
    [
        ("one\n2\nthree\nfour\nfive\nsix\n", BASE + "seven\n", "one\n2\nthree\nfour\nfive\nsix\nseven\n"),
        ("one\n2\nthree\nfour\nfive\nsix\n", "0\n" + BASE, "0\none\n2\nthree\nfour\nfive\nsix\n"),
        ("one\ntwo\nsix\n", "1\ntwo\nthree\nfour\nfive\nsix\n", "1\ntwo\nsix\n"),
        # What both did is done once, and beside it each has its own.
        ("1\ntwo\nthree\nfour\nfive\n6\n", "1\ntwo\nthree\n4\nfive\nsix\n", "1\ntwo\nthree\n4\nfive\n6\n"),
        # The same line, a neighbour of it, and the same place between two lines.
        ("one\n2\nthree\nfour\nfive\nsix\n", "one\nzwei\nthree\nfour\nfive\nsix\n", Conflict(2, 2)),
        ("one\n2\nthree\nfour\nfive\nsix\n", "one\ntwo\n3\nfour\nfive\nsix\n", Conflict(2, 2)),
        ("#!a\n" + BASE, "# b\n" + BASE, Conflict(1, 0)),
        (BASE + "a\n", BASE + "b\n", Conflict(7, 6)),
        ("one\ntwo\nfive\nsix\n", "one\ntwo\nthree\n4\nfive\nsix\n", Conflict(3, 4)),
        ("one\n2\nthree\nfour\nfive\nsix\n", "", Conflict(2, 2)),
        # Line ends are part of a line.
        ("one\n2\nthree\nfour\nfive\nsix\n", BASE.replace("\n", "\r\n"), Conflict(2, 2)),
        ("one\n2\nthree\nfour\nfive\nsix\n", BASE[:-1], "one\n2\nthree\nfour\nfive\nsix"),
    ],
)
def test_cases(edited: str, saved: str, expected: str | Conflict) -> None:
    assert merge(BASE, edited, saved) == expected


TEXTS = st.text("ab\r\n", max_size=12)


@given(TEXTS, TEXTS)
def test_without_another_change_the_edit_stays_what_it_is(base: str, edited: str) -> None:
    assert merge(base, edited, base) == edited
    assert merge(base, base, edited) == edited
    assert merge(base, edited, edited) == edited


@given(TEXTS, TEXTS, TEXTS)
def test_who_was_first_makes_no_difference(base: str, one: str, other: str) -> None:
    first, second = merge(base, one, other), merge(base, other, one)
    assert isinstance(first, str) == isinstance(second, str)
    if isinstance(first, str):
        assert first == second


@given(st.lists(st.sampled_from(["kept", "ours", "theirs", "ours more", "theirs gone"]), max_size=12))
def test_changes_apart_from_each_other_are_all_there(kinds: list[str]) -> None:
    """Each change has a line of its own, and unchanged ones around it."""
    base, edited, saved, both = "", "", "", ""
    for number, kind in enumerate(kinds):
        line = f"line {number}\n"
        ours = {"ours": f"ours {number}\n", "ours more": f"{line}added {number}\n"}.get(kind, line)
        theirs = {"theirs": f"theirs {number}\n", "theirs gone": ""}.get(kind, line)
        around = f"around {number}\n"
        base, edited, saved = base + line + around, edited + ours + around, saved + theirs + around
        both += (ours if kind.startswith("ours") else theirs) + around
    assert merge(base, edited, saved) == both


def test_a_file_of_many_changes_takes_no_time_to_speak_of() -> None:
    lines = [f"line {n}\n" for n in range(60_000)]
    edited = "".join(f"ours {n}\n" if n % 4 == 0 else line for n, line in enumerate(lines))
    saved = "".join(f"theirs {n}\n" if n % 4 == 2 else line for n, line in enumerate(lines))
    merged = merge("".join(lines), edited, saved)
    assert isinstance(merged, str)
    assert merged.count("ours") == merged.count("theirs") == 15_000
