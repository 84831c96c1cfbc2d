"""Saves edited files for the command line: all of them or none.

Theory of operation
===================

A `NewText` is a new text for a file, with the bytes that were read when the edit began. `save` works in four
steps, of which only the last changes files:

1. Every file is read again. If somebody saved it meanwhile, the new text is merged with that version. If both
   changed the same lines, or if a file is gone, read-only or replaced by a link, nothing is written at all.
2. Every new text is written to a temporary file in the same folder and flushed to the disk, so that a full
   disk is noticed here.
3. Every file but the last gets a second name, from which it can be restored.
4. The new files are renamed over the old ones. If one rename fails, the files before it are restored.

So every file has its complete old text or its complete new text at any moment. Links stay links, because
paths are resolved first. Mode, extended attributes and, if the system allows it, the owner are kept. If a
file has several hard links, only the one that was edited gets the new text.
"""

import contextlib
import os
import secrets
import shutil
import signal
import stat
import tempfile
from collections.abc import Generator, Sequence
from pathlib import Path

import msgspec

from singlepass.cli.paths import read_edited, real_path, shown
from singlepass.core.lines import BYTE_ORDER_MARK
from singlepass.core.merge import Conflict, merge
from singlepass.editor.workspace import UserError, decode_source

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_MARK = BYTE_ORDER_MARK.encode()


class SaveError(Exception):
    """Not all files were written; the message says which."""


class NewText(msgspec.Struct, frozen=True):
    """A new text for a file."""

    path: Path
    """Absolute, with all links resolved."""
    read: bytes
    """The content of the file when the edit began."""
    text: str
    """Without a byte order mark; if the file has one, it is kept."""


class Saved(msgspec.Struct, frozen=True):
    """A file that was written."""

    path: Path
    before: str
    """Its text before it was written, without a byte order mark."""
    text: str
    """Its text now, without a byte order mark."""
    note: str = ""
    """Something else that the user should know about it."""


@contextlib.contextmanager
def uninterrupted() -> Generator[None]:
    """Delay SIGINT, SIGTERM and SIGHUP until the files are saved, so that the result is reported
    correctly."""
    came: list[int] = []
    before = {one: signal.signal(one, lambda number, _: came.append(number)) for one in _ENDING}
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
        for number in came:
            signal.raise_signal(number)


def save(texts: Sequence[NewText]) -> list[Saved]:
    """Write all of the texts, or none. Raises SaveError."""
    checked = _checked(texts)
    changes = [change for change in checked if change.data != change.before]
    try:
        for change in changes:
            try:
                change.new_file = _write_beside(change.path, change.data)
            except OSError as error:
                problem = f"{shown(change.path)}: a new file beside it cannot be written ({_reason(error)})"
                raise SaveError(_nothing(texts, [problem])) from None
        _replace_all(changes, texts)
    finally:
        _discard(changes)
    return [one.saved for one in checked]


class _Change(msgspec.Struct):
    """A text that is being saved."""

    path: Path
    before: bytes
    """The file's current content."""
    data: bytes
    """The file's new content."""
    saved: Saved
    new_file: Path | None = None
    old_file: Path | None = None
    """The second name of the old file."""


# Checks before anything is written.


def _checked(texts: Sequence[NewText]) -> list[_Change]:
    changes: list[_Change] = []
    problems: list[str] = []
    for new in texts:
        try:
            changes.append(_check(new))
        except OSError as error:
            problems.append(f"{shown(new.path)}: {_reason(error)}")
        except (SaveError, UserError) as error:
            problems.append(str(error))
    if problems:
        raise SaveError(_nothing(texts, problems))
    return changes


def _check(new: NewText) -> _Change:
    """A change that can be written, merged if necessary. Raises OSError, UserError and SaveError."""
    path, name = new.path, shown(new.path)
    try:
        status = path.lstat()
    except FileNotFoundError:
        raise SaveError(f"{name} was deleted or renamed meanwhile") from None
    if stat.S_ISLNK(status.st_mode) or real_path(path) != path:
        raise SaveError(f"{name} was replaced by a link to another file meanwhile")
    # Root may write to every file; one without any write permission is read-only for root too.
    if not status.st_mode & 0o222 or not os.access(path, os.W_OK):
        raise SaveError(f"{name} is read-only")
    now = read_edited(path)
    text, note = new.text, ""
    before = decode_source(now, path).removeprefix(BYTE_ORDER_MARK)
    if now != new.read:
        base = decode_source(new.read, path).removeprefix(BYTE_ORDER_MARK)
        merged = merge(base, text, before)
        if isinstance(merged, Conflict):
            raise SaveError(f"{name} was saved meanwhile with conflicting changes {_where(merged)}")
        text, note = merged, "merged with changes that were saved meanwhile"
    try:
        data = (_MARK if now.startswith(_MARK) else b"") + text.encode("utf-8")
    except UnicodeEncodeError:
        raise SaveError(f"the new text of {name} has a lone surrogate, which UTF-8 cannot encode") from None
    if status.st_nlink > 1:
        note += ("; " if note else "") + "its other hard links keep the old text"
    return _Change(path, now, data, Saved(path, before, text, note))


def _where(conflict: Conflict) -> str:
    if conflict.last < conflict.first:
        return f"at line {conflict.first}, where the edit inserts lines"
    if conflict.last == conflict.first:
        return f"in line {conflict.first}, which the edit changes too"
    return f"in lines {conflict.first} to {conflict.last}, which the edit changes too"


# Writing.


def _write_beside(path: Path, data: bytes) -> Path:
    """Write a temporary file in the same folder, with the owner, mode and attributes of the old file as far
    as possible. Raises OSError."""
    handle, name = tempfile.mkstemp(prefix=".singlepass-", suffix=".tmp", dir=path.parent)
    new = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        status = path.stat()
        try:
            os.chown(new, status.st_uid, status.st_gid)
            keeps_owner = True
        except PermissionError:
            keeps_owner = False
            with contextlib.suppress(PermissionError):
                os.chown(new, -1, status.st_gid)
        shutil.copystat(path, new)
        if not keeps_owner:
            new.chmod(stat.S_IMODE(status.st_mode) & 0o777)  # no setuid bit if the owner differs
        os.utime(new)
    except BaseException:
        new.unlink(missing_ok=True)
        raise
    return new


def _replace_all(changes: Sequence[_Change], texts: Sequence[NewText]) -> None:
    """Rename the new files to their final names, or restore the old files. Raises SaveError."""
    done: list[_Change] = []
    change = None
    try:
        for change in changes[:-1]:
            change.old_file = _second_name(change)
        for change in changes:
            if change.path.is_symlink() or read_edited(change.path) != change.before:
                raise SaveError(f"{shown(change.path)} was saved by another program just now; try again")
            assert change.new_file is not None
            done.append(change)
            change.new_file.replace(change.path)
            change.new_file = None
    except BaseException as error:
        stuck = [problem for one in reversed(done) if (problem := _put_back(one))]
        if not isinstance(error, (OSError, SaveError, UserError)):
            raise
        name = shown(change.path) if change is not None else ""
        problem = f"{name}: {_reason(error)}" if isinstance(error, OSError) else str(error)
        raise SaveError(_nothing(texts, [problem], stuck)) from None


def _second_name(change: _Change) -> Path:
    name = change.path.with_name(f".singlepass-{secrets.token_hex(8)}.old")
    try:
        os.link(change.path, name)
    except OSError:  # a file system without hard links
        return _write_beside(change.path, change.before)
    return name


def _put_back(change: _Change) -> tuple[Path, str] | None:
    """Restore one file; if that fails, returns its path and a message for the user."""
    if change.new_file is not None:
        return None  # it was not renamed
    assert change.old_file is not None
    try:
        change.old_file.replace(change.path)
    except OSError as error:
        kept, change.old_file = change.old_file, None
        told = f"it has its new text and cannot be restored ({_reason(error)}): the old text is in {kept}"
        return change.path, told
    change.old_file = None
    return None


def _discard(changes: Sequence[_Change]) -> None:
    for change in changes:
        for path in (change.new_file, change.old_file):
            if path is not None:
                with contextlib.suppress(OSError):
                    path.unlink(missing_ok=True)


# Messages.


def _nothing(
    texts: Sequence[NewText], problems: Sequence[str], stuck: Sequence[tuple[Path, str]] = ()
) -> str:
    """The message about the files that were not written, and why. `stuck` are files that could not be
    restored, each with its own message."""
    lost = [path for path, _ in stuck]
    names = [shown(new.path) for new in texts if new.path not in lost]
    why = "; ".join(problem.rstrip(".") for problem in problems)
    told = f"Nothing was written to {listed(names, 'or')}: {why}"
    return "; ".join([told, *(f"{shown(path)}: {what}" for path, what in stuck)]) + "."


def listed(names: Sequence[str], word: str) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return f" {word} ".join(part for part in (", ".join(names[:-1]), *names[-1:]) if part)


def _reason(error: OSError) -> str:
    return error.strerror or str(error)
