"""Protected files: they can make programs run code, so each edit of one needs the user's consent.

A change to one of them can run code on the user's machine or in CI, although it looks like a change of text.
A file is on the list if an editor with its usual language servers and linters, a shell, a debugger, a version
control system or a CI takes code or commands from it *without being asked*: because a folder is opened or
entered, or a file saved or committed. Files that run code only when the user starts a build or a test are not
on the list, because the user decides that, and they are edited all the time (`Makefile`, `package.json`,
`setup.py`, `conftest.py`). A file to which both applies is on the list (`build.rs`, which rust-analyzer
runs).

Names are compared like in the most lenient file systems and tools: without case, without invisible
characters, and allowing for the trailing dots and spaces, short names and streams of Windows.
"""

import unicodedata
from collections.abc import Sequence
from fnmatch import fnmatchcase

_GIT = "part of the repository's version control"
_EDITOR = "settings of an editor"
_SHELL = "run or read by a shell on entering the folder"
_START = "run or read when a shell, a debugger or another program starts"
_TOOL = "run or obeyed, unasked, by editors and the tools that they start"
_AGENT = "settings or instructions of a coding agent"
_CI = "a definition of what CI or a commit hook runs"

# Names of files or folders, at any depth; everything in such a folder is protected.
_NAMES = (
    (
        _GIT,
        """
        .git .gitmodules .gitconfig .gitattributes .lfsconfig .hg .hgrc .svn .jj
        """,
    ),
    (
        _EDITOR,
        """
        .vscode .vscode-server .vscode-server-insiders .vscode-insiders .vscode-oss .vscode-remote
        .cursor-server *.code-workspace *.code-profile .theia .idea *.ipr *.iws .run .fleet .zed .helix
        .nova .atom .tm_properties .vs tasks.vs.json launch.vs.json .devcontainer .devcontainer.json
        .gitpod* .idx .replit .codesandbox .stackblitzrc devfile.yaml .devfile.yaml .exrc _exrc .vim .nvim
        .vimrc _vimrc .gvimrc _gvimrc .nvimrc .nvim.lua .lazy.lua .lvimrc .local.vimrc .vimspector.json
        coc-settings.json .neoconf.json .nlsp-settings .emacs .emacs.d .spacemacs .doom.d .dir-locals.el
        .dir-locals-2.el *.sublime-* .kateproject* .kakrc .project .classpath .factorypath .settings
        .externaltoolbuilders
        """,
    ),
    (
        _SHELL,
        """
        .envrc* .direnv .direnvrc direnvrc .mise* mise.toml mise.*.toml .rtx.toml .autoenv* .tool-versions
        flake.nix shell.nix default.nix dev.nix devenv.nix devenv.yaml .devenv devbox.json .flox .bundle
        """,
    ),
    (
        _START,
        """
        .profile .bashrc .bash_profile .bash_login .bash_logout .bash_aliases .bash_functions .zshrc
        .zshenv .zprofile .zlogin .zlogout .kshrc .mkshrc .cshrc .tcshrc .login .logout .inputrc .xonshrc
        config.fish config.nu env.nu login.nu rc.elv profile.ps1 *_profile.ps1 .xinitrc .xprofile
        .xsession .xsessionrc .pam_environment .tmux.conf .screenrc .ssh .gnupg authorized_keys .curlrc
        .wgetrc .sqliterc .psqlrc .mongorc.js .mongoshrc.js .gdbinit* .gdbearlyinit* *-gdb.py *-gdb.gdb
        *-gdb.scm .lldbinit* .pdbrc* .pythonrc* .pythonstartup* sitecustomize.py usercustomize.py *.pth
        pyvenv.cfg .irbrc .pryrc .iex.exs .erlang .ghci .ocamlinit .rprofile .renviron .octaverc .user.ini
        .jvmopts .sbtopts .sbtrc .nrepl.edn
        """,
    ),
    (
        _TOOL,
        """
        .eslintrc* eslint.config.* .prettierrc* prettier.config.* .stylelintrc* stylelint.config.*
        .oxlintrc.json .xo-config.* xo.config.* tslint.js .markdownlint.*js .markdownlint-cli2.*
        .remarkrc* .textlintrc* .graphqlrc* graphql.config.* tailwind.config.* svelte.config.*
        astro.config.* .npmrc .pnpmfile.* pnpmfile.* .yarnrc .yarnrc.yml .yarn .pnp.* bunfig.toml
        pylintrc .pylintrc pylintrc.toml .pylintrc.toml mypy.ini .mypy.ini .flake8 .ycm_extra_conf.py
        build.rs .cargo rust-toolchain rust-toolchain.toml rust-analyzer.toml .rust-analyzer.toml
        rust-project.json .golangci.* .custom-gcl.*
        .clangd .ccls .clang-tidy compile_flags.txt compile_commands.json .bazelrc .bazelversion
        .bazeliskrc .buckconfig
        .luarc.json .luarc.jsonc .luarc.lua .luacheckrc .rubocop.yml .rubocop_*.yml .solargraph.yml
        .standard.yml .php-cs-fixer*.php .php_cs* phpstan*.neon* .phpactor.* phpcs.xml* .phpcs.xml*
        psalm.xml* .perlcriticrc
        .mvn gradle-wrapper.properties gradle-wrapper.jar init.gradle init.gradle.kts .bsp
        directory.build.props directory.build.targets directory.build.rsp *.csproj.user
        hie.yaml .merlin .formatter.exs .credo.exs analysis_options.yaml .lsp .clj-kondo .terraformrc
        terraform.rc .tflint.hcl ansible.cfg .ansible-lint
        """,
    ),
    (
        _AGENT,
        """
        .mcp.json mcp.json mcp_settings.json .singlepass.toml agents.md agent.md claude.md claude.local.md
        .claude gemini.md .gemini .codex .cursor .cursorrules .windsurf .windsurfrules .cline .clinerules
        .roo .roomodes .aider* .continue .continuerules .junie .amazonq .kiro .trae .opencode
        opencode.json opencode.jsonc .goosehints .augment .qwen .crush.json
        """,
    ),
    (
        _CI,
        """
        .gitlab-ci.yml *.gitlab-ci.yml .gitlab .circleci .travis.yml jenkinsfile jenkinsfile.*
        *.jenkinsfile azure-pipelines*.yml azure-pipelines*.yaml .azure-pipelines bitbucket-pipelines.yml
        .drone.yml .woodpecker .woodpecker.* .buildkite appveyor.yml .appveyor.yml .forgejo .gitea
        .semaphore .builds .build.yml .cirrus.yml .cirrus.star cloudbuild.yaml cloudbuild.json .teamcity
        buildspec.yml .ci .husky .huskyrc* .githooks lefthook.* .lefthook* lefthook-local.*
        .pre-commit-config.yaml .pre-commit-hooks.yaml .overcommit.yml .lintstagedrc* lint-staged.config.*
        .commitlintrc* commitlint.config.* .simple-git-hooks.* simple-git-hooks.*
        """,
    ),
)
_ANYWHERE = tuple((what, tuple(names.split())) for what, names in _NAMES)
# Names in folders of which only some entries are protected.
_INSIDE: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    (_START, "fish", ("conf.d", "functions")),
    (_TOOL, "tools", ("bazel",)),
    (_CI, ".github", ("workflows", "actions", "dependabot.y*ml")),
    (
        _AGENT,
        ".github",
        ("copilot-instructions.md", "instructions", "prompts", "chatmodes", "agents", "skills", "hooks"),
    ),
)

_SHORT_NAMES = ("git~1", "git~2")
"""Short names of `.git` in Windows."""


def protection(path: str) -> str:
    """What kind of protected file it is, in words; empty for all others."""
    parts = [plain_name(part) for part in path.replace("\\", "/").split("/")]
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


def plain_name(part: str) -> str:
    """A name, normalized like in the file systems that distinguish the fewest names."""
    # A stream of NTFS (`.git::$INDEX_ALLOCATION`) belongs to the file before the colon.
    part = part.partition(":")[0] if not part.startswith(":") else part
    if part.isascii():
        part = part.lower().rstrip(". ")
        return ".git" if part in _SHORT_NAMES else part
    # Some file systems skip invisible characters and treat compatibility characters as equal.
    part = "".join(char for char in part if unicodedata.category(char) != "Cf")
    part = unicodedata.normalize("NFKC", part).casefold()
    part = "".join(char for char in part if unicodedata.category(char) != "Cf").rstrip(". ")
    return ".git" if part in _SHORT_NAMES else part
