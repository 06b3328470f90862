"""Comparing evaluations, over one dataset or several: the paper's first table, methods by datasets."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from humanlm.errors import UsageError
from humanlm.evaluation.comparison import BASELINES, JOINT, SAMPLES, Comparison, compare_evaluations
from humanlm.evaluation.joint import JointCost, joint_cost_of
from humanlm.evaluation.opening import Evaluation, name_evaluations, open_evaluations
from humanlm.evaluation.scores import SCORES, sorted_json
from humanlm.files import write_whole
from humanlm.judging import Judge
from humanlm.judging.base import Estimate as Cost
from humanlm.metrics.intervals import DIGITS, Estimate
from humanlm.metrics.significance import Method


class Table(BaseModel):
    """Methods by datasets: response alignment (the paper's Table 1).

    Attributes:
        datasets: The columns.
        cells: By method and dataset.
        anchors: By anchor (``truth``, ``other_user``) and dataset, what the judge gives texts of real people.
        average: By method, the mean over the datasets; None if it was not measured on all of them.
        best_baseline: By dataset.
        challenger: By dataset, the best method that is no baseline; absent where there is none.
        gain: By dataset, the challenger's gain over the best baseline as a share of that baseline's score.
        mean_gain: The mean of these shares.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    datasets: tuple[str, ...]
    cells: dict[str, dict[str, Estimate]]
    anchors: dict[str, dict[str, Estimate]] = Field(default_factory=dict)
    average: dict[str, float | None]
    best_baseline: dict[str, str]
    challenger: dict[str, str]
    gain: dict[str, float]
    mean_gain: float | None


class Suite(BaseModel):
    """Comparisons over several datasets; the content of their ``scores.json``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    table: Table
    datasets: dict[str, Comparison]


def compare(
    dirs: Sequence[str | Path],
    out: str | Path,
    *,
    baseline: str | None = None,
    runs: Mapping[str, str | Path] | None = None,
    force: bool = False,
    test: Method = "permutation",
    second: Sequence[str | Path] = (),
    joint: Judge | None = None,
    limit: int | None = None,
) -> Comparison | Suite:
    """Compares evaluated simulators, into ``OUT``: ``scores.json``, ``report.html``, ``report.md``, ``samples.jsonl``.

    Args:
        dirs: Folders of ``humanlm evaluate``, two or more. Evaluations of several datasets make the paper's Table 1; on each
            dataset two or more simulators, the same examples under the same judge.
        out: The folder to write to; files of these names there are replaced.
        baseline: Compare with this simulator instead of the best one among the baselines.
        runs: Training run folders by simulator's name, for learning curves and budgets; by default found from the model's path.
        force: Compare although data, judge, prompts or settings differ; the reasons then stand in the report.
        test: Which paired test gives the p-values: ``permutation`` or ``wilcoxon``, both over users and two-sided.
        second: The same simulators' evaluations under another judge, to see whether it agrees.
        joint: Judges all simulators' replies to one example in one blinded group; its verdicts are kept in ``OUT/joint.jsonl``.
        limit: Judge at most this many examples of each dataset jointly.

    Returns:
        The comparison; of several datasets the suite of them.

    Raises:
        UsageError: Fewer than two folders, one that is no evaluation, or evaluations that cannot be compared.
    """
    from humanlm.evaluation.page import write_reports

    groups = _opened(dirs, runs)
    seconds = by_dataset(open_evaluations(second, unique=False)) if second else {}
    for items in seconds.values():
        if not any(_same_data(items, group) for group in groups.values()):
            raise UsageError(
                f"{items[0].folder}: the second judge saw other examples than {', '.join(map(str, dirs))}: re-score these with "
                "`humanlm evaluate --generations`"
            )
    folder = Path(out)
    found: dict[str, Comparison] = {}
    named: dict[str, list[Evaluation]] = {}
    for dataset, group in groups.items():
        named[dataset] = name_evaluations(group, runs or {})
        others = next((items for items in seconds.values() if _same_data(items, group)), [])
        found[dataset] = compare_evaluations(
            named[dataset],
            baseline=baseline,
            force=force,
            test=test,
            second=name_evaluations(others, {}),
            joint=joint,
            joint_file=_joint_file(folder, dataset, groups),
            limit=limit,
        )
    folder.mkdir(parents=True, exist_ok=True)
    if len(found) == 1:  # a single dataset needs no name
        found, named = {"": next(iter(found.values()))}, {"": next(iter(named.values()))}
    result: Comparison | Suite = found[""] if "" in found else Suite(table=make_table(found), datasets=found)
    write_whole(folder / SCORES, sorted_json(result))
    write_reports(folder / "report.html", named, found, samples=folder / SAMPLES)
    return result


def joint_cost(dirs: Sequence[str | Path], out: str | Path, judge: Judge, *, limit: int | None = None) -> JointCost:
    """What judging jointly would take at most, less what ``OUT`` holds already; nothing is asked.

    Raises:
        UsageError: As :func:`compare`.
    """
    groups = _opened(dirs, None)
    cost = JointCost(0, Cost())
    for dataset, group in groups.items():
        more = joint_cost_of(group, judge, _joint_file(Path(out), dataset, groups), limit)
        cost = JointCost(cost.examples + more.examples, cost.judge.plus(more.judge))
    return cost


def _opened(dirs: Sequence[str | Path], runs: Mapping[str, str | Path] | None) -> dict[str, list[Evaluation]]:
    if len(dirs) < 2:
        raise UsageError(
            "nothing to compare: give two or more folders of `humanlm evaluate` (one alone: `humanlm report`)"
        )
    return by_dataset(open_evaluations(dirs, runs, unique=False))


def _joint_file(folder: Path, dataset: str, groups: Mapping[str, Sequence[Evaluation]]) -> Path:
    if len(groups) == 1:
        return folder / JOINT
    plain = re.sub(r"[^\w.-]+", "-", dataset)  # a name may be a path, where two datasets end alike
    return folder / f"joint-{plain}.jsonl"


def _same_data(ours: Sequence[Evaluation], theirs: Sequence[Evaluation]) -> bool:
    return ours[0].scores.data.fingerprint == theirs[0].scores.data.fingerprint


def by_dataset(evaluations: Sequence[Evaluation]) -> dict[str, list[Evaluation]]:
    """Evaluations by their data: the same examples, or the same source. One group if any would stand alone."""
    groups: list[list[Evaluation]] = []
    for item in evaluations:
        data = item.scores.data
        home = next(
            (
                group
                for group in groups
                if any(data.fingerprint == one.scores.data.fingerprint for one in group)
                or any(data.source == one.scores.data.source for one in group)
            ),
            None,
        )
        if home is None:
            groups.append([item])
        else:
            home.append(item)
    if any(len(group) < 2 for group in groups):
        groups = [list(evaluations)]
    sources = [group[0].scores.data.source for group in groups]
    short = [dataset_label(source) for source in sources]
    return dict(zip(short if len(set(short)) == len(short) else sources, groups, strict=True))


def dataset_label(source: str) -> str:
    """A dataset's name for tables: ``snap-stanford/humanual-opinion`` is ``opinion``."""
    last = source.rstrip("/").rpartition("/")[2]
    for ending in (".jsonl", ".parquet"):
        last = last.removesuffix(ending)
    return last.removeprefix("humanual-") or "unnamed data"


def make_table(comparisons: Mapping[str, Comparison]) -> Table:
    """The paper's first table from comparisons by dataset."""
    methods = list(dict.fromkeys(name for found in comparisons.values() for name in found.methods))
    cells = {
        name: {
            data: found.methods[name].response_alignment for data, found in comparisons.items() if name in found.methods
        }
        for name in methods
    }
    means = {
        data: {
            name: mean for name, scores in found.methods.items() if (mean := scores.response_alignment.mean) is not None
        }
        for data, found in comparisons.items()
    }
    baselines = {data: _best(found, means[data], ours=False) for data, found in comparisons.items()}
    challengers = {data: _best(found, means[data], ours=True) for data, found in comparisons.items()}
    gain = {
        data: round((means[data][ours] - means[data][base]) / means[data][base], DIGITS)
        for data in comparisons
        if (ours := challengers[data]) and (base := baselines[data]) and means[data][base]
    }
    return Table(
        datasets=tuple(comparisons),
        cells=cells,
        anchors={name: found for name in ("truth", "other_user") if (found := _anchor(comparisons, name))},
        average={name: _average([means[data].get(name) for data in comparisons]) for name in methods},
        best_baseline={data: name for data, name in baselines.items() if name},
        challenger={data: name for data, name in challengers.items() if name},
        gain=gain,
        mean_gain=_average(list(gain.values())) if gain else None,
    )


def _anchor(comparisons: Mapping[str, Comparison], name: str) -> dict[str, Estimate]:
    """By dataset; real texts score the same whoever was evaluated beside them."""
    found: dict[str, Estimate] = {}
    for data, comparison in comparisons.items():
        for scores in comparison.methods.values():
            if name in scores.anchor_scores:
                found.setdefault(data, scores.anchor_scores[name])
    return found


def _best(found: Comparison, means: Mapping[str, float], *, ours: bool) -> str:
    names = [name for name in means if (found.methods[name].method not in BASELINES) is ours]
    return max(names, key=lambda name: means[name], default="")


def _average(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(sum(known) / len(known), DIGITS) if known and len(known) == len(values) else None
