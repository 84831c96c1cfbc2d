"""Composition of the server's parts: their dependencies and callbacks.

Callbacks between parts are set only here. Listeners for document events are in the lists of `Documents`.
"""

from collections.abc import Sequence
from typing import Any

import anyio

from singlepass.config import DEMO, Problem, Settings
from singlepass.editor.documents import Document, Documents
from singlepass.editor.requests import Editor, Status, tell_status
from singlepass.editor.tasks import Owner, in_thread
from singlepass.editor.workspace import Workspace
from singlepass.engines.contexts import Contexts
from singlepass.engines.prewarm import OPENED_PAUSE_S, Prewarm
from singlepass.engines.targets import Targets
from singlepass.jobs.forecast import Forecast
from singlepass.jobs.jobs import Jobs
from singlepass.jobs.outcome import Job, Outcome
from singlepass.jobs.recording import Recording
from singlepass.jobs.review import Reviews
from singlepass.repository.client import Repository
from singlepass.stats.history import History


class Parts:
    """All parts of a server for one editor."""

    def __init__(self, editor: Editor, documents: Documents | None = None) -> None:
        self.tasks = Owner()
        """Owns the running handlers."""
        self.editor = editor
        self.documents = documents or Documents()
        self.workspace = Workspace()
        self.settings = Settings()
        self.settled = anyio.Event()
        """Set once the editor's settings are known, or that there are none."""
        self._is_demo = False
        """What was last reported to the editor about it."""

        self.history = History()
        self.targets = Targets(lambda: self.workspace.folders, self.history)
        self.repository = Repository(self.workspace, lambda: self.jobs.is_busy)
        self.contexts = Contexts(self.documents, self.workspace, self.targets, self.repository)
        self.forecast = Forecast(self.documents, self.targets, self.contexts)
        self.prewarm = Prewarm(editor, self.contexts, lambda: self.jobs.is_busy, self.settled)
        self.reviews = Reviews(self.documents, self.workspace, editor)
        self.recording = Recording(self.workspace, self.targets, self.history)
        self.jobs = Jobs(
            self.documents,
            self.workspace,
            editor,
            targets=self.targets,
            contexts=self.contexts,
            forecast=self.forecast,
            reviews=self.reviews,
        )

        self.targets.on_loading = self.jobs.tell_loading
        self.targets.on_detached = self.prewarm.detached
        self.repository.on_update = self.prewarm.again
        self.reviews.on_judged = self.recording.judged
        self.reviews.on_told = self._refresh_lenses
        self.jobs.on_end = self._job_ended
        self.documents.on_opened += (self._catch_up, self._find_near, self.prewarm.document_opened)
        self.documents.on_changed += (
            self._catch_up,
            self._note_typing,
            self.prewarm.document_changed,
            self.jobs.document_changed,
        )
        self.documents.on_closed += (self.jobs.document_closed, self._catch_up)

    def configure(self, settings: Settings, problems: Sequence[Problem] = ()) -> None:
        """Apply new settings and their problems; the next job attaches to a changed target."""
        self.settings = settings
        self.targets.configure(settings, problems)
        self.history.is_on = settings.stats
        self.history.load()
        for part in (self.prewarm, self.contexts, self.forecast, self.recording, self.jobs):
            part.settings = settings
        self.repository.configure(settings)

    async def run(self) -> None:
        """Own what runs for this editor, until cancelled."""
        async with anyio.create_task_group() as owners:
            for part in (self, self.editor, self.repository, self.targets, self.prewarm, self.jobs):
                owners.start_soon(part.tasks.run)

    async def aclose(self) -> None:
        """End everything, and detach from the engines, which keep running."""
        await self.prewarm.tasks.aclose()
        await self.jobs.aclose()
        await self.editor.tasks.aclose()
        await self.repository.aclose()
        await self.targets.aclose()
        await in_thread(self.history.close)

    # The workspace.

    def workspace_opened(self) -> None:
        """Index the repository, and prewarm the prefix that all its prompts share."""
        if self.workspace.folders:
            self.repository.open()
            self.prewarm.soon(None, OPENED_PAUSE_S)

    def files_changed(self, *uris: str) -> None:
        """Files were saved, created or deleted: outlines, neighbours and prewarms may be outdated."""
        self.repository.changed(*uris)
        self.prewarm.again()

    def start_anew(self) -> None:
        """Index and prewarm again, with the current settings and folders."""
        self.tell_whether_demo()
        self.workspace_opened()
        for document in reversed([*self.documents.recent()]):  # the last is what is prewarmed
            for listener in self.documents.on_opened:
                listener(document)

    # Targets.

    def select_target(self, name: str | None) -> dict[str, Any]:
        """Select a target, or return to the rules (None); returns all targets. Raises UserError."""
        self.targets.select(name)
        message = f"target: {name}" if name else "the target is chosen for each request"
        tell_status(self.editor, Status("target", message, target=name or self.prewarm.target))
        self.prewarm.again(0)
        return self.list_targets()

    def list_targets(self) -> dict[str, Any]:
        """The targets, and which is selected."""
        return {"selected": self.targets.selected, "targets": self.targets.listed()}

    def tell_whether_demo(self) -> None:
        """Tell the editor when no model is configured, and when one is."""
        is_demo = DEMO in self.targets.by_name
        if is_demo and not self._is_demo:
            status = Status("demo_model", "no model is configured: the demo model edits", target=DEMO)
            tell_status(self.editor, status)
        elif self._is_demo and not is_demo:
            name = next(iter(self.targets.by_name), "")
            status = Status("target", f"target: {name}" if name else "no target can be used", target=name)
            tell_status(self.editor, status)
        self._is_demo = is_demo

    # Adapters between the callbacks of parts.

    def _job_ended(self, job: Job, outcome: Outcome) -> None:
        self.forecast.took(job)
        self.recording.ended(job, outcome)

    def _refresh_lenses(self) -> None:
        if self.settings.code_lenses:
            self.editor.refresh_lenses()

    def _catch_up(self, document: Document) -> None:
        self.reviews.catch_up(document.uri)

    def _find_near(self, document: Document) -> None:
        self.repository.opened(document.uri)

    def _note_typing(self, document: Document) -> None:
        self.repository.typed()
