"""Every bad model file has its own error, before llama.cpp sees it."""

import random
import struct
from pathlib import Path

import pytest
from singlepass_backends.base import BackendError
from singlepass_backends.drivers.gguf_header import read_header


def check(path: Path, code: str, *words: str) -> None:
    with pytest.raises(BackendError) as caught:
        read_header(path)
    assert caught.value.code == code
    for word in (str(path), *words):
        assert word in caught.value.message


def test_a_sound_file(random_model: Path) -> None:
    header = read_header(random_model)
    assert header.architecture == "qwen2"
    assert header.metadata["general.name"] == "singlepass random"
    assert header.metadata["qwen2.block_count"] == 2
    assert header.size_bytes == random_model.stat().st_size
    assert header.size_bytes - 32 <= header.needed_bytes <= header.size_bytes


def test_missing(tmp_path: Path) -> None:
    check(tmp_path / "none.gguf", "model_missing", "no model file", "setting `model`")


def test_folder(tmp_path: Path) -> None:
    check(tmp_path, "model_missing", "is a folder")


@pytest.mark.parametrize("content", [b"", b"GG", b"PK\x03\x04 something", b"<html>not found</html>"])
def test_not_a_gguf_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(content)
    check(path, "model_invalid", "not a GGUF file")


def test_truncated_in_the_tensors(tmp_path: Path, random_model: Path) -> None:
    path = tmp_path / "model.gguf"
    data = random_model.read_bytes()
    for n_bytes in (len(data) - 100, len(data) // 2):
        path.write_bytes(data[:n_bytes])
        check(path, "model_invalid", "incomplete", f"{n_bytes:,} bytes of", "Download it again")


def test_truncated_in_the_header(tmp_path: Path, random_model: Path) -> None:
    path = tmp_path / "model.gguf"
    data = random_model.read_bytes()
    for n_bytes in (4, 10, 24, 100, 5000, 20_000):
        path.write_bytes(data[:n_bytes])
        check(path, "model_invalid", "damaged")


@pytest.mark.parametrize(
    "tail",
    [
        struct.pack("<IQQ", 99, 0, 0),
        struct.pack("<IQQ", 3, 2**60, 0),
        struct.pack("<IQQ", 3, 0, 2**63),
        struct.pack("<IQQQ", 3, 0, 1, 2**63) + b"x" * 64,
        struct.pack("<IQQQ1sIIQ", 3, 0, 1, 1, b"k", 9, 0, 2**62) + b"x" * 64,
        struct.pack("<IQQQ1sIIQ", 3, 0, 1, 1, b"k", 9, 9, 3) + b"x" * 64,
    ],
)
def test_lengths_are_not_trusted(tmp_path: Path, tail: bytes) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"GGUF" + tail)
    check(path, "model_invalid", "damaged")


def test_mutated_headers_never_do_worse_than_an_error(tmp_path: Path, random_model: Path) -> None:
    data = random_model.read_bytes()
    path = tmp_path / "model.gguf"
    chance = random.Random(0)
    for _ in range(300):
        mutated = bytearray(data[:40_000])
        for _ in range(chance.randrange(1, 6)):
            mutated[chance.randrange(4, 1200)] = chance.randrange(256)
        path.write_bytes(mutated)
        try:
            read_header(path)
        except BackendError as error:
            assert error.code == "model_invalid"  # noqa: PT017 - most mutations are errors, not all
