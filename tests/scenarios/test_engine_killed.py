"""The engine dies in the middle of a request: the server lives and says so, and the next request works."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from scenarios.clients import check_done, edit, lines, write
from singlepass.cli.headless import HeadlessEditor
from singlepass_backends.base import GenerateRequest, Segment, Target
from singlepass_backends.client import EngineClient
from singlepass_backends.runtime_dir import absolute, engine_paths
from singlepass_backends.testing.random_model import Shape, write_random_model

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


def old_engine(target: Target) -> "subprocess.Popen[bytes]":
    """An engine as an older singlepass left it running."""
    program = (
        "import singlepass_backends as package, sys\n"
        "package.__version__ = '0.0.1'\n"
        "from singlepass_backends.engine.__main__ import main\n"
        "sys.exit(main())"
    )
    socket = engine_paths(target).socket
    socket.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    options = ["--socket", str(socket), "--target", msgspec.json.encode(target).decode()]
    process = subprocess.Popen([sys.executable, "-c", program, *options])
    deadline = time.monotonic() + 60
    while not socket.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    return process


async def test_an_idle_engine_of_another_version_is_replaced(random_gguf: Path, tmp_path: Path) -> None:
    path = write(tmp_path, "values.py", SOURCE[:400])
    target = absolute(Target(model=str(random_gguf), n_ctx=4096))
    process = old_engine(target)
    options = {"target": {"model": str(random_gguf), "n_ctx": 4096}, "prewarm": False}
    async with HeadlessEditor(tmp_path, options) as editor:
        check_done(await edit(editor, editor.open(path), lines(1, 3)))
    assert process.wait(timeout=10) == 0
    client = EngineClient(target)
    status = await client.status()
    assert status is not None
    assert status.pid != process.pid
    await client.aclose()


async def test_a_busy_engine_of_another_version_is_left_alone(slow_model: Path, tmp_path: Path) -> None:
    path = write(tmp_path, "values.py", SOURCE)
    target = absolute(Target(model=str(slow_model), n_ctx=8192))
    process = old_engine(target)
    other = EngineClient(target, version="0.0.1")
    busy = other.generate(GenerateRequest((Segment("a", SOURCE),), max_tokens=4000))
    await anext(busy)
    options = {"target": {"model": str(slow_model), "n_ctx": 8192}, "prewarm": False}
    async with HeadlessEditor(tmp_path, options) as editor:
        file = editor.open(path)
        timings = await edit(editor, file, lines(1, 3))
        assert timings["error"]["code"] == "engine_version"
        assert "singlepass 0.0.1" in timings["error"]["message"]
        assert "singlepass engine stop" in timings["error"]["message"]
        assert file.text == SOURCE
        # When it has finished, it makes room.
        await busy.aclose()
        await other.aclose()
        options["temperature"] = 1.0
        async with asyncio.timeout(60):
            while (timings := await edit(editor, file, lines(1, 3)))["error"] is not None:
                pass
        check_done(timings)
    assert process.wait(timeout=10) == 0
