"""Settings: which layer wins, and that a wrong value costs no more than itself."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from singlepass.config import Settings, load_settings, read_toml, user_file
from singlepass.core.actions import Action
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
