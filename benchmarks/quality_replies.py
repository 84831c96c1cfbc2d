"""Right edits in the forms of models that keep to no format, on the tasks of `quality.py`. No model is run.

    python benchmarks/quality_replies.py [--show FORM]

Each task's own solution is written as a reply, in one form after the other, and goes through the parser and
the planner as one that no grammar held. The edit is in every reply, so there are three ends: the files come
out as the solution has them; nothing is changed, and it is told why; or they come out otherwise. That is our
mistake, unless the form itself is a slip: there the reply says something else, and only a guard can know.
"""

import argparse
import difflib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from quality import OWN_TASKS
from quality_arms import ModelInfo, Reply, asked_of, changed_blocks, read_blocks, visible_lines
from quality_tasks import Files, Task, read_tasks

INFO = ModelInfo(backend="none", name="none", constrains=False)


class Region(NamedTuple):
    """Lines of the edited file, and what they become."""

    path: str
    first: int
    old: list[str]
    new: list[str]
    beside: list[str]
    """The lines below."""


def text(lines: Sequence[str]) -> str:
    """Lines as a text."""
    return "".join(f"{line}\n" for line in lines)


def block(path: str, old: Sequence[str], new: Sequence[str]) -> str:
    """A block of the format that is asked for."""
    named = f"{path}\n" if path else ""
    return f"{named}<<<<<<< SEARCH\n{text(old)}=======\n{text(new)}>>>>>>> REPLACE\n"


def fence(lines: Sequence[str], language: str = "") -> str:
    """Lines as a block of code."""
    return f"```{language}\n{text(lines)}```\n"


def element(path: str, lines: Sequence[str]) -> str:
    """Lines in the element in which the prompt shows a file."""
    return f'<file path="{path}">\n{text(lines)}</file>\n'


def _lines(files: Files, path: str) -> list[str]:
    return visible_lines(files[path])


def _changed(task: Task) -> list[str]:
    return [path for path in task.files if task.files[path] != task.reference[path]]


def _hunks(task: Task) -> Iterator[tuple[str, list[str], list[str]]]:
    """What differs, with a line around."""
    for path in _changed(task):
        old, new = _lines(task.files, path), _lines(task.reference, path)
        for a, b, c, d in changed_blocks(old, new):
            yield path, old[max(0, a - 1) : b + 1], new[max(0, c - 1) : d + 1]


def _region(task: Task, first: int, end: int) -> Region | None:
    """Lines of the edited file and their new text; None where the solution changes others too."""
    old, new = _lines(task.files, task.edited), _lines(task.reference, task.edited)
    n_after = len(old) - end
    is_alone = _changed(task) == [task.edited] and old[:first] == new[:first]
    if first == end or not is_alone or old[end:] != new[len(new) - n_after :]:
        return None
    return Region(task.edited, first, old[first:end], new[first : len(new) - n_after], old[end:])


def _selection(task: Task) -> Region | None:
    return _region(task, task.first_line, task.end_line)


def _scope(task: Task) -> Region | None:
    """From the first to the last line that may change: mostly the definition around the place."""
    spans = [span for span in task.scope[task.edited] if span[0] < span[1]]
    return _region(task, min(spans)[0], max(end for _, end in spans)) if spans else None


def _dedented(lines: Sequence[str]) -> list[str]:
    depth = min((len(line) - len(line.lstrip()) for line in lines if line.strip()), default=0)
    return [line[depth:] for line in lines]


Form = Callable[[Task], str | None]


def _of(region: Callable[[Task], Region | None], write: Callable[[Region], str | None]) -> Form:
    def form(task: Task) -> str | None:
        found = region(task)
        return None if found is None else write(found)

    return form


def _whole(task: Task, write: Callable[[str, list[str]], str]) -> str:
    return "".join(write(path, _lines(task.reference, path)) for path in _changed(task))


FORMS: dict[str, Form] = {
    "blocks, a line around": lambda task: "".join(block(*one) for one in _hunks(task)),
    "blocks, the example's path": lambda task: "".join(
        block("path/of/file.py", old, new) for _, old, new in _hunks(task)
    ),
    "blocks, no path": lambda task: "".join(block("", old, new) for _, old, new in _hunks(task)),
    "blocks in a fence": lambda task: "```\n" + "".join(block(*one) for one in _hunks(task)) + "```\n",
    "file elements": lambda task: _whole(task, element),
    "files in fences": lambda task: _whole(task, lambda path, lines: f"{path}\n{fence(lines)}"),
    "files in fences, no path": lambda task: _whole(task, lambda _, lines: fence(lines, task.language)),
    "files, bare": lambda task: _whole(task, lambda _, lines: text(lines)),
    "selection in a fence": _of(_selection, lambda one: fence(one.new)),
    "selection in a fence, dedented": _of(_selection, lambda one: fence(_dedented(one.new))),
    "selection, bare": _of(_selection, lambda one: text(one.new)),
    "definition in a fence": _of(_scope, lambda one: fence(one.new)),
    "definition in a file element": _of(_scope, lambda one: element(one.path, one.new)),
    "definition as a block": _of(_scope, lambda one: block(one.path, one.old, one.new)),
    "definition as a block, dedented": _of(
        _scope, lambda one: block(one.path, _dedented(one.old), _dedented(one.new))
    ),
    "definition as a block, numbered": _of(
        _scope,
        lambda one: block(
            one.path,
            [f"{n} {line}" for n, line in enumerate(one.old, one.first + 1)],
            [f"{n} {line}" for n, line in enumerate(one.new, one.first + 1)],
        ),
    ),
    "slip: new lines dedented": _of(
        _scope,
        lambda one: None if _dedented(one.new) == one.new else block(one.path, one.old, _dedented(one.new)),
    ),
    "slip: only the first line quoted": _of(
        _scope, lambda one: block(one.path, one.old[:1], one.new) if len(one.old) > 1 else None
    ),
    "slip: the first and the last line quoted": _of(
        _scope,
        lambda one: block(one.path, [one.old[0], one.old[-1]], one.new) if len(one.old) > 2 else None,
    ),
    "slip: all but the last line quoted": _of(
        _scope,
        lambda one: (
            block(one.path, one.old[:-1], one.new)
            if len(one.old) > 2 and one.old[-1] == one.new[-1]
            else None
        ),
    ),
    "slip: an empty line below quoted": _of(
        _scope,
        lambda one: block(one.path, [*one.old, ""], one.new) if one.beside[:1] == [""] else None,
    ),
}


def edited(task: Task, reply: str) -> tuple[Files, tuple[tuple[str, str], ...]]:
    """The files after a reply, and what was refused of it."""
    found = read_blocks(asked_of(task), Reply(reply, "stop"), INFO, constrained=False)
    return found.files, found.refused


def difference(task: Task, files: Files) -> str:
    """How files differ from those of the solution."""
    return "".join(
        line
        for path in task.files
        for line in difflib.unified_diff(
            task.reference[path].splitlines(keepends=True), files[path].splitlines(keepends=True), n=1
        )
    )


def main() -> None:
    """Print what becomes of each form."""
    parser = argparse.ArgumentParser(description="Right edits in forms that were not asked for.")
    parser.add_argument("--show", default=" ", metavar="FORM", help="print what came out otherwise")
    options = parser.parse_args()
    tasks = [task for path in OWN_TASKS for task in read_tasks(path) if not task.nothing]
    print("| form | replies | right | nothing changed | otherwise |\n|---|---|---|---|---|")
    for name, form in FORMS.items():
        counts: Counter[str] = Counter()
        for task in tasks:
            reply = form(task)
            if reply is None:
                continue
            files, refused = edited(task, reply)
            end = "right" if files == task.reference else "nothing" if files == task.files else "otherwise"
            counts[end] += 1
            if end == "otherwise" and name.startswith(options.show):
                print(f"--- {task.name} {refused}\n{reply}{difference(task, files)}")
        row = [str(counts[end]) for end in ("right", "nothing", "otherwise")]
        print(f"| {name} | {counts.total()} | {' | '.join(row)} |")


if __name__ == "__main__":
    main()
