"""Which file a line of a reply names.

Models write a path on a line of its own, in backticks, as a heading, in a sentence, as a link, in the info of
a fence, with their own idea of the folder in front. A line names a file if exactly one of the known files
fits it. Everything else is prose, except a line that is a path and fits none: that is a file which may not be
edited, and its block must not go into another one.
"""

import re
from collections.abc import Collection, Iterator
from typing import NamedTuple


class Named(NamedTuple):
    """A file that a line names."""

    path: str
    """One of the known files, or what was written where none fits."""
    is_known: bool


_PLACEHOLDER = re.compile(
    r"(?:.*/)?(?:path|dir|folder)/(?:of|to)/.*|(?:.*/)?(?:your_?file(?:name)?|file_?name|file)(?:\.\w+)?|.*/path",
    re.IGNORECASE,
)
"""Paths of examples, which mean whichever file the task is about."""
_QUOTED = re.compile(
    r"`([^`]+)`|\"([^\"]+)\"|“([^”]+)”|\*\*([^*]+)\*\*|\(([^()]+)\)|\[([^\[\]]+)\]|=\s*'([^']+)'"
)
_AROUND = " \t*_`'\"“”‘’()[]{}<>,;:!?#=|"
_LABEL = re.compile(
    r"(?:(?:in|file|path|edit|update|modify|change|changes|filename|file name|for)\b[\s:]*)+", re.IGNORECASE
)
_LIST_MARK = re.compile(r"^(?:[#>*+\-]+|\(?\d+[.)]|step \d+[.:]?)\s+", re.IGNORECASE)
_SOURCE = re.compile(
    r"[^\s/\\]\.(?:py|pyi|pyx|js|mjs|cjs|jsx|ts|tsx|go|rs|java|c|h|cc|cpp|hpp|cxx|cs|rb|php|lua|sh|bash|zsh|md|rst|txt|"
    r"json|ya?ml|toml|ini|cfg|html?|css|scss|sql|xml|swift|kt|kts|scala|vue|svelte|dart|ex|exs|erl|hs|ml|clj|r|jl|"
    r"pl|tf|proto|gradle|cmake|vim|el|zig|nim)$",
    re.IGNORECASE,
)
_FOLDERS = re.compile(r"(?:[a-z]:)?/*(?:(?!\.+/)[\w@+.\- ]+/+)*", re.IGNORECASE)
"""What may stand before a known path: folders, none of them `..`."""
_ONE_PATH = re.compile(
    r"(?:[a-z]+:(?=[/\\]))?[^\s:()\[\]<>`\"'=,|]*[/\\][^\s:()\[\]<>`\"'=,|]*", re.IGNORECASE
)
"""A line that is a path and nothing else, whatever it may lead to."""
_PRODUCTS = frozenset({"node.js", "next.js", "vue.js", "react.js", "express.js", "three.js", "d3.js"})
"""Names in prose that look like files."""


def named(line: str, known: Collection[str], *, alone: bool = False) -> Named | None:
    """The file that a line names; None for prose. With `alone` only a line that is a path and nothing
    else."""
    for written in (line, line.strip()):
        if written in known:
            return Named(written, True)
    bare = _bare(line)
    whole = _fit(bare, known)
    if whole is not None:
        return Named(whole, True)
    if _ONE_PATH.fullmatch(bare) and "<" not in line and not _is_placeholder(bare):
        return Named(bare, False)
    written = [] if alone else [*_candidates(line)]
    found = {fit for one in written if (fit := _fit(one, known)) is not None}
    if len(found) == 1:
        return Named(found.pop(), True)
    if found:
        return None
    if _SOURCE.search(bare) and not re.search(r"\s", bare) and not _is_placeholder(bare):
        return None if bare.casefold() in _PRODUCTS else Named(bare, False)
    return next((Named(one, False) for one in (bare, *written) if _is_path(one)), None)


def fitting(written: str, known: Collection[str]) -> list[str]:
    """The known files that a written path may mean: itself, one that ends with it, or one that it ends
    with."""
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
    while plain.startswith("./"):
        plain = plain[2:]
    return re.sub(r"/{2,}", "/", plain)


def _bare(line: str) -> str:
    """A line without list marks, heading marks, labels, and what stands around a path."""
    bare = line.strip()
    while (shorter := _LIST_MARK.sub("", bare)) != bare:
        bare = shorter
    bare = bare.strip(_AROUND)
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
    """Whether this can only be a path."""
    if "://" in written or written.casefold() in _PRODUCTS or _is_placeholder(written):
        return False
    if re.search(r"\s", written) and "/" not in written:
        return False
    return _SOURCE.search(written) is not None
