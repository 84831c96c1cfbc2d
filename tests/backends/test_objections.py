"""What servers object to, in their own words, and what is sent then."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from singlepass_backends.drivers.remote.failures import words
from singlepass_backends.drivers.remote.objections import Terms, adapted, limit_named, limit_of

BODY: dict[str, Any] = {
    "model": "m",
    "messages": [{"role": "system", "content": "Rules.\n"}, {"role": "user", "content": "Do it."}],
    "stream": True,
    "stream_options": {"include_usage": True},
    "max_tokens": 100_000,
    "temperature": 0.0,
}
SAMPLED = {**BODY, "temperature": 1.5, "top_p": 0.9, "seed": 7}
PLAIN = [{"role": "user", "content": "Rules.\n\nDo it."}]


def again(error: object, status: int = 400, body: dict[str, Any] = BODY) -> dict[str, Any] | None:
    """What is sent after this error; None where nothing else is."""
    payload = {"error": {"message": error}} if isinstance(error, str) else error
    data = json.dumps(payload).encode()
    terms = adapted(Terms(), body, status, data, words(data))
    return None if terms is None else terms.applied(body)


@pytest.mark.parametrize("status", [400, 422, 500, 200])
@pytest.mark.parametrize(
    "error",
    [
        "System role not supported",
        "Jinja Exception: System role not supported",
        "This model does not support system messages.",
        "System prompt is not supported for this model",
        "Unsupported value: 'messages[0].role' does not support 'system' with this model.",
        "Conversation roles must alternate user/assistant/user/assistant/...",
        "Only user and assistant roles are supported!",
        "Only user, assistant and tool roles are supported",
        "Developer instruction is not enabled for models/gemma-3-27b-it",
        "invalid role: system, must be one of user, assistant",
        "'system' is not one of ['user', 'assistant'] - 'messages.0.role'",
        "messages[0].role: Input should be 'user' or 'assistant'",
        'Unexpected role "system". Use a top-level parameter.',
        "role 'system' is not allowed here",
        "The first message must be from the user.",
        {
            "detail": [
                {"loc": ["body", "messages", 0, "role"], "msg": "Input should be 'user' or 'assistant'"}
            ]
        },
    ],
    ids=str,
)
def test_a_server_without_a_system_role_gets_one_message(error: object, status: int) -> None:
    assert again(error, status) == {**BODY, "messages": PLAIN}
    studio = {"model": "m", "input": "Do it.", "system_prompt": "Rules.\n", "stream": True}
    assert again(error, status, studio) == {"model": "m", "input": "Rules.\n\nDo it.", "stream": True}
    # And where there is none, nothing of it is to be changed.
    assert again(error, status, {**BODY, "messages": PLAIN}) is None


@pytest.mark.parametrize("status", [400, 422, 500, 200])
@pytest.mark.parametrize(
    ("error", "limit"),
    [
        ("max_tokens must be less than or equal to 4096", 4096),
        (
            "`max_tokens` must be less than or equal to `8192`, the maximum value for `max_tokens` is less "
            "than the `context_window` for this model",
            8192,
        ),
        (
            "max_tokens is too large: 100000. This model supports at most 16384 completion tokens, whereas "
            "you provided 100000.",
            16384,
        ),
        ("supports at most 8,192 completion tokens", 8192),
        ("Invalid max_tokens value, the valid range of max_tokens is [1, 8192]", 8192),
        ("Range of max_tokens should be [1, 8192)", 8191),
        ("max_tokens should be between 1 and 2048", 2048),
        ("max_tokens: 100000 > 8192, which is the maximum allowed number of output tokens for c-3-5", 8192),
        ("too many tokens: max tokens must be less than or equal to 4000", 4000),
        (
            "it has a maxOutputTokens value of 100000, and the range is from 1 (inclusive) to 8193 "
            "(exclusive)",
            8192,
        ),
        (
            "The maximum tokens you requested exceeds the model limit of 4096. Try again with a maximum "
            "tokens value that is lower than 4096.",
            4095,
        ),
        ("max_tokens cannot exceed 4_096", 4096),
        ("max_tokens must be < 5000", 4999),
        ("max_new_tokens is limited: max 1024", 1024),
        ("max_tokens zu groß, limit: 3000", 3000),
        (
            {
                "detail": [
                    {"loc": ["body", "max_tokens"], "msg": "Input should be less than or equal to 4096"}
                ]
            },
            4096,
        ),
        (
            {
                "detail": [
                    {"loc": ["body", "top_k"], "msg": "Input should be less than or equal to 20"},
                    {"loc": ["body", "max_tokens"], "msg": "ensure this value is less than or equal to 4096"},
                ]
            },
            4096,
        ),
        ({"error": {"message": "Value is too large, at most 4096.", "param": "max_tokens"}}, 4096),
    ],
    ids=str,
)
def test_a_limit_that_a_server_names_is_kept_to(error: object, limit: int, status: int) -> None:
    sent = again(error, status)
    assert sent == {**BODY, "max_tokens": limit}
    for name in ("max_completion_tokens", "max_output_tokens"):
        other = {"model": "m", "input": "x", name: 100_000}
        assert again(error, status, other) == {**other, name: limit}
    options = {"model": "m", "messages": PLAIN, "options": {"num_predict": 100_000}}
    assert again(error, status, options) == {**options, "options": {"num_predict": limit}}
    # Asked for no more than that, it is about something else.
    assert again(error, status, {**BODY, "max_tokens": limit}) is None


def test_a_limit_in_words_that_nobody_knows() -> None:
    said = "max_tokens trop grand: 100000 (limite: 4096)"
    terms = adapted(Terms(), BODY, 400, b"", said)
    assert terms == Terms(limit=4096)
    assert adapted(terms, terms.applied(BODY), 400, b"", said) is None


@pytest.mark.parametrize(
    ("error", "changed"),
    [
        ("Unsupported parameter: 'max_tokens' is not supported. Use 'max_completion_tokens' instead.", None),
        ("Please use 'max_completion_tokens' instead of 'max_tokens'.", None),
        ("Unrecognized request argument supplied: max_tokens", None),
        ("'max_tokens' is deprecated, use max_output_tokens", "max_output_tokens"),
        ("Unsupported parameter: 'max_tokens' (error 400)", None),
    ],
)
def test_the_limit_has_another_name(error: str, changed: str | None) -> None:
    expected = {name: value for name, value in BODY.items() if name != "max_tokens"}
    assert again(error) == {**expected, changed or "max_completion_tokens": 100_000}


@pytest.mark.parametrize(
    ("error", "dropped"),
    [
        (
            "Unsupported value: 'temperature' does not support 0.0 with this model. Only the default (1).",
            "temperature",
        ),
        ("Unsupported parameter: 'top_p' is not supported with this model.", "top_p"),
        ("topP is not supported", "top_p"),
        ("Unknown field seed. Known fields: model, messages, temperature, top_p, max_tokens", "seed"),
        ("Unrecognized request argument supplied: stream_options", "stream_options"),
        ("`temperature` and `top_p` cannot both be specified for this model. Please use only one.", "top_p"),
        ({"error": {"message": "Not supported.", "param": "seed"}}, "seed"),
        ({"error": {"message": "Not supported.", "param": "stream_options.include_usage"}}, "stream_options"),
        ({"detail": [{"loc": ["body", "seed"], "msg": "Extra inputs are not permitted"}]}, "seed"),
        ({"message": "generate() got an unexpected keyword argument 'seed'"}, "seed"),
    ],
    ids=str,
)
@pytest.mark.parametrize("status", [400, 422, 500])
def test_a_field_that_is_refused_is_left_out(error: object, dropped: str, status: int) -> None:
    body = {**SAMPLED, "temperature": 0.7}
    assert again(error, status, body) == {name: value for name, value in body.items() if name != dropped}


def test_all_fields_that_are_listed_go_at_once() -> None:
    error = {"detail": [{"loc": ["body", name], "msg": "Extra inputs are not permitted"} for name in SAMPLED]}
    assert set(again(error, 422, SAMPLED) or ()) == {"model", "messages", "stream", "max_completion_tokens"}


@pytest.mark.parametrize(
    ("error", "asked", "sent"),
    [
        ("`temperature` must be strictly positive", 0.0, 0.01),
        ("temperature must be > 0 and < 2", 0.0, 0.01),
        ("temperature must be between 0 and 1", 1.5, 1.0),
        ("temperature: Input should be less than or equal to 1.2", 1.5, 1.2),
    ],
)
def test_a_temperature_is_brought_within_bounds(error: str, asked: float, sent: float) -> None:
    body = {**SAMPLED, "temperature": asked}
    assert again(error, 400, body) == {**body, "temperature": sent}


@pytest.mark.parametrize(
    ("error", "status"),
    [
        ("The request is not valid.", 400),
        ("The system is overloaded", 500),
        ("out of system memory", 500),
        ("The model 'm' does not exist", 400),
        ("messages: this field is required", 422),
        ("CUDA error: temperature of the GPU", 500),
        ("System role not supported", 401),
        ("max_tokens must be at most 4096", 429),
    ],
)
def test_what_is_no_objection_changes_nothing(error: str, status: int) -> None:
    assert again(error, status) is None


@given(st.text(max_size=80), st.sampled_from([200, 400, 422, 500]), st.integers(1, 200_000))
def test_asking_again_comes_to_an_end(said: str, status: int, asked: int) -> None:
    """Whatever an error says, again and again."""
    terms, body = Terms(), {**SAMPLED, "max_tokens": asked}
    for _ in range(len(body) + 6):
        sent = terms.applied(body)
        other = adapted(terms, sent, status, said.encode(), said)
        if other is None:
            break
        assert limit_of(other.applied(body)) <= asked
        terms = other
    else:
        pytest.fail("it never ends")
    assert limit_named(said, asked) <= asked
