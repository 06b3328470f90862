"""How two scores go together: Pearson's r with an interval by user, and the rank agreement of two orders of methods."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from humanlm.metrics.intervals import DIGITS, Estimate, bootstrap_users

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def correlation(
    x: Sequence[float | None], y: Sequence[float | None], users: Sequence[str], *, seed: int = 0
) -> Estimate:
    """Pearson's r over the cases that have both values; its 95% interval draws whole users.

    Args:
        x: One value a case; None where it is missing.
        y: The other value of the same case.
        users: Whose case it is.
        seed: Of the resampling.

    Returns:
        ``mean`` is r; None if fewer than three cases have both, or one side does not vary.

    Raises:
        ValueError: The sequences differ in length.
    """
    import numpy as np
    from scipy import stats

    cases = sorted((u, a, b) for a, b, u in zip(x, y, users, strict=True) if _known(a) and _known(b))
    missing = len(users) - len(cases)
    names = sorted({user for user, *_ in cases})
    a, b = (np.array([row[place] for row in cases], dtype=float) for place in (1, 2))
    if len(cases) < 3 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return Estimate(mean=None, ci95=None, n=len(cases), users=len(names), missing=missing)
    r = float(stats.pearsonr(a, b).statistic)
    place = {name: number for number, name in enumerate(names)}
    owner = np.array([place[user] for user, *_ in cases])
    # Sums a user of 1, x, y, xx, yy, xy: of any drawn users r is a function of their sums.
    ca, cb = a - a.mean(), b - b.mean()
    moments = np.stack(
        [np.bincount(owner, weights=w) for w in (np.ones(len(cases)), ca, cb, ca * ca, cb * cb, ca * cb)]
    )

    def statistic(drawn: NDArray[np.int64]) -> NDArray[np.float64]:
        n, sx, sy, sxx, syy, sxy = moments[:, drawn].sum(axis=-1)
        spread_x, spread_y = n * sxx - sx**2, n * syy - sy**2
        # a draw in which one side does not vary has no r; what is left of it is rounding
        flat = (spread_x <= 1e-9 * n * moments[3].sum()) | (spread_y <= 1e-9 * n * moments[4].sum())
        with np.errstate(all="ignore"):
            result: NDArray[np.float64] = (n * sxy - sx * sy) / np.sqrt(spread_x * spread_y)
        return np.where(flat, np.nan, np.clip(result, -1, 1))

    interval = bootstrap_users(statistic, len(names), seed=seed)
    return Estimate(mean=round(r, DIGITS), ci95=interval, n=len(cases), users=len(names), missing=missing)


def _known(value: float | None) -> bool:
    return value is not None and not math.isnan(value)


class RankAgreement(BaseModel):
    """Whether two judges put methods in the same order.

    Attributes:
        methods: Methods that both have a score for.
        tau: Kendall's tau-b of the two orders; None for fewer than two methods, or if one order is a single tie.
        spearman: Spearman's rho likewise.
        p: Of tau: how often chance alone gives such agreement (exact for few methods).
        same_leader: Whether both put the same method first.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    methods: tuple[str, ...]
    tau: float | None
    spearman: float | None
    p: float | None
    same_leader: bool | None


def rank_agreement(first: Mapping[str, float | None], second: Mapping[str, float | None]) -> RankAgreement:
    """Compares the orders that two judges' mean scores put methods in."""
    from scipy import stats

    names = tuple(name for name, value in first.items() if _known(value) and _known(second.get(name)))
    a, b = ([float(side[name] or 0.0) for name in names] for side in (first, second))
    if len(names) < 2 or len(set(a)) < 2 or len(set(b)) < 2:
        return RankAgreement(methods=names, tau=None, spearman=None, p=None, same_leader=None)
    tau = stats.kendalltau(a, b)
    rho = float(stats.spearmanr(a, b).statistic)
    return RankAgreement(
        methods=names,
        tau=round(float(tau.statistic), DIGITS),
        spearman=round(rho, DIGITS),
        p=round(float(tau.pvalue), DIGITS),
        same_leader=a.index(max(a)) == b.index(max(b)),
    )
