"""Where engines keep their sockets, locks and logs: a private folder of this user.

Each engine has the files `NAME.sock`, `NAME.lock` (held while the engine lives), `NAME.spawn` (held by a
client while it starts the engine) and `NAME.log`. The name is a hash of the normalized target (independent of
the current folder and of how paths and address are spelled) and of the model files' sizes and times, so a
replaced model file gets a new engine.
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
    """The folder, created if necessary: `folder`, or $SINGLEPASS_RUNTIME_DIR, or the platform's.

    Raises BackendError `engine_start_failed` if it cannot be created, or is not private to this user.
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
    """The platform's runtime folder; None if it has none that is safe."""
    import platformdirs

    with warnings.catch_warnings():
        # Without a login session, as in a container, platformdirs would warn that it uses another folder.
        warnings.simplefilter("ignore")
        try:
            return Path(platformdirs.user_runtime_dir("singlepass"))
        except OSError:  # the folder's path belongs to someone else
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
    """`target` with an absolute model path, since the engine runs in another folder."""
    return _with_paths(target, lambda path: str(path.absolute()))


def identity(target: Target) -> Target:
    """`target` normalized: the same for every spelling of its address and its paths, symbolic links
    resolved, and without what only the server uses."""
    target = msgspec.structs.replace(target, form="auto")
    # Not the path that is opened: the parts of a split model are found beside the path that the user gave.
    target = _with_paths(target, _real)
    if target.backend != "openai_compatible" or target.fault:
        return target
    return msgspec.structs.replace(target, url=address.plain(target.url))


def _with_paths(target: Target, spell: Callable[[Path], str]) -> Target:
    if target.backend == "openai_compatible":  # the model is a name, not a path
        return target
    return msgspec.structs.replace(target, model=spell(_at_home(target.model)) if target.model else "")


def _at_home(path: str) -> Path:
    try:
        return Path(path).expanduser()
    except RuntimeError:  # `~` with an unknown user name
        return Path(path)


def _real(path: Path) -> str:
    try:
        return os.path.realpath(path)
    except (OSError, ValueError):  # not a valid path: loading the model gives a better error
        return str(path.absolute())


def engine_paths(target: Target, folder: Path | None = None) -> EnginePaths:
    """The files of the engine for `target`. Raises BackendError `engine_start_failed`, see `runtime_dir`."""
    target = identity(target)
    key = msgspec.json.encode(target)
    if target.backend != "openai_compatible" and target.model:
        with contextlib.suppress(OSError, ValueError):  # loading the model gives a better error
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
    """This user's engines that are running, or died without removing their socket."""
    return [EnginePaths(path) for path in sorted(runtime_dir(folder).glob("*.sock"))]
