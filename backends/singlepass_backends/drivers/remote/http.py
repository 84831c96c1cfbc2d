"""Requests to one server: with retries, a limit for the size of answers, and every failure as a
`BackendError`.

Failures before the first byte of an answer are retried a few times, since nothing has been computed for us
yet. Later ones are not, because text may already be in the editor.

The API key is sent in one header, to one origin only. It is in no message, no log and no `repr`, and
redirects are rejected, not followed.
"""

import json
import logging
import time
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import httpcore
import httpx

from singlepass_backends.base import BackendError, Interrupt, Target
from singlepass_backends.drivers.remote.api_key import Key
from singlepass_backends.drivers.remote.connection import ConnectFailed, TimedOut, Watch, open_client
from singlepass_backends.drivers.remote.failures import Failures, retry_after, words
from singlepass_backends.drivers.remote.replies import Format, Piece, StreamReader, read_whole
from singlepass_backends.drivers.remote.servers import Server, api_base, is_local

MAX_TRIES = 4
MAX_RETRY_AFTER_S = 20.0
"""If the server asks for a longer wait, the user gets an error instead of a retry."""
BACKOFF_S = (0.25, 1.0, 3.0)
"""Pauses between tries, if the server asks for none."""
ASK_S = 5.0
"""Timeout of the small requests when connecting, and for the text of an error."""
_LOADING_S = 600.0
"""How long to retry while a server answers that it is loading its model."""
MAX_ERROR_BYTES = 65_536
MAX_WHOLE_BYTES = 8_000_000
_NO_REPLY = ("text/html", "application/xhtml", "application/xml", "text/xml", "image/", "audio/", "video/")
LOST = (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException)
"""What httpcore raises when a connection breaks."""

_log = logging.getLogger(__name__)


class Response:
    """An open response, closed at the end of a `with`. `error` is the body if the status is not 200."""

    def __init__(self, raw: httpx.Response) -> None:
        self.raw = raw
        self.status = raw.status_code
        self.headers: Mapping[str, str] = raw.headers
        self.error = b""

    def __enter__(self) -> "Response":
        return self

    def __exit__(self, *_: object) -> None:
        self.raw.close()


class Http:
    """Talks to the server of one target. Makes one request at a time."""

    def __init__(self, target: Target) -> None:
        """Connects on the first request. Raises BackendError `unauthorized` if the key is missing."""
        self.base, self.root = api_base(target.url)
        parts = urlsplit(self.base)
        self.host, self.port = parts.hostname or "", parts.port
        self.model = target.model
        """The model's name in errors."""
        self._key = Key(target, self.host)
        if self._key and parts.scheme == "http" and not is_local(self.host):
            _log.warning("the API key is sent to %s without encryption; https is safer", self.host)
        self.failures = Failures(target, self.base, self.root, self._key)
        self.watch = Watch()
        self._connect_timeout_s = target.connect_timeout_s
        self._client = open_client(self.watch, target.connect_timeout_s, is_tls=parts.scheme == "https")

    def watched(self, interrupt: Interrupt | None) -> None:
        """Cancel requests as soon as `interrupt` is true; None disables that."""
        self.watch.interrupt = interrupt or _never

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def chat(
        self, server: Server, body: Mapping[str, Any], seconds: float, n_tries: int = MAX_TRIES
    ) -> Response:
        """Request a completion. See `send`."""
        base = self.base if server.format == "openai" else self.root
        return self.send("POST", base + server.path, body, seconds, n_tries)

    def ask(self, path: str, body: object = None) -> object:
        """The JSON answer to a small request; None if the server does not support the request."""
        try:
            with self.send("POST" if body else "GET", self.root + path, body, ASK_S, 1) as response:
                is_answer = response.status == 200
                return json.loads(self.read(response, MAX_WHOLE_BYTES)) if is_answer else None
        except (BackendError, TimedOut, ValueError, RecursionError):
            return None

    def send(self, method: str, url: str, body: object, seconds: float, n_tries: int = MAX_TRIES) -> Response:
        """The response, whose head must arrive within `seconds`; retried while nothing has arrived.

        Raises BackendError for redirects and if no answer came, TimedOut, Cancelled.
        """
        content = None if body is None else json.dumps(body, ensure_ascii=False).encode("utf-8", "replace")
        headers = {"Accept": "text/event-stream, application/json, */*;q=0.1", **self._key.header()}
        if content is not None:
            headers["Content-Type"] = "application/json"
        request = self._client.build_request(method, url, content=content, headers=headers)
        n_tried = 0
        began = time.monotonic()
        while True:
            n_tried += 1
            may_retry = n_tried < n_tries
            pause = BACKOFF_S[min(n_tried, len(BACKOFF_S)) - 1]
            response = self._sent_once(request, seconds, may_retry=may_retry)
            if response is not None:
                if response.status not in (429, 503):
                    return response
                wait = retry_after(response.headers.get("retry-after", ""))
                is_loading = response.status == 503 and b"loading" in response.error.lower()
                if is_loading and n_tries > 1 and time.monotonic() - began < _LOADING_S:
                    n_tried -= 1
                    pause = 0.5
                elif not may_retry or (wait or 0.0) > MAX_RETRY_AFTER_S:
                    return response
                pause = pause if wait is None else wait
            self._pause(pause)

    def _sent_once(self, request: httpx.Request, seconds: float, *, may_retry: bool) -> Response | None:
        """One try: the response (already read and closed for an error status), or None after a temporary
        connection failure."""
        self.watch.begin(self._connect_timeout_s, seconds)
        try:
            response = Response(self._client.send(request, stream=True))
        except ConnectFailed as error:
            if isinstance(error.cause, TimeoutError):
                raise self.failures.no_connection() from None
            # A wrong host name or certificate is permanent.
            if not may_retry or not isinstance(error.cause, ConnectionError):
                raise self.failures.unreachable(error) from None
            return None
        except LOST as error:
            if not may_retry or self.watch.n_received:
                raise self.failures.broke_off(error) from None
            return None
        if response.raw.has_redirect_location:
            response.raw.close()
            raise self.failures.redirected(response.status, response.headers["location"])
        if response.status != 200:
            with response:
                self.watch.allow(ASK_S)
                response.error = self.read(response, MAX_ERROR_BYTES)
        return response

    def _pause(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self.watch.check_cancelled()
            time.sleep(min(left, 0.02))

    def pieces(self, response: Response, format: Format) -> Iterator[Piece]:
        """The pieces of a completion. Raises BackendError if the answer is not a completion."""
        kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        if response.status != 200:
            raise self.failure(response)
        if kind == "application/json" and format != "ollama":
            piece = read_whole(format, self.read(response, MAX_WHOLE_BYTES))
            yield piece
            if piece.text or piece.finish:
                yield Piece(is_end=True)
            return
        if kind.startswith(_NO_REPLY):
            said = words(self.read(response, MAX_ERROR_BYTES))[:200]
            raise self.failures.not_a_reply(f"{kind}: {said}" if said else kind)
        reader = StreamReader(format, is_sse=format != "ollama")
        for data in response.raw.iter_bytes():
            pieces = reader.feed(data)
            yield from pieces
            if not pieces:  # bytes without content, such as an SSE comment, are not progress
                self.watch.check()
        yield from reader.close()

    def read(self, response: Response, n_most: int) -> bytes:
        """The body of a response that is not a stream; truncated if it is too long or the connection
        breaks."""
        data = bytearray()
        try:
            for part in response.raw.iter_bytes():
                data += part
                if len(data) > n_most:
                    break
                self.watch.check()
        except (TimedOut, httpx.DecodingError, *LOST):
            pass
        return bytes(data[:n_most])

    def failure(self, response: Response) -> BackendError:
        """The error for a response with a status other than 200."""
        wait = retry_after(response.headers.get("retry-after", ""))
        return self.failures.of_status(response.status, words(response.error), self.model, wait)


def _never() -> bool:
    return False
