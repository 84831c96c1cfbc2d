"""The command line. Each command's imports wait until it runs."""

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
models_app = typer.Typer(help="Models that edit code well: what fits this machine, and to download.")
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
    typer.Option("--format", help="For llama.cpp or for MLX; auto is MLX where that is at home."),
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
    """Options of the command itself."""


class _By(enum.Enum):
    """What requests are grouped by; typer takes no list of literals."""

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
        typer.Option("--range", help="Lines from 1, e.g. 10:20, 10:, :20 or 10; the whole file without it."),
    ] = "",
    also: Annotated[
        list[Path] | None, typer.Option("--also", help="A further file that the edit may change.")
    ] = None,
    apply: Annotated[bool, typer.Option("--apply", help="Write the result to the files.")] = False,
    protected: Annotated[
        bool,
        typer.Option(
            "--protected", help="With --apply: also files that run code, such as editor settings and CI."
        ),
    ] = False,
    diff: Annotated[bool, typer.Option("--diff", help="Print a unified diff and nothing else.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the result and its timings as JSON.")] = False,
    model: _Model = None,
) -> None:
    """Edit a file as an editor would, through the language server, and draw the diff as it streams in.

    The exit code is 0 when all that the model wrote became the edit (or it wrote nothing), and with --apply
    is in the files. It is 1 when no edit came of the reply, a part of it was refused or cut off, the job
    failed, or not all could be written, and 2 for a wrong command.
    """
    from singlepass.cli.edit import Output, run_edit

    output = Output.JSON if json else Output.DIFF if diff else Output.LIVE
    raise typer.Exit(run_edit(file, instruction, range, also or [], apply, output, model, protected))


@app.command()
def demo(model: _Model = None) -> None:
    """Make an edit in a copy of a small sample repository and show what it cost."""
    from singlepass.cli.demo import run_demo

    raise typer.Exit(run_demo(model))


@app.command()
def context(file: Annotated[Path, typer.Argument(help="The file to edit.")], model: _Model = None) -> None:
    """Say what an edit of a file would have in its prompt once the repository is read, and what is cached."""
    from singlepass.cli.context import print_context

    raise typer.Exit(print_context(file, model))


@app.command()
def doctor(model: _Model = None) -> None:
    """Say what was found on this machine, what is missing, and what to do about it."""
    from singlepass.cli.doctor import run_doctor

    raise typer.Exit(run_doctor(model))


@app.command()
def plan(
    hardware: Annotated[
        list[str] | None,
        typer.Option("--hardware", help="A name of the reference table; give several to compare them."),
    ] = None,
    memory: Annotated[
        float, typer.Option("--memory", help="GPU memory in GiB: what context fits into it.", min=0)
    ] = 0,
    model: Annotated[
        str,
        typer.Option("--model", help="A model's file or folder, or a name that `singlepass models` lists."),
    ] = "",
    shape: Annotated[
        str, typer.Option("--shape", help="Instead of a model: LAYERSxHEADSxHEAD_SIZE, perhaps xKV_HEADS.")
    ] = "",
    kv_cache_type: Annotated[
        Literal["f16", "q8_0", "q4_0"], typer.Option("--kv-cache-type", help="Of the KV cache's values.")
    ] = "f16",
    context: Annotated[
        int, typer.Option("--context", help="Tokens of prompt and reply together.", min=0)
    ] = 0,
    prompt_tokens: Annotated[
        int,
        typer.Option(
            "--prompt-tokens", help="Tokens of the prompt; without it what the reply leaves.", min=0
        ),
    ] = 0,
    output_tokens: Annotated[int, typer.Option("--output-tokens", help="Tokens of the reply.", min=0)] = 500,
    new_tokens: Annotated[
        int,
        typer.Option(
            "--new-tokens", help="Tokens of the prompt that are new when all else is cached.", min=1
        ),
    ] = 200,
    pp: Annotated[float, typer.Option("--pp", help="Prefill rate in tokens a second.", min=0)] = 0,
    tp: Annotated[float, typer.Option("--tp", help="Decode rate in tokens a second.", min=0)] = 0,
    steps: Annotated[int, typer.Option("--steps", help="Steps of an agent's session.", min=1)] = 1,
    step_adds: Annotated[
        int, typer.Option("--step-adds", help="Tokens by which the prompt grows from step to step.", min=0)
    ] = 0,
    iterations: Annotated[
        int, typer.Option("--iterations", help="Iterations of a loop, to compare with one pass.", min=0)
    ] = 0,
    json: Annotated[bool, typer.Option("--json", help="Print all numbers as JSON.")] = False,
) -> None:
    """Compute what a model and a context take: time, memory, and on which hardware. Needs no network.

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
        str, typer.Option("--target", help="A target of the settings; the default one else.")
    ] = "",
    model: _Model = None,
    depths: Annotated[
        str, typer.Option("--depths", help="Prompt lengths in tokens, e.g. 512,8192; as many as fit else.")
    ] = "",
    runs: Annotated[int, typer.Option("--runs", help="Runs at each depth.", min=1)] = 3,
    tokens: Annotated[int, typer.Option("--tokens", help="Tokens of each reply.", min=2, max=192)] = 64,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the latest benchmark of the target that was stopped.")
    ] = False,
    workload: Annotated[
        Path | None,
        typer.Option("--workload", help="A repository: edits of its files through the whole system instead."),
    ] = None,
    n_files: Annotated[int, typer.Option("--files", help="Files of a workload.", min=1)] = 5,
    compare: Annotated[
        tuple[str, str] | None,
        typer.Option("--compare", help="Two results: files, names of --list, or 1 for the latest, 2 …"),
    ] = None,
    plot: _Plot = None,
    list: Annotated[bool, typer.Option("--list", help="List the saved results.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Measure a target's prefill and decode rates at several depths, through the engine, and save them."""
    from singlepass.cli.bench import Asked, run_bench
    from singlepass.cli.results import compare_results, list_results

    if target and model:
        raise typer.BadParameter("--target is of the settings, --model instead of them: give one.")
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
        raise typer.BadParameter("--depths takes numbers with commas between, e.g. 512,8192.") from None
    if any(one < 64 for one in lengths):
        raise typer.BadParameter("--depths begin at 64 tokens.")
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
    days: Annotated[int, typer.Option("--days", help="Of so many days; 0 is all.", min=0)] = 30,
    by: Annotated[
        list[_By] | None,
        typer.Option("--by", help="Group by this; give several for several tables."),
    ] = None,
    repository: Annotated[
        Path | None, typer.Option("--repository", help="Only requests in this workspace folder.")
    ] = None,
    target: Annotated[
        str, typer.Option("--target", help="Only those of this target, or of this model.")
    ] = "",
    json: Annotated[bool, typer.Option("--json", help="Print summaries as JSON.")] = False,
    csv: Annotated[bool, typer.Option("--csv", help="Print one line for each request.")] = False,
    plot: _Plot = None,
    clear: Annotated[bool, typer.Option("--clear", help="Delete the history.")] = False,
) -> None:
    """Say what requests took on this machine: times, what was cached, why not, and what became of edits."""
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
        int, typer.Option("--n-ctx", help="Tokens of context for which memory is told.", min=512)
    ] = 16_384,
    json: Annotated[bool, typer.Option("--json", help="Print all that is known as JSON.")] = False,
    format: _Format = "auto",
) -> None:
    """List models that edit code well, and what of them fits this machine. Needs no network."""
    if context.invoked_subcommand is None:
        from singlepass.cli.models import list_models

        raise typer.Exit(list_models(n_ctx, format, as_json=json))


@models_app.command("pull")
def models_pull(
    name: Annotated[str, typer.Argument(help="A name that `singlepass models` lists.")],
    format: _Format = "auto",
    force: Annotated[bool, typer.Option("--force", help="Download it also where it does not fit.")] = False,
    keep_settings: Annotated[
        bool, typer.Option("--keep-settings", help="Download it and leave the settings as they are.")
    ] = False,
) -> None:
    """Download a model, going on where an earlier attempt stopped, check it, and set it as a target."""
    from singlepass.cli.models import pull_model

    raise typer.Exit(pull_model(name, format, force=force, keep_settings=keep_settings))


@models_app.command("use")
def models_use(
    name: Annotated[str, typer.Argument(help="A model that was downloaded.")], format: _Format = "auto"
) -> None:
    """Make a downloaded model the default target. Needs no network."""
    from singlepass.cli.models import use_model

    raise typer.Exit(use_model(name, format))
