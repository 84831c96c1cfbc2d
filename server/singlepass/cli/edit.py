"""`singlepass edit`: one edit through the language server, shown as a diff or written to the files."""

import asyncio
import enum
import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pygls.exceptions import JsonRpcException
from rich.console import Console
from rich.text import Text

from singlepass.cli.draw import Drawing, rejected_blocks, styled_diff, unified_diff
from singlepass.cli.headless import HeadlessEditor, OpenFile, ServerGone, load
from singlepass.cli.output import OutputLost, make_console
from singlepass.cli.paths import model_path, real_path, say, shown
from singlepass.cli.saving import NewText, SaveError, save, uninterrupted
from singlepass.core.inert import visible
from singlepass.core.lines import split_lines
from singlepass.core.report import count
from singlepass.editor.workspace import UserError, Workspace

EXIT_FAILED = 1
EXIT_USAGE = 2

_RANGE = re.compile(
    r"(\d{1,9}) | (\d{0,9}) \s*:\s* (\d{0,9}) | (\d{1,9}) \s*(?:-|,|\.\.)\s* (\d{1,9})", re.ASCII | re.VERBOSE
)


class Output(enum.Enum):
    """What `edit` prints."""

    LIVE = "live"
    DIFF = "diff"
    JSON = "json"


class Result:
    """The result of an edit."""

    def __init__(self, timings: dict[str, Any], files: Sequence[OpenFile], messages: Sequence[str]) -> None:
        self.timings = timings
        self.files = [file for file in files if file.text != file.original]
        self.messages = messages
        self.written: list[Path] = []
        self.told = ""
        """Messages about files that were and were not written; empty before an attempt."""

    @property
    def succeeded(self) -> bool:
        """Whether the job finished."""
        return self.timings["outcome"] == "done"

    @property
    def is_whole(self) -> bool:
        """Whether everything that the model wrote is in the edit. An empty reply means that nothing is to
        change."""
        told = self.timings
        is_cut_off = told.get("finish_reason") in ("length", "context", "runaway")
        wrote = told.get("ttft_ms") is not None
        return (
            self.succeeded
            and not told.get("n_rejected")
            and not is_cut_off
            and (bool(self.files) or not wrote)
        )


def run_edit(
    file: Path,
    instruction: str,
    lines: str,
    also: Sequence[Path],
    write: bool,
    output: Output,
    model: Path | None,
    protected: bool = False,
) -> int:
    """Make the edit and print or write it; returns the exit code."""
    console = make_console(stderr=output is not Output.LIVE)
    result = None
    try:
        folder = common_folder([file, *also])
        options = model_options(model)
        result = asyncio.run(edit_files(file, instruction, lines, also, options, console, folder))
        return report(result, console, folder, write, output, protected)
    except (UserError, ServerGone, OSError) as error:
        return _fail(console, say(error))
    except KeyboardInterrupt:
        what = result.told if result is not None and result.told else "nothing was written."
        return _fail(console, f"Cancelled; {what}")
    except OutputLost as lost:
        raise OutputLost(lost.error, lost.descriptor, done=result.told if result else "") from None


def report(
    result: Result, console: Console, folder: Path, write: bool, output: Output, protected: bool = False
) -> int:
    """Print a result, after writing its files if `write` is set (protected files only with `protected`);
    returns the exit code.

    The files are written first, so that a failure to print cannot prevent it.
    """
    is_written = True
    if write:
        with uninterrupted():
            is_written = _write(result, folder, protected)
    diff = [line for file in result.files for line in unified_diff(file, folder)]
    if output is Output.JSON:
        values: dict[str, Any] = {"timings": result.timings, "diff": "".join(diff)}
        if write:
            values |= {"written": [str(path) for path in result.written], "message": result.told}
        print(json.dumps(values, indent=2))
    elif output is Output.DIFF:
        # A terminal changes line ends and obeys escape sequences; a pipe gets the exact bytes of the diff.
        if sys.stdout.isatty():
            diff = [f"{visible(line.removesuffix(chr(10)))}\n" for line in diff]
        sys.stdout.flush()
        sys.stdout.buffer.write("".join(diff).encode("utf-8", "replace"))
        sys.stdout.buffer.flush()
    else:
        console.print(styled_diff(diff), soft_wrap=True)
        if result.files and not write:
            console.print("Nothing was written; --apply writes the result to the files.", soft_wrap=True)
    if output is not Output.JSON:
        for block in rejected_blocks(result.timings.get("rejected") or ()):
            console.print(block, soft_wrap=True)
        for message in result.messages:
            console.print(Text(message, style="yellow"), soft_wrap=True)
        console.print(Text(result.timings["message"], style="dim"), soft_wrap=True)
    if not is_written:
        console.print(Text(result.told, style="red"), soft_wrap=True)
    elif output is Output.LIVE and write:
        console.print(Text(result.told), soft_wrap=True)
    sys.stdout.flush()  # here, because if it fails, the error message says what was written
    return 0 if is_written and result.is_whole else EXIT_FAILED


def _write(result: Result, folder: Path, protected: bool) -> bool:
    """Write the files and describe the outcome in `result.told`; returns whether all were written."""
    if not result.succeeded:
        result.told = "Nothing was written, because the job did not finish."
        return not result.files
    workspace = Workspace()
    workspace.folders = [folder]
    kept = {} if protected else {file.path: _protection(file, workspace) for file in result.files}
    files = [file for file in result.files if not kept.get(file.path)]
    try:
        saved = save([NewText(file.path, file.data, file.text) for file in files])
    except SaveError as error:
        result.told = str(error)
        return False
    for file, one in zip(files, saved, strict=True):
        file.original, file.text = one.before, one.text
    result.written = [one.path for one in saved]
    names = [f"{shown(one.path)} ({one.note})" if one.note else shown(one.path) for one in saved]
    sentence = f"written: {', '.join(names) or 'nothing'}"
    for path, what in kept.items():
        if what:
            sentence += f"; not written: {shown(path)}, which is {what} (--protected writes it too)"
    result.told = sentence
    return len(files) == len(result.files)


def _protection(file: OpenFile, workspace: Workspace) -> str:
    """Why a file is protected, by its own name or by that of the link to it; empty if it is not."""
    return workspace.resolve(file.uri).protection or workspace.resolve(file.name.as_uri()).protection


async def edit_files(
    file: Path,
    instruction: str,
    lines: str,
    also: Sequence[Path],
    options: Mapping[str, Any],
    console: Console,
    folder: Path,
) -> Result:
    """Edit `file` through a server with the settings `options`, and draw it. Raises UserError, ServerGone,
    OSError."""
    # Before the server starts, so that errors in the arguments are reported at once.
    edited, *others = (load(path) for path in _distinct([file, *also]))
    selected = parse_lines(lines, edited)
    editor = HeadlessEditor(folder, options)
    with Drawing(console, folder) as drawing:
        async with editor:
            for one in (edited, *others):
                editor.show(one)
            editor.on_change = lambda: drawing.update(
                editor.statuses[-1] if editor.statuses else {}, editor.files
            )
            arguments: dict[str, Any] = {
                "uri": edited.uri,
                "range": selected,
                "instruction": instruction,
                "files": [other.uri for other in others],
            }
            try:
                job = (await editor.command("singlepass.edit", arguments))["job"]
            except JsonRpcException as error:
                raise UserError(error.message) from None
            try:
                timings = await editor.finish(job)
            except asyncio.CancelledError:
                await editor.command("singlepass.cancel")
                raise
            told = [text for level, text in editor.messages if level in ("warning", "error")]
            if timings["error"]:
                told = [text for text in told if timings["error"]["message"] not in text]
            return Result(timings, list(editor.files.values()), told)


def model_options(model: Path | None) -> dict[str, Any]:
    """Settings with which a server uses this model; empty, for the configured one, if it is None. Raises
    UserError, OSError."""
    return {"target": {"backend": "llama_cpp", "model": str(model_path(model))}} if model else {}


def parse_lines(lines: str, file: OpenFile) -> dict[str, Any]:
    """The LSP range of lines given as `10:20` (numbered from 1, both included), `10:`, `:20` or `10`; of the
    whole file if `lines` is empty.

    Raises UserError for anything else, and for lines that the file does not have.
    """
    n_lines = len(split_lines(file.text))
    match = _RANGE.fullmatch(lines.strip() or ":")
    if match is None:
        raise UserError(
            f"--range takes lines as FIRST:LAST, FIRST:, :LAST or one number, e.g. 10:20, not {lines!r}."
        )
    one, first, last, *both = match.groups()
    if both[0]:
        first, last = both
    start = int(one or first or 1)
    end = int(one or last or max(start, n_lines))
    if not 1 <= start <= end:
        raise UserError(
            f"--range {lines}: lines are numbered from 1, and the last must not come before the first."
        )
    if end > n_lines and (n_lines or lines.strip(" :")):
        raise UserError(f"--range {lines} goes past the end: {file.path.name} has {count(n_lines, 'line')}.")
    return {"start": {"line": start - 1, "character": 0}, "end": {"line": end, "character": 0}}


def common_folder(files: Sequence[Path]) -> Path:
    """The workspace folder of the files: the git repository that contains them, otherwise their nearest
    common folder. Raises OSError."""
    folders = [real_path(file).parent for file in files]
    common = folders[0]
    while not all(folder.is_relative_to(common) for folder in folders):
        common = common.parent
    for folder in (common, *common.parents):
        if (folder / ".git").exists():
            return folder
    return common


def _distinct(paths: Sequence[Path]) -> list[Path]:
    """The paths, each file once even if several paths lead to it. Raises OSError."""
    found: list[Path] = []
    for path in paths:
        if not any(path.samefile(other) for other in found):
            found.append(path)
    return found


def _fail(console: Console, message: str) -> int:
    console.print(Text(message, style="red"), soft_wrap=True)
    return EXIT_USAGE
