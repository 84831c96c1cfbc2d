"""Requests to the remote backend, shared by its tests."""

from typing import Any

from singlepass_backends.base import (
    Event,
    Finished,
    GenerateRequest,
    PrefillProgress,
    Segment,
    Target,
    TextChunk,
)
from singlepass_backends.drivers.remote.backend import OpenAICompatibleBackend
from singlepass_backends.opening import open_backend

KEY = "sk-very-secret-0123456789"
SYSTEM = Segment("rules", "You edit code.\n", "system")
FILE = Segment("a.py", "def value(a, b):\n    return a + b  # naïve 🙂\n" * 8)
TASK = Segment("task", "Rename value to total.")
REQUEST = GenerateRequest((SYSTEM, FILE, TASK), max_tokens=100)
USER_TEXT = FILE.text + TASK.text


def never() -> bool:
    return False


_connected: list[OpenAICompatibleBackend] = []


def connect(url: str, **settings: Any) -> OpenAICompatibleBackend:
    """A backend, which `close_all` closes."""
    backend = open_backend(Target(backend="openai_compatible", url=url, **settings), lambda _: True)
    assert isinstance(backend, OpenAICompatibleBackend)
    _connected.append(backend)
    return backend


def close_all() -> None:
    while _connected:
        _connected.pop().close()


def text_of(events: list[Event]) -> str:
    return "".join(one.text for one in events if isinstance(one, TextChunk))


def last(events: list[Event]) -> Finished:
    assert isinstance(events[-1], Finished)
    assert all(not isinstance(one, Finished) for one in events[:-1])
    return events[-1]


def run(backend: OpenAICompatibleBackend, request: GenerateRequest = REQUEST) -> tuple[str, Finished]:
    """A request's text and end, after a look at the order of its events and the sums of its numbers."""
    events = list(backend.generate(request, never))
    kinds = [type(one) for one in events]
    assert kinds == sorted(kinds, key=[PrefillProgress, TextChunk, Finished].index)
    timings = last(events).timings
    assert timings.n_prompt == timings.n_cached + timings.n_prefilled
    assert timings.total_ms >= timings.first_text_ms >= 0
    return text_of(events), last(events)
