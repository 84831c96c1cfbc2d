"""Broken messages for a server over stdio: it lives, answers each valid request once, and never stalls.

    python benchmarks/fuzz.py 100000 [--seed 1]

Sent are requests and notifications with parameters of other shapes, JSON that is none, headers in every
spelling and of no meaning, wrong lengths, answers that nobody waits for, and bytes. After each batch a
valid request is sent and its answer waited for; the longest wait is the longest stall. What counts at the
end: exit code 0, every valid id answered once and only once, the longest stall below a second on an idle
machine.
"""

import argparse
import json
import os
import queue
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
from singlepass.lsp.framing import Body, Framing

BATCH = 50
_TIMEOUT_S = 300.0

_RANGE = {"start": {"line": 0, "character": 0}, "end": {"line": 2, "character": 1}}
_DOCUMENT = {"uri": "file:///nowhere/a.py"}
_COMMANDS = ("cancel", "revert", "keep", "undo", "retry", "selectTarget", "edit")
_REQUESTS: tuple[tuple[str, Any], ...] = (
    ("textDocument/codeAction", {"textDocument": _DOCUMENT, "range": _RANGE, "context": {"diagnostics": []}}),
    ("textDocument/codeLens", {"textDocument": _DOCUMENT}),
    ("initialize", {"processId": None, "rootUri": None, "capabilities": {}}),
    ("textDocument/hover", {"textDocument": _DOCUMENT, "position": _RANGE["start"]}),
    ("nonsense/method", {"a": [1, {"b": None}]}),
    *(
        ("workspace/executeCommand", {"command": f"singlepass.{name}", "arguments": [{"uri": "untitled:x"}]})
        for name in _COMMANDS
    ),
)
_NOTIFICATIONS: tuple[tuple[str, Any], ...] = (
    (
        "textDocument/didOpen",
        {"textDocument": {**_DOCUMENT, "languageId": "python", "version": 1, "text": "a\nb = 'ö😀'\n\n"}},
    ),
    (
        "textDocument/didChange",
        {"textDocument": {**_DOCUMENT, "version": 2}, "contentChanges": [{"range": _RANGE, "text": "x\r\n"}]},
    ),
    ("textDocument/didSave", {"textDocument": _DOCUMENT}),
    ("textDocument/didClose", {"textDocument": _DOCUMENT}),
    ("workspace/didChangeConfiguration", {"settings": {"singlepass": {"max_tokens": 5}}}),
    ("workspace/didChangeWatchedFiles", {"changes": [{"uri": "file:///nowhere/b.py", "type": 1}]}),
    ("window/workDoneProgress/cancel", {"token": "x"}),
    ("$/cancelRequest", {"id": 1}),
    ("$/setTrace", {"value": "off"}),
    ("initialized", {}),
)
_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 2**31, 2**63, 10**30, 1.5, 1e308, "", "a", "\0", "\ud800", "😀", [], {}),
    *([[]], {"": None}, [None], {"jsonrpc": "2.0", "id": 7, "method": "exit"}, "x" * 10_000),
    *("file:///etc/passwd", "file://[", "untitled:", "file:///a%00b", "file:///%ff", "http://x", "/a/../b"),
)


class Fuzzer:
    """Makes messages; `expected` has the ids that must be answered once."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.expected: list[int | str] = []
        self._n = 0

    def probe(self) -> tuple[int, bytes]:
        """A valid request that changes nothing."""
        id = self._id()
        assert isinstance(id, int)
        return id, framed(_encoded({"jsonrpc": "2.0", "id": id, "method": "nonsense/probe"}))

    def _id(self, text: bool = False) -> int | str:
        self._n += 1
        id = f"id {self._n}" if text else self._n + 1_000_000
        self.expected.append(id)
        return id

    def message(self) -> bytes:
        """The bytes of one broken message, or of one that is whole in an unusual way."""
        kind = self.chance.choices(
            [self._request, self._notification, self._answer, self._no_json, self._no_message, self._header],
            [30, 25, 8, 12, 10, 15],
        )[0]
        return kind()

    def _request(self) -> bytes:
        method, params = self.chance.choice(_REQUESTS)
        message = {"jsonrpc": "2.0", "id": self._id(self.chance.random() < 0.2), "method": method}
        return self._framed({**message, "params": self._mutated(params)})

    def _notification(self) -> bytes:
        method, params = self.chance.choice(_NOTIFICATIONS)
        return self._framed({"jsonrpc": "2.0", "method": method, "params": self._mutated(params)})

    def _answer(self) -> bytes:
        result = self.chance.choice([{"result": self._value()}, {"error": self._value()}, {}])
        return self._framed({"jsonrpc": "2.0", "id": self._value(), **result})

    def _no_json(self) -> bytes:
        """Flipped bytes and cut ends, in a message whose number is none of the expected."""
        method, params = self.chance.choice((*_REQUESTS, *_NOTIFICATIONS))
        body = bytearray(_encoded({"jsonrpc": "2.0", "id": -1, "method": method, "params": params}))
        for _ in range(self.chance.randint(1, 5)):
            body[self.chance.randrange(len(body))] = self.chance.randrange(256)
        return framed(bytes(body[: self.chance.randint(0, len(body))]))

    def _no_message(self) -> bytes:
        """JSON that is no message; deep nesting among it."""
        deep = self.chance.randint(10, 20_000)
        return framed(
            self.chance.choice(
                [
                    *(b"", b"null", b"[]", b"1", b'"x"', b"{}", b"NaN", b"\xff\xfe", b"[" * deep),
                    *(b"[" * deep + b"]" * deep, b'{"a":' * deep + b"1" + b"}" * deep, b"1" * 5_000),
                    b'{"jsonrpc": "2.0"}',
                    b'{"jsonrpc": "1.0", "id": -1, "method": "shutdown"}',
                    b'{"jsonrpc": "2.0", "id": null, "method": "shutdown"}',
                    b'{"jsonrpc": "2.0", "id": [1], "method": "shutdown"}',
                    b'{"jsonrpc": "2.0", "id": true, "method": "shutdown"}',
                    b'{"jsonrpc": "2.0", "id": -1, "method": 5}',
                    b'[{"jsonrpc": "2.0", "id": -1, "method": "shutdown"}]',
                ]
            )
        )

    def _header(self) -> bytes:
        """Other spellings of the header around a valid request, or a broken header in front of one."""
        body = _encoded({"jsonrpc": "2.0", "id": self._id(), "method": "nonsense/x"})
        spelled = [b"content-length:%d\r\n\r\n", b"CONTENT-LENGTH: %d\r\n\r\n", b"Content-Length: %d\n\n"]
        spelled.append(b"Content-Type: text/plain; charset=utf8\r\nContent-Length: %d\r\n\r\n")
        spelled.append(b"Content-Length: %d\r\nX: y\r\n\r\n")
        broken = [
            b"",
            b"",
            b"\r\n\r\n",
            b"Content-Length: -1\r\n\r\n",
            b"Content-Length: 99999999999\r\n\r\n",
        ]
        broken += [b"Content-Length: x\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", self.chance.randbytes(30) + b"\n"]
        # A length that takes some of what follows with it; enough follows that it is not waited for.
        length = self.chance.randint(1, 300)
        broken.append(b'Content-Length: %d\r\n\r\n{"cut' % length)
        before = self.chance.choice(broken)
        return before + framed(body, self.chance.choice(spelled)) + b"\r\n" * 150

    def _framed(self, message: Any) -> bytes:
        return framed(_encoded(message))

    def _mutated(self, value: Any) -> Any:
        if self.chance.random() < 0.12:
            return self._value()
        if isinstance(value, dict):
            found = {key: self._mutated(one) for key, one in value.items()}
            if found and self.chance.random() < 0.1:
                del found[self.chance.choice([*found])]
            return found
        if isinstance(value, list):
            return [self._mutated(one) for one in value for _ in range(self.chance.choice([0, 1, 1, 1, 2]))]
        return value

    def _value(self) -> Any:
        return self.chance.choice(_VALUES)


def framed(body: bytes, header: bytes = b"Content-Length: %d\r\n\r\n") -> bytes:
    """A message as it goes over the pipe."""
    return header % len(body) + body


def _encoded(message: Any) -> bytes:
    return json.dumps(message).encode()


class Fuzzed:
    """What became of the server."""

    def __init__(self) -> None:
        self.n_messages = 0
        self.replies: Counter[int | str] = Counter()
        self.longest_s = 0.0
        """The longest wait for the answer behind a batch, which a busy machine makes longer."""
        self.busiest_s = 0.0
        """The most processor time that the server took for a batch."""
        self.code: int | None = None
        self.log = ""

    def wrong(self, expected: list[int | str]) -> dict[int | str, int]:
        """The valid ids that were not answered exactly once, each with how often."""
        return {id: self.replies[id] for id in expected if self.replies[id] != 1}


def fuzz(n_messages: int, seed: int, more: bytes = b"") -> tuple[Fuzzed, list[int | str]]:
    """Run a server, send so many messages and `more`, and end it in order."""
    found, fuzzer = Fuzzed(), Fuzzer(seed)
    with tempfile.TemporaryDirectory(prefix="sp-fuzz-") as folder:
        names = ("CONFIG", "RUNTIME", "CACHE", "STATE", "MODELS")
        own = {f"SINGLEPASS_{name}_DIR": str(Path(folder) / name.lower()) for name in names}
        log = Path(folder) / "log"
        with log.open("wb") as stderr:
            server = subprocess.Popen(
                [sys.executable, "-P", "-m", "singlepass", "serve"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env={**os.environ, **own},
                cwd=folder,
            )
        process = psutil.Process(server.pid)
        assert server.stdin is not None
        assert server.stdout is not None
        answered: queue.Queue[int | str | None] = queue.Queue()

        def listen() -> None:
            for id in _replies(server.stdout.fileno() if server.stdout else -1):
                found.replies[id] += 1
                answered.put(id)
            answered.put(None)

        listener = threading.Thread(target=listen, daemon=True)
        listener.start()

        def send(data: bytes, id: int | str) -> None:
            """Send, and wait for the answer to this request."""
            assert server.stdin is not None
            started, before = time.monotonic(), _processor_s(process)
            server.stdin.write(data)
            server.stdin.flush()
            while (got := answered.get(timeout=_TIMEOUT_S)) != id:
                if got is None:
                    raise BrokenPipeError("the server has ended")
            if found.n_messages:  # starting up is no stall
                found.longest_s = max(found.longest_s, time.monotonic() - started)
                found.busiest_s = max(found.busiest_s, _processor_s(process) - before)

        try:
            options = {"prewarm": False, "target": {"backend": "scripted", "model": "/nowhere"}}
            params = {"processId": os.getpid(), "rootUri": None, "capabilities": {}}
            params["initializationOptions"] = options
            hello = {"jsonrpc": "2.0", "id": "hello", "method": "initialize", "params": params}
            send(framed(_encoded(hello)), "hello")
            while found.n_messages < n_messages:
                n = min(BATCH, n_messages - found.n_messages)
                batch = b"".join(fuzzer.message() for _ in range(n))
                found.n_messages += n
                id, probe = fuzzer.probe()
                send(batch + b"\r\n" * 200 + probe, id)
            if more:
                id, probe = fuzzer.probe()
                send(more + probe, id)
            send(framed(_encoded({"jsonrpc": "2.0", "id": "bye", "method": "shutdown"})), "bye")
            server.stdin.write(framed(_encoded({"jsonrpc": "2.0", "method": "exit"})))
            server.stdin.close()
            found.code = server.wait(_TIMEOUT_S)
            listener.join(10)
        except (BrokenPipeError, queue.Empty):
            server.kill()
            server.wait()
        finally:
            server.stdout.close()
        found.log = log.read_text(encoding="utf-8", errors="replace")
    return found, fuzzer.expected


def _processor_s(process: psutil.Process) -> float:
    spent = process.cpu_times()
    return spent.user + spent.system


def _replies(fd: int) -> Iterator[int | str]:
    """The ids of all answers that a server writes."""
    framing = Framing()
    while data := os.read(fd, 1 << 16):
        framing.feed(data)
        while (frame := framing.next_frame()) is not None:
            assert isinstance(frame, Body), "the server itself writes whole messages only"
            message = json.loads(frame.data)
            if "method" not in message and message["id"] is not None:
                yield message["id"]


def main() -> None:
    """Fuzz a server and say how it went."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("n", type=int, nargs="?", default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    found, expected = fuzz(arguments.n, arguments.seed)
    wrong = found.wrong(expected)
    print(
        f"{found.n_messages:,} messages, {len(expected):,} valid requests, {len(wrong)} of them not answered "
        f"exactly once, behind {BATCH} of them the longest wait was {found.longest_s:.2f} s, with "
        f"at most {found.busiest_s:.2f} s of the processor, exit code {found.code}"
    )
    if found.code != 0 or wrong:
        print(found.log[-4000:])
        sys.exit(1)


if __name__ == "__main__":
    main()
