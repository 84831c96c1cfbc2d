"""Whether two paths lead to one file: by links, or on a system that makes no difference between cases.

Nothing here raises: a path that leads nowhere is as it is written.
"""

import os
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple


class FileId(NamedTuple):
    """What tells one file from others; compare with `is_same`."""

    real: str
    """The path with all links followed, as far as it exists."""
    folded: str
    """The same without case."""


def file_id(path: Path) -> FileId:
    """What tells the file at an absolute path from others."""
    real = str(real_path(path))
    return FileId(real, _folded(real))


def is_same(one: FileId, other: FileId) -> bool:
    """Whether both are one file."""
    if one.real == other.real:
        return True
    # Only the system can tell: it may be one that knows no case, or that writes an accent in two ways.
    return one.folded == other.folded and _is_same_there(one.real, other.real)


def is_among(one: FileId, others: Iterable[FileId]) -> bool:
    """Whether a file is one of these."""
    return any(is_same(one, other) for other in others)


def real_path(path: Path) -> Path:
    """The path with all links followed, as far as it exists."""
    try:
        return Path(os.path.realpath(path))
    except (OSError, ValueError):
        return path


def path_inside(path: Path, folder: Path) -> Path | None:
    """A path relative to the folder that it lies in, by its name or where its links lead; None where not.

    A folder that is named by a link and a file that is not, or the reverse, belong together.
    """
    if path.is_relative_to(folder):
        return path.relative_to(folder)
    there, real = file_id(folder), real_path(path)
    # First as the path is written, so that a link inside the folder keeps its name.
    for named in (path, real):
        around = next((one for one in named.parents if is_same(file_id(one), there)), None)
        if around is not None:
            return named.relative_to(around)
    return None


def distinct(folders: Sequence[Path]) -> list[Path]:
    """The folders, each once, by the name that it has first."""
    found: list[tuple[FileId, Path]] = []
    for folder in folders:
        one = file_id(folder)
        if not is_among(one, (other for other, _ in found)):
            found.append((one, folder))
    return [folder for _, folder in found]


def _folded(path: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())


def _is_same_there(one: str, other: str) -> bool:
    try:
        return Path(one).samefile(other)
    except (OSError, ValueError):
        return False
