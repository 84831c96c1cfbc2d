"""A model's vocabulary and metadata, read through llama.cpp."""

import ctypes
import re
from typing import Any


class Vocabulary:
    """The vocabulary of one loaded model."""

    def __init__(self, lib: Any, model: Any) -> None:
        """Reads the whole vocabulary once; `lib` is the module `llama_cpp`, `model` a handle of a model."""
        self._lib = lib
        self._vocab = vocab = lib.llama_model_get_vocab(model)
        self._buffer: Any = ctypes.create_string_buffer(256)
        self.n_vocab = int(lib.llama_vocab_n_tokens(vocab))
        tokens = range(self.n_vocab)
        self.eog_tokens = frozenset(token for token in tokens if lib.llama_vocab_is_eog(vocab, token))
        control = lib.LLAMA_TOKEN_ATTR_CONTROL
        self.control_tokens = frozenset(
            token for token in tokens if lib.llama_vocab_get_attr(vocab, token) & control
        )
        self.pieces = [b"" if token in self.control_tokens else self._piece(token) for token in tokens]
        """The bytes of each token; empty for control tokens."""
        bos, eos = int(lib.llama_vocab_bos(vocab)), int(lib.llama_vocab_eos(vocab))
        self.bos_tokens = (bos,) if bos >= 0 and lib.llama_vocab_get_add_bos(vocab) else ()
        self.special_texts = {
            name: self._piece(token, special=True).decode("utf-8", "replace")
            for name, token in (("bos_token", bos), ("eos_token", eos))
            if token >= 0
        }
        template = lib.llama_model_chat_template(model, None)
        self.chat_template: str | None = template.decode("utf-8", "replace") if template else None

    def tokenize(self, text: bytes, *, special: bool) -> list[int]:
        """See `Driver`."""
        size = len(text) // 3 + 16
        while True:
            tokens = (ctypes.c_int32 * size)()
            n = self._lib.llama_tokenize(self._vocab, text, len(text), tokens, size, False, special)
            if n >= 0:
                return tokens[:n]
            size = -n

    def _piece(self, token: int, *, special: bool = False) -> bytes:
        while True:
            size = len(self._buffer)
            n = self._lib.llama_token_to_piece(self._vocab, token, self._buffer, size, 0, special)
            if n >= 0:
                return self._buffer.raw[:n]
            self._buffer = ctypes.create_string_buffer(-n)


def metadata(lib: Any, model: Any, key: str) -> str:
    """A value of the model file's metadata; empty if it is missing."""
    size = 256
    while True:
        buffer = ctypes.create_string_buffer(size)
        needed = lib.llama_model_meta_val_str(model, key.encode(), buffer, size)
        if needed < size:
            return buffer.value.decode("utf-8", "replace") if needed >= 0 else ""
        size = needed + 1


def device_names(load_log: list[str]) -> str:
    """The devices that llama.cpp uses, e.g. `Apple M2`, from its log, since its API does not tell."""
    found = (re.search(r"using device \S+ \((.*?)\)", line) for line in load_log)
    return ", ".join(dict.fromkeys(match[1] for match in found if match)) or "CPU"
