"""The sequential model: one exclusive lease by ttl, and all that each operation may do to it.

Written anew, without `berth.core`: with `decide` as the model, what is wrong in `decide` would be right. That
the two agree, where instants are exact, is a test of its own. Here they are not: a store judges and renews at
some instant between an operation's invocation and its return, so the end of a tenure is an interval, and so
is every judgement about it.

- A tenure may be over for another only where its ttl can have run out: the last renewal that counted was
  invoked more than a ttl before the other operation took effect. It is never shortened.
- It may be alive until its ttl has certainly run out. A store that goes by what each server has itself
  observed (`observes`) may keep it for longer, and one server for longer than another.
- Every new tenure has the next token. What is refused tells the lease as it stands.
- A grant in line may be taken back where its caller has gone, until the same holder is told of it.
- What has expired may be written down as ended at any time. No lock delay, no shared lease, no session.

Clocks of one machine run at one rate; `RATE_PPM` and `JITTER_US` are what is granted to them nevertheless.
"""

from collections.abc import Iterator
from math import inf
from typing import NamedTuple

from tests.histories.operations import Operation, Told, seconds

RATE_PPM = 1_000
JITTER_US = 2_000


UNDER_ITS_TOKEN = {"granted", "held", "renewed", "forced"}
"""Replies to what came while a tenure stood, under the token that they tell."""


class Lease(NamedTuple):
    """The lease, its newest tenure, and what is known of the tenure's end.

    No holder: it is known to be free. `clean`: the last tenure that ended did so by its holder. The last
    write was made after `since_us`. `untold`: granted to one who may have gone.
    """

    token: int = 0
    holder: str = ""
    ends_after_us: float = -inf
    ends_before_us: float = -inf
    clean: bool = True
    since_us: float = -inf
    untold: bool = False


class Leases:
    """The model of every lease of one store."""

    initial = Lease()

    def __init__(self, *, observes: bool = False) -> None:
        self._observes = observes

    def after(self, lease: Lease, asked: Operation, until_us: float) -> Iterator[Lease]:
        """Every state that may follow."""
        for before in (lease, lease._replace(holder="", clean=True, untold=False))[: 1 + lease.untold]:
            match asked.kind:
                case "acquire":
                    yield from self._acquired(before, asked, until_us)
                case "renew":
                    yield from self._renewed(before, asked, until_us)
                case "release":
                    yield from self._released(before, asked, until_us)
                case "force":
                    yield from self._forced(before, asked, until_us)
                case "get":
                    yield from self._seen(before, asked, until_us)

    def is_too_late(self, lease: Lease, asked: Operation) -> bool:
        """A lease is held under a token, then free after it, then held under the next: it never goes back."""
        if asked.told is None or not asked.told.token:
            return False
        if asked.told.token == lease.token:
            return not lease.holder and asked.told.word in UNDER_ITS_TOKEN
        return asked.told.token < lease.token

    def text(self, lease: Lease) -> str:
        if not lease.token:
            return "unused"
        if not lease.holder:
            return f"free after token {lease.token}"
        ends = f"between {seconds(lease.ends_after_us)} and {seconds(lease.ends_before_us)}"
        return f"held by {lease.holder} under token {lease.token}, which expires {ends}"

    def _acquired(self, lease: Lease, asked: Operation, until_us: float) -> Iterator[Lease]:
        told = asked.told
        is_mine = lease.holder == asked.holder
        if told is None or told.word == "granted":
            if is_mine and self._may_live(lease, asked):
                yield from _told_so(_kept(lease, asked, until_us), told)
            if not lease.holder or _may_be_over(lease, until_us):
                yield from _told_so(_taken(lease, asked, until_us), told)
        elif told.word == "held":
            if not is_mine and _stands(lease, told) and self._may_live(lease, asked):
                yield _alive_after(lease, asked)
        elif told.word == "closed" and told.token == lease.token:
            yield from self._free(lease, until_us)

    def _renewed(self, lease: Lease, asked: Operation, until_us: float) -> Iterator[Lease]:
        told = asked.told
        is_it = _is_of(lease, asked)
        if told is None or told.word == "renewed":
            if is_it and (told is None or _stands(lease, told)) and self._may_live(lease, asked):
                yield _kept(lease, asked, until_us)
        elif told.word == "lost" and told.token == lease.token:
            if told.holder != lease.holder:
                yield from [_ended(lease)] if not told.holder and _may_be_over(lease, until_us) else []
            elif is_it:
                yield from self._free(lease, until_us)
            else:
                yield lease

    def _released(self, lease: Lease, asked: Operation, until_us: float) -> Iterator[Lease]:
        told = asked.told
        is_it = _is_of(lease, asked)
        if told is None or told.word == "released":
            if is_it:
                yield _ended(lease, asked, clean=True)
            elif told is not None and not lease.holder:
                yield lease
            if told is not None and _may_be_over(lease, until_us):
                yield _ended(lease)
        elif told.word == "not_holder" and lease.holder and not is_it:
            yield lease

    def _forced(self, lease: Lease, asked: Operation, until_us: float) -> Iterator[Lease]:
        told = asked.told
        is_it = bool(lease.holder) and asked.token == lease.token
        if told is None or told.word == "forced":
            if is_it and (told is None or _stands(lease, told)):
                yield _ended(lease, asked)
        elif told.word == "never":
            yield from [lease] if not lease.token else []
        elif told.word == "stale_token" and lease.token:
            if not is_it:
                yield lease
            elif _may_be_over(lease, until_us):
                yield _ended(lease)

    def _seen(self, lease: Lease, asked: Operation, until_us: float) -> Iterator[Lease]:
        told = asked.told
        if told is None:
            return
        if told.word == "never":
            yield from [lease] if not lease.token else []
        elif told.word == "held":
            if _stands(lease, told) and self._may_live(lease, asked):
                yield _alive_after(lease, asked)
        elif told.word == "free" and lease.token and told.token == lease.token:
            yield from self._free(lease, until_us)

    def _may_live(self, lease: Lease, asked: Operation) -> bool:
        return bool(lease.holder) and (self._observes or asked.invoked_us <= lease.ends_before_us)

    def _free(self, lease: Lease, until_us: float) -> Iterator[Lease]:
        """The lease where nobody may hold it now; then its tenure was over by then, for every database."""
        if not lease.holder:
            yield lease
        elif _may_be_over(lease, until_us):
            yield (
                lease
                if self._observes
                else lease._replace(ends_before_us=min(lease.ends_before_us, until_us + JITTER_US))
            )


def _may_be_over(lease: Lease, until_us: float) -> bool:
    return bool(lease.holder) and until_us > lease.ends_after_us


def _is_of(lease: Lease, asked: Operation) -> bool:
    return (lease.holder, lease.token) == (asked.holder, asked.token)


def _stands(lease: Lease, told: Told) -> bool:
    return (lease.holder, lease.token) == (told.holder, told.token)


def _told_so(lease: Lease, told: Told | None) -> Iterator[Lease]:
    """The lease where it is what the caller was told."""
    if told is None or (_stands(lease, told) and told.clean in (None, lease.clean)):
        yield lease


def _taken(lease: Lease, asked: Operation, until_us: float) -> Lease:
    clean = lease.clean and not lease.holder
    free = Lease(lease.token + 1, asked.holder, clean=clean, since_us=lease.since_us)
    return _kept(free, asked, until_us)._replace(untold=asked.waits and asked.told is None)


def _kept(lease: Lease, asked: Operation, until_us: float) -> Lease:
    """The tenure renewed: after the invocation and after the write before, and never to an earlier end."""
    since_us = max(asked.invoked_us, lease.since_us)
    slack_us = asked.ttl_us * RATE_PPM // 1_000_000 + JITTER_US
    return lease._replace(
        ends_after_us=max(lease.ends_after_us, since_us + asked.ttl_us - slack_us),
        ends_before_us=max(lease.ends_before_us, until_us + asked.ttl_us + slack_us),
        since_us=since_us,
        untold=False,
    )


def _ended(lease: Lease, asked: Operation | None = None, *, clean: bool = False) -> Lease:
    """The lease free: by this operation, or because its end was written down."""
    since_us = lease.since_us if asked is None else max(asked.invoked_us, lease.since_us)
    return Lease(lease.token, clean=clean, since_us=since_us)


def _alive_after(lease: Lease, asked: Operation) -> Lease:
    """Somebody was told that it is held: so it was when that was asked."""
    return lease._replace(ends_after_us=max(lease.ends_after_us, asked.invoked_us - JITTER_US))
