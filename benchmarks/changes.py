"""Changes as a user wants them: a run of lines of a real source file, and what it shall become.

Files are taken from what is on this machine: this repository, the packages of the Python environment, C
headers, npm's JavaScript, Perl's library. The standard library of Python is left out, so that nothing is
measured on the files that misquotes were first counted on.
"""

import itertools
import random
import re
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
OWN = "repository"
"""The source that is this repository, in whatever language."""


class Language(NamedTuple):
    """What has to be known of a language to change its text."""

    suffixes: tuple[str, ...]
    comment: str
    """What begins a comment up to the end of the line."""
    end_comment: str
    """A regular expression for a comment at the end of a line, with the blanks before it."""
    wrapped: tuple[str, str]
    """The line before a block that runs on a condition, and the one after it, if there is one."""


_SLASHES = r"\s+(?://.*|/\*(?:[^*]|\*(?!/))*\*/\s*)$"
LANGUAGES = {
    "python": Language((".py", ".pyi"), "#", r"\s+#.*$", ("if enabled:", "")),
    "javascript": Language((".js", ".mjs", ".cjs"), "//", _SLASHES, ("if (enabled) {", "}")),
    "typescript": Language((".ts",), "//", _SLASHES, ("if (enabled) {", "}")),
    "c": Language((".h", ".c", ".hpp"), "//", _SLASHES, ("if (enabled) {", "}")),
    "lua": Language((".lua",), "--", r"\s+--.*$", ("if enabled then", "end")),
    "perl": Language((".pm", ".pl"), "#", r"\s+#\s.*$", ("if ($enabled) {", "}")),
}
SOURCES = (OWN, *LANGUAGES)

_MARKER = re.compile(r"[<=>|]{5,}|```|~~~")
_WORD = re.compile(r"[A-Za-z_]\w{2,}")
_NUMBER = re.compile(r"(?<![\w.])\d{1,4}(?![\w.])")
_STRING = re.compile(r"(?<=[\"'])[A-Za-z][\w ]*(?=[\"'])")
_ASSIGNMENT = re.compile(r"^(\s*(?:(?:const|let|var|local|my) )?[$\w.]+\s*=\s*)([^=\s][^;,{(\[]*)(;?,?)$")
_KEYWORDS = frozenset(
    re.findall(
        r"\w+",
        "and assert async await break case catch class const continue def default define del elif "
        "else elsif end endif enum except export extern finally for foreach from func function "
        "global goto ifdef ifndef import include int lambda let local long new nil None not null "
        "pass raise return self static struct sub super switch then this throw True False true "
        "false try type typedef typeof union unless unsigned use var void while with yield ",
    )
)


class Document(NamedTuple):
    """A source file, or a part of one."""

    lines: list[str]
    path: str
    """The name it has in a prompt."""
    language: Language


class Change(NamedTuple):
    """What a user wants done to a document. Lines have no line end."""

    document: Document
    at: int
    """The first of the lines that change."""
    old: list[str]
    """A run that occurs once in the document; its first and last line are not blank."""
    new: list[str]
    origin: list[int | None]
    """For each new line which old line it was, changed or not; None for added ones."""
    kind: str

    def with_lines(self, new: Sequence[str]) -> list[str]:
        """The document with these lines in place of the old ones."""
        return [*self.document.lines[: self.at], *new, *self.document.lines[self.at + len(self.old) :]]

    def stays(self, old_idx: int) -> bool:
        """Whether an old line is among the new ones as it was."""
        new_idx = self.new_idx(old_idx)
        return new_idx is not None and self.new[new_idx] == self.old[old_idx]

    def new_idx(self, old_idx: int) -> int | None:
        """Where an old line stands among the new ones."""
        return self.origin.index(old_idx) if old_idx in self.origin else None


def indent_of(line: str) -> str:
    """The white space that a line starts with."""
    return line[: len(line) - len(line.lstrip())]


def unit_of(lines: Sequence[str]) -> str:
    """By what a file indents: a tab, or as many spaces as most lines are deeper than the one before."""
    if sum(line.startswith("\t") for line in lines) > sum(line.startswith("  ") for line in lines):
        return "\t"
    widths = [len(indent_of(line)) for line in lines if line.strip()]
    steps = Counter(b - a for a, b in itertools.pairwise(widths) if 2 <= b - a <= 8)
    return " " * (steps.most_common(1)[0][0] if steps else 4)


def is_code(line: str, language: Language) -> bool:
    """Whether a line has code on it, and not only a bracket or a comment."""
    text = line.strip()
    return bool(_WORD.search(text)) and not text.startswith(
        (language.comment, "#!", "/*", "*", '"""', "=", "-")
    )


def comment_of(line: str, language: Language) -> str:
    """The comment at the end of a line with code, with the blanks before it; empty where there is none."""
    found = re.search(language.end_comment, line)
    if not found or not is_code(line, language):
        return ""
    code = line[: found.start()]
    return found.group() if code.strip() and not any(code.count(quote) % 2 for quote in "\"'`") else ""


# Where files come from.


def files_of(source: str) -> list[Path]:
    """The files of one source that are on this machine, in a fixed order."""
    if source == OWN:
        roots = [ROOT / name for name in ("server", "backends", "editor-clients", "tests", "benchmarks")]
        suffixes = {suffix for language in LANGUAGES.values() for suffix in language.suffixes}
    else:
        roots = [*map(Path, (entry for entry in sys.path if entry.endswith("-packages"))), *_system(source)]
        suffixes = {*LANGUAGES[source].suffixes}
    found: set[Path] = set()
    for root in roots:
        for path in root.rglob("*"):
            folders = path.relative_to(root).parts[:-1]
            # What editors' clients have installed or built, and data of the tests, are not written here.
            is_other = source == OWN and not {"node_modules", "out", "dist", "data"}.isdisjoint(folders)
            is_other |= source == OWN and any(folder.startswith(".") for folder in folders)
            is_other |= not {"unicore", "Unicode"}.isdisjoint(folders)  # tables
            if path.suffix in suffixes and ".min." not in path.name and not is_other:
                found.add(path)
    return sorted(found)


def _system(source: str) -> list[Path]:
    """Folders of the system with files of a language."""
    if source == "c":
        return [Path("/usr/include")]
    if source == "perl":
        return [*Path("/usr/share").glob("perl*")]
    node = shutil.which("node") if source == "javascript" else None
    return [Path(node).resolve().parents[1] / "lib" / "node_modules"] if node else []


def document(path: Path, chance: random.Random) -> Document | None:
    """A file, or 60 to 300 lines of it; None where it is no text that people write by hand."""
    try:
        if not 500 < path.stat().st_size < 400_000:
            return None
        text = path.read_bytes().decode("utf-8")
    except (OSError, UnicodeDecodeError):
        return None
    lines = text.split("\n")[:-1]
    if "\r" in text or "\f" in text or len(lines) < 20 or max(map(len, lines)) > 160:
        return None
    n_lines = chance.randint(60, 300)
    first = chance.randrange(max(1, len(lines) - n_lines))
    lines = lines[first : first + n_lines]
    if any(_MARKER.match(line.strip()) for line in lines):
        return None
    language = next(one for one in LANGUAGES.values() if path.suffix in one.suffixes)
    return Document(lines, f"{path.parent.name}/{path.name}".replace(" ", "_"), language)


def documents(sources: Sequence[str], n: int, chance: random.Random) -> list[Document]:
    """At most so many documents, as many of each source that is here."""
    found: list[Document] = []
    for source in sources:
        paths = files_of(source)
        chance.shuffle(paths)
        wanted = len(found) + n // len(sources)
        for path in paths:
            if len(found) >= wanted:
                break
            if one := document(path, chance):
                found.append(one)
    return found


# What is done to a line.


def reworded(line: str, chance: random.Random, one: Document) -> str | None:
    """The line with an identifier, a number, a string or an expression of its code replaced."""
    if not is_code(line, one.language):
        return None
    comment = comment_of(line, one.language)
    code = line.removesuffix(comment) if comment else line
    words = [found for found in _WORD.finditer(code) if found.group() not in _KEYWORDS]
    choices: list[str] = [
        code[: found.start()] + _other_word(found.group(), chance) + code[found.end() :] for found in words
    ]
    # As often as an identifier, whichever of the others there is.
    others: list[str] = []
    for found in _NUMBER.finditer(code):
        number = str(int(found.group()) + chance.choice([1, 2, 5, 10, 100]))
        others.append(code[: found.start()] + number + code[found.end() :])
    for found in _STRING.finditer(code):
        string = found.group() + chance.choice(["s", " again", "_id", " (s)"])
        others.append(code[: found.start()] + string + code[found.end() :])
    if found := _ASSIGNMENT.match(code):
        others.append(found[1] + chance.choice(["compute(42)", "settings.limit", "default_value"]) + found[3])
    pool = others if others and (not choices or chance.random() < 0.5) else choices
    return chance.choice(pool) + comment if pool else None


def _other_word(word: str, chance: random.Random) -> str:
    if word.isupper():
        return chance.choice([word + "_S", "NEW_" + word])
    camel = re.search(r"[a-z][A-Z]", word)
    added = ["Next", "Id", "All"] if camel else ["_next", "_id", "_all"]
    others = ["value", "entry", "request", "current"]
    return chance.choice([word + chance.choice(added), chance.choice(others)])


# What is done to a run of lines. Each function gives the new lines with their origin, or None.

Lines = list[tuple[int | None, str]]
Changing = Callable[[list[str], Document, random.Random], Lines | None]


def _reword_lines(old: list[str], one: Document, chance: random.Random, n: int = 1) -> Lines | None:
    new: Lines = [*enumerate(old)]
    for idx in chance.sample(range(len(old)), min(n, len(old))):
        if (changed := reworded(old[idx], chance, one)) is not None:
            new[idx] = idx, changed
    return new


def _reword_two(old: list[str], one: Document, chance: random.Random) -> Lines | None:
    return _reword_lines(old, one, chance, 2)


def _reword_commented(old: list[str], one: Document, chance: random.Random) -> Lines | None:
    """The code of a line that has a comment at its end."""
    commented = [idx for idx, line in enumerate(old) if comment_of(line, one.language)]
    if not commented:
        return None
    idx = chance.choice(commented)
    changed = reworded(old[idx], chance, one)
    return [(n, changed if n == idx and changed else line) for n, line in enumerate(old)]


def _rename(old: list[str], one: Document, chance: random.Random) -> Lines | None:
    """One identifier, wherever it stands."""
    words = [word for word in _WORD.findall("\n".join(old)) if word not in _KEYWORDS]
    if not words:
        return None
    word = chance.choice(words)
    other = _other_word(word, chance)
    return [(idx, re.sub(rf"\b{word}\b", other, line)) for idx, line in enumerate(old)]


def _insert(old: list[str], one: Document, chance: random.Random) -> Lines | None:
    """A line or two, as deep as the line before or after them."""
    models = [line.strip() for line in one.lines if is_code(line, one.language) and line.strip() not in old]
    at = chance.randint(0, len(old))
    beside = old[at - 1] if at else old[0]
    if not models or not beside.strip() or beside.rstrip().endswith((",", "(", "[", "{", ":", "\\")):
        return None
    added: Lines = []
    for line in chance.sample(models, min(len(models), chance.choice([1, 1, 2]))):
        changed = reworded(line, chance, one)
        if changed is not None:
            added.append((None, indent_of(beside) + changed))
    return [*enumerate(old[:at]), *added, *list(enumerate(old))[at:]]


def _delete(old: list[str], one: Document, chance: random.Random) -> Lines | None:
    idx = chance.randrange(len(old))
    if len(old) < 2 or not is_code(old[idx], one.language):
        return None
    return [pair for pair in enumerate(old) if pair[0] != idx]


def _wrap(old: list[str], one: Document, chance: random.Random) -> Lines | None:
    """Lines of one block, put under a condition."""
    first = chance.randrange(len(old))
    last, indent = first, indent_of(old[first])
    while last + 1 < len(old) and old[last + 1].strip() and indent_of(old[last + 1]).startswith(indent):
        last += 1
    if not is_code(old[first], one.language):
        return None
    last = chance.randint(first, last)
    unit = unit_of(one.lines)
    before, after = one.language.wrapped
    inside: Lines = [
        (idx, unit + old[idx] if old[idx].strip() else old[idx]) for idx in range(first, last + 1)
    ]
    closed: Lines = [(None, indent + after)] if after else []
    pairs: Lines = [*enumerate(old)]
    return [*pairs[:first], (None, indent + before), *inside, *closed, *pairs[last + 1 :]]


def rewrite(old: list[str], one: Document, chance: random.Random) -> Lines | None:
    """Other lines in place of all: a run of elsewhere with names changed, as deep as the old one."""
    n = chance.randint(1, 6)
    start = chance.randrange(max(1, len(one.lines) - n))
    model = [line for line in one.lines[start : start + n] if is_code(line, one.language)]
    if not model:
        return None
    base = indent_of(model[0])
    new: Lines = []
    for line in model:
        words = [word for word in _WORD.findall(line) if word not in _KEYWORDS]
        if not words or not line.startswith(base):
            return None
        word = chance.choice(words)
        text = re.sub(rf"\b{word}\b", word + "_new", line.removeprefix(base))
        new.append((None, indent_of(old[0]) + text))
    return new


CHANGES: dict[str, Changing] = {
    "a line": _reword_lines,
    "two lines": _reword_two,
    "a line with a comment": _reword_commented,
    "a name everywhere": _rename,
    "lines added": _insert,
    "a line deleted": _delete,
    "wrapped": _wrap,
    "all new": rewrite,
}


def change(one: Document, chance: random.Random, kind: str | None = None) -> Change | None:
    """A change of 1 to 12 lines, mostly 3 or more. None where what was chosen by chance does not suit."""
    n = chance.choice([1, 2, *range(3, 13)])
    at = chance.randrange(max(1, len(one.lines) - n))
    old = one.lines[at : at + n]
    # Blank lines inside are usual; at the border of a quotation they are a misquote of their own.
    if len(old) < n or not old[0].strip() or not old[-1].strip():
        return None
    if sum(is_code(line, one.language) for line in old) * 2 < len(old) or occurrences(one.lines, old) != [at]:
        return None
    kind = kind or chance.choice([*CHANGES])
    pairs = CHANGES[kind](old, one, chance)
    if pairs is None or [text for _, text in pairs] == old:
        return None
    return Change(one, at, old, [text for _, text in pairs], [idx for idx, _ in pairs], kind)


def occurrences(lines: Sequence[str], run: Sequence[str]) -> list[int]:
    """Where a run of lines stands, blanks at line ends aside."""
    plain, wanted = [line.rstrip() for line in lines], [line.rstrip() for line in run]
    return [at for at in range(len(lines) - len(run) + 1) if plain[at : at + len(run)] == wanted]
