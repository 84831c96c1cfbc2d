"""Replays recorded events from a JSON file instead of running a model: for tests, demos and bug reports.

The file holds one `Recording`:

    {"name": "demo", "n_ctx": 32768, "load_ms": 0,
     "replies": [{"when": "fix", "text": ["one ", "chunk"], "n_prompt": 1000, "n_cached": 900,
                  "chunk_tokens": 64, "chunk_ms": 0, "delay_ms": 0, "finish_reason": "stop"},
                 {"when": "boom", "fail": {"code": "internal", "message": "recorded failure"}}]}

The first reply whose `when` occurs in the prompt is used; an empty `when` always matches. Prefill advances in
steps of `chunk_tokens`, each taking `chunk_ms`; every text chunk takes `delay_ms` and counts as one token.
Nothing is constrained: the text is sent as recorded.
"""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from singlepass_backends.base import (
    BackendError,
    ErrorCode,
    Event,
    Finished,
    FinishReason,
    GenerateRequest,
    Interrupt,
    ModelInfo,
    PrefillProgress,
    PrewarmRequest,
    Segment,
    SegmentUse,
    Target,
    TextChunk,
    Timings,
)


class Failure(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A recorded error."""

    code: ErrorCode
    message: str
    exits: bool = False
    """Kill the process instead, as a crash in native code would."""


class Reply(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to answer to prompts that contain `when`."""

    when: str = ""
    text: tuple[str, ...] = ()
    n_prompt: int = 0
    """Tokens of the prompt; 0 means a quarter of its characters."""
    n_cached: int = 0
    chunk_tokens: int = 64
    chunk_ms: float = 0.0
    delay_ms: float = 0.0
    finish_reason: FinishReason = "stop"
    fail: Failure | None = None
    """Raised after the text."""


class Recording(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file."""

    replies: tuple[Reply, ...]
    name: str = "scripted"
    n_ctx: int = 32_768
    load_ms: float = 0.0
    fail: Failure | None = None
    """Raised while loading."""


class ScriptedBackend:
    """Implements `base.Backend` from a `Recording`."""

    def __init__(self, target: Target, on_progress: Callable[[float], bool]) -> None:
        """Raises BackendError `model_missing` or `model_invalid`, and the error that the recording has for
        loading."""
        path = Path(target.model)
        try:
            self._recording = msgspec.json.decode(path.read_bytes(), type=Recording)
        except OSError as error:
            raise BackendError("model_missing", f"{path} cannot be read: {error.strerror}.") from None
        except msgspec.MsgspecError as error:
            raise BackendError("model_invalid", f"{path} is not a recording: {error}.") from None
        for step in range(5):
            on_progress(step / 4)
            _wait(self._recording.load_ms / 5)
        if self._recording.fail:
            _fail(self._recording.fail)
        self.n_cached = 0
        self.info = ModelInfo(
            backend="scripted",
            name=self._recording.name,
            path=str(path),
            n_ctx=self._recording.n_ctx,
            constrains=False,
            device="none",
            load_ms=self._recording.load_ms,
        )

    def generate(
        self, request: GenerateRequest, interrupt: Interrupt, arrived: float | None = None
    ) -> Iterator[Event]:
        """See `base.Backend.generate`."""
        started = time.perf_counter()
        arrived = started if arrived is None else arrived
        prompt = "".join(segment.text for segment in request.segments)
        reply = next((reply for reply in self._recording.replies if reply.when in prompt), None)
        if reply is None:
            raise BackendError("unsupported", "No recorded reply matches this prompt.")
        n_prompt = reply.n_prompt or len(prompt) // 4 + 1
        n_cached = min(reply.n_cached, n_prompt - 1)
        n_done = n_cached
        yield PrefillProgress(n_prompt, n_cached, n_done, 0.0, None)
        reason: FinishReason = reply.finish_reason
        while n_done < n_prompt and not interrupt():
            _wait(reply.chunk_ms)
            n_done = min(n_prompt, n_done + reply.chunk_tokens)
            elapsed = (time.perf_counter() - started) * 1e3
            eta = elapsed / (n_done - n_cached) * (n_prompt - n_done)
            yield PrefillProgress(n_prompt, n_cached, n_done, elapsed, eta)
        self.n_cached = n_done
        prefilled = time.perf_counter()
        first_text = 0.0
        n_decoded = 0
        if n_done < n_prompt:
            reason = "cancelled"
        for text in reply.text:
            if n_done < n_prompt or interrupt():
                reason = "cancelled"
                break
            if n_decoded == request.max_tokens:
                reason = "length"
                break
            _wait(reply.delay_ms)
            n_decoded += 1
            now = time.perf_counter()
            first_text = first_text or now
            yield TextChunk(text, n_decoded, (now - prefilled) * 1e3)
        if reply.fail and reason != "cancelled":
            _fail(reply.fail)
        now = time.perf_counter()
        yield Finished(
            reason,
            Timings(
                n_prompt=n_prompt,
                n_cached=n_cached,
                n_prefilled=n_done - n_cached,
                n_decoded=n_decoded,
                n_forward=n_decoded,
                queue_ms=(started - arrived) * 1e3,
                prefill_ms=(prefilled - started) * 1e3,
                first_text_ms=(first_text - arrived) * 1e3 if first_text else 0.0,
                decode_ms=(now - prefilled) * 1e3,
                total_ms=(now - arrived) * 1e3,
            ),
        )

    def prewarm(self, request: PrewarmRequest, interrupt: Interrupt) -> Iterator[Event]:
        """Prefill as recorded, decode nothing."""
        try:
            for event in self.generate(GenerateRequest(request.segments, max_tokens=0), interrupt):
                if isinstance(event, Finished) and event.finish_reason == "length":
                    event = msgspec.structs.replace(event, finish_reason="stop")  # no text was asked for
                yield event
        except BackendError:
            return  # a recorded failure is for the request itself

    def inspect(self, segments: tuple[Segment, ...]) -> tuple[SegmentUse, ...]:
        """One token per four characters, none of them cached."""
        return tuple(SegmentUse(segment.name, len(segment.text) // 4 + 1, 0) for segment in segments)

    def rest(self) -> None:
        """Nothing to save."""

    def close(self) -> None:
        """Nothing to free."""


def _wait(ms: float) -> None:
    if ms > 0:
        time.sleep(ms / 1e3)


def _fail(failure: Failure) -> None:
    if failure.exits:
        import os

        os._exit(134)
    raise BackendError(failure.code, failure.message)
