"""Writing a target into the user's settings: everything else stays, byte for byte."""

import stat
import tempfile
import tomllib
from pathlib import Path

import pytest
import tomlkit
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from singlepass.cli.settings_file import SettingsError, SettingsFile
from singlepass.config import load_settings, read_toml

MODEL = "/models/qwen2.5-coder-7b/model.gguf"
LINE = f'model = "{MODEL}"\n'


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def check(before: str | None, after: str, was: dict[str, str] | None = None, *, default: bool = True) -> None:
    """What the file holds afterwards, and what is said of the target that stood there."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "folder" / "singlepass.toml"
        if before is not None:
            path.parent.mkdir()
            path.write_bytes(before.encode())
        settings = SettingsFile(path)
        write = settings.make_default if default else settings.add
        assert write("new", MODEL) == (was or {})
        assert path.read_bytes().decode() == after
        assert names(path.parent) == ["singlepass.toml"]
        values, problems = read_toml(path)
        loaded, wrong = load_settings([("1", values)])
        assert not problems
        assert not wrong
        assert (loaded.target if default else loaded.targets["new"]).model == MODEL
        # Once more changes nothing.
        assert (SettingsFile(path).make_default if default else SettingsFile(path).add)("new", MODEL) == {}
        assert path.read_bytes().decode() == after


@pytest.mark.parametrize("before", [None, ""])
def test_the_first_target(before: str | None) -> None:
    check(before, f"[target]\n{LINE}")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("seed = 4", f"seed = 4\n\n[target]\n{LINE}"),
        ("# mine\nseed = 4  # why\n", f"# mine\nseed = 4  # why\n\n[target]\n{LINE}"),
        (
            "[[routes]]\ntarget = 'large'\n\n[targets.large]\nmodel = 'x' # big\n# end\n",
            f"[[routes]]\ntarget = 'large'\n\n[targets.large]\nmodel = 'x' # big\n# end\n\n[target]\n{LINE}",
        ),
        ("[target]\n# a smaller one\nn_ctx = 4096\n", f"[target]\n# a smaller one\nn_ctx = 4096\n{LINE}"),
        ("seed = 4\r\n", f"seed = 4\n\n[target]\n{LINE}".replace("\n", "\r\n")),
        ("\ufeffseed = 4\n", f"\ufeffseed = 4\n\n[target]\n{LINE}"),
    ],
)
def test_a_target_where_there_is_none(before: str, after: str) -> None:
    check(before, after)


@pytest.mark.parametrize(
    ("before", "after", "was"),
    [
        (
            "[target]\nmodel = 'old.gguf'   # the old one\nn_ctx = 4096\n\n[targets.x]\nmodel = 'y'\n",
            f"[target]\nmodel = \"{MODEL}\"   # the old one\nn_ctx = 4096\n\n[targets.x]\nmodel = 'y'\n",
            {"model": "old.gguf"},
        ),
        (
            "[target]\nbackend = 'openai_compatible'\nurl = 'http://h'\nmodel = 'm'\n"
            "api_key_env = 'K'\nn_ctx = 1\n",
            f'[target]\nmodel = "{MODEL}"\nn_ctx = 1\n',
            {"backend": "openai_compatible", "url": "http://h", "model": "m", "api_key_env": "K"},
        ),
        (
            "target = { model = 'a', n_ctx = 5 } # short\nseed = 1\n",
            f'target = {{ model = "{MODEL}", n_ctx = 5 }} # short\nseed = 1\n',
            {"model": "a"},
        ),
        (
            "target.model = 'a' # here\ntarget.n_ctx = 3\n",
            f'target.model = "{MODEL}" # here\ntarget.n_ctx = 3\n',
            {"model": "a"},
        ),
        (
            "seed = 1\r\n[target]\r\nmodel = 'a'\r\n",
            f'seed = 1\r\n[target]\r\nmodel = "{MODEL}"\r\n',
            {"model": "a"},
        ),
    ],
)
def test_another_target_is_replaced_and_told(before: str, after: str, was: dict[str, str]) -> None:
    check(before, after, was)


@pytest.mark.parametrize(
    "text",
    [
        f"[target]\nmodel = '{MODEL}'\n",
        f"[target]\nbackend = 'llama_cpp'\nmodel = '{MODEL}'",
        f"target.model='{MODEL}'",
    ],
)
def test_the_same_target_changes_nothing(text: str) -> None:
    check(text, text)


@pytest.mark.parametrize(
    ("before", "after", "was"),
    [
        ("", f"[targets.new]\n{LINE}", {}),
        ("[target]\nmodel = 'a'\n", f"[target]\nmodel = 'a'\n\n[targets.new]\n{LINE}", {}),
        (
            "[targets.new]\nmodel = 'a'\n[targets.b]\nmodel = 'b'\n",
            f"[targets.new]\n{LINE}[targets.b]\nmodel = 'b'\n",
            {"model": "a"},
        ),
        (
            "[targets]\nnew = { model = 'a' }\n[[routes]]\ntarget = 'new'\n",
            f"[targets]\nnew = {{ model = \"{MODEL}\" }}\n[[routes]]\ntarget = 'new'\n",
            {"model": "a"},
        ),
    ],
)
def test_a_further_target(before: str, after: str, was: dict[str, str]) -> None:
    check(before, after, was, default=False)


def test_a_further_target_that_becomes_the_default_does_not_stand_there_twice() -> None:
    further = f"[targets.new]\n{LINE}"
    check(f"[target]\nmodel = 'a'\n\n{further}", f"[target]\n{LINE}\n", {"model": "a"})
    more = f"{further}n_ctx = 3\n"
    check(f"[target]\nmodel = 'a'\n\n{more}", f"[target]\n{LINE}\n{more}", {"model": "a"})
    other = "[targets.b]\nmodel = 'b'\n"
    check(f"[target]\nmodel = 'a'\n\n{further}{other}", f"[target]\n{LINE}\n{other}", {"model": "a"})


def test_names_with_dots_are_quoted(tmp_path: Path) -> None:
    path = tmp_path / "singlepass.toml"
    SettingsFile(path).add("qwen2.5-coder-7b", 'C:\\odd "path"')
    assert path.read_text().startswith('[targets."qwen2.5-coder-7b"]\n')
    assert tomllib.loads(path.read_text()) == {"targets": {"qwen2.5-coder-7b": {"model": 'C:\\odd "path"'}}}


@pytest.mark.parametrize(
    ("text", "default", "part"),
    [
        ("targets = { a = { model = 'x' } }\n", False, "it would change other settings too"),
        ("target = 3\n", True, "`target` in"),
        ("targets = 3\n", False, "`targets.new` in"),
        ("seed = ", True, "cannot be read"),
        ("a = '\\ud800'\xff", True, "cannot be read"),
        ("x = " + "[" * 100_000, True, "cannot be read"),
    ],
)
def test_what_cannot_be_edited_is_left_as_it_is(tmp_path: Path, text: str, default: bool, part: str) -> None:
    path = tmp_path / "singlepass.toml"
    path.write_bytes(text.encode("latin-1"))

    def write() -> None:
        settings = SettingsFile(path)
        (settings.make_default if default else settings.add)("new", MODEL)

    with pytest.raises(SettingsError) as caught:
        write()
    assert part in str(caught.value)
    assert str(path) in str(caught.value)
    if "unusual" in part:
        assert f"`[targets.new]`, `model = '{MODEL}'`" in str(caught.value)
    assert path.read_bytes() == text.encode("latin-1")
    assert names(tmp_path) == ["singlepass.toml"]


def test_a_link_stays_one_and_the_mode_stays(tmp_path: Path) -> None:
    real, link = tmp_path / "dotfiles" / "sp.toml", tmp_path / "singlepass.toml"
    real.parent.mkdir()
    real.write_text("seed = 1\n")
    real.chmod(0o600)
    link.symlink_to(real)
    SettingsFile(link).make_default("new", MODEL)
    assert link.is_symlink()
    assert MODEL in real.read_text()
    assert stat.S_IMODE(real.stat().st_mode) == 0o600


def test_what_somebody_else_wrote_meanwhile_is_not_lost(tmp_path: Path) -> None:
    path = tmp_path / "singlepass.toml"
    for before in (None, "seed = 1\n"):
        path.unlink(missing_ok=True)
        if before is not None:
            path.write_text(before)
        settings = SettingsFile(path)
        path.write_text("seed = 2\n")
        with pytest.raises(SettingsError, match="changed by another program"):
            settings.make_default("new", MODEL)
        assert path.read_text() == "seed = 2\n"
        assert names(tmp_path) == ["singlepass.toml"]


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match="cannot be"):
        SettingsFile(tmp_path / "file" / "singlepass.toml").make_default("new", MODEL)
    with pytest.raises(SettingsError, match="cannot be read"):
        SettingsFile(tmp_path)


KEYS = st.sampled_from(["seed", "max_tokens", "x y", "ä", "a.b"])
VALUES = st.one_of(
    st.integers(0, 99), st.text(max_size=8), st.booleans(), st.lists(st.integers(0, 9), max_size=3)
)
TABLES = st.dictionaries(KEYS, VALUES, max_size=3)


@hypothesis_settings(deadline=None)
@given(
    st.dictionaries(KEYS, VALUES, max_size=3),
    st.dictionaries(st.sampled_from(["model", "n_ctx", "url", "backend"]), st.text(max_size=5), max_size=3)
    | st.none(),
    st.dictionaries(st.sampled_from(["new", "b.c"]), TABLES, max_size=2),
    st.booleans(),
)
def test_nothing_but_the_target_changes(
    values: dict[str, object],
    target: dict[str, str] | None,
    targets: dict[str, dict[str, object]],
    default: bool,
) -> None:
    tables: dict[str, object] = {"target": target} if target is not None else {}
    if targets:
        tables["targets"] = targets
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "singlepass.toml"
        path.write_text(tomlkit.dumps({**values, **tables}), encoding="utf-8")
        settings = SettingsFile(path)
        (settings.make_default if default else settings.add)("new", MODEL)
        after = tomllib.loads(path.read_text(encoding="utf-8"))
    table = after["target"] if default else after["targets"].pop("new")
    assert table.pop("model") == MODEL
    if default:
        del after["target"]
    before: dict[str, object] = {**values, **tables}
    if default:
        before.pop("target", None)
    elif "targets" in after:
        before["targets"] = {name: value for name, value in targets.items() if name != "new"}
    assert after == before
