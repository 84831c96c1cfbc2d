"""Recognizes the server at an address: its kind, its model and context, and whether it supports our grammars.

This is done once, on connecting: none of it changes while a server runs.
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
"""Assumed context in tokens, if neither the server nor the settings tell it."""
_PROBE_S = 20.0
"""Timeout of the request that tests whether grammars are supported."""

_log = logging.getLogger(__name__)


class Recognized(NamedTuple):
    """A server and its model in use."""

    server: Server
    info: ModelInfo
    has_known_context: bool
    """Whether `info.n_ctx` comes from the server or the settings, and is not assumed."""


def recognized(http: Http, target: Target) -> Recognized:
    """Recognize the server. Raises BackendError, among others `no_model` if the model is ambiguous."""
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
        # Ollama loads a model with the context that a request asks for; other servers' contexts are fixed.
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
    """The field in which this server accepts our grammars; empty if it does not. Sends `body` with a grammar
    that only llguidance understands, and checks that the reply obeys it."""
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
    """Request the list of models and store it in `failures.listed`; returns the header `Server`. For a
    service without a list the settings must name the model."""
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
