"""Turn counts into a table."""

from tally.words import most_common


def format_table(counts, limit=10):
    rows = most_common(counts, limit)
    if len(rows) == 0:
        return "no words"
    width = max(len(word) for word, _ in rows)
    lines = []
    for word, n in rows:
        lines.append("%s  %d" % (word.ljust(width), n))
    return "\n".join(lines)
