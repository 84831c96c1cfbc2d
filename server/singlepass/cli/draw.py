"""Draws a running job: a bar, then the diff of every file as it grows, then what it cost."""

import difflib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from singlepass.cli.headless import OpenFile
from singlepass.core.inert import visible

_LINE = re.compile(r"[^\n]*\n|[^\n]+")
_STYLES = {"+": "green", "-": "red", "@": "cyan"}


def unified_diff(file: OpenFile, folder: Path) -> list[str]:
    """The lines of a unified diff from the file's first text to its text now; empty without a change.

    Lines are those of git and `patch`, which end with a newline and nothing else; a missing final newline is
    marked as they do.
    """
    name = file.path.relative_to(folder).as_posix() if file.path.is_relative_to(folder) else str(file.path)
    lines = difflib.unified_diff(
        _LINE.findall(file.original),
        _LINE.findall(file.text),
        f"a/{name}",
        f"b/{name}",
    )
    return [line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines]


def styled_diff(lines: Iterable[str]) -> Text:
    """A unified diff in colours. What a model wrote steers no terminal, and all of it is seen."""
    text = Text()
    for line in lines:
        bare = visible(line.rstrip("\r\n"))
        style = "bold" if line.startswith(("+++", "---")) else _STYLES.get(line[:1], "")
        text.append(bare + "\n", style)
    text.rstrip()
    return text


class Drawing:
    """A live view of one job on a terminal; on anything else it prints nothing until it is closed."""

    def __init__(self, console: Console, folder: Path) -> None:
        self.console = console
        self.folder = folder
        self.files: Mapping[str, OpenFile] = {}
        self.status: Mapping[str, Any] = {}
        self._live = Live(
            self, console=console, refresh_per_second=12, transient=True, vertical_overflow="crop"
        )

    def __enter__(self) -> "Drawing":
        if self.console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def update(self, status: Mapping[str, Any], files: Mapping[str, OpenFile]) -> None:
        """Take what is known now; the screen follows at its own pace."""
        self.status, self.files = status, files

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield self._bar()
        lines = [line for file in self.files.values() for line in unified_diff(file, self.folder)]
        # The end of the diff is where it grows; the whole of it is printed when the job is done.
        room = max(3, console.height - 4)
        yield styled_diff(lines[-room:])

    def _bar(self) -> Group | Table:
        table = Table.grid(padding=(0, 1))
        percent = self.status.get("percent")
        bar = ProgressBar(total=100, completed=percent or 0, width=24, pulse=percent is None)
        table.add_row(bar, Text(str(self.status.get("message", "starting"))))
        return table
