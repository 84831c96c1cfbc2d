"""The command line. Each command's imports wait until it runs."""

from pathlib import Path
from typing import Annotated

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

_Model = Annotated[
    Path | None,
    typer.Option("--model", help="A GGUF file, instead of the configured target.", metavar="PATH"),
]


@app.command()
def serve() -> None:
    """Speak LSP over stdio; editors start this."""
    from singlepass.app import serve

    serve()


@app.command()
def edit(
    file: Annotated[Path, typer.Argument(help="The file to edit.")],
    instruction: Annotated[str, typer.Option("-i", "--instruction", help="What to change.")],
    range: Annotated[
        str, typer.Option("--range", help="Lines from 1, e.g. 10:20; the whole file without it.")
    ] = "",
    also: Annotated[
        list[Path] | None, typer.Option("--also", help="A further file that the edit may change.")
    ] = None,
    apply: Annotated[bool, typer.Option("--apply", help="Write the result to the files.")] = False,
    diff: Annotated[bool, typer.Option("--diff", help="Print a unified diff and nothing else.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the result and its timings as JSON.")] = False,
    model: _Model = None,
) -> None:
    """Edit a file as an editor would, through the language server, and draw the diff as it streams in."""
    from singlepass.cli.edit import Output, run_edit

    output = Output.JSON if json else Output.DIFF if diff else Output.LIVE
    raise typer.Exit(run_edit(file, instruction, range, also or [], apply, output, model))


@app.command()
def demo(model: _Model = None) -> None:
    """Make an edit in a copy of a small sample repository and show what it cost."""
    from singlepass.cli.demo import run_demo

    raise typer.Exit(run_demo(model))


@app.command()
def context(file: Annotated[Path, typer.Argument(help="The file to edit.")], model: _Model = None) -> None:
    """Say what an edit of a file would have in its prompt, and what of it is cached."""
    from singlepass.cli.context import print_context

    raise typer.Exit(print_context(file, model))


@app.command()
def doctor(model: _Model = None) -> None:
    """Say what was found on this machine, what is missing, and what to do about it."""
    from singlepass.cli.doctor import run_doctor

    raise typer.Exit(run_doctor(model))


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
