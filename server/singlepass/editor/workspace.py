"""The workspace's folders, paths in the prompt, and reading files that are not open.

The server only reads files and never writes one. This module decides which files must not enter a prompt.
"""

import functools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import msgspec

from singlepass.editor.documents import Held
from singlepass.editor.positions import (
    followed_path,
    id_of_uri,
    path_from_uri,
    place_of,
    prompt_path,
    relative_path,
)
from singlepass.files.credentials import is_credential
from singlepass.files.ignoring import hides, rules_of
from singlepass.files.protect import protection
from singlepass.files.regular_file import read_regular
from singlepass.files.same_file import FileId, distinct, is_among, path_inside, real_path

MAX_NEIGHBOUR_CHARS = 200_000
"""Maximum size of an open file as a neighbour; larger ones are used only if requested."""
MAX_SOURCE_BYTES = 16 * 1024 * 1024
"""Maximum size of a file that is not open; larger ones are not read."""


class UserError(Exception):
    """A request that cannot be served, with a message for the user: what, which file, what to do next."""


class Resolved(msgspec.Struct, frozen=True):
    """The file that a URI names, resolved once, with links as they were at that moment."""

    uri: str
    id: FileId
    """The identity of its file."""
    name: str
    """Its path in the prompt."""
    is_named_inside: bool
    """Whether its path is inside the workspace. True for a buffer without a file, and for everything if no
    folder is open."""
    is_inside: bool
    """Whether it is inside with all links resolved."""
    protection: str
    """What kind of protected file it is, in words; empty for all others."""
    paths: tuple[tuple[Path, bool], ...]
    """Its path, as named and with links resolved, each relative to the folder that contains it, and whether
    one does; otherwise the whole path."""

    def is_hidden(self, ignore: Sequence[str]) -> bool:
        """Whether it is excluded from prompts unless the user requests it: credentials, and `ignore`.

        Both the path as named and with links resolved are checked. For a file outside all folders `ignore` is
        matched against the name only.
        """
        rules = rules_of_settings(tuple(ignore))
        return any(
            is_credential(path.as_posix()) or hides(rules, path.as_posix() if is_inside else path.name)
            for path, is_inside in self.paths
        )


class Workspace:
    """The folders the editor has open."""

    def __init__(self) -> None:
        self.named: list[Path] = []
        """The folders as named by the editor; two names may mean the same folder."""
        self._folders: list[Path] = []

    @property
    def folders(self) -> list[Path]:
        """The folders, each once."""
        return self._folders

    @folders.setter
    def folders(self, named: Sequence[Path]) -> None:
        self.named = [*named]
        self._folders = distinct(named) if len(named) > 1 else [*named]

    def resolve(self, uri: str) -> Resolved:
        """Resolve a URI. Accesses the disk to resolve links."""
        path, id = path_from_uri(uri), id_of_uri(uri)
        name, is_named_inside = self.name(uri)
        if path is None:
            within = Path(relative_path(uri, self.folders))
            return Resolved(uri, id, name, True, True, "", ((within, True),))
        # Editors differ in the meaning of `link/..`; neither may lead out of the workspace.
        there = dict.fromkeys((Path(id.real), followed_path(uri) or Path(id.real)))
        folders = [real_path(folder) for folder in self.folders]
        named, *followed = place_of(path, self.folders), *(place_of(one, folders) for one in there)
        return Resolved(
            uri,
            id,
            name,
            is_named_inside,
            not folders or (is_named_inside and all(followed)),
            _protection(path, self.folders)
            or next(filter(None, (_protection(r, folders) for r in there)), ""),
            tuple(
                (whole, False) if place is None else (place[1], True)
                for whole, place in zip((path, *there), (named, *followed), strict=True)
            ),
        )

    def name(self, uri: str) -> tuple[str, bool]:
        """The document's path in the prompt, and whether it is inside the workspace."""
        return prompt_path(uri, self.folders)

    def folder_of(self, uri: str) -> Path | None:
        """The innermost folder that contains a document; None if outside of all."""
        path = path_from_uri(uri)
        place = place_of(path, self.folders) if path is not None else None
        return place and place[0]

    def indexed_path(self, uri: str) -> Path | None:
        """A file's path as used by the indexer: in its folder as named by the editor."""
        path = path_from_uri(uri)
        place = place_of(path, self.folders) if path is not None else None
        return place[0] / place[1] if place is not None else path

    def may_be_neighbour(self, uri: str, ignore: Sequence[str]) -> bool:
        """Whether a file may be a neighbour in the prompt of another one without being requested."""
        file = self.resolve(uri)
        return file.is_inside and not file.is_hidden(ignore)

    def prefixes(self) -> list[tuple[Path, str]]:
        """The folders, each with the prefix of its files' paths in the prompt."""
        return [(path, self.name((path / "x").as_uri())[0].removesuffix("x")) for path in self.folders]

    def neighbours(
        self, held: Iterable[Held], others: Iterable[FileId], ignore: Sequence[str], limit: int
    ) -> Iterator[tuple[Held, Resolved]]:
        """Open documents that may be neighbours of other files, in this order, each file once."""
        seen = [*others]
        for one in held:
            if limit <= 0:
                return
            document = one.document
            if is_among(document.file, seen) or len(one.now.text) > MAX_NEIGHBOUR_CHARS:
                continue
            file = self.resolve(document.uri)
            if file.is_inside and not file.is_hidden(ignore):
                seen.append(document.file)
                yield one, file
                limit -= 1


def _protection(path: Path, folders: Sequence[Path]) -> str:
    """The kind of protected file that a path is, relative to each folder that contains it; empty for none."""
    inside = [relative for folder in folders if (relative := path_inside(path, folder)) is not None]
    found = (protection(one.as_posix()) for one in inside or [path])
    return next(filter(None, found), "")


def _real_place(path: Path, folders: Sequence[Path]) -> tuple[Path, Path] | None:
    """The innermost folder that contains the file, and the relative path, with all links resolved."""
    return place_of(real_path(path), [real_path(folder) for folder in folders])


def lies_in(uri: str, folders: Sequence[Path]) -> bool:
    """Whether a file is in one of the folders, both as named and with all links resolved.

    False for a buffer without a file.
    """
    path = path_from_uri(uri)
    if path is None:
        return False
    # Editors differ in the meaning of `link/..`; neither may lead out of the workspace.
    return all(_real_place(one, folders) for one in (path, followed_path(uri) or path))


rules_of_settings = functools.lru_cache(maxsize=8)(rules_of)
"""The parsed rules of `ignore`, cached because they are needed at every keystroke."""


def read_source(uri: str) -> str:
    """The text of a file that is not open, as an editor would open it: without a byte order mark.

    Blocks on the disk, so not for the event loop. Raises UserError: no file, no permission, not a regular
    file, too long, not UTF-8.
    """
    path = path_from_uri(uri)
    if path is None:
        raise UserError(f"{uri} is not open in the editor, and it is not a file that could be read.")
    try:
        return decode_source(read_regular(path, MAX_SOURCE_BYTES), path).removeprefix("\ufeff")
    except FileNotFoundError:
        raise UserError(f"{path} does not exist (any more). Save or reopen it and try again.") from None
    except IsADirectoryError:
        raise UserError(f"{path} is a folder; name a file.") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}.") from None
    except ValueError as error:  # a NUL in the path
        raise UserError(f"{path!r} cannot be read: {error}.") from None


def read_near(path: Path) -> str:
    """The text of a file as a neighbour; empty if it cannot be used. Blocks on the disk."""
    try:
        return decode_source(read_regular(path, MAX_NEIGHBOUR_CHARS), path).removeprefix("\ufeff")
    except (OSError, ValueError, UserError):
        return ""


def decode_source(data: bytes, path: Path) -> str:
    """UTF-8 text, including its line ends and BOM. Raises UserError that names the first invalid byte."""
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
