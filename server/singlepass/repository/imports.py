"""A file's imports, found by regular expressions for each language."""

import re
from collections.abc import Callable, Iterable, Iterator

MAX_IMPORTS = 300


def imports(language: str, text: str) -> tuple[str, ...]:
    """The imports in a text without comments, as written, each once."""
    find = _IMPORTS.get(language)
    return tuple(dict.fromkeys(find(text)))[:MAX_IMPORTS] if find is not None else ()


def _all(*patterns: str) -> Callable[[str], Iterator[str]]:
    """The first group of every match, in the order of the text."""
    compiled = [re.compile(pattern, re.MULTILINE) for pattern in patterns]

    def find(text: str) -> Iterator[str]:
        matches = [match for pattern in compiled for match in pattern.finditer(text)]
        return (match[1] for match in sorted(matches, key=lambda match: match.start()))

    return find


_PY_IMPORT = re.compile(
    r"^[ \t]*(?:import[ \t]+(?P<modules>[\w., \t\\]+)"
    r"|from[ \t]+(?P<module>[.\w]+)[ \t]+import[ \t]*(?P<names>\([^()]{0,10000}\)|[^\n;(]+))",
    re.MULTILINE,
)


def _python_imports(text: str) -> Iterator[str]:
    for match in _PY_IMPORT.finditer(text.replace("\\\n", " ")):
        if match["modules"]:
            for one in match["modules"].split(","):
                if module := one.split()[:1]:
                    yield module[0]
            continue
        module = match["module"]
        for one in match["names"].strip("() \t\n").split(","):
            if name := one.split()[:1]:
                dot = "" if module.endswith(".") else "."
                yield module if name[0] == "*" else f"{module}{dot}{name[0]}"


_GO_IMPORTS = re.compile(r'^import\s*(?:\(([^)]{0,20000})\)|(?:[\w.]+\s+)?("[^"\n]+"))', re.MULTILINE)
_QUOTED = re.compile(r'"([^"\n]+)"')


def _go_imports(text: str) -> Iterator[str]:
    for match in _GO_IMPORTS.finditer(text):
        yield from _QUOTED.findall(match[1] or match[2])


_RUST_USE = re.compile(
    r"^\s*(?:pub(?:\([^)\n]*\))?\s+)?(?:(?P<mod>mod)\s+(?P<name>\w+)\s*;|use\s+(?P<use>[^;]{1,5000});)",
    re.MULTILINE,
)


def _rust_imports(text: str) -> Iterator[str]:
    for match in _RUST_USE.finditer(text):
        if match["mod"]:
            yield f"mod {match['name']}"
        else:
            yield from _rust_paths("".join(re.sub(r"\s+as\s+\w+", "", match["use"]).split()))


def _rust_paths(use: str, level: int = 0) -> Iterator[str]:
    """`a::{b, c::{d}}` as `a::b` and `a::c::d`."""
    head, brace, tail = use.partition("{")
    if not brace or level > 8:
        yield head.removesuffix("::*").removesuffix("::").removesuffix("::self")
        return
    n_open, start = 0, 0
    inner = tail.removesuffix("}")
    for idx, char in enumerate(f"{inner},"):
        n_open += (char == "{") - (char == "}")
        if char == "," and n_open <= 0:
            if piece := inner[start:idx]:
                yield from _rust_paths(head + piece, level + 1)
            start = idx + 1


_JS_IMPORTS = _all(
    r"""\bfrom\s*["']([^"'\n]+)["']""",
    r"""\bimport\s*\(?\s*["']([^"'\n]+)["']""",
    r"""\brequire\s*\(\s*["']([^"'\n]+)["']""",
)
_IMPORTS: dict[str, Callable[[str], Iterable[str]]] = {
    "python": _python_imports,
    **dict.fromkeys(("javascript", "typescript", "tsx", "vue", "svelte"), _JS_IMPORTS),
    "go": _go_imports,
    "rust": _rust_imports,
    **dict.fromkeys(("java", "kotlin", "scala", "groovy"), _all(r"^\s*import\s+(?:static\s+)?([\w.]+\*?)")),
    **dict.fromkeys(("c", "cpp", "objc"), _all(r'^\s*#\s*(?:include|import)\s*["<]([^">\n]+)[">]')),
    "csharp": _all(r"^\s*(?:global\s+)?using\s+(?:static\s+)?([\w.]+)\s*;"),
    "ruby": _all(r"""^\s*(require(?:_relative)?\s*\(?\s*["'][^"'\n]+)["']"""),
    "lua": _all(r"""\brequire\s*\(?\s*["']([^"'\n]+)["']"""),
    "bash": _all(r"""^\s*(?:source|\.)\s+["']?([^\s"';&|]+)"""),
    "php": _all(r"""\b(?:require|include)(?:_once)?\s*\(?\s*["']([^"'\n]+)["']"""),
    "dart": _all(r"""^\s*(?:import|export|part)\s+["']([^"'\n]+)["']"""),
    "proto": _all(r"""^\s*import\s+(?:public\s+)?"([^"\n]+)\""""),
    "zig": _all(r"""@import\(\s*"([^"\n]+)"\s*\)"""),
}
