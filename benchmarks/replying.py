"""Replies of several blocks, or with markers and paths that are not quite as they were asked for.

The lines in the blocks are quoted as they are. `KINDS` has all by name; a function returns None where the
changes do not lend themselves to it.
"""

import random
import re
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from pathlib import PurePosixPath
from typing import NamedTuple

from changes import Change, Document, change, occurrences
from habits import Block


class Reply(NamedTuple):
    """What a model says about some files, and what a user wants of it."""

    files: dict[str, str]
    text: str
    accepted: list[dict[str, str]]
    """The files as they may be then: the first is what the user wants, others are as good."""
    partial: list[dict[str, str]]
    """The files as they may be if the user is told that something was refused; as they were is always one."""


class Markers(NamedTuple):
    """The lines around the old and the new lines."""

    search: str = "<<<<<<< SEARCH"
    separator: str = "======="
    close: str = ">>>>>>> REPLACE"


AS_ASKED = Markers()


class Part(NamedTuple):
    """A block of a reply, and what it does."""

    path: str
    change: Change

    def lines(self, markers: Markers = AS_ASKED) -> list[str]:
        """The block without a path."""
        return [markers.search, *self.change.old, markers.separator, *self.change.new, markers.close]


Replying = Callable[[Sequence[Document], random.Random], Reply | None]


def text_of(lines: Sequence[str], eol: str = "\n", ends: bool = True) -> str:
    """A text of these lines."""
    return eol.join(lines) + (eol if ends and lines else "")


def single(block: Block) -> Reply:
    """The reply that is one block of one file."""
    change = block.change
    path = change.document.path
    search, separator, close = AS_ASKED
    lines = [path, search, *block.search, separator, *block.replace, close]

    def files(lines: list[str]) -> dict[str, str]:
        return {path: text_of(lines, block.eol, block.ends)}

    accepted = [files(change.with_lines(new)) for new in block.accepted]
    return Reply(files(change.document.lines), text_of(lines, block.reply_eol), accepted, [])


def _several(parts: Sequence[Part], lines: list[str], others: Sequence[Document] = ()) -> Reply:
    """A reply whose blocks are each applied, or refused with a word about it."""
    documents = {part.path: part.change.document.lines for part in parts}
    documents |= {other.path: other.lines for other in others}
    outcomes: list[dict[str, str]] = []
    for applied in product((True, False), repeat=len(parts)):
        edited = {path: [*was] for path, was in documents.items()}
        # From the end, so that the places of the others stay.
        for is_applied, part in sorted(zip(applied, parts, strict=True), key=lambda x: -x[1].change.at):
            if is_applied:
                _do(edited[part.path], part.change)
        outcomes.append({path: text_of(now) for path, now in edited.items()})
    files = {path: text_of(was) for path, was in documents.items()}
    return Reply(files, text_of(lines), outcomes[:1], outcomes[1:])


def _do(lines: list[str], done: Change) -> None:
    """Without what stays at the end, which the next block may quote as well."""
    old, new = [*done.old], [*done.new]
    while old and new and old[-1] == new[-1]:
        del old[-1], new[-1]
    lines[done.at : done.at + len(old)] = new


def _two_files(
    documents: Sequence[Document], chance: random.Random, alike: bool | None = None
) -> list[Part] | None:
    """A change of each of two files, which have the same lines, so that a wrong file shows, or not."""
    first = chance.choice(documents)
    alike = chance.random() < 0.5 if alike is None else alike
    second = first if alike else chance.choice(documents)
    suffix = PurePosixPath(first.path).suffix
    paths = chance.choice(
        [
            (f"src/models{suffix}", f"src/views{suffix}"),
            (f"app/main{suffix}", f"lib/util/text_tools{suffix}"),
            (f"index{suffix}", f"core/index_of_names{suffix}"),
        ]
    )
    parts: list[Part] = []
    for path, one in zip(chance.sample(paths, 2), (first, second), strict=True):
        done = change(one, chance)
        if done is None:
            return None
        parts.append(Part(path, done))
    is_known = alike or not (
        occurrences(first.lines, parts[1].change.old) or occurrences(second.lines, parts[0].change.old)
    )
    return parts if is_known else None


# Markers.

_MARKERS = {
    "5 characters": Markers("<<<<< SEARCH", "=====", ">>>>> REPLACE"),
    "6 characters": Markers("<<<<<< SEARCH", "======", ">>>>>> REPLACE"),
    "8 characters": Markers("<<<<<<<< SEARCH", "========", ">>>>>>>> REPLACE"),
    "9 characters": Markers("<<<<<<<<< SEARCH", "=========", ">>>>>>>>> REPLACE"),
    "lower case": Markers("<<<<<<< search", "=======", ">>>>>>> replace"),
    "capitalized": Markers("<<<<<<< Search", "=======", ">>>>>>> Replace"),
    "`>` at the end": Markers("<<<<<<< SEARCH>", "=======", ">>>>>>> REPLACE>"),
    "`:` at the end": Markers("<<<<<<< SEARCH:", "=======", ">>>>>>> REPLACE:"),
    "no space": Markers("<<<<<<<SEARCH", "=======", ">>>>>>>REPLACE"),
    "a space in front": Markers(" <<<<<<< SEARCH", " =======", " >>>>>>> REPLACE"),
    "arrows closed": Markers("<<<<<<< SEARCH >>>>>>>", "=======", "<<<<<<< REPLACE >>>>>>>"),
    "opening one longer": Markers("<<<<<<<< SEARCH", "=======", ">>>>>>> REPLACE"),
    "closing one longer": Markers("<<<<<<< SEARCH", "=======", ">>>>>>>> REPLACE"),
    "separator longer": Markers("<<<<<<< SEARCH", "==========", ">>>>>>> REPLACE"),
    "of git": Markers("<<<<<<< HEAD", "=======", ">>>>>>> updated"),
    "ORIGINAL, UPDATED": Markers("<<<<<<< ORIGINAL", "=======", ">>>>>>> UPDATED"),
    "separator with a word": Markers("<<<<<<< SEARCH", "======= REPLACE", ">>>>>>> REPLACE"),
}


def _marked(markers: Markers) -> Replying:
    def replying(documents: Sequence[Document], chance: random.Random) -> Reply | None:
        done = change(chance.choice(documents), chance)
        if done is None:
            return None
        part = Part(done.document.path, done)
        return _several([part], [part.path, *part.lines(markers)])

    return replying


def _indented(documents: Sequence[Document], chance: random.Random) -> Reply | None:
    """The whole block is indented, as in a list."""
    done = change(chance.choice(documents), chance)
    if done is None:
        return None
    part = Part(done.document.path, done)
    front = chance.choice(["  ", "   ", "    ", "\t"])
    lines = [f"1. Change `{part.path}`:", "", *(front + line if line else "" for line in part.lines()), ""]
    return _several([part], lines)


def _underlined(among: bool, n: int) -> Replying:
    """The document has a line of `=`, elsewhere or among the quoted lines."""

    def replying(documents: Sequence[Document], chance: random.Random) -> Reply | None:
        done = change(chance.choice(documents), chance, "a line" if among else None)
        if done is None or (among and (len(done.old) < 3 or not done.stays(0))):
            return None
        if among:
            at, added = 1, ["=" * n]
            done = done._replace(
                old=[*done.old[:1], *added, *done.old[1:]], new=[*done.new[:1], *added, *done.new[1:]]
            )
            lines = [*done.document.lines[: done.at + at], *added, *done.document.lines[done.at + at :]]
        else:
            added = ["A title", "=" * n, ""]
            lines = [*added, *done.document.lines]
            done = done._replace(at=done.at + len(added))
        done = done._replace(document=done.document._replace(lines=lines))
        part = Part(done.document.path, done)
        return _several([part], [part.path, *part.lines()])

    return replying


# Paths. In the templates {p} is the path, {n} its last part, {w} the path with backslashes.

_PATHS: dict[str, list[str]] = {
    "as asked": ["{p}"],
    "in backticks": ["`{p}`", "**`{p}`**", "**{p}**", "`{p}`:"],
    "as a heading": ["### {p}", "## `{p}`", "### File: {p}", "#### 1. `{p}`", "# {p}"],
    "in a list": ["1. `{p}`", "- {p}", "2. {p}", "* **{p}**", "1) {p}:"],
    "with a label": ["File: {p}", "Filename: `{p}`", "Path: {p}", "**File:** `{p}`", "File path: {p}"],
    "in a link": ["[{p}]({p})", "[{n}](./{p})", "[`{p}`](file:///home/me/project/{p})"],
    "in prose": [
        "In `{p}`:",
        "Now update {p} to match:",
        "Edit `{p}` as follows:",
        "The change to `{p}` is this.",
    ],
    "in prose before a fence": [
        "In `{p}`:\n\n```python\n{block}\n```",
        "First, {p}:\n```\n{block}\n```",
        "{p}\n\n~~~js\n{block}\n~~~",
    ],
    "in the fence's information": [
        "```python {p}\n{block}\n```",
        "```python:{p}\n{block}\n```",
        "```{p}\n{block}\n```",
        '```js title="{p}"\n{block}\n```',
    ],
    "first in the fence": [
        "```python\n{p}\n{block}\n```",
        "```\n# {p}\n{block}\n```",
        "```js\n// {p}\n{block}\n```",
    ],
    "in a tag": [
        '<file path="{p}">\n{block}\n</file>',
        "<file>{p}</file>",
        '<edit file="{p}">\n{block}\n</edit>',
        "<path>{p}</path>",
    ],
    "with a/ or ./": ["a/{p}", "./{p}", "b/{p}", "/{p}"],
    "absolute": ["/home/me/project/{p}", "/workspace/{p}", "C:\\Users\\me\\project\\{w}"],
    "with the project's folder": ["project/{p}", "my-app/{p}", "repo/trunk/{p}"],
    "the name only": ["{n}", "`{n}`", "### {n}", "In {n}:"],
    "with backslashes": ["{w}", "`{w}`"],
    "with a line number": ["{p}:12", "{p} (lines 10-20)", "{p}:10-20", "`{p}` (line 12):"],
    "in quotes": ['"{p}"', "'{p}'", "({p})", "<{p}>"],
    "before a sentence": [
        "{p}\n\nHere is the change:\n\n{block}",
        "`{p}`\n\nThis is what changes.\n{block}",
        "### {p}\nThe old code is replaced:\n{block}",
    ],
    "on the opening marker": [
        "<<<<<<< SEARCH {p}\n{rest}",
        "<<<<<<< {p}\n{rest}",
        "<<<<<<< SEARCH: {p}\n{rest}",
    ],
}


def _placed(template: str, part: Part) -> str:
    first, *rest = part.lines()
    path = PurePosixPath(part.path)
    words = {"p": part.path, "n": path.name, "w": part.path.replace("/", "\\")}
    words |= {"block": "\n".join([first, *rest]), "rest": "\n".join(rest)}
    if not re.search("{block}|{rest}", template):
        template += "\n{block}"
    return re.sub(r"{(\w+)}", lambda found: words[found[1]], template) + "\n"


def _pathed(templates: Sequence[str]) -> Replying:
    def replying(documents: Sequence[Document], chance: random.Random) -> Reply | None:
        parts = _two_files(documents, chance)
        if parts is None:
            return None
        template = chance.choice(templates)
        intro = chance.choice(
            [[], [], ["Here are the edits."], ["I changed both files:"], ["Sure! Two edits:", ""]]
        )
        return _several(parts, [*intro, *(_placed(template, part) for part in parts)])

    return replying


def _without_paths(line: str) -> Replying:
    """No path, or one that is no file's: the old lines say which file it is."""

    def replying(documents: Sequence[Document], chance: random.Random) -> Reply | None:
        parts = _two_files(documents, chance, alike=False)
        if parts is None:
            return None
        lines = [x for part in parts for x in ([line] if line else []) + part.lines() + [""]]
        return _several(parts, lines)

    return replying


def _prose_before(documents: Sequence[Document], chance: random.Random) -> Reply | None:
    """One file, and a line before its block that names none."""
    done = change(chance.choice(documents), chance)
    if done is None:
        return None
    part = Part(done.document.path, done)
    prose = [
        "Edit:",
        "...",
        "1.",
        "</think>",
        "---",
        "Changes",
        "python",
        "Step 1",
        "e.g.",
        "v2.0",
        "diff",
        "Fix",
        "*",
    ]
    return _several([part], [chance.choice(prose), *part.lines()])


# Blocks that are not whole, and blocks beside each other.


def _not_closed(left_out: str) -> Replying:
    """The first block lacks a marker, and the next is of another file."""

    def replying(documents: Sequence[Document], chance: random.Random) -> Reply | None:
        parts = _two_files(documents, chance)
        if parts is None:
            return None
        heading = chance.choice(["{}", "### `{}`", "In `{}`:", "{}:", "2. {}"])
        first = [line for line in parts[0].lines() if line != left_out]
        lines = [
            parts[0].path,
            *first,
            *([""] if chance.random() < 0.5 else []),
            heading.format(parts[1].path),
        ]
        return _several(parts, [*lines, *parts[1].lines()])

    return replying


def _beside(n_shared: int) -> Replying:
    """Two blocks of one file that quote the same unchanged lines between what they change."""

    def replying(documents: Sequence[Document], chance: random.Random) -> Reply | None:
        one = chance.choice(documents)
        first, second = change(one, chance), change(one, chance)
        if first is None or second is None or first.at + len(first.old) >= second.at:
            return None
        between = one.lines[first.at + len(first.old) : second.at]
        if len(between) < n_shared or len(between) > 12:
            return None
        middle = len(between) - n_shared
        first = first._replace(old=[*first.old, *between], new=[*first.new, *between])
        shared = between[middle:]
        second = second._replace(
            at=second.at - n_shared, old=[*shared, *second.old], new=[*shared, *second.new]
        )
        parts = [Part(one.path, first), Part(one.path, second)]
        blocks = [line for part in chance.sample(parts, 2) for line in [part.path, *part.lines()]]
        return _several(parts, blocks)

    return replying


def _repeated(times: int) -> Replying:
    """The same block again and again."""

    def replying(documents: Sequence[Document], chance: random.Random) -> Reply | None:
        done = change(chance.choice(documents), chance)
        if done is None:
            return None
        part = Part(done.document.path, done)
        return _several([part], [part.path, *part.lines()] * times)

    return replying


def _built_on(documents: Sequence[Document], chance: random.Random) -> Reply | None:
    """The second block quotes lines as the first one made them."""
    first = change(chance.choice(documents), chance, "a line")
    if first is None or len(first.old) < 2:
        return None
    here = first.document._replace(lines=first.with_lines(first.new))
    second = change(here, chance)
    if second is None or second.at + len(second.old) <= first.at or second.at >= first.at + len(first.old):
        return None
    if occurrences(first.document.lines, second.old):
        return None
    path = here.path
    both, one, none = second.with_lines(second.new), here.lines, first.document.lines
    lines = [line for done in (first, second) for line in [path, *Part(path, done).lines()]]
    return Reply({path: text_of(none)}, text_of(lines), [{path: text_of(both)}], [{path: text_of(one)}])


def _kinds() -> Iterator[tuple[str, Replying]]:
    for name, markers in _MARKERS.items():
        yield f"markers: {name}", _marked(markers)
    yield "markers: the block is indented", _indented
    yield "markers: an underline of 10 `=` elsewhere", _underlined(among=False, n=10)
    yield "markers: an underline of 10 `=` quoted", _underlined(among=True, n=10)
    yield "markers: an underline of 7 `=` quoted", _underlined(among=True, n=7)
    for name, templates in _PATHS.items():
        yield f"path {name}", _pathed(templates)
    yield "no path, the old lines in one file", _without_paths("")
    yield "path of no file, the old lines in one", _without_paths("path/of/file.py")
    yield "one file, prose before its block", _prose_before
    yield "first block not closed, then another file", _not_closed(">>>>>>> REPLACE")
    yield "first block without separator", _not_closed("=======")
    for n in (1, 2, 3):
        yield f"{n} unchanged line{'s' * (n > 1)} in two blocks", _beside(n)
    for n in (2, 40):
        yield f"a block {n} times", _repeated(n)
    yield "a block of lines that another made", _built_on


KINDS: dict[str, Replying] = dict(_kinds())
