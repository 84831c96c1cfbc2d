"""The seam between the server and every backend: requests, events, timings and errors, as plain values.

A backend turns one request into a stream of events. The order is always

    PrefillProgress*  TextChunk*  Finished

or an exception, which is a `BackendError` when it is anybody's fault but ours. Nothing here loads a model.
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
"""The `general.name` of models whose weights mean nothing; makes `ModelInfo.random_weights` true."""


DEMO_MODEL = Path(__file__).parent / "edit_model" / "edit.gguf"
"""The edit model that comes with singlepass, for a first try: a few million weights (`models/README.md`)."""
DEMO_MODEL_NAME = "singlepass demo model"
"""Its `general.name`; makes `ModelInfo.is_demo` true."""


class Segment(msgspec.Struct, frozen=True):
    """One piece of the prompt. Segments are tokenized one by one, so a change in one never re-tokenizes
    an earlier one; put the most stable first."""

    name: str
    """Shown to the user when the segment was not cached or does not fit, e.g. `src/app.py` or `task`."""
    text: str
    role: Role = "user"
    """`system` segments come first; the chat template is rendered around both."""
    shared: bool = False
    """Part of what all prompts of a repository begin with: cached longest, and saved to disk. Only leading
    segments count."""


class Sampling(msgspec.Struct, frozen=True):
    """How the next token is chosen. Temperature 0 is greedy and ignores the rest."""

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
    """How the reply may begin."""
    search: str
    separator: str
    close: str
    likely: tuple[str, ...] = ()
    """Candidates for the first quoted line."""
    document: str = ""
    """The file that old lines are quoted from."""
    sources: tuple[str, ...] = ()
    """The draft corpus: texts that are not in the prompt and that new lines may resemble. Used where a
    prewarm named the same ones."""


class GenerateRequest(msgspec.Struct, frozen=True):
    """One prompt and what may be generated from it."""

    segments: tuple[Segment, ...]
    grammar: str | None = None
    """An llguidance Lark grammar. Opaque to the engine; None leaves decoding unconstrained."""
    max_tokens: int = 4096
    sampling: Sampling = Sampling()
    min_reply: int = 1
    """Tokens of context to leave for the reply; a prompt that leaves fewer is too long."""
    draft: Draft | None = None


class PrewarmRequest(msgspec.Struct, frozen=True):
    """The beginning of a prompt that will probably be asked for."""

    segments: tuple[Segment, ...]
    grammar: str | None = None
    """The grammar of such a request, to be compiled ahead."""
    sources: tuple[str, ...] = ()
    """The draft corpus of such a request, to be indexed ahead."""


class Timings(msgspec.Struct, frozen=True, kw_only=True):
    """What one request cost, measured at the backend's boundary; the same meaning for every backend.

    Times are in ms. `n_prompt = n_cached + n_prefilled`. Forced tokens are those that the grammar
    left no choice about, accepted ones were drafted; both are counted in `n_decoded`.
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
    """From the request's arrival to the start of its prefill: other requests, and loading the model."""
    prefill_ms: float = 0.0
    first_text_ms: float = 0.0
    """From the request's arrival to its first text; 0 when there was none."""
    decode_ms: float = 0.0
    total_ms: float = 0.0
    inferred: tuple[str, ...] = ()
    """Names of the fields above that the backend did not report and that were measured from outside."""


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
    cached like this, and had to go. *moved*: its tokens were cached, after others. *restart*: an engine
    before this one had it cached. *unfinished*: it was being read, ahead or for a request that was cancelled,
    and that was interrupted.
    """

    segment: str
    n_tokens: int
    """Tokens before the task that were read, from this segment on."""
    reason: MissReason


class PrefillProgress(msgspec.Struct, frozen=True, tag=True):
    """Sent when prefill starts (`n_done == n_cached`) and after each chunk."""

    n_prompt: int
    n_cached: int
    n_done: int
    """Tokens in the KV cache so far, the cached ones included."""
    elapsed_ms: float
    eta_ms: float | None
    """Until prefill ends, from this request's own rate; None before the first chunk."""


class TextChunk(msgspec.Struct, frozen=True, tag=True):
    """Newly decoded text. Never splits a character; its boundaries carry no meaning."""

    text: str
    n_decoded: int
    """Tokens decoded so far."""
    elapsed_ms: float
    """Of the decode phase so far."""


class Finished(msgspec.Struct, frozen=True, tag=True):
    """The last event of a request that did not fail."""

    finish_reason: FinishReason
    timings: Timings
    segments: tuple[SegmentUse, ...] = ()
    """What was cached when the request began; empty where the backend does not know."""
    miss: Miss | None = None
    """None where all but the task was cached."""


Event = PrefillProgress | TextChunk | Finished


class Evicted(msgspec.Struct, frozen=True):
    """Told to who asked for a prewarm, after it ended: other requests took the place of a part of it."""

    n_tokens: int
    """Tokens that were cached before, and are not any more."""


class ModelInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What is loaded, as told to users and used for budgets."""

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
    """True where decoding is constrained by the grammar, so that finished hunks obey it. A remote server may
    be unable to take a long grammar and then replies without one."""
    device: str = "CPU"
    load_ms: float = 0.0

    @property
    def always_constrains(self) -> bool:
        """True where every reply to a request with a grammar obeys it."""
        return self.constrains and self.backend != "openai_compatible"

    @property
    def random_weights(self) -> bool:
        """True for models with random weights, as in tests: their edits are valid but meaningless."""
        return self.name == RANDOM_MODEL_NAME

    @property
    def is_demo(self) -> bool:
        """True for `DEMO_MODEL`, which knows a few kinds of short edits."""
        return self.name == DEMO_MODEL_NAME


class Target(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A backend with a model. Two servers whose targets are equal share one engine."""

    backend: Literal["llama_cpp", "mlx", "openai_compatible", "scripted"] = "llama_cpp"
    model: str = ""
    """Path of a GGUF file (llama_cpp), of a model folder (mlx) or of a recording (scripted); of a remote
    server, its name of the model."""
    url: str = ""
    """Of a remote server (openai_compatible), e.g. `http://localhost:11434`."""
    api_key_env: str = ""
    """Name of the environment variable with the server's API key. The key itself is nowhere in a target,
    which stands on the engine's command line."""
    connect_timeout_s: Annotated[float, Meta(gt=0)] = 10.0
    """Seconds until a remote server must have accepted a connection."""
    prefill_timeout_s: Annotated[float, Meta(gt=0)] = 900.0
    """Seconds a remote server may take to its first token without a sign of progress."""
    stall_timeout_s: Annotated[float, Meta(gt=0)] = 120.0
    """Seconds a remote server may take from one token to the next."""
    prediction: bool = False
    """Tell a remote server what the reply will probably say (OpenAI's `prediction`); it may bill what was
    predicted wrong."""
    n_ctx: Annotated[int, Meta(ge=0)] = 0
    """Context in tokens; 0 takes what the model was trained with, up to 32,768, and less where memory is
    short."""
    n_gpu_layers: Annotated[int, Meta(ge=-1)] = -1
    """Layers on the GPU; -1 is as many as fit."""
    flash_attention: bool = True
    n_batch: Annotated[int, Meta(ge=1)] = 512
    """Most tokens of one prefill chunk."""
    n_threads: Annotated[int, Meta(ge=0)] = 0
    """0 takes the physical cores, on Apple Silicon the performance cores."""
    kv_cache_type: Literal["auto", "f16", "q8_0", "q4_0"] = "auto"
    """`auto` is f16, or q8_0 where the model, or a context of use, fits only so."""
    repack: bool = True
    """Let llama.cpp lay the weights out for this processor (AMX and the like): faster. Turn it off where that
    kills the engine with SIGILL, as on virtual machines that announce instructions they do not have."""

    @property
    def is_set(self) -> bool:
        """Whether a model or server is named at all; whether it can be opened shows later."""
        return bool(self.url.strip() if self.backend == "openai_compatible" else self.model)

    @property
    def host(self) -> str:
        """The name of the remote server, in lower case; empty where there is none."""
        return address.host(self.url)

    @property
    def fault(self) -> str:
        """What makes this target impossible to open, as far as its settings alone tell, in sentences; empty
        where nothing does."""
        if self.backend == "openai_compatible":
            if not self.is_set:
                return f"No server is set. Set `url` in `[target]`, e.g. {address.EXAMPLE} for Ollama."
            wrong = address.fault(self.url)
            return f"The setting `url` {wrong}." if wrong else ""
        if self.is_set:
            return ""
        if self.url:
            return 'A `url` is set, and no server: set `backend = "openai_compatible"` too.'
        return "No model is set. Set `model` to a GGUF file, or try `singlepass demo`, which needs none."


class BackendError(Exception):
    """What went wrong, for people: what happened, to which file or setting, what to do next.

    `data` holds the numbers behind the message, e.g. `n_prompt` and `n_ctx` for `prompt_too_long`.
    """

    def __init__(self, code: ErrorCode, message: str, data: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.code: ErrorCode = code
        self.message = message
        self.data = data or {}


Interrupt = Callable[[], bool]
"""Asked between chunks and tokens; True means stop here and keep what is cached."""


class Backend(Protocol):
    """What the engine's model thread runs. Called from that one thread only."""

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
        """How much of each segment is cached now. Computes nothing; may be called between two events."""
        ...

    def rest(self) -> None:
        """Called when the engine has been idle for some seconds: the time to save what is worth saving."""
        ...

    def close(self) -> None:
        """Free the model, after saving what is worth saving."""
        ...
