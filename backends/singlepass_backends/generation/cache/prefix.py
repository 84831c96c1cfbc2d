"""What to keep of the KV cache, and what the next prompt can use of it (sans-IO).

Theory of operation. The cache holds several sequences of tokens. Sequence 0 is the working one: prompts and
replies grow there. The others are kept for later, so that going back and forth between files reads neither of
them twice. Sequences share the cells of a common beginning, so keeping one costs the cells of its end only.

A prompt starts from the sequence with the longest usable beginning (`plan`). What the working sequence would
lose by that is kept, unless it is an old version of the same document. Cells run out token by token, so they
are found chunk by chunk (`room`): the ends of kept sequences go first, the least recently used before others
(a cell costs about the same to read again, wherever it stands), and what a whole repository shares goes last.

Models with a recurrent state cannot forget the end of a sequence. For them a sequence carries checkpoints,
copies of that state at some positions; they continue only from there, or from the very end.

`PrefixCache` is the record. `plan` and `room` change nothing: they return steps, which the caller carries out
one by one, telling the record of each (`apply`).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from singlepass_backends.generation.cache.cells import first_cells, n_distinct, n_same_cells, total_length

MIN_KEPT = 64
"""A sequence is kept only where it holds at least so many tokens that no other holds."""
CHECKPOINT_EVERY = 512
"""Tokens between checkpoints inside a segment. The budget may thin them out."""
MAX_CHECKPOINTS = 128
MAX_CHECKPOINT_BYTES = 1 << 30
_SPARE = 128
"""Cells freed beyond what is needed, so that not every decoded token has to ask."""

CheckpointKind = Literal["inside", "last", "segment", "shared"]
_WORTH: dict[CheckpointKind, int] = {"inside": 0, "last": 1, "segment": 2, "shared": 3}


@dataclass(frozen=True)
class Mark:
    """Where a segment ends in the prompt."""

    name: str
    end: int
    shared: bool = False
    """Part of what all prompts of a repository begin with."""


@dataclass(frozen=True)
class Wanted:
    """A prompt as the policy sees it."""

    tokens: Sequence[int]
    marks: tuple[Mark, ...] = ()
    n_stable: int = 0
    """Tokens before the task: what is worth keeping of it."""
    needs_logits: bool = True
    """The last token must be evaluated, because only that gives the logits the reply starts from."""

    @property
    def n_most(self) -> int:
        """The most tokens that may come from the cache."""
        return max(0, len(self.tokens) - self.needs_logits)


@dataclass(frozen=True)
class Checkpoint:
    """The recurrent state after the first `position` tokens of the sequences that have it."""

    id: int
    position: int
    n_bytes: int
    kind: CheckpointKind = "inside"


@dataclass(frozen=True)
class Keep:
    """Make the empty sequence `target` a copy of the first `n` tokens of sequence 0; it shares their cells.
    All of them where the model cannot trim."""

    target: int
    n: int


@dataclass(frozen=True)
class Start:
    """Make sequence 0 the first `n` tokens of `source`, which may be 0; a checkpoint is to be restored."""

    source: int
    n: int
    checkpoint: Checkpoint | None = None


@dataclass(frozen=True)
class Trim:
    """Forget all but `n` tokens of the kept `sequence`; a checkpoint is to be restored."""

    sequence: int
    n: int
    checkpoint: Checkpoint | None = None


Step = Keep | Start | Trim


@dataclass
class Held:
    """One sequence. `runs` are its cells: ranges of numbers, of which each evaluated token gets a new one."""

    tokens: list[int] = field(default_factory=list[int])
    runs: list[range] = field(default_factory=list[range])
    marks: tuple[Mark, ...] = ()
    n_stable: int = 0
    last_used: int = 0
    checkpoints: list[Checkpoint] = field(default_factory=list[Checkpoint])

    @property
    def n_shared(self) -> int:
        """Tokens of the repository's segments that are there."""
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
    """Where the leading shared segments end."""
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
    """The record of what a driver's cache holds, and the policy over it."""

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
        """Cells in use; those that sequences share count once."""
        return n_distinct(held.runs for held in self.sequences)

    @property
    def live_checkpoints(self) -> dict[int, Checkpoint]:
        """All checkpoints that some sequence still has, by id. The states of others can go."""
        return {checkpoint.id: checkpoint for held in self.sequences for checkpoint in held.checkpoints}

    # What the caller tells.

    def begin(self, wanted: Wanted) -> None:
        """The steps of `plan(wanted)` were carried out; the working sequence now grows towards it."""
        self._n_requests += 1
        working = self.working
        working.marks, working.n_stable, working.last_used = wanted.marks, wanted.n_stable, self._n_requests

    def touch(self, wanted: Wanted) -> None:
        """All of `wanted` was found to be there."""
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
        """The last `n` tokens of sequence 0, none of them shared, were forgotten."""
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
            case Keep(target, n):
                sequences[target] = self.working.beginning(n)
            case Trim(sequence, n):
                sequences[sequence] = sequences[sequence].beginning(n) if n else Held()
            case Start(source, n):
                working = self.working
                for held in sequences[1:]:
                    if held.tokens and n_same_cells(held.runs, working.runs) == len(held.tokens):
                        held.last_used = max(held.last_used, working.last_used)
                sequences[0] = sequences[source].beginning(n) if n else Held()

    def add_checkpoint(self, n_bytes: int, kind: CheckpointKind) -> Checkpoint:
        """A checkpoint of the working sequence as it is now was taken. Others may go for it."""
        self._n_taken += 1
        taken = Checkpoint(self._n_taken, len(self.working.tokens), n_bytes, kind)
        self.working.checkpoints.append(taken)
        while (
            len(live := self.live_checkpoints) > self._max_checkpoints
            or sum(checkpoint.n_bytes for checkpoint in live.values()) > self._max_checkpoint_bytes
        ) and len(live) > 1:
            self._thin_out(taken)
        return taken

    # What the caller asks.

    def n_reusable(self, wanted: Wanted) -> int:
        """Tokens of `wanted` that would not be read again."""
        return self._best(wanted)[1]

    def plan(self, wanted: Wanted) -> list[Step]:
        """The steps after which sequence 0 is the longest usable beginning of `wanted`.

        No steps where all of `wanted` is there and nothing has to be evaluated.
        """
        source, n, checkpoint = self._best(wanted)
        if n == len(wanted.tokens) and not wanted.needs_logits:
            return []
        steps: list[Step] = []
        sequences = dict(enumerate(self.sequences))
        for key, held in sequences.items():
            # A sequence that begins this one is obsolete too, but its cells are then those of this one.
            if key not in (0, source) and held.tokens and self._is_obsolete(held, wanted):
                steps.append(Trim(key, 0))
                sequences[key] = Held()
        n_kept = self._n_worth_keeping(sequences, source, n, wanted)
        if n_kept:
            target = next((key for key in sequences if key and not sequences[key].tokens), None)
            if target is None and (target := _slot_to_free(sequences, source)):
                steps.append(Trim(target, 0))
            if target:
                steps.append(Keep(target, n_kept))
        if source != 0 or n < len(self.working.tokens) or checkpoint:
            steps.append(Start(source, n, checkpoint))
        if source != 0:
            # All that was kept it for is now in the working sequence, or it is an old version of that.
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
        """Where to take checkpoints while `wanted` is read, after what is there already."""
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

    # How it is decided.

    def _usable(self, held: Held, wanted: Wanted) -> tuple[int, Checkpoint | None]:
        """How many tokens of `held` can begin `wanted`, and what must be restored for that."""
        n = min(common_prefix(held.tokens, wanted.tokens), wanted.n_most)
        if self.can_trim or n == len(held.tokens):
            return n, None
        fitting = (checkpoint for checkpoint in held.checkpoints if checkpoint.position <= n)
        best = max(fitting, key=lambda checkpoint: checkpoint.position, default=None)
        return (best.position, best) if best else (0, None)

    def _best(self, wanted: Wanted) -> tuple[int, int, Checkpoint | None]:
        """The sequence to continue, how much of it, what to restore. Ties go to the working sequence."""
        source, n, checkpoint = 0, *self._usable(self.working, wanted)
        for key, held in enumerate(self.sequences[1:], 1):
            n_here, needed = self._usable(held, wanted)
            if n_here > n:
                source, n, checkpoint = key, n_here, needed
        return source, n, checkpoint

    def _n_worth_keeping(self, sequences: Mapping[int, Held], source: int, n: int, wanted: Wanted) -> int:
        """How much of the working sequence to keep apart; 0 where it is not worth a sequence."""
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
        """Whether `held` is an older version of `wanted`: they part inside segments of the same name. Parting
        in a shared segment says nothing: another repository has segments of these names too."""
        n = common_prefix(held.tokens, wanted.tokens)
        for old, new in zip(held.marks, wanted.marks, strict=False):
            if old.end > n or new.end > n:
                return old.name == new.name and not (old.shared or new.shared)
        return False

    def _victim(self, runs: Mapping[int, list[range]], n_needed: int) -> Trim | None:
        """The next sequence to shorten. None where only the working sequence is left."""
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
                # Without a checkpoint it goes as a whole; what it shares with others stays with them.
                if n_shared == 0 or self._is_elsewhere(key, n_shared, runs):
                    return Trim(key, 0)
            # Cells that two kept sequences share belong to neither: one of them goes.
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
        """Drop the checkpoint that costs least to do without: inside a segment before at its end, of old
        sequences before the working one, and there where the next one before it is nearest."""

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
    """The kept sequence to give up for another: one whose cells others hold too, then the oldest; the last
    one with a repository's segments only where nothing else is left."""

    def cost(key: int) -> tuple[bool, bool, int]:
        held = sequences[key]
        others = [other for other_key, other in sequences.items() if other_key != key]
        n_common = max((n_same_cells(held.runs, other.runs) for other in others), default=0)
        return n_common < held.n_shared, n_common < len(held.tokens), held.last_used

    return min((key for key in sequences if key not in (0, source)), key=cost, default=None)


def _last_of_each(steps: Iterable[Trim]) -> list[Step]:
    """Of several trims of one sequence only the last is needed."""
    last = {step.sequence: step for step in steps}
    return list(last.values())


def _position(checkpoint: Checkpoint) -> int:
    return checkpoint.position
