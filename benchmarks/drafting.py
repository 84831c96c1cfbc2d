"""What drafts save on a real model: the decode time of real edits with and without them, in one run.

    python benchmarks/drafting.py REPOSITORY… --model GGUF [--edits 20] [--json]

The weights may be random: each pass is computed in full, and then the logits are replaced, so that the reply
is the one the commit made (see `oracle.py`) and as much is accepted as a model that wants it would accept.
Each edit is decoded twice in each way, in turn, and the faster time counts; the prompt is read once. A ratio
below 1 is a gain.
"""

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from counting import Tokenizer
from editing import Git
from machine import command, describe, machine
from numpy.typing import NDArray
from oracle import MAX_TOKENS, Edit, Oracle, edits, run
from singlepass.core.grammar import edit_grammar
from singlepass.core.prompt import expect_reply, render_prompt
from singlepass_backends.base import PrewarmRequest, Target, Timings
from singlepass_backends.drivers.llama_cpp import LlamaCppDriver
from singlepass_backends.generation.loop import InProcessBackend

MAX_FILE_CHARS = 6000
N_REPEATS = 2


class Steered(Oracle):
    """A real driver that computes every pass, and wants what the oracle wants."""

    def __init__(self, tokenizer: Tokenizer, driver: LlamaCppDriver) -> None:
        super().__init__(tokenizer)
        self._driver = driver
        self.oracle_ms = 0.0
        """Spent on being an oracle, which is no part of a reply's time."""
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


def measure(driver: Steered, backend: InProcessBackend, edit: Edit) -> tuple[Timings, Timings] | None:
    """The faster of the replies without and with drafts; None for an edit outside of the grammar."""
    grammar = edit_grammar(edit.context.editable, edit.size)
    draft = expect_reply(edit.context, edit.task, edit.size, edit.beside)
    segments = render_prompt(edit.context, edit.task, edit.size)
    list(backend.prewarm(PrewarmRequest(segments[:-1], sources=edit.beside), lambda: False))
    found: tuple[list[Timings], list[Timings]] = ([], [])
    for _ in range(N_REPEATS):
        for one, timings in zip((None, draft), found, strict=True):
            driver.want(edit.reply)
            driver.oracle_ms = 0.0
            said = run(backend, edit, grammar=grammar, draft=one)
            if said is None:
                return None
            timings.append(msgspec.structs.replace(said, decode_ms=said.decode_ms - driver.oracle_ms))
    plain, ours = (min(timings, key=lambda timings: timings.decode_ms) for timings in found)
    return plain, ours


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description="Time real edits with and without drafts.")
    parser.add_argument("repositories", nargs="+", type=Path)
    parser.add_argument("--model", type=Path, required=True, metavar="GGUF")
    parser.add_argument("--edits", type=int, default=20, help="of each repository")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--no-repack", action="store_true", help="see `repack` in the README")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    repack = not asked.no_repack
    target = Target(model=str(asked.model), n_ctx=8192, n_threads=asked.threads, repack=repack)
    real = LlamaCppDriver(target, lambda _: True)
    driver = Steered(Tokenizer(asked.model), real)
    backend = InProcessBackend(driver)
    rows: list[dict[str, Any]] = []
    for path in asked.repositories:
        n_left = asked.edits
        for edit in edits(Git(path), asked.seed):
            if n_left == 0:
                break
            if len(edit.context.target.text) > MAX_FILE_CHARS or len(driver.want(edit.reply)) > MAX_TOKENS:
                continue
            measured = measure(driver, backend, edit)
            if measured is None:
                continue
            n_left -= 1
            plain, ours = measured
            rows.append(
                {
                    "tokens": ours.n_decoded,
                    "passes plain": plain.n_forward,
                    "passes": ours.n_forward,
                    "plain ms": plain.decode_ms,
                    "ours ms": ours.decode_ms,
                    "ratio": ours.decode_ms / plain.decode_ms,
                }
            )
            print(f"{len(rows)}: {rows[-1]}", file=sys.stderr)
    ratios = [row["ratio"] for row in rows]
    summary = {
        "edits": len(rows),
        "tokens": sum(row["tokens"] for row in rows),
        "ratio, the edit in the middle": statistics.median(ratios),
        "ratio, over all time": sum(row["ours ms"] for row in rows) / sum(row["plain ms"] for row in rows),
        "ratio, the worst": max(ratios),
        "edits slower than 1.02": sum(ratio > 1.02 for ratio in ratios),
        "plain tokens a second": 1e3
        * sum(row["tokens"] for row in rows)
        / sum(row["plain ms"] for row in rows),
    }
    found = machine()
    if asked.json:
        model = {"name": real.info.name, "n_params": real.info.n_params, "device": real.info.device}
        result = {"command": command(sys.argv), "machine": found, "model": model, **summary, "rows": rows}
        print(json.dumps(result, indent=2))
        return
    print(describe(found))
    for name, value in summary.items():
        print(f"{name}: {value:.3f}" if isinstance(value, float) else f"{name}: {value:,}")


if __name__ == "__main__":
    main()
