"""One connection to an engine: attaching, the handshake, requests and replies."""

import asyncio
import logging
import math
from collections.abc import Callable

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from singlepass_backends.base import BackendError, Event, Evicted, Finished, ModelInfo
from singlepass_backends.engine_process import POLL_S, is_child, reap
from singlepass_backends.runtime_dir import EnginePaths
from singlepass_backends.wire import (
    PROTOCOL,
    ClientMessage,
    Decoder,
    EngineMessage,
    Failed,
    Hello,
    Inspected,
    Loaded,
    LoadFailed,
    Loading,
    PrewarmEvicted,
    Progress,
    Refused,
    StatusReply,
    StatusRequest,
    Stop,
    Stopping,
    Unless,
    Welcome,
    WireError,
    encode,
)

_ANSWER_S = 10.0
"""Maximum wait for an engine's loop to answer; it answers at once unless its process is stopped or hangs."""

Listener = Callable[[Event | Evicted | None], object]
"""Called with a prewarm's events and later its evictions; with None if it failed."""

_Sending = MemoryObjectSendStream[EngineMessage]
_Replies = MemoryObjectReceiveStream[EngineMessage]

_log = logging.getLogger(__name__)


class Link(asyncio.Protocol):
    """One connection. The engine's messages update its state, with an event for each awaited one."""

    def __init__(self, paths: EnginePaths, on_loading: Callable[[float], None]) -> None:
        self.paths = paths
        self.pid = 0
        self.refused: Refused | None = None
        self.info: ModelInfo | None = None
        self.failure: LoadFailed | None = None
        self.greeted = anyio.Event()
        """Set when `Welcome` or `Refused` arrived, or the connection is closed."""
        self.settled = anyio.Event()
        """Set when `Loaded` or `LoadFailed` arrived, or the connection is closed."""
        self.on_closed: Callable[[Link], None] = lambda _: None
        self._closed = anyio.Event()
        self._on_loading = on_loading
        self._transport: asyncio.Transport | None = None
        self._decoder: Decoder[EngineMessage] = Decoder(EngineMessage)
        self._replies: dict[int, tuple[_Sending, _Replies]] = {}
        self._listeners: dict[int, Listener] = {}
        self._ended: set[int] = set()
        """Finished requests, whose listeners are still called for evictions until the next `listen`."""

    @property
    def is_closed(self) -> bool:
        return self._transport is None or self._transport.is_closing()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        for event in (self.greeted, self.settled, self._closed):
            event.set()
        for replies in self._replies.values():
            replies[0].close()
        self._listeners.clear()
        self.on_closed(self)

    def data_received(self, data: bytes) -> None:
        try:
            for message in self._decoder.feed(data):
                self._receive(message)
        except WireError as error:
            _log.error("the engine sent an invalid message: %s", error)
            if self._transport is not None:
                self._transport.abort()

    def _receive(self, message: EngineMessage) -> None:
        match message:
            case Welcome(pid=pid):
                self.pid = pid
                self.greeted.set()
            case Refused(pid=pid):
                self.pid = pid
                self.refused = message
                self.greeted.set()
            case Loading(fraction):
                self._on_loading(fraction)
            case Loaded(info):
                self.info = info
                self.settled.set()
            case LoadFailed():
                self.failure = message
                self.settled.set()
            case Progress(id) | Failed(id) | Inspected(id) | StatusReply(id=id) | Stopping(id):
                if replies := self._replies.get(id):
                    replies[0].send_nowait(message)
                elif listener := self._listeners.get(id):
                    if not isinstance(message, Progress) or isinstance(message.event, Finished):
                        self._ended.add(id)
                    listener(message.event if isinstance(message, Progress) else None)
            case PrewarmEvicted(id, evicted):
                if listener := self._listeners.get(id):
                    listener(evicted)

    def open(self, id: int) -> _Replies:
        """The replies to `id`, until the connection is closed. Pair with `forget`."""
        sending, replies = anyio.create_memory_object_stream[EngineMessage](math.inf)
        if self.is_closed:
            sending.close()
        self._replies[id] = sending, replies
        return replies

    def listen(self, id: int, listener: Listener) -> None:
        """Call `listener` with the events of the request `id`, and after its end with its evictions, until
        the next `listen`."""
        for ended in self._ended:
            self._listeners.pop(ended, None)
        self._ended.clear()
        self._listeners[id] = listener

    def forget(self, id: int) -> None:
        for stream in self._replies.pop(id, ()):
            stream.close()
        self._listeners.pop(id, None)

    def send(self, message: ClientMessage) -> None:
        """Send a message. Raises ValueError if it cannot be encoded; a closed connection is noticed by
        reading."""
        frame = encode(message)
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(frame)

    async def close(self) -> None:
        if self._transport is not None:
            self._transport.close()
        await self._closed.wait()

    async def wait_closed(self) -> None:
        await self._closed.wait()


async def attach(paths: EnginePaths, version: str, on_loading: Callable[[float], None]) -> Link | None:
    """Connect and do the handshake; None if nothing listens. Raises BackendError `engine_lost` if the engine
    does not answer."""
    loop = asyncio.get_running_loop()
    try:
        _, link = await loop.create_unix_connection(lambda: Link(paths, on_loading), str(paths.socket))
    except OSError:
        return None
    try:
        link.send(Hello(PROTOCOL, version))
        with anyio.fail_after(_ANSWER_S):
            await link.greeted.wait()
    except TimeoutError:
        await link.close()
        raise BackendError(
            "engine_lost",
            f"The engine on {paths.socket} does not answer. End its process, or see its log {paths.log}.",
        ) from None
    except BaseException:
        await link.close()
        raise
    return None if link.is_closed else link


async def ask(link: Link, message: StatusRequest | Stop) -> EngineMessage | None:
    """The reply to `message`; None if there is none."""
    replies = link.open(message.id)
    try:
        link.send(message)
        with anyio.fail_after(_ANSWER_S):
            return await replies.receive()
    except (TimeoutError, anyio.EndOfStream):
        return None
    finally:
        link.forget(message.id)


async def stop_by(link: Link, id: int, unless: Unless = "never") -> bool:
    """Stop the engine and wait until it is gone. False if `unless` applies or it does not answer."""
    reply = await ask(link, Stop(id, unless))
    if reply is not None and not (isinstance(reply, Stopping) and reply.accepted):
        return False
    await link.wait_closed()
    for _ in range(50):  # its process is about to end; waiting is possible only for a child
        reap()
        if not is_child(link.pid):
            break
        await anyio.sleep(POLL_S)
    return True
