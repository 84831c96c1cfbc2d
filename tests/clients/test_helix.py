"""Helix, the real one in a terminal, configured as documented: an action, the comment that asks, undo."""

import fcntl
import os
import pty
import re
import select
import shutil
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from documented import ASKED, README, SIMPLE, prepare

_PATIENCE_S = 60.0
_ESCAPE = "\x1b"
_DOWN = "\x1b[B"


@pytest.fixture
def helix() -> str:
    """Helix; its absence skips the test, but fails it in CI, which has to have it."""
    program = os.environ.get("SINGLEPASS_HELIX") or shutil.which("hx") or shutil.which("helix")
    if program is None:
        (pytest.fail if os.environ.get("SINGLEPASS_CI") else pytest.skip)(
            "no Helix; SINGLEPASS_HELIX names one"
        )
    return program


class Terminal:
    """What a user has of a program in a terminal: keys go in, and what it draws comes out."""

    def __init__(self, process: "subprocess.Popen[bytes]", master: int) -> None:
        self._process = process
        self._master = master
        self.drawn = ""
        """All text since `forget`, without colours and places."""

    def keys(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def forget(self) -> None:
        self.look()
        self.drawn = ""

    def look(self, for_s: float = 0.1) -> str:
        """Read what is drawn for a while; all of it since `forget`."""
        end = time.monotonic() + for_s
        while (left := end - time.monotonic()) > 0:
            if select.select([self._master], [], [], left)[0]:
                try:
                    text = os.read(self._master, 65536).decode(errors="replace")
                except OSError:
                    pytest.fail(f"Helix ended with {self._process.wait()}: {self.drawn[-2000:]}")
                self.drawn += re.sub(r"\x1b(\[[0-9;:?<>=]*[ -/]*[@-~]|[PX^_\]].*?(\x07|\x1b\\)|.)", "", text)
        return self.drawn

    def until(self, what: str, again: Callable[[], object], found: Callable[[], bool]) -> None:
        """Do something again and again, until it is found that it had an effect."""
        end = time.monotonic() + _PATIENCE_S
        while True:
            again()
            for _ in range(20):
                self.look()
                if found():
                    return
            assert time.monotonic() < end, f"still not: {what}\n{self.drawn[-2000:]}"


@contextmanager
def running(command: list[str], folder: Path, environment: dict[str, str]) -> Iterator[Terminal]:
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    process = subprocess.Popen(
        command, cwd=folder, env=environment, stdin=slave, stdout=slave, stderr=slave, start_new_session=True
    )
    os.close(slave)
    try:
        yield Terminal(process, master)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        os.close(master)


def test_helix(helix: str, tmp_path: Path) -> None:
    configuration = re.search(r"languages\.toml`:\n\n```toml\n(.*?)```", README, re.DOTALL)
    assert configuration is not None
    file, home, environment = prepare(tmp_path)
    (home / ".config" / "helix").mkdir(parents=True)
    (home / ".config" / "helix" / "languages.toml").write_text(configuration[1], encoding="utf-8")

    with running([helix, str(file)], file.parent, {**environment, "TERM": "xterm-256color"}) as editor:

        def menu() -> None:
            editor.keys(_ESCAPE)
            editor.look()
            editor.forget()
            editor.keys(" a")

        def choose(title: str) -> None:
            """Of the menu at the cursor the entry after the extractions, which Helix puts first."""
            editor.until(f"{title} in the menu", menu, lambda: title in editor.drawn)
            editor.keys(f"{_DOWN}\r")

        def saved(text: str) -> None:
            def save() -> None:
                editor.keys(_ESCAPE)
                editor.look()
                editor.keys(":w\r")

            editor.until("the text is saved", save, lambda: file.read_text(encoding="utf-8") == text)

        choose("Simplify")
        saved(SIMPLE)
        editor.keys("gg" + "O# AI: say one" + _ESCAPE)
        choose("Do: say one")
        saved(ASKED)  # and the comment is gone
        editor.keys("u")
        editor.keys("u")
        saved("# AI: say one\n" + SIMPLE)
