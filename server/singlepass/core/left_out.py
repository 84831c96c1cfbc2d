"""What a text that was written anew leaves out, and whether that can be meant.

A model that writes a text anew is asked for all of it, and often repeats only what it changed. Lines without
a counterpart in the new text would be deleted, and nothing tells whether they should be. So a text counts as
complete only if it leaves out

- no definition, and no other whole block, that is neither elsewhere in it nor there under another name;
- no several lines in a row, nor two with only a comment or a `pass` in their place, nor all below a header;
- no part at the beginning or the end, and not too many lines altogether.
"""

import itertools
import re
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from singlepass.core.depths import is_directive
from singlepass.core.levels import columns, indent_of

MOST_GONE = 0.5
"""The share of a file's lines with text that its new text may leave out or replace where nothing is
selected."""
_FEW = 2
"""Words of a line that is another version of any as short."""
_MOST_OF_IT = 0.5
"""The share of a block's lines from which the new text has the block, whatever its first line is."""

_SOME_WORDS = 0.34
MOST_REPEATED = 0.25
_MOST_OF_WORDS = 0.6
_RESULT = re.compile(r"(?:return|raise|throw|yield)\b")
_LOOP = re.compile(r"\bfor\s+\(?(?:const\s+|let\s+)?(\w+)")
_CLASS = re.compile(r"\s*(?:[\w@]+\s+)*(?:class|struct|enum|interface|record|object|trait|type)\b")
_BEFORE = re.compile(r"\s*(?:@|#|//|/\*|\*|import\b|from\b|use\b|using\b|[\"']{3})")
_ANY_NAME = re.compile(r"[^\W\d]\w*")
_KEYWORDS = frozenset(
    "def class return if elif else for while in not and or is None True False self import from as with try except "
    "finally raise pass lambda const let var function local then end do this null true false the a of to it async "
    "await yield assert str int list dict".split()
)
_ASSIGNED = re.compile(
    r"\s*(?:(?:const|let|var|local|export|static|final|mut|auto|int|float|double)\s+)*([\w.]+(?:\s*,\s*[\w.]+)*)\s*(?::[^=]+)?(?::?=)(?!=)"
)
_IMPORTED = re.compile(r"\s*(?:from\s+\S+\s+)?import\s+(.*)")
_NAME = re.compile(r"[^\W\d]\w+")
_WORD = re.compile(r"\w")
_CONTROL = re.compile(
    r"[}\])\s]*(?:if|elif|elsif|else|for|foreach|while|until|unless|do|loop|switch|select|case|default|when|match|"
    r"try|catch|except|finally|rescue|ensure|with|using|lock|synchronized|return|throw|raise|yield|await|begin|"
    r"then|guard|defer|go|new)\b(?!-)"
)
_NAMES = (
    # With a keyword, with a function as a value, as in C, as a block of a test.
    re.compile(
        r"(?:[\w.<>()\[\]*&,]+\s+)*?(?:def|class|func|function\b\*?|fn|fun|sub|struct|enum|union|interface|trait|"
        r"impl|module|namespace|type|record|object|protocol|extension)\s+(?:\([^)]*\)\s*)?([\w$.~]+(?:::[\w$~]+)*)"
    ),
    re.compile(
        r"(?:[\w.]+\s+)*?([\w$.]+)\s*[=:]\s*(?:async\b\s*)?(?:function\b|lambda\b|\([^()]*\)\s*=>|\w+\s*=>|\($)"
    ),
    re.compile(r"(?:[\w*&<>\[\]:,?@]+\s+)*?[*&]*([\w$~]+(?:::[\w$~]+)*)\s*\((?!\s*[\"'`])"),
    re.compile(r"([\w.]+\s*\(\s*([\"'`]).*?\2)"),
)
"""What a line defines, if it does; the last two only if it looks like the first line of a block."""
_CONTINUES = re.compile(
    r"[)}\]]|\{\s*$|</|(?:else|elif|elsif|except|catch|finally|rescue|ensure|end|then|fi|done|esac)\b"
)
"""A line that goes on with a block at its depth."""
_HEADING = re.compile(r"(#{2,6})\s+\S")
_COMMENT = re.compile(r"#(?!\s*(?:include|define|undef|pragma)\b)|//|/\*|\*(?:[\s/]|$)|<!--|--\s|;|%|\{/\*")
_STUB = re.compile(
    r"(?:pass|\.{3}|…|return(?: None| null| nil| undefined)?|"
    r"todo!\(\)|unimplemented!\(\)|raise NotImplementedError\b.*|"
    r"(?:throw|panic)\b.*\bnot.implemented\b.*|[{}()\[\];,]*)\s*;?",
    re.IGNORECASE,
)


_MOST_READ = 300
"""Characters of a line in which what it defines is looked for."""


class _Versions(NamedTuple):
    """Two versions of a text, and what became of the lines of the old one."""

    old: Sequence[str]
    new: Sequence[str]
    pairs: Mapping[int, int]
    """By new line, the old one that it repeats or changes, in order; …"""
    there: Mapping[int, int]
    """… and by old line the new one."""
    kept: frozenset[int]
    """All old lines that have a counterpart, …"""
    moved: frozenset[int]
    """… and those among them whose counterpart is elsewhere."""
    fresh: Sequence[int]
    """New lines without a counterpart, in order, …"""
    names: frozenset[str]
    """… and what they define; …"""
    old_names: Counter[str]
    """… what the old text defines, and how often."""
    n_defined: Counter[str]
    """How often the new text defines them."""
    mentions: Mapping[str, Sequence[int]]
    """The lines of the new text with a name."""
    gaps: Sequence[tuple[int, int]]
    """For each old line, the counterparts of the nearest lines before and after it that have one in order."""

    def is_mentioned(self, name: str) -> bool:
        """Whether a line still has the name, other than for a part of something else."""
        found = re.compile(rf"(?<![\w$.])(?:(?:self|this|cls)\.)?{re.escape(name)}(?![\w$])")
        pairs = ((j, self.pairs.get(j)) for j in self.mentions.get(name, ()))
        return any(i is not None and found.search(self.old[i]) and found.search(self.new[j]) for j, i in pairs)

    def instead(self, start: int, end: int) -> list[str]:
        """The fresh lines in the place of some old ones."""
        first, last = self.gaps[start][0], self.gaps[end - 1][1]
        there = self.fresh[bisect_right(self.fresh, first) : bisect_left(self.fresh, last)]
        return [self.new[n].strip() for n in there]


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

    `pairs` are the new lines that repeat or change an old one, in order. `changing` is the range of lines that may be
    deleted or replaced.
    """
    text = [n for n, line in enumerate(old) if line.strip()]
    versions = _compared(old, new, pairs)
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
    for row in _rows(versions, text):
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
    return (gone[0], gone[-1] + 1) if not is_selected and len(gone) > MOST_GONE * len(text) else None


def _compared(old: Sequence[str], new: Sequence[str], pairs: Mapping[int, int]) -> _Versions:
    there = {i: j for j, i in pairs.items()}
    elsewhere: dict[str, list[int]] = {}
    for j in range(len(new) - 1, -1, -1):
        if j not in pairs and _WORD.search(new[j]):
            elsewhere.setdefault(new[j].strip(), []).append(j)
    moved = {
        i: found.pop()
        for i, line in enumerate(old)
        if i not in there and (found := elsewhere.get(line.strip()))
    }
    before = [*itertools.accumulate((there.get(i, -1) for i in range(len(old))), max)]
    behind = [*itertools.accumulate((there.get(i, len(new)) for i in reversed(range(len(old)))), min)][::-1]
    taken = {*moved.values()}
    fresh = [j for j, line in enumerate(new) if line.strip() and j not in pairs and j not in taken]
    return _Versions(
        old,
        new,
        pairs,
        there,
        kept=frozenset(there) | frozenset(moved),
        moved=frozenset(moved),
        fresh=fresh,
        names=frozenset(defined_name(new[j].strip()) for j in fresh) - {""},
        old_names=Counter(defined_name(line.strip()) for line in old),
        n_defined=Counter(defined_name(line.strip()) for line in new),
        mentions=_mentions(new),
        gaps=[*zip(before, behind, strict=True)],
    )


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


def _is_missing(versions: _Versions, start: int, end: int, is_outermost: bool) -> bool:
    """Whether a block has no counterpart, and nothing is in its place that may be one."""
    header = versions.old[start].strip()
    name = defined_name(header)
    if not (name or is_outermost) or _is_kept(versions, start) or (start in versions.kept and not name):
        return False
    text = [n for n in range(start, end) if _WORD.search(versions.old[n])]
    n_kept = sum(n in versions.kept for n in text)
    is_there = n_kept >= _MOST_OF_IT * len(text)
    instead = versions.instead(start, end)
    if name:
        if versions.n_defined[name] < versions.old_names[name] and not versions.n_defined.keys() - versions.old_names.keys():
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
    if _CONTROL.match(header):
        is_there = n_kept > 0
    return not is_there and all(map(_is_filler, instead))


def _emptied(versions: _Versions) -> int | None:
    """A line that begins a block which has no lines in the new text; the last one where that ends with such a
    line."""
    deeper, deeper_new = map(_with_deeper, (versions.old, versions.new))
    for j, i in versions.pairs.items():
        if i in deeper and j not in deeper_new and versions.new[j].rstrip().endswith((":", "{")):
            return i
    last = next((line.strip() for line in reversed(versions.new) if line.strip()), "")
    is_open = last.endswith((":", "{")) and (defined_name(last) or _CONTROL.match(last))
    return len(versions.old) - 1 if is_open else None


def _is_stub(versions: _Versions, start: int, end: int) -> bool:
    """Whether a definition that does something is there without what it does."""
    there = versions.there.get(start)
    if there is None or not defined_name(versions.old[start].strip()):
        return False
    its = columns(indent_of(versions.new[there]))
    below = (line for line in versions.new[there + 1 :] if line.strip() not in ("", "{"))
    body = [*itertools.takewhile(lambda line: columns(indent_of(line)) > its, below)]
    did = [line for line in versions.old[start + 1 : end] if _WORD.search(line)]
    return all(_is_filler(line.strip()) for line in body) and not all(_is_filler(line.strip()) for line in did)


def _with_deeper(lines: Sequence[str]) -> set[int]:
    """The lines that have a deeper one below."""
    text = [n for n, line in enumerate(lines) if line.strip() and not is_directive(line)]
    depths = [columns(indent_of(lines[n])) for n in text]
    return {n for n, its, below in zip(text, depths, depths[1:], strict=False) if below > its}


def _is_kept(versions: _Versions, start: int) -> bool:
    """Whether the new text has a definition under its name."""
    name = defined_name(versions.old[start].strip())
    there = versions.there.get(start)
    if not name or there is None:
        # Several classes have methods of one name.
        return bool(name) and start in versions.moved and versions.old_names[name] == 1
    return defined_name(versions.new[there].strip()) == name


def defined_name(line: str) -> str:
    """What a line defines that has deeper lines below it; empty if it does not look like that."""
    if _CONTROL.match(line):
        return ""
    names = _NAMES if line.endswith((":", "{", "}", ")")) else _NAMES[:2]
    return next((found[1] for one in names if (found := one.match(line[:_MOST_READ]))), "")


def _is_filler(line: str) -> bool:
    """Whether a line is in the place of others and does nothing."""
    return _COMMENT.match(line) is not None or _STUB.fullmatch(line) is not None


def _has_no_beginning(versions: _Versions, text: Sequence[int]) -> bool:
    """Whether the old text begins with a definition, and the new one in the middle of it."""
    if not text or text[0] in versions.kept or not defined_name(versions.old[text[0]].strip()):
        return False
    begins = next((line.strip() for line in versions.new if _WORD.search(line) and not _BEFORE.match(line)), "")
    return not defined_name(begins)


class Accounts:
    """What became of lines that are gone, as far as the text around their place tells."""

    def __init__(self, old: Sequence[str], new: Sequence[str], versions: _Versions) -> None:
        self._old, self._new, self._versions = old, new, versions
        self._mentions, self._mentions_old = versions.mentions, _mentions(old)
        self._bound = frozenset[str]().union(*map(_assigned, new))
        self._added: dict[int, frozenset[str]] = {j: _words(new[j]) for j in versions.fresh}
        for j, i in versions.pairs.items():
            if old[i].strip() != new[j].strip():
                self._added[j] = _words(new[j]) - _words(old[i])
        self._adding: dict[str, list[int]] = {}
        for j in sorted(self._added):
            for word in self._added[j]:
                self._adding.setdefault(word, []).append(j)
        self._headers, self._ends, self._bodies = _surroundings(old)

    def has(self, row: Sequence[int]) -> bool:
        """Whether nothing of what a row of lines says is missing."""
        versions = self._versions
        before, behind = versions.gaps[row[0]][0], versions.gaps[row[-1]][1]
        instead = [line for line in versions.instead(row[0], row[-1] + 1) if _WORD.search(line)]
        instead = [line for line in instead if not _COMMENT.match(line)]
        if not any(defined_name(self._old[n].strip()) for n in row):
            instead = [*itertools.takewhile(lambda line: not defined_name(line), instead)]
        words = frozenset[str]().union(*map(_words, instead))
        is_border = not instead and (before < 0 or behind >= len(self._new))
        for there in () if is_border else (before, behind):
            words |= self._added.get(there, frozenset())
        least = _SOME_WORDS if instead else _MOST_OF_IT
        if len(row) == len(instead) == 1 and _is_of_a_kind(self._old[row[0]], instead[0]):
            return True
        missing = [n for n in row if not self._has_line(n, row, words, least, is_border)]
        # What only lines of the row use goes with them.
        found = frozenset[str]().union(*(_words(self._old[n]) for n in row if n not in missing))
        n_missing = sum(_assigned(self._old[n]).isdisjoint(found) for n in missing)
        return n_missing <= (_MOST_OF_IT * len(row) if instead else 0)

    def _has_line(
        self, n: int, row: Sequence[int], words: Collection[str], least: float, is_border: bool
    ) -> bool:
        gone, names = _words(self._old[n]), _assigned(self._old[n])
        if not gone:
            return least < _MOST_OF_IT or self._is_header_of_kept(n)
        if not is_border:
            if sum(word in words for word in gone) >= least * len(gone):
                return True
            if _IMPORTED.match(self._old[n]) and all(name in self._adding for name in names):
                return True
            if self._is_elsewhere(gone):
                return True
        if any(self._is_dropped(name, row) for name in gone | names):
            return True
        if _IMPORTED.match(self._old[n]) and not any(name in self._mentions for name in names):
            return True
        return self._is_superfluous(n, row, names) or self._is_header_of_kept(n)

    def _is_dropped(self, name: str, row: Sequence[int]) -> bool:
        """Whether the definition that a row is in spoke of a name elsewhere too, and does so no more."""
        header = self._headers[row[0]]
        end = self._bodies[header]
        there = self._mentions_old.get(name, ())
        is_beside = _within(there, header - 1, row[0]) is not None or _within(there, row[-1], end) is not None
        begin, behind = self._begin(header), self._versions.gaps[end - 1][1]
        return is_beside and _within(self._mentions.get(name, ()), begin - 1, behind) is None

    def _begin(self, header: int) -> int:
        """Where a definition of the old text begins in the new one."""
        if header < 0:
            return -1
        return self._versions.there.get(header, self._versions.gaps[header][0])

    def _is_elsewhere(self, words: frozenset[str]) -> bool:
        """Whether one line has all of these words that had not all of them before."""
        rarest = min((self._adding.get(word, ()) for word in words), key=len)
        return any(words <= self._added[j] for j in rarest)

    def _is_superfluous(self, n: int, row: Sequence[int], names: Collection[str]) -> bool:
        """Whether the rest of the block used what a line defines, and does so no more."""
        first, last = self._versions.gaps[n][0], self._versions.gaps[self._ends[n] - 1][1]
        return bool(names) and all(
            _within(self._mentions_old.get(name, ()), row[-1], self._ends[n]) is not None
            and _within(self._mentions.get(name, ()), first, last) is None
            for name in names
        )

    def is_needed(self, n: int) -> bool:
        """Whether the new text uses what a line defines that is gone or changed, and nothing else there
        defines it."""
        versions, line = self._versions, self._old[n]
        there = versions.there.get(n)
        names = _assigned(line) - (_assigned(self._new[there]) if there is not None else frozenset())
        if not names or n in versions.moved:
            return False
        header = self._headers[n]
        if "." in line[: line.find("=")] or (header >= 0 and _CLASS.match(self._old[header])):
            return any(name in self._mentions and name not in self._bound for name in names)
        begin = self._begin(header)
        first, last = versions.gaps[n][0], versions.gaps[self._ends[n] - 1][1]
        for name in names:
            at = _within(self._mentions.get(name, ()), first if there is None else there, last)
            if at is None or name in _assigned(self._new[at]) or _binds(self._new[at], name):
                continue
            if _within(self._adding.get(name, ()), begin - 1, at) is None:
                return True
        return False

    def _is_header_of_kept(self, n: int) -> bool:
        """Whether a line began a block whose lines are there without it."""
        old, new, there = self._old, self._new, self._versions.there
        if not old[n].rstrip().endswith((":", "{", "then", "do")):
            return False
        below = next((m for m in range(n + 1, len(old)) if m in there and old[m].strip()), None)
        return below is not None and columns(indent_of(new[there[below]])) < columns(indent_of(old[below]))


def _is_of_a_kind(one: str, other: str) -> bool:
    """Whether a line may be another version of one that says something else: they begin alike, or are about
    a word or two."""
    words, others = _ANY_NAME.findall(one), _ANY_NAME.findall(other)
    return words[:1] == others[:1] or max(len(words), len(others)) <= _FEW


def is_shortened(old: Sequence[str], new: Sequence[str]) -> bool:
    """Whether a text says in fewer lines what others say, none of which it repeats but the first and last
    ones: it begins and ends as they do, and speaks of what they speak of."""
    lines, others = ([line.strip() for line in text if line.strip()] for text in (old, new))
    if not 0 < len(others) < len(lines):
        return False
    n_equal = len({*lines[1:-1]} & {*others[1:-1]})
    if n_equal > MOST_REPEATED * len(lines):
        return False
    name = defined_name(lines[0])
    is_same = bool(name) and name == defined_name(others[0])
    ends_alike = _begins_alike(lines[-1], others[-1]) or (is_same and len(others) == 1)
    if not ends_alike or not (is_same or _RESULT.match(others[-1])):
        return False
    local = frozenset[str]().union(*map(_assigned, lines), *(_LOOP.findall(line) for line in lines))
    gone = frozenset[str]().union(*map(_words, lines)) - local
    return len(gone & frozenset[str]().union(*map(_words, others))) >= _MOST_OF_WORDS * len(gone)


def _begins_alike(one: str, other: str) -> bool:
    return one == other or _ANY_NAME.findall(one)[:1] == _ANY_NAME.findall(other)[:1] != []


def _within(lines: Sequence[int], after: int, before: int) -> int | None:
    """The first of the lines that is between two others."""
    at = bisect_right(lines, after)
    return lines[at] if at < len(lines) and lines[at] < before else None


def _surroundings(lines: Sequence[str]) -> tuple[list[int], list[int], dict[int, int]]:
    """For each line, the definition that it is in, or -1, and where the block ends that it is in; for each
    definition, where it ends."""
    headers, ends = [-1] * len(lines), [len(lines)] * len(lines)
    bodies = {-1: len(lines)}
    open_: list[tuple[int, int]] = []
    waiting: list[tuple[int, int]] = []
    for n, line in enumerate(lines):
        if not line.strip():
            continue
        depth = columns(indent_of(line))
        while open_ and open_[-1][1] >= depth:
            bodies[open_.pop()[0]] = n
        while waiting and waiting[-1][1] > depth:
            ends[waiting.pop()[0]] = n
        headers[n] = open_[-1][0] if open_ else -1
        waiting.append((n, depth))
        if defined_name(line.strip()):
            open_.append((n, depth))
    bodies.update((n, len(lines)) for n, _ in open_)
    return headers, ends, bodies


def _binds(line: str, name: str) -> bool:
    """Whether a line defines a name as a parameter, for a loop, or for what it opens."""
    bare = line.strip()
    if defined_name(bare):
        return True
    return re.search(rf"\b(?:for\s+[^=]*?\b{name}\b[^=]*?\s+(?:in|of)\b|as\s+{name}\b|lambda\b[^:]*\b{name}\b)", line) is not None


def _mentions(lines: Sequence[str]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for n, line in enumerate(lines):
        for word in {*_ANY_NAME.findall(line)}:
            found.setdefault(word, []).append(n)
    return found


def _words(line: str) -> frozenset[str]:
    return frozenset(_ANY_NAME.findall(line)) - _KEYWORDS


def _assigned(line: str) -> frozenset[str]:
    """The names that a line defines: variables, what it imports."""
    if found := _ASSIGNED.match(line):
        return frozenset(one.rpartition(".")[2] for one in re.findall(r"[\w.]+", found[1]))
    if found := _IMPORTED.match(line):
        return frozenset(_ANY_NAME.findall(found[1])) - {"as"}
    return frozenset()


def _rows(versions: _Versions, text: Sequence[int]) -> Iterator[list[int]]:
    """The runs of lines that are gone, whatever punctuation is left between them."""
    words = (n for n in text if _WORD.search(versions.old[n]))
    for is_kept, run in itertools.groupby(words, versions.kept.__contains__):
        if not is_kept:
            yield [*run]
