"""Write the trained weights as a GGUF file, and on request as a folder for mlx-lm.

    python models/export.py --folder FOLDER [--mlx OUT]

reads `checkpoint.pt` and `vocabulary.json` of a training folder. The same checkpoint gives the same bytes.
"""

import argparse
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from network import Shape
from numpy.typing import NDArray
from singlepass_backends.generation.template import CHATML_SOURCE
from singlepass_backends.gguf_to_mlx import write_mlx_model
from tokenizer import END_OF_TEXT, END_OF_TURN, SPECIAL_TOKENS, Vocabulary
from train import vocabulary

NAME = "singlepass demo model"
_NORMAL, _CONTROL = 1, 3  # GGUF token types


def write_gguf(path: Path, shape: Shape, weights: dict[str, torch.Tensor], words: Vocabulary) -> None:
    """The weights in half precision, the norms and biases in single, as llama.cpp's `qwen2` wants them."""
    writer = gguf.GGUFWriter(path, "qwen2")
    writer.add_name(NAME)
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
    for name, values in _tensors(shape, weights):
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _tensors(shape: Shape, weights: dict[str, torch.Tensor]) -> list[tuple[str, NDArray[Any]]]:
    def matrix(values: torch.Tensor) -> NDArray[Any]:
        return values.numpy().astype(np.float16)

    def vector(values: torch.Tensor) -> NDArray[Any]:
        return values.numpy().astype(np.float32)

    tensors = [
        ("token_embd.weight", matrix(weights["embedding.weight"])),
        ("output_norm.weight", vector(weights["norm.weight"])),
    ]
    for i in range(shape.n_layers):
        layer, block = f"layers.{i}.", f"blk.{i}."
        q, k, v = weights[layer + "qkv.weight"].chunk(3)
        q_bias, k_bias, v_bias = weights[layer + "qkv.bias"].chunk(3)
        gate, up = weights[layer + "gate_up.weight"].chunk(2)
        tensors += [
            (block + "attn_norm.weight", vector(weights[layer + "attention_norm.weight"])),
            (block + "attn_q.weight", matrix(q)),
            (block + "attn_k.weight", matrix(k)),
            (block + "attn_v.weight", matrix(v)),
            (block + "attn_q.bias", vector(q_bias)),
            (block + "attn_k.bias", vector(k_bias)),
            (block + "attn_v.bias", vector(v_bias)),
            (block + "attn_output.weight", matrix(weights[layer + "output.weight"])),
            (block + "ffn_norm.weight", vector(weights[layer + "hidden_norm.weight"])),
            (block + "ffn_gate.weight", matrix(gate)),
            (block + "ffn_up.weight", matrix(up)),
            (block + "ffn_down.weight", matrix(weights[layer + "down.weight"])),
        ]
    return tensors


def main() -> None:
    """Export what was trained."""
    parser = argparse.ArgumentParser(description="Export the trained edit model.")
    parser.add_argument("--folder", type=Path, required=True, help="of the training")
    parser.add_argument("--out", type=Path, default=Path("edit.gguf"))
    parser.add_argument("--mlx", type=Path, help="a new folder for mlx-lm")
    asked = parser.parse_args()
    saved = torch.load(asked.folder / "checkpoint.pt", weights_only=True, map_location="cpu")
    write_gguf(asked.out, Shape(**saved["shape"]), saved["weights"], vocabulary(asked.folder, 0))
    if asked.mlx:
        write_mlx_model(asked.mlx, asked.out, "F16")
    n = sum(values.numel() for values in saved["weights"].values())
    print(f"{n / 1e6:.2f} M parameters after {saved['n_tokens'] / 1e6:.1f} M tokens: {asked.out}")


if __name__ == "__main__":
    main()
