"""Whether a crowd of simulated people holds what the real crowd holds: distances between two distributions over users."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from humanlm.metrics.intervals import DIGITS, Estimate, bootstrap_users

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Distance = Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]]


class Fidelity(BaseModel):
    """A distribution over users, simulated against real.

    Attributes:
        categories: What was counted, in their order if they have one.
        real: Share of each category among real replies; each user weighs the same.
        simulated: Likewise for the simulated ones.
        distance: Jensen-Shannon distance (base 2, from 0 to 1), or the Wasserstein distance in steps for ordered categories;
            the interval draws users, real and simulated together, and is freed of what sampling alone adds to a distance: for
            equal crowds it reaches down to 0.
        chance: The distance that two halves of the real users themselves show on average: what sampling alone brings about
            with half as many.
        kind: ``jensen-shannon`` or ``wasserstein``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    categories: tuple[str, ...]
    real: tuple[float, ...]
    simulated: tuple[float, ...]
    distance: Estimate
    chance: float | None
    kind: str


def fidelity(
    real: Sequence[str | None],
    simulated: Sequence[str | None],
    users: Sequence[str],
    *,
    categories: Sequence[str] = (),
    ordered: bool = False,
    seed: int = 0,
) -> Fidelity:
    """Compares how categories are spread over users in real and in simulated replies to the same contexts.

    Each user's replies make a distribution, and the users' distributions are averaged: a person who writes much counts once.

    Args:
        real: The category of each real reply; None where it is not known. A case that misses either side is left out.
        simulated: The category of the simulated reply of the same case.
        users: Whose case it is.
        categories: All categories in their order; those found are added.
        ordered: Whether they are steps of a scale: then the Wasserstein distance, in steps, else Jensen-Shannon.
        seed: Of the resampling.

    Raises:
        ValueError: The sequences differ in length.
    """
    import numpy as np

    cases = sorted((u, r, s) for r, s, u in zip(real, simulated, users, strict=True) if r is not None and s is not None)
    missing = len(users) - len(cases)
    names = sorted({user for user, *_ in cases})
    found = sorted({name for _, r, s in cases for name in (r, s)} - set(categories))
    kinds = (*categories, *found)
    kind = "wasserstein" if ordered else "jensen-shannon"
    if not cases:
        empty = Estimate(mean=None, ci95=None, n=0, users=0, missing=missing)
        return Fidelity(categories=kinds, real=(), simulated=(), distance=empty, chance=None, kind=kind)
    by_user: dict[str, tuple[list[str], list[str]]] = {}
    for user, r, s in cases:
        pair = by_user.setdefault(user, ([], []))
        pair[0].append(r)
        pair[1].append(s)
    ours, theirs = (np.array([_shares(by_user[name][side], kinds) for name in names]) for side in (0, 1))

    def distance(p: NDArray[np.float64], q: NDArray[np.float64]) -> NDArray[np.float64]:
        from scipy.spatial.distance import jensenshannon

        if ordered:  # on a line of steps of length one this is the area between the two cumulative distributions
            area: NDArray[np.float64] = np.abs(np.cumsum(p, axis=-1) - np.cumsum(q, axis=-1))[..., :-1].sum(axis=-1)
            return area
        return np.nan_to_num(np.asarray(jensenshannon(p, q, base=2, axis=-1)))

    def squared(drawn: NDArray[np.int64]) -> NDArray[np.float64]:
        return distance(ours[drawn].mean(axis=-2), theirs[drawn].mean(axis=-2)) ** 2

    p, q = ours.mean(axis=0), theirs.mean(axis=0)
    mean, most = float(distance(p, q)), len(kinds) - 1.0 if ordered else 1.0
    # squared, because what sampling adds to the square is the same wherever the true distance lies
    interval = bootstrap_users(squared, len(names), seed=seed, resamples=1000, observed=mean**2)
    if interval is not None:
        low, high = (round(min(most, max(0.0, end) ** 0.5), DIGITS) for end in interval)
        interval = min(low, round(mean, DIGITS)), max(high, round(mean, DIGITS))
    return Fidelity(
        categories=kinds,
        real=tuple(round(float(share), DIGITS) for share in p),
        simulated=tuple(round(float(share), DIGITS) for share in q),
        distance=Estimate(
            mean=round(mean, DIGITS),
            ci95=interval,
            n=len(cases),
            users=len(names),
            missing=missing,
        ),
        chance=_chance(ours, distance, seed),
        kind=kind,
    )


def _shares(labels: Sequence[str], kinds: Sequence[str]) -> list[float]:
    counts = Counter(labels)
    return [counts[kind] / len(labels) for kind in kinds]


def _chance(ours: NDArray[np.float64], distance: Distance, seed: int, splits: int = 200) -> float | None:
    """The mean distance between two random halves of the same users."""
    import numpy as np

    if len(ours) < 4:
        return None
    dice = np.random.default_rng(seed)
    half = len(ours) // 2
    orders = [dice.permutation(len(ours)) for _ in range(splits)]
    first, second = (
        np.array([ours[order[part]].mean(axis=0) for order in orders])
        for part in (slice(0, half), slice(half, 2 * half))
    )
    return round(float(distance(first, second).mean()), DIGITS)
