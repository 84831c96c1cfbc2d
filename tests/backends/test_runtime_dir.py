import os
import tempfile
from pathlib import Path

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


def test_a_path_too_long_for_a_socket(folder: Path) -> None:
    with pytest.raises(BackendError, match="too long"):
        engine_paths(Target(model="m"), folder / ("x" * 90))


def test_models_are_named_absolutely(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.chdir(folder)
    assert absolute(Target(model="m.gguf")).model == str(Path.cwd() / "m.gguf")
    assert absolute(Target()).model == ""
