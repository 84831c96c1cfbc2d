"""The sizes of the edit model."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Shape:
    """Sizes; `width / n_heads` is the width of a head."""

    n_vocab: int = 2048
    n_layers: int = 7
    width: int = 192
    n_heads: int = 6
    hidden: int = 512
    n_ctx: int = 4096
    rope_base: float = 100_000.0
    norm_eps: float = 1e-6

    def plain(self) -> dict[str, Any]:
        """As a dictionary, for checkpoints."""
        return asdict(self)
