"""Servers for tests, on loopback sockets: each answers as a script tells it to, byte by byte where that
matters."""

import contextlib
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

REASONS = {200: "OK", 302: "Found", 307: "Temporary Redirect", 400: "Bad Request", 401: "Unauthorized"}


class Exchange:
    """One request and the connection it came on."""

    def __init__(self, sock: socket.socket, head: bytes, body: bytes) -> None:
        self._socket = sock
        first, *fields = head.decode("latin-1").split("\r\n")
        self.method, self.path, _ = first.split(" ")
        self.headers = {
            name.lower(): value.strip() for name, _, value in (field.partition(":") for field in fields)
        }
        self.body: Any = json.loads(body) if body else None
        self.is_scripted = False
        self.closed_after: float | None = None
        """Seconds from `wait_closed` until the client was gone."""

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def head(self, status: int = 200, kind: str = "text/event-stream", **fields: str) -> None:
        """The head of an answer that ends with the connection."""
        lines = [f"HTTP/1.1 {status} {REASONS.get(status, 'Status')}", "Connection: close"]
        lines += [f"Content-Type: {kind}"] if kind else []
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in fields.items()]
        self.send("\r\n".join([*lines, "", ""]).encode())

    def json(self, payload: object, status: int = 200, **fields: str) -> None:
        self.head(status, "application/json", **fields)
        self.send(json.dumps(payload).encode())

    def event(self, payload: object) -> None:
        self.send(event(payload))

    def wait_closed(self, seconds: float = 3.0) -> None:
        """Wait until the client closes the connection."""
        start = time.monotonic()
        self._socket.settimeout(seconds)
        with contextlib.suppress(TimeoutError):
            with contextlib.suppress(ConnectionError):
                while self._socket.recv(4096):
                    pass
            self.closed_after = time.monotonic() - start

    def reset(self) -> None:
        """Close with RST."""
        linger = b"\x01\x00\x00\x00\x00\x00\x00\x00"
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self._socket.close()


def event(payload: object) -> bytes:
    text = payload if isinstance(payload, str) else json.dumps(payload, ensure_ascii=False)
    return f"data: {text}\n\n".encode()


def delta(text: str | None = None, **fields: Any) -> dict[str, Any]:
    """A chunk of a reply."""
    finish = fields.pop("finish_reason", None)
    content = {} if text is None else {"content": text}
    return {"choices": [{"index": 0, "delta": {**content, **fields}, "finish_reason": finish}]}


def reply(texts: Iterable[str], finish: str | None = "stop", usage: dict[str, Any] | None = None) -> bytes:
    """A whole stream as OpenAI documents it."""
    events = [event(delta("", role="assistant")), *(event(delta(text)) for text in texts)]
    if finish:
        events.append(event(delta(finish_reason=finish)))
    if usage:
        events.append(event({"choices": [], "usage": usage}))
    return b"".join([*events, event("[DONE]")])


Script = Callable[[Exchange], None]


class Endpoint:
    """A server. `answers` are JSON by path, other questions get 404, and what is posted is for `script`."""

    def __init__(
        self,
        script: Script,
        answers: dict[str, Any] | None = None,
        *,
        models: tuple[dict[str, Any], ...] = ({"id": "m", "owned_by": "somebody"},),
        header: str = "",
        tls: ssl.SSLContext | None = None,
        host: str = "127.0.0.1",
    ) -> None:
        self.script = script
        self.answers = {"/v1/models": {"object": "list", "data": list(models)}, **(answers or {})}
        self.exchanges: list[Exchange] = []
        self._header = header
        self._tls = tls
        self._listener = socket.create_server((host, 0))
        self._port = self._listener.getsockname()[1]
        self._threads: list[threading.Thread] = []
        self._is_closed = False
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self._port}"

    @property
    def asked(self) -> list[Exchange]:
        """The requests that the script answered."""
        return [one for one in self.exchanges if one.is_scripted]

    def join(self, seconds: float = 4.0) -> None:
        """Wait for the scripts to end."""
        for thread in self._threads:
            thread.join(seconds)

    def close(self) -> None:
        self._is_closed = True
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._accepting.join(2)
        self.join(1)

    def __enter__(self) -> "Endpoint":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _accept(self) -> None:
        while not self._is_closed:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(sock,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError), sock:
            if self._tls:
                sock = self._tls.wrap_socket(sock, server_side=True)
            with sock:
                data = b""
                while b"\r\n\r\n" not in data:
                    more = sock.recv(65536)
                    if not more:
                        return
                    data += more
                head, _, body = data.partition(b"\r\n\r\n")
                exchange = Exchange(sock, head, b"")
                size = int(exchange.headers.get("content-length", 0))
                while len(body) < size:
                    body += sock.recv(65536)
                exchange = Exchange(sock, head, body)
                self.exchanges.append(exchange)
                if exchange.path in self.answers:
                    answer = self.answers[exchange.path]
                    fields = {"Server": self._header} if self._header else {}
                    exchange.json(answer, **fields)
                elif exchange.method == "GET" and "/v1/models" in self.answers:
                    exchange.json({"error": "not found"}, 404)
                else:
                    exchange.is_scripted = True
                    self.script(exchange)


# What they may be told to do.


def say(data: bytes, kind: str = "text/event-stream") -> Script:
    """Answer with these bytes."""

    def script(exchange: Exchange) -> None:
        exchange.head(kind=kind)
        exchange.send(data)

    return script


def headers_only(status: int, words: str = "", **fields: str) -> Script:
    def script(exchange: Exchange) -> None:
        exchange.json({"error": {"message": words}} if words else {}, status, **fields)

    return script


def then_silence(data: bytes = b"", *, kind: str = "text/event-stream") -> Script:
    def script(exchange: Exchange) -> None:
        exchange.head(kind=kind)
        exchange.send(data)
        exchange.wait_closed()

    return script


OLLAMA_STREAM = b"".join(
    json.dumps(line).encode() + b"\n"
    for line in (
        {"model": "m", "message": {"role": "assistant", "content": "", "thinking": "hm"}, "done": False},
        {"model": "m", "message": {"role": "assistant", "content": "Hé"}, "done": False},
        {
            "model": "m",
            "message": {"role": "assistant", "content": ""},
            "done": True,
            "done_reason": "stop",
            "total_duration": 4_883_583_458,
            "load_duration": 1_334_875,
            "prompt_eval_count": 26,
            "prompt_eval_duration": 342_546_000,
            "eval_count": 282,
            "eval_duration": 4_535_599_000,
        },
    )
)


def lm_studio_event(kind: str, **fields: Any) -> bytes:
    return f"event: {kind}\n".encode() + event({"type": kind, **fields})


LM_STUDIO_STREAM = b"".join(
    (
        lm_studio_event("chat.start", model_instance_id="m"),
        lm_studio_event("prompt_processing.start"),
        lm_studio_event("prompt_processing.progress", progress=0.25),
        lm_studio_event("prompt_processing.progress", progress=1),
        lm_studio_event("prompt_processing.end"),
        lm_studio_event("reasoning.delta", content="Need to"),
        lm_studio_event("message.delta", content="The "),
        lm_studio_event("message.delta", content="ënd"),
        lm_studio_event(
            "chat.end",
            result={
                "stats": {
                    "input_tokens": 329,
                    "total_output_tokens": 40,
                    "tokens_per_second": 20.0,
                    "time_to_first_token_seconds": 0.5,
                }
            },
        ),
    )
)
