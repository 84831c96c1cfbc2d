"""How many tokens the next prefill chunk has (sans-IO).

A cancel, and a user's request behind a prewarm, wait for the running chunk to end, unless the runtime can
stop within it, which loses the work on that chunk. Progress is reported after each chunk. So small chunks
keep waits short, and large ones keep prefill fast: a chunk has as many tokens as the measured rate prefills
within the allowed wait, between `MIN_CHUNK` and the runtime's batch size.
"""

MIN_CHUNK = 96
"""Minimum tokens of a chunk. Measured relative to chunks of 256 (0.5B shape, Q8_0, one core, processor time
of 256 tokens, best of 6): chunks of 128 cost 1 percent more, of 96 2 percent, of 64 7 percent, of 32 47
percent. In wall time on two threads, chunks of 128, 192 and 512 took 9, 4 and 4 percent longer, of 96 and 64
13 and 14."""
_STEP = 32


def chunk_seconds(*, is_request: bool, can_stop: bool) -> float:
    """Maximum duration of a chunk, for a request or a prewarm, on a runtime that can stop within it or
    not."""
    if can_stop:
        return 3.0 if is_request else 1.5
    return 1.5 if is_request else 0.5


class ChunkSize:
    """Learns the prefill rate from each chunk; kept across requests."""

    def __init__(self, n_batch: int) -> None:
        self._n_batch = n_batch
        self._rate = 0.0  # tokens a second

    def next(self, n_left: int, seconds: float) -> int:
        """Tokens of the next chunk: about `seconds` of work, at most `n_left`. A short remainder is added to
        the last chunk if that fits."""
        n = self._n_batch
        wanted = self._rate * seconds if self._rate else MIN_CHUNK
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
