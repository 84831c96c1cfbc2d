"""`singlepass context`: the segments of the prompt for a file, and how much of each is cached."""

import asyncio
import contextlib
from pathlib import Path
from typing import Any

from pygls.exceptions import JsonRpcException
from rich.table import Table
from rich.text import Text

from singlepass.cli.edit import EXIT_USAGE, common_folder, model_options
from singlepass.cli.headless import HeadlessEditor, ServerGone, load
from singlepass.cli.output import make_console
from singlepass.cli.paths import say
from singlepass.core.inert import visible
from singlepass.editor.workspace import UserError


def print_context(file: Path, model: Path | None) -> int:
    """Print the segments; returns the exit code."""
    console = make_console()
    try:
        found = asyncio.run(_ask(file, model))
    except (UserError, ServerGone, OSError) as error:
        console.print(Text(say(error), style="red"), soft_wrap=True)
        return EXIT_USAGE
    table = Table("segment", "tokens", "cached", box=None, padding=(0, 2))
    for column in table.columns[1:]:
        column.justify = "right"
    segments: list[dict[str, Any]] = found["segments"]
    for segment in segments:
        n_tokens, n_cached = segment["n_tokens"], segment["n_cached"]
        share = "yes" if n_cached == n_tokens else f"{100 * n_cached // max(1, n_tokens)}%"
        table.add_row(Text(visible(segment["name"])), f"{n_tokens:,}", share)
    n_tokens = sum(segment["n_tokens"] for segment in segments)
    n_cached = sum(segment["n_cached"] for segment in segments)
    console.print(table)
    console.print(
        f"{n_tokens:,} of {found['n_ctx']:,} tokens of context, {n_cached:,} cached; a request adds the task"
    )
    target = found["target"]
    if target["remote"]:
        sent = "is sent" if target["allowed"] else "would be sent, once you allow it in `remote_workspaces`,"
        console.print(Text(f"all of it {sent} to {target['url']}"), soft_wrap=True)
    if found["left_out"]:
        console.print(Text(visible(f"left out: {', '.join(found['left_out'])}")), soft_wrap=True)
    return 0


async def _ask(file: Path, model: Path | None) -> dict[str, Any]:
    opened = load(file)
    options = {**model_options(model), "prewarm": False}
    async with HeadlessEditor(common_folder([file]), options) as editor:
        editor.show(opened)
        errors = make_console(stderr=True)
        waiting = errors.status("reading the repository") if errors.is_terminal else contextlib.nullcontext()
        try:
            with waiting:
                return await editor.command("singlepass.context", opened.uri, {"wait": True})
        except JsonRpcException as error:
            raise UserError(error.message) from None
