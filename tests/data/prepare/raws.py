"""Raw folders for tests: what a collector would have written."""

import json
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from humanlm.data.raw import SCHEMA, RawRecord

START = datetime(2024, 1, 1, tzinfo=UTC)


def record(
    id: str, user: str | None, text: str, *, thread: str = "t", parent: str | None = None, **more: Any
) -> RawRecord:
    kind = more.pop("kind", "comment" if parent else "post")
    minutes = more.pop("minutes", None)
    time = more.pop("time", None if minutes is None else START + timedelta(minutes=minutes))
    values = {"source": "opinion", "author": user and user.title(), **more}
    return RawRecord(id=id, thread_id=thread, parent_id=parent, user_id=user, text=text, time=time, kind=kind, **values)


def write_raw(folder: Path, records: list[RawRecord], *, parts: int = 1, group: int | None = None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    rows = [item.model_dump() for item in records]
    size = -(-len(rows) // parts) or 1
    for part, first in enumerate(range(0, len(rows), size)):
        table = pa.Table.from_pylist(rows[first : first + size], schema=SCHEMA)
        pq.write_table(table, folder / f"part-{part:05d}.parquet", row_group_size=group or size)
    (folder / "collect.json").write_text(json.dumps({"source": "opinion", "complete": True}))
    return folder


WORDS = [
    "river",
    "bread",
    "window",
    "garden",
    "lantern",
    "copper",
    "meadow",
    "thunder",
    "pocket",
    "ladder",
    "silver",
    "button",
    "candle",
    "feather",
    "market",
    "saddle",
]


def sentence(rng: random.Random, words: int = 14) -> str:
    return " ".join(rng.choice(WORDS) + rng.choice(["", "s", "ing", "ed"]) for _ in range(words)) + "."


def town(
    threads: int = 40, users: int = 8, *, seed: int = 0, replies: int = 6, source: str = "opinion"
) -> list[RawRecord]:
    """Threads with a post of their own and replies at two depths, in the order of time; users write in many threads."""
    rng = random.Random(seed)
    records = []
    for thread in range(threads):
        name = f"t{thread:03d}"
        poster = f"poster{thread}"
        post = record(
            f"{name}-post",
            poster,
            sentence(rng, 30),
            thread=name,
            minutes=thread * 100,
            title=f"Question {thread}",
            source=source,
        )
        records.append(post)
        for place in range(replies):
            user = f"user{(thread * 5 + place * 3) % users}"
            parent = f"{name}-post" if place < 3 else f"{name}-r{place - 3}"
            text = f"{sentence(rng)} {sentence(rng, 9)}"
            records.append(
                record(
                    f"{name}-r{place}",
                    user,
                    text,
                    thread=name,
                    parent=parent,
                    minutes=thread * 100 + place + 1,
                    source=source,
                )
            )
    return records
