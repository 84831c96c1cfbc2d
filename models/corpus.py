"""Python functions to make tasks from: those of the standard library of the interpreter that runs this.

It is under the PSF licence, which permits this use, and on every machine. What is used to evaluate is chosen
by package (a module of its own counts as one) and never trained on; a function that also occurs in a package
for evaluation, by the hash of its text without indentation, is not trained on either.
"""

import ast
import hashlib
import sysconfig
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Split = Literal["train", "held_out"]

LONGEST = 600
"""Characters of the longest function that is used."""
_SHORTEST = 40
_HELD_OUT_PERCENT = 12
_SKIPPED = {"site-packages", "lib2to3", "idlelib", "turtledemo"}
"""Not the standard library, or code of programs whose functions are much alike."""


@dataclass(frozen=True)
class Function:
    """A function that parses on its own, as text without the indentation it had."""

    name: str
    lines: tuple[str, ...]
    package: str
    is_method: bool


@dataclass(frozen=True)
class Corpus:
    """The functions of one split, by package in the order of their names."""

    functions: tuple[Function, ...]
    names: tuple[str, ...]
    """Identifiers of this split, to rename to."""


def split_of(package: str) -> Split:
    """Which split a package belongs to; it depends on its name alone."""
    digest = hashlib.sha256(package.encode()).digest()
    return "held_out" if digest[0] % 100 < _HELD_OUT_PERCENT else "train"


STANDARD_LIBRARY = Path(sysconfig.get_path("stdlib"))


def read_corpus(split: Split, library: Path = STANDARD_LIBRARY) -> Corpus:
    """All usable functions of a split; the same for the same interpreter."""
    held_out = (
        {_digest(function) for function in _functions("held_out", library)} if split == "train" else set()
    )
    seen: set[bytes] = set()
    functions: list[Function] = []
    names: set[str] = set()
    for function in _functions(split, library):
        digest = _digest(function)
        if digest in seen or digest in held_out:
            continue
        seen.add(digest)
        functions.append(function)
        names.update(_identifiers(function))
    return Corpus(tuple(functions), tuple(sorted(names)))


def _files(split: Split, library: Path) -> Iterator[tuple[str, str]]:
    for path in sorted(library.rglob("*.py")):
        parts = path.relative_to(library).parts
        if parts[0] in _SKIPPED or "__pycache__" in parts or parts[0].startswith("config-"):
            continue
        # The tests are one package by name, and most of the library by size: each file stands for itself.
        package = "/".join(parts[:2]) if parts[0] == "test" else parts[0].removesuffix(".py")
        if split_of(package) != split:
            continue
        try:
            text = path.read_text(encoding="ascii")
        except UnicodeDecodeError:
            continue
        yield package, text


def _functions(split: Split, library: Path) -> Iterator[Function]:
    for package, text in _files(split, library):
        try:
            tree = ast.parse(text)
        except SyntaxError:
            continue
        lines = text.splitlines()
        if len(lines) != text.count("\n") + (not text.endswith("\n")):
            continue  # a form feed or the like: lines are not what they seem
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef) and node.end_lineno is not None:
                body = textwrap.dedent("\n".join(lines[node.lineno - 1 : node.end_lineno])).expandtabs(4)
                if not _SHORTEST <= len(body) <= LONGEST or ";" in body or "\\\n" in body:
                    continue
                first = node.args.args[0].arg if node.args.args else ""
                if _parses(body):
                    yield Function(node.name, tuple(body.split("\n")), package, first in ("self", "cls"))


def _parses(text: str) -> bool:
    try:
        ast.parse(text)
    except SyntaxError:
        return False
    return True


def _identifiers(function: Function) -> Iterator[str]:
    for node in ast.walk(ast.parse("\n".join(function.lines))):
        name = node.id if isinstance(node, ast.Name) else node.arg if isinstance(node, ast.arg) else ""
        if 2 <= len(name) <= 18 and not name.startswith("__"):
            yield name


def _digest(function: Function) -> bytes:
    return hashlib.sha256("".join("".join(function.lines).split()).encode()).digest()
