"""The replay of a small history: what holds between the policies, and that a real model counts the same."""

from pathlib import Path

import pytest
import replay
from editing import Change, Git, Open, sessions
from history import Builder
from replay import AGENT, EVERYTHING, INSTRUCTION_FIRST, STABLE_FIRST, Options

N_COMMITS = 5


def module(name: str, version: int) -> str:
    """A file that changes in several places from version to version."""
    return "import os\n" + "".join(
        f"\n\ndef {name}_{n}(path, size={n}):\n"
        f'    """Number {n} of {name}."""\n'
        + (f"    assert size < {100 + version}\n    path = os.fspath(path)\n" if n % 4 == version % 4 else "")
        + f"    return path, size + {n}\n"
        for n in range(12)
    )


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("replay") / "small"
    builder = Builder(folder)
    builder.commit("Begin", {"one.py": module("one", 0), "two.py": module("two", 0), "three.py": "x = 1\n"})
    for version in range(1, N_COMMITS + 1):
        files = {name: module(name.removesuffix(".py"), version) for name in ("one.py", "two.py")}
        if version % 2:
            del files["two.py"]
        builder.commit(f"Check the size in version {version}", {**files, "notes.md": f"{version}\n"})
    return folder


def test_a_script_types_what_the_commits_changed(repository: Path) -> None:
    git = Git(repository)
    (session,) = sessions(git, seed=0)
    assert len(session.commits) == N_COMMITS
    texts: dict[str, str] = {}
    for moment in session.moments:
        match moment:
            case Open(path, text):
                texts[path] = text
            case Change(path, start, end, new):
                texts[path] = texts[path][:start] + new + texts[path][end:]
            case _:
                pass
    assert texts == {name: git.text("HEAD", name) for name in ("one.py", "two.py")}
    assert list(sessions(git, seed=0)) == [session]


def test_each_policy_reads_less_after_the_click_than_the_one_before(repository: Path) -> None:
    options = Options(n_actions=10, n_vocab=600)
    totals, (about,) = replay.run([repository], options)
    assert about.n_actions == 10
    counts = {total.policy: total for total in totals}
    assert [len(total.actions) for total in totals] == [10] * 4
    for agent, first, stable, everything in zip(*(total.actions for total in totals), strict=True):
        assert agent.n_prompt == first.n_prompt == stable.n_prompt == everything.n_prompt
        assert everything.n_after <= stable.n_after <= agent.n_after == agent.n_prompt
        assert first.n_after <= agent.n_after
        assert set(everything.reasons) == {"task"}
    for total in totals:
        assert total.n_used + total.n_wasted == total.n_prewarmed
    assert counts[EVERYTHING].n_used > 0
    assert not any(counts[policy].n_prewarmed for policy in (AGENT, INSTRUCTION_FIRST, STABLE_FIRST))
    after = [sum(action.n_after for action in total.actions) for total in totals]
    assert after == sorted(after, reverse=True)


def test_short_pauses_leave_more_for_the_click(repository: Path) -> None:
    def after(n_pause: int) -> int:
        options = Options(policies=(EVERYTHING,), n_actions=4, n_vocab=600, n_pause=n_pause)
        ((total,), _) = replay.run([repository], options)
        return sum(action.n_after for action in total.actions)

    assert after(1 << 30) < after(32)


def test_a_real_model_counts_the_same_and_says_the_same(repository: Path) -> None:
    options = Options(n_actions=2, n_vocab=600, n_ctx=8192, n_confirm_reply=6)
    found = replay.confirm(repository, options)
    assert (found.actions, found.different_counts, found.different_text) == (2, 0, 0)
    assert found.same_text + found.near_ties == 2
    assert found.prewarms > 2
