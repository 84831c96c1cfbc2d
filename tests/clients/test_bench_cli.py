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
from singlepass.cli import app
from singlepass.cli.bench import Asked, chart, run_bench
from singlepass.cli.results import compare_results, list_results
from singlepass.cli.workload import choose_files
from singlepass.editor.workspace import UserError
from singlepass.measuring import runs as bench
from singlepass.measuring.rates import Result, Run
from singlepass.measuring.workload import Request, Workload
from typer.testing import CliRunner


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
    assert "`singlepass bench --resume` continues" in " ".join(output.split())
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
    assert "There are no results in" in printed(capsys)
    bench.save(result("2026-11-21T09:00:00", 1000.0, repack=False))
    bench.save(result("2026-11-22T09:00:00", 500.0, repack=True, n_runs=3))
    assert list_results() == 0
    words = printed(capsys)
    assert "2 20261121-090000-llama-cpp-m.gguf 512 to 512 tokens, 2 runs" in words
    assert "1 20261122-090000-llama-cpp-m.gguf 512 to 512 tokens, 2 runs, unfinished" in words
    assert compare_results("2", "1", as_json=False) == 0
    words = printed(capsys)
    assert "settings: repack was False, is True" in words
    assert "512 512 → 1,023 +99.9% 63.0 → 63.0 +0.0% ~" in words
    path = bench.result_path(result("2026-11-21T09:00:00", 1000.0))
    assert compare_results(str(path), "20261122", as_json=True) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["changes"][0]["is_prefill_clear"]
    assert not told["changes"][0]["is_decode_clear"]
    for wrong in ("2026", "3", "moon"):
        assert compare_results(wrong, "1", as_json=False) == 2
        assert "`singlepass bench --list` lists them" in printed(capsys)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (Asked(target="moon"), "There is no target 'moon'. There are: demo model"),
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
    assert "No depth fits: left out: 50,000 tokens" in printed(capsys)


def test_a_chart() -> None:
    root = ElementTree.fromstring(chart(result("2026-11-22T09:00:00", 1000.0)))
    assert "llama_cpp m.gguf: prefill rate by prompt length" in {one.text for one in root.iter()}
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


def workload(created: str, ttft_ms: float, *, repository: str = "/r", model: str = "m") -> Workload:
    requests = tuple(
        Request(
            path=f"{number}.py",
            phase=phase,
            outcome="done",
            n_prompt=1000,
            n_cached=0 if phase == "cold" else 900,
            ttft_ms=ttft_ms + number if phase == "cold" else 100.0 + number,
            first_hunk_ms=None,
            total_ms=2000.0,
        )
        for number in range(3)
        for phase in ("cold", "warm")
    )
    return Workload(created=created, repository=repository, target={"model": model}, requests=requests)


def test_workloads_side_by_side(capsys: pytest.CaptureFixture[str]) -> None:
    bench.save(workload("2026-11-20T09:00:00", 1000.0))
    bench.save(result("2026-11-21T09:00:00", 1000.0))
    bench.save(workload("2026-11-22T09:00:00", 500.0, model="n"))
    assert list_results() == 0
    words = printed(capsys)
    assert "1 20261122-090000-r edits of /r, 6 requests" in words
    assert "3 20261120-090000-r edits of /r, 6 requests" in words
    assert compare_results("3", "1", as_json=False) == 0
    words = printed(capsys)
    assert "target: model was m, is n" in words
    assert "cold 3 1.00 s → 0.50 s -50.0% – 2.00 s → 2.00 s +0.0% ~" in words
    assert "warm 3 0.10 s → 0.10 s +0.0% ~ –" in words
    assert compare_results("20261120", "20261122", as_json=True) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["differences"] == ["target: model was m, is n"]
    assert told["changes"][0]["is_clear"]
    assert compare_results("1", "2", as_json=False) == 2
    assert "they cannot be compared" in printed(capsys)
    bench.save(msgspec.structs.replace(workload("2026-11-23T09:00:00", 1.0), requests=()))
    assert compare_results("1", "2", as_json=False) == 2
    assert "The two results have no file in common" in printed(capsys)


def test_a_workload(
    repository: Path,
    random_gguf: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """On a target of the user's settings."""
    monkeypatch.setenv("SINGLEPASS_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.setenv(
        "SINGLEPASS_CACHE_DIR", str(tmp_path / "cache")
    )  # cold: no prefix saved by other tests
    (tmp_path / "config").mkdir()
    block = "file_3.py\n<<<<<<< SEARCH\ndef function_0(value):\n=======\ndef first(value):\n>>>>>>> REPLACE\n"
    recording = tmp_path / "recording.json"
    recording.write_text(json.dumps({"replies": [{"text": block.splitlines(keepends=True)}]}))
    (tmp_path / "config" / "singlepass.toml").write_text(
        f'[target]\nmodel = "/nowhere.gguf"\n\n[targets.small]\nmodel = "{random_gguf}"\n\n'
        f'[targets.recorded]\nbackend = "scripted"\nmodel = "{recording}"\n'
    )
    before = {path.name: path.read_bytes() for path in repository.iterdir()}
    command = [sys.executable, "-m", "singlepass", "bench", "--workload", str(repository), "--files", "1"]

    def run(*more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, *more], capture_output=True, text=True, check=False, timeout=240, env=os.environ
        )

    wrong = run("--target", "large")
    assert wrong.returncode == 2
    assert "There is no target `large`. There are: default, small, recorded." in " ".join(
        wrong.stdout.split()
    )
    done = run("--target", "small", "--json")
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
        assert 0 < one["ttft_ms"] <= one["total_ms"]
    assert (found["target"]["name"], found["target"]["backend"]) == ("small", "llama_cpp")
    assert found["machine"]["cores"]
    assert found["versions"]["llama-cpp-python"]
    assert {path.name: path.read_bytes() for path in repository.iterdir()} == before
    (saved,) = (bench.results_dir() / "workloads").iterdir()
    assert json.loads(saved.read_text()) == found
    assert compare_results("1", str(saved), as_json=True) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["differences"] == []
    assert {(one["phase"], one["ratio"]) for one in told["changes"]} == {
        (one["phase"], 1.0) for one in found["requests"]
    }
    done = run("--target", "recorded", "--json")  # random weights may end no block
    assert done.returncode == 0, done.stdout + done.stderr
    for one in json.loads(done.stdout)["requests"]:
        assert one["first_hunk_ms"] > 0


def test_a_target_or_a_model() -> None:
    done = CliRunner().invoke(app, ["bench", "--target", "a", "--model", "b.gguf"])
    assert done.exit_code == 2
    assert "only one of them" in done.output
