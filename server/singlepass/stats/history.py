"""The history of requests: kept in the background, and the source of estimates.

A job must never wait for a disk, nor fail because of one, and a menu must not wait for rates to be computed.
So one thread reads the file at the start, takes what is handed in as long as there is something, computes
the rates and writes. When too much is waiting, more is dropped; what the file refuses is logged and
forgotten.
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
"""The latest requests, of all targets together."""


class History:
    """No method but `close` waits, and none raises."""

    def __init__(self, path: Path | None = None) -> None:
        self.is_on = True
        """Whether anything is written."""
        self._path = path or history_path()
        self._run = uuid.uuid4().hex[:12]
        self._lock = threading.Lock()
        """Held for moments only, and never while a disk is waited for."""
        self._waiting: list[tuple[Item, bool]] = []
        """What is handed in, and whether it is to be written."""
        self._is_wanted = self._is_loaded = False
        self._thread: threading.Thread | None = None
        """The one that works; None while there is nothing to do. Only it touches `_latest`."""
        self._latest: dict[str, Record] = {}
        """The latest requests by their id, which estimates are made of."""
        self._rates: Mapping[str, Rates | None] = {}

    def id(self, job: int) -> str:
        """What a job of this server is called in the file, whose other rows are of other servers."""
        return f"{self._run}-{job}"

    def load(self) -> None:
        """Have the file read some time soon, once."""
        with self._lock:
            self._is_wanted = True
            self._start()

    def add(self, item: Item) -> None:
        """Have it written and used for estimates some time soon."""
        with self._lock:
            if len(self._waiting) < _MOST_WAITING:
                self._waiting.append((item, self.is_on))
                self._start()

    def rates(self, key: str) -> Rates | None:
        """What is known by now of the speed of the target with this `rates_key`."""
        return self._rates.get(key)

    def close(self, timeout_s: float = 1.0) -> None:
        """Wait until all is read and written, but no longer than this."""
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
        """Take these into account too."""
        self._latest |= {one.id: one for one in records}
        latest = sorted(self._latest.values(), key=lambda one: one.at)[-_N_FOR_ESTIMATES:]
        self._latest = {one.id: one for one in latest}
        changed = {one.rates_key: rates(latest, one.rates_key) for one in records}
        self._rates = {**self._rates, **changed}


def _earlier(path: Path) -> list[Record]:
    """The requests of other servers that estimates are made of."""
    from singlepass.stats.history_file import (  # late: the editor waits for imports
        HistoryError,
        read,
        remove_old,
    )

    try:
        remove_old(path)
        return read(path, n_most=_N_FOR_ESTIMATES)
    except HistoryError as error:
        log.info("no estimate is made of earlier requests: %s", error)
    except Exception:
        log.exception("no estimate is made of earlier requests")
    return []


def _write(path: Path, items: Sequence[Item]) -> None:
    import sqlite3

    from singlepass.stats.history_file import write

    try:
        write(path, items)
    except (OSError, sqlite3.Error) as error:
        log.info("%d lines of the history of requests are not kept: %s", len(items), error)
    except Exception:
        log.exception("%d lines of the history of requests are not kept", len(items))


def known_rates(key: str) -> Rates | None:
    """What the history knows of the speed of the target with this key; reads the file."""
    from singlepass.stats.history_file import HistoryError, read

    try:
        return rates(read(history_path(), n_most=_N_FOR_ESTIMATES), key)
    except HistoryError:
        return None


def history_path() -> Path:
    """Where the file lies, whether or not it is there."""
    return state_dir() / _FILE


def state_dir() -> Path:
    """$SINGLEPASS_STATE_DIR, or the platform's folder for what programs remember."""
    if folder := os.environ.get(_ENVIRONMENT_VARIABLE):
        return Path(folder)
    import platformdirs  # here, since the editor waits for our imports

    return platformdirs.user_state_path("singlepass")
