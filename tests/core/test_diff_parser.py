"""The diff parser: one table of replies, each parsed whole, by characters and cut at every place."""

import itertools
from collections.abc import Iterable, Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from singlepass.core.diff_parser import (
    TRANSITIONS,
    DiffParser,
    Hunk,
    HunkDropped,
    HunkFinished,
    HunkOpened,
    HunkRepeated,
    Ignored,
    Kind,
    NewLine,
    OldLine,
    ParserEvent,
    State,
)

BLOCK = "a.py\n<<<<<<< SEARCH\nold\n=======\nnew\n>>>>>>> REPLACE\n"


def parse(
    chunks: Iterable[str],
    size: int = 7,
    files: Mapping[str, str] | None = None,
    complete: bool = True,
    constrained: bool = False,
) -> list[ParserEvent]:
    parser = DiffParser(size, files or {}, is_constrained=constrained)
    events = [event for chunk in chunks for event in parser.feed(chunk)]
    events += parser.close(complete)
    assert parser.feed("") == parser.close() == []
    return events


def check(
    text: str,
    expected: list[str],
    size: int = 7,
    files: Mapping[str, str] | None = None,
    complete: bool = True,
    constrained: bool = False,
) -> None:
    """Parse in all ways; compare a short form of the events that are not mere lines."""
    events = parse([text], size, files, complete, constrained)
    assert parse(text, size, files, complete, constrained) == events
    for cut in range(len(text)):
        assert parse([text[:cut], text[cut:]], size, files, complete, constrained) == events
    assert [short for event in events if (short := short_form(event))] == expected
    check_order(events)


def short_form(event: ParserEvent) -> str:
    match event:
        case HunkFinished(Hunk(path=path, old=old, new=new, is_rewrite=is_rewrite)):
            return f"{path}: {'all' if is_rewrite else '|'.join(old)} -> {'|'.join(new)}"
        case HunkRepeated():
            return "repeated"
        case HunkDropped(path=path, reason=reason):
            return f"{path} dropped: {reason}"
        case Ignored(text=text):
            return f"ignored: {text}"
        case _:
            return ""


def check_order(events: list[ParserEvent]) -> None:
    """Lines stand between the opening and the end of their hunk, and add up to it."""
    old: list[str] = []
    new: list[str] = []
    index = -1
    for event in events:
        match event:
            case HunkOpened(index=opened):
                assert opened == index + 1
                index, old, new = opened, [], []
            case OldLine(text=text):
                assert event.index == index
                assert not new
                old.append(text)
            case NewLine(text=text):
                assert event.index == index
                new.append(text)
            case HunkFinished(hunk) if hunk.is_rewrite:
                assert not hunk.old
            case HunkFinished(hunk) if any(line.endswith(" REPLACE") for line in new):
                # Its closing marker stood at the end of a new line.
                assert "\n".join(new).startswith("\n".join(hunk.new))
            case HunkFinished(hunk):
                assert (hunk.index, [*hunk.old], [*hunk.new]) == (index, old, new)
            case HunkDropped(reason="repeated" | "unreadable"):
                assert event is events[-1]
            case HunkDropped(reason="unread"):
                assert event.index > index
            case HunkDropped(reason="cut_off") if index < 0:
                assert event is events[-1]
            case HunkDropped():
                assert event.hunk.index == event.index == index
            case _:
                pass


CASES: dict[str, tuple[str, list[str]]] = {
    "nothing": ("", []),
    "one block": (BLOCK, ["a.py: old -> new"]),
    "two blocks": (BLOCK + BLOCK.replace("a.py", "b.py"), ["a.py: old -> new", "b.py: old -> new"]),
    "deletion": ("a.py\n<<<<<<< SEARCH\nold\n=======\n>>>>>>> REPLACE\n", ["a.py: old -> "]),
    "no old lines": ("a.py\n<<<<<<< SEARCH\n=======\nnew\n>>>>>>> REPLACE\n", ["a.py:  -> new"]),
    "blank lines": ("a.py\n<<<<<<< SEARCH\n\n=======\n\n\n>>>>>>> REPLACE\n", ["a.py:  -> |"]),
    "no final line end": (BLOCK.rstrip("\n"), ["a.py: old -> new"]),
    "line ends of Windows": (BLOCK.replace("\n", "\r\n"), ["a.py: old -> new"]),
    "spaces after markers": (
        BLOCK.replace("SEARCH", "SEARCH  ").replace("REPLACE", "REPLACE\t"),
        ["a.py: old -> new"],
    ),
    "prose and fences": (
        f"Here is the change:\n\n```python\n{BLOCK}```\nThat is all.\n",
        ["ignored: Here is the change:", "a.py: old -> new", "ignored: That is all."],
    ),
    "fence between path and block": (BLOCK.replace("a.py\n", "a.py\n```\n"), ["a.py: old -> new"]),
    "path in backticks": (BLOCK.replace("a.py", "`src/a.py`"), ["src/a.py: old -> new"]),
    "bold path": (BLOCK.replace("a.py", "**src/a.py**:"), ["src/a.py: old -> new"]),
    "path as a heading": (BLOCK.replace("a.py", "### File: `a.py`"), ["a.py: old -> new"]),
    "path with a space": (BLOCK.replace("a.py", "my docs/a b.md"), ["my docs/a b.md: old -> new"]),
    "path only once": (
        BLOCK + "And then:\n" + BLOCK.removeprefix("a.py\n").replace("old", "2"),
        ["a.py: old -> new", "ignored: And then:", "a.py: 2 -> new"],
    ),
    "no path at all": (BLOCK.removeprefix("a.py\n"), [": old -> new"]),
    "a second separator": (
        "a.md\n<<<<<<< SEARCH\nold\n=======\nExample\n=======\n>>>>>>> REPLACE\n",
        ["a.md dropped: doubtful"],
    ),
    "runs of another length without their word are text": (
        "a.md\n<<<<<<< SEARCH\n<<<<<<\n=======\n>>>>>>>> is how it is shown\n=====\n>>>>>>> REPLACE\n",
        ["a.md: <<<<<< -> >>>>>>>> is how it is shown|====="],
    ),
    **{
        f"markers of {n} characters": (
            BLOCK.replace("<" * 7, "<" * n).replace("=" * 7, "=" * n).replace(">" * 7, ">" * n),
            ["a.py: old -> new"],
        )
        for n in (5, 6, 8, 9, 20)
    },
    "markers of different length": (BLOCK.replace(">" * 7, ">" * 9), ["a.py: old -> new"]),
    "lower case": (BLOCK.replace("SEARCH", "search").replace("REPLACE", "Replace"), ["a.py: old -> new"]),
    "no space before the word": (
        BLOCK.replace(" SEARCH", "SEARCH").replace(" REPLACE", "REPLACE"),
        ["a.py: old -> new"],
    ),
    "a character behind the markers": (
        BLOCK.replace("SEARCH", "SEARCH>").replace("REPLACE", "REPLACE:"),
        ["a.py: old -> new"],
    ),
    "indented in a list": (
        "1. Change this:\n" + "".join(f"   {line}\n" for line in BLOCK.splitlines()),
        ["ignored: 1. Change this:", "a.py:    old ->    new"],
    ),
    "path on the marker's line": (
        BLOCK.removeprefix("a.py\n").replace("SEARCH", "SEARCH a.py"),
        ["a.py: old -> new"],
    ),
    "path in the fence's info": (
        "```python a.py\n" + BLOCK.removeprefix("a.py\n") + "```\n",
        ["a.py: old -> new"],
    ),
    "markers of a merge": (
        BLOCK.replace("SEARCH", "HEAD").replace("REPLACE", "updated"),
        ["a.py: old -> new"],
    ),
    "the same block again and again": (
        BLOCK * 4,
        ["a.py: old -> new", *["repeated"] * 3, "a.py dropped: repeated"],
    ),
    "a thought with a block in it": (
        "<think>\nPerhaps\n" + BLOCK + "</think>\n" + BLOCK.replace("new", "newer"),
        ["a.py: old -> newer"],
    ),
    "a thought on the line of the path": ("<think>hm</think>" + BLOCK, ["a.py: old -> new"]),
    "byte order mark": ("\ufeff" + BLOCK, ["a.py: old -> new"]),
    "never closed": (
        BLOCK.replace(">>>>>>> REPLACE\n", "") + BLOCK.removeprefix("a.py\n"),
        ["a.py dropped: reopened", ": old -> new"],
    ),
    "never separated": (
        "a.py\n<<<<<<< SEARCH\nold\n>>>>>>> REPLACE\n" + BLOCK,
        ["a.py dropped: no_separator", "a.py: old -> new"],
    ),
    "ends in a block": (BLOCK + "a.py\n<<<<<<< SEARCH\nol", ["a.py: old -> new", "a.py dropped: unclosed"]),
    "closed at the end of a line": (
        BLOCK.replace("new\n>>", "new >>") + "```\n",
        ["a.py: old -> new"],
    ),
    "closed at the end of the reply's last line": (
        BLOCK.replace("new\n>>", "new\n  newer >>")[:-1],
        ["a.py: old -> new|  newer"],
    ),
    "closed at the end of a line, and the next block": (
        BLOCK.replace("new\n>>", "new>>") + "\n" + BLOCK.replace("a.py", "b.py"),
        ["a.py: old -> new", "b.py: old -> new"],
    ),
    "closed at the end of a line, and the next block without a path": (
        BLOCK.replace("new\n>>", "new >>") + BLOCK.removeprefix("a.py\n"),
        ["a.py: old -> new", ": old -> new"],
    ),
    "closed at the end of a line, and again": (
        BLOCK.replace("new\n>>", "new >>") + "more\n>>>>>>> REPLACE\n",
        ["a.py dropped: doubtful"],
    ),
    "closed at the end of a line, and more text": (
        BLOCK.replace("new\n>>", "new >>") + "That is\nall.\n",
        ["a.py dropped: unclosed"],
    ),
    "closed at the end of an old line": (
        "a.py\n<<<<<<< SEARCH\nold\nold >>>>>>> REPLACE\n",
        ["a.py dropped: unclosed"],
    ),
    "text about a closing marker": (
        BLOCK.replace("new\n", "> REPLACE\n`>>>>>>> REPLACE` ends it\n"),
        ["a.py: old -> > REPLACE|`>>>>>>> REPLACE` ends it"],
    ),
    "stray markers": (
        "=======\n>>>>>>> REPLACE\n",
        [" dropped: unreadable"],
    ),
    "stray markers beside a block": (
        BLOCK + ">>>>>>> REPLACE\n" + BLOCK.replace("old", "2") + "=======\n",
        ["a.py: old -> new", "a.py: 2 -> new", " dropped: unread"],
    ),
    "prose alone": ("Nothing has to change.\n", ["ignored: Nothing has to change.", " dropped: unreadable"]),
    "a thought alone": ("<think>\nNo.\n</think>\n", [" dropped: unreadable"]),
    "blank lines alone": ("\n \n", []),
    "a unified diff": (
        "--- a/a.py\n+++ b/a.py\n@@ -1 +1 @@\n-old\n+new\n",
        [
            *(f"ignored: {line}" for line in ("--- a/a.py", "+++ b/a.py", "@@ -1 +1 @@", "-old", "+new")),
            " dropped: unreadable",
        ],
    ),
    "a fenced file": (
        "Here is `a.py`:\n```python\nnew\n```\n",
        ["ignored: Here is `a.py`:", "ignored: new", "a.py: all -> new"],
    ),
    "a fence without a name": ("```python\nnew\n```\n", ["ignored: new", ": all -> new"]),
    "a fence that is not closed": ("```python\nnew\n", ["ignored: new", " dropped: unreadable"]),
    "two fences without a name": (
        "```\na\n```\n```\nb\n```\n",
        ["ignored: a", "ignored: b", " dropped: unreadable"],
    ),
    "how to run it beside the file": (
        "```python\nnew\n```\n```bash\nrun\n```\n",
        ["ignored: new", "ignored: run", ": all -> new"],
    ),
    "a diff in a fence": ("```diff\n-a\n+b\n```\n", ["ignored: -a", "ignored: +b", " dropped: unreadable"]),
    "the file as the prompt shows it": (
        '<file path="a.py">\nnew\n</file>\n',
        ['ignored: <file path="a.py">', "ignored: new", "ignored: </file>", "a.py: all -> new"],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_replies(name: str) -> None:
    check(*CASES[name])


@pytest.mark.parametrize("constrained", [True, False])
def test_markers_of_another_size(constrained: bool) -> None:
    check(
        "a.md\n<<<<<<<<< SEARCH\n<<<<<<< SEARCH\n=========\n=======\n>>>>>>>>> REPLACE\n",
        ["a.md: <<<<<<< SEARCH -> ======="],
        size=9,
        files={"a.md": "<<<<<<<< SEARCH\n<<<<<<< SEARCH\n"},
        constrained=constrained,
    )


def test_a_closing_marker_at_a_lines_end_is_text_where_files_have_such() -> None:
    reply = BLOCK.replace("new", "new >>>>>>> REPLACE")
    check(reply, ["a.py dropped: doubtful"], files={"a.py": "old\n"})
    check(reply, ["a.py: old -> new >>>>>>> REPLACE"], files={"a.py": "old\nx >>>>>>> REPLACE\n"})


def test_constrained_markers_are_exact() -> None:
    check(
        "a.md\n<<<<<<< SEARCH\n========\n<<<<<< SEARCH\n=======\n"
        ">>>>>>>> REPLACE\n>>>>>>>REPLACE\n```\n>>>>>>> REPLACE\n",
        ["a.md: ========|<<<<<< SEARCH -> >>>>>>>> REPLACE|>>>>>>>REPLACE|```"],
        constrained=True,
    )


UNDERLINED = {"a.rst": "Title\n==========\n\nold\n"}
CONFLICT = {"a.txt": "<<<<<<< HEAD\nours\n=======\ntheirs\n>>>>>>> branch\n"}


def test_a_model_that_does_not_count_is_read_and_never_by_a_line_of_the_file() -> None:
    check(BLOCK.replace("a.py", "a.rst"), ["a.rst: old -> new"], size=11, files=UNDERLINED)
    check(
        BLOCK.replace("a.py", "a.rst").replace("old", "Title\n=========="),
        ["a.rst: Title|========== -> new"],
        size=11,
        files=UNDERLINED,
    )
    # The first `=======` may be the file's or the block's.
    quoted = BLOCK.replace("a.py", "a.txt").replace("old", CONFLICT["a.txt"].strip())
    assert not [one for one in parse([quoted], 8, CONFLICT) if isinstance(one, HunkFinished)]


def test_known_paths_are_taken_as_they_are() -> None:
    for path in ("# odd `name`", "no extension", "```", " x", "Now this:", "Makefile", ".gitignore"):
        check(BLOCK.replace("a.py", path), [f"{path}: old -> new"], files={"a.py": "", path: ""})
    check(
        BLOCK + "I changed a b.py\n" + BLOCK.removeprefix("a.py\n"),
        ["a.py: old -> new", "b.py: old -> new"],
        files={"a.py": "", "b.py": ""},
    )
    check(
        BLOCK.replace(">>>>>>> REPLACE\n", "") + BLOCK.replace("a.py", "b.py"),
        ["a.py dropped: reopened", "b.py: old -> new"],
        files={"a.py": "", "b.py": ""},
    )
    # Whatever stands before it, the block after an unclosed one is not for the same file just so.
    for before, path in (("### `b.py`\n", "b.py"), ("\nNow the other one:\n", "")):
        check(
            BLOCK.replace(">>>>>>> REPLACE\n", "") + before + BLOCK.removeprefix("a.py\n"),
            ["a.py dropped: reopened", f"{path}: old -> new"],
            files={"a.py": "", "b.py": ""},
        )


@pytest.mark.parametrize("cut", range(len(BLOCK) + 1))
def test_a_block_cut_off_is_dropped_with_its_text(cut: int) -> None:
    events = parse([BLOCK[:cut]], complete=False)
    dropped = [event for event in events if isinstance(event, HunkDropped)]
    finished = [event for event in events if isinstance(event, HunkFinished)]
    assert len(finished) == (cut >= len(BLOCK) - 1)
    if dropped:
        assert dropped[0].reason == "cut_off"
        # From the opening marker on, which five characters may be.
        start = 5 if cut >= len("a.py\n<<<<<") else 0
        assert dropped[0].text == BLOCK[start:cut].removesuffix("\n")
    assert bool(dropped) == (0 < cut < len(BLOCK) - 1)


def test_every_state_and_kind_has_its_transition() -> None:
    assert set(TRANSITIONS) == {(state, kind) for state in State for kind in Kind}


safe_lines = st.text(alphabet="ab <=>é\t\x0c\u2028\\'\"", max_size=9).filter(
    lambda line: not line.lstrip().startswith(("<" * 5, "=" * 5, ">" * 5))
)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["a.py", "src/b c.py"]), st.lists(safe_lines), st.lists(safe_lines)),
        max_size=4,
        unique_by=lambda block: (block[0], tuple(block[1]), tuple(block[2])),
    ),
    st.booleans(),
)
def test_what_is_written_in_the_format_is_read_back(
    blocks: list[tuple[str, list[str], list[str]]], constrained: bool
) -> None:
    text = "".join(
        "\n".join([path, "<<<<<<< SEARCH", *old, "=======", *new, ">>>>>>> REPLACE", ""])
        for path, old, new in blocks
    )
    events = parse([text], files={"a.py": "", "src/b c.py": ""}, constrained=constrained)
    assert [event.hunk for event in events if isinstance(event, HunkFinished)] == [
        Hunk(index, path, tuple(old), tuple(new), is_constrained=constrained)
        for index, (path, old, new) in enumerate(blocks)
    ]
    assert not [event for event in events if isinstance(event, Ignored | HunkDropped)]


pieces = st.sampled_from(
    [
        *(
            "<<<<<<< SEARCH",
            "=======",
            ">>>>>>> REPLACE",
            "<<<<<",
            ">>>>>> replace",
            "======",
            "<think>",
            "</think>",
        ),
        *("\n", "\r\n", "a.py", "x", "```", " ", '<file path="a.py">', "</file>", "\ufeff", "..."),
    ]
)


@settings(max_examples=200, deadline=None)
@given(st.lists(pieces, max_size=25), st.lists(st.integers(0, 200), max_size=6), st.booleans())
def test_no_reply_raises_and_chunking_never_shows(parts: list[str], cuts: list[int], complete: bool) -> None:
    text = "".join(parts)
    places = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    chunks = [text[a:b] for a, b in itertools.pairwise(places)]
    events = parse(chunks, complete=complete)
    assert events == parse([text], complete=complete)
    check_order(events)
