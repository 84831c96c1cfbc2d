"""What `benchmarks/endurance.py` and its neighbours do many times over, a few times. Counts, never times."""

import asyncio
import shutil
import sys
from pathlib import Path

import pytest
from endurance import cancels, crowd, grown_too_much, kills, soak, unread
from faults import BROKEN, FULL, KILLED, MODES, sweep
from hunks import run
from mutated_models import run as use_mutated
from traced import read, works
from traced import sessions as traced_sessions

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(sys.platform != "linux", reason="processes are looked at as on Linux"),
]

N_KILLS, N_CANCELS, N_JOBS, N_UNREAD, N_USED, N_HUNKS, N_MODELS = 4, 24, 12, 1500, 60, 1500, 24


async def test_killed_processes_leave_nothing_behind(random_gguf: Path) -> None:
    found = await kills(N_KILLS, random_gguf, seed=4)
    assert found.wrong == []
    assert found.n >= N_KILLS


async def test_nothing_follows_a_cancel(random_gguf: Path) -> None:
    found = await cancels(N_CANCELS, random_gguf)
    assert found.wrong == []
    assert found.n_edits_after == 0
    assert len(found.answered_ms) == sum(found.ended.values()) == N_CANCELS
    assert len(found.tokens_after) + found.n_not_stopped == N_CANCELS
    assert found.tokens_after  # requests that the cancel did end


async def test_an_editor_is_answered_while_many_jobs_wait(random_gguf: Path) -> None:
    found = await crowd(N_JOBS, random_gguf)
    assert found.wrong == []
    assert found.ended == {"done": N_JOBS}
    assert found.most_waiting > N_JOBS // 2
    assert found.waits_ms


async def test_an_editor_that_reads_nothing_for_a_while_loses_nothing(random_gguf: Path) -> None:
    found = await unread(1.0, random_gguf, N_UNREAD)
    assert found.wrong == []
    assert found.stopped
    assert len(found.answers) == found.n_requests > N_UNREAD


async def test_nothing_piles_up(random_gguf: Path) -> None:
    found = await soak(N_USED, random_gguf, n_warm=N_USED // 2, n_looks=1)
    assert grown_too_much(found) == []
    assert sum(found.ended.values()) == found.n_jobs > N_USED // 4


def test_a_disk_that_fails_at_any_call(random_gguf: Path, tmp_path: Path) -> None:
    found = sweep(random_gguf, tmp_path, every=5)
    assert found.wrong == []
    assert found.n > 50
    assert all(set(by_mode) == set(MODES.values()) for by_mode in found.points.values())
    assert {FULL, BROKEN, KILLED} == set(MODES)


def test_mutated_hunks_find_their_place_or_none() -> None:
    found = run(N_HUNKS, seed=2)
    assert found.wrong == []
    assert found.n >= N_HUNKS
    assert found.how.total() > N_HUNKS // 4


def test_no_listener_no_connection_but_the_target_no_other_program(tmp_path: Path) -> None:
    if not works():
        pytest.skip("strace is missing" if not shutil.which("strace") else "strace may not trace here")
    found, address = traced_sessions(tmp_path)
    assert found.wrong([address]) == []
    assert set(found.processes) == {"server", "engine", "indexer"}
    assert any(one == f"engine to {address}" for one in found.connections)


def test_what_a_trace_would_tell() -> None:
    """The reader of traces sees what there is to see, also in threads and in what was started.

    Numbers of processes that have ended are another's later.
    """
    trace = """\
7 execve("/p", ["python", "-P", "-m", "singlepass", "serve"], 0x1 /* 3 vars */) = 0
7 vfork( <unfinished ...>
8 execve("/bin/sh", ["sh", "-c", "x"], 0x1) = 0
7 <... vfork resumed>) = 8
7 clone3({flags=CLONE_THREAD}, 88) = 9
9 connect(3, {sa_family=AF_INET, sin_port=htons(80), sin_addr=inet_addr("192.0.2.1")}, 16) = -1 EINPROGRESS
8 connect(3, {sa_family=AF_INET6, sin6_port=htons(1), inet_pton(AF_INET6, "::1", &sin6_addr)}, 28) = 0
7 bind(4, {sa_family=AF_INET, sin_port=htons(0), sin_addr=inet_addr("0.0.0.0")}, 16) = 0
7 connect(5, {sa_family=AF_UNIX, sun_path="/x.sock"}, 110) = 0
5 connect(3, {sa_family=AF_INET, sin_port=htons(99), sin_addr=inet_addr("192.0.2.9")}, 16) = 0
9 +++ exited with 0 +++
8 +++ killed by SIGKILL +++
7 +++ exited with 0 +++
5 vfork() = 7
7 execve("/bin/git", ["git"], 0x1) = 0
7 clone(child_stack=NULL, flags=SIGCHLD) = 8
8 +++ exited with 0 +++
7 fork( <unfinished ...>
8 +++ exited with 0 +++
7 <... fork resumed>) = 8
7 fork() = 8
8 connect(3, {sa_family=AF_INET, sin_port=htons(98), sin_addr=inet_addr("192.0.2.9")}, 16) = 0
"""
    found = read(trace.splitlines())
    assert [one[:40] for one in found.wrong(["[::1]:1"])] == [
        "listens: server: bind(4, {sa_family=AF_I",
        "connects: server to 192.0.2.1:80",
        "connects: what the server started to ::1",
        'starts: server starts "/bin/sh", ["sh", ',
    ]
    assert found.processes == {"server": 1}


def test_damaged_models_end_an_engine_at_worst(random_gguf: Path) -> None:
    found = asyncio.run(use_mutated(N_MODELS, random_gguf.read_bytes()))
    assert found.wrong == []
    assert found.ended.total() == N_MODELS
    assert found.ended["done"]  # damaged weights are weights
    assert found.ended["model_invalid"]
