"""`benchmarks/misquotes.py`: that its oracle judges well, and a little of what it measures, as a promise."""

import random

import pytest
from changes import OWN, documents
from misquotes import KINDS, judge, measure, n_lost, replies, run
from replying import Reply

BEFORE = "first = 1\nsecond = 2  # kept\nthird = 3\n"
WANTED = "first = 1\nsecond = 4  # kept\nthird = 3\n"
POOL = documents([OWN], 200, random.Random(2))


@pytest.mark.parametrize(
    ("after", "told", "expected"),
    [
        (WANTED, [], ("right", 0)),
        (WANTED, ["one note about a repetition"], ("right", 0)),
        (WANTED, ["a", "b"], ("wrong", 0)),
        # Blanks at the end of a line that the model wrote, and of one that it did not.
        (WANTED.replace("kept", "kept "), [], ("right", 0)),
        (WANTED.replace("third = 3", "third = 3 "), [], ("wrong", 0)),
        (WANTED.replace("\n", "\r\n"), [], ("wrong", 0)),
        (BEFORE, ["not found"], ("refused", 0)),
        # Nothing done, and nothing said about it.
        (BEFORE, [], ("wrong", 0)),
        (WANTED.replace("  # kept", ""), [], ("wrong", 0)),
        (WANTED.replace("third = 3\n", ""), [], ("wrong", 1)),
        (WANTED.replace("third = 3\n", "\n"), ["something was refused"], ("wrong", 1)),
        ("", [], ("wrong", 2)),
    ],
)
def test_the_oracle_compares_with_what_the_user_wants(
    after: str, told: list[str], expected: tuple[str, int]
) -> None:
    reply = Reply({"a.py": BEFORE}, "", [{"a.py": WANTED}], [])
    assert judge(reply, {"a.py": after}, told) == expected


def test_of_several_blocks_some_may_be_refused_as_a_whole() -> None:
    files, done, half = {"a": "x = 1\ny = 1\n"}, {"a": "x = 2\ny = 2\n"}, {"a": "x = 2\ny = 1\n"}
    reply = Reply(files, "", [done], [half])
    assert judge(reply, half, ["the second was refused"]).what == "refused"
    assert judge(reply, half, []).what == "wrong"
    assert judge(reply, {"a": "x = 1\ny = 1\nx = 2\n"}, ["refused"]).what == "wrong"


def test_a_line_is_lost_when_none_is_like_it_and_nobody_wanted_it_gone() -> None:
    text = "def total(rows):\n    check(rows)\n\n    return sum(rows)\n"
    assert n_lost(text, text, text.replace("    check(rows)\n", "")) == 1
    assert n_lost(text, text, text.replace("check(rows)", "check(row)")) == 0  # changed
    assert n_lost(text, text, text.replace("    check", "  check")) == 0
    assert n_lost(text, text, text.replace("\n\n", "\n")) == 0  # has no code
    assert n_lost(text, text.replace("    check(rows)\n", ""), "") == 2


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_has_replies_with_a_change_in_them(name: str) -> None:
    made = replies(name, 2, POOL, random.Random(3))
    assert made
    for reply in made:
        assert reply.files not in reply.accepted
        assert all(files.keys() == reply.files.keys() for files in (*reply.accepted, *reply.partial))


def test_what_is_quoted_as_it_is_in_the_document_is_placed_right() -> None:
    row = measure("nothing: as it is in the document", 100, POOL, seed=4)
    assert row.counts == {"right": 100}


def test_an_edit_that_does_what_the_model_wrote_and_not_what_was_meant_is_wrong() -> None:
    """The oracle has no mercy with a matcher that simply puts the new lines where the old ones are alike."""
    reply = replies("end-of-line comment left out, line changed", 1, POOL, random.Random(5))[0]
    (path, wanted), *_ = reply.accepted[0].items()
    new_lines = reply.text.partition("=======\n")[2].partition(">>>>>>> REPLACE")[0]
    assert new_lines not in wanted
    assert run(reply.text, reply.files)[0].keys() == {path}


def test_hardly_a_misquote_leads_to_a_wrong_edit_or_a_lost_line() -> None:
    """The edits are those of our own sources as they are now, so a rare one that cannot be known may be among
    them; the promises themselves are tests of the planner."""
    rows = [measure(name, 4, POOL, seed=6) for name in KINDS]
    bad = [text for row in rows for text in row.bad]
    assert len(bad) <= sum(row.counts.total() for row in rows) // 100, bad
    assert sum(row.n_lost for row in rows) <= 1, bad
