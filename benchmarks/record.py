"""Records runs of the command line into docs/command-line.md, so that no output is typed.

    python benchmarks/record.py

Each `<!-- recorded: NAME -->` … `<!-- end -->` in that page is replaced by the output of one command.
"""

import os
import platform
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
COMMANDS = {"demo": ["demo"]}


def record(arguments: list[str]) -> str:
    """Run `singlepass` on settings and engines of its own; its output as a Markdown block."""
    with tempfile.TemporaryDirectory(prefix="sp-") as folder:
        environment = {
            **os.environ,
            "SINGLEPASS_CONFIG_DIR": f"{folder}/config",
            "SINGLEPASS_RUNTIME_DIR": f"{folder}/run",
            "COLUMNS": "110",
        }
        command = [sys.executable, "-m", "singlepass"]
        done = subprocess.run(
            [*command, *arguments], env=environment, capture_output=True, text=True, check=True
        )
        subprocess.run([*command, "engine", "stop"], env=environment, capture_output=True, check=True)
    # The folder's name is another each time, and nobody else's.
    output = re.sub(r"\S*/singlepass-demo-\w+", "/tmp/singlepass-demo", done.stdout).rstrip()
    cores = os.cpu_count()
    note = f"Printed by `singlepass {' '.join(arguments)}` on {cores} cores ({platform.machine()}), no GPU:"
    return f"{note}\n\n```diff\n{output}\n```"


def main() -> None:
    """Rewrite the page."""
    path = ROOT / "docs" / "command-line.md"
    text = path.read_text(encoding="utf-8")
    for name, arguments in COMMANDS.items():
        pattern = rf"(<!-- recorded: {name} -->\n).*?(<!-- end -->)"
        block = record(arguments)
        replace = lambda match, block=block: f"{match[1]}{block}\n{match[2]}"  # noqa: E731
        text = re.sub(pattern, replace, text, flags=re.DOTALL)
    path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
