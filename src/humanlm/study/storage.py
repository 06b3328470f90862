"""The door to the database: SQLite by default, PostgreSQL by URL; every write is one whole transaction."""

import hashlib
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, create_engine, event, text
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, OperationalError
from sqlalchemy.orm import Session

from humanlm.errors import UsageError
from humanlm.study.config import Study
from humanlm.study.tables import Audit, Version

_BUSY_S = 30
_LOCK = 0x68756D61
"""Of PostgreSQL's advisory lock: one for a program."""


def database_url(place: str | Path) -> str:
    """A path as the URL of an SQLite file; a PostgreSQL URL in the dialect that is installed; any other as it is."""
    name = str(place)
    for scheme in ("postgresql://", "postgres://"):
        if name.startswith(scheme):
            return f"postgresql+psycopg://{name.removeprefix(scheme)}"
    return name if "://" in name else f"sqlite:///{Path(name).absolute()}"


def digest(token: str) -> str:
    """What is kept of a secret token: it has 256 random bits, so a plain hash cannot be turned back."""
    return hashlib.sha256(token.encode()).hexdigest()


def new_token() -> str:
    """A secret of 256 bits, fit for cookies and links."""
    return secrets.token_urlsafe(32)


class Storage:
    """A study's database.

    Attributes:
        engine: SQLAlchemy's.
        url: Without a password.
    """

    def __init__(self, place: str | Path) -> None:
        """Opens a database and brings its tables to this program's version.

        Raises:
            UsageError: It cannot be opened, or a newer program has written it.
        """
        url = database_url(place)
        self.is_sqlite = url.startswith("sqlite")
        # SQLite has one writer; waiting here is fair and wakes at once, its own waiting sleeps and starves
        self._write_lock = threading.Lock()
        try:
            self.engine = (
                _sqlite(url)
                if self.is_sqlite
                else create_engine(url, pool_size=20, max_overflow=20, pool_pre_ping=True, hide_parameters=True)
            )
            self.url = self.engine.url.render_as_string(hide_password=True)
            if self.is_sqlite and self.engine.url.database:
                Path(self.engine.url.database).parent.mkdir(parents=True, exist_ok=True)
            self._migrate()
        except (ArgumentError, NoSuchModuleError, ModuleNotFoundError) as error:
            raise UsageError(
                f"database {str(place).split('@')[-1]!r}: give a file, or postgresql://user@host/name"
            ) from error
        except OperationalError as error:
            why = " ".join(str(error.orig).split())[:160]
            raise UsageError(
                f"database {self.url}: cannot be opened ({why}): check that it exists and may be used"
            ) from error

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A session that only looks."""
        with Session(self.engine) as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A session whose changes are on disk when the block ends well, and undone if it does not."""
        if self.is_sqlite:
            with self._write_lock, Session(self.engine) as session:
                session.execute(text("BEGIN IMMEDIATE"))
                yield session
                session.commit()
            return
        with Session(self.engine) as session, session.begin():
            yield session

    def lock(self, session: Session) -> None:
        """Makes all writers that call this wait for each other until the transaction ends; SQLite's always do."""
        if not self.is_sqlite:
            session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})

    def remember(self, study: Study, now: float) -> None:
        """Keeps the study as it is, so that people who begin now can end with it later."""
        with self.write() as session:
            self.lock(session)
            if session.get(Version, study.version) is None:
                known = session.query(Version).count()
                session.add(Version(version=study.version, first_served_at=now, study=study.model_dump(mode="json")))
                session.add(
                    Audit(
                        at=now, actor="server", event="study changed" if known else "study begun", detail=study.version
                    )
                )

    def forget(self) -> None:
        """Takes what was deleted out of the files too: SQLite's log keeps it until the log is written back."""
        if self.is_sqlite:
            with self._write_lock, self.engine.connect() as connection:
                connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        """Closes all connections."""
        self.engine.dispose()

    def _migrate(self) -> None:
        from alembic import command
        from alembic.runtime.migration import MigrationContext
        from alembic.script import ScriptDirectory

        config = alembic_config()
        known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
        with self.engine.begin() as connection:
            if not self.is_sqlite:
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
            found = MigrationContext.configure(connection).get_current_revision()
            if found is not None and found not in known:
                raise UsageError(f"database {self.url}: was written by a newer HumanLM: update this one")
            config.attributes["connection"] = connection
            command.upgrade(config, "head")


def alembic_config() -> Any:
    """Alembic's settings: the migrations lie in the package."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return config


def _sqlite(url: str) -> Engine:
    engine = create_engine(
        # errors are logged by the web server, and parameters are what people wrote
        url,
        hide_parameters=True,
        pool_size=20,
        max_overflow=40,
        connect_args={"timeout": _BUSY_S, "check_same_thread": False},
    )

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, record: Any) -> None:
        connection.isolation_level = None  # transactions begin where we say so, not at the driver's guess
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "secure_delete=ON"):
            connection.execute(f"PRAGMA {pragma}").fetchall()

    return engine
