"""What the code action menu offers, as data: an action is a title and an instruction for the model.

Three sources meet here: the built-in rewrites, the user's own actions from settings, and what the document
itself asks for: its diagnostics, and comments that start with `AI:` or `singlepass:`. The comment is how
every LSP editor gets free-form instructions without a plugin.
"""

import re
from collections.abc import Sequence

import msgspec


class Action(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One entry of the code action menu."""

    title: str
    instruction: str
    kind: str = "refactor.rewrite"
    """An LSP CodeActionKind."""
    languages: tuple[str, ...] = ()
    """LSP language identifiers the action is for; empty means all."""


BUILTIN_ACTIONS: tuple[Action, ...] = (
    Action(
        "Simplify",
        "Simplify the selected code. Keep its behaviour, its names and its public interface.",
    ),
    Action(
        "Add docstrings",
        "Add a short documentation comment, in the style this file uses, to every selected function, method "
        "and class that has none. Change nothing else.",
    ),
    Action(
        "Add type annotations",
        "Add type annotations to the parameters and return values of the selected functions, and the imports "
        "they need. Change nothing else.",
        languages=("python", "typescript", "typescriptreact", "ruby", "lua", "php"),
    ),
    Action(
        "Add error handling",
        "Handle the errors that the selected code can meet, in the way this file does it elsewhere. Do not "
        "hide errors.",
    ),
    Action(
        "Extract function",
        "Extract the selected code into a well-named function and call it in its place.",
        kind="refactor.extract",
    ),
)


def actions_for(language: str, own: Sequence[Action]) -> list[Action]:
    """The rewrites to offer for a language: the user's own first, then the built-in ones."""
    return [
        action for action in (*own, *BUILTIN_ACTIONS) if not action.languages or language in action.languages
    ]


def fix_instruction(messages: Sequence[str]) -> str:
    """The instruction of a quick fix, for the messages of one or more diagnostics."""
    return "Fix this problem with the smallest change that is right: " + " ".join(messages)


class CommentTask(msgspec.Struct, frozen=True):
    """A comment that asks for an edit, by the lines it stands on (0-based, `end` exclusive)."""

    start: int
    end: int
    instruction: str


# Comment openers of the languages people edit; a longer one must stand before its own prefix.
_COMMENT = re.compile(r"\s*(?P<opener><!--|//[/!]?|/\*+|#+|--|;+|%+|\"|\*(?!/))[ \t]?(?P<body>.*)$")
_REQUEST = re.compile(r"\s*(?:AI|singlepass):\s*(?P<instruction>.*)$")
_CLOSER = re.compile(r"\s*(\*/|-->)\s*$")
_NEAR_LINES = 3


def find_comment_task(lines: Sequence[str], first: int, last: int) -> CommentTask | None:
    """The request nearest to lines `first`..`last` (0-based, inclusive), at most three lines away.

    A request continues over the comment lines directly below it, up to an empty comment or another request.
    """
    starts = range(max(0, first - _NEAR_LINES), min(len(lines), last + _NEAR_LINES + 1))
    tasks = (task for line in starts if (task := _task_at(lines, line)) is not None)

    def distance(task: CommentTask) -> int:
        return max(task.start - last, first - (task.end - 1), 0)

    return min(tasks, key=distance, default=None)


def _task_at(lines: Sequence[str], start: int) -> CommentTask | None:
    comment = _COMMENT.match(lines[start])
    request = comment and _REQUEST.match(comment["body"])
    if not comment or not request:
        return None
    parts = [_CLOSER.sub("", request["instruction"])]
    end = start + 1
    closed = comment["opener"] in ("<!--", "/*", "/**") and _CLOSER.search(lines[start]) is not None
    while not closed and end < len(lines):
        more = _CLOSER.fullmatch(lines[end])
        if more and comment["opener"].startswith(("<!--", "/*")):
            end += 1
            break
        following = _COMMENT.match(lines[end])
        if comment["opener"] == "<!--" and following is None:
            body = lines[end]
        elif following is None or _REQUEST.match(following["body"]):
            break
        else:
            body = following["body"]
        if not body.strip():
            break
        closed = comment["opener"].startswith(("<!--", "/*")) and _CLOSER.search(body) is not None
        parts.append(_CLOSER.sub("", body))
        end += 1
    instruction = " ".join(part.strip() for part in parts if part.strip())
    return CommentTask(start, end, instruction) if instruction else None
