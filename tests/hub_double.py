"""A hub for tests, on two loopback sockets: one answers as huggingface.co does, the other as the server for
content that it redirects to. Faults are told to it request by request.

What the real one does is taken from its API's documentation and from what its own library expects, which
tests/backends/test_hub_double.py downloads from it with.
"""

import contextlib
import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

_LARGE = (".gguf", ".safetensors")
_PIECE = 1 << 16


@dataclass
class Request:
    """What was asked of either server."""

    server: str
    """`hub` or `content`."""
    method: str
    path: str
    headers: Mapping[str, str]


@dataclass
class Fault:
    """What goes wrong with one request for content. Without any field nothing does."""

    status: int = 0
    """Answer with this instead."""
    headers: dict[str, str] = field(default_factory=lambda: {})
    cut_after: int = -1
    """Close the connection after so many bytes."""
    ends_early: bool = False
    """With `cut_after`: announce no length, so that the end looks like one."""
    ignores_range: bool = False
    shifted: bool = False
    """Answer a range with another one."""
    content: bytes | None = None
    """Send this instead of the file."""
    then: Callable[[], None] | None = None
    """Called when all that is to be sent was sent, with the connection still open."""


class HubDouble:
    """`repos` are files by repository and path."""

    def __init__(self, repos: Mapping[str, Mapping[str, bytes]], *, page_size: int = 1000) -> None:
        self.repos = {repo: dict(files) for repo, files in repos.items()}
        self.requests: list[Request] = []
        self.faults: list[Fault] = []
        """Of the next requests for content, the first first."""
        self.gated: set[str] = set()
        self.tokens: set[str] = set()
        """Those that open gated repositories; any other is no token at all."""
        self.api_faults: list[Callable[[BaseHTTPRequestHandler], None]] = []
        """What the next requests to the API are answered with."""
        self.listed: Callable[[list[dict[str, Any]]], Any] = lambda items: items
        """Changes the list of files."""
        self.redirects_large = True
        self.redirect_to: str | None = None
        """Where to send requests for large files instead of our own server for content."""
        self.linked_etag: str | None = None
        self.page_size = page_size
        self._hub = _serve(self, "hub")
        self._content = _serve(self, "content")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._hub.server_address[1]}"

    @property
    def content_url(self) -> str:
        # Another host to anybody who compares origins.
        return f"http://localhost:{self._content.server_address[1]}"

    def commit(self, repo: str) -> str:
        """Follows from the content, as in git."""
        every = sorted((path, hashlib.sha1(data).hexdigest()) for path, data in self.repos[repo].items())
        return hashlib.sha1(json.dumps(every).encode()).hexdigest()

    def asked(self, server: str, part: str = "") -> list[Request]:
        return [one for one in self.requests if one.server == server and part in one.path]

    def close(self) -> None:
        for server in (self._hub, self._content):
            server.shutdown()
            server.server_close()

    def __enter__(self) -> "HubDouble":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # What the hub answers.

    def answer_hub(self, http: BaseHTTPRequestHandler) -> None:
        path, query = unquote(urlsplit(http.path).path), parse_qs(urlsplit(http.path).query)
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/(revision|tree)/([^/]+)", path):
            if self.api_faults:
                self.api_faults.pop(0)(http)
                return
            if match[1] not in self.repos:
                refuse(http, 404 if self._is_known(http) else 401, "RepoNotFound", "Repository not found")
            elif match[2] == "revision":
                names = [{"rfilename": name} for name in self.repos[match[1]]]
                sha = self.commit(match[1])
                answer_json(http, {"id": match[1], "sha": sha, "siblings": names, "gated": False})
            else:
                self._tree(http, match[1], match[3], int(query.get("cursor", ["0"])[0]))
        elif match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self._resolve(http, match[1], match[2], match[3])
        else:
            refuse(http, 404, "", "Sorry, we can't find the page you are looking for.")

    def _is_known(self, http: BaseHTTPRequestHandler) -> bool:
        return http.headers.get("Authorization", "").removeprefix("Bearer ") in self.tokens

    def _tree(self, http: BaseHTTPRequestHandler, repo: str, commit: str, start: int) -> None:
        if commit not in (self.commit(repo), "main"):
            refuse(http, 404, "RevisionNotFound", f"Invalid rev id: {commit}")
            return
        items = self.listed([_item(path, data) for path, data in sorted(self.repos[repo].items())])
        if not isinstance(items, list):
            answer_json(http, items)
            return
        end = start + self.page_size
        link = f"{self.url}/api/models/{repo}/tree/{commit}?recursive=true&cursor={end}"
        headers = {"Link": f'<{link}>; rel="next"'} if end < len(items) else {}
        answer_json(http, items[start:end], headers)

    def _resolve(self, http: BaseHTTPRequestHandler, repo: str, commit: str, path: str) -> None:
        if repo in self.gated and not self._is_known(http):
            has_token = "Authorization" in http.headers
            refuse(http, 403 if has_token else 401, "GatedRepo", f"Access to model {repo} is restricted.")
            return
        data = self.repos.get(repo, {}).get(path)
        if data is None or commit not in (self.commit(repo), "main"):
            refuse(http, 404, "EntryNotFound", "Entry not found")
            return
        sha256 = self.linked_etag or hashlib.sha256(data).hexdigest()
        common = {"X-Repo-Commit": self.commit(repo), "Accept-Ranges": "bytes"}
        if path.endswith(_LARGE) and self.redirects_large:
            location = self.redirect_to or f"{self.content_url}/{repo}/{path}?signature=secret"
            linked = {"X-Linked-Etag": f'"{sha256}"', "X-Linked-Size": str(len(data)), "Location": location}
            http.send_response(302)
            for name, value in {**common, **linked, "ETag": f'"{sha256}"', "Content-Length": "0"}.items():
                http.send_header(name, value)
            http.end_headers()
            return
        etag = sha256 if path.endswith(_LARGE) else _git_id(data)
        self._send(http, data, {**common, "ETag": f'"{etag}"'})

    # What the server for content answers.

    def answer_content(self, http: BaseHTTPRequestHandler) -> None:
        repo, _, path = unquote(urlsplit(http.path).path)[1:].rpartition("/")
        self._send(http, self.repos[repo][path], {"ETag": '"of-the-store"', "Accept-Ranges": "bytes"})

    def _send(self, http: BaseHTTPRequestHandler, data: bytes, headers: dict[str, str]) -> None:
        fault = self.faults.pop(0) if self.faults and http.command == "GET" else Fault()
        data = data if fault.content is None else fault.content
        if fault.status:
            headers = {"Content-Length": "0", **fault.headers}
            _head(http, fault.status, headers)
            return
        match = re.fullmatch(r"bytes=(\d+)-", http.headers.get("Range", ""))
        start = int(match[1]) if match and not fault.ignores_range else 0
        if start and start >= len(data):
            _head(http, 416, {"Content-Range": f"bytes */{len(data)}", "Content-Length": "0"})
            return
        body = data[start:]
        said = start + 7 if fault.shifted else start
        extra = {"Content-Range": f"bytes {said}-{len(data) - 1}/{len(data)}"} if start else {}
        length = {"Connection": "close"} if fault.ends_early else {"Content-Length": str(len(body))}
        _head(http, 206 if start else 200, {**headers, **extra, **length, **fault.headers})
        if http.command == "HEAD":
            return
        if fault.cut_after >= 0:
            body = body[: fault.cut_after]
        for at in range(0, len(body), _PIECE):
            http.wfile.write(body[at : at + _PIECE])
        http.wfile.flush()
        if fault.then:
            fault.then()
        if fault.cut_after >= 0:
            http.close_connection = True


def answer_json(
    http: BaseHTTPRequestHandler, payload: object, headers: Mapping[str, str] | None = None
) -> None:
    body = json.dumps(payload).encode()
    _head(
        http, 200, {"Content-Type": "application/json", "Content-Length": str(len(body)), **(headers or {})}
    )
    if http.command != "HEAD":
        http.wfile.write(body)


def refuse(http: BaseHTTPRequestHandler, status: int, code: str, message: str) -> None:
    """As the hub refuses: the reason stands in two headers."""
    headers = {"X-Error-Code": code, "X-Error-Message": message, "Content-Length": "0"}
    _head(http, status, {name: value for name, value in headers.items() if value})


def _head(http: BaseHTTPRequestHandler, status: int, headers: Mapping[str, str]) -> None:
    http.send_response(status)
    for name, value in headers.items():
        http.send_header(name, value)
    http.end_headers()


def _item(path: str, data: bytes) -> dict[str, Any]:
    """As in a real tree: a large file has the id of its pointer, and its own hash in `lfs`."""
    size = len(data)
    if not path.endswith(_LARGE):
        return {"type": "file", "oid": _git_id(data), "size": size, "path": path}
    sha256 = hashlib.sha256(data).hexdigest()
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n".encode()
    lfs = {"oid": sha256, "size": size, "pointerSize": len(pointer)}
    return {"type": "file", "oid": _git_id(pointer), "size": size, "path": path, "lfs": lfs}


def _git_id(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def folder_items(paths: Iterable[str]) -> list[dict[str, Any]]:
    return [{"type": "directory", "oid": "0" * 40, "size": 0, "path": path} for path in paths]


def _serve(double: HubDouble, name: str) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            double.requests.append(Request(name, self.command, self.path, dict(self.headers)))
            with contextlib.suppress(ConnectionError):
                (double.answer_hub if name == "hub" else double.answer_content)(self)

        do_HEAD = do_GET

        def log_message(self, format: str, *args: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False

        def handle_error(self, request: Any, client_address: Any) -> None:
            pass  # a client that went away

    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    return server
