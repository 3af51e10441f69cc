"""Paging: what a list was asked for, and the token that asks for its next page."""

from base64 import b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from collections.abc import Mapping

from berth.core.names import Key
from berth.wire import checks, routes
from berth.wire.problems import Failure


def limit(query: Mapping[str, str]) -> int:
    """Items a page."""
    text = query.get("limit", "")
    if not text:
        return routes.LIST_LIMIT_DEFAULT
    if text.isascii() and text.isdigit() and len(text) <= 4 and 1 <= int(text) <= routes.LIST_LIMIT_MAX:
        return int(text)
    raise Failure("invalid_body", f"limit must be a whole number from 1 to {routes.LIST_LIMIT_MAX}")


def after(query: Mapping[str, str]) -> str:
    """What the page before ended with; empty for the first page."""
    text = query.get("continue", "")
    try:
        last = b64decode(text.encode(), altchars=b"-_", validate=True).decode()
    except (Base64Error, UnicodeError) as error:
        raise _foreign() from error
    if text and not last:
        raise _foreign()
    return last


def token(last: str) -> str:
    """The token for the page that begins after `last`."""
    return urlsafe_b64encode(last.encode()).decode()


def key_after(query: Mapping[str, str]) -> Key | None:
    """As `after`, for leases."""
    last = after(query)
    if not last:
        return None
    namespace, _, name = last.partition("/")
    try:
        return checks.checked_key(namespace, name)
    except Failure as error:
        raise _foreign() from error


def _foreign() -> Failure:
    return Failure("invalid_body", "continue is not from this server; list from the beginning")
