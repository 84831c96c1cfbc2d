"""The harness: every arm through the real path, replies kept, figures that add up."""

import json
from pathlib import Path

import msgspec
import pytest
import quality
import quality_arms
from quality_arms import ARMS, Edited, Reply, asked_of, target_of
from quality_judge import Verdict
from quality_tasks import Files, Task, read_tasks
from singlepass.core.lines import visible_lines
from singlepass_backends.base import ModelInfo

TASKS = [task for path in quality.OWN_TASKS for task in read_tasks(path)]
SOME = [task for task in TASKS if not task.node and not task.check][:12]
INFO = ModelInfo(backend="scripted", name="scripted", n_ctx=32_768, constrains=False)


def blocks(task: Task, files: Files) -> str:
    """A reply that makes these files of those of the task."""
    written = ""
    for path, text in files.items():
        if text != task.files[path]:
            old, new = (
                "".join(f"{line}\n" for line in visible_lines(one)) for one in (task.files[path], text)
            )
            written += f"{path}\n<<<<<<< SEARCH\n{old}=======\n{new}>>>>>>> REPLACE\n"
    return written


def recording(path: Path, replies: dict[str, str]) -> Path:
    """A backend's recording: replies by the names of tasks."""
    said: list[dict[str, object]] = []
    for task in SOME:
        asking = quality_arms.ask(asked_of(task), INFO, form="blocks").request.segments[-1].text
        said.append({"when": asking, "text": [replies[task.name]] if replies[task.name] else []})
    path.write_text(json.dumps({"replies": said}), encoding="utf-8")
    return path


def ask(tmp_path: Path, replies: dict[str, str], tasks: list[Task] = SOME) -> list[quality.Row]:
    target = target_of(recording(tmp_path / "replies.json", replies), None)
    rows, is_whole = quality.run(tasks, ["plain-blocks"], target, "m", tmp_path / "rows.jsonl", 1e9)
    assert is_whole
    return rows


def right() -> dict[str, str]:
    return {task.name: blocks(task, task.reference) for task in SOME}


def test_the_right_replies_are_right(tmp_path: Path) -> None:
    rows = ask(tmp_path, right())
    assert [row.task for row in rows if not row.verdict.right] == []
    assert len(rows) == len(SOME)


def test_wrong_and_useless_replies_are_not(tmp_path: Path) -> None:
    wrong = {task.name: blocks(task, task.wrong[0]) for task in SOME}
    assert not any(row.verdict.right for row in ask(tmp_path, wrong))
    prose = dict.fromkeys(wrong, "I cannot do that.\n")
    (tmp_path / "prose").mkdir()
    rows = ask(tmp_path / "prose", prose)
    assert {row.edited.refused[0][0] for row in rows} == {"unreadable"}
    assert [row.verdict.right for row in rows] == [task.nothing for task in SOME]


def test_a_run_goes_on_where_it_ended(tmp_path: Path) -> None:
    ask(tmp_path, right(), SOME[:3])
    results = tmp_path / "rows.jsonl"
    # The machine went down while the last line was written.
    results.write_text(results.read_text()[:-40] + "\n", encoding="utf-8")
    rows = ask(tmp_path, dict.fromkeys(right(), "Something else.\n"))
    assert [row.verdict.right for row in rows[:2]] == [True, True]
    assert {row.reply.text for row in rows[2:]} == {"Something else.\n"}
    n_lines = len(results.read_text().splitlines())
    assert [*quality.read_rows(results).values()] == rows
    ask(tmp_path, right())
    assert len(results.read_text().splitlines()) == n_lines, "nothing was left to ask"


def test_a_task_that_is_another_is_asked_or_judged_anew(tmp_path: Path) -> None:
    ask(tmp_path, right())
    first = SOME[0]
    wanted = msgspec.structs.replace(first, reference=first.wrong[0], accepted=())
    rows = ask(tmp_path, right(), [wanted])
    assert not rows[0].verdict.right, "judged anew"
    assert rows[0].reply.text == blocks(first, first.reference)
    other = dict.fromkeys(right(), "Something else.\n")
    target = target_of(recording(tmp_path / "other.json", other), None)
    asked = msgspec.structs.replace(SOME[1], ask="another wish")
    (tmp_path / "other.json").write_text('{"replies": [{"text": ["Something else."]}]}')
    rows, _ = quality.run([asked], ["plain-blocks"], target, "m", tmp_path / "rows.jsonl", 1e9)
    assert rows[0].reply.text == "Something else."


def test_a_run_stops_in_time(tmp_path: Path) -> None:
    target = target_of(recording(tmp_path / "replies.json", right()), None)
    rows, is_whole = quality.run(SOME, ["plain-blocks"], target, "m", tmp_path / "rows.jsonl", -1.0)
    assert (rows, is_whole) == ([], False)


def test_a_comment_that_asked_goes(tmp_path: Path) -> None:
    """As in a job: also where the model left it alone."""
    task = next(task for task in TASKS if task.name == "py-comment-raise")
    asked = asked_of(task)
    assert asked.task.instruction == "raise a KeyError with the name instead of returning None"
    text = "users.py\n<<<<<<< SEARCH\n    return None\n=======\n    raise KeyError(name)\n>>>>>>> REPLACE\n"
    edited = ARMS["plain-blocks"].read(asked, Reply(text, "stop"), INFO)
    assert edited.files == task.reference
    assert edited.n_applied == 1


def test_a_model_goes_through_every_arm(random_gguf: Path, tmp_path: Path) -> None:
    tasks = SOME[:2]
    arms = [*ARMS]
    rows, _ = quality.run(tasks, arms, target_of(random_gguf, None), "random", tmp_path / "rows.jsonl", 1e9)
    assert len(rows) == len(tasks) * len(arms)
    for row in rows:
        assert row.reply.finish in ("stop", "length")
        assert row.reply.n_tokens > 0
        assert row.reply.n_passes > 0
        if row.arm == "blocks":
            assert row.edited.n_applied + (row.reply.finish == "length") > 0
            assert {reason for reason, _ in row.edited.refused} <= {"cut_off"}


@pytest.mark.parametrize(
    ("only_one", "only_other", "p"),
    [
        (0, 0, 1.0),
        (1, 0, 1.0),
        (1, 1, 1.0),
        (5, 0, 0.0625),
        (0, 6, 0.03125),
        (10, 2, 0.03857421875),
        (15, 5, 0.04138946533203125),
        (30, 30, 1.0),
    ],
)
def test_mcnemar(only_one: int, only_other: int, p: float) -> None:
    assert quality.mcnemar(only_one, only_other) == pytest.approx(p)


@pytest.mark.parametrize(
    ("k", "n", "low", "high"), [(0, 10, 0.0, 0.278), (10, 22, 0.269, 0.653), (0, 0, 0, 1)]
)
def test_wilson(k: int, n: int, low: float, high: float) -> None:
    assert quality.interval(k, n) == pytest.approx((low, high), abs=0.001)


def row(task: str, arm: str, passed: bool, outside: int = 0, finish: str = "stop") -> quality.Row:
    reply = Reply("", finish, n_tokens=10, n_passes=5, decode_ms=1000)
    edited = Edited({}, 1, 1, (("not_found", ""),) if not passed else ())
    verdict = Verdict(passed, outside)
    return quality.Row(task, arm, "m", "k", "python", "", reply, edited, verdict, "")


def test_figures() -> None:
    rows = [
        row("a", "x", True),
        row("b", "x", True, outside=2),
        row("c", "x", False, finish="length"),
        row("a", "y", True),
        row("b", "y", True),
        row("c", "y", False),
        row("d", "x", True),  # only one arm has it yet
    ]
    found = quality.summary(rows, ["x", "y"])
    assert found["n"] == 3
    one, other = found["arms"]["x"], found["arms"]["y"]
    assert (one["right"], one["passed"], one["tasks_outside"], one["lines_outside"]) == (1, 2, 1, 2)
    assert (one["runaways"], one["tokens"], one["passes"], one["seconds"]) == (1, 30, 15, 3.0)
    assert one["refused"] == {"not_found": 1}
    assert other["right"] == 2
    assert found["pairs"] == [{"arms": ["x", "y"], "both": 1, "only": [0, 1], "neither": 1, "p": 1.0}]
    assert "| x | 1 of 3 |" in quality.table(found)
    assert "| python | 1 of 3 | 2 of 3 |" in quality.groups_table(found, "by_language")
