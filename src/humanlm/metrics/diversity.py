"""How varied texts are: a simulator that says the same to everybody may score well and still be no crowd."""

from collections.abc import Sequence

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
