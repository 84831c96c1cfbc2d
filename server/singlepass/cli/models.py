"""`singlepass models`: lists recommended models, downloads them, and puts them into the settings."""

import json
import signal
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.text import Text
from singlepass_backends.base import Target
from singlepass_backends.machine.facts import Machine
from singlepass_backends.models import folder as folders
from singlepass_backends.models.catalogue import Entry, Format, catalogue
from singlepass_backends.models.files import PullError
from singlepass_backends.models.offer import Offer, format_for, machine_from, offer, offer_of

from singlepass.cli.doctor import gib, probe
from singlepass.cli.output import make_console, print_json
from singlepass.cli.settings_file import SettingsError, SettingsFile
from singlepass.config import user_file

EXIT_FAILED, EXIT_USAGE, EXIT_STOPPED = 1, 2, 130
_LEAST_N_CTX = 4096
"""Context length in tokens that a downloaded model must fit with; with less it is of little use."""
_STEP_PERCENT = 10

FormatName = Literal["auto", "gguf", "mlx"]


def list_models(n_ctx: int, format: FormatName, *, as_json: bool) -> int:
    """Print the catalogue and what fits this machine; returns the exit code. Needs no network."""
    console = make_console()
    found, failure = probe(Target())
    machine = machine_from(found.get("machine"))
    wanted = format_for(machine) if format == "auto" else format
    offers = [_offer(entry, machine, n_ctx, wanted) for entry in catalogue().models]
    if as_json:
        described = {
            "checked": catalogue().checked.isoformat(),
            "n_ctx": n_ctx,
            "folder": str(folders.models_dir()),
            "models": [_as_json(one) for one in offers],
        }
        print_json(described)
        return 0
    _print_list(offers, n_ctx, console)
    notes = [
        "Memory: weights and a KV cache with 16 bits per value. Sizes are estimates until a model is",
        "downloaded (✓). For another context length: --n-ctx N. Model data and licences as of "
        f"{catalogue().checked.isoformat()}.",
        f"`singlepass models pull NAME` downloads a model to {folders.models_dir()}",
    ]
    if failure:
        notes.insert(0, f"Whether a model fits is unknown: {failure}")
    for note in notes:
        console.print(note, soft_wrap=True, style="dim")
    return 0


def pull_model(name: str, format: FormatName, *, force: bool, keep_settings: bool) -> int:
    """Download and verify a model, and add it to the settings; returns the exit code."""
    console = make_console()
    try:
        # Before the download, so that an error in the settings file is reported at once.
        settings = None if keep_settings else SettingsFile(user_file())
        entry = _find(name)
        machine = machine_from(probe(Target())[0].get("machine"))
        wanted = _format(entry, format_for(machine) if format == "auto" else format)
        expected = offer(entry, machine, _LEAST_N_CTX, wanted)
        if expected.place == "none" and not force:
            raise PullError(f"{expected.why_not} To download it anyway: --force")
        console.print(f"{entry.title}, {_source(entry, wanted)}\nlicence: {_licence(entry)}", soft_wrap=True)
        with _interruptible():
            path, real, is_new = _pull(entry, wanted, console)
    except (PullError, SettingsError) as error:
        console.print(Text(str(error), style="red"), soft_wrap=True)
        return EXIT_USAGE if isinstance(error, SettingsError) else EXIT_FAILED
    except KeyboardInterrupt:
        console.print(
            f"Stopped. What was downloaded is kept: `singlepass models pull {name}` resumes.", soft_wrap=True
        )
        return EXIT_STOPPED
    console.print(f"{'downloaded and verified' if is_new else 'already downloaded'}: {path}", soft_wrap=True)
    here = offer_of(entry, real, machine, _LEAST_N_CTX)
    if here.place == "none":
        console.print(Text(here.why_not, style="yellow"), soft_wrap=True)
    try:
        return _settle(settings, entry, path, console) if settings else 0
    except SettingsError as error:
        console.print(Text(str(error), style="red"), soft_wrap=True)
        return EXIT_FAILED


def use_model(name: str, format: FormatName) -> int:
    """Make a downloaded model the default target; returns the exit code. Needs no network."""
    console = make_console()
    try:
        entry = _find(name)
        formats: tuple[Format, ...] = ("mlx", "gguf") if format == "auto" else (format,)
        paths = [path for one in formats if (path := folders.pulled(entry, one))]
        if not paths:
            raise PullError(f"{entry.name} is not downloaded yet: singlepass models pull {entry.name}")
        if len(paths) > 1:
            raise PullError(
                f"{entry.name} is downloaded in both formats. Choose one: --format gguf or --format mlx"
            )
        settings = SettingsFile(user_file())
        was = settings.make_default(entry.name, str(paths[0]))
    except (PullError, SettingsError) as error:
        console.print(Text(str(error), style="red"), soft_wrap=True)
        return EXIT_USAGE
    console.print(f"{entry.name} is now the default target, in {settings.path}", soft_wrap=True)
    _say_what_was(was, "target", console)
    return 0


def _settle(settings: SettingsFile, entry: Entry, path: Path, console: Console) -> int:
    """Make the model the default target if there is none, otherwise an additional target."""
    default = settings.default
    if not default or default.get("model") == str(path):
        settings.make_default(entry.name, str(path))
        console.print(f"It is the default target, in {settings.path}", soft_wrap=True)
        return 0
    was = settings.add(entry.name, str(path))
    console.print(
        f'It is now the target "{entry.name}", in {settings.path}. The default target is still '
        f"{default.get('model') or default.get('url')}; to change it: singlepass models use {entry.name}",
        soft_wrap=True,
    )
    _say_what_was(was, f"targets.{entry.name}", console)
    return 0


def _say_what_was(was: dict[str, Any], table: str, console: Console) -> None:
    if was:
        values = ", ".join(f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in was.items())
        console.print(f"[{table}] was: {values}", soft_wrap=True)


def _offer(entry: Entry, machine: Machine | None, n_ctx: int, format: Format) -> Offer:
    """What a model needs, computed from its files if they are downloaded, otherwise from the catalogue."""
    path = folders.pulled(entry, _format(entry, format))
    facts = folders.pulled_facts(path) if path else None
    return offer_of(entry, facts, machine, n_ctx) if facts else offer(entry, machine, n_ctx, format)


def _find(name: str) -> Entry:
    entry = catalogue().find(name)
    if entry is None:
        similar = catalogue().similar(name)
        hint = f"Did you mean {' or '.join(similar)}?" if similar else "`singlepass models` lists all names."
        raise PullError(f"The catalogue has no {name!r}. {hint}")
    return entry


def _format(entry: Entry, format: Format) -> Format:
    return format if entry.mlx or format == "gguf" else "gguf"


def _source(entry: Entry, format: Format) -> str:
    return entry.mlx.repo if format == "mlx" and entry.mlx else f"{entry.gguf.repo}: {entry.gguf.file}"


def _licence(entry: Entry) -> str:
    return entry.licence + ("" if entry.commercial else ", not for commercial use")


# Downloading.


def _pull(entry: Entry, format: Format, console: Console) -> tuple[Path, Any, bool]:
    from singlepass_backends.models.hub import Hub
    from singlepass_backends.models.pull import pull

    with Hub.from_environment() as hub, _Progress(console) as progress:
        done = pull(hub, entry, format, progress)
    return done.path, done.facts, done.is_new


class _Progress:
    """On a terminal a progress bar; otherwise a line for every tenth of the download."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(binary_units=True),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("connecting", total=None)
        self._percent = -_STEP_PERCENT
        self._waits = ""

    def __enter__(self) -> "_Progress":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def __call__(self, stage: str, what: str, n_done: int, n_total: int) -> None:
        doing = {"check": "verifying", "wait": "waiting"}.get(stage, "downloading")
        self._bar.update(self._task, description=doing, completed=n_done, total=n_total)
        if stage == "wait" and what != self._waits:
            self._waits = what
            self._console.print(f"trying again: {what}", soft_wrap=True)
        percent = 100 * n_done // max(1, n_total)
        if not self._console.is_terminal and percent >= self._percent + _STEP_PERCENT:
            self._percent = percent - percent % _STEP_PERCENT
            self._console.print(f"{doing}: {percent}% of {gib(n_total)}")


@contextmanager
def _interruptible() -> Generator[None]:
    """Make SIGINT and SIGTERM raise KeyboardInterrupt, even if they were ignored when the command started."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


# The list.


def _print_list(offers: list[Offer], n_ctx: int, console: Console) -> None:
    """Two lines for each model: numbers in columns, then licence and purpose."""
    rows = [("name", "weights", "size", f"with {n_ctx:,} tokens", "runs on")]
    for one in offers:
        is_here = folders.pulled(one.entry, one.format) is not None
        memory = gib(one.memory_bytes) + ("" if one.n_ctx >= n_ctx else f" ({one.n_ctx:,})")
        name = one.entry.name + (" ✓" if is_here else "")
        rows.append(
            (
                name,
                _parameters(one.entry),
                f"{'~' if one.is_estimate else ''}{gib(one.size_bytes)}",
                memory,
                _place(one),
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row, one in zip(rows, [None, *offers], strict=True):
        cells = [
            cell.ljust(width) if n in (0, 4) else cell.rjust(width)
            for n, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        style = "bold" if one is None else "" if one.place in ("gpu", "part", "cpu", "unknown") else "dim"
        console.print(Text("  ".join(cells).rstrip(), style=style), soft_wrap=True)
        if one is not None:
            use = Text(f"    {_licence(one.entry)}", style="dim" if one.entry.commercial else "yellow")
            measured = f"; measured: {one.entry.measured}" if one.entry.measured else ""
            console.print(use.append(f": {one.entry.good_for}{measured}", style="dim"), soft_wrap=True)


def _parameters(entry: Entry) -> str:
    """`7.62B`; `30.5B-A3.3B` for a mixture of experts of which 3.3 billion parameters are active per
    token."""
    return f"{entry.parameters:.3g}B" + (f"-A{entry.active:.2g}B" if entry.active else "")


def _place(one: Offer) -> str:
    places = {"gpu": "GPU", "cpu": "processor", "none": "too large", "unknown": "?"}
    where = places.get(one.place) or f"GPU {one.n_gpu_layers}/{one.entry.n_layer}"
    return f"{where}, MLX" if one.format == "mlx" and one.place == "gpu" else where


def _as_json(one: Offer) -> dict[str, Any]:
    entry = one.entry
    path = folders.pulled(entry, one.format)
    return {
        "name": entry.name,
        "title": entry.title,
        "licence": entry.licence,
        "commercial": entry.commercial,
        "good_for": entry.good_for,
        "measured": entry.measured or None,
        "parameters": round(entry.parameters * 1e9),
        "active_parameters": round((entry.active or entry.parameters) * 1e9),
        "format": one.format,
        "repo": entry.mlx.repo if one.format == "mlx" and entry.mlx else entry.gguf.repo,
        "file": entry.gguf.file if one.format == "gguf" else None,
        "n_ctx": one.n_ctx,
        "n_ctx_train": entry.n_ctx,
        "is_estimate": one.is_estimate,
        "size_bytes": one.size_bytes,
        "kv_cache_bytes": one.cache_bytes,
        "memory_bytes": one.memory_bytes,
        "place": one.place,
        "n_gpu_layers": one.n_gpu_layers if one.place in ("gpu", "part") else 0,
        "kv_cache_type": one.kv_cache_type or None,
        "why_not": one.why_not or None,
        "path": str(path) if path else None,
        "source": entry.source,
    }
