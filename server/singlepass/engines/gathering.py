"""Gathers the files of a request: open documents, and files read from the disk."""

import itertools
from collections.abc import Callable, Container, Sequence
from pathlib import Path

import msgspec

from singlepass.config import Settings
from singlepass.core.context import MAP, SourceFile
from singlepass.core.edits import Snapshot
from singlepass.editor.documents import EditableFile, Held
from singlepass.editor.positions import id_of_uri
from singlepass.editor.workspace import UserError, Workspace, read_near, read_source
from singlepass.files.same_file import FileId, file_id, is_among, is_same

MAX_READ_CHARS = 64 * 1024 * 1024
"""Maximum total characters of a request's files that are not open."""


class Gathered(msgspec.Struct, frozen=True):
    """The files of a request."""

    editable: dict[str, EditableFile]
    """The files that it may change, by the URI under which they are edited."""
    named: tuple[str, ...]
    """The URIs of those that it names, the edited file first."""
    edited: SourceFile
    neighbours: dict[str, SourceFile]
    """The other files in the prompt, by URI, those that it names first."""


def gathering(
    uri: str,
    files: Sequence[str],
    held: Sequence[Held],
    workspace: Workspace,
    settings: Settings,
    near: Sequence[Path] = (),
) -> Callable[[], Gathered]:
    """Returns a function that gathers the files for an edit of one document: open documents from `held`,
    others from the disk, so not on the event loop. A file with two names occurs once.

    The function raises UserError for a file that is not open and cannot be read.
    """

    def gather() -> Gathered:
        found = _Files(workspace)
        by_uri = {one.document.uri: one for one in held}
        named: list[SourceFile] = []
        for given in (uri, *files):
            one = by_uri.get(given)
            file = one.document.file if one is not None else id_of_uri(given)
            one = one or _held_of(file, held)
            if not is_among(file, found.ids):
                named.append(
                    found.read(given, file) if one is None else found.add(one, one.now, one.revision)
                )
        uris = tuple(found.editable)
        edited, *others = named
        neighbours = dict(zip(uris[1:], others, strict=True))
        limit = settings.max_neighbours
        for one, file in workspace.neighbours(held, [*found.ids], settings.ignore, limit):
            if file.protection:  # no edit of it was requested
                opened = one.document.opened
                shown = found.show(one.document.uri, one.document.file, one.saved.text, opened)
            else:
                shown = found.add(one, one.saved, one.saved_revision)
            neighbours[one.document.uri] = shown
        for path in near:
            if len(neighbours) >= limit:
                break
            id = file_id(path)
            if not is_among(id, found.ids) and (text := read_near(path)):
                neighbours[path.as_uri()] = found.show(path.as_uri(), id, text)
        return Gathered(found.editable, uris, edited, neighbours)

    return gather


class _Files:
    """Collects files, each with a unique path."""

    def __init__(self, workspace: Workspace) -> None:
        self.editable: dict[str, EditableFile] = {}
        self.ids: list[FileId] = []
        self._workspace = workspace
        self._paths = {MAP}
        self._n_read = 0

    def add(self, one: Held, snapshot: Snapshot, revision: int) -> SourceFile:
        """Add an open file that may be changed."""
        document = one.document
        file = self.show(document.uri, document.file, snapshot.text, document.opened)
        self.editable[document.uri] = EditableFile(file.path, snapshot, document, revision)
        return msgspec.structs.replace(file, editable=True)

    def read(self, uri: str, id: FileId) -> SourceFile:
        """Add a file that is not open and may be changed. Raises UserError."""
        text = read_source(uri)
        self._n_read += len(text)
        if self._n_read > MAX_READ_CHARS:
            raise UserError(f"The files of the request have over {MAX_READ_CHARS:,} characters. Name fewer.")
        file = self.show(uri, id, text)
        self.editable[uri] = EditableFile(file.path, Snapshot(uri, None, text), None, 0)
        return msgspec.structs.replace(file, editable=True)

    def show(self, uri: str, id: FileId, text: str, opened: int | None = None) -> SourceFile:
        """Add a file that the model may only read."""
        path = _unlike(self._paths, self._workspace.name(uri)[0])
        self._paths.add(path)
        self.ids.append(id)
        return SourceFile(path, text, editable=False, opened=opened)


def _held_of(file: FileId, held: Sequence[Held]) -> Held | None:
    """The open document of a file, under any URI; the most recently used of several."""
    return next((one for one in held if is_same(one.document.file, file)), None)


def _unlike(paths: Container[str], path: str) -> str:
    """The path, numbered if another file already has it, so that it is unique."""
    numbered = (f"{path} ({number})" for number in itertools.count(2))
    return next(name for name in itertools.chain([path], numbered) if name not in paths)
