"""The server over real TLS."""

import ssl

import pytest
import trio
import trustme

from berth.runtime.tls import ServerTls, TlsFiles
from tests.runtime.conftest import Dial, Journal, StartServer, read_reply, read_to_end, write_pair
from tests.runtime.serving import GET, SLACK_SECONDS, connect_tls, echo, trusting


async def test_tls_serves_http1_only(
    start_server: StartServer, dial: Dial, server_tls: ServerTls, authority: trustme.CA
) -> None:
    server = await start_server(echo, tls=server_tls)
    assert server.addresses[0].startswith("https://127.0.0.1:")
    stream = await connect_tls(dial, server, trusting(authority))
    assert stream.selected_alpn_protocol() == "http/1.1"
    await stream.send_all(GET)
    assert await read_reply(stream) == (200, b"/")


async def test_a_handshake_that_does_not_begin_is_cut(
    start_server: StartServer, dial: Dial, server_tls: ServerTls
) -> None:
    stream = await dial(await start_server(echo, tls=server_tls, handshake_seconds=0.2))
    assert await read_to_end(stream, within_seconds=0.2 + SLACK_SECONDS) == b""


async def test_plain_http_on_the_tls_port_is_closed_and_the_server_goes_on(
    start_server: StartServer, dial: Dial, server_tls: ServerTls, authority: trustme.CA, journal: Journal
) -> None:
    server = await start_server(echo, tls=server_tls)
    plain = await dial(server)
    await plain.send_all(GET)
    assert not (await read_to_end(plain)).startswith(b"HTTP")
    await connect_tls(dial, server, trusting(authority))
    assert journal.messages() == []


async def test_an_old_tls_version_is_refused(
    start_server: StartServer, dial: Dial, server_tls: ServerTls, authority: trustme.CA
) -> None:
    context = trusting(authority)
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    server = await start_server(echo, tls=server_tls)
    with pytest.raises(trio.BrokenResourceError):
        await connect_tls(dial, server, context)


async def test_a_replaced_certificate_is_served_to_new_handshakes(
    start_server: StartServer, dial: Dial, server_tls: ServerTls, tls_files: TlsFiles, authority: trustme.CA
) -> None:
    server = await start_server(echo, tls=server_tls)
    before = await connect_tls(dial, server, trusting(authority))
    write_pair(authority, tls_files.cert.parent, "localhost")
    assert server_tls.reload_if_changed()
    after = await connect_tls(dial, server, trusting(authority))
    assert before.getpeercert()["serialNumber"] != after.getpeercert()["serialNumber"]
    await before.send_all(GET)
    assert await read_reply(before) == (200, b"/")
