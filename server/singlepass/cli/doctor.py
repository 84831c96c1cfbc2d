"""`singlepass doctor`: what was found, what is missing, and what to do about it."""

import asyncio
import json
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text
from singlepass_backends.base import Target
from singlepass_backends.client import engine_status, list_engines

from singlepass import __version__
from singlepass.config import load_settings, read_toml, user_file
from singlepass.core import report

_PROBE_TIMEOUT_S = 120


def run_doctor(model: Path | None) -> int:
    """Print what was found; returns 0 when a request could be served, else 1."""
    console = Console(highlight=False)
    values, problems = read_toml(user_file())
    settings, wrong = load_settings([(str(user_file()), values)])
    is_remote = model is None and settings.target.backend == "openai_compatible"
    path = "" if is_remote else str(model or settings.target.model)
    found, failure = _probe(path)
    todo = [f"Settings: {problem}" for problem in (*problems, *wrong)]
    if failure:
        todo.append(failure)
    todo += found.get("errors", [])
    usable = bool(found.get("llama_cpp")) and not failure

    table = Table.grid(padding=(0, 2))
    for name, value in (
        (
            "singlepass",
            f"{__version__} on Python {platform.python_version()}, {platform.platform(terse=True)}",
        ),
        ("server", f"pygls {_version('pygls')}, lsprotocol {_version('lsprotocol')}"),
        ("llama.cpp", _runtime(found)),
        ("constraint", f"llguidance {found['llguidance']}" if found.get("llguidance") else "missing"),
        ("machine", _machine(found)),
        ("settings", f"{user_file()}{'' if user_file().exists() else ' (not there: defaults)'}"),
        ("model", _remote(settings.target) if is_remote else _model(found.get("model"))),
        ("engines", asyncio.run(_engines())),
    ):
        table.add_row(Text(name, style="bold"), Text(value, overflow="fold"))
    console.print(table)

    described = found.get("model")
    if is_remote:
        usable = bool(settings.target.url)
        if not usable:
            todo.append("No server is configured. Put its `url` into `[target]`.")
    elif not path:
        usable = False
        todo.append(
            f'No model is configured. Put `[target]` and `model = "/path/to/model.gguf"` into {user_file()}, '
            "or try `singlepass demo`, which needs none."
        )
    elif described and described["error"]:
        usable = False
        todo.append(described["error"])
    if found.get("llama_cpp") and not found.get("gpu_offload") and _has_gpu():
        todo.append(
            "There is a GPU, but the installed llama-cpp-python was built without support for it. See "
            "“Prebuilt wheels” in the README."
        )
    for line in todo:
        console.print(Text(f"→ {line}", style="yellow"), soft_wrap=True)
    if usable and not todo:
        console.print(Text("Everything a request needs is here.", style="green"))
    return 0 if usable else 1


def _probe(model: str) -> tuple[dict[str, Any], str]:
    """What a process of its own finds; a runtime that crashes takes only that process along."""
    command = [sys.executable, "-P", "-m", "singlepass_backends.engine", "--probe", model]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PROBE_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        return (
            {},
            f"Looking at the runtimes took over {_PROBE_TIMEOUT_S} s; the machine may be out of memory.",
        )
    try:
        return json.loads(done.stdout), ""
    except json.JSONDecodeError:
        last = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        return {}, f"Loading the runtimes failed: {last[0]}. Reinstall llama-cpp-python."


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "missing"


def _runtime(found: dict[str, Any]) -> str:
    if not found.get("llama_cpp"):
        return "missing"
    gpu = "can use a GPU" if found["gpu_offload"] else "CPU only"
    devices = ", ".join(found["devices"])
    return f"llama-cpp-python {found['llama_cpp']}, {gpu}" + (f": {devices}" if devices else "")


def _machine(found: dict[str, Any]) -> str:
    if not found:
        return "unknown"
    gib = 2**30
    return (
        f"{report.count(found['n_cores'], 'core')}, {found['ram_bytes'] / gib:.0f} GiB of memory, "
        f"{found['ram_free_bytes'] / gib:.0f} GiB free"
    )


def _model(model: dict[str, Any] | None) -> str:
    if model is None:
        return "none configured"
    if model["error"]:
        return f"{model['path']}: cannot be used"
    trained = model["metadata"].get(f"{model['architecture']}.context_length")
    context = f", trained for {trained:,} tokens" if trained else ""
    return f"{model['path']}: {model['architecture']}, {model['size_bytes'] / 2**20:,.0f} MiB{context}"


def _remote(target: Target) -> str:
    return f"{target.model or 'the only one'} at {target.url}"


async def _engines() -> str:
    found = [await engine_status(paths) for paths in list_engines()]
    running = [status for status in found if status is not None]
    names = ", ".join(
        f"{status.info.name if status.info else 'loading'} (pid {status.pid})" for status in running
    )
    return names or "none running; the first request starts one"


def _has_gpu() -> bool:
    """Whether this machine has a GPU that llama.cpp could be built for."""
    return Path("/proc/driver/nvidia/version").exists() or (
        sys.platform == "darwin" and platform.machine() == "arm64"
    )
