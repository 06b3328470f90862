"""Several evaluated simulators side by side: paired differences to the best baseline, refused where they cannot be compared."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict

from humanlm.errors import DataError, UsageError, unknown_name
from humanlm.evaluation.records import GENERATIONS, Cases, Record, read_records
from humanlm.evaluation.runlog import Budget, RunLog, is_run, read_run
from humanlm.evaluation.runs import EXAMPLES
from humanlm.evaluation.scores import SCORES, Scores, Tables, sorted_json, temperature_key
from humanlm.example import Example
from humanlm.files import write_whole
from humanlm.metrics.intervals import DIGITS, Estimate, paired_difference
from humanlm.reading import load_examples

BASELINES = ("base", "base-think", "sft", "sft-think", "grpo", "grpo-think")
"""Methods that others are compared with; HumanLM's own are not."""

RESPONSE_AT = "response@"


class Evaluation(NamedTuple):
    """An evaluation as its folder tells it.

    Attributes:
        name: What the simulator is called; unique within a comparison.
        folder: Where it was read.
        scores: ``scores.json``.
        examples: What was evaluated.
        records: All generations and verdicts.
        tables: Per-example scores.
        run: The training run of the model, if it was found.
    """

    name: str
    folder: Path
    scores: Scores
    examples: list[Example]
    records: list[Record]
    tables: Tables
    run: RunLog | None


class Difference(BaseModel):
    """How far a simulator is from the best baseline on one measure.

    Attributes:
        to: The baseline.
        estimate: Mean difference over the same examples, with its interval by user.
        relative: The difference as a share of the baseline's mean; None if that is 0.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    to: str
    estimate: Estimate
    relative: float | None


class Comparison(BaseModel):
    """The content of a comparison's ``scores.json``.

    Attributes:
        methods: Every simulator's scores, by name, in the order given.
        temperature: The headline's.
        best_baseline: By measure (``response@0.4``, ``states``, ``state_prompts``), the baseline with the highest mean.
        differences: By measure and simulator, its difference to that baseline.
        leader: The simulator with the highest response alignment at the headline temperature.
        budgets: What training each simulator took, as far as its run folder was given and says; no times, which vary.
        notes: Why the figures may not be comparable, where ``force`` allowed that.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    methods: dict[str, Scores]
    temperature: float
    best_baseline: dict[str, str]
    differences: dict[str, dict[str, Difference]]
    leader: str | None
    budgets: dict[str, dict[str, int | None]]
    notes: tuple[str, ...] = ()


def compare(
    dirs: Sequence[str | Path],
    out: str | Path,
    *,
    baseline: str | None = None,
    runs: Mapping[str, str | Path] | None = None,
    force: bool = False,
) -> Comparison:
    """Compares evaluated simulators: ``OUT/scores.json`` and ``OUT/report.html``.

    Args:
        dirs: Folders of ``humanlm evaluate``, two or more, of the same examples under the same judge.
        out: The folder to write to; files of the two names there are replaced.
        baseline: Compare with this simulator instead of the best one among the baselines.
        runs: Training run folders by simulator's name, for learning curves and budgets; by default found from the model's path.
        force: Compare although data, judge, prompts or settings differ; the reasons then stand in the report.

    Raises:
        UsageError: Fewer than two folders, one that is no evaluation, or evaluations that cannot be compared.
    """
    from humanlm.evaluation.page import render_page

    if len(dirs) < 2:
        raise UsageError(
            "nothing to compare: give two or more folders of `humanlm evaluate` (one alone: `humanlm report`)"
        )
    evaluations = open_evaluations(dirs, runs)
    comparison = compare_evaluations(evaluations, baseline=baseline, force=force)
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / SCORES, sorted_json(comparison))
    write_whole(folder / "report.html", render_page(evaluations, comparison))
    return comparison


def open_evaluations(dirs: Sequence[str | Path], runs: Mapping[str, str | Path] | None = None) -> list[Evaluation]:
    """Reads evaluation folders; simulators of the same name are told apart by their folders.

    Raises:
        UsageError: A folder is no finished evaluation, or ``runs`` names a simulator that is not there.
    """
    folders = [Path(item) for item in dirs]
    scores = [Scores.read(folder) for folder in folders]
    counts = Counter(item.name for item in scores)
    names = [
        item.name if counts[item.name] == 1 else f"{item.name} ({folder.name})"
        for item, folder in zip(scores, folders, strict=True)
    ]
    repeated = [str(folder) for name, folder in zip(names, folders, strict=True) if names.count(name) > 1]
    if repeated:
        raise UsageError(
            f"{', '.join(repeated)}: same simulator and folder name: evaluate one again with another --name"
        )
    given = dict(runs or {})
    for name in given:
        if name not in names:
            raise unknown_name("simulator", name, names)
    return [
        _open(name, folder, item, given.get(name)) for name, folder, item in zip(names, folders, scores, strict=True)
    ]


def _open(name: str, folder: Path, scores: Scores, run: str | Path | None) -> Evaluation:
    if not (folder / EXAMPLES).is_file():
        raise UsageError(f"{folder}: {EXAMPLES} is missing: evaluate again with --overwrite")
    try:
        examples = load_examples(folder / EXAMPLES, "all")
        records = read_records(folder / GENERATIONS)
    except DataError as error:
        raise UsageError(str(error)) from error
    tables = Tables(scores, records, {example.id: example.user_id for example in examples})
    log = read_run(run) if run is not None else _run_of(scores.model)
    return Evaluation(name, folder, scores, examples, records, tables, log)


def _run_of(model: str) -> RunLog | None:
    """The run folder a model was loaded from: the folder itself, or the one that holds ``model`` or ``checkpoints``."""
    path = Path(model)
    for place in (path, path.parent, path.parent.parent):
        if model and place != Path() and is_run(place):
            return read_run(place)
    return None


def compare_evaluations(
    evaluations: Sequence[Evaluation], *, baseline: str | None = None, force: bool = False
) -> Comparison:
    """Compares evaluations that have been read; see :func:`compare`."""
    names = [item.name for item in evaluations]
    if baseline is not None and baseline not in names:
        raise unknown_name("simulator", baseline, names)
    obstacles = _obstacles(evaluations)
    if obstacles and not force:
        raise UsageError(
            f"these evaluations cannot be compared: {'; '.join(obstacles)}: evaluate alike, or add --force"
        )
    best: dict[str, str] = {}
    differences: dict[str, dict[str, Difference]] = {}
    for measure, table in _measures(evaluations).items():
        cases = {item.name: (item, found) for item in evaluations if (found := table(item.tables))}
        means = {name: item.tables.estimate(found).mean for name, (item, found) in cases.items()}
        reference = _reference(evaluations, means, baseline)
        if reference is None or len(cases) < 2:
            continue
        best[measure] = reference
        differences[measure] = {
            name: _difference(item, found, reference, cases[reference][1], means[reference])
            for name, (item, found) in cases.items()
            if name != reference
        }
    headline = {item.name: item.scores.response_alignment.mean for item in evaluations}
    scored = {name: mean for name, mean in headline.items() if mean is not None}
    return Comparison(
        methods={item.name: item.scores for item in evaluations},
        temperature=evaluations[0].scores.temperatures[0],
        best_baseline=best,
        differences=differences,
        leader=max(scored, key=lambda name: scored[name]) if scored else None,
        budgets={item.name: _counts(item.run.budget()) for item in evaluations if item.run is not None},
        notes=tuple(f"Compared by force although {obstacle}." for obstacle in obstacles),
    )


def _measures(evaluations: Sequence[Evaluation]) -> dict[str, Callable[[Tables], Cases]]:
    """What can be compared: a name and how to get its per-example scores."""

    def response(temperature: float) -> Callable[[Tables], Cases]:
        return lambda tables: tables.response(temperature)

    shared = [
        value
        for value in evaluations[0].scores.temperatures
        if all(value in item.scores.temperatures for item in evaluations)
    ]
    measures = {f"{RESPONSE_AT}{temperature_key(value)}": response(value) for value in shared}
    return measures | {"states": Tables.state_mean, "state_prompts": Tables.state_prompt_mean}


def _reference(
    evaluations: Sequence[Evaluation], means: Mapping[str, float | None], baseline: str | None
) -> str | None:
    """The simulator others are compared with on a measure: the one asked for, the best baseline, else the first."""
    if baseline is not None:
        return baseline if means.get(baseline) is not None else None
    baselines = {item.name for item in evaluations if item.scores.method in BASELINES}
    known = {name: mean for name, mean in means.items() if mean is not None}
    candidates = [name for name in known if name in baselines] or list(known)[:1]
    return max(candidates, key=lambda name: known[name], default=None)


def _difference(item: Evaluation, ours: Cases, to: str, theirs: Cases, base: float | None) -> Difference:
    keys = [key for key in item.tables.users if key in ours and key in theirs]
    gap = paired_difference(
        [ours[key] for key in keys],
        [theirs[key] for key in keys],
        [item.tables.users[key] for key in keys],
        seed=item.scores.seed,
    )
    relative = round(gap.mean / base, DIGITS) if gap.mean is not None and base else None
    return Difference(to=to, estimate=gap, relative=relative)


def _counts(budget: Budget) -> dict[str, int | None]:
    return {name: value for name, value in budget._asdict().items() if name != "seconds"}


def _obstacles(evaluations: Sequence[Evaluation]) -> list[str]:
    """Why the first evaluation and another cannot be compared, in words."""
    first = evaluations[0]
    found: list[str] = []
    for other in evaluations[1:]:
        ours, theirs = first.scores, other.scores
        pairs = (
            ("the examples differ", ours.data.fingerprint, theirs.data.fingerprint),
            ("the judges differ", ours.judge, theirs.judge),
            ("the prompts differ", ours.prompts.fingerprint, theirs.prompts.fingerprint),
            ("the headline temperatures differ", f"{ours.temperatures[0]:g}", f"{theirs.temperatures[0]:g}"),
            ("the numbers of samples differ", str(ours.samples), str(theirs.samples)),
        )
        found += [
            f"{what} ({mine} for {first.name}, {their} for {other.name})"
            for what, mine, their in pairs
            if mine != their
        ]
    return found
