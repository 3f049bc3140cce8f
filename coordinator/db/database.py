"""The door to the database: named transactions that are retried when another writer was first."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Engine
from sqlalchemy.exc import DatabaseError, OperationalError
from sqlmodel import Session
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt
from tenacity.wait import wait_random_exponential

from coordinator.config import CoordinatorConfig
from coordinator.db.engine import WRITES, make_engine, sqlite_url
from coordinator.db.schema import upgrade
from coordinator.db.unit import Unit
from shared.clock import Clock, SystemClock
from shared.errors import NotFound, StorageError
from shared.sqlite import storage_failure

T = TypeVar("T")

ATTEMPTS = 5
FILE_NAME = "touchstone.db"

_RETRIED_SQLSTATES = {"40001", "40P01"}  # PostgreSQL: serialization failure, deadlock

_log = logging.getLogger(__name__)


def _lost_a_race(error: BaseException) -> bool:
    if not isinstance(error, OperationalError):
        return False
    locked = "database is locked" in str(error.orig)
    return locked or getattr(error.orig, "sqlstate", "") in _RETRIED_SQLSTATES


class Database:
    """One coordinator's database; safe to share between threads.

    Args:
        engine: SQLite or PostgreSQL, with the schema in place.
        clock: stamps audit events.
    """

    def __init__(self, engine: Engine, clock: Clock | None = None) -> None:
        self.engine = engine
        self.clock = clock or SystemClock()
        self._writer = engine.execution_options(**{WRITES: True})

    @classmethod
    def open(
        cls, where: Path | str, *, clock: Clock | None = None, create: bool = False
    ) -> Database:
        """Open a coordinator's folder, or a database URL, and bring its schema up to date.

        Args:
            where: the folder (its ``coordinator.toml`` may name a URL) or a URL.
            clock: stamps audit events; the machine's by default.
            create: make the SQLite file of a folder that has none.

        Raises:
            NotFound: there is no database in the folder.
            ConfigError: the schema is newer than this software, or the URL is unusable.
            StorageError: the database cannot be opened.
        """
        url = where if isinstance(where, str) else _url_of(where, create=create)
        engine = make_engine(url)
        try:
            upgrade(engine)
        except DatabaseError as error:
            engine.dispose()
            raise _unusable("open", error, engine) from error
        return cls(engine, clock)

    def write(self, name: str, work: Callable[[Unit], T]) -> T:
        """Run ``work`` in one write transaction; it may run again, so it must only touch the unit.

        Args:
            name: what the transaction is for, in logs.
            work: receives the repositories; its result is returned after the commit.

        Raises:
            StorageError: the database is locked, full or broken after all attempts.
        """
        return self._run(self._writer, name, work)

    def read(self, name: str, work: Callable[[Unit], T]) -> T:
        """Run ``work`` on one consistent snapshot; what it writes is rolled back.

        Raises:
            StorageError: the database cannot be read.
        """
        return self._run(self.engine, name, work, commit=False)

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()

    def _run(
        self, engine: Engine, name: str, work: Callable[[Unit], T], *, commit: bool = True
    ) -> T:
        def once() -> T:
            with Session(engine, expire_on_commit=False) as session:
                result = work(Unit(session, self.clock))
                if commit:
                    session.commit()
                return result

        def note(state: RetryCallState) -> None:
            _log.info("transaction %s lost a race, attempt %d", name, state.attempt_number)

        retrying = Retrying(
            retry=retry_if_exception(_lost_a_race),
            stop=stop_after_attempt(ATTEMPTS),
            wait=wait_random_exponential(multiplier=0.02, max=0.5),
            before_sleep=note,
            reraise=True,
        )
        try:
            return retrying(once)
        except DatabaseError as error:
            raise _unusable(name, error, engine) from error


def _url_of(folder: Path, *, create: bool) -> str:
    configured = CoordinatorConfig.load(folder).database.url
    if configured:
        return configured
    path = folder / FILE_NAME
    if not create and not path.exists():
        raise NotFound(
            f"there is no alliance in {folder}", hint="run touchstone-coordinator init first"
        )
    return sqlite_url(path).render_as_string(hide_password=False)


def _unusable(name: str, error: DatabaseError, engine: Engine) -> StorageError:
    what = f"the database refused to {name.replace('_', ' ')}"
    if engine.url.get_backend_name() == "sqlite":
        return storage_failure(error, Path(engine.url.database or ""), what)
    return StorageError(
        what,
        hint="check that the database server answers and has room",
        detail=str(error.orig),
    )
