"""Source text that nobody wrote, for random models' tokenizers: it never changes, so neither do they."""

import random

_SYLLABLES = ("ba", "co", "de", "fi", "gu", "la", "me", "no", "pa", "re", "si", "to", "va", "we", "in", "ex",
              "con", "pre", "ment", "tion", "er", "al", "ing")  # fmt: skip
_LINES = (
    "def {0}({1}, {2}=None):",
    "    if {1} is not None and {2} != {3}:",
    "        return {0}({1}, {2})",
    "    for {1} in {2}.{3}():",
    '        {1}["{2}"] = {3} + 1',
    "    # {0} the {1} of each {2}",
    "class {0}({1}.{2}):",
    '    """The {0} of a {1}, in {2}."""',
    "    self.{0} = [{1} for {1} in {2} if {1}.{3}]",
    'raise ValueError(f"{0} has no {{{1}}}") from {2}',
    "",
)


def sources(n_lines: int = 6000, seed: int = 0) -> list[str]:
    """Lines that look like Python; the same for the same arguments."""
    source = random.Random(seed)
    words = ["".join(source.choices(_SYLLABLES, k=source.randint(1, 4))) for _ in range(900)]
    names = [*words, *("_".join(source.sample(words, 2)) for _ in range(300))]
    return [source.choice(_LINES).format(*source.choices(names, k=4)) + "\n" for _ in range(n_lines)]
