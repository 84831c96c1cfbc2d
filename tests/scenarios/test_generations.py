"""Some hundred replies of random weights, as in `benchmarks/generations.py`: not one may fail to apply."""

from pathlib import Path

import generations
import pytest
from singlepass_backends.base import Finished, Timings


def test_every_finished_block_of_random_weights_applies(tmp_path: Path) -> None:
    path = tmp_path / "random.gguf"
    generations.write_model(path)
    backend = generations.open_model(path)
    try:
        *_, counts = generations.run(backend, 228)
    finally:
        backend.close()
    assert (counts.generations, counts.rejected, counts.malformed) == (228, 0, 0)
    assert counts.applied == counts.finished_hunks > 200
    assert counts.cut_off > 20
    assert set(counts.by_set) == set(generations.document_sets())
    assert 0 < counts.forced < counts.tokens


def block(old: str, new: str, path: str = "f") -> str:
    return f"{path}\n<<<<<<< SEARCH\n{old}=======\n{new}>>>>>>> REPLACE\n"


@pytest.mark.parametrize(
    ("text", "reply", "violation"),
    [
        ("a\nb\n", block("c\n", "x\n"), "rejected: The old line is not in the file"),
        ("a\na\n", block("a\n", "x\n"), "rejected: The old line occurs 2 times"),
        ("a\n", block("a\n", "x\n", "g"), "rejected: “g” is none of the files"),
        ("a \n", block("a\n", "x\n"), "not one exact place: trailing_whitespace"),
        (
            "a\nb\n",
            block("a\n", "x\n") + block("a\nb\n", "y\n"),
            "rejected: Lines 1 to 2 are already changed",
        ),
        ("a\n", "f\n<<<<<<< SEARCH\na\n", "malformed: .*unclosed"),
        ("a\n", block("a\n", "x\n") + "That is all.\n", "malformed: .*That is all"),
        ("a\n", ">>>>>>> REPLACE\n", "malformed: .*unreadable"),
        ("a\n", block("a\n", "=======\n"), "malformed: .*doubtful"),
        ("a\n", "", "without a block"),
    ],
)
def test_the_check_sees_what_is_wrong(text: str, reply: str, violation: str) -> None:
    """So that zero above means something."""
    finished = Finished("stop", Timings(n_prompt=1, n_cached=0, n_prefilled=1, n_decoded=1))
    with pytest.raises(generations.Violation, match=violation):
        generations.check("", {"f": text}, list(reply), finished, generations.Counts())
