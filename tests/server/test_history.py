"""The history of requests in a server: in the background, never a reason to fail, and used by estimates."""

import re
import threading
from pathlib import Path

import pytest
from records import record, sample
from singlepass.stats import history_file
from singlepass.stats.history import History, known_rates
from singlepass.stats.history_file import read, write
from singlepass.stats.record import Judged


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SINGLEPASS_STATE_DIR", str(tmp_path / "state"))
    return tmp_path / "state" / "requests.sqlite3"


KEY = "model on CPU"


def test_it_writes_in_the_background(path: Path) -> None:
    before = {*threading.enumerate()}
    history = History()
    assert not path.exists()
    assert {*threading.enumerate()} <= before
    for number in range(20):
        history.add(record(history.id(number), at=float(number)))
    history.close(10)
    assert [one.id for one in read(path)] == [history.id(number) for number in range(20)]
    history.add(record(20))  # it goes on after an end
    history.close(10)
    assert len(read(path)) == 21


def test_what_a_job_took_is_known_to_the_next_server(path: Path) -> None:
    history = History()
    history.add(sample(KEY, 1000, 500.0, 100, 2000.0))
    history.close(10)
    following = History()
    assert following.rates(KEY) is None  # nobody waits for the disk
    following.load()
    following.close(10)
    for known in (history.rates(KEY), following.rates(KEY), known_rates(KEY)):
        assert known is not None
        assert (known.prefill, known.decode, known.n_reply) == (2000.0, 50.0, 100)
    assert following.rates("another model") is None


def test_what_comes_before_the_file_is_read_counts_too(path: Path) -> None:
    write(path, [sample(KEY, 1000, 500.0, 100, 2000.0, id=number, at=float(number)) for number in range(3)])
    history = History()
    for number in (3, 4):
        history.add(sample(KEY, 1000, 100.0, 100, 2000.0, id=number, at=float(number)))
    history.load()
    history.add(sample(KEY, 1000, 50.0, 100, 2000.0, id=5, at=5.0))
    history.close(10)
    known = history.rates(KEY)
    assert known is not None
    assert [one.id for one in known.records] == ["0", "1", "2", "3", "4", "5"]


def test_estimates_follow_the_latest_requests(path: Path) -> None:
    write(
        path, [sample(KEY, 1000, 9000.0, 100, 2000.0, id=number, at=float(number)) for number in range(500)]
    )
    history = History()
    history.load()
    for number in range(500, 650):
        history.add(sample(KEY, 1000, 500.0, 100, 2000.0, id=number, at=float(number)))
        history.close(10)
    known = history.rates(KEY)
    assert known is not None
    assert [one.id for one in known.records] == [str(number) for number in range(450, 650)]
    assert known.prefill == 2000.0


def test_of_requests_that_were_stopped_no_estimate_is_made(path: Path) -> None:
    history = History()
    history.add(sample(KEY, 1000, 500.0, 100, 2000.0, finish_reason="", outcome="cancelled"))
    history.add(Judged("1", "kept", 1))
    history.close(10)
    assert history.rates(KEY) is None
    assert known_rates(KEY) is None


def test_turned_off_it_writes_nothing(path: Path) -> None:
    history = History()
    history.is_on = False
    history.load()
    history.add(sample(KEY, 1000, 500.0, 100, 2000.0))
    history.close(10)
    assert not path.exists()
    assert history.rates(KEY) is not None  # for as long as it runs


def test_the_file_of_an_earlier_version_goes(path: Path) -> None:
    path.parent.mkdir()
    old = path.with_name("history.jsonl")
    old.write_text('{"target":"m"}\n')
    history = History()
    history.close(10)
    assert old.exists()
    history.load()
    history.close(10)
    assert not old.exists()


def test_a_broken_file_costs_the_estimates_from_it(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path.parent.mkdir()
    path.write_bytes(b"not a database, but long enough to be looked at" * 50)
    assert known_rates(KEY) is None
    history = History()
    with caplog.at_level("INFO"):
        history.load()
        history.close(10)
    assert "earlier requests are not used for estimates" in caplog.text
    history.add(sample(KEY, 1000, 500.0, 100, 2000.0))
    history.close(10)
    assert history.rates(KEY) is not None
    assert len(read(path)) == 1


def test_a_disk_that_refuses_is_no_reason_to_fail(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path.parent.write_text("a file where the folder should be")
    history = History()
    with caplog.at_level("INFO"):
        history.load()
        history.add(sample(KEY, 1000, 500.0, 100, 2000.0))
        history.close(10)
    assert re.search("1 lines of the history .* not kept", caplog.text)
    assert path.parent.read_text() == "a file where the folder should be"
    assert history.rates(KEY) is not None


@pytest.mark.parametrize("call", ["read", "write"])
def test_a_disk_that_hangs_keeps_nobody(call: str, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither those who add or ask, nor the end."""
    released = threading.Event()
    monkeypatch.setattr(history_file, call, lambda *_, **__: released.wait(30) and [])
    history = History()
    history.load()
    for number in range(3000):  # more than may wait
        history.add(record(number))
    assert history.rates(KEY) is None
    history.close(0.01)
    released.set()


def test_two_servers_write_to_one_file(path: Path) -> None:
    histories = [History() for _ in range(2)]
    for number in range(10):
        for history in histories:
            history.add(record(history.id(number), at=float(number)))
    for history in histories:
        history.close(20)
    assert len({one.id for one in read(path)}) == 20
