"""The extension for VS Code, in the real one: mocha inside its extension host, and the packaged .vsix in a browser.

See `vscode.py` for what runs and what is needed.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path

import pytest
from vscode import EXTENSION, editor, need_node, npm, own_python

SUITE = (EXTENSION / "test" / "editor" / "suite.ts").read_text(encoding="utf-8")
TITLES = re.findall(r'^  it\("(.+)", ', SUITE, re.MULTILINE)


@pytest.fixture(scope="session")
def built() -> None:
    """The extension and its tests, bundled."""
    need_node()
    npm("node", "build.mjs", "--tests")


def test_types_format_and_lint(built: None) -> None:
    npm("node_modules/.bin/tsc", "--noEmit")
    npm("node_modules/.bin/biome", "check", ".")


def test_units(built: None) -> None:
    output = npm("sh", "-c", "node --test out/unit/*.js")
    passed = re.search(r"^# pass (\d+)$", output, re.MULTILINE)
    assert passed is not None, output
    assert int(passed[1]) > 20, output


def test_the_core_does_not_know_the_editor() -> None:
    for path in (EXTENSION / "src" / "core").glob("*.ts"):
        imports = re.findall(r'from "(.+)"', path.read_text(encoding="utf-8"))
        assert all(name.startswith("./") or name == "node:path" for name in imports), path


@pytest.fixture(scope="session")
def results(
    built: None, tmp_path_factory: pytest.TempPathFactory, random_gguf: Path
) -> tuple[Mapping[str, str], str]:
    """What became of each test of the suite, by title (empty: passed), and the output."""
    folder = tmp_path_factory.mktemp("vscode")
    (folder / "work").mkdir()
    told = folder / "results.json"
    environment = {"SINGLEPASS_TEST_RESULTS": str(told), "SINGLEPASS_TEST_MODEL": str(random_gguf)}
    with editor(folder, own_python(), environment) as vscode:
        code, output = vscode.drive("suite.mjs", folder=str(folder / "work"))
    if not told.exists():
        pytest.fail(f"the suite told nothing, exit code {code}:\n{output[-4000:]}")
    found: dict[str, str] = json.loads(told.read_text())
    print(output)
    return found, output


def test_the_suite_was_read() -> None:
    assert len(TITLES) > 10
    assert len(set(TITLES)) == SUITE.count("  it(")


@pytest.mark.parametrize("title", TITLES)
def test_in_the_editor(results: tuple[Mapping[str, str], str], title: str) -> None:
    found, output = results
    hooks = "\n".join(text for name, text in found.items() if "hook" in name)
    assert title in found, f"not run. {hooks}\n{output[-2000:]}"
    assert found[title] == "", found[title]
