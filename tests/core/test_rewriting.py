"""Lines written anew: which, under which grammar, how the reply is read, and where it is placed."""

import random

import msgspec
import pytest
from grammars import accepts, random_reply
from hypothesis import assume, given
from hypothesis import strategies as st
from singlepass.core.actions import BUILTIN_ACTIONS, Action
from singlepass.core.diff_parser import HunkDropped, HunkFinished, NewLine, OldLine, ParserEvent
from singlepass.core.edits import Snapshot, apply
from singlepass.core.fences import code_block, fence_for, info_string
from singlepass.core.grammar import UNBOUNDED, Bounds
from singlepass.core.lines import visible_lines
from singlepass.core.planner import PlannedHunk, RejectedHunk, plan
from singlepass.core.rewriting import (
    MOST_LINES,
    RewriteParser,
    expect_rewrite,
    may_be_empty,
    region_to_rewrite,
    rewrite_grammar,
)
from singlepass.engines.attachment import may_rewrite
from singlepass_backends.base import ModelInfo

TEXT = """\
import os


def size(path):
    return os.path.getsize(path)


def name(path):
    return os.path.basename(path)
"""
LINES = TEXT.splitlines()


# Which lines.


@pytest.mark.parametrize(
    ("first", "end", "instruction", "around", "region"),
    [
        (4, 4, "return 0 for what is no file", False, (3, 5)),
        (4, 5, "return 0 for what is no file", False, (4, 5)),
        (3, 9, "add types", False, (3, 9)),
        # About more than the lines at the cursor: all of a short document.
        (4, 4, "use pathlib in the whole file", False, (0, 9)),
        (4, 4, "add a parameter, and pass it from all callers", False, (0, 9)),
        (4, 5, "extract this into a function", False, (0, 9)),
        (4, 4, "Rename path to file", False, (0, 9)),
        (4, 5, "Rename path to file", False, (4, 5)),
        (0, 0, "sort these", False, (0, 9)),
        # The lines of a problem or a comment.
        (4, 5, "undefined name", True, (3, 5)),
        (0, 1, "unused import", True, (0, 9)),
        (4, 6, "undefined name", True, (3, 5)),
        # No definition is cut.
        (4, 8, "undefined name", True, (3, 9)),
        (3, 8, "undefined name", True, (3, 9)),
        (0, 4, "undefined name", True, (0, 9)),
        (8, 9, "undefined name", True, (7, 9)),
        (9, 10, "no line end", True, (0, 9)),
    ],
)
def test_which_lines_are_written_anew(
    first: int, end: int, instruction: str, around: bool, region: tuple[int, int]
) -> None:
    assert region_to_rewrite(LINES, first, end, instruction, around=around) == region


@pytest.mark.parametrize("action", BUILTIN_ACTIONS, ids=lambda action: action.title)
def test_the_built_in_actions_are_about_the_selection(action: Action) -> None:
    is_wide = action.kind == "refactor.extract"
    assert region_to_rewrite(LINES, 3, 5, action.instruction) == ((0, 9) if is_wide else (3, 5))


def test_of_more_lines_edit_blocks_are_asked_for() -> None:
    body = [f"    x{n} = {n}" for n in range(MOST_LINES)]
    lines = ["def f():", *body, "", "y = 1"]
    assert region_to_rewrite(lines, 3, 3, "simplify") is None
    assert region_to_rewrite(lines, 1, 1 + MOST_LINES, "simplify") == (1, 1 + MOST_LINES)
    assert region_to_rewrite(lines, 2, 4, "simplify everywhere") is None
    assert region_to_rewrite(["", ""], 0, 0, "simplify") is None
    assert region_to_rewrite([], 0, 0, "write a greeting") is None


@pytest.mark.parametrize(
    ("name", "n_params", "auto"),
    [
        ("small", 494_000_000, True),
        ("middle", 1_540_000_000, True),
        ("large", 7_600_000_000, False),
        ("?", 0, False),
    ],
)
def test_small_models_write_anew(name: str, n_params: int, auto: bool) -> None:
    info = ModelInfo(backend="llama_cpp", name=name, n_params=n_params)
    assert [may_rewrite(info, form) for form in ("auto", "blocks", "rewrite")] == [auto, False, True]


# The grammar.


@pytest.mark.parametrize(
    ("reply", "is_whole"),
    [
        ("```py\n```", True),
        ("```py\nx = 1\n\n``\n`a` ``` b\n    ```\n```", True),
        ("```py\nx = 1\n```\n", False),
        ("```py\nx = 1```", False),
        ("```python\nx = 1\n```", False),
        ("x = 1\n", False),
        ("```py\nx = 1\n````\n```", False),
        ("```py\nx = 1\n```\nDone.", False),
    ],
)
def test_the_reply_is_one_code_block(reply: str, is_whole: bool) -> None:
    assert accepts(rewrite_grammar("a.py", "```"), reply) is is_whole


@pytest.mark.parametrize(
    ("lines", "fence"),
    [(["a"], "```"), (["```"], "````"), (["x", "  `````md"], "``````"), (["a ```"], "```")],
)
def test_the_fence_is_longer_than_any_in_the_lines(lines: list[str], fence: str) -> None:
    assert fence_for(lines) == fence
    assert accepts(rewrite_grammar("a.md", fence), code_block(lines, "a.md", fence))


@pytest.mark.parametrize(
    ("path", "info"), [("src/a.py", "py"), ("Makefile", ""), ("a.b/c", ""), ("x.c++", "c"), (".env", "env")]
)
def test_the_suffix_names_the_language(path: str, info: str) -> None:
    assert info_string(path) == info


@pytest.mark.parametrize(
    ("instruction", "is_free"),
    [("Remove this function", True), ("Delete unused code", True), ("Add types", False), ("Simplify", False)],
)
def test_nothing_is_an_answer_only_if_something_is_to_go(instruction: str, is_free: bool) -> None:
    assert may_be_empty(instruction) is is_free
    for bounds in (UNBOUNDED, Bounds(9, 99)):
        grammar = rewrite_grammar("a.py", "```", bounds, may_be_empty=is_free)
        assert accepts(grammar, "```py\n```") is is_free
        assert accepts(grammar, "```py\nx = 1\n```")


def test_half_a_character_in_a_file_can_be_sent_in_a_draft() -> None:
    draft = expect_rewrite(["x = '\ud83d'", "y = 1"], (0, 1), "a.py", "```", ("\ud83d",))
    assert msgspec.msgpack.encode(draft)
    assert draft.opening == "```py\nx = '?'\n```"


# The reply.


def events_of(reply: str, pieces: list[int], *, complete: bool = True) -> list[ParserEvent]:
    parser = RewriteParser("a.py", ("old 1", "old 2"), "```")
    events: list[ParserEvent] = []
    at = 0
    for n in (*pieces, len(reply)):
        events += parser.feed(reply[at : at + n])
        at += n
    return [*events, *parser.close(complete)]


@given(st.lists(st.integers(1, 6), max_size=30), st.booleans())
def test_how_the_reply_was_cut_never_shows(pieces: list[int], complete: bool) -> None:
    reply = "```py\nnew 1\n\n  ```\nnew 2\n```"
    assert events_of(reply, pieces, complete=complete) == events_of(reply, [], complete=complete)


def test_a_reply_gives_one_hunk_and_its_lines_on_the_way() -> None:
    events = events_of("```py\nnew\n\n```", [])
    assert [one.text for one in events if isinstance(one, OldLine)] == ["old 1", "old 2"]
    assert [one.text for one in events if isinstance(one, NewLine)] == ["new", ""]
    (hunk,) = (one.hunk for one in events if isinstance(one, HunkFinished))
    assert (hunk.path, hunk.old, hunk.new) == ("a.py", ("old 1", "old 2"), ("new", ""))


@pytest.mark.parametrize("reply", ["```py\n", "```py\nnew", "```py\nnew\n", "```py\nnew\n``"])
@pytest.mark.parametrize("complete", [True, False])
def test_what_was_cut_off_is_told_with_its_text(reply: str, complete: bool) -> None:
    events = events_of(reply, [], complete=complete)
    (dropped,) = (one for one in events if isinstance(one, HunkDropped))
    assert dropped.reason == ("unclosed" if complete else "cut_off")
    assert dropped.text == reply.removeprefix("```py\n").removesuffix("\n")
    assert not any(isinstance(one, HunkFinished) for one in events)


# The place.


def edited(text: str, region: tuple[int, int], new: str) -> str | RejectedHunk:
    """The text after a reply with these new lines for the region."""
    lines = visible_lines(text)
    parser = RewriteParser("a.py", lines[slice(*region)], "```")
    (hunk,) = (one.hunk for one in parser.feed(f"```py\n{new}```\n") if isinstance(one, HunkFinished))
    found = plan(hunk, {"a.py": Snapshot("a.py", 1, text)}, ("a.py", *region), [])
    return apply(text, found.edits) if isinstance(found, PlannedHunk) else found


SIZE = "def size(path):\n    return os.path.getsize(path)\n"


@pytest.mark.parametrize(
    ("new", "wanted"),
    [
        ("def size(path):\n    return 0\n", TEXT.replace("os.path.getsize(path)", "0")),
        # Whatever was left out was left out on purpose: the model wrote the whole region.
        ("def size(path): ...\n", TEXT.replace(SIZE, "def size(path): ...\n")),
        (SIZE, TEXT),
        # Lines around the region that are repeated are not there twice.
        (
            f"import os\n\n\n{SIZE}".replace("getsize(path)", "stat(path).st_size"),
            TEXT.replace("getsize(path)", "stat(path).st_size"),
        ),
        (
            TEXT.replace("getsize(path)", "stat(path).st_size"),
            TEXT.replace("getsize(path)", "stat(path).st_size"),
        ),
        # A change outside is not taken.
        (TEXT.replace("getsize", "realpath").replace("basename", "dirname"), None),
        ("def size(path):\n    return 0\n\n\ndef name(path):\n    return ''\n", None),
    ],
)
def test_only_the_region_changes(new: str, wanted: str | None) -> None:
    found = edited(TEXT, (3, 5), new)
    assert isinstance(found, RejectedHunk) if wanted is None else found == wanted


@pytest.mark.parametrize(
    ("text", "cursor", "new", "wanted"),
    [
        (
            TEXT,
            4,
            "import re\n\ndef size(path):\n    return re\n",
            TEXT.replace("import os\n", "import os\nimport re\n").replace("os.path.getsize(path)", "re"),
        ),
        (
            TEXT,
            4,
            "import os\n\n\ndef size(path):\n    return 0\n",
            TEXT.replace("os.path.getsize(path)", "0"),
        ),
        ("def a():\n    b()\n", 0, "import c\n\ndef a():\n    c.b()\n", "import c\n\ndef a():\n    c.b()\n"),
        (
            "x = 1\n\n\ndef a():\n    b()\n",
            4,
            "import c\n\n\ndef a():\n    c.b()\n",
            "import c\n\n\nx = 1\n\n\ndef a():\n    c.b()\n",
        ),
        (
            '"""Doc.\n\nMore.\n"""\n\ndef a():\n    b()\n',
            6,
            "import c\n\ndef a():\n    c.b()\n",
            '"""Doc.\n\nMore.\n"""\n\nimport c\n\ndef a():\n    c.b()\n',
        ),
        (
            "package a\n\nfunc A() int {\n\treturn 1\n}\n",
            3,
            'import "b"\n\nfunc A() int {\n\treturn b.C\n}\n',
            'package a\n\nimport "b"\n\nfunc A() int {\n\treturn b.C\n}\n',
        ),
        (
            "import a\n\ndef b():\n    pass\n",
            3,
            "def b():\n    import c\n    pass\n",
            "import a\n\ndef b():\n    import c\n    pass\n",
        ),
    ],
)
def test_a_new_import_goes_to_the_imports(text: str, cursor: int, new: str, wanted: str) -> None:
    region = region_to_rewrite(text.splitlines(), cursor, cursor, "do")
    assert region is not None
    assert edited(text, region, new) == wanted


WORDS = st.text("abc {}():=#'`", max_size=8).map(str.rstrip)


@given(
    st.lists(WORDS, min_size=1, max_size=12),
    st.lists(st.text("xyz ", max_size=6).map(str.rstrip), max_size=8),
    st.sampled_from(["\n", "\r\n"]),
    st.data(),
)
def test_lines_outside_the_region_never_change(
    lines: list[str], new: list[str], end: str, data: st.DataObject
) -> None:
    start = data.draw(st.integers(0, len(lines) - 1))
    stop = data.draw(st.integers(start + 1, len(lines)))
    assume(any(map(str.strip, lines)))
    text = "".join(line + end for line in lines)
    found = edited(text, (start, stop), "".join(f"{line}\n" for line in new))
    if isinstance(found, str):
        after = found.split(end)[:-1]
        assert after[:start] == lines[:start]
        assert after[len(after) - len(lines) + stop :] == lines[stop:]
        # Their indentation may be corrected, and what they repeat of others is not there twice.
        there = [line.strip() for line in after[start : len(after) - len(lines) + stop] if line.strip()]
        written = [line.strip() for line in new if line.strip()]
        assert all(line in written for line in there)


def test_random_replies_under_the_grammar_are_read_whole() -> None:
    rng = random.Random(3)
    grammar = rewrite_grammar("a.py", "```")
    for _ in range(20):
        reply = random_reply(grammar, rng, 200)
        parser = RewriteParser("a.py", LINES[3:5], "```")
        events = [*parser.feed(reply), *parser.close()]
        finished = [one.hunk for one in events if isinstance(one, HunkFinished)]
        if reply.endswith("\n```"):
            assert [*finished[0].new] == reply.split("\n")[1:-1]
        else:
            assert not finished
