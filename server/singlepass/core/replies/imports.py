"""Imports that a model writes in front of the code that needs them, and not where the file has its own.

A model that writes a definition anew begins with the import that its new lines use. That line is moved to
the document's imports, or dropped where the document has it.
"""

import re
from collections.abc import Sequence
from itertools import pairwise

from singlepass.core.replies.definitions import COMMENT
from singlepass.core.replies.levels import balance

IMPORT = re.compile(r"(?:import|from|using|use|require|package)\b|#\s*include\b|const .*=\s*require\(")
_ABOVE = re.compile(r"package\b|[\"']use strict[\"']|#!")
_FIRST = re.compile(r"from\s+__future__\b")
_DOCSTRING = re.compile(r"[rRbBuU]{0,2}(\"\"\"|''')")
_GROUP = re.compile(r"import\s*\(")
_PYTHON = re.compile(r"(?:from\s+(\S+)\s+)?import\s+\(?([\w\s.,*]+)\)?$")


def without_imports(new: Sequence[str], document: Sequence[str]) -> tuple[list[str], list[str]]:
    """The imports in front of new lines that the document does not have, and the lines after them. Indented
    ones stay."""
    known = {line.strip() for line in document}
    rest: list[str] = []
    imports: list[str] = []
    n = end = 0
    while n < len(new):
        bare, stop = new[n].strip(), n + 1
        if IMPORT.match(new[n]):
            while stop < len(new) and balance(new[n:stop]) > 0:
                stop += 1
            end = stop
            if _GROUP.fullmatch(bare):
                imports += [f"import {line.strip()}" for line in new[n + 1 : stop - 1] if line.strip()]
            else:
                imports += ["\n".join(new[n:stop])]
        elif bare and not COMMENT.match(bare) and bare not in known:
            break
        n = stop
    if not end or end == len(new):
        return [], [*new]
    rest = [line for line in new[:end] if COMMENT.match(line.strip()) and line.strip() not in known]
    has = {one for line in _joined(document) for one in _names(line)}
    fresh = [one for one in imports if known.isdisjoint((one.strip(), one.strip().removeprefix("import ")))]
    fresh = [one for one in fresh if not _ABOVE.match(one)]
    fresh = [one for one in fresh if not {*_names(one)} <= has]
    lines = [line for one in fresh for line in one.split("\n")]
    while end < len(new) - 1 and not new[end].strip():
        end += 1
    return lines, [*(line for line in rest if not IMPORT.match(line)), *new[end:]]


def _joined(lines: Sequence[str]) -> list[str]:
    """The imports of a document, those of several lines on one."""
    found: list[str] = []
    for n, line in enumerate(lines):
        if IMPORT.match(line):
            stop = n + 1
            while stop < min(len(lines), n + 40) and balance(lines[n:stop]) > 0:
                stop += 1
            found.append("\n".join(lines[n:stop]))
    return found


def _names(text: str) -> list[tuple[str, str]]:
    """What an import defines, with its module; its own text where that is not known."""
    plain = " ".join(line.partition("#")[0] for line in text.split("\n")).strip()
    found = _PYTHON.match(plain)
    if found is None:
        return [("", " ".join(text.split()).rstrip(";"))]
    names = (" ".join(one.split()) for one in found[2].split(","))
    return [(found[1] or "", re.sub(r"^(\w+) as \1$", r"\1", one)) for one in names if one]


def with_imports(document: Sequence[str], before: int, imports: Sequence[str]) -> tuple[int, list[str]]:
    """The lines from where new imports are inserted up to the line `before`, and the number of the first."""
    first = [line for line in imports if _FIRST.match(line)]
    if first:
        others = [line for line in imports if line not in first]
        at, lines = _inserted(document, before, first, _top(document, before))
        if not others:
            return at, lines
        below, more = _inserted(document, before, others, _place(document, before))
        return (at, [*lines[: len(lines) - (before - below)], *more]) if below > at else (at, [*first, *more])
    return _inserted(document, before, imports, _place(document, before))


def _inserted(document: Sequence[str], before: int, imports: Sequence[str], at: int) -> tuple[int, list[str]]:
    blanks: list[str] = []
    is_beside = (at and IMPORT.match(document[at - 1])) or (at < len(document) and IMPORT.match(document[at]))
    if not is_beside and at < len(document) and document[at].strip():
        is_two = any(not one.strip() and not two.strip() for one, two in pairwise(document))
        blanks = ["", ""] if is_two else [""]
    front = [""] if at and document[at - 1].strip() and blanks else []
    return at, [*front, *imports, *blanks, *document[at:before]]


def _place(document: Sequence[str], before: int) -> int:
    """Behind the last import above a line, or else behind what has to come first in a file."""
    known = [n for n in range(before) if IMPORT.match(document[n]) and not _ABOVE.match(document[n])]
    if not known:
        return _top(document, before)
    at = known[-1] + 1
    while at < before and balance(document[known[-1] : at]) > 0:
        at += 1
    return at


def _top(document: Sequence[str], before: int) -> int:
    """Behind what has to come first in a file."""
    n = 0
    while n < before:
        bare = document[n].strip()
        if found := _DOCSTRING.match(bare):
            rest = bare[found.end() :]
            while n < before and found[1] not in rest:
                n += 1
                rest = document[n] if n < before else ""
        elif bare and not COMMENT.match(bare) and not _ABOVE.match(bare):
            break
        n += 1
    return min(n, before)
