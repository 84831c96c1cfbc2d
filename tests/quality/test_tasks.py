"""The tasks of `benchmarks/tasks`: each one's own solution is right, and nothing else that is at hand."""

from collections import Counter
from pathlib import Path

import pytest
from quality import OWN_TASKS
from quality_arms import asked_of
from quality_judge import judge, node_version, passes
from quality_tasks import Task, TaskError, apply_diff, read_tasks

TASKS = [task for path in OWN_TASKS for task in read_tasks(path)]


@pytest.mark.parametrize("task", TASKS, ids=[task.name for task in TASKS])
def test_a_task_tells_right_from_wrong(task: Task) -> None:
    if task.node and not node_version():
        pytest.skip("node is not installed")
    found = judge(task, task.reference)
    assert (found.passed, found.outside) == (True, 0), found.why
    if not task.nothing:
        assert passes(task, task.files), "the check has nothing against the unchanged files"
    assert task.wrong, "no wrong edit is told"
    for number, wrong in enumerate(task.wrong):
        assert wrong != task.files
        assert not judge(task, wrong).right, f"wrong edit {number} is right"
    assert asked_of(task).task.instruction.strip()


def test_there_are_tasks_of_all_kinds() -> None:
    assert len(TASKS) >= 120
    assert len({task.name for task in TASKS}) == len(TASKS)
    languages, kinds = Counter(task.language for task in TASKS), Counter(task.kind for task in TASKS)
    assert min(languages.values()) >= 6
    assert len(languages) == 10
    assert set(kinds) == {
        "behaviour", "comment", "diagnostic", "docs", "error", "extract", "far", "line-ends", "nothing",
        "one-of-two", "parameter", "rename", "simplify", "types",
    }  # fmt: skip
    assert min(kinds.values()) >= 4
    assert any(task.first_line == task.end_line for task in TASKS)
    assert sum(len(task.files) > 1 for task in TASKS) >= 6


TASK = """
language = "python"
[[task]]
name = "t"
kind = "k"
ask = "do it"
{keys}
[task.files]
"{path}" = '''
{text}
'''
"""


def read(tmp_path: Path, text: str, keys: str = "", path: str = "a.py") -> Task:
    file = tmp_path / "tasks.toml"
    file.write_text(TASK.format(text=text, keys=keys, path=path), encoding="utf-8")
    return read_tasks(file)[0]


@pytest.mark.parametrize(
    ("marked", "plain", "selected", "scope"),
    [
        ("«a»\nb", "a\nb\n", (0, 1), ((0, 1),)),
        ("a\n«b\nc»\nd", "a\nb\nc\nd\n", (1, 3), ((1, 3),)),
        ("⟦a⟧\nb‸b", "a\nbb\n", (1, 1), ((0, 1),)),
        ("⟦import a⟧\n«b»", "import a\nb\n", (1, 2), ((0, 1), (1, 2))),
        ("⟦⟧\na\n«b»", "a\nb\n", (1, 2), ((0, 0), (1, 2))),
        ("⟦a\n«b»\nc⟧", "a\nb\nc\n", (1, 2), ((0, 3), (1, 2))),
    ],
)
def test_marks(
    tmp_path: Path,
    marked: str,
    plain: str,
    selected: tuple[int, int],
    scope: tuple[tuple[int, int], ...],
) -> None:
    task = read(tmp_path, marked)
    assert task.files == {"a.py": plain}
    assert (task.first_line, task.end_line) == selected
    assert task.scope["a.py"] == scope


@pytest.mark.parametrize(
    ("text", "keys", "wrong"),
    [
        ("a", "", "nothing is selected"),
        ("a‸", "", "which lines may change"),
        ("«a", "", "a mark has no end"),
        ("a»", "", "a selection ends"),
        ("«a»", "reference = '''\n-b\n'''", "0 places"),
        ("«a\na»", "reference = '''\n-a\n'''", "2 places"),
        ("«a»", "reference = '''\na\n'''", "no line of a diff"),
        ("«a»", "reference = '''\n@@ b.py\n-a\n'''", "there is no file b.py"),
        ("«a»", "unknown = 1", "unknown"),
    ],
)
def test_what_is_wrong_with_a_task_is_told(tmp_path: Path, text: str, keys: str, wrong: str) -> None:
    with pytest.raises(TaskError, match=wrong):
        read(tmp_path, text, keys)


def test_line_ends_of_a_task(tmp_path: Path) -> None:
    task = read(tmp_path, "«a»\nb", 'line_end = "\\r\\n"\nreference = """\n-a\n+c\n"""')
    assert task.files == {"a.py": "a\r\nb\r\n"}
    assert task.reference == {"a.py": "c\r\nb\r\n"}


@pytest.mark.parametrize(
    ("diff", "after"),
    [
        ("-a\n+x\n", {"f": "x\nb\n", "g": "c\n"}),
        (" a\n+x\n", {"f": "a\nx\nb\n", "g": "c\n"}),
        ("-a\n@@\n-b\n+y\n", {"f": "y\n", "g": "c\n"}),
        ("-a\n+x\n@@ g\n-c\n+z\n@@\n+y\n z\n", {"f": "x\nb\n", "g": "y\nz\n"}),
        ("", {"f": "a\nb\n", "g": "c\n"}),
    ],
)
def test_a_diff_is_applied(diff: str, after: dict[str, str]) -> None:
    assert apply_diff({"f": "a\nb\n", "g": "c\n"}, diff, "f") == after
