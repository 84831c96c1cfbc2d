"""Downloads a model: interrupted downloads resume, contents are verified, and the model's folder appears only
when complete.

Theory of operation. Everything is written into `NAME.part` beside the final folder; its note lists the files
and the commit. A file is downloaded as `FILE.part` and hashed on the way, and renamed to `FILE` if size and
hash match the hub's. When all files are complete, the folder is renamed. So whatever happens in between (a
broken connection, Ctrl+C, a full disk, a crash), a final name means complete, and the next `pull` resumes: it
reads what exists once, for the hash, and requests the rest.

If the hub has a new version by then, files with the same hash are kept and the others are downloaded again.
"""

import fcntl
import os
import shutil
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Literal

from singlepass_backends.base import BackendError, Target
from singlepass_backends.machine.facts import ModelFacts
from singlepass_backends.machine.fit import size
from singlepass_backends.models import folder as folders
from singlepass_backends.models.catalogue import Entry, Format
from singlepass_backends.models.files import Digest, HubFile, Listing, PullError, gguf_files, mlx_files
from singlepass_backends.models.hub import Hub, Interrupted
from singlepass_backends.opening import check_target, read_model_facts

_CHUNK = 1 << 20
_MARGIN_BYTES = 256 << 20
"""Disk space to leave free."""
_MAX_FAILURES = 6
"""Maximum number of consecutive attempts without a byte received."""
_MAX_WAIT_S = 60.0

Stage = Literal["check", "load", "wait"]
"""Reading an earlier partial download; downloading; waiting to retry."""
Progress = Callable[[Stage, str, int, int], None]
"""Called with the stage, a detail (the file, or the reason for waiting), bytes done and bytes in total."""


class Pulled:
    """A downloaded model."""

    def __init__(self, path: Path, listing: Listing, facts: ModelFacts, *, is_new: bool) -> None:
        self.path = path
        """The path for `model` in the settings."""
        self.listing = listing
        self.facts = facts
        self.is_new = is_new
        """False if it had been downloaded before."""


def pull(
    hub: Hub,
    entry: Entry,
    format: Format,
    progress: Progress,
    *,
    root: Path | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> Pulled:
    """Download what is missing of the model `entry` in `format` to `root`.

    Raises PullError. KeyboardInterrupt propagates; what was received is kept.
    """
    listing = _listing(hub, entry, format)
    final = folders.folder_of(entry, format, root)
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        with _lock(final):
            note = folders.read_note(final)
            is_new = note is None or note.files != listing.files or not folders.is_complete(final, listing)
            if is_new:
                _download(hub, listing, final, progress, sleep)
    except OSError as error:
        raise _disk_error(error, final.parent) from None
    path = folders.model_path(final, listing, format)
    try:
        check_target(Target(model=str(path)))
        facts = read_model_facts(path)
    except BackendError as error:
        raise PullError(
            f"{error.message} Its content is what the hub announced, so this is how it was published: choose "
            "another model."
        ) from None
    return Pulled(path, listing, facts, is_new=is_new)


def _listing(hub: Hub, entry: Entry, format: Format) -> Listing:
    if format == "gguf":
        return gguf_files(hub.files(entry.gguf.repo), entry.gguf.file)
    if entry.mlx is None:
        raise PullError(
            f"{entry.name} has no conversion for MLX that we know of. Pull it as GGUF: --format gguf"
        )
    return mlx_files(hub.files(entry.mlx.repo))


@contextmanager
def _lock(final: Path) -> Generator[None]:
    """Hold the lock of a model's download. Raises PullError if another process has it."""
    with final.with_name(f".{final.name}.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise PullError(
                f"Another `singlepass models pull` is downloading {final.name} just now."
            ) from None
        yield


def _download(
    hub: Hub, listing: Listing, final: Path, progress: Progress, sleep: Callable[[float], None]
) -> None:
    staging = final.with_name(f"{final.name}.part")
    staging.mkdir(exist_ok=True)
    _keep_what_fits(staging, listing)
    folders.write_note(staging, listing)
    have = {
        file.path: min(file.size_bytes, max(_size_of(staging / file.path), _size_of(_part(staging, file))))
        for file in listing.files
    }
    missing = listing.size_bytes - sum(have.values())
    free = shutil.disk_usage(staging).free
    if missing + _MARGIN_BYTES > free:
        raise PullError(
            f"{final.name} needs {size(missing)} more, and the disk of {final.parent} has {size(free)} free. "
            f"Make room, or set {folders.ENVIRONMENT_VARIABLE} to a folder on another disk."
        )
    done = 0
    for file in sorted(
        listing.files, key=lambda file: file.size_bytes
    ):  # small files first, to detect problems early
        if not (staging / file.path).exists():
            _File(hub, listing, file, staging, progress, sleep, done).load()
        done += file.size_bytes
    old = final.with_name(f"{final.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if final.exists():
        final.rename(old)
    staging.rename(final)
    shutil.rmtree(old, ignore_errors=True)


def _keep_what_fits(staging: Path, listing: Listing) -> None:
    """Remove files that do not belong to this version of the model."""
    note = folders.read_note(staging)
    same = set(listing.files) & set(note.files if note else ())
    for path in staging.iterdir():
        if path.name not in {name for file in same for name in (file.path, f"{file.path}.part")}:
            path.unlink()


class _File:
    """The download of one file."""

    def __init__(
        self,
        hub: Hub,
        listing: Listing,
        file: HubFile,
        staging: Path,
        progress: Progress,
        sleep: Callable[[float], None],
        before: int,
    ) -> None:
        """`before` is the number of bytes in the files before this one, for the progress."""
        self._hub, self._listing, self._file = hub, listing, file
        self._path, self._part = staging / file.path, _part(staging, file)
        self._progress, self._sleep, self._before = progress, sleep, before
        self._digest = Digest(file)
        self._have = 0

    def load(self) -> None:
        """Raises PullError, OSError."""
        with self._part.open("ab+") as out:
            resumed = self._read_part(out)
            self._fill(out)
            if not self._digest.is_right and resumed:
                # The earlier part may have been damaged: download the whole file again.
                self._restart(out)
                self._fill(out)
            if not self._digest.is_right:
                self._restart(out)
                raise PullError(
                    f"{self._file.path} is not what the hub announced: its hash differs. It was deleted. Try "
                    "again; if that does not help, something on the network changes what you download."
                )
            os.fsync(out.fileno())
        self._part.rename(self._path)

    def _read_part(self, out: IO[bytes]) -> bool:
        """Hash what an earlier download left; False if nothing."""
        if _size_of(self._part) > self._file.size_bytes:
            out.truncate(0)
        out.seek(0)
        while data := out.read(_CHUNK):
            self._digest.update(data)
            self._have += len(data)
            self._tell("check")
        return self._have > 0

    def _fill(self, out: IO[bytes]) -> None:
        """Download the rest of the file, retrying as long as there is progress."""
        n_failures = 0
        while self._have < self._file.size_bytes:
            before = self._have
            try:
                with self._hub.open(self._listing, self._file, self._have) as stream:
                    if stream.start != self._have:
                        self._restart(out)
                        before = 0
                    for data in stream:
                        self._add(out, data)
                if self._have < self._file.size_bytes:
                    raise Interrupted("it ended too early")
            except Interrupted as error:
                out.flush()
                if error.from_start:
                    self._restart(out)
                n_failures = 1 if self._have > before else n_failures + 1
                if n_failures > _MAX_FAILURES:
                    raise PullError(
                        f"The download of {self._file.path} broke off: {error}. {size(self._have)} of "
                        f"{size(self._file.size_bytes)} are kept; pull again to resume."
                    ) from None
                self._progress("wait", str(error), self._before + self._have, self._listing.size_bytes)
                self._sleep(min(_MAX_WAIT_S, error.wait_s or 0.5 * 2**n_failures))

    def _add(self, out: IO[bytes], data: bytes) -> None:
        if self._have + len(data) > self._file.size_bytes:
            self._restart(out)
            raise PullError(f"{self._file.path} has more bytes than the hub announced. Try again later.")
        out.write(data)
        self._digest.update(data)
        self._have += len(data)
        self._tell("load")

    def _restart(self, out: IO[bytes]) -> None:
        out.seek(0)
        out.truncate(0)
        self._digest, self._have = Digest(self._file), 0

    def _tell(self, stage: Stage) -> None:
        self._progress(stage, self._file.path, self._before + self._have, self._listing.size_bytes)


def _part(staging: Path, file: HubFile) -> Path:
    return staging / f"{file.path}.part"


def _size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _disk_error(error: OSError, folder: Path) -> PullError:
    return PullError(
        f"Writing to {folder} failed: {error.strerror or error}. What was received is kept; fix that, and "
        f"pull again to resume. To use another disk, set {folders.ENVIRONMENT_VARIABLE} to a folder on it."
    )
