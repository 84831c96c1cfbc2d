"""Conversions between LSP and our own values. The only place that knows LSP positions.

Named from_lsp and to_lsp. A position is (line, character), the character in code units of the negotiated
encoding (LSP 3.17, PositionEncodingKind); an offset counts characters of a Python string.
"""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, cast
from urllib.parse import unquote

from lsprotocol import types as lsp
from pygls.protocol import default_converter

from singlepass.core.actions import plain_text
from singlepass.core.edits import Edit, difference
from singlepass.core.lines import Encoding, LineIndex
from singlepass.files.same_file import FileId, file_id, path_inside

ANNOTATION = "singlepass"
MAX_DIAGNOSTICS = 500

# Line breaks of any kind, and characters that tokenizers or terminals cannot handle.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")

_FILE_URI = re.compile(r"file:(?://(?P<host>[^/?#]*))?(?P<path>[^?#]*)(?:[?#].*)?", re.IGNORECASE | re.DOTALL)
_DRIVE = re.compile(r"/([a-zA-Z]):(?=/|$)")

TextEdit = lsp.TextEdit | lsp.AnnotatedTextEdit


def encoding_from_lsp(encoding: lsp.PositionEncodingKind | str | None) -> Encoding:
    """The negotiated position encoding; the protocol's default is utf-16."""
    match str(getattr(encoding, "value", encoding)):
        case "utf-8":
            return "utf-8"
        case "utf-32":
            return "utf-32"
        case _:
            return "utf-16"


def span_from_lsp(index: LineIndex, value: lsp.Range) -> tuple[int, int]:
    """Start and end offset of a range; an inverted range is swapped."""
    start = index.offset(value.start.line, value.start.character)
    end = start if value.end == value.start else index.offset(value.end.line, value.end.character)
    return (start, end) if start <= end else (end, start)


def range_to_lsp(index: LineIndex, start: int, end: int) -> lsp.Range:
    """The range of a span of offsets."""
    return lsp.Range(lsp.Position(*index.position(start)), lsp.Position(*index.position(end)))


def range_to_json(index: LineIndex, start: int, end: int) -> dict[str, Any]:
    """The range of a span of offsets, in the form for our own notifications and results."""
    places = (("start", index.position(start)), ("end", index.position(end)))
    return {name: {"line": line, "character": character} for name, (line, character) in places}


def lines_to_json(first: int, end: int) -> dict[str, Any]:
    """The range of whole lines, `end` exclusive."""
    return {"start": {"line": first, "character": 0}, "end": {"line": end, "character": 0}}


def changes_from_lsp(
    text: str, changes: Iterable[lsp.TextDocumentContentChangeEvent], encoding: Encoding
) -> list[Edit]:
    """The changes of a `didChange` as sequential edits: each refers to the text after the one before.

    A change that replaces the whole text becomes an edit of the part that differs, since some editors send no
    other kind and hunks have to be rebased over it.
    """
    edits: list[Edit] = []
    index: LineIndex | None = None
    for change in changes:
        if index is None:
            index = LineIndex(text, encoding)
        else:
            index.change(*edits[-1])
        if isinstance(change, lsp.TextDocumentContentChangePartial):
            edits.append(Edit(*span_from_lsp(index, change.range), change.text))
        else:
            edits.append(difference(index.text, change.text))
    return edits


def edits_to_lsp(index: LineIndex, edits: Sequence[Edit], annotated: bool) -> list[TextEdit]:
    """Text edits for one document; annotated ones refer to the annotation of the workspace edit."""

    def encode(edit: Edit) -> TextEdit:
        place = range_to_lsp(index, edit.start, edit.end)
        return (
            lsp.AnnotatedTextEdit(ANNOTATION, place, edit.new) if annotated else lsp.TextEdit(place, edit.new)
        )

    return [encode(edit) for edit in edits]


def workspace_edit_to_lsp(
    edits: Mapping[tuple[str, int | None], list[TextEdit]],
    label: str,
    description: str,
    *,
    versioned: bool,
    annotated: bool,
    confirm: bool,
) -> lsp.WorkspaceEdit:
    """A workspace edit of documents given by (uri, version), in the richest form that the client supports.

    Without `documentChanges` support it is a plain `changes` map: this has no versions, so the client cannot
    reject a stale edit, and the caller must have checked.
    """
    if not versioned:
        return lsp.WorkspaceEdit(
            changes={
                uri: [lsp.TextEdit(t.range, t.new_text) for t in texts] for (uri, _), texts in edits.items()
            }
        )
    return lsp.WorkspaceEdit(
        document_changes=[
            lsp.TextDocumentEdit(lsp.OptionalVersionedTextDocumentIdentifier(uri, version), list(texts))
            for (uri, version), texts in edits.items()
        ],
        change_annotations={
            ANNOTATION: lsp.ChangeAnnotation(label, needs_confirmation=confirm, description=description)
        }
        if annotated
        else None,
    )


def path_from_uri(uri: str) -> Path | None:
    """The file a URI names; None for buffers without a file, such as `untitled:`."""
    path = _named_path(uri)
    # Without `..`, so that a path that starts with a folder's path is inside the folder.
    return Path(os.path.normpath(path)) if path else None


def followed_path(uri: str) -> Path | None:
    """The file that opening a URI leads to: links are resolved before a following `..`, as systems do."""
    path = _named_path(uri)
    try:
        return Path(os.path.realpath(path)) if path else None
    except (OSError, ValueError):
        return None


def _named_path(uri: str) -> str:
    """The path in a `file:` URI; empty for other URIs.

    Editors write such URIs in several ways: `file:/a`, `file:///a` or `file://localhost/a`, with `%61` for
    `a` and `/c%3A/` or `/C:/` for a drive.
    """
    found = _FILE_URI.fullmatch(uri)
    if found is None:
        return ""
    host, path = unquote(found["host"] or ""), unquote(found["path"])
    if host and host.lower() != "localhost":
        path = f"//{host}{path}"  # a Windows share; elsewhere it leads into no folder
    elif path and os.name != "nt":
        path = "/" + path.lstrip("/")
    if drive := _DRIVE.match(path):
        path = f"{drive[1].lower()}:{path[drive.end() :]}"
        if os.name != "nt":
            path = f"/{path}"
    return path.replace("/", "\\") if os.name == "nt" else path


def id_of_uri(uri: str) -> FileId:
    """The identity of the file or buffer that a URI names, however it is spelled."""
    path = path_from_uri(uri)
    if path is not None:
        return file_id(path)
    scheme, _, rest = uri.partition(":")
    name = f"{scheme.lower()}:{unquote(rest)}"
    return FileId(name, name)


def uri_from_path(path: Path) -> str:
    """The `file:` URI of an absolute path. Raises ValueError for a relative one."""
    return path.as_uri()


def prompt_path(uri: str, folders: Sequence[Path]) -> tuple[str, bool]:
    """A document's path in the prompt, and whether it is inside one of the workspace folders.

    The path is relative to its folder, has `/` on every system, and starts with the folder's name if there
    are several. It is one line of printable text. Buffers without a file count as inside.
    """
    path = path_from_uri(uri)
    if path is None:
        name = PurePosixPath(unquote(uri.rpartition(":")[2])).name
        return _UNPRINTABLE.sub("\ufffd", name) or "untitled", True
    folder, inside = place_of(path, folders) or (None, Path(path.name))
    name = inside.as_posix()
    if folder is not None and len(folders) > 1:
        name = f"{_folder_name(folder, folders)}/{name}"
    return _UNPRINTABLE.sub("\ufffd", name), folder is not None or not folders


def relative_path(uri: str, folders: Sequence[Path]) -> str:
    """A document's path for ignore patterns: relative to its workspace folder, or just the name."""
    path = path_from_uri(uri)
    if path is None:
        return PurePosixPath(unquote(uri.rpartition(":")[2])).name
    _, inside = place_of(path, folders) or (None, Path(path.name))
    return inside.as_posix()


def place_of(path: Path, folders: Sequence[Path]) -> tuple[Path, Path] | None:
    """The innermost folder that contains the path, and the relative path; None if outside of all.

    Links are resolved only if the names are not sufficient.
    """
    around = [(folder, path.relative_to(folder)) for folder in folders if path.is_relative_to(folder)]
    if not around:
        inside = ((folder, path_inside(path, folder)) for folder in folders)
        around = [(folder, relative) for folder, relative in inside if relative is not None]
    return min(around, key=lambda one: len(one[1].parts), default=None)


def _folder_name(folder: Path, folders: Sequence[Path]) -> str:
    """A folder's name, with as many parents as needed to distinguish it from the other folders."""
    others = [other.parts for other in folders if other != folder]
    for n_parts in range(1, len(folder.parts)):
        if all(other[-n_parts:] != folder.parts[-n_parts:] for other in others):
            return "/".join(folder.parts[-n_parts:])
    return folder.as_posix()


def converter() -> Any:
    """pygls's converter, extended by the diagnostics of LSP 3.18, which lsprotocol 2025.0.0 does not support.

    A message may be markup, and code actions return it unchanged. The number of diagnostics of a menu is
    limited; others are not even converted.
    """
    found: Any = default_converter()
    diagnostic = found.get_structure_hook(lsp.Diagnostic)

    def structure_diagnostic(value: Any, kind: Any) -> lsp.Diagnostic:
        message = _mapping(value).get("message", "")
        if isinstance(message, str):
            return diagnostic(value, kind)
        made = diagnostic({**value, "message": ""}, kind)
        if isinstance(message, dict):
            # Not by assignment, which would check that it is a string.
            object.__setattr__(made, "message", found.structure(message, lsp.MarkupContent))
        return made

    found.register_structure_hook(lsp.Diagnostic, structure_diagnostic)
    context = found.get_structure_hook(lsp.CodeActionContext)

    def structure_context(value: Any, kind: Any) -> lsp.CodeActionContext:
        given = _mapping(value).get("diagnostics")
        if isinstance(given, list):
            value = {**value, "diagnostics": cast("list[Any]", given)[:MAX_DIAGNOSTICS]}
        return context(value, kind)

    found.register_structure_hook(lsp.CodeActionContext, structure_context)
    return found


def message_of(diagnostic: lsp.Diagnostic) -> str:
    """A diagnostic's message as plain text; empty if it has none."""
    message: object = diagnostic.message
    if isinstance(message, lsp.MarkupContent):
        is_markdown = message.kind == lsp.MarkupKind.Markdown
        return plain_text(message.value) if is_markdown else message.value.strip()
    return str(message).strip()


class Capabilities:
    """The client's capabilities, read once; every missing one has a fallback."""

    def __init__(self, announced: lsp.ClientCapabilities) -> None:
        def find(*names: str) -> Any:
            value: Any = announced
            for name in names:
                value = getattr(value, name, None)
            return value

        # Kate applies edits but does not announce it. A client that cannot will answer so.
        self.apply_edit = find("workspace", "apply_edit") is not False
        self.versioned_edits = bool(find("workspace", "workspace_edit", "document_changes"))
        self.annotations = self.versioned_edits and (
            find("workspace", "workspace_edit", "change_annotation_support") is not None
        )
        self.configuration = bool(find("workspace", "configuration"))
        self.lenses = find("text_document", "code_lens") is not None
        self.lens_refresh = bool(find("workspace", "code_lens", "refresh_support"))
        self.dynamic_configuration = bool(
            find("workspace", "did_change_configuration", "dynamic_registration")
        )
        self.watching = bool(find("workspace", "did_change_watched_files", "dynamic_registration"))
        self.progress = bool(find("window", "work_done_progress"))
        self.action_literals = find("text_document", "code_action", "code_action_literal_support") is not None
        self.action_tags = find("text_document", "code_action", "tag_support") is not None
        self.diagnostic_versions = bool(find("text_document", "publish_diagnostics", "version_support"))
        self.show_document = bool(find("window", "show_document", "support"))
        self.preview = _ours(announced).get("preview") is True
        """Our own capability: whether the client shows `singlepass/preview`."""


def _ours(announced: lsp.ClientCapabilities) -> Mapping[str, Any]:
    """The client's capabilities under `experimental.singlepass`, which may have any content."""
    experimental = _mapping(plain(announced.experimental))
    return _mapping(experimental.get("singlepass"))


def _mapping(value: Any) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", value) if isinstance(value, Mapping) else {}


def lines_of(value: lsp.Range) -> tuple[int, int]:
    """First and end line (exclusive) of a range; a range that ends at a line's start excludes that line."""
    start, end = sorted(((value.start.line, value.start.character), (value.end.line, value.end.character)))
    if start == end:
        return start[0], start[0]
    return start[0], max(end[0] + (end[1] > 0), start[0] + 1)


def range_from_json(value: Any) -> lsp.Range:
    """A range in a command's arguments. Raises ValueError for anything else."""
    try:
        start, end = value["start"], value["end"]
        numbers = [start["line"], start["character"], end["line"], end["character"]]
    except (TypeError, KeyError):
        numbers = []
    if len(numbers) != 4 or not all(isinstance(n, int) and n >= 0 for n in numbers):
        raise ValueError(f"not a range: {value!r}")
    return lsp.Range(lsp.Position(numbers[0], numbers[1]), lsp.Position(numbers[2], numbers[3]))


def plain(value: Any) -> Any:
    """Free-form parameters as plain containers: pygls converts unknown objects to named tuples."""
    if hasattr(value, "_asdict"):
        value = value._asdict()
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in cast("Mapping[str, Any]", value).items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in cast("Sequence[Any]", value)]
    return value
