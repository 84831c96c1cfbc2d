"""The history of a git repository as what somebody did in an editor.

`sessions` cuts the first-parent history into blocks of consecutive commits and tells each as a script: files
are opened as they were before a commit, its hunks are typed in small batches or asked for, the files are
saved, and so on to the next commit. What a commit changes beside its hunks, and commits that are not
replayed, arrive as a pull does: on disk, and in the documents that are open. The same seed tells the same
scripts.
"""

import random
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

LANGUAGES = "py pyi js jsx mjs ts tsx go rs java c h cc cpp hpp cs rb lua sh kt swift php"
SUFFIXES = frozenset(f".{name}" for name in LANGUAGES.split())
MAX_FILES = 5
"""Source files that a commit may change to be replayed."""
MAX_HUNK_LINES = 40
MAX_HUNKS = 12
"""Of one file."""
MAX_BYTES = 150_000
MAX_OPEN = 8
"""Documents; an editor's user closes what was used longest ago."""
BLOCK = 12
"""Consecutive commits in a session."""
_FINE_CHARS = 120
"""So many characters of a hunk are typed a few at a time; the rest line by line."""


@dataclass(frozen=True)
class Open:
    """A document is opened, or closed."""

    path: str
    text: str


@dataclass(frozen=True)
class Close:
    path: str


@dataclass(frozen=True)
class Change:
    """`start:end` of a document is replaced. `typed` is False where git did it, not the user."""

    path: str
    start: int
    end: int
    new: str
    typed: bool = True


@dataclass(frozen=True)
class Pause:
    """The user looks at a document and does nothing for a moment."""

    path: str


@dataclass(frozen=True)
class Ask:
    """The user wants code actions for some lines, picks one or types an instruction, and gets the reply."""

    path: str
    first_line: int
    end_line: int
    instruction: str
    reply: str


@dataclass(frozen=True)
class Save:
    path: str


@dataclass(frozen=True)
class Disk:
    """Files are written or, with None, removed, by git or by saving them; then the user rests."""

    files: dict[str, str | None]


Moment = Open | Close | Change | Pause | Ask | Save | Disk


@dataclass(frozen=True)
class Hunk:
    """`old` lines from `start` on become `new`; line numbers before any of the commit's changes."""

    start: int
    old: tuple[str, ...]
    new: tuple[str, ...]


@dataclass(frozen=True)
class Commit:
    id: str
    subject: str
    hunks: dict[str, tuple[Hunk, ...]]
    """By path, from top to bottom."""


@dataclass
class Session:
    """A block of commits as a script. The files are those on disk before it."""

    commits: list[str]
    files: dict[str, str]
    moments: list[Moment]


class Git:
    """Reads one repository; never writes."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def run(self, *arguments: str, input: bytes | None = None) -> bytes:
        """The output of a git command."""
        command = ["git", "-C", str(self.path), "-c", "core.quotePath=false", *arguments]
        return subprocess.run(command, input=input, check=True, capture_output=True).stdout

    def history(self) -> list[tuple[str, str, str]]:
        """(commit, first parent, subject), the oldest first, without the root."""
        lines = (
            self.run("log", "--first-parent", "--reverse", "--format=%H%x00%P%x00%s").decode().splitlines()
        )
        rows = [line.split("\0") for line in lines]
        return [(id, parents.split()[0], subject) for id, parents, subject in rows if parents]

    def text(self, commit: str, path: str) -> str | None:
        """A source file as the server would read it; None where there is none."""
        try:
            return _decoded(self.run("cat-file", "blob", f"{commit}:{path}"))
        except subprocess.CalledProcessError:
            return None

    def source_files(self, commit: str) -> dict[str, str]:
        """All source files of a commit."""
        paths = self.run("ls-tree", "-r", "--name-only", "-z", commit).decode().split("\0")
        paths = [path for path in paths if is_source(path) and "\n" not in path]
        names = "".join(f"{commit}:{path}\n" for path in paths).encode()
        output, start, files = self.run("cat-file", "--batch", input=names), 0, dict[str, str]()
        for path in paths:
            end = output.index(b"\n", start) + 1
            size = int(output[start:end].split()[-1])
            text = _decoded(output[end : end + size])
            if text is not None:
                files[path] = text
            start = end + size + 1
        return files

    def changes(self, old: str, new: str) -> dict[str, str]:
        """The status letter of each source file that differs."""
        fields = (
            self.run("diff-tree", "-r", "--no-renames", "--name-status", "-z", old, new).decode().split("\0")
        )
        return {
            path: status for status, path in zip(fields[::2], fields[1::2], strict=False) if is_source(path)
        }

    def hunks(self, old: str, new: str, path: str) -> tuple[Hunk, ...]:
        """The changes of one file."""
        diff = self.run("diff-tree", "-p", "-U0", "--no-renames", "--no-color", old, new, "--", path).decode()
        found: list[Hunk] = []
        start, before, after = 0, list[str](), list[str]()
        _, _, body = diff.partition("\n@@ ")
        for line in [*f"@@ {body}".split("\n"), "@@ -1,0 +1,0 @@"] if body else ():
            if line.startswith("@@ "):
                if before or after:
                    found.append(Hunk(start, tuple(before), tuple(after)))
                place, _, count = line.split(" ")[1][1:].partition(",")
                start, before, after = int(place) - (count != "0"), [], []
            elif line.startswith("-"):
                before.append(line[1:] + "\n")
            elif line.startswith("+"):
                after.append(line[1:] + "\n")
            elif line.startswith("\\"):
                return ()  # no line end at the end of the file
        return tuple(found)


def _decoded(data: bytes) -> str | None:
    if len(data) > MAX_BYTES or b"\0" in data or b"\r" in data:
        return None
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None


def is_source(path: str) -> bool:
    """Whether this is the name of a source file."""
    return PurePosixPath(path).suffix in SUFFIXES and '"' not in path


def replayable(git: Git, id: str, parent: str, subject: str) -> Commit | None:
    """The commit, if it is one that a person could have typed in one go."""
    modified = [path for path, status in git.changes(parent, id).items() if status == "M"]
    if not 1 <= len(modified) <= MAX_FILES or not subject.strip():
        return None
    hunks: dict[str, tuple[Hunk, ...]] = {}
    for path in modified:
        old, new = git.text(parent, path), git.text(id, path)
        found = git.hunks(parent, id, path)
        if old is None or new is None or not 1 <= len(found) <= MAX_HUNKS:
            return None
        lines = _lines(old)
        if any(max(len(hunk.old), len(hunk.new)) > MAX_HUNK_LINES for hunk in found):
            return None
        if any(tuple(lines[hunk.start : hunk.start + len(hunk.old)]) != hunk.old for hunk in found):
            return None
        hunks[path] = found
    return Commit(id, subject.strip(), hunks)


def sessions(git: Git, seed: int) -> Iterator[Session]:
    """The history as sessions in an order that the seed decides, without those that replay no commit."""
    history = git.history()
    starts = list(range(0, len(history), BLOCK))
    random.Random(seed).shuffle(starts)
    for start in starts:
        found = _Teller(git, random.Random(f"{seed} {start}")).tell(history[start : start + BLOCK])
        if found.commits:
            yield found


@dataclass
class _Teller:
    """Tells one session."""

    git: Git
    chance: random.Random
    open: dict[str, str] = field(default_factory=dict[str, str])
    """Texts of the open documents, the one used last at the end."""
    moments: list[Moment] = field(default_factory=list[Moment])

    def tell(self, history: Sequence[tuple[str, str, str]]) -> Session:
        replayed: list[str] = []
        files = self.git.source_files(history[0][1])
        for id, parent, subject in history:
            commit = replayable(self.git, id, parent, subject)
            if commit is not None:
                self._replay(commit, parent)
                replayed.append(id)
            self._pull(parent, id)
        return Session(replayed, files, self.moments)

    def _replay(self, commit: Commit, parent: str) -> None:
        for path in commit.hunks:
            if path not in self.open:
                self._make_room(keep=commit.hunks)
                text = self.git.text(parent, path)
                assert text is not None
                self.open[path] = text
                self.moments.append(Open(path, text))
                self.moments.append(Pause(path))
        shift = dict.fromkeys(commit.hunks, 0)
        before: str | None = None
        for number, (path, hunk) in enumerate(self._visits(commit)):
            self.open[path] = self.open.pop(path)
            start = hunk.start + shift[path]
            if before is not None and before != path and self.chance.random() < 0.5:
                self.moments.append(Save(before))
            before = path
            self.moments.append(Pause(path))  # the user goes there
            if number % 2:
                self._ask(path, start, hunk, commit.subject)
            else:
                self._type(path, start, hunk)
            shift[path] += len(hunk.new) - len(hunk.old)
        for path in commit.hunks:
            assert self.open[path] == self.git.text(commit.id, path), f"{commit.id} {path}"
        self.moments += (Save(path) for path in commit.hunks)
        self.moments.append(Disk({path: self.open[path] for path in commit.hunks}))

    def _visits(self, commit: Commit) -> list[tuple[str, Hunk]]:
        """The hunks, each file's from top to bottom, now in one file and now in another."""
        hunks = {path: list(found) for path, found in commit.hunks.items()}
        if sum(map(len, hunks.values())) == 1:
            ((path, (only,)),) = hunks.items()
            hunks[path] = _halves(only)
            if len(hunks[path]) == 1:  # nothing to type before it is asked for
                hunks[path] = [Hunk(only.start, (), ()), only]
        visits: list[tuple[str, Hunk]] = []
        path = next(iter(hunks))
        while hunks:
            if path not in hunks or self.chance.random() < 0.5:
                path = self.chance.choice(sorted(hunks))
            visits.append((path, hunks[path].pop(0)))
            if not hunks[path]:
                del hunks[path]
        return visits

    def _type(self, path: str, line: int, hunk: Hunk) -> None:
        """What differs is deleted at once, and the new text typed."""
        start = _offset(self.open[path], line)
        old, new = "".join(hunk.old), "".join(hunk.new)
        if old == new:
            return
        before = _common(old, new)
        after = _common(old[before:][::-1], new[before:][::-1])
        if before + after < len(old):
            self._change(path, start + before, start + len(old) - after, "")
            self.moments.append(Pause(path))
        at = start + before
        for batch in self._batches(new[before : len(new) - after]):
            self._change(path, at, at, batch)
            self.moments.append(Pause(path))
            at += len(batch)

    def _batches(self, text: str) -> Iterator[str]:
        n_fine = _FINE_CHARS if self.chance.random() < 0.3 else 0
        while text:
            n = self.chance.randint(1, 8) if n_fine > 0 else text.find("\n") + 1 or len(text)
            yield text[:n]
            text = text[n:]
            n_fine -= n

    def _ask(self, path: str, line: int, hunk: Hunk, instruction: str) -> None:
        """Every other time the lines are selected, with some around them; else the cursor stands there."""
        text = self.open[path]
        lines = _lines(text)
        first = end = min(line, max(0, len(lines) - 1))
        if self.chance.random() < 0.5:
            first = max(0, line - self.chance.randint(0, 8))
            end = min(len(lines), line + len(hunk.old) + self.chance.randint(1, 8))
        old, new = "".join(hunk.old), "".join(hunk.new)
        if not hunk.old and line:
            old, new = lines[line - 1], lines[line - 1] + new
        reply = f"{path}\n<<<<<<< SEARCH\n{old}=======\n{new}>>>>>>> REPLACE\n"
        self.moments.append(Ask(path, first, end, instruction, reply))
        start = _offset(text, line)
        self._change(path, start, start + len("".join(hunk.old)), "".join(hunk.new))
        self.moments.append(Pause(path))

    def _pull(self, old: str, new: str) -> None:
        """What else changed from one commit to the next."""
        changed = {path: self.git.text(new, path) for path in self.git.changes(old, new)}
        for path, text in changed.items():
            if path not in self.open or text == self.open[path]:
                continue
            if text is None:
                self._close(path)
            else:
                now = self.open[path]
                start = _common(now, text)
                end = len(now) - _common(now[start:][::-1], text[start:][::-1])
                self._change(path, start, end, text[start : end + len(text) - len(now)], typed=False)
                self.moments.append(Save(path))
        self.moments.append(Disk(changed))

    def _change(self, path: str, start: int, end: int, new: str, *, typed: bool = True) -> None:
        text = self.open[path]
        self.open[path] = text[:start] + new + text[end:]
        self.moments.append(Change(path, start, end, new, typed))

    def _make_room(self, keep: dict[str, tuple[Hunk, ...]]) -> None:
        closable = [path for path in self.open if path not in keep]
        for path in closable[: max(0, len(self.open) + 1 - MAX_OPEN)]:
            self._close(path)

    def _close(self, path: str) -> None:
        del self.open[path]
        self.moments.append(Close(path))


def _halves(hunk: Hunk) -> list[Hunk]:
    """A hunk in two, the first for typing and the second for asking; in one where it has only a line."""
    n_new, n_old = len(hunk.new) // 2, min(len(hunk.new) // 2, len(hunk.old))
    if not n_new:
        return [hunk]
    first = Hunk(hunk.start, hunk.old[:n_old], hunk.new[:n_new])
    return [first, Hunk(hunk.start + n_old, hunk.old[n_old:], hunk.new[n_new:])]


def _offset(text: str, line: int) -> int:
    return sum(map(len, _lines(text)[:line]))


def _lines(text: str) -> list[str]:
    """With their line feeds, at which git splits too."""
    *lines, last = text.split("\n")
    return [*(line + "\n" for line in lines), *([last] if last else [])]


def _common(a: str, b: str) -> int:
    """Length of the common beginning."""
    n = min(len(a), len(b))
    return next((at for at in range(n) if a[at] != b[at]), n)
