"""`singlepass doctor`: what was found, what is missing, and what to do about it."""

import asyncio
import json
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import msgspec
from rich.table import Table
from rich.text import Text
from singlepass_backends.base import DEMO_MODEL, Target
from singlepass_backends.client import engine_status, list_engines

from singlepass import __version__
from singlepass.cli.output import make_console
from singlepass.cli.paths import model_path, say
from singlepass.config import usable_targets, user_file, user_settings
from singlepass.core import report
from singlepass.editor.workspace import UserError

EXIT_USAGE = 2
_PROBE_TIMEOUT_S = 120


def run_doctor(model: Path | None) -> int:
    """Print what was found. Returns 0 if requests can be served, 1 if not, 2 if `model` cannot be read."""
    console = make_console()
    settings, problems = user_settings()
    targets, unusable = usable_targets(settings, problems)
    target = next(iter(targets.values()), Target())
    if model:
        try:
            path = model_path(model)
        except (UserError, OSError) as error:
            console.print(Text(say(error), style="red"), soft_wrap=True)
            return EXIT_USAGE
        target = msgspec.structs.replace(settings.target, backend="llama_cpp", model=str(path))
    is_remote = target.backend == "openai_compatible"
    path = "" if is_remote else target.model
    found, failure = probe(Target() if is_remote else target)
    todo = [f"Settings: {problem}" for problem in problems]
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
        ("GPU", _gpus(found)),
        ("settings", f"{user_file()}{'' if user_file().exists() else ' (does not exist: defaults)'}"),
        ("model", _remote(target) if is_remote else _model(found.get("model"))),
        ("choice", "the server's own" if is_remote else _choice(found.get("choice"))),
        ("engines", asyncio.run(_engines())),
    ):
        table.add_row(Text(name, style="bold"), Text(value, overflow="fold"))
    console.print(table)

    described = found.get("model")
    if is_remote:
        usable = bool(target.url)
        if not usable:
            todo.append("No server is configured. Put its `url` into `[target]`.")
    elif described and described["error"]:
        usable = False
        todo.append(described["error"])
    elif not path:
        usable = False
        todo += (reason for reason in unusable.values() if f"Settings: {reason}" not in todo)
    todo += found.get("todo", [])
    if path == str(DEMO_MODEL):
        todo.append(
            "No model is configured, so the demo model is used, which is only for a first try. Download one "
            'with `singlepass models pull`, or put `[target]` and `model = "/path/to/model.gguf"` '
            f"into {user_file()}."
        )
    for line in todo:
        console.print(Text(f"→ {line}", style="yellow"), soft_wrap=True)
    if usable and not todo:
        console.print(Text("Everything that requests need was found.", style="green"))
    return 0 if usable else 1


def probe(target: Target) -> tuple[dict[str, Any], str]:
    """What a separate process found out about runtimes, machine and model, and an error message ("" if none).
    The process is separate because a broken runtime may crash it."""
    wishes = msgspec.json.encode(target).decode()
    command = [sys.executable, "-P", "-m", "singlepass_backends.engine", "--probe", "--target", wishes]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PROBE_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        return (
            {},
            f"Loading the runtimes took over {_PROBE_TIMEOUT_S} s; the machine may be out of memory.",
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
    build = found["machine"]["llama"]
    kinds = f", built for {', '.join(build['kinds'])}" if build else ""
    return f"llama-cpp-python {found['llama_cpp']}{kinds}"


def _machine(found: dict[str, Any]) -> str:
    if not found:
        return "unknown"
    machine: dict[str, Any] = found["machine"]
    apple: dict[str, Any] = machine["apple"] or {}
    build: dict[str, Any] = machine["llama"] or {}
    parts = [
        str(apple.get("name") or build.get("cpu") or "unknown processor"),
        report.count(machine["n_cores"], "core"),
        f"{gib(machine['ram_bytes'])} of memory, {gib(machine['ram_free_bytes'])} free",
    ]
    return ", ".join(parts)


def _gpus(found: dict[str, Any]) -> str:
    """The GPUs that llama.cpp can use; if there are none, those that exist."""
    if not found:
        return "unknown"
    machine: dict[str, Any] = found["machine"]
    build: dict[str, Any] = machine["llama"] or {}
    devices: list[dict[str, Any]] = build.get("devices", [])
    usable = [
        f"{device['name']}, {gib(device['free_bytes'])} of {gib(device['total_bytes'])} "
        + ("of the machine's memory" if device["is_unified"] else "free")
        for device in devices
    ]
    if usable:
        return "; ".join(usable)
    cards: list[dict[str, Any]] = machine["nvidia"]
    sizes = [f", {gib(card['total_bytes'])}" if card["total_bytes"] else "" for card in cards]
    there = [f"{card['name']}{size}, not usable yet" for card, size in zip(cards, sizes, strict=True)]
    return "; ".join(there) or "none that llama.cpp can use"


def _model(model: dict[str, Any] | None) -> str:
    if model is None:
        return "none configured"
    if model["error"]:
        return f"{model['path']}: cannot be used"
    context = f", trained for {model['n_ctx_train']:,} tokens" if model["n_ctx_train"] else ""
    return f"{model['path']}: {model['architecture']}, {model['size_bytes'] / 2**20:,.0f} MiB{context}"


def _choice(choice: dict[str, Any] | None) -> str:
    """The chosen configuration, and below it the reasons."""
    if choice is None:
        return "none without a model"
    target = choice["target"]
    layers = "no layer" if target["n_gpu_layers"] == 0 else f"n_gpu_layers {target['n_gpu_layers']}"
    takes = [
        f"{gib(choice[kind + '_bytes'])} of {gib(choice[kind + '_budget'])} {where}"
        for kind, where in (("gpu", "on the GPU"), ("ram", "of memory"))
        if choice[kind + "_bytes"]
    ]
    first = (
        f"{choice['backend']}: {layers} on the GPU, n_ctx {target['n_ctx']:,}, KV cache "
        f"{target['kv_cache_type']}, {report.count(target['n_threads'], 'thread')}"
    )
    needs = f"takes about {' and '.join(takes)} that can be used" if takes else ""
    return "\n".join([first, *choice["why"], *([needs] if needs else [])])


def gib(n_bytes: int) -> str:
    """`7.4 GiB`, `512 MiB`."""
    return f"{n_bytes / 2**30:.1f} GiB" if n_bytes >= 2**30 else f"{n_bytes / 2**20:.0f} MiB"


def _remote(target: Target) -> str:
    return f"{target.model or 'the only one'} at {target.url}"


async def _engines() -> str:
    found = [await engine_status(paths) for paths in list_engines()]
    running = [status for status in found if status is not None]
    names = ", ".join(
        f"{status.info.name if status.info else 'loading'} (pid {status.pid})" for status in running
    )
    return names or "none running; the first request starts one"
