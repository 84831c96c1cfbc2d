"""Templates in the manner of the model families, and hostile ones."""

import logging

import pytest
from singlepass_backends.generation.template import CHATML, ChatTemplate, split_template
from singlepass_backends.random_model import CHATML as CHATML_SOURCE

LLAMA_2 = (
    "{% if messages[0]['role'] == 'system' %}{% set system = '<<SYS>>\\n' + messages[0]['content'] + "
    "'\\n<</SYS>>\\n\\n' %}{% set messages = messages[1:] %}{% else %}{% set system = '' %}{% endif %}"
    "{{ bos_token }}{% for m in messages %}[INST] {{ system + m['content'] | trim }} [/INST]{% endfor %}"
)
GEMMA = (
    "{{ bos_token }}"
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    "{% for m in messages %}<start_of_turn>{{ m.role }}\n{{ m.content }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
QWEN = (
    "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nDefault<|im_end|>\n{% endif %}"
    + CHATML_SOURCE
)
DROPS_SYSTEM = "{% for m in messages %}{% if m.role == 'user' %}U:{{ m.content }}\nA:{% endif %}{% endfor %}"


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (None, CHATML),
        ("", CHATML),
        (CHATML_SOURCE, CHATML),
        (LLAMA_2, ChatTemplate("<s>[INST] <<SYS>>\n", "\n<</SYS>>\n\n", " [/INST]", "<s>[INST] ")),
        (
            GEMMA,
            ChatTemplate(
                "<s><start_of_turn>user\n",
                "\n\n",
                "<end_of_turn>\n<start_of_turn>model\n",
                "<s><start_of_turn>user\n",
            ),
        ),
        (
            QWEN,
            ChatTemplate(
                CHATML.before,
                CHATML.middle,
                CHATML.after,
                "<|im_start|>system\nDefault<|im_end|>\n<|im_start|>user\n",
            ),
        ),
        (DROPS_SYSTEM, ChatTemplate("U:", "\n\n", "\nA:", "U:")),
    ],
)
def test_split(source: str | None, expected: ChatTemplate) -> None:
    assert split_template(source, {"bos_token": "<s>", "eos_token": "</s>"}) == expected


@pytest.mark.parametrize(
    "source",
    [
        "{% for",
        "{{ nothing.here.at.all }}",
        "{{ messages[7].content }}",
        "no placeholder",
        "{% for m in messages %}{{ m.content }}{{ m.content }}{% endfor %}",
        "{% for m in messages %}{{ m.content | upper }}{% endfor %}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ cycler.__init__.__globals__.os.system('exit 1') }}",
        "{{ messages.clear() }}{{ messages }}",
        "{% for i in range(1000000000) %}x{% endfor %}",
        "{% for i in range(99999) %}{{ 'x' * 1000 }}{% endfor %}",
        "{% include '/etc/passwd' %}",
        "{{ raise_exception('never') }}",
        "{{ 1 / 0 }}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    ],
)
def test_hostile_and_broken_templates_fall_back_with_a_warning(
    source: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert split_template(source) == CHATML
    assert "using ChatML" in caplog.text


def test_nothing_volatile_reaches_the_prompt() -> None:
    source = "Today: {{ strftime_now('%d %B') }}." + CHATML_SOURCE
    assert split_template(source).before == "Today: .<|im_start|>system\n"
