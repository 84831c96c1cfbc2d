"""Whether two paths name the same file, through links or on a case-insensitive file system.

Nothing here raises: a path that does not exist is compared as written.
"""

import os
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple


class FileId(NamedTuple):
    """The identity of a file; compare with `is_same`."""

    real: str
    """The path with all links resolved, as far as it exists."""
    folded: str
    """The path `real` without case."""


def file_id(path: Path) -> FileId:
    """The identity of the file at an absolute path."""
    real = str(real_path(path))
    return FileId(real, _folded(real))


def is_same(one: FileId, other: FileId) -> bool:
    """Whether both are the same file."""
    if one.real == other.real:
        return True
    # Only the file system knows: it may ignore case or normalize Unicode.
    return one.folded == other.folded and _is_same_there(one.real, other.real)


def is_among(one: FileId, others: Iterable[FileId]) -> bool:
    """Whether a file is one of these."""
    return any(is_same(one, other) for other in others)


def real_path(path: Path) -> Path:
    """The path with all links resolved, as far as it exists."""
    try:
        return Path(os.path.realpath(path))
    except (OSError, ValueError):
        return path


def path_inside(path: Path, folder: Path) -> Path | None:
    """A path relative to a folder that contains it, as written or with links resolved; None if it does not.

    So a folder named through a link contains files that are not, and the reverse.
    """
    if path.is_relative_to(folder):
        return path.relative_to(folder)
    there, real = file_id(folder), real_path(path)
    # First the path as written, so that a link inside the folder keeps its name.
    for named in (path, real):
        around = next((one for one in named.parents if is_same(file_id(one), there)), None)
        if around is not None:
            return named.relative_to(around)
    return None


def distinct(folders: Sequence[Path]) -> list[Path]:
    """The folders without duplicates, each under its first name."""
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
