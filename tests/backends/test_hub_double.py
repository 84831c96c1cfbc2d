"""The hub of our tests is believed because the real hub's own library downloads from it."""

import json
import os
import subprocess
import sys
from pathlib import Path

from hub_double import HubDouble

SCRIPT = """
import json, sys
from huggingface_hub import HfApi, hf_hub_download, snapshot_download
repo = sys.argv[1]
files = {item.path: [item.size, item.lfs.sha256 if item.lfs else item.blob_id]
         for item in HfApi().list_repo_tree(repo, recursive=True)}
one = hf_hub_download(repo, "model.safetensors")
every = snapshot_download(repo)
print(json.dumps({"files": files, "one": one, "every": every}))
"""


def test_the_hubs_own_library_can_download_from_it(tmp_path: Path) -> None:
    files = {"model.safetensors": os.urandom(300_000), "config.json": b"{}", "merges.txt": b"a b\n" * 1000}
    with HubDouble({"some/model": files}, page_size=2) as hub:
        environment = {
            **{name: value for name, value in os.environ.items() if "proxy" not in name.lower()},
            "HF_ENDPOINT": hub.url,
            "HF_HOME": str(tmp_path),
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        }
        command = [sys.executable, "-c", SCRIPT, "some/model"]
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False, timeout=120
        )
        assert done.returncode == 0, done.stderr
        assert hub.asked("content")
    found = json.loads(done.stdout.splitlines()[-1])
    assert {path: size for path, (size, _) in found["files"].items()} == {
        path: len(data) for path, data in files.items()
    }
    assert Path(found["one"]).read_bytes() == files["model.safetensors"]
    for path, data in files.items():
        assert (Path(found["every"]) / path).read_bytes() == data
