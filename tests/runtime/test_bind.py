import socket
from typing import Any

import pytest
import trio

from berth.runtime.bind import BindFailed, bind, written


@pytest.mark.parametrize(("address", "shown"), [("127.0.0.1:0", "127.0.0.1:"), ("localhost:0", "127.0.0.1:")])
async def test_the_real_address_is_told(address: str, shown: str) -> None:
    async with await bind(address) as listener:
        assert written(listener).startswith(shown)
        assert not written(listener).endswith(":0")


async def test_no_host_is_every_interface() -> None:
    async with await bind(":0") as listener:
        port = listener.socket.getsockname()[1]
        assert written(listener) in {f"[::]:{port}", f"0.0.0.0:{port}"}
        await (await trio.open_tcp_stream("127.0.0.1", port)).aclose()


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="no IPv6 here")
async def test_ipv6_is_written_in_brackets() -> None:
    async with await bind("[::1]:0") as listener:
        assert written(listener).startswith("[::1]:")


async def test_what_is_no_address_says_how_to_write_one() -> None:
    with pytest.raises(BindFailed, match=r"write :PORT, HOST:PORT or \[IPV6\]:PORT"):
        await bind("8443")


@pytest.mark.parametrize("host", ["a..b", ".foo", "a" * 64])
async def test_what_no_host_can_be_called_says_so(host: str) -> None:
    with pytest.raises(BindFailed, match="no host has such a name"):
        await bind(f"{host}:0")


async def test_a_port_in_use_says_so() -> None:
    async with await bind("127.0.0.1:0") as listener:
        with pytest.raises(BindFailed, match="the port is in use"):
            await bind(written(listener))


async def test_an_address_of_another_machine_says_so() -> None:
    with pytest.raises(BindFailed, match="no interface of this machine"):
        await bind("192.0.2.1:0")


async def test_a_name_that_does_not_resolve_says_so() -> None:
    class NoNames(trio.abc.HostnameResolver):
        async def getaddrinfo(self, *args: Any, **options: Any) -> Any:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

        async def getnameinfo(self, sockaddr: Any, flags: int) -> Any:
            raise NotImplementedError

    trio.socket.set_custom_hostname_resolver(NoNames())
    with pytest.raises(BindFailed, match="does not resolve"):
        await bind("nowhere.invalid:0")
