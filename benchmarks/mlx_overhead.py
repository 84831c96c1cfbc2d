"""What singlepass costs on top of mlx-lm: prefill and decode through our loop against `stream_generate`.

    python benchmarks/mlx_overhead.py [--model FOLDER | --vocab PATH --shape 0.5b] [--json]

Both run in this process, one after the other and in turns, on the same prompts, greedily. The prompts are new
each time, so nothing is cached. Each row has the rates of both and the median of the ratios of the turns.
Without --model a model of random weights is written; the `tiny` one's passes take a millisecond, so its
ratios say what each pass costs, and nothing about a model of real size.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx_lm
from machine import command, describe, load, machine
from singlepass_backends.base import Finished, GenerateRequest, PrefillProgress, Segment, Target
from singlepass_backends.drivers.mlx.driver import MlxDriver
from singlepass_backends.generation.loop import InProcessBackend
from singlepass_backends.testing.gguf_to_mlx import write_mlx_model
from singlepass_backends.testing.random_model import (
    SHAPE_0_5B,
    Shape,
    write_random_model,
    write_random_model_with_vocab,
)

ROOT = Path(__file__).parents[1]
SHAPES = {
    "tiny": Shape(),
    "small": Shape(n_layer=8, n_embd=512, n_head=8, n_head_kv=2, n_ff=1536, n_ctx_train=8192),
    "0.5b": SHAPE_0_5B,
}
GOAL = 0.95
PHASES = {
    "prefill": "prefill",
    "decode": "decode, unconstrained",
    "constrained": "decode, constrained to any text",
}
ANY_TEXT = "start: TEXT\nTEXT: /(.|\\n)*/\n"


class Recorder:
    """A driver that notes the tokens it is given."""

    def __init__(self, driver: MlxDriver) -> None:
        self._driver = driver
        self.tokens: list[int] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._driver, name)

    def forward(self, tokens: list[int], position: int, *, n_logits: int) -> Any:
        self.tokens += tokens
        return self._driver.forward(tokens, position, n_logits=n_logits)


@dataclass(frozen=True)
class Spent:
    """Seconds of the clock, and of the processor: on a busy machine the fairer comparison."""

    clock: float
    cpu: float

    @classmethod
    def now(cls) -> "Spent":
        return cls(time.perf_counter(), time.process_time())

    def each(self, since: "Spent", n: int) -> "Spent":
        """For each of `n` things done since then."""
        return Spent((self.clock - since.clock) / max(1, n), (self.cpu - since.cpu) / max(1, n))


def ours(backend: InProcessBackend, request: GenerateRequest) -> tuple[Spent, Spent, Finished]:
    """What a token of prefill and a pass of decode take, and what the backend says of it."""
    start = prefilled = Spent.now()
    for event in backend.generate(request, lambda: False):
        if isinstance(event, PrefillProgress) and event.n_done == event.n_prompt:
            prefilled = Spent.now()
        elif isinstance(event, Finished):
            timings = event.timings
            decode = Spent.now().each(prefilled, timings.n_forward)
            return prefilled.each(start, timings.n_prefilled), decode, event
    raise RuntimeError("no Finished")


def theirs(model: Any, tokenizer: Any, prompt: list[int], n_tokens: int) -> tuple[Spent, Spent]:
    """The same of `stream_generate`: to its first token, and from there to its last."""
    start = prefilled = ended = Spent.now()
    n = 0
    for response in mlx_lm.stream_generate(model, tokenizer, prompt, max_tokens=n_tokens):
        ended = Spent.now()
        if n == 0:
            prefilled = ended
        n = response.generation_tokens
    return prefilled.each(start, len(prompt)), ended.each(prefilled, n - 1)


def measure(folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Rates of both, in tokens a second, and their ratios."""
    n_ctx = arguments.tokens + arguments.reply + 64
    target = Target(backend="mlx", model=str(folder), n_ctx=n_ctx, n_batch=arguments.batch)
    recorder = Recorder(MlxDriver(target, lambda _: True))
    model, tokenizer = mlx_lm.load(str(folder))
    sources = sorted((ROOT / "server").rglob("*.py"))
    text = "".join(path.read_text(encoding="utf-8") for path in sources)
    tokens = recorder.tokenize(text.encode(), special=False)
    body = b"".join(map(recorder.piece, tokens[: arguments.tokens - 64])).decode(errors="ignore")
    backend = InProcessBackend(recorder)
    backend.warm()
    spent: dict[str, list[tuple[Spent, Spent]]] = {name: [] for name in PHASES}
    n_prompt = n_decoded = 0
    for turn in range(arguments.repetitions + 1):  # the first fills caches and is not counted
        segments = (Segment("number", f"{turn:04}\n"), Segment("file", body))
        recorder.tokens.clear()
        prefill, decode, finished = ours(backend, GenerateRequest(segments, None, arguments.reply))
        n_prompt, n_decoded = finished.timings.n_prompt, finished.timings.n_decoded
        if finished.timings.n_cached > 64:
            raise RuntimeError("the prompt was cached")
        prompt = recorder.tokens[:n_prompt]
        _, constrained, _ = ours(backend, GenerateRequest(segments, ANY_TEXT, arguments.reply))
        mx.clear_cache()
        their_prefill, their_decode = theirs(model, tokenizer, prompt, arguments.reply)
        if turn:
            spent["prefill"].append((prefill, their_prefill))
            spent["decode"].append((decode, their_decode))
            spent["constrained"].append((constrained, their_decode))
    info = backend.info
    backend.close()
    return {
        "mlx": f"mlx {version('mlx')}, mlx-lm {version('mlx-lm')}",
        "model": {
            "name": info.name,
            "n_params": info.n_params,
            "n_vocab": info.n_vocab,
            "device": info.device,
        },
        "n_prompt": n_prompt,
        "n_decoded": n_decoded,
        "repetitions": arguments.repetitions,
        "phases": {
            name: {
                "ours": statistics.median(1 / our.clock for our, _ in found),
                "theirs": statistics.median(1 / their.clock for _, their in found),
                "ratio": statistics.median(their.clock / our.clock for our, their in found),
                "cpu_ratio": statistics.median(their.cpu / our.cpu for our, their in found),
                "goal": GOAL,
            }
            for name, found in spent.items()
        },
    }


def write_model(folder: Path, arguments: argparse.Namespace) -> Path:
    """The random model that was asked for, as a folder."""
    shape = SHAPES[arguments.shape]
    source, path = folder / "model.gguf", folder / "model"
    if arguments.vocab:
        write_random_model_with_vocab(source, vocab=arguments.vocab, shape=shape, tensor_type="F16")
    else:
        corpus = [file.read_text(encoding="utf-8") for file in sorted((ROOT / "server").rglob("*.py"))]
        shape = replace(shape, n_ctx_train=max(shape.n_ctx_train, 8192))
        write_random_model(source, corpus=corpus, shape=shape)
    write_mlx_model(path, source, arguments.type)
    source.unlink()
    return path


def table(result: dict[str, Any]) -> str:
    """The result for people, as Markdown."""
    model = result["model"]
    lines = [
        f"{describe(result['machine'])}, {result['mlx']}",
        f"{model['name']}, {model['n_params'] / 1e6:,.1f}M parameters, {model['n_vocab']:,} tokens, "
        f"{model['device']}, prompt of {result['n_prompt']:,} tokens, reply of {result['n_decoded']:,}, "
        f"{result['repetitions']} turns; runnable processes {result['load']:.1f}",
        f"`{result['command']}`",
        "",
        "| | singlepass | mlx-lm | ratio | ratio of processor time | goal |",
        "|---|---|---|---|---|---|",
    ]
    for name, label in PHASES.items():
        part = result["phases"][name]
        lines.append(
            f"| {label} | {part['ours']:,.1f} tok/s | {part['theirs']:,.1f} tok/s | {part['ratio']:.3f} "
            f"| {part['cpu_ratio']:.3f} | ≥ {part['goal']} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    parser.add_argument("--model", type=Path, metavar="FOLDER", help="measure this model")
    parser.add_argument("--shape", choices=SHAPES, default="tiny", help="of the random model")
    parser.add_argument("--vocab", type=Path, metavar="GGUF", help="take the tokenizer of this file")
    parser.add_argument("--type", choices=["F32", "F16"], default="F32", help="of the random weights")
    parser.add_argument("--tokens", type=int, default=1024, help="about, of the prompt")
    parser.add_argument("--batch", type=int, default=512, help="most tokens of our chunks; mlx-lm takes 2048")
    parser.add_argument("--reply", type=int, default=64, help="tokens of each reply")
    parser.add_argument("--repetitions", type=int, default=7)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sp-bench-") as folder:
        path = arguments.model or write_model(Path(folder), arguments)
        result = {"command": command(sys.argv), "machine": machine()}
        result |= {"load": load(), **measure(path, arguments)}
    print(json.dumps(result, indent=2) if arguments.json else table(result))


if __name__ == "__main__":
    main()
