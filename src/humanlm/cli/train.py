"""`humanlm train`: one method, one run folder."""

import json
import logging
from pathlib import Path
from typing import Any

import click

from humanlm.cli.options import JUDGE_HELP, cost_words, judge_cost_options
from humanlm.judging.base import Estimate, expected_cost
from humanlm.training.config import TrainConfig
from humanlm.training.methods import METHODS
from humanlm.training.plan import Plan

_ESTIMATED = 50
_METHODS = "; ".join(f"{method.name}: {method.about}" for method in METHODS.values())


@click.command(
    name="train",
    epilog="Example: humanlm train humanlm --data D --model M --judge embedding --out RUN --set steps=100 --set lr=1e-5",
    help=f"Train a simulator with METHOD ({_METHODS}).\n\nOptions win over the file, --set wins over both.",
)
@click.argument("method")
@click.option("--data", help="A folder of splits, a .jsonl or .parquet file, or a Hub dataset id.")
@click.option("--model", help="What to start from: a Hub id, a model folder or a run folder.")
@click.option("--judge", help=f"What scores rollouts: {JUDGE_HELP}")
@judge_cost_options
@click.option("--out", type=click.Path(path_type=Path), help="The run folder.")
@click.option("--engine", help="What runs the optimisation: trl.")
@click.option(
    "--config", "file", type=click.Path(path_type=Path), help="A YAML file of settings, e.g. another run's config.yaml."
)
@click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE", help="One setting, e.g. lr=1e-5 or max_tokens.response=64."
)
@click.option("--seed", type=int, help="Decides everything that is drawn.")
@click.option("--limit", type=int, help="Use at most this many examples.")
@click.option("--resume", is_flag=True, help="Go on with the run in --out.")
@click.option("--overwrite", is_flag=True, help="Remove the run in --out first.")
@click.option("--dry-run", is_flag=True, help="Check everything but the model's weights, say what would run, and stop.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object at the end.")
def command(
    method: str,
    file: Path | None,
    settings: tuple[str, ...],
    resume: bool,
    overwrite: bool,
    dry_run: bool,
    as_json: bool,
    **options: Any,
) -> int:
    """Puts the configuration together and trains."""
    if resume and overwrite:
        raise click.UsageError("--resume and --overwrite exclude each other")
    config = TrainConfig.read(file, settings, method=method, **options)
    if dry_run:
        return _show(config, as_json=as_json)
    from humanlm.training.run import train

    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("humanlm").setLevel(logging.INFO)
    run = train(config, resume=resume, overwrite=overwrite)
    _finish(run, as_json=as_json)
    return 0


def _show(config: TrainConfig, *, as_json: bool) -> int:
    """What would run, without loading the weights."""
    from collections import Counter

    from humanlm.training.run import prepare

    plan, facts = prepare(config)
    targets = Counter(item.target for item in plan.items)
    tokens = _prompt_tokens(plan)
    calls = len(plan.items) if plan.judge else 0
    judged = (
        [(plan.examples[item.example_index], item.target) for item in plan.items[:_ESTIMATED]] if plan.judge else []
    )
    cost = expected_cost(plan.judge, judged, config.n, calls) if plan.judge else Estimate()
    summary = {
        "config": config.dump(),
        **facts,
        "prompts": len(plan.items),
        "rollouts": config.steps * config.rollouts,
        "judge_calls": calls,
        "judge_cost": cost.model_dump(mode="json"),
        "prompt_tokens": tokens,
        "targets": dict(targets),
    }
    if as_json:
        click.echo(json.dumps(summary, indent=1))
        return 0
    click.echo(
        f"{config.method}: {config.steps} steps x {config.groups} prompts x {config.n} from {facts['examples']} examples"
    )
    click.echo(f"  {summary['rollouts']:,} rollouts, at most {calls:,} judge calls ({config.judge or 'no judge'})")
    if cost.calls:
        click.echo(f"  judge: {cost_words(cost)}")
    click.echo(f"  about {tokens:,} prompt tokens, each read by {config.n} rollouts")
    click.echo("  prompts by target: " + ", ".join(f"{name} {count}" for name, count in targets.items()))
    click.echo(f"  would write {config.out}; nothing was loaded or written")
    return 0


def _prompt_tokens(plan: Plan) -> int:
    """Tokens of all prompts, estimated from the first ones."""
    from humanlm.simulation.loading import load_tokenizer

    tokenizer, first = load_tokenizer(plan.config.model), plan.items[:_ESTIMATED]
    room = plan.config.max_prompt_tokens
    found = [
        len(
            plan.prompts.ids(
                plan.examples[item.example_index], item.target, tokenizer, think=item.think, max_tokens=room
            )
        )
        for item in first
    ]
    return round(sum(found) / len(found) * len(plan.items))


def _finish(run: Path, *, as_json: bool) -> None:
    from humanlm.training.folder import RunFolder

    rows = RunFolder(run).metrics()
    last = rows[-1] if rows else {}
    if as_json:
        click.echo(json.dumps({"run": str(run), "model": str(run / "model"), "last": last}, indent=1))
        return
    click.echo(
        f"trained: {run / 'model'} ({len(rows)} steps; numbers in metrics.jsonl, groups to read in samples.jsonl)"
    )
