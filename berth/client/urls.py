"""URLs: which base URLs an API server may be called by.

Owns their reading and the texts that refuse them. Promises that no credentials pass through a URL, and that
nothing goes without TLS but to this machine.
"""

import ipaddress
import re
from collections.abc import Iterable
from urllib.parse import urlsplit

from berth.client.errors import Misconfigured
from berth.core.names import shown

_NAME = re.compile(r"[A-Za-z0-9._-]+")


def base_urls(given: str | Iterable[str]) -> tuple[str, ...]:
    """The URLs in a text with commas, or one by one, without a slash at the end. Raises Misconfigured."""
    listed = given.split(",") if isinstance(given, str) else given
    urls = dict.fromkeys(_base_url(url.strip()) for url in listed)
    if not urls:
        raise Misconfigured("no API server is given; give at least one URL, such as https://localhost:8443")
    return tuple(urls)


def _base_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError as fault:
        raise Misconfigured(f"the API server's URL cannot be read: {fault}") from fault
    if "@" in parts.netloc:
        raise Misconfigured("the API server's URL must not hold a user or a password; use the API key")
    if parts.scheme not in ("http", "https") or not host or parts.query or parts.fragment:
        raise Misconfigured(f"{shown(url)} is no API server's URL; write it as https://HOST:PORT")
    if not _is_host(host):
        raise Misconfigured(f"{shown(url)}: {shown(host)} is neither a host's name nor an IP address")
    if port == 0:
        raise Misconfigured(f"{shown(url)}: nothing listens on port 0; write the API server's port")
    if parts.scheme == "http" and not _is_loopback(host):
        raise Misconfigured(f"{shown(url)}: http:// would show the API key on the network; use https://")
    return url.rstrip("/")


def _is_host(host: str) -> bool:
    if _ip(host):
        return True
    try:
        encoded = host.encode("idna")
        encoded.decode("idna")  # what begins with xn-- must encode something
    except UnicodeError:
        return False
    return _NAME.fullmatch(encoded.decode("ascii")) is not None


def _is_loopback(host: str) -> bool:
    address = _ip(host)
    return address.is_loopback if address else host == "localhost"


def _ip(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
