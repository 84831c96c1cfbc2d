"""The outline of a source file, as plain values: its definitions, the names it uses, its imports.

The indexer creates outlines and computes the repository map and the neighbours from them.
"""

from collections.abc import Mapping, Sequence

import msgspec


class Definition(msgspec.Struct, frozen=True):
    """One definition, shown on one line."""

    name: str
    """Empty if it defines no new name, as in `impl Trait for Type`."""
    signature: str
    depth: int = 0
    """Number of enclosing definitions, which come before it."""
    doc: str = ""
    """The first line of its docstring or of the comment above it."""


class Outline(msgspec.Struct, frozen=True):
    """The outline of one file. Sequences have no duplicates and a fixed order."""

    language: str
    definitions: tuple[Definition, ...] = ()
    references: tuple[str, ...] = ()
    """Names used anywhere in the file, sorted."""
    imports: tuple[str, ...] = ()
    """As written, with names joined to their module: `from .a import b` is `.a.b`."""


Outlines = Mapping[str, Outline]
"""Outlines by path in the prompt."""

_FAMILIES: dict[str, str] = {"tsx": "js", "typescript": "js", "javascript": "js", "cpp": "c"}


def family(language: str) -> str:
    """The family of a language: languages whose files use each other's names count as one."""
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
