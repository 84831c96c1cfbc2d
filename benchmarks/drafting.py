"""What drafts save on a real model: the decode time of real edits in three ways, in one run.

    python benchmarks/drafting.py REPOSITORY… [--held-out] --model GGUF [--edits 20] [--costs …] [--json]

Plain is a token a pass, without a grammar; forced is with the edit grammar, whose forced runs need no pass
of their own; ours drafts as well. The weights may be random: each pass is computed in full, and then the
logits are replaced, so that the reply is the one the commit made (see `oracle.py`) and as much is accepted as
a model that wants it would accept. Each edit is decoded twice in each way, in turn, and the faster time
counts; the prompt is read once. Printed is how many times as fast as plain the others are.

With `--costs 1:1,8:4,64:18` nothing is computed: a pass of 8 tokens takes 4 times that of one by a clock of
its own, and so on, in between in proportion. So policies can be compared, also for machines not at hand.
"""

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from counting import Tokenizer
from editing import Git
from machine import command, describe, machine
from numpy.typing import NDArray
from oracle import MAX_TOKENS, Edit, Oracle, edits, held_out_edits, run
from singlepass.core.grammar import edit_grammar
from singlepass.core.prompt import expect_reply, render_prompt
from singlepass_backends.base import PrewarmRequest, Target, Timings
from singlepass_backends.drivers.llama.driver import LlamaCppDriver
from singlepass_backends.generation import loop, meter
from singlepass_backends.generation.drafting import drafting as drafts
from singlepass_backends.generation.loop import InProcessBackend

MAX_FILE_CHARS = 6000
N_REPEATS = 2
_ONE_S = 0.025
"""What a pass of one token takes by the clock of a `Priced` driver."""
WAYS = ("plain", "forced", "ours")
CLOCKED = (loop, meter, drafts)
"""Whose `time` a `Priced` driver replaces."""


class Steered(Oracle):
    """A real driver that computes every pass, and wants what the oracle wants."""

    def __init__(self, tokenizer: Tokenizer, driver: LlamaCppDriver) -> None:
        super().__init__(tokenizer)
        self._driver = driver
        self.oracle_ms = 0.0
        """Spent on being an oracle, which is no part of a reply's time."""
        self.info = driver.info
        self.n_ctx, self.n_batch = driver.n_ctx, driver.n_batch
        self.n_branches = driver.n_branches

    def forward(self, tokens: Sequence[int], position: int, *, n_logits: int) -> NDArray[np.float32] | None:
        """See `Driver`."""
        self._driver.forward(tokens, position, n_logits=n_logits)
        start = time.perf_counter()
        wanted = super().forward(tokens, position, n_logits=n_logits)
        self.oracle_ms += (time.perf_counter() - start) * 1e3
        return wanted

    def branch(self, tokens: Sequence[int], position: int, parents: Sequence[int]) -> NDArray[np.float32]:
        """See `Driver`."""
        self._driver.branch(tokens, position, parents)
        start = time.perf_counter()
        wanted = super().branch(tokens, position, parents)
        self.oracle_ms += (time.perf_counter() - start) * 1e3
        return wanted

    def keep(self, position: int, nodes: Sequence[int]) -> None:
        """See `Driver`."""
        super().keep(position, nodes)
        self._driver.keep(position, nodes)

    def clear(self) -> None:
        """See `Driver`."""
        super().clear()
        self._driver.clear()

    def trim(self, n_keep: int, sequence: int = 0) -> bool:
        """See `Driver`."""
        return super().trim(n_keep, sequence) and self._driver.trim(n_keep, sequence)


class Priced(Oracle):
    """A driver that computes nothing, whose passes take what they are said to cost."""

    oracle_ms = 0.0

    def __init__(self, tokenizer: Tokenizer, costs: Mapping[int, float]) -> None:
        super().__init__(tokenizer)
        self.info = msgspec.structs.replace(self.info, device="CPU" if costs[max(costs)] > 8 else "GPU")
        self._sizes, self._costs = sorted(costs), [costs[size] for size in sorted(costs)]
        self._now = 0.0

    def perf_counter(self) -> float:
        """The loop's clock, in seconds."""
        return self._now

    def _take(self, n: int) -> None:
        last = self._sizes[-1]
        self._now += _ONE_S * float(np.interp(min(n, last), self._sizes, self._costs)) * max(1.0, n / last)

    def forward(self, tokens: Sequence[int], position: int, *, n_logits: int) -> NDArray[np.float32] | None:
        """See `Driver`."""
        self._take(len(tokens))
        return super().forward(tokens, position, n_logits=n_logits)

    def branch(self, tokens: Sequence[int], position: int, parents: Sequence[int]) -> NDArray[np.float32]:
        """See `Driver`."""
        self._take(len(tokens))
        return super().branch(tokens, position, parents)


def measure(driver: Steered | Priced, backend: InProcessBackend, edit: Edit) -> list[Timings] | None:
    """The faster of the replies in each of `WAYS`; None for an edit outside of the grammar."""
    grammar = edit_grammar(edit.context.editable, edit.size)
    draft = expect_reply(edit.context, edit.task, edit.size, edit.corpus)
    segments = render_prompt(edit.context, edit.task, edit.size)
    list(backend.prewarm(PrewarmRequest(segments[:-1], corpus=edit.corpus), lambda: False))
    found: list[list[Timings]] = [[] for _ in WAYS]
    for _ in range(N_REPEATS):
        for held_to, guesses, timings in zip(
            (None, grammar, grammar), (None, None, draft), found, strict=True
        ):
            driver.want(edit.reply)
            driver.oracle_ms = 0.0
            said = run(backend, edit, grammar=held_to, draft=guesses)
            if said is None:
                return None
            timings.append(msgspec.structs.replace(said, decode_ms=said.decode_ms - driver.oracle_ms))
    return [min(timings, key=lambda timings: timings.decode_ms) for timings in found]


def measured(
    driver: Steered | Priced, backend: InProcessBackend, edits: Iterable[Edit], n_edits: int
) -> list[dict[str, Any]]:
    """So many edits in each of `WAYS`: tokens, passes and ms. Long files and replies are left out."""
    rows: list[dict[str, Any]] = []
    for edit in edits:
        if len(rows) == n_edits:
            break
        if len(edit.context.edited.text) > MAX_FILE_CHARS or len(driver.want(edit.reply)) > MAX_TOKENS:
            continue
        ways = measure(driver, backend, edit)
        if ways is None:
            continue
        row: dict[str, Any] = {"tokens": ways[0].n_decoded}
        for way, timings in zip(WAYS, ways, strict=True):
            row |= {f"{way} passes": timings.n_forward, f"{way} ms": timings.decode_ms}
        rows.append(row)
        print(f"{len(rows)}: {row}", file=sys.stderr)
    return rows


def summarised(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """How many times as fast as plain the other ways are."""
    n_tokens, plain_ms = (sum(row[key] for row in rows) for key in ("tokens", "plain ms"))
    summary: dict[str, Any] = {
        "edits": len(rows),
        "tokens": n_tokens,
        "plain tokens a second": 1e3 * n_tokens / plain_ms,
    }
    for way in WAYS[1:]:
        # All of a reply may come with the prompt's last pass, which takes no time of decoding.
        times = [row["plain ms"] / max(row[f"{way} ms"], 1e-3) for row in rows]
        summary |= {
            f"{way}, the edit in the middle": statistics.median(times),
            f"{way}, over all time": plain_ms / sum(row[f"{way} ms"] for row in rows),
            f"{way}, the worst": min(times),
            f"{way}, edits below 0.98": sum(time < 0.98 for time in times),
        }
    return summary


def table(result: dict[str, Any]) -> str:
    """How many times as fast as plain decoding, for people, as Markdown."""
    rows = [
        "| times as fast as plain decoding | the edit in the middle | all edits | the worst | below 0.98 |",
        "|---|---:|---:|---:|---:|",
    ]
    labels = {"forced": "what the grammar forces joins the next pass", "ours": "and drafts, where they pay"}
    for way, label in labels.items():
        keys = ("the edit in the middle", "over all time", "the worst")
        cells = " | ".join(f"{result[f'{way}, {key}']:.2f}" for key in keys)
        rows.append(f"| {label} | {cells} | {result[f'{way}, edits below 0.98']} of {result['edits']} |")
    return "\n".join(rows)


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description="Time real edits with and without drafts.")
    parser.add_argument("repositories", nargs="*", type=Path)
    parser.add_argument("--held-out", action="store_true", help="tasks of the demo model too, see oracle.py")
    parser.add_argument(
        "--model", type=Path, required=True, metavar="GGUF", help="or a vocabulary, with costs"
    )
    parser.add_argument(
        "--costs", metavar="N:COST,…", help="of passes of so many tokens, instead of computing"
    )
    parser.add_argument("--edits", type=int, default=20, help="of each repository")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--no-repack", action="store_true", help="see `repack` in docs/settings.md")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    driver: Steered | Priced
    if asked.costs:
        pairs = (pair.split(":") for pair in asked.costs.split(","))
        driver = Priced(Tokenizer(asked.model), {int(n): float(cost) for n, cost in pairs})
        for module in CLOCKED:
            module.time = driver  # type: ignore[assignment]
    else:
        repack = not asked.no_repack
        target = Target(model=str(asked.model), n_ctx=8192, n_threads=asked.threads, repack=repack)
        driver = Steered(Tokenizer(asked.model), LlamaCppDriver(target, lambda _: True))
    backend = InProcessBackend(driver)
    sources = [edits(Git(path), asked.seed) for path in asked.repositories]
    if asked.held_out:
        sources.append(held_out_edits())
    rows = [row for source in sources for row in measured(driver, backend, source, asked.edits)]
    summary = summarised(rows)
    found = machine()
    if asked.json:
        model = {"name": driver.info.name, "n_params": driver.info.n_params, "device": driver.info.device}
        result = {"command": command(sys.argv), "machine": found, "model": model, **summary, "rows": rows}
        print(json.dumps(result, indent=2))
        return
    print(describe(found))
    print(f"{summary['edits']} edits of {summary['tokens']:,} tokens")
    print(table(summary))


if __name__ == "__main__":
    main()
