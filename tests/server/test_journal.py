"""The history of requests on disk: written in the background, small, private, and never a reason to fail."""

import contextlib
import os
import re
import sqlite3
import stat
import threading
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from singlepass import journal_file
from singlepass.core.statistics import Judged, Record
from singlepass.journal import Journal
from singlepass.journal_file import JournalError, clear, read, write


def record(number: int = 1, **fields: Any) -> Record:
    values: dict[str, Any] = {"id": str(number), "day": "2026-11-22", "at": float(number), "outcome": "done"}
    return Record(**{**values, **fields})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "requests.sqlite3"


def test_what_is_written_is_read(path: Path) -> None:
    full = record(
        **{"ttft_ms": 12.5, "rejected": {"stale": 2}, "repository": "/w/ä", "model": "m", "n_prompt": 7},
    )
    write(path, [full, record(2, ttft_ms=None)])
    assert read(path) == [full, record(2)]
    assert read(path, since=2.0) == [record(2)]
    assert read(path, since=3.0) == []


def test_every_field_has_a_column(path: Path) -> None:
    write(path, [record()])
    with sqlite3.connect(path) as connection:
        columns = [row[1] for row in connection.execute("PRAGMA table_info(requests)")]
    connection.close()
    judged = {"n_kept", "n_undone", "n_changed"}
    assert columns == [name for name in Record.__struct_fields__ if name not in judged]


def test_the_users_word_comes_later_or_earlier(path: Path) -> None:
    write(path, [Judged("1", "kept", 2)])
    write(path, [record(n_edits=4), record(2)])
    write(path, [Judged("1", "undone", 1), Judged("1", "kept", -1), Judged("1", "changed", 1)])
    one, two = read(path)
    assert (one.n_edits, one.n_kept, one.n_undone, one.n_changed) == (4, 1, 1, 1)
    assert (two.n_kept, two.n_undone, two.n_changed) == (0, 0, 0)


def test_it_is_private(path: Path) -> None:
    write(path, [record()])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_the_oldest_go(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_file, "MOST_REQUESTS", 3)
    for number in range(1, 6):
        write(path, [record(number), Judged(str(number), "kept", 1)])
    assert [one.id for one in read(path)] == ["3", "4", "5"]
    with sqlite3.connect(path) as connection:
        (n_judged,) = connection.execute("SELECT COUNT(*) FROM judgements").fetchone()
    connection.close()
    assert n_judged == 3


def test_a_file_at_its_limit_makes_room(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_file, "MOST_BYTES", 64 << 10)
    monkeypatch.setattr(journal_file, "MOST_REQUESTS", 200)
    for number in range(1, 40):
        write(path, [record(10 * number + i, repository="/" + "x" * 400) for i in range(10)])
        assert path.stat().st_size <= 64 << 10
    found = read(path)
    assert 50 <= len(found) <= 200
    assert found[-1].id == "399"


@pytest.mark.parametrize(
    "content", [b"not a database, but long enough to be looked at" * 50, b"SQLite format 3\0" * 200]
)
def test_a_broken_file_is_begun_anew(content: bytes, path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(JournalError, match="--clear"):
        read(path)
    write(path, [record()])
    assert read(path) == [record()]
    assert path.with_suffix(".broken").read_bytes() == content


def test_a_damaged_page(path: Path) -> None:
    write(path, [record(number, repository="/" + "x" * 500) for number in range(100)])
    content = bytearray(path.read_bytes())
    content[8192:] = os.urandom(len(content) - 8192)
    path.write_bytes(content)
    write(path, [record(1000 + number, repository="/" + "x" * 500) for number in range(100)])
    assert read(path)[-1].id == "1099"


def test_a_newer_file_is_left_alone(path: Path) -> None:
    write(path, [record()])
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(sqlite3.Error, match="newer"):
        write(path, [record(2)])
    assert path.read_bytes() == before


def test_clear(path: Path) -> None:
    assert not clear(path)
    write(path, [record()])
    assert clear(path)
    assert read(path) == []
    assert [*path.parent.iterdir()] == []


def test_the_journal_writes_in_the_background(path: Path) -> None:
    before = {*threading.enumerate()}
    journal = Journal(path)
    assert not path.exists()
    assert {*threading.enumerate()} <= before
    for number in range(20):
        journal.add(record(number, id=journal.id(number)))
    journal.close(10)
    assert [one.id for one in read(path)] == [journal.id(number) for number in range(20)]
    journal.add(record(20))  # it goes on after an end
    journal.close(10)
    assert len(read(path)) == 21


def test_turned_off_it_writes_nothing(path: Path) -> None:
    journal = Journal(path)
    journal.is_on = False
    journal.add(record())
    journal.close(10)
    assert not path.exists()


def test_a_disk_that_refuses_is_no_reason_to_fail(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "state"
    folder.write_text("a file where the folder should be")
    journal = Journal(folder / "requests.sqlite3")
    with caplog.at_level("INFO"):
        journal.add(record())
        journal.close(10)
    assert re.search("1 lines of the history .* not kept", caplog.text)
    assert folder.read_text() == "a file where the folder should be"


def test_a_disk_that_hangs_keeps_nobody(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither those who add, nor the end."""
    released = threading.Event()
    monkeypatch.setattr(journal_file, "write", lambda *_: released.wait(30))
    journal = Journal(path)
    for number in range(3000):  # more than may wait
        journal.add(record(number))
    journal.close(0.01)
    released.set()


def test_two_servers_write_to_one_file(path: Path) -> None:
    journals = [Journal(path) for _ in range(2)]
    for number in range(10):
        for journal in journals:
            journal.add(record(number, id=journal.id(number)))
    for journal in journals:
        journal.close(20)
    assert len({one.id for one in read(path)}) == 20


def test_a_reader_never_meets_half_of_a_new_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another window reads before every statement with which one begins the file."""
    met: list[list[Record] | JournalError] = []
    opened = journal_file._connection

    @contextlib.contextmanager
    def watched(path: Path, *, is_read_only: bool = False) -> Generator[sqlite3.Connection]:
        with opened(path, is_read_only=is_read_only) as connection:
            if not is_read_only:
                connection.set_trace_callback(meet)
            yield connection

    def meet(statement: str) -> None:
        try:
            met.append(read(path))
        except JournalError as error:
            met.append(error)

    monkeypatch.setattr(journal_file, "_connection", watched)
    write(path, [record()])
    assert len(met) > 8
    assert met == [[]] * len(met)
    assert read(path) == [record()]
