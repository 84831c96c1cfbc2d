"""The connection to the editor over stdio: bytes to messages, messages to pygls, and shutdown.

pygls has its own loop for this, which this module replaces because of these problems (pygls 2.1.1):

- It supports only one spelling of `Content-Length`, and messages of any length (`lsp/framing.py`).
- A request with invalid parameters is never answered, and neither is a notification that has an id; after an
  invalid response, the caller waits until a time-out. Here the sender gets an error, and so does the caller.
- Requests after `shutdown` are not answered, and those before `initialize` get an internal error. The
  specification has error codes for both, and for a second `initialize`.
- `exit` without `shutdown` and a lost connection end with exit code 0, and the editor's process is not
watched. - Its thread that reads `sys.stdin` can prevent the process from ending; ours reads the file
descriptor, as a daemon thread.

Messages are handled one by one, in order. Their contents are never logged, because they are the user's source
code.
"""

import asyncio
import json
import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

import anyio
import anyio.lowlevel
from lsprotocol import types as lsp
from pygls.exceptions import (
    JsonRpcException,
    JsonRpcInvalidParams,
    JsonRpcInvalidRequest,
    JsonRpcParseError,
)
from pygls.lsp.server import LanguageServer
from pygls.protocol.json_rpc import JsonRPCNotification, JsonRPCRequestMessage, JsonRPCResponseMessage

from singlepass.lsp.framing import MAX_BODY, Body, Frame, Framing, Garbage, NotJson, TooLong

if TYPE_CHECKING:
    from anyio.abc import TaskGroup
    from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

log = logging.getLogger(__name__)

_CHUNK = 64 * 1024
_OPENINGS = b"{["
"""What a message begins with."""
_MAX_TOLD = 100
"""Maximum number of consecutive invalid frames that are reported to the editor, or logged."""
_BUSY_S = 0.005
"""Maximum time for processing frames before other tasks run."""
_WATCH_EVERY_S = 1.0
"""Interval for checking whether the editor's process is alive, if the system does not notify us."""
_NOT_INITIALIZED = -32002  # LSP 3.17, ErrorCodes.ServerNotInitialized


class Connection:
    """One client. `run` is called once and returns the exit code."""

    def __init__(self, server: LanguageServer, read_fd: int, write_fd: int) -> None:
        self._server = server
        self._protocol: Any = server.protocol  # pygls has no types for what is needed here
        self._read_fd = read_fd
        self._write_fd = write_fd
        self._framing = Framing(_OPENINGS)
        self._n_strange = 0
        """Frames since the last message that were none."""
        self._ended = anyio.Event()
        self._code = 0
        self._tasks: TaskGroup
        self._is_initialized = False
        self._is_shut_down = False

    async def run(self) -> int:
        """Serve until the client says exit, goes away, or its process has ended."""
        self._protocol.set_writer(_Output(self._write_fd, lambda: self._end(1)))
        sending, chunks = anyio.create_memory_object_stream[bytes](4)
        # A daemon: the end of the process does not wait for the client's next byte.
        reading = asyncio.get_running_loop(), sending
        threading.Thread(target=self._read, args=reading, daemon=True).start()
        async with sending, chunks, anyio.create_task_group() as self._tasks:
            self._tasks.start_soon(self._protocol.parts.run)
            self._tasks.start_soon(self._serve, chunks)
            await self._ended.wait()
            self._tasks.cancel_scope.cancel()
        return self._code

    def _end(self, code: int) -> None:
        if not self._ended.is_set():
            self._code = code
            self._ended.set()

    def _read(self, loop: asyncio.AbstractEventLoop, chunks: "MemoryObjectSendStream[bytes]") -> None:
        """In a thread: bytes to the loop, no faster than it takes them. An empty chunk is the end.

        Not in one of anyio's, which the end of the process would wait for.
        """
        while True:
            try:
                data = os.read(self._read_fd, _CHUNK)
            except OSError:
                data = b""
            taking = chunks.send(data)
            try:
                asyncio.run_coroutine_threadsafe(taking, loop).result()
            except RuntimeError:  # the loop has ended
                taking.close()
                return
            except BaseException:  # so has whoever waited
                return
            if not data:
                return

    async def _serve(self, chunks: "MemoryObjectReceiveStream[bytes]") -> None:
        while data := await chunks.receive():
            self._framing.feed(data)
            since = time.monotonic()
            while (frame := self._framing.next_frame()) is not None:
                self._take_frame(frame)
                if not self._n_strange or time.monotonic() - since > _BUSY_S:
                    await anyio.lowlevel.checkpoint()
                    since = time.monotonic()
        self._end(0 if self._is_shut_down else 1)

    # Messages.

    def _take_frame(self, frame: Frame) -> None:
        match frame:
            case Body(body):
                self._take_body(body)
            case NotJson():
                self._refuse_text()
            case TooLong(n_bytes):
                message = f"a message of {n_bytes:,} bytes is not read; the most is {MAX_BODY:,}"
                self._refuse(None, JsonRpcInvalidRequest(message))
            case Garbage(start):
                if self._is_told():
                    log.warning("bytes from the editor that are no message: %d and more", len(start))

    def _is_told(self) -> bool:
        """Whether one more frame that is no message is told. Of a flood only the beginning is."""
        self._n_strange += 1
        return self._n_strange <= _MAX_TOLD

    def _refuse_text(self) -> None:
        if self._is_told():
            self._refuse(None, JsonRpcParseError("the message is not JSON"))

    def _take_body(self, body: bytes) -> None:
        try:
            message = json.loads(body)
        except (ValueError, RecursionError):
            self._refuse_text()
            self._framing.reread(body)
            return
        self._n_strange = 0
        if not isinstance(message, dict) or cast("dict[str, Any]", message).get("jsonrpc") != "2.0":
            self._refuse(None, JsonRpcInvalidRequest("the message is not one of JSON-RPC 2.0"))
            return
        try:
            self._take(cast("dict[str, Any]", message))
        except Exception:
            log.exception("a message could not be handled")

    def _take(self, message: dict[str, Any]) -> None:
        method, id = message.get("method"), message.get("id")
        if "method" not in message:
            self._take_answer(message)
        elif not isinstance(method, str):
            self._refuse(id, JsonRpcInvalidRequest("a method is named by a string"))
        elif "id" in message:
            self._take_request(message, method)
        elif method == lsp.EXIT:
            self._end(0 if self._is_shut_down else 1)
        elif self._is_initialized and not self._is_shut_down:
            self._take_notification(message, method)

    def _take_request(self, message: dict[str, Any], method: str) -> None:
        id = message["id"]
        if not _is_id(id):
            self._refuse(None, JsonRpcInvalidRequest("a request is numbered by an integer or a string"))
        elif self._is_shut_down:
            self._refuse(id, JsonRpcInvalidRequest("the server was shut down"))
        elif self._is_initialized and method == lsp.INITIALIZE:
            self._refuse(id, JsonRpcInvalidRequest("the server was initialized already"))
        elif not self._is_initialized and method != lsp.INITIALIZE:
            self._refuse(id, JsonRpcException("the server is not initialized", _NOT_INITIALIZED))
        elif _is_notification(method):
            self._refuse(
                id, JsonRpcInvalidRequest(f"{method} is a notification, which is sent without an id")
            )
        else:
            # `error` beside a method would make pygls take the request for an answer.
            request = {key: message[key] for key in ("jsonrpc", "id", "method", "params") if key in message}
            try:
                structured = self._structure(request, self._type_of(request, method, JsonRPCRequestMessage))
            except JsonRpcException as error:
                self._refuse(id, error)
                return
            if method == lsp.INITIALIZE:
                self._is_initialized = True
                self._tasks.start_soon(self._watch, structured.params.process_id)
            self._is_shut_down = method == lsp.SHUTDOWN
            self._protocol.handle_message(structured)

    def _take_notification(self, message: dict[str, Any], method: str) -> None:
        notification = {key: message[key] for key in ("jsonrpc", "method", "params") if key in message}
        try:
            structured = self._structure(
                notification, self._type_of(notification, method, JsonRPCNotification)
            )
        except JsonRpcException:
            log.warning("a notification %.60r has parameters of another shape; it is left out", method)
            return
        self._protocol.handle_message(structured)

    def _take_answer(self, message: dict[str, Any]) -> None:
        id = message.get("id")
        if not _is_id(id):
            return
        try:
            if "error" in message:
                structured = self._structure(message, lsp.ResponseErrorMessage)
            else:
                kind = self._protocol._result_types.pop(id, None) or JsonRPCResponseMessage
                structured = self._structure({"result": None, **message}, kind)
        except JsonRpcException as error:
            problem = lsp.ResponseError(error.code, "the answer has another shape than the protocol's")
            structured = lsp.ResponseErrorMessage(id=id, error=problem, jsonrpc="2.0")
        self._protocol.handle_message(structured)

    def _type_of(self, message: dict[str, Any], method: str, otherwise: type) -> Any:
        """The type of a message that names its method."""
        known = self._protocol.get_message_type(method)
        if known is None:
            message.setdefault("params", None)
        return known or otherwise

    def _structure(self, message: dict[str, Any], kind: Any) -> Any:
        """The message as pygls has it. Raises JsonRpcException.

        pygls's own `structure_message` formats the error for its log, which took 7 s for a deeply nested one.
        """
        try:
            return self._protocol._converter.structure(message, kind)
        except Exception:  # of any kind: what is nested too deep, for one, exceeds the stack
            raise JsonRpcInvalidParams("the parameters have another shape than the protocol's") from None

    def _refuse(self, id: Any, error: JsonRpcException) -> None:
        """Answer with an error; without an id it says what became of a message that could not be read."""
        self._protocol._send_data(
            {
                "jsonrpc": "2.0",
                "id": id if _is_id(id) else None,
                "error": {"code": error.code, "message": error.message},
            }
        )

    # The editor's process.

    async def _watch(self, process_id: int | None) -> None:
        """End when this process does.

        It may be of another machine or container; then no process here has its number, or we may not know.
        """
        if not process_id or process_id < 0 or sys.platform == "win32" or not _lives(process_id):
            return
        if sys.platform == "linux" and hasattr(os, "pidfd_open"):
            with suppress(OSError):  # an old kernel, or no descriptor left
                # Readable when the process ends, also if nobody has waited for it; nothing wakes up before.
                await anyio.wait_readable(os.pidfd_open(process_id))
                self._end(1)
                return
        while _lives(process_id):  # noqa: ASYNC110 - the system does not notify us
            await anyio.sleep(_WATCH_EVERY_S)
        self._end(1)


class Discreet(logging.Filter):
    """Removes messages, which contain the user's source, from pygls's log records.

    An error that is an answer, such as a rejected request, is logged without a traceback.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Remove the parameters."""
        args = record.args
        if isinstance(args, tuple) and args and str(record.msg).endswith("%s"):
            record.args = (*args[:-1], "…")
        if record.exc_info and isinstance(record.exc_info[1], JsonRpcException):
            record.exc_info = None
        return True


class _Output:
    """Writes whole messages, waiting for the client to read them; pygls calls it."""

    def __init__(self, fd: int, on_lost: Callable[[], None]) -> None:
        self._fd = fd
        self._on_lost = on_lost
        self._is_lost = False

    def write(self, data: bytes) -> None:
        """Write a message; a lost connection is not reported to the caller."""
        rest = memoryview(data)
        while rest and not self._is_lost:
            try:
                rest = rest[os.write(self._fd, rest) :]
            except OSError:
                self._is_lost = True
                self._on_lost()

    def close(self) -> None:
        """The descriptor is the process's."""


def serve_stdio(server: LanguageServer) -> int:
    """Speak LSP over stdin and stdout; returns the exit code."""
    logging.getLogger("pygls.protocol.json_rpc").addFilter(Discreet())
    read_fd, write_fd = sys.stdin.fileno(), sys.stdout.fileno()
    try:
        return anyio.run(Connection(server, read_fd, write_fd).run)
    except KeyboardInterrupt:
        return 1


def _is_id(id: object) -> bool:
    return isinstance(id, int | str) and not isinstance(id, bool)


def _is_notification(method: str) -> bool:
    types: Any = lsp.METHOD_TO_TYPES.get(method)
    return types is not None and types[1] is None


def _lives(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True
