"""Each probe of the hardware, on folders and libraries made for it, and all of them on this machine."""

import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from singlepass_backends.machine import hardware
from singlepass_backends.machine.facts import AppleChip, NvidiaCard

GIB = 1 << 30


def write(root: Path, **files: str) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n", encoding="utf-8")


def test_this_machine() -> None:
    found = hardware.machine()
    assert found.n_cores >= 1
    assert 0 < found.ram_free_bytes <= found.ram_bytes
    assert found.llama is not None
    assert "CPU" in found.llama.kinds
    assert found.llama.version


# Control groups.


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, None),
        ({"proc/self/cgroup": "0::/"}, None),
        ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/memory.max": "max"}, None),
        (
            {
                "proc/self/cgroup": "0::/",
                "sys/fs/cgroup/memory.max": str(3 * GIB),
                "sys/fs/cgroup/memory.current": str(2 * GIB),
                "sys/fs/cgroup/memory.stat": f"anon 5\ninactive_file {GIB}\nslab 3",
            },
            (3 * GIB, GIB),
        ),
        (  # the tightest of the groups around it counts
            {
                "proc/self/cgroup": "0::/user/one",
                "sys/fs/cgroup/user/one/memory.max": "max",
                "sys/fs/cgroup/user/memory.max": str(4 * GIB),
                "sys/fs/cgroup/user/memory.current": str(GIB),
            },
            (4 * GIB, GIB),
        ),
        (  # version 1
            {
                "proc/self/cgroup": "5:cpu,cpuacct:/x\n4:memory:/docker/abc",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": str(2 * GIB),
                "sys/fs/cgroup/memory/memory.usage_in_bytes": str(GIB),
                "sys/fs/cgroup/memory/memory.stat": f"total_inactive_file {GIB // 2}",
            },
            (2 * GIB, GIB // 2),
        ),
        (
            {
                "proc/self/cgroup": "4:memory:/",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": str(2**63 - 4096),
            },
            None,
        ),
        ({"proc/self/cgroup": "rubbish\n:::\n0::/../..", "sys/fs/cgroup/memory.max": "-1"}, None),
    ],
)
def test_the_memory_limit_of_a_container(
    files: dict[str, str], expected: tuple[int, int] | None, tmp_path: Path
) -> None:
    write(tmp_path, **files)
    assert hardware.cgroup_memory(tmp_path) == expected


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "max 100000"}, 0),
        ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "250000 100000"}, 2),
        ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "50000 100000"}, 1),
        (
            {
                "proc/self/cgroup": "3:cpu,cpuacct:/x",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "400000",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
            },
            4,
        ),
        ({"proc/self/cgroup": "3:cpu:/", "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1"}, 0),
    ],
)
def test_the_processor_quota_of_a_container(files: dict[str, str], expected: int, tmp_path: Path) -> None:
    write(tmp_path, **files)
    assert hardware.cgroup_cores(tmp_path) == expected


def test_a_container_has_no_more_than_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "cgroup_memory", lambda: (GIB // 2, GIB // 8))
    assert hardware.memory() == (GIB // 2, GIB // 2 - GIB // 8)


# Apple.


@pytest.mark.parametrize(
    ("ram", "mib"), [(8, 5461.33), (16, 10_922.67), (32, 21_845.33), (64, 49_152), (96, 73_728)]
)
def test_the_working_set_is_what_metal_says(ram: int, mib: float) -> None:
    assert hardware.working_set(ram * GIB) / 2**20 == pytest.approx(mib, abs=0.01)


def test_an_apple_chip() -> None:
    values = {"machdep.cpu.brand_string": "Apple M2 Max", "iogpu.wired_limit_mb": "0"}
    found = hardware.apple_chip(64 * GIB, lambda name: values.get(name, ""))
    assert found == AppleChip(name="Apple M2 Max", working_set_bytes=48 * GIB)
    values["iogpu.wired_limit_mb"] = "57344"
    found = hardware.apple_chip(64 * GIB, lambda name: values.get(name, ""))
    assert found is not None
    assert found.working_set_bytes == 56 * GIB
    assert hardware.apple_chip(8 * GIB, lambda _: "") == AppleChip(
        name="Apple Silicon", working_set_bytes=8 * GIB * 2 // 3
    )


# NVIDIA.


class NVMLError(Exception):
    """The one of the fake library."""


class FakeNVML:
    """Two cards: a common one, and one without memory of its own."""

    NVMLError = NVMLError

    def __init__(self, *broken: str) -> None:
        self.broken = broken
        self.n_open = 0

    def __getattr__(self, name: str) -> Any:
        if name in self.broken:
            raise NVMLError(name)
        raise AttributeError(name)

    def nvmlInit(self) -> None:
        if "init" in self.broken:
            raise NVMLError
        self.n_open += 1

    def nvmlShutdown(self) -> None:
        self.n_open -= 1

    def nvmlSystemGetCudaDriverVersion_v2(self) -> int:
        return 12_040

    def nvmlDeviceGetCount(self) -> int:
        if "count" in self.broken:
            raise NVMLError
        return 2

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetName(self, handle: int) -> str | bytes:
        return (b"NVIDIA GeForce RTX 3060", "NVIDIA GB10")[handle]

    def nvmlDeviceGetCudaComputeCapability(self, handle: int) -> list[int]:
        if handle == 1:
            raise NVMLError
        return [8, 6]

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> Any:
        if handle == 1:
            raise NVMLError  # not supported
        return SimpleNamespace(total=12 * GIB, free=11 * GIB)


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeNVML]:
    fake = FakeNVML()
    monkeypatch.setitem(sys.modules, "pynvml", fake)  # pyright: ignore[reportArgumentType]
    yield fake
    assert fake.n_open == 0


def test_nvidia_cards(nvml: FakeNVML) -> None:
    assert hardware.nvidia_cards() == (
        NvidiaCard(
            name="NVIDIA GeForce RTX 3060",
            total_bytes=12 * GIB,
            free_bytes=11 * GIB,
            compute_capability=(8, 6),
        ),
        NvidiaCard(name="NVIDIA GB10", is_unified=True),
    )
    assert hardware.cuda_driver() == (12, 4)


@pytest.mark.parametrize("broken", ["init", "count"])
def test_a_driver_that_does_not_answer(broken: str, nvml: FakeNVML) -> None:
    nvml.broken = (broken,)
    assert hardware.nvidia_cards() == ()


def test_without_the_package_the_driver_still_gives_names(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert hardware.cuda_driver() is None
    write(tmp_path, **{"proc/driver/nvidia/gpus/0000:01:00.0/information": "Model: \t NVIDIA T4\nIRQ: 5"})
    assert hardware.cards_of_proc(tmp_path) == (NvidiaCard(name="NVIDIA T4"),)
    assert hardware.cards_of_proc(tmp_path / "none") == ()


# llama.cpp.


def test_a_llama_cpp_that_cannot_be_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "llama_cpp", None)
    assert hardware.llama_build(GIB) is None


@pytest.mark.parametrize(
    ("found", "names"),
    [
        ([(0, "CPU"), (1, "RTX"), (2, "iGPU")], ["RTX"]),
        ([(0, "CPU"), (2, "iGPU")], ["iGPU"]),
        ([(0, "CPU"), (3, "BLAS")], []),
    ],
)
def test_integrated_gpus_serve_where_there_is_no_other(
    found: list[tuple[int, str]], names: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    library = SimpleNamespace(__version__="1", llama_supports_gpu_offload=lambda: True)
    ggml = SimpleNamespace(libggml=None)
    monkeypatch.setitem(sys.modules, "llama_cpp", library)  # pyright: ignore[reportArgumentType]
    monkeypatch.setitem(sys.modules, "llama_cpp._ggml", ggml)  # pyright: ignore[reportArgumentType]
    monkeypatch.setattr(hardware, "_ggml_names", lambda _: ["MTL", "CPU"])
    listed = [(kind, name, 8 * GIB, 7 * GIB) for kind, name in found]
    monkeypatch.setattr(hardware, "_ggml_devices", lambda _: listed)
    build = hardware.llama_build(64 * GIB)
    assert build is not None
    assert [device.name for device in build.devices] == names
    assert all(device.is_unified == (device.name == "iGPU") for device in build.devices)
    assert build.kinds == ("Metal", "CPU")
    assert build.cpu == "CPU"
