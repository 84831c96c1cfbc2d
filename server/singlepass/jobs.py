"""The jobs in flight: start, newest wins, cancel, revert, shutdown; and the one engine client they share.

A command starts a job and returns: pygls does not cancel an asynchronous command, and a command whose task is
cancelled never answers. At most one job runs on a document; a newer one cancels it. The engine queues jobs of
different documents.
"""

import asyncio
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec
from singlepass_backends.base import ModelInfo, Segment

from singlepass.config import Settings, user_file
from singlepass.core.context import Context
from singlepass.core.estimate import Sample, estimate_ms, title_suffix
from singlepass.core.prompt import render_context, render_repository
from singlepass.delivery import Source, revert_edits
from singlepass.documents import Document, Documents
from singlepass.editor import Editor
from singlepass.history import History
from singlepass.outcome import Job, JobRequest, Outcome
from singlepass.repository import Repository
from singlepass.session import ASSUMED_CONTEXT, Session, encodable, fit, fitting_map, gather, grammar_for
from singlepass.warming import ASKED_PAUSE_S, OPENED_PAUSE_S, TYPED_PAUSE_S, Ahead, Warming
from singlepass.workspace import UserError, Workspace

if TYPE_CHECKING:
    from singlepass_backends.client import EngineClient

log = logging.getLogger(__name__)

_MAX_FITTED = 8


class Jobs:
    """Everything that runs on behalf of the user."""

    def __init__(self, documents: Documents, workspace: Workspace, editor: Editor) -> None:
        self.documents = documents
        self.workspace = workspace
        self.editor = editor
        self.settings = Settings()
        self._engine: EngineClient | None = None
        self._closing: set[asyncio.Task[None]] = set()
        self._running: dict[int, tuple[Job, Session, asyncio.Task[Outcome]]] = {}
        self._last: Job | None = None
        self._n_jobs = 0
        self._fitted: dict[Context, Context] = {}
        self.history = History()
        self.warming = Warming(editor, self._ahead, self._client, lambda: bool(self._running))
        self.repository = Repository(workspace, lambda: bool(self._running))
        self.repository.on_update = self.warming.again

    # The engine.

    def configure(self, settings: Settings) -> None:
        """Take new settings; another target is attached by the next job."""
        if settings.target != self.settings.target and self._engine is not None:
            engine, self._engine = self._engine, None
            task = asyncio.ensure_future(self._close(engine))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
            self.warming.forget()
            self._fitted.clear()
        self.settings = settings
        self.warming.settings = settings
        self.repository.configure(settings)

    async def _close(self, engine: "EngineClient") -> None:
        """Detach from an engine once the jobs that use it have ended."""
        if self._running:
            await asyncio.wait([task for _, _, task in self._running.values()])
        await engine.aclose()

    def _client(self) -> "EngineClient":
        """The engine's client. Raises UserError when no model is configured."""
        if not self.settings.target.is_set:
            raise UserError(no_model_message())
        if self._engine is None:
            from singlepass_backends.client import EngineClient  # here: the editor waits for our imports

            self._engine = EngineClient(
                self.settings.target, idle_exit_s=self.settings.idle_exit_minutes * 60
            )
            self._engine.on_loading = self._tell_loading
        return self._engine

    def _tell_loading(self, fraction: float) -> None:
        for _, running, _ in self._running.values():
            running.tell_loading(fraction)

    def _n_ctx(self) -> int:
        info = self._engine.info if self._engine is not None else None
        return (info.n_ctx if info is not None else self.settings.target.n_ctx) or ASSUMED_CONTEXT

    def _gather(self, uri: str, files: Sequence[str]) -> tuple[Context, dict[str, Source]]:
        n_ctx = self._n_ctx()
        return gather(uri, files, self.documents, self.workspace, self.settings, self.repository, n_ctx)

    async def _fit(self, context: Context) -> Context:
        """See `session.fit`. Remembered, because the engine answers only between two chunks."""
        fitted = self._fitted.pop(context, None)
        if fitted is None:
            fitted = await fit(context, self._client(), self._n_ctx())
        self._fitted[context] = fitted
        if len(self._fitted) > _MAX_FITTED:
            del self._fitted[next(iter(self._fitted))]
        return fitted

    # Jobs.

    def start(self, request: JobRequest) -> int:
        """Start a job and return its id. Raises UserError for a request that cannot be served."""
        for uri in (request.uri, *request.files):
            _, inside = self.workspace.name(uri)
            if not inside and not self.settings.allow_outside_workspace:
                raise UserError(
                    f"{uri} is outside the workspace folders. Open its folder in the editor, or set "
                    f"`allow_outside_workspace = true` in {user_file()}."
                )
        if not request.instruction.strip():
            raise UserError("The instruction is empty. Say what to change.")
        engine = self._client()
        context, sources = self._gather(request.uri, request.files)
        for job, _, task in self._running.values():
            if job.request.uri == request.uri:
                job.superseded = True
                task.cancel()
        self.documents.touch(request.uri)
        if (document := self.documents.get(request.uri)) is not None:
            self._clear(document)
        self._n_jobs += 1
        job = Job(self._n_jobs, request)
        running = Session(
            job,
            context,
            sources,
            documents=self.documents,
            settings=self.settings,
            engine=engine,
            editor=self.editor,
            fit=self._fit,
        )
        task = asyncio.ensure_future(running.run(lambda: self.cancel(job.id)))
        self._running[job.id] = job, running, task
        task.add_done_callback(lambda task: self._finished(job, running, task))
        return job.id

    def _finished(self, job: Job, running: Session, task: "asyncio.Task[Outcome]") -> None:
        self._running.pop(job.id, None)
        if job.applied:
            self._last = job
        if job.timings is not None and job.info is not None and not task.cancelled():
            spent = job.timings
            self.history.add(
                Sample(
                    target_name(job.info),
                    spent.n_prefilled,
                    spent.prefill_ms,
                    spent.n_decoded,
                    spent.decode_ms,
                )
            )
        if task.cancelled():
            # Before its first step, as by a second command that came along with the first.
            running.conclude("cancelled")
        elif (error := task.exception()) is not None:
            # Only telling the outcome can have failed: most likely the editor is gone.
            log.error("the outcome of job %d could not be told", job.id, exc_info=error)

    def cancel(self, id: int | None = None) -> int:
        """Cancel one job, or all; returns how many were in flight."""
        tasks = [task for job, _, task in self._running.values() if id is None or job.id == id]
        for task in tasks:
            task.cancel()
        return len(tasks)

    async def revert(self) -> str:
        """Take back the last job's edits where the text is still as it left it; says what it did."""
        if any(job.id == self._n_jobs for job, _, _ in self._running.values()):
            raise UserError("The last job is still running. Cancel it first.")
        job = self._last
        if job is None or not job.applied:
            raise UserError("There is no edit of singlepass to take back.")
        edits, kept = revert_edits(job.applied)
        n_back = len(job.applied) - len(kept)
        if edits:
            label = f"singlepass: revert {job.request.title}"
            result = await self.editor.apply(edits, label, "Take the last edits back")
            if not result.applied:
                raise UserError(f"The editor refused to take the edits back: {result.reason or 'no reason'}.")
        job.applied = kept
        return f"{n_back} of {n_back + len(kept)} edits taken back" + (
            "; the others were changed since and stay" if kept else ""
        )

    # Around them.

    def prewarm(self, uri: str, pause_s: float = ASKED_PAUSE_S) -> None:
        """Read ahead what an action on this document would need, after a short pause."""
        if not self.workspace.is_hidden(uri, self.settings.ignore):
            self.warming.soon(uri, pause_s)

    async def _ahead(self, uri: str | None) -> Ahead:
        if uri is None:
            return Ahead(encodable(render_repository(fitting_map(self.repository, self._n_ctx()))))
        gathered, _ = self._gather(uri, ())
        engine = self._client()
        context = await self._fit(gathered)
        return Ahead(encodable(render_context(context)), lambda: grammar_for(context, engine.info))

    def estimate(self, uri: str) -> str:
        """What an action on this document would probably take, as a title's suffix; empty where unknown."""
        info = self._engine.info if self._engine is not None else None
        n_uncached = self.warming.n_uncached(uri)
        known = self.history.rates(target_name(info)) if info and self.settings.estimates else None
        if known is None or n_uncached is None:
            return ""
        return title_suffix(estimate_ms(known, n_uncached))

    async def context(self, uri: str) -> dict[str, Any]:
        """What an action on this document would have in its prompt: segments with tokens, cached or not.

        Raises UserError: no model, a file that cannot be read; BackendError of the engine.
        """
        engine = self._client()
        info = await engine.connect()
        gathered, _ = self._gather(uri, ())
        context = await self._fit(gathered)
        # With an empty task, because the tokens that end the template count with the last segment.
        segments = (*render_context(context), Segment("task", ""))
        found = (await engine.inspect(segments, spawn=True) or ())[:-1]
        return {
            "n_ctx": info.n_ctx,
            "segments": [msgspec.to_builtins(segment) for segment in found],
            "left_out": list(context.left_out),
        }

    def workspace_opened(self) -> None:
        """Get to know the repository, and read ahead what every prompt of it begins with."""
        if self.workspace.folders:
            self.repository.open()
            self.warming.soon(None, OPENED_PAUSE_S)

    def files_changed(self, *uris: str) -> None:
        """Files were saved, created or deleted: outlines, neighbours and what was read ahead may be old."""
        self.repository.changed(*uris)
        self.warming.again()

    def folders_changed(self) -> None:
        """Other workspace folders: files have other names in the prompt."""
        self.repository.folders_changed()
        self.warming.again()

    def document_opened(self, document: Document) -> None:
        """Find out which files stand near it, and read ahead."""
        self.repository.opened(document.uri)
        self.prewarm(document.uri, OPENED_PAUSE_S)

    def document_changed(self, document: Document) -> None:
        """The user typed: diagnostics that only tell the time have served."""
        self.repository.typed()
        self.prewarm(document.uri, TYPED_PAUSE_S)
        if document.transient and not any(
            job.request.uri == document.uri for job, _, _ in self._running.values()
        ):
            self._clear(document)

    def document_closed(self, document: Document) -> None:
        """Take our diagnostics with it."""
        self._clear(document)

    def _clear(self, document: Document) -> None:
        if document.published:
            document.published = document.transient = False
            self.editor.publish(document.uri, None, [])

    async def shutdown(self) -> None:
        """Cancel everything and detach from the engine, which lives on."""
        tasks: list[asyncio.Task[Any]] = [task for _, _, task in self._running.values()]
        tasks += self.warming.stop()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=2)
        await self.repository.aclose()
        if self._engine is not None:
            engine, self._engine = self._engine, None
            await engine.aclose()
        if self._closing:
            await asyncio.wait(self._closing, timeout=2)


def target_name(info: ModelInfo) -> str:
    """What rates are kept by: another model, or the same on another device, is another speed."""
    return f"{info.name} on {info.device}"


def no_model_message() -> str:
    """What to do when no model is configured."""
    return (
        f"No model is configured. Put the path of a GGUF file into {user_file()}:\n\n"
        '[target]\nmodel = "/path/to/model.gguf"\n\n'
        "or start with `singlepass demo`, which needs none."
    )
