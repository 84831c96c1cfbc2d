"""What is said before a request about how long it will take, against what it takes.

    python benchmarks/estimates.py [REPOSITORY…] [--held-out] [--requests 200] [--model GGUF] [--json]

Requests are edits that commits of a git repository made (see `oracle.py`), by default of this one: files,
selections and replies of every size. They run through the engine's own loop, with grammar, drafts and prefix
cache, on a real model whose logits are steered so that it says what the commit made: every pass is computed
in full. Without --model it is one of random weights, made on the spot, of 7 million parameters: its passes
take some milliseconds, so what surrounds them weighs more than for a model of use. In turn a request is

- *cold*: nothing of its file was read;
- *warm*: its file was prewarmed;
- *edited*: it was prewarmed, and then a line was typed in its middle.

Before each request an estimate is made as the server makes it, from the requests so far, and compared with
the time from the command to the last text. Errors are shares of that time. Ten requests come first that are
not counted: of a new target nothing is known. What the steering takes is taken off.

*all* is the middle of what a title says: how long the reply will be is not known. *first token* leaves the
reply out of both. *reply known* is the estimate that is told the length of the reply, so what is left is that
of rates. *within the span* counts the requests that took no less and no more than the title said, and says
how many times its lower end the upper one was, at the median.

What a commit made says nothing of what the menu's actions make. With --held-out the requests are the tasks
that the demo model is judged by; their kinds stand for actions.

Goals for *all*: a median of at most 15%, and 9 of 10 within 35%.
"""

import argparse
import itertools
import json
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import msgspec
from counting import Tokenizer
from drafting import Steered
from editing import Git
from machine import command, describe, load, machine
from oracle import Edit, edits, held_out_edits, run
from own import ROOT, SLOW, small_model
from singlepass.core.context import Context, SourceFile
from singlepass.core.grammar import edit_grammar
from singlepass.core.prompt import expect_reply, render_context
from singlepass.stats.estimate import duration_ms, estimate_ms, n_to_prefill, rates
from singlepass.stats.record import Record
from singlepass.stats.statistics import percentile
from singlepass_backends.base import PrewarmRequest, Target, Timings
from singlepass_backends.drivers.llama.driver import LlamaCppDriver
from singlepass_backends.generation.loop import InProcessBackend

PHASES = ("cold", "warm", "edited")
N_CTX = 16_384
MAX_PROMPT_CHARS = 40_000
MAX_REPLY = 600
"""Tokens."""
GOALS = {"median": 0.15, "9 of 10": 0.35}
N_BEFORE = 10
"""Requests that are not counted."""
MOST_TRIES = 20
"""For each request, edits that are too long or that the grammar does not admit."""
KEY = "model"


@dataclass(frozen=True)
class Row:
    """One request: what was expected, and what it took. Times in ms."""

    phase: str
    n_prompt: int
    n_uncached: int
    """Tokens of context that were still to be read when it was asked for."""
    n_selected: int
    """Characters."""
    action: str
    n_prefilled: int
    n_decoded: int
    prefill_ms: float
    decode_ms: float
    low_ms: float
    estimate_ms: float
    high_ms: float
    known_ms: float
    """The estimate that is told the length of the reply."""
    first_estimate_ms: float
    first_ms: float
    total_ms: float

    @property
    def errors(self) -> dict[str, float]:
        """As shares of what it took."""
        return {
            "all": abs(self.estimate_ms - self.total_ms) / self.total_ms,
            "first token": abs(self.first_estimate_ms - self.first_ms) / self.first_ms,
            "reply known": abs(self.known_ms - self.total_ms) / self.total_ms,
        }


class Requests:
    """The requests of a benchmark, one after the other on one backend."""

    def __init__(self, driver: Steered, backend: InProcessBackend) -> None:
        self._driver = driver
        self._backend = backend
        self.records: list[Record] = []

    def make(self, edit: Edit, phase: str) -> Row | None:
        """Ask for one edit; None for one before there is an estimate, or that the grammar does not admit."""
        if phase != "cold":
            self._prewarm(edit if phase == "warm" else _before_typing(edit))
        uses = self._backend.inspect(render_context(edit.context))
        n_uncached = sum(use.n_tokens - use.n_cached for use in uses)
        n_cached = sum(use.n_cached for use in uses)
        known = rates(self.records, KEY)
        n_selected = len(selected(edit))
        n_reply = len(self._driver.want(edit.reply))
        self._driver.oracle_ms = 0.0
        started = time.perf_counter()
        grammar = edit_grammar(edit.context.editable, edit.size)
        draft = expect_reply(edit.context, edit.task, edit.size)
        spent = run(self._backend, edit, grammar=grammar, draft=draft)
        total_ms = (time.perf_counter() - started) * 1000 - self._driver.oracle_ms
        if spent is None:
            return None
        decoding_ms = spent.decode_ms - self._driver.oracle_ms
        n_task = spent.n_prompt - n_uncached - n_cached
        self.records.append(recorded(spent, decoding_ms, total_ms, edit, n_task))
        if known is None:
            return None
        expected = estimate_ms(known, n_uncached, n_cached, n_selected, edit.action)
        n_prefilled = n_to_prefill(known, n_uncached, n_selected)
        return Row(
            phase=phase,
            n_prompt=spent.n_prompt,
            n_uncached=n_uncached,
            n_selected=n_selected,
            action=edit.action,
            n_prefilled=spent.n_prefilled,
            n_decoded=spent.n_decoded,
            prefill_ms=spent.prefill_ms,
            decode_ms=decoding_ms,
            low_ms=expected.low,
            estimate_ms=expected.middle,
            high_ms=expected.high,
            known_ms=duration_ms(known, n_prefilled, n_reply, n_cached),
            first_estimate_ms=duration_ms(known, n_prefilled, 0, n_cached),
            first_ms=total_ms - decoding_ms,
            total_ms=total_ms,
        )

    def _prewarm(self, edit: Edit) -> None:
        grammar = edit_grammar(edit.context.editable, edit.size)
        request = PrewarmRequest(render_context(edit.context), grammar)
        for _ in self._backend.prewarm(request, lambda: False):
            pass


def recorded(spent: Timings, decoding_ms: float, total_ms: float, edit: Edit, n_task: int) -> Record:
    """What the server keeps of a job, as far as estimates use it."""
    return Record(
        id="",
        day="",
        at=0.0,
        outcome="done",
        finish_reason="stop",
        rates_key=KEY,
        timings=msgspec.structs.replace(spent, decode_ms=decoding_ms),
        other_ms=max(0.0, total_ms - spent.prefill_ms - decoding_ms),
        n_selected=len(selected(edit)),
        n_task=n_task,
        action=edit.action,
    )


def selected(edit: Edit) -> str:
    """The selected lines, or the one with the cursor."""
    lines = edit.context.edited.text.splitlines(keepends=True)
    return "".join(lines[edit.task.first_line : max(edit.task.end_line, edit.task.first_line + 1)])


def _before_typing(edit: Edit) -> Edit:
    """The same request before a line was typed in the middle of its file."""
    path, lines = edit.context.edited.path, edit.context.edited.text.splitlines(keepends=True)
    del lines[len(lines) // 2]
    context = Context(SourceFile(path, "".join(lines)))
    return Edit(context, edit.task, edit.size, edit.reply)


def chosen(repositories: Sequence[Path], seed: int) -> Iterator[Edit]:
    """Edits of all repositories, and again in another order; none where there are none."""
    for number in itertools.count(seed):
        n_found = 0
        for path in repositories:
            for edit in edits(Git(path), number):
                if len(edit.context.edited.text) <= MAX_PROMPT_CHARS:
                    n_found += 1
                    yield edit
        if not n_found:
            return


def measure(model: Path, asked: Iterable[Edit], n_requests: int) -> Iterator[Row]:
    """Make so many requests. Fewer where hardly an edit can be made."""
    target = Target(model=str(model), n_ctx=N_CTX)
    driver = Steered(Tokenizer(model), LlamaCppDriver(target, lambda _: True))
    driver.n_sequences = 1  # the oracle holds no more
    requests = Requests(driver, InProcessBackend(driver))
    n_made = 0
    tries = itertools.islice(asked, MOST_TRIES * (N_BEFORE + n_requests))
    for number, edit in enumerate(tries):
        if len(driver.want(edit.reply)) > MAX_REPLY:
            continue
        row = requests.make(edit, PHASES[number % len(PHASES)])
        if row is None:
            continue
        n_made += 1
        if n_made > N_BEFORE:
            yield row
        if n_made == N_BEFORE + n_requests:
            return


def summary(rows: Sequence[Row]) -> dict[str, dict[str, float]]:
    """Median and tail of each error, over all requests and for each phase."""
    found: dict[str, dict[str, float]] = {}
    for phase in ("", *PHASES):
        group = [row for row in rows if not phase or row.phase == phase]
        for name in ("all", "first token", "reply known"):
            errors = [row.errors[name] for row in group]
            if errors:
                label = f"{name}, {phase}" if phase else name
                found[label] = {
                    "requests": len(errors),
                    "median": percentile(errors, 0.5),
                    "9 of 10": percentile(errors, 0.9),
                }
    return found


def within(rows: Sequence[Row]) -> dict[str, float]:
    """The share of requests that took what the span says, and how wide spans are."""
    return {
        "share": sum(row.low_ms <= row.total_ms <= row.high_ms for row in rows) / len(rows),
        "median width": percentile([row.high_ms / row.low_ms for row in rows], 0.5),
    }


def table(found: dict[str, dict[str, float]]) -> str:
    """The same as Markdown."""
    lines = ["| error of the estimate | requests | median | 9 of 10 within |", "|---|---|---|---|"]
    for name, one in found.items():
        lines.append(f"| {name} | {one['requests']:.0f} | {one['median']:.1%} | {one['9 of 10']:.1%} |")
    return "\n".join(lines)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("repositories", nargs="*", type=Path, default=[ROOT])
    parser.add_argument("--held-out", action="store_true", help="tasks of the demo model, by kind, instead")
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--model", type=Path, metavar="GGUF", help="instead of a random one")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sp-bench-") as folder:
        model = asked.model or Path(folder) / "random.gguf"
        if asked.model is None:
            small_model(model, SLOW)
        before = load()
        requests = held_out_edits() if asked.held_out else chosen(asked.repositories, asked.seed)
        rows: list[Row] = []
        try:
            for row in measure(model, requests, asked.requests):
                rows.append(row)
                if sys.stderr.isatty():
                    print(f"\r{len(rows)} of {asked.requests}", end="", file=sys.stderr)
        except KeyboardInterrupt:
            print(f"stopped after {len(rows)} requests", file=sys.stderr)
    if not rows:
        sys.exit("no request was made: is there a repository with a history?")
    found, told, spans = machine(), summary(rows), within(rows)
    if asked.json:
        result = {
            "command": command(sys.argv),
            "machine": found,
            "model": asked.model.name if asked.model else "random",
            "load": [before, load()],
            "goals": GOALS,
            "errors": told,
            "within the span": spans,
            "rows": [asdict(row) for row in rows],
        }
        print(json.dumps(result, indent=1))
        return
    print("\n".join([describe(found), f"`{command(sys.argv)}`, load {before:.1f} to {load():.1f}", ""]))
    print(table(told))
    print(f"\nwithin the span: {spans['share']:.0%}; {spans['median width']:.1f} times at the median")
    print(f"goals for all: median {GOALS['median']:.0%}, 9 of 10 within {GOALS['9 of 10']:.0%}")


if __name__ == "__main__":
    main()
