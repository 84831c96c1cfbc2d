"""Ignore patterns. What they match is compared with git in `tests/server/test_files.py`; here, what they cost
and which undo which."""

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from singlepass.files.ignoring import MAX_WILD_CHARS, Rules, hides, parse_pattern, rules_of

LONG = "a" * 255
DEEP = "/".join("a" * 100)
WIDE = "/".join(["ab" * 20] * 60)
SIZE = 256 * 1024

HOSTILE = {
    "many stars": "*a" * 60 + "b",
    "stars and questions": "*?" * 60 + "b",
    "stars and sets": "*[ab]" * 40 + "c",
    "all that is not": "*[!b]" * 40 + "c",
    "folders": "**/a/" * 40 + "b",
    "any folders": "**/*/" * 40 + "b",
    "folders of many stars": "**/*a*a*a/" * 12 + "b",
    "one letter": "?/" * 99 + "b",
    "one star in text": "a*a",
    "short": "*a*",
    "nothing but stars": "*" * 300 + "b",
    "brackets": "[" * 300,
    "classes": "[[:alpha:]]*" * 20 + "1",
    "ranges": "[\x01-\xff]*" * 30 + "b/",
    "names": "a",
    "paths": "a/a",
}

WATCHED = """
import sys, time
from singlepass.files.ignoring import hides, Rules
line, size, *paths = sys.argv[1:]
n = int(size) // (len(line) + 1)
rules = (Rules([line] * n), Rules([f"{line}{number}" for number in range(n)]))
for path in paths:
    hides(rules, path)
"""


@pytest.mark.parametrize("line", HOSTILE.values(), ids=HOSTILE)
def test_a_whole_file_of_any_pattern_is_matched_at_once(line: str) -> None:
    """256 KiB of it, against a long path and two deep ones with all their folders. A single one of some of
    these patterns took a regular expression longer than anyone waits; all this takes less than a second."""
    command = [sys.executable, "-c", WATCHED, line, str(SIZE), LONG, DEEP, WIDE]
    subprocess.run(command, check=True, timeout=60)


@pytest.mark.parametrize(
    "line", [" " * SIZE, "a" + " " * SIZE, "\\" * SIZE, "*" * SIZE, "[a" * SIZE, "!" * SIZE]
)
def test_a_line_longer_than_any_path_is_no_pattern(line: str) -> None:
    rules = Rules([line, "b"])
    assert rules.decide(LONG, is_folder=False) is None
    assert rules.decide("b", is_folder=False)


def test_patterns_without_wildcards_are_as_many_as_they_are() -> None:
    rules = Rules([*(f"{number}.py" for number in range(30_000)), "!7.py", "/a/b", "c/"])
    assert rules.n_unused == 0
    decided = {path: rules.decide(path, is_folder=False) for path in ("x/6.py", "7.py", "a/b", "x/a/b", "c")}
    assert decided == {"x/6.py": True, "7.py": False, "a/b": True, "x/a/b": None, "c": None}
    assert rules.decide("c", is_folder=True)


def test_patterns_with_wildcards_have_a_limit_that_is_told() -> None:
    lines = [f"*{number:08}*" for number in range(MAX_WILD_CHARS // 10 + 5)]
    rules = Rules([*lines, "name"])
    assert rules.n_unused == 5
    decided = [rules.decide(name, is_folder=False) for name in ("x00000007x", f"x{lines[-1]}x", "name")]
    assert decided == [True, None, True]


SEGMENTS = st.lists(st.sampled_from(["a", "b", "*", "?", "[ab]", "[!a]", "\\a"]), min_size=1, max_size=5).map(
    "".join
)
NAMES = st.text("ab", min_size=1, max_size=6)


def slow(pattern: str, text: str) -> bool:
    """The definition, by trying everything."""
    if not pattern:
        return not text
    if pattern[0] == "*":
        return any(slow(pattern[1:], text[idx:]) for idx in range(len(text) + 1))
    for token, chars in (("?", "ab"), ("[ab]", "ab"), ("[!a]", "b"), ("\\a", "a"), ("a", "a"), ("b", "b")):
        if pattern.startswith(token):
            return bool(text) and text[0] in chars and slow(pattern[len(token) :], text[1:])
    raise AssertionError(pattern)


def slow_path(pattern: list[str], path: list[str]) -> bool:
    if not pattern:
        return not path
    if pattern[0] == "**":
        least = 1 if len(pattern) == 1 else 0
        return any(slow_path(pattern[1:], path[idx:]) for idx in range(least, len(path) + 1)) or (
            least == 1 and bool(path)
        )
    return bool(path) and slow(pattern[0], path[0]) and slow_path(pattern[1:], path[1:])


@given(SEGMENTS, NAMES)
def test_a_name_is_matched_as_if_everything_had_been_tried(pattern: str, name: str) -> None:
    parsed = parse_pattern(pattern)
    assert parsed is not None
    assert parsed.matches(name, name) == slow(pattern, name)


@given(
    st.lists(st.one_of(SEGMENTS.filter(lambda one: "**" not in one), st.just("**")), min_size=2, max_size=6),
    st.lists(NAMES, min_size=1, max_size=7),
)
def test_a_path_is_matched_as_if_everything_had_been_tried(pattern: list[str], path: list[str]) -> None:
    parsed = parse_pattern("/" + "/".join(pattern))
    assert parsed is not None
    assert parsed.matches("/".join(path), path[-1]) == slow_path(pattern, path)


@pytest.mark.parametrize(
    ("ignore", "path", "hidden"),
    [
        (("*.log", "!keep.log"), "keep.log", False),
        (("*.log",), "a/b.log", True),
        (("out/", "!out/a"), "out/a", True),  # what lies in an ignored folder cannot be brought back
        # An entry of several lines is a file of its own.
        (("*.log", "!keep.log\n*.tmp\n!keep.tmp"), "keep.log", True),
        (("*.log", "!keep.log\n*.tmp\n!keep.tmp"), "keep.tmp", False),
        (("*.log", "!keep.log\n*.tmp\n!keep.tmp"), "a.tmp", True),
        (("a\n!b", "b\n!a"), "a", True),
        (("a\n!b", "b\n!a"), "b", True),
        (("!a",), "a", False),
        ((), "a", False),
        (("größe.*",), "x/größe.py", True),
        (("g?sse",), "größe", False),
    ],
)
def test_no_file_of_patterns_undoes_another(ignore: tuple[str, ...], path: str, hidden: bool) -> None:
    assert hides(rules_of(ignore), path) == hidden
