"""Split text into words and count them."""

import re
from collections import Counter

WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")
STOP_WORDS = {"a", "an", "and", "in", "is", "it", "of", "on", "the", "to"}


def split_words(text):
    return [match.group().lower() for match in WORD.finditer(text)]


def count_words(texts, skip_stop_words=True):
    counts = Counter()
    for text in texts:
        for word in split_words(text):
            if skip_stop_words == True:
                if word not in STOP_WORDS:
                    counts[word] += 1
            else:
                counts[word] += 1
    return counts


def most_common(counts, limit=10):
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return ranked[:limit]
