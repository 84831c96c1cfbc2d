"""The file of the history of requests: SQLite, small, this user's alone.

It is opened for each batch and closed again, so it may be deleted at any time, and several servers may write
to it. It holds what `Record` has, and is nobody else's to read (0600). Its size is limited twice: by the
number of requests, the oldest of which go, and by SQLite's own limit on pages.
"""

import contextlib
import json
import os
import sqlite3
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from singlepass.core.statistics import Item, Judged, Record

MOST_REQUESTS = 20_000
MOST_BYTES = 16 << 20
_PAGE_BYTES = 4096
_BUSY_S = 5.0
"""Longest wait for another server that writes."""
_VERSION = 1
_SCHEMA = (
    """CREATE TABLE IF NOT EXISTS requests (
    id TEXT PRIMARY KEY, day TEXT, at REAL, repository TEXT, target TEXT, model TEXT, backend TEXT,
    device TEXT, kind TEXT, outcome TEXT, finish_reason TEXT, error TEXT, estimate_ms REAL, connect_ms REAL,
    queue_ms REAL, prefill_ms REAL, ttft_ms REAL, decode_ms REAL, total_ms REAL, n_prompt INTEGER,
    n_cached INTEGER, n_prefilled INTEGER, n_decoded INTEGER, n_forced INTEGER, n_accepted INTEGER, miss TEXT,
    n_missed INTEGER, n_hunks INTEGER, n_applied INTEGER, n_unchanged INTEGER, n_edits INTEGER, rejected TEXT
)""",
    "CREATE INDEX IF NOT EXISTS requests_at ON requests (at)",
    "CREATE TABLE IF NOT EXISTS judgements (request TEXT, kind TEXT, n INTEGER)",
    "CREATE INDEX IF NOT EXISTS judgements_request ON judgements (request)",
)
_JUDGED = {"n_kept": "kept", "n_undone": "undone", "n_changed": "changed"}
"""Fields of a record that come later, when the user judges its edits."""
_COLUMNS = tuple(name for name in Record.__struct_fields__ if name not in _JUDGED)


class NewerFile(sqlite3.Error):
    """It was written by a newer singlepass, whose it stays."""


class JournalError(Exception):
    """The history cannot be read; in words for people."""


def write(path: Path, items: Sequence[Item]) -> None:
    """Add to the file, which is begun anew where it is broken. Raises OSError, sqlite3.Error."""
    if not items:
        return
    try:
        _write(path, items)
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_FULL or path.stat().st_size < MOST_BYTES // 2:
            raise
        _prune(path, MOST_REQUESTS // 4)
        _write(path, items)
    except sqlite3.DatabaseError as error:
        if not _is_broken(error):
            raise
        # SQLite says the same when a disk failed to read once, so it is asked again.
        try:
            _write(path, items)
        except sqlite3.DatabaseError as again:
            if not _is_broken(again):
                raise
            # It is kept for whoever wants to look.
            path.replace(path.with_suffix(".broken"))
            _write(path, items)


def _is_broken(error: sqlite3.DatabaseError) -> bool:
    return error.sqlite_errorcode in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT)


def read(path: Path, since: float = 0.0) -> list[Record]:
    """All requests that ended at `since` (seconds since 1970) or later, the oldest first.

    Raises JournalError.
    """
    if not path.exists():
        return []
    sums = ", ".join(
        f"COALESCE((SELECT SUM(n) FROM judgements WHERE request = id AND kind = '{kind}'), 0) AS {name}"
        for name, kind in _JUDGED.items()
    )
    query = f"SELECT {', '.join(_COLUMNS)}, {sums} FROM requests WHERE at >= ? ORDER BY at"
    try:
        try:
            with _connection(path, is_read_only=True) as connection:
                # Another server has made the file and not yet its tables.
                if _version(connection) == 0:
                    return []
                rows = connection.execute(query, (since,)).fetchall()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_READONLY:
                raise
            # A server died while it wrote. What it left half-written is taken back by the next who may write.
            with _connection(path) as connection:
                rows = connection.execute(query, (since,)).fetchall()
        return [_record(row) for row in rows]
    except (sqlite3.Error, ValueError) as error:
        raise JournalError(
            f"The history in {path} cannot be read: {error}. `singlepass stats --clear` begins a new one."
        ) from None


def clear(path: Path) -> bool:
    """Delete it; whether there was one. Raises OSError."""
    was_there = path.exists()
    for name in (path, path.with_suffix(".broken"), path.with_name(f"{path.name}-journal")):
        name.unlink(missing_ok=True)
    return was_there


@contextlib.contextmanager
def _connection(path: Path, *, is_read_only: bool = False) -> Generator[sqlite3.Connection]:
    uri = f"{path.absolute().as_uri()}?mode={'ro' if is_read_only else 'rw'}"
    connection = sqlite3.connect(uri, timeout=_BUSY_S, uri=True, isolation_level=None)
    try:
        connection.row_factory = sqlite3.Row
        yield connection
    finally:
        connection.close()


def _write(path: Path, items: Sequence[Item]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    with _connection(path) as connection:
        connection.execute(f"PRAGMA max_page_count = {MOST_BYTES // _PAGE_BYTES}")
        connection.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
        connection.execute("BEGIN IMMEDIATE")
        version = _version(connection)
        if version > _VERSION:
            raise NewerFile(f"{path} was written by a newer singlepass")
        if version == 0:
            # In the same transaction: nobody reads a file with half of the tables.
            for statement in _SCHEMA:
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {_VERSION}")
        for item in items:
            _insert(connection, item)
        _keep(connection, MOST_REQUESTS)
        connection.execute("COMMIT")


def _version(connection: sqlite3.Connection) -> int:
    """Which schema the file has; 0 is none yet."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return version


def _insert(connection: sqlite3.Connection, item: Item) -> None:
    if isinstance(item, Judged):
        connection.execute("INSERT INTO judgements VALUES (?, ?, ?)", (item.request, item.kind, item.n))
        return
    values: list[Any] = [getattr(item, name) for name in _COLUMNS]
    values[_COLUMNS.index("rejected")] = json.dumps(item.rejected)
    marks = ", ".join("?" * len(_COLUMNS))
    connection.execute(f"INSERT OR REPLACE INTO requests ({', '.join(_COLUMNS)}) VALUES ({marks})", values)


def _keep(connection: sqlite3.Connection, n_most: int) -> None:
    """Let the oldest go, with what was said of them."""
    found = connection.execute(
        "SELECT at FROM requests ORDER BY at DESC LIMIT 1 OFFSET ?", (n_most,)
    ).fetchone()
    if found is not None:
        connection.execute("DELETE FROM requests WHERE at <= ?", (found["at"],))
        connection.execute("DELETE FROM judgements WHERE request NOT IN (SELECT id FROM requests)")


def _prune(path: Path, n_most: int) -> None:
    """Make room where the file has reached its limit."""
    with _connection(path) as connection:
        connection.execute("BEGIN IMMEDIATE")
        _keep(connection, n_most)
        connection.execute("COMMIT")


def _record(row: sqlite3.Row) -> Record:
    values = {name: row[name] for name in row.keys()}  # noqa: SIM118, a row's iterator gives values
    values["rejected"] = json.loads(values["rejected"])
    return msgspec.convert(values, Record)
