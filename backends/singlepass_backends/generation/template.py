"""The model's chat template, rendered once around placeholders and split there.

Templates come with the model file and are programs (Jinja). They run here in a sandbox, once, on two
placeholder messages and never on the user's text; what they print around the placeholders is all that is
used. A template that fails, or that repeats, drops or changes the placeholders, is replaced by ChatML with a
warning.
"""

import logging
from dataclasses import dataclass
from typing import Any, NoReturn

_SYSTEM = "\ue000system placeholder\ue001"
_USER = "\ue000user placeholder\ue001"
_MAX_CHARS = 100_000

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ChatTemplate:
    """A prompt is `before` + system text + `middle` + user text + `after`, and then the model speaks.

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


def split_template(source: str | None, special_texts: dict[str, str] | None = None) -> ChatTemplate:
    """The parts of the Jinja template `source`. Never raises: falls back to ChatML, with a warning.

    `special_texts` holds `bos_token` and `eos_token` as templates expect them. Templates that refuse a system
    message get the system text at the start of the user turn.
    """
    if not source:
        return CHATML
    try:
        return _split(source, special_texts or {})
    except Exception as error:
        # Whatever a hostile template manages to raise, including errors of the sandbox.
        _log.warning("The model's chat template cannot be used (%s); using ChatML.", type(error).__name__)
        return CHATML


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
        return ""  # nothing volatile may stand before the task, so templates are told no date

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
