"""What an editor finds that is configured as documented: `singlepass` in PATH, a recorded model, a file."""

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

README = (Path(__file__).parents[1] / "editor-clients" / "README.md").read_text(encoding="utf-8")
SOURCE = "".join(f"value_{n} = {n}\n" for n in range(8))
SIMPLE = SOURCE.replace("value_2 = 2", "value_2 = 'simple'").replace("value_4 = 4", "value_4 = 'simple'")
ASKED = SIMPLE.replace("value_5 = 5", "value_5 = 'one'")
"""After the action *Simplify*, and after the comment `AI: say one` as well."""


class Place(NamedTuple):
    """A file in a project of its own, and the environment to start an editor in."""

    file: Path
    home: Path
    environment: Mapping[str, str]


def hunk(n: int, new: str) -> str:
    """A block that gives a value of the file."""
    return f"values.py\n<<<<<<< SEARCH\nvalue_{n} = {n}\n=======\nvalue_{n} = {new}\n>>>>>>> REPLACE\n"


def prepare(folder: Path) -> Place:
    """Write all of it; the home folder is empty but for the model's settings."""
    project, home, programs, config = (folder / name for name in ("project", "home", "bin", "config"))
    for path in (project / ".git", home, programs, config):
        path.mkdir(parents=True)
    # The documentation counts on `singlepass` in PATH.
    program = programs / "singlepass"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -P -m singlepass "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    replies = [
        {"when": "say one", "text": [hunk(5, "'one'")]},
        {"when": "Simplify", "text": [hunk(2, "'simple'"), hunk(4, "'simple'")]},
    ]
    recording = folder / "recording.json"
    recording.write_text(json.dumps({"replies": replies}), encoding="utf-8")
    (config / "singlepass.toml").write_text(
        f'[target]\nbackend = "scripted"\nmodel = "{recording}"\n', encoding="utf-8"
    )
    file = project / "values.py"
    file.write_text(SOURCE, encoding="utf-8")
    folders = {
        f"XDG_{name}_HOME": str(home / f".{name.lower()}") for name in ("CONFIG", "CACHE", "DATA", "STATE")
    }
    own = {
        "HOME": str(home),
        "PATH": f"{programs}:{os.environ['PATH']}",
        "SINGLEPASS_CONFIG_DIR": str(config),
    }
    return Place(file, home, {**os.environ, **folders, **own})
