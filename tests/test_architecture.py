"""Rules for the sources, as tests: who may import what, formatting, lint, types."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import structure

ROOT = Path(__file__).parents[1]
SERVER = ROOT / "server" / "singlepass"
BACKENDS = ROOT / "backends" / "singlepass_backends"
DRIVERS = BACKENDS / "drivers"
REMOTE = DRIVERS / "remote"

RUNTIMES = {"llama_cpp", "llguidance", "mlx", "mlx_lm", "numpy", "jinja2", "gguf", "tokenizers"}
RUNTIMES |= {"pynvml"}
HTTP = {"httpx", "httpcore", "keyring"}
"""For the remote backend, which runs in the engine like the others."""
LSP_MODULES = {
    *(f"lsp/{name}.py" for name in ("app", "stdio", "handlers", "menu", "commands")),
    *(f"editor/{name}.py" for name in ("positions", "requests")),
    *(f"jobs/{name}.py" for name in ("display", "outcome")),
    *(f"cli/{name}.py" for name in ("headless", "edit", "context", "workload")),
}
"""The only modules of the server that may know pygls and lsprotocol."""

OWN_RUNTIMES = {
    "llama/driver.py": {"llama_cpp"},
    "mlx/driver.py": {"mlx", "mlx_lm"},
    "mlx/cache.py": {"mlx", "mlx_lm"},
    "mlx/hf_tokenizer.py": {"tokenizers"},
}
"""What each driver may load."""

PURE = {"bisect", "collections", "collections.abc", "dataclasses", "difflib", "enum", "itertools", "json"}
PURE |= {
    "fnmatch",
    "functools",
    "heapq",
    "html",
    "math",
    "operator",
    "re",
    "statistics",
    "string",
    "types",
    "typing",
    "unicodedata",
}
PURE |= {"msgspec"}
"""What the sans-IO modules may import: no I/O, clock, log or randomness."""


def modules(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.rglob("*.py")) if "samples" not in path.parts]


def imports(path: Path, *, lazy: bool = True) -> Iterator[str]:
    """Names of the modules that a file imports, those inside functions only with `lazy`.

    Imports for the type checker alone do not run and do not count.
    """
    tree = ast.parse(path.read_text(encoding="utf-8"))

    def walk(node: ast.AST) -> Iterator[ast.AST]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
                continue
            if not lazy and isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)):
                continue
            yield child
            yield from walk(child)

    for node in walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            assert node.module is not None
            yield node.module


def roots(names: Iterator[str]) -> set[str]:
    return {name.partition(".")[0] for name in names}


def name(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix()


@pytest.mark.parametrize("path", modules(SERVER / "core"), ids=lambda path: path.name)
def test_the_core_is_sans_io(path: Path) -> None:
    allowed = PURE | {"singlepass_backends.base"}
    for module in imports(path):
        assert module in allowed or module.startswith("singlepass.core"), f"{path.name} imports {module}"


SANS_IO = {
    "engines": ["routing"],
    "files": ["protect", "credentials", "ignoring"],
    "lsp": ["framing"],
    "measuring": ["rates", "workload", "calculator", "hardware_choice", "plan"],
    "repository": ["imports", "outline", "neighbours", "map"],
    "stats": ["record", "estimate", "statistics"],
}
"""Modules outside of the core that decide and do nothing."""
SANS_IO_MODULES = [f"{room}/{module}.py" for room, names in SANS_IO.items() for module in names]


@pytest.mark.parametrize("module_name", SANS_IO_MODULES)
def test_decisions_of_the_server_are_sans_io(module_name: str) -> None:
    others = {f"singlepass.{one.removesuffix('.py').replace('/', '.')}" for one in SANS_IO_MODULES}
    allowed = PURE | others | {"singlepass_backends.base", "singlepass.config"}
    for module in imports(SERVER / module_name):
        assert module in allowed or module.startswith("singlepass.core"), f"{module_name} imports {module}"


POLICIES = ["generation/cache/prefix.py", "generation/cache/cells.py", "machine/fit.py", "machine/facts.py"]


@pytest.mark.parametrize("module_name", POLICIES)
def test_policies_of_the_engine_are_sans_io(module_name: str) -> None:
    others = {"base", *(path.removesuffix(".py").replace("/", ".") for path in POLICIES)}
    allowed = PURE | {f"singlepass_backends.{other}" for other in others}
    for module in imports(BACKENDS / module_name):
        assert module in allowed, f"{module_name} imports {module}"


@pytest.mark.parametrize("path", modules(BACKENDS), ids=lambda path: name(path, BACKENDS))
def test_the_engine_downloads_nothing(path: Path) -> None:
    if path.parent.name != "models":
        assert not [m for m in imports(path) if m.startswith("singlepass_backends.models")]


def test_only_the_hub_and_the_remote_backend_use_the_network() -> None:
    for path in modules(BACKENDS):
        if REMOTE not in path.parents and name(path, BACKENDS) != "models/hub.py":
            assert not roots(imports(path)) & HTTP, path


@pytest.mark.parametrize("module", ["files", "offer"])
def test_what_is_known_of_models_is_sans_io(module: str) -> None:
    allowed = PURE | {"hashlib", "pathlib"}
    for imported in imports(BACKENDS / "models" / f"{module}.py"):
        assert imported in allowed or imported.startswith("singlepass_backends."), imported


@pytest.mark.parametrize("module", ["replies", "servers"])
def test_what_is_known_of_remote_servers_is_sans_io(module: str) -> None:
    allowed = PURE | {"codecs", "ipaddress", "urllib.parse", "singlepass_backends.drivers.remote.replies"}
    for imported in imports(REMOTE / f"{module}.py"):
        assert imported in allowed, f"{module}.py imports {imported}"


@pytest.mark.parametrize("path", modules(SERVER), ids=lambda path: name(path, SERVER))
def test_the_server_never_loads_a_model_runtime(path: Path) -> None:
    assert not roots(imports(path)) & (RUNTIMES | HTTP)
    seam = {module for module in imports(path) if module.startswith("singlepass_backends")}
    allowed = {f"singlepass_backends.{module}" for module in ("base", "client", "wire")}
    if name(path, SERVER) == "cli/models.py":  # the command line, which nothing waits for
        allowed.add("singlepass_backends.machine.facts")
        seam = {module for module in seam if not module.startswith("singlepass_backends.models")}
    if name(path, SERVER) in ("cli/plan.py", "cli/bench.py", "cli/this_machine.py"):  # and these, for sizes
        allowed |= {f"singlepass_backends.machine.{module}" for module in ("facts", "fit", "hardware")}
        seam = {module for module in seam if not module.startswith("singlepass_backends.models")}
    assert seam <= allowed


@pytest.mark.parametrize("path", modules(SERVER), ids=lambda path: name(path, SERVER))
def test_only_the_edge_knows_lsp(path: Path) -> None:
    if name(path, SERVER) not in LSP_MODULES:
        assert not roots(imports(path)) & {"pygls", "lsprotocol"}


MAY_WRITE = {"stats/history_file.py", "repository/indexer.py", "measuring/runs.py", "editor/shown_text.py"}
"""What jobs and benchmarks took, what outlines are known and the reply that the user wants to see, in our own
folders."""
MAY_WRITE |= {f"cli/{name}.py" for name in ("demo", "output", "saving", "settings_file", "svg", "workload")}
"""The command line, when it is asked to."""
WRITES = {"write_text", "write_bytes", "writelines", "unlink", "rename", "rmdir", "mkdir", "makedirs"}
WRITES |= {"symlink_to", "hardlink_to", "chmod", "rmtree", "copyfile", "copytree", "truncate"}
WRITES |= {"mkstemp", "mkdtemp", "NamedTemporaryFile"}
FILE_WRITES = {
    "os.remove",
    "os.link",
    "os.symlink",
    "os.replace",
    "shutil.copy",
    "shutil.copy2",
    "shutil.move",
}


MODE_TO_WRITE = re.compile(r"^'[rbt]*[wax+][rwbt+]*'$|os\.O_(?!RDONLY|NONBLOCK|NOCTTY|CLOEXEC)")
"""Of `open` and `os.open`."""


def file_writes(tree: ast.AST) -> Iterator[str]:
    """Calls that may change a file. `replace` of one argument is that of a path, of two that of a string."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        attribute = called.rpartition(".")[2]
        arguments = [ast.unparse(one) for one in (*node.args, *(word.value for word in node.keywords))]
        if attribute == "open":
            if any(MODE_TO_WRITE.search(one) for one in arguments):
                yield called
        elif attribute in WRITES or called in FILE_WRITES or (attribute == "replace" and len(arguments) == 1):
            yield called


@pytest.mark.parametrize("path", modules(SERVER), ids=lambda path: name(path, SERVER))
def test_the_server_writes_no_file(path: Path) -> None:
    writes = [*file_writes(ast.parse(path.read_text(encoding="utf-8")))]
    assert not writes or name(path, SERVER) in MAY_WRITE, writes


@pytest.mark.parametrize(
    "source",
    [
        *(
            "path.write_text('x')",
            "open('a', 'w')",
            "path.open(mode='ab')",
            "os.replace(a, b)",
            "a.replace(b)",
        ),
        *(
            "os.open(a, os.O_WRONLY)",
            "shutil.rmtree(a)",
            "path.unlink()",
            "shutil.copy(a, b)",
            "os.remove(a)",
        ),
    ],
)
def test_a_write_is_seen(source: str) -> None:
    assert [*file_writes(ast.parse(source))]


@pytest.mark.parametrize("path", modules(BACKENDS), ids=lambda path: name(path, BACKENDS))
def test_the_engine_does_not_know_the_server(path: Path) -> None:
    assert "singlepass" not in roots(imports(path))


@pytest.mark.parametrize("path", modules(DRIVERS), ids=lambda path: name(path, DRIVERS))
def test_drivers_know_the_seam_and_their_own_runtime_lazily(path: Path) -> None:
    own = {module for module in imports(path) if module.startswith("singlepass_backends")}
    modules_allowed = ("base", "machine.facts", "generation.driver", "stop_flag")
    allowed = {f"singlepass_backends.{module}" for module in modules_allowed}
    assert {module for module in own if not module.startswith("singlepass_backends.drivers")} <= allowed
    assert not roots(imports(path, lazy=False)) & (RUNTIMES - {"numpy"})


@pytest.mark.parametrize("path", modules(DRIVERS), ids=lambda path: name(path, DRIVERS))
def test_drivers_load_no_runtime_but_their_own(path: Path) -> None:
    """Those named as text for `import_module`, which other rules do not see."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    named = {
        ast.literal_eval(node.args[0]).partition(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "importlib.import_module"
    }
    assert named <= OWN_RUNTIMES.get(name(path, DRIVERS), set())


def test_only_opening_and_the_probe_name_drivers() -> None:
    for path in modules(BACKENDS):
        if DRIVERS not in path.parents and name(path, BACKENDS) not in ("opening.py", "engine/probe.py"):
            assert not [m for m in imports(path) if m.startswith("singlepass_backends.drivers")], path


ROOMS = {
    SERVER: (
        {"core"},
        {"files"},
        {"config"},
        {"stats"},
        {"editor"},
        {"repository"},
        {"engines"},
        {"jobs"},
        {"lsp"},
        {"measuring"},
        {"cli"},
        {"__main__"},
    ),
    BACKENDS: (
        {"address", "stop_flag"},
        {"base"},
        {"wire", "runtime_dir", "machine", "generation"},
        {"engine_process", "drivers", "testing"},
        {"engine_link"},
        {"opening"},
        {"client", "engine", "models"},
    ),
}
"""Folders and modules of both packages, from the bottom up: each imports only from lines before its own and
from itself."""
EVERY_MODULE = [(folder, path) for folder in ROOMS for path in modules(folder)]


@pytest.mark.parametrize(("folder", "path"), EVERY_MODULE, ids=lambda path: name(path, ROOT))
def test_no_import_leads_upward(folder: Path, path: Path) -> None:
    heights = {room: height for height, rooms in enumerate(ROOMS[folder]) for room in rooms}
    own = path.relative_to(folder).with_suffix("").parts[0]
    if own == "__init__":
        return
    for module in imports(path):
        package, _, rest = module.partition(".")
        room = rest.partition(".")[0]
        if package == folder.name and room and room != own:
            assert heights[room] < heights[own], f"{name(path, folder)} imports {module}"


def test_no_imports_go_in_a_circle() -> None:
    tree = structure.parse(structure.read("."))
    assert not structure.circles({name: structure.imported(module, tree) for name, module in tree.items()})


MAX_LINES = {"module": 500, "class": 350}


@pytest.mark.parametrize("path", [path for _, path in EVERY_MODULE], ids=lambda path: name(path, ROOT))
def test_no_module_or_class_is_large(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    assert len(source.splitlines()) <= MAX_LINES["module"]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ClassDef):
            n_lines = (node.end_lineno or node.lineno) - node.lineno + 1
            assert n_lines <= MAX_LINES["class"], f"{node.name} has {n_lines} lines"


def test_starting_the_server_imports_no_runtime_and_no_command_line() -> None:
    code = "import singlepass.lsp.app, singlepass_backends.client, sys; print(' '.join(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = RUNTIMES | HTTP | {"typer", "rich", "pathspec", "platformdirs", "psutil", "tomlkit"}
    assert not heavy & {module.partition(".")[0] for module in loaded.stdout.split()}
    # What only a job needs comes with the first job, and Python's `statistics` brings a lot along.
    assert not {"singlepass.core.planner", "singlepass.core.matcher", "statistics"} & {*loaded.stdout.split()}


def run(*command: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_formatting() -> None:
    run("ruff", "format", "--check", ".")


def test_lint() -> None:
    run("ruff", "check", ".")


def test_types() -> None:
    run("pyright", "--pythonpath", sys.executable)


def test_public_functions_and_classes_say_what_they_are() -> None:
    missing: list[str] = []
    for path in [*modules(SERVER), *modules(BACKENDS)]:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        if ast.get_docstring(tree) is None:
            missing.append(name(path, ROOT))
        for node in tree.body:
            named = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
            if named and not node.name.startswith("_") and ast.get_docstring(node) is None:
                missing.append(f"{name(path, ROOT)}: {node.name}")
    assert not missing


def test_versions_agree() -> None:
    import singlepass
    import singlepass_backends

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert singlepass.__version__ == singlepass_backends.__version__ == project["version"]
