"""What an editor is shown of a block while it is written, whatever becomes of the block."""

from typing import Any

import pytest
from lsprotocol import types as lsp
from server.fakes import FakeEditor
from singlepass.core.diff_parser import DiffParser
from singlepass.core.edits import Edit
from singlepass.core.lines import LineIndex
from singlepass.editor.documents import EditableFile
from singlepass.editor.positions import Capabilities
from singlepass.jobs.preview import PREVIEW, Preview

URI = "file:///w/a.py"
TEXT = "one = '𝔘'\ntwo = 2\nthree = 3\ntwo = 2\nfour = 4\n"
BLOCK = "a.py\n<<<<<<< SEARCH\none = '𝔘'\ntwo = 2\n=======\none = 1\nmore = 0\ntwo = 2\n>>>>>>> REPLACE\n"
NOTHING = {"version": None, "range": None, "lines": []}


class Watched:
    """A preview in an editor with `a.py` open."""

    def __init__(self, text: str = TEXT) -> None:
        self.editor = FakeEditor()
        self.editor.open(URI, text)
        self.document = self.editor.documents.get(URI)
        assert self.document is not None
        file = EditableFile("a.py", self.document.snapshot(), self.document, self.document.revision)
        self.preview = Preview(7, [file], self.editor)  # type: ignore[arg-type]
        self.parser = DiffParser(7, {"a.py": ""})

    def feed(self, text: str) -> None:
        self.preview.take(self.parser.feed(text))
        self.preview.tell()

    @property
    def told(self) -> list[dict[str, Any]]:
        found = [params for method, params in self.editor.calls if method == PREVIEW]
        assert {(one.pop("job"), one.pop("uri")) for one in found} <= {(7, URI)}
        self.editor.calls.clear()
        return found

    def shown_over(self, told: dict[str, Any]) -> str:
        """The lines that an editor shows it at."""
        text = self.editor.texts[URI]
        index = LineIndex(text)
        start, end = (
            index.offset(told["range"][name]["line"], told["range"][name]["character"])
            for name in ("start", "end")
        )
        assert told["version"] == self.editor.versions[URI]
        return text[start:end]


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("singlepass.jobs.preview._TELL_EVERY_S", 0)


def test_lines_are_shown_as_they_come_and_gone_when_the_hunk_is_whole() -> None:
    watched = Watched()
    shown: list[list[str]] = []
    for character in BLOCK:
        watched.feed(character)
        for told in watched.told:
            shown.append(told["lines"])
            if told["lines"]:
                assert watched.shown_over(told) == "one = '𝔘'\ntwo = 2\n"
            else:
                assert told == NOTHING
    new = ["one = 1", "more = 0", "two = 2"]
    assert shown == [new[:1], new[:2], new, []]


def test_a_block_that_comes_at_once_shows_nothing() -> None:
    watched = Watched()
    watched.feed(BLOCK)
    assert watched.told == []


def test_it_moves_with_what_is_typed_above_and_goes_when_its_lines_are_touched() -> None:
    watched = Watched()
    head, more = BLOCK.split("more = 0\n")
    watched.feed(head)
    watched.editor.type(URI, Edit(0, 0, "# typed\n"))
    watched.feed("more = 0\n")
    first, second = watched.told
    assert first["range"]["start"]["line"] == 0
    assert second["range"]["start"]["line"] == 1
    assert watched.shown_over(second) == "one = '𝔘'\ntwo = 2\n"
    place = watched.editor.texts[URI].index("two")
    watched.editor.type(URI, Edit(place, place, "mine"))
    watched.feed("two = 2\n")
    assert watched.told == [NOTHING]
    watched.feed(more.split("two = 2\n")[1])
    assert watched.told == []


@pytest.mark.parametrize(
    "block",
    [
        BLOCK.replace("one = '𝔘'\n", ""),  # stands there twice
        BLOCK.replace("one = '𝔘'", "one = 9"),  # nowhere
        BLOCK.replace("a.py", "b.py"),  # a file that may not be edited
        BLOCK.replace("one = '𝔘'\ntwo = 2\n====", "===="),  # no old lines
    ],
)
def test_nothing_is_shown_where_the_place_is_not_certain(block: str) -> None:
    watched = Watched()
    for character in block:
        watched.feed(character)
    assert watched.told == []


def test_what_is_cut_off_is_shown_no_more() -> None:
    watched = Watched()
    watched.feed(BLOCK[: BLOCK.index("more")])
    assert len(watched.told) == 1
    watched.preview.take(watched.parser.close(complete=False))
    assert watched.told == [NOTHING]
    watched.preview.clear()
    assert watched.told == []


@pytest.mark.parametrize(
    ("experimental", "shows"),
    [
        ({"singlepass": {"preview": True}}, True),
        ({"singlepass": {"preview": 1}}, False),
        ({"singlepass": True}, False),
        ({"other": {"preview": True}}, False),
        ([], False),
        (None, False),
    ],
)
def test_only_an_editor_that_announces_it_is_told(experimental: Any, shows: bool) -> None:
    assert Capabilities(lsp.ClientCapabilities(experimental=experimental)).preview == shows
