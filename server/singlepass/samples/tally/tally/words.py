"""Split text into words and count them."""

from collections import Counter


def count_words(text):
    words = text.lower().split()
    return Counter(words)


def most_common(counts, limit=10):
    """Return the words that are used most."""
    ranked = sorted(counts.items())
    return ranked[:limit]
