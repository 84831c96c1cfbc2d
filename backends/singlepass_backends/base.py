"""The interface between the server and every backend: requests, events, timings and errors, as plain values.

A backend turns one request into a stream of events. The order is always

    PrefillProgress*  TextChunk*  Finished

or an exception: a `BackendError`, unless it is a bug of ours. Nothing here loads a model.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

import msgspec
from msgspec import Meta

from singlepass_backends import address

Role = Literal["system", "user"]
FinishReason = Literal["stop", "length", "context", "cancelled"]
ErrorCode = Literal[
    "no_model",
    "model_missing",
    "model_invalid",
    "model_unsupported",
    "out_of_memory",
    "prompt_too_long",
    "grammar_invalid",
    "engine_lost",
    "engine_start_failed",
    "engine_version",
    "unsupported",
    "unreachable",
    "unauthorized",
    "rate_limited",
    "timed_out",
    "server_failed",
    "bad_reply",
    "internal",
]


RANDOM_MODEL_NAME = "singlepass random"
"""The `general.name` of models with random weights; makes `ModelInfo.random_weights` true."""


DEMO_MODEL = Path(__file__).parent / "edit_model" / "edit.gguf"
"""The demo model that comes with singlepass: a few million weights (`models/README.md`)."""
DEMO_MODEL_NAME = "singlepass demo model"
"""Its `general.name`; makes `ModelInfo.is_demo` true."""


class Segment(msgspec.Struct, frozen=True):
    """One part of the prompt. Segments are tokenized one by one, so a change in one never changes the tokens
    of an earlier one; the most stable come first."""

    name: str
    """Shown to the user when the segment was not cached or does not fit, e.g. `src/app.py` or `task`."""
    text: str
    role: Role = "user"
    """`system` segments come first; the chat template is rendered around both."""
    shared: bool = False
    """Part of the prefix that all prompts of a repository share: evicted last, and saved to disk. Only
    leading segments count."""


class Sampling(msgspec.Struct, frozen=True):
    """How the next token is chosen. Temperature 0 is greedy and ignores the other fields."""

    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0


class Draft(msgspec.Struct, frozen=True):
    """What the reply will probably say, for speculative decoding: its tokens are verified in batches instead
    of being generated one by one. It changes how long a reply takes, never what it says.

    The reply is expected to quote old lines between the lines `search` and `separator`, and to give the new
    ones, which resemble them, up to the line `close`.
    """

    opening: str
    """Candidates for the beginning of the reply."""
    search: str
    separator: str
    close: str
    likely: tuple[str, ...] = ()
    """Candidates for the first quoted line."""
    document: str = ""
    """The text of the file that old lines are quoted from."""
    corpus: tuple[str, ...] = ()
    """The draft corpus: texts outside the prompt that new lines may resemble. Used only if a prewarm had the
    same corpus."""


class GenerateRequest(msgspec.Struct, frozen=True):
    """One prompt and what may be generated from it."""

    segments: tuple[Segment, ...]
    grammar: str | None = None
    """An llguidance Lark grammar, opaque to the engine; None for unconstrained decoding."""
    max_tokens: int = 4096
    sampling: Sampling = Sampling()
    min_reply: int = 1
    """Tokens of context that the prompt must leave for the reply; otherwise it is too long."""
    draft: Draft | None = None


class PrewarmRequest(msgspec.Struct, frozen=True):
    """The beginning of a prompt that will probably be requested."""

    segments: tuple[Segment, ...]
    grammar: str | None = None
    """The grammar of that request, to be compiled in advance."""
    corpus: tuple[str, ...] = ()
    """The draft corpus of that request, to be indexed in advance."""


class Timings(msgspec.Struct, frozen=True, kw_only=True):
    """What one request cost, measured at the backend's boundary; the same meaning for every backend.

    Times are in ms. `n_prompt = n_cached + n_prefilled`. Forced tokens were the only ones that the grammar
    allowed, accepted ones were drafted; both are counted in `n_decoded`.
    """

    n_prompt: int
    n_cached: int
    n_prefilled: int
    n_decoded: int
    n_forced: int = 0
    n_drafted: int = 0
    n_accepted: int = 0
    n_forward: int = 0
    """Forward passes of the decode phase."""
    queue_ms: float = 0.0
    """From the request's arrival to the start of its prefill: waiting for other requests and for the
    model."""
    prefill_ms: float = 0.0
    first_text_ms: float = 0.0
    """From the request's arrival to its first text; 0 when there was none."""
    decode_ms: float = 0.0
    total_ms: float = 0.0
    inferred: tuple[str, ...] = ()
    """Names of the fields above that a remote server did not report and that were estimated here."""


class SegmentUse(msgspec.Struct, frozen=True):
    """How much of a segment was cached. The chat template's own tokens count with their neighbours, so the
    sums are `n_prompt` and `n_cached`."""

    name: str
    n_tokens: int
    n_cached: int


MissReason = Literal["new", "changed", "evicted", "moved", "restart", "unfinished"]


class Miss(msgspec.Struct, frozen=True):
    """The first segment before the task that was not cached, and why.

    *new*: never seen. *changed*: a segment of this name was cached with other tokens. *evicted*: it was
    cached, and was evicted. *moved*: it was cached, but after other tokens. *restart*: an earlier engine
    process had it cached. *unfinished*: the prefill of a prewarm or request that contained it was
    interrupted.
    """

    segment: str
    n_tokens: int
    """Tokens before the task that had to be prefilled, from this segment on."""
    reason: MissReason


class PrefillProgress(msgspec.Struct, frozen=True, tag=True):
    """Sent when prefill starts (`n_done == n_cached`) and after each chunk."""

    n_prompt: int
    n_cached: int
    n_done: int
    """Tokens in the KV cache so far, the cached ones included."""
    elapsed_ms: float
    eta_ms: float | None
    """Time until prefill ends, in ms, at the rate of this request so far; None before the first chunk."""


class TextChunk(msgspec.Struct, frozen=True, tag=True):
    """Newly decoded text. Never splits a character; its boundaries carry no meaning."""

    text: str
    n_decoded: int
    """Tokens decoded so far."""
    elapsed_ms: float
    """Duration of the decode phase so far."""


class Finished(msgspec.Struct, frozen=True, tag=True):
    """The last event of a request that did not fail."""

    finish_reason: FinishReason
    timings: Timings
    segments: tuple[SegmentUse, ...] = ()
    """What was cached when the request began; empty if the backend does not know."""
    miss: Miss | None = None
    """None if everything except the task was cached."""


Event = PrefillProgress | TextChunk | Finished


class Evicted(msgspec.Struct, frozen=True):
    """Sent after a finished prewarm, to the client that asked for it: other requests evicted a part of it."""

    n_tokens: int
    """Tokens that were evicted."""


class ModelInfo(msgspec.Struct, frozen=True, kw_only=True):
    """The loaded model, as shown to users and used to compute budgets."""

    backend: str
    name: str
    path: str = ""
    architecture: str = ""
    n_params: int = 0
    size_bytes: int = 0
    n_ctx: int = 0
    """Tokens that fit, prompt and reply together."""
    n_ctx_train: int = 0
    n_vocab: int = 0
    can_trim: bool = True
    """False for hybrid and recurrent models, which cannot forget the end of a sequence."""
    constrains: bool = True
    """Whether decoding is constrained by the grammar, so that finished hunks conform to it. A remote server
    may not support a long grammar; its reply is then unconstrained."""
    device: str = "CPU"
    load_ms: float = 0.0

    @property
    def always_constrains(self) -> bool:
        """Whether every reply to a request with a grammar conforms to it."""
        return self.constrains and self.backend != "openai_compatible"

    @property
    def random_weights(self) -> bool:
        """True for models with random weights, as in tests: their edits are valid but meaningless."""
        return self.name == RANDOM_MODEL_NAME

    @property
    def is_demo(self) -> bool:
        """True for `DEMO_MODEL`, which knows a few kinds of short edits."""
        return self.name == DEMO_MODEL_NAME


ReplyForm = Literal["auto", "blocks", "rewrite"]


class Target(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A backend with a model. Two servers whose targets are equal share one engine."""

    backend: Literal["llama_cpp", "mlx", "openai_compatible", "scripted"] = "llama_cpp"
    model: str = ""
    """Path of a GGUF file (llama_cpp), a model folder (mlx) or a recording (scripted); for a remote server,
    the server's name for the model."""
    url: str = ""
    """Address of a remote server (openai_compatible), e.g. `http://localhost:11434`."""
    api_key_env: str = ""
    """Name of the environment variable with the server's API key. The key itself is never in a target, which
    is visible on the engine's command line."""
    connect_timeout_s: Annotated[float, Meta(gt=0)] = 10.0
    """Timeout in seconds for connecting to a remote server."""
    prefill_timeout_s: Annotated[float, Meta(gt=0)] = 900.0
    """Seconds that a remote server may take until its first token without reporting progress."""
    stall_timeout_s: Annotated[float, Meta(gt=0)] = 120.0
    """Seconds that a remote server may take from one token to the next."""
    prediction: bool = False
    """Send a remote server a predicted reply (OpenAI's `prediction`); it may bill wrongly predicted
    tokens."""
    n_ctx: Annotated[int, Meta(ge=0)] = 0
    """Context in tokens; 0 means the context the model was trained with, at most 32,768, and less if memory
    is short."""
    n_gpu_layers: Annotated[int, Meta(ge=-1)] = -1
    """Layers on the GPU; -1 is as many as fit."""
    flash_attention: bool = True
    n_batch: Annotated[int, Meta(ge=1)] = 512
    """Maximum tokens of one prefill chunk."""
    n_threads: Annotated[int, Meta(ge=0)] = 0
    """Number of threads; 0 means one per physical core, on Apple Silicon per performance core."""
    kv_cache_type: Literal["auto", "f16", "q8_0", "q4_0"] = "auto"
    """`auto` is f16, or q8_0 if the model, or a useful context, does not fit otherwise."""
    form: ReplyForm = "auto"
    """How the model is asked to answer: with edit `blocks`, or, where the request allows it, with a
    `rewrite` of the lines that it is about; `auto` chooses by the model's size. Only the server uses it."""
    repack: bool = True
    """Let llama.cpp rearrange the weights for this processor (AMX and others), which is faster. Turn it off
    if it kills the engine with SIGILL, as on virtual machines that report instructions they do not have."""

    @property
    def is_set(self) -> bool:
        """Whether a model or server is named at all; it may still be impossible to open."""
        return bool(self.url.strip() if self.backend == "openai_compatible" else self.model)

    @property
    def host(self) -> str:
        """The remote server's host name, in lower case; empty if there is none."""
        return address.host(self.url)

    @property
    def fault(self) -> str:
        """Why these settings cannot work, in sentences, judging from the settings alone; empty if they
        may."""
        if self.backend == "openai_compatible":
            if not self.is_set:
                return f"No server is set. Set `url` in `[target]`, e.g. {address.EXAMPLE} for Ollama."
            wrong = address.fault(self.url)
            return f"The setting `url` {wrong}." if wrong else ""
        if self.is_set:
            return ""
        if self.url:
            return 'A `url` is set, but the backend is not a server: set `backend = "openai_compatible"` too.'
        return "No model is set. Set `model` to a GGUF file, or try `singlepass demo`, which needs none."


class BackendError(Exception):
    """An error with a message for users: what happened, to which file or setting, what to do next.

    `data` holds the numbers behind the message, e.g. `n_prompt` and `n_ctx` for `prompt_too_long`.
    """

    def __init__(self, code: ErrorCode, message: str, data: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.code: ErrorCode = code
        self.message = message
        self.data = data or {}


Interrupt = Callable[[], bool]
"""Called between chunks and tokens; True means stop here and keep what is cached."""


class Backend(Protocol):
    """What the engine's model thread runs. Used by that thread only."""

    info: ModelInfo

    @property
    def n_cached(self) -> int:
        """Tokens held in the KV cache."""
        ...

    def generate(
        self, request: GenerateRequest, interrupt: Interrupt, arrived: float | None = None
    ) -> Iterator[Event]:
        """Prefill, then decode. Interrupted, it ends with `Finished("cancelled")`.

        `arrived` is the `time.perf_counter()` of the request's arrival, for `queue_ms` and `first_text_ms`;
        None is now.

        Raises BackendError: `prompt_too_long`, `grammar_invalid`, `internal`.
        """
        ...

    def prewarm(self, request: PrewarmRequest, interrupt: Interrupt) -> Iterator[Event]:
        """Prefill the segments and decode nothing, so that a request which starts with them finds them
        cached. Ends with `Finished`; segments that do not fit are left out from the end."""
        ...

    def inspect(self, segments: tuple[Segment, ...]) -> tuple[SegmentUse, ...]:
        """How much of each segment is cached now. Runs no model; may be called between two events."""
        ...

    def rest(self) -> None:
        """Called when the engine has been idle for a few seconds: save prefixes if worthwhile."""
        ...

    def close(self) -> None:
        """Save prefixes if worthwhile, and free the model."""
        ...
