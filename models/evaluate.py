"""Held-out edits through the real engine: which share of each kind comes out exactly right.

    python models/evaluate.py --cases 100               # the table of the model card
    python models/evaluate.py --write tests/data/held_out.json --cases 100

The second writes so many cases in all to a file, for the test that runs the trained model: what cases are
made depends on the interpreter's standard library.

A case counts when every file reads, to the last character, as it must. Cases are made from packages the
model never saw. Constrained is how singlepass runs a model; unconstrained, the same prompt without the
grammar, where a block that cannot be placed is refused as everywhere.
"""

import argparse
import itertools
import json
import random
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
from corpus import read_corpus
from examples import Case, Size, make_case
from kinds import KINDS
from shape import WEIGHTS
from singlepass.core.diff_parser import DiffParser, HunkFinished
from singlepass.core.edits import Snapshot, apply
from singlepass.core.grammar import edit_grammar
from singlepass.core.planner import PlannedHunk, plan
from singlepass_backends.base import (
    Backend,
    Finished,
    GenerateRequest,
    Target,
    TextChunk,
)
from singlepass_backends.choose import open_backend

_MAX_TOKENS = 800


def held_out(n: int, kinds: Sequence[str] = tuple(KINDS), seed: int = 1) -> Iterator[Case]:
    """So many cases of each kind, the same for the same interpreter; the kinds take turns."""
    corpus = read_corpus("held_out")
    sources = {kind: random.Random(f"{seed} {kind}") for kind in kinds}
    for _ in range(n):
        for kind, source in sources.items():
            yield make_case(corpus, source, Size(), kind)


@dataclass(frozen=True)
class Reply:
    """What the model said, and what it cost in tokens."""

    text: str
    n_decoded: int
    n_forced: int
    n_prompt: int


def ask(backend: Backend, case: Case, *, constrained: bool = True, max_tokens: int = _MAX_TOKENS) -> Reply:
    """The model's greedy reply to a case."""
    request = GenerateRequest(
        segments=case.segments(),
        max_tokens=max_tokens,
        grammar=edit_grammar(case.files) if constrained else None,
    )
    text, finished = "", None
    for event in backend.generate(request, lambda: False):
        if isinstance(event, TextChunk):
            text += event.text
        elif isinstance(event, Finished):
            finished = event
    assert finished is not None
    timings = finished.timings
    return Reply(text, timings.n_decoded, timings.n_forced, timings.n_prompt)


def edited(case: Case, text: str) -> Mapping[str, str]:
    """The files after the reply's hunks, those that fit."""
    parser = DiffParser(paths=case.files)
    events = [*parser.feed(text), *parser.close()]
    snapshots = {path: Snapshot(path, None, content) for path, content in case.files.items()}
    planned: list[PlannedHunk] = []
    for event in events:
        if isinstance(event, HunkFinished):
            one = plan(event.hunk, snapshots, (case.target, case.first_line, case.end_line), planned)
            if isinstance(one, PlannedHunk):
                planned.append(one)
    return {
        path: apply(
            content, sorted(edit for one in planned if one.snapshot.uri == path for edit in one.edits)
        )
        for path, content in case.files.items()
    }


def is_right(case: Case, reply: Reply) -> bool:
    """Whether every file reads as it must after the reply's hunks."""
    return edited(case, reply.text) == case.expected


def write_cases(path: Path, n: int) -> None:
    """Write the first `n` held-out cases as JSON."""
    cases = [*itertools.islice(held_out(-(-n // len(KINDS))), n)]
    path.write_bytes(msgspec.json.format(msgspec.json.encode(cases), indent=1) + b"\n")


def read_cases(path: Path) -> list[Case]:
    """What `write_cases` wrote."""
    return msgspec.json.decode(path.read_bytes(), type=list[Case])


def main() -> None:
    """Print the table of the model card, or the results as JSON."""
    parser = argparse.ArgumentParser(description="Evaluate the edit model on held-out cases.")
    parser.add_argument("--cases", type=int, default=100, help="of each kind")
    parser.add_argument("--backend", choices=("llama_cpp", "mlx"), default="llama_cpp")
    parser.add_argument("--model", type=Path, default=WEIGHTS)
    parser.add_argument("--write", type=Path, help="only write so many cases in all to this file")
    parser.add_argument("--kinds", default="", help="parts of the names of kinds, with commas between")
    parser.add_argument("--constrained-only", action="store_true")
    parser.add_argument("--show", action="store_true", help="print every reply that is wrong")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    if asked.write:
        write_cases(asked.write, asked.cases)
        return
    backend = open_backend(Target(backend=asked.backend, model=str(asked.model)), lambda _: True)
    modes = (True,) if asked.constrained_only else (True, False)
    wanted = [kind for kind in KINDS if any(part in kind for part in asked.kinds.split(","))]
    counts: dict[str, dict[bool, list[bool]]] = {}
    started = time.perf_counter()
    for case in held_out(asked.cases, wanted):
        for constrained in modes:
            reply = ask(backend, case, constrained=constrained)
            right = is_right(case, reply)
            counts.setdefault(case.kind, {True: [], False: []})[constrained].append(right)
            if asked.show and not right and constrained:
                print(
                    f"--- {case.kind}\n{case.segments()[-1].text}>>> replied\n{reply.text}", file=sys.stderr
                )
    backend.close()
    seconds = time.perf_counter() - started

    def share(results: list[bool]) -> str:
        return f"{100 * sum(results) / len(results):.0f}%" if results else "–"

    print("| kind | cases | constrained | unconstrained |\n|---|---|---|---|")
    for kind, by_mode in counts.items():
        print(f"| {kind} | {len(by_mode[True])} | {share(by_mode[True])} | {share(by_mode[False])} |")
    total = {
        mode: [right for by_mode in counts.values() for right in by_mode[mode]] for mode in (True, False)
    }
    print(f"| **all** | {len(total[True])} | {share(total[True])} | {share(total[False])} |")
    print(f"{seconds:.0f} s", file=sys.stderr)
    if asked.json:
        rows = {kind: {"constrained": sum(m[True]), "unconstrained": sum(m[False]), "cases": len(m[True])}
                for kind, m in counts.items()}  # fmt: skip
        asked.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
