"""Hunks in review in an editor in which somebody types, also while an edit is under way."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lsprotocol import types as lsp
from server.fakes import FakeEditor, LateEditor, edit_of
from server.test_delivery import Typist, check_editor, hunked, planned, run, source, without_marks
from singlepass.core.edits import Edit, apply
from singlepass.core.planner import PlannedHunk
from singlepass.editor.documents import Documents, EditableFile
from singlepass.editor.positions import span_from_lsp
from singlepass.editor.workspace import UserError, Workspace
from singlepass.jobs import delivery as delivery_module
from singlepass.jobs.delivery import Delivery, deliver
from singlepass.jobs.review import ALL, Reviews, Selected, Undone

URI = "file:///w/a.py"
TEXT = "one\ntwo\nthree\nfour\n"


@pytest.fixture(autouse=True)
def no_waiting() -> Iterable[None]:
    """These editors tell what they do before they answer, so there is nothing to wait for."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(delivery_module, "_ECHO_TIMEOUT_S", 0)
        patch.setattr(delivery_module, "_TYPED_TIMEOUT_S", 0)
        yield


class World:
    """An editor whose changes reach the reviews as they do in the server, and a job that writes."""

    def __init__(self, kind: type[FakeEditor] = FakeEditor, text: str = TEXT, uri: str = URI) -> None:
        world = self

        class Told(kind):
            def type(self, uri: str, *edits: Edit) -> None:
                super().type(uri, *edits)
                world.reviews.catch_up(uri)

        self.documents = Documents()
        self.editor = Told(self.documents)
        self.reviews = Reviews(self.documents, Workspace(), self.editor)  # type: ignore[arg-type]
        self.editor.open(uri, text)
        self.uri = uri
        self.origin = source(self.editor, uri)

    @property
    def text(self) -> str:
        return self.editor.texts[self.uri]

    async def write(self, *pairs: tuple[Sequence[str], Sequence[str]], job: int = 1) -> list[Delivery]:
        return [await self.send(planned(self.origin, old, new), job) for old, new in pairs]

    async def send(self, hunk: PlannedHunk, job: int = 1, origin: EditableFile | None = None) -> Delivery:
        origin = origin or self.origin
        uri = origin.snapshot.uri
        async with self.reviews.sending([uri]):
            told = await deliver([hunk], {uri: origin}, self.editor, "utf-16", "Do")  # type: ignore[arg-type]
            for applied in told.applied:
                self.reviews.add(job, applied)
        return told

    def close(self) -> None:
        self.documents.close(self.uri)
        self.reviews.catch_up(self.uri)

    def open(self, text: str | None = None) -> None:
        """As after a save: what was typed is there."""
        self.editor.open(self.uri, self.text if text is None else text)
        self.reviews.catch_up(self.uri)

    def told(self) -> list[dict[str, Any]]:
        return self.editor.told("singlepass/hunks")

    def listed(self) -> list[dict[str, Any]]:
        """As last told, with the ranges checked where no text has changed since."""
        if not self.told():
            return []
        told = self.told()[-1]
        document = self.documents.get(told["uri"])
        if document is not None and told["version"] == document.version:
            for hunk in told["hunks"]:
                places = (lsp.Position(**hunk["range"][name]) for name in ("start", "end"))
                start, end = span_from_lsp(document.index, lsp.Range(*places))
                assert document.text[start:end] == hunk["new"]
        return told["hunks"]

    def ids(self) -> list[int]:
        return [hunk["id"] for hunk in self.listed()]


def test_a_deletion_comes_back_on_its_side_of_lines_that_were_added_later() -> None:
    """Hunks may come in any order where no grammar orders them."""

    async def scenario() -> None:
        world = World()
        for old, new in ((["three"], []), (["two"], ["two", "more"]), (["four"], ["again", "four"])):
            assert (await world.send(planned(world.origin, old, new))).n_applied
        assert world.text == "one\ntwo\nmore\nagain\nfour\n"
        by_old = {hunk["old"]: hunk["id"] for hunk in world.listed()}
        assert (await world.reviews.undo(Selected(hunk=by_old["three\n"]), "undo")).undone == 1
        assert world.text == "one\ntwo\nmore\nthree\nagain\nfour\n"
        assert (await world.reviews.undo(ALL, "undo")).undone == 2
        assert world.text == TEXT

    run(scenario())


@given(hunked(), st.data())
def test_what_is_not_undone_stays_and_what_is_typed_stays_in_any_order(
    case: tuple[str, list[tuple[list[str], list[str]]]], data: st.DataObject
) -> None:
    """Marks stand for what the user types; without them the text is the first one with some hunks in it."""

    async def scenario() -> None:
        text, pairs = case
        world = World(text=text)
        typist = Typist(world.editor, data.draw)
        world.editor.before_apply = typist
        applied: list[PlannedHunk] = []
        by_id: dict[int, Edit] = {}
        for index, (old, new) in enumerate(pairs):
            typist()
            hunk = planned(world.origin, old, new, index)
            if (await world.send(hunk)).n_applied:
                applied.append(hunk)
                by_id.update(enumerate(hunk.edits, len(by_id) + 1))
        undone: set[int] = set()
        for _ in range(data.draw(st.integers(0, 4))):
            typist()
            ids = world.ids()
            if not ids:
                break
            one = data.draw(st.sampled_from(ids))
            if data.draw(st.booleans()):
                assert world.reviews.keep(Selected(hunk=one)) == 1
            else:
                try:
                    answer = await world.reviews.undo(Selected(hunk=one), "undo")
                except UserError as error:
                    if "changed again and again" not in str(error):
                        raise
                    continue  # somebody typed at each try
                assert answer.undone + answer.changed == 1
                undone |= {one} if answer.undone else set()
            assert one not in world.ids()
        world.editor.before_apply = lambda: None
        left = set(world.ids())
        answer = await world.reviews.undo(ALL, "undo")
        assert (answer.undone, answer.changed, world.ids()) == (len(left), 0, [])
        undone |= left
        check_editor(world.editor, typist)
        taken_back = [id(by_id[number]) for number in undone]
        stays = [
            edit
            for hunk in sorted(applied, key=lambda hunk: (hunk.start, hunk.end))
            for edit in hunk.edits
            if id(edit) not in taken_back
        ]
        assert without_marks(world.text) == apply(text, stays)
        if not typist.marks and len(undone) == len(by_id):
            assert world.text == text

    run(scenario())


@given(hunked(), st.data())
def test_an_undo_that_is_applied_late_is_never_told_as_done(
    case: tuple[str, list[tuple[list[str], list[str]]]], data: st.DataObject
) -> None:
    async def scenario() -> None:
        world = World(LateEditor, case[0])
        for index, (old, new) in enumerate(case[1]):
            await world.send(planned(world.origin, old, new, index))
        ids = world.ids()
        typist = Typist(world.editor, data.draw)
        n_typed = 0

        def type_late() -> None:
            nonlocal n_typed
            n_typed += typist()

        world.editor.before_apply = type_late
        answer = await world.reviews.undo(ALL, "undo")
        assert answer.undone + answer.changed == len(ids)
        if not n_typed:
            assert (answer.undone, world.text) == (len(ids), case[0])
        elif ids:
            assert answer.undone == 0
            (message,) = world.editor.said("warning")
            assert "a.py" in message

    run(scenario())


@pytest.mark.anyio
async def test_each_edit_is_told_once_and_moves_are_not() -> None:
    world = World()
    await world.write((["one"], ["1"]), (["three"], ["3"]))
    assert [len(one["hunks"]) for one in world.told()] == [1, 2]
    assert world.told()[-1]["version"] == 3
    world.editor.type(URI, Edit(0, 0, "typed\n"))
    assert len(world.told()) == 2
    world.editor.type(URI, edit_of(world.text, "3", "33"))
    assert [hunk["old"] for hunk in world.listed()] == ["one\n"]
    assert world.told()[-1]["hunks"][0]["range"]["start"] == {"line": 1, "character": 0}
    assert (await world.reviews.undo(ALL, "undo")).undone == 1
    assert world.text == "typed\none\ntwo\n33\nfour\n"
    assert world.told()[-1]["hunks"] == []
    assert world.told()[-1]["job"] == 1


@pytest.mark.anyio
async def test_two_deletions_side_by_side_come_back_in_their_places() -> None:
    for order in ([1, 2], [2, 1]):
        world = World()
        await world.write((["two"], []), (["three"], []))
        assert world.text == "one\nfour\n"
        for id in order:
            assert (await world.reviews.undo(Selected(hunk=id), "undo")).undone == 1
        assert world.text == TEXT


@pytest.mark.anyio
async def test_typing_in_the_users_undo_is_typing() -> None:
    """Undo in the editor takes our text back, so there is nothing left to review."""
    world = World()
    await world.write((["two"], ["2"]))
    world.editor.type(URI, edit_of(world.text, "2\n", "two\n"))
    assert world.ids() == []
    assert await world.reviews.undo(Selected(hunk=1), "undo") == Undone(0, 1)


@pytest.mark.anyio
async def test_an_undo_waits_for_the_edit_that_is_under_way() -> None:
    """Planned on the same text, one of the two would be refused or land in the wrong place."""
    world = World()
    await world.write((["one"], ["1"]))
    gate = asyncio.Event()
    n_under_way = most = 0

    class Slow(type(world.editor)):
        async def apply(self, *args: Any, **options: Any) -> Any:
            nonlocal n_under_way, most
            n_under_way += 1
            most = max(most, n_under_way)
            await gate.wait()
            result = await super().apply(*args, **options)
            n_under_way -= 1
            return result

    world.editor.__class__ = Slow
    both = asyncio.gather(world.write((["two"], ["2"])), world.reviews.undo(Selected(hunk=1), "undo"))
    for _ in range(5):
        await asyncio.sleep(0)
    gate.set()
    _, answer = await both
    assert (answer.undone, most) == (1, 1)
    assert world.text == "one\n2\nthree\nfour\n"
    assert world.ids() == [2]


@pytest.mark.anyio
async def test_an_editor_that_refuses_says_why() -> None:
    world = World()
    await world.write((["one"], ["1"]))
    world.editor.refuses = lambda edits: "read-only."  # type: ignore[method-assign]
    with pytest.raises(UserError, match=r"refused to take the edits back: read-only\."):
        await world.reviews.undo(ALL, "undo")
    assert world.ids() == [1]
    world.editor.refuses = lambda edits: ""  # type: ignore[method-assign]
    assert (await world.reviews.undo(ALL, "undo")).undone == 1


@pytest.mark.anyio
async def test_a_document_that_is_closed_and_opened_again_goes_on_in_review() -> None:
    world = World()
    await world.write((["one"], ["1"]), (["two"], ["2"]))
    world.close()
    n_told = len(world.told())
    world.open()
    assert len(world.told()) == n_told + 1
    assert world.ids() == [1, 2]
    # Its changes were thrown away at the close: nothing is left to judge.
    world.close()
    world.open(TEXT)
    assert world.ids() == []
    assert await world.reviews.undo(Selected(hunk=1), "undo") == Undone(0, 1)
    assert await world.reviews.undo(ALL, "undo") == Undone(0, 0)


@pytest.mark.anyio
@pytest.mark.parametrize(("on_disk", "undone"), [("1\ntwo\n", 1), ("other\n", 0), (None, 0)])
async def test_a_file_that_is_not_open_is_undone_where_the_disk_has_our_text(
    tmp_path: Path, on_disk: str | None, undone: int
) -> None:
    path = tmp_path / "c.py"
    path.write_text("one\ntwo\n")
    world = World()
    world.editor.put(path.as_uri(), "one\ntwo\n")
    origin = source(world.editor, path.as_uri())
    await world.send(planned(origin, ["one"], ["1"]), origin=origin)
    assert world.told()[-1]["version"] is None
    if on_disk is None:
        path.unlink()
    else:
        path.write_text(on_disk)
    answer = await world.reviews.undo(ALL, "undo")
    assert (answer.undone, answer.changed) == (undone, 1 - undone)
    assert world.editor.texts[path.as_uri()] == ("one\ntwo\n" if undone else "1\ntwo\n")


@pytest.mark.anyio
@pytest.mark.parametrize("when", ["before the answer", "after the answer", "with the new text"])
async def test_a_file_that_the_editor_opens_for_an_edit(when: str, tmp_path: Path) -> None:
    """Some open it with its old text and change it then, before or after they answer."""
    path = tmp_path / "c.py"
    path.write_text("one\ntwo\n")
    world = World(uri=path.as_uri(), text="")
    world.documents.close(path.as_uri())
    world.editor.texts, world.editor.versions = {path.as_uri(): "one\ntwo\n"}, {}
    world.origin = source(world.editor, path.as_uri())

    def open_it() -> None:
        world.open("1\ntwo\n" if when == "with the new text" else "one\ntwo\n")

    if when == "before the answer":
        refuses = world.editor.refuses

        def opens(edits: Mapping[tuple[str, int | None], Any]) -> str:
            world.editor.refuses = refuses  # type: ignore[method-assign]
            open_it()
            return ""

        world.editor.refuses = opens  # type: ignore[method-assign]
    await world.write((["one"], ["1"]))
    if when != "before the answer":
        open_it()
    if when == "after the answer":
        assert world.told()[-1]["version"] is None
        world.editor.type(path.as_uri(), edit_of(world.text, "one", "1"))
    assert (world.told()[-1]["version"] or 0) >= 1
    assert len(world.ids()) == 1
    assert (await world.reviews.undo(ALL, "undo")).undone == 1
    assert world.text == "one\ntwo\n"


@pytest.mark.anyio
async def test_an_edit_nobody_waited_for_is_in_review_all_the_same() -> None:
    """With `review = "confirm"` typing goes on while the editor asks."""
    world = World()
    await world.write((["one"], ["1"]))
    hunk = planned(world.origin, ["three"], ["3"])
    told = await deliver([hunk], {URI: world.origin}, world.editor, "utf-16", "Do")  # type: ignore[arg-type]
    world.editor.type(URI, Edit(0, 0, "typed\n"))
    for applied in told.applied:
        world.reviews.add(2, applied)
    assert [hunk["old"] for hunk in world.listed()] == ["one\n", "three\n"]
    assert world.told()[-1]["job"] == 2
    assert (await world.reviews.undo(ALL, "undo")).undone == 2
    assert world.text == "typed\n" + TEXT


@pytest.mark.anyio
async def test_a_document_that_is_closed_while_it_is_undone() -> None:
    world = World()
    await world.write((["one"], ["1"]), (["two"], ["2"]))

    class Closing(type(world.editor)):
        async def apply(self, *args: Any, **options: Any) -> Any:
            result = await super().apply(*args, **options)
            world.close()
            return result

    world.editor.__class__ = Closing
    assert await world.reviews.undo(Selected(hunk=1), "undo") == Undone(1, 0)
    world.open()
    assert [hunk["old"] for hunk in world.listed()] == ["two\n"]


@pytest.mark.anyio
async def test_what_the_user_says_is_counted_by_job() -> None:
    """Taking back what was kept takes back the word too; what nobody judged is not counted."""
    world = World()
    counted: dict[tuple[int, str], int] = {}

    def count(job: int, judgement: str, n: int) -> None:
        counted[job, judgement] = counted.get((job, judgement), 0) + n

    world.reviews.on_judged = count
    await world.write((["one"], ["1"]), (["two"], ["2"]))
    await world.write((["four"], ["4"]), job=2)
    first, second, _ = world.listed()
    world.reviews.keep(Selected(hunk=first["id"]))
    assert counted == {(1, "kept"): 1}
    world.editor.type(URI, edit_of(world.text, "2", "22"))
    assert counted == {(1, "kept"): 1, (1, "changed"): 1}
    await world.reviews.undo(Selected(job=1), "undo", also_kept=True)
    assert counted == {(1, "kept"): 0, (1, "changed"): 1, (1, "undone"): 1}
    assert second["id"] not in [hunk["id"] for hunk in world.listed()]


@pytest.mark.anyio
async def test_a_keep_while_another_is_undone() -> None:
    world = World()
    await world.write((["one"], ["1"]), (["two"], ["2"]))
    world.editor.before_apply = lambda: world.reviews.keep(Selected(hunk=2))
    assert await world.reviews.undo(Selected(hunk=1), "undo") == Undone(1, 0)
    assert world.text == "one\n2\nthree\nfour\n"
    assert world.ids() == []


@pytest.mark.anyio
async def test_kept_hunks_of_the_last_job_can_still_be_reverted() -> None:
    world = World()
    await world.write((["one"], ["1"]), (["two"], ["2"]))
    assert world.reviews.keep(ALL) == 2
    assert (await world.reviews.undo(ALL, "undo")).undone == 0
    assert (await world.reviews.undo(Selected(job=1), "revert", also_kept=True)).undone == 2
    assert world.text == TEXT
    world.origin = source(world.editor)
    await world.write((["one"], ["1"]), job=2)
    world.reviews.keep(ALL)
    await world.write((["two"], ["2"]), job=3)
    assert not world.reviews.has_edits(2)
    assert world.reviews.has_edits(3)


@pytest.mark.anyio
async def test_more_changes_than_are_remembered_end_the_review(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("singlepass.editor.documents._LOG_LIMIT", 2)
    world = World()
    await world.write((["four"], ["4"]))
    world.editor.type(URI, *(Edit(0, 0, "x\n") for _ in range(6)))
    assert world.ids() == []
    assert world.reviews.n_changed(1) == 1
