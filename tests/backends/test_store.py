"""Saved prefixes: whatever is wrong with a file, nothing but what was saved is ever loaded."""

import os
import random
import shutil
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
from fake_driver import check_same_choices
from runtimes import Kind, Runtime, run
from singlepass_backends.base import GenerateRequest, Segment, Target
from singlepass_backends.generation.cache import store as store_module
from singlepass_backends.generation.cache.misses import Known
from singlepass_backends.generation.cache.prefix import common_prefix
from singlepass_backends.generation.cache.store import Prefix, SavedCheckpoint, Store, assemble, parse
from singlepass_backends.generation.driver import State
from singlepass_backends.generation.loop import InProcessBackend

PREFIX = Prefix(
    list(range(300)),
    b"state" * 100,
    ((SavedCheckpoint(100, 5, "segment"), b"check"), (SavedCheckpoint(300, 6, "shared"), b"points")),
    (Known("map", b"1" * 16, b"2" * 16),),
)


def save(store: Store, prefix: Prefix = PREFIX) -> Path:
    store.save(prefix)
    store.wait()
    found = store.best(prefix.tokens, can_trim=True)
    assert found is not None
    return found[0]


def test_what_was_saved_is_loaded_by_the_next_store(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    path = save(Store(folder, "model"))
    assert path.stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700
    assert list(folder.iterdir()) == [path]
    store = Store(folder, "model")
    assert store.known == list(PREFIX.known)
    assert store.best([*PREFIX.tokens, 7], can_trim=True) == (path, 300)
    assert store.best(PREFIX.tokens[:50], can_trim=True) == (path, 50)
    assert store.best(PREFIX.tokens[:50], can_trim=False) is None
    assert store.best([9, 9], can_trim=True) is None
    assert store.n_saved(PREFIX.tokens[:200]) == 200
    assert store.n_saved([*PREFIX.tokens, 7]) == 300
    assert store.n_saved([9]) == 0
    assert store.load(path) == PREFIX
    assert Store(folder, "another model").best(PREFIX.tokens, can_trim=True) is None


def test_a_longer_prefix_replaces_its_beginning(tmp_path: Path) -> None:
    store = Store(tmp_path / "cache", "model")
    first = save(store)
    second = save(store, Prefix([*PREFIX.tokens, 1, 2], b"longer"))
    assert not first.exists()
    assert store.best(PREFIX.tokens, can_trim=True) == (second, 300)


def test_the_oldest_go_when_the_budget_is_spent(tmp_path: Path) -> None:
    size = sum(map(len, assemble(PREFIX, "model")))
    store = Store(tmp_path / "cache", "model", max_bytes=size * 5 // 2)
    paths: list[Path] = []
    for number in range(3):
        paths.append(save(store, Prefix([number, *PREFIX.tokens[1:]], PREFIX.state, PREFIX.checkpoints)))
        os.utime(paths[-1], (number, number))
    assert [path.exists() for path in paths] == [False, True, True]
    assert store.best([0, *PREFIX.tokens[1:]], can_trim=True) is None
    store.save(Prefix([5, 6], b"x" * size * 3))  # more than the whole budget
    store.wait()
    assert [path.exists() for path in paths] == [False, True, True]


def test_an_unreadable_folder_is_told_once_and_harms_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("not a folder")
    shared = tmp_path / "shared"
    shared.mkdir(mode=0o755)
    for folder in (tmp_path / "file", tmp_path / "file" / "below", shared):
        caplog.clear()
        store = Store(folder, "model")
        store.save(PREFIX)
        store.wait()
        assert store.best(PREFIX.tokens, can_trim=True) is None
        assert len(caplog.records) == 1
    assert list(shared.iterdir()) == []


def test_a_full_disk_is_told_and_leaves_no_rest(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path / "cache", "model")

    def full(_self: Path, _target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    store.save(PREFIX)
    store.wait()
    assert "No space left" in caplog.text
    assert list((tmp_path / "cache").iterdir()) == []
    assert store.best(PREFIX.tokens, can_trim=True) is None


@pytest.mark.parametrize("asks", ["best", "n_saved"])
@pytest.mark.parametrize("ends", ["evicts", "fails"])
def test_the_writer_may_end_while_the_owner_looks_at_what_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asks: str, ends: str
) -> None:
    """Between any two prefixes that are compared."""
    others = [Prefix([n, *PREFIX.tokens[1:]], PREFIX.state, PREFIX.checkpoints) for n in range(3)]
    size = sum(map(len, assemble(PREFIX, "model")))
    store = Store(tmp_path / "cache", "model", max_bytes=size * 7 // 2)
    paths = [save(store, one) for one in others]
    may_go_on = threading.Event()

    def wait(prefix: Prefix, key: str) -> list[State]:
        may_go_on.wait()
        if ends == "fails":
            raise MemoryError
        return assemble(prefix, key)

    def look(one: Sequence[int], other: Sequence[int]) -> int:
        may_go_on.set()
        assert store._writer is not None
        store._writer.join()
        return common_prefix(one, other)

    monkeypatch.setattr(store_module, "assemble", wait)
    newest = Prefix([7, *PREFIX.tokens[1:]], PREFIX.state, PREFIX.checkpoints)
    store.save(newest)
    monkeypatch.setattr(store_module, "common_prefix", look)
    if asks == "best":
        assert store.best(others[2].tokens, can_trim=True) == (paths[2], 300)
    else:
        assert store.n_saved(others[2].tokens) == 300
    monkeypatch.setattr(store_module, "common_prefix", common_prefix)
    # And then it is known what is no more.
    gone = others[0] if ends == "evicts" else newest
    assert store.n_saved(gone.tokens) == 0
    assert store.best(gone.tokens, can_trim=True) is None
    assert store.n_saved((newest if ends == "evicts" else others[0]).tokens) == 300


def test_what_was_found_and_had_to_go_meanwhile_is_no_broken_file(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    size = sum(map(len, assemble(PREFIX, "model")))
    store = Store(tmp_path / "cache", "model", max_bytes=size * 3 // 2)
    path = save(store)
    found = store.best(PREFIX.tokens, can_trim=True)
    assert found == (path, 300)
    store.save(Prefix([7, *PREFIX.tokens[1:]], PREFIX.state, PREFIX.checkpoints))
    assert store.load(path) is None
    assert not caplog.records


SYSTEM = Segment("rules", "You edit code. Answer with edits only.\n", "system", shared=True)
MAP = Segment("map", "".join(f"def function_{n}(value, other): ...\n" for n in range(60)), shared=True)
FILE = Segment("a.py", "def value(a, b):\n    return a + b\n" * 4)
REQUEST = GenerateRequest((SYSTEM, MAP, FILE, Segment("task", "Rename value.")), max_tokens=16)


def target(runtime: Runtime, kind: Kind = "attention", **settings: object) -> Target:
    return runtime.target(kind, **{"n_batch": 256, "n_ctx": 2048, **settings})


@pytest.mark.parametrize("kind", ["attention", "hybrid"])
def test_nothing_shared_is_read_again_after_a_restart(runtime: Runtime, kind: Kind, tmp_path: Path) -> None:
    cold, backend = runtime.watched(target(runtime, kind), tmp_path / "cache")
    _, first = run(backend, REQUEST)
    assert first.timings.n_cached == 0
    assert first.miss is not None
    assert first.miss.reason == "new"
    backend.close()
    warm, backend = runtime.watched(target(runtime, kind), tmp_path / "cache")
    _, second = run(backend, REQUEST)
    check_same_choices(warm.choices, cold.choices)
    rules, map_, file, task = second.segments
    assert (rules.n_cached, map_.n_cached) == (rules.n_tokens, map_.n_tokens)
    assert file.n_cached == task.n_cached == 0
    assert second.miss is not None
    assert (second.miss.segment, second.miss.reason) == ("a.py", "restart")
    # And going on from there is as if nothing had been.
    third = run(backend, REQUEST)[1]
    assert third.timings.n_prefilled == 1
    other = GenerateRequest((SYSTEM, MAP, Segment("b.py", "x = 1\n" * 30), Segment("task", "Do.")))
    assert run(backend, other)[1].segments[1].n_cached == map_.n_tokens
    backend.close()
    # The same content elsewhere is the same model; another context, or cache, is another state.
    model, copied = runtime.model(kind), tmp_path / "copied"
    if model.is_dir():
        shutil.copytree(model, copied)
    else:
        shutil.copy(model, copied)
    for settings in ({"model": str(copied)}, {"n_ctx": 1536}, {"kv_cache_type": "q8_0"}):
        _, backend = runtime.watched(target(runtime, kind, **settings), tmp_path / "cache")
        assert (run(backend, REQUEST)[1].timings.n_cached > 0) == ("model" in settings)
        backend.close()


def test_a_state_that_the_runtime_refuses_is_read_anew(
    runtime: Runtime, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _, backend = runtime.watched(target(runtime), tmp_path / "cache")
    cold, _ = run(backend, REQUEST)
    backend.close()
    [path] = (tmp_path / "cache").iterdir()
    driver = runtime.driver(target(runtime))
    good = parse(path.read_bytes(), driver.state_key)
    for state in (good.state[: len(good.state) // 2], b"", b"\xff" * 1000):
        bad = Prefix(good.tokens, state, good.checkpoints, good.known)
        path.write_bytes(b"".join(assemble(bad, driver.state_key)))
        backend = InProcessBackend(driver, Store(tmp_path / "cache", driver.state_key))
        text, finished = run(backend, REQUEST)
        assert finished.timings.n_cached == 0
        assert text == cold
        assert "the runtime refused it" in caplog.text
        assert not path.exists()
    driver.close()


def test_1000_corruptions_of_a_saved_prefix_are_all_detected(runtime: Runtime, tmp_path: Path) -> None:
    driver, backend = runtime.watched(target(runtime), tmp_path / "cache")
    run(backend, REQUEST)
    key = driver.state_key
    backend.close()
    [path] = (tmp_path / "cache").iterdir()
    good = path.read_bytes()
    wanted = parse(good, key)
    choose = random.Random(0)
    for number in range(1000):
        bad = bytearray(good)
        at = choose.randrange(len(bad)) if number % 2 else choose.randrange(2000)
        match number % 5:
            case 0:
                del bad[at:]
            case 1:
                bad[at] ^= 1 << choose.randrange(8)
            case 2:
                bad[at : at + 16] = choose.randbytes(16)
            case 3:
                bad += choose.randbytes(choose.randrange(1, 50))
            case _:
                bad[at:at] = choose.randbytes(choose.randrange(1, 50))
        path.write_bytes(bad)
        store = Store(tmp_path / "cache", key)
        found = store.best(wanted.tokens, can_trim=True)
        # Noticed in the header at once, or when it is loaded; the file is removed then.
        assert found is None or store.load(found[0]) is None
        assert store.load(path) is None
        assert not path.exists()
