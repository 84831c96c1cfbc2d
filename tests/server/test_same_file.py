"""One file is one document, whatever it is named by: links, `..`, spellings of a URI, case."""

import asyncio
import os
import unicodedata
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest
from server.fakes import block
from server.test_jobs import (
    World,
    current,  # pyright: ignore[reportUnusedImport]  # noqa: F401  # a fixture
)
from singlepass.editor.documents import Documents
from singlepass.editor.positions import path_from_uri, prompt_path
from singlepass.editor.workspace import Workspace
from singlepass.files.same_file import distinct, file_id, is_same, path_inside
from singlepass.jobs.review import ALL, Selected

pytestmark = pytest.mark.anyio

TEXT = "one\ntwo\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """`real` with files, `link` to it, and links inside."""
    real = tmp_path / "real"
    (real / "sub").mkdir(parents=True)
    for name in ("a.py", "b.py", "sub/c.py"):
        (real / name).write_text(TEXT)
    (tmp_path / "link").symlink_to("real")
    (real / "linked.py").symlink_to("a.py")
    (real / "inner").symlink_to("sub")
    return tmp_path


SPELLINGS: dict[str, Callable[[Path], str]] = {
    "as it is": lambda folder: (folder / "real/a.py").as_uri(),
    "escapes": lambda folder: (folder / "real").as_uri() + "/%61%2E%70y",
    "escaped slash": lambda folder: (folder / "real").as_uri() + "%2Fa.py",
    "another case of escapes": lambda folder: "file://" + quote(str(folder / "real/a.py"), safe="").lower(),
    "up and down": lambda folder: (folder / "real").as_uri() + "/sub/../a.py",
    "escaped dots": lambda folder: (folder / "real").as_uri() + "/sub/%2e%2e/a.py",
    "here": lambda folder: (folder / "real").as_uri() + "/./a.py",
    "slashes": lambda folder: (folder / "real").as_uri() + "//a.py",
    "more slashes": lambda folder: f"file:///{folder}/real/a.py",
    "host": lambda folder: f"file://localhost{folder}/real/a.py",
    "host in capitals": lambda folder: f"file://LOCALHOST{folder}/real/a.py",
    "no host": lambda folder: f"file:{folder}/real/a.py",
    "scheme in capitals": lambda folder: f"FILE://{folder}/real/a.py",
    "a link to the folder": lambda folder: (folder / "link/a.py").as_uri(),
    "a link to the file": lambda folder: (folder / "real/linked.py").as_uri(),
    "both": lambda folder: (folder / "link/linked.py").as_uri(),
}


@pytest.mark.parametrize("opened", SPELLINGS)
@pytest.mark.parametrize("named", SPELLINGS)
def test_an_open_document_is_found_by_every_name(folder: Path, opened: str, named: str) -> None:
    documents = Documents()
    other = documents.open((folder / "real/b.py").as_uri(), "python", 1, "")
    document = documents.open(SPELLINGS[opened](folder), "python", 1, TEXT)
    assert documents.get(SPELLINGS[named](folder)) is document
    assert documents.get((folder / "link/b.py").as_uri()) is other
    assert documents.get((folder / "real/sub/a.py").as_uri()) is None
    documents.close(document.uri)
    assert documents.get(SPELLINGS[named](folder)) is None


def test_of_two_documents_of_a_file_each_is_found_by_its_own_name(folder: Path) -> None:
    """As in VS Code, which has a buffer for each name."""
    documents = Documents()
    real, linked = ((folder / name).as_uri() for name in ("real/a.py", "real/linked.py"))
    first, second = (documents.open(uri, "python", 1, "") for uri in (real, linked))
    assert (documents.get(real), documents.get(linked)) == (first, second)
    third = (folder / "link/a.py").as_uri()
    assert documents.get(third) is second
    documents.touch(real)
    assert documents.get(third) is first
    documents.close(real)
    assert documents.get(real) is second


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("file:///c%3A/w/a.py", "file:///c:/w/a.py"),
        ("file:///C%3A/w/a.py", "file:///c:/w/a.py"),
        ("file:///C:/w/a.py", "file://localhost/c%3a/w/a.py"),
        ("untitled:Untitled-1", "untitled:Untitled%2D1"),
        ("vscode-notebook-cell:/w/a.ipynb#x", "VSCODE-notebook-cell:/w/%61.ipynb#x"),
    ],
)
def test_names_of_what_is_no_file_here(one: str, other: str) -> None:
    documents = Documents()
    document = documents.open(one, "python", 1, "")
    assert documents.get(other) is document
    assert documents.get(f"{other}x") is None


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("file:///w/a%20b%23%C3%BC.py", "/w/a b#ü.py"),
        ("file:///w/a;b.py", "/w/a;b.py"),
        ("file:///w/a.py?query#fragment", "/w/a.py"),
        ("file:///w/a%3Fb.py", "/w/a?b.py"),
        ("file://localhost.evil/etc/passwd", "//localhost.evil/etc/passwd"),
        ("file://[", "//["),
        ("file:", None),
        ("file://", None),
        ("file2:///w/a.py", None),
        ("http://localhost/w/a.py", None),
    ],
)
def test_the_path_of_a_uri(uri: str, path: str | None) -> None:
    assert path_from_uri(uri) == (path and Path(path))


def test_case_is_what_the_system_makes_of_it(tmp_path: Path) -> None:
    """Two hard links show what a system without case has: two names, one file."""
    (tmp_path / "Notes.py").write_text("")
    (tmp_path / "README.md").write_text("1")
    (tmp_path / "readme.md").write_text("2")
    os.link(tmp_path / "Notes.py", tmp_path / "notes.py")
    os.link(tmp_path / "Notes.py", tmp_path / "other.py")
    notes = file_id(tmp_path / "Notes.py")
    assert is_same(notes, file_id(tmp_path / "notes.py"))
    assert not is_same(notes, file_id(tmp_path / "NOTES.py"))  # which is not there
    assert not is_same(notes, file_id(tmp_path / "other.py"))  # a name of its own
    assert not is_same(file_id(tmp_path / "README.md"), file_id(tmp_path / "readme.md"))
    composed, decomposed = (unicodedata.normalize(form, "é.py") for form in ("NFC", "NFD"))
    (tmp_path / composed).write_text("")
    os.link(tmp_path / composed, tmp_path / decomposed)
    assert is_same(file_id(tmp_path / composed), file_id(tmp_path / decomposed))


def test_a_path_that_leads_nowhere_is_as_it_is_written(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    for path in (tmp_path / "new" / "a.py", tmp_path / "loop" / "a.py", tmp_path / "a\0b"):
        assert is_same(file_id(path), file_id(path))
        assert path_inside(path, tmp_path) == path.relative_to(tmp_path)


# Folders.


@pytest.mark.parametrize("root", ["real", "link"])
@pytest.mark.parametrize("named", ["real", "link"])
def test_a_root_that_is_a_link_and_a_file_that_is_not_belong_together(
    folder: Path, root: str, named: str
) -> None:
    workspace = Workspace()
    workspace.folders = [folder / root]
    for name in ("a.py", "sub/c.py", "new/file.py"):
        uri = (folder / named / name).as_uri()
        assert workspace.name(uri) == (name, True)
        assert workspace.resolve(uri).is_inside
        assert workspace.folder_of(uri) == folder / root
        assert workspace.indexed_path(uri) == folder / root / name
    assert workspace.resolve((folder / named / "sub/.env").as_uri()).is_hidden(())
    assert workspace.resolve((folder / named / "sub/c.py").as_uri()).is_hidden(("/sub/",))
    assert workspace.resolve((folder / named / ".git/config").as_uri()).protection
    assert not workspace.resolve((folder / "elsewhere/a.py").as_uri()).is_inside


def test_folders_that_are_one_are_one(folder: Path) -> None:
    real, link, sub = folder / "real", folder / "link", folder / "real" / "sub"
    assert distinct([link, real, sub, link]) == [link, sub]
    workspace = Workspace()
    workspace.folders = [link, real]
    assert workspace.folders == [link]
    assert workspace.named == [link, real]
    assert workspace.name((real / "a.py").as_uri()) == ("a.py", True)
    assert prompt_path((real / "sub/c.py").as_uri(), [link, sub])[0] == "sub/c.py"


# Jobs.


@pytest.mark.parametrize("opened", ["as it is", "escapes", "a link to the folder", "a link to the file"])
@pytest.mark.parametrize("named", ["as it is", "up and down", "host", "a link to the folder", "both"])
@pytest.mark.parametrize("root", ["real", "link"])
async def test_an_edit_goes_to_the_name_that_the_editor_uses(
    folder: Path, opened: str, named: str, root: str
) -> None:
    uri, asked = SPELLINGS[opened](folder), SPELLINGS[named](folder)
    path = "linked.py" if "file" in opened else "a.py"
    beside = (folder / "real/b.py").as_uri()
    for fields, n_target in (({"uri": asked}, 1), ({"uri": beside, "files": (asked, uri, beside)}, 0)):
        world = World([block(path, ["one"], ["1"])])
        world.workspace.folders = [folder / root]
        world.editor.open(beside, "x\n")
        world.editor.open(uri, TEXT)
        told = await world.run(**fields)
        assert (told["outcome"], told["n_applied"], told["rejected"]) == ("done", 1, [])
        assert world.editor.texts[uri] == "1\ntwo\n"
        assert told["uri"] == (uri if n_target else beside)
        (request,) = world.engine.requests
        names = [segment.name for segment in request.segments]
        assert sorted(names[1:-1]) == sorted([path, "b.py"])
        assert world.parts.reviews.keep(Selected(uri=asked)) == 1


async def test_a_file_that_is_open_twice_stands_in_a_prompt_once(folder: Path) -> None:
    world = World([""], [""])
    world.workspace.folders = [folder / "link"]
    for name in ("real/a.py", "real/linked.py", "real/b.py", "link/b.py"):
        world.editor.open((folder / name).as_uri(), TEXT)
    await world.run(uri=(folder / "real/linked.py").as_uri())
    await world.run(uri=(folder / "link/b.py").as_uri())
    first, second = (sorted(one.name for one in request.segments[1:-1]) for request in world.engine.requests)
    assert first == ["b.py", "linked.py"]
    assert second == ["b.py", "linked.py"]


async def test_the_newest_job_wins_under_every_name(folder: Path) -> None:
    world = World(["a.py", asyncio.Event()], [block("a.py", ["one"], ["1"])])
    world.workspace.folders = [folder / "real"]
    # Not open, so that each is named by the request alone.
    first = world.start(uri=(folder / "link/a.py").as_uri())
    await world.editor.until(first, "decode")
    uri = (folder / "real/a.py").as_uri()
    world.editor.put(uri, TEXT)
    second = world.start(uri=uri)
    assert (await world.editor.finish(first))["outcome"] == "cancelled"
    assert (await world.editor.finish(second))["n_applied"] == 1


@pytest.mark.parametrize("is_edited_before", [True, False])
async def test_a_file_that_is_opened_under_another_name_than_it_was_asked_for(
    folder: Path, is_edited_before: bool
) -> None:
    """While the model writes, or after the edit, as when the editor opens it for that."""
    edited, asked, opened = ((folder / name).as_uri() for name in ("real/b.py", "link/a.py", "real/a.py"))

    def open_it() -> None:
        if not is_edited_before:
            world.editor.open(opened, TEXT)

    world = World([block("a.py", ["one"], ["1"]), open_it])
    world.parts.repository.opened = lambda uri: None  # type: ignore[method-assign]  # no process for this
    world.workspace.folders = [folder / "link"]
    world.editor.open(edited, TEXT)
    world.editor.put(asked, TEXT)
    told = await world.run(uri=edited, files=(asked,))
    assert (told["n_applied"], told["rejected"]) == (1, [])
    if is_edited_before:
        assert world.editor.texts[asked] == "1\ntwo\n"
        world.editor.open(opened, "1\ntwo\n")
        document = world.documents.get(opened)
        assert document is not None
        for listener in world.documents.on_opened:
            listener(document)
    assert world.editor.texts[opened] == "1\ntwo\n"
    assert len(world.parts.reviews.listed(asked)[1]) == 1
    hunks = world.editor.told("singlepass/hunks")[-1]
    assert (hunks["uri"], len(hunks["hunks"])) == (opened, 1)
    assert (await world.parts.reviews.undo(ALL, "undo")).undone == 1
    assert world.editor.texts[opened] == TEXT


async def test_an_open_file_that_runs_code_is_only_read_unless_it_is_asked_for(folder: Path) -> None:
    uri, notes = (folder / "real/a.py").as_uri(), (folder / "real/AGENTS.md").as_uri()
    blocks = [block("a.py", ["one"], ["1"]), block("AGENTS.md", ["x"], ["evil"])]
    world = World(blocks, blocks)
    world.workspace.folders = [folder / "real"]
    world.editor.open(notes, "x\n")
    world.editor.open(uri, TEXT)
    told = await world.run(uri=uri)
    assert [segment.name for segment in world.engine.requests[0].segments][1:-1] == ["AGENTS.md", "a.py"]
    assert (told["n_applied"], [one["reason"] for one in told["rejected"]]) == (1, ["unknown_file"])
    assert world.editor.texts[notes] == "x\n"
    told = await world.run(uri=uri, files=(notes,))
    assert world.editor.texts[notes] == "evil\n"
    assert [confirm for *_, confirm in world.editor.applied] == [False, True]
