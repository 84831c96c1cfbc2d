"""Write the trained weights as a GGUF file, and on request as a folder for mlx-lm.

    python models/export.py --folder FOLDER [--mlx OUT]

reads `checkpoint.pt` and `vocabulary.json` of a training folder. The same checkpoint gives the same bytes.
"""

import argparse
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from numpy.typing import NDArray
from shape import Shape
from singlepass_backends.base import DEMO_MODEL, DEMO_MODEL_NAME
from singlepass_backends.generation.template import CHATML_SOURCE
from singlepass_backends.testing.gguf_to_mlx import write_mlx_model
from tokenizer import END_OF_TEXT, END_OF_TURN, SPECIAL_TOKENS, Vocabulary, read_vocabulary

_NORMAL, _CONTROL = 1, 3  # GGUF token types

Weights = dict[str, NDArray[Any]]
"""By the names of the network's parameters."""


def write_gguf(path: Path, shape: Shape, weights: Weights, words: Vocabulary) -> None:
    """The weights in half precision, the norms and biases in single, as llama.cpp's `qwen2` wants them."""
    writer = gguf.GGUFWriter(path, "qwen2")
    writer.add_name(DEMO_MODEL_NAME)
    writer.add_license("MIT")
    writer.add_context_length(shape.n_ctx)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.n_layers)
    writer.add_feed_forward_length(shape.hidden)
    writer.add_head_count(shape.n_heads)
    writer.add_head_count_kv(shape.n_heads)
    writer.add_layer_norm_rms_eps(shape.norm_eps)
    writer.add_rope_freq_base(shape.rope_base)
    n_plain = len(words.tokens)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([*words.tokens, *SPECIAL_TOKENS])
    writer.add_token_types([_NORMAL] * n_plain + [_CONTROL] * len(SPECIAL_TOKENS))
    writer.add_token_merges(words.merges)
    writer.add_eos_token_id(n_plain + SPECIAL_TOKENS.index(END_OF_TURN))
    writer.add_pad_token_id(n_plain + SPECIAL_TOKENS.index(END_OF_TEXT))
    writer.add_add_bos_token(False)
    writer.add_chat_template(CHATML_SOURCE)
    for name, parts in _names(shape).items():
        for part, values in zip(parts, np.split(weights[name], len(parts)), strict=True):
            writer.add_tensor(part, values.astype(np.float16 if values.ndim == 2 else np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def read_gguf(path: Path) -> tuple[Shape, Weights, Vocabulary]:
    """What `write_gguf` wrote, so that training can go on from it."""
    reader = gguf.GGUFReader(str(path))
    tensors = {tensor.name: np.array(tensor.data) for tensor in reader.tensors}

    def field(name: str) -> Any:
        return reader.fields[name].contents()

    shape = Shape(
        n_vocab=len(field("tokenizer.ggml.tokens")),
        n_layers=field("qwen2.block_count"),
        width=field("qwen2.embedding_length"),
        n_heads=field("qwen2.attention.head_count"),
        hidden=field("qwen2.feed_forward_length"),
        n_ctx=field("qwen2.context_length"),
        rope_base=field("qwen2.rope.freq_base"),
        norm_eps=field("qwen2.attention.layer_norm_rms_epsilon"),
    )
    tokens = field("tokenizer.ggml.tokens")[: -len(SPECIAL_TOKENS)]
    names = _names(shape)
    weights = {
        name: np.concatenate([tensors[part] for part in parts]).astype(np.float32)
        for name, parts in names.items()
    }
    return shape, weights, Vocabulary(tokens, field("tokenizer.ggml.merges"))


def _names(shape: Shape) -> dict[str, list[str]]:
    """For each of the network's parameters the tensors of the file that lie in it, one above the other."""
    names = {"embedding.weight": ["token_embd.weight"], "norm.weight": ["output_norm.weight"]}
    for i in range(shape.n_layers):
        layer, block = f"layers.{i}.", f"blk.{i}."
        names[layer + "attention_norm.weight"] = [block + "attn_norm.weight"]
        for kind in ("weight", "bias"):
            names[f"{layer}qkv.{kind}"] = [f"{block}attn_{part}.{kind}" for part in "qkv"]
        names[layer + "output.weight"] = [block + "attn_output.weight"]
        names[layer + "hidden_norm.weight"] = [block + "ffn_norm.weight"]
        names[layer + "gate_up.weight"] = [block + "ffn_gate.weight", block + "ffn_up.weight"]
        names[layer + "down.weight"] = [block + "ffn_down.weight"]
    return names


def main() -> None:
    """Export what was trained."""
    parser = argparse.ArgumentParser(description="Export the trained edit model.")
    parser.add_argument("--folder", type=Path, required=True, help="of the training")
    parser.add_argument("--out", type=Path, default=DEMO_MODEL)
    parser.add_argument("--mlx", type=Path, help="a new folder for mlx-lm")
    asked = parser.parse_args()
    import torch  # here: reading and writing need it not

    saved = torch.load(asked.folder / "checkpoint.pt", weights_only=True, map_location="cpu")
    weights = {name: values.numpy() for name, values in saved["weights"].items()}
    write_gguf(asked.out, Shape(**saved["shape"]), weights, read_vocabulary(asked.folder / "vocabulary.json"))
    if asked.mlx:
        write_mlx_model(asked.mlx, asked.out, "F16")
    n = sum(values.size for values in weights.values())
    print(f"{n / 1e6:.2f} M parameters after {saved['n_tokens'] / 1e6:.1f} M tokens: {asked.out}")


if __name__ == "__main__":
    main()
