"""Draws the picture of the README: a real Neovim with the plugin, as its cells are, in SVG.

`PYTHONPATH=tests python editor-clients/neovim/pictures/record.py` needs pynvim and a Neovim 0.10 or later, in
SINGLEPASS_NVIM or in PATH. A recording stands in for the model; everything else is as a user has it.
"""

import os
import queue
import shutil
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from html import escape
from pathlib import Path
from typing import Any

import msgspec
import pynvim
from neovim import Neovim, find_program, running

ROOT = Path(__file__).parents[3]
PICTURE = Path(__file__).with_name("review.svg")
COLUMNS, ROWS = 112, 30
CELL_W, CELL_H, FONT = 8.4, 18, 14
FONTS = "ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono', monospace"

OPTIONS = """
vim.opt.termguicolors = true
vim.opt.number = true
vim.opt.laststatus = 2
vim.opt.ruler = false
vim.opt.showcmd = false
vim.opt.statusline = " tally/%t %m%=%{v:lua.require'singlepass'.status()} "
"""


class Screen:
    """The grid of a Neovim's user interface, kept up to date by the events of `ui_attach`."""

    def __init__(self) -> None:
        self.cells = [[(" ", 0)] * COLUMNS for _ in range(ROWS)]
        self.colours: dict[int, dict[str, Any]] = {0: {}}
        self.default = (0xFFFFFF, 0x000000)
        self.cursor = (0, 0)

    def take(self, events: Sequence[Sequence[Any]]) -> bool:
        """Apply the events of one notification; whether the screen is whole after it."""
        flushed = False
        for name, *batches in events:
            flushed |= name == "flush"
            for batch in batches:
                getattr(self, f"_{name}", lambda *_: None)(*batch)
        return flushed

    def _default_colors_set(self, foreground: int, background: int, *_: Any) -> None:
        self.default = foreground, background

    def _hl_attr_define(self, id: int, rgb: dict[str, Any], *_: Any) -> None:
        self.colours[id] = rgb

    def _grid_clear(self, _: int) -> None:
        self.cells = [[(" ", 0)] * COLUMNS for _ in range(ROWS)]

    def _grid_cursor_goto(self, _: int, row: int, column: int) -> None:
        self.cursor = row, column

    def _grid_line(self, _: int, row: int, column: int, cells: Sequence[Sequence[Any]], *__: Any) -> None:
        id = 0
        for text, *more in cells:
            id = more[0] if more else id
            for _n in range(more[1] if len(more) > 1 else 1):
                self.cells[row][column] = text, id
                column += 1

    def _grid_scroll(self, _: int, top: int, bottom: int, left: int, right: int, rows: int, *__: Any) -> None:
        order = range(top, bottom - rows) if rows > 0 else range(bottom - 1, top - rows - 1, -1)
        for row in order:
            self.cells[row][left:right] = self.cells[row + rows][left:right]

    def svg(self) -> str:
        """The screen as a picture: a rectangle for each run of a background, a text for each of a colour."""
        width, height = round(COLUMNS * CELL_W), ROWS * CELL_H
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}"'
            f' font-family="{FONTS}" font-size="{FONT}">',
            f'<rect width="100%" height="100%" fill="{_hex(self.default[1])}"/>',
        ]
        texts: list[str] = []
        for row, cells in enumerate(self.cells):
            column = 0
            while column < COLUMNS:
                end = column
                while end < COLUMNS and cells[end][1] == cells[column][1]:
                    end += 1
                text = "".join(text for text, _ in cells[column:end])
                parts += self._run(row, column, text, self.colours.get(cells[column][1], {}), texts)
                column = end
        row, column = self.cursor
        cursor = f'<rect x="{column * CELL_W:.1f}" y="{row * CELL_H}" width="{CELL_W}" height="{CELL_H}"'
        return "\n".join(
            [*parts, *texts, f'{cursor} fill="{_hex(self.default[0])}" opacity="0.4"/>', "</svg>", ""]
        )

    def _run(self, row: int, column: int, text: str, colour: dict[str, Any], texts: list[str]) -> list[str]:
        foreground = colour.get("foreground", self.default[0])
        background = colour.get("background", self.default[1])
        if colour.get("reverse"):
            foreground, background = background, foreground
        x, y, width = column * CELL_W, row * CELL_H, len(text) * CELL_W
        if text.strip():
            styles = {"bold": 'font-weight="bold"', "italic": 'font-style="italic"'}
            styles |= {"strikethrough": 'text-decoration="line-through"'}
            marks = "".join(f" {style}" for name, style in styles.items() if colour.get(name))
            start = len(text) - len(text.lstrip(" "))
            length = len(text.strip(" ")) * CELL_W
            texts.append(
                f'<text x="{x + start * CELL_W:.1f}" y="{y + CELL_H * 0.75:.1f}" textLength="{length:.1f}"'
                f' xml:space="preserve" fill="{_hex(foreground)}"{marks}>{escape(text.strip(" "))}</text>'
            )
        if background == self.default[1]:
            return []
        return [
            f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="{CELL_H}" fill="{_hex(background)}"/>'
        ]


def _hex(colour: int) -> str:
    return f"#{colour:06x}"


class Viewer:
    """A user interface on a connection of its own, whose thread keeps the screen."""

    def __init__(self, socket: str) -> None:
        self.screen = Screen()
        self.flushed: queue.Queue[str] = queue.Queue()
        self._socket = socket
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        ui = pynvim.attach("socket", path=self._socket)
        ui.ui_attach(COLUMNS, ROWS, rgb=True, ext_linegrid=True)

        def redraw(name: str, events: list[Any]) -> None:
            if name == "redraw" and self.screen.take(events):
                self.flushed.put(self.screen.svg())

        with suppress(OSError, EOFError):  # the editor ends
            ui.run_loop(lambda *_: None, redraw)

    def picture(self, patience_s: float = 1.0) -> str:
        """The screen once nothing changes any more."""
        last = self.flushed.get(timeout=60)
        while True:
            try:
                last = self.flushed.get(timeout=patience_s)
            except queue.Empty:
                return last


def recording(path: Path) -> dict[str, Any]:
    """What the model answers."""
    hunks = [
        ("def split_words(text):", "def split_words(text: str) -> list[str]:"),
        (
            "def count_words(texts, skip_stop_words=True):\n    counts = Counter()",
            "def count_words(texts: Iterable[str], skip_stop_words: bool = True) -> Counter[str]:\n"
            '    """How often each word occurs in the texts."""\n    counts: Counter[str] = Counter()',
        ),
        (
            "            if skip_stop_words == True:\n                if word not in STOP_WORDS:\n"
            "                    counts[word] += 1\n            else:\n                counts[word] += 1",
            "            if not (skip_stop_words and word in STOP_WORDS):\n                counts[word] += 1",
        ),
    ]
    text = "".join(
        f"tally/words.py\n<<<<<<< SEARCH\n{old}\n=======\n{new}\n>>>>>>> REPLACE\n" for old, new in hunks
    )
    pieces = [text[n : n + 8] for n in range(0, len(text), 8)]
    replies = [{"when": "", "text": pieces, "n_prompt": 4000, "n_cached": 3960, "delay_ms": 5}]
    path.write_text(json_of({"name": "recording", "replies": replies}), encoding="utf-8")
    return {"backend": "scripted", "model": str(path)}


def json_of(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def play(editor: Neovim, file: Path) -> str:
    """What is shown: an instruction on the file's functions, and its hunks in review."""
    viewer = Viewer(editor.call("nvim_get_vvar", "servername"))
    editor.open(file)
    editor.command("%Singlepass Add types, and simplify")
    editor.until("#SEEN.timings > 0")
    editor.until("#require('singlepass.review').list() == 3")
    editor.keys("10G")
    time.sleep(1)
    return viewer.picture()


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="sp-") as name:
        folder = Path(name)
        for kind in ("CONFIG", "RUNTIME", "CACHE", "STATE"):
            os.environ[f"SINGLEPASS_{kind}_DIR"] = str(folder / kind.lower())
        project = folder / "tally"
        shutil.copytree(ROOT / "tests" / "data" / "tally", project)
        (project / ".git").mkdir()
        settings = {"target": recording(folder / "recording.json"), "prewarm": False, "timings": False}
        with running(find_program("newest"), project, settings, after=OPTIONS) as editor:
            PICTURE.write_text(play(editor, project / "tally" / "words.py"), encoding="utf-8")
    print(PICTURE)


if __name__ == "__main__":
    main()
