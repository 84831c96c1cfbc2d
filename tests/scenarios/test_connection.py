"""The server's process and its pipe: nonsense harms nothing, and it ends when and as it should."""

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pytest
from fuzz import framed, fuzz
from lsprotocol import types as lsp
from singlepass.lsp.framing import MAX_BODY, Body, Framing

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="processes and pipes of POSIX")

N_FUZZED = 3000
_TIMEOUT_S = 120
Server = subprocess.Popen[bytes]


def test_fuzzed_messages_are_answered_once_and_end_nothing() -> None:
    too_long = b"Content-Length: %d\r\n\r\n" % (MAX_BODY + 1) + b" " * (MAX_BODY + 1)
    found, expected = fuzz(N_FUZZED, seed=3, more=too_long)
    assert found.code == 0, found.log[-2000:]
    assert found.n_messages == N_FUZZED
    assert len(expected) > N_FUZZED // 3
    assert found.wrong(expected) == {}
    assert "Traceback" not in found.log


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with start(tmp_path) as process:
        yield process
        process.kill()


def start(folder: Path, stdin: int | IO[bytes] = subprocess.PIPE) -> Server:
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "singlepass", "serve"],
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=folder,
    )


def send(server: Server, method: str, id: int | str | None = None, **params: Any) -> None:
    message = {"jsonrpc": "2.0", "method": method, **({"params": params} if params else {})}
    assert server.stdin is not None
    server.stdin.write(framed(json.dumps(message if id is None else {**message, "id": id}).encode()))
    server.stdin.flush()


def answers(server: Server) -> Iterator[dict[str, Any]]:
    assert server.stdout is not None
    framing = Framing()
    while data := os.read(server.stdout.fileno(), 1 << 16):
        framing.feed(data)
        while (frame := framing.next_frame()) is not None:
            assert isinstance(frame, Body)
            message = json.loads(frame.data)
            if "method" not in message:
                yield message


def hello(server: Server, process_id: int | None = None) -> Iterator[dict[str, Any]]:
    send(server, "initialize", 1, processId=process_id, rootUri=None, capabilities={})
    found = answers(server)
    assert "capabilities" in next(found)["result"]
    return found


def test_exit_after_shutdown_is_success_and_nothing_is_served_in_between(server: Server) -> None:
    found = hello(server)
    send(server, "initialize", 2, processId=None, rootUri=None, capabilities={})
    assert next(found)["error"]["code"] == -32600
    send(server, "shutdown", 3)
    assert next(found) == {"jsonrpc": "2.0", "id": 3, "result": None}
    send(server, "textDocument/codeLens", 4, textDocument={"uri": "file:///a"})
    assert next(found)["error"]["code"] == -32600
    send(server, "exit")
    assert server.wait(_TIMEOUT_S) == 0


def test_what_is_under_way_at_the_shutdown_is_answered_and_so_is_that(server: Server, tmp_path: Path) -> None:
    found = hello(server)
    (tmp_path / "a.py").write_text("x = 1\n")
    asked = [(tmp_path / "a.py").as_uri()]
    for id in (2, 3):  # both wait for an engine, which takes its time to start
        send(server, "workspace/executeCommand", id, command="singlepass.context", arguments=asked)
    send(server, "shutdown", 4)
    by_id = {answer["id"]: answer for answer in (next(found) for _ in range(3))}
    assert by_id[4] == {"jsonrpc": "2.0", "id": 4, "result": None}
    assert all("error" in by_id[id] for id in (2, 3))
    send(server, "exit")
    assert server.wait(_TIMEOUT_S) == 0


def test_exit_without_shutdown_is_a_failure(server: Server) -> None:
    hello(server)
    send(server, "exit")
    assert server.wait(_TIMEOUT_S) == 1


def test_requests_before_initialize_have_an_error_of_their_own(server: Server) -> None:
    send(server, "textDocument/codeLens", "first", textDocument={"uri": "file:///a"})
    send(server, "textDocument/didSave", textDocument={"uri": "file:///a"})
    found = answers(server)
    assert next(found)["error"]["code"] == -32002
    send(server, "exit")
    assert server.wait(_TIMEOUT_S) == 1
    assert list(found) == []


def test_parameters_of_another_shape_are_answered(server: Server) -> None:
    found = hello(server)
    send(server, "textDocument/codeAction", 2, textDocument=5)
    answer = next(found)
    assert (answer["id"], answer["error"]["code"]) == (2, -32602)
    send(server, "nonsense/method", 3)
    assert next(found)["error"]["code"] == -32601


NOTIFICATIONS = [method for method, (_, result, *_) in lsp.METHOD_TO_TYPES.items() if result is None]


def test_a_notification_that_is_sent_as_a_request_is_answered_and_does_nothing(server: Server) -> None:
    found = hello(server)
    assert {"exit", "initialized", "textDocument/didOpen", "$/cancelRequest"} < set(NOTIFICATIONS)
    for id, method in enumerate([*NOTIFICATIONS, "$/made/up", "made/up"], 2):
        send(server, method, id)
        answer = next(found)
        assert answer["id"] == id
        assert answer["error"]["code"] == (-32600 if method in NOTIFICATIONS else -32601), method
    assert server.poll() is None


def test_each_message_that_is_no_json_is_told_and_of_a_flood_only_the_beginning(server: Server) -> None:
    found = hello(server)
    assert server.stdin is not None
    for body in (b"{nonsense", b"nonsense", b"{", b"null"):
        server.stdin.write(framed(body))
    send(server, "nonsense/method", 2)
    assert [next(found)["error"]["code"] for _ in range(5)] == [-32700] * 4 + [-32601]
    server.stdin.write(framed(b"nonsense") * 5000)
    send(server, "nonsense/method", 3)
    told = [answer["id"] for answer in itertools.takewhile(lambda answer: answer["id"] != 3, found)]
    assert 0 < len(told) < 1000


def test_a_message_that_is_too_long_is_told_and_the_next_is_read(server: Server) -> None:
    found = hello(server)
    assert server.stdin is not None
    server.stdin.write(b"Content-Length: %d\r\n\r\n" % (MAX_BODY + 1))
    server.stdin.flush()
    refused = next(found)  # at its header: nobody has to send all of it to learn that
    assert (refused["id"], refused["error"]["code"]) == (None, -32600)
    assert "67,108,864" in refused["error"]["message"]
    for _ in range(64):
        server.stdin.write(b" " * (1 << 20))
    server.stdin.write(b" ")
    send(server, "shutdown", 2)
    assert next(found)["id"] == 2


def test_a_closed_input_ends_the_server(server: Server) -> None:
    hello(server)
    assert server.stdin is not None
    server.stdin.close()
    assert server.wait(_TIMEOUT_S) == 1


def test_a_client_that_reads_no_more_ends_the_server(server: Server) -> None:
    hello(server)
    assert server.stdout is not None
    server.stdout.close()
    send(server, "nonsense/method", 2)
    assert server.wait(_TIMEOUT_S) == 1


def test_the_end_of_the_editors_process_ends_the_server(tmp_path: Path) -> None:
    """Also where the pipe stays open, as when another child of the editor has inherited it."""
    editor = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    assert editor.stdin is not None
    with start(tmp_path) as server:
        hello(server, editor.pid)
        assert server.poll() is None
        editor.kill()
        assert server.wait(_TIMEOUT_S) == 1
        assert server.stdin is not None
        server.stdin.close()
    editor.stdin.close()
    editor.wait()


def test_an_editor_that_cannot_be_seen_from_here_is_no_reason_to_end(server: Server) -> None:
    """Its number is of another machine or container."""
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    found = hello(server, gone.pid)
    send(server, "shutdown", 2)
    assert next(found)["id"] == 2
