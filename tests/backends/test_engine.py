"""Real engine processes over their sockets."""

import asyncio
import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Coroutine
from contextlib import aclosing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from endpoints import Endpoint, reply, say
from runtimes import Runtime
from singlepass_backends import __version__
from singlepass_backends.base import (
    BackendError,
    Event,
    Finished,
    GenerateRequest,
    PrefillProgress,
    Segment,
    Target,
    TextChunk,
)
from singlepass_backends.client import (
    EngineClient,
    ending,
    engine_paths,
    engine_status,
    list_engines,
    stop_engine,
)
from singlepass_backends.generation.template import CHATML_SOURCE
from singlepass_backends.wire import PROTOCOL, Welcome, encode

RECORDING = {
    "name": "demo",
    "replies": [
        {"when": "slow prefill", "n_prompt": 64_000, "chunk_ms": 5},
        {"when": "slow decode", "text": ["x"] * 5000, "delay_ms": 5},
        {"when": "crash", "text": ["x"], "fail": {"code": "internal", "message": "", "exits": True}},
        {"text": ["a ", "reply"]},
    ],
}


@pytest.fixture
def target(folder: Path) -> Target:
    path = folder / "recording.json"
    path.write_text(json.dumps(RECORDING))
    return Target(backend="scripted", model=str(path))


def request(text: str) -> GenerateRequest:
    return GenerateRequest((Segment("task", text),), max_tokens=10_000)


async def text_of(client: EngineClient, text: str = "hello") -> str:
    return "".join([e.text async for e in client.generate(request(text)) if isinstance(e, TextChunk)])


def with_client(
    target: Target, folder: Path, body: Callable[[EngineClient], Coroutine[Any, Any, None]], **options: Any
) -> None:
    async def main() -> None:
        client = EngineClient(target, runtime_dir=folder, **options)
        try:
            await body(client)
        finally:
            await client.stop()
            await client.aclose()

    asyncio.run(main())


def test_text_from_a_random_model_in_an_engine(runtime: Runtime, folder: Path) -> None:
    async def body(client: EngineClient) -> None:
        fractions: list[float] = []
        client.on_loading = fractions.append
        info = await client.connect()
        assert info.random_weights
        assert fractions
        assert await client.connect() == info
        segments = (Segment("rules", "Edit.", "system"), Segment("a.py", "x = 1\n" * 50))
        warmed = asyncio.Event()
        await client.prewarm(segments, on_event=lambda event: isinstance(event, Finished) and warmed.set())
        await warmed.wait()
        grammar = 'start: "a.py\\n" /[a-z]{3}/ "\\n"'
        asked = GenerateRequest((*segments, Segment("task", "Fix.")), grammar)
        events = [event async for event in client.generate(asked)]
        finished = events[-1]
        assert isinstance(finished, Finished)
        assert finished.finish_reason == "stop"
        again = [event async for event in client.generate(asked)][-1]
        assert isinstance(again, Finished)
        assert again.timings.n_cached == again.timings.n_prompt - 1
        # The engine is told that it is idle just after it has sent the last event.
        while (status := await client.status()) is not None and status.busy:  # noqa: ASYNC110 - an instant
            await asyncio.sleep(0.01)
        assert status is not None
        assert status.n_cached > again.timings.n_prompt
        assert status.rss_bytes > 1_000_000
        log = engine_paths(client.target, folder).log.read_text()
        assert "x = 1" not in log
        assert "Fix." not in log

    with_client(runtime.target(), folder, body)


@pytest.mark.parametrize(
    "template",
    [
        "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
        "{{ 'x' * 10 ** 11 }}",
        "{{ cycler.__init__.__globals__.os.system('touch canary') }}",
    ],
)
def test_a_hostile_chat_template_costs_a_warning(template: str, random_model: Path, folder: Path) -> None:
    """The model is loaded and speaks, in ChatML."""
    model = folder / "hostile.gguf"
    plain, hostile = CHATML_SOURCE.encode(), template.encode()
    model.write_bytes(random_model.read_bytes().replace(plain, hostile.ljust(len(plain))))

    async def body(client: EngineClient) -> None:
        await client.connect()
        assert "using ChatML" in engine_paths(client.target, folder).log.read_text()
        asked = GenerateRequest((Segment("task", "Fix."),), 'start: "yes"')
        texts = [event.text async for event in client.generate(asked) if isinstance(event, TextChunk)]
        assert "".join(texts) == "yes"

    with_client(Target(backend="llama_cpp", model=str(model)), folder, body)
    assert not (Path.cwd() / "canary").exists()


@pytest.mark.parametrize("how", ["stopped", "idle", "killed"])
def test_nothing_shared_is_read_again_by_the_next_engine(
    random_model: Path, folder: Path, own_cache: Path, how: str
) -> None:
    rules = Segment("rules", "Edit.", "system", shared=True)
    map_ = Segment("map", "".join(f"def function_{n}(value): ...\n" for n in range(80)), shared=True)
    asked = GenerateRequest((rules, map_, Segment("a.py", "x = 1\n" * 50), Segment("task", "Fix.")))
    asked = msgspec.structs.replace(asked, max_tokens=8)

    async def ask(client: EngineClient) -> Finished:
        finished = [event async for event in client.generate(asked)][-1]
        assert isinstance(finished, Finished)
        return finished

    async def body(client: EngineClient) -> None:
        cold = await ask(client)
        assert cold.timings.n_cached == 0
        status = await client.status()
        assert status is not None
        if how == "stopped":
            assert await client.stop()
        elif how == "idle":
            while await client.status() is not None:  # noqa: ASYNC110
                await asyncio.sleep(0.2)
        else:
            os.kill(status.pid, signal.SIGKILL)  # nothing was saved yet
        warm = await ask(client)
        read = [use.n_tokens - use.n_cached for use in warm.segments[:2]]
        if how == "killed":
            assert read == [use.n_tokens for use in warm.segments[:2]]
        else:
            assert read == [0, 0]
            assert warm.miss is not None
            assert (warm.miss.segment, warm.miss.reason) == ("a.py", "restart")
            assert [path.stat().st_mode & 0o777 for path in (own_cache / "prefixes").iterdir()] == [0o600]

    options = {"idle_exit_s": 0.3} if how == "idle" else {}
    with_client(Target(model=str(random_model), n_ctx=4096, n_threads=1), folder, body, **options)


def test_a_second_client_attaches(target: Target, folder: Path) -> None:
    async def body(client: EngineClient) -> None:
        other = EngineClient(target, runtime_dir=folder)
        assert await other.status() is None  # does not start one
        await other.prewarm((Segment("a", "b"),), spawn=False)
        assert list_engines(folder) == []
        assert await text_of(client) == "a reply"
        assert await text_of(other) == "a reply"
        mine, theirs = await client.status(), await other.status()
        assert mine is not None
        assert theirs is not None
        assert mine.pid == theirs.pid
        assert theirs.n_clients == 2
        await other.aclose()
        [paths] = list_engines(folder)
        status = await engine_status(paths)
        assert status is not None
        assert status.pid == mine.pid
        assert await stop_engine(paths)
        assert list_engines(folder) == []
        assert await engine_status(paths) is None
        assert not await stop_engine(paths)
        assert not await client.stop()

    with_client(target, folder, body)


def test_windows_of_different_folders_share_the_engine_of_a_server(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Endpoint(say(reply(["a reply"]))) as endpoint:
        target = Target(backend="openai_compatible", url=endpoint.url)

        async def body(client: EngineClient) -> None:
            assert await text_of(client) == "a reply"
            for n in range(3):
                (folder / f"new file {n}").touch()
                window = folder / f"window {n}"
                window.mkdir()
                monkeypatch.chdir(window)
                spelled = msgspec.structs.replace(target, url=endpoint.url + "/v1")
                other = EngineClient(spelled if n else target, runtime_dir=folder)
                assert await text_of(other) == "a reply"
                await other.aclose()
            assert len(list_engines(folder)) == 1

        monkeypatch.chdir(folder)
        with_client(target, folder, body)


def test_an_engine_in_use_is_not_stopped_by_who_spares_it(target: Target, folder: Path) -> None:
    async def body(client: EngineClient) -> None:
        other = EngineClient(target, runtime_dir=folder)
        assert not await other.stop("shared")  # there is none
        assert await text_of(client) == "a reply"
        assert not await other.stop("shared")
        async with aclosing(client.generate(request("slow decode"))) as events:
            await anext(events)
            assert not await other.stop("busy")
        mine = await client.status()
        assert mine is not None
        await client.aclose()
        assert await other.stop("shared")
        assert list_engines(folder) == []

    with_client(target, folder, body)


@pytest.mark.parametrize("answers", ["never", "too late"])
def test_a_client_that_is_closed_while_it_attaches_leaves_no_connection(
    target: Target, folder: Path, answers: str
) -> None:
    """To an engine that is slow to greet."""

    async def main() -> None:
        asked, closed, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readexactly(4)
            asked.set()
            if answers == "too late":
                await closed.wait()
                writer.write(encode(Welcome(PROTOCOL, __version__, os.getpid())))
            while await reader.read(4096):
                pass
            ended.set()
            writer.close()

        server = await asyncio.start_unix_server(serve, str(engine_paths(target, folder).socket))
        client = EngineClient(target, runtime_dir=folder)
        connecting = asyncio.ensure_future(client.connect())
        await asyncio.wait_for(asked.wait(), 5)
        await asyncio.wait_for(client.aclose(), 5)
        closed.set()
        await asyncio.wait_for(ended.wait(), 5)
        with pytest.raises(BackendError, match="was closed") as caught:
            await asyncio.wait_for(connecting, 5)
        assert caught.value.code == "engine_lost"
        with pytest.raises(BackendError, match="was closed"):
            await client.connect()
        await client.aclose()
        server.close()

    asyncio.run(main())


def test_a_client_that_is_closed_while_it_starts_an_engine(target: Target, folder: Path) -> None:
    async def body(other: EngineClient) -> None:
        client = EngineClient(target, runtime_dir=folder)
        started = asyncio.Event()

        async def before_start() -> None:
            started.set()

        client.before_start = before_start
        waiting = [asyncio.ensure_future(text_of(client)) for _ in range(3)]
        await started.wait()
        await client.aclose()
        for one in waiting:
            with pytest.raises(BackendError, match="was closed"):
                await one
        # The engine lives on, for others.
        assert await text_of(other) == "a reply"
        status = await other.status()
        assert status is not None
        assert status.n_clients == 1
        assert len(list_engines(folder)) == 1

    with_client(target, folder, body)


def test_four_clients_at_once_start_one_engine(target: Target, folder: Path) -> None:
    async def body(client: EngineClient) -> None:
        clients = [client, *(EngineClient(target, runtime_dir=folder) for _ in range(3))]
        texts = await asyncio.gather(*map(text_of, clients))
        assert texts == ["a reply"] * 4
        assert len({status.pid for c in clients if (status := await c.status())}) == 1
        for other in clients[1:]:
            await other.aclose()
        log = engine_paths(target, folder).log.read_text()
        assert log.count("serving") == 1

    with_client(target, folder, body)


@pytest.mark.parametrize(("text", "kind"), [("slow prefill", PrefillProgress), ("slow decode", TextChunk)])
def test_a_killed_engine_is_told_and_replaced(
    target: Target, folder: Path, text: str, kind: type[Event]
) -> None:
    async def body(client: EngineClient) -> None:
        await client.connect()
        status = await client.status()
        assert status is not None

        async def kill_midway() -> None:
            async for event in client.generate(request(text)):
                if isinstance(event, kind):
                    os.kill(status.pid, signal.SIGKILL)

        with pytest.raises(BackendError, match=r"killed by SIGKILL.*log is") as caught:
            await kill_midway()
        assert caught.value.code == "engine_lost"
        assert str(engine_paths(target, folder).log) in caught.value.message
        assert await text_of(client) == "a reply"

    with_client(target, folder, body)


def test_a_crash_in_the_engine_is_told(target: Target, folder: Path) -> None:
    async def body(client: EngineClient) -> None:
        with pytest.raises(BackendError) as caught:
            await text_of(client, "crash")
        assert caught.value.code == "engine_lost"

    with_client(target, folder, body)


def test_an_engine_that_left_unnoticed_is_replaced_silently(target: Target, folder: Path) -> None:
    async def body(client: EngineClient) -> None:
        await client.connect()
        status = await client.status()
        assert status is not None
        os.kill(status.pid, signal.SIGKILL)  # the client's event loop has not run since
        assert await text_of(client) == "a reply"

    with_client(target, folder, body)


def test_cancel_frees_the_engine(target: Target, folder: Path) -> None:
    async def body(client: EngineClient) -> None:
        events = client.generate(request("slow prefill"))
        await anext(events)
        await events.aclose()  # type: ignore[attr-defined]
        assert await text_of(client) == "a reply"  # would take five seconds more otherwise

    with_client(target, folder, body)


def test_idle_exit_removes_the_socket(target: Target, folder: Path) -> None:
    async def body(client: EngineClient) -> None:
        await client.connect()
        paths = engine_paths(target, folder)
        reader, writer = await asyncio.open_unix_connection(str(paths.socket))
        assert await reader.read() == b""  # until it leaves
        writer.close()
        assert not paths.socket.exists()
        assert await client.status() is None

    with_client(target, folder, body, idle_exit_s=0.2)


def test_sigterm_stops_cleanly(target: Target, folder: Path) -> None:
    async def body(client: EngineClient) -> None:
        await client.connect()
        status = await client.status()
        assert status is not None
        events = client.generate(request("slow decode"))
        await anext(events)
        os.kill(status.pid, signal.SIGTERM)
        rest = [event async for event in events]
        assert isinstance(rest[-1], Finished)
        assert rest[-1].finish_reason == "cancelled"
        assert not engine_paths(target, folder).socket.exists()

    with_client(target, folder, body)


def test_an_engine_whose_model_hangs_does_not_stay(target: Target, folder: Path) -> None:
    socket = engine_paths(target, folder).socket
    program = (
        "import sys, time\n"
        "from singlepass_backends.engine import __main__ as engine\n"
        "engine._STOP_S = 1\n"
        "engine.open_backend = lambda *_: time.sleep(600)\n"
        "sys.exit(engine.main())"
    )
    command = [sys.executable, "-c", program, *engine_command(target, socket)[3:]]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert "serving" in process.stderr.readline()
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == -signal.SIGALRM
    assert not socket.exists()


@pytest.mark.parametrize(
    ("model", "code"), [("", "no_model"), ("none.gguf", "model_missing"), ("junk.gguf", "model_invalid")]
)
def test_load_errors_reach_the_client(folder: Path, model: str, code: str) -> None:
    (folder / "junk.gguf").write_text("not a model")

    async def body(client: EngineClient) -> None:
        for _ in range(2):
            with pytest.raises(BackendError) as caught:
                await client.connect()
            assert caught.value.code == code

    with_client(Target(model=str(folder / model) if model else ""), folder, body)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (1, "exited with code 1"),
        (-signal.SIGABRT, "killed by SIGABRT"),
        (-signal.SIGILL, "set `repack` to false"),
    ],
)
def test_how_an_engine_ended_is_told(code: int, words: str) -> None:
    assert words in ending(code)


def test_an_engine_that_dies_while_loading_shows_its_log(folder: Path) -> None:
    path = folder / "recording.json"
    path.write_text('{"replies": [], "fail": {"code": "internal", "message": "", "exits": true}}')

    async def body(client: EngineClient) -> None:
        with pytest.raises(BackendError, match="exited with code 134") as caught:
            await client.connect()
        assert caught.value.code == "engine_start_failed"
        assert "serving" in caught.value.message

    with_client(Target(backend="scripted", model=str(path)), folder, body)


def engine_command(target: Target, socket: Path) -> list[str]:
    encoded = msgspec.json.encode(target).decode()
    return [sys.executable, "-m", "singlepass_backends.engine", "--socket", str(socket), "--target", encoded]


@pytest.mark.parametrize("name", ["spawn_lock", "log"])
def test_a_runtime_folder_that_takes_no_files_is_told(
    target: Target, folder: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    full, opened = getattr(engine_paths(target, folder), name), os.open

    def disk(path: Any, *rest: Any) -> int:
        if path == full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        return opened(path, *rest)

    async def body(client: EngineClient) -> None:
        with pytest.raises(BackendError, match="No space left on device") as told:
            await client.connect()
        assert told.value.code == "engine_start_failed"
        assert str(full) in str(told.value)
        monkeypatch.undo()
        assert await text_of(client) == "a reply"

    monkeypatch.setattr(os, "open", disk)
    with_client(target, folder, body)


def test_a_second_engine_for_the_same_socket_exits(target: Target, folder: Path) -> None:
    async def body(client: EngineClient) -> None:
        await client.connect()
        command = engine_command(target, engine_paths(target, folder).socket)
        second = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=60)
        assert second.returncode == 4
        assert "another engine serves" in second.stderr
        assert await text_of(client) == "a reply"

    with_client(target, folder, body)


def test_a_stale_socket_is_replaced_and_private(target: Target, folder: Path) -> None:
    paths = engine_paths(target, folder)
    paths.socket.write_text("left over")

    async def body(client: EngineClient) -> None:
        assert await text_of(client) == "a reply"
        assert paths.socket.stat().st_mode & 0o777 == 0o600

    with_client(target, folder, body)


def test_probe(random_model: Path, tmp_path: Path) -> None:
    def probe(model: Path) -> dict[str, Any]:
        wishes = json.dumps({"model": str(model)})
        command = [sys.executable, "-m", "singlepass_backends.engine", "--probe", "--target", wishes]
        return json.loads(subprocess.run(command, capture_output=True, check=True, timeout=60).stdout)

    found = probe(random_model)
    assert found["llama_cpp"]
    assert found["llguidance"]
    assert found["machine"]["n_cores"] >= 1
    assert 0 < found["machine"]["ram_free_bytes"] <= found["machine"]["ram_bytes"]
    assert "CPU" in found["machine"]["llama"]["kinds"]
    assert found["errors"] == []
    assert found["choice"]["target"]["n_ctx"] == 4096
    assert found["choice"]["target"]["n_threads"] == 1  # it is tiny
    assert found["choice"]["fits"]
    assert found["model"]["metadata"]["general.name"] == "singlepass random"
    assert not any(key.startswith("tokenizer") for key in found["model"]["metadata"])
    assert probe(tmp_path / "none.gguf")["model"]["error_code"] == "model_missing"


def test_the_server_side_loads_no_runtime() -> None:
    code = (
        "import sys, singlepass_backends.client\n"
        "heavy = {'llama_cpp', 'llguidance', 'numpy', 'jinja2', 'psutil', 'gguf', 'tokenizers'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
