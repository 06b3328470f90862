"""Near-duplicates: MinHash signatures by a compiled library, and bands that find the pairs."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from humanlm.data.prepare.digests import flat_bytes

PERMUTATIONS, BANDS = 64, 16
FEWEST_SHINGLES = 5
_SHINGLE = 16
_SEED = 7
_LONGEST_RUN = 100

Array = np.ndarray[Any, np.dtype[Any]]


class Signatures(NamedTuple):
    """Signatures of those texts that are long enough to have one.

    Attributes:
        rows: Which of the texts.
        values: One signature a row, ``(len(rows), PERMUTATIONS)``, 32 bits each.
    """

    rows: Array
    values: Array


def signatures(texts: Any) -> Signatures:
    """MinHash signatures over shingles of 16 bytes that begin where a word does, blind to ASCII case and kinds of white space.

    Args:
        texts: A large_string array without nulls.
    """
    from rensa import RMinHash

    hashes, counts = _shingles(texts)
    rows = np.flatnonzero(counts >= FEWEST_SHINGLES)
    if not len(rows):
        return Signatures(rows, np.zeros((0, PERMUTATIONS), np.uint32))
    kept = np.repeat(counts >= FEWEST_SHINGLES, counts)
    offsets = np.r_[0, np.cumsum(counts[rows])].astype(np.uint64)
    matrix = RMinHash.digest_matrix_from_flat_token_hashes(hashes[kept], offsets, PERMUTATIONS, _SEED)
    return Signatures(rows, np.array(matrix.to_rows(), dtype=np.uint32))


def _shingles(texts: Any) -> tuple[Array, Array]:
    """Digests of all shingles of all texts, flat, and how many each text has."""
    data, offsets = flat_bytes(texts)
    padded = data + bytes(_SHINGLE)
    letters = np.frombuffer(padded, np.uint8)[: len(data)]
    word = letters > 32
    begins = np.zeros(len(data), bool)
    if len(data):
        begins[1:] = word[1:] & ~word[:-1]
        begins |= (letters >= 0xE3) & (letters <= 0xED)  # scripts without spaces: every character
        begins[offsets[:-1][offsets[:-1] < len(data)]] = True
    starts = np.flatnonzero(begins)
    bounds = np.searchsorted(starts, offsets)
    ends = np.repeat(offsets[1:], np.diff(bounds))
    inside = starts + _SHINGLE <= ends
    running = np.r_[0, np.cumsum(inside)]
    counts = running[bounds[1:]] - running[bounds[:-1]]
    starts = starts[inside]
    eight = np.ndarray((len(padded) - 7,), dtype="<u8", buffer=padded, strides=(1,))
    with np.errstate(over="ignore"):
        mixed = eight[starts] * np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(32))) + eight[starts + 8] * np.uint64(0xC2B2AE3D27D4EB4F)
        mixed = (mixed ^ (mixed >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
    return mixed ^ (mixed >> np.uint64(32)), counts.astype(np.int64)


def band_keys(values: Array) -> Array:
    """One 64-bit digest for each band of each signature, ``(rows, BANDS)``."""
    wide = values.astype(np.uint64).reshape(len(values), BANDS, -1)
    keys = np.zeros((len(values), BANDS), np.uint64)
    with np.errstate(over="ignore"):
        for place in range(wide.shape[2]):
            keys = (keys ^ wide[:, :, place]) * np.uint64(0x9E3779B97F4A7C15)
            keys ^= keys >> np.uint64(29)
    return keys


class NearIndex:
    """Signatures to look near-duplicates up in.

    Args:
        values: Signatures.
        threshold: Estimated Jaccard similarity from which on two texts are near-duplicates.
    """

    def __init__(self, values: Array, threshold: float) -> None:
        self.values, self.threshold = values, threshold
        keys = band_keys(values)
        self._orders = [np.argsort(keys[:, band], kind="stable") for band in range(BANDS)]
        self._keys = [keys[order, band] for band, order in enumerate(self._orders)]

    def save(self, file: Path) -> None:
        """Writes the signatures, for other processes."""
        with file.open("wb") as stream:
            np.save(stream, self.values)

    @classmethod
    def load(cls, file: Path, threshold: float) -> "NearIndex":
        """Reads what :meth:`save` wrote."""
        return cls(np.load(file), threshold)

    def find(self, values: Array) -> tuple[Array, Array]:
        """Pairs of near-duplicates: the place among the asked, and among the index's.

        A key that more than 100 texts share is a stock phrase's; only 100 of them are compared.
        """
        if not len(values) or not len(self.values):
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        keys = band_keys(values)
        asked, found = [], []
        for band in range(BANDS):
            low = np.searchsorted(self._keys[band], keys[:, band], "left")
            runs = np.minimum(np.searchsorted(self._keys[band], keys[:, band], "right") - low, _LONGEST_RUN)
            hits = np.flatnonzero(runs)
            if not len(hits):
                continue
            sizes = runs[hits]
            place = np.repeat(low[hits] - np.r_[0, np.cumsum(sizes)[:-1]], sizes) + np.arange(int(sizes.sum()))
            asked.append(np.repeat(hits, sizes))
            found.append(self._orders[band][place])
        if not asked:
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        pairs = np.unique(np.stack([np.concatenate(asked), np.concatenate(found)], axis=1), axis=0)
        alike = (values[pairs[:, 0]] == self.values[pairs[:, 1]]).mean(axis=1) >= self.threshold
        return pairs[alike, 0], pairs[alike, 1]


def as_array(texts: list[str]) -> Any:
    """Texts in the form that :func:`signatures` takes."""
    return pa.array(texts, pa.large_string())
