"""Paths given on the command line: resolved, read and displayed safely, whatever they lead to."""

import errno
import os
import stat
from pathlib import Path

from singlepass.core.inert import visible
from singlepass.editor.workspace import UserError
from singlepass.files.regular_file import read_regular

MAX_BYTES = 16 * 1024 * 1024
"""Maximum size of a file to be edited; no model has a context for larger ones."""


def real_path(path: Path) -> Path:
    """The absolute path, with all links resolved that lead somewhere. Raises OSError."""
    return Path(os.path.realpath(path))


def model_path(path: Path) -> Path:
    """The path of a model. Raises OSError, and UserError for pipes and devices, which may block when
    opened."""
    try:
        real = real_path(path.expanduser())
    except RuntimeError:
        raise UserError(f"{path}: there is no such user.") from None
    if real.exists() and not real.is_dir():
        _require_regular(real, real.stat().st_mode, "be a model")
    return real


def read_edited(path: Path) -> bytes:
    """The bytes of a file to be edited. Raises OSError, and UserError if it is not a regular file or too
    long."""
    _require_regular(path, path.stat().st_mode, "be edited")
    try:
        return read_regular(path, MAX_BYTES)
    except OSError as error:
        if error.errno != errno.EFBIG:
            raise
    raise UserError(f"{path} is larger than {MAX_BYTES // 2**20} MiB, which is too large to edit.")


def _require_regular(path: Path, mode: int, what: str) -> None:
    if stat.S_ISREG(mode):
        return
    if stat.S_ISDIR(mode):
        raise UserError(f"{path} is a folder; name a file.")
    kinds = ((stat.S_ISFIFO, "a named pipe"), (stat.S_ISSOCK, "a socket"))
    kind = next((name for test, name in kinds if test(mode)), "a device")
    raise UserError(f"{path} is {kind}; only a regular file can {what}.")


def shown(path: Path) -> str:
    """A path for messages: on one line, with invisible characters made visible."""
    return visible(str(path)).replace("\n", "␊").replace("\t", "␉")


def say(error: BaseException) -> str:
    """The message of an error, with the name of the file if it has one."""
    if isinstance(error, OSError):
        name = os.fsdecode(error.filename) if isinstance(error.filename, (str, bytes)) else ""
        return f"{visible(name)}: {error.strerror}." if name else f"{error.strerror or error}."
    return visible(str(error))
