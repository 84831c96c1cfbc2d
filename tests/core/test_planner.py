"""The planner: hunks against snapshots, and planned edits against a buffer that moved on."""

import itertools
from collections.abc import Sequence

import pytest
from core.texts import plain_lines, texts
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from singlepass.core.diff_parser import DiffParser, Hunk, HunkDropped
from singlepass.core.edits import Edit, Snapshot, apply
from singlepass.core.lines import line_ending, split_lines, visible_lines
from singlepass.core.planner import PlannedHunk, RejectedHunk, plan, rebase, reject_dropped
from singlepass.core.replies.borders import with_blank_lines


def planned(text: str, old: Sequence[str], new: Sequence[str], index: int = 0) -> PlannedHunk | RejectedHunk:
    hunk = Hunk(index, "a.py", tuple(old), tuple(new))
    return plan(hunk, {"a.py": Snapshot("file:///a.py", 1, text)}, None, ())


def check(text: str, old: Sequence[str], new: Sequence[str], expected: str, n_edits: int = 1) -> None:
    """Plan and apply; `n_edits` says that untouched lines are in none."""
    result = planned(text, old, new)
    assert isinstance(result, PlannedHunk), result
    assert apply(text, result.edits) == expected
    assert len(result.edits) == n_edits
    for edit in result.edits:
        assert result.start <= edit.start <= edit.end <= result.end


@pytest.mark.parametrize(
    ("text", "old", "new", "expected", "n_edits"),
    [
        ("a\nb\nc\n", ["b"], ["x"], "a\nx\nc\n", 1),
        ("a\nb\nc\n", ["b"], [], "a\nc\n", 1),
        ("a\nb\nc\n", ["b"], ["b", "x"], "a\nb\nx\nc\n", 1),
        ("a\nb\nc\n", ["a", "b", "c"], ["x", "b", "y"], "x\nb\ny\n", 2),
        ("a\nb\n", ["b"], ["b"], "a\nb\n", 0),
        # The line end of the lines around; those of unchanged lines stay.
        ("a\r\nb\r\n", ["b"], ["x", "y"], "a\r\nx\r\ny\r\n", 1),
        ("a\r\nb\nc\r\n", ["a", "b", "c"], ["a", "b", "x", "c"], "a\r\nb\nx\r\nc\r\n", 1),
        ("a\rb\r", ["b"], ["x", "y"], "a\rx\ry\r", 1),
        # No line end at the end of the file.
        ("a\nb", ["b"], ["x"], "a\nx", 1),
        ("a\nb", ["b"], ["x", "y"], "a\nx\ny", 1),
        ("a\nb", ["b"], ["b", "x"], "a\nb\nx", 1),
        ("a\nb", ["a"], ["x"], "x\nb", 1),
        ("a\r\nb", ["a", "b"], ["a", "b", "c"], "a\r\nb\r\nc", 1),
        ("a", ["a"], [], "", 1),
        ("a\nb", ["a", "b"], ["a"], "a", 1),
        ("a\nb", ["b"], [], "a\n", 1),
        ("a\nb", ["b"], [""], "a\n\n", 1),
        # Documents without text.
        ("", [], ["x", "y"], "x\ny\n", 1),
        ("\ufeff", [], ["x"], "\ufeffx\n", 1),
        ("\n\n", [], ["x"], "x\n", 1),
        # A byte order mark, a lone surrogate and trailing spaces stay.
        ("\ufeffa\nb\n", ["a"], ["x"], "\ufeffx\nb\n", 1),
        ("\ufeffa\nb\n", ["a"], ["x", "a"], "\ufeffx\na\nb\n", 1),
        ("\ud800\nb\n", ["\ufffd", "b"], ["\ufffd", "x"], "\ud800\nx\n", 1),
        ("a  \nb \n", ["a", "b"], ["a", "x"], "a  \nx\n", 1),
        # The document's indentation, and its own words where the model misquoted them.
        ("  if a:\n    b\n", ["if a:", "  b"], ["if c:", "", "  b"], "  if c:\n\n    b\n", 1),
        ("\tif a:\n\t\tb\n", ["    if a:"], ["    if a:", "    \tc"], "\tif a:\n\t\tc\n\t\tb\n", 1),
        (
            "value = compute(first, second)\nreturn value\n",
            ["value = compute(frist, second)", "return value"],
            ["value = compute(frist, second)", "return -value"],
            "value = compute(first, second)\nreturn -value\n",
            1,
        ),
        # Two line ends that meet stay two.
        ("a\rb\n\n", ["b"], [], "a\r\r\n", 1),
        ("a\rb\nc\n", ["b"], ["", "b"], "a\r\r\nb\nc\n", 1),
        ("a\rb\r\n", ["b"], ["x", "y"], "a\rx\r\ny\r\n", 1),
    ],
)
def test_hunks_become_minimal_line_edits(
    text: str, old: list[str], new: list[str], expected: str, n_edits: int
) -> None:
    check(text, old, new, expected, n_edits)


@pytest.mark.parametrize(
    ("path", "old", "reason", "message"),
    [
        ("b.py", ["a"], "unknown_file", "“b.py” is none of the files that may be edited."),
        (
            "a.py",
            ["x"],
            "ambiguous",
            "The old line occurs 2 times (from lines 2 and 4); which is meant is not known.",
        ),
        (
            "a.py",
            ["def nothing():", "c"],
            "not_found",
            "The 2 old lines are not in the file. Most similar: lines 2 to 3 (19%).",
        ),
        ("a.py", [], "not_found", "The block has no old lines, and the file is not empty."),
        ("a.py", ["q"] * 9, "not_found", "The block has 9 old lines, the file only 5."),
        ("a.py", ["a", "x"], "overlap", "Lines 1 to 2 are already changed by block 1."),
    ],
)
def test_what_does_not_fit_is_rejected_with_a_reason(
    path: str, old: list[str], reason: str, message: str
) -> None:
    snapshots = {"a.py": Snapshot("file:///a.py", 1, "a\nx\nc\nx\ne\n")}
    first = plan(Hunk(0, "a.py", ("a",), ("b",)), snapshots, None, ())
    assert isinstance(first, PlannedHunk)
    result = plan(Hunk(1, path, tuple(old), ("y",)), snapshots, None, [first])
    assert isinstance(result, RejectedHunk)
    assert (result.reason, result.message) == (reason, message)


@pytest.mark.parametrize(
    ("path", "is_stated", "old", "selection", "expected"),
    [
        ("a.py", True, "x", ("a.py", 1, 2), "a.py"),
        ("./a.py", True, "x", ("a.py", 1, 2), "a.py"),
        ("/home/me/project/b.py", True, "x", None, "b.py"),
        ("a.py", True, "x", ("b.py", 0, 1), None),
        ("c.py", True, "x", None, None),
        # Without a path that can be read the old lines stand in one file, or within the selection.
        ("", False, "x", ("b.py", 0, 1), "b.py"),
        ("", False, "x", None, None),
        ("", False, "only in b", None, "b.py"),
        ("", False, "only in b", ("a.py", 0, 1), "b.py"),
        ("a.py", False, "only in b", None, "b.py"),
        ("a.py", False, "in both", None, None),
        ("", False, "in neither", ("a.py", 0, 1), None),
    ],
)
def test_path_and_selection(
    path: str, is_stated: bool, old: str, selection: tuple[str, int, int] | None, expected: str | None
) -> None:
    texts = {"a.py": "x\nx\nin both\n", "b.py": "x\nonly in b\nin both\n"}
    snapshots = {name: Snapshot(name, 1, text) for name, text in texts.items()}
    result = plan(Hunk(0, path, (old,), ("y",), is_stated), snapshots, selection, ())
    assert (result.snapshot.uri if isinstance(result, PlannedHunk) else None) == expected
    if isinstance(result, PlannedHunk):
        assert result.hunk.path == expected


# What a model misquotes, and what becomes of the document: `None` where that cannot be known.
METHOD = "class A:\n    def get(self, key):\n        return self.rows[key]  # may raise\n"
MISQUOTED: dict[str, tuple[str, list[str], list[str], str | None]] = {
    "a comment left out": (
        METHOD,
        ["        return self.rows[key]"],
        ["        return self.rows.get(key)"],
        METHOD.replace("[key]", ".get(key)"),
    ),
    "a comment left out of a line that goes": (METHOD, ["        return self.rows[key]"], [], METHOD[:33]),
    "another comment in its place": (
        METHOD,
        ["        return self.rows[key]"],
        ["        return self.rows[k]  # b"],
        None,
    ),
    "a number": (
        "version = 1.19\nname = 'x'\n",
        ["version = 1.9", "name = 'x'"],
        ["version = 1.9", "name = 'y'"],
        "version = 1.19\nname = 'y'\n",
    ),
    "the number that changes": (
        "limit_of_rows = 119\n",
        ["limit_of_rows = 19"],
        ["limit_of_rows = 20"],
        None,
    ),
    "the start of a line": (
        "self.parser.add(path, encoding)\n",
        ["parser.add(path, encoding)"],
        ["parser.add(path)"],
        "self.parser.add(path)\n",
    ),
    "a semicolon": ("call(first, second);\n", ["call(first, second)"], ["call(first)"], "call(first);\n"),
    "smart quotes": (
        'raise ValueError("no")\n',
        ["raise ValueError(“no”)"],
        ["raise KeyError(“no”)"],
        'raise KeyError("no")\n',
    ),
    "straight quotes for the document's": (
        "It’s “one” word.\n",
        ['It\'s "one" word.'],
        ['It\'s "two" words.'],
        "It’s “two” words.\n",
    ),
    "entities": ("a -> b && c\n", ["a -&gt; b &amp;&amp; c"], ["a -&gt; b || d &lt; e"], "a -> b || d < e\n"),
    "composed characters": (
        "name = 'e\u0301'\nx = 1\n",
        ["name = '\xe9'", "x = 1"],
        ["name = '\xe9'", "x = 2"],
        "name = 'e\u0301'\nx = 2\n",
    ),
    "escapes of Markdown": (
        "my_name = 1\n",
        ["my\\_name = 1"],
        ["my\\_other\\_name = 1"],
        "my_other_name = 1\n",
    ),
    "no-break spaces": ("x = 1\n", ["x\xa0=\xa01"], ["x\xa0=\xa02"], "x = 2\n"),
    "a blank line behind": ("a\nb\nc\n", ["a", "b", ""], ["a", "x"], "a\nx\nc\n"),
    "a blank line before": ("a\nb\nc\n", ["", "b"], ["x"], "a\nx\nc\n"),
    "blank lines in both": ("a\nb\nc\n", ["", "b", ""], ["", "x", ""], "a\nx\nc\n"),
    "fences": ("a\nb\n", ["```py", "b", "```"], ["```py", "x", "```"], "a\nx\n"),
    "line numbers": (
        "  a\n  b\n",
        [" 9|   a", "10|   b"],
        [" 9|   a", "10|   x", "11|   y"],
        "  a\n  x\n  y\n",
    ),
    "line numbers and tabs": ("\ta\n\tb\n", ["1\t\ta", "2\t\tb"], ["1\t\ta", "2\t\tx"], "\ta\n\tx\n"),
    "signs of a diff": ("  a\n  b\n", ["-  a", "-  b"], ["+  a", "+  x"], "  a\n  x\n"),
    "signs in a column": ("  a\n  b\n", ["   a", "-  b"], ["   a", "+  x"], "  a\n  x\n"),
    "signs before new lines only": ("  a\n  b\n", ["  a", "  b"], ["  a", "+  x", "  b"], "  a\n  x\n  b\n"),
    "a diff among the new lines": ("a\nb\n", ["a", "b"], ["a", "-b", "+x"], "a\nx\n"),
    "marks of a quotation": ("a\nb\n", ["> a", "> b"], ["> a", "> x"], "a\nx\n"),
    "two habits at once": ("  a\n  b\n", ["", "1:   a", "2:   b", ""], ["1:   a", "2:   x"], "  a\n  x\n"),
    "half the indentation": (
        "if a:\n    b\n    c\n",
        ["if a:", "  b"],
        ["if a:", "  if d:", "    b"],
        "if a:\n    if d:\n        b\n    c\n",
    ),
    "spaces for tabs": (
        "f {\n\tb\n}\n",
        ["f {", "    b"],
        ["f {", "    b", "    if c {", "        d", "    }"],
        "f {\n\tb\n\tif c {\n\t\td\n\t}\n}\n",
    ),
    "no indentation, the new lines have it": (
        "def f():\n    return 1\n",
        ["return 1"],
        ["    return 2"],
        "def f():\n    return 2\n",
    ),
    "the first line without indentation": (
        "  if a:\n    b\n",
        ["if a:", "    b"],
        ["if c:", "    b"],
        "  if c:\n    b\n",
    ),
    "no indentation at all": (
        "def f():\n    if a:\n        b = 1\n",
        ["if a:", "b = 1"],
        ["if a:", "b = 2"],
        "def f():\n    if a:\n        b = 2\n",
    ),
    "no indentation, and a level is new": ("def f():\n    b = 1\n", ["b = 1"], ["if a:", "b = 1"], None),
    "indented on purpose": ("if a:\n    b\nc\n", ["c"], ["    c"], "if a:\n    b\n    c\n"),
    "white space at line ends": ("a\nb\n", ["a  ", "b"], ["x  ", "b"], "x\nb\n"),
    "nothing but a number": ("x = 1\n\ny = 2\n", ["  2"], ["z"], None),
    "nothing but a sign": ("x = 1\n\ny = 2\n", ["-"], ["z"], None),
    "a line left out, all replaced": (
        "open(first)\nread(second)\nwrite(third)\n",
        ["open(first)", "write(third)"],
        ["run()"],
        None,
    ),
    "a line of elsewhere": ("a = 1\nb = 2\nc = 3\n", ["a = 1", "z = 9", "c = 3"], ["a = 1"], None),
    "a placeholder": ("a\nb\nc\n", ["a", "b", "c"], ["x", "# ... existing code ...", "c"], None),
    "a fence around the new lines": ("a\nb\n", ["a"], ["```", "x", "```"], None),
}


@pytest.mark.parametrize("name", MISQUOTED)
@pytest.mark.parametrize("eol", ["\n", "\r\n"])
def test_a_misquoted_hunk_does_what_was_meant_or_nothing(name: str, eol: str) -> None:
    text, old, new, expected = MISQUOTED[name]
    text, expected = text.replace("\n", eol), expected and expected.replace("\n", eol)
    result = planned(text, old, new)
    assert (apply(text, result.edits) if isinstance(result, PlannedHunk) else None) == expected, result
    if isinstance(result, RejectedHunk):
        assert result.message


def rewritten(text: str, new: list[str], selection: tuple[int, int] | None) -> PlannedHunk | RejectedHunk:
    hunk = Hunk(0, "", (), tuple(new), is_path_stated=False, is_rewrite=True)
    return plan(hunk, {"a.py": Snapshot("a", 1, text)}, selection and ("a.py", *selection), ())


def test_a_rewrite_becomes_the_lines_that_differ() -> None:
    text = "a = 1\r\nb = 2\r\nc = 3\r\nd = 4\r\n"
    result = rewritten(text, ["a = 1", "b = 5", "c = 3", "d = 6"], None)
    assert isinstance(result, PlannedHunk)
    assert (result.how, len(result.edits)) == ("rewrite", 2)
    assert apply(text, result.edits) == "a = 1\r\nb = 5\r\nc = 3\r\nd = 6\r\n"
    # Only these lines have to stay as they are until then.
    assert text[result.start : result.end] == "b = 2\r\nc = 3\r\nd = 4\r\n"
    refused = rewritten(text, ["b = 5"], None)
    assert isinstance(refused, RejectedHunk)
    assert refused.reason == "unreadable"


def test_hunks_may_quote_the_same_lines_but_not_change_them() -> None:
    text, snapshots = "a\nb\nc\nd\n", {"a.py": Snapshot("a", 1, "a\nb\nc\nd\n")}

    def both(one: tuple[str, str], other: tuple[str, str]) -> str | None:
        taken: list[PlannedHunk] = []
        for index, (old, new) in enumerate((one, other)):
            hunk = plan(Hunk(index, "a.py", tuple(old), tuple(new)), snapshots, None, taken)
            if isinstance(hunk, RejectedHunk):
                assert hunk.reason == "overlap"
                return None
            taken.append(hunk)
        now, changes = text, list[Edit]()
        for hunk in taken:
            edits = rebase(hunk, changes, now)
            assert not isinstance(edits, RejectedHunk)
            changes += reversed(edits)
            now = apply(now, edits)
        return now.replace("\n", "")

    assert both(("ab", "xb"), ("bc", "by")) == "xbyd"
    assert both(("bc", "by"), ("ab", "xb")) == "xbyd"
    assert both(("abc", "xbc"), ("bcd", "bcy")) == "xbcy"
    assert both(("ab", "xy"), ("bc", "bz")) == "xyzd"
    assert both(("ab", "xy"), ("bc", "zc")) is None
    assert both(("abc", "ac"), ("b", "x")) is None
    assert both(("ab", "abx"), ("bc", "byc")) is None
    assert both(("abcd", "xbcy"), ("bc", "bz")) == "xbzy"
    assert both(("bc", "bz"), ("abcd", "xbcy")) is None


def test_a_second_hunk_for_an_empty_file_overlaps() -> None:
    snapshots = {"a.py": Snapshot("a", 1, "")}
    first = plan(Hunk(0, "a.py", (), ("x",)), snapshots, None, ())
    assert isinstance(first, PlannedHunk)
    second = plan(Hunk(1, "a.py", (), ("y",)), snapshots, None, [first])
    assert isinstance(second, RejectedHunk)
    assert second.reason == "overlap"


@pytest.mark.parametrize(("complete", "reason"), [(False, "cut_off"), (True, "malformed")])
def test_dropped_blocks_are_reported_too(complete: bool, reason: str) -> None:
    parser = DiffParser()
    parser.feed("a.py\n<<<<<<< SEARCH\nold\n=======\nne")
    (event,) = parser.close(complete)
    assert isinstance(event, HunkDropped)
    rejected = reject_dropped(event)
    assert (rejected.reason, rejected.hunk) == (reason, Hunk(0, "a.py", ("old",), ("ne",)))


def slow_result(text: str, start: int, end: int, new: Sequence[str]) -> list[str]:
    shown = visible_lines(text)
    return [*shown[:start], *new, *shown[end:]]


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_edits_replace_the_lines_and_nothing_else(data: st.DataObject) -> None:
    text = data.draw(texts())
    lines, shown = split_lines(text), visible_lines(text)
    # Old lines may be missing only in a document without any.
    start = data.draw(st.integers(0, max(len(lines) - 1, 0)))
    end = data.draw(st.integers(min(start + 1, len(lines)), len(lines)))
    old = shown[start:end]
    assume([shown[i : i + len(old)] for i in range(len(shown))].count(old) == 1 or not shown)
    new = data.draw(st.lists(st.sampled_from(old) | plain_lines if old else plain_lines, max_size=6))
    # Where a text has tabs, spaces at the start of new lines become tabs, and the reverse.
    assume(not any(line[:1].isspace() for line in shown) or not any(line[:1].isspace() for line in new))
    # Without the grammar, lines that look repeated or out of place would be seen to.
    hunk = Hunk(0, "a.py", tuple(old), tuple(new), is_constrained=True)
    result = plan(hunk, {"a.py": Snapshot("file:///a.py", 1, text)}, None, ())
    assert isinstance(result, PlannedHunk), result
    assert result.how == "exact"
    after = apply(text, result.edits)

    # The lines are those of the slow model.
    # Blank lines at its borders have their own tests.
    new = with_blank_lines(shown, start, end, new)
    assert visible_lines(after) == slow_result(text, start, end, new)
    # Outside of the span every byte is as before, but for a `\r` that keeps two line ends apart.
    assert after.startswith(text[: result.start])
    assert after.endswith(text[result.end :])
    assert after.startswith("\ufeff") == text.startswith("\ufeff")
    # The last line keeps having, or not having, a line end, unless it was deleted.
    if lines and lines[-1].next == lines[-1].end and new:
        assert not after.endswith(("\n", "\r")) or visible_lines(after)[-1] == ""
    # Every line end is the one of the lines replaced, unless those had none or two had to be kept apart.
    if "\r" not in text.replace("\r\n", "") and not (old and not new):
        eol = line_ending(
            text[result.start : result.end] if "\n" in text[result.start : result.end] else text
        )
        written = "".join(edit.new for edit in result.edits)
        assert written.replace(eol, "").count("\n") == 0


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_rebased_edits_do_the_same_or_are_stale(data: st.DataObject) -> None:
    text = data.draw(texts(contents=st.sampled_from(["a", "b", "", "cc"])))
    lines, shown = split_lines(text), visible_lines(text)
    # Old lines may be missing only in a document without any.
    start = data.draw(st.integers(0, max(len(lines) - 1, 0)))
    end = data.draw(st.integers(min(start + 1, len(lines)), len(lines)))
    old = shown[start:end]
    result = planned(text, old, ["x", *old[1:], "y"])
    assume(isinstance(result, PlannedHunk))
    assert isinstance(result, PlannedHunk)
    now = text
    changes: list[Edit] = []
    for _ in range(data.draw(st.integers(0, 3))):
        borders = [line.start for line in split_lines(now)] + [len(now)]
        place = st.sampled_from(borders) | st.integers(0, len(now))
        a, b = sorted(data.draw(st.tuples(place, place)))
        changes.append(
            Edit(a, data.draw(st.sampled_from([a, b])), data.draw(st.sampled_from(["", "u", "u\n", "\nu"])))
        )
        now = apply(now, [changes[-1]])
    edits = rebase(result, changes, now)
    if isinstance(edits, RejectedHunk):
        assert edits.reason == "stale"
        assert changes
        return
    # Whole lines equal to the old ones, at one place, became the new ones; all others are as they were.
    before, after = visible_lines(now), visible_lines(apply(now, edits))
    new = with_blank_lines(shown, start, end, ["x", *old[1:], "y"])
    places = [i for i in range(len(before) + 1) if before[i : i + len(old)] == old]
    assert any([*before[:i], *new, *before[i + len(old) :]] == after for i in places)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (Edit(0, 0, "u\n"), "u\na\nX\nc\n"),  # a line above
        (Edit(2, 2, "u\n"), "a\nu\nX\nc\n"),  # a line just above
        (Edit(4, 4, "u\n"), "a\nX\nu\nc\n"),  # a line just below
        (Edit(0, 2, ""), "X\nc\n"),  # the line above deleted
        (Edit(4, 6, ""), "a\nX\n"),  # the line below deleted
        (Edit(2, 2, "u"), None),  # typed at the hunk's first column
        (Edit(1, 2, ""), None),  # the line above joined
        (Edit(3, 4, ""), None),  # the line below joined
        (Edit(3, 3, "u"), None),  # typed at the hunk's last column
        (Edit(0, 6, "a\nb\nc\n"), None),  # all replaced
    ],
)
def test_what_the_user_does_beside_a_hunk_moves_it_and_in_it_rejects_it(
    change: Edit, expected: str | None
) -> None:
    text = "a\nb\nc\n"
    result = planned(text, ["b"], ["X"])
    assert isinstance(result, PlannedHunk)
    now = apply(text, [change])
    edits = rebase(result, [change], now)
    assert (None if isinstance(edits, RejectedHunk) else apply(now, edits)) == expected


@pytest.mark.parametrize(("change", "expected"), [(Edit(3, 3, "\nu"), "a\nX\nu"), (Edit(3, 3, "u"), None)])
def test_a_last_line_without_line_end_may_get_one(change: Edit, expected: str | None) -> None:
    result = planned("a\nb", ["b"], ["X"])
    assert isinstance(result, PlannedHunk)
    now = apply("a\nb", [change])
    edits = rebase(result, [change], now)
    assert (None if isinstance(edits, RejectedHunk) else apply(now, edits)) == expected


def test_an_empty_document_that_got_text_is_stale() -> None:
    result = planned("", [], ["x"])
    assert isinstance(result, PlannedHunk)
    assert isinstance(rebase(result, [Edit(0, 0, "u\n")], "u\n"), RejectedHunk)
    assert rebase(result, [Edit(0, 0, "u"), Edit(0, 1, "")], "") == result.edits


def test_long_hunks_are_quick_and_only_what_changes_is_edited() -> None:
    shown = ["x = 1"] * 4000
    check("x = 1\n" * 4000, shown, ["y", *shown, "z"], "y\n" + "x = 1\n" * 4000 + "z\n", 1)
    check("x = 1\n" * 4000, shown, [*shown, "z"], "x = 1\n" * 4000 + "z\n", 1)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_hunks_applied_one_by_one_give_what_all_at_once_give(data: st.DataObject) -> None:
    eol = data.draw(st.sampled_from(["\n", "\r\n"]))
    shown = [f"line {i}" for i in range(data.draw(st.integers(1, 8)))]
    text = eol.join(shown) + data.draw(st.sampled_from(["", eol]))
    cuts = sorted(data.draw(st.sets(st.integers(0, len(shown)), min_size=2)))
    snapshots = {"a.py": Snapshot("a", 1, text)}
    hunks: list[PlannedHunk] = []
    for index, (start, end) in enumerate(itertools.pairwise(cuts)):
        old = shown[start:end]
        new = data.draw(st.lists(st.sampled_from([*old, "x", ""]), max_size=5))
        result = plan(Hunk(index, "a.py", tuple(old), tuple(new)), snapshots, None, hunks)
        assert isinstance(result, PlannedHunk)
        hunks.append(result)
    at_once = apply(text, [edit for hunk in hunks for edit in hunk.edits])

    now = text
    changes: list[Edit] = []
    for hunk in data.draw(st.permutations(hunks)):
        edits = rebase(hunk, changes, now)
        assert not isinstance(edits, RejectedHunk)
        # As an editor reports them: one after the other, here from the last.
        changes += reversed(edits)
        now = apply(now, edits)
    assert now == at_once
