"""`singlepass stats` as a user runs it: after real jobs, and on a history that was written for it."""

import csv
import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from records import record
from singlepass.cli.bars import bar
from singlepass.cli.stats import clear_stats, run_stats
from singlepass.cli.svg import line_chart
from singlepass.stats.history import history_path
from singlepass.stats.history_file import write


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SINGLEPASS_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("COLUMNS", "160")
    return tmp_path / "state"


def add(**fields: Any) -> None:
    """Two days of requests: 20 quick ones and one slow one."""
    now = time.time()
    records = [
        record(
            number,
            day="2026-11-21" if number < 5 else "2026-11-22",
            at=now - 100 + number,
            repository="/code/tally",
            target="default",
            model="coder",
            outcome="done",
            ttft_ms=200.0 if number else 9000.0,
            total_ms=1000.0 if number else 12_000.0,
            estimate_ms=900.0,
            n_prompt=1000,
            n_cached=990 if number else 0,
            n_prefilled=10 if number else 1000,
            prefill_ms=10.0 if number else 8000.0,
            n_decoded=50,
            decode_ms=800.0,
            miss="" if number else "restart",
            n_hunks=1,
            n_applied=1 if number else 0,
            n_edits=1 if number else 0,
            rejected={} if number else {"stale": 1},
            **fields,
        )
        for number in range(21)
    ]
    write(history_path(), records)


def printed(capsys: pytest.CaptureFixture[str]) -> str:
    return " ".join(capsys.readouterr().out.split())


def test_after_a_real_job(tmp_path: Path, random_gguf: Path) -> None:
    path = tmp_path / "repository" / "values.py"
    path.parent.mkdir()
    path.write_text("".join(f"value_{n} = {n}\n" for n in range(12)))

    def singlepass(*arguments: str | Path) -> str:
        command = [sys.executable, "-m", "singlepass", *map(str, arguments)]
        done = subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=120, env=os.environ
        )
        return done.stdout

    assert "There are no requests" in singlepass("stats")
    edited = json.loads(singlepass("edit", path, "-i", "Change it.", "--model", random_gguf, "--json"))
    found = json.loads(singlepass("stats", "--json", "--by", "repository"))
    assert found["all"]["outcomes"] == {"done": 1}
    assert found["all"]["n_prompt"] == edited["timings"]["timings"]["n_prompt"]
    assert found["all"]["ttft_ms"]["median"] == pytest.approx(edited["timings"]["ttft_ms"], abs=0.1)
    assert [*found["by"]["repository"]] == [str(path.parent)]


def test_the_tables(capsys: pytest.CaptureFixture[str]) -> None:
    add()
    assert run_stats(30, (), None, "", "table") == 0
    words = printed(capsys)
    for expected in (
        "21 requests, 2026-11-21 to 2026-11-22: 21 done",
        "first token 0.20 s 0.20 s 9.00 s",
        "cached, at least 99.0% 99.0% 0.0%",
        "estimate off by 10% 10% 92%",
        "context read after the click in 1 of 21: restart 1",
        "hunks: 20 applied, 1 rejected (stale 1)",
        "edits: 20 written, 0 kept, 0 undone, 0 changed by hand, 20 neither",
        "default: coder 21 0.20 s 0.20 s",
        "2026-11-21 5 0.20 s 9.00 s",
        "2026-11-22 16 0.20 s 0.20 s 99.0% 0",
        "█",
    ):
        assert expected in words


def test_only_some(capsys: pytest.CaptureFixture[str]) -> None:
    add()
    for repository, target, n in (
        (Path("/code/tally"), "", 21),
        (Path("/code/other"), "", 0),
        (None, "coder", 21),
        (None, "default", 21),
        (None, "large", 0),
    ):
        assert run_stats(30, ("kind",), repository, target, "json") == 0
        found = json.loads(capsys.readouterr().out)
        assert found["all"]["n"] == n
        assert [*found["by"]] == ["kind"]


def test_one_line_a_request(capsys: pytest.CaptureFixture[str]) -> None:
    add(error='a "quoted" one,\nin two lines')
    assert run_stats(0, (), None, "", "csv") == 0
    rows = [*csv.DictReader(io.StringIO(capsys.readouterr().out))]
    assert len(rows) == 21
    assert rows[0]["ttft_ms"] == "9000.0"
    assert rows[0]["rejected"] == '{"stale": 1}'
    assert rows[0]["error"] == 'a "quoted" one,\nin two lines'


def test_clear(capsys: pytest.CaptureFixture[str]) -> None:
    assert clear_stats() == 0
    assert "There was no history" in printed(capsys)
    add()
    assert clear_stats() == 0
    assert f"deleted: {history_path()}" in printed(capsys)
    assert run_stats(30, (), None, "", "table") == 0
    assert "There are no requests in the last 30 days" in printed(capsys)


def test_a_history_that_cannot_be_read(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state.mkdir()
    history_path().write_bytes(b"no database" * 100)
    assert run_stats(30, (), None, "", "table") == 1
    assert "`singlepass stats --clear` begins a new one" in printed(capsys)


SVG = "{http://www.w3.org/2000/svg}"


def test_a_chart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    add()
    path = tmp_path / "chart.svg"
    assert run_stats(30, (), None, "", "json", path) == 0
    capsys.readouterr()
    root = ElementTree.parse(path).getroot()
    assert len([*root.iter(f"{SVG}polyline")]) == 2
    assert len([*root.iter(f"{SVG}circle")]) == 4  # two days
    assert {"2026-11-21", "2026-11-22", "median", "10 s"} <= {one.text for one in root.iter(f"{SVG}text")}
    assert run_stats(30, (), None, "", "json", tmp_path / "none" / "chart.svg") == 1
    assert "cannot be written" in printed(capsys)


@pytest.mark.parametrize(
    ("values", "top", "points"),
    [
        # 470 wide and 290 high, from (80, 340).
        ([0.0, 100.0], "100 ms", "197.5,340.0 432.5,50.0"),
        ([None, 150.0], "200 ms", "432.5,122.5"),
        ([None, None], "1 ms", ""),
        ([0.0, 0.0], "1 ms", "197.5,340.0 432.5,340.0"),
    ],
)
def test_where_points_stand(values: list[float | None], top: str, points: str) -> None:
    root = ElementTree.fromstring(line_chart("<&>", ["a", "b"], {"one": values}, "ms"))
    (line,) = root.iter(f"{SVG}polyline")
    assert line.get("points") == points
    texts = [one.text for one in root.iter(f"{SVG}text")]
    assert texts[0] == "<&>"
    assert top in texts


@pytest.mark.parametrize(
    ("value", "most", "expected"),
    [(0, 5, ""), (5, 5, "████"), (2.5, 5, "██"), (0.01, 5, "▏"), (1, 0, ""), (9, 5, "████"), (3, 5, "██▍")],
)
def test_bars(value: float, most: float, expected: str) -> None:
    assert bar(value, most, 4) == expected
