"""The comment that asked for an edit goes, and nothing else with it."""

import pytest
from singlepass.core.actions import CommentTask
from singlepass.core.diff_parser import Hunk
from singlepass.core.edits import Snapshot, apply
from singlepass.core.planner import PlannedHunk, plan
from singlepass.core.request_comment import comment_removal, without_comment
from singlepass.core.rewriting import region_to_rewrite

TEXT = "int a;\n/* AI: document\n   this */\nint f();\n"
COMMENT = CommentTask(1, 3, "document this")
ASKING = ("/* AI: document", "   this */")


@pytest.mark.parametrize(
    ("new", "expected"),
    [
        ((*ASKING, "int F();"), ("int F();",)),
        (("int F();", *ASKING), ("int F();",)),
        (("int F();",), ("int F();",)),
        # A line of it alone may belong to another comment.
        (("/* f", "   this */", "int f();"), ("/* f", "   this */", "int f();")),
        # Once: a second one is not the one that asked.
        ((*ASKING, *ASKING), ASKING),
        (ASKING, ()),
        ((), ()),
    ],
)
def test_new_lines_without_the_comment(new: tuple[str, ...], expected: tuple[str, ...]) -> None:
    hunk = Hunk(0, "a.c", ("int f();",), new)
    assert without_comment(hunk, COMMENT, TEXT) == Hunk(0, "a.c", ("int f();",), expected)


def planned(old: tuple[str, ...], new: tuple[str, ...], uri: str = "file:///a.c") -> PlannedHunk:
    snapshot = Snapshot(uri, None, TEXT)
    found = plan(Hunk(0, "a.c", old, new), {"a.c": snapshot}, None, [])
    assert isinstance(found, PlannedHunk)
    return found


@pytest.mark.parametrize(
    ("others", "is_removed"),
    [
        ([], True),
        ([planned(("int f();",), ("int F();",))], True),
        ([planned(("int a;",), ("int A;",))], True),
        ([planned((*ASKING, "int f();"), ("int F();",))], False),
        ([planned(ASKING[1:], ("   them */",))], False),
        ([planned(ASKING, (), uri="file:///b.c")], True),  # of another file
    ],
)
def test_the_comment_is_deleted_unless_a_hunk_has_its_lines(
    others: list[PlannedHunk], is_removed: bool
) -> None:
    snapshot = Snapshot("file:///a.c", None, TEXT)
    removal = comment_removal(COMMENT, "a.c", snapshot, others, 4)
    assert (removal is not None) == is_removed
    if removal is not None:
        assert (removal.hunk.index, removal.hunk.path, removal.hunk.old) == (4, "a.c", ASKING)
        assert apply(TEXT, removal.edits) == "int a;\nint f();\n"


def test_a_comment_that_ends_the_file() -> None:
    snapshot = Snapshot("file:///a.c", None, "int a;\n// AI: more")
    removal = comment_removal(CommentTask(1, 2, "more"), "a.c", snapshot, [], 0)
    assert removal is not None
    assert apply(snapshot.text, removal.edits) == "int a;\n"


METHOD = """\
class A:
    # AI: return two
    @cached
    def f(self):
        return 1
"""


@pytest.mark.parametrize(
    "new",
    [
        ("    @cached", "    def f(self):", "        return 2"),
        ("    # AI: return two", "    @cached", "    def f(self):", "        return 2"),
        ("# AI: return two", "@cached", "def f(self):", "    return 2"),
        ("    @cached", "    # AI: return two", "    def f(self):", "        return 2"),
        ("    @cached", "    def f(self):", "        # AI: return two", "        return 2"),
        (
            "    # AI: return two",
            "    @cached",
            "    def f(self):",
            "    # AI: return two",
            "        return 2",
        ),
        ("class A:", "    # AI: return two", "    @cached", "    def f(self):", "        return 2"),
    ],
)
def test_lines_written_anew_lose_it_wherever_it_is(new: tuple[str, ...]) -> None:
    comment = CommentTask(1, 2, "return two")
    lines = tuple(METHOD.splitlines())
    region = region_to_rewrite(lines, 1, 2, "return two", around=True)
    assert region == (1, 5)
    hunk = Hunk(0, "a.py", lines[1:], new, is_rewrite=True, is_constrained=True)
    hunk = without_comment(hunk, comment, METHOD)
    snapshot = Snapshot("file:///a.py", None, METHOD)
    found = plan(hunk, {"a.py": snapshot}, ("a.py", *region), [])
    assert isinstance(found, PlannedHunk)
    edits = [*found.edits]
    if removal := comment_removal(comment, "a.py", snapshot, [found], 1):
        edits += removal.edits
    wanted = "class A:\n    @cached\n    def f(self):\n        return 2\n"
    assert apply(METHOD, sorted(edits, key=lambda edit: edit.start)) == wanted
