"""Lines of a file in a fenced code block, with a fence that none of them can end."""

import re
from collections.abc import Sequence

_FENCES = re.compile(r"^[ \t]*(`{3,})", re.MULTILINE)


def fence_for(lines: Sequence[str]) -> str:
    """The fence of a code block in which these lines can stand: longer than any that begins one of them."""
    longest = max(map(len, _FENCES.findall("\n".join(lines))), default=2)
    return "`" * (longest + 1)


def info_string(path: str) -> str:
    """What stands behind the opening fence: the suffix of the file's name."""
    name = path.rpartition("/")[2]
    return re.sub(r"\W", "", name.rpartition(".")[2]) if "." in name else ""


def code_block(lines: Sequence[str], path: str, fence: str) -> str:
    """Lines of a file in a code block, which ends without a line end."""
    body = "".join(f"{line}\n" for line in lines)
    return f"{fence}{info_string(path)}\n{body}{fence}"
