"""`singlepass demo`: three edits in a copy of a small sample repository, each with its diff and timings."""

import asyncio
import shutil
import tempfile
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.text import Text
from singlepass_backends.base import BackendError

from singlepass.cli.edit import EXIT_USAGE, Output, edit_files, model_options, report
from singlepass.cli.headless import ServerGone
from singlepass.cli.output import make_console
from singlepass.cli.paths import say
from singlepass.config import DEMO, usable_targets, user_settings
from singlepass.editor.workspace import UserError


class Edit(NamedTuple):
    """An edit of the demo: file, lines (`first:last`), instruction, and other files that it may change."""

    file: str
    lines: str
    instruction: str
    also: tuple[str, ...] = ()


EDITS = (
    Edit("tally/words.py", "6:8", "Rename the variable words to found."),
    Edit(
        "tally/words.py",
        "11:14",
        "Rename the function most_common to top_words, also where it is used.",
        ("report.py",),
    ),
    Edit("tally/words.py", "6:8", "Add the docstring Return how often each word occurs."),
)

_ABOUT_THE_DEMO_MODEL = """
This was the demo model that comes with singlepass. It is small and knows only a few kinds of edits of short \
Python functions; other edits are mostly wrong.
For a real model: `singlepass models` lists what fits this machine, `singlepass models pull NAME` downloads \
one and adds it to the settings, and `singlepass demo --model /path/to/model.gguf` tries one."""


def run_demo(model: Path | None) -> int:
    """Make the edits and print them; returns the exit code."""
    console = make_console()
    code = 0
    try:
        options = model_options(model)
        folder = Path(tempfile.mkdtemp(prefix="singlepass-demo-")).resolve()
        with resources.as_file(resources.files("singlepass") / "samples" / "tally") as sample:
            shutil.copytree(sample, folder, dirs_exist_ok=True)
        console.print(f"sample repository: {folder}", soft_wrap=True)
        for edit in EDITS:
            code = code or _run(edit, folder, options, console)
    except (UserError, BackendError, ServerGone, OSError) as error:
        console.print(Text(say(error), style="red"), soft_wrap=True)
        return EXIT_USAGE
    except KeyboardInterrupt:
        return EXIT_USAGE
    if model is None and DEMO in usable_targets(*user_settings())[0]:
        console.print(_ABOUT_THE_DEMO_MODEL, soft_wrap=True)
    return code


def _run(edit: Edit, folder: Path, options: dict[str, Any], console: Console) -> int:
    where = f"{edit.file}, lines {edit.lines}" + "".join(f", with {name}" for name in edit.also)
    console.print(f"\n{where}: {edit.instruction}", soft_wrap=True, style="bold")
    also = [folder / name for name in edit.also]
    result = asyncio.run(
        edit_files(folder / edit.file, edit.instruction, edit.lines, also, options, console, folder)
    )
    return report(result, console, folder, True, Output.LIVE)
