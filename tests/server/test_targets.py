"""Several targets: which serves a request, what may leave the machine, and choosing one by hand."""

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest
from records import sample
from server.fakes import FakeEngine, OwnTasks
from server.test_jobs import ONE, SETTINGS, URI, World, current, prewarmed
from singlepass.config import DEFAULT, DEMO, Route, Settings, load_settings
from singlepass.editor.workspace import UserError
from singlepass.engines.targets import Targets, is_remote, rates_key
from singlepass.jobs.outcome import JobRequest
from singlepass.stats.history import History
from singlepass_backends.base import DEMO_MODEL, Finished, PrefillProgress, Target, Timings

pytestmark = pytest.mark.anyio
__all__ = ["current"]  # a fixture that replaces the engine's client

SMALL, LARGE = Target(model="small.gguf"), Target(model="large.gguf")
SERVER = Target(backend="openai_compatible", url="https://api.example.com/v1", model="big")
LOCAL_SERVER = Target(backend="openai_compatible", url="http://127.0.0.1:8080")


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SINGLEPASS_STATE_DIR", str(tmp_path))


def targets(*folders: str, **settings: Any) -> Targets:
    found = Targets(lambda: [Path(folder) for folder in folders], History())
    found.tasks = OwnTasks()
    found.configure(Settings(**settings))
    return found


@pytest.mark.parametrize(
    ("url", "remote"),
    [
        ("http://localhost:11434", False),
        ("http://LOCALHOST", False),
        ("http://127.0.0.1:8080/v1", False),
        ("http://127.8.9.1", False),
        ("http://[::1]:8080", False),
        ("http://models.localhost", False),
        ("http://192.168.1.5:8080", True),
        ("https://api.example.com/v1", True),
        ("https://localhost.example.com", True),
        ("https://127.0.0.1.example.com", True),
    ],
)
def test_what_leaves_the_machine(url: str, remote: bool) -> None:
    assert is_remote(msgspec.structs.replace(SERVER, url=url)) == remote
    assert not is_remote(msgspec.structs.replace(SMALL, url=url))


@pytest.mark.parametrize(
    ("listed", "folders", "allowed"),
    [
        ((), ["/w"], False),
        (("/w",), ["/w"], True),
        (("/w",), ["/w/sub"], True),
        (("/w",), ["/wide"], False),
        (("/w",), ["/w", "/secret"], False),
        (("/w", "/secret"), ["/w", "/secret"], True),
        (("/w",), [], False),
        (("*",), [], True),
        (("~/code",), [str(Path.home() / "code" / "a")], True),
    ],
)
def test_a_remote_target_is_for_listed_workspaces(
    listed: tuple[str, ...], folders: list[str], allowed: bool
) -> None:
    found = targets(*folders, target=SERVER, remote_workspaces=listed)
    if allowed:
        assert found.to_prewarm() == DEFAULT
        found.select(DEFAULT)
        return
    for use in (found.to_prewarm, lambda: found.select(DEFAULT)):
        with pytest.raises(UserError, match=r"api\.example\.com.*remote_workspaces"):
            use()


def test_a_remote_target_that_is_not_allowed_is_passed_over() -> None:
    found = targets("/w", target=SERVER, targets={"here": SMALL, "near": LOCAL_SERVER})
    assert found.to_prewarm() == "here"
    listed = {one["name"]: (one["remote"], one["allowed"]) for one in found.listed()}
    assert listed == {DEFAULT: (True, False), "here": (False, True), "near": (False, True)}
    found.configure(Settings(target=SERVER, targets={"here": SMALL}, remote_workspaces=("*",)))
    assert found.to_prewarm() == DEFAULT


def test_the_demo_model_is_there_only_without_another() -> None:
    found = targets("/w")
    assert found.to_prewarm() == DEMO
    assert found.by_name == {DEMO: Target(model=str(DEMO_MODEL))}
    assert DEMO_MODEL.exists()
    for settings in (Settings(target=SMALL), Settings(targets={"here": SMALL}), Settings(target=SERVER)):
        found.configure(settings)
        assert DEMO not in found.by_name
    # Not even where the other may not be used: the user would not know what edits.
    with pytest.raises(UserError, match="remote_workspaces"):
        found.to_prewarm()


@pytest.mark.parametrize(
    "url",
    [
        *(
            "localhost:11434",
            "127.0.0.1:8080/v1",
            "htp://h",
            "http:/x",
            "http://",
            "http://a b",
            "::1:80",
            "[::1",
        ),
        *("https://", "http://::1:8080", "//h", "http://h:99999", "api.example.com/v1", "http://http://h"),
    ],
)
def test_a_malformed_address_is_no_question_of_permission(url: str) -> None:
    """It is named as what it is, also for a workspace that may use remote servers."""
    wrong = msgspec.structs.replace(SERVER, url=url)
    for listed in ((), ("*",)):
        found = targets("/w", target=wrong, remote_workspaces=listed)
        assert found.by_name == {}
        for use in (
            found.to_prewarm,
            lambda f=found: f.select(DEFAULT),
            lambda f=found: f.attachment(DEFAULT),
        ):
            with pytest.raises(UserError, match="not the address of a server") as caught:
                use()
            assert "http:// or https://" in str(caught.value) or "port" in str(caught.value)
            assert "remote_workspaces" not in str(caught.value)
    # Beside one that has to be allowed both are said, each of what it concerns.
    found = targets("/w", target=SERVER, targets={"near": wrong})
    with pytest.raises(
        UserError, match=r"remote server \(api\.example\.com\).*`targets\.near`: The setting `url`"
    ):
        found.to_prewarm()
    assert targets("/w", target=wrong, targets={"here": SMALL}).to_prewarm() == "here"


def test_a_target_that_was_selected_and_broke_is_not_replaced() -> None:
    found = targets("/w", target=SMALL, targets={"large": LARGE})
    found.select("large")
    values = {"target": {"model": "small.gguf"}, "targets": {"large": {"model": ["large.gguf"]}}}
    found.configure(*load_settings([("the file", values)]))
    assert found.selected == "large"
    for use in (found.to_prewarm, lambda: found.select("large"), lambda: found.attachment("large")):
        with pytest.raises(
            UserError, match=r"`large` cannot be used\. the file: `targets\.large\.model`: expected"
        ):
            use()
    found.select(None)
    assert found.to_prewarm() == DEFAULT


async def test_no_job_runs_where_the_named_target_cannot_be_used() -> None:
    world = World()
    world.parts.configure(Settings())
    world.parts.tell_whether_demo()
    settings, problems = load_settings([("the file", {"targets": {"large": {"model": 5}}})])
    world.parts.configure(settings, problems)
    world.parts.tell_whether_demo()
    with pytest.raises(
        UserError, match=r"No target can be used\. the file: `targets\.large\.model`: expected `str`"
    ):
        world.start()
    with pytest.raises(UserError, match="No target can be used"):
        await world.parts.contexts.show(URI)
    world.parts.prewarm.document(URI, 0)
    await prewarmed(world)
    assert all(engine.info is None for _, engine in world.engines)
    states = [one for method, one in world.editor.calls if method == "singlepass/status"]
    assert [(one["state"], one["message"]) for one in states] == [
        ("demo_model", "no model is configured: the demo model edits"),
        ("target", "no target can be used"),
    ]
    await world.parts.aclose()


async def test_another_spelling_of_a_target_keeps_its_engine(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stopped: list[Target] = []

    class Client:
        def __init__(self, target: Target, **_: object) -> None:
            self.target = target

        async def stop(self, unless: str) -> None:
            stopped.append(self.target)

        async def aclose(self) -> None:
            pass

    monkeypatch.setattr("singlepass_backends.client.EngineClient", Client)
    monkeypatch.chdir(tmp_path)
    found = targets("/w", target=SMALL, targets={"server": LOCAL_SERVER})
    found.attachment(DEFAULT)
    found.attachment("server")
    respelled = msgspec.structs.replace(LOCAL_SERVER, url=f"{LOCAL_SERVER.url}/v1/")
    found.configure(
        Settings(target=Target(model=str(tmp_path / "small.gguf")), targets={"server": respelled})
    )
    await found.make_room()
    assert stopped == []
    found.attachment(DEFAULT)
    found.configure(Settings(target=LARGE, targets={"server": respelled}))
    await found.make_room()
    assert [Path(target.model).name for target in stopped] == ["small.gguf"]


def test_settings_name_targets_and_rules() -> None:
    values = {
        "target": {"model": "small.gguf"},
        "targets": {"large": {"model": "large.gguf"}},
        "routes": [{"target": "large", "kinds": ["refactor.extract"]}],
        "max_wait_s": 3,
    }
    settings, problems = load_settings([("a", values)])
    assert problems == []
    assert settings.targets == {"large": LARGE}
    assert settings.routes == (Route(target="large", kinds=("refactor.extract",)),)
    settings, problems = load_settings([("a", {}), ("b", {"targets": {"large": {"modell": "x"}}})])
    (problem,) = problems
    assert str(problem).startswith("b: `targets")
    # A repository can name none of this.
    _, problems = load_settings([], [("r", values)])
    assert len(problems) == 4


class Two(World):
    """A world with two local targets, whose engines play these scripts."""

    def __init__(self, *scripts: Any, **settings: Any) -> None:
        both = {"target": SMALL, "targets": {"large": LARGE}, **settings}
        super().__init__(*scripts, settings=Settings(**both))

    def engine_of(self, target: Target) -> FakeEngine:
        (found,) = [engine for known, engine in self.engines if known == target]
        return found


def test_the_first_target_serves_what_is_not_measured() -> None:
    found = targets("/w", target=SMALL, targets={"large": LARGE})
    assert found.to_prewarm() == DEFAULT


async def test_a_rule_sends_a_kind_of_action_to_its_target() -> None:
    world = Two([], routes=(Route(target="large", kinds=("refactor",)),))
    world.parts.targets.attachment("large")  # the first engine is the one with the script
    told = await world.run(kind="refactor.extract")
    assert (told["target"]["name"], told["target"]["why"]) == ("large", "a rule sends refactor to `large`")
    assert world.engine_of(LARGE).requests
    assert {one["target"] for _, one in world.editor.calls if isinstance(one, dict) and "percent" in one} == {
        "large"
    }


async def test_the_first_within_the_wait_serves_and_else_the_fastest() -> None:
    slow = Timings(n_prompt=1000, n_cached=0, n_prefilled=1000, n_decoded=50, prefill_ms=9e4, decode_ms=5e3)
    world = Two([ONE, Finished("stop", slow)])
    told = await world.run()
    assert told["target"]["name"] == DEFAULT
    for number in range(2):
        world.parts.history.add(sample(rates_key(LARGE), 1000, 1000.0, 50, 1000.0, id=number))
    world.parts.history.close(10)
    world.engine.scripts.append([])
    client = world.parts.targets.attachment("large").client
    client.scripts.append([])  # type: ignore[attr-defined]
    told = await world.run()
    assert told["target"]["name"] == "large"
    assert "`default` would take about" in told["target"]["why"]
    # The same place again: what each would take, side by side.
    assert [(one["target"], one["is_here"]) for one in told["options"]] == [("large", True), (DEFAULT, False)]


async def test_again_and_again_at_one_place_is_worth_advice() -> None:
    slow = Timings(n_prompt=900, n_cached=0, n_prefilled=900, n_decoded=9, prefill_ms=25_000, decode_ms=900)
    world = World(*([Finished("stop", slow)] for _ in range(7)))
    messages = [(await world.run())["message"] for _ in range(6)]
    assert all("requests here took" not in message for message in messages[:5])
    assert "5 requests here took 25.0 s to 25.0 s of prefill each" in messages[5]
    assert "again on `default` about 25.9 s (25.0 s of prefill)" in messages[5]
    elsewhere = world.jobs.start(world.jobs.looking(JobRequest(URI, "Do", "Do it.", 2, 3))())
    assert (await world.editor.finish(elsewhere))["options"] == []


async def test_what_is_cached_counts_when_the_same_place_is_asked_again() -> None:
    spent = Timings(n_prompt=900, n_cached=0, n_prefilled=900, n_decoded=9, prefill_ms=9000, decode_ms=900)
    world = World([Finished("stop", spent)], [Finished("stop", spent)])
    await world.run()
    world.parts.history.add(sample(rates_key(SETTINGS.target), 900, 9000.0, 9, 900.0))
    world.parts.history.close(10)
    world.parts.prewarm.document(URI, 0)
    await prewarmed(world)
    assert world.engine.on_prewarm is not None
    world.engine.on_prewarm(PrefillProgress(n_prompt=850, n_cached=0, n_done=800, elapsed_ms=0, eta_ms=None))
    (option,) = (await world.run())["options"]
    assert option["is_here"]
    # 50 of the 900 tokens are left to be read, at 100 a second.
    assert option["prefill_s"] == pytest.approx(0.5)
    assert option["estimate_s"] == pytest.approx(1.4)


async def test_a_target_is_selected_by_hand() -> None:
    world = Two()
    world.parts.prewarm.document(URI, 0)
    await prewarmed(world)
    found = world.parts.select_target("large")
    assert found["selected"] == "large"
    assert [one["name"] for one in found["targets"]] == [DEFAULT, "large"]
    await prewarmed(world)
    assert len(world.engine_of(LARGE).prewarmed) == 1
    status = next(one for method, one in world.editor.calls if method == "singlepass/status")
    assert (status["state"], status["target"]) == ("target", "large")
    with pytest.raises(UserError, match=r"no target `huge`\. There are: default, large"):
        world.parts.select_target("huge")
    assert world.parts.select_target(None)["selected"] is None
    # One that is no more is not selected any more.
    world.parts.select_target("large")
    world.parts.configure(Settings(target=SMALL))
    assert world.parts.list_targets()["selected"] is None
    await asyncio.sleep(0)
    await world.parts.aclose()


async def test_what_would_be_sent_is_shown_before_it_is_allowed() -> None:
    world = World(settings=Settings(target=SERVER))
    found = await world.parts.contexts.show(URI)
    assert found["target"] == {"name": DEFAULT, "url": SERVER.url, "remote": True, "allowed": False}
    assert [one["name"] for one in found["segments"]] == ["system", "a.py"]
    assert world.engines == []
    with pytest.raises(UserError, match="remote_workspaces"):
        world.start()
    world.parts.prewarm.document(URI, 0)
    await prewarmed(world)
    assert all(not engine.prewarmed and engine.info is None for _, engine in world.engines)
    world.parts.configure(Settings(target=SERVER, remote_workspaces=("/w",)))
    assert (await world.parts.contexts.show(URI))["target"]["allowed"]
