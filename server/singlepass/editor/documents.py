"""Our own mirror of the editor's open documents.

pygls has one too, but splits lines at form feeds and Unicode separators, which shifts every later position.
Here a document is a string, a version and a log of its changes, in offsets. Hunks are rebased over that log,
and it shows whether an edit that we sent came back as predicted.
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import anyio
import msgspec

from singlepass.core.edits import Edit, Snapshot, difference
from singlepass.core.lines import Encoding, LineIndex
from singlepass.editor.positions import id_of_uri
from singlepass.files.same_file import FileId, is_same

_LOG_LIMIT = 20_000
_HEARD_LIMIT, _HEARD_CHARS = 64, 4_000_000
"""Limits of the log of changes: their number, and the total characters of the texts before them."""

Said = Callable[[str], Sequence[Edit]]
"""A function from a text to the sequential edits of a `didChange`."""


class _Heard(NamedTuple):
    version: int
    said: Said
    before: str
    """The text before the change."""


class Expectation:
    """A text that a document should have after an edit that we sent; fulfilled by a later `didChange`."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.met_at: int | None = None
        """The revision at which the document had the text."""


class Document:
    """An open document. `revision` counts individual changes, since one `didChange` may contain several."""

    def __init__(self, uri: str, language: str, version: int, text: str, encoding: Encoding) -> None:
        self.uri = uri
        self.file: FileId = id_of_uri(uri)
        """The identity of its file, whatever the URI."""
        self.language = language
        self.version = version
        self.index = LineIndex(text, encoding)
        """Converts offsets and positions of the current text; changes with the document."""
        self.revision = 0
        self.is_open = True
        self.opened = 0
        """Its sequence number among the documents opened."""
        self.published = False
        """Whether the document has diagnostics of ours."""
        self.transient = False
        """Whether these are removed at the next keystroke."""
        self._heard: deque[_Heard] = deque()
        """The latest changes by version, to insert a late one at its place."""
        self._heard_after = version
        self._log: list[Edit] = []
        self._log_start = 0
        self._expectations: list[Expectation] = []
        self._changed = anyio.Event()
        self._saved = self.snapshot(), 0
        self.saved_at: float | None = None
        """When it was last saved, on the monotonic clock; None since it was opened."""

    @property
    def text(self) -> str:
        """The current text."""
        return self.index.text

    def snapshot(self) -> Snapshot:
        """The current version and text."""
        return Snapshot(self.uri, self.version, self.text)

    def save(self, at: float) -> None:
        """`didSave`, with the time of the monotonic clock."""
        self._saved = self.snapshot(), self.revision
        self.saved_at = at

    def saved(self) -> tuple[Snapshot, int]:
        """The document as last saved, and its revision then; the current one if that is too long ago.

        Neighbours are put into prompts in this form, so that typing in one document does not change the
        prompts of all others. Hunks for them are rebased over what was typed since.
        """
        snapshot, revision = self._saved
        if self.changes_since(revision) is None:
            return self.snapshot(), self.revision
        return snapshot, revision

    def hear(self, version: int, said: Said) -> bool:
        """One `didChange`, applied in the order of versions. Returns whether it came late.

        Helix 25.01 sends changes from concurrent tasks, so with fast typing they may arrive out of order. A
        late change refers to the text of its predecessor, so it and all later changes are applied again from
        there. If an editor's versions do not increase, as the protocol demands, the order of arrival is used.
        """
        if self._heard_after < version < self.version and version not in {v for v, *_ in self._heard}:
            self._put_in_place(version, said)
            return True
        if version <= self.version:
            self._heard.clear()
            self._heard_after = version
        self._heard.append(_Heard(version, said, self.text))
        while len(self._heard) > min(_HEARD_LIMIT, 1 + _HEARD_CHARS // (len(self.text) + 1)):
            self._heard_after = self._heard.popleft().version
        self.update(version, said(self.text))
        return False

    def _put_in_place(self, version: int, said: Said) -> None:
        later = [one for one in self._heard if one.version > version]
        for _ in later:
            self._heard.pop()
        text = later[0].before
        for one in (_Heard(version, said, text), *later):
            self._heard.append(one._replace(before=text))
            text = _after(text, one.said(text))
        self.update(self.version, [difference(self.text, text)])

    def update(self, version: int, edits: Iterable[Edit]) -> None:
        """One `didChange`: sequential edits. Raises ValueError if one is outside the text."""
        self.version = version
        for edit in edits:
            self._change(edit)
        self._tell()

    def close(self) -> None:
        """`didClose`: the document receives no more changes."""
        self.is_open = False
        self._tell()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()

    def _change(self, edit: Edit) -> None:
        self.index.change(*edit)
        self.revision += 1
        self._log.append(edit)
        if len(self._log) > _LOG_LIMIT:
            dropped = _LOG_LIMIT // 2
            del self._log[:dropped]
            self._log_start += dropped
        for expectation in self._expectations:
            if expectation.met_at is None and self.index.is_text(expectation.text):
                expectation.met_at = self.revision

    async def until(self, condition: Callable[[], bool], timeout_s: float) -> None:
        """Wait until a change makes the condition true, the document is closed, or the timeout."""
        with anyio.move_on_after(timeout_s):
            while self.is_open and not condition():
                await self._changed.wait()

    def changes_since(self, revision: int) -> Sequence[Edit] | None:
        """The changes after a revision, oldest first; None if they are no longer in the log."""
        if revision < self._log_start:
            return None
        return self._log[revision - self._log_start :]

    def expect(self, text: str) -> Expectation:
        """Watch for the document to become `text`. Pair with `forget`."""
        expectation = Expectation(text)
        self._expectations.append(expectation)
        return expectation

    def forget(self, expectation: Expectation) -> None:
        """Stop watching."""
        self._expectations.remove(expectation)


def _after(text: str, edits: Iterable[Edit]) -> str:
    """The text after sequential edits. Raises ValueError if one is outside the text."""
    index = LineIndex(text)
    for edit in edits:
        index.change(*edit)
    return index.text


class Held(NamedTuple):
    """An open document's texts at one moment (current and saved), each with its revision."""

    document: Document
    now: Snapshot
    revision: int
    saved: Snapshot
    saved_revision: int


Listener = Callable[[Document], None]


class EditableFile(msgspec.Struct, frozen=True):
    """A file that a job may edit: the snapshot that the model saw, and the document, if it is open."""

    path: str
    """Its path in the prompt."""
    snapshot: Snapshot
    document: Document | None
    revision: int
    """The document's revision that has the snapshot's text."""
    protection: str = ""
    """What kind of protected file it is, in words, if edits need the user's consent; empty for others."""


class Documents:
    """The open documents, the most recently used last.

    A file may have several URIs, and an editor may have it open under more than one of them. Each of these is
    a separate document with its own versions; any other URI of the file means the one used last.
    """

    def __init__(self) -> None:
        self.encoding: Encoding = "utf-16"
        self.on_opened: list[Listener] = []
        self.on_changed: list[Listener] = []
        self.on_closed: list[Listener] = []
        """Callbacks for document events, called in this order after the document was updated."""
        self._by_uri: dict[str, Document] = {}
        self._n_opened = 0

    def open(self, uri: str, language: str, version: int, text: str) -> Document:
        """`didOpen`. Replaces a document that is already open."""
        self.close(uri)
        document = Document(uri, language, version, text, self.encoding)
        self._n_opened += 1
        document.opened = self._n_opened
        self._by_uri[uri] = document
        return document

    def close(self, uri: str) -> None:
        """`didClose`. Unknown documents are ignored."""
        document = self._by_uri.pop(uri, None)
        if document is not None:
            document.close()

    def get_exactly(self, uri: str) -> Document | None:
        """The document that was opened under this URI, or None."""
        return self._by_uri.get(uri)

    def get(self, uri: str) -> Document | None:
        """The open document of the file that the URI names, or None."""
        if (document := self._by_uri.get(uri)) is not None or not self._by_uri:
            return document
        file = id_of_uri(uri)
        return next((one for one in self.recent() if is_same(one.file, file)), None)

    def held(self) -> tuple[Held, ...]:
        """All open documents as they are now, the most recently used first."""
        return tuple(Held(one, one.snapshot(), one.revision, *one.saved()) for one in self.recent())

    def touch(self, uri: str) -> None:
        """Mark a document as most recently used, so that it is preferred as a neighbour."""
        document = self._by_uri.pop(uri, None)
        if document is not None:
            self._by_uri[uri] = document

    def recent(self) -> Iterable[Document]:
        """Open documents, the most recently used first."""
        return reversed(tuple(self._by_uri.values()))
