import pytest

from berth.config.address import address_problems, parse_address


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        (":8443", "", 8443),
        ("127.0.0.1:0", "127.0.0.1", 0),
        ("[::1]:65535", "::1", 65535),
        ("a..b:1", "a..b", 1),
    ],
)
def test_reads(text: str, host: str, port: int):
    assert parse_address(text) == (host, port)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "8443",
        "host",
        "host:",
        "::1:80",
        "a:b",
        ":65536",
        ":99999",
        ":-1",
        ":٣",
        "[::1]",
        ":80\n",
        "[]:80",
    ],
)
def test_what_is_no_address_says_how_to_write_one(text: str):
    with pytest.raises(ValueError, match=r"write :PORT, HOST:PORT or \[IPV6\]:PORT"):
        parse_address(text)


def test_problems_name_the_flag_and_empty_means_none():
    assert list(address_problems(listen_addr=":1", metrics_addr="")) == []
    [found] = address_problems(listen_addr=":1", metrics_addr="foo")
    assert found.startswith("--metrics-addr: 'foo' is not an address; write :PORT")
