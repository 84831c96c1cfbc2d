"""Removes the comment that asked for an edit (`AI: …`) once the edit is done.

A model may delete it, leave its lines alone, or repeat it among its new lines. Only the whole comment counts:
one of its lines alone, such as a closing `*/`, may belong to another comment.
"""

from collections.abc import Iterable

import msgspec

from singlepass.core.actions import CommentTask
from singlepass.core.diff_parser import Hunk
from singlepass.core.edits import Edit, Snapshot
from singlepass.core.lines import split_lines, visible_lines
from singlepass.core.matcher import find_runs
from singlepass.core.planner import PlannedHunk


def without_comment(hunk: Hunk, comment: CommentTask, text: str) -> Hunk:
    """A hunk for the comment's file, whose text is `text`, without the comment among its new lines.

    Lines that are written anew may have it at another depth, and twice.
    """
    lines, new, n_most = _lines(comment, text), hunk.new, 1
    if hunk.is_rewrite:
        lines, new = tuple(map(str.strip, lines)), tuple(map(str.strip, new))
        n_others = len(find_runs([*map(str.strip, visible_lines(text))], lines)) - 1
        n_most = max(1, len(find_runs(new, lines)) - n_others)
    gone = {n for start in find_runs(new, lines)[:n_most] for n in range(start, start + len(lines))}
    if not gone:
        return hunk
    return msgspec.structs.replace(hunk, new=tuple(line for n, line in enumerate(hunk.new) if n not in gone))


def comment_removal(
    comment: CommentTask, path: str, snapshot: Snapshot, planned: Iterable[PlannedHunk], index: int
) -> PlannedHunk | None:
    """The hunk, with this index, that deletes the comment; None if a planned hunk already covers its lines.

    `path` and `snapshot` are those of the comment's file.
    """
    lines = split_lines(snapshot.text)[comment.start : comment.end]
    start, end = lines[0].start, lines[-1].next
    if any(one.snapshot.uri == snapshot.uri and one.start < end and start < one.end for one in planned):
        return None
    hunk = Hunk(index, path, _lines(comment, snapshot.text), ())
    return PlannedHunk(hunk, snapshot, start, end, (Edit(start, end, ""),))


def _lines(comment: CommentTask, text: str) -> tuple[str, ...]:
    return tuple(visible_lines(text)[comment.start : comment.end])
