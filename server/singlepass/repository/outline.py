"""What is known of a source file without its text: its definitions, the names it uses, what it imports.

Plain values. The indexer's process makes them; the repository map and the neighbours are computed of them.
"""

from collections.abc import Mapping, Sequence

import msgspec


class Definition(msgspec.Struct, frozen=True):
    """One definition, shown on one line."""

    name: str
    """Empty where nothing new is named, as in `impl Trait for Type`."""
    signature: str
    depth: int = 0
    """How many definitions it stands in; they come before it."""
    doc: str = ""
    """The first line of its docstring or of the comment above it."""


class Outline(msgspec.Struct, frozen=True):
    """One file. All sequences are without repetitions and in a fixed order."""

    language: str
    definitions: tuple[Definition, ...] = ()
    references: tuple[str, ...] = ()
    """Names used anywhere in the file, sorted."""
    imports: tuple[str, ...] = ()
    """As written, with names joined to their module: `from .a import b` is `.a.b`."""


Outlines = Mapping[str, Outline]
"""By path as in the prompt."""

_FAMILIES: dict[str, str] = {"tsx": "js", "typescript": "js", "javascript": "js", "cpp": "c"}


def family(language: str) -> str:
    """Languages whose files use each other's names count as one."""
    return _FAMILIES.get(language, language)


def definers(outlines: Outlines, paths: Sequence[str]) -> dict[tuple[str, str], list[int]]:
    """The files, by their index in `paths`, that define a name, by (family, name)."""
    found: dict[tuple[str, str], list[int]] = {}
    for idx, path in enumerate(paths):
        outline = outlines[path]
        kin = family(outline.language)
        for name in dict.fromkeys(one.name for one in outline.definitions):
            if name:
                found.setdefault((kin, name), []).append(idx)
    return found
