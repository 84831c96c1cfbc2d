"""Sentences about a request's timings, progress and cache misses, shared by all that show them."""

from singlepass_backends.base import Miss, Timings


def seconds(ms: float) -> str:
    """`0.31 s`, `12.4 s`, `2 min 5 s`; three significant digits are enough for a wait."""
    value = ms / 1000
    if value >= 99.5:
        minutes, rest = divmod(round(value), 60)
        return f"{minutes} min {rest} s"
    return f"{value:.2f} s" if value < 9.995 else f"{value:.1f} s"


def count(number: int, thing: str) -> str:
    """`1 token`, `8,219 tokens`."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def tokens_per_second(n_tokens: int, ms: float) -> float:
    """Tokens per second; 0 if no time was measured."""
    return n_tokens / ms * 1000 if ms > 0 else 0.0


def timings_sentence(
    timings: Timings, total_ms: float, ttft_ms: float | None, connect_ms: float = 0.0
) -> str:
    """One line that says where the time went.

    `total_ms` and `ttft_ms` count from the command; `connect_ms` is the time to attach to the engine, or to
    start it and load the model; the rest comes from the backend. Forced and drafted tokens are listed
    separately, since they were not decoded one by one.
    """
    parts = [
        f"{seconds(total_ms)}: prefill {timings.n_prefilled:,} new + "
        f"{count(timings.n_cached, 'cached token')} in {seconds(timings.prefill_ms)}"
    ]
    if connect_ms >= 100:
        parts.append(f"engine ready after {seconds(connect_ms)}")
    if timings.queue_ms >= 100:
        parts.append(f"waited {seconds(timings.queue_ms)}")
    if ttft_ms is not None:
        parts.append(f"first token {seconds(ttft_ms)}")
    free = [
        f"{n:,} {what}" for n, what in ((timings.n_forced, "forced"), (timings.n_accepted, "drafted")) if n
    ]
    decoded = f"{count(timings.n_decoded, 'token')} in {seconds(timings.decode_ms)}"
    parts.append(decoded + (f" ({', '.join(free)})" if free else ""))
    return ", ".join(parts)


def prefill_message(n_prompt: int, n_cached: int, n_done: int, eta_ms: float | None) -> str:
    """The progress message during prefill."""
    if n_prompt == 0:
        return "prefill"
    percent = 100 * n_done // n_prompt
    parts = [f"prefill {percent}% of {count(n_prompt, 'token')}"]
    if n_cached:
        parts.append(f"{100 * n_cached // n_prompt}% cached")
    if eta_ms is not None and n_done < n_prompt:
        parts.append(f"{seconds(eta_ms)} left")
    return " · ".join(parts)


def decode_message(n_decoded: int, rate: float, n_hunks: int) -> str:
    """The progress message during decoding."""
    return f"{count(n_decoded, 'token')} · {rate:.0f} tok/s · {count(n_hunks, 'hunk')}"


def miss_sentence(miss: Miss, saved_s_ago: float | None = None) -> str:
    """Why tokens were not cached and had to be prefilled.

    `saved_s_ago` is the time since the file of that segment was last saved, if it was.
    """
    again = f"{count(miss.n_tokens, 'token')} read again"
    name = f"`{miss.segment}`"
    match miss.reason:
        case "new":
            return f"{name} is new to the prompt: {count(miss.n_tokens, 'token')} read"
        case "changed" if saved_s_ago is not None:
            return f"{name} was saved {seconds(saved_s_ago * 1000)} ago: {again}"
        case "changed":
            return f"{name} changed: {again}"
        case "evicted":
            return f"the cache had no room left for {name}: {again}"
        case "moved":
            return f"what stands before {name} changed: {again}"
        case "unfinished":
            return f"the prewarm of {name} was not finished: {count(miss.n_tokens, 'token')} were left"
        case "restart":
            return f"the engine was started anew: {again}, from {name} on"
