"""Which file a line of a reply names: one table of the ways in which models write paths."""

import pytest
from singlepass.core.replies.paths import Named, fitting, named

FILES = {
    "src/app/views.py": "",
    "src/app/models.py": "",
    "Makefile": "",
    "docs/read me.md": "",
    "tests/views_test.py": "",
}
VIEWS = Named("src/app/views.py", True)


@pytest.mark.parametrize(
    "line",
    [
        "src/app/views.py",
        "  src/app/views.py  ",
        "`src/app/views.py`",
        "**src/app/views.py**:",
        "### File: `src/app/views.py`",
        "#### 2. Update `src/app/views.py`",
        "3. src/app/views.py",
        "- `src/app/views.py`:",
        "Then change src/app/views.py like this:",
        "In `src/app/views.py`, add the import:",
        "[views.py](src/app/views.py)",
        '<file path="src/app/views.py">',
        "<path>src/app/views.py</path>",
        "```python src/app/views.py",
        "```python:src/app/views.py",
        '```python title="src/app/views.py"',
        "# src/app/views.py",
        "// src/app/views.py",
        "--- a/src/app/views.py",
        "+++ b/src/app/views.py",
        "diff --git a/src/app/views.py b/src/app/views.py",
        "*** Update File: src/app/views.py",
        "./src/app/views.py",
        "app/views.py",
        "views.py",
        "myproject/src/app/views.py",
        "/home/ann/work/myproject/src/app/views.py",
        "file:///home/ann/src/app/views.py",
        "src\\app\\views.py",
        "C:\\work\\src\\app\\views.py",
        "src/app/views.py:12",
        "src/app/views.py (lines 1-3)",
        "SRC/App/Views.py",
    ],
)
def test_a_line_names_the_one_file_that_fits_it(line: str) -> None:
    assert named(line, FILES) == VIEWS


@pytest.mark.parametrize(
    "line", ["Makefile", "`Makefile`:", "In the Makefile:", "docs/read me.md", "`read me.md`"]
)
def test_paths_without_ending_and_with_spaces(line: str) -> None:
    found = named(line, FILES)
    assert found is not None
    assert found.is_known


@pytest.mark.parametrize(
    "line",
    [
        *(
            "Edit:",
            "...",
            "1.",
            "</think>",
            "Sure, here is the change.",
            "e.g. like this:",
            "",
            "```python",
            "```",
        ),
        *(
            "path/of/file.py",
            "path/to/your/file.ts",
            "file.py",
            "`filename.js`",
            "See https://example.org/a/b.html",
        ),
        "As in src/app/models.py, src/app/views.py needs the import:",
        "This uses Node.js:",
        "Version 1.2 is out",
    ],
)
def test_everything_else_is_prose(line: str) -> None:
    assert named(line, FILES) is None


@pytest.mark.parametrize("line", ["src/app/other.py", "In `helpers.ts`:", "### settings.toml"])
def test_a_path_that_no_file_fits_is_a_file_that_may_not_be_edited(line: str) -> None:
    found = named(line, FILES)
    assert found is not None
    assert not found.is_known


def test_a_line_far_from_the_block_names_a_file_only_as_a_whole() -> None:
    assert named("### `src/app/views.py`", FILES, alone=True) == VIEWS
    assert named("Then change src/app/views.py like this:", FILES, alone=True) is None


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("a.py", ["x/a.py", "y/a.py"]),
        ("x/a.py", ["x/a.py"]),
        ("project/y/a.py", ["y/a.py"]),
        ("/home/z/a.py", []),
        ("z/a.py", []),
        ("b.py", ["b.py"]),
        ("any/folder/b.py", ["b.py"]),
        ("ab.py", []),
        ("path/of/b.py", []),
    ],
)
def test_a_suffix_either_way(written: str, expected: list[str]) -> None:
    assert fitting(written, ["x/a.py", "y/a.py", "b.py"]) == expected


def test_a_known_path_fits_itself_whatever_it_looks_like() -> None:
    for path in ("back\\slash.py", "path/of/file.py", " x", "./a.py"):
        assert fitting(path, [path, "a.py"]) == [path]
