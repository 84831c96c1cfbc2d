"""The running jobs: start, supersede, cancel, revert, retry, shutdown.

A command starts a job and returns: pygls does not cancel an asynchronous command, and a command whose task is
cancelled never answers. At most one job runs on a document; a newer one cancels it. Jobs on different
documents are queued by the engine.
"""

import functools
import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from singlepass.config import DEFAULT, Settings
from singlepass.core.hunk_tracking import lines_now
from singlepass.editor.documents import Document, Documents, Held
from singlepass.editor.positions import lines_to_json
from singlepass.editor.requests import NO_EDITS, Editor
from singlepass.editor.tasks import Owner, Work
from singlepass.editor.workspace import Resolved, UserError, Workspace
from singlepass.engines.attachment import Attachment
from singlepass.engines.contexts import Contexts
from singlepass.engines.gathering import Gathered
from singlepass.engines.targets import Targets
from singlepass.files.same_file import FileId, is_same
from singlepass.jobs.forecast import Forecast
from singlepass.jobs.outcome import Job, JobRequest, Outcome
from singlepass.jobs.review import Reviews, Selected

if TYPE_CHECKING:
    from singlepass.jobs.session import Session

log = logging.getLogger(__name__)

MAX_FILES = 1_000
"""Maximum number of files in a request; more fit no model."""
_MAX_ASKED = 20
"""Number of requests, with their texts, that can be retried."""


class Looked(msgspec.Struct, frozen=True):
    """A request with the contents of its files."""

    request: JobRequest
    """The request; it names each file once, by the URI under which the editor has it open."""
    edited: Resolved
    """The file with the selection."""
    gathered: Gathered
    protected: dict[str, str]
    """The protected files that it names, by URI, with what kind of file each is."""


class _Running(NamedTuple):
    """A running job."""

    job: Job
    file: FileId
    """The identity of the file with the selection."""
    session: "Session"
    attachment: Attachment
    work: Work


class Jobs:
    """The running jobs, and the latest ones, which can be reverted or retried."""

    def __init__(
        self,
        documents: Documents,
        workspace: Workspace,
        editor: Editor,
        *,
        targets: Targets,
        contexts: Contexts,
        forecast: Forecast,
        reviews: Reviews,
    ) -> None:
        self.settings = Settings()
        self.tasks = Owner()
        self.on_end: Callable[[Job, Outcome], None] = lambda _, __: None
        """Called when a job has ended and its outcome was shown."""
        self._documents = documents
        self._workspace = workspace
        self._editor = editor
        self._targets = targets
        self._contexts = contexts
        self._forecast = forecast
        self._reviews = reviews
        self._running: dict[int, _Running] = {}
        self._last: Job | None = None
        self._n_jobs = 0
        self._is_shut_down = False
        self._asked: dict[int, tuple[JobRequest, str]] = {}
        self._replies: dict[int, str] = {}
        """The replies of the latest jobs."""

    @property
    def is_busy(self) -> bool:
        """Whether a job is running."""
        return bool(self._running)

    def looking(self, request: JobRequest, held: Sequence[Held] | None = None) -> Callable[[], Looked]:
        """A function that reads the files of a request, for `start`.

        It blocks on the disk, so it must not run on the event loop. `held` are the documents when the request
        was made; None for now. Both raise UserError for a request that cannot be served.
        """
        if not self._editor.capabilities.apply_edit:
            raise UserError(f"{NO_EDITS[0].upper()}{NO_EDITS[1:]}.")
        if len(request.files) > MAX_FILES:
            raise UserError(
                f"The request names {len(request.files):,} files, and the most is {MAX_FILES:,}. Name only "
                "those that are to be changed."
            )
        gathering = self._contexts.gathering(request.uri, request.files, held)

        def look() -> Looked:
            import singlepass.jobs.session  # pyright: ignore[reportUnusedImport]  # noqa: F401

            files = [self._workspace.resolve(uri) for uri in (request.uri, *request.files)]
            self._contexts.check(*files)
            protected = self._protected(files)
            if not request.instruction.strip():
                raise UserError("The instruction is empty. Say what to change.")
            gathered = gathering()
            edited, *others = gathered.named
            if gathered.named != tuple(file.uri for file in files):  # open under another URI, or named twice
                files = [self._workspace.resolve(uri) for uri in gathered.named]
                protected = self._protected(files) if protected else {}
            named = msgspec.structs.replace(request, uri=edited, files=tuple(others))
            return Looked(named, files[0], gathered, protected)

        return look

    def start(self, looked: Looked) -> int:
        """Start a job and return its id. Raises UserError for a request that cannot be served."""
        if self._is_shut_down:
            raise UserError("The server was shut down.")
        request, edited = looked.request, looked.edited
        document = looked.gathered.editable[request.uri].document
        if document is not None and not document.is_open:
            raise UserError(f"{edited.name} was closed.")
        asked, candidates = self._forecast.sized(request)
        routed = self._targets.choose(asked, candidates)
        attachment = self._targets.attachment(routed.target or DEFAULT)
        self._supersede(edited.id)
        self._documents.touch(request.uri)
        if (document := self._documents.get(request.uri)) is not None:
            self._clear(document)
        self._n_jobs += 1
        job = Job(self._n_jobs, request, target=attachment.name, routed=routed.why)
        expected = self._forecast.expected(attachment.name, request)
        job.estimate_s = expected.middle / 1000 if expected else routed.estimate_s
        job.n_selected = self._forecast.n_selected(request.uri, request.first_line, request.end_line)
        self._forecast.advise(job, asked, candidates)
        self._asked[job.id] = request, looked.gathered.editable[request.uri].snapshot.text
        if len(self._asked) > _MAX_ASKED:
            del self._asked[next(iter(self._asked))]
        work = Work()
        session = self._session(job, looked, attachment, work)
        self._running[job.id] = running = _Running(job, edited.id, session, attachment, work)
        self.tasks.start(self._run, running, work=work)
        return job.id

    async def _run(self, running: _Running) -> None:
        job, outcome = running.job, "cancelled"
        try:
            with running.attachment.used():
                outcome = await running.session.run(lambda: self.cancel(job.id))
        except Exception as error:
            # Only showing the outcome can have failed: most likely the editor is gone.
            outcome = "failed"
            log.error("the outcome of job %d could not be shown", job.id, exc_info=error)
        finally:
            self._ended(job, outcome)

    def _session(self, job: Job, looked: Looked, attachment: Attachment, work: Work) -> "Session":
        # Here: the editor waits for our imports. `looking` has done them in a thread.
        from singlepass.jobs.display import JobDisplay
        from singlepass.jobs.hunks import HunkPipeline
        from singlepass.jobs.session import Session

        gathered = self._contexts.sendable(looked.gathered, attachment.name)

        files = {
            uri: msgspec.structs.replace(one, protection=looked.protected.get(uri, ""))
            for uri, one in gathered.editable.items()
        }
        hunks = HunkPipeline(
            job,
            files,
            confirm=self.settings.review == "confirm",
            documents=self._documents,
            editor=self._editor,
            reviews=self._reviews,
            is_allowed=lambda uri: self._contexts.is_allowed(self._workspace.resolve(uri)),
            is_cancelled=lambda: work.is_cancelled,
        )
        hunks.on_late = functools.partial(self._applied_late, job)
        return Session(
            job,
            hunks,
            JobDisplay(job, files, documents=self._documents, editor=self._editor, settings=self.settings),
            engine=attachment.client,
            settings=self.settings,
            fit=functools.partial(self._contexts.fit, gathered, attachment),
            draft_corpus=functools.partial(self._contexts.draft_corpus, job.request.uri),
        )

    def _supersede(self, file: FileId) -> None:
        """Cancel an older job on the same file."""
        for running in self._running.values():
            if is_same(running.file, file):
                running.job.superseded = True
                running.work.cancel()

    def _protected(self, files: Sequence[Resolved]) -> dict[str, str]:
        """The protected ones of these files, and what kind of file each is.

        Raises UserError if the editor does not support change annotations.
        """
        found = [file for file in files if file.protection]
        if found and not self._editor.capabilities.annotations:
            raise UserError(
                f"{found[0].name} is {found[0].protection}, so an edit of it needs your consent, and this "
                "editor cannot ask for it: it does not support change annotations. Edit the file by hand."
            )
        return {file.uri: file.protection for file in found}

    def _ended(self, job: Job, outcome: Outcome) -> None:
        del self._running[job.id]
        self._replies[job.id] = "".join(job.reply)
        if len(self._replies) > _MAX_ASKED:
            del self._replies[next(iter(self._replies))]
        if job.applied:
            self._last = job
        self.on_end(job, outcome)

    def _applied_late(self, job: Job) -> None:
        """An edit was applied late: the job may be the one to revert after all."""
        if self._last is None or job.id > self._last.id:
            self._last = job

    def tell_loading(self, attachment: Attachment, fraction: float) -> None:
        """Report the progress of loading a model to the jobs that wait for it."""
        for running in self._running.values():
            if running.attachment is attachment:
                running.session.display.loading(fraction)

    # Commands.

    def cancel(self, id: int | None = None) -> int:
        """Cancel one job, or all; returns how many were running."""
        running = [one for one in self._running.values() if id is None or one.job.id == id]
        for one in running:
            one.work.cancel()
        return len(running)

    async def revert(self) -> str:
        """Revert the last job's edits where their text is unchanged; returns a message."""
        if self._n_jobs in self._running:
            raise UserError("The last job is still running. Cancel it first.")
        job = self._last
        if job is None or not self._reviews.has_edits(job.id):
            raise UserError("There is no edit of singlepass to take back.")
        title = f"revert {job.request.title}"
        taken = await self._reviews.undo(Selected(job=job.id), title, also_kept=True)
        n_stay = self._reviews.n_changed(job.id)
        return f"{taken.undone} of {taken.undone + n_stay} edits taken back" + (
            "; the others were changed since and stay" if n_stay else ""
        )

    def reply(self, id: int | None = None) -> tuple[int, str]:
        """A job's id and reply, by default the last one's. Raises UserError if it is not stored."""
        id = next(reversed(self._replies), 0) if id is None else id
        if id not in self._replies:
            raise UserError(
                f"The reply to job {id} is not kept." if id else "No model has written anything yet."
            )
        return id, self._replies[id]

    async def retry(self, id: int | None = None) -> dict[str, Any]:
        """Undo a job's hunks in review, by default the last job's, and return its request, for a retry.

        Raises UserError for an unknown job, and if the editor rejects the edit.
        """
        id = self._n_jobs if id is None else id
        if id not in self._asked:
            raise UserError(f"There is no job {id} to try again." if id else "Nothing was asked for yet.")
        if id in self._running:
            work = self._running[id].work
            work.cancel()
            await work.ended.wait()
        request, text = self._asked[id]
        await self._reviews.undo(Selected(job=id), f"undo {request.title}")
        document = self._documents.get(request.uri)

        def now(first: int, end: int) -> tuple[int, int]:
            return (first, end) if document is None else lines_now(text, document.text, first, end)

        first, end = now(request.first_line, request.end_line)
        comment = request.comment
        return {
            "uri": request.uri,
            "range": lines_to_json(first, end),
            "instruction": request.instruction,
            "title": request.title,
            "files": list(request.files),
            "kind": request.kind,
            "diagnostics": list(request.diagnostics),
            "comment": comment and now(comment.start, comment.end)[0],
        }

    # Documents.

    def document_changed(self, document: Document) -> None:
        """The user typed: remove diagnostics that only show timings."""
        if document.transient and not any(
            running.job.request.uri == document.uri for running in self._running.values()
        ):
            self._clear(document)

    def document_closed(self, document: Document) -> None:
        """Cancel the jobs on the document, and remove our diagnostics."""
        for running in self._running.values():
            if running.session.edited.document is document:
                running.job.is_closed = True
                running.work.cancel()
        self._clear(document)

    def _clear(self, document: Document) -> None:
        if document.published:
            document.published = document.transient = False
            self._editor.publish(document.uri, None, [])

    async def aclose(self) -> None:
        """Cancel all jobs, and accept no more."""
        self._is_shut_down = True
        self.cancel()
        await self.tasks.aclose()
