"""The record of one request: numbers and names; no code, no instruction, no file name (sans-IO)."""

from typing import Literal

import msgspec
from singlepass_backends.base import Timings

NOTHING_SPENT = Timings(n_prompt=0, n_cached=0, n_prefilled=0, n_decoded=0)
"""The timings of a request that the engine has not begun."""

Judgement = Literal["kept", "undone", "changed"]
"""The user's decision on an edit in review; `changed` means that they typed in it."""


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """One request. Times are in ms."""

    id: str
    day: str
    """Local date, e.g. `2026-11-22`."""
    at: float
    """Time of its end, in seconds since 1970."""
    repository: str = ""
    """The workspace folder; empty for files outside."""
    target: str = ""
    """The target's name in the settings."""
    model: str = ""
    backend: str = ""
    device: str = ""
    rates_key: str = ""
    """Identifies model and machine or server, to which the rates apply."""
    kind: str = ""
    """The CodeActionKind; empty for a free-form instruction."""
    action: str = ""
    """`core.actions.action_name`; empty for a free-form instruction."""
    outcome: str
    finish_reason: str = ""
    """Empty if the engine did not finish."""
    error: str = ""
    """The error's code; empty without an error."""
    estimate_ms: float | None = None
    """The estimate before the click."""
    timings: Timings = NOTHING_SPENT
    """The engine's timings, as far as they were received."""
    connect_ms: float = 0.0
    ttft_ms: float | None = None
    """From the command to the first text."""
    total_ms: float = 0.0
    """From the command to the end."""
    other_ms: float | None = None
    """The part of the total outside the engine and without waiting for other requests: context, grammar, and
    the editor. None if it includes a question to the user."""
    n_selected: int | None = None
    """Characters of the selected lines, or of the line with the cursor."""
    n_task: int | None = None
    """Tokens of the prompt's last segment, the task."""
    miss: str = ""
    """Why the first uncached segment was not cached; empty if everything except the task was."""
    n_missed: int = 0
    """Tokens before the task that were prefilled after the click."""
    n_hunks: int = 0
    n_applied: int = 0
    n_unchanged: int = 0
    n_edits: int = 0
    """Edits that reached the editor; a hunk may consist of several."""
    rejected: dict[str, int] = {}
    """Hunks that could not be applied, by reason."""
    n_kept: int = 0
    n_undone: int = 0
    n_changed: int = 0


class Judged(msgspec.Struct, frozen=True):
    """The user's decision on edits of a request. A negative number cancels an earlier one."""

    request: str
    kind: Judgement
    n: int


Item = Record | Judged
"""An item of the history."""
