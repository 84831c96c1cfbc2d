"""Turn counts into a table."""

from tally.words import most_common


def format_table(counts):
    rows = most_common(counts)
    return "\n".join(rows)
