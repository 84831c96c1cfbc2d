"""A byte-level BPE tokenizer made for copying: a name is cut alike wherever it stands.

Most tokenizers join the blank before a word to it, so that ` name` and `(name` share no token, and a model
has to learn the two spellings of every name. Here merges stay inside words, inside runs of blanks or line
ends, and inside runs of other marks; digits and underscores stand alone. Only at the very end of the list
come merges of a blank with a keyword or a common word, which save a fifth of the tokens and cannot cut a word
differently.

Because no merge crosses the border of a word, it does not matter how a runtime cuts text into words before it
merges: GPT-2's rule and Qwen's give the same tokens.
"""

import collections
import itertools
import json
import keyword
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, models, pre_tokenizers, trainers

SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
END_OF_TEXT, END_OF_TURN = "<|endoftext|>", "<|im_end|>"

# The last blank before a word goes with the word, as in the runtimes' rules.
_PIECE = re.compile(r"[A-Za-z]+|[0-9]|_| +(?= \S)| +|\n+|\t+|[^\sA-Za-z0-9_]+|.", re.DOTALL)
_BLANK = "Ġ"  # how byte-level BPE writes a blank
_COMMON_WORDS = 150


@dataclass(frozen=True)
class Vocabulary:
    """Tokens by id, without the special ones, and merges in their order, both in byte-level BPE's letters."""

    tokens: list[str]
    merges: list[str]


def read_vocabulary(path: Path) -> Vocabulary:
    """What training wrote as JSON."""
    return Vocabulary(**json.loads(path.read_text(encoding="utf-8")))


def train(texts: Iterable[str], size: int) -> Vocabulary:
    """A vocabulary of `size` tokens, the special ones included."""
    pieces: collections.Counter[str] = collections.Counter()
    after_blank: collections.Counter[str] = collections.Counter()
    for text in texts:
        found = _PIECE.findall(text)
        pieces.update(found)
        after_blank.update(b for a, b in itertools.pairwise(found) if a == " ")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    n_extra = _COMMON_WORDS + len(SPECIAL_TOKENS)
    trainer = trainers.BpeTrainer(
        vocab_size=size - n_extra,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
        special_tokens=[],
    )
    tokenizer.train_from_iterator(_repeated(pieces), trainer)
    model = json.loads(tokenizer.to_str())["model"]
    vocab: dict[str, int] = model["vocab"]
    tokens = sorted(vocab, key=vocab.__getitem__)
    merges = [m if isinstance(m, str) else " ".join(m) for m in model["merges"]]
    # Keywords and marks first, then the words that follow a blank most often.
    wanted = [word for word, n in after_blank.most_common() if word in vocab and n > 200 and _may_join(word)]
    wanted.sort(key=lambda word: not (keyword.iskeyword(word) or not word[0].isalnum()))
    for word in wanted[:_COMMON_WORDS]:
        if _BLANK + word not in vocab:
            tokens.append(_BLANK + word)
            merges.append(f"{_BLANK} {word}")
    return Vocabulary(tokens, merges)


def _may_join(word: str) -> bool:
    """Whether a blank may join this. Not short words, with which longer ones begin, nor digits."""
    if word.isalnum():
        return word.isalpha() and (len(word) > 3 or keyword.iskeyword(word) or word in ("the", "def"))
    return not word.startswith((" ", "\n", "_"))


def _repeated(pieces: collections.Counter[str]) -> Iterable[str]:
    for piece, n in sorted(pieces.items()):
        if n > 2:
            yield from [piece] * n


def load(vocabulary: Vocabulary) -> Tokenizer:
    """The tokenizer as the runtimes build it from the model's file."""
    vocab = {token: i for i, token in enumerate(vocabulary.tokens)}
    merges: Any = [tuple(merge.split(" ")) for merge in vocabulary.merges]
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    return tokenizer


def encode(tokenizer: Tokenizer, pieces: Iterable[tuple[str, bool]], n_plain: int) -> list[int]:
    """Tokens of a prompt in pieces, of which the template's may hold special ones; their ids are the last."""
    ids: list[int] = []
    special = re.compile("(" + "|".join(map(re.escape, SPECIAL_TOKENS)) + ")")
    for text, is_template in pieces:
        for part in special.split(text) if is_template else [text]:
            if is_template and part in SPECIAL_TOKENS:
                ids.append(n_plain + SPECIAL_TOKENS.index(part))
            elif part:
                ids += tokenizer.encode(part).ids
    return ids
