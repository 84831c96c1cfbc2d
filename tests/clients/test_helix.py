"""Helix, the real one in a terminal, configured as documented: an action, the comment that asks, undo."""

import fcntl
import json
import os
import pty
import re
import select
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = "".join(f"value_{n} = {n}\n" for n in range(8))
SIMPLE = SOURCE.replace("value_2 = 2", "value_2 = 'simple'").replace("value_4 = 4", "value_4 = 'simple'")
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


def hunk(n: int, new: str) -> str:
    return f"values.py\n<<<<<<< SEARCH\nvalue_{n} = {n}\n=======\nvalue_{n} = {new}\n>>>>>>> REPLACE\n"


def test_helix(helix: str, tmp_path: Path) -> None:
    documented = (ROOT / "editor-clients" / "README.md").read_text(encoding="utf-8")
    configuration = re.search(r"languages\.toml`:\n\n```toml\n(.*?)```", documented, re.DOTALL)
    assert configuration is not None
    folder, home, programs, config = (tmp_path / name for name in ("project", "home", "bin", "config"))
    for path in (folder / ".git", home / ".config" / "helix", programs, config):
        path.mkdir(parents=True)
    (home / ".config" / "helix" / "languages.toml").write_text(configuration[1], encoding="utf-8")
    # The documentation counts on `singlepass` in PATH.
    program = programs / "singlepass"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -P -m singlepass "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    replies = [
        {"when": "say one", "text": [hunk(5, "'one'")]},
        {"when": "Simplify", "text": [hunk(2, "'simple'"), hunk(4, "'simple'")]},
    ]
    recording = tmp_path / "recording.json"
    recording.write_text(json.dumps({"replies": replies}), encoding="utf-8")
    (config / "singlepass.toml").write_text(
        f'[target]\nbackend = "scripted"\nmodel = "{recording}"\n', encoding="utf-8"
    )
    file = folder / "values.py"
    file.write_text(SOURCE, encoding="utf-8")
    folders = {
        f"XDG_{name}_HOME": str(home / f".{name.lower()}") for name in ("CONFIG", "CACHE", "DATA", "STATE")
    }
    environment = {
        **os.environ,
        **folders,
        "HOME": str(home),
        "PATH": f"{programs}:{os.environ['PATH']}",
        "SINGLEPASS_CONFIG_DIR": str(config),
        "TERM": "xterm-256color",
    }

    with running([helix, str(file)], folder, environment) as editor:

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
        asked = SIMPLE.replace("value_5 = 5", "value_5 = 'one'")
        saved(asked)  # and the comment is gone
        editor.keys("u")
        editor.keys("u")
        saved("# AI: say one\n" + SIMPLE)
