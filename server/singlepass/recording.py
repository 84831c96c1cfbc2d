"""What is kept of a job when it has ended: numbers for estimates and for `singlepass stats`, and no code."""

import datetime

from singlepass.config import Settings
from singlepass.core.actions import action_name
from singlepass.core.estimate import Sample
from singlepass.core.statistics import Judged, Judgement
from singlepass.history import History
from singlepass.journal import Journal
from singlepass.outcome import Job, Outcome, record
from singlepass.targets import Targets, rates_key
from singlepass.workspace import Workspace


class Recording:
    """Keeps what jobs took, and what became of their hunks."""

    def __init__(self, workspace: Workspace, targets: Targets, history: History, journal: Journal) -> None:
        self.settings = Settings()
        self._workspace = workspace
        self._targets = targets
        self._history = history
        self._journal = journal

    def ended(self, job: Job, outcome: Outcome) -> None:
        """A job ended by itself or was cancelled."""
        self._add_sample(job)
        folder = self._workspace.folder_of(job.request.uri)
        now = datetime.datetime.now()
        self._journal.add(
            record(
                *(job, outcome),
                id=self._journal.id(job.id),
                day=now.date().isoformat(),
                at=now.timestamp(),
                repository=str(folder) if folder else "",
            )
        )

    def judged(self, job: int, judgement: Judgement, n: int) -> None:
        """The user kept, undid or changed hunks of a job."""
        self._journal.add(Judged(self._journal.id(job), judgement, n))

    def _add_sample(self, job: Job) -> None:
        target, spent, request = self._targets.by_name.get(job.target), job.timings, job.request
        if spent is None or target is None:
            return
        known_ms = job.connect_ms + spent.queue_ms + spent.prefill_ms + spent.decode_ms
        self._history.add(
            Sample(
                rates_key(target),
                spent.n_prefilled,
                spent.prefill_ms,
                spent.n_decoded,
                spent.decode_ms,
                n_cached=spent.n_cached,
                # Where the user was asked meanwhile, it is their time.
                other_ms=None if self.settings.review == "confirm" else max(0.0, job.total_ms - known_ms),
                n_selected=job.n_selected,
                n_task=job.segments[-1].n_tokens if job.segments else None,
                action=action_name(request.title, request.kind, self.settings.actions),
            )
        )
