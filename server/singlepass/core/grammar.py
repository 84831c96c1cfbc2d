"""The edit grammar: constrains a model's reply so that every finished hunk applies.

Theory of operation
===================

The grammar is text in llguidance's Lark syntax. Its language is a list of blocks

    path/of/file.py
    <<<<<<< SEARCH
    a run of that file's lines which occurs exactly once in it
    =======
    any lines
    >>>>>>> REPLACE

with the blocks of a file in a row, in the order of its lines, without overlap. So the text between SEARCH and
`=======` always names one place, and all the blocks of one reply can be applied at once.

**Runs that occur once.** For each line i let `ends[i]` be the smallest end for which lines i…ends[i]−1 occur
once; every longer run from i then occurs once too. A suffix array over the lines gives all of them in
O(n log² n) (`unique_runs`). `ends` never decreases, because a unique run stays unique if lines are added at
its front. So lines that must reach the same end share one chain of rules, and the grammar is about as long as
the file. With "line i" for the literal line and its `\\n`:

    d_i_e   : "line i" d_{i+1}_e                   the run must still reach line e (d_e_e is c_e)
    c_j     : replace n_j | "line j" c_{j+1}       the run may end before line j, or continue
    replace : SEPARATOR NEW_LINE* CLOSE
    n_j     : HEADER <any d_i_ends[i] with i >= j> | <no more blocks of this file>

"Any start from j on" is a binary tree over the starts (`_tree`), not a chain.

**Files in any order.** A model may begin with any file and then go to any other, but not back to one: its
blocks would have to go on below those that are there. With a rule for each set of files that are left,

    o_S     : <nothing> | HEADER_f <the blocks of f> o_{S without f}    (for each file f of S)

The rules of a file end where its blocks do, so they stand in the grammar once, whatever comes after them.
There are 2ⁿ sets, so with more than `MOST_IN_ANY_ORDER` files only the first one, which is the edited one,
may come at any time, and the others come in their order. (llguidance's parametric rules say the same in one
rule for 64 files, but servers that take our grammars mostly have a version without them.)

**Unambiguous by construction.** Markers are `size` characters long, longer than any run of marker characters
at the start of a line in the files (`marker_size`). A new line may not start with `size` times `<` or `>`,
and may not be the separator. New lines and those of the files end with their only `\\n`, so none is a prefix
of another and none is lazy.

**What a model forgets.** A small one leaves out the line end before a closing marker, as in
`x = 1 >>>>>>> REPLACE`, or the whole marker, and begins the next block with its path; then it writes on as if
the block were closed. So no new line holds an opening or closing marker, or is the path of an editable source
file, unless the files have such text.

**Limits.** A row of the parser holds three items for each start: llguidance's `max_items_in_row` must be
raised to 50,000; all its other limits can keep their defaults. It also numbers symbols with 16 bits, so a
grammar holds 6,000 lines, all files together (`MOST_SYMBOLS`); what does not fit cannot be searched for.
Measured with a vocabulary of 151,936 tokens on one core of a server: 1,000, 2,630 and 5,000 lines of Python
compile in 0.1, 0.3 and 0.6 s, once per version of the documents; the first mask inside SEARCH takes 4, 27 and
92 ms, others 0.03 ms at the median. What new lines may not hold takes 1.4 ms a line: llguidance then has to
look at the whole vocabulary twice in a line and not once.

**Compiled without recursion.** llguidance (1.9) compiles a rule recursively when its name first occurs; a
chain of some hundred rules overflows the stack and crashes the process. So the rule `compile_order` names all
rules, those for later lines first, and `start` repeats it zero times: it is compiled first and matches
nothing. Then no rule refers to more than a few names that are not compiled yet.
"""

import itertools
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from singlepass.core.lines import visible_lines
from singlepass.core.replies.paths import is_source

SMALLEST_MARKER = 7
NOTHING = '""'

MOST_SYMBOLS = 60_000
"""llguidance numbers the symbols of a grammar with 16 bits. A line of a file takes about nine."""

MOST_IN_ANY_ORDER = 6
"""With more editable files only the first one may come at any time: each set of files is a rule."""

_MARKER_RUN = re.compile(r"<{7,}|={7,}|>{7,}|\|{7,}")


class Bounds(msgspec.Struct, frozen=True):
    """Bounds on the length of a reply; None is unbounded.

    For models with random weights, in tests and demos, which would never end a reply.
    """

    max_lines: int | None = None
    """Maximum number of new lines in a block."""
    max_line_chars: int | None = None
    """Maximum number of characters in a new line."""
    max_hunks: int | None = None
    """Maximum number of blocks in a file. The grammar is repeated this often, so files and number must be
    small."""
    may_be_empty: bool = True
    """Whether a reply without any block is allowed, meaning that nothing has to change."""


UNBOUNDED = Bounds()


def marker_size(texts: Iterable[str]) -> int:
    """The length of the markers at which no line of the texts can be mistaken for one.

    It is 7, or one more than the longest run of at least 7 `<`, `=`, `>` or `|` with which a line starts;
    git's `conflict-marker-size` attribute exists for the same reason.
    """
    longest = SMALLEST_MARKER - 1
    for text in texts:
        if not any(mark * SMALLEST_MARKER in text for mark in "<=>|"):
            continue
        for line in visible_lines(text):
            if run := _MARKER_RUN.match(line):
                longest = max(longest, len(run.group()))
    return longest + 1


class Markers(NamedTuple):
    """The lines around the old and the new lines of a block."""

    search: str
    separator: str
    close: str


def markers(size: int = SMALLEST_MARKER) -> Markers:
    """The markers with a length of `size` characters."""
    return Markers("<" * size + " SEARCH", "=" * size, ">" * size + " REPLACE")


def unique_runs(lines: Sequence[str]) -> list[int | None]:
    """For each line, the smallest end (exclusive) at which the run from it occurs exactly once.

    None if every run from that line occurs elsewhere too, as at the last of two equal lines.
    """
    n = len(lines)
    ranks = {line: rank for rank, line in enumerate(sorted(set(lines)))}
    rank = [ranks[line] for line in lines]
    order = sorted(range(n), key=rank.__getitem__)
    width = 1
    while n and rank[order[-1]] < n - 1:
        # Prefix doubling: order the suffixes by their first 2 * width lines.
        key = [rank[i] * (n + 1) + (rank[i + width] + 1 if i + width < n else 0) for i in range(n)]
        order.sort(key=key.__getitem__)
        following = [0] * n
        for previous, current in itertools.pairwise(order):
            following[current] = following[previous] + (key[current] != key[previous])
        rank = following
        width *= 2
    # Kasai: how many lines each suffix has in common with the one before it in the order.
    common = [0] * (n + 1)
    n_equal = 0
    for i in range(n):
        if rank[i] == 0:
            n_equal = 0
            continue
        j = order[rank[i] - 1]
        while i + n_equal < n and j + n_equal < n and lines[i + n_equal] == lines[j + n_equal]:
            n_equal += 1
        common[rank[i]] = n_equal
        n_equal = max(n_equal - 1, 0)
    ends: list[int | None] = []
    for i in range(n):
        end = i + max(common[rank[i]], common[rank[i] + 1]) + 1
        ends.append(end if end <= n else None)
    return ends


def edit_grammar(
    files: Mapping[str, str],
    size: int = SMALLEST_MARKER,
    bounds: Bounds = UNBOUNDED,
    windows: Mapping[str, tuple[int, int]] | None = None,
) -> str:
    """The grammar for edits of these files, as text.

    `files` maps each path, as shown in the prompt, to its text; the edited file should be first, because
    its blocks may come at any time even among many. `size` must be at least `marker_size(files.values())`. A
    path with a line break cannot be written in the format, so that file is left out.

    `windows` restricts what may be searched for in a file to a range of its lines, end exclusive, for files
    too long to be shown whole; the runs still occur once in the whole file. A file without such a run in its
    window is left out. Lines beyond the maximum of a grammar (see "Limits" above) count as outside the
    window; earlier files take precedence.
    """
    sources: list[_Source] = []
    n_free = MOST_SYMBOLS // max(bounds.max_hunks or 1, 1)
    for path, text in files.items():
        if not path or re.search(r"[\r\n]", path):
            continue
        lines = visible_lines(text)
        source = _source(path, lines, (windows or {}).get(path, (0, len(lines))), n_free)
        if source.starts or not lines:
            sources.append(source)
            n_free -= source.n_symbols
    writer = _Writer(size, bounds, sources, _forbidden(files, size))
    if bounds.max_hunks == 0:
        return writer.text(NOTHING)
    if bounds.max_hunks is None:
        # One level of rules that refers to itself.
        writer.add_level("", "")
        return writer.text(writer.add_order("", bounds.may_be_empty))
    for level in reversed(range(bounds.max_hunks)):
        writer.add_level(f"h{level}_", f"h{level + 1}_" if level + 1 < bounds.max_hunks else None)
    return writer.text(writer.add_order("h0_", bounds.may_be_empty))


def _forbidden(files: Mapping[str, str], size: int) -> list[str]:
    """Expressions for new lines that are, or hold, a part of a block."""
    texts = [*files.values()]
    search, _, close = markers(size)
    held = [marker for marker in (search, close) if not any(marker in text for text in texts)]
    paths = [
        path
        for path in files
        if is_source(path) and not any(path in text and path in visible_lines(text) for text in texts)
    ]
    return [
        *(rf"/[^\n]*{marker}[^\n]*\n/" for marker in held),
        *(rf"{json.dumps(path)} /[ \t]*\n/" for path in paths),
    ]


class _Source(NamedTuple):
    """A file, as input of the grammar."""

    path: str
    lines: list[str]
    first: int
    last: int
    """Only the lines first…last−1 may be searched for."""
    starts: list[tuple[int, int]]
    """Start and smallest end of the runs that may be searched for, in ascending order."""
    pending: list[set[int]]
    """For each line, the ends that a run which has reached this line may still have to reach."""
    n_symbols: int
    """Approximate number of grammar symbols that it needs."""


def _source(path: str, lines: list[str], window: tuple[int, int], n_free: int) -> _Source:
    """A file, with as much of its window as fits into `n_free` symbols."""
    first, last = max(window[0], 0), min(window[1], len(lines))
    last = min(last, first + max(n_free, 0) // 10)
    n_lines = max(last - first, 0)
    starts: list[tuple[int, int]] = []
    pending: list[set[int]] = [set() for _ in lines]
    n_pending = 0
    for start, end in enumerate(unique_runs(lines)[first : first + n_lines], first):
        if end is None or end > last or n_pending > n_free - 9 * n_lines:
            continue
        starts.append((start, end))
        # An earlier start with the same end has already created the chain.
        for place in range(start, end):
            if end in pending[place]:
                break
            pending[place].add(end)
            n_pending += 1
    return _Source(path, lines, first, last, starts, pending, 8 * n_lines + n_pending)


class _Writer:
    """Collects the rules of one grammar, those for later lines and files first.

    A rule is named `<level><kind><file>_<line>`. A level is the prefix of a copy of the rules; without a
    bound on the number of blocks there is one, with an empty name.
    """

    def __init__(
        self, size: int, bounds: Bounds, sources: Sequence[_Source], forbidden: Sequence[str]
    ) -> None:
        self.size = size
        self.bounds = bounds
        self.sources = sources
        self.forbidden = forbidden
        self.rules: list[tuple[str, str]] = []
        self._literals: dict[str, str] = {}
        self._markers = markers(size)
        self.separator = self.literal(self._markers.separator)
        self.close = self.literal(self._markers.close)

    def literal(self, line: str) -> str:
        """The name of the terminal for this line and its line end."""
        return self._literals.setdefault(line + "\n", f"T{len(self._literals)}")

    def header(self, file_idx: int) -> str:
        """The name of the terminal that opens a block of this file."""
        return self.literal(f"{self.sources[file_idx].path}\n{self._markers.search}")

    def add_order(self, level: str, may_be_empty: bool) -> str:
        """Add the rules for the order of the files, whose blocks begin at this level. Returns the right-hand
        side of the start rule."""
        n = len(self.sources)
        if n <= MOST_IN_ANY_ORDER:
            sets = [left for k in range(1, n + 1) for left in itertools.combinations(range(n), k)]
        else:
            tails = [tuple(range(first, n)) for first in range(n, 0, -1)]
            sets = [left for tail in tails for left in (tail, (0, *tail)) if left]
        names: dict[tuple[int, ...], str] = {(): NOTHING}
        blocks = NOTHING
        for left in sets:
            names[left] = f"o{len(names)}"
            blocks = " | ".join(
                f"{self.header(idx)} {level}t{idx}_1 {names[_left_after(left, idx, n)]}" for idx in left
            )
            self.rules.append((names[left], f"{NOTHING} | {blocks}"))
        return names[tuple(range(n))] if may_be_empty else blocks

    def add_level(self, level: str, following: str | None) -> None:
        """Add the rules for a block of each file; the blocks after it in its file have the level `following`,
        or None if there are none."""
        for idx in reversed(range(len(self.sources))):
            self._add_file(level, following, idx)

    def _add_file(self, level: str, following: str | None, idx: int) -> None:
        source = self.sources[idx]
        lines = source.lines
        if not lines:
            # In an empty document only an empty SEARCH is possible, and only once.
            self.rules.append((f"{level}t{idx}_1", "replace"))
            return
        starts = [start for start, _ in source.starts]
        leaves = [f"d{idx}_{start}_{end}" for start, end in source.starts]
        tree, right_of = _tree(f"t{idx}_", f"a{idx}_", leaves)
        smallest_end = source.starts[0][1]
        first, last, pending = source.first, source.last, source.pending
        literals = [self.literal(line) for line in lines[first:last]]
        header = self.header(idx)
        # Called for thousands of lines at a click: names are built once.
        d, c, n = f"{level}d{idx}_", f"{level}c{idx}_", f"{level}n{idx}_"
        add, k = self.rules.append, len(starts)
        for j in range(last, first - 1, -1):
            literal = literals[j - first] if j < last else ""
            if j < last:
                for end in sorted(pending[j]):
                    rest = f"{d}{j + 1}_{end}" if j + 1 < end else f"{c}{end}"
                    add((f"{d}{j}_{end}", f"{literal} {rest}"))
            if j < smallest_end:
                continue
            rest = NOTHING
            while k and starts[k - 1] >= j:
                k -= 1
            if following is not None and k < len(starts):
                right = right_of[k]
                others = f" | {following}{right}" if right else ""
                rest = f"{header} ({following}{leaves[k]}{others}) | {NOTHING}"
            add((f"{n}{j}", rest))
            more = f" | {literal} {c}{j + 1}" if j < last else ""
            add((f"{c}{j}", f"replace {n}{j}{more}"))
        self.rules += [(level + name, " | ".join([level + part for part in parts])) for name, parts in tree]

    def text(self, start: str) -> str:
        """The whole grammar. The terminals come last, when all are known."""
        n, bounds = self.size, self.bounds
        rest = r"[^\n\r]*"
        new_line = "|".join(
            (
                rf"[^<>=\n\r]{rest}",
                rf"<{{1,{n - 1}}}([^<\n\r]{rest})?",
                rf">{{1,{n - 1}}}([^>\n\r]{rest})?",
                rf"={{1,{n - 1}}}([^=\n\r]{rest})?",
                rf"={{{n}}}[ \t]*[^ \t\n\r]{rest}",
            )
        )
        terminal = rf"NEW_LINE: /({new_line})?\n/"
        if bounds.max_line_chars is not None:
            terminal += rf" & /[^\n]{{0,{bounds.max_line_chars}}}\n/"
        if self.forbidden:
            terminal += " & ~FORBIDDEN\nFORBIDDEN: " + " | ".join(self.forbidden)
        times = "*" if bounds.max_lines is None else f"~0..{bounds.max_lines}"
        return "\n".join(
            (
                f"start: compile_order~0..0 {start}",
                f"compile_order: replace {' '.join(name for name, _ in self.rules)}",
                f"replace: {self.separator} NEW_LINE{times} {self.close}",
                *(f"{name}: {rule}" for name, rule in self.rules),
                terminal,
                *(f"{name}: {json.dumps(line)}" for line, name in self._literals.items()),
                "",
            )
        )


def _left_after(left: tuple[int, ...], idx: int, n: int) -> tuple[int, ...]:
    """The files that may follow the blocks of file `idx`, of those that were left before."""
    in_order = n > MOST_IN_ANY_ORDER
    return tuple(one for one in left if one != idx and not (in_order and 0 < one < idx))


def _tree(
    below: str, right: str, leaves: Sequence[str]
) -> tuple[list[tuple[str, list[str]]], list[str | None]]:
    """Rules for "any of the leaves" and "any leaf to the right of this one", over one binary tree.

    Returns the rules as names and alternatives, the first one for all leaves; and for each leaf the name of
    the rule for those to its right, None if there are none. There are at most two rules per leaf, and a
    derivation is at most as long as the tree is high. A plain chain of rules cost 120 ms per block for 5,000
    leaves, since an Earley parser checks every item of a row for every completed one.
    """
    # Nodes are numbered as in a heap: 1 is the root, 2n and 2n + 1 are the children of n.
    width = 1 << (len(leaves) - 1).bit_length()
    if width == 1:
        return [(f"{below}1", list(leaves))], [None]
    names: list[str | None] = [None] * (2 * width)
    names[width : width + len(leaves)] = leaves
    for node in range(width - 1, 0, -1):
        if names[2 * node]:
            names[node] = f"{below}{node}"
    rules = [
        (name, [half for half in names[2 * node : 2 * node + 2] if half])
        for node, name in enumerate(names[:width])
        if name
    ]
    right_of: list[str | None] = [None] * (2 * width)
    for node in range(2, width + len(leaves)):
        inherited = right_of[node // 2]
        sibling = names[node + 1] if node % 2 == 0 else None
        if sibling:
            name = right_of[node] = f"{right}{node}"
            rules.append((name, [sibling, inherited] if inherited else [sibling]))
        else:
            right_of[node] = inherited
    return rules, right_of[width : width + len(leaves)]
