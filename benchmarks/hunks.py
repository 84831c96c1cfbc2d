"""Mutated hunks against an oracle of their own: the right place, or a refusal.

    python benchmarks/hunks.py 100000 [--seed 1]

A run of lines of a document is quoted as models quote: with words changed, lines left out or twice, other
indentation, blanks at line ends, lines of elsewhere. Then the planner is asked to replace it, and the text
that comes of it is judged by an oracle that shares no code with the matcher:

- every line that is gone was quoted, white space aside; so no line is lost that the model did not name;
- nothing else changed, but for the new lines, which stand where those were;
- where the same lines stand in several places, it was the only one of them inside the selection.

`misquotes.py` asks besides whether what was wanted came of it, by kind of misquote.
"""

import argparse
import random
import sys
import time
from collections import Counter
from pathlib import Path

from singlepass.core.diff_parser import Hunk
from singlepass.core.edits import Snapshot, apply
from singlepass.core.planner import PlannedHunk, plan

ROOT = Path(__file__).parents[1]
_PATH = "a.py"
_NEW = ("replaced", "lines")


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


def bare(line: str) -> str:
    """A line without its white space."""
    return "".join(line.split())


def n_blank(lines: list[str]) -> int:
    """How many of the first lines are blank."""
    return next((n for n, line in enumerate(lines) if line.strip()), len(lines))


def check(
    document: list[str], start: int, old: list[str], eol: str, selection: tuple[int, int] | None, found: Hunks
) -> None:
    """Plan a hunk that was taken from the lines at `start`, and judge what came of it."""
    text = "".join(line + eol for line in document)
    hunk = Hunk(0, _PATH, tuple(old), _NEW)
    planned = plan(hunk, {_PATH: Snapshot(_PATH, 1, text)}, selection and (_PATH, *selection), ())
    if not isinstance(planned, PlannedHunk):
        found.counts[f"refused: {planned.reason}"] += 1
        return
    found.how[planned.how] += 1
    after = apply(text, planned.edits).split(eol)[:-1]
    case = f"{document!r}, from {start}: {old!r}, selection {selection}, became {after!r} ({planned.how})"
    at = next((n for n, line in enumerate(after) if line.strip() == _NEW[0]), -1)
    n_gone = len(document) - len(after) + len(_NEW)
    gone = document[at : at + n_gone]
    is_new = [line.strip() for line in after[at : at + len(_NEW)]] == [*_NEW]
    if (
        at < 0
        or not is_new
        or after != [*document[:at], *after[at : at + len(_NEW)], *document[at + n_gone :]]
    ):
        found.wrong.append(f"something outside changed: {case}")
        return
    if Counter(map(bare, gone)) - Counter(map(bare, old)):
        found.wrong.append(f"a line was lost: {case}")
        return
    # Of several places with these lines white space may tell which is meant, if it was quoted. Blank lines at
    # the borders of text were quoted too, and stay.
    front = back = 0
    if any(map(bare, old)):
        front = min(n_blank(old) - min(n_blank(old), n_blank(gone)), n_blank(document[:at][::-1]))
        n_last = n_blank(old[::-1])
        back = min(n_last - min(n_last, n_blank(gone[::-1])), n_blank(document[at + n_gone :]))
    quoted = document[at - front : at + n_gone + back]
    places = [n for n in range(len(document)) if document[n : n + len(quoted)] == quoted]
    if len(places) > 1:
        inside = [n for n in places if selection and selection[0] <= n and n + len(quoted) <= selection[1]]
        found.counts["ambiguous, the one in the selection"] += 1
        if inside != [at - front]:
            found.wrong.append(f"one of several places: {case}")
    else:
        found.counts["where it was taken from" if start <= at < start + len(old) else "another place"] += 1


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
