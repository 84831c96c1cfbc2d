"""A model behind an HTTP server: Ollama, LM Studio, llama-server, vLLM, SGLang, or any service like OpenAI's.

Theory of operation. Connecting asks the server what it is (`servers`), which model it has and whether it
takes our grammar; that is all kept, since it does not change while a server runs. A request is one streamed
completion: the system segments are the system message, the others joined are one user message, so that
prompts which begin alike are alike to the server's own prefix cache. Its bytes become pieces and text in
`replies`; the sockets in `connection` let go as soon as the request is cancelled or makes no progress.

What goes wrong before the first byte of an answer is tried again, a few times: nothing has been computed for
us yet. Afterwards nothing is, because the text is already on its way into the editor. A server that objects
to something in a request is asked again on its own terms (`objections`), and from then on at once.

What the server does not tell of a request is measured here and named in `Timings.inferred`. Where it does not
say how much of the prompt it had cached, that is taken to be what the prompt has in common with the latest
ones, if it is a server that keeps prefixes.

The API key goes into one header of requests to one origin. It is in no message, no log and no `repr`, and
redirects are refused, not followed.
"""

import json
import logging
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

import httpcore
import httpx
import msgspec

from singlepass_backends.base import (
    BackendError,
    Draft,
    Event,
    Finished,
    FinishReason,
    GenerateRequest,
    Interrupt,
    ModelInfo,
    PrefillProgress,
    PrewarmRequest,
    Sampling,
    Segment,
    SegmentUse,
    Target,
    TextChunk,
    Timings,
)
from singlepass_backends.drivers.remote.api_key import Key
from singlepass_backends.drivers.remote.connection import (
    Cancelled,
    ConnectFailed,
    TimedOut,
    Watch,
    open_client,
)
from singlepass_backends.drivers.remote.failures import Failures, overflow, retry_after, words
from singlepass_backends.drivers.remote.objections import Terms, adapted, is_about_limit, limit_of, with_limit
from singlepass_backends.drivers.remote.replies import (
    Piece,
    ReplyError,
    ReplyFilter,
    StreamReader,
    read_whole,
)
from singlepass_backends.drivers.remote.servers import (
    GENERIC,
    GRAMMAR_PREFIX,
    GRAMMAR_PROBE,
    GRAMMAR_PROBE_REPLY,
    LM_STUDIO,
    LM_STUDIO_OLD,
    MAX_GRAMMAR_LINES,
    MLX_LM,
    OLLAMA,
    Details,
    ListedModel,
    Server,
    api_base,
    as_prewarm,
    build_body,
    is_local,
    listed_models,
    ollama_context,
    read_details,
    recognize,
    with_grammar,
    with_prediction,
)

ASSUMED_CONTEXT = 32_768
"""Tokens, where neither the server nor the settings say."""
MAX_TRIES = 4
_MAX_TERMS = 8
"""So often one request is sent, with ever less of what the server objects to."""
MAX_RETRY_AFTER_S = 20.0
"""A server that wants to be left alone for longer is reported instead."""
BACKOFF_S = (0.25, 1.0, 3.0)
"""Pauses between tries, where the server names none."""
ASK_S = 5.0
"""For the small questions when connecting, and for the text of an error."""
_LOADING_S = 600.0
"""How long a server may answer that it loads its model."""
_PROBE_S = 20.0
"""For the request that shows whether a grammar is taken."""
_LAST_S = 2.0
"""How long the end of the stream may take after the end of the reply: what comes then is the usage."""
_DRAIN_S = 0.2
"""And after the end of the stream, so that the connection can be used again."""
_MAX_ERROR_BYTES = 65_536
_MAX_WHOLE_BYTES = 8_000_000
_CHARS_PER_TOKEN = 3.3
"""Of source code, until the server has counted a prompt."""
_FEWEST_CHARS, _MOST_CHARS = 0.25, 20.0
"""In a token: it holds at least a byte, of which a character has four at most."""
_MOST_AROUND = 100_000
"""Tokens that a server may put around a prompt."""
_N_KNOWN_PROMPTS = 4
_SLACK = 64
"""Pieces of text over `max_tokens` after which a server that does not keep to it is stopped."""
_NO_REPLY = ("text/html", "application/xhtml", "application/xml", "text/xml", "image/", "audio/", "video/")
_MEASURED = (
    "n_prompt",
    "n_cached",
    "n_prefilled",
    "n_decoded",
    "n_forward",
    "queue_ms",
    "prefill_ms",
    "decode_ms",
)
_LOST = (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException)

_log = logging.getLogger(__name__)


@dataclass
class _Meter:
    """Times (`time.perf_counter`) and counts of one request, seen from here."""

    arrived: float
    started: float
    n_prompt: int
    n_cached: int
    n_done: int = 0
    first: float = 0.0
    """The first token, thoughts included: prefill ends here."""
    first_text: float = 0.0
    n_pieces: int = 0
    """Pieces of text or thought: about the tokens."""
    ended: float = 0.0
    report: dict[str, float] = field(default_factory=dict[str, float])

    def timings(self, *, is_complete: bool) -> Timings:
        """What the server reported, and what was measured for the rest."""
        now = self.ended or time.perf_counter()
        given = self.report
        n_prompt = self.n_prompt
        if "n_prompt" in given:
            n_prompt = int(given["n_prompt"])
        elif "n_prefilled" in given:
            n_prompt = int(given["n_prefilled"] + given.get("n_cached", self.n_cached))
        n_cached = min(int(given.get("n_cached", self.n_cached)), n_prompt)
        n_read = n_prompt if is_complete or self.first else max(self.n_done, n_cached)
        n_prefilled = n_read - n_cached
        if not is_complete:
            n_prefilled = min(int(given.get("n_prefilled", n_prefilled)), n_prompt - n_cached)
        n_decoded = int(given.get("n_decoded", self.n_pieces))
        n_accepted = min(int(given.get("n_accepted", 0)), n_decoded)
        end = self.first or now
        prefill_ms = given.get("prefill_ms", (end - self.started) * 1e3)
        waited_ms = (end - self.arrived) * 1e3 - prefill_ms
        known = set(given)
        if {"n_prompt", "n_cached"} <= known:
            known.add("n_prefilled")
        return Timings(
            n_prompt=n_prompt,
            n_cached=n_cached,
            n_prefilled=n_prefilled,
            n_decoded=n_decoded,
            n_drafted=max(int(given.get("n_drafted", 0)), n_accepted),
            n_accepted=n_accepted,
            n_forward=n_decoded - n_accepted,
            queue_ms=max(0.0, waited_ms, (self.started - self.arrived) * 1e3),
            prefill_ms=prefill_ms,
            first_text_ms=(self.first_text - self.arrived) * 1e3 if self.first_text else 0.0,
            decode_ms=given.get("decode_ms", (now - self.first) * 1e3 if self.first else 0.0),
            total_ms=(now - self.arrived) * 1e3,
            inferred=tuple(name for name in _MEASURED if name not in known),
        )

    def progress(self) -> PrefillProgress:
        """Where the prefill stands."""
        elapsed = time.perf_counter() - self.started
        n_new = self.n_done - self.n_cached
        eta = elapsed / n_new * (self.n_prompt - self.n_done) if n_new > 0 else None
        return PrefillProgress(
            self.n_prompt, self.n_cached, self.n_done, elapsed * 1e3, None if eta is None else eta * 1e3
        )


@dataclass
class _Asking:
    """A request, and what of it this server has objected to so far."""

    body: dict[str, Any]
    terms: Terms
    room: int = 0
    """Tokens that the context leaves for the reply; 0 where nothing was said of it."""
    without: str = ""
    """A field that is left out of this request only."""
    n_sent: int = 0

    def sent(self) -> dict[str, Any]:
        """The request as it is sent."""
        body = {name: value for name, value in self.body.items() if name != self.without}
        return with_limit(self.terms.applied(body), self.room) if self.room else self.terms.applied(body)


@dataclass(frozen=True)
class _Prompt:
    """The two messages of a request."""

    system: str
    user: str
    segments: tuple[Segment, ...]

    @property
    def n_chars(self) -> int:
        return len(self.system) + len(self.user)

    @property
    def text(self) -> str:
        return self.system + self.user


class OpenAICompatibleBackend:
    """Implements `base.Backend` over a server's HTTP API."""

    def __init__(self, target: Target, on_progress: Callable[[float], bool]) -> None:
        """Connect and ask; `on_progress` may stop it by returning False.

        Raises BackendError: `unreachable`, `timed_out`, `unauthorized`, `no_model`, `model_missing`,
        `unsupported`, `rate_limited`, `server_failed`, `bad_reply`.
        """
        began = time.perf_counter()
        self._target = target
        self._base, self._root = api_base(target.url)
        parts = urlsplit(self._base)
        self._host, self._port = parts.hostname or "", parts.port
        self._key = Key(target, self._host)
        if self._key and parts.scheme == "http" and not is_local(self._host):
            _log.warning("the API key is sent to %s without encryption; https is safer", self._host)
        self._failures = Failures(target, self._base, self._root, self._key)
        self._watch = Watch()
        self._client = open_client(self._watch, target.connect_timeout_s, is_tls=parts.scheme == "https")
        self._terms = Terms()
        """On which this server has taken a request."""
        self._chars_per_token = _CHARS_PER_TOKEN
        self._known: deque[str] = deque(maxlen=_N_KNOWN_PROMPTS)
        """The latest prompts, which the server may have cached."""
        self.n_cached = 0
        self._grammar_field: tuple[str, ...] = ()
        self._watch.interrupt = lambda: not on_progress(0.0)
        try:
            self._server, self.info = self._connect()
            self._grammar_field = self._find_grammar_field()
        except Cancelled:
            self.close()
            raise BackendError("unreachable", f"Connecting to {self._base} was cancelled.") from None
        except TimedOut:
            self.close()
            raise self._failures.no_answer(ASK_S) from None
        except BaseException:
            self.close()
            raise
        finally:
            self._watch.interrupt = _never
        on_progress(1.0)
        load_ms = (time.perf_counter() - began) * 1e3
        constrains = bool(self._grammar_field)
        self.info = msgspec.structs.replace(self.info, load_ms=load_ms, constrains=constrains)

    # What a backend does.

    def generate(
        self, request: GenerateRequest, interrupt: Interrupt, arrived: float | None = None
    ) -> Iterator[Event]:
        """See `base.Backend.generate`. Raises BackendError: also `unreachable`, `timed_out`, `unauthorized`,
        `rate_limited`, `server_failed`, `bad_reply`, `model_missing`, `unsupported`."""
        prompt = _prompt(request.segments)
        self._check_fits(prompt, request.min_reply)
        body = self._body(prompt, request.max_tokens, request.sampling)
        if request.grammar is not None and self._grammar_field:
            if request.grammar.count("\n") <= MAX_GRAMMAR_LINES:
                body = with_grammar(body, self._grammar_field, GRAMMAR_PREFIX + request.grammar)
            else:
                _log.info("the grammar is too long for %s, so this reply is unconstrained", self._server.name)
        if self._target.prediction and (predicted := _predicted(request.draft)):
            body = with_prediction(self._server, body, predicted)
        yield from self._run(prompt, body, request.max_tokens, request.min_reply, interrupt, arrived)

    def prewarm(self, request: PrewarmRequest, interrupt: Interrupt) -> Iterator[Event]:
        """Have a server that keeps prefixes read the prompt. Does nothing, and says `cancelled`, where that
        is of no use or might be paid for."""
        if self._server.prewarm is None or not is_local(self._host):
            yield Finished("cancelled", Timings(n_prompt=0, n_cached=0, n_prefilled=0, n_decoded=0))
            return
        prompt = self._fitting(request.segments)
        body = as_prewarm(self._server, self._body(prompt, 1, Sampling()))
        for event in self._run(prompt, body, 1, 0, interrupt, None):
            if isinstance(event, Finished) and event.finish_reason != "cancelled":
                event = Finished("stop", event.timings)
            if not isinstance(event, TextChunk):
                yield event

    def inspect(self, segments: tuple[Segment, ...]) -> tuple[SegmentUse, ...]:
        """Estimates, since no server tells: tokens from their characters, and as cached what begins like one
        of the latest prompts."""
        n_same = self._n_same_chars(_prompt(segments))
        uses: list[SegmentUse] = []
        for segment in sorted(segments, key=lambda segment: segment.role != "system"):
            n_known = max(0, min(n_same, len(segment.text)))
            n_same -= len(segment.text)
            uses.append(SegmentUse(segment.name, self._n_tokens(len(segment.text)), self._n_tokens(n_known)))
        return tuple(uses)

    def rest(self) -> None:
        """Nothing to save."""

    def close(self) -> None:
        """Close the connection. The server keeps its model and its cache."""
        self._client.close()

    def __repr__(self) -> str:
        return f"OpenAICompatibleBackend({self._base!r})"

    # Connecting.

    def _connect(self) -> tuple[Server, ModelInfo]:
        """What the server is and which of its models to use."""
        header = self._list_models()
        server = recognize(self._failures.listed, header, self._port)
        if server is GENERIC and is_local(self._host) and read_details(OLLAMA, "", self._ask(OLLAMA.details)):
            server = OLLAMA
        listed = self._failures.listed
        model = self._target.model or (listed[0].id if len(listed) == 1 else server.default_model)
        if not model:
            raise self._failures.no_model()
        details = Details()
        if server.details:
            found = read_details(server, model, self._ask(server.details))
            if found is None and server is LM_STUDIO:
                server = LM_STUDIO_OLD
            details = found or details
        self._failures.server = server
        version = details.version
        if server is OLLAMA:
            show = self._ask("/api/show", {"model": model})
            details = ollama_context(show, self._ask("/api/ps"), model)
        entry = next((one for one in self._failures.listed if one.id == model), ListedModel(model))
        n_ctx_train = details.n_ctx_train or entry.n_ctx_train
        n_ctx = details.n_ctx or entry.n_ctx
        self._has_known_context = bool(n_ctx or self._target.n_ctx or server is OLLAMA)
        if server is OLLAMA or not n_ctx:
            # Ollama loads a model with as much as it is asked for; the others have what they have.
            n_ctx = self._target.n_ctx or n_ctx or min(n_ctx_train or ASSUMED_CONTEXT, ASSUMED_CONTEXT)
        elif self._target.n_ctx:
            n_ctx = min(n_ctx, self._target.n_ctx)
        where = f"{self._host}:{self._port}" if self._port else self._host
        return server, ModelInfo(
            backend="openai_compatible",
            name=model,
            path=self._base,
            n_params=entry.n_params,
            size_bytes=entry.size_bytes,
            n_ctx=n_ctx,
            n_ctx_train=n_ctx_train,
            n_vocab=entry.n_vocab,
            constrains=False,
            device=" ".join(filter(None, (server.name, version, "at", where))),
        )

    def _list_models(self) -> str:
        """Ask for the models; returns the header `Server`, empty where there is no list: for such services
        the model's name is in the settings."""
        response = self._send("GET", f"{self._base}/models", None, ASK_S)
        header = response.headers.get("server", "")
        if response.status in (404, 405):
            return ""
        with response:
            if response.status != 200:
                raise self._failure(response)
            body = self._read(response, _MAX_WHOLE_BYTES)
        if not body and recognize((), header, self._port) is MLX_LM:
            return header
        try:
            self._failures.listed = listed_models(json.loads(body))
        except (ValueError, RecursionError):
            what = words(body[:_MAX_ERROR_BYTES])[:200]
            raise self._failures.not_a_reply(f"no list of models, but {what or 'nothing'}") from None
        return header

    def _ask(self, path: str, body: object = None) -> object:
        """A question that a server of the expected kind answers with JSON; None where it does not."""
        try:
            with self._send("POST" if body else "GET", self._root + path, body, ASK_S, 1) as response:
                is_answer = response.status == 200
                return json.loads(self._read(response, _MAX_WHOLE_BYTES)) if is_answer else None
        except (BackendError, TimedOut, ValueError, RecursionError):
            return None

    def _find_grammar_field(self) -> tuple[str, ...]:
        """Where this server takes our grammar: it must obey one that only llguidance understands. Empty where
        it does not."""
        for field_ in self._server.grammar_fields:
            body = self._body(_Prompt("", "Say hello.", ()), 16, Sampling())
            text = ""
            try:
                with self._open(with_grammar(body, field_, GRAMMAR_PROBE), _PROBE_S, 1) as response:
                    for piece in self._pieces(response):
                        text += piece.text
                        if piece.error or piece.is_end or len(text) > 2 * len(GRAMMAR_PROBE_REPLY):
                            break
            except (BackendError, TimedOut, ReplyError, *_LOST) as error:
                _log.info("no grammar for %s as %s: %s", self._server.name, field_[0], type(error).__name__)
            if text == GRAMMAR_PROBE_REPLY:
                return field_
        return ()

    # A request.

    def _body(self, prompt: _Prompt, max_tokens: int, sampling: Sampling) -> dict[str, Any]:
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

    def _run(
        self,
        prompt: _Prompt,
        body: dict[str, Any],
        max_tokens: int,
        min_reply: int,
        interrupt: Interrupt,
        arrived: float | None,
    ) -> Iterator[Event]:
        now = time.perf_counter()
        n_prompt = self._n_tokens(prompt.n_chars)
        n_cached = min(self._n_tokens(self._n_same_chars(prompt)), n_prompt - 1)
        meter = _Meter(now if arrived is None else arrived, now, n_prompt, n_cached, n_cached)
        yield meter.progress()
        self._watch.interrupt = interrupt
        try:
            reason = yield from self._stream(prompt, body, max_tokens, min_reply, meter)
        except Cancelled:
            reason = "cancelled"
        except TimedOut:
            if not self._watch.is_sent:
                raise self._failures.no_connection() from None
            raise self._failures.stalled(meter.n_pieces) from None
        except ReplyError as error:
            raise self._failures.not_a_reply(str(error)) from None
        except httpx.DecodingError:
            raise self._failures.not_a_reply("a body that cannot be unpacked") from None
        except _LOST as error:
            raise self._failures.broke_off(error, meter.n_pieces) from None
        finally:
            self._watch.interrupt = _never
        if meter.report.get("n_prompt", 0) > 4 * prompt.n_chars + _MOST_AROUND:
            del meter.report["n_prompt"]  # nobody has counted that
        timings = meter.timings(is_complete=reason != "cancelled")
        if "n_prompt" in meter.report:
            self._learn(prompt, timings.n_prompt)
        if self._server.keeps_prefix and (meter.first or reason != "cancelled"):
            self._known.append(prompt.text)
            self.n_cached = timings.n_prompt
        yield Finished(reason, timings)

    def _stream(
        self, prompt: _Prompt, body: dict[str, Any], max_tokens: int, min_reply: int, meter: _Meter
    ) -> Generator[Event, None, FinishReason]:
        """Send the request and take its reply in. Returns why it ended."""
        filter_ = ReplyFilter()
        finish = ""
        asking = _Asking(body, self._terms)
        try:
            with self._open_fitting(prompt, asking, min_reply, meter) as first:
                for piece in self._taken(first, prompt, asking, min_reply, meter):
                    if meter.ended:
                        break
                    if piece.error:
                        if too_long := overflow(b"", piece.error):
                            raise self._too_long(prompt, *too_long, min_reply)
                        raise self._failures.of_status(200, piece.error, self.info.name)
                    if piece.text or piece.has_thought or piece.finish or piece.is_end:
                        self._terms = asking.terms
                    if piece.has_tool_call:
                        raise self._failures.tool_call()
                    meter.report.update(piece.report)
                    finish = piece.finish or finish
                    if piece.progress and not meter.first:
                        yield self._progress(piece, meter)
                    if piece.text or piece.has_thought:
                        if not meter.first:
                            meter.first = time.perf_counter()
                            meter.n_done = meter.n_prompt
                            yield meter.progress()
                        meter.n_pieces += 1
                        if text := filter_.feed(piece.text):
                            yield self._text(text, meter)
                    if meter.n_pieces > max_tokens + _SLACK:
                        finish = "length"
                        break
                    self._watch.check_cancelled()
                    if piece.is_end:
                        meter.ended = time.perf_counter()
                    # From here on, so that however long the caller took, the server is not blamed for it.
                    self._watch.allow(self._patience(meter, finish))
        except (TimedOut, *_LOST):
            if not finish and not meter.ended:
                raise
        limit = min(max_tokens, self._terms.limit or max_tokens)
        reason = self._finish_reason(finish, limit, meter)
        if text := filter_.close():
            yield self._text(text, meter)
        return reason

    def _patience(self, meter: _Meter, finish: str) -> float:
        """Seconds within which something has to come, now that something came."""
        if meter.ended:
            return _DRAIN_S
        if finish:
            return _LAST_S
        return self._target.stall_timeout_s if meter.first else self._target.prefill_timeout_s

    @staticmethod
    def _text(text: str, meter: _Meter) -> TextChunk:
        now = time.perf_counter()
        meter.first_text = meter.first_text or now
        return TextChunk(text, meter.n_pieces, (now - meter.first) * 1e3)

    @staticmethod
    def _progress(piece: Piece, meter: _Meter) -> PrefillProgress:
        progress = piece.progress
        assert progress is not None
        if progress.is_new_only:
            meter.n_prompt = meter.n_cached + progress.total
            meter.n_done = meter.n_cached + progress.done
        elif progress.total:
            meter.n_prompt, meter.n_cached = progress.total, min(progress.cached, progress.total)
            meter.n_done = max(meter.n_cached, min(progress.done, progress.total))
        else:
            n_new = meter.n_prompt - meter.n_cached
            meter.n_done = meter.n_cached + n_new * progress.done // 1000
        return meter.progress()

    def _finish_reason(self, finish: str, max_tokens: int, meter: _Meter) -> FinishReason:
        report = meter.report
        n_decoded = int(report.get("n_limited", report.get("n_decoded", meter.n_pieces)))
        name = self._failures.name
        match finish:
            case "length" | "max_tokens" | "limit":
                if "n_decoded" in report:
                    return "length" if n_decoded >= max_tokens else "context"
                # Pieces are no tokens: some tokens give no text. So the estimate must come near the limit.
                n_context = int(report.get("n_prompt", meter.n_prompt)) + n_decoded
                is_full = self._has_known_context and n_context >= 0.9 * self.info.n_ctx
                return "context" if is_full else "length"
            case "end":  # LM Studio gives no reason
                return "length" if n_decoded >= max_tokens else "stop"
            case "tool_calls" | "function_call":
                raise self._failures.tool_call()
            case "content_filter":
                raise self._failures.error(
                    "server_failed", f"{name} withheld the reply: its filter objects to the content."
                )
            case "abort" | "error" | "load" | "unload":
                raise self._failures.error(
                    "server_failed", f"{name} gave the reply up ({finish}). Try again."
                )
            case "" if not meter.ended or not meter.n_pieces:
                raise self._failures.cut_off(meter.n_pieces)
            case _:
                return "stop"

    # HTTP.

    def _open_fitting(self, prompt: _Prompt, asking: _Asking, min_reply: int, meter: _Meter) -> "_Response":
        """The response to a request, less what this server refuses to read and with no more tokens than it
        has room for."""
        while True:
            sent = asking.sent()
            response = self._open(sent, self._target.prefill_timeout_s)
            asking.n_sent += 1
            if response.status == 200:
                return response
            said = words(response.error)
            if not self._adapt(asking, sent, response.status, response.error, said, prompt, min_reply):
                raise self._failure(response)
            meter.started = time.perf_counter()

    def _taken(
        self, response: "_Response", prompt: _Prompt, asking: _Asking, min_reply: int, meter: _Meter
    ) -> Iterator[Piece]:
        """The pieces of the reply; those of another request where the first thing said is an objection."""
        while True:
            with response:
                for piece in self._pieces(response):
                    if piece.error and not meter.first:
                        sent = asking.sent()
                        if self._adapt(asking, sent, 200, b"", piece.error, prompt, min_reply):
                            break
                    yield piece
                else:
                    return
            meter.started = time.perf_counter()
            response = self._open_fitting(prompt, asking, min_reply, meter)

    def _adapt(
        self,
        asking: _Asking,
        sent: dict[str, Any],
        status: int,
        error: bytes,
        said: str,
        prompt: _Prompt,
        min_reply: int,
    ) -> bool:
        """Whether the request may be taken on other terms, which it then has. Raises BackendError
        `prompt_too_long` where the error says so and fewer tokens for the reply do not help."""
        is_objection = status in (400, 422)
        asked = limit_of(sent)
        if (is_objection or status in (200, 413, 500)) and (too_long := overflow(error, said)):
            n_prompt, n_ctx = too_long
            if not n_prompt and is_about_limit(said, asked):
                n_prompt = self._n_tokens(prompt.n_chars)
            room = (n_ctx or self.info.n_ctx) - n_prompt - 8
            if n_prompt and max(min_reply, 1) <= room < asked:
                asking.room = room
                return True
            raise self._too_long(prompt, *too_long, min_reply)
        if asking.n_sent >= _MAX_TERMS:
            return False
        grammar_name = self._grammar_field[0] if self._grammar_field else ""
        terms = adapted(asking.terms, sent, status, error, said, grammar_name)
        if terms is not None:
            _log.info("%s takes requests on other terms: %s", self._failures.name, terms)
            asking.terms = terms
        elif grammar_name in sent and (is_objection or status in (413, 500)):
            asking.without = grammar_name  # another grammar may do
        elif is_objection and "prediction" in sent:  # the field that least servers know
            asking.terms = replace(asking.terms, without=asking.terms.without | {"prediction"})
        else:
            return False
        return True

    def _open(self, body: dict[str, Any], seconds: float, n_tries: int = MAX_TRIES) -> "_Response":
        base = self._base if self._server.format == "openai" else self._root
        return self._send("POST", base + self._server.path, body, seconds, n_tries)

    def _send(
        self, method: str, url: str, body: object, seconds: float, n_tries: int = MAX_TRIES
    ) -> "_Response":
        """The response, whose head must come within `seconds`; tried again while nothing has come.

        Raises BackendError for redirects and where no answer came, TimedOut, Cancelled.
        """
        content = None if body is None else json.dumps(body, ensure_ascii=False).encode("utf-8", "replace")
        headers = {"Accept": "text/event-stream, application/json, */*;q=0.1", **self._key.header()}
        if content is not None:
            headers["Content-Type"] = "application/json"
        request = self._client.build_request(method, url, content=content, headers=headers)
        n_tried = 0
        began = time.monotonic()
        while True:
            n_tried += 1
            may_retry = n_tried < n_tries
            pause = BACKOFF_S[min(n_tried, len(BACKOFF_S)) - 1]
            self._watch.begin(self._target.connect_timeout_s, seconds)
            try:
                response = _Response(self._client.send(request, stream=True))
            except ConnectFailed as error:
                if isinstance(error.cause, TimeoutError):
                    raise self._failures.no_connection() from None
                # A wrong name or certificate does not pass.
                if not may_retry or not isinstance(error.cause, ConnectionError):
                    raise self._failures.unreachable(error) from None
            except _LOST as error:
                if not may_retry or self._watch.n_received:
                    raise self._failures.broke_off(error) from None
            else:
                if response.raw.has_redirect_location:
                    response.raw.close()
                    raise self._failures.redirected(response.status, response.headers["location"])
                if response.status == 200:
                    return response
                with response:
                    self._watch.allow(ASK_S)
                    response.error = self._read(response, _MAX_ERROR_BYTES)
                if response.status not in (429, 503):
                    return response
                wait = retry_after(response.headers.get("retry-after", ""))
                is_loading = response.status == 503 and b"loading" in response.error.lower()
                if is_loading and n_tries > 1 and time.monotonic() - began < _LOADING_S:
                    n_tried -= 1
                    pause = 0.5
                elif not may_retry or (wait or 0.0) > MAX_RETRY_AFTER_S:
                    return response
                pause = pause if wait is None else wait
            self._pause(pause)

    def _pause(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._watch.check_cancelled()
            time.sleep(min(left, 0.02))

    def _pieces(self, response: "_Response") -> Iterator[Piece]:
        """The pieces of a reply."""
        kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        format = self._server.format
        if response.status != 200:
            raise self._failure(response)
        if kind == "application/json" and format != "ollama":
            piece = read_whole(format, self._read(response, _MAX_WHOLE_BYTES))
            yield piece
            if piece.text or piece.finish:
                yield Piece(is_end=True)
            return
        if kind.startswith(_NO_REPLY):
            said = words(self._read(response, _MAX_ERROR_BYTES))[:200]
            raise self._failures.not_a_reply(f"{kind}: {said}" if said else kind)
        reader = StreamReader(format, is_sse=format != "ollama")
        for data in response.raw.iter_bytes():
            pieces = reader.feed(data)
            yield from pieces
            if not pieces:  # bytes that say nothing, such as a comment, are no progress
                self._watch.check()
        yield from reader.close()

    def _read(self, response: "_Response", n_most: int) -> bytes:
        """The body of a response that is no stream, cut off where it is too long or breaks off."""
        data = bytearray()
        try:
            for part in response.raw.iter_bytes():
                data += part
                if len(data) > n_most:
                    break
                self._watch.check()
        except (TimedOut, httpx.DecodingError, *_LOST):
            pass
        return bytes(data[:n_most])

    def _failure(self, response: "_Response") -> BackendError:
        """What an answer other than 200 means."""
        wait = retry_after(response.headers.get("retry-after", ""))
        model = self.info.name if hasattr(self, "info") else self._target.model
        return self._failures.of_status(response.status, words(response.error), model, wait)

    # What a prompt takes.

    def _n_tokens(self, n_chars: int) -> int:
        return int(n_chars / self._chars_per_token) + 1 if n_chars else 0

    def _n_same_chars(self, prompt: _Prompt) -> int:
        """Characters that the prompt begins with like one of the latest."""
        return max((_n_common(prompt.text, known) for known in self._known), default=0)

    def _fitting(self, segments: tuple[Segment, ...]) -> _Prompt:
        """The prompt, without the last segments where they do not fit."""
        while segments[1:] and self._n_tokens(_prompt(segments).n_chars) >= self.info.n_ctx:
            segments = segments[:-1]
        return _prompt(segments)

    def _check_fits(self, prompt: _Prompt, min_reply: int) -> None:
        """Raises BackendError `prompt_too_long` where that is plain. Where a server would not say so an
        estimate is enough; elsewhere the server's own count decides."""
        n_prompt = self._n_tokens(prompt.n_chars)
        share = 0.5 if self._server.tells_overflow else 1.0
        if self._has_known_context and n_prompt * share + max(min_reply, 1) > self.info.n_ctx:
            raise self._too_long(prompt, n_prompt, self.info.n_ctx, min_reply)

    def _too_long(self, prompt: _Prompt, n_prompt: int, n_ctx: int, min_reply: int) -> BackendError:
        """The error for a prompt. Numbers that are 0 were not told."""
        n_ctx = n_ctx or self.info.n_ctx
        self._learn(prompt, n_prompt)
        sizes = [(segment.name, self._n_tokens(len(segment.text))) for segment in prompt.segments]
        n_prompt = n_prompt or max(self._n_tokens(prompt.n_chars), n_ctx + 1)
        return self._failures.too_long(n_prompt, n_ctx, min_reply, sizes)

    def _learn(self, prompt: _Prompt, n_prompt: int) -> None:
        """The server has counted a prompt."""
        if n_prompt > 32 and prompt.n_chars:
            self._chars_per_token = min(max(_FEWEST_CHARS, prompt.n_chars / n_prompt), _MOST_CHARS)


class _Response:
    """An open response, closed at the end of a `with`. `error` is the body where the status is not 200."""

    def __init__(self, raw: httpx.Response) -> None:
        self.raw = raw
        self.status = raw.status_code
        self.headers: Mapping[str, str] = raw.headers
        self.error = b""

    def __enter__(self) -> "_Response":
        return self

    def __exit__(self, *_: object) -> None:
        self.raw.close()


def _never() -> bool:
    return False


def _prompt(segments: Iterable[Segment]) -> _Prompt:
    segments = tuple(segments)
    return _Prompt(
        "".join(segment.text for segment in segments if segment.role == "system"),
        "".join(segment.text for segment in segments if segment.role == "user"),
        segments,
    )


def _predicted(draft: Draft | None) -> str:
    """A reply that copies the selected lines; empty where there are none, since wrong ones may be billed."""
    if draft is None:
        return ""
    _, _, block = draft.opening.partition(f"{draft.search}\n")
    new = block.partition(f"{draft.separator}\n")[2]
    return f"{draft.opening}{draft.close}\n" if new else ""


def _n_common(one: str, other: str) -> int:
    """Length of the common beginning, by halving, since slices compare fast."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[:middle] == other[:middle]:
            low = middle
        else:
            high = middle - 1
    return low
