"""Who counts: towards the quota, and towards the people that each stimulus has."""

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from humanlm.study.config import Study
from humanlm.study.tables import ACTIVE, FINISHED, Participant, Task


def counted(session: Session, study: Study, now: float) -> int:
    """Participants who have finished, or are on their way and not gone for long."""
    since = now - 60 * study.assignment.abandoned_after_minutes
    found = select(func.count()).where(
        (Participant.status == FINISHED) | ((Participant.status == ACTIVE) & (Participant.seen_at > since))
    )
    return session.execute(found.select_from(Participant)).scalar_one()


def filled(session: Session, study: Study, now: float) -> list[tuple[str, int]]:
    """How many such participants each stimulus has."""
    since = now - 60 * study.assignment.abandoned_after_minutes
    found = (
        select(Task.stimulus, func.count())
        .join(Participant, Participant.id == Task.participant_id)
        .where((Participant.status == FINISHED) | ((Participant.status == ACTIVE) & (Participant.seen_at > since)))
        .group_by(Task.stimulus)
    )
    return [(stimulus, count) for stimulus, count in session.execute(found)]
