"""Saved prefixes on disk: the state of the repository's segments, for later engine processes.

A file is

    magic (8 bytes)   digest (32 bytes)   size of the header (4 bytes)   header   state   checkpoints

The digest is blake2b over everything after it, because runtimes load a damaged state without an error. Files
are written under a temporary name and renamed. Errors are logged and cost a prefill, but are never raised.

A `Store` is used by one thread, its owner. Its writer thread only touches the files; it reports those that it
removed through a queue, which the owner reads before it uses its index.
"""

import contextlib
import hashlib
import logging
import os
import queue
import struct
import tempfile
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from singlepass_backends.generation.cache.misses import Known
from singlepass_backends.generation.cache.prefix import CheckpointKind, common_prefix
from singlepass_backends.generation.driver import State

ENVIRONMENT_VARIABLE = "SINGLEPASS_CACHE_DIR"
MAX_BYTES = 4 << 30
"""Maximum total size of saved prefixes; the oldest are deleted first."""

_MAGIC = b"sp-kv\x00\x00\x01"  # the last byte is the version
_SIZE = struct.Struct(">I")
_START = len(_MAGIC) + 32
_MAX_HEADER_BYTES = 16 << 20
_ABANDONED_S = 3600.0

_log = logging.getLogger(__name__)


class SavedCheckpoint(msgspec.Struct, frozen=True):
    """A checkpoint's position and size."""

    position: int
    n_bytes: int
    kind: CheckpointKind


class _Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    key: str
    tokens: bytes
    n_state: int
    checkpoints: tuple[SavedCheckpoint, ...] = ()
    known: tuple[Known, ...] = ()


@dataclass(frozen=True)
class Prefix:
    """A saved prefix."""

    tokens: list[int]
    state: State
    checkpoints: tuple[tuple[SavedCheckpoint, State], ...] = ()
    known: tuple[Known, ...] = ()


class _Unusable(Exception):
    pass


def cache_dir() -> Path:
    """$SINGLEPASS_CACHE_DIR, or the platform's."""
    if given := os.environ.get(ENVIRONMENT_VARIABLE):
        return Path(given)
    import platformdirs

    return Path(platformdirs.user_cache_dir("singlepass"))


class Store:
    """The saved prefixes of one model with one set of parameters."""

    def __init__(self, folder: Path, key: str, max_bytes: int = MAX_BYTES) -> None:
        """`key` identifies model and parameters (`Driver.state_key`). Reads the headers of the existing
        files."""
        self._folder = folder
        self._key = key
        self._name = hashlib.blake2b(key.encode(), digest_size=10).hexdigest()
        self._max_bytes = max_bytes
        self._tokens: dict[Path, list[int]] = {}
        """The index; used by the owner's thread only."""
        self._gone: queue.SimpleQueue[Path] = queue.SimpleQueue()
        """Files that the writer removed, or could not write."""
        self._writer: threading.Thread | None = None
        self.known: list[Known] = []
        """The segments that earlier engines had cached when they saved."""
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            status = folder.stat()
            if status.st_uid != os.getuid() or status.st_mode & 0o077:
                raise _Unusable("it must be a folder that is yours alone (mode 0700)")
            found = sorted(folder.glob(f"{self._name}-*.prefix"), key=lambda path: path.stat().st_mtime)
        except (OSError, _Unusable) as error:
            _log.warning("no prefixes are saved in %s: %s", folder, error)
            self._max_bytes = 0
            return
        for path in found:
            self._index(path)

    def best(self, prompt: Sequence[int], *, can_trim: bool) -> tuple[Path, int] | None:
        """The saved prefix with the most reusable tokens for `prompt`, and their number. Without `can_trim` a
        prefix is usable as a whole or up to one of its checkpoints. The header is not verified before
        `load`."""
        self._hear()
        found = {path: common_prefix(tokens, prompt) for path, tokens in self._tokens.items()}
        path = max(found, key=found.__getitem__, default=None)
        if path is None or found[path] == 0 or (not can_trim and found[path] < len(self._tokens[path])):
            whole = [path for path, n in found.items() if n == len(self._tokens[path])]
            path = max(whole, key=found.__getitem__, default=None)
        return (path, found[path]) if path else None

    def n_saved(self, tokens: Sequence[int]) -> int:
        """How many of `tokens` are saved, possibly as part of a longer prefix."""
        self._hear()
        return max((common_prefix(saved, tokens) for saved in self._tokens.values()), default=0)

    def load(self, path: Path) -> Prefix | None:
        """Load the prefix in `path`; None if the file is damaged or gone, and then it is removed."""
        self.wait()
        if path not in self._tokens:  # removed to make room for a newer one
            return None
        try:
            prefix = parse(path.read_bytes(), self._key)
            with contextlib.suppress(OSError):
                os.utime(path)
            return prefix
        except (OSError, MemoryError, _Unusable) as error:
            self.reject(path, str(error))
            return None

    def reject(self, path: Path, reason: str) -> None:
        """Remove `path`, which cannot be used."""
        _log.warning("the saved prefix %s cannot be used (%s): it is prefilled again", path, reason)
        self._tokens.pop(path, None)
        with contextlib.suppress(OSError):
            path.unlink()

    def save(self, prefix: Prefix) -> None:
        """Write `prefix` in the writer thread; see `wait`. Removes shorter saved prefixes of it."""
        self.wait()
        n_bytes = len(prefix.state) + sum(len(data) for _, data in prefix.checkpoints)
        if n_bytes > self._max_bytes:
            return
        data = _tokens_to_bytes(prefix.tokens)
        name = hashlib.blake2b(data, digest_size=10).hexdigest()
        path = self._folder / f"{self._name}-{name}.prefix"
        obsolete = [
            other
            for other, tokens in self._tokens.items()
            if other != path and common_prefix(tokens, prefix.tokens) == len(tokens)
        ]
        self._tokens = {key: value for key, value in self._tokens.items() if key not in obsolete}
        self._tokens[path] = list(prefix.tokens)
        self._writer = threading.Thread(target=self._write, args=(path, prefix, obsolete), name="store")
        self._writer.start()

    def wait(self) -> None:
        """Wait until the running save is done."""
        if self._writer is not None:
            self._writer.join()
            self._writer = None
        self._hear()

    def _hear(self) -> None:
        """Process the writer's reports."""
        with contextlib.suppress(queue.Empty):
            while True:
                self._tokens.pop(self._gone.get_nowait(), None)

    def _index(self, path: Path) -> None:
        try:
            with path.open("rb") as file:
                start = file.read(_START + _SIZE.size)
                header = _header(start + file.read(min(_header_size(start), _MAX_HEADER_BYTES)), self._key)
        except (OSError, _Unusable) as error:
            self.reject(path, str(error))
            return
        self._tokens[path] = _bytes_to_tokens(header.tokens)
        self.known = [*header.known]

    # On the writer's thread.

    def _write(self, path: Path, prefix: Prefix, obsolete: Iterable[Path]) -> None:
        temporary: str | None = None
        start = time.perf_counter()
        try:
            parts = assemble(prefix, self._key)
            for other in obsolete:
                other.unlink(missing_ok=True)
            self._make_room(sum(map(len, parts)), path)
            descriptor, temporary = tempfile.mkstemp(".tmp", "sp-", self._folder)  # with mode 0600
            with os.fdopen(descriptor, "wb") as file:
                for part in parts:
                    file.write(part)
            Path(temporary).replace(path)
        except Exception as error:
            _log.warning("a prefix of %d tokens is not saved: %s", len(prefix.tokens), error)
            self._gone.put(path)
            if temporary is not None:
                with contextlib.suppress(OSError):
                    Path(temporary).unlink()
            return
        elapsed = (time.perf_counter() - start) * 1e3
        _log.info("saved a prefix of %d tokens in %.0f ms", len(prefix.tokens), elapsed)

    def _make_room(self, n_bytes: int, path: Path) -> None:
        """Remove the oldest files, of any model, until `n_bytes` more fit into the budget, and temporary
        files of processes that died."""
        for left in self._folder.glob("sp-*.tmp"):
            if time.time() - left.stat().st_mtime > _ABANDONED_S:
                left.unlink(missing_ok=True)
        files = [(other.stat(), other) for other in self._folder.glob("*.prefix") if other != path]
        files.sort(key=lambda file: file[0].st_mtime)
        n_total = sum(status.st_size for status, _ in files)
        for status, other in files:
            if n_total + n_bytes <= self._max_bytes:
                break
            other.unlink(missing_ok=True)
            self._gone.put(other)
            n_total -= status.st_size


def assemble(prefix: Prefix, key: str) -> list[State]:
    """The content of a file, in parts."""
    header = msgspec.msgpack.encode(
        _Header(
            key=key,
            tokens=_tokens_to_bytes(prefix.tokens),
            n_state=len(prefix.state),
            checkpoints=tuple(where for where, _ in prefix.checkpoints),
            known=prefix.known,
        )
    )
    body: list[State] = [
        _SIZE.pack(len(header)),
        header,
        prefix.state,
        *(data for _, data in prefix.checkpoints),
    ]
    return [_MAGIC, _digest(body), *body]


def parse(data: bytes, key: str) -> Prefix:
    """The inverse of `assemble`. Raises `_Unusable` for invalid data."""
    view = memoryview(data)
    if data[: len(_MAGIC)] != _MAGIC:
        raise _Unusable("it is not a saved prefix of this version")
    if _digest([view[_START:]]) != data[len(_MAGIC) : _START]:
        raise _Unusable("its checksum does not match")
    header = _header(data, key)
    at = _START + _SIZE.size + _header_size(data)
    state = view[at : at + header.n_state]
    at += header.n_state
    checkpoints: list[tuple[SavedCheckpoint, State]] = []
    for where in header.checkpoints:
        checkpoints.append((where, bytes(view[at : at + where.n_bytes])))
        at += where.n_bytes
    if at != len(data):
        raise _Unusable("its size is wrong")
    return Prefix(_bytes_to_tokens(header.tokens), state, tuple(checkpoints), header.known)


def _header_size(data: bytes) -> int:
    if data[: len(_MAGIC)] != _MAGIC or len(data) < _START + _SIZE.size:
        raise _Unusable("it is not a saved prefix of this version")
    return int(_SIZE.unpack_from(data, _START)[0])


def _header(data: bytes, key: str) -> _Header:
    at = _START + _SIZE.size
    try:
        header = msgspec.msgpack.decode(data[at : at + _header_size(data)], type=_Header)
    except (msgspec.MsgspecError, ValueError) as error:  # the latter for text that is not UTF-8
        raise _Unusable(f"its header is broken: {error}") from None
    if header.key != key:
        raise _Unusable("it is of another model")
    return header


def _digest(parts: Iterable[State]) -> bytes:
    digest = hashlib.blake2b(digest_size=32)
    for part in parts:
        digest.update(part)
    return digest.digest()


def _tokens_to_bytes(tokens: Sequence[int]) -> bytes:
    return struct.pack(f"<{len(tokens)}i", *tokens)


def _bytes_to_tokens(data: bytes) -> list[int]:
    return list(struct.unpack(f"<{len(data) // 4}i", data[: len(data) // 4 * 4]))
