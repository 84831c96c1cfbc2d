"""A full disk, a broken one, and a crash, at every call that touches a file of ours.

    python benchmarks/faults.py [--sessions 20]

Each thing that is kept on disk (saved prefixes, the history of requests, settings, edited files, downloads,
the repository map) is written and read again and again with one more call before the fault, until there is
no call left: the disk is full from that call on (ENOSPC, the first write cut short), or that one call fails
(EIO), or the process is killed in front of it. Afterwards what was there before is there or the new in its
place, each whole, nothing raised but what is meant to be told, and the same works again. `--every N` takes
every Nth call only.

With --sessions, so many edits with a real server and engine whose disk is full, or fails once, from a random
call on: each edit succeeds, no file of the workspace changes, and the next session on a mended disk works.

The calls fail in the C library, by `faulty_disk.c`, which is compiled and preloaded (Linux only).
"""

import argparse
import asyncio
import contextlib
import ctypes
import functools
import json
import logging
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from own import ROOT, SOURCE, own_folders, small_model, stop_engines

sys.path.insert(0, str(ROOT / "tests"))  # the hub that downloads are tested with

FULL, BROKEN, KILLED = 1, 2, 3
MODES = {FULL: "disk full", BROKEN: "call failed", KILLED: "killed"}


class Case:
    """Something that is kept on disk: how it is written and read, and what must be true afterwards."""

    name = ""
    told: tuple[type[Exception], ...] = ()
    """What may be raised, since it is told to the user."""

    def prepare(self, folder: Path) -> None:
        """What is there before."""

    def act(self, folder: Path) -> None:
        """Read and write, with the fault."""

    def check(self, folder: Path) -> None:
        """What must hold afterwards, without a fault. Raises AssertionError."""


class Prefixes(Case):
    name = "saved prefixes"

    def __init__(self) -> None:
        from singlepass_backends.generation.cache.misses import Known
        from singlepass_backends.generation.cache.store import Prefix, SavedCheckpoint

        known = (Known("map", b"1" * 16, b"2" * 16),)
        checkpoints = ((SavedCheckpoint(100, 5, "s"), b"check"),)
        self.old = Prefix(list(range(300)), b"state" * 100, checkpoints, known)
        self.new = Prefix([*range(300), 7, 8], b"other" * 50_000, (), known)
        self.third = Prefix([5, 6, 7], b"third", (), known)

    def _save(self, folder: Path, prefix: Any) -> Any:
        from singlepass_backends.generation.cache.store import Store

        store = Store(folder / "cache", "model")
        found = store.best(self.new.tokens, can_trim=True)
        loaded = store.load(found[0]) if found else None
        assert loaded in (None, self.old, self.new)
        store.save(prefix)
        store.wait()
        return loaded

    def prepare(self, folder: Path) -> None:
        self._save(folder, self.old)

    def act(self, folder: Path) -> None:
        self._save(folder, self.new)

    def check(self, folder: Path) -> None:
        self._save(folder, self.third)  # whatever is there is right, or nothing
        self._save(folder, self.new)
        assert self._save(folder, self.third) == self.new


class Requests(Case):
    name = "history of requests"

    def _add(self, folder: Path, number: int) -> None:
        from singlepass.stats.history import History
        from singlepass.stats.record import Record

        record = Record(id=f"r{number}", day="2026-11-22", at=float(number), outcome="done")
        history = History(folder / "state" / "requests.sqlite3")
        history.load()
        history.add(record)
        history.close(60)

    def _ids(self, folder: Path) -> list[str]:
        from singlepass.stats.history_file import read

        return [one.id for one in read(folder / "state" / "requests.sqlite3")]

    def prepare(self, folder: Path) -> None:
        for number in range(3):
            self._add(folder, number)

    def act(self, folder: Path) -> None:
        self._add(folder, 3)

    def check(self, folder: Path) -> None:
        before = self._ids(folder)
        assert before in (["r0", "r1", "r2"], ["r0", "r1", "r2", "r3"]), before
        self._add(folder, 4)
        assert self._ids(folder) == [*before, "r4"]


class FirstRequest(Requests):
    name = "history of requests, begun"

    def prepare(self, folder: Path) -> None:
        """There is none."""

    def check(self, folder: Path) -> None:
        with contextlib.suppress(Exception):  # it may be an empty file
            assert self._ids(folder) in ([], ["r3"])
        self._add(folder, 4)
        assert self._ids(folder)[-1] == "r4"


class Settings(Case):
    name = "settings"
    OLD = b"# mine\nmax_tokens = 5\n\n[targets.a]\nmodel = '/a.gguf' # the first\n"

    def __init__(self) -> None:
        from singlepass.cli.settings_file import SettingsError

        self.told = (SettingsError,)

    def prepare(self, folder: Path) -> None:
        (folder / "config").mkdir()
        (folder / "config" / "singlepass.toml").write_bytes(self.OLD)

    def act(self, folder: Path) -> None:
        from singlepass.cli.settings_file import SettingsFile

        SettingsFile(folder / "config" / "singlepass.toml").add("b", "/b.gguf")

    def check(self, folder: Path) -> None:
        path = folder / "config" / "singlepass.toml"
        new = self.OLD + b'\n[targets.b]\nmodel = "/b.gguf"\n'
        assert path.read_bytes() in (self.OLD, new), path.read_bytes()
        self.act(folder)
        assert path.read_bytes() == new


class Edited(Case):
    """Two files that one edit changes, both or neither, and what is said is true."""

    name = "edited files"
    NAMES, OLD, NEW = ("a.py", "b.py"), "old\n" * 500, "new\n" * 500

    def __init__(self) -> None:
        from singlepass.cli.saving import SaveError

        self.told = (SaveError,)
        self.said: str | None = None
        """What the last save said, where it was refused."""

    def prepare(self, folder: Path) -> None:
        self.said = None
        for name in self.NAMES:
            (folder / name).write_text(self.OLD)

    def act(self, folder: Path) -> None:
        from singlepass.cli.saving import Draft, SaveError, save

        try:
            save([Draft(folder / name, self.OLD.encode(), self.NEW) for name in self.NAMES])
        except SaveError as error:
            self.said = str(error)
            raise

    def check(self, folder: Path) -> None:
        texts = [(folder / name).read_text() for name in self.NAMES]
        assert set(texts) <= {self.OLD, self.NEW}
        if self.said is not None and "cannot be put back" not in self.said:
            assert texts == [self.OLD, self.OLD], self.said
            assert sorted(path.name for path in folder.iterdir()) == [*self.NAMES], self.said
        self.act(folder)
        assert [(folder / name).read_text() for name in self.NAMES] == [self.NEW, self.NEW]


class Map(Case):
    name = "repository map"

    def prepare(self, folder: Path) -> None:
        (folder / "maps").mkdir()
        (folder / "maps" / "one").write_text("old map\n")

    def act(self, folder: Path) -> None:
        from singlepass.repository.indexer import _keep

        _keep(folder / "maps" / "one", "new map\n")

    def check(self, folder: Path) -> None:
        assert (folder / "maps" / "one").read_text() in ("old map\n", "new map\n")
        self.act(folder)
        assert (folder / "maps" / "one").read_text() == "new map\n"


class Download(Case):
    name = "download"
    REPO, FILE = "some/model-GGUF", "model.gguf"

    def __init__(self, model: Path) -> None:
        from hub_double import HubDouble
        from singlepass_backends.models.catalogue import GgufFile, catalogue
        from singlepass_backends.models.files import PullError

        self.content = model.read_bytes()
        self.hub = HubDouble({self.REPO: {self.FILE: self.content, "LICENSE": b"terms"}})
        gguf = GgufFile(self.REPO, self.FILE, 4.9)
        self.entry = msgspec.structs.replace(catalogue().models[0], name="some-model", gguf=gguf, mlx=None)
        self.told = (PullError,)

    def act(self, folder: Path) -> None:
        from singlepass_backends.models.hub import Hub
        from singlepass_backends.models.pull import pull

        with Hub(self.hub.url, "") as hub:
            pull(hub, self.entry, "gguf", lambda *_: None, root=folder / "models", sleep=lambda _: None)

    def check(self, folder: Path) -> None:
        path = folder / "models" / "some-model" / self.FILE
        # What has its final name is whole.
        assert not path.parent.exists() or path.read_bytes() == self.content
        self.act(folder)
        assert path.read_bytes() == self.content


def cases(model: Path) -> list[Case]:
    """All that is kept on disk."""
    return [Prefixes(), Requests(), FirstRequest(), Settings(), Edited(), Map(), Download(model)]


class Swept(msgspec.Struct):
    """What came of all the points."""

    points: dict[str, dict[str, int]] = msgspec.field(default_factory=lambda: {})
    """By case and kind of fault."""
    told: int = 0
    """Faults that were told to the user; all others were got over without."""
    wrong: list[str] = msgspec.field(default_factory=lambda: [])

    @property
    def n(self) -> int:
        return sum(sum(by_mode.values()) for by_mode in self.points.values())


def sweep_inside(model: Path, every: int) -> Swept:
    """In a process with the faulty disk: every case, with every fault, at every call."""
    logging.disable()
    library = ctypes.CDLL(None)
    library.faulty_disk_arm.argtypes = (ctypes.c_int, ctypes.c_long, ctypes.c_char_p)
    library.faulty_disk_faults.restype = ctypes.c_long
    found = Swept()
    for case in cases(model):
        for mode, kind in MODES.items():
            number = 1 - every
            while True:
                number += every
                with tempfile.TemporaryDirectory(prefix="sp-disk-") as name:
                    folder = Path(name)
                    case.prepare(folder)
                    arm = functools.partial(library.faulty_disk_arm, mode, number, os.fsencode(folder))
                    happened, wrong = _one(case, folder, mode, arm, library, found)
                    library.faulty_disk_arm(0, 0, b"")
                    if not happened:
                        break
                    try:
                        case.check(folder)
                    except Exception as error:
                        wrong = f"afterwards {error!r}"
                    if wrong:
                        found.wrong.append(f"{case.name}, {kind} at call {number}: {wrong}")
            found.points.setdefault(case.name, {})[kind] = (number - 1) // every
    return found


def _one(
    case: Case, folder: Path, mode: int, arm: Callable[[], None], library: Any, found: Swept
) -> tuple[bool, str]:
    """Whether the fault happened, and what was wrong while it did."""
    if mode == KILLED:
        child = os.fork()
        if child == 0:
            arm()
            with contextlib.suppress(Exception):
                case.act(folder)
            os._exit(0)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0, ""
    wrong = ""
    arm()
    try:
        case.act(folder)
    except case.told:
        found.told += 1
    except Exception as error:
        wrong = f"raised {error!r}"
    return library.faulty_disk_faults() > 0, wrong


def compile_disk(folder: Path) -> Path:
    """The library to preload. Raises OSError, CalledProcessError without a C compiler."""
    compiler = next((name for name in ("cc", "gcc", "clang") if shutil.which(name)), "cc")
    library = folder / "faulty_disk.so"
    source = Path(__file__).with_name("faulty_disk.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
    return library


def sweep(model: Path, folder: Path, every: int = 1) -> Swept:
    """The same in a process of its own; of the calls, every so manyth."""
    environment = {**os.environ, "LD_PRELOAD": str(compile_disk(folder))}
    command = [sys.executable, str(Path(__file__)), "--inside", str(model), "--every", str(every)]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return msgspec.json.decode(done.stdout, type=Swept)


# Whole sessions.


class Sessions:
    """What became of edits on a disk that fails."""

    def __init__(self) -> None:
        self.outcomes: Counter[str] = Counter()
        self.wrong: list[str] = []


async def sessions(n: int, model: Path, library: Path, seed: int = 1) -> Sessions:
    """`n` sessions of a server and an engine on a disk that fails from a random call on, each followed by one
    on a disk that works."""
    chance, found = random.Random(seed), Sessions()
    for number in range(n):
        mode = chance.choice((FULL, BROKEN))
        call = int(2 ** chance.uniform(0, 7))
        with own_folders() as folder:
            path = folder / "workspace" / "values.py"
            path.parent.mkdir()
            path.write_text(SOURCE)
            place = "cache" if chance.random() < 0.5 else "state"
            faulty = {"LD_PRELOAD": str(library), "FAULTY_DISK": f"{mode}:{call}:{folder / place}"}
            for extra in (faulty, {}):
                os.environ.update(extra)
                try:
                    outcome = await _session(folder, path, model)
                finally:
                    for name in extra:
                        del os.environ[name]
                await stop_engines()  # which saves the prefix
                files = sorted(str(one.relative_to(path.parent)) for one in path.parent.rglob("*"))
                if outcome != "done" or files != ["values.py"] or path.read_text() != SOURCE:
                    what = f"{MODES[mode]} in {place} at call {call}" if extra else "on a mended disk"
                    found.wrong.append(f"session {number}, {what}: {outcome}, {files}")
                found.outcomes[outcome] += bool(extra)
    return found


async def _session(folder: Path, path: Path, model: Path) -> str:
    from singlepass.cli.headless import HeadlessEditor

    options = {"target": {"model": str(model)}, "max_tokens": 40, "temperature": 1.0}
    async with asyncio.timeout(300), HeadlessEditor(path.parent, options) as editor:
        file = editor.open(path)
        where = {"start": {"line": 0, "character": 0}, "end": {"line": 9, "character": 0}}
        arguments = {"uri": file.uri, "range": where, "instruction": "Do it."}
        job = (await editor.command("singlepass.edit", arguments))["job"]
        return (await editor.finish(job))["outcome"]


def main() -> None:
    """Inject all faults and say how it went."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sessions", type=int, default=0, help="whole sessions beside")
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.inside:
        print(msgspec.json.encode(sweep_inside(arguments.inside, arguments.every)).decode())
        return
    with tempfile.TemporaryDirectory(prefix="sp-model-") as name:
        folder = Path(name)
        model = small_model(folder / "model.gguf")
        started = time.monotonic()
        found = sweep(model, folder, arguments.every)
        for case, by_mode in found.points.items():
            print(f"{case}: " + ", ".join(f"{kind} at {n} calls" for kind, n in by_mode.items()))
        print(
            f"{found.n} points in {time.monotonic() - started:.0f} s, {found.told} of them told to the user, "
            f"{len(found.wrong)} times something was wrong"
        )
        wrong = found.wrong
        if arguments.sessions:
            whole = asyncio.run(sessions(arguments.sessions, model, folder / "faulty_disk.so"))
            print(f"{arguments.sessions} sessions on a failing disk: {json.dumps(whole.outcomes)}")
            wrong += whole.wrong
    for one in wrong[:30]:
        print(one)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
