"""Errors of a remote server, as messages for users: what happened, where, and what to do (sans-IO).

Servers word the same failure differently; it is recognized by the HTTP status and the text of the error. The
API key is removed from everything that a server says.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, cast
from urllib.parse import urlsplit

from singlepass_backends.base import BackendError, ErrorCode, Target
from singlepass_backends.drivers.remote.api_key import Key
from singlepass_backends.drivers.remote.replies import error_text
from singlepass_backends.drivers.remote.servers import OLLAMA, ListedModel, Server, is_local, likely_at

_MOST_TOKENS = 100_000_000
"""Larger numbers in an error are not token counts."""
_MAX_QUOTED = 300
"""Maximum number of characters quoted from a server in a message."""


class Failures:
    """Creates the errors of one endpoint. `server` is None until the kind of server is known."""

    def __init__(self, target: Target, base: str, root: str, key: Key) -> None:
        self.server: Server | None = None
        self.listed: Sequence[ListedModel] = ()
        self._target = target
        self._base = base
        self._root = root
        self._key = key

    @property
    def name(self) -> str:
        """The server's name in messages."""
        return f"{self.server.name} at {self._root}" if self.server else f"What listens at {self._root}"

    def error(self, code: ErrorCode, message: str, data: dict[str, Any] | None = None) -> BackendError:
        """An error, with the API key removed from its message."""
        return BackendError(code, self._key.scrub(message), data)

    def unreachable(self, error: Exception) -> BackendError:
        """Connecting failed."""
        if "certificate" in str(error):
            return self.error(
                "unreachable",
                f"The certificate of {self._root} is not trusted: {reason(error)}. If the server is yours, "
                "set the environment variable SSL_CERT_FILE to a file with its certificate.",
            )
        return self.error(
            "unreachable", f"Nothing can be reached at {self._root}: {reason(error)}. {self.advice()}"
        )

    def advice(self) -> str:
        """What to do if no server answers."""
        parts = urlsplit(self._root)
        server = likely_at(parts.port)
        how = f" (`{server.start}`)" if server and server.start and is_local(parts.hostname or "") else ""
        return f"Start it{how}, or check the setting `url`."

    def broke_off(self, error: Exception, n_tokens: int = 0) -> BackendError:
        """The connection was lost before or during the answer."""
        return self.error(
            "unreachable", f"{self.name} broke off{_after(n_tokens)}: {reason(error)}. Try again."
        )

    def cut_off(self, n_tokens: int) -> BackendError:
        """The stream ended without its end marker."""
        if not n_tokens:
            return self.error(
                "bad_reply",
                f"{self.name} closed the connection without an answer. Its log may say why; if its context "
                "is shorter than the prompt, setting `n_ctx` to it helps.",
            )
        return self.error(
            "unreachable",
            f"{self.name} cut the reply off{_after(n_tokens)}, without marking its end. Try again; its log "
            "may say why.",
        )

    def redirected(self, status: int, location: str) -> BackendError:
        """The server answered with a redirect."""
        where = printable(location.partition("?")[0])[:200] or "nowhere"
        return self.error(
            "unreachable",
            f"{self._root} redirects to {where} ({status}). Redirects are not followed, so that neither "
            "code nor key goes where you did not send them. If you trust that place, set `url` to it.",
        )

    def no_answer(self, seconds: float) -> BackendError:
        """A small request was not answered in time."""
        return self.error("timed_out", f"{self.name} did not answer within {seconds:g} s. {self.advice()}")

    def no_connection(self) -> BackendError:
        """Connecting took too long."""
        return self.error(
            "timed_out",
            f"No connection to {self._root} within {self._target.connect_timeout_s:g} s "
            f"(`connect_timeout_s`). {self.advice()}",
        )

    def stalled(self, n_tokens: int) -> BackendError:
        """The reply made no progress for too long."""
        if n_tokens:
            return self.error(
                "timed_out",
                f"{self.name} has sent nothing more for {self._target.stall_timeout_s:g} s{_after(n_tokens)} "
                "(`stall_timeout_s`). Its log may say why.",
            )
        return self.error(
            "timed_out",
            f"{self.name} has not begun to reply within {self._target.prefill_timeout_s:g} s. If it needs "
            "longer to read the prompt, raise `prefill_timeout_s`.",
        )

    def not_a_reply(self, what: str) -> BackendError:
        """The answer is not a model's reply."""
        return self.error("bad_reply", f"{self.name} sent {what}. That is no reply of a model: check `url`.")

    def tool_call(self) -> BackendError:
        """The model wants to use a tool."""
        return self.error(
            "unsupported",
            "The model answered with a tool call, which was not asked for. Try again, or use another model.",
        )

    def withheld(self) -> BackendError:
        """A content filter of the server withheld the reply."""
        return self.error(
            "server_failed", f"{self.name} withheld the reply: its filter objects to the content."
        )

    def given_up(self, why: str) -> BackendError:
        """The server aborted the reply."""
        return self.error("server_failed", f"{self.name} gave the reply up ({why}). Try again.")

    def no_model(self) -> BackendError:
        """The settings do not name a model."""
        return self.error(
            "no_model",
            f"{self._base} has {len(self.listed) or 'no'} models{_examples(self.listed)}. Set `model` in "
            "`[target]` to the name of the one to use.",
        )

    def too_long(
        self, n_prompt: int, n_ctx: int, min_reply: int, sizes: Sequence[tuple[str, int]]
    ) -> BackendError:
        """Has the same data as `generation.prompt.check_fits`, so that the caller can leave files out."""
        n_excess = max(1, n_prompt + max(min_reply, 1) - n_ctx)
        name, size = max(sizes, key=lambda named: named[1], default=("the prompt", n_prompt))
        remedy = "`n_ctx`" if self.server is OLLAMA else "the server's context"
        return self.error(
            "prompt_too_long",
            f"The prompt has about {n_prompt:,} tokens. With {min_reply:,} for the reply that is "
            f"{n_excess:,} too many for the context of {n_ctx:,} at {self._root}. Its largest part is "
            f"{name} with {size:,}: leave it out, select less, or raise {remedy}.",
            {
                "n_prompt": n_prompt,
                "n_ctx": n_ctx,
                "n_excess": n_excess,
                "segments": [[name, size] for name, size in sizes],
            },
        )

    def of_status(self, status: int, said: str, model: str, retry_after: float | None = None) -> BackendError:
        """The error for an HTTP status other than 200, or for an error within a stream (`status` 200)."""
        lower = said.lower()
        said = self._key.scrub(f": {said}" if said else "")[:_MAX_QUOTED].rstrip(". ")
        if "out of memory" in lower or "requires more system memory" in lower:
            return self.error(
                "out_of_memory", f"{self.name} is out of memory{said}. Choose a smaller model or context."
            )
        if status in (401, 403):
            if self._key:
                what = f"refused the key from {self._key.source}"
                todo = "Check that key, and that it may use this model"
            else:
                what = "wants an API key"
                todo = "Put it into an environment variable and name that in `api_key_env`"
            return self.error("unauthorized", f"{self.name} {what} ({status}){said}. {todo}.")
        is_unlisted = bool(self.listed) and all(model != one.id for one in self.listed)
        names_model = "model" in lower and (
            status == 404 or re.search(r"not (?:found|exist)|unknown|no such", lower)
        )
        # mlx_lm.server passes on the error of a failed download, which may not mention a model.
        if names_model or (status == 404 and is_unlisted):
            return self.error(
                "model_missing",
                f"{self.name} has no model {model!r}{said}. Set `model` to one that it "
                f"has{_examples(self.listed)}.",
            )
        if status in (404, 405):
            return self.error(
                "bad_reply",
                f"{self._base} has no chat completions ({status}){said}. Check the setting `url`.",
            )
        if status in (402, 429):
            when = f"Try again in {retry_after:.0f} s." if retry_after else "Try again later."
            return self.error(
                "rate_limited", f"{self.name} takes no more requests for now ({status}){said}. {when}"
            )
        if status >= 500 or status == 200:
            code = f" ({status})" if status != 200 else ""
            return self.error("server_failed", f"{self.name} failed{code}{said}. Its log may say more.")
        return self.error("unsupported", f"{self.name} refused the request ({status}){said}.")


def _after(n_tokens: int) -> str:
    return f" after {n_tokens:,} token{'s' if n_tokens > 1 else ''}" if n_tokens else ""


def reason(error: Exception) -> str:
    """The error's text, or its type if it has none."""
    return printable(str(error)).rstrip(".") or type(error).__name__


def retry_after(value: str) -> float | None:
    """Seconds of a `Retry-After` header; the form with a date is not used by such servers."""
    try:
        seconds = float(value)
    except ValueError:
        return None
    return max(0.0, seconds) if math.isfinite(seconds) else None


def words(body: bytes) -> str:
    """The message in an error body, on one line; for an HTML page its title."""
    try:
        return printable(error_text(json.loads(body)))
    except (ValueError, RecursionError):
        pass
    text = body.decode("utf-8", "replace")
    if re.search(r"<html|<!doctype", text[:1000], re.IGNORECASE):
        title = re.search(r"<title[^>]*>(.*?)</title>", text, re.IGNORECASE | re.DOTALL)
        return f"a web page titled “{printable(title[1])[:100]}”" if title else "a web page"
    return printable(text)


def printable(text: str) -> str:
    """`text` on one line, without control characters."""
    return " ".join("".join(char if char.isprintable() else " " for char in text[:4000]).split())


def _examples(listed: Sequence[ListedModel]) -> str:
    names = [model.id for model in listed[:8]]
    more = f" and {len(listed) - 8} more" if len(listed) > 8 else ""
    return f": {', '.join(names)}{more}" if names else ""


_OVERFLOW = re.compile(
    r"exceeds? the (?:available |maximum )?context|maximum context length|exceed_context_size"
    r"|context_length_exceeded|(?:input|prompt)[^.]{0,40}(?:too long|exceeds)"
    r"|longer than the (?:model's )?(?:maximum )?context|tokens \+ .?max_new_tokens.? must be",
    re.IGNORECASE,
)
_N_CTX = re.compile(
    r"(?:context (?:length|size|window)[^\d]{0,20}|allowed length \()(\d[\d,]*)|context length of only (\d+)"
    r"|max_new_tokens.? must be <= (\d+)",
    re.IGNORECASE,
)
_N_PROMPT = re.compile(
    r"\((\d[\d,]*) (?:tokens )?in the (?:messages|prompt)|request \((\d+) tokens\)"
    r"|request has (\d+) input tokens|resulted in (\d+) tokens|input (?:length )?\((\d+)(?: tokens)?\)"
    r"|prompt contains at least (\d+)|given: (\d+) .?inputs",
    re.IGNORECASE,
)


def overflow(body: bytes, said: str) -> tuple[int, int] | None:
    """Tokens of the prompt and of the context (0: unknown) if an error says that the prompt is too long, else
    None. Recognizes the wordings of llama-server (`exceed_context_size_error`, with both numbers as fields),
    vLLM, SGLang, llama_cpp.server, OpenAI and Ollama."""
    if not _OVERFLOW.search(said) and b"exceed_context_size_error" not in body:
        return None
    fields: Mapping[str, Any] = {}
    try:
        payload = json.loads(body)
        if isinstance(payload, dict):
            error: object = cast("dict[str, Any]", payload).get("error")
            fields = cast("dict[str, Any]", error) if isinstance(error, dict) else {}
    except (ValueError, RecursionError):
        pass

    def number(name: str, pattern: re.Pattern[str]) -> int:
        value = fields.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and 0 < value < _MOST_TOKENS:
            return value
        found = pattern.search(said)
        digits = next(group for group in found.groups() if group).replace(",", "") if found else "0"
        return int(digits) if len(digits) <= len(str(_MOST_TOKENS)) else 0

    return number("n_prompt_tokens", _N_PROMPT), number("n_ctx", _N_CTX)
