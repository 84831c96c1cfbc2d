"""MLX through mlx-lm: implements `generation.driver.Driver`, nothing else.

A model is a local folder; nothing is downloaded, and code in the folder is never run. MLX computes lazily and
cannot stop within a pass. Sequences are stored by `cache`, which also explains how much memory they need.
mlx-lm: https://github.com/ml-explore/mlx-lm
"""

import importlib
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from singlepass_backends.base import (
    BackendError,
    Interrupt,
    ModelInfo,
    Target,
)
from singlepass_backends.drivers.fingerprint import fingerprint
from singlepass_backends.drivers.mlx.cache import Held, Working, pack, quantized, unpack
from singlepass_backends.drivers.mlx.hf_tokenizer import HfTokenizer
from singlepass_backends.drivers.mlx.model_folder import ModelFolder, read_folder
from singlepass_backends.generation.driver import State

N_CTX_DEFAULT_MOST = 32_768
_N_SEQUENCES = 17
_N_SEQUENCES_RECURRENT = 5  # each has its own state, tens of MB in large models
_VERSION = (0, 32)  # older versions run code from the model's folder
_BITS = {"q8_0": 8, "q4_0": 4}
_GROUP_SIZES = (64, 32)  # of quantized keys and values: the first that divides the width of a head
_ALONE = 16
"""From this many tokens on, the last token, whose logits are wanted, gets its own pass: mlx-lm's models
compute logits for all tokens of a pass or for none."""
_PART_BYTES = 256_000_000  # loaded between two progress reports
_CLEAR_EVERY = 256  # tokens between two calls that free MLX's buffer cache, as in mlx-lm
_OUT_OF_MEMORY = re.compile(
    r"out of memory|insufficient memory|bad_alloc|unable to allocate|attempting to allocate|maximum allowed",
    re.IGNORECASE,
)


def load_library() -> Any:
    """The `mlx.core` module, after checking mlx-lm's version. Raises BackendError `unsupported`."""
    try:
        core = importlib.import_module("mlx.core")
        version = str(importlib.import_module("mlx_lm").__version__)
    except (ImportError, OSError, RuntimeError) as error:
        raise BackendError(
            "unsupported",
            f"MLX cannot be loaded: {error}. On Apple Silicon install it with pip install 'singlepass[mlx]', "
            "on Linux with pip install 'mlx[cpu]' mlx-lm.",
        ) from None
    if tuple(map(int, re.findall(r"\d+", version)[:2])) < _VERSION:
        raise BackendError(
            "unsupported",
            f"mlx-lm {version} is too old: it may run code from a model's folder. Update it: "
            "pip install --upgrade 'mlx-lm>=0.32'",
        )
    return core


def failure(path: Path, error: BaseException, architecture: str = "") -> BackendError:
    """The error for the model at `path`, from an exception of MLX or mlx-lm."""
    text = str(error).strip()
    if "not supported" in text and architecture in text:
        return BackendError(
            "model_unsupported",
            f"{path} has the architecture {architecture!r}, which this mlx-lm does not know. Update mlx-lm, "
            "or choose another model.",
        )
    if isinstance(error, MemoryError) or _OUT_OF_MEMORY.search(text):
        return BackendError(
            "out_of_memory",
            f"There is not enough memory for {path}. Choose a smaller model or quantization, a smaller "
            "`n_ctx`, or a quantized `kv_cache_type`.",
        )
    detail = next(iter(text.splitlines()), "") or type(error).__name__
    return BackendError("model_invalid", f"mlx-lm cannot load {path}: {detail}")


class MlxDriver:
    """One model of mlx-lm and its sequences; see `generation.driver.Driver`."""

    def __init__(self, target: Target, on_progress: Callable[[float], bool]) -> None:
        """Load the folder `target.model`, calling `on_progress` with fractions from 0 to 1 until it returns
        False.

        Raises BackendError: `model_missing`, `model_invalid`, `model_unsupported`, `out_of_memory`,
        `unsupported` (no MLX, or a setting this model cannot have), `internal` when stopped.
        """
        start = time.perf_counter()
        folder = read_folder(Path(target.model))
        self._mx = mx = load_library()
        self._device = _choose_device(mx, target)
        self._path = folder.path
        self._model: Any = _load(mx, folder, on_progress)
        self.n_ctx = target.n_ctx or min(folder.n_ctx_train or N_CTX_DEFAULT_MOST, N_CTX_DEFAULT_MOST)
        self.n_batch = max(1, min(target.n_batch, self.n_ctx))
        self.n_branches = 1  # mlx-lm's models accept no attention mask for a tree
        self._working = self._open(target)
        can_trim = self._working.can_trim
        self.n_sequences = _N_SEQUENCES if can_trim else _N_SEQUENCES_RECURRENT
        self._kept: list[Held] = [Held()] * self.n_sequences  # index 0 is unused
        self._n_since_clear = 0
        tokenizer = HfTokenizer(folder, self.n_vocab)
        self.tokenize = tokenizer.tokenize
        self.piece = tokenizer.piece
        self.eog_tokens = tokenizer.eog_tokens
        self.bos_tokens = tokenizer.bos_tokens
        self.control_tokens = tokenizer.control_tokens
        self.special_texts = tokenizer.special_texts
        self.chat_template = folder.chat_template
        small = (folder.path / "config.json", folder.path / "tokenizer.json")
        self.state_key = " ".join(
            (
                "mlx",
                fingerprint(*small, *folder.weights),
                f"{mx.__version__} {importlib.import_module('mlx_lm').__version__}",
                f"n_ctx={self.n_ctx} kv={target.kv_cache_type}",
            )
        )
        self.info = ModelInfo(
            backend="mlx",
            name=folder.name,
            path=str(folder.path),
            architecture=folder.architecture,
            n_params=int(importlib.import_module("mlx_lm.utils").get_total_parameters(self._model)),
            size_bytes=folder.size_bytes,
            n_ctx=self.n_ctx,
            n_ctx_train=folder.n_ctx_train,
            n_vocab=self.n_vocab,
            can_trim=can_trim,
            device=self._device,
            load_ms=(time.perf_counter() - start) * 1e3,
        )

    def _open(self, target: Target) -> Working:
        """The caches, tested with one token: a model may not support the settings, or may have a cache that
        cannot be saved."""
        make: Any = importlib.import_module("mlx_lm.models.cache").make_prompt_cache
        working = Working(lambda: make(self._model))
        try:
            self._try(working)
        except Exception as error:
            raise failure(self._path, error) from None
        bits = _BITS.get(target.kv_cache_type)
        if bits is None:
            return working
        refused: Exception | None = None
        for group_size in _GROUP_SIZES:
            working = Working(lambda size=group_size: quantized(make(self._model), bits, size))
            try:
                self._try(working)
                return working
            except Exception as error:
                refused = error
        raise BackendError(
            "unsupported",
            f"{self._path} cannot have a `kv_cache_type` of {target.kv_cache_type} in MLX: "
            f"{str(refused).strip()}. Use f16.",
        )

    def _try(self, working: Working) -> None:
        logits = self._model(self._mx.array([[0]]), cache=working.caches)
        self._mx.eval(logits, working.arrays)
        working.n = 1
        working.learn()
        held = working.held(1)
        kept = Held(1, *unpack(pack([held.blocks, held.states])))
        if not working.fits(kept):
            raise ValueError("its cache cannot be saved")
        working.become(kept, 1)
        working.clear()
        self.n_vocab = int(logits.shape[-1])

    def forward(self, tokens: Sequence[int], position: int, *, n_logits: int) -> NDArray[np.float32] | None:
        """See `Driver`. Raises BackendError `out_of_memory` or `internal`."""
        mx, working = self._mx, self._working
        if position != working.n:
            raise BackendError("internal", f"a pass at {position}, but {working.n} tokens are cached")
        values: NDArray[np.float32] | None = None
        try:
            inputs = mx.array(tokens, dtype=mx.uint32)[None]
            if n_logits and len(tokens) - n_logits >= _ALONE - 1:
                self._model(inputs[:, :-n_logits], cache=working.caches)
                mx.eval(working.arrays)
                inputs = inputs[:, -n_logits:]
            outputs = self._model(inputs, cache=working.caches)
            if n_logits:
                last = outputs[0, -n_logits:].astype(mx.float32)
                mx.eval(last, working.arrays)
                values = np.asarray(last)
            else:
                mx.eval(working.arrays)  # and not the logits
            working.n += len(tokens)
            self._n_since_clear += len(tokens)
            if self._n_since_clear >= _CLEAR_EVERY:
                self._n_since_clear = 0
                mx.clear_cache()
        except (RuntimeError, ValueError, MemoryError) as error:
            found = failure(self._path, error)
            if found.code == "out_of_memory":
                raise found from None
            raise BackendError("internal", f"MLX failed: {error}") from None
        return values

    def branch(self, tokens: Sequence[int], position: int, parents: Sequence[int]) -> NDArray[np.float32]:
        """See `Driver`; never called."""
        raise NotImplementedError

    def keep(self, position: int, nodes: Sequence[int]) -> None:
        """See `Driver`; never called."""
        raise NotImplementedError

    def watch(self, interrupt: Interrupt) -> bool:
        """See `Driver`. MLX runs a pass to its end."""
        return False

    def clear(self) -> None:
        """See `Driver`."""
        self._working.clear()
        self._kept = [Held()] * self.n_sequences
        self._mx.clear_cache()

    def trim(self, n_keep: int, sequence: int = 0) -> bool:
        """See `Driver`."""
        n = self._working.n if sequence == 0 else self._kept[sequence].n
        if n_keep >= n:
            return True
        if n_keep and not self._working.can_trim:
            return False
        self._cut(n_keep, sequence)
        return True

    def _cut(self, n: int, sequence: int) -> None:
        if sequence:
            self._kept[sequence] = self._kept[sequence].beginning(n) if n else Held()
        elif n:
            self._working.cut(n)
        else:
            self._working.clear()

    def copy(self, source: int, destination: int, n: int) -> None:
        """See `Driver`."""
        if not self._working.can_trim:
            n = self._working.n if source == 0 else self._kept[source].n
        if destination == 0:
            self._working.become(self._kept[source], n)
        else:
            held = self._working.held(n) if source == 0 else self._kept[source].beginning(n)
            self._kept[destination] = held

    def checkpoint(self) -> State:
        """See `Driver`."""
        return pack(self._working.states)

    def restore(self, checkpoint: State, n_keep: int, sequence: int = 0) -> bool:
        """See `Driver`."""
        try:
            states = tuple(unpack(checkpoint))
        except Exception:
            return False
        n = self._working.n if sequence == 0 else self._kept[sequence].n
        if n_keep > n or not self._working.fit(states):
            return False
        self._cut(n_keep, sequence)
        if sequence == 0:
            self._working.set_states(states)
        else:
            held = self._kept[sequence]
            self._kept[sequence] = Held(held.n, held.blocks, states)
        return True

    def save(self, sequence: int) -> State:
        """See `Driver`."""
        held = self._working.held(self._working.n) if sequence == 0 else self._kept[sequence]
        return pack([held.blocks, held.states])

    def load(self, state: State, n_tokens: int) -> bool:
        """See `Driver`."""
        try:
            held = Held(n_tokens, *unpack(state))
            if self._working.fits(held):
                self._working.become(held, n_tokens)
                return True
        except Exception:  # damaged data may raise anything
            pass
        self.clear()
        return False

    def close(self) -> None:
        """Free the model. Safe to call twice."""
        self._model = None
        self._kept = []
        self._working = Working(list)
        self._mx.clear_cache()


def _choose_device(mx: Any, target: Target) -> str:
    """Select the GPU if there is one and the target wants it; returns the device's name."""
    if target.n_gpu_layers == 0:
        mx.set_default_device(mx.cpu)
    if mx.default_device() == mx.cpu:
        return "CPU"
    importlib.import_module("mlx_lm.utils").maybe_set_recommended_wired_limit()
    return str(mx.device_info().get("device_name", "GPU"))


def _load(mx: Any, folder: ModelFolder, on_progress: Callable[[float], bool]) -> Any:
    """The model with its weights in memory."""
    utils = importlib.import_module("mlx_lm.utils")
    flatten: Any = importlib.import_module("mlx.utils").tree_flatten
    try:
        model, _ = utils.load_model(folder.path, lazy=True, trust_remote_code=False)
        arrays: list[Any] = [array for _, array in flatten(model.parameters())]
    except Exception as error:
        raise failure(folder.path, error, folder.architecture) from None
    n_bytes = sum(array.nbytes for array in arrays)
    part: list[Any] = []
    n_part = n_done = 0
    for array in [*arrays, None]:
        if array is None or n_part >= _PART_BYTES:
            if not on_progress(n_done / max(1, n_bytes)):
                raise BackendError("internal", "Loading the model was stopped.")
            try:
                mx.eval(part)
            except (RuntimeError, MemoryError) as error:
                raise failure(folder.path, error) from None
            n_done += n_part
            n_part, part = 0, []
        if array is not None:
            part.append(array)
            n_part += array.nbytes
    if not on_progress(1.0):
        raise BackendError("internal", "Loading the model was stopped.")
    return model
