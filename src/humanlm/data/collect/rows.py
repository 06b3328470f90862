"""Rows of files: JSONL, CSV and Parquet, plain or packed, with a fault for each that cannot be read."""

import codecs
import csv
import gzip
import io
import json
import re
import sys
import zlib
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import IO, Any, NamedTuple

from pydantic import JsonValue

from humanlm.data.collect.source import Fault
from humanlm.errors import UsageError

UTF8 = "utf-8"
_MEND = "kept with a replacement: save the file as UTF-8, or name its --encoding (tables)"
_ESCAPED = re.compile("[\udc80-\udcff]")
_PACKED = (EOFError, zlib.error, gzip.BadGzipFile)


class Row(NamedTuple):
    """A row of a file.

    Attributes:
        file: The file.
        number: Counted from 1, as an editor shows lines; the records of a CSV file without its header.
        value: What it holds; None where nothing could be read.
        faults: What was wrong with it.
        cursor: Where to go on after it.
    """

    file: str
    number: int
    value: Mapping[str, Any] | None
    faults: tuple[Fault, ...]
    cursor: JsonValue


def find_files(paths: Iterable[str | Path], suffixes: tuple[str, ...]) -> list[Path]:
    """The files meant by paths, folders read whole, in order of their names.

    Raises:
        UsageError: A path does not exist, has another suffix, or a folder holds no such file.
    """
    found: list[Path] = []
    for given in paths:
        path = Path(given).expanduser()
        if path.is_dir():
            inside = sorted(file for file in path.rglob("*") if file.is_file() and file.name.endswith(suffixes))
            if not inside:
                raise UsageError(f"{path}: no {' or '.join(suffixes)} file in this folder")
            found += inside
        elif not path.is_file():
            raise UsageError(f"{path}: no such file or folder: check the path")
        elif not path.name.endswith(suffixes):
            raise UsageError(f"{path}: cannot read {path.suffix or 'this'} files here: give {' or '.join(suffixes)}")
        else:
            found.append(path)
    return found


def identity(files: Iterable[Path]) -> list[JsonValue]:
    """Names and sizes: a collection must not go on in files that have changed."""
    return [{"file": str(file), "bytes": file.stat().st_size} for file in files]


def rows(files: list[Path], cursor: JsonValue = None, *, encoding: str = UTF8) -> Iterator[Row]:
    """Streams the rows of files, one after the other.

    Args:
        files: Any mix of ``.jsonl``, ``.csv``, ``.tsv`` and ``.parquet``; the text forms may be packed as ``.gz``.
        cursor: The cursor of the last row that is done; None for the beginning.
        encoding: Of the text forms.
    """
    start, done = cursor if isinstance(cursor, list) else (0, 0)
    assert isinstance(start, int)
    assert isinstance(done, int)
    for index in range(start, len(files)):
        file, skip = files[index], done if index == start else 0
        number = skip
        for number, value, problems in _numbered(file, skip, encoding):
            faults = tuple(Fault(str(file), number, problem) for problem in problems)
            yield Row(str(file), number, value, faults, [index, number])


def _numbered(file: Path, skip: int, encoding: str) -> Iterator[tuple[int, Mapping[str, Any] | None, list[str]]]:
    if file.suffix == ".parquet":
        return _parquet(file, skip)
    name = file.name.removesuffix(".gz")
    if name.endswith((".csv", ".tsv")):
        return _csv(file, skip, "\t" if name.endswith(".tsv") else None, encoding)
    return _jsonl(file, skip, encoding)


def check_encoding(file: Path, encoding: str) -> None:
    """Looks whether a text file can be read in an encoding, before anything is collected from it.

    Raises:
        UsageError: There is no such encoding, or the file is UTF-16 and something else was said.
    """
    try:
        name = codecs.lookup(encoding).name
    except LookupError as error:
        raise UsageError(f"--encoding {encoding}: no such encoding: give e.g. cp1252, latin-1 or utf-16") from error
    if file.suffix == ".parquet":
        return
    with _open(file) as raw:
        begin = raw.read(2)
    if begin in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) and not name.startswith("utf-16"):
        raise UsageError(f"{file}: this text is UTF-16: add --encoding utf-16, or save it as UTF-8")


def _open(file: Path) -> IO[bytes] | gzip.GzipFile:
    return gzip.open(file, "rb") if file.suffix == ".gz" else file.open("rb")


def _jsonl(file: Path, skip: int, encoding: str) -> Iterator[tuple[int, Mapping[str, Any] | None, list[str]]]:
    number = 0
    try:
        with _open(file) as raw:
            lines: Iterable[bytes] = raw
            if encoding != UTF8:
                lines = (line.encode() for line in io.TextIOWrapper(raw, encoding, errors="replace", newline="\n"))
            for number, line in enumerate(lines, 1):
                if number > skip and line.strip():
                    yield number, *_object(line)
    except _PACKED as error:
        if number + 1 > skip:
            yield number + 1, None, [_cut_short(error)]


def _object(line: bytes) -> tuple[Mapping[str, Any] | None, list[str]]:
    text, problems = _decoded(line)
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        return None, [*problems, f"row: broken JSON ({error.msg}, column {error.colno})"]
    except (RecursionError, ValueError) as error:
        return None, [*problems, f"row: JSON that cannot be read ({type(error).__name__})"]
    if not isinstance(value, dict):
        return None, [*problems, f"row: expected an object, got {type(value).__name__}"]
    return value, problems


def _decoded(line: bytes) -> tuple[str, list[str]]:
    """A line of text; bytes that are not UTF-8 are replaced and reported, the row is not lost for them."""
    try:
        return line.decode("utf-8-sig"), []
    except UnicodeDecodeError as error:
        return line.decode("utf-8-sig", "replace"), [f"row: not UTF-8 (byte {error.start}), {_MEND}"]


def _csv(
    file: Path, skip: int, delimiter: str | None, encoding: str
) -> Iterator[tuple[int, Mapping[str, Any] | None, list[str]]]:
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))  # texts and mails are longer than the 128 kB that csv allows
    number = 0
    try:
        plain = encoding == UTF8
        code, errors = ("utf-8-sig", "surrogateescape") if plain else (encoding, "replace")
        with _open(file) as raw, io.TextIOWrapper(raw, code, errors=errors, newline="") as lines:
            head = lines.readline()
            reader = csv.reader(chain([head], lines), delimiter=delimiter or _delimiter(head))
            header = [name.strip() for name in next(reader, [])]
            for number, cells in enumerate(reader, 1):
                if number <= skip or not cells:
                    continue
                problems = [f"row: not UTF-8, {_MEND}"] if plain and any(map(_ESCAPED.search, cells)) else []
                if len(cells) != len(header):
                    yield number, None, [*problems, f"row: {len(cells)} cells where the header names {len(header)}"]
                else:
                    yield number, dict(zip(header, cells, strict=True)), problems
    except _PACKED as error:
        if number + 1 > skip:
            yield number + 1, None, [_cut_short(error)]
    except csv.Error as error:
        if number + 1 > skip:
            yield number + 1, None, [f"row: not readable as CSV ({error}); the rows after it are not read"]


def _delimiter(head: str) -> str:
    """What stands between the names of a header: a comma, or what spreadsheets put in its place elsewhere."""
    return max(",;\t|", key=head.count)


def _parquet(file: Path, skip: int) -> Iterator[tuple[int, Mapping[str, Any] | None, list[str]]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        for batch in pq.ParquetFile(file).iter_batches(batch_size=256):
            if number + len(batch) <= skip:
                number += len(batch)
                continue
            for value in _values(batch):
                number += 1
                if number > skip:
                    problems = [] if value is not None else ["row: not UTF-8"]
                    yield number, value, problems
    except (pa.ArrowException, OSError) as error:
        words = " ".join(str(error).split())[:120]
        if number + 1 > skip:
            yield number + 1, None, [f"file: not a readable Parquet file ({words}); the rows after it are not read"]


def _values(batch: Any) -> list[dict[str, Any] | None]:
    """The rows of a batch; None for one whose text is not UTF-8."""
    try:
        found: list[dict[str, Any] | None] = batch.to_pylist()
        return found
    except UnicodeDecodeError:
        if len(batch) == 1:
            return [None]
        return [value for row in range(len(batch)) for value in _values(batch.slice(row, 1))]


def _cut_short(error: Exception) -> str:
    return f"file: packed data that ends early or is damaged ({type(error).__name__}); the rows after it are not read"
