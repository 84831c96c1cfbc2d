"""The engine that had the document cached is gone, or has evicted it: the next code action prewarms again, so
that the click prefills the task at most. In between nothing that the user sees counts on the cache."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from lsprotocol import types as lsp
from scenarios.clients import FullEditor, check_done, edit, lines, write
from singlepass.cli.headless import HeadlessEditor, OpenFile
from singlepass.core.edits import Edit
from singlepass_backends.base import Target
from singlepass_backends.client import EngineClient, engine_paths, stop_engine
from singlepass_backends.runtime_dir import absolute
from singlepass_backends.testing.random_model import Shape, write_random_model

pytestmark = pytest.mark.anyio

SOURCE = "".join(f"value_{n} = {n}\n" for n in range(60))
ALONE: dict[str, Any] = {"context_map_tokens": 0, "max_neighbours": 0}
"""Nothing but the document stands in the prompt, so that all prewarms are the test's own."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Slow enough that a title says how long an action takes."""
    path = tmp_path_factory.mktemp("model") / "cold.gguf"
    shape = Shape(n_layer=3, n_embd=256, n_head=4, n_head_kv=2, n_ff=768, n_ctx_train=16_384)
    write_random_model(path, corpus=[SOURCE], shape=shape)
    return path


async def titles(editor: HeadlessEditor, file: OpenFile) -> list[str]:
    """The menu at the first line; asking for it asks for a prewarm too."""
    cursor = lsp.Position(0, 0)
    return [one.title for one in await editor.actions(file, lsp.Range(cursor, cursor))]


def is_estimated(found: list[str]) -> bool:
    return any(" · " in title for title in found)


async def until_state(editor: HeadlessEditor, file: OpenFile, state: str, n_before: int) -> dict[str, Any]:
    """The first status of this kind about the document, and no job, after the first `n_before` ones."""
    about = {"job": None, "uri": file.uri, "state": state}

    def found() -> list[dict[str, Any]]:
        return [one for one in editor.statuses[n_before:] if about.items() <= one.items()]

    async with asyncio.timeout(60):
        await editor.until(lambda: bool(found()))
    return found()[0]


async def warm(editor: HeadlessEditor, file: OpenFile) -> list[str]:
    """Ask for actions, and wait until the document is prewarmed; the menu as it was."""
    n_before = len(editor.statuses)
    found = await titles(editor, file)
    await until_state(editor, file, "warm", n_before)
    return found


async def click(editor: HeadlessEditor, file: OpenFile) -> dict[str, Any]:
    """A job, whose edits are taken back; its timings."""
    timings = await edit(editor, file, lines(4, 6))
    check_done(timings)
    await editor.command("singlepass.undo")
    assert file.text == SOURCE
    return timings


def check_reads_the_task_at_most(timings: dict[str, Any]) -> None:
    *context, task = timings["segments"]
    assert [one["n_cached"] for one in context] == [one["n_tokens"] for one in context]
    assert timings["timings"]["n_prefilled"] <= task["n_tokens"]


async def idle_exit(target: Target, editor: HeadlessEditor) -> None:
    """The user is away for longer than `idle_exit_minutes`."""


async def sigkill(target: Target, editor: HeadlessEditor) -> None:
    client = EngineClient(target)
    status = await client.status()
    assert status is not None
    await client.aclose()
    os.kill(status.pid, signal.SIGKILL)


async def engine_stop(target: Target, editor: HeadlessEditor) -> None:
    """`singlepass engine stop`."""
    assert await stop_engine(engine_paths(absolute(target)))


@pytest.mark.parametrize(
    ("end", "n_ctx"),
    [(idle_exit, 4001), (sigkill, 4002), (engine_stop, 4003)],
    ids=["idle", "killed", "stopped"],
)
async def test_an_engine_that_ended(
    end: Callable[[Target, HeadlessEditor], Awaitable[None]], n_ctx: int, model: Path, tmp_path: Path
) -> None:
    fields: dict[str, Any] = {"model": str(model), "n_ctx": n_ctx}  # an engine of this test's own
    options = {"target": fields, **ALONE, "idle_exit_minutes": 0.06 if end is idle_exit else 5}
    async with HeadlessEditor(tmp_path, options) as editor:
        file = editor.open(write(tmp_path, "values.py", SOURCE))

        async def until_it_ends() -> int:
            n_before = len(editor.statuses)
            await end(Target(**fields), editor)
            assert (await until_state(editor, file, "cold", n_before))["target"] == "default"
            return len(editor.statuses)

        await warm(editor, file)
        check_reads_the_task_at_most(await click(editor, file))
        assert is_estimated(await warm(editor, file))  # the job showed how fast the model is

        # The next menu counts on nothing, and has the document read in a new engine.
        await until_it_ends()
        assert not is_estimated(await warm(editor, file))
        assert is_estimated(await titles(editor, file))
        known = await click(editor, file)
        check_reads_the_task_at_most(known)

        # A click in between is routed as what it is, a request of which nothing is cached.
        await warm(editor, file)
        await until_it_ends()
        cold = await click(editor, file)
        assert [one["n_cached"] for one in cold["segments"] if one["name"] == "values.py"] == [0]
        assert cold["options"][0]["prefill_s"] > known["options"][0]["prefill_s"]

        # A pause in typing has the document read as a menu does.
        await warm(editor, file)
        n_before = await until_it_ends()
        editor.type(file, Edit(0, 0, "# typed\n"))
        await until_state(editor, file, "warm", n_before)
        check_reads_the_task_at_most(await edit(editor, file, lines(4, 6)))


async def test_another_window_evicts_the_document(model: Path, tmp_path: Path) -> None:
    options = {"target": {"model": str(model), "n_ctx": 4004}, **ALONE}

    def long(name: str, n_lines: int) -> Path:
        return write(tmp_path, f"{name}.py", "".join(f"{name}_{n} = {n}\n" for n in range(n_lines)))

    async def n_cached() -> tuple[int, int]:
        """Tokens of the document that the engine has cached, and all of them."""
        document = (await editor.command("singlepass.context", file.uri))["segments"][-1]
        return document["n_cached"], document["n_tokens"]

    async with HeadlessEditor(tmp_path, options) as editor, HeadlessEditor(tmp_path, options) as other:
        file = editor.open(long("value", 150))
        await warm(editor, file)
        n_all, n_tokens = await n_cached()
        assert n_all == n_tokens
        n_before = len(editor.statuses)
        await warm(other, other.open(long("other", 260)))  # there is no room for both
        await until_state(editor, file, "cold", n_before)
        n_left, _ = await n_cached()
        assert n_left < n_tokens

        await warm(editor, file)
        assert await n_cached() == (n_tokens, n_tokens)
        check_reads_the_task_at_most(await edit(editor, file, lines(4, 6)))


@pytest.mark.parametrize("how", ["by command", "in the settings"])
async def test_another_target_and_back(how: str, model: Path, tmp_path: Path) -> None:
    n_ctx = 4010 if how == "by command" else 4020
    one, two = ({"model": str(model), "n_ctx": n_ctx + n} for n in (1, 2))
    settings = {"target": one, "targets": {"two": two}} if how == "by command" else {"target": one}

    async def use(editor: FullEditor, target: dict[str, Any]) -> None:
        if how == "by command":
            await editor.command("singlepass.selectTarget", "default" if target is one else "two")
        else:
            editor.set(target=target)

    async with FullEditor(tmp_path, settings={**settings, **ALONE}) as editor:
        file = editor.open(write(tmp_path, "values.py", SOURCE))
        await warm(editor, file)
        for target in (two, one):
            n_before = len(editor.statuses)
            await use(editor, target)
            await until_state(editor, file, "cold", n_before)
            name = "two" if how == "by command" and target is two else "default"
            told = await until_state(editor, file, "warm", n_before)
            assert told["target"] == name
            check_reads_the_task_at_most(await click(editor, file))
            await warm(editor, file)
