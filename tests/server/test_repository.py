"""The indexer's process and the server's side of it: real processes on small folders."""

import asyncio
import contextlib
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import psutil
import pytest
from singlepass.config import Settings
from singlepass.core.context import Context
from singlepass.editor.documents import Documents
from singlepass.editor.workspace import Workspace
from singlepass.engines.contexts import context
from singlepass.engines.gathering import gathering
from singlepass.repository import client as module
from singlepass.repository.client import Repository
from singlepass.repository.indexer import Index
from singlepass.repository.wire import Folder, MapBuilt, Near
from singlepass_backends.base import Target

pytestmark = pytest.mark.anyio

SETTINGS = Settings(target=Target(model="m.gguf"))
FILES = {
    "app/store.py": (
        'from app.model import Row\n\nclass Store:\n    """Rows."""\n    def put_row(self, row: Row): ...\n'
    ),
    "app/model.py": 'class Row:\n    """One row."""\n',
    "app/cli.py": "from app.store import Store\nStore().put_row(1)\n",
    "app/gone.py": "x = 1\n",
    ".env": "class Secret: pass\n",
    "ignored/a.py": "class Row: pass\n",
    ".gitignore": "ignored/\n",
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SINGLEPASS_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(module, "IDLE_S", 0.05)
    monkeypatch.setattr("singlepass.repository.map.IDLE_S", 0.05)
    root = tmp_path / "work"
    for path, text in FILES.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    return root


@asynccontextmanager
async def repository(
    folder: Path, settings: Settings = SETTINGS, busy: Callable[[], bool] = lambda: False
) -> AsyncIterator[Repository]:
    workspace = Workspace()
    workspace.folders = [folder]
    found = Repository(workspace, busy)
    found.on_update = found._tell
    found.configure(settings)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(found.tasks.run)
        try:
            yield found
        finally:
            await found.aclose()
            assert found._process is None or found._process.returncode is not None


async def until(found: Repository, condition: Callable[[], Any]) -> None:
    """Wait for what follows from something that the indexer said, its end, or a moment when that is used."""
    async with asyncio.timeout(20):
        while not condition():
            await found._told.wait()


def uri(folder: Path, path: str) -> str:
    return (folder / path).as_uri()


def near(found: Repository, folder: Path, path: str) -> list[str]:
    return [one.relative_to(folder).as_posix() for one in found.near(uri(folder, path))]


async def test_the_map_and_the_neighbours_come_by_themselves(folder: Path) -> None:
    async with repository(folder) as found:
        assert (found.map, near(found, folder, "app/store.py")) == ("", [])
        found.opened(uri(folder, "app/store.py"))
        assert found.map == ""
        await until(found, lambda: near(found, folder, "app/store.py") == ["app/model.py", "app/cli.py"])
        await until(found, lambda: found.map)
        assert found.n_files == 4
        assert "class Store  # Rows.\n" in found.map
        assert "Secret" not in found.map
        assert "ignored" not in found.map
        first = found.map
    # The next start has the map at once, and keeps it as long as it is right.
    async with repository(folder) as found:
        found.opened(uri(folder, "app/cli.py"))
        assert found.map == first
        await found.settled(uri(folder, "app/cli.py"))
        assert found.n_files == 4
        assert found.map == first


async def test_waiting_until_a_prompt_is_what_it_will_be(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not for the pauses of the user's: an idle moment may be far away."""
    monkeypatch.setattr(module, "IDLE_S", 3600)
    monkeypatch.setattr("singlepass.repository.map.IDLE_S", 3600)
    async with repository(folder) as found, asyncio.timeout(60):
        await found.settled(uri(folder, "app/store.py"))
        assert "class Store  # Rows.\n" in found.map
        assert near(found, folder, "app/store.py") == ["app/model.py", "app/cli.py"]
        # What changed since is waited for as well.
        (folder / "app/model.py").write_text("class Row:\n    def brand_new(self): ...\n")
        (folder / "app/cli.py").write_text("from app.model import Row\nRow().brand_new()\n" * 9)
        found.changed(uri(folder, "app/model.py"), uri(folder, "app/cli.py"))
        await found.settled(uri(folder, "app/store.py"))
        assert near(found, folder, "app/store.py") == ["app/model.py"]


async def test_waiting_ends_where_nothing_is_indexed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    off = Settings(target=Target(model="m.gguf"), context_map_tokens=0, max_neighbours=0)
    async with repository(folder, off) as found, asyncio.timeout(60):
        await found.settled(uri(folder, "app/store.py"))
    monkeypatch.setattr(
        module,
        "_indexer",
        lambda: subprocess.Popen([sys.executable, "-c", ""], stdin=subprocess.PIPE, stdout=subprocess.PIPE),
    )
    async with repository(folder) as found, asyncio.timeout(60):
        await found.settled(uri(folder, "app/store.py"))
        assert found.map == ""


async def test_saved_new_and_deleted_files_are_noticed(folder: Path) -> None:
    async with repository(folder) as found:
        found.opened(uri(folder, "app/cli.py"))
        await until(found, lambda: found.map)
        assert near(found, folder, "app/cli.py") == ["app/store.py"]
        (folder / "app/extra.py").write_text("class Brand_new: pass\n")
        (folder / "app/cli.py").write_text("from app.extra import Brand_new\nBrand_new()\n")
        (folder / "app/gone.py").unlink()
        (folder / "app/model.py").write_text("class Other_row: pass\n")
        names = ("app/extra.py", "app/cli.py", "app/gone.py", "app/model.py")
        found.changed(*(uri(folder, name) for name in names))
        await until(found, lambda: near(found, folder, "app/cli.py") == ["app/extra.py"])
        await until(found, lambda: "Brand_new" in found.map)
        assert "class Row" not in found.map


async def test_nothing_new_comes_into_use_while_the_user_types(folder: Path) -> None:
    is_busy, looks = True, asyncio.Semaphore(0)

    def busy() -> bool:
        looks.release()
        return is_busy

    async with repository(folder, busy=busy) as found:
        found.opened(uri(folder, "app/cli.py"))
        await until(found, lambda: found.n_files)
        async with asyncio.timeout(20):
            await looks.acquire()  # there is something to do, and nothing is done
            assert found.map == ""
            await looks.acquire()
        assert found.map == ""
        is_busy = False
        await until(found, lambda: found.map)


async def test_other_folders_have_another_map_and_nothing_of_the_old_one(folder: Path) -> None:
    other = folder.parent / "other"
    other.mkdir()
    (other / "thing.py").write_text("class Thing:\n    def turn(self): ...\n")
    async with repository(folder) as found:
        found.opened(uri(folder, "app/store.py"))
        await until(found, lambda: found.map and near(found, folder, "app/store.py"))
        first = found.map
        found.workspace.folders = [folder, other]
        found.folders_changed()
        assert found.map == ""
        assert found.near(uri(folder, "app/store.py")) == ()
        found.opened(uri(folder, "app/store.py"))
        await until(found, lambda: "class Thing" in found.map)
        assert "work/app/store.py\n" in found.map
        assert "other/thing.py\n" in found.map
        await until(found, lambda: near(found, folder, "app/store.py"))

        found.workspace.folders = [other]
        found.folders_changed()
        found._take(MapBuilt("class Late", 0, "where the map of the two folders is kept"))
        found._take(Near(str(folder / "app/store.py"), (str(folder / "app/model.py"),), complete=True))
        assert found.near(uri(folder, "app/store.py")) == ()
        await until(found, lambda: found.map)
        assert found.map.startswith("thing.py\n")
        assert "Store" not in found.map

        # What was kept of the first folder is there at once.
        found.workspace.folders = [folder]
        found.folders_changed()
        assert found.map == first


async def test_what_is_ignored_from_now_on_leaves_the_map(folder: Path) -> None:
    async with repository(folder) as found:
        found.opened(uri(folder, "app/store.py"))
        await until(found, lambda: "class Row" in found.map)
        found.configure(Settings(target=SETTINGS.target, ignore=("model.py",)))
        assert found.map == ""
        await until(found, lambda: found.map)
        assert "class Row" not in found.map
        assert "class Store" in found.map


async def test_an_indexer_that_dies_is_started_again_and_then_left(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with repository(folder) as found:
        found.opened(uri(folder, "app/store.py"))
        for n_starts in (1, 2, 3):
            await until(found, lambda: found.n_files)
            assert found._n_starts == n_starts
            process = found._process
            assert process is not None
            found.n_files = None
            process.send_signal(signal.SIGKILL)
            await asyncio.to_thread(process.wait)
        await until(found, lambda: found._running is not None and found._running.ended.is_set())
        found.changed(uri(folder, "app/store.py"))
        found.opened(uri(folder, "app/model.py"))
        assert found.near(uri(folder, "app/model.py")) == ()
    assert "too often" in caplog.text


async def test_no_indexer_where_nothing_needs_it(folder: Path) -> None:
    settings = Settings(target=SETTINGS.target, context_map_tokens=0, max_neighbours=0)
    async with repository(folder, settings) as found:
        found.opened(uri(folder, "app/store.py"))
        found.opened("untitled:x")
        found.changed(uri(folder, "app/store.py"))
        assert found._running is None


async def test_other_settings_scan_anew(folder: Path) -> None:
    async with repository(folder) as found:
        found.opened(uri(folder, "app/store.py"))
        await until(found, lambda: found.n_files == 4)
        found.configure(Settings(target=SETTINGS.target, ignore=("gone.py",)))
        await until(found, lambda: found.n_files == 3)


def test_the_process_ends_with_its_input(folder: Path) -> None:
    command = [sys.executable, "-P", "-m", "singlepass.repository.indexer"]
    asked = {"type": "Scan", "folders": [{"path": str(folder)}]}
    done = subprocess.run(
        command,
        input=json.dumps(asked) + "\nnonsense\n",
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
    )
    assert done.stderr == ""


# It ends with its server, whatever either does.

SERVER = """
import os, subprocess, sys, time
# The child says what it is, and does what it was told to.
child = subprocess.Popen([sys.executable, "-P", "-c", sys.argv[1], str(os.getpid())], stdin=subprocess.PIPE)
time.sleep(1000)
"""
CHILD = """
import os, re, sys
from singlepass.repository.indexer import Watch
watch = Watch()
watch.follow(int(sys.argv[1]))
print(os.getpid(), flush=True)
"""
BUSY = {
    # No thread of Python runs beside this.
    "native": "re.match('(a*)*b', 'a' * 64)",
    "blocked": "open(os.pipe()[0]).read()",
    "waiting": "import time\nwhile True:\n    time.sleep(0.001)",
}


def ends(process: psutil.Process) -> None:
    """Wait for the end of a process that is no child of ours; also of a zombie, whose parent did not look."""
    with contextlib.suppress(ProcessLookupError):
        descriptor = os.pidfd_open(process.pid)
        try:
            assert select.select([descriptor], [], [], 30)[0], "it runs on"
        finally:
            os.close(descriptor)


@pytest.mark.skipif(sys.platform != "linux", reason="where the system tells of a parent's end")
@pytest.mark.parametrize("kind", BUSY)
def test_the_process_ends_with_a_server_that_is_killed(kind: str) -> None:
    command = [sys.executable, "-c", SERVER, CHILD + BUSY[kind]]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        child = psutil.Process(int(server.stdout.readline()))
        try:
            server.kill()
            server.wait()
            ends(child)
        finally:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()


@pytest.mark.skipif(sys.platform != "linux", reason="where the system tells of a parent's end")
def test_a_real_indexer_in_its_work_ends_with_a_server_that_is_killed(folder: Path) -> None:
    for number in range(3_000):
        (folder / f"many{number}.py").write_text("def name():\n    return 1\n" * 300)
    code = """
import sys, msgspec
from singlepass.repository.wire import Folder, Scan
from singlepass.repository.client import _indexer
process = _indexer()
process.stdin.write(msgspec.json.encode(Scan((Folder(sys.argv[1]),))) + b"\\n")
process.stdin.flush()
print(process.pid, flush=True)
process.wait()
"""
    command = [sys.executable, "-c", code, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        child = psutil.Process(int(server.stdout.readline()))
        server.kill()
        server.wait()
        ends(child)


@pytest.mark.skipif(sys.platform != "linux", reason="where the system tells of a parent's end")
def test_a_process_whose_server_is_gone_already_ends() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as server:
        pass
    command = [sys.executable, "-P", "-m", "singlepass.repository.indexer", str(server.pid)]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        assert process.wait(timeout=30) == 0


def test_a_step_that_takes_too_long_ends_the_process_without_help_of_its_threads() -> None:
    code = CHILD.replace("watch.follow(int(sys.argv[1]))", "") + (
        "import singlepass.repository.indexer as module\n"
        "module.STEP_S = 0.2\n"
        "watch.step(True)\n"
        "watch.step(False)\n"
        "import time; time.sleep(0.5)\n"
        "print('idle', flush=True)\n"
        "watch.step(True)\n" + BUSY["native"]
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60, check=False)
    assert done.returncode == 1
    assert b"idle" in done.stdout
    assert b"Timeout" in done.stderr


async def test_ignore_files_that_cannot_be_used_are_told_once(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    os.mkfifo(folder / "app" / ".gitignore")
    (folder / "ignored").rename(folder / "seen")
    (folder / "seen" / ".gitignore").symlink_to("/dev/zero")
    async with repository(folder) as found:
        found.opened(uri(folder, "app/store.py"))
        await until(found, lambda: found.n_files)
        found.configure(Settings(target=SETTINGS.target, ignore=("gone.py",)))
        await until(found, lambda: found.n_files == 4)
    messages = [one.message for one in caplog.records if ".gitignore" in one.message]
    (message,) = messages
    assert str(folder / "app" / ".gitignore") in message
    assert "not a regular file" in message
    assert "and 1 more such files" in message


async def test_a_file_that_became_a_pipe_is_not_waited_for(folder: Path) -> None:
    index, folders = Index(), (Folder(str(folder)),)
    scan(index, folders)
    path = folder / "app/model.py"
    path.unlink()
    os.mkfifo(path)
    index.change((str(path),))
    assert "app/model.py" not in index.outlines


async def test_near_files_are_looked_at_again_when_they_are_used(folder: Path) -> None:
    async with repository(folder) as found:
        found.opened(uri(folder, "app/store.py"))
        await until(found, lambda: near(found, folder, "app/store.py") == ["app/model.py", "app/cli.py"])
        (folder / "app/model.py").unlink()
        (folder / "app/model.py").symlink_to(folder.parent / "elsewhere.py")
        assert near(found, folder, "app/store.py") == ["app/cli.py"]
        (folder / "app/cli.py").unlink()
        (folder / "app/cli.py").symlink_to("../.env")
        assert near(found, folder, "app/store.py") == []


def scan(index: Index, folders: tuple[Folder, ...], ignore: tuple[str, ...] = ()) -> int:
    for _ in index.scan(folders, ignore):
        pass
    return index.n_outlined


async def test_only_what_changed_is_outlined_again(folder: Path) -> None:
    index, folders = Index(), (Folder(str(folder)),)
    assert scan(index, folders) == 4
    assert scan(index, folders) == 0
    (folder / "app/model.py").write_text("class Changed_row: pass\n")
    os.utime(folder / "app/gone.py", ns=(1, 1))
    (folder / "app/cli.py").unlink()
    assert scan(index, folders) == 2
    assert sorted(index.outlines) == ["app/gone.py", "app/model.py", "app/store.py"]
    fresh = Index()
    scan(fresh, folders)
    assert index.outlines == fresh.outlines
    assert index.graph.imports == fresh.graph.imports


async def test_folders_inside_each_other_list_each_file_once(folder: Path) -> None:
    index = Index()
    scan(index, (Folder(str(folder), "work/"), Folder(str(folder / "app"), "app/")))
    assert sorted(index.files) == ["app/cli.py", "app/gone.py", "app/model.py", "app/store.py"]


async def test_generated_and_unreadable_files_have_no_outline(folder: Path) -> None:
    (folder / "app/model.py").write_text("# Code generated by x. DO NOT EDIT.\nclass Row: pass\n")
    (folder / "app/gone.py").chmod(0)
    index = Index()
    scan(index, (Folder(str(folder)),))
    assert "app/model.py" not in index.outlines
    assert index.near(str(folder / "app/store.py"), 9) == (str(folder / "app/cli.py"),)
    assert index.near(str(folder / "nowhere.py"), 9) == ()


# In a request.


async def test_a_request_takes_what_is_known_and_waits_for_nothing(folder: Path) -> None:
    (folder / "app/big.py").write_text("from app.store import Store\n" + "x = 1\n" * 3_000)
    documents = Documents()
    documents.open(uri(folder, "app/store.py"), "python", 1, FILES["app/store.py"])
    async with repository(folder) as found:
        found.opened(uri(folder, "app/store.py"))

        def gathered(settings: Settings = SETTINGS, n_ctx: int = 32_768) -> Context:
            edited = uri(folder, "app/store.py")
            near = found.near(edited)
            gathered = gathering(edited, (), documents.held(), found.workspace, settings, near)()
            assert list(gathered.editable) == [edited]
            taken = context(gathered, found, n_ctx)
            assert list(taken.editable) == ["app/store.py"]
            return taken

        assert (gathered().map, gathered().neighbours) == ("", ())
        await until(found, lambda: found.map and len(near(found, folder, "app/store.py")) == 3)
        now = gathered()
        assert now.map == found.map
        assert [file.path for file in now.neighbours] == ["app/cli.py", "app/model.py"]
        assert now.left_out == ("app/big.py",)
        assert now.neighbours[1].text == FILES["app/model.py"]
        # A larger model takes more, a small one only the task.
        large = gathered(n_ctx=131_072)
        assert [file.path for file in large.neighbours][-1] == "app/model.py"
        assert len(large.neighbours) == 3
        small = gathered(n_ctx=64)
        assert small.map == ""
        assert "app/cli.py" in small.left_out
        few = Settings(target=SETTINGS.target, max_neighbours=1)
        assert [file.path for file in gathered(few).neighbours] == ["app/model.py"]
        # What was opened is editable; what was deleted is gone.
        documents.open(uri(folder, "app/model.py"), "python", 1, "class Open_row: pass\n")
        (folder / "app/cli.py").unlink()
        edited = uri(folder, "app/store.py")
        last = gathering(edited, (), documents.held(), found.workspace, SETTINGS, found.near(edited))()
        now = context(last, found, 0)
        assert [file.path for file in now.neighbours] == ["app/model.py"]
        assert list(now.editable) == ["app/store.py", "app/model.py"]
        assert len(last.editable) == 2
