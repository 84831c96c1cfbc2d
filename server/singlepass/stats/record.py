"""What is kept of one request: numbers and names; no code, no instruction, no name of a file (sans-IO)."""

from typing import Literal

import msgspec
from singlepass_backends.base import Timings

NOTHING_SPENT = Timings(n_prompt=0, n_cached=0, n_prefilled=0, n_decoded=0)
"""Of a request that the engine has not begun."""

Judgement = Literal["kept", "undone", "changed"]
"""What the user did with an edit in review; `changed` is typing into it."""


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """One request. Times are in ms."""

    id: str
    day: str
    """`2026-11-22`, by the machine's clock."""
    at: float
    """Seconds since 1970, of its end."""
    repository: str = ""
    """The workspace folder; empty outside of all."""
    target: str = ""
    """The name in the settings."""
    model: str = ""
    backend: str = ""
    device: str = ""
    rates_key: str = ""
    """Which model runs where; the rates of another say nothing."""
    kind: str = ""
    """The CodeActionKind; empty for an instruction of the user's own."""
    action: str = ""
    """`core.actions.action_name`; empty for an instruction of the user's own."""
    outcome: str
    finish_reason: str = ""
    """Empty where the engine did not finish."""
    error: str = ""
    """The code of what went wrong."""
    estimate_ms: float | None = None
    """What was expected before the click."""
    timings: Timings = NOTHING_SPENT
    """The engine's own account, as far as it came."""
    connect_ms: float = 0.0
    ttft_ms: float | None = None
    """From the command to the first text."""
    total_ms: float = 0.0
    """From the command to the end."""
    other_ms: float | None = None
    """What of that is neither the engine's nor other requests': the context, the grammar, the way to the
    editor. None where a question to the user was part of it."""
    n_selected: int | None = None
    """Characters of the lines that were selected, or of the one with the cursor."""
    n_task: int | None = None
    """Tokens of the prompt's last segment, the task."""
    miss: str = ""
    """Why the first segment that was not cached was not; empty where all but the task was."""
    n_missed: int = 0
    """Tokens before the task that were read after the click."""
    n_hunks: int = 0
    n_applied: int = 0
    n_unchanged: int = 0
    n_edits: int = 0
    """Edits that reached the editor; a hunk may be several."""
    rejected: dict[str, int] = {}
    """Hunks that could not be applied, by reason."""
    n_kept: int = 0
    n_undone: int = 0
    n_changed: int = 0


class Judged(msgspec.Struct, frozen=True):
    """What the user did with edits of a request. A negative number takes an earlier one back."""

    request: str
    kind: Judgement
    n: int


Item = Record | Judged
"""What is kept."""
