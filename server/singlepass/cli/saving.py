"""Files as the command line reads and saves them: regular ones only, and all or nothing.

Theory of operation
===================

A draft is a new text for a file, with the bytes that were read when the edit began. `save` goes through four
steps, and only the last of them changes a file:

1. Every file is read again. Where somebody saved it meanwhile, the draft is merged with that; where both
   changed the same lines, or the file is gone, read-only or another one, nothing is written to any file.
2. Every new text is written beside its file, under another name, and flushed to the disk. A full disk shows
   here.
3. Every file but the last gets a second name, by which it can be put back.
4. The new files take the names of the old. If one cannot, those before are put back.

So each file has, at every moment, its old text or its new one. A link stays a link, since drafts know the
file it leads to. Mode, extended attributes and, as far as the system allows it, the owner are kept. Of
several hard links one gets the new text; a file can only be replaced under one of its names.
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
    """Not all was written; the message says what was and what was not."""


class Draft(msgspec.Struct, frozen=True):
    """A new text for a file."""

    path: Path
    """Absolute, without links."""
    read: bytes
    """What the file held when the edit began."""
    text: str
    """Without a byte order mark; the file's own is kept."""


class Saved(msgspec.Struct, frozen=True):
    """A file that has its new text."""

    path: Path
    before: str
    """What it held until then, and now; both without a byte order mark."""
    text: str
    note: str = ""
    """What else there is to say of it, for people."""


@contextlib.contextmanager
def uninterrupted() -> Generator[None]:
    """Delay SIGINT and SIGTERM until the save is complete, so that its result is reported correctly."""
    came: list[int] = []
    before = {one: signal.signal(one, lambda number, _: came.append(number)) for one in _ENDING}
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
        for number in came:
            signal.raise_signal(number)


def save(drafts: Sequence[Draft]) -> list[Saved]:
    """Write all of the drafts, or none. Raises SaveError."""
    checked = _checked(drafts)
    changes = [change for change in checked if change.data != change.before]
    try:
        for change in changes:
            try:
                change.new_file = _write_beside(change.path, change.data)
            except OSError as error:
                problem = f"{shown(change.path)}: a new file beside it cannot be written ({_reason(error)})"
                raise SaveError(_nothing(drafts, [problem])) from None
        _replace_all(changes, drafts)
    finally:
        _discard(changes)
    return [one.saved for one in checked]


class _Change(msgspec.Struct):
    """A draft that is being saved."""

    path: Path
    before: bytes
    """The file's current content."""
    data: bytes
    """The file's new content."""
    saved: Saved
    new_file: Path | None = None
    old_file: Path | None = None
    """The second name of the old file."""


# What can be known before anything is written.


def _checked(drafts: Sequence[Draft]) -> list[_Change]:
    changes: list[_Change] = []
    problems: list[str] = []
    for draft in drafts:
        try:
            changes.append(_check(draft))
        except OSError as error:
            problems.append(f"{shown(draft.path)}: {_reason(error)}")
        except (SaveError, UserError) as error:
            problems.append(str(error))
    if problems:
        raise SaveError(_nothing(drafts, problems))
    return changes


def _check(draft: Draft) -> _Change:
    """Raises OSError, UserError and SaveError."""
    path, name = draft.path, shown(draft.path)
    try:
        status = path.lstat()
    except FileNotFoundError:
        raise SaveError(f"{name} is gone: it was deleted or renamed meanwhile") from None
    if stat.S_ISLNK(status.st_mode) or real_path(path) != path:
        raise SaveError(f"{name} leads to another file now: a link was put in its place meanwhile")
    # Root may write to all files; that this one has no write permission at all is meant for root too.
    if not status.st_mode & 0o222 or not os.access(path, os.W_OK):
        raise SaveError(f"{name} is read-only")
    now = read_edited(path)
    text, note = draft.text, ""
    before = decode_source(now, path).removeprefix(BYTE_ORDER_MARK)
    if now != draft.read:
        base = decode_source(draft.read, path).removeprefix(BYTE_ORDER_MARK)
        merged = merge(base, text, before)
        if isinstance(merged, Conflict):
            raise SaveError(f"{name} was saved meanwhile with other changes {_where(merged)}")
        text, note = merged, "with what was saved there meanwhile"
    try:
        data = (_MARK if now.startswith(_MARK) else b"") + text.encode("utf-8")
    except UnicodeEncodeError:
        raise SaveError(f"the new text of {name} holds half a character, which UTF-8 cannot hold") from None
    if status.st_nlink > 1:
        note += ("; " if note else "") + "its other hard links keep the old text"
    return _Change(path, now, data, Saved(path, before, text, note))


def _where(conflict: Conflict) -> str:
    if conflict.last < conflict.first:
        return f"at line {conflict.first}, where the edit adds lines"
    if conflict.last == conflict.first:
        return f"at line {conflict.first}, which the edit changes too"
    return f"at lines {conflict.first} to {conflict.last}, which the edit changes too"


# Writing.


def _write_beside(path: Path, data: bytes) -> Path:
    """A new file in the same folder, as much like the old one as may be. Raises OSError."""
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
            new.chmod(stat.S_IMODE(status.st_mode) & 0o777)  # no setuid of another's
        os.utime(new)
    except BaseException:
        new.unlink(missing_ok=True)
        raise
    return new


def _replace_all(changes: Sequence[_Change], drafts: Sequence[Draft]) -> None:
    """Rename the new files to their final names, or restore the old files. Raises SaveError."""
    done: list[_Change] = []
    change = None
    try:
        for change in changes[:-1]:
            change.old_file = _second_name(change)
        for change in changes:
            if change.path.is_symlink() or read_edited(change.path) != change.before:
                raise SaveError(f"{shown(change.path)} was saved by somebody else just now; try again")
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
        raise SaveError(_nothing(drafts, [problem], stuck)) from None


def _second_name(change: _Change) -> Path:
    name = change.path.with_name(f".singlepass-{secrets.token_hex(8)}.old")
    try:
        os.link(change.path, name)
    except OSError:  # a file system without hard links
        return _write_beside(change.path, change.before)
    return name


def _put_back(change: _Change) -> tuple[Path, str] | None:
    """Undo one replacement; where that cannot be, the file and what to say of it."""
    if change.new_file is not None:
        return None  # it never took its name
    assert change.old_file is not None
    try:
        change.old_file.replace(change.path)
    except OSError as error:
        kept, change.old_file = change.old_file, None
        told = f"it has its new text and cannot be put back ({_reason(error)}): the old one is in {kept}"
        return change.path, told
    change.old_file = None
    return None


def _discard(changes: Sequence[_Change]) -> None:
    for change in changes:
        for path in (change.new_file, change.old_file):
            if path is not None:
                with contextlib.suppress(OSError):
                    path.unlink(missing_ok=True)


# Words.


def _nothing(drafts: Sequence[Draft], problems: Sequence[str], stuck: Sequence[tuple[Path, str]] = ()) -> str:
    """What was not written, and why; `stuck` are files that could not be put back."""
    lost = [path for path, _ in stuck]
    names = [shown(draft.path) for draft in drafts if draft.path not in lost]
    why = "; ".join(problem.rstrip(".") for problem in problems)
    told = f"Nothing was written to {listed(names, 'or')}: {why}"
    return "; ".join([told, *(f"{shown(path)}: {what}" for path, what in stuck)]) + "."


def listed(names: Sequence[str], word: str) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return f" {word} ".join(part for part in (", ".join(names[:-1]), *names[-1:]) if part)


def _reason(error: OSError) -> str:
    return error.strerror or str(error)
