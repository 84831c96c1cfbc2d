"""How often an edit is placed right, refused, or applied wrongly, where a model does not quote as it should.

    python benchmarks/misquotes.py [--blocks 200] [--seed 1] [--sources python,javascript,c] [--show KIND]

A change is made to lines of a real file (`changes.py`), so what the user wants is known. A model's block for
it is written, misquoted in one way (`habits.py`, `slips.py`), or with markers and paths that are not as asked
for (`replying.py`), and read by the parser and the planner as the server does it. The oracle compares texts:

- *right*: every file reads as the user wants. Lines that the model did not mean to change are as they were,
  to the last blank; at the end of lines that it wrote, blanks count for nothing.
- *refused*: nothing was changed, or whole blocks were done and others not, and the user was told.
- *wrong*: all else, and what is right but told in more than one message of refusal.
- *lines lost*: lines with code that the user keeps and that are not in the file any more, not even alike.

Ends with code 1 if more than 1% of a row is wrong, or a line is lost.
"""

import argparse
import difflib
import random
import re
import sys
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import habits
import slips
from changes import SOURCES, Document, change, documents, occurrences
from habits import Kind
from replying import KINDS as REPLIES
from replying import Reply, single
from singlepass.core.diff_parser import DiffParser, HunkDropped, HunkFinished
from singlepass.core.edits import Snapshot, apply
from singlepass.core.grammar import marker_size
from singlepass.core.planner import PlannedHunk, plan, reject_dropped

MOST_WRONG = 0.01
_LEAST_ALIKE = 0.7
"""From how alike, 0 to 1, a line is taken for a changed version of another and not for its loss."""
_TRIES = 300
"""How many changes are tried for each block that is wanted."""

MISQUOTES = {kind.name: kind for kind in (*habits.kinds(), *slips.kinds())}
KINDS = (*MISQUOTES, *REPLIES)

What = Literal["right", "refused", "wrong"]


class Verdict(NamedTuple):
    """What became of one reply."""

    what: What
    n_lost: int
    """Lines with code."""


def run(
    reply: str, files: Mapping[str, str], selection: tuple[str, int, int] | None = None
) -> tuple[dict[str, str], list[str]]:
    """The files after the reply, and the messages about what was not applied. The only way into the product.

    `selection` is a path and the selected lines, end exclusive.
    """
    parser = DiffParser(marker_size([*files, *files.values()]), files)
    snapshots = {path: Snapshot(path, 1, text) for path, text in files.items()}
    taken: list[PlannedHunk] = []
    told: list[str] = []
    for event in parser.feed(reply) + parser.close():
        if isinstance(event, HunkDropped):
            told.append(reject_dropped(event).message)
        if isinstance(event, HunkFinished):
            planned = plan(event.hunk, snapshots, selection, taken)
            if isinstance(planned, PlannedHunk):
                taken.append(planned)
            else:
                told.append(planned.message)
    after = {
        path: apply(text, [edit for one in taken if one.snapshot.uri == path for edit in one.edits])
        for path, text in files.items()
    }
    return after, told


# The oracle.


def judge(reply: Reply, after: dict[str, str], told: Sequence[str]) -> Verdict:
    """What became of a reply."""
    own = {line.rstrip("\r\n") for text in reply.files.values() for line in _lines(text)}
    for wanted in reply.accepted:
        if all(_is_same(after[path], text, own) for path, text in wanted.items()):
            return Verdict("right" if len(told) < 2 else "wrong", 0)
    if told and after in [reply.files, *reply.partial]:
        return Verdict("refused", 0)
    wanted = reply.accepted[0]
    return Verdict("wrong", sum(n_lost(reply.files[path], wanted[path], after[path]) for path in wanted))


def _lines(text: str) -> list[str]:
    """With their line ends."""
    return re.findall(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+", text)


def _is_same(text: str, wanted: str, own: set[str]) -> bool:
    """Equal, but for blanks at the end of lines that are not the document's own."""
    if text == wanted:
        return True
    lines, wanted_lines = _lines(text), _lines(wanted)
    if len(lines) != len(wanted_lines):
        return False
    for line, right in zip(lines, wanted_lines, strict=True):
        content, right_content = line.rstrip("\r\n"), right.rstrip("\r\n")
        if line[len(content) :] != right[len(right_content) :]:
            return False
        if content != right_content and (right_content in own or content.rstrip() != right_content.rstrip()):
            return False
    return True


def n_lost(before: str, wanted: str, after: str) -> int:
    """How many lines with code of the text before, which the wanted one keeps, are gone without one alike."""
    was, right, now = (
        Counter(unicodedata.normalize("NFKC", line).strip() for line in _lines(text))
        for text in (before, wanted, after)
    )
    kept = was & right
    added = [*(now - right).elements()]
    n = 0
    for line in (kept - now).elements():
        if not re.search(r"\w", line):
            continue
        ratios = [difflib.SequenceMatcher(None, line, other, autojunk=False).ratio() for other in added]
        if ratios and max(ratios) >= _LEAST_ALIKE:
            del added[ratios.index(max(ratios))]
        else:
            n += 1
    return n


# The replies.


def _misquoted(kind: Kind, pool: Sequence[Document], chance: random.Random) -> Reply | None:
    done = change(chance.choice(pool), chance, chance.choice(kind.changes) if kind.changes else None)
    block = None if done is None else kind.misquote(done, chance)
    if block is None:
        return None
    lines, at = block.change.document.lines, block.change.at
    # What happens to be the exact text of another place says that other place.
    elsewhere = [n for n in occurrences(lines, block.search) if n != at]
    return None if elsewhere or block.accepted[0] == block.change.old else single(block)


def replies(name: str, n: int, pool: Sequence[Document], chance: random.Random) -> list[Reply]:
    """So many replies of a kind, or fewer where the documents do not have it."""
    found: list[Reply] = []
    for _ in range(_TRIES * n):
        if len(found) == n:
            break
        kind = MISQUOTES.get(name)
        reply = _misquoted(kind, pool, chance) if kind else REPLIES[name](pool, chance)
        if reply is not None:
            found.append(reply)
    return found


class Row(NamedTuple):
    """What became of the replies of one kind."""

    kind: str
    counts: Counter[str]
    n_lost: int
    n_with_loss: int
    bad: list[str]
    """The wrong ones in full."""

    @property
    def is_good(self) -> bool:
        """Whether it is as promised."""
        return self.counts["wrong"] <= MOST_WRONG * self.counts.total() and not self.n_lost


def measure(name: str, n: int, pool: Sequence[Document], seed: int) -> Row:
    """One row of the table. Rows do not depend on each other."""
    counts: Counter[str] = Counter()
    n_lines = n_with_loss = 0
    bad: list[str] = []
    for reply in replies(name, n, pool, random.Random(f"{seed} {name}")):
        after, told = run(reply.text, reply.files)
        verdict = judge(reply, after, told)
        counts[verdict.what] += 1
        n_lines += verdict.n_lost
        n_with_loss += verdict.n_lost > 0
        if verdict.what == "wrong":
            bad.append(_shown(reply, after, told))
    return Row(name, counts, n_lines, n_with_loss, bad)


def _shown(reply: Reply, after: dict[str, str], told: Sequence[str]) -> str:
    parts = [reply.text]
    for path, text in reply.accepted[0].items():
        for title, other in (("wanted", text), ("got", after[path])):
            before, now = reply.files[path].splitlines(), other.splitlines()
            parts.append(
                f"{title}:\n" + "\n".join(difflib.unified_diff(before, now, path, path, lineterm=""))
            )
    return "\n".join([*parts, f"told: {[*told]}", ""])


def table(rows: Sequence[Row]) -> str:
    """The rows in Markdown."""
    lines = [
        "| how it was misquoted | n | right | refused | wrong | with code lost | lines lost |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        n = row.counts.total()
        shares = [f"{row.counts[what] / n:.1%}" if n else "" for what in ("right", "refused", "wrong")]
        mark = "" if row.is_good else "**"
        shares[2] = f"{mark}{shares[2]}{mark}"
        lost = f"{row.n_with_loss / n:.1%}" if n else ""
        lines.append(f"| {row.kind} | {n} | {' | '.join(shares)} | {lost} | {row.n_lost} |")
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--blocks", type=int, default=200, help="how many for each kind")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--sources", default=",".join(SOURCES), help=f"some of {', '.join(SOURCES)}")
    parser.add_argument(
        "--show", metavar="KIND", help="only kinds with this in their name, wrong ones in full"
    )
    arguments = parser.parse_args()
    pool = documents(arguments.sources.split(","), 240, random.Random(arguments.seed))
    names = [name for name in KINDS if (arguments.show or "") in name]
    if not pool or not names:
        sys.exit(
            "no such file is on this machine" if names else f"no kind has “{arguments.show}” in its name"
        )
    languages = Counter(document.language for document in pool)
    print(
        f"{len(pool)} documents: " + ", ".join(f"{n} of {x.suffixes[0]}" for x, n in languages.most_common())
    )
    rows: list[Row] = []
    for name in names:
        rows.append(measure(name, arguments.blocks, pool, arguments.seed))
        if arguments.show:
            print(f"\n{name}\n" + "\n".join(rows[-1].bad))
    print(table(rows))
    counts = sum((row.counts for row in rows), Counter[str]())
    shares = ", ".join(
        f"{counts[what] / counts.total():.1%} {what}" for what in ("right", "refused", "wrong")
    )
    print(f"{counts.total():,} replies: {shares}; {sum(row.n_lost for row in rows):,} lines with code lost")
    sys.exit(0 if all(row.is_good for row in rows) else 1)


if __name__ == "__main__":
    main()
