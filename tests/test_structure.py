"""`benchmarks/structure.py`: what it counts, on a tree that is small enough to count by hand."""

import structure

TREE = {
    "server/app/__init__.py": '"""The app."""\n',
    "server/app/main.py": (
        '"""The beginning | of all.\n\nMore of it."""\n\n'
        "from app.core import edits\nfrom app.core.lines import Line\nimport os\n\n"
        "class Main:\n"
        '    """Runs."""\n\n'
        "    text = '''one\ntwo'''\n"
        '    """A field."""\n\n'
        "    def run(self):  # now\n        import backend.drive\n"
    ),
    "server/app/core/__init__.py": '"""Pure."""\n',
    "server/app/core/edits.py": '"""Edits."""\nfrom app.core import lines\n',
    "server/app/core/lines.py": (
        '"""Lines."""\nfrom typing import TYPE_CHECKING\nfrom app.core.edits import Edit\n'
        "if TYPE_CHECKING:\n    from app import main\n"
    ),
    "backends/backend/__init__.py": '"""The backend."""\n',
    "backends/backend/drive.py": '"""Drives."""\n\n# nothing\n',
}


def test_what_is_counted() -> None:
    found = structure.measure(TREE)
    assert found.n_modules == 7
    assert found.n_lines == {"server": 13, "backends": 0}
    # main → edits, lines, drive; edits → lines; lines → edits, the other for the type checker only.
    assert found.n_imports == 5
    assert found.n_between_folders == found.n_between_later_folders == 3
    assert found.n_folder_pairs == 2
    assert found.circles == [["app.core.edits", "app.core.lines"]]
    assert found.n_levels == 2
    assert found.largest_classes == [structure.Size("server/app/main.py: Main", 9, 1)]
    assert found.largest_modules[0] == structure.Size("server/app/main.py", 17)


def test_an_import_counts_by_where_its_modules_lie_later() -> None:
    moved = {
        "server/app/core/edits.py": "server/app/main/edits.py",
        "server/app/main.py": "server/app/main/main.py",
    }
    found = structure.measure(TREE, moved)
    assert found.n_between_folders == 3
    assert found.n_between_later_folders == 4  # main → lines, drive; edits → lines; lines → edits


def test_the_map_is_made_of_the_first_paragraphs() -> None:
    page = f"# Before\n{structure.BEFORE}old\n{structure.AFTER}\nAfter\n"
    made = structure.with_map(page, TREE)
    assert made.startswith("# Before\n")
    assert made.endswith("\nAfter\n")
    assert "### `server/app`\n\nThe app.\n\n| module | |\n|---|---|\n" in made
    assert "| `main.py` | The beginning \\| of all. |\n" in made
    assert "old" not in made
    assert structure.with_map(made, TREE) == made


def test_the_checkout_is_read() -> None:
    found = structure.measure(structure.read("."))
    assert found.n_modules > 100
    assert found.n_lines["server"] > 5_000
