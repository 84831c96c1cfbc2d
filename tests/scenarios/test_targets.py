"""Over stdio: a server that already runs serves an edit, rules choose between targets, a cut-off reply leaves
only whole hunks, and another model in the settings takes the room of the one before."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from endpoints import Endpoint, Exchange, delta, event, reply
from scenarios.clients import FullEditor, check_done, edit, eventually, lines, write
from singlepass.cli.headless import HeadlessEditor
from singlepass_backends.base import Target
from singlepass_backends.client import EngineClient

pytestmark = pytest.mark.anyio

SOURCE = "".join(f"value_{n} = {n}\n" for n in range(40))
FIRST = "values.py\n<<<<<<< SEARCH\nvalue_3 = 3\n=======\nvalue_3 = 33\n>>>>>>> REPLACE\n"
SECOND = "values.py\n<<<<<<< SEARCH\nvalue_5 = 5\n=======\nvalue_5 = 55\n>>>>>>> REPLACE\n"


def say(*texts: str) -> Any:
    def script(exchange: Exchange) -> None:
        exchange.head()
        usage = {
            "prompt_tokens": 700,
            "completion_tokens": 60,
            "prompt_tokens_details": {"cached_tokens": 500},
        }
        exchange.send(reply(texts, usage=usage))

    return script


def remote(endpoint: Endpoint) -> dict[str, Any]:
    return {"backend": "openai_compatible", "url": endpoint.url, "model": "m"}


async def test_a_server_that_already_runs(tmp_path: Path) -> None:
    path = write(tmp_path, "values.py", SOURCE)
    pieces = [(FIRST + SECOND)[n : n + 5] for n in range(0, len(FIRST + SECOND), 5)]
    with Endpoint(say("<think>Two lines.</think>\n```\n", *pieces, "```\n")) as endpoint:
        async with HeadlessEditor(tmp_path, {"target": remote(endpoint)}) as editor:
            file = editor.open(path)
            timings = await edit(editor, file, lines(4, 6))
        assert timings["outcome"] == "done"
        assert timings["n_applied"] == 2
        expected = SOURCE.replace("value_3 = 3\n", "value_3 = 33\n").replace(
            "value_5 = 5\n", "value_5 = 55\n"
        )
        assert file.text == expected
        numbers = timings["timings"]
        assert (numbers["n_prompt"], numbers["n_cached"], numbers["n_prefilled"]) == (700, 500, 200)
        assert "prefill_ms" in numbers["inferred"]
        (asked,) = endpoint.asked
        roles = [message["role"] for message in asked.body["messages"]]
        assert roles == ["system", "user"]
        assert "value_39 = 39" in asked.body["messages"][1]["content"]


async def test_a_reply_that_is_cut_off_leaves_whole_hunks(tmp_path: Path) -> None:
    def script(exchange: Exchange) -> None:
        exchange.head()
        exchange.send(event(delta(FIRST + SECOND[:60])))
        exchange.reset()

    path = write(tmp_path, "values.py", SOURCE)
    with Endpoint(script) as endpoint:
        async with HeadlessEditor(tmp_path, {"target": remote(endpoint)}) as editor:
            file = editor.open(path)
            timings = await edit(editor, file, lines(4, 6))
            assert timings["outcome"] == "failed"
            assert "127.0.0.1" in timings["error"]["message"]
            assert file.text == SOURCE.replace("value_3 = 3\n", "value_3 = 33\n")
            endpoint.script = say(SECOND)
            assert (await edit(editor, file, lines(4, 6)))["n_applied"] == 1


async def test_rules_and_a_command_choose_the_target(random_gguf: Path, tmp_path: Path) -> None:
    path = write(tmp_path, "values.py", SOURCE)
    with Endpoint(say(FIRST)) as endpoint:
        options = {
            "target": {"model": str(random_gguf)},
            "targets": {"server": remote(endpoint)},
            "routes": [{"target": "server", "kinds": ["refactor.extract"]}],
        }
        async with HeadlessEditor(tmp_path, options) as editor:
            file = editor.open(path)
            timings = await edit(editor, file, lines(1, 3))
            check_done(timings)
            assert timings["target"]["name"] == "default"
            timings = await edit(editor, file, lines(4, 6), kind="refactor.extract")
            assert timings["target"]["name"] == "server"
            assert "a rule sends refactor.extract to `server`" in timings["target"]["why"]
            assert editor.statuses[-1]["target"] == "server"
            found = await editor.command("singlepass.selectTarget", "server")
            assert found["selected"] == "server"
            assert [one["name"] for one in found["targets"]] == ["default", "server"]
            assert (await edit(editor, file, lines(1, 3)))["target"]["why"] == "`server` is selected"
            assert (await editor.command("singlepass.selectTarget", None))["selected"] is None
            assert len(endpoint.asked) == 2


async def test_nothing_is_sent_to_a_remote_server_that_is_not_allowed(tmp_path: Path) -> None:
    path = write(tmp_path, "values.py", SOURCE)
    # An address that is not the loopback's, though it leads there.
    with Endpoint(say(FIRST)) as endpoint:
        target = {**remote(endpoint), "url": endpoint.url.replace("127.0.0.1", "0.0.0.0")}
        async with HeadlessEditor(tmp_path, {"target": target}) as editor:
            file = editor.open(path)
            shown = await editor.command("singlepass.context", file.uri)
            assert (shown["target"]["remote"], shown["target"]["allowed"]) == (True, False)
            with pytest.raises(Exception, match="remote_workspaces"):
                await edit(editor, file, lines(4, 6))
        assert endpoint.exchanges == []
        assert file.text == SOURCE


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            {"target": {"backend": "openai_compatible", "url": "localhost:11434"}},
            "as in http://localhost:11434",
        ),
        ({"target": "large"}, "`target`: expected `object`, got `str`"),
        ({"targets": {"large": {"modell": "m.gguf"}}}, "did you mean `targets.large.model`"),
        ({"routes": [{"target": "large"}]}, "there is no `\\[targets.large\\]`"),
    ],
)
async def test_the_demo_model_does_not_edit_where_another_was_named(
    tmp_path: Path, options: dict[str, Any], said: str
) -> None:
    path = write(tmp_path, "values.py", SOURCE)
    async with HeadlessEditor(tmp_path, options) as editor:
        file = editor.open(path)
        with pytest.raises(Exception, match=f"No target can be used.*{said}") as caught:
            await edit(editor, file, lines(4, 6))
        assert "remote_workspaces" not in str(caught.value)
        assert (await editor.command("singlepass.selectTarget"))["targets"] == []
        assert file.text == SOURCE


async def test_a_wrong_field_and_a_wrong_rule_cost_no_more_than_themselves(tmp_path: Path) -> None:
    path = write(tmp_path, "values.py", SOURCE)
    with Endpoint(say(FIRST)) as endpoint:
        options = {
            "targets": {"large": {**remote(endpoint), "n_ctx": "many"}, "small": {"model": 5}},
            "routes": [{"target": "small", "kinds": 5}, {"target": "large"}],
        }
        async with HeadlessEditor(tmp_path, options) as editor:
            file = editor.open(path)
            timings = await edit(editor, file, lines(4, 6))
            check_done(timings)
            assert (timings["target"]["name"], timings["target"]["model"]) == ("large", "m")
            assert timings["target"]["why"] == "a rule sends everything to `large`"


@pytest.fixture
async def models(tmp_path: Path) -> AsyncIterator[list[dict[str, Any]]]:
    """Two targets that any editor may use; their engines are stopped at the end."""
    recording = {"replies": [{"text": [FIRST.replace("value_3 = 33", "value_3 = 3\nother = 0")]}]}
    paths = [write(tmp_path, name, json.dumps(recording)) for name in ("large", "small")]
    found = [{"backend": "scripted", "model": str(path)} for path in paths]
    yield found
    for target in found:
        await EngineClient(Target(**target)).stop()


async def running(targets: list[dict[str, Any]]) -> list[int]:
    """The process of each target's engine, 0 for none."""
    clients = [EngineClient(Target(**target)) for target in targets]
    found = [await client.status() for client in clients]
    for client in clients:
        await client.aclose()
    return [status.pid if status is not None else 0 for status in found]


async def use(editor: FullEditor, target: dict[str, Any]) -> None:
    """The user sets another target, and the server has heard of it."""

    async def is_known() -> bool:
        [listed] = (await editor.command("singlepass.selectTarget", None))["targets"]
        return bool(listed["model"] == target["model"])

    editor.set(target=target)
    await eventually(is_known)


async def test_another_model_takes_the_room_of_the_one_before(
    models: list[dict[str, Any]], tmp_path: Path
) -> None:
    path = write(tmp_path, "values.py", SOURCE)
    large, small = models
    async with FullEditor(tmp_path, settings={"target": large, "prewarm": False}) as editor:
        file = editor.open(path)
        check_done(await edit(editor, file, lines(4, 6)))
        [before, none] = await running(models)
        assert (before > 0, none) == (True, 0)

        # A mistyped one starts nothing, so the engine stays as it was.
        await use(editor, {"model": str(tmp_path / "none.gguf")})
        assert (await edit(editor, file, lines(4, 6)))["outcome"] == "failed"
        assert await running(models) == [before, 0]
        await use(editor, large)
        check_done(await edit(editor, file, lines(4, 6)))
        assert await running(models) == [before, 0]

        await use(editor, small)
        check_done(await edit(editor, file, lines(4, 6)))
        [none, after] = await running(models)
        assert (none, after > 0) == (0, True)

        # What another window uses stays.
        other = EngineClient(Target(**small))
        await other.connect()
        await use(editor, large)
        check_done(await edit(editor, file, lines(4, 6)))
        assert all(await running(models))
        await other.aclose()
