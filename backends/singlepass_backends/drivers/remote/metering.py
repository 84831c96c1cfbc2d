"""Times and token counts of one request to a server; measured here if the server does not report them."""

import time
from dataclasses import dataclass, field

from singlepass_backends.base import PrefillProgress, TextChunk, Timings
from singlepass_backends.drivers.remote.replies import Progress

MEASURED = (
    "n_prompt",
    "n_cached",
    "n_prefilled",
    "n_decoded",
    "n_forward",
    "queue_ms",
    "prefill_ms",
    "decode_ms",
)
"""Fields of `Timings` that a server may report; the ones it does not are named in `Timings.inferred`."""


@dataclass
class Meter:
    """Measures one request. Times are those of `time.perf_counter`, in seconds; counts are estimates until
    the server reports its own."""

    arrived: float
    started: float
    n_prompt: int
    n_cached: int
    n_done: int = 0
    first: float = 0.0
    """Time of the first token, reasoning included: the end of prefill."""
    first_text: float = 0.0
    n_pieces: int = 0
    """Pieces of text or reasoning: about as many as tokens."""
    ended: float = 0.0
    report: dict[str, float] = field(default_factory=dict[str, float])
    """What the server reported, by field of `Timings` (and `n_limited`: tokens that count against its
    limit)."""

    def take_progress(self, progress: Progress) -> PrefillProgress:
        """The server reported the progress of its prefill."""
        if progress.is_new_only:
            self.n_prompt = self.n_cached + progress.total
            self.n_done = self.n_cached + progress.done
        elif progress.total:
            self.n_prompt, self.n_cached = progress.total, min(progress.cached, progress.total)
            self.n_done = max(self.n_cached, min(progress.done, progress.total))
        else:
            n_new = self.n_prompt - self.n_cached
            self.n_done = self.n_cached + n_new * progress.done // 1000
        return self.progress()

    def text(self, text: str) -> TextChunk:
        """Text of the reply arrived."""
        now = time.perf_counter()
        self.first_text = self.first_text or now
        return TextChunk(text, self.n_pieces, (now - self.first) * 1e3)

    def progress(self) -> PrefillProgress:
        """The progress of the prefill."""
        elapsed = time.perf_counter() - self.started
        n_new = self.n_done - self.n_cached
        eta = elapsed / n_new * (self.n_prompt - self.n_done) if n_new > 0 else None
        return PrefillProgress(
            self.n_prompt, self.n_cached, self.n_done, elapsed * 1e3, None if eta is None else eta * 1e3
        )

    def timings(self, *, is_complete: bool) -> Timings:
        """The server's numbers, and measured ones for the rest."""
        now = self.ended or time.perf_counter()
        given = self.report
        n_prompt = self.n_prompt
        if "n_prompt" in given:
            n_prompt = int(given["n_prompt"])
        elif "n_prefilled" in given:
            n_prompt = int(given["n_prefilled"] + given.get("n_cached", self.n_cached))
        n_cached = min(int(given.get("n_cached", self.n_cached)), n_prompt)
        n_read = n_prompt if is_complete or self.first else max(self.n_done, n_cached)
        n_prefilled = n_read - n_cached
        if not is_complete:
            n_prefilled = min(int(given.get("n_prefilled", n_prefilled)), n_prompt - n_cached)
        n_decoded = int(given.get("n_decoded", self.n_pieces))
        n_accepted = min(int(given.get("n_accepted", 0)), n_decoded)
        end = self.first or now
        prefill_ms = given.get("prefill_ms", (end - self.started) * 1e3)
        waited_ms = (end - self.arrived) * 1e3 - prefill_ms
        known = set(given)
        if {"n_prompt", "n_cached"} <= known:
            known.add("n_prefilled")
        return Timings(
            n_prompt=n_prompt,
            n_cached=n_cached,
            n_prefilled=n_prefilled,
            n_decoded=n_decoded,
            n_drafted=max(int(given.get("n_drafted", 0)), n_accepted),
            n_accepted=n_accepted,
            n_forward=n_decoded - n_accepted,
            queue_ms=max(0.0, waited_ms, (self.started - self.arrived) * 1e3),
            prefill_ms=prefill_ms,
            first_text_ms=(self.first_text - self.arrived) * 1e3 if self.first_text else 0.0,
            decode_ms=given.get("decode_ms", (now - self.first) * 1e3 if self.first else 0.0),
            total_ms=(now - self.arrived) * 1e3,
            inferred=tuple(name for name in MEASURED if name not in known),
        )
