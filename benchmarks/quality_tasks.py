"""Edits that people ask of an editor, as data: files, what is selected, the wish, and what would be right.

A file of tasks is TOML:

    language = "python"                  # of all tasks in it

    [[task]]
    name = "mean-of-nothing"
    kind = "error"
    ask = "return 0.0 for an empty list"
    reference = '''
     def mean(xs):
    +    if not xs:
    +        return 0.0
         return sum(xs) / len(xs)
    '''
    wrong = ['''...''']                  # plausible edits that do something else
    check = '''assert run("stats").mean([]) == 0.0'''
    [task.files]                         # the first one is the one that the user works in
    "stats.py" = '''...'''

**Marks in a file** are taken out of it: `«` and `»` stand in the first and the last selected line, `‸` in the
line with the cursor, `⟦` and `⟧` in the first and the last of lines that may change. A line that is only `⟦⟧`
is where lines may be added. The selected lines may change in any case.

**An edit** (`reference`, `accepted`, `wrong`) is a diff: lines that begin with `-`, `+` or a blank, the old
ones of which stand in the file once. `@@ PATH` begins another place. What is right is told by `check`, Python
that `quality_look.py` runs beside the edited files, by `node`, JavaScript with them as modules, or else by
the results of `reference` and `accepted`, white space aside.

Further keys of a task: `action`, the title of a built-in action, instead of `ask`; `problem`, a diagnostic,
as a quick fix asks about it; `comment = true`, a comment at the cursor asks; `nothing = true`, no change is
right; `line_end`; `read_only`, paths of files that are only shown.

CanItEdit's file (JSON lines with `before`, `after`, `tests`, two instructions) is read as it is.
"""

import hashlib
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

Files = dict[str, str]
"""Texts by path."""
Span = tuple[int, int]
"""Lines of a file, from 0, the end exclusive. An empty one is where lines may be added."""

SUFFIXES = {
    "python": (".py",),
    "javascript": (".js",),
    "typescript": (".ts",),
    "go": (".go",),
    "rust": (".rs",),
    "java": (".java",),
    "cpp": (".cpp", ".hpp"),
    "markdown": (".md",),
    "yaml": (".yaml", ".yml"),
    "sql": (".sql",),
}


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """One wish, and how its result is judged."""

    name: str
    kind: str
    language: str
    files: Files
    """The edited file first."""
    first_line: int
    end_line: int
    """Exclusive; `first_line` for a cursor."""
    ask: str = ""
    action: str = ""
    problem: str = ""
    comment: bool = False
    nothing: bool = False
    read_only: tuple[str, ...] = ()
    scope: dict[str, tuple[Span, ...]]
    """The lines that may change."""
    reference: Files
    """The files as they may be in the end."""
    accepted: tuple[Files, ...] = ()
    wrong: tuple[Files, ...] = ()
    check: str = ""
    node: str = ""
    program: str = ""
    """Python to be put at the end of the edited file and run, as CanItEdit does it."""

    @property
    def edited(self) -> str:
        """The path of the file that the user works in."""
        return next(iter(self.files))

    @property
    def fingerprint(self) -> str:
        """Another one for another task."""
        return hashlib.sha256(msgspec.json.encode(self)).hexdigest()[:16]


class TaskError(Exception):
    """What is wrong with a file of tasks."""


class _Raw(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: str
    kind: str
    files: Annotated[Files, Meta(min_length=1)]
    ask: str = ""
    action: str = ""
    problem: str = ""
    comment: bool = False
    nothing: bool = False
    read_only: tuple[str, ...] = ()
    reference: str = ""
    accepted: tuple[str, ...] = ()
    wrong: tuple[str, ...] = ()
    check: str = ""
    node: str = ""
    line_end: str = "\n"


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    language: str
    task: tuple[_Raw, ...]
    texts: Files = {}
    """Files of several tasks: `@NAME` instead of a file's text, with the marks in `marks`."""


def read_tasks(path: Path) -> list[Task]:
    """The tasks of a file. Raises TaskError."""
    if path.suffix == ".jsonl":
        rows = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        return [task for row in rows for task in _can_it_edit(msgspec.json.decode(row))]
    try:
        file = msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), _File)
    except (ValueError, msgspec.ValidationError) as error:
        raise TaskError(f"{path.name}: {error}") from None
    tasks: list[Task] = []
    for raw in file.task:
        try:
            tasks.append(_task(raw, file))
        except TaskError as error:
            raise TaskError(f"{path.name}: {raw.name}: {error}") from None
    return tasks


def _task(raw: _Raw, file: _File) -> Task:
    files: Files = {}
    scope: dict[str, tuple[Span, ...]] = {}
    selected: Span | None = None
    for path, text in raw.files.items():
        if text.startswith("@"):
            name, *edits = text.split("\n", 1)
            text = apply_diff({path: file.texts[name[1:]]}, edits[0] if edits else "", path)[path]
        files[path], here, scope[path] = _unmarked(text)
        if here is not None and selected is not None:
            raise TaskError("two places are selected")
        if here is not None and path != next(iter(raw.files)):
            raise TaskError("the selection is not in the first file")
        selected = here or selected
    if selected is None:
        raise TaskError("nothing is selected, and there is no cursor")
    first = next(iter(files))
    if selected[0] < selected[1]:
        scope[first] = (*scope[first], selected)
    elif not any(scope.values()) and not raw.nothing:
        raise TaskError("which lines may change is not told")

    def edited(diff: str) -> Files:
        return _with_line_end(apply_diff(files, diff, first), raw.line_end)

    return Task(
        name=raw.name,
        kind=raw.kind,
        language=file.language,
        files=_with_line_end(files, raw.line_end),
        first_line=selected[0],
        end_line=selected[1],
        ask=raw.ask,
        action=raw.action,
        problem=raw.problem,
        comment=raw.comment,
        nothing=raw.nothing,
        read_only=raw.read_only,
        scope=scope,
        reference=edited(raw.reference),
        accepted=tuple(map(edited, raw.accepted)),
        wrong=tuple(map(edited, raw.wrong)),
        check=raw.check,
        node=raw.node,
    )


def _with_line_end(files: Mapping[str, str], line_end: str) -> Files:
    return {path: text.replace("\n", line_end) for path, text in files.items()}


def _unmarked(text: str) -> tuple[str, Span | None, tuple[Span, ...]]:
    """A text without its marks, the selected lines, and those that may change."""
    lines: list[str] = []
    spans: list[Span] = []
    start = selected_from = None
    selected: Span | None = None
    for line in text.split("\n"):
        at = len(lines)
        if line.strip() == "⟦⟧":
            spans.append((at, at))
            continue
        if "⟦" in line:
            start = at
        if "«" in line:
            selected_from = at
        if "‸" in line:
            selected = (at, at)
        if "»" in line:
            if selected_from is None:
                raise TaskError("a selection ends that has not begun")
            selected, selected_from = (selected_from, at + 1), None
        if "⟧" in line:
            if start is None:
                raise TaskError("lines that may change end and have not begun")
            spans.append((start, at + 1))
            start = None
        lines.append(line.translate(_MARKS))
    if start is not None or selected_from is not None:
        raise TaskError("a mark has no end")
    return "\n".join(lines), selected, tuple(spans)


_MARKS = dict.fromkeys(map(ord, "«»‸⟦⟧"))


def apply_diff(files: Mapping[str, str], diff: str, path: str) -> Files:
    """The files after an edit, which begins in the file at `path`. Raises TaskError unless each hunk fits
    exactly one place."""
    edited = dict(files)
    hunk: list[str] = []
    for line in [*diff.removesuffix("\n").split("\n"), "@@"]:
        if not line.startswith("@@"):
            hunk.append(line)
            continue
        if any(one.strip() for one in hunk):
            if path not in edited:
                raise TaskError(f"there is no file {path}")
            edited[path] = _apply_hunk(edited[path], hunk)
        path, hunk = line[2:].strip() or path, []
    return edited


def _apply_hunk(text: str, hunk: Sequence[str]) -> str:
    if wrong := [line for line in hunk if line and line[0] not in " +-"]:
        raise TaskError(f"no line of a diff: {wrong[0]}")
    old = [line[1:] for line in hunk if not line.startswith("+")]
    new = [line[1:] for line in hunk if not line.startswith("-")]
    lines = text.split("\n")
    found = [at for at in range(len(lines) - len(old) + 1) if lines[at : at + len(old)] == old]
    if not old or len(found) != 1:
        raise TaskError(f"{len(found)} places for an edit that begins with {old[:1]}")
    return "\n".join([*lines[: found[0]], *new, *lines[found[0] + len(old) :]])


def _can_it_edit(row: Mapping[str, Any]) -> Iterator[Task]:
    """One of CanItEdit's programs, with each of its two instructions; all of it is selected, as
    `singlepass edit` does it for a file."""
    path = f"{row['name']}.py"
    before, after = (f"{row[key].rstrip()}\n" for key in ("before", "after"))
    n_lines = before.count("\n")
    for style in ("descriptive", "lazy"):
        yield Task(
            name=f"{row['full_name']}/{style}",
            kind=row["taxonomy"]["change_kind"],
            language="python",
            files={path: before},
            first_line=0,
            end_line=n_lines,
            ask=row[f"instruction_{style}"],
            scope={path: ((0, n_lines),)},
            reference={path: after},
            program=row["tests"],
        )
