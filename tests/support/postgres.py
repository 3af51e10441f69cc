"""A real PostgreSQL server for tests: `with postgres() as server`, then connect to `server.dsn`.

Promises a fresh cluster with an empty database, durable as by default. Skips the test where PostgreSQL is not
installed.
"""

import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg

from tests.support.databases import DatabaseServer, given_or_skip, programs_or_skip


class PostgresDatabase:
    """A database that can be asked as its administrator."""

    dsn: str
    source: str

    def on(self, statement: str) -> list[tuple[Any, ...]]:
        """What an administrator's statement answers."""
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            answered = connection.execute(statement.encode())
            return answered.fetchall() if answered.description else []

    def empty(self) -> None:
        """Forgets all that is in the database."""
        self.on("DROP SCHEMA public CASCADE; CREATE SCHEMA public")


class GivenPostgres(PostgresDatabase):
    """A database of its own on a server that runs already."""

    def __init__(self, dsn: str, name: str) -> None:
        self.dsn = self.source = urlsplit(dsn)._replace(path=f"/{name}").geturl()


class Postgres(PostgresDatabase, DatabaseServer):
    """One cluster, with the superuser and the database `berth`."""

    user = "postgres"
    stop_signal = signal.SIGINT
    """The fast shutdown; SIGTERM would wait for all clients to leave."""

    settings: Sequence[str | Path] = ()
    """More of its command line, from the next start on."""

    @property
    def dsn(self) -> str:  # type: ignore[override]  # its port is known late
        return self._url("berth")

    @contextmanager
    def transaction(self, statement: str) -> Iterator[None]:
        """Keeps what the statement has locked."""
        with psycopg.connect(self.dsn) as connection:
            connection.execute(statement.encode())
            yield

    def connections(self) -> int:
        """How many of berth's there are."""
        ((count,),) = self.on("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'berth'")
        return count

    @property
    def source(self) -> str:  # type: ignore[override]
        return self.dsn

    def prepare(self) -> None:
        cluster = ("--pgdata=data", "--username=berth", "--encoding=UTF8", "--locale=C")
        self.run(self.programs / "initdb", *cluster, "--auth=trust", "--no-sync")

    def start(self) -> None:
        super().start()
        with psycopg.connect(self._url("postgres"), autocommit=True) as connection:
            if connection.execute("SELECT pg_is_in_recovery()").fetchone() == (True,):
                return
            known = connection.execute("SELECT 1 FROM pg_database WHERE datname = 'berth'").fetchone()
            if known is None:
                connection.execute("CREATE DATABASE berth")

    def command(self) -> list[str | Path]:
        listen = ["-c", "listen_addresses=127.0.0.1", "-p", str(self.port), "-k", self.folder]
        return [self.programs / "postgres", "-D", "data", *listen, *self.settings]

    def answers(self) -> bool:
        try:
            psycopg.connect(self._url("postgres"), connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True

    def become_standby_of(self, primary: "Postgres") -> None:
        """Instead of a cluster of its own, have a copy of another, which it follows once it is started."""
        self.run(
            *(self.programs / "pg_basebackup", "--pgdata=data", "--write-recovery-conf", "--checkpoint=fast"),
            *("--no-sync", f"--dbname=host=127.0.0.1 port={primary.port} user=berth"),
        )

    def promote(self) -> None:
        """Become a primary, with whatever has arrived by now."""
        self.run(self.programs / "pg_ctl", "promote", "--pgdata=data", "--wait")

    def _url(self, database: str) -> str:
        return f"postgresql://berth@127.0.0.1:{self.port}/{database}"


@contextmanager
def given_postgres() -> Iterator[GivenPostgres]:
    """On the server that BERTH_TEST_POSTGRES_DSN names, by a URL; gone at the end."""
    given, name = given_or_skip("BERTH_TEST_POSTGRES_DSN"), f"berth_test_{os.getpid()}"
    with psycopg.connect(given, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
        try:
            yield GivenPostgres(given, name)
        finally:
            connection.execute(f"DROP DATABASE {name}".encode())


@contextmanager
def postgres() -> Iterator[Postgres]:
    """A server that serves; for a fixture of a session's scope."""
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name))
    with Postgres.serving(programs_or_skip("postgres", "postgresql", *debian)) as server:
        yield server


@contextmanager
def standby_of(primary: Postgres) -> Iterator[Postgres]:
    """A server that follows `primary`, without keeping it waiting."""

    class Standby(Postgres):
        def prepare(self) -> None:
            self.become_standby_of(primary)

    with Standby.serving(primary.programs) as server:
        yield server
