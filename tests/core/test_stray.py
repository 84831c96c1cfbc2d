"""New lines that are no code: what is refused, and what only looks like it."""

import pytest
from singlepass.core.replies.stray import stray

OLD = ["def total(rows):", "    result = 0", "    return result"]


@pytest.mark.parametrize(
    "line",
    [
        "# ... existing code ...",
        "    // ... rest of the function",
        "# rest of the code remains the same",
        "/* ... */",
        "<!-- ... -->",
        "// existing code here",
        "# ...",
        "# [... rest of the file ...]",
        "# ... (rest of the code)",
        "// Other methods...",
        "# (rest of the class unchanged)",
        "{/* ... existing JSX ... */}",
        "-- ... existing columns ...",
        "// unchanged",
        "# code omitted for brevity",
        "# ... keep the rest of the file ...",
        "// The rest of the code remains unchanged.",
        "...",
        "…",
    ],
)
def test_a_placeholder_for_code_is_refused(line: str) -> None:
    problem = stray(["x = 1"], ["x = 2", line], ["x = 1", "y = 3"], "a.js")
    assert problem is not None
    assert line.strip() in problem
    # Where the document has it, it is no placeholder.
    assert stray(["x = 1", line], ["x = 2", line], ["x = 1", line], "a.js") is None


@pytest.mark.parametrize(
    ("path", "lines", "expected"),
    [
        ("src/a.py", ["x = 2", "src/a.py"], False),
        ("src/a.py", ["src/a.py "], False),
        ("src/a.py", ["x = 2", "    src/a.py", "a.py", "src/a.pyi"], True),
        ("README", ["x = 2", "README"], True),
    ],
)
def test_the_path_of_its_file_is_refused(path: str, lines: list[str], expected: bool) -> None:
    assert (stray(["x = 1"], lines, ["x = 1"], path) is None) == expected
    assert stray(["x = 1"], lines, ["x = 1", path], path) is None
    assert stray(["x = 1"], lines, ["x = 1"], path, is_constrained=True) is None


@pytest.mark.parametrize(
    "line",
    [
        "# remaining items are skipped",
        "# TODO: handle this...",
        "# existing keys win",
        "# Returns the rest of the rows that fit",
        "x = 1  # ... see above",
        "# other options are ignored",
        "# same as above but for lists",
        "# ... or else",
        "const all = { ...rest };",
        "return f(...args)",
    ],
)
def test_a_comment_is_no_placeholder(line: str) -> None:
    assert stray(["x = 1"], ["x = 2", line], ["x = 1", "y = 3"], "a.js") is None


@pytest.mark.parametrize(
    ("new", "is_placeholder"),
    [
        (["def total(rows):", "    ..."], True),  # for two lines
        (["def total(rows):", '    """Add."""', "    ..."], True),
        (["@abstractmethod", "def total(rows):", '    """Add."""', "    ..."], False),
        (["def other(rows):", "    log(rows)", "    store(rows)", "", "def total(rows):", "    ..."], True),
        (["def other(rows):", "    ...", "", *OLD], False),
        (["    ..."], True),  # the line of the definition is gone too
        (["class A:", "    def a(self):", "        ...", "", "    def b(self):", "        ..."], False),
        (["def total(rows, start):", "    ...", "    return result"], True),
        (["def total(rows):", "    result = 1", "    ..."], True),
        (["def total(rows):", "    result = 1", "..."], True),
        (["if rows:", "    ..."], True),
        (["for row in rows:", "    ..."], True),
        (["def total(rows, start):", "    ..."], True),
        (["        ..."], True),
    ],
)
def test_dots_are_a_body_in_python(new: list[str], is_placeholder: bool) -> None:
    assert (stray(OLD, new, OLD, "a.py") is not None) == is_placeholder


def test_a_body_that_does_nothing_may_become_dots() -> None:
    assert stray(OLD[2:], ["    ..."], OLD, "a.py") is not None
    assert stray(OLD[2:], ["    ..."], OLD, "a.pyi") is None
    for body in ("    pass", "    raise NotImplementedError"):
        assert stray([OLD[0], body], [OLD[0], "    ..."], OLD, "a.py") is None
    assert stray(OLD[:1], [OLD[0], "    ...", "", "", *OLD[:1]], OLD, "a.py") is None


@pytest.mark.parametrize(
    ("old", "new", "path", "is_refused"),
    [
        ("x = 1", ["'''", "x = 2", "'''"], "a.py", True),
        ("x = 1", ['"""', "x = 2", "y = 2", '"""'], "a.py", True),
        ("x = 1", ["'''", "x = 1", "'''"], "a.py", False),  # commented out
        ("pass", ['"""', "Does nothing.", '"""'], "a.py", False),
        ("# Does nothing.", ['"""', "Does nothing.", '"""'], "a.py", False),
        ("x = 1", ["x = 2", "END"], "a.py", True),
        ("x = 1", ["END", "x = 2"], "a.go", True),
        ("x = 1", ["x = 2", "EOF"], "a.ts", True),
        ("cat << EOF", ["cat << EOF", "x", "EOF"], "a.sh", False),
        ("x := 1;", ["x := 2;", "END"], "a.sql", False),
    ],
)
def test_quotes_or_a_word_around_the_new_lines_are_refused(
    old: str, new: list[str], path: str, is_refused: bool
) -> None:
    assert (stray([old], new, [old], path) is not None) == is_refused


@pytest.mark.parametrize(
    ("path", "document", "new", "is_refused"),
    [
        ("a.py", ["x = 1"], ["```python", "x = 2", "```"], True),
        ("a.py", ["x = 1"], ["x = 2", "```"], True),
        ("a.py", ["x = 1"], ["~~~", "x = 2", "~~~"], True),
        ("a.py", ["x = 1", "```"], ["x = 2", "```"], True),  # a second one of it
        ("a.py", ["x = 1"], ['"""', "```", "f()", "```", '"""', "x = 2"], False),
        ("README.md", ["x = 1"], ["```python", "x = 2", "```"], False),
        ("README.md", ["x = 1"], ["..."], False),
        ("README.md", ["x = 1"], ["<!-- ... rest of the file ... -->"], True),
    ],
)
def test_a_fence_around_the_new_lines_is_refused(
    path: str, document: list[str], new: list[str], is_refused: bool
) -> None:
    assert (stray(["x = 1"], new, document, path) is not None) == is_refused
