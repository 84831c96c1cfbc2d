"""Whether an edit is what was asked for: its check, run where it does no harm, and what had to stay."""

import functools
import itertools
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from difflib import SequenceMatcher
from pathlib import Path

import msgspec
import quality_look
from quality_tasks import Span, Task

CPU_S = 10
_MOST_S = 30
_HERE = Path(__file__).parent
_SHOWN = 300
"""Characters of what a check said at its end."""


class Verdict(msgspec.Struct, frozen=True):
    """What there is to say of the files in the end."""

    passed: bool
    """Whether it is what was asked for."""
    outside: int
    """Lines with text that were changed and that nobody asked about."""
    why: str = ""
    """What is wrong."""
    blank: int = 0
    """Empty lines that came or went where nobody asked for it: untidy, and no harm."""

    @property
    def right(self) -> bool:
        """What was asked for, and nothing else."""
        return self.passed and not self.outside


def judge(task: Task, files: Mapping[str, str]) -> Verdict:
    """Look at the files of a task after an edit."""
    found = [n_outside(task.files[path], files[path], task.scope.get(path, ())) for path in task.files]
    outside, blank = sum(n for n, _ in found), sum(n for _, n in found)
    passed, why = _passed(task, files)
    return Verdict(passed, outside, why, blank)


def _passed(task: Task, files: Mapping[str, str]) -> tuple[bool, str]:
    if task.nothing:
        is_same = all(files[path] == task.files[path] for path in task.files)
        return is_same, "" if is_same else "nothing was to be changed"
    if files == task.files:
        return False, "nothing was changed"
    broken = [path for path in files if not quality_look.parses(files[path], path)]
    if broken:
        return False, f"{broken[0]} is no code any more"
    why = passes(task, files)
    return not why, why


def passes(task: Task, files: Mapping[str, str]) -> str:
    """What the check of the task says against the files; nothing where they are right."""
    if not (task.check or task.node or task.program):
        results = (task.reference, *task.accepted)
        if any(all(_is_same(files[path], one[path], path) for path in one) for one in results):
            return ""
        return "it is none of the results that are accepted"
    if task.program:
        return run_check(task, files, f"{files[task.edited]}\n\n{task.program}\n", is_program=True)
    why = run_check(task, files, task.check) if task.check else ""
    return why or (run_check(task, files, node=task.node) if task.node else "")


def _is_same(one: str, other: str, path: str) -> bool:
    return quality_look.normal(one, path) == quality_look.normal(other, path)


def run_check(
    task: Task,
    files: Mapping[str, str],
    check: str = "",
    *,
    node: str = "",
    is_program: bool = False,
    cpu_s: int = CPU_S,
) -> str:
    """Run a check beside files; what it says against them."""
    word = secrets.token_hex(16)
    asked = {
        "edited": task.edited,
        "check": check,
        "node": node,
        "node_version": node_version() if node else 0,
        "word": word,
        "cpu_s": cpu_s,
        "program": is_program,
    }
    # Links such as macOS's /tmp would make other names of the same folder.
    folder = Path(tempfile.mkdtemp(prefix="sp-check-")).resolve()
    try:
        for root, texts in ((folder, files), (folder / "before", task.files)):
            for path, text in texts.items():
                (root / path).parent.mkdir(parents=True, exist_ok=True)
                (root / path).write_bytes(text.encode("utf-8", "surrogatepass"))
        return _run(folder, msgspec.json.encode(asked), word)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _run(folder: Path, asked: bytes, word: str) -> str:
    environment = {"PATH": os.environ.get("PATH", ""), "HOME": str(folder), "TMPDIR": str(folder)}
    environment |= {"PYTHONDONTWRITEBYTECODE": "1", "OPENBLAS_NUM_THREADS": "1", "MPLBACKEND": "agg"}
    with (folder / ".output").open("w+b") as output:
        process = subprocess.Popen(
            [sys.executable, "-I", "-B", str(_HERE / "quality_look.py"), str(folder)],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )
        try:
            process.communicate(asked, timeout=_MOST_S)
        except subprocess.TimeoutExpired:
            return "it takes too long"
        finally:
            _end_group(process)
        output.seek(max(0, output.seek(0, os.SEEK_END) - 64 * 1024))
        said = output.read().decode("utf-8", "replace").strip()
    if process.returncode == 0 and said.endswith(word):
        return ""
    if process.returncode in (-signal.SIGXCPU, -signal.SIGKILL):
        return "it takes too long"
    lines = [line for line in said.splitlines() if line.strip()]
    telling = [line for line in lines if "Error" in line or "assert" in line]
    return (telling or lines or [f"its process ended with {process.returncode}"])[-1].strip()[:_SHOWN]


def _end_group(process: "subprocess.Popen[bytes]") -> None:
    """The process and whatever it started, and be sure that it is gone."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        process.kill()
    process.wait()


@functools.cache
def node_version() -> int:
    """The major version of node; 0 where there is none."""
    if shutil.which("node") is None:
        return 0
    said = subprocess.run(["node", "--version"], capture_output=True, text=True, check=False).stdout
    return int(said.strip().removeprefix("v").partition(".")[0] or 0)


def n_outside(before: str, after: str, scope: Sequence[Span]) -> tuple[int, int]:
    """How many lines were changed, added or taken away outside of the lines that may change: those with text,
    and empty ones."""
    old, new = before.splitlines(keepends=True), after.splitlines(keepends=True)
    n_all = _count_outside(old, new, scope)
    if not n_all:
        return 0, 0
    n_before = [0, *itertools.accumulate(bool(line.strip()) for line in old)]
    spans = [(n_before[start], n_before[end]) for start, end in scope]
    n_text = _count_outside(
        [line for line in old if line.strip()], [line for line in new if line.strip()], spans
    )
    return n_text, max(0, n_all - n_text)


def _count_outside(old: Sequence[str], new: Sequence[str], scope: Sequence[Span]) -> int:
    if old == new:
        return 0
    spans = _merged(scope)
    if spans and _stays_outside(old, new, spans):
        return 0
    n = 0
    for tag, a, b, c, d in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if tag == "equal" or any(start <= a and b <= end for start, end in spans):
            continue
        lost = [line for line in range(a, b) if not any(start <= line < end for start, end in spans)]
        # Of lines that were added in a place that is partly inside, those beyond what was inside count.
        n += max(len(lost), d - c - (b - a - len(lost)) if lost or a == b else 0)
    return n


def _merged(spans: Sequence[Span]) -> list[Span]:
    """The spans in order, those that overlap or border on each other as one."""
    merged: list[Span] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            start, end = merged[-1][0], max(end, merged.pop()[1])
        merged.append((start, end))
    return merged


def _stays_outside(old: Sequence[str], new: Sequence[str], spans: Sequence[Span]) -> bool:
    """Whether all that lies between the spans is there in order, so that only the spans differ."""
    bounds = [0, *(line for span in spans for line in span), len(old)]
    kept = [old[start:end] for start, end in zip(bounds[::2], bounds[1::2], strict=True)]
    first, last = kept[0], kept[-1]
    if len(first) + len(last) > len(new) or new[: len(first)] != first:
        return False
    if last and new[-len(last) :] != last:
        return False
    at, end = len(first), len(new) - len(last)
    for part in kept[1:-1]:
        at = next((n for n in range(at, end - len(part) + 1) if new[n : n + len(part)] == part), -1)
        if at < 0:
            return False
        at += len(part)
    return True
