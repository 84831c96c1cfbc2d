"""The indexer: a separate process that walks the folders, outlines their files, and answers requests about
them.

`python -m singlepass.repository.indexer` reads requests from stdin and writes replies to stdout, one JSON
value per line. It runs at low priority and ends with its server (`Watch`). All outlines stay in this process:
the server gets only the text of a map and the names of a few files, so the size of a repository does not
affect the server.

During a scan, requests are checked after each file: neighbours are answered from what is known so far; other
requests wait for the end of the scan.
"""

import contextlib
import faulthandler
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec

from singlepass.files.regular_file import read_regular
from singlepass.files.source_files import is_generated, list_files
from singlepass.repository.map import drifted
from singlepass.repository.neighbours import Graph, neighbours
from singlepass.repository.outline import Outline
from singlepass.repository.parsing import MAX_BYTES, language_of, outline
from singlepass.repository.wire import (
    AskMap,
    AskNear,
    Changed,
    Folder,
    MapBuilt,
    Near,
    Reply,
    Request,
    Scan,
    Scanned,
)

MAX_FILES = 100_000
"""Maximum number of source files; further ones are not indexed."""
STEP_S = 300.0
"""Maximum time for one file or one answer, in seconds: more than a hundred times the slowest observed."""

_PR_SET_PDEATHSIG = 1  # Linux, prctl(2)


class _File(msgspec.Struct):
    path: str
    mtime_ns: int
    size: int
    outline: Outline | None


class Index:
    """The outlines of the files in some folders, kept up to date with the disk."""

    def __init__(self, step: Callable[[], object] = lambda: None) -> None:
        """`step` is called before each file."""
        self._step = step
        self.folders: tuple[Folder, ...] = ()
        self.ignore: tuple[str, ...] = ()
        self.files: dict[str, _File] = {}
        """The files by path in the prompt."""
        self.outlines: dict[str, Outline] = {}
        self.graph = Graph(())
        self.n_outlined = 0
        self.listed = True
        """False while a scan is walking the folders and the list of files is incomplete."""
        self.problems: list[str] = []
        """Problems with ignore files in the last scan."""
        self._names: dict[str, str] = {}
        """Paths in the prompt by absolute path."""

    def scan(self, folders: tuple[Folder, ...], ignore: tuple[str, ...]) -> Iterator[None]:
        """Update everything; a generator that yields after each file."""
        self.folders, self.ignore = folders, ignore
        self.n_outlined = 0
        self.listed = False
        self.problems = []
        found: dict[str, _File] = {}
        for name, path, status in self._list():
            old = self.files.get(name)
            same = old is not None and (old.mtime_ns, old.size) == (status.st_mtime_ns, status.st_size)
            found[name] = old if old and same else _File(path, -1, -1, None)
            if len(found) >= MAX_FILES:
                break
            yield
        self.files = found
        self._names = {file.path: name for name, file in found.items()}
        self.outlines = {name: file.outline for name, file in found.items() if file.outline}
        self.graph = Graph(found, self.outlines)
        self.listed = True
        yield
        for name, file in found.items():
            if file.mtime_ns == -1:
                self._read_new(name)
                yield

    def change(self, paths: tuple[str, ...]) -> None:
        """Update some files."""
        # For new files a walk is needed to know if they are ignored; it takes a second for 20,000 files.
        if any(
            Path(path).name == ".gitignore"
            or (language_of(path) is not None and (path in self._names) != Path(path).is_file())
            for path in paths
        ):
            for _ in self.scan(self.folders, self.ignore):
                pass
        for path in paths:
            name = self._names.get(path)
            if name is not None and (file := self.files.get(name)) is not None:
                self._read(name, file)

    def near(self, path: str, limit: int) -> tuple[str, ...]:
        """Absolute paths of a file's neighbours, the nearest first."""
        name = self._names.get(path)
        if name is None:
            return ()
        self._read_new(name)
        for other in (*self.graph.imports.get(name, ()), *self.graph.counterparts(name)):
            self._read_new(other)
        return tuple(self.files[one].path for one in neighbours(name, self.outlines, self.graph, limit))

    def _list(self) -> Iterator[tuple[str, str, os.stat_result]]:
        roots = [Path(folder.path) for folder in self.folders]
        for folder, root in zip(self.folders, roots, strict=True):
            inner = [other for other in roots if other != root and other.is_relative_to(root)]
            for relative, status in list_files(root, self.ignore, self.problems.append):
                self._step()
                path = f"{folder.path.rstrip('/')}/{relative}"
                if language_of(relative) is None or status.st_size > MAX_BYTES:
                    continue
                if inner and any(Path(path).is_relative_to(other) for other in inner):
                    continue  # it is listed in the folder inside
                yield folder.prefix + relative, path, status

    def _read_new(self, name: str) -> None:
        file = self.files[name]
        if file.mtime_ns == -1:
            self._read(name, file)

    def _read(self, name: str, file: _File) -> None:
        """Outline one file. Unreadable and generated files have no outline."""
        self._step()
        try:
            status = os.stat(file.path)  # noqa: PTH116
            # Before reading, so that a file that changes in the meantime is read again.
            file.mtime_ns, file.size = status.st_mtime_ns, status.st_size
            data = read_regular(file.path, MAX_BYTES)
        except (OSError, ValueError):
            file.mtime_ns = file.size = 0
            data = b""
        found = None if is_generated(data) else outline(name, data)
        if found is not None:
            # Intern names, so that equal ones in thousands of files share memory.
            found = msgspec.structs.replace(found, references=tuple(map(sys.intern, found.references)))
        file.outline = found
        self.n_outlined += 1
        if found is None:
            self.outlines.pop(name, None)
        else:
            self.outlines[name] = found
        self.graph.update(name, found or _NOTHING)


_NOTHING = Outline("")


class Indexer:
    """Requests in, replies out."""

    def __init__(
        self,
        requests: "queue.SimpleQueue[Request]",
        out: int,
        step: Callable[[bool], object] = lambda _: None,
    ) -> None:
        """`step` is called with True when a piece of work begins, and with False when there is none left."""
        self.requests = requests
        self.index = Index(lambda: step(True))
        self._step = step
        self._out = out
        self._waiting: list[Request] = []

    def run(self) -> None:
        """Answer until the process ends."""
        while True:
            request = self._waiting.pop(0) if self._waiting else self.requests.get()
            self._step(True)
            self._answer(request)
            self._step(False)

    def _answer(self, request: Request) -> None:
        started = time.perf_counter()
        match request:
            case Scan():
                for _ in self.index.scan(request.folders, request.ignore):
                    if self.index.listed:
                        self._meanwhile()
                n_files, n_outlined = len(self.index.files), self.index.n_outlined
                problem = _first_of(self.index.problems)
                self._send(Scanned(n_files, n_outlined, _ms_since(started), problem))
            case Changed():
                self.index.change(request.paths)
            case AskMap():
                index = self.index
                text = drifted(request.old, index.outlines, request.budget, index.graph.imports)
                if text is not None and request.keep:
                    _keep(Path(request.keep), text)
                self._send(MapBuilt(text, _ms_since(started), request.keep))
            case AskNear():
                self._near(request, complete=True)

    def _meanwhile(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                request = self.requests.get_nowait()
                if isinstance(request, AskNear):
                    self._near(request, complete=False)
                else:
                    self._waiting.append(request)

    def _near(self, request: AskNear, *, complete: bool) -> None:
        self._send(Near(request.path, self.index.near(request.path, request.limit), complete))

    def _send(self, reply: Reply) -> None:
        data = msgspec.json.encode(reply) + b"\n"
        while data:
            data = data[os.write(self._out, data) :]


def _ms_since(started: float) -> float:
    return (time.perf_counter() - started) * 1000


def _first_of(problems: Sequence[str]) -> str:
    more = len(problems) - 1
    return f"{problems[0]}{f' (and {more:,} more such files)' * (more > 0)}" if problems else ""


class Watch:
    """Ends this process when its server ends, whatever this process is doing.

    Usually the end of stdin tells, but a thread has to read it, and native code can block all threads. So on
    Linux the system is asked to kill this process together with the server. And on every system a timer that
    does not depend on the interpreter ends the process if a single step takes longer than `STEP_S`.
    """

    def __init__(self) -> None:
        self._set = -1e9

    def follow(self, server: int) -> None:
        """Ask the system to kill this process when its parent, the process `server`, ends."""
        if sys.platform != "linux":
            return
        import ctypes

        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        try:
            os.kill(server, 0)
        except ProcessLookupError:  # it ended before it could be followed
            os._exit(0)

    def step(self, is_busy: bool) -> None:
        """Restart the timer at the beginning of a piece of work, and stop it when there is none left."""
        if not is_busy:
            self._set = -1e9
            faulthandler.cancel_dump_traceback_later()
        elif (now := time.monotonic()) - self._set > STEP_S / 10:  # restarting it starts a thread
            self._set = now
            faulthandler.dump_traceback_later(STEP_S, exit=True)


def _keep(path: Path, text: str) -> None:
    """Store a map for the next start. Errors are ignored, since the file only speeds up the start."""
    new = path.with_name(f"{path.name}.{os.getpid()}")
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as stream:
            stream.write(text.encode("utf-8", "replace"))
        new.replace(path)


def main(*arguments: str) -> None:
    """Run the indexer. The first argument is the server's process id."""
    watch = Watch()
    if arguments:
        watch.follow(int(arguments[0]))
    with contextlib.suppress(OSError):
        os.nice(10)  # everything else the user does comes first
    # Printed output must not be mixed with the replies.
    out = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    requests: queue.SimpleQueue[Request] = queue.SimpleQueue()

    def read() -> None:
        decoder = msgspec.json.Decoder(Request)
        with contextlib.suppress(Exception):
            for line in sys.stdin.buffer:
                requests.put(decoder.decode(line))
        os._exit(0)  # the server is gone, and there is nothing to save

    threading.Thread(target=read, daemon=True).start()
    with contextlib.suppress(BrokenPipeError, KeyboardInterrupt):
        Indexer(requests, out, watch.step).run()


if __name__ == "__main__":
    main(*sys.argv[1:])
