"""The offers of the code action menu, as data: an action is a title and an instruction for the model.

There are three sources: the built-in actions, the user's own actions from the settings, and the document:
diagnostics, and comments that start with `AI:` or `singlepass:`. Such comments allow free-form instructions
in every LSP editor without a plugin.
"""

import re
from collections.abc import Sequence
from itertools import islice

import msgspec

from singlepass.core.inert import inert

_TITLE_CHARS = 70
_TITLE_SOURCE_CHARS = 1_000
"""Number of characters of a text from which a title is made."""
_LONGEST_MESSAGE = 20_000
"""Maximum number of characters that are read of a message in Markdown."""


def shown_title(text: str) -> str:
    """A title from untrusted text: one short line, made inert."""
    line = " ".join(inert(text.lstrip()[:_TITLE_SOURCE_CHARS]).split())
    if len(line) <= _TITLE_CHARS:
        return line
    # A colon at the end could turn the text before it into a link.
    return line[: _TITLE_CHARS - 1].rstrip(":") + "…"


class Action(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One entry of the code action menu. Its title is inert, wherever it is shown."""

    title: str
    instruction: str
    kind: str = "refactor.rewrite"
    """An LSP CodeActionKind."""
    languages: tuple[str, ...] = ()
    """LSP language identifiers the action is for; empty means all."""

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "title", shown_title(self.title))


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
    """The actions to offer for a language: the user's own first, then the built-in ones."""
    return [
        action for action in (*own, *BUILTIN_ACTIONS) if not action.languages or language in action.languages
    ]


def action_name(title: str, kind: str, own: Sequence[Action]) -> str:
    """The name under which similar requests are grouped: an action's title, `quickfix`, or empty for a
    free-form instruction."""
    if kind == "quickfix":
        return kind
    return title if any(action.title == title for action in (*own, *BUILTIN_ACTIONS)) else ""


def fix_instruction(messages: Sequence[str]) -> str:
    """The instruction of a quick fix, for the messages of one or more diagnostics."""
    return "Fix this problem with the smallest change that is right: " + " ".join(messages)


def problem_of(message: str, source: str | None, code: int | str | None, line: int) -> str:
    """A description of a diagnostic: its message, or else its source, code or line. `line` counts from 0."""
    if message.strip():
        return message.strip()
    name = " ".join(str(part) for part in (source, code) if part not in (None, ""))
    return name or f"the problem on line {line + 1:,}"


# Markdown's markup around words. Underscores are kept: in messages they are part of names.
_FENCE = re.compile(r"^[ \t]*(?:`{3,}|~{3,}).*$", re.MULTILINE)
_LINE_START = re.compile(r"^[ \t]*(?:#{1,6}[ \t]+|>[ \t]?|[-*+][ \t]+)", re.MULTILINE)
_LINK = re.compile(r"!?\[([^\[\]\n]*)\]\([^()\n]*\)")
_CODE = re.compile(r"(?<!`)(`{1,3})([^`\n]+)\1(?!`)")
_EMPHASIS = re.compile(r"(?<![\w\\*~])(\*\*|~~|\*)(?=\S)([^*~\n]*[^*~\s\\])\1(?![\w*~])")
_ESCAPE = re.compile(r"\\([!-/:-@\[-`{-~])")


def plain_text(markdown: str) -> str:
    """The text of a short Markdown text, without markup."""
    text = _LINE_START.sub("", _FENCE.sub("", markdown[:_LONGEST_MESSAGE]))
    text = _EMPHASIS.sub(r"\2", _CODE.sub(r"\2", _LINK.sub(r"\1", text)))
    return _ESCAPE.sub(r"\1", text).strip()


class CommentTask(msgspec.Struct, frozen=True):
    """A comment that asks for an edit, with its lines (0-based, `end` exclusive)."""

    start: int
    end: int
    instruction: str


# Comment openers of common languages. Vim's needs a blank after it, since strings start with the same
# character.
_COMMENT = re.compile(
    r"\s*(?P<opener><!--|//[/!]?|/\*+(?!/)|#+|-{2,}|;+|%+|\"(?=[ \t][^\"]*$)|\*(?!/))[ \t]?(?P<body>.*)$"
)
_REQUEST = re.compile(r"\s*(?:AI|singlepass):\s*(?P<instruction>.*)$")
_STAR = re.compile(r"\s*\*(?!/)[ \t]?")
_NEAR_LINES = 3
_LONGEST_REQUEST = 40
"""Number of lines before the nearest ones that are searched for the start of a request."""
_LONGEST_COMMENT = 400
"""Maximum number of lines in which the end of a block comment is searched for."""
_MOST_REQUESTS = 200
"""Maximum number of lines that are checked for the start of a request; for a larger selection there is no
request."""


def find_comment_task(lines: Sequence[str], first: int, last: int) -> CommentTask | None:
    """The request nearest to lines `first`..`last` (0-based, inclusive), at most three lines away.

    A request has its lines to itself, since they are removed with it. It continues over the lines of the same
    comment directly below it, up to an empty line or another request.
    """
    starts = range(max(0, first - _NEAR_LINES - _LONGEST_REQUEST), min(len(lines), last + _NEAR_LINES + 1))
    asking = (line for line in starts if "AI:" in lines[line] or "singlepass:" in lines[line])
    nearest, least = None, _NEAR_LINES + 1
    for line in islice(asking, _MOST_REQUESTS):
        task = _task_at(lines, line)
        distance = max(task.start - last, first - (task.end - 1), 0) if task is not None else least
        if distance < least:
            nearest, least = task, distance
        if not least:
            break
    return nearest


def _task_at(lines: Sequence[str], start: int) -> CommentTask | None:
    comment = _COMMENT.match(lines[start])
    request = comment and _REQUEST.match(comment["body"])
    if not comment or not request:
        return None
    opener, instruction = comment["opener"], request["instruction"]
    if opener == "<!--":
        return _block_task(lines, start, instruction, "-->")
    if opener.startswith("/*"):
        return _block_task(lines, start, instruction, "*/")
    if opener == "*" and "*/" in instruction:
        return None  # its line also closes a comment that an earlier line opened
    parts = [instruction]
    end = start + 1
    while end < len(lines):
        following = _COMMENT.match(lines[end])
        if following is None or following["opener"] != opener or _REQUEST.match(following["body"]):
            break
        if not following["body"].strip() or (opener == "*" and "*/" in following["body"]):
            break
        parts.append(following["body"])
        end += 1
    return _task(start, end, parts)


def _block_task(lines: Sequence[str], start: int, instruction: str, closer: str) -> CommentTask | None:
    """A request that opens a block comment. It ends with the comment; text after an empty line is not part of
    the instruction. None if code follows the comment on its last line."""
    parts: list[str] = []
    is_over = False
    for end in range(start, min(len(lines), start + _LONGEST_COMMENT)):
        body = instruction if end == start else _STAR.sub("", lines[end])
        body, closed, code = body.partition(closer)
        # Another request in the same comment cannot be removed alone.
        is_over = is_over or not body.strip() or (end > start and _REQUEST.match(body) is not None)
        if not is_over:
            parts.append(body)
        if closed:
            return None if code.strip() else _task(start, end + 1, parts)
    return None


def _task(start: int, end: int, parts: Sequence[str]) -> CommentTask | None:
    instruction = " ".join(part.strip() for part in parts if part.strip())
    return CommentTask(start, end, instruction) if instruction else None
