"""What becomes of a document by blocks as models write them: each case is a text, the old and the new lines,
and the text that the user wanted, or None where it cannot be known and nothing may change."""

from collections.abc import Sequence

import pytest
from singlepass.core.diff_parser import Hunk
from singlepass.core.edits import Snapshot, apply
from singlepass.core.matcher import Ambiguous, Differs, Found, NotFound, match
from singlepass.core.planner import PlannedHunk, plan

Case = tuple[str, str, str, str | None]


def after(text: str, old: str, new: str) -> str | None:
    """The text with the block applied; None where it is refused."""
    hunk = Hunk(0, "a.x", tuple(old.split("\n")), tuple(new.split("\n")))
    planned = plan(hunk, {"a.x": Snapshot("file:///a.x", 1, text)}, None, ())
    if not isinstance(planned, PlannedHunk):
        assert planned.message
        return None
    return apply(text, planned.edits)


def check(case: Case, eol: str) -> None:
    text, old, new, expected = case
    wanted = expected and expected.replace("\n", eol)
    assert after(text.replace("\n", eol), old, new) == wanted


# Indentation: what the first quoted line lost, and what the others tell.

METHOD = "class A:\n    def f(self):\n        if a:\n            x()\n        y()\n"
ELIF = METHOD.replace("        y()", "        elif b:\n            z()\n        y()")
ELSE = ELIF.replace("elif b", "else")
TRY = "def f():\n    try:\n        x()\n    except A:\n        y()\n"
BRACES = "function f() {\n  if (a) {\n    x();\n  }\n}\n"
SHAPE = "class Shape {\n    int n;\n    double area() { return 0; }\n};\n"
GUARD = "func f() {\n\tif a {\n\t\tx()\n\t}\n\ty()\n}\n"
INDENTATION: dict[str, Case] = {
    "new lines alone lost theirs, in a bracket": (
        SHAPE,
        "    double area() { return 0; }",
        "virtual double area() const = 0;",
        SHAPE.replace("double area() { return 0; }", "virtual double area() const = 0;"),
    ),
    "a block of new lines alone lost theirs": (
        GUARD,
        "\tif a {\n\t\tx()\n\t}",
        "if a && b {\n\tx()\n}",
        GUARD.replace("if a", "if a && b"),
    ),
    "other lines than the old ones, in a bracket": (
        BRACES,
        "  if (a) {\n    x();\n  }",
        "const b = x();\nreturn b;",
        "function f() {\n  const b = x();\n  return b;\n}\n",
    ),
    "a block of Python between lines as deep": (
        "def f(a):\n    b = []\n    for c in a:\n        b.append(c)\n    return b\n",
        "    for c in a:\n        b.append(c)",
        "for c in a:\n    if c:\n        b.append(c)",
        "def f(a):\n    b = []\n    for c in a:\n        if c:\n            b.append(c)\n    return b\n",
    ),
    "a last method that becomes a function": (
        METHOD + "    def g(self):\n        y()\n",
        "    def g(self):\n        y()",
        "def g():\n    y()",
        METHOD + "def g():\n    y()\n",
    ),
    "elif behind the body": (
        METHOD,
        "if a:\n            x()",
        "if a:\n            x()\n        elif b:\n            z()",
        ELIF,
    ),
    "else that lost its own too": (
        METHOD,
        "if a:\n            x()",
        "if a:\n            x()\nelse:\n            z()",
        ELSE,
    ),
    "else with a body of another depth": (
        METHOD,
        "if a:\n            x()",
        "if a:\n            x()\nelse:\n    z()",
        None,
    ),
    "except": (
        TRY,
        "try:\n        x()",
        "try:\n        x()\n    except B:\n        z()",
        TRY.replace("    except A", "    except B:\n        z()\n    except A"),
    ),
    "braces": (
        BRACES,
        "if (a) {\n    x();\n  }",
        "if (a) {\n    x();\n  } else {\n    y();\n  }",
        BRACES.replace("  }\n}", "  } else {\n    y();\n  }\n}"),
    ),
    "tabs": (
        METHOD.replace("    ", "\t"),
        "if a:\n\t\t\tx()",
        "if a:\n\t\t\tx()\n\t\telif b:\n\t\t\tz()",
        ELIF.replace("    ", "\t"),
    ),
    "a method before": (
        METHOD,
        "def f(self):\n        if a:",
        "def g(self):\n        pass\n\n    def f(self):\n        if a:",
        METHOD.replace("    def f", "    def g(self):\n        pass\n\n    def f"),
    ),
    "half of the indentation, not the first alone": (
        "    a:\n        b\nc\n",
        "  a:\n    b\nc",
        "  a:\n    b\n    d\nc",
        "    a:\n        b\n        d\nc\n",
    ),
    "one line, all shifted": (
        METHOD,
        "y()",
        "y()\nif c:\n    z()",
        METHOD + "        if c:\n            z()\n",
    ),
    "one line, the others as in the document": (
        METHOD,
        "y()",
        "y()\n        if c:\n            z()",
        METHOD + "        if c:\n            z()\n",
    ),
    "one line that opens a block, all shifted": (
        METHOD,
        "if a:",
        "if b:\n    w()",
        METHOD.replace("if a:", "if b:\n            w()"),
    ),
    "one line that opens a block, as in the document": (
        METHOD,
        "if a:",
        "if b:\n            w()",
        METHOD.replace("if a:", "if b:\n            w()"),
    ),
    "one statement, the next at the document's depth": (
        "def f():\n    return x\n",
        "return x",
        "y = 1\n    return y",
        "def f():\n    y = 1\n    return y\n",
    ),
    "one line, and no reading that holds": (
        "def f():\n    return x\n",
        "return x",
        "y = 1\n  return y",
        None,
    ),
    "one line, and brackets": (
        "def f():\n    x = 1\n",
        "x = 1",
        "x = [\n    1,\n]",
        "def f():\n    x = [\n        1,\n    ]\n",
    ),
    "one line, and brackets of which two levels or one may be meant": (
        "def f():\n    x = 1\n",
        "x = 1",
        "x = [\n        1,\n    ]",
        None,
    ),
    "spaces below a line without indentation, in a text with tabs": (
        "all:\n\tcc a.c\n\nclean:\n\trm a\n",
        "clean:",
        "install:\n    cp a /bin\n\nclean:",
        "all:\n\tcc a.c\n\ninstall:\n\tcp a /bin\n\nclean:\n\trm a\n",
    ),
    "two levels of spaces, in a text with tabs": (
        "/*\n * a\n */\nint a()\n{\n\tb();\n}\n",
        "int a()",
        "int c()\n{\n  if (d)\n    e();\n}\n\nint a()",
        "/*\n * a\n */\nint c()\n{\n\tif (d)\n\t\te();\n}\n\nint a()\n{\n\tb();\n}\n",
    ),
    "new lines alone lost theirs, all of one depth": (
        "def f():\n    x()\n    y()\n    z()\n",
        "    x()\n    y()",
        "x(1)\nif a:\n    y()",
        "def f():\n    x(1)\n    if a:\n        y()\n    z()\n",
    ),
    "the first new line alone lost its own": (
        "def f():\n    x()\n    y()\n    z()\n",
        "    x()\n    y()",
        "x(1)\n    y()",
        "def f():\n    x(1)\n    y()\n    z()\n",
    ),
    "a line that is moved out on purpose": (
        "for a in b:\n    x()\n    y()\nz()\n",
        "    y()",
        "y()",
        "for a in b:\n    x()\ny()\nz()\n",
    ),
    "a function that is moved out on purpose": (
        "class A:\n    x = 1\n\n    def f():\n        pass\n",
        "    def f():\n        pass",
        "def f():\n    pass",
        "class A:\n    x = 1\n\ndef f():\n    pass\n",
    ),
    "spaces beside tabs, in a text with tabs": (
        "func a() {\n\tb()\n}\n",
        "\tb()\n}",
        "\tb()\n}\n\nfunc c() {\n    d()\n}",
        "func a() {\n\tb()\n}\n\nfunc c() {\n\td()\n}\n",
    ),
    "a tab in a text with spaces": (
        "def f():\n    a()\n",
        "def f():",
        "def f():\n\tif b:\n\t\tc()",
        "def f():\n    if b:\n        c()\n    a()\n",
    ),
    "spaces of no level, in a text with tabs": (
        "a:\n\tb\nc\n",
        "c",
        "c\n   d",
        "a:\n\tb\nc\n   d\n",
    ),
    "spaces, in a text with both": (
        "a:\n\tb\n\tb\n    d\nc\n",
        "c",
        "c\n    d",
        "a:\n\tb\n\tb\n    d\nc\n    d\n",
    ),
    "one line that is as deep in either reading, and none holds": (
        "f {\n\tb;\n    z\n}\n",
        "  b;",
        "b;\n  return x",
        None,
    ),
    "one column of a block comment is no level": (
        "/*\n * a\n */\nint a;\n/*\n * b\n */\nint b;\n",
        "    int b;",
        "    if (a) {\n        int b;\n    }",
        "/*\n * a\n */\nint a;\n/*\n * b\n */\nif (a) {\n    int b;\n}\n",
    ),
}

# Lines beside the quoted ones that the new lines have too.

TOTAL = (
    "import x\n\n@cached\ndef total(rows):\n    amounts = load(rows)\n    for row in rows:\n"
    "        add(row)\n    return sum(amounts)\n\n\ndef other():\n    pass\n"
)
BODY = "    amounts = load(rows)\n    for row in rows:\n        add(row)\n    return sum(amounts)"
CLASS = "class A {\n  foo() {\n    a();\n    return 1;\n  }\n}\n"
SPACE = "namespace x {\nvoid f() {\n  a();\n}\n}\n"
SWITCH = "switch (a) {\n  case 1:\n    x();\n    break;\n}\n"
KEEPER = (
    'class A:\n    """Keeps."""\n\n    def f(self):\n'
    "        self.a = 1\n        self.b = 2\n        self.c = 3\n"
)
LONGER = KEEPER.replace("A:", "A(B):").replace("        self.a", "        go()\n        self.a")
LOOP = "int f() {\n    for (int i = 0; i < n; ++i) {\n        sum += a[i];\n    }\n    return sum;\n}\n"
READ = "func f() error {\n\td, err := read()\n\tif err != nil {\n\t\treturn err\n\t}\n\treturn d\n}\n"
REPEATED: dict[str, Case] = {
    "a loop of which the head alone is quoted": (
        LOOP,
        "    for (int i = 0; i < n; ++i) {",
        "    for (int one : a) {\n        sum += one;\n    }",
        None,
    ),
    "a condition that is taken away": (
        LOOP,
        "    for (int i = 0; i < n; ++i) {",
        "    const int i = 0;",
        LOOP.replace("for (int i = 0; i < n; ++i) {", "const int i = 0;"),
    ),
    "the same condition as that behind": (
        READ,
        "\td, err := read()",
        '\td, err := read()\n\tif err != nil {\n\t\treturn fmt.Errorf("read: %w", err)\n\t}',
        None,
    ),
    "another condition than that behind": (
        READ,
        "\td, err := read()",
        "\td, err := read()\n\tif d == nil {\n\t\treturn nil\n\t}",
        READ.replace("read()\n", "read()\n\tif d == nil {\n\t\treturn nil\n\t}\n"),
    ),
    "the whole function": (
        TOTAL,
        "def total(rows):",
        "def total(rows, start=0):\n" + BODY,
        TOTAL.replace("(rows):", "(rows, start=0):"),
    ),
    "the whole function with a line more": (
        TOTAL,
        "def total(rows):",
        "def total(rows):\n" + BODY.replace("    return", "    log(amounts)\n    return"),
        TOTAL.replace("    return", "    log(amounts)\n    return"),
    ),
    "the whole function with a line at its end": (
        TOTAL.replace("    return sum(amounts)", "    store(amounts)"),
        "def total(rows):",
        "def total(rows):\n" + BODY.replace("    return sum(amounts)", "    store(amounts)\n    done()"),
        TOTAL.replace("    return sum(amounts)", "    store(amounts)\n    done()"),
    ),
    "the whole function, a line changed": (
        TOTAL,
        "def total(rows):",
        "def total(rows):\n" + BODY.replace("sum(amounts)", "sum(amounts) + 1"),
        None,
    ),
    "the whole function, all else": (
        TOTAL,
        "def total(rows):",
        "def total(rows):\n    return sum(rows)",
        None,
    ),
    "the whole function, in braces": (
        CLASS,
        "  foo() {",
        "  foo(x) {\n    a();\n    return 1;\n  }",
        CLASS.replace("foo()", "foo(x)"),
    ),
    "the whole function in braces, a line changed": (
        CLASS,
        "  foo() {",
        "  foo(x) {\n    a();\n    return x;\n  }",
        None,
    ),
    "the first line of the body": (
        TOTAL,
        "def total(rows):",
        'def total(rows):\n    """Sum."""\n    amounts = load(rows)',
        TOTAL.replace("(rows):\n", '(rows):\n    """Sum."""\n', 1),
    ),
    "the return": (
        TOTAL,
        "        add(row)",
        "        add(row)\n        check(row)\n    return sum(amounts)",
        TOTAL.replace("add(row)\n", "add(row)\n        check(row)\n"),
    ),
    "the decorator": (
        TOTAL,
        "def total(rows):",
        "@cached\ndef total(rows, a):",
        TOTAL.replace("(rows):", "(rows, a):"),
    ),
    "the decorator behind another": (
        TOTAL,
        "def total(rows):",
        "@traced\n@cached\ndef total(rows):",
        TOTAL.replace("@cached", "@traced\n@cached"),
    ),
    "the decorator before another": (
        TOTAL,
        "def total(rows):",
        "@cached\n@traced\ndef total(rows):",
        TOTAL.replace("@cached", "@cached\n@traced"),
    ),
    "the next function": (
        TOTAL,
        "    return sum(amounts)",
        "    return sum(amounts)\n\n\ndef third():\n    pass\n\n\ndef other():\n    pass",
        TOTAL.replace("def other", "def third():\n    pass\n\n\ndef other"),
    ),
    "the brace": (
        CLASS,
        "    a();\n    return 1;",
        "    b();\n    return 1;\n  }",
        CLASS.replace("a();", "b();"),
    ),
    "the brace of the class": (
        CLASS,
        "    return 1;\n  }",
        "    return 2;\n  }\n}",
        CLASS.replace("1", "2"),
    ),
    "the brace above": (
        "}\n\nfunction f() {\n  a();\n}\n",
        "function f() {",
        "}\n\nfunction g() {\n}\n\nfunction f() {",
        "}\n\nfunction g() {\n}\n\nfunction f() {\n  a();\n}\n",
    ),
    "the end": ("def f\n  x = 1\nend\n", "  x = 1", "  x = 2\nend", "def f\n  x = 2\nend\n"),
    "the #endif": (
        "#ifdef A\nf();\n#endif\n",
        "f();",
        "g();\n#endif",
        "#ifdef A\ng();\n#endif\n",
    ),
    "the else": (
        "if a:\n    x\nelse:\n    y\n",
        "    x",
        "    x\nelif b:\n    z\nelse:",
        "if a:\n    x\nelif b:\n    z\nelse:\n    y\n",
    ),
    "the break": (
        SWITCH,
        "    x();",
        "    x();\n    break;\n  case 2:\n    y();\n    break;",
        SWITCH.replace("    break;\n", "    break;\n  case 2:\n    y();\n    break;\n"),
    ),
    "the next entry": (
        '{\n  "a": 1,\n  "b": 2\n}\n',
        '  "a": 1,',
        '  "a": 1,\n  "c": 3,\n  "b": 2',
        '{\n  "a": 1,\n  "c": 3,\n  "b": 2\n}\n',
    ),
    "an import above": (
        "import os\nimport sys\n\nx\n",
        "import sys",
        "import os\nimport json\nimport sys",
        "import os\nimport json\nimport sys\n\nx\n",
    ),
    "half of a class": (
        KEEPER,
        "class A:",
        LONGER.partition("\n        self.c")[0],
        LONGER,
    ),
    "the body in braces of their own": (
        "int f(int a)\n{\n\treturn a;\n}\n",
        "int f(int a)",
        "int f(int a, int b)\n{\n\treturn a + b;\n}",
        None,
    ),
    "the function up to its end": (
        "function f()\n  run()\n  finish()\nend\n",
        "function f()",
        "function f(x)\n  start(x)\nend",
        None,
    ),
    "each line of the function": (
        "def f():\n    run()\n    finish()\n",
        "def f():",
        "def f(x):\n    run(x)\n    finish(x)",
        None,
    ),
    "the end of an element": (
        "<div>\n  <p>a</p>\n</div>\n",
        "  <p>a</p>",
        "  <p>a</p>\n  <p>b</p>\n</div>",
        "<div>\n  <p>a</p>\n  <p>b</p>\n</div>\n",
    ),
    "the body in a try": (
        TOTAL,
        "def total(rows):",
        "def total(rows):\n    try:\n"
        + BODY.replace("    ", "        ", 1).replace("\n    ", "\n        ")
        + "\n    except OSError:\n        return 0",
        None,
    ),
    "the brace behind the signature": (
        "int f(int a)\n{\n\treturn a;\n}\n",
        "int f(int a)",
        "int f(long a) {\n\treturn 2 * a;\n}",
        None,
    ),
    "a comment above in other words": (
        "/* Adds one. */\nint f(int a);\n",
        "int f(int a);",
        "/* Adds one to a. */\nint f(int a);",
        None,
    ),
    "a decorator above with more in it": (
        "#[derive(Debug)]\npub struct Store {\n}\n",
        "pub struct Store {",
        "#[derive(Debug, Clone)]\npub struct Store {",
        None,
    ),
    "the next letter of a list": (
        'a = [\n  "a",\n  "c",\n]\n',
        '  "a",',
        '  "a",\n  "b",\n  "c",',
        'a = [\n  "a",\n  "b",\n  "c",\n]\n',
    ),
    "the next number of a list": ("- 1\n- 3\n", "- 1", "- 1\n- 2\n- 3", "- 1\n- 2\n- 3\n"),
    "a comment of several lines above": (
        "/**\n * Adds.\n */\nfunction f(a) {\n}\n",
        "function f(a) {",
        "/**\n * Adds numbers.\n */\nfunction f(a) {",
        None,
    ),
    "the same comment of several lines above": (
        "/**\n * Adds.\n */\nfunction f(a) {\n}\n",
        "function f(a) {",
        "/**\n * Adds.\n */\nfunction f(a, b) {",
        "/**\n * Adds.\n */\nfunction f(a, b) {\n}\n",
    ),
    "the next empty element": (
        "<div>\n  <Header />\n  <Body />\n</div>\n",
        "  <Header />",
        "  <Header />\n  <Menu />\n  <Body />",
        "<div>\n  <Header />\n  <Menu />\n  <Body />\n</div>\n",
    ),
    "nothing else": ("first()\nsecond()\n", "first()", "second()", None),
    # Lines that may well stand there twice.
    "a blank line": ("a = 1\n\nb = 2\n", "a = 1", "a = 1\n", "a = 1\n\n\nb = 2\n"),
    "a new method": (
        CLASS,
        "    return 1;\n  }",
        "    return 1;\n  }\n\n  bar() {\n    b();\n  }",
        CLASS.replace("  }\n}", "  }\n\n  bar() {\n    b();\n  }\n}"),
    ),
    "a new function before the brace of a namespace": (
        SPACE,
        "  a();\n}",
        "  a();\n}\nvoid g() {\n  b();\n}",
        SPACE.replace("}\n}", "}\nvoid g() {\n  b();\n}\n}"),
    ),
    "the same from inside the function": (
        SPACE,
        "  a();",
        "  a();\n}\nvoid g() {\n  b();\n}",
        SPACE.replace("  a();\n", "  a();\n}\nvoid g() {\n  b();\n"),
    ),
    "a new function before the end of a module": (
        "module A\ndef f\n  x = 1\nend\nend\n",
        "  x = 1\nend",
        "  x = 1\nend\ndef g\n  y = 1\nend",
        "module A\ndef f\n  x = 1\nend\ndef g\n  y = 1\nend\nend\n",
    ),
    "a condition inside of another": (
        "#ifdef A\nf();\n#endif\n",
        "f();",
        "f();\n#ifdef B\ng();\n#endif",
        "#ifdef A\nf();\n#ifdef B\ng();\n#endif\n#endif\n",
    ),
    "an empty element": (
        "<ul>\n<li>a</li>\n<li></li>\n</ul>\n",
        "<li>a</li>",
        "<li>a</li>\n<li></li>",
        "<ul>\n<li>a</li>\n<li></li>\n<li></li>\n</ul>\n",
    ),
    "an entry like the next one": (
        "steps:\n  - name: a\n    uses: x\n    with: y\n",
        "steps:",
        "steps:\n  - name: b\n    uses: x\n    with: y",
        "steps:\n  - name: b\n    uses: x\n    with: y\n  - name: a\n    uses: x\n    with: y\n",
    ),
    "a number behind a list of the same": (
        "a = [\n  1,\n  0,\n  0,\n]\n",
        "  1,",
        "  1,\n  0,",
        "a = [\n  1,\n  0,\n  0,\n  0,\n]\n",
    ),
    "a further decorator of the kind": (
        "@route('/a')\ndef a():\n    pass\n",
        "def a():",
        "@route('/b')\ndef a():",
        "@route('/a')\n@route('/b')\ndef a():\n    pass\n",
    ),
    "a further comment": (
        "# noqa: all\ndef a():\n    pass\n",
        "def a():",
        "# Does nothing.\ndef a():",
        "# noqa: all\n# Does nothing.\ndef a():\n    pass\n",
    ),
    "lines that are quoted themselves, of which one goes": (
        "  {\n    key: 'one',\n    size: 2\n  },\n  {\n    key: 'two',\n    size: 2\n  },\n  {\n    y\n",
        "  {\n    key: 'one',\n    size: 2\n  },\n  {\n    key: 'two',",
        "  {\n    key: 'one',\n    size: 2\n  },\n  {",
        "  {\n    key: 'one',\n    size: 2\n  },\n  {\n    size: 2\n  },\n  {\n    y\n",
    ),
    "an empty element that stands there twice": (
        "<p>\n  <br />\n  <b />\n  <br />\n</p>\n",
        "  <b />",
        "  <i />\n  <br />\n  <b />\n  <br />",
        "<p>\n  <br />\n  <i />\n  <br />\n  <b />\n  <br />\n  <br />\n</p>\n",
    ),
    "a value like the next one": ("a = 1\nb = 2\nb = 3\n", "b = 2", "b = 3", "a = 1\nb = 3\nb = 3\n"),
    "a method with the same annotations": (
        "class T {\n  @Test\n  @Slow\n  void y() {\n  }\n}\n",
        "class T {",
        "class T {\n  @Test\n  @Slow\n  void x() {\n  }\n",
        "class T {\n  @Test\n  @Slow\n  void x() {\n  }\n\n  @Test\n  @Slow\n  void y() {\n  }\n}\n",
    ),
    "a guard": (
        TOTAL,
        "def total(rows):",
        "def total(rows):\n    if not rows:\n        return 0",
        TOTAL.replace("(rows):\n", "(rows):\n    if not rows:\n        return 0\n", 1),
    ),
}

# A `+` before new lines: of a diff, or of the line.

SIGNS: dict[str, Case] = {
    "an increment": ("n = 0;\nf();\n", "n = 0;", "n = 0;\n++n;", "n = 0;\n++n;\nf();\n"),
    "an increment in its place": ("n++;\nf();\n", "n++;", "++n;", "++n;\nf();\n"),
    "two increments": ("n++;\nf();\n", "n++;", "++n;\n++m;", "++n;\n++m;\nf();\n"),
    "a phone number": ("phone:\nx\n", "phone:", "phone:\n+49 30 901820", "phone:\n+49 30 901820\nx\n"),
    "a phone number in place of one": (
        "030 901820\nx\n",
        "030 901820",
        "+49 30 901820",
        "+49 30 901820\nx\n",
    ),
    "a number that gets a sign": ("49\nx\n", "49", "+49", "+49\nx\n"),
    "bullets": ("- buy\n- sell\n", "- buy\n- sell", "+ buy\n+ sell", "+ buy\n+ sell\n"),
    "a vote": ("Votes\nx\n", "Votes", "Votes\n+1 from me", "Votes\n+1 from me\nx\n"),
    "a value that becomes a number": ("a\nvalue\n", "value", "+value", None),
    "one line of another kind": ("foo.v\nx\n", "foo.v", "foo.v\n+incdir+src", None),
    "new bullets": ("# Todo\nx\n", "# Todo", "# Todo\n+ buy\n+ sell", None),
    "a changed line": ("x = 0\ny = 1\n", "x = 0", "+x = 1", "x = 1\ny = 1\n"),
    "an import like the one above": (
        "import os\ny\n",
        "import os",
        "import os\n+import sys",
        "import os\nimport sys\ny\n",
    ),
    "several lines": ("import os\ny\n", "import os", "import os\n+a()\n+b()", "import os\na()\nb()\ny\n"),
    "an indented line": (
        "def f():\n    x()\n",
        "    x()",
        "    x()\n+    log()",
        "def f():\n    x()\n    log()\n",
    ),
    "a tab": ("f {\n\tx()\n", "\tx()", "\tx()\n+\tlog()", "f {\n\tx()\n\tlog()\n"),
    "old lines signed": ("a\nb\n", "-a", "+c", "c\nb\n"),
    "old lines signed, with a space": ("a\nb\n", "- a", "+ c", "c\nb\n"),
    "a column of signs": ("a\nb\n", " a\n b", " a\n+c\n b", "a\nc\nb\n"),
    "a line that goes among the new ones": ("a\nb\n", "a\nb", "a\n-b\n+x", "a\nx\n"),
}

# Comments that were left out of the old lines only.

COMMENTS: dict[str, Case] = {
    "beside a line that changes": (
        "escape = two\nvariable = three\nrest = four # the rest of the text\nend()\n",
        "escape = two\nvariable = three\nrest = four",
        "escape = two\nrequest = three\nrest = four # the rest of the text",
        "escape = two\nrequest = three\nrest = four # the rest of the text\nend()\n",
    ),
    "beside lines that are added": (
        "#define BAND 0x200  /* may be written */\n#endif\n",
        "#define BAND 0x200\n#endif",
        "#define BAND 0x200  /* may be written */\n#define BAND_S 0x2000\n#endif",
        "#define BAND 0x200  /* may be written */\n#define BAND_S 0x2000\n#endif\n",
    ),
    "beside a line that goes": (
        "first = 1\nfirsts = 2 # kept\nend()\n",
        "first = 1\nfirsts = 2",
        "firsts = 2 # kept",
        "firsts = 2 # kept\nend()\n",
    ),
}

# Strings in quotes of the other kind.

QUOTES: dict[str, Case] = {
    "beside the change": (
        'print("hello", end="")\n',
        "print('hello', end='')",
        "print('hello', end='', flush=True)",
        'print("hello", end="", flush=True)\n',
    ),
    "around the change": ('f("hello")\n', "f('hello')", "f('goodbye')", "f('goodbye')\n"),
    "the change is about them": ('f("hello")\n', "f('hello')", 'f("hello", 1)', 'f("hello", 1)\n'),
    "a line that goes": (
        'first = "x"\nsecond = "y"\n',
        "first = 'x'\nsecond = 'y'",
        "first = 'x'",
        'first = "x"\n',
    ),
    "an apostrophe": ('f("it\'s")\n', "f('it\\'s')", "f('it\\'s', 1)", 'f("it\'s", 1)\n'),
    "another string": ('f("a", "b")\n', "f('a', 'c')", "f('a', 'd')", None),
    "two lines that differ in them": ("f('a')\nf(\"a\")\n", "f('a')", "f('b')", "f('b')\nf(\"a\")\n"),
}

CASES = {
    f"{kind}: {name}": case
    for kind, cases in (
        ("indentation", INDENTATION),
        ("repeated", REPEATED),
        ("signs", SIGNS),
        ("comments", COMMENTS),
        ("quotes", QUOTES),
    )
    for name, case in cases.items()
}


@pytest.mark.parametrize("eol", ["\n", "\r\n"])
@pytest.mark.parametrize("name", CASES)
def test_an_edit_is_what_was_meant_or_nothing(name: str, eol: str) -> None:
    check(CASES[name], eol)


@pytest.mark.parametrize(
    ("text", "old", "new"),
    [
        *(
            (text, old, new)
            for text, old, new, expected in (*REPEATED.values(), *SIGNS.values())
            if f"\n{old}\n" in f"\n{text}" and (expected is None or "+" not in new)
        ),
        ("- a\n- b\n- b\n", "- a", "- a\n- b"),
        ("x\ny\n", "x", "=====\nx"),
        ("def f():\n    x()\n    y()\n", "    x()", "x(1)\n  z()"),
        ("x\ny\n", "x", "x\nThat is all there is."),
    ],
)
def test_a_block_under_the_grammar_does_what_it_says(text: str, old: str, new: str) -> None:
    hunk = Hunk(0, "a.x", tuple(old.split("\n")), tuple(new.split("\n")), is_constrained=True)
    planned = plan(hunk, {"a.x": Snapshot("file:///a.x", 1, text)}, None, ())
    assert isinstance(planned, PlannedHunk)
    assert apply(text, planned.edits) == text.replace(f"{old}\n", f"{new}\n", 1)


def test_lines_taken_along_are_in_no_edit() -> None:
    text = TOTAL.replace("(amounts)", "(amounts)  ")
    old, new = ("def total(rows):",), ("def total(rows, a):", *BODY.split("\n"))
    planned = plan(Hunk(0, "a.x", old, new), {"a.x": Snapshot("a", 1, text)}, None, ())
    assert isinstance(planned, PlannedHunk)
    assert [edit.new for edit in planned.edits] == ["def total(rows, a):\n"]
    # A further block may change them.
    other = Hunk(1, "a.x", ("        add(row)",), ("        add(row, 1)",))
    assert isinstance(plan(other, {"a.x": Snapshot("a", 1, text)}, None, [planned]), PlannedHunk)


# Inputs that take hours if anything is done for each pair of lines, words or characters.

ITEMS = ", ".join(f"item{i}: {i * 7 % 1000}" for i in range(20_000))
LINES: list[str] = [f"    value_{i} = compute({i % 7}, other={i % 11})" for i in range(50_000)]
EQUAL: list[str] = ["value = 1"] * 10_000
DEEP: list[str] = [" " * n + f"if a{n}:" for n in range(1_000)]
HUGE: dict[str, tuple[Sequence[str], Sequence[str], Sequence[str], type]] = {
    "a comment left out of a minified line": (
        ["x = {" + ITEMS + "} // what it is"],
        ["x = {" + ITEMS + "}"],
        ["x = {" + ITEMS + ", a: 1}"],
        Found,
    ),
    "a comment of many comments": (["x = 1" + " # a" * 100_000], ["x = 1"], ["x = 2"], Found),
    "blanks before nothing": (["x" + " " * 50_000, "y"], ["x"], ["x" + " " * 50_000], Found),
    "blanks inside": (["a" + " " * 50_000 + "x", "y"], ["a x"], ["b x"], Found),
    "blanks in front": ([" " * 50_000 + "x", "y"], ["x"], ["z"], Found),
    "typographic quotes": (['"' * 400_000 + "a"], ["“" * 400_000 + "a"], ["z"], Found),
    "equal lines": (EQUAL, EQUAL[:5_000], ["z"], Ambiguous),
    "equal lines with other indentation": ([f"  {x}" for x in EQUAL], EQUAL[:5_000], ["z"], Ambiguous),
    "one of equal lines": ([f"  {x}" for x in EQUAL], EQUAL[:1], ["z"], Ambiguous),
    "equal lines and another": (EQUAL, [*EQUAL[:5_000], "value"], ["z"], Ambiguous),
    "equal lines beside": (["q()", *EQUAL], ["q()"], ["q()", *EQUAL[:9_000]], Found),
    "no line of a long file": (LINES, ["value = nothing()"], ["z"], NotFound),
    "two lines of a long file": (LINES, ["value = nothing()", "else:"], ["z"], NotFound),
    "a long file without indentation": (LINES, [x.strip() for x in LINES], ["z"], Found),
    "a long file, one line wrong": (LINES, [*LINES[:-1], "else:"], ["z"], NotFound),
    "a long part with a line behind": (LINES, LINES[:25_000], [*LINES[:25_000], "z"], Found),
    "signs before many lines": (
        LINES,
        [f"-{x}" for x in LINES[:20_000]],
        [f"+{x}1" for x in LINES[:20_000]],
        Found,
    ),
    "deep indentation": (
        DEEP,
        [line.replace(" ", "  ") for line in DEEP],
        [line.replace(" ", "  ") + ";" for line in DEEP],
        Found,
    ),
    "one line of deep ones": (DEEP, ["if a700:"], [" " * (2 * n + 1) + "y" for n in range(1_000)], Differs),
}


@pytest.mark.parametrize("name", HUGE)
def test_huge_inputs_come_to_an_end(name: str) -> None:
    lines, old, new, expected = HUGE[name]
    assert type(match(lines, old, new)) is expected
