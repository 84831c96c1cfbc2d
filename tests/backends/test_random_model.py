import sys
from pathlib import Path

import pytest
from singlepass_backends.base import BackendError
from singlepass_backends.testing.random_model import write_random_model


def test_the_default_is_small_and_reproducible(tmp_path: Path, random_model: Path) -> None:
    assert random_model.stat().st_size < 2_000_000
    corpus = ["def value():\n    return 1\n"] * 3
    for name in ("a", "b"):
        write_random_model(tmp_path / name, corpus=corpus)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    write_random_model(tmp_path / "c", corpus=corpus, seed=1)
    assert (tmp_path / "a").read_bytes() != (tmp_path / "c").read_bytes()


def test_a_missing_package_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(BackendError, match=r"singlepass\[models\]") as caught:
        write_random_model(tmp_path / "a", corpus=["x"])
    assert caught.value.code == "unsupported"
