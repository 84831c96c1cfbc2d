"""The prompt as ordered segments, most stable first, so that only what follows a change is prefilled again.

    0 system      instructions and the edit format; changes with the version
    1 map         the most important definitions of the repository; rebuilt when idle and outdated
    2 neighbours  one segment per file; changes when the file changes
    3 document    the file that is edited
    4 task        selection, diagnostics, instruction; changes with every request

Nothing volatile (time, cursor, counters) precedes the task. If lines of a file look like markers, the task
says that this request has longer markers, so that the earlier segments do not change.
"""

import msgspec
from singlepass_backends.base import Draft, Segment

from singlepass.core.context import MAP, Context, SourceFile
from singlepass.core.fences import code_block, fence_for
from singlepass.core.grammar import markers
from singlepass.core.lines import encodable, visible_lines

_BLOCKS = """\
You edit source code. You are given files and one task, and you answer with edit blocks and nothing else: no \
explanation, no code fences. A block names a file, quotes lines of it exactly, and gives the lines that take \
their place:

path/of/file.py
<<<<<<< SEARCH
the old lines, copied exactly, whole lines with their indentation
=======
the new lines
>>>>>>> REPLACE

- Quote as few lines as make the place unique in the file, but at least every line that changes.
- Write the blocks of a file from its top to its bottom, and do not quote a line twice.
- To insert, quote the line before or after and repeat it among the new lines. To delete, leave the new \
lines out. In an empty file quote nothing.
- Change what the task asks for and nothing else. Keep the style, the names and the comments of the file.
- Do not edit files marked read only.
- If nothing has to change, answer with nothing.
"""
_REWRITE = """\
You edit source code. You are given files and one task, and you answer with code and nothing else: no \
explanation.

If the task ends with lines of a file in a code block, write these lines anew. Answer with one code block \
that holds the new text of exactly these lines:

- Change what the task asks for and nothing else. Repeat every other line as it is, with its indentation.
- Do not write lines that stand before or after the given ones.
- If nothing has to change, repeat the lines as they are.

Otherwise answer with edit blocks. A block names"""
_BOTH = _REWRITE + _BLOCKS.partition("A block names")[2]
"""The rules for both forms of answers."""


class Task(msgspec.Struct, frozen=True):
    """What the user asked for."""

    instruction: str
    path: str
    first_line: int
    """0-based."""
    end_line: int
    """0-based, exclusive; equal to `first_line` for a cursor without a selection."""
    diagnostics: tuple[str, ...] = ()
    """Messages of the diagnostics at the selection, each with its line."""
    region: tuple[int, int] | None = None
    """The lines to be rewritten, end exclusive; None if the answer is edit blocks."""


def render_repository(map: str, *, may_rewrite: bool = False) -> tuple[Segment, ...]:
    """The segments that do not depend on the document. `map` is empty if there is none."""
    system = Segment("system", _BOTH if may_rewrite else _BLOCKS, "system", shared=True)
    return (system, Segment(MAP, _map_text(map), shared=True)) if map else (system,)


def render_context(context: Context) -> tuple[Segment, ...]:
    """The segments that do not depend on the task; these are prewarmed."""
    return (
        *render_repository(context.map, may_rewrite=context.may_rewrite),
        *(_file_segment(file, shared=True) for file in context.neighbours),
        _file_segment(context.edited, shared=False),
    )


def render_prompt(context: Context, task: Task, marker_size: int = 7) -> tuple[Segment, ...]:
    """All segments of a request."""
    return (*render_context(context), Segment("task", _task_text(context, task, marker_size)))


MOST_LIKELY = 6
"""Maximum number of candidates for the first quoted line of a reply."""


def expect_reply(context: Context, task: Task, marker_size: int = 7, corpus: tuple[str, ...] = ()) -> Draft:
    """The expected reply, for speculative decoding: it replaces the selected lines, or lines that begin with
    one of them or with the cursor's line. `corpus` is the draft corpus: texts outside the prompt that new
    lines may resemble."""
    search, separator, close = markers(marker_size)
    lines = visible_lines(context.edited.text)
    selected = lines[task.first_line : task.end_line]
    old = "".join(f"{line}\n" for line in selected)
    opening = f"{task.path}\n{search}\n" + (f"{old}{separator}\n{old}" if selected else "")
    likely = [line for line in selected if line.strip()] or lines[task.first_line : task.first_line + 1]
    return Draft(
        encodable(opening),
        search,
        separator,
        close,
        tuple(dict.fromkeys(encodable(f"{line}\n") for line in likely[:MOST_LIKELY])),
        encodable("".join(f"{line}\n" for line in lines)),
        tuple(map(encodable, corpus)),
    )


def _file_segment(file: SourceFile, *, shared: bool) -> Segment:
    body = "".join(f"{line}\n" for line in visible_lines(file.text))
    access = "" if file.editable else ' access="read only"'
    return Segment(file.path, f'<file path="{file.path}"{access}>\n{body}</file>\n\n', shared=shared)


def _map_text(map: str) -> str:
    return f"<repository_map>\nThe definitions used most in this repository:\n\n{map}</repository_map>\n\n"


def _task_text(context: Context, task: Task, marker_size: int) -> str:
    lines = visible_lines(context.edited.text)
    parts: list[str] = []
    selected = lines[task.first_line : task.end_line]
    if task.region == (task.first_line, task.end_line):
        pass  # they are shown below
    elif selected:
        numbers = _line_numbers(task.first_line, task.first_line + len(selected))
        parts.append(f"Selected, {numbers} of {task.path}:\n" + "".join(f"{line}\n" for line in selected))
    elif task.first_line < len(lines):
        parts.append(f"The cursor is in {task.path} on this line:\n{lines[task.first_line]}\n")
    if task.diagnostics:
        parts.append("Problems reported there:\n" + "".join(f"- {text}\n" for text in task.diagnostics))
    if task.region is not None:
        start, end = task.region
        block = code_block(lines[start:end], task.path, fence_for(lines[start:end]))
        return "\n".join(
            (
                *parts,
                f"Task: {task.instruction}\n",
                f"{_line_numbers(start, end).capitalize()} of {task.path}, to be written anew:\n{block}\n",
            )
        )
    if marker_size != 7:
        parts.append(
            f"In this answer every marker is {marker_size} characters long:\n"
            + "".join(f"{marker}\n" for marker in markers(marker_size))
        )
    parts.append(f"Task: {task.instruction}\n")
    return "\n".join(parts)


def _line_numbers(first: int, end: int) -> str:
    return f"line {first + 1}" if end - first == 1 else f"lines {first + 1} to {end}"
