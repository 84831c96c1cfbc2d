"""The engine dies in the middle of a request: the server lives and says so, and the next request works."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from scenarios.clients import check_done, edit, lines, write
from singlepass.cli.headless import HeadlessEditor
from singlepass_backends.base import Target
from singlepass_backends.client import EngineClient
from singlepass_backends.random_model import Shape, write_random_model

pytestmark = pytest.mark.anyio

SOURCE = "".join(f"value_{n} = {n}\n" for n in range(200))


@pytest.fixture(scope="module")
def slow_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Large enough that a prompt of some thousand tokens takes several chunks."""
    path = tmp_path_factory.mktemp("model") / "slow.gguf"
    shape = Shape(n_layer=4, n_embd=384, n_head=6, n_head_kv=2, n_ff=1024, n_ctx_train=16_384)
    write_random_model(path, corpus=[SOURCE], shape=shape)
    return path


async def engine_pid(model: Path) -> int:
    client = EngineClient(Target(model=str(model)))
    try:
        status = await client.status()
        assert status is not None
        return status.pid
    finally:
        await client.aclose()


@pytest.mark.parametrize("state", ["prefill", "decode"])
async def test_sigkill(state: str, slow_model: Path, tmp_path: Path) -> None:
    path = write(tmp_path, "values.py", SOURCE)
    options: dict[str, Any] = {"target": {"model": str(slow_model)}, "prewarm": False, "temperature": 1.0}
    async with HeadlessEditor(tmp_path, options) as editor:
        # Start the engine, on another prompt, so that the kill does not hit its start.
        first = editor.open(write(tmp_path, "first.py", "x = 1\n"))
        check_done(await edit(editor, first, lines(1, 1)))
        editor.close(first)
        file = editor.open(path)
        pid = await engine_pid(slow_model)

        before = len(editor.statuses)
        arguments = {"uri": file.uri, "range": lines(1, 200), "instruction": "Do it."}
        job = (await editor.command("singlepass.edit", arguments))["job"]
        await editor.until(lambda: any(one["state"] == state for one in editor.statuses[before:]))
        os.kill(pid, signal.SIGKILL)
        timings = await editor.finish(job)

        assert timings["outcome"] == "failed"
        assert timings["error"]["code"] == "engine_lost"
        assert any("engine" in text for level, text in editor.messages if level == "error")
        if state == "prefill":
            assert file.text == SOURCE
        # Whatever was applied are whole hunks: taking them back gives the first text again.
        if timings["n_applied"]:
            await editor.command("singlepass.revert")
            assert file.text == SOURCE

        check_done(await edit(editor, file, lines(1, 200), "Do it again."))
        assert await engine_pid(slow_model) != pid
