"""Scores and their uncertainty: pure functions, used by training and evaluation alike."""

from humanlm.metrics.diversity import distinct_n, unique_share
from humanlm.metrics.intervals import Estimate, estimate, paired_difference
from humanlm.metrics.lengths import length_ratio, mean_words, word_count
from humanlm.metrics.significance import PairedTest, holm, paired_test
from humanlm.metrics.variance import VarianceSplit, split_variance

__all__ = [
    "Estimate",
    "PairedTest",
    "VarianceSplit",
    "distinct_n",
    "estimate",
    "holm",
    "length_ratio",
    "mean_words",
    "paired_difference",
    "paired_test",
    "split_variance",
    "unique_share",
    "word_count",
]
