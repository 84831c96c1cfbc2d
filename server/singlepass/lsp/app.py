"""Builds the pygls server and registers the handlers. This is what `singlepass serve` starts."""

import gc
import inspect
import logging
import sys
from collections.abc import Generator
from contextlib import suppress
from functools import partial
from typing import Any, cast

import anyio
from lsprotocol import types as lsp
from pygls.lsp.server import LanguageServer
from pygls.protocol import LanguageServerProtocol, lsp_method

from singlepass import __version__
from singlepass.editor.positions import converter
from singlepass.editor.requests import Editor
from singlepass.lsp.commands import (
    COMMAND_CANCEL,
    COMMAND_CONTEXT,
    COMMAND_EDIT,
    COMMAND_KEEP,
    COMMAND_REPLY,
    COMMAND_RETRY,
    COMMAND_REVERT,
    COMMAND_SELECT_TARGET,
    COMMAND_STATS,
    COMMAND_UNDO,
    Commands,
)
from singlepass.lsp.handlers import Handlers
from singlepass.lsp.menu import Menu
from singlepass.lsp.parts import Parts
from singlepass.lsp.stdio import serve_stdio

_KINDS = [
    lsp.CodeActionKind.QuickFix,
    lsp.CodeActionKind.RefactorRewrite,
    lsp.CodeActionKind.RefactorExtract,
]


class Protocol(LanguageServerProtocol):
    """pygls's protocol with four corrections.

    They concern its mirror of the documents, the tasks of handlers and references to finished ones, running
    requests at shutdown, and late answers.
    """

    parts: Parts
    """Set once, before anything is handled."""

    def _execute_handler(
        self, msg_id: Any, handler: Any, callback: Any, args: Any = None, kwargs: Any = None
    ) -> None:
        # pygls removes the futures of finished requests from its table, but not those of notifications:
        # these, and everything that their handlers reference, would accumulate with every keystroke.
        def ended(future: Any) -> None:
            self._request_futures.pop(msg_id, None)
            with suppress(anyio.get_cancelled_exc_class()):  # pygls asks for the result of a part
                callback(future)

        if inspect.iscoroutinefunction(handler):
            future: Any = self.parts.tasks.future(handler, *args or ())
            self._request_futures[msg_id] = future
            future.add_done_callback(ended)
        else:
            super()._execute_handler(msg_id, handler, ended, args, kwargs)

    # pygls would update its own mirror, which is not used and would double the memory for texts. It would
    # also clamp positions in `params` that are outside its mirror: after a form feed, where it starts a new
    # line, or in late changes.

    @lsp_method(lsp.TEXT_DOCUMENT_DID_OPEN)
    def lsp_text_document__did_open(self, params: lsp.DidOpenTextDocumentParams) -> Generator[Any]:
        yield self._ours(lsp.TEXT_DOCUMENT_DID_OPEN), (params,), None

    @lsp_method(lsp.TEXT_DOCUMENT_DID_CHANGE)
    def lsp_text_document__did_change(self, params: lsp.DidChangeTextDocumentParams) -> Generator[Any]:
        yield self._ours(lsp.TEXT_DOCUMENT_DID_CHANGE), (params,), None

    @lsp_method(lsp.TEXT_DOCUMENT_DID_CLOSE)
    def lsp_text_document__did_close(self, params: lsp.DidCloseTextDocumentParams) -> Generator[Any]:
        yield self._ours(lsp.TEXT_DOCUMENT_DID_CLOSE), (params,), None

    def _ours(self, method: str) -> Any:
        registered: Any = self.fm
        return registered.features[method]

    @lsp_method(lsp.SHUTDOWN)
    def lsp_shutdown(self, *args: Any) -> Generator[Any]:
        yield self._ours(lsp.SHUTDOWN), args, None
        # A cancelled request is answered at once, and removed from the table over which pygls iterates here.
        for id, future in [*self._request_futures.items()]:
            if id != self.msg_id and not future.done():
                future.cancel()
        self._shutdown = True

    def _handle_response(self, msg_id: int | str, result: Any = None, error: Any = None) -> None:
        # The job may have been cancelled, or the answer may be too late. pygls would fail on such an answer,
        # and show the user "CANCELLED: <Future …>".
        future = self._request_futures.get(msg_id)
        if future is not None and future.cancelled():
            del self._request_futures[msg_id]
        else:
            super()._handle_response(msg_id, result, error)


def build_server() -> LanguageServer:
    """A server with every handler registered, not yet started."""
    server = LanguageServer("singlepass", __version__, protocol_cls=Protocol, converter_factory=converter)
    parts = Parts(Editor(server))
    cast("Protocol", server.protocol).parts = parts
    handlers, menu, commands = Handlers(parts), Menu(parts), Commands(parts)

    for method, handler, *options in (
        (lsp.INITIALIZE, handlers.initialize),
        (lsp.INITIALIZED, handlers.initialized),
        (lsp.SHUTDOWN, handlers.shutdown),
        (lsp.WORKSPACE_DID_CHANGE_CONFIGURATION, handlers.did_change_configuration),
        (lsp.WORKSPACE_DID_CHANGE_WORKSPACE_FOLDERS, handlers.did_change_workspace_folders),
        (lsp.TEXT_DOCUMENT_DID_OPEN, handlers.did_open),
        (lsp.TEXT_DOCUMENT_DID_CHANGE, handlers.did_change),
        (lsp.TEXT_DOCUMENT_DID_CLOSE, handlers.did_close),
        (lsp.TEXT_DOCUMENT_DID_SAVE, handlers.did_save),
        (lsp.WORKSPACE_DID_CHANGE_WATCHED_FILES, handlers.did_change_watched_files),
        (lsp.TEXT_DOCUMENT_CODE_ACTION, menu.actions, lsp.CodeActionOptions(_KINDS)),
        (lsp.TEXT_DOCUMENT_CODE_LENS, menu.lenses),
    ):
        # pygls sets attributes on handlers; a bound method does not allow that, a partial does.
        server.feature(method, *options)(partial(handler))
    for command, handler in (
        (COMMAND_EDIT, commands.edit),
        (COMMAND_CANCEL, commands.cancel),
        (COMMAND_REVERT, commands.revert),
        (COMMAND_KEEP, commands.keep),
        (COMMAND_UNDO, commands.undo),
        (COMMAND_RETRY, commands.retry),
        (COMMAND_REPLY, commands.reply),
        (COMMAND_CONTEXT, commands.context),
        (COMMAND_SELECT_TARGET, commands.select_target),
        (COMMAND_STATS, commands.stats),
    ):
        server.command(command)(partial(handler))
    return server


def serve() -> int:
    """Serve LSP over stdio until the client sends exit or disconnects; returns the exit code."""
    logging.basicConfig(
        stream=sys.stderr, level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    # At INFO pygls logs whole messages, which contain the user's source.
    logging.getLogger("pygls").setLevel(logging.WARNING)
    server = build_server()
    # Requests are answered while a thread builds a grammar: switch threads often.
    sys.setswitchinterval(0.0005)
    # Existing objects are permanent. Scanning them, the garbage collector stopped the server for 20 ms every
    # 40 code actions.
    gc.freeze()
    gc.enable()
    return serve_stdio(server)
