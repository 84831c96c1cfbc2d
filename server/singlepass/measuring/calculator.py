"""Estimates time, memory and upper bounds of requests, from published or measured rates (sans-IO).

Theory of operation. A request has two phases. *Prefill* multiplies all prompt tokens with all weights at
once: many operations for each byte read, so it is bound by compute. *Decode* reads all weights, and the KV
cache, for each token anew: few operations for each byte, so it is bound by memory bandwidth (the roofline
model, Williams et al. 2009, https://doi.org/10.1145/1498765.1498785). In both, a token that has more before
it takes longer, because it attends to all of that. So the time of one token at a depth of d tokens is taken
as

    token_s + depth_s · d

which integrates to a quadratic time for a prompt. Both numbers are fitted to rates that somebody measured.
From one model to another, `token_s` of prefill goes with the operations of the weights and that of decode
with their bytes; `depth_s` of prefill goes with the operations of attention and that of decode with the bytes
of the cache.

Units: tokens, seconds, bytes, tokens a second, operations (a multiplication and an addition are two).
"""

from collections.abc import Sequence
from typing import Literal

import msgspec

KVCacheType = Literal["f16", "q8_0", "q4_0"]
TEXTBOOK_BYTES: dict[KVCacheType, float] = {"f16": 2.0, "q8_0": 1.0, "q4_0": 0.5}
"""Bytes of a value by its name, without the scales of quantized blocks, which textbooks leave out."""
ContextClass = Literal["short", "medium", "long"]
SHORT_CTX, LONG_CTX = 10_000, 30_000
"""Tokens. Below the first any machine that fits the model will do; above the second prefill decides."""


# Times.


class Phases(msgspec.Struct, frozen=True):
    """The two phases of a request, or of several."""

    prefill_s: float
    decode_s: float

    @property
    def total_s(self) -> float:
        return self.prefill_s + self.decode_s

    @property
    def prefill_share(self) -> float:
        """0 to 1."""
        return self.prefill_s / self.total_s if self.total_s else 0.0


class Step(msgspec.Struct, frozen=True):
    """One request of a session."""

    n_prompt: int
    n_cached: int
    """Tokens of the prompt that need no prefill."""
    n_decoded: int


def steps(
    n_steps: int, n_prompt: int, n_decoded: int, n_added: int = 0, *, reuses_prefix: bool = False
) -> tuple[Step, ...]:
    """A session of an agent: each step sends the whole conversation again, which has grown by `n_added`
    tokens (the reply before, what a tool said). With a prefix cache only those are new."""
    made: list[Step] = []
    for index in range(n_steps):
        n = n_prompt + index * n_added
        made.append(Step(n, n - n_added if reuses_prefix and index else 0, n_decoded))
    return tuple(made)


class Speed(msgspec.Struct, frozen=True):
    """Seconds of one token at a depth of `d` tokens: `token_s + depth_s · d`."""

    token_s: float
    depth_s: float = 0.0

    def duration_s(self, n_tokens: float, depth: float = 0.0) -> float:
        """Seconds of `n_tokens` tokens that follow `depth` others."""
        return n_tokens * self.token_s + self.depth_s * (n_tokens * depth + n_tokens**2 / 2)

    def rate(self, n_tokens: float, depth: float = 0.0) -> float:
        """Tokens a second, on average over these tokens."""
        taken = self.duration_s(n_tokens, depth)
        return n_tokens / taken if taken > 0 else 0.0


def constant(rate: float) -> Speed:
    """A rate that no depth changes, as rules of thumb have it."""
    return Speed(1 / rate)


class Measured(msgspec.Struct, frozen=True, array_like=True):
    """A rate measured over `n_tokens` tokens after `depth` others, as by `llama-bench -p N -d D`."""

    depth: int
    n_tokens: int
    rate: float


def fit(measured: Sequence[Measured]) -> Speed:
    """Fit the speed to measured rates: least squares over the seconds per token.

    One rate alone gives a constant, and so do rates that rise with depth, which is noise or overhead.
    """
    depths = [one.depth + one.n_tokens / 2 for one in measured]
    times = [1 / one.rate for one in measured]
    n = len(measured)
    mean_depth, mean_time = sum(depths) / n, sum(times) / n
    spread = sum((depth - mean_depth) ** 2 for depth in depths)
    if not spread:
        return Speed(mean_time)
    pairs = zip(depths, times, strict=True)
    slope = sum((depth - mean_depth) * (time - mean_time) for depth, time in pairs) / spread
    if slope <= 0:
        return Speed(mean_time)
    token_s = mean_time - slope * mean_depth
    if token_s > 0:
        return Speed(token_s, slope)
    # Times cannot be negative: use the line through the origin instead.
    pairs = zip(depths, times, strict=True)
    return Speed(0.0, sum(depth * time for depth, time in pairs) / sum(depth**2 for depth in depths))


def phases(session: Sequence[Step], prefill: Speed, decode: Speed) -> Phases:
    """The time of all steps, one after the other."""
    prefill_s = sum(prefill.duration_s(one.n_prompt - one.n_cached, one.n_cached) for one in session)
    decode_s = sum(decode.duration_s(one.n_decoded, one.n_prompt) for one in session)
    return Phases(prefill_s, decode_s)


# Models.


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """The properties of a model that determine time and memory."""

    name: str
    size_bytes: int = 0
    """Of all weights."""
    n_active: int = 0
    """Active parameters per token."""
    active_bytes: int = 0
    """Bytes of those."""
    n_layer: int
    """Layers that keep a KV cache."""
    n_head: int
    n_head_kv: int
    key_length: int
    value_length: int
    kv_values: int = 0
    """Values of the KV cache per token, over all layers; 0 takes `n_layer · n_head_kv · (key + value)`."""
    n_ctx_train: int = 0

    @property
    def n_kv_values(self) -> int:
        return self.kv_values or self.n_layer * self.n_head_kv * (self.key_length + self.value_length)

    @property
    def attention_operations(self) -> int:
        """Operations of one token for each token before it: scores and their sum of values, in all layers,
        for all query heads, however few KV heads they share (Hoffmann et al. 2022, appendix F,
        https://arxiv.org/abs/2203.15556)."""
        return 2 * self.n_layer * self.n_head * (self.key_length + self.value_length)

    @property
    def weight_operations(self) -> int:
        """Operations of one token on the weights: two for each (Kaplan et al. 2020, section 2.1,
        https://arxiv.org/abs/2001.08361)."""
        return 2 * self.n_active


def textbook_kv_bytes(shape: Shape, kv_cache_type: KVCacheType) -> float:
    """Bytes of the KV cache per token by the formula that is often quoted:
    `2 · layers · heads · head size · bytes of a value`. It counts *query* heads."""
    head = (shape.key_length + shape.value_length) / 2
    return 2 * shape.n_layer * shape.n_head * head * TEXTBOOK_BYTES[kv_cache_type]


def prefill_for(speed: Speed, measured_on: Shape, shape: Shape) -> Speed:
    """The prefill of one model from that of another on the same machine.

    Where the other's attention is not known, that of this one counts as if it ran as well as the weights do,
    which is the least that it takes.
    """
    operation_s = speed.token_s / max(1, measured_on.weight_operations)
    per_pair = measured_on.attention_operations
    attention_s = speed.depth_s / per_pair if speed.depth_s and per_pair else operation_s
    return Speed(operation_s * shape.weight_operations, attention_s * shape.attention_operations)


def decode_for(
    speed: Speed, measured_on: Shape, shape: Shape, kv_bytes: float, measured_kv_bytes: float
) -> Speed:
    """The decode of one model from that of another on the same machine; `kv_bytes` are those of one token in
    the KV cache of each, 0 where unknown. Then the cache counts as if it were read as the weights are."""
    byte_s = speed.token_s / max(1, measured_on.active_bytes)
    cache_byte_s = speed.depth_s / measured_kv_bytes if speed.depth_s and measured_kv_bytes else byte_s
    return Speed(byte_s * shape.active_bytes, cache_byte_s * kv_bytes)


# Ceilings.


def prefill_ceiling(shape: Shape, operations_s: float, n_tokens: int) -> float:
    """Tokens a second that no software exceeds in prefill of `n_tokens` on a machine of `operations_s`
    operations a second: the compute roofline."""
    operations = n_tokens * shape.weight_operations + n_tokens**2 / 2 * shape.attention_operations
    return n_tokens * operations_s / operations if operations else 0.0


def decode_ceiling(shape: Shape, bandwidth: float, kv_bytes_per_token: float, depth: int) -> float:
    """Tokens a second that no software exceeds in decoding one by one at `depth`, with `bandwidth` bytes a
    second: the bandwidth roofline. Drafts, which verify several tokens in one pass, may exceed it."""
    n_bytes = shape.active_bytes + kv_bytes_per_token * depth
    return bandwidth / n_bytes if n_bytes else 0.0


def compute_bound_from(shape: Shape, operations_s: float, bandwidth: float) -> float:
    """Tokens in one pass from which on compute, and not reading the weights, is what a pass waits for."""
    return operations_s / bandwidth * shape.active_bytes / max(1, shape.weight_operations)


# Memory.


def largest_ctx(budget_bytes: float, fixed_bytes: float, bytes_per_token: float) -> int:
    """Tokens of context that fit into what is left of `budget_bytes`; 0 where not even the weights do."""
    left = budget_bytes - fixed_bytes
    return max(0, int(left / bytes_per_token)) if bytes_per_token else 0


def context_class(n_ctx: int) -> ContextClass:
    """Below 10,000 tokens, up to 30,000, or above."""
    return "short" if n_ctx < SHORT_CTX else "medium" if n_ctx <= LONG_CTX else "long"
