"""Operations of one lease and of sessions, in few words.

Times are seconds; every lease has a ttl of 10 unless it says otherwise.
"""

from msgspec.structs import replace

from tests.histories.operations import Kind, Operation, Told, Word

TTL = 10.0
History = list[Operation]


def op(
    client: str,
    kind: Kind,
    start: float,
    end: float | None,
    word: Word | None = None,
    token: int = 0,
    of: str = "",
    *,
    holder: str = "",
    under: int = 0,
    ttl: float = TTL,
    clean: bool | None = None,
    waits: bool = False,
) -> Operation:
    told = None if word is None else Told(word, token, of, clean)
    end_us = None if end is None else round(end * 1e6) - 1  # what begins at `end` comes after
    ttl_us = round(ttl * 1e6) if kind in ("acquire", "renew") else 0
    return Operation(client, kind, "a", round(start * 1e6), end_us, told, holder, under, ttl_us, waits)


def grant(
    client: str,
    start: float,
    end: float,
    token: int,
    *,
    ttl: float = TTL,
    clean: bool | None = None,
    waits: bool = False,
    under: str = "",
) -> Operation:
    granted = op(client, "acquire", start, end, "granted", token, client, holder=client, ttl=ttl, clean=clean)
    if under:
        return replace(granted, waits=waits, ttl_us=0, session=under)
    return replace(granted, waits=waits)


def refused(client: str, start: float, end: float, token: int, of: str) -> Operation:
    return op(client, "acquire", start, end, "held", token, of, holder=client)


def renew(client: str, start: float, end: float, under: int, ttl: float = TTL) -> Operation:
    return op(client, "renew", start, end, "renewed", under, client, holder=client, under=under, ttl=ttl)


def lost(client: str, start: float, end: float, under: int, token: int, of: str = "") -> Operation:
    return op(client, "renew", start, end, "lost", token, of, holder=client, under=under)


def release(client: str, start: float, end: float, under: int, word: Word = "released") -> Operation:
    return op(client, "release", start, end, word, holder=client, under=under)


def held(client: str, start: float, end: float, token: int, of: str) -> Operation:
    return op(client, "get", start, end, "held", token, of)


def free(client: str, start: float, end: float, token: int) -> Operation:
    return op(client, "get", start, end, "free", token)


def never(client: str, start: float, end: float) -> Operation:
    return op(client, "get", start, end, "never")


def maybe(client: str, kind: Kind, start: float, under: int = 0, *, waits: bool = False) -> Operation:
    """Of unknown outcome; its client goes on under another name."""
    return op(f"{client}.lost", kind, start, None, holder=client, under=under, waits=waits)


def forced(start: float, end: float, token: int, of: str, word: Word = "forced") -> Operation:
    told = Told(word, token, of) if word == "forced" else Told(word)
    return replace(op("admin", "force", start, end, word, under=token), told=told)


def of_session(client: str, kind: Kind, start: float, end: float | None, word: Word | None) -> Operation:
    """What a client asks of the session that is named after it."""
    asked = op(client, kind, start, end, word)
    return replace(asked, key="", session=f"s{client}", ttl_us=0 if kind == "end" else round(TTL * 1e6))


def opened(client: str, start: float, end: float) -> Operation:
    return of_session(client, "open", start, end, "alive")


def alive(client: str, start: float, end: float) -> Operation:
    return of_session(client, "keep", start, end, "alive")


def over(client: str, start: float, end: float) -> Operation:
    return of_session(client, "keep", start, end, "over")


def ended(client: str, start: float, end: float) -> Operation:
    return of_session(client, "end", start, end, "ended")


def under(client: str, start: float, end: float, word: Word) -> Operation:
    """An acquire under the client's session that is refused with this word."""
    return replace(op(client, "acquire", start, end, word, holder=client, ttl=0), session=f"s{client}")
