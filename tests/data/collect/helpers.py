"""Reading a raw folder in tests."""

import json
from pathlib import Path
from typing import Any

from humanlm.data.raw import RawRecord, iter_records


def records(folder: Path) -> dict[str, RawRecord]:
    """The records of a folder by id."""
    return {record.id: record for record in iter_records(folder)}


def faults(folder: Path) -> list[dict[str, Any]]:
    """The faults of a folder."""
    file = folder / "faults.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a folder with its bytes."""
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


def chain(found: dict[str, RawRecord], name: str) -> list[str]:
    """The ids of a record's ancestors, root first."""
    above: list[str] = []
    parent = found[name].parent_id
    while parent is not None:
        above.append(parent)
        parent = found[parent].parent_id
    return above[::-1]
