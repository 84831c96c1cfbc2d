"""Adds jobs to the history when they have ended: numbers for estimates and `singlepass stats`, no code."""

import datetime

from singlepass.config import Settings
from singlepass.core.actions import action_name
from singlepass.editor.workspace import Workspace
from singlepass.engines.targets import Targets, rates_key
from singlepass.jobs.outcome import Job, Outcome, record
from singlepass.stats.history import History
from singlepass.stats.record import Judged, Judgement


class Recording:
    """Records jobs and the user's decisions on their hunks."""

    def __init__(self, workspace: Workspace, targets: Targets, history: History) -> None:
        self.settings = Settings()
        self._workspace = workspace
        self._targets = targets
        self._history = history

    def ended(self, job: Job, outcome: Outcome) -> None:
        """A job ended or was cancelled."""
        request, target = job.request, self._targets.by_name.get(job.target)
        folder = self._workspace.folder_of(request.uri)
        self._history.add(
            record(
                *(job, outcome),
                id=self._history.id(job.id),
                ended=datetime.datetime.now(),
                repository=str(folder) if folder else "",
                rates_key=rates_key(target) if target else "",
                action=action_name(request.title, request.kind, self.settings.actions),
            )
        )

    def judged(self, job: int, judgement: Judgement, n: int) -> None:
        """The user kept, undid or changed hunks of a job."""
        self._history.add(Judged(self._history.id(job), judgement, n))
