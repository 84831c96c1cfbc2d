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
import os
import random
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import msgspec
from corpus import read_corpus
from examples import Case, Size, make_case
from kinds import KINDS
from singlepass.core.diff_parser import DiffParser, HunkFinished
from singlepass.core.edits import Snapshot, apply
from singlepass.core.grammar import edit_grammar
from singlepass.core.planner import PlannedHunk, plan
from singlepass_backends.base import (
    DEMO_MODEL,
    Backend,
    Finished,
    GenerateRequest,
    Target,
    TextChunk,
)
from singlepass_backends.opening import open_backend

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
    parser = DiffParser(files=case.files)
    events = [*parser.feed(text), *parser.close()]
    snapshots = {path: Snapshot(path, None, content) for path, content in case.files.items()}
    planned: list[PlannedHunk] = []
    for event in events:
        if isinstance(event, HunkFinished):
            one = plan(event.hunk, snapshots, (case.edited, case.first_line, case.end_line), planned)
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


@dataclass(frozen=True)
class Asked:
    """What a process that counts has to know."""

    backend: str
    model: str
    cases: int
    modes: tuple[bool, ...]
    show: bool


def count(kind: str, asked: Asked) -> dict[bool, int]:
    """How many of a kind's cases come out right, constrained and unconstrained."""
    backend = open_backend(Target(backend=asked.backend, model=asked.model, n_threads=1), lambda _: True)
    right = dict.fromkeys(asked.modes, 0)
    for case in held_out(asked.cases, [kind]):
        for constrained in asked.modes:
            reply = ask(backend, case, constrained=constrained)
            if is_right(case, reply):
                right[constrained] += 1
            elif asked.show and constrained:
                print(f"--- {kind}\n{case.segments()[-1].text}>>> replied\n{reply.text}", file=sys.stderr)
    backend.close()
    return right


def main() -> None:
    """Print the table of the model card, or the results as JSON."""
    parser = argparse.ArgumentParser(description="Evaluate the edit model on held-out cases.")
    parser.add_argument("--cases", type=int, default=100, help="of each kind")
    parser.add_argument("--backend", choices=("llama_cpp", "mlx"), default="llama_cpp")
    parser.add_argument("--model", type=Path, default=DEMO_MODEL)
    parser.add_argument("--write", type=Path, help="only write so many cases in all to this file")
    parser.add_argument("--kinds", default="", help="parts of the names of kinds, with commas between")
    parser.add_argument("--constrained-only", action="store_true")
    parser.add_argument("--show", action="store_true", help="print every reply that is wrong")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.write:
        write_cases(options.write, options.cases)
        return
    modes = (True,) if options.constrained_only else (True, False)
    asked = Asked(options.backend, str(options.model), options.cases, modes, options.show)
    kinds = [kind for kind in KINDS if any(part in kind for part in options.kinds.split(","))]
    with ProcessPoolExecutor(options.processes, get_context("spawn")) as processes:
        counts = dict(zip(kinds, processes.map(count, kinds, itertools.repeat(asked)), strict=True))

    def row(name: str, n: int, right: Mapping[bool, int]) -> str:
        shares = [f"{100 * right[mode] / n:.0f}%" if mode in right else "–" for mode in (True, False)]
        return f"| {name} | {n} | {' | '.join(shares)} |"

    print("| kind | cases | constrained | unconstrained |\n|---|---|---|---|")
    for kind, right in counts.items():
        print(row(kind, asked.cases, right))
    total = {mode: sum(right[mode] for right in counts.values()) for mode in modes}
    print(row("**all**", asked.cases * len(kinds), total))
    if options.json:
        rows = {kind: {"cases": asked.cases, "constrained": right[True], "unconstrained": right.get(False)}
                for kind, right in counts.items()}  # fmt: skip
        options.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
