"""Notices when other requests evict a finished prewarm from the KV cache.

The client that asked for a prewarm shows its document as warm and estimates times from that, so it must be
notified of an eviction.
"""

from collections.abc import Iterator

from singlepass_backends.base import Backend, Evicted, Segment
from singlepass_backends.engine.scheduler import Job
from singlepass_backends.wire import PrewarmEvicted

_MAX_WATCHED = 16


class Evictions:
    """Tracks the last prewarm of each connection. Used by the model thread only, between two jobs."""

    def __init__(self) -> None:
        self._watched: dict[int, tuple[int, tuple[Segment, ...], int]] = {}
        """By connection: the prewarm's id, its segments, and the number of their cached tokens."""

    def after(self, job: Job, backend: Backend, *, is_done: bool) -> Iterator[tuple[int, PrewarmEvicted]]:
        """After a job ended (completed if `is_done`): its evictions, with the connections to notify."""
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
