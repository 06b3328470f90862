"""`humanlm study`: real people compared with simulators."""

import json
import logging
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any

import click

from humanlm.errors import UsageError

_STUDY = click.argument("study", type=click.Path(path_type=Path))
_JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
_DATABASE = click.option(
    "--database", help="An SQLite file or postgresql://user@host/name.  [default: STUDY's name with .sqlite, beside it]"
)


@click.group(name="study", epilog="Example: humanlm study new study.yaml && humanlm study serve study.yaml")
def command() -> None:
    """A study in which people compare simulators with themselves: a web app of your own, and its statistics."""
    try:
        import alembic  # noqa: F401
        import fastapi  # noqa: F401
        import sqlalchemy  # noqa: F401
    except ImportError as error:
        raise UsageError(f"studies need the package {error.name}: pip install 'humanlm[web]'") from error


def _database(study: Path, database: str | None) -> str:
    return database or str(study.with_suffix(".sqlite"))


def _opened(study: Path, database: str | None) -> Any:
    """The storage of a study that has been begun."""
    from humanlm.study.storage import Storage

    place = _database(study, database)
    if "://" not in place and not Path(place).is_file():
        raise UsageError(f"{place}: no such database: `humanlm study serve` makes it, --database names another")
    return Storage(place)


@command.command(name="new", epilog="Example: humanlm study new study.yaml")
@click.argument("file", type=click.Path(path_type=Path))
def new(file: Path) -> None:
    """Write a commented study that runs as it is, without keys and models."""
    if file.exists():
        raise UsageError(f"{file} exists already: choose another name")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(files("humanlm.study").joinpath("example.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    click.echo(f"{file}: read and change it, then: humanlm study check {file}; humanlm study serve {file}")


@command.command(name="check", epilog="Example: humanlm study check study.yaml")
@_STUDY
@_JSON
def check(study: Path, as_json: bool) -> None:
    """Say whether a study file is right, and what it would do."""
    from humanlm.study.check import checked

    found = checked(study)
    if as_json:
        click.echo(json.dumps(found._asdict(), indent=1))
        return
    click.echo(
        f"{study}: {found.pages} pages, {found.stimuli} stimuli ({found.per_person} a person), "
        f"simulators {', '.join(found.simulators)}, recruiting {found.recruiting}"
    )
    for note in found.notes:
        click.echo(f"note: {note}")


@command.command(name="serve", epilog="Example: humanlm study serve study.yaml --port 8000")
@_STUDY
@_DATABASE
@click.option("--host", default="127.0.0.1", show_default=True, help="0.0.0.0 to be reached from other machines.")
@click.option("--port", default=8000, show_default=True, type=click.IntRange(0, 65535), help="0 takes a free one.")
def serve(study: Path, database: str | None, host: str, port: int) -> None:
    """Serve the study: people's pages at /, the experimenter's at /admin."""
    from humanlm.study.config import load_study
    from humanlm.study.server import build, experimenter_secret, free_port
    from humanlm.study.server import serve as run

    loaded = load_study(study)
    place = _database(study, database)
    secret, file = experimenter_secret(study.absolute().parent)
    app = build(loaded, place, secret=secret)
    port = free_port(host, port)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s", stream=sys.stderr)
    click.echo(f"participants: {loaded.server.public_url or f'http://{host}:{port}'}/")
    where = f"secret in {file}" if file else "secret in HUMANLM_STUDY_SECRET"
    click.echo(f"experimenter: {loaded.server.public_url or f'http://{host}:{port}'}/admin  ({where})")
    sys.stdout.flush()
    run(app, loaded, host=host, port=port)
