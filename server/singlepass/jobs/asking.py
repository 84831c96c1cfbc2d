"""How a job asks the model: the form of the answer, and with it prompt, grammar, draft and parser."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import msgspec
from singlepass_backends.base import GenerateRequest, ModelInfo, Sampling

from singlepass.core.actions import CommentTask
from singlepass.core.context import Context
from singlepass.core.diff_parser import DiffParser, ParserEvent
from singlepass.core.fences import fence_for
from singlepass.core.grammar import marker_size
from singlepass.core.lines import visible_lines
from singlepass.core.prompt import Task, expect_reply, render_prompt
from singlepass.core.rewriting import (
    RewriteParser,
    expect_rewrite,
    may_be_empty,
    most_tokens,
    region_to_rewrite,
    rewrite_grammar,
)
from singlepass.engines.contexts import MIN_REPLY_TOKENS, bounds_for, encodable, grammar_for


class Parser(Protocol):
    """Reads a reply: pieces of text in, events out."""

    def feed(self, chunk: str) -> list[ParserEvent]: ...

    def close(self, complete: bool = True) -> list[ParserEvent]: ...


class EngineRequest(NamedTuple):
    """A request to the engine, with the parser for its reply."""

    request: GenerateRequest
    parser: Parser
    region: tuple[int, int] | None
    """The lines to be rewritten, end exclusive; None if the answer is edit blocks."""


def build_request(
    context: Context,
    task: Task,
    info: ModelInfo,
    *,
    comment: CommentTask | None = None,
    is_one_file: bool = True,
    max_tokens: int = 4096,
    sampling: Sampling,
    draft_corpus: Callable[[Context], tuple[str, ...]] = lambda _: (),
) -> EngineRequest:
    """Build the request for a task: a rewrite if the context allows it and there is a region, otherwise edit
    blocks.

    `is_one_file` is whether the user named no further files. For a long file this takes 0.1 s.
    """
    lines = visible_lines(context.edited.text)
    region = _region(lines, task, comment) if context.may_rewrite and is_one_file else None
    task = msgspec.structs.replace(task, region=region)
    size = marker_size([*context.editable, *context.editable.values()])
    corpus = draft_corpus(context)
    if region is None:
        grammar = grammar_for(context, info, task.first_line, task.end_line)
        is_constrained = grammar is not None and info.always_constrains
        draft = expect_reply(context, task, size, corpus)
        parser = DiffParser(size, context.editable, is_constrained=is_constrained)
    else:
        old = lines[slice(*region)]
        fence = fence_for(old)
        max_tokens = min(max_tokens, most_tokens(old))
        grammar = None
        if info.constrains:
            is_free = may_be_empty(" ".join((task.instruction, *task.diagnostics)))
            grammar = rewrite_grammar(task.path, fence, bounds_for(info), may_be_empty=is_free)
        is_constrained = grammar is not None and info.always_constrains
        draft = expect_rewrite(lines, region, task.path, fence, corpus)
        parser = (
            RewriteParser(task.path, old, fence) if is_constrained else DiffParser(size, context.editable)
        )
    request = GenerateRequest(
        segments=encodable(render_prompt(context, task, size)),
        grammar=grammar,
        max_tokens=max_tokens,
        min_reply=min(max_tokens, MIN_REPLY_TOKENS, info.n_ctx // 4),
        sampling=sampling,
        draft=draft,
    )
    return EngineRequest(request, parser, region)


def _region(lines: Sequence[str], task: Task, comment: CommentTask | None) -> tuple[int, int] | None:
    first, end = task.first_line, task.end_line
    is_at_comment = comment is not None and comment.start <= first and end <= comment.end
    around = bool(task.diagnostics) or is_at_comment
    return region_to_rewrite(lines, first, end, task.instruction, around=around)
