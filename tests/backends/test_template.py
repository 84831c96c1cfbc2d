"""Templates in the manner of the model families, and hostile ones."""

import logging
from pathlib import Path

import pytest
from singlepass_backends.generation.template import CHATML, CHATML_SOURCE, ChatTemplate, split_template

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


BROKEN = (
    "{% for",
    "{{ nothing.here.at.all }}",
    "{{ messages[7].content }}",
    "no placeholder",
    "{% for m in messages %}{{ m.content }}{{ m.content }}{% endfor %}",
    "{% for m in messages %}{{ m.content | upper }}{% endfor %}",
    "{% for m in messages %}{{ m.content | reverse }}{% endfor %}",
    "{% for m in messages %}{{ m.content[1:] }}{% endfor %}",
    "{{ raise_exception('never') }}",
    "{{ 1 / 0 }}",
    "{{ undefined_function() }}",
    "{{ messages | no_such_filter }}",
    "{{ messages is no_such_test }}",
    "{% if 1 %}" * 3000,
    "{{ " + "(" * 100_000 + " }}",
    "{{ " + "[" * 150 + "]" * 150 + " }}",
    "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "\ud800",
    "\0",
)
ESCAPING = (
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ ''['__class__']['__base__']['__subclasses__']() }}",
    "{{ (''|attr('__class__')).__mro__ }}{{ messages|attr('__class__')|attr('__init__') }}",
    "{{ cycler.__init__.__globals__.os.system('touch canary') }}",
    "{{ joiner.__init__.__globals__['os'].system('touch canary') }}",
    "{{ namespace.__init__.__globals__.os.popen('touch canary').read() }}",
    "{{ lipsum.__globals__['os'].system('touch canary') }}",
    "{{ raise_exception.__globals__['subprocess'].run(['touch', 'canary']) }}",
    "{{ raise_exception.__code__ }}{{ strftime_now.__closure__[0].cell_contents }}",
    "{{ self._TemplateReference__context.environment }}",
    "{{ self.__init__.__globals__.__builtins__.open('canary', 'w') }}",
    "{{ url_for.__globals__ }}{{ config.items() }}",
    "{{ '{0.__class__.__init__.__globals__}'.format(messages) }}",
    "{{ ('{0.__class__.__base__}'|format_map({})) }}",
    "{{ messages|map(attribute='__class__')|list }}{{ open('canary', 'w') }}",
    "{% set f = messages.append %}{{ f({'role': 'user', 'content': 'x'}) }}",
    "{{ messages.clear() }}{{ messages }}",
    "{% include '/etc/passwd' %}",
    "{% import '/etc/passwd' as x %}{{ x }}",
    "{% extends 'canary' %}",
    "{% from 'os' import system %}{{ system('touch canary') }}",
    "{% do messages.pop() %}",
)
ENDLESS = (
    "{% for i in range(1000000000) %}x{% endfor %}",
    "{% for i in range(99999) %}{{ 'x' * 1000 }}{% endfor %}",
    "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "{{ 'x' * 10 ** 11 }}",
    "{{ ['x'] * 10 ** 11 }}",
    "{{ 10 ** 10 ** 9 }}",
    "{{ '%99999999999d' % 1 }}",
    "{{ '{:99999999999}'.format(1) }}",
    "{{ 'a' | center(10 ** 11) }}",
    "{% set n = namespace(x='xxxxxxxx') %}{% for i in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}",
)


def test_there_are_fifty_templates_to_be_afraid_of() -> None:
    assert len({*BROKEN, *ESCAPING, *ENDLESS}) >= 50


@pytest.mark.parametrize("source", [*BROKEN, *ESCAPING, *ENDLESS])
def test_hostile_and_broken_templates_fall_back_with_a_warning(
    source: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    with caplog.at_level(logging.WARNING):
        assert split_template(source) == CHATML
    assert "using ChatML" in caplog.text
    assert [*tmp_path.iterdir()] == []


def test_a_template_cannot_use_up_the_machine(caplog: pytest.LogCaptureFixture) -> None:
    """The sandbox limits neither time nor memory: both are limits of the template's process."""
    assert split_template(ENDLESS[2]) == CHATML
    assert "too much time" in caplog.text


def test_a_module_in_the_current_folder_is_not_loaded(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "jinja2.py").write_text("open('canary', 'w')")
    assert split_template(GEMMA).after == "<end_of_turn>\n<start_of_turn>model\n"
    assert not (tmp_path / "canary").exists()


def test_nothing_volatile_reaches_the_prompt() -> None:
    source = "Today: {{ strftime_now('%d %B') }}." + CHATML_SOURCE
    assert split_template(source).before == "Today: .<|im_start|>system\n"
