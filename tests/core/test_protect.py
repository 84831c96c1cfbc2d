"""Which files need a question of their own, by whatever name they are called."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from singlepass.core.protect import protection

PROTECTED = [
    *(".git/config", ".git/hooks/pre-commit", "sub/.git/HEAD", ".git", ".gitmodules", ".hg/hgrc"),
    *(".vscode/settings.json", ".vscode/tasks.json", "a/b/.vscode/launch.json", "team.code-workspace"),
    *(".idea/workspace.xml", ".devcontainer/devcontainer.json", ".zed/tasks.json", ".exrc", ".dir-locals.el"),
    *(".envrc", "deep/down/.envrc", ".mise.toml"),
    *(".mcp.json", ".cursor/mcp.json", ".cursorrules", "AGENTS.md", "docs/CLAUDE.md", ".aider.conf.yml"),
    *(".singlepass.toml", ".github/copilot-instructions.md", ".github/prompts/x.prompt.md"),
    *(".github/workflows/ci.yml", ".github/actions/setup/action.yml", ".gitlab-ci.yml", "jobs.gitlab-ci.yml"),
    *("Jenkinsfile", "azure-pipelines.yml", ".circleci/config.yml", ".husky/pre-push", ".ci/run"),
    *(".pre-commit-config.yaml", ".woodpecker.yml", "bitbucket-pipelines.yml"),
]
PLAIN = [
    *("src/main.py", "README.md", ".github/ISSUE_TEMPLATE/bug.md", ".github/CODEOWNERS", ".gitignore"),
    *("git/config", "vscode/settings.json", "agents.py", "docs/agents.rst", "workflows/ci.yml", "envrc"),
    *("a.git/config", "ci.yml", "x.vscode", "src/github/workflows/a.yml", "", "/", "a//b", "Makefile"),
]


@pytest.mark.parametrize("path", PROTECTED)
def test_what_is_protected(path: str) -> None:
    assert protection(path)


@pytest.mark.parametrize("path", PLAIN)
def test_what_is_not(path: str) -> None:
    assert protection(path) == ""


@pytest.mark.parametrize(
    "name",
    [
        *(".GIT", ".Git", ".g\u200cit", ".gi\ufefft", "\u200d.git", ".git.", ".git ", ".git . .", "git~1"),
        *("GIT~1", ".git::$INDEX_ALLOCATION", ".git:stream", "\uff0egit", "．ｇｉｔ", ".g\u00adit"),
    ],
)
def test_names_that_a_file_system_may_take_for_another(name: str) -> None:
    for path in (f"{name}/config", f"a/{name}/config", f"a\\{name}\\config"):
        assert protection(path) == protection(".git/config")


@given(st.sampled_from(PROTECTED), st.data())
def test_case_and_unseen_characters_hide_nothing(path: str, data: st.DataObject) -> None:
    mutated = "".join(
        data.draw(st.sampled_from([char, char.upper(), char.lower(), f"{char}\u200b", f"\u202e{char}"]))
        for char in path
    )
    assert protection(mutated)


@given(st.text())
def test_any_path_has_an_answer(path: str) -> None:
    assert isinstance(protection(path), str)
