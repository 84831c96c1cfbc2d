from tally.words import count_words, most_common, split_words


def test_split_words():
    assert split_words("It's 2 o'clock") == ["it's", "o'clock"]


def test_count_words_leaves_stop_words_out():
    assert count_words(["the cat", "The dog and the cat"]) == {"cat": 2, "dog": 1}


def test_most_common_breaks_ties_by_word():
    assert most_common({"b": 1, "a": 1, "c": 2}, 2) == [("c", 2), ("a", 1)]
