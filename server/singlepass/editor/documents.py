"""Our own mirror of the editor's open documents.

pygls keeps one too, but splits lines at form feeds and Unicode separators, which shifts every later position.
Here a document is a string, a version and the log of the changes that made it, in offsets; the log is what
hunks are rebased through, and what tells whether an edit we sent came back as we predicted.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import msgspec

from singlepass.core.edits import Edit, Snapshot, difference
from singlepass.core.lines import Encoding, LineIndex
from singlepass.editor.positions import id_of_uri
from singlepass.files.same_file import FileId, is_same

_LOG_LIMIT = 20_000
_HEARD_LIMIT, _HEARD_CHARS = 64, 4_000_000
"""Of the latest changes so many are kept, each with the text before it, of so many characters in all."""

Said = Callable[[str], Sequence[Edit]]
"""What a `didChange` says of a text, as sequential edits."""


class _Heard(NamedTuple):
    version: int
    said: Said
    before: str
    """The text that it was said of."""


class Expectation:
    """A text that a document should have after an edit we sent. Resolved by the changes that come back."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.met_at: int | None = None
        """The revision at which the document had the text."""


class Document:
    """An open document. `revision` counts single changes, since one `didChange` may carry several."""

    def __init__(self, uri: str, language: str, version: int, text: str, encoding: Encoding) -> None:
        self.uri = uri
        self.file: FileId = id_of_uri(uri)
        """What tells its file from others, under whichever URI."""
        self.language = language
        self.version = version
        self.index = LineIndex(text, encoding)
        """Offsets and positions of the text as it is now. It changes with the document."""
        self.revision = 0
        self.is_open = True
        self.opened = 0
        """Its number among the documents opened."""
        self.published = False
        """Whether diagnostics of ours stand in the document."""
        self.transient = False
        """Whether they go with the next keystroke."""
        self._heard: deque[_Heard] = deque()
        """The latest changes by version, so that a late one can be put in its place."""
        self._heard_after = version
        self._log: list[Edit] = []
        self._log_start = 0
        self._expectations: list[Expectation] = []
        self._changed = asyncio.Event()
        self._saved = self.snapshot(), 0
        self.saved_at: float | None = None
        """When it was last saved, on the monotonic clock; None since it was opened."""

    @property
    def text(self) -> str:
        """What it holds now."""
        return self.index.text

    def snapshot(self) -> Snapshot:
        """The document as it is now."""
        return Snapshot(self.uri, self.version, self.text)

    def save(self, at: float) -> None:
        """`didSave`, at a time of the monotonic clock."""
        self._saved = self.snapshot(), self.revision
        self.saved_at = at

    def saved(self) -> tuple[Snapshot, int]:
        """The document as last saved, and the revision it then had; as it is now where that is too long ago.

        What stands beside the target in a prompt is given like this, so that typing in one document does not
        make the prompts of all others new. A hunk for it is rebased over what was typed since.
        """
        snapshot, revision = self._saved
        if self.changes_since(revision) is None:
            return self.snapshot(), self.revision
        return snapshot, revision

    def hear(self, version: int, said: Said) -> bool:
        """One `didChange`, put where its version says. Returns whether it came late.

        Helix 25.01 sends changes from tasks of their own, and with fast typing a later one overtakes. Its
        places are those of the text that it followed, so all from there on is made anew. The protocol has
        versions rise; an editor whose versions do not is taken at the order in which it speaks.
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
        """One `didChange`: sequential edits. Raises ValueError when one leaves the text."""
        self.version = version
        for edit in edits:
            self._change(edit)
        self._changed.set()

    def close(self) -> None:
        """`didClose`: nothing is sent to it any more."""
        self.is_open = False
        self._changed.set()

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
        """Wait until a change makes the condition true, the document is closed, or the time is over."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while self.is_open and not condition():
                    self._changed.clear()
                    await self._changed.wait()

    def changes_since(self, revision: int) -> Sequence[Edit] | None:
        """The changes after a revision, oldest first; None when they are no longer known."""
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
    """The text after sequential edits. Raises ValueError when one leaves it."""
    index = LineIndex(text)
    for edit in edits:
        index.change(*edit)
    return index.text


class Held(NamedTuple):
    """What the editor holds of a file at a moment, each text with the document's revision."""

    document: Document
    now: Snapshot
    revision: int
    saved: Snapshot
    saved_revision: int


Listener = Callable[[Document], None]


class EditableFile(msgspec.Struct, frozen=True):
    """A file that a job may edit: what the model saw of it, and the document behind it, if it is open."""

    path: str
    """As the prompt names it."""
    snapshot: Snapshot
    document: Document | None
    revision: int
    """Of the document, with the snapshot's text."""
    protection: str = ""
    """What kind of file it is, in words, where edits need the user's consent; empty for others."""


class Documents:
    """The open documents, the most recently used last.

    One file may have several URIs, and an editor may have it open under more than one of them. Each is a
    document of its own, with versions of its own; a URI that is none of theirs means the one used last.
    """

    def __init__(self) -> None:
        self.encoding: Encoding = "utf-16"
        self.on_opened: list[Listener] = []
        self.on_changed: list[Listener] = []
        self.on_closed: list[Listener] = []
        """Who is told what the editor says of documents, once they are as it says, in this order."""
        self._by_uri: dict[str, Document] = {}
        self._n_opened = 0

    def open(self, uri: str, language: str, version: int, text: str) -> Document:
        """`didOpen`. A document that was open already is replaced."""
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
        """All there is now, the most recently used first."""
        return tuple(Held(one, one.snapshot(), one.revision, *one.saved()) for one in self.recent())

    def touch(self, uri: str) -> None:
        """Mark a document as used, so that it counts as a near neighbour."""
        document = self._by_uri.pop(uri, None)
        if document is not None:
            self._by_uri[uri] = document

    def recent(self) -> Iterable[Document]:
        """Open documents, the most recently used first."""
        return reversed(tuple(self._by_uri.values()))
