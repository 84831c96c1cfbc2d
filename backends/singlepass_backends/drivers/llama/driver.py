"""llama.cpp through the low-level API of llama-cpp-python: implements `generation.driver.Driver`, nothing
else.

The high-level `Llama` class is not used: it detokenizes everything again for each token, disables flash
attention and drops invalid bytes. ctypes callbacks must stay referenced for as long as llama.cpp may call
them, or the process crashes. API: https://github.com/ggml-org/llama.cpp/blob/master/include/llama.h
"""

import ctypes
import importlib
import logging
import re
import time
from collections import deque
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
from singlepass_backends.drivers.llama.gguf_header import read_header
from singlepass_backends.drivers.llama.vocabulary import Vocabulary, device_names, metadata
from singlepass_backends.generation.driver import Interrupted, State
from singlepass_backends.machine.facts import N_CTX_MOST, N_RECURRENT_SEQUENCES
from singlepass_backends.stop_flag import StopFlag

_N_SEQUENCES = 17
N_BRANCHES = 16
_ABORTED = 2  # returned by llama_decode when the abort callback ended it

_log = logging.getLogger(__name__)
_log_lines: deque[str] = deque(maxlen=200)
_log_callback: Any = None  # kept: llama.cpp calls it from any thread, at any time
_KV_TYPES = {"f16": "GGML_TYPE_F16", "q8_0": "GGML_TYPE_Q8_0", "q4_0": "GGML_TYPE_Q4_0"}
_OUT_OF_MEMORY = re.compile(
    r"out of memory|bad_alloc|failed to allocate|unable to allocate|cannot allocate", re.IGNORECASE
)


def load_library() -> Any:
    """The `llama_cpp` module, its log routed to `logging`. Raises BackendError `unsupported`."""
    global _log_callback
    try:
        library = importlib.import_module("llama_cpp")
    except (ImportError, OSError, RuntimeError) as error:
        raise BackendError(
            "unsupported",
            f"llama-cpp-python cannot be loaded: {error}. Reinstall it: pip install --force-reinstall "
            "llama-cpp-python",
        ) from None
    if _log_callback is None:
        callback_type = importlib.import_module("llama_cpp.llama_cpp").llama_log_callback
        _log_callback = callback_type(_on_log)
        library.llama_log_set(_log_callback, ctypes.c_void_p(0))
        library.llama_backend_init()
    return library


def _on_log(level: int, text: bytes, _user: Any) -> None:
    line = text.decode("utf-8", "replace").strip()
    if line and line != ".":
        _log_lines.append(line)
        _log.log({3: logging.WARNING, 4: logging.ERROR}.get(level, logging.DEBUG), "%s", line)


def failure(path: Path, log: list[str], architecture: str = "") -> BackendError:
    """The error for the model at `path`, from llama.cpp's log lines."""
    text = "\n".join(log)
    if "unknown model architecture" in text:
        return BackendError(
            "model_unsupported",
            f"{path} has the architecture {architecture!r}, which this llama.cpp does not know. Update "
            "llama-cpp-python, or choose another model.",
        )
    if _OUT_OF_MEMORY.search(text):
        return BackendError(
            "out_of_memory",
            f"There is not enough memory for {path}. Choose a smaller model or quantization, a smaller "
            "`n_ctx`, a quantized `kv_cache_type`, or fewer `n_gpu_layers`.",
        )
    errors = [line for line in log if re.search(r"error|fail|does not|invalid|missing", line, re.IGNORECASE)]
    detail = errors[0] if errors else log[-1] if log else "it gives no reason"
    return BackendError("model_invalid", f"llama.cpp cannot load {path}: {detail}")


class LlamaCppDriver:
    """One model and one context of llama.cpp; see `generation.driver.Driver`."""

    def __init__(self, target: Target, on_progress: Callable[[float], bool]) -> None:
        """Load `target.model`, calling `on_progress` with fractions from 0 to 1 until it returns False.

        Raises BackendError: `model_missing`, `model_invalid`, `model_unsupported`, `out_of_memory`,
        `unsupported` (settings that do not go together, a broken installation), `internal` when stopped.
        """
        start = time.perf_counter()
        self._load_log: list[str] = []
        path = Path(target.model)
        header = read_header(path)
        self._kv_cache_type = "f16" if target.kv_cache_type == "auto" else target.kv_cache_type
        if self._kv_cache_type != "f16" and not target.flash_attention:
            raise BackendError(
                "unsupported",
                "A quantized KV cache needs flash attention: set `flash_attention`, or use f16.",
            )
        self._lib = load_library()
        self._abort_callback: Any = importlib.import_module("llama_cpp.llama_cpp").ggml_abort_callback
        self._watched: StopFlag | None = None  # kept: llama.cpp reads it during each pass
        self._model: Any = None
        self._context: Any = None
        self._batch: Any = None
        try:
            self._load(path, target, header.architecture, on_progress)
            self._open(target, path)
        except BaseException:
            self.close()
            raise
        self._describe(path, target, header.size_bytes, (time.perf_counter() - start) * 1e3)

    def _load(
        self, path: Path, target: Target, architecture: str, on_progress: Callable[[float], bool]
    ) -> None:
        lib = self._lib
        params = lib.llama_model_default_params()
        params.use_extra_bufts = target.repack
        params.n_gpu_layers = target.n_gpu_layers if target.n_gpu_layers >= 0 else 999
        if not lib.llama_supports_gpu_offload():
            params.n_gpu_layers = 0
        is_stopped = False

        def progress(fraction: float, _user: Any) -> bool:
            nonlocal is_stopped
            is_stopped = not on_progress(fraction)
            return not is_stopped

        callback = importlib.import_module("llama_cpp.llama_cpp").llama_progress_callback(progress)
        params.progress_callback = callback
        _log_lines.clear()
        self._model = lib.llama_model_load_from_file(str(path).encode(), params)
        del callback  # llama.cpp calls it only while it loads
        self._load_log = list(_log_lines)
        if self._model:
            return
        if is_stopped:
            raise BackendError("internal", "Loading the model was stopped.")
        raise failure(path, self._load_log, architecture)

    def _open(self, target: Target, path: Path) -> None:
        lib = self._lib
        n_train = int(lib.llama_model_n_ctx_train(self._model))
        params = lib.llama_context_default_params()
        params.n_ctx = target.n_ctx or min(n_train or N_CTX_MOST, N_CTX_MOST)
        self._is_recurrent = bool(
            lib.llama_model_is_recurrent(self._model) or lib.llama_model_is_hybrid(self._model)
        )
        self.n_sequences = N_RECURRENT_SEQUENCES if self._is_recurrent else _N_SEQUENCES
        # A sliding-window cache reuses cells outside their sequence's window, but a trim would need them
        # again. Cells that a second sequence holds are not reused, so each of our sequences has two ids
        # there.
        self._is_sliding = lib.llama_model_n_swa(self._model) > 0
        n_ids = self.n_sequences * (2 if self._is_sliding else 1)
        # Each path to a leaf of a draft tree is its own sequence, which shares the cells before the tree.
        self.n_branches = 1 if self._is_recurrent or self._is_sliding else N_BRANCHES
        self._branches = range(n_ids, n_ids + (self.n_branches if self.n_branches > 1 else 0))
        self._are_joined = False
        """Whether the branches share all cells of sequence 0 at the moment."""
        n_ids += len(self._branches)
        params.n_seq_max = n_ids
        n_batch = max(1, min(target.n_batch, params.n_ctx))
        params.n_batch = params.n_ubatch = max(n_batch, n_ids)  # with less llama.cpp aborts
        params.kv_unified = True  # sequences share cells
        if target.n_threads:
            params.n_threads = params.n_threads_batch = target.n_threads
        params.flash_attn_type = (
            lib.LLAMA_FLASH_ATTN_TYPE_ENABLED
            if target.flash_attention
            else lib.LLAMA_FLASH_ATTN_TYPE_DISABLED
        )
        params.type_k = params.type_v = getattr(lib, _KV_TYPES[self._kv_cache_type])
        params.swa_full = True  # only a full sliding-window cache can be trimmed
        params.no_perf = True
        self._params = params
        self._path = path
        self._open_context()
        self.n_ctx = int(lib.llama_n_ctx(self._context))
        self.n_batch = n_batch
        # The batch's arrays are filled through numpy; positions, sequence 0 and `logits` are set per call.
        self._batch = lib.llama_batch_init(self.n_batch, 0, 2 + len(self._branches))
        as_array = np.ctypeslib.as_array
        self._tokens: NDArray[np.int32] = as_array(self._batch.token, shape=(self.n_batch,))
        self._positions: NDArray[np.int32] = as_array(self._batch.pos, shape=(self.n_batch,))
        self._wanted: NDArray[np.int8] = as_array(self._batch.logits, shape=(self.n_batch,))
        self._wanted[:] = 0
        self._steps = np.arange(self.n_batch, dtype=np.int32)
        self._own = self._ids(0)
        for index in range(self.n_batch):
            self._belongs(index, self._own)

    def _open_context(self) -> None:
        _log_lines.clear()
        self._context = self._lib.llama_init_from_model(self._model, self._params)
        if not self._context:
            raise failure(self._path, list(_log_lines))
        self._memory = self._lib.llama_get_memory(self._context)

    def _describe(self, path: Path, target: Target, size_bytes: int, load_ms: float) -> None:
        lib, model = self._lib, self._model
        vocabulary = Vocabulary(lib, model)
        self._vocabulary = vocabulary
        self._pieces = vocabulary.pieces
        self.n_vocab = vocabulary.n_vocab
        self.eog_tokens, self.control_tokens = vocabulary.eog_tokens, vocabulary.control_tokens
        self.bos_tokens, self.special_texts = vocabulary.bos_tokens, vocabulary.special_texts
        self.chat_template = vocabulary.chat_template
        parts = (
            fingerprint(path),
            str(importlib.import_module("llama_cpp").__version__),
            f"n_ctx={self.n_ctx} kv={self._kv_cache_type} flash={target.flash_attention}",
        )
        # A saved state holds only the last window of tokens: after loading and trimming, replies would be
        # wrong.
        self.state_key = "" if self._is_sliding else " ".join(parts)
        has_gpu = target.n_gpu_layers != 0 and lib.llama_supports_gpu_offload()
        self.info = ModelInfo(
            backend="llama_cpp",
            name=metadata(lib, model, "general.name") or path.stem,
            path=str(path),
            architecture=metadata(lib, model, "general.architecture"),
            n_params=int(lib.llama_model_n_params(model)),
            size_bytes=size_bytes,
            n_ctx=self.n_ctx,
            n_ctx_train=int(lib.llama_model_n_ctx_train(model)),
            n_vocab=self.n_vocab,
            can_trim=not self._is_recurrent,
            device=device_names(self._load_log) if has_gpu else "CPU",
            load_ms=load_ms,
        )

    def piece(self, token: int) -> bytes:
        """See `Driver`."""
        return self._pieces[token]

    def tokenize(self, text: bytes, *, special: bool) -> list[int]:
        """See `Driver`."""
        return self._vocabulary.tokenize(text, special=special)

    def forward(self, tokens: Sequence[int], position: int, *, n_logits: int) -> NDArray[np.float32] | None:
        """See `Driver`. Raises BackendError `out_of_memory` or `internal`."""
        n = len(tokens)
        np.add(self._steps[:n], position, out=self._positions[:n])
        if not n_logits:
            self._leave()  # only sequence 0 prefills
        if not self._are_joined:
            return self._decode(tokens, position, n_logits)
        for index in range(n):
            self._belongs(index, (0, *self._branches))
        try:
            return self._decode(tokens, position, n_logits)
        finally:
            self._belong_to_one(n)

    def branch(self, tokens: Sequence[int], position: int, parents: Sequence[int]) -> NDArray[np.float32]:
        """See `Driver`."""
        if not self._are_joined:
            for id in self._branches:
                self._lib.llama_memory_seq_cp(self._memory, 0, id, 0, position)
            self._are_joined = True
        n, n_first = len(tokens), len(tokens) - len(parents)
        np.add(self._steps[:n_first], position, out=self._positions[:n_first])
        for index in range(n_first):
            self._belongs(index, (0, *self._branches))
        ids: list[list[int]] = [[] for _ in parents]
        free = iter(self._branches)
        for node in reversed(range(len(parents))):
            ids[node] = ids[node] or [next(free)]  # a leaf
            if parents[node] >= 0:
                ids[parents[node]] += ids[node]
        depths: list[int] = []
        for node, parent in enumerate(parents):
            depths.append(depths[parent] + 1 if parent >= 0 else 0)
            self._belongs(n_first + node, ids[node])
        self._positions[n_first:n] = np.array(depths, np.int32) + (position + n_first)
        self._ends = [min(one) for one in ids]
        try:
            logits = self._decode(tokens, position, 1 + len(parents))
        finally:
            self._belong_to_one(n)
        assert logits is not None
        return logits

    def keep(self, position: int, nodes: Sequence[int]) -> None:
        """See `Driver`."""
        lib, memory = self._lib, self._memory
        end = position + len(nodes)
        kept = self._ends[nodes[-1]] if nodes else None
        others = [id for id in (0, *self._branches) if id != kept]
        for id in others:
            lib.llama_memory_seq_rm(memory, id, position, -1)
        if kept is not None:
            lib.llama_memory_seq_rm(memory, kept, end, -1)
            for id in others:
                lib.llama_memory_seq_cp(memory, kept, id, position, end)

    def _leave(self) -> None:
        """Remove the shared cells from the branches, before sequence 0 changes without them."""
        if self._are_joined:
            self._are_joined = False
            for id in self._branches:
                self._lib.llama_memory_seq_rm(self._memory, id, -1, -1)

    def _belongs(self, index: int, ids: Sequence[int]) -> None:
        """Assign the token at `index` of the batch to the sequences `ids`."""
        self._batch.n_seq_id[index] = len(ids)
        places = self._batch.seq_id[index]
        for place, id in enumerate(ids):
            places[place] = id

    def _belong_to_one(self, n: int) -> None:
        for index in range(n):
            self._belongs(index, self._own)

    def _decode(self, tokens: Sequence[int], position: int, n_logits: int) -> NDArray[np.float32] | None:
        """One pass over the batch, whose positions and sequences are set."""
        n = len(tokens)
        self._tokens[:n] = tokens
        self._batch.n_tokens = n
        self._wanted[n - n_logits : n] = 1
        _log_lines.clear()
        status = self._lib.llama_decode(self._context, self._batch)
        self._wanted[n - n_logits : n] = 0
        if status == _ABORTED:
            self.trim(position)
            raise Interrupted
        if status != 0:
            if _OUT_OF_MEMORY.search("\n".join(_log_lines)):
                raise failure(Path(self.info.path), list(_log_lines))
            detail = next(iter(_log_lines), "Its log says nothing.")
            raise BackendError("internal", f"llama_decode failed with {status}. {detail}")
        if not n_logits:
            # On a GPU the call returns before the work is done: wait, so that times are correct and a cancel
            # takes at most one chunk.
            self._lib.llama_synchronize(self._context)
            return None
        # The rows of a pass are contiguous.
        pointer = self._lib.llama_get_logits_ith(self._context, n - n_logits)
        return np.ctypeslib.as_array(pointer, shape=(n_logits, self.n_vocab))

    def watch(self, interrupt: Interrupt) -> bool:
        """See `Driver`. llama.cpp checks between the nodes of a pass, on a CPU only. Not for recurrent
        models, whose state would be left partly updated."""
        if self._is_recurrent or self.info.device != "CPU" or not isinstance(interrupt, StopFlag):
            self._watched = None
            self._lib.llama_set_abort_callback(self._context, self._abort_callback(), None)
            return False
        self._watched = interrupt
        # The callback is C's `strlen` on the flag's bytes: a Python function would take the GIL hundreds of
        # times per pass.
        strlen = ctypes.cast(ctypes.CDLL(None).strlen, self._abort_callback)
        self._lib.llama_set_abort_callback(self._context, strlen, interrupt.address)
        return True

    def clear(self) -> None:
        """See `Driver`."""
        self._lib.llama_memory_clear(self._memory, True)
        self._are_joined = False

    def _ids(self, sequence: int) -> tuple[int, ...]:
        """llama.cpp's ids for one of our sequences."""
        return (sequence, self.n_sequences + sequence) if self._is_sliding else (sequence,)

    def trim(self, n_keep: int, sequence: int = 0) -> bool:
        """See `Driver`."""
        ids = self._ids(sequence)
        if sequence == 0 and self._are_joined:
            ids = (*ids, *self._branches)
        # A list, not a generator: all ids must be trimmed even if one fails.
        trimmed = [self._lib.llama_memory_seq_rm(self._memory, id, n_keep, -1) for id in ids]
        return all(trimmed)

    def copy(self, source: int, destination: int, n: int) -> None:
        """See `Driver`."""
        if destination == 0:
            self._leave()
        for id in self._ids(destination):
            self._lib.llama_memory_seq_cp(self._memory, source, id, 0, -1 if self._is_recurrent else n)

    def checkpoint(self) -> State:
        """See `Driver`."""
        return self._state(0, self._lib.LLAMA_STATE_SEQ_FLAGS_PARTIAL_ONLY)

    def restore(self, checkpoint: State, n_keep: int, sequence: int = 0) -> bool:
        """See `Driver`."""
        self._leave()
        partial = self._lib.LLAMA_STATE_SEQ_FLAGS_PARTIAL_ONLY
        return self._set_state(checkpoint, sequence, partial) and self.trim(n_keep, sequence)

    def save(self, sequence: int) -> State:
        """See `Driver`."""
        return self._state(sequence, self._lib.LLAMA_STATE_SEQ_FLAGS_NONE)

    def load(self, state: State, n_tokens: int) -> bool:
        """See `Driver`."""
        self._leave()
        none = self._lib.LLAMA_STATE_SEQ_FLAGS_NONE
        is_loaded = not self._is_sliding and self._set_state(state, 0, none)
        if is_loaded and self._lib.llama_memory_seq_pos_max(self._memory, 0) == n_tokens - 1:
            return True
        # A failed load can leave the context unusable.
        self._lib.llama_free(self._context)
        self._context = None
        self._open_context()
        return False

    def _state(self, sequence: int, flags: int) -> State:
        size = self._lib.llama_state_seq_get_size_ext(self._context, sequence, flags)
        state = np.empty(size, dtype=np.uint8)
        n = self._lib.llama_state_seq_get_data_ext(self._context, _pointer(state), size, sequence, flags)
        return state.data[:n]

    def _set_state(self, state: State, sequence: int, flags: int) -> bool:
        size = len(state)
        if size == 0:
            return False
        data = _pointer(np.frombuffer(state, dtype=np.uint8))
        return self._lib.llama_state_seq_set_data_ext(self._context, data, size, sequence, flags) == size

    def close(self) -> None:
        """Free the model. Safe to call twice."""
        if self._batch is not None:
            self._lib.llama_batch_free(self._batch)
        if self._context:
            self._lib.llama_free(self._context)
        if self._model:
            self._lib.llama_model_free(self._model)
        self._batch = self._context = self._model = None


def _pointer(data: NDArray[np.uint8]) -> Any:
    return data.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))
