"""Several judges, or one judge several times: their mean as a verdict, and how far they agree."""

import math
import warnings
from collections.abc import Mapping, Sequence
from functools import reduce
from itertools import combinations
from typing import Any

from pydantic import BaseModel, ConfigDict

from humanlm.errors import JudgeError, UsageError
from humanlm.example import Example
from humanlm.judging.base import Estimate, Group, Judge, Verdict, Voiced
from humanlm.judging.traces import TraceVerdicts
from humanlm.llm import Tally
from humanlm.reply import Reply

_RESAMPLES = 300
_PLACES = 2  # scores are compared to this many decimals: finer differences are no opinion

Opinion = tuple[Verdict, ...] | JudgeError


class PanelJudge(Judge):
    """Has each group judged by every member, each as often as ``repeats`` says and in other orders; the score is the mean.

    A group needs all members, and of each member more than half of its repeats: who is missing would shift the mean.

    Attributes:
        name: The members' names, with the number of repeats.
        judges: The members.
        repeats: How often each is asked.
    """

    def __init__(self, judges: Sequence[Judge], *, repeats: int = 1) -> None:
        """Makes a panel.

        Raises:
            UsageError: It has no members, or two of the same name.
        """
        names = [judge.name for judge in judges]
        if not names or len(set(names)) < len(names):
            raise UsageError(
                f"a panel needs different judges, got {', '.join(names) or 'none'}: to ask one again use --judge-repeats"
            )
        self.judges, self.repeats = tuple(judges), repeats
        self.concurrent = all(judge.concurrent for judge in judges)
        self.name = " + ".join(names) + (f" x{repeats}" if repeats > 1 else "")

    @property
    def tally(self) -> Tally:
        """What all members have asked and spent so far; members of one model count once each."""
        total = Tally()
        for judge in self.judges:
            total = total.plus(judge.tally)
        return total

    def voiced(self, reply: Reply) -> Voiced | None:
        """What the first member says that can tell."""
        return next((said for judge in self.judges if (said := judge.voiced(reply)) is not None), None)

    def covers(self, example: Example, target: str) -> bool:
        """Whether every member can judge this."""
        return all(judge.covers(example, target) for judge in self.judges)

    def estimate(self, groups: Sequence[Group]) -> Estimate:
        """The members' estimates, added up."""
        return reduce(Estimate.plus, (judge.estimate(self._repeated(groups)) for judge in self.judges))

    def estimate_traces(self, groups: Sequence[Group], dimensions: Sequence[str]) -> Estimate:
        """The members' estimates for traces, added up."""
        repeated = self._repeated(groups)
        return reduce(Estimate.plus, (judge.estimate_traces(repeated, dimensions) for judge in self.judges))

    def judge_traces(self, groups: Sequence[Group], dimensions: Sequence[str]) -> list[TraceVerdicts | JudgeError]:
        """Every member judges traces in its own way; a dimension needs all members, as the replies do."""
        repeated = self._repeated(groups)
        heard = {judge.name: judge.judge_traces(repeated, dimensions) for judge in self.judges}
        return [
            _merged_traces(
                group,
                {name: rows[place * self.repeats : (place + 1) * self.repeats] for name, rows in heard.items()},
                [name for name in dimensions if self.covers(group.example, name)],
            )
            for place, group in enumerate(groups)
        ]

    def opinions(self, groups: Sequence[Group]) -> dict[str, list[list[Opinion]]]:
        """What each member says: by its name, for each group one opinion a repeat."""
        heard: dict[str, list[list[Opinion]]] = {}
        for judge in self.judges:
            flat = judge.judge_all(self._repeated(groups))
            heard[judge.name] = [
                flat[place * self.repeats : (place + 1) * self.repeats] for place in range(len(groups))
            ]
        return heard

    def _repeated(self, groups: Sequence[Group]) -> list[Group]:
        return [
            group.model_copy(update={"repeat": group.repeat * self.repeats + number})
            for group in groups
            for number in range(self.repeats)
        ]

    def _assess(self, groups: Sequence[Group]) -> list[Sequence[Verdict] | JudgeError]:
        heard = self.opinions(groups)
        return [
            _merged({name: rows[place] for name, rows in heard.items()}, len(group.replies))
            for place, group in enumerate(groups)
        ]


def _merged_traces(
    group: Group, heard: Mapping[str, Sequence[TraceVerdicts | JudgeError]], dimensions: Sequence[str]
) -> TraceVerdicts | JudgeError:
    def opinion(row: TraceVerdicts | JudgeError, dimension: str) -> Opinion:
        if isinstance(row, JudgeError):
            return row
        return row.states[dimension] if dimension else row.replies

    def merged(dimension: str = "") -> Opinion:
        found = {name: [opinion(row, dimension) for row in rows] for name, rows in heard.items()}
        verdicts = _merged(found, len(group.replies))
        return verdicts if isinstance(verdicts, JudgeError) else tuple(verdicts)

    replies = merged()
    return (
        replies
        if isinstance(replies, JudgeError)
        else TraceVerdicts(replies, {name: merged(name) for name in dimensions})
    )


def _merged(heard: Mapping[str, Sequence[Opinion]], size: int) -> list[Verdict] | JudgeError:
    means: dict[str, list[float]] = {}
    ruled: dict[int, Verdict] = {}  # what is scored by rule every member scores alike
    notes: list[list[str]] = [[] for _ in range(size)]
    for name, opinions in heard.items():
        given = [opinion for opinion in opinions if not isinstance(opinion, JudgeError)]
        if 2 * len(given) <= len(opinions):
            failure = next(opinion for opinion in opinions if isinstance(opinion, JudgeError))
            return JudgeError(f"panel: {name} gave {len(given)} of {len(opinions)} judgements ({failure})")
        means[name] = [sum(opinion[place].score for opinion in given) / len(given) for place in range(size)]
        for place in range(size):
            if given[0][place].rule:
                ruled[place] = given[0][place]
            scores = "/".join(f"{opinion[place].score:.2f}" for opinion in given)
            notes[place].append(f"{name} {scores}: {given[0][place].rationale}")
    return [
        ruled.get(place)
        or Verdict(
            key_points=tuple(means),
            matches=tuple(round(column[place], 6) for column in means.values()),
            rationale=" | ".join(notes[place]),
        )
        for place in range(size)
    ]


class Agreement(BaseModel):
    """How far several raters agree on the same units.

    Attributes:
        raters: Their names.
        units: Units that at least two of them rated.
        alpha: Krippendorff's alpha for interval data; None if all ratings are equal or there are too few.
        alpha_ci95: Its bootstrap interval over units.
        spearman: Mean rank correlation over all pairs of raters; None if it is not defined.
        spearman_ci95: Its bootstrap interval over units.
    """

    model_config = ConfigDict(frozen=True)

    raters: tuple[str, ...]
    units: int
    alpha: float | None
    alpha_ci95: tuple[float, float] | None
    spearman: float | None
    spearman_ci95: tuple[float, float] | None


def agreement(ratings: Mapping[str, Sequence[float | None]], *, seed: int = 0) -> Agreement:
    """Measures agreement: Krippendorff's alpha from the library of that name, Spearman's rho and the bootstrap from scipy.

    Args:
        ratings: For each rater one rating a unit, in the same order of units; None where there is none.
        seed: Of the bootstrap.
    """
    import numpy as np

    table = np.array(
        [[math.nan if value is None else round(value, _PLACES) for value in row] for row in ratings.values()],
        dtype=float,
    )
    rated = table[:, (~np.isnan(table)).sum(axis=0) >= 2] if table.size else table.reshape(len(ratings), 0)
    alpha, alpha_ci = _with_interval(rated, _alpha, seed)
    rho, rho_ci = _with_interval(rated, _spearman, seed)
    return Agreement(
        raters=tuple(ratings),
        units=rated.shape[1],
        alpha=alpha,
        alpha_ci95=alpha_ci,
        spearman=rho,
        spearman_ci95=rho_ci,
    )


def _with_interval(table: Any, statistic: Any, seed: int) -> tuple[float | None, tuple[float, float] | None]:
    import numpy as np
    from scipy import stats

    value = statistic(table)
    if math.isnan(value):
        return None, None
    if table.shape[1] < 3:
        return value, None

    def resampled(places: Any) -> float:
        return float(statistic(table[:, places]))

    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # resamples without any spread have no statistic, and are left out below
        found = stats.bootstrap(
            (np.arange(table.shape[1]),),
            resampled,
            n_resamples=_RESAMPLES,
            vectorized=False,
            method="percentile",
            rng=np.random.default_rng(seed),
        )
    drawn = found.bootstrap_distribution[~np.isnan(found.bootstrap_distribution)]
    if not len(drawn):
        return value, None
    low, high = np.quantile(drawn, [0.025, 0.975])
    return value, (float(low), float(high))


def _alpha(table: Any) -> float:
    """Krippendorff's alpha; NaN where it is not defined."""
    import krippendorff

    if table.shape[1] == 0:
        return math.nan
    try:
        return float(krippendorff.alpha(reliability_data=table, level_of_measurement="interval"))
    except ValueError:  # all ratings are equal
        return math.nan


def _spearman(table: Any) -> float:
    """Mean rank correlation over pairs of raters; NaN where no pair has one."""
    import numpy as np
    from scipy import stats

    found = []
    for left, right in combinations(table, 2):
        both = ~np.isnan(left) & ~np.isnan(right)
        if both.sum() >= 3 and np.ptp(left[both]) > 0 and np.ptp(right[both]) > 0:
            ranks = stats.rankdata([left[both], right[both]], axis=1)
            found.append(float(np.corrcoef(ranks)[0, 1]))
    return sum(found) / len(found) if found else math.nan


def agreement_by_target(
    groups: Sequence[Group], opinions: Mapping[str, Sequence[Opinion]], *, seed: int = 0
) -> dict[str, Agreement]:
    """Agreement for each target by itself; the units are the replies.

    Args:
        groups: What was judged.
        opinions: For each rater one opinion a group; a failure leaves a gap. Replies scored by rule are left out.
        seed: Of the bootstrap.
    """
    result = {}
    for target in dict.fromkeys(group.target for group in groups):
        columns: dict[str, list[float | None]] = {name: [] for name in opinions}
        for name, rows in opinions.items():
            for group, opinion in zip(groups, rows, strict=True):
                if group.target != target:
                    continue
                for place in range(len(group.replies)):
                    ruled = isinstance(opinion, JudgeError) or bool(opinion[place].rule)
                    columns[name].append(None if ruled else opinion[place].score)  # type: ignore[index]
        result[target] = agreement(columns, seed=seed)
    return result
