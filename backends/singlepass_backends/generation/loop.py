"""The one loop every in-process model shares: prefill in chunks, then decode.

Theory of operation. `InProcessBackend` knows which tokens the KV cache holds. A request keeps the longest
useful prefix of them (`prefix`), prefills the rest chunk by chunk (`chunks`), and decodes: sample one token
from the last logits under the constraint, take the tokens the grammar then forces, and put them all into the
cache in one forward pass. Between passes it asks `interrupt`. Whatever happens, the record of the cache stays
true, so an interrupted prefill is not lost: the next request finds what was done.
"""

import codecs
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass

from singlepass_backends.base import (
    Event,
    Finished,
    FinishReason,
    GenerateRequest,
    Interrupt,
    ModelInfo,
    PrefillProgress,
    Segment,
    TextChunk,
    Timings,
)
from singlepass_backends.generation.chunks import CHUNK_S, PREWARM_CHUNK_S, ChunkSize
from singlepass_backends.generation.constraint import Constraint, Constraints
from singlepass_backends.generation.driver import Driver, Logits
from singlepass_backends.generation.prefix import reuse
from singlepass_backends.generation.prompt import PromptBuilder, check_fits, fitting
from singlepass_backends.generation.sampling import Sampler


@dataclass
class _Meter:
    """What one request has cost so far. Times are of `time.perf_counter`, in seconds."""

    arrived: float
    started: float
    n_prompt: int = 0
    n_cached: int = 0
    n_prefilled: int = 0
    n_decoded: int = 0
    n_forced: int = 0
    n_forward: int = 0
    prefilled: float = 0.0
    first_text: float = 0.0

    def timings(self) -> Timings:
        now = time.perf_counter()
        prefilled = self.prefilled or now
        return Timings(
            n_prompt=self.n_prompt,
            n_cached=self.n_cached,
            n_prefilled=self.n_prefilled,
            n_decoded=self.n_decoded,
            n_forced=self.n_forced,
            n_forward=self.n_forward,
            queue_ms=(self.started - self.arrived) * 1e3,
            prefill_ms=(prefilled - self.started) * 1e3,
            first_text_ms=(self.first_text - self.arrived) * 1e3 if self.first_text else 0.0,
            decode_ms=(now - prefilled) * 1e3,
            total_ms=(now - self.arrived) * 1e3,
        )


class InProcessBackend:
    """Runs requests on a `Driver`; implements `base.Backend`. Call it from one thread only."""

    def __init__(self, driver: Driver) -> None:
        self.info: ModelInfo = driver.info
        self._driver = driver
        self._prompts = PromptBuilder(driver)
        self._constraints = Constraints(driver)
        self._chunks = ChunkSize(driver.n_batch)
        self._cached: list[int] = []

    @property
    def n_cached(self) -> int:
        """Tokens held in the KV cache."""
        return len(self._cached)

    def warm(self) -> None:
        """Do now what the first request would otherwise wait for: a first pass touches all weights, and the
        constraint's token trie takes up to a second.

        The pass has two tokens, because prefill runs other kernels than decode; where the processor lacks an
        instruction they need, the process dies now, while it loads, and not in the user's first request.
        """
        self._driver.forward([0, 0][: self._driver.n_batch], 0, logits=True)
        self._driver.trim(0)
        self._constraints.warm()

    def generate(
        self, request: GenerateRequest, interrupt: Interrupt, arrived: float | None = None
    ) -> Iterator[Event]:
        """See `base.Backend.generate`. A cut-off reply leaves its tokens in the cache like a finished one."""
        now = time.perf_counter()
        meter = _Meter(arrived=now if arrived is None else arrived, started=now)
        constraint = self._constraints.open(request.grammar) if request.grammar is not None else None
        prompt = self._prompts.build(request.segments)
        check_fits(prompt, self._driver.n_ctx, request.min_reply)
        logits = yield from self._prefill(prompt.tokens, interrupt, meter, needs_logits=True)
        reason: FinishReason = "cancelled"
        if logits is not None:
            reason = yield from self._decode(request, constraint, logits, interrupt, meter)
        yield Finished(reason, meter.timings())

    def prewarm(self, segments: tuple[Segment, ...], interrupt: Interrupt) -> Iterator[Event]:
        """See `base.Backend.prewarm`."""
        now = time.perf_counter()
        meter = _Meter(arrived=now, started=now)
        tokens = fitting(self._prompts.build(segments, complete=False), self._driver.n_ctx)
        yield from self._prefill(tokens, interrupt, meter, needs_logits=False)
        is_done = meter.n_cached + meter.n_prefilled == meter.n_prompt
        yield Finished("stop" if is_done else "cancelled", meter.timings())

    def close(self) -> None:
        """Free the model."""
        self._cached.clear()
        self._driver.close()

    def _prefill(
        self, prompt: list[int], interrupt: Interrupt, meter: _Meter, *, needs_logits: bool
    ) -> Generator[Event, None, Logits | None]:
        """Bring the cache to `prompt`. Returns the last logits, or None when interrupted (or not needed)."""
        plan = reuse(self._cached, prompt, can_trim=self.info.can_trim, needs_logits=needs_logits)
        meter.n_prompt, meter.n_cached = len(prompt), plan.n_keep
        if plan.trims and plan.n_keep < len(prompt):
            meter.n_cached = self._trim(plan.n_keep)
        n_done = meter.n_cached
        logits: Logits | None = None
        chunk_s = CHUNK_S if needs_logits else PREWARM_CHUNK_S
        yield PrefillProgress(len(prompt), meter.n_cached, n_done, 0.0, None)
        while n_done < len(prompt) and not interrupt():
            chunk = prompt[n_done : n_done + self._chunks.next(len(prompt) - n_done, chunk_s)]
            is_last = n_done + len(chunk) == len(prompt)
            logits = self._forward(chunk, logits=needs_logits and is_last)
            n_done += len(chunk)
            meter.n_prefilled = n_done - meter.n_cached
            elapsed = time.perf_counter() - meter.started
            eta = elapsed / meter.n_prefilled * (len(prompt) - n_done)
            yield PrefillProgress(len(prompt), meter.n_cached, n_done, elapsed * 1e3, eta * 1e3)
        meter.prefilled = time.perf_counter()
        return logits if n_done == len(prompt) else None

    def _decode(
        self,
        request: GenerateRequest,
        constraint: Constraint | None,
        logits: Logits,
        interrupt: Interrupt,
        meter: _Meter,
    ) -> Generator[Event, None, FinishReason]:
        """Decode until a finish reason, and return it."""
        driver = self._driver
        sampler = Sampler(request.sampling)
        text_of = codecs.getincrementaldecoder("utf-8")("replace").decode
        reason: FinishReason | None = None
        while reason is None:
            if interrupt():
                reason = "cancelled"
                break
            n_most = min(request.max_tokens - meter.n_decoded, driver.n_ctx - len(self._cached))
            # Only at the very start can the grammar force tokens before any is sampled.
            batch = constraint.take_forced(n_most) if constraint and not meter.n_decoded else []
            meter.n_forced += len(batch)
            if not batch:
                token = sampler.pick(logits, constraint.allowed() if constraint else None)
                if token in driver.eog_tokens:
                    reason = "stop"
                    break
                batch = [token]
                if constraint:
                    constraint.consume(token)
                    batch += constraint.take_forced(n_most - 1)
                    meter.n_forced += len(batch) - 1
            meter.n_decoded += len(batch)
            if text := text_of(b"".join(map(driver.piece, batch))):
                yield self._text(text, meter)
            if constraint and constraint.stopped:
                reason = "stop"
            elif meter.n_decoded >= request.max_tokens:
                reason = "length"
            elif len(self._cached) + len(batch) >= driver.n_ctx:
                reason = "context"
            else:
                after = self._advance(batch, interrupt, meter)
                if after is None:
                    reason = "cancelled"
                else:
                    logits = after
        if text := text_of(b"", True):
            yield self._text(text, meter)
        return reason

    @staticmethod
    def _text(text: str, meter: _Meter) -> TextChunk:
        now = time.perf_counter()
        meter.first_text = meter.first_text or now
        return TextChunk(text, meter.n_decoded, (now - meter.prefilled) * 1e3)

    def _advance(self, batch: list[int], interrupt: Interrupt, meter: _Meter) -> Logits | None:
        """Decoded tokens into the cache: one pass, unless the grammar forced more than a chunk of them."""
        logits: Logits | None = None
        n_done = 0
        while n_done < len(batch):
            if n_done and interrupt():
                return None
            chunk = batch[n_done : n_done + self._chunks.next(len(batch) - n_done)]
            n_done += len(chunk)
            logits = self._forward(chunk, logits=n_done == len(batch))
            meter.n_forward += 1
        return logits

    def _forward(self, tokens: Sequence[int], *, logits: bool) -> Logits | None:
        start = time.perf_counter()
        try:
            result = self._driver.forward(tokens, len(self._cached), logits=logits)
        except BaseException:
            # How far it got is unknown: begin anew next time.
            self._cached.clear()
            self._driver.trim(0)
            raise
        self._cached += tokens
        self._chunks.learn(len(tokens), time.perf_counter() - start)
        return result

    def _trim(self, n_keep: int) -> int:
        """Forget all but `n_keep` tokens, or all where the model refuses. Returns how many are left."""
        if not self._driver.trim(n_keep):
            n_keep = 0
            self._driver.trim(0)
        del self._cached[n_keep:]
        return n_keep
