"""Train the edit model from scratch, on a CPU or a GPU, in pieces: a run resumes where the last one stopped.

    python models/train.py --folder FOLDER
    python models/train.py --folder FOLDER --begin-with edit.gguf --shards 0,0,0,8,4

The second goes on from exported weights, with so many shards of each stage.

The plan is a list of stages, short examples first: copying has to be learned before anything else, and on a
short example a step costs little. The learning rate falls over the last stages. Examples are made while it
trains, a shard at a time, each from a seed of its own; checkpoints fall between shards, so a run that was
stopped and resumed sees what one that was not would have seen.

Only the edit counts in full. A part of the prompt counts a little, so that the model learns the language.

On a CPU a process for each core takes a part of every batch.
"""

import argparse
import json
import multiprocessing
import os
import random
import re
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from keyword import iskeyword
from pathlib import Path
from typing import Any

import numpy as np
import tokenizer as bpe
import torch
import torch.distributed as distributed
from corpus import Corpus, read_corpus
from examples import Case, Size, answer, make_case, make_cases, prompt_texts
from export import Weights, read_gguf
from kinds import new_name
from network import Network
from numpy.typing import NDArray
from shape import Shape
from singlepass_backends.generation.template import CHATML
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Stage:
    """So many shards of examples of one size."""

    n_shards: int
    size: Size
    with_system: float
    """Share of examples with the system text, which is as long as a short example."""
    bare: float = 0.0
    """Share of examples without files, where only what a block puts in counts: see `_REPLACED`."""
    n_tasks: int = 1
    """Most tasks about the same files in one example. Each sees the files and not the other tasks."""
    decays: bool = False
    """Whether the learning rate falls during this stage."""


PLAN = (
    Stage(9, Size(longest=200, distractors=0, headers=False, maps=0.0), 0.0, bare=1.0),
    Stage(9, Size(longest=280, distractors=0, headers=False, maps=0.0), 0.0, bare=0.6),
    Stage(11, Size(longest=280, distractors=1, maps=0.0), 0.0, bare=0.5, n_tasks=2, decays=True),
    Stage(7, Size(longest=400, distractors=2, maps=0.2), 0.1, bare=0.3, n_tasks=4, decays=True),
    Stage(3, Size(longest=400, distractors=3, maps=0.3), 1.0, bare=0.2, n_tasks=4, decays=True),
)
SHARD = 2048
"""Examples in a shard."""
_LENGTHS = (64, 96, 128, 192, 256, 320, 448, 640, 832, 1024, 1280)
"""Examples are padded to one of these, so that a compiled network meets few shapes."""
_BATCH_TOKENS = 6144
_PROMPT_SHARE, _PROMPT_WEIGHT = 0.25, 0.1
_FAR_SHARE, _FAR = 0.3, 3000
"""Some tasks are put so many positions away from the files, as if those were long."""
_MATRIX_RATE, _OTHER_RATE = 0.014, 0.002
_LINES = "rename in lines"
_REPLACED = (
    *[_LINES] * 6,
    "rename a variable", "rename a parameter", "rename a function", "rename across files",
    "rename a variable", "rename a parameter", "change a constant", "change a default",
    "to an f-string", "annotate a parameter", "add a parameter", "invert a condition", "wrap in try",
)  # fmt: skip
"""Kinds of which a bare example is made: from the task and a block's SEARCH follows its REPLACE.

To write a new name where an old one stood, and to go on behind it, is what takes longest to learn. Without
the files an example is less than half as long, and nearly all of it is that. `_LINES` is that alone: a word
is exchanged in a few lines that need not be a statement.
"""
_WITH_SELECTION = 0.6
_SHUFFLED = 0.5
"""Share of examples whose words are exchanged for others, everywhere alike.

A text that says nothing can only be copied from where it stands. Without these a small network takes the
likely word for the one in the file.
"""
_MEANING = ("f-string", "misspelled", "simplify", "docstrings", "type annotations", "error handling")
"""Parts of the names of kinds whose answer follows from what words mean."""
_WORD_CASES = 4000
_N_VOCAB = 2048
_TOKENIZER_CASES = 6000
_HAS_BFLOAT16 = torch.cuda.is_available() or torch.backends.cpu.get_cpu_capability() == "AVX512"
_PRECISION = torch.bfloat16 if _HAS_BFLOAT16 else torch.float32
_MEETING = "meeting"
"""The file by which processes that train together find each other."""
_MEMORY = {
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(20 << 30),
    "MALLOC_TOP_PAD_": str(256 << 20),
}
"""For glibc: memory is kept. Given back and asked for anew in each step, it takes a third of the time."""
_PADDING = 255
"""The branch of what fills an example up."""


@dataclass(frozen=True)
class Example:
    """Tokens, their positions and branches, and how much it counts to predict the token after each.

    Branch 0 is what all tasks of the example share, each of which is a branch of its own.
    """

    tokens: NDArray[np.uint16]
    positions: NDArray[np.int16]
    branches: NDArray[np.uint8]
    weights: NDArray[np.float32]


# Data.


def vocabulary(folder: Path, seed: int) -> bpe.Vocabulary:
    """The tokenizer's vocabulary, trained on first use."""
    path = folder / "vocabulary.json"
    if not path.exists():
        corpus = read_corpus("train")
        source = random.Random(seed)
        texts = ["\n".join(function.lines) + "\n" for function in corpus.functions]
        for _ in range(_TOKENIZER_CASES):
            case = make_case(corpus, source, Size(longest=600, distractors=4))
            texts += [case.segments()[-1].text, answer(case)]
        texts += ["".join(text for text, _ in prompt_texts(case))] * 1000
        _write_vocabulary(path, bpe.train(texts, _N_VOCAB))
    return bpe.read_vocabulary(path)


def _write_vocabulary(path: Path, words: bpe.Vocabulary) -> None:
    path.write_text(json.dumps(asdict(words)), encoding="utf-8")


def _make_shards(folder: str, seed: int, plan: tuple[Stage, ...], first: int, queue: Any) -> None:
    """Put shard after shard into the queue, from number `first` on, and None at the end."""
    torch.set_num_threads(1)
    maker = Maker(vocabulary(Path(folder), seed), seed)
    stages = [stage for stage in plan for _ in range(stage.n_shards)]
    for number in range(first, len(stages)):
        source = random.Random(f"{seed} {number}")
        shard: list[Example] = []
        while len(shard) < SHARD:
            example = maker.example(stages[number], source)
            if len(example.tokens) <= _LENGTHS[-1]:
                shard.append(example)
        queue.put(shard)
    queue.put(None)


class Maker:
    """Makes examples out of the corpus.

    `reply` is the format that is trained: the right reply to a case, None where there is none.
    """

    def __init__(
        self, words: bpe.Vocabulary, seed: int, reply: Callable[[Case], str | None] = answer
    ) -> None:
        self.reply = reply
        self.corpus = read_corpus("train")
        self.n_plain = len(words.tokens)
        self.tokenizer = bpe.load(words)
        self.separator, self.close = (
            self.encode([(marker, True)])[0] for marker in ("=======\n", ">>>>>>> REPLACE\n")
        )
        self.groups = _exchangeable(words, self.words_of_tasks(random.Random(seed)))

    def encode(self, pieces: list[tuple[str, bool]]) -> list[int]:
        """The tokens of pieces of a prompt."""
        return bpe.encode(self.tokenizer, pieces, self.n_plain)

    def example(self, stage: Stage, source: random.Random) -> Example:
        """One example for a stage; it may be too long."""
        is_shuffled = source.random() < _SHUFFLED
        if source.random() < stage.bare:
            return self.bare(source.choice(_REPLACED), stage.size, source, is_shuffled)
        cases = make_cases(self.corpus, source, stage.size, stage.n_tasks)
        with_meaning = [case for case in cases if any(part in case.kind for part in _MEANING)]
        if is_shuffled:
            cases = [case for case in cases if case not in with_meaning] or cases
            is_shuffled = not any(case in with_meaning for case in cases)
        other = _exchange(self.groups, source) if is_shuffled else range(_N_VOCAB)
        has_system = source.random() < stage.with_system
        n_head = 3 if has_system else 2
        pieces = prompt_texts(cases[0], system=has_system)
        shared = [*self.encode(pieces[:n_head]), *(other[t] for t in self.encode(pieces[n_head:-2]))]
        tasks: list[tuple[list[int], list[int], NDArray[np.bool_]]] = []
        for case in cases:
            if (text := self.reply(case)) is None:
                continue
            task = self.encode(prompt_texts(case, system=has_system)[-2:])
            reply = self.encode([(text + bpe.END_OF_TURN, True)])
            tasks.append(([other[t] for t in task], [other[t] for t in reply], np.ones(len(reply), np.bool_)))
        while len(tasks) > 1 and len(shared) + sum(len(t) + len(r) for t, r, _ in tasks) > _LENGTHS[-1]:
            tasks.pop()
        return _joined(shared, tasks, source)

    def bare(self, kind: str, size: Size, source: random.Random, is_shuffled: bool) -> Example:
        """An example without files: what a block puts in follows from the task and what the block quotes.

        Often the selection stands in the task; then the quote counts too, because it is copied from there.
        """
        if kind == _LINES:
            case = _rename_in_lines(self.corpus, source)
        else:
            case = make_case(self.corpus, source, size, kind)
        text, reply_text = case.segments()[-1].text, answer(case)
        is_shuffled = is_shuffled and not any(part in kind for part in _MEANING)
        other = _exchange(self.groups, source) if is_shuffled else range(_N_VOCAB)
        reply = self.encode([(reply_text + bpe.END_OF_TURN, True)])
        counts = _replacing(reply, self.separator, self.close)
        if source.random() < _WITH_SELECTION and _quotes(reply_text) <= set(text.splitlines()):
            counts[:] = True
        else:
            text = text[text.rindex("Task:") :]
        task = self.encode([(text, False), (CHATML.after, True)])
        return _joined([], [([other[t] for t in task], [other[t] for t in reply], counts)], source)

    def words_of_tasks(self, source: random.Random) -> set[int]:
        """Tokens with which tasks say what to do: those that stand in some tasks and not in their files."""
        seen: Counter[int] = Counter()
        for _ in range(_WORD_CASES):
            case = make_case(self.corpus, source, Size(longest=280, distractors=0, maps=0.0))
            pieces = prompt_texts(case, system=False)
            seen.update({*self.encode(pieces[-2:])}.difference(self.encode(pieces[2:-2])))
        return {token for token, n in seen.items() if n > 5}


def _rename_in_lines(corpus: Corpus, source: random.Random) -> Case:
    """A case whose file is one to six lines of a function, all selected: a word is exchanged in them."""
    while True:
        lines = source.choice(corpus.functions).lines
        first = source.randrange(len(lines))
        part = [line for line in lines[first : first + source.choice((1, 1, 2, 3, 4, 6))] if line.strip()]
        words = Counter(w for line in part for w in re.findall(r"\b[A-Za-z_]\w+", line) if not iskeyword(w))
        if not words or sum(map(len, part)) > 240:
            continue
        # Mostly one that stands there more than once.
        often = [word for word, n in words.items() if n > 1]
        old = source.choice(often if often and source.random() < 0.8 else list(words))
        new = new_name(source, corpus.names, part, old)
        phrasings = ("Rename {} to {}", "Rename the variable {} to {}", "Rename the parameter {} to {}",
                     "Replace {} by {}", "{} should be called {}")  # fmt: skip
        mark = source.choice(("`{}`", "`{}`", "{}", "'{}'"))
        task = source.choice(phrasings).format(mark.format(old), mark.format(new))
        renamed = [re.sub(rf"\b{old}\b", new, line) for line in part]
        before, after = ("".join(f"{line}\n" for line in text) for text in (part, renamed))
        path = f"{source.choice(corpus.names).lower().strip('_')}.py"
        end = source.choice(("", "."))
        return Case(_LINES, {path: before}, {path: after}, 0, len(part), task + end, quotes_selection=True)


def _quotes(reply: str) -> set[str]:
    """The lines that a reply's blocks quote."""
    blocks = re.findall(r"<<<<<<< SEARCH\n(.*?)=======\n", reply, re.DOTALL)
    return {line for block in blocks for line in block.splitlines()}


def _joined(
    shared: list[int], tasks: list[tuple[list[int], list[int], NDArray[np.bool_]]], source: random.Random
) -> Example:
    """An example of what is shared, and of tasks with their replies and which tokens of these count."""
    noise = np.random.default_rng(source.getrandbits(64))

    def prompt_weights(n: int) -> NDArray[np.float32]:
        return np.where(noise.random(n) < _PROMPT_SHARE, _PROMPT_WEIGHT, 0).astype(np.float32)

    tokens, positions = [*shared], [*range(len(shared))]
    branches, weights = [0] * len(shared), [prompt_weights(len(shared))]
    for i, (task, reply, counts) in enumerate(tasks):
        start = len(shared) + (source.randrange(_FAR) if source.random() < _FAR_SHARE else 0)
        n = len(task) + len(reply)
        tokens += [*task, *reply]
        positions += range(start, start + n)
        branches += [i + 1] * n
        # The token after the last one is another task's.
        weights += [prompt_weights(len(task) - 1), counts.astype(np.float32), np.zeros(1, np.float32)]
    if shared:
        weights[0][-1] = 0
    return Example(
        np.array(tokens, np.uint16),
        np.array(positions, np.int16),
        np.array(branches, np.uint8),
        np.concatenate(weights),
    )


def _exchangeable(words: bpe.Vocabulary, kept: set[int]) -> list[list[int]]:
    """Groups of tokens of which one may stand for another. Not words that also come with their blank."""
    groups: dict[str, list[int]] = defaultdict(list)
    for number, token in enumerate(words.tokens):
        if re.fullmatch("[A-Za-z]+|[0-9]", token) and number not in kept and "Ġ" + token not in words.tokens:
            groups["digit" if token.isdigit() else "small" if token.islower() else "large"].append(number)
    return list(groups.values())


def _exchange(groups: list[list[int]], source: random.Random) -> list[int]:
    """For each token the one that stands for it."""
    other = list(range(_N_VOCAB))
    for group in groups:
        for token, new in zip(group, source.sample(group, len(group)), strict=True):
            other[token] = new
    return other


def _replacing(reply: list[int], separator: int, close: int) -> NDArray[np.bool_]:
    """Which tokens are inside a REPLACE, its end included."""
    counts, inside = np.zeros(len(reply), np.bool_), False
    for i, token in enumerate(reply):
        counts[i] = inside
        inside = token == separator or (inside and token != close)
    return counts


@dataclass(frozen=True)
class Batch:
    """Tensors [batch, length]; `weights` is for predicting the token at the same place plus one."""

    tokens: Tensor
    positions: Tensor
    branches: Tensor
    weights: Tensor
    n_tokens: int
    """Of the whole batch, of which this may be one process's part."""

    def part(self, rank: int, n: int) -> "Batch":
        """Every n-th row."""
        tensors = (self.tokens, self.positions, self.branches, self.weights)
        return Batch(*(tensor[rank::n].contiguous() for tensor in tensors), n_tokens=self.n_tokens)


def batched(shard: list[Example], seed: str, n_parts: int = 1) -> Iterator[Batch]:
    """The examples in batches whose rows can be dealt out to so many processes."""
    source = random.Random(seed)
    by_length: dict[int, list[Example]] = {length: [] for length in _LENGTHS}
    for example in shard:
        by_length[next(n for n in _LENGTHS if n >= len(example.tokens))].append(example)
    batches: list[tuple[int, list[Example]]] = []
    for length, examples in by_length.items():
        source.shuffle(examples)
        n_batch = _BATCH_TOKENS // length // n_parts * n_parts
        for start in range(0, len(examples), n_batch):
            part = examples[start : start + n_batch]
            # The last one is filled with others of its length, so that all batches have one shape.
            part += source.choices(examples, k=n_batch - len(part))
            batches.append((length, part))
    source.shuffle(batches)
    for length, examples in batches:
        tokens = np.zeros((len(examples), length), np.int64)
        positions = np.zeros((len(examples), length), np.int64)
        branches = np.full((len(examples), length), _PADDING, np.int64)
        weights = np.zeros((len(examples), length), np.float32)
        for row, example in enumerate(examples):
            n = len(example.tokens)
            tokens[row, :n], positions[row, :n] = example.tokens, example.positions
            branches[row, :n], weights[row, :n] = example.branches, example.weights
        arrays = (tokens, positions, branches, weights)
        yield Batch(*(torch.from_numpy(array) for array in arrays), n_tokens=tokens.size)


# Optimizer.


class Muon:
    """Momentum, made orthogonal, for matrices. Source: Keller Jordan, "Muon", 2024.

    A fused matrix is taken apart first: each of its parts is one. Parts of one shape are made orthogonal
    together, which takes half as long as one by one.
    """

    def __init__(self, parameters: list[tuple[Tensor, int]]) -> None:
        """Parameters, and of how many matrices each is fused, one above the other."""
        self.parameters = parameters
        self.momenta = [torch.zeros_like(parameter) for parameter, _ in parameters]

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """One step along `grad`."""
        groups: dict[tuple[int, ...], list[tuple[Tensor, Tensor]]] = defaultdict(list)
        for (parameter, n_parts), momentum in zip(self.parameters, self.momenta, strict=True):
            assert parameter.grad is not None
            momentum.lerp_(parameter.grad, 0.05)
            update = parameter.grad.lerp(momentum, 0.95)
            for part, new in zip(parameter.chunk(n_parts), update.chunk(n_parts), strict=True):
                groups[tuple(part.shape)].append((part, new))
        for (n_rows, n_columns), pairs in groups.items():
            news = torch.stack([new for _, new in pairs])
            if distributed.is_initialized():  # each process takes some of them
                mine = slice(distributed.get_rank(), None, distributed.get_world_size())
                made = torch.zeros_like(news)
                made[mine] = _orthogonal(news[mine])
                distributed.all_reduce(made)
                news = made
            else:
                news = _orthogonal(news)
            for (part, _), new in zip(pairs, news, strict=True):
                part.sub_(new, alpha=rate * max(1.0, n_rows / n_columns) ** 0.5)


def _orthogonal(matrices: Tensor) -> Tensor:
    """Nearly U Vᵀ of each matrix U S Vᵀ [n, rows, columns], by five Newton-Schulz steps."""
    is_tall = matrices.shape[1] > matrices.shape[2]
    x = (matrices.mT if is_tall else matrices).to(_PRECISION)
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(5):
        square = x @ x.mT
        square = torch.baddbmm(square, square, square, beta=-4.7750, alpha=2.0315)
        x = torch.baddbmm(x, square, x, beta=3.4445)
    return (x.mT if is_tall else x).float()


# Training.


class Trainer:
    """The weights in float32, their copy that computes, and the optimizers' state.

    The copy is in bfloat16 where the processor multiplies that; elsewhere it would take thirty times as long.
    """

    def __init__(self, shape: Shape, device: str) -> None:
        self.shape = shape
        self.master = Network(shape).to(device)
        self.network = Network(shape).to(device, _PRECISION)
        for layer in self.network.layers:
            layer.compile(dynamic=False)  # one by one: they share what is compiled, once for each length
        matrices: list[tuple[Tensor, int]] = []
        others: list[Tensor] = []
        for name, parameter in self.master.named_parameters():
            if parameter.ndim == 2 and "embedding" not in name:
                matrices.append((parameter, 3 if "qkv" in name else 2 if "gate_up" in name else 1))
            else:
                others.append(parameter)
        self.muon = Muon(matrices)
        self.adam = torch.optim.AdamW(others, lr=_OTHER_RATE, betas=(0.9, 0.95), weight_decay=0.0)
        self.n_shards = self.n_tokens = 0

    def step(self, batch: Batch, rate: float) -> float:
        """One step at `rate` times the full learning rate; the loss over the edits, in nats per token."""
        with torch.no_grad():
            for copy, parameter in zip(self.network.parameters(), self.master.parameters(), strict=True):
                copy.copy_(parameter)
                copy.grad = None
        weights = batch.weights.flatten()
        chosen = weights.nonzero().squeeze(1)
        targets = batch.tokens.roll(-1, dims=1).flatten()[chosen]
        states = self.network(batch.tokens, batch.positions, batch.branches)
        scores = self.network.logits(states.flatten(0, 1)[chosen]).float()
        losses = functional.cross_entropy(scores, targets, reduction="none")
        weights = weights[chosen]
        n_edit = (weights == 1).sum()
        ((losses * weights).sum() / n_edit).backward()
        for copy, parameter in zip(self.network.parameters(), self.master.parameters(), strict=True):
            assert copy.grad is not None
            parameter.grad = copy.grad.float()
        if distributed.is_initialized():
            gradients = [parameter.grad for parameter in self.master.parameters()]
            means = torch.cat([gradient.flatten() for gradient in gradients])
            distributed.all_reduce(means)
            means /= distributed.get_world_size()
            parts = means.split([gradient.numel() for gradient in gradients])
            for gradient, mean in zip(gradients, parts, strict=True):
                gradient.copy_(mean.view_as(gradient))
        torch.nn.utils.clip_grad_norm_(self.master.parameters(), 1.0)
        self.muon.step(rate * _MATRIX_RATE)
        for group in self.adam.param_groups:
            group["lr"] = rate * _OTHER_RATE
        self.adam.step()
        self.n_tokens += batch.n_tokens
        return float(losses[weights == 1].mean().detach())

    def save(self, path: Path) -> None:
        """Write a checkpoint, whole or not at all."""
        part = path.with_suffix(".part")
        torch.save(
            {
                "shape": self.shape.plain(),
                "weights": self.master.state_dict(),
                "momenta": self.muon.momenta,
                "adam": self.adam.state_dict(),
                "n_shards": self.n_shards,
                "n_tokens": self.n_tokens,
            },
            part,
        )
        part.replace(path)

    def load(self, path: Path) -> None:
        """Go on from a checkpoint."""
        saved = torch.load(path, weights_only=True)
        self.master.load_state_dict(saved["weights"])
        for momentum, values in zip(self.muon.momenta, saved["momenta"], strict=True):
            momentum.copy_(values)
        self.adam.load_state_dict(saved["adam"])
        self.n_shards, self.n_tokens = saved["n_shards"], saved["n_tokens"]


def learning_rate(plan: tuple[Stage, ...], shard: float) -> float:
    """The share of the full rate at a place in the plan, in shards: constant, then falling to a hundredth."""
    total = sum(stage.n_shards for stage in plan)
    n_falling = sum(stage.n_shards for stage in plan if stage.decays)
    warm = min(1.0, (shard + 0.05) / 0.5)
    return warm * max(0.01, min(1.0, (total - shard) / n_falling if n_falling else 1.0))


def main() -> None:
    """Train, or go on training, and keep `checkpoint.pt` in the folder."""
    parser = argparse.ArgumentParser(description="Train the edit model.")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--shards", type=str, default="", help="shards of each stage, instead of the plan's, as in 26,8,4,4"
    )
    parser.add_argument(
        "--begin-with", type=Path, help="a GGUF file of `export.py`, to go on from its weights"
    )
    parser.add_argument("--processes", type=int, default=os.cpu_count(), help="that train together on a CPU")
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    plan = PLAN
    if asked.shards:
        counts = [int(n) for n in asked.shards.split(",")]
        plan = tuple(replace(stage, n_shards=n) for n, stage in zip(counts, PLAN, strict=True))
    begun = read_gguf(asked.begin_with) if asked.begin_with else None
    if begun is not None and not (asked.folder / "vocabulary.json").exists():
        _write_vocabulary(asked.folder / "vocabulary.json", begun[2])
    vocabulary(asked.folder, asked.seed)
    work = Work(asked.folder, asked.seed, plan, begun, 1 if torch.cuda.is_available() else asked.processes)
    if work.n_processes > 1:
        (work.folder / _MEETING).unlink(missing_ok=True)
        os.environ.update(_MEMORY)
        torch.multiprocessing.spawn(train, (work,), work.n_processes)
    else:
        train(0, work)


@dataclass(frozen=True)
class Work:
    """What a process that trains has to know."""

    folder: Path
    seed: int
    plan: tuple[Stage, ...]
    begun: tuple[Shape, Weights, bpe.Vocabulary] | None
    n_processes: int


def train(rank: int, work: Work) -> None:
    """Train as one of the processes. The first makes the examples, keeps the checkpoint and tells."""
    if work.n_processes > 1:
        torch.set_num_threads(1)
        os.environ["GLOO_SOCKET_IFNAME"] = "lo"
        meeting = f"file://{(work.folder / _MEETING).resolve()}"
        distributed.init_process_group("gloo", meeting, rank=rank, world_size=work.n_processes)
    torch.manual_seed(work.seed)
    torch._dynamo.config.recompile_limit = 2 * len(_LENGTHS)
    shape = work.begun[0] if work.begun is not None else Shape(n_vocab=_N_VOCAB)
    trainer = Trainer(shape, "cuda" if torch.cuda.is_available() else "cpu")
    if work.begun is not None:
        trainer.master.load_state_dict({name: torch.from_numpy(w) for name, w in work.begun[1].items()})
    checkpoint = work.folder / "checkpoint.pt"
    if checkpoint.exists():
        trainer.load(checkpoint)
    for shard in _shards(rank, work, trainer.n_shards):
        started, n_before = time.perf_counter(), trainer.n_tokens
        batches = list(batched(shard, f"{work.seed} {trainer.n_shards}", work.n_processes))
        losses: list[float] = []
        for i, batch in enumerate(batches):
            rate = learning_rate(work.plan, trainer.n_shards + i / len(batches))
            losses.append(trainer.step(batch.part(rank, work.n_processes), rate))
        trainer.n_shards += 1
        if rank:
            continue
        trainer.save(checkpoint)
        seconds = time.perf_counter() - started
        print(
            f"shard {trainer.n_shards}: {trainer.n_tokens / 1e6:.1f} M tokens, loss {np.mean(losses):.3f}, "
            f"{(trainer.n_tokens - n_before) / seconds:,.0f} tokens/s",
            flush=True,
        )
    if work.n_processes > 1:
        distributed.destroy_process_group()


def _shards(rank: int, work: Work, first: int) -> Iterator[list[Example]]:
    """Shard after shard, from number `first` on; the first process makes them for all."""
    queue: Any = None
    if rank == 0:
        context = multiprocessing.get_context("spawn")
        queue = context.Queue(maxsize=2)
        arguments = (str(work.folder), work.seed, work.plan, first, queue)
        context.Process(target=_make_shards, args=arguments, daemon=True).start()
    while True:
        shard: list[list[Example] | None] = [queue.get() if rank == 0 else None]
        if work.n_processes > 1:
            distributed.broadcast_object_list(shard)
        if shard[0] is None:
            return
        yield shard[0]


if __name__ == "__main__":
    main()
