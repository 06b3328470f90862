"""Scores and their uncertainty: pure functions, used by training and evaluation alike."""

from humanlm.metrics.diversity import distinct_n, unique_share
from humanlm.metrics.intervals import Estimate, estimate, paired_difference
from humanlm.metrics.lengths import length_ratio, mean_words, word_count

__all__ = [
    "Estimate",
    "distinct_n",
    "estimate",
    "length_ratio",
    "mean_words",
    "paired_difference",
    "unique_share",
    "word_count",
]
