"""TLS to the database, as the data source asks for it, on real servers."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from berth.store.api import StoreRefused
from berth.store.mariadb import open_mariadb
from berth.store.postgres import open_postgres
from tests.store.conformance import must_win
from tests.store.samples import held
from tests.store.sql_faults import quiet
from tests.support.databases import DatabaseServer
from tests.support.mariadb import Mariadb, mariadb
from tests.support.postgres import Postgres, postgres


class Papers:
    """A certificate for 127.0.0.1, the authority that signed it, and one that did not."""

    def __init__(self, folder: Path) -> None:
        self.authority, self.stranger = folder / "ca.pem", folder / "stranger.pem"
        self._signer = trustme.CA()
        self._signer.cert_pem.write_to_path(str(self.authority))
        trustme.CA().cert_pem.write_to_path(str(self.stranger))

    def install(self, server: DatabaseServer) -> tuple[Path, Path]:
        """Certificate and key, where the server may read them."""
        issued = self._signer.issue_cert("127.0.0.1")
        certificate, key = server.folder / "cert.pem", server.folder / "key.pem"
        issued.cert_chain_pems[0].write_to_path(str(certificate))
        issued.private_key_pem.write_to_path(str(key))
        key.chmod(0o600)
        server.own(certificate)
        server.own(key)
        return certificate, key


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Papers:
    return Papers(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def postgres_tls(papers: Papers) -> Iterator[Postgres]:
    with postgres() as server:
        certificate, key = papers.install(server)
        server.settings = ["-c", "ssl=on", "-c", f"ssl_cert_file={certificate}", "-c", f"ssl_key_file={key}"]
        server.restart()
        yield server


@pytest.fixture(scope="module")
def mariadb_tls(papers: Papers) -> Iterator[Mariadb]:
    with mariadb() as server:
        certificate, key = papers.install(server)
        server.settings = [f"--ssl-cert={certificate}", f"--ssl-key={key}", "--require-secure-transport=ON"]
        server.secured = True
        server.restart()
        yield server


def postgres_source(server: Postgres, papers: Papers, parameters: str, host: str = "127.0.0.1") -> str:
    files = parameters.format(ca=papers.authority, stranger=papers.stranger)
    return f"postgres://berth@{host}:{server.port}/berth?{files}"


@pytest.mark.parametrize(
    "parameters",
    ["sslmode=require", "sslmode=verify-ca&sslrootcert={ca}", "sslmode=verify-full&sslrootcert={ca}", ""],
)
async def test_postgres_is_spoken_to_in_tls(postgres_tls: Postgres, papers: Papers, parameters: str):
    async with open_postgres(postgres_source(postgres_tls, papers, parameters), quiet()[0]) as store:
        await must_win(store, held())
        secured = "SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)"
        assert postgres_tls.on(f"{secured} WHERE application_name = 'berth'") == [(True,)]
    postgres_tls.empty()


@pytest.mark.parametrize(
    ("parameters", "host"),
    [
        ("sslmode=verify-ca&sslrootcert={stranger}", "127.0.0.1"),
        ("sslmode=require&sslrootcert={stranger}", "127.0.0.1"),
        ("sslmode=verify-full&sslrootcert={ca}", "localhost"),
        ("sslmode=verify-full&sslrootcert=/no/such/file", "127.0.0.1"),
        ("sslmode=nonsense", "127.0.0.1"),
    ],
)
async def test_postgres_is_not_trusted_blindly(
    postgres_tls: Postgres, papers: Papers, parameters: str, host: str
):
    with pytest.raises(StoreRefused, match="cannot use the database"):
        async with open_postgres(postgres_source(postgres_tls, papers, parameters, host), quiet()[0]):
            pass


@pytest.mark.parametrize(
    "parameters", ["tls=skip-verify", "tls=preferred", "tls=true&ssl-ca={ca}", "ssl-ca={ca}"]
)
async def test_mariadb_is_spoken_to_in_tls(mariadb_tls: Mariadb, papers: Papers, parameters: str):
    source = f"{mariadb_tls.source}&{parameters.format(ca=papers.authority)}"
    async with open_mariadb(source, quiet()[0]) as store:
        await must_win(store, held())
    mariadb_tls.empty()


@pytest.mark.parametrize("parameters", ["tls=true&ssl-ca={stranger}", "tls=true", "tls=false"])
async def test_mariadb_is_not_trusted_blindly(mariadb_tls: Mariadb, papers: Papers, parameters: str):
    source = f"{mariadb_tls.source}&{parameters.format(stranger=papers.stranger)}"
    with pytest.raises(StoreRefused, match="cannot use the database"):
        async with open_mariadb(source, quiet()[0]):
            pass


async def test_mariadb_without_tls_is_taken_where_it_is_only_preferred(mariadb_server: Mariadb):
    async with open_mariadb(f"{mariadb_server.source}&tls=preferred", quiet()[0]) as store:
        await must_win(store, held())
    mariadb_server.empty()
    with pytest.raises(StoreRefused, match="cannot use the database"):
        async with open_mariadb(f"{mariadb_server.source}&tls=skip-verify", quiet()[0]):
            pass
