"""The jobs in flight: start, newest wins, cancel, revert, shutdown; and the one engine client they share.

A command starts a job and returns: pygls does not cancel an asynchronous command, and a command whose task is
cancelled never answers. At most one job runs on a document; a newer one cancels it. The engine queues jobs of
different documents.
"""

import asyncio
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from singlepass_backends.base import BackendError, Segment

from singlepass.config import Settings, user_file
from singlepass.core.context import Context
from singlepass.core.prompt import render_context
from singlepass.delivery import Source, revert_edits
from singlepass.documents import Document, Documents
from singlepass.editor import Editor
from singlepass.outcome import Job, JobRequest, Outcome
from singlepass.repository import Repository
from singlepass.session import Session, gather
from singlepass.workspace import UserError, Workspace

if TYPE_CHECKING:
    from singlepass_backends.client import EngineClient

log = logging.getLogger(__name__)

_PREWARM_PAUSE_S = 0.3
"""Editors ask for actions at every move of the cursor; only a pause is worth a prewarm."""


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
        self._prewarm: asyncio.Task[None] | None = None
        self._prewarmed: tuple[Segment, ...] = ()
        self.repository = Repository(workspace, lambda: bool(self._running))

    # The engine.

    def configure(self, settings: Settings) -> None:
        """Take new settings; another target is attached by the next job."""
        if settings.target != self.settings.target and self._engine is not None:
            engine, self._engine = self._engine, None
            task = asyncio.ensure_future(self._close(engine))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
            self._prewarmed = ()
        self.settings = settings
        self.repository.configure(settings)

    async def _close(self, engine: "EngineClient") -> None:
        """Detach from an engine once the jobs that use it have ended."""
        if self._running:
            await asyncio.wait([task for _, _, task in self._running.values()])
        await engine.aclose()

    def _client(self) -> "EngineClient":
        """The engine's client. Raises UserError when no model is configured."""
        if not self.settings.target.model:
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

    def _gather(self, uri: str, files: Sequence[str]) -> tuple[Context, dict[str, Source]]:
        info = self._engine.info if self._engine is not None else None
        n_ctx = info.n_ctx if info is not None else 0
        return gather(uri, files, self.documents, self.workspace, self.settings, self.repository, n_ctx)

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
        )
        task = asyncio.ensure_future(running.run(lambda: self.cancel(job.id)))
        self._running[job.id] = job, running, task
        task.add_done_callback(lambda task: self._finished(job, running, task))
        return job.id

    def _finished(self, job: Job, running: Session, task: "asyncio.Task[Outcome]") -> None:
        self._running.pop(job.id, None)
        if job.applied:
            self._last = job
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

    def prewarm(self, uri: str) -> None:
        """Read ahead what an action on this document would need, after a short pause."""
        if not self.settings.prewarm or not self.settings.target.model:
            return
        if self.workspace.is_hidden(uri, self.settings.ignore):
            return
        if self._prewarm is not None:
            self._prewarm.cancel()
        self._prewarm = asyncio.ensure_future(self._prewarm_soon(uri))

    async def _prewarm_soon(self, uri: str) -> None:
        await asyncio.sleep(_PREWARM_PAUSE_S)
        try:
            context, _ = self._gather(uri, ())
            segments = render_context(context)
            if segments != self._prewarmed and not self._running:
                await self._client().prewarm(segments)
                self._prewarmed = segments
        except (BackendError, UserError) as error:
            # The job that follows will say it to the user; a prewarm nobody asked for stays silent.
            log.info("no prewarm: %s", error)

    def document_opened(self, document: Document) -> None:
        """Find out which files stand near it."""
        self.repository.opened(document.uri)

    def document_changed(self, document: Document) -> None:
        """The user typed: diagnostics that only tell the time have served."""
        self.repository.typed()
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
        if self._prewarm is not None:
            tasks.append(self._prewarm)
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


def no_model_message() -> str:
    """What to do when no model is configured."""
    return (
        f"No model is configured. Put the path of a GGUF file into {user_file()}:\n\n"
        '[target]\nmodel = "/path/to/model.gguf"\n\n'
        "or start with `singlepass demo`, which needs none."
    )
