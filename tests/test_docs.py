"""The pages are true: links lead somewhere, lists are complete, what is quoted is said, modules exist."""

import ast
import re
import subprocess
import sys
import textwrap
import tomllib
from pathlib import Path

import pytest
import structure
from singlepass.core.diff_parser import DiffParser, HunkFinished

ROOT = Path(__file__).parents[1]
SOURCES = [path for source in structure.SOURCES for path in sorted((ROOT / source).rglob("*.py"))]
PAGES = [
    *sorted(ROOT.glob("*.md")),
    *sorted((ROOT / "docs").glob("*.md")),
    *(ROOT / folder / "README.md" for folder in ("benchmarks", "models", "editor-clients")),
    *sorted((ROOT / "editor-clients").glob("*/README.md")),
]
CODE = re.compile(r"^```.*?^```|^ {4}.*?$", re.DOTALL | re.MULTILINE)


def page(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def anchors(text: str) -> set[str]:
    """Of the headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", CODE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_links_lead_to_files_and_headings(path: Path) -> None:
    text = CODE.sub("", path.read_text(encoding="utf-8"))
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if not link.startswith("https://"):
            file, _, heading = link.partition("#")
            there = path.parent / file if file else path
            assert there.exists(), f"{name(path)} links to {link}"
            if heading:
                there_said = anchors(there.read_text(encoding="utf-8"))
                assert heading in there_said, f"{name(path)} links to {link}"


def test_every_page_of_docs_can_be_reached_from_the_readme() -> None:
    for path in (ROOT / "docs").glob("*.md"):
        named = page("README.md") + page("ARCHITECTURE.md")
        assert f"docs/{path.name}" in named, f"nothing links to docs/{path.name}"


def test_the_readme_is_short() -> None:
    assert len(page("README.md").encode()) <= 10_000


def test_ci_runs_the_test_command_of_the_readme() -> None:
    commands = re.findall(r"^    (python3 -m venv \.venv && .*)$", page("README.md"), re.MULTILINE)
    assert len(commands) == 2
    assert commands[0].endswith("singlepass demo")
    assert commands[1].endswith("pytest")
    assert commands[1] in page(".ci/run")


def test_ci_leaves_the_environment_of_a_developer_alone() -> None:
    """What it runs is the README's command with another folder."""
    script = page(".ci/run")
    (assigned,) = re.findall(r"^command=\"(.*)\"$", script, re.MULTILINE)
    (run,) = re.findall(r"^eval (.*)$", script, re.MULTILINE)
    done = subprocess.run(
        ["bash", "-c", f'command="{assigned}"; echo {run}'], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == assigned.replace(".venv", ".ci/.venv").split()
    deleted = re.findall(r"^\s*rm .*$", script, re.MULTILINE)
    assert deleted == ["rm -rf .ci/.venv"]


def test_the_settings_are_all_described() -> None:
    from singlepass.config import Settings
    from singlepass_backends.base import Target

    firsts = [line.split("|")[1] for line in page("docs/settings.md").splitlines() if line.startswith("| `")]
    described = set(re.findall(r"`(\w+)`", " ".join(firsts)))
    assert described == {*Settings.__struct_fields__, *Target.__struct_fields__}


def test_the_settings_shown_are_valid() -> None:
    from singlepass.config import load_settings

    for path in PAGES:
        text = path.read_text(encoding="utf-8")
        for block in re.findall(r"^((?: {4}\[.*\n)(?: {4}.*\n|\n(?= {4}))*)", text, re.MULTILINE):
            settings, wrong = load_settings([(name(path), tomllib.loads(textwrap.dedent(block)))])
            assert not wrong, f"{name(path)}: {block}"
            if "[[actions]]" in block:
                assert [action.title for action in settings.actions] == ["Write a test"]


def test_the_commands_and_notifications_are_all_described() -> None:
    texts = [path.read_text(encoding="utf-8") for path in SOURCES]
    commands = {one for text in texts for one in re.findall(r'^COMMAND_\w+ = "(.+)"$', text, re.MULTILINE)}
    notifications = {one for text in texts for one in re.findall(r'"(singlepass/\w+)"', text)}
    assert len(commands) > 5
    assert len(notifications) > 3
    for one in commands | notifications:
        assert f"`{one}`" in page("docs/protocol.md"), f"docs/protocol.md does not describe {one}"


def test_the_command_line_is_all_described() -> None:
    from singlepass.cli import app

    described = page("docs/command-line.md").partition("\n## ")[0]
    groups = {group.name for group in app.registered_groups}
    commands = {one.name or one.callback.__name__ for one in app.registered_commands if one.callback}
    for one in groups | commands:
        assert f"    singlepass {one}" in described, f"docs/command-line.md does not have {one}"
    for group in app.registered_groups:
        assert group.typer_instance
        for command in group.typer_instance.registered_commands:
            assert re.search(rf"singlepass {group.name} .*\b{command.name}\b", described), command.name


def test_the_models_are_those_of_the_catalogue() -> None:
    from singlepass_backends.models.catalogue import catalogue
    from singlepass_backends.models.offer import offer

    described = page("docs/models.md")
    assert f"as of {catalogue().checked}" in " ".join(described.split())
    table = described.partition("<!-- catalogue -->\n")[2].partition("\n<!-- end -->")[0]
    rows = ["| | weights | GGUF, about | with 16,384 tokens | licence |", "|---|---|---|---|---|"]
    for entry in catalogue().models:
        one = offer(entry, None, 16_384, "gguf")
        active = f"-A{entry.active:.2g}B" if entry.active else ""
        licence = entry.licence + ("" if entry.commercial else ", not for commercial use")
        sizes = [f"{n_bytes / 2**30:.1f} GiB" for n_bytes in (one.size_bytes, one.memory_bytes)]
        rows.append(f"| `{entry.name}` | {entry.parameters:.3g}B{active} | {' | '.join(sizes)} | {licence} |")
    assert table.splitlines() == rows


def test_the_symptoms_quote_what_is_said() -> None:
    """Messages in the table of symptoms, an ellipsis standing for what differs."""
    text = page("docs/troubleshooting.md")
    quoted = re.findall(r"“([^”]+)”", text)
    assert len(quoted) > 10
    texts = [
        node.value
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    texts.append(page("docs/servers.md"))  # whose table a symptom refers to
    for part in (part.strip() for one in quoted for part in one.split("…")):
        assert any(part in text for text in texts), f"nothing says “{part}”"


def test_the_code_map_is_what_the_modules_say() -> None:
    text = page("ARCHITECTURE.md")
    said = structure.with_map(text, structure.read("."))
    assert said == text, "ARCHITECTURE.md is stale: run python benchmarks/structure.py --map"


@pytest.mark.parametrize("path", [path for path in PAGES if path.name != "CHANGELOG.md"], ids=name)
def test_the_modules_that_pages_name_exist(path: Path) -> None:
    """By their path or the end of it, as in `core/planner.py`; without a folder in ARCHITECTURE.md only."""
    folders = (*structure.SOURCES, "tests", "benchmarks", "models", "editor-clients")
    known = [f"/{name(one)}" for folder in folders for one in (ROOT / folder).rglob("*.py")]
    for named in re.findall(r"`([\w/]+\.py)\b", path.read_text(encoding="utf-8")):
        if ("/" in named or path.name == "ARCHITECTURE.md") and "/NAME" not in named:
            assert any(one.endswith(f"/{named}") for one in known), f"{name(path)} names {named}"


def test_no_word_is_used_that_was_dropped() -> None:
    """Neither as it stands in the vocabulary nor as a part of a name."""
    vocabulary = page("ARCHITECTURE.md").partition("| dropped |")[2].partition("\n\n")[0]
    rows = re.findall(r"^\| (`.+`) \|", vocabulary, re.MULTILINE)
    words = re.findall(r"`(.+?)`", " ".join(row.partition(" | ")[0] for row in rows))
    assert words
    pattern = re.compile("|".join(re.escape(word).replace(r"\ ", "[ _-]?") for word in words), re.IGNORECASE)
    pages = [one for one in PAGES if one.name not in ("CHANGELOG.md", "ARCHITECTURE.md")]
    for path in [*SOURCES, *pages]:
        used = pattern.search(f"{name(path)}\n{path.read_text(encoding='utf-8')}")
        assert used is None, f"{name(path)} says {used[0] if used else ''}"


def test_the_tables_are_those_of_the_stored_results() -> None:
    command = [sys.executable, "-c", "import tables; tables.check()"]
    done = subprocess.run(command, cwd=ROOT / "benchmarks", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_edit_format_is_shown_whole() -> None:
    """As the grammar takes it: its markers look like those of a merge, and tools may take them away."""
    (shown,) = re.findall(r"^    path/of/file\.py\n(?:    .*\n)+", page("ARCHITECTURE.md"), re.MULTILINE)
    reply = "".join(line[4:] + "\n" for line in shown.splitlines())
    (hunk,) = (one.hunk for one in DiffParser().feed(reply) if isinstance(one, HunkFinished))
    assert (hunk.old, hunk.new) == (("old lines, copied exactly",), ("new lines",))
