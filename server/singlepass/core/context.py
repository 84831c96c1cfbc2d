"""The context of a request: which files are in the prompt, in which order, and what was left out.

Stable files come first. The edited file is last, because the user is typing in it: after a change the engine
prefills only what follows the change.
"""

from collections.abc import Sequence

import msgspec

MAP = "repository map"
"""The map's name among the segments. A file with the same path gets a number."""


class SourceFile(msgspec.Struct, frozen=True):
    """A file as shown in the prompt."""

    path: str
    """Relative to the workspace, with `/`; the name that the model and the hunks use."""
    text: str
    editable: bool = True
    """False for files that are read only: neither open nor requested, or protected and not requested."""
    opened: int | None = None
    """Sequence number of the document's opening; None for a file that is not open."""


class Context(msgspec.Struct, frozen=True):
    """The content of a prompt before the task."""

    edited: SourceFile
    neighbours: tuple[SourceFile, ...] = ()
    """Open, requested and neighbouring files, in the order of the prompt (see `build_context`)."""
    left_out: tuple[str, ...] = ()
    """What was left out because the prompt was too long, the least related first: paths, or `MAP`."""
    map: str = ""
    """The repository map, as text; empty without one."""
    least_related: tuple[str, ...] = ()
    """The neighbours' paths in the order in which they may be left out."""
    may_rewrite: bool = False
    """Whether the model may be asked for a rewrite, so that the rules explain it."""

    @property
    def editable(self) -> dict[str, str]:
        """Texts by path of the files that a hunk may change, the edited file first."""
        files = (self.edited, *self.neighbours)
        return {file.path: file.text for file in files if file.editable}


def build_context(
    edited: SourceFile,
    neighbours: Sequence[SourceFile],
    map: str = "",
    budget: int | None = None,
    *,
    may_rewrite: bool = False,
) -> Context:
    """A context of the edited file, its neighbours (most related first), and the map.

    Relatedness decides which files are in the prompt, but not their order: that would change with every
    switch between files, and cause prefill each time. Open files are in the order in which they were opened,
    so that a new one comes after those that are cached; the others follow by path.

    Read-only files are limited to `budget` characters; those that do not fit are left out.
    """
    seen = {edited.path}
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
    return Context(edited, tuple(kept), tuple(reversed(left_out)), map, least_related, may_rewrite)


def shrink(context: Context, n_tokens: dict[str, int], n_excess: int) -> Context | None:
    """The context without its least related neighbours, then without the map, until `n_excess` tokens are
    saved.

    `n_tokens` has the size of each segment by name, which is the file's path or `MAP`. None if even the
    edited file alone is too long.
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
    return msgspec.structs.replace(
        context,
        neighbours=neighbours,
        left_out=tuple(left_out),
        map=map,
        least_related=tuple(least_related),
    )
