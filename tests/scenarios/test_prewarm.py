"""The context is read before the click: at the click only the task is new. Counted in tokens, exactly."""

import asyncio
from pathlib import Path

import pytest
from lsprotocol import types as lsp
from scenarios.clients import check_done, edit, lines, write
from singlepass.cli.headless import HeadlessEditor
from singlepass.core.context import SourceFile, build_context
from singlepass.core.prompt import Task, render_prompt
from singlepass_backends.base import GenerateRequest, PrefillProgress, Target
from singlepass_backends.client import EngineClient

pytestmark = pytest.mark.anyio

SOURCE = "".join(f"value_{n} = {n}\n" for n in range(60))


async def n_task_tokens(client: EngineClient, text: str, task: Task) -> int:
    """Tokens of the prompt's last segment."""
    whole = render_prompt(build_context(SourceFile("values.py", text), []), task)
    counts: list[int] = []
    n_prompt = 0
    for segments in (whole, whole[:-1]):
        async for event in client.generate(GenerateRequest(segments, max_tokens=1)):
            if isinstance(event, PrefillProgress):
                n_prompt = event.n_prompt
        counts.append(n_prompt)
    return counts[0] - counts[1]


async def settled(client: EngineClient) -> int:
    """Tokens cached once the engine has had something to do and rests."""
    async with asyncio.timeout(60):
        while True:
            status = await client.status()
            if status is not None and status.info and not status.busy and status.n_cached > 100:
                return status.n_cached
            await asyncio.sleep(0.02)


async def test_after_asking_for_actions_only_the_task_is_new(random_gguf: Path, tmp_path: Path) -> None:
    path = write(tmp_path, "values.py", SOURCE)
    target = Target(model=str(random_gguf), n_ctx=4000)  # an engine of this test's own
    options = {"target": {"model": str(random_gguf), "n_ctx": 4000}}
    client = EngineClient(target)
    try:
        async with HeadlessEditor(tmp_path, options) as editor:
            file = editor.open(path)
            cursor = lsp.Position(3, 0)
            await editor.actions(file, lsp.Range(cursor, cursor))
            n_warm = await settled(client)

            timings = await edit(editor, file, lines(4, 6), "Do it.")
            check_done(timings)
            assert timings["timings"]["n_cached"] == n_warm
            assert timings["timings"]["n_prefilled"] == timings["timings"]["n_prompt"] - n_warm
        # So what was prefilled at the click is the task and the few tokens that end the template.
        n_task = await n_task_tokens(client, SOURCE, Task("Do it.", "values.py", 3, 6))
        assert 0 < n_task <= timings["timings"]["n_prefilled"] < n_task + 16
    finally:
        await client.aclose()


async def test_a_click_comes_before_a_prewarm(random_gguf: Path, tmp_path: Path) -> None:
    """The job of one document runs although another document is being prewarmed."""
    one = write(tmp_path, "one.py", SOURCE * 2)
    two = write(tmp_path, "two.py", "x = 1\n")
    options = {"target": {"model": str(random_gguf)}, "max_neighbours": 0}
    async with HeadlessEditor(tmp_path, options) as editor:
        first, second = editor.open(one), editor.open(two)
        cursor = lsp.Position(3, 0)
        for _ in range(5):
            await editor.actions(first, lsp.Range(cursor, cursor))
            check_done(await edit(editor, second, lines(1, 1)))


async def test_trying_again_reads_only_the_new_words(random_gguf: Path, tmp_path: Path) -> None:
    """The text is as it was, so it stands in the cache; so does what was selected and the words that stay."""
    path = write(tmp_path, "values.py", SOURCE)
    options = {"target": {"model": str(random_gguf), "n_ctx": 3996}}  # an engine of this test's own
    async with HeadlessEditor(tmp_path, options) as editor:
        file = editor.open(path)
        first = await edit(editor, file, lines(4, 40), "Make these lines simpler, please.")
        check_done(first)
        assert file.text != SOURCE
        asked = await editor.command("singlepass.retry")
        assert file.text == SOURCE
        words = "Make these lines simpler, and shorter."
        job = (await editor.command("singlepass.edit", {**asked, "instruction": words}))["job"]
        again = await editor.finish(job)
        check_done(again)
        assert first["timings"]["n_prompt"] > 1000
        assert again["timings"]["n_prefilled"] < 32
