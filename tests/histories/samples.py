"""Histories of one lease that are right, and many that are not.

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


RIGHT: dict[str, History] = {
    "nothing": [],
    "only what nobody knows": [maybe("a", "acquire", 0)],
    "one after the other": [
        never("c", 0, 1),
        grant("a", 1, 2, 1, clean=True),
        held("c", 2, 3, 1, "a"),
        refused("b", 3, 4, 1, "a"),
        renew("a", 4, 5, 1),
        release("a", 6, 7, 1),
        free("c", 8, 9, 1),
        grant("b", 9, 10, 2, clean=True),
    ],
    "a takeover after the ttl": [grant("a", 0, 1, 1), grant("b", 10.5, 11.5, 2, clean=False)],
    "a takeover whose ttl ran out while it waited": [grant("a", 0, 1, 1), grant("b", 2, 11.5, 2)],
    "a takeover counted from the sending": [grant("a", 0, 9, 1), grant("b", 9.5, 10.5, 2)],
    "its holder takes it anew": [grant("a", 0, 1, 1), grant("a", 12, 13, 2, clean=False)],
    "its holder keeps it": [grant("a", 0, 1, 1), grant("a", 9, 10, 1), held("c", 18, 18.5, 1, "a")],
    "a shorter ttl shortens nothing": [
        grant("a", 0, 1, 1),
        renew("a", 1, 2, 1, ttl=1),
        held("c", 9, 9.5, 1, "a"),
    ],
    "two ask at once, the later one wins": [
        refused("a", 0, 5, 1, "b"),
        grant("b", 1, 4, 1),
    ],
    "a read that overlaps a grant tells of before or after": [
        grant("a", 0, 5, 1),
        held("c", 1, 2, 1, "a"),
        held("d", 3, 4, 1, "a"),
    ],
    "a lost reply of a grant": [maybe("a", "acquire", 0), refused("b", 1, 2, 1, "a"), grant("a", 3, 4, 1)],
    "a lost reply of what was never done": [maybe("a", "acquire", 0), grant("b", 1, 2, 1)],
    "an acquire that arrives late": [
        maybe("a", "acquire", 0),
        grant("b", 1, 2, 1),
        release("b", 3, 4, 1),
        refused("b", 20, 21, 2, "a"),
    ],
    "a renewal that may have arrived": [
        grant("a", 0, 1, 1),
        maybe("a", "renew", 8, 1),
        held("c", 17, 18, 1, "a"),
    ],
    "and one that may not": [grant("a", 0, 1, 1), maybe("a", "renew", 8, 1), grant("b", 11, 12, 2)],
    "a release that may have arrived": [
        grant("a", 0, 1, 1),
        maybe("a", "release", 1, 1),
        grant("b", 2, 3, 2, clean=True),
    ],
    "a grant in line taken back": [
        maybe("a", "acquire", 0, waits=True),
        refused("b", 1, 2, 1, "a"),
        grant("b", 3, 4, 2, clean=True),
    ],
    "a renewal decided while the tenure lived": [
        grant("a", 0, 1, 1),
        free("c", 10.5, 11.2, 1),
        renew("a", 9, 12, 1),
    ],
    "a renewal after the ttl of what was taken over": [
        grant("a", 0, 1, 1),
        grant("b", 11, 12, 2),
        lost("a", 12, 13, 1, 2, "b"),
        release("a", 13, 14, 1, "not_holder"),
    ],
    "an expired tenure told to its holder": [
        grant("a", 0, 1, 1),
        lost("a", 12, 13, 1, 1, "a"),
        release("a", 14, 15, 1),
        grant("b", 16, 17, 2, clean=True),
    ],
    "an expiry that was written down": [
        grant("a", 0, 1, 1),
        lost("a", 12, 13, 1, 1),
        release("b", 13, 14, 7),
        grant("b", 15, 16, 2, clean=False),
    ],
    "ended by force": [
        forced(0, 1, 1, "", "never"),
        grant("a", 1, 2, 1),
        forced(2, 3, 1, "a"),
        forced(3, 4, 1, "", "stale_token"),
        lost("a", 4, 5, 1, 1),
        grant("b", 5, 6, 2, clean=False),
    ],
    "not granted past those in line": [
        grant("a", 0, 1, 1),
        release("a", 1, 2, 1),
        op("b", "acquire", 2, 3, "closed", 1, holder="b"),
    ],
}
RIGHT |= {
    "a session keeps its lease": [
        opened("a", 0, 1),
        grant("a", 1, 2, 1, under="sa"),
        alive("a", 8, 9),
        held("c", 17, 18, 1, "a"),
        op("a", "renew", 17, 18, "held_by_session", holder="a", under=1),
        op("admin", "force", 17, 18, "held_by_session", under=1),
        refused("b", 17, 18, 1, "a"),
    ],
    "a takeover ends the session": [
        opened("a", 0, 1),
        grant("a", 1, 2, 1, under="sa"),
        grant("b", 11, 12, 2, clean=False),
        over("a", 12, 13),
        under("a", 13, 14, "session_ended"),
    ],
    "its end frees the lease": [
        opened("a", 0, 1),
        grant("a", 1, 2, 1, under="sa"),
        ended("a", 3, 4),
        free("c", 4, 5, 1),
        grant("b", 5, 6, 2, clean=True),
    ],
    "a grant under a session that ends meanwhile": [
        opened("a", 0, 1),
        grant("a", 2, 6, 1, under="sa"),
        replace(ended("c", 3, 4), session="sa"),
        grant("b", 7, 8, 2),
    ],
    "another kind of tenure is refused": [
        opened("a", 0, 1),
        grant("a", 1, 2, 1),
        under("a", 2, 3, "held_by_ttl"),
        release("a", 3, 4, 1),
        grant("a", 4, 5, 2, under="sa"),
        op("a", "acquire", 5, 6, "held_by_session", holder="a"),
        release("a", 6, 7, 2),
        grant("a", 7, 8, 3, clean=True),
    ],
    "an end of a session that may have come": [
        opened("a", 0, 1),
        grant("a", 1, 2, 1, under="sa"),
        of_session("a", "end", 3, None, None),
        grant("b", 5, 6, 2, clean=True),
    ],
    "ended after somebody else had ended it": [
        opened("a", 0, 1),
        grant("a", 1, 2, 1, under="sa"),
        ended("a", 12, 13),
        grant("b", 14, 15, 2, clean=False),
    ],
}
WRONG: dict[str, History] = {
    "a token given twice": [grant("a", 0, 1, 1), release("a", 1, 2, 1), grant("b", 2, 3, 1)],
    "a token left out": [grant("a", 0, 1, 1), release("a", 1, 2, 1), grant("b", 2, 3, 3)],
    "a token that goes back": [grant("a", 0, 1, 1), grant("b", 12, 13, 2), held("c", 13, 14, 1, "a")],
    "two holders": [grant("a", 0, 1, 1), grant("b", 2, 3, 2)],
    "two holders, of which one is known only by its effect": [
        maybe("a", "acquire", 0),
        refused("c", 1, 2, 1, "a"),
        grant("b", 3, 4, 2),
    ],
    "a takeover just before the ttl has run out": [grant("a", 0, 1, 1), grant("b", 9, 9.9, 2)],
    "a takeover in spite of a renewal": [grant("a", 0, 1, 1), renew("a", 8, 9, 1), grant("b", 11, 12, 2)],
    "a takeover of what was just seen alive": [
        grant("a", 0, 15, 1),
        held("c", 13, 14, 1, "a"),
        grant("b", 11, 12, 2),
    ],
    "two winners of one compare-and-swap": [grant("a", 0, 5, 1), grant("b", 0, 5, 1)],
    "two winners of two": [grant("a", 0, 5, 1), grant("b", 0, 5, 2)],
    "a lost update": [grant("a", 0, 1, 1), grant("b", 1, 2, 1)],
    "a lost release": [grant("a", 0, 1, 1), release("a", 1, 2, 1), held("c", 2, 3, 1, "a")],
    "a renewal of no effect": [grant("a", 0, 1, 1), renew("a", 8, 9, 1), free("c", 12, 13, 1)],
    "a stale read": [grant("a", 0, 1, 1), never("c", 2, 3)],
    "a stale read of who holds it": [
        grant("a", 0, 1, 1),
        release("a", 1, 2, 1),
        grant("b", 2, 3, 2),
        free("c", 3, 4, 1),
    ],
    "reads of two clients out of order": [
        grant("a", 0, 5, 1),
        held("c", 1, 2, 1, "a"),
        never("d", 3, 4),
    ],
    "a read of what was never written": [grant("a", 0, 1, 1), held("c", 1, 2, 1, "b")],
    "a renewal accepted after a takeover": [
        grant("a", 0, 1, 1),
        grant("b", 11, 12, 2),
        renew("a", 12, 13, 1),
    ],
    "a renewal accepted after a release": [grant("a", 0, 1, 1), release("a", 1, 2, 1), renew("a", 2, 3, 1)],
    "a renewal under somebody else's token": [grant("a", 0, 1, 1), renew("b", 1, 2, 1)],
    "a renewal refused while the tenure lived": [grant("a", 0, 1, 1), lost("a", 2, 3, 1, 1, "a")],
    "a refusal that tells an old token": [
        grant("a", 0, 1, 1),
        grant("b", 11, 12, 2),
        lost("a", 12, 13, 1, 1, "b"),
    ],
    "a release of somebody else's tenure": [
        grant("a", 0, 1, 1),
        release("b", 1, 2, 1),
        grant("b", 2, 3, 2),
    ],
    "a release that was refused and done": [
        grant("a", 0, 1, 1),
        release("a", 1, 2, 1, "not_holder"),
        grant("b", 2, 3, 2),
    ],
    "a release refused to its holder": [grant("a", 0, 1, 1), release("a", 1, 2, 1, "not_holder")],
    "a release told as done of a tenure that lives": [grant("a", 0, 1, 1), release("b", 1, 2, 7)],
    "refused though free": [grant("a", 0, 1, 1), release("a", 1, 2, 1), refused("b", 3, 4, 1, "a")],
    "refused for those in line while it is held": [
        grant("a", 0, 1, 1),
        op("b", "acquire", 2, 3, "closed", 1, holder="b"),
    ],
    "refused to its own holder": [grant("a", 0, 1, 1), refused("a", 2, 3, 1, "a")],
    "an unknown grant that comes before it was asked for": [
        refused("b", 0, 1, 1, "a"),
        maybe("a", "acquire", 2),
    ],
    "an unknown renewal that revives what was taken over": [
        grant("a", 0, 1, 1),
        maybe("a", "renew", 8, 1),
        grant("b", 11, 12, 2),
        held("c", 13, 14, 1, "a"),
    ],
    "an unknown release that both was and was not": [
        grant("a", 0, 1, 1),
        maybe("a", "release", 1, 1),
        grant("b", 2, 3, 2),
        renew("a", 4, 5, 1),
    ],
    "one unknown grant that counts twice": [
        maybe("a", "acquire", 0),
        refused("b", 1, 2, 1, "a"),
        op("b", "release", 2, 3, "released", holder="a", under=1),
        refused("b", 3, 4, 2, "a"),
    ],
    "a grant taken back that was told": [
        grant("a", 0, 1, 1, waits=True),
        grant("b", 3, 4, 2, clean=True),
    ],
    "a grant taken back after its holder was told of it": [
        maybe("a", "acquire", 0, waits=True),
        grant("a", 1, 2, 1),
        grant("b", 3, 4, 2),
    ],
    "a clean end told after an expiry": [grant("a", 0, 1, 1), grant("b", 11, 12, 2, clean=True)],
    "no clean end told after a release": [
        grant("a", 0, 1, 1),
        release("a", 1, 2, 1),
        grant("b", 2, 3, 2, clean=False),
    ],
    "force that ends another's": [grant("a", 0, 1, 1), forced(2, 3, 1, "b")],
    "force of no effect": [grant("a", 0, 1, 1), forced(2, 3, 1, "a"), renew("a", 3, 4, 1)],
    "force refused under the token that stands": [grant("a", 0, 1, 1), forced(2, 3, 1, "", "stale_token")],
}
WRONG |= {
    "a takeover while the session lives": [
        opened("a", 0, 1),
        grant("a", 1, 2, 1, under="sa"),
        alive("a", 8, 9),
        grant("b", 12, 13, 2),
    ],
    "a session that lives on after a takeover": [
        opened("a", 0, 1),
        grant("a", 1, 2, 1, under="sa"),
        grant("b", 11, 12, 2),
        alive("a", 12, 13),
    ],
    "a session that lives on after its end": [
        opened("a", 0, 1),
        ended("a", 1, 2),
        alive("a", 2, 3),
        grant("a", 4, 5, 1, under="sa"),
    ],
    "a session over before its time": [opened("a", 0, 1), over("a", 2, 3), grant("a", 4, 5, 1, under="sa")],
    "a session ended before its time": [opened("a", 0, 1), under("a", 2, 3, "session_ended")],
    "a tenure under a session taken for one by ttl": [
        opened("a", 0, 1),
        grant("a", 1, 2, 1, under="sa"),
        renew("a", 2, 3, 1),
    ],
    "a tenure by ttl taken for one under a session": [
        opened("a", 0, 1),
        grant("a", 1, 2, 1),
        op("a", "acquire", 2, 3, "held_by_session", holder="a"),
        under("a", 3, 4, "held_by_session"),
    ],
    "ended by force under a session": [
        opened("a", 0, 1),
        grant("a", 1, 2, 1, under="sa"),
        forced(2, 3, 1, "a"),
    ],
    "a clean end of what had expired and was written off": [
        opened("a", 0, 1),
        grant("a", 1, 2, 1, under="sa"),
        over("a", 12, 13),
        ended("a", 13, 14),
        grant("b", 14, 15, 2, clean=True),
    ],
}

TOO_LONG: dict[str, History] = {
    "an unknown renewal that comes before it was sent": [
        grant("a", 0, 1, 1),
        held("c", 12, 13, 1, "a"),
        maybe("a", "renew", 14, 1),
    ],
    "told as held after the ttl": [grant("a", 0, 1, 1), refused("b", 12, 13, 1, "a")],
    "renewed after the ttl": [grant("a", 0, 1, 1), renew("a", 12, 13, 1)],
    "kept after the ttl": [grant("a", 0, 1, 1), grant("a", 12, 13, 1)],
    "seen as free, then as held": [grant("a", 0, 9, 1), free("c", 10, 11, 1), held("d", 12, 13, 1, "a")],
    "held under a session that has ended": [
        opened("a", 0, 1),
        grant("a", 1, 2, 1, under="sa"),
        ended("a", 2, 3),
        refused("b", 4, 5, 1, "a"),
    ],
    "granted under a session that has ended": [
        opened("a", 0, 1),
        ended("a", 2, 3),
        grant("a", 4, 5, 1, under="sa"),
    ],
    "held under a session that has expired": [
        opened("a", 0, 1),
        grant("a", 8, 9, 1, under="sa"),
        held("c", 12, 13, 1, "a"),
    ],
    "a session renewed after it has expired": [
        opened("a", 0, 1),
        alive("a", 12, 13),
        grant("a", 13, 14, 1, under="sa"),
    ],
}
