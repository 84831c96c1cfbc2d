"""LSP handlers for the server's lifecycle, settings and documents: decode, call; a few lines each."""

import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from lsprotocol import types as lsp

from singlepass.config import (
    REPOSITORY_FILE,
    load_settings,
    one_for_each,
    read_repository,
    read_user_file,
    user_file,
)
from singlepass.editor.documents import Document
from singlepass.editor.positions import Capabilities, changes_from_lsp, path_from_uri, plain
from singlepass.lsp.parts import Parts

log = logging.getLogger(__name__)


class Handlers:
    """One method per message, except for commands and the menu; also stores the settings as received."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self.documents = parts.documents
        self.workspace = parts.workspace
        self._options: Mapping[str, Any] = {}
        self._section: Mapping[str, Any] = {}
        self._problems: list[str] = []
        """The problems with the settings that were last shown to the user."""

    # Life.

    def initialize(self, params: lsp.InitializeParams) -> None:
        self._parts.editor.capabilities = Capabilities(params.capabilities)
        self.documents.encoding = self._parts.editor.encoding
        folders = [folder.uri for folder in params.workspace_folders or ()]
        if not folders and params.root_uri:
            folders = [params.root_uri]
        elif not folders and params.root_path:
            folders = [Path(params.root_path).as_uri()] if Path(params.root_path).is_absolute() else []
        self.workspace.folders = [path for uri in folders if (path := path_from_uri(uri))]
        self._options = _section(params.initialization_options)

    async def initialized(self, params: lsp.InitializedParams) -> None:
        self._configure()  # with what is already known, for requests before the answer
        self._section = await self._parts.editor.configuration() or {}
        self._configure()
        self._parts.settled.set()
        self._parts.start_anew()
        from singlepass.repository.parsing import source_glob  # here: the editor waits for our imports

        await self._parts.editor.watch([source_glob(), "**/.gitignore", f"**/{REPOSITORY_FILE}"])
        await self._parts.editor.follow_configuration()

    async def did_change_configuration(self, params: lsp.DidChangeConfigurationParams) -> None:
        asked = await self._parts.editor.configuration()
        self._section = asked if asked is not None else _section(_section(params.settings).get("singlepass"))
        # Some editors send all their settings.
        if self._configure():
            self._parts.start_anew()

    def _configure(self) -> bool:
        """Read the settings' files again and merge all sources. Returns whether anything changed."""
        user, problems = read_user_file()
        repository: list[tuple[str, Mapping[str, Any]]] = []
        for folder in self.workspace.folders:
            values, unreadable = read_repository(folder)
            repository.append((str(folder / REPOSITORY_FILE), values))
            problems += unreadable
        settings, wrong = load_settings(
            [
                (str(user_file()), user),
                ("initializationOptions", self._options),
                ("the editor's settings", self._section),
            ],
            repository,
        )
        logging.getLogger("singlepass").setLevel(settings.log_level.upper())
        before = self._parts.settings
        problems += wrong
        self._parts.configure(settings, problems)
        if settings.code_lenses != before.code_lenses:
            self._parts.editor.refresh_lenses()
        # Every problem in the user's settings is shown; a repository's file gets only one message.
        theirs = {source for source, _ in repository}
        own = [problem for problem in problems if problem.source not in theirs]
        others = one_for_each(problem for problem in problems if problem.source in theirs)
        told, self._problems = self._problems, [str(problem) for problem in (*own, *others)]
        for problem in self._problems:
            if problem not in told:
                self._parts.editor.say("warning", f"singlepass settings: {problem}")
        return settings != before

    async def shutdown(self, params: None) -> None:
        await self._parts.aclose()

    def did_change_workspace_folders(self, params: lsp.DidChangeWorkspaceFoldersParams) -> None:
        gone = {path_from_uri(folder.uri) for folder in params.event.removed}
        added = [path for folder in params.event.added if (path := path_from_uri(folder.uri))]
        self.workspace.folders = [*(one for one in self.workspace.named if one not in gone), *added]
        self._configure()  # a folder may bring settings of its own
        self._parts.repository.folders_changed()
        self._parts.start_anew()

    # Documents.

    def did_open(self, params: lsp.DidOpenTextDocumentParams) -> None:
        item = params.text_document
        if (before := self.documents.get_exactly(item.uri)) is not None:
            self._close(before)  # some editors open a document again without closing it
        document = self.documents.open(item.uri, str(item.language_id), item.version, item.text)
        for listener in self.documents.on_opened:
            listener(document)

    def did_change(self, params: lsp.DidChangeTextDocumentParams) -> None:
        document = self.documents.get(params.text_document.uri)
        if document is None:
            log.warning("didChange for %s, which is not open", params.text_document.uri)
            return
        version, encoding = params.text_document.version, self.documents.encoding
        if document.hear(version, lambda text: changes_from_lsp(text, params.content_changes, encoding)):
            log.warning("version %d of %s arrived late and was applied in order", version, document.uri)
        self.documents.touch(document.uri)
        for listener in self.documents.on_changed:
            listener(document)

    def did_close(self, params: lsp.DidCloseTextDocumentParams) -> None:
        document = self.documents.get(params.text_document.uri)
        if document is not None:
            self._close(document)

    def _close(self, document: Document) -> None:
        self.documents.close(document.uri)
        for listener in self.documents.on_closed:
            listener(document)

    def did_save(self, params: lsp.DidSaveTextDocumentParams) -> None:
        document = self.documents.get(params.text_document.uri)
        if document is not None:
            document.save(time.monotonic())
        self._parts.files_changed(params.text_document.uri)

    def did_change_watched_files(self, params: lsp.DidChangeWatchedFilesParams) -> None:
        changed = [change.uri for change in params.changes]
        if any(uri.endswith(f"/{REPOSITORY_FILE}") for uri in changed):
            self._configure()
        self._parts.files_changed(*changed)


def _section(value: Any) -> Mapping[str, Any]:
    """Settings as the editor gave them; nothing where they are not an object."""
    value = plain(value)
    return cast("Mapping[str, Any]", value) if isinstance(value, dict) else {}
