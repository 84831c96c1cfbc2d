"""Tokenizes the segments of a prompt.

Segments are tokenized one by one and joined as tokens, so a change in one never changes the tokens of an
earlier one. Only the template's own parts are parsed for control tokens: `<|im_end|>` in a file stays text.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from singlepass_backends.base import BackendError, Segment
from singlepass_backends.generation.cache.prefix import Mark
from singlepass_backends.generation.driver import Driver
from singlepass_backends.generation.template import split_template


@dataclass(frozen=True)
class Prompt:
    """The `tokens` of a prompt, and where each segment ends."""

    tokens: list[int]
    marks: list[Mark]
    sizes: list[tuple[str, int]]
    """Name and number of tokens of each segment, in order."""


class PromptBuilder:
    """Tokenizes prompts for one model; caches the tokens of the last prompt's segments."""

    def __init__(self, driver: Driver) -> None:
        self._tokenize = driver.tokenize
        template = split_template(driver.chat_template, driver.special_texts)

        def control(text: str) -> list[int]:
            return driver.tokenize(text.encode(), special=True) if text else []

        def begin(text: str) -> list[int]:
            tokens, bos = control(text), list(driver.bos_tokens)
            return tokens if tokens[: len(bos)] == bos else bos + tokens

        self._before, self._before_user = begin(template.before), begin(template.before_user)
        self._middle, self._after = control(template.middle), control(template.after)
        self._known: dict[str, list[int]] = {}

    def build(self, segments: Sequence[Segment], *, complete: bool = True) -> Prompt:
        """The prompt of `segments`; unless `complete`, it ends with the last segment, for a prewarm.

        Raises BackendError `unsupported` for text with lone surrogates.
        """
        system = [segment for segment in segments if segment.role == "system"]
        user = [segment for segment in segments if segment.role == "user"]
        known: dict[str, list[int]] = {}
        tokens = list(self._before if system else self._before_user)
        marks: list[Mark] = []
        sizes: list[tuple[str, int]] = []
        for index, segment in enumerate(system + user):
            if system and index == len(system):
                tokens += self._middle
            pieces = known[segment.text] = self._known.get(segment.text) or self._encode(segment)
            tokens += pieces
            marks.append(Mark(segment.name, len(tokens), segment.shared))
            sizes.append((segment.name, len(pieces)))
        self._known = {**self._known, **known} if len(self._known) < 64 else known
        if complete:
            if system and not user:
                tokens += self._middle
            tokens += self._after
        return Prompt(tokens, marks, sizes)

    def _encode(self, segment: Segment) -> list[int]:
        try:
            data = segment.text.encode()
        except UnicodeEncodeError:
            raise BackendError(
                "unsupported", f"{segment.name} contains lone surrogates, which no file can hold."
            ) from None
        return self._tokenize(data, special=False) if data else []


def fitting(prompt: Prompt, n_ctx: int) -> Prompt:
    """The leading segments that leave room in `n_ctx` for at least one more token."""
    marks = [mark for mark in prompt.marks if mark.end < n_ctx]
    n_fit = marks[-1].end if marks else 0
    return Prompt(prompt.tokens[:n_fit], marks, prompt.sizes[: len(marks)])


def check_fits(prompt: Prompt, n_ctx: int, min_reply: int = 1) -> None:
    """Raises BackendError `prompt_too_long` unless `n_ctx` holds the prompt and `min_reply` tokens of reply.

    Its data has `n_prompt`, `n_ctx`, `n_excess` (tokens to save) and `segments` (name and tokens of each).
    """
    n_prompt = len(prompt.tokens)
    n_excess = n_prompt + max(min_reply, 1) - n_ctx
    if n_excess <= 0:
        return
    name, size = max(prompt.sizes, key=lambda named: named[1], default=("the template", n_prompt))
    raise BackendError(
        "prompt_too_long",
        f"The prompt has {n_prompt:,} tokens. With {min_reply:,} for the reply that is {n_excess:,} too many "
        f"for the context of {n_ctx:,}. Its largest part is {name} with {size:,}: leave it out, select less, "
        "or raise `n_ctx`.",
        {
            "n_prompt": n_prompt,
            "n_ctx": n_ctx,
            "n_excess": n_excess,
            "segments": [[name, size] for name, size in prompt.sizes],
        },
    )
