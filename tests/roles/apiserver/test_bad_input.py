"""What no well-meant client sends. None of it is a 5xx, none of it hangs, and where HTTP is still sound the
answer is an error in JSON."""

import gzip
import json
import re
import socket

import pytest

from tests.roles.apiserver.conftest import new_path
from tests.roles.apiserver.https import Caller, head, read_reply, trusting
from tests.support.apiserver import Apiserver

GOOD = b'{"holder":"h","ttlSeconds":9}'
TOO_BIG = (413, "body_too_large", "request body must be at most 4096 bytes")


def chunked(*chunks: bytes) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"


def acquire(caller: Caller, body: bytes, *headers: str) -> tuple[int, str, str]:
    """Status, code and text for a body with exactly these headers; a grant has no code and no text."""
    reply = caller.exchange(head("POST", f"{new_path()}/acquire", *headers) + body)
    assert reply is not None
    if reply.status == 200:
        assert reply.json["acquired"] is True
        return 200, "", ""
    return reply.status, reply.code, reply.error


def of_length(body: bytes) -> str:
    return f"Content-Length: {len(body)}"


def padded(length: int, *, before: bool) -> bytes:
    space = b" " * (length - len(GOOD))
    return space + GOOD if before else GOOD + space


@pytest.mark.parametrize("before", [True, False])
def test_a_body_of_4096_bytes_is_taken(caller: Caller, before: bool) -> None:
    body = padded(4096, before=before)
    assert acquire(caller, body, of_length(body))[0] == 200
    for pieces in ([body], [body[:1], body[1:]], [body[at : at + 64] for at in range(0, 4096, 64)]):
        assert acquire(caller, chunked(*pieces), "Transfer-Encoding: chunked")[0] == 200


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("length", [4097, 8192, 200_000])
def test_a_body_over_4096_bytes_is_not(caller: Caller, before: bool, length: int) -> None:
    body = padded(length, before=before)
    assert acquire(caller, body, of_length(body)) == TOO_BIG
    for size in (length, 4096, 1000):
        pieces = [body[at : at + size] for at in range(0, length, size)]
        assert acquire(caller, chunked(*pieces), "Transfer-Encoding: chunked") == TOO_BIG


@pytest.mark.parametrize("length", [4097, 10**11, 10**18])
def test_a_body_that_says_it_is_too_big_is_not_waited_for(caller: Caller, length: int) -> None:
    assert acquire(caller, b"", f"Content-Length: {length}") == TOO_BIG
    reply = acquire(caller, b"", f"Content-Length: {length}", "Expect: 100-continue")
    assert reply == TOO_BIG


@pytest.mark.parametrize(
    ("path", "status"), [("/v1alpha1/namespaces/n/leases/x/acquire", 413), ("/healthz", 405), ("/nope", 404)]
)
def test_a_reply_before_the_end_of_the_body_is_the_last_and_says_so(
    caller: Caller, path: str, status: int
) -> None:
    """Otherwise the client sends its next request into a connection that is being closed."""
    reply = caller.exchange(head("POST", path, "Content-Length: 100000") + b"x" * 5000)
    assert reply is not None
    assert reply.status == status
    assert reply.headers["Connection"] == "close"


def test_a_client_that_asks_first_is_told_to_go_on(caller: Caller) -> None:
    with caller.connect() as connection:
        connection.sendall(head("POST", f"{new_path()}/acquire", of_length(GOOD), "Expect: 100-continue"))
        told = connection.recv(1000)
        assert told.startswith(b"HTTP/1.1 100 ")
        assert told.endswith(b"\r\n\r\n")
        connection.sendall(GOOD)
        reply = read_reply(connection)
    assert reply is not None
    assert reply.status == 200


@pytest.mark.parametrize(
    "body",
    [
        GOOD.decode().encode("utf-16"),
        GOOD.decode().encode("utf-16-le"),
        GOOD.decode().encode("utf-32"),
        b"\xef\xbb\xbf" + GOOD,
        GOOD.replace(b'"h"', b'"\xff"'),
        GOOD.replace(b'"h"', b'"\xc0\xaf"'),
        gzip.compress(GOOD, mtime=0),
        b"\x00",
        b"\x00" * 4096,
        b"[" * 4096,
        b'{"holder":' * 400,
        b'{"holder":' + b"[" * 2000 + b"]" * 2000 + b"}",
        b'{"' + b"k" * 4000 + b'":1}',
        GOOD.replace(b"9", b"9" * 4000),
        GOOD.replace(b"9", b"-"),
        GOOD.replace(b"9", b"1e999999999"),
        GOOD.replace(b'"h"', rb'"\u00zz"'),
        GOOD.replace(b'"h"', rb'"\q"'),
        GOOD.replace(b'"h"', b'"\n"'),
        GOOD + b"\x00",
        b"//" + GOOD,
        GOOD[:-1],
        GOOD[:-1] + b",}",
    ],
    ids=lambda body: repr(body[:24]),
)
def test_what_is_no_json_is_400(caller: Caller, body: bytes) -> None:
    status, code, text = acquire(caller, body, of_length(body))
    assert (status, code) == (400, "invalid_body")
    assert text.startswith("invalid json body: ") or text == "request body must contain one JSON object"
    assert len(text) < 400


def test_a_compressed_body_is_not_decompressed(caller: Caller) -> None:
    body = gzip.compress(GOOD, mtime=0)
    status, code, _ = acquire(caller, body, of_length(body), "Content-Encoding: gzip")
    assert (status, code) == (400, "invalid_body")


@pytest.mark.parametrize(
    "headers",
    [
        ("Content-Length: 29", "Transfer-Encoding: chunked"),
        ("Transfer-Encoding: chunked", "Content-Length: 29"),
        ("Content-Length: 29", "Content-Length: 30"),
        ("Content-Length: -1",),
        ("Content-Length: +5",),
        ("Content-Length: 0x1d",),
        ("Content-Length: 2 9",),
        ("Content-Length: ",),
        ("Content-Length: " + "9" * 5000,),
        ("Transfer-Encoding: gzip",),
        ("Transfer-Encoding: chunked, gzip",),
        ("Transfer-Encoding: chunked", "Transfer-Encoding: chunked"),
        ("Content-Length : 29",),
        ("X: a\x00b", "Content-Length: 29"),
        ("X: a\x0bb", "Content-Length: 29"),
        ("(X): a", "Content-Length: 29"),
        ("no colon", "Content-Length: 29"),
        (": no name", "Content-Length: 29"),
        ("Host: y", "Content-Length: 29"),
    ],
    ids=repr,
)
def test_an_unsound_head_is_refused(caller: Caller, headers: tuple[str, ...]) -> None:
    reply = caller.exchange(head("POST", f"{new_path()}/acquire", *headers) + GOOD)
    assert reply is not None
    assert reply.status in {400, 501}
    assert set(reply.json) == {"error", "code"}
    assert reply.headers["Connection"] == "close"


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET /healthz HTTP/1.1\r\n\r\n",
        b"GET /healthz HTTP/2.0\r\nHost: x\r\n\r\n",
        b"GET /healthz\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET healthz HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET * HTTP/1.1\r\nHost: x\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
        b"CONNECT x:443 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /a b HTTP/1.1\r\nHost: x\r\n\r\n",
        b"G\x00T / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x00\x05hello\r\n\r\n",
        b"\r\n\r\n\r\n\r\n",
    ],
    ids=repr,
)
def test_what_is_no_http_1_1_request_is_refused_or_closed(caller: Caller, request_bytes: bytes) -> None:
    reply = caller.exchange(request_bytes)
    if reply is not None:
        assert 400 <= reply.status < 500
        assert set(reply.json) == {"error", "code"}


@pytest.mark.parametrize(
    "lines",
    [b"GET /healthz HTTP/1.1\nHost: x\n\n", b"GET /healthz HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n"],
)
def test_old_ways_to_write_a_head_are_read(caller: Caller, lines: bytes) -> None:
    reply = caller.exchange(lines)
    assert reply is not None
    assert reply.status == 200


@pytest.mark.parametrize(
    "headers",
    [
        ["X: " + "x" * 9000],
        ["X: " + "x" * 70_000],
        [f"X-{number}: {'x' * 900}" for number in range(10)],
        [f"X-{number}: x" for number in range(60)],
    ],
    ids=["9 KB", "70 KB", "10 of 900", "60"],
)
def test_a_head_has_a_size(caller: Caller, headers: list[str]) -> None:
    reply = caller.exchange(head("GET", "/v1alpha1/leases", *headers))
    assert reply is not None
    assert reply.status == 431
    assert set(reply.json) == {"error", "code"}


def test_a_path_has_a_size(caller: Caller) -> None:
    reply = caller.exchange(head("GET", "/" + "x" * 9000))
    assert reply is not None
    assert reply.status == 431


@pytest.mark.parametrize(
    "headers",
    [
        ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__"),
        ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: eA=="),
    ],
)
def test_an_upgrade_is_not_followed(caller: Caller, headers: tuple[str, ...]) -> None:
    reply = caller.exchange(head("GET", "/healthz", *headers))
    assert reply is not None
    assert (reply.status, reply.body) == (200, b"ok\n")


def test_http_2_is_not_offered(memory: Apiserver) -> None:
    assert memory.ca_file is not None
    context = trusting(memory.ca_file)
    context.set_alpn_protocols(["h2", "http/1.1"])
    plain = socket.create_connection(memory.address, timeout=5)
    with context.wrap_socket(plain, server_hostname="127.0.0.1") as connection:
        assert connection.selected_alpn_protocol() == "http/1.1"


def test_plain_http_is_closed(memory: Apiserver) -> None:
    with socket.create_connection(memory.address, timeout=10) as plain:
        plain.sendall(head("GET", "/healthz"))
        assert b"HTTP/" not in plain.recv(1000)


@pytest.mark.parametrize(
    "body", [b"zz\r\nhello\r\n0\r\n\r\n", b"5\r\nhelloXX0\r\n\r\n", b"-5\r\nhello\r\n", b"5;" + b"x" * 9000]
)
def test_broken_chunks_are_refused_or_closed(caller: Caller, body: bytes) -> None:
    reply = caller.exchange(head("POST", f"{new_path()}/acquire", "Transfer-Encoding: chunked") + body)
    if reply is not None:
        assert 400 <= reply.status < 500


@pytest.mark.parametrize("host", ["", "a/b", "a b", "a:b:c", "[::1", "x@y", "\xff", "x" * 64, "a..b", "%00"])
def test_a_host_does_not_matter(caller: Caller, host: str) -> None:
    request = f"GET /healthz HTTP/1.1\r\nHost: {host}\r\n\r\n".encode("latin-1")
    reply = caller.exchange(request)
    assert reply is not None
    assert reply.status in {200, 400}


def test_requests_in_one_segment_are_answered_in_order(caller: Caller) -> None:
    path = new_path()
    body = json.dumps({"holder": "h", "ttlSeconds": 9}).encode()
    with caller.connect() as connection:
        connection.sendall(
            head("POST", f"{path}/acquire", of_length(body)) + body + head("GET", path) + head("GET", "/nope")
        )
        received = b""
        while b"no such path" not in received:
            received += connection.recv(65536)
    assert re.findall(rb"HTTP/1.1 (\d+) ", received) == [b"200", b"200", b"404"]


def test_a_key_in_the_path_is_told_cut_and_escaped(caller: Caller) -> None:
    name = "%22%3Cscript%3E%0A%1B[31m" + "x" * 300
    reply = caller.exchange(head("GET", f"/v1alpha1/namespaces/n/leases/{name}"))
    assert reply is not None
    assert reply.code == "invalid_name"
    assert "x" * 101 not in reply.error
    assert not any(ord(character) < 32 for character in reply.error)
