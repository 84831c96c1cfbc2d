"""Which files are source: as git would choose, and then some."""

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from singlepass.files.ignoring import Rules, bytewise, hides, parse_pattern
from singlepass.files.source_files import MAX_DEPTH, MAX_IGNORE_BYTES, is_generated, list_files, walk


@pytest.fixture(autouse=True)
def no_settings_of_git(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / ".config"))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", os.devnull)


def make(root: Path, files: dict[str, str] | list[str]) -> None:
    for path, text in (files if isinstance(files, dict) else dict.fromkeys(files, "")).items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)


def git_files(root: Path) -> list[str]:
    command = ["git", "ls-files", "-z", "-co", "--exclude-standard"]
    done = subprocess.run(command, cwd=root, capture_output=True, check=True)
    return sorted(path for path in done.stdout.decode().split("\0") if path)


def init(root: Path) -> None:
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)


PATTERNS = [
    "*", "!*/", "!*.py", "*.py", "a", "/a", "a/", "!a", "!a/", "a/b", "/a/b", "a/*", "!a/b", "**/b", "a/**",
    "a/**/b", "**", "/**/", "*/b", "b*", "?", "[ab]", "[!a]", "[a-c].py", "[^b]", "[]a]", "[a-", "\\a",
    "\\!a", "\\#a", "#a", "a ", "a\\ ", "  a", "!", "/", "//", "a//b", "***", "a**b", "b/**/", "[[:alpha:]]",
    "[b-a]", "!/a/b/", "*b*", "a\\", "[\\]]", "!b.py", "/*", "!/b", "a\t", "a\r", "[a/b]", "**/a/**", "é",
    "?.py",
]  # fmt: skip
NAMES = ["a", "b", "c", "a.py", "b.py", "ab", "!a", "#a", "é", "a ", "]"]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32))
def test_the_same_files_as_git(seed: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    draw = random.Random(seed)
    root = tmp_path_factory.mktemp("repository")
    init(root)
    folders = [""]
    for _ in range(8):
        folder = draw.choice(folders) + draw.choice(NAMES) + "/"
        if folder.count("/") <= 3 and not (root / folder.rstrip("/")).is_file():
            folders.append(folder)
            (root / folder).mkdir(exist_ok=True)
            for name in draw.sample(NAMES, 3):
                if not (root / folder / name).is_dir():
                    (root / folder / name).write_text("")
    for folder in dict.fromkeys(["", *draw.sample(folders, 2)] if len(folders) > 1 else [""]):
        if (root / folder).is_dir():
            lines = draw.sample(PATTERNS, draw.randint(1, 5))
            (root / folder / ".gitignore").write_text("\n".join(lines) + draw.choice(["", "\n"]))
    (root / ".git/info/exclude").write_text("\n".join(draw.sample(PATTERNS, draw.randint(0, 2))))
    rules = {str(path.relative_to(root)): path.read_text() for path in root.rglob(".gitignore")}
    assert sorted(walk(root)) == git_files(root), rules


PIECES = [
    "a",
    "b",
    "c",
    "*",
    "**",
    "***",
    "?",
    "/",
    "[ab]",
    "[!a]",
    "[^/]",
    "\\a",
    "\\*",
    "[a-c]",
    "/**/",
    "**/",
    "/**",
]
PIECES += ["[[:alpha:]]", "é", "-", "[b-a]", "[]a]", "*a*", "!", "#", " "]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32))
def test_a_pattern_of_any_pieces_matches_as_git_does(
    seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    draw = random.Random(seed)
    root = tmp_path_factory.mktemp("repository")
    init(root)
    lines = ["".join(draw.choices(PIECES, k=draw.randint(1, 6))) for _ in range(draw.randint(1, 2))]
    (root / ".gitignore").write_text("\n".join(lines) + "\n")
    names = ["a", "b", "c", "ab", "ba", "abc", "é", "-", "*", "aa"]
    paths = ["/".join(draw.choices(names, k=draw.randint(1, 5))) for _ in range(40)]
    command = ["git", "check-ignore", "-z", "--no-index", "--stdin"]
    asked = "\0".join(paths).encode()
    done = subprocess.run(command, cwd=root, input=asked, capture_output=True, check=False)
    ignored = set(done.stdout.decode().split("\0"))
    rules = (Rules(map(bytewise, lines)),)
    assert {path for path in paths if hides(rules, path)} == ignored & set(paths), lines


@pytest.mark.parametrize("line", ["", " ", "#a", "\\", "a\\", "[a", "[a-", "[[:no:]]"])
def test_lines_that_are_no_pattern(line: str) -> None:
    assert parse_pattern(line) is None


def test_a_folder_inside_a_repository_obeys_the_rules_above_it(tmp_path: Path) -> None:
    init(tmp_path)
    make(tmp_path, {".gitignore": "in/x\n*.log\n", "in/x": "", "in/y": "", "in/z.log": "", "in/k.log": ""})
    make(tmp_path, {"in/.gitignore": "!k.log\n", ".git/info/exclude": "/in/y\n"})
    assert sorted(walk(tmp_path / "in")) == git_files(tmp_path / "in") == [".gitignore", "k.log"]


def test_the_users_own_ignore_file(tmp_path: Path) -> None:
    init(tmp_path)
    home = Path(os.environ["XDG_CONFIG_HOME"]) / "git"
    make(home, {"ignore": "*.swp\n"})
    make(tmp_path, ["a.swp", "b"])
    assert sorted(walk(tmp_path)) == git_files(tmp_path) == ["b"]


def test_other_repositories_inside_are_theirs(tmp_path: Path) -> None:
    make(tmp_path, ["outer/a.py", "outer/inner/b.py", "alone.py"])
    init(tmp_path / "outer")
    init(tmp_path / "outer/inner")
    assert sorted(walk(tmp_path / "outer")) == ["a.py"]
    # A folder of repositories is walked as a whole.
    assert sorted(walk(tmp_path)) == ["alone.py", "outer/a.py", "outer/inner/b.py"]


def test_links_lead_nowhere_outside(tmp_path: Path) -> None:
    make(tmp_path, {"out/secret.py": "x", "in/a.py": "", "in/sub/b.py": ""})
    root = tmp_path / "in"
    (root / "out.py").symlink_to(tmp_path / "out/secret.py")
    (root / "folder").symlink_to(tmp_path / "out")
    (root / "loop").symlink_to(root)
    (root / "itself").symlink_to(root / "itself")
    (root / "inside.py").symlink_to(root / "sub/b.py")
    assert [path for path, _ in list_files(root)] == ["a.py", "inside.py", "sub/b.py"]


def test_a_link_is_what_it_leads_to(tmp_path: Path) -> None:
    make(
        tmp_path, ["a.py", ".env", "secrets/x.py", "gen/b.py", "node_modules/c.py", "app.min.js", "sub/d.py"]
    )
    links = {
        "config.py": ".env",
        "safe.py": "secrets/x.py",
        "own.py": "gen/b.py",
        "lib.py": "node_modules/c.py",
    }
    links |= {
        "app.js": "app.min.js",
        "again.py": "config.py",
        "fine.py": "sub/d.py",
        ".env.example": "a.py",
    }
    for name, to in links.items():
        (tmp_path / name).symlink_to(to)
    found = [path for path, _ in list_files(tmp_path, ("gen/",))]
    assert found == [".env.example", "a.py", "fine.py", "sub/d.py"]


@pytest.mark.parametrize("lines", ["!.env", "!*", "!.env\n!/.env\n!**/.env", "*\n!*"])
def test_no_pattern_brings_credentials_back(lines: str, tmp_path: Path) -> None:
    init(tmp_path)
    make(tmp_path, {"a.py": "", ".env": "", "sub/.ENV.local": "", "sub/id_ecdsa": "", ".gitignore": lines})
    make(tmp_path, {".git/info/exclude": lines, "sub/.gitignore": lines})
    for ignore in ((), ("!.env",), tuple(lines.split("\n")), (lines,)):
        found = {path for path, _ in list_files(tmp_path, ignore)}
        assert not found & {".env", "sub/.ENV.local", "sub/id_ecdsa"}


def test_folders_inside_each_other_without_end(tmp_path: Path) -> None:
    make(tmp_path, ["a.py"])
    folder = tmp_path
    for _ in range(MAX_DEPTH + 5):
        folder /= "d"
        folder.mkdir()
        (folder / "b.py").touch()
    found = [path.count("/") for path, _ in list_files(tmp_path)]
    assert found == [*range(MAX_DEPTH + 1)]


def hostile_file(kind: str, path: Path, outside: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    match kind:
        case "pipe":
            os.mkfifo(path)
        case "device":
            path.symlink_to("/dev/zero")
        case "folder":
            path.mkdir()
        case "huge":
            path.write_bytes(b"a.py\n" * (MAX_IGNORE_BYTES // 5 + 1))
        case "loop":
            path.symlink_to(path.name)
        case "outside":
            (outside / "rules").write_text("a.py\n")
            path.symlink_to(outside / "rules")
        case _:
            path.write_text("\n".join(f"{'*a' * 60}{n}" for n in range(1_000)))


LIST = """
import sys, pathlib, singlepass.files.source_files as files
told = []
found = [path for path, _ in files.list_files(pathlib.Path(sys.argv[1]), (), told.append)]
print(*found, *told, sep="\\n")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="pipes and links")
@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "huge", "loop", "outside", "stars"])
@pytest.mark.parametrize(
    "place", ["root/.gitignore", "root/in/.gitignore", "root/.git/info/exclude", ".gitignore"]
)
def test_an_ignore_file_that_is_none_is_told_and_done_without(kind: str, place: str, tmp_path: Path) -> None:
    top = tmp_path / "some" / "top"
    make(top, {f"root/{name}": "" for name in ("a.py", "in/b.py", f"in/{'a' * 200}.py")})
    init(top / "root" if "root" in place else top)
    exclude = top / "root/.git/info/exclude"
    exclude.unlink(missing_ok=True)
    hostile_file(kind, top / place, tmp_path)
    command = [sys.executable, "-c", LIST, str(top / "root")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    *files, message = [line for line in done.stdout.splitlines() if not line.endswith(".gitignore")]
    assert files == ["a.py", f"in/{'a' * 200}.py", "in/b.py"]
    assert message.startswith(str(top / place))


def test_ignore_files_of_the_right_size_are_read(tmp_path: Path) -> None:
    init(tmp_path)
    rules = "".join(f"{n}.py\n" for n in range(24_000))
    make(tmp_path, {".gitignore": rules, "7.py": "", "23999.py": "", "a.py": ""})
    assert 200_000 < len(rules) <= MAX_IGNORE_BYTES
    told: list[str] = []
    assert [path for path, _ in list_files(tmp_path, (), told.append)] == [".gitignore", "a.py"]
    assert told == []


def test_our_own_rules(tmp_path: Path) -> None:
    make(tmp_path, [
        "a.py", "node_modules/x.js", ".venv/lib/b.py", "src/app.min.js", "src/app.js", "x_pb2.py",
        "api.pb.go", "package-lock.json", "Cargo.lock", "__pycache__/a.pyc", ".env", "conf/.env.local",
        "conf/.env.example", "keys/server.pem", "id_rsa", "secrets.toml", "gen/out.py", "gen/keep/out.py",
        "vendor/v.go", "build/tool.py", "out/CMakeCache.txt", "env/x.py", "env/pyvenv.cfg",
        "credentials/a.py",
    ])  # fmt: skip
    found = [path for path, _ in list_files(tmp_path, ("/gen/*", "!/gen/keep"))]
    assert found == [
        "a.py", "build/tool.py", "conf/.env.example", "gen/keep/out.py", "out/CMakeCache.txt", "src/app.js",
    ]  # fmt: skip


def test_a_folder_that_cannot_be_read_is_empty(tmp_path: Path) -> None:
    assert list(list_files(tmp_path / "gone")) == []
    make(tmp_path, ["file"])
    assert list(list_files(tmp_path / "file")) == []


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"// Code generated by protoc-gen-go. DO NOT EDIT.\npackage a\n", True),
        (b"# -*- coding: utf-8 -*-\n# Generated by the protocol buffer compiler.  DO NOT EDIT!\n", True),
        (b"/* eslint-disable */\n/**\n * @generated\n */\n", True),
        (b"// <auto-generated />\n", True),
        (b"// This file is auto-generated from schema.rb\n", True),
        (b"x = 'Code generated by hand. DO NOT EDIT.'\n", False),
        (b"def f():\n    '''Whether a file was generated.'''\n", False),
        (b"# Do not edit the list below without a test.\n", False),
        (b"a\n" * 40 + b"// Code generated. DO NOT EDIT.\n", False),
        (b"x" * 6_000, True),
        (b"x = 1\n" * 6_000, False),
        (b"", False),
    ],
)
def test_generated_files_say_so(data: bytes, expected: bool) -> None:
    assert is_generated(data) is expected
