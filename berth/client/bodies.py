"""Bodies: what a call puts into its path and its body.

Owns the spelling of arguments on the wire. Promises that what cannot be sent as it was given is refused
unsent.
"""

from typing import Any
from urllib.parse import quote

import msgspec

from berth.client.errors import Invalid
from berth.core.names import NAME_MAX, shown


def whole(seconds: int | None, what: str) -> int | None:
    # A ttl that was cut to whole seconds would end before its holder thinks.
    if seconds is not None and type(seconds) is not int:
        raise TypeError(f"{what} is whole seconds, an int; got {seconds!r}")
    return seconds


def segment(text: str) -> str:
    """One segment of a path, which the server sees as it was given; dots alone would be resolved away."""
    if not text:
        raise Invalid("namespace, name and id must not be empty", status=400, code="invalid_name")
    if len(text) > NAME_MAX:
        long = f"{shown(text)} is longer than {NAME_MAX} characters"
        raise Invalid(long, status=400, code="invalid_name")
    if not text.strip("."):
        return "%2E" * len(text)
    return quote(text, safe="", errors="surrogatepass")


def json_of(body: msgspec.Struct, **more: Any) -> bytes:
    """What is not given is not sent, so that an older server is not asked about what it does not know."""
    given = {key: value for key, value in msgspec.to_builtins(body).items() if value is not None}
    try:
        return msgspec.json.encode(given | more)
    except UnicodeEncodeError as fault:
        text = "the request holds text that is no valid Unicode (a lone surrogate)"
        raise Invalid(text, status=400, code="invalid_body") from fault
