"""Over stdio: what the server takes a document for, told by the action that a comment in it becomes."""

from pathlib import Path

import pytest
from lsprotocol import types as lsp
from scenarios.clients import FullEditor, write

pytestmark = pytest.mark.anyio

TOP = lsp.Range(lsp.Position(0, 0), lsp.Position(0, 0))
TYPED = "# AI: say one"


@pytest.mark.parametrize(
    ("text", "typed", "title"),
    [
        ("# AI: a\x0cb\n", [(2, 9, "c")], "Do: a␌bc"),
        ("# AI: a\u2028b\n", [(2, 9, "c")], "Do: a bc"),
        # As Helix 25.01 sends what is typed fast.
        ("\n", [(n + 2, n, TYPED[n]) for n in (0, 8, 1, 9, 2, 10, 3, 11, 4, 5, 6, 12, 7)], "Do: say one"),
    ],
)
async def test_changes_are_made_where_the_editor_made_them(
    tmp_path: Path, text: str, typed: list[tuple[int, int, str]], title: str
) -> None:
    file = write(tmp_path, "a.py", text)
    async with FullEditor(tmp_path, {}) as editor:
        document = editor.open(file)
        for version, character, letter in typed:
            place = lsp.Position(0, character)
            change = lsp.TextDocumentContentChangePartial(lsp.Range(place, place), letter)
            editor.client.text_document_did_change(
                lsp.DidChangeTextDocumentParams(
                    lsp.VersionedTextDocumentIdentifier(version, document.uri), [change]
                )
            )
        assert (await editor.actions(document, TOP))[0].title.split(" ·")[0] == title
