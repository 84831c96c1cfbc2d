"""Which backend runs a model on a machine, with which settings, and why (sans-IO).

Theory of operation. Prefill speed depends on how much of the model the GPU holds, so layers have priority
once the context has a useful size (`_USEFUL_CTX`); the memory that remains is used for a larger context, up
to `N_CTX_MOST`. In this order:

1. The GPU gets as many layers as fit beside their share of a context of `_USEFUL_CTX`.
2. If all layers fit, or there is no GPU, the context grows while it fits. Otherwise it stays, since each step
   would push layers off the GPU.
3. If the machine's memory is short, the context shrinks.

Each step tries f16 for the KV cache first and then q8_0. The context changes in coarse steps, so that it is
the same at the next start, when slightly more or less memory is free: prefixes saved on disk fit one size
only.

So more free memory never gives fewer layers or less context; and if `Choice.fits` is true, the choice never
takes more than the free memory minus a margin. What the user set is used as it is, whether or not it fits.
"""

from typing import Literal

import msgspec

from singlepass_backends.base import BackendError, Target
from singlepass_backends.machine.facts import (
    N_CTX_MOST,
    N_RECURRENT_SEQUENCES,
    Device,
    Machine,
    ModelFacts,
    kv_bytes,
)

GIB = 1 << 30
MIB = 1 << 20

_USEFUL_CTX = 8192
"""Tokens: enough for a repository map, a file of a thousand lines, its neighbours, and a reply."""
_STEPS = (4096, 6144, 8192, 12_288, 16_384, 24_576, 32_768)
_TINY_BYTES = 64_000_000
_WHEELS = "https://abetlen.github.io/llama-cpp-python/whl/"
_PACKAGE = "'llama-cpp-python>=0.3.36,<0.4'"
_REINSTALL = "pip install --force-reinstall --no-cache-dir"
_CUDA_WHEELS = ((13, 2), (13, 0), (12, 5), (12, 4), (12, 3), (12, 2), (12, 1), (11, 8))


_BackendName = Literal["llama_cpp", "mlx"]


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """How a model will be run, and why, in sentences for people."""

    backend: _BackendName
    target: Target
    """The user's target with all settings filled in: layers, context, KV cache and threads."""
    why: tuple[str, ...] = ()
    todo: tuple[str, ...] = ()
    """What the user could do for more: each with what is wrong and what to do."""
    gpu_bytes: int = 0
    """Estimated use of the GPUs' memory."""
    gpu_budget: int = 0
    """Free memory of the GPUs, minus the margin."""
    ram_bytes: int = 0
    """Estimated use of the machine's memory, which on unified memory includes the GPU's part."""
    ram_budget: int = 0
    fits: bool = True
    """False if it needs more memory than there is: it will be slow, or fail."""


class _Need(msgspec.Struct, frozen=True):
    """Bytes that a plan needs: of all GPUs together for the layers, of each GPU in addition, and of the
    machine's memory."""

    layers: int = 0
    output: int = 0
    overhead: int = 0
    ram: int = 0


class _Plan(msgspec.Struct, frozen=True):
    """One way to run the model. `n_gpu_layers` counts as llama.cpp does: the output layer first, then the
    repeating layers from the last one on."""

    n_gpu_layers: int
    n_ctx: int
    kv_cache_type: str


def choose(machine: Machine, model: ModelFacts, wishes: Target) -> Choice:
    """How to run `model` on `machine`: fills in what `wishes` leaves open (0, -1, `auto`).

    Raises BackendError `out_of_memory` if the model is larger than all memory that it could be put into.
    """
    backend = _backend(model)
    devices = _devices(machine, backend) if wishes.n_gpu_layers != 0 else ()
    _check_possible(machine, devices, model.size_bytes, wishes)
    chooser = _Chooser(machine, devices, model, wishes, backend)
    return chooser.unknown() if model.n_layer == 0 else chooser.choose()


def ram_margin(machine: Machine) -> int:
    """Bytes of the machine's memory to leave for the editor and its processes: an eighth, at most 4 GiB."""
    return min(4 * GIB, max(256 * MIB, machine.ram_bytes // 8))


def gpu_margin(device: Device) -> int:
    """Bytes of a GPU's memory to leave for buffers that the runtime allocates later, and for the display.
    Little is left on unified memory, whose recommended working set already leaves room."""
    return 256 * MIB if device.is_unified else max(512 * MIB, device.total_bytes // 24)


def compute_bytes(model: ModelFacts, n_ctx: int, n_batch: int, *, flash_attention: bool) -> int:
    """Bytes of llama.cpp's compute buffer: the peak within one pass.

    Either the logits of a whole chunk (32-bit floats of the vocabulary beside the last hidden state) or a
    feed-forward block (gate, up and their product beside the residual), and the attention mask in f16;
    without flash attention also the scores of all heads. tests/backends/test_choose.py compares it with the
    size that llama.cpp reports.
    """
    widest = max(model.n_vocab + model.n_embd, 3 * model.n_ff + 4 * model.n_embd)
    scores = 0 if flash_attention else 4 * model.n_head * n_ctx
    return n_batch * (4 * widest + 2 * n_ctx + scores)


def cuda_command(machine: Machine) -> str:
    """How to install a llama.cpp with CUDA on this machine, from the installation page of llama-cpp-python.

    It has wheels for x86-64 Linux and Windows with Python up to 3.12: CUDA 11.8 for cards of compute
    capability 6.0 to 8.9, CUDA 12 from 6.0 on, CUDA 13 from 7.5 on. Anything else is built from source.
    """
    has_wheel = machine.architecture.lower() in ("x86_64", "amd64") and machine.python <= (3, 12)
    known = [card.compute_capability for card in machine.nvidia if card.compute_capability]
    known = known or [(7, 5), (8, 9)]
    least, most = min(known), max(known)
    for version in _CUDA_WHEELS if has_wheel and least >= (6, 0) else ():
        is_for_cards = least >= (7, 5) if version >= (13, 0) else version >= (12, 0) or most <= (8, 9)
        # If the driver does not say, assume version 12.4, which drivers since 2024 support.
        if is_for_cards and version <= (machine.cuda_driver or (12, 4)):
            return _wheel_command(f"cu{version[0]}{version[1]}")
    build = f"{_REINSTALL} {_PACKAGE}"
    if machine.system == "Windows":
        return f'$env:CMAKE_ARGS = "-DGGML_CUDA=on"; {build} (with the CUDA toolkit installed)'
    return f'CMAKE_ARGS="-DGGML_CUDA=on" {build} (with the CUDA toolkit installed)'


def build_todo(machine: Machine) -> tuple[str, ...]:
    """Why the installed llama.cpp cannot use this machine's GPU, and how to fix that; empty if it can."""
    build = machine.llama
    if build is None or build.devices:
        return ()
    if machine.nvidia and "CUDA" in build.kinds:
        return (
            f"There is {_card_names(machine)}, but llama.cpp finds no device it can use. The driver may be "
            "older than the CUDA it was built for: update the driver, or install another build: "
            f"{cuda_command(machine)}",
        )
    if machine.nvidia:
        return (
            f"There is {_card_names(machine)}, but this llama.cpp was built without CUDA: "
            f"{cuda_command(machine)}",
        )
    if machine.apple and "Metal" not in build.kinds:
        return (f"This llama.cpp was built without Metal, Apple's GPU: {_wheel_command('metal')}",)
    return ()


def size(n_bytes: int) -> str:
    """`7.4 GiB`, `512 MiB`."""
    return f"{n_bytes / GIB:.1f} GiB" if n_bytes >= GIB else f"{n_bytes / MIB:.0f} MiB"


def _wheel_command(kind: str) -> str:
    return f"{_REINSTALL} --prefer-binary {_PACKAGE} --extra-index-url {_WHEELS}{kind}"


def _backend(model: ModelFacts) -> _BackendName:
    return "mlx" if model.format == "mlx" else "llama_cpp"


def _devices(machine: Machine, backend: _BackendName) -> tuple[Device, ...]:
    """The GPUs that the backend can use."""
    if backend != "mlx":
        return machine.llama.devices if machine.llama else ()
    if machine.apple is None:
        return ()
    share = machine.apple.working_set_bytes
    return (Device(name=machine.apple.name, total_bytes=share, free_bytes=share, is_unified=True),)


def _check_possible(machine: Machine, devices: tuple[Device, ...], n_bytes: int, wishes: Target) -> None:
    gpu_bytes = sum(device.total_bytes for device in devices if not device.is_unified)
    if not machine.ram_bytes or n_bytes <= machine.ram_bytes + gpu_bytes:
        return
    gpu = f" and {size(gpu_bytes)} on {_names(devices)}" if gpu_bytes else ""
    raise BackendError(
        "out_of_memory",
        f"{wishes.model or 'The model'} has {size(n_bytes)} of weights, and this machine has "
        f"{size(machine.ram_bytes)} of memory{gpu}: it cannot run here. Choose a smaller model or a stronger "
        "quantization.",
        {"size_bytes": n_bytes, "ram_bytes": machine.ram_bytes, "gpu_bytes": gpu_bytes},
    )


def _names(devices: tuple[Device, ...]) -> str:
    names = list(dict.fromkeys(device.name for device in devices))
    counts = [sum(device.name == name for device in devices) for name in names]
    parts = [f"{n} × {name}" if n > 1 else name for n, name in zip(counts, names, strict=True)]
    return "the " + " and the ".join(parts)


class _Chooser:
    """Makes one choice: what each plan needs, which is best, and the reasons in words."""

    def __init__(
        self,
        machine: Machine,
        devices: tuple[Device, ...],
        model: ModelFacts,
        wishes: Target,
        backend: _BackendName,
    ) -> None:
        self._machine, self._devices, self._model = machine, devices, model
        self._wishes = wishes
        self._backend: _BackendName = backend
        self._is_unified = any(device.is_unified for device in devices)
        self._wanted = wishes.n_ctx or min(model.n_ctx_train or N_CTX_MOST, N_CTX_MOST)
        self._n_threads = wishes.n_threads or self._threads()
        self._margin = max((gpu_margin(device) for device in devices), default=0)
        self._gpu_budget = max(0, sum(device.free_bytes - self._margin for device in devices))
        self._ram_budget = max(0, machine.ram_free_bytes - ram_margin(machine))
        self._kv_types = self._kv_cache_types()

    def unknown(self) -> Choice:
        """For a file that does not describe its layers: the defaults."""
        n_gpu_layers = self._wishes.n_gpu_layers if self._devices else 0
        plan = _Plan(n_gpu_layers, self._wanted, self._kv_types[0])
        why = ("the model file does not tell its layers, so nothing is known of what fits",)
        return Choice(
            backend=self._backend,
            target=self._target(plan),
            why=why,
            todo=self._todo(),
        )

    def choose(self) -> Choice:
        """The best plan that fits, or else the one that needs the least memory."""
        steps = [step for step in _STEPS if step < self._wanted]
        contexts = [self._wanted] if self._wishes.n_ctx else [*steps, self._wanted]
        floor = next((n for n in contexts if n >= _USEFUL_CTX), contexts[-1])
        layers = self._layers()
        n_gpu_layers = next((n for n in reversed(layers) if self._type_for(n, floor, gpu=True)), layers[0])
        if n_gpu_layers != layers[-1]:
            contexts = [n for n in contexts if n <= floor]
        plan, fits = _Plan(n_gpu_layers, contexts[0], self._kv_types[-1]), False
        for n_ctx in reversed(contexts):
            if kv_cache_type := self._type_for(n_gpu_layers, n_ctx, gpu=True, ram=True):
                plan, fits = _Plan(n_gpu_layers, n_ctx, kv_cache_type), True
                break
        need = self._need(plan)
        gpu_bytes = need.layers + need.output + need.overhead * len(self._devices) * (plan.n_gpu_layers > 0)
        return Choice(
            backend=self._backend,
            target=self._target(plan),
            why=self._why(plan, fits=fits),
            todo=(*(() if fits else (self._does_not_fit(plan, gpu_bytes),)), *self._todo()),
            gpu_bytes=gpu_bytes,
            gpu_budget=self._gpu_budget,
            ram_bytes=need.ram + (gpu_bytes if self._is_unified else 0),
            ram_budget=self._ram_budget,
            fits=fits,
        )

    # What fits.

    def _layers(self) -> list[int]:
        """The candidates for the number of layers on the GPU, in ascending order."""
        n_all = self._model.n_layer + 1
        if not self._devices:
            return [0]
        if self._backend == "mlx":
            return [n_all]
        if self._wishes.n_gpu_layers >= 0:
            return [min(self._wishes.n_gpu_layers, n_all)]
        return list(range(n_all + 1))

    def _kv_cache_types(self) -> list[str]:
        if self._wishes.kv_cache_type != "auto":
            return [self._wishes.kv_cache_type]
        # llama.cpp quantizes a value cache only with flash attention, in blocks of 32 within a head.
        can_quantize = (
            self._backend == "llama_cpp" and self._wishes.flash_attention and self._model.kv_block == 32
        )
        return ["f16", "q8_0"] if can_quantize and any(self._model.layer_kv_values) else ["f16"]

    def _type_for(self, n_gpu_layers: int, n_ctx: int, *, gpu: bool = False, ram: bool = False) -> str | None:
        """The best KV cache type with which this fits, or None."""
        for kv_cache_type in self._kv_types:
            need = self._need(_Plan(n_gpu_layers, n_ctx, kv_cache_type))
            if (not gpu or self._fits_gpus(need)) and (not ram or self._fits_machine(need)):
                return kv_cache_type
        return None

    def _need(self, plan: _Plan) -> _Need:
        model, n_batch = self._model, min(self._wishes.n_batch, plan.n_ctx)
        # For a sliding window the driver uses two llama.cpp sequences for each of ours.
        n_sequences = N_RECURRENT_SEQUENCES * (2 if model.sliding_window else 1)
        states = model.state_bytes * n_sequences // max(1, model.n_layer)
        costs = [
            weights + kv_bytes(values, plan.n_ctx, plan.kv_cache_type) + states
            for weights, values in zip(model.layer_bytes, model.layer_kv_values, strict=True)
        ]
        compute = compute_bytes(model, plan.n_ctx, n_batch, flash_attention=self._wishes.flash_attention)
        n_on_gpu = max(0, plan.n_gpu_layers - 1)
        first = model.n_layer - min(n_on_gpu, model.n_layer)
        if plan.n_gpu_layers == 0:
            return _Need(ram=sum(costs) + max(0, model.size_bytes - sum(model.layer_bytes)) + compute)
        is_partial = first > 0
        # Long chunks run on the GPU even for layers that are not on it: each is copied there in turn.
        copied = max(model.layer_bytes) if is_partial else 0
        inputs = n_batch * (2 * plan.n_ctx + 8 * model.n_embd)
        return _Need(
            layers=sum(costs[first:]),
            output=model.output_bytes,
            overhead=compute + copied,
            ram=sum(costs[:first]) + model.input_bytes + (compute if is_partial else inputs),
        )

    def _fits_gpus(self, need: _Need) -> bool:
        """Whether it fits on the GPUs.

        llama.cpp splits whole layers over several GPUs in proportion to their free memory
        (`llama_model_base::load_tensors`), so each GPU holds at most its share plus one layer, and one
        of them the output layer. With F bytes free in total, a GPU with f bytes free has to hold
        `layers · f / F + largest layer + output + overhead + margin <= f`.
        """
        if need.overhead == 0:
            return True
        if len(self._devices) == 1:
            return need.layers + need.output + need.overhead <= self._gpu_budget
        free = [device.free_bytes for device in self._devices]
        largest = max(self._model.layer_bytes) + need.layers // max(1, self._model.n_layer)
        fixed = largest + need.output + need.overhead + self._margin
        return all(n > 0 and need.layers * n + fixed * sum(free) <= n * sum(free) for n in free)

    def _fits_machine(self, need: _Need) -> bool:
        if self._machine.ram_bytes == 0:  # unknown
            return True
        shared = need.layers + need.output + need.overhead if self._is_unified else 0
        return need.ram + shared <= self._ram_budget

    # The reasons, in words.

    def _target(self, plan: _Plan) -> Target:
        return msgspec.structs.replace(
            self._wishes,
            n_gpu_layers=plan.n_gpu_layers if self._wishes.n_gpu_layers < 0 else self._wishes.n_gpu_layers,
            n_ctx=plan.n_ctx,
            kv_cache_type=plan.kv_cache_type,
            n_threads=self._n_threads,
        )

    def _threads(self) -> int:
        """One thread for tiny models: their passes take 0.2 ms. A second thread saves a fifth of that and
        busy-waits between passes, at the cost of other programs."""
        return 1 if self._model.size_bytes < _TINY_BYTES else self._machine.n_cores

    def _free(self) -> str:
        n_bytes = sum(device.free_bytes for device in self._devices)
        if self._is_unified:
            return f"the {size(n_bytes)} that {_names(self._devices)} has for its GPU"
        return f"the {size(n_bytes)} that are free on {_names(self._devices)}"

    def _why(self, plan: _Plan, *, fits: bool) -> tuple[str, ...]:
        lines = (self._why_layers(plan), self._why_cache(plan, fits=fits))
        return tuple(line for line in lines if line)

    def _why_layers(self, plan: _Plan) -> str:
        n_layer, n = self._model.n_layer, plan.n_gpu_layers
        threads = f"{self._n_threads} thread{'' if self._n_threads == 1 else 's'}"
        if self._wishes.n_gpu_layers == 0:
            return f"`n_gpu_layers` is 0, so the processor does the work, on {threads}"
        if not self._devices:
            return f"there is no GPU that it can use, so the processor does the work, on {threads}"
        if self._wishes.n_gpu_layers > 0 and self._backend == "llama_cpp":
            n_most = min(n, n_layer + 1)
            return f"`n_gpu_layers` puts {n_most} of {n_layer + 1} layers on {_names(self._devices)}"
        if self._backend == "mlx":
            return f"it is an MLX model, and MLX uses {self._free()}"
        if n == n_layer + 1:
            return f"all {n_layer} layers and the context fit into {self._free()}"
        part = f"{n - 1} of {n_layer} layers fit" if n > 1 else f"none of the {n_layer} layers fits"
        return f"{part} into {self._free()}; the processor does the rest, on {threads}"

    def _why_cache(self, plan: _Plan, *, fits: bool) -> str:
        is_cut = plan.n_ctx < self._wanted
        is_small = plan.kv_cache_type != self._kv_types[0]
        if not is_cut and not is_small:
            return ""
        parts = [f"the context was cut from {self._wanted:,} to {plan.n_ctx:,} tokens"] if is_cut else []
        parts += [f"the KV cache is {plan.kv_cache_type}"] if is_small else []
        is_partial = 0 < plan.n_gpu_layers <= self._model.n_layer and self._wishes.n_gpu_layers < 0
        if not fits:
            aim = "it takes as little memory as it can"
        elif is_partial:
            aim = "more layers fit on the GPU"
        elif self._devices and not self._is_unified and plan.n_gpu_layers:
            aim = f"it all fits into {self._free()}"
        else:
            aim = f"it fits into the {size(self._machine.ram_free_bytes)} of memory that are free"
        setting = "`n_ctx`" if is_cut else "`kv_cache_type`"
        return f"{' and '.join(parts)} so that {aim}; {setting} sets it"

    def _does_not_fit(self, plan: _Plan, gpu_bytes: int) -> str:
        need = self._need(plan)
        smaller = (
            "a smaller model or quantization" if not self._wishes.n_ctx else "a smaller `n_ctx` or model"
        )
        if not self._fits_gpus(need):
            return (
                f"This takes about {size(gpu_bytes)} of {_names(self._devices)}, where "
                f"{size(self._gpu_budget)} can be used. Set `n_gpu_layers` to -1, close what else uses the "
                f"GPU, or choose {smaller}."
            )
        n_bytes = need.ram + (gpu_bytes if self._is_unified else 0)
        return (
            f"This takes about {size(n_bytes)} of memory. {size(self._machine.ram_free_bytes)} of "
            f"{size(self._machine.ram_bytes)} are free, of which {size(self._ram_budget)} can be used beside "
            f"other programs: it may be very slow, or fail. Close some, or choose {smaller}."
        )

    def _todo(self) -> tuple[str, ...]:
        if self._backend == "mlx":
            return self._todo_mlx()
        return () if self._wishes.n_gpu_layers == 0 else build_todo(self._machine)

    def _todo_mlx(self) -> tuple[str, ...]:
        if not self._machine.mlx and self._machine.apple:
            return ("This is an MLX model, and mlx-lm is not installed: pip install 'mlx-lm>=0.32'",)
        if not self._machine.mlx:
            return (
                "This is an MLX model, and mlx-lm is not installed. It is made for Apple Silicon: choose a "
                "GGUF file of the same model, or pip install 'mlx-lm>=0.32' 'mlx[cpu]', which is slow.",
            )
        if not self._machine.apple:
            return ("MLX is slow without Apple Silicon: choose a GGUF file of the same model.",)
        return ()


def _card_names(machine: Machine) -> str:
    names = [
        card.name + (f" ({size(card.total_bytes)})" if card.total_bytes else "") for card in machine.nvidia
    ]
    return ", ".join(
        f"{names.count(name)} × {name}" if names.count(name) > 1 else name for name in dict.fromkeys(names)
    )
