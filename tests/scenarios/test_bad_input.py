"""Bad input of every kind: each has its own error, the buffer keeps its text, the next request works."""

import asyncio
import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lsprotocol import types as lsp
from pygls.exceptions import JsonRpcException
from scenarios.clients import check_done, edit, eventually, lines, write
from singlepass.cli.headless import HeadlessEditor
from singlepass.core.edits import Edit

pytestmark = pytest.mark.anyio

SOURCE = "".join(f"value_{n} = {n}\n" for n in range(40))


def missing(folder: Path, model: Path) -> Path:
    return folder / "nowhere.gguf"


def not_a_gguf(folder: Path, model: Path) -> Path:
    return write(folder, "notes.gguf", "these are not the weights you are looking for\n" * 50)


def empty(folder: Path, model: Path) -> Path:
    return write(folder, "empty.gguf", "")


def truncated(folder: Path, model: Path) -> Path:
    path = folder / "truncated.gguf"
    data = model.read_bytes()
    path.write_bytes(data[: len(data) * 3 // 4])
    return path


def unsupported(folder: Path, model: Path) -> Path:
    """The same file, said to be of an architecture that does not exist."""
    path = folder / "unsupported.gguf"
    data, key = model.read_bytes(), b"general.architecture"
    start = data.index(key) + len(key) + 4 + 8  # the value's type and length
    path.write_bytes(data[:start] + b"x" + data[start + 1 :])
    return path


def a_folder(folder: Path, model: Path) -> Path:
    return folder


@pytest.mark.parametrize(
    ("make", "code", "message"),
    [
        (missing, "model_missing", r"no model file at .*nowhere\.gguf"),
        (not_a_gguf, "model_invalid", r"notes\.gguf.* not a GGUF"),
        (empty, "model_invalid", r"empty\.gguf"),
        (truncated, "model_invalid", r"truncated\.gguf.*(cut off|truncated|incomplete)"),
        (unsupported, "model_unsupported", r"architecture"),
        (a_folder, "model_missing", r"is a folder"),
    ],
)
async def test_a_model_that_cannot_be_loaded(
    make: Callable[[Path, Path], Path], code: str, message: str, random_gguf: Path, tmp_path: Path
) -> None:
    file_path = write(tmp_path, "values.py", SOURCE)
    model = make(tmp_path, random_gguf)
    async with HeadlessEditor(tmp_path, {"target": {"model": str(model)}, "prewarm": False}) as editor:
        file = editor.open(file_path)
        timings = await edit(editor, file, lines(1, 3))
        assert timings["outcome"] == "failed"
        assert timings["error"]["code"] == code, timings["error"]
        editor_told = [text for level, text in editor.messages if level == "error"]
        assert len(editor_told) == 1
        assert timings["error"]["message"] in editor_told[0]
        assert re.search(message, editor_told[0], re.IGNORECASE | re.DOTALL), editor_told[0]
        assert file.text == SOURCE
        # The same server serves the next request, once its model is there.
        shutil.copy(random_gguf, tmp_path / "good.gguf")
        editor.configure({"target": {"model": str(tmp_path / "good.gguf")}, "prewarm": False})
        check_done(await edit(editor, file, lines(1, 3)))


async def test_no_model_configured(tmp_path: Path) -> None:
    path = write(tmp_path, "values.py", SOURCE)
    async with HeadlessEditor(tmp_path) as editor:
        file = editor.open(path)
        timings = await edit(editor, file, lines(1, 3))
        check_done(timings)
        assert timings["message"].endswith("; demo model")
        assert [one["state"] for one in editor.statuses].count("demo_model") == 1


async def test_a_target_too_long_for_the_model(random_gguf: Path, tmp_path: Path) -> None:
    options = {"target": {"model": str(random_gguf), "n_ctx": 1792}, "prewarm": False}
    long = write(tmp_path, "long.py", SOURCE * 100)
    short = write(tmp_path, "short.py", SOURCE)
    async with HeadlessEditor(tmp_path, options) as editor:
        file = editor.open(long)
        timings = await edit(editor, file, lines(1, 3))
        assert timings["outcome"] == "failed"
        assert timings["error"]["code"] == "prompt_too_long"
        message = timings["error"]["message"]
        assert "1,792" in message
        assert "too many" in message or "too long" in message
        assert "long.py" in message
        # As a neighbour the same file is left out, and that is told.
        timings = await edit(editor, editor.open(short), lines(1, 3))
        check_done(timings)
        assert timings["left_out"] == ["long.py"]
        assert "left out of the prompt: long.py" in timings["message"]


async def test_files_that_cannot_be_edited(random_gguf: Path, tmp_path: Path) -> None:
    folder = tmp_path / "workspace"
    good = write(folder, "good.py", SOURCE)
    outside = write(tmp_path, "outside.py", SOURCE)
    latin = folder / "latin.py"
    latin.write_bytes("name = 'größe'\n".encode("latin-1"))
    binary = folder / "binary.py"
    binary.write_bytes(b"\0\1\2")
    options = {"target": {"model": str(random_gguf)}, "prewarm": False}

    async with HeadlessEditor(folder, options) as editor:
        file = editor.open(good)

        async def refused(uri: str, message: str, **more: Any) -> None:
            arguments = {"uri": uri, "range": lines(1, 1), "instruction": "Do it.", **more}
            with pytest.raises(JsonRpcException, match=message):
                await editor.command("singlepass.edit", arguments)

        await refused(outside.as_uri(), "outside the workspace")
        await refused(file.uri, "has only 41", range=lines(60, 61))
        await refused(file.uri, "instruction is empty", instruction="  ")
        await refused(file.uri, "range", range="all of it")
        await refused(file.uri, "files", files="other.py")
        await refused(latin.as_uri(), "byte 10 is 0xf6")
        await refused(binary.as_uri(), "binary")
        await refused((folder / "deleted.py").as_uri(), "does not exist")
        await refused("untitled:Untitled-1", "not open")
        assert file.text == SOURCE
        check_done(await edit(editor, file, lines(1, 3)))


async def test_a_read_only_document(random_gguf: Path, tmp_path: Path) -> None:
    path = write(tmp_path, "values.py", SOURCE)

    class ReadOnly(HeadlessEditor):
        def apply_edit(self, params: lsp.ApplyWorkspaceEditParams) -> lsp.ApplyWorkspaceEditResult:
            return lsp.ApplyWorkspaceEditResult(False, failure_reason="values.py is read-only")

    async with ReadOnly(tmp_path, {"target": {"model": str(random_gguf)}, "prewarm": False}) as editor:
        file = editor.open(path)
        timings = await edit(editor, file, lines(1, 3))
        assert timings["outcome"] == "done"
        assert timings["n_applied"] == 0
        assert timings["n_rejected"] == timings["n_hunks"] - timings["n_unchanged"] > 0
        for rejected in timings["rejected"]:
            assert "values.py is read-only" in rejected["message"]
            assert rejected["old"]  # nothing is lost: the text of the hunk is there
        warnings = [one for one in editor.diagnostics[file.uri] if one.code == "refused"]
        assert len(warnings) == timings["n_rejected"]
        assert any("read-only" in text for _, text in editor.messages)


async def test_a_document_closed_while_its_job_runs(random_gguf: Path, tmp_path: Path) -> None:
    path = write(tmp_path, "values.py", SOURCE)
    async with HeadlessEditor(tmp_path, {"target": {"model": str(random_gguf)}, "prewarm": False}) as editor:
        file = editor.open(path)
        arguments = {"uri": file.uri, "range": lines(1, 3), "instruction": "Do it."}
        job = (await editor.command("singlepass.edit", arguments))["job"]
        editor.close(file)
        timings = await editor.finish(job)
        assert timings["n_applied"] == 0
        assert path.read_text(encoding="utf-8") == SOURCE


async def test_wrong_settings_are_named_and_the_rest_is_used(random_gguf: Path, tmp_path: Path) -> None:
    path = write(tmp_path, "values.py", SOURCE)
    write(
        tmp_path, ".singlepass.toml", '[target]\nmodel = "/evil.gguf"\n[[actions]]\ntitle = "House style"\n'
    )
    options = {
        "target": {"model": str(random_gguf)},
        "prewarm": False,
        "tempurature": 1,
        "max_tokens": "many",
    }
    async with HeadlessEditor(tmp_path, options) as editor:
        file = editor.open(path)
        await editor.until(lambda: len(editor.messages) >= 3)  # of the repository's file there is one
        told = [text for _, text in editor.messages]
        for expected in (
            "unknown setting `tempurature`; did you mean `temperature`?",
            "`max_tokens`: expected `int`, got `str`",
            "`target` is ignored: a repository may set only actions and ignore",
            "number 1 of `actions`: object missing required field `instruction`",
        ):
            assert any(expected in text for text in told), (expected, told)
        check_done(await edit(editor, file, lines(1, 3)))


async def test_typed_text_after_a_failure_is_all_there(tmp_path: Path) -> None:
    path = write(tmp_path, "values.py", SOURCE)
    async with HeadlessEditor(tmp_path, {"target": {"model": str(tmp_path / "none.gguf")}}) as editor:
        file = editor.open(path)
        editor.type(file, Edit(0, 0, "# mine\n"))
        timings = await edit(editor, file, lines(1, 3))
        assert timings["outcome"] == "failed"
        assert file.text == "# mine\n" + SOURCE


def hostile_workspace(folder: Path, kind: str) -> str:
    """Settings and ignore files of a repository that wants to stall who opens it; what is said of it, if
    anything."""
    settings, ignored = folder / ".singlepass.toml", folder / ".gitignore"
    stars = "*a" * 60 + "b"
    match kind:
        case "pipes":
            for path in (settings, ignored, folder / "pkg" / ".gitignore"):
                os.mkfifo(path)
            return "not a regular file"
        case "devices":
            for path in (settings, ignored):
                path.symlink_to("/dev/zero")
            return "leads out of the folder"
        case "huge":
            settings.write_text(f"ignore = ['{'x' * 300_000}']\n")
            ignored.write_text("x\n" * 200_000)
            return "more than 262,144 bytes"
        case "problems":
            settings.write_text("ignore = [" + "1, " * 20_000 + "]\n")
            return "more problems in this file"
        case "deep key":
            settings.write_text("a" + ".b" * 100_000 + " = 1\n")
            return "more than 20 parts"
        case _:
            lines = [f"{stars}{number}" for number in range(1_900)]
            settings.write_text(f"ignore = {lines}\n")
            ignored.write_text("\n".join([*lines, *("**/*a*a*a/" * 12 + "b" for _ in range(500))]))
            return ""


@pytest.mark.skipif(sys.platform == "win32", reason="pipes and links")
@pytest.mark.parametrize("kind", ["pipes", "devices", "huge", "problems", "deep key", "stars"])
async def test_a_repository_cannot_stall_who_opens_it(kind: str, random_gguf: Path, tmp_path: Path) -> None:
    """Every request is answered, files around are found, and there is one message at most."""
    root = tmp_path / "repository"
    name = f"pkg/{'a' * 200}.py"
    path = write(root, name, SOURCE)
    write(root, "pkg/other.py", "def other_function():\n    return 1\n")
    message = hostile_workspace(root, kind)
    async with asyncio.timeout(60), HeadlessEditor(root, {"target": {"model": str(random_gguf)}}) as editor:
        file = editor.open(path)
        editor.type(file, Edit(0, 0, "#\n"))
        assert await editor.actions(file, lsp.Range(lsp.Position(3, 0), lsp.Position(4, 0)))

        async def is_mapped() -> bool:
            shown = await editor.command("singlepass.context", file.uri)
            return "repository map" in [one["name"] for one in shown["segments"]]

        if kind in ("pipes", "devices", "stars"):  # where the indexer has ignore files to read
            await eventually(is_mapped)
        check_done(await edit(editor, file, lines(4, 6)))
        said = [text for _, text in editor.messages if "settings:" in text]
        assert len(said) == bool(message)
        assert all(message in text for text in said)
