"""`singlepass models` as a user runs it: real processes, and a hub on loopback in place of the real one."""

import json
import os
import signal
import subprocess
import sys
import threading
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hub_double import Fault, HubDouble
from singlepass_backends.models.catalogue import Entry, catalogue

NAME = "qwen2.5-coder-0.5b"
OTHER = "qwen3-4b"
TOKEN = "hf_secret"
Done = subprocess.CompletedProcess[str]
Run = Callable[..., Done]


def entry(name: str) -> Entry:
    found = catalogue().find(name)
    assert found is not None
    return found


@pytest.fixture
def hub(random_gguf: Path) -> Iterator[HubDouble]:
    content = random_gguf.read_bytes()
    repos = {entry(name).gguf.repo: {entry(name).gguf.file: content} for name in (NAME, OTHER)}
    with HubDouble(repos) as double:
        yield double


@pytest.fixture
def environment(tmp_path: Path, hub: HubDouble) -> dict[str, str]:
    own = {
        "HF_ENDPOINT": hub.url,
        "HF_TOKEN": TOKEN,
        "SINGLEPASS_CONFIG_DIR": str(tmp_path / "config"),
        "SINGLEPASS_MODELS_DIR": str(tmp_path / "models"),
        "COLUMNS": "200",
    }
    clean = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    return {**clean, **own}


@pytest.fixture
def singlepass(environment: dict[str, str]) -> Run:
    def run(*arguments: str, **more: str) -> Done:
        command = [sys.executable, "-m", "singlepass", *arguments]
        done = subprocess.run(
            command, env={**environment, **more}, capture_output=True, text=True, check=False, timeout=120
        )
        assert TOKEN not in done.stdout + done.stderr
        assert "Traceback" not in done.stderr, done.stderr
        return done

    return run


def settings(tmp_path: Path) -> dict[str, Any]:
    return tomllib.loads((tmp_path / "config" / "singlepass.toml").read_text(encoding="utf-8"))


def path_of(tmp_path: Path, name: str) -> Path:
    return tmp_path / "models" / name / entry(name).gguf.file


def test_the_list_needs_no_network(singlepass: Run, tmp_path: Path, hub: HubDouble) -> None:
    done = singlepass("models", HF_HUB_OFFLINE="1", HF_ENDPOINT="http://127.0.0.1:1")
    assert done.returncode == 0, done.stderr
    for one in catalogue().models:
        assert one.name in done.stdout
        assert one.licence in done.stdout
        assert one.good_for in done.stdout
        assert one.measured in done.stdout
    assert "with 16,384 tokens" in done.stdout
    assert "not for commercial use" in done.stdout
    assert str(tmp_path / "models") in done.stdout
    assert "✓" not in done.stdout.replace("(✓)", "")
    assert not hub.requests


def test_the_list_as_json(singlepass: Run, tmp_path: Path) -> None:
    done = singlepass("models", "--json", "--n-ctx", "8192")
    found = json.loads(done.stdout)
    assert found["n_ctx"] == 8192
    assert found["folder"] == str(tmp_path / "models")
    assert [one["name"] for one in found["models"]] == [one.name for one in catalogue().models]
    one = next(one for one in found["models"] if one["name"] == "qwen2.5-coder-7b")
    assert one["kv_cache_bytes"] == 8192 * 56 * 1024
    assert one["memory_bytes"] == one["size_bytes"] + one["kv_cache_bytes"]
    assert one["is_estimate"]
    assert one["place"] in ("gpu", "part", "cpu", "none")
    assert one["path"] is None
    longer = json.loads(singlepass("models", "--json", "--n-ctx", "16384").stdout)
    assert all(
        after["kv_cache_bytes"] == 2 * before["kv_cache_bytes"]
        for before, after in zip(found["models"], longer["models"], strict=True)
    )


def test_pull_downloads_and_sets_the_target(
    singlepass: Run, tmp_path: Path, hub: HubDouble, random_gguf: Path
) -> None:
    hub.faults = [Fault(cut_after=200_000)]
    done = singlepass("models", "pull", NAME)
    assert done.returncode == 0, done.stdout
    path = path_of(tmp_path, NAME)
    assert path.read_bytes() == random_gguf.read_bytes()
    assert settings(tmp_path) == {"target": {"model": str(path)}}
    assert "licence: Apache-2.0" in done.stdout
    assert "100%" in done.stdout
    assert "trying again" in done.stdout
    assert f"downloaded and verified: {path}" in done.stdout
    assert "It is the default target" in done.stdout
    assert hub.asked("hub")[0].headers["Authorization"] == f"Bearer {TOKEN}"
    assert not any("Authorization" in one.headers for one in hub.asked("content"))

    again = singlepass("models", "pull", NAME)
    assert again.returncode == 0
    assert f"already downloaded: {path}" in again.stdout
    assert len(hub.asked("content")) == 2
    listed = singlepass("models")
    assert f"{NAME} ✓" in listed.stdout
    size = random_gguf.stat().st_size
    assert f"~{size / 2**20:.0f} MiB" not in listed.stdout
    assert f" {size / 2**20:.0f} MiB" in listed.stdout
    described = json.loads(singlepass("models", "--json").stdout)["models"][0]
    assert described["path"] == str(path)
    assert described["size_bytes"] == size
    assert not described["is_estimate"]


def test_the_pulled_model_is_what_doctor_finds(singlepass: Run, tmp_path: Path) -> None:
    assert singlepass("models", "pull", NAME).returncode == 0
    done = singlepass("doctor")
    assert done.returncode == 0, done.stdout
    assert str(path_of(tmp_path, NAME)) in "".join(done.stdout.split())
    assert "Everything that requests need was found" in done.stdout


def test_another_target_stays_until_it_is_changed(singlepass: Run, tmp_path: Path) -> None:
    path = tmp_path / "config" / "singlepass.toml"
    path.parent.mkdir()
    mine = "# my settings\nseed = 7\n\n[target]  # at work\nbackend = 'openai_compatible'\nurl = 'http://localhost:11434'\n"
    path.write_text(mine)
    done = singlepass("models", "pull", NAME)
    assert done.returncode == 0
    assert "The default target is still http://localhost:11434" in done.stdout
    assert f"singlepass models use {NAME}" in done.stdout
    model = str(path_of(tmp_path, NAME))
    assert path.read_text() == f'{mine}\n[targets."{NAME}"]\nmodel = "{model}"\n'

    used = singlepass("models", "use", NAME, HF_ENDPOINT="http://127.0.0.1:1")
    assert used.returncode == 0
    assert '[target] was: backend = "openai_compatible", url = "http://localhost:11434"' in used.stdout
    assert settings(tmp_path) == {"seed": 7, "target": {"model": model}}
    assert path.read_text().startswith("# my settings\nseed = 7\n\n[target]  # at work\n")

    assert singlepass("models", "pull", OTHER).returncode == 0
    assert settings(tmp_path)["target"] == {"model": model}
    assert settings(tmp_path)["targets"] == {OTHER: {"model": str(path_of(tmp_path, OTHER))}}


def test_settings_can_be_left_alone(singlepass: Run, tmp_path: Path) -> None:
    assert singlepass("models", "pull", NAME, "--keep-settings").returncode == 0
    assert path_of(tmp_path, NAME).exists()
    assert not (tmp_path / "config").exists()


def test_broken_settings_are_told_before_anything_is_downloaded(
    singlepass: Run, tmp_path: Path, hub: HubDouble
) -> None:
    path = tmp_path / "config" / "singlepass.toml"
    path.parent.mkdir()
    path.write_text("seed = \n")
    done = singlepass("models", "pull", NAME)
    assert done.returncode == 2
    assert f"The settings in {path} cannot be read" in done.stdout
    assert not hub.requests
    assert path.read_text() == "seed = \n"


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["pull", "qwen-2.5-coder-7b"], "Did you mean qwen2.5-coder-7b"),
        (["pull", "zzzz"], "`singlepass models` lists all names"),
        (["use", "zzzz"], "`singlepass models` lists all names"),
        (["use", NAME], f"is not downloaded yet: singlepass models pull {NAME}"),
    ],
)
def test_names_that_lead_nowhere(singlepass: Run, hub: HubDouble, arguments: list[str], part: str) -> None:
    done = singlepass("models", *arguments)
    assert done.returncode != 0
    assert part in done.stdout
    assert not hub.requests


def test_without_a_network_it_says_so(singlepass: Run, tmp_path: Path) -> None:
    done = singlepass("models", "pull", NAME, HF_ENDPOINT="http://127.0.0.1:1")
    assert done.returncode == 1
    assert "The hub at http://127.0.0.1:1 cannot be reached" in done.stdout
    assert "Is this machine online?" in done.stdout
    assert not (tmp_path / "config").exists()


def test_a_gated_model_says_what_to_do(singlepass: Run, tmp_path: Path, hub: HubDouble) -> None:
    hub.gated = {entry(NAME).gguf.repo}
    done = singlepass("models", "pull", NAME)
    assert done.returncode == 1
    assert "requires that you accept its terms" in done.stdout
    assert not (tmp_path / "config").exists()


def test_what_cannot_run_here_is_not_downloaded_by_mistake(
    singlepass: Run, hub: HubDouble, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine with 1 GiB of memory, as far as the process that looks at it can tell."""
    site = tmp_path / "site"
    site.mkdir()
    (site / "psutil.py").write_text(
        "import types\n"
        "def virtual_memory(): return types.SimpleNamespace(total=1 << 30, available=1 << 29)\n"
        "def cpu_count(logical=True): return 2\n"
    )
    search = os.pathsep.join([str(site), *[path for path in sys.path if path]])
    done = singlepass("models", "pull", OTHER, PYTHONPATH=search)
    assert done.returncode == 1
    assert "it cannot run here" in done.stdout
    assert "--force" in done.stdout
    assert not hub.requests
    assert "too large" in singlepass("models", PYTHONPATH=search).stdout
    assert singlepass("models", "pull", OTHER, "--force", PYTHONPATH=search).returncode == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_keeps_what_came(
    singlepass: Run,
    environment: dict[str, str],
    tmp_path: Path,
    hub: HubDouble,
    random_gguf: Path,
    number: signal.Signals,
) -> None:
    sent, stopped = threading.Event(), threading.Event()

    def hold() -> None:
        sent.set()
        stopped.wait(60)

    hub.faults = [Fault(cut_after=200_000, then=hold)]
    command = [sys.executable, "-m", "singlepass", "models", "pull", NAME]
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    part = tmp_path / "models" / f"{NAME}.part" / f"{entry(NAME).gguf.file}.part"
    assert sent.wait(60)
    process.send_signal(number)
    output, errors = process.communicate(timeout=60)
    stopped.set()
    assert process.returncode == 130
    assert not errors
    assert f"singlepass models pull {NAME}` resumes" in output
    came = part.read_bytes()
    assert random_gguf.read_bytes().startswith(came)
    assert not (tmp_path / "config").exists()

    hub.requests.clear()
    assert singlepass("models", "pull", NAME).returncode == 0
    assert path_of(tmp_path, NAME).read_bytes() == random_gguf.read_bytes()
    expected = f"bytes={len(came)}-" if came else None
    assert [one.headers.get("Range") for one in hub.asked("content")] == [expected]
