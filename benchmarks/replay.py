"""How much is read after the click: editing replayed over the history of git repositories. Exact counts.

    python benchmarks/replay.py REPO [REPO …] [--actions N] [--vocab GGUF] [--pause N] [--json]
    python benchmarks/replay.py REPO --confirm N

Commits are told as what somebody did in an editor (`editing`): files are opened, hunks typed in small batches
with a pause after each, code actions asked for where a hunk is, and an edit run with the commit's subject as
its instruction and the true lines as its reply. The documents, the context and the prompts are the server's
own; the loop and the policy of the cache are the engine's own. Below them is a driver that counts instead of
computing (`counting`), so no clock is involved and the same arguments give the same figures. The same actions
are replayed side by side by

    a  an agent loop without a cache: every prompt is read as a whole
    b  a prefix cache; the instruction and the place stand before the files, as agent tools put them
    c  a prefix cache; our order
    d  everything: our order, several sequences, and what may be asked is prewarmed at pauses

For every action the tokens in the cache are held against the prompt tokenized anew. `--confirm` runs actions
on a model of random weights through llama.cpp as well, and compares the counts, and the text with that of a
cold run.
"""

import argparse
import json
import math
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import msgspec
import numpy as np
from counting import CountingDriver, Tokenizer
from editing import Ask, Change, Close, Disk, Git, Open, Pause, Save, Session, sessions
from machine import command
from numpy.typing import NDArray
from singlepass.config import Settings
from singlepass.core.context import Context, shrink
from singlepass.core.edits import Edit
from singlepass.core.prompt import Task, render_context, render_prompt
from singlepass.editor.documents import Documents
from singlepass.editor.positions import path_from_uri
from singlepass.editor.workspace import Workspace
from singlepass.engines.contexts import MIN_REPLY_TOKENS, TASK_TOKENS, context
from singlepass.engines.gathering import gathering
from singlepass.repository.client import CHARS_PER_TOKEN
from singlepass.repository.indexer import Index
from singlepass.repository.map import drifted
from singlepass.repository.wire import Folder
from singlepass.stats.statistics import percentile
from singlepass_backends.base import (
    BackendError,
    Event,
    Finished,
    GenerateRequest,
    PrefillProgress,
    PrewarmRequest,
    Segment,
    Target,
)
from singlepass_backends.drivers.llama.driver import LlamaCppDriver
from singlepass_backends.generation.chunks import MIN_CHUNK
from singlepass_backends.generation.loop import InProcessBackend
from singlepass_backends.generation.prompt import Prompt, PromptBuilder, fitting
from singlepass_backends.testing.random_model import Shape, write_random_model

N_CTX = 32_768
"""What the engine opens by default."""
N_BATCH = MIN_CHUNK
"""Tokens of a forward pass. The loop makes chunks as large as the measured rate allows but never smaller than
this, so with it nothing depends on a clock."""
N_SEQUENCES = 16
"""Documents that the llama.cpp driver keeps for a model that can trim; `--confirm` checks that it does."""
N_REPLY = 400
"""Most tokens of a reply."""
N_VOCAB = 16_384
"""Of the tokenizer that is trained where none is given."""
CONFIRM_VOCAB = 4096
"""Of the real model."""


class Policy(msgspec.Struct, frozen=True):
    """One way to run the same actions."""

    key: str
    name: str
    caches: bool = True
    instruction_first: bool = False
    n_sequences: int = 1
    prewarms: bool = False
    fits_first: bool = False
    """Leave out what has no place in the model's context before a prewarm, not only at the click."""


AGENT = Policy("a", "no cache", caches=False, instruction_first=True)
INSTRUCTION_FIRST = Policy("b", "prefix cache, instruction first", instruction_first=True)
STABLE_FIRST = Policy("c", "prefix cache, our order")
EVERYTHING = Policy("d", "everything", n_sequences=N_SEQUENCES, prewarms=True, fits_first=True)
POLICIES = (AGENT, INSTRUCTION_FIRST, STABLE_FIRST, EVERYTHING)
MORE = (
    Policy("d1", "d with one sequence", prewarms=True, fits_first=True),
    Policy("d2", "d, too long prompts are cut at the click", n_sequences=N_SEQUENCES, prewarms=True),
)


MAX_NOISE = 0.001
"""Of a logit, between batches of different sizes; the logits of the random model spread over about 1."""


class Options(msgspec.Struct, kw_only=True):
    """What a replay depends on."""

    policies: tuple[Policy, ...] = POLICIES
    n_actions: int = 500
    n_ctx: int = N_CTX
    n_pause: int = 1 << 30
    """Most tokens prewarmed in one pause."""
    n_vocab: int = N_VOCAB
    n_confirm_reply: int = 16
    seed: int = 0


class Action(msgspec.Struct, frozen=True):
    """What one click cost under one policy."""

    n_prompt: int
    n_after: int
    """Tokens read after the click."""
    reasons: dict[str, int]
    """The same by why they were read."""
    selected: bool
    n_left_out: int
    """Neighbours that had no place in the model's context."""

    @property
    def share(self) -> float:
        return self.n_after / self.n_prompt


class Counts(msgspec.Struct):
    """What all clicks cost under one policy."""

    policy: Policy
    actions: list[Action] = msgspec.field(default_factory=list[Action])
    n_prewarmed: int = 0
    n_used: int = 0
    """Tokens prewarmed that a later click found in the cache."""
    n_wasted: int = 0
    why_ahead: Counter[str] = msgspec.field(default_factory=Counter)
    """Tokens prewarmed by the first segment that was not cached, and why not."""

    def summary(self) -> dict[str, Any]:
        """The figures."""
        shares = [action.share for action in self.actions]
        after = [action.n_after for action in self.actions]
        reasons: Counter[str] = Counter()
        for action in self.actions:
            reasons.update(action.reasons)
        return {
            "policy": self.policy.key,
            "name": self.policy.name,
            "actions": len(self.actions),
            "prompt": {
                "median": median(action.n_prompt for action in self.actions),
                "total": sum(action.n_prompt for action in self.actions),
            },
            "after_click": {"median": median(after), "p95": percentile(after, 0.95), "total": sum(after)},
            "share": {"median": median(shares), "p95": percentile(shares, 0.95), "worst": max(shares)},
            "prewarmed": {
                "total": self.n_prewarmed,
                "used": self.n_used,
                "wasted": self.n_wasted,
                "reasons": dict(self.why_ahead.most_common()),
            },
            "left_out": sum(action.n_left_out > 0 for action in self.actions),
            "more_than_the_task": sum(set(action.reasons) != {"task"} for action in self.actions),
            "more_and_left_out": sum(
                set(action.reasons) != {"task"} and action.n_left_out > 0 for action in self.actions
            ),
            "selected": {
                "actions": sum(action.selected for action in self.actions),
                "median": median([action.n_after for action in self.actions if action.selected] or [0]),
            },
            "reasons": {
                reason: {
                    "tokens": n,
                    "actions": sum(reason in action.reasons for action in self.actions),
                }
                for reason, n in reasons.most_common()
            },
        }


class Surroundings:
    """What the server knows of a repository beside the open files (`singlepass.repository.client`), from an
    indexer without a process: what changed is in use after the next rest of the user."""

    def __init__(self, root: Path, settings: Settings) -> None:
        self._settings = settings
        self._index = Index()
        for _ in self._index.scan((Folder(str(root), ""),), settings.ignore):
            pass
        self._near: dict[str, list[Path]] = {}
        self.map = ""
        self.look_again(())

    def look_again(self, changed: tuple[str, ...]) -> None:
        """Files were saved, created or removed, and the user rests."""
        index, budget = self._index, CHARS_PER_TOKEN * self._settings.context_map_tokens
        index.change(changed)
        text = drifted(self.map, index.outlines, budget, index.graph.imports)
        self.map = self.map if text is None else text
        self._near.clear()

    def near(self, uri: str) -> list[Path]:
        """The files near a document, the nearest first."""
        path = path_from_uri(uri)
        if uri not in self._near:
            self._near[uri] = [*map(Path, self._index.near(str(path), self._settings.max_neighbours))]
        return self._near[uri]


class Desk:
    """The server's side: documents, and the context of work on one of them."""

    def __init__(self, root: Path, files: dict[str, str], n_ctx: int) -> None:
        self.root = root
        self.n_ctx = n_ctx
        self.documents = Documents()
        self.workspace = Workspace()
        self.workspace.folders = [root]
        self.settings = Settings()
        self.write(dict(files))
        self.surroundings = Surroundings(root, self.settings)

    def write(self, files: dict[str, str | None]) -> None:
        """Files on disk; None removes one."""
        for path, text in files.items():
            place = self.root / path
            if text is None:
                place.unlink(missing_ok=True)
            else:
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_text(text, encoding="utf-8", newline="")

    def take(self, moment: Open | Close | Change | Save | Disk) -> None:
        """What the editor tells, as the handlers take it."""
        match moment:
            case Open(path, text):
                self.documents.open(self.uri(path), "", 1, text)
            case Close(path):
                self.documents.close(self.uri(path))
            case Change(path, start, end, new, typed):
                document = self.documents.get(self.uri(path))
                assert document is not None
                document.update(document.version + 1, [Edit(start, end, new)])
                if typed:
                    self.documents.touch(document.uri)
            case Save(path):
                document = self.documents.get(self.uri(path))
                assert document is not None
                document.save(0.0)
            case Disk(files):
                self.write(files)
                self.surroundings.look_again(tuple(str(self.root / path) for path in files))

    def uri(self, path: str) -> str:
        """The document's name in the protocol."""
        return (self.root / path).as_uri()

    def context(self, path: str) -> Context:
        """What an action on a document would have the model read."""
        known: Any = self.surroundings
        uri = self.uri(path)
        held, near = self.documents.held(), known.near(uri)
        gathered = gathering(uri, (), held, self.workspace, self.settings, near)()
        return context(gathered, known, self.n_ctx)


class Lane:
    """One policy on an engine of its own, with a counting driver."""

    def __init__(self, policy: Policy, tokenizer: Tokenizer, options: Options) -> None:
        self.counts = Counts(policy)
        self._policy = policy
        self._tokenizer = tokenizer
        self._n_pause = options.n_pause
        self._prewarmed: tuple[Segment, ...] = ()
        n_batch = min(N_BATCH, options.n_pause)
        n_sequences = policy.n_sequences + 1
        self.driver = CountingDriver(tokenizer, n_ctx=options.n_ctx, n_sequences=n_sequences, n_batch=n_batch)
        self.backend = InProcessBackend(self.driver)

    def pause(self, context: Context) -> None:
        """The moment in which the server prewarms."""
        if self._policy.prewarms:
            context = self._arranged(context)
            self._prewarm(render_context(context), context)

    def _arranged(self, context: Context) -> Context:
        if not self._policy.fits_first:
            return context
        prompt = cold_prompt(self._tokenizer, render_context(context), complete=False, anew=False)
        n_excess = len(prompt.tokens) + MIN_REPLY_TOKENS + TASK_TOKENS - self.driver.n_ctx
        return (n_excess > 0 and shrink(context, dict(prompt.sizes), n_excess)) or context

    def _prewarm(self, segments: tuple[Segment, ...], context: Context) -> None:
        if segments == self._prewarmed:
            return
        driver, n_before = self.driver, self.driver.n_read
        with driver.prewarming():
            events = list(
                self.backend.prewarm(
                    PrewarmRequest(segments), lambda: driver.n_read - n_before >= self._n_pause
                )
            )
        finished = events[-1]
        assert isinstance(finished, Finished)
        timings = finished.timings
        n_there = timings.n_cached + timings.n_prefilled
        self.counts.why_ahead.update(reasons(finished, context))
        assert driver.n_read - n_before == timings.n_prefilled
        prompt = fitting(cold_prompt(self._tokenizer, segments, complete=False, anew=False), driver.n_ctx)
        wanted = np.array(prompt.tokens[:n_there], np.int32)
        kept = (driver.tokens(sequence)[:n_there] for sequence in range(driver.n_sequences))
        assert any(np.array_equal(tokens, wanted) for tokens in kept), "what was prewarmed is there"
        if finished.finish_reason == "stop":
            self._prewarmed = segments

    def act(self, context: Context, task: Task, reply: str) -> Action:
        """The click."""
        n_left_out = 0
        context = self._arranged(context)
        while True:
            try:
                return self._act(context, task, reply, n_left_out)
            except BackendError as error:
                if error.code != "prompt_too_long":
                    raise
                n_tokens = dict(error.data["segments"])
                smaller = shrink(context, n_tokens, error.data["n_excess"])
                if smaller is None:
                    raise
                context, n_left_out = smaller, len(smaller.left_out)

    def _act(self, context: Context, task: Task, reply: str, n_left_out: int) -> Action:
        driver = self.driver
        segments = self._segments(context, task)
        prompt = cold_prompt(self._tokenizer, segments)
        said = self._says(segments, reply)
        driver.steer(len(prompt.tokens), said)
        if not self._policy.caches:
            self.backend = InProcessBackend(driver)  # which empties the cache
        n_before = driver.n_read
        finished: Finished | None = None
        for event in self.backend.generate(self._request(segments), lambda: False):
            if isinstance(event, PrefillProgress) and event.n_done == event.n_cached:
                driver.use(event.n_cached)
            elif isinstance(event, Finished):
                finished = event
        assert finished is not None
        timings = finished.timings
        # The cached token sequence equals the cold one, always.
        there = driver.tokens(0).tolist()
        assert there[: timings.n_prompt] == prompt.tokens
        assert there[timings.n_prompt :] == list(said[: len(there) - timings.n_prompt])
        assert len(there) - timings.n_prompt in (timings.n_decoded, timings.n_decoded - 1)
        assert timings.n_prompt == timings.n_cached + timings.n_prefilled == len(prompt.tokens)
        assert driver.n_read - n_before == timings.n_prefilled + len(there) - timings.n_prompt
        selected = task.end_line > task.first_line
        action = Action(
            timings.n_prompt, timings.n_prefilled, reasons(finished, context), selected, n_left_out
        )
        self.counts.actions.append(action)
        return action

    def _says(self, segments: tuple[Segment, ...], reply: str) -> Sequence[int]:
        return self._tokenizer.tokenize(reply.encode(), False)[:N_REPLY]

    def _request(self, segments: tuple[Segment, ...]) -> GenerateRequest:
        return GenerateRequest(segments, max_tokens=N_REPLY, min_reply=MIN_REPLY_TOKENS)

    def _segments(self, context: Context, task: Task) -> tuple[Segment, ...]:
        *before, last = render_prompt(context, task)
        if self._policy.instruction_first:
            system, *files = before
            return (system, last, *files)
        return (*before, last)

    def close(self) -> None:
        """What was prewarmed and is not used by now is wasted."""
        driver, counts = self.driver, self.counts
        counts.n_prewarmed, counts.n_used = driver.n_prewarmed, driver.n_used
        counts.n_wasted = driver.n_wasted + driver.n_unused
        assert counts.n_used + counts.n_wasted == counts.n_prewarmed
        self.backend.close()


class Recorder(LlamaCppDriver):
    """Keeps the logits it gave."""

    given: list[NDArray[np.float32]]

    def forward(self, tokens: Sequence[int], position: int, *, n_logits: int) -> NDArray[np.float32] | None:
        """See `Driver`."""
        found = super().forward(tokens, position, n_logits=n_logits)
        if found is not None:
            self.given.append(found.copy())
        return found


class Confirmed(msgspec.Struct):
    """What a real model said to the counts."""

    actions: int = 0
    prewarms: int = 0
    different_counts: int = 0
    """Requests and prewarms of which another number of tokens was cached or prefilled. Must be 0."""
    same_text: int = 0
    near_ties: int = 0
    """Replies that part from a cold run's where the two tokens' logits lie within the noise."""
    different_text: int = 0
    """Replies that part from it elsewhere. Must be 0."""
    same_logits: int = 0
    """Steps whose logits are those of the cold run to the bit, of `steps` compared."""
    steps: int = 0
    noise: float = 0.0
    """The largest difference between logits of the two."""


class ConfirmingLane(Lane):
    """A lane beside which a real model does the same; it says what the real model said."""

    def __init__(self, policy: Policy, tokenizer: Tokenizer, options: Options, model: Path) -> None:
        super().__init__(policy, tokenizer, options)
        self.found = Confirmed()
        # Flash attention on a CPU takes other kernels for small batches than for large ones, and its logits
        # move by up to 0.3 with them, with no cache at all; without it they do not move.
        target = Target(
            model=str(model), n_ctx=options.n_ctx, n_batch=N_BATCH, n_threads=1, flash_attention=False
        )
        self._warm, self._cold = (Recorder(target, lambda _: True) for _ in range(2))
        assert self._warm.n_sequences == self.driver.n_sequences
        self._real = InProcessBackend(self._warm)
        self._n_reply = options.n_confirm_reply
        self._timings: Event | None = None

    def _prewarm(self, segments: tuple[Segment, ...], context: Context) -> None:
        if segments == self._prewarmed:
            return
        *_, real = self._real.prewarm(PrewarmRequest(segments), lambda: False)
        n_before = self.driver.n_read
        super()._prewarm(segments, context)
        assert isinstance(real, Finished)
        self.found.prewarms += 1
        self.found.different_counts += self.driver.n_read - n_before != real.timings.n_prefilled

    def _says(self, segments: tuple[Segment, ...], reply: str) -> Sequence[int]:
        request = self._request(segments)
        self._warm.given, self._cold.given = [], []
        *_, self._timings = self._real.generate(request, lambda: False)
        for _ in InProcessBackend(self._cold).generate(request, lambda: False):
            pass
        self._compare(self._warm.given, self._cold.given)
        return [int(logits.argmax()) for logits in self._warm.given]

    def _request(self, segments: tuple[Segment, ...]) -> GenerateRequest:
        return GenerateRequest(segments, max_tokens=self._n_reply, min_reply=MIN_REPLY_TOKENS)

    def _act(self, context: Context, task: Task, reply: str, n_left_out: int) -> Action:
        action = super()._act(context, task, reply, n_left_out)
        real = self._timings
        assert isinstance(real, Finished)
        self.found.actions += 1
        counts = (real.timings.n_prompt, real.timings.n_prefilled)
        self.found.different_counts += counts != (action.n_prompt, action.n_after)
        return action

    def _compare(self, warm: Sequence[NDArray[np.float32]], cold: Sequence[NDArray[np.float32]]) -> None:
        found = self.found
        for ours, theirs in zip(warm, cold, strict=False):
            noise = float(np.abs(ours - theirs).max())
            found.steps += 1
            found.same_logits += noise == 0.0
            found.noise = max(found.noise, noise)
            chosen, expected = int(ours.argmax()), int(theirs.argmax())
            if chosen != expected:
                # The order of two logits may turn only if they are no further apart than both moved.
                is_tie = theirs[expected] - theirs[chosen] <= 2 * noise <= 2 * MAX_NOISE
                found.near_ties += is_tie
                found.different_text += not is_tie
                return
        found.same_text += 1

    def close(self) -> None:
        """See `Lane.close`."""
        super().close()
        self._real.close()
        self._cold.close()


class _Anew:
    """The part of a driver that a prompt is built with."""

    def __init__(self, tokenizer: Tokenizer, anew: bool) -> None:
        self.bos_tokens, self.chat_template = tokenizer.bos_tokens, tokenizer.chat_template
        self.special_texts: dict[str, str] = {}
        self._tokenize = tokenizer.tokenize if anew else tokenizer.remembered

    def tokenize(self, text: bytes, *, special: bool) -> list[int]:
        return list(self._tokenize(text, special))


def cold_prompt(
    tokenizer: Tokenizer, segments: Sequence[Segment], *, complete: bool = True, anew: bool = True
) -> Prompt:
    """The prompt's tokens as an engine that has just started finds them."""
    driver: Any = _Anew(tokenizer, anew)
    return PromptBuilder(driver).build(segments, complete=complete)


def reasons(finished: Finished, context: Context) -> dict[str, int]:
    """The tokens that were read, by why: for the task, or for the first segment that was not cached, with all
    that follows it."""
    n_task = sum(use.n_tokens - use.n_cached for use in finished.segments if use.name == "task")
    n_rest = finished.timings.n_prefilled - n_task
    found = {"task": n_task} if n_task else {}
    if n_rest:
        miss = finished.miss
        found[f"{_kind(miss.segment, context)} {miss.reason}" if miss else "edited file changed"] = n_rest
    return found


def _kind(segment: str, context: Context) -> str:
    if segment in ("system", "task"):
        return segment
    if segment == context.edited.path:
        return "edited file"
    return "neighbour" if any(file.path == segment for file in context.neighbours) else "map"


def replay(
    found: Session,
    lanes: Sequence[Lane],
    n_ctx: int,
    n_most: int,
    progress: Callable[[], None] = lambda: None,
) -> int:
    """Replay one session, at most so many actions of it; returns how many."""
    n_done = 0
    with tempfile.TemporaryDirectory(prefix="sp-replay-") as folder:
        desk = Desk(Path(folder).resolve(), found.files, n_ctx)
        for moment in found.moments:
            match moment:
                case Pause(path):
                    context = desk.context(path)
                    for lane in lanes:
                        lane.pause(context)
                case Ask():
                    if n_done == n_most:
                        break
                    if ask(desk, moment, lanes):
                        n_done += 1
                        progress()
                case _:
                    desk.take(moment)
    return n_done


def ask(desk: Desk, moment: Ask, lanes: Sequence[Lane]) -> bool:
    """Code actions are asked for, and one is run; False where the file alone is too long for the model."""
    context = desk.context(moment.path)
    task = Task(moment.instruction, context.edited.path, moment.first_line, moment.end_line)
    for lane in lanes:
        lane.pause(context)
    desk.documents.touch(desk.uri(moment.path))
    try:
        for lane in lanes:
            lane.act(context, task, moment.reply)
    except BackendError as error:
        if error.code == "prompt_too_long":
            return False
        raise
    return True


def train(path: Path, repository: Git, n_vocab: int) -> None:
    """Write a small random model whose tokenizer is trained on a repository's files."""
    corpus = repository.source_files("HEAD")
    shape = Shape(n_ctx_train=N_CTX)
    write_random_model(path, corpus=(corpus[name] for name in sorted(corpus)), n_vocab=n_vocab, shape=shape)


class Repository(msgspec.Struct):
    """What was replayed of one repository."""

    name: str
    head: str
    n_sessions: int = 0
    n_commits: int = 0
    n_actions: int = 0


def run(
    paths: Sequence[Path],
    options: Options,
    vocab: Path | None = None,
    progress: Callable[[], None] = lambda: None,
) -> tuple[list[Counts], list[Repository]]:
    """Replay the repositories, an equal share of the actions from each."""
    totals = [Counts(policy) for policy in options.policies]
    repositories: list[Repository] = []
    n_left = options.n_actions
    for number, path in enumerate(paths):
        git = Git(path)
        about = Repository(path.resolve().name, git.run("rev-parse", "HEAD").decode().strip()[:12])
        n_most = math.ceil(n_left / (len(paths) - number))
        with tempfile.TemporaryDirectory(prefix="sp-replay-") as folder:
            if vocab is None:
                train(Path(folder) / "vocab.gguf", git, options.n_vocab)
            tokenizer = Tokenizer(vocab or Path(folder) / "vocab.gguf")
            for found in sessions(git, options.seed):
                # Every session begins with an empty cache, as with an engine that has just started.
                lanes = [Lane(policy, tokenizer, options) for policy in options.policies]
                about.n_actions += replay(found, lanes, options.n_ctx, n_most - about.n_actions, progress)
                about.n_sessions += 1
                about.n_commits += len(found.commits)
                for total, lane in zip(totals, lanes, strict=True):
                    lane.close()
                    _add(total, lane.counts)
                if about.n_actions == n_most:
                    break
            tokenizer.close()
        n_left -= about.n_actions
        repositories.append(about)
    return totals, repositories


def confirm(path: Path, options: Options, progress: Callable[[], None] = lambda: None) -> Confirmed:
    """Replay one session on a real model of random weights too."""
    git = Git(path)
    with tempfile.TemporaryDirectory(prefix="sp-replay-") as folder:
        model = Path(folder) / "random.gguf"
        train(model, git, options.n_vocab)
        lane = ConfirmingLane(EVERYTHING, Tokenizer(model), options, model)
        replay(next(sessions(git, options.seed)), [lane], options.n_ctx, options.n_actions, progress)
        lane.close()
    return lane.found


def _add(total: Counts, counts: Counts) -> None:
    total.actions += counts.actions
    total.n_prewarmed += counts.n_prewarmed
    total.n_used += counts.n_used
    total.n_wasted += counts.n_wasted
    total.why_ahead.update(counts.why_ahead)


def table(summaries: Sequence[dict[str, Any]]) -> Iterator[str]:
    """The figures as a Markdown table."""
    yield "| | prompt, median | read after the click, median | 95th percentile | share, median | 95th |"
    yield "|---|---|---|---|---|---|"
    for one in summaries:
        after, share = one["after_click"], one["share"]
        yield (
            f"| {one['policy']}: {one['name']} | {one['prompt']['median']:,.0f} | {after['median']:,.0f} "
            f"| {after['p95']:,.0f} | {share['median']:.1%} | {share['p95']:.1%} |"
        )
    yield ""
    yield "| | prompts, total | read after the click | prewarmed | of it used | wasted |"
    yield "|---|---|---|---|---|---|"
    for one in summaries:
        ahead = one["prewarmed"]
        yield (
            f"| {one['policy']} | {one['prompt']['total']:,} | {one['after_click']['total']:,} "
            f"| {ahead['total']:,} | {ahead['used']:,} | {ahead['wasted']:,} |"
        )
    yield ""
    yield "| | why it was read after the click: tokens (actions) |"
    yield "|---|---|"
    for one in summaries:
        why = (f"{name} {found['tokens']:,} ({found['actions']})" for name, found in one["reasons"].items())
        yield f"| {one['policy']} | {', '.join(why)} |"
    yield ""
    yield "| | why it was prewarmed: tokens |"
    yield "|---|---|"
    for one in summaries:
        if found := one["prewarmed"]["reasons"]:
            yield f"| {one['policy']} | {', '.join(f'{name} {n:,}' for name, n in found.items())} |"


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("repositories", type=Path, nargs="+", metavar="REPO")
    parser.add_argument("--actions", type=int, default=500)
    parser.add_argument("--vocab", type=Path, help="a GGUF file with the tokenizer; else one is trained")
    parser.add_argument("--ctx", type=int, default=N_CTX, help="tokens of the model's context")
    parser.add_argument("--pause", type=int, default=1 << 30, help="most tokens prewarmed in one pause")
    parser.add_argument("--seed", type=int, default=0)
    known = {policy.key: policy for policy in POLICIES + MORE}
    names = ", ".join(f"{policy.key} ({policy.name})" for policy in MORE)
    parser.add_argument("--policies", default="a,b,c,d", help=f"with commas; there are also {names}")
    parser.add_argument("--confirm", type=int, metavar="N", help="N actions on a real model too")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    options = Options(
        policies=tuple(known[key] for key in given.policies.split(",")),
        n_actions=given.actions,
        n_ctx=given.ctx,
        n_pause=given.pause,
        seed=given.seed,
    )
    n_done = 0

    def progress() -> None:
        nonlocal n_done
        n_done += 1
        if sys.stderr.isatty() or n_done % 50 == 0:
            print(f"{n_done} actions", end="\r" if sys.stderr.isatty() else "\n", file=sys.stderr)

    if given.confirm:
        options.n_actions, options.n_vocab = given.confirm, CONFIRM_VOCAB
        for path in given.repositories:
            found = msgspec.to_builtins(confirm(path, options, progress))
            print(json.dumps({"command": command(sys.argv), "found": found}, indent=1))
        return
    totals, repositories = run(given.repositories, options, given.vocab, progress)
    summaries = [total.summary() for total in totals]
    if given.json:
        print(
            json.dumps(
                {
                    "command": command(sys.argv),
                    "repositories": msgspec.to_builtins(repositories),
                    "policies": summaries,
                },
                indent=1,
            )
        )
        return
    for about in repositories:
        print(
            f"{about.name} at {about.head}: {about.n_actions} actions on {about.n_commits} commits "
            f"in {about.n_sessions} sessions"
        )
    print()
    print("\n".join(table(summaries)))


if __name__ == "__main__":
    main()
