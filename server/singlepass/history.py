"""What jobs took on this machine, kept over restarts: a line of JSON a job, of numbers and the model's name.

It is what estimates are made of. Losing it costs nothing but the first estimates, so anything wrong with the
file is logged and forgotten.
"""

import logging
import os
from collections import deque
from pathlib import Path

import msgspec

from singlepass.core.estimate import Rates, Sample, rates

log = logging.getLogger(__name__)

_KEPT = 200
_ENVIRONMENT_VARIABLE = "SINGLEPASS_STATE_DIR"


class History:
    """The latest jobs. Read at the first use, so that starting the server waits for no disk."""

    def __init__(self) -> None:
        self._samples: deque[Sample] | None = None
        self._rates: dict[str, Rates | None] = {}

    def add(self, sample: Sample) -> None:
        """Remember a finished job."""
        samples = self._load()
        samples.append(sample)
        self._rates[sample.target] = rates(samples, sample.target)  # now, and not when a menu waits for it
        path = _path()
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            # Once in a while the file is written anew with what is still of use.
            if path.exists() and path.stat().st_size > 100 * _KEPT * 4:
                temporary = path.with_suffix(f".{os.getpid()}")
                temporary.write_bytes(b"".join(msgspec.json.encode(one) + b"\n" for one in samples))
                temporary.replace(path)
            else:
                with path.open("ab") as file:
                    file.write(msgspec.json.encode(sample) + b"\n")
        except OSError as error:
            log.info("what the job took is not kept: %s", error)

    def rates(self, target: str) -> Rates | None:
        """What is known of a target's speed."""
        if target not in self._rates:
            self._rates[target] = rates(self._load(), target)
        return self._rates[target]

    def _load(self) -> deque[Sample]:
        if self._samples is None:
            self._samples = deque(maxlen=_KEPT)
            try:
                lines = _path().read_bytes().splitlines()[-_KEPT:]
            except OSError:
                lines = []
            for line in lines:
                try:
                    self._samples.append(msgspec.json.decode(line, type=Sample))
                except msgspec.MsgspecError:
                    log.debug("a line of the history is left out")
        return self._samples


def state_dir() -> Path:
    """$SINGLEPASS_STATE_DIR, or the platform's folder for what programs remember."""
    if folder := os.environ.get(_ENVIRONMENT_VARIABLE):
        return Path(folder)
    import platformdirs  # here, since the editor waits for our imports

    return platformdirs.user_state_path("singlepass")


def _path() -> Path:
    return state_dir() / "history.jsonl"
