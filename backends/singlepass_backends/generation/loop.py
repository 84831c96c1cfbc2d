"""The one loop every in-process model shares: prefill in chunks, then decode.

Theory of operation. `PrefixCache` records what the KV cache holds and plans what to do with it; the loop here
carries its steps out on the driver. A request starts from the longest usable beginning in the cache, or on
disk (`store`), prefills the rest chunk by chunk (`chunks`), and decodes: sample one token from the last
logits under the constraint, take the tokens the grammar then forces, and put them all into the cache in one
forward pass. Between passes it asks `interrupt`; a driver that can do so stops within a pass. Whatever
happens, the record of the cache stays true, so an interrupted prefill is not lost: the next request finds
what was done.
"""

import codecs
import logging
import math
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from singlepass_backends.base import (
    BackendError,
    Draft,
    Event,
    Finished,
    FinishReason,
    GenerateRequest,
    Interrupt,
    Miss,
    ModelInfo,
    PrefillProgress,
    PrewarmRequest,
    Segment,
    SegmentUse,
    TextChunk,
    Timings,
)
from singlepass_backends.generation.cache.misses import History, uses
from singlepass_backends.generation.cache.prefix import (
    CheckpointKind,
    Held,
    Keep,
    PrefixCache,
    Start,
    Step,
    Trim,
    Wanted,
    shared_end,
)
from singlepass_backends.generation.cache.store import Prefix, SavedCheckpoint, Store
from singlepass_backends.generation.chunks import MIN_CHUNK, ChunkSize, chunk_seconds
from singlepass_backends.generation.constraint import Constraints
from singlepass_backends.generation.drafting.draft import Drafter
from singlepass_backends.generation.drafting.draft_model import DraftModel
from singlepass_backends.generation.drafting.pace import Pace
from singlepass_backends.generation.drafting.tree import ROOT, Continuations, Guesser, Places, Tree
from singlepass_backends.generation.driver import Driver, Interrupted, Logits, State
from singlepass_backends.generation.prompt import Prompt, PromptBuilder, check_fits, fitting
from singlepass_backends.generation.reply import Reply
from singlepass_backends.generation.sampling import Sampler

MIN_SAVED = 256
"""Tokens below which a prefix is read again rather than saved or loaded."""
_MAX_SAVED_AT_EXIT = 4
_MOSTLY = 0.8
_MAX_SOURCES = 4
"""Sets of texts beside the prompt that stay ready to be drafted from."""
_SLOPE_CPU, _SLOPE_GPU = 0.5, 0.05
"""What a further token of a pass costs, in passes of one, before it was measured: on two cores a pass of 8
cost as much as 4.6 of one."""

_log = logging.getLogger(__name__)


@dataclass
class _Meter:
    """What one request has cost so far. Times are of `time.perf_counter`, in seconds."""

    arrived: float
    started: float
    n_prompt: int = 0
    n_cached: int = 0
    n_prefilled: int = 0
    n_decoded: int = 0
    n_forced: int = 0
    n_drafted: int = 0
    n_accepted: int = 0
    n_forward: int = 0
    prefilled: float = 0.0
    first_text: float = 0.0
    segments: tuple[SegmentUse, ...] = ()
    miss: Miss | None = None

    def finished(self, reason: FinishReason) -> Finished:
        return Finished(reason, self.timings(), self.segments, self.miss)

    def timings(self) -> Timings:
        now = time.perf_counter()
        prefilled = self.prefilled or now
        return Timings(
            n_prompt=self.n_prompt,
            n_cached=self.n_cached,
            n_prefilled=self.n_prefilled,
            n_decoded=self.n_decoded,
            n_forced=self.n_forced,
            n_drafted=self.n_drafted,
            n_accepted=self.n_accepted,
            n_forward=self.n_forward,
            queue_ms=(self.started - self.arrived) * 1e3,
            prefill_ms=(prefilled - self.started) * 1e3,
            first_text_ms=(self.first_text - self.arrived) * 1e3 if self.first_text else 0.0,
            decode_ms=(now - prefilled) * 1e3,
            total_ms=(now - self.arrived) * 1e3,
        )


class _Ready(NamedTuple):
    """Logits for what comes after the cached tokens before the drafted ones, and after each drafted one."""

    logits: Logits
    drafted: Tree


class InProcessBackend:
    """Runs requests on a `Driver`; implements `base.Backend`. Call it from one thread only."""

    def __init__(
        self,
        driver: Driver,
        store: Store | None = None,
        pace: Pace | None = None,
        draft: Driver | None = None,
    ) -> None:
        """`store` is where the repository's segments are saved; None saves nothing. `pace` decides how much
        is drafted; None learns it. `draft` is of a smaller model with the same tokens (`check_pair`)."""
        self.info: ModelInfo = driver.info
        self._driver = driver
        self._store = store
        self._prompts = PromptBuilder(driver)
        self._constraints = Constraints(driver)
        self._chunks = ChunkSize(driver.n_batch)
        self._chunk_s = 0.0
        self._scratch = driver.n_sequences - 1
        self._pace = pace or Pace(_slope(driver))
        self._draft_model = DraftModel(draft, _slope(draft), driver.n_vocab) if draft else None
        self._cache = PrefixCache(
            driver.n_ctx, n_sequences=max(1, self._scratch), can_trim=driver.info.can_trim
        )
        self._states: dict[int, State] = {}  # of the cache's checkpoints
        self._sources: dict[tuple[str, ...], Places] = {}
        self._history = History()
        if store:
            self._history.recall(store.known)
        driver.clear()

    @property
    def n_cached(self) -> int:
        """Tokens held in the KV cache; those that sequences share count once."""
        return self._cache.n_used

    def warm(self) -> None:
        """Do now what the first request would otherwise wait for: a first pass touches all weights, and the
        constraint's token trie takes up to a second.

        The pass has two tokens, because prefill runs other kernels than decode; where the processor lacks an
        instruction they need, the process dies now, while it loads, and not in the user's first request.
        """
        self._driver.forward([0, 0][: self._driver.n_batch], 0, n_logits=1)
        self._driver.clear()
        if self._draft_model:
            self._draft_model.warm()
        self._constraints.warm()

    def generate(
        self, request: GenerateRequest, interrupt: Interrupt, arrived: float | None = None
    ) -> Iterator[Event]:
        """See `base.Backend.generate`. A cut-off reply leaves its tokens in the cache like a finished one."""
        now = time.perf_counter()
        meter = _Meter(arrived=now if arrived is None else arrived, started=now)
        constraint = self._constraints.open(request.grammar) if request.grammar is not None else None
        prompt = self._prompts.build(request.segments)
        check_fits(prompt, self._driver.n_ctx, request.min_reply)
        guesser = self._guesser(request.draft, prompt.tokens)
        reply = Reply(Sampler(request.sampling), constraint, guesser, self._driver)
        ready = yield from self._prefill(prompt, interrupt, meter, reply, request.max_tokens)
        reason: FinishReason = "cancelled"
        if ready is not None:
            reason = yield from self._decode(request, reply, ready, interrupt, meter)
        yield meter.finished(reason)

    def prewarm(self, request: PrewarmRequest, interrupt: Interrupt) -> Iterator[Event]:
        """See `base.Backend.prewarm`."""
        now = time.perf_counter()
        meter = _Meter(arrived=now, started=now)
        prompt = fitting(self._prompts.build(request.segments, complete=False), self._driver.n_ctx)
        yield from self._prefill(prompt, interrupt, meter)
        is_done = meter.n_cached + meter.n_prefilled == meter.n_prompt
        if is_done and request.grammar is not None and not interrupt():
            self._constraints.open(request.grammar)  # which keeps what it compiles
        if is_done and not interrupt():
            self._make_ready(request.sources)
        if is_done and self._draft_model:
            self._draft_model.read(prompt.tokens, interrupt, self._chunk_s)
        yield meter.finished("stop" if is_done else "cancelled")

    def inspect(self, segments: tuple[Segment, ...]) -> tuple[SegmentUse, ...]:
        """See `base.Backend.inspect`."""
        prompt = self._prompts.build(segments)
        wanted = _wanted(prompt, is_request=True)
        return uses(prompt.marks, len(prompt.tokens), self._cache.n_reusable(wanted))

    def rest(self) -> None:
        """See `base.Backend.rest`: saves the shared prefix that was used last, unless most of it is saved
        already: then it waits until `close`, to spare the disk."""
        self._save(1, _MOSTLY)

    def close(self) -> None:
        """Save what is worth saving and free the model."""
        try:
            self._save(_MAX_SAVED_AT_EXIT)
            if self._store:
                self._store.wait()
        except Exception:
            _log.exception("saving failed")
        finally:
            self._cache.clear()
            self._states.clear()
            self._driver.close()
            if self._draft_model:
                self._draft_model.close()

    def _prefill(
        self,
        prompt: Prompt,
        interrupt: Interrupt,
        meter: _Meter,
        reply: Reply | None = None,
        max_tokens: int = 0,
    ) -> Generator[Event, None, "_Ready | None"]:
        """Bring the cache to `prompt` and, where there is a reply to come, to how it probably begins. Returns
        None when interrupted, or when there is no reply."""
        tokens, marks = prompt.tokens, prompt.marks
        is_request = reply is not None
        wanted = _wanted(prompt, is_request=is_request)
        self._load(wanted)
        n_done = self._start(wanted)
        meter.n_prompt, meter.n_cached = len(tokens), n_done
        meter.segments = uses(marks, len(tokens), n_done)
        meter.miss = self._history.miss(tokens, marks, n_done, has_task=is_request)
        stops = dict(self._cache.stops(wanted)) if n_done < len(tokens) else {}
        ready: _Ready | None = None
        self._chunk_s = chunk_seconds(is_request=is_request, can_stop=self._driver.watch(interrupt))
        if self._draft_model:
            self._draft_model.watch(interrupt)
        try:
            yield PrefillProgress(len(tokens), meter.n_cached, n_done, 0.0, None)
            while n_done < len(tokens) and not interrupt():
                n_next = min((at for at in stops if at > n_done), default=len(tokens))
                chunk = tokens[n_done : n_done + self._chunks.next(n_next - n_done, self._chunk_s)]
                try:
                    if reply is not None and n_done + len(chunk) == len(tokens):
                        n_most = min(max_tokens, self._driver.n_ctx - len(tokens), MIN_CHUNK)
                        n_most = min(n_most, self._driver.n_batch - len(chunk))
                        drafted = self._draft(reply, (), len(chunk), n_most)
                        logits = self._forward_with(chunk, drafted)
                        ready = _Ready(logits, drafted)
                    else:
                        self._forward(chunk, n_logits=0)
                except Interrupted:
                    break
                n_done += len(chunk)
                meter.n_prefilled = n_done - meter.n_cached
                if n_done in stops:
                    self._take_checkpoint(stops[n_done])
                elapsed = time.perf_counter() - meter.started
                eta = elapsed / meter.n_prefilled * (len(tokens) - n_done)
                yield PrefillProgress(len(tokens), meter.n_cached, n_done, elapsed * 1e3, eta * 1e3)
        finally:
            self._history.remember(tokens, marks, n_done)
        meter.prefilled = time.perf_counter()
        return ready

    def _start(self, wanted: Wanted) -> int:
        """Bring sequence 0 to the longest usable beginning of `wanted`; returns how long that is."""
        n_reusable = self._cache.n_reusable(wanted)
        if n_reusable == len(wanted.tokens) and not wanted.needs_logits:
            self._cache.touch(wanted)
            return n_reusable
        self._carry_out(self._cache.plan(wanted))
        self._cache.begin(wanted)
        return len(self._cache.working.tokens)

    def _carry_out(self, steps: Iterable[Step]) -> None:
        """Do the steps; where the driver refuses one, the cache is emptied and they end."""
        for step in steps:
            if not self._do(step):
                _log.warning("the cache refused %s: it is emptied", type(step).__name__)
                self._clear()
                return
            self._cache.apply(step)
        self._forget_states()

    def _do(self, step: Step) -> bool:
        driver = self._driver
        match step:
            case Keep(target, n):
                driver.copy(0, target, n)
                return True
            case Start(source, n, checkpoint):
                if source == 0:
                    return self._shorten(0, n, checkpoint.id if checkpoint else None)
                driver.trim(0)
                driver.copy(source, 0, n)
                return checkpoint is None or driver.restore(self._states[checkpoint.id], n)
            case Trim(sequence, n, checkpoint):
                return self._shorten(sequence, n, checkpoint.id if checkpoint else None)

    def _shorten(self, sequence: int, n: int, checkpoint: int | None) -> bool:
        if checkpoint is None:
            return self._driver.trim(n, sequence)
        return self._driver.restore(self._states[checkpoint], n, sequence)

    def _take_checkpoint(self, kind: CheckpointKind) -> None:
        state = self._driver.checkpoint()
        taken = self._cache.add_checkpoint(len(state), kind)
        self._states[taken.id] = state
        self._forget_states()

    def _forget_states(self) -> None:
        live = self._cache.live_checkpoints
        for id in [id for id in self._states if id not in live]:
            del self._states[id]

    def _clear(self) -> None:
        self._driver.clear()
        self._cache.clear()
        self._states.clear()

    # The shared prefix on disk.

    def _load(self, wanted: Wanted) -> None:
        """Bring a saved prefix into sequence 0 where that saves reading."""
        if self._store is None or self._scratch < 1:
            return
        best = self._store.best(wanted.tokens, can_trim=self.info.can_trim)
        if best is None or best[1] < self._cache.n_reusable(wanted) + MIN_SAVED:
            return
        start = time.perf_counter()
        prefix = self._store.load(best[0])
        if prefix is None or len(prefix.tokens) >= self._driver.n_ctx:
            return
        loaded = Wanted(prefix.tokens, wanted.marks, wanted.n_stable)
        # Leave nothing of what is there in sequence 0: the state comes as a whole.
        steps = [step for step in self._cache.plan(loaded) if not isinstance(step, Start)]
        self._carry_out([*steps, Start(0, 0)])
        self._carry_out(self._cache.room(len(prefix.tokens)))
        if not self._driver.load(prefix.state, len(prefix.tokens)):
            self._store.reject(best[0], "the runtime refused it")
            self._clear()
            return
        cache = self._cache
        for where, state in prefix.checkpoints:
            cache.append(prefix.tokens[len(cache.working.tokens) : where.position])
            self._states[cache.add_checkpoint(where.n_bytes, where.kind).id] = state
        cache.append(prefix.tokens[len(cache.working.tokens) :])
        cache.begin(loaded)
        self._forget_states()
        elapsed = (time.perf_counter() - start) * 1e3
        _log.info("loaded a prefix of %d tokens in %.0f ms", len(prefix.tokens), elapsed)

    def _save(self, n_most: int, mostly: float = 1.0) -> None:
        """Save up to `n_most` of the shared prefixes, the one used last before others, and none of which the
        part `mostly` is saved."""
        store = self._store
        if store is None or self._scratch < 1:
            return
        by_use = sorted(enumerate(self._cache.sequences), key=lambda item: -item[1].last_used)
        for sequence, held in by_use[:n_most]:
            tokens = held.tokens[: shared_end(held.marks)]
            if len(tokens) < MIN_SAVED or held.n_shared < shared_end(held.marks):
                continue
            if store.n_saved(tokens) >= mostly * len(tokens):
                continue
            checkpoints = self._checkpoints_within(held)
            if not self._copy_to_scratch(sequence, held, checkpoints):
                continue
            state = self._driver.save(self._scratch)
            self._driver.trim(0, self._scratch)
            store.save(Prefix(tokens, state, checkpoints, tuple(self._history.known())))

    def _checkpoints_within(self, held: Held) -> tuple[tuple[SavedCheckpoint, State], ...]:
        """The checkpoints at the ends of the shared segments."""
        return tuple(
            (SavedCheckpoint(one.position, one.n_bytes, one.kind), self._states[one.id])
            for one in held.checkpoints
            if one.position <= held.n_shared and one.kind in ("segment", "shared")
        )

    def _copy_to_scratch(
        self, sequence: int, held: Held, checkpoints: tuple[tuple[SavedCheckpoint, State], ...]
    ) -> bool:
        """Make the scratch sequence the shared segments of `held`. False where they cannot be separated."""
        driver, n = self._driver, held.n_shared
        if self.info.can_trim or n == len(held.tokens):
            driver.copy(sequence, self._scratch, n)
            return True
        state = next((state for where, state in checkpoints if where.position == n), None)
        if state is None:
            return False
        driver.copy(sequence, self._scratch, n)
        if driver.restore(state, n, self._scratch):
            return True
        driver.trim(0, self._scratch)
        return False

    def _decode(
        self,
        request: GenerateRequest,
        reply: Reply,
        ready: "_Ready",
        interrupt: Interrupt,
        meter: _Meter,
    ) -> Generator[Event, None, FinishReason]:
        """Decode until a finish reason, and return it."""
        driver = self._driver
        text_of = codecs.getincrementaldecoder("utf-8")("replace").decode
        logits, drafted = ready
        reason: FinishReason | None = None
        while reason is None:
            if interrupt():
                self._settle(drafted, ())
                reason = "cancelled"
                break
            said: list[int] = []
            right: list[int] = []
            n_forced_before = meter.n_forced
            n_room = driver.n_ctx - len(self._cache.working.tokens) + len(drafted)
            # The first row of logits is for the token before the tree, each further one for that after a node
            # of it: followed as long as the tree has what is said.
            while reason is None and len(right) == len(said):
                at = right[-1] if right else ROOT
                n_most = min(request.max_tokens - meter.n_decoded, n_room - len(said))
                tokens, n_forced = reply.choose(logits[at + 1], drafted.expects(at), n_most)
                if tokens and n_forced < len(tokens):
                    meter.n_accepted += drafted.child(at, tokens[0]) is not None
                for token in tokens:
                    if (node := drafted.child(at, token)) is None:
                        break
                    at = node
                    right.append(node)
                said += tokens
                meter.n_decoded += len(tokens)
                meter.n_forced += n_forced
                if not tokens or reply.stopped:
                    reason = "stop"
                elif meter.n_decoded >= request.max_tokens:
                    reason = "length"
                elif len(said) >= n_room:
                    reason = "context"
            if text := text_of(b"".join(map(driver.piece, said))):
                yield self._text(text, meter)
            n_right = len(right)
            meter.n_drafted += len(drafted)
            self._settle(drafted, right)
            self._learn(drafted, right)
            n_forced = meter.n_forced - n_forced_before
            self._pace.learn_said(len(said) - n_forced, n_forced)
            if reason is None:
                n_most = min(request.max_tokens - meter.n_decoded, n_room - len(said))
                n_other = len(said) - n_right
                n_most = min(n_most, min(MIN_CHUNK, driver.n_batch) - n_other)
                drafted = self._draft(reply, said, n_other, n_most)
                if self._draft_model and reply.guesser:
                    drafted = self._ask_model(reply, said[n_right:], drafted, n_most, interrupt)
                after = self._advance(said[n_right:], drafted, interrupt, meter)
                if after is None:
                    reason = "cancelled"
                else:
                    logits = after
        if text := text_of(b"", True):
            yield self._text(text, meter)
        return reason

    def _guesser(self, draft: Draft | None, prompt: Sequence[int]) -> Guesser | None:
        """None where there is nothing to expect, or where a wrong guess could not be taken back."""
        driver = self._driver
        if draft is None or not self.info.can_trim:
            return None
        ready = self._sources.get(draft.sources)
        continuations = Continuations(Places(prompt), (ready,) if ready else ())
        continuations.begin(prompt)
        return Guesser(
            Drafter(draft), continuations, lambda text: driver.tokenize(text, special=False), driver.piece
        )

    def _make_ready(self, sources: tuple[str, ...]) -> None:
        """Look what follows what in texts beside the prompt: a fifth of a second for 60,000 tokens."""
        if not sources:
            return
        places = self._sources.pop(sources, None)
        if places is None:
            texts = (self._driver.tokenize(text.encode(), special=False) for text in sources)
            places = Places([token for tokens in texts for token in tokens])
        self._sources[sources] = places
        if len(self._sources) > _MAX_SOURCES:
            del self._sources[next(iter(self._sources))]

    @staticmethod
    def _text(text: str, meter: _Meter) -> TextChunk:
        now = time.perf_counter()
        meter.first_text = meter.first_text or now
        return TextChunk(text, meter.n_decoded, (now - meter.prefilled) * 1e3)

    def _draft(self, reply: Reply, said: Sequence[int], n_other: int, n_most: int) -> Tree:
        """Tokens to verify in the next pass, which has `n_other` tokens anyway: as many as pay."""
        guesser, pace = reply.guesser, self._pace
        if guesser is None:
            return Tree()
        guesser.append(said)
        n_most = pace.n_most(n_other, n_most)
        if n_most <= 0:
            return Tree()
        start = time.perf_counter()
        tree = guesser.grow(
            n_most,
            self._driver.n_branches,
            pace.right,
            reply.forced_after,
            lambda tree: pace.is_enough(n_other, tree.gains, tree.forced),
        )
        pace.learn_looking(len(tree), time.perf_counter() - start)
        return tree.first(pace.n_worth(n_other, tree.gains, tree.forced))

    def _ask_model(
        self, reply: Reply, new: Sequence[int], found: Tree, n_most: int, interrupt: Interrupt
    ) -> Tree:
        """`found`, or what the draft model says after the cache and the `new` tokens, where that is expected
        to save more."""
        model, pace = self._draft_model, self._pace
        assert model is not None
        tokens = [*self._cache.working.tokens, *new]
        n_behind = model.n_behind(tokens)
        if n_behind is None:
            return found
        n = pace.n_from_model(len(new), n_most, n_behind, model.costs, found.gains)
        if n <= 0:
            return found
        said = model.guess(tokens, n, lambda guess: reply.n_valid(guess) == len(guess), interrupt)
        if not said:
            if not interrupt():
                pace.learn_guess("model", "first", False)
            return found
        return Tree.path("model", said)

    def _learn(self, drafted: Tree, right: Sequence[int]) -> None:
        """How often each guess was right that was tried where the reply came."""
        known = {ROOT, *right}
        expected = 0.0
        n_right = 0
        came = {drafted.parents[at]: drafted.guessed[at] for at in right}
        for at, guessed in enumerate(drafted.guessed):
            parent = drafted.parents[at]
            if parent not in known or drafted.forced[at]:
                continue  # what is forced is right whatever is guessed
            first = min((one.rank for one in came.get(parent, ())), default=math.inf)
            for kind, place, rank in guessed:
                if rank <= first or at in known:
                    self._pace.learn_guess(kind, place, at in known)
            if not guessed:
                expected += drafted.gains[at] / (drafted.gains[parent] if parent != ROOT else 1.0)
                n_right += at in known
        if expected:
            self._pace.learn_text(expected / self._pace.right("text", "first"), n_right)

    def _settle(self, drafted: Tree, right: Sequence[int]) -> None:
        """Keep of the drafted tokens in the cache those that were right."""
        n_tree, n_right = len(drafted), len(right)
        if n_right == n_tree:
            return
        cache = self._cache
        start = len(cache.working.tokens) - n_tree
        if not drafted.is_path:
            self._driver.keep(start, right)
        elif not self._driver.trim(start + n_right):
            raise BackendError("internal", f"The cache could not be cut to {start + n_right} tokens.")
        cache.take_back(n_tree)
        if right:
            cache.append([drafted.tokens[at] for at in right])

    def _advance(self, batch: list[int], drafted: Tree, interrupt: Interrupt, meter: _Meter) -> Logits | None:
        """Decoded and drafted tokens into the cache: one pass, unless the grammar forced more than a chunk of
        them. Returns the logits after the last decoded token and after each drafted one."""
        logits: Logits | None = None
        n_done = 0
        while n_done < len(batch):
            if n_done and interrupt():
                return None
            n_left = len(batch) - n_done + len(drafted)
            n = self._chunks.next(n_left, self._chunk_s)
            chunk = batch[n_done : n_done + n]
            n_done += len(chunk)
            start = time.perf_counter()
            try:
                if n_done == len(batch):
                    n = len(chunk) + len(drafted)
                    logits = self._forward_with(chunk, drafted)
                else:
                    self._forward(chunk, n_logits=0)
            except Interrupted:
                return None
            self._pace.learn_pass(n, time.perf_counter() - start)
            meter.n_forward += 1
        return logits

    def _forward_with(self, tokens: Sequence[int], drafted: Tree) -> Logits:
        """One pass; the logits after the last of the tokens and after each drafted one."""
        parents = () if drafted.is_path else drafted.parents
        logits = self._forward([*tokens, *drafted.tokens], n_logits=1 + len(drafted), parents=parents)
        assert logits is not None
        return logits

    def _forward(self, tokens: Sequence[int], *, n_logits: int, parents: Sequence[int] = ()) -> Logits | None:
        """One pass; with `parents` the last of the tokens are a tree, see `Driver`."""
        self._carry_out(self._cache.room(len(tokens)))
        start = time.perf_counter()
        position = len(self._cache.working.tokens)
        try:
            if parents:
                result = self._driver.branch(tokens, position, parents)
            else:
                result = self._driver.forward(tokens, position, n_logits=n_logits)
        except Interrupted:
            raise  # nothing was changed
        except BaseException:
            # How far it got is unknown: begin anew next time.
            self._clear()
            raise
        self._cache.append(tokens)
        self._chunks.learn(len(tokens), time.perf_counter() - start)
        return result


def _slope(driver: Driver) -> float:
    return _SLOPE_CPU if driver.info.device == "CPU" else _SLOPE_GPU


def _wanted(prompt: Prompt, *, is_request: bool) -> Wanted:
    marks = prompt.marks
    before_task = marks[:-1] if is_request else marks
    n_stable = before_task[-1].end if before_task else 0
    return Wanted(prompt.tokens, tuple(marks), n_stable, needs_logits=is_request)
