"""The server is killed at random moments of a rehearsal: what it had acknowledged is there, exactly once."""

import random
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import closing

import pytest
import yaml
from sqlalchemy import func, select

from humanlm.study.rehearse import rehearse
from humanlm.study.storage import Storage
from humanlm.study.tables import Participant, Step


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start(study, database, port, log):
    words = [sys.executable, "-m", "humanlm", "study", "serve", study, "--database", database, "--port", str(port)]
    server = subprocess.Popen(words, stdout=log, stderr=log)
    until = time.monotonic() + 120
    while time.monotonic() < until:
        with closing(socket.socket()) as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return server
        assert server.poll() is None, "the server did not start"
        time.sleep(0.1)
    raise AssertionError("the server did not start")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_what_was_acknowledged_is_there_once_after_kills(small, database, tmp_path):
    study = small().model_dump(mode="json")
    file, port, people, kills = tmp_path / "study.yaml", free_port(), 12, 4
    file.write_text(yaml.safe_dump(study), encoding="utf-8")
    dice, found = random.Random(5), []
    with (tmp_path / "log").open("w") as log:
        server = start(file, database, port, log)
        url = f"http://127.0.0.1:{port}"
        thread = threading.Thread(target=lambda: found.append(rehearse(url, people, think_s=1.0, tries=1000)))
        thread.start()
        killed = 0
        for _ in range(kills):
            thread.join(dice.uniform(0.5, 4))
            if not thread.is_alive():
                break
            server.send_signal(signal.SIGKILL)
            server.wait()
            killed += 1
            server = start(file, database, port, log)
        thread.join(600)
        server.terminate()
        server.wait(30)
    assert killed >= 2, "the rehearsal was over before it could be disturbed"
    (result,) = found
    assert result.finished == people, result.failures
    storage = Storage(database)
    with storage.read() as session:
        for acknowledged, code in zip(result.acknowledged, result.codes, strict=True):
            participant = session.scalars(select(Participant.id).where(Participant.completion_code == code)).one()
            steps = {row.name: row for row in session.scalars(select(Step).where(Step.participant_id == participant))}
            assert len(acknowledged) >= 9
            for name, form in acknowledged.items():
                assert steps[name].taken_at is not None, name
                texts = {field: values for field, values in form.items() if steps[name].answers.get(field) is not None}
                for field, values in texts.items():
                    stored = steps[name].answers[field]
                    assert stored is True or str(stored) == values[0], (name, field)
        twice = select(Step.participant_id, Step.name).group_by(Step.participant_id, Step.name).having(func.count() > 1)
        assert session.execute(twice).all() == []
    storage.close()
