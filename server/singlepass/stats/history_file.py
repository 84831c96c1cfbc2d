"""The file of the history of requests: SQLite, small, readable by this user alone (0600).

It is opened and closed for each batch, so it may be deleted at any time, and several servers may write to it.
A row has the fields of `Record`, or fewer if an earlier version wrote it. The size is limited by the number
of requests (the oldest are deleted) and by SQLite's limit on pages.
"""

import contextlib
import json
import os
import sqlite3
from collections.abc import Generator, Sequence
from pathlib import Path

import msgspec
from singlepass_backends.base import Timings

from singlepass.stats.record import Item, Judged, Record

MOST_REQUESTS = 20_000
MOST_BYTES = 16 << 20
_PAGE_BYTES = 4096
_BUSY_S = 5.0
"""Maximum wait for another server that is writing."""
_VERSION = 1
_SPENT = {name: name for name in Timings.__struct_fields__} | {"total_ms": "engine_ms"}
"""Columns for the fields of `Record.timings`."""
_JUDGED = {"n_kept": "kept", "n_undone": "undone", "n_changed": "changed"}
"""Fields of a record that are added later, when the user decides on its edits."""
_IN_JSON = "rejected", "inferred"
_COLUMNS = (
    *(name for name in Record.__struct_fields__ if name not in _JUDGED and name != "timings"),
    *_SPENT.values(),
)
_SCHEMA = (
    f"CREATE TABLE IF NOT EXISTS requests ({', '.join(_COLUMNS)}, PRIMARY KEY (id))",
    "CREATE INDEX IF NOT EXISTS requests_at ON requests (at)",
    "CREATE TABLE IF NOT EXISTS judgements (request TEXT, kind TEXT, n INTEGER)",
    "CREATE INDEX IF NOT EXISTS judgements_request ON judgements (request)",
)
_OLD_NAME = "history.jsonl"
"""Files of an earlier version, which had its data for estimates in them."""


class NewerFile(sqlite3.Error):
    """The file was written by a newer singlepass and is left unchanged."""


class HistoryError(Exception):
    """The history cannot be read; the message is for users."""


def write(path: Path, items: Sequence[Item]) -> None:
    """Add to the file; a broken file is replaced by a new one. Raises OSError, sqlite3.Error."""
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
        # A temporary read error of the disk looks the same to SQLite, so try again first.
        try:
            _write(path, items)
        except sqlite3.DatabaseError as again:
            if not _is_broken(again):
                raise
            # The broken file is kept for inspection.
            path.replace(path.with_suffix(".broken"))
            _write(path, items)


def _is_broken(error: sqlite3.DatabaseError) -> bool:
    return error.sqlite_errorcode in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT)


def read(path: Path, since: float = 0.0, n_most: int = MOST_REQUESTS) -> list[Record]:
    """The latest requests that ended at `since` (seconds since 1970) or later, the oldest first.

    Raises HistoryError.
    """
    if not path.exists():
        return []
    sums = ", ".join(
        f"COALESCE((SELECT SUM(n) FROM judgements WHERE request = id AND kind = '{kind}'), 0) AS {name}"
        for name, kind in _JUDGED.items()
    )
    query = f"SELECT *, {sums} FROM requests WHERE at >= ? ORDER BY at DESC LIMIT ?"
    try:
        try:
            with _connection(path, is_read_only=True) as connection:
                # Another server has created the file but not yet its tables.
                if _version(connection) == 0:
                    return []
                rows = connection.execute(query, (since, n_most)).fetchall()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_READONLY:
                raise
            # A server died while writing. The next writer rolls its transaction back.
            with _connection(path) as connection:
                rows = connection.execute(query, (since, n_most)).fetchall()
        return [_record(row) for row in reversed(rows)]
    except (sqlite3.Error, ValueError) as error:
        raise HistoryError(
            f"The history in {path} cannot be read: {error}. `singlepass stats --clear` begins a new one."
        ) from None


def clear(path: Path) -> bool:
    """Delete the history; False if there was none. Raises OSError."""
    was_there = path.exists()
    others = path.with_suffix(".broken"), path.with_name(f"{path.name}-journal"), path.with_name(_OLD_NAME)
    for name in (path, *others):
        name.unlink(missing_ok=True)
    return was_there


def remove_old(path: Path) -> None:
    """Delete the files that an earlier version used for estimates."""
    with contextlib.suppress(OSError):
        path.with_name(_OLD_NAME).unlink(missing_ok=True)


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
            # In the same transaction, so that no reader sees only some of the tables.
            for statement in _SCHEMA:
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {_VERSION}")
        there = {row["name"] for row in connection.execute("PRAGMA table_info(requests)")}
        for name in (one for one in _COLUMNS if one not in there):
            connection.execute(f"ALTER TABLE requests ADD COLUMN {name}")
        for item in items:
            _insert(connection, item)
        _keep(connection, MOST_REQUESTS)
        connection.execute("COMMIT")


def _version(connection: sqlite3.Connection) -> int:
    """The file's schema version; 0 if it has none yet."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return version


def _insert(connection: sqlite3.Connection, item: Item) -> None:
    if isinstance(item, Judged):
        connection.execute("INSERT INTO judgements VALUES (?, ?, ?)", (item.request, item.kind, item.n))
        return
    values = msgspec.structs.asdict(item)
    spent = msgspec.structs.asdict(values.pop("timings"))
    values |= {column: spent[name] for name, column in _SPENT.items()}
    values |= {name: json.dumps(values[name]) for name in _IN_JSON}
    marks = ", ".join("?" * len(_COLUMNS))
    row = [values[name] for name in _COLUMNS]
    connection.execute(f"INSERT OR REPLACE INTO requests ({', '.join(_COLUMNS)}) VALUES ({marks})", row)


def _keep(connection: sqlite3.Connection, n_most: int) -> None:
    """Delete the oldest requests and the user's decisions on them."""
    found = connection.execute(
        "SELECT at FROM requests ORDER BY at DESC LIMIT 1 OFFSET ?", (n_most,)
    ).fetchone()
    if found is not None:
        connection.execute("DELETE FROM requests WHERE at <= ?", (found["at"],))
        connection.execute("DELETE FROM judgements WHERE request NOT IN (SELECT id FROM requests)")


def _prune(path: Path, n_most: int) -> None:
    """Delete more of the oldest requests if the file has reached its size limit."""
    with _connection(path) as connection:
        connection.execute("BEGIN IMMEDIATE")
        _keep(connection, n_most)
        connection.execute("COMMIT")


def _record(row: sqlite3.Row) -> Record:
    values = {name: row[name] for name in row.keys() if row[name] is not None}  # noqa: SIM118, of a row
    values |= {name: json.loads(values[name]) for name in _IN_JSON if name in values}
    values["timings"] = {name: values[column] for name, column in _SPENT.items() if column in values}
    return msgspec.convert(values, Record)
