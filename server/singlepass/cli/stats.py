"""`singlepass stats`: summaries of the requests on this machine, as tables, JSON or CSV."""

import csv
import datetime
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from singlepass.cli.bars import bar
from singlepass.cli.output import make_console, print_json
from singlepass.cli.paths import real_path
from singlepass.cli.svg import line_chart, write_chart
from singlepass.core import report
from singlepass.stats.history import history_path
from singlepass.stats.history_file import HistoryError, clear, read
from singlepass.stats.record import Record
from singlepass.stats.statistics import BYS, By, Spread, Summary, grouped, summarise
from singlepass.stats.statistics import report as as_json

EXIT_FAILED = 1
_DAY_S = 86_400
_BAR_CELLS = 24
_CSV = (
    *("id", "day", "at", "repository", "target", "model", "backend", "device", "kind", "outcome"),
    *("finish_reason", "error", "estimate_ms", "connect_ms", "queue_ms", "prefill_ms", "ttft_ms"),
    *("decode_ms", "total_ms", "n_prompt", "n_cached", "n_prefilled", "n_decoded", "n_forced"),
    *("n_accepted", "miss", "n_missed", "n_hunks", "n_applied", "n_unchanged", "n_edits", "rejected"),
    *("n_kept", "n_undone", "n_changed"),
)
"""The columns of --csv, in this order, whatever fields records have."""

Output = Literal["table", "json", "csv"]


def run_stats(
    days: int,
    by: Sequence[By],
    repository: Path | None,
    target: str,
    output: Output,
    plot: Path | None = None,
) -> int:
    """Print the requests of the last `days` days (0 means all); returns the exit code."""
    console = make_console()
    try:
        records = read(history_path(), time.time() - days * _DAY_S if days else 0.0)
    except HistoryError as error:
        console.print(Text(str(error), style="red"), soft_wrap=True)
        return EXIT_FAILED
    folder = str(real_path(repository)) if repository else ""
    records = [
        one
        for one in records
        if (not folder or one.repository == folder) and (not target or target in (one.target, one.model))
    ]
    if plot:
        try:
            write_chart(plot, chart(records))
        except OSError as error:
            console.print(Text(f"{plot} cannot be written: {error.strerror}.", style="red"), soft_wrap=True)
            return EXIT_FAILED
    if output == "json":
        print_json({"days": days, **as_json(records, by or BYS)})
    elif output == "csv":
        _print_csv(records)
    elif not records:
        console.print(_nothing(days), soft_wrap=True)
    else:
        _print_summary(summarise(records), records, console)
        for one in by or ("target", "day"):
            _print_groups(one, records, console)
    return 0


def chart(records: Sequence[Record]) -> str:
    """The time to first token by day, median and 90th percentile, as SVG."""
    groups = {day: summarise(group).ttft_ms for day, group in grouped(records, "day").items()}
    return line_chart(
        "Time to first token",
        [*groups],
        {
            "median": [spread and spread.median / 1000 for spread in groups.values()],
            "9 of 10": [spread and spread.p90 / 1000 for spread in groups.values()],
        },
        "s",
    )


def clear_stats() -> int:
    """Delete the history; returns the exit code."""
    console = make_console()
    path = history_path()
    try:
        was_there = clear(path)
    except OSError as error:
        console.print(Text(f"{path} cannot be deleted: {error.strerror}.", style="red"), soft_wrap=True)
        return EXIT_FAILED
    console.print(f"deleted: {path}" if was_there else "There was no history.", soft_wrap=True)
    return 0


def _nothing(days: int) -> str:
    when = f" in the last {days} days" if days else ""
    return (
        f"There are no requests{when} in {history_path()}. The setting `stats = false` turns the history off."
    )


def _print_csv(records: Sequence[Record]) -> None:
    """One line for each request; the reasons of rejected hunks are JSON."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(_CSV)
    for one in records:
        values = msgspec.structs.asdict(one.timings) | msgspec.structs.asdict(one)
        values["rejected"] = json.dumps(one.rejected)
        writer.writerow(["" if values[name] is None else values[name] for name in _CSV])


def _print_summary(summary: Summary, records: Sequence[Record], console: Console) -> None:
    outcomes = ", ".join(f"{n:,} {outcome}" for outcome, n in summary.outcomes.items())
    first, last = (datetime.date.fromisoformat(one.day) for one in (records[0], records[-1]))
    console.print(f"{report.count(summary.n, 'request')}, {first} to {last}: {outcomes}", soft_wrap=True)
    table = Table(box=None, padding=(0, 2), pad_edge=False)
    for name in ("", "median", "9 of 10", "99 of 100"):
        table.add_column(name, justify="right" if name else "left")
    for name, spread in (
        ("first token", summary.ttft_ms),
        ("prefill", summary.prefill_ms),
        ("total", summary.total_ms),
    ):
        if spread:
            table.add_row(name, *(report.seconds(one) for one in _of(spread)))
    if summary.cached_share:
        table.add_row("cached, at least", *(f"{one:.1%}" for one in _of(summary.cached_share)))
    if summary.estimate_error:
        table.add_row("estimate off by", *(f"{one:.0%}" for one in _of(summary.estimate_error)))
    console.print(table)
    for line in _sentences(summary):
        console.print(line, soft_wrap=True)


def _of(spread: Spread) -> tuple[float, float, float]:
    return spread.median, spread.p90, spread.p99


def _sentences(summary: Summary) -> list[str]:
    lines: list[str] = []
    rates = [
        f"{name} {rate:,.0f} tok/s"
        for name, rate in (("prefill", summary.prefill_rate), ("decode", summary.decode_rate))
        if rate
    ]
    if rates:
        lines.append(", ".join(rates))
    n_done = summary.outcomes.get("done", 0)
    if summary.misses:
        n = sum(summary.misses.values())
        lines.append(f"context read after the click in {n:,} of {n_done:,}: {_listed(summary.misses)}")
    if summary.n_hunks or summary.rejected:
        n = sum(summary.rejected.values())
        why = f" ({_listed(summary.rejected)})" if n else ""
        lines.append(f"hunks: {summary.n_applied:,} applied, {n:,} rejected{why}")
    if summary.n_edits:
        n_open = summary.n_edits - summary.n_kept - summary.n_undone - summary.n_changed
        lines.append(
            f"edits: {summary.n_edits:,} written, {summary.n_kept:,} kept, {summary.n_undone:,} undone, "
            f"{summary.n_changed:,} changed by hand, {max(0, n_open):,} neither"
        )
    return lines


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {n:,}" for name, n in counts.items())


def _print_groups(by: By, records: Sequence[Record], console: Console) -> None:
    groups = {name: summarise(group) for name, group in grouped(records, by).items()}
    slowest = max((one.ttft_ms.median for one in groups.values() if one.ttft_ms), default=0.0)
    table = Table(box=None, padding=(0, 2), pad_edge=False)
    table.add_column(by, overflow="fold")
    for name in ("requests", "first token", "9 of 10", "cached", "rejected"):
        table.add_column(name, justify="right")
    table.add_column("")
    for name, one in groups.items():
        first = one.ttft_ms
        share = f"{one.n_cached / one.n_prompt:.1%}" if one.n_prompt else "–"
        table.add_row(
            Text(name),
            f"{one.n:,}",
            report.seconds(first.median) if first else "–",
            report.seconds(first.p90) if first else "–",
            share,
            f"{sum(one.rejected.values()):,}",
            bar(first.median if first else 0.0, slowest, _BAR_CELLS),
        )
    console.print()
    console.print(table)
