"""Edits as values: applied, inverted, and spans moved by later changes."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from singlepass.core.edits import Edit, apply, invert, rebase_span, validate


@st.composite
def texts_and_edits(draw: st.DrawFn) -> tuple[str, list[Edit]]:
    text = draw(st.text(alphabet="abc\n", max_size=12))
    cuts = sorted(draw(st.lists(st.integers(0, len(text)), max_size=6)))
    spans = zip(cuts[::2], cuts[1::2], strict=False)
    return text, [Edit(start, end, draw(st.text(alphabet="XY\n", max_size=3))) for start, end in spans]


@settings(max_examples=200, deadline=None)
@given(texts_and_edits())
def test_apply_is_one_edit_after_the_other_from_the_end_and_invert_undoes_it(
    case: tuple[str, list[Edit]],
) -> None:
    text, edits = case
    after = text
    for edit in reversed(validate(text, edits)):
        after = after[: edit.start] + edit.new + after[edit.end :]
    assert apply(text, edits) == after
    assert apply(after, invert(text, edits)) == text


@pytest.mark.parametrize("edits", [[Edit(0, 2, ""), Edit(1, 3, "")], [Edit(2, 1, "")], [Edit(0, 9, "")]])
def test_edits_that_overlap_or_leave_the_text_are_refused(edits: list[Edit]) -> None:
    with pytest.raises(ValueError, match="edit"):
        apply("abc", edits)


@pytest.mark.parametrize(
    ("span", "changes", "expected"),
    [
        ((2, 4), [], (2, 4)),
        ((2, 4), [Edit(2, 2, "xy")], (4, 6)),
        ((2, 4), [Edit(4, 4, "xy")], (2, 4)),
        ((2, 4), [Edit(0, 2, "")], (0, 2)),
        ((2, 4), [Edit(4, 5, "")], (2, 4)),
        ((2, 4), [Edit(3, 3, "x")], None),
        ((2, 4), [Edit(1, 3, "")], None),
        ((2, 4), [Edit(0, 9, "")], None),
        ((2, 4), [Edit(0, 0, "x"), Edit(3, 3, "y")], (4, 6)),
        ((2, 4), [Edit(0, 1, ""), Edit(3, 4, ""), Edit(0, 0, "abc")], (4, 6)),
        ((0, 0), [Edit(0, 0, "x")], (1, 1)),
        ((3, 3), [Edit(2, 3, "")], (2, 2)),
        ((3, 3), [Edit(2, 4, "")], None),
    ],
)
def test_a_span_moves_with_changes_beside_it(
    span: tuple[int, int], changes: list[Edit], expected: tuple[int, int] | None
) -> None:
    assert rebase_span(*span, changes) == expected


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_rebased_span_holds_the_same_text(data: st.DataObject) -> None:
    text = "0123456789"
    start, end = sorted(data.draw(st.tuples(st.integers(0, 10), st.integers(0, 10))))
    changes: list[Edit] = []
    now = text
    for _ in range(data.draw(st.integers(0, 3))):
        a, b = sorted(data.draw(st.tuples(st.integers(0, len(now)), st.integers(0, len(now)))))
        changes.append(Edit(a, b, data.draw(st.sampled_from(["", "x", "yz"]))))
        now = apply(now, [changes[-1]])
    span = rebase_span(start, end, changes)
    if span is not None:
        assert now[span[0] : span[1]] == text[start:end]
