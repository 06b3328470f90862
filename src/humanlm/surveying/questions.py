"""What a survey shows to people: stimuli, and the people's traits in a population."""

import random
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from humanlm.errors import DataError, UsageError
from humanlm.example import Persona, clean_text

Margins = dict[str, dict[str, float]]
"""For each trait the share of each of its values in the population; the shares of a trait sum to 1."""

_NAME = re.compile(r"[\w .-]{1,60}")
_RANGE = re.compile(r"\s*(\d+)\s*(?:-|–|to)\s*(\d+)\s*|\s*(\d+)\s*\+\s*")
_SUM_ERROR = 0.01


class Stimulus(BaseModel):
    """What people are shown.

    Attributes:
        name: The variant's name in tables.
        text: The post.
        author: Who posts it.
        about: What stance is coded towards; by default whatever the post claims or proposes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=_NAME.pattern)
    text: str = Field(min_length=1)
    author: str = "somebody"
    about: str = ""


def read_stimuli(words: Iterable[str], file: str | Path | None = None) -> list[Stimulus]:
    """Stimuli from the command line and from a file.

    Args:
        words: ``NAME=TEXT``, ``NAME=@FILE`` (a text file), or the text alone, which is then called A, B, C ...
        file: A YAML file with a list of ``{name, text, author, about}``.

    Raises:
        UsageError: Something is none, two have the same name, or there is none at all.
    """
    found = [_stimulus(word, number) for number, word in enumerate(words)]
    if file is not None:
        found += _from_file(Path(file))
    if not found:
        raise UsageError("no stimulus: give --stimulus NAME=TEXT, --stimulus NAME=@FILE or --stimuli FILE")
    names = [stimulus.name for stimulus in found]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UsageError(f"two stimuli are called {twice!r}: give each a name of its own")
    return found


def read_margins(file: str | Path) -> Margins:
    """Reads population margins from YAML: a mapping from traits to mappings from values to shares (or counts).

    Raises:
        UsageError: The file is missing or holds something else.
    """
    loaded = _yaml(Path(file))
    if not isinstance(loaded, dict) or not loaded:
        raise UsageError(f"{file}: expected traits with shares, e.g. `age: {{18-39: 0.4, 40+: 0.6}}`")
    margins: Margins = {}
    for trait, shares in loaded.items():
        if not isinstance(shares, dict) or not shares:
            raise UsageError(f"{file}: {trait}: expected values with shares")
        numbers: dict[str, float] = {}
        for value, share in shares.items():
            if isinstance(share, bool) or not isinstance(share, int | float) or not share > 0:
                raise UsageError(f"{file}: {trait}, {value}: {share!r} is no share above 0")
            numbers[str(value)] = float(share)
        total = sum(numbers.values())
        if total < 1 - _SUM_ERROR:
            raise UsageError(f"{file}: {trait}: the shares sum to {total:g}, not to 1")
        margins[str(trait)] = {value: share / total for value, share in numbers.items()}
    return margins


def generate_personas(margins: Margins, people: int, *, seed: int = 0) -> dict[str, Persona]:
    """People whose traits follow stated margins as nearly as whole people can; traits are drawn independently of each other.

    Args:
        margins: The population.
        people: How many.
        seed: Decides who has which traits together.
    """
    columns: dict[str, list[str]] = {}
    for trait, shares in margins.items():
        exact = {value: share * people for value, share in shares.items()}
        counts = {value: int(number) for value, number in exact.items()}
        rest = sorted(exact, key=lambda value: counts[value] - exact[value])[: people - sum(counts.values())]
        values = [value for value in shares for _ in range(counts[value] + (value in rest))]
        random.Random(f"{seed}/{trait}").shuffle(values)
        columns[trait] = values
    width = len(str(max(1, people - 1)))
    return {
        f"person-{number:0{width}d}": Persona(demographics={trait: values[number] for trait, values in columns.items()})
        for number in range(people)
    }


def category(persona: Persona, trait: str, values: Iterable[str]) -> str | None:
    """The value of a trait that a persona has, among those of the margins; numbers fall into ranges such as 18-39 and 65+."""
    known = {key.casefold(): value for key, value in persona.demographics.items()}
    said = known.get(trait.casefold())
    if said is None:
        return None
    for value in values:
        if value.casefold() == said.casefold():
            return value
    number = re.search(r"\d+", said)
    if number is None:
        return None
    for value in values:
        match = _RANGE.fullmatch(value)
        if match and (
            int(match[1]) <= int(number[0]) <= int(match[2]) if match[1] else int(number[0]) >= int(match[3])
        ):
            return value
    return None


def categories(personas: Mapping[str, Persona], margins: Margins) -> dict[str, dict[str, str]]:
    """For each trait of the margins the value of each person.

    Raises:
        DataError: Somebody has none of a trait's values.
    """
    found: dict[str, dict[str, str]] = {}
    for trait, shares in margins.items():
        found[trait] = {}
        for name, persona in personas.items():
            value = category(persona, trait, shares)
            if value is None:
                said = persona.demographics.get(trait, "nothing")
                raise DataError(
                    f"persona {name!r}: {trait}: {said!r} is none of {', '.join(shares)}: widen the margins, or leave it out"
                )
            found[trait][name] = value
    return found


def _stimulus(word: str, number: int) -> Stimulus:
    name, equals, rest = word.partition("=")
    if not equals or not _NAME.fullmatch(name):
        name, rest = chr(ord("A") + number % 26), word
    if rest.startswith("@"):
        file = Path(rest[1:])
        try:
            rest = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"stimulus {name!r}: {file} cannot be read as text: check the path") from error
    return _checked({"name": name, "text": clean_text(rest).strip()}, f"stimulus {name!r}")


def _from_file(file: Path) -> list[Stimulus]:
    loaded = _yaml(file)
    if not isinstance(loaded, list):
        raise UsageError(f"{file}: expected a list of stimuli, each with `name` and `text`")
    return [_checked(row, f"{file}, stimulus {number}") for number, row in enumerate(loaded, 1)]


def _checked(row: Any, where: str) -> Stimulus:
    try:
        return Stimulus.model_validate(row)
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageError(f"{where}: {'.'.join(map(str, first['loc'])) or 'row'}: {first['msg']}") from error


def _yaml(file: Path) -> Any:
    try:
        return yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(
            f"{file}: cannot be read as YAML ({' '.join(str(error).split())[:120]}): check the file"
        ) from error
