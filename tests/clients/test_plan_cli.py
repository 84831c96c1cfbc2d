"""`singlepass plan` as a user runs it."""

import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from records import sample
from singlepass.cli.plan import Asked, probe, run_plan
from singlepass.engines.targets import rates_key
from singlepass.measuring import runs as bench
from singlepass.measuring.calculator import Speed
from singlepass.measuring.hardware_table import hardware_table
from singlepass.measuring.rates import Result, Run
from singlepass.stats.history import history_path
from singlepass.stats.history_file import write
from singlepass_backends.base import Target
from singlepass_backends.models.catalogue import catalogue


def singlepass(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "singlepass", "plan", *arguments],
        env={**os.environ, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def planned(capsys: pytest.CaptureFixture[str], **asked: Any) -> dict[str, Any]:
    assert run_plan(Asked(**asked), as_json=True) == 0
    return json.loads(capsys.readouterr().out)


def test_the_published_session(capsys: pytest.CaptureFixture[str]) -> None:
    rates = {"prefill_rate": 5000, "decode_rate": 50}
    found = planned(capsys, n_prompt=50_000, n_output=325, n_steps=4, n_iterations=8, **rates)
    assert found["times"]["prefill_s"] == 10
    assert found["session"]["plain"] == pytest.approx(
        {"prefill_s": 40, "decode_s": 26, "total_s": 66, "prefill_share": 40 / 66}
    )
    assert found["session"]["prefix_reused"]["prefill_s"] == pytest.approx(10)
    assert found["loop"]["loop"]["prefill_s"] == 80
    assert found["context_class"] == "long"
    slow = planned(capsys, n_prompt=50_000, n_output=325, n_steps=4, prefill_rate=1000, decode_rate=50)
    assert slow["session"]["plain"]["total_s"] == pytest.approx(226)


def test_in_words() -> None:
    done = singlepass(
        *[
            "--prompt-tokens",
            "50000",
            "--output-tokens",
            "500",
            "--pp",
            "5000",
            "--tp",
            "50",
            "--iterations",
            "3",
        ]
    )
    assert done.returncode == 0, done.stderr
    words = " ".join(done.stdout.split())
    assert "one request 10.0 s 10.0 s 20.0 s 50.0%" in words
    assert "3 iterations take 60.0 s" in words


def test_the_textbook_beside_the_real_heads(capsys: pytest.CaptureFixture[str]) -> None:
    found = planned(capsys, shape="80x64x128x8", kv_cache_type="q4_0", n_ctx=50_000)["kv_cache"]
    assert found["textbook_per_token"] == 655_360
    assert found["textbook_total"] == pytest.approx(32.8e9, rel=0.001)
    assert found["per_token"] == 80 * 8 * 256 * 4.5 / 8


def test_a_model_file_is_planned_by_its_own_heads(
    random_gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And by what this machine took for it."""
    monkeypatch.setenv("SINGLEPASS_STATE_DIR", str(tmp_path))
    key = rates_key(Target(model=str(random_gguf)))
    first = planned(capsys, model=str(random_gguf), memory_gib=8, n_ctx=4096)
    assert "has not run random.gguf yet; it fits" in " ".join(first["notes"])
    write(history_path(), [sample(key, 1000, 500.0, 100, 2000.0)])
    found = planned(capsys, model=str(random_gguf), memory_gib=8, n_ctx=4096, hardware=("rtx-4090",))
    assert found["kv_cache"]["per_token"] == 2 * 1 * 64 * 2  # layers, KV heads, values, bytes
    assert not found["model"]["is_estimate"]
    assert [one["name"] for one in found["options"]] == ["rtx-4090", "memory", "here"]
    here = found["options"][2]
    assert here["is_here"]
    assert here["cold"]["prefill_s"] == pytest.approx((4096 - 500) / 2000)
    assert here["cold"]["decode_s"] == pytest.approx(500 / 50)
    assert here["warm"]["prefill_s"] == pytest.approx(200 / 2000)
    assert found["options"][1]["largest_ctx"] == 4096  # what it was trained with


def test_a_benchmark_of_this_machine_knows_how_rates_fall(
    random_gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SINGLEPASS_STATE_DIR", str(tmp_path))
    prefill, decode = Speed(0.001, 1e-6), Speed(0.02, 1e-6)
    runs = [
        Run(
            depth=n,
            n_cached=0,
            n_prefilled=n,
            prefill_ms=prefill.duration_s(n) * 1000,
            n_decoded=64,
            decode_ms=decode.duration_s(63, n) * 1000,  # the first comes with the prefill
            ttft_ms=1.0,
        )
        for n in (512, 2048)
    ]
    bench.save(
        Result(
            created="2026-11-22T09:00:00",
            target=rates_key(Target(model=str(random_gguf))),
            model={},
            machine={},
            versions={},
            settings={},
            depths=(512, 2048),
            n_runs=1,
            n_reply=64,
            runs=tuple(runs),
        )
    )
    (here,) = planned(capsys, model=str(random_gguf), n_ctx=4096)["options"]
    assert "`singlepass bench` of 2026-11-22T09:00:00, up to 2,048 tokens" in here["basis"]
    assert here["cold"]["prefill_s"] == pytest.approx(prefill.duration_s(3596))
    assert here["cold"]["decode_s"] == pytest.approx(decode.duration_s(500, 3596))


def test_hardware_side_by_side(capsys: pytest.CaptureFixture[str]) -> None:
    names = ("rtx-4090", "m4-max", "m3-ultra")
    found = planned(capsys, model="qwen2.5-coder-32b", hardware=names, n_ctx=30_000)
    small, large, unmeasured = found["options"][:3]
    assert not small["fits"]
    assert small["cold"] is None
    assert 0 < small["largest_ctx"] < 30_000
    assert large["fits"]
    assert large["cold"]["total_s"] > large["warm"]["total_s"] > 0
    assert large["decode_ceiling"] > 500 / large["cold"]["decode_s"]
    assert large["prefill_ceiling"] > 29_500 / large["cold"]["prefill_s"]
    assert unmeasured["cold"] is None
    assert unmeasured["decode_ceiling"]
    assert found["recommendation"]["name"] == "m4-max"
    reasons = " ".join(found["recommendation"]["reasons"])
    assert "RTX 4090 is too small" in reasons
    assert "M3 Ultra, 80-core GPU, 512 GB has no published rates" in reasons
    assert any("5.0 times the real KV cache" in one for one in found["remarks"])


def test_a_table_for_people() -> None:
    done = singlepass(
        "--hardware", "RTX 4090", "--hardware", "a100", "--model", "qwen2.5-coder-7b", "--context", "8000"
    )
    assert done.returncode == 0, done.stderr
    for words in ("rtx-4090", "a100", "total, warm", "Recommendation", "short (below 10,000)", "2024-05"):
        assert words in done.stdout


def test_the_reference_table_names_its_sources() -> None:
    words = " ".join(singlepass().stdout.split())
    for one in hardware_table().hardware:
        assert one.title in words
        assert one.bandwidth.source in words
    listed = json.loads(singlepass("--json").stdout)
    assert len(listed["hardware"]) == len(hardware_table().hardware)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"prefill_rate": 5.0}, "--pp and --tp"),
        ({"hardware": ("rtx-9999",), "model": "qwen3-4b"}, "The hardware table has no 'rtx-9999'"),
        ({"hardware": ("a100",)}, "name one with --model"),
        ({"memory_gib": 8.0, "shape": "2x2x2"}, "name one with --model"),
        ({"model": "qwen-3-4b"}, "Did you mean qwen3-4b"),
        ({"model": "/nowhere.gguf"}, "There is neither a file /nowhere.gguf"),
        ({"shape": "80 layers"}, "LAYERSxHEADSxHEAD_SIZE"),
        ({"n_prompt": 900, "n_ctx": 1000}, "exceed the context of 1,000"),
    ],
)
def test_what_cannot_be_computed(
    asked: dict[str, Any], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_plan(Asked(**asked), as_json=False) == 2
    assert words in " ".join(capsys.readouterr().out.split())


def test_a_file_that_is_no_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "notes.gguf"
    path.write_text("no model")
    assert run_plan(Asked(model=str(path)), as_json=False) == 2
    assert "is not a GGUF file" in " ".join(capsys.readouterr().out.split())


PAGE = (Path(__file__).parents[2] / "docs" / "measuring.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["plan-steps", "plan-hardware"])
def test_what_the_docs_show_is_what_is_printed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """All but the notes, which are about the machine that it runs on."""
    block = PAGE.partition(f"<!-- printed: {name} -->\n")[2].partition("<!-- end -->")[0]
    command, _, shown = block.partition("\n\n")
    monkeypatch.setenv("COLUMNS", "100")
    words = command.split()
    assert words[:2] == ["singlepass", "plan"]
    command_line = [sys.executable, "-m", "singlepass", *words[1:]]
    done = subprocess.run(command_line, capture_output=True, text=True, check=True, timeout=120)
    printed = [line.rstrip() for line in done.stdout.partition("\nNotes")[0].splitlines()]
    expected = [line.removeprefix("    ").rstrip() for line in shown.rstrip().splitlines()]
    assert [line for line in printed if line] == [line for line in expected if line]


def test_every_model_of_the_catalogue_can_be_planned() -> None:
    for entry in catalogue().models:
        facts = entry.facts("gguf")
        assert 0 < facts.n_active <= facts.n_weights
        assert facts.n_head_kv * (facts.key_length + facts.value_length) == facts.layer_kv_values[0]


NUMBERS = {
    "n_ctx": int,
    "n_prompt": int,
    "n_output": int,
    "n_new": int,
    "n_added": int,
    "n_steps": int,
    "n_iterations": int,
    "memory_gib": float,
    "prefill_rate": float,
    "decode_rate": float,
}
EXTREMES = (0, -1, 1, 10**9, 10**12, 10**30, 10**400)
FLOAT_EXTREMES = (0.0, -1.0, 5e-324, 1e-300, 1e-6, 1e9, 1e12, 1e30, 1.7e308, math.inf, -math.inf, math.nan)


def check_answer(capsys: pytest.CaptureFixture[str], asked: Asked) -> None:
    """In words and in numbers: finite, or a sentence about the option."""
    for as_json in (True, False):
        code = run_plan(asked, as_json=as_json)
        out = capsys.readouterr().out
        assert code in (0, 2)
        if code == 2:
            assert out.strip().endswith(".")
        elif as_json:
            json.loads(out, parse_constant=lambda name: pytest.fail(f"{name} in {asked}"))
        else:
            assert not re.search(r"\b(nan|inf)\b", out)


@pytest.mark.parametrize("name", NUMBERS)
def test_extreme_numbers_have_a_finite_answer_or_an_error(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = probe(Target())  # once: it takes a process
    monkeypatch.setattr(sys.modules["singlepass.cli.plan"], "probe", lambda _: looked)
    sound: dict[str, Any] = {"model": "qwen2.5-coder-14b", "hardware": ("rtx-4090",), "prefill_rate": 50.0}
    sound |= {"decode_rate": 5.0, "n_steps": 3, "n_iterations": 3, "memory_gib": 24.0}
    for number in EXTREMES if NUMBERS[name] is int else FLOAT_EXTREMES:
        check_answer(capsys, Asked(**{**sound, name: number}))


@given(
    asked=st.fixed_dictionaries(
        {},
        optional={
            name: st.sampled_from(EXTREMES if kind is int else FLOAT_EXTREMES)
            | (st.integers() if kind is int else st.floats())
            for name, kind in NUMBERS.items()
        },
    ),
    shape=st.sampled_from(["80x64x128", "1x1x1x1", "999999x999999x999999", "0x0x0", "1x1x1x0", "9" * 5000]),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_numbers_together(asked: dict[str, Any], shape: str, capsys: pytest.CaptureFixture[str]) -> None:
    check_answer(capsys, Asked(**asked, shape=shape))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--memory", "inf", "--model", "qwen3-4b"],
            "--memory takes a number from 0.001 to",
        ),
        (
            ["--pp", "1e30", "--tp", "5"],
            "--pp takes a number from 1e-06 to",
        ),
        (["--pp", "5", "--tp", "5", "--steps", "9" * 12], "--steps takes a number from 1 to 100,000"),
        (["--shape", "9" * 5000 + "x1x1"], "each at most 999,999"),
        (["--shape", "0x0x0"], "every number must be at least 1"),
        (["--model", "x" * 5000], "File name too long"),
        (["--model", "~nobody-of-this-name/x"], "there is no such user"),
        (["--steps", "5"], "not enough to compute anything"),
    ],
)
def test_what_nothing_can_be_said_to(arguments: list[str], message: str) -> None:
    done = singlepass(*arguments)
    assert (done.returncode, done.stderr) == (2, "")
    assert message in " ".join(done.stdout.split())
