"""The policy, executed on a cache that knows which token is in which cell of which sequence."""

from dataclasses import dataclass

import pytest
from fake_driver import FakeDriver
from hypothesis import given, settings
from hypothesis import strategies as st
from singlepass_backends.generation.cache.prefix import (
    Keep,
    Mark,
    PrefixCache,
    Start,
    Step,
    Trim,
    Wanted,
    common_prefix,
    shared_end,
)

TOKENS = st.lists(st.integers(0, 2), max_size=12)


@given(TOKENS, TOKENS)
def test_common_prefix_is_the_longest(a: list[int], b: list[int]) -> None:
    n = common_prefix(a, b)
    assert a[:n] == b[:n]
    assert n == min(len(a), len(b)) or a[n] != b[n]


def prompt(*segments: tuple[str, str, bool], is_request: bool = True) -> Wanted:
    """Of `(name, text, shared)`; a character is a token."""
    tokens: list[int] = []
    marks: list[Mark] = []
    for name, text, shared in segments:
        tokens += map(ord, text)
        marks.append(Mark(name, len(tokens), shared))
    before_task = marks[:-1] if is_request else marks
    return Wanted(tokens, tuple(marks), before_task[-1].end if before_task else 0, is_request)


@dataclass
class Run:
    """What one prompt cost."""

    n_cached: int
    n_read: int
    steps: list[Step]


class World:
    """A policy and the cache that it is the record of."""

    def __init__(
        self, n_cells: int = 10_000, *, can_trim: bool = True, n_sequences: int = 5, **options: int
    ) -> None:
        self.driver = FakeDriver(
            n_ctx=n_cells, n_batch=10_000, can_trim=can_trim, n_sequences=n_sequences + 1
        )
        self.cache = PrefixCache(n_cells, n_sequences=n_sequences, can_trim=can_trim, min_kept=4, **options)
        self.states: dict[int, bytes] = {}
        self.max_checkpoints = options.get("max_checkpoints", 1000)

    def execute(self, steps: list[Step]) -> None:
        driver = self.driver
        for step in steps:
            match step:
                case Keep(slot, n):
                    driver.copy(0, slot, n)
                case Start(source, n, checkpoint):
                    if source:
                        assert driver.trim(0)
                        driver.copy(source, 0, n)
                    if checkpoint:
                        assert checkpoint.position == n
                        assert driver.restore(self.states[checkpoint.id], n)
                    elif not source:
                        assert driver.trim(n)
                case Trim(sequence, n, checkpoint):
                    assert sequence != 0
                    if checkpoint:
                        assert checkpoint.position == n
                        assert driver.restore(self.states[checkpoint.id], n, sequence)
                    else:
                        assert driver.trim(n, sequence)
            self.cache.apply(step)
            self.check()

    def check(self) -> None:
        cache, driver = self.cache, self.driver
        assert cache.n_used == driver.n_used <= driver.n_ctx
        for held, cells in zip(cache.sequences, driver.sequences, strict=False):
            assert held.tokens == [cell.token for cell in cells]
            assert sum(map(len, held.runs)) == len(cells)
            positions = [checkpoint.position for checkpoint in held.checkpoints]
            assert positions == sorted(set(positions))
            assert not positions or positions[-1] <= len(cells)

    def make_room(self, n: int) -> list[Step]:
        steps = self.cache.room(n)
        before = [(list(held.tokens), held.n_shared) for held in self.cache.sequences]
        self.execute(steps)
        self.check_shared_goes_last(before, steps)
        return steps

    def check_shared_goes_last(self, before: list[tuple[list[int], int]], steps: list[Step]) -> None:
        """Where a repository's segments are gone from the cache, nothing but such segments is left."""
        after = [held.tokens for held in self.cache.sequences]
        lost = any(
            n_shared and not any(tokens[:n_shared] == left[:n_shared] for left in after)
            for tokens, n_shared in before
        )
        if lost and self.cache.can_trim:
            for sequence, (_, n_shared) in enumerate(before[1:], 1):
                others = [cells for at, cells in enumerate(self.driver.sequences) if at != sequence]
                mine = self.driver.sequences[sequence]
                alone = [cell for cell in mine[n_shared:] if not any(cell in cells for cells in others)]
                assert not alone, steps

    def run(self, wanted: Wanted, reply: str = "", stop_after: int = 10_000) -> Run:
        """What the loop does, with a token a pass; `stop_after` tokens are read at most."""
        n_expected = self.cache.n_reusable(wanted)
        steps = self.cache.plan(wanted)
        if n_expected == len(wanted.tokens) and not wanted.needs_logits:
            assert steps == []
            self.cache.touch(wanted)
            return Run(n_expected, 0, steps)
        assert self.cache.plan(wanted) == steps  # planning changes nothing
        best = max(common_prefix(held.tokens, wanted.tokens) for held in self.cache.sequences)
        self.execute(steps)
        self.cache.begin(wanted)
        n_cached = len(self.cache.working.tokens)
        assert n_cached == n_expected <= min(best, wanted.n_most)
        assert self.driver.cells == wanted.tokens[:n_cached]
        if self.cache.can_trim:
            assert n_cached == min(best, wanted.n_most)
        stops = dict(self.cache.stops(wanted))
        tokens = [*wanted.tokens[n_cached:], *map(ord, reply)][:stop_after]
        for token in tokens:
            self.make_room(1)
            self.driver.forward([token], len(self.driver.cells), n_logits=0)
            self.cache.append([token])
            if kind := stops.get(len(self.cache.working.tokens)):
                state = self.driver.checkpoint()
                self.states[self.cache.add_checkpoint(10, kind).id] = state
                assert len(self.cache.live_checkpoints) <= self.max_checkpoints
            self.check()
        return Run(n_cached, len(wanted.tokens) - n_cached, steps)


REPOSITORIES = ["#one#" * 3, "#two#" * 3]
DOCUMENTS = {"a.py": "aaaa aaaa aaaa", "b.py": "bbbb bbbb bbbb", "c.py": "cccc cccc cccc"}


@st.composite
def wanted_prompts(draw: st.DrawFn) -> tuple[Wanted, str, int]:
    name = draw(st.sampled_from(sorted(DOCUMENTS)))
    text = DOCUMENTS[name]
    if draw(st.booleans()):
        at = draw(st.integers(0, len(text)))
        text = text[:at] + draw(st.sampled_from("xyz")) + text[at:]
    repository = ("map", draw(st.sampled_from(REPOSITORIES)), draw(st.integers(0, 4)) > 0)
    is_request = draw(st.booleans())
    segments = [repository, (name, text, False)]
    if is_request:
        segments.append(("task", draw(st.sampled_from(["fix", "explain", "f"])), False))
    elif draw(st.booleans()):
        del segments[1:]
    reply = draw(st.sampled_from(["", "ok", "ooookkkk"])) if is_request else ""
    return prompt(*segments, is_request=is_request), reply, draw(st.sampled_from([3, 10, 1000, 1000]))


@settings(max_examples=150, deadline=None)
@given(
    st.lists(wanted_prompts(), max_size=14),
    st.sampled_from([48, 60, 90, 1000]),
    st.booleans(),
    st.sampled_from([1, 2, 3, 5]),
)
def test_every_plan_is_legal_and_true(
    prompts: list[tuple[Wanted, str, int]], n_cells: int, can_trim: bool, n_sequences: int
) -> None:
    world = World(
        n_cells,
        can_trim=can_trim,
        n_sequences=n_sequences,
        checkpoint_every=5,
        max_checkpoints=6,
    )
    for wanted, reply, stop_after in prompts:
        world.run(wanted, reply, stop_after)


SHARED = ("map", "#" * 20, True)


def ask(name: str, text: str, task: str = "fix") -> Wanted:
    return prompt(SHARED, (name, text, False), ("task", task, False))


@pytest.mark.parametrize("can_trim", [True, False])
def test_going_back_and_forth_reads_nothing_twice(can_trim: bool) -> None:
    world = World(can_trim=can_trim)
    for name in "abc":
        world.run(ask(name, name * 50))
    for name in "abcabc":
        assert world.run(ask(name, name * 50)).n_read <= len("fix")
    assert world.cache.n_used < 20 + 3 * 50 + 2 * 4 * 3  # what is shared is held once


@pytest.mark.parametrize("can_trim", [True, False])
def test_an_old_version_of_a_document_is_not_kept(can_trim: bool) -> None:
    world = World(can_trim=can_trim)
    world.run(ask("b", "b" * 50))
    for n in range(10):
        world.run(ask("a", "a" * 40 + "x" * n))
    assert sum(bool(held.tokens) for held in world.cache.sequences) == 2
    assert world.run(ask("b", "b" * 50)).n_read <= len("fix")
    world.run(ask("a", "a" * 10 + "y" * 40))
    assert sum(bool(held.tokens) for held in world.cache.sequences) == 2


def test_as_many_documents_stay_as_there_are_sequences() -> None:
    world = World(n_sequences=4)
    for name in "abcd" * 2:
        world.run(ask(name, name * 50))
    kept = [held.tokens[30] for held in world.cache.sequences if held.tokens]
    assert len(kept) == len(set(kept)) == 4  # none of them twice


def test_another_repository_with_segments_of_the_same_names_is_kept() -> None:
    world = World()
    one, two = (prompt(("map", text * 30, True), ("a", "a" * 30, False), ("t", "x", False)) for text in "12")
    world.run(one)
    world.run(two)
    assert world.run(one).n_read == 1
    assert world.run(two).n_read == 1


def test_the_least_recently_used_document_goes_first_and_the_map_last() -> None:
    world = World(n_cells=20 + 3 * 100 + 10)
    for name in "abc":
        world.run(ask(name, name * 100))
    world.run(ask("a", "a" * 100))
    world.run(ask("d", "d" * 90))
    kept = {held.tokens[30] for held in world.cache.sequences if len(held.tokens) > 100}
    assert kept == {ord("a"), ord("d"), ord("c")}
    assert world.run(ask("a", "a" * 100)).n_cached >= 120
    world.run(prompt(("other", "o" * 250, False), ("task", "fix", False)))
    assert any(held.tokens[:20] == [ord("#")] * 20 for held in world.cache.sequences)
    assert world.run(ask("e", "e" * 10)).n_cached == 20


def test_checkpoints_stand_at_segment_ends_inside_long_ones_and_before_the_last_token() -> None:
    world = World(can_trim=False, checkpoint_every=100)
    wanted = ask("a", "a" * 250)
    assert world.cache.stops(wanted) == [
        (20, "shared"),
        (120, "inside"),
        (220, "inside"),
        (270, "segment"),
        (272, "last"),
    ]
    world.run(wanted, "reply")
    assert world.run(wanted).n_read == 1
    assert world.run(ask("a", "a" * 250, "other")).n_cached == 270
    assert world.run(ask("a", "a" * 190 + "b" * 60)).n_cached == 120
    assert world.run(ask("new", "n")).n_cached == 20


def test_checkpoints_are_thinned_out_where_they_are_dense() -> None:
    world = World(can_trim=False, checkpoint_every=10, max_checkpoints=6)
    world.run(ask("a", "a" * 400))
    positions = [checkpoint.position for checkpoint in world.cache.working.checkpoints]
    assert len(positions) == 6
    assert {20, 420, 422} < set(positions)
    assert shared_end(world.cache.working.marks) == 20
    bytes_limited = World(can_trim=False, checkpoint_every=10, max_checkpoint_bytes=35)
    bytes_limited.run(ask("a", "a" * 400))
    assert [c.position for c in bytes_limited.cache.working.checkpoints] == [20, 420, 422]
