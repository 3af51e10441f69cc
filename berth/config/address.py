"""Addresses to listen on, as Go's net.Listen takes them: `:8443`, `127.0.0.1:0`, `[::1]:8443`.

Only their form is judged here; whether something can listen there is found out when it does.
"""

import re
from collections.abc import Iterator

_ADDRESS = re.compile(r"(?:\[(?P<v6>[^\]]+)\]|(?P<host>[^:\[\]]*)):(?P<port>[0-9]{1,5})", re.ASCII)
_PORT_MAX = 65535


def parse_address(text: str) -> tuple[str, int]:
    """Host and port; an empty host means every interface, port 0 any free one. Raises ValueError."""
    found = _ADDRESS.fullmatch(text)
    if found is None or int(found["port"]) > _PORT_MAX:
        raise ValueError("not an address; write :PORT, HOST:PORT or [IPV6]:PORT with a port from 0 to 65535")
    return found["v6"] or found["host"], int(found["port"])


def address_problems(**addresses: str) -> Iterator[str]:
    """What is wrong with addresses that are given by the field names of their options; empty means none."""
    for field, text in addresses.items():
        if text:
            try:
                parse_address(text)
            except ValueError as fault:
                yield f"--{field.replace('_', '-')}: {text!r} is {fault}"
