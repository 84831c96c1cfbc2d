"""Where a region's new text stands when a small model wrote more, less, or otherwise indented lines."""

import textwrap

import pytest
from singlepass.core.diff_parser import Hunk
from singlepass.core.edits import Snapshot, apply
from singlepass.core.lines import visible_lines
from singlepass.core.planner import PlannedHunk, plan
from singlepass.core.rewriting import region_to_rewrite

DOCUMENT = """\
import os
from typing import Any


class Store:
    \"\"\"Rows.\"\"\"

    def __init__(self, rows):
        self.rows = rows

    def get(self, key):
        # Find it.
        for row in self.rows:
            if row.key == key:
                return row
        return None

    def put(self, row):
        self.rows.append(row)
        return row


def helper(x):
    return x + 1
"""
OLD = """\
    def get(self, key):
        # Find it.
        for row in self.rows:
            if row.key == key:
                return row
        return None
"""
NEW = OLD.replace("return None", "return self.default")
DEDENTED = textwrap.dedent(NEW)
PUT = """\
    def put(self, row):
        self.rows.append(row)
        return row
"""
INIT = """\
    def __init__(self, rows):
        self.rows = rows
"""
CLASS = """\
class Store:
    \"\"\"Rows.\"\"\"

"""


def edited(text: str, cursor: str, new: str, path: str = "a.py") -> str | None:
    """The text after a reply with these lines for the definition around the line with `cursor`; None if it is
    refused."""
    lines = visible_lines(text)
    at = next(n for n, line in enumerate(lines) if cursor in line)
    region = region_to_rewrite(lines, at, at, "do")
    assert region is not None
    written = tuple(new.split("\n")[:-1])
    hunk = Hunk(0, path, tuple(lines[slice(*region)]), written, is_rewrite=True, is_constrained=True)
    found = plan(hunk, {path: Snapshot(path, 1, text)}, (path, *region), [])
    return apply(text, found.edits) if isinstance(found, PlannedHunk) else None


@pytest.mark.parametrize(
    "new",
    [
        NEW,
        DEDENTED,
        (
            "        def get(self, key):\n"
            "            # Find it.\n"
            "            for row in self.rows:\n"
            "                if row.key == key:\n"
            "                    return row\n"
            "            return self.default\n"
        ),
        (
            "      def get(self, key):\n"
            "          # Find it.\n"
            "          for row in self.rows:\n"
            "              if row.key == key:\n"
            "                  return row\n"
            "          return self.default\n"
        ),
        (
            "def get(self, key):\n"
            "  # Find it.\n"
            "  for row in self.rows:\n"
            "    if row.key == key:\n"
            "      return row\n"
            "  return self.default\n"
        ),
        (
            "  def get(self, key):\n"
            "    # Find it.\n"
            "    for row in self.rows:\n"
            "      if row.key == key:\n"
            "        return row\n"
            "    return self.default\n"
        ),
        (
            "def get(self, key):\n"
            "\t# Find it.\n"
            "\tfor row in self.rows:\n"
            "\t\tif row.key == key:\n"
            "\t\t\treturn row\n"
            "\treturn self.default\n"
        ),
        f"class Store:\n{NEW}",
        f"{CLASS}{NEW}",
        f"{CLASS}{INIT}\n{NEW}",
        f"class Store:\n{INIT}\n{NEW}",
        f"{CLASS}{INIT}\n{NEW}\n{PUT}",
        (
            "import os\n"
            "from typing import Any\n"
            "\n"
            "\n"
            f"{CLASS}{INIT}\n"
            f"{NEW}\n"
            f"{PUT}\n"
            "\n"
            "def helper(x):\n"
            "    return x + 1\n"
        ),
        f"{NEW}\n{PUT}",
        f"{DEDENTED}\ndef put(self, row):\n    self.rows.append(row)\n    return row\n",
        f"{NEW}\n    def put(self, row):\n",
        f"{INIT}\n{NEW}",
        f"def __init__(self, rows):\n    self.rows = rows\n\n{DEDENTED}",
        f"import os\nfrom typing import Any\n\n\nclass Store:\n{NEW}",
        (
            "def get(self, key):\n"
            "        # Find it.\n"
            "        for row in self.rows:\n"
            "            if row.key == key:\n"
            "                return row\n"
            "        return self.default\n"
        ),
        f"# a.py\n{NEW}",
    ],
)
def test_what_is_around_or_otherwise_indented_is_put_right(new: str) -> None:
    assert edited(DOCUMENT, "row.key", new) == DOCUMENT.replace(OLD, NEW)


@pytest.mark.parametrize(
    "new",
    [
        (
            "    def get(self, key):\n"
            "        return self._find(key) or None\n"
            "\n"
            "    def _find(self, key):\n"
            "        # Find it.\n"
            "        for row in self.rows:\n"
            "            if row.key == key:\n"
            "                return row\n"
            "        return None\n"
        ),
        (
            "    def _all(self):\n"
            "        return self.rows\n"
            "\n"
            "    def get(self, key):\n"
            "        # Find it.\n"
            "        for row in self._all():\n"
            "            if row.key == key:\n"
            "                return row\n"
            "        return self.default\n"
        ),
        f"    @cached\n{OLD}",
        (
            "    async def get(self, key):\n"
            "        # Find it.\n"
            "        for row in self.rows:\n"
            "            if row.key == key:\n"
            "                return row\n"
            "        return None\n"
        ),
        (
            "    def get(self, key: str, default: Any = None) -> Any:\n"
            "        # Find it.\n"
            "        for row in self.rows:\n"
            "            if row.key == key:\n"
            "                return row\n"
            "        return None\n"
        ),
        (
            "    def find(self, key):\n"
            "        # Find it.\n"
            "        for row in self.rows:\n"
            "            if row.key == key:\n"
            "                return row\n"
            "        return None\n"
        ),
        (
            "    def find(self, k: str):\n"
            "        matches = filter(lambda r: r.key == k, self.rows)\n"
            "        return next(matches, None)\n"
        ),
        (
            "    def get(self, key):\n"
            '        """Get it."""\n'
            "        # Find it.\n"
            "        for row in self.rows:\n"
            "            if row.key == key:\n"
            "                return row\n"
            "        return None\n"
        ),
        "    def get(self, key):\n        pass\n",
    ],
)
def test_what_may_be_meant_is_written(new: str) -> None:
    assert edited(DOCUMENT, "row.key", new) == DOCUMENT.replace(OLD, new)


@pytest.mark.parametrize(
    "new",
    [
        (
            "def get(self, key):\n"
            "    return self._find(key) or None\n"
            "\n"
            "def _find(self, key):\n"
            "    # Find it.\n"
            "    for row in self.rows:\n"
            "        if row.key == key:\n"
            "            return row\n"
            "    return None\n"
        ),
        (
            "@cached\n"
            "def get(self, key):\n"
            "    # Find it.\n"
            "    for row in self.rows:\n"
            "        if row.key == key:\n"
            "            return row\n"
            "    return None\n"
        ),
        (
            "def find(self, key):\n"
            "    # Find it.\n"
            "    for row in self.rows:\n"
            "        if row.key == key:\n"
            "            return row\n"
            "    return None\n"
        ),
        (
            "def find(self, k: str):\n"
            "    matches = filter(lambda r: r.key == k, self.rows)\n"
            "    return next(matches, None)\n"
        ),
    ],
)
def test_a_method_that_is_written_as_a_function_is_indented(new: str) -> None:
    assert edited(DOCUMENT, "row.key", new) == DOCUMENT.replace(OLD, textwrap.indent(new, "    "))


@pytest.mark.parametrize(
    "new",
    [
        f"class Store:\n    ...\n\n{NEW}",
        f"class Store:\n    # ... existing code ...\n\n{NEW}",
        f"class Store(Base):\n{NEW}",
        (
            f"{CLASS}{INIT}\n"
            f"{NEW}\n"
            "    def put(self, row):\n"
            "        self.rows.insert(0, row)\n"
            "        return row\n"
        ),
        f"{NEW}\n    def put(self, row):\n        self.rows.insert(0, row)\n        return row\n",
        (f"{NEW}\n    def put(self, row, at=0):\n        self.rows.insert(at, row)\n        return row\n"),
        f"{DEDENTED}\ndef put(self, row, at):\n    return 1\n",
        f"{NEW}\n\ndef helper(x):\n    return x + 1\n",
        f"    def __init__(self, rows):\n        self.rows = list(rows)\n\n{NEW}",
        (
            "    def __init__(self, rows, default):\n"
            "        self.rows = rows\n"
            "        self.default = default\n"
            "\n"
            f"{NEW}"
        ),
        "        return self.default\n",
        "    def get(self, key):\n        # Find it.\n        for row in self.rows:\n",
        (
            "        # Find it.\n"
            "        for row in self.rows:\n"
            "            if row.key == key:\n"
            "                return row\n"
            "        return self.default\n"
        ),
        ("for row in self.rows:\n    if row.key == key:\n        return row\nreturn self.default\n"),
        f"{NEW}\n{NEW}",
        f"{OLD}\n{NEW}",
        f"{DEDENTED}\n{DEDENTED}",
        "    # Find it.\n",
        "# The method get is now done.\n",
        "\n\n",
        "    def get(self, key):\n        # ... existing code ...\n        return self.default\n",
        "    def get(self, key):\n        # rest of code\n",
        "    def get(self, key):\n        ...\n        return self.default\n",
        "    def get(self, key):\n        // existing code\n        return self.default\n",
        f"    {DEDENTED}",
        f"{NEW}\n\ndef other():\n    return 1\n",
        (
            "    def get(self, key):\n"
            '        """Get it.\n'
            "        # Find it.\n"
            "        for row in self.rows:\n"
            "            if row.key == key:\n"
            "                return row\n"
            "        return None\n"
        ),
        (
            "    def get(self, key):\n"
            "        # Find it.\n"
            "        for row in self.rows:\n"
            "            if row.key == key:\n"
            "                return row\n"
            "        return foo(\n"
        ),
        f"{NEW}\n\nstore = Store([])\nprint(store.get(1))\n",
        f"{DEDENTED}\n\nstore = Store([])\nprint(store.get(1))\n",
        f'{DEDENTED}\n\nif __name__ == "__main__":\n    print(1)\n',
    ],
)
def test_what_is_more_or_less_than_the_region_is_refused(new: str) -> None:
    assert edited(DOCUMENT, "row.key", new) is None


GO = """\
package a

import (
	"fmt"
	"os"
)

// Get gets.
func Get(s string) string {
	return fmt.Sprint(s, os.Args)
}

func Put(s string) {
	fmt.Println(s)
}
"""
JAVA = """\
package a;

import java.util.List;

public class A {
    private int x;

    /** Gets. */
    public int get(int id) {
        return this.x + id;
    }

    public void put(int x) {
        this.x = x;
    }
}
"""
JS = """\
import a from "a";

const k = 1;

export function get(id) {
  const x = a(id);
  return x;
}

class B {
  run() {
    return get(1);
  }
}

module.exports = { get };
"""
PY = """\
#!/usr/bin/env python
# Licence.
\"\"\"Doc.\"\"\"

import os
from typing import (
    Any,
    List,
)


def get(k):
    x = os.environ[k]
    return x


def put(k, v):
    os.environ[k] = v


put("a", "b")
"""
C = """\
#include <stdio.h>

int y;

int get(int k)
{
    return k + y;
}

int put(int k)
{
    y = k;
    return k;
}
"""
RB = """\
class A
  def get(k)
    @x[k]
  end

  def put(k, v)
    @x[k] = v
  end
end
"""
RS = """\
use std::io;

pub struct A;

impl A {
    /// Gets.
    pub fn get(&self) -> u8 {
        1
    }
}
"""


@pytest.mark.parametrize(
    ("text", "path", "cursor", "new", "changes"),
    [
        (
            GO,
            "a.go",
            "return fmt",
            "// Get gets.\nfunc Get(s string) string {\n\treturn s\n}\n",
            [("\treturn fmt.Sprint(s, os.Args)\n", "\treturn s\n")],
        ),
        (
            GO,
            "a.go",
            "return fmt",
            "func Get(s string) string {\n\treturn s\n}\n",
            [("// Get gets.\n", ""), ("\treturn fmt.Sprint(s, os.Args)\n", "\treturn s\n")],
        ),
        (
            GO,
            "a.go",
            "return fmt",
            "package a\n\n// Get gets.\nfunc Get(s string) string {\n\treturn s\n}\n",
            [("\treturn fmt.Sprint(s, os.Args)\n", "\treturn s\n")],
        ),
        (
            GO,
            "a.go",
            "return fmt",
            (
                "package a\n"
                "\n"
                "import (\n"
                '\t"fmt"\n'
                '\t"os"\n'
                ")\n"
                "\n"
                "// Get gets.\n"
                "func Get(s string) string {\n"
                "\treturn s\n"
                "}\n"
            ),
            [("\treturn fmt.Sprint(s, os.Args)\n", "\treturn s\n")],
        ),
        (
            GO,
            "a.go",
            "return fmt",
            'package main\n\nimport "fmt"\n\n// Get gets.\nfunc Get(s string) string {\n\treturn s\n}\n',
            [("\treturn fmt.Sprint(s, os.Args)\n", "\treturn s\n")],
        ),
        (
            GO,
            "a.go",
            "return fmt",
            (
                "import (\n"
                '\t"strings"\n'
                ")\n"
                "\n"
                "// Get gets.\n"
                "func Get(s string) string {\n"
                "\treturn strings.ToUpper(s)\n"
                "}\n"
            ),
            [
                ('\t"os"\n)\n', '\t"os"\n)\nimport "strings"\n'),
                ("\treturn fmt.Sprint(s, os.Args)\n", "\treturn strings.ToUpper(s)\n"),
            ],
        ),
        (
            GO,
            "a.go",
            "return fmt",
            (
                'import "strings"\n'
                "\n"
                "// Get gets.\n"
                "func Get(s string) string {\n"
                "\treturn strings.ToUpper(s)\n"
                "}\n"
            ),
            [
                ('\t"os"\n)\n', '\t"os"\n)\nimport "strings"\n'),
                ("\treturn fmt.Sprint(s, os.Args)\n", "\treturn strings.ToUpper(s)\n"),
            ],
        ),
        (
            GO,
            "a.go",
            "return fmt",
            'import "fmt"\n\n// Get gets.\nfunc Get(s string) string {\n\treturn s\n}\n',
            [("\treturn fmt.Sprint(s, os.Args)\n", "\treturn s\n")],
        ),
        (
            GO,
            "a.go",
            "return fmt",
            (
                "import (\n"
                '\t"fmt"\n'
                '\t"os"\n'
                '\t"strings"\n'
                ")\n"
                "\n"
                "// Get gets.\n"
                "func Get(s string) string {\n"
                "\treturn strings.ToUpper(s)\n"
                "}\n"
            ),
            [
                ('\t"os"\n)\n', '\t"os"\n)\nimport "strings"\n'),
                ("\treturn fmt.Sprint(s, os.Args)\n", "\treturn strings.ToUpper(s)\n"),
            ],
        ),
        (
            GO,
            "a.go",
            "return fmt",
            '// Get gets.\nfunc Get(s string) string {\n\treturn s\n}\n\nfunc main() {\n\tGet("a")\n}\n',
            [("\treturn fmt.Sprint(s, os.Args)\n", '\treturn s\n}\n\nfunc main() {\n\tGet("a")\n')],
        ),
        (
            GO,
            "a.go",
            "return fmt",
            (
                "// Get gets.\n"
                "func Get(s string) string {\n"
                "\treturn s\n"
                "}\n"
                "\n"
                "func Put(s string, n int) {\n"
                "\tfmt.Println(n)\n"
                "}\n"
            ),
            None,
        ),
        (
            JAVA,
            "A.java",
            "return",
            "    /** Gets. */\n    public int get(int id) {\n        return id;\n    }\n",
            [("        return this.x + id;\n", "        return id;\n")],
        ),
        (
            JAVA,
            "A.java",
            "return",
            "/** Gets. */\npublic int get(int id) {\n    return id;\n}\n",
            [("        return this.x + id;\n", "        return id;\n")],
        ),
        (
            JAVA,
            "A.java",
            "return",
            "/** Gets. */\npublic int get(int id) {\n  return id;\n}\n",
            [("        return this.x + id;\n", "        return id;\n")],
        ),
        (
            JAVA,
            "A.java",
            "return",
            (
                "public class A {\n"
                "    /** Gets. */\n"
                "    public int get(int id) {\n"
                "        return id;\n"
                "    }\n"
                "}\n"
            ),
            [("        return this.x + id;\n", "        return id;\n")],
        ),
        (
            JAVA,
            "A.java",
            "return",
            (
                "public class A {\n"
                "    private int x;\n"
                "\n"
                "    /** Gets. */\n"
                "    public int get(int id) {\n"
                "        return id;\n"
                "    }\n"
                "}\n"
            ),
            [("        return this.x + id;\n", "        return id;\n")],
        ),
        (
            JAVA,
            "A.java",
            "return",
            "public class A {\n    /** Gets. */\n    public int get(int id) {\n        return id;\n    }\n",
            [("        return this.x + id;\n", "        return id;\n")],
        ),
        (
            JAVA,
            "A.java",
            "return",
            (
                "import java.util.List;\n"
                "import java.util.Map;\n"
                "\n"
                "    /** Gets. */\n"
                "    public int get(int id) {\n"
                "        return id;\n"
                "    }\n"
            ),
            [
                ("import java.util.List;\n", "import java.util.List;\nimport java.util.Map;\n"),
                ("        return this.x + id;\n", "        return id;\n"),
            ],
        ),
        (
            JAVA,
            "A.java",
            "return",
            (
                "package a;\n"
                "\n"
                "import java.util.List;\n"
                "\n"
                "public class A {\n"
                "    private int x;\n"
                "\n"
                "    /** Gets. */\n"
                "    public int get(int id) {\n"
                "        return id;\n"
                "    }\n"
                "}\n"
            ),
            [("        return this.x + id;\n", "        return id;\n")],
        ),
        (
            JAVA,
            "A.java",
            "return",
            (
                "    /** Gets. */\n"
                "    public int get(int id) {\n"
                "        return id;\n"
                "    }\n"
                "\n"
                "    public int get(int id, int n) {\n"
                "        return n;\n"
                "    }\n"
            ),
            [
                (
                    "        return this.x + id;\n",
                    "        return id;\n    }\n\n    public int get(int id, int n) {\n        return n;\n",
                )
            ],
        ),
        (
            JAVA,
            "A.java",
            "return",
            (
                "    /** Gets. */\n"
                "    public int get(int id) {\n"
                "        return id;\n"
                "    }\n"
                "\n"
                "    public void put(int y) {\n"
                "        this.x = y;\n"
                "    }\n"
            ),
            None,
        ),
        (JAVA, "A.java", "return", "        return id;\n", None),
        (JAVA, "A.java", "return", "        return id;\n    }\n", None),
        (JAVA, "A.java", "return", "    public int get(int id) {\n        return id;\n", None),
        (
            JAVA,
            "A.java",
            "return",
            (
                "    private int y;\n"
                "\n"
                "    /** Gets. */\n"
                "    public int get(int id) {\n"
                "        return id;\n"
                "    }\n"
            ),
            [
                ("    private int x;\n\n", "    private int x;\n\n    private int y;\n\n"),
                ("        return this.x + id;\n", "        return id;\n"),
            ],
        ),
        (
            JAVA,
            "A.java",
            "return",
            (
                "public class A {\n"
                "    // existing code\n"
                "\n"
                "    /** Gets. */\n"
                "    public int get(int id) {\n"
                "        return id;\n"
                "    }\n"
                "\n"
                "    // ...\n"
                "}\n"
            ),
            None,
        ),
        (
            JAVA,
            "A.java",
            "return",
            "    /** Gets. */\n    public int find(\n            int id) {\n        return id;\n    }\n",
            [
                (
                    "    public int get(int id) {\n        return this.x + id;\n",
                    "    public int find(\n            int id) {\n        return id;\n",
                )
            ],
        ),
        (
            JS,
            "a.js",
            "const x",
            "export const get = (id) => a(id);\n",
            [
                (
                    "export function get(id) {\n  const x = a(id);\n  return x;\n}\n",
                    "export const get = (id) => a(id);\n",
                )
            ],
        ),
        (
            JS,
            "a.js",
            "const x",
            "function get(id) {\n  return a(id);\n}\n",
            [
                (
                    "export function get(id) {\n  const x = a(id);\n  return x;\n",
                    "function get(id) {\n  return a(id);\n",
                )
            ],
        ),
        (
            JS,
            "a.js",
            "const x",
            "export function get(id) {\n  return a(id);\n}\n\nmodule.exports = { get };\n",
            [("  const x = a(id);\n  return x;\n", "  return a(id);\n")],
        ),
        (
            JS,
            "a.js",
            "return get(1)",
            "run() {\n  return get(2);\n}\n",
            [("    return get(1);\n", "    return get(2);\n")],
        ),
        (
            JS,
            "a.js",
            "return get(1)",
            "class B {\n  run() {\n    return get(2);\n  }\n}\n",
            [("    return get(1);\n", "    return get(2);\n")],
        ),
        (JS, "a.js", "return get(1)", "class B extends C {\n  run() {\n    return get(2);\n  }\n}\n", None),
        (
            JS,
            "a.js",
            "const x",
            'import b from "b";\nimport a from "a";\n\nexport function get(id) {\n  return b(id);\n}\n',
            [
                ('import a from "a";\n', 'import a from "a";\nimport b from "b";\n'),
                ("  const x = a(id);\n  return x;\n", "  return b(id);\n"),
            ],
        ),
        (
            JS,
            "a.js",
            "const x",
            "function h(id) {\n  return a(id);\n}\n\nexport function get(id) {\n  return h(id);\n}\n",
            [
                ("const k = 1;\n\n", "const k = 1;\n\nfunction h(id) {\n  return a(id);\n}\n\n"),
                ("  const x = a(id);\n  return x;\n", "  return h(id);\n"),
            ],
        ),
        (
            JS,
            "a.js",
            "const x",
            "const k2 = 2;\n\nexport function get(id) {\n  return h(id);\n}\n",
            [
                ("const k = 1;\n\n", "const k = 1;\n\nconst k2 = 2;\n\n"),
                ("  const x = a(id);\n  return x;\n", "  return h(id);\n"),
            ],
        ),
        (JS, "a.js", "const x", "const k = 2;\n\nexport function get(id) {\n  return h(id);\n}\n", None),
        (
            PY,
            "a.py",
            "x = os",
            (
                "#!/usr/bin/env python\n"
                "# Licence.\n"
                '"""Doc."""\n'
                "\n"
                "import os\n"
                "from typing import Any, List\n"
                "\n"
                "\n"
                "def get(k):\n"
                "    return os.getenv(k)\n"
            ),
            [("    x = os.environ[k]\n    return x\n", "    return os.getenv(k)\n")],
        ),
        (
            PY,
            "a.py",
            "x = os",
            "# Licence.\nimport os\nimport re\n\n\ndef get(k):\n    return os.getenv(k)\n",
            [
                ("    List,\n)\n", "    List,\n)\nimport re\n"),
                ("    x = os.environ[k]\n    return x\n", "    return os.getenv(k)\n"),
            ],
        ),
        (
            PY,
            "a.py",
            "x = os",
            "from __future__ import annotations\n\ndef get(k):\n    return os.getenv(k)\n",
            [
                ('"""Doc."""\n\n', '"""Doc."""\n\nfrom __future__ import annotations\n'),
                ("    x = os.environ[k]\n    return x\n", "    return os.getenv(k)\n"),
            ],
        ),
        (
            PY,
            "a.py",
            "x = os",
            "    def get(k):\n        return os.getenv(k)\n",
            [("    x = os.environ[k]\n    return x\n", "    return os.getenv(k)\n")],
        ),
        (
            PY,
            "a.py",
            "x = os",
            'def get(k):\n    return os.getenv(k)\n\n\nput("a", "b")\n',
            [("    x = os.environ[k]\n    return x\n", "    return os.getenv(k)\n")],
        ),
        (PY, "a.py", "x = os", 'def get(k):\n    return os.getenv(k)\n\n\nprint(get("a"))\n', None),
        (
            PY,
            "a.py",
            "x = os",
            "def get(k):\n    def put(k):\n        return k\n\n    return put(k)\n",
            [
                (
                    "    x = os.environ[k]\n    return x\n",
                    "    def put(k):\n        return k\n\n    return put(k)\n",
                )
            ],
        ),
        (PY, "a.py", "x = os", "class Getter:\n    def get(self, k):\n        return k\n", None),
        (PY, "a.py", "x = os", 'def test_get():\n    assert get("a")\n', None),
        (
            PY,
            "a.py",
            "x = os",
            "from typing import List\ndef get(k):\n    return os.getenv(k)\n",
            [("    x = os.environ[k]\n    return x\n", "    return os.getenv(k)\n")],
        ),
        (
            PY,
            "a.py",
            "x = os",
            "def get(k):\n    '''It's.'''\n    return k\n",
            [("    x = os.environ[k]\n    return x\n", "    '''It's.'''\n    return k\n")],
        ),
        (
            C,
            "a.c",
            "return k + y",
            "#include <stdio.h>\n#include <math.h>\n\nint get(int k)\n{\n    return abs(k);\n}\n",
            [
                ("#include <stdio.h>\n", "#include <stdio.h>\n#include <math.h>\n"),
                ("    return k + y;\n", "    return abs(k);\n"),
            ],
        ),
        (
            C,
            "a.c",
            "return k + y",
            "int get(int k) {\n    return k;\n}\n",
            [("int get(int k)\n{\n    return k + y;\n", "int get(int k) {\n    return k;\n")],
        ),
        (
            C,
            "a.c",
            "return k + y",
            "int y;\n\nint get(int k)\n{\n    return k;\n}\n",
            [("    return k + y;\n", "    return k;\n")],
        ),
        (RB, "a.rb", "@x[k]", "def get(k)\n  @x.fetch(k)\nend\n", [("    @x[k]\n", "    @x.fetch(k)\n")]),
        (
            RB,
            "a.rb",
            "@x[k]",
            "class A\n  def get(k)\n    @x.fetch(k)\n  end\nend\n",
            [("    @x[k]\n", "    @x.fetch(k)\n")],
        ),
        (
            RB,
            "a.rb",
            "@x[k]",
            'require "json"\n\n  def get(k)\n    @x.fetch(k)\n  end\n',
            [("class A\n", 'require "json"\n\nclass A\n'), ("    @x[k]\n", "    @x.fetch(k)\n")],
        ),
        (
            RS,
            "a.rs",
            "        1",
            "use std::fs;\n\nimpl A {\n    /// Gets.\n    pub fn get(&self) -> u8 {\n        2\n    }\n}\n",
            [("use std::io;\n", "use std::io;\nuse std::fs;\n"), ("        1\n", "        2\n")],
        ),
        (
            RS,
            "a.rs",
            "        1",
            "/// Gets.\npub fn get(&self) -> u8 {\n    2\n}\n",
            [("        1\n", "        2\n")],
        ),
    ],
)
@pytest.mark.parametrize(
    ("front", "eol", "has_end"), [("", "\n", True), ("\ufeff", "\r\n", True), ("", "\n", False)]
)
def test_other_languages(
    text: str,
    path: str,
    cursor: str,
    new: str,
    changes: list[tuple[str, str]] | None,
    front: str,
    eol: str,
    has_end: bool,
) -> None:
    """`changes` are what is to be replaced in the text, and by what; None if the reply is to be refused."""
    wanted = text
    for old, other in changes or ():
        assert wanted.count(old) == 1
        wanted = wanted.replace(old, other)

    def form(lines: str) -> str:
        return front + (lines if has_end else lines.removesuffix("\n")).replace("\n", eol)

    assert edited(form(text), cursor, new, path) == (None if changes is None else form(wanted))
