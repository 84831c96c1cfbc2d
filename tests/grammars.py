"""Replies under a grammar of llguidance, without a model: what it accepts, and random ones."""

import random

from llguidance import LLMatcher, LLParserLimits, LLTokenizer, TokenizerWrapper

EOS = 256
WORDS = [
    b"\n\n",
    b"=======\n",
    b"<<<<<<<",
    b">>>>>>>",
    b"====",
    b" SEARCH",
    b"    ",
    b"x = 1\n",
    b"a.py",
    b"\r\n",
]


class Bytes:
    """A tokenizer with a token for each byte and some for pieces that cross the borders of the grammar."""

    eos_token_id = EOS
    bos_token_id = None
    special_token_ids = (EOS,)
    tokens = (*(bytes([byte]) for byte in range(256)), b"<eos>", *WORDS)

    def __call__(self, text: str | bytes) -> list[int]:
        return list(text.encode() if isinstance(text, str) else text)


TOKENIZER = LLTokenizer(TokenizerWrapper(Bytes()))
LIMITS = LLParserLimits(max_items_in_row=50_000)


def matcher_for(grammar: str) -> LLMatcher:
    matcher = LLMatcher(TOKENIZER, grammar, limits=LIMITS)
    assert not matcher.is_error(), matcher.get_error()
    return matcher


def accepts(grammar: str, text: str) -> bool:
    """Whether the text is a whole reply."""
    matcher = matcher_for(grammar)
    tokens = list(text.encode())
    return matcher.try_consume_tokens(tokens) == len(tokens) and matcher.is_accepting()


def random_reply(grammar: str, rng: random.Random, n_most: int = 600) -> str:
    """A reply of random allowed tokens; line ends and the end are preferred a little, to get anywhere."""
    matcher = matcher_for(grammar)
    reply = b""
    for _ in range(n_most):
        mask = matcher.compute_bitmask()
        assert not matcher.is_error(), matcher.get_error()
        allowed = [t for t in range(len(Bytes.tokens)) if mask[t // 8] >> (t % 8) & 1]
        assert allowed
        favoured = [t for t in allowed if t in (10, 61, 62) or t > EOS]
        token = rng.choice(favoured if favoured and rng.random() < 0.4 else allowed)
        if token == EOS:
            break
        assert matcher.consume_token(token)
        reply += Bytes.tokens[token]
        if matcher.is_stopped():
            break
    # Without the last character, if it was cut.
    return reply.decode("utf-8", "ignore")
