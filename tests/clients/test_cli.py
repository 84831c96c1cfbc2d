"""The command line as a user runs it: real processes, a real server, a real engine, random weights."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from singlepass import __version__

SOURCE = "".join(f"value_{n} = {n}\n" for n in range(12))


def singlepass(*arguments: str | Path, cwd: Path | None = None) -> "subprocess.CompletedProcess[bytes]":
    command = [sys.executable, "-m", "singlepass", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, cwd=cwd, check=False, timeout=120)


def text(output: bytes) -> str:
    return " ".join(output.decode("utf-8").split())


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    (tmp_path / "values.py").write_bytes(SOURCE.encode())
    return tmp_path


def edit(path: Path, model: Path, *more: str | Path) -> "subprocess.CompletedProcess[bytes]":
    return singlepass("edit", path, "-i", "Change it.", "--model", model, *more)


def test_the_diff_applies_and_is_what_apply_writes(repository: Path, random_gguf: Path) -> None:
    path = repository / "values.py"
    done = edit(path, random_gguf, "--diff")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(b"--- a/values.py\n+++ b/values.py\n@@")
    assert path.read_bytes() == SOURCE.encode()  # nothing is written without --apply

    assert edit(path, random_gguf, "--apply", "--diff").returncode == 0
    written = path.read_bytes()
    assert written != SOURCE.encode()
    path.write_bytes(SOURCE.encode())
    subprocess.run(["git", "apply", "-"], input=done.stdout, cwd=repository, check=True)
    assert path.read_bytes() == written


def test_line_ends_and_the_byte_order_mark_stay(repository: Path, random_gguf: Path) -> None:
    path = repository / "windows.py"
    original = b"\xef\xbb\xbf" + SOURCE.replace("\n", "\r\n").encode()
    path.write_bytes(original)
    assert edit(path, random_gguf, "--apply").returncode == 0
    written = path.read_bytes()
    assert written != original
    assert written.startswith(b"\xef\xbb\xbf")
    assert not written.startswith(b"\xef\xbb\xbf\xef\xbb\xbf")
    assert b"\n" not in written.replace(b"\r\n", b"")


def test_odd_line_separators_and_control_characters(repository: Path, random_gguf: Path) -> None:
    """The diff is one for git, whatever Python takes for a line; a terminal shows pictures of controls."""
    path = repository / "odd.py"
    original = "".join(f"value_{n} = '\u2028\f\x1b[31m\x85{n}'\n" for n in range(6)).encode()
    path.write_bytes(original)
    done = edit(path, random_gguf, "--diff")
    shown = edit(path, random_gguf, "--apply")
    written = path.read_bytes()
    assert written != original
    path.write_bytes(original)
    subprocess.run(["git", "apply", "-"], input=done.stdout, cwd=repository, check=True)
    assert path.read_bytes() == written
    assert b"\x1b" in done.stdout
    assert b"\x1b" not in shown.stdout
    assert "␛[31m".encode() in shown.stdout


def test_a_repository_cannot_pass_for_singlepass(repository: Path, random_gguf: Path) -> None:
    """Packages of our names in the working folder are not what runs, in none of our processes."""
    for name in ("singlepass", "singlepass_backends", "llama_cpp", "msgspec"):
        package = repository / name
        package.mkdir()
        code = f"open({str(repository / 'ran')!r}, 'a').write({name!r})\nraise SystemExit(9)\n"
        (package / "__init__.py").write_text(code, encoding="utf-8")
    program = Path(sys.executable).parent / "singlepass"
    command = [str(program), "edit", "values.py", "-i", "Do it.", "--model", str(random_gguf), "--diff"]
    environment = {**os.environ, "SINGLEPASS_RUNTIME_DIR": str(repository / "r")}
    done = subprocess.run(command, cwd=repository, env=environment, capture_output=True, check=False)
    stop = [str(program), "engine", "stop"]
    subprocess.run(stop, cwd=repository, env=environment, capture_output=True, check=True)
    assert done.returncode == 0, done.stderr
    assert not (repository / "ran").exists()


def test_json(repository: Path, random_gguf: Path) -> None:
    done = edit(repository / "values.py", random_gguf, "--json", "--range", "2:5")
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    assert result["diff"].startswith("--- a/values.py")
    timings = result["timings"]
    assert timings["outcome"] == "done"
    assert timings["target"]["backend"] == "llama_cpp"
    assert timings["timings"]["n_prompt"] > 0


def test_what_it_prints_for_people(repository: Path, random_gguf: Path) -> None:
    done = edit(repository / "values.py", random_gguf)
    assert done.returncode == 0, done.stderr
    printed = text(done.stdout)
    assert "+++ b/values.py" in printed
    assert "prefill" in printed
    assert "first token" in printed
    assert "random weights: valid but meaningless edits" in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.py"], "missing.py: No such file or directory"),
        (["latin.py"], "latin.py is not UTF-8 text: byte 2 is 0xe4"),
        (["values.py", "--range", "5:99"], "--range 5:99 goes past the end: values.py has 12 lines"),
        (
            ["values.py", "--range", "9:2"],
            "lines are numbered from 1, and the last must not come before the first",
        ),
        (["values.py", "--range", "some"], "--range takes lines as FIRST:LAST"),
        (["values.py", "-i", " "], "The instruction is empty"),
    ],
)
def test_wrong_arguments(arguments: Sequence[str], message: str, repository: Path, random_gguf: Path) -> None:
    (repository / "latin.py").write_bytes(b"# \xe4\n")
    done = singlepass("edit", "-i", "Do it.", "--model", random_gguf, *arguments, cwd=repository)
    assert done.returncode == 2
    assert message in text(done.stdout + done.stderr)


def test_a_missing_model_fails_the_command(repository: Path) -> None:
    done = edit(repository / "values.py", repository / "none.gguf", "--apply")
    assert done.returncode == 1
    assert "no model file at" in text(done.stdout)
    assert (repository / "values.py").read_bytes() == SOURCE.encode()


def test_no_model_configured(repository: Path) -> None:
    done = singlepass("edit", repository / "values.py", "-i", "Do it.")
    assert done.returncode == 0
    assert text(done.stdout).rstrip().endswith("; demo model")


def test_interrupting_writes_nothing(repository: Path, random_gguf: Path) -> None:
    """Ctrl-C while it works; the scripted target never ends by itself."""
    recording = repository / "slow.json"
    reply = {"when": "", "text": ["thinking\n"] * 10_000, "delay_ms": 20}
    recording.write_text(json.dumps({"name": "slow", "replies": [reply]}), encoding="utf-8")
    config = repository / "config"
    config.mkdir()
    (config / "singlepass.toml").write_text(
        f'[target]\nbackend = "scripted"\nmodel = "{recording}"\n', encoding="utf-8"
    )
    command = [sys.executable, "-m", "singlepass", "edit", "values.py", "-i", "Do it.", "--apply"]
    environment = {**os.environ, "SINGLEPASS_CONFIG_DIR": str(config), "SINGLEPASS_LOG_READY": "1"}
    process = subprocess.Popen(
        command, cwd=repository, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    wait_for_decode(recording)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 2, errors
    assert b"Cancelled; nothing was written" in output
    assert b"Traceback" not in errors
    assert (repository / "values.py").read_bytes() == SOURCE.encode()


def wait_for_decode(recording: Path) -> None:
    """Until the engine of this recording is at work."""
    import asyncio

    from singlepass_backends.base import Target
    from singlepass_backends.client import EngineClient

    async def wait() -> None:
        client = EngineClient(Target(backend="scripted", model=str(recording)))
        try:
            async with asyncio.timeout(60):
                while True:
                    status = await client.status()
                    if status is not None and status.busy:
                        return
                    await asyncio.sleep(0.05)
        finally:
            await client.aclose()

    asyncio.run(wait())


DEMO_LINES = (
    "-    words = text.lower().split()",
    "+    found = text.lower().split()",
    "+    return Counter(found)",
    "+def top_words(counts, limit=10):",
    "+++ b/report.py",
    "+from tally.words import top_words",
    "+    rows = top_words(counts)",
    '+    """Return how often each word occurs."""',
)


def test_demo_needs_nothing() -> None:
    done = singlepass("demo")
    assert done.returncode == 0, done.stderr
    printed = done.stdout.decode("utf-8").splitlines()
    assert set(DEMO_LINES) <= set(printed)
    assert sum(line.endswith("; demo model") for line in printed) == 3
    assert "This was the demo model" in text(done.stdout)


def test_context_lists_the_segments_and_what_is_cached(repository: Path, random_gguf: Path) -> None:
    path = repository / "values.py"
    first = text(singlepass("context", path, "--model", random_gguf).stdout)
    assert "system" in first
    assert "values.py" in first
    assert "of 4,096 tokens of context" in first
    assert edit(path, random_gguf, "--diff").returncode == 0
    after = singlepass("context", path, "--model", random_gguf)
    assert after.returncode == 0
    cached = [line.split()[-1] for line in after.stdout.decode().splitlines() if "values.py" in line]
    assert cached == ["yes"]
    assert singlepass("context", repository / "none.py", "--model", random_gguf).returncode == 2


def test_context_shows_what_the_editor_would_send(
    repository: Path, random_gguf: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The map and the near files too, the first time already; a name in brackets is no markup."""
    (repository / "values.py").write_text("def first_value():\n    return 1\n")
    (repository / "[id].py").write_text("from values import first_value\nprint(first_value())\n")
    environment = {**os.environ, "SINGLEPASS_CACHE_DIR": str(tmp_path_factory.mktemp("cache"))}
    command = [sys.executable, "-m", "singlepass", "context", "[id].py", "--model", str(random_gguf)]
    shown: list[list[str]] = []
    for _ in range(2):
        done = subprocess.run(command, cwd=repository, env=environment, capture_output=True, check=True)
        lines = done.stdout.decode().splitlines()
        shown.append([line.rsplit(maxsplit=2)[0].strip() for line in lines[1:-1]])
    assert shown[0] == ["system", "repository map", "values.py", "[id].py"]
    assert shown[1] == shown[0]


@pytest.mark.parametrize("command", ["context", "doctor", "plan", "demo", "bench"])
def test_a_pipe_is_no_file_for_any_command(command: str, repository: Path) -> None:
    os.mkfifo(repository / "pipe")
    option = () if command == "context" else ("--model",)
    done = singlepass(command, *option, "pipe", cwd=repository)
    assert done.returncode == 2
    assert "pipe is a named pipe; only a regular file can be" in text(done.stdout + done.stderr)


COMMANDS = (["plan"], ["plan", "--json"], ["models"], ["models", "--json"], ["--help"], ["stats", "--csv"])


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_every_output_may_lack_characters_or_take_none(arguments: list[str], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "singlepass", *arguments]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    plain = subprocess.run(command, env=environment, capture_output=True, check=True, timeout=120)
    plain.stdout.decode("ascii")
    if "--json" in arguments:
        whole = subprocess.run(command, capture_output=True, check=True, timeout=120)
        assert json.loads(plain.stdout).keys() == json.loads(whole.stdout).keys()
        assert b"?" not in plain.stdout
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, check=False, timeout=120)
    assert done.returncode == 1
    assert done.stderr == b"The output cannot be written: No space left on device.\n"
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "wb") as pipe:  # noqa: PTH123
        done = subprocess.run(command, stdout=pipe, stderr=subprocess.PIPE, check=False, timeout=120)
    assert (done.returncode, done.stderr) == (1, b"")


def test_doctor(random_gguf: Path) -> None:
    done = singlepass("doctor")
    assert done.returncode == 0
    assert "No model is configured, so the demo model is used" in text(done.stdout)
    done = singlepass("doctor", "--model", random_gguf)
    assert done.returncode == 0, done.stdout
    printed = text(done.stdout)
    for expected in (f"singlepass {__version__}", "llama-cpp-python", "llguidance", "random.gguf"):
        assert expected in printed
    for expected in ("n_ctx 4,096", "1 thread", "GiB of memory", "that can be used", "GiB free"):
        assert expected in printed, printed
    done = singlepass("doctor", "--model", __file__)
    assert done.returncode == 1
    assert "not a GGUF" in text(done.stdout)


def test_engines_are_listed_and_stopped(repository: Path, random_gguf: Path) -> None:
    assert edit(repository / "values.py", random_gguf, "--diff").returncode == 0
    assert "singlepass random" in text(singlepass("engine", "status").stdout)
    assert "stopped" in text(singlepass("engine", "stop").stdout)
    assert "No engine is running" in text(singlepass("engine", "status").stdout)
