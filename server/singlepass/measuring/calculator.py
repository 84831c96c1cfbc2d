"""Estimates time, memory and upper bounds of requests, from published or measured rates (sans-IO).

Theory of operation
===================

A request has two phases. *Prefill* multiplies all prompt tokens with all weights at once: many operations for
each byte that is read, so compute limits it. *Decode* reads all weights and the KV cache again for each
token: few operations for each byte, so memory bandwidth limits it (the roofline model, Williams et al. 2009,
https://doi.org/10.1145/1498765.1498785). In both phases a token takes longer the more tokens precede it,
because it attends to all of them. Therefore the time of one token after d others is modelled as

    token_s + depth_s · d

The time of a whole prompt is the sum over its tokens, which is quadratic in its length. Both coefficients are
fitted to measured rates. To estimate another model on the same machine, the coefficients are scaled: for
prefill, `token_s` with the operations on the weights and `depth_s` with those of attention; for decode,
`token_s` with the bytes of the weights and `depth_s` with the bytes of the KV cache.

Units: tokens, seconds, bytes, tokens per second; a multiplication and an addition are two operations.
"""

from collections.abc import Sequence
from typing import Literal

import msgspec

KVCacheType = Literal["f16", "q8_0", "q4_0"]
TEXTBOOK_BYTES: dict[KVCacheType, float] = {"f16": 2.0, "q8_0": 1.0, "q4_0": 0.5}
"""Bytes per value of each type, without the scales of quantized blocks, which textbooks ignore."""
ContextClass = Literal["short", "medium", "long"]
SHORT_CTX, LONG_CTX = 10_000, 30_000
"""Limits of the context classes, in tokens: for short contexts any machine on which the model fits is fast
enough; for long ones prefill dominates."""


# Times.


class Phases(msgspec.Struct, frozen=True):
    """The time of the two phases of one request or several."""

    prefill_s: float
    decode_s: float

    @property
    def total_s(self) -> float:
        return self.prefill_s + self.decode_s

    @property
    def prefill_share(self) -> float:
        """Prefill as a share of the total, from 0 to 1."""
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
    """The requests of an agent's session. Each step sends the whole conversation again, longer by `n_added`
    tokens (the previous reply, the output of tools). If the prefix is reused, only these need prefill."""
    made: list[Step] = []
    for index in range(n_steps):
        n = n_prompt + index * n_added
        made.append(Step(n, n - n_added if reuses_prefix and index else 0, n_decoded))
    return tuple(made)


class Speed(msgspec.Struct, frozen=True):
    """Seconds for one token that follows `d` others: `token_s + depth_s · d`."""

    token_s: float
    depth_s: float = 0.0

    def duration_s(self, n_tokens: float, depth: float = 0.0) -> float:
        """Seconds for `n_tokens` tokens that follow `depth` others."""
        return n_tokens * self.token_s + self.depth_s * (n_tokens * depth + n_tokens**2 / 2)

    def rate(self, n_tokens: float, depth: float = 0.0) -> float:
        """Tokens per second, averaged over these tokens."""
        taken = self.duration_s(n_tokens, depth)
        return n_tokens / taken if taken > 0 else 0.0


def constant(rate: float) -> Speed:
    """The speed for a rate (tokens per second) that does not depend on depth."""
    return Speed(1 / rate)


class Measured(msgspec.Struct, frozen=True, array_like=True):
    """A rate (tokens per second) measured over `n_tokens` tokens that follow `depth` others, as
    `llama-bench -p N -d D` does."""

    depth: int
    n_tokens: int
    rate: float


def fit(measured: Sequence[Measured]) -> Speed:
    """Fit a speed to measured rates (at least one): least squares over the seconds per token.

    The result does not depend on depth if there is one rate only, or if rates rise with depth, which can only
    be noise or overhead.
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
    """The time of all steps, run one after another."""
    prefill_s = sum(prefill.duration_s(one.n_prompt - one.n_cached, one.n_cached) for one in session)
    decode_s = sum(decode.duration_s(one.n_decoded, one.n_prompt) for one in session)
    return Phases(prefill_s, decode_s)


# Models.


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """The properties of a model that determine time and memory."""

    name: str
    size_bytes: int = 0
    """Size of all weights."""
    n_active: int = 0
    """Parameters that are used for one token; fewer than all in a mixture of experts."""
    active_bytes: int = 0
    """Size of the weights that are used for one token."""
    n_layer: int
    """Number of layers with a KV cache."""
    n_head: int
    n_head_kv: int
    key_length: int
    value_length: int
    kv_values: int = 0
    """Values in the KV cache per token, over all layers; 0 means `n_layer · n_head_kv · (key + value)`."""
    n_ctx_train: int = 0

    @property
    def n_kv_values(self) -> int:
        return self.kv_values or self.n_layer * self.n_head_kv * (self.key_length + self.value_length)

    @property
    def attention_operations(self) -> int:
        """Operations of attention for one token and one token before it: the score and the weighted value, in
        all layers, for all query heads, even if they share KV heads (Hoffmann et al. 2022, appendix F,
        https://arxiv.org/abs/2203.15556)."""
        return 2 * self.n_layer * self.n_head * (self.key_length + self.value_length)

    @property
    def weight_operations(self) -> int:
        """Operations on the weights for one token: two per active parameter (Kaplan et al. 2020, section 2.1,
        https://arxiv.org/abs/2001.08361)."""
        return 2 * self.n_active


def textbook_kv_bytes(shape: Shape, kv_cache_type: KVCacheType) -> float:
    """Bytes of the KV cache per token by the formula that is often quoted,
    `2 · layers · heads · head size · bytes per value`. It is too high for most models, because it counts
    *query* heads instead of KV heads."""
    head = (shape.key_length + shape.value_length) / 2
    return 2 * shape.n_layer * shape.n_head * head * TEXTBOOK_BYTES[kv_cache_type]


def prefill_for(speed: Speed, measured_on: Shape, shape: Shape) -> Speed:
    """Estimate the prefill speed of `shape` from that of `measured_on` on the same machine.

    If the share of attention in the measurement is unknown, the operations of attention are assumed to be as
    fast as those on the weights, which is a lower bound of their time.
    """
    operation_s = speed.token_s / max(1, measured_on.weight_operations)
    per_pair = measured_on.attention_operations
    attention_s = speed.depth_s / per_pair if speed.depth_s and per_pair else operation_s
    return Speed(operation_s * shape.weight_operations, attention_s * shape.attention_operations)


def decode_for(
    speed: Speed, measured_on: Shape, shape: Shape, kv_bytes: float, measured_kv_bytes: float
) -> Speed:
    """Estimate the decode speed of `shape` from that of `measured_on` on the same machine.

    `kv_bytes` and `measured_kv_bytes` are the bytes of one token in the KV caches of the two models. If the
    share of the cache in the measurement is unknown (0), the cache is assumed to be read as fast as the
    weights.
    """
    byte_s = speed.token_s / max(1, measured_on.active_bytes)
    cache_byte_s = speed.depth_s / measured_kv_bytes if speed.depth_s and measured_kv_bytes else byte_s
    return Speed(byte_s * shape.active_bytes, cache_byte_s * kv_bytes)


# Ceilings.


def prefill_ceiling(shape: Shape, operations_s: float, n_tokens: int) -> float:
    """Upper bound of the prefill rate (tokens per second) for `n_tokens` on a machine with `operations_s`
    operations per second: the compute roofline."""
    operations = n_tokens * shape.weight_operations + n_tokens**2 / 2 * shape.attention_operations
    return n_tokens * operations_s / operations if operations else 0.0


def decode_ceiling(shape: Shape, bandwidth: float, kv_bytes_per_token: float, depth: int) -> float:
    """Upper bound of the decode rate (tokens per second) after `depth` tokens, with a memory bandwidth of
    `bandwidth` bytes per second: the bandwidth roofline for one token per pass. Drafts may exceed it, because
    they verify several tokens in one pass."""
    n_bytes = shape.active_bytes + kv_bytes_per_token * depth
    return bandwidth / n_bytes if n_bytes else 0.0


def compute_bound_from(shape: Shape, operations_s: float, bandwidth: float) -> float:
    """The number of tokens per pass above which compute, and not reading the weights, limits the pass."""
    return operations_s / bandwidth * shape.active_bytes / max(1, shape.weight_operations)


# Memory.


def largest_ctx(budget_bytes: float, fixed_bytes: float, bytes_per_token: float) -> int:
    """Tokens of context that fit into `budget_bytes` beside `fixed_bytes`; 0 if these do not fit
    themselves."""
    left = budget_bytes - fixed_bytes
    return max(0, int(left / bytes_per_token)) if bytes_per_token else 0


def context_class(n_ctx: int) -> ContextClass:
    """The class of a context: short (under 10,000 tokens), medium (up to 30,000), or long."""
    return "short" if n_ctx < SHORT_CTX else "medium" if n_ctx <= LONG_CTX else "long"
