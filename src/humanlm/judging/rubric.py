"""The rubric: what a language model is told about judging, in template files with a version, and the sheet it fills in."""

import hashlib
import json
import random
import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

from humanlm.errors import UsageError
from humanlm.example import Example, Turn, clean_text
from humanlm.prompts.folder import TemplateFolder, find_folder
from humanlm.states import StateDimension

_NEEDED = ("system.j2", "task.j2")
_MARK = re.compile(r"<{3,}|>{3,}")
_ID_LETTERS = "bcdfghjkmnpqrstvwxz"
_ID_LENGTH = 4

TEXT_LIMIT = 8_000
"""Characters of one text that a judge is shown; what is cut is said to be cut."""
CONTEXT_LIMIT = 32_000
"""Characters of a whole conversation."""
NAME_LIMIT = 60

Kind = Literal["response", "human", "descriptions", "messages", "states", "traces"]
"""What is judged: responses as a whole, their human-likeness, states along one dimension, whole messages along one dimension,
whole messages along all dimensions in one call, or traces in one call: the states of the reasoning, and the message after it."""


class Candidate(NamedTuple):
    """A text under its opaque id."""

    id: str
    text: str


class Sheet(NamedTuple):
    """One group as the judge sees it.

    Attributes:
        turns: The conversation, made inert: number, author and text of each message.
        truth: The real message; None where it is not shown.
        candidates: In the order in which they are shown.
        order: ``order[i]`` is the place in the group of the candidate shown at place i.
    """

    turns: tuple[tuple[int, str, str], ...]
    truth: str | None
    candidates: tuple[Candidate, ...]
    order: tuple[int, ...]


class Rubric:
    """The judge's templates: ``meta.yaml`` with a version, ``system.j2`` (static) and ``task.j2`` (the case).

    Attributes:
        name: The built-in rubric's name, or the folder's.
        version: As ``meta.yaml`` says, with a digest of the templates: verdicts are comparable only where it agrees.
    """

    def __init__(self, templates: TemplateFolder) -> None:
        self.name, self._templates = templates.name, templates
        self._system: dict[Any, str] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self.name, self._templates.texts)

    @classmethod
    def load(cls, name_or_folder: str | Path = "humanlm") -> "Rubric":
        """Loads a built-in rubric (``humanlm``) or a folder of your own.

        Raises:
            UsageError: There is no such rubric, or a file of it is missing.
        """
        folder = find_folder(name_or_folder, package="humanlm.judging", inside="rubrics", kind="rubric")
        return cls(TemplateFolder.load(folder, _NEEDED))

    @property
    def version(self) -> str:
        """Name, stated version and digest."""
        return f"{self.name} {self._templates.version} {self._templates.digest[:8]}"

    def system(
        self,
        kind: Kind,
        *,
        dimension: StateDimension | None = None,
        dimensions: Sequence[StateDimension] = (),
        strict: bool = False,
    ) -> str:
        """The static part of a prompt.

        Args:
            kind: What is judged.
            dimension: The dimension, for ``descriptions`` and ``messages``.
            dimensions: All of them, for ``states`` and ``traces``.
            strict: Penalise what speaks about another dimension.

        Raises:
            UsageError: These templates do not know the kind.
        """
        if kind == "traces" and kind not in self._templates.texts["system.j2"]:
            raise UsageError(
                f"rubric {self.name!r} has no words for traces: add what system.j2 of the built-in rubric says for them"
            )
        place = (kind, dimension, tuple(dimensions), strict)
        if place not in self._system:
            self._system[place] = self._templates.render(
                "system.j2", kind=kind, dimension=dimension, dimensions=list(dimensions), strict=strict
            )
        return self._system[place]

    def task(self, sheet: Sheet, *, missing: Sequence[str] = (), key_points: str = "", complaint: str = "") -> str:
        """The changing part of a prompt.

        Args:
            sheet: The case.
            missing: The ids that are still to be judged, if others are settled.
            key_points: Those that an earlier, partial answer gave, as JSON.
            complaint: What was wrong with an earlier answer.
        """
        return self._templates.render(
            "task.j2",
            turns=sheet.turns,
            truth=sheet.truth,
            candidates=sheet.candidates,
            ids=", ".join(candidate.id for candidate in sheet.candidates),
            missing=", ".join(missing),
            key_points=key_points,
            complaint=complaint,
        )


def _rebuild(name: str, texts: dict[str, str]) -> Rubric:
    """A compiled template cannot be pickled; its text can."""
    return Rubric(TemplateFolder(name, texts))


def make_sheet(example: Example, texts: Sequence[str], *, target: str, repeat: int, show_truth: bool = True) -> Sheet:
    """Shuffles candidates and gives them ids, both seeded by the content and the repeat: the same group is always shown alike.

    Args:
        example: Conversation and real message.
        texts: The candidates, each different from the others.
        target: Part of the seed.
        repeat: Part of the seed: another repeat, another order.
        show_truth: Whether the real message is shown.
    """
    content = json.dumps([_context_key(example.context), example.response, sorted(texts), target, repeat])
    dice = random.Random(hashlib.sha256(content.encode()).digest())
    order = sorted(range(len(texts)), key=lambda place: texts[place])
    dice.shuffle(order)
    ids: list[str] = []
    while len(ids) < len(texts):
        name = "".join(dice.choices(_ID_LETTERS, k=_ID_LENGTH))
        if name not in ids:
            ids.append(name)
    return Sheet(
        shown_context(example.context),
        shown_text(example.response) if show_truth else None,
        tuple(Candidate(name, shown_text(texts[place])) for name, place in zip(ids, order, strict=True)),
        tuple(order),
    )


def shown_text(text: str, limit: int = TEXT_LIMIT) -> str:
    """A text as a judge sees it: encodable, without anything that reads as one of our marks, and of bounded length."""
    kept = text if len(text) <= limit else text[:limit]
    inert = _MARK.sub(lambda match: ("‹" if match[0][0] == "<" else "›") * len(match[0]), clean_text(kept))
    return inert if kept is text else f"{inert}\n[cut here: {len(text) - limit:,} more characters]"


@lru_cache(maxsize=256)
def shown_context(context: tuple[Turn, ...]) -> tuple[tuple[int, str, str], ...]:
    """A conversation as a judge sees it; of one that is too long, the beginning and the end."""
    turns = [
        (number, " ".join(shown_text(turn.author).split())[:NAME_LIMIT] or "somebody", shown_text(turn.text))
        for number, turn in enumerate(context, start=1)
    ]
    if sum(len(text) for *_, text in turns) <= CONTEXT_LIMIT:
        return tuple(turns)
    room = CONTEXT_LIMIT - len(turns[0][2])
    tail: list[tuple[int, str, str]] = []
    for turn in reversed(turns[1:]):
        room -= len(turn[2])
        if room < 0:
            break
        tail.insert(0, turn)
    left_out = len(turns) - 1 - len(tail)
    return (turns[0], (2, "(note)", f"[{left_out} messages left out here]"), *tail)


@lru_cache(maxsize=256)
def _context_key(context: tuple[Turn, ...]) -> str:
    return hashlib.sha256(json.dumps([[turn.author, turn.text] for turn in context]).encode()).hexdigest()
