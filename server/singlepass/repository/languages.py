"""Which nodes of tree-sitter's grammars are definitions, for each language.

A table has an entry for each language: the types of nodes that are definitions, and a reader for each, which
returns its name and the byte where its signature ends.
"""

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from tree_sitter import Node

MAX_LEVELS = 60
"""Maximum nesting of nodes, since trees are walked recursively."""


class Grammar(NamedTuple):
    """One language's entry: types of nodes, and queries for comments and strings."""

    module: str
    definitions: Mapping[str, "Reader"]
    """Reader by node type: the definition's name, and where its signature ends."""
    containers: frozenset[str]
    """Definitions whose bodies contain further definitions."""
    through: frozenset[str]
    """Nodes that are descended into without increasing the depth."""
    comments: str = "(comment)"
    strings: str = ""
    function: str = "language"


Reader = Callable[["Node"], tuple[str, int] | None]


# Readers of definitions.


def text_of(node: "Node | None") -> str:
    """The source of a node; empty for None."""
    return (node.text or b"").decode("utf-8", "replace") if node is not None else ""


def _field(name: str = "name") -> Reader:
    """The name is a field; the signature ends where the body starts."""

    def read(node: "Node") -> tuple[str, int] | None:
        found = node.child_by_field_name(name)
        if found is None:
            return None
        return last_name(text_of(found)), _head_end(node)

    return read


_BODIES = ("body", "accessors")


def _head_end(node: "Node") -> int:
    for field in _BODIES:
        body = node.child_by_field_name(field)
        if body is not None:
            return body.start_byte
    return node.end_byte


def last_name(text: str) -> str:
    """`h` of `M:h`, `a.b.h`, `A::h`."""
    found = _NAME.findall(text)
    return found[-1] if found else ""


_NAME = re.compile(r"[^\W\d][\w$]*[?!]?|\$[\w$]*")


def _unnamed(node: "Node") -> tuple[str, int] | None:
    return "", _head_end(node)


def _declared(functions_only: bool) -> Reader:
    """C: the name is inside the declarators."""

    def read(node: "Node") -> tuple[str, int] | None:
        inner = node.child_by_field_name("declarator")
        is_function = False
        for _ in range(MAX_LEVELS):
            if inner is None:
                return None
            is_function = is_function or inner.type in ("function_declarator", "operator_cast")
            following = inner.child_by_field_name("declarator")
            if following is None:
                break
            inner = following
        if functions_only and not is_function:
            return None
        return last_name(text_of(inner)), _head_end(node)

    return read


def _c_type(node: "Node") -> tuple[str, int] | None:
    """A struct or enum with a body; without one it is not a definition."""
    return _field()(node) if node.child_by_field_name("body") is not None else None


def _typedef(node: "Node") -> tuple[str, int] | None:
    read = _declared(functions_only=False)(node)
    return (read[0], node.end_byte) if read is not None else None


def _macro(node: "Node") -> tuple[str, int] | None:
    value = node.child_by_field_name("value")
    name = text_of(node.child_by_field_name("name"))
    if value is None:  # an include guard or a switch
        return None
    short = node.type == "preproc_def" and _PLAIN_VALUE.fullmatch(text_of(value).strip())
    return name, value.end_byte if short else value.start_byte


def _rust_macro(node: "Node") -> tuple[str, int] | None:
    name = node.child_by_field_name("name")
    return (text_of(name), name.end_byte) if name is not None else None


def _assigned(node: "Node") -> tuple[str, int] | None:
    """Python: constants and types at the top of a module or class."""
    inner = node.named_children[0] if node.named_children else None
    if inner is None or inner.type != "assignment":
        return None
    left = inner.child_by_field_name("left")
    name = text_of(left)
    annotated = inner.child_by_field_name("type")
    if left is None or left.type != "identifier" or not (annotated is not None or name.isupper()):
        return None
    return name, _value_end(inner, annotated or left)


def _value_end(node: "Node", before: "Node", field: str = "right") -> int:
    """Where a constant's signature ends: after its value, if that is short and not a secret."""
    value = node.child_by_field_name(field) or node.child_by_field_name("value")
    if value is not None and _PLAIN_VALUE.fullmatch(text_of(value)):
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
        return text_of(name), _head_end(value)
    exported = node.parent is not None and node.parent.type == "export_statement"
    if not exported and not text_of(name).isupper():
        return None
    return text_of(name), _value_end(one, one.child_by_field_name("type") or name, "value")


_JS_FUNCTIONS = frozenset({"arrow_function", "function_expression", "generator_function", "class"})


def _js_assigned(node: "Node") -> tuple[str, int] | None:
    """JavaScript: `exports.f = function (a) {`."""
    inner = node.named_children[0] if node.named_children else None
    if inner is None or inner.type != "assignment_expression":
        return None
    value = inner.child_by_field_name("right")
    if value is None or value.type not in _JS_FUNCTIONS:
        return None
    return last_name(text_of(inner.child_by_field_name("left"))), _head_end(value)


def _lua_assigned(node: "Node") -> tuple[str, int] | None:
    """Lua: `M.f = function(a)`, `local LIMIT = 3`."""
    inner = node if node.type == "assignment_statement" else None
    if inner is None:
        inner = next((child for child in node.named_children if child.type == "assignment_statement"), None)
    if inner is None or len(inner.named_children) < 2:
        return None
    names, values = inner.named_children[:2]
    value = values.named_children[0] if values.named_children else None
    name = last_name(text_of(names))
    if value is not None and value.type == "function_definition":
        return name, _head_end(value)
    return (name, _value_end(values, names, "value")) if name.isupper() else None


def _ruby_assigned(node: "Node") -> tuple[str, int] | None:
    left = node.child_by_field_name("left")
    return (text_of(left), _value_end(node, left)) if left is not None and left.type == "constant" else None


def _first_line(field: str = "name") -> Reader:
    """A constant: its line, without a long value."""

    def read(node: "Node") -> tuple[str, int] | None:
        name = node.child_by_field_name(field)
        if name is None:
            return None
        return text_of(name), _value_end(node, node.child_by_field_name("type") or name, "value")

    return read


def _go_type(node: "Node") -> tuple[str, int] | None:
    name, kind = node.child_by_field_name("name"), node.child_by_field_name("type")
    if name is None or kind is None:
        return None
    body = next((one for one in kind.children if one.type in ("field_declaration_list", "{")), None)
    return text_of(name), body.start_byte if body is not None else kind.end_byte


def _java_field(node: "Node") -> tuple[str, int] | None:
    """Java: constants only."""
    one = node.child_by_field_name("declarator")
    name = one.child_by_field_name("name") if one is not None else None
    if one is None or name is None or not text_of(name).isupper():
        return None
    return text_of(name), _value_end(one, name, "value")


def _same(reader: Reader, types: str) -> dict[str, Reader]:
    return dict.fromkeys(types.split(), reader)


def _set(types: str) -> frozenset[str]:
    return frozenset(types.split())


_JS = Grammar(
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
_C = Grammar(
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
GRAMMARS: dict[str, Grammar] = {
    "python": Grammar(
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
    "go": Grammar(
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
    "rust": Grammar(
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
    "java": Grammar(
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
    "csharp": Grammar(
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
    "ruby": Grammar(
        "tree_sitter_ruby",
        {
            **_same(_field(), "module class method singleton_method"),
            "assignment": _ruby_assigned,
        },
        _set("module class"),
        _set("body_statement singleton_class"),
        strings="(string_content)",
    ),
    "lua": Grammar(
        "tree_sitter_lua",
        {
            "function_declaration": _field(),
            **_same(_lua_assigned, "variable_declaration assignment_statement"),
        },
        frozenset(),
        frozenset(),
        strings="(string_content)",
    ),
    "bash": Grammar(
        "tree_sitter_bash",
        {"function_definition": _field()},
        frozenset(),
        frozenset(),
        strings="(raw_string)",
    ),
}
