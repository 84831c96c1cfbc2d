"""The tokenizer of a model folder (`tokenizer.json`), through the package `tokenizers`; lossless.

Tokenizers may normalize text (Qwen's composes accents) or prepend a space. We tokenize files in pieces and
need the same bytes back, so both steps are removed before the tokenizer is built, as in llama.cpp. A
tokenizer that still changes text is rejected.

Format: https://huggingface.co/docs/tokenizers
"""

import importlib
import re
from typing import Any, cast

import msgspec

from singlepass_backends.base import BackendError
from singlepass_backends.drivers.mlx.model_folder import ModelFolder, read_object

_ENDS_OF_TURN = (
    "<|im_end|>",
    "<|endoftext|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|end_of_text|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<end_of_turn>",
    "<end_of_utterance>",
    "<EOT>",
    "<｜end▁of▁sentence｜>",
)
"""Tokens that end a reply whatever the config says, as in llama.cpp: many configs name only one of two."""

_SAMPLE = "def f(a):\n\treturn  'naïve e\u0301 日本 🙂'\r\n\n    # \x00 x\n"
_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_SPACE = "\u2581"  # what SentencePiece writes for a space


class HfTokenizer:
    """Text to tokens and back, and which tokens are special."""

    def __init__(self, folder: ModelFolder, n_vocab: int) -> None:
        """`n_vocab` is the size of the model's vocabulary, which may be larger than the tokenizer's.

        Raises BackendError: `model_invalid`, `model_unsupported`.
        """
        self._path = folder.path / "tokenizer.json"
        data = read_object(self._path)
        is_byte_level = _mentions(data.get("pre_tokenizer"), "ByteLevel") or _mentions(
            data.get("decoder"), "ByteLevel"
        )
        self._tokenizer: Any = self._build(_exact(data, is_byte_level=is_byte_level))
        vocab: dict[str, int] = self._tokenizer.get_vocab(with_added_tokens=True)
        if max(vocab.values(), default=0) >= n_vocab:
            raise BackendError(
                "model_invalid",
                f"{self._path} has {max(vocab.values()) + 1:,} tokens, but the model only {n_vocab:,}: they "
                "do not belong together.",
            )
        added: dict[int, Any] = self._tokenizer.get_added_tokens_decoder()
        special = {id for id, token in added.items() if token.special}
        unused = set(range(n_vocab)).difference(vocab.values())
        self.control_tokens = frozenset(special | unused)
        as_bytes = _byte_level_bytes if is_byte_level else _sentencepiece_bytes
        self._pieces = [b""] * n_vocab
        for text, id in vocab.items():
            if id not in special:
                self._pieces[id] = text.encode() if is_byte_level and id in added else as_bytes(text)
        self.special_texts = {
            name: text
            for name in ("bos_token", "eos_token")
            if (text := _text(folder.tokenizer_config.get(name)))
        }
        ends = (*_ENDS_OF_TURN, self.special_texts.get("eos_token", ""))
        named = {vocab[text] for text in ends if vocab.get(text) in special}
        self.eog_tokens = frozenset(named | {id for id in folder.eos_ids if 0 <= id < n_vocab})
        bos = vocab.get(self.special_texts.get("bos_token", ""))
        wants_bos = folder.tokenizer_config.get("add_bos_token")
        if not isinstance(wants_bos, bool):
            wants_bos = _begins_with(data.get("post_processor")) == self.special_texts.get("bos_token")
        self.bos_tokens = (bos,) if wants_bos and bos is not None else ()
        self._check()

    def tokenize(self, text: bytes, *, special: bool) -> list[int]:
        """See `Driver`."""
        self._tokenizer.encode_special_tokens = not special
        return self._tokenizer.encode(text.decode("utf-8", "replace"), add_special_tokens=False).ids

    def piece(self, token: int) -> bytes:
        """See `Driver`."""
        return self._pieces[token]

    def _build(self, data: dict[str, Any]) -> Any:
        tokenizers = importlib.import_module("tokenizers")
        try:
            tokenizer = tokenizers.Tokenizer.from_str(msgspec.json.encode(data).decode())
        except Exception as error:  # `tokenizers` raises plain Exception
            raise BackendError("model_invalid", f"{self._path} cannot be used: {error}") from None
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return tokenizer

    def _check(self) -> None:
        if not self.eog_tokens:
            raise BackendError(
                "model_invalid",
                f"Nothing in {self._path.parent} says which token ends a reply: config.json needs an "
                "`eos_token_id`.",
            )
        tokens = self.tokenize(_SAMPLE.encode(), special=False)
        if b"".join(map(self.piece, tokens)) != _SAMPLE.encode():
            raise BackendError(
                "model_unsupported",
                f"The tokenizer in {self._path} changes text, so files would not come back as they are. "
                "Choose a model with a byte-level tokenizer.",
            )


def _exact(data: dict[str, Any], *, is_byte_level: bool) -> dict[str, Any]:
    """The tokenizer's data without the steps that change text: normalization, a prepended space, and tokens
    that strip the white space around them."""
    normalizer = None
    if not is_byte_level and _mentions(data.get("normalizer"), "Replace"):
        normalizer = {"type": "Replace", "pattern": {"String": " "}, "content": _SPACE}
    pre_tokenizer = _without_prefix(data.get("pre_tokenizer"))
    added = [
        {**cast("dict[str, Any]", token), "lstrip": False, "rstrip": False}
        for token in cast("list[Any]", data.get("added_tokens") or [])
    ]
    return {
        **data,
        "added_tokens": added,
        "normalizer": normalizer,
        "pre_tokenizer": pre_tokenizer,
        "post_processor": None,
    }


def _without_prefix(step: Any) -> Any:
    if isinstance(step, list):
        return [_without_prefix(item) for item in cast("list[Any]", step)]
    if not isinstance(step, dict):
        return step
    changed = {key: _without_prefix(value) for key, value in cast("dict[str, Any]", step).items()}
    if "add_prefix_space" in changed:
        changed["add_prefix_space"] = False
    if changed.get("type") == "Metaspace":
        changed["prepend_scheme"] = "never"
    return changed


def _mentions(step: Any, kind: str) -> bool:
    """Whether a step of the tokenizer has the type `kind` or contains a step of that type."""
    if isinstance(step, list):
        return any(_mentions(item, kind) for item in cast("list[Any]", step))
    if not isinstance(step, dict):
        return False
    fields = cast("dict[str, Any]", step)
    return fields.get("type") == kind or any(_mentions(value, kind) for value in fields.values())


def _begins_with(step: Any) -> str | None:
    """The token that a post-processor puts in front of every text, or None."""
    if not isinstance(step, dict):
        return None
    fields = cast("dict[str, Any]", step)
    for inner in fields.get("processors") or ():
        if found := _begins_with(inner):
            return found
    template: list[Any] = fields.get("single") or [{}]
    return _text({"content": template[0].get("SpecialToken", {}).get("id")}) or None


def _text(token: Any) -> str:
    """A special token in a tokenizer's config: a text, or an object with its `content`."""
    if isinstance(token, dict):
        token = cast("dict[str, Any]", token).get("content")
    return token if isinstance(token, str) else ""


def _byte_level_alphabet() -> dict[str, int]:
    """GPT-2's characters for the 256 bytes: printable ones stand for themselves, others from U+0100 on."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in plain]
    return {chr(byte): byte for byte in plain} | {chr(256 + n): byte for n, byte in enumerate(others)}


_ALPHABET = _byte_level_alphabet()


def _byte_level_bytes(text: str) -> bytes:
    try:
        return bytes([_ALPHABET[char] for char in text])
    except KeyError:
        return text.encode()


def _sentencepiece_bytes(text: str) -> bytes:
    if match := _BYTE.fullmatch(text):
        return bytes([int(match[1], 16)])
    return text.replace(_SPACE, " ").encode()
