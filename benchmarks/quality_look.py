"""What a check of a task may ask about the edited files, and the process in which it does.

    python -I benchmarks/quality_look.py FOLDER < CHECK.json

The process has the edited files in FOLDER and the ones before in FOLDER/before. It has little time and
memory, may write in FOLDER only, starts no other program and reaches no network: what a model wrote is run in
it. It ends by printing a word from CHECK.json, so that a program which merely exits has shown nothing.
"""

import ast
import contextlib
import ctypes
import importlib
import itertools
import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

BYTES = 2 << 30
FILE_BYTES = 8 << 20


class _Grammar(NamedTuple):
    module: str
    function: str
    definitions: str
    """The node types that are definitions, as a regular expression."""


_GRAMMARS = {
    ".py": _Grammar("tree_sitter_python", "language", r"(function|class)_definition"),
    ".js": _Grammar(
        "tree_sitter_javascript",
        "language",
        r"(function|class|method)_.*|generator_function_declaration|variable_declarator",
    ),
    ".ts": _Grammar(
        "tree_sitter_typescript",
        "language_typescript",
        r"(function|class|method|interface|type_alias|enum)_(declaration|definition|signature)"
        r"|variable_declarator|public_field_definition",
    ),
    ".go": _Grammar("tree_sitter_go", "language", r"(function|method)_declaration|type_spec"),
    ".rs": _Grammar(
        "tree_sitter_rust",
        "language",
        r"(function|struct|enum|trait|const|impl)_item|function_signature_item",
    ),
    ".java": _Grammar(
        "tree_sitter_java", "language", r"(method|class|interface|record|enum|constructor)_declaration"
    ),
    ".cpp": _Grammar("tree_sitter_cpp", "language", r"function_definition|(class|struct|enum)_specifier"),
}
_GRAMMARS[".hpp"] = _GRAMMARS[".cpp"]
_WHOLE = re.compile(r".*(string|char|rune).*literal|string|template_string|regex|concatenated_string")
"""Nodes whose text is one token."""


def _suffix(path: str) -> str:
    return Path(path).suffix


@cache
def _parser(suffix: str) -> Any:
    tree_sitter: Any = importlib.import_module("tree_sitter")
    grammar = _GRAMMARS[suffix]
    language = getattr(importlib.import_module(grammar.module), grammar.function)()
    return tree_sitter.Parser(tree_sitter.Language(language))


@cache
def parse(text: str, suffix: str) -> Any:
    """The root of the syntax tree."""
    return _parser(suffix).parse(text.encode("utf-8", "replace")).root_node


def parses(text: str, path: str) -> bool:
    """Whether it is a text without errors of syntax, as far as the grammar of its language can tell."""
    if _suffix(path) == ".py":
        try:
            ast.parse(text)
        except (SyntaxError, ValueError):
            return False
        return True
    return _suffix(path) not in _GRAMMARS or not parse(text, _suffix(path)).has_error


def _walk(node: Any) -> Iterator[Any]:
    yield node
    for child in node.children:
        yield from _walk(child)


def _text(node: Any) -> str:
    return node.text.decode("utf-8", "replace")


def _tokens(node: Any, with_comments: bool = False) -> Iterator[str]:
    if "comment" in node.type:
        if with_comments:
            yield " ".join(_text(node).split())
    elif _WHOLE.fullmatch(node.type) or not node.children:
        if _text(node).strip():
            yield _text(node)
    else:
        for child in node.children:
            yield from _tokens(child, with_comments)


def squeezed(node: Any, with_comments: bool = False) -> str:
    """The code of a node with blanks only between words, whatever its lines were."""
    written = ""
    for token in _tokens(node, with_comments):
        is_word = written[-1:].isalnum() or written[-1:] in ("_", "$")
        written += " " * (is_word and (token[0].isalnum() or token[0] in "_$")) + token
    return written


def normal(text: str, path: str) -> str:
    """A text for comparing, white space aside as far as it means nothing in its language."""
    suffix = _suffix(path)
    if suffix == ".py":
        try:
            return ast.dump(ast.parse(text))
        except (SyntaxError, ValueError):
            return text
    if suffix in _GRAMMARS:
        # Some grammars make a token of a line's end, and a comma before a closing bracket means nothing.
        return re.sub(r",(?=[)}\]])", "", squeezed(parse(text, suffix), with_comments=True))
    if suffix == ".sql":
        return " ".join(re.sub(r"([(),;=<>*+-])", r" \1 ", text).split()).casefold()
    lines = [line.rstrip() for line in text.strip().splitlines()]
    return "\n".join(line for line, _ in itertools.groupby(lines))


def _names(node: Any) -> str:
    """The name of a definition; that of a declarator lies deeper in C++."""
    named = node.child_by_field_name("name")
    if named is None and node.type == "impl_item":
        named = node.child_by_field_name("type")
    while named is None and node is not None:
        node = node.child_by_field_name("declarator")
        if node is not None and node.type in ("identifier", "field_identifier", "qualified_identifier"):
            named = node
    return _text(named).rpartition("::")[2] if named is not None else ""


def definitions(text: str, path: str) -> Iterator[tuple[str, Any]]:
    """Each definition with its name, outer ones first."""
    grammar = _GRAMMARS[_suffix(path)]
    for node in _walk(parse(text, _suffix(path))):
        if re.fullmatch(grammar.definitions, node.type):
            yield _names(node), node


# TypeScript without its types, for a node that cannot take them away itself.

_TYPES = re.compile(
    r"type_annotation|type_parameters|type_arguments|interface_declaration|type_alias_declaration|implements_clause"
    r"|accessibility_modifier|readonly|override_modifier|function_signature|ambient_declaration|asserts_annotation"
    r"|type_predicate_annotation|abstract_method_signature|index_signature"
)


def without_types(text: str) -> str:
    """The JavaScript in a TypeScript, every line where it was."""
    data = bytearray(text.encode())

    def blank(start: int, end: int) -> None:
        data[start:end] = bytes(byte if byte == 10 else 32 for byte in data[start:end])

    def visit(node: Any) -> None:
        is_type = _TYPES.fullmatch(node.type) is not None
        if node.type == "import_statement" and any(child.type == "type" for child in node.children):
            is_type = True
        if node.type == "public_field_definition" and node.child_by_field_name("value") is None:
            is_type = True
        if is_type:
            # Of what is exported the word goes too.
            outer = (
                node.parent if node.parent is not None and node.parent.type == "export_statement" else node
            )
            blank(outer.start_byte, outer.end_byte)
            return
        if node.type in ("as_expression", "satisfies_expression", "non_null_expression"):
            blank(node.children[0].end_byte, node.end_byte)
            visit(node.children[0])
            return
        for child in node.children:
            if child.type == "?" and node.type in ("optional_parameter", "public_field_definition"):
                blank(child.start_byte, child.end_byte)
            visit(child)

    visit(parse(text, ".ts"))
    return data.decode()


# What a check may say.


def _checks(folder: Path, edited: str) -> dict[str, Any]:
    """The names in a check: texts, code without regard to white space and comments, and assertions."""

    def text(path: str = edited) -> str:
        return (folder / path).read_bytes().decode()

    def before(path: str = edited) -> str:
        return (folder / "before" / path).read_bytes().decode()

    def node_of(name: str, path: str, of: Callable[[str], str]) -> Any:
        found = [node for one, node in definitions(of(path), path) if one == name]
        assert found, f"there is no {name} in {path}"
        return found[0]

    def code(name: str = "", path: str = edited, of: Callable[[str], str] = text) -> str:
        """Of a definition, or of all of the file."""
        return squeezed(node_of(name, path, of) if name else parse(of(path), _suffix(path)))

    def comments(name: str = "", path: str = edited) -> str:
        """Those in a definition and directly before it, or in all of the file."""
        root = parse(text(path), _suffix(path))
        if not name:
            return "\n".join(_text(one) for one in _walk(root) if "comment" in one.type)
        node = node_of(name, path, text)
        inside = [_text(one) for one in _walk(node) if "comment" in one.type]
        while node.parent is not None and node.parent.start_byte == node.start_byte:
            node = node.parent
        outer = node.parent if node.parent is not None and node.parent.type == "export_statement" else node
        above = outer.prev_sibling
        found: list[str] = []
        while above is not None and ("comment" in above.type or "annotation" in above.type):
            found.insert(0, _text(above))
            above = above.prev_sibling
        return "\n".join(found + inside)

    def has(where: str, *patterns: str) -> None:
        for pattern in patterns:
            assert re.search(pattern, where, re.DOTALL), f"not found: {pattern}"

    def lacks(where: str, *patterns: str) -> None:
        for pattern in patterns:
            assert not re.search(pattern, where, re.DOTALL), f"found: {pattern}"

    def same(*names: str, path: str = edited) -> None:
        """These definitions do what they did; without a name all of the file, comments aside."""
        for name in names or ("",):
            assert code(name, path) == code(name, path, before), f"{name or path} was changed"

    def same_lines(*without: str, path: str = edited) -> None:
        """All lines are as they were, but for those in which one of the patterns is found."""
        kept = [
            [line for line in one.splitlines(keepends=True) if not any(re.search(w, line) for w in without)]
            for one in (before(path), text(path))
        ]
        assert kept[0] == kept[1], "other lines were changed"

    def same_python(path: str = edited) -> None:
        """The same but for docstrings, comments and annotations."""
        assert _bare(text(path)) == _bare(before(path)), "the code was changed"

    def run(module: str) -> Any:
        return importlib.import_module(module)

    def fails(error: type[Exception], call: Callable[..., Any], *arguments: Any, **named: Any) -> Exception:
        """That a call raises; what it raised."""
        try:
            call(*arguments, **named)
        except error as raised:
            return raised
        raise AssertionError(f"{call.__name__}{arguments} does not raise {error.__name__}")

    names = (text, before, code, comments, has, lacks, same, same_lines, same_python, run, fails)
    return {one.__name__: one for one in names} | {"re": re, "ast": ast}


class _Bare(ast.NodeTransformer):
    """Takes docstrings and annotations away."""

    def visit(self, node: ast.AST) -> Any:
        body = getattr(node, "body", None)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Module) and body:
            first = body[0]
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                node.body = body[1:] or [ast.Pass()]
            if len(node.body) > 1:
                node.body = [one for one in node.body if not isinstance(one, ast.Pass)] or [ast.Pass()]
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            node.returns = None
        if isinstance(node, ast.arg):
            node.annotation = None
        if isinstance(node, ast.Module):
            node.body = [one for one in node.body if not _is_for_types(one)]
        return self.generic_visit(node)


def _is_for_types(node: ast.stmt) -> bool:
    if isinstance(node, ast.ImportFrom):
        return node.module in ("typing", "collections.abc", "__future__", "datetime", "decimal", "pathlib")
    return isinstance(node, ast.Import) and node.names[0].name in ("typing", "collections.abc")


def _bare(text: str) -> str:
    return ast.dump(_Bare().visit(ast.parse(text)))


# The process.


def _limit(seconds: int, memory: bool) -> None:
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
        resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_BYTES, FILE_BYTES))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if memory:
            resource.setrlimit(resource.RLIMIT_AS, (BYTES, BYTES))


_NEW_USER, _NEW_NETWORK = 0x10000000, 0x40000000


def _leave_network() -> None:
    """A network of its own, in which there is nothing; Linux only, where that is allowed."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            libc = ctypes.CDLL(None, use_errno=True)
            if libc.unshare(_NEW_NETWORK) != 0:
                libc.unshare(_NEW_USER | _NEW_NETWORK)


_REFUSED = re.compile(
    r"socket\.(connect|bind|sendto|sendmsg|getaddrinfo|gethostby.*)|subprocess\.Popen|os\.(system|exec|fork|forkpty"
    r"|posix_spawn|spawn|kill|killpg)|pty\.spawn|urllib\.Request|ftplib\..*|smtplib\..*"
)
_CHANGES = re.compile(
    r"os\.(remove|rename|mkdir|rmdir|chmod|chown|link|symlink|truncate|utime)|shutil\.(move|rmtree|copy.*|chown)"
)


def _hold_back(folder: Path) -> None:
    """Refuse what a program in a check has no need of."""
    inside = os.path.realpath(folder)

    def is_inside(path: Any) -> bool:
        if isinstance(path, int):
            return True
        # `os.path`, because `Path` would raise events of its own.
        whole = os.path.realpath(os.fsdecode(path))
        return whole == inside or whole.startswith(inside + os.sep) or whole == os.devnull

    def look(event: str, arguments: tuple[Any, ...]) -> None:
        if _REFUSED.fullmatch(event):
            raise PermissionError(f"not in a check: {event}")
        if event == "open" and isinstance(arguments[0], str | bytes | os.PathLike):
            writes = arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
            if writes and not is_inside(arguments[0]):
                raise PermissionError(f"not in a check: writing {arguments[0]!r}")
        elif _CHANGES.fullmatch(event):
            paths: list[Any] = [one for one in arguments[:2] if isinstance(one, str | bytes | os.PathLike)]
            if not all(map(is_inside, paths)):
                raise PermissionError(f"not in a check: {event} of {paths}")

    sys.addaudithook(look)


def _run_node(folder: Path, asked: dict[str, Any]) -> None:
    for path in sorted(folder.rglob("*.ts")):
        path.with_suffix(".js").write_text(without_types(path.read_text("utf-8")), "utf-8")
    (folder / "package.json").write_text('{"type": "module"}')
    script = folder / "check.mjs"
    script.write_text(
        "import assert from 'node:assert/strict';\nimport { readFileSync } from 'node:fs';\n"
        f"{asked['node']}\nconsole.log({json.dumps(asked['word'])});\n",
        "utf-8",
    )
    permission = "--permission" if asked["node_version"] >= 23 else "--experimental-permission"
    limits = [permission, "--allow-fs-read=*", f"--allow-fs-write={folder}/", "--max-old-space-size=256"]
    os.execvp("node", ["node", *limits, "--no-warnings", "check.mjs"])


def _as_main(path: Path, source: str) -> dict[str, Any]:
    """The names of a program that is run as a file, which it may read itself."""
    path.write_text(source, "utf-8")
    module = ModuleType("__main__")
    module.__file__ = str(path)
    sys.modules["__main__"] = module
    return module.__dict__


def main() -> None:
    """Run one check."""
    folder = Path(sys.argv[1]).resolve()
    asked: dict[str, Any] = json.loads(sys.stdin.read())
    os.chdir(folder)
    _limit(asked["cpu_s"], memory=not asked["node"])
    _leave_network()
    if asked["node"]:
        _run_node(folder, asked)
    sys.path.insert(0, str(folder))
    names = _checks(folder, asked["edited"])
    if not asked["program"]:
        parse(" ", _suffix(asked["edited"])) if _suffix(asked["edited"]) in _GRAMMARS else None
    _hold_back(folder)
    if asked["program"]:
        names = _as_main(folder / "program.py", asked["check"])
    exec(compile(asked["check"], str(folder / "program.py"), "exec"), names)
    sys.stdout.write(f"\n{asked['word']}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
