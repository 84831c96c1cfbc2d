"""Files that start programs, or tell other programs what to do: none is edited without a question of its own.

Whoever can change one of them can run code on the user's machine or in their CI, though it looks like a
change of text. So names are compared as loosely as the most careless of file systems and tools does:
without case, without characters that are not seen, with the trailing dots and spaces, short names and
streams of Windows.
"""

import unicodedata
from collections.abc import Sequence
from fnmatch import fnmatchcase

_GIT = "part of the repository's version control"
_EDITOR = "settings of an editor"
_SHELL = "run or read by a shell on entering the folder"
_AGENT = "settings or instructions of a coding agent"
_CI = "a definition of what CI or a commit hook runs"

# Names of a file or a folder, at any depth; what lies in such a folder is protected with it.
_ANYWHERE: tuple[tuple[str, tuple[str, ...]], ...] = (
    (_GIT, (".git", ".gitmodules", ".gitconfig", ".hg", ".svn", ".jj")),
    (
        _EDITOR,
        (
            *(".vscode", "*.code-workspace", ".idea", ".fleet", ".zed", ".helix", ".devcontainer"),
            *(".devcontainer.json", ".exrc", ".nvimrc", ".nvim.lua", ".lazy.lua", ".vimrc", ".lvimrc"),
            *(".dir-locals.el", ".dir-locals-2.el", "*.sublime-project", ".kateproject"),
        ),
    ),
    (_SHELL, (".envrc", ".mise.toml", "mise.toml", ".mise", ".autoenv", ".autoenv.zsh")),
    (
        _AGENT,
        (
            *(".mcp.json", "mcp.json", "mcp_settings.json", ".singlepass.toml", "agents.md", "agent.md"),
            *("claude.md", "claude.local.md", ".claude", "gemini.md", ".gemini", ".codex", ".cursor"),
            *(".cursorrules", ".windsurf", ".windsurfrules", ".cline", ".clinerules", ".roo", ".roomodes"),
            *(".aider*", ".continue", ".continuerules", ".junie", ".amazonq", ".kiro", ".trae", ".opencode"),
            *("opencode.json", "opencode.jsonc", ".goosehints", ".augment", ".qwen", ".crush.json"),
        ),
    ),
    (
        _CI,
        (
            *(".gitlab-ci.yml", "*.gitlab-ci.yml", ".gitlab", ".circleci", ".travis.yml", "jenkinsfile"),
            *("jenkinsfile.*", "*.jenkinsfile", "azure-pipelines*.yml", "azure-pipelines*.yaml"),
            *(".azure-pipelines", "bitbucket-pipelines.yml", ".drone.yml", ".woodpecker", ".woodpecker.*"),
            *(".buildkite", "appveyor.yml", ".appveyor.yml", ".forgejo", ".gitea", ".semaphore", ".builds"),
            *(".build.yml", ".cirrus.yml", ".cirrus.star", "cloudbuild.yaml", "cloudbuild.json", ".teamcity"),
            *("buildspec.yml", ".ci", ".husky", ".githooks", "lefthook.yml", ".lefthook.yml", ".lefthook"),
            *(".pre-commit-config.yaml", ".pre-commit-hooks.yaml"),
        ),
    ),
)
# Names in a folder of which not all is protected.
_INSIDE: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    (_CI, ".github", ("workflows", "actions", "dependabot.y*ml")),
    (
        _AGENT,
        ".github",
        ("copilot-instructions.md", "instructions", "prompts", "chatmodes", "agents", "skills", "hooks"),
    ),
)


def protection(path: str) -> str:
    """What a file is that must not be edited without a question of its own; empty for all others."""
    parts = [_plain(part) for part in path.replace("\\", "/").split("/")]
    for idx, part in enumerate(parts):
        for what, patterns in _ANYWHERE:
            if _matches(part, patterns):
                return what
        for what, folder, patterns in _INSIDE:
            if part == folder and idx + 1 < len(parts) and _matches(parts[idx + 1], patterns):
                return what
    return ""


def _matches(part: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(part, pattern) for pattern in patterns)


def _plain(part: str) -> str:
    """A name as the file systems that tell the fewest names apart see it."""
    # A stream of NTFS (`.git::$INDEX_ALLOCATION`) is the file in front of the colon.
    part = part.partition(":")[0] if not part.startswith(":") else part
    # Some file systems skip characters that are not seen, and take compatible characters for the same.
    part = "".join(char for char in part if unicodedata.category(char) != "Cf")
    part = unicodedata.normalize("NFKC", part).casefold()
    part = "".join(char for char in part if unicodedata.category(char) != "Cf").rstrip(". ")
    # Short names of Windows.
    return ".git" if part in ("git~1", "git~2") else part
