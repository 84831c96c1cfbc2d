"""Standard output and standard error of the command line.

Characters that the output cannot encode become question marks. If the reader of a pipe has closed it, the
command ends quietly. Any other failure to write, such as a full disk, is reported in one sentence and by the
exit code, even if only the last flush fails, which Python reports with a traceback or not at all.
"""

import contextlib
import errno
import io
import json
import os
import sys
from collections.abc import Callable
from typing import Any

from rich.console import Console

EXIT_FAILED = 1


class OutputLost(Exception):
    """Standard output or error cannot be written. Not an OSError, to distinguish it from errors about
    files."""

    def __init__(self, error: OSError, descriptor: int = 1, *, done: str = "") -> None:
        super().__init__(f"The output cannot be written: {error.strerror or error}.")
        self.error = error
        self.descriptor = descriptor
        self.done = done
        """A message for the user about what the command did before the failure."""


def run(command: Callable[[], object]) -> None:
    """Run a command, which ends with SystemExit, and report it if its output cannot be written completely."""
    _open_streams()
    try:
        try:
            command()
        except SystemExit:
            sys.stdout.flush()
            sys.stderr.flush()
            raise
    except OutputLost as lost:
        _tell(lost)
        sys.exit(EXIT_FAILED)


def make_console(*, stderr: bool = False) -> Console:
    """A console that prints text as it is: no markup, emoji or highlighting."""
    return Console(stderr=stderr, highlight=False, markup=False, emoji=False)


def print_json(value: object) -> None:
    """Print a value as JSON; characters are escaped unless the output is in UTF."""
    has_all = (sys.stdout.encoding or "").lower().startswith("utf")
    print(json.dumps(value, indent=2, ensure_ascii=not has_all))


class _Stream(io.FileIO):
    """A file descriptor whose failed writes raise OutputLost."""

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except OSError as error:
            raise OutputLost(error, self.fileno()) from None


def _open_streams() -> None:
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            # Closed by the shell (`>&-`). Occupy the number, or the next opened file would get it.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    sys.stdout, sys.stderr = (_text(sys.stdout, 1), _text(sys.stderr, 2))


def _text(old: Any, descriptor: int) -> io.TextIOWrapper:
    """A new stream. `old` is None if the shell had closed it."""
    return io.TextIOWrapper(
        io.BufferedWriter(_Stream(descriptor, "wb", closefd=False)),
        encoding=old.encoding if old is not None else "utf-8",
        errors="replace",
        line_buffering=old is not None and old.line_buffering,
        write_through=old is not None and old.write_through,
    )


def _tell(lost: OutputLost) -> None:
    # Discard what is still buffered, or Python would try to write it again when it exits.
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, lost.descriptor)
    if lost.error.errno == errno.EPIPE or lost.descriptor != 1:
        return
    with contextlib.suppress(OutputLost):
        print(" ".join(part for part in (str(lost), lost.done) if part), file=sys.stderr, flush=True)
        return
    os.dup2(nowhere, 2)
