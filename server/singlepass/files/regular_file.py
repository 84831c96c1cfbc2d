"""Reads untrusted paths safely: a path may be a pipe without a writer, a device, or an endless file.

All files of a workspace are read through this module, never on the event loop.
"""

import errno
import os
import stat
from pathlib import Path

# Windows lacks the first three, and only Windows has the last.
_NAMES = ("O_NONBLOCK", "O_CLOEXEC", "O_NOCTTY", "O_BINARY")
_FLAGS: int = os.O_RDONLY | sum(getattr(os, name, 0) for name in _NAMES)


def read_regular(path: Path | str, limit: int) -> bytes:
    """The content of a regular file of at most `limit` bytes. Links are followed; no pipe is waited for.

    Raises OSError with a readable `strerror`: the system's, a folder (IsADirectoryError), not a regular file
    (EINVAL), longer than the limit (EFBIG). Raises ValueError for a path with a NUL.
    """
    # Merely opening a device or a pipe may have an effect, so check before opening, and again after it.
    _check(Path(path).stat(), path, limit)
    descriptor = os.open(path, _FLAGS)
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        status = os.fstat(descriptor)
        _check(status, path, limit)
        # The size is unreliable: files grow, and virtual files (as in /proc) report none.
        parts: list[bytes] = []
        room = limit + 1
        while room and (part := file.read(min(room, max(status.st_size + 1, 65_536)))):
            parts.append(part)
            room -= len(part)
    if not room:
        raise _too_long(path, limit)
    return b"".join(parts)


def _check(status: os.stat_result, path: Path | str, limit: int) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, "it is a folder", str(path))
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "it is a pipe, a socket or a device, and not a regular file", str(path))
    if status.st_size > limit:
        raise _too_long(path, limit)


def _too_long(path: Path | str, limit: int) -> OSError:
    return OSError(errno.EFBIG, f"it has more than {limit:,} bytes", str(path))
