"""The context of a request: which files stand in the prompt, in which order, and what was left out.

Stable files come first. The target is last, because it is what the user is typing in: a change there makes
the engine read again only what follows the change.
"""

from collections.abc import Sequence

import msgspec

MAP = "repository map"
"""The map's name among the segments. Paths that are alike are numbered."""


class SourceFile(msgspec.Struct, frozen=True):
    """A file as it stands in the prompt."""

    path: str
    """Relative to the workspace, with `/`; the name the model and the hunks use."""
    text: str
    editable: bool = True
    """False for what the model may only read: files that are neither open nor asked for."""
    opened: int | None = None
    """When it was opened, counted in documents; None for a file that is not open."""


class Context(msgspec.Struct, frozen=True):
    """What the model gets to read besides the task."""

    target: SourceFile
    neighbours: tuple[SourceFile, ...] = ()
    """Open, requested and near files, in the order of the prompt (see `build_context`)."""
    left_out: tuple[str, ...] = ()
    """What was dropped because the prompt was too long, the least related first: paths, or `MAP`."""
    map: str = ""
    """The repository map, as text; empty without one."""
    least_related: tuple[str, ...] = ()
    """The neighbours' paths in the order in which they may be dropped."""

    @property
    def editable(self) -> dict[str, str]:
        """Texts by path of the files a hunk may change, the target first."""
        files = (self.target, *self.neighbours)
        return {file.path: file.text for file in files if file.editable}


def build_context(
    target: SourceFile, neighbours: Sequence[SourceFile], map: str = "", budget: int | None = None
) -> Context:
    """A context of the target, its neighbours, given most related first, and the map.

    How related they are decides which files stand in the prompt, but not where: that would change with every
    switch from one file to another, and be read again each time. Open files stand in the order in which they
    were opened, so that a new one comes after those that are cached; the others follow by path.

    Files that are only read have to fit into `budget` characters; those that do not are left out.
    """
    seen = {target.path}
    kept: list[SourceFile] = []
    left_out: list[str] = []
    for file in neighbours:
        if file.path in seen:
            continue
        seen.add(file.path)
        if not file.editable and budget is not None:
            if len(file.text) > budget:
                left_out.append(file.path)
                continue
            budget -= len(file.text)
        kept.append(file)
    least_related = tuple(file.path for file in reversed(kept))
    kept.sort(key=lambda file: (file.opened is None, file.opened or 0, file.path))
    return Context(target, tuple(kept), tuple(reversed(left_out)), map, least_related)


def shrink(context: Context, n_tokens: dict[str, int], n_excess: int) -> Context | None:
    """The context without its least related neighbours, then without the map, until `n_excess` tokens are
    saved.

    `n_tokens` gives the size of each segment by its name, which is the file's path or `MAP`. None when even
    the target alone stays too long.
    """
    least_related = list(context.least_related)
    left_out = list(context.left_out)
    while n_excess > 0 and least_related:
        left_out.append(least_related.pop(0))
        n_excess -= n_tokens.get(left_out[-1], 0)
    map = context.map
    if n_excess > 0 and map:
        map = ""
        left_out.append(MAP)
        n_excess -= n_tokens.get(MAP, 0)
    if n_excess > 0 or len(left_out) == len(context.left_out):
        return None
    neighbours = tuple(file for file in context.neighbours if file.path in least_related)
    return Context(context.target, neighbours, tuple(left_out), map, tuple(least_related))
