"""What listens at an address: the kind of server, its model and context, and whether it takes our grammars.

All of it is asked once, when connecting, and kept: it does not change while a server runs.
"""

import json
import logging
from typing import Any, NamedTuple

from singlepass_backends.base import BackendError, ModelInfo, Target
from singlepass_backends.drivers.remote.connection import TimedOut
from singlepass_backends.drivers.remote.failures import words
from singlepass_backends.drivers.remote.http import ASK_S, LOST, MAX_ERROR_BYTES, MAX_WHOLE_BYTES, Http
from singlepass_backends.drivers.remote.replies import ReplyError
from singlepass_backends.drivers.remote.servers import (
    GENERIC,
    GRAMMAR_PROBE,
    GRAMMAR_PROBE_REPLY,
    LM_STUDIO,
    LM_STUDIO_OLD,
    MLX_LM,
    OLLAMA,
    Details,
    ListedModel,
    Server,
    is_local,
    listed_models,
    ollama_context,
    read_details,
    recognize,
    with_grammar,
)

ASSUMED_CONTEXT = 32_768
"""Tokens, where neither the server nor the settings tell the context."""
_PROBE_S = 20.0
"""Longest wait for the request that shows whether a grammar is taken."""

_log = logging.getLogger(__name__)


class Recognized(NamedTuple):
    """A server and the one of its models that is used."""

    server: Server
    info: ModelInfo
    has_known_context: bool
    """`info.n_ctx` was told by the server or the settings, and not assumed."""


def recognized(http: Http, target: Target) -> Recognized:
    """Ask the server what it is. Raises BackendError, among others `no_model` where the choice is open."""
    header = _list_models(http)
    listed = http.failures.listed
    server = recognize(listed, header, http.port)
    if server is GENERIC and is_local(http.host) and read_details(OLLAMA, "", http.ask(OLLAMA.details)):
        server = OLLAMA
    model = target.model or (listed[0].id if len(listed) == 1 else server.default_model)
    if not model:
        raise http.failures.no_model()
    details = Details()
    if server.details:
        found = read_details(server, model, http.ask(server.details))
        if found is None and server is LM_STUDIO:
            server = LM_STUDIO_OLD
        details = found or details
    http.failures.server = server
    version = details.version
    if server is OLLAMA:
        show = http.ask("/api/show", {"model": model})
        details = ollama_context(show, http.ask("/api/ps"), model)
    entry = next((one for one in listed if one.id == model), ListedModel(model))
    n_ctx_train = details.n_ctx_train or entry.n_ctx_train
    n_ctx = details.n_ctx or entry.n_ctx
    has_known_context = bool(n_ctx or target.n_ctx or server is OLLAMA)
    if server is OLLAMA or not n_ctx:
        # Ollama loads a model with as much as it is asked for; the others have what they have.
        n_ctx = target.n_ctx or n_ctx or min(n_ctx_train or ASSUMED_CONTEXT, ASSUMED_CONTEXT)
    elif target.n_ctx:
        n_ctx = min(n_ctx, target.n_ctx)
    where = f"{http.host}:{http.port}" if http.port else http.host
    info = ModelInfo(
        backend="openai_compatible",
        name=model,
        path=http.base,
        n_params=entry.n_params,
        size_bytes=entry.size_bytes,
        n_ctx=n_ctx,
        n_ctx_train=n_ctx_train,
        n_vocab=entry.n_vocab,
        constrains=False,
        device=" ".join(filter(None, (server.name, version, "at", where))),
    )
    return Recognized(server, info, has_known_context)


def grammar_field(http: Http, server: Server, body: dict[str, Any]) -> tuple[str, ...]:
    """Where this server takes our grammar: asked for `body`, it must obey one that only llguidance
    understands. Empty where it does not."""
    for field in server.grammar_fields:
        text = ""
        try:
            with http.chat(server, with_grammar(body, field, GRAMMAR_PROBE), _PROBE_S, 1) as response:
                for piece in http.pieces(response, server.format):
                    text += piece.text
                    if piece.error or piece.is_end or len(text) > 2 * len(GRAMMAR_PROBE_REPLY):
                        break
        except (BackendError, TimedOut, ReplyError, *LOST) as error:
            _log.info("no grammar for %s as %s: %s", server.name, field[0], type(error).__name__)
        if text == GRAMMAR_PROBE_REPLY:
            return field
    return ()


def _list_models(http: Http) -> str:
    """Ask for the models and keep them in `failures.listed`; returns the header `Server`. A service without a
    list has its model named in the settings."""
    response = http.send("GET", f"{http.base}/models", None, ASK_S)
    header = response.headers.get("server", "")
    if response.status in (404, 405):
        return ""
    with response:
        if response.status != 200:
            raise http.failure(response)
        body = http.read(response, MAX_WHOLE_BYTES)
    if not body and recognize((), header, http.port) is MLX_LM:
        return header
    try:
        http.failures.listed = listed_models(json.loads(body))
    except (ValueError, RecursionError):
        what = words(body[:MAX_ERROR_BYTES])[:200]
        raise http.failures.not_a_reply(f"no list of models, but {what or 'nothing'}") from None
    return header
