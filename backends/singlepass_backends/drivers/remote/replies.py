"""Parses the stream of a remote server: bytes in, pieces of a reply out (sans-IO).

Theory of operation
===================

Three formats, all parsed into `Piece`s:

- `openai`: server-sent events of `chat.completion.chunk` objects, ended by `[DONE]`
  (https://platform.openai.com/docs/api-reference/chat-streaming), with what servers add to them: `timings`
  and `prompt_progress` of llama-server
  (https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md, "Timings and context usage" and
  `return_progress`), `reasoning_content` or `reasoning` for reasoning,
  `usage.prompt_tokens_details.cached_tokens`, and the comments `: keepalive 1024/2048` in which mlx_lm.server
  reports the progress of its prefill, without cached tokens (`keepalive_callback` in
  https://github.com/ml-explore/mlx-lm/blob/main/mlx_lm/server.py);
- `ollama`: a JSON object a line, durations in ns
  (https://github.com/ollama/ollama/blob/main/docs/api.md, "Generate a chat completion");
- `lm_studio`: named server-sent events (https://lmstudio.ai/docs/developer/rest/streaming-events).

`StreamReader` turns bytes into pieces; `ReplyFilter` removes reasoning from the text. The results do not
depend on how the stream is split, even within a character or between CR and LF. Objects of unexpected shape
and impossible numbers are skipped without an error; the caller notices if nothing arrived at all.
"""

import codecs
import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, cast

import msgspec

Format = Literal["openai", "ollama", "lm_studio"]

MAX_LINE_CHARS = 1_000_000
"""Longer lines are an error."""
_MOST_TOKENS = 100_000_000
_MOST_MS = 7 * 86_400_000
"""Upper bound for plausible token counts."""


class ReplyError(Exception):
    """The stream does not have the expected format."""


class Progress(msgspec.Struct, frozen=True):
    """Progress of a prefill in tokens. If `total` is 0, only a fraction is known: `done` / 1000."""

    total: int
    cached: int
    done: int
    is_new_only: bool = False
    """Whether these numbers exclude cached tokens."""


class Piece(msgspec.Struct, frozen=True):
    """The content of one object of the stream."""

    text: str = ""
    has_thought: bool = False
    """It has a token of reasoning, which is not part of the reply."""
    has_tool_call: bool = False
    progress: Progress | None = None
    finish: str = ""
    """Why the reply ended, in the server's own words."""
    report: Mapping[str, float] = {}
    """Numbers that the server measured, by field of `base.Timings`; and `n_limited`, the tokens that count
    against the reply's limit, if different from `n_decoded`."""
    error: str = ""
    is_end: bool = False
    """Whether this is the last piece."""


class Lines:
    """Splits bytes into lines without line endings (LF, CRLF or CR); drops a byte order mark at the
    beginning."""

    def __init__(self) -> None:
        self._decode = codecs.getincrementaldecoder("utf-8-sig")("replace").decode
        self._rest = ""

    def feed(self, data: bytes, *, is_last: bool = False) -> list[str]:
        """The lines that `data` completes. Raises ReplyError for a line that is too long."""
        text = self._rest + self._decode(data, is_last)
        # A CR at the very end may be followed by a LF in the next bytes.
        held = "\r" if text.endswith("\r") and not is_last else ""
        text = text[: len(text) - len(held)]
        if "\r" in text:
            text = text.replace("\r\n", "\n").replace("\r", "\n")
        *lines, rest = text.split("\n")
        if is_last and rest:
            lines.append(rest)
            rest = ""
        self._rest = rest + held
        if len(self._rest) > MAX_LINE_CHARS:
            raise ReplyError(f"a line of over {MAX_LINE_CHARS:,} characters")
        return lines


class StreamReader:
    """Parses the stream of one reply."""

    def __init__(self, format: Format, *, is_sse: bool) -> None:
        """`is_sse` is False for one JSON object per line."""
        self._read = _READERS[format]
        self._is_sse = is_sse
        self._lines = Lines()
        self._data: list[str] = []

    def feed(self, data: bytes) -> list[Piece]:
        """The pieces that `data` completes. Raises ReplyError."""
        return list(self._take(self._lines.feed(data)))

    def close(self) -> list[Piece]:
        """The stream ended; a last event counts even without the empty line after it."""
        return list(self._take([*self._lines.feed(b"", is_last=True), ""]))

    def _take(self, lines: Iterable[str]) -> Iterable[Piece]:
        for line in lines:
            if not self._is_sse:
                if line.strip():
                    yield self._piece(line)
            elif line.startswith(":"):
                if progress := _KEEPALIVE.fullmatch(line):
                    done, total = int(progress[1]), int(progress[2])
                    yield Piece(progress=Progress(total, 0, min(done, total), is_new_only=True))
            elif line.startswith("data:"):
                self._data.append(line[5:].removeprefix(" "))
            elif not line and self._data:
                data = "\n".join(self._data)
                self._data.clear()
                yield Piece(is_end=True) if data.strip() == "[DONE]" else self._piece(data)

    def _piece(self, data: str) -> Piece:
        try:
            payload = msgspec.json.decode(data)
        except (ValueError, RecursionError):
            payload = _lenient(data, "an event")
        return self._read(_dict(payload))


_KEEPALIVE = re.compile(r": ?keepalive (\d{1,9})/(\d{1,9})\s*")


def read_whole(format: Format, body: bytes) -> Piece:
    """The one piece of a reply that was not streamed. Raises ReplyError."""
    return _READERS[format](_dict(_lenient(body, "a body")))


def _lenient(data: str | bytes, what: str) -> object:
    """Parse JSON, also with numbers that are not valid JSON: NaN, infinities and very long ones. Raises
    ReplyError, about `what`."""
    try:
        return json.loads(data, parse_int=lambda digits: int(digits) if len(digits) < 100 else float(digits))
    except (ValueError, RecursionError):
        raise ReplyError(f"{what} that is not JSON") from None


def error_text(payload: object) -> str:
    """The message of an error object of any of the servers; empty if it is not an error.

    OpenAI and llama-server: `{"error": {"message"}}`; Ollama and mlx_lm: `{"error": "…"}`; vLLM before 0.10:
    `{"object": "error", "message"}`; FastAPI: `{"detail"}`.
    """
    fields = _dict(payload)
    error = fields.get("error")
    if isinstance(error, str):
        return error
    if error:
        inner = _dict(error)
        text = _str(inner.get("message")) or json.dumps(error)
        return f"{text} ({kind})" if (kind := _str(inner.get("type"))) and kind not in text else text
    if fields.get("object") == "error" or (
        "message" in fields and "choices" not in fields and len(fields) < 6
    ):
        return _str(fields.get("message"))
    detail = fields.get("detail")
    return detail if isinstance(detail, str) else json.dumps(detail) if detail else ""


# The three formats.


def _openai(payload: dict[str, Any]) -> Piece:
    is_suspect = bool(payload.get("error")) or "choices" not in payload
    if is_suspect and (error := error_text(payload)):
        return Piece(error=error)
    choice: dict[str, Any] = {}
    for one in _list(payload.get("choices")):
        choice = _dict(one)
        if choice.get("index", 0) == 0:
            break
        choice = {}
    delta = _dict(choice.get("delta")) or _dict(choice.get("message"))
    report: dict[str, float] = {}
    if usage := _dict(payload.get("usage")):
        report |= _usage(usage)
    if timings := _dict(payload.get("timings")):
        report |= _timings(timings)
    return Piece(
        text=_content(delta.get("content")),
        has_thought=bool(delta.get("reasoning_content") or delta.get("reasoning")),
        has_tool_call=bool(delta.get("tool_calls") or delta.get("function_call")),
        progress=_progress(_dict(payload.get("prompt_progress"))),
        finish=_str(choice.get("finish_reason")),
        report=report,
    )


def _progress(fields: dict[str, Any]) -> Progress | None:
    """`prompt_progress` of llama-server."""
    if not fields:
        return None
    return Progress(_int(fields, "total"), _int(fields, "cache"), _int(fields, "processed"))


def _usage(usage: dict[str, Any]) -> dict[str, float]:
    """`usage` of the last chunk. DeepSeek counts `prompt_cache_hit_tokens`; vLLM and SGLang leave
    `cached_tokens` out unless started with --enable-prompt-tokens-details or --enable-cache-report.

    Of a prediction, OpenAI counts the rejected tokens among the completion's too, and against its limit
    (https://platform.openai.com/docs/guides/predicted-outputs)."""
    details = _dict(usage.get("prompt_tokens_details"))
    found = _numbers(
        {
            "n_prompt": usage.get("prompt_tokens") or None,  # 0 if they are not counted
            "n_decoded": usage.get("completion_tokens"),
            "n_cached": details.get("cached_tokens", usage.get("prompt_cache_hit_tokens")),
        }
    )
    details = _dict(usage.get("completion_tokens_details"))
    predicted = _numbers(
        {
            "accepted": details.get("accepted_prediction_tokens"),
            "rejected": details.get("rejected_prediction_tokens"),
        }
    )
    if any(predicted.values()):
        accepted, rejected = predicted.get("accepted", 0), predicted.get("rejected", 0)
        found |= {"n_drafted": accepted + rejected, "n_accepted": accepted}
        if "n_decoded" in found:
            found["n_limited"] = found["n_decoded"]
            found["n_decoded"] = max(0, found["n_decoded"] - rejected)
    return found


def _timings(timings: dict[str, Any]) -> dict[str, float]:
    """llama-server: "The total number of tokens in context is equal to prompt_n + cache_n + predicted_n"."""
    found = _numbers(
        {
            "n_prefilled": timings.get("prompt_n"),
            "n_cached": timings.get("cache_n"),
            "prefill_ms": timings.get("prompt_ms"),
            "n_decoded": timings.get("predicted_n"),
            "decode_ms": timings.get("predicted_ms"),
            "n_drafted": timings.get("draft_n"),
            "n_accepted": timings.get("draft_n_accepted"),
        }
    )
    if "n_prefilled" in found and "n_cached" in found:
        found["n_prompt"] = found["n_prefilled"] + found["n_cached"]
    return found


def _ollama(payload: dict[str, Any]) -> Piece:
    if error := error_text(payload):
        return Piece(error=error)
    message = _dict(payload.get("message"))
    is_done = payload.get("done") is True
    report = _numbers(
        {
            "n_prompt": payload.get("prompt_eval_count") or None,
            "n_decoded": payload.get("eval_count"),
            "prefill_ms": _scaled(payload.get("prompt_eval_duration"), 1e-6),
            "decode_ms": _scaled(payload.get("eval_duration"), 1e-6),
        }
    )
    return Piece(
        text=_content(message.get("content")),
        has_thought=bool(message.get("thinking")),
        has_tool_call=bool(message.get("tool_calls")),
        finish=(_str(payload.get("done_reason")) or "stop") if is_done else "",
        report=report if is_done else {},
        is_end=is_done,
    )


def _lm_studio(payload: dict[str, Any]) -> Piece:
    match payload.get("type"):
        case "message.delta":
            return Piece(text=_content(payload.get("content")))
        case "reasoning.delta":
            return Piece(has_thought=True)
        case "prompt_processing.progress":
            fraction = _number(payload.get("progress")) or 0
            return Piece(progress=Progress(0, 0, round(1000 * min(fraction, 1))))
        case "model_load.progress" | "model_load.start":
            return Piece(progress=Progress(0, 0, 0))
        case "error":
            return Piece(error=error_text(payload) or "an error without a message")
        case "chat.end":
            stats = _dict(_dict(payload.get("result")).get("stats"))
            found: dict[str, Any] = {
                "n_prompt": stats.get("input_tokens") or None,
                "n_decoded": stats.get("total_output_tokens"),
                "prefill_ms": _scaled(stats.get("time_to_first_token_seconds"), 1e3),
            }
            n, rate = _number(stats.get("total_output_tokens")), _number(stats.get("tokens_per_second"))
            if n is not None and rate:
                found["decode_ms"] = n / rate * 1e3
            return Piece(finish="end", report=_numbers(found), is_end=True)
        case _:
            if "type" not in payload and (error := error_text(payload)):
                return Piece(error=error)
            return Piece(has_tool_call=payload.get("type") == "tool_call.start")


_READERS: dict[Format, Callable[[dict[str, Any]], Piece]] = {
    "openai": _openai,
    "ollama": _ollama,
    "lm_studio": _lm_studio,
}


def _dict(value: object) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _list(value: object) -> list[object]:
    return cast("list[object]", value) if isinstance(value, list) else []


def _str(value: object) -> str:
    """Text that can be encoded: a lone surrogate becomes a question mark."""
    if not isinstance(value, str):
        return ""
    return value if value.isascii() else value.encode("utf-8", "replace").decode("utf-8")


def _int(fields: dict[str, Any], name: str) -> int:
    return int(_number(fields.get(name)) or 0)


def _number(value: object, most: float = _MOST_TOKENS) -> float | None:
    """A number from 0 to `most`; None for everything else, including NaN."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return value if 0 <= value <= most else None


def _scaled(value: object, factor: float) -> float | None:
    number = _number(value, _MOST_MS / factor)
    return None if number is None else number * factor


def _numbers(fields: Mapping[str, object]) -> dict[str, float]:
    """The fields with a plausible number (milliseconds or tokens)."""
    found: dict[str, float] = {}
    for name, value in fields.items():
        number = _number(value, _MOST_MS if name.endswith("_ms") else _MOST_TOKENS)
        if number is not None:
            found[name] = number
    return found


def _content(content: object) -> str:
    """The text of a content field: a string, null, or the list of parts that some services send."""
    if isinstance(content, str):
        return _str(content)
    return "".join(_str(_dict(part).get("text")) for part in _list(content))


# Reasoning and blank lines before the reply.

_THOUGHTS = (("<think>", "</think>"), ("<thinking>", "</thinking>"), ("[THINK]", "[/THINK]"))
_BLANK_LINES = re.compile(r"\A(?:[ \t\r]*\n)+")


class ReplyFilter:
    """Removes what models put before a reply: blank lines and `<think>` blocks. Everything after them stays,
    code fences too, which the server's parser handles.
    """

    def __init__(self) -> None:
        self._held = ""
        self._thought_end = ""
        """The closing tag of the `<think>` block that the text is in; empty outside."""
        self._has_begun = False

    def feed(self, text: str) -> str:
        """The text that is certain to be part of the reply by now."""
        if self._has_begun:
            return text
        self._held += text
        while True:
            if self._thought_end:
                _, end, rest = self._held.partition(self._thought_end)
                if not end:
                    self._held = self._held[-len(self._thought_end) :]
                    return ""
                self._held, self._thought_end = rest, ""
            begun = self._held.lstrip()
            thought = next((one for one in _THOUGHTS if begun.startswith(one[0])), None)
            if thought is not None:
                self._held, self._thought_end = begun[len(thought[0]) :], thought[1]
            elif not begun or any(begin.startswith(begun) for begin, _ in _THOUGHTS):
                return ""
            else:
                self._has_begun, held, self._held = True, self._held, ""
                return _BLANK_LINES.sub("", held)

    def close(self) -> str:
        """The text that was held back and is part of the reply."""
        held, self._held = self._held, ""
        return "" if self._thought_end or not held.strip() else _BLANK_LINES.sub("", held)
