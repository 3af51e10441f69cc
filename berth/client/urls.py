"""URLs: which base URLs an API server may be called by.

Owns their reading and the texts that refuse them. Promises that no credentials pass through a URL, and that
nothing goes without TLS but to this machine.
"""

import ipaddress
from collections.abc import Iterable
from urllib.parse import urlsplit

from berth.client.errors import Misconfigured


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
        host, _ = parts.hostname or "", parts.port
    except ValueError as fault:
        raise Misconfigured(f"the API server's URL cannot be read: {fault}") from fault
    if "@" in parts.netloc:
        raise Misconfigured("the API server's URL must not hold a user or a password; use the API key")
    if parts.scheme not in ("http", "https") or not host or parts.query or parts.fragment:
        raise Misconfigured(f"{url!r} is no API server's URL; write it as https://HOST:PORT")
    if parts.scheme == "http" and not _is_loopback(host):
        raise Misconfigured(f"{url}: http:// would show the API key on the network; use https://")
    return url.rstrip("/")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
