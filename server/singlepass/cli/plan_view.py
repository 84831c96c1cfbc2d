"""Prints the result of `singlepass plan`, as tables and sentences or as JSON."""

from collections.abc import Callable
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from singlepass.core.report import seconds
from singlepass.measuring import calculator
from singlepass.measuring.calculator import Phases, Shape
from singlepass.measuring.hardware_choice import Option, gib
from singlepass.measuring.hardware_table import hardware_table
from singlepass.measuring.plan import Cache, Plan

_EXAMPLE = "singlepass plan --hardware rtx-4090 --hardware m4-max --model qwen2.5-coder-14b --context 30000"


def print_plan(plan: Plan, console: Console) -> None:
    """Print a plan in tables and sentences."""
    if plan.shape is not None and plan.cache is not None:
        _print_memory(plan, plan.shape, plan.cache, console)
    if plan.times is not None:
        _print_times(plan, plan.times, console)
    if plan.options:
        _print_options(plan, console)
    for title, lines in (
        ("Recommendation", plan.choice.reasons if plan.choice else ()),
        ("Where rules of thumb are wrong", plan.remarks),
        ("Notes", plan.notes),
    ):
        if lines:
            _head(console, title)
        for line in lines:
            console.print(Text(f"  {line[0].upper()}{line[1:]}."), soft_wrap=True)
    if any(option.basis and not option.is_here for option in plan.options):
        _head(console, "Computed from measurements by others")
        for option in plan.options:
            if option.basis:
                console.print(Text(f"  {option.title}: {option.basis}", style="dim"), soft_wrap=True)


def _head(console: Console, title: str) -> None:
    console.print(Text(f"\n{title}", style="bold"))


def _print_memory(plan: Plan, shape: Shape, cache: Cache, console: Console) -> None:
    _head(console, f"Memory of {shape.name}, {cache.n_ctx:,} tokens, KV cache {cache.kv_cache_type}")
    heads = f"{shape.n_layer} layers × {shape.n_head_kv} KV heads ({shape.n_head} query heads)"
    formula = "2 × layers × query heads × head size × bytes"
    rows = [
        ("KV cache", f"{_kb(cache.per_token)} per token", _gb(cache.total), heads),
        (
            "textbook formula",
            f"{_kb(cache.textbook_per_token)} per token",
            _gb(cache.textbook_total),
            formula,
        ),
    ]
    if shape.size_bytes:
        about = "estimate, until it is downloaded" if plan.is_estimate else ""
        rows.insert(0, ("weights", "", _gb(shape.size_bytes), about))
    _grid(rows, console)


def _print_times(plan: Plan, times: Phases, console: Console) -> None:
    _head(console, f"{plan.n_prompt:,} tokens of prompt, {plan.n_output:,} of reply")
    rows = [("", "prefill", "decode", "total", "prefill's share"), ("one request", *_phases(times))]
    if plan.session:
        n = plan.session.n_steps
        rows.append((f"{n} steps", *_phases(plan.session.plain)))
        rows.append((f"{n} steps, prefix reused", *_phases(plan.session.cached)))
    _grid(rows, console)
    if plan.loop:
        text = plan.loop.text
        console.print(Text(f"  {text[0].upper()}{text[1:]}."), soft_wrap=True)


def _print_options(plan: Plan, console: Console) -> None:
    _head(console, f"{plan.n_prompt:,} tokens of prompt and {plan.n_output:,} of reply, by hardware")
    table = Table(box=None, padding=(0, 2), pad_edge=False)
    table.add_column("")
    for option in plan.options:
        table.add_column(option.name, overflow="fold")
    rows: list[tuple[str, Callable[[Option], str]]] = [
        ("fits", _fits),
        ("maximum context", lambda option: f"{option.largest_ctx:,}" if option.largest_ctx else "–"),
        ("prefill, cold", lambda option: _took(option.cold and option.cold.prefill_s, plan.n_prompt)),
        ("decode", lambda option: _took(option.cold and option.cold.decode_s, plan.n_output)),
        ("total, cold", lambda option: _total(option.cold)),
        ("total, warm", lambda option: _total(option.warm)),
        ("prefill's share", lambda option: f"{option.cold.prefill_share:.1%}" if option.cold else "–"),
        ("prefill's ceiling", lambda option: _rate(option.prefill_ceiling)),
        ("decode's ceiling", lambda option: _rate(option.decode_ceiling)),
    ]
    for name, cell in rows:
        table.add_row(Text(name, style="bold"), *(Text(cell(option)) for option in plan.options))
    console.print(table)


def _fits(option: Option) -> str:
    if not option.usable_bytes:
        return "?"
    return f"{'yes' if option.fits else 'no'}, {gib(option.needed_bytes)} of {gib(option.usable_bytes)}"


def _took(taken_s: float | None, n_tokens: int) -> str:
    if taken_s is None:
        return "–"
    return f"{seconds(taken_s * 1000)} ({n_tokens / taken_s:,.0f} tok/s)" if taken_s else "0 s"


def _total(phases: Phases | None) -> str:
    return seconds(phases.total_s * 1000) if phases else "–"


def _rate(rate: float | None) -> str:
    return "–" if rate is None else f"{rate:,.0f} tok/s"


def _phases(phases: Phases) -> tuple[str, str, str, str]:
    times = (phases.prefill_s, phases.decode_s, phases.total_s)
    first, second, third = (seconds(one * 1000) for one in times)
    return first, second, third, f"{phases.prefill_share:.1%}"


def _grid(rows: list[tuple[str, ...]], console: Console) -> None:
    table = Table.grid(padding=(0, 2))
    for row in rows:
        table.add_row(*(Text(f"  {cell}" if index == 0 else cell) for index, cell in enumerate(row)))
    console.print(table)


def _kb(n_bytes: float) -> str:
    return f"{n_bytes / 1e3:,.0f} KB"


def _gb(n_bytes: float) -> str:
    return f"{n_bytes / 1e9:,.1f} GB"


def print_table(console: Console) -> None:
    """Print the reference table of hardware, each figure with its source."""
    table = hardware_table()
    console.print(
        f"Published figures, as of {table.checked.isoformat()}; none of them was measured with singlepass. "
        f"To compare hardware for a model:\n  {_EXAMPLE}",
        soft_wrap=True,
    )
    for one in table.hardware:
        _head(console, f"{one.name}: {one.title}")
        for name, figure, unit in (
            ("memory", one.memory, "GiB"),
            ("bandwidth", one.bandwidth, "GB/s"),
            ("compute", one.compute, "TFLOPS, 16 bits"),
        ):
            if figure is not None:
                told = f"  {name} {figure.value:g} {unit}: {figure.source} ({figure.date})"
                console.print(Text(told), soft_wrap=True)
        for rates in one.rates:
            title = table.models[rates.model].title
            told = [
                f"{kind} {', '.join(f'{m.rate:,.0f} ({_where(m.depth, m.n_tokens)})' for m in measured)}"
                for kind, measured in (("prefill", rates.prefill), ("decode", rates.decode))
            ]
            line = f"  {title}, {rates.software}: {'; '.join(told)} tok/s: {rates.source} ({rates.date})"
            console.print(Text(line), soft_wrap=True)


def _where(depth: int, n_tokens: int) -> str:
    return f"{n_tokens:,} at {depth:,}" if depth else f"{n_tokens:,}"


def table_as_json() -> dict[str, Any]:
    """The reference table of hardware."""
    return msgspec.to_builtins(hardware_table(), builtin_types=())


def as_json(plan: Plan) -> dict[str, Any]:
    """All numbers: times in seconds, sizes in bytes, rates in tokens per second."""
    shape, cache, session, loop = plan.shape, plan.cache, plan.session, plan.loop
    return {
        "n_ctx": plan.n_ctx,
        "n_prompt": plan.n_prompt,
        "n_output": plan.n_output,
        "context_class": calculator.context_class(plan.n_ctx),
        "model": shape and {**msgspec.to_builtins(shape), "is_estimate": plan.is_estimate},
        "kv_cache": cache
        and {
            **msgspec.to_builtins(cache),
            "total": cache.total,
            "textbook_total": cache.textbook_total,
        },
        "times": plan.times and _phases_as_json(plan.times),
        "session": session
        and {
            "n_steps": session.n_steps,
            "plain": _phases_as_json(session.plain),
            "prefix_reused": _phases_as_json(session.cached),
        },
        "loop": loop
        and {
            "n_iterations": loop.n_iterations,
            "loop": _phases_as_json(loop.loop),
            "prefix_reused": _phases_as_json(loop.loop_cached),
            "once": _phases_as_json(loop.once),
            "advice": loop.text,
        },
        "options": [
            {
                **msgspec.to_builtins(option),
                "fits": option.fits,
                "cold": option.cold and _phases_as_json(option.cold),
                "warm": option.warm and _phases_as_json(option.warm),
            }
            for option in plan.options
        ],
        "recommendation": plan.choice and msgspec.to_builtins(plan.choice),
        "remarks": list(plan.remarks),
        "notes": list(plan.notes),
    }


def _phases_as_json(phases: Phases) -> dict[str, float]:
    return {
        "prefill_s": phases.prefill_s,
        "decode_s": phases.decode_s,
        "total_s": phases.total_s,
        "prefill_share": phases.prefill_share,
    }
