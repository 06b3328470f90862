"""`humanlm simulate`: simulated people talk with an assistant."""

import json
from collections import Counter
from pathlib import Path

import click

from humanlm.cli.shown import counting
from humanlm.errors import UsageError


@click.command(
    name="simulate",
    epilog="Example: humanlm simulate --model runs/first --personas my-data --assistant openai/gpt-5-mini --out talks.jsonl",
)
@click.option(
    "--model", required=True, help="The simulator: a run folder, a model folder, a Hub id or api:provider/model."
)
@click.option("--model-url", help="A server that has loaded the simulator.")
@click.option("--served-as", help="The simulator's name on that server.  [default: as in --model]")
@click.option("--personas", required=True, help="A file of personas, or a dataset whose users' personas are taken.")
@click.option("--people", type=click.IntRange(min=1), help="At most so many people.")
@click.option("--assistant", "assistant_name", required=True, help="provider/model, or a folder with a chat model.")
@click.option("--assistant-url", help="An OpenAI-compatible server; --assistant is then the model's name there.")
@click.option("--system", default="", help="The assistant's system message, or @FILE.")
@click.option(
    "--opening", default="Hello! How can I help you today?", show_default=True, help="The assistant's first words."
)
@click.option("--turns", default=6, show_default=True, type=click.IntRange(min=1), help="Most messages of a person.")
@click.option(
    "--stop", "stops", multiple=True, help="A regular expression; a person's message that matches is the last."
)
@click.option("--conversations", default=1, show_default=True, type=click.IntRange(min=1), help="Of each person.")
@click.option("--states/--no-states", default=False, help="Note the six states behind each message.")
@click.option(
    "--temperature", default=0.4, show_default=True, type=click.FloatRange(0, 2), help="Of the simulated people."
)
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0), help="Of the first conversation.")
@click.option(
    "--concurrency", default=16, show_default=True, type=click.IntRange(min=1), help="Conversations at a time."
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The .jsonl or .parquet file to write.")
@click.option("--overwrite", is_flag=True, help="Replace the file.")
@click.option("--dry-run", is_flag=True, help="Say how many messages there would be at most; nobody talks.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(
    model: str,
    model_url: str | None,
    served_as: str | None,
    personas: str,
    people: int | None,
    assistant_name: str,
    assistant_url: str | None,
    system: str,
    opening: str,
    turns: int,
    stops: tuple[str, ...],
    conversations: int,
    states: bool,
    temperature: float,
    seed: int,
    concurrency: int,
    device: str,
    out: Path,
    overwrite: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Let people and an assistant talk: OUT is a dataset with one example for each message of a person."""
    from humanlm.reading import SUFFIXES
    from humanlm.simulation import Simulator
    from humanlm.simulation.assistants import open_assistant
    from humanlm.simulation.conversation import StopRules, converse_many, write_transcripts
    from humanlm.simulation.personas import load_personas

    if out.suffix not in SUFFIXES:
        raise UsageError(f"{out}: write a {' or '.join(SUFFIXES)} file")
    if out.exists() and not overwrite and not dry_run:
        raise UsageError(f"{out} is there already: add --overwrite to replace it, or choose another --out")
    known = load_personas(personas, limit=people)
    if dry_run:
        count = len(known) * conversations
        click.echo(
            f"{count:,} conversations, at most {count * turns:,} messages of people and {count * (turns - 1):,} of the "
            "assistant; nobody talked, nothing was written"
        )
        return
    rules = StopRules(turns=turns, said=(*StopRules().said, *stops))
    assistant = open_assistant(assistant_name, url=assistant_url, system=_text(system), device=device)
    simulator = Simulator.load(model, device=device, url=model_url, served_as=served_as)
    with counting("conversations") as progress:
        exchanges = converse_many(
            simulator,
            assistant,
            known,
            seeds=range(seed, seed + conversations),
            concurrency=concurrency,
            progress=progress,
            opening=opening,
            rules=rules,
            states=states,
            temperature=temperature,
        )
    written = write_transcripts(out, exchanges)
    ended = Counter(exchange.ended for exchange in exchanges)
    if as_json:
        click.echo(json.dumps({"conversations": len(exchanges), "examples": written, "ended": ended, "out": str(out)}))
        return
    why = ", ".join(f"{count} by {reason}" for reason, count in ended.most_common())
    click.echo(f"{len(exchanges):,} conversations ({why}), {written:,} messages of people: {out}")


def _text(words: str) -> str:
    if not words.startswith("@"):
        return words
    try:
        return Path(words[1:]).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--system {words}: the file cannot be read as text: check the path") from error
