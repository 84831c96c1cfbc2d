"""Hunks that are tracked: moved by typing, left alone by what happens beside them, undone to the byte.

The oracle is a document as a list of cells, one a character and one, without width, for each hunk that left
no text. The cells of a hunk are known by identity, so undoing one is a splice, with no arithmetic of offsets.
"""

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from singlepass.core.edits import Edit, apply
from singlepass.core.hunk_tracking import (
    TrackedText,
    kept,
    lines_now,
    merged,
    typed,
    undo_edits,
    undone,
    without,
    wrote,
)


class Cell:
    """One character, or none: the place of a hunk without text."""

    def __init__(self, text: str) -> None:
        self.text = text


class Model:
    def __init__(self, text: str) -> None:
        self.cells = [Cell(char) for char in text]
        self.hunks: dict[int, tuple[list[Cell], list[Cell]]] = {}
        """By id: the cells now, and those before."""

    @property
    def text(self) -> str:
        return "".join(cell.text for cell in self.cells)

    def place(self, offset: int, *, after: bool) -> int:
        """Where an offset is among the cells, before or after those without width that stand there."""
        index = n_chars = 0
        while n_chars < offset or (after and index < len(self.cells) and not self.cells[index].text):
            n_chars += len(self.cells[index].text)
            index += 1
        return index

    def type(self, change: Edit) -> None:
        start = self.place(change.start, after=False)
        end = self.place(change.end, after=False)
        self.cells[start:end] = [Cell(char) for char in change.new]

    def write(self, edits: Sequence[Edit], ids: Sequence[int]) -> None:
        starts = [self.place(edit.start, after=True) for edit in edits]
        ends = [
            max(start, self.place(edit.end, after=False)) for start, edit in zip(starts, edits, strict=True)
        ]
        for edit, id, start, end in reversed(list(zip(edits, ids, starts, ends, strict=True))):
            new = [Cell(char) for char in edit.new] or [Cell("")]
            self.hunks[id] = new, self.cells[start:end]
            self.cells[start:end] = new

    def undo(self, id: int) -> None:
        new, old = self.hunks[id]
        start = self.cells.index(new[0])
        assert self.cells[start : start + len(new)] == new
        self.cells[start : start + len(new)] = old


texts = st.text(alphabet="ab\n", max_size=14)
new_texts = st.sampled_from(["", "", "X", "X\n", "\n", "XY\nZ\n"])


@st.composite
def edits_of(draw: st.DrawFn, text: str, most: int = 3) -> list[Edit]:
    cuts = sorted(draw(st.lists(st.integers(0, len(text)), max_size=2 * most)))
    spans = zip(cuts[::2], cuts[1::2], strict=False)
    return [Edit(start, end, draw(new_texts)) for start, end in spans]


def check(tracked: TrackedText, model: Model) -> None:
    assert tracked.text == model.text
    end = 0
    for hunk in tracked.hunks:
        assert end <= hunk.start <= hunk.end
        assert tracked.text[hunk.start : hunk.end] == hunk.new
        end = hunk.end
    assert len({hunk.id for hunk in tracked.hunks}) == len(tracked.hunks)
    for edits in (undo_edits(tracked, {hunk.id}) for hunk in tracked.hunks):
        assert len(edits) == 1


@settings(max_examples=400, deadline=None)
@given(texts, st.data())
def test_whatever_happens_in_any_order_only_undone_hunks_change(text: str, data: st.DataObject) -> None:
    tracked, model = TrackedText(text), Model(text)
    n_hunks = 0
    for job in range(data.draw(st.integers(1, 6))):
        ids = [hunk.id for hunk in tracked.hunks]
        match data.draw(st.sampled_from(["write", "write", "type", "undo", "keep"])):
            case "write":
                edits = data.draw(edits_of(tracked.text))
                tracked = wrote(tracked, edits, job, n_hunks + 1)
                model.write(edits, range(n_hunks + 1, n_hunks + 1 + len(edits)))
                n_hunks += len(edits)
            case "type":
                changes: list[Edit] = []
                now = tracked.text
                for _ in range(data.draw(st.integers(1, 2))):
                    at = sorted(data.draw(st.tuples(*[st.integers(0, len(now))] * 2)))
                    at = at if data.draw(st.booleans()) else [at[0], at[0]]
                    changes.append(Edit(*at, data.draw(st.sampled_from(["", "t", "t\n", "\n"]))))
                    model.type(changes[-1])
                    now = apply(now, changes[-1:])
                tracked = typed(tracked, changes, now)
            case "undo" if ids:
                some = data.draw(st.sets(st.sampled_from(ids)))
                assert apply(tracked.text, undo_edits(tracked, some)) == undone(tracked, some).text
                tracked = undone(tracked, some)
                for id in some:
                    model.undo(id)
            case "keep" if ids:
                some = data.draw(st.sets(st.sampled_from(ids)))
                tracked = without(kept(tracked, some), some)
            case _:
                pass
        check(tracked, model)
    for id in data.draw(st.permutations([hunk.id for hunk in tracked.hunks])):
        tracked = undone(tracked, {id})
        model.undo(id)
        check(tracked, model)
    assert tracked.hunks == ()


@settings(max_examples=200, deadline=None)
@given(texts, st.data())
def test_undoing_everything_in_any_order_restores_the_text(text: str, data: st.DataObject) -> None:
    tracked = wrote(TrackedText(text), data.draw(edits_of(text)), 1, 1)
    places = st.sampled_from([*range(len(tracked.text) + 1)])
    more = data.draw(st.lists(places.filter(lambda at: not _inside(tracked, at)), max_size=2, unique=True))
    tracked = wrote(tracked, [Edit(at, at, "more\n") for at in sorted(more)], 2, 50)
    for id in data.draw(st.permutations([hunk.id for hunk in tracked.hunks])):
        tracked = undone(tracked, {id})
    assert tracked == TrackedText(text)


def _inside(tracked: TrackedText, at: int) -> bool:
    return any(hunk.start < at < hunk.end for hunk in tracked.hunks)


#  ab        ab
#  cd   ->   X
#  ef        ef
REPLACED = wrote(TrackedText("ab\ncd\nef\n"), [Edit(3, 6, "X\n")], 1, 1)
DELETED = wrote(TrackedText("ab\ncd\nef\n"), [Edit(3, 6, "")], 1, 1)
INSERTED = wrote(TrackedText("ab\ncd\nef\n"), [Edit(3, 3, "X\n")], 1, 1)
APPENDED = wrote(TrackedText("ab"), [Edit(2, 2, "\nX")], 1, 1)
LAST_DELETED = wrote(TrackedText("ab\ncd"), [Edit(2, 5, "")], 1, 1)


@pytest.mark.parametrize(
    ("tracked", "change", "stays"),
    [
        (REPLACED, Edit(0, 0, "t"), (4, 6)),
        (REPLACED, Edit(3, 3, "t\n"), (5, 7)),
        (REPLACED, Edit(3, 3, "t"), None),  # in its first line
        (REPLACED, Edit(4, 4, "t"), None),
        (REPLACED, Edit(2, 3, ""), None),  # another line joined to it
        (REPLACED, Edit(4, 5, ""), None),
        (REPLACED, Edit(5, 5, "t"), (3, 5)),
        (REPLACED, Edit(5, 8, ""), (3, 5)),
        (REPLACED, Edit(0, 8, "all"), None),
        (DELETED, Edit(0, 0, "t"), (4, 4)),
        (DELETED, Edit(3, 3, "t\n"), (5, 5)),
        (DELETED, Edit(3, 3, "t"), None),  # lines would come back into the middle of a line
        (DELETED, Edit(2, 3, ""), None),
        (DELETED, Edit(4, 6, ""), (3, 3)),
        (INSERTED, Edit(3, 3, "t"), None),
        (INSERTED, Edit(5, 5, "t"), (3, 5)),
        # At the end of a text without a last line end.
        (APPENDED, Edit(0, 2, ""), (0, 2)),
        (APPENDED, Edit(4, 4, "\nt"), (2, 4)),
        (APPENDED, Edit(4, 4, "t"), None),
        (LAST_DELETED, Edit(0, 1, ""), (1, 1)),
    ],
)
def test_a_hunk_leaves_when_its_lines_are_touched(
    tracked: TrackedText, change: Edit, stays: tuple[int, int] | None
) -> None:
    after = typed(tracked, [change], apply(tracked.text, [change]))
    assert [(hunk.start, hunk.end) for hunk in after.hunks] == ([stays] if stays else [])


def test_what_a_later_edit_covers_is_part_of_its_old_text() -> None:
    tracked = wrote(REPLACED, [Edit(0, 5, "Y\n")], 2, 2)
    (hunk,) = tracked.hunks
    assert (hunk.id, hunk.job, hunk.old, hunk.new) == (2, 2, "ab\nX\n", "Y\n")


def test_hunks_that_border_on_each_other_go_back_in_one_edit() -> None:
    tracked = wrote(TrackedText("ab\ncd\nef\n"), [Edit(0, 3, ""), Edit(3, 6, "")], 1, 1)
    assert undo_edits(tracked, {1, 2}) == [Edit(0, 0, "ab\ncd\n")]
    assert undone(undone(tracked, {2}), {1}).text == "ab\ncd\nef\n"


def test_kept_hunks_stay_where_they_are() -> None:
    tracked = kept(wrote(TrackedText("abc"), [Edit(0, 1, "x"), Edit(2, 3, "y")], 1, 1), {2})
    assert [(hunk.id, hunk.is_kept) for hunk in tracked.hunks] == [(1, False), (2, True)]


def test_two_trackings_of_one_text() -> None:
    text = "ab\nX\nef\n"
    old = TrackedText(
        text, (*wrote(TrackedText("zb\nX\nef\n"), [Edit(0, 1, "a")], 1, 7).hunks, *REPLACED.hunks)
    )
    new = wrote(TrackedText("ab\nY\nef\n"), [Edit(3, 5, "X\n")], 2, 9)
    assert [hunk.id for hunk in merged(old, new).hunks] == [7, 9]


@pytest.mark.parametrize(
    ("now", "lines", "expected"),
    [
        ("a\nb\nc\nd\n", (1, 3), (1, 3)),
        ("x\na\nb\nc\nd\n", (1, 3), (2, 4)),
        ("a\nx\nb\nc\nd\n", (1, 3), (2, 4)),
        ("a\nb\nc\nx\nd\n", (1, 3), (1, 3)),
        ("a\nb\nx\nc\nd\n", (1, 3), (1, 4)),
        ("c\nd\n", (1, 3), (0, 1)),
        ("a\nx\ny\nz\nd\n", (1, 3), (1, 4)),
        ("a\nx\ny\nz\nd\n", (1, 2), (1, 4)),
        ("", (1, 3), (0, 0)),
        ("a\nb\nc\nd\n", (2, 2), (2, 2)),
        ("x\na\nb\nc\nd\n", (4, 4), (5, 5)),
    ],
)
def test_where_lines_are_now(now: str, lines: tuple[int, int], expected: tuple[int, int]) -> None:
    assert lines_now("a\nb\nc\nd\n", now, *lines) == expected
