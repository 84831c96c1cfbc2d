"""Replies without edit blocks that are new text as a whole: one fenced code block, or files as the prompt
shows them.

Models that cannot keep the format of blocks often write the selection, or the file, anew. `read_rewrites`
finds such text in a reply, and `place` says of which lines it is the new text. Text that is neither the whole
file nor the whole selection, such as an example or one function of a file, has no place: what it leaves out
would be deleted.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from singlepass.core.habits import is_fence
from singlepass.core.indentation import indentation_map, reindent
from singlepass.core.line_diff import changed_blocks
from singlepass.core.pairing import similarity
from singlepass.core.paths import Named, commented_path, named, named_before
from singlepass.core.sections import Section, sections

MOST_GONE = 0.25
"""The share of a file's lines with text that its new text may leave out where nothing is selected."""
MOST_GONE_SELECTED = 0.5
"""The share of the selected lines with text that their new text may leave out; more is another text."""
MOST_GONE_AT_BORDER = 0.2
"""The share of the lines with text that may be left out at the beginning or the end, with a line of least
depth among them: more are rather a definition that the text does not repeat."""
_COUNTERPART = 0.5
"""The similarity from which a new line is the counterpart of one that changed."""
_VERY_ALIKE = 0.8
"""The similarity of a line and its other version, where no line around it tells that they belong together."""
_MOST_PAIRS = 40_000

_DIFFS = frozenset({"diff", "patch", "udiff"})
_SHELLS = frozenset({"bash", "sh", "shell", "console", "zsh"})
_NO_CODE = _SHELLS | {"text", "output", "plaintext"}
"""Languages of fences that tell how to run something, beside one with code."""
_SCRIPTS = (".sh", ".bash", ".zsh", ".txt", ".md")


class Rewrite(NamedTuple):
    """New text of a file, or of a part of it."""

    path: str
    """The file that the reply names; empty where it names none."""
    lines: tuple[str, ...]
    rival: str = ""
    """Another file that it may be of."""


def read_rewrites(lines: Sequence[str], files: Mapping[str, str]) -> list[Rewrite]:
    """The texts in a reply without edit blocks; none where it is not clear what they are.

    Of code blocks in fences only one may leave open which file it is of. `files` are those that may be
    edited.
    """
    found: list[tuple[Rewrite, str]] = []
    prose = 0
    for section in sections(lines):
        language = _language(section)
        is_diff = section.is_fence and _has_signs(section.lines, files)
        if not section.is_closed or language in _DIFFS or is_diff:
            return []
        rewrite = _rewrite(section, lines[prose : section.start], files)
        if rewrite is None:
            return []
        found.append((rewrite, language))
        prose = section.end
    if len(found) > 1:
        found = [one for one in found if one[1] not in _NO_CODE]
    elif found and found[0][1] in _SHELLS:
        named_files = [found[0][0].path] if found[0][0].path else [*files]
        found = [one for one in found if any(_may_be_script(path) for path in named_files)]
    rewrites = [rewrite for rewrite, _ in found]
    names = [rewrite.path for rewrite in rewrites]
    return rewrites if len(set(names)) == len(names) and (len(names) < 2 or "" not in names) else []


def _rewrite(section: Section, before: Sequence[str], files: Mapping[str, str]) -> Rewrite | None:
    """One text with its file; None where two files are named alike."""
    text = section.lines if section.is_fence else _inside(section.lines)
    above = named_before(before, files, is_far=True)
    stated = named(section.name, files)
    if not section.is_fence:
        stated = stated or Named(section.name, False)
    if stated is None and above.named and named(above.line, files, alone=True):
        stated = above.named
    comment = commented_path(next((line for line in text if line.strip()), ""), files)
    if comment is not None:
        text = without_first(text)
        if comment.path and stated not in (None, comment):
            return None
        stated = stated or (comment if comment.path else None)
    if stated is None or stated == above.named:
        return Rewrite(above.named.path if above.named else "", text, above.rival)
    return Rewrite(stated.path, text)


def unread_parts(lines: Sequence[str | None]) -> list[tuple[str, ...]]:
    """What a reply with edit blocks holds beside them that looks like an edit: texts of files, code blocks
    and diffs. None among the lines is an edit block."""
    found = sections(lines)
    parts: list[tuple[str, ...]] = []
    for one in found:
        text = one.lines
        if one.holds_blocks:
            # One that was never closed may be a text before the blocks.
            before = itertools.takewhile(lambda line: line is not None, lines[one.start + 1 : one.end])
            text = () if one.is_closed else tuple(line for line in before if line is not None)
        if any(line.strip() for line in text) and _language(one) not in _NO_CODE:
            parts.append(text)
    in_sections = {n for one in found for n in range(one.start, one.end)}
    diff: list[str] = []
    for n, line in enumerate((*lines, None)):
        if line is None or not line.strip() or n in in_sections:
            if any(one.startswith("@@ ") for one in diff):
                parts.append(tuple(diff))
            diff = []
        else:
            diff.append(line)
    return parts


def without_first(lines: Sequence[str]) -> tuple[str, ...]:
    """The lines without the first one that has text, and without the blank ones around it."""
    there = [n for n, line in enumerate(lines) if line.strip()]
    return tuple(lines[there[1] :]) if len(there) > 1 else ()


def _has_signs(lines: Sequence[str], files: Mapping[str, str]) -> bool:
    """Whether these are lines of a diff, in files that have no lines of that kind themselves."""
    if any(line.startswith("@@ ") for line in lines):
        return True
    if any(line.startswith("+") for line in lines):
        return not any(text.startswith("+") or "\n+" in text for text in files.values())
    removed = [line[1:] for line in lines if line.startswith("-") and line[1:].strip()]
    known = {line for text in files.values() for line in text.split("\n")} if removed else set[str]()
    return any(line in known for line in removed)


def _language(section: Section) -> str:
    return section.name.partition(" ")[0].partition(":")[0].casefold() if section.is_fence else ""


def _may_be_script(path: str) -> bool:
    return path.casefold().endswith(_SCRIPTS) or "." not in path.rpartition("/")[2]


def _inside(lines: Sequence[str]) -> tuple[str, ...]:
    """Without a fence around all of it."""
    text = [n for n, line in enumerate(lines) if line.strip()]
    fences = [n for n in text if is_fence(lines[n])]
    is_around = len(fences) == 2 and fences == [text[0], text[-1]]
    return tuple(lines[text[0] + 1 : text[-1]] if is_around else lines)


def place(
    document: Sequence[str], new: Sequence[str], selection: tuple[int, int] | None
) -> tuple[int, int, tuple[str, ...]] | None:
    """The lines of the document, from start to end (exclusive), that a new text takes the place of, and the
    text with the document's indentation. None where it is not the new text of the file, nor of the
    selection."""
    is_selected = selection is not None and selection[0] < selection[1]
    first, end = selection if selection is not None and is_selected else (0, len(document))
    end = min(end, len(document))
    is_part = any(line.strip() for line in (*document[:first], *document[end:]))
    gone = _gone(document, new)
    if is_part:
        is_whole = all(first <= n < end for n in gone)
    else:
        is_whole = _is_all(document, gone, MOST_GONE_SELECTED if is_selected else MOST_GONE)
    if is_whole and _is_version(document, new):
        return 0, len(document), tuple(new)
    window = document[first:end]
    if not is_part or not _is_version(window, new) or _reaches_out(document, first, end, new):
        return None
    if not _is_all(window, _gone(window, new), MOST_GONE_SELECTED):
        return None
    there = {line.strip(): line for line in reversed(window) if line.strip()}
    both = [line for line in new if line.strip() in there]
    windows = [there[line.strip()] for line in both]
    indentation = indentation_map(both, windows, new, document)
    if indentation is None:
        # New depths are what was asked for, if any line kept its own.
        return (first, end, tuple(new)) if any(a == b for a, b in zip(both, windows, strict=True)) else None
    lines = reindent(both, windows, new, indentation)
    return None if lines is None else (first, end, tuple(lines))


def _is_all(lines: Sequence[str], gone: Sequence[int], most: float) -> bool:
    """Whether a text that has no counterpart of some lines is a version of all of them, and not of a part: it
    leaves out no more than this share of them, and neither begins nor ends with a part left out."""
    text = [n for n, line in enumerate(lines) if line.strip()]
    if not text or len(gone) > most * len(text):
        return False
    least = min(len(lines[n]) - len(lines[n].lstrip()) for n in text)
    missing = {*gone}
    for in_order in (text, text[::-1]):
        border = [*itertools.takewhile(missing.__contains__, in_order)]
        has_least = any(len(lines[n]) - len(lines[n].lstrip()) == least for n in border)
        if has_least and len(border) > max(1, MOST_GONE_AT_BORDER * len(text)):
            return False
    return True


def _is_version(old: Sequence[str], new: Sequence[str]) -> bool:
    """Whether a text is another version of the lines at all: a quarter of them is in it as it is, or, of one
    or two lines, each is very much alike."""
    old_bare, new_bare = ([line.strip() for line in lines if line.strip()] for lines in (old, new))
    known = {*new_bare}
    n_equal = sum(line in known for line in old_bare)
    if n_equal and n_equal >= len(old_bare) / 4:
        return True
    alike = (max((similarity(one, line) for line in new_bare), default=0.0) for one in old_bare)
    return 0 < len(old_bare) <= 2 and all(one >= _VERY_ALIKE for one in alike)


def _gone(old: Sequence[str], new: Sequence[str]) -> list[int]:
    """The lines with text that the new text has no counterpart of."""
    gone: list[int] = []
    old_bare, new_bare = [line.strip() for line in old], [line.strip() for line in new]
    for a, b, c, d in changed_blocks(old_bare, new_bare):
        left = list(range(c, d))
        for n in range(a, b):
            if not old_bare[n]:
                continue
            alike = -1
            if (b - a) * (d - c) <= _MOST_PAIRS:
                alike = max(left, key=lambda m: similarity(old_bare[n], new_bare[m]), default=-1)
            if alike >= 0 and similarity(old_bare[n], new_bare[alike]) >= _COUNTERPART:
                left = [m for m in left if m > alike]
            else:
                gone.append(n)
    return gone


def _reaches_out(document: Sequence[str], first: int, end: int, new: Sequence[str]) -> bool:
    """Whether the text goes on before or behind the selection: one of the lines next to it is in the text
    too."""
    inside = {line.strip() for line in document[first:end]} | {""}
    text = {line.strip() for line in new}
    for beside in (reversed(document[:first]), iter(document[end:])):
        nearest = next((line.strip() for line in beside if line.strip() not in inside), None)
        if nearest is not None and nearest in text:
            return True
    return False
