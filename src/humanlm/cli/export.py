"""`humanlm export`: a checkpoint as a plain model folder."""

import json
from pathlib import Path

import click


@click.command(name="export", epilog="Example: humanlm export runs/opinion/checkpoints/step-200 --out opinion-200")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The new model folder.")
@click.option("--overwrite", is_flag=True, help="Replace what is in it.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(path: Path, out: Path, overwrite: bool, as_json: bool) -> int:
    """Write PATH, a run or one of its checkpoints, as a Hugging Face folder that any program loads.

    A run gives its finished model, or its newest checkpoint if it has none. Adapters are merged into their base; verl's sharded
    checkpoints (RUN/verl/checkpoints/global_step_N) are put together by verl's model merger, rounded to bfloat16. What only a
    trainer needs stays behind; humanlm.json and the prompts come along.
    """
    from humanlm.training.export import export

    exported = export(path, out, overwrite=overwrite)
    card = exported.card
    if as_json:
        told = {"out": str(out), "source": str(exported.source), "kind": exported.kind}
        click.echo(json.dumps(told | {"method": card.method if card else None, "step": card.step if card else None}))
        return 0
    how = {"model": "copied", "adapters": "adapters merged", "shards": "shards put together"}[exported.kind]
    what = (
        f"{card.method}, step {card.step}"
        if card
        else "no humanlm.json was found beside it, so there is none in the copy"
    )
    click.echo(f"{out}: {exported.source} ({how}; {what})")
    return 0
