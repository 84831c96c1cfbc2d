"""A reply that goes round in circles is seen early, and no code is taken for one."""

import random
import sysconfig
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from singlepass.core.runaway import GROWS, LOOP_LINES, MIN_ROOM, PHRASE_CHARS, REPEATS, Runaway

HEAD = "a.py\n<<<<<<< SEARCH\nx = 1\n=======\nx = 2\n"


def fed(text: str, files: tuple[str, ...] = (), size: int = 5) -> tuple[str, int]:
    """What is wrong with a reply in pieces of this size, and after how many characters that was seen."""
    runaway = Runaway(files)
    for end in range(size, len(text) + size, size):
        if problem := runaway.feed(text[end - size : end]):
            return problem, min(end, len(text))
    return "", len(text)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text("ab {}=\t", max_size=30), min_size=1, max_size=20), st.integers(1, 60))
def test_a_loop_of_lines_is_seen_within_a_few_rounds(lines: list[str], size: int) -> None:
    loop = "".join(f"{line}\n" for line in lines)
    problem, n_chars = fed(HEAD + loop * 80, size=size)
    assert problem == REPEATS
    n_lines = (HEAD + loop * 80)[:n_chars].count("\n")
    assert n_lines <= HEAD.count("\n") + LOOP_LINES + 4 * len(lines) + size


@settings(max_examples=60, deadline=None)
@given(st.text(st.characters(exclude_characters="\n\r"), min_size=1, max_size=300), st.integers(1, 60))
def test_a_phrase_that_repeats_in_a_line_is_seen(phrase: str, size: int) -> None:
    problem, n_chars = fed(HEAD + phrase * 6_000, size=size)
    assert problem == REPEATS
    assert n_chars < len(HEAD) + PHRASE_CHARS + 400


def test_lines_that_differ_by_a_number_are_seen_later() -> None:
    problem, n_chars = fed(HEAD + "".join(f"value_{n} = compute({n})\n" for n in range(1_000)))
    assert problem == REPEATS
    assert n_chars < 9_000


@pytest.mark.parametrize(
    "text",
    [
        "0, 0, 0,\n" * 55,
        "\n" * 55,
        "    },\n    {\n" * 25,
        "".join(f"    {n}: 'value {n}',\n" for n in range(256)),
        "".join(f'    ("case {n}", {n}, {n * n}),\n' for n in range(200)),
        "try:\n    x()\nexcept E:\n    pass\n" * 14,
        "x = '" + "=" * 500 + "'\n",
        "data = [" + "0, " * 500 + "]\n",
        "| --- | --- |\n" * 40,
        "".join(f"{a} {b}\n" for a in range(16) for b in "abcdefghijklmnop"),
    ],
)
def test_tables_and_test_data_are_none(text: str) -> None:
    assert fed(HEAD + text + ">>>>>>> REPLACE\n") == ("", len(HEAD) + len(text) + 16)


def test_what_a_file_repeats_may_be_quoted() -> None:
    text = "0, 0, 0,\n" * 500
    assert fed(HEAD + text)[0] == REPEATS
    assert fed(HEAD + text, (text,))[0] == ""


def test_far_more_text_than_the_files_have() -> None:
    chance = random.Random(1)
    text = "".join(f"{chance.random():.17f}"[2:] + chance.choice("abc\n") for _ in range(20_000))
    assert fed(text, ("x" * 100,), 1000) == (GROWS, MIN_ROOM + 1_000)
    assert fed(text, ("x\n" * 20, text), 1000) == ("", len(text))


def test_no_file_of_the_standard_library_is_one() -> None:
    folder = Path(sysconfig.get_path("stdlib"))
    paths = [path for path in sorted(folder.rglob("*.py")) if "site-packages" not in path.parts]
    chosen = random.Random(0).sample(paths, min(1_000, len(paths)))
    seen = [path for path in chosen if Runaway().feed(path.read_text("utf-8", "replace")) == REPEATS]
    assert seen == []
