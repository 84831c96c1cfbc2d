"""The context of a document on a target: gathered, fitted to the model, prewarmed, shown.

Prewarms and jobs both get their contexts here, so that a prewarm is exactly a prefix of the job's prompt.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import msgspec
from singlepass_backends.base import ModelInfo, Segment, SegmentUse

from singlepass.config import Settings, user_file
from singlepass.core import lines
from singlepass.core.context import Context, build_context, shrink
from singlepass.core.grammar import UNBOUNDED, Bounds, edit_grammar, marker_size
from singlepass.core.prompt import render_context, render_repository
from singlepass.editor.documents import Documents, Held
from singlepass.editor.tasks import in_thread
from singlepass.editor.workspace import Resolved, UserError, Workspace, read_near
from singlepass.engines.attachment import ASSUMED_CONTEXT, Attachment
from singlepass.engines.gathering import Gathered, gathering
from singlepass.engines.targets import Targets, is_remote
from singlepass.repository.client import CHARS_PER_TOKEN, Repository

RANDOM_BOUNDS = Bounds(max_lines=4, max_line_chars=60, max_hunks=3, may_be_empty=False)
"""Models with random weights never end a reply, so the grammar does."""

WINDOW_LINES = 5_000
"""Number of lines around the selection that may be changed in a document that is too long for the grammar,
which holds about 6,000 lines over all files."""
MAP_SHARE = 1 / 8
NEAR_SHARE = 1 / 8
"""Maximum share of the context for the map and for neighbours that are not open."""
DRAFT_CORPUS_CHARS = 240_000
"""Maximum characters of the draft corpus."""
MIN_REPLY_TOKENS = 512
"""Minimum tokens for the reply; a prompt that leaves less counts as too long."""
TASK_TOKENS = 1024
"""Tokens to leave free for the task of a later request; neighbours are left out for that."""

MOST_CHARS_PER_TOKEN = 32
"""Maximum characters of a document for prewarms: longer ones fit no model, and tokenizing them takes
minutes."""


class Inspects(Protocol):
    """The part of the engine's client that counts the tokens of a prompt."""

    async def inspect(
        self, segments: tuple[Segment, ...], *, spawn: bool = False
    ) -> tuple[SegmentUse, ...] | None: ...


class PrewarmPlan(msgspec.Struct, frozen=True):
    """What can be prepared for a later request."""

    segments: tuple[Segment, ...]
    grammar: Callable[[], str | None] = lambda: None
    """Builds the grammar of the request, which takes about 20 ms."""
    draft_corpus: Callable[[], tuple[str, ...]] = lambda: ()
    """Reads the draft corpus."""


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
        """Whether a file may be edited, and so be prewarmed: it must be inside the workspace, also with links
        resolved, unless the user allowed other files."""
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
        """See the function `gathering`. `held` are the documents at an earlier moment; None for now."""
        held = self._documents.held() if held is None else held
        near = self._repository.near(uri)
        return gathering(uri, files, held, self._workspace, self.settings, near)

    def sendable(self, gathered: Gathered, name: str) -> Gathered:
        """What was gathered, without the files that may not be sent to a target unless requested."""
        named = {*gathered.named}
        kept = {uri: one for uri, one in gathered.neighbours.items() if self._targets.may_send(name, uri)}
        editable = {uri: one for uri, one in gathered.editable.items() if uri in named or uri in kept}
        return msgspec.structs.replace(gathered, editable=editable, neighbours=kept)

    async def fit(self, gathered: Gathered, attachment: Attachment) -> Context:
        """The context of what was gathered and may be sent, fitted to the model of an attached engine.
        Cached, because the engine answers only between two chunks."""
        n_ctx = attachment.n_ctx
        whole = context(gathered, self._repository, n_ctx, may_rewrite=attachment.may_rewrite)
        known = attachment.known  # that of the engine that is asked, even if it ends in the meantime
        fitted = known.fitted(whole)
        if fitted is None:
            fitted = await fit(whole, attachment.client, n_ctx)
            known.remember(whole, fitted)
        return fitted

    def draft_corpus(self, uri: str, context: Context) -> tuple[str, ...]:
        """The draft corpus: texts of near files outside the prompt, read now. Only engines on this machine
        use it; it is not sent to remote servers."""
        in_prompt = {file.text for file in (context.edited, *context.neighbours)}
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
        """Whether a document may be prewarmed, before an edit of it is requested."""
        file = self._workspace.resolve(uri)
        return self.is_allowed(file) and not file.is_hidden(self.settings.ignore)

    def target_for(self, uri: str | None) -> str:
        """The target to prewarm for a document, or for the shared segments (None). Raises UserError if there
        is none."""
        document = self._documents.get(uri) if uri is not None else None
        language = document.language if document is not None else ""
        return self._targets.to_prewarm(language, () if uri is None else (uri,))

    def attachment_for(self, uri: str | None) -> Attachment:
        """The attachment to prewarm for a document. Raises UserError if there is none, and for a document
        that may not be prewarmed."""
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
        """What can be prewarmed for a document, or for all (None), on an attached engine. Raises UserError,
        BackendError."""
        name = attachment.name
        # Connecting may have taken long: settings and folders may have changed.
        self._check_prewarm(uri)
        uris = () if uri is None else (uri,)
        if not (self._targets.is_attached(attachment) and self._targets.may_send(name, *uris)):
            raise UserError(f"Nothing is prewarmed on `{name}`: it is not allowed here any more.")
        if uri is None:
            map = fitting_map(self._repository, attachment.n_ctx)
            return PrewarmPlan(encodable(render_repository(map, may_rewrite=attachment.may_rewrite)))
        gathered = await in_thread(self.gathering(uri))
        if len(gathered.edited.text) > MOST_CHARS_PER_TOKEN * attachment.n_ctx:
            raise UserError(f"{gathered.edited.path} is too long for any prompt of {name}.")
        fitted = await self.fit(self.sendable(gathered, name), attachment)
        info = attachment.info
        return PrewarmPlan(
            encodable(render_context(fitted)),
            lambda: grammar_for(fitted, info),
            lambda: self.draft_corpus(uri, fitted),
        )

    # What is shown.

    async def show(self, uri: str) -> dict[str, Any]:
        """The prompt of an action on this document: segments with their tokens, cached or not.

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
        gathered = self.sendable(await in_thread(self.gathering(uri)), name)
        fitted = await self.fit(gathered, attachment)
        # With an empty task, because the template's last tokens are counted with the last segment.
        segments = (*render_context(fitted), Segment("task", ""))
        found = (await attachment.client.inspect(segments, spawn=True) or ())[:-1]
        return {
            "target": self._described(name, is_allowed=True),
            "n_ctx": info.n_ctx,
            "segments": [msgspec.to_builtins(segment) for segment in found],
            "left_out": list(fitted.left_out),
        }

    async def _show_before_allowed(self, uri: str) -> dict[str, Any]:
        """What would be sent to the first target, which is remote. Nothing is sent, so tokens are
        estimated."""
        name = next(iter(self._targets.by_name))
        gathered = await in_thread(self.gathering(uri))
        whole = context(gathered, self._repository, self._targets.n_ctx(name))
        segments = [
            {"name": one.name, "n_tokens": len(one.text) // CHARS_PER_TOKEN, "n_cached": 0}
            for one in render_context(whole)
        ]
        return {
            "target": self._described(name, is_allowed=False),
            "n_ctx": self._targets.n_ctx(name),
            "segments": segments,
            "left_out": list(whole.left_out),
        }

    def _described(self, name: str, *, is_allowed: bool) -> dict[str, Any]:
        target = self._targets.by_name[name]
        return {"name": name, "url": target.url, "remote": is_remote(target), "allowed": is_allowed}


def context(
    gathered: Gathered,
    repository: Repository | None = None,
    n_ctx: int = ASSUMED_CONTEXT,
    *,
    may_rewrite: bool = False,
) -> Context:
    """The context of what was gathered, with the map, for a model with a context of `n_ctx` tokens."""
    if repository is None:
        return build_context(gathered.edited, [*gathered.neighbours.values()], may_rewrite=may_rewrite)
    budget = int(NEAR_SHARE * n_ctx * CHARS_PER_TOKEN)
    neighbours = [*gathered.neighbours.values()]
    map = fitting_map(repository, n_ctx)
    return build_context(gathered.edited, neighbours, map, budget, may_rewrite=may_rewrite)


def fitting_map(repository: Repository, n_ctx: int) -> str:
    """The repository map, or nothing if it would take too much of the model's context."""
    return repository.map if len(repository.map) <= MAP_SHARE * n_ctx * CHARS_PER_TOKEN else ""


async def fit(context: Context, engine: Inspects, n_ctx: int) -> Context:
    """The context without neighbours that do not fit into the model's context beside a task and its reply.

    Prewarms and jobs both use this, so that they leave out the same files: a neighbour left out only at the
    click would invalidate everything after it. Raises BackendError of the engine.
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
    """The edit grammar for an edit of the selected lines; None if the backend cannot constrain decoding."""
    if info is None or not info.constrains:
        return None
    files = context.editable
    middle = (first_line + end_line) // 2
    n_lines = context.edited.text.count("\n")
    # Usually the whole document, so that the grammar compiled by a prewarm serves every selection.
    first = 0 if n_lines <= WINDOW_LINES else middle - WINDOW_LINES // 2
    size = marker_size([*files, *files.values()])
    return _grammar(
        tuple(files.items()), size, bounds_for(info), (context.edited.path, first, first + WINDOW_LINES)
    )


def bounds_for(info: ModelInfo) -> Bounds:
    """The bounds on the length of a model's reply."""
    return RANDOM_BOUNDS if info.random_weights else UNBOUNDED


def encodable(segments: Sequence[Segment]) -> tuple[Segment, ...]:
    """Segments without lone surrogates, which can be neither tokenized nor sent."""
    return tuple(
        segment
        if segment.text.isascii()
        else msgspec.structs.replace(segment, text=lines.encodable(segment.text))
        for segment in segments
    )


@functools.lru_cache(maxsize=4)
def _grammar(
    files: tuple[tuple[str, str], ...], size: int, bounds: Bounds, window: tuple[str, int, int]
) -> str:
    path, first, end = window
    return edit_grammar(dict(files), size, bounds, {path: (first, end)})
