"""Command line: count the words of the given files."""

import sys

from tally.report import format_table
from tally.words import count_words


def main(paths):
    texts = []
    for path in paths:
        with open(path, encoding="utf-8") as file:
            texts.append(file.read())
    print(format_table(count_words(texts)))


if __name__ == "__main__":
    main(sys.argv[1:])
