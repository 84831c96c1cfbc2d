"""Draws a running job in the terminal: a progress bar, and below it the diff as it grows."""

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from singlepass.cli.headless import OpenFile
from singlepass.core.inert import visible
from singlepass.core.lines import BYTE_ORDER_MARK

_LINE = re.compile(r"[^\n]*\n|[^\n]+")
_STYLES = {"+": "green", "-": "red", "@": "cyan"}
_ESCAPES = {char: f"\\{name}" for char, name in zip('\a\b\t\n\v\f\r"\\', 'abtnvfr"\\', strict=True)}
_NEEDS_ESCAPE = re.compile(r"""[\x00-\x1f"\\\x7f\ud800-\udfff]""")
_BAR_CELLS = 24
_LEAST_CELLS = 8
"""Minimum room for the message; if the terminal is narrower, the bar is left out."""


def unified_diff(file: OpenFile, folder: Path) -> list[str]:
    """The lines of a unified diff from the file's original to its current text; empty without a change.

    The format is that of git and `patch`: only `\\n` ends a line, a missing final newline is marked, a byte
    order mark belongs to the first line, and names with special characters are quoted.
    """
    name = file.path.relative_to(folder).as_posix() if file.path.is_relative_to(folder) else str(file.path)
    mark = BYTE_ORDER_MARK if file.data.startswith(BYTE_ORDER_MARK.encode()) else ""
    lines = difflib.unified_diff(
        _LINE.findall(mark + file.original),
        _LINE.findall(mark + file.text),
        _diff_name(f"a/{name}"),
        _diff_name(f"b/{name}"),
    )
    return [line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines]


def _diff_name(name: str) -> str:
    """A name as git writes it into a diff: quoted if it has special characters, followed by a tab if it has
    spaces."""
    quoted = _NEEDS_ESCAPE.sub(_escape, name)
    if quoted != name:
        return f'"{quoted}"'
    return f"{name}\t" if " " in name else name


def _escape(match: re.Match[str]) -> str:
    char = match[0]
    return _ESCAPES.get(char) or "".join(f"\\{byte:03o}" for byte in char.encode("utf-8", "surrogateescape"))


def styled_diff(lines: Iterable[str]) -> Text:
    """A unified diff in colours, with control characters and invisible characters made visible."""
    text = Text()
    for line in lines:
        bare = visible(line.rstrip("\r\n"))
        style = "bold" if line.startswith(("+++", "---")) else _STYLES.get(line[:1], "")
        text.append(bare + "\n", style)
    text.rstrip()
    return text


def rejected_blocks(rejected: Iterable[Mapping[str, Any]]) -> Iterator[Text]:
    """The rejected hunks, each with the reason and its old and new lines."""
    for one in rejected:
        text = Text(visible(f"not applied, {one['path'] or 'without a path'}: {one['message']}\n"), "yellow")
        for sign, lines in (("-", one["old"]), ("+", one["new"])):
            for line in lines:
                text.append(visible(f"{sign}{line}") + "\n", _STYLES[sign])
        text.rstrip()
        yield text


class Drawing:
    """A live view of one job on a terminal; it draws nothing if the console is no terminal."""

    def __init__(self, console: Console, folder: Path) -> None:
        self.console = console
        self.folder = folder
        self.files: Mapping[str, OpenFile] = {}
        self.status: Mapping[str, Any] = {}
        self._live = Live(
            self, console=console, refresh_per_second=12, transient=True, vertical_overflow="crop"
        )

    def __enter__(self) -> "Drawing":
        if self.console.is_terminal and self.console.height > 2:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def update(self, status: Mapping[str, Any], files: Mapping[str, OpenFile]) -> None:
        """Update the job's state; the screen is refreshed at its own rate."""
        self.status, self.files = status, files

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """A row for the bar, and the last lines of the diff, which is where it grows.

        Never more rows than the terminal has, because rows that scrolled out of it cannot be erased. The
        whole diff is printed when the job is done.
        """
        yield self._bar(options.max_width)
        room = console.height - 2
        if room > 0:
            lines = [line for file in self.files.values() for line in unified_diff(file, self.folder)]
            diff = styled_diff(lines[-room:])
            diff.no_wrap, diff.overflow = True, "ellipsis"
            yield diff

    def _bar(self, width: int) -> Text | Table:
        message = Text(str(self.status.get("message", "starting")), no_wrap=True, overflow="ellipsis")
        if width < _BAR_CELLS + _LEAST_CELLS:
            return message
        table = Table.grid(padding=(0, 1))
        percent = self.status.get("percent")
        bar = ProgressBar(total=100, completed=percent or 0, width=_BAR_CELLS, pulse=percent is None)
        table.add_row(bar, message)
        return table
