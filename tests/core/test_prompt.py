"""The prompt: stable segments first, so that a change re-reads only what follows it."""

import pytest
from core.texts import texts
from hypothesis import given
from hypothesis import strategies as st
from singlepass.core.context import Context, SourceFile, build_context
from singlepass.core.lines import visible_lines
from singlepass.core.prompt import Task, render_context, render_prompt
from singlepass_backends.base import Segment

tasks = st.builds(
    Task,
    instruction=st.text(min_size=1, max_size=8),
    path=st.just("t.py"),
    first_line=st.integers(0, 6),
    end_line=st.integers(0, 8),
    diagnostics=st.lists(st.text(max_size=5), max_size=2).map(tuple),
)
contexts = st.builds(
    lambda edited, others: build_context(
        SourceFile("t.py", edited), [SourceFile(f"{idx}.py", text) for idx, text in enumerate(others)]
    ),
    texts(),
    st.lists(texts(), max_size=4),
)


def n_shared(one: tuple[Segment, ...], other: tuple[Segment, ...]) -> int:
    """How many segments the prompts share at their front."""
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), len(one))


@given(contexts, tasks, tasks, st.sampled_from([7, 9]))
def test_another_task_changes_the_last_segment_only(
    context: Context, task: Task, other: Task, size: int
) -> None:
    one, two = render_prompt(context, task), render_prompt(context, other, size)
    assert one[:-1] == two[:-1] == render_context(context)
    assert one[-1].name == two[-1].name == "task"


@given(contexts, texts(), tasks)
def test_another_target_text_changes_target_and_task_only(context: Context, text: str, task: Task) -> None:
    changed = Context(SourceFile("t.py", text), context.neighbours)
    one, two = render_prompt(context, task), render_prompt(changed, task)
    assert len(one) == len(two)
    assert n_shared(one, two) >= len(one) - 2


@given(contexts, texts(), tasks, st.data())
def test_a_changed_neighbour_leaves_the_segments_before_it(
    context: Context, text: str, task: Task, data: st.DataObject
) -> None:
    if not context.neighbours:
        return
    idx = data.draw(st.integers(0, len(context.neighbours) - 1))
    neighbours = list(context.neighbours)
    neighbours[idx] = SourceFile(neighbours[idx].path, text)
    changed = Context(context.edited, tuple(neighbours))
    one, two = render_prompt(context, task), render_prompt(changed, task)
    assert n_shared(one, two) >= 1 + idx
    # And the others are the same too: only the neighbour's own segment differs.
    assert [a.name for a, b in zip(one, two, strict=True) if a != b] in ([], [neighbours[idx].path])


@given(contexts, tasks)
def test_every_line_of_every_file_is_shown_once_under_its_path(context: Context, task: Task) -> None:
    segments = render_prompt(context, task)
    assert [segment.role for segment in segments] == ["system"] + ["user"] * (len(segments) - 1)
    for file, segment in zip((*context.neighbours, context.edited), segments[1:-1], strict=True):
        assert segment.name == file.path
        shown = "".join(f"{line}\n" for line in visible_lines(file.text))
        assert segment.text == f'<file path="{file.path}">\n{shown}</file>\n\n'


TEXT = "one\ntwo\nthree\n"


@pytest.mark.parametrize(
    ("text", "first", "end", "diagnostics", "size", "expected"),
    [
        (TEXT, 1, 2, (), 7, "Selected, line 2 of t.py:\ntwo\n\nTask: do\n"),
        (TEXT, 0, 2, (), 7, "Selected, lines 1 to 2 of t.py:\none\ntwo\n\nTask: do\n"),
        (TEXT, 1, 1, (), 7, "The cursor is in t.py on this line:\ntwo\n\nTask: do\n"),
        (TEXT, 3, 3, (), 7, "Task: do\n"),
        ("", 0, 0, (), 7, "Task: do\n"),
        ("\ufeffone\n", 0, 1, (), 7, "Selected, line 1 of t.py:\none\n\nTask: do\n"),
        (TEXT, 3, 3, ("line 1: bad",), 7, "Problems reported there:\n- line 1: bad\n\nTask: do\n"),
        (
            TEXT,
            3,
            3,
            (),
            9,
            "In this answer every marker is 9 characters long:\n"
            "<<<<<<<<< SEARCH\n=========\n>>>>>>>>> REPLACE\n\nTask: do\n",
        ),
    ],
)
def test_the_task_says_where_what_and_how(
    text: str, first: int, end: int, diagnostics: tuple[str, ...], size: int, expected: str
) -> None:
    context = Context(SourceFile("t.py", text))
    task = Task("do", "t.py", first, end, diagnostics)
    assert render_prompt(context, task, size)[-1].text == expected


def test_a_selection_that_runs_past_the_end_names_the_lines_there_are() -> None:
    task = Task("do", "t.py", 1, 9)
    text = render_prompt(Context(SourceFile("t.py", TEXT)), task)[-1].text
    assert text.startswith("Selected, lines 2 to 3 of t.py:\ntwo\nthree\n\n")


def test_the_map_comes_first_and_what_is_only_read_says_so() -> None:
    near = [SourceFile("near.py", "x\n", editable=False), SourceFile("open.py", "y\n")]
    context = build_context(SourceFile("t.py", TEXT), near, "near.py\n  def x()\n")
    system, map, *near_ones, edited = render_context(context)
    only_read, other = sorted(near_ones, key=lambda one: one.name)
    assert map.name == "repository map"
    assert map.text.startswith("<repository_map>\n")
    assert "\nnear.py\n  def x()\n</repository_map>\n\n" in map.text
    assert (only_read.name, other.name) == ("near.py", "open.py")
    assert only_read.text == '<file path="near.py" access="read only">\nx\n</file>\n\n'
    assert [one.shared for one in (system, map, *near_ones, edited)] == [True, True, True, True, False]
    assert render_prompt(context, Task("do", "t.py", 0, 1))[-1].shared is False
