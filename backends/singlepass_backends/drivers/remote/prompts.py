"""Prompts in the form that a server takes, and estimates of their tokens.

We have no access to a server's tokenizer, so tokens are estimated from characters, with the ratio of the last
prompt that the server counted. A server is assumed to have cached the longest common prefix with recent
prompts.
"""

from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from singlepass_backends.base import BackendError, Draft, Segment
from singlepass_backends.drivers.remote.failures import Failures

_CHARS_PER_TOKEN = 3.3
"""Characters per token of source code, used until the server has counted a prompt."""
_FEWEST_CHARS, _MOST_CHARS = 0.25, 20.0
"""Maximum tokens per character: a token has at least one byte, and a character at most four."""
_MOST_TEMPLATE_TOKENS = 100_000
"""Tokens that a server's chat template may add to a prompt; higher counts are taken to be wrong."""
_N_KNOWN_PROMPTS = 4


class Prompt(NamedTuple):
    """The two messages of a request: the joined system segments, and the other segments joined as one user
    message. So prompts with a common beginning share a prefix in the server's cache."""

    system: str
    user: str
    segments: tuple[Segment, ...] = ()

    @property
    def n_chars(self) -> int:
        """Characters of both messages."""
        return len(self.system) + len(self.user)

    @property
    def text(self) -> str:
        """Both messages, in the order in which a server reads them."""
        return self.system + self.user


def prompt_of(segments: Iterable[Segment]) -> Prompt:
    """The messages for these segments."""
    segments = tuple(segments)
    return Prompt(
        "".join(segment.text for segment in segments if segment.role == "system"),
        "".join(segment.text for segment in segments if segment.role == "user"),
        segments,
    )


def predicted_reply(draft: Draft | None) -> str:
    """A predicted reply that copies the selected lines; empty without a selection, since wrong predictions
    may be billed."""
    if draft is None:
        return ""
    _, _, block = draft.opening.partition(f"{draft.search}\n")
    new = block.partition(f"{draft.separator}\n")[2]
    return f"{draft.opening}{draft.close}\n" if new else ""


class PromptSizes:
    """Estimates of tokens: how many a prompt has, and how many of them the server has cached."""

    def __init__(self, n_ctx: int, failures: Failures) -> None:
        """`n_ctx` is the context of the model in use."""
        self._n_ctx = n_ctx
        self._failures = failures
        self._chars_per_token = _CHARS_PER_TOKEN
        self._latest: deque[str] = deque(maxlen=_N_KNOWN_PROMPTS)

    def n_tokens(self, n_chars: int) -> int:
        """Estimated tokens of a text of `n_chars` characters."""
        return int(n_chars / self._chars_per_token) + 1 if n_chars else 0

    def n_same_chars(self, prompt: Prompt) -> int:
        """Length of the longest common prefix with a recent prompt, in characters."""
        return max((_n_common(prompt.text, other) for other in self._latest), default=0)

    def remember(self, prompt: Prompt) -> None:
        """The server has read the prompt, and presumably has it cached."""
        self._latest.append(prompt.text)

    def learn(self, prompt: Prompt, n_prompt: int) -> None:
        """The server has counted the tokens of a prompt."""
        if n_prompt > 32 and prompt.n_chars:
            self._chars_per_token = min(max(_FEWEST_CHARS, prompt.n_chars / n_prompt), _MOST_CHARS)

    def fitting(self, segments: tuple[Segment, ...]) -> Prompt:
        """The prompt, without last segments that do not fit."""
        while segments[1:] and self.n_tokens(prompt_of(segments).n_chars) >= self._n_ctx:
            segments = segments[:-1]
        return prompt_of(segments)

    def too_long(self, prompt: Prompt, n_prompt: int, n_ctx: int, min_reply: int) -> BackendError:
        """The error for a prompt that does not fit. 0 means unknown."""
        n_ctx = n_ctx or self._n_ctx
        self.learn(prompt, n_prompt)
        sizes = [(segment.name, self.n_tokens(len(segment.text))) for segment in prompt.segments]
        n_prompt = n_prompt or max(self.n_tokens(prompt.n_chars), n_ctx + 1)
        return self._failures.too_long(n_prompt, n_ctx, min_reply, sizes)


def is_possible_count(prompt: Prompt, n_prompt: float) -> bool:
    """Whether a prompt can have `n_prompt` tokens: at most four per character, plus the chat template's."""
    return n_prompt <= 4 * prompt.n_chars + _MOST_TEMPLATE_TOKENS


def _n_common(one: str, other: str) -> int:
    """Length of the common prefix, by bisection, since slices compare fast."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[:middle] == other[:middle]:
            low = middle
        else:
            high = middle - 1
    return low
