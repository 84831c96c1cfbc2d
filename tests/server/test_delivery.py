"""Hunks on their way into a buffer in which somebody types, and back out of it.

What the user types are marks that occur nowhere else. So a final text without its marks must be, to the byte,
the first text with the applied hunks in it and nothing else changed.
"""

import asyncio
import itertools
import re
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from server.fakes import FakeEditor, LateEditor, ReadOnlyEditor
from singlepass.core.diff_parser import Hunk
from singlepass.core.edits import Edit, Snapshot, apply
from singlepass.core.planner import PlannedHunk, plan
from singlepass.editor.documents import EditableFile
from singlepass.jobs import delivery as delivery_module
from singlepass.jobs.delivery import Delivery, deliver

URI = "file:///w/a.py"
OTHER = "file:///w/b.py"
MARK = re.compile("⟦[^⟧]*⟧")
PLACE = re.compile("⟦[^⟧]*⟧|\r\n|[^⟦]", re.DOTALL)


@pytest.fixture(autouse=True)
def no_waiting() -> Iterable[None]:
    """These editors tell what they do before they answer, so there is nothing to wait for."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(delivery_module, "_ECHO_TIMEOUT_S", 0)
        patch.setattr(delivery_module, "_TYPED_TIMEOUT_S", 0)
        yield


def source(editor: FakeEditor, uri: str = URI) -> EditableFile:
    path = uri.rpartition("/")[2]
    document = editor.documents.get(uri)
    if document is None:
        return EditableFile(path, Snapshot(uri, None, editor.texts[uri]), None, 0)
    return EditableFile(path, document.snapshot(), document, document.revision)


def planned(origin: EditableFile, old: Sequence[str], new: Sequence[str], index: int = 0) -> PlannedHunk:
    found = plan(Hunk(index, origin.path, tuple(old), tuple(new)), {origin.path: origin.snapshot}, None, ())
    assert isinstance(found, PlannedHunk), found
    return found


async def send(
    editor: FakeEditor,
    sources: Mapping[str, EditableFile],
    hunks: Sequence[PlannedHunk],
    confirm: bool = False,
) -> Delivery:
    return await deliver(hunks, sources, editor, "utf-16", "Do", confirm=confirm)  # type: ignore[arg-type]


class Typist:
    """Types marks at places drawn by hypothesis."""

    def __init__(self, editor: FakeEditor, draw: Callable[[st.SearchStrategy[Any]], Any], uri: str = URI):
        self.editor, self.draw, self.uri = editor, draw, uri
        self.marks: list[str] = []

    def __call__(self, most: int = 2) -> int:
        """Up to `most` marks in one didChange; how many."""
        edits: list[Edit] = []
        text = self.editor.texts[self.uri]
        for _ in range(self.draw(st.integers(0, most))):
            # Not inside another mark, nor between a \r and its \n, where an editor has no cursor.
            at = self.draw(st.integers(0, len(PLACE.findall(text))))
            at = [*(found.start() for found in PLACE.finditer(text)), len(text)][at]
            mark = f"⟦{len(self.marks)}{self.draw(st.sampled_from(['', chr(10)]))}⟧"
            self.marks.append(mark)
            edits.append(Edit(at, at, mark))
            text = apply(text, edits[-1:])
        if edits:
            self.editor.type(self.uri, *edits)
        return len(edits)


@st.composite
def hunked(draw: st.DrawFn) -> tuple[str, list[tuple[list[str], list[str]]]]:
    """A text of distinct lines, and hunks of disjoint runs of them in any order."""
    eol = draw(st.sampled_from(["\n", "\r\n", "\r"]))
    lines = [f"line {idx}" for idx in range(draw(st.integers(1, 8)))]
    text = eol.join(lines) + draw(st.sampled_from([eol, ""]))
    borders = sorted(draw(st.sets(st.integers(0, len(lines)), min_size=2)))
    hunks: list[tuple[list[str], list[str]]] = []
    for start, end in itertools.pairwise(borders):
        inside = st.sampled_from([*lines[start:end], "new", "\U0001f600"])
        new = draw(st.lists(inside, max_size=3))
        if draw(st.booleans()) and new != lines[start:end]:
            hunks.append((lines[start:end], new))
    return text, draw(st.permutations(hunks))


def run(coroutine: Coroutine[Any, Any, None]) -> None:
    asyncio.run(coroutine)


def without_marks(text: str) -> str:
    return MARK.sub("", text)


def all_edits(hunks: Iterable[PlannedHunk]) -> list[Edit]:
    """In the order of the text, which decides where two hunks insert at one place."""
    return [edit for hunk in sorted(hunks, key=lambda hunk: (hunk.start, hunk.end)) for edit in hunk.edits]


def check_editor(editor: FakeEditor, typist: Typist) -> None:
    """The server's mirror is right, and nothing that was typed is lost."""
    document = editor.documents.get(URI)
    assert document is not None
    assert document.text == editor.texts[URI]
    for mark in typist.marks:
        assert editor.texts[URI].count(mark) == 1


async def one_by_one(
    editor: FakeEditor, typist: Typist, text: str, pairs: list[tuple[list[str], list[str]]]
) -> tuple[list[tuple[PlannedHunk, Delivery]], str]:
    """Every hunk delivered by itself, with typing before and while it is."""
    editor.open(URI, text)
    origin = source(editor)
    hunks = [planned(origin, old, new, idx) for idx, (old, new) in enumerate(pairs)]
    editor.before_apply = typist
    sent: list[tuple[PlannedHunk, Delivery]] = []
    for hunk in hunks:
        typist()
        sent.append((hunk, await send(editor, {URI: origin}, [hunk])))
    return sent, apply(text, all_edits(hunk for hunk, told in sent if told.n_applied))


def test_hunks_sent_together_insert_in_the_order_of_the_text() -> None:
    """Wherever the model wrote them: a later hunk may insert at the end of its lines, where an earlier one
    inserts at the start of its own."""

    async def scenario() -> None:
        editor = FakeEditor()
        editor.open(URI, "one\ntwo\n")
        origin = source(editor)
        below = planned(origin, ["two"], ["new", "two"], 0)
        above = planned(origin, ["one"], ["one", "more"], 1)
        await send(editor, {URI: origin}, [below, above])
        assert editor.texts[URI] == "one\nmore\nnew\ntwo\n"

    run(scenario())


@given(hunked(), st.data())
def test_an_honest_editor_gets_each_hunk_or_keeps_its_text(
    case: tuple[str, list[tuple[list[str], list[str]]]], data: st.DataObject
) -> None:
    async def scenario() -> None:
        editor = FakeEditor()
        typist = Typist(editor, data.draw)
        sent, expected = await one_by_one(editor, typist, *case)
        check_editor(editor, typist)
        assert without_marks(editor.texts[URI]) == expected
        for hunk, told in sent:
            assert told.mismatches == ()
            assert told.n_applied + len(told.rejected) == 1
            assert len(told.applied) == told.n_applied
            for one in told.rejected:
                assert one.hunk == hunk.hunk
                assert one.reason == "stale"

    run(scenario())


@given(hunked(), st.data())
def test_hunks_sent_together_are_applied_or_rejected_one_by_one(
    case: tuple[str, list[tuple[list[str], list[str]]]], data: st.DataObject
) -> None:
    async def scenario() -> None:
        text, pairs = case
        editor = FakeEditor()
        editor.open(URI, text)
        origin = source(editor)
        hunks = [planned(origin, old, new, idx) for idx, (old, new) in enumerate(pairs)]
        editor.before_apply = typist = Typist(editor, data.draw)
        typist()
        told = await send(editor, {URI: origin}, hunks)
        check_editor(editor, typist)
        rejected = {one.hunk for one in told.rejected}
        assert len(rejected) == len(told.rejected)
        kept = [hunk for hunk in hunks if hunk.hunk not in rejected]
        assert told.n_applied == len(kept)
        assert len(told.applied) == bool(kept)
        assert without_marks(editor.texts[URI]) == apply(text, all_edits(kept))

    run(scenario())


@given(hunked(), st.data())
def test_an_editor_that_always_refuses_keeps_its_text_and_the_user_the_hunks(
    case: tuple[str, list[tuple[list[str], list[str]]]], data: st.DataObject
) -> None:
    async def scenario() -> None:
        editor = ReadOnlyEditor()
        typist = Typist(editor, data.draw)
        sent, expected = await one_by_one(editor, typist, *case)
        check_editor(editor, typist)
        assert without_marks(editor.texts[URI]) == expected == case[0]
        for hunk, told in sent:
            (one,) = told.rejected
            assert one.hunk == hunk.hunk
            assert one.reason in ("refused", "stale")
            if one.reason == "refused":
                assert one.message == "The editor refused the edit: the file is read-only."
            assert (told.n_applied, told.applied, told.mismatches) == (0, (), ())

    run(scenario())


@given(hunked(), st.data())
def test_an_edit_applied_to_a_later_version_is_reported_every_time(
    case: tuple[str, list[tuple[list[str], list[str]]]], data: st.DataObject
) -> None:
    async def scenario() -> None:
        text, pairs = case
        editor = LateEditor()
        editor.open(URI, text)
        origin = source(editor)
        typist = Typist(editor, data.draw)
        n_typed = 0

        def type_late() -> None:
            nonlocal n_typed
            n_typed += typist()

        editor.before_apply = type_late
        for idx, (old, new) in enumerate(pairs):
            n_typed = 0
            told = await send(editor, {URI: origin}, [planned(origin, old, new, idx)])
            if told.rejected:
                assert told == Delivery(rejected=told.rejected)
            elif n_typed:
                assert (told.n_applied, told.applied) == (0, ())
                (message,) = told.mismatches
                assert "a.py" in message
            else:
                assert (told.n_applied, len(told.applied), told.mismatches) == (1, 1, ())

    run(scenario())


TEXT = "one\ntwo\nthree\n"


def opened(
    kind: type[FakeEditor] = FakeEditor, text: str = TEXT
) -> tuple[FakeEditor, dict[str, EditableFile]]:
    editor = kind()
    editor.open(URI, text)
    return editor, {URI: source(editor)}


@pytest.mark.anyio
async def test_an_edit_says_what_it_is_and_asks_where_it_should() -> None:
    editor, sources = opened()
    hunk = planned(sources[URI], ["one", "two"], ["x"])
    told = await send(editor, sources, [hunk], confirm=True)
    assert told.n_applied == 1
    assert editor.texts[URI] == "x\nthree\n"
    await send(editor, sources, [planned(sources[URI], ["three"], ["y", "z"])])
    assert editor.applied == [
        ("singlepass: Do", "2 lines of a.py become 1", True),
        ("singlepass: Do", "1 line of a.py become 2", False),
    ]


@pytest.mark.anyio
async def test_files_that_are_not_open_are_edited_without_a_version() -> None:
    editor, sources = opened()
    editor.put(OTHER, "b\r\nc")
    sources[OTHER] = source(editor, OTHER)
    hunks = [
        planned(sources[URI], ["two"], ["2"]),
        planned(sources[OTHER], ["b"], ["B", "x"]),
        planned(sources[OTHER], ["c"], ["C"]),
    ]
    told = await send(editor, sources, hunks)
    assert (editor.texts[URI], editor.texts[OTHER]) == ("one\n2\nthree\n", "B\r\nx\r\nC")
    assert (told.n_applied, told.rejected) == (3, ())
    assert [(one.uri, one.document is None) for one in told.applied] == [(OTHER, True), (URI, False)]
    assert len(editor.applied) == 1


@pytest.mark.anyio
async def test_two_documents_of_one_edit_are_checked_one_by_one() -> None:
    editor, sources = opened(LateEditor)
    editor.open(OTHER, TEXT)
    sources[OTHER] = source(editor, OTHER)
    editor.before_apply = lambda: editor.type(OTHER, Edit(0, 0, "typed\n"))
    hunks = [planned(sources[URI], ["two"], ["2"]), planned(sources[OTHER], ["two"], ["2"])]
    told = await send(editor, sources, hunks)
    assert told.n_applied == 1
    assert [one.document.uri for one in told.applied] == [URI]
    (message,) = told.mismatches
    assert "b.py" in message
    assert "a.py" not in message


@pytest.mark.anyio
async def test_typing_in_one_of_two_documents_sends_both_again() -> None:
    editor, sources = opened()
    editor.open(OTHER, TEXT)
    sources[OTHER] = source(editor, OTHER)

    def type_once() -> None:
        if len(editor.applied) == 1:
            editor.type(OTHER, Edit(0, 0, "typed\n"))

    editor.before_apply = type_once
    told = await send(
        editor, sources, [planned(sources[URI], ["two"], ["2"]), planned(sources[OTHER], ["two"], ["2"])]
    )
    assert (told.n_applied, told.rejected, told.mismatches) == (2, (), ())
    assert editor.texts == {URI: "one\n2\nthree\n", OTHER: "typed\none\n2\nthree\n"}
    assert len(editor.applied) == 2


@pytest.mark.anyio
async def test_whoever_types_without_a_pause_keeps_the_hunk_as_text() -> None:
    editor, sources = opened()
    editor.before_apply = lambda: editor.type(URI, Edit(0, 0, "x"))
    hunk = planned(sources[URI], ["three"], ["3"])
    told = await send(editor, sources, [hunk])
    (rejected,) = told.rejected
    assert (rejected.hunk, rejected.reason) == (hunk.hunk, "stale")
    assert editor.texts[URI].endswith("two\nthree\n")


@pytest.mark.anyio
async def test_nothing_is_sent_again_after_a_cancel() -> None:
    editor, sources = opened()
    editor.before_apply = lambda: editor.type(URI, Edit(0, 0, "x"))
    hunk = planned(sources[URI], ["three"], ["3"])
    told = await deliver(
        [hunk],
        sources,
        editor,
        "utf-16",
        "Do",
        is_cancelled=lambda: bool(editor.applied),  # type: ignore[arg-type]
    )
    (rejected,) = told.rejected
    assert (rejected.hunk, rejected.reason) == (hunk.hunk, "refused")
    assert len(editor.applied) == 1


@pytest.mark.anyio
async def test_a_closed_document_gets_nothing() -> None:
    editor, sources = opened()
    hunk = planned(sources[URI], ["two"], ["2"])
    editor.documents.close(URI)
    told = await send(editor, sources, [hunk])
    (rejected,) = told.rejected
    assert (rejected.reason, rejected.message) == ("stale", "The document was closed; nothing was written.")
    assert editor.applied == []


@pytest.mark.anyio
async def test_more_changes_than_are_remembered_reject_the_hunk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("singlepass.editor.documents._LOG_LIMIT", 2)
    editor, sources = opened()
    hunk = planned(sources[URI], ["two"], ["2"])
    for _ in range(4):
        editor.type(URI, Edit(0, 0, "x"))
    (rejected,) = (await send(editor, sources, [hunk])).rejected
    assert (rejected.hunk, rejected.reason) == (hunk.hunk, "stale")


@pytest.mark.anyio
async def test_an_editor_that_says_no_but_did_it_is_believed_by_its_text() -> None:
    class Shy(FakeEditor):
        async def apply(self, *args: Any, **options: Any) -> Any:
            result = await super().apply(*args, **options)
            return type(result)(False, "odd")

    editor, sources = opened(Shy)
    told = await send(editor, sources, [planned(sources[URI], ["two"], ["2"])])
    assert (told.n_applied, told.rejected) == (1, ())
    assert editor.texts[URI] == "one\n2\nthree\n"


@pytest.mark.anyio
async def test_an_editor_whose_didchange_comes_after_its_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery_module, "_ECHO_TIMEOUT_S", 60)
    monkeypatch.setattr(delivery_module, "_TYPED_TIMEOUT_S", 60)

    class Slow(FakeEditor):
        """Tells changes only once its answer is out."""

        def type(self, uri: str, *edits: Edit) -> None:
            text = self.texts[uri]
            for edit in edits:
                text = apply(text, [edit])
            self.texts[uri] = text
            self.versions[uri] += 1
            document, version = self.documents.get(uri), self.versions[uri]
            assert document is not None
            asyncio.get_running_loop().call_later(0, lambda: document.update(version, edits))

    editor, sources = opened(Slow)

    def type_once() -> None:
        if len(editor.applied) == 1:
            editor.type(URI, Edit(0, 0, "typed\n"))

    editor.before_apply = type_once
    told = await send(editor, sources, [planned(sources[URI], ["two"], ["2"])])
    assert (told.n_applied, told.rejected, told.mismatches) == (1, (), ())
    assert editor.texts[URI] == "typed\none\n2\nthree\n"
