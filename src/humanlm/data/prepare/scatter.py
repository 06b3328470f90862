"""First stage: raw parts, piece by piece, are straightened, scrubbed and laid out by buckets of threads.

A bucket is a share of all threads that fits in memory; a thread lies in one bucket whole. Each piece becomes one Arrow file
with one record batch a bucket, so a bucket is read back from all pieces without reading the rest, and without copying.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from humanlm.data.prepare.config import PrepareConfig, Work
from humanlm.data.prepare.digests import content, flat, many_digits, number
from humanlm.data.prepare.privacy import FEWEST_DIGITS, Pseudonyms, is_role, open_scrub, shown_name
from humanlm.data.raw import part_files
from humanlm.files import appearing_whole, write_whole

NO_TIME = np.iinfo(np.int64).min
"""Stands for an unknown time; times are microseconds since 1970."""

TARGET, FOREIGN = 1, 2
"""Flags of a record: a response of a user; a response in another language than the one asked for."""

PIECE_BYTES = 48 * 2**20
BUCKET_BYTES = 32 * 2**20

COLUMNS = pa.schema(
    [
        ("h_id", pa.uint64()),
        ("h_parent", pa.uint64()),
        ("h_thread", pa.uint64()),
        ("h_user", pa.uint64()),
        ("time", pa.int64()),
        ("flags", pa.uint8()),
        ("chars", pa.int32()),
        ("h_text", pa.uint64()),
        ("place", pa.int64()),
        ("id", pa.large_string()),
        ("thread", pa.large_string()),
        ("user", pa.large_string()),
        ("shown", pa.large_string()),
        ("name", pa.large_string()),
        ("text", pa.large_string()),
    ]
)
"""A record between the stages.

``h_`` are 64-bit digests, 0 for none; ``place`` is the raw part's number times 2^32 plus the row, from 1; ``shown`` is the
author as it will stand in contexts.
"""


class Piece(NamedTuple):
    """Row groups of the raw parts that are read together: file, row group, first row (from 0)."""

    number: int
    groups: tuple[tuple[str, int, int], ...]


class Layout(NamedTuple):
    """How the input is cut.

    Attributes:
        pieces: What is read together.
        buckets: Into how many the threads go.
        source: What the records say they come from.
    """

    pieces: tuple[Piece, ...]
    buckets: int
    source: str


def plan_layout(raw: Path) -> Layout:
    """Cuts the raw folder into pieces, and says how many buckets its threads need; reads footers only."""
    pieces: list[Piece] = []
    groups: list[tuple[str, int, int]] = []
    size = total = 0
    source = ""
    for file in part_files(raw):
        parquet = pq.ParquetFile(file)
        row = 0
        for place in range(parquet.num_row_groups):
            group = parquet.metadata.row_group(place)
            groups.append((str(file), place, row))
            row += group.num_rows
            size += group.total_byte_size
            if not source and group.num_rows:
                source = str(parquet.read_row_group(place, columns=["source"])["source"][0].as_py())
            if size >= PIECE_BYTES:
                pieces.append(Piece(len(pieces), tuple(groups)))
                total, size, groups = total + size, 0, []
    if groups:
        pieces.append(Piece(len(pieces), tuple(groups)))
    return Layout(tuple(pieces), max(1, -(-(total + size) // BUCKET_BYTES)), source)


@lru_cache(maxsize=2)
def _language() -> Callable[[str], str]:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    identifier = LanguageIdentifier.from_model_file(MODEL_FILE)
    return lambda text: str(identifier.classify(text)[0])


def scatter(piece: Piece, buckets: int, config: PrepareConfig, key: bytes, work: Work) -> int:
    """Makes one piece's file, its list of faults, and its share of the mapping from pseudonyms to ids.

    Args:
        piece: What to read.
        buckets: How many buckets there are.
        config: The settings.
        key: The key of pseudonyms.
        work: Where the files go.

    Returns:
        How many records were read.
    """
    table = pa.concat_tables(_read(file, group) for file, group, _ in piece.groups)
    faults: list[dict[str, Any]] = []
    fields = _Fields(table, piece, faults)
    columns = _columns(fields, config, Pseudonyms(key))
    records = pa.table(columns, schema=COLUMNS)
    good = pa.array(fields.good)
    if len(faults):
        records = records.filter(good)
    bucket = (np.asarray(records["h_thread"]) % np.uint64(buckets)).astype(np.int64)
    order = np.argsort(bucket, kind="stable")
    bounds = np.searchsorted(bucket[order], np.arange(buckets + 1))
    with appearing_whole(work.file("piece", piece.number)) as part, arrow_writer(part, COLUMNS) as writer:
        for place in range(buckets):
            rows = records.take(pa.array(order[bounds[place] : bounds[place + 1]]))
            writer.write_batch(one_batch(rows))
    _write_mapping(fields, columns, config, work.file("mapping", piece.number, "parquet"))
    write_whole(work.file("faults-read", piece.number, "jsonl"), "".join(json.dumps(fault) + "\n" for fault in faults))
    return len(table)


@contextmanager
def arrow_writer(file: Path, schema: pa.Schema) -> Iterator[Any]:
    """Writes an Arrow file, uncompressed, so that it can be mapped."""
    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        yield writer


def one_batch(table: pa.Table) -> pa.RecordBatch:
    """A table as one record batch, even if it is empty."""
    batches = table.combine_chunks().to_batches()
    return batches[0] if batches else pa.RecordBatch.from_pylist([], schema=table.schema)


def _read(file: str, group: int) -> pa.Table:
    names = ["id", "thread_id", "parent_id", "user_id", "author", "text", "time", "kind", "title"]
    return pq.ParquetFile(file).read_row_group(group, columns=names, use_threads=False)


class _Fields:
    """The columns of a piece as Python values, with a fault for each row that cannot be used."""

    def __init__(self, table: pa.Table, piece: Piece, faults: list[dict[str, Any]]) -> None:
        self.table, self._piece, self._faults = table, piece, faults
        self._lengths = [pq.ParquetFile(file).metadata.row_group(group).num_rows for file, group, _ in piece.groups]
        self.good = np.ones(len(table), dtype=bool)
        self.id, self.thread = self.strings("id"), self.strings("thread_id")
        self.parent, self.user, self.author = self.strings("parent_id"), self.strings("user_id"), self.strings("author")
        self.text, self.title, self.kind = self.strings("text"), self.strings("title"), self.strings("kind")
        for row, (identity, thread, text) in enumerate(zip(self.id, self.thread, self.text, strict=True)):
            if not identity or not thread or text is None:
                self.fault(row, f"{'id' if not identity else 'thread_id' if not thread else 'text'}: missing")
                self.good[row] = False
        time = table["time"].cast(pa.timestamp("us")).cast(pa.int64())
        self.time = np.asarray(pc.fill_null(time, NO_TIME))

    def strings(self, name: str) -> list[Any]:
        column = self.table[name]
        try:
            return column.to_pylist()  # type: ignore[no-any-return]
        except UnicodeDecodeError:
            raw = column.cast(pa.large_binary()).to_pylist()
            mended = []
            for row, value in enumerate(raw):
                try:
                    mended.append(None if value is None else value.decode())
                except UnicodeDecodeError:
                    mended.append(value.decode(errors="replace"))
                    self.fault(row, f"{name}: not UTF-8, mended")
            index = self.table.schema.get_field_index(name)
            self.table = self.table.set_column(index, name, pa.array(mended, pa.large_string()))
            return mended

    @property
    def places(self) -> Any:
        """Part and row of each record."""
        pieces = [
            (int(Path(file).stem.rpartition("-")[2]) << 32) + np.arange(first + 1, first + 1 + length)
            for (file, _, first), length in zip(self._piece.groups, self._lengths, strict=True)
        ]
        return np.concatenate(pieces).astype(np.int64)

    def fault(self, row: int, problem: str) -> None:
        for (file, _, first), length in zip(self._piece.groups, self._lengths, strict=True):
            if row < length:
                self._faults.append({"file": Path(file).name, "row": first + row + 1, "problem": problem})
                return
            row -= length


def _columns(fields: _Fields, config: PrepareConfig, pseudonyms: Pseudonyms) -> dict[str, Any]:
    count, keep = len(fields.id), config.keep_names
    scrub = open_scrub(config.scrub, handles=not keep)
    language = _language() if config.language else None
    numbers: dict[bytes, dict[str, int]] = {b"id": {}, b"thread": {}, b"user": {}}
    names: dict[tuple[bytes, str], str] = {}

    def digest(kind: bytes, value: str | None) -> int:
        if not value:
            return 0
        known = numbers[kind]
        if (found := known.get(value)) is None:
            found = known[value] = number(kind, value)
        return found

    def out(kind: bytes, value: str) -> str:
        if keep:
            return value
        place = (kind, value)
        if (found := names.get(place)) is None:
            found = names[place] = pseudonyms.of(kind, value)
        return found

    h_id, h_parent, h_thread, h_user = (np.zeros(count, np.uint64) for _ in range(4))
    raw_texts = flat(fields.table["text"])
    digits = many_digits(raw_texts, FEWEST_DIGITS).tolist()
    flags = np.zeros(count, np.uint8)
    ids, threads, users, shown, author_names = [], [], [], [], []
    patches: dict[int, str] = {}
    rows = zip(
        fields.id,
        fields.thread,
        fields.parent,
        fields.user,
        fields.author,
        fields.text,
        fields.title,
        fields.kind,
        strict=True,
    )
    for row, (identity, thread, parent, user, author, text, title, kind) in enumerate(rows):
        identity, thread, text = identity or "", thread or "", text or ""
        h_id[row], h_parent[row] = digest(b"id", identity), digest(b"id", parent)
        h_thread[row], h_user[row] = digest(b"thread", thread), digest(b"user", user)
        ids.append(out(b"id", identity))
        threads.append(out(b"thread", thread))
        users.append(out(b"user", user) if user else None)
        author_names.append(author)
        shown.append(_shown(user, author, kind, keep, out))
        body = f"{title}\n\n{text}" if title and title not in text else text
        numbers_there = digits[row] or (body is not text and sum(map(str.isdigit, title)) >= FEWEST_DIGITS)
        body = scrub(body, numbers_there)
        if parent and user and kind != "context" and not (text.isspace() or not text):
            flags[row] = TARGET
            if language is not None and language(body) != config.language:
                flags[row] |= FOREIGN
        if body is not text:
            patches[row] = body
    texts = _patched(raw_texts, patches)
    return {
        "h_id": h_id,
        "h_parent": h_parent,
        "h_thread": h_thread,
        "h_user": h_user,
        "time": fields.time,
        "flags": flags,
        "chars": pc.cast(pc.utf8_length(texts), pa.int32()),
        "h_text": content(texts),
        "place": fields.places,
        "id": pa.array(ids, pa.large_string()),
        "thread": pa.array(threads, pa.large_string()),
        "user": pa.array(users, pa.large_string()),
        "shown": pa.array(shown, pa.large_string()),
        "name": pa.array(author_names, pa.large_string()),
        "text": texts,
    }


def _shown(user: str | None, author: str | None, kind: str, keep: bool, out: Callable[[bytes, str], str]) -> str | None:
    """The author as contexts show it: a pseudonym for people, the name of a channel or a role, None for deleted users."""
    if keep:
        return author or user
    if user:
        return shown_name(out(b"user", user))
    if author and kind == "context" and not is_role(author):
        return shown_name(out(b"user", author))
    return author


def _patched(texts: Any, patches: dict[int, str]) -> Any:
    """The column with some texts replaced; the others are not touched."""
    if not patches:
        return texts
    mask = np.zeros(len(texts), bool)
    rows = sorted(patches)
    mask[rows] = True
    return pc.replace_with_mask(texts, pa.array(mask), pa.array([patches[row] for row in rows], pa.large_string()))


def _write_mapping(fields: _Fields, columns: dict[str, Any], config: PrepareConfig, file: Path) -> None:
    """Pseudonym and id of users, with the names they go by; nothing where names are kept."""
    schema = pa.schema([("kind", pa.string()), ("pseudonym", pa.string()), ("id", pa.string()), ("name", pa.string())])
    rows: dict[tuple[str, str, str], str | None] = {}
    if not config.keep_names:
        users = columns["user"].to_pylist()
        for user, pseudonym, name in zip(fields.user, users, fields.author, strict=True):
            if user:
                rows.setdefault(("user", pseudonym, user), name)
        for kind, pseudonyms, ids in (("thread", columns["thread"], fields.thread), ("id", columns["id"], fields.id)):
            for pseudonym, identity in zip(pseudonyms.to_pylist(), ids, strict=True):
                if identity:
                    rows.setdefault((kind, pseudonym, identity), None)
    kinds, pseudonyms, ids, names = (
        (list(column) for column in zip(*((*k, v) for k, v in rows.items()), strict=True)) if rows else ([], [], [], [])
    )
    with appearing_whole(file) as part:
        pq.write_table(pa.table([kinds, pseudonyms, ids, names], schema=schema), part, compression="zstd")
