"""What stands in the prompt for a document on a target: gathered, made to fit, read ahead, shown.

What is read ahead and what a job asks for come from here, so that the one is exactly the beginning of the
other.
"""

import asyncio
import functools
import itertools
from collections.abc import Callable, Container, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
from singlepass_backends.base import ModelInfo, Segment, SegmentUse

from singlepass.config import DEFAULT, Settings, user_file
from singlepass.core.context import MAP, Context, SourceFile, build_context, shrink
from singlepass.core.edits import Snapshot
from singlepass.core.grammar import UNBOUNDED, Bounds, edit_grammar, marker_size
from singlepass.core.prompt import render_context, render_repository
from singlepass.delivery import EditableFile
from singlepass.documents import Documents, Held
from singlepass.lsp import id_of_uri
from singlepass.repository import CHARS_PER_TOKEN, Repository
from singlepass.same_file import FileId, file_id, is_among, is_same
from singlepass.targets import Targets, is_remote
from singlepass.warming import Ahead
from singlepass.workspace import UserError, Workspace, read_near, read_source

if TYPE_CHECKING:
    from singlepass_backends.client import EngineClient

RANDOM_BOUNDS = Bounds(max_lines=4, max_line_chars=60, max_hunks=3, may_be_empty=False)
"""Random weights never choose to stop, so the grammar stops them."""

WINDOW_LINES = 5_000
"""A grammar holds about 6,000 lines over all files. Of a longer document so many around the selection may be
changed."""
ASSUMED_CONTEXT = 32_768
"""In tokens, until an engine has said what it has."""
MAP_SHARE = 1 / 8
NEAR_SHARE = 1 / 8
"""How much of the context the map and the files beside the open ones may take."""
BESIDE_CHARS = 240_000
"""Of near files that have no place in the prompt, for drafts."""
MIN_REPLY_TOKENS = 512
"""A prompt that leaves less room for its reply counts as too long."""
TASK_TOKENS = 1024
"""Room for a task that has not been asked for yet, before neighbours are left out for it."""

MOST_CHARS_PER_TOKEN = 32
"""A document of more is not read ahead: no model takes it, and finding that out takes an engine minutes."""
MAX_READ_CHARS = 64 * 1024 * 1024
"""Of all files of a request that are not open."""

_MAX_FITTED = 8


class Inspects(Protocol):
    """The part of the engine's client that tells how long a prompt is."""

    async def inspect(
        self, segments: tuple[Segment, ...], *, spawn: bool = False
    ) -> tuple[SegmentUse, ...] | None: ...


class Contexts:
    """The contexts of the editor's documents."""

    def __init__(
        self, documents: Documents, workspace: Workspace, targets: Targets, repository: Repository
    ) -> None:
        self.settings = Settings()
        self.ahead_on = DEFAULT
        """The target that is read ahead on."""
        self.on_other_target: Callable[[], None] = lambda: None
        """Called when that is another one."""
        self._documents = documents
        self._workspace = workspace
        self._targets = targets
        self._repository = repository
        self._fitted: dict[tuple[str, Context], Context] = {}

    def forget(self) -> None:
        """A target is another one than it was."""
        self._fitted.clear()

    def is_allowed(self, uri: str) -> bool:
        """Whether a document may be edited, and so be read ahead: it lies inside the workspace, also when
        links are followed, unless the user allowed others."""
        return self.settings.allow_outside_workspace or self._workspace.is_inside(uri)

    def check(self, *uris: str) -> None:
        """Raise UserError for a document that may not be used."""
        for uri in uris:
            if not self.is_allowed(uri):
                linked = ": a link leads out of them" if self._workspace.name(uri)[1] else ""
                raise UserError(
                    f"{uri} is outside the workspace folders{linked}. Open its folder in the editor, or set "
                    f"`allow_outside_workspace = true` in {user_file()}."
                )

    def _check_ahead(self, uri: str) -> None:
        """Raise UserError for a document that may not be read ahead."""
        self.check(uri)
        if self._workspace.is_hidden(uri, self.settings.ignore):
            raise UserError(f"{uri} is ignored, or holds credentials by its name, so it is not read ahead.")

    def reader(self, uri: str | None) -> "EngineClient":
        """The client to read ahead on for a document. Raises UserError where there is none, and for what
        may not be read ahead there."""
        if uri is not None:
            self._check_ahead(uri)
        return self._targets.client(self._choose(uri))

    def _choose(self, uri: str | None) -> str:
        """The target that is read ahead on from now on. Raises UserError where there is none."""
        document = self._documents.get(uri) if uri is not None else None
        language = document.language if document is not None else ""
        name = self._targets.ahead(language, () if uri is None else (uri,))
        if name != self.ahead_on:
            self.ahead_on = name
            self.on_other_target()
        return name

    def gathering(
        self, uri: str, files: Sequence[str] = (), held: Sequence[Held] | None = None
    ) -> Callable[[], "Gathered"]:
        """See the function `gathering`. `held` is what the documents hold at another moment than now."""
        held = self._documents.held() if held is None else held
        near = self._repository.near(uri)
        return gathering(uri, files, held, self._workspace, self.settings, near)

    def sendable(self, gathered: "Gathered", name: str) -> "Gathered":
        """What was gathered, without the files that may not go to a target unless they are asked for."""
        named = {*gathered.named}
        kept = {uri: one for uri, one in gathered.neighbours.items() if self._targets.may_send(name, uri)}
        sources = {uri: one for uri, one in gathered.sources.items() if uri in named or uri in kept}
        return msgspec.structs.replace(gathered, sources=sources, neighbours=kept)

    def context(self, gathered: "Gathered", name: str) -> Context:
        """What was gathered and may be sent, as it stands in a prompt for a target."""
        return context(gathered, self._repository, self.n_ctx(name))

    def n_ctx(self, name: str) -> int:
        """The context of a target in tokens, as far as that is known."""
        info = self._targets.client(name).info
        return (info.n_ctx if info is not None else self._targets.by_name[name].n_ctx) or ASSUMED_CONTEXT

    async def fit(self, name: str, context: Context) -> Context:
        """See the function `fit`. Remembered, because the engine answers only between two chunks."""
        fitted = self._fitted.pop((name, context), None)
        if fitted is None:
            fitted = await fit(context, self._targets.client(name), self.n_ctx(name))
        self._fitted[name, context] = fitted
        if len(self._fitted) > _MAX_FITTED:
            del self._fitted[next(iter(self._fitted))]
        return fitted

    async def ahead(self, uri: str | None) -> Ahead:
        """What can be read ahead for a document, or for all (None). Raises UserError, BackendError."""
        name = self.ahead_on
        # Connecting took its time: the settings and the folders may be others by now.
        if uri is not None:
            self._check_ahead(uri)
        if not self._targets.may_send(name, *([] if uri is None else [uri])):
            raise UserError(f"Nothing is read ahead on `{name}`: it is not allowed here any more.")
        if uri is None:
            return Ahead(encodable(render_repository(fitting_map(self._repository, self.n_ctx(name)))))
        gathered = await asyncio.to_thread(self.gathering(uri))
        if len(gathered.target.text) > MOST_CHARS_PER_TOKEN * self.n_ctx(name):
            raise UserError(f"{gathered.target.path} is too long for any prompt of {name}.")
        engine = self._targets.client(name)
        context = await self.fit(name, self.context(self.sendable(gathered, name), name))
        return Ahead(
            encodable(render_context(context)),
            lambda: grammar_for(context, engine.info),
            lambda: self.beside(uri, context),
        )

    def beside(self, uri: str, context: Context) -> tuple[str, ...]:
        """Texts of near files that are not in the prompt, which an edit may resemble; read now. They are for
        drafts, which the engine makes on this machine, and are sent to no server."""
        in_prompt = {file.text for file in (context.target, *context.neighbours)}
        found: list[str] = []
        room = BESIDE_CHARS
        for path in self._repository.near(uri):
            text = read_near(path)
            if text and text not in in_prompt and len(text) <= room:
                found.append(text)
                room -= len(text)
        return tuple(found)

    async def show(self, uri: str) -> dict[str, Any]:
        """What an action on this document would have in its prompt: segments with tokens, cached or not.

        Raises UserError: no model, a file that cannot be read; BackendError of the engine.
        """
        targets = self._targets
        self.check(uri)
        if targets.by_name and not any(one.is_allowed for one in targets.candidates(uris=(uri,))):
            return await self._show_before_allowed(uri)
        name = self._choose(uri)
        engine = targets.client(name)
        info = await engine.connect()
        if not targets.may_send(name, uri):
            raise UserError(f"`{name}` is not allowed here any more.")
        gathered = self.sendable(await asyncio.to_thread(self.gathering(uri)), name)
        context = await self.fit(name, self.context(gathered, name))
        # With an empty task, because the tokens that end the template count with the last segment.
        segments = (*render_context(context), Segment("task", ""))
        found = (await engine.inspect(segments, spawn=True) or ())[:-1]
        return {
            "target": self._described(name, is_allowed=True),
            "n_ctx": info.n_ctx,
            "segments": [msgspec.to_builtins(segment) for segment in found],
            "left_out": list(context.left_out),
        }

    async def _show_before_allowed(self, uri: str) -> dict[str, Any]:
        """What would be sent to the first target, a remote one; nothing is, so tokens are estimated."""
        name = next(iter(self._targets.by_name))
        context = self.context(await asyncio.to_thread(self.gathering(uri)), name)
        segments = [
            {"name": one.name, "n_tokens": len(one.text) // CHARS_PER_TOKEN, "n_cached": 0}
            for one in render_context(context)
        ]
        return {
            "target": self._described(name, is_allowed=False),
            "n_ctx": self.n_ctx(name),
            "segments": segments,
            "left_out": list(context.left_out),
        }

    def _described(self, name: str, *, is_allowed: bool) -> dict[str, Any]:
        target = self._targets.by_name[name]
        return {"name": name, "url": target.url, "remote": is_remote(target), "allowed": is_allowed}


class Gathered(msgspec.Struct, frozen=True):
    """The files around a request."""

    sources: dict[str, EditableFile]
    """Those that it may change, by the URI under which they are edited."""
    named: tuple[str, ...]
    """Which of them it names, the target first."""
    target: SourceFile
    neighbours: dict[str, SourceFile]
    """The others that stand beside the target, by URI, those that it names first."""


def gathering(
    uri: str,
    files: Sequence[str],
    held: Sequence[Held],
    workspace: Workspace,
    settings: Settings,
    near: Sequence[Path] = (),
) -> Callable[[], Gathered]:
    """What gathers the files for work on one document: of `held`, what the editor holds of them, the others
    read from the disk, which is not for the event loop. A file that is named in two ways is there once.

    It raises UserError for a file that is not open and cannot be read.
    """

    def gather() -> Gathered:
        found = _Files(workspace)
        by_uri = {one.document.uri: one for one in held}
        named: list[SourceFile] = []
        for given in (uri, *files):
            one = by_uri.get(given)
            file = one.document.file if one is not None else id_of_uri(given)
            one = one or _held_of(file, held)
            if not is_among(file, found.ids):
                named.append(
                    found.read(given, file) if one is None else found.add(one, one.now, one.revision)
                )
        uris = tuple(found.sources)
        target, *others = named
        neighbours = dict(zip(uris[1:], others, strict=True))
        limit = settings.max_neighbours
        for one in workspace.neighbours(held, [*found.ids], settings.ignore, limit):
            if workspace.protection(one.document.uri):  # nobody has asked for an edit of it
                opened = one.document.opened
                shown = found.show(one.document.uri, one.document.file, one.saved.text, opened)
            else:
                shown = found.add(one, one.saved, one.saved_revision)
            neighbours[one.document.uri] = shown
        for path in near:
            if len(neighbours) >= limit:
                break
            file = file_id(path)
            if not is_among(file, found.ids) and (text := read_near(path)):
                neighbours[path.as_uri()] = found.show(path.as_uri(), file, text)
        return Gathered(found.sources, uris, target, neighbours)

    return gather


class _Files:
    """Files as they are found, each with a name of its own."""

    def __init__(self, workspace: Workspace) -> None:
        self.sources: dict[str, EditableFile] = {}
        self.ids: list[FileId] = []
        self._workspace = workspace
        self._paths = {MAP}
        self._n_read = 0

    def add(self, one: Held, snapshot: Snapshot, revision: int) -> SourceFile:
        """One that is open and may be changed."""
        document = one.document
        file = self.show(document.uri, document.file, snapshot.text, document.opened)
        self.sources[document.uri] = EditableFile(file.path, snapshot, document, revision)
        return msgspec.structs.replace(file, editable=True)

    def read(self, uri: str, id: FileId) -> SourceFile:
        """One that is not open and may be changed. Raises UserError."""
        text = read_source(uri)
        self._n_read += len(text)
        if self._n_read > MAX_READ_CHARS:
            raise UserError(f"The files of the request have over {MAX_READ_CHARS:,} characters. Name fewer.")
        file = self.show(uri, id, text)
        self.sources[uri] = EditableFile(file.path, Snapshot(uri, None, text), None, 0)
        return msgspec.structs.replace(file, editable=True)

    def show(self, uri: str, id: FileId, text: str, opened: int | None = None) -> SourceFile:
        """One that is only read by the model."""
        path = _unlike(self._paths, self._workspace.name(uri)[0])
        self._paths.add(path)
        self.ids.append(id)
        return SourceFile(path, text, editable=False, opened=opened)


def _held_of(file: FileId, held: Sequence[Held]) -> Held | None:
    """What the editor holds of a file, under whichever URI; the one used last of several."""
    return next((one for one in held if is_same(one.document.file, file)), None)


def context(
    gathered: Gathered, repository: Repository | None = None, n_ctx: int = ASSUMED_CONTEXT
) -> Context:
    """What was gathered, with the map, for a model with so many tokens of context."""
    if repository is None:
        return build_context(gathered.target, [*gathered.neighbours.values()])
    budget = int(NEAR_SHARE * n_ctx * CHARS_PER_TOKEN)
    neighbours = [*gathered.neighbours.values()]
    return build_context(gathered.target, neighbours, fitting_map(repository, n_ctx), budget)


def fitting_map(repository: Repository, n_ctx: int) -> str:
    """The repository map, unless it is too large for the model, whose context is for files and the task."""
    return repository.map if len(repository.map) <= MAP_SHARE * n_ctx * CHARS_PER_TOKEN else ""


async def fit(context: Context, engine: Inspects, n_ctx: int) -> Context:
    """The context without the neighbours that have no place in the model's beside a task and its reply.

    What is read ahead and what a job asks for go through this, so that both leave out the same: left out only
    at the click, a neighbour would take all that was read after it along. Raises BackendError of the engine.
    """
    room = n_ctx - min(MIN_REPLY_TOKENS + TASK_TOKENS, n_ctx // 4)
    segments = encodable(render_context(context))
    if sum(len(segment.text.encode()) for segment in segments) <= room:
        return context  # a token has at least a byte
    sizes = {use.name: use.n_tokens for use in await engine.inspect(segments) or ()}
    n_excess = sum(sizes.values()) - room
    return (n_excess > 0 and shrink(context, sizes, n_excess)) or context


def grammar_for(
    context: Context, info: ModelInfo | None, first_line: int = 0, end_line: int = 0
) -> str | None:
    """The edit grammar for work on the selected lines; None where the backend cannot constrain."""
    if info is None or not info.constrains:
        return None
    files = context.editable
    middle = (first_line + end_line) // 2
    n_lines = context.target.text.count("\n")
    # Most often the whole document, so that what prewarm built and compiled serves every selection.
    first = 0 if n_lines <= WINDOW_LINES else middle - WINDOW_LINES // 2
    size = marker_size([*files, *files.values()])
    bounds = RANDOM_BOUNDS if info.random_weights else UNBOUNDED
    return _grammar(tuple(files.items()), size, bounds, (context.target.path, first, first + WINDOW_LINES))


def encodable(segments: Sequence[Segment]) -> tuple[Segment, ...]:
    """Segments without lone surrogates, which neither tokenizer nor wire takes."""
    return tuple(
        segment
        if segment.text.isascii()
        else msgspec.structs.replace(segment, text=segment.text.encode("utf-8", "replace").decode("utf-8"))
        for segment in segments
    )


@functools.lru_cache(maxsize=4)
def _grammar(
    files: tuple[tuple[str, str], ...], size: int, bounds: Bounds, window: tuple[str, int, int]
) -> str:
    path, first, end = window
    return edit_grammar(dict(files), size, bounds, {path: (first, end)})


def _unlike(paths: Container[str], path: str) -> str:
    """The path, numbered where another file already has it, so that a hunk means one file."""
    numbered = (f"{path} ({number})" for number in itertools.count(2))
    return next(name for name in itertools.chain([path], numbered) if name not in paths)
