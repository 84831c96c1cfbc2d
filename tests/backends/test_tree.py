"""Trees of what may come next: which tokens they try, in which order, and within which limits."""

import pytest
from fake_driver import FakeDriver
from hypothesis import given
from hypothesis import strategies as st
from singlepass_backends.base import Draft, Finished, GenerateRequest, PrewarmRequest, Segment, TextChunk
from singlepass_backends.generation.drafting.draft import Drafter, Kind, Place
from singlepass_backends.generation.drafting.tree import ROOT, Continuations, Guesser, Places, Tree
from singlepass_backends.generation.loop import InProcessBackend
from unlimited import Unlimited

NOTHING = Draft("", "<", "=", ">")


def right(kind: Kind, place: Place) -> float:
    return 0.5 if place == "first" else 0.95


def nothing(tokens: list[int]) -> list[int] | None:
    """A grammar that forces nothing, and refuses nothing."""
    return []


def never(tree: Tree) -> bool:
    return False


def guesser(prompt: bytes, draft: Draft = NOTHING) -> Guesser:
    continuations = Continuations(Places([*prompt]))
    continuations.begin(prompt)
    return Guesser(Drafter(draft), continuations, list, lambda token: bytes([token]))


def grown(one: Guesser, n_most: int = 40, n_branches: int = 8) -> Tree:
    return one.grow(n_most, n_branches, right, nothing, never)


def ways(tree: Tree) -> set[bytes]:
    """Every way down to an end."""
    ends = {*range(len(tree))} - {*tree.parents}
    return {bytes(tree.above(at)) for at in ends}


# What follows.


def test_the_longest_equal_end_counts_most() -> None:
    one = Continuations(Places([*b"abx cbx abx cby ab"]))
    one.begin(b"ab")
    assert max(one.after([]).items(), key=lambda item: item[1])[0] == ord("x")
    assert one.after(b"x")[ord(" ")] > 0.5


def test_what_was_said_last_counts_more_than_what_stood_in_the_prompt() -> None:
    one = Continuations(Places([*b"self.old self.old "]))
    one.begin(b" ")
    one.append(b"self.new self.")
    assert one.after([])[ord("n")] > one.after([])[ord("o")] > 0


def test_a_text_beside_the_prompt_is_looked_through() -> None:
    one = Continuations(Places([*b"nothing"]), (Places([*b"request_ctx.pop()"]),))
    one.begin(b"request_")
    assert [*one.after([])] == [ord("c")]


@given(st.binary(max_size=40), st.binary(max_size=20), st.binary(max_size=6))
def test_probabilities_are_probabilities(prompt: bytes, said: bytes, path: bytes) -> None:
    one = Continuations(Places([*prompt]))
    one.begin(prompt)
    for token in said:
        one.append([token])
        assert sum(one.after(path).values()) <= 1.0001
    again = Continuations(Places([*prompt]))
    again.begin(prompt)
    again.append(said)
    assert again.after(path) == one.after(path)


# Trees.


def test_where_guesses_differ_both_are_tried() -> None:
    tree = grown(guesser(b"see abc; see abd; see "))
    assert {b"abc; ", b"abd; "} <= {way[:5] for way in ways(tree)}
    assert tree.parents.count(ROOT) == 1


def test_new_lines_may_end_with_the_old_ones_and_before() -> None:
    old = "one\ntwo\nthree\n"
    one = guesser(b"", Draft(f"a\n<\n{old}=\n{old}", "<", "=", ">"))
    one.append(f"a\n<\n{old}=\n".encode())
    assert any(way.startswith(f"{old}>\na\n<\n".encode()) for way in ways(grown(one, 60)))
    one.append(b"new\n")
    found = ways(grown(one, 60))
    assert any(way.startswith(b">\na\n") for way in found)
    assert any(way.startswith(b"two\nthree\n") for way in found)


@given(
    st.text("ab\n<=>", max_size=60), st.text("ab\n<=>", max_size=30), st.integers(1, 30), st.integers(1, 6)
)
def test_a_tree_keeps_its_limits(prompt: str, said: str, n_most: int, n_branches: int) -> None:
    draft = Draft(said[:10], "<", "=", ">", (said[:3],), prompt)
    one = guesser(prompt.encode(), draft)
    one.append(said.encode())
    tree = grown(one, n_most, n_branches)
    assert len(tree) <= n_most
    assert len(ways(tree)) == len({*range(len(tree))} - {*tree.parents}) <= n_branches
    assert all(parent < at for at, parent in enumerate(tree.parents))
    assert tree.probabilities == sorted(tree.probabilities, reverse=True)
    for at, (token, parent) in enumerate(zip(tree.tokens, tree.parents, strict=True)):
        assert tree.child(parent, token) == at
    first = tree.first(n_most // 2)
    assert ([*first.tokens], [*first.parents]) == (tree.tokens[: len(first)], tree.parents[: len(first)])
    assert n_branches > 1 or tree.is_path


def test_no_token_is_tried_that_the_grammar_refuses() -> None:
    one = guesser(b"abc abd abe ab")
    tree = one.grow(20, 8, right, lambda tokens: None if ord("c") in tokens else [], never)
    assert tree.tokens
    assert ord("c") not in tree.tokens


def test_what_the_grammar_forces_is_certain_and_nothing_else_is_tried_in_its_place() -> None:
    def forced_after(tokens: list[int]) -> list[int]:
        return [*b"12"] if tokens == [*b"c"] else []

    tree = guesser(b"abcx abdx abcx ab").grow(20, 8, right, forced_after, never)
    forced = [at for at, is_forced in enumerate(tree.forced) if is_forced]
    assert [tree.above(at) for at in forced] == [[*b"c1"], [*b"c12"]]
    probabilities = [tree.probabilities[at] for at in (tree.parents[forced[0]], *forced)]
    assert probabilities[0] == probabilities[1] == probabilities[2]
    assert [at for at, parent in enumerate(tree.parents) if parent == tree.parents[forced[0]]] == forced[:1]
    assert tree.first(forced[-1] + 1).forced == tree.forced[: forced[-1] + 1]


# In replies.


def reply(driver: FakeDriver, draft: Draft | None, near: tuple[str, ...] = ()) -> tuple[str, Finished]:
    backend = InProcessBackend(driver, pace=Unlimited())
    segments = (Segment("file", "ab ac ad "), Segment("task", "do"))
    list(backend.prewarm(PrewarmRequest(segments[:1], corpus=near), lambda: False))
    *events, finished = backend.generate(
        GenerateRequest(segments, draft=draft, max_tokens=200), lambda: False
    )
    assert isinstance(finished, Finished)
    return "".join(event.text for event in events if isinstance(event, TextChunk)), finished


def test_a_reply_goes_down_any_branch() -> None:
    said = b"ab ad ac ab ad ab ac ac ad ab " * 3
    passes: list[int] = []
    for n_branches in (1, 2, 8):
        driver = FakeDriver(reply=said, n_batch=96, n_branches=n_branches)
        text, finished = reply(driver, NOTHING)
        assert text == said.decode()
        assert driver.tree is None
        passes.append(finished.timings.n_forward)
    assert passes[2] < passes[0]


def test_texts_beside_the_prompt_are_drafted_from_where_they_were_made_ready() -> None:
    said = b"from werkzeug.wrappers import Response\n"
    near = ("import os\nfrom werkzeug.wrappers import Response\n",)
    draft = Draft("", "<", "=", ">", corpus=near)
    counts = [
        reply(FakeDriver(reply=said, n_batch=96), draft, ready)[1].timings.n_forward for ready in ((), near)
    ]
    assert counts[1] < counts[0] / 2


@pytest.mark.parametrize("n_batch", [8, 16, 96])
def test_trees_fit_into_a_pass(n_batch: int) -> None:
    said = b"ab ad ac ab ad "
    assert reply(FakeDriver(reply=said, n_batch=n_batch), NOTHING)[0] == said.decode()
