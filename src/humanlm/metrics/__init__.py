"""Scores and their uncertainty: pure functions, used by training and evaluation alike."""

from humanlm.metrics.association import RankAgreement, correlation, rank_agreement
from humanlm.metrics.diversity import crowd_similarity, distinct_n, self_similarity, unique_share, word_overlap
from humanlm.metrics.intervals import Estimate, bootstrap_users, estimate, paired_difference
from humanlm.metrics.lengths import length_ratio, mean_words, word_count
from humanlm.metrics.population import Fidelity, fidelity
from humanlm.metrics.power import SampleSize, detectable, needed_users
from humanlm.metrics.significance import PairedTest, holm, paired_test
from humanlm.metrics.variance import VarianceSplit, split_variance
from humanlm.metrics.voice import assistant_marks, assistant_rate

__all__ = [
    "Estimate",
    "Fidelity",
    "PairedTest",
    "RankAgreement",
    "SampleSize",
    "VarianceSplit",
    "assistant_marks",
    "assistant_rate",
    "bootstrap_users",
    "correlation",
    "crowd_similarity",
    "detectable",
    "distinct_n",
    "estimate",
    "fidelity",
    "holm",
    "length_ratio",
    "mean_words",
    "needed_users",
    "paired_difference",
    "paired_test",
    "rank_agreement",
    "self_similarity",
    "split_variance",
    "unique_share",
    "word_count",
    "word_overlap",
]
