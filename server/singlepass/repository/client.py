"""The server's side of the indexer: the current map, and the neighbours of open documents.

Nothing here blocks. A request uses what is known at that moment, possibly no map. Later results of the
indexer come into use when the editor is idle, because a new map or other neighbours invalidate what was
prewarmed. The current map is stored on disk, so that the next start has it at once and can use the prefix
that the engine saved.

If the indexer dies, it is restarted a few times; after that prompts have no new map.
"""

import asyncio
import contextlib
import hashlib
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import anyio
import msgspec

from singlepass.config import Settings
from singlepass.core.inert import inert
from singlepass.editor.tasks import Owner, Work, in_thread
from singlepass.editor.workspace import Workspace
from singlepass.files.regular_file import read_regular
from singlepass.repository.map import IDLE_S, next_step
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

log = logging.getLogger(__name__)

CHARS_PER_TOKEN = 4
"""Characters per token of source code."""
MORE_NEAR = 18
"""Number of files outside the prompt for the draft corpus."""
MAX_REMEMBERED = 200
"""Number of documents whose neighbours are cached."""

_RULES = 2
"""Incremented when the rules for excluded files change, so that no older map is used."""
_MOST_CHANGES = 1_000
"""If more files than this change at once, everything is scanned instead."""
_MAX_STARTS = 3
_MAX_LINE = 16 * 1024 * 1024
_END_S = 1.0


class Repository:
    """What is known about the workspace's files that are not open."""

    def __init__(self, workspace: Workspace, busy: Callable[[], bool] = lambda: False) -> None:
        self.workspace = workspace
        self.on_update: Callable[[], None] = lambda: None
        """Called when a new map or other neighbours came into use."""
        self.map = ""
        """The current map; empty if there is none."""
        self.n_files: int | None = None
        """Number of source files that the last scan found."""
        self._busy = busy
        self._settings = Settings()
        self._process: subprocess.Popen[bytes] | None = None
        self._to_process: asyncio.WriteTransport | None = None
        self._from_process: asyncio.ReadTransport | None = None
        self.tasks = Owner()
        self._running: Work | None = None
        self._n_starts = 0
        self._unsent: list[Request] = []
        self._scanned = False
        self._stale = False
        self._asked = False
        self._ready: MapBuilt | None = None
        self._built, self._cost_s = -1e9, 0.0
        self._near: dict[str, tuple[str, ...]] = {}
        self._newer: dict[str, tuple[str, ...]] = {}
        """New neighbours that are not in use yet."""
        self._problem = ""
        """The problem with ignore files that was last reported."""
        self._partial: set[str] = set()
        self._active = time.monotonic()
        self._looking: Work | None = None
        self._told = anyio.Event()
        """Set when the indexer replied, or ended for good."""

    # For requests.

    def near(self, uri: str) -> Sequence[Path]:
        """The currently known neighbours of a document, the nearest first."""
        path = self.workspace.indexed_path(uri)
        found = map(Path, self._near.get(str(path), ()))
        # The folders may be closed by now, and links may have changed.
        return tuple(
            one for one in found if self.workspace.may_be_neighbour(one.as_uri(), self._settings.ignore)
        )

    async def settled(self, uri: str) -> None:
        """Wait until everything for the document's prompt is known and in use: the folders are scanned, and
        map and neighbours are computed.

        For showing the prompt, not for requests. Returns at once if nothing is indexed or the indexer has
        ended too often.
        """
        self.opened(uri)
        while self._running is not None and not self._running.ended.is_set():
            if self._scanned and not self._asked:
                if self._stale:
                    self._ask()
                elif self._ready is not None or self._newer:
                    self._adopt()
                    continue
                else:
                    return
            await self._told.wait()

    # Events.

    def configure(self, settings: Settings) -> None:
        """Apply new settings. Changed ignore patterns or a changed map size cause a new scan."""
        old, self._settings = self._settings, settings
        changed = (old.ignore, old.context_map_tokens) != (settings.ignore, settings.context_map_tokens)
        if changed and self._running is not None:
            if old.ignore != settings.ignore:
                self._forget()
            self._scan()

    def open(self) -> None:
        """Start the indexer if it is needed."""
        if self._wanted():
            self._start()

    def opened(self, uri: str) -> None:
        """A document was opened, or its neighbours are needed."""
        path = self.workspace.indexed_path(uri)
        if path is None or not self._wanted() or not self.workspace.name(uri)[1]:
            return
        self._start()
        if str(path) not in self._near:
            self._send(AskNear(str(path), self._n_near))

    def typed(self) -> None:
        """The user typed, so the editor is not idle."""
        self._active = time.monotonic()

    def changed(self, *uris: str) -> None:
        """Files were saved, created or deleted."""
        if len(uris) > _MOST_CHANGES:
            # As after a checkout: a scan finds all changes, and this causes one.
            uris = tuple((folder / ".gitignore").as_uri() for folder in self.workspace.folders)
        indexed = map(self.workspace.indexed_path, uris)
        paths = [str(path) for path in indexed if path is not None]
        if not paths or self._running is None:
            return
        self._send(Changed(tuple(paths)))
        for path in paths:
            if path in self._near:
                self._send(AskNear(path, self._n_near))
        self._stale = True
        self._look_later()

    def folders_changed(self) -> None:
        """The workspace folders changed: all paths may change, and files of removed folders must not be
        sent."""
        if self._running is not None:
            self._forget()
            self._scan()

    def _forget(self) -> None:
        """Drop the current map, which may contain files that must not be sent any more."""
        self.map, self._ready = "", None
        self._load()

    async def aclose(self) -> None:
        """End the indexer."""
        self._n_starts = _MAX_STARTS
        running, self._running = self._running, None
        if self._to_process is not None:
            self._to_process.close()  # ends the process
        if running is not None:
            with anyio.move_on_after(_END_S):
                await running.ended.wait()
            if self._process is not None:
                self._process.kill()
            with anyio.move_on_after(_END_S):
                await running.ended.wait()
        await self.tasks.aclose()

    # When the editor is idle.

    def look(self) -> None:
        """If the editor is idle, update the map and the neighbours."""
        self._looking = None
        ready = self._ready is not None or bool(self._newer)
        stale = self._stale and not self._asked
        now = time.monotonic()
        idle_s = now - self._active
        match next_step(
            stale=stale,
            ready=ready,
            busy=self._busy(),
            idle_s=idle_s,
            built_s_ago=now - self._built,
            cost_s=self._cost_s,
        ):
            case "wait":
                self._look_later(max(0.5, IDLE_S - idle_s))
            case "ask":
                self._ask()
            case "adopt":
                self._adopt()
                if self._stale:
                    self._look_later()
            case "nothing":
                pass

    def _look_later(self, seconds: float | None = None) -> None:
        if self._looking is None:
            self._looking = self.tasks.start(self._look_after, IDLE_S if seconds is None else seconds)

    async def _look_after(self, pause_s: float) -> None:
        await anyio.sleep(pause_s)
        self.look()

    def _ask(self) -> None:
        self._stale, self._asked = False, True
        for path in [*self._near]:
            self._send(AskNear(path, self._n_near))
        self._send(AskMap(self._budget(), self.map, str(self._kept())))

    def _adopt(self) -> None:
        if self._ready is not None and self._ready.text is not None:
            self.map = self._ready.text
        self._ready = None
        self._near.update(self._newer)
        self._newer.clear()
        self.on_update()

    # The process.

    def _wanted(self) -> bool:
        settings = self._settings
        return bool(self.workspace.folders and (settings.context_map_tokens or settings.max_neighbours))

    @property
    def _n_near(self) -> int:
        return self._settings.max_neighbours + MORE_NEAR

    def _budget(self) -> int:
        return CHARS_PER_TOKEN * self._settings.context_map_tokens

    def _start(self) -> None:
        if self._running is None and self._n_starts < _MAX_STARTS:
            self._load()
            self._scan()
            self._running = self.tasks.start(self._run)

    def _scan(self) -> None:
        folders = tuple(Folder(str(path), prefix) for path, prefix in self.workspace.prefixes())
        self._near.clear()
        self._newer.clear()
        self._scanned = False
        self._send(Scan(folders, self._settings.ignore))

    def _send(self, request: Request) -> None:
        if self._to_process is not None:
            self._to_process.write(msgspec.json.encode(request) + b"\n")
        elif len(self._unsent) < 10_000:
            self._unsent.append(request)

    async def _run(self) -> None:
        """Keep an indexer running and process its replies."""
        while self._n_starts < _MAX_STARTS:
            self._n_starts += 1
            try:
                replies = await self._start_process()
                unsent, self._unsent = self._unsent, []
                for request in unsent:
                    self._send(request)
                code = await self._listen(replies)
            except OSError as error:
                log.warning("no repository map: the indexer cannot be started: %s", error)
                return
            finally:
                self._end_process()
            self._asked = False
            if self._running is None:  # closed
                return
            if self._n_starts < _MAX_STARTS:
                log.warning("the indexer ended (%s); it is started again", code)
                self._unsent = []
                remembered = [*self._near]
                self._scan()
                for path in remembered:
                    self._send(AskNear(path, self._n_near))
        log.warning("the indexer ended too often; prompts go without a new map")

    async def _start_process(self) -> asyncio.StreamReader:
        """Start an indexer; returns the stream of its replies. Raises OSError."""
        process = self._process = _indexer()
        replies = asyncio.StreamReader(limit=_MAX_LINE)
        loop = asyncio.get_running_loop()
        self._from_process, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(replies), process.stdout
        )
        self._to_process, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, process.stdin)
        return replies

    async def _listen(self, replies: asyncio.StreamReader) -> int:
        """Process the indexer's replies until it ends; returns its exit code."""
        assert self._process is not None
        decoder = msgspec.json.Decoder(Reply)
        try:
            async for line in replies:
                self._take(decoder.decode(line))
        except (ValueError, OSError) as error:
            log.warning("the indexer sent an invalid reply: %s", error)
            self._process.kill()
        if self._to_process is not None:
            self._to_process.close()
        return await in_thread(self._process.wait)

    def _end_process(self) -> None:
        """Leave nothing of the process, whether it ended or the connection to the editor."""
        for pipe in (self._to_process, self._from_process):
            if pipe is not None:
                pipe.close()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._process = self._to_process = self._from_process = None
        self._tell()

    def _take(self, reply: Reply) -> None:
        match reply:
            case Scanned():
                self.n_files = reply.n_files
                log.info("%d source files, %d outlined in %.0f ms", reply.n_files, reply.n_outlined, reply.ms)
                if reply.problem and reply.problem != self._problem:
                    log.warning("%s", inert(reply.problem))
                self._problem = reply.problem
                self._scanned = self._stale = True
            case MapBuilt():
                self._asked = False
                self._built, self._cost_s = time.monotonic(), reply.ms / 1000
                if reply.text is not None and reply.keep == str(self._kept()):
                    self._ready = reply
            case Near():
                self._take_near(reply)
        if self._stale or self._ready is not None or self._newer:
            self._look_later()
        self._tell()

    def _tell(self) -> None:
        self._told.set()
        self._told = anyio.Event()

    def _take_near(self, reply: Near) -> None:
        old = self._near.get(reply.path)
        if old is None or not old:
            while len(self._near) >= MAX_REMEMBERED:
                del self._near[next(iter(self._near))]
            self._near[reply.path] = reply.near
            if reply.near:
                self.on_update()
        elif old != reply.near:
            self._newer[reply.path] = reply.near

    # The stored map.

    def _kept(self) -> Path:
        """The file for the map of these folders with these ignore patterns."""
        folders = (f"{path}\0{prefix}" for path, prefix in self.workspace.prefixes())
        names = "\0".join((f"{_RULES}", *folders, *self._settings.ignore))
        key = hashlib.sha256(f"{names}\0{self._budget()}".encode("utf-8", "surrogateescape")).hexdigest()
        if given := os.environ.get("SINGLEPASS_CACHE_DIR"):
            return Path(given) / "maps" / key[:32]
        import platformdirs  # here, since the editor waits for our imports

        return platformdirs.user_cache_path("singlepass") / "maps" / key[:32]

    def _load(self) -> None:
        if not self._budget():
            return
        with contextlib.suppress(OSError, ValueError):
            # A map of another size, or invalid UTF-8, counts as none.
            self.map = read_regular(self._kept(), 4 * self._budget()).decode("utf-8")


def _indexer() -> "subprocess.Popen[bytes]":
    # Not through asyncio: if it is cancelled while starting a process, it hangs (Python 3.11).
    # -P: do not run a folder named singlepass in the repository.
    command = [sys.executable, "-P", "-m", "singlepass.repository.indexer", str(os.getpid())]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
