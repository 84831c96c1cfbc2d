"""The extension in a real VS Code: mocha inside its extension host, and the packaged .vsix in a browser.

See `vscode.py` for what runs and what is needed.
"""

import json
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Mapping
from pathlib import Path

import msgspec
import pytest
import singlepass
from singlepass.config import REPOSITORY_KEYS, Settings
from singlepass.lsp import commands
from vscode import EXTENSION, LEGS, ROOT, editor, need_node, npm, own_python

OWN_SETTINGS = {"singlepass.server.path", "singlepass.inlineReview"}
SMOKE = (EXTENSION / "test" / "browser" / "smoke.mjs").read_text(encoding="utf-8")
SUITE = (EXTENSION / "test" / "editor" / "suite.ts").read_text(encoding="utf-8")
TITLES = re.findall(r'^  it\("(.+)", ', SUITE, re.MULTILINE)
Results = tuple[Mapping[str, str], str]
"""What became of each test of the suite, by title (empty: passed), and the output."""

ON_THE_OLDEST = (
    "tells every state",
    "does an action of the menu",
    "edits several files at once",
    "takes a whole job back with one undo",
    "lets one hunk be kept",
    "shows what is in review in the diff editor",
    "cancels while text is written",
)
"""What the oldest supported VS Code is tested for: a part of each API that the extension uses."""
OLD_TITLES = [title for title in TITLES if title.startswith(ON_THE_OLDEST)]


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
def results(built: None, tmp_path_factory: pytest.TempPathFactory) -> Results:
    """Of the whole suite, in the newest VS Code."""
    return run_suite(tmp_path_factory.mktemp("vscode"), "newest", {})


@pytest.fixture(scope="session")
def old_results(built: None, tmp_path_factory: pytest.TempPathFactory) -> Results:
    """Of a part of the suite, in the oldest VS Code."""
    environment = {"SINGLEPASS_TEST_GREP": "|".join(ON_THE_OLDEST)}
    return run_suite(tmp_path_factory.mktemp("vscode-oldest"), "oldest", environment)


def run_suite(folder: Path, leg: str, environment: Mapping[str, str]) -> Results:
    (folder / "work").mkdir()
    told = folder / "results.json"
    own = {**environment, "SINGLEPASS_TEST_RESULTS": str(told)}
    with editor(folder, own_python(), own, leg=leg) as vscode:
        code, output = vscode.drive("suite.mjs", folder=str(folder / "work"))
    if not told.exists():
        pytest.fail(f"the suite told nothing, exit code {code}:\n{output[-4000:]}")
    found: dict[str, str] = json.loads(told.read_text())
    print(output)
    return found, output


def test_the_suite_was_read() -> None:
    assert len(TITLES) > 10
    assert len(set(TITLES)) == SUITE.count("  it(")
    assert len(OLD_TITLES) == len(ON_THE_OLDEST)


@pytest.mark.parametrize("title", TITLES)
def test_in_the_editor(results: Results, title: str) -> None:
    check_passed(results, title)


@pytest.mark.parametrize("title", OLD_TITLES)
def test_in_the_oldest_editor(old_results: Results, title: str) -> None:
    check_passed(old_results, title)


def check_passed(results: Results, title: str) -> None:
    found, output = results
    hooks = "\n".join(text for name, text in found.items() if "hook" in name)
    assert title in found, f"not run. {hooks}\n{output[-2000:]}"
    assert found[title] == "", found[title]


@pytest.fixture(scope="session")
def vsix(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package as a user gets it, with the server inside."""
    need_node()
    npm("node", "build.mjs", "--package", PYTHON=sys.executable)
    return EXTENSION / "dist" / "singlepass.vsix"


def test_the_package_has_the_server_and_no_sources(vsix: Path) -> None:
    with zipfile.ZipFile(vsix) as package:
        names = package.namelist()
        readme = package.read("extension/readme.md").decode()
    assert "picture" not in readme
    assert any(re.fullmatch(r"extension/dist/singlepass-.*\.whl", name) for name in names)
    assert "extension/dist/extension.js" in names
    assert not [name for name in names if name.endswith((".ts", ".map")) or "node_modules" in name]


def test_the_package_in_a_browser(vsix: Path, tmp_path: Path) -> None:
    """A workspace that is not trusted, and a server that is found on the machine."""
    work, shots = tmp_path / "tally", EXTENSION / "out" / "shots"
    shutil.rmtree(shots, ignore_errors=True)
    shots.mkdir(parents=True)
    shutil.copytree(ROOT / "tests" / "data" / "tally", work)
    (work / ".vscode").mkdir()
    ran = tmp_path / "ran"
    program = write_program(work / "evil" / "python3", f"#!/bin/sh\ntouch {ran}\n")
    theirs = {"singlepass.server.path": str(program), "singlepass.target": {"model": "/theirs.gguf"}}
    theirs["singlepass.actions"] = [{"title": "Theirs", "instruction": "Do."}]
    (work / ".vscode" / "settings.json").write_text(json.dumps(theirs))

    home = tmp_path / "editor" / "home"
    code = f'#!/bin/sh\nexec "{sys.executable}" -m singlepass "$@"\n'
    target = {"backend": "scripted", "model": str(write_recording(tmp_path / "recording.json"))}
    extensions = tmp_path / "extensions"
    with editor(
        tmp_path / "editor",
        {"singlepass.target": target},
        trusts_all=False,
        extensions=extensions,
        vsix=vsix,
    ) as vscode:
        write_program(home / ".local" / "bin" / "singlepass", code)
        status, output = vscode.drive("smoke.mjs", folder=str(work), shots=str(shots))
    assert status == 0, output
    assert output.count("ok   ") == SMOKE.count("await step(")
    assert not ran.exists()


def test_the_first_use(vsix: Path, tmp_path: Path) -> None:
    """From the package to the first edit, in a home folder where nothing is.

    Python and pip are real, and so is what they install. What the server needs of others is there already,
    since tests download nothing.
    """
    shots = EXTENSION / "out" / "first"
    shutil.rmtree(shots, ignore_errors=True)
    shots.mkdir(parents=True)
    work = tmp_path / "tally"
    shutil.copytree(ROOT / "server" / "singlepass" / "samples" / "tally", work)
    programs, others = tmp_path / "programs", tmp_path / "others"
    for folder in (programs, others):
        folder.mkdir()
    (programs / "python3").symlink_to(Path(sys.executable).resolve())
    for name in ("sh", "c++"):
        found = shutil.which(name)
        assert found is not None
        (programs / name).symlink_to(found)
    ours = re.compile(
        r"_?singlepass|__editable__|pip\b|hatchling|setuptools|_distutils|distutils", re.IGNORECASE
    )
    for path in Path(sysconfig.get_path("purelib")).iterdir():
        if not ours.match(path.name):
            (others / path.name).symlink_to(path)
    environment = {"PATH": str(programs), "PYTHONPATH": str(others), "PIP_NO_DEPS": "1", "PIP_NO_INDEX": "1"}
    script = (EXTENSION / "test" / "browser" / "first.mjs").read_text(encoding="utf-8")
    with editor(
        tmp_path / "editor",
        {},
        environment,
        trusts_all=False,
        extensions=tmp_path / "extensions",
        vsix=vsix,
    ) as vscode:
        # A login shell, which VS Code asks for it, may set PATH anew.
        (vscode.home / ".profile").write_text(f"PATH='{programs}'\n")
        status, output = vscode.drive("first.mjs", folder=str(work), shots=str(shots))
        assert status == 0, output
        assert output.count("ok   ") == script.count("await step(")
        (python,) = (tmp_path / "editor/data").rglob("singlepass.singlepass/server/bin/python3")
        code = "import singlepass; print(singlepass.__file__)"
        done = subprocess.run(
            [python, "-I", "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path
        )
        assert Path(done.stdout).is_relative_to(python.parents[1])


def test_the_first_use_takes_three_steps() -> None:
    """As many as the README counts; the test above takes them."""
    readme = (EXTENSION / "README.md").read_text(encoding="utf-8")
    section = readme.split("## From nothing to the first edit")[1].split("\n## ")[0]
    assert len(re.findall(r"^\d\. ", section, re.MULTILINE)) <= 3


def write_program(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def write_recording(path: Path) -> Path:
    """What the model of the browser's test answers, by what it is asked."""

    def block(old: str, new: str) -> str:
        return f"tally/words.py\n<<<<<<< SEARCH\n{old}\n=======\n{new}\n>>>>>>> REPLACE\n"

    types = [
        ("def split_words(text):", "def split_words(text: str) -> list[str]:"),
        (
            "def count_words(texts, skip_stop_words=True):\n    counts = Counter()",
            "def count_words(texts: Iterable[str], skip_stop_words: bool = True) -> Counter[str]:\n"
            '    """How often each word occurs in the texts."""\n'
            "    counts: Counter[str] = Counter()",
        ),
        (
            "            if skip_stop_words == True:\n                if word not in STOP_WORDS:\n"
            "                    counts[word] += 1\n            else:\n                counts[word] += 1",
            "            if not (skip_stop_words and word in STOP_WORDS):\n                counts[word] += 1",
        ),
    ]
    text = "".join(block(old, new) for old, new in types)
    chunks = [text[i : i + 4] for i in range(0, len(text), 4)]
    prompt = {"n_prompt": 4000, "n_cached": 3600, "chunk_tokens": 40, "chunk_ms": 150}
    replies = [
        {"when": "Add types", "text": chunks, "delay_ms": 16, **prompt},
        {"when": "Explain", "text": ["\n"] * 5000, "delay_ms": 20, "n_prompt": 100},
        {"n_prompt": 4000, "chunk_tokens": 400, "chunk_ms": 20},
    ]
    path.write_text(json.dumps({"name": "scripted", "replies": replies}))
    return path


def test_every_setting_of_the_server_can_be_set() -> None:
    """With the same default, and by the user alone, but for what a repository may add to."""
    manifest = json.loads((EXTENSION / "package.json").read_text(encoding="utf-8"))
    declared = manifest["contributes"]["configuration"]["properties"]
    names = set(Settings.__struct_fields__) - {"code_lenses"}  # the extension has lenses of its own
    assert {f"singlepass.{name}" for name in names} | OWN_SETTINGS == set(declared)
    defaults = json.loads(msgspec.json.encode(Settings()))
    for name in names - {"target"}:
        assert declared[f"singlepass.{name}"]["default"] == defaults[name], name
    free = {name for name, setting in declared.items() if setting["scope"] != "machine"}
    assert free == {f"singlepass.{name}" for name in REPOSITORY_KEYS} | {"singlepass.inlineReview"}
    restricted = manifest["capabilities"]["untrustedWorkspaces"]["restrictedConfigurations"]
    assert set(restricted) == {f"singlepass.{name}" for name in REPOSITORY_KEYS}


def test_every_command_of_the_server_can_be_run() -> None:
    """The extension registers them itself, so that they are there whatever becomes of the server."""
    source = (EXTENSION / "src" / "server.ts").read_text(encoding="utf-8")
    declared = re.search(r"SERVER_COMMANDS = \[(.*?)\]", source, re.DOTALL)
    assert declared is not None
    ours = {value for name, value in vars(commands).items() if name.startswith("COMMAND_")}
    assert set(re.findall(r'"(.+?)"', declared[1])) == ours


def test_versions_agree() -> None:
    manifest = json.loads((EXTENSION / "package.json").read_text(encoding="utf-8"))
    assert manifest["version"] == singlepass.__version__
    assert manifest["engines"]["vscode"] == f"^1.{LEGS['oldest'].version.removeprefix('4.')}"
    install = (EXTENSION / "test" / "install.sh").read_text(encoding="utf-8")
    assert [*re.findall(r"^install_editor (\S+)", install, re.MULTILINE)] == [
        leg.version for leg in LEGS.values()
    ]


def test_the_lock_file_names_no_host() -> None:
    assert '"resolved"' not in (EXTENSION / "package-lock.json").read_text(encoding="utf-8")
