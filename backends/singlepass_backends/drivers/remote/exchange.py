"""One request and its answer: if the server rejects a part of it, the request is adapted and sent again."""

import logging
import time
from collections.abc import Generator
from dataclasses import replace
from typing import Any

from singlepass_backends.drivers.remote.failures import overflow, words
from singlepass_backends.drivers.remote.http import Http, Response
from singlepass_backends.drivers.remote.metering import Meter
from singlepass_backends.drivers.remote.objections import (
    Terms,
    adapted,
    is_about_limit,
    limit_of,
    with_limit,
)
from singlepass_backends.drivers.remote.prompts import Prompt, PromptSizes
from singlepass_backends.drivers.remote.replies import Piece
from singlepass_backends.drivers.remote.servers import Server

_MAX_TERMS = 8
"""Maximum number of times that one request is sent, each time adapted further."""
_ROOM_MARGIN = 8
"""Tokens left free when a reply is limited to the rest of the context."""

_log = logging.getLogger(__name__)


class Exchange:
    """A request and its adaptations to this server so far."""

    def __init__(
        self,
        http: Http,
        server: Server,
        body: dict[str, Any],
        terms: Terms,
        *,
        prompt: Prompt,
        min_reply: int,
        sizes: PromptSizes,
        n_ctx: int,
        grammar_name: str,
        patience_s: float,
        meter: Meter,
    ) -> None:
        """`terms` are those of the last accepted request. `grammar_name` is the field of `body` with the
        grammar: if the server rejects it, it is left out of this request but not of later ones. The answer
        must begin within `patience_s`."""
        self.terms = terms
        """The terms of this request."""
        self._http = http
        self._server = server
        self._body = body
        self._prompt = prompt
        self._min_reply = min_reply
        self._sizes = sizes
        self._n_ctx = n_ctx
        self._grammar_name = grammar_name
        self._patience_s = patience_s
        self._meter = meter
        self._room = 0
        """Tokens that the context leaves for the reply; 0 if unknown."""
        self._without = ""
        """A field that is left out of this request but not of later ones."""
        self._n_sent = 0

    def pieces(self) -> Generator[Piece, None, None]:
        """The pieces of the reply; if the first one is an error, the request may be adapted and sent again.

        Raises BackendError, among others `prompt_too_long`.
        """
        while True:
            with self._open() as response:
                for piece in self._http.pieces(response, self._server.format):
                    if piece.error and not self._meter.first and self._adapt(200, b"", piece.error):
                        break
                    yield piece
                else:
                    return
            self._meter.started = time.perf_counter()

    def _open(self) -> Response:
        """The response to the request, adapted until the server accepts it."""
        while True:
            response = self._http.chat(self._server, self._sent(), self._patience_s)
            self._n_sent += 1
            if response.status == 200:
                return response
            if not self._adapt(response.status, response.error, words(response.error)):
                raise self._http.failure(response)
            self._meter.started = time.perf_counter()

    def _sent(self) -> dict[str, Any]:
        """The request's body as it is sent."""
        body = {name: value for name, value in self._body.items() if name != self._without}
        return with_limit(self.terms.applied(body), self._room) if self._room else self.terms.applied(body)

    def _adapt(self, status: int, error: bytes, said: str) -> bool:
        """Adapt the request to an error; False if nothing was left to change. Raises BackendError
        `prompt_too_long` if the error says so and fewer tokens for the reply do not help."""
        sent = self._sent()
        is_objection = status in (400, 422)
        if (is_objection or status in (200, 413, 500)) and (too_long := overflow(error, said)):
            return self._leave_room(*too_long, said, limit_of(sent))
        if self._n_sent >= _MAX_TERMS:
            return False
        terms = adapted(self.terms, sent, status, error, said, self._grammar_name)
        if terms is not None:
            _log.info("requests to %s are adapted: %s", self._http.failures.name, terms)
            self.terms = terms
        elif self._grammar_name in sent and (is_objection or status in (413, 500)):
            self._without = self._grammar_name  # another grammar may work
        elif is_objection and "prediction" in sent:  # the field that the fewest servers support
            self.terms = replace(self.terms, without=self.terms.without | {"prediction"})
        else:
            return False
        return True

    def _leave_room(self, n_prompt: int, n_ctx: int, said: str, asked: int) -> bool:
        """The server counted `n_prompt` tokens and has a context of `n_ctx` (0: unknown): ask for a shorter
        reply if a useful one fits. Raises BackendError `prompt_too_long` otherwise."""
        counted = n_prompt
        if not n_prompt and is_about_limit(said, asked):
            n_prompt = self._sizes.n_tokens(self._prompt.n_chars)
        room = (n_ctx or self._n_ctx) - n_prompt - _ROOM_MARGIN
        if n_prompt and max(self._min_reply, 1) <= room < asked:
            self._room = room
            return True
        raise self._sizes.too_long(self._prompt, counted, n_ctx, self._min_reply)
