"""GGUF files with random weights: small ones for tests, real shapes for benchmarks.

A random model loads, tokenizes, prefills and decodes like any other, and only its replies are meaningless, so
everything except their quality can be tested and measured without downloading gigabytes. The tokenizer is
either trained here on a corpus, or taken from a vocab-only GGUF file such as those llama.cpp ships.

File format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

import importlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from singlepass_backends.base import RANDOM_MODEL_NAME, BackendError
from singlepass_backends.generation.template import CHATML_SOURCE

TensorType = Literal["F32", "F16", "Q8_0"]

_SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
_NORMAL, _CONTROL = 1, 3  # the GGUF token types used here
_RANDOM_BLOCK = 1 << 20  # values that are drawn once and repeated: drawing half a billion takes half a minute


@dataclass(frozen=True)
class Shape:
    """The sizes of a decoder-only transformer. `n_embd / n_head` is the width of a head."""

    n_layer: int = 2
    n_embd: int = 64
    n_head: int = 2
    n_head_kv: int = 1
    n_ff: int = 128
    n_ctx_train: int = 4096
    lfm2: bool = False
    """Every other layer keeps a recurrent state instead of a KV cache: such a model cannot trim."""
    n_window: int = 0
    """Sliding window of five of six layers in tokens, as in Gemma 3; 0 for full attention everywhere."""


SHAPE_0_5B = Shape(n_layer=24, n_embd=896, n_head=14, n_head_kv=2, n_ff=4864, n_ctx_train=32_768)
"""The shape of Qwen2.5-Coder-0.5B."""


def write_random_model(
    path: Path,
    *,
    corpus: Iterable[str],
    n_vocab: int = 2048,
    shape: Shape | None = None,
    seed: int = 0,
    tensor_type: TensorType = "F16",
    words: Literal["gpt-2", "qwen2"] = "gpt-2",
) -> None:
    """Write a random model with a byte-level BPE tokenizer trained on `corpus`, under 2 MB by default.

    The same arguments give the same file. A small corpus gives fewer than `n_vocab` tokens. `words` names the
    pre-tokenizer; transformers always uses that of `qwen2` for this architecture, whatever a file says.
    Raises BackendError `unsupported` where the packages of the extra `demo` are missing, OSError for the
    path.
    """
    tokens, merges = _train_tokenizer(corpus, n_vocab)

    def add_tokenizer(writer: Any) -> int:
        n_plain = len(tokens)
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(words)
        writer.add_token_list([*tokens, *_SPECIAL_TOKENS])
        writer.add_token_types([_NORMAL] * n_plain + [_CONTROL] * len(_SPECIAL_TOKENS))
        writer.add_token_merges(merges)
        writer.add_eos_token_id(n_plain + 2)
        writer.add_pad_token_id(n_plain)
        writer.add_add_bos_token(False)
        writer.add_chat_template(CHATML_SOURCE)
        return n_plain + len(_SPECIAL_TOKENS)

    _write(path, add_tokenizer, shape or Shape(), seed, tensor_type)


def write_random_model_with_vocab(
    path: Path,
    *,
    vocab: Path,
    shape: Shape = SHAPE_0_5B,
    seed: int = 0,
    tensor_type: TensorType = "Q8_0",
) -> None:
    """Write a random model of `shape` with the tokenizer of the GGUF file `vocab`: for speed measurements.

    Raises BackendError `unsupported` where the packages of the extra `demo` are missing, OSError for paths.
    """
    gguf = _import("gguf")
    source = gguf.GGUFReader(str(vocab))

    def add_tokenizer(writer: Any) -> int:
        for name, field in source.fields.items():
            if name.startswith("tokenizer."):
                item = field.types[1] if len(field.types) > 1 else None
                writer.add_key_value(name, field.contents(), field.types[0], sub_type=item)
        if source.get_field("tokenizer.chat_template") is None:
            writer.add_chat_template(CHATML_SOURCE)
        return len(source.get_field("tokenizer.ggml.tokens").data)

    _write(path, add_tokenizer, shape, seed, tensor_type)


def _import(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise BackendError(
            "unsupported",
            f"Writing a random model needs the package `{name}`. Install the extra: "
            "pip install 'singlepass[models]'",
        ) from None


def _train_tokenizer(corpus: Iterable[str], n_vocab: int) -> tuple[list[str], list[str]]:
    tokenizers = _import("tokenizers")
    models, trainers = _import("tokenizers.models"), _import("tokenizers.trainers")
    pre_tokenizers = _import("tokenizers.pre_tokenizers")
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=n_vocab - len(_SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus, trainer)
    vocab: dict[str, int] = tokenizer.get_vocab()
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    return sorted(vocab, key=vocab.__getitem__), [m if isinstance(m, str) else " ".join(m) for m in merges]


def _write(path: Path, add_tokenizer: Any, shape: Shape, seed: int, tensor_type: TensorType) -> None:
    gguf = _import("gguf")
    quants = _import("gguf.quants")
    architecture = "lfm2" if shape.lfm2 else "gemma3" if shape.n_window else "qwen2"
    recurrent = [shape.lfm2 and layer % 2 == 0 for layer in range(shape.n_layer)]
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_name(RANDOM_MODEL_NAME)
    writer.add_context_length(shape.n_ctx_train)
    writer.add_embedding_length(shape.n_embd)
    writer.add_block_count(shape.n_layer)
    writer.add_feed_forward_length(shape.n_ff)
    writer.add_head_count(shape.n_head)
    writer.add_head_count_kv(
        [0 if r else shape.n_head_kv for r in recurrent] if shape.lfm2 else shape.n_head_kv
    )
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(1_000_000.0)
    if shape.lfm2:
        writer.add_shortconv_l_cache(3)
    if shape.n_window:
        writer.add_sliding_window(shape.n_window)
        writer.add_key_length(shape.n_embd // shape.n_head)
        writer.add_value_length(shape.n_embd // shape.n_head)
    n_vocab = add_tokenizer(writer)
    if shape.lfm2:
        writer.add_vocab_size(n_vocab)

    # Written tensor by tensor, so that a large model needs no more memory than its largest tensor.
    weight_type = gguf.GGMLQuantizationType[tensor_type]
    random = np.random.default_rng(seed)
    values = (random.standard_normal(_RANDOM_BLOCK, dtype=np.float32) / np.sqrt(shape.n_embd)).reshape(-1, 32)
    block: Any = quants.quantize(values, weight_type).view(np.uint8).reshape(-1)
    tensors: list[tuple[tuple[int, ...], bool]] = []
    for name, size, is_weight in _tensors(shape, recurrent, n_vocab):
        kind = weight_type if is_weight else gguf.GGMLQuantizationType.F32
        block_size, type_size = gguf.GGML_QUANT_SIZES[kind]
        n_bytes = int(np.prod(size)) // block_size * type_size
        # A quantized tensor is announced by its size in bytes, as gguf's own `add_tensor` does.
        announced = (*size[:-1], size[-1] // block_size * type_size) if kind.name == "Q8_0" else size
        dtype = np.uint8 if kind.name == "Q8_0" else np.float16 if kind.name == "F16" else np.float32
        writer.add_tensor_info(name, announced, np.dtype(dtype), n_bytes, raw_dtype=kind)
        tensors.append((size, is_weight))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    type_block, type_bytes = gguf.GGML_QUANT_SIZES[weight_type]
    for size, is_weight in tensors:
        if is_weight:
            n_bytes = int(np.prod(size)) // type_block * type_bytes
            start = int(random.random() * (block.size // 136)) * 136  # whole values in every type
            writer.write_tensor_data(np.resize(np.roll(block, -start), n_bytes))
        else:
            writer.write_tensor_data(np.full(size, 1.0 if len(size) == 1 else 0.02, dtype=np.float32))
    writer.close()


def _tensors(
    shape: Shape, recurrent: list[bool], n_vocab: int
) -> Iterable[tuple[str, tuple[int, ...], bool]]:
    """Name, size (rows first) and whether it is a weight (random) or a norm (constant)."""
    n, n_kv = shape.n_embd, shape.n_embd // shape.n_head * shape.n_head_kv
    yield "token_embd.weight", (n_vocab, n), True
    yield ("token_embd_norm.weight" if shape.lfm2 else "output_norm.weight"), (n,), False
    for layer, is_recurrent in enumerate(recurrent):
        block = f"blk.{layer}."
        yield block + "attn_norm.weight", (n,), False
        yield block + "ffn_norm.weight", (n,), False
        if is_recurrent:
            yield block + "shortconv.conv.weight", (n, 3), False
            yield block + "shortconv.in_proj.weight", (3 * n, n), True
            yield block + "shortconv.out_proj.weight", (n, n), True
        else:
            yield block + "attn_q.weight", (n, n), True
            yield block + "attn_k.weight", (n_kv, n), True
            yield block + "attn_v.weight", (n_kv, n), True
            yield block + "attn_output.weight", (n, n), True
            if shape.lfm2 or shape.n_window:
                yield block + "attn_q_norm.weight", (n // shape.n_head,), False
                yield block + "attn_k_norm.weight", (n // shape.n_head,), False
            if shape.n_window:
                yield block + "post_attention_norm.weight", (n,), False
                yield block + "post_ffw_norm.weight", (n,), False
            elif not shape.lfm2:
                yield block + "attn_q.bias", (n,), False
                yield block + "attn_k.bias", (n_kv,), False
                yield block + "attn_v.bias", (n_kv,), False
        yield block + "ffn_gate.weight", (shape.n_ff, n), True
        yield block + "ffn_up.weight", (shape.n_ff, n), True
        yield block + "ffn_down.weight", (n, shape.n_ff), True
