"""A driver's KV cache: carries out what `PrefixCache` plans to reuse, keep and evict.

The record in `PrefixCache` always matches what the driver holds, so that later requests can reuse everything
that was computed. If a failure leaves the driver's state unknown, the cache is emptied.
"""

import logging
import time
from collections.abc import Iterable, Sequence

from singlepass_backends.base import BackendError
from singlepass_backends.generation.cache.misses import History
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
from singlepass_backends.generation.driver import Driver, Interrupted, Logits, State

MIN_SAVED = 256
"""Shorter prefixes are neither saved nor loaded: prefilling them again is cheaper."""

_log = logging.getLogger(__name__)


class KVCache:
    """The sequences of one driver, the checkpoints of their states, and the prefixes saved on disk."""

    def __init__(self, driver: Driver, store: Store | None) -> None:
        """Empties the driver's cache. `store` is where prefixes are saved; None saves nothing."""
        self.history = History()
        """What was cached recently, to explain misses."""
        self._driver = driver
        self._store = store
        self._can_trim = driver.info.can_trim
        self._scratch = driver.n_sequences - 1
        self._record = PrefixCache(
            driver.n_ctx, n_sequences=max(1, self._scratch), can_trim=driver.info.can_trim
        )
        self._states: dict[int, State] = {}
        """The states of the record's checkpoints, by id."""
        if store:
            self.history.recall(store.known)
        driver.clear()

    @property
    def n_used(self) -> int:
        """Number of cached tokens; those that sequences share count once."""
        return self._record.n_used

    @property
    def tokens(self) -> Sequence[int]:
        """The tokens of sequence 0: the prompt, and the reply so far."""
        return self._record.working.tokens

    def n_reusable(self, wanted: Wanted) -> int:
        """Number of tokens of `wanted` that could be reused. Changes nothing."""
        return self._record.n_reusable(wanted)

    def start(self, wanted: Wanted) -> int:
        """Set sequence 0 to the longest cached or saved prefix of `wanted`; returns its length."""
        self._load(wanted)
        record = self._record
        n_reusable = record.n_reusable(wanted)
        if n_reusable == len(wanted.tokens) and not wanted.needs_logits:
            record.touch(wanted)
            return n_reusable
        self._carry_out(record.plan(wanted))
        record.begin(wanted)
        return len(record.working.tokens)

    def stops(self, wanted: Wanted) -> dict[int, CheckpointKind]:
        """After how many tokens to take which checkpoint, during the prefill of `wanted`."""
        return dict(self._record.stops(wanted))

    def take_checkpoint(self, kind: CheckpointKind) -> None:
        """Store a copy of the state after the tokens so far."""
        state = self._driver.checkpoint()
        taken = self._record.add_checkpoint(len(state), kind)
        self._states[taken.id] = state
        self._forget_states()

    def make_room(self, n: int) -> None:
        """Free cells until `n` more tokens fit into sequence 0."""
        self._carry_out(self._record.room(n))

    def forward(self, tokens: Sequence[int], *, n_logits: int, parents: Sequence[int] = ()) -> Logits | None:
        """One pass, after `make_room`. With `parents` the last of the tokens are a tree, see `Driver`.

        Raises Interrupted, with nothing changed.
        """
        position = len(self.tokens)
        try:
            if parents:
                logits: Logits | None = self._driver.branch(tokens, position, parents)
            else:
                logits = self._driver.forward(tokens, position, n_logits=n_logits)
        except Interrupted:
            raise
        except BaseException:
            self._clear()  # the driver's state is unknown
            raise
        self._record.append(tokens)
        return logits

    def keep_accepted(self, n_drafted: int, accepted: Sequence[int], *, is_path: bool) -> None:
        """Keep only the accepted nodes of the last `n_drafted` tokens, a draft tree."""
        n_accepted = len(accepted)
        if n_accepted == n_drafted:
            return
        start = len(self.tokens) - n_drafted
        kept = [self.tokens[start + at] for at in accepted]
        if not is_path:
            self._driver.keep(start, accepted)
        elif not self._driver.trim(start + n_accepted):
            raise BackendError("internal", f"The cache could not be cut to {start + n_accepted} tokens.")
        self._record.take_back(n_drafted)
        if kept:
            self._record.append(kept)

    def save(self, n_most: int, mostly: float = 1.0) -> None:
        """Save the `n_most` most recently used shared prefixes, except those of which a share of `mostly` or
        more is already on disk."""
        store = self._store
        if store is None or self._scratch < 1:
            return
        by_use = sorted(enumerate(self._record.sequences), key=lambda item: -item[1].last_used)
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
            store.save(Prefix(tokens, state, checkpoints, tuple(self.history.known())))

    def close(self) -> None:
        """Wait for running saves, then empty the cache."""
        try:
            if self._store:
                self._store.wait()
        finally:
            self._record.clear()
            self._states.clear()

    def _carry_out(self, steps: Iterable[Step]) -> None:
        """Carry out the steps; if the driver rejects one, stop and empty the cache."""
        for step in steps:
            if not self._do(step):
                _log.warning("the cache refused %s: it is emptied", type(step).__name__)
                self._clear()
                return
            self._record.apply(step)
        self._forget_states()

    def _do(self, step: Step) -> bool:
        driver = self._driver
        match step:
            case Keep(slot, n):
                driver.copy(0, slot, n)
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

    def _forget_states(self) -> None:
        live = self._record.live_checkpoints
        for id in [id for id in self._states if id not in live]:
            del self._states[id]

    def _clear(self) -> None:
        self._driver.clear()
        self._record.clear()
        self._states.clear()

    def _load(self, wanted: Wanted) -> None:
        """Load a saved prefix into sequence 0 if that saves prefill."""
        if self._store is None or self._scratch < 1:
            return
        best = self._store.best(wanted.tokens, can_trim=self._can_trim)
        if best is None or best[1] < self._record.n_reusable(wanted) + MIN_SAVED:
            return
        start = time.perf_counter()
        prefix = self._store.load(best[0])
        if prefix is None or len(prefix.tokens) >= self._driver.n_ctx:
            return
        record = self._record
        loaded = Wanted(prefix.tokens, wanted.marks, wanted.n_stable)
        # Sequence 0 must be empty: the state is loaded as a whole.
        steps = [step for step in record.plan(loaded) if not isinstance(step, Start)]
        self._carry_out([*steps, Start(0, 0)])
        self.make_room(len(prefix.tokens))
        if not self._driver.load(prefix.state, len(prefix.tokens)):
            self._store.reject(best[0], "the runtime refused it")
            self._clear()
            return
        for where, state in prefix.checkpoints:
            record.append(prefix.tokens[len(self.tokens) : where.position])
            self._states[record.add_checkpoint(where.n_bytes, where.kind).id] = state
        record.append(prefix.tokens[len(self.tokens) :])
        record.begin(loaded)
        self._forget_states()
        elapsed = (time.perf_counter() - start) * 1e3
        _log.info("loaded a prefix of %d tokens in %.0f ms", len(prefix.tokens), elapsed)

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
        """Copy the shared segments of `held` to the scratch sequence. False if they cannot be separated."""
        driver, n = self._driver, held.n_shared
        if self._can_trim or n == len(held.tokens):
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
