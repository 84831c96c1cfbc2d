"""Settings: which layer wins, and that a wrong value costs no more than itself."""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from singlepass.config import (
    DEMO,
    MAX_REPOSITORY_BYTES,
    MAX_REPOSITORY_ITEMS,
    Problem,
    Route,
    Settings,
    load_settings,
    one_for_each,
    read_repository,
    read_toml,
    read_user_file,
    usable_targets,
    user_file,
    user_settings,
)
from singlepass.core.actions import Action
from singlepass.files.ignoring import hides, rules_of
from singlepass_backends.base import Target

ACTION = {"title": "Mine", "instruction": "do"}
FILE = {"target": {"model": "/m.gguf"}}


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
        # A model file takes the place of a server; another model of the server does not.
        (
            [{"target": {"backend": "openai_compatible", "url": "http://h", "n_ctx": 512}}, FILE],
            Settings(target=Target(model="/m.gguf", n_ctx=512)),
        ),
        (
            [{"target": {"backend": "openai_compatible", "url": "http://h"}}, {"target": {"model": "a/b"}}],
            Settings(target=Target(backend="openai_compatible", url="http://h", model="a/b")),
        ),
        ([{"target": {"backend": "mlx"}}, FILE], Settings(target=Target(backend="mlx", model="/m.gguf"))),
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
        ({"log_level": "loud"}, {}, ['expected "error", "warning", "info", "debug"']),
        ({"prewarm": "always"}, {}, ["`prewarm`: "]),
        (
            {"target": {"kv_cache_type": "f8"}},
            {"target": Target(model="a")},
            ['`target.kv_cache_type`: invalid enum value \'f8\'; expected "auto", "f16", "q8_0", "q4_0"'],
        ),
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


A = {"model": "a"}
SERVER = {"backend": "openai_compatible", "url": "http://localhost:1"}


@pytest.mark.parametrize(
    ("values", "expected", "messages"),
    [
        (
            {
                "targets": {
                    "one": {"model": "b", "n_ctx": "9", "seed": 3},
                    "two": A,
                    "three": {"modle": "c", **A},
                }
            },
            {"targets": {"one": Target(model="b"), "two": Target(model="a"), "three": Target(model="a")}},
            [
                "`targets.one.n_ctx`: expected `int`, got `str`",
                "`targets.one`: unknown setting `targets.one.seed`",
                "unknown setting `targets.three.modle`; did you mean `targets.three.model`?",
            ],
        ),
        (
            {"targets": {"one": 5, "two": A, "three": None}},
            {"targets": {"two": Target(model="a")}},
            ['`targets.one`: expected `object`, got `int`, such as `[targets.one]` with `model = "'],
        ),
        ({"targets": [A]}, {}, ["`targets`: expected `object`, got `array`"]),
        (
            {"targets": {"one": {**SERVER, "prefill_timeout_s": -1, "api_key_env": None}}},
            {"targets": {"one": Target(**SERVER)}},
            ["`targets.one.prefill_timeout_s`: expected `float` > 0"],
        ),
        (
            {
                "routes": [
                    {"target": "default"},
                    {"kinds": ["x"]},
                    {"target": "default", "kinds": "quickfix"},
                    "default",
                    {"target": "default", "languages": ["c"], "kind": []},
                    {"target": "default", "languages": ["c"]},
                ]
            },
            {"routes": (Route(target="default"), Route(target="default", languages=("c",)))},
            [
                "number 2 of `routes`: object missing required field `target`",
                "number 3 of `routes.kinds`: expected `array`, got `str`",
                "number 4 of `routes`: expected `object`, got `str`",
                "number 5 of `routes`: object contains unknown field `kind`",
            ],
        ),
        ({"routes": {"target": "default"}}, {}, ["`routes`: expected `array`, got `object`"]),
        (
            {"remote_workspaces": ["/w", 5, ["/x"]]},
            {"remote_workspaces": ("/w",)},
            ["number 2 of `remote_workspaces`: expected `str`", "number 3 of `remote_workspaces`"],
        ),
    ],
)
def test_one_wrong_field_or_item_costs_no_more_than_itself(
    values: dict[str, Any], expected: dict[str, Any], messages: list[str]
) -> None:
    everything = Settings(**{"target": Target(model="m"), "seed": 3, **expected})
    check([{"target": {"model": "m"}, **values, "seed": 3}], everything, [("1", one) for one in messages])


def test_every_list_and_table_is_taken_item_by_item() -> None:
    """Also one that is added later."""
    lists = {name for name in Settings.__struct_fields__ if isinstance(getattr(Settings(), name), tuple)}
    assert lists == {"routes", "remote_workspaces", "actions", "ignore"}
    sound: dict[str, Any] = {"routes": {"target": "default"}, "actions": ACTION}
    for name in lists:
        item = sound.get(name, "x")
        settings, problems = load_settings([("1", {"target": A, name: [{"no": 1}, item, 7, item]})])
        assert len(getattr(settings, name)) == 2
        assert [problem.message.partition("`")[0] for problem in problems] == ["number 1 of ", "number 3 of "]


UNUSABLE: list[tuple[dict[str, Any], str, str]] = [
    # Settings, the target that cannot be used, and what is said of it.
    ({"target": "large"}, "default", "`target`: expected `object`, got `str`"),
    ({"target": {"model": 5}}, "default", "`target.model`: expected `str`, got `int`"),
    ({"target": {"modell": "/m.gguf"}}, "default", "did you mean `target.model`?"),
    ({"target": {"url": "http://localhost:1"}}, "default", 'set `backend = "openai_compatible"` too'),
    ({"target": {"backend": "openai_compatible"}}, "default", "No server is set"),
    ({"target": {"backend": "mlx"}}, "default", "No model is set"),
    ({"target": {"backend": "openai", **A}}, "default", "`target.backend`: invalid enum value 'openai'"),
    ({"target": {**SERVER, "url": 11434}}, "default", "`target.url`: expected `str`, got `int`"),
    ({"target": {**SERVER, "url": "localhost:1"}}, "default", "needs http:// or https:// in front"),
    ({"targets": {"large": {"modell": "x"}}}, "large", "did you mean `targets.large.model`?"),
    ({"targets": {"large": {}}}, "large", "`targets.large`: No model is set"),
    ({"targets": {"large": 5}}, "large", "`targets.large`: expected `object`, got `int`"),
    ({"targets": {"large": {**SERVER, "url": "htp://h"}}}, "large", "as in http://h"),
    ({"routes": [{"target": "large"}]}, "large", "`routes` names `large`, and there is no `[targets.large]`"),
    ({"routes": [{"target": "default"}]}, "default", "there is no `[target]` with a model"),
]


@pytest.mark.parametrize(("values", "name", "said"), UNUSABLE, ids=[str(row[0])[:60] for row in UNUSABLE])
def test_the_demo_model_does_not_take_the_place_of_a_target_that_was_named(
    values: dict[str, Any], name: str, said: str
) -> None:
    settings, problems = load_settings([("weaker", {}), ("the file", values)])
    usable, unusable = usable_targets(settings, problems)
    assert usable == {}
    assert list(unusable) == [name]
    assert said in unusable[name]
    assert unusable[name].startswith("the file: ")
    assert [problem.target for problem in problems] == [name]
    # With a target of another name that is one to be used, and of this name only where the rest is sound.
    also = {**values, "targets": {**values.get("targets", {}), "other": A}}
    usable, unusable = usable_targets(*load_settings([("the file", also)]))
    assert (list(usable), list(unusable)) == (["other"], [name])
    # What a weaker layer has right stays in use.
    if name == "default" and "url" not in str(values) and "backend" not in str(values) and "target" in values:
        usable, unusable = usable_targets(*load_settings([("weaker", {"target": A}), ("the file", values)]))
        assert (list(usable), unusable) == ([name], {})


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"target": {}, "targets": {}, "routes": []},
        {"target": None, "targets": None},
        {"target": {"n_ctx": 4096}},
        {"target": {"n_ctx": "4096"}},
        {"target": {"model": "", "url": ""}},
        {"target": {"model": None}},
        {"routes": [{"target": "demo model"}]},
    ],
)
def test_where_none_is_named_there_is_the_demo_model(values: dict[str, Any]) -> None:
    usable, unusable = usable_targets(*load_settings([("1", values)]))
    assert (list(usable), unusable) == ([DEMO], {})


def test_a_file_that_cannot_be_read_may_have_named_a_target(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SINGLEPASS_CONFIG_DIR", str(tmp_path))
    (tmp_path / "singlepass.toml").write_text("[target]\nmodel = /m.gguf\n")
    usable, unusable = usable_targets(*user_settings())
    assert usable == {}
    (reason,) = unusable.values()
    assert reason.startswith(f"{tmp_path}/singlepass.toml: cannot be read")
    # What the editor names is not in doubt.
    _, problems = read_user_file()
    settings, wrong = load_settings([("the editor", {"target": A})])
    assert list(usable_targets(settings, [*problems, *wrong])[0]) == ["default"]


def test_a_model_beside_the_users_file_is_that_one_whatever_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SINGLEPASS_CONFIG_DIR", str(tmp_path / "config"))
    (tmp_path / "config" / "models").mkdir(parents=True)
    (tmp_path / "config" / "models" / "m.gguf").touch()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    server = f'[targets.server]\nbackend = "openai_compatible"\nurl = "{SERVER["url"]}"\nmodel = "models"\n'
    text = '[target]\nmodel = "models/m.gguf"\n[targets.other]\nmodel = "other.gguf"\n' + server
    (tmp_path / "config" / "singlepass.toml").write_text(text)
    settings, problems = user_settings()
    assert problems == []
    assert settings.target.model == str(tmp_path / "config" / "models" / "m.gguf")
    assert (settings.targets["other"].model, settings.targets["server"].model) == ("other.gguf", "models")


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
