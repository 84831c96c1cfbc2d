"""What this machine has, as data. Loads no model runtime."""

import os
from typing import Any

import msgspec


class Hardware(msgspec.Struct, frozen=True, kw_only=True):
    """Cores, and memory in bytes."""

    n_cores: int
    """Physical cores this process may use: more threads than that make llama.cpp slower."""
    ram_bytes: int
    ram_free_bytes: int


def hardware() -> Hardware:
    """Cores and memory of this machine."""
    import psutil

    library: Any = psutil
    memory = library.virtual_memory()
    return Hardware(
        n_cores=physical_cores(), ram_bytes=int(memory.total), ram_free_bytes=int(memory.available)
    )


def physical_cores() -> int:
    """Physical cores, fewer where this process is confined to some of them; at least 1."""
    import psutil

    library: Any = psutil
    n_cores = library.cpu_count(logical=False) or os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        n_cores = min(n_cores, len(os.sched_getaffinity(0)))
    return max(1, n_cores)
