"""The files of a model as listed by the hub: which of them are downloaded, and how they are verified
(sans-IO)."""

import hashlib
import re
from pathlib import PurePosixPath

import msgspec

_WEIGHTS = ".safetensors"
_KEPT = (_WEIGHTS, ".json", ".jinja", ".txt", ".model", ".tiktoken")
_OURS = "singlepass.json"
_TERMS = ("LICENSE", "LICENCE", "NOTICE", "COPYING", "USE_POLICY")
_PART = re.compile(r"-\d{5}-of-\d{5}\.gguf")
"""The names that llama.cpp's gguf-split gives the parts of a file."""


class PullError(Exception):
    """Why a model cannot be downloaded, as a message for users: what happened, and what to do next."""


class HubFile(msgspec.Struct, frozen=True):
    """A file of a repository, as listed by the hub."""

    path: str
    size_bytes: int
    sha256: str = ""
    git_id: str = ""
    """Git's id, for files that are not in LFS: the sha1 of `blob SIZE`, a NUL and the content."""

    @property
    def has_hash(self) -> bool:
        return bool(self.sha256 or self.git_id)


class Listing(msgspec.Struct, frozen=True):
    """Files of a repository at one commit."""

    repo: str
    commit: str
    files: tuple[HubFile, ...]

    @property
    def size_bytes(self) -> int:
        return sum(file.size_bytes for file in self.files)


class Digest:
    """Hashes a file's content, with the kind of hash that the hub lists for it."""

    def __init__(self, file: HubFile) -> None:
        self._file = file
        if file.sha256:
            self._hash = hashlib.sha256()
        else:
            self._hash = hashlib.sha1(b"blob %d\0" % file.size_bytes, usedforsecurity=False)

    def update(self, data: bytes) -> None:
        """Add content."""
        self._hash.update(data)

    @property
    def is_right(self) -> bool:
        return self._hash.hexdigest() == (self._file.sha256 or self._file.git_id)


def gguf_files(listing: Listing, name: str) -> Listing:
    """The GGUF file `name`, or all its parts if it was split, and the licence files.

    Raises PullError if the repository has no such file.
    """
    stem = name.removesuffix(".gguf")
    whole = [file for file in listing.files if file.path == name]
    parts = [
        file
        for file in listing.files
        if file.path.startswith(f"{stem}-") and _PART.fullmatch(file.path.removeprefix(stem))
    ]
    n_parts = {int(file.path[-10:-5]) for file in parts}
    if not whole and n_parts != {len(parts)}:
        others = [file.path for file in listing.files if file.path.endswith(".gguf")]
        there = f"It has {', '.join(others[:8])}" if others else "It has no GGUF file"
        raise PullError(
            f"{listing.repo} has no {name}, or not all its parts: its files were renamed since singlepass "
            f"knew it. {there}. Download one of them yourself and name it as `model` in `[target]`."
        )
    return _checked(listing, [*(whole or sorted(parts, key=lambda file: file.path)), *_terms(listing)])


def mlx_files(listing: Listing) -> Listing:
    """The files of a model folder: weights, configuration, tokenizer, licence. Code files are not downloaded.

    Raises PullError if the repository is not a model folder.
    """
    own = [
        file
        for file in listing.files
        if "/" not in file.path
        and file.path.endswith(_KEPT)
        # mlx-lm looks for this name only, and some repositories have the weights twice.
        and (not file.path.endswith(_WEIGHTS) or file.path.startswith("model"))
    ]
    names = {file.path for file in own}
    if "config.json" not in names or not any(name.endswith(_WEIGHTS) for name in names):
        raise PullError(f"{listing.repo} is no model folder: it has no config.json, or no model*{_WEIGHTS}.")
    return _checked(listing, [*own, *_terms(listing)])


def _terms(listing: Listing) -> list[HubFile]:
    return [
        file
        for file in listing.files
        if PurePosixPath(file.path).stem.upper() in _TERMS and "/" not in file.path
    ]


def _checked(listing: Listing, files: list[HubFile]) -> Listing:
    """`listing` with these files, without duplicates. Raises PullError for an unsafe file name and for a file
    without a hash."""
    for file in files:
        name = file.path
        is_plain = (
            bool(name)
            and name.isprintable()
            and not name.startswith(".")
            and "/" not in name
            and "\\" not in name
        )
        if not is_plain or len(name) > 200 or name.startswith(_OURS) or file.size_bytes < 0:
            raise PullError(
                f"{listing.repo} lists a file with a name that is not used here: {ascii(name)[:200]}."
            )
        if not file.has_hash:
            raise PullError(f"{listing.repo} does not say the hash of {name}, so it could not be checked.")
    return Listing(listing.repo, listing.commit, tuple({file.path: file for file in files}.values()))
