"""Listening sockets, from addresses as Go's net.Listen takes them.

Owns what to tell when a socket cannot be had.
"""

import errno
import socket
from typing import Any

import trio

from berth.config.address import parse_address

BACKLOG = 1024
RESOLVE_SECONDS = 5.0


class BindFailed(Exception):
    """Nothing can listen on the address; the text names it and says what to do."""


async def bind(address: str) -> trio.SocketListener:
    """A socket that listens on `HOST:PORT`. No host: every interface, IPv6 and IPv4. Port 0: any free port.

    A host name is resolved, and its first address taken. Raises BindFailed.
    """
    try:
        host, port = parse_address(address)
    except ValueError as fault:
        raise BindFailed(f"cannot listen on {address!r}: {fault}") from fault
    try:
        if not host:
            return _listen_everywhere(port)
        family, target = await _resolve(host, port)
        return _listen(family, target)
    except socket.gaierror as fault:
        raise BindFailed(
            f"cannot listen on {address}: the host name does not resolve ({fault.strerror})"
        ) from fault
    except UnicodeError as fault:  # from the encoding of names
        raise BindFailed(f"cannot listen on {address!r}: no host has such a name") from fault
    except OSError as fault:
        raise BindFailed(f"cannot listen on {address}: {_explain(fault)}") from fault
    except trio.TooSlowError as fault:
        raise BindFailed(
            f"cannot listen on {address}: no name server answered; give an IP address instead"
        ) from fault


def written(listener: trio.SocketListener) -> str:
    """The address that a listener really has, as HOST:PORT."""
    host, port = listener.socket.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


async def _resolve(host: str, port: int) -> tuple[int, tuple[Any, ...]]:
    with trio.fail_after(RESOLVE_SECONDS):
        answers = await trio.socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    # localhost is 127.0.0.1 to most clients that were told a name without a family.
    family, _, _, _, target = min(answers, key=lambda answer: answer[0] != socket.AF_INET)
    return family, target


def _listen_everywhere(port: int) -> trio.SocketListener:
    if socket.has_dualstack_ipv6():
        return _listen(socket.AF_INET6, ("::", port))
    return _listen(socket.AF_INET, ("0.0.0.0", port))


def _listen(family: int, target: tuple[Any, ...]) -> trio.SocketListener:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if target[0] == "::":
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.bind(target)
        sock.listen(BACKLOG)
        return trio.SocketListener(trio.socket.from_stdlib_socket(sock))
    except OSError:
        sock.close()
        raise


def _explain(fault: OSError) -> str:
    match fault.errno:
        case errno.EADDRINUSE:
            return "the port is in use; stop what listens there (ss -ltnp shows it) or choose another port"
        case errno.EACCES:
            return "not allowed; choose a port from 1024 up, or grant the capability CAP_NET_BIND_SERVICE"
        case errno.EADDRNOTAVAIL:
            return "no interface of this machine has that address; choose one that ip address shows"
        case _:
            return fault.strerror or str(fault)
