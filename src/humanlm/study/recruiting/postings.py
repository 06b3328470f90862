"""What is published where: kept in the study's database, so that it is neither published twice nor forgotten open."""

import time
from types import ModuleType

from sqlalchemy import select

from humanlm.errors import UsageError
from humanlm.study.config import Study
from humanlm.study.recruiting import mturk, prolific
from humanlm.study.storage import Storage
from humanlm.study.tables import Audit, Posting

_RECRUITERS: dict[str, ModuleType] = {"prolific": prolific, "mturk": mturk}


def publish(study: Study, storage: Storage) -> str:
    """Publishes a study with its recruiter; gives its id there.

    Raises:
        UsageError: It is published already, or not for a recruiter.
        RunError: The recruiter refuses.
    """
    via = study.recruiting.via
    if via not in _RECRUITERS:
        raise UsageError(f"recruiting.via is {via}: only prolific and mturk are published")
    with storage.read() as session:
        open_ones = session.scalars(select(Posting).where(Posting.recruiter == via, Posting.closed_at.is_(None))).all()
        if open_ones:
            raise UsageError(f"published already as {open_ones[0].external_id}: `humanlm study close` ends that first")
    name = str(_RECRUITERS[via].publish(study))
    with storage.write() as session:
        session.add(Posting(recruiter=via, external_id=name, posted_at=time.time()))
        session.add(Audit(at=time.time(), actor="experimenter", event="published", detail=f"{via} {name}"))
    return name


def close(study: Study, storage: Storage) -> list[str]:
    """Ends what is open with recruiters; gives the ids.

    Raises:
        UsageError: Nothing is open.
        RunError: The recruiter refuses.
    """
    with storage.read() as session:
        rows = [
            (row.recruiter, row.external_id)
            for row in session.scalars(select(Posting).where(Posting.closed_at.is_(None)))
        ]
    if not rows:
        raise UsageError("nothing is published with a recruiter")
    for via, name in rows:
        _RECRUITERS[via].close(study, name)
        with storage.write() as session:
            session.get_one(Posting, (via, name)).closed_at = time.time()
            session.add(Audit(at=time.time(), actor="experimenter", event="closed", detail=f"{via} {name}"))
    return [name for _, name in rows]
