"""The judge: what a check cannot do to this machine, and which lines count as changed outside."""

import json
from pathlib import Path

import pytest
from quality_judge import judge, n_outside, node_version, run_check
from quality_look import normal, without_types
from quality_tasks import Task, read_tasks

needs_node = pytest.mark.skipif(not node_version(), reason="node is not installed")


def task(**keys: object) -> Task:
    files = {"a.py": "x = 1\n"}
    scope = {"a.py": ((0, 1),)}
    given = {
        "name": "t",
        "kind": "k",
        "language": "python",
        "files": files,
        "scope": scope,
        "reference": files,
    }
    return Task(**given | {"first_line": 0, "end_line": 1} | keys)  # pyright: ignore[reportArgumentType]


def said(program: str, check: str = "run('a')", **keys: object) -> str:
    """What a check says of a program."""
    return run_check(task(), {"a.py": program}, check, **keys)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("program", "why"),
    [
        ("x = 1", ""),
        ("x = ", "SyntaxError"),
        ("raise ValueError('no')", "ValueError: no"),
        # A program that ends its process has passed no check.
        ("import sys; sys.exit(0)", "ended with 0"),
        ("import os; os._exit(0)", "ended with 0"),
        ("x = bytearray(1 << 40)", "MemoryError"),
        ("open('../out', 'w')", "PermissionError"),
        ("open('/tmp/singlepass-out', 'w')", "PermissionError"),
        ("import os; os.remove('/etc/hosts')", "PermissionError"),
        ("import os; os.symlink('/etc', 'here'); open('here/x', 'w')", "PermissionError"),
        ("import socket; socket.create_connection(('127.0.0.1', 9))", "PermissionError"),
        ("import subprocess; subprocess.run(['true'])", "PermissionError"),
        ("import os; os.system('true')", "PermissionError"),
        ("import os; os.fork()", "PermissionError"),
        ("open('own', 'w').write('x'); import os; os.remove('own')", ""),
        ("import tempfile; tempfile.TemporaryFile().write(b'x')", ""),
        ("print('x' * 1000)", ""),
    ],
)
def test_a_program_is_held_back(program: str, why: str) -> None:
    assert why in said(program)
    assert bool(said(program)) == bool(why)


def test_a_program_has_little_time() -> None:
    assert said("while True: pass", cpu_s=1) == "it takes too long"


def test_a_program_writes_little() -> None:
    assert said("f = open('own', 'wb')\nwhile True: f.write(bytes(1 << 20))")
    assert said("while True: print('x' * 100_000)")


def test_what_runs_in_the_place_of_a_program_has_its_folder_only() -> None:
    """CanItEdit's programs are run as a whole, with their tests at the end."""
    assert not said("", "assert __name__ == '__main__'", is_program=True)
    assert "PermissionError" in said("", "open('/tmp/singlepass-out', 'w')", is_program=True)
    assert not Path("/tmp/singlepass-out").exists()


def node_said(module: str, check: str = "await import('./a.js');", **keys: int) -> str:
    return run_check(task(), {"a.js": module}, node=check, **keys)


@needs_node
@pytest.mark.parametrize(
    ("module", "why"),
    [
        ("export const x = 1;", ""),
        ("throw new Error('no');", "Error: no"),
        ("process.exit(0);", "ended with 0"),
        ("import { writeFileSync } from 'node:fs'; writeFileSync('/tmp/singlepass-out', '');", "ERR_ACCESS"),
        ("import { execSync } from 'node:child_process'; execSync('true');", "ERR_ACCESS"),
        ("import { writeFileSync } from 'node:fs'; writeFileSync('own', '');", ""),
    ],
)
def test_a_module_is_held_back(module: str, why: str) -> None:
    found = node_said(module)
    assert bool(found) == bool(why), found
    assert why in found or "Error" in found


@needs_node
def test_a_module_has_little_time() -> None:
    assert node_said("for (;;) {}", cpu_s=1) == "it takes too long"


@needs_node
@pytest.mark.parametrize(
    ("typed", "plain"),
    [
        ("const a: number = 1;", "const a = 1;"),
        ("export interface A { a: string }\nconst b = 1;", "const b = 1;"),
        ("type A = string;\nlet b: A;", "let b;"),
        ("function f<T>(a: T, b?: string): a is T { return a!; }", "function f(a, b) { return a; }"),
        ("const a = (b as unknown as C).d;", "const a = (b).d;"),
        ("import type { A } from './a.js';\nimport { b } from './b.js';", "import { b } from './b.js';"),
        ("class A { private x: number; readonly y = 1; }", "class A { ; y = 1; }"),
        ("const f = <T,>(a: T): T => a;", "const f = (a) => a;"),
        ("const a = new Map<string, number>();", "const a = new Map();"),
        ("class A implements B { f(): void {} }", "class A { f() {} }"),
    ],
)
def test_types_are_taken_away(typed: str, plain: str) -> None:
    assert "".join(without_types(typed).split()) == "".join(plain.split())
    assert without_types(typed).count("\n") == typed.count("\n")


@pytest.mark.parametrize(
    ("one", "other", "path", "same"),
    [
        ("int f() {\n  return 1;\n}", "int f() { return 1; }", "a.cpp", True),
        ("int f() { return 1; }", "int f() { return 2; }", "a.cpp", False),
        ("f(a, b)", "f(a,\n  b,\n)", "a.rs", True),
        ('"a b"', '"a  b"', "a.go", False),
        ("// one\nfn f() {}", "// two\nfn f() {}", "a.rs", False),
        ("if a:\n    b()\nc()", "if a:\n    b()\n    c()", "a.py", False),
        ("x = (1,)", "x = (1, )", "a.py", True),
        ("SELECT a,b FROM c;", "select a, b\nfrom c ;", "a.sql", True),
        ("a:\n  b: 1", "a:\nb: 1", "a.yaml", False),
        ("a: 1  \n\n\nb: 2", "a: 1\n\nb: 2\n", "a.yaml", True),
    ],
)
def test_white_space_that_means_nothing(one: str, other: str, path: str, same: bool) -> None:
    assert (normal(one, path) == normal(other, path)) == same


@pytest.mark.parametrize(
    ("before", "after", "scope", "n"),
    [
        ("a b c", "a b c", (), 0),
        ("a b c", "a x c", ((1, 2),), 0),
        ("a b c", "a c", ((1, 2),), 0),
        ("a b c", "a x y z c", ((1, 2),), 0),
        ("a b c", "x b c", ((1, 2),), 1),
        ("a b c", "x x b c", ((1, 2),), 2),
        ("a b c", "b c", ((1, 2),), 1),
        ("a b c", "a y b c", ((1, 1),), 0),
        ("a b c", "y a b c", ((1, 1),), 1),
        ("a b c d", "x b c y", ((0, 1), (3, 4)), 0),
        ("a b c d", "x b z y", ((0, 1), (3, 4)), 1),
        ("a b c d", "a d", ((1, 2),), 1),
        # Which of two equal lines is new does not matter where either may be.
        ("a } b }", "a } n } b }", ((1, 2),), 0),
        ("a b", "", ((0, 1),), 1),
        ("a b c", "p q r s", (), 4),
    ],
)
def test_lines_outside(before: str, after: str, scope: tuple[tuple[int, int], ...], n: int) -> None:
    def text(words: str) -> str:
        return "".join(f"{word}\n" for word in words.split())

    assert n_outside(text(before), text(after), scope) == (n, 0)


@pytest.mark.parametrize(
    ("before", "after", "n"),
    [
        ("a\nb\n\n\nc\n", "a\nx\n\nc\n", (0, 1)),
        ("a\nb\n\nc\n", "a\nx\n\n\nc\n", (0, 0)),  # inserted at the border
        ("a\nb\n\nc\n\nd\n", "a\nx\n\nc\ny\n", (1, 1)),
    ],
)
def test_blank_lines_outside_are_counted_on_their_own(before: str, after: str, n: tuple[int, int]) -> None:
    assert n_outside(before, after, ((1, 2),)) == n


def test_line_ends_outside_count() -> None:
    assert n_outside("a\r\nb\r\n", "a\nx\r\n", ((1, 2),)) == (1, 0)


def test_what_is_asked_and_more_is_not_right() -> None:
    files = {"a.py": "x = 1\ny = 2\n"}
    one = task(files=files, check="assert run('a').x == 3")
    assert judge(one, {"a.py": "x = 3\ny = 2\n"}).right
    more = judge(one, {"a.py": "x = 3\ny = 3\n"})
    assert (more.passed, more.outside, more.right) == (True, 1, False)
    assert judge(one, files).why == "nothing was changed"
    assert "no code" in judge(one, {"a.py": "x = (\n"}).why


def test_nothing_to_do_is_right_only_untouched() -> None:
    one = task(nothing=True)
    assert judge(one, {"a.py": "x = 1\n"}).right
    assert not judge(one, {"a.py": "x = 1\n\n"}).right


def test_tasks_of_can_it_edit(tmp_path: Path) -> None:
    row = {
        "name": "double",
        "full_name": "1_double",
        "before": "def f(x):\n    return x",
        "after": "def f(x):\n    return 2 * x",
        "tests": "assert f(2) == 4",
        "instruction_descriptive": "Double the result.",
        "instruction_lazy": "double",
        "taxonomy": {"change_kind": "adaptive", "libraries": []},
    }
    path = tmp_path / "some.jsonl"
    path.write_text(json.dumps(row) + "\n", encoding="utf-8")
    tasks = read_tasks(path)
    assert [one.ask for one in tasks] == ["Double the result.", "double"]
    for one in tasks:
        assert (one.first_line, one.end_line) == (0, 2)
        assert judge(one, one.reference).right
        assert not judge(one, {"double.py": "def f(x):\n    return x + 1\n"}).right
