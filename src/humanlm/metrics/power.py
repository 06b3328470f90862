"""How many examples a comparison needs: paired, with users as the units, from a pilot's spread or a rough guess."""

import math

from pydantic import BaseModel, ConfigDict

SPREAD = 0.35
"""Standard deviation of the difference between two methods on one example, where no pilot tells it: judged scores lie in [0, 1]
and are often 0, and two independent ones with a deviation of 0.25 each have differences of this deviation."""

USER_SHARE = 0.1
"""Share of that variance that lies between users, where no pilot tells it."""


class SampleSize(BaseModel):
    """What it takes to see a difference.

    Attributes:
        difference: The difference that is to be seen, on the scale from 0 to 1.
        power: How surely.
        alpha: At which level (two-sided), after the correction for the number of comparisons.
        spread: Standard deviation of the difference between two methods on one example.
        user_share: Share of its variance between users.
        per_user: Examples a user.
        users: Users it takes.
        examples: Examples it takes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    difference: float
    power: float
    alpha: float
    spread: float
    user_share: float
    per_user: float
    users: int
    examples: int


def needed_users(
    difference: float,
    *,
    spread: float = SPREAD,
    user_share: float = USER_SHARE,
    per_user: float = 1.0,
    power: float = 0.8,
    alpha: float = 0.05,
    comparisons: int = 1,
) -> SampleSize:
    """How many users, with so many examples each, show a difference with the wanted power (paired t-test over users).

    Args:
        difference: The true mean difference between two methods, above 0.
        spread: Standard deviation of the difference on one example.
        user_share: The share of its variance that lies between users (intraclass correlation), in [0, 1].
        per_user: Examples a user: more of them help only against the rest of the variance.
        power: Chance of seeing the difference.
        alpha: Chance of seeing one where there is none.
        comparisons: How many tests are corrected for (Holm's first step: ``alpha / comparisons``).

    Raises:
        ValueError: A number is out of range.
    """
    if not (0 < difference <= 1 and spread > 0 and 0 <= user_share <= 1 and per_user >= 1 and comparisons >= 1):
        raise ValueError(
            "difference in (0, 1], spread above 0, user share in [0, 1], examples a user and comparisons at least 1"
        )
    if not (0 < power < 1 and 0 < alpha < 1):
        raise ValueError("power and alpha lie between 0 and 1")
    level = alpha / comparisons
    deviation = _deviation(spread, user_share, per_user)
    users = max(2, math.ceil(_solve(effect=difference / deviation, alpha=level, power=power) - 1e-9))
    return SampleSize(
        difference=difference,
        power=power,
        alpha=level,
        spread=spread,
        user_share=user_share,
        per_user=per_user,
        users=users,
        examples=math.ceil(users * per_user - 1e-9),
    )


def detectable(
    users: int,
    *,
    spread: float = SPREAD,
    user_share: float = USER_SHARE,
    per_user: float = 1.0,
    power: float = 0.8,
    alpha: float = 0.05,
    comparisons: int = 1,
) -> float | None:
    """The smallest difference that so many users show with the wanted power, the other way round from :func:`needed_users`."""
    if users < 2:
        return None
    effect = _solve(users=users, alpha=alpha / comparisons, power=power)
    return effect * _deviation(spread, user_share, per_user)


def _deviation(spread: float, user_share: float, per_user: float) -> float:
    """Standard deviation of a user's mean difference."""
    return spread * math.sqrt(user_share + (1 - user_share) / per_user)


def _solve(*, alpha: float, power: float, users: int | None = None, effect: float | None = None) -> float:
    """The missing one of users and effect size, by statsmodels' power of the paired t-test."""
    from statsmodels.stats.power import TTestPower

    if effect is not None and effect > 5:  # two or three users do; the solver does not like such effects
        return 3.0
    found = TTestPower().solve_power(effect_size=effect, nobs=users, alpha=alpha, power=power, alternative="two-sided")
    return float(found if not hasattr(found, "__len__") else found[0])
