"""A study is a YAML file: what people see and answer, who simulates them, and how they are recruited."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from humanlm.errors import UsageError, unknown_name
from humanlm.states import STATES, StateDimension
from humanlm.study.questions import TAKEN, Question

_NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,59}$"


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def _web(url: str) -> str:
    """The address, if it is one of the web."""
    if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
        raise ValueError(f"{url!r} is no http(s) address: begin it with https:// or http://")
    return url


class Ethics(_Strict):
    """What a review board and a participant want to know; shown on the consent page and kept with the data."""

    approval: str = Field(min_length=1)
    retention: str = Field(min_length=1)
    payment: str = Field(min_length=1)
    contact: str = Field(min_length=1)


class Consent(_Strict):
    """The consent text, and the boxes that must all be ticked."""

    text: str = Field(min_length=1)
    boxes: tuple[str, ...] = Field(min_length=1)

    @property
    def version(self) -> str:
        """A digest of every word agreed to, 16 hex digits."""
        return hashlib.sha256(json.dumps([self.text, *self.boxes]).encode()).hexdigest()[:16]


class Page(_Strict):
    """One page of the questionnaire."""

    id: str = Field(pattern=r"^[a-z][a-z0-9_]{0,39}$")
    title: str = Field(min_length=1)
    intro: str = ""
    questions: tuple[Question, ...] = Field(min_length=1)


class Stimulus(_Strict):
    """What participants react to."""

    id: str = Field(pattern=_NAME)
    text: str = Field(min_length=1)
    title: str = ""
    author: str = "somebody"


class StudySimulator(_Strict):
    """One simulator.

    Attributes:
        name: In results; participants never see it.
        model: A run folder, a Hugging Face folder, a Hub id, or ``api:provider/model``.
        url: An OpenAI-compatible server that has loaded the model.
        served_as: The model's name there.
        think: Whether it reasons first; by default as it was trained.
        prompts: A prompt set instead of its own.
        temperature: Of sampling.
        max_new_tokens: By default as the model says.
        replies: Instead of a model: replies written beforehand, by stimulus. For trying out, and for fixed baselines.
        attempts: Tries before it is left out for a participant.
        concurrency: Replies at once; by default 1 for a model in this process, 16 for one elsewhere.
    """

    name: str = Field(pattern=_NAME)
    model: str | None = None
    url: str | None = None
    served_as: str | None = None
    think: bool | None = None
    prompts: str | None = None
    temperature: float = Field(default=0.4, ge=0, le=2)
    max_new_tokens: int | None = Field(default=None, ge=1)
    replies: dict[str, str] | None = None
    attempts: int = Field(default=3, ge=1, le=10)
    concurrency: int | None = Field(default=None, ge=1, le=256)

    @model_validator(mode="after")
    def _one_source(self) -> "StudySimulator":
        if (self.model is None) == (self.replies is None):
            raise ValueError(f"simulator {self.name!r}: give either `model` or `replies`")
        if self.url is not None:
            _web(self.url)
        return self

    @property
    def at_once(self) -> int:
        """Replies it may write at the same time."""
        if self.concurrency is not None:
            return self.concurrency
        elsewhere = self.url is not None or self.replies is not None or str(self.model).startswith("api:")
        return 16 if elsewhere else 1


class PersonaMaker(_Strict):
    """How answers become a persona: ``answers`` tells them as they are; ``model`` has a language model write it."""

    by: Literal["answers", "model"] = "answers"
    model: str | None = None
    url: str | None = None
    attempts: int = Field(default=3, ge=1, le=10)

    @model_validator(mode="after")
    def _model_is_named(self) -> "PersonaMaker":
        if (self.by == "model") != (self.model is not None):
            raise ValueError("`by: model` needs `model: provider/model`, `by: answers` takes none")
        return self


class Response(_Strict):
    """What people write about a stimulus."""

    instruction: str = "Write what you would really answer."
    min_words: int = Field(default=20, ge=1)
    max_words: int = Field(default=600, ge=1)

    @model_validator(mode="after")
    def _can_be_written(self) -> "Response":
        if self.min_words > self.max_words:
            raise ValueError("min_words is above max_words")
        return self


def twice(names: Sequence[str]) -> str | None:
    """The first name that stands twice."""
    return next((name for name in names if names.count(name) > 1), None)


class StateQuestions(_Strict):
    """The state dimensions that people describe in their own words.

    Attributes:
        min_words: Of each.
        dimensions: Name to question; the paper's names may stand alone.
        more: Questions beside them, for instance attention checks.
    """

    min_words: int = Field(default=10, ge=0)
    dimensions: dict[str, str] = Field(min_length=1)
    more: tuple[Question, ...] = ()

    @field_validator("dimensions", mode="before")
    @classmethod
    def _known_or_described(cls, value: Any) -> Any:
        if isinstance(value, list):
            unknown = [name for name in value if name not in OWN_WORDS]
            if unknown:
                raise ValueError(str(unknown_name("state dimension", str(unknown[0]), OWN_WORDS)))
            if len(set(value)) != len(value):
                raise ValueError(f"the dimension {twice(value)!r} stands twice")
            return {name: OWN_WORDS[name] for name in value}
        return value

    @field_validator("dimensions")
    @classmethod
    def _tag_names(cls, value: dict[str, str]) -> dict[str, str]:
        for name, text in value.items():
            StateDimension(name=name, description=text)
            if name in TAKEN:
                raise ValueError(f"{name!r}: the pages need this name for themselves, choose another")
        return value


OWN_WORDS: Mapping[str, str] = {
    "stance": "Where do you stand, and toward whom or what? Say how firmly you agree or disagree.",
    "emotion": "What do you feel as you read this, how strongly, and about whom or what?",
    "belief": "Which general conviction of yours, about people or the world, is behind your answer?",
    "value": "What matters most to you here: what ought to count?",
    "goal": "What would you like your answer to bring about, and in whom?",
    "communication": "How did you put it: in which tone, how directly, and built in which way?",
}
"""The paper's six dimensions, asked of the person."""

assert set(OWN_WORDS) == set(STATES)


class Ratings(_Strict):
    """How people compare replies with their own.

    Attributes:
        min: Lowest mark.
        max: Highest mark.
        labels: Words for marks of similarity; the report tells the share above each.
        human_labels: Words for marks of human-likeness.
        reason_words: Least words of a reason.
        dimensions: Whether similarity is asked along each state dimension too.
        human_likeness: Whether it is asked at all.
    """

    min: int = Field(default=1, ge=0)
    max: int = Field(default=10, le=20)
    labels: dict[int, str] = Field(
        default={1: "nothing alike", 4: "somewhat alike", 7: "mostly alike", 10: "as if I had written it"}
    )
    human_labels: dict[int, str] = Field(default={1: "clearly a machine", 10: "clearly a person"})
    reason_words: int = Field(default=5, ge=0)
    dimensions: bool = True
    human_likeness: bool = True

    @model_validator(mode="after")
    def _labels_inside(self) -> "Ratings":
        if self.max - self.min < 1:
            raise ValueError("max must be above min")
        for name in ("labels", "human_labels"):
            for value in sorted(getattr(self, name)):
                if not self.min <= value <= self.max:
                    raise ValueError(
                        f"{name} has words for {value}, outside the scale from {self.min} to {self.max}: give labels of your own"
                    )
        return self


class Assignment(_Strict):
    """Who answers what: each participant gets so many stimuli, always those that have the fewest participants."""

    stimuli: int = Field(default=1, ge=1, le=20)
    abandoned_after_minutes: int = Field(default=120, ge=5)


class Attention(_Strict):
    """What happens to those who fail attention checks: nothing until ``allowed`` are passed over, then flagged or ended."""

    allowed: int = Field(default=1, ge=0)
    then: Literal["flag", "end"] = "flag"


class Generation(_Strict):
    """Patience with simulators.

    Attributes:
        wait_s: Longest wait of a participant; what is not there by then is left out.
        retry_s: Pause before the second attempt; it doubles each time.
        least: Replies without which there is nothing to compare; with fewer, the participant goes on without comparing.
    """

    wait_s: float = Field(default=180, gt=0)
    retry_s: float = Field(default=2, ge=0)
    least: int = Field(default=2, ge=1)


class Prolific(_Strict):
    """What `humanlm study publish` tells Prolific."""

    reward_cents: int = Field(ge=1)
    description: str = ""
    api_url: str = "https://api.prolific.com/api/v1"
    filters: tuple[dict[str, Any], ...] = ()


class MechanicalTurk(_Strict):
    """What `humanlm study publish` tells Mechanical Turk."""

    reward_dollars: str = Field(pattern=r"^[0-9]{1,3}\.[0-9]{2}$")
    description: str = ""
    keywords: str = "survey, opinion, writing"
    sandbox: bool = True
    assignment_minutes: int = Field(default=120, ge=5)
    api_url: str | None = None


class Recruiting(_Strict):
    """Where participants come from, how many, until when, and what they get at the end.

    Attributes:
        via: ``open`` (anyone with the address), ``invitation`` (single-use links), ``prolific``, ``mturk``.
        quota: The most participants that finish or are on their way; None for no limit.
        closes: Last day (UTC).
        completion_link: Where the last page sends people; ``{code}`` stands for the code.
        completion_code: The same for all; without it everybody gets one of their own.
        prolific: For `publish`.
        mturk: For `publish`.
    """

    via: Literal["open", "invitation", "prolific", "mturk"] = "open"
    quota: int | None = Field(default=None, ge=1)
    closes: date | None = None
    completion_link: str | None = None
    completion_code: str | None = Field(default=None, pattern=r"^[A-Za-z0-9-]{4,40}$")
    prolific: Prolific | None = None
    mturk: MechanicalTurk | None = None

    @field_validator("completion_link")
    @classmethod
    def _whole_link(cls, link: str | None) -> str | None:
        return link if link is None else _web(link)


class Server(_Strict):
    """How the app is reached and what it allows.

    Attributes:
        public_url: The address people use; without it, links are as the browser asked for them.
        proxies: Addresses of reverse proxies whose word on the client's address is believed.
        entries_per_minute: New participants from one address.
        requests_per_minute: Requests of one participant.
        guesses_per_minute: Wrong tokens or secrets from one address.
    """

    public_url: str | None = None
    proxies: tuple[str, ...] = ()
    entries_per_minute: int = Field(default=60, ge=1)
    requests_per_minute: int = Field(default=240, ge=10)
    guesses_per_minute: int = Field(default=10, ge=1)

    @field_validator("public_url")
    @classmethod
    def _whole_url(cls, url: str | None) -> str | None:
        if url is None:
            return None
        parts = urlsplit(_web(url))
        if parts.path.strip("/") or parts.query or parts.fragment:
            raise ValueError(
                "the study's pages lie at the root of their host: give it a host name of its own, without a path"
            )
        return url.rstrip("/")


class Study(_Strict):
    """The whole study."""

    title: str = Field(min_length=1)
    language: str = Field(default="en", pattern=r"^[a-zA-Z]{2,3}(-[A-Za-z0-9]{2,8})*$")
    about: str = ""
    minutes: int = Field(default=20, ge=1)
    ethics: Ethics
    consent: Consent
    pages: tuple[Page, ...] = Field(min_length=1)
    response: Response = Response()
    states: StateQuestions
    stimuli: tuple[Stimulus, ...] = Field(min_length=1)
    simulators: tuple[StudySimulator, ...] = Field(min_length=2, max_length=5)
    persona: PersonaMaker = PersonaMaker()
    ratings: Ratings = Ratings()
    feedback: tuple[Question, ...] = ()
    assignment: Assignment = Assignment()
    attention: Attention = Attention()
    generation: Generation = Generation()
    recruiting: Recruiting = Recruiting()
    server: Server = Server()

    @model_validator(mode="after")
    def _fits_together(self) -> "Study":
        for what, names in (
            ("page", [page.id for page in self.pages]),
            ("stimulus", [stimulus.id for stimulus in self.stimuli]),
            ("simulator", [simulator.name for simulator in self.simulators]),
            ("question", [question.id for page in self.pages for question in page.questions]),
            ("question", [question.id for question in self.feedback]),
            ("question", [*self.states.dimensions, *(question.id for question in self.states.more)]),
        ):
            if (name := twice(names)) is not None:
                raise ValueError(f"the {what} {name!r} stands twice")
        known = {stimulus.id for stimulus in self.stimuli}
        for simulator in self.simulators:
            if simulator.replies is not None and (lacking := known - set(simulator.replies)):
                raise ValueError(f"simulator {simulator.name!r}: no reply for the stimulus {min(lacking)!r}")
        if self.assignment.stimuli > len(self.stimuli):
            raise ValueError(f"assignment.stimuli is {self.assignment.stimuli}, there are {len(self.stimuli)} stimuli")
        if self.generation.least > len(self.simulators):
            raise ValueError("generation.least is above the number of simulators")
        return self

    @property
    def version(self) -> str:
        """A digest of the whole study, 16 hex digits."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:16]

    def stimulus(self, name: str) -> Stimulus:
        """A stimulus by id.

        Raises:
            UsageError: There is none, as after a change of the file.
        """
        found = next((stimulus for stimulus in self.stimuli if stimulus.id == name), None)
        if found is None:
            raise UsageError(
                f"stimulus {name!r} is in the data, but not in this study file: give the file that was served"
            )
        return found

    def simulator(self, name: str) -> StudySimulator:
        """A simulator by name."""
        return next(simulator for simulator in self.simulators if simulator.name == name)
