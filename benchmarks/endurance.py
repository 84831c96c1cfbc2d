"""What happens to the processes in a long day, many times over: killed, cancelled, crowded, not read, used.

    python benchmarks/endurance.py kills 200       SIGKILLs of the server or the engine at random moments
    python benchmarks/endurance.py cancels 1000    cancels at random moments, by an editor and on the wire
    python benchmarks/endurance.py crowd 64        requests of an editor while so many jobs wait
    python benchmarks/endurance.py unread 60       an editor that reads nothing for so many seconds
    python benchmarks/endurance.py soak 10000      requests: memory, descriptors, threads and tasks

The server and the engine are the real processes; the model is a small one of random weights. Each run prints
one line and ends with code 1 where something was not as promised. `--minutes` ends a run early, and it says
how far it came.
"""

import argparse
import asyncio
import contextlib
import fcntl
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
from lsprotocol import types as lsp
from own import (
    SLOW,
    SOURCE,
    eventually,
    is_engine,
    own_folders,
    processes,
    small_model,
    stop_engines,
)
from singlepass.cli.headless import HeadlessEditor, OpenFile, ServerGone
from singlepass.lsp.framing import Body, Framing
from singlepass.stats.statistics import percentile
from singlepass_backends import __version__
from singlepass_backends.base import Finished, GenerateRequest, PrefillProgress, Segment, Target, TextChunk
from singlepass_backends.client import EngineClient, EnginePaths, engine_paths
from singlepass_backends.runtime_dir import absolute
from singlepass_backends.wire import (
    PROTOCOL,
    Cancel,
    Decoder,
    EngineMessage,
    Generate,
    Hello,
    Loaded,
    Progress,
    encode,
)

LINES = {"start": {"line": 0, "character": 0}, "end": {"line": 99, "character": 0}}
MOST_S = 0.6
"""Cancels come at most so long after what they cancel."""
_TIMEOUT_S = 300.0


class Clock:
    """When a run ends early."""

    def __init__(self) -> None:
        self.end = float("inf")

    @property
    def is_over(self) -> bool:
        return time.monotonic() > self.end


clock = Clock()


def _options(model: Path, **more: Any) -> dict[str, Any]:
    return {"target": {"model": str(model)}, "prewarm": False, "temperature": 1.0, "max_tokens": 100, **more}


def _workspace(folder: Path, n_files: int = 1) -> list[Path]:
    paths = [folder / "workspace" / f"values_{n}.py" for n in range(n_files)]
    paths[0].parent.mkdir(exist_ok=True)
    for path in paths:
        path.write_text(SOURCE)
    return paths


async def _start(editor: HeadlessEditor, file: OpenFile, seed: int, **more: Any) -> int:
    arguments = {"uri": file.uri, "range": LINES, "instruction": f"Number {seed}.", **more}
    return (await editor.command("singlepass.edit", arguments))["job"]


# Killed.


class Kills:
    """What came of killing processes."""

    def __init__(self) -> None:
        self.moments: Counter[str] = Counter()
        """Kills by process and by what it did."""
        self.wrong: list[str] = []

    @property
    def n(self) -> int:
        return sum(self.moments.values())


async def kills(n: int, model: Path, seed: int = 1) -> Kills:
    """Kill the server or the engine at a random moment between the start of a server and the end of a job,
    `n` times; half of the times the engine is to be started, too."""
    chance, found = random.Random(seed), Kills()
    with own_folders() as folder:
        (path,) = _workspace(folder)
        target = absolute(Target(model=str(model)))
        paths = engine_paths(target)
        started = time.monotonic()
        await _whole_session(folder, path, model, -1)
        span = time.monotonic() - started
        for number in range(n):
            if clock.is_over:
                break
            if chance.random() < 0.5:
                await stop_engines()
            victim = chance.choice(("server", "engine"))
            try:
                await _killed_session(folder, path, model, number, victim, chance.uniform(0, span), found)
            except (AssertionError, TimeoutError) as error:
                found.wrong.append(f"kill {number} of the {victim}: {error!r}")
            await _look_around(folder, paths, f"after kill {number} of the {victim}", found)
        await stop_engines()
        if not await eventually(lambda: not processes(folder)):
            found.wrong.append(f"at the end there are still {processes(folder)}")
        if paths.socket.exists():
            found.wrong.append("at the end there is still a socket")
    return found


async def _whole_session(folder: Path, path: Path, model: Path, number: int) -> None:
    """A session in which nothing is killed, and all works."""
    async with asyncio.timeout(_TIMEOUT_S), HeadlessEditor(folder / "workspace", _options(model)) as editor:
        file = editor.open(path)
        _check_works(await editor.finish(await _start(editor, file, number)))


def _check_works(timings: dict[str, Any]) -> None:
    assert timings["outcome"] == "done", timings
    assert timings["timings"]["n_decoded"] > 0, timings


async def _killed_session(
    folder: Path, path: Path, model: Path, number: int, victim: str, delay: float, found: Kills
) -> None:
    editor = HeadlessEditor(folder / "workspace", _options(model))
    first: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
    is_over = asyncio.Event()

    async def work() -> None:
        async with editor:
            first.set_result(await editor.finish(await _start(editor, editor.open(path), number)))
            await is_over.wait()

    working = asyncio.ensure_future(work())
    await asyncio.wait({working, first}, timeout=delay, return_when=asyncio.FIRST_COMPLETED)
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            states = [one["state"] for one in editor.statuses]
            moment = "after the job" if first.done() else states[-1] if states else "before the job"
            if victim == "server":
                found.moments[f"server, {moment}"] += 1
                await _kill_server(editor)
                is_over.set()
                await asyncio.wait({working})
                await _whole_session(folder, path, model, number)
            else:
                # One that does not run yet is killed as soon as it does.
                await eventually(lambda: first.done() or any(map(is_engine, processes(folder))))
                for process in filter(is_engine, processes(folder)):
                    process.kill()
                    found.moments[f"engine, {moment}"] += 1
                timings = await first
                error = timings["error"] or {}
                is_told = error.get("code") in ("engine_lost", "engine_start_failed")
                assert timings["outcome"] == "done" or is_told, timings
                file = next(iter(editor.files.values()))
                _check_works(await editor.finish(await _start(editor, file, number)))
    finally:
        is_over.set()
        _, running = await asyncio.wait({working}, timeout=30)
        if running:
            working.cancel()
            await asyncio.wait({working})
        if not working.cancelled() and not isinstance(working.exception(), ServerGone | type(None)):
            found.wrong.append(f"kill {number} of the {victim}: {working.exception()!r}")


async def _kill_server(editor: HeadlessEditor) -> None:
    await eventually(lambda: editor.client._server is not None)
    server = editor.client._server
    assert server is not None
    server.kill()
    await server.wait()


async def _look_around(folder: Path, paths: EnginePaths, when: str, found: Kills) -> None:
    """One engine may run, nothing else; and nobody holds the lock for starting one."""

    def others() -> list[psutil.Process]:
        return [process for process in processes(folder) if not is_engine(process)]

    if not await eventually(lambda: not others()):
        found.wrong.append(f"{when} there are still {others()}")
    n_engines = sum(map(is_engine, processes(folder)))
    if n_engines != 1:
        found.wrong.append(f"{when} {n_engines} engines run")
    if not _is_free(paths.spawn_lock):
        found.wrong.append(f"{when} {paths.spawn_lock} is held")


def _is_free(path: Path) -> bool:
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


# Cancelled.


class Cancels:
    """What came of cancelling jobs, and requests on the wire."""

    def __init__(self) -> None:
        self.moments: Counter[str] = Counter()
        """Cancels by what the job did."""
        self.ended: Counter[str] = Counter()
        """Jobs by their outcome."""
        self.answered_ms: list[float] = []
        self.n_edits_after = 0
        """Edits that came after the answer to the cancel."""
        self.tokens_after: list[int] = []
        """On the wire: tokens that were computed beyond those which the client knew of when it cancelled."""
        self.chunk = 0
        """The most tokens of a forward pass."""
        self.n_not_stopped = 0
        self.wrong: list[str] = []


async def cancels(n: int, model: Path, seed: int = 1) -> Cancels:
    """Cancel `n` jobs at random moments, and then `n` requests to the engine."""
    chance, found = random.Random(seed), Cancels()
    with own_folders() as folder:
        (path,) = _workspace(folder)
        # Long replies: what ends early was stopped.
        async with Noting(folder / "workspace", _options(model, max_tokens=2000)) as editor:
            file = editor.open(path)
            await editor.finish(await _start(editor, file, -1))
            started = time.monotonic()
            await editor.finish(await _start(editor, file, -2))
            span = min(MOST_S, time.monotonic() - started)
            for number in range(n):
                if clock.is_over:
                    break
                if number % 50 == 0:  # or the file grows without end
                    editor.close(file)
                    file = editor.open(path)
                await _cancelled_job(editor, file, number, chance.uniform(0, span), found)
            _check_works(await editor.finish(await _start(editor, file, n)))
        await _cancels_on_the_wire(n, model, chance, found)
        await stop_engines()
    return found


class Noting(HeadlessEditor):
    """Counts the edits it is sent."""

    n_edits = 0

    def apply_edit(self, params: lsp.ApplyWorkspaceEditParams) -> lsp.ApplyWorkspaceEditResult:
        self.n_edits += 1
        return super().apply_edit(params)


async def _cancelled_job(editor: Noting, file: OpenFile, number: int, delay: float, found: Cancels) -> None:
    async with asyncio.timeout(_TIMEOUT_S):
        job = await _start(editor, file, number)
        await asyncio.sleep(delay)
        found.moments[editor.statuses[-1]["state"]] += 1
        sent = time.monotonic()
        await editor.command("singlepass.cancel", job)
        found.answered_ms.append((time.monotonic() - sent) * 1e3)
        n_edits = editor.n_edits
        timings = await editor.finish(job)
        found.ended[timings["outcome"]] += 1
        if timings["outcome"] not in ("cancelled", "done"):
            found.wrong.append(f"job {number}: {timings}")
        if number % 10 == 0:
            await asyncio.sleep(0.1)  # for what might come late
        found.n_edits_after += editor.n_edits - n_edits


async def _cancels_on_the_wire(n: int, model: Path, chance: random.Random, found: Cancels) -> None:
    """Ask the engine itself, and count what it computed."""
    target = absolute(Target(model=str(model)))
    client = EngineClient(target)
    await client.connect()
    reader, writer = await asyncio.open_unix_connection(str(engine_paths(target).socket))
    decoder: Decoder[EngineMessage] = Decoder(EngineMessage)
    writer.write(encode(Hello(PROTOCOL, __version__)))
    found.chunk = target.n_batch
    known, ended = 0, asyncio.Event()
    last: Finished | None = None

    async def listen() -> None:
        nonlocal known, last
        while data := await reader.read(1 << 16):
            for message in decoder.feed(data):
                if isinstance(message, Loaded):
                    ended.set()
                elif isinstance(message, Progress):
                    match message.event:
                        case PrefillProgress(n_cached=n_cached, n_done=n_done):
                            known = n_done - n_cached
                            n_prefilled = known
                        case TextChunk(n_decoded=n_decoded):
                            known = n_prefilled + n_decoded
                        case Finished():
                            last = message.event
                            ended.set()

    listening = asyncio.ensure_future(listen())
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            await ended.wait()
        span = 0.0
        for number in range(len(found.answered_ms) + 1):  # as many as of the jobs
            ended.clear()
            known = 0
            segments = (Segment("number", f"{number}\n"), Segment("file", SOURCE * 3))
            started = time.monotonic()
            writer.write(encode(Generate(number + 1, GenerateRequest(segments, None, 400))))
            seen = 0
            if number:
                await asyncio.sleep(chance.uniform(0, span))
                seen = known
                writer.write(encode(Cancel(number + 1)))
            async with asyncio.timeout(_TIMEOUT_S):
                await ended.wait()
            span = span or min(MOST_S, time.monotonic() - started)
            assert last is not None
            if number and last.finish_reason == "cancelled":
                timings = last.timings
                found.tokens_after.append(timings.n_prefilled + timings.n_decoded - seen)
            elif number:
                found.n_not_stopped += 1  # it had ended by itself
    finally:
        listening.cancel()
        writer.close()
        await client.aclose()


# Crowded.


class Crowd:
    """How an editor is answered while many jobs wait."""

    def __init__(self) -> None:
        self.waits_ms: list[float] = []
        self.most_waiting = 0
        self.ended: Counter[str] = Counter()
        self.wrong: list[str] = []


async def crowd(n_jobs: int, model: Path) -> Crowd:
    """Start so many jobs at once, each on a document of its own, and ask for other things until all have
    ended."""
    found = Crowd()
    with own_folders() as folder:
        paths = _workspace(folder, n_jobs + 1)
        async with HeadlessEditor(folder / "workspace", _options(model, max_tokens=400)) as editor:
            extra, *files = [editor.open(path) for path in paths]
            await editor.finish(await _start(editor, extra, 0))
            jobs = await asyncio.gather(*(_start(editor, file, n) for n, file in enumerate(files)))
            place = lsp.Range(lsp.Position(1, 0), lsp.Position(1, 4))
            while len(editor.timings) <= n_jobs:
                found.most_waiting = max(found.most_waiting, n_jobs + 1 - len(editor.timings))
                for ask in (editor.actions(extra, place), editor.lenses(extra)):
                    started = time.monotonic()
                    await ask
                    found.waits_ms.append((time.monotonic() - started) * 1e3)
                await asyncio.sleep(0.02)
            for job in jobs:
                timings = await editor.finish(job)
                found.ended[timings["outcome"]] += 1
                if timings["outcome"] != "done":
                    found.wrong.append(str(timings))
        await stop_engines()
    return found


# Not read.


class Unread:
    """What became of a server whose editor did not read for a while."""

    def __init__(self) -> None:
        self.n_requests = 0
        self.n_unread = 0
        """Of these, those asked while nothing was read."""
        self.stopped = False
        """Whether the pipe was full, so that the server had to wait."""
        self.answers: Counter[int] = Counter()
        self.outcome = ""
        self.code: int | None = None
        self.wrong: list[str] = []


async def unread(seconds: float, model: Path, n_requests: int = 2000) -> Unread:
    """An editor with a running job asks `n_requests` times, and reads nothing for so many seconds. Then it
    reads on, and asks for another edit."""
    with own_folders() as folder:
        (path,) = _workspace(folder)
        found = await asyncio.to_thread(_unread, seconds, model, n_requests, folder, path)
        await stop_engines()
    return found


def _unread(seconds: float, model: Path, n_requests: int, folder: Path, path: Path) -> Unread:
    found = Unread()
    uri = path.as_uri()
    server = _RawEditor(folder, path.read_text())
    options = {**_options(model, max_tokens=400), "timings": False}
    folders = [{"uri": path.parent.as_uri(), "name": "workspace"}]
    capabilities = {"workspace": {"applyEdit": True, "workspaceEdit": {"documentChanges": True}}}
    hello = {"processId": None, "capabilities": capabilities, "initializationOptions": options}
    server.request("initialize", {**hello, "rootUri": None, "workspaceFolders": folders})
    server.notify("initialized", {})
    item = {"uri": uri, "languageId": "python", "version": 1, "text": server.text}
    server.notify("textDocument/didOpen", {"textDocument": item})

    def edit(number: int) -> int:
        arguments = {"uri": uri, "range": LINES, "instruction": f"Number {number}."}
        return server.request(
            "workspace/executeCommand", {"command": "singlepass.edit", "arguments": [arguments]}
        )

    try:
        edit(0)
        server.read_until(lambda: len(server.ended) == 1)
        edit(1)
        place = {"textDocument": {"uri": uri}, "range": LINES, "context": {"diagnostics": []}}
        asked = [server.request("textDocument/codeAction", place) for _ in range(n_requests)]
        deadline = time.monotonic() + seconds
        before = -1
        while time.monotonic() < deadline:
            time.sleep(min(0.5, seconds))
            # The writer, in a thread of its own, gets no further when the server waits.
            found.stopped = server.n_unsent > 0 and server.n_unsent == before
            before = server.n_unsent
        found.n_unread = len(asked)
        server.read_until(lambda: all(server.answers[id] for id in asked) and len(server.ended) == 2)
        edit(2)
        server.read_until(lambda: len(server.ended) == 3)
        found.outcome = server.ended[-1]
        bye = server.request("shutdown", None)
        server.read_until(lambda: bool(server.answers[bye]))
        server.notify("exit", None)
        found.code = server.wait()
    except (AssertionError, EOFError, TimeoutError) as error:
        found.wrong.append(repr(error))
    finally:
        server.close()
    found.answers = server.answers
    found.n_requests = server.n_requests
    found.wrong += [f"request {id} had {n} answers" for id, n in server.answers.items() if n != 1]
    if len(server.answers) != server.n_requests:
        found.wrong.append(f"{server.n_requests - len(server.answers)} requests had no answer")
    if not found.wrong and (found.outcome, found.code) != ("done", 0):
        found.wrong.append(f"the last job: {found.outcome}, exit code {found.code}")
    return found


class _RawEditor:
    """An editor that reads only when told to. It takes each edit and tells of it, as a whole text."""

    def __init__(self, folder: Path, text: str) -> None:
        self.text = text
        self.version = 1
        self.n_requests = 0
        self.answers: Counter[int] = Counter()
        self.ended: list[str] = []
        """Outcomes of jobs."""
        self._framing = Framing()
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "singlepass", "serve"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=folder,
        )
        self._unsent: list[bytes] = []
        self._more = threading.Condition()
        self._is_closed = False
        self._writer = threading.Thread(target=self._write, daemon=True)
        self._writer.start()

    @property
    def n_unsent(self) -> int:
        return len(self._unsent)

    def request(self, method: str, params: Any) -> int:
        self.n_requests += 1
        self._send({"id": self.n_requests, "method": method, "params": params})
        return self.n_requests

    def notify(self, method: str, params: Any) -> None:
        self._send({"method": method, **({} if params is None else {"params": params})})

    def read_until(self, condition: Callable[[], bool]) -> None:
        """Read, and answer, until something is so. Raises EOFError, TimeoutError."""
        assert self._process.stdout is not None
        deadline = time.monotonic() + _TIMEOUT_S
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError("the server does not answer any more")
            data = os.read(self._process.stdout.fileno(), 1 << 16)
            if not data:
                raise EOFError("the server has ended")
            self._framing.feed(data)
            while (frame := self._framing.next_frame()) is not None:
                assert isinstance(frame, Body)
                self._take(json.loads(frame.data))

    def wait(self) -> int:
        return self._process.wait(_TIMEOUT_S)

    def close(self) -> None:
        with self._more:
            self._is_closed = True
            self._more.notify()
        self._process.kill()
        self._process.wait()
        self._writer.join(10)
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with contextlib.suppress(OSError):
                pipe.close()

    def _take(self, message: dict[str, Any]) -> None:
        method = message.get("method")
        if method is None:
            self.answers[message["id"]] += 1
        elif method == "workspace/applyEdit":
            self._apply(message["params"]["edit"])
            self._send({"id": message["id"], "result": {"applied": True}})
        elif "id" in message:
            self._send({"id": message["id"], "result": None})
        elif method == "singlepass/status" and message["params"]["state"] in ("done", "failed", "cancelled"):
            self.ended.append(message["params"]["state"])

    def _apply(self, edit: dict[str, Any]) -> None:
        (change,) = edit["documentChanges"]
        assert change["textDocument"]["version"] == self.version
        lines = self.text.splitlines(keepends=True)
        starts = [0]
        for line in lines:
            starts.append(starts[-1] + len(line))

        def offset(position: dict[str, int]) -> int:
            return min(starts[min(position["line"], len(lines))] + position["character"], len(self.text))

        spans = [(offset(one["range"]["start"]), offset(one["range"]["end"]), one) for one in change["edits"]]
        for start, end, one in sorted(spans, key=lambda span: span[:2], reverse=True):
            self.text = self.text[:start] + one["newText"] + self.text[end:]
        self.version += 1
        document = {"uri": change["textDocument"]["uri"], "version": self.version}
        changes = [{"text": self.text}]
        self.notify("textDocument/didChange", {"textDocument": document, "contentChanges": changes})

    def _send(self, message: dict[str, Any]) -> None:
        body = json.dumps({"jsonrpc": "2.0", **message}).encode()
        with self._more:
            self._unsent.append(b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
            self._more.notify()

    def _write(self) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(OSError, ValueError):
            while True:
                with self._more:
                    while not self._unsent and not self._is_closed:
                        self._more.wait()
                    if self._is_closed:
                        return
                self._process.stdin.write(self._unsent[0])
                self._process.stdin.flush()
                with self._more:
                    del self._unsent[0]


# Used.

_TELL_TASKS = """
import signal


def tell(*_):
    import asyncio, gc, os
    from pathlib import Path

    try:
        n_tasks = len(asyncio.all_tasks())
    except RuntimeError:
        n_tasks = -1
    path = Path(os.environ["SINGLEPASS_TOLD_DIR"]) / str(os.getpid())
    path.with_suffix(".new").write_text(str(n_tasks))
    path.with_suffix(".new").replace(path)


signal.signal(signal.SIGUSR1, tell)
"""
"""Runs in each Python process of the soak: told to, it writes down how many asyncio tasks it has."""


class Used:
    """One look at a process."""

    def __init__(self, rss: int, n_fds: int, n_threads: int, n_tasks: int) -> None:
        self.rss, self.n_fds, self.n_threads, self.n_tasks = rss, n_fds, n_threads, n_tasks

    def __str__(self) -> str:
        return (
            f"{self.rss / 1e6:.1f} MB, {self.n_fds} descriptors, {self.n_threads} threads, "
            f"{self.n_tasks} tasks"
        )


class Soak:
    """The server and the engine at each look, the first after warming up."""

    def __init__(self) -> None:
        self.looks: dict[str, list[Used]] = {"server": [], "engine": []}
        self.n_jobs = 0
        self.ended: Counter[str] = Counter()


async def soak(n: int, model: Path, n_warm: int, n_looks: int = 2) -> Soak:
    """`n` requests after `n_warm`, every fourth of them a job, some of these cancelled."""
    found = Soak()
    with own_folders() as folder:
        paths = _workspace(folder, 3)
        told = folder / "told"
        told.mkdir()
        (told / "sitecustomize.py").write_text(_TELL_TASKS)
        before = os.environ.get("PYTHONPATH")
        os.environ["SINGLEPASS_TOLD_DIR"] = str(told)
        os.environ["PYTHONPATH"] = os.pathsep.join([str(told), *([before] if before else [])])
        try:
            async with HeadlessEditor(folder / "workspace", _options(model, max_tokens=40)) as editor:
                await _use(editor, paths, n_warm, found)
                await _look(editor, folder, told, found)
                for _ in range(n_looks):
                    await _use(editor, paths, n // n_looks, found)
                    await _look(editor, folder, told, found)
        finally:
            del os.environ["SINGLEPASS_TOLD_DIR"]
            if before is None:
                del os.environ["PYTHONPATH"]
            else:
                os.environ["PYTHONPATH"] = before
        await stop_engines()
    return found


async def _use(editor: HeadlessEditor, paths: list[Path], n: int, found: Soak) -> None:
    """So many requests: actions, lenses, edits, cancels, documents that are opened and closed."""
    place = lsp.Range(lsp.Position(1, 0), lsp.Position(1, 4))
    for number in range(0, n, 4):
        if clock.is_over:
            break
        path = paths[number // 4 % len(paths)]
        file = editor.open(path)
        await editor.actions(file, place)
        await editor.lenses(file)
        job = await _start(editor, file, number)
        if number % 20 == 0:
            await editor.command("singlepass.cancel", job)
        else:
            await editor.command("singlepass.context", file.uri)
        found.ended[(await editor.finish(job))["outcome"]] += 1
        found.n_jobs += 1
        editor.close(file)
        editor.statuses.clear()
        editor.timings.clear()
        editor.messages.clear()


async def _look(editor: HeadlessEditor, folder: Path, told: Path, found: Soak) -> None:
    await asyncio.sleep(1.0)  # what a job leaves behind it ends
    server = editor._server()
    engines = [process for process in processes(folder) if is_engine(process)]
    assert len(engines) == 1
    for name, pid in (("server", server.pid), ("engine", engines[0].pid)):
        file = told / str(pid)
        file.unlink(missing_ok=True)
        os.kill(pid, signal.SIGUSR1)
        assert await eventually(file.exists)
        process = psutil.Process(pid)
        memory, n_fds = process.memory_info().rss, process.num_fds()
        found.looks[name].append(Used(memory, n_fds, process.num_threads(), int(file.read_text())))


# From the command line.


def _print_kills(found: Kills) -> list[str]:
    moments = ", ".join(f"{what} {n}" for what, n in sorted(found.moments.items()))
    print(f"{found.n} processes killed ({moments}): {len(found.wrong)} times something was wrong afterwards")
    return found.wrong


def _print_cancels(found: Cancels) -> list[str]:
    moments = ", ".join(f"{what} {n}" for what, n in sorted(found.moments.items()))
    ended = ", ".join(f"{n} {what}" for what, n in sorted(found.ended.items()))
    after = found.tokens_after or [0]
    print(
        f"{sum(found.moments.values())} jobs cancelled ({moments}), all acknowledged, "
        f"{_within(found.answered_ms)}; {ended}; {found.n_edits_after} edits after that. "
        f"On the wire {len(found.tokens_after)} requests cancelled "
        f"({found.n_not_stopped} more had ended): tokens computed after the last that the client knew of: "
        f"median {percentile(after, 0.5):.0f}, 99th percentile {percentile(after, 0.99):.0f}, most "
        f"{max(after)}; a chunk has up to {found.chunk}"
    )
    wrong = found.wrong + [f"{found.n_edits_after} edits after a cancel"] * bool(found.n_edits_after)
    return wrong + ["more than a chunk after a cancel"] * (max(after) > found.chunk)


def _within(waits_ms: list[float]) -> str:
    median, tail, longest = (percentile(waits_ms or [0.0], share) for share in (0.5, 0.99, 1.0))
    return f"half of them within {median:.1f} ms, 99% within {tail:.1f} ms, all within {longest:.1f} ms"


def _print_crowd(found: Crowd) -> list[str]:
    ended = ", ".join(f"{n} {what}" for what, n in sorted(found.ended.items()))
    print(
        f"{found.most_waiting} jobs in flight ({ended}), {len(found.waits_ms)} other requests answered, "
        f"{_within(found.waits_ms)}"
    )
    return found.wrong


def _print_unread(found: Unread) -> list[str]:
    waited = "the server had to wait" if found.stopped else "the pipe took it all"
    print(
        f"{found.n_unread} requests beside a job while nothing was read ({waited}); then "
        f"{len(found.answers)} of {found.n_requests} requests answered once, the next edit {found.outcome}, "
        f"exit code {found.code}"
    )
    return found.wrong


def _print_soak(found: Soak) -> list[str]:
    ended = ", ".join(f"{n} {what}" for what, n in sorted(found.ended.items()))
    print(f"{found.n_jobs} jobs ({ended})")
    for name, looks in found.looks.items():
        grown = (looks[-1].rss - looks[0].rss) / 1e6
        print(f"{name}: {'; '.join(map(str, looks))}; it grew by {grown:.1f} MB")
    return grown_too_much(found)


def grown_too_much(found: Soak) -> list[str]:
    """What there is more of at the last look than at the first."""
    wrong: list[str] = []
    for name, looks in found.looks.items():
        first, last = looks[0], looks[-1]
        if last.n_fds > first.n_fds or last.n_tasks > first.n_tasks or last.rss - first.rss > 20e6:
            wrong.append(f"the {name} grew: {first} became {last}")
    return wrong


async def _run(what: str, n: int, folder: Path) -> list[str]:
    model = small_model(folder / "model.gguf", SLOW if what == "cancels" else None)
    match what:
        case "kills":
            return _print_kills(await kills(n, model))
        case "cancels":
            return _print_cancels(await cancels(n, model))
        case "crowd":
            return _print_crowd(await crowd(n, model))
        case "unread":
            return _print_unread(await unread(n, model))
        case _:
            return _print_soak(await soak(n, model, n_warm=max(100, n // 10)))


def main() -> None:
    """Run one of them and say how it went."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["kills", "cancels", "crowd", "unread", "soak"])
    parser.add_argument("n", type=int, nargs="?")
    parser.add_argument("--minutes", type=float, default=float("inf"))
    arguments = parser.parse_args()
    clock.end = time.monotonic() + 60 * arguments.minutes
    usual = {"kills": 200, "cancels": 1000, "crowd": 64, "unread": 60, "soak": 10_000}
    with tempfile.TemporaryDirectory(prefix="sp-model-") as folder:
        wrong = asyncio.run(_run(arguments.what, arguments.n or usual[arguments.what], Path(folder)))
    for one in wrong[:20]:
        print(one)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
