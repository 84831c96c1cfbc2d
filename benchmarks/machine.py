"""What a figure depends on besides the code: the machine and the versions. Printed with every result."""

import os
import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

PACKAGES = ("singlepass", "llama-cpp-python", "llguidance", "pygls", "lsprotocol", "msgspec", "numpy")


def machine() -> dict[str, Any]:
    """The machine, the interpreter and the packages."""
    return {
        "cpu": _cpu_name(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "ram_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
    }


def describe(found: dict[str, Any]) -> str:
    """The same in two lines."""
    packages = ", ".join(f"{name} {number}" for name, number in found["packages"].items())
    return (
        f"{found['cpu']}, {found['cores']} cores, {found['ram_gib']} GiB, {found['system']}\n"
        f"Python {found['python']}, {packages}"
    )


def command(arguments: Sequence[str]) -> str:
    """The command line `sys.argv` stands for; of a file elsewhere only the name."""
    program, *others = arguments
    named = [Path(one).name if Path(one).is_absolute() else one for one in others]
    return " ".join(["python", f"benchmarks/{Path(program).name}", *named])


def load() -> float:
    """Runnable processes over the last minute; well above our own share, the figures are noisy."""
    return os.getloadavg()[0]


def _cpu_name() -> str:
    if Path("/proc/cpuinfo").exists():
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown processor"
