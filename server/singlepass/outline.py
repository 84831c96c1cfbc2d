"""Outlines of source files by tree-sitter: signatures, first lines of docs, names used, imports.

Theory of operation
===================

A table says for each language which nodes are definitions (and how their name is found), which of them hold
more, and which are only looked through. The walk goes down through those and never into a function's body, so
it is short. Names used and imports need no tree: they are found by regular expressions in the text from which
the tree's comments (and strings, for names) were taken out.

Grammars come as wheels of their own and are loaded one by one, when the first file of their language comes. A
grammar that is missing or does not fit, a text that takes too long, a tree that makes no sense: all of them
end in the plain outline, lines that look like definitions. `outline` never raises.
"""

import importlib
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from singlepass.core.outlines import Definition, Outline

if TYPE_CHECKING:
    from tree_sitter import Node

MAX_BYTES = 500_000
"""Larger files are generated or data; they have no outline."""
MAX_DEFINITIONS = 500
MAX_REFERENCES = 3_000
PARSE_S = 0.5
"""A text may make the parser work for long; then it is stopped."""

_MAX_DEPTH = 6
_MAX_SIGNATURE = 160
_MAX_DOC = 80
_MAX_LEVELS = 60
"""Of nodes. Nobody nests deeper, and the walk recurses."""

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
    """The language of a path by its name; None for what has no outline."""
    name = path.rpartition("/")[2].lower()
    stem, dot, suffix = name.rpartition(".")
    return _BY_NAME.get(name) or (_BY_SUFFIX.get(dot + suffix) if stem else None)


def source_glob() -> str:
    """Which files may have an outline, as a glob pattern of LSP 3.17. Case matters in it, unlike here."""
    return "**/*.{" + ",".join(sorted(suffix[1:] for suffix in _BY_SUFFIX)) + "}"


def outline(path: str, data: bytes) -> Outline | None:
    """The outline of a file; None for what has none. Never raises."""
    language = language_of(path)
    if language is None or len(data) > MAX_BYTES or b"\0" in data:
        return None
    data = data.removeprefix(b"\xef\xbb\xbf")
    try:
        parts = _parsed(language, data)
    except Exception:
        # A grammar of another version, a tree nobody thought of: the plain outline is always there.
        parts = None
    if parts is None:
        text = _decode(data)
        parts = _Parts(_plain_definitions(text), text, text)
    return Outline(
        language, tuple(parts.definitions), _references(parts.bare), _imports(language, parts.uncommented)
    )


def _decode(data: bytes) -> str:
    return data.decode("utf-8", "replace").replace("\r\n", "\n").replace("\r", "\n")


class _Parts(NamedTuple):
    definitions: list[Definition]
    uncommented: str
    bare: str
    """Without comments and strings."""


# Grammars.


class _Grammar(NamedTuple):
    module: str
    definitions: Mapping[str, "_Reader"]
    """How a node of this type is read: its name, and where its signature ends."""
    containers: frozenset[str]
    """Definitions whose bodies hold more of them."""
    through: frozenset[str]
    """Nodes looked through, at the same depth."""
    comments: str = "(comment)"
    strings: str = ""
    function: str = "language"


_Reader = Callable[["Node"], tuple[str, int] | None]


@cache
def _load(language: str) -> tuple[Any, Any, Any, _Grammar] | None:
    """Parser, cursor type, query for comments and strings, table; None without a grammar."""
    grammar = _GRAMMARS.get(language)
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


def _strings_query(grammar: _Grammar) -> str:
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
    grammar: _Grammar,
    data: bytes,
    found: list[Definition],
    depth: int,
    level: int,
    doc: str = "",
) -> None:
    """Add the definitions among the children of a node, in order. `doc` belongs to the first of them."""
    if level > _MAX_LEVELS:
        return
    doc_end = node.start_point[0]
    last_row = -1
    for child in node.named_children:
        if len(found) >= MAX_DEFINITIONS:
            return
        kind = child.type
        row = child.start_point[0]
        if kind in _COMMENTS:
            if row == last_row:  # a remark on the line before
                continue
            if not doc or row > doc_end + 1:
                doc = _doc_line(_text(child))
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
    """Where a definition begins, after its attributes and annotations."""
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


# How definitions are read.


def _text(node: "Node | None") -> str:
    return (node.text or b"").decode("utf-8", "replace") if node is not None else ""


def _field(name: str = "name") -> _Reader:
    """The name is a field; the signature ends where the body starts."""

    def read(node: "Node") -> tuple[str, int] | None:
        found = node.child_by_field_name(name)
        if found is None:
            return None
        return _last_name(_text(found)), _head_end(node)

    return read


_BODIES = ("body", "accessors")


def _head_end(node: "Node") -> int:
    for field in _BODIES:
        body = node.child_by_field_name(field)
        if body is not None:
            return body.start_byte
    return node.end_byte


def _last_name(text: str) -> str:
    """`h` of `M:h`, `a.b.h`, `A::h`."""
    found = _NAME.findall(text)
    return found[-1] if found else ""


_NAME = re.compile(r"[^\W\d][\w$]*[?!]?|\$[\w$]*")


def _unnamed(node: "Node") -> tuple[str, int] | None:
    return "", _head_end(node)


def _declared(functions_only: bool) -> _Reader:
    """C: the name stands inside the declarators."""

    def read(node: "Node") -> tuple[str, int] | None:
        inner = node.child_by_field_name("declarator")
        is_function = False
        for _ in range(_MAX_LEVELS):
            if inner is None:
                return None
            is_function = is_function or inner.type in ("function_declarator", "operator_cast")
            following = inner.child_by_field_name("declarator")
            if following is None:
                break
            inner = following
        if functions_only and not is_function:
            return None
        return _last_name(_text(inner)), _head_end(node)

    return read


def _c_type(node: "Node") -> tuple[str, int] | None:
    """A struct or enum with a body; without one it is only mentioned."""
    return _field()(node) if node.child_by_field_name("body") is not None else None


def _typedef(node: "Node") -> tuple[str, int] | None:
    read = _declared(functions_only=False)(node)
    return (read[0], node.end_byte) if read is not None else None


def _macro(node: "Node") -> tuple[str, int] | None:
    value = node.child_by_field_name("value")
    name = _text(node.child_by_field_name("name"))
    if value is None:  # an include guard or a switch
        return None
    short = node.type == "preproc_def" and _PLAIN_VALUE.fullmatch(_text(value).strip())
    return name, value.end_byte if short else value.start_byte


def _rust_macro(node: "Node") -> tuple[str, int] | None:
    name = node.child_by_field_name("name")
    return (_text(name), name.end_byte) if name is not None else None


def _assigned(node: "Node") -> tuple[str, int] | None:
    """Python: constants and types at the top of a module or class."""
    inner = node.named_children[0] if node.named_children else None
    if inner is None or inner.type != "assignment":
        return None
    left = inner.child_by_field_name("left")
    name = _text(left)
    annotated = inner.child_by_field_name("type")
    if left is None or left.type != "identifier" or not (annotated is not None or name.isupper()):
        return None
    return name, _value_end(inner, annotated or left)


def _value_end(node: "Node", before: "Node", field: str = "right") -> int:
    """Where a constant's line ends: after its value, if that is short and tells nothing secret."""
    value = node.child_by_field_name(field) or node.child_by_field_name("value")
    if value is not None and _PLAIN_VALUE.fullmatch(_text(value)):
        return value.end_byte
    return before.end_byte


_PLAIN_VALUE = re.compile(r"[\w.+-]{1,20}")


def _variable(node: "Node") -> tuple[str, int] | None:
    """JavaScript: `const f = () => …`, `const LIMIT = 3`."""
    one = next((child for child in node.named_children if child.type == "variable_declarator"), None)
    name = one.child_by_field_name("name") if one is not None else None
    if one is None or name is None or name.type != "identifier":
        return None
    value = one.child_by_field_name("value")
    if value is not None and value.type in _JS_FUNCTIONS:
        return _text(name), _head_end(value)
    exported = node.parent is not None and node.parent.type == "export_statement"
    if not exported and not _text(name).isupper():
        return None
    return _text(name), _value_end(one, one.child_by_field_name("type") or name, "value")


_JS_FUNCTIONS = frozenset({"arrow_function", "function_expression", "generator_function", "class"})


def _js_assigned(node: "Node") -> tuple[str, int] | None:
    """JavaScript: `exports.f = function (a) {`."""
    inner = node.named_children[0] if node.named_children else None
    if inner is None or inner.type != "assignment_expression":
        return None
    value = inner.child_by_field_name("right")
    if value is None or value.type not in _JS_FUNCTIONS:
        return None
    return _last_name(_text(inner.child_by_field_name("left"))), _head_end(value)


def _lua_assigned(node: "Node") -> tuple[str, int] | None:
    """Lua: `M.f = function(a)`, `local LIMIT = 3`."""
    inner = node if node.type == "assignment_statement" else None
    if inner is None:
        inner = next((child for child in node.named_children if child.type == "assignment_statement"), None)
    if inner is None or len(inner.named_children) < 2:
        return None
    names, values = inner.named_children[:2]
    value = values.named_children[0] if values.named_children else None
    name = _last_name(_text(names))
    if value is not None and value.type == "function_definition":
        return name, _head_end(value)
    return (name, _value_end(values, names, "value")) if name.isupper() else None


def _ruby_assigned(node: "Node") -> tuple[str, int] | None:
    left = node.child_by_field_name("left")
    return (_text(left), _value_end(node, left)) if left is not None and left.type == "constant" else None


def _first_line(field: str = "name") -> _Reader:
    """A constant: its line up to a value that is long."""

    def read(node: "Node") -> tuple[str, int] | None:
        name = node.child_by_field_name(field)
        if name is None:
            return None
        return _text(name), _value_end(node, node.child_by_field_name("type") or name, "value")

    return read


def _go_type(node: "Node") -> tuple[str, int] | None:
    name, kind = node.child_by_field_name("name"), node.child_by_field_name("type")
    if name is None or kind is None:
        return None
    body = next((one for one in kind.children if one.type in ("field_declaration_list", "{")), None)
    return _text(name), body.start_byte if body is not None else kind.end_byte


def _java_field(node: "Node") -> tuple[str, int] | None:
    """Java: constants only."""
    one = node.child_by_field_name("declarator")
    name = one.child_by_field_name("name") if one is not None else None
    if one is None or name is None or not _text(name).isupper():
        return None
    return _text(name), _value_end(one, name, "value")


def _same(reader: _Reader, types: str) -> dict[str, _Reader]:
    return dict.fromkeys(types.split(), reader)


def _set(types: str) -> frozenset[str]:
    return frozenset(types.split())


_JS = _Grammar(
    "tree_sitter_javascript",
    {
        **_same(_field(), "function_declaration generator_function_declaration class_declaration"),
        **_same(_field(), "method_definition"),
        **_same(_variable, "lexical_declaration variable_declaration"),
        "expression_statement": _js_assigned,
    },
    _set("class_declaration"),
    _set("export_statement"),
    strings="(string_fragment)",
)
_TS = _JS._replace(
    module="tree_sitter_typescript",
    function="language_typescript",
    definitions={
        **{kind: read for kind, read in _JS.definitions.items() if kind != "expression_statement"},
        **_same(_field(), "interface_declaration enum_declaration abstract_class_declaration module"),
        **_same(_field(), "type_alias_declaration internal_module function_signature"),
        **_same(_field(), "method_signature abstract_method_signature"),
    },
    containers=_set(
        "class_declaration abstract_class_declaration interface_declaration internal_module module"
    ),
    through=_set("export_statement ambient_declaration expression_statement"),
)
_C_TYPES = "struct_specifier union_specifier enum_specifier"
_C_THROUGH = "preproc_ifdef preproc_if preproc_else preproc_elif linkage_specification declaration_list"
_C = _Grammar(
    "tree_sitter_c",
    {
        "function_definition": _declared(functions_only=False),
        "declaration": _declared(functions_only=True),
        "type_definition": _typedef,
        **_same(_c_type, _C_TYPES),
        **_same(_macro, "preproc_def preproc_function_def"),
    },
    frozenset(),
    _set(_C_THROUGH),
    strings="(string_content) (character)",
)
_GRAMMARS: dict[str, _Grammar] = {
    "python": _Grammar(
        "tree_sitter_python",
        {
            **_same(_field(), "class_definition function_definition"),
            "expression_statement": _assigned,
            "type_alias_statement": _field("left"),
        },
        _set("class_definition"),
        _set("decorated_definition if_statement try_statement else_clause except_clause block"),
        strings="(string_content)",
    ),
    "javascript": _JS,
    "typescript": _TS,
    "tsx": _TS._replace(function="language_tsx"),
    "go": _Grammar(
        "tree_sitter_go",
        {
            **_same(_field(), "function_declaration method_declaration"),
            **_same(_go_type, "type_spec type_alias"),
            **_same(_first_line(), "const_spec var_spec"),
        },
        frozenset(),
        _set("type_declaration const_declaration var_declaration var_spec_list"),
        strings="(interpreted_string_literal_content) (raw_string_literal_content)",
    ),
    "rust": _Grammar(
        "tree_sitter_rust",
        {
            **_same(_field(), "function_item function_signature_item struct_item enum_item union_item"),
            **_same(_field(), "trait_item type_item"),
            "macro_definition": _rust_macro,
            **_same(_first_line(), "const_item static_item"),
            "mod_item": _field(),
            "impl_item": _unnamed,
        },
        _set("impl_item trait_item mod_item"),
        frozenset(),
        comments="(line_comment) (block_comment)",
        strings="(string_content)",
    ),
    "java": _Grammar(
        "tree_sitter_java",
        {
            **_same(_field(), "class_declaration interface_declaration enum_declaration record_declaration"),
            **_same(_field(), "annotation_type_declaration method_declaration constructor_declaration"),
            "field_declaration": _java_field,
        },
        _set("class_declaration interface_declaration enum_declaration record_declaration"),
        _set("enum_body_declarations"),
        comments="(line_comment) (block_comment)",
        strings="(string_fragment)",
    ),
    "c": _C,
    "cpp": _C._replace(
        module="tree_sitter_cpp",
        definitions={
            **_C.definitions,
            **_same(_c_type, "class_specifier"),
            "field_declaration": _declared(functions_only=True),
            "namespace_definition": _field(),
            "alias_declaration": _field(),
            "concept_definition": _field(),
        },
        containers=_set("class_specifier struct_specifier namespace_definition"),
        through=_set(f"{_C_THROUGH} template_declaration"),
        strings="(string_content) (character)",
    ),
    "csharp": _Grammar(
        "tree_sitter_c_sharp",
        {
            **_same(_field(), "class_declaration interface_declaration struct_declaration enum_declaration"),
            **_same(_field(), "record_declaration delegate_declaration method_declaration"),
            **_same(_field(), "constructor_declaration property_declaration"),
        },
        _set("class_declaration interface_declaration struct_declaration record_declaration"),
        _set("namespace_declaration file_scoped_namespace_declaration declaration_list preproc_if"),
        strings="(string_literal_content)",
    ),
    "ruby": _Grammar(
        "tree_sitter_ruby",
        {
            **_same(_field(), "module class method singleton_method"),
            "assignment": _ruby_assigned,
        },
        _set("module class"),
        _set("body_statement singleton_class"),
        strings="(string_content)",
    ),
    "lua": _Grammar(
        "tree_sitter_lua",
        {
            "function_declaration": _field(),
            **_same(_lua_assigned, "variable_declaration assignment_statement"),
        },
        frozenset(),
        frozenset(),
        strings="(string_content)",
    ),
    "bash": _Grammar(
        "tree_sitter_bash",
        {"function_definition": _field()},
        frozenset(),
        frozenset(),
        strings="(raw_string)",
    ),
}


# Lines.


def _one_line(data: bytes, limit: int) -> str:
    text = _UNPRINTABLE.sub(" ", data[: 8 * limit].decode("utf-8", "replace"))
    text = " ".join(text.split()).removesuffix("=>").rstrip(" {=:;\\")
    text = _EMPTY_BODY.sub("", text)
    text = _IN_BRACKETS.sub(lambda match: match[1] or match[2] or match[3], text)
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


# The traces of a line break: `( a, b, )` is `(a, b)`.
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
    return _doc_line("".join(_text(one) for one in first.children if one.type == "string_content"))


_DOC_MARKS = re.compile(r"^\s*(?:/\*+!?|\*/|\*|//[/!]?|#+!?|--+\[*|=begin)?\s*")
_TAG = re.compile(r"</?(?:summary|remarks|para|p|b|i|c|code|see|br)\b[^>]*>")


def _doc_line(text: str) -> str:
    """The first line that says something, without the comment's marks."""
    for line in text[:2_000].splitlines()[:8]:
        said = _TAG.sub("", _DOC_MARKS.sub("", line)).removesuffix("*/")
        said = " ".join(_UNPRINTABLE.sub(" ", said).split())
        if any(char.isalnum() for char in said):
            return said if len(said) <= _MAX_DOC else f"{said[: _MAX_DOC - 1]}…"
    return ""


# What needs no tree.

_IDENTIFIER = re.compile(r"[^\W\d]\w{2,59}")


# Words of many languages that name nothing.
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
    """Lines that look like definitions, nested as they are indented."""
    found: list[Definition] = []
    indents: list[int] = []
    matches = sorted((*_PLAIN.finditer(text), *_TABLE.finditer(text)), key=lambda match: match.start())
    for match in matches[:MAX_DEFINITIONS]:
        indent = len(match["indent"].expandtabs(4))
        while indents and indents[-1] >= indent:
            indents.pop()
        signature = _one_line(match["line"].partition("{")[0].encode(), _MAX_SIGNATURE).rstrip(" (")
        found.append(Definition(_last_name(match["name"]), signature, min(len(indents), _MAX_DEPTH)))
        indents.append(indent)
    return found


def _imports(language: str, text: str) -> tuple[str, ...]:
    find = _IMPORTS.get(language)
    return tuple(dict.fromkeys(find(text)))[:300] if find is not None else ()


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
