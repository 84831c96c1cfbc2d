"""The policy of the prefix cache: what is kept, reused and evicted (sans-IO).

Theory of operation. The cache holds several sequences of tokens. Sequence 0 is the working sequence, where
prompts and replies are evaluated. The others are kept for later, so that switching back and forth between
files prefills neither of them twice. Sequences share the cells of a common prefix, so keeping one costs only
the cells after it.

A prompt starts from the sequence with the longest usable prefix (`plan`). What the working sequence would
lose by that is kept, unless it is an old version of the same document. Cells are freed chunk by chunk, as
needed (`room`): the ends of kept sequences are evicted first, least recently used first (prefilling a cell
again costs about the same at any position), and what a whole repository shares is evicted last.

Models with a recurrent state cannot truncate a sequence. For them a sequence has checkpoints, copies of that
state at some positions; they can continue only from a checkpoint or from the end.

`PrefixCache` is a record of the cache. `plan` and `room` change nothing: they return steps, which the caller
carries out one by one and reports back with `apply`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from singlepass_backends.generation.cache.cells import first_cells, n_distinct, n_same_cells, total_length

MIN_KEPT = 64
"""A sequence is kept only if it has at least this many tokens that no other has."""
CHECKPOINT_EVERY = 512
"""Tokens between checkpoints inside a segment. Some are dropped if they exceed the budget."""
MAX_CHECKPOINTS = 128
MAX_CHECKPOINT_BYTES = 1 << 30
_SPARE = 128
"""Cells freed beyond what is needed, so that not every decoded token needs an eviction."""

CheckpointKind = Literal["inside", "last", "segment", "shared"]
_WORTH: dict[CheckpointKind, int] = {"inside": 0, "last": 1, "segment": 2, "shared": 3}


@dataclass(frozen=True)
class Mark:
    """Where a segment ends in the prompt."""

    name: str
    end: int
    shared: bool = False
    """Whether it belongs to the prefix that all prompts of a repository share."""


@dataclass(frozen=True)
class Wanted:
    """A prompt, as input of the policy."""

    tokens: Sequence[int]
    marks: tuple[Mark, ...] = ()
    n_stable: int = 0
    """Number of tokens before the task, which are worth keeping."""
    needs_logits: bool = True
    """Whether the last token must be evaluated, to get the logits for the first token of the reply."""

    @property
    def n_most(self) -> int:
        """Maximum number of tokens that may be reused."""
        return max(0, len(self.tokens) - self.needs_logits)


@dataclass(frozen=True)
class Checkpoint:
    """The recurrent state after the first `position` tokens of the sequences that have this checkpoint."""

    id: int
    position: int
    n_bytes: int
    kind: CheckpointKind = "inside"


@dataclass(frozen=True)
class Keep:
    """Copy the first `n` tokens of sequence 0 to the empty sequence `slot`, which shares their cells; all
    of them if the model cannot trim."""

    slot: int
    n: int


@dataclass(frozen=True)
class Start:
    """Set sequence 0 to the first `n` tokens of `source` (possibly 0); restores a checkpoint, if given."""

    source: int
    n: int
    checkpoint: Checkpoint | None = None


@dataclass(frozen=True)
class Trim:
    """Truncate the kept `sequence` to `n` tokens; restores a checkpoint, if given."""

    sequence: int
    n: int
    checkpoint: Checkpoint | None = None


Step = Keep | Start | Trim


@dataclass
class Held:
    """One sequence. `runs` are its cells, as ranges of numbers; each evaluated token gets a new number."""

    tokens: list[int] = field(default_factory=list[int])
    runs: list[range] = field(default_factory=list[range])
    marks: tuple[Mark, ...] = ()
    n_stable: int = 0
    last_used: int = 0
    checkpoints: list[Checkpoint] = field(default_factory=list[Checkpoint])

    @property
    def n_shared(self) -> int:
        """Number of its tokens in the repository's shared segments."""
        return min(len(self.tokens), shared_end(self.marks))

    def beginning(self, n: int) -> "Held":
        """A sequence of the first `n` tokens, with the same cells."""
        kept = [checkpoint for checkpoint in self.checkpoints if checkpoint.position <= n]
        return Held(
            self.tokens[:n],
            first_cells(self.runs, n),
            self.marks,
            min(self.n_stable, n),
            self.last_used,
            kept,
        )


def shared_end(marks: Iterable[Mark]) -> int:
    """Position where the leading shared segments end."""
    end = 0
    for mark in marks:
        if not mark.shared:
            break
        end = mark.end
    return end


def common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    """Length of the longest common prefix, by bisection over slices: no Python-level loop over tokens."""
    n = min(len(a), len(b))
    if a[:n] == b[:n]:
        return n
    low, high = 0, n  # a[:low] == b[:low], a[:high] != b[:high]
    while high - low > 1:
        middle = (low + high) // 2
        if a[low:middle] == b[low:middle]:
            low = middle
        else:
            high = middle
    return low


class PrefixCache:
    """The record of what a driver's cache holds, and the policy."""

    def __init__(
        self,
        n_cells: int,
        *,
        n_sequences: int = 1,
        can_trim: bool = True,
        min_kept: int = MIN_KEPT,
        checkpoint_every: int = CHECKPOINT_EVERY,
        max_checkpoints: int = MAX_CHECKPOINTS,
        max_checkpoint_bytes: int = MAX_CHECKPOINT_BYTES,
    ) -> None:
        self.n_cells = n_cells
        self.can_trim = can_trim
        self.sequences: list[Held] = [Held() for _ in range(n_sequences)]
        self._min_kept = min_kept
        self._every = checkpoint_every
        self._max_checkpoints = max_checkpoints
        self._max_checkpoint_bytes = max_checkpoint_bytes
        self._n_evaluated = 0
        self._n_requests = 0
        self._n_taken = 0

    @property
    def working(self) -> Held:
        """Sequence 0."""
        return self.sequences[0]

    @property
    def n_used(self) -> int:
        """Number of cells in use; shared ones count once."""
        return n_distinct(held.runs for held in self.sequences)

    @property
    def live_checkpoints(self) -> dict[int, Checkpoint]:
        """All checkpoints that a sequence still has, by id. The states of others can be freed."""
        return {checkpoint.id: checkpoint for held in self.sequences for checkpoint in held.checkpoints}

    # Updates by the caller.

    def begin(self, wanted: Wanted) -> None:
        """The steps of `plan(wanted)` were carried out; the prefill of `wanted` begins."""
        self._n_requests += 1
        working = self.working
        working.marks, working.n_stable, working.last_used = wanted.marks, wanted.n_stable, self._n_requests

    def touch(self, wanted: Wanted) -> None:
        """`wanted` was completely cached: mark it as used."""
        self._n_requests += 1
        for held in self.sequences:
            if common_prefix(held.tokens, wanted.tokens) == len(wanted.tokens):
                held.last_used = self._n_requests

    def append(self, tokens: Sequence[int]) -> None:
        """`tokens` were evaluated at the end of sequence 0."""
        start = self._n_evaluated
        self._n_evaluated += len(tokens)
        working = self.working
        working.tokens += tokens
        if working.runs and working.runs[-1].stop == start:
            working.runs[-1] = range(working.runs[-1].start, self._n_evaluated)
        else:
            working.runs.append(range(start, self._n_evaluated))

    def take_back(self, n: int) -> None:
        """The last `n` tokens of sequence 0, none of them shared, were removed."""
        working = self.working
        n_kept = len(working.tokens) - n
        del working.tokens[n_kept:]
        working.runs = first_cells(working.runs, n_kept)

    def clear(self) -> None:
        """The cache was emptied."""
        self.sequences = [Held() for _ in self.sequences]

    def apply(self, step: Step) -> None:
        """`step` was carried out."""
        sequences = self.sequences
        match step:
            case Keep(slot, n):
                sequences[slot] = self.working.beginning(n)
            case Trim(sequence, n):
                sequences[sequence] = sequences[sequence].beginning(n) if n else Held()
            case Start(source, n):
                working = self.working
                for held in sequences[1:]:
                    if held.tokens and n_same_cells(held.runs, working.runs) == len(held.tokens):
                        held.last_used = max(held.last_used, working.last_used)
                sequences[0] = sequences[source].beginning(n) if n else Held()

    def add_checkpoint(self, n_bytes: int, kind: CheckpointKind) -> Checkpoint:
        """A checkpoint of the current working sequence was taken. May drop others to stay in the budget."""
        self._n_taken += 1
        taken = Checkpoint(self._n_taken, len(self.working.tokens), n_bytes, kind)
        self.working.checkpoints.append(taken)
        while (
            len(live := self.live_checkpoints) > self._max_checkpoints
            or sum(checkpoint.n_bytes for checkpoint in live.values()) > self._max_checkpoint_bytes
        ) and len(live) > 1:
            self._thin_out(taken)
        return taken

    # Queries by the caller.

    def n_reusable(self, wanted: Wanted) -> int:
        """Number of tokens of `wanted` that could be reused."""
        return self._best(wanted)[1]

    def plan(self, wanted: Wanted) -> list[Step]:
        """The steps that set sequence 0 to the longest usable prefix of `wanted`.

        None if all of `wanted` is cached and nothing has to be evaluated.
        """
        source, n, checkpoint = self._best(wanted)
        if n == len(wanted.tokens) and not wanted.needs_logits:
            return []
        steps: list[Step] = []
        sequences = dict(enumerate(self.sequences))
        for key, held in sequences.items():
            # A sequence that is a prefix of this one is obsolete too, but this one has the same cells.
            if key not in (0, source) and held.tokens and self._is_obsolete(held, wanted):
                steps.append(Trim(key, 0))
                sequences[key] = Held()
        n_kept = self._n_worth_keeping(sequences, source, n, wanted)
        if n_kept:
            slot = next((key for key in sequences if key and not sequences[key].tokens), None)
            if slot is None and (slot := _slot_to_free(sequences, source)):
                steps.append(Trim(slot, 0))
            if slot:
                steps.append(Keep(slot, n_kept))
        if source != 0 or n < len(self.working.tokens) or checkpoint:
            steps.append(Start(source, n, checkpoint))
        if source != 0:
            # The working sequence now has everything that is useful of it, or it is an old version of that.
            held = sequences[source]
            n_worth = min(held.n_stable, len(held.tokens))
            if n >= n_worth or self._is_obsolete(held, wanted):
                steps.append(Trim(source, 0))
        return steps

    def room(self, n: int) -> list[Step]:
        """The steps that free cells until `n` more tokens fit into sequence 0; the working sequence itself
        is never touched."""
        runs = {key: list(held.runs) for key, held in enumerate(self.sequences) if held.tokens}
        n_free = self.n_cells - n_distinct(runs.values())
        steps: list[Trim] = []
        while n_free < n:
            step = self._victim(runs, n - n_free)
            if step is None:
                break
            steps.append(step)
            runs[step.sequence] = first_cells(runs[step.sequence], step.n)
            n_free = self.n_cells - n_distinct(runs.values())
        return _last_of_each(steps)

    def stops(self, wanted: Wanted) -> list[tuple[int, CheckpointKind]]:
        """Where to take checkpoints during the prefill of `wanted`, after the cached part."""
        if self.can_trim:
            return []
        found: dict[int, CheckpointKind] = {}
        start = 0
        for mark in wanted.marks:
            inside = range(start + self._every, mark.end - self._every // 4, self._every)
            found.update(dict.fromkeys(inside, "inside"))
            start = mark.end
        found.update((mark.end, "segment") for mark in wanted.marks if mark.end <= wanted.n_stable)
        if wanted.needs_logits:
            found[len(wanted.tokens) - 1] = "last"
        if (end := shared_end(wanted.marks)) in found:
            found[end] = "shared"
        n_done = len(self.working.tokens)
        return sorted((at, kind) for at, kind in found.items() if n_done < at <= len(wanted.tokens))

    # The decisions.

    def _usable(self, held: Held, wanted: Wanted) -> tuple[int, Checkpoint | None]:
        """How many tokens of `held` can be reused for `wanted`, and the checkpoint to restore for that."""
        n = min(common_prefix(held.tokens, wanted.tokens), wanted.n_most)
        if self.can_trim or n == len(held.tokens):
            return n, None
        fitting = (checkpoint for checkpoint in held.checkpoints if checkpoint.position <= n)
        best = max(fitting, key=lambda checkpoint: checkpoint.position, default=None)
        return (best.position, best) if best else (0, None)

    def _best(self, wanted: Wanted) -> tuple[int, int, Checkpoint | None]:
        """The sequence to continue, the number of its tokens, and the checkpoint to restore. Ties go to the
        working sequence."""
        source, n, checkpoint = 0, *self._usable(self.working, wanted)
        for key, held in enumerate(self.sequences[1:], 1):
            n_here, needed = self._usable(held, wanted)
            if n_here > n:
                source, n, checkpoint = key, n_here, needed
        return source, n, checkpoint

    def _n_worth_keeping(self, sequences: Mapping[int, Held], source: int, n: int, wanted: Wanted) -> int:
        """How many tokens of the working sequence to keep as another sequence; 0 if that is not
        worthwhile."""
        working = self.working
        n_worth = min(working.n_stable, len(working.tokens)) if self.can_trim else len(working.tokens)
        if (source == 0 and n >= n_worth) or self._is_obsolete(working, wanted):
            return 0
        n_elsewhere = common_prefix(working.tokens, wanted.tokens)
        for key, held in sequences.items():
            if key:
                n_elsewhere = max(n_elsewhere, common_prefix(working.tokens, held.tokens))
        n_useful = min(working.n_stable, len(working.tokens))
        return n_worth if n_useful - n_elsewhere >= self._min_kept else 0

    @staticmethod
    def _is_obsolete(held: Held, wanted: Wanted) -> bool:
        """Whether `held` is an older version of `wanted`: they diverge inside segments of the same name,
        which are not shared segments, since other repositories have shared segments of the same names."""
        n = common_prefix(held.tokens, wanted.tokens)
        for old, new in zip(held.marks, wanted.marks, strict=False):
            if old.end > n or new.end > n:
                return old.name == new.name and not (old.shared or new.shared)
        return False

    def _victim(self, runs: Mapping[int, list[range]], n_needed: int) -> Trim | None:
        """The next sequence to truncate; None if only the working sequence is left."""
        kept = sorted((key for key in runs if key), key=lambda key: self.sequences[key].last_used)
        for spares_shared in (True, False):
            for key in kept:
                length = total_length(runs[key])
                n_common = max(
                    (n_same_cells(runs[key], runs[other]) for other in runs if other != key), default=0
                )
                n_shared = min(self.sequences[key].n_shared, length) if spares_shared else 0
                least = max(n_common, n_shared)
                if length <= least:
                    continue
                n_wanted = max(least, length - max(n_needed, _SPARE))
                if self.can_trim:
                    return Trim(key, n_wanted)
                places = [c for c in self.sequences[key].checkpoints if least <= c.position < length]
                if places:
                    before = [c for c in places if c.position <= n_wanted]
                    place = max(before, key=_position) if before else min(places, key=_position)
                    return Trim(key, place.position, place)
                # Without a checkpoint it is removed as a whole; others keep the cells that they share with
                # it.
                if n_shared == 0 or self._is_elsewhere(key, n_shared, runs):
                    return Trim(key, 0)
            # Only cells that kept sequences share are left: remove one of these sequences.
            for key in kept:
                length = total_length(runs[key])
                n_shared = min(self.sequences[key].n_shared, length) if spares_shared else 0
                is_within = any(
                    n_same_cells(runs[key], runs[other]) == length for other in kept if other != key
                )
                if length > n_shared and is_within:
                    return Trim(key, 0)
        return None

    def _is_elsewhere(self, key: int, n: int, runs: Mapping[int, Sequence[range]]) -> bool:
        """Whether another sequence can continue after the first `n` tokens of this one."""
        tokens = self.sequences[key].tokens
        for other in runs:
            length = total_length(runs[other])
            held = self.sequences[other]
            if other != key and length >= n and common_prefix(held.tokens, tokens) >= n:
                places = {length, *(checkpoint.position for checkpoint in held.checkpoints)}
                if n in places:
                    return True
        return False

    def _thin_out(self, newest: Checkpoint) -> None:
        """Drop the least useful checkpoint: those inside a segment before those at its end, those of old
        sequences before those of the working one, and then the one closest to its predecessor."""

        def cost(held: Held, index: int) -> tuple[int, int, int]:
            before = held.checkpoints[index - 1].position if index else 0
            checkpoint = held.checkpoints[index]
            return _WORTH[checkpoint.kind], held.last_used, checkpoint.position - before

        costs: dict[int, tuple[int, int, int]] = {}
        for held in self.sequences:
            for index, checkpoint in enumerate(held.checkpoints):
                if checkpoint.id != newest.id:
                    costs[checkpoint.id] = max(costs.get(checkpoint.id, (0, 0, 0)), cost(held, index))
        least = min(costs, key=costs.__getitem__)
        for held in self.sequences:
            held.checkpoints = [checkpoint for checkpoint in held.checkpoints if checkpoint.id != least]


def _slot_to_free(sequences: Mapping[int, Held], source: int) -> int | None:
    """The kept sequence to replace by another: one whose cells other sequences have too, then the oldest; the
    last one with a repository's segments only if nothing else is left."""

    def cost(key: int) -> tuple[bool, bool, int]:
        held = sequences[key]
        others = [other for other_key, other in sequences.items() if other_key != key]
        n_common = max((n_same_cells(held.runs, other.runs) for other in others), default=0)
        return n_common < held.n_shared, n_common < len(held.tokens), held.last_used

    return min((key for key in sequences if key not in (0, source)), key=cost, default=None)


def _last_of_each(steps: Iterable[Trim]) -> list[Step]:
    """Only the last of several trims of a sequence."""
    last = {step.sequence: step for step in steps}
    return list(last.values())


def _position(checkpoint: Checkpoint) -> int:
    return checkpoint.position
