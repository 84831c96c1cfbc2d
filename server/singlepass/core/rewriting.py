"""Rewrites of a region: the form of answer for models that cannot keep the form of edit blocks.

Small models copy old lines badly, quote far more than they change, and after the old lines they tend to write
the same ones again as the new lines. So they are asked for the new text of one region in a code block:

    ```py
    the new text of the region
    ```

The grammar lets them write nothing else, and the end of the code block ends the reply. What changes is found
by comparing the texts, as for all edits; the old region is the draft. `docs/prompts.md` has the measurements.
"""

import json
import re
from collections.abc import Sequence

from singlepass_backends.base import Draft

from singlepass.core.diff_parser import (
    HunkDropped,
    HunkFinished,
    HunkOpened,
    NewLine,
    OldLine,
    ParserEvent,
)
from singlepass.core.fences import code_block, info_string
from singlepass.core.grammar import UNBOUNDED, Bounds
from singlepass.core.hunks import Hunk
from singlepass.core.lines import encodable
from singlepass.core.region import region_of
from singlepass.core.replies.habits import text_span

MOST_LINES = 80
"""Maximum number of lines in a region; of more, edit blocks are faster."""

_BASE_TOKENS = 256
"""A reply may have this many tokens, plus one for each character of its region: about three times as many."""

_WIDE = re.compile(
    r"\b(?:everywhere|throughout|all (?:the )?(?:callers|uses|usages|files|places|functions|methods|classes)|"
    r"callers|call sites|(?:whole|entire) (?:file|module)|in (?:this|the) (?:file|module)|extract|move)\b",
    re.IGNORECASE,
)
"""Words of an instruction that is not about the selected lines alone."""
_REMOVES = re.compile(
    r"\b(?:remov\w*|delet\w*|drop|clean|clear|empty|unused|dead|unreachable|redundant|duplicat\w*|get rid)\b",
    re.IGNORECASE,
)
"""Words of an instruction that nothing may be left after."""


def may_be_empty(instruction: str) -> bool:
    """Whether a request may be answered with no lines at all."""
    return _REMOVES.search(instruction) is not None


def region_to_rewrite(
    lines: Sequence[str], first: int, end: int, instruction: str, *, around: bool = False
) -> tuple[int, int] | None:
    """The lines of the document to be rewritten for a request, end exclusive; None for edit blocks.

    They are the region of the request (`region_of`); or the whole of a short document, if the instruction is
    about more than that or there is no region. With `around` the lines first…end-1 were not selected by the
    user, but are those of a problem or a comment, so the region is the definitions that they are in.
    """
    region = region_of(lines, first, first if around else end)
    if region is not None and around:
        # A problem may go from one definition to another; none is cut.
        end = max(region[1], text_span(lines, (first, end))[1])
        last = region_of(lines, end - 1, end - 1) if end > region[1] else region
        region = (min(region[0], last[0]), max(region[1], last[1])) if last is not None else None
    is_renaming_from_cursor = first == end and "rename" in instruction.lower()
    if region is None or _WIDE.search(instruction) or is_renaming_from_cursor:
        region = text_span(lines)
    return region if 0 < region[1] - region[0] <= MOST_LINES else None


def most_tokens(old: Sequence[str]) -> int:
    """The limit of a reply for these lines. A longer reply is a runaway."""
    return _BASE_TOKENS + sum(map(len, old))


def rewrite_grammar(path: str, fence: str, bounds: Bounds = UNBOUNDED, *, may_be_empty: bool = True) -> str:
    """The grammar of a code block, in llguidance's Lark syntax. No line in it begins with the fence."""
    n = len(fence)
    line = rf"([^`\n\r][^\n\r]*|`{{1,{n - 1}}}([^`\n\r][^\n\r]*)?)?\n"
    times = (
        ("*" if may_be_empty else "+")
        if bounds.max_lines is None
        else f"~{1 - may_be_empty}..{bounds.max_lines}"
    )
    length = "" if bounds.max_line_chars is None else rf" & /[^\n]{{0,{bounds.max_line_chars}}}\n/"
    return "\n".join(
        (
            f"start: OPEN LINE{times} CLOSE",
            f"OPEN: {json.dumps(f'{fence}{info_string(path)}' + chr(10))}",
            f"CLOSE: {json.dumps(fence)}",
            f"LINE: /{line}/{length}",
            "",
        )
    )


def expect_rewrite(
    lines: Sequence[str], region: tuple[int, int], path: str, fence: str, corpus: tuple[str, ...] = ()
) -> Draft:
    """The expected reply, for speculative decoding: the region as it is. `corpus` is the draft corpus."""
    old = encodable(code_block(lines[slice(*region)], path, fence))
    document = encodable("".join(f"{line}\n" for line in lines))
    opening = f"{fence}{info_string(path)}"
    return Draft(old, opening, fence, fence, (), document, tuple(map(encodable, corpus)))


class RewriteParser:
    """Parses a reply that the grammar of `rewrite_grammar` held: text in pieces, events out.

    Like `DiffParser`, with the region's lines as the old lines of the only block.
    """

    def __init__(self, path: str, old: Sequence[str], fence: str) -> None:
        self._path = path
        self._old = tuple(old)
        self._fence = fence
        self._new: list[str] = []
        self._partial: list[str] = []
        self._is_open = self._is_done = False

    def feed(self, chunk: str) -> list[ParserEvent]:
        """The events that the text so far makes certain and that were not returned before."""
        first, *others = chunk.split("\n")
        self._partial.append(first)
        events: list[ParserEvent] = []
        for part in others:
            events += self._line("".join(self._partial))
            self._partial = [part]
        return events

    def close(self, complete: bool = True) -> list[ParserEvent]:
        """The last events. `complete` is whether the model ended the reply by itself."""
        last = "".join(self._partial)
        self._partial = []
        events = self._line(last) if last else []
        if not self._is_open or self._is_done:
            return events
        self._is_done = True
        reason = "unclosed" if complete else "cut_off"
        return [*events, HunkDropped(0, self._path, reason, "\n".join(self._new), self._hunk())]

    def _hunk(self) -> Hunk:
        return Hunk(0, self._path, self._old, tuple(self._new), is_rewrite=True, is_constrained=True)

    def _line(self, line: str) -> list[ParserEvent]:
        if self._is_done:
            return []
        if not self._is_open:
            self._is_open = True
            return [HunkOpened(0, self._path), *(OldLine(0, one) for one in self._old)]
        if line == self._fence:
            self._is_done = True
            return [HunkFinished(self._hunk())]
        self._new.append(line)
        return [NewLine(0, line)]
