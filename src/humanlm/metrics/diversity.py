"""How varied texts are: a simulator that says the same to everybody may score well and still be no crowd."""

import random
from collections.abc import Sequence
from itertools import combinations, pairwise

from humanlm.metrics.intervals import DIGITS


def distinct_n(texts: Sequence[str], n: int) -> float | None:
    """Distinct n-grams of all texts together as a share of their n-grams (Li et al. 2016, distinct-n).

    It falls as the number of texts grows, so compare only over the same examples.

    Args:
        texts: The texts; words are split at white space, in lower case.
        n: Words an n-gram.

    Returns:
        A number in (0, 1]; None if no text has n words.

    Raises:
        ValueError: ``n`` is below 1.
    """
    if n < 1:
        raise ValueError(f"n must be at least 1, not {n}")
    total = 0
    seen: set[tuple[str, ...]] = set()
    for text in texts:
        words = text.lower().split()
        for start in range(len(words) - n + 1):
            seen.add(tuple(words[start : start + n]))
            total += 1
    return round(len(seen) / total, DIGITS) if total else None


def unique_share(texts: Sequence[str]) -> float | None:
    """The share of texts that differ from one another, white space aside; None without texts."""
    return round(len({" ".join(text.split()) for text in texts}) / len(texts), DIGITS) if texts else None


def word_overlap(first: str, second: str) -> float:
    """Shared words and word pairs of two texts as a share of all that either has (Jaccard index), in [0, 1]."""
    a, b = _grams(first), _grams(second)
    union = len(a | b)
    return len(a & b) / union if union else 1.0


def self_similarity(groups: Sequence[Sequence[str]]) -> float | None:
    """Mean word overlap between texts of the same group, over groups of two and more: how alike samples of one prompt are."""
    means = [
        sum(word_overlap(*pair) for pair in pairs) / len(pairs)
        for texts in groups
        if (pairs := list(combinations(texts, 2)))
    ]
    return round(sum(means) / len(means), DIGITS) if means else None


def crowd_similarity(texts: Sequence[str], owners: Sequence[str], *, pairs: int = 2000, seed: int = 0) -> float | None:
    """Mean word overlap between texts of different owners: how alike different people speak.

    Args:
        texts: The texts.
        owners: Whose text it is.
        pairs: How many random pairs are looked at.
        seed: Of their choice.

    Raises:
        ValueError: The two sequences differ in length.
    """
    if len(texts) != len(owners):
        raise ValueError(f"{len(texts)} texts of {len(owners)} owners")
    if len(set(owners)) < 2:
        return None
    dice = random.Random(f"crowd {seed}")
    places = range(len(texts))
    drawn = [tuple(dice.sample(places, 2)) for _ in range(2 * pairs)]
    found = [word_overlap(texts[a], texts[b]) for a, b in drawn if owners[a] != owners[b]][:pairs]
    return round(sum(found) / len(found), DIGITS) if found else None


def _grams(text: str) -> set[tuple[str, ...]]:
    words = text.lower().split()
    return {(word,) for word in words} | set(pairwise(words))
