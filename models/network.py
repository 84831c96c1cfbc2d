"""The edit model: a small decoder of the Qwen2 architecture, so that llama.cpp and mlx-lm load it as it is.

RMSNorm before attention and SwiGLU, rotary positions (each head's halves turned, as in Hugging Face's Qwen2),
biases on queries, keys and values only, and the embedding also as the output.
Source of the shapes and names: `transformers` documentation of Qwen2, llama.cpp's `qwen2` graph.
"""

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class Shape:
    """Sizes; `width / n_heads` is the width of a head."""

    n_vocab: int = 2048
    n_layers: int = 6
    width: int = 256
    n_heads: int = 4
    hidden: int = 768
    n_ctx: int = 4096
    rope_base: float = 100_000.0
    norm_eps: float = 1e-6

    def plain(self) -> dict[str, Any]:
        """As a dictionary, for checkpoints."""
        return asdict(self)


class Network(nn.Module):
    """Token ids to hidden states; `logits` turns those that are wanted into scores."""

    future: Tensor
    """[n_ctx, n_ctx]: minus infinity where a place would see a later one."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.embedding = nn.Embedding(shape.n_vocab, shape.width)
        self.layers = nn.ModuleList(_Layer(shape) for _ in range(shape.n_layers))
        self.norm = nn.RMSNorm(shape.width, eps=shape.norm_eps)
        future = torch.full((shape.n_ctx, shape.n_ctx), float("-inf")).triu(1)
        self.register_buffer("future", future, persistent=False)
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                spread = 0.02 if "embedding" in name else 0.5 / parameter.shape[1] ** 0.5
                nn.init.normal_(parameter, std=spread)

    def forward(self, tokens: Tensor, positions: Tensor) -> Tensor:
        """Hidden states [batch, length, width] of tokens [batch, length] at positions [batch, length]."""
        half = self.shape.width // self.shape.n_heads // 2
        rates = self.shape.rope_base ** (-torch.arange(half, dtype=torch.float32) / half)
        angles = positions[:, None, :, None].float() * rates
        x = self.embedding(tokens)
        turn = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
        future = self.future[: tokens.shape[1], : tokens.shape[1]]
        for layer in self.layers:
            x = layer(x, turn, future)
        return self.norm(x)

    def logits(self, states: Tensor) -> Tensor:
        """Scores [..., n_vocab] of hidden states [..., width]."""
        return functional.linear(states, self.embedding.weight)


class _Layer(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.n_heads = shape.n_heads
        self.attention_norm = nn.RMSNorm(shape.width, eps=shape.norm_eps)
        self.qkv = nn.Linear(shape.width, 3 * shape.width)
        self.output = nn.Linear(shape.width, shape.width, bias=False)
        self.hidden_norm = nn.RMSNorm(shape.width, eps=shape.norm_eps)
        self.gate_up = nn.Linear(shape.width, 2 * shape.hidden, bias=False)
        self.down = nn.Linear(shape.hidden, shape.width, bias=False)

    def forward(self, x: Tensor, turn: tuple[Tensor, Tensor], future: Tensor) -> Tensor:
        n_batch, n_length, width = x.shape
        qkv = self.qkv(self.attention_norm(x)).view(n_batch, n_length, 3, self.n_heads, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        mixed = _attention(_turned(q, turn), _turned(k, turn), v, future)
        x = x + self.output(mixed.transpose(1, 2).reshape(n_batch, n_length, width))
        gate, up = self.gate_up(self.hidden_norm(x)).chunk(2, dim=-1)
        return x + self.down(functional.silu(gate) * up)


def _attention(q: Tensor, k: Tensor, v: Tensor, future: Tensor) -> Tensor:
    """Causal attention, written out, with what is not to be seen as a table of minus infinities.

    On two cores a training step with it takes 84 % of the time of one that fills the places by comparing, and
    72 to 89 % of one with PyTorch's own attention (texts of 320 and 640 tokens, batches of 6,144).
    """
    scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5 + future
    return torch.softmax(scores, dim=-1) @ v


def _turned(x: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
    cos, sin = turn
    a, b = x.chunk(2, dim=-1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1)
