"""A server on an SQLite file: what was told survives a crash, and a file that is not its own is refused."""

import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.roles.apiserver.conftest import Lease, calling, new_path, sqlite_flags
from tests.support.apiserver import ANY_PORTS, Certificates, apiserver, refused

TOKEN_MAX = 2**31 - 1


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "leases.db"


def flags(file: Path) -> tuple[str, ...]:
    return (*sqlite_flags(file), "--auth-mode", "none")


def refusal(certificates: Certificates, file: Path, *more: str) -> str:
    """The one line that a start on this file ends with."""
    status, told = refused(*certificates.flags, *ANY_PORTS, *flags(file), *more)
    assert status == 1, told
    (line,) = told.splitlines()
    assert line.startswith("error: apiserver: ")
    assert str(file.parent) in line
    return line


def test_what_was_told_survives_a_kill(certificates: Certificates, file: Path) -> None:
    held, released, shared, never = (new_path() for _ in range(4))
    with apiserver(certificates, *flags(file)) as server, closing(calling(server)) as caller:
        first = Lease(caller, held).acquire("h", 600)
        Lease(caller, released).acquire("h")
        Lease(caller, released).release("h", 1)
        for holder in ("a", "b"):
            Lease(caller, shared).acquire(holder, semantics="at-least-once", maxHolders=2)
        server.kill()
        assert server.process.returncode == -signal.SIGKILL
    with apiserver(certificates, *flags(file)) as server, closing(calling(server)) as caller:
        told = Lease(caller, held).acquire("other")
        assert (told["acquired"], told["holder"], told["fencingToken"]) == (False, "h", 1)
        assert told["acquiredAt"] == first["acquiredAt"]
        assert Lease(caller, held).renew("h", 1)["acquired"] is True
        assert Lease(caller, released).acquire("h")["fencingToken"] == 2
        assert [each["holder"] for each in Lease(caller, shared).get().ok()["holders"]] == ["a", "b"]
        assert Lease(caller, never).get().status == 404
        server.stop()


def test_a_file_has_one_server(certificates: Certificates, file: Path) -> None:
    with apiserver(certificates, *flags(file)) as server, closing(calling(server)) as caller:
        lease = Lease(caller, new_path())
        lease.acquire("h")
        line = refusal(certificates, file)
        assert "another" in line
        assert "Errno" not in line
        assert lease.renew("h", 1)["acquired"] is True, "the first one does not notice"
        server.stop()


def test_a_data_source_may_stand_in_a_file(certificates: Certificates, file: Path, tmp_path: Path) -> None:
    dsn_file = tmp_path / "dsn"
    dsn_file.write_text(f"{file}\n")
    by_file = ("--store-backend=sql", "--sql-driver=sqlite", f"--sql-dsn-file={dsn_file}", "--auth-mode=none")
    with apiserver(certificates, *by_file) as server:
        server.stop()
    assert file.exists()
    dsn_file.write_text("\n")
    status, told = refused(*certificates.flags, *ANY_PORTS, *by_file)
    assert (status, told) == (
        2,
        f"error: --sql-dsn-file: {dsn_file} is empty; write the data source into it\n",
    )


def test_a_file_that_is_no_database(certificates: Certificates, file: Path) -> None:
    file.write_bytes(b"this is a text, and a long one at that. " * 200)
    before = file.read_bytes()
    assert "not an SQLite database" in refusal(certificates, file)
    assert file.read_bytes() == before


def test_a_damaged_database(certificates: Certificates, file: Path) -> None:
    with apiserver(certificates, *flags(file)) as server:
        server.stop()
    content = bytearray(file.read_bytes())
    content[100:] = b"\x55" * len(content[100:])
    file.write_bytes(content)
    assert "damaged" in refusal(certificates, file)


def test_the_last_token_is_the_last(certificates: Certificates, file: Path) -> None:
    path = new_path()
    with apiserver(certificates, *flags(file)) as server, closing(calling(server)) as caller:
        Lease(caller, path).acquire("h")
        Lease(caller, path).release("h", 1)
        server.stop()
    with closing(sqlite3.connect(file)) as db:
        db.execute("UPDATE berth_leases SET token = ?", (TOKEN_MAX - 1,))
        db.commit()
    with apiserver(certificates, *flags(file)) as server, closing(calling(server)) as caller:
        lease = Lease(caller, path)
        assert lease.acquire("h")["fencingToken"] == TOKEN_MAX
        assert lease.acquire("h")["fencingToken"] == TOKEN_MAX
        assert lease.renew("h", TOKEN_MAX)["acquired"] is True
        assert lease.release("h", TOKEN_MAX).status == 204
        reply = lease.ask("acquire", holder="h", ttlSeconds=9)
        assert (reply.status, reply.code) == (503, "token_exhausted")
        assert lease.get().ok()["fencingToken"] == TOKEN_MAX
        server.stop()


def test_a_store_that_does_not_answer_is_told_as_such(certificates: Certificates, file: Path) -> None:
    """Another program holds the file's lock: nothing is granted, nothing is lost, and then it goes on."""
    with apiserver(certificates, *flags(file)) as server, closing(calling(server)) as caller:
        lease = Lease(caller, new_path())
        lease.acquire("h")
        with closing(sqlite3.connect(file, isolation_level=None)) as db:
            db.execute("BEGIN IMMEDIATE")
            reply = lease.ask("renew", holder="h", fencingToken=1, ttlSeconds=60)
            assert (reply.status, reply.code) == (503, "store_unavailable")
            assert 1 <= int(reply.headers["Retry-After"]) <= 5
            assert str(file) not in reply.error
            assert caller.get("/livez").status == 200
        assert lease.renew("h", 1)["acquired"] is True
        assert server.wait_for("store fault")["code"] == "store_unavailable"
        server.stop()


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        ("CREATE TABLE customers (name TEXT)", "another application"),
        ("CREATE TABLE berth_leases (namespace TEXT)", "another implementation"),
    ],
)
def test_somebody_elses_database(certificates: Certificates, file: Path, statement: str, says: str) -> None:
    with closing(sqlite3.connect(file)) as db:
        db.execute(statement)
    before = file.read_bytes()
    assert says in refusal(certificates, file)
    assert file.read_bytes() == before


def test_a_newer_schema(certificates: Certificates, file: Path) -> None:
    with apiserver(certificates, *flags(file)) as server:
        server.stop()
    with closing(sqlite3.connect(file)) as db:
        db.execute("INSERT INTO berth_schema (version, name, checksum) VALUES (99, 'x', 'x')")
        db.commit()
    assert "newer berth" in refusal(certificates, file)


def test_a_schema_that_may_not_be_changed(certificates: Certificates, file: Path) -> None:
    assert "--sql-migrate auto" in refusal(certificates, file, "--sql-migrate", "off")


def test_a_folder_that_is_not_there(certificates: Certificates, tmp_path: Path) -> None:
    assert "does not exist" in refusal(certificates, tmp_path / "nowhere" / "leases.db")


def test_a_folder_instead_of_a_file(certificates: Certificates, tmp_path: Path) -> None:
    assert str(tmp_path) in refusal(certificates, tmp_path)
