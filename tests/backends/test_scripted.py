import json
from pathlib import Path

import pytest
from singlepass_backends.base import (
    BackendError,
    Finished,
    GenerateRequest,
    PrefillProgress,
    PrewarmRequest,
    Segment,
    Target,
    TextChunk,
)
from singlepass_backends.opening import open_backend

RECORDING = {
    "name": "demo",
    "replies": [
        {"when": "boom", "text": ["half"], "fail": {"code": "internal", "message": "recorded"}},
        {"when": "fix", "text": ["one ", "two"], "n_prompt": 100, "n_cached": 30, "chunk_tokens": 64},
        {"text": ["any"]},
    ],
}


@pytest.fixture
def target(tmp_path: Path) -> Target:
    path = tmp_path / "recording.json"
    path.write_text(json.dumps(RECORDING))
    return Target(backend="scripted", model=str(path))


def request(text: str, max_tokens: int = 10) -> GenerateRequest:
    return GenerateRequest((Segment("task", text),), max_tokens=max_tokens)


def test_a_reply_is_picked_by_what_the_prompt_contains(target: Target) -> None:
    backend = open_backend(target, lambda _: True)
    assert not backend.info.constrains
    events = list(backend.generate(request("please fix it"), lambda: False))
    assert [event.n_done for event in events if isinstance(event, PrefillProgress)] == [30, 94, 100]
    assert [event.text for event in events if isinstance(event, TextChunk)] == ["one ", "two"]
    finished = events[-1]
    assert isinstance(finished, Finished)
    assert (finished.timings.n_prompt, finished.timings.n_cached, finished.timings.n_decoded) == (100, 30, 2)
    assert [e.text for e in backend.generate(request("x"), lambda: False) if isinstance(e, TextChunk)] == [
        "any"
    ]


def test_limits_interrupts_and_failures(target: Target) -> None:
    backend = open_backend(target, lambda _: True)
    last = list(backend.generate(request("fix", 1), lambda: False))[-1]
    assert isinstance(last, Finished)
    assert last.finish_reason == "length"
    last = list(backend.generate(request("fix"), lambda: True))[-1]
    assert isinstance(last, Finished)
    assert last.finish_reason == "cancelled"
    with pytest.raises(BackendError, match="recorded"):
        list(backend.generate(request("boom"), lambda: False))
    assert list(backend.prewarm(PrewarmRequest((Segment("a", "fix"),)), lambda: False))
    backend.close()


@pytest.mark.parametrize("content", ["", "{}", '{"replies": [{"txt": []}]}', '{"replies": 1}'])
def test_a_broken_recording(tmp_path: Path, content: str) -> None:
    path = tmp_path / "recording.json"
    path.write_text(content)
    with pytest.raises(BackendError, match="not a recording") as caught:
        open_backend(Target(backend="scripted", model=str(path)), lambda _: True)
    assert caught.value.code == "model_invalid"
