"""Hunks that remove most of what they quote, although the request does not ask for it.

A small model that should change a line of a function may write that line alone, and the rest of the function
is gone. This looks like an edit that was meant to shorten, so the user is asked.
"""

import re

from singlepass.core.lines import visible_lines
from singlepass.core.planner import PlannedHunk

MIN_REMOVED = 10
"""Minimum number of non-blank lines removed for a question."""
MIN_SHARE = 0.7
"""Minimum share of the quoted lines."""

STEMS = """
    clean clear collaps combin compact compress condens consolidat convert cut dead dedup delet discard drop
    duplicat eliminat empty empti eras exclud extract factor inlin merg minif mov obsolet omit prun purg reduc
    redundan refactor remov replac reset revert rewrit shorte shrink simpl split strip stub substitut tid trim
    undo unneces unneeded unreach unus
"""
"""Beginnings of the words with which people ask for less text."""
WORDS = "get rid|instead|less|only|take out|throw away|use|using|without"
_ASKS = re.compile(rf"\b(?:(?:{'|'.join(STEMS.split())})\w*|{WORDS})\b", re.IGNORECASE)


def unasked_removal(planned: PlannedHunk, request: str) -> str:
    """What the user has to know of a hunk that removes most of what it quotes; empty for all others.

    `request` is all that the user said: the instruction, and the problems to fix.
    """
    hunk, text = planned.hunk, planned.snapshot.text
    quoted = text[planned.start : planned.end]
    if hunk.is_rewrite:
        # The span of a rewrite is what it changes.
        quoted = "\n".join(hunk.old) or text
    n_quoted = _n_text(quoted)
    n_removed = sum(_n_text(text[one.start : one.end]) - _n_text(one.new) for one in planned.edits)
    if n_removed < max(MIN_REMOVED, MIN_SHARE * n_quoted) or _ASKS.search(request):
        return ""
    return f"of {n_quoted:,} lines {n_quoted - n_removed:,} are left, and nobody asked to remove any"


def _n_text(text: str) -> int:
    return sum(bool(line.strip()) for line in visible_lines(text))
