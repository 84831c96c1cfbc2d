"""What is read of files: regular ones, up to a limit, and never with waiting."""

import errno
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from singlepass.files.regular_file import read_regular


@pytest.mark.parametrize("n", [0, 1, 9, 10])
def test_a_file_up_to_the_limit_is_read_whole(n: int, tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"\r\n\x1a\0" * n)
    for given in (path, str(path)):
        assert read_regular(given, 40) == b"\r\n\x1a\0" * n
    link = tmp_path / "link"
    link.symlink_to(path)
    assert read_regular(link, 40) == b"\r\n\x1a\0" * n


def test_one_byte_more_is_refused_and_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(bytes(41))
    with pytest.raises(OSError, match="more than 40 bytes") as raised:
        read_regular(path, 40)
    assert raised.value.errno == errno.EFBIG
    os.truncate(path, 1 << 40)  # without blocks on the disk
    with pytest.raises(OSError, match="more than 40 bytes"):
        read_regular(path, 40)


@pytest.mark.skipif(sys.platform != "linux", reason="files that the system makes up")
def test_a_size_that_is_not_true_is_not_relied_on() -> None:
    path = Path("/proc/self/status")
    assert path.stat().st_size == 0
    assert b"VmRSS" in read_regular(path, 100_000)
    with pytest.raises(OSError, match="more than 40 bytes"):
        read_regular(path, 40)


def a_pipe(path: Path) -> None:
    os.mkfifo(path)


def a_link_to_a_pipe(path: Path) -> None:
    os.mkfifo(path.parent / "pipe")
    path.symlink_to("pipe")


def a_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def a_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(path))


@pytest.mark.skipif(sys.platform == "win32", reason="files of Unix")
@pytest.mark.parametrize("make", [a_pipe, a_link_to_a_pipe, a_device, a_socket])
def test_what_is_no_regular_file_is_refused_without_waiting(
    make: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # the path of a socket must be short
    path = Path("here")
    make(path)
    with pytest.raises(OSError, match="not a regular file") as raised:
        read_regular(path, 40)
    assert raised.value.errno == errno.EINVAL


@pytest.mark.skipif(sys.platform == "win32", reason="files of Unix")
def test_a_pipe_that_took_the_place_of_the_file_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, pipe = tmp_path / "file", tmp_path / "pipe"
    file.write_bytes(b"x")
    os.mkfifo(pipe)
    looked_at = file.stat()
    monkeypatch.setattr(Path, "stat", lambda path: looked_at)
    with pytest.raises(OSError, match="not a regular file"):
        read_regular(pipe, 40)


def test_what_the_system_says_goes_on(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_regular(tmp_path / "none", 40)
    with pytest.raises(IsADirectoryError, match="folder"):
        read_regular(tmp_path, 40)
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    with pytest.raises(OSError, match="link"):
        read_regular(loop, 40)
    with pytest.raises(ValueError, match="null"):
        read_regular("a\0b", 40)
