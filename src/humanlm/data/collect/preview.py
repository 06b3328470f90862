"""A look at a source before anything is written: how its first rows would read as examples."""

from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

from humanlm.data.collect.source import Fault, Run, Source
from humanlm.data.raw import RawRecord


class Shown(NamedTuple):
    """One response as an example would show it.

    Attributes:
        user: Whose it is.
        context: Name and text of each message before it, oldest first; titles stand above their texts.
        response: What the user wrote.
        time: When, as text; empty where unknown.
        thread: Its thread.
    """

    user: str
    context: list[tuple[str, str]]
    response: str
    time: str
    thread: str


class Preview(NamedTuple):
    """What the first rows of a source hold.

    Attributes:
        steps: Rows, mails or conversations that were looked at.
        rows: Records in them.
        responses: Those that can become examples.
        faults: What was wrong.
        examples: The first responses with their contexts.
    """

    steps: int
    rows: int
    responses: int
    faults: list[Fault]
    examples: list[Shown]


def preview(source: Source, *, steps: int = 1000, examples: int = 3) -> Preview:
    """Looks at the beginning of a source. Reads files only; for a platform this would already ask it.

    Args:
        source: What to look at.
        steps: How many rows, mails or conversations.
        examples: How many responses to show.
    """
    records: dict[str, RawRecord] = {}
    faults: list[Fault] = []
    looked: list[int] = []

    def nothing(column: str) -> Iterator[str]:
        return iter(())

    # reviews come before their items: twice as many steps, so that the items are looked at too
    for number, step in enumerate(islice(source.steps(Run(None, lambda: len(looked) >= steps, nothing)), 2 * steps), 1):
        looked.append(number)
        faults += step.faults
        for record in step.records:
            records.setdefault(record.id, record)
    targets = [record for record in records.values() if record.is_target]
    shown = [_shown(record, records) for record in targets[:examples]]
    return Preview(min(len(looked), steps), len(records), len(targets), faults, shown)


def _shown(record: RawRecord, records: dict[str, RawRecord]) -> Shown:
    context: list[tuple[str, str]] = []
    seen = {record.id}
    parent = record.parent_id
    while parent is not None and parent not in seen:
        seen.add(parent)
        above = records.get(parent)
        if above is None:
            context.append(("?", "(not among the first rows)"))
            break
        text = "\n\n".join(part for part in (above.title, above.text) if part)
        same = above.user_id is not None and above.user_id == record.user_id
        context.append(("HUMAN" if same else above.author or "somebody", text))
        parent = above.parent_id
    time = record.time.isoformat() if record.time else ""
    return Shown(record.user_id or "", context[::-1], record.text, time, record.thread_id)
