"""Special tokens that begin or end a message, such as `<|im_end|>`, which some servers send as text."""

import re

_MOST_CHARS = 40
_LAST = re.compile(r"(?:<\|[\w ]{1,30}\|>|<｜[^｜<>]{1,30}｜>|</s>|<eos>|<end_of_turn>|\[/?INST\])$")
_USER = re.compile(r"\s*(?:<\|[\w ]{1,30}\|>\s*)*(?:<\|\w{1,30}\|>|<start_of_turn>)\s*user\b|\s*\[INST\]")


def is_users_turn(line: str) -> bool:
    """Whether the line begins a message of the user; a model that writes one has invented it."""
    return _USER.match(line) is not None


def without_start(line: str) -> str:
    """The line without tokens at its beginning, such as `<|channel|>final<|message|>`."""
    if not line.startswith("<|"):
        return line
    head, bar, rest = line.rpartition("|>")
    return rest if bar and "<|" in head else line


def without_end(line: str) -> str:
    """The line without such tokens at its end."""
    end = len(line)
    while True:
        bare = end
        while bare and line[bare - 1].isspace():
            bare -= 1
        found = _LAST.search(line, max(0, bare - _MOST_CHARS), bare)
        if found is None:
            return line[:end]
        end = found.start()


def last_token(line: str) -> str:
    """The token at the end of the line; empty if it ends with text."""
    found = _LAST.search(line.rstrip()[-_MOST_CHARS:])
    return found[0] if found else ""
