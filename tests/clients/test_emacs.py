"""eglot in a real Emacs, configured as the documentation says: an action, and the comment that asks."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from documented import ASKED, README, SIMPLE, prepare

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


def test_eglot(emacs: str, tmp_path: Path) -> None:
    configuration = re.search(r"```elisp\n(.*?)```", README, re.DOTALL)
    assert configuration is not None
    place = prepare(tmp_path)
    script = tmp_path / "test.el"
    script.write_text(SCRIPT % {"configuration": configuration[1], "file": place.file}, encoding="utf-8")
    done = subprocess.run(
        [emacs, "--batch", "-l", str(script)],
        cwd=place.file.parent,
        env=place.environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"<<simplified\n{SIMPLE}>>" in done.stdout
    assert f"<<asked\n{ASKED}>>" in done.stdout  # and the comment is gone
