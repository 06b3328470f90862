"""Digests of ids and texts: 64 bits, the same on every machine."""

from hashlib import blake2b
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa

Array = np.ndarray[Any, np.dtype[Any]]

_BLOCK = 1 << 18

FOLD = bytes(32 if byte < 32 else byte for byte in range(256)).lower()
"""Maps ASCII capitals to small letters, and every kind of ASCII white space to a space."""


def number(kind: bytes, value: str) -> int:
    """An id's digest; never 0, which stands for none.

    Args:
        kind: What it is the id of, at most 16 bytes: equal ids of different kinds differ.
        value: The id.
    """
    return int.from_bytes(blake2b(value.encode(), digest_size=8, person=kind).digest(), "little") or 1


def flat_bytes(texts: Any) -> tuple[bytes, Array]:
    """The bytes of a large_string array without nulls, folded, and where each text begins and the last one ends."""
    count = len(texts)
    if not count:
        return b"", np.zeros(1, np.int64)
    offsets = np.frombuffer(texts.buffers()[1], np.int64, count + 1, texts.offset * 8)
    first, last = int(offsets[0]), int(offsets[-1])
    data = texts.buffers()[2].slice(first, last - first).to_pybytes().translate(FOLD) if last > first else b""
    return data, offsets - first


def content(texts: Any, least: int = 1) -> Array:
    """Digests of texts that do not see ASCII case and kinds of white space.

    Args:
        texts: A large_string array without nulls.
        least: Texts of fewer bytes get 0: equal short texts are chance, not copies.
    """
    data, offsets = flat_bytes(texts)
    view = memoryview(data)
    bounds = offsets.tolist()
    return np.array(
        [
            int.from_bytes(blake2b(view[low:high], digest_size=8).digest(), "little") if high - low >= least else 0
            for low, high in pairwise(bounds)
        ],
        np.uint64,
    )


def many_digits(texts: Any, least: int) -> Array:
    """Whether each text of a large_string array without nulls holds at least so many ASCII digits."""
    count = len(texts)
    if not count:
        return np.zeros(0, bool)
    offsets = np.frombuffer(texts.buffers()[1], np.int64, count + 1, texts.offset * 8)
    first, last = int(offsets[0]), int(offsets[-1])
    if last == first:
        return np.zeros(count, bool)
    letters = np.frombuffer(texts.buffers()[2], np.uint8, last - first, first)
    blocks = range(0, len(letters), _BLOCK)  # small enough for the processor's cache
    places = np.concatenate([np.flatnonzero(letters[low : low + _BLOCK] - np.uint8(48) < 10) + low for low in blocks])
    return np.diff(np.searchsorted(places, offsets - first)) >= least


def flat(texts: Any) -> Any:
    """A column as one large_string array without nulls; null is the empty text."""
    import pyarrow.compute as pc

    whole = texts.combine_chunks() if isinstance(texts, pa.ChunkedArray) else texts
    whole = whole.cast(pa.large_string())
    return pc.fill_null(whole, "") if whole.null_count else whole
