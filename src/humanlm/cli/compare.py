"""`humanlm compare`: simulators side by side, with intervals."""

from pathlib import Path

import click

from humanlm.errors import UsageError
from humanlm.evaluation.comparison import RESPONSE_AT, Comparison, compare
from humanlm.evaluation.page import picture
from humanlm.evaluation.scores import SCORES, sorted_json, temperature_key
from humanlm.evaluation.wording import comparison_headline, interval, number
from humanlm.files import claim_folder


@click.command(name="compare", epilog="Example: humanlm compare eval/base eval/grpo eval/humanlm --out comparison")
@click.argument("dirs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder to write.")
@click.option(
    "--baseline", help="Compare with this simulator.  [default: the best of base, sft, grpo and their -think]"
)
@click.option(
    "--run", "runs", multiple=True, metavar="NAME=RUN", help="The training run of a simulator, for its curves."
)
@click.option("--force", is_flag=True, help="Compare although data, judge or prompts differ; the page says so.")
@click.option(
    "--picture", "drawing", type=click.Path(path_type=Path), help="Also write the main figure to this .svg file."
)
@click.option("--overwrite", is_flag=True, help="Replace an earlier comparison.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(
    dirs: tuple[Path, ...],
    out: Path,
    baseline: str | None,
    runs: tuple[str, ...],
    force: bool,
    drawing: Path | None,
    overwrite: bool,
    as_json: bool,
) -> int:
    """Compare evaluated simulators: the folders DIRS of `humanlm evaluate`, of the same data under the same judge.

    Writes OUT/scores.json with paired differences to the best baseline, and the page OUT/report.html.
    """
    claim_folder(out, overwrite=overwrite)
    comparison = compare(dirs, out, baseline=baseline, runs=_named(runs), force=force)
    if drawing is not None:
        picture(comparison, drawing)
    if as_json:
        click.echo(sorted_json(comparison), nl=False)
    else:
        _tell(comparison, out)
    return 0


def _named(words: tuple[str, ...]) -> dict[str, Path]:
    named: dict[str, Path] = {}
    for word in words:
        name, equals, path = word.partition("=")
        if not (name and equals and path):
            raise UsageError(f"--run {word!r}: write NAME=RUN, e.g. humanlm=runs/humanlm")
        named[name] = Path(path)
    return named


def _tell(comparison: Comparison, out: Path) -> None:
    click.echo(" ".join(comparison_headline(comparison)))
    measure = RESPONSE_AT + temperature_key(comparison.temperature)
    reference = comparison.best_baseline.get(measure)
    width = max(map(len, comparison.methods))
    for name, scores in comparison.methods.items():
        found = scores.response_alignment
        gap = comparison.differences.get(measure, {}).get(name)
        against = f"  {number(gap.estimate.mean):>7} to {reference} ({interval(gap.estimate)})" if gap else ""
        click.echo(f"  {name:<{width}}  {number(found.mean)}  ({interval(found)}){against}")
    for note in comparison.notes:
        click.echo(f"note: {note}")
    click.echo(f"{out / SCORES}\n{out / 'report.html'}")
