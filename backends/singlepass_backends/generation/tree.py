"""What may come next, as a tree of tokens that one pass verifies (sans-IO).

Where two guesses differ, both are tried: the model follows the one it agrees with, and nothing else is lost
but room in the pass. A tree grows from its most probable end (as in Li et al., "EAGLE-2", 2024). The
probability of a token after those above it comes from the guesses that go on with it there (`draft`, each
kind as often right as it was so far) and from what followed the same tokens in other places (`Places`); that
of a node is the product down to it. Nodes are numbered as they come, each after its parent, the most
probable first: so the first k of them are the best tree of k, and `pace` says how many are worth a pass.
"""

import heapq
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from singlepass_backends.generation.draft import Drafter, Kind

ROOT = -1
"""The place before the first token of a tree."""

_ORDER = 4
"""Most tokens of a place that are compared."""
_ESCAPE = (1.0, 0.7, 0.5, 0.4)
"""How many of so many tokens that followed a place are taken to be missing among those seen, by its order."""
_NEWEST, _RECENT, _ELSEWHERE = 3.0, 1.5, 0.5
"""What a token that followed in the reply counts, last and before, and one in another text, against one in
the prompt."""
_MOST_RECENT = 32
_MOST_SEEN = 96
"""Of a place that is everywhere so many occurrences are looked at."""
_WIDTH = 12
"""Most tokens that are tried at one place."""
_LEAST = 0.004
"""A node less probable than that is never worth its room."""
_SUREST = 0.98


@dataclass
class Tree:
    """Tokens that may follow, each under its parent; see the module."""

    tokens: list[int] = field(default_factory=list[int])
    parents: list[int] = field(default_factory=list[int])
    """For each token the number of the one before it, or `ROOT`."""
    gains: list[float] = field(default_factory=list[float])
    """How probable each is."""
    sources: list[tuple["Chain", ...]] = field(default_factory=list[tuple["Chain", ...]])
    """The guesses that each belongs to; none where it is from other places alone."""
    _under: dict[tuple[int, int], int] = field(default_factory=dict[tuple[int, int], int])

    @classmethod
    def path(cls, kind: Kind, tokens: Sequence[int]) -> "Tree":
        """Tokens one after the other."""
        tree, chain = cls(), Chain(kind, tokens)
        for token in tokens:
            tree.add(token, len(tree) - 1, 1.0, (chain,))
        return tree

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def is_path(self) -> bool:
        """Whether each token follows the one before it."""
        return self.parents == list(range(ROOT, len(self) - 1))

    def add(self, token: int, parent: int, gain: float, sources: tuple["Chain", ...]) -> int:
        """A further token; returns its number."""
        at = len(self.tokens)
        self._under[parent, token] = at
        self.tokens.append(token)
        self.parents.append(parent)
        self.gains.append(gain)
        self.sources.append(sources)
        return at

    def child(self, at: int, token: int) -> int | None:
        """The node of `token` after node `at`."""
        return self._under.get((at, token))

    def expects(self, at: int) -> Callable[[int], bool]:
        """Whether a token comes after node `at`."""
        return lambda token: (at, token) in self._under

    def first(self, n: int) -> "Tree":
        """The tree of the first `n` tokens."""
        if n >= len(self):
            return self
        under = {key: at for key, at in self._under.items() if at < n}
        return Tree(self.tokens[:n], self.parents[:n], self.gains[:n], self.sources[:n], under)

    def above(self, at: int) -> list[int]:
        """The tokens from the first down to node `at`."""
        found: list[int] = []
        while at != ROOT:
            found.append(self.tokens[at])
            at = self.parents[at]
        return found[::-1]


@dataclass(eq=False)
class Chain:
    """One guess, as tokens."""

    kind: Kind
    tokens: Sequence[int]


class _Live(NamedTuple):
    """A guess that is at its token `at` here."""

    chain: Chain
    at: int


class Places:
    """The places of a text, ordered by the tokens before them, the nearest first."""

    def __init__(self, tokens: Sequence[int]) -> None:
        text = np.array(tokens, np.int32)
        before = [np.concatenate((np.full(min(n, len(text)), -1, np.int32), text[:-n])) for n in _ORDERS]
        order = np.lexsort(before[::-1]) if len(text) else np.zeros(0, np.int64)
        self._before: list[NDArray[np.int32]] = [column[order] for column in before]
        self._next: NDArray[np.int32] = text[order]

    def after(self, end: Sequence[int]) -> list[list[int]]:
        """What follows where the last token of `end` stands, the last two, and so on while there is any."""
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
    """What followed the same tokens before: in the prompt, in other texts, and in the reply so far.

    Prediction by partial matching (Cleary and Witten, 1984): the longest equal ends count most, and each
    leaves a share to shorter ones for what has not been seen after it.
    """

    def __init__(self, prompt: Places, others: Iterable[Places] = ()) -> None:
        self._texts = [(prompt, 1.0), *((places, _ELSEWHERE) for places in others)]
        self._said: dict[tuple[int, ...], list[int]] = {}
        self._end: tuple[int, ...] = ()
        self._known: dict[tuple[int, ...], list[dict[int, float]]] = {}
        self._found: dict[int, dict[tuple[int, ...], Mapping[int, float]]] = {}
        """By the last token."""

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
        """The reply begins after these tokens."""
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
        """Counts of what follows the last token of `end`, the last two, and so on, without the reply."""
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

    def append(self, tokens: Sequence[int]) -> None:
        """`tokens` were added to the reply."""
        self._drafter.append(b"".join(map(self._piece, tokens)))
        self._continuations.append(tokens)

    def grow(
        self,
        n_most: int,
        n_branches: int,
        right: Callable[[Kind, bool], float],
        admits: Callable[[list[int]], bool],
        is_enough: Callable[[Sequence[float]], bool],
    ) -> Tree:
        """A tree of at most `n_most` tokens with at most `n_branches` ends, of tokens that the grammar
        `admits`. `right` is how often the first token of a kind of guess, or one after a right one, is right.
        It ends where its gains are enough."""
        tree = Tree()
        n_bytes = 8 * n_most
        text_of = right("text", True)
        n_ends, has_child, n_pushed = 1, set[int](), 0
        # (the most probable first, of several the one that came first, parent, token, guesses that go on,
        # guesses that it is from, the text before it)
        ends: list[tuple[float, int, int, int, list[_Live], tuple[Chain, ...], bytes]] = []

        def look(gain: float, at: int, path: list[int], live: list[_Live], said: bytes) -> None:
            nonlocal n_pushed
            if said.endswith(b"\n") or not said:
                live = live + [
                    _Live(Chain(kind, self._tokenize(text[:n_bytes])), 0)
                    for kind, text in self._drafter.starts(said)
                ]
            found: dict[int, float] = {}
            going: dict[int, list[_Live]] = {}
            rest = 1.0
            for one in live:
                if one.at < len(one.chain.tokens):
                    token = one.chain.tokens[one.at]
                    share = rest * right(one.chain.kind, one.at == 0)
                    found[token] = found.get(token, 0.0) + share
                    rest -= share
                    going.setdefault(token, []).append(one)
            for token, share in self._continuations.after(path).items():
                found[token] = found.get(token, 0.0) + rest * text_of * share
            for token, share in _best(found):
                probable = gain * min(share, _SUREST)
                if probable < _LEAST:
                    break
                here = going.get(token, ())
                after = [_Live(one.chain, one.at + 1) for one in here]
                n_pushed += 1
                sources = tuple(one.chain for one in here)
                heapq.heappush(ends, (-probable, n_pushed, at, token, after, sources, said))

        live = [_Live(Chain(kind, self._tokenize(text)), 0) for kind, text in self._drafter.guesses(n_bytes)]
        look(1.0, ROOT, [], live, self._drafter.text)
        while ends and len(tree) < n_most and not is_enough(tree.gains):
            gain, _, parent, token, live, sources, said = heapq.heappop(ends)
            if parent in has_child and n_ends == n_branches:
                continue
            path = [*tree.above(parent), token]
            if not admits(path):
                continue
            n_ends += parent in has_child
            has_child.add(parent)
            at = tree.add(token, parent, -gain, sources)
            look(-gain, at, path, live, said + self._piece(token))
        return tree
