"""What a model, a repository or a server wrote, shown to people: it may say anything and do nothing.

Messages and diagnostics are drawn by editors and terminals that we do not know. Some take `[text](command:…)`
for a button, some draw pictures from anywhere, terminals obey escapes. `inert` takes that from a text and
leaves its words. Code is not changed, but characters in it that nobody sees, or that turn round what is seen,
are found by `unseen`.
"""

import re
from collections import Counter
from collections.abc import Iterable

# Marks that turn the direction of text round, and characters without width or picture.
_UNSEEN_RANGES = (
    (0x00AD, 0x00AD),
    (0x034F, 0x034F),
    (0x061C, 0x061C),
    (0x115F, 0x1160),
    (0x17B4, 0x17B5),
    (0x180B, 0x180F),
    (0x200B, 0x200F),
    (0x202A, 0x202E),
    (0x2060, 0x206F),
    (0x3164, 0x3164),
    (0xFEFF, 0xFEFF),
    (0xFFA0, 0xFFA0),
    (0xFFF9, 0xFFFB),
    (0xE0000, 0xE01EF),
)
_UNSEEN = re.compile("[" + "".join(f"{chr(first)}-{chr(last)}" for first, last in _UNSEEN_RANGES) + "]")

# Control characters as their pictures; tabs and line feeds do no harm.
_CONTROL = {
    **{code: 0x2400 + code for code in range(0x20) if code not in (0x09, 0x0A)},
    0x7F: 0x2421,
    **dict.fromkeys(range(0x80, 0xA0), 0xFFFD),
    **dict.fromkeys(range(0xD800, 0xE000), 0xFFFD),
}
_LINK = re.compile(r"\](?=[(\[:])")
_SCHEME = re.compile(r"\b(command|javascript|vbscript):(?=\S)", re.IGNORECASE)
_TAG = re.compile(r"<(?=[a-z!/?])", re.IGNORECASE)


def visible(text: str) -> str:
    """A text in which each character is seen, and steers no terminal. Line feeds and tabs stay."""
    return _UNSEEN.sub(lambda found: f"<{name(found[0])}>", text.translate(_CONTROL))


def inert(text: str) -> str:
    """A message for people, without links that run something, pictures, markup and escapes."""
    # Control characters first: Python takes some of them for blanks, and their pictures are none.
    text = _SCHEME.sub(r"\1: ", _LINK.sub("] ", text.translate(_CONTROL)))
    return visible(_TAG.sub("< ", text))


def name(char: str) -> str:
    """A character as people look it up."""
    return f"U+{ord(char):04X}"


def unseen(old: str, new: str) -> list[str]:
    """The characters nobody sees that are in the new text more often than in the old, each once."""
    more = Counter(_UNSEEN.findall(new))
    more.subtract(_UNSEEN.findall(old))
    return sorted(char for char, n in more.items() if n > 0)


def names(chars: Iterable[str]) -> str:
    """Characters as people look them up, for a sentence."""
    return ", ".join(name(char) for char in chars)
