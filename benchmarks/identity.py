"""Whether drafts change what a model says: greedy replies with and without them, on a real model.

    python benchmarks/identity.py [N] [--model GGUF] [--json]

Each generation has a piece of one of this repository's files as its document, and lines of it selected. Half
of the replies are held to the edit grammar, half are free. Each is made twice on the same model: token by
token, and with as much drafted as a pass takes, whether or not that pays. Passes of another size add numbers
in another order, so the same logits differ a little. For each pair of replies that differ, `margin` is by how
much the model preferred, in the reply without drafts, what it said to what the other said at the first
difference; a margin within the largest difference that was seen between logits after the same tokens (twice,
since both of the two may move) is a near-tie, and anything else is an error.

Without `--model` a small model of random weights is written.
"""

import argparse
import json
import random
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from generations import BOUNDS, write_model
from machine import command, describe, machine
from numpy.typing import NDArray
from singlepass.core.context import SourceFile, build_context
from singlepass.core.grammar import edit_grammar, marker_size
from singlepass.core.prompt import Task, expect_reply, render_prompt
from singlepass_backends.base import Draft, Finished, GenerateRequest, Target, TextChunk
from singlepass_backends.drivers.llama.driver import LlamaCppDriver
from singlepass_backends.generation.loop import InProcessBackend
from unlimited import Unlimited

ROOT = Path(__file__).parents[1]
N_LINES = 40
"""Of a document."""
N_TOKENS = 160
"""Of a reply, at most."""
N_CTX = 8192


class Recorder:
    """A driver, with what stands in its sequence 0 and the logits after it, by position."""

    def __init__(self, driver: LlamaCppDriver) -> None:
        self._driver = driver
        self.tokens: dict[int, int] = {}
        self.logits: dict[int, NDArray[np.float32]] = {}
        """After the token at this position, where they were asked for."""
        self.n_trees = 0
        """Passes over a tree of tokens."""
        self._tree: tuple[Sequence[int], NDArray[np.float32]]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._driver, name)

    def forward(self, tokens: Sequence[int], position: int, *, n_logits: int) -> NDArray[np.float32] | None:
        """See `Driver`."""
        values = self._driver.forward(tokens, position, n_logits=n_logits)
        self.tokens.update(enumerate(tokens, position))
        if values is not None:
            self.logits.update(enumerate(values.copy(), position + len(tokens) - n_logits))
        return values

    def branch(self, tokens: Sequence[int], position: int, parents: Sequence[int]) -> NDArray[np.float32]:
        """See `Driver`."""
        values = self._driver.branch(tokens, position, parents)
        n = len(tokens) - len(parents)
        self.tokens.update(enumerate(tokens[:n], position))
        self.logits[position + n - 1] = values[0].copy()
        self._tree = tokens[n:], values[1:].copy()
        self.n_trees += 1
        return values

    def keep(self, position: int, nodes: Sequence[int]) -> None:
        """See `Driver`."""
        self._driver.keep(position, nodes)
        tokens, values = self._tree
        for at, node in enumerate(nodes, position):
            self.tokens[at], self.logits[at] = tokens[node], values[node]

    def trim(self, n_keep: int, sequence: int = 0) -> bool:
        """See `Driver`."""
        if sequence == 0:
            self.tokens = {at: token for at, token in self.tokens.items() if at < n_keep}
            self.logits = {at: row for at, row in self.logits.items() if at < n_keep}
        return self._driver.trim(n_keep, sequence)


class Reply(msgspec.Struct, frozen=True):
    """What was said, and the logits behind it."""

    text: str
    n_prompt: int
    n_accepted: int
    n_drafted: int
    tokens: dict[int, int]
    logits: dict[int, Any]


class Counts(msgspec.Struct):
    """What became of the generations."""

    generations: int = 0
    identical: int = 0
    near_ties: int = 0
    other: int = 0
    """Replies that differ by more than noise: there must be none."""
    tokens: int = 0
    drafted: int = 0
    accepted: int = 0
    noise: float = 0.0
    """The largest difference between logits after the same tokens, up to the first difference."""
    margins: list[float] = msgspec.field(default_factory=list[float])
    """Of the replies that differ."""


def requests(n: int) -> list[GenerateRequest]:
    """The generations; the draft is in each."""
    chance = random.Random(0)
    paths = sorted((ROOT / "server" / "singlepass").rglob("*.py"))
    found: list[GenerateRequest] = []
    for number in range(n):
        path = chance.choice(paths)
        lines = path.read_text(encoding="utf-8").splitlines()
        start = chance.randrange(max(1, len(lines) - N_LINES))
        text = "".join(f"{line}\n" for line in lines[start : start + N_LINES])
        name = path.relative_to(ROOT).as_posix()
        context = build_context(SourceFile(name, text), [])
        first = chance.randrange(max(1, text.count("\n") - 10))
        task, size = Task(f"Number {number}.", name, first, first + 8), marker_size([name, text])
        grammar = edit_grammar(context.editable, size, BOUNDS) if number % 2 else None
        draft = expect_reply(context, task, size)
        segments = render_prompt(context, task, size)
        found.append(GenerateRequest(segments, grammar, max_tokens=N_TOKENS, draft=draft))
    return found


def reply(backend: InProcessBackend, driver: Recorder, asked: GenerateRequest, draft: Draft | None) -> Reply:
    """One reply."""
    said: list[str] = []
    for event in backend.generate(msgspec.structs.replace(asked, draft=draft), lambda: False):
        if isinstance(event, TextChunk):
            said.append(event.text)
        elif isinstance(event, Finished):
            counts = event.timings
            start = counts.n_prompt
            tokens = {at - start: token for at, token in driver.tokens.items() if at >= start}
            logits = {at - start: row for at, row in driver.logits.items() if at >= start - 1}
            return Reply("".join(said), start, counts.n_accepted, counts.n_drafted, tokens, logits)
    raise AssertionError("a generation always finishes")


def compare(plain: Reply, drafted: Reply, counts: Counts) -> float | None:
    """Count one pair. Returns the margin where the two differ."""
    is_same = plain.text == drafted.text
    both = sorted(plain.tokens.keys() & drafted.tokens.keys())
    at = next((at for at in both if plain.tokens[at] != drafted.tokens[at]), len(both))
    for before in range(-1, at):
        if before in plain.logits and before in drafted.logits:
            difference = np.abs(plain.logits[before] - drafted.logits[before]).max()
            counts.noise = max(counts.noise, float(difference))
    counts.generations += 1
    counts.tokens += len(plain.tokens)
    counts.drafted += drafted.n_drafted
    counts.accepted += drafted.n_accepted
    if is_same:
        counts.identical += 1
        return None
    row = plain.logits[at - 1]
    if at < len(both):
        return abs(float(row[plain.tokens[at]] - row[drafted.tokens[at]]))
    # One of the two ends here, and that token is in no cache: it is one of the two best.
    second, best = np.partition(row, -2)[-2:]
    return float(best - second)


def count(backend: InProcessBackend, driver: Recorder, n: int) -> Counts:
    """All generations."""
    counts = Counts()
    for asked in requests(n):
        plain = reply(backend, driver, asked, None)
        drafted = reply(backend, driver, asked, asked.draft)
        margin = compare(plain, drafted, counts)
        if margin is not None:
            counts.margins.append(margin)
        if counts.generations % 10 == 0:
            print(f"\r{counts.generations}", end="", file=sys.stderr)
    counts.margins.sort()
    counts.near_ties = sum(margin <= 2 * counts.noise for margin in counts.margins)
    counts.other = len(counts.margins) - counts.near_ties
    return counts


def table(found: dict[str, Any]) -> str:
    """The counts for people, as Markdown."""
    model = found["model"]
    rows = {
        "model": f"{model['name']}, {model['n_params'] / 1e6:,.1f} M weights, on {model['device']}",
        "generations": f"{found['generations']:,}, of which half under the edit grammar",
        "tokens": f"{found['tokens']:,}",
        "drafted, and of these accepted": f"{found['drafted']:,}, {found['accepted']:,}",
        "identical replies": f"{found['identical']:,}",
        "different at a near-tie": f"{found['near_ties']:,}",
        "different elsewhere": f"{found['other']:,}",
        "largest difference between logits after the same tokens": f"{found['noise']:.3g}",
        "margins where replies part": ", ".join(f"{margin:.3g}" for margin in found["margins"]) or "none",
    }
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items())])


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description="Compare greedy replies with and without drafts.")
    parser.add_argument("n", nargs="?", type=int, default=1000, help="generations")
    parser.add_argument("--model", type=Path, metavar="GGUF")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    with ExitStack() as stack:
        path: Path | None = asked.model
        if path is None:
            path = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sp-bench-"))) / "random.gguf"
            write_model(path)
        target = Target(model=str(path), n_ctx=N_CTX, n_threads=asked.threads)
        driver = Recorder(LlamaCppDriver(target, lambda _: True))
        backend = InProcessBackend(driver, pace=Unlimited())
        counts = count(backend, driver, asked.n)
        info = backend.info
        backend.close()
    found = {
        "command": command(sys.argv),
        "machine": machine(),
        "model": {"name": info.name, "n_params": info.n_params, "device": info.device},
        **msgspec.to_builtins(counts),
    }
    if asked.json:
        print(json.dumps(found, indent=2))
    else:
        print("\n".join([describe(found["machine"]), f"`{found['command']}`", "", table(found)]))
    if counts.other:
        sys.exit(f"{counts.other} replies differ by more than noise")


if __name__ == "__main__":
    main()
