"""What the prefix cache saves: time to first token warm ÷ cold, and loading from disk ÷ prefilling.

    python benchmarks/prefill.py --json
    python benchmarks/prefill.py --json --vocab VOCAB.gguf --shape 0.5b

The prompt is this repository's own sources, cut to about `--tokens` tokens: rules, an outline and neighbours,
which are shared and saved, then a document and a task. Requests, in order, each greedy:

    cold     an empty cache
    repeat   the same again
    task     the same document, another instruction
    other    another document
    back     the first again, as `cold`
    edited   a line in the middle of the document changed
    loaded   as `cold`, after the model was closed and opened: the shared segments come from disk

The weights are random, which changes no time: `--vocab` names a GGUF file whose tokenizer to take, `--shape`
the sizes of the model. Replies to the same prompt must be equal, however much of it was cached.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec
from machine import command, describe, load, machine
from singlepass_backends.base import Finished, GenerateRequest, PrefillProgress, Segment, Target, TextChunk
from singlepass_backends.drivers.llama.driver import LlamaCppDriver
from singlepass_backends.generation.cache.store import Store
from singlepass_backends.generation.loop import InProcessBackend
from singlepass_backends.machine.hardware import physical_cores
from singlepass_backends.testing.random_model import (
    SHAPE_0_5B,
    Shape,
    write_random_model,
    write_random_model_with_vocab,
)

GRAMMAR = "start: /[a-zA-Z \\n]{40}/"
"""Of text, so that the first token shows."""
ROOT = Path(__file__).parents[1]
SHAPES = {
    "tiny": Shape(n_ctx_train=32_768),
    "tiny-hybrid": Shape(n_layer=4, n_ctx_train=32_768, lfm2=True),
    "0.5b": SHAPE_0_5B,
    "0.5b-hybrid": msgspec.convert({**SHAPE_0_5B.__dict__, "lfm2": True}, Shape),
}
PARTS = {"rules": 0.03, "outline": 0.25, "neighbours": 0.47, "document": 0.23}
"""Of the prompt; the rest is the task and the template."""


def write_model(path: Path, shape: str, vocab: Path | None) -> None:
    """A model of random weights."""
    if vocab is not None:
        write_random_model_with_vocab(path, vocab=vocab, shape=SHAPES[shape])
    else:
        corpus = [file.read_text(encoding="utf-8") for file in sorted((ROOT / "backends").rglob("*.py"))]
        write_random_model(path, corpus=corpus, shape=SHAPES[shape])


def segments_of(driver: LlamaCppDriver, n_tokens: int) -> dict[str, Segment]:
    """The parts of the prompt, and `other`, a second document."""
    files = sorted((ROOT / "server").rglob("*.py"), key=lambda path: path.name)
    lines = [line for path in files for line in path.read_text(encoding="utf-8").splitlines(keepends=True)]
    segments: dict[str, Segment] = {}
    at = 0
    for name, share in {**PARTS, "other": PARTS["document"]}.items():
        start, left = at, share * n_tokens
        while left > 0:
            left -= len(driver.tokenize(lines[at % len(lines)].encode(), special=False))
            at += 1
        text = "".join(lines[index % len(lines)] for index in range(start, at))
        role = "system" if name == "rules" else "user"
        segments[name] = Segment(name, text, role, shared=name in ("rules", "outline", "neighbours"))
    return segments


def run(backend: InProcessBackend, request: GenerateRequest) -> tuple[dict[str, Any], str, float]:
    """Figures, the text, and the seconds until the shared segments were there."""
    started = time.perf_counter()
    text = ""
    first_text = shared_s = 0.0
    n_shared = 0
    figures: dict[str, Any] = {}
    for event in backend.generate(request, lambda: False, started):
        now = time.perf_counter() - started
        match event:
            case PrefillProgress():
                n_shared = n_shared or sum(use.n_tokens for use in backend.inspect(request.segments)[:3])
                # The last moment at which they were surely not all there: in favour of prefilling.
                if event.n_done <= n_shared or not shared_s:
                    shared_s = now
            case TextChunk():
                first_text = first_text or now
                text += event.text
            case Finished(timings=timings):
                figures = {
                    "n_prompt": timings.n_prompt,
                    "n_cached": timings.n_cached,
                    "n_prefilled": timings.n_prefilled,
                    "ttft_s": round(first_text or now, 4),
                }
    return figures, text, shared_s


def measure(target: Target, folder: Path, n_tokens: int) -> dict[str, Any]:
    """All requests."""
    started = time.perf_counter()
    driver = LlamaCppDriver(target, lambda _: True)
    backend = InProcessBackend(driver, Store(folder, driver.state_key))
    backend.warm()
    open_s = time.perf_counter() - started
    parts = segments_of(driver, n_tokens)
    shared = (parts["rules"], parts["outline"], parts["neighbours"])
    lines = parts["document"].text.splitlines(keepends=True)
    lines[len(lines) // 2] = "changed = 1\n"
    edited = Segment("document", "".join(lines))
    fix, explain = Segment("task", "Rename the first function."), Segment("task", "Add docstrings.")
    requests = {
        "cold": (parts["document"], fix),
        "repeat": (parts["document"], fix),
        "task": (parts["document"], explain),
        "other": (parts["other"], fix),
        "back": (parts["document"], fix),
        "edited": (edited, fix),
    }
    figures: dict[str, dict[str, Any]] = {}
    texts: dict[str, str] = {}
    seconds: dict[str, float] = {}

    def ask(name: str, of: str) -> None:
        request = GenerateRequest((*shared, *requests[of]), GRAMMAR, max_tokens=16)
        figures[name], texts[name], seconds[name] = run(backend, request)

    for name in requests:
        ask(name, name)
    started = time.perf_counter()
    backend.close()
    close_s = time.perf_counter() - started
    n_bytes = sum(path.stat().st_size for path in folder.iterdir())
    driver = LlamaCppDriver(target, lambda _: True)
    backend = InProcessBackend(driver, Store(folder, driver.state_key))
    backend.warm()
    ask("loaded", "cold")
    backend.close()
    cold_s = figures["cold"]["ttft_s"]
    return {
        "requests": figures,
        "warm_to_cold": {
            name: round(figures[name]["ttft_s"] / cold_s, 4) for name in ("repeat", "task", "back")
        },
        "load_to_prefill": round(seconds["loaded"] / seconds["cold"], 4),
        "load_s": round(seconds["loaded"], 3),
        "prefill_of_the_same_s": round(seconds["cold"], 3),
        "saved_bytes": n_bytes,
        "save_and_close_s": round(close_s, 3),
        "open_s": round(open_s, 3),
        "texts_equal": all(texts[name] == texts["cold"] for name in ("repeat", "back", "loaded")),
    }


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print JSON alone")
    parser.add_argument("--vocab", type=Path, help="a GGUF file whose tokenizer to take")
    parser.add_argument("--shape", choices=SHAPES, default="tiny")
    parser.add_argument("--model", type=Path, help="a model file, instead of one of random weights")
    parser.add_argument("--tokens", type=int, default=8000, help="of the prompt, about")
    parser.add_argument("--threads", type=int, default=physical_cores())
    parser.add_argument(
        "--repack", action="store_true", help="let llama.cpp lay out weights for this machine"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sp-") as temporary:
        model = arguments.model
        if model is None:
            model = Path(temporary) / "random.gguf"
            write_model(model, arguments.shape, arguments.vocab)
        target = Target(
            model=str(model),
            n_ctx=arguments.tokens * 2,
            n_threads=arguments.threads,
            repack=arguments.repack,
        )
        load_before = load()
        result = measure(target, Path(temporary) / "cache", arguments.tokens)
    found = machine()
    result |= {
        "command": command(sys.argv),
        "model": "given" if arguments.model else f"{arguments.shape}, random weights",
        "threads": arguments.threads,
        "load_before": round(load_before, 2),
        "machine": found,
    }
    if arguments.json:
        json.dump(result, sys.stdout, indent=2)
        sys.stdout.write("\n")
        return
    print(describe(found))
    for name, figures in result["requests"].items():
        print(
            f"{name:8} {figures['n_prompt']:6,} tokens, {figures['n_cached']:6,} cached, "
            f"first token after {figures['ttft_s']:.3f} s"
        )
    print(f"warm ÷ cold {result['warm_to_cold']}, load ÷ prefill {result['load_to_prefill']}")
    print("replies to the same prompt are " + ("equal" if result["texts_equal"] else "NOT equal"))


if __name__ == "__main__":
    main()
