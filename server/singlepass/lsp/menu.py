"""Code actions, with their estimated times, and code lenses."""

from collections.abc import Iterator, Mapping
from typing import Any, cast

import msgspec
from lsprotocol import types as lsp

from singlepass.core.actions import actions_for, fix_instruction, problem_of, shown_title
from singlepass.editor.documents import Document
from singlepass.editor.positions import lines_of, lines_to_json, message_of, plain, range_to_lsp
from singlepass.lsp.commands import COMMAND_EDIT, COMMAND_KEEP, COMMAND_REPLY, COMMAND_UNDO, comment_near
from singlepass.lsp.parts import Parts

_SHOW_REPLY = "Show what the model wrote"


class Menu:
    """Code actions and code lenses at a position. Computed at once: nothing here waits."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def actions(self, params: lsp.CodeActionParams) -> list[lsp.CodeAction | lsp.Command]:
        """The actions on the selected lines. The user may choose one, so the document is prewarmed."""
        document = self._parts.documents.get(params.text_document.uri)
        if document is None or not self._parts.editor.capabilities.apply_edit:
            return []
        self._parts.prewarm.document(document.uri)
        first, end = lines_of(params.range)
        base = {"uri": document.uri, "range": lines_to_json(first, end)}
        offers = [
            *self._quick_fixes(params, base),
            *_comment_offers(document, first, max(first, end - 1), base),
            *(
                _Offer(action.title, action.kind, {**base, "instruction": action.instruction})
                for action in actions_for(document.language, self._parts.settings.actions)
            ),
        ]
        only = [str(getattr(kind, "value", kind)) for kind in params.context.only or ()]
        suffix = self._parts.forecast.titles(document.uri, first, end)
        return [
            self._encode(offer, suffix(offer.title, offer.kind))
            for offer in offers
            if not only or any(kind in ("", offer.kind) or offer.kind.startswith(f"{kind}.") for kind in only)
        ] + ([] if only and "quickfix" not in only else [*self._replies_to_show(params)])

    def _quick_fixes(self, params: lsp.CodeActionParams, base: Mapping[str, Any]) -> Iterator["_Offer"]:
        for diagnostic in params.context.diagnostics:
            if diagnostic.source == "singlepass":
                continue
            line = diagnostic.range.start.line
            what = problem_of(message_of(diagnostic), diagnostic.source, diagnostic.code, line)
            yield _Offer(
                f"Fix: {shown_title(what)}",
                "quickfix",
                {
                    **base,
                    "instruction": fix_instruction([what]),
                    "diagnostics": [f"line {line + 1}: {what}"],
                    "range": lines_to_json(*lines_of(diagnostic.range)),
                },
                diagnostic,
            )

    def _replies_to_show(self, params: lsp.CodeActionParams) -> Iterator[lsp.CodeAction | lsp.Command]:
        """For our diagnostics about rejected hunks: an action that shows the model's reply."""
        if not self._parts.editor.capabilities.show_document:
            return
        for diagnostic in params.context.diagnostics:
            data = plain(diagnostic.data)
            if diagnostic.source != "singlepass" or not isinstance(data, dict) or "old" not in data:
                continue
            job = cast("Mapping[str, Any]", data).get("job")
            command = lsp.Command(_SHOW_REPLY, COMMAND_REPLY, arguments=[{"job": job}])
            if not self._parts.editor.capabilities.action_literals:
                yield command
            else:
                yield lsp.CodeAction(_SHOW_REPLY, kind="quickfix", diagnostics=[diagnostic], command=command)
            return

    def _encode(self, offer: "_Offer", estimate: str) -> lsp.CodeAction | lsp.Command:
        arguments = {**offer.arguments, "title": offer.title, "kind": offer.kind}
        title = offer.title + estimate
        command = lsp.Command(title, COMMAND_EDIT, arguments=[arguments])
        capabilities = self._parts.editor.capabilities
        if not capabilities.action_literals:
            return command
        return lsp.CodeAction(
            title,
            kind=offer.kind,
            diagnostics=[offer.diagnostic] if offer.diagnostic else None,
            command=command,
            tags=[lsp.CodeActionTag.LlmGenerated] if capabilities.action_tags else None,
        )

    def lenses(self, params: lsp.CodeLensParams) -> list[lsp.CodeLens]:
        """Lenses to keep and undo, above each hunk; above the first of several also for all of the
        document."""
        if not (self._parts.settings.code_lenses and self._parts.editor.capabilities.lenses):
            return []
        uri = params.text_document.uri
        index, hunks = self._parts.reviews.listed(uri)
        lenses: list[lsp.CodeLens] = []
        for hunk in hunks:
            place = range_to_lsp(index, hunk.start, hunk.start)
            what = "" if hunk.new else " deletion"  # of which nothing is to be seen
            offers = [(f"Keep{what}", COMMAND_KEEP, {"hunk": hunk.id})]
            offers.append((f"Undo{what}", COMMAND_UNDO, {"hunk": hunk.id}))
            if hunk is hunks[0] and len(hunks) > 1:
                offers += [("Keep all", COMMAND_KEEP, {"uri": uri}), ("Undo all", COMMAND_UNDO, {"uri": uri})]
            lenses += (
                lsp.CodeLens(place, lsp.Command(title, command, arguments=[arguments]))
                for title, command, arguments in offers
            )
        return lenses


class _Offer(msgspec.Struct, frozen=True):
    title: str
    kind: str
    arguments: dict[str, Any]
    diagnostic: lsp.Diagnostic | None = None


def _comment_offers(document: Document, first: int, last: int, base: Mapping[str, Any]) -> list[_Offer]:
    task = comment_near(document, first, last)
    if task is None:
        return []
    arguments = {**base, "instruction": task.instruction, "comment": task.start}
    if base["range"]["start"] == base["range"]["end"]:
        arguments["range"] = lines_to_json(task.start, task.end)
    return [_Offer(f"Do: {shown_title(task.instruction)}", "refactor.rewrite", arguments)]
