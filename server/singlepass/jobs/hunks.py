"""The pipeline of a finished hunk into the editor's buffer. The methods are in the order of its stages.

    take       the parser's events
    _plan      the hunk on the snapshot that the model saw: edits, or a rejection
    _route     send at once, or hold back until the reply is complete
    finish     the reply is complete: remove the request's comment, and send what was held back
    _deliver   send one workspace edit, and wait for its answer; if the job is cancelled, for 2 s after that
    _record    record the result in the job and in review

Each hunk is delivered before the next is taken, so at most one edit is in flight. An edit that the editor
does not answer in time may still be applied; then it is recorded like all others.
"""

import contextlib
from collections.abc import Callable, Iterable, Sequence

import anyio
import msgspec

from singlepass.core.diff_parser import Hunk, HunkDropped, HunkFinished, ParserEvent
from singlepass.core.planner import (
    PlannedHunk,
    RejectedHunk,
    RejectReason,
    plan,
    reject_dropped,
    resolve,
)
from singlepass.core.removal import unasked_removal
from singlepass.core.request_comment import comment_removal, without_comment
from singlepass.editor.documents import Documents, EditableFile
from singlepass.editor.requests import Editor
from singlepass.editor.tasks import in_thread, shielded_for
from singlepass.editor.workspace import UserError, read_source
from singlepass.jobs.delivery import MAY_BE_THERE, Delivery, Sent, deliver, delivery_of
from singlepass.jobs.outcome import Job, note_unseen
from singlepass.jobs.review import Reviews

_LAST_EDIT_S = 2.0
"""How long a cancelled job waits for the answer to an edit that was already sent."""


class HunkPipeline:
    """Processes the hunks of one job's reply.

    `files` are the files that the job may edit, by URI, as they were when it was requested. With `confirm`
    the user is asked before any edit.
    """

    def __init__(
        self,
        job: Job,
        files: dict[str, EditableFile],
        *,
        confirm: bool,
        documents: Documents,
        editor: Editor,
        reviews: Reviews,
        is_allowed: Callable[[str], bool],
        is_cancelled: Callable[[], bool],
    ) -> None:
        self.files = files
        self.on_late: Callable[[], object] = lambda: None
        """Called when an edit that was not answered in time was applied after all."""
        self._job = job
        self._confirm = confirm
        self._documents = documents
        self._editor = editor
        self._reviews = reviews
        self._is_allowed = is_allowed
        self._is_cancelled = is_cancelled
        self._held_back: list[PlannedHunk] = []
        self._is_unanswered = False
        """Whether the editor has not answered the last edit in time."""

    # The reply.

    async def take(self, events: Sequence[ParserEvent]) -> None:
        """Process finished hunks, and report those that the parser dropped."""
        self._note_dropped(events)
        for event in events:
            if isinstance(event, HunkFinished):
                self._job.n_hunks += 1
                await self._route(self._plan(event.hunk))

    async def finish(self) -> None:
        """Do what had to wait for the end of the reply."""
        request = self._job.request
        if request.comment is not None and (self._job.n_applied or self._held_back):
            file = self.files[request.uri]
            planned, index = self._job.planned, self._job.n_hunks
            removal = comment_removal(request.comment, file.path, file.snapshot, planned, index)
            if removal is not None:
                self._job.n_hunks += 1
                await self._route(removal)
        while together := self._next_held_back():
            await self._deliver(together)

    def abandon(self, events: Sequence[ParserEvent]) -> None:
        """The job ended early: report truncated and held back hunks, with their text."""
        self._note_dropped(events)
        self._reject(self._held_back, "refused", "The job ended before its edits were sent together.")
        self._held_back.clear()

    def _note_dropped(self, events: Iterable[ParserEvent]) -> None:
        for event in events:
            if isinstance(event, HunkDropped):
                rejected = reject_dropped(event)
                if rejected.reason == "repeated":
                    self._job.notes.append(rejected.message)
                else:
                    self._job.rejected.append(rejected)

    # Plan.

    def _plan(self, hunk: Hunk) -> PlannedHunk | RejectedHunk:
        request = self._job.request
        edited = self.files[request.uri]
        snapshots = {file.path: file.snapshot for file in self.files.values()}
        region = edited.path, *(self._job.region or (request.first_line, request.end_line))
        resolved = resolve(hunk, snapshots, region)
        if isinstance(resolved, RejectedHunk):
            return resolved
        if request.comment is not None and resolved.path == edited.path:
            resolved = without_comment(resolved, request.comment, edited.snapshot.text)
        planned = plan(resolved, snapshots, region, self._job.planned)
        if isinstance(planned, RejectedHunk):
            return planned
        question = unasked_removal(
            planned, "\n".join((request.title, request.instruction, *request.diagnostics))
        )
        return msgspec.structs.replace(planned, question=question)

    # Now, or held back.

    async def _route(self, planned: PlannedHunk | RejectedHunk) -> None:
        if isinstance(planned, RejectedHunk):
            self._job.rejected.append(planned)
            return
        self._job.planned.append(planned)
        if not planned.edits:
            return
        file = self.files[planned.snapshot.uri]
        # A file that is not open has no change log to rebase over, so its hunks are sent as one edit; so are
        # those of a protected file, so that there is only one question. A question comes at the end.
        is_asked = self._confirm or file.protection or planned.question
        if file.document is not None and not is_asked:
            await self._deliver([planned])
        else:
            self._held_back.append(planned)

    def _next_held_back(self) -> list[PlannedHunk]:
        """The hunks to send together next: those of ordinary files, then those for which the user is asked
        separately: of each protected file, and each that needs a question of its own."""

        def question(one: PlannedHunk) -> str:
            own = f"{one.hunk.index} of {one.snapshot.uri}" if one.question else ""
            return one.snapshot.uri if self.files[one.snapshot.uri].protection else own

        first = min(map(question, self._held_back), key=bool, default="")
        together = [one for one in self._held_back if question(one) == first]
        self._held_back = [one for one in self._held_back if question(one) != first]
        return together

    # Deliver.

    async def _deliver(self, hunks: Sequence[PlannedHunk]) -> None:
        """Deliver hunks and record the result. If the job is cancelled meanwhile, this waits for the editor's
        answer for at most 2 s after that."""
        hunks = await self._current(hunks)
        if not hunks:
            return
        # Once the edit was sent, its result is waited for, so that it can be reverted.
        async with shielded_for(_LAST_EDIT_S):
            try:
                await self._send(hunks)
            except anyio.get_cancelled_exc_class():
                message = f"The job was cancelled before the editor answered; {MAY_BE_THERE}"
                self._reject(hunks, "refused", message)
                raise

    async def _current(self, hunks: Sequence[PlannedHunk]) -> list[PlannedHunk]:
        """The hunks that can be sent; rejects the others."""
        if self._is_unanswered:
            message = "The editor has not answered an edit before this one; nothing was written."
            self._reject(hunks, "refused", message)
            return []
        current: list[PlannedHunk] = []
        n_looked = 0
        try:
            for hunk in hunks:
                problem = await self._why_outdated(hunk.snapshot.uri)
                if problem:
                    self._reject([hunk], "stale", f"{problem}; nothing was written.")
                else:
                    current.append(hunk)
                n_looked += 1
        except anyio.get_cancelled_exc_class():
            message = "The job was cancelled before this hunk was sent; nothing was written."
            self._reject([*current, *hunks[n_looked:]], "refused", message)
            raise
        return current

    async def _why_outdated(self, uri: str) -> str:
        """Why a file that was not open differs from what the model saw; empty if it does not.

        If it was opened in the meantime, it is edited as a document from now on.
        """
        file = self.files[uri]
        if file.document is not None:
            return ""
        text, is_allowed = await in_thread(lambda: (_text_now(uri), self._is_allowed(uri)))
        document = self._documents.get(uri)
        if document is not None:
            text = document.text
        if not is_allowed:
            return "A link leads out of the workspace now"
        if text != file.snapshot.text:
            return "The file was changed while the block was generated"
        if document is not None:
            self.files[uri] = msgspec.structs.replace(file, document=document, revision=document.revision)
        return ""

    async def _send(self, hunks: Sequence[PlannedHunk]) -> None:
        files = [self.files[hunk.snapshot.uri] for hunk in hunks]
        is_question = any(file.protection for file in files) or any(hunk.question for hunk in hunks)
        confirm = self._confirm or is_question
        self._job.was_asked = self._job.was_asked or confirm
        # A file may have been opened under another URI.
        uris = [file.snapshot.uri for file in files]
        uris += (file.document.uri for file in files if file.document is not None)
        # The user may need long for a confirmation; no other edit waits for that.
        async with contextlib.nullcontext() if confirm else self._reviews.sending(uris):
            delivery = await deliver(
                hunks,
                self.files,
                self._editor,
                self._documents.encoding,
                self._job.request.title,
                confirm=confirm,
                is_cancelled=self._is_cancelled,
                on_late=self._take_late,
            )
            self._is_unanswered = delivery.is_unanswered
            self._record(delivery)

    # Record.

    def _record(self, delivery: Delivery) -> None:
        job = self._job
        for applied in delivery.applied:
            self._reviews.add(job.id, applied)
        job.n_applied += delivery.n_applied
        job.applied += delivery.applied
        job.rejected += delivery.rejected
        job.mismatches += delivery.mismatches
        note_unseen(job, delivery.applied)

    def _reject(self, hunks: Iterable[PlannedHunk], reason: RejectReason, message: str) -> None:
        self._job.rejected += (RejectedHunk(one.hunk, reason, message) for one in hunks)

    # An edit that was not answered in time.

    def _take_late(self, sent: Sent, hunks: Sequence[PlannedHunk]) -> None:
        self._is_unanswered = False
        if not sent.is_applied:
            return
        delivery = delivery_of(sent, hunks)
        ours = [one.hunk for one in hunks]
        self._job.rejected = [one for one in self._job.rejected if one.hunk not in ours]
        self._record(delivery)
        self.on_late()
        for mismatch in delivery.mismatches:
            self._editor.say("warning", f"singlepass: {mismatch}")
        if delivery.applied:
            self._editor.log(f"{self._job.request.title}: an edit was applied late; it is in review")


def _text_now(uri: str) -> str | None:
    """The text of a file that is not open; None if it cannot be read."""
    try:
        return read_source(uri)
    except UserError:
        return None
