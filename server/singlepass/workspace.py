"""The files around the documents: folders, names in the prompt, and reading what is not open.

The server reads files only; it never writes one. What must not enter a prompt is decided here.
"""

import functools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from singlepass.core.credentials import is_credential
from singlepass.core.ignoring import hides, rules_of
from singlepass.core.protect import protection
from singlepass.documents import Document, Documents
from singlepass.lsp import followed_path, path_from_uri, prompt_path, relative_path

MAX_NEIGHBOUR_CHARS = 200_000
"""A larger open file is not put beside the target unless it is asked for."""


class UserError(Exception):
    """A request that cannot be served, in words for the user: what, which file, what to do next."""


class Workspace:
    """The folders the editor has open."""

    def __init__(self) -> None:
        self.folders: list[Path] = []

    def name(self, uri: str) -> tuple[str, bool]:
        """The document's path in the prompt, and whether it lies inside the workspace."""
        return prompt_path(uri, self.folders)

    def folder_of(self, uri: str) -> Path | None:
        """The folder that a document lies in, the innermost of several; None outside of all."""
        path = path_from_uri(uri)
        around = [folder for folder in self.folders if path and path.is_relative_to(folder)]
        return max(around, key=lambda folder: len(folder.parts), default=None)

    def is_inside(self, uri: str) -> bool:
        """Whether a file lies inside the workspace, and still does when every link is followed.

        Buffers without a file count as inside, and so does everything where no folder is open.
        """
        if path_from_uri(uri) is None or not self.folders:
            return True
        return self.name(uri)[1] and lies_in(uri, self.folders)

    def protection(self, uri: str) -> str:
        """What a file is that must not be edited without a question of its own; empty for all others."""
        path = path_from_uri(uri)
        if path is None:
            return ""
        folder = next((folder for folder in self.folders if path.is_relative_to(folder)), None)
        named = path.relative_to(folder).as_posix() if folder is not None else path.as_posix()
        followed = self._protection_there(followed_path(uri))
        return protection(named) or self._protection_there(path) or followed

    def _protection_there(self, path: Path | None) -> str:
        """The same for where the links of a path lead."""
        if path is None:
            return ""
        real, folder = _real(path), _real_folder(path, self.folders)
        return protection((real.relative_to(folder) if folder is not None else real).as_posix())

    def is_hidden(self, uri: str, ignore: Sequence[str]) -> bool:
        """Whether a file is kept from prompts unless the user asks for it: credentials, and `ignore`.

        It goes by the file's name and by where its links lead. Of a file outside all folders `ignore` sees
        the bare name, as there is no folder that its patterns could be about.
        """
        rules = rules_of_settings(tuple(ignore))
        return any(
            is_credential(path.as_posix()) or hides(rules, path.as_posix() if is_inside else path.name)
            for path, is_inside in self._paths(uri)
        )

    def _paths(self, uri: str) -> Iterator[tuple[Path, bool]]:
        """A file's path, as named and as followed, relative to the folder that holds it, and whether one
        does; without one the whole path."""
        path = path_from_uri(uri)
        if path is None:
            yield Path(relative_path(uri, self.folders)), True
            return
        folder = self.folder_of(uri)
        yield (path, False) if folder is None else (path.relative_to(folder), True)
        for one in dict.fromkeys((path, followed_path(uri) or path)):
            real, around = _real(one), _real_folder(one, self.folders)
            yield (real, False) if around is None else (real.relative_to(around), True)

    def may_stand_beside(self, uri: str, ignore: Sequence[str]) -> bool:
        """Whether a file may be put into the prompt of another one without being asked for."""
        return self.is_inside(uri) and not self.is_hidden(uri, ignore)

    def prefixes(self) -> list[tuple[Path, str]]:
        """The folders, each with what its files' paths begin with in the prompt."""
        return [(path, self.name((path / "x").as_uri())[0].removesuffix("x")) for path in self.folders]

    def neighbours(
        self,
        target: str,
        documents: Documents,
        ignore: Sequence[str],
        limit: int,
        may_send: Callable[[str], bool] = lambda uri: True,
    ) -> Iterable[Document]:
        """Open documents that may stand beside the target (a URI), the most recently used first."""
        if limit <= 0:
            return
        for document in documents.recent():
            if document.uri == target or len(document.text) > MAX_NEIGHBOUR_CHARS:
                continue
            if not (may_send(document.uri) and self.may_stand_beside(document.uri, ignore)):
                continue
            yield document
            limit -= 1
            if not limit:
                return


def _real(path: Path) -> Path:
    """The path with all links followed, as far as it exists."""
    try:
        return Path(os.path.realpath(path))
    except (OSError, ValueError):
        return path


def _real_folder(path: Path, folders: Sequence[Path]) -> Path | None:
    """The innermost of the folders that holds the file, all links followed."""
    real = _real(path)
    around = [folder for one in folders if real.is_relative_to(folder := _real(one))]
    return max(around, key=lambda folder: len(folder.parts), default=None)


def lies_in(uri: str, folders: Sequence[Path]) -> bool:
    """Whether a file lies in one of the folders, and still does when every link is followed.

    What has no file lies in none.
    """
    path = path_from_uri(uri)
    if path is None:
        return False
    # Editors differ in what `link/..` is; neither reading may lead out.
    return all(_real_folder(one, folders) for one in (path, followed_path(uri) or path))


rules_of_settings = functools.lru_cache(maxsize=8)(rules_of)
"""The rules of `ignore`, which are asked for at every keystroke."""


def read_source(uri: str) -> str:
    """The text of a file that is not open, as an editor would open it: without a byte order mark.

    Raises UserError: no file, no permission, not UTF-8.
    """
    path = path_from_uri(uri)
    if path is None:
        raise UserError(f"{uri} is not open in the editor, and it is not a file that could be read.")
    try:
        return decode_source(path.read_bytes(), path).removeprefix("\ufeff")
    except FileNotFoundError:
        raise UserError(f"{path} does not exist (any more). Save or reopen it and try again.") from None
    except IsADirectoryError:
        raise UserError(f"{path} is a folder; name a file.") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}.") from None
    except ValueError as error:  # a NUL in the path
        raise UserError(f"{path!r} cannot be read: {error}.") from None


def read_near(path: Path) -> str:
    """The text of a file that may stand beside the target; empty where it cannot."""
    try:
        if path.stat().st_size > MAX_NEIGHBOUR_CHARS:
            return ""
        return decode_source(path.read_bytes(), path).removeprefix("\ufeff")
    except (OSError, ValueError, UserError):
        return ""


def decode_source(data: bytes, path: Path) -> str:
    """UTF-8 text, its line ends and BOM kept. Raises UserError that names the first wrong byte."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path} is not UTF-8 text: byte {error.start:,} is 0x{data[error.start]:02x}. "
            "Convert the file to UTF-8, or edit another one."
        ) from None
    if "\0" in text:
        raise UserError(f"{path} holds NUL bytes, so it is taken for a binary file and left alone.")
    return text
