"""A terminal for tests: a command runs in it, and afterwards it tells what a user would find there, with all
that scrolled out at its top."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
from collections.abc import Mapping, Sequence
from pathlib import Path

_PART = re.compile(r"\x1b\[([?0-9;]*)([A-Za-z])|\r|\n|[^\x1b\r\n]+", re.DOTALL)


class Screen:
    """What is on a terminal. It knows the few sequences that rich writes, and refuses all others."""

    def __init__(self, n_rows: int, n_columns: int) -> None:
        self.rows: list[str] = [""]
        """From the first that was written; the last `n_rows` of them are in sight."""
        self._n_rows, self._n_columns = n_rows, n_columns
        self._row = self._column = 0

    def feed(self, text: str) -> None:
        for part in _PART.finditer(text):
            if part[0] == "\r":
                self._column = 0
            elif part[0] == "\n":
                self._down()
            elif part[2] is None:
                for char in part[0]:
                    self._put(char)
            else:
                self._obey(part[1], part[2])

    def _put(self, char: str) -> None:
        if self._column == self._n_columns:
            self._column = 0
            self._down()
        row = self.rows[self._row].ljust(self._column)
        self.rows[self._row] = row[: self._column] + char + row[self._column + 1 :]
        self._column += 1

    def _down(self) -> None:
        self._row += 1
        if self._row == len(self.rows):
            self.rows.append("")

    def _obey(self, values: str, letter: str) -> None:
        if letter == "A":
            # What has scrolled out nobody reaches any more.
            top = max(0, len(self.rows) - self._n_rows)
            self._row = max(top, self._row - int(values or 1))
        elif letter == "K" and values == "2":
            self.rows[self._row] = ""
        elif letter not in "mhl":
            raise AssertionError(f"a sequence that this terminal does not know: {values}{letter}")


def run_in_terminal(
    command: Sequence[str], n_rows: int, n_columns: int, *, cwd: Path, env: Mapping[str, str]
) -> tuple[int, list[str]]:
    """The exit code, and the rows."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", n_rows, n_columns, 0, 0))
    names = {**env, "TERM": "xterm-256color"}
    names = {name: value for name, value in names.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
    process = subprocess.Popen(command, cwd=cwd, env=names, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    output = b""
    try:
        while data := os.read(ours, 65536):
            output += data
    except OSError:  # the other end is closed
        pass
    finally:
        os.close(ours)
    screen = Screen(n_rows, n_columns)
    screen.feed(output.decode("utf-8"))
    return process.wait(60), screen.rows
