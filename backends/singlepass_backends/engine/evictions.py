"""What became of prewarms that ended: other requests may take their place in the KV cache.

Who asked for one shows it to the user, as a document that is warm and as the time that an action will take.
So it is told when that is true no more.
"""

from collections.abc import Iterator

from singlepass_backends.base import Backend, Evicted, Segment
from singlepass_backends.engine.scheduler import Job
from singlepass_backends.wire import PrewarmEvicted

_MAX_WATCHED = 16


class Evictions:
    """The last prewarm of each connection. For the model thread only, between two jobs."""

    def __init__(self) -> None:
        self._watched: dict[int, tuple[int, tuple[Segment, ...], int]] = {}
        """By connection: the prewarm's id, its segments, and how many of their tokens are cached."""

    def after(self, job: Job, backend: Backend, *, is_done: bool) -> Iterator[tuple[int, PrewarmEvicted]]:
        """A job ended, by itself or not; what it evicted, for each connection that it concerns."""
        if not job.is_foreground:
            self._watched.pop(job.connection, None)  # a newer one takes its place
        for connection, (id, segments, n_before) in self._watched.items():
            n_cached = _n_cached(segments, backend)
            self._watched[connection] = id, segments, n_cached
            if n_cached < n_before:
                yield connection, PrewarmEvicted(id, Evicted(n_before - n_cached))
        if is_done and not job.is_foreground:
            segments = job.work.segments
            self._watched[job.connection] = job.id, segments, _n_cached(segments, backend)
            if len(self._watched) > _MAX_WATCHED:
                del self._watched[next(iter(self._watched))]


def _n_cached(segments: tuple[Segment, ...], backend: Backend) -> int:
    return sum(use.n_cached for use in backend.inspect(segments))
