"""Secrets that must go nowhere: a key, and what stands in files that hold credentials. All that a real server
and engine write, send or say is searched for them."""

import asyncio
import json
from pathlib import Path
from typing import Any

import psutil
import pytest
from endpoints import Endpoint, Exchange, reply
from lsprotocol import types as lsp
from own import own_folders, processes, stop_engines
from pygls.exceptions import JsonRpcException
from scenarios.clients import check_done, edit, lines, write
from singlepass.cli.headless import HeadlessEditor, OpenFile
from singlepass.core.edits import Edit

pytestmark = pytest.mark.anyio

KEY = "sk-canary-5d41402abc4b2a76"
HIDDEN = "canary_of_the_credentials"
SOURCE = "import secrets\nimport plain\n\n" + "".join(f"value_{n} = {n}\n" for n in range(40))
BLOCK = "values.py\n<<<<<<< SEARCH\nvalue_3 = 3\n=======\nvalue_3 = 33\n>>>>>>> REPLACE\n"
SECRET_FILES = (
    *(".env", ".env.local", "secrets.py", "id_rsa", "server.key", ".netrc", "in/credentials.json"),
    *(".ENV.Production", "ID_ECDSA", "prod.tfvars", "secrets/db.py", ".kube/config", "client_secret_1.json"),
    *("config.py", "in/settings.py"),  # links to others
)
LINKS = {"config.py": ".env", "in/settings.py": "../secrets/db.py"}


class Listening(HeadlessEditor):
    """Keeps all that the server sends, word by word."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.heard: list[str] = []
        protocol: Any = self.client.protocol
        structure = protocol.structure_message

        def heard(data: dict[str, Any]) -> Any:
            if "jsonrpc" in data:
                self.heard.append(repr(data))
            return structure(data)

        protocol.structure_message = heard

    @property
    def all(self) -> str:
        return "\n".join([*self.heard, *self.log])


def workspace(folder: Path) -> Path:
    root = folder / "workspace"
    for name in SECRET_FILES:
        if name in LINKS:
            (root / name).symlink_to(LINKS[name])
        else:
            write(root, name, f"def {HIDDEN}():\n    return '{HIDDEN}'\n")
    # Nothing that a repository says brings them back.
    write(root, ".singlepass.toml", 'ignore = ["!*", "!.env", "!/secrets/", "!config.py"]\n')
    write(root, ".gitignore", "*.tmp\n!.env\n!id_rsa\n!secrets/\n")
    write(root, "plain.py", "def plain_function():\n    return 1\n")
    write(root, "values.py", SOURCE)
    return root


def nowhere(folder: Path, *secrets: str) -> None:
    """Nothing on disk holds them, but for the workspace's own files; nor does any command line."""
    files = [one for one in folder.rglob("*") if one.is_file() and "workspace" not in one.parts]
    assert any(one.suffix == ".log" for one in files)
    assert any(one.name == "requests.sqlite3" for one in files)
    for one in files:
        data = one.read_bytes()
        for secret in secrets:
            assert secret.encode() not in data, one
    for process in processes(folder):
        assert not any(secret in " ".join(process.cmdline()) for secret in secrets)


async def quiet(editor: Listening, folder: Path) -> None:
    """Every secret is open in the editor, as if somebody had just looked at it, and then somebody works."""
    for name in SECRET_FILES:
        editor.open(folder / name)
    editor.open(folder / "plain.py")
    file = editor.open(folder / "values.py")
    await editor.actions(file, lsp.Range(lsp.Position(3, 0), lsp.Position(4, 0)))


async def test_a_key_and_credentials_stay_with_a_remote_target(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(exchange: Exchange) -> None:
        said = f"Incorrect API key provided: {exchange.headers['authorization']}"
        exchange.json({"error": {"message": said}}, 401, WWW_Authenticate=f"Bearer {KEY}")

    def answer(exchange: Exchange) -> None:
        exchange.head()
        exchange.send(reply([BLOCK]))

    monkeypatch.setenv("CANARY_KEY", KEY)
    with own_folders() as folder, Endpoint(refuse) as endpoint:
        root = workspace(folder)
        target = {"backend": "openai_compatible", "url": endpoint.url, "model": "m"}
        target["api_key_env"] = "CANARY_KEY"
        async with Listening(root, {"target": target, "log_level": "debug"}) as editor:
            await quiet(editor, root)
            file = editor.files[(root / "values.py").as_uri()]
            told = await edit(editor, file, lines(4, 8))
            assert told["error"]["code"] == "unauthorized"
            endpoint.script = answer
            told = await edit(editor, file, lines(4, 8))
            assert told["n_applied"] == 1
            await editor.command("singlepass.context", file.uri)
            await editor.command("singlepass.stats")
            # It did reach the one place where it belongs, and so did the rest of the context.
            assert {one.headers["authorization"] for one in endpoint.asked} == {f"Bearer {KEY}"}
            sent = [json.dumps(one.body) for one in endpoint.exchanges]
            assert any("plain_function" in one for one in sent)
            for secret in (KEY, HIDDEN):
                assert not any(secret in one for one in sent)
                assert secret not in editor.all
            nowhere(folder, KEY, HIDDEN)
        await stop_engines()
        nowhere(folder, KEY, HIDDEN)


async def test_what_may_not_be_sent_is_not_prewarmed_by_a_remote_server(tmp_path: Path) -> None:
    """A server in the local network, which keeps prefixes and so is given them ahead."""

    def answer(exchange: Exchange) -> None:
        exchange.head()
        exchange.send(reply([BLOCK]))

    outside = write(tmp_path, "outside.py", f"def {HIDDEN}(): ...\n")
    root = tmp_path / "workspace"
    write(root, "plain.py", "def plain_function():\n    return 1\n")
    write(root, "values.py", SOURCE)
    write(root, ".env", f"KEY = '{HIDDEN}'\n")
    write(root, ".singlepass.toml", 'ignore = ["!.env", "!*"]\n')
    (root / "link.py").symlink_to("../outside.py")
    (root / "config.py").symlink_to(".env")
    llama_server = {"id": "m", "owned_by": "llamacpp"}
    with own_folders(), Endpoint(answer, models=(llama_server,)) as endpoint:
        # An address that is not the loopback's, though it leads there.
        target = {"backend": "openai_compatible", "url": endpoint.url.replace("127.0.0.1", "0.0.0.0")}
        options = {"target": {**target, "model": "m"}, "remote_workspaces": [str(root)], "log_level": "info"}
        async with Listening(root, options) as editor:
            file = editor.open(root / "plain.py")
            hidden = [
                editor.open(path) for path in (outside, root / "link.py", root / "config.py", root / ".env")
            ]
            untitled = lsp.TextDocumentItem("untitled:Untitled-1", "python", 1, f"{HIDDEN} = 1\n")
            editor.client.text_document_did_open(lsp.DidOpenTextDocumentParams(untitled))
            place = lsp.Range(lsp.Position(0, 0), lsp.Position(0, 0))
            async with asyncio.timeout(60):
                for number, one in enumerate(hidden, 1):
                    # A later question takes the place of an earlier one, unless nothing may come of it.
                    editor.type(file, Edit(0, 0, f"# {number}\n"))
                    await editor.actions(file, place)
                    await editor.actions(one, place)
                    await editor.until(
                        lambda n=number: [s["state"] for s in editor.statuses].count("warm") >= n
                    )
                await editor.actions(OpenFile(untitled.uri, Path(), ""), place)
                await editor.until(lambda: any("no prewarm: Every target" in line for line in editor.log))
            for uri in (outside.as_uri(), (root / "link.py").as_uri(), untitled.uri):
                with pytest.raises(JsonRpcException, match=r"outside the workspace|remote_workspaces"):
                    await editor.command("singlepass.edit", uri, lines(1, 1), "Do it.")
            await edit(editor, editor.open(root / "values.py"), lines(4, 8))
            sent = [json.dumps(one.body) for one in endpoint.exchanges]
            assert any("plain_function" in one for one in sent)
            assert not any(HIDDEN in one for one in sent)
        await stop_engines()


@pytest.mark.parametrize("fields", [{"api_key": KEY}, {"api_key_env": "skcanary5d41402abc4b2a76"}])
async def test_a_key_in_the_wrong_setting_is_not_repeated(fields: dict[str, Any], tmp_path: Path) -> None:
    """By people who took `api_key_env` for the place of the key itself."""
    path = write(tmp_path, "values.py", SOURCE)
    target = {"backend": "openai_compatible", "url": "http://127.0.0.1:9/v1", "model": "m", **fields}
    async with Listening(tmp_path, {"target": target, "log_level": "debug"}) as editor:
        file = editor.open(path)
        told = await edit(editor, file, lines(4, 8))
        assert told["outcome"] == "failed"
        assert editor.messages
        secret = fields.get("api_key_env", KEY)
        assert secret not in editor.all
    assert not any(secret in " ".join(one.info["cmdline"] or ()) for one in psutil.process_iter(["cmdline"]))


async def test_credentials_stay_out_of_what_a_local_model_leaves_on_disk(random_gguf: Path) -> None:
    with own_folders() as folder:
        root = workspace(folder)
        async with Listening(root, {"target": {"model": str(random_gguf)}}) as editor:
            await quiet(editor, root)
            file = editor.files[(root / "values.py").as_uri()]
            check_done(await edit(editor, file, lines(4, 8)))
            shown = await editor.command("singlepass.context", file.uri)
            names = [one["name"] for one in shown["segments"]]
            assert any("plain.py" in name for name in names)
            assert not any(secret in name for name in names for secret in SECRET_FILES)
            assert HIDDEN not in editor.all
        await stop_engines()  # which saves what the prompts share
        assert list((folder / "cache").rglob("*.prefix"))
        nowhere(folder, HIDDEN)
