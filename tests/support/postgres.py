"""A real PostgreSQL server for tests: `with postgres() as server`, then connect to `server.dsn`.

Promises a fresh cluster with an empty database, durable as by default. Skips the test where PostgreSQL is not
installed.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from tests.support.databases import DatabaseServer, programs_or_skip


class Postgres(DatabaseServer):
    """One cluster, with the superuser and the database `berth`."""

    user = "postgres"
    stop_signal = signal.SIGINT
    """The fast shutdown; SIGTERM would wait for all clients to leave."""

    @property
    def dsn(self) -> str:
        return self._url("berth")

    def prepare(self) -> None:
        cluster = ("--pgdata=data", "--username=berth", "--encoding=UTF8", "--locale=C")
        self.run(self.programs / "initdb", *cluster, "--auth=trust", "--no-sync")

    def start(self) -> None:
        super().start()
        with psycopg.connect(self._url("postgres"), autocommit=True) as connection:
            known = connection.execute("SELECT 1 FROM pg_database WHERE datname = 'berth'").fetchone()
            if known is None:
                connection.execute("CREATE DATABASE berth")

    def command(self) -> list[str | Path]:
        listen = ["-c", "listen_addresses=127.0.0.1", "-p", str(self.port), "-k", self.folder]
        return [self.programs / "postgres", "-D", "data", *listen]

    def answers(self) -> bool:
        try:
            psycopg.connect(self._url("postgres"), connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True

    def _url(self, database: str) -> str:
        return f"postgresql://berth@127.0.0.1:{self.port}/{database}"


@contextmanager
def postgres() -> Iterator[Postgres]:
    """A server that serves; for a fixture of a session's scope."""
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name))
    with Postgres.serving(programs_or_skip("postgres", "postgresql", *debian)) as server:
        yield server
