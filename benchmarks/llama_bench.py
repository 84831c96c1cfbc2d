"""The rates of `singlepass bench` beside those of `llama-bench`, built from llama-cpp-python's own source.

    python benchmarks/llama_bench.py FOLDER --model GGUF [--depths 512 2048] [--rounds 5] [--no-repack]

FOLDER keeps the source and the build, as for `llama_server.py`. Both run the same model with the same
threads, batch, flash attention and cache type, in turn, a round after the other, so that a machine that grows
slow does so for both. Ours goes through client, socket and engine, reads a prompt of code and samples its
reply; llama-bench evaluates random tokens and samples nothing. What else the machine does makes rounds slower
and never faster, so the ratio is of the fastest ones; that of the medians stands beside it.
"""

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import msgspec
from llama_server import build
from machine import command, describe, load, machine
from singlepass.measuring import runs
from singlepass.measuring.rates import Run
from singlepass_backends.base import Target
from singlepass_backends.client import EngineClient

N_BATCH = 512


async def ours(target: Target, depth: int, n_reply: int) -> Run:
    """One run of `singlepass bench`, in an engine that has done a first pass."""
    client = EngineClient(target)
    try:
        info = await client.connect()
        result = runs.new_result(target, "", info, {}, depths=[depth], n_runs=1, n_reply=n_reply, notes=())
        (run,) = (await runs.Bench(client).run(result, lambda _: None)).runs
        return run
    finally:
        await client.aclose()


def theirs(program: Path, target: Target, depth: int, n_reply: int) -> tuple[float, float]:
    """Prefill and decode of llama-bench, in tokens a second."""
    options = {
        "-m": target.model,
        "-r": 1,
        "-t": target.n_threads,
        "-b": N_BATCH,
        "-ub": N_BATCH,
        "-fa": "on",
        "-ngl": 0,
        "--repack": int(target.repack),
        "-o": "json",
    }
    asked = [text for name, value in options.items() for text in (name, str(value))]
    prefill = ["-p", str(depth), "-n", "0"]
    decode = ["-p", "0", "-n", str(n_reply), "-d", str(depth)]
    rates: list[float] = []
    for what in (prefill, decode):
        done = subprocess.run([program, *asked, *what], capture_output=True, check=True)
        (told,) = json.loads(done.stdout)
        rates.append(told["avg_ts"])
    return rates[0], rates[1]


async def measure(program: Path, target: Target, depths: list[int], n_rounds: int, n_reply: int) -> list[Any]:
    """For each depth the rates of every round: ours and theirs."""
    rows = [{"depth": depth, "ours": [], "theirs": []} for depth in depths]
    for n in range(n_rounds):
        for row in rows:
            depth: Any = row["depth"]
            run = await ours(target, depth, n_reply)
            found = theirs(program, target, run.n_cached + run.n_prefilled, n_reply)
            row["ours"].append((run.prefill_rate, run.decode_rate))
            row["theirs"].append(found)
            print(
                f"round {n + 1}, {depth}: {run.prefill_rate:.1f} {run.decode_rate:.2f}, {found}",
                file=sys.stderr,
            )
    return rows


def table(rows: list[Any]) -> str:
    """The fastest round of each, their ratio, and that of the medians."""
    lines = [
        "| prompt, tokens | tok/s | `singlepass bench` | `llama-bench` | ours ÷ theirs | of the medians |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        for which, name in enumerate(("prefill", "decode")):
            ours, theirs = ([rates[which] for rates in row[whose]] for whose in ("ours", "theirs"))
            ratio, usual = max(ours) / max(theirs), statistics.median(ours) / statistics.median(theirs)
            lines.append(
                f"| {row['depth']:,} | {name} | {max(ours):,.1f} | {max(theirs):,.1f} | {ratio:.3f} "
                f"| {usual:.3f} |"
            )
    return "\n".join(lines)


def main() -> None:
    """Build, measure in turn, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("--model", type=Path, required=True, metavar="GGUF")
    parser.add_argument("--depths", type=int, nargs="+", default=[512, 2048])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--reply", type=int, default=64, metavar="TOKENS")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--no-repack", action="store_true")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    program = build(asked.folder.resolve(), asked.jobs, "llama-bench")
    target = Target(
        model=str(asked.model.resolve()),
        n_ctx=max(asked.depths) + asked.reply + 256,
        n_gpu_layers=0,
        n_batch=N_BATCH,
        n_threads=asked.threads,
        kv_cache_type="f16",
        repack=not asked.no_repack,
    )
    with tempfile.TemporaryDirectory(prefix="sp-") as folder:
        os.environ |= {"SINGLEPASS_RUNTIME_DIR": f"{folder}/run", "SINGLEPASS_CACHE_DIR": f"{folder}/cache"}
        try:
            rows = asyncio.run(measure(program, target, asked.depths, asked.rounds, asked.reply))
        finally:
            asyncio.run(EngineClient(target).stop())
    found = {"command": command(sys.argv), "machine": machine(), "load": load(), "rows": rows}
    found["target"] = msgspec.to_builtins(target) | {"model": asked.model.name}
    print(json.dumps(found, indent=2) if asked.json else f"{describe(found['machine'])}\n\n{table(rows)}")


if __name__ == "__main__":
    main()
