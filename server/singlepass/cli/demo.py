"""`singlepass demo`: an edit in a copy of a small sample repository, from nothing to a diff and its cost."""

import asyncio
import contextlib
import shutil
import tempfile
from importlib import resources
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text
from singlepass_backends.base import BackendError

from singlepass.cli.edit import EXIT_USAGE, Output, edit_files, model_options, report
from singlepass.cli.headless import ServerGone
from singlepass.config import load_settings, read_toml, user_file
from singlepass.workspace import UserError

_FILE = "tally/words.py"
_LINES = "10:24"
_INSTRUCTION = "Simplify count_words and add type annotations."
_RANDOM_SETTINGS: dict[str, Any] = {"temperature": 1.0, "seed": 3, "idle_exit_minutes": 0.5}


def run_demo(model: Path | None) -> int:
    """Run the command; returns the exit code."""
    console = Console(highlight=False)
    folder = Path(tempfile.mkdtemp(prefix="singlepass-demo-")).resolve()
    with resources.as_file(resources.files("singlepass") / "samples" / "tally") as sample:
        shutil.copytree(sample, folder, dirs_exist_ok=True)
    random_model = folder / "random.gguf" if model is None and not _is_configured() else None
    options = model_options(model)
    try:
        if random_model is not None:
            _write_model(random_model, folder, console)
            options = {"target": {"model": str(random_model)}, **_RANDOM_SETTINGS}
        console.print(f"sample repository: {folder}\n{_FILE}, lines {_LINES}: {_INSTRUCTION}", soft_wrap=True)
        result = asyncio.run(edit_files(folder / _FILE, _INSTRUCTION, _LINES, [], options, console, folder))
    except (UserError, BackendError, ServerGone, OSError) as error:
        console.print(Text(str(error), style="red"), soft_wrap=True)
        return EXIT_USAGE
    except KeyboardInterrupt:
        return EXIT_USAGE
    code = report(result, console, folder, False, Output.LIVE)
    if random_model is not None:
        console.print(
            "\nThis was a model of random weights, written just now: its edits are valid, every hunk "
            "applies, and they mean nothing.\nTry a real one: singlepass demo --model /path/to/model.gguf",
            soft_wrap=True,
        )
        with contextlib.suppress(OSError):
            random_model.unlink()
    return code


def _is_configured() -> bool:
    values, _ = read_toml(user_file())
    settings, _ = load_settings([(str(user_file()), values)])
    return settings.target.is_set


def _write_model(path: Path, folder: Path, console: Console) -> None:
    """The small random GGUF. Raises BackendError when the packages that write it are missing."""
    from singlepass_backends.random_model import write_random_model

    corpus = [file.read_text(encoding="utf-8") for file in sorted(folder.rglob("*.py"))]
    console.print("writing a small model of random weights …")
    write_random_model(path, corpus=corpus)
