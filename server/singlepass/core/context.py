"""The context of a request: which files stand in the prompt, in which order, and what was left out.

Stable files come first. The target is last, because it is what the user is typing in: a change there makes
the engine read again only what follows the change.
"""

from collections.abc import Sequence

import msgspec


class SourceFile(msgspec.Struct, frozen=True):
    """A file as it stands in the prompt."""

    path: str
    """Relative to the workspace, with `/`; the name the model and the hunks use."""
    text: str


class Context(msgspec.Struct, frozen=True):
    """What the model gets to read besides the task."""

    target: SourceFile
    neighbours: tuple[SourceFile, ...] = ()
    """Open or requested files, the least related first."""
    left_out: tuple[str, ...] = ()
    """Paths dropped because the prompt was too long, the least related first."""

    @property
    def editable(self) -> dict[str, str]:
        """Texts by path of the files a hunk may change, the target first."""
        return {file.path: file.text for file in (self.target, *reversed(self.neighbours))}


def build_context(target: SourceFile, neighbours: Sequence[SourceFile]) -> Context:
    """A context of the target and its neighbours, given most related first."""
    seen = {target.path}
    kept: list[SourceFile] = []
    for file in neighbours:
        if file.path not in seen:
            seen.add(file.path)
            kept.append(file)
    return Context(target, tuple(reversed(kept)))


def shrink(context: Context, n_tokens: dict[str, int], n_excess: int) -> Context | None:
    """The context without its least related neighbours, until `n_excess` tokens are saved.

    `n_tokens` gives the size of each segment by its name, which is the file's path. None when even
    without neighbours it stays too long.
    """
    neighbours = list(context.neighbours)
    left_out = list(context.left_out)
    while n_excess > 0 and neighbours:
        dropped = neighbours.pop(0)
        left_out.append(dropped.path)
        n_excess -= n_tokens.get(dropped.path, 0)
    if n_excess > 0 or len(neighbours) == len(context.neighbours):
        return None
    return Context(context.target, tuple(neighbours), tuple(left_out))
