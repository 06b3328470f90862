"""Whether a difference could be chance: paired tests over users, and Holm's correction for many of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict

from humanlm.metrics.intervals import DIGITS

Alternative = Literal["two-sided", "greater", "less"]
Method = Literal["permutation", "wilcoxon"]

PERMUTATIONS = 9999


class PairedTest(BaseModel):
    """The outcome of a paired test.

    Attributes:
        method: ``permutation`` (sign flips of users) or ``wilcoxon`` (signed ranks of users' mean differences).
        alternative: What it speaks for if p is small: ``greater`` says that ours is higher than theirs.
        p: The p-value; None for fewer than two users.
        users: Users it rests on: those with at least one case that both sides have.
        cases: Cases that both sides have.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: Method
    alternative: Alternative
    p: float | None
    users: int
    cases: int


def paired_test(
    ours: Sequence[float | None],
    theirs: Sequence[float | None],
    users: Sequence[str],
    *,
    method: Method = "permutation",
    alternative: Alternative = "two-sided",
    seed: int = 0,
    resamples: int = PERMUTATIONS,
) -> PairedTest:
    """Tests whether two methods differ on the same cases. The unit is the user: responses of one person are not independent.

    The permutation test flips, for each user, which side is which, and asks how often the mean difference over cases is as
    large: exact for up to 13 users, else by ``resamples`` random flips. Wilcoxon's signed-rank test, the paper's, looks at the
    ranks of the users' mean differences and leaves out users without a difference.

    Args:
        ours: One value a case; None (or NaN) where it is missing. A case that misses either side is left out.
        theirs: The other side's value of the same case.
        users: Whose case it is.
        method: Which test.
        alternative: ``greater`` tests whether ours is higher.
        seed: Of the random flips.
        resamples: How many.

    Raises:
        ValueError: The sequences differ in length.
    """
    import numpy as np
    from scipy import stats

    gaps: dict[str, list[float]] = {}
    for our, their, user in zip(ours, theirs, users, strict=True):
        if our is not None and their is not None and not math.isnan(our - their):
            gaps.setdefault(user, []).append(our - their)
    cases = sum(map(len, gaps.values()))
    rows = [sorted(gaps[user]) for user in sorted(gaps)]  # the order of the cases must not matter
    p: float | None = None
    if len(rows) > 1 and all(math.isclose(math.fsum(row), 0.0, abs_tol=1e-12) for row in rows):
        p = 1.0
    elif len(rows) > 1 and method == "wilcoxon":
        means = np.round([math.fsum(row) / len(row) for row in rows], 12)  # equal differences must tie
        p = float(stats.wilcoxon(means, alternative=alternative).pvalue)
    elif len(rows) > 1:
        sums = np.array([math.fsum(row) for row in rows])
        p = float(
            stats.permutation_test(
                (sums, np.zeros_like(sums)),
                lambda x, y, axis=-1: (x - y).sum(axis=axis) / cases,
                permutation_type="samples",
                vectorized=True,
                n_resamples=resamples,
                batch=max(1, 2_000_000 // len(rows)),
                alternative=alternative,
                rng=np.random.default_rng(seed),
            ).pvalue
        )
    rounded = None if p is None else round(p, DIGITS)
    return PairedTest(method=method, alternative=alternative, p=rounded, users=len(rows), cases=cases)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """P-values corrected for their number by Holm's step-down rule; None stays None and counts for nothing."""
    from statsmodels.stats.multitest import multipletests

    known = [place for place, p in enumerate(p_values) if p is not None]
    corrected: list[float | None] = [None] * len(p_values)
    if known:
        adjusted = multipletests([p_values[place] for place in known], method="holm")[1]
        for place, p in zip(known, adjusted, strict=True):
            corrected[place] = round(float(p), DIGITS)
    return corrected
