"""The command line. Each command imports its modules when it runs, so that `serve` starts fast."""

import enum
from pathlib import Path
from typing import Annotated, Literal

import typer

app = typer.Typer(
    name="singlepass",
    help="Local LLM edits in your editor: the context is prefilled once, the diff streams in.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
engine_app = typer.Typer(help="The engine processes that hold models.", no_args_is_help=True)
app.add_typer(engine_app, name="engine")
models_app = typer.Typer(
    help="Models that edit code well: list those that fit this machine, download one, use one."
)
app.add_typer(models_app, name="models")

_Model = Annotated[
    Path | None,
    typer.Option("--model", help="A GGUF file, instead of the configured target.", metavar="PATH"),
]
_Plot = Annotated[
    Path | None, typer.Option("--plot", help="Write a chart to this file, as SVG.", metavar="FILE")
]
_Format = Annotated[
    Literal["auto", "gguf", "mlx"],
    typer.Option(
        "--format",
        help="gguf for llama.cpp, mlx for MLX; auto is mlx on Apple silicon with mlx-lm, otherwise gguf.",
    ),
]


def _print_version(is_asked: bool) -> None:
    if is_asked:
        from singlepass import __version__

        typer.echo(f"singlepass {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True),
    ] = False,
) -> None:
    """Options that are given before a command."""


class _By(enum.Enum):
    """Groupings of `stats --by`; an enum because typer accepts no list of literals."""

    REPOSITORY = "repository"
    TARGET = "target"
    DAY = "day"
    KIND = "kind"


@app.command()
def serve() -> None:
    """Speak LSP over stdio; editors start this."""
    from singlepass.lsp.app import serve

    raise typer.Exit(serve())


@app.command()
def edit(
    file: Annotated[Path, typer.Argument(help="The file to edit.")],
    instruction: Annotated[str, typer.Option("-i", "--instruction", help="What to change.")],
    range: Annotated[
        str,
        typer.Option(
            "--range", help="Lines, numbered from 1: 10:20, 10:, :20 or 10. Without it the whole file."
        ),
    ] = "",
    also: Annotated[
        list[Path] | None,
        typer.Option("--also", help="Another file that the edit may change; may be repeated."),
    ] = None,
    apply: Annotated[bool, typer.Option("--apply", help="Write the result to the files.")] = False,
    protected: Annotated[
        bool,
        typer.Option(
            "--protected",
            help="With --apply: also write files that run code, such as editor settings and CI.",
        ),
    ] = False,
    diff: Annotated[bool, typer.Option("--diff", help="Print a unified diff and nothing else.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the result and its timings as JSON.")] = False,
    model: _Model = None,
) -> None:
    """Edit a file through the language server, as an editor does, and show the diff while it is generated.

    Exit code 0: everything the model wrote is in the edit (or it wrote nothing) and, with --apply, in the
    files. Exit code 1: the reply contained no edit, a part of it was rejected or cut off, the job failed, or
    a file could not be written. Exit code 2: the command or an argument is wrong.
    """
    from singlepass.cli.edit import Output, run_edit

    output = Output.JSON if json else Output.DIFF if diff else Output.LIVE
    raise typer.Exit(run_edit(file, instruction, range, also or [], apply, output, model, protected))


@app.command()
def demo(model: _Model = None) -> None:
    """Make three edits in a copy of a small sample repository and show how long they took."""
    from singlepass.cli.demo import run_demo

    raise typer.Exit(run_demo(model))


@app.command()
def context(file: Annotated[Path, typer.Argument(help="The file to edit.")], model: _Model = None) -> None:
    """List the segments of the prompt for an edit of a file, with their tokens and how many are cached."""
    from singlepass.cli.context import print_context

    raise typer.Exit(print_context(file, model))


@app.command()
def doctor(model: _Model = None) -> None:
    """Show what was found on this machine, what is missing, and what to do about it."""
    from singlepass.cli.doctor import run_doctor

    raise typer.Exit(run_doctor(model))


@app.command()
def plan(
    hardware: Annotated[
        list[str] | None,
        typer.Option("--hardware", help="A name from the reference table; repeat it to compare several."),
    ] = None,
    memory: Annotated[
        float,
        typer.Option("--memory", help="GPU memory in GiB, to compute the context that fits into it.", min=0),
    ] = 0,
    model: Annotated[
        str,
        typer.Option("--model", help="A model's file or folder, or a name that `singlepass models` lists."),
    ] = "",
    shape: Annotated[
        str, typer.Option("--shape", help="Instead of a model: LAYERSxHEADSxHEAD_SIZE, optionally xKV_HEADS.")
    ] = "",
    kv_cache_type: Annotated[
        Literal["f16", "q8_0", "q4_0"],
        typer.Option("--kv-cache-type", help="Type of the values in the KV cache."),
    ] = "f16",
    context: Annotated[
        int, typer.Option("--context", help="Context length: tokens of prompt and reply together.", min=0)
    ] = 0,
    prompt_tokens: Annotated[
        int,
        typer.Option(
            "--prompt-tokens", help="Tokens of the prompt; by default the context without the reply.", min=0
        ),
    ] = 0,
    output_tokens: Annotated[int, typer.Option("--output-tokens", help="Tokens of the reply.", min=0)] = 500,
    new_tokens: Annotated[
        int,
        typer.Option("--new-tokens", help="Uncached tokens of the prompt in a warm request.", min=1),
    ] = 200,
    pp: Annotated[float, typer.Option("--pp", help="Prefill rate in tokens per second.", min=0)] = 0,
    tp: Annotated[float, typer.Option("--tp", help="Decode rate in tokens per second.", min=0)] = 0,
    steps: Annotated[
        int, typer.Option("--steps", help="Number of requests in an agent's session.", min=1)
    ] = 1,
    step_adds: Annotated[
        int, typer.Option("--step-adds", help="Tokens that each step adds to the prompt.", min=0)
    ] = 0,
    iterations: Annotated[
        int,
        typer.Option(
            "--iterations", help="Number of iterations of a loop, to compare with a single request.", min=0
        ),
    ] = 0,
    json: Annotated[bool, typer.Option("--json", help="Print all numbers as JSON.")] = False,
) -> None:
    """Compute the time and memory that a model and a context take, and compare hardware. Needs no network.

    Without options, list the reference table of hardware with its sources.
    """
    from singlepass.cli.plan import Asked, run_plan

    asked = Asked(
        hardware=tuple(hardware or ()),
        memory_gib=memory,
        model=model,
        shape=shape,
        kv_cache_type=kv_cache_type,
        n_ctx=context,
        n_prompt=prompt_tokens,
        n_output=output_tokens,
        n_new=new_tokens,
        prefill_rate=pp,
        decode_rate=tp,
        n_steps=steps,
        n_added=step_adds,
        n_iterations=iterations,
    )
    raise typer.Exit(run_plan(asked, as_json=json))


@app.command()
def bench(
    target: Annotated[
        str, typer.Option("--target", help="A target from the settings; without it the default one.")
    ] = "",
    model: _Model = None,
    depths: Annotated[
        str,
        typer.Option(
            "--depths",
            help="Prompt lengths in tokens, e.g. 512,8192; by default 512 to 50,000, as far as they fit.",
        ),
    ] = "",
    runs: Annotated[int, typer.Option("--runs", help="Number of runs at each depth.", min=1)] = 3,
    tokens: Annotated[
        int, typer.Option("--tokens", help="Length of each reply in tokens.", min=2, max=192)
    ] = 64,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the target's latest unfinished benchmark.")
    ] = False,
    workload: Annotated[
        Path | None,
        typer.Option(
            "--workload",
            help="Measure edits of the files in this repository instead, through server and engine.",
        ),
    ] = None,
    n_files: Annotated[int, typer.Option("--files", help="Number of files in a workload.", min=1)] = 5,
    compare: Annotated[
        tuple[str, str] | None,
        typer.Option(
            "--compare",
            help="Compare two results: each a file, a name from --list, or a number (1 is the latest).",
        ),
    ] = None,
    plot: _Plot = None,
    list: Annotated[bool, typer.Option("--list", help="List the saved results.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Measure a target's prefill and decode rates at several depths, through the engine, and save them."""
    from singlepass.cli.bench import Asked, run_bench
    from singlepass.cli.results import compare_results, list_results

    if target and model:
        raise typer.BadParameter(
            "--target names a target of the settings, --model replaces it: give only one of them."
        )
    if compare:
        raise typer.Exit(compare_results(*compare, as_json=json))
    if list:
        raise typer.Exit(list_results())
    if workload:
        from singlepass.cli.workload import run_workload

        raise typer.Exit(run_workload(workload, model, n_files, target=target, as_json=json))
    try:
        lengths = tuple(int(one) for one in depths.split(",")) if depths else ()
    except ValueError:
        raise typer.BadParameter("--depths takes numbers separated by commas, e.g. 512,8192.") from None
    if any(one < 64 for one in lengths):
        raise typer.BadParameter("--depths takes numbers of at least 64 tokens.")
    asked = Asked(
        target=target,
        model=model,
        depths=lengths,
        n_runs=runs,
        n_reply=tokens,
        resume=resume,
        plot=plot,
        as_json=json,
    )
    raise typer.Exit(run_bench(asked))


@app.command()
def stats(
    days: Annotated[
        int, typer.Option("--days", help="Requests of the last N days; 0 means all.", min=0)
    ] = 30,
    by: Annotated[
        list[_By] | None,
        typer.Option("--by", help="Group by this; repeat it for several tables."),
    ] = None,
    repository: Annotated[
        Path | None, typer.Option("--repository", help="Only requests from this workspace folder.")
    ] = None,
    target: Annotated[str, typer.Option("--target", help="Only requests to this target or model.")] = "",
    json: Annotated[bool, typer.Option("--json", help="Print summaries as JSON.")] = False,
    csv: Annotated[bool, typer.Option("--csv", help="Print one line for each request.")] = False,
    plot: _Plot = None,
    clear: Annotated[bool, typer.Option("--clear", help="Delete the history.")] = False,
) -> None:
    """Summarize the requests on this machine: times, cached tokens, cache misses, and outcomes of edits."""
    from singlepass.cli.stats import clear_stats, run_stats
    from singlepass.stats.statistics import BYS, By

    if clear:
        raise typer.Exit(clear_stats())
    bys: list[By] = [one for one in BYS if by and _By(one) in by]
    output = "json" if json else "csv" if csv else "table"
    raise typer.Exit(run_stats(days, bys, repository, target, output, plot))


@engine_app.command("status")
def engine_status() -> None:
    """List the running engines of this user."""
    from singlepass.cli.engine import print_status

    raise typer.Exit(print_status())


@engine_app.command("stop")
def engine_stop() -> None:
    """Stop the running engines of this user and free their memory."""
    from singlepass.cli.engine import stop_all

    raise typer.Exit(stop_all())


@models_app.callback(invoke_without_command=True)
def models(
    context: typer.Context,
    n_ctx: Annotated[
        int, typer.Option("--n-ctx", help="Context length in tokens for which memory is computed.", min=512)
    ] = 16_384,
    json: Annotated[bool, typer.Option("--json", help="Print all details as JSON.")] = False,
    format: _Format = "auto",
) -> None:
    """List models that edit code well, and whether they fit this machine. Needs no network."""
    if context.invoked_subcommand is None:
        from singlepass.cli.models import list_models

        raise typer.Exit(list_models(n_ctx, format, as_json=json))


@models_app.command("pull")
def models_pull(
    name: Annotated[str, typer.Argument(help="A name from the list of `singlepass models`.")],
    format: _Format = "auto",
    force: Annotated[
        bool, typer.Option("--force", help="Download it even if it does not fit this machine.")
    ] = False,
    keep_settings: Annotated[
        bool, typer.Option("--keep-settings", help="Do not change the settings.")
    ] = False,
) -> None:
    """Download a model, verify it, and add it to the settings. An interrupted download is resumed."""
    from singlepass.cli.models import pull_model

    raise typer.Exit(pull_model(name, format, force=force, keep_settings=keep_settings))


@models_app.command("use")
def models_use(
    name: Annotated[str, typer.Argument(help="A downloaded model.")], format: _Format = "auto"
) -> None:
    """Make a downloaded model the default target. Needs no network."""
    from singlepass.cli.models import use_model

    raise typer.Exit(use_model(name, format))
