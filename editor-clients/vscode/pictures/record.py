"""Makes the pictures of the README: a real VS Code with the package, in a browser, as its page is.

`PYTHONPATH=tests python editor-clients/vscode/pictures/record.py` needs Pillow, and what the tests in the
real editor need (`editor-clients/vscode/test/install.sh`). A recording stands in for the model; everything
else is as a user has it.
"""

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from clients.test_vscode import write_recording
from PIL import Image
from vscode import EXTENSION, ROOT, editor, need_node, npm, own_python

PICTURES = Path(__file__).parent
SIZE = (768, 512)
COLOURS = 64
LONGEST_MS = 700
"""No frame of the animation but the last is shown longer, however long the machine took."""
LAST_MS = 2500

Frame = tuple[Path, int]
"""A picture, and when it was taken, in milliseconds."""


def write_animation(frames: Sequence[Frame], path: Path) -> None:
    """A GIF that shows each frame for as long as it was there; equal ones are one."""
    kept: list[tuple[Image.Image, int]] = []
    for file, at_ms in frames:
        with Image.open(file) as picture:
            image = picture.convert("RGB").resize(SIZE, Image.Resampling.LANCZOS)
        if not kept or image.tobytes() != kept[-1][0].tobytes():
            kept.append((image, at_ms))
    ends = [at_ms for _, at_ms in kept[1:]]
    shown = [min(end - at_ms, LONGEST_MS) for (_, at_ms), end in zip(kept, ends, strict=False)]
    # One palette for all, so that nothing flickers: of the whole edit, which has the most colours.
    palette = kept[-1][0].quantize(COLOURS)
    first, *others = [image.quantize(palette=palette, dither=Image.Dither.NONE) for image, _ in kept]
    first.save(path, save_all=True, append_images=others, duration=[*shown, LAST_MS], loop=0, optimize=True)


def record(folder: Path) -> None:
    """Have a real editor make the edit, and write what it looked like."""
    need_node()
    npm("node", "build.mjs", "--package", PYTHON=sys.executable)
    work, shots = folder / "tally", folder / "shots"
    shots.mkdir()
    shutil.copytree(ROOT / "tests" / "data" / "tally", work)
    target = {"backend": "scripted", "model": str(write_recording(folder / "recording.json"))}
    with editor(
        folder / "editor",
        {**own_python(), "singlepass.target": target},
        extensions=folder / "extensions",
        vsix=EXTENSION / "dist" / "singlepass.vsix",
    ) as vscode:
        status, output = vscode.drive("../../pictures/record.mjs", folder=str(work), shots=str(shots))
    if status != 0:
        raise SystemExit(output)
    taken = json.loads(output.splitlines()[-1])
    write_animation([(shots / one["name"], one["at_ms"]) for one in taken], PICTURES / "edit.gif")
    with Image.open(shots / "review.png") as review:
        review.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(
            PICTURES / "review.png", optimize=True
        )


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="sp-") as name:
        for kind in ("CONFIG", "RUNTIME", "CACHE", "STATE"):
            os.environ[f"SINGLEPASS_{kind}_DIR"] = str(Path(name) / kind.lower())
        record(Path(name))
    print(PICTURES / "edit.gif", PICTURES / "review.png")


if __name__ == "__main__":
    main()
