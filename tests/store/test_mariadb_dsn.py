"""Data sources as go-sql-driver/mysql writes them."""

import ssl

import pytest

from berth.store.api import StoreRefused
from berth.store.mariadb_dsn import Source, source

TCP = Source("u", "p", "db.example", 3307, None, "berth", "off", None, {})


@pytest.mark.parametrize(
    ("dsn", "expected"),
    [
        ("u:p@tcp(db.example:3307)/berth", TCP),
        ("u:p@tcp(db.example:3307)/berth?parseTime=true&loc=UTC&charset=utf8mb4&timeout=5s", TCP),
        ("u:p@tcp(db.example)/berth", TCP._replace(port=3306)),
        ("u:p@tcp/berth", TCP._replace(host="127.0.0.1", port=3306)),
        ("u:p@/berth", TCP._replace(host="127.0.0.1", port=3306)),
        ("u@tcp(db.example:3307)/berth", TCP._replace(password="")),
        ("u:p@tcp([::1]:3307)/berth", TCP._replace(host="::1")),
        ("u:p@unix(/run/my.sock)/berth", TCP._replace(host="localhost", port=0, unix_socket="/run/my.sock")),
        (
            "u:p@unix(/run/my.sock)/berth?loc=UTC",
            TCP._replace(host="localhost", port=0, unix_socket="/run/my.sock"),
        ),
        ("u:a@b:c/d?e@tcp(db.example:3307)/berth?parseTime=true", TCP._replace(password="a@b:c/d?e")),
        ("u:a@b:c/d?e@tcp(db.example:3307)/berth", TCP._replace(password="a@b:c/d?e")),
        ("u:p@tcp(db.example:3307)/my%2Fberth", TCP._replace(database="my/berth")),
        (
            "u:p@tcp(db.example:3307)/berth?tx_isolation=%27x%27",
            TCP._replace(variables={"tx_isolation": "'x'"}),
        ),
    ],
)
def test_what_a_source_says(dsn: str, expected: Source):
    assert source(dsn) == expected


@pytest.mark.parametrize(
    ("dsn", "complaint"),
    [
        ("u:secret@tcp(db.example:3307)", "no '/'"),
        ("u:secret@tcp(db.example:3307)/", "no database"),
        ("u:secret@udp(db.example:3307)/berth", "neither tcp"),
        ("u:secret@tcp(db.example:x)/berth", "port is not a number"),
        ("u:secret@tcp(db.example)/berth?loc=Local", "loc other than UTC"),
        ("u:secret@tcp(db.example)/berth?loc=Europe%2FBerlin", "loc other than UTC"),
        ("u:secret@tcp(db.example)/berth?tls=mine", "none of true"),
        ("u:secret@tcp(db.example)/berth?tls=true&ssl-ca=/no/such", "cannot be used"),
        ("u:secret@tcp(db.example)/berth?a;b=1", "no names of variables"),
    ],
)
def test_what_is_refused_is_told_without_the_password(dsn: str, complaint: str):
    with pytest.raises(StoreRefused, match=complaint) as caught:
        source(dsn)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("mode", "verified", "by_name"),
    [
        ("true", ssl.CERT_REQUIRED, True),
        ("skip-verify", ssl.CERT_NONE, False),
        ("preferred", ssl.CERT_NONE, False),
    ],
)
def test_how_the_server_is_verified(mode: str, verified: ssl.VerifyMode, by_name: bool):
    found = source(f"u:p@tcp(db.example)/berth?tls={mode}")
    assert found.context is not None
    assert (found.context.verify_mode, found.context.check_hostname) == (verified, by_name)
    assert found.tls == ("preferred" if mode == "preferred" else "required")
