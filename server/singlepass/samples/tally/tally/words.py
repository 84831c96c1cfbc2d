"""Split text into words and count them."""

from collections import Counter


def count_words(text):
    words = text.lower().split()
    return Counter(words)


def most_common(counts, limit=10):
    ranked = sorted(counts.items())
    return ranked[:limit]
