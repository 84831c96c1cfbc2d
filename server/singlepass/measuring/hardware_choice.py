"""Recommends hardware for a model and a context, and whether to iterate, with the reasons (sans-IO).

Takes what `calculator` computed and decides by three questions, in this order: does the model fit with its
KV cache, how long does a request take, and which phase takes that long. The reasons are sentences with the
numbers in them, so that a user can disagree.
"""

from collections.abc import Sequence

import msgspec

from singlepass.core.report import seconds
from singlepass.measuring.calculator import (
    LONG_CTX,
    SHORT_CTX,
    KVCacheType,
    Phases,
    Shape,
    context_class,
    textbook_kv_bytes,
)

PATIENCE_S = 10.0
"""Seconds that users wait for an edit before they do something else."""
_CLOSE = 1.15
"""Machines within this factor count as equally fast, since the figures come from different sources."""
_BOUND = 0.6
"""A phase with this share of the time counts as the bottleneck."""


class Option(msgspec.Struct, frozen=True, kw_only=True):
    """One piece of hardware for one model and one context."""

    name: str
    title: str
    usable_bytes: int = 0
    """Memory that the model may take; 0 where that is unknown."""
    needed_bytes: int = 0
    """By weights, KV cache and the runtime's buffers."""
    largest_ctx: int = 0
    """Tokens that fit, at most those that the model was trained with."""
    cold: Phases | None = None
    """Of a request of which nothing is cached; None without rates."""
    warm: Phases | None = None
    """Of the same with all but the new tokens cached."""
    prefill_ceiling: float | None = None
    """Tokens a second; None where the machine's compute is unknown."""
    decode_ceiling: float | None = None
    basis: str = ""
    """What the times were computed from."""
    is_rough: bool = False
    """Whether the rates were measured at a context so different that they say little about this one."""
    is_here: bool = False
    """This machine, by its own measurements."""

    @property
    def fits(self) -> bool:
        return not self.usable_bytes or self.needed_bytes <= self.usable_bytes


class Recommendation(msgspec.Struct, frozen=True):
    """The recommended option, and the reasons."""

    name: str | None
    """None if no option fits and has known rates."""
    reasons: tuple[str, ...]


def recommend(options: Sequence[Option], n_ctx: int) -> Recommendation:
    """The option to take for a context of `n_ctx` tokens."""
    reasons = [_class_sentence(n_ctx)]
    out = [one for one in options if not one.fits]
    reasons += (
        f"{one.title} is too small: {gib(one.needed_bytes)} are needed and {gib(one.usable_bytes)} can "
        "be used" + (f", enough for {one.largest_ctx:,} tokens" if one.largest_ctx else "")
        for one in out
    )
    unknown = [one for one in options if one.fits and one.cold is None]
    reasons += (f"{one.title} has no published rates, so it cannot be compared" for one in unknown)
    known = [(one.cold.total_s, one) for one in options if one.fits and one.cold is not None]
    if not known:
        return Recommendation(None, tuple(reasons))
    known.sort(key=lambda pair: pair[0])
    best_s, best = known[0]
    reasons.append(_best_sentence(best, known[1:]))
    if best.is_rough or any(one.is_rough for _, one in known[1:]):
        rough = " and ".join(one.title for _, one in known if one.is_rough)
        reasons.append(
            f"the rates of {rough} were measured with much shorter prompts: expect lower ones at this length"
        )
    assert best.cold is not None
    reasons.append(bound_sentence(best.cold))
    reasons.append(_where_sentence(best, best_s))
    return Recommendation(best.name, tuple(reasons))


def bound_sentence(cold: Phases) -> str:
    """Which phase is the bottleneck of a request."""
    share = cold.prefill_share
    percent = f"{100 * share:.1f}%"
    if share >= _BOUND:
        return f"prefill is {percent} of a cold request, so compute and the prefix cache matter most"
    if share <= 1 - _BOUND:
        return f"prefill is {percent} of a cold request, so decode and memory bandwidth matter most"
    return f"prefill is {percent} of a cold request, so compute and memory bandwidth both matter"


class LoopAdvice(msgspec.Struct, frozen=True, kw_only=True):
    """Compares a loop that prefills its context in each iteration with a single request."""

    n_iterations: int
    loop: Phases
    loop_cached: Phases
    """The loop with a prefix cache."""
    once: Phases
    text: str


def advise_loop(n_iterations: int, loop: Phases, loop_cached: Phases, once: Phases) -> LoopAdvice:
    """Whether to loop, in a sentence with its numbers."""
    text = (
        f"{n_iterations} iterations take {seconds(loop.total_s * 1000)}, with a prefix cache "
        f"{seconds(loop_cached.total_s * 1000)}, and a single request takes {seconds(once.total_s * 1000)}: "
    )
    if loop_cached.total_s <= PATIENCE_S:
        text += "with the cache, a loop is fast enough"
    elif once.total_s <= PATIENCE_S:
        text += "put everything the task needs into one prompt and ask once"
    else:
        text += "ask once, with the context prewarmed, or with less context"
    return LoopAdvice(n_iterations=n_iterations, loop=loop, loop_cached=loop_cached, once=once, text=text)


def textbook_remarks(shape: Shape, kv_cache_type: KVCacheType, real_bytes: float) -> tuple[str, ...]:
    """Remarks on common rules of thumb that are wrong for this model. `real_bytes` is its KV cache per
    token."""
    textbook = textbook_kv_bytes(shape, kv_cache_type)
    remarks: list[str] = []
    if real_bytes and textbook / real_bytes >= _CLOSE:
        shared = (
            f"{shape.n_head // shape.n_head_kv} query heads share each of its {shape.n_head_kv} KV heads"
            if 0 < shape.n_head_kv < shape.n_head
            else "it stores less than a key and a value for each head"
        )
        remarks.append(
            f"the textbook formula gives {textbook / real_bytes:.1f} times the real KV cache: {shared}"
        )
    elif real_bytes and real_bytes / textbook > 1:
        remarks.append(
            f"the real KV cache is {real_bytes / textbook:.2f} times that of the textbook formula, because "
            "quantized values are stored in blocks with a scale"
        )
    return tuple(remarks)


def gib(n_bytes: float) -> str:
    """`7.4 GiB`, `512 MiB`."""
    return f"{n_bytes / 2**30:.1f} GiB" if n_bytes >= 2**30 else f"{n_bytes / 2**20:.0f} MiB"


def _class_sentence(n_ctx: int) -> str:
    match context_class(n_ctx):
        case "short":
            what = f"short (below {SHORT_CTX:,}): any hardware that fits the model is fast enough"
        case "medium":
            what = (
                f"medium ({SHORT_CTX:,} to {LONG_CTX:,}): a cold prompt means a wait, a cached one does not"
            )
        case "long":
            what = f"long (above {LONG_CTX:,}): prefill dominates, so compute matters more than bandwidth"
    return f"a context of {n_ctx:,} tokens is {what}"


def _best_sentence(best: Option, others: Sequence[tuple[float, Option]]) -> str:
    assert best.cold is not None
    told = f"{best.title} takes {seconds(best.cold.total_s * 1000)} for a cold request"
    if best.warm is not None:
        told += f" and {seconds(best.warm.total_s * 1000)} for a warm one"
    if not others:
        return told
    second_s, second = others[0]
    factor = second_s / best.cold.total_s if best.cold.total_s else 1.0
    if factor < _CLOSE:
        return f"{told}; {second.title} is about as fast, so the price decides"
    return f"{told}, {factor:.1f} times as fast as {second.title}"


def _where_sentence(best: Option, cold_s: float) -> str:
    warm_s = best.warm.total_s if best.warm else cold_s
    if cold_s <= PATIENCE_S:
        return f"a local model is fast enough: even a cold request takes at most {PATIENCE_S:.0f} s"
    if warm_s <= PATIENCE_S:
        return (
            f"a local model is fast enough once the context is prewarmed ({seconds(warm_s * 1000)}); a "
            "remote "
            "target is worth it only if each request needs a new context"
        )
    return (
        f"even a warm request takes {seconds(warm_s * 1000)}: use a smaller model, or a remote target if "
        "your code may be sent there"
    )
