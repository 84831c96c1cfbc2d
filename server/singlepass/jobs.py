"""The jobs in flight: start, newest wins, cancel, revert, try again, shutdown.

A command starts a job and returns: pygls does not cancel an asynchronous command, and a command whose task is
cancelled never answers. At most one job runs on a document; a newer one cancels it. An engine queues jobs of
different documents.
"""

import asyncio
import datetime
import functools
import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from singlepass.config import DEFAULT, DEMO, Problem, Settings
from singlepass.contexts import Contexts, Gathered
from singlepass.core.actions import action_name
from singlepass.core.estimate import Span, estimate_ms, expected_reply, title_suffix
from singlepass.core.hunk_tracking import lines_now
from singlepass.core.record import Judged, Judgement
from singlepass.core.routing import Candidate, Request, advise, compare
from singlepass.display import JobDisplay
from singlepass.documents import Document, Documents, Held
from singlepass.editor import NO_EDITS, Editor, Status, tell_status
from singlepass.history import History
from singlepass.hunks import HunkPipeline
from singlepass.lsp import id_of_uri, lines_to_json
from singlepass.outcome import Job, JobRequest, Outcome, record
from singlepass.repository import CHARS_PER_TOKEN, Repository
from singlepass.review import Reviews, Selected
from singlepass.same_file import is_same
from singlepass.session import Session
from singlepass.targets import Targets, rates_key
from singlepass.warming import ASKED_PAUSE_S, OPENED_PAUSE_S, TYPED_PAUSE_S, Warming
from singlepass.workspace import UserError, Workspace

if TYPE_CHECKING:
    from singlepass_backends.client import EngineClient

log = logging.getLogger(__name__)

MAX_FILES = 1_000
"""More files in one request are a mistake: no model holds them."""
_MAX_BEFORE = 50
"""So many requests at one document are remembered."""
_MAX_ASKED = 20
"""So many requests, with the text they were about, can be tried again."""


class Looked(msgspec.Struct, frozen=True):
    """A request, and what its files hold."""

    request: JobRequest
    """It names files as the editor does that has them open, and each once."""
    gathered: Gathered
    protected: dict[str, str]
    """The files that it names, by URI, which need a question of their own, each with what it is."""


class _Before(NamedTuple):
    """An earlier request at a document, in lines of that time."""

    first_line: int
    end_line: int
    n_prompt: int
    prefill_s: float


class Jobs:
    """Everything that runs on behalf of the user."""

    def __init__(self, documents: Documents, workspace: Workspace, editor: Editor) -> None:
        self.documents = documents
        self.workspace = workspace
        self.editor = editor
        self.settings = Settings()
        self.settled = asyncio.Event()
        """Set once the editor's settings are known, or that there are none."""
        self._closing: set[asyncio.Task[None]] = set()
        self._running: dict[int, tuple[Job, Session, asyncio.Task[Outcome]]] = {}
        self._last: Job | None = None
        self._n_jobs = 0
        self._is_shut_down = False
        self._is_demo = False
        """What the editor was last told of it."""
        self._asked: dict[int, tuple[JobRequest, str]] = {}
        self._replies: dict[int, str] = {}
        """What the model wrote for the latest jobs."""
        self.reviews = Reviews(documents, workspace, editor)
        self._before: dict[str, list[_Before]] = {}
        self.history = History()
        self.reviews.on_judged = self._judged
        self.targets = Targets(lambda: workspace.folders, self.history)
        self.targets.on_loading = self._tell_loading
        self.targets.before_start = self._make_room
        self.repository = Repository(workspace, lambda: bool(self._running))
        self.contexts = Contexts(documents, workspace, self.targets, self.repository)
        self.warming = Warming(
            editor,
            self.contexts.ahead,
            self.contexts.reader,
            lambda: bool(self._running),
            lambda: self.contexts.ahead_on,
            self.settled,
        )
        self.contexts.on_other_target = self.warming.forget
        self.repository.on_update = self.warming.again

    # The engine.

    def configure(self, settings: Settings, problems: Sequence[Problem] = ()) -> None:
        """Take new settings, and what was wrong with them; another target is attached by the next job."""
        for engine in self.targets.configure(settings, problems):
            users = [task for _, session, task in self._running.values() if session.engine is engine]
            task = asyncio.ensure_future(_close(engine, users))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
            self.warming.forget()
            self.contexts.forget()
        self.settings = settings
        self.history.is_on = settings.stats
        self.history.load()
        self.warming.settings = self.contexts.settings = settings
        self.repository.configure(settings)

    def tell_whether_it_is_the_demo_model(self) -> None:
        """For editors that show it: when no model is configured, and when one is at last."""
        is_demo = DEMO in self.targets.by_name
        if is_demo and not self._is_demo:
            status = Status("demo_model", "no model is configured: the demo model edits", target=DEMO)
            tell_status(self.editor, status)
        elif self._is_demo and not is_demo:
            name = next(iter(self.targets.by_name), "")
            status = Status("target", f"target: {name}" if name else "no target can be used", target=name)
            tell_status(self.editor, status)
        self._is_demo = is_demo

    async def _make_room(self) -> None:
        """Two models may not fit: before one is loaded, stop what the settings no longer have."""
        if self._closing:
            await asyncio.wait(self._closing)
        await self.targets.stop_dropped()

    def select_target(self, name: str | None) -> dict[str, Any]:
        """Use this target, or leave it to the rules again (None); what there is. Raises UserError."""
        self.targets.select(name)
        self.warming.again(0)
        message = f"target: {name}" if name else "the target is chosen for each request"
        status = Status("target", message, target=name or self.contexts.ahead_on)
        tell_status(self.editor, status)
        return self.list_targets()

    def list_targets(self) -> dict[str, Any]:
        """The targets, and which is selected."""
        return {"selected": self.targets.selected, "targets": self.targets.listed()}

    def _tell_loading(self, fraction: float) -> None:
        for _, running, _ in self._running.values():
            running.display.loading(fraction)

    # Jobs.

    def looking(self, request: JobRequest, held: Sequence[Held] | None = None) -> "Callable[[], Looked]":
        """What looks at the files of a request, for `start`.

        It waits for the disk, so it is not for the event loop. `held` is what the editor held when it asked,
        where that is not now. Both raise UserError for a request that cannot be served.
        """
        if not self.editor.capabilities.apply_edit:
            raise UserError(f"{NO_EDITS[0].upper()}{NO_EDITS[1:]}.")
        if len(request.files) > MAX_FILES:
            raise UserError(
                f"The request names {len(request.files):,} files, and the most is {MAX_FILES:,}. Name only "
                "those that are to be changed."
            )
        gathering = self.contexts.gathering(request.uri, request.files, held)

        def look() -> Looked:
            self.contexts.check(request.uri, *request.files)
            protected = self._protected((request.uri, *request.files))
            if not request.instruction.strip():
                raise UserError("The instruction is empty. Say what to change.")
            gathered = gathering()
            uri, *files = gathered.named
            if protected:
                protected = self._protected(gathered.named)
            return Looked(msgspec.structs.replace(request, uri=uri, files=tuple(files)), gathered, protected)

        return look

    def start(self, looked: "Looked") -> int:
        """Start a job and return its id. Raises UserError for a request that cannot be served."""
        if self._is_shut_down:
            raise UserError("The server was shut down.")
        request, gathered, protected = looked.request, looked.gathered, looked.protected
        target = gathered.sources[request.uri].document
        if target is not None and not target.is_open:
            raise UserError(f"{self.workspace.name(request.uri)[0]} was closed.")
        asked, candidates = self._asked_for(request)
        routed = self.targets.choose(asked, candidates)
        name = routed.target or DEFAULT
        engine = self.targets.client(name)
        gathered = self.contexts.sendable(gathered, name)
        context, sources = self.contexts.context(gathered, name), gathered.sources
        file = id_of_uri(request.uri)
        for job, _, task in self._running.values():
            if job.request.uri == request.uri or is_same(id_of_uri(job.request.uri), file):
                job.superseded = True
                task.cancel()
        self.documents.touch(request.uri)
        if (document := self.documents.get(request.uri)) is not None:
            self._clear(document)
        self._n_jobs += 1
        job = Job(self._n_jobs, request, target=name, routed=routed.why, estimate_s=routed.estimate_s)
        place = request.uri, request.first_line, request.end_line
        if name == self.contexts.ahead_on and (told := self._expected(*place, request.title, request.kind)):
            job.estimate_s = told.middle / 1000
        job.n_selected = self._n_selected(request.uri, request.first_line, request.end_line)
        self._advise(job, asked, candidates)
        self._asked[job.id] = request, sources[request.uri].snapshot.text
        if len(self._asked) > _MAX_ASKED:
            del self._asked[next(iter(self._asked))]
        files = {
            uri: msgspec.structs.replace(one, protection=protected.get(uri, ""))
            for uri, one in sources.items()
        }
        hunks = HunkPipeline(
            job,
            files,
            confirm=self.settings.review == "confirm",
            documents=self.documents,
            editor=self.editor,
            reviews=self.reviews,
            is_inside=self.contexts.is_allowed,
        )
        hunks.on_late = functools.partial(self._applied_late, job)
        running = Session(
            job,
            context,
            hunks,
            JobDisplay(job, files, documents=self.documents, editor=self.editor, settings=self.settings),
            engine=engine,
            settings=self.settings,
            fit=functools.partial(self.contexts.fit, name),
            beside=functools.partial(self.contexts.beside, request.uri),
        )
        task = asyncio.ensure_future(running.run(lambda: self.cancel(job.id)))
        self._running[job.id] = job, running, task
        task.add_done_callback(lambda task: self._finished(job, running, task))
        return job.id

    def _protected(self, uris: Sequence[str]) -> dict[str, str]:
        """Which of these files need a question of their own, and what they are.

        Raises UserError where the editor cannot ask it at the edit.
        """
        found = {uri: what for uri in uris if (what := self.workspace.protection(uri))}
        if found and not self.editor.capabilities.annotations:
            uri, what = next(iter(found.items()))
            raise UserError(
                f"{self.workspace.name(uri)[0]} is {what}, so an edit of it needs your consent, and this "
                "editor cannot ask for it: it does not support change annotations. Edit the file by hand."
            )
        return found

    def _finished(self, job: Job, running: Session, task: "asyncio.Task[Outcome]") -> None:
        self._running.pop(job.id, None)
        self._replies[job.id] = "".join(job.reply)
        if len(self._replies) > _MAX_ASKED:
            del self._replies[next(iter(self._replies))]
        if job.applied:
            self._last = job
        target = self.targets.by_name.get(job.target)
        if job.finish_reason and target is not None and not task.cancelled():
            spent, request = job.timings, job.request
            before = self._before.setdefault(request.uri, [])
            seconds = spent.prefill_ms / 1000
            before.append(_Before(request.first_line, request.end_line, spent.n_prompt, seconds))
            del before[:-_MAX_BEFORE]
        if task.cancelled():
            # Before its first step, as by a second command that came along with the first.
            running.conclude("cancelled")
        elif (error := task.exception()) is not None:
            # Only telling the outcome can have failed: most likely the editor is gone.
            log.error("the outcome of job %d could not be told", job.id, exc_info=error)
        outcome: Outcome = (
            "cancelled" if task.cancelled() else "failed" if task.exception() else task.result()
        )
        self._record(job, outcome)

    def _applied_late(self, job: Job) -> None:
        """A job that was thought to have changed nothing."""
        if self._last is None or job.id > self._last.id:
            self._last = job

    def _record(self, job: Job, outcome: Outcome) -> None:
        """Keep what it took, for estimates and `singlepass stats`."""
        request, target = job.request, self.targets.by_name.get(job.target)
        folder = self.workspace.folder_of(request.uri)
        self.history.add(
            record(
                *(job, outcome),
                id=self.history.id(job.id),
                ended=datetime.datetime.now(),
                repository=str(folder) if folder else "",
                rates_key=rates_key(target) if target else "",
                action=action_name(request.title, request.kind, self.settings.actions),
            )
        )

    def _judged(self, job: int, judgement: Judgement, n: int) -> None:
        self.history.add(Judged(self.history.id(job), judgement, n))

    def _asked_for(self, request: JobRequest) -> tuple[Request, list[Candidate]]:
        """A request by the size that it probably has, and the targets with what they have cached of it."""
        document = self.documents.get(request.uri)
        text = document.text if document is not None else ""
        before = self._before.get(request.uri)
        # Without a request before, about as much again as the map stands around the document.
        guess = len(text) // CHARS_PER_TOKEN + 2 * self.settings.context_map_tokens
        n_prompt = before[-1].n_prompt if before else guess
        read = self.warming.read(request.uri)
        n_cached = {} if read is None else {self.contexts.ahead_on: max(0, n_prompt - read[1])}
        candidates = self.targets.candidates(n_cached, (request.uri, *request.files))
        rates = [one.rates for one in candidates if one.rates]
        n_selected = self._n_selected(request.uri, request.first_line, request.end_line)
        action = action_name(request.title, request.kind, self.settings.actions)
        asked = Request(
            n_prompt=n_prompt,
            n_reply=round(expected_reply(rates[0], n_selected, action)) if rates else 0,
            kind=request.kind,
            language=document.language if document is not None else "",
        )
        return asked, candidates

    def _advise(self, job: Job, asked: Request, candidates: Sequence[Candidate]) -> None:
        """When the same place was worked on before, put the alternatives side by side."""
        request = job.request
        earlier = [
            one
            for one in self._before.get(request.uri, ())
            if one.first_line <= request.end_line and request.first_line <= one.end_line
        ]
        if earlier:
            job.options = compare(asked, candidates, job.target)
            advice = advise([one.prefill_s for one in earlier], asked, candidates, job.target)
            job.advice = advice.text if advice else ""

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
        if job is None or not self.reviews.has_edits(job.id):
            raise UserError("There is no edit of singlepass to take back.")
        title = f"revert {job.request.title}"
        taken = await self.reviews.undo(Selected(job=job.id), title, also_kept=True)
        n_stay = self.reviews.n_changed(job.id)
        return f"{taken.undone} of {taken.undone + n_stay} edits taken back" + (
            "; the others were changed since and stay" if n_stay else ""
        )

    def reply(self, id: int | None = None) -> tuple[int, str]:
        """What the model wrote for a job, the last one by default. Raises UserError where it is not known."""
        id = next(reversed(self._replies), 0) if id is None else id
        if id not in self._replies:
            raise UserError(
                f"The reply to job {id} is not kept." if id else "No model has written anything yet."
            )
        return id, self._replies[id]

    async def retry(self, id: int | None = None) -> dict[str, Any]:
        """Take back what is in review of a job, the last one by default; what was asked, for another try.

        Raises UserError for a job that is not remembered, and when the editor refuses.
        """
        id = self._n_jobs if id is None else id
        if id not in self._asked:
            raise UserError(f"There is no job {id} to try again." if id else "Nothing was asked for yet.")
        if id in self._running:
            _, _, task = self._running[id]
            task.cancel()
            await asyncio.wait([task])
        request, text = self._asked[id]
        await self.reviews.undo(Selected(job=id), f"undo {request.title}")
        document = self.documents.get(request.uri)

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

    # Around them.

    def prewarm(self, uri: str, pause_s: float = ASKED_PAUSE_S) -> None:
        """Read ahead what an action on this document would need, after a short pause."""
        if self.contexts.is_allowed(uri) and not self.workspace.is_hidden(uri, self.settings.ignore):
            self.warming.soon(uri, pause_s)

    def estimate(
        self, uri: str, first_line: int = 0, end_line: int = 0, title: str = "", kind: str = ""
    ) -> str:
        """What an action on these lines would probably take, as a title's suffix; empty where unknown."""
        if not self.settings.estimates:
            return ""
        expected = self._expected(uri, first_line, end_line, title, kind)
        return title_suffix(expected) if expected else ""

    def _expected(self, uri: str, first_line: int, end_line: int, title: str, kind: str) -> Span | None:
        """Milliseconds on the target that is read ahead on; None where not known."""
        target = self.targets.by_name.get(self.contexts.ahead_on)
        known = self.history.rates(rates_key(target)) if target else None
        read = self.warming.read(uri)
        if known is None or read is None:
            return None
        n_cached, n_uncached = read
        action = action_name(title, kind, self.settings.actions)
        return estimate_ms(known, n_uncached, n_cached, self._n_selected(uri, first_line, end_line), action)

    def _n_selected(self, uri: str, first_line: int, end_line: int) -> int:
        """Characters of these lines, or of the one with the cursor."""
        document = self.documents.get(uri)
        if document is None:
            return 0
        index = document.index
        first = min(first_line, index.n_lines - 1)
        last = min(max(end_line - 1, first), index.n_lines - 1)
        return index.line_end(last) - index.line_start(first)

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

    def document_opened(self, document: Document) -> None:
        """Find out which files stand near it, and read ahead."""
        self.reviews.catch_up(document.uri)
        self.repository.opened(document.uri)
        self.prewarm(document.uri, OPENED_PAUSE_S)

    def document_changed(self, document: Document) -> None:
        """The user typed: diagnostics that only tell the time have served."""
        self.reviews.catch_up(document.uri)
        self.repository.typed()
        self.prewarm(document.uri, TYPED_PAUSE_S)
        if document.transient and not any(
            job.request.uri == document.uri for job, _, _ in self._running.values()
        ):
            self._clear(document)

    def document_closed(self, document: Document) -> None:
        """End the jobs on it, and take our diagnostics along."""
        for job, running, task in self._running.values():
            if running.target.document is document:
                job.is_closed = True
                task.cancel()
        self.reviews.catch_up(document.uri)
        self._clear(document)

    def _clear(self, document: Document) -> None:
        if document.published:
            document.published = document.transient = False
            self.editor.publish(document.uri, None, [])

    async def shutdown(self) -> None:
        """Cancel everything and detach from the engine, which lives on."""
        self._is_shut_down = True
        tasks: list[asyncio.Task[Any]] = [task for _, _, task in self._running.values()]
        tasks += self.warming.stop()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=2)
        await self.repository.aclose()
        for engine in self.targets.take_clients():
            await engine.aclose()
        if self._closing:
            await asyncio.wait(self._closing, timeout=2)
        await asyncio.to_thread(self.history.close)


async def _close(engine: "EngineClient", users: Sequence[asyncio.Task[Outcome]]) -> None:
    """Detach from an engine once the jobs that use it have ended."""
    if users:
        await asyncio.wait(users)
    await engine.aclose()
