"""What stands in the prompt for a document on a target: gathered, made to fit, read ahead, shown.

What is read ahead and what a job asks for come from here, so that the one is exactly the beginning of the
other.
"""

import functools
import itertools
from collections.abc import Callable, Container, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
from singlepass_backends.base import ModelInfo, Segment, SegmentUse

from singlepass.config import DEFAULT, Settings, user_file
from singlepass.core.context import MAP, Context, SourceFile, build_context, shrink
from singlepass.core.edits import Snapshot
from singlepass.core.grammar import UNBOUNDED, Bounds, edit_grammar, marker_size
from singlepass.core.prompt import render_context, render_repository
from singlepass.delivery import Source
from singlepass.documents import Documents
from singlepass.repository import CHARS_PER_TOKEN, Repository
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

    def gather(self, uri: str, files: Sequence[str], name: str) -> tuple[Context, dict[str, Source]]:
        """See the function `gather`, for a target."""
        documents, workspace, repository = self._documents, self._workspace, self._repository
        may_send = functools.partial(self._targets.may_send, name)
        return gather(uri, files, documents, workspace, self.settings, repository, self.n_ctx(name), may_send)

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
        gathered, _ = self.gather(uri, (), name)
        engine = self._targets.client(name)
        context = await self.fit(name, gathered)
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
            return self._show_before_allowed(uri)
        name = self._choose(uri)
        engine = targets.client(name)
        info = await engine.connect()
        if not targets.may_send(name, uri):
            raise UserError(f"`{name}` is not allowed here any more.")
        gathered, _ = self.gather(uri, (), name)
        context = await self.fit(name, gathered)
        # With an empty task, because the tokens that end the template count with the last segment.
        segments = (*render_context(context), Segment("task", ""))
        found = (await engine.inspect(segments, spawn=True) or ())[:-1]
        return {
            "target": self._described(name, is_allowed=True),
            "n_ctx": info.n_ctx,
            "segments": [msgspec.to_builtins(segment) for segment in found],
            "left_out": list(context.left_out),
        }

    def _show_before_allowed(self, uri: str) -> dict[str, Any]:
        """What would be sent to the first target, a remote one; nothing is, so tokens are estimated."""
        name = next(iter(self._targets.by_name))
        documents, workspace, repository = self._documents, self._workspace, self._repository
        context, _ = gather(uri, (), documents, workspace, self.settings, repository, self.n_ctx(name))
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


def gather(
    uri: str,
    files: Sequence[str],
    documents: Documents,
    workspace: Workspace,
    settings: Settings,
    repository: Repository | None = None,
    n_ctx: int = ASSUMED_CONTEXT,
    may_send: Callable[[str], bool] = lambda uri: True,
) -> tuple[Context, dict[str, Source]]:
    """The context for work on one document, and the snapshots it may change, by URI.

    `n_ctx` is the model's context in tokens; `may_send` says of a file whether it may go to the model without
    being asked for. Raises UserError for a file that is not open and cannot be read.
    """
    sources: dict[str, Source] = {}
    paths = {MAP}

    def add(uri: str, *, as_saved: bool = False) -> SourceFile:
        path = _unlike(paths, workspace.name(uri)[0])
        paths.add(path)
        document = documents.get(uri)
        if document is not None:
            now = document.snapshot(), document.revision
            snapshot, revision = document.saved() if as_saved else now
            sources[uri] = Source(path, snapshot, document, revision)
        else:
            sources[uri] = Source(path, Snapshot(uri, None, read_source(uri)), None, 0)
        opened = document.opened if document is not None else None
        return SourceFile(path, sources[uri].snapshot.text, opened=opened)

    target = add(uri)
    neighbours = [add(file) for file in dict.fromkeys(files) if file != uri]
    near = workspace.neighbours(uri, documents, settings.ignore, settings.max_neighbours, may_send)
    neighbours += [add(other.uri, as_saved=True) for other in near if other.uri not in sources]
    if repository is None:
        return build_context(target, neighbours), sources
    map = fitting_map(repository, n_ctx)
    limit = settings.max_neighbours - len(neighbours)
    for path in repository.near(uri):
        other = path.as_uri()
        if limit > 0 and other not in sources and may_send(other) and (text := read_near(path)):
            name = _unlike(paths, workspace.name(other)[0])
            paths.add(name)
            neighbours.append(SourceFile(name, text, editable=False))
            limit -= 1
    budget = int(NEAR_SHARE * n_ctx * CHARS_PER_TOKEN)
    return build_context(target, neighbours, map, budget), sources


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
