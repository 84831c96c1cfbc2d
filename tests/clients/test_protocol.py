"""Microsoft's own implementation of the protocol on the other side, which shares no code with ours."""

import json
import subprocess
import sys
from pathlib import Path

from singlepass.lsp import commands
from vscode import EXTENSION, need_node

SOURCE = "one = '𝔘'; a = 1\ntwo = 2\nthree = 3\n"


def block(old: str, new: str) -> str:
    return f"values.py\n<<<<<<< SEARCH\n{old}\n=======\n{new}\n>>>>>>> REPLACE\n"


def test_an_action_a_cancel_and_the_end(tmp_path: Path) -> None:
    need_node()
    folder = tmp_path / "project"
    (folder / ".git").mkdir(parents=True)
    (folder / "values.py").write_text(SOURCE, encoding="utf-8")
    first = block("one = '𝔘'; a = 1", "one = '𝔘𝔘'; a = 1") + block("three = 3", "three = 33\nmore = 0")
    replies = [
        {"when": "Simplify", "text": [first], "n_prompt": 900, "chunk_tokens": 300, "chunk_ms": 5},
        {"when": "For ever", "text": [block("two = 2", "two = 22"), *["\n"] * 3000], "delay_ms": 10},
    ]
    recording = tmp_path / "recording.json"
    recording.write_text(json.dumps({"replies": replies}), encoding="utf-8")
    asked = {
        "command": [sys.executable, "-P", "-m", "singlepass", "serve"],
        "folder": str(folder),
        "name": "values.py",
        "text": SOURCE,
        "settings": {"target": {"backend": "scripted", "model": str(recording)}, "prewarm": False},
        "cancelled": "For ever",
    }
    done = subprocess.run(
        ["node", str(EXTENSION / "test" / "peer" / "peer.mjs"), json.dumps(asked)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    simplified = SOURCE.replace("'𝔘'", "'𝔘𝔘'").replace("three = 3\n", "three = 33\nmore = 0\n")
    assert told["simplified"] == simplified
    assert told["text"] == simplified.replace("two = 2\n", "two = 22\n")
    assert (told["outcomes"], told["n_applied"]) == (["done", "cancelled"], [2, 1])
    assert told["kinds"] == ["refactor.rewrite"]
    assert told["progress"] == ["begin", "report", "end"] * 2
    assert set(told["commands"]) == {
        value for name, value in vars(commands).items() if name.startswith("COMMAND_")
    }
    assert told["unknown"] == -32601  # MethodNotFound
    assert told["exit"] == 0
    assert told["problems"] == []
