"""What stands in the prompt for a document on a target: gathered, made to fit, prewarmed, shown.

What is prewarmed and what a job asks for come from here, so that the one is exactly the beginning of the
other.
"""

import asyncio
import functools
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import msgspec
from singlepass_backends.base import ModelInfo, Segment, SegmentUse

from singlepass.config import Settings, user_file
from singlepass.core.context import Context, build_context, shrink
from singlepass.core.grammar import UNBOUNDED, Bounds, edit_grammar, marker_size
from singlepass.core.prompt import render_context, render_repository
from singlepass.editor.documents import Documents, Held
from singlepass.editor.workspace import Resolved, UserError, Workspace, read_near
from singlepass.engines.attachment import ASSUMED_CONTEXT, Attachment
from singlepass.engines.gathering import Gathered, gathering
from singlepass.engines.targets import Targets, is_remote
from singlepass.repository.client import CHARS_PER_TOKEN, Repository

RANDOM_BOUNDS = Bounds(max_lines=4, max_line_chars=60, max_hunks=3, may_be_empty=False)
"""Random weights never choose to stop, so the grammar stops them."""

WINDOW_LINES = 5_000
"""A grammar holds about 6,000 lines over all files. Of a longer document so many around the selection may be
changed."""
MAP_SHARE = 1 / 8
NEAR_SHARE = 1 / 8
"""How much of the context the map and the files beside the open ones may take."""
DRAFT_CORPUS_CHARS = 240_000
"""Of near files that have no place in the prompt, for drafts."""
MIN_REPLY_TOKENS = 512
"""A prompt that leaves less room for its reply counts as too long."""
TASK_TOKENS = 1024
"""Room for a task that has not been asked for yet, before neighbours are left out for it."""

MOST_CHARS_PER_TOKEN = 32
"""A document of more is not prewarmed: no model takes it, and finding that out takes an engine minutes."""


class Inspects(Protocol):
    """The part of the engine's client that tells how long a prompt is."""

    async def inspect(
        self, segments: tuple[Segment, ...], *, spawn: bool = False
    ) -> tuple[SegmentUse, ...] | None: ...


class PrewarmPlan(msgspec.Struct, frozen=True):
    """What can be done for a request that has not come yet."""

    segments: tuple[Segment, ...]
    grammar: Callable[[], str | None] = lambda: None
    """Builds the grammar of the request, which takes some 20 ms."""
    draft_corpus: Callable[[], tuple[str, ...]] = lambda: ()
    """Reads texts that drafts are made from, besides the prompt."""


class Contexts:
    """The contexts of the editor's documents."""

    def __init__(
        self, documents: Documents, workspace: Workspace, targets: Targets, repository: Repository
    ) -> None:
        self.settings = Settings()
        self._documents = documents
        self._workspace = workspace
        self._targets = targets
        self._repository = repository

    def is_allowed(self, file: Resolved) -> bool:
        """Whether a file may be edited, and so be prewarmed: it lies inside the workspace, also when links
        are followed, unless the user allowed others."""
        return self.settings.allow_outside_workspace or file.is_inside

    def check(self, *files: Resolved) -> None:
        """Raise UserError for a file that may not be used."""
        for file in files:
            if not self.is_allowed(file):
                linked = ": a link leads out of them" if file.is_named_inside else ""
                raise UserError(
                    f"{file.uri} is outside the workspace folders{linked}. Open its folder in the editor, or "
                    f"set `allow_outside_workspace = true` in {user_file()}."
                )

    def gathering(
        self, uri: str, files: Sequence[str] = (), held: Sequence[Held] | None = None
    ) -> Callable[[], Gathered]:
        """See the function `gathering`. `held` is what the documents hold at another moment than now."""
        held = self._documents.held() if held is None else held
        near = self._repository.near(uri)
        return gathering(uri, files, held, self._workspace, self.settings, near)

    def sendable(self, gathered: Gathered, name: str) -> Gathered:
        """What was gathered, without the files that may not go to a target unless they are asked for."""
        named = {*gathered.named}
        kept = {uri: one for uri, one in gathered.neighbours.items() if self._targets.may_send(name, uri)}
        sources = {uri: one for uri, one in gathered.sources.items() if uri in named or uri in kept}
        return msgspec.structs.replace(gathered, sources=sources, neighbours=kept)

    def context(self, gathered: Gathered, name: str) -> Context:
        """What was gathered and may be sent, as it stands in a prompt for a target."""
        return context(gathered, self._repository, self._targets.n_ctx(name))

    async def fit(self, gathered: Gathered, attachment: Attachment) -> Context:
        """What was gathered and may be sent, as far as it fits into the model of an engine, which has said
        what it has loaded. Remembered, because the engine answers only between two chunks."""
        n_ctx = attachment.n_ctx
        whole = context(gathered, self._repository, n_ctx)
        known = attachment.known  # of the engine that is asked, even if it ends meanwhile
        fitted = known.fitted(whole)
        if fitted is None:
            fitted = await fit(whole, attachment.client, n_ctx)
            known.remember(whole, fitted)
        return fitted

    def draft_corpus(self, uri: str, context: Context) -> tuple[str, ...]:
        """Texts of near files that are not in the prompt, which an edit may resemble; read now. They are for
        drafts, which the engine makes on this machine, and are sent to no server."""
        in_prompt = {file.text for file in (context.target, *context.neighbours)}
        found: list[str] = []
        room = DRAFT_CORPUS_CHARS
        for path in self._repository.near(uri):
            text = read_near(path)
            if text and text not in in_prompt and len(text) <= room:
                found.append(text)
                room -= len(text)
        return tuple(found)

    # What is prewarmed.

    def may_prewarm(self, uri: str) -> bool:
        """Whether a document may be read before an edit of it is asked for."""
        file = self._workspace.resolve(uri)
        return self.is_allowed(file) and not file.is_hidden(self.settings.ignore)

    def target_for(self, uri: str | None) -> str:
        """The target to prewarm for a document, or for what all share (None). Raises UserError where there is
        none."""
        document = self._documents.get(uri) if uri is not None else None
        language = document.language if document is not None else ""
        return self._targets.to_prewarm(language, () if uri is None else (uri,))

    def attachment_for(self, uri: str | None) -> Attachment:
        """The attachment to prewarm for a document. Raises UserError where there is none, and for a document
        that may not be read before a request."""
        self._check_prewarm(uri)
        return self._targets.attachment(self.target_for(uri))

    def _check_prewarm(self, uri: str | None) -> None:
        if uri is None:
            return
        file = self._workspace.resolve(uri)
        self.check(file)
        if file.is_hidden(self.settings.ignore):
            raise UserError(f"{uri} is ignored, or holds credentials by its name, so it is not prewarmed.")

    async def plan(self, uri: str | None, attachment: Attachment) -> PrewarmPlan:
        """What can be prewarmed for a document, or for all (None), on an engine that has said what it has
        loaded. Raises UserError, BackendError."""
        name = attachment.name
        # Connecting took its time: the settings and the folders may be others by now.
        self._check_prewarm(uri)
        uris = () if uri is None else (uri,)
        if not (self._targets.is_attached(attachment) and self._targets.may_send(name, *uris)):
            raise UserError(f"Nothing is prewarmed on `{name}`: it is not allowed here any more.")
        if uri is None:
            return PrewarmPlan(encodable(render_repository(fitting_map(self._repository, attachment.n_ctx))))
        gathered = await asyncio.to_thread(self.gathering(uri))
        if len(gathered.target.text) > MOST_CHARS_PER_TOKEN * attachment.n_ctx:
            raise UserError(f"{gathered.target.path} is too long for any prompt of {name}.")
        fitted = await self.fit(self.sendable(gathered, name), attachment)
        info = attachment.info
        return PrewarmPlan(
            encodable(render_context(fitted)),
            lambda: grammar_for(fitted, info),
            lambda: self.draft_corpus(uri, fitted),
        )

    # What is shown.

    async def show(self, uri: str) -> dict[str, Any]:
        """What an action on this document would have in its prompt: segments with tokens, cached or not.

        Raises UserError: no model, a file that cannot be read; BackendError of the engine.
        """
        targets = self._targets
        self.check(self._workspace.resolve(uri))
        if targets.by_name and not any(one.is_allowed for one in targets.candidates(uris=(uri,))):
            return await self._show_before_allowed(uri)
        attachment = targets.attachment(self.target_for(uri))
        name = attachment.name
        info = await attachment.client.connect()
        if not (targets.is_attached(attachment) and targets.may_send(name, uri)):
            raise UserError(f"`{name}` is not allowed here any more.")
        gathered = self.sendable(await asyncio.to_thread(self.gathering(uri)), name)
        fitted = await self.fit(gathered, attachment)
        # With an empty task, because the tokens that end the template count with the last segment.
        segments = (*render_context(fitted), Segment("task", ""))
        found = (await attachment.client.inspect(segments, spawn=True) or ())[:-1]
        return {
            "target": self._described(name, is_allowed=True),
            "n_ctx": info.n_ctx,
            "segments": [msgspec.to_builtins(segment) for segment in found],
            "left_out": list(fitted.left_out),
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
            "n_ctx": self._targets.n_ctx(name),
            "segments": segments,
            "left_out": list(context.left_out),
        }

    def _described(self, name: str, *, is_allowed: bool) -> dict[str, Any]:
        target = self._targets.by_name[name]
        return {"name": name, "url": target.url, "remote": is_remote(target), "allowed": is_allowed}


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
