"""A text that the editor is asked to show, as a file, since every editor can open files.

It contains a model's reply, and so possibly code, so only the user may read it. The next text overwrites it.
"""

import os
from pathlib import Path

from singlepass.stats.history import state_dir


def write_shown(text: str) -> Path:
    """Write the text and return the file's path. Raises OSError."""
    folder = state_dir()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / "reply.md"
    temporary = folder / f".reply-{os.getpid()}.md"
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(text.encode("utf-8", "replace"))
    temporary.replace(path)
    return path
