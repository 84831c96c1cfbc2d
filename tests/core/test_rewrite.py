"""Rewrites: which texts a reply holds, and of which lines one is the new text."""

import html
import textwrap

import pytest
from singlepass.core.matcher import Found
from singlepass.core.replies.rewrite import Rewrite, Unplaced, place, read_rewrites

SHAPES = """\
import math


def area(width, height):
    result = width * height
    return result


def circle(radius):
    result = math.pi * radius
    return result
""".splitlines()
AREA = 3, 6
NEW_AREA = ["def area(width, height):", "    return width * height"]


def changed(**words: str) -> list[str]:
    text = "\n".join(SHAPES)
    for old, new in words.items():
        text = text.replace(old, new)
    return text.split("\n")


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("```python\nx\n```", [Rewrite("", ("x",))]),
        ("a.py\n```\nx\n```", [Rewrite("a.py", ("x",))]),
        ("```python a.py\nx\n```", [Rewrite("a.py", ("x",))]),
        (
            "In `b.py`:\n\n```\nx\n```\nand in a.py\n```\ny\n```",
            [Rewrite("b.py", ("x",)), Rewrite("a.py", ("y",))],
        ),
        ('<file path="b.py">\nx\n</file>', [Rewrite("b.py", ("x",))]),
        ('<file path="b.py">\n```\nx\n```\n</file>', [Rewrite("b.py", ("x",))]),
        ("<file path='b.py' access=\"read only\">\nx\n</file>", [Rewrite("b.py", ("x",))]),
        ("```\nx\n```\n```sh\npython a.py\n```", [Rewrite("", ("x",))]),
        ("````md\n```\nx\n```\n````", [Rewrite("", ("```", "x", "```"))]),
        # Which of two it is, whether it is whole, or whether it is text at all is not known.
        ("```\nx\n```\n```\ny\n```", []),
        ("a.py\n```\nx\n```\na.py\n```\ny\n```", []),
        ("```\nx", []),
        ("```diff\n-x\n+y\n```", []),
        ("```\n@@ -1 +1 @@\n-x\n+y\n```", []),
        # Which lines signs of a diff are about, the document tells.
        ("```python\n x\n+y\n```", [Rewrite("", (" x", "+y"))]),
        ("1. So:\n\n   ```\n   x\n     y\n   ```", [Rewrite("", ("x", "  y"))]),
        ("1. So:\n\n   ```\nx\n    y\n   ```", [Rewrite("", ("x", "    y"))]),
        ("x = 1", []),
    ],
)
def test_what_a_reply_holds(reply: str, expected: list[Rewrite]) -> None:
    assert read_rewrites(reply.split("\n"), {"a.py": "", "b.py": ""}) == expected


@pytest.mark.parametrize(
    ("new", "selection", "expected"),
    [
        # The file, with and without a selection.
        (changed(circle="disc"), None, (0, 11)),
        (changed(circle="disc"), (8, 11), (0, 11)),
        (changed(circle="disc"), (4, 4), (0, 11)),
        (SHAPES[:6], (4, 4), None),
        ([*SHAPES[:3], *NEW_AREA, *SHAPES[6:]], AREA, (0, 11)),
        ([*SHAPES, "", "", "def more():", "    pass"], None, (0, 11)),
        # The selection, also with another indentation.
        (NEW_AREA, AREA, AREA),
        (["  " + line for line in SHAPES[3:6]], AREA, AREA),
        # A part of the file, an example of its use, another text: what is left out must not be deleted.
        (NEW_AREA, None, None),
        (SHAPES[:6], None, None),
        (SHAPES[8:], None, None),
        # What it repeats of the lines around the selection is taken off: here nothing is left to change.
        (SHAPES[3:], AREA, AREA),
        (["", "", *SHAPES[1:6]], (4, 6), None),
        (["print(area(2, 3))"], None, None),
        (["print(area(2, 3))"], AREA, None),
        (["npm install"], AREA, None),
        (["import math", "", "", *NEW_AREA, *SHAPES[6:]], (0, 11), (0, 11)),
        (SHAPES[:6], (0, 11), None),
        (SHAPES[8:], (0, 11), None),
        (SHAPES[3:6], (3, 11), None),
        (SHAPES[8:], (3, 11), None),
        (["def perimeter(a, b):", "    return 0"], (3, 4), None),
        (["def circle(radius):"], (3, 4), None),
        ([], None, None),
        ([], AREA, None),
    ],
)
def test_the_lines_that_a_text_takes_the_place_of(
    new: list[str], selection: tuple[int, int] | None, expected: tuple[int, int] | None
) -> None:
    found = place(SHAPES, new, selection)
    assert (found[:2] if isinstance(found, Found) else None) == expected


def test_a_text_for_the_selection_gets_its_indentation() -> None:
    document = [
        "class A:",
        "    def f(self):",
        "        return 1",
        "",
        "    def g(self):",
        "        return 2",
    ]
    found = place(document, ["def f(self):", "    return 3"], (1, 3))
    assert found == Found(1, 3, "rewrite", ("    def f(self):", "        return 3"))


def test_a_file_of_one_line() -> None:
    assert place(["x = 1"], ["x = 2"], None) == Found(0, 1, "rewrite", ("x = 2",))
    assert isinstance(place(["x = 1"], ["print('hello')"], None), Unplaced)


CART = """\
import json


class Cart:
    def __init__(self, owner):
        self.owner = owner
        self.items = []

    @property
    def size(self):
        return len(self.items)

    def total(self):
        result = 0
        for item in self.items:
            result += item.price
        return result


def load(path):
    with open(path) as file:
        data = json.load(file)
    return Cart(data["owner"])


def save(cart, path):
    data = {"owner": cart.owner}
    with open(path, "w") as file:
        json.dump(data, file)
"""
TOTAL = """\
    def total(self):
        result = 0
        for item in self.items:
            result += item.price
        return result
"""
SUM = """\
    def total(self):
        return sum(item.price for item in self.items)
"""
LOAD = CART[CART.index("def load") : CART.index("\n\ndef save")]
SAVE = CART[CART.index("def save") :]
STORE = """\
export class Store {
  find(id) {
    for (const item of this.items) {
      if (item.id === id) {
        return item;
      }
    }
    return null;
  }

  clear() {
    this.items = [];
  }
}
"""
FIND = STORE[STORE.index("  find") : STORE.index("\n  clear")]
GUARDED = """\
find(id) {
  if (id) {
    for (const item of this.items) {
      if (item.id === id) {
        return item;
      }
    }
  }
  return null;
}
"""
FIND_ALIKE = FIND.replace("===", "==")
MAKEFILE = "app: main.o\n\tcc -o app main.o\n\tstrip app\n\nclean:\n\trm -f app\n"
SERVICES = """\
services:
  web:
    image: nginx
    ports:
      - "80:80"
  db:
    image: postgres
    ports:
      - "5432:5432"
"""
STOP = "    def stop(self):\n        self.running = False\n        self.close()\n\n"
PLUGINS = "".join(
    f"class {name}:\n    def start(self, port):\n        self.open(port)\n\n{STOP}    def name(self):\n"
    f"        return {name!r}\n\n\n"
    for name in ("Http", "Ftp")
)
EVEN = """\
def is_even(n):
    if n % 2 == 0:
        return True
    else:
        return False
"""
NAMES = """\
def names(rows):
    result = []
    for row in rows:
        if row.name:
            result.append(row.name)
    return result
"""
MAX = "function max(a, b) {\n  if (a > b) {\n    return a;\n  } else {\n    return b;\n  }\n}\n"
LUA = """\
local M = {}

function M.sum(list)
  local sum = 0
  for _, x in ipairs(list) do
    sum = sum + x
  end
  return sum
end

function M.first(list)
  return list[1]
end

return M
"""
LUA_SUM = LUA[LUA.index("  local sum") : LUA.index("end\n\nfunction M.first")]
RUBY = """\
class Cart
  def total
    sum = 0
    items.each do |item|
      sum += item.price
    end
    sum
  end
end
"""
README = "# Tool\n\n## Install\n\nRun it – once.\n\n## Use\n\nCall it.\n\nAgain.\n\n## License\n\nMIT\n"


def after(document: str, new: str, selected: str = "") -> str | None:
    """The document with the new text in its place; None where it has none."""
    lines = document.splitlines()
    selection = None
    if selected:
        first = document[: document.index(selected)].count("\n")
        selection = first, first + selected.count("\n")
    found = place(lines, new.splitlines(), selection)
    if isinstance(found, Unplaced):
        assert found.message.endswith(".")
        return None
    return "\n".join([*lines[: found.start], *found.new, *lines[found.end :]]) + "\n"


def indented(text: str, by: str = "    ") -> str:
    return "".join(by + line if line.strip() else line for line in text.splitlines(keepends=True))


def dedented(text: str) -> str:
    return textwrap.dedent(text)


@pytest.mark.parametrize(
    ("document", "new", "selected"),
    [
        # A definition, at any depth, and whether or not something else is changed or new.
        (CART, CART.replace(LOAD + "\n\n", ""), ""),
        (CART, CART.replace(LOAD, "def clear(cart):\n    cart.items.clear()\n"), ""),
        (CART, CART.replace("\n\n" + SAVE, "").replace("result = 0", "result = 1"), ""),
        (CART, CART.replace(TOTAL, ""), ""),
        (
            CART,
            CART[CART.index("class") : CART.index("\n\ndef load")].replace(TOTAL, ""),
            CART[CART.index("class") : CART.index("\n\ndef load")],
        ),
        (CART, SAVE, LOAD + "\n\n" + SAVE),
        (CART, "class Cart:\n" + SUM, CART[CART.index("class") : CART.index("\n\ndef load")]),
        (CART, dedented(SUM), CART[CART.index("class") : CART.index("\n\ndef load")]),
        (STORE, STORE.replace(FIND, ""), ""),
        # Another block of least depth, a section.
        (MAKEFILE, MAKEFILE[: MAKEFILE.index("clean")].replace("main", "start"), ""),
        (SERVICES, SERVICES[: SERVICES.index("  db")].replace("nginx", "caddy"), ""),
        (README, README.replace("## Use\n\nCall it.\n\nAgain.\n\n", ""), ""),
        # A body, or several lines of it, with nothing or next to nothing in their place.
        (CART, CART.replace(TOTAL, "    def total(self):\n        # adds up the prices\n"), ""),
        (CART, "    def total(self):\n        pass\n", TOTAL),
        (CART, "    def total(self):\n        ...\n", TOTAL),
        (CART, "    def total(self):\n        return None\n", TOTAL),
        (CART, SAVE[: SAVE.index("    with")], SAVE),
        (STORE, FIND_ALIKE.removesuffix("  }\n"), FIND),
        (CART, "    def total(self):\n        raise NotImplementedError\n", TOTAL),
        # A line whose name is still used, or of which nothing tells what became of it.
        (CART, CART.replace("        self.items = []\n", ""), ""),
        (CART, CART.replace("        result = 0\n", ""), ""),
        (CART, TOTAL.replace("        result = 0\n", ""), TOTAL),
        (
            CART,
            CART.replace("        data = json.load(file)\n", "").replace("Cart(data", "Cart(the_data"),
            "",
        ),
        (CART, LOAD.replace("path", "name").replace("        data = json.load(file)\n", ""), LOAD),
        (CART, CART.replace("import json\n", "").replace("= 0", "= 1"), ""),
        (CART, CART.replace("        self.owner = owner\n", "").replace("= 0", "= 1"), ""),
        # A method that other classes have too.
        (PLUGINS, PLUGINS.replace(STOP, "", 1).replace("port", "address"), ""),
        (PLUGINS, PLUGINS.replace(STOP, "").replace("port", "address"), ""),
        # Its beginning, its end.
        (CART, CART[CART.index("\n\nclass") :].replace("= 0", "= 1"), ""),
        (CART, SUM.split("\n", 1)[1], TOTAL),
        (CART, LOAD.replace("path", "name").rsplit("\n", 2)[0], LOAD),
        (CART, CART[: CART.index("    with open(path, ")].replace("= 0", "= 1"), ""),
    ],
)
def test_what_a_text_may_not_leave_out(document: str, new: str, selected: str) -> None:
    assert after(document, new, selected) is None


@pytest.mark.parametrize(
    ("document", "new", "selected"),
    [
        (CART, CART.replace("import json\n", "import json\nimport os\n"), ""),
        (CART, CART.replace("def load(", "def read_cart("), ""),
        (CART, CART.replace(LOAD + "\n\n" + SAVE, SAVE + "\n\n" + LOAD), ""),
        (CART, CART.replace(TOTAL, SUM), ""),
        (CART, CART.replace(TOTAL, SUM), TOTAL),
        (CART, SUM, TOTAL),
        (CART, SUM + "\n    def clear(self):\n        self.items = []\n", TOTAL),
        (STORE, "  find(id) {\n    return this.items.find((item) => item.id === id) ?? null;\n  }\n", FIND),
        (SERVICES, SERVICES.replace('      - "80:80"\n', '      - "80:80"\n      - "443:443"\n'), ""),
        (README, README.replace("MIT", "BSD"), ""),
    ],
)
def test_a_complete_text_is_written_as_it_is(document: str, new: str, selected: str) -> None:
    wanted = document.replace(selected, new) if selected and new.count("\n") < 12 else new
    assert after(document, new, selected) == wanted


@pytest.mark.parametrize(
    ("document", "new", "selected", "wanted"),
    [
        # To the letter, so it is taken off: the class around it, its decorator, imports, the next function.
        (
            CART,
            CART[CART.index("class") : CART.index("\n\ndef load")].replace(TOTAL, SUM),
            TOTAL,
            CART.replace(TOTAL, SUM),
        ),
        (CART, "class Cart:\n" + SUM, TOTAL, CART.replace(TOTAL, SUM)),
        (
            CART,
            "@property\ndef size(self):\n    return 2\n",
            "    def size(self):\n        return len(self.items)\n",
            CART.replace("return len(self.items)", "return 2"),
        ),
        (
            CART,
            "import json\n\n\n" + LOAD.replace("path", "name"),
            LOAD,
            CART.replace(LOAD, LOAD.replace("path", "name")),
        ),
        (
            CART,
            LOAD.replace("open(path)", "open(path, 'rb')") + "\n\n" + SAVE[: SAVE.index("    with")],
            LOAD,
            CART.replace("open(path) as", "open(path, 'rb') as"),
        ),
        (STORE, "export class Store {\n" + FIND_ALIKE + "}\n", FIND, STORE.replace("===", "==")),
        (STORE, dedented(FIND_ALIKE) + "}\n", FIND, STORE.replace("===", "==")),
        # In other words, so it would be there twice.
        (CART, "class Cart(Base):\n" + SUM, TOTAL, None),
        (
            CART,
            "@cached_property\ndef size(self):\n    return 2\n",
            "    def size(self):\n        return len(self.items)\n",
            None,
        ),
        (CART, "def total(self, tax):\n" + dedented(TOTAL).split("\n", 1)[1], TOTAL.split("\n", 2)[2], None),
        (CART, LOAD + "\n\n" + SAVE.replace("path", "name"), LOAD, None),
        # It would come between a decorator and its function.
        (
            CART,
            "def count(self):\n    return 1\n\ndef size(self):\n    return len(self.items)\n",
            "    def size(self):\n        return len(self.items)\n",
            None,
        ),
        # A brace of its own.
        (
            STORE,
            "if (this.items) {\n  this.items = [];\n}\n",
            "    this.items = [];\n",
            STORE.replace("    this.items = [];\n", "    if (this.items) {\n      this.items = [];\n    }\n"),
        ),
    ],
)
def test_a_text_that_goes_on_around_the_selection(
    document: str, new: str, selected: str, wanted: str | None
) -> None:
    assert after(document, new, selected) == wanted


@pytest.mark.parametrize(
    ("document", "new", "selected", "wanted"),
    [
        # A unit of its own, tabs for spaces and the reverse, a fence in a list item.
        (
            MAKEFILE,
            MAKEFILE.replace("\t", "    ").replace("strip", "strip -s"),
            "",
            MAKEFILE.replace("strip", "strip -s"),
        ),
        (
            MAKEFILE,
            MAKEFILE.replace("\t", " " * 8) + "\nall: app\n        ./app\n",
            "",
            MAKEFILE + "\nall: app\n\t./app\n",
        ),
        (CART, CART.replace("    ", "\t").replace("= 0", "= 1"), "", CART.replace("= 0", "= 1")),
        (CART, indented(CART, "   ").replace("= 0", "= 1"), "", CART.replace("= 0", "= 1")),
        # Without the indentation of the selection, also where lines become deeper.
        (CART, dedented(SUM), TOTAL, CART.replace(TOTAL, SUM)),
        (CART, SUM.lstrip(), TOTAL, CART.replace(TOTAL, SUM)),
        (
            CART,
            SUM.lstrip() + "\n    def clear(self):\n        self.items = []\n",
            TOTAL,
            CART.replace(TOTAL, SUM + "\n    def clear(self):\n        self.items = []\n"),
        ),
        (STORE, dedented(FIND_ALIKE).replace("  ", "\t"), FIND, STORE.replace("===", "==")),
        (
            STORE,
            GUARDED,
            FIND,
            STORE.replace(FIND, indented(GUARDED, "  ")),
        ),
        (
            CART,
            "if path:\n" + SAVE.split("\n", 1)[1],
            SAVE.split("\n", 1)[1],
            CART.replace(SAVE.split("\n", 1)[1], "    if path:\n" + indented(SAVE.split("\n", 1)[1])),
        ),
    ],
)
def test_lines_stand_as_deep_as_the_document_has_them(
    document: str, new: str, selected: str, wanted: str
) -> None:
    assert after(document, new, selected) == wanted


@pytest.mark.parametrize(
    ("document", "new", "selected", "wanted"),
    [
        # What is selected, said in fewer lines.
        (EVEN + "\n\n" + NAMES, "def is_even(n):\n    return n % 2 == 0\n", EVEN, None),
        (NAMES, "def names(rows):\n    return [row.name for row in rows if row.name]\n", NAMES, None),
        (
            NAMES,
            "    return [row.name for row in rows if row.name]\n",
            NAMES.split("\n", 1)[1],
            None,
        ),
        (MAX + "\nmax();\n", "function max(a, b) {\n  return a > b ? a : b;\n}\n", MAX, None),
        (MAX + "\nmax();\n", "const max = (a, b) => (a > b ? a : b);\n", MAX, None),
        # Lines that are gone together with what they were about, moved, or in those beside them.
        (CART, CART.replace("import json", "import json as j").replace("json.", "j."), "", None),
        (
            CART,
            CART.replace(
                "        data = json.load(file)\n    return Cart(data", "        return Cart(json.load(file)"
            ),
            "",
            None,
        ),
        (CART, CART.replace("Cart:\n", "Basket:\n").replace("return Cart(", "return Basket("), "", None),
        (CART, CART.replace("return len(self.items)", "return 2"), "", None),
        # Blocks that end with a word.
        (LUA, LUA.replace("= 0", "= 0.5"), "", None),
        (LUA, LUA_SUM.replace("+ x", "+ 2 * x") + "end\n", LUA_SUM, LUA.replace("+ x", "+ 2 * x")),
        (
            LUA,
            "function M.first(list)\n  return list[0]\nend\n\nreturn M\n",
            "function M.first(list)\n  return list[1]\nend\n",
            LUA.replace("[1]", "[0]"),
        ),
        (RUBY, RUBY.replace("sum = 0", "sum = 0.0"), "", None),
        (
            RUBY,
            "def total\n  items.sum { |item| item.price }\nend\n",
            RUBY[11:-4],
            "\n".join(
                ["class Cart", "  def total", "    items.sum { |item| item.price }", "  end", "end", ""]
            ),
        ),
    ],
)
def test_a_text_may_say_the_same_in_other_words(
    document: str, new: str, selected: str, wanted: str | None
) -> None:
    assert after(document, new, selected) == (
        wanted or (document.replace(selected, new) if selected else new)
    )


def test_of_two_texts_for_a_file_the_one_that_quotes_it_is_none() -> None:
    new = CART.replace("= 0", "= 1")
    for first, second in ((CART, new), (new, CART), (TOTAL, new), (new, dedented(TOTAL))):
        reply = f"Before:\n```python\n{first}```\nAfter:\n```python\n{second}```\n"
        assert read_rewrites(reply.split("\n"), {"a.py": CART}) == [Rewrite("", tuple(new.splitlines()))]


def test_a_text_that_repeats_a_definition_beside_the_selection_has_no_place() -> None:
    assert (
        after(CART, LOAD.replace("path", "name") + "\n\n" + SAVE.replace("cart.owner", "cart.o"), LOAD)
        is None
    )


@pytest.mark.parametrize(
    ("document", "new"),
    [
        ([f"x = x + {n}" for n in range(10_000)], [f"x = x + {n}" for n in range(10_000) if n % 20]),
        (["x = 1"] * 10_000, ["x = 1"] * 5_000 + ["y = 2"]),
        (
            [f"def f{n}(): return {n}" for n in range(5_000)],
            [f"def g{n}(): return {n}" for n in range(5_000)],
        ),
        (["a", "b", ",".join(f"v{n}" for n in range(100_000)) + " = 1", "c"], ["a", "b", "c", "d"]),
        (["a", "b", "a." * 300_000 + " 1", "c"], ["a", "b", "const let " * 50_000, "c"]),
        (
            [" " * n + f"if a{n}:" for n in range(1_500)],
            [" " * n + f"if a{n}:" for n in range(1_500) if n != 700],
        ),
        (["f(){"] * 5_000 + ["}"] * 5_000, (["f(){"] * 5_000 + ["}"] * 5_000)[100:9_000]),
        (["<div>"] * 5_000 + ["</div>"] * 5_000, ["<div>"] * 5_000 + ["</div>"] * 4_000),
    ],
)
def test_large_texts_have_an_answer(document: list[str], new: list[str]) -> None:
    for selection in (None, (2, len(document) - 1)):
        found = place(document, new, selection)
        assert isinstance(found, Unplaced) or 0 <= found.start <= found.end <= len(document)


def signed(document: str, old: str, new: str, column: str = " ") -> str:
    return "".join(
        f"-{old}\n+{new}\n" if line == old else f"{column}{line}\n" for line in document.splitlines()
    )


RESULT, RESULT_NEW = "        result = 0", "        result = Decimal(0)"


@pytest.mark.parametrize(
    ("new", "selected", "wanted"),
    [
        (signed(CART, RESULT, RESULT_NEW), "", CART.replace("= 0", "= Decimal(0)")),
        (signed(TOTAL, RESULT, RESULT_NEW), TOTAL, CART.replace("= 0", "= Decimal(0)")),
        (signed(TOTAL, RESULT, RESULT_NEW, ""), "", CART.replace("= 0", "= Decimal(0)")),
        # Without the old lines it is the new text.
        (CART.replace(RESULT, "+" + RESULT_NEW), "", CART.replace("= 0", "= Decimal(0)")),
        (TOTAL.replace(RESULT, "+" + RESULT_NEW), TOTAL, CART.replace("= 0", "= Decimal(0)")),
        # Only deleted lines may as well be a list.
        (TOTAL.replace(RESULT, "-" + RESULT), TOTAL, None),
        (
            "".join(f"{n} | {line}\n" for n, line in enumerate(CART.replace("= 0", "= 1").splitlines(), 1)),
            "",
            CART.replace("= 0", "= 1"),
        ),
        (
            "".join(f"{n}: {line}\n" for n, line in enumerate(SUM.splitlines(), 13)),
            TOTAL,
            CART.replace(TOTAL, SUM),
        ),
        (
            "".join(f"{n}: {line}\n" for n, line in enumerate(TOTAL.splitlines(), 13)) + "    # end\n",
            TOTAL,
            None,
        ),
        # Other spellings of characters.
        (CART.replace("= 0", "= 1").replace('"w"', "“w”"), "", CART.replace("= 0", "= 1")),
        (CART.replace('"w"', "“w”"), "", None),
        (
            SUM.replace("item.price", "item.prices[“eur”]"),
            TOTAL,
            CART.replace(TOTAL, SUM.replace("item.price", 'item.prices["eur"]')),
        ),
        (
            SUM.replace("item.price", "item.price &gt; 0"),
            TOTAL,
            CART.replace(TOTAL, SUM.replace("item.price", "item.price > 0")),
        ),
    ],
)
def test_signs_and_spellings_of_the_model_are_not_written(
    new: str, selected: str, wanted: str | None
) -> None:
    assert after(CART, new, selected) == wanted


def test_entities_and_dashes_are_the_documents() -> None:
    document = "#include <a.h>\n\nint f(p *a)\n{\n\tg(a->b);\n\treturn a->c < 1; /* – */\n}\n"
    wanted = document.replace("\tg(a->b);\n", "\tg(a->b);\n\th(a->d);\n")
    assert after(document, html.escape(wanted).replace("–", "-")) == wanted


def test_unchanged_lines_keep_their_white_space() -> None:
    document = CART.replace("        self.items = []\n", "        self.items = []  \n").replace(
        "\n\n    @", "\n    \n    @"
    )
    assert after(document, CART.replace("= 0", "= 1")) == document.replace("= 0", "= 1")
