"""Why a segment was not cached (sans-IO).

For each segment name, the history has hashes of the tokens that were recently cached, and of the tokens
before them. Comparing these with a segment that was not cached tells what happened to it.
"""

import hashlib
import struct
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import msgspec

from singlepass_backends.base import Miss, SegmentUse
from singlepass_backends.generation.cache.prefix import Mark

_KEPT_NAMES = 2000
_KEPT_VERSIONS = 4


class Known(msgspec.Struct, frozen=True):
    """A segment that was cached; saved with a prefix for the next engine process."""

    name: str
    own: bytes
    """Hash of the segment's tokens."""
    before: bytes
    """Hash of all tokens before the segment."""


@dataclass(frozen=True)
class _Version:
    own: bytes
    before: bytes
    is_ours: bool
    """Whether this engine process had it cached, not an earlier one."""
    is_whole: bool = True
    """Whether it was prefilled to its end; a request interrupts a prewarm."""


def uses(marks: Sequence[Mark], n_prompt: int, n_cached: int) -> tuple[SegmentUse, ...]:
    """How much of each segment is cached. The template's own tokens count as part of the next segment, at the
    end of the last, so that the sums are those of the prompt."""
    found: list[SegmentUse] = []
    start = 0
    for index, mark in enumerate(marks):
        end = n_prompt if index == len(marks) - 1 else mark.end
        found.append(SegmentUse(mark.name, end - start, max(0, min(n_cached, end) - start)))
        start = end
    return tuple(found)


class History:
    """The segments that were cached recently."""

    def __init__(self) -> None:
        self._versions: OrderedDict[str, list[_Version]] = OrderedDict()

    def remember(self, tokens: Sequence[int], marks: Sequence[Mark], n_done: int) -> None:
        """The first `n_done` of `tokens` are cached; the prefill of the rest was interrupted."""
        for known, mark in zip(_known(tokens, marks), marks, strict=True):
            self._add(known.name, _Version(known.own, known.before, True, mark.end <= n_done))

    def recall(self, known: Iterable[Known]) -> None:
        """An earlier engine process had these cached."""
        for one in known:
            if one.name not in self._versions:
                self._add(one.name, _Version(one.own, one.before, False))

    def known(self) -> list[Known]:
        """The latest version of each segment, for the next engine process."""
        whole = {name: [one for one in list_ if one.is_whole] for name, list_ in self._versions.items()}
        return [Known(name, list_[-1].own, list_[-1].before) for name, list_ in whole.items() if list_]

    def miss(
        self, tokens: Sequence[int], marks: Sequence[Mark], n_cached: int, *, has_task: bool
    ) -> Miss | None:
        """The first segment that is not completely cached, and why; None if that is the task."""
        stable = marks[:-1] if has_task else marks
        index = next((index for index, mark in enumerate(stable) if mark.end > n_cached), None)
        if index is None:
            return None
        mark = stable[index]
        n_again = stable[-1].end - n_cached
        found = _known(tokens, stable)[index]
        all_versions = self._versions.get(mark.name, [])
        if any(
            not one.is_whole and (one.own, one.before) == (found.own, found.before) for one in all_versions
        ):
            return Miss(mark.name, n_again, "unfinished")
        versions = [version for version in all_versions if version.is_whole]
        ours = [version for version in versions if version.is_ours]
        if not versions:
            return Miss(mark.name, n_again, "new")
        if not ours:
            same = versions[-1].own == found.own
            return Miss(mark.name, n_again, "restart" if same else "changed")
        if any((version.own, version.before) == (found.own, found.before) for version in ours):
            return Miss(mark.name, n_again, "evicted")
        return Miss(mark.name, n_again, "moved" if ours[-1].own == found.own else "changed")

    def _add(self, name: str, version: _Version) -> None:
        versions = self._versions.setdefault(name, [])
        self._versions.move_to_end(name)
        same = (version.own, version.before)
        versions[:] = [one for one in versions if (one.own, one.before) != same]
        versions.append(version)
        del versions[:-_KEPT_VERSIONS]
        if len(self._versions) > _KEPT_NAMES:
            self._versions.popitem(last=False)


def _known(tokens: Sequence[int], marks: Sequence[Mark]) -> list[Known]:
    found: list[Known] = []
    whole = hashlib.blake2b(digest_size=16)
    start = 0
    for mark in marks:
        data = struct.pack(f"<{max(0, mark.end - start)}i", *tokens[start : mark.end])
        own = hashlib.blake2b(data, digest_size=16).digest()
        found.append(Known(mark.name, own, whole.copy().digest()))
        whole.update(data)
        start = mark.end
    return found
