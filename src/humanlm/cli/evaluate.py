"""`humanlm evaluate`: the scores of one simulator."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import click

from humanlm.cli.options import JUDGE_HELP, cost_words, judge_cost_options
from humanlm.errors import RunError
from humanlm.evaluation.runs import evaluate, make_settings
from humanlm.evaluation.scores import Scores, Settings, sorted_json, temperature_key
from humanlm.evaluation.steps import make_batches, plan
from humanlm.evaluation.wording import interval, number, single_headline, temperature_words
from humanlm.files import claim_folder
from humanlm.judging import open_judge
from humanlm.ledger import remove_ledger
from humanlm.llm import SpendLimits
from humanlm.metrics.intervals import Estimate
from humanlm.prompts import Prompts
from humanlm.reading import load_examples
from humanlm.simulation.card import ModelCard


@click.command(
    name="evaluate", epilog="Example: humanlm evaluate --model runs/first --data my-data --judge embedding --out eval"
)
@click.option("--model", required=True, help="A run folder, a model folder, a Hub id, or api:provider/model.")
@click.option("--model-url", help="A server that has loaded the model: it answers instead of this machine.")
@click.option("--served-as", help="The model's name on that server.  [default: as in --model]")
@click.option("--data", required=True, help="A folder of splits, a .jsonl or .parquet file, or a Hub dataset id.")
@click.option(
    "--judge", "judge_names", required=True, multiple=True, help=f"{JUDGE_HELP} Given more than once: the mean of all."
)
@judge_cost_options
@click.option("--one-call", is_flag=True, help="Language models: all state dimensions in one call; cheaper, coarser.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder to write.")
@click.option("--split", default="test", show_default=True, help="Which split of the data.")
@click.option("--limit", type=click.IntRange(min=1), help="Use at most this many examples.")
@click.option("--name", help="What the simulator is called in tables.  [default: its method]")
@click.option("--think/--no-think", default=None, help="Whether it reasons first.  [default: as it was trained]")
@click.option("--prompts", help="A prompt set or a folder of templates, instead of the model's own.")
@click.option(
    "--temperatures",
    default="0.4,1,0",
    show_default=True,
    help="With commas; the first is the headline. 0.4 is the paper's, 0 is greedy.",
)
@click.option("--samples", default=1, show_default=True, type=click.IntRange(min=1), help="Replies an example.")
@click.option("--states/--no-states", default=True, help="Compare replies along each state dimension too.")
@click.option(
    "--state-prompts/--no-state-prompts", default=None, help="Ask for the states too.  [default: if trained on them]"
)
@click.option("--anchors/--no-anchors", default=True, help="Calibrate the judge: truth, other users, other personas.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0), help="Of everything that is drawn.")
@click.option("--batch", default=64, show_default=True, type=click.IntRange(min=1), help="Examples between two writes.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda.")
@click.option(
    "--resume", is_flag=True, help="Go on with an interrupted evaluation, and ask again where the judge failed."
)
@click.option("--overwrite", is_flag=True, help="Start anew in a folder that holds an earlier evaluation.")
@click.option("--dry-run", is_flag=True, help="Say what would be generated and judged, load no weights, write nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(
    model: str,
    model_url: str | None,
    served_as: str | None,
    data: str,
    judge_names: tuple[str, ...],
    judge_url: str | None,
    judge_repeats: int | None,
    one_call: bool,
    max_cost: float | None,
    max_calls: int | None,
    out: Path,
    split: str,
    limit: int | None,
    think: bool | None,
    prompts: str | None,
    temperatures: str,
    device: str,
    resume: bool,
    overwrite: bool,
    dry_run: bool,
    as_json: bool,
    **options: Any,
) -> int:
    """Score a simulator on real responses: OUT/scores.json, OUT/generations.jsonl and the page OUT/report.html."""
    if resume and overwrite:
        raise click.UsageError("--resume and --overwrite exclude each other")
    options["temperatures"] = _numbers(temperatures)
    if out.exists() and not dry_run:
        claim_folder(out, overwrite=overwrite, resume=resume)
    if overwrite and not dry_run:
        remove_ledger(out / "ledger.sqlite")
    judge = open_judge(
        judge_names,
        url=judge_url,
        ledger=out / "ledger.sqlite",
        limits=SpendLimits(max_cost=max_cost, max_calls=max_calls),
        repeats=judge_repeats or 1,
        one_call=one_call,
    )
    examples = load_examples(data, split, limit)
    options["source"] = data
    if dry_run:
        settings = make_settings(_card_alone(model, think, prompts), examples, judge, **options)  # type: ignore[arg-type]
        return _show(settings, plan(settings, list(make_batches(settings, examples, judge, examples)), judge), out, as_json=as_json)
    from humanlm.simulation import Simulator

    simulator = Simulator.load(model, device=device, think=think, prompts=prompts, url=model_url, served_as=served_as)
    try:
        with _bar() as progress:
            scores = evaluate(
                simulator, examples, judge, out=out, resume=resume, overwrite=overwrite, progress=progress, **options
            )
    except KeyboardInterrupt:
        stopped = RunError(f"stopped; {out} keeps what was done: the same command with --resume goes on")
        stopped.exit_code = 130
        raise stopped from None
    if as_json:
        click.echo(sorted_json(scores), nl=False)
    else:
        _tell(scores, out)
    return 0


def _numbers(words: str) -> tuple[float, ...]:
    try:
        return tuple(float(word) for word in words.split(","))
    except ValueError as error:
        raise click.UsageError(
            f"--temperatures {words!r}: give numbers with commas between them, e.g. 0.4,1,0"
        ) from error


class _CardAlone(NamedTuple):
    """What a dry run knows of a simulator: everything but its weights."""

    name: str
    card: ModelCard
    prompts: Prompts
    think: bool


def _card_alone(model: str, think: bool | None, prompts: str | None) -> _CardAlone:
    from humanlm.simulation.loading import model_folder

    folder = model_folder(model)
    card, own = (ModelCard.read(folder) if folder else None) or (ModelCard(), None)
    used = Prompts.load(prompts) if prompts else own or Prompts.load()
    return _CardAlone(model, card, used, card.think if think is None else think)


def _show(settings: Settings, planned: Any, out: Path, *, as_json: bool) -> int:
    if as_json:
        import json

        shown = {**planned._asdict(), "judge_cost": planned.judge_cost.model_dump(mode="json")}
        click.echo(json.dumps({**shown, "settings": settings.model_dump(mode="json")}, indent=1))
        return 0
    decodings = ", ".join(map(temperature_words, settings.temperatures))
    click.echo(
        f"{settings.name}: {planned.examples:,} examples of {settings.data.users:,} users, {decodings}\n"
        f"  {planned.generations:,} generations, at most {planned.groups:,} judge groups ({settings.judge})\n"
        + (f"  judge: {cost_words(planned.judge_cost)}\n" if planned.judge_cost.calls else "")
        + f"  would write {out}; no weights were loaded, nothing was written"
    )
    return 0


def _tell(scores: Scores, out: Path) -> None:
    for sentence in single_headline(scores):
        click.echo(sentence)
    for temperature in scores.temperatures:
        found = scores.by_temperature[temperature_key(temperature)]
        click.echo(_line(f"response alignment, {temperature_words(temperature)}", found.response_alignment))
    for label, estimate in (
        ("state alignment", scores.state_alignment_mean),
        ("state prompts", scores.state_prompts_mean),
    ):
        if estimate is not None:
            click.echo(_line(label, estimate))
    click.echo(f"  {'right form':<38} {scores.format_rate:.1%}")
    for note in scores.notes:
        click.echo(f"note: {note}")
    click.echo(f"{out / 'report.html'}")


def _line(label: str, estimate: Estimate) -> str:
    missing = f"  {estimate.missing} missing" if estimate.missing else ""
    between = interval(estimate)
    return f"  {label:<38} {number(estimate.mean)}{f'  ({between})' if between else ''}{missing}"


@contextmanager
def _bar() -> Iterator[Callable[[int, int], None] | None]:
    """A progress bar on a terminal, silence elsewhere."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("replies and verdicts"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bars:
        task = bars.add_task("", total=None)
        yield lambda done, total: bars.update(task, completed=done, total=total)
