"""Over stdio: whatever is sent, the server goes on answering.

What it may cost is counted in starts: the processor time that the same server took to start, on the same
machine in the same minute. No second is asserted.
"""

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from fuzz import framed
from singlepass.lsp.framing import Body, Framing

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="processes and pipes of POSIX")

MOST_STARTS = 5
"""About three times what the dearest of these costs. What grows with the square takes a hundred."""
_TIMEOUT_S = 120
LINE = "value = compute(some_argument, another_argument)\n"
MEGABYTE = LINE * (1_000_000 // len(LINE))


class Client:
    """A client that sends whatever it likes, and reads in a thread so that no pipe is ever full."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "singlepass", "serve"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=folder,
        )
        self.messages: list[dict[str, Any]] = []
        self.answered: list[Any] = []
        """The ids of the answers, in their order."""
        self._changed = threading.Condition()
        self._n = 0
        self._reading = threading.Thread(target=self._read, daemon=True)
        self._reading.start()
        root = folder.as_uri()
        model = folder.parent / "recording.json"
        model.write_text(json.dumps({"replies": [{"text": [""]}]}))
        options = {"prewarm": False, "target": {"backend": "scripted", "model": str(model)}}
        capabilities = {
            "workspace": {"applyEdit": True},
            "textDocument": {
                "codeAction": {"codeActionLiteralSupport": {"codeActionKind": {"valueSet": []}}}
            },
        }
        id = self.request(
            "initialize",
            processId=None,
            rootUri=root,
            capabilities=capabilities,
            initializationOptions=options,
        )
        self.answer(id)
        self.notify("initialized")
        self.answer(self.probe())
        self._start_s = self._busy_s()

    def _read(self) -> None:
        framing = Framing()
        assert self.process.stdout is not None
        while data := os.read(self.process.stdout.fileno(), 1 << 16):
            framing.feed(data)
            while (frame := framing.next_frame()) is not None:
                assert isinstance(frame, Body)
                message = json.loads(frame.data)
                with self._changed:
                    self.messages.append(message)
                    if "method" not in message:
                        self.answered.append(message["id"])
                    self._changed.notify_all()

    def write(self, data: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def notify(self, method: str, **params: Any) -> None:
        self.write(framed(json.dumps({"jsonrpc": "2.0", "method": method, "params": params}).encode()))

    def request(self, method: str, **params: Any) -> int:
        self._n += 1
        message = {"jsonrpc": "2.0", "id": self._n, "method": method, "params": params}
        self.write(framed(json.dumps(message).encode()))
        return self._n

    def edit(self, uri: str, **more: Any) -> int:
        place = {"line": 0, "character": 0}
        arguments = {"uri": uri, "range": {"start": place, "end": place}, "instruction": "Do.", **more}
        return self.request("workspace/executeCommand", command="singlepass.edit", arguments=[arguments])

    def probe(self) -> int:
        """A request that needs nothing."""
        return self.request("textDocument/codeLens", textDocument={"uri": "file:///nowhere/a.py"})

    def answer(self, id: int) -> dict[str, Any]:
        with self._changed:
            assert self._changed.wait_for(lambda: id in self.answered, _TIMEOUT_S)
            return next(one for one in self.messages if one.get("id") == id and "method" not in one)

    def end(self) -> None:
        self.process.kill()
        self._reading.join()
        with contextlib.suppress(BrokenPipeError):
            self.process.__exit__(None, None, None)

    def busy_starts(self) -> float:
        """Processor time of the server so far, in starts."""
        return self._busy_s() / self._start_s

    def _busy_s(self) -> float:
        times = psutil.Process(self.process.pid).cpu_times()
        return times.user + times.system


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    folder = tmp_path / "w"
    folder.mkdir()
    (folder / "a.py").write_text("x = 1\n")
    made = Client(folder)
    yield made
    made.end()


def check(client: Client, send: Callable[[Client], object], most_starts: float = MOST_STARTS) -> None:
    """What comes after is answered before the server has used so much of the processor."""
    before = client.busy_starts()
    send(client)
    client.answer(client.probe())
    assert client.busy_starts() - before < most_starts
    assert client.process.poll() is None


def opened(client: Client, text: str, name: str = "a.py") -> str:
    uri = (client.folder / name).as_uri()
    item = {"uri": uri, "languageId": "python", "version": 1, "text": text}
    client.notify("textDocument/didOpen", textDocument=item)
    client.answer(client.probe())
    return uri


TEXTS = {
    "lines": MEGABYTE,
    "lines of several scripts": "größe = 'ü😀'\r\n" * 60_000,
    "one line": "x" * 1_000_000,
    "one line of several scripts": "ü😀" * 500_000,
    "empty lines": "\n" * 1_000_000,
}


@pytest.mark.parametrize("order", ["forwards", "backwards", "across"])
@pytest.mark.parametrize("kind", TEXTS)
def test_five_thousand_changes_of_a_megabyte(client: Client, kind: str, order: str) -> None:
    text = TEXTS[kind]
    uri = opened(client, text)
    n_lines, n = text.count("\n") + 1, 5_000
    places = [{"line": at * (n_lines // n), "character": 0 if n_lines > 1 else at * 100} for at in range(n)]
    if order == "backwards":
        places.reverse()
    elif order == "across":
        places = [places[at * 1_777 % n] for at in range(n)]
    changes = [{"range": {"start": place, "end": place}, "text": "y"} for place in places]
    version = {"uri": uri, "version": 2}
    check(client, lambda c: c.notify("textDocument/didChange", textDocument=version, contentChanges=changes))


FALSE_HEADERS = [
    b"X: Content-Length: 5\r\n",
    b"Content-Length: 5\r\n",
    b"Content-Length: 50\r\n\r\n",
    b"Content-Length: 50\r\n\r\n{",
    b"Content-Length: 1000000\r\n\r\n",
    b"Content-Length: 0\r\n\r\n",
    b"Content-Length: ",
    b"\r\n",
]


@pytest.mark.parametrize("one", FALSE_HEADERS)
def test_a_megabyte_of_false_headers(client: Client, one: bytes) -> None:
    check(client, lambda c: c.write(one * (1_000_000 // len(one)) + b" " * 100))


def pipe(folder: Path) -> Path:
    os.mkfifo(folder / "pipe.py")
    return folder / "pipe.py"


def huge(folder: Path) -> Path:
    with (folder / "huge.py").open("wb") as file:
        file.truncate(2 << 30)  # without blocks on the disk
    return folder / "huge.py"


def device(folder: Path) -> Path:
    (folder / "zero.py").symlink_to("/dev/zero")
    return folder / "zero.py"


def directory(folder: Path) -> Path:
    (folder / "folder.py").mkdir()
    return folder / "folder.py"


@pytest.mark.parametrize("make", [pipe, huge, device, directory])
@pytest.mark.parametrize("where", ["uri", "files", "open", "context"])
def test_what_cannot_be_read_is_refused_at_once(
    client: Client, make: Callable[[Path], Path], where: str
) -> None:
    uri = make(client.folder).as_uri()
    edited = opened(client, "x = 1\n")

    def send(client: Client) -> None:
        if where == "open":
            # The text is the editor's, whatever the file is.
            opened(client, "x = 1\n", make.__name__)
            return
        if where == "context":
            id = client.request("workspace/executeCommand", command="singlepass.context", arguments=[uri])
        else:
            id = client.edit(uri) if where == "uri" else client.edit(edited, files=[uri])
        error = client.answer(id)["error"]
        assert error["code"] == -32803
        assert (
            "cannot be read" in error["message"]
            or "outside" in error["message"]
            or "folder" in error["message"]
        )

    check(client, send)


@pytest.mark.parametrize("there", [True, False])
def test_twenty_thousand_names_of_files(client: Client, there: bool) -> None:
    edited = opened(client, "x = 1\n")
    names = [f"file_{n}.py" for n in range(20_000)]
    if there:
        for name in names[:2_000]:
            (client.folder / name).write_text("y = 1\n")
    uris = [(client.folder / name).as_uri() for name in names]
    before = client.busy_starts()
    id = client.edit(edited, files=uris)
    probe = client.probe()
    client.answer(probe)
    assert client.busy_starts() - before < MOST_STARTS
    error = client.answer(id)["error"]
    assert "names 20,000 files" in error["message"]
    # As many as are allowed are looked at off the loop: others are answered meanwhile.
    ids = [client.edit(edited, files=uris[:1_000])]
    ids += [client.probe() for _ in range(20)]
    for id in ids:
        client.answer(id)
    assert client.answered.index(ids[1]) < client.answered.index(ids[0])


def test_a_document_of_fifty_megabytes(client: Client) -> None:
    text = LINE * (50_000_000 // len(LINE))
    before = client.busy_starts()
    uri = opened(client, text)
    opened_starts = client.busy_starts() - before
    place = {"line": 500_000, "character": 3}
    here = {"start": place, "end": place}

    def ask(client: Client) -> None:
        version = {"uri": uri, "version": 2}
        changes = [{"range": here, "text": "y"}]
        client.notify("textDocument/didChange", textDocument=version, contentChanges=changes)
        params = {"textDocument": {"uri": uri}, "range": here, "context": {"diagnostics": []}}
        assert client.answer(client.request("textDocument/codeAction", **params))["result"]

    check(client, ask)
    # It is twice as long as a message of JSON as in memory, and that is read in one go.
    assert opened_starts < 2 * MOST_STARTS


def actions(client: Client, text: str, **context: Any) -> Any:
    uri = opened(client, text)
    end = {"line": text.count("\n"), "character": 0}
    here = {"start": {"line": 0, "character": 0}, "end": end}
    context = {"diagnostics": [], **context}

    def send(client: Client) -> None:
        params = {"textDocument": {"uri": uri}, "range": here, "context": context}
        assert client.answer(client.request("textDocument/codeAction", **params))["result"]

    check(client, send)


@pytest.mark.parametrize(
    "text",
    [
        "x\n" * 100_000,
        "# AI: x\n" * 100_000,
        "/* AI: x\n" * 100_000,
        "/* AI: x\n*/ code\n" * 50_000,
        "# AI: " + "x" * 10_000_000,
        "ü" * 5_000_000,
        '"' * 1_000_000 + "\n",
    ],
    ids=["lines", "requests", "open comments", "code behind comments", "long line", "one line", "quotes"],
)
def test_actions_for_all_of_a_strange_document(client: Client, text: str) -> None:
    actions(client, text)


@pytest.mark.parametrize("message", ["bad", {"kind": "markdown", "value": "**bad** `x`"}, "x" * 100])
def test_actions_for_very_many_problems(client: Client, message: Any) -> None:
    place = {"line": 0, "character": 0}
    one = {"range": {"start": place, "end": place}, "message": message, "source": "checker"}
    actions(client, "x = 1\n", diagnostics=[one] * 50_000)


def test_actions_for_a_problem_without_an_end(client: Client) -> None:
    place = {"line": 0, "character": 0}
    value = "**[" * 2_000_000
    for message in (value, {"kind": "markdown", "value": value}):
        one = {"range": {"start": place, "end": place}, "message": message}
        actions(client, "x = 1\n", diagnostics=[one])


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 1_000_000,
        b'{"jsonrpc": "2.0", "method": "x", "params": ' + b"[" * 500_000 + b"]" * 500_000 + b"}",
        b'{"jsonrpc": "2.0", "method": "textDocument/didSave", "params": ' + b"[" * 900 + b"]" * 900 + b"}",
        b'{"jsonrpc": "2.0", "id": 0, "method": "x", "params": ' + b'{"a":' * 900 + b"1" + b"}" * 901,
    ],
)
def test_deep_nesting(client: Client, body: bytes) -> None:
    check(client, lambda c: c.write(framed(body)))


def test_very_many_small_messages_let_others_through(client: Client) -> None:
    """Each is answered in its turn, however many there are; so a probe among them is answered among them."""
    one = framed(b'{"jsonrpc": "2.0", "method": "$/x"}')
    client.write(one * 5_000)
    first = client.probe()
    before = client.busy_starts()
    client.write(one * 5_000)
    client.answer(first)
    assert client.busy_starts() - before < MOST_STARTS


def test_very_many_changed_files(client: Client) -> None:
    changes = [{"uri": f"{client.folder.as_uri()}/file_{n}.py", "type": 2} for n in range(20_000)]
    check(client, lambda c: c.notify("workspace/didChangeWatchedFiles", changes=changes))
