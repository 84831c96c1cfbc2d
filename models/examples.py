"""Whole examples: a file around a function, the prompt as the server renders it, and the right answer."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random

from corpus import Corpus, Function
from kinds import KINDS, Change, Pair
from singlepass.core.context import Context, SourceFile, build_context
from singlepass.core.grammar import unique_runs
from singlepass.core.prompt import Task, render_prompt
from singlepass.repository.map import build_map
from singlepass.repository.parsing import outline
from singlepass_backends.base import Segment
from singlepass_backends.generation.template import CHATML


@dataclass(frozen=True)
class Case:
    """A request to edit and what the files must look like after it."""

    kind: str
    files: Mapping[str, str]
    """Texts by path, the edited file first; all of them may be edited."""
    expected: Mapping[str, str]
    first_line: int
    end_line: int
    """The selection in the edited file; equal to `first_line` for a cursor."""
    instruction: str
    diagnostics: tuple[str, ...] = ()
    map: str = ""
    read_only: Mapping[str, str] = field(default_factory=dict[str, str])
    """Files that are only read, by path."""
    quotes_selection: bool = False
    """Whether the answer quotes all that is selected, as one block."""

    @property
    def edited(self) -> str:
        """The path of the document that the user works in."""
        return next(iter(self.files))

    @property
    def context(self) -> Context:
        """What the model is shown, as the server builds it."""
        edited, *others = (SourceFile(path, text) for path, text in self.files.items())
        others += (SourceFile(path, text, editable=False) for path, text in self.read_only.items())
        return build_context(edited, others, self.map)

    @property
    def task(self) -> Task:
        """What it is asked."""
        return Task(self.instruction, self.edited, self.first_line, self.end_line, self.diagnostics)

    def segments(self) -> tuple[Segment, ...]:
        """The prompt, as the server sends it to the engine."""
        return render_prompt(self.context, self.task)


@dataclass(frozen=True)
class Size:
    """How large examples are made."""

    longest: int = 400
    """Characters of the longest function that is edited."""
    distractors: int = 3
    """Most functions beside it."""
    headers: bool = True
    """Whether imports and constants may stand before them."""
    maps: float = 0.3
    """Share of examples with a repository map."""


def make_case(corpus: Corpus, random: Random, size: Size, kind: str | None = None) -> Case:
    """A random case of a kind, by default of any, by its weight in `KINDS`."""
    return make_cases(corpus, random, size, 1, kind)[0]


_TRIES = 6
"""Kinds that are tried for another case about the same files; without a second try most have none."""


def make_cases(corpus: Corpus, random: Random, size: Size, n: int, kind: str | None = None) -> list[Case]:
    """Up to `n` cases about the same files and the same function, the first of the kind that is asked for."""
    while True:
        chosen = kind or _some_kind(random)
        for _ in range(200):
            function = random.choice(corpus.functions)
            if sum(map(len, function.lines)) + len(function.lines) > size.longest:
                continue
            change = KINDS[chosen][0](function, random, corpus.names)
            if change is None:
                continue
            seed = random.random()
            case = _place(chosen, change, function, corpus, Random(seed), size)
            if case is not None:
                others = [
                    _other_case(case, change, function, corpus, random, seed, size) for _ in range(n - 1)
                ]
                return [case, *(other for other in others if other is not None)]


def _some_kind(random: Random) -> str:
    names = list(KINDS)
    return random.choices(names, [KINDS[name][1] for name in names])[0]


def _other_case(
    case: Case, change: Change, function: Function, corpus: Corpus, random: Random, seed: float, size: Size
) -> Case | None:
    """A case of another kind with the files of `case`, if one of the kinds that come up allows it."""

    def still(pair: Pair | None) -> Pair | None:
        return pair and Pair(pair.before, pair.before)

    around = {name: still(getattr(change, name)) for name in ("caller", "header", "neighbour")}
    for _ in range(_TRIES):
        kind = _some_kind(random)
        other = KINDS[kind][0](replace(function, lines=change.main.before), random, corpus.names)
        if other is None or other.main.before != change.main.before:
            continue
        if other.caller or other.header or other.neighbour or (change.neighbour and "function" in kind):
            continue
        placed = _place(kind, replace(other, **around), function, corpus, Random(seed), size)
        if placed is not None and placed.files == case.files:
            return placed
    return None


# The file around the function.

_HEADERS = (
    "import os", "import sys", "import re", "import json", "from pathlib import Path", "import itertools",
    "from collections import Counter", "import logging", "from typing import Any", "import time",
)  # fmt: skip
_FOLDERS = ("", "", "src/", "lib/", "app/", "tools/", "core/", "pkg/", "server/")


def _place(
    kind: str, change: Change, function: Function, corpus: Corpus, random: Random, size: Size
) -> Case | None:
    def word() -> str:
        return re.sub(r"[^a-z]", "", random.choice(corpus.names).lower()) or "main"

    module, other = word(), word()
    folder = random.choice(_FOLDERS)
    path, other_path = f"{folder}{module}.py", f"{folder}{other}.py"
    if other_path == path or module in ("import", "from"):
        return None
    header = change.header or (_header(corpus, random) if size.headers else Pair((), ()))
    in_class = function.is_method and change.caller is None
    distractors = [
        Pair(f.lines, f.lines)
        for f in (_distractor(corpus, random, in_class) for _ in range(random.randint(0, size.distractors)))
        if f.name != function.name and function.name not in "\n".join(f.lines)
    ]
    units = [*distractors, *([change.caller] if change.caller else [])]
    random.shuffle(units)
    n_before = random.randint(0, len(units))
    ordered = [*units[:n_before], change.main, *units[n_before:]]
    before: list[str] = list(header.before)
    after: list[str] = list(header.after)
    first = end = 0
    if in_class:
        name = (word().capitalize() + random.choice(("", "Reader", "Error", "Set", "Server"))) or "Thing"
        lines = [f"class {name}:"]
        if random.random() < 0.3:
            lines.append(f'    """A {word()}."""')
        lines.append("")
        before += lines
        after += lines
    for i, unit in enumerate(ordered):
        if i or (before and not in_class):
            blank = [""] if in_class else ["", ""]
            blank = blank if (before and before[-1:] != [""]) or in_class else [""]
            before += blank
            after += blank
        if unit is change.main:
            first = len(before) + change.first
            end = len(before) + (len(unit.before) if change.end is None else change.end)
        indent = "    " if in_class else ""
        before += [indent + line if line else line for line in unit.before]
        after += [indent + line if line else line for line in unit.after]
    if kind == "remove an import":
        first, end = change.first, change.end or 0
    step = random.choices(("    ", "\t", "  "), (9, 0.6, 0.4))[0]
    texts = [_text(lines, step) for lines in (before, after)]
    files, expected = {path: texts[0]}, {path: texts[1]}
    if change.neighbour is not None:
        dotted = f"{folder.replace('/', '.')}{module}" if random.random() < 0.5 else module
        for texts_by_path, lines in ((files, change.neighbour.before), (expected, change.neighbour.after)):
            texts_by_path[other_path] = _text([line.replace("{module}", dotted) for line in lines], step)
    elif random.random() < 0.1 and size.distractors:
        extra = _distractor(corpus, random, False)
        files[other_path] = expected[other_path] = _text(list(extra.lines), step)
    read_only: dict[str, str] = {}
    if size.distractors > 1 and random.random() < 0.3:
        only_read = _distractor(corpus, random, False)
        read_only[f"{folder}{only_read.name.strip('_').lower()}_{other}.py"] = _text(only_read.lines, step)
    if files == expected:
        return None
    problems = (f"line {first + 1}: {change.problem}",) if change.problem else ()
    whole = change.quotes_selection
    case = Case(kind, files, expected, first, end, change.instruction, problems, "", read_only, whole)
    if random.random() < size.maps:
        known = {**files, **read_only}
        outlines = {p: o for p, text in known.items() if (o := outline(p, text.encode())) is not None}
        case = replace(case, map=build_map(outlines, random.randint(200, 900)))
    return case


def _header(corpus: Corpus, random: Random) -> Pair:
    lines: list[str] = []
    if random.random() < 0.3:
        lines += [f'"""The {random.choice(corpus.names)} of {random.choice(corpus.names)}."""', ""]
    if random.random() < 0.5:
        lines += [*sorted(random.sample(_HEADERS, random.randint(1, 3))), ""]
    if random.random() < 0.2:
        lines += [f"{random.choice(corpus.names).upper()} = {random.randint(0, 999)}", ""]
    return Pair(tuple(lines), tuple(lines))


def _distractor(corpus: Corpus, random: Random, is_method: bool) -> Function:
    while True:
        function = random.choice(corpus.functions)
        if function.is_method == is_method and sum(map(len, function.lines)) < 300:
            return function


def _text(lines: Sequence[str], step: str) -> str:
    def indented(line: str) -> str:
        rest = line.lstrip(" ")
        n = (len(line) - len(rest)) // 4
        return step * n + line[4 * n :]

    return "".join(f"{indented(line)}\n" for line in lines)


# The answer.


def rewritten(case: Case) -> str | None:
    """The selected lines as they must be; None where something else changes, or nothing is selected."""
    edited, first, end = case.edited, case.first_line, case.end_line
    before, after = (files[edited].splitlines(keepends=True) for files in (case.files, case.expected))
    n_tail = len(before) - end
    others = {path: text for path, text in case.files.items() if path != edited}
    if first == end or any(case.expected[path] != text for path, text in others.items()):
        return None
    if (
        before[:first] != after[:first]
        or len(after) < first + n_tail
        or before[end:] != after[len(after) - n_tail :]
    ):
        return None
    return "".join(after[first : len(after) - n_tail])


_NEAR = 2
"""Changed lines with so many unchanged ones between them share a block."""


def answer(case: Case) -> str:
    """The blocks that make the expected texts out of the files.

    They are as short as the format allows, but for a name that changes in many lines of the selection: that
    is one block, so that the model need not find each line.
    """
    blocks: list[str] = []
    for path, text in case.files.items():
        before, after = text.splitlines(), case.expected[path].splitlines()
        spans = _spans(before, after)
        if case.quotes_selection and spans:
            spans = [(case.first_line, case.end_line, after[case.first_line : case.end_line])]
        merged = _merged(before, spans, unique_runs(before))
        for start, end, new in [(0, len(before), after)] if merged is None else merged:
            old = "".join(f"{line}\n" for line in before[start:end])
            body = "".join(f"{line}\n" for line in new)
            blocks.append(f"{path}\n<<<<<<< SEARCH\n{old}=======\n{body}>>>>>>> REPLACE\n")
    return "".join(blocks)


def _merged(
    before: Sequence[str], changes: Sequence[tuple[int, int, list[str]]], ends: Sequence[int | None]
) -> list[tuple[int, int, list[str]]] | None:
    """The changes with lines around them until each occurs once; None where they get in each other's way."""
    spans: list[tuple[int, int, list[str]]] = []
    for start, end, new in changes:
        # Longer until it occurs once: downwards, and where the file ends before that, upwards.
        while (least := ends[start]) is None or start == end:
            if start == end and start < len(before) and (start == 0 or not before[start - 1].strip()):
                new, end = [*new, before[end]], end + 1
            else:
                start, new = start - 1, [before[start - 1], *new]
        if least > end:
            new, end = [*new, *before[end:least]], least
        if spans and start < spans[-1][1] + 1:
            s, e, n = spans.pop()
            if start >= e:
                n = [*n, *before[e:start], *new]
            else:
                n = [*n, *new[e - start :]] if new[: e - start] == list(before[start:e]) else None
                if n is None:
                    return None
            start, new, end = s, n, max(e, end)
        spans.append((start, end, new))
    return spans


def _spans(before: Sequence[str], after: Sequence[str]) -> list[tuple[int, int, list[str]]]:
    """What changes, as lines of `before` (end exclusive) and the new ones."""
    if len(before) == len(after):
        spans: list[tuple[int, int, list[str]]] = []
        for i, (old, new) in enumerate(zip(before, after, strict=True)):
            if old == new:
                continue
            if spans and i - spans[-1][1] <= _NEAR:
                start = spans.pop()[0]
                spans.append((start, i + 1, list(after[start : i + 1])))
            else:
                spans.append((i, i + 1, [new]))
        return spans
    start = 0
    while start < min(len(before), len(after)) and before[start] == after[start]:
        start += 1
    n_tail = 0
    while n_tail < min(len(before), len(after)) - start and before[-1 - n_tail] == after[-1 - n_tail]:
        n_tail += 1
    return [(start, len(before) - n_tail, list(after[start : len(after) - n_tail]))]


# Tokens.


def prompt_texts(case: Case, *, system: bool = True) -> list[tuple[str, bool]]:
    """The prompt in pieces that are tokenized one by one, and whether each is the template's.

    Without `system` the system text is left out, which halves a short example: most are trained so.
    """
    segments = case.segments()
    pieces = [(CHATML.before, True)]
    pieces += [(s.text, False) for s in segments if s.role == "system"] if system else []
    pieces += [(CHATML.middle, True)]
    pieces += [(s.text, False) for s in segments if s.role == "user"]
    return [*pieces, (CHATML.after, True)]
