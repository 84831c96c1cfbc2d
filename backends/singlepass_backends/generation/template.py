"""The model's chat template, rendered once around placeholders and split there.

Templates come with the model file and are programs (Jinja). They run once, on two placeholder messages and
never on the user's text, in Jinja's sandbox and in their own process: the sandbox prevents access to the
system, but not endless loops or excessive memory use. Only the text that they print around the placeholders
is used. A template that fails, or that repeats, drops or changes the placeholders, is replaced by ChatML with
a warning.
"""

import contextlib
import logging
import subprocess
import sys
from dataclasses import asdict, dataclass
from typing import Any, NoReturn

import msgspec

_SYSTEM = "\ue000system placeholder\ue001"
_USER = "\ue000user placeholder\ue001"
_MAX_CHARS = 100_000
_MOST_S = 5
"""Limit of processor time in seconds; real templates take at most a few hundredths. The limit of wall time is
twelve times as much, because the machine may be busy."""
_MOST_BYTES = 1 << 30
"""Limit of the address space, on systems that enforce it (Linux)."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ChatTemplate:
    """A prompt is `before` + system text + `middle` + user text + `after`, followed by the model's reply.

    Without system text it is `before_user` + user text + `after`.
    """

    before: str
    middle: str
    after: str
    before_user: str


CHATML = ChatTemplate(
    before="<|im_start|>system\n",
    middle="<|im_end|>\n<|im_start|>user\n",
    after="<|im_end|>\n<|im_start|>assistant\n",
    before_user="<|im_start|>user\n",
)


CHATML_SOURCE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' "
    "+ message['content'] + '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
"""`CHATML` as a template, for model files that we write ourselves."""


def split_template(source: str | None, special_texts: dict[str, str] | None = None) -> ChatTemplate:
    """The parts of the Jinja template `source`. Never raises: falls back to ChatML, with a warning.

    `special_texts` holds `bos_token` and `eos_token` as templates expect them. For templates that reject a
    system message, the system text is put at the start of the user turn.
    """
    if not source or source == CHATML_SOURCE:
        return CHATML
    try:
        answer = subprocess.run(
            [sys.executable, "-P", "-m", __name__],
            input=msgspec.json.encode((source, special_texts or {})),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=12 * _MOST_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired, UnicodeError) as error:
        return _without(type(error).__name__)
    if answer.returncode < 0:
        return _without("it needs too much time or memory")
    try:
        found = msgspec.json.decode(answer.stdout, type=ChatTemplate | str)
    except msgspec.DecodeError:
        return _without(f"its process ended with code {answer.returncode}")
    return _without(found) if isinstance(found, str) else found


def _without(reason: str) -> ChatTemplate:
    _log.warning("The model's chat template cannot be used (%s); using ChatML.", reason)
    return CHATML


def main() -> None:
    """Split the template from standard input in this process; print the parts or the error."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        resource.setrlimit(resource.RLIMIT_CPU, (_MOST_S, _MOST_S))
        resource.setrlimit(resource.RLIMIT_AS, (_MOST_BYTES, _MOST_BYTES))
    source, special_texts = msgspec.json.decode(sys.stdin.buffer.read(), type=tuple[str, dict[str, str]])
    try:
        answer: Any = asdict(_split(source, special_texts))
    except Exception as error:
        # A hostile template may raise anything, including errors of the sandbox.
        answer = type(error).__name__
    sys.stdout.buffer.write(msgspec.json.encode(answer))


def _split(source: str, special_texts: dict[str, str]) -> ChatTemplate:
    user = {"role": "user", "content": _USER}
    alone = _render(source, special_texts, [user])
    before_user, after = _around(alone, _USER)
    try:
        both = _render(source, special_texts, [{"role": "system", "content": _SYSTEM}, user])
        before, rest = _around(both, _SYSTEM)
        middle, after = _around(rest, _USER)
    except Exception:
        return ChatTemplate(before=before_user, middle="\n\n", after=after, before_user=before_user)
    return ChatTemplate(before, middle, after, before_user)


def _around(text: str, placeholder: str) -> tuple[str, str]:
    if text.count(placeholder) != 1:
        raise ValueError("the placeholder is not there once")
    before, _, after = text.partition(placeholder)
    return before, after


def _render(source: str, special_texts: dict[str, str], messages: list[dict[str, str]]) -> str:
    from jinja2 import Environment, Undefined
    from jinja2.ext import loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    def refuse(message: str = "") -> NoReturn:
        raise ValueError(message)

    def strftime_now(_format: str) -> str:
        return ""  # nothing volatile may precede the task, so templates get no date

    environment: Environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols], undefined=Undefined
    )
    context: dict[str, Any] = {
        "bos_token": "",
        "eos_token": "",
        **special_texts,
        "messages": messages,
        "add_generation_prompt": True,
        "enable_thinking": False,
        "tools": None,
        "documents": None,
        "raise_exception": refuse,
        "strftime_now": strftime_now,
    }
    text = ""
    for piece in environment.from_string(source).generate(context):
        text += piece
        if len(text) > _MAX_CHARS:
            raise ValueError("the template prints without end")
    return text


if __name__ == "__main__":
    main()
