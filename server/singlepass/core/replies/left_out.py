"""Whether a rewrite is complete: which lines it leaves out, and whether they are meant to be deleted.

A rewrite is supposed to have all lines, but models often repeat only those that they change. Lines without a
counterpart in the rewrite would be deleted. Therefore a rewrite counts as complete only if

- each definition, and each other outermost block, is in it (perhaps elsewhere or renamed) and not empty;
- names that it uses are still defined, if the lines that defined them are gone or changed;
- it begins where the old text begins;
- there is evidence of what became of the lines that are gone (`Accounts`), or the rewrite is a shorter
version of the whole text; - no line outside the selection is gone and, if nothing is selected, no large share
of the file.
"""

import itertools
import re
from collections.abc import Mapping, Sequence

from singlepass.core.replies.definitions import COMMENT, CONTROL, WORD, defined_name
from singlepass.core.replies.depths import is_directive
from singlepass.core.replies.levels import columns, indent_of
from singlepass.core.replies.versions import Accounts, Versions, compared, is_shortened, rows

_MOST_GONE = 0.5
"""Maximum share of a file's lines with text that a rewrite may leave out or replace if nothing is
selected."""
_MOST_OF_IT = 0.5
"""Minimum share of a block's lines that the rewrite must have for the block to count as present, whatever its
first line is."""
_BEFORE = re.compile(r"\s*(?:@|#|//|/\*|\*|import\b|from\b|use\b|using\b|[\"']{3})")
_CONTINUES = re.compile(
    r"[)}\]]|\{\s*$|</|(?:else|elif|elsif|except|catch|finally|rescue|ensure|end|then|fi|done|esac)\b"
)
"""A line that continues a block although it is as deep as its first line, such as `else`."""
_HEADING = re.compile(r"(#{2,6})\s+\S")
_STUB = re.compile(
    r"(?:pass|\.{3}|…|return(?: None| null| nil| undefined)?|"
    r"todo!\(\)|unimplemented!\(\)|raise NotImplementedError\b.*|"
    r"(?:throw|panic)\b.*\bnot.implemented\b.*|[{}()\[\];,]*)\s*;?",
    re.IGNORECASE,
)


def left_out(
    old: Sequence[str],
    new: Sequence[str],
    pairs: Mapping[int, int],
    changing: tuple[int, int],
    *,
    is_selected: bool,
) -> tuple[int, int] | None:
    """The first range of old lines (end exclusive) that the new text seems to leave out by mistake; None if
    it is complete.

    `pairs` maps each new line that repeats or changes an old line to it, in order. `changing` is the range of
    old lines that may be deleted or replaced.
    """
    text = [n for n, line in enumerate(old) if line.strip()]
    versions = compared(old, new, pairs)
    blocks = _blocks(old, text)
    for block in blocks:
        if _is_missing(versions, *block):
            return block[:2]
    if (emptied := _emptied(versions)) is not None:
        return emptied, emptied + 1
    for start, end, _ in blocks:
        if _is_stub(versions, start, end):
            return start, end
    accounts = Accounts(old, new, versions)
    for n in text:
        is_changed = n not in versions.there or old[n].strip() != new[versions.there[n]].strip()
        if is_changed and accounts.is_needed(n):
            return n, n + 1
    if _has_no_beginning(versions, text):
        return text[0], text[0] + 1
    is_shorter = is_selected and is_shortened(old, new)
    for row in rows(versions, text):
        if not is_shorter and not accounts.has(row):
            return row[0], row[-1] + 1
    gone = [n for n in text if n not in versions.kept]
    beside = next((n for n in gone if not changing[0] <= n < changing[1]), None)
    if beside is not None:
        return beside, beside + 1
    # Lines of definitions whose names are kept do not count as gone.
    known: set[int] = set()
    for start, end, _ in blocks:
        if start not in known and _is_kept(versions, start):
            known.update(range(start, end))
    gone = [n for n in gone if n not in known]
    return (gone[0], gone[-1] + 1) if not is_selected and len(gone) > _MOST_GONE * len(text) else None


def _blocks(lines: Sequence[str], text: Sequence[int]) -> list[tuple[int, int, bool]]:
    """All blocks, each a line with the deeper lines below it: start, end (exclusive), and whether it is an
    outermost one."""
    depths = {n: columns(indent_of(lines[n])) for n in text if not is_directive(lines[n])}
    least = min(depths.values(), default=0)
    found: list[tuple[int, int, bool]] = []
    open_: list[tuple[int, int, int]] = []
    for n, depth in (*depths.items(), (len(lines), -1)):
        while open_ and (
            open_[-1][1] > depth or (open_[-1][1] == depth and not _CONTINUES.match(lines[n].strip()))
        ):
            start, its, deepest = open_.pop()
            if deepest > its:
                found.append((start, n, its == least))
            if open_:
                open_[-1] = (*open_[-1][:2], max(open_[-1][2], deepest))
        if not open_ or open_[-1][1] < depth:
            open_.append((n, depth, depth))
    return sorted([*found, *_sections(lines, text)])


def _sections(lines: Sequence[str], text: Sequence[int]) -> list[tuple[int, int, bool]]:
    """The sections of a Markdown text, from headings of level 2 on."""
    found: list[tuple[int, int, bool]] = []
    open_: list[tuple[int, int]] = []
    headings = [(n, len(heading[1])) for n in text if (heading := _HEADING.match(lines[n]))]
    for n, level in (*headings, (len(lines), 0)):
        while open_ and open_[-1][1] >= level:
            found.append((open_.pop()[0], n, True))
        open_.append((n, level))
    return found


def _is_missing(versions: Versions, start: int, end: int, is_outermost: bool) -> bool:
    """Whether a block has no counterpart, and nothing in its place can be one."""
    header = versions.old[start].strip()
    name = defined_name(header)
    if not (name or is_outermost) or _is_kept(versions, start) or (start in versions.kept and not name):
        return False
    text = [n for n in range(start, end) if WORD.search(versions.old[n])]
    n_kept = sum(n in versions.kept for n in text)
    is_there = n_kept >= _MOST_OF_IT * len(text)
    instead = versions.instead(start, end)
    if name:
        if (
            versions.n_defined[name] < versions.old_names[name]
            and not versions.n_defined.keys() - versions.old_names.keys()
        ):
            return True
        renamed = {one for line in instead if (one := defined_name(line)) and one not in versions.old_names}
        if (there := versions.there.get(start)) is not None:
            renamed.add(defined_name(versions.new[there].strip()))
        if sum(n in versions.moved for n in text) >= len(text) - 1:
            renamed |= versions.names
        if versions.n_defined[name] == 0 and versions.is_mentioned(name):
            return True
        is_elsewhere = name in versions.names and versions.old_names[name] == 1
        return not is_elsewhere and not (
            is_there and any(one not in versions.old_names for one in renamed if one)
        )
    if CONTROL.match(header):
        is_there = n_kept > 0
    return not is_there and all(map(_is_filler, instead))


def _emptied(versions: Versions) -> int | None:
    """The first line of a block that has no lines in the new text; the last old line if the new text ends
    with the first line of a block; otherwise None."""
    deeper, deeper_new = map(_with_deeper, (versions.old, versions.new))
    for j, i in versions.pairs.items():
        if i in deeper and j not in deeper_new and versions.new[j].rstrip().endswith((":", "{")):
            return i
    last = next((line.strip() for line in reversed(versions.new) if line.strip()), "")
    is_open = last.endswith((":", "{")) and (defined_name(last) or CONTROL.match(last))
    return len(versions.old) - 1 if is_open else None


def _is_stub(versions: Versions, start: int, end: int) -> bool:
    """Whether a definition with a real body has only an empty one in the new text."""
    there = versions.there.get(start)
    if there is None or not defined_name(versions.old[start].strip()):
        return False
    its = columns(indent_of(versions.new[there]))
    below = (line for line in versions.new[there + 1 :] if line.strip() not in ("", "{"))
    body = [*itertools.takewhile(lambda line: columns(indent_of(line)) > its, below)]
    did = [line for line in versions.old[start + 1 : end] if WORD.search(line)]
    return all(_is_filler(line.strip()) for line in body) and not all(
        _is_filler(line.strip()) for line in did
    )


def _has_no_beginning(versions: Versions, text: Sequence[int]) -> bool:
    """Whether the old text begins with a definition and the new text does not."""
    if not text or text[0] in versions.kept or not defined_name(versions.old[text[0]].strip()):
        return False
    begins = next(
        (line.strip() for line in versions.new if WORD.search(line) and not _BEFORE.match(line)), ""
    )
    return not defined_name(begins)


def _with_deeper(lines: Sequence[str]) -> set[int]:
    """The lines that are followed by a deeper one."""
    text = [n for n, line in enumerate(lines) if line.strip() and not is_directive(line)]
    depths = [columns(indent_of(lines[n])) for n in text]
    return {n for n, its, below in zip(text, depths, depths[1:], strict=False) if below > its}


def _is_kept(versions: Versions, start: int) -> bool:
    """Whether the new text has a definition with the name that the old line defines."""
    name = defined_name(versions.old[start].strip())
    there = versions.there.get(start)
    if not name or there is None:
        # Only if the name is unique: several classes may have methods of the same name.
        return bool(name) and start in versions.moved and versions.old_names[name] == 1
    return defined_name(versions.new[there].strip()) == name


def _is_filler(line: str) -> bool:
    """Whether a line is a comment or a stub such as `pass`."""
    return COMMENT.match(line) is not None or _STUB.fullmatch(line) is not None
