"""Servers that other projects ship, with a model of random weights, which also runs in this process."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
from remote import connect
from runtimes import Runtime

N_CTX = 1024
LLAMA_SERVER = os.environ.get("SINGLEPASS_LLAMA_SERVER", "")
"""The path of a llama-server, which is too slow to build for each run of the tests."""
NAMES = ["llama_cpp.server", "mlx_lm.server", *(["llama-server"] if LLAMA_SERVER else [])]

_COUNTED = ("n_forward", "queue_ms", "prefill_ms", "decode_ms")
INFERRED = {
    "llama_cpp.server": ("n_prompt", "n_cached", "n_prefilled", "n_decoded", *_COUNTED),
    "mlx_lm.server": _COUNTED,
    "llama-server": ("n_forward", "queue_ms"),
}
"""What each does not report of a request."""
COUNTING = [name for name in NAMES if "n_cached" not in INFERRED[name]]
"""Those that report the tokens of a prompt, how many of them were cached, and how far a prefill is."""


@dataclass(frozen=True)
class RealServer:
    """A server that runs, and the runtime with its model in this process."""

    name: str
    url: str
    process: psutil.Process
    runtime: Runtime
    home: Path
    """Of Hugging Face, as the server sees it."""

    @property
    def counts(self) -> bool:
        """It is one of `COUNTING`."""
        return self.name in COUNTING

    def n_connections(self) -> int:
        """Clients whose connection the server has not closed."""
        port = int(self.url.rpartition(":")[2])
        found = self.process.net_connections(kind="tcp")
        return sum(one.laddr.port == port and one.status != psutil.CONN_LISTEN for one in found)


@contextmanager
def started(name: str, runtime: Runtime, folder: Path) -> Iterator[RealServer]:
    """The server of that name with the runtime's model, from when it answers on."""
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    model, python = str(runtime.attention), sys.executable
    commands = {
        "llama_cpp.server": [python, "-m", "llama_cpp.server", "--n_ctx", str(N_CTX), "--n_threads", "1"],
        "mlx_lm.server": [python, "-m", "mlx_lm", "server", "--prefill-step-size", "64"],
        "llama-server": [LLAMA_SERVER, "--ctx-size", str(N_CTX), "--threads", "1", "--parallel", "1"],
    }
    command = [*commands[name], "--model", model, "--host", "127.0.0.1", "--port", str(port)]
    if name == "llama-server":
        command += ["--batch-size", "64", "--ubatch-size", "64", "--jinja"]
    home, log = folder / "huggingface", folder / "log"
    (home / "hub").mkdir(parents=True)
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=output,
            env={**os.environ, "HF_HOME": str(home), "HF_HUB_OFFLINE": "1"},
        )
    try:
        end = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < end, log.read_text()
                time.sleep(0.05)
        url = f"http://127.0.0.1:{port}"
        connect(url).close()
        yield RealServer(name, url, psutil.Process(process.pid), runtime, home)
    finally:
        process.terminate()
        process.wait(10)
