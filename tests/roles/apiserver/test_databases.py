"""Two servers on one database: what one has granted, the other knows."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.roles.apiserver.conftest import Lease, calling, new_path
from tests.roles.apiserver.streams import Watch, until_waiting, waiting
from tests.support.apiserver import Apiserver, Certificates, apiserver, until
from tests.support.databases import DatabaseServer
from tests.support.mariadb import mariadb
from tests.support.postgres import postgres


@pytest.fixture(scope="module", params=["postgres", "mysql"])
def database(request: pytest.FixtureRequest) -> Iterator[tuple[str, DatabaseServer, str]]:
    """The driver, the server and the data source."""
    with postgres() if request.param == "postgres" else mariadb() as server:
        yield request.param, server, server.source


@pytest.fixture(scope="module")
def flags(database: tuple[str, DatabaseServer, str], tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    driver, _, source = database
    file = tmp_path_factory.mktemp("dsn") / "dsn"
    file.write_text(source + "\n")
    sql = ["--store-backend", "sql", "--sql-driver", driver, "--sql-dsn-file", str(file)]
    return [*sql, "--auth-mode", "none"]


@pytest.fixture(scope="module")
def pair(certificates: Certificates, flags: list[str]) -> Iterator[tuple[Apiserver, Apiserver]]:
    with apiserver(certificates, *flags) as one, apiserver(certificates, *flags) as other:
        yield one, other


def test_a_lease_is_the_same_on_both(pair: tuple[Apiserver, Apiserver]) -> None:
    with closing(calling(pair[0])) as first, closing(calling(pair[1])) as second:
        path = new_path()
        here, there = Lease(first, path), Lease(second, path)
        token = here.acquire("a")["fencingToken"]
        assert there.acquire("b")["acquired"] is False
        assert there.renew("a", token)["acquired"] is True
        assert there.release("a", token).status == 204
        won = there.acquire("b")
        assert (won["acquired"], won["fencingToken"]) == (True, token + 1)
        assert here.renew("a", token)["acquired"] is False


def test_a_session_opened_on_one_is_renewed_on_the_other(pair: tuple[Apiserver, Apiserver]) -> None:
    with closing(calling(pair[0])) as first, closing(calling(pair[1])) as second:
        path = new_path()
        session = json.loads(first.post("/v1alpha1/sessions", {"holder": "a", "ttlSeconds": 30}).body)
        asked = {"holder": "a", "session": session["id"]}
        assert first.post(f"{path}/acquire", asked).ok()["acquired"] is True
        assert second.post(f"/v1alpha1/sessions/{session['id']}/renew", {}).ok()["alive"] is True
        assert Lease(second, path).acquire("b")["acquired"] is False


def test_one_that_stops_is_not_missed(
    pair: tuple[Apiserver, Apiserver], certificates: Certificates, flags: list[str]
) -> None:
    with apiserver(certificates, *flags) as third:
        with closing(calling(third)) as caller:
            path = new_path()
            token = Lease(caller, path).acquire("a")["fencingToken"]
        third.stop()
    with closing(calling(pair[0])) as caller:
        assert Lease(caller, path).renew("a", token)["acquired"] is True


def test_a_data_source_is_never_shown(
    certificates: Certificates, tmp_path: Path, database: tuple[str, DatabaseServer, str]
) -> None:
    driver, server, _ = database
    file = tmp_path / "dsn"
    sources = {
        "postgres": f"postgres://berth:s3cret@127.0.0.1:{server.port}/nosuch?sslmode=disable",
        "mysql": f"nobody:s3cret@tcp(127.0.0.1:{server.port})/berth",
    }
    file.write_text(sources[driver])
    sql = ("--store-backend=sql", f"--sql-driver={driver}", f"--sql-dsn-file={file}", "--auth-mode=none")
    started = Apiserver(*certificates.flags, "--listen-addr=127.0.0.1:0", "--metrics-addr=", *sql)
    try:
        assert started.process.wait(20) == 1
    finally:
        started.close()
    assert "cannot use the database" in started.text
    assert "s3cret" not in started.text


def test_who_waits_on_one_is_served_when_the_other_releases(pair: tuple[Apiserver, Apiserver]) -> None:
    with closing(calling(pair[0])) as first, closing(calling(pair[1])) as second:
        path = new_path()
        token = Lease(first, path).acquire("a")["fencingToken"]
        with waiting(second, path, "b") as asked:
            until_waiting(pair[1], 1)
            assert Lease(first, path).release("a", token).status == 204
            granted = asked.reply().ok()
        assert (granted["holder"], granted["fencingToken"]) == ("b", token + 1)


def test_who_waits_on_one_is_served_when_a_session_ends_on_the_other(
    pair: tuple[Apiserver, Apiserver],
) -> None:
    with closing(calling(pair[0])) as first, closing(calling(pair[1])) as second:
        path = new_path()
        session = first.post("/v1alpha1/sessions", {"holder": "a", "ttlSeconds": 60}).json["id"]
        assert first.post(f"{path}/acquire", {"holder": "a", "session": session}).ok()["acquired"] is True
        with waiting(second, path, "b") as asked:
            until_waiting(pair[1], 1)
            first.call("DELETE", f"/v1alpha1/sessions/{session}")
            assert asked.reply().ok()["holder"] == "b"


def test_who_watches_one_is_told_what_happens_on_the_other(pair: tuple[Apiserver, Apiserver]) -> None:
    with closing(calling(pair[0])) as first, closing(calling(pair[1])) as second:
        path = new_path()
        name = path.rpartition("/")[2]
        lease = Lease(first, path)
        with Watch(second, "/v1alpha1/namespaces/n/leases") as watch:
            told = []

            def event() -> tuple[str, str | None]:
                while (line := watch.event())["object"]["name"] != name:
                    pass
                return line["type"], line["object"].get("holder")

            lease.acquire("a")
            told.append(event())
            lease.renew("a", 1)
            lease.release("a", 1)
            told.append(event())
            lease.acquire("b", ttl=1)
            told += [event(), event()]
        assert told == [("acquired", "a"), ("released", None), ("acquired", "b"), ("expired", None)]


@pytest.mark.parametrize("driver", ["postgres", "mysql"])
def test_a_server_has_as_many_connections_as_it_may(certificates: Certificates, driver: str) -> None:
    """On PostgreSQL one more, to hear of others. The load would have it make all of them."""
    with postgres() if driver == "postgres" else mariadb() as server:
        flags = ("--store-backend=sql", f"--sql-driver={driver}", f"--sql-dsn={server.source}")
        for size in (1, 3):
            until(lambda: server.connections() == 0)
            with apiserver(certificates, *flags, "--auth-mode=none", f"--sql-pool-size={size}") as one:
                assert most_connections(one, server.connections) == size + (driver == "postgres")


def most_connections(server: Apiserver, connections: Callable[[], int]) -> int:
    """While twelve callers ask all the time."""
    over = threading.Event()

    def ask() -> None:
        with closing(calling(server)) as caller:
            lease = Lease(caller, new_path())
            lease.acquire("a")
            while not over.is_set():
                lease.get()

    askers = [threading.Thread(target=ask) for _ in range(12)]
    for asker in askers:
        asker.start()
    most = max(connections() for _ in range(200))
    over.set()
    for asker in askers:
        asker.join()
    return most
