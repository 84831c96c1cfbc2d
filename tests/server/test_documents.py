"""The mirror of the editor's documents against a slow model of the protocol, and what is told of changes."""

import asyncio
from collections.abc import Sequence

import pytest
from core.texts import texts
from hypothesis import given
from hypothesis import strategies as st
from lsprotocol import types as lsp
from pygls.workspace import PositionCodec, TextDocument
from singlepass.core.edits import Edit, Snapshot, apply
from singlepass.core.lines import Encoding
from singlepass.editor import documents as documents_module
from singlepass.editor.documents import Document, Documents
from singlepass.editor.positions import changes_from_lsp

URI = "file:///a.py"
UNIT_BYTES = {"utf-8": 1, "utf-16": 2, "utf-32": 4}
encodings = st.sampled_from(["utf-8", "utf-16", "utf-32"])
contents = st.text(alphabet="ab \t\x0c\x85é\u2028\U0001f600", max_size=4)
inserted = st.one_of(st.just(""), texts(contents, max_lines=2))


def slow_offset(text: str, line: int, character: int, encoding: Encoding) -> int:
    """The offset of a position: walk the text one character at a time, as the protocol tells it."""
    offset = 0
    while line > 0 and offset < len(text):
        if text[offset] == "\n" or (text[offset] == "\r" and text[offset + 1 : offset + 2] != "\n"):
            line -= 1
        offset += 1
    if line > 0:
        return len(text)
    n_units = 0
    while offset < len(text) and text[offset] not in "\r\n":
        codec = {"utf-8": "utf-8", "utf-16": "utf-16-le", "utf-32": "utf-32-le"}[encoding]
        n_units += len(text[offset].encode(codec)) // UNIT_BYTES[encoding]
        if n_units > character:
            break
        offset += 1
    return offset


positions = st.builds(lsp.Position, st.integers(0, 9), st.integers(0, 12))
ranges = st.builds(lsp.Range, positions, positions)
changes = st.one_of(
    st.builds(lsp.TextDocumentContentChangePartial, ranges, inserted),
    st.builds(lsp.TextDocumentContentChangePartial, ranges, inserted),
    st.builds(lsp.TextDocumentContentChangeWholeDocument, texts(contents)),
)
batches = st.lists(st.lists(changes, min_size=1, max_size=3), max_size=4)


def slow_change(text: str, change: lsp.TextDocumentContentChangeEvent, encoding: Encoding) -> str:
    if not isinstance(change, lsp.TextDocumentContentChangePartial):
        return change.text
    start, end = sorted(
        slow_offset(text, place.line, place.character, encoding)
        for place in (change.range.start, change.range.end)
    )
    return text[:start] + change.text + text[end:]


@given(texts(contents), batches, encodings)
def test_the_mirror_follows_every_change(
    text: str, batches: Sequence[list[lsp.TextDocumentContentChangeEvent]], encoding: Encoding
) -> None:
    document = Document(URI, "python", 1, text, encoding)
    expected = text
    for version, batch in enumerate(batches, 2):
        for change in batch:
            expected = slow_change(expected, change, encoding)
        assert not document.hear(version, lambda text, batch=batch: changes_from_lsp(text, batch, encoding))
        assert document.text == expected
        assert document.index.text == expected
        assert document.snapshot().version == document.version == version
    # The log replays to the same text, from any revision on.
    for revision in range(document.revision + 1):
        log = document.changes_since(revision)
        assert log is not None
        assert len(log) == document.revision - revision
    assert replay(text, document) == expected


def replay(text: str, document: Document) -> str:
    for edit in document.changes_since(0) or ():
        text = apply(text, [edit])
    return text


delays = st.lists(st.floats(0, 12), min_size=12, max_size=12)


@given(texts(contents), st.lists(st.lists(changes, max_size=2), max_size=12), delays, encodings)
def test_changes_that_overtake_each_other_are_put_in_their_place(
    text: str,
    batches: Sequence[list[lsp.TextDocumentContentChangeEvent]],
    delays: Sequence[float],
    encoding: Encoding,
) -> None:
    document, expected = Document(URI, "python", 1, text, encoding), text
    for batch in batches:
        for change in batch:
            expected = slow_change(expected, change, encoding)
    arriving = sorted(range(len(batches)), key=lambda n: n + delays[n])
    newest = 0
    for n in arriving:
        is_late = document.hear(n + 2, lambda text, n=n: changes_from_lsp(text, batches[n], encoding))
        assert is_late == (n + 2 < newest)
        newest = max(newest, n + 2)
        assert document.version == newest
        assert replay(text, document) == document.text
    assert document.text == expected


def test_versions_that_do_not_rise_are_taken_as_they_come() -> None:
    document = Document(URI, "python", 5, "", "utf-16")
    for version, letter in ((5, "a"), (5, "b"), (3, "c"), (4, "d"), (4, "e"), (0, "f")):
        end = len(document.text)
        assert not document.hear(version, lambda _, end=end, letter=letter: [Edit(end, end, letter)])
        assert document.version == version
    assert document.text == "abcdef"


def test_a_change_that_is_too_late_is_taken_as_it_comes() -> None:
    document = Document(URI, "python", 0, "", "utf-16")
    for version in range(2, 202):
        assert not document.hear(version, lambda _: [Edit(0, 0, "x")])
    assert not document.hear(1, lambda _: [Edit(0, 0, "late ")])
    assert document.text == "late " + 200 * "x"


def test_changes_that_came_late_do_not_pile_up() -> None:
    document = Document(URI, "python", 0, "", "utf-16")
    for version in range(1, 201, 2):
        for one in (version + 1, version):
            if one != 99:
                assert document.hear(one, lambda _: [Edit(0, 0, "x")]) == (one == version)
    assert not document.hear(99, lambda _: [Edit(0, 0, "x")])  # far more were heard since than are kept


simple_texts = st.lists(st.text("ab \té\U0001f600", max_size=4), max_size=6).map("\n".join)
simple_changes = st.builds(lsp.TextDocumentContentChangePartial, ranges, simple_texts)


@given(simple_texts, st.lists(simple_changes, max_size=5), encodings)
def test_the_mirror_agrees_with_pygls_where_pygls_is_right(
    text: str, made: list[lsp.TextDocumentContentChangePartial], encoding: Encoding
) -> None:
    theirs = TextDocument(
        URI,
        text,
        version=1,
        language_id="python",
        position_codec=PositionCodec(lsp.PositionEncodingKind(encoding)),
    )
    ours = Document(URI, "python", 1, text, encoding)
    for change in made:
        # pygls takes neither inverted ranges nor positions inside a character or far outside of the text.
        index = ours.index
        start, end = sorted(
            slow_offset(ours.text, place.line, place.character, encoding)
            for place in (change.range.start, change.range.end)
        )
        place = lsp.Range(lsp.Position(*index.position(start)), lsp.Position(*index.position(end)))
        legal = lsp.TextDocumentContentChangePartial(place, change.text)
        ours.update(2, changes_from_lsp(ours.text, [legal], encoding))
        theirs.apply_change(legal)
        assert ours.text == theirs.source


@given(texts(contents), texts(contents))
def test_a_change_of_the_whole_text_is_an_edit_of_what_differs(old: str, new: str) -> None:
    (edit,) = changes_from_lsp(old, [lsp.TextDocumentContentChangeWholeDocument(new)], "utf-16")
    assert apply(old, [edit]) == new
    removed = old[edit.start : edit.end]
    if removed and edit.new:
        assert removed[0] != edit.new[0]
        assert removed[-1] != edit.new[-1]
    if old == new:
        assert (removed, edit.new) == ("", "")


def edits(*spans: tuple[int, int, str]) -> list[Edit]:
    return [Edit(*span) for span in spans]


def test_an_expectation_is_met_in_the_middle_of_one_didchange() -> None:
    document = Document(URI, "python", 1, "abc", "utf-16")
    middle, last, never = document.expect("abX"), document.expect("abXY"), document.expect("abc")
    document.update(2, edits((2, 3, "X"), (3, 3, "Y")))
    assert (middle.met_at, last.met_at, never.met_at) == (1, 2, None)
    assert document.changes_since(1) == edits((3, 3, "Y"))
    # Only the first time counts, and a forgotten one not at all.
    document.forget(never)
    document.update(3, edits((3, 4, ""), (2, 3, "c")))
    assert (middle.met_at, last.met_at, never.met_at) == (1, 2, None)


def test_only_the_latest_changes_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents_module, "_LOG_LIMIT", 10)
    document = Document(URI, "python", 1, "", "utf-16")
    for version in range(2, 40):
        document.update(version, edits((document.revision, document.revision, "x")))
        known = [r for r in range(document.revision + 1) if document.changes_since(r) is not None]
        assert known == list(range(known[0], document.revision + 1))
        assert min(5, document.revision) <= document.revision - known[0] <= 10
        for revision in known:
            log = document.changes_since(revision)
            assert log is not None
            assert [edit.start for edit in log] == list(range(revision, document.revision))


@pytest.mark.anyio
async def test_until_wakes_when_its_condition_comes_true_and_when_the_document_closes() -> None:
    documents = Documents()
    document = documents.open(URI, "python", 1, "")
    until_x = asyncio.ensure_future(document.until(lambda: document.text == "x", 60))
    until_y = asyncio.ensure_future(document.until(lambda: document.text == "y", 60))
    for text, done in (("w", (False, False)), ("x", (True, False)), ("z", (True, False))):
        document.update(document.version + 1, [Edit(0, len(document.text), text)])
        await settle()
        assert (until_x.done(), until_y.done()) == done
    documents.close(URI)
    await settle()
    assert until_y.done()


@pytest.mark.anyio
async def test_until_gives_up() -> None:
    document = Document(URI, "python", 1, "", "utf-16")
    await document.until(lambda: False, 0)
    assert document.is_open


async def settle() -> None:
    """Let every task run until all of them wait."""
    for _ in range(10):
        await asyncio.sleep(0)


def test_recently_used_documents_come_first() -> None:
    documents = Documents()
    for name in "abc":
        documents.open(name, "python", 1, "")
    documents.touch("a")
    documents.touch("unknown")
    assert [document.uri for document in documents.recent()] == ["a", "c", "b"]
    documents.close("c")
    documents.close("unknown")
    assert [document.uri for document in documents.recent()] == ["a", "b"]
    assert documents.get("c") is None


def test_a_document_opened_again_replaces_the_old_one() -> None:
    documents = Documents()
    old = documents.open(URI, "python", 1, "old")
    new = documents.open(URI, "python", 1, "new")
    assert not old.is_open
    assert new.is_open
    assert documents.get(URI) is new


def test_as_last_saved() -> None:
    document = Document("file:///a.py", "python", 1, "one\n", "utf-16")
    assert document.saved() == (Snapshot("file:///a.py", 1, "one\n"), 0)
    document.update(2, [Edit(0, 0, "typed "), Edit(0, 0, "# ")])
    assert document.saved() == (Snapshot("file:///a.py", 1, "one\n"), 0)
    assert document.saved_at is None
    document.save(12.5)
    assert document.saved() == (Snapshot("file:///a.py", 2, "# typed one\n"), 2)
    assert document.saved_at == 12.5


def test_saved_too_long_ago_is_as_it_is_now() -> None:
    document = Document("file:///a.py", "python", 1, "", "utf-16")
    for version in range(2, 20_005):
        document.update(version, [Edit(0, 0, "x")])
    snapshot, revision = document.saved()
    assert (snapshot.text, revision) == (document.text, document.revision)
