"""The history of requests: stored in the background, and the source of estimates.

A job must never wait for a disk, nor fail because of one, and a menu must not wait for rates to be computed.
So a background thread reads the file at the start, processes the queue, computes the rates and writes. If the
queue is full, further items are dropped; items that cannot be written are logged and dropped.
"""

import logging
import os
import threading
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

from singlepass.stats.estimate import Rates, rates
from singlepass.stats.record import Item, Record

log = logging.getLogger(__name__)

_FILE = "requests.sqlite3"
_ENVIRONMENT_VARIABLE = "SINGLEPASS_STATE_DIR"
_MOST_WAITING = 1000
_N_FOR_ESTIMATES = 200
"""Number of requests that are kept for estimates, over all targets."""


class History:
    """The history of requests. No method except `close` blocks, and none raises."""

    def __init__(self, path: Path | None = None) -> None:
        self.is_on = True
        """Whether the history is written."""
        self._path = path or history_path()
        self._run = uuid.uuid4().hex[:12]
        self._lock = threading.Lock()
        """Held only briefly, and never during disk access."""
        self._waiting: list[tuple[Item, bool]] = []
        """Queued items, and whether each is to be written."""
        self._is_wanted = self._is_loaded = False
        self._thread: threading.Thread | None = None
        """The background thread; None while there is nothing to do. Only it uses `_latest`."""
        self._latest: dict[str, Record] = {}
        """The latest requests by id, from which estimates are computed."""
        self._rates: Mapping[str, Rates | None] = {}

    def id(self, job: int) -> str:
        """The id of a job in the file, which is shared with other servers."""
        return f"{self._run}-{job}"

    def load(self) -> None:
        """Read the file in the background, once."""
        with self._lock:
            self._is_wanted = True
            self._start()

    def add(self, item: Item) -> None:
        """Write the item and use it for estimates, in the background."""
        with self._lock:
            if len(self._waiting) < _MOST_WAITING:
                self._waiting.append((item, self.is_on))
                self._start()

    def rates(self, key: str) -> Rates | None:
        """The current rates of the target with this `rates_key`; None if unknown."""
        return self._rates.get(key)

    def close(self, timeout_s: float = 1.0) -> None:
        """Wait until everything is read and written, at most `timeout_s`."""
        thread = self._thread
        if thread is not None:
            thread.join(timeout_s)

    def _start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="history", daemon=True)
            self._thread.start()

    def _work(self) -> None:
        while True:
            with self._lock:
                batch, self._waiting = self._waiting, []
                loads = self._is_wanted and not self._is_loaded
                if not batch and not loads:
                    self._thread = None
                    return
                self._is_loaded = self._is_loaded or loads
            if loads:
                self._estimate_from(_earlier(self._path))
            self._estimate_from([one for one, _ in batch if isinstance(one, Record)])
            _write(self._path, [one for one, is_kept in batch if is_kept and self.is_on])

    def _estimate_from(self, records: Sequence[Record]) -> None:
        """Add these records to the estimates."""
        self._latest |= {one.id: one for one in records}
        latest = sorted(self._latest.values(), key=lambda one: one.at)[-_N_FOR_ESTIMATES:]
        self._latest = {one.id: one for one in latest}
        changed = {one.rates_key: rates(latest, one.rates_key) for one in records}
        self._rates = {**self._rates, **changed}


def _earlier(path: Path) -> list[Record]:
    """The records of earlier sessions and other servers, for estimates."""
    from singlepass.stats.history_file import (  # late: the editor waits for imports
        HistoryError,
        read,
        remove_old,
    )

    try:
        remove_old(path)
        return read(path, n_most=_N_FOR_ESTIMATES)
    except HistoryError as error:
        log.info("earlier requests are not used for estimates: %s", error)
    except Exception:
        log.exception("earlier requests are not used for estimates")
    return []


def _write(path: Path, items: Sequence[Item]) -> None:
    import sqlite3

    from singlepass.stats.history_file import write

    try:
        write(path, items)
    except (OSError, sqlite3.Error) as error:
        log.info("%d items of the history of requests were not written: %s", len(items), error)
    except Exception:
        log.exception("%d items of the history of requests were not written", len(items))


def known_rates(key: str) -> Rates | None:
    """The rates of the target with this key; reads the file."""
    from singlepass.stats.history_file import HistoryError, read

    try:
        return rates(read(history_path(), n_most=_N_FOR_ESTIMATES), key)
    except HistoryError:
        return None


def history_path() -> Path:
    """The path of the file, which may not exist."""
    return state_dir() / _FILE


def state_dir() -> Path:
    """$SINGLEPASS_STATE_DIR, or the platform's folder for programs' state."""
    if folder := os.environ.get(_ENVIRONMENT_VARIABLE):
        return Path(folder)
    import platformdirs  # here, since the editor waits for our imports

    return platformdirs.user_state_path("singlepass")
