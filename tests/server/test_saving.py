"""Files of an edit on disk: all of them get their new text or none does, whatever happens in between."""

import errno
import os
import signal
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from singlepass.cli import saving
from singlepass.cli.paths import model_path, read_edited, real_path
from singlepass.cli.saving import NewText, Saved, SaveError, save
from singlepass.editor.workspace import UserError

OLD, NEW = "one\ntwo\nthree\nfour\n", "one\n2\nthree\nfour\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return real_path(tmp_path)


def draft(path: Path, new: str = NEW, old: str = OLD) -> NewText:
    """A new text for a file, which is written with the old one where it is not there."""
    if not path.exists():
        path.write_bytes(old.encode())
    return NewText(path, old.encode(), new)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_the_file_is_stays(folder: Path) -> None:
    real = folder / "real.sh"
    one = draft(real)
    real.chmod(0o751)
    os.utime(real, (1, 1))
    link = folder / "link.sh"
    link.symlink_to("real.sh")
    if hasattr(os, "setxattr"):
        try:
            os.setxattr(real, "user.note", b"mine")
        except OSError:
            pytest.skip("no extended attributes here")
    assert save([one]) == [Saved(real, OLD, NEW)]
    assert real.read_text() == NEW
    assert stat.S_IMODE(real.stat().st_mode) == 0o751
    assert real.stat().st_mtime > 1
    assert link.is_symlink()
    assert link.read_text() == NEW
    if hasattr(os, "getxattr"):
        assert os.getxattr(real, "user.note") == b"mine"
    assert names(folder) == ["link.sh", "real.sh"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_the_owner_stays(folder: Path) -> None:
    one = draft(folder / "a.py")
    os.chown(one.path, 1234, 2345)
    save([one])
    assert (one.path.stat().st_uid, one.path.stat().st_gid) == (1234, 2345)


def test_a_name_as_long_as_names_may_be(folder: Path) -> None:
    drafts = [draft(folder / (letter * 255)) for letter in "ab"]
    save(drafts)
    assert [one.path.read_text() for one in drafts] == [NEW, NEW]


def test_other_hard_links_keep_the_old_text_and_that_is_said(folder: Path) -> None:
    one = draft(folder / "a.py")
    (folder / "b.py").hardlink_to(one.path)
    (found,) = save([one])
    assert found.note == "its other hard links keep the old text"
    assert ((folder / "a.py").read_text(), (folder / "b.py").read_text()) == (NEW, OLD)


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("eol", ["\n", "\r\n"])
def test_what_was_saved_meanwhile_is_kept(folder: Path, mark: bytes, eol: str) -> None:
    path = folder / "a.py"
    old, new = OLD.replace("\n", eol), NEW.replace("\n", eol)
    path.write_bytes(mark + f"{old}five{eol}".encode())
    (found,) = save([NewText(path, mark + old.encode(), new)])
    assert path.read_bytes() == mark + f"{new}five{eol}".encode()
    assert found.note == "merged with changes that were saved meanwhile"
    assert (found.before, found.text) == (f"{old}five{eol}", f"{new}five{eol}")


def remove(path: Path) -> None:
    path.unlink()


def put_a_link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def put_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def put_a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def loop(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.name)


def lock(path: Path) -> None:
    path.chmod(0o444)


def write(data: bytes) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        path.write_bytes(data)

    return change


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (remove, "was deleted or renamed meanwhile"),
        (put_a_link, "was replaced by a link to another file meanwhile"),
        (loop, "was replaced by a link to another file meanwhile"),
        (put_a_folder, "is a folder"),
        (put_a_pipe, "is a named pipe; only a regular file can be edited"),
        (lock, "is read-only"),
        (
            write(OLD.replace("two", "zwei").encode()),
            "conflicting changes in line 2, which the edit changes too",
        ),
        (write(b"\xff\n"), "is not UTF-8 text"),
        (write(b""), "conflicting changes "),
    ],
)
def test_one_file_that_cannot_be_written_leaves_all_as_they_are(
    folder: Path, change: Callable[[Path], None], why: str
) -> None:
    drafts = [draft(folder / "a.py"), draft(folder / "b.py"), draft(folder / "c.py")]
    change(drafts[1].path)
    before = names(folder)
    with pytest.raises(SaveError) as raised:
        save(drafts)
    told = str(raised.value)
    assert told.startswith(
        f"Nothing was written to {folder / 'a.py'}, {folder / 'b.py'} or {folder / 'c.py'}: "
    )
    assert f"{folder / 'b.py'} " in told.partition(": ")[2]
    assert why in told
    assert (folder / "a.py").read_text() == (folder / "c.py").read_text() == OLD
    assert names(folder) == before


def test_every_problem_is_named(folder: Path) -> None:
    drafts = [draft(folder / "a.py"), draft(folder / "b.py")]
    lock(drafts[0].path)
    remove(drafts[1].path)
    with pytest.raises(SaveError, match=r"a\.py is read-only; .*b\.py was deleted"):
        save(drafts)


def test_half_a_character_is_not_written(folder: Path) -> None:
    with pytest.raises(SaveError, match="lone surrogate"):
        save([draft(folder / "a.py", "one\n\ud83d\n")])
    assert (folder / "a.py").read_text() == OLD


def test_what_somebody_saved_just_like_that_is_left_alone(folder: Path) -> None:
    one = draft(folder / "a.py", old=OLD)
    one.path.write_text(NEW)
    before = one.path.stat()
    save([one])
    assert one.path.stat().st_ino == before.st_ino
    assert one.path.stat().st_mtime_ns == before.st_mtime_ns


@pytest.mark.parametrize("call", ["fsync", "chmod", "utime"])
def test_a_new_text_that_cannot_be_written_beside_its_file(
    folder: Path, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a full disk, the second time."""
    drafts = [draft(folder / "a.py"), draft(folder / "b.py")]
    real, calls = getattr(os, call), []

    def full(*arguments: object, **named: object) -> object:
        calls.append(arguments)
        if len(calls) > 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(*arguments, **named)

    monkeypatch.setattr(os, call, full)
    with pytest.raises(SaveError, match=r"cannot be written \(No space left on device\)"):
        save(drafts)
    assert [one.path.read_text() for one in drafts] == [OLD, OLD]
    assert names(folder) == ["a.py", "b.py"]


class Replaces:
    """`os.replace`, which fails at some calls, counted from 1, and does something before another."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, *failing: int, error: BaseException | None = None
    ) -> None:
        self.real, self.n, self.failing = os.replace, 0, failing
        self.error = error or OSError(errno.EACCES, os.strerror(errno.EACCES))
        self.before: dict[int, Callable[[], object]] = {}
        monkeypatch.setattr(os, "replace", self)

    def __call__(self, source: Path, destination: Path) -> None:
        self.n += 1
        self.before.get(self.n, lambda: None)()
        if self.n in self.failing:
            raise self.error
        self.real(source, destination)


@pytest.mark.parametrize("has_links", [True, False])
@pytest.mark.parametrize("failing", [1, 2, 3])
def test_files_that_were_replaced_before_one_could_not_be_are_put_back(
    folder: Path, failing: int, has_links: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    drafts = [draft(folder / name) for name in ("a.py", "b.py", "c.py")]
    for one in drafts:
        one.path.chmod(0o640)
    if not has_links:  # as on some network shares and memory cards
        monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(PermissionError(1, "no links")))
    Replaces(monkeypatch, failing)
    with pytest.raises(
        SaveError, match=f"Nothing was written to .*: .*{'abc'[failing - 1]}.py: Permission denied"
    ):
        save(drafts)
    assert [one.path.read_text() for one in drafts] == [OLD, OLD, OLD]
    assert {stat.S_IMODE(one.path.stat().st_mode) for one in drafts} == {0o640}
    assert names(folder) == ["a.py", "b.py", "c.py"]


def test_what_cannot_be_put_back_is_said_with_the_place_of_the_old_text(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drafts = [draft(folder / name) for name in ("a.py", "b.py")]
    Replaces(monkeypatch, 2, 3)
    with pytest.raises(SaveError) as raised:
        save(drafts)
    told = str(raised.value)
    assert told.startswith(f"Nothing was written to {folder / 'b.py'}: ")
    assert f"{folder / 'a.py'}: it has its new text and cannot be restored" in told
    (kept,) = (path for path in folder.iterdir() if path.suffix == ".old")
    assert f"the old text is in {kept}" in told
    assert (kept.read_text(), (folder / "a.py").read_text(), (folder / "b.py").read_text()) == (OLD, NEW, OLD)


def test_an_interruption_puts_back_too(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drafts = [draft(folder / name) for name in ("a.py", "b.py")]
    Replaces(monkeypatch, 2, error=KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        save(drafts)
    assert [one.path.read_text() for one in drafts] == [OLD, OLD]
    assert names(folder) == ["a.py", "b.py"]


def test_a_file_that_is_saved_at_the_last_moment_is_not_overwritten(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drafts = [draft(folder / name) for name in ("a.py", "b.py")]
    replaces = Replaces(monkeypatch)
    replaces.before[1] = lambda: (folder / "b.py").write_text("theirs\n")
    with pytest.raises(SaveError, match=r"b\.py was saved by another program just now; try again"):
        save(drafts)
    assert ((folder / "a.py").read_text(), (folder / "b.py").read_text()) == (OLD, "theirs\n")


def test_only_regular_files_are_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(folder / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        monkeypatch.chdir(folder)
        listener.bind("socket")
        for name, kind in (("pipe", "a named pipe"), ("socket", "a socket"), ("/dev/zero", "a device")):
            with pytest.raises(UserError, match=f"is {kind}; only a regular file can be edited"):
                read_edited(folder / name)
            with pytest.raises(UserError, match=f"is {kind}; only a regular file can be a model"):
                model_path(folder / name)
    with pytest.raises(UserError, match="is a folder"):
        read_edited(folder)
    monkeypatch.setattr("singlepass.cli.paths.MAX_BYTES", 10)
    (folder / "large").write_text("x" * 11)
    with pytest.raises(UserError, match="too large to edit"):
        read_edited(folder / "large")


def test_signals_wait_for_the_end_of_a_save() -> None:
    done: list[str] = []

    def work() -> None:
        with saving.uninterrupted():
            signal.raise_signal(signal.SIGINT)
            done.append("all of it")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == ["all of it"]
