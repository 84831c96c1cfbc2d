"""Shared by all tests: nobody's own settings and engines are touched, and small models are written once."""

import asyncio
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from hypothesis import settings
from singlepass_backends.client import list_engines, stop_engine
from singlepass_backends.testing.random_model import write_random_model

ROOT = Path(__file__).parents[1]

# A machine that does something else meanwhile is no failure. SECURITY.md tells of the number.
settings.register_profile(
    "singlepass", deadline=None, max_examples=int(os.environ.get("SINGLEPASS_EXAMPLES", "100"))
)
settings.register_profile("fast", deadline=None, max_examples=25)
settings.load_profile("singlepass")


FOLLOW_THE_SOURCES = ("core", "server", "backends")
"""Folders with tests of single modules; the others start the whole."""
STARTS_PROCESSES = re.compile(r"^(import|from) (subprocess|psutil|real_servers)\b", re.MULTILINE)
"""In a module of tests."""
LONG = {"test_draft_sampling.py", "test_kv_sizes.py", "test_template.py"}
"""Modules that draw thousands of samples, run a runtime, or start a process for each case."""


def pytest_configure(config: pytest.Config) -> None:
    """Fewer random cases where the fast tests alone are asked for."""
    if config.option.markexpr == "fast" and "SINGLEPASS_EXAMPLES" not in os.environ:
        settings.load_profile("fast")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that are run again and again while one works: `python -m pytest -m fast`."""
    for item in items:
        if _is_fast(item):
            item.add_marker("fast")


def _is_fast(item: pytest.Item) -> bool:
    if not isinstance(item, pytest.Function) or item.path.parent.name not in FOLLOW_THE_SOURCES:
        return False
    uses_model = any(name.endswith(("_model", "_gguf")) for name in item.fixturenames)
    return not (uses_model or item.path.name in LONG or _starts_processes(item.path))


@cache
def _starts_processes(path: Path) -> bool:
    return STARTS_PROCESSES.search(path.read_text(encoding="utf-8")) is not None


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session", autouse=True)
def own_folders() -> Iterator[Path]:
    """Settings and engines of this run only; its engines are stopped at the end."""
    folder = Path(tempfile.mkdtemp(prefix="sp-"))
    os.environ["SINGLEPASS_CONFIG_DIR"] = str(folder / "config")
    os.environ["SINGLEPASS_RUNTIME_DIR"] = str(folder / "run")
    os.environ["SINGLEPASS_CACHE_DIR"] = str(folder / "cache")
    os.environ["SINGLEPASS_STATE_DIR"] = str(folder / "state")
    os.environ["SINGLEPASS_MODELS_DIR"] = str(folder / "models")

    async def stop_all() -> None:
        for paths in list_engines():
            await stop_engine(paths)

    yield folder
    asyncio.run(stop_all())
    shutil.rmtree(folder, ignore_errors=True)  # a history may still be written


@pytest.fixture(scope="session")
def random_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small llama of random weights with a tokenizer trained on this repository's own sources."""
    path = tmp_path_factory.mktemp("model") / "random.gguf"
    corpus = [file.read_text(encoding="utf-8") for file in sorted((ROOT / "server").rglob("*.py"))]
    write_random_model(path, corpus=corpus)
    return path
