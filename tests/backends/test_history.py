import pytest
from singlepass_backends.base import Miss, SegmentUse
from singlepass_backends.generation.cache.misses import History, uses
from singlepass_backends.generation.cache.prefix import Mark


def prompt(**segments: str) -> tuple[list[int], list[Mark]]:
    """Segments by name; a character is a token."""
    tokens: list[int] = []
    marks: list[Mark] = []
    for name, text in segments.items():
        tokens += map(ord, text)
        marks.append(Mark(name, len(tokens)))
    return tokens, marks


def test_how_much_of_each_segment_is_cached() -> None:
    tokens, marks = prompt(map="mm", a="aaaa", task="ttt")
    expected = [
        (0, [0, 0, 0]),
        (1, [1, 0, 0]),
        (6, [2, 4, 0]),
        (8, [2, 4, 2]),
        (9, [2, 4, 3]),
    ]
    for n_cached, each in expected:
        found = uses(marks, len(tokens), n_cached)
        assert [use.n_cached for use in found] == each
        assert [use.n_tokens for use in found] == [2, 4, 3]
    # The template's tokens after the last segment count with it.
    assert uses(marks, 12, 12)[-1] == SegmentUse("task", 6, 6)


BEFORE = {"map": "mm", "b": "bbb", "a": "aaaa"}


@pytest.mark.parametrize(
    ("now", "n_cached", "miss"),
    [
        (BEFORE, 9, None),
        (BEFORE, 5, Miss("a", 4, "evicted")),
        (BEFORE, 3, Miss("b", 6, "evicted")),
        ({**BEFORE, "a": "aaxa"}, 7, Miss("a", 2, "changed")),
        ({**BEFORE, "b": "bxb"}, 3, Miss("b", 6, "changed")),
        ({"map": "mm", "a": "aaaa"}, 2, Miss("a", 4, "moved")),
        ({"map": "mm", "c": "c", "b": "bbb", "a": "aaaa"}, 2, Miss("c", 8, "new")),
        ({"map": "mm", "b": "bbb", "d": "dddd"}, 5, Miss("d", 4, "new")),
    ],
)
def test_why_a_segment_was_not_cached(now: dict[str, str], n_cached: int, miss: Miss | None) -> None:
    history = History()
    tokens, marks = prompt(**BEFORE, task="t")
    history.remember(tokens, marks, len(tokens))
    tokens, marks = prompt(**now, task="other")
    assert history.miss(tokens, marks, n_cached, has_task=True) == miss


def test_what_was_being_read_is_unfinished() -> None:
    history = History()
    tokens, marks = prompt(**BEFORE)
    history.remember(tokens, marks, 4)
    assert history.miss(tokens, marks, 4, has_task=False) == Miss("b", 5, "unfinished")
    assert history.miss(tokens, marks, 5, has_task=False) == Miss("a", 4, "unfinished")
    # Another text of the same name was never read, whole or in part.
    edited, _ = prompt(**{**BEFORE, "a": "axaa"})
    assert history.miss(edited, marks, 5, has_task=False) == Miss("a", 4, "new")
    # Read to the end it is known, and read anew and interrupted it is unfinished again.
    history.remember(tokens, marks, 9)
    assert history.miss(tokens, marks, 4, has_task=False) == Miss("b", 5, "evicted")
    assert history.miss(edited, marks, 5, has_task=False) == Miss("a", 4, "changed")
    history.remember(tokens, marks, 5)
    assert history.miss(tokens, marks, 5, has_task=False) == Miss("a", 4, "unfinished")


def test_the_next_engine_is_told_of_whole_segments_only() -> None:
    history = History()
    tokens, marks = prompt(**BEFORE)
    history.remember(tokens, marks, 7)
    assert [one.name for one in history.known()] == ["map", "b"]


def test_what_an_engine_before_this_one_had() -> None:
    tokens, marks = prompt(**BEFORE)
    before = History()
    before.remember(tokens, marks, len(tokens))
    history = History()
    history.recall(before.known())
    assert history.miss(tokens, marks, 0, has_task=False) == Miss("map", 9, "restart")
    assert history.miss(tokens, marks, 5, has_task=False) == Miss("a", 4, "restart")
    edited, _ = prompt(**{**BEFORE, "a": "axaa"})
    assert history.miss(edited, marks, 5, has_task=False) == Miss("a", 4, "changed")


def test_an_old_version_that_comes_back_was_evicted() -> None:
    history = History()
    one, marks = prompt(map="mm", a="aaaa")
    two, _ = prompt(map="mm", a="abab")
    for tokens in (one, two):
        history.remember(tokens, marks, 6)
    assert history.miss(one, marks, 3, has_task=False) == Miss("a", 3, "evicted")
