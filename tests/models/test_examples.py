"""The examples that the edit model learns from: the answer makes the expected files, in our format."""

import ast
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from corpus import Corpus, read_corpus, split_of
from evaluate import edited
from examples import Case, Size, answer, make_case
from kinds import KINDS
from singlepass.core.diff_parser import DiffParser, HunkFinished
from singlepass.core.grammar import edit_grammar
from singlepass_backends.base import Target
from singlepass_backends.drivers.llama.driver import LlamaCppDriver
from singlepass_backends.generation.constraint import Constraints


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return read_corpus("held_out")


@pytest.fixture(scope="module")
def driver(random_gguf: Path) -> Iterator[LlamaCppDriver]:
    driver = LlamaCppDriver(Target(model=str(random_gguf), n_ctx=256), lambda _: True)
    yield driver
    driver.close()


@pytest.mark.parametrize("kind", KINDS)
def test_the_answer_makes_the_expected_files(kind: str, corpus: Corpus) -> None:
    for case in cases(kind, corpus, 15):
        text = answer(case)
        assert edited(case, text) == case.expected
        parser = DiffParser(files=case.files)
        events = [*parser.feed(text), *parser.close()]
        n_hunks = sum(isinstance(event, HunkFinished) for event in events)
        assert n_hunks == text.count("<<<<<<< SEARCH\n") > 0
        assert case.files != case.expected


@pytest.mark.parametrize("kind", KINDS)
def test_the_edited_files_are_python(kind: str, corpus: Corpus) -> None:
    for case in cases(kind, corpus, 10):
        for path, text in case.expected.items():
            if compiles(case.files[path]):
                assert compiles(text), text


@pytest.mark.parametrize("kind", KINDS)
def test_the_grammar_admits_the_answer(kind: str, corpus: Corpus, driver: LlamaCppDriver) -> None:
    constraints = Constraints(driver)
    for case in cases(kind, corpus, 3):
        constraint = constraints.open(edit_grammar(case.files))
        for token in driver.tokenize(answer(case).encode(), special=False):
            constraint.consume(token)


def test_the_same_seed_makes_the_same_cases(corpus: Corpus) -> None:
    def some() -> list[Case]:
        source = random.Random(7)
        return [make_case(corpus, source, Size()) for _ in range(20)]

    assert some() == some()


def test_what_evaluates_is_never_trained_on(tmp_path: Path) -> None:
    shared = "def shared(value):\n    return [value, value, value, value]\n"
    own = "def own_{0}(value):\n    return [value, 'only in {0}', value]\n"
    packages = [f"package{i}" for i in range(60)]
    for package in packages:
        indented = "class A:\n" + "".join(f"    {line}\n" for line in shared.splitlines())
        (tmp_path / f"{package}.py").write_text(own.format(package) + "\n\n" + indented)
    held_out, trained = read_corpus("held_out", tmp_path), read_corpus("train", tmp_path)
    assert {split_of(package) for package in packages} == {"train", "held_out"}
    assert all(split_of(function.package) == "held_out" for function in held_out.functions)
    assert all(split_of(function.package) == "train" for function in trained.functions)
    assert [function.name for function in held_out.functions].count("shared") == 1
    assert "shared" not in [function.name for function in trained.functions]
    assert len(held_out.functions) + len(trained.functions) == len(packages) + 1


def cases(kind: str, corpus: Corpus, n: int) -> list[Case]:
    source = random.Random(f"test {kind}")
    return [make_case(corpus, source, Size(), kind) for _ in range(n)]


def compiles(text: str) -> bool:
    try:
        ast.parse(text)
    except SyntaxError:
        return False
    return True
