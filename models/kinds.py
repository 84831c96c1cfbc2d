"""The kinds of edits the model learns, each made from a real function so that the right answer is known.

A kind takes a function and returns a `Change`, or None where the function does not suit it. It may prepare
the function first: what is to be taken out has to be put in. Instructions come in several phrasings.
"""

import ast
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from corpus import Function
from singlepass.core.actions import BUILTIN_ACTIONS, fix_instruction

_INSTRUCTIONS = {action.title: action.instruction for action in BUILTIN_ACTIONS}


@dataclass(frozen=True)
class Pair:
    """A piece of a file before and after the edit, in lines."""

    before: tuple[str, ...]
    after: tuple[str, ...]


@dataclass(frozen=True)
class Change:
    """What to do to a function, and what its file and another one look like then."""

    main: Pair
    """The function."""
    instruction: str
    first: int = 0
    end: int | None = None
    """The selected lines of `main.before`; None is its end."""
    caller: Pair | None = None
    """Another function of the same file that changes too."""
    header: Pair | None = None
    """The first lines of the file."""
    neighbour: Pair | None = None
    """Another file that changes too; it imports from `{module}`, the edited file's."""
    problem: str = ""
    """A diagnostic's message at the selection."""
    quotes_selection: bool = False
    """Whether the answer quotes all that is selected, as one block."""


Kind = Callable[[Function, random.Random, Sequence[str]], Change | None]


# Places in the text of a function.


@dataclass(frozen=True)
class _Place:
    line: int
    """0-based."""
    start: int
    end: int


def _text(lines: Sequence[str]) -> str:
    return "\n".join(lines)


def _tree(lines: Sequence[str]) -> ast.FunctionDef:
    node = ast.parse(_text(lines)).body[0]
    assert isinstance(node, ast.FunctionDef)
    return node


def _place(node: ast.expr | ast.arg | ast.stmt) -> _Place | None:
    """Where a node stands, if on one line."""
    if node.end_lineno != node.lineno or node.end_col_offset is None:
        return None
    return _Place(node.lineno - 1, node.col_offset, node.end_col_offset)


def _replace(lines: Sequence[str], places: Sequence[_Place], new: str) -> tuple[str, ...]:
    result = list(lines)
    for place in sorted(places, key=lambda place: (place.line, place.start), reverse=True):
        line = result[place.line]
        result[place.line] = line[: place.start] + new + line[place.end :]
    return tuple(result)


def _indent(line: str) -> str:
    return line[: len(line) - len(line.lstrip())]


def _words(lines: Sequence[str], name: str) -> list[_Place]:
    """Where a name stands as a word, in code, strings and comments alike."""
    pattern = re.compile(rf"\b{re.escape(name)}\b")
    return [_Place(i, m.start(), m.end()) for i, line in enumerate(lines) for m in pattern.finditer(line)]


def new_name(random: random.Random, names: Sequence[str], lines: Sequence[str], old: str) -> str:
    """A name that the lines do not use yet."""
    text = _text(lines)
    while True:
        name = random.choice(names)
        shape = random.random()
        if shape < 0.35:
            name = f"{name.strip('_')}_{random.choice(names).strip('_').lower()}"
        elif shape < 0.45:
            name = (
                random.choice(("new", "old", "raw", "total", "current", "my", "next")) + "_" + name.strip("_")
            )
        if old.islower():
            name = name.lower()
        if name.isidentifier() and len(name) <= 24 and name not in text and name != old:
            return name


def _quoted(random: random.Random, *values: str) -> tuple[str, ...]:
    """The values as an instruction may write them, all alike."""
    mark = random.choice(("`{}`", "`{}`", "{}", "'{}'"))
    return tuple(mark.format(value) for value in values)


def _say(random: random.Random, phrasings: Sequence[str], **values: str) -> str:
    """One of the phrasings with the values in it, now and then without its capital or its full stop."""
    text = random.choice(phrasings).format(
        **dict(zip(values, _quoted(random, *values.values()), strict=True))
    )
    if random.random() < 0.25:
        text = text[0].lower() + text[1:]
    return text.rstrip(".") if random.random() < 0.5 else text


def _body_start(lines: Sequence[str], tree: ast.FunctionDef) -> tuple[int, str] | None:
    """The line of the first statement after the docstring, and its indentation. None on the line of `def`."""
    body = tree.body[1:] if ast.get_docstring(tree) is not None else tree.body
    if not body:
        return None
    line = min([body[0].lineno, *(d.lineno for d in getattr(body[0], "decorator_list", []))]) - 1
    return None if line <= tree.lineno - 1 else (line, _indent(lines[line]))


def _parameters(tree: ast.FunctionDef) -> list[ast.arg]:
    arguments = tree.args
    return [
        a
        for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)
        if a.arg not in ("self", "cls")
    ]


# Renaming.


def rename_variable(function: Function, random: random.Random, names: Sequence[str]) -> Change | None:
    """Rename a local variable everywhere."""
    tree = _tree(function.lines)
    parameters = {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    stored = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    outer = {
        name for node in ast.walk(tree) if isinstance(node, ast.Global | ast.Nonlocal) for name in node.names
    }
    names_ = sorted(stored - parameters - outer)
    renamed = _rename(function.lines, names_, random, names)
    if renamed is None:
        return None
    old, new, after = renamed
    phrasings = (
        "Rename the variable {old} to {new}.",
        "Rename {old} to {new}.",
        "Rename the local variable {old} to {new} everywhere.",
        "Call the variable {new} instead of {old}.",
        "Use the name {new} for {old}.",
        "{old} should be called {new}.",
    )
    return Change(
        Pair(function.lines, after), _say(random, phrasings, old=old, new=new), quotes_selection=True
    )


def rename_parameter(function: Function, random: random.Random, names: Sequence[str]) -> Change | None:
    """Rename a parameter everywhere."""
    tree = _tree(function.lines)
    renamed = _rename(function.lines, [a.arg for a in _parameters(tree)], random, names)
    if renamed is None:
        return None
    old, new, after = renamed
    phrasings = (
        "Rename the parameter {old} to {new}.",
        "Rename the argument {old} to {new}.",
        "Rename {old} to {new}.",
        "Call the parameter {new} instead of {old}.",
        "The parameter {old} should be named {new}.",
    )
    return Change(
        Pair(function.lines, after), _say(random, phrasings, old=old, new=new), quotes_selection=True
    )


def _rename(
    lines: Sequence[str], candidates: Sequence[str], random: random.Random, names: Sequence[str]
) -> tuple[str, str, tuple[str, ...]] | None:
    """Rename a candidate of which every occurrence as a word is one of the variable, so there is no doubt."""
    tree = _tree(lines)
    for old in random.sample(candidates, len(candidates)):
        places = {
            place
            for node in ast.walk(tree)
            if (isinstance(node, ast.Name) and node.id == old and (place := _place(node)))
            or (
                isinstance(node, ast.arg)
                and node.arg == old
                and (place := _Place(node.lineno - 1, node.col_offset, node.col_offset + len(old)))
            )
        }
        words = _words(lines, old)
        if len(old) > 1 and 1 < len(words) <= 9 and set(words) == places:
            new = new_name(random, names, lines, old)
            return old, new, _replace(lines, words, new)
    return None


_CALLERS = (
    ("def {caller}({a}):", "    return {call}({a})"),
    ("def {caller}({a}):", "    {b} = {call}({a})", "    return {b}"),
    ("def {caller}({a}):", "    for {b} in {a}:", "        {call}({b})"),
    ("def {caller}():", "    print({call}())"),
    ("def {caller}({a}, {b}):", "    if {a}:", "        return {call}({b})", "    return None"),
)


def _caller(function: Function, random: random.Random, names: Sequence[str], indent: str = "") -> list[str]:
    """A function that calls `{call}`."""
    a, b, caller = (new_name(random, names, function.lines, "a") for _ in range(3))
    text = [line.format(a=a, b=b, caller=caller, call="{call}") for line in random.choice(_CALLERS)]
    return [indent + line for line in text]


def rename_function(function: Function, random: random.Random, names: Sequence[str]) -> Change | None:
    """Rename a function where it is defined and called in the file."""
    renamed = _rename_function(function, random, names)
    if renamed is None:
        return None
    new, after = renamed
    caller = None
    if random.random() < 0.4 and not function.is_method:
        lines = _caller(function, random, names)
        caller = Pair(
            tuple(line.replace("{call}", function.name) for line in lines),
            tuple(line.replace("{call}", new) for line in lines),
        )
    phrasings = (
        "Rename the function {old} to {new}.",
        "Rename {old} to {new}.",
        "Rename this function to {new}.",
        "Call this function {new}.",
        "Rename {old} to {new} everywhere.",
    )
    return Change(
        Pair(function.lines, after), _say(random, phrasings, old=function.name, new=new), caller=caller
    )


def rename_across_files(function: Function, random: random.Random, names: Sequence[str]) -> Change | None:
    """Rename a function in its file and in another that imports it."""
    renamed = _rename_function(function, random, names)
    if renamed is None or function.is_method:
        return None
    new, after = renamed
    imported = ["{call}", *random.sample(list(names), random.choice((0, 0, 1, 2)))]
    random.shuffle(imported)
    lines = [f"from {{module}} import {', '.join(imported)}", "", "", *_caller(function, random, names)]
    if random.random() < 0.4:
        lines = [random.choice(("import os", "import sys", "import re", "import json")), "", *lines]
    neighbour = Pair(
        tuple(line.replace("{call}", function.name) for line in lines),
        tuple(line.replace("{call}", new) for line in lines),
    )
    phrasings = (
        "Rename the function {old} to {new}, also where it is used.",
        "Rename {old} to {new} in all files.",
        "Rename {old} to {new} everywhere.",
        "Rename {old} to {new}, in the other file too.",
    )
    return Change(
        Pair(function.lines, after), _say(random, phrasings, old=function.name, new=new), neighbour=neighbour
    )


def _rename_function(
    function: Function, random: random.Random, names: Sequence[str]
) -> tuple[str, tuple[str, ...]] | None:
    if function.name.startswith("__") or function.name == "f":
        return None
    words = _words(function.lines, function.name)
    if len(words) > 2 or any(function.lines[w.line][: w.start].endswith((".", '"', "'")) for w in words):
        return None
    new = new_name(random, names, function.lines, function.name)
    return new, _replace(function.lines, words, new)


# Signatures.

_TYPES = ("int", "str", "float", "bool", "bytes", "list", "dict", "object", "list[str]", "dict[str, int]",
          "str | None", "int | None", "tuple[int, ...]", "Path", "set[str]")  # fmt: skip


def annotate_parameter(function: Function, random: random.Random, names: Sequence[str]) -> Change | None:
    """Annotate a parameter with a type that the instruction names."""
    tree = _tree(function.lines)
    plain = [a for a in _parameters(tree) if a.annotation is None]
    if not plain:
        return None
    parameter = random.choice(plain)
    type_ = random.choice(_TYPES)
    after = _annotated(function.lines, tree, [(parameter, type_)])
    phrasings = (
        "Annotate the parameter {name} as {type}.",
        "Annotate {name} with {type}.",
        "Add the type {type} to {name}.",
        "The parameter {name} is of type {type}; annotate it.",
        "{name} is {type}: add the annotation.",
    )
    instruction = _say(random, phrasings, name=parameter.arg, type=type_)
    return _at_signature(Change(Pair(function.lines, after), instruction), tree, random)


def _annotated(
    lines: Sequence[str], tree: ast.FunctionDef, types: Sequence[tuple[ast.arg, str]]
) -> tuple[str, ...]:
    """The lines with annotated parameters, and with PEP 8's blanks around the `=` of their defaults."""
    arguments = tree.args
    positional = [*arguments.posonlyargs, *arguments.args]
    defaults: dict[str, ast.expr] = {
        a.arg: d for a, d in zip(reversed(positional), reversed(arguments.defaults), strict=False)
    } | {a.arg: d for a, d in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True) if d is not None}
    result = list(lines)
    for parameter, type_ in reversed(types):
        i, end = parameter.lineno - 1, parameter.col_offset + len(parameter.arg)
        rest = result[i][end:]
        if parameter.arg in defaults:
            rest = re.sub(r"^\s*=\s*", " = ", rest)
        result[i] = f"{result[i][:end]}: {type_}{rest}"
    return tuple(result)


def annotate_return(function: Function, random: random.Random, names: Sequence[str]) -> Change | None:
    """Annotate the return value with a type that the instruction names."""
    type_ = random.choice((*_TYPES, "None", "None"))
    after = _returning(function.lines, type_)
    if after is None:
        return None
    phrasings = (
        "Annotate the return value as {type}.",
        "Add the return type {type}.",
        "The function returns {type}; annotate it.",
        "Annotate the return type with {type}.",
        "It returns {type}: add the annotation.",
    )
    change = Change(Pair(function.lines, after), _say(random, phrasings, type=type_))
    return _at_signature(change, _tree(function.lines), random)


def _returning(lines: Sequence[str], type_: str) -> tuple[str, ...] | None:
    tree = _tree(lines)
    start = _body_start(lines, tree)
    last = (start[0] if start and ast.get_docstring(tree) is None else tree.body[0].lineno - 1) - 1
    for i in range(tree.lineno - 1, last + 1):
        if lines[i].endswith("):") and tree.returns is None:
            return (*lines[:i], f"{lines[i][:-1]} -> {type_}:", *lines[i + 1 :])
    return None


def _at_signature(change: Change, tree: ast.FunctionDef, random: random.Random) -> Change:
    """The same, now and then with only the first line of the function selected, or the cursor there."""
    chance = random.random()
    if chance > 0.35:
        return change
    line = tree.lineno - 1
    end = line + 1 if chance < 0.25 else line
    return Change(change.main, change.instruction, line, end, change.caller, change.header, change.neighbour)


_DEFAULTS = ("None", "0", "1", "True", "False", '""', "()", "10", "100", "2", '"utf-8"', "-1", "0.5")


def change_default(function: Function, random: random.Random, names: Sequence[str]) -> Change | None:
    """Give a parameter another default."""
    tree = _tree(function.lines)
    arguments = tree.args
    pairs = [
        (a.arg, place)
        for a, d in [
            *zip(reversed(arguments.args), reversed(arguments.defaults), strict=False),
            *zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True),
        ]
        if d is not None and (place := _place(d)) and isinstance(d, ast.Constant)
    ]
    if not pairs:
        return None
    name, place = random.choice(pairs)
    old = function.lines[place.line][place.start : place.end]
    new = random.choice([d for d in (*_DEFAULTS, str(random.randint(3, 5000))) if d != old])
    phrasings = (
        "Change the default of {name} to {new}.",
        "Make {new} the default of {name}.",
        "{name} should default to {new}.",
        "Set the default value of {name} to {new}.",
        "Let {name} be {new} by default.",
    )
    change = Change(
        Pair(function.lines, _replace(function.lines, [place], new)),
        _say(random, phrasings, name=name, new=new),
    )
    return _at_signature(change, tree, random)


def add_parameter(function: Function, random: random.Random, names: Sequence[str]) -> Change | None:
    """Add a last parameter with a default."""
    tree = _tree(function.lines)
    arguments = tree.args
    line = function.lines[tree.lineno - 1]
    if arguments.vararg or arguments.kwarg or arguments.kwonlyargs or not re.search(r"\)( -> .*)?:$", line):
        return None
    if not line.startswith("def ") or line.count("(") != line.count(")"):
        return None
    closing = line.rindex(")") if " -> " not in line else line.index(") -> ")
    name = new_name(random, names, function.lines, "a")
    default = random.choice((*_DEFAULTS, str(random.randint(3, 5000))))
    comma = ", " if arguments.args else ""
    new = f"{line[:closing]}{comma}{name}={default}{line[closing:]}"
    phrasings = (
        "Add a parameter {name} with the default {default}.",
        "Add the parameter {name}, which is {default} by default.",
        "Add an argument {name} that defaults to {default}.",
        "It needs a parameter {name} with default {default}.",
    )
    i = tree.lineno - 1
    after = (*function.lines[:i], new, *function.lines[i + 1 :])
    change = Change(Pair(function.lines, after), _say(random, phrasings, name=name, default=default))
    return _at_signature(change, tree, random)


# Docstrings.

_VERBS = (
    "Return",
    "Compute",
    "Read",
    "Write",
    "Check",
    "Update",
    "Find",
    "Parse",
    "Make",
    "Remove",
    "Handle",
)
_OBJECTS = ("the result", "the next value", "all items", "the given file", "a new list",
            "the number of lines",
            "one request", "the settings", "what was found", "the first match", "everything that is left",
            "a copy of the data", "the path", "the text as a string", "the internal state")  # fmt: skip
_TAILS = (
    "",
    "",
    "",
    " or raise an error",
    " and close it",
    " if there is one",
    " for the caller",
    " once more",
)


def _sentence(random: random.Random, names: Sequence[str]) -> str:
    object_ = random.choice(_OBJECTS) if random.random() < 0.7 else f"the {random.choice(names).strip('_')}"
    return f"{random.choice(_VERBS)} {object_}{random.choice(_TAILS)}."


def _docstring(lines: Sequence[str]) -> tuple[int, int] | None:
    """The lines of the docstring, end exclusive."""
    tree = _tree(lines)
    if ast.get_docstring(tree) is None or tree.body[0].end_lineno is None:
        return None
    first, end = tree.body[0].lineno - 1, tree.body[0].end_lineno
    return (first, end) if lines[first].lstrip()[:3] == '"""' and lines[end - 1].endswith('"""') else None


def add_docstring(function: Function, random: random.Random, names: Sequence[str]) -> Change | None:
    """Add a docstring whose words the instruction gives."""
    text = _sentence(random, names)
    after = _documented(function.lines, text)
    if after is None:
        return None
    phrasings = (
        "Add the docstring {text}",
        "Add a docstring: {text}",
        "Document it with {text}",
        'Add the docstring "{text}"',
        "The docstring should be {text}",
    )
    return Change(Pair(function.lines, after), random.choice(phrasings).format(text=text))


def _documented(lines: Sequence[str], text: str) -> tuple[str, ...] | None:
    tree = _tree(lines)
    start = _body_start(lines, tree)
    if start is None or ast.get_docstring(tree) is not None:
        return None
    line, indent = start
    if lines[line - 1].rstrip()[-1:] != ":":
        return None  # a comment stands between
    return (*lines[:line], f'{indent}"""{text}"""', *lines[line:])


def describe_function(function: Function, random: random.Random, names: Sequence[str]) -> Change | None:
    """The built-in action "Add docstrings": in its simple form, the function's name as a sentence."""
    words = [word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+|\d+", function.name)]
    if len(words) < 2 or function.name.startswith("__"):
        return None
    after = _documented(function.lines, f"{' '.join(words).capitalize()}.")
    if after is None:
        return None
    phrasings = (
        _INSTRUCTIONS["Add docstrings"],
        "Add a docstring.",
        "Document this function.",
        "Add docstrings",
    )
    weights = (6, 1, 1, 1)
    return Change(Pair(function.lines, after), random.choices(phrasings, weights)[0])


def change_docstring(function: Function, random: random.Random, names: Sequence[str]) -> Change | None:
    """Put other words into a docstring."""
    lines = function.lines
    found = _docstring(lines)
    if found is None:
        lines = _documented(lines, _sentence(random, names)) or lines
        found = _docstring(lines)
    if found is None or found[1] - found[0] > 4:
        return None
    first, end = found
    text = _sentence(random, names)
    after = (*lines[:first], f'{_indent(lines[first])}"""{text}"""', *lines[end:])
    phrasings = (
        "Change the docstring to {text}",
        "Replace the docstring by {text}",
        'The docstring should say "{text}"',
        "Let the docstring be: {text}",
    )
    return Change(Pair(lines, after), random.choice(phrasings).format(text=text))


def remove_docstring(function: Function, random: random.Random, names: Sequence[str]) -> Change | None:
    """Take the docstring out."""
    lines = function.lines
    if _docstring(lines) is None:
        lines = _documented(lines, _sentence(random, names)) or lines
    found = _docstring(lines)
    if found is None or found[1] - found[0] > 6 or len(_tree(lines).body) < 2:
        return None
    phrasings = (
        "Remove the docstring.",
        "Delete the docstring.",
        "Take the docstring out.",
        "No docstring here.",
    )
    return Change(Pair(lines, (*lines[: found[0]], *lines[found[1] :])), _say(random, phrasings))


# Values and strings.


def change_constant(function: Function, random: random.Random, names: Sequence[str]) -> Change | None:
    """Replace a number or a string that occurs once."""
    tree = _tree(function.lines)
    docstring = _docstring(function.lines)
    places = [
        (node.value, place)
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
        and (place := _place(node))
        and place.line != (docstring or (-1, 0))[0]
    ]
    random.shuffle(places)
    for value, place in places:
        old = function.lines[place.line][place.start : place.end]
        if isinstance(value, bool) or _text(function.lines).count(old) != 1:
            continue
        if isinstance(value, int):
            new = str(
                random.choice((random.randint(0, 20), random.randint(0, 1000), 2 ** random.randint(3, 16)))
            )
        elif isinstance(value, str) and re.fullmatch(r"""(["'])[\w .:/-]{2,24}\1""", old):
            new = old[0] + random.choice((random.choice(names), " ".join(random.sample(names, 2)))) + old[0]
        else:
            continue
        if new == old:
            continue
        phrasings = (
            "Change {old} to {new}.",
            "Replace {old} by {new}.",
            "Use {new} instead of {old}.",
            "{old} should be {new}.",
            "Make it {new}, not {old}.",
        )
        after = _replace(function.lines, [place], new)
        change = Change(Pair(function.lines, after), _say(random, phrasings, old=old, new=new))
        if random.random() < 0.3:
            return Change(change.main, change.instruction, place.line, place.line + 1)
        return change
    return None


_TEMPLATES = ("{0}: {1}", "{0} {1}", "no {0} in {1}", "{0} = {1}", "found {0}", "cannot read {0}", "<{0}>",
              "{0}/{1}", "unknown {0}: {1}", "{0}, {1}", "error in {0} ({1})", "name {0}",
              "({0}) {1}")  # fmt: skip
_STATEMENTS = ("print({})", "raise ValueError({})", "message = {}", "return {}", "log.info({})", "name = {}",
               "lines.append({})", "self.fail({})")  # fmt: skip


def to_f_string(function: Function, random: random.Random, names: Sequence[str]) -> Change | None:
    """Turn `%` formatting or `str.format` into an f-string."""
    template = random.choice(_TEMPLATES)
    if random.random() < 0.3:
        template = f"{random.choice(names).strip('_')} {template}"
    n = 2 if "{1}" in template else 1
    parameters = [a.arg for a in _parameters(_tree(function.lines))]
    pool = [
        *parameters,
        *(p + ".name" for p in parameters),
        f"len({random.choice(names)})",
        *random.sample(names, 3),
    ]
    values = random.sample(pool, n)
    mark = random.choice('""\'')
    reprs = [random.random() < 0.15 for _ in values]
    new = (
        "f"
        + mark
        + template.format(*(f"{{{v}{'!r' if r else ''}}}" for v, r in zip(values, reprs, strict=True)))
    )
    new += mark
    if random.random() < 0.55:
        specs = ["%r" if r else random.choice(("%s", "%s", "%d")) for r in reprs]
        given = (
            values[0] if n == 1 and random.random() < 0.7 else f"({', '.join(values)}{',' if n == 1 else ''})"
        )
        old = f"{mark}{template.format(*specs)}{mark} % {given}"
    else:
        specs = ["{!r}" if r else "{}" for r in reprs]
        old = f"{mark}{template.format(*specs)}{mark}.format({', '.join(values)})"
    statement = random.choice(_STATEMENTS)
    inserted = _insert(function, random, statement.format(old))
    if inserted is None:
        return None
    before, line = inserted
    after = (*before[:line], _indent(before[line]) + statement.format(new), *before[line + 1 :])
    phrasings = (
        "Use an f-string.",
        "Convert it to an f-string.",
        "Turn the formatting into an f-string.",
        "Replace the string formatting by an f-string.",
        "Use f-strings instead of % and format.",
    )
    change = Change(Pair(before, after), _say(random, phrasings))
    return _at_line(change, line, random)


def _at_line(change: Change, line: int, random: random.Random) -> Change:
    """The same, now and then with only this line selected."""
    if random.random() < 0.3:
        return Change(change.main, change.instruction, line, line + 1, problem=change.problem)
    return change


def _insert(function: Function, random: random.Random, statement: str) -> tuple[tuple[str, ...], int] | None:
    """The function with a statement before one of its own, and the line of it."""
    tree = _tree(function.lines)
    places = [
        node.lineno - 1
        for node in ast.walk(tree)
        if isinstance(node, ast.stmt)
        and node is not tree
        and function.lines[node.lineno - 1][: node.col_offset].strip() == ""
        and not function.lines[node.lineno - 1].lstrip().startswith(('"', "'", "r'", 'r"', "elif", "@"))
        and not getattr(node, "decorator_list", [])
    ]
    if not places:
        return None
    line = random.choice(places)
    new = _indent(function.lines[line]) + statement
    lines = (*function.lines[:line], new, *function.lines[line:])
    return (lines, line) if lines.count(new) == 1 else None


def remove_print(function: Function, random: random.Random, names: Sequence[str]) -> Change | None:
    """Take a debug print out."""
    name = random.choice(names)
    statement = random.choice(
        (
            f"print({name})",
            f'print("DEBUG", {name})',
            'print("here")',
            f'print("{name} =", {name})',
            f"print(repr({name}))",
            f'print(f"{{{name}=}}")',
            f'print("{random.choice(names)}", {name}, file=sys.stderr)',
        )
    )
    if "print(" in _text(function.lines):
        return None
    inserted = _insert(function, random, statement)
    if inserted is None:
        return None
    before, _ = inserted
    phrasings = (
        "Remove the debug print.",
        "Remove the print.",
        "Delete the print statement.",
        "Take the debugging output out.",
        "Remove the debug output.",
    )
    return Change(Pair(before, function.lines), _say(random, phrasings))


# Control flow.

_INVERSE = {"==": "!=", "!=": "==", "<": ">=", ">=": "<", ">": "<=", "<=": ">", "is": "is not",
            "is not": "is", "in": "not in", "not in": "in"}  # fmt: skip
_OPERATORS = {ast.Eq: "==", ast.NotEq: "!=", ast.Lt: "<", ast.GtE: ">=", ast.Gt: ">", ast.LtE: "<=",
              ast.Is: "is", ast.IsNot: "is not", ast.In: "in", ast.NotIn: "not in"}  # fmt: skip


def _inverted(node: ast.expr, source: str) -> str | None:
    """The negation of a condition, as people write it."""

    def text(part: ast.expr) -> str:
        return ast.get_source_segment(source, part) or ""

    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        return text(node.operand)
    if isinstance(node, ast.Compare) and len(node.ops) == 1:
        return f"{text(node.left)} {_INVERSE[_OPERATORS[type(node.ops[0])]]} {text(node.comparators[0])}"
    if isinstance(node, ast.Name | ast.Attribute | ast.Call | ast.Subscript):
        return f"not {text(node)}"
    return None


def invert_condition(function: Function, random: random.Random, names: Sequence[str]) -> Change | None:
    """Negate a condition and swap its branches."""
    lines = list(function.lines)
    source = _text(lines)
    tree = _tree(lines)
    nodes = [n for n in ast.walk(tree) if isinstance(n, ast.If) and n.orelse]
    random.shuffle(nodes)
    for node in nodes:
        i = node.lineno - 1
        body_end, end = node.body[-1].end_lineno, node.end_lineno
        inverted = _inverted(node.test, source)
        if body_end is None or end is None or inverted is None or end - i > 9 or "\n" in inverted:
            continue
        otherwise = next((j for j in range(body_end, end) if lines[j] == _indent(lines[i]) + "else:"), None)
        old = ast.get_source_segment(source, node.test)
        if otherwise != body_end or lines[i] != f"{_indent(lines[i])}if {old}:":
            continue
        if node.body[0].lineno - 1 != i + 1 or node.orelse[0].lineno - 1 != otherwise + 1:
            continue
        new = [
            f"{_indent(lines[i])}if {inverted}:",
            *lines[otherwise + 1 : end],
            lines[otherwise],
            *lines[i + 1 : otherwise],
        ]
        after = (*lines[:i], *new, *lines[end:])
        phrasings = (
            "Invert the condition and swap the branches.",
            "Invert the if and swap its branches.",
            "Negate the condition and swap if and else.",
            "Swap the branches of the if.",
        )
        change = Change(Pair(function.lines, tuple(after)), _say(random, phrasings))
        if len(nodes) > 1 or random.random() < 0.5:
            return Change(change.main, change.instruction, i, end)
        return change
    return None


_ERRORS = ("ValueError", "KeyError", "OSError", "TypeError", "Exception", "IndexError", "AttributeError",
           "RuntimeError", "ImportError", "UnicodeDecodeError")  # fmt: skip
_HANDLERS = (("pass", "ignore it"), ("raise", "raise it again"), ("return None", "return None"),
             ("return False", "return False"), ("continue", "continue"), ("return", "return"))  # fmt: skip


def wrap_try(function: Function, random: random.Random, names: Sequence[str]) -> Change | None:
    """Put the selected lines into a try statement."""
    found = _statements(function, random)
    if found is None:
        return None
    first, end, in_loop = found
    error = random.choice(_ERRORS)
    handler, words = random.choice([h for h in _HANDLERS if in_loop or h[0] != "continue"])
    lines = function.lines
    after = _in_try(lines, first, end, f"except {error}:", [handler])
    phrasings = (
        "Wrap it in try and except {error}: {words}.",
        "Catch {error} here and {words}.",
        "Put it into a try statement; on {error}, {words}.",
        "Wrap the selected lines in try/except {error} and {words}.",
    )
    instruction = random.choice(phrasings).format(error=error, words=words)
    return Change(Pair(lines, after), instruction, first, end)


def handle_errors(function: Function, random: random.Random, names: Sequence[str]) -> Change | None:
    """The built-in action "Add error handling": in its simple form, the error is raised with a message."""
    found = _statements(function, random)
    if found is None:
        return None
    first, end, _ = found
    message = f'raise RuntimeError("{function.name} failed") from error'
    after = _in_try(function.lines, first, end, "except Exception as error:", [message])
    phrasings = (_INSTRUCTIONS["Add error handling"], "Add error handling.", "Handle errors here.")
    return Change(Pair(function.lines, after), random.choices(phrasings, (4, 1, 1))[0], first, end)


def _statements(function: Function, random: random.Random) -> tuple[int, int, bool] | None:
    """The lines of one to three statements that stand in a row, end exclusive, and whether in a loop."""
    tree = _tree(function.lines)
    rows: list[tuple[list[ast.stmt], bool]] = []
    for node in ast.walk(tree):
        for field in ("body", "orelse", "finalbody"):
            block = getattr(node, field, [])
            row = [s for s in block if isinstance(s, ast.stmt)] if isinstance(block, list) else []
            row = row[1:] if node is tree and ast.get_docstring(tree) is not None else row
            if row and (row[0].lineno > getattr(node, "lineno", 0)):
                rows.append((row, isinstance(node, ast.For | ast.While)))
    random.shuffle(rows)
    for row, in_loop in rows:
        start = random.randrange(len(row))
        chosen = row[start : start + random.randint(1, 3)]
        first, end = chosen[0].lineno - 1, chosen[-1].end_lineno
        if end is None or getattr(chosen[0], "decorator_list", []) or end - first > 6:
            continue
        text = _text(function.lines[first:end])
        if '"""' in text or "'''" in text or isinstance(chosen[0], ast.Pass | ast.Continue | ast.Break):
            continue
        if function.lines[first][: chosen[0].col_offset].strip() == "" and end - first < len(function.lines):
            return first, end, in_loop
    return None


def _in_try(
    lines: Sequence[str], first: int, end: int, clause: str, handler: Sequence[str]
) -> tuple[str, ...]:
    indent = _indent(lines[first])
    return (
        *lines[:first],
        f"{indent}try:",
        *(f"    {line}" if line else line for line in lines[first:end]),
        f"{indent}{clause}",
        *(f"{indent}    {line}" for line in handler),
        *lines[end:],
    )


# The other built-in actions, in a simple form.


def simplify(function: Function, random: random.Random, names: Sequence[str]) -> Change | None:
    """The built-in action "Simplify": a clumsy statement in the function becomes a plain one."""
    tree = _tree(function.lines)
    a, b = (*(x.arg for x in _parameters(tree)), *random.sample(names, 2))[:2]
    if random.random() < 0.5:
        b = random.choice(names)
    n = random.randint(1, 99)
    patterns: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
        ((f"{b} = {b} + {n}",), (f"{b} += {n}",)),
        ((f"{b} = {b} - {a}",), (f"{b} -= {a}",)),
        ((f"if {a} == True:", f"    {b} = {n}"), (f"if {a}:", f"    {b} = {n}")),
        ((f"if {a} == False:", f"    {b} = {n}"), (f"if not {a}:", f"    {b} = {n}")),
        ((f"if len({a}) == 0:", f"    {b} = {n}"), (f"if not {a}:", f"    {b} = {n}")),
        ((f"if len({a}) > 0:", f"    {b} = {n}"), (f"if {a}:", f"    {b} = {n}")),
        ((f"if {a} == None:", f"    {b} = {n}"), (f"if {a} is None:", f"    {b} = {n}")),
        ((f"if {a} != None:", f"    {b}({a})"), (f"if {a} is not None:", f"    {b}({a})")),
        ((f"if not {a} in {b}:", f"    {b} = {n}"), (f"if {a} not in {b}:", f"    {b} = {n}")),
        ((f"if {a} == {n}:", "    return True", "else:", "    return False"), (f"return {a} == {n}",)),
        ((f"if {a} in {b}:", "    return True", "return False"), (f"return {a} in {b}",)),
        ((f"{b} = []", f"for item in {a}:", f"    {b}.append(item)"), (f"{b} = list({a})",)),
        ((f"for i in range(len({a})):", f"    {b}({a}[i])"), (f"for item in {a}:", f"    {b}(item)")),
    )
    old, new = random.choice(patterns)
    inserted = _insert(function, random, "\0")
    if inserted is None:
        return None
    lines, line = inserted
    indent = _indent(lines[line])
    before = (*lines[:line], *(indent + text for text in old), *lines[line + 1 :])
    after = (*lines[:line], *(indent + text for text in new), *lines[line + 1 :])
    instruction = random.choices((_INSTRUCTIONS["Simplify"], "Simplify this.", "Simplify"), (5, 1, 1))[0]
    if random.random() < 0.3:
        return Change(Pair(before, after), instruction, line, line + len(old))
    return Change(Pair(before, after), instruction)


_CONVENTIONS = {
    "name": "str", "path": "str", "text": "str", "s": "str", "string": "str", "line": "str",
    "filename": "str", "key": "str", "prefix": "str", "msg": "str", "message": "str", "title":
    "str", "url": "str", "encoding": "str", "n": "int", "i": "int", "j": "int", "index": "int",
    "size": "int", "count": "int", "length": "int", "limit": "int", "width": "int", "height": "int",
    "level": "int", "depth": "int", "port": "int", "code": "int", "data": "bytes", "timeout":
    "float", "items": "list", "args": "list", "lines": "list", "values": "list", "paths": "list",
    "texts": "list", "names": "list", "words": "list", "counts": "dict", "kwargs": "dict", "x":
    "float", "y": "float", "verbose": "bool", "flag": "bool", "callback": "Callable", "func":
    "Callable",
}  # fmt: skip


def annotate_types(function: Function, random: random.Random, names: Sequence[str]) -> Change | None:
    """The built-in action "Add type annotations": in its simple form, by default value or usual name."""
    tree = _tree(function.lines)
    if tree.args.vararg or tree.args.kwarg or tree.args.posonlyargs or tree.returns:
        return None
    arguments = tree.args
    defaults = dict(
        zip(reversed([a.arg for a in arguments.args]), reversed(arguments.defaults), strict=False)
    )
    types: list[tuple[ast.arg, str]] = []
    for parameter in arguments.args:
        if parameter.arg in ("self", "cls"):
            continue
        default = defaults.get(parameter.arg)
        value = default.value if isinstance(default, ast.Constant) else None
        named = type(value).__name__ if isinstance(value, bool | int | str | float | bytes) else None
        type_ = named or _CONVENTIONS.get(parameter.arg)
        if type_ is None or parameter.annotation is not None or (default is not None and named is None):
            return None
        types.append((parameter, type_))
    returns = [n for n in ast.walk(tree) if isinstance(n, ast.Return) and n.value is not None]
    yields = any(isinstance(n, ast.Yield | ast.YieldFrom) for n in ast.walk(tree))
    lines: tuple[str, ...] | None = _annotated(function.lines, tree, types)
    if not returns and not yields:
        lines = _returning(lines, "None")
    elif returns and all(isinstance(r.value, ast.Compare) for r in returns):
        lines = _returning(lines, "bool")
    elif returns and all(isinstance(r.value, ast.Constant | ast.JoinedStr) for r in returns):
        kinds = {
            type(r.value.value).__name__ if isinstance(r.value, ast.Constant) else "str" for r in returns
        }
        lines = _returning(lines, kinds.pop()) if len(kinds) == 1 and "NoneType" not in kinds else None
    if lines is None or lines == function.lines:
        return None
    phrasings = (_INSTRUCTIONS["Add type annotations"], "Add type annotations.", "Annotate this function.")
    return Change(Pair(function.lines, lines), random.choices(phrasings, (5, 1, 1))[0])


def extract_function(function: Function, random: random.Random, names: Sequence[str]) -> Change | None:
    """The built-in action "Extract function": in its simple form, the value of one selected assignment."""
    if function.is_method:
        return None
    tree = _tree(function.lines)
    if tree.decorator_list:
        return None
    source = _text(function.lines)
    known = {n.arg for n in ast.walk(tree.args) if isinstance(n, ast.arg)} | {
        n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)
    }
    found = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
        and len(node.targets) == 1
        and isinstance(node.targets[0], ast.Name)
        and _place(node) is not None
        and not isinstance(node.value, ast.Constant | ast.Name)
        and not any(
            isinstance(n, ast.Lambda | ast.comprehension | ast.Await | ast.Yield) for n in ast.walk(node)
        )
    ]
    if not found:
        return None
    node = random.choice(found)
    target = node.targets[0]
    value = ast.get_source_segment(source, node.value)
    assert isinstance(target, ast.Name)
    reads = [n for n in ast.walk(node.value) if isinstance(n, ast.Name) and n.id in known]
    free = dict.fromkeys(n.id for n in sorted(reads, key=lambda n: n.col_offset))
    i = node.lineno - 1
    call = f"compute_{target.id.strip('_')}({', '.join(free)})"
    indent = _indent(function.lines[i])
    line = f"{indent}{target.id} = {call}"
    if function.lines[i] != f"{indent}{target.id} = {value}" or len(free) > 3:
        return None
    new = (f"def {call}:", f"    return {value}", "", "")
    after = (*new, *function.lines[:i], line, *function.lines[i + 1 :])
    phrasings = (_INSTRUCTIONS["Extract function"], "Extract this into a function.", "Make this a function.")
    return Change(Pair(function.lines, after), random.choices(phrasings, (4, 1, 1))[0], i, i + 1)


# Quick fixes.


def fix_typo(function: Function, random: random.Random, names: Sequence[str]) -> Change | None:
    """A quick fix: a misspelled name that a linter calls undefined."""
    tree = _tree(function.lines)
    known = [a.arg for a in _parameters(tree)]
    uses = [
        (node.id, place)
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and node.id in known and len(node.id) > 3 and (place := _place(node))
        if function.lines[place.line][place.start : place.end] == node.id
    ]
    if not uses:
        return None
    name, place = random.choice(uses)
    i = random.randrange(1, len(name) - 1)
    wrong = random.choice(
        (name[:i] + name[i + 1] + name[i] + name[i + 2 :], name[:i] + name[i + 1 :], name[: i + 1] + name[i:])
    )
    if not wrong.isidentifier() or wrong in _text(function.lines):
        return None
    before = _replace(function.lines, [place], wrong)
    message = random.choice(("Undefined name `{}`", "undefined name '{}'", '"{}" is not defined')).format(
        wrong
    )
    end = place.line + random.choice((0, 1))
    return Change(Pair(before, function.lines), fix_instruction([message]), place.line, end, problem=message)


def remove_import(function: Function, random: random.Random, names: Sequence[str]) -> Change | None:
    """A quick fix: an import that nothing uses."""
    modules = [
        "os",
        "sys",
        "re",
        "json",
        "time",
        "math",
        "random",
        "string",
        "itertools",
        "logging",
        "socket",
    ]
    random.shuffle(modules)
    modules = [m for m in modules if not re.search(rf"\b{m}\b", _text(function.lines))][:3]
    lines = [f"import {module}" for module in sorted(modules)]
    if len(lines) < 2:
        return None
    i = random.randrange(len(lines))
    name = lines[i].split()[1]
    message = random.choice(
        (
            "`{}` imported but unused",
            "'{}' imported but unused",
            'Import "{}" is not accessed',
            "Unused import {}",
        )
    ).format(name)
    header = Pair((*lines, ""), (*lines[:i], *lines[i + 1 :], ""))
    # The selection is in the header, see `problem` in `examples`.
    return Change(
        Pair(function.lines, function.lines),
        fix_instruction([message]),
        i,
        i + 1,
        header=header,
        problem=message,
    )


KINDS: dict[str, tuple[Kind, float]] = {
    "rename a variable": (rename_variable, 3.5),
    "rename a parameter": (rename_parameter, 3.0),
    "rename a function": (rename_function, 1.2),
    "rename across files": (rename_across_files, 2.2),
    "annotate a parameter": (annotate_parameter, 1.0),
    "annotate the return": (annotate_return, 0.4),
    "add a parameter": (add_parameter, 0.8),
    "change a default": (change_default, 1.5),
    "add a docstring": (add_docstring, 0.5),
    "change a docstring": (change_docstring, 0.7),
    "remove a docstring": (remove_docstring, 0.4),
    "change a constant": (change_constant, 2.5),
    "to an f-string": (to_f_string, 2.5),
    "remove a debug print": (remove_print, 1.0),
    "invert a condition": (invert_condition, 2.2),
    "wrap in try": (wrap_try, 1.3),
    "fix a misspelled name": (fix_typo, 1.5),
    "remove an import": (remove_import, 0.3),
    "built-in: simplify": (simplify, 2.0),
    "built-in: add docstrings": (describe_function, 1.5),
    "built-in: add type annotations": (annotate_types, 1.2),
    "built-in: add error handling": (handle_errors, 2.0),
    "built-in: extract function": (extract_function, 2.0),
}
"""The kinds by name, and how often each is trained relative to the others."""
