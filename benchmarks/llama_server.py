"""The contract tests of the remote backend against llama-server, built from llama-cpp-python's own source.

    python benchmarks/llama_server.py FOLDER [--json] [--jobs N]

FOLDER keeps the source distribution of the installed version, which pip downloads or finds in its cache, and
the build, so that only the first run takes its ten minutes on two cores. Needs cmake and a C++ compiler; the
build is for the CPU, without the web page and without llguidance, for which llama.cpp would fetch more from
elsewhere. Then `tests/backends/test_real_servers.py` runs against it, and what the tests saw is printed.
"""

import argparse
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from machine import command, describe, load, machine

ROOT = Path(__file__).parents[1]
TESTS = "tests/backends/test_real_servers.py"
NAME = "llama-server"
OPTIONS = {
    "CMAKE_BUILD_TYPE": "Release",
    "BUILD_SHARED_LIBS": "OFF",
    "LLAMA_BUILD_APP": "OFF",
    "LLAMA_BUILD_EXAMPLES": "OFF",
    "LLAMA_BUILD_TESTS": "OFF",
    "LLAMA_BUILD_UI": "OFF",
    "LLAMA_USE_PREBUILT_UI": "OFF",  # it would be downloaded
    "LLAMA_OPENSSL": "OFF",
}
SEEN = {
    "device": "recognized as",
    "same": "same greedy text as llama.cpp in the same process, of 100 prompts",
    "near_ties": "other texts, parting where the top two logits lie within the noise",
    "parted": "other texts, parting elsewhere",
    "prewarm_decoded": "tokens that a prewarm (`n_predict: 0`) sampled, and the time",
    "cached": "cached of the tokens that were prewarmed (`cache_n`)",
    "progress": "reports of a prefill's progress",
    "inferred": "numbers of a request that it does not report",
    "cancel_ms": "cancelled in a prefill: ms until the request was over",
    "released_ms": "and until the server had let go of the connection",
}
"""What the tests record, in the order of the table."""


def download(folder: Path) -> Path:
    """The source distribution of the installed llama-cpp-python."""
    package = f"llama-cpp-python=={version('llama-cpp-python')}"
    found = folder / f"llama_cpp_python-{version('llama-cpp-python')}.tar.gz"
    if not found.exists():
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:"]
        _run([*pip, "--dest", str(folder), package])
    return found


def build(folder: Path, n_jobs: int, name: str = NAME) -> Path:
    """A program of llama.cpp, of that version."""
    source = download(folder)
    unpacked = folder / source.name.removesuffix(".tar.gz")
    if not unpacked.exists():
        with tempfile.TemporaryDirectory(dir=folder) as partial, tarfile.open(source) as archive:
            archive.extractall(partial, filter="data")
            (Path(partial) / unpacked.name).rename(unpacked)
    built = folder / f"build-{version('llama-cpp-python')}"
    options = [f"-D{name}={value}" for name, value in OPTIONS.items()]
    _run(["cmake", "-S", str(unpacked / "vendor" / "llama.cpp"), "-B", str(built), *options])
    _run(["cmake", "--build", str(built), "--target", name, "--parallel", str(n_jobs)])
    return built / "bin" / name


def check(server: Path) -> dict[str, Any]:
    """Run the contract tests: the result of each, and what they saw."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        pytest = [sys.executable, "-m", "pytest", TESTS, "-k", NAME, f"--junitxml={report}"]
        subprocess.run(
            [*pytest, "-o", "junit_family=xunit1"],
            cwd=ROOT,
            env={**os.environ, "SINGLEPASS_LLAMA_SERVER": str(server)},
            stdout=sys.stderr,
            check=False,
        )
        return read(report.read_text(encoding="utf-8"))


def read(report: str) -> dict[str, Any]:
    """What a JUnit report says of each test, and the properties that the tests recorded."""
    tests: dict[str, str] = {}
    seen: dict[str, str] = {}
    for case in ElementTree.fromstring(report).iter("testcase"):
        name = case.attrib["name"].partition("[")[0].removeprefix("test_")
        tests[name] = next((one.tag for one in case if one.tag in ("failure", "error", "skipped")), "passed")
        for one in case.iter("property"):
            seen[one.attrib["name"]] = one.attrib["value"]
    return {"tests": tests, "seen": seen}


def table(found: dict[str, Any]) -> str:
    """The results of a run."""
    rows = [f"| {label} | {found['seen'][name]} |" for name, label in SEEN.items() if name in found["seen"]]
    rows += [f"| {name.replace('_', ' ')} | {result} |" for name, result in found["tests"].items()]
    return "\n".join(["| | |", "|---|---|", *rows])


def _run(arguments: list[str]) -> None:
    subprocess.run(arguments, stdout=sys.stderr, check=True)


def main() -> None:
    """Build, test and print; fails where a test does."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    found: dict[str, Any] = {"command": command(sys.argv), "machine": machine(), "load_before": load()}
    found |= check(build(arguments.folder.resolve(), arguments.jobs))
    print(
        json.dumps(found, indent=2) if arguments.json else f"{describe(found['machine'])}\n\n{table(found)}"
    )
    if set(found["tests"].values()) != {"passed"}:
        sys.exit(1)


if __name__ == "__main__":
    main()
