"""How often a model's edit is right, way of asking by way of asking, on the same tasks.

    python benchmarks/quality.py --model MODEL.gguf                  # the repository's own tasks, all arms
    python benchmarks/quality.py --target NAME --tasks FILE.jsonl    # a target of the settings, CanItEdit's

Each task goes through prompt, engine, parser and planner as a job of the server does (`quality_arms.py`), at
temperature 0 and without other files than the task's. `quality_tasks.py` tells what a task is and
`quality_judge.py` how its result is judged. *Right* is an edit that does what was asked for and changes no
line that nobody asked about.

Replies are kept in a file (`--results`), one line a task and arm: a run goes on where it ended, and after a
change of parser, planner or check the replies that are there are read and judged anew. Another prompt or
grammar asks the model again. Tokens, passes and seconds are those of decoding, when the reply was made.
"""

import argparse
import hashlib
import json
import math
import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import msgspec
from machine import command, describe, machine
from quality_arms import (
    ARMS,
    Arm,
    Asked,
    Edited,
    ModelInfo,
    Reply,
    Target,
    asked_of,
    generate,
    opened,
    target_of,
)
from quality_judge import Verdict, judge, node_version, passes
from quality_tasks import Task, read_tasks

OWN_TASKS = sorted((Path(__file__).parent / "tasks").glob("*.toml"))


class Row(msgspec.Struct, frozen=True):
    """What became of one task with one arm."""

    task: str
    arm: str
    model: str
    kind: str
    language: str
    request: str
    """What tells the request from others; another one makes the reply void."""
    reply: Reply
    edited: Edited
    verdict: Verdict
    judged: str
    """What tells the task and the files from others; others are judged anew."""


Rows = dict[tuple[str, str, str], Row]
"""By task, arm and model."""


def read_rows(path: Path) -> Rows:
    """The rows of a file of results, the last of several. A line that was cut off is none."""
    rows: Rows = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            row = msgspec.json.decode(line, type=Row)
        except msgspec.DecodeError:
            continue
        rows[row.task, row.arm, row.model] = row
    return rows


def _hash(value: Any) -> str:
    return hashlib.sha256(msgspec.json.encode(value)).hexdigest()[:16]


def run(
    tasks: Sequence[Task], arms: Sequence[str], target: Target, model: str, results: Path, seconds: float
) -> tuple[list[Row], bool]:
    """The rows of all tasks and arms, and whether none is left; those that were not there are added to the
    file."""
    known, done = read_rows(results), list[Row]()
    replies = {row.request: row.reply for row in known.values() if row.model == model}
    results.parent.mkdir(parents=True, exist_ok=True)
    with opened(target) as backend, results.open("a", encoding="utf-8") as file:
        ends = time.monotonic() + seconds
        for n, task in enumerate(tasks):
            asked = asked_of(task)
            for name in arms:
                arm = ARMS[name]
                request = arm.request(asked, backend.info)
                before = known.get((task.name, name, model))
                identity = _hash((request.segments, request.grammar, request.max_tokens, request.sampling))
                if identity not in replies and time.monotonic() > ends:
                    return done, False
                reply = replies[identity] = replies.get(identity) or generate(backend, request)
                edited = _read(task, arm, asked, reply, backend.info)
                judged = _hash((task.fingerprint, edited.files))
                if before is not None and before.judged == judged:
                    verdict = before.verdict
                else:
                    verdict = judge(task, edited.files)
                row = Row(
                    task.name, name, model, task.kind, task.language, identity, reply, edited, verdict, judged
                )
                done.append(row)
                if row != before:
                    file.write(msgspec.json.encode(row).decode() + "\n")
                    file.flush()
                    tell(f"{n + 1}/{len(tasks)} {row_sentence(row)}")
    return done, True


def _read(task: Task, arm: Arm, asked: Asked, reply: Reply, info: ModelInfo) -> Edited:
    if reply.finish == "error":
        return Edited(dict(task.files), 0, 0, (("error", reply.text),))
    return arm.read(asked, reply, info)


def tell(sentence: str) -> None:
    """Progress, beside what is printed as the result."""
    print(sentence, file=sys.stderr, flush=True)


def row_sentence(row: Row) -> str:
    """One row in a line."""
    verdict, reply = row.verdict, row.reply
    outside = f", {verdict.outside} lines outside" if verdict.outside else ""
    why = f" ({verdict.why}{outside})" if not verdict.right else ""
    return (
        f"{row.task} {row.arm}: {'right' if verdict.right else 'wrong'}{why}; {reply.n_tokens} tokens in "
        f"{reply.n_passes} passes, {reply.decode_ms / 1000:.1f} s"
    )


# What the rows say.


def mcnemar(only_one: int, only_other: int) -> float:
    """The exact p of McNemar's test: how probable a difference of this size is, or a larger one, if both arms
    are equally good. The numbers are the tasks that only the one and only the other has right."""
    n, least = only_one + only_other, min(only_one, only_other)
    return min(1.0, 2 * sum(math.comb(n, k) for k in range(least + 1)) / 2**n)


def interval(k: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson's interval (95%) of a share."""
    if not n:
        return 0.0, 1.0
    share, square = k / n, z * z / n
    middle = (share + square / 2) / (1 + square)
    half = z * math.sqrt(share * (1 - share) / n + square / (4 * n)) / (1 + square)
    return max(0.0, middle - half), min(1.0, middle + half)


def summary(rows: Iterable[Row], arms: Sequence[str]) -> dict[str, Any]:
    """The figures of each arm over the tasks that all arms have, and each pair of arms."""
    by_task: dict[str, dict[str, Row]] = {}
    for row in rows:
        by_task.setdefault(row.task, {})[row.arm] = row
    paired = {task: found for task, found in by_task.items() if len(found) == len(arms)}
    figures = {arm: _figures([found[arm] for found in paired.values()]) for arm in arms}
    pairs: list[dict[str, Any]] = []
    for one, other in combinations(arms, 2):
        right = [(found[one].verdict.right, found[other].verdict.right) for found in paired.values()]
        counts = Counter(right)
        only_one, only_other = counts[True, False], counts[False, True]
        pairs.append(
            {
                "arms": [one, other],
                "both": counts[True, True],
                "only": [only_one, only_other],
                "neither": counts[False, False],
                "p": mcnemar(only_one, only_other),
            }
        )
    return {"n": len(paired), "arms": figures, "pairs": pairs}


def _figures(rows: Sequence[Row]) -> dict[str, Any]:
    refused = Counter(reason for row in rows for reason in {reason for reason, _ in row.edited.refused})
    groups: dict[str, dict[str, list[int]]] = {"kind": {}, "language": {}}
    for row in rows:
        for name, values in groups.items():
            count = values.setdefault(getattr(row, name), [0, 0])
            count[0] += row.verdict.right
            count[1] += 1
    right = sum(row.verdict.right for row in rows)
    return {
        "right": right,
        "interval": interval(right, len(rows)),
        "passed": sum(row.verdict.passed for row in rows),
        "applied": sum(row.edited.n_applied > 0 for row in rows),
        "refused": dict(refused.most_common()),
        "tasks_with_refused": sum(bool(row.edited.refused) for row in rows),
        "lines_outside": sum(row.verdict.outside for row in rows),
        "tasks_outside": sum(row.verdict.outside > 0 for row in rows),
        "blank_lines": sum(row.verdict.blank for row in rows),
        "runaways": sum(row.reply.is_runaway for row in rows),
        "tokens": sum(row.reply.n_tokens for row in rows),
        "passes": sum(row.reply.n_passes for row in rows),
        "seconds": round(sum(row.reply.decode_ms for row in rows) / 1000, 1),
        "by_kind": dict(sorted(groups["kind"].items())),
        "by_language": dict(sorted(groups["language"].items())),
    }


def table(found: Mapping[str, Any]) -> str:
    """The figures for people."""
    n = found["n"]
    lines = [
        "| | right | 95% | does it, but more | applied | refused in | lines outside (tasks), and blank ones "
        "| runaways | tokens | passes | seconds |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, one in found["arms"].items():
        low, high = one["interval"]
        refused = f"{one['tasks_with_refused']}" + "".join(
            f", {reason} {count}" for reason, count in one["refused"].items()
        )
        cost = f"{one['tokens']:,} | {one['passes']:,} | {one['seconds']:,.0f}"
        lines.append(
            f"| {name} | {one['right']} of {n} | {low:.0%} to {high:.0%} | {one['passed'] - one['right']} "
            f"| {one['applied']} | {refused} | {one['lines_outside']} ({one['tasks_outside']}), "
            f"{one['blank_lines']} | {one['runaways']} | {cost} |"
        )
    for pair in found["pairs"]:
        one, other = pair["arms"]
        lines.append(
            f"\n{one} and {other}: both right {pair['both']}, only {one} {pair['only'][0]}, only {other} "
            f"{pair['only'][1]}, neither {pair['neither']}; p = {pair['p']:.3g} (McNemar, exact)"
        )
    return "\n".join(lines)


def groups_table(found: Mapping[str, Any], by: str) -> str:
    """How many are right by kind or by language."""
    arms = found["arms"]
    names = sorted({name for one in arms.values() for name in one[by]})
    lines = [f"| | {' | '.join(arms)} |", "|---" * (len(arms) + 1) + "|"]
    for name in names:
        cells = ["{} of {}".format(*one[by].get(name, (0, 0))) for one in arms.values()]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def tables(found: Mapping[str, Any]) -> str:
    """All figures for people."""
    return "\n\n".join([table(found), groups_table(found, "by_kind"), groups_table(found, "by_language")])


def usable(tasks: Sequence[Task]) -> list[Task]:
    """The tasks that can be judged here: others need node, or packages that are missing."""
    kept: list[Task] = []
    for task in tasks:
        if task.node and not node_version():
            tell(f"{task.name} is left out, since there is no node")
        elif task.program and (why := passes(task, task.reference)):
            tell(f"{task.name} is left out, since its own solution does not pass here: {why}")
        else:
            kept.append(task)
    return kept


def main() -> None:
    """Run what is left and print the figures."""
    parser = argparse.ArgumentParser(description="How often a model's edit is right.")
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--model", type=Path, help="a GGUF file, or a recording (.json)")
    which.add_argument("--target", help="a target of the user's settings")
    parser.add_argument("--tasks", type=Path, nargs="+", default=OWN_TASKS, metavar="FILE")
    parser.add_argument("--arms", nargs="+", choices=[*ARMS], default=[*ARMS])
    parser.add_argument("--only", default="", help="tasks with this in their name, kind or language")
    parser.add_argument("--most", type=int, help="so many tasks, those with the shortest files")
    parser.add_argument("--results", type=Path, help="where the replies are kept (quality-MODEL.jsonl)")
    parser.add_argument("--seconds", type=float, default=math.inf, help="ask nothing more after so long")
    parser.add_argument("--threads", type=int, default=0, help="of a model file; 0 takes the physical cores")
    parser.add_argument("--show", action="store_true", help="print the replies that are wrong")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    target = target_of(options.model, options.target, options.threads)
    model = options.target or options.model.stem
    tasks = [
        task
        for path in options.tasks
        for task in read_tasks(path)
        if any(options.only in one for one in (task.name, task.kind, task.language))
    ]
    # A part of a run is a fair sample.
    tasks.sort(key=lambda task: hashlib.sha256(task.name.encode()).digest())
    if options.most is not None:
        tasks = sorted(tasks, key=lambda task: sum(map(len, task.files.values())))[: options.most]
    results = options.results or Path(f"quality-{Path(model).name}.jsonl")
    rows, is_whole = run(usable(tasks), options.arms, target, model, results, options.seconds)
    found = summary(rows, options.arms)
    if options.show:
        for row in rows:
            if not row.verdict.right:
                print(f"--- {row_sentence(row)}\n{row.reply.text}\n{_refusals(row)}")
    if options.json:
        about = {"command": command(sys.argv), "machine": machine(), "model": model, "tasks": len(tasks)}
        print(json.dumps({**about, **found}, indent=1))
        return
    if not is_whole:
        print(f"Not all tasks were asked yet; of {len(tasks)} there are {found['n']}.\n")
    print(f"{describe(machine())}\nModel: {model}, temperature 0\n\n{tables(found)}")


def _refusals(row: Row) -> str:
    return "".join(f"[{reason}] {message}\n" for reason, message in row.edited.refused)


if __name__ == "__main__":
    main()
