"""Damaged model files, loaded and used by a real engine.

    python benchmarks/mutated_models.py [N] [--seed 1]

A small model of random weights is damaged anew each time: bytes changed anywhere or in the header alone, a
piece cut out, moved or repeated, the end cut off. An engine loads it, reads a prompt and writes a few tokens.
It may do so (most bytes are weights), or say what is wrong with the file, or end, which a native runtime does
where it trusts the file: whoever uses the engine is told, at once, and goes on with the next model.
"""

import argparse
import asyncio
import random
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from own import own_folders, small_model
from singlepass_backends.base import BackendError, GenerateRequest, Segment, Target
from singlepass_backends.client import EngineClient

_HEADER = 4096
"""Bytes of the file in which nearly all is structure."""
_MOST_S = 60.0
TOLD = frozenset(
    {
        "model_invalid",
        "model_unsupported",
        "out_of_memory",
        "prompt_too_long",
        "engine_lost",
        "engine_start_failed",
    }
)
"""Codes of errors with which a model file may be refused."""


@dataclass
class Mutated:
    """How it went."""

    n: int = 0
    ended: Counter[str] = field(default_factory=Counter[str])
    """`done`, or the code of the error."""
    slowest_s: float = 0.0
    wrong: list[str] = field(default_factory=list[str])


def mutated(data: bytes, chance: random.Random) -> bytes:
    """The file, damaged in one way."""
    damaged = bytearray(data)
    start = chance.randrange(len(data))
    n = chance.randrange(1, 4096)
    match chance.randrange(6):
        case 0:
            for _ in range(chance.randint(1, 200)):
                damaged[chance.randrange(len(data))] = chance.randrange(256)
        case 1 | 2:
            for _ in range(chance.randint(1, 8)):
                damaged[chance.randrange(4, _HEADER)] = chance.randrange(256)
        case 3:
            del damaged[start : start + n]
        case 4:
            other = chance.randrange(len(data))
            damaged[start : start + n] = data[other : other + n]
        case _:
            del damaged[start:]
    return bytes(damaged)


async def run(n: int, data: bytes, seed: int = 1) -> Mutated:
    """So many damaged models, made from the file `data`."""
    chance, found = random.Random(seed), Mutated()
    with own_folders() as folder:
        for number in range(n):
            path = folder / f"model-{number}.gguf"
            path.write_bytes(mutated(data, chance))
            started = time.monotonic()
            try:
                async with asyncio.timeout(_MOST_S):
                    ended = await _used(path)
            except TimeoutError:
                ended = "hangs"
            found.n += 1
            found.ended[ended] += 1
            found.slowest_s = max(found.slowest_s, time.monotonic() - started)
            if ended != "done" and ended not in TOLD:
                found.wrong.append(f"mutation {number} of seed {seed}: {ended}")
            path.unlink()
    return found


async def _used(path: Path) -> str:
    """How an engine with this model ends."""
    client = EngineClient(Target(backend="llama_cpp", model=str(path)))
    try:
        await client.connect()
        request = GenerateRequest((Segment("task", "def value(a, b):\n    return a\n" * 8),), max_tokens=4)
        async for _ in client.generate(request):
            pass
    except BackendError as error:
        return error.code
    finally:
        await client.stop()
        await client.aclose()
    return "done"


def main() -> None:
    """Damage models and say how it went."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("n", type=int, nargs="?", default=1000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    with own_folders() as folder:
        data = small_model(folder / "model.gguf").read_bytes()
        found = asyncio.run(run(arguments.n, data, arguments.seed))
    print(f"{found.n:,} damaged models, the slowest {found.slowest_s:.1f} s")
    for ended, n in found.ended.most_common():
        print(f"{n:8,} {ended}")
    print(f"{len(found.wrong)} not as promised")
    for one in found.wrong[:20]:
        print(one)
    sys.exit(1 if found.wrong else 0)


if __name__ == "__main__":
    main()
