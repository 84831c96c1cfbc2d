"""Builds git repositories out of the releases of packages on PyPI, for `replay.py`.

    python benchmarks/history.py FOLDER NAME==VERSION NAME==VERSION …

Each package becomes FOLDER/NAME, its releases in the order given. What changed between two releases is
committed group by group, a group being a module and its tests, so that a commit is about as large as one that
somebody made. The histories are made of releases all the same: nobody typed these commits, and their subjects
only name files. pip downloads the source distributions and asks each for its metadata, which runs code of the
package; nothing of it is installed.
"""

import argparse
import os
import re
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path, PurePosixPath

from editing import MAX_BYTES, MAX_FILES, is_source

_DATE = 1_500_000_000


def download(name: str, version: str, folder: Path) -> Path:
    """The source distribution of a release."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:"]
    command += ["--dest", str(folder), f"{name}=={version}"]
    subprocess.run(command, check=True)
    return next(folder.glob("*.tar.gz"))


def source_files(archive: Path) -> dict[str, str]:
    """The source files in an archive, without the folder they are all in."""
    files: dict[str, str] = {}
    with tarfile.open(archive) as tar:
        for member in tar:
            path = str(PurePosixPath(*PurePosixPath(member.name).parts[1:]))
            if not member.isfile() or member.size > MAX_BYTES or not is_source(path) or ".." in path:
                continue
            stream = tar.extractfile(member)
            assert stream is not None
            try:
                files[path] = stream.read().decode().replace("\r\n", "\n")
            except UnicodeDecodeError:
                continue
    return files


def subject_of(path: str) -> str:
    """What a file is about: its name without what makes it a test."""
    return re.sub(r"^test_|_tests?$", "", PurePosixPath(path).stem)


def groups(old: dict[str, str], new: dict[str, str]) -> list[tuple[str, list[str]]]:
    """The files that differ, by what they are about."""
    found: dict[str, list[str]] = {}
    for path in sorted(old.keys() | new.keys()):
        if old.get(path) != new.get(path):
            found.setdefault(subject_of(path), []).append(path)
    parts = [
        (subject, paths[start : start + MAX_FILES])
        for subject, paths in found.items()
        for start in range(0, len(paths), MAX_FILES)
    ]
    return sorted(parts, key=lambda part: part[1])


class Builder:
    """One repository."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._n_commits = 0
        folder.mkdir(parents=True)
        self._git("init", "--quiet", "--initial-branch=main")

    def commit(self, message: str, files: dict[str, str | None]) -> None:
        """Write files, or with None remove them, and commit that."""
        for path, text in files.items():
            place = self.folder / path
            if text is None:
                place.unlink()
            else:
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_text(text, encoding="utf-8", newline="")
        self._git("add", "--all", "--force")
        self._git("commit", "--quiet", "--allow-empty", f"--message={message}")
        self._n_commits += 1

    def _git(self, *arguments: str) -> None:
        date = f"{_DATE + 3600 * self._n_commits} +0000"
        who = {
            f"GIT_{role}_{field}": "history"
            for role in ("AUTHOR", "COMMITTER")
            for field in ("NAME", "EMAIL")
        }
        environment = {**os.environ, **who, "GIT_AUTHOR_DATE": date, "GIT_COMMITTER_DATE": date}
        command = ["git", "-c", "core.autocrlf=false", "-c", "commit.gpgsign=false", "-C", str(self.folder)]
        subprocess.run([*command, *arguments], check=True, env=environment)


def build(folder: Path, name: str, versions: list[str]) -> None:
    """One package's repository."""
    builder = Builder(folder / name)
    old: dict[str, str] = {}
    for version in versions:
        with tempfile.TemporaryDirectory(prefix="sp-history-") as downloads:
            new = source_files(download(name, version, Path(downloads)))
        parts = groups(old, new) if old else [("first release", sorted(new))]
        for subject, paths in parts:
            names = ", ".join(dict.fromkeys(PurePosixPath(path).name for path in paths)) if old else subject
            builder.commit(f"{name} {version}: {names}", {path: new.get(path) for path in paths})
        old = new
        print(f"{name} {version}: {len(parts)} commits", file=sys.stderr)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("releases", nargs="+", metavar="NAME==VERSION")
    given = parser.parse_args()
    packages: dict[str, list[str]] = {}
    for release in given.releases:
        name, _, version = release.partition("==")
        packages.setdefault(name, []).append(version)
    for name, versions in packages.items():
        build(given.folder, name, versions)


if __name__ == "__main__":
    main()
