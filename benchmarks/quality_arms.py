"""Ways of asking a model for an edit, through what a job of the server uses: prompt, grammar, parser and
planner.

An arm is an entry of `ARMS`: how it asks, and how it reads the reply. All that the harness takes from the
product is imported here.
"""

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import msgspec
from quality_tasks import Files, Task
from singlepass.config import Settings, usable_targets, user_settings
from singlepass.core.actions import BUILTIN_ACTIONS, CommentTask, find_comment_task, fix_instruction
from singlepass.core.context import Context, SourceFile, build_context
from singlepass.core.diff_parser import HunkDropped, HunkFinished
from singlepass.core.edits import Snapshot, apply
from singlepass.core.grammar import marker_size
from singlepass.core.line_diff import changed_blocks
from singlepass.core.lines import visible_lines
from singlepass.core.planner import PlannedHunk, RejectedHunk, plan, reject_dropped, resolve
from singlepass.core.prompt import Task as PromptTask
from singlepass.core.request_comment import comment_removal, without_comment
from singlepass.engines.attachment import may_rewrite
from singlepass.jobs.asking import EngineRequest, build_request
from singlepass_backends.base import (
    Backend,
    BackendError,
    Finished,
    GenerateRequest,
    ModelInfo,
    ReplyForm,
    Sampling,
    Target,
    TextChunk,
)
from singlepass_backends.opening import open_backend

CHARS_PER_TOKEN = 3
LEAST_TOKENS, TIMES_FILES = 256, 3
"""A reply may have so many tokens, and so many times those of the files, before it counts as a runaway."""


class Asked(NamedTuple):
    """A task as the server takes it from an editor."""

    context: Context
    task: PromptTask
    size: int
    """Of the markers."""
    comment: CommentTask | None


class Reply(msgspec.Struct, frozen=True):
    """What a model answered, and what it cost."""

    text: str
    finish: str
    """`stop`, `length`, `context`, or `error` with the message as text."""
    n_tokens: int = 0
    n_passes: int = 0
    n_prompt: int = 0
    n_cached: int = 0
    prefill_ms: float = 0.0
    decode_ms: float = 0.0

    @property
    def is_runaway(self) -> bool:
        """Whether a limit ended it."""
        return self.finish in ("length", "context")


class Edited(msgspec.Struct, frozen=True):
    """The files after a reply, and what became of its blocks."""

    files: Files
    n_blocks: int
    n_applied: int
    """Blocks that changed something."""
    refused: tuple[tuple[str, str], ...]
    """Of those that were not applied, the reason in a word and in a sentence."""


class Arm(NamedTuple):
    """One way of asking."""

    about: str
    request: Callable[[Asked, ModelInfo], GenerateRequest]
    read: Callable[[Asked, Reply, ModelInfo], Edited]


def asked_of(task: Task) -> Asked:
    """What an editor and the server make of a task."""
    first, end, ask = task.first_line, task.end_line, task.ask
    problems: tuple[str, ...] = ()
    comment = None
    if task.action:
        ask = next(one.instruction for one in BUILTIN_ACTIONS if one.title == task.action)
    if task.problem:
        ask = fix_instruction([task.problem])
        problems = (f"line {first + 1}: {task.problem}",)
    if task.comment:
        comment = find_comment_task(visible_lines(task.files[task.edited]), first, max(first, end - 1))
        assert comment is not None, f"{task.name}: no comment asks for anything"
        ask = comment.instruction
        if first == end:
            first, end = comment.start, comment.end
    files = [
        SourceFile(path, text, editable=path not in task.read_only, opened=n)
        for n, (path, text) in enumerate(task.files.items())
    ]
    context = build_context(files[0], files[1:])
    size = marker_size([*context.editable, *context.editable.values()])
    return Asked(context, PromptTask(ask, task.edited, first, end, problems), size, comment)


def most_tokens(asked: Asked) -> int:
    """The limit of a reply: beyond it nothing right can come, whatever the format."""
    n_chars = sum(map(len, asked.context.editable.values()))
    return min(LEAST_TOKENS + TIMES_FILES * n_chars // CHARS_PER_TOKEN, Settings().max_tokens)


def ask(asked: Asked, info: ModelInfo, *, form: ReplyForm, constrained: bool = True) -> EngineRequest:
    """The request of a job, with the parser for its reply."""
    context = msgspec.structs.replace(asked.context, may_rewrite=may_rewrite(info, form))
    return build_request(
        context,
        asked.task,
        info if constrained else msgspec.structs.replace(info, constrains=False),
        comment=asked.comment,
        is_one_file=len(asked.context.editable) == 1,
        max_tokens=most_tokens(asked),
        sampling=Sampling(),
    )


def read(asked: Asked, reply: Reply, info: ModelInfo, *, form: ReplyForm, constrained: bool = True) -> Edited:
    """The files after the blocks of a reply, those that fit, as a job applies them."""
    editable, task = asked.context.editable, asked.task
    _, parser, region = ask(asked, info, form=form, constrained=constrained)
    events = [*parser.feed(reply.text), *parser.close(complete=reply.finish == "stop")]
    snapshots = {path: Snapshot(path, None, text) for path, text in editable.items()}
    selection = task.path, *(region or (task.first_line, task.end_line))
    planned: list[PlannedHunk] = []
    refused: list[RejectedHunk] = []
    n_blocks = 0
    for event in events:
        if isinstance(event, HunkDropped):
            refused.append(reject_dropped(event))
        elif isinstance(event, HunkFinished):
            n_blocks += 1
            hunk = resolve(event.hunk, snapshots, selection)
            if not isinstance(hunk, RejectedHunk):
                if asked.comment is not None and hunk.path == task.path:
                    hunk = without_comment(hunk, asked.comment, editable[task.path])
                hunk = plan(hunk, snapshots, selection, planned)
            if isinstance(hunk, RejectedHunk):
                refused.append(hunk)
            else:
                planned.append(hunk)
    n_applied = sum(bool(one.edits) for one in planned)
    if asked.comment is not None and n_applied:
        removal = comment_removal(asked.comment, task.path, snapshots[task.path], planned, n_blocks)
        planned += [removal] if removal is not None else []
    edits = {
        path: [edit for one in planned if one.snapshot.uri == path for edit in one.edits] for path in editable
    }
    return Edited(
        {file.path: file.text for file in (asked.context.edited, *asked.context.neighbours)}
        | {path: apply(editable[path], sorted(edits[path])) for path in editable},
        n_blocks,
        n_applied,
        tuple((one.reason, one.message) for one in refused),
    )


__all__ = ["changed_blocks", "visible_lines"]


def _arm(about: str, form: ReplyForm, *, constrained: bool = True) -> Arm:
    return Arm(
        about,
        lambda asked, info: ask(asked, info, form=form, constrained=constrained).request,
        partial(read, form=form, constrained=constrained),
    )


ARMS: Mapping[str, Arm] = {
    "blocks": _arm("edit blocks, held to the grammar", "blocks"),
    "rewrite": _arm("rewrites where the request allows them, held to the grammar", "rewrite"),
    "plain-blocks": _arm(
        "edit blocks without the grammar, placed by the matcher", "blocks", constrained=False
    ),
    "plain-rewrite": _arm("rewrites, without the grammar", "rewrite", constrained=False),
}


def generate(backend: Backend, request: GenerateRequest) -> Reply:
    """The reply to a request; a refusal of the backend's is one too."""
    text: list[str] = []
    try:
        for event in backend.generate(request, lambda: False):
            if isinstance(event, TextChunk):
                text.append(event.text)
            elif isinstance(event, Finished):
                timings = event.timings
                return Reply(
                    "".join(text),
                    event.finish_reason,
                    timings.n_decoded,
                    timings.n_forward,
                    timings.n_prompt,
                    timings.n_cached,
                    timings.prefill_ms,
                    timings.decode_ms,
                )
    except BackendError as error:
        return Reply(f"{error.code}: {error.message}", "error")
    raise AssertionError("a backend ends with Finished")


@contextmanager
def opened(target: Target) -> Generator[Backend]:
    """The backend of a target, loaded."""
    backend = open_backend(target, lambda _: True)
    try:
        yield backend
    finally:
        backend.close()


def target_of(model: Path | None, name: str | None, threads: int = 0) -> Target:
    """A model file, or a target of the user's settings by its name."""
    if model is not None:
        backend = "scripted" if model.suffix == ".json" else "llama_cpp"
        return Target(backend=backend, model=str(model), n_threads=threads)
    settings, problems = user_settings()
    usable, unusable = usable_targets(settings, problems)
    if name not in usable:
        raise SystemExit(unusable.get(name or "", f"There is no target `{name}`; there are {[*usable]}."))
    return usable[name]
