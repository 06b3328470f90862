"""Weights that make the people asked resemble a population, and means with intervals that respect them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from humanlm.errors import DataError
from humanlm.metrics.intervals import DIGITS, RESAMPLES, Estimate

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_ROUNDS = 1000
_CLOSE = 1e-8
_CELLS = 1_000_000
_KEPT = 8_000_000
"""Counts of draws that are held in memory at once, and that are kept for the next measure."""


class Weights(BaseModel):
    """Weights of people, with mean 1.

    Attributes:
        by_person: The weight of each.
        design_effect: By how much the weights widen the variance of a mean (Kish): n times the sum of squares over the square
            of the sum. 1 for equal weights.
        effective_n: People divided by the design effect.
        largest: The largest weight.
        error: The largest distance of a weighted share from its margin.
    """

    model_config = ConfigDict(frozen=True)

    by_person: dict[str, float]
    design_effect: float
    effective_n: float
    largest: float
    error: float


def rake(traits: Mapping[str, Mapping[str, str]], margins: Mapping[str, Mapping[str, float]]) -> Weights:
    """Weights people so that every trait's shares equal those of a population (iterative proportional fitting).

    Args:
        traits: For each trait the value of each person; every trait has the same people.
        margins: For each trait the share of each value in the population.

    Raises:
        DataError: A value that the population has is nobody's, or the margins contradict one another on these people.
    """
    import numpy as np

    people = list(next(iter(traits.values()))) if traits else []
    weights = np.ones(len(people))
    masks: list[tuple[NDArray[np.bool_], float]] = []
    for trait, shares in margins.items():
        for value, share in shares.items():
            mask = np.array([traits[trait][person] == value for person in people])
            if not mask.any():
                raise DataError(
                    f"nobody asked has {trait} {value}, whom the population has: ask such people, or join values"
                )
            masks.append((mask, share))
    error = math.inf
    for _ in range(_ROUNDS):
        for mask, share in masks:
            weights[mask] *= share * weights.sum() / weights[mask].sum()
        error = max(abs(weights[mask].sum() / weights.sum() - share) for mask, share in masks) if masks else 0.0
        if error < _CLOSE:
            break
    if error > 1e-3:
        raise DataError(f"the margins cannot be met together by these people (off by {error:.1%}): leave a trait out")
    weights /= weights.mean()
    effect = float(len(people) * (weights**2).sum() / weights.sum() ** 2)
    return Weights(
        by_person={person: round(float(weight), DIGITS) for person, weight in zip(people, weights, strict=True)},
        design_effect=round(effect, DIGITS),
        effective_n=round(len(people) / effect, DIGITS),
        largest=round(float(weights.max()), DIGITS),
        error=round(error, 10),
    )


def weighted_estimate(
    values: Sequence[float | None],
    users: Sequence[str],
    weights: Mapping[str, float] | None = None,
    *,
    share: bool = False,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Estimate:
    """The weighted mean of values with a 95% percentile bootstrap interval that draws whole users, their weights with them.

    The weights are taken as they are, not fitted again in each sample, which makes intervals a little wide where the margins
    tell much about the values. Without weights it is the plain mean with the same interval.

    Args:
        values: One a case; None where it is missing.
        users: Whose case it is; as long as ``values``.
        weights: By user.
        share: Whether values are 0 and 1. Where all users are alike nothing can be resampled; then the interval is the exact one
            (Clopper and Pearson) of as many people as the weights leave: 3 of 3 is 29% to 100%, not 100% to 100%.
        seed: Of the resampling; the order of the cases does not matter.
        resamples: Bootstrap samples.
    """
    import numpy as np

    sums: dict[str, tuple[float, float]] = {}
    n = missing = 0
    for value, user in sorted(
        zip(values, users, strict=True), key=lambda case: (case[1], -1e300 if case[0] is None else case[0])
    ):
        if value is None or math.isnan(value):
            missing += 1
            continue
        weight = 1.0 if weights is None else weights[user]
        total, count = sums.get(user, (0.0, 0.0))
        sums[user] = total + weight * value, count + weight
        n += 1
    if not sums:
        return Estimate(mean=None, ci95=None, n=0, users=0, missing=missing)
    table = np.array(list(sums.values()))
    mean = float(table[:, 0].sum() / table[:, 1].sum())
    interval = None
    if len(table) > 1:
        totals = np.concatenate([drawn @ table for drawn in _draws(len(table), seed, resamples)])
        low, high = np.percentile(totals[:, 0] / totals[:, 1], [2.5, 97.5])
        if share and low == high and mean in (0.0, 1.0):
            people = table[:, 1].sum() ** 2 / (table[:, 1] ** 2).sum()
            low, high = (0.0, 1 - 0.025 ** (1 / people)) if mean == 0 else (0.025 ** (1 / people), 1.0)
        interval = round(float(low), DIGITS), round(float(high), DIGITS)
    return Estimate(mean=round(mean, DIGITS), ci95=interval, n=n, users=len(sums), missing=missing)


def _draws(users: int, seed: int, resamples: int) -> Iterable[NDArray[np.float64]]:
    """How often each user is drawn in each sample, in parts of bounded size; the same for all measures of a survey."""
    return _few_draws(users, seed, resamples) if users * resamples <= _KEPT else _many_draws(users, seed, resamples)


@lru_cache(maxsize=2)
def _few_draws(users: int, seed: int, resamples: int) -> tuple[NDArray[np.float64], ...]:
    return tuple(_many_draws(users, seed, resamples))


def _many_draws(users: int, seed: int, resamples: int) -> Iterator[NDArray[np.float64]]:
    import numpy as np

    dice, shares = np.random.default_rng(seed), np.full(users, 1 / users)
    size = max(1, _CELLS // users)
    for start in range(0, resamples, size):
        yield dice.multinomial(users, shares, size=min(size, resamples - start)).astype(float)
