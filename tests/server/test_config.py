"""Settings: which layer wins, and that a wrong value costs no more than itself."""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from singlepass.config import (
    MAX_REPOSITORY_BYTES,
    MAX_REPOSITORY_ITEMS,
    Problem,
    Settings,
    load_settings,
    one_for_each,
    read_repository,
    read_toml,
    user_file,
)
from singlepass.core.actions import Action
from singlepass.core.ignoring import hides, rules_of
from singlepass_backends.base import Target

ACTION = {"title": "Mine", "instruction": "do"}


def check(
    layers: Sequence[Mapping[str, Any]],
    expected: Settings,
    problems: Sequence[tuple[str, str]] = (),
    repository: Sequence[Mapping[str, Any]] = (),
) -> None:
    """Layers are named 1, 2, …, those of repositories r1, …; a problem is (source, part of its message)."""
    settings, found = load_settings(
        [(str(idx), layer) for idx, layer in enumerate(layers, 1)],
        [(f"r{idx}", layer) for idx, layer in enumerate(repository, 1)],
    )
    assert settings == expected
    assert len(found) == len(problems), found
    for problem, (source, part) in zip(found, problems, strict=True):
        assert problem.source == source
        assert part in problem.message
        assert str(problem).startswith(f"{source}: ")


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ([], Settings()),
        ([{}, {}], Settings()),
        ([{"max_tokens": 1, "seed": 5}, {"max_tokens": 2}], Settings(max_tokens=2, seed=5)),
        ([{"review": "confirm"}, {"review": "stream"}], Settings()),
        # `target` is merged field by field, all else replaced.
        (
            [{"target": {"model": "a", "n_ctx": 1}}, {"target": {"n_ctx": 2}}],
            Settings(target=Target(model="a", n_ctx=2)),
        ),
        ([{"ignore": ["a"]}, {"ignore": ["b"]}], Settings(ignore=("b",))),
        ([{"actions": [ACTION]}, {}], Settings(actions=(Action("Mine", "do"),))),
        # What an editor sends for a setting that nobody set.
        ([{"max_tokens": 1}, {"max_tokens": None, "target": None}], Settings(max_tokens=1)),
        ([{"temperature": 1}], Settings(temperature=1.0)),
    ],
)
def test_stronger_layers_win(layers: list[dict[str, Any]], expected: Settings) -> None:
    check(layers, expected)


@pytest.mark.parametrize(
    ("wrong", "left", "messages"),
    [
        ({"max_tokenz": 1}, {}, ["unknown setting `max_tokenz`; did you mean `max_tokens`?"]),
        ({"zzz": 1}, {}, ["unknown setting `zzz`"]),
        ({"max_tokens": "many"}, {}, ["`max_tokens`: expected `int`, got `str`"]),
        ({"max_tokens": True}, {}, ["`max_tokens`: expected `int`, got `bool`"]),
        ({"review": "never"}, {}, ["`review`: invalid enum value 'never'"]),
        ({"target": "x"}, {}, ["`target`: expected `object`, got `str`"]),
        (
            {"target": {"modle": "b", "n_ctx": 9}},
            {"target": Target(model="a", n_ctx=9)},
            ["unknown setting `target.modle`; did you mean `target.model`?"],
        ),
        (
            {"target": {"model": "b", "n_ctx": "9"}},
            {"target": Target(model="b")},
            ["`target.n_ctx`: expected `int`, got `str`"],
        ),
        ({"actions": 3}, {}, ["`actions`: expected `array`, got `int`"]),
        (
            {"actions": [{"title": "No instruction"}, ACTION, {**ACTION, "x": 1}, {**ACTION, "title": 5}, 7]},
            {"actions": (Action("Mine", "do"),)},
            [
                "number 1 of `actions`: object missing required field `instruction`",
                "number 3 of `actions`: object contains unknown field `x`",
                "number 4 of `actions.title`: expected `str`, got `int`",
                "number 5 of `actions`: expected `object`, got `int`",
            ],
        ),
        ({"ignore": ["a", 1]}, {"ignore": ("a",)}, ["number 2 of `ignore`: expected `str`, got `int`"]),
        ({"ignore": "a"}, {}, ["`ignore`: expected `array`, got `str`"]),
    ],
)
def test_a_wrong_value_is_named_and_the_rest_used(
    wrong: dict[str, Any], left: dict[str, Any], messages: list[str]
) -> None:
    base = {"target": {"model": "a"}, "max_tokens": 7}
    expected = Settings(**{"target": Target(model="a"), "max_tokens": 7, "seed": 3, **left})
    check([base, {**wrong, "seed": 3}], expected, [("2", message) for message in messages])


def test_a_repository_sets_actions_and_ignore_only() -> None:
    own = {"title": "Theirs", "instruction": "do it"}
    check(
        [{"target": {"model": "mine"}, "actions": [ACTION], "ignore": ["a"]}],
        Settings(
            target=Target(model="mine"),
            actions=(Action("Mine", "do"), Action("Theirs", "do it")),
            ignore=("a", "b", "c"),
        ),
        [
            ("r1", "`target` is ignored: a repository may set only actions and ignore"),
            ("r1", "`allow_outside_workspace` is ignored"),
            ("r1", "`endpoint` is ignored"),
            ("r2", "number 1 of `actions`"),
            ("r2", "`ignore`: expected `array`"),
        ],
        [
            {
                "target": {"model": "theirs"},
                "allow_outside_workspace": True,
                "endpoint": "http://x",
                "actions": [own],
                "ignore": ["b", "c"],
            },
            {"actions": [{"title": "Broken"}], "ignore": 5},
        ],
    )


@pytest.mark.parametrize(
    ("own", "theirs", "path", "hidden"),
    [
        (["private.py"], [["!private.py"]], "private.py", True),
        (["private/"], [["!*", "!/private/", "!/private/x.py"]], "private/x.py", True),
        ([], [["gen/*", "!gen/keep.py"]], "gen/a.py", True),
        ([], [["gen/*", "!gen/keep.py"]], "gen/keep.py", False),  # its own patterns it may undo
        ([], [["a.py"], ["!a.py"]], "a.py", True),  # those of another repository not
        ([], [["!a.py"], ["a.py"]], "a.py", True),
        (["b.py"], [["b.py\n!b.py"]], "b.py", True),
        (["*.py", "!b.py"], [["a.py"]], "b.py", False),  # the user's own are the user's
    ],
)
def test_a_repositorys_patterns_only_add(
    own: list[str], theirs: list[list[str]], path: str, hidden: bool
) -> None:
    repository = [(f"r{idx}", {"ignore": patterns}) for idx, patterns in enumerate(theirs)]
    settings, problems = load_settings([("1", {"ignore": own})], repository)
    assert problems == []
    assert hides(rules_of(settings.ignore), path) == hidden


@pytest.mark.parametrize("kind", ["source.fixAll", "source", "", "refactored", "x", "quickfixes"])
def test_no_action_of_a_repository_is_of_a_kind_that_editors_run_unasked(kind: str) -> None:
    asked = [{**ACTION, "kind": one} for one in ("quickfix", "refactor", "refactor.extract.function")]
    own = {**ACTION, "title": "Own", "kind": kind}
    settings, problems = load_settings(
        [("1", {"actions": [own]})], [("r", {"actions": [{**ACTION, "kind": kind}, *asked]})]
    )
    (problem,) = problems
    assert (problem.source, "the action `Mine` is left out" in problem.message) == ("r", True)
    assert [action.kind for action in settings.actions] == [kind, *(one["kind"] for one in asked)]


def test_so_much_of_a_repositorys_file_is_used_and_so_much_is_said_of_it() -> None:
    values: dict[str, Any] = {f"key{idx}": 1 for idx in range(20_000)}
    values["x" * 10_000] = 1
    values["ignore"] = [*map(str, range(30_000))]
    values["actions"] = [ACTION] * 5_000
    settings, problems = load_settings([], [("r", values), ("s", {"a": 1}), ("t", {})])
    limits = MAX_REPOSITORY_ITEMS
    assert (len(settings.ignore), len(settings.actions)) == (limits["ignore"], limits["actions"])
    first, second = one_for_each(problems)
    assert str(first).startswith("r: `key0` is ignored")
    assert "(and 20,000 more problems in this file)" in first.message
    assert len(first.message) < 1_000
    assert str(second) == f"s: {problems[-1].message}"
    (long,) = one_for_each([Problem("r", "x" * 10_000)])
    assert len(long.message) < 1_000


@pytest.mark.skipif(sys.platform == "win32", reason="pipes and links")
@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("pipe", "not a regular file"),
        ("device", "leads out of the folder"),
        ("outside", "leads out of the folder"),
        ("loop", ""),
        ("folder", "a folder"),
        ("huge", "more than 262,144 bytes"),
        ("dots", "more than 20 parts"),
        ("quoted dots", "more than 20 parts"),
        ("dots behind a string", "more than 20 parts"),
        ("spaced dots", "more than 20 parts"),
        ("dots in a table's name", "more than 20 parts"),
        ("nested", ""),
        ("no text", ""),
    ],
)
def test_a_repositorys_file_is_a_small_regular_one_inside(kind: str, message: str, tmp_path: Path) -> None:
    folder = tmp_path / "repository"
    folder.mkdir()
    path = folder / ".singlepass.toml"
    texts = {
        "huge": "#" * (MAX_REPOSITORY_BYTES + 1),
        "dots": "a" + ".b" * 100_000 + " = 1",
        "quoted dots": '"a"' + '."\\""' * 20_000 + " = 1",
        "dots behind a string": 'x = {a = """\n""", b' + ".b" * 100_000 + ' = "1"}',
        "spaced dots": "a" + " .  b" * 50_000 + " = 1",
        "dots in a table's name": "[[a" + ".b" * 100_000 + "]]",
        "nested": "a = " + "[" * 200_000,
    }
    match kind:
        case "pipe":
            os.mkfifo(path)
        case "device":
            path.symlink_to("/dev/zero")
        case "outside":
            (tmp_path / "their.toml").write_text("ignore = ['a']")
            path.symlink_to("../their.toml")
        case "loop":
            path.symlink_to(".singlepass.toml")
        case "folder":
            path.mkdir()
        case "no text":
            path.write_bytes(b"ignore = ['\xff']")
        case _:
            path.write_text(texts[kind])
    values, problems = read_repository(folder)
    assert values == {}
    (problem,) = problems
    assert problem.source == str(path)
    assert "none of it is used" in problem.message
    assert message in problem.message


def test_a_repositorys_file_that_is_one(tmp_path: Path) -> None:
    assert read_repository(tmp_path) == ({}, [])
    # Inside, a link is followed; strings may have as many dots as they like.
    dots = "The file a.b.c. " * 1_000
    (tmp_path / "own.toml").write_text(f"ignore = ['a.b.c.d.e.f.g']\nx = '{dots}'\n", "utf-8-sig")
    (tmp_path / ".singlepass.toml").symlink_to("own.toml")
    assert read_repository(tmp_path) == ({"ignore": ["a.b.c.d.e.f.g"], "x": dots}, [])
    limit = MAX_REPOSITORY_BYTES
    (tmp_path / "own.toml").write_text("#" * limit)
    assert read_repository(tmp_path) == ({}, [])


@pytest.mark.parametrize("key", sorted(set(Settings.__struct_fields__) - {"actions", "ignore"}))
def test_no_other_setting_of_a_repository_is_believed(key: str) -> None:
    values = {"target": {"model": "x"}, "review": "confirm", "log_level": "debug"}
    value = values.get(key, True if isinstance(getattr(Settings(), key), bool) else 1)
    check([], Settings(), [("r1", f"`{key}` is ignored")], [{key: value}])


@pytest.mark.parametrize(
    ("data", "values", "n_problems"),
    [
        (b"seed = 4\n[target]\nmodel = 'm'\n", {"seed": 4, "target": {"model": "m"}}, 0),
        (b"\xef\xbb\xbfseed = 4\n", {"seed": 4}, 0),
        (b"", {}, 0),
        (None, {}, 0),
        (b"seed = ", {}, 1),
        (b"seed = '\xff'", {}, 1),
        (b"seed = " + b"9" * 5000, {}, 1),
        (b"seed = " + b"[" * 50_000, {}, 1),
    ],
)
def test_settings_files_are_read_or_told(
    tmp_path: Path, data: bytes | None, values: dict[str, Any], n_problems: int
) -> None:
    path = tmp_path / "singlepass.toml"
    if data is not None:
        path.write_bytes(data)
    found, problems = read_toml(path)
    assert found == values
    assert len(problems) == n_problems
    assert all(
        problem.source == str(path) and "none of it is used" in problem.message for problem in problems
    )


def test_a_folder_in_place_of_the_file_is_told(tmp_path: Path) -> None:
    values, problems = read_toml(tmp_path)
    assert values == {}
    assert len(problems) == 1


def test_the_users_file_can_be_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SINGLEPASS_CONFIG_DIR", str(tmp_path))
    assert user_file() == tmp_path / "singlepass.toml"
    monkeypatch.delenv("SINGLEPASS_CONFIG_DIR")
    assert user_file().name == "singlepass.toml"
    assert user_file().parent != tmp_path
