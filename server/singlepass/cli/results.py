"""Saved results of `singlepass bench`: lists them and compares two of them."""

import contextlib
from pathlib import Path

import msgspec
from rich.table import Table
from rich.text import Text

from singlepass.cli.models import EXIT_USAGE
from singlepass.cli.output import make_console, print_json
from singlepass.cli.workload import print_comparison, told_change
from singlepass.core import report
from singlepass.editor.workspace import UserError
from singlepass.measuring import rates as benchmark
from singlepass.measuring import runs
from singlepass.measuring.rates import Result
from singlepass.measuring.workload import Workload


def list_results() -> int:
    """Print the saved results, each with its number; returns the exit code."""
    console = make_console()
    found = runs.all_saved()
    for number, (path, result) in zip(range(len(found), 0, -1), found, strict=True):
        console.print(f"{number:>3}  {path.stem}  {_listed(result)}", soft_wrap=True)
    if not found:
        console.print(
            f"There are no results in {runs.results_dir()}. `singlepass bench` makes one.", soft_wrap=True
        )
    return 0


def compare_results(first: str, second: str, *, as_json: bool) -> int:
    """Compare two results; returns the exit code."""
    console = make_console()
    try:
        one, other = _find(first), _find(second)
        if isinstance(one, Workload) and isinstance(other, Workload):
            return print_comparison(one, other, as_json=as_json)
        if isinstance(one, Workload) or isinstance(other, Workload):
            raise UserError("One result has rates, the other is of a workload; they cannot be compared.")
    except UserError as error:
        console.print(Text(str(error), style="red"), soft_wrap=True)
        return EXIT_USAGE
    changes = benchmark.compare(one, other)
    different = benchmark.differences(one, other)
    if as_json:
        told = {"changes": msgspec.to_builtins(changes), "differences": list(different)}
        print_json(told)
        return 0
    for line in different:
        console.print(Text(line, style="dim"), soft_wrap=True)
    table = Table(box=None, padding=(0, 2), pad_edge=False)
    for name in ("prompt", "prefill", "", "", "decode", "", ""):
        table.add_column(name, justify="right")
    rows = {row.depth: row for row in benchmark.rows(one)}, {row.depth: row for row in benchmark.rows(other)}
    for change in changes:
        a, b = rows[0][change.depth], rows[1][change.depth]
        table.add_row(
            f"{change.depth:,}",
            f"{a.prefill.median:,.0f} → {b.prefill.median:,.0f}",
            *told_change(change.prefill, is_clear=change.is_prefill_clear),
            f"{a.decode.median:,.1f} → {b.decode.median:,.1f}",
            *told_change(change.decode, is_clear=change.is_decode_clear),
        )
    console.print(table)
    console.print(Text("tok/s; ~ marks a change within the spread of the runs", style="dim"))
    return 0


def _listed(result: Result | Workload) -> str:
    if isinstance(result, Workload):
        return f"edits of {result.repository}, {report.count(len(result.requests), 'request')}"
    state = "" if result.is_complete else ", unfinished"
    depths = f"{min(result.depths):,} to {max(result.depths):,} tokens"
    return f"{depths}, {report.count(len(result.runs), 'run')}{state}"


def _find(name: str) -> Result | Workload:
    """A result by its path, by the beginning of its name, or by its number (`1` is the latest). Raises
    UserError."""
    path = Path(name)
    with contextlib.suppress(RuntimeError):  # no such user
        path = path.expanduser()
    if path.is_file():
        return runs.load(path)
    found = runs.all_saved()
    if name.lstrip("-").isdigit():
        back = abs(int(name))
        if 1 <= back <= len(found):
            return found[-back][1]
    matching = [result for path, result in found if path.stem.startswith(name)]
    if len(matching) != 1:
        what = "several saved results begin" if matching else "no saved result begins"
        raise UserError(
            f"There is no file {name}, and {what} with that. `singlepass bench --list` lists them."
        )
    return matching[0]
