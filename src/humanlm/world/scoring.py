"""The rule by which the world scores texts: coverage of the key states minus a penalty. Pure, and blind to the method."""

from __future__ import annotations

from typing import NamedTuple

from humanlm.world.lexical import read_state, read_states

CONTRADICTION = 1.0
"""What a wrong value costs on a dimension that the truth voices: as much as a hit earns."""
EXTRA = 0.25
"""What a value costs on a dimension on which the truth is silent."""
SAME_SIDE = 0.5
"""What a stance earns that takes the right side with the wrong strength."""

Key = tuple[str, str]
"""A dimension and the value that the truth voices on it."""


class Score(NamedTuple):
    """The parts of one score: what each key earned, the penalty, and what was found in the candidate's text."""

    matches: tuple[float, ...]
    penalty: float
    found: tuple[Key, ...]


def keys_of(truth: str, dimension: str | None = None) -> tuple[Key, ...]:
    """What a true response voices, on one dimension or on all, in a fixed order."""
    states = read_states(truth)
    return tuple((d, v) for d in sorted(states) for v in sorted(states[d]) if dimension in (None, d))


def credit(dimension: str, key: str, value: str) -> float:
    """What a value earns against a key value of the same dimension, in [0, 1]."""
    if value == key:
        return 1.0
    if dimension == "stance" and value.split()[-1] == key.split()[-1]:
        return SAME_SIDE
    return 0.0


def score_response(keys: tuple[Key, ...], text: str) -> Score:
    """Scores a response against the keys of all dimensions; `keys` must not be empty."""
    return _score(keys, read_states(text))


def score_state(keys: tuple[Key, ...], dimension: str, text: str) -> Score:
    """Scores the text of a state against the keys of its dimension; `keys` must not be empty."""
    return _score(keys, {dimension: read_state(dimension, text)})


def _score(keys: tuple[Key, ...], found: dict[str, set[str]]) -> Score:
    matches = tuple(max((credit(d, key, value) for value in found.get(d, ())), default=0.0) for d, key in keys)
    asked = {dimension for dimension, _ in keys}
    cost = 0.0
    listed: list[Key] = []
    for dimension in sorted(found):
        for value in sorted(found[dimension]):
            listed.append((dimension, value))
            if dimension not in asked:
                cost += EXTRA
            else:
                best = max(credit(d, key, value) for d, key in keys if d == dimension)
                cost += CONTRADICTION * (1 - best)
    return Score(matches, min(1.0, cost / len(keys)), tuple(listed))
