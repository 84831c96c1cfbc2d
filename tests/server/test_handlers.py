"""What the editor asks and what it is answered: code actions, commands, settings, documents."""

import asyncio
import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest
from core import test_inert
from lsprotocol import types as lsp
from pygls.exceptions import JsonRpcException
from server.fakes import FakeEditor
from singlepass.cli.headless import headless_capabilities
from singlepass.config import Settings
from singlepass.core.actions import BUILTIN_ACTIONS, Action
from singlepass.editor.documents import Documents, Held
from singlepass.editor.positions import Capabilities, converter
from singlepass.editor.tasks import Owner
from singlepass.editor.workspace import UserError
from singlepass.jobs.outcome import JobRequest
from singlepass.lsp.commands import Commands
from singlepass.lsp.handlers import Handlers
from singlepass.lsp.menu import Menu
from singlepass.lsp.parts import Parts
from singlepass.stats.history_file import write
from singlepass.stats.record import Record
from singlepass_backends.base import Target

pytestmark = pytest.mark.anyio

URI = "file:///w/a.py"
TEXT = "one\ntwo\n# AI: sort it\nfour\n"


@pytest.fixture(autouse=True)
def log_level() -> Iterator[None]:
    """Settings set the level of our logger; it is put back."""
    level = logging.getLogger("singlepass").level
    yield
    logging.getLogger("singlepass").setLevel(level)


class World:
    """Handlers of a server that was never started, with `a.py` open; jobs are noted instead of run."""

    def __init__(self, capabilities: lsp.ClientCapabilities | None = None, **options: Any) -> None:
        documents = Documents()
        self.editor = FakeEditor(documents)
        self.editor.tasks = Owner()
        self.parts = Parts(self.editor, documents)  # type: ignore[arg-type]
        self.handlers, self.commands = Handlers(self.parts), Commands(self.parts)
        self.menu = Menu(self.parts)
        self.handlers.initialize(
            lsp.InitializeParams(
                capabilities=capabilities or headless_capabilities(),
                workspace_folders=[lsp.WorkspaceFolder("file:///w", "w")],
                **options,
            )
        )
        self.requests: list[JobRequest] = []
        self.cancelled: list[int | None] = []
        self.prewarmed: list[str] = []
        self.parts.jobs.looking = self.looking  # type: ignore[method-assign,assignment]
        self.parts.jobs.start = self.start  # type: ignore[method-assign,assignment]
        self.parts.jobs.cancel = self.cancel  # type: ignore[method-assign]
        self.parts.prewarm.document = self._prewarm  # type: ignore[method-assign]
        self.parts.repository._start = lambda: None  # no process for files that are not there
        self.parts.settled.set()
        self.open(URI, "python", TEXT)

    def _prewarm(self, uri: str, pause_s: float | None = None) -> None:
        """Notes what requests for actions ask for; opening and typing give a pause of their own."""
        if pause_s is None:
            self.prewarmed.append(uri)

    def looking(self, request: JobRequest, held: Sequence[Held]) -> Callable[[], JobRequest]:
        assert [one.now.text for one in held] == [one.text for one in self.parts.documents.recent()]
        return lambda: request

    def start(self, request: JobRequest) -> int:
        self.requests.append(request)
        return 7

    def cancel(self, id: int | None = None) -> int:
        self.cancelled.append(id)
        return 2

    def open(self, uri: str, language: str, text: str) -> None:
        item = lsp.TextDocumentItem(uri, language, 1, text)
        self.handlers.did_open(lsp.DidOpenTextDocumentParams(item))

    def actions(self, first: int = 0, end: int = 1, uri: str = URI, **context: Any) -> list[Any]:
        return self.menu.actions(
            lsp.CodeActionParams(
                lsp.TextDocumentIdentifier(uri),
                lsp_range(first, 0, end, 0),
                lsp.CodeActionContext(context.get("diagnostics", []), context.get("only")),
            )
        )


def lsp_range(a: int, b: int, c: int, d: int) -> lsp.Range:
    return lsp.Range(lsp.Position(a, b), lsp.Position(c, d))


def json_range(first: int, end: int, *characters: int) -> dict[str, Any]:
    start, stop = characters or (0, 0)
    return {"start": {"line": first, "character": start}, "end": {"line": end, "character": stop}}


BUILTIN = [action.title for action in BUILTIN_ACTIONS]
NO_LITERALS = lsp.ClientCapabilities(
    text_document=lsp.TextDocumentClientCapabilities(code_action=lsp.CodeActionClientCapabilities())
)
LITERALS = lsp.ClientCapabilities(
    text_document=lsp.TextDocumentClientCapabilities(
        code_action=lsp.CodeActionClientCapabilities(
            code_action_literal_support=lsp.ClientCodeActionLiteralOptions(
                lsp.ClientCodeActionKindOptions([])
            )
        )
    )
)


async def test_actions_carry_the_command_and_prewarm() -> None:
    world = World()
    world.parts.settings = Settings(actions=(Action("Mine", "Do mine."),))
    found = world.actions(0, 1)
    assert [one.title for one in found] == ["Do: sort it", "Mine", *BUILTIN]
    assert world.prewarmed == [URI]
    mine = found[1]
    assert (mine.kind, mine.tags, mine.edit) == ("refactor.rewrite", [lsp.CodeActionTag.LlmGenerated], None)
    assert mine.command.command == "singlepass.edit"
    (arguments,) = mine.command.arguments
    expected = {"uri": URI, "range": json_range(0, 1), "instruction": "Do mine.", "title": "Mine"}
    assert arguments == {**expected, "kind": "refactor.rewrite"}
    # What is offered is what the command takes.
    for one in found:
        assert await world.commands.edit(*one.command.arguments) == {"job": 7}
    assert [request.instruction for request in world.requests][:2] == ["sort it", "Do mine."]
    assert world.requests[0].comment is not None


@pytest.mark.parametrize(
    ("capabilities", "kind", "tags"),
    [(NO_LITERALS, lsp.Command, None), (LITERALS, lsp.CodeAction, None)],
    ids=["commands", "literals without tags"],
)
async def test_actions_in_the_form_the_client_takes(
    capabilities: lsp.ClientCapabilities, kind: type, tags: None
) -> None:
    for one in World(capabilities).actions():
        assert type(one) is kind
        assert getattr(one, "tags", None) is tags
        command = one if isinstance(one, lsp.Command) else one.command
        assert command.command == "singlepass.edit"


@pytest.mark.parametrize(
    ("only", "titles"),
    [
        (None, ["Fix: bad", "Do: sort it", *BUILTIN]),
        ([], ["Fix: bad", "Do: sort it", *BUILTIN]),
        ([""], ["Fix: bad", "Do: sort it", *BUILTIN]),
        (["quickfix"], ["Fix: bad"]),
        ([lsp.CodeActionKind.RefactorExtract], ["Extract function"]),
        (["refactor"], ["Do: sort it", *BUILTIN]),
        (["refactor.rewrite"], ["Do: sort it", *(t for t in BUILTIN if t != "Extract function")]),
        (["refactor.re", "source"], []),
        (["source", "quickfix"], ["Fix: bad"]),
    ],
)
async def test_only_the_kinds_that_were_asked_for(only: list[str] | None, titles: list[str]) -> None:
    diagnostics = [lsp.Diagnostic(lsp_range(1, 0, 1, 3), "bad", source="pyright")]
    assert [one.title for one in World().actions(only=only, diagnostics=diagnostics)] == titles


async def test_diagnostics_of_others_become_quick_fixes() -> None:
    ours = lsp.Diagnostic(lsp_range(0, 0, 0, 1), "1.2 s: prefill", source="singlepass")
    theirs = lsp.Diagnostic(lsp_range(1, 1, 1, 3), "undefined\n  name " + "x" * 99, source="pyright")
    unknown = lsp.Diagnostic(lsp_range(0, 0, 1, 0), "bad")
    fixes = World().actions(diagnostics=[ours, theirs, unknown], only=["quickfix"])
    assert [one.diagnostics for one in fixes] == [[theirs], [unknown]]
    (arguments,) = fixes[0].command.arguments
    assert fixes[0].title == f"Fix: undefined name {'x' * 54}…"
    assert arguments["diagnostics"] == [f"line 2: {theirs.message}"]
    assert theirs.message in arguments["instruction"]
    assert arguments["range"] == json_range(1, 2)
    assert fixes[1].command.arguments[0]["range"] == json_range(0, 1)


@pytest.mark.parametrize("text", test_inert.HOSTILE)
async def test_titles_of_the_menu_do_nothing_whoever_wrote_them(text: str, tmp_path: Path) -> None:
    """A repository's actions, the comments in its files, and diagnostics about them; also in a job."""
    written = json.dumps(text, ensure_ascii=False)  # a string of TOML, too
    (tmp_path / ".singlepass.toml").write_text(
        f"[[actions]]\ntitle = {written}\ninstruction = 'do'\n", encoding="utf-8"
    )
    world = World()
    world.handlers.workspace.folders = [tmp_path]
    world.handlers._configure()
    uri = (tmp_path / "a.py").as_uri()
    world.open(uri, "python", f"# AI: {' '.join(text.split())}\n")
    found = world.actions(uri=uri, diagnostics=[lsp.Diagnostic(lsp_range(0, 0, 0, 1), text)])
    titles = [one.title for one in found]
    assert titles[0].startswith("Fix: ")
    assert titles[1].startswith("Do: ")
    assert titles[3:] == BUILTIN
    for one in found:
        (arguments,) = one.command.arguments
        await world.commands.edit(arguments)
        await world.commands.edit({**arguments, "title": text})
        await world.commands.edit({**arguments, "title": "", "instruction": text})
        for title in (one.title, one.command.title, arguments["title"]):
            test_inert.check(title)
            assert "\n" not in title
    assert len(world.requests) == 3 * len(found)
    for request in world.requests:
        test_inert.check(request.title)
    # What is asked of the model stays as it was written.
    assert world.requests[2].instruction == text


async def test_a_refusal_does_nothing_whatever_it_names() -> None:
    world = World()

    def refuse(request: JobRequest) -> int:
        raise UserError(f"{request.uri} is outside.")

    world.parts.jobs.start = refuse  # type: ignore[method-assign]
    for text in test_inert.HOSTILE:
        with pytest.raises(JsonRpcException) as raised:
            await world.commands.edit(f"file:///{text}", json_range(0, 0), "Do it.")
        test_inert.check(raised.value.message)
        assert "is outside" in raised.value.message


async def test_a_problem_without_a_plain_message_has_a_title_too() -> None:
    markup = {"kind": "markdown", "value": "**error**: `name` is [not defined](https://a/b)\n\nmore"}
    given = {
        "textDocument": {"uri": URI},
        "range": json_range(0, 1),
        "context": {
            "diagnostics": [
                {"range": json_range(0, 0, 0, 1), "message": markup, "source": "checker"},
                {"range": json_range(1, 1, 0, 1), "message": {"kind": "plaintext", "value": " a *star* "}},
                {"range": json_range(1, 1, 0, 1), "message": "", "source": "ruff", "code": "F401"},
                {"range": json_range(2, 2, 0, 1), "message": " \n", "code": 7},
                {"range": json_range(3, 3, 0, 1), "message": None},
            ],
            "only": ["quickfix"],
        },
    }
    structure, unstructure = converter().structure, converter().unstructure
    found = World().menu.actions(structure(given, lsp.CodeActionParams))
    assert [one.title for one in found] == [
        "Fix: error: name is not defined more",
        "Fix: a *star*",
        "Fix: ruff F401",
        "Fix: 7",
        "Fix: the problem on line 4",
    ]
    for one in found:
        assert one.command is not None
        assert isinstance(one.command, lsp.Command)
        (arguments,) = one.command.arguments or ()
        what = arguments["diagnostics"][0].partition(": ")[2]
        assert what
        assert what in arguments["instruction"]
    # The editor knows its diagnostic again.
    given_back = json.loads(json.dumps(unstructure(found[0]), default=unstructure))
    assert given_back["diagnostics"][0]["message"] == markup


async def test_a_comment_is_selected_only_where_nothing_else_is() -> None:
    world = World()
    for first, end, selected in ((1, 1, (2, 3)), (0, 2, (0, 2))):
        (arguments,) = world.actions(first, end)[0].command.arguments
        assert (arguments["comment"], arguments["range"]) == (2, json_range(*selected))


async def test_no_actions_for_what_is_not_open() -> None:
    world = World()
    assert world.actions(uri="file:///w/closed.py") == []
    assert world.prewarmed == []


async def test_languages_choose_actions() -> None:
    world = World()
    world.open("file:///w/a.go", "go", "x\n")
    assert "Add type annotations" not in [one.title for one in world.actions(uri="file:///w/a.go")]


# Commands.


@pytest.mark.parametrize(
    ("asked", "lines"),
    [
        (json_range(0, 0), (0, 0)),
        (json_range(1, 1, 2, 2), (1, 1)),
        (json_range(0, 1), (0, 1)),
        (json_range(0, 1, 2, 1), (0, 2)),
        (json_range(0, 0, 0, 2), (0, 1)),
        (json_range(2, 0), (0, 2)),
        (json_range(0, 99), (0, 99)),
        (json_range(4, 4), (4, 4)),
    ],
)
async def test_edit_by_position_and_by_name(asked: dict[str, Any], lines: tuple[int, int]) -> None:
    world = World()
    await world.commands.edit(URI, asked, "  Do\nit. ")
    await world.commands.edit({"uri": URI, "range": asked, "instruction": "  Do\nit. "})
    one, two = world.requests
    assert one == two == JobRequest(URI, "Do it.", "  Do\nit. ", *lines)


async def test_edit_with_everything() -> None:
    world = World()
    await world.commands.edit(
        {
            "uri": URI,
            "range": json_range(0, 1),
            "instruction": "Do.",
            "title": "Title",
            "diagnostics": ["line 1: bad"],
            "comment": 2,
            "files": ["file:///w/b.py"],
        }
    )
    (request,) = world.requests
    assert (request.title, request.diagnostics, request.files) == (
        "Title",
        ("line 1: bad",),
        ("file:///w/b.py",),
    )
    assert request.comment is not None
    assert (request.comment.start, request.comment.end) == (2, 3)


GOOD = {"uri": URI, "range": json_range(0, 1), "instruction": "Do."}


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ([], "`uri`"),
        ([URI], "got `str`"),
        ([URI, json_range(0, 1)], "`instruction`"),
        ([5, json_range(0, 1), "Do."], "$.uri"),
        ([URI, json_range(0, 1), None], "$.instruction"),
        ([URI, None, "Do."], "not a range: None"),
        ([URI, "all", "Do."], "not a range: 'all'"),
        ([URI, json_range(-1, 1), "Do."], "not a range"),
        ([URI, {"start": 1, "end": 2}, "Do."], "not a range"),
        ([URI, json_range(0, 1), "Do.", "more"], "4 arguments"),
        ([{**GOOD, "instructions": "x"}], "`instructions`"),
        ([{**GOOD, "files": "x"}], "$.files"),
        ([{**GOOD, "comment": "x"}], "$.comment"),
        ([{**GOOD, "diagnostics": [1]}], "$.diagnostics[0]"),
        ([[URI]], "got `array`"),
        ([None], "got `null`"),
        ([URI, json_range(5, 6), "Do."], "starts on line 6, but a.py has only 5"),
        ([URI, json_range(99, 99), "Do."], "starts on line 100"),
    ],
)
async def test_wrong_arguments_are_named(arguments: list[Any], part: str) -> None:
    world = World()
    with pytest.raises(JsonRpcException) as error:
        await world.commands.edit(*arguments)
    assert part in error.value.message
    assert error.value.code == -32803
    assert world.requests == []


async def test_what_jobs_refuse_is_answered() -> None:
    world = World()

    def refuse(request: JobRequest) -> int:
        raise UserError("Not now.")

    world.parts.jobs.start = refuse  # type: ignore[method-assign]
    with pytest.raises(JsonRpcException, match=r"Not now\.") as error:
        await world.commands.edit(GOOD)
    assert error.value.code == -32803


@pytest.mark.parametrize(
    ("uri", "instruction", "part"),
    [
        ("file:///elsewhere/a.py", "Do.", "outside the workspace folders"),
        (URI, " ", "The instruction is empty"),
    ],
)
async def test_requests_that_the_real_jobs_refuse(uri: str, instruction: str, part: str) -> None:
    world = World()
    del world.parts.jobs.start, world.parts.jobs.looking
    with pytest.raises(JsonRpcException, match=part):
        await world.commands.edit(uri, json_range(0, 0), instruction)


async def test_cancel_takes_a_job_or_nothing() -> None:
    world = World()
    assert world.commands.cancel() == {"cancelled": 2}
    assert world.commands.cancel(None) == {"cancelled": 2}
    assert world.commands.cancel(3) == {"cancelled": 2}
    assert world.cancelled == [None, None, 3]
    for wrong in ("3", True, {}, 3.5):
        with pytest.raises(JsonRpcException, match="takes the number of a job"):
            world.commands.cancel(wrong)
    assert len(world.cancelled) == 3


async def test_revert_answers_with_a_message_or_an_error() -> None:
    world = World()
    with pytest.raises(JsonRpcException, match="no edit of singlepass") as error:
        await world.commands.revert()
    assert error.value.code == -32803


# Documents.


async def test_documents_follow_the_editor() -> None:
    world = World()
    document = world.handlers.documents.get(URI)
    assert document is not None
    change = lsp.TextDocumentContentChangePartial(lsp_range(0, 0, 0, 3), "1")
    world.handlers.did_change(
        lsp.DidChangeTextDocumentParams(lsp.VersionedTextDocumentIdentifier(2, URI), [change])
    )
    assert (document.version, document.text) == (2, TEXT.replace("one", "1"))
    unknown = lsp.VersionedTextDocumentIdentifier(2, "file:///w/other.py")
    world.handlers.did_change(lsp.DidChangeTextDocumentParams(unknown, [change]))
    for _ in range(2):
        world.handlers.did_close(lsp.DidCloseTextDocumentParams(lsp.TextDocumentIdentifier(URI)))
    assert not document.is_open
    assert world.handlers.documents.get(URI) is None


async def test_a_change_makes_a_document_the_most_recent() -> None:
    world = World()
    world.open("file:///w/b.py", "python", "x\n")
    change = lsp.TextDocumentContentChangePartial(lsp_range(0, 0, 0, 0), "1")
    world.handlers.did_change(
        lsp.DidChangeTextDocumentParams(lsp.VersionedTextDocumentIdentifier(2, URI), [change])
    )
    assert next(iter(world.handlers.documents.recent())).uri == URI


async def test_workspace_folders_come_and_go() -> None:
    world = World()
    folders = [lsp.WorkspaceFolder(f"file:///{name}", name) for name in ("w", "x", "y")]
    for added, removed, left in (
        (folders[1:], [], ["/w", "/x", "/y"]),
        (folders[1:2], folders[:1], ["/x", "/y"]),
        ([lsp.WorkspaceFolder("vscode-vfs://z", "z")], folders[1:], []),
    ):
        event = lsp.WorkspaceFoldersChangeEvent(added, removed)
        world.handlers.did_change_workspace_folders(lsp.DidChangeWorkspaceFoldersParams(event))
        assert world.handlers.workspace.folders == [Path(path) for path in left]


@pytest.mark.parametrize("root", ["file:///r", None])
async def test_a_root_without_folders_is_the_folder(root: str | None) -> None:
    world = World()
    params = lsp.InitializeParams(capabilities=lsp.ClientCapabilities(), root_uri=root)
    world.handlers.initialize(params)
    assert world.handlers.workspace.folders == ([Path("/r")] if root else [])


# Settings.


async def test_settings_come_from_every_layer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SINGLEPASS_CONFIG_DIR", str(tmp_path / "config"))
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "singlepass.toml").write_text(
        '[target]\nmodel = "m"\nn_ctx = 5\n', encoding="utf-8"
    )
    repository = tmp_path / "repository"
    repository.mkdir()
    (repository / ".singlepass.toml").write_text(
        'ignore = ["x"]\n[target]\nmodel = "evil"\n', encoding="utf-8"
    )
    world = World(initialization_options={"seed": 1, "target": {"n_ctx": 6}, "max_tokens": "x"})
    world.handlers.workspace.folders = [repository]
    world.editor.settings = {"seed": 2, "log_level": "error"}
    await world.handlers.initialized(lsp.InitializedParams())
    expected = Settings(target=Target(model="m", n_ctx=6), seed=2, log_level="error", ignore=("x",))
    assert world.parts.settings == expected
    assert logging.getLogger("singlepass").level == logging.ERROR
    wrong, evil = world.editor.said("warning")
    assert "initializationOptions" in wrong
    assert "`max_tokens`" in wrong
    assert ".singlepass.toml" in evil
    assert "`target` is ignored" in evil
    await world.parts.aclose()


async def test_a_repositorys_file_gets_one_message_whatever_is_in_it(tmp_path: Path) -> None:
    path = tmp_path / ".singlepass.toml"
    path.write_text("ignore = [" + "1, " * 20_000 + "]\nmodel = 'x'\n")
    world = World(initialization_options={"zzz": 1, "yyy": 1})
    world.handlers.workspace.folders = [tmp_path]
    await world.handlers.initialized(lsp.InitializedParams())
    *own, theirs = world.editor.said("warning")
    assert len(own) == 2  # of the user's own settings each problem is told
    assert theirs.startswith(f"singlepass settings: {path}: ")
    assert "only the first 2,000 of 20,000 `ignore` are used" in theirs
    assert "more problems in this file" in theirs
    assert len(theirs) < 1_500
    await world.parts.aclose()


async def test_a_command_waits_for_the_editors_settings() -> None:
    world = World()
    world.parts.settled = anyio.Event()
    answered = asyncio.Event()
    seeds: list[int | None] = []

    async def configuration() -> Mapping[str, Any]:
        await answered.wait()
        return {"seed": 2}

    def start(request: JobRequest) -> int:
        seeds.append(world.parts.settings.seed)
        return 7

    world.editor.configuration = configuration  # type: ignore[method-assign]
    world.parts.jobs.start = start  # type: ignore[method-assign]
    async with asyncio.TaskGroup() as group:
        group.create_task(world.handlers.initialized(lsp.InitializedParams()))
        command = group.create_task(world.commands.edit(GOOD))
        await asyncio.sleep(0.01)
        assert seeds == []
        answered.set()
    assert seeds == [2]
    assert command.result() == {"job": 7}
    await world.parts.aclose()


@pytest.mark.parametrize(
    ("asked", "pushed", "seed"),
    [
        ({"seed": 2}, {"singlepass": {"seed": 3}}, 2),
        (None, {"singlepass": {"seed": 3}}, 3),
        (None, {"other": {}}, 1),
        (None, None, 1),
        (None, {"singlepass": "on"}, 1),
    ],
)
async def test_changed_settings_are_asked_for_or_taken_as_pushed(
    asked: dict[str, Any] | None, pushed: Any, seed: int
) -> None:
    world = World(initialization_options={"seed": 1})
    world.editor.settings = asked
    await world.handlers.did_change_configuration(lsp.DidChangeConfigurationParams(pushed))
    assert world.parts.settings.seed == seed
    assert {name for name, *_ in world.editor.calls} <= {"singlepass/status"}  # that no model is configured


async def test_the_editor_is_asked_to_watch_files() -> None:
    world = World()
    await world.handlers.initialized(lsp.InitializedParams())
    ((sources, *others),) = world.editor.told("watch")
    assert others == ["**/.gitignore", "**/.singlepass.toml"]
    assert {"py", "ts", "rs"} < set(sources.removeprefix("**/*.{").removesuffix("}").split(","))


async def test_settings_that_a_repository_brings_later_are_taken(tmp_path: Path) -> None:
    world = World()
    world.handlers.workspace.folders = [tmp_path]
    await world.handlers.initialized(lsp.InitializedParams())
    file = tmp_path / ".singlepass.toml"
    file.write_text('ignore = ["x"]\n', encoding="utf-8")
    assert world.parts.settings.ignore == ()
    change = lsp.FileEvent(file.as_uri(), lsp.FileChangeType.Created)
    world.handlers.did_change_watched_files(lsp.DidChangeWatchedFilesParams([change]))
    assert world.parts.settings.ignore == ("x",)
    added = tmp_path / "other"
    added.mkdir()
    (added / ".singlepass.toml").write_text('ignore = ["y"]\n', encoding="utf-8")
    event = lsp.WorkspaceFoldersChangeEvent([lsp.WorkspaceFolder(added.as_uri(), "other")], [])
    world.handlers.did_change_workspace_folders(lsp.DidChangeWorkspaceFoldersParams(event))
    assert world.parts.settings.ignore == ("x", "y")


async def test_capabilities_are_read_when_the_editor_says_hello() -> None:
    rich, poor = World().editor.capabilities, World(NO_LITERALS).editor.capabilities
    assert isinstance(rich, Capabilities)
    assert (rich.versioned_edits, poor.versioned_edits) == (True, False)


async def test_stats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SINGLEPASS_STATE_DIR", str(tmp_path))
    commands = World().commands
    assert (await commands.stats())["all"]["n"] == 0
    now = time.time()
    records = [
        Record(id=str(days), day="2026-11-22", at=now - days * 86_400, outcome="done", target="default")
        for days in (1, 5, 50)
    ]
    write(tmp_path / "requests.sqlite3", records)
    assert (await commands.stats(None))["all"]["n"] == 2
    found = await commands.stats({"days": 0, "by": ["target"]})
    assert found["all"]["n"] == 3
    assert [*found["by"]] == ["target"]
    assert found["by"]["target"]["default"]["n"] == 3
    for wrong in ({"days": -1}, {"by": ["moon"]}, {"since": 1}, 7):
        with pytest.raises(JsonRpcException):
            await commands.stats(wrong)
    (tmp_path / "requests.sqlite3").write_bytes(b"no database" * 100)
    with pytest.raises(JsonRpcException, match="cannot be read"):
        await commands.stats()
