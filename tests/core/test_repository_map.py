"""The repository map: within the budget, the same for the same outlines, and what is used most."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from singlepass.repository.map import IDLE_S, build_map, drift, drifted, next_step
from singlepass.repository.outline import Definition, Outline

names = st.sampled_from(["alpha", "Beta", "gamma_ray", "_delta", "run", "Config", "load"])
definitions = st.lists(
    st.builds(
        Definition,
        name=names | st.just(""),
        signature=st.text("abc def(): é", min_size=1, max_size=40),
        depth=st.integers(0, 3),
        doc=st.text("doc. ", max_size=20),
    ),
    max_size=6,
).map(tuple)
outlines = st.dictionaries(
    st.from_regex(r"[ab]{1,2}/[cd]{1,3}\.(py|go)", fullmatch=True),
    st.builds(
        Outline,
        language=st.sampled_from(["python", "go"]),
        definitions=definitions,
        references=st.lists(names, unique=True, max_size=5).map(lambda found: tuple(sorted(found))),
    ),
    max_size=8,
)


@st.composite
def repositories(draw: st.DrawFn) -> tuple[dict[str, Outline], dict[str, tuple[str, ...]]]:
    files = draw(outlines)
    paths = sorted(files)
    several = st.lists(st.sampled_from(paths), unique=True, max_size=3) if paths else st.just([])
    return files, {path: tuple(draw(several)) for path in paths}


@given(repositories(), st.integers(0, 800), st.randoms(use_true_random=False))
def test_never_over_budget_and_the_same_for_any_order(
    repository: tuple[dict[str, Outline], dict[str, tuple[str, ...]]], budget: int, shuffle: random.Random
) -> None:
    files, imports = repository
    text = build_map(files, budget, imports)
    assert len(text) <= budget
    paths = list(files)
    shuffle.shuffle(paths)
    assert build_map({path: files[path] for path in paths}, budget, imports) == text
    assert drifted(text, files, budget, imports) is None
    # Grouped by path, in order; each definition after those it stands in.
    shown = [line for line in text.splitlines() if not line.startswith(" ")]
    assert shown == sorted(set(shown))
    for line, following in zip(text.splitlines(), text.splitlines()[1:], strict=False):
        if line in shown:
            assert following.startswith(" ")


@given(repositories())
def test_a_budget_without_limit_shows_no_line_that_is_not_there(
    repository: tuple[dict[str, Outline], dict[str, tuple[str, ...]]],
) -> None:
    files, imports = repository
    path = ""
    for line in build_map(files, 100_000, imports).splitlines():
        if line.startswith(" "):
            assert any(line.strip().startswith(one.signature.strip()) for one in files[path].definitions)
        else:
            path = line


def module(*defined: str, uses: tuple[str, ...] = (), language: str = "python") -> Outline:
    found = tuple(Definition(name, f"def {name}()") for name in defined)
    return Outline(language, found, tuple(sorted({*defined, *uses})))


REPOSITORY = {
    "core.py": module("build_index", "helper_one", "helper_two"),
    "a.py": module("run_a", uses=("build_index",)),
    "b.py": module("run_b", uses=("build_index", "run_a")),
    "tests/test_b.py": module("test_b", uses=("run_b", "build_index")),
}
IMPORTS = {"a.py": ("core.py",), "b.py": ("core.py", "a.py"), "tests/test_b.py": ("b.py", "core.py")}


@pytest.mark.parametrize(
    ("budget", "expected"),
    [
        (0, ""),
        (15, ""),
        (40, "core.py\n  def build_index()\n"),
        (60, "a.py\n  def run_a()\ncore.py\n  def build_index()\n"),
    ],
)
def test_what_is_used_most_comes_first_and_is_shown_by_path(budget: int, expected: str) -> None:
    assert build_map(REPOSITORY, budget, IMPORTS) == expected


def test_a_definition_brings_what_it_stands_in() -> None:
    nested = (Definition("Store", "class Store"), Definition("", "impl X", 1), Definition("get_all", "f", 2))
    files = {"s.py": Outline("python", nested), "u.py": Outline("python", (), ("get_all",))}
    assert build_map(files, 1_000, {"u.py": ("s.py",)}) == "s.py\n  class Store\n    impl X\n      f\n"


def test_names_mean_the_file_that_was_imported() -> None:
    files = {"x.py": module("load_all"), "y.py": module("load_all"), "u.py": module(uses=("load_all",))}
    assert build_map(files, 30, {"u.py": ("y.py",)}) == "y.py\n  def load_all()\n"


def test_languages_do_not_mix() -> None:
    files = {
        "a.go": module("load_all", language="go"),
        "b.go": module("load_one", language="go"),
        "u.py": module(uses=("load_one",)),
        "v.go": module(uses=("load_all",), language="go"),
    }
    assert build_map(files, 30) == "a.go\n  def load_all()\n"


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("", "", 0),
        ("a\n  x\n", "a\n  x\n", 0),
        ("", "a\n  x\n", 1),
        ("a\n  x\n  y\n", "a\n  x\n  z\n", 2 / 3),
        ("a\n  x\n", "b\n  x\n", 1),
    ],
)
def test_drift_is_the_share_of_lines_that_only_one_has(old: str, new: str, expected: float) -> None:
    assert drift(old, new) == pytest.approx(expected)


def test_only_a_real_drift_makes_a_new_map() -> None:
    files = {f"{idx}.py": module(f"name_{idx}") for idx in range(20)}
    old = build_map(files, 10_000)
    assert drifted(old, {**files, "0.py": module("another")}, 10_000, {}) is None
    changed = {path: module(f"other_{path[:-3]}") for path in list(files)[:5]}
    assert drifted(old, {**files, **changed}, 10_000, {}) == build_map({**files, **changed}, 10_000)
    smaller = drifted(old, files, 100, {})
    assert smaller is not None
    assert len(smaller) <= 100


NOW = {"stale": False, "ready": False, "busy": False, "idle_s": IDLE_S, "built_s_ago": 1e9, "cost_s": 1.0}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "nothing"),
        ({"stale": True}, "ask"),
        ({"ready": True}, "adopt"),
        ({"stale": True, "ready": True}, "adopt"),
        ({"stale": True, "busy": True}, "wait"),
        ({"ready": True, "busy": True}, "wait"),
        ({"ready": True, "idle_s": IDLE_S - 0.1}, "wait"),
        ({"stale": True, "built_s_ago": 99.0}, "wait"),
        ({"stale": True, "built_s_ago": 100.0}, "ask"),
        ({"ready": True, "built_s_ago": 0.0}, "adopt"),
    ],
)
def test_the_next_step(changes: dict[str, float], expected: str) -> None:
    assert next_step(**{**NOW, **changes}) == expected  # type: ignore[arg-type]
