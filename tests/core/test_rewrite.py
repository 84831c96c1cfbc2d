"""Text written anew as a whole: which texts a reply holds, and of which lines one is the new text."""

import pytest
from singlepass.core.matcher import Found
from singlepass.core.rewrite import Rewrite, Unplaced, place, read_rewrites

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
        ("<file path='b.py' access=\"read only\">\nx", [Rewrite("b.py", ("x",))]),
        ("```\nx\n```\n```sh\npython a.py\n```", [Rewrite("", ("x",))]),
        ("````md\n```\nx\n```\n````", [Rewrite("", ("```", "x", "```"))]),
        # Which of two it is, whether it is whole, or whether it is text at all is not known.
        ("```\nx\n```\n```\ny\n```", []),
        ("a.py\n```\nx\n```\na.py\n```\ny\n```", []),
        ("```\nx", []),
        ("```diff\n-x\n+y\n```", []),
        ("```\n@@ -1 +1 @@\n-x\n+y\n```", []),
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
        (SHAPES[3:], AREA, None),
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
