"""Replies without edit blocks that are new text as a whole: one fenced code block, or files as the prompt
shows them.

Models that cannot keep the format of blocks often write the selection, or the file, anew. `read_rewrites`
finds such texts in a reply (`sections.py`). `place` says of which lines one is the new text. It asks, in this
order:

- Is it marked as a diff, numbered, or spelled otherwise than the document (`anew.py`)?
- Is it a version of the whole file, or else of the selection, at all?
- Does it go on with the lines around these (`extent.py`)?
- Is it complete (`left_out.py`)? What it leaves out would be deleted.
- How deep do its lines stand in the document (`depths.py`)?

A text that does not pass has no place. So have an example and one function of a file, if nothing is selected.
"""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from singlepass.core.line_diff import changed_blocks
from singlepass.core.matcher import Found, locate
from singlepass.core.replies.anew import as_diff, in_document_spelling
from singlepass.core.replies.definitions import defined_name, surroundings
from singlepass.core.replies.depths import at_depth
from singlepass.core.replies.extent import n_open, within, without_neighbours
from singlepass.core.replies.habits import text_span
from singlepass.core.replies.imports import IMPORT, with_imports, without_imports
from singlepass.core.replies.left_out import left_out
from singlepass.core.replies.levels import columns, indent_of
from singlepass.core.replies.pairing import aligned, similarity
from singlepass.core.replies.paths import Named, commented_path, named, named_before
from singlepass.core.replies.sections import Section, is_fence, sections
from singlepass.core.replies.versions import is_shortened

_MIN_EQUAL = 0.25
"""The share of the document's lines from which a text that has them is another version of these."""
_VERY_ALIKE = 0.8
"""The similarity of a line and its other version, where no line around it tells that they belong together."""
_MOST_FOR_FEW = 200
"""The lines that a text has at most which is a version of one or two."""
_MOST_SHOWN = 60
"""Characters of a line that a message shows."""

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

    Of code blocks in fences only one may leave open which file it is of, quotations of a file aside. `files`
    are those that may be edited.
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
    """Whether the lines stand in one of the files as they are, whatever their indentation."""
    quoted = "\n".join(map(str.strip, lines)).strip("\n")
    return any(f"\n{quoted}\n" in text for text in files)


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


class Unplaced(NamedTuple):
    """A text that takes the place of no lines."""

    message: str
    """Why, for people."""


def place(
    document: Sequence[str], written: Sequence[str], selection: tuple[int, int] | None
) -> Found | Unplaced:
    """The lines of the document that a new text takes the place of, and what is to stand there: the
    document's own lines where it repeats them, others as the document spells and indents its lines.

    It has to be the new text of the whole file or the whole selection. Nothing tells of what it leaves out
    whether that is meant, so a text that may be incomplete, or more than that, has no place.
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


def place_region(
    document: Sequence[str], written: Sequence[str], region: tuple[int, int]
) -> Found | Unplaced:
    """The same for the reply of a model that was asked for these lines, and held to write nothing but code.

    It is taken as it is, but for lines around the region that it repeats, and for imports in front of it,
    which become those of the document.
    """
    old = document[slice(*region)]
    if region != text_span(document):
        of_file = _placed(document, written, text_span(document), region, is_selected=True)
        if isinstance(of_file, Found):
            return of_file if _stays_within(document, region, of_file) else Unplaced(_GOES_ON)
    imports: list[str] = []
    if not IMPORT.match(old[0]):
        imports, written = without_imports(written)
    known = {*map(str.strip, document)}
    fresh = [line for line in imports if line.strip() not in known]
    new = without_neighbours(document, region, written)
    if _is_unbalanced(document, old, new):
        new = within(document, region, new, _pairs(old, new))
        if new is None or _is_unbalanced(document, old, new):
            return Unplaced(_BRACKETS)
    if _defines_anew(document, region, new):
        return Unplaced(_GOES_ON)
    start, end = region
    at, above = with_imports(document, start, fresh) if fresh else (start, [])
    return Found(at, end, "exact", (*above, *_with_own_lines(old, new)))


def _stays_within(document: Sequence[str], region: tuple[int, int], found: Found) -> bool:
    """Whether new text of the whole document changes no line outside of the region, but for new imports."""
    changed = changed_blocks([*document[found.start : found.end]], [*found.new])
    return all(
        (region[0] <= found.start + start and found.start + end <= region[1])
        or (start == end and all(IMPORT.match(line) for line in found.new[first:last] if line.strip()))
        for start, end, first, last in changed
    )


def _defines_anew(document: Sequence[str], region: tuple[int, int], new: Sequence[str]) -> bool:
    """Whether the text defines something again that stands beside the region, in the same block."""
    start, end = region
    depth = columns(indent_of(document[start]))
    headers = surroundings(document)[0]
    beside = {
        line
        for n, line in enumerate(document)
        if not start <= n < end and columns(indent_of(line)) == depth and headers[n] == headers[start]
    }
    again = beside.intersection(new).difference(document[start:end])
    return any(defined_name(line.strip()) for line in again)


def _is_unbalanced(document: Sequence[str], old: Sequence[str], new: Sequence[str]) -> bool:
    """Whether more brackets of the document are left open, or closed too often, with the new lines."""
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
        return _placed(document, new, whole, whole, is_selected=selected is not None)
    of_file = _placed(document, new, whole, selected, is_selected=True)
    if isinstance(of_file, Found):
        return of_file
    of_selection = _placed(document, new, selected, selected, is_selected=True)
    return of_file if of_selection == Unplaced(_IS_ANOTHER) else of_selection


def _placed(
    document: Sequence[str],
    new: Sequence[str],
    span: tuple[int, int],
    changing: tuple[int, int],
    *,
    is_selected: bool,
) -> Found | Unplaced:
    """The same for these lines of the document, of which some may be deleted or replaced."""
    start, end = span
    old = document[start:end]
    new = without_neighbours(document, span, new)
    if not _is_version(old, new) and not (is_selected and is_shortened(old, new)):
        return Unplaced(_IS_ANOTHER)
    inside = within(document, span, new, _pairs(old, new))
    if inside is None:
        return Unplaced(_GOES_ON)
    pairs = _pairs(old, inside)
    gone = left_out(old, inside, pairs, (changing[0] - start, changing[1] - start), is_selected=is_selected)
    if gone is not None:
        return Unplaced(_left_out_message(old, *gone, start))
    if _is_unbalanced(document, old, inside):
        return Unplaced(_BRACKETS)
    if _is_twice([*document[:start], "", *document[end:]], old, inside):
        return Unplaced(_GOES_ON)
    lines = at_depth(old, inside, pairs, document)
    if lines is None:
        return Unplaced(_NO_DEPTH)
    return Found(start, end, "rewrite", tuple(_with_own_lines(old, lines)))


def _is_twice(around: Sequence[str], old: Sequence[str], new: Sequence[str]) -> bool:
    """Whether a definition begins in the new text as one does around its place, to the letter."""
    known = {*_begun(old)}
    repeated = [one for one in _begun(new) if one not in known and defined_name(one[0])]
    return bool(repeated) and not {*_begun(around)}.isdisjoint(repeated)


def _begun(lines: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Each line with the next one below that has text."""
    return pairwise(line.strip() for line in lines if line.strip())


_IS_ANOTHER = (
    "The reply is code without edit blocks, and not the whole new text of the selection or the file."
)
_HAS_SIGNS = (
    "The reply has signs of a diff or numbers of lines, and which lines of the file it is about is not clear."
)
_GOES_ON = "The reply goes on with lines around the selection, and writes them anew too."
_BRACKETS = "The reply begins or ends a block that the lines it is for do not."
_NO_DEPTH = "How deep the lines of the reply are to be indented is not clear."
_SAME_BUT_SPELLED = "The reply differs from the file only in how characters are spelled."


def _left_out_message(old: Sequence[str], first: int, end: int, start: int) -> str:
    line = old[first].strip()
    shown = line[:_MOST_SHOWN] + "…" * (len(line) > _MOST_SHOWN)
    lines = f"line {start + first + 1}" if end - first == 1 else f"lines {start + first + 1} to {start + end}"
    return f"The reply leaves out {lines} (“{shown}”), and whether they are to be deleted is not clear."


def _is_version(old: Sequence[str], new: Sequence[str]) -> bool:
    """Whether a text is another version of the lines at all: a quarter of them is in it as it is, or it
    defines what they begin to define, or, of one or two lines, each is very much alike."""
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


def _pairs(old: Sequence[str], new: Sequence[str]) -> dict[int, int]:
    """By new line, the old line that it repeats or changes; blank lines have none."""
    text, text_new = ([n for n, line in enumerate(lines) if line.strip()] for lines in (old, new))
    found = aligned([old[i] for i in text], [new[j] for j in text_new])
    return {text_new[j]: text[i] for j, i in found.items()}


def _with_own_lines(old: Sequence[str], new: Sequence[str]) -> list[str]:
    """The new lines, those of the document among them as they are, whatever white space ends them."""
    lines = [*new]
    a = c = 0
    blocks = changed_blocks([*map(str.strip, old)], [*map(str.strip, new)])
    for start, end, start_new, end_new in (*blocks, (len(old), len(old), len(new), len(new))):
        for n, line in zip(range(c, start_new), old[a:start], strict=True):
            if not line.strip() or indent_of(line) == indent_of(lines[n]):
                lines[n] = line
        a, c = end, end_new
    return lines
