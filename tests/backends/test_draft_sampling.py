"""Sampling with drafts draws from the model's own distribution: counted over thousands of replies.

The model knows four letters and the end of its turn, and what comes next depends on the last two tokens, so
the probability of each beginning of a reply can be computed. Seeds are fixed: a result is the same each time.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pytest
from fake_driver import END, N_VOCAB, FakeDriver
from numpy.typing import NDArray
from singlepass_backends.base import (
    Draft,
    Finished,
    GenerateRequest,
    Sampling,
    Segment,
    TextChunk,
)
from singlepass_backends.generation.driver import Logits
from singlepass_backends.generation.loop import InProcessBackend
from singlepass_backends.generation.reply import Reply
from unlimited import Unlimited

TOKENS = (*b"abcd", END)
TABLE = np.random.default_rng(7).normal(0, 1.3, (5, 5, 5)).astype(np.float32)
"""Logits of the five tokens, by the last two."""
N_TOKENS = 3
"""Of each reply that are looked at."""
N_REPLIES = 4000


def index(token: int) -> int:
    return TOKENS.index(token) if token in TOKENS else 4


class TinyModel(FakeDriver):
    """Logits from `TABLE`; nothing but its five tokens has any probability."""

    def logits_after(self, cells: list[int]) -> NDArray[np.float32]:
        values = np.full(N_VOCAB, -1e4, np.float32)
        values[[*TOKENS]] = TABLE[index(cells[-2]), index(cells[-1])]
        return values


@dataclass(frozen=True)
class Case:
    """A way to sample, and the grammar with the letters it admits at each place."""

    temperature: float
    top_p: float
    grammar: str | None = None
    admitted: tuple[str, ...] = ()

    def probabilities(self, said: str) -> dict[int, float]:
        """Of each next token, from the definitions: temperature, then the fewest tokens that reach top-p."""
        text = "\n" * 2 + said
        logits = TABLE[index(ord(text[-2])), index(ord(text[-1]))].astype(float)
        allowed = set(self.admitted[len(said)].encode()) if self.admitted else set(TOKENS)
        weights = {
            token: math.exp(logit / self.temperature)
            for token, logit in zip(TOKENS, logits, strict=True)
            if token in allowed
        }
        total, before = sum(weights.values()), 0.0
        kept: dict[int, float] = {}
        for token, weight in sorted(weights.items(), key=lambda item: -item[1]):
            if before < self.top_p * total:
                kept[token] = weight
            before += weight
        return {token: weight / sum(kept.values()) for token, weight in kept.items()}

    def beginnings(self, said: str = "") -> Iterator[tuple[str, float]]:
        """Every reply, or its first tokens, with its probability."""
        for token, probability in self.probabilities(said).items():
            text = said if token == END else said + chr(token)
            if token == END or len(text) == N_TOKENS:
                yield text + "." * (token == END), probability
            else:
                yield from ((more, probability * rest) for more, rest in self.beginnings(text))


CASES = (
    Case(1.0, 1.0),
    Case(0.7, 0.8),
    Case(1.4, 0.95, "start: /[abc][bcd][ad]/", ("abc", "bcd", "ad")),
)


def replies(case: Case, n: int = N_REPLIES) -> tuple[Counter[str], int, int]:
    """How often each beginning was said, how many tokens were drafted and how many of them accepted."""
    backend = InProcessBackend(TinyModel(n_batch=64), pace=Unlimited())
    found: Counter[str] = Counter()
    n_drafted = n_accepted = 0
    for seed in range(n):
        request = GenerateRequest(
            (Segment("task", "cab bad dab"),),
            case.grammar,
            max_tokens=N_TOKENS,
            sampling=Sampling(case.temperature, case.top_p, seed),
            draft=Draft(("abca", "cbda", "bdda", "adab")[seed % 4], "<", "=", ">"),
        )
        *events, finished = backend.generate(request, lambda: False)
        text = "".join(event.text for event in events if isinstance(event, TextChunk))
        assert isinstance(finished, Finished)
        found[text + "." * (len(text) < N_TOKENS)] += 1
        n_drafted += finished.timings.n_drafted
        n_accepted += finished.timings.n_accepted
    return found, n_drafted, n_accepted


def chi_square(case: Case, found: Counter[str]) -> tuple[float, int]:
    """Pearson's statistic and its degrees of freedom; beginnings that are seldom are counted together."""
    n_replies = found.total()
    expected = {text: n_replies * probability for text, probability in case.beginnings()}
    assert math.isclose(sum(expected.values()), n_replies)
    assert set(found) <= set(expected), "nothing is said that has no probability"
    bins: list[tuple[float, int]] = [(0.0, 0)]
    for text, n in sorted(expected.items(), key=lambda item: item[1]):
        if bins[-1][0] >= 5:
            bins.append((0.0, 0))
        bins[-1] = bins[-1][0] + n, bins[-1][1] + found[text]
    return sum((seen - n) ** 2 / n for n, seen in bins), len(bins) - 1


def limit(n_free: int, deviations: float) -> float:
    """The quantile of chi-square that lies so many standard deviations out (Wilson and Hilferty, 1931)."""
    variance = 2 / (9 * n_free)
    return n_free * (1 - variance + deviations * math.sqrt(variance)) ** 3


@pytest.mark.parametrize("case", CASES)
def test_drafts_leave_the_distribution_as_it_is(case: Case) -> None:
    found, n_drafted, n_accepted = replies(case)
    assert n_drafted > n_accepted > N_REPLIES / 10, "drafts were tried, and some were right"
    statistic, n_free = chi_square(case, found)
    assert n_free >= 7
    assert statistic < limit(n_free, 3.1), (statistic, n_free)  # one in a thousand is over it


IsExpected = Callable[[int], bool]
Rule = Callable[[Reply, Logits, IsExpected], int]
draw = Reply._pick


def always(reply: Reply, logits: Logits, is_expected: IsExpected) -> int:
    """Take whatever was drafted."""
    return next(filter(is_expected, TOKENS), None) or draw(reply, logits, is_expected)


def likely(reply: Reply, logits: Logits, is_expected: IsExpected) -> int:
    """Take what was drafted if nothing is much likelier."""
    expected = next(filter(is_expected, TOKENS), None)
    if expected is not None and logits[expected] > logits.max() - 0.5:
        return expected
    return draw(reply, logits, is_expected)


def twice(reply: Reply, logits: Logits, is_expected: IsExpected) -> int:
    """Take one with the model's probability, else draw from all and not from the others alone."""
    token = draw(reply, logits, is_expected)
    is_other = any(map(is_expected, TOKENS)) and not is_expected(token)
    return draw(reply, logits, is_expected) if is_other else token


@pytest.mark.parametrize("rule", [always, likely, twice])
def test_a_wrong_rule_of_acceptance_would_be_seen(rule: Rule, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Reply, "_pick", rule)
    statistic, n_free = chi_square(CASES[0], replies(CASES[0], 1000)[0])
    assert statistic > limit(n_free, 6)
