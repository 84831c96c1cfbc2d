"""How long a process waits for a processor beside a model: the floor under every answer of the server.

    python benchmarks/wakeups.py [--json]

Two processes answer each other a hundred times a second, one of them computing for 1 ms each time: alone, and
while as many others compute as there are cores, at several niceness levels (the engine's is 5). Nothing of
singlepass runs, so this is what the kernel makes of it. Medians of several rounds, since a machine has bad
moments.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import time
from statistics import median
from typing import Any

from machine import command, describe, machine

LEVELS = (None, 0, 5, 10, 15, 19)
"""Niceness of those that compute; None for nobody."""
N = 600
N_ROUNDS = 3
_BUSY = "import hashlib, os, sys\nos.nice(int(sys.argv[1]))\nwhile True: hashlib.sha256(bytes(10_000_000))"
_ECHO = """
import os, time
while data := os.read(0, 1):
    started = time.perf_counter()
    while time.perf_counter() - started < 0.001: pass
    os.write(1, data)
"""


def measure(level: int | None) -> dict[str, Any]:
    """Round trips in ms."""
    n_busy = 0 if level is None else os.cpu_count() or 1
    busy = [subprocess.Popen([sys.executable, "-c", _BUSY, str(level)]) for _ in range(n_busy)]
    pipe = subprocess.PIPE
    echo = subprocess.Popen([sys.executable, "-c", _ECHO], stdin=pipe, stdout=pipe, bufsize=0)
    assert echo.stdin is not None
    assert echo.stdout is not None
    took: list[float] = []
    try:
        time.sleep(1.0)  # until they all compute
        for _ in range(N):
            time.sleep(0.01)
            started = time.perf_counter()
            echo.stdin.write(b"x")
            echo.stdout.read(1)
            took.append((time.perf_counter() - started) * 1e3)
    finally:
        echo.stdin.close()
        echo.wait()
        echo.stdout.close()
        for process in busy:
            process.kill()
            process.wait()
    took.sort()
    return {"niceness": level, "p50_ms": took[N // 2], "p99_ms": took[math.ceil(N * 0.99) - 1]}


def table(found: dict[str, Any]) -> str:
    """The result for people, as Markdown."""
    rows = ["| beside | median | 99th percentile |", "|---|---|---|"]
    for one in found["levels"]:
        level = one["niceness"]
        beside = "nobody" if level is None else f"busy processes of niceness {level}"
        rows.append(f"| {beside} | {one['p50_ms']:.2f} ms | {one['p99_ms']:.2f} ms |")
    return "\n".join([f"    {found['command']}", "", describe(found["machine"]), "", *rows])


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    arguments = parser.parse_args()
    rounds = [[measure(level) for level in LEVELS] for _ in range(N_ROUNDS)]
    levels = [
        {name: median(one[name] for one in same) if name != "niceness" else level for name in same[0]}
        for level, same in zip(LEVELS, zip(*rounds, strict=True), strict=True)
    ]
    found = {"command": command(sys.argv), "machine": machine(), "levels": levels}
    print(json.dumps(found, indent=1) if arguments.json else table(found))


if __name__ == "__main__":
    main()
