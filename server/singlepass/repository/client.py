"""The server's side of the indexer: the map in use, and which files stand near the open ones.

Nothing here waits. A request takes what is known at its moment: without a map yet it goes without one. What
the indexer tells later comes into use when the editor is idle, because a new map, or other neighbours, make
the model read again what it had read ahead. The map in use is kept on disk, so that the next start has it
at once, and with it the prefix that the engine saved.

If the indexer dies it is started again a few times, and then done without.
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

import msgspec

from singlepass.config import Settings
from singlepass.core.inert import inert
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
"""Of source code, until an engine has counted better."""
MORE_NEAR = 18
"""Files beside those in the prompt that drafts are taken from."""
MAX_REMEMBERED = 200
"""So many documents keep their neighbours."""

_RULES = 2
"""Counts up when other files are kept from prompts, so that no map from before is used."""
_MOST_CHANGES = 1_000
"""Of more files at once it is not looked at each."""
_MAX_STARTS = 3
_MAX_LINE = 16 * 1024 * 1024
_END_S = 1.0


class Repository:
    """What is known of the workspace's files beside the open ones."""

    def __init__(self, workspace: Workspace, busy: Callable[[], bool] = lambda: False) -> None:
        self.workspace = workspace
        self.on_update: Callable[[], None] = lambda: None
        """Called when another map or other neighbours came into use."""
        self.map = ""
        """The map in use; empty without one."""
        self.n_files: int | None = None
        """How many source files the last scan found."""
        self._busy = busy
        self._settings = Settings()
        self._process: subprocess.Popen[bytes] | None = None
        self._to_process: asyncio.WriteTransport | None = None
        self._task: asyncio.Task[None] | None = None
        self._n_starts = 0
        self._unsent: list[Request] = []
        self._scanned = False
        self._stale = False
        self._asked = False
        self._ready: MapBuilt | None = None
        self._built, self._cost_s = -1e9, 0.0
        self._near: dict[str, tuple[str, ...]] = {}
        self._newer: dict[str, tuple[str, ...]] = {}
        """Neighbours that differ from those in use."""
        self._problem = ""
        """What was wrong with ignore files, as it was last told."""
        self._partial: set[str] = set()
        self._active = time.monotonic()
        self._timer: asyncio.TimerHandle | None = None
        self._told = asyncio.Event()
        """Set when the indexer said something, or ended for good."""

    # What a request takes.

    def near(self, uri: str) -> Sequence[Path]:
        """The files near a document, the nearest first, as far as they are known now."""
        path = self.workspace.indexed_path(uri)
        found = map(Path, self._near.get(str(path), ()))
        # An answer may be about folders that are no longer open, and a link may lead elsewhere by now.
        return tuple(
            one for one in found if self.workspace.may_stand_beside(one.as_uri(), self._settings.ignore)
        )

    async def settled(self, uri: str) -> None:
        """Wait until what a prompt for the document would have is known and in use: the folders are scanned,
        their map is built, and so are the document's neighbours.

        For who wants to see the prompt, not for a request. It returns at once where nothing is indexed, and
        when the indexer has ended too often.
        """
        self.opened(uri)
        while self._task is not None and not self._task.done():
            self._told.clear()
            if self._scanned and not self._asked:
                if self._stale:
                    self._ask()
                elif self._ready is not None or self._newer:
                    self._adopt()
                    continue
                else:
                    return
            await self._told.wait()

    # What happens.

    def configure(self, settings: Settings) -> None:
        """Take new settings. Other ignore patterns or another size of the map scan anew."""
        old, self._settings = self._settings, settings
        changed = (old.ignore, old.context_map_tokens) != (settings.ignore, settings.context_map_tokens)
        if changed and self._task is not None:
            if old.ignore != settings.ignore:
                self._forget()
            self._scan()

    def open(self) -> None:
        """Start the indexer, where there is something for it to do."""
        if self._wanted():
            self._start()

    def opened(self, uri: str) -> None:
        """A document was opened or needs its neighbours."""
        path = self.workspace.indexed_path(uri)
        if path is None or not self._wanted() or not self.workspace.name(uri)[1]:
            return
        self._start()
        if str(path) not in self._near:
            self._send(AskNear(str(path), self._n_near))

    def typed(self) -> None:
        """The user is at work."""
        self._active = time.monotonic()

    def changed(self, *uris: str) -> None:
        """Files were saved, created or deleted."""
        if len(uris) > _MOST_CHANGES:
            # As after a checkout: whatever changed, a walk finds it, and this is what makes the indexer walk.
            uris = tuple((folder / ".gitignore").as_uri() for folder in self.workspace.folders)
        indexed = map(self.workspace.indexed_path, uris)
        paths = [str(path) for path in indexed if path is not None]
        if not paths or self._task is None:
            return
        self._send(Changed(tuple(paths)))
        for path in paths:
            if path in self._near:
                self._send(AskNear(path, self._n_near))
        self._stale = True
        self._look_later()

    def folders_changed(self) -> None:
        """Other workspace folders: everything is named anew, and what is gone must not be sent any more."""
        if self._task is not None:
            self._forget()
            self._scan()

    def _forget(self) -> None:
        """The map in use may name files that must not be sent any more."""
        self.map, self._ready = "", None
        self._load()

    async def aclose(self) -> None:
        """End the indexer."""
        self._n_starts = _MAX_STARTS
        if self._timer is not None:
            self._timer.cancel()
        task, self._task = self._task, None
        if self._to_process is not None:
            self._to_process.close()  # which ends it
        if task is not None:
            await asyncio.wait([task], timeout=_END_S)
            if self._process is not None:
                self._process.kill()
            if not task.done():
                await asyncio.wait([task], timeout=_END_S)
            task.cancel()

    # The idle moments.

    def look(self) -> None:
        """Do what there is to do about the map and the neighbours, if this is the moment."""
        self._timer = None
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
        if self._timer is None:
            pause_s = IDLE_S if seconds is None else seconds
            self._timer = asyncio.get_running_loop().call_later(pause_s, self.look)

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
        if self._task is None and self._n_starts < _MAX_STARTS:
            self._load()
            self._scan()
            self._task = asyncio.ensure_future(self._run())
            self._task.add_done_callback(lambda _: self._told.set())

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
        """Keep an indexer running, and take what it says."""
        while self._n_starts < _MAX_STARTS:
            self._n_starts += 1
            try:
                replies = await self._start_process()
            except OSError as error:
                log.warning("no repository map: the indexer cannot be started: %s", error)
                return
            unsent, self._unsent = self._unsent, []
            for request in unsent:
                self._send(request)
            code = await self._listen(replies)
            self._asked = False
            if self._task is None:  # closed
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
        """Start an indexer; returns where its replies come. Raises OSError."""
        process = self._process = _indexer()
        replies = asyncio.StreamReader(limit=_MAX_LINE)
        loop = asyncio.get_running_loop()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(replies), process.stdout)
        self._to_process, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, process.stdin)
        return replies

    async def _listen(self, replies: asyncio.StreamReader) -> int:
        """Take what the indexer says until it ends; returns its exit code."""
        assert self._process is not None
        decoder = msgspec.json.Decoder(Reply)
        try:
            async for line in replies:
                self._take(decoder.decode(line))
        except (ValueError, OSError) as error:
            log.warning("the indexer said something strange: %s", error)
            self._process.kill()
        if self._to_process is not None:
            self._to_process.close()
        code = await asyncio.to_thread(self._process.wait)
        self._process = self._to_process = None
        return code

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
        self._told.set()

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

    # The map of the last time.

    def _kept(self) -> Path:
        """Where the map of these folders, without what is ignored, is kept."""
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
            # Another map's length or other bytes than text: as if there were none.
            self.map = read_regular(self._kept(), 4 * self._budget()).decode("utf-8")


def _indexer() -> "subprocess.Popen[bytes]":
    # Not by asyncio: cancelled while it starts a process, it waits for ever (Python 3.11).
    # -P: a folder named singlepass in the repository must not be what runs.
    command = [sys.executable, "-P", "-m", "singlepass.repository.indexer", str(os.getpid())]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
