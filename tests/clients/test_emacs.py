"""eglot in a real Emacs, configured as the documentation says: an action, and the comment that asks."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = "".join(f"value_{n} = {n}\n" for n in range(8))

SCRIPT = """
(require 'package)
(package-initialize)
(require 'eglot)
%(configuration)s
(setq eglot-confirm-server-initiated-edits nil
      last-nonmenu-event ?\\r  ; not the mouse
      eglot-sync-connect 60)
(defun tell ()
  "Let messages come in, and tell the server of changes: in batch mode eglot's idle timer does not run."
  (accept-process-output nil 0.05)
  (eglot--signal-textDocument/didChange))
(defun edit-by (title done)
  "Choose the action at point that begins with TITLE; wait until DONE is in the text."
  (cl-letf (((symbol-function 'completing-read)
             (lambda (_ titles &rest _)
               (let ((names (mapcar (lambda (one) (if (consp one) (car one) one)) titles)))
                 (seq-find (lambda (name) (string-prefix-p title name)) names)))))
    (eglot-code-actions (line-beginning-position) (line-beginning-position) nil t))
  (let ((until (+ (float-time) 60)))
    (while (or (not (string-match-p done (buffer-string)))
               (and (string-prefix-p "Do: " title) (string-match-p "AI:" (buffer-string))))
      (when (> (float-time) until) (error "still not there: %%s" (buffer-string)))
      (tell)))
  (dotimes (_ 10) (tell)))
(find-file "%(file)s")
(python-mode)
(apply #'eglot--connect (eglot--guess-contact))  ; what `eglot' does, without asking
(let ((until (+ (float-time) 60)))
  (while (not (eglot-managed-p))
    (when (> (float-time) until) (error "not connected"))
    (eglot--maybe-activate-editing-mode)
    (accept-process-output nil 0.05)))
(goto-char (point-min))
(forward-line 2)
(edit-by "Simplify" "value_4 = 'simple'")
(princ (concat "<<simplified\\n" (buffer-string) ">>"))
(goto-char (point-max))
(insert "# AI: say one\\n")
(forward-line -1)
(edit-by "Do: say one" "'one'")
(princ (concat "<<asked\\n" (buffer-string) ">>"))
(set-buffer-modified-p nil)
(kill-emacs 0)
"""


@pytest.fixture
def emacs() -> str:
    """Emacs; its absence skips the test, but fails it in CI, which has to have it."""
    program = shutil.which("emacs")
    if program is None:
        (pytest.fail if os.environ.get("SINGLEPASS_CI") else pytest.skip)("no emacs")
    return program


def hunk(n: int, new: str) -> str:
    return f"values.py\n<<<<<<< SEARCH\nvalue_{n} = {n}\n=======\nvalue_{n} = {new}\n>>>>>>> REPLACE\n"


def test_eglot(emacs: str, tmp_path: Path) -> None:
    documented = (ROOT / "editor-clients" / "README.md").read_text(encoding="utf-8")
    configuration = re.search(r"```elisp\n(.*?)```", documented, re.DOTALL)
    assert configuration is not None
    folder, home, programs = (tmp_path / name for name in ("project", "home", "bin"))
    for path in (folder / ".git", home, programs):
        path.mkdir(parents=True)
    # The documentation counts on `singlepass` in PATH.
    program = programs / "singlepass"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -P -m singlepass "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    replies = [
        {"when": "say one", "text": [hunk(5, "'one'")]},
        {"when": "", "text": [hunk(2, "'simple'"), hunk(4, "'simple'")]},
    ]
    recording = tmp_path / "recording.json"
    recording.write_text(json.dumps({"replies": replies}), encoding="utf-8")
    config = tmp_path / "config"
    config.mkdir()
    (config / "singlepass.toml").write_text(
        f'[target]\nbackend = "scripted"\nmodel = "{recording}"\n', encoding="utf-8"
    )
    file = folder / "values.py"
    file.write_text(SOURCE, encoding="utf-8")
    script = tmp_path / "test.el"
    script.write_text(SCRIPT % {"configuration": configuration[1], "file": file}, encoding="utf-8")
    environment = {
        **os.environ,
        "HOME": str(home),
        "XDG_CONFIG_HOME": str(home / ".config"),
        "PATH": f"{programs}:{os.environ['PATH']}",
        "SINGLEPASS_CONFIG_DIR": str(config),
    }
    done = subprocess.run(
        [emacs, "--batch", "-l", str(script)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    simple = SOURCE.replace("value_2 = 2", "value_2 = 'simple'").replace("value_4 = 4", "value_4 = 'simple'")
    assert f"<<simplified\n{simple}>>" in done.stdout
    asked = simple.replace("value_5 = 5", "value_5 = 'one'")
    assert f"<<asked\n{asked}>>" in done.stdout  # and the comment is gone
