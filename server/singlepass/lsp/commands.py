"""The commands: their arguments as sent by editors, and their results."""

import time
from collections.abc import Sequence
from typing import Annotated, Any
from weakref import WeakValueDictionary

import anyio
import msgspec
from msgspec import Meta
from pygls.exceptions import JsonRpcException
from singlepass_backends.base import BackendError

from singlepass.core.actions import CommentTask, find_comment_task, shown_title
from singlepass.core.inert import inert
from singlepass.core.lines import visible_lines
from singlepass.editor.documents import Document
from singlepass.editor.positions import lines_of, plain, range_from_json
from singlepass.editor.tasks import in_thread
from singlepass.editor.workspace import UserError
from singlepass.jobs.outcome import JobRequest
from singlepass.jobs.review import Selected
from singlepass.lsp.parts import Parts
from singlepass.stats.history import history_path
from singlepass.stats.statistics import BYS, By, report

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

_REQUEST_FAILED = -32803  # LSP 3.17, ErrorCodes.RequestFailed: valid, but cannot be served
_LINES_BEFORE, _LINES_AFTER = 100, 2_000
"""Number of lines around a selection in which a comment that asks for an edit is searched for."""
_SETTINGS_S = 3.0
"""How long the first commands wait for the editor's settings, which may name another model."""


class Commands:
    """The server's commands, one method each. Only the one that shows a prompt waits for a model."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._turns: WeakValueDictionary[str, anyio.Lock] = WeakValueDictionary()
        """By document, locks of requests that are about to start."""

    async def edit(self, *arguments: Any) -> dict[str, Any]:
        """`singlepass.edit`: (uri, range, instruction), or one object with more; returns {job}."""
        try:
            request = self._decode(arguments)
            # Line numbers refer to the text at this moment.
            held = self._parts.documents.held()
            # Of two requests for one document the later one wins, so it must not start first.
            turn = self._turns.setdefault(request.uri, anyio.Lock())
            async with turn:
                await self._settle()
                looked = await in_thread(self._parts.jobs.looking(request, held))
                return {"job": self._parts.jobs.start(looked)}
        except UserError as error:
            raise _failed(str(error)) from None

    async def _settle(self) -> None:
        """Wait, with a timeout, for the editor's settings, which may name another model."""
        with anyio.move_on_after(_SETTINGS_S):
            await self._parts.settled.wait()

    def cancel(self, *arguments: Any) -> dict[str, Any]:
        """`singlepass.cancel`: (job id), or nothing for all; returns {cancelled}."""
        id = arguments[0] if arguments else None
        if id is not None and (not isinstance(id, int) or isinstance(id, bool)):
            raise _failed(f"{COMMAND_CANCEL} takes the number of a job, not {id!r}.")
        return {"cancelled": self._parts.jobs.cancel(id)}

    async def revert(self, *arguments: Any) -> dict[str, Any]:
        """`singlepass.revert`: takes back the last job's edits; returns {message}."""
        try:
            return {"message": await self._parts.jobs.revert()}
        except UserError as error:
            raise _failed(str(error)) from None

    def keep(self, *arguments: Any) -> dict[str, Any]:
        """`singlepass.keep`: ({job, uri, hunk}), each optional; takes hunks out of review; returns {kept}."""
        return {"kept": self._parts.reviews.keep(_selected(COMMAND_KEEP, arguments))}

    async def undo(self, *arguments: Any) -> dict[str, Any]:
        """`singlepass.undo`: ({job, uri, hunk}), all optional; returns {undone, changed}."""
        selected = _selected(COMMAND_UNDO, arguments)
        try:
            return msgspec.to_builtins(await self._parts.reviews.undo(selected, "undo"))
        except UserError as error:
            raise _failed(str(error)) from None

    async def retry(self, *arguments: Any) -> dict[str, Any]:
        """`singlepass.retry`: ({job}), by default the last; takes its hunks back; returns what was asked."""
        selected = _selected(COMMAND_RETRY, arguments)
        try:
            return await self._parts.jobs.retry(selected.job)
        except UserError as error:
            raise _failed(str(error)) from None

    async def reply(self, *arguments: Any) -> dict[str, Any]:
        """`singlepass.reply`: ({job}), by default the last; what the model wrote, {job, text, shown}. It is
        shown where the editor opens documents."""
        selected = _selected(COMMAND_REPLY, arguments)
        try:
            job, text = self._parts.jobs.reply(selected.job)
            shown = await self._parts.editor.show_text(text)
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
            return self._parts.select_target(arguments[0]) if arguments else self._parts.list_targets()
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
            await self._parts.repository.settled(arguments[0])
        try:
            return await self._parts.contexts.show(arguments[0])
        except (UserError, BackendError) as error:
            raise _failed(str(error)) from None

    async def stats(self, *arguments: Any) -> dict[str, Any]:
        """`singlepass.stats`: ({days, by}), both optional; what `singlepass stats --json` prints."""
        try:
            given: Any = arguments[0] if arguments and arguments[0] is not None else {}
            asked = msgspec.convert(plain(given), StatsArguments)
        except ValueError as error:
            raise _failed(f"{COMMAND_STATS} takes {{days, by}}: {error}.") from None
        from singlepass.stats.history_file import HistoryError, read  # here: the editor waits for our imports

        since = time.time() - asked.days * 86_400 if asked.days else 0.0
        try:
            records = await in_thread(read, history_path(), since)
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
            first, end = lines_of(range_from_json(asked.range))
        except ValueError as error:
            raise UserError(
                f"{COMMAND_EDIT} takes (uri, range, instruction), or one object with these: {error}."
            ) from None
        document = self._parts.documents.get(asked.uri)
        if document is not None and first >= max(1, document.index.n_lines):
            raise UserError(
                f"The selection starts on line {first + 1:,}, but {self._parts.workspace.name(asked.uri)[0]} "
                f"has only {document.index.n_lines:,}. Select again."
            )
        comment = None
        if asked.comment is not None and document is not None:
            comment = comment_near(document, asked.comment, asked.comment)
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
    """The error for a valid request that cannot be served; editors show its message."""
    return JsonRpcException(inert(message), _REQUEST_FAILED)


def _selected(command: str, arguments: Sequence[Any]) -> Selected:
    """The hunks that a command selects; all without an argument. Raises JsonRpcException."""
    try:
        if len(arguments) > 1:
            raise ValueError(f"got {len(arguments)} arguments")
        return msgspec.convert(
            plain(arguments[0]) if arguments and arguments[0] is not None else {}, Selected
        )
    except ValueError as error:
        raise _failed(f"{command} takes nothing, or one object that names hunks: {error}.") from None


class EditArguments(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The argument object of `singlepass.edit`."""

    uri: str
    range: Any
    instruction: str
    title: str = ""
    diagnostics: tuple[str, ...] = ()
    comment: int | None = None
    """The line of the comment that asks for this edit; the edit removes the comment."""
    files: tuple[str, ...] = ()
    """URIs of more files that the edit may change."""
    kind: str = ""
    """The CodeActionKind, for rules about targets."""


class StatsArguments(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The argument object of `singlepass.stats`."""

    days: Annotated[int, Meta(ge=0)] = 30
    """0 is all."""
    by: tuple[By, ...] = BYS


def comment_near(document: Document, first: int, last: int) -> CommentTask | None:
    """The comment that asks for an edit near these lines. Searches only a part of a long document."""
    index, text = document.index, document.text
    low = max(0, min(first, index.n_lines) - _LINES_BEFORE)
    start, end = (index.line_start(line) for line in (low, max(first, last) + _LINES_AFTER))
    task = find_comment_task(visible_lines(text[start:end]), first - low, last - low)
    return task and msgspec.structs.replace(task, start=task.start + low, end=task.end + low)
