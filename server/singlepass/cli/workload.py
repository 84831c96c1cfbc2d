"""`singlepass bench --workload REPO`: measures edits of a repository's files, through server and engine.

The headless editor requests edits from a real server; nothing is written to disk. Three edits of each file
are requested: *cold*, when nothing of the file is cached; *warm*, with another instruction; and *edited*,
right after a line was typed above the selection. Prewarm is off, so that cold and edited show the wait of a
user who never pauses; with prewarm, both would be warm.
"""

import asyncio
import datetime
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import msgspec
from pygls.exceptions import JsonRpcException
from rich.console import Console
from rich.table import Table
from rich.text import Text

from singlepass.cli.bars import bar
from singlepass.cli.edit import model_options
from singlepass.cli.headless import HeadlessEditor, OpenFile, ServerGone
from singlepass.cli.models import EXIT_FAILED, EXIT_STOPPED, EXIT_USAGE
from singlepass.cli.output import make_console, print_json
from singlepass.cli.paths import real_path, say
from singlepass.cli.this_machine import this_machine
from singlepass.core import report
from singlepass.core.edits import Edit
from singlepass.core.lines import LineIndex
from singlepass.editor.workspace import UserError
from singlepass.files.source_files import is_generated, list_files
from singlepass.measuring import runs
from singlepass.measuring.workload import (
    PHASES,
    Change,
    Figure,
    Phase,
    Request,
    Workload,
    compare,
    differences,
)
from singlepass.repository.parsing import language_of

_N_SELECTED = 20
_LEAST_BYTES, _MOST_BYTES = 1000, 100_000
_MAX_TOKENS = 200
"""Maximum length of a reply; short, because the wait before it is measured."""
_BAR_CELLS = 20
_FIGURES: dict[Figure, str] = {
    "ttft_ms": "first token",
    "first_hunk_ms": "first hunk",
    "total_ms": "total",
}
_INSTRUCTIONS = {
    "cold": "Add comments that say why.",
    "warm": "Simplify these lines.",
    "edited": "Use clearer names.",
}


def run_workload(
    repository: Path, model: Path | None, n_files: int, *, target: str = "", as_json: bool
) -> int:
    """Measure, save and print the workload; returns the exit code."""
    console = make_console(stderr=as_json)
    try:
        options = model_options(model)
        folder = real_path(repository)
        folder.stat()  # raises FileNotFoundError
        paths = choose_files(folder, n_files)
        found = asyncio.run(_measure(folder, paths, options, target, lambda one: _tell(one, console)))
        runs.save(found)
    except (UserError, ServerGone, OSError) as error:
        console.print(Text(say(error), style="red"), soft_wrap=True)
        return EXIT_USAGE
    except KeyboardInterrupt:
        console.print("Stopped; no result was saved.")
        return EXIT_STOPPED
    if as_json:
        print_json(msgspec.to_builtins(found))
    else:
        _print(found, console)
        console.print(Text(f"saved: {runs.result_path(found)}", style="dim"), soft_wrap=True)
    return 0 if any(one.outcome == "done" for one in found.requests) else EXIT_FAILED


def choose_files(folder: Path, n_files: int) -> list[Path]:
    """Source files of all sizes, from small to large. Raises UserError if there are none."""
    sized = [
        (status.st_size, path)
        for path, status in list_files(folder)
        if language_of(path) and _LEAST_BYTES <= status.st_size <= _MOST_BYTES
    ]
    paths = [folder / path for _, path in sorted(sized)]
    written = [path for path in paths if not is_generated(path.read_bytes())]
    if not written:
        raise UserError(f"There are no source files of {_LEAST_BYTES:,} bytes or more in {folder}.")
    step = max(1.0, len(written) / n_files)
    return [written[int((index + 0.5) * step)] for index in range(min(n_files, len(written)))]


async def _measure(
    folder: Path,
    paths: Sequence[Path],
    options: dict[str, Any],
    target: str,
    on_request: Callable[[Request], object],
) -> Workload:
    """Request the edits. Raises UserError, ServerGone."""
    requests: list[Request] = []
    settings = {"max_tokens": _MAX_TOKENS, "stats": False, **options, "prewarm": False}
    async with HeadlessEditor(folder, settings) as editor:
        if target:
            try:
                await editor.command("singlepass.selectTarget", target)
            except JsonRpcException as error:
                raise UserError(error.message) from None
        for path in paths:
            file = editor.open(path)
            try:
                # Starts the engine and loads the model, without prefill.
                await editor.command("singlepass.context", file.uri)
                for phase in PHASES:
                    if phase == "edited":
                        _type(editor, file)
                    requests.append(await _ask(editor, file, phase, path.relative_to(folder).as_posix()))
                    on_request(requests[-1])
                    await editor.command("singlepass.undo")
            except JsonRpcException as error:
                raise UserError(error.message) from None
            editor.close(file)
        targets: list[dict[str, Any]] = [one["target"] for one in editor.timings if one["target"]]
    return Workload(
        created=datetime.datetime.now().isoformat(timespec="seconds"),
        repository=str(folder),
        # `why` is about the first request only.
        target={name: value for name, value in (targets[0] if targets else {}).items() if name != "why"},
        machine=await asyncio.to_thread(this_machine),
        versions=runs.versions(),
        requests=tuple(requests),
    )


def _selected(file: OpenFile) -> tuple[int, int]:
    """The lines to select, in the middle of a file (0-based; the end is exclusive)."""
    n_lines = LineIndex(file.text).n_lines
    first = max(0, n_lines // 2 - _N_SELECTED // 2)
    return first, min(n_lines, first + _N_SELECTED)


def _type(editor: HeadlessEditor, file: OpenFile) -> None:
    """Insert an empty line a third down the file, as if the user had typed it."""
    index = LineIndex(file.text)
    start = index.line_start(index.n_lines // 3)
    editor.type(file, Edit(start, start, "\n"))


async def _ask(editor: HeadlessEditor, file: OpenFile, phase: Phase, path: str) -> Request:
    first, end = _selected(file)
    first_hunk: list[float] = []
    started = time.monotonic()

    def watch() -> None:
        told = editor.hunks.get(file.uri)
        if told and told["hunks"] and not first_hunk:
            first_hunk.append((time.monotonic() - started) * 1000)

    editor.hunks.pop(file.uri, None)
    editor.on_change = watch
    arguments = {
        "uri": file.uri,
        "range": {"start": {"line": first, "character": 0}, "end": {"line": end, "character": 0}},
        "instruction": _INSTRUCTIONS[phase],
    }
    told = await editor.finish((await editor.command("singlepass.edit", arguments))["job"])
    editor.on_change = lambda: None
    spent: dict[str, Any] = told["timings"] or {}
    return Request(
        path=path,
        phase=phase,
        outcome=told["outcome"],
        n_prompt=spent.get("n_prompt", 0),
        n_cached=spent.get("n_cached", 0),
        ttft_ms=told["ttft_ms"],
        first_hunk_ms=first_hunk[0] if first_hunk else None,
        total_ms=told["total_ms"],
    )


def _tell(one: Request, console: Console) -> None:
    first = report.seconds(one.ttft_ms) if one.ttft_ms is not None else one.outcome
    console.print(
        Text(f"{one.path}, {one.phase}: {one.n_prompt:,} tokens, first token {first}"), soft_wrap=True
    )


def _print(found: Workload, console: Console) -> None:
    model, device = found.target.get("model", "?"), found.target.get("device", "?")
    console.print(f"\n{model} on {device}, {found.repository}", soft_wrap=True)
    table = Table(box=None, padding=(0, 2), pad_edge=False)
    table.add_column("")
    for name in ("requests", "cached", "first token", "slowest", "first hunk", "total"):
        table.add_column(name, justify="right")
    table.add_column("first token")
    done = [one for one in found.requests if one.outcome == "done"]
    groups = {phase: [one for one in done if one.phase == phase] for phase in PHASES}
    slowest = max((_median([one.ttft_ms for one in group]) or 0.0 for group in groups.values()), default=0.0)
    for phase, group in groups.items():
        if not group:
            continue
        first = [one.ttft_ms for one in group]
        share = median(one.n_cached / one.n_prompt if one.n_prompt else 0.0 for one in group)
        table.add_row(
            phase,
            str(len(group)),
            f"{share:.1%}",
            _seconds(_median(first)),
            _seconds(max((one for one in first if one is not None), default=None)),
            _seconds(_median([one.first_hunk_ms for one in group])),
            _seconds(median(one.total_ms for one in group)),
            bar(_median(first) or 0.0, slowest, _BAR_CELLS),
        )
    console.print(table)
    console.print(Text("medians; prewarm was off: with it, cold and edited would be warm", style="dim"))


def told_change(ratio: float, *, is_clear: bool) -> tuple[str, str]:
    """Two cells: the change in percent, and `~` if it is not clear."""
    return f"{ratio - 1:+.1%}", "" if is_clear else "~"


def print_comparison(first: Workload, second: Workload, *, as_json: bool) -> int:
    """Print a comparison of two results; returns the exit code."""
    console = make_console()
    changes, different = compare(first, second), differences(first, second)
    if as_json:
        told = {"changes": msgspec.to_builtins(changes), "differences": list(different)}
        print_json(told)
        return 0
    if not changes:
        console.print(Text("The two results have no file in common.", style="red"), soft_wrap=True)
        return EXIT_USAGE
    for line in different:
        console.print(Text(line, style="dim"), soft_wrap=True)
    table = Table(box=None, padding=(0, 2), pad_edge=False)
    table.add_column("")
    table.add_column("requests", justify="right")
    for name in _FIGURES.values():
        table.add_column(name, justify="right")
        table.add_column("", justify="right")
        table.add_column("")
    for phase in PHASES:
        figures = {one.figure: one for one in changes if one.phase == phase}
        if figures:
            cells = [part for name in _FIGURES for part in _cells(figures.get(name))]
            table.add_row(phase, str(max(one.n for one in figures.values())), *cells)
    console.print(table)
    console.print(
        Text("medians over the same files; ~ marks a change that not all of them show", style="dim")
    )
    return 0


def _cells(change: Change | None) -> tuple[str, str, str]:
    if change is None:
        return "–", "", ""
    times = f"{report.seconds(change.first_ms)} → {report.seconds(change.second_ms)}"
    return times, *told_change(change.ratio, is_clear=change.is_clear)


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None


def _seconds(ms: float | None) -> str:
    return "–" if ms is None else report.seconds(ms)
