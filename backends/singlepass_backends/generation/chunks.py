"""How many tokens the next prefill chunk takes (sans-IO).

A cancel, and a user's request behind a prewarm, wait for the chunk that is running. Small chunks make that
wait short; large ones make prefill fast. So the chunk follows the measured rate: about half a second of work,
between `MIN_CHUNK` and what the runtime takes at once.
"""

MIN_CHUNK = 96
"""Measured against chunks of 256 (0.5B shape, Q8_0, one core, processor time of 256 tokens, best of 6):
chunks of 128 cost 1 percent more, of 96 2 percent, of 64 7 percent, of 32 47 percent."""
CHUNK_S = 0.5
_STEP = 32


class ChunkSize:
    """Learns from each chunk; kept across requests, as the machine's rate is."""

    def __init__(self, n_batch: int) -> None:
        self._n_batch = n_batch
        self._rate = 0.0  # tokens a second

    def next(self, n_left: int) -> int:
        """Tokens of the next chunk, at most `n_left`. A short rest joins the last chunk where that fits."""
        n = self._n_batch
        wanted = self._rate * CHUNK_S if self._rate else MIN_CHUNK
        if wanted < n:
            n = min(n, max(MIN_CHUNK, int(wanted) // _STEP * _STEP))
        if n < n_left <= min(n + _STEP // 2, self._n_batch):
            return n_left
        return min(n, n_left)

    def learn(self, n_tokens: int, seconds: float) -> None:
        """A chunk of `n_tokens` took `seconds`. Tiny chunks say nothing about the rate."""
        if n_tokens < _STEP or seconds <= 0:
            return
        rate = n_tokens / seconds
        self._rate = (self._rate + rate) / 2 if self._rate else rate
