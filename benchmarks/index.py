"""What the repository map costs: time to the first neighbours and the first map, memory, and whether the
server still answers meanwhile.

    python benchmarks/index.py [FOLDER …] [--files 20000] [--json]

Each folder is indexed as it is; `--files N` also writes a synthetic tree of N small Python and TypeScript
files that import each other. The server is asked for code actions all the while, and again when all is done.
"""

import argparse
import asyncio
import json
import os
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec
import psutil
from machine import describe, load, machine
from rpc import Client
from singlepass.repository.wire import AskMap, AskNear, Changed, Folder, MapBuilt, Near, Reply, Request, Scan

BUDGET = 6_000
SERVE = [sys.executable, "-m", "singlepass", "serve"]


def write_tree(root: Path, n_files: int) -> Path:
    """Packages of 50 files, each importing a few others; returns one of the files."""
    draw = random.Random(1)
    for idx in range(n_files):
        package, path = f"package_{idx // 50}", f"module_{idx}"
        folder = root / "src" / package
        folder.mkdir(parents=True, exist_ok=True)
        used = [draw.randrange(n_files) for _ in range(3)]
        if idx % 4:
            lines = [f"from package_{one // 50}.module_{one} import Thing_{one}" for one in used if one % 4]
            lines += [f"class Thing_{idx}:", f'    """Thing number {idx}."""', "    limit: int = 3"]
            for number in range(6):
                lines += [
                    f"    def step_{number}(self, value: int) -> int:",
                    f"        return value + {number}",
                ]
            lines += [f"    use = Thing_{one}" for one in used if one % 4]
            (folder / f"{path}.py").write_text("\n".join(lines) + "\n")
        else:
            lines = [f"import {{ load_{one} }} from '../package_{one // 50}/module_{one}'" for one in used]
            lines += [f"/** Loads {idx}. */", f"export function load_{idx}(path: string): number {{"]
            lines += [f"  load_{one}(path)" for one in used] + ["  return 1", "}"]
            (folder / f"{path}.ts").write_text("\n".join(lines) + "\n")
    return root / "src" / "package_0" / "module_1.py"


class Indexer:
    """One indexer process, asked one thing at a time."""

    def __init__(self) -> None:
        self.started = time.perf_counter()

    async def __aenter__(self) -> "Indexer":
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "singlepass.repository.indexer"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=1 << 24,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        await self._process.wait()

    def send(self, request: Request) -> None:
        """Ask."""
        assert self._process.stdin is not None
        self._process.stdin.write(msgspec.json.encode(request) + b"\n")

    async def receive(self) -> tuple[Any, float]:
        """The next reply, and the seconds since the start."""
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        return msgspec.json.decode(line, type=Reply), time.perf_counter() - self.started

    def mebibytes(self) -> float:
        """Resident memory."""
        return psutil.Process(self._process.pid).memory_info().rss / 2**20


async def measure_indexer(root: Path, path: Path) -> dict[str, Any]:
    """From an empty process to the first map, then after one file was saved."""
    found: dict[str, Any] = {}
    async with Indexer() as indexer:
        near = AskNear(str(path), 6)
        indexer.send(Scan((Folder(str(root)),)))
        indexer.send(near)
        indexer.send(AskMap(BUDGET))
        _, found["first_neighbours_s"] = await indexer.receive()
        scanned, found["scan_s"] = await indexer.receive()
        found["n_files"] = scanned.n_files
        built, found["first_map_s"] = await indexer.receive()
        assert isinstance(built, MapBuilt)
        found["map_ms"], found["map_chars"] = built.ms, len(built.text or "")
        found["mebibytes"] = indexer.mebibytes()
        asked = time.perf_counter()
        indexer.send(Changed((str(path),)))
        indexer.send(near)
        answer, _ = await indexer.receive()
        assert isinstance(answer, Near)
        assert answer.complete
        found["after_a_save_ms"] = (time.perf_counter() - asked) * 1000
        indexer.send(Scan((Folder(str(root)),)))
        again, _ = await indexer.receive()
        found["scan_again_s"], found["n_outlined_again"] = again.ms / 1000, again.n_outlined
    return found


async def measure_server(root: Path, path: Path, text: str, cache: Path, n_files: int) -> dict[str, Any]:
    """Code actions of a server whose indexer works, and of the same server when it is done."""
    os.environ["SINGLEPASS_CACHE_DIR"] = str(cache)
    os.environ["SINGLEPASS_CONFIG_DIR"] = str(cache / "config")
    client = Client(SERVE)
    await client.start()
    options = {"target": {"model": str(cache / "none.gguf")}, "prewarm": False}
    folders = [{"uri": root.as_uri(), "name": "root"}]
    params = {"capabilities": {}, "initializationOptions": options, "workspaceFolders": folders}
    await client.request("initialize", {**params, "processId": None, "rootUri": None})
    client.notify("initialized", {})
    uri = path.as_uri()
    document = {"uri": uri, "languageId": "python", "version": 1, "text": text}
    client.notify("textDocument/didOpen", {"textDocument": document})
    position = {"line": 1, "character": 0}
    asked = {
        "textDocument": {"uri": uri},
        "range": {"start": position, "end": position},
        "context": {"diagnostics": []},
    }

    async def latencies(seconds: float) -> dict[str, float]:
        times: list[float] = []
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            _, took = await client.request("textDocument/codeAction", asked)
            times.append(took * 1000)
            await asyncio.sleep(0.005)
        times.sort()
        return {
            "n": len(times),
            "median_ms": statistics.median(times),
            "p99_ms": times[int(len(times) * 0.99)],
            "max_ms": times[-1],
        }

    busy = await latencies(min(20.0, max(0.5, n_files / 2_000)))
    process = psutil.Process(client._process.pid)
    maps = cache / "maps"
    for _ in range(1_500):
        if list(maps.glob("*")):
            break
        await asyncio.sleep(0.2)
    await asyncio.sleep(1)
    idle = await latencies(3)
    mebibytes = process.memory_info().rss / 2**20
    await client.stop()
    return {"busy": busy, "idle": idle, "server_mebibytes": mebibytes}


def measure(root: Path, path: Path) -> dict[str, Any]:
    """One folder."""
    text = path.read_text(encoding="utf-8")
    found = asyncio.run(measure_indexer(root, path))
    with tempfile.TemporaryDirectory() as cache:
        found |= asyncio.run(measure_server(root, path, text, Path(cache), found["n_files"]))
    return found


def tell(name: str, found: dict[str, Any]) -> None:
    """In words."""
    print(
        f"\n{name}: {found['n_files']:,} source files\n"
        f"  first neighbours {found['first_neighbours_s']:.2f} s, scan {found['scan_s']:.2f} s, "
        f"first map {found['first_map_s']:.2f} s (ranking {found['map_ms']:.0f} ms)\n"
        f"  after a save {found['after_a_save_ms']:.1f} ms, a scan when nothing changed "
        f"{found['scan_again_s']:.2f} s\n"
        f"  memory: indexer {found['mebibytes']:.0f} MiB, server {found['server_mebibytes']:.0f} MiB"
    )
    for state in ("busy", "idle"):
        one = found[state]
        print(
            f"  code action, indexer {state}: median {one['median_ms']:.1f}, 99th percentile "
            f"{one['p99_ms']:.1f}, longest {one['max_ms']:.1f} ms ({one['n']} requests)"
        )


def largest(root: Path) -> Path:
    """A Python file to work on."""
    files = [path for path in root.rglob("*.py") if ".venv" not in path.parts]
    return max(files, key=lambda path: path.stat().st_size)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("folders", nargs="*", type=Path)
    parser.add_argument("--files", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    results: dict[str, Any] = {}
    for folder in options.folders:
        root = folder.resolve()
        results[root.name] = measure(root, largest(root))
    if options.files:
        with tempfile.TemporaryDirectory() as folder:
            path = write_tree(Path(folder), options.files)
            results["synthetic"] = measure(Path(folder), path)
    about = machine()
    if options.json:
        print(json.dumps({"machine": about, "load": load(), "results": results}, indent=2))
        return
    print(describe(about), f"\nload {load():.1f}")
    for name, found in results.items():
        tell(name, found)


if __name__ == "__main__":
    main()
