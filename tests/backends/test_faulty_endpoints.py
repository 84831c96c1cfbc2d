"""What the remote backend says of servers that are not what they should be."""

import gzip
import json
import logging
import re
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from endpoints import (
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
from remote import KEY, REQUEST, close_all, connect, last, never, run, text_of
from singlepass_backends.base import (
    BackendError,
    Event,
)
from singlepass_backends.drivers.remote import backend as remote_backend
from singlepass_backends.drivers.remote import http
from singlepass_backends.drivers.remote.servers import likely_at

DATA = Path(__file__).parents[1] / "data"


@pytest.fixture(autouse=True)
def quick_and_closed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(http, "BACKOFF_S", (0.01,))
    yield
    close_all()


def raw(data: bytes) -> Script:
    return lambda exchange: exchange.send(data)


def endless(data: bytes) -> Script:
    def script(exchange: Exchange) -> None:
        exchange.head()
        while True:
            exchange.send(data * 20)

    return script


def in_bits(data: bytes, n: int = 1, pause: float = 0.0) -> Script:
    def script(exchange: Exchange) -> None:
        exchange.head()
        for at in range(0, len(data), n):
            exchange.send(data[at : at + n])
            time.sleep(pause)

    return script


def chunked(data: bytes, n: int) -> Script:
    def script(exchange: Exchange) -> None:
        exchange.send(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        for at in range(0, len(data), n):
            part = data[at : at + n]
            exchange.send(f"{len(part):x}\r\n".encode() + part + b"\r\n")
        exchange.send(b"0\r\n\r\n")

    return script


def pinging(exchange: Exchange) -> None:
    exchange.head()
    for _ in range(100):
        exchange.send(b": ping\n\n")
        time.sleep(0.02)


def slow_but_alive(exchange: Exchange) -> None:
    """Twice as long as the time-out, with progress in between."""
    exchange.head()
    for done in range(1, 9):
        time.sleep(0.1)
        exchange.event({"choices": [], "prompt_progress": {"total": 8, "cache": 0, "processed": done}})
    exchange.send(reply(["ok"]))


def reset_mid_stream(exchange: Exchange) -> None:
    exchange.head()
    exchange.event(delta("one"))
    time.sleep(0.1)
    exchange.reset()


def packed(exchange: Exchange) -> None:
    exchange.head(Content_Encoding="gzip")
    exchange.send(gzip.compress(reply(["ok"])))


def bad_gateway(exchange: Exchange) -> None:
    exchange.head(502, "text/html")
    exchange.send(HTML)


def badly_packed(exchange: Exchange) -> None:
    exchange.head(Content_Encoding="gzip")
    exchange.send(b"this is not gzip at all")


OK = reply(["ok"])
HTML = b"<!doctype html><html><head><title>502 Bad\nGateway</title></head><body>x</body></html>"

FAULTY: list[tuple[str, Script, str, str, str]] = [
    # name, what the endpoint does, code of the error ("" for none), its message, text before it
    ("429", headers_only(429, "Slow down", Retry_After="900"), "rate_limited", r"Slow down.*in 900 s", ""),
    ("429 again and again", headers_only(429, "Slow down"), "rate_limited", "takes no more.*later", ""),
    ("no credit", headers_only(402, "Insufficient balance"), "rate_limited", "Insufficient balance", ""),
    ("500", headers_only(500, "boom"), "server_failed", r"failed \(500\): boom", ""),
    ("500 without a body", headers_only(500), "server_failed", r"failed \(500\)", ""),
    (
        "502 with a web page",
        bad_gateway,
        "server_failed",
        "502 Bad Gateway",
        "",
    ),
    ("503 again and again", headers_only(503, "busy"), "server_failed", r"\(503\): busy", ""),
    ("out of memory", headers_only(500, "CUDA error: out of memory"), "out_of_memory", "smaller model", ""),
    ("400", headers_only(400, "nonsense"), "unsupported", r"refused the request \(400\): nonsense", ""),
    ("cut before the first event", say(b""), "bad_reply", "without an answer", ""),
    (
        "cut in the middle",
        say(event(delta("one")) + event(delta(" two"))),
        "unreachable",
        "cut the reply off after 2",
        "one two",
    ),
    ("cut within an event", say(event(delta("one")) + b'data: {"choi'), "bad_reply", "not JSON", "one"),
    ("reset in the middle", reset_mid_stream, "unreachable", "broke off after 1 token", "one"),
    ("reset at once", lambda x: x.reset(), "unreachable", "broke off", ""),
    ("no finish reason", say(reply(["ok"], finish=None)), "", "stop", "ok"),
    ("no [DONE]", say(event(delta("ok")) + event(delta(finish_reason="stop"))), "", "stop", "ok"),
    (
        "no [DONE], left open",
        then_silence(event(delta("ok")) + event(delta(finish_reason="stop"))),
        "",
        "stop",
        "ok",
    ),
    ("[DONE], left open", then_silence(OK), "", "stop", "ok"),
    ("only [DONE]", say(event("[DONE]")), "bad_reply", "without an answer", ""),
    ("endless", endless(event(delta("x"))), "", "length", "x" * 165),
    ("endless comments", endless(b": ping\n\n"), "timed_out", "not begun", ""),
    ("an endless line", endless(b"x" * 4096), "bad_reply", "a line of over", ""),
    ("a byte at a time", in_bits(reply(["nä", "🙂"])), "", "stop", "nä🙂"),
    ("tiny chunks", chunked(reply(["nä", "🙂"]), 1), "", "stop", "nä🙂"),
    (
        "an ill-formed chunk",
        raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"),
        "unreachable",
        "broke off",
        "",
    ),
    (
        "a web page",
        say(HTML, "text/html; charset=utf-8"),
        "bad_reply",
        "text/html.*Bad Gateway.*check `url`",
        "",
    ),
    ("an image", say(b"\x89PNG", "image/png"), "bad_reply", "image/png", ""),
    ("no content type", say(OK, ""), "", "stop", "ok"),
    (
        "not streamed",
        say(
            json.dumps({"choices": [{"message": {"content": "ok"}, "finish_reason": "stop"}]}).encode(),
            "application/json",
        ),
        "",
        "stop",
        "ok",
    ),
    ("another JSON", say(b'{"hello": 1}', "application/json"), "bad_reply", "without an answer", ""),
    ("broken JSON", say(b'{"hello"', "application/json"), "bad_reply", "not JSON", ""),
    (
        "redirect",
        headers_only(307, Location="https://elsewhere.example/v1?token=abc"),
        "unreachable",
        r"redirects to https://elsewhere\.example/v1 \(307\)",
        "",
    ),
    (
        "wrong key",
        headers_only(401, f"Incorrect API key provided: {KEY}"),
        "unauthorized",
        r"refused the key from the environment variable SP_TEST_KEY \(401\).*\[key\]",
        "",
    ),
    ("forbidden", headers_only(403, "no access"), "unauthorized", r"\(403\): no access", ""),
    (
        "model gone",
        headers_only(404, "model 'm' not found, try pulling it first"),
        "model_missing",
        "has no model 'm'",
        "",
    ),
    ("nothing there", headers_only(404), "bad_reply", r"has no chat completions \(404\).*check|Check", ""),
    (
        "too large headers",
        raw(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 300_000 + b"\r\n\r\n"),
        "unreachable",
        "broke off",
        "",
    ),
    ("not HTTP", raw(b"SSH-2.0-OpenSSH_9.6\r\n"), "unreachable", "broke off", ""),
    (
        "silent forever",
        lambda x: x.wait_closed(),
        "timed_out",
        r"not begun to reply within 0\.4 s.*prefill_timeout_s",
        "",
    ),
    ("silent after the head", then_silence(), "timed_out", "not begun", ""),
    (
        "silent after a token",
        then_silence(event(delta("one"))),
        "timed_out",
        r"nothing more for 0\.3 s after 1 token.*stall_timeout_s",
        "one",
    ),
    ("comments and nothing else", pinging, "timed_out", "not begun", ""),
    ("silent, then goes on", in_bits(OK, 60, 0.1), "", "stop", "ok"),
    ("slow with progress", slow_but_alive, "", "stop", "ok"),
    (
        "an error in the stream",
        say(event(delta("one")) + event({"error": {"message": "KV cache is full"}})),
        "server_failed",
        "KV cache is full",
        "one",
    ),
    (
        "an error as a string",
        say(event({"error": "model runner stopped"})),
        "server_failed",
        "model runner stopped",
        "",
    ),
    (
        "an error for the prompt",
        say(event({"error": {"message": "the request exceeds the available context size"}})),
        "prompt_too_long",
        "too many",
        "",
    ),
    (
        "the role again and again",
        say(b"".join(event(delta(c, role="assistant")) for c in "ok") + event(delta(finish_reason="stop"))),
        "",
        "stop",
        "ok",
    ),
    ("null content", say(event(delta(content=None)) + OK), "", "stop", "ok"),
    (
        "content in parts",
        say(event(delta(content=[{"type": "text", "text": "ok"}])) + event("[DONE]")),
        "",
        "stop",
        "ok",
    ),
    ("a tool call", say(event(delta(tool_calls=[{"id": "1"}]))), "unsupported", "tool call", ""),
    ("a finish by tool call", say(event(delta(finish_reason="tool_calls"))), "unsupported", "tool call", ""),
    (
        "a filter",
        say(event(delta("one")) + event(delta(finish_reason="content_filter"))),
        "server_failed",
        "its filter objects",
        "one",
    ),
    (
        "gave up",
        say(event(delta(finish_reason="abort"))),
        "server_failed",
        r"gave the reply up \(abort\)",
        "",
    ),
    (
        "thoughts apart",
        say(event(delta(reasoning_content="hm")) + event(delta(reasoning="hm")) + OK),
        "",
        "stop",
        "ok",
    ),
    (
        "thoughts within",
        say(reply(["<th", "ink>hm</thi", "nk>\n```\n", "ok", "\n``", "`\n"])),
        "",
        "stop",
        "```\nok\n```\n",
    ),
    (
        "several choices",
        say(event({"choices": [{"index": 1, "delta": {"content": "no"}}]}) + OK),
        "",
        "stop",
        "ok",
    ),
    ("gzip", packed, "", "stop", "ok"),
    ("broken gzip", badly_packed, "bad_reply", "cannot be unpacked", ""),
    ("a byte order mark", say(b"\xef\xbb\xbf" + OK), "", "stop", "ok"),
    ("CRLF", say(OK.replace(b"\n", b"\r\n")), "", "stop", "ok"),
    ("comments between", say(OK.replace(b"data:", b": keep-alive\n\ndata:")), "", "stop", "ok"),
    (
        "bytes that are no text",
        say(b'data: {"choices":[{"delta":{"content":"\xff\xfe"}}]}\n\n' + event("[DONE]")),
        "",
        "stop",
        "\ufffd\ufffd",
    ),
    (
        "half a surrogate pair",
        say(b'data: {"choices":[{"delta":{"content":"o\\ud83dk"}}]}\n\n' + event("[DONE]")),
        "",
        "stop",
        "o?k",
    ),
    ("cut by the limit", say(reply(["x"] * 100, finish="length")), "", "length", "x" * 100),
    (
        "cut by the context",
        say(reply(["x"], finish="length", usage={"completion_tokens": 1})),
        "",
        "context",
        "x",
    ),
]


@pytest.mark.parametrize(
    ("script", "code", "message", "text"), [row[1:] for row in FAULTY], ids=[row[0] for row in FAULTY]
)
def test_faulty_endpoints(
    script: Script,
    code: str,
    message: str,
    text: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("SP_TEST_KEY", KEY)
    monkeypatch.setattr(remote_backend, "_LAST_S", 0.2)
    caplog.set_level(logging.DEBUG)
    events: list[Event] = []
    with Endpoint(script) as endpoint:
        backend = connect(endpoint.url, api_key_env="SP_TEST_KEY", prefill_timeout_s=0.4, stall_timeout_s=0.3)
        error: BackendError | None = None
        began = time.monotonic()
        try:
            events += backend.generate(REQUEST, never)
        except BackendError as caught:
            error = caught
        took = time.monotonic() - began
        backend.close()
        assert endpoint.asked[-1].headers["authorization"] == f"Bearer {KEY}"
    assert text_of(events) == text
    if code:
        assert error is not None
        assert error.code == code
        assert re.search(message, error.message), error.message
        assert endpoint.url in error.message or code in ("unsupported", "prompt_too_long")
        assert error.message.endswith(".")
        assert KEY not in error.message + repr(error.data) + repr(backend) + repr(vars(backend))
    else:
        assert error is None, error
        assert last(events).finish_reason == message
    assert took < 3
    assert KEY not in caplog.text


def test_there_are_forty_of_them() -> None:
    assert len(FAULTY) >= 40


def test_what_fails_before_the_first_byte_is_tried_again() -> None:
    answers: list[Script] = [
        headers_only(503, "busy"),
        headers_only(429, "slow down", Retry_After="0.05"),
        lambda x: x.reset(),
        say(OK),
    ]
    with Endpoint(lambda exchange: answers.pop(0)(exchange)) as endpoint:
        assert run(connect(endpoint.url))[0] == "ok"
    assert not answers


def test_a_model_that_is_being_loaded_is_waited_for() -> None:
    loading = headers_only(503, "Loading model")
    answers: list[Script] = [loading] * 6 + [say(OK)]
    with Endpoint(lambda exchange: answers.pop(0)(exchange)) as endpoint:
        backend = connect(endpoint.url)
        backend._http._pause = lambda seconds: None  # type: ignore[method-assign]
        assert run(backend)[0] == "ok"


def test_nothing_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    with pytest.raises(
        BackendError, match=r"Nothing can be reached at .*refused.*Start it, or check"
    ) as caught:
        connect(f"http://127.0.0.1:{port}")
    assert caught.value.code == "unreachable"
    server = likely_at(11434)
    assert server is not None
    assert server.start == "ollama serve"


def test_a_server_that_goes_away_and_comes_back() -> None:
    with Endpoint(say(OK)) as endpoint:
        backend = connect(endpoint.url)
        assert run(backend)[0] == "ok"
    with pytest.raises(BackendError, match="refused"):
        run(backend)


def test_a_name_that_does_not_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    with pytest.raises(BackendError, match="name or service not known") as caught:
        connect("http://no-such-host.internal:1234")
    assert caught.value.code == "unreachable"


def test_a_connection_that_is_not_accepted_times_out(monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()
    monkeypatch.setattr(socket, "create_connection", lambda *_, **__: released.wait(3))
    began = time.monotonic()
    with pytest.raises(BackendError) as caught:
        connect("http://10.255.255.1:9", connect_timeout_s=0.2)
    released.set()
    assert caught.value.code == "timed_out"
    assert time.monotonic() - began < 1


def test_a_certificate_nobody_vouches_for(monkeypatch: pytest.MonkeyPatch) -> None:
    key, crt = DATA / "loopback-key.pem", DATA / "loopback-certificate.pem"
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(crt, key)
    with Endpoint(say(OK), tls=context) as endpoint:
        with pytest.raises(BackendError, match=r"not trusted.*SSL_CERT_FILE") as caught:
            connect(endpoint.url)
        assert caught.value.code == "unreachable"
        monkeypatch.setenv("SSL_CERT_FILE", str(crt))
        assert run(connect(endpoint.url))[0] == "ok"


def test_plain_http_where_tls_is_expected() -> None:
    with Endpoint(say(OK)) as endpoint, pytest.raises(BackendError) as caught:
        connect(endpoint.url.replace("http:", "https:"), connect_timeout_s=0.3)
    assert caught.value.code == "timed_out"


@pytest.mark.parametrize(
    ("payload", "message"), [(b"<html><title>Router login</title>", "Router login"), (b"", "nothing")]
)
def test_something_else_listens(payload: bytes, message: str) -> None:
    with Endpoint(say(payload, "text/html")) as endpoint:
        del endpoint.answers["/v1/models"]
        with pytest.raises(BackendError, match=message) as caught:
            connect(endpoint.url)
    assert caught.value.code == "bad_reply"
