"""Token counts and times of one request, as it runs."""

import time
from dataclasses import dataclass

from singlepass_backends.base import (
    Finished,
    FinishReason,
    Miss,
    PrefillProgress,
    SegmentUse,
    TextChunk,
    Timings,
)


@dataclass
class Meter:
    """Counts of tokens and passes, and times of `time.perf_counter` in seconds (0: not yet)."""

    arrived: float
    started: float
    n_prompt: int = 0
    n_cached: int = 0
    n_prefilled: int = 0
    n_decoded: int = 0
    n_forced: int = 0
    n_drafted: int = 0
    n_accepted: int = 0
    n_forward: int = 0
    prefilled: float = 0.0
    first_text: float = 0.0
    segments: tuple[SegmentUse, ...] = ()
    miss: Miss | None = None

    @classmethod
    def begin(cls, arrived: float | None = None) -> "Meter":
        """The request starts now; without `arrived` it has also arrived now."""
        now = time.perf_counter()
        return cls(arrived=now if arrived is None else arrived, started=now)

    @property
    def n_left(self) -> int:
        """Tokens of the prompt that are still to be prefilled."""
        return self.n_prompt - self.n_cached - self.n_prefilled

    def progress(self) -> PrefillProgress:
        """The progress of the prefill; the remaining time is estimated from the rate so far."""
        n_done = self.n_cached + self.n_prefilled
        if not self.n_prefilled:
            return PrefillProgress(self.n_prompt, self.n_cached, n_done, 0.0, None)
        elapsed_ms = (time.perf_counter() - self.started) * 1e3
        eta_ms = elapsed_ms / self.n_prefilled * self.n_left
        return PrefillProgress(self.n_prompt, self.n_cached, n_done, elapsed_ms, eta_ms)

    def text(self, text: str) -> TextChunk:
        """Text was decoded."""
        now = time.perf_counter()
        self.first_text = self.first_text or now
        return TextChunk(text, self.n_decoded, (now - self.prefilled) * 1e3)

    def finished(self, reason: FinishReason) -> Finished:
        """The request ended."""
        return Finished(reason, self._timings(), self.segments, self.miss)

    def _timings(self) -> Timings:
        now = time.perf_counter()
        prefilled = self.prefilled or now
        return Timings(
            n_prompt=self.n_prompt,
            n_cached=self.n_cached,
            n_prefilled=self.n_prefilled,
            n_decoded=self.n_decoded,
            n_forced=self.n_forced,
            n_drafted=self.n_drafted,
            n_accepted=self.n_accepted,
            n_forward=self.n_forward,
            queue_ms=(self.started - self.arrived) * 1e3,
            prefill_ms=(prefilled - self.started) * 1e3,
            first_text_ms=(self.first_text - self.arrived) * 1e3 if self.first_text else 0.0,
            decode_ms=(now - prefilled) * 1e3,
            total_ms=(now - self.arrived) * 1e3,
        )
