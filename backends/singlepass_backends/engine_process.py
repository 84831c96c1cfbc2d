"""Starts engine processes, which outlive their starter, and reports how they ended."""

import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import anyio
import msgspec

from singlepass_backends.base import BackendError, Target
from singlepass_backends.runtime_dir import ENVIRONMENT_VARIABLE, EnginePaths

POLL_S = 0.02
"""Seconds between two polls of a process or a lock."""
_MAX_LOG_BYTES = 1_000_000

_children: list["subprocess.Popen[bytes]"] = []
"""Engines that this process started and has not yet reaped."""


def start(target: Target, paths: EnginePaths, idle_exit_s: float) -> "subprocess.Popen[bytes]":
    """Start an engine that outlives this process."""
    # -P: do not run a folder with this package's name in the editor's working folder.
    command = [sys.executable, "-P", "-m", "singlepass_backends.engine"]
    command += ["--socket", str(paths.socket), "--target", msgspec.json.encode(target).decode()]
    command += ["--idle-exit", str(idle_exit_s)]
    if paths.log.exists() and paths.log.stat().st_size > _MAX_LOG_BYTES:
        paths.log.replace(paths.log.with_suffix(".log.1"))
    log = open_private(paths.log, os.O_WRONLY | os.O_APPEND)
    try:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    except OSError as error:
        raise BackendError("engine_start_failed", f"The engine cannot be started: {error}.") from None
    finally:
        os.close(log)
    _children.append(process)
    return process


def open_private(path: Path, flags: int) -> int:
    """Open a file in the runtime folder, created if necessary. Raises BackendError `engine_start_failed`."""
    try:
        return os.open(path, flags | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise BackendError(
            "engine_start_failed",
            f"The engine cannot be started: {path} cannot be written: {error.strerror}. Make room there, or "
            f"set {ENVIRONMENT_VARIABLE} to another folder.",
        ) from None


def try_lock(lock: int) -> bool:
    """Take the lock on an open file; False if another process has it."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def reap() -> None:
    """Reap engines that have ended, so that they do not remain as zombies."""
    _children[:] = [child for child in _children if child.poll() is None]


def is_child(pid: int) -> bool:
    """Whether this process started the engine `pid` and has not reaped it."""
    return any(child.pid == pid for child in _children)


async def end_of(pid: int) -> str:
    """How the process ended; exact only if this process started it."""
    for child in _children:
        if child.pid == pid:
            for _ in range(50):
                if (code := child.poll()) is not None:
                    return ending(code)
                await anyio.sleep(POLL_S)
    return "died"


def ending(code: int) -> str:
    """How a process ended, from its `returncode`, with advice if there is any."""
    if code >= 0:
        return f"exited with code {code}"
    hint = " (an instruction this processor lacks; set `repack` to false)" if -code == signal.SIGILL else ""
    return f"was killed by {signal.Signals(-code).name}{hint}"


def start_failed(paths: EnginePaths, what: str) -> BackendError:
    """The error for an engine that does not start, with the end of its log."""
    lines: list[str] = []
    if paths.log.exists():
        lines = paths.log.read_text(errors="replace").splitlines()[-5:]
    tail = "".join(f"\n  {line}" for line in lines)
    return BackendError(
        "engine_start_failed",
        f"The engine {what}. The end of its log {paths.log}:{tail}",
        {"log": str(paths.log), "lines": lines},
    )
