"""A preview of the edit block that the model is writing.

A hunk is applied when it is finished, and a long one takes a slow model many seconds. Until then
`singlepass/preview` tells an editor that supports it where the block's old lines are, and the new lines so
far. This is for display only: edits are planned on the finished hunk. If the old lines do not occur exactly
once, there is no preview.
"""

import time
from collections.abc import Mapping, Sequence

from singlepass.core.diff_parser import (
    HunkDropped,
    HunkFinished,
    HunkOpened,
    NewLine,
    OldLine,
    ParserEvent,
)
from singlepass.core.edits import rebase_span
from singlepass.core.lines import split_lines, visible_lines
from singlepass.core.matcher import find_runs
from singlepass.editor.documents import EditableFile
from singlepass.editor.positions import range_to_json
from singlepass.editor.requests import Editor

PREVIEW = "singlepass/preview"

_TELL_EVERY_S = 0.1
"""Minimum interval of previews; one per line, which may be one token, would flood the editor."""


class Preview:
    """Shows the blocks of one job, in `files` only."""

    def __init__(self, job: int, files: Sequence[EditableFile], editor: Editor) -> None:
        self._job = job
        self._files = files
        self._editor = editor
        self._path = ""
        self._old: list[str] = []
        self._new: list[str] = []
        self._span: tuple[EditableFile, int, int] | None = None
        """The file of the open block, and the span of its old lines in the snapshot."""
        self._told_at = 0.0
        self._n_told = 0
        self._shown_in = ""
        """The URI of the document with a preview; empty for none."""

    def take(self, events: Sequence[ParserEvent]) -> None:
        """Process the parser's events, before its finished hunks are applied."""
        for event in events:
            match event:
                case HunkOpened():
                    self.clear()
                    self._path = event.path
                case OldLine():
                    self._old.append(event.text)
                case NewLine():
                    if not self._new:
                        self._span = self._find()
                    self._new.append(event.text)
                case HunkFinished() | HunkDropped():
                    self.clear()
                case _:
                    pass

    def tell(self) -> None:
        """Show new lines, unless the last preview was sent just before."""
        now = time.monotonic()
        if self._span is None or len(self._new) == self._n_told or now - self._told_at < _TELL_EVERY_S:
            return
        file, start, end = self._span
        document = file.document
        changes = document.changes_since(file.revision) if document is not None else None
        span = rebase_span(start, end, changes) if changes is not None else None
        if (
            document is None
            or span is None
            or not document.is_open
            or document.text[slice(*span)] != file.snapshot.text[start:end]
        ):
            # The user changed these lines.
            self._hide()
            self._span = None
            return
        self._told_at, self._n_told, self._shown_in = now, len(self._new), document.uri
        shown = range_to_json(document.index, *span)
        self._notify({"version": document.version, "range": shown, "lines": [*self._new]})

    def clear(self) -> None:
        """No block is open."""
        self._hide()
        self._span, self._n_told = None, 0
        self._old.clear()
        self._new.clear()

    def _find(self) -> tuple[EditableFile, int, int] | None:
        file = next((one for one in self._files if one.path == self._path), None)
        if file is None or file.document is None or not self._old:
            return None
        text = file.snapshot.text
        found = find_runs(visible_lines(text), self._old)
        if len(found) != 1:
            return None
        lines = split_lines(text)
        return file, lines[found[0]].start, lines[found[0] + len(self._old) - 1].next

    def _hide(self) -> None:
        if self._shown_in:
            self._notify({"version": None, "range": None, "lines": []})
            self._shown_in = ""

    def _notify(self, shown: Mapping[str, object]) -> None:
        self._editor.notify(PREVIEW, {"job": self._job, "uri": self._shown_in, **shown})
