"""The scores of one simulator, computed from its records alone; ``scores.json``."""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from humanlm.errors import UsageError
from humanlm.evaluation.records import ANCHORS, Cases, Part, Record, cases, mean_cases
from humanlm.example import Example
from humanlm.files import write_whole
from humanlm.metrics.diversity import distinct_n, unique_share
from humanlm.metrics.intervals import DIGITS, Estimate, estimate
from humanlm.metrics.lengths import length_ratio, mean_words
from humanlm.states import RESPONSE
from humanlm.world.generator import SOURCE as WORLD

SCORES = "scores.json"
LOW_FORMAT = 0.05


class _Data(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DataInfo(_Data):
    """Which examples were scored."""

    source: str
    fingerprint: str
    examples: int
    users: int


class PromptInfo(_Data):
    """Which templates the simulator was asked with."""

    name: str
    version: str
    fingerprint: str


class Settings(_Data):
    """Everything that decides an evaluation's generations; a resumed evaluation must agree on all of it.

    Attributes:
        name: What the simulator is called in tables.
        method: How it was made, as its card says.
        think: Whether it reasons before it replies.
        model: What was loaded.
        prompts: The templates it is asked with.
        data: The examples.
        judge: The judge's name.
        temperatures: The first is the headline.
        samples: Samples a prompt (one at temperature 0).
        judged_states: Dimensions on which the response is compared with the real response.
        asked_states: Dimensions that the simulator is asked for directly.
        with_anchors: Whether the judge is calibrated.
        seed: Of generation, anchors and resampling.
        batch: Examples handled at once.
    """

    name: str
    method: str
    think: bool
    model: str
    prompts: PromptInfo
    data: DataInfo
    judge: str
    temperatures: tuple[float, ...] = Field(min_length=1)
    samples: int = Field(ge=1)
    judged_states: tuple[str, ...] = ()
    asked_states: tuple[str, ...] = ()
    with_anchors: bool = True
    seed: int = 0
    batch: int = Field(default=64, ge=1)


class Texts(_Data):
    """The outside of a set of texts."""

    mean_words: float | None
    distinct_1: float | None
    distinct_2: float | None
    distinct_3: float | None
    unique: float | None

    @classmethod
    def of(cls, texts: Sequence[str]) -> "Texts":
        """Measures texts."""
        return cls(
            mean_words=mean_words(texts),
            distinct_1=distinct_n(texts, 1),
            distinct_2=distinct_n(texts, 2),
            distinct_3=distinct_n(texts, 3),
            unique=unique_share(texts),
        )


class AtTemperature(_Data):
    """What was measured at one temperature.

    Attributes:
        response_alignment: Judge's score of the replies.
        format_rate: Share of outputs that had exactly the form asked for.
        faults: How often each deviation occurred.
        length_ratio: Words of the well-formed replies by words of the real ones.
        texts: Diversity of the first sample of each prompt, comparable with ``Scores.real``.
    """

    response_alignment: Estimate
    format_rate: float
    faults: dict[str, int]
    length_ratio: float | None
    texts: Texts


class Scores(Settings):
    """The content of ``EVAL/scores.json``. Numbers are rounded to six decimals, keys sorted, no time is kept.

    Beside the settings (who was evaluated, on what, by which judge):

    Attributes:
        response_alignment: At the headline temperature, as are all figures but ``by_temperature``.
        state_alignment: By dimension, the reply compared with the real reply (the paper's form).
        state_alignment_mean: Mean over examples of the mean over their judged dimensions.
        state_prompts: By dimension, the simulator's answer to the state prompt; empty if it was not asked.
        state_prompts_mean: Likewise.
        by_temperature: Everything about the replies.
        anchors: What the judge gives the truth, another user's reply, and replies under another user's persona.
        other_user_found: How near the other users' replies were, in examples.
        real: The real responses' own diversity.
        embedding_similarity: Mean cosine of reply and real reply; None if it was not measured.
        notes: What a reader must know before reading the figures.
    """

    response_alignment: Estimate
    state_alignment: dict[str, Estimate]
    state_alignment_mean: Estimate | None
    state_prompts: dict[str, Estimate]
    state_prompts_mean: Estimate | None
    format_rate: float
    length_ratio: float | None
    by_temperature: dict[str, AtTemperature]
    anchors: dict[str, Estimate]
    other_user_found: dict[str, int]
    real: Texts
    embedding_similarity: Estimate | None = None
    notes: tuple[str, ...] = ()

    def write(self, folder: Path) -> None:
        """Writes ``scores.json``; the same scores are always the same bytes."""
        write_whole(folder / SCORES, sorted_json(self))

    @classmethod
    def read(cls, folder: Path) -> "Scores":
        """Reads ``scores.json`` of an evaluation.

        Raises:
            UsageError: There is none, or it is another program's.
        """
        file = folder / SCORES
        if not file.is_file():
            raise UsageError(f"{folder}: no {SCORES} there: give a folder that `humanlm evaluate --out` finished")
        try:
            return cls.model_validate_json(file.read_bytes())
        except ValidationError as error:
            first = error.errors()[0]
            raise UsageError(
                f"{file}, key {'.'.join(map(str, first['loc'])) or '-'}: {first['msg']}: not the scores of an evaluation; "
                f"run `humanlm evaluate` again"
            ) from error


def sorted_json(model: BaseModel) -> str:
    """Stable JSON of a model, keys sorted, for files that people compare."""
    return json.dumps(model.model_dump(mode="json"), indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def temperature_key(temperature: float) -> str:
    """A temperature as a key: ``0.4``, ``1``, ``0``."""
    return f"{temperature:g}"


class Tables:
    """Per-example scores of an evaluation, from which every mean and every paired difference is made.

    Attributes:
        users: Whose each example is, by id, in the examples' order.
    """

    def __init__(self, settings: Settings, records: Sequence[Record], users: Mapping[str, str]) -> None:
        self.settings = settings
        self.users = dict(users)
        self._parts: dict[Part, list[Record]] = {}
        for record in records:
            self._parts.setdefault(record.part, []).append(record)

    def records(self, part: Part) -> Sequence[Record]:
        """The records of one series."""
        return self._parts.get(part, [])

    def _cases(self, part: Part, judged: str) -> Cases:
        return cases(self.records(part), judged)

    def response(self, temperature: float) -> Cases:
        """Response alignment."""
        return self._cases(Part("simulator", RESPONSE, temperature), RESPONSE)

    def state(self, dimension: str) -> Cases:
        """Response against response along one dimension."""
        return self._cases(Part("simulator", RESPONSE, self.settings.temperatures[0]), dimension)

    def state_mean(self) -> Cases:
        """The mean over the dimensions."""
        return mean_cases([self.state(dimension) for dimension in self.settings.judged_states])

    def state_prompt(self, dimension: str) -> Cases:
        """The answer to a state prompt."""
        return self._cases(Part("simulator", dimension, self.settings.temperatures[0]), dimension)

    def state_prompt_mean(self) -> Cases:
        """The mean over the state prompts."""
        return mean_cases([self.state_prompt(dimension) for dimension in self.settings.asked_states])

    def anchor(self, name: str) -> Cases:
        """What an anchor scores."""
        temperature = self.settings.temperatures[0] if name == "other_persona" else None
        return self._cases(Part(name, RESPONSE, temperature), RESPONSE)  # type: ignore[arg-type]

    def estimate(self, table: Cases) -> Estimate:
        """A table's mean, its interval clustered by user."""
        keys = [key for key in self.users if key in table]
        return estimate([table[key] for key in keys], [self.users[key] for key in keys], seed=self.settings.seed)


Similarity = Callable[[Sequence[tuple[str, str]]], list[float]]
"""Similarities of pairs of texts, in [-1, 1]."""


def compute_scores(
    settings: Settings, examples: Sequence[Example], records: Sequence[Record], similarity: Similarity | None = None
) -> Scores:
    """Computes all scores of an evaluation.

    Args:
        settings: The evaluation's.
        examples: What was evaluated, in order.
        records: All generations and verdicts.
        similarity: Of reply and real reply, if that is to be measured.
    """
    tables = Tables(settings, records, {example.id: example.user_id for example in examples})
    real = {example.id: example.response for example in examples}
    temperatures = {temperature_key(value): _at(value, tables, real) for value in settings.temperatures}
    headline = temperatures[temperature_key(settings.temperatures[0])]
    anchors: dict[str, Estimate] = {name: tables.estimate(table) for name in ANCHORS if (table := tables.anchor(name))}
    return Scores(
        **dict(settings),
        response_alignment=headline.response_alignment,
        state_alignment={name: tables.estimate(tables.state(name)) for name in settings.judged_states},
        state_alignment_mean=tables.estimate(tables.state_mean()) if settings.judged_states else None,
        state_prompts={name: tables.estimate(tables.state_prompt(name)) for name in settings.asked_states},
        state_prompts_mean=tables.estimate(tables.state_prompt_mean()) if settings.asked_states else None,
        format_rate=headline.format_rate,
        length_ratio=headline.length_ratio,
        by_temperature=temperatures,
        anchors=anchors,
        other_user_found=dict(Counter(record.note for record in records if record.by == "other_user")),
        real=Texts.of(list(real.values())),
        embedding_similarity=_similar(settings, tables, real, similarity) if similarity else None,
        notes=_notes(headline, anchors, examples),
    )


def _at(temperature: float, tables: Tables, real: Mapping[str, str]) -> AtTemperature:
    own = tables.records(Part("simulator", RESPONSE, temperature))
    good = [record for record in own if not record.faults]
    return AtTemperature(
        response_alignment=tables.estimate(tables.response(temperature)),
        format_rate=round(len(good) / len(own), DIGITS),
        faults=dict(Counter(str(fault) for record in own for fault in record.faults)),
        length_ratio=length_ratio([record.text for record in good], [real[record.id] for record in good]),
        texts=Texts.of([record.text for record in own if record.sample == 0]),
    )


def _similar(settings: Settings, tables: Tables, real: Mapping[str, str], similarity: Similarity) -> Estimate:
    """Mean similarity of each example's replies to the real one."""
    own = tables.records(Part("simulator", RESPONSE, settings.temperatures[0]))
    found: dict[str, list[float]] = {}
    for record, value in zip(own, similarity([(record.text, real[record.id]) for record in own]), strict=True):
        found.setdefault(record.id, []).append(value)
    return tables.estimate({key: sum(values) / len(values) for key, values in found.items()})


def _notes(headline: AtTemperature, anchors: Mapping[str, Estimate], examples: Sequence[Example]) -> tuple[str, ...]:
    notes: list[str] = []
    if all(example.source == WORLD for example in examples):
        notes.append(
            "These people are invented: the examples come from the controlled world, whose users follow known rules."
        )
    alignment = headline.response_alignment
    if headline.format_rate < LOW_FORMAT:
        rate = headline.format_rate
        share = f"Only {rate:.1%} of the outputs had" if rate else "No output had"
        others = "the others score" if rate else "all score"
        notes.append(
            f"{share} the form that was asked for, and {others} 0 by "
            f"rule: these figures say nothing about how well the model simulates people."
        )
    if alignment.missing:
        notes.append(f"The judge gave no verdict on {alignment.missing} of {alignment.n + alignment.missing} replies.")
    judged = alignment.n + alignment.missing
    if judged < len(examples):
        notes.append(
            f"{len(examples) - judged} of {len(examples)} real responses say nothing that this judge can compare."
        )
    if alignment.users < 2:
        notes.append("All scored responses are one person's, so there is no interval.")
    other, mine = anchors.get("other_user"), alignment.mean
    if (
        other
        and other.mean is not None
        and mine is not None
        and mine < other.mean
        and headline.format_rate >= LOW_FORMAT
    ):
        notes.append(
            f"Another user's real reply scores {other.mean:.3f}, more than the simulator's own replies: "
            f"no better than saying what somebody else said."
        )
    return tuple(notes)
