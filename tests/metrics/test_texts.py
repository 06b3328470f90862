import pytest
from hypothesis import given
from hypothesis import strategies as st

from humanlm.metrics import distinct_n, length_ratio, mean_words, unique_share, word_count

TEXTS = st.lists(st.text("ab \n", max_size=20), max_size=10)


def test_distinct_by_hand():
    texts = ["the cat sat", "The cat ran"]
    assert distinct_n(texts, 1) == pytest.approx(4 / 6, abs=1e-6)  # the, cat, sat, ran
    assert distinct_n(texts, 2) == 0.75  # the cat, cat sat, cat ran of four pairs
    assert distinct_n(texts, 3) == 1.0
    assert distinct_n(texts, 4) is None


def test_ngrams_do_not_cross_texts():
    assert distinct_n(["a", "b"], 2) is None


def test_n_below_one_is_no_ngram():
    with pytest.raises(ValueError, match="at least 1"):
        distinct_n(["a"], 0)


def test_the_same_reply_to_everybody():
    assert unique_share(["so  true", "so true", "no"]) == pytest.approx(2 / 3, abs=1e-6)
    assert unique_share([]) is None


def test_lengths_by_hand():
    assert word_count(" two  words ") == 2
    assert mean_words(["one", "one two three"]) == 2.0
    assert mean_words([]) is None
    assert length_ratio(["a b", "a"], ["a b c d", "a b"]) == 0.5
    assert length_ratio([], []) is None


def test_a_ratio_of_sums_is_not_ruled_by_short_texts():
    assert length_ratio(["a " * 10, "a " * 100], ["a", "a " * 99]) == pytest.approx(1.1)


def test_lengths_need_a_real_text_each():
    with pytest.raises(ValueError, match="2 generated texts for 1"):
        length_ratio(["a", "b"], ["a"])


@given(TEXTS, st.integers(1, 4))
def test_shares_are_shares(texts, n):
    share = distinct_n(texts, n)
    assert share is None or 0 < share <= 1
    unique = unique_share(texts)
    assert unique is None or 0 < unique <= 1
    doubled = distinct_n(texts * 2, n)
    assert doubled is None or (share is not None and doubled == pytest.approx(share / 2, abs=1e-6))
