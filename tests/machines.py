"""Described machines and models of realistic size, for the tests of the choice."""

from singlepass_backends.machine.facts import AppleChip, Device, LlamaBuild, Machine, ModelFacts, NvidiaCard
from singlepass_backends.machine.hardware import working_set

GIB = 1 << 30
MIB = 1 << 20


def model(
    size: float,
    *,
    n_layer: int,
    n_embd: int,
    n_ff: int,
    n_head: int,
    kv: int,
    n_vocab: int = 152_064,
    embedding: int,
    output: int,
    tied: bool = False,
    n_ctx_train: int = 32_768,
    attentive: int = 1,
    state_bytes: int = 0,
    n_expert: int = 0,
    format: str = "gguf",
) -> ModelFacts:
    """`size` in GB as model pages give it; `kv` values per token and attending layer, each `attentive`-th
    one; `embedding` and `output` in MB."""
    n_bytes, n_input, n_output = int(size * 1e9), embedding * 10**6, output * 10**6
    n_recurrent = n_layer - n_layer // attentive
    return ModelFacts(
        format="mlx" if format == "mlx" else "gguf",
        architecture="test",
        size_bytes=n_bytes,
        layer_bytes=((n_bytes - n_input - (0 if tied else n_output)) // n_layer,) * n_layer,
        input_bytes=n_input,
        output_bytes=n_output,
        n_ctx_train=n_ctx_train,
        n_vocab=n_vocab,
        n_embd=n_embd,
        n_ff=n_ff,
        n_head=n_head,
        n_expert=n_expert,
        layer_kv_values=tuple(kv if (layer + 1) % attentive == 0 else 0 for layer in range(n_layer)),
        kv_block=32,
        n_recurrent=n_recurrent,
        state_bytes=state_bytes,
    )


# Shapes from the models' configurations, sizes from their GGUF files.
QWEN_05B_Q8 = model(
    0.531,
    **{"n_layer": 24, "n_embd": 896, "n_ff": 4864, "n_head": 14, "kv": 2 * 128},
    **{"embedding": 145, "output": 145, "tied": True, "n_vocab": 151_936},
)
QWEN_7B = model(4.68, n_layer=28, n_embd=3584, n_ff=18_944, n_head=28, kv=4 * 256, embedding=307, output=447)
QWEN_14B = model(8.99, n_layer=48, n_embd=5120, n_ff=13_824, n_head=40, kv=8 * 256, embedding=438, output=639)
QWEN_32B = model(
    19.85, n_layer=64, n_embd=5120, n_ff=27_648, n_head=40, kv=8 * 256, embedding=438, output=639
)
QWEN_30B_A3B = model(
    18.56,
    **{"n_layer": 48, "n_embd": 2048, "n_ff": 6144, "n_head": 32, "kv": 4 * 256, "n_expert": 128},
    **{"embedding": 175, "output": 255, "n_ctx_train": 262_144},
)
LLAMA_70B = model(
    42.52,
    **{"n_layer": 80, "n_embd": 8192, "n_ff": 28_672, "n_head": 64, "kv": 8 * 256, "n_vocab": 128_256},
    **{"embedding": 591, "output": 862, "n_ctx_train": 131_072},
)
LLAMA_405B = model(
    243.0,
    **{"n_layer": 126, "n_embd": 16_384, "n_ff": 53_248, "n_head": 128, "kv": 8 * 256, "n_vocab": 128_256},
    **{"embedding": 1182, "output": 1724, "n_ctx_train": 131_072},
)
HYBRID_80B = model(
    48.5,
    **{"n_layer": 48, "n_embd": 2048, "n_ff": 5120, "n_head": 16, "kv": 2 * 512, "attentive": 4},
    **{"embedding": 175, "output": 255, "n_ctx_train": 262_144, "n_expert": 512},
    # 36 layers · (3 · (4096 + 2 · 16 · 128) + 128 · 4096) values of 32 bits
    state_bytes=36 * (3 * 8192 + 128 * 4096) * 4,
)
SHORT_2K = model(
    1.2,
    **{"n_layer": 22, "n_embd": 2048, "n_ff": 5632, "n_head": 32, "kv": 4 * 128, "n_vocab": 32_000},
    **{"embedding": 37, "output": 54, "n_ctx_train": 2048},
)
MLX_7B = model(
    4.28,
    **{"n_layer": 28, "n_embd": 3584, "n_ff": 18_944, "n_head": 28, "kv": 4 * 256},
    **{"embedding": 0, "output": 0, "format": "mlx"},
)


def machine(
    ram: float,
    free: float,
    *,
    cores: int = 8,
    system: str = "Linux",
    architecture: str = "x86_64",
    kinds: tuple[str, ...] = ("CPU",),
    devices: tuple[Device, ...] = (),
    nvidia: tuple[NvidiaCard, ...] = (),
    cuda_driver: tuple[int, int] | None = None,
    apple: AppleChip | None = None,
    mlx: str = "",
    python: tuple[int, int] = (3, 12),
) -> Machine:
    """Memory in GiB."""
    return Machine(
        system=system,
        architecture=architecture,
        python=python,
        n_cores=cores,
        ram_bytes=int(ram * GIB),
        ram_free_bytes=int(free * GIB),
        apple=apple,
        nvidia=nvidia,
        cuda_driver=cuda_driver,
        llama=LlamaBuild(version="0.3.36", kinds=kinds, devices=devices),
        mlx=mlx,
    )


def gpu(name: str, total: float, free: float, *, unified: bool = False) -> Device:
    """Memory in GiB."""
    return Device(name=name, total_bytes=int(total * GIB), free_bytes=int(free * GIB), is_unified=unified)


def card(name: str, total: float, capability: tuple[int, int]) -> NvidiaCard:
    """Memory in GiB; 0 for unified memory."""
    n_bytes = int(total * GIB)
    return NvidiaCard(
        name=name,
        total_bytes=n_bytes,
        free_bytes=n_bytes,
        compute_capability=capability,
        is_unified=total == 0,
    )


def cuda(ram: float, free: float, *devices: Device, cores: int = 8, system: str = "Linux") -> Machine:
    """A PC with NVIDIA cards and a llama.cpp built for them."""
    cards = tuple(card(device.name, device.total_bytes / GIB, (8, 6)) for device in devices)
    return machine(
        ram,
        free,
        cores=cores,
        system=system,
        architecture="AMD64" if system == "Windows" else "x86_64",
        kinds=("CUDA", "CPU"),
        devices=devices,
        nvidia=cards,
        cuda_driver=(12, 4),
    )


def mac(
    name: str,
    ram: float,
    free: float,
    *,
    cores: int,
    kinds: tuple[str, ...] = ("Metal", "BLAS", "CPU"),
    mlx: str = "",
) -> Machine:
    """A Mac, whose GPU may use what Metal recommends."""
    share = working_set(int(ram * GIB))
    device = Device(name=f"Apple {name}", total_bytes=share, free_bytes=share, is_unified=True)
    return machine(
        ram,
        free,
        cores=cores,
        system="Darwin",
        architecture="arm64",
        kinds=kinds,
        devices=(device,) if "Metal" in kinds else (),
        apple=AppleChip(name=f"Apple {name}", working_set_bytes=share),
        mlx=mlx,
    )


M1_8 = mac("M1", 8, 4.5, cores=4)
M1_PRO_16 = mac("M1 Pro", 16, 10, cores=8)
M2_MAX_64 = mac("M2 Max", 64, 50, cores=8)
M3_ULTRA_512 = mac("M3 Ultra", 512, 480, cores=24)
M4_16 = mac("M4", 16, 9, cores=4)
RTX_3060 = cuda(32, 24, gpu("NVIDIA GeForce RTX 3060", 12, 11.2))
RTX_3060_BUSY = cuda(32, 24, gpu("NVIDIA GeForce RTX 3060", 12, 7.4))
RTX_4090 = cuda(64, 50, gpu("NVIDIA GeForce RTX 4090", 24, 23))
RTX_4090_WINDOWS = cuda(64, 50, gpu("NVIDIA GeForce RTX 4090", 24, 22), system="Windows")
LAPTOP_4 = cuda(16, 10, gpu("NVIDIA GeForce RTX 3050 Laptop GPU", 4, 3.6), cores=6)
FULL_CARD = cuda(32, 24, gpu("NVIDIA GeForce RTX 3060", 12, 0.4))
TWO_A100 = cuda(512, 480, *[gpu("NVIDIA A100-SXM4-80GB", 80, 79)] * 2, cores=64)
TWO_UNEQUAL = cuda(64, 50, gpu("NVIDIA GeForce RTX 4090", 24, 23), gpu("NVIDIA GeForce RTX 3060", 12, 11.5))
H100 = cuda(256, 240, gpu("NVIDIA H100 80GB HBM3", 80, 79), cores=16)
PC_8, PC_16, PC_32, PC_64 = (
    machine(8, 5.5, cores=4),
    machine(16, 12, cores=6),
    machine(32, 26),
    machine(64, 56, cores=16),
)
NO_CUDA_BUILD = machine(32, 24, nvidia=(card("NVIDIA GeForce RTX 3060", 12, (8, 6)),), cuda_driver=(12, 4))
AMD_VULKAN = machine(
    32, 24, kinds=("Vulkan", "CPU"), devices=(gpu("AMD Radeon RX 7800 XT (RADV NAVI32)", 16, 15.5),)
)
AMD_APU = machine(32, 24, kinds=("Vulkan", "CPU"), devices=(gpu("AMD Radeon 780M", 16, 15.8, unified=True),))
GB10 = machine(
    119.6,
    115,
    cores=20,
    architecture="aarch64",
    kinds=("CUDA", "CPU"),
    devices=(gpu("NVIDIA GB10", 119.6, 115, unified=True),),
    nvidia=(card("NVIDIA GB10", 0, (12, 1)),),
    cuda_driver=(13, 0),
)
RASPBERRY_PI = machine(8, 6.8, cores=4, architecture="aarch64")
TINY_VM = machine(2, 1.3, cores=1)
JETSON = machine(
    7.4,
    5.6,
    cores=6,
    architecture="aarch64",
    kinds=("CUDA", "CPU"),
    devices=(gpu("Orin", 7.4, 5.6, unified=True),),
)
CONTAINER_3 = machine(3, 2.6, cores=2)
"""64 GiB outside, but a limit of 3 GiB."""
M2_METAL_MISSING = mac("M2", 16, 10, cores=4, kinds=("CPU",))
M2_MAX_MLX = mac("M2 Max", 64, 50, cores=8, mlx="0.32.1")
