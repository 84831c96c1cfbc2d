"""The diff parser: one table of replies, each parsed whole, by characters and cut at every place."""

import itertools
from collections.abc import Iterable

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
    Ignored,
    Kind,
    Malformed,
    NewLine,
    OldLine,
    ParserEvent,
    State,
)

BLOCK = "a.py\n<<<<<<< SEARCH\nold\n=======\nnew\n>>>>>>> REPLACE\n"


def parse(
    chunks: Iterable[str], size: int = 7, paths: Iterable[str] = (), complete: bool = True
) -> list[ParserEvent]:
    parser = DiffParser(size, frozenset(paths))
    events = [event for chunk in chunks for event in parser.feed(chunk)]
    events += parser.close(complete)
    assert parser.feed("") == parser.close() == []
    return events


def check(
    text: str,
    expected: list[str],
    size: int = 7,
    paths: Iterable[str] = (),
    complete: bool = True,
) -> None:
    """Parse in all ways; compare a short form of the events that are not mere lines."""
    events = parse([text], size, paths, complete)
    assert parse(text, size, paths, complete) == events
    for cut in range(len(text)):
        assert parse([text[:cut], text[cut:]], size, paths, complete) == events
    assert [short for event in events if (short := short_form(event))] == expected
    check_order(events)


def short_form(event: ParserEvent) -> str:
    match event:
        case HunkFinished(Hunk(path=path, old=old, new=new)):
            return f"{path}: {'|'.join(old)} -> {'|'.join(new)}"
        case HunkDropped(path=path, reason=reason):
            return f"{path} dropped: {reason}"
        case Malformed(text=text):
            return f"malformed: {text}"
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
            case HunkFinished(hunk):
                assert hunk == Hunk(index, hunk.path, tuple(old), tuple(new))
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
    "path without extension": (BLOCK.replace("a.py", "Makefile"), ["Makefile: old -> new"]),
    "hidden file": (BLOCK.replace("a.py", ".gitignore"), [".gitignore: old -> new"]),
    "path with a space": (BLOCK.replace("a.py", "my docs/a b.md"), ["my docs/a b.md: old -> new"]),
    "path only once": (
        BLOCK + "And then:\n" + BLOCK.removeprefix("a.py\n"),
        ["a.py: old -> new", "ignored: And then:", "a.py: old -> new"],
    ),
    "no path at all": (BLOCK.removeprefix("a.py\n"), [": old -> new"]),
    "a heading made of seven": (
        "a.md\n<<<<<<< SEARCH\nold\n=======\nExample\n=======\n>>>>>>> REPLACE\n",
        ["a.md: old -> Example|======="],
    ),
    "longer and shorter runs are text": (
        "a.md\n<<<<<<< SEARCH\n========\n<<<<<< SEARCH\n=======\n"
        ">>>>>>>> REPLACE\n>>>>>>>REPLACE\n>>>>>>> REPLACE\n",
        ["a.md: ========|<<<<<< SEARCH -> >>>>>>>> REPLACE|>>>>>>>REPLACE"],
    ),
    "never closed": (
        BLOCK.replace(">>>>>>> REPLACE\n", "") + BLOCK.removeprefix("a.py\n"),
        ["a.py dropped: reopened", "a.py: old -> new"],
    ),
    "never separated": (
        "a.py\n<<<<<<< SEARCH\nold\n>>>>>>> REPLACE\n" + BLOCK,
        ["a.py dropped: no_separator", "a.py: old -> new"],
    ),
    "ends in a block": (BLOCK + "a.py\n<<<<<<< SEARCH\nol", ["a.py: old -> new", "a.py dropped: unclosed"]),
    "stray markers": ("=======\n>>>>>>> REPLACE\n", ["malformed: =======", "malformed: >>>>>>> REPLACE"]),
}


@pytest.mark.parametrize("name", CASES)
def test_replies(name: str) -> None:
    check(*CASES[name])


def test_markers_of_another_size() -> None:
    check(
        "a.md\n<<<<<<<<< SEARCH\n<<<<<<< SEARCH\n=========\n=======\n>>>>>>>>> REPLACE\n",
        ["a.md: <<<<<<< SEARCH -> ======="],
        size=9,
    )


def test_known_paths_are_taken_as_they_are() -> None:
    for path in ("# odd `name`", "no extension", "```", " x", "Now this:"):
        check(BLOCK.replace("a.py", path), [f"{path}: old -> new"], paths=["a.py", path])
    check(
        BLOCK + "I changed a b.py\n" + BLOCK.removeprefix("a.py\n"),
        ["a.py: old -> new", "ignored: I changed a b.py", "a.py: old -> new"],
        paths=["a.py", "b.py"],
    )
    check(
        BLOCK.replace(">>>>>>> REPLACE\n", "") + BLOCK.replace("a.py", "b.py"),
        ["a.py dropped: reopened", "b.py: old -> new"],
        paths=["a.py", "b.py"],
    )


@pytest.mark.parametrize("cut", range(len(BLOCK) + 1))
def test_a_block_cut_off_is_dropped_with_its_text(cut: int) -> None:
    events = parse([BLOCK[:cut]], complete=False)
    dropped = [event for event in events if isinstance(event, HunkDropped)]
    finished = [event for event in events if isinstance(event, HunkFinished)]
    assert len(finished) == (cut >= len(BLOCK) - 1)
    if dropped:
        assert dropped[0].reason == "cut_off"
        assert dropped[0].text == BLOCK[5:cut].removesuffix("\n")
    assert bool(dropped) == (len("a.py\n<<<<<<< SEARCH") <= cut < len(BLOCK) - 1)


def test_every_state_and_kind_has_its_transition() -> None:
    assert set(TRANSITIONS) == {(state, kind) for state in State for kind in Kind}


safe_lines = st.text(alphabet="ab <=>é\t\x0c\u2028\\'\"", max_size=9).filter(
    lambda line: not line.startswith(("<" * 7, "=" * 7, ">" * 7))
)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["a.py", "src/b c.py"]), st.lists(safe_lines), st.lists(safe_lines)),
        max_size=4,
    )
)
def test_what_is_written_in_the_format_is_read_back(blocks: list[tuple[str, list[str], list[str]]]) -> None:
    text = "".join(
        "\n".join([path, "<<<<<<< SEARCH", *old, "=======", *new, ">>>>>>> REPLACE", ""])
        for path, old, new in blocks
    )
    events = parse([text])
    assert [event.hunk for event in events if isinstance(event, HunkFinished)] == [
        Hunk(index, path, tuple(old), tuple(new)) for index, (path, old, new) in enumerate(blocks)
    ]
    assert not [event for event in events if isinstance(event, Ignored | Malformed | HunkDropped)]


pieces = st.sampled_from(
    ["<<<<<<< SEARCH", "=======", ">>>>>>> REPLACE", "\n", "\r\n", "a.py", "x", "```", " "]
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
