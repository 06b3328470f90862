"""Questions of a study, their types, and how an answer to one is checked; the server checks what the browser checks."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, field_validator, model_validator

from humanlm.example import clean_text
from humanlm.metrics.lengths import word_count

LONGEST_ANSWER = 20_000
"""Characters of one text field; longer ones are refused, never cut."""

_ID = r"^[a-z][a-z0-9_]{0,59}$"

TAKEN = frozenset({"csrf", "action", "main", "saved", "steps", "faults"})
"""What forms and pages need for themselves."""

Kind = Literal["text", "long_text", "number", "choice", "choices", "scale", "rank", "attention", "box"]


class Question(BaseModel):
    """One question.

    Attributes:
        id: Name in exports.
        type: ``text`` (a line), ``long_text``, ``number``, ``choice`` (one), ``choices`` (any), ``scale`` (a row of numbers),
            ``rank`` (all options in order), ``attention`` (a choice whose right option is known), ``box`` (to be ticked).
        text: The question.
        help: A line below it.
        options: Of choices and ranks.
        required: Whether it must be answered.
        min_words: Of texts.
        max_words: Of texts.
        min: Of numbers and scales.
        max: Of numbers and scales.
        labels: Words for values of a scale.
        expect: The right option of an attention check.
        persona: Whether the answer is told to the simulators.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(pattern=_ID)
    type: Kind = "text"
    text: str = Field(min_length=1)
    help: str = ""
    options: tuple[str, ...] = ()
    required: bool = True
    min_words: int = Field(default=0, ge=0)
    max_words: int = Field(default=1000, ge=1)
    min: int | None = None
    max: int | None = None
    labels: dict[int, str] = Field(default_factory=dict)
    expect: str | None = None
    persona: bool = True

    @field_validator("options", "expect", mode="after")
    @classmethod
    def _as_browsers_send_it(cls, value: Any) -> Any:
        """Without what a form loses on its way: a line break or a blank at the end would make an option never right."""
        if isinstance(value, str):
            return " ".join(clean_text(value).split())
        return value if value is None else tuple(" ".join(clean_text(option).split()) for option in value)

    @model_validator(mode="after")
    def _fits_its_type(self) -> "Question":
        if self.id in TAKEN:
            raise ValueError(f"question {self.id!r}: the pages need this name for themselves, choose another id")
        choosing = self.type in ("choice", "choices", "rank", "attention")
        if "" in self.options:
            raise ValueError(f"question {self.id!r}: an option is empty")
        if choosing and len(self.options) < 2:
            raise ValueError(f"question {self.id!r}: a {self.type} needs at least two options")
        if len(set(self.options)) != len(self.options):
            raise ValueError(f"question {self.id!r}: an option stands twice")
        if not choosing and self.options:
            raise ValueError(f"question {self.id!r}: a {self.type} takes no options")
        if self.type == "attention" and self.expect not in self.options:
            raise ValueError(f"question {self.id!r}: `expect` must be one of its options")
        if self.type != "attention" and self.expect is not None:
            raise ValueError(f"question {self.id!r}: only a question of type attention has `expect`")
        if self.min_words and self.type not in ("text", "long_text"):
            raise ValueError(f"question {self.id!r}: only texts have `min_words`")
        if self.min_words > self.max_words:
            raise ValueError(f"question {self.id!r}: min_words is above max_words")
        if self.type == "scale":
            low, high = self.ends
            if not 1 <= high - low <= 20:
                raise ValueError(f"question {self.id!r}: a scale has 2 to 21 steps; set `min` and `max`")
            if any(not low <= value <= high for value in self.labels):
                raise ValueError(f"question {self.id!r}: a label stands outside the scale")
        elif self.type == "number" and self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"question {self.id!r}: min is above max")
        return self

    @property
    def ends(self) -> tuple[int, int]:
        """First and last value of a scale."""
        return (1 if self.min is None else self.min), (10 if self.max is None else self.max)

    def fields(self) -> list[str]:
        """The names of its form fields: one, except for a ranking, which has one an option."""
        if self.type == "rank":
            return [f"{self.id}.{place}" for place in range(len(self.options))]
        return [self.id]

    def check(self, form: Mapping[str, Sequence[str]]) -> tuple[JsonValue, str]:
        """Reads the answer from a form: the value (None for no answer) and what is wrong with it (empty if nothing)."""
        given = [clean_text(value).strip() for name in self.fields() for value in form.get(name, ())]
        given = [value for value in given if value]
        if self.type == "box":
            return (True, "") if given == ["yes"] else (None, "Please tick the box, or leave the study.")
        if not given:
            return None, "Please answer this question." if self.required else ""
        if self.type == "rank":
            return self._check_rank([clean_text((form.get(name) or ("",))[0]).strip() for name in self.fields()])
        if self.type == "choices":
            unknown = [value for value in given if value not in self.options]
            return (None, "Please choose from the list.") if unknown else (list(dict.fromkeys(given)), "")
        if len(given) > 1:
            return None, "Please give one answer."
        return self._check_one(given[0])

    def _check_one(self, value: str) -> tuple[JsonValue, str]:
        if self.type in ("choice", "attention"):
            return (value, "") if value in self.options else (None, "Please choose from the list.")
        if self.type in ("number", "scale"):
            return self._check_number(value)
        return value, text_fault(value, self.min_words, self.max_words)

    def _check_number(self, value: str) -> tuple[JsonValue, str]:
        if not re.fullmatch(r"-?[0-9]{1,9}", value):
            return None, "Please give a whole number."
        number = int(value)
        low, high = self.ends if self.type == "scale" else (self.min, self.max)
        if (low is not None and number < low) or (high is not None and number > high):
            return None, f"Please give a number {between(low, high)}."
        return number, ""

    def _check_rank(self, places: Sequence[str]) -> tuple[JsonValue, str]:
        """Each option has its place; the answer is the options from first to last."""
        size = len(self.options)
        if sorted(places) != sorted(str(number) for number in range(1, size + 1)):
            return None, f"Please give each of the {size} a different place from 1 to {size}."
        order = sorted(range(size), key=lambda place: int(places[place]))
        return [self.options[place] for place in order], ""


def between(low: int | None, high: int | None) -> str:
    """A range in words."""
    if low is None:
        return f"up to {high}"
    return f"from {low}" if high is None else f"from {low} to {high}"


def text_fault(text: str, min_words: int, max_words: int) -> str:
    """What is wrong with a text's length; empty if nothing."""
    words = word_count(text)
    if len(text) > LONGEST_ANSWER:
        return f"This text is too long: at most {LONGEST_ANSWER:,} characters."
    if words < min_words:
        return f"Please write at least {min_words} words; these are {words}."
    if words > max_words:
        return f"Please write at most {max_words} words; these are {words}."
    return ""


class Checked(BaseModel):
    """A form that was looked at.

    Attributes:
        answers: By question; None where an optional question was left open.
        faults: By question, in words for the person.
        failed_checks: Attention checks that were answered wrongly.
    """

    answers: dict[str, JsonValue] = Field(default_factory=dict)
    faults: dict[str, str] = Field(default_factory=dict)
    failed_checks: int = 0


def check_form(questions: Sequence[Question], form: Mapping[str, Sequence[str]]) -> Checked:
    """Checks a whole page; fields that no question asked for are not looked at."""
    checked = Checked()
    for question in questions:
        value, fault = question.check(form)
        checked.answers[question.id] = value
        if fault:
            checked.faults[question.id] = fault
        if question.type == "attention" and value is not None and value != question.expect:
            checked.failed_checks += 1
    return checked


def draft_of(questions: Sequence[Question], form: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """What a person has typed so far, unchecked but bounded: shown again when the page is."""
    return {
        name: [clean_text(value)[:LONGEST_ANSWER] for value in form.get(name, ())][: max(1, len(question.options))]
        for question in questions
        for name in question.fields()
        if form.get(name)
    }
