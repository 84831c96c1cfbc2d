"""The remote backend against a real server and against scripted ones of each kind."""

import itertools
import json
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from endpoints import (
    LM_STUDIO_STREAM,
    OLLAMA_STREAM,
    Endpoint,
    Exchange,
    Script,
    delta,
    event,
    headers_only,
    reply,
    say,
    then_silence,
)
from remote import FILE, KEY, REQUEST, SYSTEM, TASK, USER_TEXT, close_all, connect, last, never, run, text_of
from singlepass_backends.base import (
    BackendError,
    Draft,
    Event,
    GenerateRequest,
    PrefillProgress,
    PrewarmRequest,
    Sampling,
    Segment,
    Target,
    TextChunk,
    Timings,
)
from singlepass_backends.client import EngineClient
from singlepass_backends.drivers.remote import http
from singlepass_backends.drivers.remote.api_key import Key
from singlepass_backends.drivers.remote.metering import MEASURED
from singlepass_backends.drivers.remote.servers import (
    GRAMMAR_PROBE,
    GRAMMAR_PROBE_REPLY,
    MAX_GRAMMAR_LINES,
    api_base,
    is_local,
)
from singlepass_backends.opening import check_target
from singlepass_backends.stop_flag import StopFlag

OK = reply(["ok"])


@pytest.fixture(autouse=True)
def quick_and_closed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(http, "BACKOFF_S", (0.01,))
    yield
    close_all()


# Which server it is.


@pytest.mark.parametrize(
    ("url", "base", "root"),
    [
        ("http://h:1", "http://h:1/v1", "http://h:1"),
        ("http://h:1/", "http://h:1/v1", "http://h:1"),
        ("http://h:1/v1/", "http://h:1/v1", "http://h:1"),
        ("http://h:1/v1/chat/completions", "http://h:1/v1", "http://h:1"),
        ("https://o.ai/api/v1", "https://o.ai/api/v1", "https://o.ai/api"),
        ("https://g.com/v1beta/openai", "https://g.com/v1beta/openai", "https://g.com/v1beta/openai"),
    ],
)
def test_where_the_api_is(url: str, base: str, root: str) -> None:
    assert api_base(url) == (base, root)


def test_what_is_the_users_own() -> None:
    own = ["localhost", "127.0.0.1", "::1", "192.168.1.5", "10.0.0.1", "gpu-box", "mac.local", "nas.lan"]
    assert all(is_local(host) for host in own)
    assert not any(is_local(host) for host in ("api.openai.com", "8.8.8.8", "example.com"))


LLAMA_PROPS = {"default_generation_settings": {"n_ctx": 8192}, "total_slots": 1, "build_info": "b6789-abc"}
LM_STUDIO_MODELS = {
    "models": [
        {
            "key": "m",
            "max_context_length": 32768,
            "loaded_instances": [{"id": "m", "config": {"context_length": 4096}}],
        }
    ]
}
LLAMA_MODEL = {"id": "m", "owned_by": "llamacpp", "meta": {"n_ctx_train": 32768, "n_params": 7, "size": 9}}
OLLAMA_ANSWERS = {
    "/api/version": {"version": "0.13.0"},
    "/api/show": {"model_info": {"qwen2.context_length": 131072}, "parameters": "stop x\nnum_ctx 16384\n"},
    "/api/ps": {"models": [{"name": "m", "model": "m", "context_length": 12288}]},
}


@pytest.mark.parametrize(
    ("models", "answers", "header", "device", "n_ctx"),
    [
        (LLAMA_MODEL, {"/props": LLAMA_PROPS}, "", "llama-server b6789-abc", 8192),
        ({"id": "m"}, {"/props": LLAMA_PROPS}, "llama.cpp", "llama-server b6789-abc", 8192),
        ({"id": "m", "owned_by": "library"}, OLLAMA_ANSWERS, "", "Ollama 0.13.0", 12288),
        ({"id": "m", "owned_by": "someone"}, {**OLLAMA_ANSWERS, "/api/ps": {}}, "", "Ollama 0.13.0", 16384),
        (
            {"id": "m", "owned_by": "organization_owner"},
            {"/api/v1/models": LM_STUDIO_MODELS},
            "",
            "LM Studio",
            4096,
        ),
        ({"id": "m", "owned_by": "organization_owner"}, {}, "", "LM Studio", 32768),
        (
            {"id": "m", "owned_by": "vllm", "max_model_len": 4000},
            {"/version": {"version": "0.12.0"}},
            "",
            "vLLM 0.12.0",
            4000,
        ),
        ({"id": "m", "owned_by": "sglang", "max_model_len": 5000}, {}, "", "SGLang", 5000),
        ({"id": "m", "owned_by": "me"}, {}, "", "llama_cpp.server", 32768),
        ({"id": "m"}, {}, "BaseHTTP/0.6 Python/3.11.4", "mlx_lm.server", 32768),
        ({"id": "m", "owned_by": "openai", "context_length": 9000}, {}, "", "OpenAI-compatible server", 9000),
    ],
)
def test_servers_are_recognized(
    models: dict[str, Any], answers: dict[str, Any], header: str, device: str, n_ctx: int
) -> None:
    with Endpoint(
        lambda x: x.json({"error": "no"}, 404), answers, models=(models,), header=header
    ) as endpoint:
        info = connect(endpoint.url).info
    assert info.device.partition(" at ")[0] == device
    assert (info.name, info.n_ctx, info.constrains) == ("m", n_ctx, False)


def test_mlx_lm_runs_the_model_it_was_started_with() -> None:
    """It lists all that were ever downloaded; where none was, its list is an empty body."""
    header = "BaseHTTP/0.6 Python/3.11.4"
    with Endpoint(say(OK), models=({"id": "one"}, {"id": "two"}), header=header) as endpoint:
        assert connect(endpoint.url).info.name == "default_model"
        assert connect(endpoint.url, model="two").info.name == "two"
    with Endpoint(lambda x: x.head(kind="application/json", Server=header)) as endpoint:
        del endpoint.answers["/v1/models"]
        backend = connect(endpoint.url)
        assert backend.info.name == "default_model"
        assert backend.info.device.startswith("mlx_lm.server at")
    with Endpoint(lambda x: x.head(kind="application/json")) as endpoint:
        del endpoint.answers["/v1/models"]
        with pytest.raises(BackendError, match="sent no list of models, but nothing"):
            connect(endpoint.url)


def test_the_model_is_named_where_there_are_several() -> None:
    with Endpoint(say(b""), models=({"id": "one"}, {"id": "two"})) as endpoint:
        with pytest.raises(BackendError, match="has 2 models: one, two") as caught:
            connect(endpoint.url)
        assert caught.value.code == "no_model"
        assert connect(endpoint.url, model="two").info.name == "two"


@pytest.mark.parametrize(
    ("settings", "code", "message"),
    [
        ({"url": ""}, "no_model", "No server is set"),
        ({"url": "localhost:11434"}, "unsupported", "not the address"),
        ({"url": "ftp://host"}, "unsupported", "not the address"),
        ({"url": "http://"}, "unsupported", "not the address"),
        ({"url": "http://h:99999"}, "unsupported", "not the address"),
        ({"url": "http://h/v1?key=1"}, "unsupported", "a part behind"),
        ({"url": f"https://user:{KEY}@host/v1"}, "unsupported", "holds a user or a password"),
        ({"url": "http://h", "api_key_env": f"{KEY}"}, "unsupported", "takes the name"),
    ],
)
def test_settings_are_checked_before_anything_starts(
    settings: dict[str, str], code: str, message: str
) -> None:
    with pytest.raises(BackendError, match=message) as caught:
        check_target(Target(backend="openai_compatible", **settings))
    assert caught.value.code == code
    assert KEY not in str(caught.value)


# Requests and what servers report of them.


def test_the_stable_parts_come_first_and_in_one_message() -> None:
    with Endpoint(say(reply(["ok"]))) as endpoint:
        run(connect(endpoint.url))
        (asked,) = endpoint.asked
    assert asked.path == "/v1/chat/completions"
    assert asked.body == {
        "model": "m",
        "messages": [{"role": "system", "content": SYSTEM.text}, {"role": "user", "content": USER_TEXT}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": 100,
        "temperature": 0.0,
    }
    assert "authorization" not in asked.headers


def test_sampling_is_passed_on() -> None:
    with Endpoint(say(reply(["ok"]))) as endpoint:
        run(connect(endpoint.url), GenerateRequest((TASK,), max_tokens=3, sampling=Sampling(0.7, 0.9, 5)))
        body = endpoint.asked[-1].body
    assert (body["temperature"], body["top_p"], body["seed"]) == (0.7, 0.9, 5)
    assert body["messages"] == [{"role": "user", "content": TASK.text}]


def test_what_a_server_does_not_report_is_measured_and_named() -> None:
    with Endpoint(say(reply(["one", " two"]))) as endpoint:
        text, finished = run(connect(endpoint.url))
    assert (text, finished.finish_reason) == ("one two", "stop")
    timings = finished.timings
    assert set(timings.inferred) == set(MEASURED)
    assert timings.n_decoded == 2
    assert timings.n_cached == 0
    assert timings.n_prompt == pytest.approx(len(USER_TEXT) / 3.3, rel=0.2)
    assert set(timings.inferred) <= set(Timings.__struct_fields__)


def test_usage_is_taken_as_it_is() -> None:
    usage = {"prompt_tokens": 150, "completion_tokens": 7, "prompt_tokens_details": {"cached_tokens": 128}}
    with Endpoint(say(reply(["one", " two"], usage=usage))) as endpoint:
        backend = connect(endpoint.url)
        timings = run(backend)[1].timings
        assert (timings.n_prompt, timings.n_cached, timings.n_prefilled, timings.n_decoded) == (
            150,
            128,
            22,
            7,
        )
        assert timings.inferred == ("n_forward", "queue_ms", "prefill_ms", "decode_ms")
        estimate = sum(use.n_tokens for use in backend.inspect(REQUEST.segments))
        assert estimate == pytest.approx(150, abs=4)  # learned from the count


UNSOUND = ["NaN", "Infinity", "-Infinity", "1e999", "-1", "-0.5", '"12"', "true", "null", "[7]", "{}", "1e14"]
UNSOUND += ["9" * 400, "9" * 5000]


def with_number(payload: object, number: str) -> bytes:
    """An event in which `number` stands for each "N"."""
    return event(json.dumps(payload).replace('"N"', number))


@pytest.mark.parametrize("number", UNSOUND, ids=lambda number: number[:12])
def test_numbers_that_nobody_counted_are_ignored(number: str) -> None:
    """In usage, timings and progress: the reply is whole, and what was not told is measured."""
    details = {"cached_tokens": "N"}
    usage = {"prompt_tokens": "N", "completion_tokens": "N", "prompt_tokens_details": details}
    usage |= {
        "completion_tokens_details": {"accepted_prediction_tokens": "N"},
        "prompt_cache_hit_tokens": "N",
    }
    names = ("prompt_n", "cache_n", "prompt_ms", "predicted_n", "predicted_ms", "draft_n", "draft_n_accepted")
    stream = with_number(
        {"choices": [], "prompt_progress": {"total": "N", "cache": "N", "processed": "N"}}, number
    )
    stream += event(delta("one")) + event(delta(" two"))
    stream += with_number({**delta(finish_reason="stop"), "timings": dict.fromkeys(names, "N")}, number)
    stream += with_number({"choices": [], "usage": usage}, number) + event("[DONE]")
    with Endpoint(say(stream), {"/props": LLAMA_PROPS}, models=(LLAMA_MODEL,)) as endpoint:
        backend = connect(endpoint.url)
        text, finished = run(backend)
        timings = finished.timings
        assert (text, finished.finish_reason, timings.n_decoded) == ("one two", "stop", 2)
        assert timings.n_prompt == pytest.approx(len(USER_TEXT) / 3.3, rel=0.2)
        assert (timings.n_drafted, timings.n_accepted) == (0, 0)
        assert 0 <= timings.prefill_ms <= timings.total_ms
        assert set(timings.inferred) == set(MEASURED)
        assert run(backend)[0] == "one two"  # nothing wrong was learned for the next one


@pytest.mark.parametrize("number", UNSOUND, ids=lambda number: number[:12])
def test_numbers_that_nobody_counted_in_other_formats(number: str) -> None:
    counts = ("prompt_eval_count", "eval_count", "prompt_eval_duration", "eval_duration")
    end = {"message": {"content": ""}, "done": True, "done_reason": "stop", **dict.fromkeys(counts, "N")}
    lines = json.dumps({"message": {"content": "Hi"}, "done": False}) + "\n"
    lines += json.dumps(end).replace('"N"', number if number != "1e14" else "1e30") + "\n"
    model = {"id": "m", "owned_by": "library"}
    with Endpoint(say(lines.encode(), "application/x-ndjson"), OLLAMA_ANSWERS, models=(model,)) as endpoint:
        text, finished = run(connect(endpoint.url))
    assert (text, finished.timings.n_decoded) == ("Hi", 1)
    assert set(finished.timings.inferred) == set(MEASURED)

    names = ("input_tokens", "total_output_tokens", "tokens_per_second", "time_to_first_token_seconds")
    stream = with_number({"type": "prompt_processing.progress", "progress": "N"}, number)
    stream += event({"type": "message.delta", "content": "Hi"})
    stream += with_number({"type": "chat.end", "result": {"stats": dict.fromkeys(names, "N")}}, number)
    model = {"id": "m", "owned_by": "organization_owner"}
    with Endpoint(say(stream), {"/api/v1/models": LM_STUDIO_MODELS}, models=(model,)) as endpoint:
        text, finished = run(connect(endpoint.url))
    assert (text, finished.timings.n_decoded) == ("Hi", 1)
    assert finished.timings.n_prompt == pytest.approx(len(USER_TEXT) / 3.3, rel=0.2)

    whole = {
        "choices": [{"message": {"content": "Hi"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": "N"},
    }
    body = json.dumps(whole).replace('"N"', number).encode()
    with Endpoint(say(body, "application/json")) as endpoint:
        assert run(connect(endpoint.url))[0] == "Hi"


def test_a_count_that_does_not_fit_the_prompt_spoils_no_later_request() -> None:
    """A server that cuts prompts in silence is sent none that is too long, by what it counted before."""
    counted = {
        "message": {"content": "Hi"},
        "done": True,
        "done_reason": "stop",
        "prompt_eval_count": 9_000_000,
    }
    script = say(json.dumps(counted).encode() + b"\n", "application/x-ndjson")
    with Endpoint(script, OLLAMA_ANSWERS, models=({"id": "m", "owned_by": "library"},)) as endpoint:
        backend = connect(endpoint.url)
        for _ in range(3):
            text, finished = run(backend)
            assert text == "Hi"
            assert finished.timings.n_prompt < 1000


def test_counts_that_contradict_each_other_add_up_all_the_same() -> None:
    usage = {"prompt_tokens": 100, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 400}}
    timings = {"prompt_n": 70, "cache_n": -1, "draft_n": 1, "draft_n_accepted": 50}
    stream = event(delta("one")) + event({**delta(finish_reason="stop"), "timings": timings, "usage": usage})
    with Endpoint(say(stream + event("[DONE]")), {"/props": LLAMA_PROPS}, models=(LLAMA_MODEL,)) as endpoint:
        spent = run(connect(endpoint.url))[1].timings
    assert (spent.n_prompt, spent.n_cached, spent.n_prefilled) == (100, 100, 0)
    assert (spent.n_decoded, spent.n_accepted, spent.n_forward) == (3, 3, 0)
    assert spent.n_drafted >= spent.n_accepted


def test_llama_server() -> None:
    progress = [{"total": 100, "cache": 40, "processed": done, "time_ms": 1} for done in (40, 70, 100)]
    timings = {"cache_n": 40, "prompt_n": 60, "prompt_ms": 30.5, "predicted_n": 3, "predicted_ms": 9.5}
    timings |= {"draft_n": 4, "draft_n_accepted": 2}
    stream = b"".join(event({"choices": [], "prompt_progress": one}) for one in progress)
    stream += event(delta("one")) + event(delta(" two"))
    stream += event({**delta(finish_reason="stop"), "timings": timings}) + event("[DONE]")
    with Endpoint(say(stream), {"/props": LLAMA_PROPS}, models=(LLAMA_MODEL,)) as endpoint:
        backend = connect(endpoint.url)
        events = list(backend.generate(REQUEST, never))
        body = endpoint.asked[-1].body
        list(backend.prewarm(PrewarmRequest((SYSTEM, FILE)), never))
        ahead = endpoint.asked[-1].body
    assert (body["cache_prompt"], body["return_progress"], body["repeat_penalty"]) == (True, True, 1.0)
    assert body["chat_template_kwargs"] == {"enable_thinking": False}
    found = [(one.n_prompt, one.n_cached, one.n_done) for one in events if isinstance(one, PrefillProgress)]
    assert found[1:] == [(100, 40, 40), (100, 40, 70), (100, 40, 100), (100, 40, 100)]
    timed = last(events).timings
    assert (timed.n_prompt, timed.n_cached, timed.n_prefilled, timed.n_decoded) == (100, 40, 60, 3)
    assert (timed.prefill_ms, timed.decode_ms, timed.n_drafted, timed.n_accepted) == (30.5, 9.5, 4, 2)
    assert timed.inferred == ("n_forward", "queue_ms")
    assert ahead["n_predict"] == 0
    assert ahead["messages"][1]["content"] == FILE.text


def test_ollama() -> None:
    model = {"id": "m", "owned_by": "library"}
    script = say(OLLAMA_STREAM, "application/x-ndjson")
    with Endpoint(script, {**OLLAMA_ANSWERS, "/api/ps": {}}, models=(model,)) as endpoint:
        backend = connect(endpoint.url)
        text, finished = run(backend)
        list(backend.prewarm(PrewarmRequest((SYSTEM, FILE)), never))
        run(connect(endpoint.url, n_ctx=20_000), GenerateRequest((TASK,), max_tokens=9))
        first, ahead, other = endpoint.asked
    assert text == "Hé"
    timings = finished.timings
    assert (timings.n_prompt, timings.n_decoded, timings.prefill_ms) == (26, 282, pytest.approx(342.546))
    assert timings.inferred == ("n_cached", "n_prefilled", "n_forward", "queue_ms")
    assert first.path == "/api/chat"
    assert (first.body["think"], first.body["truncate"], first.body["keep_alive"]) == (False, False, "30m")
    options = [one.body["options"] for one in (first, ahead, other)]
    assert [one["num_ctx"] for one in options] == [16384, 16384, 20_000]  # constant, or it would load again
    assert [one["num_predict"] for one in options] == [100, 1, 9]
    assert options[0]["repeat_penalty"] == 1.0


def test_lm_studio() -> None:
    model = {"id": "m", "owned_by": "organization_owner"}
    with Endpoint(say(LM_STUDIO_STREAM), {"/api/v1/models": LM_STUDIO_MODELS}, models=(model,)) as endpoint:
        backend = connect(endpoint.url)
        events = list(backend.generate(REQUEST, never))
        asked = endpoint.asked[-1]
    assert asked.path == "/api/v1/chat"
    assert (asked.body["input"], asked.body["system_prompt"]) == (USER_TEXT, SYSTEM.text)
    assert (asked.body["store"], asked.body["max_output_tokens"]) == (False, 100)
    assert text_of(events) == "The ënd"
    shares = [one.n_done / one.n_prompt for one in events if isinstance(one, PrefillProgress)]
    assert shares == [0, pytest.approx(0.25, abs=0.01), 1, 1]
    timings = last(events).timings
    assert (timings.n_prompt, timings.n_decoded, timings.prefill_ms, timings.decode_ms) == (
        329,
        40,
        500,
        2000,
    )


@pytest.mark.parametrize("owner", ["vllm", "sglang"])
def test_vllm_and_sglang(owner: str) -> None:
    usage = {"prompt_tokens": 150, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 144}}
    model = {"id": "m", "owned_by": owner, "max_model_len": 4096}
    with Endpoint(say(reply(["a", "b"], usage=usage)), models=(model,)) as endpoint:
        backend = connect(endpoint.url)
        assert run(backend)[1].timings.n_cached == 144
        assert endpoint.asked[-1].body["repetition_penalty"] == 1.0
        warmed = list(backend.prewarm(PrewarmRequest((SYSTEM, FILE)), never))
        assert endpoint.asked[-1].body["max_tokens"] == 1
    assert last(warmed).finish_reason == "stop"
    assert not text_of(warmed)


def test_mlx_lm_tells_its_prefill_in_comments() -> None:
    stream = b": keepalive 512/2048\n\n: keepalive 2048/2048\n\n" + reply(["x"])
    with Endpoint(say(stream), models=({"id": "m"},), header="BaseHTTP/0.6 Python/3.12.1") as endpoint:
        events = list(connect(endpoint.url).generate(REQUEST, never))
    found = [(one.n_done, one.n_prompt) for one in events if isinstance(one, PrefillProgress)]
    assert found[1:] == [(512, 2048), (2048, 2048), (2048, 2048)]


def test_the_prefill_of_mlx_lm_is_what_it_had_not_cached() -> None:
    usage = {"prompt_tokens": 150, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 140}}
    stream = b": keepalive 4/10\n\n: keepalive 10/10\n\n" + reply(["x"], usage=usage)
    with Endpoint(say(stream), models=({"id": "m"},), header="BaseHTTP/0.6 Python/3.12.1") as endpoint:
        backend = connect(endpoint.url)
        run(backend)
        task = Segment("task", "Rename values to totals.")
        events = list(backend.generate(GenerateRequest((SYSTEM, FILE, task), max_tokens=9), never))
    found = [one for one in events if isinstance(one, PrefillProgress)]
    assert len({one.n_cached for one in found}) == 1
    assert found[0].n_cached == pytest.approx(140, abs=8)
    assert [one.n_done - one.n_cached for one in found[1:]] == [4, 10, 10]
    assert [one.n_prompt - one.n_cached for one in found[1:]] == [10, 10, 10]


def test_what_is_probably_cached_is_inferred_from_the_latest_prompts() -> None:
    model = {"id": "m", "owned_by": "me"}
    with Endpoint(say(reply(["x"])), models=(model,)) as endpoint:
        backend = connect(endpoint.url)
        assert run(backend)[1].timings.n_cached == 0
        timings = run(backend, GenerateRequest((SYSTEM, FILE, Segment("task", "Other.")), max_tokens=9))[
            1
        ].timings
        uses = backend.inspect((SYSTEM, FILE, Segment("task", "A third.")))
    n_shared = len(SYSTEM.text + FILE.text)
    assert timings.n_cached == pytest.approx(n_shared / 3.3, abs=2)
    assert "n_cached" in timings.inferred
    assert uses[1].n_cached == uses[1].n_tokens
    assert uses[2].n_cached == 0


def test_nothing_is_prewarmed_where_that_may_cost_money() -> None:
    with Endpoint(say(reply(["x"]))) as endpoint:
        backend = connect(endpoint.url)
        n_before = len(endpoint.exchanges)
        assert last(list(backend.prewarm(PrewarmRequest((FILE,)), never))).finish_reason == "cancelled"
        assert len(endpoint.exchanges) == n_before
    with Endpoint(say(reply(["x"])), models=({"id": "m", "owned_by": "vllm"},)) as endpoint:
        backend = connect(endpoint.url)
        backend._http.host = "vllm.example.com"  # rented by the hour, or by the token: not ours to know
        n_before = len(endpoint.exchanges)
        assert last(list(backend.prewarm(PrewarmRequest((FILE,)), never))).finish_reason == "cancelled"
        assert len(endpoint.exchanges) == n_before


# Grammars.


def guided(exchange: Exchange, *, speaks: bool = True, refuses: bool = False) -> None:
    """A server with llguidance behind `structured_outputs`."""
    body = exchange.body
    grammar = body.get("structured_outputs", {}).get("grammar")
    if grammar and not speaks:
        exchange.json({"error": {"message": "Invalid grammar specification."}}, 400)
    elif grammar == GRAMMAR_PROBE:
        exchange.head()
        exchange.send(reply([GRAMMAR_PROBE_REPLY]))
    elif grammar and refuses:
        exchange.json({"error": {"message": "Current row has 2699 items; max is 2000"}}, 400)
    else:
        exchange.head()
        exchange.send(reply(["constrained" if grammar else "free"]))


VLLM_MODEL = {"id": "m", "owned_by": "vllm", "max_model_len": 4096}


def test_a_grammar_is_passed_where_the_server_obeys_one() -> None:
    request = GenerateRequest((TASK,), grammar='start: "x"\n', max_tokens=9)
    long = GenerateRequest((TASK,), grammar='start: "x"\n' * (MAX_GRAMMAR_LINES + 1), max_tokens=9)
    with Endpoint(guided, models=(VLLM_MODEL,)) as endpoint:
        backend = connect(endpoint.url)
        assert backend.info.constrains
        assert run(backend, request)[0] == "constrained"
        assert endpoint.asked[-1].body["structured_outputs"]["grammar"] == '%llguidance {}\nstart: "x"\n'
        assert run(backend, long)[0] == "free"


def test_no_grammar_is_passed_where_the_server_might_not_understand() -> None:
    request = GenerateRequest((TASK,), grammar='start: "x"\n', max_tokens=9)
    with Endpoint(lambda x: guided(x, speaks=False), models=(VLLM_MODEL,)) as endpoint:
        backend = connect(endpoint.url)
        assert not backend.info.constrains
        assert run(backend, request)[0] == "free"
    # One that ignores the field says something else than what the probe forces.
    with Endpoint(say(reply(["Hello!"])), models=(VLLM_MODEL,)) as endpoint:
        assert not connect(endpoint.url).info.constrains


def test_a_grammar_that_is_refused_is_left_out() -> None:
    request = GenerateRequest((TASK,), grammar='start: "x"\n', max_tokens=9)
    with Endpoint(lambda x: guided(x, refuses=True), models=(VLLM_MODEL,)) as endpoint:
        assert run(connect(endpoint.url), request)[0] == "free"


# What a server does not accept.


def test_fields_that_a_service_refuses_are_left_out_from_then_on() -> None:
    def strict(exchange: Exchange) -> None:
        for name in ("stream_options", "max_tokens", "temperature"):
            if name in exchange.body:
                message = f"Unsupported parameter: '{name}' is not supported with this model."
                exchange.json({"error": {"message": message}}, 400)
                return
        exchange.head()
        exchange.send(reply(["ok"]))

    with Endpoint(strict) as endpoint:
        backend = connect(endpoint.url)
        assert run(backend)[0] == "ok"
        n_before = len(endpoint.asked)
        assert run(backend)[0] == "ok"
        assert len(endpoint.asked) == n_before + 1
        assert endpoint.asked[-1].body["max_completion_tokens"] == 100


def choosy(words: str, is_right: Callable[[dict[str, Any]], bool], status: int = 400) -> Script:
    """A server that takes nothing else; a status of 200 is an error within the stream."""

    def script(exchange: Exchange) -> None:
        if is_right(exchange.body):
            say(OK)(exchange)
        elif status == 200:
            say(event(delta("", role="assistant")) + event({"error": {"message": words}}))(exchange)
        else:
            exchange.json({"error": {"message": words}}, status)

    return script


def has_no_system(body: dict[str, Any]) -> bool:
    return [one["role"] for one in body["messages"]] == ["user"]


CHOOSY: list[tuple[str, str, Callable[[dict[str, Any]], bool]]] = [
    ("no system role", "System role not supported", has_no_system),
    ("a limit", "max_tokens must be less than or equal to 64", lambda body: body["max_tokens"] <= 64),
    (
        "another limit",
        "max_tokens is too large: 100. This model supports at most 64 completion tokens, whereas you "
        "provided 100.",
        lambda body: body["max_tokens"] == 64,
    ),
    (
        "another name of the limit",
        "Unsupported parameter: 'max_tokens' is not supported. Use 'max_completion_tokens' instead.",
        lambda body: "max_tokens" not in body and body["max_completion_tokens"] == 100,
    ),
    ("no usage", "stream_options is not supported", lambda body: "stream_options" not in body),
    (
        "its own temperature",
        "Unsupported value: 'temperature' does not support 0.0 with this model. Only the default (1) is.",
        lambda body: "temperature" not in body,
    ),
    ("no greed", "`temperature` must be strictly positive", lambda body: 0 < body["temperature"] < 0.1),
]


@pytest.mark.parametrize("status", [400, 422, 500, 200])
@pytest.mark.parametrize(("words", "is_right"), [row[1:] for row in CHOOSY], ids=[row[0] for row in CHOOSY])
def test_a_server_is_asked_again_on_its_own_terms_once_and_then_at_once(
    words: str, is_right: Callable[[dict[str, Any]], bool], status: int
) -> None:
    with Endpoint(choosy(words, is_right, status)) as endpoint:
        backend = connect(endpoint.url)
        text, finished = run(backend)
        assert (text, finished.finish_reason) == ("ok", "stop")
        assert len(endpoint.asked) == 2
        assert run(backend)[0] == "ok"
        assert len(endpoint.asked) == 3
        # What it did not object to is as it was.
        first, _, later = (one.body for one in endpoint.asked)
        assert sum(later.get(name) != first[name] for name in first) == 1


@pytest.mark.parametrize("status", [400, 500, 200])
@pytest.mark.parametrize("words", [row[1] for row in CHOOSY], ids=[row[0] for row in CHOOSY])
def test_a_server_that_objects_to_its_own_terms_is_reported(words: str, status: int) -> None:
    with Endpoint(choosy(words, lambda _: False, status)) as endpoint:
        backend = connect(endpoint.url)
        with pytest.raises(BackendError) as caught:
            run(backend)
        assert words.partition(".")[0] in caught.value.message
        assert len(endpoint.asked) <= 3
        # Nothing of it is kept: it may have been about something else.
        endpoint.script = say(OK)
        assert run(backend)[0] == "ok"
        assert endpoint.asked[-1].body == endpoint.asked[0].body


def test_a_service_with_many_wishes() -> None:
    """As the newest models of some have them."""
    wishes = [row for row in CHOOSY if row[0] in ("no system role", "no usage", "its own temperature")]
    wishes.append(("", "use max_completion_tokens, not max_tokens", lambda body: "max_tokens" not in body))
    wishes.append(("", "max_completion_tokens: at most 64", lambda body: body["max_completion_tokens"] <= 64))

    def script(exchange: Exchange) -> None:
        words = next((words for _, words, is_right in wishes if not is_right(exchange.body)), "")
        choosy(words, lambda _: not words)(exchange)

    with Endpoint(script) as endpoint:
        backend = connect(endpoint.url)
        assert run(backend)[0] == "ok"
        assert len(endpoint.asked) == 1 + len(wishes)
        assert run(backend)[0] == "ok"
        assert len(endpoint.asked) == 2 + len(wishes)


def test_a_reply_that_a_limit_of_the_server_cut_off() -> None:
    """By that, and not by the model's context."""

    def script(exchange: Exchange) -> None:
        if exchange.body["max_tokens"] > 64:
            exchange.json({"error": {"message": "max_tokens must be at most 64"}}, 400)
        else:
            say(reply(["x"] * 64, "length", {"prompt_tokens": 90, "completion_tokens": 64}))(exchange)

    with Endpoint(script) as endpoint:
        for backend in (connect(endpoint.url),) * 2:
            assert run(backend)[1].finish_reason == "length"


def test_a_limit_that_exceeds_the_context_alone() -> None:
    """The prompt's tokens are not told, and estimated."""
    words = "max_tokens (1000) exceeds the maximum context length of 260 tokens"
    with Endpoint(choosy(words, lambda body: body["max_tokens"] < 200)) as endpoint:
        backend = connect(endpoint.url)
        assert run(backend, GenerateRequest((FILE, TASK), max_tokens=1000, min_reply=16))[0] == "ok"
        assert 16 <= endpoint.asked[-1].body["max_tokens"] < 200


def test_text_generation_inference_tells_the_sum() -> None:
    words = (
        "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 200. Given: 130 `inputs` "
        "tokens and 100 `max_new_tokens`"
    )
    with Endpoint(choosy(words, lambda body: body["max_tokens"] + 130 <= 200, 422)) as endpoint:
        assert run(connect(endpoint.url))[0] == "ok"
        assert endpoint.asked[-1].body["max_tokens"] == 62


def test_a_prompt_is_prewarmed_on_the_servers_terms() -> None:
    model = {"id": "m", "owned_by": "vllm"}
    with Endpoint(choosy("System role not supported", has_no_system), models=(model,)) as endpoint:
        backend = connect(endpoint.url)
        list(backend.prewarm(PrewarmRequest((SYSTEM, FILE)), never))
        n_before = len(endpoint.asked)
        assert run(backend)[0] == "ok"
        assert len(endpoint.asked) == n_before + 1
        ahead, asked = (one.body["messages"][0]["content"] for one in endpoint.asked[-2:])
        assert asked.startswith(ahead)


def test_a_prompt_that_was_just_read_is_not_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    model = {"id": "m", "owned_by": "vllm"}
    with Endpoint(say(reply(["a"])), models=(model,)) as endpoint:
        backend = connect(endpoint.url)
        request = PrewarmRequest((SYSTEM, FILE))
        assert last(list(backend.prewarm(request, never))).timings.n_prefilled > 0
        n_before = len(endpoint.asked)
        again = last(list(backend.prewarm(request, never)))
        assert (again.finish_reason, again.timings.n_prefilled) == ("stop", 0)
        assert len(endpoint.asked) == n_before
        other = PrewarmRequest((SYSTEM, TASK))
        list(backend.prewarm(other, never))
        assert len(endpoint.asked) == n_before + 1
        monkeypatch.setattr("singlepass_backends.drivers.remote.backend._FRESH_S", 0.0)
        list(backend.prewarm(other, never))
        assert len(endpoint.asked) == n_before + 2


def test_lm_studio_without_a_system_prompt() -> None:
    model = {"id": "m", "owned_by": "organization_owner"}
    error = {"type": "error", "error": {"message": "Error rendering prompt: System role not supported"}}

    def script(exchange: Exchange) -> None:
        say(event(error) if "system_prompt" in exchange.body else LM_STUDIO_STREAM)(exchange)

    with Endpoint(script, {"/api/v1/models": LM_STUDIO_MODELS}, models=(model,)) as endpoint:
        assert run(connect(endpoint.url))[0] == "The ënd"
        assert endpoint.asked[-1].body["input"] == f"{SYSTEM.text.rstrip()}\n\n{USER_TEXT}"


# Predictions.

SELECTED = Draft("a.py\nSEARCH\nx = 1\nNEW\nx = 1\n", "SEARCH", "NEW", "END")
PREDICTED = GenerateRequest((TASK,), max_tokens=40, draft=SELECTED)


def test_a_prediction_is_passed_where_the_target_wants_it_and_something_is_selected() -> None:
    at_cursor = Draft("a.py\nSEARCH\nNEW\n", "SEARCH", "NEW", "END")
    with Endpoint(say(OK)) as endpoint:
        for request, settings, expected in (
            (PREDICTED, {"prediction": True}, "a.py\nSEARCH\nx = 1\nNEW\nx = 1\nEND\n"),
            (PREDICTED, {}, None),
            (GenerateRequest((TASK,), draft=at_cursor), {"prediction": True}, None),
            (GenerateRequest((TASK,)), {"prediction": True}, None),
        ):
            assert run(connect(endpoint.url, **settings), request)[0] == "ok"
            sent = endpoint.asked[-1].body.get("prediction")
            assert sent == (expected and {"type": "content", "content": expected})


def test_ollamas_own_api_gets_no_prediction() -> None:
    with Endpoint(say(OLLAMA_STREAM, "application/x-ndjson"), OLLAMA_ANSWERS) as endpoint:
        run(connect(endpoint.url, prediction=True, model="m"), PREDICTED)
        assert "prediction" not in endpoint.asked[-1].body


@pytest.mark.parametrize(
    "words", ["Unknown parameter: 'prediction'.", "The request is not valid."], ids=["named", "not named"]
)
def test_a_prediction_that_is_refused_is_left_out_from_then_on(words: str) -> None:
    def strict(exchange: Exchange) -> None:
        if "prediction" in exchange.body:
            exchange.json({"error": {"message": words}}, 400)
        else:
            say(OK)(exchange)

    with Endpoint(strict) as endpoint:
        backend = connect(endpoint.url, prediction=True)
        assert run(backend, PREDICTED)[0] == "ok"
        assert len(endpoint.asked) == 2
        assert run(backend, PREDICTED)[0] == "ok"
        assert len(endpoint.asked) == 3


def test_a_request_that_is_refused_anyhow_does_not_speak_against_predictions() -> None:
    with Endpoint(headers_only(400, "The request is not valid.")) as endpoint:
        backend = connect(endpoint.url, prediction=True)
        with pytest.raises(BackendError, match="not valid"):
            run(backend, PREDICTED)
        assert len(endpoint.asked) == 2
        endpoint.script = say(OK)
        run(backend, PREDICTED)
        assert "prediction" in endpoint.asked[-1].body


def test_predicted_tokens_are_counted() -> None:
    details = {"accepted_prediction_tokens": 30, "rejected_prediction_tokens": 8, "reasoning_tokens": 0}
    usage = {"prompt_tokens": 90, "completion_tokens": 40, "completion_tokens_details": details}
    with Endpoint(say(reply(["ok"], "length", usage))) as endpoint:
        _, finished = run(connect(endpoint.url, prediction=True), PREDICTED)
        timings = finished.timings
        assert (timings.n_drafted, timings.n_accepted, timings.n_decoded) == (38, 30, 32)
        assert timings.n_forward == 2
        assert finished.finish_reason == "length", "what was rejected counts against the limit"


OVERFLOWS = [
    {
        "error": {
            "code": 400,
            "message": "the request exceeds the available context size, try increasing it",
            "type": "exceed_context_size_error",
            "n_prompt_tokens": 9000,
            "n_ctx": 8192,
        }
    },
    {"error": {"message": "request (9000 tokens) exceeds the available context size (8192 tokens)"}},
    {
        "error": {
            "message": "This model's maximum context length is 8192 tokens. However, you requested 9100 "
            "tokens (9000 in the messages, 100 in the completion). Please reduce the length of the messages."
        }
    },
    {
        "object": "error",
        "message": "This model's maximum context length is 8192 tokens. However, your messages resulted in "
        "9000 tokens.",
    },
    {
        "error": {
            "message": "The input (9000 tokens) is longer than the model's context length (8192 tokens)."
        }
    },
    {"message": "Input length (9000 tokens) exceeds the maximum allowed length (8192 tokens)."},
]


@pytest.mark.parametrize("payload", OVERFLOWS)
def test_a_prompt_that_is_too_long_says_by_how_much(payload: dict[str, Any]) -> None:
    script: Script = lambda exchange: exchange.json(payload, 400)  # noqa: E731
    request = GenerateRequest((SYSTEM, Segment("a.py", FILE.text * 60), TASK))
    with Endpoint(script) as endpoint, pytest.raises(BackendError, match="9,000 tokens") as caught:
        run(connect(endpoint.url), request)
    assert caught.value.code == "prompt_too_long"
    data = caught.value.data
    assert (data["n_prompt"], data["n_ctx"], data["n_excess"]) == (9000, 8192, 809)
    assert [name for name, _ in data["segments"]] == ["rules", "a.py", "task"]
    assert sum(size for _, size in data["segments"]) == pytest.approx(9000, rel=0.01)


def test_fewer_tokens_are_asked_for_where_the_reply_does_not_fit() -> None:
    def script(exchange: Exchange) -> None:
        if exchange.body["max_tokens"] > 92:
            message = (
                "'max_tokens' is too large: 100. This model's maximum context length is 200 tokens and your "
            )
            exchange.json({"error": {"message": f"{message}request has 100 input tokens."}}, 400)
        else:
            exchange.head()
            exchange.send(reply(["ok"]))

    with Endpoint(script) as endpoint:
        assert run(connect(endpoint.url))[0] == "ok"
        assert endpoint.asked[-1].body["max_tokens"] == 92


def test_a_server_that_cuts_prompts_in_silence_is_sent_none_that_is_too_long() -> None:
    answers = {**OLLAMA_ANSWERS, "/api/ps": {"models": [{"name": "m", "context_length": 64}]}}
    with Endpoint(
        say(OLLAMA_STREAM, "application/x-ndjson"), answers, models=({"id": "m", "owned_by": "library"},)
    ) as endpoint:
        backend = connect(endpoint.url)
        with pytest.raises(BackendError, match="raise `n_ctx`") as caught:
            run(backend)
        assert caught.value.code == "prompt_too_long"
        list(backend.prewarm(PrewarmRequest((SYSTEM, FILE)), never))  # without what does not fit
        assert [one["role"] for one in endpoint.asked[-1].body["messages"]] == ["system", "user"]
        assert endpoint.asked[-1].body["messages"][1]["content"] == ""


# The key.


def test_the_key_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    target = Target(backend="openai_compatible", url="https://api.example.com/v1", api_key_env="SP_TEST_KEY")
    monkeypatch.setenv("SP_TEST_KEY", f" {KEY}\n")
    key = Key(target, "api.example.com")
    assert key.header() == {"Authorization": f"Bearer {KEY}"}
    assert KEY not in f"{key} {key!r} {target!r}"
    monkeypatch.delenv("SP_TEST_KEY")
    monkeypatch.setitem(sys.modules, "keyring", None)
    with pytest.raises(BackendError, match="SP_TEST_KEY, named by `api_key_env`, is not set") as caught:
        Key(target, "api.example.com")
    assert caught.value.code == "unauthorized"


def test_the_key_comes_from_the_keyring(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str]] = []

    def get_password(service: str, user: str) -> str:
        asked.append((service, user))
        return KEY

    monkeypatch.setitem(sys.modules, "keyring", SimpleNamespace(get_password=get_password))
    target = Target(backend="openai_compatible", url="https://api.example.com/v1")
    assert Key(target, "api.example.com").header() == {"Authorization": f"Bearer {KEY}"}
    assert asked == [("singlepass", "api.example.com")]
    assert not Key(target, "localhost")  # nobody is asked for a key to their own machine


def test_a_redirect_takes_no_key_along(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SP_TEST_KEY", KEY)
    with Endpoint(say(OK)) as other:
        script = headers_only(302, Location=f"{other.url}/v1/chat/completions")
        with Endpoint(script) as endpoint:
            backend = connect(endpoint.url, api_key_env="SP_TEST_KEY")
            with pytest.raises(BackendError, match=f"redirects to {other.url}/v1/chat/completions"):
                run(backend)
        assert not other.exchanges


def command_line(pid: int) -> str:
    return " ".join(psutil.Process(pid).cmdline())


def logs_of(folder: Path) -> str:
    return "".join(path.read_text() for path in folder.glob("*.log"))


@pytest.mark.anyio
async def test_through_the_engine_the_key_is_in_no_command_line_and_no_log(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SP_TEST_KEY", KEY)
    script = say(reply(["through ", "the engine"]))
    with Endpoint(script) as endpoint:
        target = Target(backend="openai_compatible", url=endpoint.url, api_key_env="SP_TEST_KEY")
        client = EngineClient(target, runtime_dir=folder)
        info = await client.connect()
        assert info.name == "m"
        text = "".join([one.text async for one in client.generate(REQUEST) if isinstance(one, TextChunk)])
        assert text == "through the engine"
        status = await client.status()
        assert status is not None
        command = command_line(status.pid)
        assert "openai_compatible" in command
        assert KEY not in command
        await client.stop()
        assert endpoint.asked[-1].headers["authorization"] == f"Bearer {KEY}"
    assert logs_of(folder)
    assert KEY not in logs_of(folder)


# Cancelling.


def wait_for(condition: Callable[[], bool], seconds: float = 3.0) -> None:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.005)
    assert condition()


def talking(exchange: Exchange) -> None:
    """A token every 10 ms, until nobody listens."""
    exchange.head()
    began = time.monotonic()
    try:
        while time.monotonic() - began < 5:
            exchange.event(delta("x"))
            time.sleep(0.01)
    except OSError:
        exchange.closed_after = 0.0


CANCELLED: list[tuple[str, Script, int]] = [
    # name, what the endpoint does, tokens after which to cancel
    ("before the head", lambda x: x.wait_closed(), 0),
    ("in a silent prefill", then_silence(), 0),
    ("while comments come", then_silence(b": ping\n\n"), 0),
    (
        "in a prefill with progress",
        then_silence(event({"choices": [], "prompt_progress": {"total": 9, "cache": 0, "processed": 3}})),
        0,
    ),
    ("in the middle of the reply", talking, 3),
    ("between tokens", then_silence(event(delta("one"))), 1),
    ("while the server is to be left alone", headers_only(429, Retry_After="15"), 0),
]


@pytest.mark.parametrize(
    ("script", "n_tokens"), [row[1:] for row in CANCELLED], ids=[row[0] for row in CANCELLED]
)
def test_cancelling_closes_the_connection(script: Script, n_tokens: int) -> None:
    stop = StopFlag()
    with Endpoint(script) as endpoint:
        backend = connect(endpoint.url)
        events: list[Event] = []

        def generate() -> None:
            events.extend(backend.generate(REQUEST, stop))

        thread = threading.Thread(target=generate)
        thread.start()
        wait_for(lambda: bool(endpoint.asked))
        time.sleep(0.1)
        stop.set()
        began = time.monotonic()
        thread.join(3)
        assert time.monotonic() - began < 0.5
        endpoint.join()
        asked = endpoint.asked[-1]
        if script is not CANCELLED[-1][1]:
            assert asked.closed_after is not None
            assert asked.closed_after < 1
        finished = last(events)
        assert finished.finish_reason == "cancelled"
        assert finished.timings.n_decoded >= n_tokens
        stop.clear()
        endpoint.script = say(OK)
        assert run(backend)[0] == "ok"  # the next request is unharmed


def test_cancelling_while_connecting(monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()
    with Endpoint(say(OK)) as endpoint:
        backend = connect(endpoint.url)
        stop = StopFlag()
        monkeypatch.setattr(socket, "create_connection", lambda *_, **__: released.wait(3))
        threading.Timer(0.1, stop.set).start()
        began = time.monotonic()
        assert last(list(backend.generate(REQUEST, stop))).finish_reason == "cancelled"
        assert time.monotonic() - began < 0.5
        released.set()


def test_leaving_the_iterator_closes_the_connection() -> None:
    with Endpoint(talking) as endpoint:
        events = connect(endpoint.url).generate(REQUEST, never)
        assert any(isinstance(one, TextChunk) for one in itertools.islice(events, 5))
        events.close()  # type: ignore[attr-defined]
        wait_for(lambda: endpoint.asked[-1].closed_after is not None)


def test_a_slow_reader_is_not_taken_for_a_slow_server() -> None:
    with Endpoint(say(reply(["a", "b", "c"]))) as endpoint:
        texts: list[str] = []
        for one in connect(endpoint.url, stall_timeout_s=0.1, prefill_timeout_s=0.2).generate(REQUEST, never):
            time.sleep(0.15)
            texts += [one.text] if isinstance(one, TextChunk) else []
    assert texts == ["a", "b", "c"]


def test_a_connection_is_used_again() -> None:
    """Two requests over one connection, where the server keeps it open."""
    n_connections = 0

    def answer(kind: str, body: bytes) -> bytes:
        head = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
        return head.encode() + body

    def serve(listener: socket.socket) -> None:
        nonlocal n_connections
        models = json.dumps({"data": [{"id": "m", "owned_by": "me"}]}).encode()
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            n_connections += 1
            with sock:
                data = b""
                while more := sock.recv(65536):
                    data += more
                    if data.startswith(b"GET"):
                        sock.sendall(answer("application/json", models))
                        data = b""
                    elif data.rstrip().endswith(b"}"):
                        sock.sendall(answer("text/event-stream", OK))
                        data = b""

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,), daemon=True)
        thread.start()
        backend = connect(f"http://127.0.0.1:{listener.getsockname()[1]}")
        assert [run(backend)[0] for _ in range(3)] == ["ok"] * 3
        backend.close()
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(2)
    assert n_connections == 1
