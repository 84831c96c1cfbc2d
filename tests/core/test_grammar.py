"""The edit grammar: whatever a model picks among the allowed tokens, every finished hunk applies, once."""

import itertools
import random
import threading
from collections.abc import Mapping

import pytest
from grammars import LIMITS, TOKENIZER, accepts, random_reply
from hypothesis import given, settings
from hypothesis import strategies as st
from llguidance import LLMatcher
from singlepass.core.diff_parser import DiffParser, HunkFinished, ParserEvent
from singlepass.core.edits import Snapshot, apply
from singlepass.core.grammar import MOST_IN_ANY_ORDER, Bounds, edit_grammar, marker_size, unique_runs
from singlepass.core.lines import visible_lines
from singlepass.core.planner import PlannedHunk, plan


def check(files: Mapping[str, str], reply: str) -> int:
    """How many hunks a reply finishes. Each is planned exactly, and all of them apply at once."""
    parser = DiffParser(marker_size(files.values()), files, is_constrained=True)
    events: list[ParserEvent] = [*parser.feed(reply), *parser.close(complete=False)]
    allowed = {"HunkOpened", "OldLine", "NewLine", "HunkFinished"}
    wrong = [event for event in events if type(event).__name__ not in allowed]
    # Only the end of a reply that was cut may be anything else.
    assert len(wrong) <= 1
    assert not wrong or wrong == events[-1:]

    snapshots = {path: Snapshot(path, 1, text) for path, text in files.items()}
    planned: list[PlannedHunk] = []
    for event in events:
        if isinstance(event, HunkFinished):
            result = plan(event.hunk, snapshots, None, planned)
            assert isinstance(result, PlannedHunk), (result, reply)
            assert result.how == "exact"
            planned.append(result)
    for path, text in files.items():
        apply(text, [edit for one in planned if one.snapshot.uri == path for edit in one.edits])
    return len(planned)


NASTY: dict[str, dict[str, str]] = {
    "empty": {"a.py": ""},
    "one line": {"a.py": "x = 1"},
    "one empty line": {"a.py": "\n"},
    "equal lines": {"a.py": "x = 1\n" * 6},
    "repeated blocks": {"a.py": "a\nb\nc\na\nb\nd\na\nb\nc\n", "b.py": "a\na\nb\n"},
    "markers": {"a.py": "<<<<<<< SEARCH\nx\n=======\ny\n>>>>>>> REPLACE\n========\n>>>>>>>>>\n|||||||\n"},
    "quotes and escapes": {"a.py": 'a = "b\\n" + \'c\'\n\\\n"\n/x/\n\\u0041\n${x}\n%json\n'},
    "control characters": {"a.py": "\x00\n\x01\x7f\n\x0c\n\x1b[0m\n\t\n \n\u2028\x85\ufeff\n"},
    "unicode": {"é ü.py": "\ufeffé\r\n\U0001f600\r\n\u4e2d\u6587\r\n\ud800\r\nend", "b": "\ufeff"},
    "prefixes of each other": {"a.py": "x\nxx\nxxx\nx \n x\n", "a": "x\n", "a.pyi": ""},
    "line ends": {"a.py": "a\rb\r\nc\n\rd"},
    "special tokens": {"a.py": "<eos>\n<|im_end|>\n<s>\n"},
}


@pytest.mark.parametrize("name", NASTY)
def test_random_replies_always_apply(name: str) -> None:
    files = NASTY[name]
    bounds = Bounds(max_lines=3, max_line_chars=8)
    grammar = edit_grammar(files, marker_size(files.values()), bounds)
    rng = random.Random(name)
    assert sum(check(files, random_reply(grammar, rng)) for _ in range(6)) >= 3


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.lists(st.sampled_from(["a", "b", "", "a b", "=======", "\té"]), max_size=7), min_size=1, max_size=3
    ),
    st.randoms(use_true_random=False),
)
def test_random_replies_to_random_files_apply(documents: list[list[str]], rng: random.Random) -> None:
    files = {f"{idx}.py": "\n".join(lines) for idx, lines in enumerate(documents)}
    grammar = edit_grammar(files, marker_size(files.values()), Bounds(max_lines=2, max_line_chars=3))
    check(files, random_reply(grammar, rng, 300))


def block(path: str, old: str, new: str) -> str:
    return f"{path}\n<<<<<<< SEARCH\n{old}=======\n{new}>>>>>>> REPLACE\n"


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("", True),
        (block("a.py", "c\n", ""), True),
        (block("a.py", "a\nc\n", "y\n\nz\n"), True),
        (block("a.py", "c\na\nb\n", ""), True),
        (block("a.py", "a\nb\na\nc\na\nb\n", ""), True),
        (block("a.py", "a\n", ""), False),  # occurs three times
        (block("a.py", "a\nb\n", ""), False),  # twice
        (block("a.py", "b\nc\n", ""), False),  # never
        (block("a.py", "", ""), False),
        (block("c.py", "c\n", ""), False),
        (block("a.py", "a\nb\na\n", "x\n") + block("a.py", "c\n", ""), True),
        (block("a.py", "c\n", "") + block("a.py", "a\nb\na\n", ""), False),  # not in order
        (block("a.py", "a\nc\n", "") + block("a.py", "c\na\n", ""), False),  # they overlap
        (block("a.py", "c\n", "") + block("b.py", "x\n", ""), True),
        (block("b.py", "x\n", "") + block("a.py", "c\n", ""), True),  # files in any order
        (block("empty.py", "", "") + block("b.py", "x\n", "") + block("a.py", "c\n", ""), True),
        (block("a.py", "c\n", "") + block("b.py", "x\n", "") + block("a.py", "a\nb\n", ""), False),
        (block("b.py", "x\n", "") + block("a.py", "c\n", "") + block("b.py", "x\n", ""), False),
        (block("b.py", "x\n", "") + block("empty.py", "", "new\n"), True),
        (block("empty.py", "", "new\n") + block("empty.py", "", "new\n"), False),
        (block("a.py", "c\n", "<<<<<< SEARCH\n======\n>>>>>> x\n"), True),
        (block("a.py", "c\n", "========\nTitle\n=======x\n"), True),
        (block("a.py", "c\n", "=======\n"), False),
        (block("a.py", "c\n", "======= \t\n"), False),
        (block("a.py", "c\n", "<<<<<<< SEARCH\n"), False),
        (block("a.py", "c\n", ">>>>>>>>\n"), False),
        (block("a.py", "c\n", "x\r\n"), False),
        (block("a.py", "c\n", "x = 1 >>>>>>> REPLACE\n"), False),
        (block("a.py", "c\n", "x = 1>>>>>>>>> REPLACE \n"), False),
        (block("a.py", "c\n", "  >>>>>>> REPLACE\n"), False),
        (block("a.py", "c\n", "b.py <<<<<<< SEARCH\n"), False),
        (block("a.py", "c\n", "x >>>>>> REPLACE\nx >>>>>>> REPLAC\n>>> x > REPLACE < SEARCH\n"), True),
        (block("a.py", "c\n", "a.py\n"), False),
        (block("a.py", "c\n", "y\nb.py\n"), False),
        (block("a.py", "c\n", "b.py \n"), False),
        (block("a.py", "c\n", " b.py\nb.py,\nab.py\nb.p\nc.py\n"), True),
        (block("a.py", "c\n", "").rstrip("\n"), False),
        ("Sure:\n" + block("a.py", "c\n", ""), False),
    ],
)
def test_what_is_in_the_language(reply: str, expected: bool) -> None:
    files = {"a.py": "a\nb\na\nc\na\nb\n", "b.py": "x\n", "empty.py": ""}
    assert accepts(edit_grammar(files), reply) == expected


@pytest.mark.parametrize(
    ("files", "new", "expected"),
    [
        ({"a.py": "a\n", "list.txt": "a.py\n"}, "a.py\n", True),
        ({"a.py": "a\n", "list.txt": "a.py\n"}, "list.txt\n", False),
        ({"a.py": "a = 'a.py'\n"}, "a.py\n", False),
        ({"#": "a\n", "pass": "b\n"}, "#\npass\n", True),
        ({"a.py": "a\n", "s.md": "Write `>>>>>>> REPLACE`.\n"}, "x >>>>>>> REPLACE\n", True),
        ({"a.py": "a\n", "s.md": "Write `>>>>>>> REPLACE`.\n"}, "x <<<<<<< SEARCH\n", False),
    ],
)
def test_a_new_line_may_be_what_a_file_has(files: dict[str, str], new: str, expected: bool) -> None:
    path, text = next(iter(files.items()))
    assert accepts(edit_grammar(files), block(path, text, new)) == expected


def test_files_come_in_any_order_and_among_many_the_first_one_at_any_time() -> None:
    for n in range(1, 9):
        files = {f"{idx}.txt": f"{idx}\n" for idx in range(n)}
        grammar = edit_grammar(files)
        for order in itertools.islice(itertools.permutations(range(n)), 0, None, 1 + n**4 // 50):
            others = [idx for idx in order if idx]
            expected = n <= MOST_IN_ANY_ORDER or others == sorted(others)
            reply = "".join(block(f"{idx}.txt", f"{idx}\n", "") for idx in order)
            assert accepts(grammar, reply) == expected
    for at in range(8):
        order = [*range(1, at + 1), 0, *range(at + 1, 8)]
        assert accepts(grammar, "".join(block(f"{idx}.txt", f"{idx}\n", "") for idx in order))


def test_the_order_of_files_adds_few_rules() -> None:
    """Each file's rules stand in the grammar once, whatever the number of orders."""
    files = {f"{idx}.txt": "".join(f"{idx} {n}\n" for n in range(100)) for idx in range(5)}
    n_alone = sum(edit_grammar({path: text}).count("\n") for path, text in files.items())
    assert edit_grammar(files).count("\n") < n_alone + 2**5


def test_bounds() -> None:
    one = block("a.py", "a\n", "xy\nz\n")
    two = one + block("a.py", "b\n", "")
    for bounds, first, both in [
        (Bounds(), True, True),
        (Bounds(max_lines=1), False, False),
        (Bounds(max_lines=2, max_line_chars=2), True, True),
        (Bounds(max_line_chars=1), False, False),
        (Bounds(max_hunks=0), False, False),
        (Bounds(max_hunks=1), True, False),
        (Bounds(max_hunks=2), True, True),
        (Bounds(may_be_empty=False), True, True),
        (Bounds(max_hunks=1, may_be_empty=False), True, False),
    ]:
        grammar = edit_grammar({"a.py": "a\nb\n", "b.py": "c\n"}, bounds=bounds)
        assert (accepts(grammar, one), accepts(grammar, two)) == (first, both)
        assert accepts(grammar, "") == bounds.may_be_empty


def test_windows() -> None:
    files = {"a.py": "a\nb\nc\nb\nd\n", "b.py": "x\ny\n"}
    grammar = edit_grammar(files, windows={"a.py": (2, 4)})
    for old, expected in [("c\n", True), ("c\nb\n", True), ("b\n", False), ("a\n", False), ("b\nd\n", False)]:
        assert accepts(grammar, block("a.py", old, "")) == expected
    assert accepts(grammar, block("a.py", "c\n", "") + block("b.py", "x\n", ""))
    # Line 3 alone occurs twice, so its file has nothing to offer.
    grammar = edit_grammar(files, windows={"a.py": (3, 4), "b.py": (-5, 99)})
    assert not accepts(grammar, block("a.py", "b\n", ""))
    assert accepts(grammar, block("b.py", "x\ny\n", ""))


def test_paths_that_cannot_be_written_are_left_out() -> None:
    assert edit_grammar({"a\nb": "x\n", "": "y\n"}) == edit_grammar({})
    assert accepts(edit_grammar({}), "")


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from("aab"), max_size=14))
def test_unique_runs_agree_with_brute_force(lines: list[str]) -> None:
    n = len(lines)

    def occurs_once(start: int, end: int) -> bool:
        run = lines[start:end]
        return sum(lines[i : i + len(run)] == run for i in range(n)) == 1

    expected = [next((e for e in range(i + 1, n + 1) if occurs_once(i, e)), None) for i in range(n)]
    assert unique_runs(lines) == expected


def test_marker_size() -> None:
    assert marker_size([]) == marker_size(["", "<<<<<< six", " <<<<<<<"]) == 7
    assert marker_size(["a\n=======\n", "b"]) == 8
    assert marker_size(["\ufeff|||||||||", "a\r>>>>>>>> b"]) == 10


@pytest.mark.parametrize(
    "lines",
    [
        [f"value_{i} = {i % 9}" for i in range(3000)],
        ["x = 1"] * 3000,
        [f"line {i % 1500}" for i in range(3000)],
        [str(i * i % 127 % 2) for i in range(1500)],
        list("".join("0" * i + "1" for i in range(55))),
        [f"value_{i}" for i in range(12_000)],
    ],
    ids=["different", "equal", "two halves", "periodic", "too many chains", "too many lines"],
)
def test_long_files_compile_on_a_small_stack(lines: list[str]) -> None:
    # llguidance compiles rules by recursion: a chain of rules in the wrong order kills the process.
    assert visible_lines("\n".join(lines)) == lines
    grammar = edit_grammar({"a.py": "\n".join(lines)})
    assert len(grammar) < 3_000_000
    errors: list[str] = []
    threading.stack_size(256 * 1024)
    thread = threading.Thread(
        target=lambda: errors.append(LLMatcher(TOKENIZER, grammar, limits=LIMITS).get_error())
    )
    thread.start()
    threading.stack_size(0)
    thread.join()
    assert errors == [""]
