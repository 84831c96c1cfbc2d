"""What the remote backend costs on top of HTTP: tokens a second through it against a bare httpx loop.

    python benchmarks/remote_overhead.py [--json] [--repetitions N] [--tokens N]

Both stream the same greedy completions from the same server, taking turns, which goes first changing each
time:

- `llama_cpp.server` with a small random model, whose tokens take well under a millisecond to decode, so what
  is compared is near the worst case; a larger model hides all of this;
- a server that only streams: one process writing prepared chunks as fast as they are read, which is the most
  that a client can be asked for.

The bare loop reads lines (`httpx.Response.iter_lines`), parses each chunk and joins the text; it has no
time-outs, no cancelling and no timings.
"""

import argparse
import json
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from machine import command, describe, load, machine
from singlepass_backends.base import BackendError, Finished, GenerateRequest, Segment, Target, TextChunk
from singlepass_backends.opening import open_backend
from singlepass_backends.testing.random_model import write_random_model

ROOT = Path(__file__).parents[1]
GOAL = 0.95
STREAMER = r"""
import json, socket, sys

def chunk(delta, finish=None):
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    fields = {"id": "chatcmpl-0", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    return b"data: " + json.dumps({**fields, "choices": [choice]}).encode() + b"\n\n"

models = [json.dumps({"data": [{"id": "m", "owned_by": "me"}]}).encode()]
body = [chunk({"content": f"word{i} "}) for i in range(int(sys.argv[2]))]
body += [chunk({}, "stop"), b"data: [DONE]\n\n"]
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
while True:
    sock, _ = listener.accept()
    with sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        data = b""
        while b"\r\n\r\n" not in data:
            data += sock.recv(65536)
        head, _, rest = data.partition(b"\r\n\r\n")
        is_list = head.startswith(b"GET")
        while not is_list and not rest.endswith(b"}"):
            rest += sock.recv(65536)
        kind = b"application/json" if is_list else b"text/event-stream"
        head = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: "
        sock.sendall(head + kind + b"\r\n\r\n")
        for part in models if is_list else body:
            sock.sendall(part)
"""


def free_port() -> int:
    """A port nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as unused:
        return int(unused.getsockname()[1])


@contextmanager
def serving(command: list[str], port: int) -> Iterator[str]:
    """A server process, from when it answers on; its address."""
    url = f"http://127.0.0.1:{port}"
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 60
        while True:
            try:
                open_backend(Target(backend="openai_compatible", url=url), lambda _: True).close()
                break
            except BackendError:
                if process.poll() is not None or time.monotonic() > end:
                    raise
                time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.wait(10)


def bare(client: httpx.Client, url: str, body: dict[str, Any]) -> tuple[int, str]:
    """One completion with nothing around it: how many pieces of text, and the text."""
    texts: list[str] = []
    with client.stream("POST", f"{url}/v1/chat/completions", json=body) as response:
        for line in response.iter_lines():
            if line.startswith("data: ") and line != "data: [DONE]":
                choices = json.loads(line[6:])["choices"]
                if choices and (text := choices[0]["delta"].get("content")):
                    texts.append(text)
    return len(texts), "".join(texts)


def measure(url: str, n_tokens: int, repetitions: int) -> dict[str, Any]:
    """Tokens a second of both, and their ratio, medians of the repetitions."""
    backend = open_backend(Target(backend="openai_compatible", url=url), lambda _: True)
    client = httpx.Client(timeout=None, trust_env=False)
    prompt = "Explain what a language server does.\n"
    request = GenerateRequest((Segment("task", prompt),), max_tokens=n_tokens)
    body = {
        "model": backend.info.name,
        "messages": [{"role": "user", "content": prompt}],
        "stream": True,
        "max_tokens": n_tokens,
        "temperature": 0.0,
        "repeat_penalty": 1.0,
    }

    def ours() -> tuple[int, str]:
        texts: list[str] = []
        n_decoded = 0
        for one in backend.generate(request, lambda: False):
            if isinstance(one, TextChunk):
                texts.append(one.text)
            elif isinstance(one, Finished):
                n_decoded = one.timings.n_decoded
        return n_decoded, "".join(texts)

    def theirs() -> tuple[int, str]:
        return bare(client, url, body)

    def measured(run: Callable[[], tuple[int, str]]) -> tuple[float, float]:
        """Tokens a second, and this process's own µs of processor a token."""
        start, cpu = time.perf_counter(), time.process_time()
        n, _ = run()
        return n / (time.perf_counter() - start), (time.process_time() - cpu) / n * 1e6

    if ours()[1] != theirs()[1]:
        raise RuntimeError("the two do not receive the same text")
    rates: dict[str, list[float]] = {"ours": [], "bare": []}
    cpu_us: dict[str, list[float]] = {"ours": [], "bare": []}
    runs = {"ours": ours, "bare": theirs}
    for repetition in range(repetitions):
        for name in runs if repetition % 2 else reversed(runs):
            rate, cpu = measured(runs[name])
            rates[name].append(rate)
            cpu_us[name].append(cpu)
    ratios = [a / b for a, b in zip(rates["ours"], rates["bare"], strict=True)]
    backend.close()
    client.close()
    return {
        "tokens": n_tokens,
        "ours_per_s": statistics.median(rates["ours"]),
        "bare_per_s": statistics.median(rates["bare"]),
        "ratio": statistics.median(ratios),
        "ours_cpu_us": statistics.median(cpu_us["ours"]),
        "bare_cpu_us": statistics.median(cpu_us["bare"]),
        "ratios": ratios,
        "goal": GOAL,
        "repetitions": repetitions,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--repetitions", type=int, default=11)
    parser.add_argument("--tokens", type=int, default=400)
    arguments = parser.parse_args()
    found: dict[str, Any] = {"command": command(sys.argv), "machine": machine(), "load_before": load()}
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "random.gguf"
        write_random_model(
            model, corpus=[p.read_text(encoding="utf-8") for p in (ROOT / "server").rglob("*.py")]
        )
        port = free_port()
        server = [sys.executable, "-m", "llama_cpp.server", "--model", str(model), "--host", "127.0.0.1"]
        server += ["--port", str(port), "--n_ctx", "1024", "--n_threads", "1"]
        with serving(server, port) as url:
            found["llama_cpp.server"] = measure(url, arguments.tokens, arguments.repetitions)
    port = free_port()
    with serving([sys.executable, "-c", STREAMER, str(port), str(10 * arguments.tokens)], port) as url:
        found["streaming only"] = measure(url, 10 * arguments.tokens, arguments.repetitions)
    found["load_after"] = load()
    if arguments.json:
        print(json.dumps(found, indent=2))
    else:
        print(f"{describe(found['machine'])}\n\n{table(found)}")


def table(found: dict[str, Any]) -> str:
    """The figures of a result."""
    rows = [
        "| server | tokens/s | bare httpx | ratio | processor a token | bare |",
        "|---|---|---|---|---|---|",
    ]
    for name in ("llama_cpp.server", "streaming only"):
        one = found[name]
        rows.append(
            f"| {name} | {one['ours_per_s']:,.0f} | {one['bare_per_s']:,.0f} | {one['ratio']:.3f} "
            f"| {one['ours_cpu_us']:.0f} µs | {one['bare_cpu_us']:.0f} µs |"
        )
    return "\n".join(rows)


if __name__ == "__main__":
    main()
