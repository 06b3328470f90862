"""State dimensions: what a simulator says about the person behind the words, and where users add their own."""

import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from humanlm.errors import UsageError, unknown_name

RESPONSE = "response"
"""The seventh target: the reply itself."""

THINK = "think"
"""The tag of a model's reasoning before the reply."""

_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
_RESERVED = frozenset({RESPONSE, THINK, "system", "user", "assistant", "human"})

Aspect = Literal["cognitive", "normative", "affective", "linguistic", "other"]


class StateDimension(BaseModel):
    """One dimension of the latent state behind a response (paper, section 3.1).

    Attributes:
        name: The tag's name; lower case letters, digits and underscores.
        aspect: The family the dimension belongs to.
        description: What the model must say along this dimension, as shown in its prompt and to the judge.
        max_words: Words a state may have, as the prompt says.
        max_tokens: Tokens a rollout of this state may have.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    aspect: Aspect = "other"
    description: str = Field(min_length=1)
    max_words: int = Field(default=15, ge=1, le=1000)
    max_tokens: int = Field(default=48, ge=4, le=4096)

    @field_validator("name")
    @classmethod
    def _tag_name(cls, name: str) -> str:
        if not _NAME.fullmatch(name) or name in _RESERVED:
            raise ValueError(
                f"{name!r} cannot name a state: use lower case letters, digits, _ and none of {', '.join(sorted(_RESERVED))}"
            )
        return name


def _six() -> dict[str, StateDimension]:
    rows: list[tuple[str, Aspect, str]] = [
        (
            "belief",
            "cognitive",
            "a general conviction of HUMAN about how people or the world work; it holds beyond this one case",
        ),
        ("goal", "cognitive", "what HUMAN tries to bring about by writing this message, and in whom"),
        ("value", "normative", "what HUMAN thinks ought to matter here; a priority, not a fact"),
        ("stance", "normative", "whether HUMAN agrees or disagrees, how firmly, and with what or whom by name"),
        ("emotion", "affective", "what HUMAN feels, how strongly, and toward what or whom; all three are needed"),
        (
            "communication",
            "linguistic",
            "HUMAN's tone and how the message is built: direct or roundabout, claim and reason, question, joke, story",
        ),
    ]
    return {name: StateDimension(name=name, aspect=aspect, description=text) for name, aspect, text in rows}


STATES: Mapping[str, StateDimension] = MappingProxyType(_six())
"""The six dimensions of the paper, in its order."""


def load_states(path: str | Path) -> dict[str, StateDimension]:
    """Reads state dimensions from YAML: a mapping from name to ``{description, aspect, max_words, max_tokens}``.

    Args:
        path: The YAML file. The word ``paper`` as the value of a name takes over the paper's dimension of that name.

    Raises:
        UsageError: The file is missing or says something that is no state dimension.
    """
    file = Path(path)
    try:
        raw: Any = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{file}: cannot read the state file ({error.strerror}): check the path") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{file}: not valid YAML ({' '.join(str(error).split())}): mend the file") from error
    if not isinstance(raw, dict) or not raw:
        raise UsageError(
            f"{file}: expected a mapping from state names to descriptions, e.g. `humour: {{description: ...}}`"
        )
    return {str(name): _state(file, str(name), value) for name, value in raw.items()}


def _state(file: Path, name: str, value: Any) -> StateDimension:
    if value == "paper":
        if name not in STATES:
            raise UsageError(
                f"{file}: {name!r} is none of the paper's states ({', '.join(STATES)}): give it a description"
            )
        return STATES[name]
    fields = {"description": value} if isinstance(value, str) else value
    if not isinstance(fields, dict):
        raise UsageError(
            f"{file}: state {name!r} needs a description, as text or as a mapping with the key `description`"
        )
    for key in fields:
        if key not in StateDimension.model_fields:
            raise UsageError(f"{file}: state {name!r}: {unknown_name('key', str(key), StateDimension.model_fields)}")
    try:
        return StateDimension.model_validate({**fields, "name": name})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UsageError(f"{file}: state {name!r}, key {where!r}: {first['msg']}") from error
