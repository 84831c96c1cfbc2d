"""A text that the editor is asked to show, as a file of our own: every editor can open one.

It quotes what a model wrote, and so perhaps code: nobody else may read it. The next text takes its place.
"""

import os
from pathlib import Path

from singlepass.stats.history import state_dir


def write_shown(text: str) -> Path:
    """Write the text; where it lies. Raises OSError."""
    folder = state_dir()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / "reply.md"
    temporary = folder / f".reply-{os.getpid()}.md"
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(text.encode("utf-8", "replace"))
    temporary.replace(path)
    return path
