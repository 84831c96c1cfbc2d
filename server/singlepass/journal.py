"""The history of requests for `singlepass stats`, as the server writes it: in the background.

A job must never wait for a disk, nor fail because of one. So a thread writes what was handed in, as long as
there is something. When too much is waiting, more is dropped; what the file refuses is logged and forgotten.
"""

import logging
import threading
import uuid
from pathlib import Path

from singlepass.core.statistics import Item
from singlepass.history import state_dir

log = logging.getLogger(__name__)

_FILE = "requests.sqlite3"
_MOST_WAITING = 1000


class Journal:
    """Writes in the background. No method but `close` waits, and none raises."""

    def __init__(self, path: Path | None = None) -> None:
        self.is_on = True
        self._path = path or journal_path()
        self._run = uuid.uuid4().hex[:12]
        self._lock = threading.Lock()
        self._waiting: list[Item] = []
        self._thread: threading.Thread | None = None
        """The one that writes; None while there is nothing to write."""

    def id(self, job: int) -> str:
        """What a job of this server is called in the file, whose other rows are of other servers."""
        return f"{self._run}-{job}"

    def add(self, item: Item) -> None:
        """Have it written some time soon."""
        with self._lock:  # which nobody holds while he writes
            if not self.is_on or len(self._waiting) >= _MOST_WAITING:
                return
            self._waiting.append(item)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="journal", daemon=True)
                self._thread.start()

    def close(self, timeout_s: float = 1.0) -> None:
        """Wait until all is written, but no longer than this."""
        thread = self._thread
        if thread is not None:
            thread.join(timeout_s)

    def _work(self) -> None:
        import sqlite3  # here, since the editor waits for our imports

        from singlepass.journal_file import write

        while True:
            with self._lock:
                batch, self._waiting = self._waiting, []
                if not batch:
                    self._thread = None
                    return
            try:
                write(self._path, batch)
            except (OSError, sqlite3.Error) as error:
                log.info("%d lines of the history of requests are not kept: %s", len(batch), error)
            except Exception:
                log.exception("%d lines of the history of requests are not kept", len(batch))


def journal_path() -> Path:
    """Where it lies, whether or not it is there."""
    return state_dir() / _FILE
