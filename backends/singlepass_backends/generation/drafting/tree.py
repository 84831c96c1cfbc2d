"""Draft trees: the tokens that may come next, all verified by one forward pass (sans-IO).

Theory of operation. If two guesses differ, both are drafted: the model follows the branch that it agrees
with, and the other only costs its share of the pass. A tree is grown best-first, as in Li et al., "EAGLE-2"
(2024). The probability of a token given its ancestors is a mixture of the guesses that predict it (`draft`,
each weighted by the acceptance rate of its kind) and of what followed the same tokens elsewhere
(`Continuations`); that of a node is the product along its path. Nodes are numbered in order of probability,
each after its parent, so the first k of them are the best tree of size k; `pace` chooses k.
"""

import heapq
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from singlepass_backends.generation.drafting.draft import Drafter, Kind, Place

ROOT = -1
"""The parent of a tree's first tokens: the end of the reply so far."""

_ORDER = 4
"""The longest context that is matched, in tokens."""
_ESCAPE = (1.0, 0.7, 0.5, 0.4)
"""Escape weights of prediction by partial matching: for each token seen after a context of 1, 2, … tokens,
how many unseen ones are expected."""
_NEWEST, _RECENT, _ELSEWHERE = 3.0, 1.5, 0.5
"""Weights of an occurrence relative to one in the prompt: the last one in the reply, earlier ones in the
reply, and one in the draft corpus."""
_MOST_RECENT = 32
"""Number of occurrences in the reply that are counted, the latest ones."""
_MOST_SEEN = 96
"""Number of occurrences of a context in a text that are counted; more frequent contexts are sampled
evenly."""
_WIDTH = 12
"""Maximum number of children of a node that are considered."""
_LEAST = 0.004
"""Nodes less probable than this are never drafted."""
_SUREST = 0.98
"""Upper bound of the probability of a token that the grammar does not force."""


@dataclass
class Tree:
    """Drafted tokens by number, each after its parent."""

    tokens: list[int] = field(default_factory=list[int])
    parents: list[int] = field(default_factory=list[int])
    """The number of each token's predecessor, or `ROOT`."""
    probabilities: list[float] = field(default_factory=list[float])
    """Probability that each token and all its ancestors are accepted."""
    forced: list[bool] = field(default_factory=list[bool])
    """Whether the grammar admits nothing else after the parent."""
    guessed: list[tuple["Guessed", ...]] = field(default_factory=list[tuple["Guessed", ...]])
    """The guesses that predict each token; none if only `Continuations` does."""
    _under: dict[tuple[int, int], int] = field(default_factory=dict[tuple[int, int], int])

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def is_path(self) -> bool:
        """Whether the tree has no branches."""
        return self.parents == list(range(ROOT, len(self) - 1))

    def add(
        self,
        token: int,
        parent: int,
        probability: float,
        guessed: tuple["Guessed", ...],
        *,
        forced: bool = False,
    ) -> int:
        """Add a token; returns its number."""
        at = len(self.tokens)
        self._under[parent, token] = at
        self.tokens.append(token)
        self.parents.append(parent)
        self.probabilities.append(probability)
        self.forced.append(forced)
        self.guessed.append(guessed)
        return at

    def child(self, at: int, token: int) -> int | None:
        """The number of `token` after node `at`; None if it was not drafted."""
        return self._under.get((at, token))

    def expects(self, at: int) -> Callable[[int], bool]:
        """A predicate: whether a token was drafted after node `at`."""
        return lambda token: (at, token) in self._under

    def first(self, n: int) -> "Tree":
        """The tree of the `n` most probable tokens."""
        if n >= len(self):
            return self
        under = {key: at for key, at in self._under.items() if at < n}
        return Tree(
            self.tokens[:n],
            self.parents[:n],
            self.probabilities[:n],
            self.forced[:n],
            self.guessed[:n],
            under,
        )

    def above(self, at: int) -> list[int]:
        """The path to node `at`, itself included."""
        found: list[int] = []
        while at != ROOT:
            found.append(self.tokens[at])
            at = self.parents[at]
        return found[::-1]


class Guessed(NamedTuple):
    """A guess that predicts a token."""

    kind: Kind
    place: Place
    rank: int
    """Guesses that take precedence here. If one of them is right, this one counts as neither right nor
    wrong."""


class _Live(NamedTuple):
    """A guess whose first `at` tokens are on the current path."""

    kind: Kind
    tokens: Sequence[int]
    at: int


class Places:
    """An index of a text: its positions, sorted by the tokens before them, the nearest token first."""

    def __init__(self, tokens: Sequence[int]) -> None:
        text = np.array(tokens, np.int32)
        before = [np.concatenate((np.full(min(n, len(text)), -1, np.int32), text[:-n])) for n in _ORDERS]
        order = np.lexsort(before[::-1]) if len(text) else np.zeros(0, np.int64)
        self._before: list[NDArray[np.int32]] = [column[order] for column in before]
        self._next: NDArray[np.int32] = text[order]

    def after(self, end: Sequence[int]) -> list[list[int]]:
        """The tokens that followed the last token of `end`, the last two, and so on while these contexts
        occur."""
        low, high = 0, len(self._next)
        found: list[list[int]] = []
        for token, column in zip(reversed(end), self._before, strict=False):
            part = column[low:high]
            low, high = (
                low + int(np.searchsorted(part, token)),
                low + int(np.searchsorted(part, token, "right")),
            )
            if low == high:
                break
            found.append(self._next[low : high : max(1, (high - low) // _MOST_SEEN)].tolist())
        return found


_ORDERS = range(1, _ORDER + 1)


class Continuations:
    """Prediction by partial matching (Cleary and Witten, 1984) over prompt, draft corpus and reply so far.

    The longest context that occurred counts most, and leaves an escape probability to shorter ones, for
    tokens that were not seen after it.
    """

    def __init__(self, prompt: Places, others: Iterable[Places] = ()) -> None:
        self._texts = [(prompt, 1.0), *((places, _ELSEWHERE) for places in others)]
        self._said: dict[tuple[int, ...], list[int]] = {}
        self._end: tuple[int, ...] = ()
        self._known: dict[tuple[int, ...], list[dict[int, float]]] = {}
        self._found: dict[int, dict[tuple[int, ...], Mapping[int, float]]] = {}
        """Cached mixed probabilities, by the last token of the context and by the context."""

    def append(self, tokens: Iterable[int]) -> None:
        """`tokens` are the next ones of the reply."""
        for token in tokens:
            for n in range(1, len(self._end) + 1):
                self._said.setdefault(self._end[-n:], []).append(token)
            if self._end:
                self._found.pop(self._end[-1], None)
            self._end = (*self._end, token)[-_ORDER:]

    def after(self, path: Sequence[int]) -> Mapping[int, float]:
        """The probabilities of tokens after the reply so far and `path`."""
        end = (*self._end, *path)[-_ORDER:]
        if not end:
            return {}
        known = self._found.setdefault(end[-1], {})
        found = known.get(end)
        if found is None:
            found = known[end] = self._mixed(end)
        return found

    def begin(self, end: Sequence[int]) -> None:
        """The reply begins after `end`, the end of the prompt."""
        self._end = tuple(end[-_ORDER:])

    def _mixed(self, end: tuple[int, ...]) -> Mapping[int, float]:
        known = self._known.get(end)
        if known is None:
            known = self._known[end] = self._elsewhere(end)
        found: dict[int, float] = {}
        left = 1.0
        for n in range(len(end), 0, -1):
            counts = dict(known[n - 1]) if n <= len(known) else {}
            for at, token in enumerate(reversed(self._said.get(end[-n:], ())[-_MOST_RECENT:])):
                counts[token] = counts.get(token, 0.0) + (_RECENT if at else _NEWEST)
            if not counts:
                continue
            unseen = len(counts) * _ESCAPE[n - 1]
            total = sum(counts.values()) + unseen
            for token, count in counts.items():
                found[token] = found.get(token, 0.0) + left * count / total
            left *= unseen / total
            if left < _LEAST:
                break
        return dict(_best(found))

    def _elsewhere(self, end: tuple[int, ...]) -> list[dict[int, float]]:
        """Weighted counts in prompt and corpus of what follows contexts of 1, 2, … tokens."""
        found: list[dict[int, float]] = []
        for places, weight in self._texts:
            for n, tokens in enumerate(places.after(end)):
                if n == len(found):
                    found.append({})
                counts = found[n]
                for token in tokens:
                    counts[token] = counts.get(token, 0.0) + weight
        return found


def _best(found: Mapping[int, float]) -> list[tuple[int, float]]:
    """The most probable tokens first."""
    return sorted(found.items(), key=lambda item: -item[1])[:_WIDTH]


class Guesser:
    """Grows trees for one reply."""

    def __init__(
        self,
        drafter: Drafter,
        continuations: Continuations,
        tokenize: Callable[[bytes], list[int]],
        piece: Callable[[int], bytes],
    ) -> None:
        self._drafter = drafter
        self._continuations = continuations
        self._tokenize = tokenize
        self._piece = piece
        self._unread: list[int] = []

    def append(self, tokens: Sequence[int]) -> None:
        """`tokens` were added to the reply. They are processed when the next tree is grown."""
        self._unread += tokens

    def grow(
        self,
        n_most: int,
        n_branches: int,
        acceptance: Callable[[Kind, Place], float],
        forced_after: Callable[[list[int]], list[int] | None],
        is_saturated: Callable[[Tree], bool],
    ) -> Tree:
        """A tree of at most `n_most` tokens with at most `n_branches` leaves; it stops growing once
        `is_saturated`. `acceptance` returns the acceptance rate of a kind of guess at a place.
        `forced_after` returns the tokens that the grammar forces after a path, None if it rejects the
        path."""
        self._drafter.append(b"".join(map(self._piece, self._unread)))
        self._continuations.append(self._unread)
        self._unread.clear()
        tree = Tree()
        n_bytes = 8 * n_most
        text_share = acceptance("text", "first")
        n_ends, has_child, n_pushed = 1, set[int](), 0
        # A heap of candidates: (-probability, order of arrival, parent, token, guesses that continue with it,
        # guesses that predict it, the text before it, the tokens forced from it on).
        ends: list[tuple[float, int, int, int, list[_Live], tuple[Guessed, ...], bytes, list[int]]] = []

        def look(
            gain: float, at: int, path: list[int], live: list[_Live], said: bytes, forced: list[int]
        ) -> None:
            nonlocal n_pushed
            if said.endswith(b"\n") or not said:
                live = live + [
                    _Live(kind, self._tokenize(text[:n_bytes]), 0)
                    for kind, text in self._drafter.starts(said)
                ]
            found: dict[int, float] = {}
            going: dict[int, list[_Live]] = {}
            guessed: dict[int, list[Guessed]] = {}
            rest = 1.0
            place: Place = "line" if said.endswith(b"\n") else "within"
            for rank, one in enumerate(live):
                if one.at < len(one.tokens):
                    token, here = one.tokens[one.at], place if one.at else "first"
                    already = found.get(token, 0.0)  # guesses that agree are not independent evidence
                    share = max(0.0, rest * acceptance(one.kind, here) - already)
                    found[token] = already + share
                    rest -= share
                    going.setdefault(token, []).append(one._replace(at=one.at + 1))
                    guessed.setdefault(token, []).append(Guessed(one.kind, here, rank))
            if forced:
                found = {forced[0]: 1.0}
            else:
                for token, share in self._continuations.after(path).items():
                    found[token] = found.get(token, 0.0) + rest * text_share * share
            for token, share in _best(found):
                probable = gain * (1.0 if forced else min(share, _SUREST))
                if probable < _LEAST:
                    break
                n_pushed += 1
                after, by = going.get(token, []), tuple(guessed.get(token, ()))
                heapq.heappush(ends, (-probable, n_pushed, at, token, after, by, said, forced))

        live = [_Live(kind, self._tokenize(text), 0) for kind, text in self._drafter.guesses(n_bytes)]
        look(1.0, ROOT, [], live, self._drafter.text, [])
        while ends and len(tree) < n_most and not is_saturated(tree):
            gain, _, parent, token, live, by, said, forced = heapq.heappop(ends)
            if parent in has_child and n_ends == n_branches:
                continue
            path = [*tree.above(parent), token]
            rest = forced[1:] or forced_after(path)
            if rest is None:
                continue
            n_ends += parent in has_child
            has_child.add(parent)
            at = tree.add(token, parent, -gain, by, forced=bool(forced))
            look(-gain, at, path, live, said + self._piece(token), rest)
        return tree
