"""`python -m singlepass_backends.engine`: run an engine, or probe the machine and a model file."""

import argparse
import contextlib
import fcntl
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import msgspec
from anyio.abc import SocketListener

from singlepass_backends.base import Target
from singlepass_backends.engine.service import Service
from singlepass_backends.opening import open_backend
from singlepass_backends.runtime_dir import EnginePaths

EXIT_ALREADY_RUNNING = 4
_LOCK_WAIT_S = 10.0
_STOP_S = 60
"""An engine that takes longer to stop is killed: time for a chunk, and for saving the prefix."""

_log = logging.getLogger("singlepass_backends.engine")


def main() -> int:
    """Returns the exit code: 0 stopped or idle, 3 the model cannot be loaded, 4 an engine is already
    running."""
    parser = argparse.ArgumentParser(prog="python -m singlepass_backends.engine", description=__doc__)
    parser.add_argument("--socket", type=Path, help="where to listen; its folder must be private")
    parser.add_argument("--target", help="a backend with a model, as JSON")
    parser.add_argument("--idle-exit", type=float, default=1800.0, help="seconds without requests until exit")
    parser.add_argument("--probe", action="store_true", help="print what is installed and what it would do")
    arguments = parser.parse_args()
    if arguments.probe:
        from singlepass_backends.engine.probe import probe

        target = msgspec.json.decode(arguments.target, type=Target) if arguments.target else Target()
        sys.stdout.write(msgspec.json.encode(probe(target)).decode() + "\n")
        return 0
    if not arguments.socket or not arguments.target:
        parser.error("--socket and --target are needed")
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    target = msgspec.json.decode(arguments.target, type=Target)
    paths = EnginePaths(arguments.socket.absolute())
    lock = _take_lock(paths)
    if lock is None:
        _log.error("another engine serves %s", paths.socket)
        return EXIT_ALREADY_RUNNING
    os.nice(5)  # the editor comes first
    os.chdir("/")
    return anyio.run(_serve, target, paths, arguments.idle_exit)


def _take_lock(paths: EnginePaths) -> int | None:
    """Take the engine's lock for the life of this process; None if another engine has it.

    Waits for an engine that is exiting, which has already removed its socket.
    """
    lock = os.open(paths.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + _LOCK_WAIT_S
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return lock
        except BlockingIOError:
            if _answers(paths.socket) or time.monotonic() > deadline:
                os.close(lock)
                return None
        time.sleep(0.02)


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
        return True


async def _serve(target: Target, paths: EnginePaths, idle_exit_s: float) -> int:
    service = Service(target, open_backend, idle_exit_s)
    code = 0
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        listener = await _listen(paths)
        identity = paths.socket.stat().st_ino
        _log.info("serving %s on %s as process %d", target.model or target.url, paths.socket, os.getpid())

        def on_stopping() -> None:
            _remove(paths.socket, identity)
            signal.alarm(_STOP_S)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_stop_on, signals, service)
            code = await service.run(listener, on_stopping)
            tasks.cancel_scope.cancel()
    return code


async def _stop_on(signals: AsyncIterator[signal.Signals], service: Service) -> None:
    async for _ in signals:
        service.stop()


async def _listen(paths: EnginePaths) -> SocketListener:
    """Bind, replacing the socket of a dead engine: we hold the lock, so no other engine is using it."""
    paths.socket.unlink(missing_ok=True)
    mask = os.umask(0o177)
    try:
        return await anyio.create_unix_listener(paths.socket, backlog=64)
    finally:
        os.umask(mask)


def _remove(path: Path, identity: int) -> None:
    with contextlib.suppress(OSError):
        if path.stat().st_ino == identity:
            path.unlink()


if __name__ == "__main__":
    sys.exit(main())
