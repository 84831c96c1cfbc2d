"""A real Neovim with the plugin, in a home folder of its own, driven over its own RPC.

The programs are found by `SINGLEPASS_NVIM` and `SINGLEPASS_NVIM_OLDEST` (CI sets both), else Neovim from
PATH.
"""

import os
import shutil
import signal
import socket as socketlib
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest

PLUGIN = Path(__file__).parents[1] / "editor-clients" / "neovim"

LEGS = {"newest": "SINGLEPASS_NVIM", "oldest": "SINGLEPASS_NVIM_OLDEST"}
"""The versions the tests run with, each named by an environment variable."""

_TIMEOUT_S = 30.0
_ANSWER_TIMEOUT_S = 60.0
"""For one call. Busy machines are slow, but an editor that waits for a key never answers."""


def find_program(leg: str) -> str:
    """Neovim of one leg. Skips the test where there is none, but fails it in CI, which has to have it."""
    program = os.environ.get(LEGS[leg]) or (shutil.which("nvim") if leg == "newest" else None)
    if program and _is_supported(program):
        return program
    reason = f"no Neovim 0.10 or later; {LEGS[leg]} names one"
    if os.environ.get("SINGLEPASS_CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def _is_supported(program: str) -> bool:
    done = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    words = done.stdout.split()
    return done.returncode == 0 and [int(n) for n in words[1].lstrip("v").split(".")[:2]] >= [0, 10]


class Neovim:
    """One editor. Lua is given as chunks that return a value; lines count from 1."""

    def __init__(self, api: Any, home: Path, process: "subprocess.Popen[bytes]") -> None:
        self.api = api
        self.home = home
        self._process = process

    def call(self, method: str, *arguments: Any) -> Any:
        """Call a function of Neovim's API."""
        with _answering(self._process, f"{method} {arguments}"):
            return self.api.request(method, *arguments)

    def lua(self, code: str, *arguments: Any) -> Any:
        """Run a chunk of Lua."""
        return self.call("nvim_exec_lua", code, arguments)

    def command(self, command: str) -> None:
        """Run an Ex command."""
        self.call("nvim_command", command)

    def keys(self, keys: str) -> None:
        """Press keys, as a user does."""
        self.call("nvim_input", keys)

    def until(self, code: str, *arguments: Any) -> Any:
        """Wait until an expression is true; its value."""
        deadline = time.monotonic() + _TIMEOUT_S
        while not (value := self.lua(f"return {code}", *arguments)):
            assert time.monotonic() < deadline, f"still not: {code}\n{self.messages()}"
            time.sleep(0.01)
        return value

    def messages(self) -> str:
        """What was said to the user."""
        return self.call("nvim_exec2", "messages", {"output": True})["output"]

    def open(self, path: Path) -> int:
        """Edit a file with the server attached; its buffer."""
        self.command(f"edit {path}")
        self.until("vim.lsp.get_clients({ bufnr = 0, name = 'singlepass' })[1] ~= nil")
        return self.lua("return vim.api.nvim_get_current_buf()")

    def text(self, buffer: int = 0) -> str:
        """A buffer's text as it would be written."""
        return "".join(f"{line}\n" for line in self.call("nvim_buf_get_lines", buffer, 0, -1, True))

    def until_text(self, text: str, buffer: int = 0) -> None:
        """Wait until a buffer has this text."""
        deadline = time.monotonic() + _TIMEOUT_S
        while self.text(buffer) != text:
            assert time.monotonic() < deadline, self.text(buffer)
            time.sleep(0.01)

    def ended(self, n_jobs: int = 1) -> dict[str, Any]:
        """Wait until so many jobs have ended here; the timings of the last."""
        self.until(
            f"#SEEN.timings >= {n_jobs} and vim.iter(SEEN.jobs):all(function(_, job) return job.over end)"
        )
        return self.lua("return SEEN.timings[#SEEN.timings]")

    def hunks(self, buffer: int | None = None) -> list[dict[str, Any]]:
        """The hunks in review."""
        if buffer == 0:
            buffer = self.lua("return vim.api.nvim_get_current_buf()")
        return self.lua("return require('singlepass.review').list(...)", *filter(None, [buffer]))

    def until_hunks(self, condition: Callable[[list[dict[str, Any]]], object]) -> list[dict[str, Any]]:
        """Wait until the hunks in review are as they should be."""
        deadline = time.monotonic() + _TIMEOUT_S
        while not condition(hunks := self.hunks()):
            assert time.monotonic() < deadline, f"{hunks}\n{self.messages()}"
            time.sleep(0.01)
        return hunks


@contextmanager
def _answering(process: "subprocess.Popen[bytes]", what: str) -> Iterator[None]:
    """Fail where Neovim does not answer. pynvim has no limit of its own, so the process is ended instead."""
    expired = threading.Event()

    def give_up() -> None:
        expired.set()
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)

    timer = threading.Timer(_ANSWER_TIMEOUT_S, give_up)
    timer.start()
    try:
        yield
    except (OSError, EOFError):
        if expired.is_set():
            pytest.fail(f"Neovim did not answer within {_ANSWER_TIMEOUT_S:.0f} s: {what}")
        raise
    finally:
        timer.cancel()


# Remembers every state and text that the statusline could show, and all timings.
_SPY = """
-- Whether the menu at the cursor has an action.
function _G.offers(title)
  local at = { line = 0, character = 0 }
  local params = {
    textDocument = { uri = vim.uri_from_bufnr(0) },
    range = { start = at, ["end"] = at },
    context = { diagnostics = {} },
  }
  local found = vim.lsp.buf_request_sync(0, "textDocument/codeAction", params, 5000)
  for _, answer in pairs(found or {}) do
    for _, action in ipairs(answer.result or {}) do
      if vim.startswith(action.title, title) then return true end
    end
  end
  return false
end
_G.SEEN = { states = {}, texts = {}, timings = {}, jobs = {} }
vim.api.nvim_create_autocmd("User", {
  pattern = "SinglepassStatus",
  callback = function()
    local text = require("singlepass").status()
    if SEEN.texts[#SEEN.texts] ~= text then
      table.insert(SEEN.texts, text)
    end
  end,
})
vim.api.nvim_create_autocmd("LspAttach", {
  callback = function(event)
    local client = vim.lsp.get_client_by_id(event.data.client_id)
    if client.name ~= "singlepass" or client.is_spied then return end
    client.is_spied = true
    local function spy(method, take)
      local handler = client.handlers[method]
      client.handlers[method] = function(err, params, ctx)
        local result = handler(err, params, ctx)
        take(params)
        return result
      end
    end
    spy("singlepass/timings", function(params) table.insert(SEEN.timings, params) end)
    spy("singlepass/status", function(params)
      table.insert(SEEN.states, params.state)
      if params.job then
        local over = vim.list_contains({ "done", "failed", "cancelled" }, params.state)
        SEEN.jobs[tostring(params.job)] = { over = over }
      end
    end)
  end,
})
"""


def _listens(path: Path) -> bool:
    """The file is there a moment before anybody listens."""
    with socketlib.socket(socketlib.AF_UNIX) as one:
        return one.connect_ex(str(path)) == 0


def running(
    program: str, folder: Path, settings: Mapping[str, Any], options: str = "", after: str = ""
) -> AbstractContextManager[Neovim]:
    """A Neovim whose `init.lua` loads the plugin as the documentation says. `folder` is its working folder,
    `options` more fields of `setup`'s table, in Lua, `after` Lua that runs at last."""
    encoded = msgspec.json.encode(settings).decode()
    command = ", ".join(f'"{word}"' for word in (sys.executable, "-P", "-m", "singlepass", "serve"))
    init = (
        f'vim.opt.rtp:prepend("{PLUGIN}")\n'
        f"require('singlepass').setup({{ cmd = {{ {command} }}, "
        f"settings = vim.json.decode([==[{encoded}]==]), {options} }})\n"
    )
    return running_with(program, folder, init, after=after)


@contextmanager
def running_with(
    program: str,
    folder: Path,
    init: str,
    environment: Mapping[str, str] | None = None,
    home: Path | None = None,
    after: str = "",
) -> Iterator[Neovim]:
    """A Neovim with this `init.lua`."""
    import pynvim

    home = home or folder.parent / f"{folder.name}-home"
    path = home / ".config" / "nvim" / "init.lua"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{init}\n{_SPY}\n{after}\n", encoding="utf-8")
    own = {f"XDG_{name}_HOME": str(home / f".{name.lower()}") for name in ("DATA", "STATE", "CACHE")}
    own |= {"HOME": str(home), "XDG_CONFIG_HOME": str(home / ".config"), "XDG_RUNTIME_DIR": str(home)}
    everything = {**os.environ, **own, **(environment or {})}
    everything.pop("NVIM", None)
    socket = (
        Path(os.environ["SINGLEPASS_RUNTIME_DIR"]).parent / f"n{os.getpid()}-{time.monotonic_ns() % 10**9}"
    )
    process = subprocess.Popen(
        [program, "--headless", "--listen", str(socket), "-i", "NONE", "-n"],
        cwd=folder,
        env=everything,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + _TIMEOUT_S
        while not _listens(socket):
            assert process.poll() is None, f"Neovim ended with {process.returncode}"
            assert time.monotonic() < deadline
            time.sleep(0.01)
        with _answering(process, "the connection"):
            api = pynvim.attach("socket", path=str(socket))
        editor = Neovim(api, home, process)
        try:
            yield editor
        finally:
            with suppress(OSError, EOFError):
                editor.command("qall!")
            api.close()
    finally:
        with suppress(subprocess.TimeoutExpired):
            process.wait(5)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
