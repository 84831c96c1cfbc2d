"""The Hugging Face hub over HTTP: which files a repository has, and their bytes.

We need only three requests, documented at https://huggingface.co/docs/hub/api and sent as its own library
does:

- `GET /api/models/REPO/revision/main` returns the current commit. Later requests name the commit, so that all
  files of a model have the same version.
- `GET /api/models/REPO/tree/COMMIT?recursive=true` lists the files with size and hash, in pages linked by the
  `Link` header. A large file (LFS) has a sha256; a small one has the id that git gives it, a sha1.
- `GET /REPO/resolve/COMMIT/FILE` returns the bytes. For large files it redirects to a content server. The
  hub's own answer has the expected sha256 in `X-Linked-Etag`; the content server supports `Range`.

We use httpx instead of the package huggingface_hub, which would add seven packages, among them a second HTTP
client and a compiled transfer library, takes twice as long to import, and compares the size of a download but
not its hash.

**The token** (`HF_TOKEN`) is sent only to the origin of the hub, over TLS or to this machine. To make that
evident, redirects are followed here, one by one, and not by httpx. The token is in no message.
"""

import contextlib
import os
import re
from collections.abc import Generator, Iterator, Mapping
from typing import TypeVar
from urllib.parse import quote, urlsplit

import httpx
import msgspec

from singlepass_backends.models.files import HubFile, Listing, PullError

_ENDPOINT = "https://huggingface.co"
_TIMEOUTS = httpx.Timeout(60, connect=10)
_MAX_REDIRECTS = 5
_MAX_ANSWER_BYTES = 16 << 20
"""Maximum size of a list of files; real ones have a few kilobytes."""
_MAX_PAGES = 50
_SHA256 = re.compile(r"[0-9a-f]{64}")
_GIT_ID = re.compile(r"[0-9a-f]{40}")
_T = TypeVar("_T")
_LOCAL = ("localhost", "127.0.0.1", "::1")


class Interrupted(Exception):
    """A transfer broke off or cannot start at the moment; it can be retried."""

    def __init__(self, reason: str, wait_s: float = 0.0, *, from_start: bool = False) -> None:
        super().__init__(reason)
        self.from_start = from_start
        """Whether the download cannot resume and must start again."""
        self.wait_s = wait_s
        """Seconds that the server asks to wait; 0 if it does not."""


class _Revision(msgspec.Struct):
    """The fields that we read of a repository's description."""

    sha: str


class _Lfs(msgspec.Struct):
    oid: str
    size: int


class _Item(msgspec.Struct):
    """A file or folder in a repository's tree."""

    type: str
    path: str
    size: int = 0
    oid: str = ""
    lfs: _Lfs | None = None


class Stream:
    """The bytes of a file from `start` on, which is 0 if the server sends the whole file again."""

    def __init__(self, response: httpx.Response, start: int) -> None:
        self.start = start
        self._response = response

    def __iter__(self) -> Iterator[bytes]:
        """Raises Interrupted if the connection breaks."""
        try:
            # No chunk size: httpx would hold back incomplete chunks, and lose them if the connection breaks.
            yield from self._response.iter_raw()
        except httpx.TransportError as error:
            raise Interrupted(_reason(error)) from None


class Hub:
    """One hub: huggingface.co, or the one in `HF_ENDPOINT`."""

    def __init__(self, endpoint: str = _ENDPOINT, token: str = "") -> None:
        """Raises PullError for an invalid endpoint or token."""
        self._endpoint = endpoint.rstrip("/")
        parts = urlsplit(self._endpoint)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.password:
            raise PullError("HF_ENDPOINT is not the address of a hub. It looks like https://huggingface.co.")
        self._origin = _origin(self._endpoint)
        is_private = parts.scheme == "https" or parts.hostname in _LOCAL
        self._token = token.strip() if is_private else ""
        if not self._token.isascii() or not self._token.isprintable():
            raise PullError("HF_TOKEN has characters that no token has.")
        try:
            self._client = httpx.Client(timeout=_TIMEOUTS, follow_redirects=False)
        except (
            ImportError,
            ValueError,
            OSError,
        ) as error:  # the environment's proxies, certificates
            raise PullError(f"The proxy or SSL_CERT_FILE in the environment: {_reason(error)}.") from None

    @classmethod
    def from_environment(cls) -> "Hub":
        """Configured by `HF_ENDPOINT`, `HF_TOKEN` and `HF_HUB_OFFLINE`, as in other programs. Raises
        PullError."""
        if os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on"):
            raise PullError("HF_HUB_OFFLINE is set, so nothing is downloaded. Unset it and pull again.")
        return cls(os.environ.get("HF_ENDPOINT") or _ENDPOINT, os.environ.get("HF_TOKEN", ""))

    def close(self) -> None:
        """Close its connections."""
        self._client.close()

    def __enter__(self) -> "Hub":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def files(self, repo: str) -> Listing:
        """The files of a repository at its current commit. Raises PullError."""
        try:
            about, _ = self._json(f"{self._endpoint}/api/models/{repo}/revision/main", repo, _Revision)
            if not _GIT_ID.fullmatch(about.sha):
                raise self._nonsense("a commit that is none")
            url: str | None = f"{self._endpoint}/api/models/{repo}/tree/{about.sha}?recursive=true"
            found: list[HubFile] = []
            for _ in range(_MAX_PAGES):
                items, url = self._json(url, repo, list[_Item])
                found += (_file(item) for item in items if item.type == "file")
                if url is None:
                    return Listing(repo, about.sha, tuple(found))
            raise self._nonsense("a list of files without an end")
        except Interrupted as error:
            raise PullError(f"The hub did not answer: {error}. Try again later.") from None

    @contextlib.contextmanager
    def open(self, listing: Listing, file: HubFile, start: int = 0) -> Generator[Stream]:
        """The content of a file from `start` on.

        Raises Interrupted if a retry may help, PullError otherwise.
        """
        url = f"{self._endpoint}/{listing.repo}/resolve/{listing.commit}/{quote(file.path)}"
        headers = {"Accept-Encoding": "identity"}
        if start:
            headers["Range"] = f"bytes={start}-"
        with self._send(url, headers, listing.repo, file) as response:
            if response.headers.get("Content-Encoding", "identity") != "identity":
                raise self._nonsense(f"{file.path} in an encoding that was not asked for")
            yield Stream(response, self._start(response, file, start))

    def _start(self, response: httpx.Response, file: HubFile, start: int) -> int:
        """Offset in the file at which the answer's content begins. Raises if the content is not that of the
        file."""
        if response.status_code == 416:
            raise Interrupted("the server has less of the file than is here", from_start=True)
        if response.status_code == 206:
            match = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+|\*)", response.headers.get("Content-Range", ""))
            if not match or int(match[1]) != start or match[3] not in ("*", str(file.size_bytes)):
                raise self._nonsense(f"another part of {file.path} than was asked for")
            return start
        length = response.headers.get("Content-Length")
        if length is not None and length != str(file.size_bytes):
            raise self._nonsense(f"{length} bytes for {file.path}, which has {file.size_bytes}")
        return 0

    def _json(self, url: str, repo: str, type: type[_T]) -> tuple[_T, str | None]:
        """A parsed answer, and the URL of its next page."""
        with self._send(url, {"Accept": "application/json"}, repo) as response:
            body = bytearray()
            try:
                for chunk in response.iter_bytes():
                    body += chunk
                    if len(body) > _MAX_ANSWER_BYTES:
                        raise self._nonsense("an answer without an end")
            except httpx.HTTPError as error:
                raise Interrupted(_reason(error)) from None
        try:
            answer = msgspec.json.decode(body, type=type)
        except msgspec.ValidationError as error:
            raise self._nonsense(f"an answer that cannot be read ({error})") from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise self._nonsense(
                "an answer that is not JSON; a proxy may have put a page of its own"
            ) from None
        following = response.links.get("next", {}).get("url")
        if following and _origin(following) != self._origin:
            raise self._nonsense("a next page on another server")
        return answer, following

    @contextlib.contextmanager
    def _send(
        self, url: str, headers: Mapping[str, str], repo: str, file: HubFile | None = None
    ) -> Generator[httpx.Response]:
        """The answer after all redirects, with status 200, 206 or 416."""
        for _ in range(_MAX_REDIRECTS + 1):
            own = _origin(url) == self._origin
            token = {"Authorization": f"Bearer {self._token}"} if own and self._token else {}
            try:
                request = self._client.build_request("GET", url, headers={**headers, **token})
                response = self._client.send(request, stream=True)
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                raise self._unreachable(url, error, file) from None
            with contextlib.closing(response):
                if own and file:
                    self._check_announced(response, file)
                if response.status_code in (200, 206) or (response.status_code == 416 and file):
                    yield response
                    return
                if not response.has_redirect_location:
                    raise self._refused(response, repo, file, own=own)
                url = self._redirected(response, url)
        raise self._nonsense("redirects without an end")

    def _redirected(self, response: httpx.Response, url: str) -> str:
        following = str(httpx.URL(url).join(response.headers["Location"]))
        if urlsplit(following).scheme not in ("https", urlsplit(url).scheme):
            raise self._nonsense("a redirect away from https")
        return following

    def _check_announced(self, response: httpx.Response, file: HubFile) -> None:
        """Check that the hub announces the listed hash, which it does before it redirects."""
        said = (response.headers.get("X-Linked-Etag") or "").strip('W/"')
        if file.sha256 and _SHA256.fullmatch(said) and said != file.sha256:
            raise self._nonsense(f"{file.path} with another hash than it listed")

    # Error messages.

    def _unreachable(self, url: str, error: Exception, file: HubFile | None) -> Exception:
        where = _origin(url)
        if "CERTIFICATE" in str(error).upper():
            return PullError(
                f"The certificate of {where} is not trusted: {_reason(error)}. Behind a proxy with its own, "
                "set the environment variable SSL_CERT_FILE to a file with its certificate."
            )
        if file:
            return Interrupted(f"{where} cannot be reached: {_reason(error)}")
        return PullError(
            f"The hub at {where} cannot be reached: {_reason(error)}. Is this machine online? `singlepass "
            "models` works without; a model file that you have needs no download: name it as `model` in "
            "`[target]`."
        )

    def _nonsense(self, what: str) -> PullError:
        return PullError(f"The hub at {self._endpoint} sent {what}. Try again later, or check HF_ENDPOINT.")

    def _refused(
        self, response: httpx.Response, repo: str, file: HubFile | None, *, own: bool
    ) -> PullError | Interrupted:
        status, code = response.status_code, response.headers.get("X-Error-Code", "")
        said = self._words(response)
        if status == 429 or status >= 500:
            return Interrupted(f"status {status}{said}", _seconds(response.headers.get("Retry-After", "")))
        if not own:  # a link to content expires; the hub provides a new one
            return Interrupted(f"{_origin(str(response.url))} refused the file ({status})")
        if code == "GatedRepo":
            if self._token:
                todo = "with the account whose token is in HF_TOKEN, and wait until access is granted"
            else:
                todo = f"make a token at {self._endpoint}/settings/tokens, set HF_TOKEN to it"
            return PullError(
                f"{repo} requires that you accept its terms ({status}). Open {self._endpoint}/{repo}, "
                f"accept them, {todo}, and pull again."
            )
        if status in (401, 403) and self._token and code != "RepoNotFound":
            return PullError(
                f"The hub does not accept the token in HF_TOKEN ({status}){said}. Check it, or unset it."
            )
        if file and status == 404 and code != "RepoNotFound":
            return PullError(f"{repo} has no {file.path} any more{said}. Pull again.")
        if status in (401, 403, 404):
            return PullError(
                f"The hub has no {repo}, or not for everybody ({status}){said}. It may have been renamed: "
                f"look at {self._endpoint}/{repo}. A private one needs a token in HF_TOKEN."
            )
        return PullError(f"The hub refused {repo} ({status}){said}.")

    def _words(self, response: httpx.Response) -> str:
        """The hub's error message, on one line and without the token."""
        said = response.headers.get("X-Error-Message", "")
        said = "".join(char if char.isprintable() else " " for char in said)[:300].strip(" .")
        return f": {said.replace(self._token, '[token]') if self._token else said}" if said else ""


def _file(item: _Item) -> HubFile:
    """Convert a file of the tree. Malformed hashes are ignored, and so is the git id of a large file (LFS),
    which is that of its pointer."""
    if item.lfs:
        sha256 = item.lfs.oid if _SHA256.fullmatch(item.lfs.oid) else ""
        return HubFile(item.path, item.lfs.size, sha256=sha256)
    return HubFile(item.path, item.size, git_id=item.oid if _GIT_ID.fullmatch(item.oid) else "")


def _origin(url: str) -> str:
    try:
        parts = urlsplit(url)
        port = parts.port or {"https": 443, "http": 80}.get(parts.scheme, 0)
    except ValueError:
        return ""
    default = {"https": 443, "http": 80}.get(parts.scheme) == port
    return f"{parts.scheme}://{parts.hostname}{'' if default else f':{port}'}"


def _seconds(value: str) -> float:
    """Seconds of a `Retry-After` header; the hub does not use the form with a date."""
    try:
        return max(0.0, float(value))
    except ValueError:
        return 0.0


def _reason(error: Exception) -> str:
    text = "".join(char if char.isprintable() else " " for char in str(error)).strip(" .")
    return text[:300] or type(error).__name__
