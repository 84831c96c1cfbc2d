"""What editor-clients/README.md lets people copy is well-formed, and starts the server that there is."""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from documented import README
from singlepass.cli import app
from singlepass.config import load_settings
from typer.testing import CliRunner

SECTIONS = {text.partition("\n")[0]: text for text in README.split("\n## ")[1:]}


def snippet(section: str, language: str) -> str:
    found = re.findall(rf"```{language}\n(.*?)```", SECTIONS[section], re.DOTALL)
    assert len(found) == 1, section
    return found[0]


def test_every_editor_of_the_table_has_a_section() -> None:
    (row,) = re.findall(r"^\| (.*) \| a few lines", README, re.MULTILINE)
    assert row.split(", ") == [title.partition(",")[0] for title in SECTIONS]


def command_of(section: str) -> list[str]:
    """The command that a section's configuration starts."""
    given: Any
    match section:
        case "Emacs, with eglot":
            words = re.search(r"\(python-mode \. \((.*?)\)", snippet(section, "elisp"))
            assert words is not None
            return re.findall(r'"(.*?)"', words[1])
        case "Helix":
            given = tomllib.loads(snippet(section, "toml"))
            (name,) = given["language-server"]
            (language,) = given["language"]
            assert name in language["language-servers"]
            return [given["language-server"][name]["command"], *given["language-server"][name]["args"]]
        case "Zed":
            given = json.loads(snippet(section, "json"))
            (name,) = given["lsp"]
            assert name in given["languages"]["Python"]["language_servers"]
            binary = given["lsp"][name]["binary"]
            return [Path(binary["path"]).name, *binary["arguments"]]
        case "Sublime Text":
            given = json.loads(snippet(section, "json"))["clients"]["singlepass"]
            assert given["enabled"]
            return given["command"]
        case _:
            given = json.loads(snippet(section, "json"))["servers"]["python"]
            assert re.fullmatch(given["highlightingModeRegex"], "Python")
            return given["command"]


@pytest.mark.parametrize("section", SECTIONS)
def test_it_starts_the_server(section: str) -> None:
    program, *arguments = command_of(section)
    assert program == "singlepass"
    done = CliRunner().invoke(app, [*arguments, "--help"])
    assert done.exit_code == 0, done.output
    assert "Speak LSP over stdio" in done.output


def test_the_settings_are_known() -> None:
    (indented,) = re.findall(r"singlepass\.toml`:\n\n((?: {4}.*\n)+)", README)
    settings, problems = load_settings([("README", tomllib.loads(indented.replace("    ", "")))])
    assert problems == []
    assert settings.names_target
