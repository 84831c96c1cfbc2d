"""`singlepass bench` as a user runs it: a real engine, stopped and gone on with; results compared."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import msgspec
import pytest
from singlepass import bench
from singlepass.cli.bench import Asked, chart, compare_results, list_results, run_bench
from singlepass.cli.workload import choose_files
from singlepass.core.benchmark import Result, Run
from singlepass.workspace import UserError


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SINGLEPASS_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("COLUMNS", "160")
    return tmp_path / "state"


def printed(capsys: pytest.CaptureFixture[str]) -> str:
    return " ".join(capsys.readouterr().out.split())


def result(created: str, prefill_ms: float, *, n_runs: int = 2, **settings: bool) -> Result:
    runs = [
        Run(
            depth=512,
            n_cached=0,
            n_prefilled=512,
            prefill_ms=prefill_ms + number,
            n_decoded=64,
            decode_ms=1000.0 + number,
            ttft_ms=prefill_ms,
        )
        for number in range(2)
    ]
    return Result(
        created=created,
        target="llama_cpp m.gguf",
        model={"name": "m"},
        machine={"cpu": "a", "device": "CPU"},
        versions={"python": "3.12"},
        settings=dict(settings),
        depths=(512,),
        n_runs=n_runs,
        n_reply=64,
        runs=tuple(runs),
    )


def test_a_real_one_that_is_stopped_and_gone_on_with(random_gguf: Path) -> None:
    command = [sys.executable, "-m", "singlepass", "bench", "--model", str(random_gguf)]
    options = ["--depths", "256,3500,50000", "--runs", "2", "--tokens", "8"]
    process = subprocess.Popen(
        [*command, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ
    )
    assert process.stdout is not None
    first = process.stdout.readline()
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=120)
    assert first.startswith("256 tokens: prefill ")
    assert "left" in first
    assert process.returncode == 130, errors
    assert "singlepass bench --resume goes on" in " ".join(output.split())
    ((_, kept),) = bench.saved()
    assert not kept.is_complete

    done = subprocess.run(
        [*command, "--resume", "--json"], capture_output=True, text=True, check=False, timeout=240
    )
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout)
    assert made["depths"] == [256, 3500]
    assert [run["depth"] for run in made["runs"]] == [256, 3500, 256, 3500]
    assert made["runs"][: len(kept.runs)] == [msgspec.to_builtins(run) for run in kept.runs]
    assert [row["n_runs"] for row in made["rows"]] == [2, 2]
    assert all(row["prefill"]["median"] > 0 for row in made["rows"])
    assert "left out: 50,000 tokens" in " ".join(made["notes"])
    for run in made["runs"]:
        assert run["depth"] - 64 <= run["n_cached"] + run["n_prefilled"] <= run["depth"]
        assert run["n_cached"] < 64  # the chat template's beginning
    assert made["settings"]["n_ctx"] >= 3500 + 256  # llama.cpp rounds up
    assert made["versions"]["llama-cpp-python"]
    ((_, whole),) = bench.saved()
    assert whole.is_complete


def test_results_side_by_side(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert list_results() == 0
    assert "Nothing is saved" in printed(capsys)
    bench.save(result("2026-11-21T09:00:00", 1000.0, repack=False))
    bench.save(result("2026-11-22T09:00:00", 500.0, repack=True, n_runs=3))
    assert list_results() == 0
    words = printed(capsys)
    assert "20261121-090000-llama-cpp-m.gguf 512 to 512 tokens, 2 runs" in words
    assert "20261122-090000-llama-cpp-m.gguf 512 to 512 tokens, 2 runs, unfinished" in words
    assert compare_results("2", "1", as_json=False) == 0
    words = printed(capsys)
    assert "settings: repack was False, is True" in words
    assert "512 512 → 1,023 +99.9% 64.0 → 64.0 +0.0% ~" in words
    path = bench.result_path(result("2026-11-21T09:00:00", 1000.0))
    assert compare_results(str(path), "20261122", as_json=True) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["changes"][0]["is_prefill_clear"]
    assert not told["changes"][0]["is_decode_clear"]
    for wrong in ("2026", "3", "moon"):
        assert compare_results(wrong, "1", as_json=False) == 2
        assert "`singlepass bench --list` names them" in printed(capsys)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (Asked(target="moon"), "There is no target 'moon'. There are: none"),
        (Asked(), "There is no target 'default'"),
        (Asked(model=Path("/nowhere.gguf")), "/nowhere.gguf"),
        (
            Asked(model=Path("/nowhere.gguf"), resume=True),
            "no unfinished benchmark of llama_cpp nowhere.gguf",
        ),
    ],
)
def test_what_cannot_be_measured(asked: Asked, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_bench(asked) == 2
    assert words in printed(capsys)


def test_depths_that_do_not_fit(random_gguf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_bench(Asked(model=random_gguf, depths=(50_000,))) == 2
    assert "Not even the least depth fits: left out: 50,000 tokens" in printed(capsys)


def test_a_chart() -> None:
    root = ElementTree.fromstring(chart(result("2026-11-22T09:00:00", 1000.0)))
    assert "llama_cpp m.gguf: prefill by length of the prompt" in {one.text for one in root.iter()}
    assert len([one for one in root.iter() if one.tag.endswith("polyline")]) == 3


# Of a workload.


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repository"
    folder.mkdir()
    for number in range(1, 5):
        lines = (f"def function_{n}(value):\n    return value * {n}\n" for n in range(40 * number))
        (folder / f"file_{number}.py").write_text("".join(lines))
    (folder / "generated.py").write_text("# Code generated by a program. DO NOT EDIT.\n" + "x = 1\n" * 500)
    (folder / "notes.bin").write_bytes(bytes(5000))
    return folder


def test_files_of_every_size(repository: Path) -> None:
    assert [path.name for path in choose_files(repository, 2)] == ["file_2.py", "file_4.py"]
    assert [path.name for path in choose_files(repository, 99)] == [f"file_{n}.py" for n in range(1, 5)]
    (repository / "empty").mkdir()
    with pytest.raises(UserError, match="no source files"):
        choose_files(repository / "empty", 1)


def test_a_workload(repository: Path, random_gguf: Path) -> None:
    before = {path.name: path.read_bytes() for path in repository.iterdir()}
    command = [sys.executable, "-m", "singlepass", "bench", "--workload", str(repository), "--files", "1"]
    done = subprocess.run(
        [*command, "--model", str(random_gguf), "--json"],
        **{"capture_output": True, "text": True, "check": False, "timeout": 240},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    cold, warm, edited = found["requests"]
    assert [one["phase"] for one in found["requests"]] == ["cold", "warm", "edited"]
    assert {one["outcome"] for one in found["requests"]} == {"done"}
    assert cold["path"] == "file_3.py"
    assert cold["n_cached"] < 0.1 * cold["n_prompt"]
    assert warm["n_cached"] > 0.9 * warm["n_prompt"]
    assert cold["n_cached"] < edited["n_cached"] < warm["n_cached"]
    for one in found["requests"]:
        assert min(one["ttft_ms"], one["first_hunk_ms"], one["total_ms"]) > 0
    assert found["target"]["backend"] == "llama_cpp"
    assert {path.name: path.read_bytes() for path in repository.iterdir()} == before
    (saved,) = (bench.results_dir() / "workloads").iterdir()
    assert json.loads(saved.read_text()) == found
