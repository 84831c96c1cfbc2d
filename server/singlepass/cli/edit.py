"""`singlepass edit`: one edit through a real server, drawn, written or printed."""

import asyncio
import enum
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pygls.exceptions import JsonRpcException
from rich.console import Console
from rich.text import Text

from singlepass.cli.draw import Drawing, styled_diff, unified_diff
from singlepass.cli.headless import HeadlessEditor, OpenFile, ServerGone
from singlepass.core.inert import visible
from singlepass.core.lines import LineIndex
from singlepass.workspace import UserError, Workspace

EXIT_FAILED = 1
EXIT_USAGE = 2


class Output(enum.Enum):
    """What `edit` prints."""

    LIVE = "live"
    DIFF = "diff"
    JSON = "json"


class Result:
    """What an edit came to."""

    def __init__(self, timings: dict[str, Any], files: Sequence[OpenFile], messages: Sequence[str]) -> None:
        self.timings = timings
        self.files = [file for file in files if file.text != file.original]
        self.messages = messages

    @property
    def succeeded(self) -> bool:
        """Whether the job ran to its end."""
        return self.timings["outcome"] == "done"


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
    """Run the command; returns the exit code."""
    console = Console(stderr=output is not Output.LIVE, highlight=False)
    folder = common_folder([file, *also])
    options = model_options(model)
    try:
        result = asyncio.run(edit_files(file, instruction, lines, also, options, console, folder))
    except (UserError, ServerGone, OSError) as error:
        return _fail(console, _say(error))
    except KeyboardInterrupt:
        return _fail(console, "Cancelled; nothing was written.")
    return report(result, console, folder, write, output, protected)


def report(
    result: Result, console: Console, folder: Path, write: bool, output: Output, protected: bool = False
) -> int:
    """Print a result, and write its files when asked, protected ones only with `protected`; the exit code."""
    diff = [line for file in result.files for line in unified_diff(file, folder)]
    if output is Output.JSON:
        print(json.dumps({"timings": result.timings, "diff": "".join(diff)}, indent=2))
    elif output is Output.DIFF:
        # A terminal may turn line ends round, and obeys escapes; a pipe gets the diff's own bytes.
        if sys.stdout.isatty():
            diff = [f"{visible(line.removesuffix(chr(10)))}\n" for line in diff]
        sys.stdout.buffer.write("".join(diff).encode("utf-8", "surrogateescape"))
        sys.stdout.buffer.flush()
    else:
        console.print(styled_diff(diff), soft_wrap=True)
    if output is not Output.JSON:
        for message in result.messages:
            console.print(Text(message, style="yellow"), soft_wrap=True)
        console.print(Text(result.timings["message"], style="dim"), soft_wrap=True)
    if write and result.succeeded:
        workspace = Workspace()
        workspace.folders = [folder]
        kept = {} if protected else {file.path: workspace.protection(file.uri) for file in result.files}
        written = [file for file in result.files if not kept.get(file.path)]
        for file in written:
            write_file(file)
        for path, what in kept.items():
            if what:
                message = f"{path} is {what} and was not written. --protected writes it too."
                console.print(Text(message, style="yellow"), soft_wrap=True)
        if len(written) < len(result.files):
            return EXIT_FAILED
        if output is Output.LIVE:
            names = ", ".join(str(file.path) for file in written) or "nothing"
            console.print(f"written: {names}", soft_wrap=True)
    return 0 if result.succeeded else EXIT_FAILED


async def edit_files(
    file: Path,
    instruction: str,
    lines: str,
    also: Sequence[Path],
    options: Mapping[str, Any],
    console: Console,
    folder: Path,
) -> Result:
    """Let a server with these settings edit `file`, and draw it. Raises UserError, ServerGone, OSError."""
    editor = HeadlessEditor(folder, options)
    with Drawing(console, folder) as drawing:
        async with editor:
            target = editor.open(file)
            others = [editor.open(path) for path in also]
            editor.on_change = lambda: drawing.update(
                editor.statuses[-1] if editor.statuses else {}, editor.files
            )
            arguments: dict[str, Any] = {
                "uri": target.uri,
                "range": parse_lines(lines, target),
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
    """The settings that make a server use this model instead of the configured one."""
    path = str(model.expanduser().resolve()) if model else ""
    return {"target": {"backend": "llama_cpp", "model": path}} if model else {}


def parse_lines(lines: str, file: OpenFile) -> dict[str, Any]:
    """`10:20` (from 1, both ends included), `10`, or nothing for the whole file, as an LSP range.

    Raises UserError for anything else, and for lines the file does not have.
    """
    index = LineIndex(file.text)
    n_lines = index.n_lines
    first, _, last = lines.partition(":")
    try:
        start = int(first) if lines else 1
        end = int(last) if last else (start if lines else n_lines)
    except ValueError:
        raise UserError(f"--range takes lines as FIRST:LAST, e.g. 10:20, not {lines!r}.") from None
    if not 1 <= start <= end:
        raise UserError(f"--range {lines}: the first line is 1 and the last is not before it.")
    if end > n_lines:
        raise UserError(f"--range {lines} goes past the end: {file.path.name} has {n_lines:,} lines.")
    return {"start": {"line": start - 1, "character": 0}, "end": {"line": end, "character": 0}}


def write_file(file: OpenFile) -> None:
    """Write a file's text, its BOM kept. Raises OSError."""
    had_bom = file.path.read_bytes().startswith(b"\xef\xbb\xbf")
    bom = "\ufeff" if had_bom and not file.text.startswith("\ufeff") else ""
    file.path.write_bytes((bom + file.text).encode("utf-8"))


def common_folder(files: Sequence[Path]) -> Path:
    """The workspace folder of the files: the nearest repository, or the folder that holds them all."""
    folders = [file.resolve().parent for file in files]
    common = folders[0]
    while not all(folder.is_relative_to(common) for folder in folders):
        common = common.parent
    for folder in (common, *common.parents):
        if (folder / ".git").exists():
            return folder
    return common


def _say(error: BaseException) -> str:
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}."
    return str(error)


def _fail(console: Console, message: str) -> int:
    console.print(Text(message, style="red"), soft_wrap=True)
    return EXIT_USAGE
