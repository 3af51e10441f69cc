"""Tenures: many leases kept and contended for under few sessions.

Owns the way in: what is wanted is told here, and where it stands is asked here. Promises that of an exclusive
lease nothing is `Held` by two who keep to `remaining_seconds`, however late a reply is; that a standby asks
when its lease is free and not before; and that who is told of a change is told of each.

It starts and stops nothing: who uses it stops what ran under a tenure that is lost, and releases or asks
again after that.
"""

from collections.abc import Callable
from math import inf
from random import Random

import trio

from berth.client.errors import OutcomeUnknown
from berth.client.held import reader_of
from berth.client.keeper import LOOK_SECONDS
from berth.client.tenures.alive import Kept
from berth.client.tenures.asking import Asking
from berth.client.tenures.book import Book
from berth.client.tenures.calls import Calls
from berth.client.tenures.keeping import Keeping
from berth.client.tenures.orphans import Orphans
from berth.client.tenures.seeing import Seeing
from berth.client.tenures.terms import LeaseId, Standing, Terms, Unasked
from berth.runtime.clock import MICROSECONDS, Clock
from berth.runtime.log import Logger

_UNWANTED = Terms(30, 10.0, "at-most-once", 0, 0)
"""Of a lease that is released, and was never wanted here."""

RELEASE_SECONDS = 20.0
"""How long a release is waited for; it goes on after that."""


class Tenures:
    """The leases that are wanted of one lease service, by one `instance` of their holders.

    `on_change(lease)` is called whenever a standing has changed otherwise than by the caller's own `want`,
    `unwant` or `again`: its kind, token or holder, or whether there is trouble; also at the moment at which
    a deadline passes. It must not block. `run` must be running for anything to happen.
    """

    def __init__(
        self,
        client: Calls,
        *,
        instance: str,
        clock: Clock,
        rng: Random,
        logger: Logger,
        on_change: Callable[[LeaseId], None],
    ) -> None:
        self._book = Book(reader_of(clock), rng, on_change)
        self._orphans = Orphans(self._book)
        self._seeing = Seeing(client, self._book, self._orphans, logger=logger)
        self._asking = Asking(client, self._book)
        self._keeping = Keeping(client, self._book, self._seeing, instance=instance, logger=logger)

    def want(self, lease: LeaseId, terms: Terms, recorded_token: int = 0) -> None:
        """From now on the lease is asked for, and kept. Cheap when nothing is new.

        A ttl that is new counts with the next tenure, and a larger budget with it. So do other semantics: who
        wants others than `Held` tells stops what runs, and releases it.

        `recorded_token` is the one under which a process before has left something running here. It counts
        the first time that this process hears of the lease: until the server has answered it may be held, and
        `remaining_seconds` says for how long; when the answer is another token, or none, it is Lost.
        """
        self._book.want(lease, terms, recorded_token)

    def unwant(self, lease: LeaseId) -> None:
        """Do not ask for it any more. What is held stays held until it is released; what was lost, and what
        was granted since, is not given to others before `again` or `release` says that it was stopped."""
        entry = self._book.find(lease)
        if entry is not None:
            self._book.leave(entry)

    def again(self, lease: LeaseId) -> None:
        """What was lost has been stopped. If the lease is wanted it is asked for again; if it is not, what
        the server has as ours is given up."""
        entry = self._book.find(lease)
        if entry is not None:
            self._book.again(entry)

    def standing(self, lease: LeaseId) -> Standing:
        """Where the lease stands, by the clocks as they are now."""
        entry = self._book.find(lease)
        if entry is None:
            return Unasked()
        self._book.look_at(entry)
        return entry.standing

    def remaining_seconds(self, lease: LeaseId) -> float:
        """Until the stop must begin if nothing is heard, at least 0; inf where nothing is held, or the lease
        is at-least-once."""
        entry = self._book.find(lease)
        left_us = None if entry is None else entry.left_us(self._book.now())
        return inf if left_us is None else left_us / MICROSECONDS

    async def release(self, lease: LeaseId, token: int) -> None:
        """Give the tenure up. Whoever calls has stopped what ran under it, and starts nothing under it again,
        whatever comes of the call.

        Afterwards it is Unasked, and not asked for before the next `want` or `again`. Somebody else's by now
        is no error. Raises BerthError when the server does not say that it is done: then it is Lost
        ("released"), and it is tried again by itself until the server does.
        """
        entry = self._book.find(lease)
        if entry is None:
            entry = self._book.enter(lease, _UNWANTED)
        self._book.give_up(entry, token)
        answer = self._asking.answer_to_release(entry)
        with trio.move_on_after(RELEASE_SECONDS):
            await answer.known.wait()
        if not answer.known.is_set():
            raise OutcomeUnknown(f"{lease.namespace}/{lease.name}: the server has not answered the release")
        if answer.fault is not None:
            raise answer.fault

    def orphans(self) -> dict[LeaseId, int]:
        """Tenures, by their tokens, that are kept alive here with others, and that nobody has wanted here: a
        process before has won them. Cheap, and as far as has been heard.

        They mean something once all that is wanted has been told, and stay until somebody `want`s or
        `release`s them. Whoever releases one vouches that nothing runs under it.
        """
        return self._orphans.tokens()

    def kept(self) -> tuple[Kept, ...]:
        """The sessions under which something is held or wanted, for who is to keep them alive after this."""
        sessions = self._book.sessions.values()
        return tuple(Kept(each.id, each.heartbeat_seconds) for each in sessions if self._book.needs(each))

    async def end_sessions(self) -> None:
        """Of a handover: end the sessions under which nothing is held or wanted."""
        await self._keeping.end_idle()

    async def run(self) -> None:
        """Keep what is held and ask for what is wanted, until cancelled: then all is left as it is, for the
        next process to go on with."""
        async with trio.open_nursery() as nursery:
            for task in (self._keeping.run, self._asking.run, self._seeing.run, self._watch_deadlines):
                nursery.start_soon(task)

    async def _watch_deadlines(self) -> None:
        while True:
            sooner = self._book.sooner
            now = self._book.now()
            self._book.look(now)
            self._book.forget_idle()
            left_seconds = self._book.next_look_us(now) / MICROSECONDS
            # Trio's clock stands still in suspend: the others are looked at once in a while.
            with trio.move_on_after(min(LOOK_SECONDS, left_seconds)):
                await sooner.wait()
