"""Lines of a reply that are no code: they were meant for the reader, and would be written into the file.

A model puts a fence around the new lines, or a comment in place of code that it did not repeat. Where the old
lines and the document have no such line, the block is not what its author means to stand there.
"""

import re
from collections.abc import Sequence

from singlepass.core.habits import is_fence
from singlepass.core.line_diff import changed_blocks

_PROSE = (".md", ".markdown", ".mdx", ".rst", ".adoc", ".txt", ".qmd", ".rmd", ".tex", ".org")
"""Endings of files in which fences, and dots in place of text, are text."""

_COMMENT = r"(?:#+|//+|/\*+|<!--|--+|;+|%+|\{/\*|\*|\"\"\")"
_DOTS = r"(?:\.{3,}|…)"
_CODE = (
    r"(?:(?:code|functions?|methods?|class(?:es)?|files?|implementations?|logic|body|lines?|imports?|contents?|"
    r"definitions?|components?|routes?|fields?|tests?)\b[ ,/&]*(?:and )?)+"
)
_SAME = (
    r"(?:\s*(?:here|as before|as is|(?:(?:goes?|stays?|remains?|continues?|is|are)\s+)?"
    r"(?:here|the same|unchanged|as before|as is|omitted(?: for brevity)?)))?"
)
_PHRASE = (
    rf"(?:(?:the |all |any )?(?:rest|remainder)(?: of)?(?: (?:the|your|this))?(?: {_CODE})?{_SAME}"
    rf"|(?:the |all |any |your |and )*"
    rf"(?:existing|remaining|previous|original|unchanged|other|same) {_CODE}{_SAME}"
    rf"|(?:no changes?|unchanged|same as (?:before|above)|as before)(?: here| below| above)?"
    rf"|(?:the )?(?:{_CODE})?"
    rf"(?:omitted|truncated|snip(?:ped)?|stays? the same|remains? (?:the same|unchanged))"
    rf"(?: for brevity)?"
    rf"|(?:your |the )?code (?:goes )?here)"
)
_ELISION = re.compile(
    rf"\s*{_COMMENT}\s*[(\[]?\s*(?:"
    # `# ...` or `# ... whatever ...`; `// ... rest of the function` or `# existing code`.
    rf"{_DOTS}(?:[^.…]*{_DOTS})?"
    rf"|(?:{_DOTS}\s*[(\[]?\s*)?(?:and |keep )?{_PHRASE}\s*(?:{_DOTS}|\.)?"
    rf")\s*[)\]]?\s*(?:\*/\}}?|-->|\"\"\")?\s*",
    re.IGNORECASE,
)
_DOCSTRING_END = re.compile(r"(?:\"\"\"|''')\s*$|^\s*[ru]?([\"']).*\1\s*$", re.IGNORECASE)
_DEFINITION = re.compile(r"\s*(?:(?:async\s+)?def\b|class\b|\)).*:\s*(?:#.*)?$")
_BARE = re.compile(rf"\s*{_DOTS}\s*")


def stray(old: Sequence[str], new: Sequence[str], document: Sequence[str], path: str) -> str | None:
    """Why the new lines must not be written, in words for the user; None where nothing speaks against
    them."""
    text = [n for n, line in enumerate(new) if line.strip()]
    is_prose = path.casefold().endswith(_PROSE)
    known: set[str] | None = None
    for n in text:
        line = new[n].strip()
        if not (is_fence(line) or is_elision(new[n], path, new[:n], new[n + 1 :]) or _swallows(old, new, n)):
            continue
        known = known if known is not None else {one.strip() for one in (*old, *document)}
        if line in known or (is_prose and not line.startswith("<!--")):
            continue
        if is_fence(line):
            if n in (text[0], text[-1]):
                return f"Among its new lines is a fence of Markdown, “{line}”."
        else:
            return f"It has a placeholder where code is left out, “{line}”."
    return None


def _swallows(old: Sequence[str], new: Sequence[str], n: int) -> bool:
    """Whether dots that may be a body stand for several lines, which a model rather left out."""
    if not _BARE.fullmatch(new[n]):
        return False
    blocks = changed_blocks([*map(str.rstrip, old)], [*map(str.rstrip, new)])
    a, b, c, d = next(((a, b, c, d) for a, b, c, d in blocks if c <= n < d), (0, 0, 0, 0))
    n_gone, n_new = (sum(bool(one.strip()) for one in lines) for lines in (old[a:b], new[c:d]))
    return n_gone - (n_new - 1) > 1


def is_elision(line: str, path: str, before: Sequence[str] = (), after: Sequence[str] = ()) -> bool:
    """Whether a line stands for code that was not written. `before` and `after` are the lines around it."""
    if not _BARE.fullmatch(line):
        return _ELISION.fullmatch(line) is not None
    if not path.endswith((".py", ".pyi")):
        return True
    # In Python `...` is a body: below a definition or its docstring, with nothing beside it.
    above = next((one for one in reversed(before) if one.strip()), "")
    below = next((one for one in after if one.strip()), "")
    depth, depth_above, depth_below = (len(one) - len(one.lstrip()) for one in (line, above, below))
    begins_block = depth_above < depth and _DEFINITION.match(above) is not None
    follows_docstring = depth_above == depth and _DOCSTRING_END.search(above) is not None
    is_body = not above or begins_block or follows_docstring
    return not is_body or (bool(below) and depth_below >= depth)
