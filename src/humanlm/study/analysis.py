"""The statistics of a study: means with intervals, win rates, paired tests, shares above each label, the judge's agreement."""

import itertools
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict

from humanlm.errors import DataError, JudgeError, UsageError, unknown_name
from humanlm.example import Example, Turn
from humanlm.judging import Group, Judge
from humanlm.metrics.association import RankAgreement, correlation, rank_agreement
from humanlm.metrics.intervals import Estimate, estimate, paired_difference
from humanlm.metrics.power import needed_users
from humanlm.metrics.significance import PairedTest, holm, paired_test
from humanlm.reply import Reply
from humanlm.states import RESPONSE
from humanlm.study.config import Study
from humanlm.study.export import Row, Tables

ALPHA, POWER = 0.05, 0.8
_WILCOXON_EFFICIENCY = 0.955
"""Of the signed-rank test against the t-test where differences are normal: so many more people it takes."""
_BINS = 4


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SimulatorMarks(_Frozen):
    """What people said of one simulator; the unit of every interval is the participant.

    Attributes:
        name: The simulator.
        similarity: Mean mark for likeness with the own response.
        human_likeness: Mean mark for reading as if a person had written it.
        win_rate: Share of confirmed orders in which it came first.
        mean_rank: Its mean place, 1 for the best.
        dimensions: Mean mark for likeness along each state dimension.
        above: Share of marks at or above each labelled one, by label's value.
        shown: Replies that were shown.
        left_out: Replies that could not be had in time.
        seconds: Median seconds of a reply.
    """

    name: str
    similarity: Estimate
    human_likeness: Estimate
    win_rate: Estimate
    mean_rank: Estimate
    dimensions: dict[str, Estimate]
    above: dict[int, Estimate]
    shown: int
    left_out: int
    seconds: float | None


class Contrast(_Frozen):
    """The focal simulator against another, on the same people and stimuli.

    Attributes:
        measure: ``similarity`` or ``human_likeness``.
        focal: The simulator that is expected to be better.
        other: The one it is compared with.
        difference: Mean of focal minus other.
        test: Wilcoxon's signed-rank test over participants, one-sided.
        p_holm: Its p-value corrected for the number of others.
    """

    measure: str
    focal: str
    other: str
    difference: Estimate
    test: PairedTest
    p_holm: float | None


class JudgeAgreement(_Frozen):
    """How far a judge's scores go with people's similarity marks.

    Attributes:
        judge: Its name.
        correlation: Pearson's r over replies, interval by participant.
        pairs: Share of pairs of replies to the same person which judge and person order alike; ties of either are left out.
        order: Agreement of the two orders of simulators.
        means: The judge's mean score of each simulator.
        bins: For quarters of the judge's scores: mean score, mean mark, replies.
        failed: Groups without a verdict.
    """

    judge: str
    correlation: Estimate
    pairs: Estimate
    order: RankAgreement
    means: dict[str, Estimate]
    bins: tuple[tuple[float, float, int], ...]
    failed: int


class Planned(_Frozen):
    """Participants that a next study needs to see a difference in similarity.

    Attributes:
        difference: In marks.
        observed: Whether it is the difference of this study instead of a round number.
        spread: Standard deviation of a participant's mean difference, in marks.
        participants: How many it takes, with power 0.8 at level 0.05, one-sided, corrected for the number of others.
    """

    difference: float
    observed: bool
    spread: float
    participants: int


class Analysis(_Frozen):
    """Everything that is reported.

    Attributes:
        title: Of the study.
        versions: Study files that participants began with.
        finished: Participants who sent their answers.
        excluded: Of these, left out for failed attention checks.
        others: Participants by other status.
        scale: Lowest and highest mark.
        labels: Words for marks.
        focal: The simulator that the tests are about.
        simulators: In the study's order.
        contrasts: Tests of both measures.
        judge: None if no judge was asked.
        plans: For the next study; empty if there were too few participants.
        minutes: Median time a participant took.
    """

    title: str
    versions: int
    finished: int
    excluded: int
    others: dict[str, int]
    scale: tuple[int, int]
    labels: dict[int, str]
    focal: str
    simulators: tuple[SimulatorMarks, ...]
    contrasts: tuple[Contrast, ...]
    judge: JudgeAgreement | None
    plans: tuple[Planned, ...]
    minutes: float | None


def analyze(
    study: Study,
    tables: Tables,
    *,
    focal: str | None = None,
    judge: Judge | None = None,
    seed: int = 0,
    keep_inattentive: bool = False,
) -> Analysis:
    """Computes a study's results from those who finished.

    Args:
        study: The study.
        tables: Its data.
        focal: The simulator that is expected to be better than each other; by default the study's first. It is to be chosen
            before the data are seen.
        judge: Compared with people's marks, if given.
        seed: Of the intervals.
        keep_inattentive: Whether to keep participants who failed more attention checks than the study allows.

    Raises:
        UsageError: There is no such simulator.
        DataError: Nobody has finished yet.
    """
    names = [simulator.name for simulator in study.simulators]
    chosen = focal or names[0]
    if chosen not in names:
        raise unknown_name("simulator", chosen, names)
    finished = [row for row in tables.participants if row["status"] == "finished"]
    fine = (
        finished if keep_inattentive else [row for row in finished if row["failed_checks"] <= study.attention.allowed]
    )
    if not fine:
        raise DataError(
            "nobody whose answers count has finished this study yet: `humanlm study serve` shows who is on the way"
        )
    people = {row["participant"] for row in fine}
    rows = [row for row in tables.ratings if row["participant"] in people]
    statuses = [row["status"] for row in tables.participants if row["status"] != "finished"]
    minutes = sorted(row["minutes"] for row in fine if row["minutes"] is not None)
    contrasts = [
        *_contrasts(study, rows, chosen, "similarity", seed),
        *_contrasts(study, rows, chosen, "human_likeness", seed),
    ]
    return Analysis(
        title=study.title,
        versions=len(tables.studies),
        finished=len(finished),
        excluded=len(finished) - len(fine),
        others={status: statuses.count(status) for status in sorted(set(statuses))},
        scale=(study.ratings.min, study.ratings.max),
        labels=study.ratings.labels,
        focal=chosen,
        simulators=tuple(_marks(study, name, rows, seed) for name in names),
        contrasts=tuple(contrasts),
        judge=_agreement(study, tables, rows, judge, seed) if judge is not None else None,
        plans=_plans(study, rows, contrasts),
        minutes=minutes[len(minutes) // 2] if minutes else None,
    )


def _values(rows: Sequence[Row], column: str, seed: int) -> Estimate:
    values = [row.get(column) for row in rows]
    return estimate(values, [row["participant"] for row in rows], seed=seed)


def _marks(study: Study, name: str, rows: Sequence[Row], seed: int) -> SimulatorMarks:
    mine = [row for row in rows if row["simulator"] == name]
    shown = [row for row in mine if row["label"] is not None]
    seconds = sorted(row["seconds"] for row in shown if row["seconds"] is not None)
    wins = [{**row, "won": None if row["rank"] is None else float(row["rank"] == 1)} for row in shown]

    def share(value: int) -> Estimate:
        marked = [
            {**row, "above": None if row["similarity"] is None else float(row["similarity"] >= value)} for row in shown
        ]
        return _values(marked, "above", seed)

    return SimulatorMarks(
        name=name,
        similarity=_values(shown, "similarity", seed),
        human_likeness=_values(shown, "human_likeness", seed),
        win_rate=_values(wins, "won", seed),
        mean_rank=_values(shown, "rank", seed),
        dimensions={dimension: _values(shown, f"similarity_{dimension}", seed) for dimension in study.states.dimensions}
        if study.ratings.dimensions
        else {},
        above={value: share(value) for value in sorted(study.ratings.labels) if value > study.ratings.min},
        shown=len(shown),
        left_out=sum(row["status"] == "left out" for row in mine),
        seconds=seconds[len(seconds) // 2] if seconds else None,
    )


def _cases(rows: Sequence[Row]) -> dict[tuple[str, str], dict[str, Row]]:
    """Replies by participant and stimulus, then by simulator."""
    cases: dict[tuple[str, str], dict[str, Row]] = {}
    for row in rows:
        cases.setdefault((row["participant"], row["stimulus"]), {})[row["simulator"]] = row
    return cases


def _contrasts(study: Study, rows: Sequence[Row], focal: str, measure: str, seed: int) -> list[Contrast]:
    if measure == "human_likeness" and not study.ratings.human_likeness:
        return []
    cases = _cases(rows)
    users = [participant for participant, _ in cases]
    others = [simulator.name for simulator in study.simulators if simulator.name != focal]

    def column(name: str) -> list[float | None]:
        return [case.get(name, {}).get(measure) for case in cases.values()]

    tests = [
        paired_test(column(focal), column(other), users, method="wilcoxon", alternative="greater") for other in others
    ]
    corrected = holm([test.p for test in tests])
    return [
        Contrast(
            measure=measure,
            focal=focal,
            other=other,
            difference=paired_difference(column(focal), column(other), users, seed=seed),
            test=test,
            p_holm=p,
        )
        for other, test, p in zip(others, tests, corrected, strict=True)
    ]


def _plans(study: Study, rows: Sequence[Row], contrasts: Sequence[Contrast]) -> tuple[Planned, ...]:
    """How many participants would show this study's smallest advantage, and differences of half a mark and one mark."""
    mine = [contrast for contrast in contrasts if contrast.measure == "similarity"]
    spreads = [spread for contrast in mine if (spread := _spread(rows, contrast)) is not None]
    if not spreads:
        return ()
    spread, width = max(spreads), study.ratings.max - study.ratings.min
    advantages = [contrast.difference.mean for contrast in mine if contrast.difference.mean is not None]
    wanted = [(0.5, False), (1.0, False)]
    if advantages and min(advantages) > 0:
        wanted.insert(0, (min(advantages), True))
    plans = []
    for difference, observed in wanted:
        size = needed_users(
            min(1.0, difference / width),
            spread=spread / width,
            user_share=1.0,
            power=POWER,
            alpha=2 * ALPHA,  # one-sided
            comparisons=len(mine),
        )
        people = int(-(-size.users // _WILCOXON_EFFICIENCY))
        plans.append(Planned(difference=difference, observed=observed, spread=spread, participants=people))
    return tuple(plans)


def _spread(rows: Sequence[Row], contrast: Contrast) -> float | None:
    """Standard deviation of the participants' mean differences."""
    import statistics

    gaps: dict[str, list[float]] = {}
    for (participant, _), case in _cases(rows).items():
        ours, theirs = (case.get(name, {}).get("similarity") for name in (contrast.focal, contrast.other))
        if ours is not None and theirs is not None:
            gaps.setdefault(participant, []).append(ours - theirs)
    means = [sum(values) / len(values) for values in gaps.values()]
    spread = statistics.stdev(means) if len(means) > 1 else 0.0
    return spread or None


def judge_groups(study: Study, tables: Tables, rows: Sequence[Row]) -> tuple[list[Group], list[list[Row]]]:
    """What a judge is asked: each person's response with the replies that this person marked."""
    responses = {(row["participant"], row["stimulus"]): row["response"] for row in tables.responses}
    groups, members = [], []
    for (participant, stimulus), case in _cases(rows).items():
        marked = [row for row in case.values() if row["similarity"] is not None and row["reply"]]
        own = responses.get((participant, stimulus))
        if not marked or not own:
            continue
        shown = study.stimulus(stimulus)
        text = f"{shown.title}\n\n{shown.text}" if shown.title else shown.text
        example = Example(
            id=f"{participant}/{stimulus}",
            user_id=participant,
            context=(Turn(author=shown.author, text=text),),
            response=own,
        )
        groups.append(
            Group(example=example, target=RESPONSE, replies=tuple(Reply(text=row["reply"]) for row in marked))
        )
        members.append(marked)
    return groups, members


def _agreement(study: Study, tables: Tables, rows: Sequence[Row], judge: Judge, seed: int) -> JudgeAgreement:
    groups, members = judge_groups(study, tables, rows)
    scored: list[dict[str, Any]] = []
    alike: list[float | None] = []
    owners: list[str] = []
    failed = 0
    for result, marked in zip(judge.judge_all(groups), members, strict=True):
        if isinstance(result, JudgeError):
            failed += 1
            continue
        case = [{**row, "score": verdict.score} for row, verdict in zip(marked, result, strict=True)]
        scored += case
        for one, two in itertools.combinations(case, 2):
            people, judged = one["similarity"] - two["similarity"], one["score"] - two["score"]
            if people and judged:
                alike.append(float((people > 0) == (judged > 0)))
                owners.append(one["participant"])
    if not scored:
        raise UsageError("the judge gave no verdict on any reply: look at its messages, or choose another judge")
    users = [row["participant"] for row in scored]
    names = [simulator.name for simulator in study.simulators]
    means = {name: _values([row for row in scored if row["simulator"] == name], "score", seed) for name in names}
    marks = {
        name: _values([row for row in scored if row["simulator"] == name], "similarity", seed).mean for name in names
    }
    return JudgeAgreement(
        judge=judge.name,
        correlation=correlation(
            [row["score"] for row in scored], [row["similarity"] for row in scored], users, seed=seed
        ),
        pairs=estimate(alike, owners, seed=seed),
        order=rank_agreement({name: found.mean for name, found in means.items()}, marks),
        means=means,
        bins=_bins(scored),
        failed=failed,
    )


def _bins(scored: Sequence[dict[str, Any]]) -> tuple[tuple[float, float, int], ...]:
    ordered = sorted(scored, key=lambda row: (row["score"], row["similarity"]))
    size = max(1, -(-len(ordered) // _BINS))
    parts = [ordered[start : start + size] for start in range(0, len(ordered), size)]
    return tuple(
        (
            round(sum(row["score"] for row in part) / len(part), 4),
            round(sum(row["similarity"] for row in part) / len(part), 4),
            len(part),
        )
        for part in parts
    )
