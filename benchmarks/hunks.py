"""Mutated hunks against an oracle of their own: the right place, or a refusal.

    python benchmarks/hunks.py 100000 [--seed 1]

A run of lines of a document is quoted as models quote: with words changed, lines left out or twice, other
indentation, blanks at line ends, lines of elsewhere. Then the planner is asked. The oracle knows where the
quotation was taken from, and compares it with *every* place of the document in a way that shares no code with
the matcher: how many lines are equal, equal but for blanks, and how many pairs of characters differ. A hunk
is in the wrong place when it was planned neither where it was taken from nor at a place that resembles the
quotation at least as much. Where several places are the same to the letter, or but for blanks at line ends,
it must be the only one inside the selection. Whatever is planned must leave every character outside alone.
"""

import argparse
import functools
import random
import sys
import time
from collections import Counter
from pathlib import Path

from singlepass.core.diff_parser import Hunk
from singlepass.core.edits import Snapshot, apply
from singlepass.core.lines import split_lines, visible_lines
from singlepass.core.planner import PlannedHunk, plan

ROOT = Path(__file__).parents[1]
_PATH = "a.py"


class Hunks:
    """What became of the hunks."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.how: Counter[str] = Counter()
        """Planned hunks by how they were found."""
        self.wrong: list[str] = []

    @property
    def n(self) -> int:
        return sum(self.counts.values())


def documents(chance: random.Random) -> list[list[str]]:
    """Parts of this repository's sources, and texts in which much is repeated."""
    found: list[list[str]] = []
    files = sorted((ROOT / "server").rglob("*.py"))
    for path in chance.sample(files, min(len(files), 30)):
        lines = path.read_text(encoding="utf-8").splitlines()
        start = chance.randrange(max(1, len(lines) - 50))
        found.append(lines[start : start + 50])
    words = ["", "x = 1", "    return x", "    return y", "def f(x):", "}", "\tend", "# a", "x = 2"]
    found += [[chance.choice(words) for _ in range(chance.randint(1, 40))] for _ in range(30)]
    return [lines for lines in found if lines]


def mutated(lines: list[str], document: list[str], chance: random.Random) -> list[str]:
    """The lines as a model might quote them."""
    lines = list(lines)
    for _ in range(chance.choice([0, 0, 1, 1, 1, 2, 3])):
        at = chance.randrange(len(lines)) if lines else 0
        line = lines[at] if lines else ""
        place = chance.randrange(len(line) + 1)
        match chance.randrange(10):
            case 0:
                lines[at:at] = [chance.choice(document)]
            case 1:
                del lines[at : at + 1]
            case 2:
                lines[at : at + 1] = [line, line]
            case 3:
                lines[at : at + 1] = [line + chance.choice([" ", "  ", "\t"])]
            case 4:
                shift = chance.choice(["    ", "\t", "  "])
                lines = [shift + one if one else one for one in lines]
            case 5:
                lines = [one[min(4, len(one) - len(one.lstrip())) :] for one in lines]
            case 6:
                lines[at : at + 1] = [line[:place] + chance.choice("axz_(") + line[place:]]
            case 7:
                lines[at : at + 1] = [line[:place] + line[place + 1 :]]
            case 8:
                words = line.split(" ")
                chance.shuffle(words)
                lines[at : at + 1] = [" ".join(words)]
            case _:
                lines[at : at + 1] = [chance.choice(document)]
    return lines


@functools.lru_cache(maxsize=200_000)
def _pairs(line: str) -> Counter[str]:
    line = " ".join(line.split())
    return Counter(line[n : n + 2] for n in range(len(line) - 1)) + Counter(line)


@functools.lru_cache(maxsize=200_000)
def _distance(a: str, b: str) -> int:
    if a.split() == b.split():
        return 0
    first, second = _pairs(a), _pairs(b)
    return ((first - second) + (second - first)).total() or 1


def likeness(window: list[str], old: list[str]) -> tuple[int, ...]:
    """How far a place is from the quotation: smaller is more alike."""
    if window == old:
        return (0,)
    if [line.rstrip() for line in window] == [line.rstrip() for line in old]:
        return (1,)
    return (2, sum(map(_distance, window, old)))


def check(
    document: list[str], start: int, old: list[str], eol: str, selection: tuple[int, int] | None, found: Hunks
) -> None:
    """Plan a hunk that was taken from the lines at `start`, and judge what came of it."""
    text = "".join(line + eol for line in document)
    shown = visible_lines(text)
    hunk = Hunk(0, _PATH, tuple(old), ("replaced", "lines"))
    planned = plan(hunk, {_PATH: Snapshot(_PATH, 1, text)}, selection and (_PATH, *selection), ())
    if not isinstance(planned, PlannedHunk):
        found.counts[f"refused: {planned.reason}"] += 1
        return
    found.how[planned.how] += 1
    starts = [line.start for line in split_lines(text)]
    at = starts.index(planned.start)
    every = [likeness(shown[n : n + len(old)], old) for n in range(len(shown) - len(old) + 1)]
    case = f"{document!r}, from {start}: {old!r}, selection {selection}, planned at {at} ({planned.how})"
    best = min(every)
    same = [n for n, one in enumerate(every) if one == best]
    inside = [n for n in same if selection and selection[0] <= n and n + len(old) <= selection[1]]
    if best[0] < 2 and len(same) > 1:
        right = inside == [at]
        found.counts["ambiguous, the one in the selection" if right else "ambiguous"] += 1
    else:
        right = at == start or every[at] <= every[start] if start < len(every) else every[at] == best
        found.counts["where it was taken from" if at == start else "a place more alike"] += 1
    if not right:
        found.wrong.append(case)
    after = apply(text, planned.edits)
    n_behind = len(text) - planned.end
    is_before = after[: planned.start] == text[: planned.start]
    if not is_before or after[len(after) - n_behind :] != text[planned.end :]:
        found.wrong.append(f"something outside changed: {case}")


def run(n: int, seed: int = 1) -> Hunks:
    """So many hunks."""
    chance, found = random.Random(seed), Hunks()
    texts: list[list[str]] = []
    while found.n < n:
        if found.n % 2000 == 0:
            texts = documents(chance)
        document = chance.choice(texts)
        start = chance.randrange(len(document))
        old = mutated(document[start : start + chance.randint(1, 6)], document, chance)
        if not old:
            found.counts["nothing quoted"] += 1
            continue
        first = chance.randrange(len(document))
        selection = chance.choice([None, (first, min(len(document), first + chance.randint(1, 12)))])
        check(document, start, old, chance.choice(["\n", "\n", "\r\n"]), selection, found)
    return found


def main() -> None:
    """Try the hunks and say how it went."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("n", type=int, nargs="?", default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    started = time.process_time()
    found = run(arguments.n, arguments.seed)
    print(f"{found.n:,} hunks in {time.process_time() - started:.0f} s of the processor")
    for what, n in found.counts.most_common():
        print(f"{n:8,} {what}")
    print("planned: " + ", ".join(f"{n:,} {how}" for how, n in found.how.most_common()))
    print(f"{len(found.wrong)} in the wrong place")
    for one in found.wrong[:10]:
        print(one)
    sys.exit(1 if found.wrong else 0)


if __name__ == "__main__":
    main()
