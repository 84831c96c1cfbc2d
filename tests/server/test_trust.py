"""What an edit may touch, what it may say: confined, asked for where it matters, and inert."""

import io
import itertools
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import pytest
from lsprotocol import types as lsp
from rich.console import Console
from server.fakes import FakeEditor, block
from server.test_jobs import (
    SETTINGS,
    TEXT,
    URI,
    World,
    current,  # pyright: ignore[reportUnusedImport]  # noqa: F401  # a fixture
)
from singlepass.cli.edit import Output, Result, report
from singlepass.cli.headless import OpenFile
from singlepass.config import DEFAULT, Settings
from singlepass.core.edits import Edit
from singlepass.editor.positions import Capabilities, path_from_uri
from singlepass.editor.requests import Editor
from singlepass.editor.workspace import UserError, Workspace
from singlepass_backends.base import Target

pytestmark = pytest.mark.anyio

N_HOSTILE = 500


def hostile_paths() -> list[str]:
    """Names that lead elsewhere, or could on some system, in the spellings that are known to slip through."""
    ups = ["../", "../../", "x/../../", "./../", "..\\", "..//", ".../", "....//", "%2e%2e/", "%2e%2e%2f"]
    ups += ["..%2f", "..%5c", "%252e%252e/", "..;/", "\uff0e\uff0e/", "\u2025/", "..\u200b/", ".\u200b./"]
    ups += [
        "/",
        "//",
        "\\\\host\\share\\",
        "//host/share/",
        "C:\\",
        "c:/",
        "\\\\?\\C:\\",
        "~/",
        "~root/",
        "$HOME/",
    ]
    ups += ["file:///", "FILE:///", "file://localhost/", "file:", "link/", "link/../", "loop/", "a.py/../../"]
    names = [
        "outside/secret.py",
        "etc/passwd",
        "a.py",
        "A.PY",
        "a.py.",
        "a.py ",
        "a.py::$DATA",
        "a.py\0",
        "CON",
    ]
    names += ["nul.py", "COM1", "a.py/", "\u0430.py", ".ssh/id_rsa"]
    found = [up + name for up, name in itertools.product(ups, names)]
    assert len(found) >= N_HOSTILE
    return found


async def test_a_model_names_no_file_but_those_it_was_given() -> None:
    blocks = [block(path.replace("\0", "\\0"), ["one"], ["evil"]) for path in hostile_paths()]
    world = World([*blocks, block("a.py", ["two"], ["2"])])
    world.editor.put("file:///w/b.py", "one\n")
    world.editor.put("file:///outside/secret.py", "one\n")
    before = {uri: text for uri, text in world.editor.texts.items() if uri != URI}
    told = await world.run()
    assert {uri: text for uri, text in world.editor.texts.items() if uri != URI} == before
    # `file:a.py` and `/home/me/a.py` are ways in which models write `a.py`, which they may change.
    assert world.text == "evil\n2\nthree\n"
    assert told["n_applied"] == 2
    reasons = [one["reason"] for one in told["rejected"]]
    # The others are such spellings, or no names of files at all, and the same block again.
    assert reasons.count("unknown_file") >= 350
    assert set(reasons) <= {"unknown_file", "overlap"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A workspace with links that lead out of it, beside what must not be reached."""
    folder = tmp_path / "ws"
    (folder / "sub").mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    (tmp_path / "ws-other").mkdir()
    for path in (folder / "a.py", tmp_path / "outside" / "secret.py", tmp_path / "ws-other" / "a.py"):
        path.write_text("one\n")
    (folder / "link").symlink_to("../outside")
    (folder / "secret.py").symlink_to("../outside/secret.py")
    (folder / "loop").symlink_to("loop")
    (folder / "inner").symlink_to("sub")
    (folder / "sub" / "a.py").symlink_to("../a.py")
    return folder


def uris(folder: Path) -> Iterator[str]:
    base = folder.as_uri()
    for path in [
        *hostile_paths(),
        "secret.py",
        "link/secret.py",
        "../ws-other/a.py",
        "sub/../../ws-other/a.py",
    ]:
        encoded = path.encode("utf-8", "surrogatepass")
        yield f"{base}/{path}"
        yield f"{base}/{quote(encoded)}"
        yield f"{base}/{quote(encoded, safe='')}"
        yield path


def test_no_uri_leads_out_of_the_workspace(folder: Path) -> None:
    workspace = Workspace()
    workspace.folders = [folder]
    real = os.path.realpath(folder)
    n_outside = n_inside = 0
    for uri in uris(folder):
        if urlsplit(uri).scheme.lower() != "file" or "\0" in unquote(uri):
            continue
        there = os.path.realpath(unquote(urlsplit(uri).path))
        if workspace.resolve(uri).is_inside:
            n_inside += 1
            assert os.path.commonpath([real, there]) == real, uri
        else:
            n_outside += 1
    assert n_outside >= 400
    assert n_outside + n_inside >= 2 * N_HOSTILE  # a name may be strange and lie inside all the same
    for inside in ("a.py", "sub/a.py", "inner/a.py", "new.py", "sub/../a.py"):
        assert workspace.resolve(f"{folder.as_uri()}/{inside}").is_inside, inside


@pytest.mark.parametrize("path", ["secret.py", "link/secret.py", "../outside/secret.py", "../ws-other/a.py"])
@pytest.mark.parametrize("scheme", ["file:", "FILE:"])
async def test_what_lies_outside_is_no_target_and_no_further_file(
    folder: Path, path: str, scheme: str
) -> None:
    world = World([])
    world.workspace.folders = [folder]
    inside = (folder / "a.py").as_uri()
    world.editor.open(inside, "one\n")
    uri = scheme + f"{folder.as_uri()}/{path}".removeprefix("file:")
    world.editor.open(uri, "one\n")  # though the editor has it open
    for edited, files in ((uri, ()), (inside, (uri,))):
        with pytest.raises(UserError, match="outside the workspace folders"):
            world.start(uri=edited, files=files)
    world.parts.configure(Settings(target=SETTINGS.target, allow_outside_workspace=True))
    await world.editor.until(world.start(uri=uri), "starting")
    await world.parts.aclose()


async def test_a_link_that_appears_while_the_model_writes_is_not_followed(folder: Path) -> None:
    path = folder / "c.py"
    path.write_text("one\n")

    def swap() -> None:
        path.unlink()
        path.symlink_to("../outside/secret.py")  # with the same text

    world = World([block("c.py", ["one"], ["evil"]), swap])
    world.workspace.folders = [folder]
    edited = (folder / "a.py").as_uri()
    world.editor.open(edited, "one\n")
    world.editor.put(path.as_uri(), "one\n")
    told = await world.run(uri=edited, files=(path.as_uri(),))
    assert world.editor.applied == []
    assert [(one["reason"], one["new"]) for one in told["rejected"]] == [("stale", ["evil"])]
    assert "link" in told["rejected"][0]["message"]


class Saving(FakeEditor):
    """Writes an edit of a closed file to the disk, wherever its path leads at that moment."""

    n_written = 0

    async def apply(self, edits: Any, label: str, description: str, *, confirm: bool = False) -> Any:
        result = await super().apply(edits, label, description, confirm=confirm)
        for uri, version in edits:
            if version is None and result.applied:
                path_from_uri(uri).write_text(self.texts[uri])  # type: ignore[union-attr]
                self.n_written += 1
        return result


async def test_swaps_of_a_link_while_edits_are_under_way(folder: Path) -> None:
    """Ten in each job, at random moments: between the request, the blocks and the delivery. Whenever an edit
    is sent, it is to a file inside."""
    path, secret = folder / "c.py", folder.parent / "outside" / "secret.py"
    text = "".join(f"line {n}\n" for n in range(12))
    secret.write_text(text)
    chance = random.Random(1)
    n_swaps = n_written = n_refused = 0

    def swap() -> None:
        nonlocal n_swaps
        n_swaps += 1
        was_link = path.is_symlink()
        path.unlink()
        if was_link:
            path.write_text(text)
        else:
            path.symlink_to("../outside/secret.py")

    for _ in range(int(os.environ.get("SINGLEPASS_EXAMPLES", "100"))):
        path.unlink(missing_ok=True)
        path.write_text(text)
        steps: list[Any] = [swap] * 10
        for n in sorted(chance.sample(range(12), 3), reverse=True):
            steps.insert(chance.randrange(len(steps) + 1), block("c.py", [f"line {n}"], [f"evil {n}"]))
        world = World(steps, kind=Saving)
        world.workspace.folders = [folder]
        edited = (folder / "a.py").as_uri()
        world.editor.open(edited, "one\n")
        world.editor.put(path.as_uri(), text)
        if chance.random() < 0.5:
            swap()
        try:
            told = await world.run(uri=edited, files=(path.as_uri(),))
        except UserError:  # it led out before anything was asked
            n_refused += 1
            continue
        assert isinstance(world.editor, Saving)
        assert world.editor.n_written == (told["n_applied"] > 0)
        n_written += world.editor.n_written
        n_refused += any(one["reason"] == "stale" for one in told["rejected"])
        assert secret.read_text() == text
    assert n_written > 0 < n_refused
    assert n_swaps >= 5 * (n_written + n_refused)


# Prewarm: what an edit would not send, nothing sends.

REMOTE = Target(backend="openai_compatible", url="https://api.example.com/v1", model="big")
OUTSIDE = [
    "secret.py",
    "link/secret.py",
    "../outside/secret.py",
    "../ws-other/a.py",
    "inner/../../ws-other/a.py",
]


async def settle(world: World) -> None:
    """Wait for the prewarm that was asked for last, if any was."""
    if world.parts.prewarm.newest is not None:
        await world.parts.prewarm.newest.ended.wait()


def ahead(world: World) -> str:
    """All that was prewarmed, with what drafts were taken from."""
    texts = [segment.text for segments in world.engine.prewarmed for segment in segments]
    return "".join([*texts, *(text for texts in world.engine.corpora for text in texts)])


def world_of(folder: Path, target: Target, **settings: Any) -> World:
    listed = (str(folder),)
    world = World(settings=Settings(target=target, **{"remote_workspaces": listed, **settings}))
    world.workspace.folders = [folder]
    return world


@pytest.mark.parametrize("target", [REMOTE, SETTINGS.target], ids=["remote", "local"])
@pytest.mark.parametrize("path", OUTSIDE)
async def test_what_may_not_be_edited_is_not_prewarmed(folder: Path, path: str, target: Target) -> None:
    world = world_of(folder, target)
    uri = f"{folder.as_uri()}/{path}"
    world.editor.open(uri, "the secret\n")
    document = world.documents.get(uri)
    assert document is not None
    for listener in (*world.documents.on_opened, *world.documents.on_changed):
        listener(document)
        await settle(world)
    world.parts.prewarm.document(uri, 0)
    await settle(world)
    # Nor where the question comes another way.
    world.parts.prewarm.soon(uri, 0)
    await settle(world)
    attachment = world.parts.targets.attachment(DEFAULT)
    for asked in (world.parts.contexts.show(uri), world.parts.contexts.plan(uri, attachment)):
        with pytest.raises(UserError, match="outside the workspace folders"):
            await asked
    assert world.engine.prewarmed == []
    assert world.engine.n_inspected == 0
    await world.parts.aclose()


async def test_what_has_no_file_goes_to_no_remote_target_that_is_for_some_folders(folder: Path) -> None:
    uri = "untitled:Untitled-1"
    world = world_of(folder, REMOTE)
    world.editor.open(uri, "the secret\n")
    world.parts.prewarm.document(uri, 0)
    await settle(world)
    with pytest.raises(UserError, match=r"api\.example\.com.*remote_workspaces"):
        world.start(uri=uri)
    inside = (folder / "a.py").as_uri()
    world.editor.open(inside, "one\n")
    with pytest.raises(UserError, match=r"api\.example\.com.*remote_workspaces"):
        world.start(uri=inside, files=(uri,))
    shown = await world.parts.contexts.show(uri)
    assert not shown["target"]["allowed"]
    assert (world.engine.prewarmed, world.engine.n_inspected) == ([], 0)
    # It is no neighbour either, of what may be sent.
    world.parts.prewarm.document(inside, 0)
    await settle(world)
    assert "one\n" in ahead(world)
    assert "secret" not in ahead(world)
    # Where all may be sent, or nothing leaves the machine, it is like any other document.
    for settings in (Settings(target=REMOTE, remote_workspaces=("*",)), SETTINGS):
        world = World(settings=settings)
        world.editor.open(uri, "the secret\n")
        world.parts.prewarm.document(uri, 0)
        await settle(world)
        assert "the secret" in ahead(world)


async def test_a_target_on_this_machine_serves_what_may_not_leave_it(folder: Path) -> None:
    world = world_of(folder, REMOTE, targets={"here": SETTINGS.target})
    uri = "untitled:Untitled-1"
    world.editor.open(uri, "the secret\n")
    assert world.parts.targets.to_prewarm() == "default"
    world.parts.prewarm.document(uri, 0)
    await settle(world)
    assert world.parts.prewarm.target == "here"
    assert [target for target, _ in world.engines] == [SETTINGS.target]
    assert "the secret" in ahead(world)


async def test_a_file_that_only_may_be_edited_leaves_this_machine_only_from_a_listed_folder(
    folder: Path,
) -> None:
    outside = (folder.parent / "outside" / "secret.py").as_uri()
    for listed, is_sent in (((str(folder),), False), ((str(folder), str(folder.parent / "outside")), True)):
        for uri in (outside, (folder / "secret.py").as_uri()):
            world = world_of(folder, REMOTE, allow_outside_workspace=True, remote_workspaces=listed)
            world.editor.open(uri, "the secret\n")
            world.parts.prewarm.document(uri, 0)
            await settle(world)
            assert ("the secret" in ahead(world)) == is_sent
            if is_sent:
                assert world.start(uri=uri)
            else:
                with pytest.raises(UserError, match="remote_workspaces"):
                    world.start(uri=uri)
            await world.parts.aclose()


@pytest.mark.parametrize("target", [REMOTE, SETTINGS.target], ids=["remote", "local"])
async def test_nothing_beside_the_document_comes_from_elsewhere(folder: Path, target: Target) -> None:
    """Open documents, files that the indexer knew before a link was swapped, what drafts are taken from."""
    world = world_of(folder, target, max_neighbours=20)
    (folder / "near.py").write_text("near\n")
    (folder / "config.py").symlink_to(".env")
    (folder / ".env").write_text("the secret\n")
    swapped = [folder / name for name in ("secret.py", "link/secret.py", "config.py", ".env", "near.py")]
    (folder.parent / "outside" / "secret.py").write_text("the secret\n")
    inside = folder / "a.py"
    world.parts.repository._near[str(inside)] = tuple(map(str, swapped))
    for path in (*OUTSIDE, "config.py", "sub/.env"):
        world.editor.open(f"{folder.as_uri()}/{path}", "the secret\n")
    world.editor.open(inside.as_uri(), "one\n")
    world.parts.prewarm.document(inside.as_uri(), 0)
    await settle(world)
    assert "one\n" in ahead(world)
    assert "near\n" in ahead(world)
    assert "the secret" not in ahead(world)


async def test_what_was_prewarmed_before_is_not_once_it_is_ignored_or_its_folder_is_gone(
    folder: Path,
) -> None:
    inside = (folder / "a.py").as_uri()
    for change in ("ignored", "gone", "not allowed"):
        world = world_of(folder, REMOTE)
        world.editor.open(inside, "one\n")
        world.parts.prewarm.document(inside, 0)
        await settle(world)
        assert len(world.engine.prewarmed) == 1
        world.editor.type(inside, Edit(0, 0, "new "))
        if change == "ignored":
            world.parts.configure(Settings(target=REMOTE, remote_workspaces=(str(folder),), ignore=("a.py",)))
        elif change == "gone":
            world.workspace.folders = [folder / "sub"]
        else:
            world.parts.configure(Settings(target=REMOTE))
        world.parts.prewarm.again(0)
        await settle(world)
        assert len(world.engine.prewarmed) == 1


# Credentials.


@pytest.mark.parametrize("ignore", [(), ("!.env",), ("!*",), ("!*\n!/**",), ("*", "!*")])
def test_no_pattern_brings_credentials_back(folder: Path, ignore: tuple[str, ...]) -> None:
    workspace = Workspace()
    workspace.folders = [folder]
    (folder / ".env").write_text("x\n")
    (folder / "config.py").symlink_to(".env")
    (folder / "secrets").mkdir()
    (folder / "conf").symlink_to("secrets")
    for path in (".env", ".ENV", "sub/id_ecdsa", "config.py", "conf/db.py", "secrets/db.py", "sub/../.env"):
        assert workspace.resolve(f"{folder.as_uri()}/{path}").is_hidden(ignore), path
    # Also where no folder is open, and in what has no file.
    workspace.folders = []
    for uri in (
        (folder / ".env").as_uri(),
        (folder / "config.py").as_uri(),
        "file:///home/me/.aws/x",
        "untitled:.env",
    ):
        assert workspace.resolve(uri).is_hidden(ignore), uri


def test_a_link_to_what_the_settings_ignore_is_ignored(folder: Path) -> None:
    workspace = Workspace()
    workspace.folders = [folder]
    (folder / "gen").mkdir()
    (folder / "own.py").symlink_to("gen/b.py")
    assert workspace.resolve((folder / "own.py").as_uri()).is_hidden(("gen/",))
    assert not workspace.resolve((folder / "own.py").as_uri()).is_hidden(())
    assert not workspace.resolve((folder / "inner" / "a.py").as_uri()).is_hidden(("gen/",))


# Protected files.

CI = "file:///w/.github/workflows/ci.yml"
CI_EDIT = block(".github/workflows/ci.yml", ["run: test"], ["run: evil"])


async def test_a_protected_file_is_asked_about_apart_from_all_others() -> None:
    world = World([block("a.py", ["one"], ["1"]), CI_EDIT, block(".github/workflows/ci.yml", ["b"], ["B"])])
    world.editor.open(CI, "run: test\na\nb\n", "yaml")
    told = await world.run(files=(CI,))
    assert told["n_applied"] == 3
    assert world.editor.texts[CI] == "run: evil\na\nB\n"
    (_, first, ordinary), (_, second, asked) = world.editor.applied
    assert (ordinary, asked) == (False, True)
    assert "a.py" in first
    expected = "2 lines of .github/workflows/ci.yml become 2; the file is a definition of what CI"
    assert second == f"{expected} or a commit hook runs"


class Careful(FakeEditor):
    """Its user agrees to nothing that asks."""

    async def apply(self, edits: Any, label: str, description: str, *, confirm: bool = False) -> Any:
        self.refuses: Callable[[Any], str] = lambda _: "it was not confirmed" if confirm else ""
        return await super().apply(edits, label, description, confirm=confirm)


@pytest.mark.parametrize("review", ["stream", "confirm"])
async def test_what_is_not_confirmed_is_not_written(review: Any) -> None:
    settings = Settings(target=SETTINGS.target, review=review)
    world = World([CI_EDIT], kind=Careful, settings=settings)
    world.editor.open(CI, "run: test\n", "yaml")
    told = await world.run(uri=CI)
    assert world.editor.texts[CI] == "run: test\n"
    assert [(one["reason"], one["new"]) for one in told["rejected"]] == [("refused", ["run: evil"])]


@pytest.mark.parametrize("settings", [SETTINGS, Settings(target=SETTINGS.target, review="confirm")])
async def test_an_editor_that_cannot_ask_at_the_edit_is_refused(settings: Settings) -> None:
    world = World([CI_EDIT], settings=settings)
    world.editor.open(CI, "run: test\n", "yaml")
    announced = lsp.ClientCapabilities(
        workspace=lsp.WorkspaceClientCapabilities(
            apply_edit=True, workspace_edit=lsp.WorkspaceEditClientCapabilities(document_changes=True)
        )
    )
    world.editor.capabilities = Capabilities(announced)
    expected = r"\.github/workflows/ci\.yml is a definition of what CI .* change annotations"
    for fields in ({"uri": CI}, {"files": (CI,)}):
        with pytest.raises(UserError, match=expected):
            world.start(**fields)
    assert world.editor.applied == []


async def test_a_link_to_a_protected_file_is_protected(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "config").write_text("[core]\n")
    (tmp_path / "notes.txt").symlink_to(".git/config")
    (tmp_path / "plain.txt").write_text("x\n")
    workspace = Workspace()
    workspace.folders = [tmp_path]
    assert workspace.resolve((tmp_path / "notes.txt").as_uri()).protection
    assert not workspace.resolve((tmp_path / "plain.txt").as_uri()).protection
    # What lies above the workspace's own folder is no business of its files.
    workspace.folders = [tmp_path / ".git"]
    assert not workspace.resolve((tmp_path / ".git" / "x.py").as_uri()).protection


@pytest.mark.parametrize(
    ("protected", "code", "written"), [(False, 1, ["a.py"]), (True, 0, ["a.py", "ci.yml"])]
)
def test_the_command_line_writes_a_protected_file_when_told_so(
    tmp_path: Path, protected: bool, code: int, written: list[str]
) -> None:
    paths = [tmp_path / "a.py", tmp_path / ".github" / "workflows" / "ci.yml"]
    files: list[OpenFile] = []
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("old\n")
        files.append(OpenFile(path.as_uri(), path, "old\n"))
        files[-1].text = "new\n"
    result = Result({"outcome": "done", "message": ""}, files, [])
    out = io.StringIO()
    console = Console(file=out, width=200)
    assert report(result, console, tmp_path, True, Output.LIVE, protected) == code
    assert [path.name for path in paths if path.read_text() == "new\n"] == written
    assert ("--protected writes it too" in out.getvalue()) == (not protected)
    assert "+new" in out.getvalue()


# What is shown.


async def test_new_characters_that_nobody_sees_are_reported() -> None:
    """As in source that reads otherwise than it runs (CVE-2021-42574)."""
    evil = "if level != 'user\u202e \u2066# admin\u2069 \u2066':"
    world = World([block("a.py", ["two"], [evil]), block("a.py", ["three"], ["drei"])])
    told = await world.run()
    assert world.text == f"one\n{evil}\ndrei\n"  # flagged, not changed
    assert told["unseen"] == [{"uri": URI, "characters": ["U+202E", "U+2066", "U+2069"]}]
    assert "U+202E, U+2066, U+2069" in told["message"]
    assert any("U+202E" in message for message in world.editor.said("warning"))
    (_, _, found) = world.editor.told("publish")[-1]
    (flagged,) = [one for one in found if one.code == "unseen_characters"]
    assert flagged.severity is lsp.DiagnosticSeverity.Warning
    assert flagged.range.start.line == 1


async def test_characters_that_were_there_before_are_not_reported() -> None:
    world = World([block("a.py", ["a\u200bb"], ["a\u200bc"])], text="a\u200bb\n")
    told = await world.run()
    assert told["n_applied"] == 1
    assert told["unseen"] == []
    assert "cannot be seen" not in told["message"]


class Sink:
    """Stands for pygls: keeps what would be sent."""

    def __init__(self) -> None:
        self.sent: list[Any] = []

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *values: self.sent.append(values)


HOSTILE = "[Fix](command:workbench.action.x)![x](http://h/i.png)\x1b[2J\u202e<img/src=x>.py"


async def test_nothing_that_is_shown_has_links_pictures_or_escapes() -> None:
    sink = Sink()
    editor = Editor(sink)  # type: ignore[arg-type]
    editor.say("warning", HOSTILE)
    editor.log(HOSTILE)
    nowhere = lsp.Range(lsp.Position(0, 0), lsp.Position(0, 0))
    editor.publish(URI, 1, [lsp.Diagnostic(nowhere, HOSTILE)])
    messages = [str(one) for one in sink.sent]
    assert len(messages) == 3
    for message in messages:
        assert "Fix" in message
        for bad in ("](", "command:w", "\x1b", "\u202e", "<img"):
            assert bad not in message
            assert repr(bad)[1:-1] not in message


async def test_a_hostile_path_and_a_hostile_error_reach_nobody_as_they_are() -> None:
    world = World([block(HOSTILE, ["one"], ["1"])])
    told = await world.run()
    assert world.text == TEXT
    (rejected,) = told["rejected"]
    for shown in (told["message"], rejected["message"], rejected["path"]):
        for bad in ("](", "command:w", "\x1b", "\u202e", "<img"):
            assert bad not in shown
