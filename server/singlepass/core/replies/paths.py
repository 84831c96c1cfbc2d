"""Which file a line of a reply names.

Models write a path on a line of its own, in backticks, as a heading, in a sentence, as a link, or in the info
string of a fence, perhaps with other folders in front. A line names a file if exactly one of the known files
matches. All other lines are prose, except a line that is a path and matches no known file: it names a file
that may not be edited, and its block must not be applied to another one.

A line that is only a path takes precedence over a sentence that mentions one (`named_before`). All regular
expressions here take linear time, and very long lines count as prose.
"""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

from singlepass.core.replies.sections import is_fence


class Named(NamedTuple):
    """A file that a line names."""

    path: str
    """The path of a known file; the path as written if none matches."""
    is_known: bool


class Before(NamedTuple):
    """Which file the lines before a block name."""

    named: Named | None = None
    line: str = ""
    """The line that names it."""
    rival: str = ""
    """The path of another file, named by a sentence between that line and the block; empty if there is
    none."""


_MOST_CHARS = 1000
"""Lines of more characters are prose, unless they are a known path."""
_COMMENTS = (("<!--", "-->"), ("/*", "*/"), ("//", ""), ("#", ""), ("--", ""), (";", ""), ("%", ""))
"""Beginning and end of a comment of one line."""
_PLACEHOLDER = re.compile(
    r"(?:.*/)?(?:path|dir|folder)/(?:of|to)/.*|(?:.*/)?(?:your_?file(?:name)?|file_?name|file)(?:\.\w+)?|.*/path",
    re.IGNORECASE,
)
"""Placeholders for paths, as in examples, such as `path/to/file.py`."""
_QUOTED = re.compile(
    r"`([^`]+)`|\"([^\"]+)\"|“([^“”]+)”|\*\*([^*]+)\*\*|\(([^()]+)\)|\[([^\[\]]+)\]|=\s*'([^']+)'"
)
_AROUND = " \t*_`'\"“”‘’()[]{}<>,;:!?#=|"
_LABEL = re.compile(
    r"(?:(?:in|file|path|edit|update|modify|change|changes|filename|file name|for)\b[\s:]*)+", re.IGNORECASE
)
_LIST_MARKS = re.compile(r"(?:(?:[#>*+\-]+|\(?\d+[.)]|step \d+[.:]?)\s+)+", re.IGNORECASE)
_SOURCE = re.compile(
    r"[^\s/\\]\.(?:py|pyi|pyx|js|mjs|cjs|jsx|ts|tsx|go|rs|java|c|h|cc|cpp|hpp|cxx|cs|rb|php|lua|sh|bash|zsh|md|rst|txt|"
    r"json|ya?ml|toml|ini|cfg|html?|css|scss|sql|xml|swift|kt|kts|scala|vue|svelte|dart|ex|exs|erl|hs|ml|clj|r|jl|"
    r"pl|tf|proto|gradle|cmake|vim|el|zig|nim)$",
    re.IGNORECASE,
)
_FOLDERS = re.compile(r"(?:[a-z]:)?/*(?:(?!\.+/)[\w@+.\- ]+/+)*", re.IGNORECASE)
"""Folders that may precede a known path; none of them is `..`."""
_ONE_PATH = re.compile(r"(?:[a-z]+:(?=[/\\]))?[^\s:()\[\]<>`\"'=,|]*", re.IGNORECASE)
"""A line that is only a path, if it contains a slash."""
_PRODUCTS = frozenset({"node.js", "next.js", "vue.js", "react.js", "express.js", "three.js", "d3.js"})
"""Names of products that look like file names."""


def named(line: str, known: Collection[str], *, alone: bool = False) -> Named | None:
    """The file that a line names; None for prose. With `alone`, only lines that consist of a path count."""
    for written in (line, line.strip()):
        if written in known:
            return Named(written, True)
    if len(line) > _MOST_CHARS:
        return None
    bare = _bare(line)
    whole = _fit(bare, known)
    if whole is not None:
        return Named(whole, True)
    is_one = ("/" in bare or "\\" in bare) and _ONE_PATH.fullmatch(bare) is not None
    if is_one and "<" not in line and not _is_placeholder(bare):
        return Named(bare, False)
    written = [] if alone else [*_candidates(line)]
    found = {fit for one in written if (fit := _fit(one, known)) is not None}
    if len(found) == 1:
        return Named(found.pop(), True)
    if found:
        return None
    if _SOURCE.search(bare) and not re.search(r"\s", bare) and not _is_placeholder(bare):
        return None if bare.casefold() in _PRODUCTS else Named(bare, False)
    # Words around a quoted path are a sentence, and not a path with spaces.
    is_sentence = any(mark in bare for mark in "`'’\"”") or (alone and len(bare.split()) > 1)
    return next((Named(one, False) for one in (*[bare][is_sentence:], *written) if _is_path(one)), None)


def named_before(lines: Sequence[str], known: Collection[str], *, is_far: bool = False) -> Before:
    """The file that the lines before a block name: by the nearest line that is only a path, or by the info
    string of a fence; otherwise by a sentence in the line right before the block or, with `is_far`, further
    up.

    Paths in consecutive lines are a list, over which a sentence takes precedence.
    """
    said, is_nearest = Before(), True
    for n in range(len(lines) - 1, -1, -1):
        line = lines[n]
        if not line.strip() and line not in known:
            continue
        name = named(line, known, alone=not is_fence(line))
        if name is not None:
            above = next((one for one in reversed(lines[:n]) if one.strip()), "")
            is_list = said.named is not None and named(above, known, alone=True) not in (None, name)
            if is_list:
                return said
            is_other = said.named is not None and said.named.is_known and said.named != name
            return Before(name, line, said.named.path if said.named is not None and is_other else "")
        if said.named is None and (is_nearest or is_far):
            sentence = named(line, known)
            if sentence is not None and (is_nearest or sentence.is_known):
                said = Before(sentence, line)
        # A fence without a path does not count; a path may precede it.
        is_nearest = is_nearest and is_fence(line)
    return said


def commented_path(line: str, files: Mapping[str, str]) -> Named | None:
    """The file that a comment names which is only a path, as models write it on top of code; with an empty
    path if it is a placeholder. None if there is no such comment, or if it is a line of one of the files."""
    bare = line.strip()
    mark, end = next((one for one in _COMMENTS if bare.startswith(one[0])), ("", ""))
    if not mark or bare.startswith("#!") or len(bare) > _MOST_CHARS:
        return None
    written = bare.removesuffix(end).lstrip(mark[0]).lstrip("-*!").strip()
    if _is_placeholder(written) and _SOURCE.search(written):
        return Named("", False)
    name = named(written, files, alone=True)
    if name is None or not (name.is_known or _SOURCE.search(name.path)):
        return None
    if any(bare in text and bare in map(str.strip, text.split("\n")) for text in files.values()):
        return None
    return name


def is_source(path: str) -> bool:
    """Whether the path has the extension of a source file."""
    return _SOURCE.search(path) is not None


def fitting(written: str, known: Collection[str]) -> list[str]:
    """The known files that a written path may mean: the same path, one that ends with it, or one with which
    it ends."""
    plain = _plain(written)
    if written in known or plain in known:
        return [written if written in known else plain]
    if not plain or _is_placeholder(plain):
        return []
    for fold in (str, str.casefold):
        one = fold(plain)
        # `a/src/x.py` or `/home/me/project/src/x.py` for `src/x.py`; the longest, if several fit.
        ends = (path for path in known if one.endswith("/" + fold(path)))
        longer = sorted((path for path in ends if _FOLDERS.fullmatch(one[: -len(path)])), key=len)
        shorter = [path for path in known if fold(path).endswith("/" + one) or fold(path) == one]
        if longer or shorter:
            return longer[-1:] or shorter
    return []


def _is_placeholder(written: str) -> bool:
    return _PLACEHOLDER.fullmatch(_plain(written)) is not None


def _fit(written: str, known: Collection[str]) -> str | None:
    fits = fitting(written, known)
    return fits[0] if len(fits) == 1 else None


def _plain(written: str) -> str:
    plain = written.strip().replace("\\", "/").removeprefix("file://")
    return re.sub(r"/{2,}", "/", re.sub(r"^(?:\./)+", "", plain))


def _bare(line: str) -> str:
    """A line without list marks, heading marks, labels, and punctuation around a path."""
    bare = line.strip()
    marks = _LIST_MARKS.match(bare)
    bare = (bare[marks.end() :] if marks else bare).strip(_AROUND)
    if label := _LABEL.match(bare):
        bare = bare[label.end() :].strip(_AROUND)
    return bare


def _candidates(line: str) -> Iterator[str]:
    for found in _QUOTED.finditer(line):
        yield next(text for text in found.groups() if text is not None).strip()
    for word in re.split(r"[\s<>]+|(?<=[`=(\[])|(?=[`)\],;])", line):
        if "://" in word and not word.startswith("file://"):
            continue
        word = word.strip(_AROUND)
        word = word.removesuffix("'s").removesuffix("’s").rstrip("." + _AROUND)
        if word:
            yield word
            yield from (part for part in (word.partition(":")[0], word.rpartition(":")[2]) if part != word)


def _is_path(written: str) -> bool:
    """Whether a text can only be a path."""
    if "://" in written or written.casefold() in _PRODUCTS or _is_placeholder(written):
        return False
    if re.search(r"\s", written) and "/" not in written:
        return False
    return _SOURCE.search(written) is not None
