"""Which files stand in the prompt, and which go first when it is too long."""

from hypothesis import given
from hypothesis import strategies as st
from singlepass.core.context import MAP, Context, SourceFile, build_context, shrink

names = st.sampled_from("abcdefgh")


def files(paths: list[str]) -> list[SourceFile]:
    return [SourceFile(path, f"text {idx}") for idx, path in enumerate(paths)]


@given(st.lists(names, max_size=8))
def test_each_path_once_where_it_does_not_move(paths: list[str]) -> None:
    context = build_context(SourceFile("a", "edited"), files(paths))
    unique = list(dict.fromkeys(path for path in paths if path != "a"))
    assert [file.path for file in context.neighbours] == sorted(unique)
    assert list(context.least_related) == unique[::-1]
    for file in context.neighbours:
        assert file.text == f"text {paths.index(file.path)}"
    assert list(context.editable) == ["a", *sorted(unique)]
    assert context.editable["a"] == "edited"
    assert context.left_out == ()


@given(st.lists(names, max_size=8, unique=True), st.data())
def test_shrink_drops_the_least_related_first_and_no_more_than_it_must(
    paths: list[str], data: st.DataObject
) -> None:
    context = build_context(SourceFile("edited", ""), files(paths))
    n_tokens = {path: data.draw(st.integers(0, 50)) for path in paths}
    n_excess = data.draw(st.integers(1, 200))
    smaller = shrink(context, n_tokens, n_excess)

    # Slow: try every number of neighbours, the largest first.
    worst_first = list(context.least_related)
    enough = [n for n in range(1, len(paths) + 1) if sum(n_tokens[p] for p in worst_first[:n]) >= n_excess]
    if not enough:
        assert smaller is None
        return
    assert smaller is not None
    assert smaller.left_out == tuple(worst_first[: enough[0]])
    kept = worst_first[enough[0] :]
    assert smaller.neighbours == tuple(file for file in context.neighbours if file.path in kept)
    assert smaller.edited == context.edited


def test_shrinking_again_adds_to_what_was_left_out() -> None:
    context = build_context(SourceFile("t", ""), files(["near", "far"]))
    once = shrink(context, {"near": 5, "far": 5}, 3)
    assert once is not None
    assert once.left_out == ("far",)
    twice = shrink(once, {"near": 5}, 3)
    assert twice == Context(context.edited, (), ("far", "near"))
    assert twice is not None
    assert shrink(twice, {}, 3) is None


def test_sizes_that_are_not_known_save_nothing() -> None:
    context = build_context(SourceFile("t", ""), files(["a", "b"]))
    assert shrink(context, {"a": 9}, 9) == Context(context.edited, (), ("b", "a"))
    assert shrink(context, {}, 1) is None


def test_open_files_stand_in_the_order_in_which_they_were_opened() -> None:
    """Whichever file is edited or was used last; a new one comes after those that are cached."""

    def order(*recent: tuple[str, int | None]) -> list[str]:
        given = [SourceFile(path, "", opened=opened) for path, opened in recent]
        return [file.path for file in build_context(SourceFile("t", ""), given).neighbours]

    assert order(("b", 1), ("a", 2)) == order(("a", 2), ("b", 1)) == ["b", "a"]
    assert order(("new", 3), ("near.py", None), ("a", 2), ("b", 1)) == ["b", "a", "new", "near.py"]


def test_files_that_are_only_read_have_to_fit_and_are_not_editable() -> None:
    open_one = SourceFile("open", "x" * 50)
    near = [SourceFile(f"near{n}", "y" * n, editable=False) for n in (6, 9, 4)]
    context = build_context(SourceFile("t", ""), [open_one, *near], "map", budget=12)
    assert {file.path for file in context.neighbours} == {"near4", "near6", "open"}
    assert context.left_out == ("near9",)
    assert list(context.editable) == ["t", "open"]
    assert context.map == "map"


def test_the_map_goes_last() -> None:
    context = build_context(SourceFile("t", ""), files(["a"]), "map")
    once = shrink(context, {"a": 5, MAP: 7}, 5)
    assert once == Context(context.edited, (), ("a",), "map")
    assert once is not None
    assert shrink(once, {MAP: 7}, 7) == Context(context.edited, (), ("a", MAP))
    assert shrink(once, {MAP: 7}, 8) is None
