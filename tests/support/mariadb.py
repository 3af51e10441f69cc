"""A real MariaDB server for tests: `with mariadb() as server`, then connect with `server.options`.

Promises a fresh server with an empty database, configured as by default and by no file of the machine's.
Skips the test where MariaDB is not installed.
"""

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pymysql

from berth.store.mariadb_dsn import source
from tests.support.databases import DatabaseServer, given_or_skip, programs_or_skip

ACCOUNT = """\
CREATE USER IF NOT EXISTS berth@'127.0.0.1' IDENTIFIED BY 'berth';
GRANT ALL ON *.* TO berth@'127.0.0.1' WITH GRANT OPTION;
CREATE DATABASE IF NOT EXISTS berth;
"""


class MariadbDatabase:
    """A database that can be asked as its administrator."""

    options: dict[str, Any]
    """What `pymysql.connect` takes."""

    source: str
    """As go-sql-driver/mysql writes it, and berth."""

    def on(self, statement: str) -> list[tuple[Any, ...]]:
        """What an administrator's statement answers."""
        with closing(pymysql.connect(**self.options, autocommit=True)) as connection:
            cursor = connection.cursor()
            cursor.execute(statement)
            return [*cursor.fetchall()]

    def empty(self) -> None:
        """Forgets all that is in the database."""
        name = self.options["database"]
        self.on(f"DROP DATABASE {name}")
        with closing(pymysql.connect(**{**self.options, "database": None})) as connection:
            connection.cursor().execute(f"CREATE DATABASE {name}")


class Mariadb(MariadbDatabase, DatabaseServer):
    """One server, with the all-powerful user `berth` (password `berth`) and the database `berth`."""

    user = "mysql"

    @property
    def dsn(self) -> str:
        return f"mysql://berth:berth@127.0.0.1:{self.port}/berth"

    @property
    def source(self) -> str:  # type: ignore[override]  # its port is known late
        return f"berth:berth@tcp(127.0.0.1:{self.port})/berth?parseTime=true"

    secured = False
    """Whether only connections in TLS are taken."""

    @property
    def options(self) -> dict[str, Any]:  # type: ignore[override]
        return {
            "host": "127.0.0.1",
            "port": self.port,
            "user": "berth",
            "password": "berth",
            "database": "berth",
            "ssl": {"verify_mode": False} if self.secured else None,
        }

    settings: Sequence[str | Path] = ()
    """More of its command line, from the next start on."""

    @contextmanager
    def transaction(self, statement: str) -> Iterator[None]:
        """Keeps what the statement has locked."""
        with closing(pymysql.connect(**self.options)) as connection:
            connection.cursor().execute(statement)
            yield

    def threads(self) -> list[int]:
        """Those of its clients other than who asks."""
        rows = self.on(
            "SELECT id FROM information_schema.processlist WHERE db = 'berth' AND id <> CONNECTION_ID()"
        )
        return [thread for (thread,) in rows]

    def connections(self) -> int:
        """How many of berth's there are."""
        return len(self.threads())

    def follow(self, primary: "Mariadb") -> None:
        """Do what the primary has done and does, from its beginning on, without keeping it waiting."""
        self.on(
            f"""CHANGE MASTER TO master_host = '127.0.0.1', master_port = {primary.port},
                master_user = 'berth', master_password = 'berth',
                master_connect_retry = 1, master_use_gtid = slave_pos"""
        )
        self.on("START SLAVE")

    def promote(self) -> None:
        """Become a primary, with whatever has arrived by now."""
        self.on("STOP SLAVE")
        self.on("RESET SLAVE ALL")
        self.on("SET GLOBAL read_only = 0")

    def prepare(self) -> None:
        (self.folder / "account.sql").write_text(ACCOUNT)
        install = programs_or_skip("mariadb-install-db", "mariadb-server")
        self.run(
            *(install / "mariadb-install-db", "--no-defaults", f"--datadir={self.folder / 'data'}"),
            *("--skip-test-db", "--auth-root-authentication-method=normal", "--innodb-log-file-size=8M"),
            f"--tmpdir={self.folder}",
        )

    def command(self) -> list[str | Path]:
        return [
            *(self.programs / "mariadbd", "--no-defaults", f"--datadir={self.folder / 'data'}"),
            *("--bind-address=127.0.0.1", f"--port={self.port}", f"--socket={self.folder / 'socket'}"),
            *(f"--init-file={self.folder / 'account.sql'}", "--skip-name-resolve"),
            *("--innodb-log-file-size=8M", "--innodb-buffer-pool-size=32M"),
            # Every server clears its folder for temporary tables when it starts, of others' tables too.
            f"--tmpdir={self.folder}",
            *self.settings,
        ]

    def answers(self) -> bool:
        try:
            pymysql.connect(**self.options, connect_timeout=5).close()
        except pymysql.OperationalError:
            return False
        return True


class GivenMysql(MariadbDatabase):
    """A database of its own on a server that runs already."""

    def __init__(self, dsn: str) -> None:
        name = f"berth_test_{os.getpid()}"
        given = source(dsn)
        where = {"unix_socket": given.unix_socket} if given.unix_socket else {"host": given.host}
        self.source = re.sub(r"/[^/?]*(\?|$)", rf"/{name}\1", dsn, count=1)
        self.options = {
            **where,
            "port": given.port,
            "user": given.user,
            "password": given.password,
            "database": name,
            "ssl": given.context,
        }


@contextmanager
def given_mysql() -> Iterator[GivenMysql]:
    """On the server that BERTH_TEST_MYSQL_DSN names, MariaDB or MySQL; gone at the end."""
    server = GivenMysql(given_or_skip("BERTH_TEST_MYSQL_DSN"))
    with closing(pymysql.connect(**{**server.options, "database": None})) as connection:
        connection.cursor().execute(f"CREATE DATABASE {server.options['database']}")
        try:
            yield server
        finally:
            connection.cursor().execute(f"DROP DATABASE {server.options['database']}")


@contextmanager
def mariadb() -> Iterator[Mariadb]:
    """A server that serves; for a fixture of a session's scope."""
    with Mariadb.serving(programs_or_skip("mariadbd", "mariadb-server", Path("/usr/sbin"))) as server:
        yield server


@contextmanager
def replicated() -> Iterator[tuple[Mariadb, Mariadb]]:
    """A primary, and a server that follows it and may not be written to."""
    programs = programs_or_skip("mariadbd", "mariadb-server", Path("/usr/sbin"))

    class Primary(Mariadb):
        settings = ("--server-id=1", "--log-bin=binlog", "--sync-binlog=1")

    class Replica(Mariadb):
        settings = ("--server-id=2", "--read-only", "--skip-slave-start")

    with Primary.serving(programs) as primary, Replica.serving(programs) as replica:
        replica.follow(primary)
        yield primary, replica
