"""Levels of indentation, and whether the indentation of lines is plausible for code.

`is_sound` is used to choose between interpretations of a model's indentation. It applies only rules that hold
in most languages, so it also accepts lines that no compiler would.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise

_TAB_COLUMNS = 4
"""Width of a tab when it is compared with spaces."""
_MOST_UNIT = 8
"""Maximum width of a level of indentation; larger steps are alignment."""

_NO_BRACKETS = re.compile(r"[^()\[\]{}]+")
_LABEL = re.compile(
    r"(?:(?:case|default|public|private|protected)\b|- |#|//|\*|--|;"
    r"|(?!(?:else|try|finally|except|ensure|begin|do)\b)\w+:$)"
)
"""Comments, and lines such as labels that end like the first line of a block but may be followed by lines of
any depth."""
_HEADS = (
    r"(?:if|elif|else|elseif|for|foreach|while|switch|case|match|when|with|unless|until|loop|begin|try|def|"
    r"class|fn|func|function|macro|sub|do)\b"
)
_COMPLETE = re.compile(
    r"(?:(?:return|raise|throw|break|continue|pass|import|goto)\b.*[\w)\]\"'};]"
    rf"|[\w.\[\]\"'$]+\s*[-+*/|&]?=\s*(?!{_HEADS})[^=].*[\w)\]\"'}};]"
    rf"|(?!{_HEADS})[\w.$]+\(.*\);?"
    r"|.*[;}])"
)
"""A statement that is complete at the end of its line."""
_CONTINUATION = re.compile(r"(?:[.?:&|+*/=,)\]}>-]|(?:and|or|from|to)\b)")
"""The beginning of a line that continues the one above."""
_BELONGS = re.compile(r"(?:[)\]}]|(?:elif|else|elsif|except|finally|rescue|ensure|catch|end)\b)")
"""The beginning of a line that is as deep as an earlier line to which it belongs."""


def indent_of(line: str) -> str:
    """The leading white space of a line."""
    return line[: len(line) - len(line.lstrip())]


def columns(indent: str) -> int:
    """The width of leading white space."""
    n_tabs = indent.count("\t")
    return len(indent) + n_tabs * (_TAB_COLUMNS - 1)


def unit_of(lines: Iterable[str]) -> str:
    """One level of indentation in these lines, a tab or some spaces; empty if it cannot be determined.

    With spaces it is the most frequent step from a line to a deeper one.
    """
    # Skip the lines of block comments, which are indented by one more column than the first.
    indents = [indent_of(line) for line in lines if (bare := line.lstrip()) and bare[0] != "*"]
    if sum(indent.startswith("\t") for indent in indents) > sum(indent.startswith(" ") for indent in indents):
        return "\t"
    steps = Counter(len(after) - len(before) for before, after in pairwise(indents))
    usual = max(range(1, _MOST_UNIT + 1), key=lambda step: steps[step])
    return " " * usual if steps[usual] else ""


def balance(lines: Iterable[str]) -> int:
    """The number of opening brackets minus that of closing ones, of all kinds."""
    brackets = "".join(_NO_BRACKETS.sub("", line) for line in lines)
    return sum(map(brackets.count, "([{")) - sum(map(brackets.count, ")]}"))


def is_sound(lines: Sequence[str], unit: str = "") -> bool:
    """Whether the indentation of these lines is plausible. `unit` is one level in the document, empty if
    unknown."""
    text = [(columns(indent_of(line)), line.strip()) for line in lines if line.strip()]
    around = [depth for depth, _ in text[:1]]
    for (depth, above), (depth_below, below) in pairwise(text):
        is_label, belongs = _LABEL.match(above) is not None, _BELONGS.match(below) is not None
        opens = above.endswith((":", "{", "(", "[")) and not is_label and balance([above]) >= 0
        if opens and not belongs and not below.startswith("- "):
            is_level = not unit or above.endswith(("(", "[")) or depth_below - depth == columns(unit)
            if depth_below <= depth or not is_level:
                return False
        if (
            depth_below > depth
            and not is_label
            and _COMPLETE.fullmatch(above)
            and not _CONTINUATION.match(below)
        ):
            return False
        while around and around[-1] > depth_below:
            around.pop()
        if around and around[-1] < depth_below:
            if belongs:
                return False
            around.append(depth_below)
        elif not around:
            if unit and text[0][0] % columns(unit) == 0 < depth_below % columns(unit):
                return False
            around.append(depth_below)
    return True
