"""Ignore patterns: gitignore(5) as git matches it, in bounded time for every pattern.

Repositories are untrusted, so matching must not be slow for any pattern. It never backtracks: between two `*`
there is text of fixed length, for which the first match is as good as any later one, and between two `**`
there is a fixed number of folders, for which the same holds. Patterns without wildcards are looked up in a
dictionary. So matching a pattern takes at most the product of its length and the path's, and `MAX_WILD_CHARS`
limits the patterns with wildcards.

Git matches bytes: its `?` is half of an `é`. Here one character stands for one byte, see `bytewise`.
"""

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache

MAX_LINE = 4_096
"""Maximum length of a line in bytes; longer ones cannot match any path."""
MAX_WILD_CHARS = 20_000
"""Maximum total length of an ignore file's patterns with wildcards, in characters; each counts as at least
`_LEAST_CHARS`. Large projects have a tenth of that."""
_LEAST_CHARS = 10

_TEXT_AND_STARS = re.compile(r"([^*?\[\\]*[^*?\[\\/])\*{2,}(?:(/)(.*))?$", re.DOTALL)
_ALL = frozenset(map(chr, range(256)))
_CLASSES = {
    "alnum": "0-9A-Za-z",
    "alpha": "A-Za-z",
    "blank": " \t",
    "cntrl": "\0-\x1f\x7f",
    "digit": "0-9",
    "graph": "!-~",
    "lower": "a-z",
    "print": " -~",
    "punct": "!-/:-@[-`{-~",
    "space": " \t\n\r",
    "upper": "A-Z",
    "xdigit": "0-9A-Fa-f",
}


def bytewise(text: str) -> str:
    """A path or a pattern, encoded with one character per byte."""
    return text if text.isascii() else text.encode("utf-8", "surrogatepass").decode("latin-1")


class Pattern:
    """One line of an ignore file."""

    __slots__ = ("_ways", "by_name", "folders_only", "ignores", "literal")

    def __init__(
        self,
        ways: "Sequence[_Runs]",
        literal: str | None,
        *,
        ignores: bool,
        folders_only: bool,
        by_name: bool,
    ) -> None:
        self._ways = ways
        """Alternatives, of which one has to match."""
        self.literal = literal
        """The only name, or path, that it matches; None for a pattern with a wildcard."""
        self.ignores = ignores
        """False for one that begins with `!`."""
        self.folders_only = folders_only
        self.by_name = by_name
        """Whether it is compared with the name only, in any folder."""

    def matches(self, path: str, name: str) -> bool:
        """Whether it matches a path relative to its file's folder; `name` is the path's last part."""
        if self.literal is not None:
            return self.literal == (name if self.by_name else path)
        parts = [name] if self.by_name else path.split("/")
        return any(_fit(runs, parts) for runs in self._ways)


def _fit(runs: "_Runs", parts: Sequence[str]) -> bool:
    """Whether the runs occur in the path in this order: the first at its start, the last at its end."""
    first, last = runs[0], runs[-1]
    if not _stand_at(first, parts, 0, len(parts)):
        return False
    if len(runs) == 1:
        return len(parts) == len(first)
    place, end = len(first), len(parts) - len(last)
    if end < place or not _stand_at(last, parts, end, len(parts)):
        return False
    for run in runs[1:-1]:
        places = (start for start in range(place, end) if _stand_at(run, parts, start, end))
        found = next(places, None)
        if found is None:
            return False
        place = found + len(run)
    return True


def _stand_at(run: "Sequence[_Segment]", parts: Sequence[str], start: int, end: int) -> bool:
    if start + len(run) > end:
        return False
    return all(segment.matches(parts[place]) for place, segment in enumerate(run, start))


class _Segment:
    """The pattern for one name of a path: pieces of fixed length, with anything between them."""

    __slots__ = ("_n_least", "_pieces")

    def __init__(self, pieces: "Sequence[_Piece]") -> None:
        self._pieces = pieces
        self._n_least = sum(piece.n_chars for piece in pieces)

    def matches(self, text: str) -> bool:
        first, last = self._pieces[0], self._pieces[-1]
        if len(text) < self._n_least or not first.is_at(text, 0):
            return False
        if len(self._pieces) == 1:
            return len(text) == self._n_least
        end = len(text) - last.n_chars
        if not last.is_at(text, end):
            return False
        place = first.n_chars
        for piece in self._pieces[1:-1]:
            found = piece.find(text, place, end)
            if found < 0:
                return False
            place = found + piece.n_chars
        return True


_Runs = Sequence[Sequence[_Segment]]
"""A pattern's segments in order, split at `**`."""


class _Piece:
    """A sequence of characters and character sets."""

    __slots__ = ("_regex", "_text", "n_chars")

    def __init__(self, chars: "Sequence[str | frozenset[str]]") -> None:
        self.n_chars = len(chars)
        self._text = "".join(char for char in chars if isinstance(char, str))
        # Without repetition, so without backtracking.
        self._regex = (
            None if len(self._text) == len(chars) else re.compile("".join(map(_one_of, chars)), re.DOTALL)
        )

    def is_at(self, text: str, place: int) -> bool:
        if self._regex is None:
            return text.startswith(self._text, place)
        return self._regex.match(text, place) is not None

    def find(self, text: str, start: int, end: int) -> int:
        """Its first match between two positions; -1 if there is none."""
        if self._regex is None:
            return text.find(self._text, start, end)
        found = self._regex.search(text, start, end)
        return -1 if found is None else found.start()


def _one_of(char: "str | frozenset[str]") -> str:
    if isinstance(char, str):
        return re.escape(char)
    if char is _ALL:
        return "."
    if not char:
        return "(?!)."
    codes = sorted(map(ord, char))
    firsts = [code for code in codes if chr(code - 1 if code else 256) not in char]
    lasts = [code for code in codes if chr(code + 1) not in char]
    spans = zip(firsts, lasts, strict=True)
    return f"[{''.join(f'{re.escape(chr(first))}-{re.escape(chr(last))}' for first, last in spans)}]"


class Rules:
    """The rules of one ignore file, for the paths in its folder."""

    def __init__(self, lines: Iterable[str], prefix: str = "") -> None:
        """`lines` are bytewise; `prefix` is the path of the folder, empty or with a slash at its end."""
        self.prefix = bytewise(prefix)
        self.n_unused = 0
        """Number of patterns that exceed the limit and are not used."""
        self._names: dict[tuple[str, bool], tuple[int, bool]] = {}
        self._paths: dict[tuple[str, bool], tuple[int, bool]] = {}
        """By text without wildcards and whether it is for folders only: the line number, and whether it
        ignores."""
        self._wild: list[tuple[int, Pattern]] = []
        room = MAX_WILD_CHARS
        for number, line in enumerate(lines):
            if len(line) > MAX_LINE:
                continue
            n_chars = max(len(line), _LEAST_CHARS) if _has_wildcard(line) and line[0] != "#" else 0
            if n_chars > room:
                self.n_unused += 1
                continue
            pattern = parse_pattern(line)
            if pattern is None:
                continue
            room -= n_chars
            if pattern.literal is None:
                self._wild.append((number, pattern))
            else:
                known = self._names if pattern.by_name else self._paths
                known[pattern.literal, pattern.folders_only] = number, pattern.ignores

    def decide(self, path: str, is_folder: bool) -> bool | None:
        """Whether the last matching pattern ignores an entry (bytewise); None if none matches."""
        if not path.startswith(self.prefix):
            return None
        inner = path[len(self.prefix) :]
        name = inner.rpartition("/")[2]
        found = max(
            (
                known
                for listed, key in ((self._names, name), (self._paths, inner))
                for folders_only in (False, True)[: 1 + is_folder]
                if (known := listed.get((key, folders_only))) is not None
            ),
            default=None,
        )
        for number, pattern in reversed(self._wild):
            if found is not None and number < found[0]:
                break
            if (is_folder or not pattern.folders_only) and pattern.matches(inner, name):
                return pattern.ignores
        return None if found is None else found[1]


def rules_of(ignore: Sequence[str]) -> tuple[Rules, ...]:
    """The patterns of the settings. A path is ignored if any of the results ignores it.

    An entry of several lines is an ignore file by itself, whose negations affect only its own patterns.
    """
    own = [bytewise(entry) for entry in ignore if "\n" not in entry]
    others = [bytewise(entry).split("\n") for entry in ignore if "\n" in entry]
    return tuple(Rules(lines) for lines in (own, *others) if lines)


def hides(rules: Sequence[Rules], path: str) -> bool:
    """Whether a file, or a folder that contains it, is ignored by any of the rules."""
    inner = bytewise(path)
    ends = [idx for idx, char in enumerate(inner) if char == "/" and idx]
    return any(rule.decide(inner[:end], is_folder=True) for rule in rules for end in ends) or any(
        rule.decide(inner, is_folder=False) for rule in rules
    )


def _has_wildcard(line: str) -> bool:
    return any(char in line for char in "*?[\\")


@lru_cache(maxsize=4096)
def parse_pattern(line: str) -> Pattern | None:
    """Parse one line of an ignore file (bytewise); None for comments, blank lines, and patterns that git
    considers invalid."""
    line = _without_trailing_blanks(line.removesuffix("\r"))
    if not line or line.startswith("#"):
        return None
    ignores = not line.startswith("!")
    if not ignores:
        line = line[1:]
    folders_only = line.endswith("/")
    if folders_only:
        line = line[:-1]
    by_name = "/" not in line
    line = line.removeprefix("/")
    if not line:
        return None
    ways: list[_Runs] = []
    literal: str | None = line
    if _has_wildcard(line):
        for one in (line,) if by_name else _ways(line):
            parsed = _parse(one, whole_path=not by_name)
            if parsed is None:
                return None
            runs, literal = parsed
            ways.append(runs)
    return Pattern(
        ways,
        literal if len(ways) <= 1 else None,
        ignores=ignores,
        folders_only=folders_only,
        by_name=by_name,
    )


def _ways(line: str) -> tuple[str, ...]:
    """The pattern, in all interpretations of git.

    Git compares the text before the first wildcard separately. So a `**` directly after it is at the
    beginning of the rest, and matches folders although no slash precedes it.
    """
    found = _TEXT_AND_STARS.match(line)
    if found is None:
        return (line,)
    text, slash, rest = found.groups()
    return (f"{text}*/**/{rest}", f"{text}{rest}") if slash else (f"{text}*", f"{text}*/**")


def _without_trailing_blanks(line: str) -> str:
    short = line.rstrip(" ")
    n_backslashes = len(short) - len(short.rstrip("\\"))
    return f"{short} " if n_backslashes % 2 and len(short) < len(line) else short


def _parse(line: str, whole_path: bool) -> tuple[list[list[_Segment]], str | None] | None:
    """The runs of a pattern, and the only text that it matches, if without wildcards; None for a pattern that
    cannot match."""
    runs: list[list[_Segment]] = [[]]
    pieces: list[list[str | frozenset[str]]] = [[]]
    literal: list[str] | None = []
    is_gap = False
    idx = 0

    def close_segment() -> None:
        nonlocal pieces
        runs[-1].append(_Segment([_Piece(piece) for piece in pieces]))
        pieces = [[]]

    while idx < len(line):
        char = line[idx]
        if char == "*":
            literal = None
            start = idx
            while line[idx : idx + 1] == "*":
                idx += 1
            is_whole = pieces == [[]] and line[idx : idx + 1] in ("", "/")
            if whole_path and is_whole and idx - start >= 2:
                is_gap = idx == len(line)
                idx += 1
                if runs[-1] or len(runs) == 1:
                    runs.append([])
            else:
                pieces.append([])
            continue
        if char == "/":
            close_segment()
            idx += 1
        elif char == "[":
            literal = None
            found = _brackets(line, idx)
            if found is None:
                return None
            chars, idx = found
            pieces[-1].append(chars)
            continue
        elif char == "?":
            literal = None
            pieces[-1].append(_ALL)
            idx += 1
        else:
            if char == "\\":
                idx += 1
                if idx == len(line):
                    return None
                char = line[idx]
            if char == "/":
                close_segment()
            else:
                pieces[-1].append(char)
            idx += 1
        if literal is not None:
            literal.append(char)
    if is_gap:
        pieces = [[], []]  # `a/**` matches everything in the folder, but not the folder itself
    close_segment()
    return runs, None if literal is None else "".join(literal)


def _brackets(line: str, start: int) -> tuple[frozenset[str], int] | None:
    """A set such as `[!a-z]` and its end; None if it is not closed."""
    idx = start + 1
    negated = line[idx : idx + 1] in ("!", "^")
    idx += negated
    chars: set[str] = set()
    first = idx
    while idx < len(line):
        char = line[idx]
        if char == "]" and idx > first:
            # A set never contains the slash.
            return frozenset((_ALL - chars if negated else chars) - {"/"}), idx + 1
        if line.startswith("[:", idx) and (end := line.find(":]", idx)) != -1:
            named = _CLASSES.get(line[idx + 2 : end])
            if named is None:
                return None
            for part in re.findall(".-.|.", named, re.DOTALL):
                chars |= _range(part[0], part[-1])
            idx = end + 2
            continue
        if char == "\\":
            idx += 1
            if idx == len(line):
                return None
            char = line[idx]
        idx += 1
        last = char
        if line[idx : idx + 1] == "-" and line[idx + 1 : idx + 2] not in ("", "]"):
            last = line[idx + 1]
            idx += 2
            if last == "\\":
                if idx == len(line):
                    return None
                last = line[idx]
                idx += 1
        # For an empty range git uses the first character.
        chars |= _range(char, last) or {char}
    return None


def _range(first: str, last: str) -> set[str]:
    return set(map(chr, range(ord(first), ord(last) + 1)))
