"""Makes untrusted text (from a model, a repository or a server) safe to show to users.

Editors and terminals render messages and diagnostics in different ways. Some turn `[text](command:…)` into a
button, some load images from anywhere, terminals execute escape sequences. `inert` removes all of that and
keeps the words. Code is not changed, but `unseen` finds invisible and bidirectional characters in it.
"""

import re
from collections import Counter
from collections.abc import Iterable

# Marks that change the text direction, and characters without width or glyph.
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

# Control characters as control pictures (U+2400…); tabs and line feeds are harmless.
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
    """The text with control characters made visible, so that it cannot control a terminal. Line feeds and
    tabs stay."""
    return _UNSEEN.sub(lambda found: f"<{name(found[0])}>", text.translate(_CONTROL))


def inert(text: str) -> str:
    """A message for users, without command links, images, markup and escape sequences."""
    # Control characters first: Python treats some of them as white space, but not their pictures.
    text = _SCHEME.sub(r"\1: ", _LINK.sub("] ", text.translate(_CONTROL)))
    return visible(_TAG.sub("< ", text))


def name(char: str) -> str:
    """A character's code point and Unicode name."""
    return f"U+{ord(char):04X}"


def unseen(old: str, new: str) -> list[str]:
    """The invisible characters that are in the new text more often than in the old, each once."""
    more = Counter(_UNSEEN.findall(new))
    more.subtract(_UNSEEN.findall(old))
    return sorted(char for char, n in more.items() if n > 0)


def names(chars: Iterable[str]) -> str:
    """Code points and Unicode names of characters, for a sentence."""
    return ", ".join(name(char) for char in chars)
