"""Which job runs on the model next (sans-IO).

Theory of operation. The model runs one job at a time. Foreground requests (a user is waiting) run in order of
arrival. A prewarm runs only if no foreground request is queued, and is interrupted as soon as one arrives.
Each connection has at most one prewarm, queued or running: a newer one replaces it, because its document has
changed. An interrupted prewarm is not resumed; what it prefilled stays cached.
"""

from collections import deque
from dataclasses import dataclass

from singlepass_backends.base import GenerateRequest, PrewarmRequest
from singlepass_backends.stop_flag import StopFlag


@dataclass(frozen=True)
class Job:
    """One request of one connection."""

    connection: int
    id: int
    work: GenerateRequest | PrewarmRequest
    arrived: float = 0.0
    """Time of arrival, by `time.perf_counter()`."""

    @property
    def is_foreground(self) -> bool:
        return isinstance(self.work, GenerateRequest)


class Scheduler:
    """The queue and the running job. Not thread-safe: the model's thread may only read `must_stop`."""

    def __init__(self) -> None:
        self._foreground: deque[Job] = deque()
        self._prewarms: dict[int, Job] = {}  # by connection, oldest first
        self._running: Job | None = None
        self.must_stop = StopFlag()
        """Set while the running job should end as soon as possible."""

    @property
    def running(self) -> Job | None:
        return self._running

    @property
    def n_queued(self) -> int:
        return len(self._foreground) + len(self._prewarms)

    @property
    def has_foreground(self) -> bool:
        """Whether a foreground request is queued or running."""
        return bool(self._foreground) or (self._running is not None and self._running.is_foreground)

    @property
    def is_idle(self) -> bool:
        return self._running is None and self.n_queued == 0

    def submit(self, job: Job) -> Job | None:
        """Queue `job`. Returns the queued prewarm that it replaces, if any."""
        running = self._running
        if job.is_foreground:
            self._foreground.append(job)
            if running and not running.is_foreground:
                self.must_stop.set()
            return None
        if running and not running.is_foreground and running.connection == job.connection:
            self.must_stop.set()
        replaced = self._prewarms.pop(job.connection, None)
        self._prewarms[job.connection] = job
        return replaced

    def cancel(self, connection: int, id: int) -> Job | None:
        """Interrupt the job if it is running. If it was only queued, remove and return it."""
        if self._running and (self._running.connection, self._running.id) == (connection, id):
            self.must_stop.set()
            return None
        for job in [*self._foreground, *self._prewarms.values()]:
            if (job.connection, job.id) == (connection, id):
                self._forget(job)
                return job
        return None

    def drop(self, connection: int) -> None:
        """The connection was lost: remove its queued jobs and interrupt its running one."""
        for job in [*self._foreground, *self._prewarms.values()]:
            if job.connection == connection:
                self._forget(job)
        if self._running and self._running.connection == connection:
            self.must_stop.set()

    def take(self) -> Job | None:
        """The next job, which runs from now until `finish`."""
        if self._foreground:
            job = self._foreground.popleft()
        elif self._prewarms:
            job = self._prewarms.pop(next(iter(self._prewarms)))
        else:
            return None
        self._running = job
        self.must_stop.clear()
        return job

    def finish(self) -> None:
        """The running job ended."""
        self._running = None
        self.must_stop.clear()

    def _forget(self, job: Job) -> None:
        if job.is_foreground:
            self._foreground.remove(job)
        else:
            del self._prewarms[job.connection]
