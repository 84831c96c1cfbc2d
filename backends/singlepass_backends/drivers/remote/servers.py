"""The kinds of servers, as data, and how to tell them apart (sans-IO).

A server is recognized by its list of models (`GET /v1/models`: `owned_by` of an entry, or the header
`Server`); `details` is the endpoint for what the list does not say. Sources, by name:

- llama-server: https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md. `owned_by:
  "llamacpp"`; `/props` has `default_generation_settings.n_ctx` and `total_slots`. `cache_prompt` keeps the
  prefix, `return_progress` reports prefill, "n_predict … When 0, no tokens will be generated but the prompt
  is evaluated into the cache" (it still samples one from the prompt's own logits, without another pass, and
  counts it), a grammar that begins with `%llguidance` is llguidance's if that was built in
  (https://github.com/ggml-org/llama.cpp/blob/master/docs/llguidance.md).
- Ollama: https://github.com/ollama/ollama/blob/main/docs/api.md. `owned_by: "library"` or a user's name, so
  `/api/version` decides. A different `num_ctx` makes it reload the model, so every request has the same one.
  `truncate` and `shift` are true by default, which silently truncates a long prompt
  (https://github.com/ollama/ollama/pull/17944); false makes it an error.
- LM Studio: https://lmstudio.ai/docs/developer/rest. `owned_by: "organization_owner"`; `/api/v1/chat` (since
  0.4) has progress events and stats, `/api/v1/models` the context length of what is loaded.
- vLLM: https://docs.vllm.ai/en/latest/features/structured_outputs/. `owned_by: "vllm"` and `max_model_len`;
  `structured_outputs.grammar`, before 0.12 `guided_grammar`. Automatic prefix caching is on by default.
- SGLang: https://docs.sglang.io/advanced_features/structured_outputs.html. `owned_by: "sglang"` and
  `max_model_len`; `ebnf`, which its llguidance backend reads as Lark too
  (https://github.com/sgl-project/sglang/blob/main/python/sglang/srt/constrained/llguidance_backend.py).
- llama_cpp.server: `owned_by: "me"` (https://github.com/abetlen/llama-cpp-python, llama_cpp/server/app.py).
  One sequence, whose longest common beginning is kept.
- mlx_lm.server: Python's own `Server: BaseHTTP/…` and no `owned_by`
  (https://github.com/ml-explore/mlx-lm/blob/main/mlx_lm/SERVER.md). It lists every model in the Hugging Face
  cache besides the one it was started with, which is also called `default_model`, and loads whichever a
  request names; without such a cache its list is an empty body (`handle_models_request` in mlx_lm/server.py).
  It accepts prompts of any length.
"""

import ipaddress
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast
from urllib.parse import urlsplit

from singlepass_backends.drivers.remote.replies import Format

GRAMMAR_PREFIX = "%llguidance {}\n"
"""Marks a grammar as llguidance's for llama-server. It is not valid in any other grammar dialect, so other
servers reject it or pass it on to llguidance (whose syntax has this statement)."""
GRAMMAR_PROBE = GRAMMAR_PREFIX + 'start: "pass " /[7]{3}/\n'
GRAMMAR_PROBE_REPLY = "pass 777"
"""The reply of every model under the probe's grammar, and of none without it."""
MAX_GRAMMAR_LINES = 3_600
"""Longer grammars are not sent: these servers run llguidance with its default limit of 2,000 items per row,
of which an editable line takes 3 (and 6 lines of grammar), and a grammar over the limit fails in the middle
of a reply."""

# All of them may penalize repetition, by their own default (llama_cpp.server, Ollama, LM Studio: 1.1) or the
# model's (vLLM and SGLang read generation_config.json). Quoting a file is repetition, so we disable it.
_NO_THINKING: Mapping[str, Any] = {"chat_template_kwargs": {"enable_thinking": False}}


@dataclass(frozen=True)
class Server:
    """One kind of server."""

    name: str
    format: Format = "openai"
    path: str = "/chat/completions"
    """Path of a completion request, relative to the API's base for `openai`, else to the server's root."""
    details: str = ""
    """Path, relative to the root, of a request for details, sent once on connecting."""
    extra: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Fields that are sent with every request."""
    prewarm: Mapping[str, Any] | None = None
    """Fields that make a request prefill the prompt and generate as little as possible; None if that is
    useless or may cost money."""
    keeps_prefix: bool = False
    """Whether it has a prefix cache."""
    tells_overflow: bool = True
    """Whether it reports an error for a prompt that is too long, and does not truncate it or close the
    connection."""
    grammar_fields: tuple[tuple[str, ...], ...] = ()
    """Fields in which a grammar may be passed, the likeliest first; tried on connecting."""
    default_model: str = ""
    """Its name for the model it was started with, if it lists other models too."""
    start: str = ""
    """The command that starts it."""


GENERIC = Server("OpenAI-compatible server")
LLAMA_SERVER = Server(
    "llama-server",
    details="/props",
    extra={"cache_prompt": True, "return_progress": True, "repeat_penalty": 1.0, **_NO_THINKING},
    prewarm={"n_predict": 0, "max_tokens": 1},
    keeps_prefix=True,
    grammar_fields=(("grammar",),),
    start="llama-server -m model.gguf",
)
OLLAMA = Server(
    "Ollama",
    format="ollama",
    path="/api/chat",
    details="/api/version",
    extra={"keep_alive": "30m", "think": False, "truncate": False, "shift": False},
    prewarm={"num_predict": 1},
    keeps_prefix=True,
    tells_overflow=False,
    start="ollama serve",
)
LM_STUDIO = Server(
    "LM Studio",
    format="lm_studio",
    path="/api/v1/chat",
    details="/api/v1/models",
    extra={"store": False, "repeat_penalty": 1.0},
    prewarm={"max_output_tokens": 1},
    keeps_prefix=True,
    tells_overflow=False,
    start="lms server start",
)
LM_STUDIO_OLD = Server("LM Studio", prewarm={"max_tokens": 1}, keeps_prefix=True)
"""LM Studio before version 0.4, which has no progress events."""
VLLM = Server(
    "vLLM",
    details="/version",
    extra={"repetition_penalty": 1.0, **_NO_THINKING},
    prewarm={"max_tokens": 1},
    keeps_prefix=True,
    grammar_fields=(("structured_outputs", "grammar"), ("guided_grammar",)),
    start="vllm serve MODEL",
)
SGLANG = Server(
    "SGLang",
    extra={"repetition_penalty": 1.0, **_NO_THINKING},
    prewarm={"max_tokens": 1},
    keeps_prefix=True,
    grammar_fields=(("ebnf",),),
    start="python -m sglang.launch_server --model-path MODEL",
)
LLAMA_CPP_PYTHON = Server(
    "llama_cpp.server",
    extra={"repeat_penalty": 1.0},
    prewarm={"max_tokens": 1},
    keeps_prefix=True,
    tells_overflow=False,
)
MLX_LM = Server(
    "mlx_lm.server",
    extra=_NO_THINKING,
    prewarm={"max_tokens": 1},
    keeps_prefix=True,
    tells_overflow=False,
    default_model="default_model",
)

_OWNERS = {
    "llamacpp": LLAMA_SERVER,
    "vllm": VLLM,
    "sglang": SGLANG,
    "me": LLAMA_CPP_PYTHON,
    "organization_owner": LM_STUDIO,
    "library": OLLAMA,
}
_PORTS = {11434: OLLAMA, 1234: LM_STUDIO, 8080: LLAMA_SERVER, 8000: VLLM, 30000: SGLANG}
"""Default ports: a hint if the list of models does not tell the kind, and for advice if nothing answers."""


@dataclass(frozen=True)
class ListedModel:
    """One entry of `/v1/models`."""

    id: str
    owner: str = ""
    n_ctx: int = 0
    n_ctx_train: int = 0
    n_params: int = 0
    size_bytes: int = 0
    n_vocab: int = 0


@dataclass(frozen=True)
class Details:
    """Further details of a server and its model; 0 or empty if unknown."""

    version: str = ""
    n_ctx: int = 0
    n_ctx_train: int = 0


def listed_models(payload: object) -> list[ListedModel]:
    """The models of `/v1/models`. `max_model_len` is vLLM's and SGLang's, `meta` llama-server's,
    `context_length` OpenRouter's."""
    found: list[ListedModel] = []
    for entry in _list(_dict(payload).get("data")):
        fields = _dict(entry)
        meta = _dict(fields.get("meta"))
        if isinstance(id := fields.get("id"), str):
            found.append(
                ListedModel(
                    id,
                    str(fields.get("owned_by") or ""),
                    _int(fields, "max_model_len") or _int(fields, "context_length"),
                    _int(meta, "n_ctx_train"),
                    _int(meta, "n_params"),
                    _int(meta, "size"),
                    _int(meta, "n_vocab"),
                )
            )
    return found


def recognize(models: Sequence[ListedModel], server_header: str, port: int | None) -> Server:
    """The kind of server, judging from the list of models."""
    owners = {model.owner for model in models}
    for owner, server in _OWNERS.items():
        if owner in owners:
            return server
    if server_header.startswith("llama.cpp"):
        return LLAMA_SERVER
    if server_header.startswith("BaseHTTP/") and owners <= {""}:
        return MLX_LM
    # Ollama's models have their author as the owner, and the list is empty if nothing is installed yet.
    return OLLAMA if port == 11434 else GENERIC


def likely_at(port: int | None) -> Server | None:
    """The server that has this port by default."""
    return _PORTS.get(port or 0)


def read_details(server: Server, model: str, payload: object) -> Details | None:
    """Parses the answer to `server.details`; None if it is not an answer of this kind of server."""
    fields = _dict(payload)
    if server is LLAMA_SERVER:
        settings = _dict(fields.get("default_generation_settings"))
        return Details(str(fields.get("build_info") or ""), _int(settings, "n_ctx")) if settings else None
    if server is LM_STUDIO:
        if "models" not in fields:
            return None
        entries = [_dict(entry) for entry in _list(fields["models"])]
        own = next((entry for entry in entries if entry.get("key") == model), cast("dict[str, Any]", {}))
        loaded = [_dict(_dict(one).get("config")) for one in _list(own.get("loaded_instances"))]
        n_ctx = next((_int(config, "context_length") for config in loaded), 0)
        return Details("", n_ctx, _int(own, "max_context_length"))
    version = fields.get("version")
    return Details(version) if isinstance(version, str) else None


def ollama_context(show: object, ps: object, model: str) -> Details:
    """The context of an Ollama model: as loaded (`/api/ps`), else as in its Modelfile (`parameters` of
    `/api/show`); and the context it was trained with (`model_info`)."""
    fields, info = _dict(show), _dict(_dict(show).get("model_info"))
    n_ctx_train = next((_int(info, key) for key in info if key.endswith(".context_length")), 0)
    loaded = [_dict(entry) for entry in _list(_dict(ps).get("models"))]
    n_ctx = next(
        (_int(one, "context_length") for one in loaded if model in (one.get("name"), one.get("model"))), 0
    )
    if not n_ctx and (
        set_to := re.search(r"^num_ctx\s+(\d+)", str(fields.get("parameters") or ""), re.MULTILINE)
    ):
        n_ctx = int(set_to[1])
    return Details("", n_ctx, n_ctx_train)


def build_body(
    server: Server,
    model: str,
    system: str,
    user: str,
    *,
    max_tokens: int,
    temperature: float,
    top_p: float,
    seed: int,
    n_ctx: int,
) -> dict[str, Any]:
    """A request's body. `n_ctx` is the context to load the model with, for servers that take it per
    request."""
    sampling: dict[str, Any] = {"temperature": temperature}
    if temperature > 0:
        sampling |= {"top_p": top_p, "seed": seed}
    messages = [{"role": "system", "content": system}] if system else []
    messages.append({"role": "user", "content": user})
    if server.format == "ollama":
        options = {"num_ctx": n_ctx, "num_predict": max_tokens, "repeat_penalty": 1.0, **sampling}
        return {"model": model, "messages": messages, "stream": True, "options": options, **server.extra}
    if server.format == "lm_studio":
        sampling.pop("seed", None)
        sampling["temperature"] = min(temperature, 1.0)
        body: dict[str, Any] = {
            "model": model,
            "input": user,
            "stream": True,
            "max_output_tokens": max_tokens,
        }
        if system:
            body["system_prompt"] = system
        return {**body, **sampling, **server.extra}
    return {
        "model": model,
        "messages": messages,
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": max_tokens,
        **sampling,
        **server.extra,
    }


def as_prewarm(server: Server, body: dict[str, Any]) -> dict[str, Any]:
    """The request that prewarms the prompt of `body`."""
    least = server.prewarm or {}
    if server.format == "ollama":
        return {**body, "options": {**body["options"], **least}}
    return {**body, **least}


def with_grammar(body: dict[str, Any], field: tuple[str, ...], grammar: str) -> dict[str, Any]:
    """The request constrained by a grammar, which begins with `GRAMMAR_PREFIX`."""
    value: Any = grammar
    for name in reversed(field):
        value = {name: value}
    return {**body, **value}


def with_prediction(server: Server, body: dict[str, Any], text: str) -> dict[str, Any]:
    """The request with a predicted reply. Only OpenAI's format has a field for it, and servers that do not
    support it ignore it or reject the request
    (https://platform.openai.com/docs/api-reference/chat/create, `prediction`)."""
    return {**body, "prediction": {"type": "content", "content": text}} if server.format == "openai" else body


def is_local(host: str) -> bool:
    """Whether the host is local: this machine, a private network, or a name without a public domain."""
    host = host.strip("[]").lower()
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        own = (".local", ".lan", ".internal", ".home.arpa", ".localhost")
        return "." not in host or host.endswith(own)
    return address.is_private or address.is_loopback or address.is_link_local


def api_base(url: str) -> tuple[str, str]:
    """The base of the API and the root of the server, both without a slash at the end.

    `http://host:1234`, `…/v1` and `…/v1/chat/completions` mean the same; another path is taken as it is, for
    services whose API is elsewhere, e.g. `https://openrouter.ai/api/v1`.
    """
    url = url.strip().rstrip("/").removesuffix("/chat/completions")
    if not urlsplit(url).path:
        url += "/v1"
    root = url.removesuffix("/v1")
    return url, root


def _dict(value: object) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _list(value: object) -> list[object]:
    return cast("list[object]", value) if isinstance(value, list) else []


def _int(fields: Mapping[str, Any], name: str) -> int:
    value = fields.get(name)
    return int(value) if isinstance(value, (int, float)) and 0 <= value < 1e15 else 0
