"""The files around the documents: folders, names in the prompt, and reading what is not open.

The server reads files only; it never writes one. What must not enter a prompt is decided here.
"""

import functools
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from singlepass.core.protect import protection
from singlepass.documents import Document, Documents
from singlepass.lsp import followed_path, path_from_uri, prompt_path, relative_path

if TYPE_CHECKING:
    import pathspec

MAX_NEIGHBOUR_CHARS = 200_000
"""A larger open file is not put beside the target unless it is asked for."""

# Credentials by their usual names; `ignore` in the settings adds to it.
SECRET_PATTERNS = (
    ".env",
    ".env.*",
    "!.env.example",
    "*.pem",
    "*.key",
    "*.p12",
    "*.pfx",
    "*.keystore",
    "id_rsa*",
    "id_ed25519*",
    ".netrc",
    ".npmrc",
    ".pypirc",
    "credentials",
    "credentials.*",
    "secrets.*",
)


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
        path = path_from_uri(uri)
        if path is None or not self.folders:
            return True
        # Editors differ in what `link/..` is; neither reading may lead out.
        followed = followed_path(uri) or path
        return self.name(uri)[1] and all(_real_folder(one, self.folders) for one in (path, followed))

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
        """Whether a file is kept from prompts unless the user asks for it: credentials, and `ignore`."""
        return _spec(tuple(ignore)).match_file(relative_path(uri, self.folders))

    def prefixes(self) -> list[tuple[Path, str]]:
        """The folders, each with what its files' paths begin with in the prompt."""
        return [(path, self.name((path / "x").as_uri())[0].removesuffix("x")) for path in self.folders]

    def neighbours(
        self, target: str, documents: Documents, ignore: Sequence[str], limit: int
    ) -> Iterable[Document]:
        """Open documents that may stand beside the target (a URI), the most recently used first."""
        if limit <= 0:
            return
        for document in documents.recent():
            if (
                document.uri == target
                or not self.is_inside(document.uri)
                or self.is_hidden(document.uri, ignore)
            ):
                continue
            if len(document.text) > MAX_NEIGHBOUR_CHARS:
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


@functools.cache
def _spec(ignore: tuple[str, ...]) -> "pathspec.GitIgnoreSpec":
    import pathspec  # here, since the editor waits for our imports

    return pathspec.GitIgnoreSpec.from_lines([*SECRET_PATTERNS, *ignore])


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
