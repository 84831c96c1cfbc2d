"""The structure of the sources in numbers: modules, imports, classes; and the code map of ARCHITECTURE.md.

    python benchmarks/structure.py [REVISION…] [--json]
    python benchmarks/structure.py --map

Each revision is a column: a commit, or `.` for the files as they are, which is the default. `ce87938 .` shows
what dividing the sources into more folders changed. `--map` writes the table of modules into ARCHITECTURE.md
from their docstrings.
"""

import argparse
import ast
import io
import json
import re
import subprocess
import sys
import tarfile
import tokenize
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCES = ("server/singlepass", "backends/singlepass_backends")
BEFORE, AFTER = "<!-- modules -->\n", "<!-- end -->"
N_LARGEST = 10


@dataclass(frozen=True)
class Module:
    """A source file, by its dotted name."""

    path: str
    tree: ast.Module
    text: str

    @property
    def folder(self) -> str:
        """The folder it lies in, which for `__init__.py` is its own package."""
        return self.path.rpartition("/")[0]


@dataclass(frozen=True)
class Size:
    """A module or a class and its lines; of a class, how many methods."""

    name: str
    n_lines: int
    n_methods: int = 0


@dataclass(frozen=True)
class Structure:
    """What is counted of one tree."""

    n_modules: int
    n_lines: dict[str, int]
    """Of code, by part: without blank lines, comments and docstrings."""
    n_imports: int
    """Pairs of modules of which one imports the other."""
    n_between_folders: int
    """Those of them that lie in different folders."""
    n_between_later_folders: int
    """The same, had the modules lain where git finds them again in the last revision: dividing a folder makes
    imports between folders of those that were within it."""
    n_folder_pairs: int
    """Pairs of folders with at least one such import."""
    n_levels: int
    """Of imports: a module is one level above the highest that it imports. Circles count as one module."""
    circles: list[list[str]]
    largest_modules: list[Size]
    largest_classes: list[Size]


def read(revision: str) -> dict[str, str]:
    """The texts of all modules by path; `.` is the checkout."""
    if revision == ".":
        texts = {
            path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
            for source in SOURCES
            for path in sorted((ROOT / source).rglob("*.py"))
        }
    else:
        command = ["git", "archive", revision, *SOURCES]
        packed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout
        texts = {}
        with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
            for member in archive:
                file = archive.extractfile(member) if member.name.endswith(".py") else None
                if file:
                    texts[member.name] = file.read().decode()
    return {path: text for path, text in texts.items() if "/samples/" not in path}


def moves(revision: str, last: str) -> dict[str, str]:
    """Where the files of a revision lie in the last one, of those that moved."""
    revisions = [one for one in (revision, last) if one != "."]
    if revision in (".", last):
        return {}
    options = ["--find-renames=30%", "--diff-filter=R", "--name-status"]
    command = ["git", "diff", *options, *revisions, "--", *SOURCES]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return {old: new for _, old, new in (line.split("\t") for line in listed.splitlines())}


def parse(texts: Mapping[str, str]) -> dict[str, Module]:
    """Modules by the names under which they are imported."""
    found: dict[str, Module] = {}
    for path, text in texts.items():
        name = path.partition("/")[2].removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        found[name] = Module(path, ast.parse(text), text)
    return found


def imported(module: Module, modules: Mapping[str, Module]) -> set[str]:
    """Names of the modules of the same tree that this one imports, those inside functions too.

    Imports for the type checker alone do not run and do not count.
    """

    def walk(node: ast.AST) -> Iterator[ast.AST]:
        for child in ast.iter_child_nodes(node):
            if not (isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"):
                yield child
                yield from walk(child)

    names: set[str] = set()
    for node in walk(module.tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            below = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= (below & modules.keys()) or {node.module}
    return names & modules.keys()


def circles(imports: Mapping[str, set[str]]) -> list[list[str]]:
    """Groups of modules that import each other, directly or not."""
    reached: dict[str, set[str]] = {}
    for name in imports:
        seen: set[str] = set()
        ahead = [name]
        while ahead:
            new = imports[ahead.pop()] - seen
            seen |= new
            ahead += new
        reached[name] = seen
    groups = {
        tuple(sorted(other for other in reached[name] if name in reached[other]))
        for name in imports
        if name in reached[name]
    }
    return [[*group] for group in sorted(groups)]


def levels(imports: Mapping[str, set[str]]) -> int:
    """The length of the longest chain of imports, a circle as one link."""
    group = {name: tuple(names) for names in circles(imports) for name in names}
    below: dict[tuple[str, ...], set[tuple[str, ...]]] = defaultdict(set)
    for name, names in imports.items():
        own = group.get(name, (name,))
        below[own] |= {group.get(other, (other,)) for other in names} - {own}
    known: dict[tuple[str, ...], int] = {}

    def level(one: tuple[str, ...]) -> int:
        if one not in known:
            known[one] = 1 + max((level(other) for other in below[one]), default=0)
        return known[one]

    return max(map(level, [*below]), default=0)


def code_lines(module: Module) -> int:
    """Lines with code: no blank lines, comments and docstrings."""
    docstrings: set[int] = set()
    for node in ast.walk(module.tree):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant):
                docstrings |= set(range(child.lineno, (child.end_lineno or child.lineno) + 1))
    skipped = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT}
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(module.text).readline):
        if token.type not in skipped and token.type != tokenize.ENDMARKER:
            lines |= set(range(token.start[0], token.end[0] + 1))
    return len(lines - docstrings)


def measure(texts: Mapping[str, str], moved: Mapping[str, str] | None = None) -> Structure:
    """Count all of it; `moved` are paths as they are in a later revision."""
    modules = parse(texts)
    imports = {name: imported(module, modules) - {name} for name, module in modules.items()}
    pairs = [(modules[name], modules[other]) for name, names in imports.items() for other in names]
    between = [(one.folder, other.folder) for one, other in pairs if one.folder != other.folder]
    later = {one.path: (moved or {}).get(one.path, one.path).rpartition("/")[0] for one in modules.values()}
    n_lines: dict[str, int] = defaultdict(int)
    classes: list[Size] = []
    for module in modules.values():
        n_lines[module.path.partition("/")[0]] += code_lines(module)
        for node in ast.walk(module.tree):
            if isinstance(node, ast.ClassDef):
                n_methods = sum(isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef) for one in node.body)
                n = (node.end_lineno or node.lineno) - node.lineno + 1
                classes.append(Size(f"{module.path}: {node.name}", n, n_methods))
    sizes = [Size(module.path, len(module.text.splitlines())) for module in modules.values()]

    def largest(found: list[Size]) -> list[Size]:
        return sorted(found, key=lambda one: -one.n_lines)[:N_LARGEST]

    return Structure(
        n_modules=len(modules),
        n_lines=dict(n_lines),
        n_imports=len(pairs),
        n_between_folders=len(between),
        n_between_later_folders=sum(later[one.path] != later[other.path] for one, other in pairs),
        n_folder_pairs=len(set(between)),
        n_levels=levels(imports),
        circles=circles(imports),
        largest_modules=largest(sizes),
        largest_classes=largest(classes),
    )


def report(found: Mapping[str, Structure]) -> str:
    """The numbers side by side, a column for each revision, and below them what is largest."""
    parts = sorted({part for one in found.values() for part in one.n_lines})
    lengths = {part: [one.n_lines.get(part, 0) for one in found.values()] for part in parts}
    rows = [
        ("modules", [one.n_modules for one in found.values()]),
        *((f"lines of code in {part}", n_lines) for part, n_lines in lengths.items()),
        ("imports between modules", [one.n_imports for one in found.values()]),
        ("of them between folders", [one.n_between_folders for one in found.values()]),
        ("by the last one's folders", [one.n_between_later_folders for one in found.values()]),
        ("pairs of folders", [one.n_folder_pairs for one in found.values()]),
        ("levels of imports", [one.n_levels for one in found.values()]),
        ("import circles", [len(one.circles) for one in found.values()]),
    ]
    lines = ["".join([f"{'':28}", *(f"{name:>12}" for name in found)])]
    lines += ["".join([f"{label:28}", *(f"{value:12,}" for value in values)]) for label, values in rows]
    for name, one in found.items():
        lines += ["", f"{name}: largest modules (lines)"]
        lines += [f"  {size.n_lines:5,}  {size.name}" for size in one.largest_modules]
        lines += ["", f"{name}: largest classes (lines, methods)"]
        lines += [f"  {size.n_lines:5,}  {size.n_methods:3}  {size.name}" for size in one.largest_classes]
        lines += ["", *(f"{name}: circle: {', '.join(circle)}" for circle in one.circles)]
    return "\n".join(lines).rstrip()


def first_paragraph(module: Module) -> str:
    """What a module says it is, as a cell of a table."""
    said = (ast.get_docstring(module.tree) or "").partition("\n\n")[0]
    return " ".join(said.split()).replace("|", "\\|")


def code_map(texts: Mapping[str, str]) -> str:
    """A table of modules for each folder, as Markdown, from their docstrings."""
    folders: dict[str, dict[str, str]] = defaultdict(dict)
    for module in parse(texts).values():
        folders[module.folder][module.path.rpartition("/")[2]] = first_paragraph(module)
    order = sorted(folders, key=lambda folder: (not folder.startswith(SOURCES[0]), folder))
    parts: list[str] = []
    for folder in order:
        files = folders[folder]
        parts += [f"### `{folder}`", "", files.pop("__init__.py", ""), ""]
        if files:
            rows = [f"| `{name}` | {said} |" for name, said in sorted(files.items())]
            parts += ["| module | |", "|---|---|", *rows, ""]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(parts))


def with_map(page: str, texts: Mapping[str, str]) -> str:
    """ARCHITECTURE.md with its code map made anew."""
    before, _, rest = page.partition(BEFORE)
    return f"{before}{BEFORE}{code_map(texts)}{AFTER}{rest.partition(AFTER)[2]}"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("revisions", nargs="*", default=["."], metavar="REVISION")
    parser.add_argument("--json", action="store_true", help="print all numbers as JSON")
    parser.add_argument("--map", action="store_true", help="write the code map of ARCHITECTURE.md")
    options = parser.parse_args()
    if options.map:
        page = ROOT / "ARCHITECTURE.md"
        page.write_text(with_map(page.read_text(encoding="utf-8"), read(".")), encoding="utf-8")
        return
    last = options.revisions[-1]
    found = {one: measure(read(one), moves(one, last)) for one in options.revisions}
    if options.json:
        json.dump({name: asdict(one) for name, one in found.items()}, sys.stdout, indent=1)
        print()
    else:
        print(report(found))


if __name__ == "__main__":
    main()
