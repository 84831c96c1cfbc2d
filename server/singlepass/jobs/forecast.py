"""Estimates for requests on each target, from earlier requests and from what the engines have cached.

They are used for titles in the menu, for choosing a target, and for the advice to use another one.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from singlepass.config import Settings
from singlepass.core.actions import action_name
from singlepass.editor.documents import Documents
from singlepass.editor.workspace import UserError
from singlepass.engines.contexts import Contexts
from singlepass.engines.routing import Candidate, Request, advise, compare
from singlepass.engines.targets import Targets
from singlepass.jobs.outcome import Job, JobRequest
from singlepass.repository.client import CHARS_PER_TOKEN
from singlepass.stats.estimate import Span, estimate_ms, expected_reply, title_suffix

_MAX_EARLIER = 50
"""Number of requests that are remembered per document."""


class _Earlier(NamedTuple):
    """An earlier request in a document, with line numbers of that time."""

    first_line: int
    end_line: int
    n_prompt: int
    prefill_s: float


class Forecast:
    """Estimates how long requests will take."""

    def __init__(self, documents: Documents, targets: Targets, contexts: Contexts) -> None:
        self.settings = Settings()
        self._documents = documents
        self._targets = targets
        self._contexts = contexts
        self._earlier: dict[str, list[_Earlier]] = {}

    def titles(self, uri: str, first_line: int, end_line: int) -> Callable[[str, str], str]:
        """A function from an action's title and kind to the suffix with its estimated time, for these lines
        on the prewarmed target; empty if unknown."""
        if not self.settings.estimates:
            return lambda _title, _kind: ""
        try:
            name = self._contexts.target_for(uri)
        except UserError:
            return lambda _title, _kind: ""

        def suffix(title: str, kind: str) -> str:
            expected = self._expected(name, uri, (first_line, end_line), title, kind)
            return title_suffix(expected) if expected else ""

        return suffix

    def expected(self, name: str, request: JobRequest) -> Span | None:
        """Estimated milliseconds of a request on a target that was prewarmed for it; None if it was not, or
        the target's rates are unknown."""
        lines = request.first_line, request.end_line
        return self._expected(name, request.uri, lines, request.title, request.kind)

    def _expected(self, name: str, uri: str, lines: tuple[int, int], title: str, kind: str) -> Span | None:
        known, cached = self._targets.rates(name), self._targets.cached(name, uri)
        if known is None or cached is None:
            return None
        n_cached, n_uncached = cached
        action = action_name(title, kind, self.settings.actions)
        return estimate_ms(known, n_uncached, n_cached, self.n_selected(uri, *lines), action)

    def n_selected(self, uri: str, first_line: int, end_line: int) -> int:
        """Characters of these lines, or of the line with the cursor."""
        document = self._documents.get(uri)
        if document is None:
            return 0
        index = document.index
        first = min(first_line, index.n_lines - 1)
        last = min(max(end_line - 1, first), index.n_lines - 1)
        return index.line_end(last) - index.line_start(first)

    def sized(self, request: JobRequest) -> tuple[Request, list[Candidate]]:
        """The estimated size of a request, and the targets with what they have cached of it."""
        document = self._documents.get(request.uri)
        text = document.text if document is not None else ""
        earlier = self._earlier.get(request.uri)
        # Without an earlier request, assume that the neighbours are about as large as the map.
        guess = len(text) // CHARS_PER_TOKEN + 2 * self.settings.context_map_tokens
        n_prompt = earlier[-1].n_prompt if earlier else guess
        cached = {name: self._targets.cached(name, request.uri) for name in self._targets.by_name}
        n_cached = {name: max(0, n_prompt - found[1]) for name, found in cached.items() if found}
        candidates = self._targets.candidates(n_cached, (request.uri, *request.files))
        rates = [one.rates for one in candidates if one.rates]
        n_selected = self.n_selected(request.uri, request.first_line, request.end_line)
        action = action_name(request.title, request.kind, self.settings.actions)
        asked = Request(
            n_prompt=n_prompt,
            n_reply=round(expected_reply(rates[0], n_selected, action)) if rates else 0,
            kind=request.kind,
            language=document.language if document is not None else "",
        )
        return asked, candidates

    def advise(self, job: Job, asked: Request, candidates: Sequence[Candidate]) -> None:
        """For repeated requests at the same lines, compare the targets."""
        request = job.request
        earlier = [
            one
            for one in self._earlier.get(request.uri, ())
            if one.first_line <= request.end_line and request.first_line <= one.end_line
        ]
        if earlier:
            job.options = compare(asked, candidates, job.target)
            advice = advise([one.prefill_s for one in earlier], asked, candidates, job.target)
            job.advice = advice.text if advice else ""

    def took(self, job: Job) -> None:
        """A job ended: remember it for the next request at its lines."""
        spent, request = job.timings, job.request
        if not job.finish_reason:
            return
        earlier = self._earlier.setdefault(request.uri, [])
        lines = request.first_line, request.end_line
        earlier.append(_Earlier(*lines, spent.n_prompt, spent.prefill_ms / 1000))
        del earlier[:-_MAX_EARLIER]
