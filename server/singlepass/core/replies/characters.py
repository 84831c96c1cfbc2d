"""Characters that models substitute for others: typographic ones, HTML entities, other Unicode forms.

`canonical` maps all spellings of a line to one form, so that they can be compared. `respelling` finds out
which substitutions were made in quoted lines and returns a function that undoes exactly these: a model that
quotes `“a”` for `"a"` makes the same substitution in its new lines.
"""

import html
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping

_QUOTES = {**dict.fromkeys("‘’‚‛′´", "'"), **dict.fromkeys("“”„‟″«»", '"')}
_DASHES = dict.fromkeys("‐‑‒–—―−", "-")
_ELLIPSES = dict.fromkeys("…⋯", "...")
_BLANKS = dict.fromkeys("\u00a0\u1680\u2002\u2003\u2007\u2009\u200a\u202f\u205f\u3000", " ")
_WITHOUT_WIDTH = dict.fromkeys("\u200b\u200c\u200d\u2060\ufeff", "")
_FULL_WIDTH = {chr(code): chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)}
"""Fullwidth forms of ASCII characters (Unicode block "Halfwidth and Fullwidth Forms")."""

_CLASSES: tuple[Mapping[str, str], ...] = (_QUOTES, _DASHES, _ELLIPSES, _BLANKS, _WITHOUT_WIDTH, _FULL_WIDTH)
_ALL = str.maketrans({char: plain for one in _CLASSES for char, plain in one.items()})
_ENTITY = re.compile(r"&(?:lt|gt|amp|quot|apos|nbsp|#\d{1,6}|#x[0-9a-f]{1,6});", re.IGNORECASE)
_DOUBLE_DASH = re.compile("-{2,}")
_WHITE_SPACE = re.compile(r"\s+")


def canonical(text: str) -> str:
    """One form for all spellings of a line: without entities, typographic characters and indentation, and
    with single spaces."""
    if not text.isascii():
        text = unicodedata.normalize("NFC", text).translate(_ALL)
    if "&" in text:
        text = unicodedata.normalize("NFC", html.unescape(text)).translate(_ALL)
    # Typographic programs replace two hyphens by a dash.
    return _WHITE_SPACE.sub(" ", _DOUBLE_DASH.sub("-", text)).strip()


def with_one_quote(text: str) -> str:
    """The canonical form with one kind of quotation mark, so that `'a'` equals `"a"`."""
    return canonical(text).replace("'", '"')


def respelling(pairs: Iterable[tuple[str, str]]) -> Callable[[str], str]:
    """A function that undoes the substitutions by which quoted lines differ from the document's.

    Each pair is a quoted line and the document's line at its place.
    """
    differing = [(old, line) for old, line in pairs if old != line]
    table: dict[str, str] = {}
    for one in _CLASSES:
        if any(not one.keys().isdisjoint({*old} - {*line}) for old, line in differing):
            table.update(one)
    if "—" in table and any("—" in old and "--" in line for old, line in differing):
        table["—"] = "--"
    form = ""
    for old, line in differing:
        composed = unicodedata.normalize("NFC", old)
        if composed == unicodedata.normalize("NFC", line):
            form = "NFC" if old != composed else "NFD"
    has_entities = any(_ENTITY.search(old) and not _ENTITY.search(line) for old, line in differing)

    def respelled(text: str) -> str:
        if has_entities:
            text = _ENTITY.sub(lambda found: html.unescape(found.group()), text)
        if table:
            text = text.translate(str.maketrans(table))
        return unicodedata.normalize(form, text) if form in ("NFC", "NFD") else text

    return respelled
