"""Rewrites: replies without edit blocks that contain the new text of a file or of the selection.

Models that cannot follow the format of blocks often write the new text of the whole selection or file, in a
fenced code block or in a `<file>` element as the prompt has them. `read_rewrites` finds such texts in a reply
(`sections.py`). `place` determines which lines of the document one replaces:

- Does it have diff signs, line numbers, or another spelling than the document (`rewrite_habits.py`)?
- Is it a version of the whole file or of the selection?
- Does it also have lines around these (`extent.py`)?
- Is it complete (`left_out.py`)? Lines that it leaves out would be deleted.
- Which indentation do its lines have in the document (`depths.py`)?

A text that fails one of these checks is not placed. Examples are not placed either, and neither is one
function of a file if nothing is selected.
"""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from singlepass.core.line_diff import changed_blocks
from singlepass.core.matcher import Found, locate
from singlepass.core.replies.definitions import defined_name
from singlepass.core.replies.depths import at_depth
from singlepass.core.replies.extent import n_open, within, without_neighbours
from singlepass.core.replies.habits import text_span
from singlepass.core.replies.left_out import left_out
from singlepass.core.replies.levels import indent_of
from singlepass.core.replies.pairing import aligned, similarity
from singlepass.core.replies.paths import Named, commented_path, named, named_before
from singlepass.core.replies.rewrite_habits import as_diff, in_document_spelling
from singlepass.core.replies.sections import Section, is_fence, sections
from singlepass.core.replies.versions import is_shortened

_MIN_EQUAL = 0.25
"""Minimum share of the document's lines that a text must have to count as a version of them."""
_VERY_ALIKE = 0.8
"""Minimum similarity of a line and its new version if it has no neighbouring lines to compare."""
_MOST_FOR_FEW = 200
"""Maximum number of lines of a text that is a version of one or two lines."""
_MOST_SHOWN = 60
"""Maximum number of characters of a line in a message."""

_DIFFS = frozenset({"diff", "patch", "udiff"})
_SHELLS = frozenset({"bash", "sh", "shell", "console", "zsh"})
_NO_CODE = _SHELLS | {"text", "output", "plaintext"}
"""Languages of fences that show commands or output and not new code, if there is another fence."""
_SCRIPTS = (".sh", ".bash", ".zsh", ".txt", ".md")


class Rewrite(NamedTuple):
    """A text from a reply that may be the new text of a file or selection."""

    path: str
    """The file that the reply names; empty if it names none."""
    lines: tuple[str, ...]
    rival: str = ""
    """Another file to which it may belong; empty if there is none."""


def read_rewrites(lines: Sequence[str], files: Mapping[str, str]) -> list[Rewrite]:
    """The rewrites in a reply without edit blocks; none if the reply is ambiguous.

    It is ambiguous if there are several and one names no file, or two name the same file. Fences that only
    quote lines of a file do not count. `files` are the contents of the files that may be edited, by path.
    """
    found: list[tuple[Rewrite, str]] = []
    prose = 0
    for section in sections(lines):
        language = _language(section)
        is_diff = section.is_fence and any(line.startswith("@@ ") for line in section.lines)
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
    if len(rewrites) > 1:
        bare = ["\n".join(["", *map(str.strip, text.split("\n")), ""]) for text in files.values()]
        rewrites = [one for one in rewrites if not _is_quotation(one.lines, bare)] or rewrites
    names = [rewrite.path for rewrite in rewrites]
    return rewrites if len(set(names)) == len(names) and (len(names) < 2 or "" not in names) else []


def _is_quotation(lines: Sequence[str], files: Iterable[str]) -> bool:
    """Whether the lines occur unchanged in one of the files, apart from indentation."""
    quoted = "\n".join(map(str.strip, lines)).strip("\n")
    return any(f"\n{quoted}\n" in text for text in files)


def _rewrite(section: Section, before: Sequence[str], files: Mapping[str, str]) -> Rewrite | None:
    """One text with its file; None if two different files are named."""
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
    """Parts of a reply with edit blocks that look like further edits: rewrites, code blocks and diffs. A None
    among the lines stands for an edit block."""
    found = sections(lines)
    parts: list[tuple[str, ...]] = []
    for one in found:
        text = one.lines
        if one.holds_blocks:
            # If it was never closed, the text before the first block may be a rewrite.
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
    """The lines after the first one with text and after the blank lines that follow it."""
    there = [n for n, line in enumerate(lines) if line.strip()]
    return tuple(lines[there[1] :]) if len(there) > 1 else ()


def _language(section: Section) -> str:
    return section.name.partition(" ")[0].partition(":")[0].casefold() if section.is_fence else ""


def _may_be_script(path: str) -> bool:
    return path.casefold().endswith(_SCRIPTS) or "." not in path.rpartition("/")[2]


def _inside(lines: Sequence[str]) -> tuple[str, ...]:
    """The lines without a fence around all of them."""
    text = [n for n, line in enumerate(lines) if line.strip()]
    fences = [n for n in text if is_fence(lines[n])]
    is_around = len(fences) == 2 and fences == [text[0], text[-1]]
    return tuple(lines[text[0] + 1 : text[-1]] if is_around else lines)


class Unplaced(NamedTuple):
    """A rewrite that cannot be placed."""

    message: str
    """The reason, for the user."""


def place(
    document: Sequence[str], written: Sequence[str], selection: tuple[int, int] | None
) -> Found | Unplaced:
    """The lines of the document that a rewrite replaces, and their new text: the document's own lines where
    it repeats them, all others with the document's spelling and indentation.

    It must be the new text of the whole file or the whole selection. A rewrite that may be incomplete, or
    contain more than that, is not placed, because its omissions cannot be distinguished from deletions.
    """
    if (diff := as_diff(written, document)) is not None:
        if diff.is_clear and diff.unsigned is not None:
            return _place(document, diff.unsigned, selection)
        found = locate(document, diff.old, diff.new, selection) if diff.is_clear else None
        return found if isinstance(found, Found) and found.how != "fuzzy" else Unplaced(_HAS_SIGNS)
    new = in_document_spelling(written, document)
    if new is None:
        return Unplaced(_HAS_SIGNS)
    found = _place(document, new, selection)
    is_respelled = {*map(str.strip, new)} != {*map(str.strip, written)}
    if isinstance(found, Found) and is_respelled and [*found.new] == [*document[found.start : found.end]]:
        return Unplaced(_SAME_BUT_SPELLED)
    return found


def is_unbalanced(document: Sequence[str], old: Sequence[str], new: Sequence[str]) -> bool:
    """Whether the new lines increase the number of unbalanced brackets in the document."""
    now = n_open(document)
    return abs(now - n_open(old) + n_open(new)) > abs(now)


def _place(
    document: Sequence[str], new: Sequence[str], selection: tuple[int, int] | None
) -> Found | Unplaced:
    whole = text_span(document)
    selected = None
    if selection is not None and selection[0] < selection[1]:
        selected = text_span(document, selection)
    if selected is None or selected == whole:
        return placed(document, new, whole, whole, is_selected=selected is not None)
    of_file = placed(document, new, whole, selected, is_selected=True)
    if isinstance(of_file, Found):
        return of_file
    of_selection = placed(document, new, selected, selected, is_selected=True)
    return of_file if of_selection == Unplaced(_IS_ANOTHER) else of_selection


def placed(
    document: Sequence[str],
    new: Sequence[str],
    span: tuple[int, int],
    changing: tuple[int, int],
    *,
    is_selected: bool,
) -> Found | Unplaced:
    """The same for the lines `span` of the document, of which those in `changing` may be deleted or
    replaced."""
    start, end = span
    old = document[start:end]
    new = without_neighbours(document, span, new)
    if not _is_version(old, new) and not (is_selected and is_shortened(old, new)):
        return Unplaced(_IS_ANOTHER)
    inside = within(document, span, new, pairs_of_text(old, new))
    if inside is None:
        return Unplaced(HAS_MORE)
    pairs = pairs_of_text(old, inside)
    gone = left_out(old, inside, pairs, (changing[0] - start, changing[1] - start), is_selected=is_selected)
    if gone is not None:
        return Unplaced(_left_out_message(old, *gone, start))
    if is_unbalanced(document, old, inside):
        return Unplaced(BRACKETS)
    if _is_twice([*document[:start], "", *document[end:]], old, inside):
        return Unplaced(HAS_MORE)
    lines = at_depth(old, inside, pairs, document)
    if lines is None:
        return Unplaced(NO_DEPTH)
    return Found(start, end, "rewrite", tuple(with_own_lines(old, lines)))


def _is_twice(around: Sequence[str], old: Sequence[str], new: Sequence[str]) -> bool:
    """Whether the new text has a definition that begins exactly like one around the replaced lines."""
    known = {*_begun(old)}
    repeated = [one for one in _begun(new) if one not in known and defined_name(one[0])]
    return bool(repeated) and not {*_begun(around)}.isdisjoint(repeated)


def _begun(lines: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Each line with text, with the next one."""
    return pairwise(line.strip() for line in lines if line.strip())


_IS_ANOTHER = (
    "The reply has code without edit blocks, and not the whole new text of the selection or the file."
)
_HAS_SIGNS = (
    "The reply has diff signs or line numbers, and it is not clear which lines of the file it changes."
)
HAS_MORE = "The reply also contains changed versions of lines around the selection."
BRACKETS = "The reply has unbalanced brackets compared with the lines that it would replace."
NO_DEPTH = "It is not clear how the lines of the reply are to be indented."
_SAME_BUT_SPELLED = (
    "The reply differs from the file only in the spelling of characters, such as quotation marks."
)


def _left_out_message(old: Sequence[str], first: int, end: int, start: int) -> str:
    line = old[first].strip()
    shown = line[:_MOST_SHOWN] + "…" * (len(line) > _MOST_SHOWN)
    lines = f"line {start + first + 1}" if end - first == 1 else f"lines {start + first + 1} to {start + end}"
    return f"The reply leaves out {lines} (“{shown}”), and it is not clear whether they are to be deleted."


def _is_version(old: Sequence[str], new: Sequence[str]) -> bool:
    """Whether a text is a version of the lines at all: it has a quarter of them unchanged, or it defines the
    same name as their first line; for one or two lines, it has very similar ones."""
    old_bare, new_bare = ([line.strip() for line in lines if line.strip()] for lines in (old, new))
    known = {*new_bare}
    n_equal = sum(line in known for line in old_bare)
    if n_equal and n_equal >= _MIN_EQUAL * len(old_bare):
        return True
    if len(old_bare) > 2 and (name := defined_name(old_bare[0])):
        return any(defined_name(line) == name for line in new_bare)
    if not 0 < len(old_bare) <= 2 or len(new_bare) > _MOST_FOR_FEW:
        return False
    return all(any(similarity(one, line, _VERY_ALIKE) for line in new_bare) for one in old_bare)


def pairs_of_text(old: Sequence[str], new: Sequence[str]) -> dict[int, int]:
    """By new line, the old line that it repeats or changes; blank lines are not paired."""
    text, text_new = ([n for n, line in enumerate(lines) if line.strip()] for lines in (old, new))
    found = aligned([old[i] for i in text], [new[j] for j in text_new])
    return {text_new[j]: text[i] for j, i in found.items()}


def with_own_lines(old: Sequence[str], new: Sequence[str]) -> list[str]:
    """The new lines, with the document's trailing white space in lines that it has too."""
    lines = [*new]
    a = c = 0
    blocks = changed_blocks([*map(str.strip, old)], [*map(str.strip, new)])
    for start, end, start_new, end_new in (*blocks, (len(old), len(old), len(new), len(new))):
        for n, line in zip(range(c, start_new), old[a:start], strict=True):
            if not line.strip() or indent_of(line) == indent_of(lines[n]):
                lines[n] = line
        a, c = end, end_new
    return lines
