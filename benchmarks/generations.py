"""Random weights cannot write an edit that does not fit: many generations, every reply checked.

    python benchmarks/generations.py [N] [--json]

Each generation runs a model of random weights under the edit grammar, through llama.cpp and the loop that the
engine uses, at temperature 1 and with a seed of its own, on one of the sets of documents below. Its reply
goes through the server's parser and planner, and is held against what must be true of any model's reply:

- nothing is malformed, and nothing is dropped but a last block that the token limit cut off;
- every finished block names one place: its old lines are found exactly, and once;
- the blocks applied at once, and one by one as the server delivers them, give the same text;
- in it the lines with text of the blocks are replaced, but for their indentation, and every byte outside of
  them is as it was;
- no marker is among the lines written.
"""

import argparse
import json
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
from machine import command, describe, machine
from own import small_model
from singlepass.core.context import SourceFile, build_context
from singlepass.core.diff_parser import DiffParser, HunkDropped, HunkFinished, ParserEvent
from singlepass.core.edits import Edit, Snapshot, apply
from singlepass.core.grammar import Bounds, edit_grammar, marker_size
from singlepass.core.lines import split_lines, visible_lines
from singlepass.core.matcher import find_runs
from singlepass.core.planner import PlannedHunk, plan, rebase
from singlepass.core.prompt import Task, render_prompt
from singlepass_backends.base import Finished, GenerateRequest, Sampling, Target, TextChunk
from singlepass_backends.drivers.llama.driver import LlamaCppDriver
from singlepass_backends.generation.loop import InProcessBackend
from singlepass_backends.testing.random_model import Shape

BOUNDS = Bounds(max_lines=4, max_line_chars=60, max_hunks=3, may_be_empty=False)
"""Random weights never choose to stop, so the grammar stops them."""
N_CTX = 65_536
SHORT, LONG = 60, 3000
"""Tokens a reply may have: every fourth is likely to be cut off."""

Files = dict[str, str]


def document_sets() -> dict[str, Files]:
    """Texts by path, by the name of what is special about them; the first one is the edited file."""
    chance = random.Random(0)
    code = "".join(f"def f{i}(x):\n    return x + {i}\n\n\n" for i in range(12))
    words = ["a", "b", "", "    ", "\t", "x = 1", "}", "return"]

    def mixed(lines: list[str]) -> str:
        return "".join(line + chance.choice(["\n", "\r\n", "\r"]) for line in lines)

    repeated = "".join(chance.choice(words[:4]) + "\n" for _ in range(60))
    return {
        "line feeds": {"src/f.py": code},
        "carriage returns and line feeds": {"f.cs": code.replace("\n", "\r\n")},
        "carriage returns": {"f.txt": code.replace("\n", "\r")},
        "mixed line ends": {"f.txt": mixed(code.split("\n"))},
        "mixed line ends around blank lines": {"f.txt": mixed(["", "", "a", "", "b", "", ""] * 4)},
        "no final line end": {"f.py": code.rstrip()},
        "no final line end, carriage returns": {"f.py": code.rstrip().replace("\n", "\r\n")},
        "characters outside the basic plane": {"größe/𝔘.py": "𝔘 = '😀👩‍👩‍👧'\nß = '𐍈'\n# 😀\n# 😀😀\n"},
        "combining characters": {"f.txt": "é\né\nà́\nZ͑ͫ̓a͒l\nn̈\n"},
        "right to left": {"f.txt": "שלום\nمرحبا\n\u202eabc\u202c\nabc\n\u200f\n"},
        "line separators that are none": {"f.txt": "a\u2028b\nc\u2029d\ne\x85f\ng\x0bh\ni\x1cj\nk\u2028\n"},
        "form feeds": {"f.el": "\x0c\n;; one\n\x0c\n;; two\na\x0cb\n\x0c\x0c\n"},
        "tabs": {"Makefile": "all:\n\tcc a\n\t\tcc b\n \t cc\n\t\n\n.PHONY: all\n"},
        "trailing blanks": {"f.md": "a  \na\na \na\t\n  a\n\n \n  \n"},
        "markers": {"f.md": "<<<<<<< SEARCH\na\n=======\nb\n>>>>>>> REPLACE\n||||||| base\n"},
        "long markers": {"f.md": "<<<<<<<<<< SEARCH\n==========\n>>>>>>> REPLACE\n=======\n======\n====\n"},
        "marker-like lines": {
            "f.md": "Title\n=======x\n======= \n  =======\n> quote\n<<<\n>>>>>> \n====== \n"
        },
        "quotes and backslashes": {
            "f.py": "a = \"\\\"\\\\\"\nb = '\\n'\nc = r'\\d{3}/'\nd = '''\n'''\n\\\n/\n"
        },
        "control tokens": {"f.txt": "<|im_end|>\n<|im_start|>user\n</file>\n<|endoftext|>\nend\n"},
        "repeated lines": {"f.txt": repeated},
        "repeated blocks": {"f.py": "try:\n    x()\nexcept:\n    pass\n" * 9 + "end\n"},
        "equal lines": {"f.txt": "same\n" * 30},
        "two equal lines": {"f.txt": "same\nsame"},
        "blank lines only": {"f.txt": "\n" * 7},
        "white space only": {"f.txt": "  \n\t\n  "},
        "one empty line": {"f.txt": "\n"},
        "empty": {"f.txt": ""},
        "one line": {"f.txt": "x = 1\n"},
        "one line without line end": {"f.txt": "x = 1"},
        "byte order mark": {"f.cs": "\ufeffusing A;\r\nclass B {}\r\n"},
        "byte order mark only": {"f.txt": "\ufeff"},
        "lone surrogate": {"f.txt": "a\ud800b\nc\n"},
        "long lines": {"f.json": "[" + "1234, " * 400 + "]\n" + "x" * 900 + "\n{}\n"},
        "2,500 lines": {"long.py": "".join(f"v{i} = {chance.randrange(99)}\n" for i in range(2500))},
        "2,500 lines, few different": {"long.txt": "".join(f"{chance.choice(words)}\n" for _ in range(2500))},
        "three files": {"a.py": code[:300], "b/b.py": "b = 1\r\nc = 2\r\n", "empty.py": ""},
        "equal files": {"a.py": "x = 1\ny = 2\n", "b.py": "x = 1\ny = 2\n", "c d.py": "x = 1"},
        "files named like markers": {"=======": "a\nb\n", "<<<<<<< SEARCH": "c\n", "#": "d\n"},
    }


class Violation(Exception):
    """A reply did what no reply can do."""


class Counts(msgspec.Struct):
    """What came of the generations."""

    generations: int = 0
    finished_hunks: int = 0
    cut_off: int = 0
    """Blocks that the token limit cut off."""
    applied: int = 0
    changed_nothing: int = 0
    """Of these, blocks that repeat their old lines."""
    rejected: int = 0
    malformed: int = 0
    tokens: int = 0
    forced: int = 0
    """Tokens about which the grammar left no choice."""
    seconds: float = 0.0
    by_set: Counter[str] = msgspec.field(default_factory=Counter)
    """Finished blocks by the name of their documents."""

    @property
    def forced_share(self) -> float:
        return self.forced / self.tokens if self.tokens else 0.0


def open_model(path: Path) -> InProcessBackend:
    """The random model on one thread: its passes are too short for two."""
    return InProcessBackend(LlamaCppDriver(Target(model=str(path), n_ctx=N_CTX, n_threads=1), lambda _: True))


def run(backend: InProcessBackend, n: int) -> Iterator[Counts]:
    """The counts after each of `n` generations. Raises Violation, with all that is needed to see why."""
    counts = Counts()
    sets = document_sets()
    started = time.perf_counter()
    # Generations on the same documents follow each other, so that their prompt is read once.
    n_each = [n // len(sets) + (index < n % len(sets)) for index in range(len(sets))]
    seed = 0
    for (name, files), times in zip(sets.items(), n_each, strict=True):
        for _ in range(times):
            text, finished = generate(backend, files, seed)
            try:
                check(name, files, text, finished, counts)
            except (Violation, ValueError, AssertionError) as error:
                raise Violation(f"{name}, seed {seed}: {error}\n{files!r}\n{''.join(text)!r}") from error
            seed += 1
            counts.seconds = time.perf_counter() - started
            yield counts


def generate(backend: InProcessBackend, files: Files, seed: int) -> tuple[list[str], Finished]:
    """One reply, in the pieces it came in."""
    (path, text), *others = files.items()
    neighbours = [SourceFile(*file) for file in others]
    context = build_context(SourceFile(path, text), neighbours)
    size = marker_size([*files, *files.values()])
    segments = tuple(
        msgspec.structs.replace(segment, text=segment.text.encode("utf-8", "replace").decode("utf-8"))
        for segment in render_prompt(context, Task(f"Number {seed}.", path, 0, 1), size)
    )
    request = GenerateRequest(
        segments,
        edit_grammar(context.editable, size, BOUNDS),
        max_tokens=SHORT if seed % 4 == 3 else LONG,
        sampling=Sampling(temperature=1.0, seed=seed),
    )
    pieces: list[str] = []
    for event in backend.generate(request, lambda: False):
        if isinstance(event, TextChunk):
            pieces.append(event.text)
        elif isinstance(event, Finished):
            return pieces, event
    raise Violation("the generation did not finish")


def check(name: str, files: Files, pieces: list[str], finished: Finished, counts: Counts) -> None:
    """Count what the reply did, and raise Violation for what it must not do."""
    size = marker_size([*files, *files.values()])
    parser = DiffParser(size, files, is_constrained=True)
    events = [event for piece in pieces for event in parser.feed(piece)]
    complete = finished.finish_reason == "stop"
    events += parser.close(complete=complete)
    counts.generations += 1
    counts.tokens += finished.timings.n_decoded
    counts.forced += finished.timings.n_forced
    snapshots = {path: Snapshot(path, 1, text) for path, text in files.items()}
    planned: list[PlannedHunk] = []
    for event in events:
        if isinstance(event, HunkFinished):
            counts.finished_hunks += 1
            counts.by_set[name] += 1
            found = plan(event.hunk, snapshots, None, planned)
            if not isinstance(found, PlannedHunk):
                counts.rejected += 1
                raise Violation(f"rejected: {found.message}")
            check_place(found)
            planned.append(found)
            counts.applied += 1
            counts.changed_nothing += not found.edits
        elif isinstance(event, HunkDropped) and event.reason == "cut_off" and not complete:
            counts.cut_off += 1
        elif is_malformed(event, complete):
            counts.malformed += 1
            raise Violation(f"malformed: {event}")
    if complete and not planned:
        raise Violation("a whole reply without a block")
    for path, text in files.items():
        check_result(text, [one for one in planned if one.snapshot.uri == path], size)


def is_malformed(event: ParserEvent, complete: bool) -> bool:
    """Whether a constrained reply cannot lead to this event. Cut off, its last line may be half a path."""
    kind = type(event).__name__
    return kind == "HunkDropped" or (kind == "Ignored" and complete)


def check_place(planned: PlannedHunk) -> None:
    """The old lines stand in the document exactly once, and the edits stay among them."""
    shown, old = visible_lines(planned.snapshot.text), planned.hunk.old
    if planned.how != "exact" or (shown and len(find_runs(shown, old)) != 1) or (not shown and old):
        raise Violation(f"not one exact place: {planned.how}, {old}")
    if any(not planned.start <= edit.start <= edit.end <= planned.end for edit in planned.edits):
        raise Violation("an edit leaves its block")


def check_result(text: str, planned: list[PlannedHunk], size: int) -> None:
    """Apply the blocks of one file in both ways, and compare the result with a model of it in lines."""
    edits = [edit for one in planned for edit in one.edits]
    at_once = apply(text, edits)
    now, changes = text, list[Edit]()
    for one in planned:
        moved = rebase(one, changes, now)
        if not isinstance(moved, tuple):
            raise Violation(f"stale: {moved.message}")
        now = apply(now, moved)
        # The last edit first, as editors tell them, so that each refers to the text after the one before.
        changes += sorted(moved, reverse=True)
    if now != at_once:
        raise Violation(f"one by one gives {now!r}, at once {at_once!r}")

    ordered = sorted(planned, key=lambda one: one.start)
    position, end = 0, 0
    for one in ordered:
        outside = text[end : one.start]
        if at_once[position : position + len(outside)] != outside:
            raise Violation("text outside the blocks changed")
        grown = sum(len(edit.new) - (edit.end - edit.start) for edit in one.edits)
        position += len(outside) + one.end - one.start + grown
        end = one.end
    if at_once[position:] != text[end:]:
        raise Violation("text after the blocks changed")

    lines = split_lines(text)
    starts = {line.start: index for index, line in enumerate(lines)}
    expected, shown = list[str](), visible_lines(text)
    first = 0
    for one in ordered:
        start = starts.get(one.start, len(lines))
        expected += [*shown[first:start], *one.hunk.new]
        first = start + len(one.hunk.old)
    expected += shown[first:]
    # A tab among spaces may have been mended, and blank lines at a block's border.
    if [*filter(None, map(str.strip, visible_lines(at_once)))] != [*filter(None, map(str.strip, expected))]:
        raise Violation(f"the lines are {visible_lines(at_once)}, not {expected}")
    markers = ("<" * size + " SEARCH", "=" * size, ">" * size + " REPLACE")
    if any(line.rstrip() in markers for line in visible_lines(at_once)):
        raise Violation("a marker entered the text")


def report(counts: Counts, found: Mapping[str, Any], line: str) -> dict[str, Any]:
    """Everything as plain values."""
    values = msgspec.to_builtins(counts)
    return {"command": line, "machine": dict(found), **values, "forced_share": counts.forced_share}


def table(counts: Counts) -> str:
    """The counts for people, as Markdown."""
    rows = {
        "generations": f"{counts.generations:,} on {len(counts.by_set)} sets of documents",
        "blocks finished": f"{counts.finished_hunks:,}",
        "applied": f"{counts.applied:,}, of which {counts.changed_nothing:,} repeat their old lines",
        "rejected": f"{counts.rejected:,}",
        "malformed": f"{counts.malformed:,}",
        "cut off by the token limit": f"{counts.cut_off:,}",
        "tokens": f"{counts.tokens:,}, of which {counts.forced_share:.1%} forced",
        "seconds": f"{counts.seconds:.0f}",
    }
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items())])


def write_model(path: Path) -> None:
    """A small model with random weights and room for the longest of the prompts."""
    small_model(path, Shape(n_ctx_train=N_CTX))


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("n", nargs="?", type=int, default=1000, help="generations")
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    arguments = parser.parse_args()
    counts = Counts()
    with tempfile.TemporaryDirectory(prefix="sp-bench-") as folder:
        path = Path(folder) / "random.gguf"
        write_model(path)
        backend = open_model(path)
        for counts in run(backend, arguments.n):
            if counts.generations % 10 == 0 and sys.stderr.isatty():
                print(f"\r{counts.generations}", end="", file=sys.stderr)
        backend.close()
    found = machine()
    if arguments.json:
        print(json.dumps(report(counts, found, command(sys.argv)), indent=2))
    else:
        print("\n".join([describe(found), f"`{command(sys.argv)}`", "", table(counts)]))


if __name__ == "__main__":
    main()
