"""What `humanlm study check` says: whether the file is right, and what is likely to be forgotten."""

from pathlib import Path
from typing import NamedTuple

from humanlm.study.config import Study, load_study
from humanlm.study.steps import Shown, all_steps


class Found(NamedTuple):
    """A study in numbers, and notes."""

    title: str
    version: str
    pages: int
    stimuli: int
    per_person: int
    simulators: list[str]
    recruiting: str
    notes: list[str]


def checked(path: Path) -> Found:
    """Reads and describes a study.

    Raises:
        UsageError: It is wrong; names the key.
    """
    study = load_study(path)
    shown = [Shown(place, "", len(study.simulators)) for place in range(study.assignment.stimuli)]
    return Found(
        title=study.title,
        version=study.version,
        pages=len(all_steps(study, shown)),
        stimuli=len(study.stimuli),
        per_person=study.assignment.stimuli,
        simulators=[simulator.name for simulator in study.simulators],
        recruiting=study.recruiting.via,
        notes=_notes(study),
    )


def _notes(study: Study) -> list[str]:
    notes = []
    for name, value in study.ethics.model_dump().items():
        if value.startswith("EXAMPLE"):
            notes.append(f"ethics.{name} is still the example's")
    if any(simulator.replies is not None for simulator in study.simulators):
        notes.append("simulators with `replies` write the same for everybody: they are no models")
    questions = [question for page in study.pages for question in page.questions] + list(study.states.more)
    if not any(question.type == "attention" for question in questions):
        notes.append("there is no attention check")
    recruiting = study.recruiting
    if recruiting.via == "prolific" and (recruiting.completion_code is None or recruiting.completion_link is None):
        notes.append("Prolific wants one completion_code for all, and a completion_link that holds it")
    if recruiting.via in ("prolific", "mturk") and study.server.public_url is None:
        notes.append("people from a recruiter need server.public_url, an address they can reach")
    if recruiting.quota is None and recruiting.via != "invitation":
        notes.append("there is no quota: anybody with the address can take part")
    if study.server.public_url is not None and not study.server.public_url.startswith("https"):
        notes.append("server.public_url is not https: answers and cookies could be read on the way")
    return notes
