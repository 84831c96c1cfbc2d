"""The least that must be done to run a model with llama.cpp: what the engine is measured against.

`python bare.py TARGET`, with the target as JSON, reads one line of JSON: requests by name. It runs each once
through the loop of singlepass and records the tokens of every forward pass. Then it opens the model by itself
and makes the same passes with `llama_decode` and nothing around them: prefill in chunks of `n_batch`, logits
only where they are needed, greedy argmax with numpy. Each further line, `prefill NAME` or `decode NAME`, is
answered with the seconds that took, of the clock and of the processor. It runs at the niceness of the engine.
"""

import json
import os
import sys
import time
from typing import Any

import msgspec
import numpy as np
from singlepass_backends.base import GenerateRequest, Target
from singlepass_backends.drivers.llama.driver import LlamaCppDriver, load_library
from singlepass_backends.generation.loop import InProcessBackend


class Recorder:
    """A driver that notes the tokens of each forward pass."""

    def __init__(self, driver: LlamaCppDriver) -> None:
        self._driver = driver
        self.passes: list[tuple[list[int], bool]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._driver, name)

    def forward(self, tokens: list[int], position: int, *, n_logits: int) -> Any:
        self.passes.append((list(tokens), bool(n_logits)))
        return self._driver.forward(tokens, position, n_logits=n_logits)


def record(
    target: Target, requests: dict[str, GenerateRequest]
) -> dict[str, tuple[list[int], list[list[int]]]]:
    """For each request the tokens of its prompt, and those of every later pass."""
    driver = LlamaCppDriver(target, lambda _: True)
    recorded: dict[str, tuple[list[int], list[list[int]]]] = {}
    for name, request in requests.items():
        recorder = Recorder(driver)
        driver.clear()
        for _ in InProcessBackend(recorder).generate(request, lambda: False):
            pass
        first = next(idx for idx, (_, logits) in enumerate(recorder.passes) if logits)
        prompt = [token for tokens, _ in recorder.passes[: first + 1] for token in tokens]
        recorded[name] = prompt, [tokens for tokens, _ in recorder.passes[first + 1 :]]
    driver.close()
    return recorded


class BareLoop:
    """A model and a context of llama.cpp, opened as the engine opens them."""

    def __init__(self, target: Target) -> None:
        lib = self.lib = load_library()
        model_params = lib.llama_model_default_params()
        model_params.use_extra_bufts = target.repack
        model_params.n_gpu_layers = 999 if target.n_gpu_layers and lib.llama_supports_gpu_offload() else 0
        model = lib.llama_model_load_from_file(target.model.encode(), model_params)
        params = lib.llama_context_default_params()
        params.n_ctx = target.n_ctx
        params.n_batch = params.n_ubatch = self.n_batch = target.n_batch
        params.n_seq_max = 1
        params.n_threads = params.n_threads_batch = target.n_threads
        params.flash_attn_type = lib.LLAMA_FLASH_ATTN_TYPE_ENABLED
        params.no_perf = True
        self.context = lib.llama_init_from_model(model, params)
        self.memory = lib.llama_get_memory(self.context)
        self.n_vocab = int(lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(model)))
        self.batch = lib.llama_batch_init(self.n_batch, 0, 1)
        self.tokens = np.ctypeslib.as_array(self.batch.token, shape=(self.n_batch,))
        self.positions = np.ctypeslib.as_array(self.batch.pos, shape=(self.n_batch,))
        for index in range(self.n_batch):
            self.batch.n_seq_id[index] = 1
            self.batch.seq_id[index][0] = 0
            self.batch.logits[index] = 0

    def decode(self, tokens: list[int], position: int, logits: bool) -> None:
        """One forward pass."""
        batch = self.batch
        batch.n_tokens = n = len(tokens)
        self.tokens[:n] = tokens
        self.positions[:n] = range(position, position + n)
        batch.logits[n - 1] = logits
        if self.lib.llama_decode(self.context, batch):
            raise RuntimeError("llama_decode failed")
        batch.logits[n - 1] = 0

    def argmax(self) -> int:
        """The greedy token after the last pass."""
        logits = self.lib.llama_get_logits_ith(self.context, -1)
        return int(np.ctypeslib.as_array(logits, shape=(self.n_vocab,)).argmax())

    def prefill(self, prompt: list[int]) -> float:
        """The seconds of a prefill from an empty cache."""
        self.lib.llama_memory_clear(self.memory, True)
        started = time.perf_counter()
        for position in range(0, len(prompt), self.n_batch):
            chunk = prompt[position : position + self.n_batch]
            self.decode(chunk, position, position + len(chunk) == len(prompt))
        self.lib.llama_synchronize(self.context)
        return time.perf_counter() - started

    def generate(self, n_prompt: int, passes: list[list[int]]) -> float:
        """The seconds of the passes after a prompt that is in the cache."""
        self.lib.llama_memory_seq_rm(self.memory, 0, n_prompt, -1)
        started = time.perf_counter()
        position = n_prompt
        for tokens in passes:
            self.decode(tokens, position, True)
            self.argmax()
            position += len(tokens)
        return time.perf_counter() - started


def main() -> None:
    """Serve the benchmark over stdin and stdout."""
    os.nice(5)
    target = msgspec.json.decode(sys.argv[1], type=Target)
    recorded = record(target, msgspec.json.decode(sys.stdin.readline(), type=dict[str, GenerateRequest]))
    loop = BareLoop(target)
    loop.prefill(next(iter(recorded.values()))[0])
    passes = {name: [len(tokens) for tokens in passes] for name, (_, passes) in recorded.items()}
    print(json.dumps(passes), flush=True)
    for line in sys.stdin:
        phase, name = line.split()
        prompt, later = recorded[name]
        cpu = time.process_time()
        seconds = loop.prefill(prompt) if phase == "prefill" else loop.generate(len(prompt), later)
        print(json.dumps([seconds, time.process_time() - cpu]), flush=True)


if __name__ == "__main__":
    main()
