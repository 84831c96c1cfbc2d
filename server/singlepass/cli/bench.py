"""`singlepass bench`: prefill and decode rates of a target for several prompt lengths, through the engine."""

import asyncio
import time
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text
from singlepass_backends.base import BackendError, Target
from singlepass_backends.client import EngineClient, engine_status, list_engines
from singlepass_backends.machine.facts import Machine, ModelFacts
from singlepass_backends.machine.fit import choose
from singlepass_backends.models.offer import machine_from

from singlepass.cli.bars import bar
from singlepass.cli.doctor import probe
from singlepass.cli.models import EXIT_FAILED, EXIT_STOPPED, EXIT_USAGE
from singlepass.cli.output import make_console, print_json
from singlepass.cli.paths import model_path
from singlepass.cli.svg import line_chart, write_chart
from singlepass.cli.this_machine import described
from singlepass.config import DEFAULT, DEMO, usable_targets, user_settings
from singlepass.core import report
from singlepass.editor.workspace import UserError
from singlepass.engines.targets import rates_key
from singlepass.measuring import rates, runs
from singlepass.measuring.rates import N_ROOM, Result, Row, Spread

_BAR_CELLS = 20


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """The options of the command."""

    target: str = ""
    model: Path | None = None
    depths: tuple[int, ...] = ()
    """Depths to measure; empty for the default ones that fit."""
    n_runs: int = 3
    n_reply: int = rates.N_REPLY
    resume: bool = False
    plot: Path | None = None
    as_json: bool = False


def run_bench(asked: Asked) -> int:
    """Measure, save and print the rates; returns the exit code."""
    console = make_console(stderr=asked.as_json)
    drawing = _Drawing(console)
    try:
        result = asyncio.run(_measure(asked, drawing))
        if asked.plot:
            write_chart(asked.plot, chart(result))
    except (UserError, BackendError, OSError) as error:
        console.print(Text(str(error), style="red"), soft_wrap=True)
        return EXIT_FAILED if isinstance(error, BackendError) else EXIT_USAGE
    except KeyboardInterrupt:
        console.print(
            "Stopped. Finished runs are saved; `singlepass bench --resume` continues.", soft_wrap=True
        )
        return EXIT_STOPPED
    if asked.as_json:
        print_result_as_json(result)
    else:
        print_result(result, console)
        console.print(Text(f"saved: {runs.result_path(result)}", style="dim"), soft_wrap=True)
    return 0


async def _measure(asked: Asked, drawing: "_Drawing") -> Result:
    """The result with all its runs. Raises UserError, BackendError, OSError."""
    target = _target(asked)
    key = rates_key(target)
    earlier = _unfinished(key) if asked.resume else None
    wanted = earlier.depths if earlier else asked.depths or rates.DEPTHS
    target, depths, machine, notes = await asyncio.to_thread(_fitting, target, wanted)
    client = EngineClient(target)
    try:
        was_running = await client.status() is not None
        others = [status for paths in list_engines() if (status := await engine_status(paths))]
        if others and not was_running:
            names = ", ".join(status.info.name if status.info else "a model" for status in others)
            notes.append(
                f"another engine was running ({names}) and may have slowed it down; `singlepass engine "
                "stop` ends it"
            )
        info = await client.connect()
        # `n_ctx` is 0 if a remote server does not report its context.
        depths = [depth for depth in depths if not info.n_ctx or depth + N_ROOM <= info.n_ctx]
        if not depths:
            raise UserError(
                f"No depth fits into a context of {info.n_ctx:,} tokens. Give smaller --depths, or a "
                "larger `n_ctx`."
            )
        result = earlier or runs.new_result(
            *(target, key, info, machine),
            depths=depths,
            n_runs=asked.n_runs,
            n_reply=asked.n_reply,
            notes=notes,
        )
        try:
            with drawing:
                drawing.update(result, depths[0], 0.0)
                return await runs.Bench(client, drawing.update).run(result, drawing.saved)
        finally:
            if not was_running:
                await client.stop()
    finally:
        await client.aclose()


def _target(asked: Asked) -> Target:
    """The target to measure. Raises UserError if it does not exist or cannot be used."""
    if asked.model is not None:
        return Target(model=str(model_path(asked.model)))
    named, unusable = usable_targets(*user_settings())
    wanted = asked.target or (DEMO if DEMO in named else DEFAULT)
    if reason := unusable.get(wanted, "" if named else " ".join(unusable.values())):
        raise UserError(f"The target {wanted!r} cannot be used. {reason}")
    if wanted not in named:
        raise UserError(
            f"There is no target {wanted!r}. There are: {', '.join(named)}. Or give --model PATH."
        )
    return named[wanted]


def _unfinished(key: str) -> Result:
    found = next(
        (one for _, one in reversed(runs.saved()) if one.target == key and not one.is_complete), None
    )
    if found is None:
        raise UserError(f"There is no unfinished benchmark of {key}.")
    return found


def _fitting(
    target: Target, depths: tuple[int, ...]
) -> tuple[Target, list[int], dict[str, str | int | float], list[str]]:
    """The target with a context for the deepest run, the depths that fit, the machine, and notes about what
    was left out. Raises UserError if no depth fits."""
    is_remote = target.backend == "openai_compatible"
    found, failure = probe(Target() if is_remote else target)
    machine = machine_from(found.get("machine"))
    model: dict[str, Any] = found.get("model") or {}
    if model.get("error"):
        raise UserError(str(model["error"]))
    notes = [failure] if failure else []
    kept = sorted({*depths})
    if model.get("facts") and machine is not None:
        facts = msgspec.convert(model["facts"], ModelFacts)
        fitting = [depth for depth in kept if _fits(machine, facts, target, depth)]
        if left := [depth for depth in kept if depth not in fitting]:
            listed = ", ".join(f"{depth:,}" for depth in left)
            notes.append(f"left out: {listed} tokens, because memory or the model's context is too small")
        kept = fitting
        if not kept:
            raise UserError("No depth fits: " + "; ".join(notes) + ".")
        target = msgspec.structs.replace(target, n_ctx=target.n_ctx or kept[-1] + N_ROOM)
    return target, kept, described(machine), notes


def _fits(machine: Machine, facts: ModelFacts, target: Target, depth: int) -> bool:
    n_ctx = depth + N_ROOM
    if (facts.n_ctx_train and n_ctx > facts.n_ctx_train) or (target.n_ctx and n_ctx > target.n_ctx):
        return False
    return choose(machine, facts, msgspec.structs.replace(target, n_ctx=n_ctx)).fits


# Progress.


class _Drawing:
    """On a terminal a bar with the remaining time; otherwise a line for each run."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}% · {task.fields[left]}"),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )
        self._task = self._bar.add_task("loading", total=1.0, left="")
        self._started = time.monotonic()

    def __enter__(self) -> "_Drawing":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def update(self, result: Result, depth: int, share: float) -> None:
        """`share` (0 to 1) of the prompt of the current run, which is at `depth`, is prefilled."""
        left = rates.remaining(result)
        n_all = sum(result.depths) * result.n_runs
        n_done = n_all - sum(left) + share * depth
        self._bar.update(
            self._task,
            description=f"{depth:,} tokens, run {len(result.runs) + 1} of {len(result.runs) + len(left)}",
            completed=n_done / n_all if n_all else 1.0,
            left=_left(rates.left_s(result, depth, share)),
        )

    def saved(self, result: Result) -> None:
        """Save the result after a finished run."""
        runs.save(result)
        run = result.runs[-1]
        if not self._console.is_terminal:
            self._console.print(
                f"{run.depth:,} tokens: prefill {run.prefill_rate:,.0f} tok/s, decode {run.decode_rate:,.1f} "
                f"tok/s; {_left(rates.left_s(result))}",
                soft_wrap=True,
            )


def _left(seconds: float | None) -> str:
    if seconds is None:
        return "time left: not known yet"
    return f"about {report.seconds(seconds * 1000)} left" if seconds else "done"


# Results.


def print_result_as_json(result: Result) -> None:
    """Print the result and its summary by depth as JSON."""
    told = {**msgspec.to_builtins(result), "rows": msgspec.to_builtins(rates.rows(result))}
    print_json(told)


def print_result(result: Result, console: Console) -> None:
    """Print a table, with a bar for each prefill rate."""
    machine = result.machine
    where = ", ".join(str(machine[name]) for name in ("cpu", "gpus") if machine.get(name))
    console.print(
        f"{result.target} on {machine.get('device', '?')} ({where or 'unknown machine'})", soft_wrap=True
    )
    found = rates.rows(result)
    table = Table(box=None, padding=(0, 2), pad_edge=False)
    for name in ("prompt", "runs", "prefill", "±", "decode", "±", "first token"):
        table.add_column(name, justify="right")
    table.add_column("prefill rate")
    most = max((row.prefill.median for row in found), default=0.0)
    for row in found:
        table.add_row(*_cells(row), bar(row.prefill.median, most, _BAR_CELLS))
    console.print(table)
    for note in result.notes:
        console.print(Text(note, style="yellow"), soft_wrap=True)
    if not result.is_complete:
        console.print(
            Text("Unfinished; `singlepass bench --resume` continues.", style="yellow"), soft_wrap=True
        )


def chart(result: Result) -> str:
    """Prefill rate by prompt length (median, fastest and slowest run), as SVG."""
    found = rates.rows(result)
    return line_chart(
        f"{result.target}: prefill rate by prompt length",
        [f"{row.depth:,}" for row in found],
        {
            "median": [row.prefill.median for row in found],
            "fastest run": [row.prefill.most for row in found],
            "slowest run": [row.prefill.least for row in found],
        },
        "tok/s",
    )


def _cells(row: Row) -> tuple[str, ...]:
    return (
        f"{row.depth:,}",
        str(row.n_runs),
        f"{row.prefill.median:,.0f} tok/s",
        _around(row.prefill),
        f"{row.decode.median:,.1f} tok/s",
        _around(row.decode),
        report.seconds(row.ttft_ms.median),
    )


def _around(spread: Spread) -> str:
    """Half of the range between minimum and maximum, as a share of the median."""
    return f"{spread.share / 2:.1%}"
