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

from singlepass_backends.generation.drafting.draft import Drafter, Kind, Place

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
    probabilities: list[float] = field(default_factory=list[float])
    """How probable each is."""
    forced: list[bool] = field(default_factory=list[bool])
    """Whether the grammar admits nothing else in its place."""
    guessed: list[tuple["Guessed", ...]] = field(default_factory=list[tuple["Guessed", ...]])
    """The guesses that say so; none where it is from other places alone."""
    _under: dict[tuple[int, int], int] = field(default_factory=dict[tuple[int, int], int])

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def is_path(self) -> bool:
        """Whether each token follows the one before it."""
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
        """A further token; returns its number."""
        at = len(self.tokens)
        self._under[parent, token] = at
        self.tokens.append(token)
        self.parents.append(parent)
        self.probabilities.append(probability)
        self.forced.append(forced)
        self.guessed.append(guessed)
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
        return Tree(
            self.tokens[:n],
            self.parents[:n],
            self.probabilities[:n],
            self.forced[:n],
            self.guessed[:n],
            under,
        )

    def above(self, at: int) -> list[int]:
        """The tokens from the first down to node `at`."""
        found: list[int] = []
        while at != ROOT:
            found.append(self.tokens[at])
            at = self.parents[at]
        return found[::-1]


class Guessed(NamedTuple):
    """Who says that a token comes."""

    kind: Kind
    place: Place
    rank: int
    """So many guesses are asked before, and if one of them is right this one says nothing of its habit."""


class _Live(NamedTuple):
    """A guess that is at its token `at` here."""

    kind: Kind
    tokens: Sequence[int]
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
        self._unread: list[int] = []

    def append(self, tokens: Sequence[int]) -> None:
        """`tokens` were added to the reply. Looked at when a tree is wanted, if one ever is."""
        self._unread += tokens

    def grow(
        self,
        n_most: int,
        n_branches: int,
        right: Callable[[Kind, Place], float],
        forced_after: Callable[[list[int]], list[int] | None],
        is_enough: Callable[[Tree], bool],
    ) -> Tree:
        """A tree of at most `n_most` tokens with at most `n_branches` ends. `right` is how often a token of a
        kind of guess is right at a place of it. `forced_after` tokens the grammar admits only these, in this
        order; None where it refuses those. It ends where it is enough."""
        self._drafter.append(b"".join(map(self._piece, self._unread)))
        self._continuations.append(self._unread)
        self._unread.clear()
        tree = Tree()
        n_bytes = 8 * n_most
        text_of = right("text", "first")
        n_ends, has_child, n_pushed = 1, set[int](), 0
        # (the most probable first, of several the one that came first, parent, token, guesses that go on,
        # guesses that it is from, the text before it, what is forced from it on)
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
                    already = found.get(token, 0.0)  # who says the same is no second witness
                    share = max(0.0, rest * right(one.kind, here) - already)
                    found[token] = already + share
                    rest -= share
                    going.setdefault(token, []).append(one._replace(at=one.at + 1))
                    guessed.setdefault(token, []).append(Guessed(one.kind, here, rank))
            if forced:
                found = {forced[0]: 1.0}
            else:
                for token, share in self._continuations.after(path).items():
                    found[token] = found.get(token, 0.0) + rest * text_of * share
            for token, share in _best(found):
                probable = gain * (1.0 if forced else min(share, _SUREST))
                if probable < _LEAST:
                    break
                n_pushed += 1
                after, by = going.get(token, []), tuple(guessed.get(token, ()))
                heapq.heappush(ends, (-probable, n_pushed, at, token, after, by, said, forced))

        live = [_Live(kind, self._tokenize(text), 0) for kind, text in self._drafter.guesses(n_bytes)]
        look(1.0, ROOT, [], live, self._drafter.text, [])
        while ends and len(tree) < n_most and not is_enough(tree):
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
