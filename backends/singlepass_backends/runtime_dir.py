"""Where engines keep their sockets, locks and logs: a private folder of this user.

One engine owns the files of one name: `NAME.sock`, `NAME.lock` (held for the engine's life), `NAME.spawn`
((held by a client while it starts one) and `NAME.log`. The name is a hash of what the target means, whatever
the current folder and however its paths and its address are spelled, and of the model files' sizes and times,
so a replaced model file gets a new engine.
"""

import contextlib
import hashlib
import os
import stat
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from singlepass_backends import address
from singlepass_backends.base import BackendError, Target

ENVIRONMENT_VARIABLE = "SINGLEPASS_RUNTIME_DIR"
_MAX_SOCKET_PATH = 100  # macOS allows 104 bytes with the final NUL, Linux 108


@dataclass(frozen=True)
class EnginePaths:
    """The files of one engine."""

    socket: Path

    @property
    def lock(self) -> Path:
        return self.socket.with_suffix(".lock")

    @property
    def spawn_lock(self) -> Path:
        return self.socket.with_suffix(".spawn")

    @property
    def log(self) -> Path:
        return self.socket.with_suffix(".log")


def runtime_dir(folder: Path | None = None) -> Path:
    """The folder, made if need be: `folder`, or $SINGLEPASS_RUNTIME_DIR, or the platform's.

    Raises BackendError `engine_start_failed` where it cannot be made, or is not private to this user.
    """
    if folder is not None:
        return _private(folder)
    if given := os.environ.get(ENVIRONMENT_VARIABLE):
        return _private(Path(given))
    fallback = Path(tempfile.gettempdir()) / f"singlepass-{os.getuid()}"
    platform = _platform_dir()
    if platform is None or len(os.fsencode(platform)) + len("/0123456789abcdef.sock") > _MAX_SOCKET_PATH:
        return _private(fallback)
    try:
        return _private(platform)
    except BackendError:
        return _private(fallback)


def _platform_dir() -> Path | None:
    """The platform's own; None where it has none that is safe."""
    import platformdirs

    with warnings.catch_warnings():
        # Without a login session, as in a container, it would tell the user that it takes another folder.
        warnings.simplefilter("ignore")
        try:
            return Path(platformdirs.user_runtime_dir("singlepass"))
        except OSError:  # what stands in that folder's place is somebody else's
            return None


def _private(folder: Path) -> Path:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.lstat()
    except OSError as error:
        raise BackendError(
            "engine_start_failed",
            f"The folder {folder} for the engine's socket cannot be made: {error.strerror}. "
            f"Set {ENVIRONMENT_VARIABLE} to another.",
        ) from None
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise BackendError(
            "engine_start_failed",
            f"{folder} must be a folder that is yours alone (mode 0700), because whoever can open the "
            f"engine's socket can use it. Remove it, or set {ENVIRONMENT_VARIABLE} to another.",
        )
    return folder


def absolute(target: Target) -> Target:
    """`target` with absolute paths of models: the engine runs in another folder."""
    return _with_paths(target, lambda path: str(path.absolute()))


def identity(target: Target) -> Target:
    """What `target` means: the same for every spelling of its paths, links followed, and of its address."""
    # Another than what is opened: the parts of a model are found beside the name that the user gave.
    target = _with_paths(target, _real)
    if target.backend != "openai_compatible" or target.fault:
        return target
    return msgspec.structs.replace(target, url=address.plain(target.url))


def _with_paths(target: Target, spell: Callable[[Path], str]) -> Target:
    if target.backend == "openai_compatible":  # its model is a name, of the server's
        return target
    return msgspec.structs.replace(target, model=spell(_at_home(target.model)) if target.model else "")


def _at_home(path: str) -> Path:
    try:
        return Path(path).expanduser()
    except RuntimeError:  # `~` and a name that nobody has
        return Path(path)


def _real(path: Path) -> str:
    try:
        return os.path.realpath(path)
    except (OSError, ValueError):  # not a path at all: told in better words when the model is loaded
        return str(path.absolute())


def engine_paths(target: Target, folder: Path | None = None) -> EnginePaths:
    """The files of the engine for `target`. Raises BackendError `engine_start_failed`, see `runtime_dir`."""
    target = identity(target)
    key = msgspec.json.encode(target)
    if target.backend != "openai_compatible" and target.model:
        with contextlib.suppress(OSError, ValueError):  # told in better words when the model is loaded
            status = Path(target.model).stat()
            key += f"{status.st_size} {status.st_mtime_ns}".encode()
    path = runtime_dir(folder) / f"{hashlib.sha256(key).hexdigest()[:16]}.sock"
    if len(os.fsencode(path)) > _MAX_SOCKET_PATH:
        raise BackendError(
            "engine_start_failed",
            f"The path {path} is too long for a socket. Set {ENVIRONMENT_VARIABLE} to a shorter folder.",
        )
    return EnginePaths(path)


def list_engines(folder: Path | None = None) -> list[EnginePaths]:
    """The engines of this user that run, or died without removing their socket."""
    return [EnginePaths(path) for path in sorted(runtime_dir(folder).glob("*.sock"))]
