"""What singlepass costs on top of what it is built of. Three questions, each answered by taking turns:

1. How fast are prefill and decode, through the engine's client and its real process, against a bare loop over
   `llama_decode` (`bare.py`)?
2. How long does `singlepass serve` take to answer `initialize`, against an empty pygls server?
3. How long does `textDocument/codeAction` take while the model works, against an idle server?

    python benchmarks/overhead.py [--vocab PATH --shape 0.5b] [--json]

Without --vocab a small random model is used, so that it runs anywhere; its passes take well under a
millisecond, so its ratios say what each pass and token costs, and nothing about a model of real size.
"""

import argparse
import asyncio
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import psutil
from machine import command, describe, load, machine
from rpc import Client
from singlepass.core.edits import Edit, apply
from singlepass.core.grammar import edit_grammar
from singlepass.core.lines import LineIndex
from singlepass_backends.base import Finished, GenerateRequest, PrefillProgress, Segment, Target
from singlepass_backends.client import EngineClient
from singlepass_backends.machine.hardware import physical_cores
from singlepass_backends.testing.random_model import (
    SHAPE_0_5B,
    Shape,
    write_random_model,
    write_random_model_with_vocab,
)

ROOT = Path(__file__).parents[1]
HERE = Path(__file__).parent
N_CTX = 40_960
SHAPES = {"tiny": Shape(), "0.5b": SHAPE_0_5B}
GOALS = {"prefill": 0.97, "decode": 0.95, "startup": 1.2, "code_action": 2.0}
ANY_TEXT = "start: TEXT\nTEXT: /(.|\\n)*/\n"
EMPTY_SERVER = "from pygls.lsp.server import LanguageServer; LanguageServer('empty', '1').start_io()"


# 1. The model.


class Bare:
    """The process of `bare.py`."""

    def __init__(self, target: Target, requests: dict[str, GenerateRequest]) -> None:
        command = [sys.executable, str(HERE / "bare.py"), msgspec.json.encode(target).decode()]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.passes: dict[str, list[int]] = json.loads(self._ask(msgspec.json.encode(requests).decode()))

    def seconds(self, phase: str, name: str) -> tuple[float, float]:
        """What one phase, `prefill` or `decode`, of a request takes: of the clock and of the processor."""
        seconds, cpu = json.loads(self._ask(f"{phase} {name}"))
        return seconds, cpu

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _ask(self, line: str) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        return self._process.stdout.readline()


async def timed(client: EngineClient, request: GenerateRequest) -> dict[str, Any]:
    """One request as its client sees it: seconds by the client's own clock, and the engine's timings."""
    sent = prefilled = time.perf_counter()
    async for event in client.generate(request):
        if isinstance(event, PrefillProgress) and event.n_done == event.n_prompt:
            prefilled = time.perf_counter()
        elif isinstance(event, Finished):
            ended = time.perf_counter()
            return {
                "prefill_s": prefilled - sent,
                "decode_s": ended - prefilled,
                **msgspec.structs.asdict(event.timings),
            }
    raise RuntimeError("no Finished")


async def measure_model(target: Target, n_tokens: int, repetitions: int) -> dict[str, Any]:
    """Rates of the engine and of the bare loop, and their ratios."""
    target = msgspec.structs.replace(target, n_ctx=4096)
    source = (ROOT / "server/singlepass/core/lines.py").read_text(encoding="utf-8")
    client = EngineClient(target, idle_exit_s=600)
    await client.connect()
    text = await _of_length(client, source, 1024)
    segments = (Segment("number", "0000\n"), Segment("file", text))
    requests = {
        "free": GenerateRequest(segments, None, n_tokens),
        "constrained": GenerateRequest(segments, ANY_TEXT, n_tokens),
        "edit": GenerateRequest(segments, edit_grammar({"lines.py": text}), n_tokens),
    }
    bare = Bare(target, requests)
    for request in requests.values():
        n_bare = (await timed(client, request))["n_prompt"]
    names = (*requests, "prefill")
    status = await client.status()
    assert status is not None
    engine = psutil.Process(status.pid)
    ours: dict[str, list[float]] = {name: [] for name in names}
    theirs: dict[str, list[float]] = {name: [] for name in names}
    # Processor seconds a token: on a busy machine, and with one thread, the fairer comparison.
    ours_cpu: dict[str, list[float]] = {name: [] for name in names}
    theirs_cpu: dict[str, list[float]] = {name: [] for name in names}
    detail: dict[str, dict[str, Any]] = {}

    async def run_ours(name: str) -> None:
        request = requests.get(name)
        if request is None:
            # A prompt that begins with another number is not in the cache.
            other = Segment("number", f"{len(ours[name]) + 1:04}\n")
            request = GenerateRequest((other, *segments[1:]), None, 1)
        elif name == "free":
            await timed(client, msgspec.structs.replace(request, max_tokens=1))  # back into the cache
        before = engine.cpu_times()
        found = await timed(client, request)
        after = engine.cpu_times()
        n, seconds = ("n_prefilled", "prefill_s") if name == "prefill" else ("n_decoded", "decode_s")
        if name != "prefill" and (found["n_forward"] != len(bare.passes[name]) or found["n_prefilled"] > 1):
            raise RuntimeError(f"{name}: other passes than those recorded")
        ours[name].append(found[n] / found[seconds])
        ours_cpu[name].append((after.user - before.user + after.system - before.system) / found[n])
        detail[name] = {
            key: found[key] for key in ("n_prompt", "n_cached", "n_decoded", "n_forced", "n_forward")
        }

    def run_theirs(name: str) -> None:
        is_prefill = name == "prefill"
        seconds, cpu = bare.seconds("prefill", "free") if is_prefill else bare.seconds("decode", name)
        n = n_bare if is_prefill else detail[name]["n_decoded"]
        theirs[name].append(n / seconds)
        theirs_cpu[name].append(cpu / n)

    try:
        for repetition in range(repetitions):
            for name in names:
                if repetition == 0 or repetition % 2:
                    await run_ours(name)
                    run_theirs(name)
                else:
                    run_theirs(name)
                    await run_ours(name)
    finally:
        bare.close()
        info = client.info
        await client.stop()
    assert info is not None
    return {
        "model": {
            "name": info.name,
            "n_params": info.n_params,
            "n_vocab": info.n_vocab,
            "bytes": info.size_bytes,
        },
        "repetitions": repetitions,
        **{
            name: {
                "ours": statistics.median(ours[name]),
                "bare": statistics.median(theirs[name]),
                "ratio": statistics.median(a / b for a, b in zip(ours[name], theirs[name], strict=True)),
                "ratios": [a / b for a, b in zip(ours[name], theirs[name], strict=True)],
                "goal": GOALS["prefill" if name == "prefill" else "decode"],
                "cpu_ratio": statistics.median(theirs_cpu[name]) / statistics.median(ours_cpu[name]),
                **detail[name],
            }
            for name in names
        },
    }


async def _of_length(client: EngineClient, text: str, n_tokens: int) -> str:
    """The first lines of the text, so many that the prompt has about `n_tokens` tokens."""
    lines = text.splitlines(keepends=True)
    found = await timed(client, GenerateRequest((Segment("file", "".join(lines[:20])),), None, 1))
    n_lines = 20
    for _ in range(3):
        n_lines = max(1, min(len(lines), round(n_lines * n_tokens / found["n_prompt"])))
        found = await timed(client, GenerateRequest((Segment("file", "".join(lines[:n_lines])),), None, 1))
    return "".join(lines[:n_lines])


# 2. The start.


async def measure_startup(repetitions: int) -> dict[str, Any]:
    """Seconds from the start of the process to the answer to `initialize`."""
    commands = {
        "ours": [sys.executable, "-m", "singlepass", "serve"],
        "empty": [sys.executable, "-c", EMPTY_SERVER],
    }
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for repetition in range(repetitions + 1):
        for name, started in commands.items() if repetition % 2 else reversed(commands.items()):
            client = Client(started)
            await client.start()
            await client.request("initialize", {"processId": None, "rootUri": None, "capabilities": {}})
            if repetition:  # the first fills the disk's cache
                seconds[name].append(time.perf_counter() - client.started)
            client.notify("initialized", {})
            await client.stop()
    ours, empty = (statistics.median(seconds[name]) for name in ("ours", "empty"))
    return {
        "repetitions": repetitions,
        "ours_ms": ours * 1e3,
        "empty_ms": empty * 1e3,
        "ratio": ours / empty,
        "goal": GOALS["startup"],
    }


# 3. Answers while the model works.


class Editor:
    """Documents, a job that is started again whenever it ends, and paced requests."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.texts: dict[str, str] = {}
        self.versions: dict[str, int] = {}
        self.state = ""
        self.problems: list[str] = []
        self.n_jobs = 0
        self._job_uri: str | None = None
        self._changed = asyncio.Event()
        self._jobs: set[asyncio.Task[Any]] = set()
        client.on_request = self._answer
        client.on_notification = self._hear

    def open(self, uri: str, text: str) -> None:
        """Open a document."""
        self.texts[uri], self.versions[uri] = text, 1
        item = {"uri": uri, "languageId": "python", "version": 1, "text": text}
        self.client.notify("textDocument/didOpen", {"textDocument": item})

    def keep_generating(self, uri: str) -> None:
        """Have the model work on this document until `rest`."""
        self._job_uri = uri
        self._start()

    async def rest(self) -> None:
        """Cancel what runs and wait until it has ended."""
        self._job_uri = None
        await self.client.request("workspace/executeCommand", {"command": "singlepass.cancel"})
        await self.until("done", "failed", "cancelled")

    async def until(self, *states: str) -> None:
        """Wait until the job is in one of the states."""
        while self.state not in states:
            self._changed.clear()
            await self._changed.wait()

    async def ask(self, uri: str, n: int, rate: float) -> list[float]:
        """The seconds of `n` requests for code actions, so many sent a second whether answered or not."""
        n_lines = self.texts[uri].count("\n")
        tasks: list[asyncio.Task[tuple[Any, float]]] = []
        start = time.perf_counter()
        for index in range(n):
            await asyncio.sleep(max(0.0, start + index / rate - time.perf_counter()))
            line = index * 37 % n_lines
            place = {"start": {"line": line, "character": 0}, "end": {"line": line + 3, "character": 0}}
            params = {"textDocument": {"uri": uri}, "range": place, "context": {"diagnostics": []}}
            tasks.append(asyncio.ensure_future(self.client.request("textDocument/codeAction", params)))
        return [seconds for _, seconds in await asyncio.gather(*tasks)]

    def _start(self) -> None:
        self.state = ""
        self.n_jobs += 1
        place = {"start": {"line": 1, "character": 0}, "end": {"line": 9, "character": 0}}
        arguments = {"uri": self._job_uri, "range": place, "instruction": f"Change it, {self.n_jobs}."}
        params = {"command": "singlepass.edit", "arguments": [arguments]}
        task = asyncio.ensure_future(self.client.request("workspace/executeCommand", params))
        self._jobs.add(task)
        task.add_done_callback(self._jobs.discard)

    def _hear(self, method: str, params: Any) -> None:
        if method == "singlepass/status":
            self.state = params["state"]
            self._changed.set()
            if self.state == "failed":
                self.problems.append(params["message"])
            elif self.state == "done" and self._job_uri is not None:
                self._start()

    def _answer(self, method: str, params: Any) -> Any:
        if method != "workspace/applyEdit":
            return None
        for change in params["edit"]["documentChanges"]:
            uri = change["textDocument"]["uri"]
            if change["textDocument"]["version"] != self.versions[uri]:
                return {"applied": False}
            index = LineIndex(self.texts[uri])
            edits = [
                Edit(
                    *(index.offset(*edit["range"][end].values()) for end in ("start", "end")), edit["newText"]
                )
                for edit in change["edits"]
            ]
            self.texts[uri] = apply(self.texts[uri], edits)
            self.versions[uri] += 1
            self.client.notify(
                "textDocument/didChange",
                {
                    "textDocument": {"uri": uri, "version": self.versions[uri]},
                    "contentChanges": [
                        {"range": edit["range"], "text": edit["newText"]}
                        for edit in reversed(change["edits"])
                    ],
                },
            )
        return {"applied": True}


def long_document(n_lines: int) -> str:
    """Short lines of code, all different."""
    words = ("read", "item", "path", "value", "line", "name", "text", "file", "node", "index")
    return "".join(
        f"    {words[i % 10]}_{words[i // 10 % 10]} = {words[i // 100 % 10]}({words[i // 1000 % 10]})\n"
        for i in range(n_lines)
    )


async def measure_code_actions(target: Target, n: int, rate: float) -> dict[str, Any]:
    """Round trips with an idle server, and while the same server has a long prefill or a decode in flight."""
    client = Client([sys.executable, "-m", "singlepass", "serve"])
    await client.start()
    capabilities = {
        "window": {"workDoneProgress": True},
        "workspace": {"applyEdit": True, "workspaceEdit": {"documentChanges": True}},
        "textDocument": {
            "codeAction": {"codeActionLiteralSupport": {"codeActionKind": {"valueSet": ["refactor"]}}}
        },
    }
    options = {"target": msgspec.to_builtins(target), "prewarm": False, "max_neighbours": 0}
    folder = Path(tempfile.gettempdir()).as_uri()
    folders = [{"uri": folder, "name": "tmp"}]
    await client.request(
        "initialize",
        {
            "processId": None,
            "rootUri": folder,
            "capabilities": capabilities,
            "initializationOptions": options,
            "workspaceFolders": folders,
        },
    )
    client.notify("initialized", {})
    editor = Editor(client)
    long, short = f"{folder}/long.py", f"{folder}/short.py"
    editor.open(long, long_document(3000))
    editor.open(short, long_document(40))
    editor.keep_generating(short)  # loads the model
    await editor.until("decode")
    await editor.rest()
    seconds: dict[str, list[float]] = {"idle": [], "prefill": [], "decode": []}
    n_blocks = 4
    for _ in range(n_blocks):
        for phase in ("idle", "prefill", "idle", "decode"):
            if phase == "prefill":
                editor.keep_generating(long)
            elif phase == "decode":
                editor.keep_generating(short)
                await editor.until("decode")
            seconds[phase] += await editor.ask(long, math.ceil(n / n_blocks), rate)
            if phase != "idle":
                await editor.rest()
                await asyncio.sleep(2.0)  # the engine finishes a chunk before it rests
    await client.stop()
    if editor.problems:
        raise RuntimeError(editor.problems[0])
    idle = _percentiles(seconds["idle"])
    result: dict[str, Any] = {"rate_hz": rate, "n_lines": 3000, "n_jobs": editor.n_jobs, "idle": idle}
    for phase in ("prefill", "decode"):
        found = _percentiles(seconds[phase])
        result[phase] = {**found, "ratio": found["p99_ms"] / idle["p99_ms"], "goal": GOALS["code_action"]}
    return result


def _percentiles(seconds: Sequence[float]) -> dict[str, float]:
    ordered = sorted(seconds)
    return {
        "n": len(ordered),
        "p50_ms": ordered[len(ordered) // 2] * 1e3,
        "p99_ms": ordered[math.ceil(len(ordered) * 0.99) - 1] * 1e3,
        "max_ms": ordered[-1] * 1e3,
    }


# All of it.


def write_model(folder: Path, shape: str, vocab: Path | None) -> Path:
    """A random model of the shape, with the vocabulary of a GGUF file or one trained on this repository."""
    path = folder / "model.gguf"
    sizes = replace(SHAPES[shape], n_ctx_train=N_CTX)
    if vocab is not None:
        write_random_model_with_vocab(path, vocab=vocab, shape=sizes)
    else:
        corpus = [file.read_text(encoding="utf-8") for file in sorted((ROOT / "server").rglob("*.py"))]
        write_random_model(path, corpus=corpus, shape=sizes, tensor_type="Q8_0" if shape != "tiny" else "F16")
    return path


async def measure(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Everything that was asked for, as one value."""
    path = arguments.model or write_model(folder, arguments.shape, arguments.vocab)
    target = Target(
        model=str(path),
        n_ctx=N_CTX,
        n_threads=arguments.threads or physical_cores(),
        repack=arguments.repack,
    )
    result: dict[str, Any] = {
        "command": command(sys.argv),
        "machine": machine(),
        "shape": arguments.shape,
        "target": msgspec.to_builtins(msgspec.structs.replace(target, model=path.name)),
        "load_before": load(),
    }
    parts = arguments.only or ["model", "startup", "code_action"]
    if "model" in parts:
        result["model"] = await measure_model(target, 64, arguments.repetitions)
    if "startup" in parts:
        result["startup"] = await measure_startup(arguments.starts)
    if "code_action" in parts:
        try:
            result["code_action"] = await measure_code_actions(target, arguments.requests, 100.0)
        finally:
            await EngineClient(target).stop()
    result["load_after"] = load()
    result["goals"] = goals(result)
    return result


def goals(result: dict[str, Any]) -> dict[str, bool]:
    """Which goals are reached: rates at least, times at most."""
    model, actions = result.get("model", {}), result.get("code_action", {})
    reached = {name: part["ratio"] >= part["goal"] for name, part in model.items() if _has_goal(part)}
    if "startup" in result:
        reached["startup"] = result["startup"]["ratio"] <= result["startup"]["goal"]
    reached |= {
        f"code_action_{name}": part["ratio"] <= part["goal"]
        for name, part in actions.items()
        if _has_goal(part)
    }
    return reached


def _has_goal(part: Any) -> bool:
    return isinstance(part, dict) and "goal" in part


def table(result: dict[str, Any]) -> str:
    """The result for people, as Markdown."""
    rows = [("what", "singlepass", "compared with", "ratio", "goal", "")]

    def add(what: str, ours: str, theirs: str, part: dict[str, Any], sign: str, name: str) -> None:
        reached = "reached" if result["goals"][name] else "missed"
        rows.append((what, ours, theirs, f"{part['ratio']:.3f}", f"{sign} {part['goal']}", reached))

    labels = {
        "prefill": "prefill",
        "free": "decode, unconstrained",
        "constrained": "decode, constrained to any text",
        "edit": "decode, edit grammar",
    }
    model = result.get("model", {})
    for name, label in labels.items():
        if part := model.get(name):
            what = f"{label} (processor time: {part['cpu_ratio']:.3f})"
            add(what, f"{part['ours']:.1f} tok/s", f"{part['bare']:.1f} tok/s, bare loop", part, "≥", name)
    if part := result.get("startup"):
        times = f"{part['ours_ms']:.0f} ms", f"{part['empty_ms']:.0f} ms, empty pygls server"
        add("process start to initialize", *times, part, "≤", "startup")
    actions = result.get("code_action", {})
    for name in ("prefill", "decode"):
        if part := actions.get(name):
            times = f"{part['p99_ms']:.1f} ms", f"{actions['idle']['p99_ms']:.1f} ms, idle"
            add(f"codeAction, p99 during {name}", *times, part, "≤", f"code_action_{name}")
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    lines.insert(1, "|---" * len(rows[0]) + "|")
    head = [describe(result["machine"]), f"Shape {result['shape']}", f"`{result['command']}`"]
    if model:
        head[1] = (
            f"Model: shape {result['shape']}, {model['model']['n_params'] / 1e6:,.1f}M parameters, "
            f"{model['model']['n_vocab']:,} tokens, {result['target']['n_threads']} threads, "
            f"prompt of {model['prefill']['n_prompt']:,} tokens"
        )
    return "\n".join([*head, "", *lines])


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    parser.add_argument("--shape", choices=SHAPES, help="of the random model; 0.5b with --vocab, else tiny")
    parser.add_argument("--vocab", type=Path, metavar="GGUF", help="take the tokenizer of this file")
    parser.add_argument("--model", type=Path, metavar="GGUF", help="measure this model instead")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument(
        "--no-repack", dest="repack", action="store_false", help="see `repack` of the settings"
    )
    parser.add_argument("--repetitions", type=int, default=7, help="of prefill and decode")
    parser.add_argument("--starts", type=int, default=12, help="of each server")
    parser.add_argument("--requests", type=int, default=600, help="for code actions in each phase")
    parser.add_argument("--only", action="append", choices=["model", "startup", "code_action"])
    arguments = parser.parse_args()
    of_file = "given" if arguments.model else "0.5b" if arguments.vocab else "tiny"
    arguments.shape = arguments.shape or of_file
    with tempfile.TemporaryDirectory(prefix="sp-bench-") as folder:
        result = asyncio.run(measure(arguments, Path(folder)))
    print(json.dumps(result, indent=2) if arguments.json else table(result))


if __name__ == "__main__":
    main()
