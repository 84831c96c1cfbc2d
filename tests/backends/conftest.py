"""Random models for all tests here, written once; a short folder for sockets."""

import asyncio
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from runtimes import Runtime
from singlepass_backends.client import list_engines, stop_engine
from singlepass_backends.testing.gguf_to_mlx import write_mlx_model
from singlepass_backends.testing.random_model import Shape, write_random_model

ROOT = Path(__file__).parents[2]


def corpus() -> list[str]:
    return [path.read_text() for path in sorted((ROOT / "backends").rglob("*.py"))]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Saved prefixes of one test only."""
    path = tmp_path / "cache"
    monkeypatch.setenv("SINGLEPASS_CACHE_DIR", str(path))
    return path


@pytest.fixture(scope="session")
def random_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "random.gguf"
    write_random_model(path, corpus=corpus())
    return path


@pytest.fixture(scope="session")
def hybrid_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with recurrent layers, which cannot trim."""
    path = tmp_path_factory.mktemp("models") / "hybrid.gguf"
    write_random_model(path, corpus=corpus(), shape=Shape(n_layer=4, lfm2=True))
    return path


@pytest.fixture(scope="session")
def sliding_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model most of whose layers see 64 tokens back."""
    path = tmp_path_factory.mktemp("models") / "sliding.gguf"
    write_random_model(path, corpus=corpus(), shape=Shape(n_layer=6, n_window=64))
    return path


@pytest.fixture(scope="session")
def mlx_model(tmp_path_factory: pytest.TempPathFactory, random_model: Path) -> Path:
    """The folder of the same model as `random_model`."""
    path = tmp_path_factory.mktemp("models") / "random"
    write_mlx_model(path, random_model)
    return path


@pytest.fixture(scope="session")
def mlx_hybrid_model(tmp_path_factory: pytest.TempPathFactory, hybrid_model: Path) -> Path:
    """The folder of the same model as `hybrid_model`."""
    path = tmp_path_factory.mktemp("models") / "hybrid"
    write_mlx_model(path, hybrid_model)
    return path


@pytest.fixture(scope="session")
def llama_cpp(random_model: Path, hybrid_model: Path) -> Runtime:
    return Runtime("llama_cpp", random_model, hybrid_model)


@pytest.fixture(scope="session")
def mlx(mlx_model: Path, mlx_hybrid_model: Path) -> Runtime:
    return Runtime("mlx", mlx_model, mlx_hybrid_model)


@pytest.fixture(params=["llama_cpp", "mlx"])
def runtime(request: pytest.FixtureRequest, llama_cpp: Runtime, mlx: Runtime) -> Runtime:
    """Each runtime in turn."""
    return llama_cpp if request.param == "llama_cpp" else mlx


@pytest.fixture
def folder() -> Iterator[Path]:
    """A runtime folder with a short path; the engines in it are stopped at the end."""
    path = Path(tempfile.mkdtemp(prefix="sp-"))

    async def stop_all() -> None:
        for paths in list_engines(path):
            await stop_engine(paths)

    yield path
    asyncio.run(stop_all())
    shutil.rmtree(path)
