import os
import tempfile
from pathlib import Path

import msgspec
import platformdirs
import pytest
from singlepass_backends.base import BackendError, Target
from singlepass_backends.runtime_dir import absolute, engine_paths, runtime_dir


def test_the_folder_is_private(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SINGLEPASS_RUNTIME_DIR", str(folder / "run"))
    made = runtime_dir()
    assert made == folder / "run"
    assert made.stat().st_mode & 0o777 == 0o700


def test_a_folder_that_others_can_open_is_refused(folder: Path) -> None:
    folder.chmod(0o755)
    with pytest.raises(BackendError, match="0700") as caught:
        runtime_dir(folder)
    folder.chmod(0o700)
    assert caught.value.code == "engine_start_failed"
    (folder / "link").symlink_to(folder)
    with pytest.raises(BackendError, match="yours alone"):
        runtime_dir(folder / "link")
    (folder / "file").touch()
    with pytest.raises(BackendError, match="cannot be made"):
        runtime_dir(folder / "file")


@pytest.mark.filterwarnings("error")
def test_without_a_login_session(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container: no folder of the platform's. Nobody is warned, and it is private all the same."""
    monkeypatch.delenv("SINGLEPASS_RUNTIME_DIR", raising=False)
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    assert runtime_dir().stat().st_mode & 0o777 == 0o700

    def refuse(_name: str) -> str:
        raise PermissionError("/tmp/runtime-0 is somebody else's")

    monkeypatch.setattr(platformdirs, "user_runtime_dir", refuse)
    assert runtime_dir() == folder / f"singlepass-{os.getuid()}"


def test_one_name_for_one_target_and_model_file(folder: Path) -> None:
    model = folder / "m.gguf"
    model.write_text("one")
    os.utime(model, (1, 1))
    target = Target(model=str(model))
    first = engine_paths(target, folder)
    assert engine_paths(Target(model=str(model)), folder) == first
    assert engine_paths(Target(model=str(model), n_ctx=1), folder) != first
    os.utime(model, (2, 2))
    assert engine_paths(target, folder) != first
    assert {first.socket.parent, first.log.parent, first.lock.parent} == {folder}


SERVER = Target(backend="openai_compatible", url="http://localhost:11434")


@pytest.mark.parametrize("model", ["", "qwen"])
def test_a_server_has_one_engine_whatever_happens_in_the_current_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    target = msgspec.structs.replace(SERVER, model=model)
    before = engine_paths(target, folder)
    for name in ("one", "two"):
        (folder / name).mkdir()
        monkeypatch.chdir(folder / name)
        assert engine_paths(target, folder) == before
        (folder / name / (model or "new")).write_text(name)  # which is no model of the server's
        os.utime(folder / name, (len(name), 7))
        assert engine_paths(target, folder) == before
    assert engine_paths(Target(backend="mlx"), folder) == engine_paths(Target(backend="mlx"), folder)


def test_one_engine_for_all_spellings_of_a_path(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "models" / "sub").mkdir(parents=True)
    model = folder / "models" / "m.gguf"
    model.write_text("one")
    (folder / "link.gguf").symlink_to(model)
    (folder / "linked").symlink_to("models")
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.chdir(folder / "models")

    def paths(spelled: str) -> Path:
        return engine_paths(Target(model=spelled), folder).socket

    spelled = ["m.gguf", "./m.gguf", "sub/../m.gguf", "../models//m.gguf", "~/models/m.gguf", "../link.gguf"]
    spelled += [f"{folder}/linked/m.gguf", f"{folder}/linked/sub/../m.gguf"]
    assert {paths(one) for one in spelled} == {paths(str(model))}
    monkeypatch.chdir(folder)
    assert paths("models/m.gguf") == paths(str(model))
    first = paths(str(model))
    os.utime(model, (2, 2))
    assert paths(str(folder / "link.gguf")) != first, "the file behind a link was replaced"
    # What is opened is what was named: the parts of a model lie beside the link, not behind it.
    assert absolute(Target(model="~/link.gguf")).model == str(folder / "link.gguf")


def test_one_engine_for_all_spellings_of_an_address(folder: Path) -> None:
    def socket(url: str) -> Path:
        return engine_paths(msgspec.structs.replace(SERVER, url=url), folder).socket

    base = "http://localhost:11434"
    same = [f"{base}/", f"{base}/v1", f"{base}/v1/", f" {base}/v1/chat/completions", "HTTP://LocalHost:11434"]
    assert {socket(one) for one in same} == {socket(base)}
    assert socket("https://h/v1") == socket("https://H:443")
    others = ["http://localhost:11435", "https://localhost:11434", "http://127.0.0.1:11434", f"{base}/V1", ""]
    assert len({socket(one) for one in [base, *others]}) == 1 + len(others)


@pytest.mark.parametrize("model", ["~nobody-of-this-name/m.gguf", "a\0b", "loop", "x" * 300])
def test_a_path_that_leads_nowhere_has_a_name_all_the_same(folder: Path, model: str) -> None:
    (folder / "loop").symlink_to("loop")
    target = Target(model=model if model != "loop" else str(folder / "loop"))
    assert engine_paths(target, folder) == engine_paths(target, folder)


def test_a_path_too_long_for_a_socket(folder: Path) -> None:
    with pytest.raises(BackendError, match="too long"):
        engine_paths(Target(model="m"), folder / ("x" * 90))


def test_models_are_named_absolutely(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.chdir(folder)
    assert absolute(Target(model="m.gguf")).model == str(Path.cwd() / "m.gguf")
    assert absolute(Target()).model == ""
