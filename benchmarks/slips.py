"""Edit blocks in which local models misquote one thing: a line, a word, a comment.

In the old lines and the new ones alike, or in the old ones only; see `habits.py`.
"""

import itertools
import random
import re
from collections.abc import Iterator, Sequence
from typing import Literal

from changes import Change, comment_of, indent_of, is_code
from habits import Block, Kind, Misquote, block_of

# Whole lines.


Sort = Literal["code", "blank", "comment"]


def _sort_of(line: str, change: Change) -> Sort | None:
    language = change.document.language
    if not line.strip():
        return "blank"
    if is_code(line, language):
        return "code"
    return "comment" if line.lstrip().startswith((language.comment, "/*", "* ")) else None


def _inner(change: Change, sort: Sort) -> list[int]:
    """The old lines of a sort that stay, or would if not all were new, and have others around them."""
    inner = range(1, len(change.old) - 1)
    stays = [idx for idx in inner if change.kind == "all new" or change.stays(idx)]
    return [idx for idx in stays if _sort_of(change.old[idx], change) == sort]


def _left_out(in_new: bool, sort: Sort = "code", n: int = 1) -> Misquote:
    """Lines left out in the middle. `in_new`: the new lines, made from the quoted ones, lack them too."""

    def misquote(change: Change, chance: random.Random) -> Block | None:
        choices = _inner(change, sort)
        if change.kind == "all new" or len(choices) < n:
            return None
        left = sorted(chance.sample(choices, n))
        search = [line for idx, line in enumerate(change.old) if idx not in left]
        if not in_new:
            return block_of(change, search, change.new)
        if n > 1 and None in change.origin:
            return None
        replace = [line for line, idx in zip(change.new, change.origin, strict=True) if idx not in left]
        # Beside lines that are added at that place, nobody can know on which side of them it stands.
        others = [*_moved(change, change.new_idx(left[0]) or 0)] if n == 1 else []
        return block_of(change, search, replace, *others)

    return misquote


def _moved(change: Change, at: int) -> Iterator[list[str]]:
    """The new lines with the one at this index on other sides of the added lines around it."""
    first = last = at
    while first and change.origin[first - 1] is None:
        first -= 1
    while last + 1 < len(change.new) and change.origin[last + 1] is None:
        last += 1
    rest = [*change.new[:at], *change.new[at + 1 :]]
    for place in range(first, last + 1):
        if place != at:
            yield [*rest[:place], change.new[at], *rest[place:]]


def _left_out_of_rewrite(sort: Sort) -> Misquote:
    """A line left out of the old lines, and the new ones are all new."""

    def misquote(change: Change, chance: random.Random) -> Block | None:
        choices = _inner(change, sort)
        if change.kind != "all new" or not choices:
            return None
        idx = chance.choice(choices)
        line, search = change.old[idx], [*change.old[:idx], *change.old[idx + 1 :]]
        # Nobody can know whether a line with code that was not quoted should go, so it stays.
        accepted = [[line, *change.new], [*change.new, line]]
        if sort == "blank":
            # A blank line may stay, anywhere, or go.
            accepted = [[*change.new[:n], line, *change.new[n:]] for n in range(len(change.new) + 1)]
            accepted.append(change.new)
        return Block(change, search, change.new, accepted)

    return misquote


def _doubled(in_new: bool) -> Misquote:
    """A line twice."""

    def misquote(change: Change, chance: random.Random) -> Block | None:
        choices = [idx for idx in range(len(change.old)) if change.stays(idx)]
        choices = [idx for idx in choices if _sort_of(change.old[idx], change) == "code"]
        if not choices:
            return None
        idx = chance.choice(choices)
        at = change.new_idx(idx) or 0
        line = change.old[idx]
        replace = [*change.new[:at], line, *change.new[at:]] if in_new else change.new
        return block_of(change, [*change.old[:idx], line, *change.old[idx:]], replace)

    return misquote


def _swapped(in_new: bool) -> Misquote:
    """Two neighbouring lines in the other order."""

    def misquote(change: Change, chance: random.Random) -> Block | None:
        stays = [change.stays(idx) and bool(line.strip()) for idx, line in enumerate(change.old)]
        choices: list[int] = []
        for idx in range(len(change.old) - 1):
            at = change.new_idx(idx)
            if stays[idx] and stays[idx + 1] and at is not None and change.new_idx(idx + 1) == at + 1:
                # Not beside added lines: on which side they belong would depend on the order.
                beside = change.origin[max(at - 1, 0) : at + 3]
                if None not in beside and change.old[idx] != change.old[idx + 1]:
                    choices.append(idx)
        if not choices:
            return None
        idx = chance.choice(choices)
        at = change.new_idx(idx) or 0
        search, replace = [*change.old], [*change.new]
        search[idx : idx + 2] = reversed(search[idx : idx + 2])
        replace[at : at + 2] = reversed(replace[at : at + 2])
        return block_of(change, search, replace if in_new else change.new)

    return misquote


def _extra(in_new: bool) -> Misquote:
    """A line of elsewhere among the old ones."""

    def misquote(change: Change, chance: random.Random) -> Block | None:
        lines, end = change.document.lines, change.at + len(change.old)
        # Of a line nearby the model might have meant that it goes.
        far = [line for n, line in enumerate(lines) if n < change.at - 6 or n >= end + 6]
        near = lines[max(change.at - 6, 0) : end + 6]
        far = [line for line in far if is_code(line, change.document.language) and line not in near]
        if not far:
            return None
        line, idx = chance.choice(far), chance.randrange(len(change.old))
        search = [*change.old[: idx + 1], line, *change.old[idx + 1 :]]
        if not in_new:
            return block_of(change, search, change.new)
        at = change.new_idx(idx)
        if at is None or (at + 1 < len(change.new) and change.origin[at + 1] != idx + 1):
            return None
        return block_of(change, search, [*change.new[: at + 1], line, *change.new[at + 1 :]])

    return misquote


def _reflowed(change: Change, chance: random.Random) -> Block | None:
    """A call that takes several lines is quoted on one."""
    for first in chance.sample(range(len(change.old)), len(change.old)):
        end, at = _end_of_call(change.old, first), change.new_idx(first)
        call = change.old[first:end]
        if len(call) < 2 or at is None or any(comment_of(x, change.document.language) for x in call):
            continue
        if change.origin[at : at + len(call)] != [*range(first, end)]:
            continue
        written = change.new[at : at + len(call)]
        search = [*change.old[:first], _joined(call), *change.old[end:]]
        replace = [*change.new[:at], _joined(written), *change.new[at + len(call) :]]
        # Where the call itself changes, either layout will do.
        return block_of(change, search, replace, *([] if written == call else [replace]))
    return None


def _end_of_call(lines: Sequence[str], first: int) -> int:
    """Behind the line that closes what is open at the end of the first one."""
    depth = _depth(lines[first]) if lines[first].endswith(("(", "[", ",")) else 0
    end = first + 1
    while depth > 0 and end < len(lines):
        depth += _depth(lines[end])
        end += 1
    return first if depth else end


def _depth(line: str) -> int:
    return sum(line.count(x) for x in "([{") - sum(line.count(x) for x in ")]}")


def _joined(lines: Sequence[str]) -> str:
    text = lines[0].rstrip()
    for line in map(str.strip, lines[1:]):
        if line.startswith((")", "]", "}")):
            text = text.removesuffix(",") + line
        else:
            text += line if text.endswith(("(", "[", "{")) else f" {line}"
    return text


_ELISIONS = (
    *("{} ... existing code ...", "{} ...", "...", "{} ... rest of the code ...", "{} (unchanged)", "{} …"),
    *("{} existing code", "{} rest of the code remains unchanged", "{} ... (omitted for brevity) ..."),
)


def _elided(in_old: bool, in_new: bool) -> Misquote:
    """Two or more lines that stay are replaced by a comment that says so."""

    def misquote(change: Change, chance: random.Random) -> Block | None:
        runs: list[tuple[int, int]] = []
        for first, end in itertools.combinations(range(len(change.old) + 1), 2):
            at = change.new_idx(first)
            is_run = at is not None and change.old[first:end] == change.new[at : at + end - first]
            if is_run and 1 < end - first < len(change.old):
                runs.append((first, end))
        if not runs:
            return None
        first, end = chance.choice(runs)
        at = change.new_idx(first) or 0
        text = chance.choice(_ELISIONS).format(change.document.language.comment)
        mark = indent_of(change.old[first]) + text
        search = [*change.old[:first], mark, *change.old[end:]] if in_old else change.old
        replace = [*change.new[:at], mark, *change.new[at + end - first :]] if in_new else change.new
        return block_of(change, search, replace)

    return misquote


# Comments at the end of lines.


def _comment_left_out(where: str, in_new: bool, part: bool = False) -> Misquote:
    """`where`: on a line that is changed, kept or deleted. `part`: only its last words are left out."""

    def misquote(change: Change, chance: random.Random) -> Block | None:
        choices: list[tuple[int, str]] = []
        for idx, line in enumerate(change.old):
            comment, at = comment_of(line, change.document.language), change.new_idx(idx)
            if part:
                comment = "".join(re.findall(r"(?<=\w\w\w)[ ,]+\S+ ?[^\s/]*$", comment))
            state = "deleted" if at is None else "kept" if change.stays(idx) else "changed"
            if comment and state == where and (at is None or change.new[at].endswith(comment)):
                choices.append((idx, comment))
        if not choices:
            return None
        idx, comment = chance.choice(choices)
        search, replace, at = [*change.old], [*change.new], change.new_idx(idx)
        search[idx] = search[idx].removesuffix(comment)
        if in_new and at is not None:
            replace[at] = replace[at].removesuffix(comment)
        return block_of(change, search, replace)

    return misquote


def _comment_added(change: Change, chance: random.Random) -> Block | None:
    """In old and new lines, to show or explain something."""
    language = change.document.language
    kept = [n for n, line in enumerate(change.old) if change.stays(n) and is_code(line, language)]
    kept = [n for n in kept if not comment_of(change.old[n], language)]
    if not kept:
        return None
    idx = chance.choice(kept)
    text = chance.choice(["unchanged", "<-- here", "line to keep", "existing", "see below", "TODO"])
    search, replace = [*change.old], [*change.new]
    for lines, n in ((search, idx), (replace, change.new_idx(idx) or 0)):
        lines[n] += f"  {language.comment} {text}"
    return block_of(change, search, replace)


# Words.

Span = tuple[int, int, str]
_WORDS = re.compile(r"[A-Za-z_]\w{2,}")


def _word(line: str, change: Change, chance: random.Random) -> Iterator[Span]:
    others = _WORDS.findall("\n".join(change.document.lines))
    for found in _WORDS.finditer(line):
        word = found.group()
        yield *found.span(), chance.choice([word + "s", "new_" + word, *chance.sample(others, 2)])


def _digit(line: str, change: Change, chance: random.Random) -> Iterator[Span]:
    for found in re.finditer(r"\d", line):
        yield *found.span(), chance.choice(["", str((int(found.group()) + chance.randint(1, 9)) % 10)])


def _leading(line: str, change: Change, chance: random.Random) -> Iterator[Span]:
    pattern = (
        r"(?<![\w.])(?:self\.|this\.|await |async |const |let |local |my |static |extern |export |unsigned )"
    )
    for found in re.finditer(pattern, line):
        yield *found.span(), ""


def _ending(line: str, change: Change, chance: random.Random) -> Iterator[Span]:
    if line.endswith((",", ";", ":")):
        yield len(line) - 1, len(line), ""


def _case(line: str, change: Change, chance: random.Random) -> Iterator[Span]:
    for found in _WORDS.finditer(line):
        word = found.group()
        yield *found.span(), chance.choice([word[0].swapcase() + word[1:], word.lower(), word.upper()])


def _typo(line: str, change: Change, chance: random.Random) -> Iterator[Span]:
    for found in _WORDS.finditer(line):
        at = found.start() + chance.randrange(len(found.group()) - 1)
        yield at, at + 2, chance.choice([line[at + 1] + line[at], line[at], line[at] + line[at : at + 2]])


SLIPS = {
    "a word": _word,
    "a digit": _digit,
    "a leading `self.`, `const `, …": _leading,
    "a `,` or `;` at the end": _ending,
    "letter case": _case,
    "a typing error": _typo,
}


def _slip(names: Sequence[str], where: str, in_new: bool) -> Misquote:
    """A word is not as it is in the document, in a line that is kept or changed; not where it is changed."""

    def misquote(change: Change, chance: random.Random) -> Block | None:
        idx, slip = chance.randrange(len(change.old)), SLIPS[chance.choice(names)]
        line, at = change.old[idx], change.new_idx(idx)
        if at is None or change.stays(idx) != (where == "kept"):
            return None
        new = change.new[at]
        n_front = n_back = 0
        while n_front < min(len(line), len(new)) and line[n_front] == new[n_front]:
            n_front += 1
        while n_back < min(len(line), len(new)) - n_front and line[-1 - n_back] == new[-1 - n_back]:
            n_back += 1
        # A word that only begins or ends as the changed one does is part of what is changed.
        while line != new and n_front and re.match(r"[\w.]", line[n_front - 1]):
            n_front -= 1
        while line != new and n_back and re.match(r"[\w.]", line[-n_back]):
            n_back -= 1
        spans = [
            span
            for span in slip(line, change, chance)
            if (span[1] <= n_front or span[0] >= len(line) - n_back) and line[span[0] : span[1]] != span[2]
        ]
        if not spans:
            return None
        start, end, text = chance.choice(spans)
        shift = 0 if end <= n_front else len(new) - len(line)
        search, replace = [*change.old], [*change.new]
        search[idx] = line[:start] + text + line[end:]
        replace[at] = new[: start + shift] + text + new[end + shift :]
        return block_of(change, search, replace if in_new else change.new)

    return misquote


def kinds() -> Iterator[Kind]:
    """All of them."""
    commented, gone = ("a line with a comment",), ("a line deleted", "all new")
    kept = ("a line", "a name everywhere", "lines added", "a line deleted")
    comment = "end-of-line comment left out"
    yield Kind(f"{comment}, line changed", _comment_left_out("changed", in_new=True), commented)
    yield Kind(f"{comment} of the old lines only", _comment_left_out("changed", in_new=False), commented)
    yield Kind(f"{comment} but for its first words", _comment_left_out("changed", True, part=True), commented)
    yield Kind(f"{comment}, line kept", _comment_left_out("kept", in_new=True), kept)
    yield Kind(f"{comment} of the old lines only, line kept", _comment_left_out("kept", in_new=False), kept)
    yield Kind(f"{comment}, line deleted", _comment_left_out("deleted", in_new=False), gone)
    yield Kind("a comment of its own at a kept line", _comment_added)

    yield Kind("line left out of old and new", _left_out(in_new=True))
    yield Kind("line left out of the old lines", _left_out(in_new=False))
    yield Kind("two lines left out of old and new", _left_out(in_new=True, n=2))
    yield Kind("comment line left out of old and new", _left_out(in_new=True, sort="comment"))
    yield Kind("blank line left out of old and new", _left_out(in_new=True, sort="blank"))
    yield Kind("blank line left out of the old lines", _left_out(in_new=False, sort="blank"))
    yield Kind("line left out, all lines new", _left_out_of_rewrite("code"), ("all new",))
    yield Kind("blank line left out, all lines new", _left_out_of_rewrite("blank"), ("all new",))
    whole = (("line twice", _doubled), ("two lines swapped", _swapped), ("line of elsewhere", _extra))
    for name, misquote in whole:
        yield Kind(f"{name}, in old and new", misquote(True))
        yield Kind(f"{name}, old lines only", misquote(False))
    yield Kind("call joined to one line", _reflowed)
    yield Kind("`... existing code ...` in new", _elided(False, True))
    yield Kind("`... existing code ...` in old", _elided(True, False))
    yield Kind("`... existing code ...` in both", _elided(True, True))

    changed = ("a line", "two lines", "a name everywhere", "a line with a comment")
    for name in SLIPS:
        yield Kind(f"{name}, line kept", _slip([name], "kept", in_new=True))
        yield Kind(f"{name}, line changed", _slip([name], "changed", in_new=True), changed)
    yield Kind("any of these, old lines only, line kept", _slip([*SLIPS], "kept", in_new=False))
    yield Kind("any of these, old lines only, line changed", _slip([*SLIPS], "changed", False), changed)
