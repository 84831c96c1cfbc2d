from pathlib import Path

import pytest
from singlepass.core.estimate import Sample
from singlepass.history import History

SAMPLE = Sample("model on CPU", 1000, 500.0, 100, 2000.0)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SINGLEPASS_STATE_DIR", str(tmp_path / "state"))
    return tmp_path / "state"


def test_what_a_job_took_is_known_to_the_next_server() -> None:
    assert History().rates(SAMPLE.target) is None
    History().add(SAMPLE)
    known = History().rates(SAMPLE.target)
    assert known is not None
    assert (known.prefill, known.decode, known.n_reply) == (2000.0, 50.0, 100)
    assert History().rates("another model") is None


def test_a_damaged_history_costs_no_more_than_its_lines(folder: Path) -> None:
    History().add(SAMPLE)
    path = folder / "history.jsonl"
    path.write_bytes(b"\xff\xfe not json\n" + path.read_bytes() + b'{"target": 3}\n' + b'{"cut off')
    assert History().rates(SAMPLE.target) is not None


def test_a_folder_that_cannot_be_written_is_no_error(folder: Path) -> None:
    folder.write_text("a file where the folder should be")
    history = History()
    history.add(SAMPLE)
    assert history.rates(SAMPLE.target) is not None


def test_the_file_does_not_grow_for_ever(folder: Path) -> None:
    history = History()
    for _ in range(2500):
        history.add(SAMPLE)
    assert (folder / "history.jsonl").stat().st_size < 120_000
    assert History().rates(SAMPLE.target) is not None
