"""A language client that does next to nothing, so that what is measured is the server."""

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from typing import Any


class Client:
    """One server process, spoken to over stdio. Close it with `stop`."""

    def __init__(self, command: Sequence[str]) -> None:
        self.command = command
        self.on_notification: Callable[[str, Any], None] = lambda method, params: None
        self.on_request: Callable[[str, Any], Any] = lambda method, params: None
        self._n_requests = 0
        self._waiting: dict[int, asyncio.Future[tuple[Any, float]]] = {}

    async def start(self) -> None:
        """Start the process and listen to it."""
        self.started = time.perf_counter()
        self._process = await asyncio.create_subprocess_exec(
            *self.command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        self._reading = asyncio.ensure_future(self._read())

    async def request(self, method: str, params: Any) -> tuple[Any, float]:
        """The result, and the seconds from sending the request to reading its answer."""
        self._n_requests += 1
        number = self._n_requests
        answer = self._waiting[number] = asyncio.get_running_loop().create_future()
        sent = time.perf_counter()
        self._send({"id": number, "method": method, "params": params})
        result, received = await answer
        return result, received - sent

    def notify(self, method: str, params: Any) -> None:
        """Send a notification."""
        self._send({"method": method, "params": params})

    async def stop(self) -> None:
        """Shut the server down as an editor does."""
        await self.request("shutdown", None)
        self.notify("exit", None)
        await self._process.wait()
        await self._reading

    def _send(self, message: dict[str, Any]) -> None:
        body = json.dumps({"jsonrpc": "2.0", **message}).encode()
        assert self._process.stdin is not None
        self._process.stdin.write(b"Content-Length: %d\r\n\r\n%b" % (len(body), body))

    async def _read(self) -> None:
        stream = self._process.stdout
        assert stream is not None
        while header := await stream.readline():
            while (line := await stream.readline()).strip():
                header += line
            length = next(int(line.split(b":")[1]) for line in header.splitlines() if b"Length" in line)
            body = await stream.readexactly(length)
            received = time.perf_counter()
            message = json.loads(body)
            if "method" not in message:
                answer = self._waiting.pop(message["id"])
                if "error" in message:
                    answer.set_exception(RuntimeError(message["error"]["message"]))
                else:
                    answer.set_result((message["result"], received))
            elif "id" in message:
                result = self.on_request(message["method"], message.get("params"))
                self._send({"id": message["id"], "result": result})
            else:
                self.on_notification(message["method"], message.get("params"))
