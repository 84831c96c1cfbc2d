"""The file of the history of requests: small, private, whole after whatever happened."""

import contextlib
import os
import sqlite3
import stat
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from records import record as made
from singlepass.stats import history_file
from singlepass.stats.history_file import HistoryError, clear, read, write
from singlepass.stats.record import Judged, Record
from singlepass_backends.base import Timings


def record(number: int = 1, **fields: Any) -> Record:
    return made(**{"id": number, "at": float(number), **fields})


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


def test_every_field_is_kept(path: Path) -> None:
    """Whatever it is: another value of each comes back."""
    timings = {
        name: ("n_prompt",) if name == "inferred" else number + 0.5 if name.endswith("_ms") else number
        for number, name in enumerate(Timings.__struct_fields__, 1)
    }
    others: dict[str, Any] = {"rejected": {"stale": 1}, "timings": Timings(**timings)}
    judged = {"n_kept", "n_undone", "n_changed"}
    for number, name in enumerate(Record.__struct_fields__, 100):
        if name not in others and name not in judged:
            is_number = name == "at" or name.endswith("_ms")
            others[name] = number + 0.5 if is_number else number if name.startswith("n_") else f"a {name}"
    full = Record(**others)
    write(path, [full])
    assert read(path) == [full]


V1 = (
    *("id", "day", "at", "repository", "target", "model", "backend", "device", "kind", "outcome"),
    *("finish_reason", "error", "estimate_ms", "connect_ms", "queue_ms", "prefill_ms", "ttft_ms"),
    *("decode_ms", "total_ms", "n_prompt", "n_cached", "n_prefilled", "n_decoded", "n_forced"),
    *("n_accepted", "miss", "n_missed", "n_hunks", "n_applied", "n_unchanged", "n_edits", "rejected"),
)
"""The columns of 0.1.0."""


def test_a_file_of_an_earlier_version_is_read_and_goes_on(path: Path) -> None:
    path.parent.mkdir()
    with sqlite3.connect(path) as connection:
        connection.execute(f"CREATE TABLE requests ({', '.join(V1)}, PRIMARY KEY (id))")
        connection.execute("CREATE TABLE judgements (request TEXT, kind TEXT, n INTEGER)")
        values = {name: 0 if name.startswith("n_") or name.endswith("_ms") else "" for name in V1}
        values |= {"id": "1", "at": 1.0, "outcome": "done", "n_prompt": 7, "decode_ms": 2.5, "rejected": "{}"}
        marks = ", ".join("?" * len(V1))
        connection.execute(f"INSERT INTO requests VALUES ({marks})", [values[name] for name in V1])
        connection.execute("PRAGMA user_version = 1")
    connection.close()
    (old,) = read(path)
    assert (old.timings.n_prompt, old.timings.decode_ms, old.rates_key, old.other_ms) == (7, 2.5, "", None)
    write(path, [record(2, n_forced=3, action="Simplify")])
    assert read(path) == [old, record(2, n_forced=3, action="Simplify")]


def test_the_latest(path: Path) -> None:
    write(path, [record(number) for number in (3, 1, 4, 2)])
    assert [one.id for one in read(path, n_most=2)] == ["3", "4"]


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
    monkeypatch.setattr(history_file, "MOST_REQUESTS", 3)
    for number in range(1, 6):
        write(path, [record(number), Judged(str(number), "kept", 1)])
    assert [one.id for one in read(path)] == ["3", "4", "5"]
    with sqlite3.connect(path) as connection:
        (n_judged,) = connection.execute("SELECT COUNT(*) FROM judgements").fetchone()
    connection.close()
    assert n_judged == 3


def test_a_file_at_its_limit_makes_room(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history_file, "MOST_BYTES", 64 << 10)
    monkeypatch.setattr(history_file, "MOST_REQUESTS", 200)
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
    with pytest.raises(HistoryError, match="--clear"):
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
    path.with_name("history.jsonl").write_text("of an earlier version")
    assert clear(path)
    assert read(path) == []
    assert [*path.parent.iterdir()] == []


def test_a_reader_never_meets_half_of_a_new_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another window reads before every statement with which one begins the file."""
    met: list[list[Record] | HistoryError] = []
    opened = history_file._connection

    @contextlib.contextmanager
    def watched(path: Path, *, is_read_only: bool = False) -> Generator[sqlite3.Connection]:
        with opened(path, is_read_only=is_read_only) as connection:
            if not is_read_only:
                connection.set_trace_callback(meet)
            yield connection

    def meet(statement: str) -> None:
        try:
            met.append(read(path))
        except HistoryError as error:
            met.append(error)

    monkeypatch.setattr(history_file, "_connection", watched)
    write(path, [record()])
    assert len(met) > 8
    assert met == [[]] * len(met)
    assert read(path) == [record()]
