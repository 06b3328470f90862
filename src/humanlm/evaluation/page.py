"""The report: one HTML file that needs nothing else, neither network nor script, and can be mailed."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from humanlm.errors import UsageError
from humanlm.evaluation import figures, wording
from humanlm.evaluation.comparison import (
    RESPONSE_AT,
    Comparison,
    Difference,
    Evaluation,
    compare_evaluations,
    open_evaluations,
)
from humanlm.evaluation.figures import Curve, Line, Mark, Row
from humanlm.evaluation.runlog import Budget, RunLog, is_run, read_run, smooth
from humanlm.evaluation.scores import SCORES, AtTemperature, Scores, temperature_key
from humanlm.evaluation.showcase import show
from humanlm.files import write_whole
from humanlm.metrics.intervals import Estimate
from humanlm.states import RESPONSE, STATES

SHAPES = ("circle", "square", "triangle")
_SMOOTHING = 20
"""A learning curve is averaged over a twentieth of its steps."""


class TableRow(NamedTuple):
    """One simulator's line of the results table."""

    name: str
    series: int
    scores: Scores
    cells: tuple[AtTemperature | None, ...]
    headline: AtTemperature
    gap: Difference | None
    is_baseline: bool


class BudgetRow(NamedTuple):
    """What training one simulator took."""

    name: str
    series: int
    budget: Budget


def report(
    paths: Sequence[str | Path],
    out: str | Path,
    *,
    runs: Mapping[str, str | Path] | None = None,
    force: bool = False,
) -> Path:
    """Makes the page of evaluations and training runs, of either alone or of both.

    Args:
        paths: Folders of ``humanlm evaluate`` and of ``humanlm train``, in any order. A run belongs to the evaluation of its
            method.
        out: The HTML file to write.
        runs: Run folders by simulator's name, where that guess would be wrong.
        force: Show evaluations together that cannot be compared; the page then says why not.

    Returns:
        The file.

    Raises:
        UsageError: A path is neither, or the evaluations cannot be compared.
    """
    folders = [Path(path) for path in paths]
    if not folders:
        raise UsageError("nothing to report: give folders of `humanlm evaluate` or `humanlm train`")
    logs = [read_run(folder) for folder in folders if is_run(folder)]
    evaluations = open_evaluations([folder for folder in folders if _is_evaluation(folder)], runs)
    loose: list[RunLog] = []
    for log in logs:
        owners = [place for place, item in enumerate(evaluations) if item.scores.method == log.method]
        if len(owners) == 1:
            evaluations[owners[0]] = evaluations[owners[0]]._replace(run=log)
        else:
            loose.append(log)
    comparison = compare_evaluations(evaluations, force=force) if len(evaluations) > 1 else None
    file = Path(out)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_whole(file, render_page(evaluations, comparison, loose))
    return file


def _is_evaluation(folder: Path) -> bool:
    if is_run(folder):
        return False
    if (folder / SCORES).is_file() and not (folder / "settings.json").is_file() and (folder / "report.html").is_file():
        raise UsageError(
            f"{folder}: is a comparison, its page is {folder / 'report.html'}: give the evaluations' folders"
        )
    return True


def render_page(evaluations: Sequence[Evaluation], comparison: Comparison | None, runs: Sequence[RunLog] = ()) -> str:
    """The page as text; the same input always gives the same text.

    Args:
        evaluations: What was measured; may be empty if there are runs.
        comparison: Of two evaluations or more.
        runs: Training runs that belong to no evaluation.
    """
    series = [figures.series_of(item.scores.method, place) for place, item in enumerate(evaluations)]
    logs = [(item.name, colour, item.run) for item, colour in zip(evaluations, series, strict=True) if item.run]
    logs += [(log.method, figures.series_of(log.method, place), log) for place, log in enumerate(runs)]
    first = evaluations[0].scores if evaluations else None
    values: dict[str, Any] = {
        "title": _title(evaluations, runs),
        "headline": _headline(evaluations, comparison, runs),
        "notes": _notes(evaluations, comparison),
        "first": first,
        "temperatures": [wording.temperature_words(value) for value in first.temperatures] if first else [],
        "rows": _rows(evaluations, comparison, series),
        "best": _best(evaluations),
        "baseline": _headline_baseline(comparison),
        "budgets": [BudgetRow(name, colour, log.budget()) for name, colour, log in logs],
        "main_figure": _main_figure(list(zip(evaluations, series, strict=True))) if evaluations else None,
        "state_figures": _state_figures(evaluations, series, prompts=False),
        "prompt_figures": _state_figures(evaluations, series, prompts=True),
        "curve_figures": _curve_figures(logs),
        "legend": [(name, colour) for name, colour, log in logs if log.curve("reward")],
        "shown": show(evaluations, series) if evaluations else [],
    }
    return _environment().get_template("page.html.j2").render(values)


def picture(comparison: Comparison, out: str | Path) -> Path:
    """Writes the main figure as an SVG file of its own, on white, for a README.

    Args:
        comparison: What :func:`compare` returned.
        out: The file to write.
    """
    rows = [
        (name, figures.series_of(scores.method, place), scores)
        for place, (name, scores) in enumerate(comparison.methods.items())
    ]
    temperatures = next(iter(comparison.methods.values())).temperatures
    decodings = zip("●■▲", map(wording.temperature_words, temperatures), strict=False)
    legend = " · ".join(f"{symbol} {words}" for symbol, words in decodings)
    svg = _dots(rows, width=560, axis=f"response alignment, 95% intervals: {legend}")
    style = _environment().get_template("picture.css.j2").render(light=figures.LIGHT)
    file = Path(out)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_whole(
        file,
        str(svg).replace("<title>", f'<style>{style}</style><rect class="paper" width="100%" height="100%"/><title>', 1)
        + "\n",
    )
    return file


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("humanlm.evaluation"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": wording.number, "interval": wording.interval}
    environment.globals |= {
        "light": figures.LIGHT,
        "dark": figures.DARK,
        "swatch": figures.swatch,
        "count": wording.count,
    }
    return environment


def _title(evaluations: Sequence[Evaluation], runs: Sequence[RunLog]) -> str:
    names = [item.name for item in evaluations] or [run.method for run in runs]
    return names[0] if len(names) == 1 else f"{len(names)} simulators compared" if evaluations else "Training runs"


def _headline(evaluations: Sequence[Evaluation], comparison: Comparison | None, runs: Sequence[RunLog]) -> list[str]:
    if comparison is not None:
        return wording.comparison_headline(comparison)
    return wording.single_headline(evaluations[0].scores) if evaluations else wording.run_headline(runs)


def _notes(evaluations: Sequence[Evaluation], comparison: Comparison | None) -> list[str]:
    """Every evaluation's notes, each once, with the names of those it is about unless that is all."""
    notes = list(comparison.notes) if comparison is not None else []
    about: dict[str, list[str]] = {}
    for item in evaluations:
        for note in item.scores.notes:
            about.setdefault(note, []).append(item.name)
    for note, names in about.items():
        notes.append(note if len(names) == len(evaluations) else f"{', '.join(names)}: {note}")
    return notes


def _rows(evaluations: Sequence[Evaluation], comparison: Comparison | None, series: Sequence[int]) -> list[TableRow]:
    baseline = _headline_baseline(comparison)
    gaps = comparison.differences.get(_headline_measure(comparison), {}) if comparison is not None else {}
    keys = [temperature_key(value) for value in evaluations[0].scores.temperatures] if evaluations else []
    return [
        TableRow(
            item.name,
            colour,
            item.scores,
            tuple(item.scores.by_temperature.get(key) for key in keys),
            item.scores.by_temperature[temperature_key(item.scores.temperatures[0])],
            gaps.get(item.name),
            item.name == baseline,
        )
        for item, colour in zip(evaluations, series, strict=True)
    ]


def _headline_measure(comparison: Comparison) -> str:
    return RESPONSE_AT + temperature_key(comparison.temperature)


def _headline_baseline(comparison: Comparison | None) -> str | None:
    return comparison.best_baseline.get(_headline_measure(comparison)) if comparison is not None else None


def _best(evaluations: Sequence[Evaluation]) -> dict[str, float | None]:
    """The highest mean of each column, to be set in bold; empty where there is nothing to compare."""
    if len(evaluations) < 2:
        return {}
    columns: dict[str, list[float | None]] = {}
    for item in evaluations:
        for key, cell in item.scores.by_temperature.items():
            columns.setdefault(f"response@{key}", []).append(cell.response_alignment.mean)
        for name in ("state_alignment_mean", "state_prompts_mean"):
            found: Estimate | None = getattr(item.scores, name)
            columns.setdefault(name, []).append(found.mean if found else None)
    return {key: max((value for value in values if value is not None), default=None) for key, values in columns.items()}


def _main_figure(evaluations: Sequence[tuple[Evaluation, int]]) -> Markup:
    return _dots([(item.name, colour, item.scores) for item, colour in evaluations], width=440)


def _dots(rows: Sequence[tuple[str, int, Scores]], *, width: int, axis: str = "") -> Markup:
    """Response alignment at every temperature, the headline strongest, with the anchors as lines."""
    first = rows[0][2]
    drawn = [
        Row(
            name,
            colour,
            tuple(
                Mark(scores.by_temperature[temperature_key(value)].response_alignment, SHAPES[place % 3], place == 0)
                for place, value in enumerate(scores.temperatures)
            ),
        )
        for name, colour, scores in rows
    ]
    names = {"truth": "the real reply itself", "other_user": "another user’s reply"}
    lines = [
        Line(label, mean)
        for key, label in names.items()
        if key in first.anchors and (mean := first.anchors[key].mean) is not None
    ]
    top = figures.highest(drawn)
    # An anchor far above every simulator would press them all against the axis: the text names it instead.
    top = max([top, *(line.value for line in lines if line.value <= 1.6 * top)])
    marks = len(first.temperatures)
    height = 30 if marks == 1 else 14 + 14 * marks
    return figures.dot_plot(
        "Response alignment of each simulator with 95% intervals",
        drawn,
        lines=lines,
        top=top,
        width=width,
        row_height=height,
        axis=axis,
    )


def _state_figures(
    evaluations: Sequence[Evaluation], series: Sequence[int], *, prompts: bool
) -> list[tuple[str, Markup]]:
    """A panel a dimension with a row a simulator; a single nameless panel if only one simulator was measured."""
    what = "State prompts" if prompts else "State alignment"
    measured = [
        (item.name, colour, table)
        for item, colour in zip(evaluations, series, strict=True)
        if (table := item.scores.state_prompts if prompts else item.scores.state_alignment)
    ]
    dimensions = _in_order(evaluations, {name for _, _, table in measured for name in table})
    if len(measured) == 1:
        name, colour, table = measured[0]
        rows = [Row(dimension, colour, (Mark(table[dimension]),)) for dimension in dimensions]
        return [("", figures.dot_plot(f"{what} of {name}", rows, width=340, row_height=24))]
    panels = {
        dimension: [
            Row(name, colour, (Mark(table[dimension]),)) for name, colour, table in measured if dimension in table
        ]
        for dimension in dimensions
    }
    top = max((figures.highest(rows) for rows in panels.values()), default=1.0)
    return [
        (dimension, figures.dot_plot(f"{what}: {dimension}", rows, top=top, width=340, row_height=22))
        for dimension, rows in panels.items()
    ]


def _in_order(evaluations: Sequence[Evaluation], dimensions: Collection[str]) -> list[str]:
    """Dimensions in the order of the prompts; a JSON file has them by the alphabet."""
    scores = [item.scores for item in evaluations]
    order = dict.fromkeys(name for item in scores for name in (*item.judged_states, *item.asked_states))
    return [name for name in order if name in dimensions]


def _curve_figures(logs: Sequence[tuple[str, int, RunLog]]) -> list[tuple[str, Markup]]:
    """Reward by target, a panel each: the response, then the states in the paper's order."""
    targets = list(dict.fromkeys(target for _, _, log in logs for target in log.targets()))
    order = [RESPONSE, *STATES, *targets]
    targets.sort(key=order.index)
    panels = {
        target: [
            Curve(name, colour, tuple(smooth(raw, max(1, len(raw) // _SMOOTHING))), tuple(raw))
            for name, colour, log in logs
            if (raw := log.curve(f"reward/{target}"))
        ]
        for target in targets
    }
    top = max((value for curves in panels.values() for curve in curves for _, value in curve.faint), default=1.0)
    return [
        (target, figures.line_plot(f"Reward for the target {target} by training step", curves, top=top))
        for target, curves in panels.items()
    ]
