"""Which of several targets serves a request, and when another would be better (sans-IO).

A rule for the action's kind or the language has priority. Otherwise it is the first allowed target, in the
user's order, that is expected to finish within `max_wait_s`, or else the fastest allowed one, judging from
earlier requests on this machine (`estimate.py`). A target without measurements cannot be compared: if it is
the first one, it is used, and so measured; otherwise it is skipped and mentioned. A target that is not
allowed in this workspace is never chosen, whatever a rule says.
"""

from collections.abc import Mapping, Sequence

import msgspec

from singlepass.config import Route
from singlepass.core.report import seconds
from singlepass.stats.estimate import Rates, duration_ms, prefill_ms

MANY_ITERATIONS = 5
LONG_PREFILL_S = 20.0
"""Advice is given after this many iterations with at least this prefill time each."""


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """A target's state at the moment of the request; candidates are in the user's order."""

    name: str
    is_remote: bool = False
    is_allowed: bool = True
    """Whether it may be used: remote targets must be allowed for the workspace."""
    rates: Rates | None = None
    """None until a job has been measured."""
    n_cached: int = 0
    """Tokens of the request's prompt that the target has cached."""


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """A request, as far as it matters for routing."""

    n_prompt: int
    """Tokens of the whole prompt."""
    n_reply: int
    """Expected tokens of the reply."""
    kind: str = ""
    language: str = ""


class Routed(msgspec.Struct, frozen=True, kw_only=True):
    """The target to use, and the reason."""

    target: str | None
    """None if none is allowed."""
    why: str
    estimate_s: float | None = None
    """None for a target without measurements."""


class Option(msgspec.Struct, frozen=True, kw_only=True):
    """One way to serve a request, and how long it would take."""

    target: str
    estimate_s: float | None
    prefill_s: float | None
    is_here: bool = False
    """Whether this target served the earlier requests."""
    is_remote: bool = False


class Advice(msgspec.Struct, frozen=True, kw_only=True):
    """Advice for a task whose iterations are too slow on this target, with numbers."""

    n_iterations: int
    """Earlier requests at the same place whose prefill took `LONG_PREFILL_S` or longer."""
    prefill_s: tuple[float, ...]
    """Their prefills, the oldest first."""
    options: tuple[Option, ...]
    """The same target again, and every other allowed target."""
    text: str


def estimate_s(candidate: Candidate, request: Request) -> float | None:
    """Seconds that `candidate` would take; None if its rates are unknown."""
    if candidate.rates is None:
        return None
    n_new, n_cached = _new_and_cached(candidate, request)
    return duration_ms(candidate.rates, n_new, request.n_reply, n_cached) / 1000


def _prefill_s(candidate: Candidate, request: Request) -> float | None:
    if candidate.rates is None:
        return None
    return prefill_ms(candidate.rates, *_new_and_cached(candidate, request)) / 1000


def _new_and_cached(candidate: Candidate, request: Request) -> tuple[int, int]:
    """Uncached and cached tokens of the prompt."""
    n_cached = min(candidate.n_cached, request.n_prompt)
    return request.n_prompt - n_cached, n_cached


def route(
    request: Request, candidates: Sequence[Candidate], routes: Sequence[Route] = (), max_wait_s: float = 10.0
) -> Routed:
    """The target for `request` among `candidates`, which are in the user's order."""
    by_name = {candidate.name: candidate for candidate in candidates}
    ruled, ignored = _by_rule(request, by_name, routes)
    if ruled is not None:
        why = f"a rule sends {_what(ruled)} to `{ruled.target}`"
        return Routed(target=ruled.target, why=why, estimate_s=estimate_s(by_name[ruled.target], request))
    allowed = [candidate for candidate in candidates if candidate.is_allowed]
    if not allowed:
        return Routed(target=None, why=ignored + "no target is allowed in this workspace")
    return _by_estimate(request, allowed, max_wait_s, ignored)


def compare(request: Request, candidates: Sequence[Candidate], here: str) -> tuple[Option, ...]:
    """Compares `request` on the target `here` with every other allowed target."""
    shown = [one for one in candidates if one.name == here]
    shown += [one for one in candidates if one.name != here and one.is_allowed]
    return tuple(
        Option(
            target=one.name,
            estimate_s=estimate_s(one, request),
            prefill_s=_prefill_s(one, request),
            is_here=one.name == here,
            is_remote=one.is_remote,
        )
        for one in shown
    )


def advise(
    prefills_s: Sequence[float], request: Request, candidates: Sequence[Candidate], here: str
) -> Advice | None:
    """Advice for repeated requests at the same lines, whose earlier prefills took `prefills_s`, the oldest
    first.

    None unless `MANY_ITERATIONS` of them took `LONG_PREFILL_S` or longer each: then the time is spent on
    prefilling the same text, and the user should change the way of working, or the target.
    """
    slow = tuple(one for one in prefills_s if one >= LONG_PREFILL_S)
    if len(slow) < MANY_ITERATIONS:
        return None
    options = compare(request, candidates, here)
    listed = ", ".join(f"{'again on ' if one.is_here else ''}`{one.target}` {_told(one)}" for one in options)
    return Advice(
        n_iterations=len(slow),
        prefill_s=slow,
        options=options,
        text=f"{len(slow)} requests here took {seconds(min(slow) * 1000)} to {seconds(max(slow) * 1000)} of "
        f"prefill each, {seconds(sum(slow) * 1000)} in all. Give the task less context or cut it into "
        f"smaller ones, or take another target: {listed}.",
    )


def _by_rule(
    request: Request, by_name: Mapping[str, Candidate], routes: Sequence[Route]
) -> tuple[Route | None, str]:
    """The first matching rule whose target can be used, and a remark on those that cannot."""
    ignored = ""
    for rule in routes:
        if not _matches(rule, request):
            continue
        candidate = by_name.get(rule.target)
        if candidate and candidate.is_allowed:
            return rule, ignored
        reason = "is not allowed in this workspace" if candidate else "is not among the targets"
        ignored += f"a rule names `{rule.target}`, which {reason}; "
    return None, ignored


def _matches(rule: Route, request: Request) -> bool:
    is_kind = any(request.kind == kind or request.kind.startswith(f"{kind}.") for kind in rule.kinds)
    return (is_kind or not rule.kinds) and (not rule.languages or request.language in rule.languages)


def _what(rule: Route) -> str:
    kinds, languages = " and ".join(rule.kinds), " and ".join(rule.languages)
    return f"{kinds or 'every action'} in {languages}" if languages else kinds or "everything"


def _by_estimate(request: Request, allowed: Sequence[Candidate], max_wait_s: float, ignored: str) -> Routed:
    estimates = [(estimate_s(candidate, request), candidate) for candidate in allowed]
    first_s, first = estimates[0]
    if first_s is None:
        return Routed(target=first.name, why=f"{ignored}`{first.name}` was not measured yet, so it is tried")
    measured = [(needed, candidate) for needed, candidate in estimates if needed is not None]
    unmeasured = [f"`{candidate.name}`" for needed, candidate in estimates if needed is None]
    within = [pair for pair in measured if pair[0] <= max_wait_s]
    needed, chosen = within[0] if within else min(measured, key=lambda pair: pair[0])
    wait, most = seconds(needed * 1000), seconds(max_wait_s * 1000)
    if len(allowed) == 1:
        why = f"`{chosen.name}` is the only target allowed"
    elif within and chosen is first:
        why = f"`{chosen.name}` comes first, and about {wait} is within {most}"
    elif within:
        why = f"`{first.name}` would take about {seconds(first_s * 1000)}, `{chosen.name}` about {wait}"
    else:
        why = f"no target is expected within {most}; `{chosen.name}` is the fastest with about {wait}"
    others = f"; {', '.join(unmeasured)} not measured yet" if unmeasured else ""
    return Routed(target=chosen.name, why=ignored + why + others, estimate_s=needed)


def _told(option: Option) -> str:
    if option.estimate_s is None or option.prefill_s is None:
        return "not measured yet"
    return f"about {seconds(option.estimate_s * 1000)} ({seconds(option.prefill_s * 1000)} of prefill)"
