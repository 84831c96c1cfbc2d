"""HTTP connections that can be cancelled at any moment, on httpx.

Theory of operation. httpx blocks in the socket until bytes arrive, which during a long prefill takes long. So
we implement the sockets through httpcore's public `NetworkBackend`: each waits at most `POLL_S` at a time and
then asks its `Watch` whether the request was cancelled or timed out. Either raises an exception through
httpcore, which closes the connection; a server that notices stops computing. Only name resolution cannot be
interrupted; it runs, together with connecting, in a thread, which closes the new socket if it is no longer
wanted.

Proxies from the environment are not used: requests go only to the endpoint in the user's settings.
"""

import contextlib
import logging
import queue
import socket
import ssl
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any

import httpcore
import httpx

from singlepass_backends.base import Interrupt

POLL_S = 0.02
"""Maximum time until a cancel is noticed."""
_SEND_BYTES = 65_536
_KEEPALIVE_S = 60.0
"""How long an idle connection is kept for the next request."""

# httpx logs each URL at INFO and httpcore each header at DEBUG; neither belongs in the engine's log.
for _name in ("httpx", "httpcore"):
    logging.getLogger(_name).setLevel(logging.WARNING)


class ConnectFailed(httpcore.ConnectError):
    """Connecting failed. Has its own `cause`, since httpcore drops `__cause__`."""

    def __init__(self, cause: OSError) -> None:
        super().__init__(_text(cause))
        self.cause = cause


class Cancelled(Exception):
    """The caller's `interrupt` is true."""


class TimedOut(Exception):
    """The deadline passed without progress."""


class Watch:
    """Cancellation and deadline of the current request, shared by all sockets of one client."""

    def __init__(self) -> None:
        self.interrupt: Interrupt = lambda: False
        self._deadline = float("inf")
        self._answer_s = float("inf")
        self.is_sent = False
        """The request was sent; before that, a timeout is one of connecting."""
        self.n_received = 0
        """Bytes of the answer received so far."""

    def begin(self, connect_s: float, answer_s: float) -> None:
        """A new request, with the timeouts for connecting and, after sending, for the answer."""
        self._answer_s = answer_s
        self.is_sent = False
        self.n_received = 0
        self.allow(connect_s)

    def sent(self) -> None:
        """A part of the request was sent."""
        self.is_sent = True
        self.allow(self._answer_s)

    def allow(self, seconds: float) -> None:
        """Set the deadline to `seconds` from now."""
        self._deadline = time.monotonic() + seconds

    def check_cancelled(self) -> None:
        """Raises Cancelled."""
        if self.interrupt():
            raise Cancelled

    def check(self) -> None:
        """Raises Cancelled or TimedOut."""
        self.check_cancelled()
        if time.monotonic() > self._deadline:
            raise TimedOut


class _Stream(httpcore.NetworkStream):
    """A connected socket. Ignores the timeouts that httpcore passes, since the watch has the deadline."""

    def __init__(self, sock: socket.socket, watch: Watch) -> None:
        self._socket = sock
        self._watch = watch
        sock.settimeout(POLL_S)

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        while True:
            self._watch.check_cancelled()
            try:
                data = self._socket.recv(max_bytes)
            except (TimeoutError, ssl.SSLWantReadError):
                # Only checked when nothing is readable: bytes that arrived in time count, even if read late.
                self._watch.check()
                continue
            except OSError as error:
                raise httpcore.ReadError(_text(error)) from error
            self._watch.n_received += len(data)
            return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        view = memoryview(buffer)
        while view:
            self._watch.check()
            try:
                view = view[self._socket.send(view[:_SEND_BYTES]) :]
            except (TimeoutError, ssl.SSLWantWriteError):
                continue
            except OSError as error:
                raise httpcore.WriteError(_text(error)) from error
        self._watch.sent()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        try:
            wrapped = ssl_context.wrap_socket(
                self._socket, server_hostname=server_hostname, do_handshake_on_connect=False
            )
        except OSError as error:
            self.close()
            raise ConnectFailed(error) from error
        stream = _Stream(wrapped, self._watch)
        try:
            while True:
                self._watch.check()
                try:
                    wrapped.do_handshake()
                    return stream
                except TimeoutError:
                    continue
        except OSError as error:
            stream.close()
            raise ConnectFailed(error) from error
        except BaseException:
            stream.close()
            raise

    def get_extra_info(self, info: str) -> Any:
        if info == "socket":
            return self._socket
        if info == "ssl_object" and isinstance(self._socket, ssl.SSLSocket):
            return self._socket
        if info == "is_readable":
            return _has_input(self._socket)
        return None


def _text(error: OSError) -> str:
    """The system's error text, without the number."""
    return error.strerror.lower() if error.strerror else str(error)


def _has_input(sock: socket.socket) -> bool:
    """Whether an idle connection is readable: the server has closed it, or sent something unexpected."""
    import select

    if sock.fileno() < 0:
        return True
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(0))


class _Network(httpcore.NetworkBackend):
    """Opens connections within the deadline of the watch."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        results: queue.SimpleQueue[socket.socket | OSError] = queue.SimpleQueue()
        is_given_up = threading.Event()

        def close_unwanted() -> None:
            with contextlib.suppress(queue.Empty):
                result = results.get_nowait()
                if isinstance(result, socket.socket):
                    result.close()

        def connect() -> None:
            try:
                results.put(socket.create_connection((host, port), timeout))
            except OSError as error:
                results.put(error)
            except UnicodeError:  # from the IDNA encoding of a malformed name
                results.put(socket.gaierror("the name is malformed"))
            if is_given_up.is_set():
                close_unwanted()

        threading.Thread(target=connect, name="connect", daemon=True).start()
        try:
            while True:
                self._watch.check()
                with contextlib.suppress(queue.Empty):
                    result = results.get(timeout=POLL_S)
                    break
        except BaseException:
            is_given_up.set()
            close_unwanted()
            raise
        if isinstance(result, OSError):
            raise ConnectFailed(result)
        result.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        result.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        return _Stream(result, self._watch)

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


class _Body(httpx.SyncByteStream):
    def __init__(self, stream: Iterable[bytes], close: Any) -> None:
        self._stream = stream
        self._close = close

    def __iter__(self) -> Iterator[bytes]:
        yield from self._stream

    def close(self) -> None:
        self._close()


class _Transport(httpx.BaseTransport):
    """Sends httpx's requests through a pool of the sockets above. Errors remain httpcore's."""

    def __init__(self, watch: Watch, *, is_tls: bool) -> None:
        self._pool = httpcore.ConnectionPool(
            # Trusts the certificates in SSL_CERT_FILE or SSL_CERT_DIR, else those of certifi.
            ssl_context=httpx.create_ssl_context() if is_tls else None,
            max_connections=4,
            max_keepalive_connections=1,
            keepalive_expiry=_KEEPALIVE_S,
            network_backend=_Network(watch),
        )

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        assert isinstance(request.stream, httpx.SyncByteStream)
        response = self._pool.handle_request(
            httpcore.Request(
                method=request.method,
                url=httpcore.URL(
                    scheme=request.url.raw_scheme,
                    host=request.url.raw_host,
                    port=request.url.port,
                    target=request.url.raw_path,
                ),
                headers=request.headers.raw,
                content=request.stream,
                extensions=dict(request.extensions),
            )
        )
        assert isinstance(response.stream, Iterable)
        return httpx.Response(
            response.status,
            headers=response.headers,
            stream=_Body(response.stream, response.close),
        )

    def close(self) -> None:
        self._pool.close()


def open_client(watch: Watch, connect_timeout_s: float, *, is_tls: bool) -> httpx.Client:
    """A client that follows no redirects and uses nothing from the environment but trusted certificates."""
    return httpx.Client(
        transport=_Transport(watch, is_tls=is_tls),
        follow_redirects=False,
        trust_env=False,
        timeout=httpx.Timeout(None, connect=connect_timeout_s),
        # Compressed streams arrive in bursts.
        headers={"Accept-Encoding": "identity", "User-Agent": "singlepass"},
    )
