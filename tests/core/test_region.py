"""The region of a request: which lines a cursor or a selection stands for, in many languages."""

import pytest
from singlepass.core.region import region_of

PYTHON = """\
import os

LIMIT = 3


# How many there are.
@cache
def count(rows):
    n = 0

    for row in rows:
        n += 1
    return n


class Order:
    \"\"\"What was bought.\"\"\"

    def total(self):
        def one(row):
            return row.price
        return sum(map(one, self.rows))

    def close(
        self,
        how,
    ):
        self.how = how


print(count([]))
"""
GO = """\
package a

// Size is the size.
func Size(s string) int {
\treturn len(s)
}

type T struct {
\tname string
}
"""
TYPESCRIPT = """\
import { a } from "./a";

export class Store {
  private rows = [];

  @logged()
  async load(id: string): Promise<void> {
    this.rows = await a(id);
  }
}

const double = (n: number) => {
  return 2 * n;
};
"""
RUBY = """\
module Shop
  class Order
    def total
      rows.sum
    end
  end
end
"""
RUST = """\
#[derive(Debug)]
pub struct Point {
    x: i32,
}

impl Point {
    /// The length.
    #[inline]
    pub fn length(&self) -> i32 {
        self.x.abs()
    }
}
"""
C = """\
static int
clamp(int n)
{
    if (n < 0) {
        return 0;
    }
    return n;
}
"""


@pytest.mark.parametrize(
    ("text", "cursor", "first", "last"),
    [
        (PYTHON, "    n = 0", "# How many there are.", "    return n"),
        (PYTHON, "        n += 1", "# How many there are.", "    return n"),
        (PYTHON, "def count(rows):", "# How many there are.", "    return n"),
        (PYTHON, "@cache", "# How many there are.", "    return n"),
        (PYTHON, "# How many there are.", "# How many there are.", "    return n"),
        (PYTHON, "    return n", "# How many there are.", "    return n"),
        (PYTHON, "            return row.price", "        def one(row):", "            return row.price"),
        (PYTHON, "        return sum(map(one, self.rows))", "    def total(self):", None),
        (PYTHON, "        self.how = how", "    def close(", "        self.how = how"),
        (PYTHON, '    """What was bought."""', "class Order:", "        self.how = how"),
        (GO, "\treturn len(s)", "// Size is the size.", "}"),
        (GO, "\tname string", "type T struct {", "}"),
        (TYPESCRIPT, "    this.rows = await a(id);", "  @logged()", "  }"),
        (TYPESCRIPT, "  private rows = [];", "export class Store {", "}"),
        (TYPESCRIPT, "  return 2 * n;", "const double = (n: number) => {", "};"),
        (RUBY, "      rows.sum", "    def total", "    end"),
        (RUBY, "    end", "    def total", "    end"),
        (RUST, "        self.x.abs()", "    /// The length.", "    }"),
        (RUST, "    x: i32,", "#[derive(Debug)]", "}"),
    ],
)
def test_a_cursor_stands_for_the_definition_around_it(
    text: str, cursor: str, first: str, last: str | None
) -> None:
    lines = text.splitlines()
    at = lines.index(cursor)
    region = region_of(lines, at, at)
    assert region is not None
    start, end = region
    assert (lines[start], lines[end - 1]) == (first, last or cursor)
    assert start <= at < end


@pytest.mark.parametrize(
    ("text", "cursor"),
    [(PYTHON, "import os"), (PYTHON, "LIMIT = 3"), (PYTHON, "print(count([]))"), (GO, "package a")],
)
def test_a_cursor_outside_of_definitions_stands_for_none(text: str, cursor: str) -> None:
    lines = text.splitlines()
    assert region_of(lines, lines.index(cursor), lines.index(cursor)) is None


def test_a_selection_is_the_region_without_blank_lines_at_its_borders() -> None:
    lines = ["", "a", "", "b", "", ""]
    assert region_of(lines, 0, 6) == (1, 4)
    assert region_of(lines, 1, 2) == (1, 2)
    assert region_of(lines, 4, 6) is None
    assert region_of(lines, 0, 99) == (1, 4)


@pytest.mark.parametrize("lines", [[], [""], ["", ""], ["x"]])
def test_there_may_be_nothing(lines: list[str]) -> None:
    for cursor in range(3):
        assert region_of(lines, cursor, cursor) is None


def test_a_blank_line_in_a_definition_belongs_to_it() -> None:
    lines = PYTHON.splitlines()
    at = lines.index("    n = 0") + 1
    assert lines[at] == ""
    found = region_of(lines, at, at)
    assert found is not None
    assert lines[found[0]] == "# How many there are."


def test_c_with_its_brace_on_a_line_of_its_own() -> None:
    lines = C.splitlines()
    at = lines.index("    return n;")
    found = region_of(lines, at, at)
    assert found is not None
    assert lines[slice(*found)] == lines[1:]
