"""What the study's tests share: a small study, and a server of it over either database."""

import os
import shutil
import signal
import socket
import subprocess
import time
from contextlib import closing
from pathlib import Path

import pytest
import yaml

from humanlm.study.config import Study
from humanlm.study.local import served, unlimited


@pytest.fixture(scope="session")
def example() -> Study:
    """The study that `humanlm study new` writes."""
    from importlib.resources import files

    return Study.model_validate(
        yaml.safe_load(files("humanlm.study").joinpath("example.yaml").read_text(encoding="utf-8"))
    )


@pytest.fixture
def small(example):
    """The example with one page of questions and few pages after it; changes by keyword, as in the file."""

    def make(**changes) -> Study:
        raw = example.model_dump(mode="json")
        raw["pages"] = raw["pages"][:1]
        raw["states"] = {
            "min_words": 2,
            "dimensions": {"stance": "Where do you stand?", "emotion": "What do you feel?"},
        }
        raw["generation"]["wait_s"], raw["generation"]["retry_s"] = 200, 0.05
        raw["ratings"]["reason_words"] = 1
        raw["feedback"] = []
        for key, value in changes.items():
            both = isinstance(value, dict) and isinstance(raw.get(key), dict)
            raw[key] = {**raw[key], **value} if both else value
        made = Study.model_validate(raw)
        return made if {"server", "recruiting"} & set(changes) else unlimited(made)

    return make


def _postgres_binaries() -> Path | None:
    found = shutil.which("pg_ctl")
    places = [Path(found).resolve().parent] if found else []
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((place for place in places if (place / "initdb").exists() and (place / "postgres").exists()), None)


@pytest.fixture(scope="session")
def postgres(tmp_path_factory):
    """A real PostgreSQL server of our own on a free port; skips where PostgreSQL is not installed."""
    binaries = _postgres_binaries()
    if binaries is None:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    folder = tmp_path_factory.mktemp("postgres")
    user = {}
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        user = {"user": "nobody"}
        for place in (folder, *folder.parents):
            if place.owner() == "root" and str(place).startswith("/tmp/"):
                place.chmod(place.stat().st_mode | 0o711)
        shutil.chown(folder, "nobody")
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    data = folder / "data"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "check": True, "cwd": folder, **user}
    subprocess.run([binaries / "initdb", "-D", data, "-U", "study", "-A", "trust", "--no-sync"], **quiet)
    log = (folder / "log").open("w")
    server = subprocess.Popen(
        [binaries / "postgres", "-D", data, "-p", str(port), "-k", folder, "-h", "127.0.0.1", "-c", "max_connections=200"],
        stdout=log, stderr=log, cwd=folder, **user,
    )  # fmt: skip
    try:
        for _ in range(300):
            ready = subprocess.run([binaries / "pg_isready", "-h", "127.0.0.1", "-p", str(port)], capture_output=True)
            if ready.returncode == 0:
                break
            time.sleep(0.1)
        else:
            pytest.fail(f"PostgreSQL did not start: {(folder / 'log').read_text()[-500:]}")
        yield f"postgresql://study@127.0.0.1:{port}/"
    finally:
        server.send_signal(signal.SIGINT)  # ends open connections too
        server.wait(30)
        log.close()


@pytest.fixture(params=["sqlite", "postgres"])
def database(request, tmp_path):
    """An empty database of each kind."""
    if request.param == "sqlite":
        return str(tmp_path / "study.sqlite")
    import psycopg

    server = request.getfixturevalue("postgres")
    name = f"study_{abs(hash(request.node.nodeid)) % 10**9}_{time.time_ns() % 10**6}"
    with psycopg.connect(server + "postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return server + name


@pytest.fixture
def serve(tmp_path):
    """Serves studies for the length of a test: ``serve(study, database)`` gives an address."""
    from contextlib import ExitStack

    with ExitStack() as stack:
        yield lambda study, database=None, secret="": stack.enter_context(
            served(study, database or str(tmp_path / "served.sqlite"), secret=secret)
        )
