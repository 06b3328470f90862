"""Raw records: what every source becomes, and the Parquet folder that ``collect`` writes and ``prepare`` reads.

A raw folder::

    RAW/part-00000.parquet ...   records in order of arrival, ``SCHEMA``; a parent may come after its child
    RAW/collect.json             the source, its settings, how far it got; ``complete`` once everything is there
    RAW/faults.jsonl             one object for each row or request that gave no record: file, row, problem

A thread is a tree: the root (``parent_id`` null) is the post, article, video, item or first message, and each other record
answers its parent. The context of a record is the chain of its ancestors, root first; the thread of an example is the
root's ``thread_id``. Whoever reads a folder must expect what platforms give: parents that are not there, chains that bite
their own tail, records without a text. Ids occur once in a folder.
"""

import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field

from humanlm.errors import DataError, UsageError

SCHEMA_VERSION = 1
VERSION_KEY = b"humanlm.raw"
STATE_FILE = "collect.json"
FAULTS_FILE = "faults.jsonl"
PART_PATTERN = "part-*.parquet"

Kind = Literal["post", "comment", "review", "message", "context"]
"""``context`` is a message known only from somebody's quotation of it, or from a table's context column: never a target."""


class RawRecord(BaseModel):
    """One message, as straightened by a collector and not yet filtered.

    Attributes:
        id: Unique in its folder.
        source: The kind of source: ``news``, ``book``, ``opinion``, ``politics``, ``chat``, ``email`` or ``table``.
        thread_id: The post, video, item, article, conversation or mail thread it belongs to.
        parent_id: The record it answers; None for the root of a thread.
        user_id: Whose words these are; None for deleted users, assistants and whoever else is no user. Two records
            without a user are never by the same person.
        author: The name to show; None where there is none.
        text: What was written; empty where it was deleted. The title is not part of it.
        time: When it was written (UTC).
        kind: What it is; see :data:`Kind`.
        title: The title of a post, item or mail.
        metadata: A JSON object with whatever else the platform said. Never rendered into a prompt.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(min_length=1)
    source: str
    thread_id: str = Field(min_length=1)
    parent_id: str | None = None
    user_id: str | None = Field(default=None, min_length=1)
    author: str | None = None
    text: str
    time: datetime | None = None
    kind: Kind
    title: str | None = None
    metadata: str = "{}"

    @property
    def is_target(self) -> bool:
        """Whether an example can be made of it: a user's words in answer to something."""
        answers = self.parent_id is not None and self.user_id is not None and self.kind != "context"
        return answers and bool(self.text.strip())


_TEXT = pa.large_string()  # 32-bit offsets overflow at 2 GiB of text in one column
SCHEMA = pa.schema(
    [
        pa.field("id", _TEXT, nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("thread_id", _TEXT, nullable=False),
        pa.field("parent_id", _TEXT),
        pa.field("user_id", _TEXT),
        pa.field("author", _TEXT),
        pa.field("text", _TEXT, nullable=False),
        pa.field("time", pa.timestamp("us", tz="UTC")),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("title", _TEXT),
        pa.field("metadata", _TEXT, nullable=False),
    ],
    metadata={VERSION_KEY: str(SCHEMA_VERSION).encode()},
)
"""Columns of a part, in the order of :class:`RawRecord`'s fields."""


def part_files(folder: Path) -> list[Path]:
    """The parts of a raw folder, in order.

    Args:
        folder: What ``humanlm collect`` wrote.

    Raises:
        UsageError: It is no raw folder, or it was written by a version with another schema.
        DataError: A part cannot be read.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder: give one that `humanlm collect` wrote")
    files = sorted(folder.glob(PART_PATTERN))
    if not files and (folder / STATE_FILE).exists():
        raise UsageError(f"{folder}: nothing was collected here (see {FAULTS_FILE} in it): collect again")
    if not files:
        raise UsageError(f"{folder}: no {PART_PATTERN} in it: give a folder that `humanlm collect` wrote")
    for file in files:
        try:
            version = (pq.read_schema(file).metadata or {}).get(VERSION_KEY, b"none").decode()
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{file}: not a readable Parquet file: collect it again with --resume") from error
        if version != str(SCHEMA_VERSION):
            raise UsageError(f"{file}: raw schema {version}, this version reads {SCHEMA_VERSION}: collect it again")
    return files


def is_complete(folder: Path) -> bool | None:
    """Whether a collection came to its end; None if the folder does not say.

    Args:
        folder: What ``humanlm collect`` wrote.

    Raises:
        DataError: Its state cannot be read.
    """
    file = folder / STATE_FILE
    if not file.exists():
        return None
    try:
        return bool(json.loads(file.read_text(encoding="utf-8"))["complete"])
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{file}: cannot be read: collect again with --overwrite") from error


def iter_records(folder: Path, *, batch: int = 1000) -> Iterator[RawRecord]:
    """Streams the records of a raw folder.

    Args:
        folder: What ``humanlm collect`` wrote.
        batch: Records held in memory at a time.

    Raises:
        UsageError: It is no raw folder.
        DataError: A part cannot be read.
    """
    for file in part_files(folder):
        for rows in pq.ParquetFile(file).iter_batches(batch_size=batch):
            for row in rows.to_pylist():
                yield RawRecord.model_validate(row)
