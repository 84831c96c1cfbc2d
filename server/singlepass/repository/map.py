"""The repository map: the definitions that the rest of the repository refers to most, within a budget.

Theory of operation
===================

Files refer to each other by the names they use and by what they import. A reference passes a file's weight
on to the files that define the name, and the weights settle as in PageRank: what important files use is
important. A definition's score is what flows to it along its own name.

The map is the first segment of every prompt after the system text, so a change in it invalidates everything
after it. Therefore it does not depend on the edited file; definitions are *chosen* by score but *sorted* by
path and line, so that small changes of the ranking do not change the text; and a map is kept until it is
outdated enough (`drift`) and the user is not waiting (`next_step`).
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import msgspec

from singlepass.repository.outline import Outline, Outlines, definers, family

DRIFT = 0.15
"""A map is rebuilt when more than this share of its lines would change."""
IDLE_S = 3.0
"""Seconds without typing and without a job before a new map may come into use."""

_MAX_DEFINERS = 8
"""A name that more files define is ignored, since it is unclear which of them is meant."""
_N_ROUNDS = 20
_DAMPING = 0.85
_IMPORTED, _SAME_PACKAGE, _ELSEWHERE = 1.0, 0.5, 0.05
"""Weights of a reference to a definition in another file: one that is imported; one that need not be
imported, as in Go or Java; one that would have to be imported but is not, so that the name is most likely
local."""
_NEEDS_IMPORT = frozenset({"python", "js", "rust", "c", "lua", "bash"})
_PRIVATE = 0.1
_NESTED = 0.3
_PLAIN_WORD = 0.3
"""Weight of names such as `lines` or `message`, which are also common names of variables."""
_MAX_LINE = 200
_N_MISSES = 50
"""Number of consecutive definitions that do not fit into the budget before choosing stops."""


def build_map(outlines: Outlines, budget: int, imports: Mapping[str, Sequence[str]] | None = None) -> str:
    """The map's text, at most `budget` characters; empty if nothing fits or there is nothing to show.

    `imports` are the resolved imports by path, if known.
    """
    paths = sorted(outlines)
    scores = _scores(outlines, paths, imports or {})
    chosen = _choose(outlines, paths, scores, budget)
    return "".join(_render(outlines[paths[idx]], paths[idx], chosen[idx]) for idx in sorted(chosen))


def _render(outline: Outline, path: str, chosen: set[int]) -> str:
    return f"{path}\n" + "".join(_line(outline, idx) for idx in sorted(chosen))


def _line(outline: Outline, idx: int) -> str:
    one = outline.definitions[idx]
    text = f"{one.signature}  # {one.doc}" if one.doc else one.signature
    return f"{'  ' * (one.depth + 1)}{text[:_MAX_LINE]}\n"


# Choosing.


def _choose(outlines: Outlines, paths: Sequence[str], scores: "_Scores", budget: int) -> dict[int, set[int]]:
    """Definitions by file, the best first until the budget is used up, each with its enclosing
    definitions."""
    ranked = sorted(
        (-score, file, idx)
        for file, path in enumerate(paths)
        for idx, score in _definition_scores(outlines[path], file, scores)
    )
    chosen: dict[int, set[int]] = {}
    n_misses = 0
    for _, file, idx in ranked:
        outline = outlines[paths[file]]
        have = chosen.get(file, set())
        new = {idx, *_around(outline, idx)} - have
        n_chars = sum(len(_line(outline, one)) for one in new)
        if not have:
            n_chars += len(paths[file]) + 1
        if n_chars > budget:
            n_misses += 1
            if n_misses > _N_MISSES:
                break
            continue
        n_misses = 0
        budget -= n_chars
        chosen[file] = have | new
    return chosen


def _around(outline: Outline, idx: int) -> Iterator[int]:
    """The enclosing definitions of one, innermost first."""
    depth = outline.definitions[idx].depth
    while depth and idx:
        idx -= 1
        if outline.definitions[idx].depth < depth:
            depth = outline.definitions[idx].depth
            yield idx


class _Scores(msgspec.Struct):
    ranks: list[float]
    """By file."""
    names: dict[tuple[int, str], float]
    """By file and name."""


def _definition_scores(outline: Outline, file: int, scores: _Scores) -> Iterator[tuple[int, float]]:
    n_of = Counter(one.name for one in outline.definitions)
    # Definitions without references fill the rest of the budget, those in important files first.
    rest = 0.01 * scores.ranks[file] / (1 + len(outline.definitions))
    for idx, one in enumerate(outline.definitions):
        if not one.name:
            continue
        score = scores.names.get((file, one.name), 0.0) / n_of[one.name] + (0.0 if one.depth else rest)
        if one.name.startswith("_"):
            score *= _PRIVATE
        if one.depth:
            score *= _NESTED
        if one.name.isalpha() and one.name.islower():
            score *= _PLAIN_WORD
        if score:
            yield idx, score


# Ranking.


def _scores(outlines: Outlines, paths: Sequence[str], imports: Mapping[str, Sequence[str]]) -> _Scores:
    """The weight of each file and of each name in it. Sums run in the order of `paths`, so the result is
    deterministic."""
    n_files = len(paths)
    index = {path: idx for idx, path in enumerate(paths)}
    known = definers(outlines, paths)
    imported = [{index[other] for other in imports.get(path, ()) if other in index} for path in paths]

    flows: list[dict[int, float]] = []
    for file, path in enumerate(paths):
        flow: dict[int, float] = dict.fromkeys(sorted(imported[file] - {file}), 1.0)
        for referenced, _, weight in _references(outlines[path], file, imported[file], known):
            flow[referenced] = flow.get(referenced, 0.0) + weight
        flows.append(flow)
    totals = [sum(flow.values()) for flow in flows]

    ranks = [1.0] * n_files
    for _ in range(_N_ROUNDS):
        # The weight of files without references is distributed to all files.
        lost = sum(rank for rank, total in zip(ranks, totals, strict=True) if not total)
        following = [1 - _DAMPING + _DAMPING * lost / max(1, n_files)] * n_files
        for file, flow in enumerate(flows):
            if flow:
                share = _DAMPING * ranks[file] / totals[file]
                for referenced, weight in flow.items():
                    following[referenced] += share * weight
        ranks = following

    names: dict[tuple[int, str], float] = {}
    for file, path in enumerate(paths):
        if totals[file]:
            share = ranks[file] / totals[file]
            for referenced, name, weight in _references(outlines[path], file, imported[file], known):
                names[referenced, name] = names.get((referenced, name), 0.0) + share * weight
    return _Scores(ranks, names)


def _references(
    outline: Outline, file: int, imported: set[int], known: Mapping[tuple[str, str], Sequence[int]]
) -> Iterator[tuple[int, str, float]]:
    """(file, name, weight) of a file's references to other files. Names that it defines itself do not
    count."""
    kin = family(outline.language)
    other = _ELSEWHERE if kin in _NEEDS_IMPORT else _SAME_PACKAGE
    for name in outline.references:
        files = known.get((kin, name))
        if files is None or len(files) > _MAX_DEFINERS or file in files:
            continue
        weights = [_IMPORTED if referenced in imported else other for referenced in files]
        total = sum(weights)
        for referenced, weight in zip(files, weights, strict=True):
            yield referenced, name, weight * weight / total


# Keeping an old map.


def drift(old: str, new: str) -> float:
    """How much two maps differ: the share of their lines that only one of them has, 0 to 1."""
    one, other = Counter(_entries(old)), Counter(_entries(new))
    n_all = (one | other).total()
    return 1 - (one & other).total() / n_all if n_all else 0.0


def drifted(old: str, outlines: Outlines, budget: int, imports: Mapping[str, Sequence[str]]) -> str | None:
    """A new map if the old one is outdated enough to justify another prefill, else None."""
    new = build_map(outlines, budget, imports)
    return new if drift(old, new) > DRIFT or len(old) > budget else None


def _entries(text: str) -> Iterator[tuple[str, str]]:
    """The lines of a map with their file's path."""
    path = ""
    for line in text.split("\n"):
        if line.startswith(" "):
            yield path, line
        else:
            path = line


Step = Literal["nothing", "wait", "ask", "adopt"]


def next_step(
    *, stale: bool, ready: bool, busy: bool, idle_s: float, built_s_ago: float, cost_s: float
) -> Step:
    """What to do about the map now.

    `stale`: files changed since the last request for a map; `ready`: a new map is not in use yet; `busy`: a
    job is running. A new map invalidates the prewarmed context, so it is adopted only when idle; and building
    one takes a second for 20,000 files, so that may take at most a hundredth of the time.
    """
    if not (stale or ready):
        return "nothing"
    if busy or idle_s < IDLE_S:
        return "wait"
    if ready:
        return "adopt"
    return "ask" if built_s_ago >= 100 * cost_s else "wait"
