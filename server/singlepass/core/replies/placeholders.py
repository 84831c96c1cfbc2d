"""Placeholders: lines that stand for code which a model did not repeat, such as `# ... existing code ...`.

Their wording varies, so they are recognized by shape: a line that is only a comment, or words in brackets or
between dots. Some certainly mean that code is left out (`CERTAIN`). Others may be ordinary comments, and
count as placeholders only if code is removed: `# same as above` if more lines are removed than added
(`LIKELY`), `# same order as above` if nothing new is added at all (`POSSIBLE`).
"""

import re
from enum import IntEnum


class Doubt(IntEnum):
    """How certain it is that a line is a placeholder."""

    NONE = 0
    POSSIBLE = 1
    LIKELY = 2
    CERTAIN = 3


_MOST_CHARS = 200
"""Longer lines are not placeholders."""
_MOST_WORDS = 4
"""Maximum number of words of a comment with dots for which one cue is enough to make it a placeholder."""

_MARKS = ("{/*", "<!--", "//", "/*", "(*", '"""', "'''", "--", "#", ";", "%", "*")
_ENDS = ("*/}", "*/", "-->", "*)", '"""', "'''")
_GLUED = ("--", "#", ";", "%", "*")
"""Comment marks that have another meaning in code if a word follows without a space."""
_BRACKETS = {"(": ")", "[": "]", "{": "}", "<": ">"}
_FRAME = " \t()[]{}<>-=*#/~_–—!"
"""Characters with which models frame the words."""
_INLINE = re.compile(r"(?:^|[\s{}()>;,])(?:#|//|/\*|\{/\*|<!--|--)(?=[\s.…(\[])")
_NO_STATEMENT = frozenset({"", "pass", "...", "return", "{", "}", "{}", "null", "None", "continue"})
"""Code before a comment that does nothing by itself."""
_WORD = re.compile(r"[\w'’]+")
_PLAIN = re.compile(r"[\w\s'’.,:;…()\[\]{}<>*#/=~!–—+&-]*")
_DOTTED_BODY = re.compile(r"(?<![\"'`])\{ ?(?:\.{3}|…) ?\}[;,)\]]*$")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_GAPS = _words("rest remainder unchanged unmodified omitted truncated snip snipped elided")
"""Words that mean by themselves that code is left out."""
_CODE = _words("code implementation implementations logic body content contents")
_THERE = _words("existing remaining")
_PARTS = _words(
    "function functions method methods class classes file files module import imports line lines definition "
    "definitions component components route routes field fields test tests block jsx html markup"
)
_CUES = (
    _GAPS
    | _THERE
    | _words("same other others previous previously original above below before earlier continue continues")
    | _words("continued etc more here untouched everything")
    | _words(
        "reste inchangé inchangée unverändert unveränderter übrige gleich bestehender resto igual cambios"
    )
)
_OTHER_SCRIPTS = (
    "其余",
    "剩余",
    "现有",
    "省略",
    "不变",
    "同上",
    "原有",
    "既存",
    "残り",
    "変更なし",
    "остальн",
    "без измен",
)
"""Cues in languages without spaces or with many inflections, searched as parts of words."""
_TALK = (
    _CUES
    | _CODE
    | _PARTS
    | _words(
        "section sections switch case cases handler handlers step steps prop props template style styles"
    )
    | _words(
        "rule rules statement statements option options item items entry entries element elements column"
    )
    | _words("columns attribute attributes property properties variables constants declarations setup script")
    | _words("program document text loop the all any your my our this that these those and or of in with for")
    | _words(
        "from as is are be to keep keeps kept stay stays remain remains go goes todo note insert add leave"
    )
    | _words("left its it brevity now no change changes nothing so on would should will everything else up")
)
"""Words of which sentences about omitted code consist."""


def doubt(line: str) -> Doubt:
    """How certain it is that a line is a placeholder. Lines with only dots are not judged here, because in
    Python they may be a body."""
    bare = line.strip()
    if not bare or len(bare) > _MOST_CHARS:
        return Doubt.NONE
    if (text := _comment(bare)) is not None:
        found = _of_comment(text)
        # A line of a docstring is not a placeholder if there is only a weak cue.
        return Doubt.NONE if found is Doubt.POSSIBLE and bare[0] in "\"'" else found
    found = Doubt.NONE
    if _BRACKETS.get(bare[0]) == bare[-1] or _dots(bare) != (False, False):
        found = _of_text(bare)
    if _DOTTED_BODY.search(bare):
        found = Doubt.CERTAIN
    if inline := _INLINE.search(bare):
        beside = _of_comment(bare[inline.end() :])
        is_empty = bare[: inline.start()].strip(" \t;") in _NO_STATEMENT
        found = max(found, beside if beside is Doubt.CERTAIN or is_empty else Doubt.NONE)
    return found


def is_comment(line: str) -> bool:
    """Whether the line is only a comment."""
    return comment_text(line) is not None


def comment_text(line: str) -> str | None:
    """The text of a line that is only a comment; None for other lines."""
    text = _comment(line.strip())
    return None if text is None else text.strip()


def is_dots(line: str) -> bool:
    """Whether the line consists of dots."""
    bare = line.strip()
    return not bare.strip(".…") and (len(bare) > 2 or "…" in bare)


def _comment(bare: str) -> str | None:
    """The text of a stripped line that is a comment; None for other lines."""
    mark = next((one for one in _MARKS if bare.startswith(one)), None)
    if mark is None:
        return None
    text = bare.removeprefix(mark).lstrip(mark[-1])
    for end in _ENDS:
        text = text.removesuffix(end)
    is_glued = mark in _GLUED and text[:1].isalnum()
    if is_glued and (" " not in text or not all(one.isalpha() or one in " .…" for one in text)):
        return None
    if mark == "*" and len(_WORD.findall(text)) < 2 and _dots(text) == (False, False):
        return None  # a factor in a multiplication
    return text


def _dots(text: str) -> tuple[bool, bool]:
    """Whether there are dots before the words, and after them."""
    inner = text.strip(_FRAME)
    return inner.startswith(("..", "…")), inner.endswith(("..", "…"))


def _of_comment(text: str) -> Doubt:
    words = _WORD.findall(text.casefold())
    in_front, behind = _dots(text)
    if in_front and behind:
        return Doubt.CERTAIN
    if not words:
        return Doubt.NONE
    if _is_gap(words, text):
        return Doubt.CERTAIN
    has_cue = not _CUES.isdisjoint(words) or {"so", "on"} <= {*words}
    if in_front or behind:
        is_short = has_cue and words[0] in _TALK and len(words) <= _MOST_WORDS
        return Doubt.CERTAIN if is_short else Doubt.LIKELY
    if any(cue in text.casefold() for cue in _OTHER_SCRIPTS):
        return Doubt.LIKELY
    if not has_cue:
        return Doubt.NONE
    return Doubt.LIKELY if _TALK.issuperset(words) else Doubt.POSSIBLE


def _of_text(bare: str) -> Doubt:
    """The doubt about words in brackets or between dots, which may be code."""
    words = _WORD.findall(bare.casefold())
    in_front, behind = _dots(bare)
    if not words:
        return Doubt.CERTAIN if bare[0] in _BRACKETS and is_dots(bare[1:-1]) else Doubt.NONE
    inner = bare.strip(_FRAME)
    if inner[0] in "'’" or not all(one.isalnum() or one in " '’.…" for one in inner):
        return Doubt.NONE
    if in_front and behind:
        return Doubt.CERTAIN
    if len(words) < 2 or not _TALK.issuperset(words):
        return Doubt.POSSIBLE if len(words) > 2 and not _GAPS.isdisjoint(words) else Doubt.NONE
    if _is_gap(words, bare):
        return Doubt.CERTAIN
    return Doubt.NONE if _CUES.isdisjoint(words) else Doubt.LIKELY


def _is_gap(words: list[str], text: str) -> bool:
    """Whether the words are only about omitted code."""
    found = {*words}
    if not _TALK.issuperset(found) or _PLAIN.fullmatch(text) is None:
        return False
    if found & _GAPS:
        return len(found - {"the", "all", "and"}) > 1 or found.isdisjoint(("rest", "remainder"))
    if found & _CODE:
        return not found.isdisjoint(_CUES)
    return bool(
        (found & _THERE and found & _PARTS)
        or ("same" in found and found & {"stays", "stay", "remains", "remain", "is", "are", "before"})
        or ("no" in found and found & {"change", "changes"})
    )
