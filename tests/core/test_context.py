"""Which files stand in the prompt, and which go first when it is too long."""

from hypothesis import given
from hypothesis import strategies as st
from singlepass.core.context import Context, SourceFile, build_context, shrink

names = st.sampled_from("abcdefgh")


def files(paths: list[str]) -> list[SourceFile]:
    return [SourceFile(path, f"text {idx}") for idx, path in enumerate(paths)]


@given(st.lists(names, max_size=8))
def test_each_path_once_the_most_related_next_to_the_target(paths: list[str]) -> None:
    context = build_context(SourceFile("a", "target"), files(paths))
    unique = list(dict.fromkeys(path for path in paths if path != "a"))
    assert [file.path for file in context.neighbours] == unique[::-1]
    for file in context.neighbours:
        assert file.text == f"text {paths.index(file.path)}"
    assert list(context.editable) == ["a", *unique]
    assert context.editable["a"] == "target"
    assert context.left_out == ()


@given(st.lists(names, max_size=8, unique=True), st.data())
def test_shrink_drops_the_least_related_first_and_no_more_than_it_must(
    paths: list[str], data: st.DataObject
) -> None:
    context = build_context(SourceFile("target", ""), files(paths))
    n_tokens = {path: data.draw(st.integers(0, 50)) for path in paths}
    n_excess = data.draw(st.integers(1, 200))
    smaller = shrink(context, n_tokens, n_excess)

    # Slow: try every number of neighbours, the largest first.
    worst_first = [file.path for file in context.neighbours]
    enough = [n for n in range(1, len(paths) + 1) if sum(n_tokens[p] for p in worst_first[:n]) >= n_excess]
    if not enough:
        assert smaller is None
        return
    assert smaller is not None
    assert smaller.left_out == tuple(worst_first[: enough[0]])
    assert smaller.neighbours == context.neighbours[enough[0] :]
    assert smaller.target == context.target


def test_shrinking_again_adds_to_what_was_left_out() -> None:
    context = build_context(SourceFile("t", ""), files(["near", "far"]))
    once = shrink(context, {"near": 5, "far": 5}, 3)
    assert once is not None
    assert once.left_out == ("far",)
    twice = shrink(once, {"near": 5}, 3)
    assert twice == Context(context.target, (), ("far", "near"))
    assert twice is not None
    assert shrink(twice, {}, 3) is None


def test_sizes_that_are_not_known_save_nothing() -> None:
    context = build_context(SourceFile("t", ""), files(["a", "b"]))
    assert shrink(context, {"a": 9}, 9) == Context(context.target, (), ("b", "a"))
    assert shrink(context, {}, 1) is None
