"""A model behind an HTTP server: Ollama, LM Studio, llama-server, vLLM, SGLang, or an OpenAI-compatible
service.

Theory of operation. On connecting we determine the kind of server (`recognition`), its model, and whether it
supports our grammars. A request is one streamed completion (`prompts`, `servers`). If the server rejects part
of it, the request is adapted to what the error demands and sent again (`exchange`, `objections`); later
requests are sent in the adapted form at once. `replies` parses the stream; the sockets in `connection` close
as soon as the request is cancelled or times out.

What the server does not report about a request is measured here (`metering`) and named in `Timings.inferred`.
"""

import contextlib
import logging
import time
from collections.abc import Callable, Generator, Iterator
from typing import Any

import httpx
import msgspec

from singlepass_backends.base import (
    BackendError,
    Event,
    Finished,
    FinishReason,
    GenerateRequest,
    Interrupt,
    PrewarmRequest,
    Sampling,
    Segment,
    SegmentUse,
    Target,
    TextChunk,
    Timings,
)
from singlepass_backends.drivers.remote.connection import Cancelled, TimedOut
from singlepass_backends.drivers.remote.exchange import Exchange
from singlepass_backends.drivers.remote.failures import overflow
from singlepass_backends.drivers.remote.http import ASK_S, LOST, Http
from singlepass_backends.drivers.remote.metering import Meter
from singlepass_backends.drivers.remote.objections import Terms
from singlepass_backends.drivers.remote.prompts import (
    Prompt,
    PromptSizes,
    is_possible_count,
    predicted_reply,
    prompt_of,
)
from singlepass_backends.drivers.remote.recognition import grammar_field, recognized
from singlepass_backends.drivers.remote.replies import ReplyError, ReplyFilter
from singlepass_backends.drivers.remote.servers import (
    GRAMMAR_PREFIX,
    MAX_GRAMMAR_LINES,
    as_prewarm,
    build_body,
    is_local,
    with_grammar,
    with_prediction,
)

_FRESH_S = 30.0
"""How long a prompt that was the last one is taken to be in a server's cache. A prewarm is requested at each
pause of the user, and a server cannot be asked what it has cached."""
_LAST_S = 2.0
"""Maximum wait for the end of the stream after the end of the reply; in between come the token counts."""
_DRAIN_S = 0.2
"""Maximum time to read the rest of the response after the end of the stream, to reuse the connection."""
_SLACK = 64
"""Pieces of text beyond `max_tokens` after which a server that ignores the limit is stopped."""
_NEARLY_FULL = 0.9
"""A truncated reply is assumed to have filled the context if the context is this full."""

_log = logging.getLogger(__name__)


class OpenAICompatibleBackend:
    """Implements `base.Backend` over a server's HTTP API."""

    def __init__(self, target: Target, on_progress: Callable[[float], bool]) -> None:
        """Connect and recognize the server; `on_progress` may stop it by returning False.

        Raises BackendError: `unreachable`, `timed_out`, `unauthorized`, `no_model`, `model_missing`,
        `unsupported`, `rate_limited`, `server_failed`, `bad_reply`.
        """
        began = time.perf_counter()
        self._target = target
        self._http = http = Http(target)
        self._terms = Terms()
        """The form in which this server accepted its last request."""
        self.n_cached = 0
        http.watched(lambda: not on_progress(0.0))
        try:
            self._server, self.info, self._has_known_context = recognized(http, target)
            http.model = self.info.name
            probe = self._body(Prompt("", "Say hello."), 16, Sampling())
            self._grammar_field = grammar_field(http, self._server, probe)
        except Cancelled:
            self.close()
            raise BackendError("unreachable", f"Connecting to {http.base} was cancelled.") from None
        except TimedOut:
            self.close()
            raise http.failures.no_answer(ASK_S) from None
        except BaseException:
            self.close()
            raise
        finally:
            http.watched(None)
        on_progress(1.0)
        self._sizes = PromptSizes(self.info.n_ctx, http.failures)
        self._last_read = "", 0.0
        """The last prompt that the server read, and when (seconds of `perf_counter`)."""
        load_ms = (time.perf_counter() - began) * 1e3
        constrains = bool(self._grammar_field)
        self.info = msgspec.structs.replace(self.info, load_ms=load_ms, constrains=constrains)

    def generate(
        self, request: GenerateRequest, interrupt: Interrupt, arrived: float | None = None
    ) -> Iterator[Event]:
        """See `base.Backend.generate`. Raises BackendError: also `unreachable`, `timed_out`, `unauthorized`,
        `rate_limited`, `server_failed`, `bad_reply`, `model_missing`, `unsupported`."""
        prompt = prompt_of(request.segments)
        self._check_fits(prompt, request.min_reply)
        body = self._body(prompt, request.max_tokens, request.sampling)
        if request.grammar is not None and self._grammar_field:
            if request.grammar.count("\n") <= MAX_GRAMMAR_LINES:
                body = with_grammar(body, self._grammar_field, GRAMMAR_PREFIX + request.grammar)
            else:
                _log.info("the grammar is too long for %s, so this reply is unconstrained", self._server.name)
        if self._target.prediction and (predicted := predicted_reply(request.draft)):
            body = with_prediction(self._server, body, predicted)
        yield from self._run(prompt, body, request.max_tokens, request.min_reply, interrupt, arrived)

    def prewarm(self, request: PrewarmRequest, interrupt: Interrupt) -> Iterator[Event]:
        """Have the server prefill the prompt, if it has a prefix cache and has not just done so. If it has
        none, or the request might be billed, does nothing and ends with `cancelled`."""
        if self._server.prewarm is None or not is_local(self._http.host):
            yield Finished("cancelled", Timings(n_prompt=0, n_cached=0, n_prefilled=0, n_decoded=0))
            return
        prompt = self._sizes.fitting(request.segments)
        text, read_at = self._last_read
        if text == prompt.text and time.perf_counter() - read_at < _FRESH_S:
            n_cached = self._sizes.n_tokens(prompt.n_chars)
            yield Finished("stop", Timings(n_prompt=n_cached, n_cached=n_cached, n_prefilled=0, n_decoded=0))
            return
        body = as_prewarm(self._server, self._body(prompt, 1, Sampling()))
        for event in self._run(prompt, body, 1, 0, interrupt, None):
            if isinstance(event, Finished) and event.finish_reason != "cancelled":
                event = Finished("stop", event.timings)
            if not isinstance(event, TextChunk):
                yield event

    def inspect(self, segments: tuple[Segment, ...]) -> tuple[SegmentUse, ...]:
        """Estimates, since no server reports its cache: see `prompts`."""
        sizes = self._sizes
        n_same = sizes.n_same_chars(prompt_of(segments))
        uses: list[SegmentUse] = []
        for segment in sorted(segments, key=lambda segment: segment.role != "system"):
            n_known = max(0, min(n_same, len(segment.text)))
            n_same -= len(segment.text)
            uses.append(SegmentUse(segment.name, sizes.n_tokens(len(segment.text)), sizes.n_tokens(n_known)))
        return tuple(uses)

    def rest(self) -> None:
        """Nothing to save."""

    def close(self) -> None:
        """Close the connection. The server keeps its model and its cache."""
        self._http.close()

    def __repr__(self) -> str:
        return f"OpenAICompatibleBackend({self._http.base!r})"

    def _body(self, prompt: Prompt, max_tokens: int, sampling: Sampling) -> dict[str, Any]:
        return build_body(
            self._server,
            self.info.name,
            prompt.system,
            prompt.user,
            max_tokens=max_tokens,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            seed=sampling.seed,
            n_ctx=self.info.n_ctx,
        )

    def _check_fits(self, prompt: Prompt, min_reply: int) -> None:
        """Raises BackendError `prompt_too_long` if the prompt certainly does not fit. For servers that do not
        report an overflow an estimate is enough; for others their own count decides."""
        n_prompt = self._sizes.n_tokens(prompt.n_chars)
        share = 0.5 if self._server.tells_overflow else 1.0
        if self._has_known_context and n_prompt * share + max(min_reply, 1) > self.info.n_ctx:
            raise self._sizes.too_long(prompt, n_prompt, self.info.n_ctx, min_reply)

    def _run(
        self,
        prompt: Prompt,
        body: dict[str, Any],
        max_tokens: int,
        min_reply: int,
        interrupt: Interrupt,
        arrived: float | None,
    ) -> Iterator[Event]:
        """The events of one request; also records what the request reveals about token counts."""
        now = time.perf_counter()
        sizes, failures = self._sizes, self._http.failures
        n_prompt = sizes.n_tokens(prompt.n_chars)
        n_cached = min(sizes.n_tokens(sizes.n_same_chars(prompt)), n_prompt - 1)
        meter = Meter(now if arrived is None else arrived, now, n_prompt, n_cached, n_cached)
        yield meter.progress()
        self._http.watched(interrupt)
        try:
            reason = yield from self._stream(prompt, body, max_tokens, min_reply, meter)
        except Cancelled:
            reason = "cancelled"
        except TimedOut:
            if not self._http.watch.is_sent:
                raise failures.no_connection() from None
            raise failures.stalled(meter.n_pieces) from None
        except ReplyError as error:
            raise failures.not_a_reply(str(error)) from None
        except httpx.DecodingError:
            raise failures.not_a_reply("a body that cannot be unpacked") from None
        except LOST as error:
            raise failures.broke_off(error, meter.n_pieces) from None
        finally:
            self._http.watched(None)
        if not is_possible_count(prompt, meter.report.get("n_prompt", 0)):
            del meter.report["n_prompt"]
        timings = meter.timings(is_complete=reason != "cancelled")
        if "n_prompt" in meter.report:
            sizes.learn(prompt, timings.n_prompt)
        if self._server.keeps_prefix and (meter.first or reason != "cancelled"):
            sizes.remember(prompt)
            self._last_read = prompt.text, now
            self.n_cached = timings.n_prompt
        yield Finished(reason, timings)

    def _stream(
        self, prompt: Prompt, body: dict[str, Any], max_tokens: int, min_reply: int, meter: Meter
    ) -> Generator[Event, None, FinishReason]:
        """Send the request and read its reply. Returns why it ended."""
        failures = self._http.failures
        reply_filter = ReplyFilter()
        finish = ""
        exchange = Exchange(
            self._http,
            self._server,
            body,
            self._terms,
            prompt=prompt,
            min_reply=min_reply,
            sizes=self._sizes,
            n_ctx=self.info.n_ctx,
            grammar_name=self._grammar_field[0] if self._grammar_field else "",
            patience_s=self._target.prefill_timeout_s,
            meter=meter,
        )
        try:
            with contextlib.closing(exchange.pieces()) as pieces:
                for piece in pieces:
                    if meter.ended:
                        break
                    if piece.error:
                        if too_long := overflow(b"", piece.error):
                            raise self._sizes.too_long(prompt, *too_long, min_reply)
                        raise failures.of_status(200, piece.error, self.info.name)
                    if piece.text or piece.has_thought or piece.finish or piece.is_end:
                        self._terms = exchange.terms
                    if piece.has_tool_call:
                        raise failures.tool_call()
                    meter.report.update(piece.report)
                    finish = piece.finish or finish
                    if piece.progress and not meter.first:
                        yield meter.take_progress(piece.progress)
                    if piece.text or piece.has_thought:
                        if not meter.first:
                            meter.first = time.perf_counter()
                            meter.n_done = meter.n_prompt
                            yield meter.progress()
                        meter.n_pieces += 1
                        if text := reply_filter.feed(piece.text):
                            yield meter.text(text)
                    if meter.n_pieces > max_tokens + _SLACK:
                        finish = "length"
                        break
                    self._http.watch.check_cancelled()
                    if piece.is_end:
                        meter.ended = time.perf_counter()
                    # The deadline starts here, so that time spent in the caller does not count.
                    self._http.watch.allow(self._patience(meter, finish))
        except (TimedOut, *LOST):
            if not finish and not meter.ended:
                raise
        limit = min(max_tokens, self._terms.limit or max_tokens)
        reason = self._finish_reason(finish, limit, meter)
        if text := reply_filter.close():
            yield meter.text(text)
        return reason

    def _patience(self, meter: Meter, finish: str) -> float:
        """Seconds until the next piece must arrive, after one arrived."""
        if meter.ended:
            return _DRAIN_S
        if finish:
            return _LAST_S
        return self._target.stall_timeout_s if meter.first else self._target.prefill_timeout_s

    def _finish_reason(self, finish: str, max_tokens: int, meter: Meter) -> FinishReason:
        """Convert the server's finish reason to ours. Raises BackendError if the reply is incomplete."""
        report, failures = meter.report, self._http.failures
        n_decoded = int(report.get("n_limited", report.get("n_decoded", meter.n_pieces)))
        match finish:
            case "length" | "max_tokens" | "limit":
                if "n_decoded" in report:
                    return "length" if n_decoded >= max_tokens else "context"
                # An estimate: there are fewer pieces than tokens, since some tokens have no text.
                n_context = int(report.get("n_prompt", meter.n_prompt)) + n_decoded
                is_full = self._has_known_context and n_context >= _NEARLY_FULL * self.info.n_ctx
                return "context" if is_full else "length"
            case "end":  # LM Studio gives no reason
                return "length" if n_decoded >= max_tokens else "stop"
            case "tool_calls" | "function_call":
                raise failures.tool_call()
            case "content_filter":
                raise failures.withheld()
            case "abort" | "error" | "load" | "unload":
                raise failures.given_up(finish)
            case "" if not meter.ended or not meter.n_pieces:
                raise failures.cut_off(meter.n_pieces)
            case _:
                return "stop"
