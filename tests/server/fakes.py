"""An editor and an engine in memory. The documents they work on are the real ones."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from typing import Any

from lsprotocol import types as lsp
from singlepass.cli.headless import headless_capabilities
from singlepass.core.edits import Edit, apply
from singlepass.core.lines import Encoding, LineIndex
from singlepass.editor.documents import Documents
from singlepass.editor.positions import Capabilities, changes_from_lsp, range_to_lsp, span_from_lsp
from singlepass.editor.requests import ApplyResult
from singlepass.editor.tasks import Owner, Work
from singlepass_backends.base import (
    Event,
    Evicted,
    Finished,
    GenerateRequest,
    ModelInfo,
    PrefillProgress,
    Segment,
    SegmentUse,
    TextChunk,
    Timings,
)

FINAL = ("done", "failed", "cancelled")


class OwnTasks(Owner):
    """Runs by itself, for tests of what is below `Parts`, which run all owners."""

    _own: "asyncio.Task[None] | None" = None

    def start(self, *of: Any, **options: Any) -> Work:
        self._own = self._own or asyncio.ensure_future(self.run())
        return super().start(*of, **options)


class FakeProgress:
    def __init__(self, title: str) -> None:
        self.title = title
        self.messages: list[tuple[str, int | None]] = []
        self.ended: list[str] = []

    def report(self, message: str, percentage: int | None = None) -> None:
        assert not self.ended
        self.messages.append((message, percentage))

    def end(self, message: str) -> None:
        self.ended.append(message)


class FakeEditor:
    """Refuses an edit that is not for the version it has. The methods are those of `Editor`.

    Subclasses are the editors that do otherwise. `before_apply` is called when an edit arrives, which is when
    a user's keystrokes may be ahead of what the server knew.
    """

    def __init__(self, documents: Documents | None = None) -> None:
        self.capabilities = Capabilities(headless_capabilities())
        self.encoding: Encoding = "utf-16"
        self.documents = documents or Documents()
        self.texts: dict[str, str] = {}
        self.versions: dict[str, int] = {}
        self.before_apply: Callable[[], object] = lambda: None
        self.applied: list[tuple[str, str, bool]] = []
        """(label, description, confirm) of every edit that arrived."""
        self.calls: list[tuple[str, Any]] = []
        self.progresses: list[FakeProgress] = []
        self.cancel: list[Callable[[], object]] = []
        self.settings: Mapping[str, Any] | None = None
        self.tasks: Owner = OwnTasks()
        self._told = asyncio.Event()

    # The user.

    def open(self, uri: str, text: str, language: str = "python") -> None:
        self.texts[uri], self.versions[uri] = text, 1
        self.documents.open(uri, language, 1, text)

    def put(self, uri: str, text: str) -> None:
        """A file that is not open."""
        self.texts[uri] = text

    def type(self, uri: str, *edits: Edit) -> None:
        """Edits one after the other, told in one didChange."""
        changes: list[lsp.TextDocumentContentChangeEvent] = []
        for edit in edits:
            place = range_to_lsp(LineIndex(self.texts[uri]), edit.start, edit.end)
            changes.append(lsp.TextDocumentContentChangePartial(place, edit.new))
            self.texts[uri] = apply(self.texts[uri], [edit])
        self.versions[uri] += 1
        document = self.documents.get(uri)
        assert document is not None
        document.update(self.versions[uri], changes_from_lsp(document.text, changes, "utf-16"))

    # The server.

    async def apply(
        self,
        edits: Mapping[tuple[str, int | None], Sequence[lsp.TextEdit]],
        label: str,
        description: str,
        *,
        confirm: bool = False,
    ) -> ApplyResult:
        await asyncio.sleep(0)
        self.applied.append((label, description, confirm))
        self.before_apply()
        if reason := self.refuses(edits):
            return ApplyResult(False, reason)
        for (uri, _), texts in edits.items():
            index = LineIndex(self.texts[uri])
            found = [Edit(*span_from_lsp(index, one.range), one.new_text) for one in texts]
            if uri in self.versions:
                # From the last to the first, so that each stands where it was meant; as VS Code does.
                found = sorted(found, key=lambda edit: (edit.start, edit.end))
                assert apply(self.texts[uri], found) is not None
                self.type(uri, *reversed(found))
            else:
                self.texts[uri] = apply(self.texts[uri], found)
        return ApplyResult(True)

    def refuses(self, edits: Mapping[tuple[str, int | None], Sequence[lsp.TextEdit]]) -> str:
        stale = any(self.versions.get(uri) != version for uri, version in edits)
        return "the document changed" if stale else ""

    def say(self, level: str, message: str) -> None:
        self.calls.append(("say", (level, message)))

    def notify(self, method: str, params: Mapping[str, Any]) -> None:
        self.calls.append((method, dict(params)))
        self._told.set()

    def log(self, message: str) -> None:
        self.calls.append(("log", message))

    def publish(self, uri: str, version: int | None, diagnostics: Sequence[lsp.Diagnostic]) -> None:
        self.calls.append(("publish", (uri, version, list(diagnostics))))

    def refresh_lenses(self) -> None:
        self.calls.append(("refresh_lenses", None))

    async def watch(self, globs: Sequence[str]) -> None:
        self.calls.append(("watch", list(globs)))

    async def follow_configuration(self) -> None:
        self.calls.append(("follow_configuration", None))

    async def configuration(self) -> Mapping[str, Any] | None:
        return self.settings

    async def progress(self, title: str, on_cancel: Callable[[], object]) -> FakeProgress:
        await asyncio.sleep(0)
        self.cancel.append(on_cancel)
        self.progresses.append(FakeProgress(title))
        return self.progresses[-1]

    # The test.

    def told(self, what: str) -> list[Any]:
        return [value for kind, value in self.calls if kind == what]

    def said(self, level: str) -> list[str]:
        return [message for found, message in self.told("say") if found == level]

    def states(self, job: int) -> list[str]:
        return [one["state"] for one in self.told("singlepass/status") if one["job"] == job]

    async def until(self, job: int, *states: str) -> None:
        """Wait for a status of the job."""
        async with asyncio.timeout(10):
            while not set(states) & set(self.states(job)):
                self._told.clear()
                await self._told.wait()

    async def finish(self, job: int) -> dict[str, Any]:
        """Wait for the end of a job; its timings."""
        await self.until(job, *FINAL)
        for _ in range(3):
            await asyncio.sleep(0)  # the server's own account comes right after what it tells
        assert self.states(job)[-1] in FINAL
        (timings,) = (one for one in self.told("singlepass/timings") if one["job"] == job)
        return timings


class ReadOnlyEditor(FakeEditor):
    """Refuses everything."""

    def refuses(self, edits: Mapping[tuple[str, int | None], Sequence[lsp.TextEdit]]) -> str:
        return "the file is read-only."


class LateEditor(FakeEditor):
    """Applies edits to whatever version it has (vscode-languageserver-node #1756)."""

    def refuses(self, edits: Mapping[tuple[str, int | None], Sequence[lsp.TextEdit]]) -> str:
        return ""


TIMINGS = Timings(n_prompt=10, n_cached=4, n_prefilled=6, n_decoded=5, prefill_ms=2, decode_ms=3)

Step = str | Event | Exception | asyncio.Event | Callable[[], object]


class FakeEngine:
    """Plays one script a request: text, events, errors to raise, gates to wait at, functions to call."""

    def __init__(self, *scripts: Sequence[Step], constrains: bool = False) -> None:
        self.info: ModelInfo | None = None
        self.model = ModelInfo(backend="fake", name="fake model", constrains=constrains)
        self.scripts = list(scripts)
        self.requests: list[GenerateRequest] = []
        self.asked = asyncio.Event()
        self.prewarmed: list[tuple[Segment, ...]] = []
        self.grammars: list[str | None] = []
        self.corpora: list[tuple[str, ...]] = []
        """The draft corpora of the prewarms."""
        self.on_prewarm: Callable[[Event | Evicted | None], object] | None = None
        """Takes the events of the latest prewarm."""
        self.fails: Exception | None = None
        """What `connect` and `prewarm` raise."""
        self.n_closed = self.n_inspected = 0
        self.n_streams = 0
        """How many streams are open now."""
        self.connecting: asyncio.Event | None = None
        self.on_loading: Callable[[float], None] | None = None
        self.on_lost: Callable[[], None] = lambda: None

    async def connect(self) -> ModelInfo:
        if self.connecting is not None:
            await self.connecting.wait()
        if self.fails is not None:
            raise self.fails
        self.info = self.model
        return self.model

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[Event, None]:
        self.requests.append(request)
        self.asked.set()
        n_decoded = 0
        self.n_streams += 1
        try:
            for step in self.scripts.pop(0):
                await asyncio.sleep(0)
                match step:
                    case str():
                        n_decoded += 1
                        yield TextChunk(step, n_decoded, float(n_decoded))
                    case Exception():
                        raise step
                    case asyncio.Event():
                        await step.wait()
                    case PrefillProgress() | TextChunk() | Finished():
                        yield step
                        if isinstance(step, Finished):
                            return
                    case _:
                        step()
            yield Finished("stop", TIMINGS)
        finally:
            self.n_streams -= 1

    async def prewarm(
        self,
        segments: tuple[Segment, ...],
        *,
        grammar: str | None = None,
        corpus: tuple[str, ...] = (),
        spawn: bool = True,
        on_event: Callable[[Event | Evicted | None], object] | None = None,
    ) -> None:
        if self.fails is not None:
            raise self.fails
        self.prewarmed.append(segments)
        self.grammars.append(grammar)
        self.corpora.append(corpus)
        self.on_prewarm = on_event

    async def inspect(self, segments: tuple[Segment, ...], *, spawn: bool = False) -> tuple[SegmentUse, ...]:
        self.n_inspected += 1
        return tuple(SegmentUse(one.name, len(one.text), 0) for one in segments)

    def end(self) -> None:
        """The engine's process ends, and with it the connection."""
        self.info = self.on_prewarm = None
        self.on_lost()

    async def aclose(self) -> None:
        self.n_closed += 1


def block(path: str, old: Sequence[str], new: Sequence[str]) -> str:
    """An edit block as a model writes it."""
    lines = [path, "<<<<<<< SEARCH", *old, "=======", *new, ">>>>>>> REPLACE"]
    return "".join(f"{line}\n" for line in lines)


def edit_of(text: str, old: str, new: str) -> Edit:
    """The edit that replaces the only `old` of a text."""
    assert text.count(old) == 1
    start = text.index(old)
    return Edit(start, start + len(old), new)
