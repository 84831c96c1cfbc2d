"""LSP handlers: decode, call, encode; a few lines each. Nothing here waits for a model."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, cast
from weakref import WeakValueDictionary

import msgspec
from lsprotocol import types as lsp
from msgspec import Meta
from pygls.exceptions import JsonRpcException
from pygls.lsp.server import LanguageServer
from singlepass_backends.base import BackendError

from singlepass.config import (
    REPOSITORY_FILE,
    load_settings,
    one_for_each,
    read_repository,
    read_user_file,
    user_file,
)
from singlepass.core.actions import (
    CommentTask,
    actions_for,
    find_comment_task,
    fix_instruction,
    problem_of,
    shown_title,
)
from singlepass.core.inert import inert
from singlepass.core.lines import visible_lines
from singlepass.core.statistics import BYS, By, report
from singlepass.documents import Document, Documents
from singlepass.editor import Editor
from singlepass.history import history_path
from singlepass.jobs import Jobs
from singlepass.lsp import (
    Capabilities,
    changes_from_lsp,
    encoding_from_lsp,
    lines_to_json,
    message_of,
    path_from_uri,
    plain,
    range_from_json,
    range_to_lsp,
)
from singlepass.outcome import JobRequest
from singlepass.review import Selected
from singlepass.workspace import UserError, Workspace

log = logging.getLogger(__name__)

COMMAND_EDIT = "singlepass.edit"
COMMAND_CANCEL = "singlepass.cancel"
COMMAND_REVERT = "singlepass.revert"
COMMAND_KEEP = "singlepass.keep"
COMMAND_UNDO = "singlepass.undo"
COMMAND_RETRY = "singlepass.retry"
COMMAND_REPLY = "singlepass.reply"
COMMAND_CONTEXT = "singlepass.context"
COMMAND_SELECT_TARGET = "singlepass.selectTarget"
COMMAND_STATS = "singlepass.stats"

_REQUEST_FAILED = -32803  # LSP 3.17, ErrorCodes.RequestFailed: valid, but it cannot be served
_SHOW_REPLY = "Show what the model wrote"
_LINES_BEFORE, _LINES_AFTER = 100, 2_000
"""Around a selection, where a comment that asks for an edit is looked for."""
_SETTINGS_S = 3.0
"""How long the first commands wait for the editor's settings, which may name another model."""


class Handlers:
    """The server's state, and one method a message."""

    def __init__(self, server: LanguageServer) -> None:
        self.server = server
        self.documents = Documents()
        self.workspace = Workspace()
        self.editor = Editor(server)
        self.jobs = Jobs(self.documents, self.workspace, self.editor)
        self.jobs.reviews.on_told = self._refresh_lenses
        self._options: Mapping[str, Any] = {}
        self._section: Mapping[str, Any] = {}
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        """Of requests that are about to start, by document."""
        self._problems: list[str] = []
        """What is wrong in the settings, as the user was told it."""

    # Life.

    def initialize(self, params: lsp.InitializeParams) -> None:
        self.editor.capabilities = Capabilities(params.capabilities)
        self.documents.encoding = encoding_from_lsp(self.server.workspace.position_encoding)
        folders = [folder.uri for folder in params.workspace_folders or ()]
        if not folders and params.root_uri:
            folders = [params.root_uri]
        elif not folders and params.root_path:
            folders = [Path(params.root_path).as_uri()] if Path(params.root_path).is_absolute() else []
        self.workspace.folders = [path for uri in folders if (path := path_from_uri(uri))]
        self._options = _section(params.initialization_options)

    async def initialized(self, params: lsp.InitializedParams) -> None:
        self._configure()  # what is known already, for a request that comes before the answer
        self._section = await self.editor.configuration() or {}
        self._configure()
        self.jobs.settled.set()
        self._read_ahead()
        from singlepass.outline import source_glob  # here: the editor waits for our imports

        await self.editor.watch([source_glob(), "**/.gitignore", f"**/{REPOSITORY_FILE}"])
        await self.editor.follow_configuration()

    async def did_change_configuration(self, params: lsp.DidChangeConfigurationParams) -> None:
        asked = await self.editor.configuration()
        self._section = asked if asked is not None else _section(_section(params.settings).get("singlepass"))
        # Some editors tell of every setting of theirs.
        if self._configure():
            self._read_ahead()

    def _read_ahead(self) -> None:
        """Everything anew, under the settings as they are now."""
        self.jobs.tell_whether_it_is_the_demo_model()
        self.jobs.workspace_opened()
        for document in reversed([*self.documents.recent()]):  # the last is what is read ahead
            self.jobs.document_opened(document)

    def _configure(self) -> bool:
        """Read the settings' files again and put everything together. Whether anything is different now."""
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
        before = self.jobs.settings
        problems += wrong
        self.jobs.configure(settings, problems)
        if settings.code_lenses != before.code_lenses:
            self.editor.refresh_lenses()
        # Of what the user wrote each is said; a repository's file gets one message, whatever is in it.
        theirs = {source for source, _ in repository}
        own = [problem for problem in problems if problem.source not in theirs]
        others = one_for_each(problem for problem in problems if problem.source in theirs)
        told, self._problems = self._problems, [str(problem) for problem in (*own, *others)]
        for problem in self._problems:
            if problem not in told:
                self.editor.say("warning", f"singlepass settings: {problem}")
        return settings != before

    async def shutdown(self, params: None) -> None:
        await self.jobs.shutdown()

    def did_change_workspace_folders(self, params: lsp.DidChangeWorkspaceFoldersParams) -> None:
        gone = {path_from_uri(folder.uri) for folder in params.event.removed}
        added = [path for folder in params.event.added if (path := path_from_uri(folder.uri))]
        self.workspace.folders = [*(one for one in self.workspace.named if one not in gone), *added]
        self._configure()  # a folder may bring settings of its own
        self.jobs.folders_changed()
        self._read_ahead()

    # Documents.

    def did_open(self, params: lsp.DidOpenTextDocumentParams) -> None:
        item = params.text_document
        if (before := self.documents.get_exactly(item.uri)) is not None:
            self._close(before)  # some editors open anew without a word
        document = self.documents.open(item.uri, str(item.language_id), item.version, item.text)
        self.jobs.document_opened(document)

    def did_change(self, params: lsp.DidChangeTextDocumentParams) -> None:
        document = self.documents.get(params.text_document.uri)
        if document is None:
            log.warning("didChange for %s, which is not open", params.text_document.uri)
            return
        version, encoding = params.text_document.version, self.documents.encoding
        if document.hear(version, lambda text: changes_from_lsp(text, params.content_changes, encoding)):
            log.warning("version %d of %s came late, and was put in its place", version, document.uri)
        self.documents.touch(document.uri)
        self.jobs.document_changed(document)

    def did_close(self, params: lsp.DidCloseTextDocumentParams) -> None:
        document = self.documents.get(params.text_document.uri)
        if document is not None:
            self._close(document)

    def _close(self, document: Document) -> None:
        self.documents.close(document.uri)
        self.jobs.document_closed(document)

    def did_save(self, params: lsp.DidSaveTextDocumentParams) -> None:
        document = self.documents.get(params.text_document.uri)
        if document is not None:
            document.save(time.monotonic())
        self.jobs.files_changed(params.text_document.uri)

    def did_change_watched_files(self, params: lsp.DidChangeWatchedFilesParams) -> None:
        changed = [change.uri for change in params.changes]
        if any(uri.endswith(f"/{REPOSITORY_FILE}") for uri in changed):
            self._configure()
        self.jobs.files_changed(*changed)

    # Actions.

    def code_action(self, params: lsp.CodeActionParams) -> list[lsp.CodeAction | lsp.Command]:
        document = self.documents.get(params.text_document.uri)
        if document is None or not self.editor.capabilities.apply_edit:
            return []
        self.jobs.prewarm(document.uri)
        first, end = _lines_of(params.range)
        base = {"uri": document.uri, "range": lines_to_json(first, end)}
        offers = [
            *self._quick_fixes(params, base),
            *_comment_offers(document, first, max(first, end - 1), base),
            *(
                _Offer(action.title, action.kind, {**base, "instruction": action.instruction})
                for action in actions_for(document.language, self.jobs.settings.actions)
            ),
        ]
        only = [str(getattr(kind, "value", kind)) for kind in params.context.only or ()]
        return [
            self._encode(offer, self.jobs.estimate(document.uri, first, end, offer.title, offer.kind))
            for offer in offers
            if not only or any(kind in ("", offer.kind) or offer.kind.startswith(f"{kind}.") for kind in only)
        ] + ([] if only and "quickfix" not in only else [*self._replies_to_show(params)])

    def _quick_fixes(self, params: lsp.CodeActionParams, base: Mapping[str, Any]) -> Iterator["_Offer"]:
        for diagnostic in params.context.diagnostics:
            if diagnostic.source == "singlepass":
                continue
            line = diagnostic.range.start.line
            what = problem_of(message_of(diagnostic), diagnostic.source, diagnostic.code, line)
            yield _Offer(
                f"Fix: {shown_title(what)}",
                "quickfix",
                {
                    **base,
                    "instruction": fix_instruction([what]),
                    "diagnostics": [f"line {line + 1}: {what}"],
                    "range": lines_to_json(*_lines_of(diagnostic.range)),
                },
                diagnostic,
            )

    def _replies_to_show(self, params: lsp.CodeActionParams) -> Iterator[lsp.CodeAction | lsp.Command]:
        """For a diagnostic of ours about a hunk that was not applied: the reply that it was in."""
        if not self.editor.capabilities.show_document:
            return
        for diagnostic in params.context.diagnostics:
            data = plain(diagnostic.data)
            if diagnostic.source != "singlepass" or not isinstance(data, dict) or "old" not in data:
                continue
            job = cast("Mapping[str, Any]", data).get("job")
            command = lsp.Command(_SHOW_REPLY, COMMAND_REPLY, arguments=[{"job": job}])
            if not self.editor.capabilities.action_literals:
                yield command
            else:
                yield lsp.CodeAction(_SHOW_REPLY, kind="quickfix", diagnostics=[diagnostic], command=command)
            return

    def _encode(self, offer: "_Offer", estimate: str) -> lsp.CodeAction | lsp.Command:
        arguments = {**offer.arguments, "title": offer.title, "kind": offer.kind}
        title = offer.title + estimate
        command = lsp.Command(title, COMMAND_EDIT, arguments=[arguments])
        capabilities = self.editor.capabilities
        if not capabilities.action_literals:
            return command
        return lsp.CodeAction(
            title,
            kind=offer.kind,
            diagnostics=[offer.diagnostic] if offer.diagnostic else None,
            command=command,
            tags=[lsp.CodeActionTag.LlmGenerated] if capabilities.action_tags else None,
        )

    # Code lenses.

    def code_lens(self, params: lsp.CodeLensParams) -> list[lsp.CodeLens]:
        """Keep and undo, above each hunk; for all of the document too, above the first of several."""
        if not (self.jobs.settings.code_lenses and self.editor.capabilities.lenses):
            return []
        uri = params.text_document.uri
        index, hunks = self.jobs.reviews.listed(uri)
        lenses: list[lsp.CodeLens] = []
        for hunk in hunks:
            place = range_to_lsp(index, hunk.start, hunk.start)
            what = "" if hunk.new else " deletion"  # of which nothing is to be seen
            offers = [(f"Keep{what}", COMMAND_KEEP, {"hunk": hunk.id})]
            offers.append((f"Undo{what}", COMMAND_UNDO, {"hunk": hunk.id}))
            if hunk is hunks[0] and len(hunks) > 1:
                offers += [("Keep all", COMMAND_KEEP, {"uri": uri}), ("Undo all", COMMAND_UNDO, {"uri": uri})]
            lenses += (
                lsp.CodeLens(place, lsp.Command(title, command, arguments=[arguments]))
                for title, command, arguments in offers
            )
        return lenses

    def _refresh_lenses(self) -> None:
        if self.jobs.settings.code_lenses:
            self.editor.refresh_lenses()

    # Commands.

    async def edit(self, *arguments: Any) -> dict[str, Any]:
        """`singlepass.edit`: (uri, range, instruction), or one object with more; returns {job}."""
        try:
            request = self._decode(arguments)
            # Its lines are those of this moment.
            held = self.documents.held()
            # Of two requests for one document the one that came later wins, so it must not start before.
            turn = self._turns.setdefault(request.uri, asyncio.Lock())
            async with turn:
                await self._settle()
                looked = await asyncio.to_thread(self.jobs.looking(request, held))
                return {"job": self.jobs.start(looked)}
        except UserError as error:
            raise _failed(str(error)) from None

    async def _settle(self) -> None:
        """Wait for the editor's settings, though not for ever: they may name another model."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.jobs.settled.wait(), _SETTINGS_S)

    def cancel(self, *arguments: Any) -> dict[str, Any]:
        """`singlepass.cancel`: (job id), or nothing for all; returns {cancelled}."""
        id = arguments[0] if arguments else None
        if id is not None and (not isinstance(id, int) or isinstance(id, bool)):
            raise _failed(f"{COMMAND_CANCEL} takes the number of a job, not {id!r}.")
        return {"cancelled": self.jobs.cancel(id)}

    async def revert(self, *arguments: Any) -> dict[str, Any]:
        """`singlepass.revert`: takes back the last job's edits; returns {message}."""
        try:
            return {"message": await self.jobs.revert()}
        except UserError as error:
            raise _failed(str(error)) from None

    def keep(self, *arguments: Any) -> dict[str, Any]:
        """`singlepass.keep`: ({job, uri, hunk}), each optional; takes hunks out of review; returns {kept}."""
        return {"kept": self.jobs.reviews.keep(_selected(COMMAND_KEEP, arguments))}

    async def undo(self, *arguments: Any) -> dict[str, Any]:
        """`singlepass.undo`: ({job, uri, hunk}), all optional; returns {undone, changed}."""
        selected = _selected(COMMAND_UNDO, arguments)
        try:
            return msgspec.to_builtins(await self.jobs.reviews.undo(selected, "undo"))
        except UserError as error:
            raise _failed(str(error)) from None

    async def retry(self, *arguments: Any) -> dict[str, Any]:
        """`singlepass.retry`: ({job}), by default the last; takes its hunks back; returns what was asked."""
        selected = _selected(COMMAND_RETRY, arguments)
        try:
            return await self.jobs.retry(selected.job)
        except UserError as error:
            raise _failed(str(error)) from None

    async def reply(self, *arguments: Any) -> dict[str, Any]:
        """`singlepass.reply`: ({job}), by default the last; what the model wrote, {job, text, shown}. It is
        shown where the editor opens documents."""
        selected = _selected(COMMAND_REPLY, arguments)
        try:
            job, text = self.jobs.reply(selected.job)
            shown = await self.editor.show_text(text)
        except (UserError, OSError) as error:
            raise _failed(str(error)) from None
        return {"job": job, "text": text, "shown": shown}

    async def select_target(self, *arguments: Any) -> dict[str, Any]:
        """`singlepass.selectTarget`: (name), or (null) for a choice by rules and estimates, or nothing to ask
        only; returns {selected, targets}."""
        if len(arguments) > 1 or (arguments and not isinstance(arguments[0], str | None)):
            raise _failed(f"{COMMAND_SELECT_TARGET} takes the name of a target.")
        await self._settle()
        try:
            return self.jobs.select_target(arguments[0]) if arguments else self.jobs.list_targets()
        except UserError as error:
            raise _failed(str(error)) from None

    async def context(self, *arguments: Any) -> dict[str, Any]:
        """`singlepass.context`: (uri, {wait}); the segments of its prompt, {n_ctx, segments, left_out}. With
        `wait` those that it will have once the repository is indexed."""
        waits = plain(arguments[1]) == {"wait": True} if len(arguments) == 2 else False
        if not arguments or not isinstance(arguments[0], str) or len(arguments) != 1 + waits:
            raise _failed(f"{COMMAND_CONTEXT} takes the URI of a document, and perhaps {{wait: true}}.")
        await self._settle()
        if waits:
            await self.jobs.repository.settled(arguments[0])
        try:
            return await self.jobs.contexts.show(arguments[0])
        except (UserError, BackendError) as error:
            raise _failed(str(error)) from None

    async def stats(self, *arguments: Any) -> dict[str, Any]:
        """`singlepass.stats`: ({days, by}), both optional; what `singlepass stats --json` prints."""
        try:
            given: Any = arguments[0] if arguments and arguments[0] is not None else {}
            asked = msgspec.convert(plain(given), StatsArguments)
        except ValueError as error:
            raise _failed(f"{COMMAND_STATS} takes {{days, by}}: {error}.") from None
        from singlepass.history_file import HistoryError, read  # here: the editor waits for our imports

        since = time.time() - asked.days * 86_400 if asked.days else 0.0
        try:
            records = await asyncio.to_thread(read, history_path(), since)
        except HistoryError as error:
            raise _failed(str(error)) from None
        return {"days": asked.days, **report(records, asked.by)}

    def _decode(self, arguments: Sequence[Any]) -> JobRequest:
        if len(arguments) == 1:
            values = arguments[0]
        else:
            values = dict(zip(("uri", "range", "instruction"), arguments, strict=False))
        try:
            if len(arguments) > 3:
                raise ValueError(f"got {len(arguments)} arguments")
            asked = msgspec.convert(plain(values), EditArguments)
            first, end = _lines_of(range_from_json(asked.range))
        except ValueError as error:
            raise UserError(
                f"{COMMAND_EDIT} takes (uri, range, instruction), or one object with these: {error}."
            ) from None
        document = self.documents.get(asked.uri)
        if document is not None and first >= max(1, document.index.n_lines):
            raise UserError(
                f"The selection starts on line {first + 1:,}, but {self.workspace.name(asked.uri)[0]} "
                f"has only {document.index.n_lines:,}. Select again."
            )
        comment = None
        if asked.comment is not None and document is not None:
            comment = _comment_near(document, asked.comment, asked.comment)
        return JobRequest(
            asked.uri,
            shown_title(asked.title or asked.instruction),
            asked.instruction,
            first,
            end,
            asked.diagnostics,
            comment,
            asked.files,
            asked.kind,
        )


def _failed(message: str) -> JsonRpcException:
    """A request that is valid and cannot be served; editors show why."""
    return JsonRpcException(inert(message), _REQUEST_FAILED)


def _selected(command: str, arguments: Sequence[Any]) -> Selected:
    """Which hunks a command means; all without an argument. Raises JsonRpcException."""
    try:
        if len(arguments) > 1:
            raise ValueError(f"got {len(arguments)} arguments")
        return msgspec.convert(
            plain(arguments[0]) if arguments and arguments[0] is not None else {}, Selected
        )
    except ValueError as error:
        raise _failed(f"{command} takes nothing, or one object that names hunks: {error}.") from None


def _section(value: Any) -> Mapping[str, Any]:
    """Settings as the editor gave them; nothing where they are not an object."""
    value = plain(value)
    return cast("Mapping[str, Any]", value) if isinstance(value, dict) else {}


class EditArguments(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The argument object of `singlepass.edit`."""

    uri: str
    range: Any
    instruction: str
    title: str = ""
    diagnostics: tuple[str, ...] = ()
    comment: int | None = None
    """The line of the comment that asks for this edit; the edit takes the comment away."""
    files: tuple[str, ...] = ()
    """URIs of more files that the edit may change."""
    kind: str = ""
    """The CodeActionKind, for rules about targets."""


class StatsArguments(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The argument object of `singlepass.stats`."""

    days: Annotated[int, Meta(ge=0)] = 30
    """0 is all."""
    by: tuple[By, ...] = BYS


class _Offer(msgspec.Struct, frozen=True):
    title: str
    kind: str
    arguments: dict[str, Any]
    diagnostic: lsp.Diagnostic | None = None


def _comment_offers(document: Document, first: int, last: int, base: Mapping[str, Any]) -> list[_Offer]:
    task = _comment_near(document, first, last)
    if task is None:
        return []
    arguments = {**base, "instruction": task.instruction, "comment": task.start}
    if base["range"]["start"] == base["range"]["end"]:
        arguments["range"] = lines_to_json(task.start, task.end)
    return [_Offer(f"Do: {shown_title(task.instruction)}", "refactor.rewrite", arguments)]


def _comment_near(document: Document, first: int, last: int) -> CommentTask | None:
    """The comment that asks for an edit near these lines. Of a long document only a part is looked at."""
    index, text = document.index, document.text
    low = max(0, min(first, index.n_lines) - _LINES_BEFORE)
    start, end = (index.line_start(line) for line in (low, max(first, last) + _LINES_AFTER))
    task = find_comment_task(visible_lines(text[start:end]), first - low, last - low)
    return task and msgspec.structs.replace(task, start=task.start + low, end=task.end + low)


def _lines_of(value: lsp.Range) -> tuple[int, int]:
    """First and end line (exclusive) of a range; a range that ends at a line's start leaves it out."""
    start, end = sorted(((value.start.line, value.start.character), (value.end.line, value.end.character)))
    if start == end:
        return start[0], start[0]
    return start[0], max(end[0] + (end[1] > 0), start[0] + 1)
