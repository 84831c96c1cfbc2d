"""What a text that was written anew leaves out, and whether that can be meant.

A model that writes a text anew is asked for all of it, and often repeats only what it changed. Lines without
a counterpart in the new text would be deleted. So a text counts as complete only if

- each definition, and each other whole block, is there, elsewhere, or under another name, and does something;
- what it uses of what lines defined that are gone or changed is defined in it;
- it begins where the old text begins;
- something tells of the lines that are gone what became of them (`Accounts`), or it says all of it in fewer
  lines;
- nothing is gone beside what was selected, and not too much of a file in which nothing was.
"""

import itertools
import re
from collections.abc import Mapping, Sequence

from singlepass.core.replies.definitions import COMMENT, CONTROL, WORD, defined_name
from singlepass.core.replies.depths import is_directive
from singlepass.core.replies.levels import columns, indent_of
from singlepass.core.replies.versions import Accounts, Versions, compared, is_shortened, rows

_MOST_GONE = 0.5
"""The share of a file's lines with text that its new text may leave out or replace where nothing is
selected."""
_MOST_OF_IT = 0.5
"""The share of a block's lines from which the new text has the block, whatever its first line is."""
_BEFORE = re.compile(r"\s*(?:@|#|//|/\*|\*|import\b|from\b|use\b|using\b|[\"']{3})")
_CONTINUES = re.compile(
    r"[)}\]]|\{\s*$|</|(?:else|elif|elsif|except|catch|finally|rescue|ensure|end|then|fi|done|esac)\b"
)
"""A line that goes on with a block at its depth."""
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
    """The first lines of an old text, end exclusive, that its new version seems to leave out unmeant; None
    where it is complete.

    `pairs` are the new lines that repeat or change an old one, in order. `changing` is the range of lines
    that may be deleted or replaced.
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
    # A definition that is there by its name may be another one.
    known: set[int] = set()
    for start, end, _ in blocks:
        if start not in known and _is_kept(versions, start):
            known.update(range(start, end))
    gone = [n for n in gone if n not in known]
    return (gone[0], gone[-1] + 1) if not is_selected and len(gone) > _MOST_GONE * len(text) else None


def _blocks(lines: Sequence[str], text: Sequence[int]) -> list[tuple[int, int, bool]]:
    """All lines with deeper ones below: from where to where each goes, and whether it has the least depth."""
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
    """The sections of a text in Markdown but the one of its title."""
    found: list[tuple[int, int, bool]] = []
    open_: list[tuple[int, int]] = []
    headings = [(n, len(heading[1])) for n in text if (heading := _HEADING.match(lines[n]))]
    for n, level in (*headings, (len(lines), 0)):
        while open_ and open_[-1][1] >= level:
            found.append((open_.pop()[0], n, True))
        open_.append((n, level))
    return found


def _is_missing(versions: Versions, start: int, end: int, is_outermost: bool) -> bool:
    """Whether a block has no counterpart, and nothing is in its place that may be one."""
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
    """A line that begins a block which has no lines in the new text; the last one where that ends with such a
    line."""
    deeper, deeper_new = map(_with_deeper, (versions.old, versions.new))
    for j, i in versions.pairs.items():
        if i in deeper and j not in deeper_new and versions.new[j].rstrip().endswith((":", "{")):
            return i
    last = next((line.strip() for line in reversed(versions.new) if line.strip()), "")
    is_open = last.endswith((":", "{")) and (defined_name(last) or CONTROL.match(last))
    return len(versions.old) - 1 if is_open else None


def _is_stub(versions: Versions, start: int, end: int) -> bool:
    """Whether a definition that does something is there without what it does."""
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
    """Whether the old text begins with a definition, and the new one in the middle of it."""
    if not text or text[0] in versions.kept or not defined_name(versions.old[text[0]].strip()):
        return False
    begins = next(
        (line.strip() for line in versions.new if WORD.search(line) and not _BEFORE.match(line)), ""
    )
    return not defined_name(begins)


def _with_deeper(lines: Sequence[str]) -> set[int]:
    """The lines that have a deeper one below."""
    text = [n for n, line in enumerate(lines) if line.strip() and not is_directive(line)]
    depths = [columns(indent_of(lines[n])) for n in text]
    return {n for n, its, below in zip(text, depths, depths[1:], strict=False) if below > its}


def _is_kept(versions: Versions, start: int) -> bool:
    """Whether the new text has a definition under its name."""
    name = defined_name(versions.old[start].strip())
    there = versions.there.get(start)
    if not name or there is None:
        # Several classes have methods of one name.
        return bool(name) and start in versions.moved and versions.old_names[name] == 1
    return defined_name(versions.new[there].strip()) == name


def _is_filler(line: str) -> bool:
    """Whether a line is in the place of others and does nothing."""
    return COMMENT.match(line) is not None or _STUB.fullmatch(line) is not None
