"""Search and replace against rewriting the selection: what comes out right, and in how many tokens.

    python models/formats.py --folder training

Two copies of the trained weights go on for as many examples, one with each format, so that both have learned
theirs. They are asked for held-out cases whose changes lie in what is selected; a reply counts when all of it
is what the model itself would write, greedily and without a grammar. Search and replace is also what the
weights were trained on before, so the comparison leans to it.
"""

import argparse
import random
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tokenizer as bpe
import torch
from evaluate import held_out
from examples import Case, answer, prompt_texts, rewritten
from shape import Shape
from train import PLAN, SHARD, Example, Maker, Trainer, batched, vocabulary

_RATE = 0.2
"""Of the full learning rate, falling to nothing."""
_SIZES = (1, 3, 6, 12, 1000)
"""Rows of the table: selections of at most so many lines."""

Reply = Callable[[Case], str | None]


class Result(NamedTuple):
    """One case: whether the reply was right, and its tokens."""

    is_right: bool
    n_tokens: int


def in_selection(case: Case) -> str | None:
    """The blocks for a case whose changes lie in the selection."""
    return answer(case) if rewritten(case) is not None else None


def trained(folder: Path, maker: Maker, n_examples: int) -> Trainer:
    """The trained weights, gone on from with a maker's examples."""
    saved = torch.load(folder / "checkpoint.pt", weights_only=True)
    trainer = Trainer(Shape(**saved["shape"]), "cpu")
    trainer.load(folder / "checkpoint.pt")
    source, stage = random.Random("formats"), replace(PLAN[-1], bare=0.0)
    examples: list[Example] = []
    while len(examples) < n_examples:
        example = maker.example(stage, source)
        if (example.weights == 1).any() and len(example.tokens) <= 1024:
            examples.append(example)
    batches = list(batched(examples, "formats"))
    for i, batch in enumerate(batches):
        loss = trainer.step(batch, _RATE * (1 - i / len(batches)))
        if i % 20 == 0:
            print(f"{maker.reply.__name__}: step {i} of {len(batches)}, loss {loss:.3f}", flush=True)
    return trainer


@torch.no_grad()
def result(trainer: Trainer, maker: Maker, case: Case) -> Result:
    """Whether the weights would write the right reply to a case. All of its tokens are tried in one pass."""
    text = maker.reply(case)
    assert text is not None
    prompt = maker.encode(prompt_texts(case))
    reply = maker.encode([(text + bpe.END_OF_TURN, True)])
    tokens = torch.tensor([[*prompt, *reply]])
    positions = torch.arange(tokens.shape[1])[None]
    states = trainer.master(tokens, positions, torch.zeros_like(tokens))[0, len(prompt) - 1 : -1]
    chosen = trainer.master.logits(states).argmax(-1)
    return Result(bool((chosen == tokens[0, len(prompt) :]).all()), len(reply))


def main() -> None:
    """Print the table of the model card."""
    parser = argparse.ArgumentParser(description="Compare the edit formats.")
    parser.add_argument("--folder", type=Path, required=True, help="of the training")
    parser.add_argument("--examples", type=int, default=SHARD, help="to go on with, for each format")
    parser.add_argument("--cases", type=int, default=20, help="of each kind")
    asked = parser.parse_args()
    torch.manual_seed(0)
    torch._dynamo.config.recompile_limit = 32
    cases = [case for case in held_out(asked.cases) if rewritten(case) is not None]
    replies: tuple[Reply, ...] = (in_selection, rewritten)
    found: dict[Reply, list[Result]] = {}
    for reply in replies:
        maker = Maker(vocabulary(asked.folder, 0), 0, reply)
        trainer = trained(asked.folder, maker, asked.examples)
        found[reply] = [result(trainer, maker, case) for case in cases]
    print("| lines selected | cases | search and replace | tokens | rewriting | tokens |")
    print("|---|---|---|---|---|---|")
    rows: dict[str, list[int]] = defaultdict(list)
    for i, case in enumerate(cases):
        n_lines = case.end_line - case.first_line
        most = next(n for n in _SIZES if n_lines <= n)
        rows[f"at most {most}" if most != _SIZES[-1] else "more"].append(i)
    names = [*(f"at most {n}" for n in _SIZES[:-1]), "more"]
    for name, chosen in [*((name, rows[name]) for name in names), ("**all**", [*range(len(cases))])]:
        parts = [name, str(len(chosen))]
        for reply in replies:
            results = [found[reply][i] for i in chosen]
            parts += [
                f"{100 * np.mean([one.is_right for one in results]):.0f}%",
                f"{np.mean([one.n_tokens for one in results]):.0f}",
            ]
        print(f"| {' | '.join(parts)} |")


if __name__ == "__main__":
    main()
