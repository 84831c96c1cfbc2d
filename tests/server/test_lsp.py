"""Conversions to and from LSP, names of files in the prompt, and what clients announce."""

from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest
from core.texts import texts
from hypothesis import given
from hypothesis import strategies as st
from lsprotocol import types as lsp
from singlepass.cli.headless import headless_capabilities
from singlepass.core.edits import Edit
from singlepass.core.lines import Encoding, LineIndex
from singlepass.editor.positions import (
    Capabilities,
    edits_to_lsp,
    encoding_from_lsp,
    path_from_uri,
    plain,
    prompt_path,
    range_from_json,
    range_to_lsp,
    relative_path,
    span_from_lsp,
    uri_from_path,
    workspace_edit_to_lsp,
)


def lsp_range(a: int, b: int, c: int, d: int) -> lsp.Range:
    return lsp.Range(lsp.Position(a, b), lsp.Position(c, d))


@given(texts(), st.sampled_from(["utf-8", "utf-16", "utf-32"]), st.data())
def test_ranges_go_there_and_back(text: str, encoding: Encoding, data: st.DataObject) -> None:
    # Between a \r and its \n there is no position.
    places = [i for i in range(len(text) + 1) if text[i - 1 : i + 1] != "\r\n" or not i]
    start, end = sorted(data.draw(st.tuples(st.sampled_from(places), st.sampled_from(places))))
    index = LineIndex(text, encoding)
    there = range_to_lsp(index, start, end)
    assert span_from_lsp(index, there) == (start, end)
    assert span_from_lsp(index, lsp.Range(there.end, there.start)) == (start, end)


@pytest.mark.parametrize(
    ("announced", "expected"),
    [
        (lsp.PositionEncodingKind.Utf8, "utf-8"),
        (lsp.PositionEncodingKind.Utf32, "utf-32"),
        (lsp.PositionEncodingKind.Utf16, "utf-16"),
        ("utf-8", "utf-8"),
        ("utf-7", "utf-16"),
        (None, "utf-16"),
    ],
)
def test_position_encodings(announced: Any, expected: str) -> None:
    assert encoding_from_lsp(announced) == expected


@pytest.mark.parametrize("annotated", [True, False])
def test_edits_to_lsp(annotated: bool) -> None:
    index = LineIndex("a\n\U0001f600b\n")
    found = edits_to_lsp(index, [Edit(0, 1, "x"), Edit(3, 4, "")], annotated)
    assert [(one.range, one.new_text) for one in found] == [
        (lsp_range(0, 0, 0, 1), "x"),
        (lsp_range(1, 2, 1, 3), ""),
    ]
    assert [getattr(one, "annotation_id", None) for one in found] == [
        "singlepass" if annotated else None,
    ] * 2


EDITS: dict[tuple[str, int | None], list[Any]] = {
    ("file:///a", 3): [lsp.TextEdit(lsp_range(0, 0, 0, 1), "x")],
    ("file:///b", None): [lsp.TextEdit(lsp_range(1, 0, 1, 0), "y")],
}


@pytest.mark.parametrize("confirm", [True, False])
@pytest.mark.parametrize("annotated", [True, False])
def test_versioned_workspace_edits_name_their_versions(annotated: bool, confirm: bool) -> None:
    edit = workspace_edit_to_lsp(EDITS, "Do", "why", versioned=True, annotated=annotated, confirm=confirm)
    assert edit.changes is None
    found: list[Any] = list(edit.document_changes or ())
    assert [(one.text_document.uri, one.text_document.version, one.edits) for one in found] == [
        (uri, version, listed) for (uri, version), listed in EDITS.items()
    ]
    expected = {"singlepass": lsp.ChangeAnnotation("Do", needs_confirmation=confirm, description="why")}
    assert edit.change_annotations == (expected if annotated else None)


def test_plain_workspace_edits_for_clients_that_know_no_versions() -> None:
    index = LineIndex("ab")
    edits: dict[tuple[str, int | None], list[Any]] = {
        ("file:///a", 3): edits_to_lsp(index, [Edit(0, 1, "x")], annotated=True)
    }
    edit = workspace_edit_to_lsp(edits, "Do", "why", versioned=False, annotated=False, confirm=True)
    assert edit.document_changes is None
    assert edit.change_annotations is None
    assert edit.changes == {"file:///a": [lsp.TextEdit(lsp_range(0, 0, 0, 1), "x")]}
    assert type(edit.changes["file:///a"][0]) is lsp.TextEdit


@pytest.mark.parametrize(
    ("uri", "folders", "expected"),
    [
        ("file:///w/src/a.py", ["/w"], ("src/a.py", True)),
        ("file:///w/a.py", [], ("a.py", True)),
        ("file:///other/a.py", ["/w"], ("a.py", False)),
        ("file:///wider/a.py", ["/w"], ("a.py", False)),
        # Several folders: their names tell equal paths apart.
        ("file:///one/src/a.py", ["/one", "/two"], ("one/src/a.py", True)),
        ("file:///two/src/a.py", ["/one", "/two"], ("two/src/a.py", True)),
        ("file:///x/app/a.py", ["/x/app", "/y/app"], ("x/app/a.py", True)),
        ("file:///y/app/a.py", ["/x/app", "/y/app"], ("y/app/a.py", True)),
        ("file:///w/sub/a.py", ["/w", "/w/sub"], ("sub/a.py", True)),
        ("file:///other/a.py", ["/one", "/two"], ("a.py", False)),
        # `..` leads nowhere else.
        ("file:///w/../etc/passwd", ["/w"], ("passwd", False)),
        ("file:///w/x/../a.py", ["/w"], ("a.py", True)),
        ("file:///w/%2E%2E/etc/passwd", ["/w"], ("passwd", False)),
        # Names are one printable line.
        ("file:///w/my%20file%23.py", ["/w"], ("my file#.py", True)),
        ("file:///w/caf%C3%A9.py", ["/w"], ("café.py", True)),
        ("file:///w/a%0Ab.py", ["/w"], ("a\ufffdb.py", True)),
        ("file:///w/a%0D%09%7F%C2%85%E2%80%A8b.py", ["/w"], ("a" + "\ufffd" * 5 + "b.py", True)),
        ("file:///two%0A/a", ["/one", "/two\n"], ("two\ufffd/a", True)),
        # Buffers without a file.
        ("untitled:Untitled-1", ["/w"], ("Untitled-1", True)),
        ("untitled:", ["/w"], ("untitled", True)),
        ("untitled:a%0Ab", [], ("a\ufffdb", True)),
        ("vscode-notebook-cell:/w/a.ipynb#x", ["/w"], ("a.ipynb#x", True)),
        ("untitled:/w/new.py", ["/w"], ("new.py", True)),
    ],
)
def test_prompt_paths(uri: str, folders: list[str], expected: tuple[str, bool]) -> None:
    assert prompt_path(uri, [Path(folder) for folder in folders]) == expected


@pytest.mark.parametrize(
    ("uri", "folders", "expected"),
    [
        ("file:///one/src/a.py", ["/one", "/two"], "src/a.py"),
        ("file:///w/sub/a.py", ["/w", "/w/sub"], "a.py"),
        ("file:///other/a.py", ["/w"], "a.py"),
        ("untitled:a", ["/w"], "a"),
    ],
)
def test_ignore_patterns_see_paths_inside_their_folder(uri: str, folders: list[str], expected: str) -> None:
    assert relative_path(uri, [Path(folder) for folder in folders]) == expected


names = st.sampled_from(["a", "b", "c"])
some_paths = st.lists(names, min_size=1, max_size=4).map(lambda parts: Path("/", *parts))


@given(st.lists(some_paths, min_size=2, max_size=3, unique=True))
def test_no_two_folders_have_the_same_name(folders: list[Path]) -> None:
    found = {prompt_path((folder / "x.py").as_uri(), folders)[0] for folder in folders}
    assert len(found) == len(folders)


def test_paths_and_uris(tmp_path: Path) -> None:
    path = tmp_path / "a b#ü.py"
    assert path_from_uri(uri_from_path(path)) == path
    assert path_from_uri("untitled:a") is None
    with pytest.raises(ValueError, match="relative"):
        uri_from_path(Path("a.py"))


FLAGS = (
    "apply_edit",
    "versioned_edits",
    "annotations",
    "configuration",
    "progress",
    "action_literals",
    "action_tags",
    "diagnostic_versions",
)


@pytest.mark.parametrize(
    ("announced", "expected"),
    [
        (lsp.ClientCapabilities(), {"apply_edit"}),
        (
            lsp.ClientCapabilities(
                workspace=lsp.WorkspaceClientCapabilities(),
                text_document=lsp.TextDocumentClientCapabilities(),
            ),
            {"apply_edit"},  # some apply edits and do not announce it
        ),
        (headless_capabilities(), set(FLAGS) - {"configuration"}),
        (
            lsp.ClientCapabilities(
                workspace=lsp.WorkspaceClientCapabilities(
                    apply_edit=False,
                    configuration=True,
                    workspace_edit=lsp.WorkspaceEditClientCapabilities(
                        document_changes=False,
                        change_annotation_support=lsp.ChangeAnnotationsSupportOptions(),
                    ),
                )
            ),
            {"configuration"},
        ),
        (
            lsp.ClientCapabilities(
                workspace=lsp.WorkspaceClientCapabilities(
                    apply_edit=True,
                    workspace_edit=lsp.WorkspaceEditClientCapabilities(document_changes=True),
                ),
                window=lsp.WindowClientCapabilities(work_done_progress=False),
            ),
            {"apply_edit", "versioned_edits"},
        ),
    ],
)
def test_capabilities(announced: lsp.ClientCapabilities, expected: set[str]) -> None:
    found = Capabilities(announced)
    assert {flag for flag in FLAGS if getattr(found, flag)} == expected


def test_ranges_from_json() -> None:
    value = {"start": {"line": 1, "character": 2}, "end": {"line": 3, "character": 0}}
    assert range_from_json(value) == lsp_range(1, 2, 3, 0)
    start = {"line": 1, "character": 2}
    wrong = (None, 5, "x", [], [start, start], {}, {"start": start}, {"start": 1, "end": 2})
    negative = {"start": {"line": -1, "character": 0}, "end": start}
    for other in (*wrong, negative, {"start": {"line": "1", "character": 0}, "end": start}):
        with pytest.raises(ValueError, match="not a range"):
            range_from_json(other)


def test_free_form_parameters_become_plain_containers() -> None:
    Object = namedtuple("Object", ["uri", "range"])  # what pygls makes of unknown objects
    value = Object("x", [Object(1, {"a": (2,)})])
    assert plain(value) == {"uri": "x", "range": [{"uri": 1, "range": {"a": [2]}}]}
