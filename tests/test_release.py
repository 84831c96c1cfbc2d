"""What a release is made of: the wheel has all that runs, the sources all that is in the repository."""

import json
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from dataclasses import dataclass
from email import message_from_bytes
from pathlib import Path

import pytest
from singlepass.files.source_files import walk

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
VERSION: str = PROJECT["project"]["version"]
PACKAGES: list[str] = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
SHIPPED: list[str] = PROJECT["tool"]["hatch"]["build"]["targets"]["sdist"]["only-include"]


@dataclass(frozen=True)
class Built:
    """A wheel, a source distribution, and the latter unpacked."""

    wheel: Path
    sdist: Path
    unpacked: Path


def build(kind: str, source: Path, into: Path) -> Path:
    """As `pip wheel` and `python -m build` do, without an environment of its own and so without a network."""
    code = f"from hatchling.build import build_{kind}; print(build_{kind}({str(into)!r}))"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], cwd=source, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return into / done.stdout.split()[-1]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    folder = tmp_path_factory.mktemp("dist")
    sdist = build("sdist", ROOT, folder)
    with tarfile.open(sdist) as archive:
        archive.extractall(folder / "unpacked", filter="data")
    unpacked = folder / "unpacked" / f"singlepass-{VERSION}"
    return Built(build("wheel", ROOT, folder), sdist, unpacked)


def files(folder: Path) -> set[str]:
    """Those that git would list, which works without git too."""
    return {*walk(folder)}


def test_the_wheel_has_all_that_runs_and_nothing_else(built: Built) -> None:
    expected = {f"{Path(package).name}/{path}" for package in PACKAGES for path in walk(ROOT / package)}
    with zipfile.ZipFile(built.wheel) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
        metadata = message_from_bytes(wheel.read(f"singlepass-{VERSION}.dist-info/METADATA"))
        scripts = wheel.read(f"singlepass-{VERSION}.dist-info/entry_points.txt").decode()
    assert names == expected
    assert {"singlepass/measuring/hardware.toml", "singlepass_backends/models/catalogue.toml"} < names
    assert metadata["Version"] == VERSION
    assert metadata["License-Expression"] == "MIT"
    assert metadata["Requires-Python"] == PROJECT["project"]["requires-python"]
    assert "singlepass = singlepass.__main__:main" in scripts


def test_the_source_distribution_is_the_repository(built: Built) -> None:
    expected = {path for path in files(ROOT) if path.partition("/")[0] in SHIPPED}
    there = {
        path.relative_to(built.unpacked).as_posix() for path in built.unpacked.rglob("*") if path.is_file()
    }
    assert there == expected | {"PKG-INFO", ".gitignore"}
    assert {"tests/conftest.py", "tests/data/loopback-key.pem", "benchmarks/results/replay.json"} < there


def test_the_source_distribution_makes_the_same_wheel(built: Built, tmp_path: Path) -> None:
    assert build("wheel", built.unpacked, tmp_path).read_bytes() == built.wheel.read_bytes()


def test_the_wheel_runs_without_the_repository(built: Built, tmp_path: Path) -> None:
    """Commands that read files of the package find them."""
    with zipfile.ZipFile(built.wheel) as wheel:
        wheel.extractall(tmp_path)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}

    def run(*command: str) -> str:
        return subprocess.run(
            [sys.executable, *command],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        ).stdout

    code = "import singlepass, singlepass_backends as b; print(singlepass.__file__, b.__file__)"
    assert run("-c", code).count(str(tmp_path)) == 2
    assert run("-m", "singlepass", "--version") == f"singlepass {VERSION}\n"
    hardware = json.loads(run("-m", "singlepass", "plan", "--json"))
    assert "rtx-4090" in json.dumps(hardware)
    catalogue = "from singlepass_backends.models.catalogue import catalogue; print(len(catalogue().models))"
    assert int(run("-c", catalogue)) > 10


def test_all_parts_have_one_version() -> None:
    vscode = ROOT / "editor-clients" / "vscode"
    package = json.loads((vscode / "package.json").read_text(encoding="utf-8"))
    lock = json.loads((vscode / "package-lock.json").read_text(encoding="utf-8"))
    assert package["version"] == lock["version"] == lock["packages"][""]["version"] == VERSION
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    newest = re.search(r"^## (\S+) \((unreleased|\d{4}-\d\d-\d\d)\)$", changelog, re.MULTILINE)
    assert newest, "the newest heading of CHANGELOG.md is no version with a date"
    assert newest[1] == VERSION
