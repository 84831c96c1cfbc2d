"""Downloading models from a hub on loopback: whole, resumed, refused, damaged, cut, interrupted."""

import contextlib
import fcntl
import hashlib
import json
import os
import resource
import shutil
import subprocess
import sys
from collections import namedtuple
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hub_double import Fault, HubDouble, answer_json, folder_items, refuse
from singlepass_backends.models import folder as folders
from singlepass_backends.models.catalogue import Entry, Format, GgufFile, MlxRepo, catalogue
from singlepass_backends.models.files import PullError
from singlepass_backends.models.hub import Hub
from singlepass_backends.models.pull import Pulled, pull

REPO, MLX_REPO, FILE = "some/model-GGUF", "some/model-mlx", "model-q4_k_m.gguf"
TOKEN = "hf_secret"
ENTRY = msgspec.structs.replace(
    catalogue().models[0], name="some-model", gguf=GgufFile(REPO, FILE, 4.9), mlx=MlxRepo(MLX_REPO, 4.5)
)
MLX_FILES = {
    "config.json": json.dumps({"model_type": "llama", "num_hidden_layers": 2, "hidden_size": 8}).encode(),
    "model-00001-of-00002.safetensors": os.urandom(200_000),
    "model-00002-of-00002.safetensors": os.urandom(100_000),
    "model.safetensors.index.json": b"{}",
    "tokenizer.json": b"{}",
    "tokenizer_config.json": b"{}",
    "chat_template.jinja": b"{{ messages }}",
    "merges.txt": b"a b\n",
    "LICENSE": b"terms",
    "empty.txt": b"",
}
NOT_WANTED = {
    ".gitattributes": b"*.gguf filter=lfs",
    "README.md": b"# Model",
    "modeling_model.py": b"import os",
    "consolidated.safetensors": b"the same again",
    "original/config.json": b"{}",
    "onnx/model.onnx": b"x",
}
GIVE_UP = [Fault(cut_after=0)] * 6
"""After a fault that let something through: what makes a pull give up."""
Usage = namedtuple("Usage", "total used free")


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.lower().endswith("_proxy") or name.startswith("HF_"):
            monkeypatch.delenv(name)


@pytest.fixture
def content(random_model: Path) -> bytes:
    return random_model.read_bytes()


@pytest.fixture
def hub(content: bytes) -> Iterator[HubDouble]:
    gguf = {FILE: content, "model-q8_0.gguf": b"other", "README.md": b"# Model", "LICENSE": b"terms"}
    with HubDouble({REPO: gguf, MLX_REPO: {**MLX_FILES, **NOT_WANTED}}) as double:
        yield double


class Log:
    """What was told, and how long was waited."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str, int, int]] = []
        self.waits: list[float] = []

    def __call__(self, stage: str, what: str, n_done: int, n_total: int) -> None:
        self.told.append((stage, what, n_done, n_total))

    def stages(self) -> list[str]:
        return [stage for stage, *_ in self.told]


def run(
    double: HubDouble,
    root: Path,
    format: Format = "gguf",
    *,
    token: str = "",
    log: Log | None = None,
    entry: Entry = ENTRY,
) -> Pulled:
    log = log or Log()
    with Hub(double.url, token) as client:
        return pull(client, entry, format, log, root=root, sleep=log.waits.append)


def fails(double: HubDouble, root: Path, *parts: str, **options: Any) -> str:
    with pytest.raises(PullError) as caught:
        run(double, root, **options)
    message = str(caught.value)
    assert TOKEN not in message
    for part in parts:
        assert part in message
    return message


def ranges(double: HubDouble) -> list[str]:
    return [one.headers.get("Range", "") for one in double.asked("content")]


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


# What is downloaded.


def test_a_gguf_file_comes_whole_and_once(hub: HubDouble, tmp_path: Path, content: bytes) -> None:
    log = Log()
    done = run(hub, tmp_path, log=log)
    assert done.path == tmp_path / "some-model" / FILE
    assert done.path.read_bytes() == content
    assert done.is_new
    assert done.facts.n_layer > 0
    assert names(done.path.parent) == {FILE, "LICENSE", "singlepass.json"}
    assert not list(tmp_path.glob("*.part"))
    assert log.told[-1][2:] == (len(content) + 5, len(content) + 5)
    assert [n_done for *_, n_done, _ in log.told] == sorted(n_done for *_, n_done, _ in log.told)
    assert folders.pulled(ENTRY, "gguf", tmp_path) == done.path
    assert folders.pulled(ENTRY, "mlx", tmp_path) is None

    again = run(hub, tmp_path)
    assert not again.is_new
    assert again.path == done.path
    assert len(hub.asked("content")) == 1


def test_all_requests_name_the_commit(hub: HubDouble, tmp_path: Path) -> None:
    run(hub, tmp_path)
    assert all(hub.commit(REPO) in one.path for one in hub.asked("hub", "/resolve/"))
    assert len(hub.asked("hub", "/revision/main")) == 1


def test_a_file_in_parts(hub: HubDouble, tmp_path: Path, content: bytes) -> None:
    stem = FILE.removesuffix(".gguf")
    parts = {f"{stem}-00001-of-00002.gguf": content, f"{stem}-00002-of-00002.gguf": content[:1000]}
    hub.repos[REPO] = {**parts, f"{stem}-fp16-00001-of-00001.gguf": b"other"}
    done = run(hub, tmp_path)
    assert done.path.name == f"{stem}-00001-of-00002.gguf"
    assert names(done.path.parent) == {*parts, "singlepass.json"}

    del hub.repos[REPO][f"{stem}-00002-of-00002.gguf"]
    fails(hub, tmp_path / "other", "or not all its parts")


def test_a_model_folder_comes_with_all_that_mlx_reads_and_no_programs(hub: HubDouble, tmp_path: Path) -> None:
    hub.page_size = 3
    hub.listed = lambda items: [*folder_items(["original", "onnx"]), *items]
    done = run(hub, tmp_path, "mlx")
    assert done.path == tmp_path / "some-model-mlx"
    assert names(done.path) == {*MLX_FILES, "singlepass.json"}
    for name, data in MLX_FILES.items():
        assert (done.path / name).read_bytes() == data
    assert done.facts.format == "mlx"
    assert done.facts.size_bytes == 300_000
    assert len(hub.asked("hub", "/tree/")) > 3
    assert folders.pulled(ENTRY, "mlx", tmp_path) == done.path


def test_a_hub_that_sends_large_files_itself(hub: HubDouble, tmp_path: Path, content: bytes) -> None:
    hub.redirects_large = False
    hub.faults = [Fault(cut_after=1000), Fault(cut_after=0)]
    assert run(hub, tmp_path).path.read_bytes() == content
    assert not hub.asked("content")


# Resuming.


def test_a_cut_connection_is_gone_on_with(hub: HubDouble, tmp_path: Path, content: bytes) -> None:
    hub.faults = [
        Fault(),
        Fault(cut_after=100_000),
        Fault(cut_after=50_000),
        Fault(cut_after=1, ends_early=True),
    ]
    log = Log()
    assert run(hub, tmp_path, log=log).path.read_bytes() == content
    # The first request is for the licence, which the hub sends itself.
    assert ranges(hub) == ["", "bytes=100000-", "bytes=150000-", "bytes=150001-"]
    assert log.stages().count("wait") == 3
    assert log.waits == [1.0, 1.0, 1.0]
    assert len(hub.asked("hub", f"/{FILE}")) == 4  # each time for a fresh link


def test_what_came_is_kept_when_it_gives_up_and_the_next_pull_goes_on(
    hub: HubDouble, tmp_path: Path, content: bytes
) -> None:
    hub.faults = [Fault(), Fault(cut_after=70_000), *GIVE_UP]
    log = Log()
    message = fails(hub, tmp_path, "broke off", "are kept; pull again to resume", log=log)
    assert FILE in message
    assert log.waits == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0]
    part = tmp_path / "some-model.part" / f"{FILE}.part"
    assert part.read_bytes() == content[:70_000]
    assert folders.pulled(ENTRY, "gguf", tmp_path) is None

    hub.requests.clear()
    hub.faults.clear()
    log = Log()
    assert run(hub, tmp_path, log=log).path.read_bytes() == content
    assert ranges(hub) == ["bytes=70000-"]
    assert log.stages()[0] == "check"
    assert not hub.asked("hub", "LICENSE")  # complete already
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize(
    "fault", [Fault(ignores_range=True), Fault(status=416)], ids=["ignores the range", "416"]
)
def test_a_server_that_cannot_go_on_sends_all_of_it(
    hub: HubDouble, tmp_path: Path, content: bytes, fault: Fault
) -> None:
    hub.faults = [Fault(), Fault(cut_after=70_000), fault]
    assert run(hub, tmp_path).path.read_bytes() == content


def test_another_range_than_was_asked_for_is_not_taken(hub: HubDouble, tmp_path: Path) -> None:
    hub.faults = [Fault(), Fault(cut_after=70_000), Fault(shifted=True)]
    fails(hub, tmp_path, "another part of", FILE)


def test_a_damaged_part_is_found_and_begun_again(hub: HubDouble, tmp_path: Path, content: bytes) -> None:
    hub.faults = [Fault(), Fault(cut_after=70_000), *GIVE_UP]
    fails(hub, tmp_path)
    part = tmp_path / "some-model.part" / f"{FILE}.part"
    part.write_bytes(b"\0" * 70_000)
    hub.requests.clear()
    assert run(hub, tmp_path).path.read_bytes() == content
    assert ranges(hub) == ["bytes=70000-", ""]


@pytest.mark.parametrize("extra", [0, 5])
def test_a_part_as_long_as_the_file_or_longer(
    hub: HubDouble, tmp_path: Path, content: bytes, extra: int
) -> None:
    hub.faults = [Fault(), Fault(cut_after=70_000), *GIVE_UP]
    fails(hub, tmp_path)
    (tmp_path / "some-model.part" / f"{FILE}.part").write_bytes(content + b"x" * extra)
    hub.requests.clear()
    assert run(hub, tmp_path).path.read_bytes() == content
    assert ranges(hub) == ([""] if extra else [])


def test_a_new_version_keeps_what_is_the_same_and_drops_the_rest(hub: HubDouble, tmp_path: Path) -> None:
    small, large = "model-00002-of-00002.safetensors", "model-00001-of-00002.safetensors"
    n_before = sum(len(data) < 100_000 for data in MLX_FILES.values())
    # Of the smaller ones one is empty, so nothing is asked; then comes the smaller of the large ones.
    hub.faults = [*[Fault()] * n_before, Fault(cut_after=10_000), *GIVE_UP]
    fails(hub, tmp_path, large, format="mlx")
    hub.repos[MLX_REPO][large] = os.urandom(200_000)
    hub.repos[MLX_REPO]["config.json"] = MLX_FILES["config.json"] + b"\n"
    hub.requests.clear()
    done = run(hub, tmp_path, "mlx")
    for name in MLX_FILES:
        assert (done.path / name).read_bytes() == hub.repos[MLX_REPO][name]
    assert ranges(hub) == [""]
    assert not hub.asked("hub", small)
    assert hub.asked("hub", "config.json")


def test_a_new_version_replaces_a_complete_one_at_once(
    hub: HubDouble, tmp_path: Path, content: bytes
) -> None:
    first = run(hub, tmp_path)
    changed = bytearray(content)
    changed[-1] ^= 1
    hub.repos[REPO][FILE] = bytes(changed)
    hub.faults = [Fault(), Fault(cut_after=10), *GIVE_UP]
    fails(hub, tmp_path)
    assert first.path.read_bytes() == content
    assert folders.pulled(ENTRY, "gguf", tmp_path) == first.path
    second = run(hub, tmp_path)
    assert second.is_new
    assert second.path == first.path
    assert second.path.read_bytes() == changed
    assert names(tmp_path) == {"some-model", ".some-model.lock"}


def test_a_file_that_was_removed_comes_again(hub: HubDouble, tmp_path: Path, content: bytes) -> None:
    run(hub, tmp_path).path.unlink()
    assert folders.pulled(ENTRY, "gguf", tmp_path) is None
    assert run(hub, tmp_path).path.read_bytes() == content


def test_a_key_press_stops_it_and_keeps_what_came(hub: HubDouble, tmp_path: Path, content: bytes) -> None:
    def stop(stage: str, what: str, n_done: int, n_total: int) -> None:
        if n_done > 100_000:
            raise KeyboardInterrupt

    with Hub(hub.url) as client, pytest.raises(KeyboardInterrupt):
        pull(client, ENTRY, "gguf", stop, root=tmp_path)
    part = tmp_path / "some-model.part" / f"{FILE}.part"
    came = part.read_bytes()
    assert 0 < len(came) < len(content) or came == content
    assert content.startswith(came)
    assert run(hub, tmp_path).path.read_bytes() == content


# What is not right.


def test_content_with_another_hash_is_thrown_away(hub: HubDouble, tmp_path: Path, content: bytes) -> None:
    wrong = bytearray(content)
    wrong[1000] ^= 1
    hub.faults = [Fault(), Fault(content=bytes(wrong))]
    fails(hub, tmp_path, FILE, "its hash differs", "It was deleted")
    assert not (tmp_path / "some-model").exists()
    assert (tmp_path / "some-model.part" / f"{FILE}.part").read_bytes() == b""
    assert run(hub, tmp_path).path.read_bytes() == content


def test_small_files_are_checked_by_their_git_id(hub: HubDouble, tmp_path: Path) -> None:
    hub.faults = [Fault(), Fault(), Fault(), Fault(content=b"c b\n")]  # the smallest come first
    fails(hub, tmp_path, "merges.txt is not what", "its hash is another", format="mlx")


@pytest.mark.parametrize("n_more", [-1, 1, 1000])
def test_another_length_than_announced(hub: HubDouble, tmp_path: Path, content: bytes, n_more: int) -> None:
    data = content + b"x" * n_more if n_more > 0 else content[:n_more]
    hub.faults = [Fault(), Fault(content=data)]
    fails(hub, tmp_path, f"{len(data)} bytes for {FILE}")
    assert len(hub.asked("content")) == 1


def test_more_bytes_than_announced_without_a_length(hub: HubDouble, tmp_path: Path, content: bytes) -> None:
    hub.faults = [Fault(), Fault(content=content + b"x", ends_early=True, cut_after=len(content) + 1)]
    fails(hub, tmp_path, "more bytes than the hub announced")


def test_content_in_an_encoding(hub: HubDouble, tmp_path: Path) -> None:
    hub.faults = [Fault(), Fault(headers={"Content-Encoding": "gzip"})]
    fails(hub, tmp_path, "an encoding that was not asked for")
    assert all(one.headers["Accept-Encoding"] == "identity" for one in hub.asked("content"))


def test_the_hub_must_agree_with_itself_about_the_hash(hub: HubDouble, tmp_path: Path) -> None:
    hub.linked_etag = "0" * 64
    fails(hub, tmp_path, "another hash than it listed")
    assert not hub.asked("content")


def test_what_was_published_broken_is_told(hub: HubDouble, tmp_path: Path) -> None:
    hub.repos[REPO][FILE] = b"not a model"
    fails(hub, tmp_path, "is not a GGUF file", "this is how it was published")


def test_a_folder_that_mlx_could_not_use_is_told(hub: HubDouble, tmp_path: Path) -> None:
    del hub.repos[MLX_REPO]["tokenizer.json"]
    fails(hub, tmp_path, "has no tokenizer.json", "this is how it was published", format="mlx")


def change(**fields: Any) -> Any:
    def changed(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{**item, **fields} if item["path"] == FILE else item for item in items]

    return changed


@pytest.mark.parametrize(
    ("listed", "parts"),
    [
        (change(lfs={"oid": "abc", "size": 3, "pointerSize": 1}), ["does not say the hash"]),
        (change(lfs=None, oid="abc"), ["does not say the hash"]),
        (change(lfs={"oid": "a" * 64, "size": -1, "pointerSize": 1}), ["is not used here"]),
        (change(lfs={"oid": "a" * 64, "size": "1", "pointerSize": 1}), ["cannot be read", "size"]),
        (change(path="model-q5.gguf"), ["has no model-q4_k_m.gguf", "model-q5.gguf, model-q8_0.gguf"]),
        (lambda items: [], ["It has no GGUF file"]),
        (lambda items: {"error": "no"}, ["cannot be read"]),
        (lambda items: [[]], ["cannot be read"]),
        (lambda items: [{"type": "file"}], ["cannot be read", "path"]),
    ],
)
def test_lists_of_files_that_cannot_be_used(
    hub: HubDouble, tmp_path: Path, listed: Any, parts: list[str]
) -> None:
    hub.listed = listed
    fails(hub, tmp_path, *parts)
    assert not hub.asked("content")


@pytest.mark.parametrize(
    "name", ["model\\x.json", "model\n.json", ".hidden.json", "singlepass.json", "x" * 250 + ".json"]
)
def test_names_that_could_do_harm(hub: HubDouble, tmp_path: Path, name: str) -> None:
    hub.repos[MLX_REPO][name] = b"{}"
    fails(hub, tmp_path, "a name that is not used here", format="mlx")
    assert not hub.asked("hub", "/resolve/")


def test_files_above_or_below_are_not_taken(hub: HubDouble, tmp_path: Path) -> None:
    hub.repos[MLX_REPO] |= {"../config.json": b"{}", "/etc/config.json": b"{}", "a/b.json": b"{}"}
    assert names(run(hub, tmp_path, "mlx").path) == {*MLX_FILES, "singlepass.json"}


@pytest.mark.parametrize("missing", ["config.json", "safetensors"])
def test_a_repository_that_is_no_model_folder(hub: HubDouble, tmp_path: Path, missing: str) -> None:
    hub.repos[MLX_REPO] = {name: data for name, data in MLX_FILES.items() if not name.endswith(missing)}
    fails(hub, tmp_path, "is no model folder", format="mlx")


def test_a_model_without_a_conversion(hub: HubDouble, tmp_path: Path) -> None:
    entry = msgspec.structs.replace(ENTRY, mlx=None)
    fails(hub, tmp_path, "--format gguf", format="mlx", entry=entry)


def page(http: BaseHTTPRequestHandler) -> None:
    body = b"<html>Please log in to the hotel's network</html>"
    http.send_response(200)
    http.send_header("Content-Length", str(len(body)))
    http.end_headers()
    http.wfile.write(body)


def endless(http: BaseHTTPRequestHandler) -> None:
    http.send_response(200)
    http.end_headers()
    with contextlib.suppress(OSError):
        while True:
            http.wfile.write(b" " * (1 << 20))


@pytest.mark.parametrize(
    ("answer", "part"),
    [
        (page, "is not JSON; a proxy"),
        (endless, "without an end"),
        (lambda http: answer_json(http, {"sha": "main"}), "a commit that is none"),
        (lambda http: answer_json(http, {"id": "x"}), "cannot be read"),
        (lambda http: refuse(http, 503, "", "Down for maintenance"), "status 503: Down for maintenance"),
        (lambda http: refuse(http, 429, "", ""), "status 429"),
        (lambda http: refuse(http, 418, "", "I am a \x1b[31mteapot"), "(418): I am a  [31mteapot"),
    ],
)
def test_answers_of_the_api_that_are_none(hub: HubDouble, tmp_path: Path, answer: Any, part: str) -> None:
    hub.api_faults = [answer]
    fails(hub, tmp_path, part)


def test_a_next_page_elsewhere_is_not_asked_for(hub: HubDouble, tmp_path: Path) -> None:
    def answer(http: BaseHTTPRequestHandler) -> None:
        answer_json(http, [], {"Link": f'<{hub.content_url}/x>; rel="next"'})

    hub.api_faults = [lambda http: answer_json(http, {"sha": "0" * 40}), answer]
    fails(hub, tmp_path, "a next page on another server", token=TOKEN)
    assert not hub.asked("content")


# Who may have it, and who gets the token.


def test_the_token_goes_to_the_hub_alone(hub: HubDouble, tmp_path: Path, content: bytes) -> None:
    hub.tokens = {TOKEN}
    hub.gated = {REPO}
    hub.faults = [Fault(), Fault(cut_after=1000)]
    assert run(hub, tmp_path, token=TOKEN).path.read_bytes() == content
    assert {one.headers.get("Authorization") for one in hub.asked("hub")} == {f"Bearer {TOKEN}"}
    assert len(hub.asked("content")) == 2
    for one in hub.asked("content"):
        assert TOKEN not in str(one)
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or TOKEN.encode() not in path.read_bytes()


@pytest.mark.parametrize(
    ("endpoint", "is_sent"),
    [("http://hub.example", False), ("http://localhost", True), ("http://[::1]", True)],
)
def test_without_tls_only_this_machine_gets_the_token(
    hub: HubDouble, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, endpoint: str, is_sent: bool
) -> None:
    """The double stands for all of them as a proxy, which sees what is sent."""
    monkeypatch.setenv("HTTP_PROXY", hub.url)
    hub.redirects_large = False
    with Hub(endpoint, TOKEN) as client:
        pull(client, ENTRY, "gguf", Log(), root=tmp_path)
    assert hub.requests
    assert all(("Authorization" in one.headers) == is_sent for one in hub.requests)


@pytest.mark.parametrize(
    ("token", "parts"),
    [
        ("", ["accept its terms (401)", "/settings/tokens, set HF_TOKEN to it"]),
        (TOKEN, ["accept its terms (403)", "whose token is in HF_TOKEN"]),
    ],
)
def test_a_gated_model(hub: HubDouble, tmp_path: Path, token: str, parts: list[str]) -> None:
    hub.gated = {REPO}
    fails(hub, tmp_path, f"Open {hub.url}/{REPO}", *parts, token=token)
    assert not hub.asked("content")


@pytest.mark.parametrize("token", ["", TOKEN])
def test_a_repository_that_is_not_there(hub: HubDouble, tmp_path: Path, token: str) -> None:
    hub.tokens = {TOKEN}
    del hub.repos[REPO]
    fails(hub, tmp_path, f"The hub has no {REPO}", "404" if token else "401", token=token)


def test_a_token_that_is_not_accepted(hub: HubDouble, tmp_path: Path) -> None:
    hub.api_faults = [lambda http: refuse(http, 401, "", f"Invalid credentials: {TOKEN}")]
    message = fails(hub, tmp_path, "does not accept the token in HF_TOKEN", token=TOKEN)
    assert "[token]" in message


def test_a_token_that_is_none(hub: HubDouble) -> None:
    with pytest.raises(PullError) as caught:
        Hub(hub.url, "hf_sécret")
    assert "cret" not in str(caught.value)


def test_a_file_that_went_in_the_meantime(hub: HubDouble, tmp_path: Path) -> None:
    hub.api_faults = []
    taken = hub.repos[REPO]
    listed = hub.listed

    def forget(items: list[dict[str, Any]]) -> Any:
        hub.repos[REPO] = {"README.md": b""}
        return listed(items)

    hub.listed = forget
    fails(hub, tmp_path, "any more")
    hub.repos[REPO], hub.listed = taken, listed
    assert run(hub, tmp_path).is_new


# The way there.


def test_busy_servers_are_asked_again_when_they_said(hub: HubDouble, tmp_path: Path, content: bytes) -> None:
    hub.faults = [
        Fault(),
        Fault(status=429, headers={"Retry-After": "3"}),
        Fault(status=503),
        Fault(status=403),  # the link is too old
        Fault(status=429, headers={"Retry-After": "86400"}),
    ]
    log = Log()
    assert run(hub, tmp_path, log=log).path.read_bytes() == content
    assert log.waits == [3.0, 2.0, 4.0, 60.0]
    assert len(hub.asked("hub", f"/{FILE}")) == 5


@pytest.mark.parametrize(
    ("location", "part"),
    [
        ("{hub}/{repo}/resolve/main/{file}", "redirects without an end"),
        ("ftp://127.0.0.1/x", "a redirect away from https"),
        ("//127.0.0.1:0:0/", "Invalid URL in location header"),
    ],
)
def test_redirects_that_lead_nowhere(hub: HubDouble, tmp_path: Path, location: str, part: str) -> None:
    hub.redirect_to = location.format(hub=hub.url, repo=REPO, file=FILE)
    fails(hub, tmp_path, part)
    assert len(hub.asked("hub", "/resolve/")) < 20


def test_a_server_for_content_that_is_not_there(hub: HubDouble, tmp_path: Path) -> None:
    hub.redirect_to = "http://127.0.0.1:1/x?signature=secret"
    message = fails(hub, tmp_path, "broke off", "http://127.0.0.1:1 cannot be reached")
    assert "signature" not in message


def test_no_network(tmp_path: Path) -> None:
    with Hub("http://127.0.0.1:1") as client, pytest.raises(PullError) as caught:
        pull(client, ENTRY, "gguf", Log(), root=tmp_path)
    message = str(caught.value)
    assert "The hub at http://127.0.0.1:1 cannot be reached" in message
    assert "`singlepass models` works without" in message


@pytest.mark.parametrize("endpoint", ["hub", "ftp://x", "http://", "https://user:secret@hub.example"])
def test_an_endpoint_that_is_none(endpoint: str) -> None:
    with pytest.raises(PullError, match="HF_ENDPOINT is not the address") as caught:
        Hub(endpoint)
    assert "secret" not in str(caught.value)


def test_the_environment(monkeypatch: pytest.MonkeyPatch, hub: HubDouble, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_ENDPOINT", hub.url + "/")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with Hub.from_environment() as client:
        pull(client, ENTRY, "gguf", Log(), root=tmp_path)
    assert {one.headers.get("Authorization") for one in hub.asked("hub")} == {f"Bearer {TOKEN}"}
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(PullError, match="HF_HUB_OFFLINE is set"):
        Hub.from_environment()


@pytest.mark.parametrize(
    ("name", "value"), [("ALL_PROXY", "socks9://x"), ("SSL_CERT_FILE", "/nowhere/at/all.pem")]
)
def test_a_proxy_or_certificate_that_cannot_be_used(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(PullError, match="in the environment"):
        Hub()


# The disk.


def test_too_little_room_is_told_before_anything_comes(
    hub: HubDouble, tmp_path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = [len(content) + 200 * 2**20]
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(2**40, 0, free[0]))
    fails(hub, tmp_path, "some-model needs", "free", "SINGLEPASS_MODELS_DIR")
    assert not hub.asked("hub", "/resolve/")
    free[0] += 60 * 2**20
    assert run(hub, tmp_path).is_new


def test_what_is_here_already_needs_no_room(
    hub: HubDouble, tmp_path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.faults = [Fault(), Fault(cut_after=len(content) - 1000), *GIVE_UP]
    fails(hub, tmp_path, "broke off")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(2**40, 0, 256 * 2**20 + 2000))
    assert run(hub, tmp_path).path.read_bytes() == content


SCRIPT = """
import resource, sys
from pathlib import Path
from test_models_pull import ENTRY, Hub, Log, PullError, pull
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
with Hub(sys.argv[1]) as client:
    try:
        pull(client, ENTRY, "gguf", Log(), root=Path(sys.argv[2]))
    except PullError as error:
        print(error)
"""


def test_a_disk_that_takes_no_more(hub: HubDouble, tmp_path: Path, content: bytes) -> None:
    """A process that may write files of 100,000 bytes only."""
    search = os.pathsep.join([str(Path(__file__).parent), *[path for path in sys.path if path]])
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, hub.url, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": search},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert f"Writing to {tmp_path} failed: {os.strerror(27)}" in done.stdout
    assert "What was received is kept" in done.stdout
    part = tmp_path / "some-model.part" / f"{FILE}.part"
    assert content.startswith(part.read_bytes())
    assert part.stat().st_size == 100_000
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 100_000
    hub.requests.clear()
    assert run(hub, tmp_path).path.read_bytes() == content
    assert ranges(hub) == ["bytes=100000-"]


def test_a_folder_that_cannot_be_made(hub: HubDouble, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    fails(hub, tmp_path / "file", "Writing to", "failed")


def test_two_at_once(hub: HubDouble, tmp_path: Path) -> None:
    with (tmp_path / ".some-model.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        fails(hub, tmp_path, "Another `singlepass models pull` is downloading some-model")
    assert run(hub, tmp_path).is_new


def test_a_note_that_cannot_be_read_is_no_model(hub: HubDouble, tmp_path: Path) -> None:
    done = run(hub, tmp_path)
    note = done.path.parent / "singlepass.json"
    stored = msgspec.json.decode(note.read_bytes())
    assert stored["commit"] == hub.commit(REPO)
    assert {file["sha256"] for file in stored["files"] if file["path"] == FILE} == {
        hashlib.sha256(done.path.read_bytes()).hexdigest()
    }
    for damaged in (b"", b"{}", b"\xff", b"[" * 100_000):
        note.write_bytes(damaged)
        assert folders.pulled(ENTRY, "gguf", tmp_path) is None


def test_where_models_lie(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SINGLEPASS_MODELS_DIR", str(tmp_path))
    assert folders.models_dir() == tmp_path
    assert folders.folder_of(ENTRY, "mlx") == tmp_path / "some-model-mlx"
    monkeypatch.delenv("SINGLEPASS_MODELS_DIR")
    assert folders.models_dir().parts[-2:] == ("singlepass", "models")
