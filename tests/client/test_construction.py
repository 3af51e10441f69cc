"""What a client can be made of."""

from pathlib import Path

import pytest

from berth.client import BerthClient, Misconfigured

NO_HOSTS = ["a..b", ".foo", "a" * 64, "xn--a", "a b", "a%00b"]


@pytest.mark.parametrize(
    ("servers", "shown"),
    [
        ("https://a:8443", "https://a:8443"),
        ("https://a:8443/", "https://a:8443"),
        (" https://a , https://b/x/ ", "https://a,https://b/x"),
        (["https://a", "https://b"], "https://a,https://b"),
        (["https://a", "https://a/"], "https://a"),
        ("https://[::1]:8443", "https://[::1]:8443"),
        ("https://zürich.example", "https://zürich.example"),
        ("https://a_b.example.", "https://a_b.example."),
        ("http://localhost:8080", "http://localhost:8080"),
        ("http://127.0.0.2:8080,http://[::1]", "http://127.0.0.2:8080,http://[::1]"),
    ],
)
async def test_servers_are_given_in_a_text_or_one_by_one(servers: str | list[str], shown: str) -> None:
    async with BerthClient(servers) as client:
        assert repr(client) == f"BerthClient('{shown}')"


@pytest.mark.parametrize(
    ("servers", "text"),
    [
        ("", "write it as https://HOST:PORT"),
        ([], "no API server is given"),
        ("https://a,", "write it as https://HOST:PORT"),
        ("a:8443", "write it as https://HOST:PORT"),
        ("ftp://a", "write it as https://HOST:PORT"),
        ("https://", "write it as https://HOST:PORT"),
        ("https://a?x=1", "write it as https://HOST:PORT"),
        ("https://a:port", "cannot be read"),
        ("https://a:99999", "cannot be read"),
        ("https://[::1", "cannot be read"),
        *((f"https://{host}", "neither a host's name nor") for host in NO_HOSTS),
        ("https://localhost:0", "nothing listens on port 0"),
        ("https://" + "a" * 100_000, r"aaa….*neither"),
        ("http://a:8080", "use https://"),
        ("http://127.0.0.1.example.org", "use https://"),
        ("http://10.0.0.1", "use https://"),
    ],
)
def test_what_is_no_server_is_refused_with_what_to_write(servers: str | list[str], text: str) -> None:
    with pytest.raises(Misconfigured, match=text):
        BerthClient(servers)


def test_credentials_in_a_url_are_refused_and_not_shown() -> None:
    with pytest.raises(Misconfigured, match="use the API key") as caught:
        BerthClient("https://me:hunter2@a")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf")])
def test_a_call_always_has_a_deadline(timeout: float) -> None:
    with pytest.raises(Misconfigured, match="timeout_seconds"):
        BerthClient("https://a", timeout_seconds=timeout)


def test_a_ca_file_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match=r"no-such\.pem"):
        BerthClient("https://a", ca_file=tmp_path / "no-such.pem")
    (tmp_path / "not.pem").write_text("hello")
    with pytest.raises(Misconfigured, match=r"not\.pem"):
        BerthClient("https://a", ca_file=str(tmp_path / "not.pem"))
