"""The benchmark that compares replies with and without drafts counts right, and would see an error."""

from collections.abc import Callable
from pathlib import Path

import identity
import pytest
from singlepass_backends.base import Target
from singlepass_backends.drivers.llama.driver import LlamaCppDriver
from singlepass_backends.generation.driver import Logits
from singlepass_backends.generation.loop import InProcessBackend
from singlepass_backends.generation.reply import Reply
from unlimited import Unlimited


def counted(model: Path, n: int) -> identity.Counts:
    target = Target(model=str(model), n_ctx=4096, n_threads=1)
    driver = identity.Recorder(LlamaCppDriver(target, lambda _: True))
    backend = InProcessBackend(driver, pace=Unlimited())
    counts = identity.count(backend, driver, n)
    backend.close()
    return counts


def test_replies_differ_by_noise_alone(random_model: Path) -> None:
    counts = counted(random_model, 6)
    assert counts.generations == 6
    assert counts.identical + counts.near_ties == 6
    assert counts.other == 0
    assert counts.drafted > counts.accepted > 0


def test_a_draft_that_is_taken_unseen_is_counted_as_an_error(
    random_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = Reply._pick

    def always(reply: Reply, logits: Logits, is_expected: Callable[[int], bool]) -> int:
        drafted = next(filter(is_expected, range(len(logits))), None)
        return draw(reply, logits, is_expected) if drafted is None else drafted

    monkeypatch.setattr(Reply, "_pick", always)
    assert counted(random_model, 2).other > 0
