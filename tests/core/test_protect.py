"""Which files need a question of their own, by whatever name they are called."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from singlepass.files.protect import protection

PROTECTED = [
    *(".git/config", ".git/hooks/pre-commit", "sub/.git/HEAD", ".git", ".gitmodules", ".hg/hgrc"),
    *(".vscode/settings.json", ".vscode/tasks.json", "a/b/.vscode/launch.json", "team.code-workspace"),
    *(".idea/workspace.xml", ".devcontainer/devcontainer.json", ".zed/tasks.json", ".exrc", ".dir-locals.el"),
    *(".envrc", "deep/down/.envrc", ".mise.toml"),
    *(".mcp.json", ".cursor/mcp.json", ".cursorrules", "AGENTS.md", "docs/CLAUDE.md", ".aider.conf.yml"),
    *(".singlepass.toml", ".github/copilot-instructions.md", ".github/prompts/x.prompt.md"),
    *(".github/workflows/ci.yml", ".github/actions/setup/action.yml", ".gitlab-ci.yml", "jobs.gitlab-ci.yml"),
    *("Jenkinsfile", "azure-pipelines.yml", ".circleci/config.yml", ".husky/pre-push", ".ci/run"),
    *(".pre-commit-config.yaml", ".woodpecker.yml", "bitbucket-pipelines.yml", ".lintstagedrc.json"),
    # What linters, language servers and build tools run when a file is opened or saved.
    *(".eslintrc.js", ".eslintrc.cjs", "web/eslint.config.mjs", "prettier.config.ts", ".prettierrc.js"),
    *("stylelint.config.js", "tailwind.config.ts", ".pylintrc", "pylintrc", "mypy.ini", ".flake8"),
    *(".cargo/config.toml", "build.rs", "crates/a/build.rs", "rust-toolchain.toml", ".rubocop.yml"),
    *(".luarc.json", ".luacheckrc", ".ycm_extra_conf.py", ".clangd", ".npmrc", ".yarnrc.yml"),
    *("analysis_options.yaml", "hie.yaml", ".merlin", ".formatter.exs", ".mvn/extensions.xml"),
    *(".bsp/x.json", "phpstan.neon.dist", "Directory.Build.targets"),
    # What runs when a shell, a debugger, an interpreter or an editor starts, or on entering the folder.
    *(
        ".gdbinit",
        "src/.lldbinit",
        "libx-gdb.py",
        ".bashrc",
        "home/.zshrc",
        ".profile",
        ".config/fish/config.fish",
    ),
    *("fish/conf.d/a.fish", "Microsoft.PowerShell_profile.ps1", ".ssh/config", ".ssh/authorized_keys"),
    *(
        "sitecustomize.py",
        "venv/evil.pth",
        ".Rprofile",
        ".ghci",
        ".irbrc",
        ".iex.exs",
        ".pdbrc",
        ".tmux.conf",
    ),
    *("team.sublime-workspace", "team.sublime-project", ".vimrc", ".nvim.lua", ".lvimrc", ".local.vimrc"),
    *(".vscode-server/data/Machine/settings.json", ".vim/coc-settings.json", ".gitpod.yml", ".idx/dev.nix"),
    *("flake.nix", "shell.nix", "default.nix", "devenv.nix", "devbox.json", ".envrc.local", ".gitattributes"),
]
PLAIN = [
    *("src/main.py", "README.md", ".github/ISSUE_TEMPLATE/bug.md", ".github/CODEOWNERS", ".gitignore"),
    *("git/config", "vscode/settings.json", "agents.py", "docs/agents.rst", "workflows/ci.yml", "envrc"),
    *("a.git/config", "ci.yml", "x.vscode", "src/github/workflows/a.yml", "", "/", "a//b"),
    # Run when the user builds or tests, and edited all day.
    *("Makefile", "package.json", "setup.py", "pyproject.toml", "Cargo.toml", "conftest.py", "build.gradle"),
    *("CMakeLists.txt", "tsconfig.json", "vite.config.ts", "Dockerfile", "go.mod", "src/build/rs.py"),
    # Data, and names that only look alike.
    *(
        ".editorconfig",
        ".vscodeignore",
        "profile.py",
        "login.py",
        "eslint.py",
        "gdbinit.py",
        "src/cargo/config.toml",
    ),
    *("bashrc.md", "ssh/config.py", "default.py", "flake.py", "tools/bazel.py"),
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
    assert protection(disguises(path, data))


def disguises(path: str, data: st.DataObject) -> str:
    """The path in other case, and with characters that nobody sees."""
    return "".join(
        data.draw(st.sampled_from([char, char.upper(), char.lower(), f"{char}\u200b", f"\u202e{char}"]))
        for char in path
    )


@given(st.text())
def test_any_path_has_an_answer(path: str) -> None:
    assert isinstance(protection(path), str)
