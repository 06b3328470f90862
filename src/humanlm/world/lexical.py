"""Reads the states that a text voices, by the lexicon alone."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from humanlm.world.lexicon import PHRASINGS

_Words = tuple[str, ...]


class _Part(NamedTuple):
    """What one wording means: its dimension, its slot, and the feature it tells."""

    dimension: str
    slot: int
    feature: str


def _compile() -> tuple[dict[_Words, _Part], dict[str, int]]:
    """The wordings of all slots by their words, and the longest wording by first word."""
    parts: dict[_Words, _Part] = {}
    longest: dict[str, int] = {}
    for dimension, phrasing in PHRASINGS.items():
        for number, slot in enumerate(phrasing.slots):
            for feature, phrases in slot.wordings.items():
                for phrase in phrases:
                    words = tuple(phrase.split())
                    if words in parts:
                        raise ValueError(f"lexicon: {phrase!r} stands in two slots; a wording must be unique")
                    parts[words] = _Part(dimension, number, feature)
                    longest[words[0]] = max(longest.get(words[0], 0), len(words))
    return parts, longest


_PARTS, _LONGEST = _compile()
_LABELS = {dimension: frozenset(phrasing.labels.values()) for dimension, phrasing in PHRASINGS.items()}
_LONGEST_LABEL = max(len(label.split()) for labels in _LABELS.values() for label in labels)


def _parts(words: list[str]) -> list[_Part | None]:
    """The parts of a text from left to right, longest match first; None for a word that is in no wording."""
    found: list[_Part | None] = []
    at = 0
    while at < len(words):
        for length in range(_LONGEST.get(words[at], 0), 0, -1):
            part = _PARTS.get(tuple(words[at : at + length]))
            if part is not None:
                found.append(part)
                at += length
                break
        else:
            found.append(None)
            at += 1
    return found


@lru_cache(maxsize=65536)
def _read(text: str) -> tuple[tuple[str, str], ...]:
    found: dict[tuple[str, str], None] = {}
    previous: _Part | None = None
    for part in _parts(text.split()):
        if part is not None and part.slot == 1:
            phrasing = PHRASINGS[part.dimension]
            first, second = phrasing.slots
            if first.telling and second.telling:
                if previous is not None and previous.slot == 0 and previous.dimension == part.dimension:
                    found[part.dimension, phrasing.labels[previous.feature, part.feature]] = None
            elif second.telling:
                found[part.dimension, phrasing.labels[(part.feature,)]] = None
        elif part is not None and not PHRASINGS[part.dimension].slots[1].telling:
            found[part.dimension, PHRASINGS[part.dimension].labels[(part.feature,)]] = None
        previous = part
    return tuple(found)


def read_states(text: str) -> dict[str, set[str]]:
    """The state values that a text voices, by dimension (dimensions without any are absent).

    The telling part alone voices a state ("livid"); where both parts tell, they must stand side by side ("i am wholly"
    + "against it").
    """
    states: dict[str, set[str]] = {}
    for dimension, value in _read(text):
        states.setdefault(dimension, set()).add(value)
    return states


def read_state(dimension: str, text: str) -> set[str]:
    """The values of one dimension that the text of a state names by label or voices by phrase."""
    found = set(read_states(text).get(dimension, ()))
    words = text.replace(";", " ; ").split()
    at = 0
    while at < len(words):
        step = 1
        for length in range(min(_LONGEST_LABEL, len(words) - at), 0, -1):
            label = " ".join(words[at : at + length])
            if label in _LABELS[dimension]:
                found.add(label)
                step = length
                break
        at += step
    return found
