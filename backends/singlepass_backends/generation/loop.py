"""The generation loop of all in-process models: prefill in chunks, then decode.

Theory of operation. A request starts from the longest usable prefix of its prompt in the KV cache or on disk
(`cache.kv_cache`), and prefills the rest chunk by chunk (`chunks`). Then it decodes: sample a token from the
last logits under the constraint, append the tokens that the grammar forces after it and a draft of what comes
next (`drafting.drafting`), and evaluate them all in one forward pass, whose logits verify the draft.
`interrupt` is checked between passes; a driver that supports it also stops within a pass.
"""

import codecs
import logging
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import NamedTuple

from singlepass_backends.base import (
    Event,
    FinishReason,
    GenerateRequest,
    Interrupt,
    ModelInfo,
    PrewarmRequest,
    Segment,
    SegmentUse,
)
from singlepass_backends.generation.cache.kv_cache import KVCache
from singlepass_backends.generation.cache.misses import uses
from singlepass_backends.generation.cache.prefix import Wanted
from singlepass_backends.generation.cache.store import Store
from singlepass_backends.generation.chunks import MIN_CHUNK, ChunkSize, chunk_seconds
from singlepass_backends.generation.constraint import Constraints
from singlepass_backends.generation.drafting.drafting import Drafting
from singlepass_backends.generation.drafting.pace import Pace
from singlepass_backends.generation.drafting.tree import ROOT, Tree
from singlepass_backends.generation.driver import Driver, Interrupted, Logits
from singlepass_backends.generation.meter import Meter
from singlepass_backends.generation.prompt import Prompt, PromptBuilder, check_fits, fitting
from singlepass_backends.generation.reply import Reply
from singlepass_backends.generation.sampling import Sampler

_MAX_SAVED_AT_EXIT = 4
"""Number of prefixes that are saved when the engine exits."""
_MOSTLY = 0.8
"""If this share of a prefix is already on disk, the rest is saved only when the engine exits."""

_log = logging.getLogger(__name__)


class _Verified(NamedTuple):
    """The result of verifying a pass: the new tokens, how many of them the grammar forced, the accepted draft
    nodes among them, and the finish reason, if any."""

    tokens: list[int]
    n_forced: int
    accepted: list[int]
    reason: FinishReason | None


class _Pass(NamedTuple):
    """The logits of a pass: after the last token before the draft, and after each drafted token."""

    logits: Logits
    drafted: Tree


class InProcessBackend:
    """Runs requests on a `Driver`; implements `base.Backend`. Call it from one thread only."""

    def __init__(
        self,
        driver: Driver,
        store: Store | None = None,
        pace: Pace | None = None,
    ) -> None:
        """`store` saves the prefixes of repositories; None saves nothing. `pace` decides how much is drafted;
        None creates one that learns."""
        self.info: ModelInfo = driver.info
        self._driver = driver
        self._prompts = PromptBuilder(driver)
        self._constraints = Constraints(driver)
        self._chunks = ChunkSize(driver.n_batch)
        self._chunk_s = 0.0
        self._drafting = Drafting(driver, pace)
        self._cache = KVCache(driver, store)

    @property
    def n_cached(self) -> int:
        """Tokens held in the KV cache; those that sequences share count once."""
        return self._cache.n_used

    def warm(self) -> None:
        """Do in advance what the first request would wait for: a pass that touches all weights, and building
        the constraint's token trie, which takes up to a second.

        The pass has two tokens, because prefill uses other kernels than decode. If they need an instruction
        that the processor lacks, the process dies now, while loading, and not in the user's first request.
        """
        self._driver.forward([0, 0][: self._driver.n_batch], 0, n_logits=1)
        self._driver.clear()
        self._constraints.warm()

    def generate(
        self, request: GenerateRequest, interrupt: Interrupt, arrived: float | None = None
    ) -> Iterator[Event]:
        """See `base.Backend.generate`. The tokens of a truncated reply stay cached, like those of a finished
        one."""
        meter = Meter.begin(arrived)
        constraint = self._constraints.open(request.grammar) if request.grammar is not None else None
        prompt = self._prompts.build(request.segments)
        check_fits(prompt, self._driver.n_ctx, request.min_reply)
        guesser = self._drafting.guesser(request.draft, prompt.tokens)
        reply = Reply(Sampler(request.sampling), constraint, guesser, self._driver)
        last = yield from self._prefill(prompt, interrupt, meter, self._ending(reply, request.max_tokens))
        reason: FinishReason = "cancelled"
        if last is not None:
            reason = yield from self._decode(request, reply, last, interrupt, meter)
        yield meter.finished(reason)

    def prewarm(self, request: PrewarmRequest, interrupt: Interrupt) -> Iterator[Event]:
        """See `base.Backend.prewarm`."""
        meter = Meter.begin()
        prompt = fitting(self._prompts.build(request.segments, complete=False), self._driver.n_ctx)
        yield from self._prefill(prompt, interrupt, meter)
        is_done = meter.n_left == 0
        if is_done and request.grammar is not None and not interrupt():
            self._constraints.open(request.grammar)  # caches the compiled grammar
        if is_done and not interrupt():
            self._drafting.index_corpus(request.corpus)
        yield meter.finished("stop" if is_done else "cancelled")

    def inspect(self, segments: tuple[Segment, ...]) -> tuple[SegmentUse, ...]:
        """See `base.Backend.inspect`."""
        prompt = self._prompts.build(segments)
        n_cached = self._cache.n_reusable(_wanted(prompt, is_request=True))
        return uses(prompt.marks, len(prompt.tokens), n_cached)

    def rest(self) -> None:
        """See `base.Backend.rest`. Saves the most recently used shared prefix; if most of it is already
        saved, that is left to `close`, to spare the disk."""
        self._cache.save(1, _MOSTLY)

    def close(self) -> None:
        """Save shared prefixes and free the model."""
        try:
            self._cache.save(_MAX_SAVED_AT_EXIT)
            self._cache.close()
        except Exception:
            _log.exception("saving failed")
        finally:
            self._driver.close()

    def _ending(self, reply: Reply, max_tokens: int) -> Callable[[int, list[int]], _Pass]:
        """A function for the last pass of a prefill: the prompt's last tokens and a draft of the beginning of
        `reply`."""

        def end(n_prompt: int, chunk: list[int]) -> _Pass:
            n_most = min(max_tokens, self._driver.n_ctx - n_prompt, MIN_CHUNK)
            n_most = min(n_most, self._driver.n_batch - len(chunk))
            drafted = self._drafting.grow(reply, (), len(chunk), n_most)
            return _Pass(self._forward_with(chunk, drafted), drafted)

        return end

    def _prefill(
        self,
        prompt: Prompt,
        interrupt: Interrupt,
        meter: Meter,
        end: Callable[[int, list[int]], _Pass] | None = None,
    ) -> Generator[Event, None, _Pass | None]:
        """Prefill what is not cached of `prompt`. With `end`, it makes the last pass, which is returned; None
        without it, or if interrupted."""
        tokens, marks = prompt.tokens, prompt.marks
        wanted = _wanted(prompt, is_request=end is not None)
        cache = self._cache
        n_done = cache.start(wanted)
        meter.n_prompt, meter.n_cached = len(tokens), n_done
        meter.segments = uses(marks, len(tokens), n_done)
        meter.miss = cache.history.miss(tokens, marks, n_done, has_task=end is not None)
        stops = cache.stops(wanted) if n_done < len(tokens) else {}
        last: _Pass | None = None
        can_stop = self._driver.watch(interrupt)
        self._chunk_s = chunk_seconds(is_request=end is not None, can_stop=can_stop)
        try:
            yield meter.progress()
            while n_done < len(tokens) and not interrupt():
                n_next = min((at for at in stops if at > n_done), default=len(tokens))
                chunk = tokens[n_done : n_done + self._chunks.next(n_next - n_done, self._chunk_s)]
                try:
                    if end is not None and n_done + len(chunk) == len(tokens):
                        last = end(len(tokens), chunk)
                    else:
                        self._forward(chunk, n_logits=0)
                except Interrupted:
                    break
                n_done += len(chunk)
                meter.n_prefilled = n_done - meter.n_cached
                if n_done in stops:
                    cache.take_checkpoint(stops[n_done])
                yield meter.progress()
        finally:
            cache.history.remember(tokens, marks, n_done)
        meter.prefilled = time.perf_counter()
        return last

    def _decode(
        self, request: GenerateRequest, reply: Reply, last: _Pass, interrupt: Interrupt, meter: Meter
    ) -> Generator[Event, None, FinishReason]:
        """Decode until a finish reason, and return it."""
        cache, drafting, driver = self._cache, self._drafting, self._driver
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        reason: FinishReason | None = None
        while reason is None:
            drafted = last.drafted
            if interrupt():
                cache.keep_accepted(len(drafted), (), is_path=drafted.is_path)
                reason = "cancelled"
                break
            n_room = driver.n_ctx - len(cache.tokens) + len(drafted)
            said, n_forced, accepted, reason = self._verify(reply, last, request.max_tokens, n_room, meter)
            if text := decoder.decode(b"".join(map(driver.piece, said))):
                yield meter.text(text)
            cache.keep_accepted(len(drafted), accepted, is_path=drafted.is_path)
            drafting.learn(drafted, accepted, len(said) - n_forced, n_forced)
            if reason is not None:
                break
            new = said[len(accepted) :]
            n_most = min(request.max_tokens - meter.n_decoded, n_room - len(said))
            n_most = min(n_most, min(MIN_CHUNK, driver.n_batch) - len(new))
            tree = drafting.grow(reply, said, len(new), n_most)
            logits = self._advance(new, tree, interrupt, meter)
            if logits is None:
                reason = "cancelled"
            else:
                last = _Pass(logits, tree)
        if text := decoder.decode(b"", True):
            yield meter.text(text)
        return reason

    def _verify(self, reply: Reply, last: _Pass, max_tokens: int, n_room: int, meter: Meter) -> _Verified:
        """Choose tokens from the logits of a pass, following the draft tree while it contains the chosen
        tokens.

        The first row of logits is for the position after the last token before the tree, each other row for
        the position after a node of the tree.
        """
        logits, drafted = last
        said: list[int] = []
        accepted: list[int] = []
        n_forced_in_all = 0
        reason: FinishReason | None = None
        while reason is None and len(accepted) == len(said):
            at = accepted[-1] if accepted else ROOT
            n_most = min(max_tokens - meter.n_decoded, n_room - len(said))
            tokens, n_forced = reply.choose(logits[at + 1], drafted.expects(at), n_most)
            if tokens and n_forced < len(tokens):
                meter.n_accepted += drafted.child(at, tokens[0]) is not None
            for token in tokens:
                if (node := drafted.child(at, token)) is None:
                    break
                at = node
                accepted.append(node)
            said += tokens
            n_forced_in_all += n_forced
            meter.n_decoded += len(tokens)
            if not tokens or reply.stopped:
                reason = "stop"
            elif meter.n_decoded >= max_tokens:
                reason = "length"
            elif len(said) >= n_room:
                reason = "context"
        meter.n_forced += n_forced_in_all
        meter.n_drafted += len(drafted)
        return _Verified(said, n_forced_in_all, accepted, reason)

    def _advance(self, batch: list[int], drafted: Tree, interrupt: Interrupt, meter: Meter) -> Logits | None:
        """Evaluate decoded and drafted tokens: one pass, unless the grammar forced more than a chunk. Returns
        the logits after the last decoded token and after each drafted one; None if interrupted."""
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
            self._drafting.learn_pass(n, time.perf_counter() - start)
            meter.n_forward += 1
        return logits

    def _forward_with(self, tokens: Sequence[int], drafted: Tree) -> Logits:
        """One pass; returns the logits after the last of `tokens` and after each drafted one."""
        parents = () if drafted.is_path else drafted.parents
        logits = self._forward([*tokens, *drafted.tokens], n_logits=1 + len(drafted), parents=parents)
        assert logits is not None
        return logits

    def _forward(self, tokens: Sequence[int], *, n_logits: int, parents: Sequence[int] = ()) -> Logits | None:
        """One pass, which also updates the measured rates. See `KVCache.forward`."""
        self._cache.make_room(len(tokens))
        start = time.perf_counter()
        logits = self._cache.forward(tokens, n_logits=n_logits, parents=parents)
        self._chunks.learn(len(tokens), time.perf_counter() - start)
        return logits


def _wanted(prompt: Prompt, *, is_request: bool) -> Wanted:
    marks = prompt.marks
    before_task = marks[:-1] if is_request else marks
    n_stable = before_task[-1].end if before_task else 0
    return Wanted(prompt.tokens, tuple(marks), n_stable, needs_logits=is_request)
