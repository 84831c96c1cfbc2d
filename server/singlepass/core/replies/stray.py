"""Stray lines: lines in a block's new text that are not code, but address the reader or belong to the format.

A model may put a fence around the new lines, a placeholder in place of code that it did not repeat, a
separator or a tag of another format, or the token that ends its message. If neither the old lines nor the
document have such a line, it must not be written into the file, and the block is refused.
"""

import re
from collections.abc import Sequence
from functools import cached_property

import msgspec

from singlepass.core.diff_parser import Hunk
from singlepass.core.line_diff import changed_blocks
from singlepass.core.replies.markings import PROSE, at_a_border, is_sentence, of_a_format, token_in
from singlepass.core.replies.pairing import similarity
from singlepass.core.replies.paths import commented_path, is_source
from singlepass.core.replies.placeholders import Doubt, comment_text, doubt, is_comment, is_dots
from singlepass.core.replies.rewrite import without_first
from singlepass.core.replies.sections import is_fence

_RULE = re.compile(r"={5,}")
_MOST_SHOWN = 100
_CHANGED = 0.75
"""Minimum similarity at which a new line counts as a changed old line."""
_MOST_PAIRS = 2_500
_DOCSTRING_END = re.compile(r"(?:\"\"\"|''')\s*$|^\s*[ru]?([\"']).*\1\s*$", re.IGNORECASE)
_STUB = re.compile(r"pass|\.{3}|raise NotImplementedError\b.*")
_MAY_BE_STUBS = re.compile(
    r"\s*(?:@(?:[\w.]*\.)?(?:abstractmethod|overload)\b|class\b.*\b(?:Protocol|ABC)\b)"
)
_NAME = re.compile(r"\s*(?:async\s+)?(?:def|class)\s+(?P<name>\w+)")
_QUOTES = ('"""', "'''")
_DEFINITION = re.compile(r"\s*(?:(?:async\s+)?def\b|class\b|\)).*:\s*(?:#.*)?$")


def stray(
    old: Sequence[str],
    new: Sequence[str],
    document: Sequence[str],
    path: str,
    *,
    is_constrained: bool = False,
) -> str | None:
    """Why the new lines must not be written, as a message for the user; None if they may. Under the edit
    grammar (`is_constrained`), lines that look like parts of the format are not checked."""
    block = _Block(old, new, document, path)
    if (fence := _unpaired_fence(block)) is not None:
        return f"Its new lines contain a Markdown fence, “{fence.strip()}”."
    if quotes := _quotes_around(block):
        return f"Its new lines are enclosed in “{quotes}”, and the old ones are not."
    for n in block.text:
        bare = new[n].strip()
        if bare in block.known:
            continue
        if not is_constrained and (what := _of_the_format(block, n)):
            return f"Its new lines contain {what}, “{bare[:_MOST_SHOWN]}”."
        if _is_placeholder(block, n):
            return f"Its new lines contain a placeholder for omitted code, “{bare}”."
    return None


def without_path_comment(hunk: Hunk, document: Sequence[str]) -> Hunk:
    """The block without a first line or comment that is only the path of its file, unless the document has
    that line."""

    def without(lines: tuple[str, ...]) -> tuple[str, ...]:
        first = next((line for line in lines if line.strip()), "")
        name = commented_path(first, {hunk.path: ""})
        is_its = first.strip(" \t`*:") == hunk.path or (name is not None and name.path in ("", hunk.path))
        if not is_its or first.strip() in map(str.strip, document):
            return lines
        return without_first(lines) or lines

    old, new = without(hunk.old), without(hunk.new)
    return hunk if (old, new) == (hunk.old, hunk.new) else msgspec.structs.replace(hunk, old=old, new=new)


class _Block:
    """The lines of a block, with cached properties that several checks need."""

    def __init__(self, old: Sequence[str], new: Sequence[str], document: Sequence[str], path: str) -> None:
        self.old, self.new, self.document, self.path = old, new, document, path
        self.text = [n for n, line in enumerate(new) if line.strip()]
        self.is_prose = path.casefold().endswith(PROSE)

    @cached_property
    def known(self) -> frozenset[str]:
        """The old lines and the document's lines, stripped."""
        return frozenset(line.strip() for line in (*self.old, *self.document))

    @cached_property
    def lost(self) -> list[int]:
        """For each new line, how many more lines of code are removed than added in the change that it belongs
        to."""
        lost = [0] * len(self.new)
        for gone, new, c, d in self._changes:
            lost[c:d] = [len(gone) - len(new)] * (d - c)
        return lost

    @cached_property
    def lost_for_nothing(self) -> list[int]:
        """For each new line, `lost` if its change adds only changed versions of old lines; 0 otherwise."""
        lost = [0] * len(self.new)
        for gone, new, c, d in self._changes:
            is_known_text = len(gone) * len(new) <= _MOST_PAIRS and all(
                any(similarity(line, one) >= _CHANGED for one in gone) for line in new
            )
            if len(gone) > len(new) and is_known_text:
                lost[c:d] = [len(gone) - len(new)] * (d - c)
        return lost

    @cached_property
    def _changes(self) -> list[tuple[list[str], list[str], int, int]]:
        """For each change: removed lines of code, added lines of code, and the range of new lines."""
        before = [line.strip() for line in self.old or self.document]
        after = [line.strip() for line in self.new]
        changes: list[tuple[list[str], list[str], int, int]] = []
        for a, b, c, d in changed_blocks(before, after):
            gone = [line for line in before[a:b] if line and (self.is_prose or not is_comment(line))]
            new = [line for line in after[c:d] if line and not is_dots(line) and not doubt(line)]
            changes.append((gone, new, c, d))
        return changes


def _unpaired_fence(block: _Block) -> str | None:
    """A fence that is not part of the new lines but around or after them; None if there is none."""
    fences = _fences(block.new)
    if not fences:
        return None
    n_old = len(_fences(block.old))
    if len(fences) % 2 != n_old % 2:
        return block.new[fences[-1]]
    if block.is_prose:
        return None
    for n in fences:
        if n in (block.text[0], block.text[-1]) and block.new[n].strip() not in block.known:
            return block.new[n]
    for n in fences[1::2] if n_old % 2 == 0 else ():
        if block.new[n].strip().strip("`~"):
            return block.new[n]  # opens a fence inside another
    return None


def _quotes_around(block: _Block) -> str:
    """Triple quotes that were put around the code as if they were a fence; empty if there are none."""
    if len(block.text) < 3:
        return ""
    first, *inside, last = (block.new[n].strip() for n in block.text)
    if first != last or first not in _QUOTES or any(one in line for line in block.old for one in _QUOTES):
        return ""
    code = [line.strip() for line in block.old if line.strip() and not is_comment(line)]
    if inside == code or len(inside) * len(code) > _MOST_PAIRS:
        return ""  # the code was commented out
    return first if any(similarity(line, one) >= _CHANGED for line in inside for one in code) else ""


def _fences(lines: Sequence[str]) -> list[int]:
    """The numbers of the lines that open or close a fenced code block, without underlines of titles."""

    def is_underline(n: int) -> bool:
        bare, title = lines[n].strip(), lines[n - 1].strip() if n else ""
        return not bare.strip("~") and abs(len(bare) - len(title)) <= 1

    return [n for n, line in enumerate(lines) if is_fence(line) and not is_underline(n)]


def _of_the_format(block: _Block, n: int) -> str:
    """A description of a line that belongs to the format of replies and not to a file; empty for other
    lines."""
    line, is_border = block.new[n], n in (block.text[0], block.text[-1])
    bare = line.strip()
    if line.rstrip() == block.path and is_source(block.path):
        return "the path of its file"
    if what := of_a_format(line, block.path):
        token, tag = token_in(line), bare[2:-1] if bare.startswith("</") else ""
        is_ours = any(token in one for one in block.known) if token else False
        is_pair = bool(tag) and any(one.lstrip().startswith(f"<{tag}") for one in block.new)
        is_thought = what.startswith("a thought")
        return "" if is_ours or (is_pair and not is_thought) else what
    if _RULE.fullmatch(bare) and not _is_underline(block, n):
        return "a marker"
    if is_border and (what := at_a_border(line, block.path)):
        return "" if is_sentence(line) and any(map(is_sentence, block.old)) else what
    if n == block.text[0] and _names_another(bare, block.path):
        return "the name of a file"
    return ""


def _is_underline(block: _Block, n: int) -> bool:
    """Whether a line of `=` is the underline of a title, as in reStructuredText and Markdown."""
    title = block.new[n - 1].strip() if n else ""
    if n in (block.text[0], block.text[-1]):
        return block.is_prose and bool(title) and abs(len(title) - len(block.new[n].strip())) <= 1
    return bool(title)


def _names_another(bare: str, path: str) -> bool:
    """Whether a line is a comment that consists of the path of a file with the same extension."""
    name = commented_path(bare, {path: ""})
    return name is not None and name.path.rpartition(".")[2] == path.rpartition(".")[2]


def _is_placeholder(block: _Block, n: int) -> bool:
    line = block.new[n]
    if is_dots(line):
        if block.is_prose:
            return block.lost[n] > 1
        return not _may_be_body(block, n) or block.lost[n] > 1 or _replaces_code(block, n)
    found = doubt(line)
    if block.is_prose and not line.strip().startswith("<!--"):
        # In prose, headings and bullets look like comments.
        return bool(found) and not is_comment(line) and block.lost[n] > 0
    if found in (Doubt.NONE, Doubt.CERTAIN):
        return found is Doubt.CERTAIN
    if comment_text(line) in block.known:
        return False  # code that is commented out
    return (block.lost if found is Doubt.LIKELY else block.lost_for_nothing)[n] > 0


def _replaces_code(block: _Block, n: int) -> bool:
    """Whether dots replace a real body. Stub files and abstract methods have none."""
    if block.path.endswith(".pyi") or any(map(_MAY_BE_STUBS.match, (*block.new, *block.old))):
        return False
    if block.lost[n] > sum(_STUB.fullmatch(line.strip()) is not None for line in block.old):
        return True
    above = (found for line in block.new[n::-1] if (found := _NAME.match(line)))
    name = next((found["name"] for found in above), "")
    old = [line for line in block.old if line.strip()]
    of_the_name = (i for i, line in enumerate(old) if (found := _NAME.match(line)) and found["name"] == name)
    at = next(of_the_name, len(old))
    depth = len(old[at]) - len(old[at].lstrip()) if at < len(old) else 0
    for line in old[at + 1 :]:
        if len(line) - len(line.lstrip()) <= depth:
            break
        bare = line.strip()
        if not (_STUB.fullmatch(bare) or is_comment(line) or _DOCSTRING_END.search(line)):
            return True
    return False


def _may_be_body(block: _Block, n: int) -> bool:
    """Whether dots are a body in Python: they follow a definition or its docstring, and nothing follows them
    in the block."""
    if not block.path.endswith((".py", ".pyi")):
        return False
    new = block.new
    above = next((new[m] for m in range(n - 1, -1, -1) if new[m].strip()), "")
    below = next((new[m] for m in range(n + 1, len(new)) if new[m].strip()), "")
    depth, depth_above, depth_below = (len(one) - len(one.lstrip()) for one in (new[n], above, below))
    begins_block = depth_above < depth and _DEFINITION.match(above) is not None
    follows_docstring = depth_above == depth and _DOCSTRING_END.search(above) is not None
    is_body = not above or begins_block or follows_docstring
    return is_body and not (bool(below) and depth_below >= depth)
