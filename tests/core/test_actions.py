"""The code action menu: comments that ask for an edit, and which actions a language gets."""

from collections.abc import Sequence

import pytest
from core import test_inert
from hypothesis import given
from hypothesis import strategies as st
from singlepass.core.actions import (
    BUILTIN_ACTIONS,
    Action,
    CommentTask,
    action_name,
    actions_for,
    find_comment_task,
    fix_instruction,
    plain_text,
    problem_of,
    shown_title,
)


def check(text: str, expected: tuple[int, int, str] | None, at: int = 0, to: int | None = None) -> None:
    """The request found from the lines `at`..`to` of the text."""
    found = find_comment_task(text.split("\n"), at, at if to is None else to)
    assert found == (None if expected is None else CommentTask(*expected))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # One line, in many languages.
        ("# AI: sort the keys", (0, 1, "sort the keys")),
        ("#AI:sort", (0, 1, "sort")),
        ("    # singlepass: sort", (0, 1, "sort")),
        ("// singlepass: use a map", (0, 1, "use a map")),
        ("/// AI: use a map", (0, 1, "use a map")),
        ("/* AI: use a map */", (0, 1, "use a map")),
        ("/** AI: use a map */", (0, 1, "use a map")),
        ("<!-- AI: add a title -->", (0, 1, "add a title")),
        ("-- AI: add an index", (0, 1, "add an index")),
        (";; AI: make it tail recursive", (0, 1, "make it tail recursive")),
        ("% AI: use a table", (0, 1, "use a table")),
        ('" AI: map the key', (0, 1, "map the key")),
        ("\t//\tAI: tabs", (0, 1, "tabs")),
        ("# AI: turn a --> b into an arrow", (0, 1, "turn a --> b into an arrow")),
        # Several lines.
        ("# AI: sort the keys\n# and the values\ncode", (0, 2, "sort the keys and the values")),
        ("# AI: sort\n#\n# not this", (0, 1, "sort")),
        ("# AI: sort\n# AI: reverse", (0, 1, "sort")),
        ("-- AI: add\n-- an index\nSELECT", (0, 2, "add an index")),
        ("; AI: a\n; b\n(c)", (0, 2, "a b")),
        ("/* AI: make this\n   faster */\nint x;", (0, 2, "make this faster")),
        ("/* AI: make this\n * faster\n */\nint x;", (0, 3, "make this faster")),
        ("/* AI: make this\n *\n * a note\n */\nint x;", (0, 4, "make this")),
        ("<!-- AI: add\n  a title\n-->\n<p>", (0, 3, "add a title")),
        ("<!-- AI: add\n\n  a note -->\n<p>", (0, 3, "add")),
        ("<!--AI: add-->", (0, 1, "add")),
        ("/* AI: a\nAI: b */", (0, 2, "a")),
        # Inside a comment that others opened and close.
        ("/*\n * AI: make it faster\n * please\n */", (1, 3, "make it faster please")),
        ("/*\n * AI: faster\n * please */", (1, 2, "faster")),
        ("/*\n * AI: faster */", None),
        # A comment is removed when it is done, so code must not go with it.
        ("x = 1  # AI: name it", None),
        ("int x; // AI: name it", None),
        ("/* AI: name it */ int x;", None),
        ("/* AI: name\n it */ int x;", None),
        ("<!-- AI: name --> <p>", None),
        ("# AI: sort these\n'a': 1,", (0, 1, "sort these")),
        ('# AI: sort these\n"a": 1,', (0, 1, "sort these")),
        ('# AI: sort these\n" a', (0, 1, "sort these")),
        ("# AI: unpack\n*rest,", (0, 1, "unpack")),
        ("// AI: sort\n#include <a>", (0, 1, "sort")),
        ("// AI: count down\n--x;", (0, 1, "count down")),
        ("// AI: sort\n/// Documentation.", (0, 1, "sort")),
        ("-- AI: sort\n--- Documentation.", (0, 1, "sort")),
        ("# AI: sort\n## Heading", (0, 1, "sort")),
        # Not requests.
        ("# AI:", None),
        ("# AI: \ncode", None),
        ("/* AI: never closed", None),
        ("<!-- AI: never closed\n<p>", None),
        ("# ai: lower case", None),
        ("# AIR: x", None),
        ("# about AI: it is new", None),
        ("AI: no comment", None),
        ('"AI: a string",', None),
        ('" AI: a string",', None),
        ("", None),
    ],
)
def test_comments_ask_for_edits(text: str, expected: tuple[int, int, str] | None) -> None:
    check(text, expected, to=text.count("\n"))


FAR = "# AI: one\na\nb\nc\nd\ne\nf\n# AI: two"
LONG = "# AI: one\n# a\n# b\n# c\n# d\n# e\nx"


@pytest.mark.parametrize(
    ("text", "at", "to", "expected"),
    [
        (FAR, 0, 0, (0, 1, "one")),
        (FAR, 3, 3, (0, 1, "one")),
        (FAR, 4, 4, (7, 8, "two")),
        (FAR, 7, 7, (7, 8, "two")),
        ("# AI: one\n\n# AI: two", 0, 2, (0, 1, "one")),
        ("# AI: one\nx\ny\n# AI: two", 2, 2, (3, 4, "two")),
        ("# AI: one\n" + "x\n" * 4, 3, 3, (0, 1, "one")),
        ("# AI: one\n" + "x\n" * 4, 4, 4, None),
        ("x\n" * 4 + "# AI: one", 1, 1, (4, 5, "one")),
        ("x\n" * 4 + "# AI: one", 0, 0, None),
        # The cursor stands in the request, or by its end.
        (LONG, 5, 5, (0, 6, "one a b c d e")),
        (LONG, 6, 6, (0, 6, "one a b c d e")),
        (FAR, 99, 99, None),
    ],
)
def test_the_nearest_request_counts(
    text: str, at: int, to: int, expected: tuple[int, int, str] | None
) -> None:
    check(text, expected, at, to)


PIECES = ("# ", "// ", "/* ", " */", "<!-- ", "-->", " * ", "AI: ", "x", "", '" ', "-- ")


@given(st.lists(st.lists(st.sampled_from(PIECES), max_size=4).map("".join), max_size=8), st.data())
def test_what_is_removed_with_a_request_opens_and_closes_its_own_comments(
    lines: list[str], data: st.DataObject
) -> None:
    line = data.draw(st.integers(0, 10))
    found = find_comment_task(lines, line, line)
    if found is None:
        return
    assert found.instruction.strip()
    assert 0 <= found.start < found.end <= len(lines)
    first, *_ = removed = "\n".join(lines[found.start : found.end]).strip().split("\n")
    for opener, closer in (("/*", "*/"), ("<!--", "-->")):
        if first.strip().startswith(opener):
            assert "\n".join(removed).endswith(closer)
    if first.strip().startswith("*"):
        assert "*/" not in "\n".join(removed)


def titles(language: str, own: Sequence[Action] = ()) -> list[str]:
    return [action.title for action in actions_for(language, own)]


def test_own_actions_come_first_and_languages_choose() -> None:
    own = [Action("Mine", "do"), Action("For Go", "do", languages=("go",))]
    everywhere = [action.title for action in BUILTIN_ACTIONS if not action.languages]
    assert titles("go", own) == ["Mine", "For Go", *everywhere]
    assert titles("python", own) == ["Mine", *(action.title for action in BUILTIN_ACTIONS)]
    assert "Add type annotations" not in titles("go")


def test_by_what_requests_are_alike() -> None:
    own = [Action("Translate", "Translate the comments.")]
    assert action_name("Translate", "refactor.rewrite", own) == "Translate"
    assert action_name("Simplify", "refactor.rewrite", own) == "Simplify"
    assert action_name("Fix: unused import", "quickfix", own) == "quickfix"
    assert action_name("rename the key of Bob's safe", "", own) == ""


def test_a_quick_fix_names_every_problem() -> None:
    instruction = fix_instruction(["unused import", "undefined name"])
    assert "unused import" in instruction
    assert "undefined name" in instruction


@given(st.lists(test_inert.pieces).map("".join))
def test_a_title_is_one_short_line_that_does_nothing(text: str) -> None:
    title = shown_title(text)
    test_inert.check(title)
    assert "\n" not in title
    assert len(title) <= 70
    assert title == " ".join(title.split())
    # Whoever wrote an action, it has such a title.
    assert Action(text, "do").title == title


@pytest.mark.parametrize("text", test_inert.HOSTILE)
def test_hostile_titles(text: str) -> None:
    test_inert.check(shown_title(text))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Simplify", "Simplify"),
        ("", ""),
        ("two\n  lines\t", "two lines"),
        ("x" * 71, "x" * 69 + "…"),
        ("word " * 1_000_000, "word " * 13 + "word…"),
        ("\u202eevil\u200b", "<U+202E>evil<U+200B>"),
    ],
)
def test_titles(text: str, expected: str) -> None:
    assert shown_title(text) == expected


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        (["/* AI: x"] * 100_000, None),
        (["/* AI: x"] * 100_000 + ["*/"], None),  # what ends so far away is not one of them
        (["/* AI: x", "*/ code"] * 50_000, None),
        (["# AI: x"] * 100_000, (0, 1, "x")),
        (["x"] * 99_990 + ["/* AI: x", "*/", "# AI: y"], (99_990, 99_992, "x")),
        (["/* AI: " + "x" * 1_000_000], None),
    ],
)
def test_a_selection_of_many_lines_that_ask_is_looked_through_once(
    lines: list[str], found: tuple[int, int, str] | None
) -> None:
    """Without the limits the first three would take minutes."""
    assert find_comment_task(lines, 0, len(lines)) == (CommentTask(*found) if found else None)


@pytest.mark.parametrize(
    ("markdown", "expected"),
    [
        ("", ""),
        ("  plain words  ", "plain words"),
        ("**error**: `x` is *unused*", "error: x is unused"),
        ("# Title\n\n- one\n- two", "Title\n\none\ntwo"),
        ("> said", "said"),
        ("see [the docs](https://a/b) and ![a picture](c.png)", "see the docs and a picture"),
        ("```py\nx = 1\n```", "x = 1"),
        ("``List[int]`` is not ~~that~~", "List[int] is not that"),
        ("**expected `int`**", "expected int"),
        # What only looks like it.
        ("my_var and __init__ stay", "my_var and __init__ stay"),
        ("2*3*4 and a * b * c", "2*3*4 and a * b * c"),
        ("`*args` and `**kwargs`", "*args and **kwargs"),
        ("\\*not\\* this", "*not* this"),
        ("a[0](1)", "a0"),  # a link
        ("a `b", "a `b"),
    ],
)
def test_a_message_in_markdown_has_words(markdown: str, expected: str) -> None:
    assert plain_text(markdown) == expected


@given(st.text(alphabet="*_`[(#> \\\nab", max_size=60).filter(lambda text: "```" not in text))
def test_no_word_is_lost(markdown: str) -> None:
    letters = [char for char in plain_text(markdown) if char in "ab"]
    assert letters == [char for char in markdown if char in "ab"]


@pytest.mark.parametrize(
    ("message", "source", "code", "expected"),
    [
        (" is unused\n", "ruff", "F401", "is unused"),
        ("", "ruff", "F401", "ruff F401"),
        (" ", "tsc", 2304, "tsc 2304"),
        ("", "rustc", None, "rustc"),
        ("", None, "E1", "E1"),
        ("", "", "", "the problem on line 1,235"),
        ("\n", None, None, "the problem on line 1,235"),
    ],
)
def test_a_problem_in_words(message: str, source: str | None, code: int | str | None, expected: str) -> None:
    assert problem_of(message, source, code, 1234) == expected
