from collections import Counter

from hypothesis import given
from hypothesis import strategies as st
from singlepass_backends.base import GenerateRequest, PrewarmRequest
from singlepass_backends.engine.scheduler import Job, Scheduler


def foreground(connection: int, id: int) -> Job:
    return Job(connection, id, GenerateRequest(()))


def prewarm(connection: int, id: int) -> Job:
    return Job(connection, id, PrewarmRequest(()))


def test_foreground_is_first_come_first_served_and_before_prewarm() -> None:
    scheduler = Scheduler()
    jobs = [prewarm(1, 1), foreground(1, 2), foreground(2, 3), prewarm(2, 4)]
    for job in jobs:
        scheduler.submit(job)
    taken = []
    while job := scheduler.take():
        taken.append(job.id)
        scheduler.finish()
    assert taken == [2, 3, 1, 4]


def test_foreground_interrupts_prewarm_but_not_foreground() -> None:
    scheduler = Scheduler()
    scheduler.submit(prewarm(1, 1))
    scheduler.take()
    assert not scheduler.must_stop()
    scheduler.submit(foreground(2, 2))
    assert scheduler.must_stop()
    scheduler.finish()
    scheduler.take()
    scheduler.submit(foreground(1, 3))
    scheduler.submit(prewarm(1, 4))
    assert not scheduler.must_stop()


def test_newest_prewarm_of_a_connection_replaces_the_older() -> None:
    scheduler = Scheduler()
    assert scheduler.submit(prewarm(1, 1)) is None
    assert scheduler.submit(prewarm(2, 2)) is None
    replaced = scheduler.submit(prewarm(1, 3))
    assert replaced is not None
    assert replaced.id == 1
    job = scheduler.take()
    assert job is not None
    assert job.id == 2
    scheduler.submit(prewarm(1, 4))
    assert not scheduler.must_stop()  # of another connection
    scheduler.submit(prewarm(2, 5))
    assert scheduler.must_stop()


def test_cancel() -> None:
    scheduler = Scheduler()
    scheduler.submit(foreground(1, 1))
    scheduler.submit(foreground(1, 2))
    scheduler.submit(prewarm(1, 3))
    scheduler.take()
    assert scheduler.cancel(2, 2) is None  # another connection's number 2
    assert scheduler.cancel(1, 2) == foreground(1, 2)
    assert scheduler.cancel(1, 3) == prewarm(1, 3)
    assert not scheduler.must_stop()
    assert scheduler.cancel(1, 1) is None
    assert scheduler.must_stop()
    scheduler.finish()
    assert scheduler.is_idle
    assert scheduler.cancel(1, 1) is None


def test_a_lost_connection_takes_its_jobs_along() -> None:
    scheduler = Scheduler()
    for job in (foreground(1, 1), foreground(2, 2), foreground(1, 3), prewarm(1, 4)):
        scheduler.submit(job)
    scheduler.take()
    scheduler.drop(1)
    assert scheduler.must_stop()
    scheduler.finish()
    assert scheduler.take() == foreground(2, 2)
    scheduler.drop(1)
    assert not scheduler.must_stop()
    assert scheduler.n_queued == 0


OPERATION = st.tuples(
    st.sampled_from(["foreground", "prewarm", "cancel", "drop", "take", "finish"]), st.integers(1, 3)
)


@given(st.lists(OPERATION, max_size=40))
def test_every_job_ends_once_whatever_happens(operations: list[tuple[str, int]]) -> None:
    scheduler = Scheduler()
    open_jobs: dict[int, Job] = {}
    ended: Counter[int] = Counter()
    for id, (operation, connection) in enumerate(operations):
        if operation in ("foreground", "prewarm"):
            job = (foreground if operation == "foreground" else prewarm)(connection, id)
            open_jobs[id] = job
            if replaced := scheduler.submit(job):
                ended[replaced.id] += 1
        elif operation == "cancel":
            mine = [job.id for job in open_jobs.values() if job.connection == connection]
            if mine and (job := scheduler.cancel(connection, mine[0])):
                ended[job.id] += 1
        elif operation == "drop":
            scheduler.drop(connection)
            for job in open_jobs.values():
                if job.connection == connection and job != scheduler.running:
                    ended[job.id] += 1
        elif operation == "take" and scheduler.running is None:
            had_foreground = scheduler.has_foreground
            job = scheduler.take()
            assert job is None or job.is_foreground == had_foreground
        elif operation == "finish" and scheduler.running:
            ended[scheduler.running.id] += 1
            scheduler.finish()
        open_jobs = {id: job for id, job in open_jobs.items() if not ended[id]}
        assert scheduler.n_queued == len(open_jobs) - (scheduler.running is not None)
    assert all(n == 1 for n in ended.values())
