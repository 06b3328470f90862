"""Near-duplicates between splits: signatures of what is held out, then training goes past them file by file."""

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from humanlm.data.prepare.columns import LONG_CHARS, read_rows
from humanlm.data.prepare.near import NearIndex, as_array, signatures
from humanlm.reading import RowFault

RESPONSE, POST = 0, 1


class Marks(NamedTuple):
    """Signatures of a file's texts: whose (id), what (response or first text), and the signature."""

    id: list[str]
    what: Any
    values: Any


def near_duplicates(
    files: Mapping[str, Sequence[Path]],
    kind: str,
    threshold: float,
    run: Callable[[Callable[..., Any], Sequence[Any]], Iterator[Any]],
    exact: Sequence[Any],
) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Pairs (split, (held-out id, id of what it is like)); each held-out example once, and none that is an exact copy.

    Args:
        files: The splits' files.
        kind: How they were split; first texts are compared only where threads must not be shared.
        threshold: Estimated Jaccard similarity from which on two texts are near-duplicates.
        run: Maps a function over jobs.
        exact: Hits of the check for exact copies.
    """
    posts = kind in ("time", "thread")
    known = {hit.names[0] for hit in exact}
    with tempfile.TemporaryDirectory(prefix="humanlm-audit-") as folder:
        ids: list[str] = []
        owners: list[str] = []
        whats, values = [], []
        for split in ("val", "test"):
            jobs = [(str(file), posts) for file in files.get(split, ())]
            for marks in run(sign_file, jobs):
                ids += marks.id
                owners += [split] * len(marks.id)
                whats.append(marks.what)
                values.append(marks.values)
        if not ids:
            return
        what, value = np.concatenate(whats), np.concatenate(values)
        index = Path(folder) / "held.npy"
        NearIndex(value, threshold).save(index)
        np.save(Path(folder) / "what.npy", what)
        jobs_ = [(str(file), posts, str(index), threshold) for file in files.get("train", ())]
        found = [pair for pairs in run(match_file, jobs_) for pair in pairs]
        if "val" in files:  # test against val, from the signatures at hand
            split_of = np.array([owner == "test" for owner in owners])
            asked, places = NearIndex(value[split_of], threshold).find(value[~split_of])
            test_rows, val_rows = np.flatnonzero(split_of), np.flatnonzero(~split_of)
            found += [
                (int(test_rows[place]), ids[int(val_rows[row])])
                for row, place in zip(asked.tolist(), places.tolist(), strict=True)
                if what[test_rows[place]] == what[val_rows[row]]
            ]
    for place, other in found:
        if ids[place] not in known:
            known.add(ids[place])
            yield owners[place], (ids[place], other)


def sign_file(job: tuple[str, bool]) -> Marks:
    """Signatures of a held-out file."""
    ids: list[str] = []
    whats, values = [np.zeros(0, np.int8)], []
    for names, what, value in _signed(Path(job[0]), posts=job[1], every=True):
        ids += names
        whats.append(np.full(len(names), what, np.int8))
        values.append(value)
    from humanlm.data.prepare.near import PERMUTATIONS

    return Marks(
        ids, np.concatenate(whats), np.concatenate(values) if values else np.zeros((0, PERMUTATIONS), np.uint32)
    )


def match_file(job: tuple[str, bool, str, float]) -> list[tuple[int, str]]:
    """Which held-out texts a training file comes near: place among the held-out, id of the training example."""
    file, posts, index, threshold = job
    held = NearIndex.load(Path(index), threshold)
    kinds = np.load(Path(index).with_name("what.npy"))
    found: dict[int, str] = {}
    for names, what, values in _signed(Path(file), posts=posts, every=False):
        asked, places = held.find(values)
        for row, place in zip(asked.tolist(), places.tolist(), strict=True):
            if kinds[place] == what:
                found.setdefault(place, names[row])
    return sorted(found.items())


def _signed(file: Path, *, posts: bool, every: bool) -> Iterator[tuple[list[str], int, Any]]:
    """Batches of ids, what is signed, and signatures.

    Args:
        file: Examples.
        posts: Whether first texts are signed too.
        every: For each example, or only once for a thread.
    """
    seen: set[int] = set()
    for rows in read_rows(file, contexts=False, posts=posts):
        if isinstance(rows, RowFault):
            continue
        texts, names = [], []
        for name, text in zip(rows.id, rows.response, strict=True):
            if len(text) >= LONG_CHARS:
                texts.append(text)
                names.append(name)
        if texts:
            found = signatures(as_array(texts))
            yield [names[row] for row in found.rows.tolist()], RESPONSE, found.values
        if rows.posts is not None:
            texts, names = [], []
            for name, thread, text in zip(rows.id, rows.thread, rows.posts, strict=True):
                mark = hash((thread, text))
                if len(text) >= LONG_CHARS and (every or mark not in seen):
                    seen.add(mark)
                    texts.append(text)
                    names.append(name)
            if texts:
                found = signatures(as_array(texts))
                yield [names[row] for row in found.rows.tolist()], POST, found.values
