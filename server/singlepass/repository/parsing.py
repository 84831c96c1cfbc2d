"""Outlines of source files by tree-sitter: signatures, first lines of docs, names used, imports.

Theory of operation
===================

The table in `languages` says for each language which nodes are definitions (and how their name is found),
which of them contain further definitions, and which nodes are only descended into. The walk never enters a
function's body, so it is short. Names used and imports are found by regular expressions, in the text without
comments (and for names without strings), which are located by the tree.

Grammars are separate wheels and are loaded when the first file of their language is parsed. If a grammar is
missing or incompatible, or parsing takes too long or fails, the outline consists of lines that look like
definitions. `outline` never raises.
"""

import importlib
import re
import time
from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from singlepass.repository.imports import imports
from singlepass.repository.languages import GRAMMARS, MAX_LEVELS, Grammar, last_name, text_of
from singlepass.repository.outline import Definition, Outline

if TYPE_CHECKING:
    from tree_sitter import Node

MAX_BYTES = 500_000
"""Larger files are mostly generated or data, and have no outline."""
MAX_DEFINITIONS = 500
MAX_REFERENCES = 3_000
PARSE_S = 0.5
"""Time limit of the parser, which some texts make very slow."""

_MAX_DEPTH = 6
_MAX_SIGNATURE = 160
_MAX_DOC = 80

_LANGUAGES = {
    "python": ".py .pyi .pyw",
    "javascript": ".js .jsx .mjs .cjs",
    "typescript": ".ts .mts .cts",
    "tsx": ".tsx",
    "go": ".go",
    "rust": ".rs",
    "java": ".java",
    "c": ".c .h",
    "cpp": ".cc .cpp .cxx .c++ .hh .hpp .hxx .h++ .ipp .cu .cuh",
    "csharp": ".cs",
    "ruby": ".rb .rake .gemspec",
    "lua": ".lua",
    "bash": ".sh .bash",
    "kotlin": ".kt .kts",
    "swift": ".swift",
    "php": ".php",
    "scala": ".scala .sc",
    "dart": ".dart",
    "elixir": ".ex .exs",
    "perl": ".pl .pm",
    "r": ".r",
    "julia": ".jl",
    "zig": ".zig",
    "haskell": ".hs",
    "ocaml": ".ml .mli",
    "objc": ".m .mm",
    "groovy": ".groovy .gradle",
    "nim": ".nim",
    "powershell": ".ps1 .psm1",
    "vue": ".vue",
    "svelte": ".svelte",
    "proto": ".proto",
    "sql": ".sql",
    "vim": ".vim",
}
_BY_SUFFIX = {suffix: language for language, suffixes in _LANGUAGES.items() for suffix in suffixes.split()}
_BY_NAME = {"rakefile": "ruby", "gemfile": "ruby"}


def language_of(path: str) -> str | None:
    """The language of a file by its name; None for files without an outline."""
    name = path.rpartition("/")[2].lower()
    stem, dot, suffix = name.rpartition(".")
    return _BY_NAME.get(name) or (_BY_SUFFIX.get(dot + suffix) if stem else None)


def source_glob() -> str:
    """The files that may have an outline, as a glob pattern of LSP 3.17, which is case-sensitive, unlike
    here."""
    return "**/*.{" + ",".join(sorted(suffix[1:] for suffix in _BY_SUFFIX)) + "}"


def outline(path: str, data: bytes) -> Outline | None:
    """The outline of a file; None if it has none. Never raises."""
    language = language_of(path)
    if language is None or len(data) > MAX_BYTES or b"\0" in data:
        return None
    data = data.removeprefix(b"\xef\xbb\xbf")
    try:
        parts = _parsed(language, data)
    except Exception:
        # An incompatible grammar or an unexpected tree: use the plain outline.
        parts = None
    if parts is None:
        text = _decode(data)
        parts = _Parts(_plain_definitions(text), text, text)
    return Outline(
        language, tuple(parts.definitions), _references(parts.bare), imports(language, parts.uncommented)
    )


def _decode(data: bytes) -> str:
    return data.decode("utf-8", "replace").replace("\r\n", "\n").replace("\r", "\n")


class _Parts(NamedTuple):
    definitions: list[Definition]
    uncommented: str
    bare: str
    """Without comments and strings."""


@cache
def _load(language: str) -> tuple[Any, Any, Any, Grammar] | None:
    """Parser, cursor type, query for comments and strings, and table entry; None without a grammar."""
    grammar = GRAMMARS.get(language)
    if grammar is None:
        return None
    try:
        from tree_sitter import Language, Parser, Query, QueryCursor

        make: Any = Language
        found = make(getattr(importlib.import_module(grammar.module), grammar.function)())
        query = Query(found, f"[{grammar.comments}] @comment" + _strings_query(grammar))
        return Parser(found), QueryCursor, query, grammar
    except Exception:
        return None


def _strings_query(grammar: Grammar) -> str:
    return f" [{grammar.strings}] @string" if grammar.strings else ""


def _parsed(language: str, data: bytes) -> _Parts | None:
    loaded = _load(language)
    if loaded is None:
        return None
    parser, cursor, query, grammar = loaded
    deadline = time.monotonic() + PARSE_S

    def read(offset: int, _: object) -> bytes:
        return data[offset : offset + 65_536]

    def late(_: int, __: bool) -> bool:
        return time.monotonic() > deadline

    try:
        tree = parser.parse(read, progress_callback=late)
    except ValueError:
        parser.reset()
        return None
    captures: dict[str, list[Node]] = cursor(query).captures(tree.root_node)
    comments = [(node.start_byte, node.end_byte) for node in captures.get("comment", ())]
    strings = [(node.start_byte, node.end_byte) for node in captures.get("string", ())]
    definitions: list[Definition] = []
    _walk(tree.root_node, grammar, data, definitions, 0, 0)
    if not definitions and tree.root_node.has_error:
        definitions = _plain_definitions(_decode(data))
    return _Parts(definitions, _without(data, comments), _without(data, [*comments, *strings]))


def _without(data: bytes, spans: Iterable[tuple[int, int]]) -> str:
    pieces: list[bytes] = []
    start = 0
    for first, end in sorted(spans):
        if first >= start:
            pieces.append(data[start:first])
        start = max(start, end)
    pieces.append(data[start:])
    return _decode(b"\n".join(pieces) if len(pieces) < 2 else b" ".join(pieces))


def _walk(
    node: "Node",
    grammar: Grammar,
    data: bytes,
    found: list[Definition],
    depth: int,
    level: int,
    doc: str = "",
) -> None:
    """Add the definitions among the children of a node, in order. `doc` belongs to the first of them."""
    if level > MAX_LEVELS:
        return
    doc_end = node.start_point[0]
    last_row = -1
    for child in node.named_children:
        if len(found) >= MAX_DEFINITIONS:
            return
        kind = child.type
        row = child.start_point[0]
        if kind in _COMMENTS:
            if row == last_row:  # a comment at the end of the previous line
                continue
            if not doc or row > doc_end + 1:
                doc = _doc_line(text_of(child))
            # A line comment of some grammars ends on the next line, at its start.
            doc_end = child.end_point[0] - (child.end_point[1] == 0)
            continue
        if kind in _ATTRIBUTES:
            doc_end = child.end_point[0]
            continue
        if row > doc_end + 1:
            doc = ""
        if kind in grammar.through:
            _walk(child, grammar, data, found, depth, level + 1, doc)
        elif (reader := grammar.definitions.get(kind)) is not None and (read := reader(child)) is not None:
            name, end = read
            signature = _one_line(data[_signature_start(child) : end], _MAX_SIGNATURE)
            said = _docstring(child) or doc if grammar.module == "tree_sitter_python" else doc
            found.append(Definition(name, signature, depth, said))
            body = child.child_by_field_name("body") if kind in grammar.containers else None
            if body is not None and depth < _MAX_DEPTH:
                _walk(body, grammar, data, found, depth + 1, level + 1)
        doc = ""
        last_row = child.end_point[0] - (child.end_point[1] == 0)


_COMMENTS = frozenset({"comment", "line_comment", "block_comment"})
_ATTRIBUTES = frozenset(
    {
        "attribute_item",
        "decorator",
        "annotation",
        "marker_annotation",
        "attribute_list",
        "template_parameter_list",
    }
)


def _signature_start(node: "Node") -> int:
    """Where a definition's signature begins, after attributes and annotations."""
    start = node.start_byte
    for child in node.children:
        if child.type == "modifiers":
            for one in child.children:
                if one.type not in _ATTRIBUTES:
                    return one.start_byte
                start = child.end_byte
        elif child.type in _ATTRIBUTES:
            start = child.end_byte
        else:
            return max(child.start_byte, start)
    return start


# Lines.


def _one_line(data: bytes, limit: int) -> str:
    text = _UNPRINTABLE.sub(" ", data[: 8 * limit].decode("utf-8", "replace"))
    text = " ".join(text.split()).removesuffix("=>").rstrip(" {=:;\\")
    text = _EMPTY_BODY.sub("", text)
    text = _IN_BRACKETS.sub(lambda match: match[1] or match[2] or match[3], text)
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


# Joins signatures of several lines: `( a, b, )` becomes `(a, b)`.
_IN_BRACKETS = re.compile(r"([(\[]) |,? ([)\]])|,([)\]])")
_EMPTY_BODY = re.compile(r"(?:(?<=\))|;) ?end$")
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff]")


def _docstring(node: "Node") -> str:
    body = node.child_by_field_name("body")
    first = body.named_children[0] if body is not None and body.named_children else None
    if first is not None and first.type == "expression_statement" and first.named_children:
        first = first.named_children[0]
    if first is None or first.type != "string":
        return ""
    return _doc_line("".join(text_of(one) for one in first.children if one.type == "string_content"))


_DOC_MARKS = re.compile(r"^\s*(?:/\*+!?|\*/|\*|//[/!]?|#+!?|--+\[*|=begin)?\s*")
_TAG = re.compile(r"</?(?:summary|remarks|para|p|b|i|c|code|see|br)\b[^>]*>")


def _doc_line(text: str) -> str:
    """The first line with text, without comment markers."""
    for line in text[:2_000].splitlines()[:8]:
        said = _TAG.sub("", _DOC_MARKS.sub("", line)).removesuffix("*/")
        said = " ".join(_UNPRINTABLE.sub(" ", said).split())
        if any(char.isalnum() for char in said):
            return said if len(said) <= _MAX_DOC else f"{said[: _MAX_DOC - 1]}…"
    return ""


# Without a tree.

_IDENTIFIER = re.compile(r"[^\W\d]\w{2,59}")


# Keywords of many languages.
_WORDS = """
abstract and any as assert async await begin bool boolean break case catch char class const constexpr
continue crate def default defer del delete delegate do done double elif else elsif end endif enum esac
eval except export extends extern false False final finally float fn for foreach friend from func
function global go goto if impl implements import in include inline instanceof int interface internal is
lambda let local long loop match mod module mut namespace new nil None nonlocal not null nullptr
operator or override package pass print private protected protocol public pub raise readonly record ref
require require_relative rescue return sealed self Self short signed sizeof static str string String
struct super switch synchronized template then this throw throws trait true True try type typedef
typename typeof undefined union unless unsafe unsigned until use using var virtual void volatile when
where while with yield define ifdef ifndef
"""
_KEYWORDS = frozenset(_WORDS.split())


def _references(text: str) -> tuple[str, ...]:
    return tuple(sorted(set(_IDENTIFIER.findall(text)) - _KEYWORDS)[:MAX_REFERENCES])


_PLAIN = re.compile(
    r"^(?P<indent>[ \t]{0,12})(?P<line>(?:(?:export|default|pub|public|private|protected|internal|open|final"
    r"|abstract|static|override|suspend|async|data|sealed|case|inline|extern)\s+)*"
    r"(?:def|defp|defmodule|fn|fun|func|function|sub|proc|class|struct|enum|interface|trait|object|protocol"
    r"|extension|module|package|namespace|type|message|service|rpc|record|impl|macro)\s+"
    r"(?P<name>[^\W\d][\w$.:!?]*)[^\n]{0,200})$",
    re.MULTILINE,
)
_TABLE = re.compile(
    r"^(?P<indent>)(?P<line>create\s+(?:or\s+replace\s+)?(?:table|view|function|procedure)\s+"
    r"(?:if\s+not\s+exists\s+)?(?P<name>[\w.]+)[^\n]{0,200})$",
    re.MULTILINE | re.IGNORECASE,
)


def _plain_definitions(text: str) -> list[Definition]:
    """Lines that look like definitions, nested by their indentation."""
    found: list[Definition] = []
    indents: list[int] = []
    matches = sorted((*_PLAIN.finditer(text), *_TABLE.finditer(text)), key=lambda match: match.start())
    for match in matches[:MAX_DEFINITIONS]:
        indent = len(match["indent"].expandtabs(4))
        while indents and indents[-1] >= indent:
            indents.pop()
        signature = _one_line(match["line"].partition("{")[0].encode(), _MAX_SIGNATURE).rstrip(" (")
        found.append(Definition(last_name(match["name"]), signature, min(len(indents), _MAX_DEPTH)))
        indents.append(indent)
    return found
