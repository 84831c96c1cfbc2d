"""Imports that a model writes in front of the code that needs them, and not where the file has its own.

A model that writes a definition anew begins with the import that its new lines use. That line is moved to
the document's imports, or dropped where the document has it.
"""

import re
from collections.abc import Sequence
from itertools import pairwise

from singlepass.core.replies.definitions import COMMENT

IMPORT = re.compile(r"(?:import|from|using|use|require|package)\b|#\s*include\b|const .*=\s*require\(")
_ABOVE = re.compile(r"package\b|[\"']use strict[\"']|#!")
_DOCSTRING = re.compile(r"[rRbBuU]{0,2}(\"\"\"|''')")


def without_imports(new: Sequence[str]) -> tuple[list[str], list[str]]:
    """The imports that stand in front of new lines, and the lines after them. Indented ones stay."""
    n = next((n for n, line in enumerate(new) if line.strip() and not IMPORT.match(line)), len(new))
    imports = [line for line in new[:n] if line.strip()]
    return (imports, [*new[n:]]) if imports and n < len(new) else ([], [*new])


def with_imports(document: Sequence[str], before: int, imports: Sequence[str]) -> tuple[int, list[str]]:
    """The lines from where new imports are inserted up to the line `before`, and the number of the first."""
    at = _place(document, before)
    blanks: list[str] = []
    if not (at and IMPORT.match(document[at - 1])) and at < len(document) and document[at].strip():
        is_two = any(not one.strip() and not two.strip() for one, two in pairwise(document))
        blanks = ["", ""] if is_two else [""]
    front = [""] if at and document[at - 1].strip() and blanks else []
    return at, [*front, *imports, *blanks, *document[at:before]]


def _place(document: Sequence[str], before: int) -> int:
    """Behind the last import above a line, or else behind what has to come first in a file."""
    known = [n for n in range(before) if IMPORT.match(document[n]) and not _ABOVE.match(document[n])]
    if known:
        return known[-1] + 1
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
