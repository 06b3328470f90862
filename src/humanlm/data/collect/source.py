"""What a collector is: a source that gives its records step by step, and can go on from any step."""

import html
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple, Protocol

from pydantic import JsonValue

from humanlm.data.raw import RawRecord
from humanlm.errors import DataError
from humanlm.example import clean_text, json_value, parse_time

_BREAK = re.compile(r"<br\s*/?>", re.IGNORECASE)
_DELETED = frozenset({"[deleted]", "[removed]", "[deleted by user]", "[ removed by reddit ]"})


class Fault(NamedTuple):
    """A row or a request that gave no record, or not the whole of it.

    Attributes:
        file: The file, or the request without its key.
        row: The row of the file, counted from 1; None for requests.
        problem: What was wrong, starting with the field where there is one. Never a text of a user.
    """

    file: str
    row: int | None
    problem: str


class Step(NamedTuple):
    """A piece of a collection: one row, one mail, one page of comments.

    Attributes:
        cursor: Where the source goes on after this step; any JSON value.
        records: What the step gave, in order.
        faults: What went wrong in it.
        place: File and row, or the request, for faults that are found later.
    """

    cursor: JsonValue
    records: Sequence[RawRecord] = ()
    faults: Sequence[Fault] = ()
    place: tuple[str, int | None] = ("", None)


@dataclass(frozen=True)
class Run:
    """What a source may know of the collection it works for.

    Attributes:
        cursor: The cursor of the last step that was kept; None at the beginning.
        enough: Whether the limit on responses is reached.
        stored: The values of a column over all records kept so far.
    """

    cursor: JsonValue
    enough: Callable[[], bool]
    stored: Callable[[str], Iterator[str]]


class Source(Protocol):
    """One source with its settings."""

    name: str
    """``news``, ``book``, ...: the ``source`` of its records."""

    unique: bool
    """Whether an id that comes twice is a fault of the data (files) or the way of a platform (pages that shift)."""

    def settings(self) -> dict[str, JsonValue]:
        """What decides which records come: a collection is only taken up again with the same."""
        ...

    def steps(self, run: Run) -> Iterator[Step]:
        """Goes on after ``run.cursor``, and ends when there is no more.

        Raises:
            RunError: The source cannot go on now (quota, access, network); what was kept stays.
        """
        ...


class Window(NamedTuple):
    """A range of times, open where None; ``until`` is not part of it."""

    since: datetime | None = None
    until: datetime | None = None

    def holds(self, time: datetime | None) -> bool:
        """Whether a time lies in the range; an unknown time lies only in the range of all times."""
        if time is None:
            return self.since is None and self.until is None
        return (self.since is None or time >= self.since) and (self.until is None or time < self.until)

    def settings(self) -> dict[str, JsonValue]:
        """The range as JSON."""
        return {
            "since": self.since.isoformat() if self.since else None,
            "until": self.until.isoformat() if self.until else None,
        }


ALWAYS = Window()
"""The range of all times."""


def label(row: Mapping[str, Any], key: str) -> str:
    """An id or a name of a row.

    Raises:
        DataError: It is missing, empty, or neither text nor a number.
    """
    found = optional_label(row, key)
    if not found:
        raise DataError(f"{key}: missing")
    return found


def optional_label(row: Mapping[str, Any], key: str) -> str:
    """An id or a name of a row; empty where there is none.

    Raises:
        DataError: It is neither text nor a number.
    """
    value = row.get(key)
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise DataError(f"{key}: expected text, got {type(value).__name__}")
    if isinstance(value, float):
        if value != value:
            return ""
        value = int(value) if value.is_integer() else value
    return " ".join(clean_text(str(value)).split())


def text(row: Mapping[str, Any], key: str) -> str:
    """A text of a row, made safe; empty where there is none.

    Raises:
        DataError: It is no text.
    """
    value = row.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise DataError(f"{key}: expected text, got {type(value).__name__}")
    return clean_text(value).strip()


def markup(value: str) -> str:
    """A text that came as HTML, as plain text: line breaks and entities resolved."""
    return clean_text(html.unescape(_BREAK.sub("\n", value))).strip()


def undeleted(value: str) -> str:
    """A text, empty where the platform says that it was deleted."""
    return "" if value.strip().lower() in _DELETED else value


def time(row: Mapping[str, Any], key: str) -> datetime | None:
    """A time of a row: epoch seconds, milliseconds, or ISO 8601; None where there is none.

    Raises:
        DataError: It is no time.
    """
    try:
        return parse_time(row.get(key))
    except ValueError as error:
        raise DataError(f"{key}: not a time (epoch seconds or milliseconds, or ISO 8601)") from error


def metadata(value: Mapping[str, Any]) -> str:
    """What else a platform said, as JSON that is the same every time.

    Raises:
        DataError: It is nested deeper than any real data.
    """
    try:
        kept = {clean_text(str(key)): json_value(item) for key, item in value.items() if item not in (None, "", [], {})}
    except ValueError as error:
        raise DataError(f"metadata: {error}") from error
    return json.dumps(kept, ensure_ascii=False, sort_keys=True)


def short(value: Any) -> str:
    """A value in a message, on one line and not long."""
    words = " ".join(str(value).split())
    return words if len(words) <= 80 else words[:79] + "…"
