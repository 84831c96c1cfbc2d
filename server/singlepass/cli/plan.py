"""`singlepass plan`: the time and memory that a model and a context take on given hardware.

This module finds the inputs and fills in the plan. The formulas are in `measuring/calculator.py`, the
recommendations in `measuring/hardware_choice.py`; `plan_view.py` prints the result.
"""

import math
import re
from pathlib import Path
from typing import Any

import msgspec
from rich.text import Text
from singlepass_backends.base import BackendError, Target
from singlepass_backends.machine.facts import N_RECURRENT_SEQUENCES, Device, Machine, ModelFacts, kv_bytes
from singlepass_backends.machine.fit import choose, compute_bytes, gpu_margin
from singlepass_backends.machine.hardware import working_set
from singlepass_backends.models import folder as folders
from singlepass_backends.models.catalogue import catalogue
from singlepass_backends.models.offer import machine_from

from singlepass.cli import plan_view as view
from singlepass.cli.doctor import probe
from singlepass.cli.output import make_console, print_json
from singlepass.cli.paths import model_path, say
from singlepass.editor.workspace import UserError
from singlepass.engines.targets import rates_key
from singlepass.measuring import calculator, hardware_choice, runs
from singlepass.measuring import rates as benchmark
from singlepass.measuring.calculator import Phases, Shape, Speed, Step
from singlepass.measuring.hardware_choice import Option
from singlepass.measuring.hardware_table import Hardware, Rates, hardware_table
from singlepass.measuring.plan import Asked, Cache, Plan, PlanError, Session
from singlepass.stats.history import known_rates

EXIT_USAGE = 2
_GIB = 1 << 30
_N_BATCH = 512
"""Tokens per prefill pass; the default of the engine."""
_FAR = 4
"""Estimates are marked as rough for prompts over this multiple of the longest measured one."""
_SHAPE = re.compile(r"(\d{1,6})x(\d{1,6})x(\d{1,6})(?:x(\d{1,6}))?", re.ASCII)

_MOST_TOKENS = 1_000_000_000
_MOST_STEPS = 100_000
_LEAST_RATE, _MOST_RATE = 1e-6, 1e12
_LEAST_GIB, _MOST_GIB = 0.001, 1e9


class _Model(msgspec.Struct, frozen=True, kw_only=True):
    shape: Shape
    facts: ModelFacts
    path: str = ""
    """The path of its file or folder; empty if it is not on this machine."""
    is_estimate: bool = False


def run_plan(asked: Asked, *, as_json: bool) -> int:
    """Compute and print the plan; returns the exit code."""

    console = make_console()
    if asked == Asked():
        print_json(view.table_as_json()) if as_json else view.print_table(console)
        return 0
    try:
        plan = make_plan(asked)
    except (PlanError, BackendError, UserError, OSError) as error:
        console.print(Text(say(error), style="red"), soft_wrap=True)
        return EXIT_USAGE
    if as_json:
        print_json(view.as_json(plan))
    else:
        view.print_plan(plan, console)
    return 0


def make_plan(asked: Asked) -> Plan:
    """Compute the plan. Raises PlanError, BackendError, UserError, OSError."""
    _check_numbers(asked)
    if bool(asked.prefill_rate) != bool(asked.decode_rate):
        raise PlanError("Times need both rates: --pp and --tp, in tokens per second.")
    n_ctx = asked.n_ctx or (asked.n_prompt + asked.n_output if asked.n_prompt else 16_384)
    n_prompt = asked.n_prompt or max(1, n_ctx - asked.n_output)
    if n_prompt + asked.n_output > n_ctx:
        raise PlanError(
            f"{n_prompt:,} tokens of prompt and {asked.n_output:,} of reply exceed the context of {n_ctx:,}."
        )
    machine, model = _find_model(asked)
    plan = Plan(n_ctx=n_ctx, n_prompt=n_prompt, n_output=asked.n_output)
    if model is not None:
        plan = _with_memory(plan, asked, model)
    if asked.prefill_rate:
        given = calculator.constant(asked.prefill_rate), calculator.constant(asked.decode_rate)
        plan = _with_times(plan, asked, *given)
    if asked.hardware or asked.memory_gib or (model is not None and model.facts.n_layer):
        plan = _with_options(plan, asked, model, machine)
    if plan.cache is None and plan.times is None and not plan.options:
        raise PlanError(
            "These options are not enough to compute anything. Times need --pp and --tp, memory needs "
            "--model or "
            "--shape, a comparison needs --hardware and --model."
        )
    return plan


def _check_numbers(asked: Asked) -> None:
    """Raises PlanError for unrealistic numbers, so that every result is finite and computed quickly."""
    for option, number, least, most in (
        ("--context", asked.n_ctx, 0, _MOST_TOKENS),
        ("--prompt-tokens", asked.n_prompt, 0, _MOST_TOKENS),
        ("--output-tokens", asked.n_output, 0, _MOST_TOKENS),
        ("--new-tokens", asked.n_new, 1, _MOST_TOKENS),
        ("--step-adds", asked.n_added, 0, _MOST_TOKENS),
        ("--steps", asked.n_steps, 1, _MOST_STEPS),
        ("--iterations", asked.n_iterations, 0, _MOST_STEPS),
    ):
        if not least <= number <= most:
            raise PlanError(f"{option} takes a number from {least:,} to {most:,}.")
    for option, number, least, most, unit in (
        ("--memory", asked.memory_gib, _LEAST_GIB, _MOST_GIB, "GiB"),
        ("--pp", asked.prefill_rate, _LEAST_RATE, _MOST_RATE, "tokens per second"),
        ("--tp", asked.decode_rate, _LEAST_RATE, _MOST_RATE, "tokens per second"),
    ):
        if number and not least <= number <= most:  # also rejects NaN
            raise PlanError(f"{option} takes a number from {least:g} to {most:,.0f} {unit}.")


# The model.


def _find_model(asked: Asked) -> tuple[Machine | None, _Model | None]:
    """This machine, if it was probed, and the model, if one was named."""
    if asked.shape:
        return None, _described(asked.shape)
    if not asked.model:
        return None, None
    entry = catalogue().find(asked.model)
    path = Path(asked.model) if entry is not None else model_path(Path(asked.model))
    if path.exists():
        entry = None
    elif entry is None:
        similar = catalogue().similar(asked.model)
        hint = (
            f" Did you mean {' or '.join(similar)}?" if similar else " `singlepass models` lists all names."
        )
        raise PlanError(
            f"There is neither a file {asked.model} nor a model of that name in the catalogue.{hint}"
        )
    pulled = entry and folders.pulled(entry, "gguf")
    found, failure = probe(Target(model=str(pulled or ("" if entry else path.absolute()))))
    machine = machine_from(found.get("machine"))
    described: dict[str, Any] = found.get("model") or {}
    if described.get("facts"):
        facts = msgspec.convert(described["facts"], ModelFacts)
        name = entry.name if entry else path.name
        return machine, _Model(shape=_shape(name, facts), facts=facts, path=described["path"])
    if entry is None:
        raise PlanError(described.get("error") or failure or f"{path} cannot be read.")
    facts = entry.facts("gguf")
    return machine, _Model(shape=_shape(entry.name, facts), facts=facts, is_estimate=True)


def _shape(name: str, facts: ModelFacts) -> Shape:
    return Shape(
        name=name,
        size_bytes=facts.size_bytes,
        n_active=facts.n_active,
        active_bytes=facts.active_bytes,
        n_layer=sum(values > 0 for values in facts.layer_kv_values),
        n_head=facts.n_head,
        n_head_kv=facts.n_head_kv,
        key_length=facts.key_length,
        value_length=facts.value_length or facts.key_length,
        kv_values=sum(facts.layer_kv_values),
        n_ctx_train=facts.n_ctx_train,
    )


def _described(text: str) -> _Model:
    """A model of which only the shape of its attention is known, as given with --shape."""
    match = _SHAPE.fullmatch(text)
    if match is None:
        raise PlanError(
            "--shape takes LAYERSxHEADSxHEAD_SIZE, e.g. 80x64x128 or 80x64x128x8, each at most 999,999, "
            f"not {text[:40]!r}."
        )
    n_layer, n_head, length, n_head_kv = (int(number or 1) for number in match.groups())
    if not n_layer * n_head * length * n_head_kv:
        raise PlanError(f"--shape {text}: every number must be at least 1.")
    n_head_kv = n_head_kv if match[4] else n_head
    shape = Shape(
        name=text,
        n_layer=n_layer,
        n_head=n_head,
        n_head_kv=n_head_kv,
        key_length=length,
        value_length=length,
    )
    return _Model(shape=shape, facts=ModelFacts())


def _with_memory(plan: Plan, asked: Asked, model: _Model) -> Plan:
    shape = model.shape
    cache = Cache(
        kv_cache_type=asked.kv_cache_type,
        n_ctx=plan.n_ctx,
        per_token=kv_bytes(shape.n_kv_values, 1, asked.kv_cache_type),
        textbook_per_token=calculator.textbook_kv_bytes(shape, asked.kv_cache_type),
    )
    notes: list[str] = []
    if 0 < shape.n_ctx_train < plan.n_ctx:
        notes.append(
            f"{shape.name} was trained with {shape.n_ctx_train:,} tokens; a longer context is useless"
        )
    if model.facts.sliding_window:
        notes.append(
            "the KV cache holds all tokens of its sliding-window layers, so that it can be trimmed; "
            "llama-server keeps fewer"
        )
    return msgspec.structs.replace(
        plan,
        shape=shape,
        is_estimate=model.is_estimate,
        cache=cache,
        remarks=hardware_choice.textbook_remarks(shape, asked.kv_cache_type, cache.per_token),
        notes=tuple(notes),
    )


# Times.


def _with_times(plan: Plan, asked: Asked, prefill: Speed, decode: Speed) -> Plan:
    once = calculator.phases([Step(plan.n_prompt, 0, asked.n_output)], prefill, decode)
    session = loop = None

    def both(n_steps: int) -> tuple[Phases, Phases]:
        plain, cached = (
            calculator.phases(
                calculator.steps(n_steps, plan.n_prompt, asked.n_output, asked.n_added, reuses_prefix=reuses),
                *(prefill, decode),
            )
            for reuses in (False, True)
        )
        return plain, cached

    if asked.n_steps > 1:
        plain, cached = both(asked.n_steps)
        session = Session(n_steps=asked.n_steps, plain=plain, cached=cached)
    if asked.n_iterations:
        loop = hardware_choice.advise_loop(asked.n_iterations, *both(asked.n_iterations), once)
    return msgspec.structs.replace(plan, times=once, session=session, loop=loop)


# Hardware.


def _with_options(plan: Plan, asked: Asked, model: _Model | None, machine: Machine | None) -> Plan:
    table = hardware_table()
    chosen: list[Hardware] = []
    for name in asked.hardware:
        found = table.find(name)
        if found is None:
            raise PlanError(
                f"The hardware table has no {name!r}. Similar names: {', '.join(table.similar(name))}."
            )
        chosen.append(found)
    if model is None or not model.facts.n_layer:
        raise PlanError("A comparison of hardware needs a model: name one with --model.")
    options = [_option(one, plan, asked, model) for one in chosen]
    if asked.memory_gib:
        options.append(_memory_option(asked.memory_gib, plan, asked, model))
    here, note = _here(plan, asked, model, machine)
    options += [here] if here else []
    remarks = plan.remarks + tuple(_bound_remarks(chosen, model.shape))
    notes = [*plan.notes, *([note] if note else [])]
    if any("without flash attention" in option.basis for option in options):
        notes.append(
            "rates measured without flash attention fall faster with prompt length than those of "
            "current builds"
        )
    return msgspec.structs.replace(
        plan,
        options=tuple(options),
        choice=hardware_choice.recommend(options, plan.n_ctx) if options else None,
        remarks=remarks,
        notes=tuple(notes),
    )


def _option(hardware: Hardware, plan: Plan, asked: Asked, model: _Model) -> Option:
    shape, token_bytes = model.shape, kv_bytes(model.shape.n_kv_values, 1, asked.kv_cache_type)
    option = _memory_option(hardware.memory.value, plan, asked, model, is_unified=hardware.is_unified)
    compute = hardware.compute
    option = msgspec.structs.replace(
        option,
        name=hardware.name,
        title=hardware.title,
        prefill_ceiling=compute and calculator.prefill_ceiling(shape, compute.value * 1e12, plan.n_prompt),
        decode_ceiling=calculator.decode_ceiling(
            shape, hardware.bandwidth.value * 1e9, token_bytes, plan.n_prompt
        ),
    )
    rates = _nearest(hardware, shape)
    if rates is None or not option.fits:
        return option
    measured_on = hardware_table().models[rates.model].shape
    prefill = calculator.prefill_for(calculator.fit(rates.prefill), measured_on, shape)
    decode = calculator.decode_for(
        *(calculator.fit(rates.decode), measured_on, shape),
        *(token_bytes, kv_bytes(measured_on.n_kv_values, 1, "f16")),
    )
    longest = max(one.depth + one.n_tokens for one in rates.prefill)
    cold, warm = _cold_and_warm(plan, asked, prefill, decode)
    return msgspec.structs.replace(
        option,
        cold=cold,
        warm=warm,
        basis=f"{measured_on.name} with {rates.software}, up to {longest:,} tokens ({rates.source}, "
        f"{rates.date})",
        is_rough=plan.n_prompt > _FAR * longest or not measured_on.n_head,
    )


def _nearest(hardware: Hardware, shape: Shape) -> Rates | None:
    """The measured rates of the model whose size is nearest; None if there are none."""
    models = hardware_table().models

    def distance(rates: Rates) -> float:
        return abs(math.log(models[rates.model].shape.active_bytes / max(1, shape.active_bytes)))

    return min(hardware.rates, key=distance, default=None)


def _memory_option(
    memory_gib: float, plan: Plan, asked: Asked, model: _Model, *, is_unified: bool = False
) -> Option:
    """An option with this much GPU memory and nothing else known."""
    total = int(memory_gib * _GIB)
    share = working_set(total) if is_unified else total
    device = Device(name="", total_bytes=share, free_bytes=share, is_unified=is_unified)
    usable = share - gpu_margin(device)

    def needed(n_ctx: int) -> int:
        cache = kv_bytes(model.shape.n_kv_values, n_ctx, asked.kv_cache_type)
        states = model.facts.state_bytes * N_RECURRENT_SEQUENCES
        return model.facts.size_bytes + cache + states + _compute(model.facts, n_ctx)

    per_token = (needed(1 << 20) - needed(0)) / (1 << 20)
    largest = calculator.largest_ctx(usable, needed(0), per_token)
    trained = model.shape.n_ctx_train or largest
    return Option(
        name="memory",
        title=f"{memory_gib:g} GiB of GPU memory",
        usable_bytes=usable,
        needed_bytes=needed(plan.n_ctx),
        largest_ctx=min(largest, trained),
    )


def _compute(facts: ModelFacts, n_ctx: int) -> int:
    return compute_bytes(facts, n_ctx, _N_BATCH, flash_attention=True)


def _cold_and_warm(plan: Plan, asked: Asked, prefill: Speed, decode: Speed) -> tuple[Phases, Phases]:
    n_new = min(asked.n_new, plan.n_prompt)
    cold, warm = (
        calculator.phases([Step(plan.n_prompt, n_cached, asked.n_output)], prefill, decode)
        for n_cached in (0, plan.n_prompt - n_new)
    )
    return cold, warm


def _here(plan: Plan, asked: Asked, model: _Model, machine: Machine | None) -> tuple[Option | None, str]:
    """This machine as an option, by its own measurements; or a note why it is not an option."""
    if machine is None:
        return None, ""
    target = Target(model=model.path, n_ctx=plan.n_ctx, kv_cache_type=asked.kv_cache_type)
    try:
        choice = choose(machine, model.facts, target)
    except BackendError as error:
        return None, f"this machine: {error.message}"
    on_gpu = choice.gpu_bytes > 0
    option = Option(
        name="here",
        title="this machine",
        usable_bytes=choice.gpu_budget if on_gpu else choice.ram_budget,
        needed_bytes=choice.gpu_bytes if on_gpu else choice.ram_bytes,
        is_here=True,
    )
    measured = _measured_here(rates_key(Target(model=model.path)), plan) if model.path else None
    if measured is None:
        return None, (
            f"this machine has not run {model.shape.name} yet; "
            + ("it fits, and the first jobs will measure its rates" if choice.fits else "it does not fit")
        )
    prefill, decode, basis, is_rough = measured
    cold, warm = _cold_and_warm(plan, asked, prefill, decode)
    return msgspec.structs.replace(option, cold=cold, warm=warm, basis=basis, is_rough=is_rough), ""


def _measured_here(key: str, plan: Plan) -> tuple[Speed, Speed, str, bool] | None:
    """Prefill and decode speed of a target on this machine, how they were measured, and whether that is far
    from this plan; None if they were not measured.

    A benchmark is preferred, because it shows how rates fall with depth; jobs give only a median.
    """
    result = runs.newest(key)
    found = benchmark.speeds(result.runs) if result else None
    if result and found:
        longest = max(run.n_cached + run.n_prefilled for run in result.runs)
        basis = f"`singlepass bench` of {result.created}, up to {longest:,} tokens"
        return *found, basis, plan.n_prompt > _FAR * longest
    known = known_rates(key)
    if known is None:
        return None
    basis = f"the median of its latest jobs: {known.prefill:,.0f} and {known.decode:,.1f} tok/s"
    return calculator.constant(known.prefill), calculator.constant(known.decode), basis, False


def _bound_remarks(chosen: list[Hardware], shape: Shape) -> list[str]:
    """Sentences with the numbers that show why compute limits prefill and bandwidth limits decode."""
    remarks: list[str] = []
    for hardware in chosen:
        if hardware.compute is None:
            continue
        n_tokens = calculator.compute_bound_from(
            shape, hardware.compute.value * 1e12, hardware.bandwidth.value * 1e9
        )
        remarks.append(
            f"on {hardware.title} compute limits passes of more than about {n_tokens:,.0f} tokens, as in "
            "prefill; memory bandwidth limits decode, which has one token per pass"
        )
    return remarks
