"""What lines of code define and mention, recognized by their shape, for most programming languages.

Nothing is parsed: a line that looks like the first line of a function, an assignment or an import counts as
one.
"""

import re
from collections.abc import Sequence

from singlepass.core.replies.levels import columns, indent_of

NAME = re.compile(r"[^\W\d]\w*")
_ALONE = re.compile(r"(?<![\w.])[^\W\d]\w*")
_KEYWORDS = frozenset(
    {
        *("def", "class", "return", "if", "elif", "else", "for", "while", "in", "not", "and", "or", "is"),
        *("None", "True", "False", "self", "import", "from", "as", "with", "try", "except", "finally"),
        *("raise", "pass", "lambda", "const", "let", "var", "function", "local", "then", "end", "do", "this"),
        *("null", "true", "false", "the", "a", "of", "to", "it", "async", "await", "yield", "assert"),
        *("str", "int", "list", "dict"),
    }
)
"""Words that say nothing about the subject of a line."""
WORD = re.compile(r"\w")
CONTROL = re.compile(
    r"[}\])\s]*(?:if|elif|elsif|else|for|foreach|while|until|unless|do|loop|switch|select|case|default|when|match|"
    r"try|catch|except|finally|rescue|ensure|with|using|lock|synchronized|return|throw|raise|yield|await|begin|"
    r"then|guard|defer|go|new)\b(?!-)"
)
_NAMES = (
    # A keyword and a name; a function as a value; a function as in C; a block of a test such as `it("works"`.
    re.compile(
        r"(?:[\w.<>()\[\]*&,]+\s+)*?(?:def|class|func|function\b\*?|fn|fun|sub|struct|enum|union|interface|trait|"
        r"impl|module|namespace|type|record|object|protocol|extension)\s+(?:\([^)]*\)\s*)?([\w$.~]+(?:::[\w$~]+)*)"
    ),
    re.compile(
        r"(?:[\w.]+\s+)*?([\w$.]+)\s*[=:]\s*(?:async\b\s*)?(?:function\b|lambda\b|\([^()]*\)\s*=>|\w+\s*=>|\($)"
    ),
    re.compile(r"(?:[\w*&<>\[\]:,?@]+\s+)*?[*&]*([\w$~]+(?:::[\w$~]+)*)\s*\((?!\s*[\"'`])"),
    re.compile(r"([\w.]+\s*\(\s*([\"'`]).*?\2)"),
)
"""Patterns with the defined name as their first group; the last two count only in the first line of a
block."""
_MOST_READ = 300
"""Length of the beginning of a line in which a defined name is searched."""
COMMENT = re.compile(r"#(?!\s*(?:include|define|undef|pragma)\b)|//|/\*|\*(?:[\s/]|$)|<!--|--\s|;|%|\{/\*")
_ASSIGNED = re.compile(
    r"\s*(?:(?:const|let|var|local|export|static|final|mut|auto|int|float|double)\s+)*"
    r"([\w.]+(?:\s*,\s*[\w.]+)*)\s*(?::[^=]+)?(?::?=)(?!=)"
)
IMPORTED = re.compile(r"\s*(?:from\s+\S+\s+)?import\s+(.*)")


def defined_name(line: str) -> str:
    """The name of the function, class or the like that begins with the line; empty if none does."""
    if CONTROL.match(line):
        return ""
    names = _NAMES if line.endswith((":", "{", "}", ")")) else _NAMES[:2]
    return next((found[1] for one in names if (found := one.match(line[:_MOST_READ]))), "")


def assigned(line: str) -> frozenset[str]:
    """The names of the variables that a line assigns, or of what it imports."""
    if found := _ASSIGNED.match(line):
        return frozenset(one.rpartition(".")[2] for one in re.findall(r"[\w.]+", found[1]))
    if found := IMPORTED.match(line):
        return frozenset(NAME.findall(found[1])) - {"as"}
    return frozenset()


def binds(line: str, name: str) -> bool:
    """Whether a line may bind a name: as a parameter, loop variable or `as` name."""
    bare = line.strip()
    if defined_name(bare):
        return True
    return (
        re.search(
            rf"\b(?:for\s+[^=]*?\b{name}\b[^=]*?\s+(?:in|of)\b|as\s+{name}\b|lambda\b[^:]*\b{name}\b)", line
        )
        is not None
    )


def words_of(line: str) -> frozenset[str]:
    """The names and words of a line, without keywords."""
    return frozenset(NAME.findall(line)) - _KEYWORDS


def mentions(lines: Sequence[str], *, alone: bool = False) -> dict[str, list[int]]:
    """The numbers of the lines that contain a name, by name; with `alone`, uses as an attribute (after a dot)
    do not count."""
    found: dict[str, list[int]] = {}
    for n, line in enumerate(lines):
        for name in {*(_ALONE if alone else NAME).findall(line)}:
            found.setdefault(name, []).append(n)
    return found


def surroundings(lines: Sequence[str]) -> tuple[list[int], list[int], dict[int, int]]:
    """For each line the first line of the definition that contains it (or -1), and the end of its block; and
    by first line of each definition its end. Ends are exclusive."""
    headers, ends = [-1] * len(lines), [len(lines)] * len(lines)
    bodies = {-1: len(lines)}
    open_: list[tuple[int, int]] = []
    waiting: list[tuple[int, int]] = []
    for n, line in enumerate(lines):
        if not line.strip():
            continue
        depth = columns(indent_of(line))
        while open_ and open_[-1][1] >= depth:
            bodies[open_.pop()[0]] = n
        while waiting and waiting[-1][1] > depth:
            ends[waiting.pop()[0]] = n
        headers[n] = open_[-1][0] if open_ else -1
        waiting.append((n, depth))
        if defined_name(line.strip()):
            open_.append((n, depth))
    bodies.update((n, len(lines)) for n, _ in open_)
    return headers, ends, bodies
