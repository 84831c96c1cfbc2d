"""What this machine has, as data: one small probe for each component; probes never raise.

A probe that finds nothing, or fails, returns *unknown* (None, 0, an empty tuple) and does not affect the
others. `llama_build` loads llama.cpp and starts its GPU backends, so `machine` is called only by the engine
and by the process that `singlepass doctor` starts.
"""

import ctypes
import importlib
import importlib.metadata
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from singlepass_backends.machine.facts import AppleChip, Device, LlamaBuild, Machine, NvidiaCard

_SYSCTL_TIMEOUT_S = 5
_ROOT = Path("/")
_CPU, _GPU, _IGPU = 0, 1, 2  # `enum ggml_backend_dev_type`
_KINDS = {"MTL": "Metal"}  # ggml's names of backends that users know by another name

Sysctl = Callable[[str], str]


def machine() -> Machine:
    """Everything about this machine. Loads llama.cpp."""
    total, free = memory()
    apple = apple_chip(total)
    return Machine(
        system=platform.system(),
        architecture=platform.machine(),
        python=sys.version_info[:2],
        n_cores=usable_cores(),
        ram_bytes=total,
        ram_free_bytes=free,
        apple=apple,
        nvidia=nvidia_cards(),
        cuda_driver=cuda_driver(),
        llama=llama_build(total),
        mlx=_version("mlx-lm"),
    )


def physical_cores() -> int:
    """Physical cores, fewer if this process's CPU affinity is limited; at least 1."""
    import psutil

    library: Any = psutil
    n_cores = library.cpu_count(logical=False) or os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        n_cores = min(n_cores, len(os.sched_getaffinity(0)))
    return max(1, n_cores)


def usable_cores() -> int:
    """Physical cores to run threads on: within a container's quota, and on Apple Silicon the performance
    cores only, since a pass waits for its slowest thread."""
    fast = _number(_sysctl("hw.perflevel0.physicalcpu")) if sys.platform == "darwin" else 0
    n_cores = fast or physical_cores()
    quota = cgroup_cores()
    return max(1, min(n_cores, quota) if quota else n_cores)


def memory() -> tuple[int, int]:
    """Total and available memory in bytes, of the machine or of the container if that has less; zeros if
    unknown."""
    try:
        import psutil

        library: Any = psutil
        found = library.virtual_memory()
        total, free = int(found.total), int(found.available)
    except (ImportError, OSError, RuntimeError):
        return 0, 0
    if limit := cgroup_memory():
        most, used = limit
        total, free = min(total, most), max(0, min(free, most - used))
    return total, free


def cgroup_memory(root: Path = _ROOT) -> tuple[int, int] | None:
    """The lowest memory limit of this process's control groups and the memory used, both in bytes; the page
    cache, which can be reclaimed, does not count as used. None without a limit."""
    tightest: tuple[int, int] | None = None
    for folder in _cgroups("memory", root):
        most = _number(_text(folder / "memory.max") or _text(folder / "memory.limit_in_bytes"))
        used = _number(_text(folder / "memory.current") or _text(folder / "memory.usage_in_bytes"))
        # Without a limit version 2 says `max` and version 1 a number near 2^63.
        if most == 0 or most >= 1 << 60:
            continue
        statistics = dict(
            line.split(" ", 1) for line in _text(folder / "memory.stat").splitlines() if " " in line
        )
        cache = _number(statistics.get("total_inactive_file") or statistics.get("inactive_file", ""))
        limit = most, max(0, used - cache)
        if tightest is None or limit[0] - limit[1] < tightest[0] - tightest[1]:
            tightest = limit
    return tightest


def cgroup_cores(root: Path = _ROOT) -> int:
    """Whole cores that the control groups' CPU quota allows, at least 1; 0 without a quota."""
    quotas: list[int] = []
    for folder in _cgroups("cpu", root):
        quota, _, period = _text(folder / "cpu.max").partition(" ")
        if not quota:
            quota, period = _text(folder / "cpu.cfs_quota_us"), _text(folder / "cpu.cfs_period_us")
        if _number(quota) and _number(period):
            quotas.append(max(1, _number(quota) // _number(period)))
    return min(quotas, default=0)


def _cgroups(controller: str, root: Path) -> Iterator[Path]:
    """The folders of this process's control groups, from its own up to the root. In a container its own group
    is the visible root, whatever the path in /proc says."""
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        if controllers and controller not in controllers.split(","):
            continue
        top = root / "sys/fs/cgroup" / (controller if controllers else "")
        own = top / path.lstrip("/")
        while own != top and top in own.parents:
            yield own
            own = own.parent
        yield top


def apple_chip(ram_bytes: int, sysctl: Sysctl | None = None) -> AppleChip | None:
    """The Apple Silicon chip; None on other machines, and for a Python that Rosetta translates."""
    if sysctl is None:
        if sys.platform != "darwin" or platform.machine() != "arm64":
            return None
        sysctl = _sysctl
    wired = _number(sysctl("iogpu.wired_limit_mb")) << 20
    return AppleChip(
        name=sysctl("machdep.cpu.brand_string") or "Apple Silicon",
        working_set_bytes=wired or working_set(ram_bytes),
    )


def working_set(ram_bytes: int) -> int:
    """An estimate of Metal's recommended working set (`MTLDevice.recommendedMaxWorkingSetSize`) in bytes.

    Apple documents no formula. Logs of llama.cpp show 10,922.67 MiB on 16 GiB and 21,845.34 MiB on 32 GiB,
    which are two thirds, and 73,728 MiB on 96 GiB, which is three quarters (abetlen/llama-cpp-python issue
    687, ollama/ollama issue 434, ggml-org/llama.cpp issue 3213); three quarters is assumed above 32 GiB.
    Users can change it with `sudo sysctl iogpu.wired_limit_mb`. If llama.cpp has Metal, `llama_build` gives
    the actual value.
    """
    return ram_bytes * 2 // 3 if ram_bytes <= 32 << 30 else ram_bytes * 3 // 4


def nvidia_cards() -> tuple[NvidiaCard, ...]:
    """The NVIDIA cards, as reported by NVML; only their names if the package nvidia-ml-py is missing; empty
    without a card or driver."""
    nvml = _nvml()
    if nvml is None:
        return cards_of_proc()
    try:
        handles = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]
        return tuple(_card(nvml, handle) for handle in handles)
    except nvml.NVMLError:
        return ()
    finally:
        _shut_down(nvml)


def cuda_driver() -> tuple[int, int] | None:
    """The newest CUDA version that the NVIDIA driver supports, e.g. (12, 4); None if unknown."""
    nvml = _nvml()
    if nvml is None:
        return None
    try:
        version = int(nvml.nvmlSystemGetCudaDriverVersion_v2())
        return version // 1000, version % 1000 // 10
    except (nvml.NVMLError, AttributeError):
        return None
    finally:
        _shut_down(nvml)


def _nvml() -> Any:
    """NVML, initialized; None if the package, the driver or the card is missing."""
    try:
        nvml: Any = importlib.import_module("pynvml")
    except ImportError:
        return None
    try:
        nvml.nvmlInit()
    except nvml.NVMLError:
        return None
    return nvml


def _shut_down(nvml: Any) -> None:
    try:
        nvml.nvmlShutdown()
    except nvml.NVMLError:
        return


def _card(nvml: Any, handle: Any) -> NvidiaCard:
    name = nvml.nvmlDeviceGetName(handle)
    try:
        capability = tuple(nvml.nvmlDeviceGetCudaComputeCapability(handle))
    except nvml.NVMLError:
        capability = None
    try:
        memory = nvml.nvmlDeviceGetMemoryInfo(handle)
        total, free = int(memory.total), int(memory.free)
    except nvml.NVMLError:
        total = free = 0  # not reported for unified memory, as on the GB10 of the DGX Spark
    return NvidiaCard(
        name=name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name),
        total_bytes=total,
        free_bytes=free,
        compute_capability=capability,
        is_unified=total == 0,
    )


def cards_of_proc(root: Path = _ROOT) -> tuple[NvidiaCard, ...]:
    """The NVIDIA cards that the Linux driver lists in /proc, by name only."""
    cards: list[NvidiaCard] = []
    for path in sorted((root / "proc/driver/nvidia/gpus").glob("*/information")):
        model = [line for line in _text(path).splitlines() if line.startswith("Model:")]
        if model:
            cards.append(NvidiaCard(name=model[0].partition(":")[2].strip()))
    return tuple(cards)


def llama_build(ram_bytes: int) -> LlamaBuild | None:
    """What the installed llama.cpp was built for and which GPUs it can use; None if it cannot be loaded.

    ggml's registry lists the devices that llama.cpp will use, with the free memory that the runtime itself
    reports (CUDA's `cudaMemGetInfo`, Metal's recommended working set, Vulkan's heaps). If there is a discrete
    GPU, llama.cpp ignores integrated ones.
    """
    try:
        library: Any = importlib.import_module("llama_cpp")
        ggml: Any = importlib.import_module("llama_cpp._ggml").libggml
        kinds = tuple(_KINDS.get(kind, kind) for kind in _ggml_names(ggml))
        found = list(_ggml_devices(ggml))
        offloads = bool(library.llama_supports_gpu_offload())
    except (ImportError, OSError, RuntimeError, AttributeError):
        return None
    gpus = [one for one in found if one[0] == _GPU] or [one for one in found if one[0] == _IGPU]
    devices = tuple(
        Device(name=name, total_bytes=total, free_bytes=free, is_unified=_is_unified(kind, total, ram_bytes))
        for kind, name, total, free in (gpus if offloads else [])
    )
    cpu = next((name for kind, name, _, _ in found if kind == _CPU), "")
    return LlamaBuild(version=str(library.__version__), cpu=cpu, kinds=kinds, devices=devices)


def _is_unified(kind: int, total_bytes: int, ram_bytes: int) -> bool:
    """Whether a GPU shares the machine's memory: integrated GPUs, Apple's, and NVIDIA's on ARM that report
    the machine's memory as their own (Jetson, GB10)."""
    is_arm = platform.machine() in ("arm64", "aarch64")
    is_all_of_it = abs(total_bytes - ram_bytes) < ram_bytes / 50
    return kind == _IGPU or sys.platform == "darwin" or (is_arm and is_all_of_it)


def _ggml_names(ggml: Any) -> Iterator[str]:
    get, name = ggml.ggml_backend_reg_get, ggml.ggml_backend_reg_name
    ggml.ggml_backend_reg_count.restype = ctypes.c_size_t
    get.restype, get.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    name.restype, name.argtypes = ctypes.c_char_p, [ctypes.c_void_p]
    for index in range(ggml.ggml_backend_reg_count()):
        yield name(get(index)).decode("utf-8", "replace")


def _ggml_devices(ggml: Any) -> Iterator[tuple[int, str, int, int]]:
    """Type, description, total and free memory (bytes) of each device."""
    count, get = ggml.ggml_backend_dev_count, ggml.ggml_backend_dev_get
    describe, kind, size = (
        ggml.ggml_backend_dev_description,
        ggml.ggml_backend_dev_type,
        ggml.ggml_backend_dev_memory,
    )
    count.restype, get.restype, get.argtypes = ctypes.c_size_t, ctypes.c_void_p, [ctypes.c_size_t]
    describe.restype, describe.argtypes = ctypes.c_char_p, [ctypes.c_void_p]
    kind.restype, kind.argtypes = ctypes.c_int, [ctypes.c_void_p]
    size.restype, size.argtypes = None, [ctypes.c_void_p, *[ctypes.POINTER(ctypes.c_size_t)] * 2]
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    for index in range(count()):
        device = get(index)
        size(device, ctypes.byref(free), ctypes.byref(total))
        yield int(kind(device)), describe(device).decode("utf-8", "replace"), total.value, free.value


def _sysctl(name: str) -> str:
    """A value of macOS's sysctl; empty for an unknown name."""
    try:
        done = subprocess.run(
            ["/usr/sbin/sysctl", "-n", name],
            capture_output=True,
            text=True,
            timeout=_SYSCTL_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _number(text: str) -> int:
    """A non-negative number; 0 for anything else."""
    return int(text) if text.isascii() and text.isdigit() else 0
