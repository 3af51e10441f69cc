"""Load: who asks for what, and when, in each scenario.

Owns the beats. Each group of leases has one for either party, all evenly spread over the heartbeat: the party
renews what it holds of the group and asks for the rest. In session mode it renews its session, and `watching`
says when there is something to ask for. Promises that a beat which is late is told in the tally, and never
made up for by a burst.
"""

from collections.abc import Collection, Iterator, Sequence
from functools import partial

import trio

from berth.cli.bench.asking import BATCH_SIZE, Asking, Job, together
from berth.cli.bench.command import BenchOptions, Scenario
from berth.cli.bench.party import Party, half_of
from berth.cli.bench.tally import Tally
from berth.cli.bench.watching import Watching
from berth.runtime.clock import MICROSECONDS, Clock

CHURN_EVERY = 10
"""One in so many leases changes hands with each heartbeat."""

PART = 256
TIDY_SECONDS = 20.0


class Load:
    """The first of the parties is the holder at the start, the second one the standby."""

    def __init__(self, options: BenchOptions, scenario: Scenario, asking: Asking, clock: Clock) -> None:
        self.scenario: Scenario = scenario
        self.prepared = False
        self.silenced = 0
        """How many leases had a holder that fell silent."""
        self.all_held_seconds: float | None = None
        """How long a cold start took until both parties had an answer for every lease, and one held each."""
        self.setup_seconds = 0.0
        self.elapsed_seconds = 0.0
        self._over = trio.Event()  # what is in flight ends, and nothing new begins
        self._options = options
        self._asking = asking
        self._clock = clock
        self._leases = range(1, options.leases + 1)
        self._groups = list(_groups(self._leases, options))

    async def run(self) -> None:
        """All of it; nothing is measured when it could not be prepared."""
        await self._prepare()
        if self.prepared:
            await self._measure()

    def progress(self) -> str:
        """How it goes, for people."""
        tally = self._asking.tally
        held = sum(len(party.tenures) for party in self._asking.parties)
        errors = tally.errors.total()
        return f"{tally.requests} requests, {errors} errors, {held} of {len(self._leases)} leases held"

    async def _prepare(self) -> None:
        """Whatever comes before the measured time."""
        begun_us = self._clock.boot_us()
        if self._options.mode == "session":
            await self._keep_sessions()
        holder = self._asking.parties[0]
        if self.scenario != "coldstart":
            await self._hold_all(holder)
        self.setup_seconds = self._seconds_since(begun_us)
        sessions = len(self._halves()) if self._options.mode == "session" else 0
        self.prepared = (self.scenario == "coldstart" or len(holder.tenures) == len(self._leases)) and all(
            len(party.sessions) == sessions for party in self._asking.parties
        )

    async def _hold_all(self, party: Party) -> None:
        """Under sessions in parts, between which these are kept: all of it may take longer than a ttl."""
        if self._options.mode != "session":
            await self._asking.acquire(party, self._leases)
            return
        for at in range(0, len(self._leases), PART):
            await self._asking.acquire(party, self._leases[at : at + PART])
            await self._keep_sessions()

    async def _keep_sessions(self) -> None:
        async with trio.open_nursery() as nursery:
            for party in self._asking.parties:
                for half in self._halves():
                    nursery.start_soon(self._asking.keep_session, party, half)

    async def _measure(self) -> None:
        """The scenario, until its time is over. The tally begins anew."""
        self._asking.caller.tally = Tally()
        begun_us = self._clock.boot_us()
        async with trio.open_nursery() as watchers:
            if self._options.mode == "session":
                for party in self._asking.parties:
                    await watchers.start(Watching(self._asking, party).run)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._end_in_time)
                if self.scenario == "coldstart":
                    await self._cold_start(begun_us)
                self._start_beats(nursery)
                if self.scenario == "failover":
                    nursery.start_soon(self._fall_silent)
            watchers.cancel_scope.cancel()
        self.elapsed_seconds = self._seconds_since(begun_us)

    async def tidy(self) -> int:
        """Give everything back, uncounted; how many leases were left to expire."""
        self._asking.caller.tally = Tally()
        with trio.move_on_after(TIDY_SECONDS, shield=True):
            for party in self._asking.parties:
                if self._options.mode == "session":
                    for half in list(party.sessions):
                        await self._asking.end_session(party, half)
                await self._asking.release(party, list(party.tenures))
        return sum(len(party.tenures) for party in self._asking.parties)

    async def _end_in_time(self) -> None:
        with trio.move_on_after(self._options.duration):
            await self._over.wait()
        self._over.set()

    async def _cold_start(self, begun_us: int) -> None:
        """Both parties ask for everything at once."""
        async with trio.open_nursery() as nursery:
            for party in self._asking.parties:
                nursery.start_soon(self._asking.acquire, party, self._leases)
        if sum(len(party.tenures) for party in self._asking.parties) == len(self._leases):
            self.all_held_seconds = self._seconds_since(begun_us)

    def _start_beats(self, nursery: trio.Nursery) -> None:
        now = trio.current_time()
        count = len(self._groups) * len(self._asking.parties)
        for place, group in enumerate(self._groups):
            for offset, party in enumerate(self._asking.parties):
                share = (place * len(self._asking.parties) + offset) / count
                nursery.start_soon(self._beats, party, group, now + share * self._options.heartbeat)

    async def _beats(self, party: Party, group: Sequence[int], due: float) -> None:
        beat = 0
        while not await self._over_before(due):
            now = trio.current_time()
            self._asking.tally.late.add(int((now - due) * MICROSECONDS))
            await self._beat(party, group, beat)
            beat += 1
            due = max(due + self._options.heartbeat, trio.current_time())

    async def _over_before(self, due: float) -> bool:
        with trio.move_on_at(due):
            await self._over.wait()
        return self._over.is_set()

    async def _beat(self, party: Party, group: Sequence[int], beat: int) -> None:
        half = half_of(group[0])
        if half == party.silent_half:
            return
        held = [lease for lease in group if lease in party.tenures]
        giving = {x for x in held if self.scenario == "churn" and (x - beat) % CHURN_EVERY == 0}
        kept = [lease for lease in held if lease not in giving]
        wanted = [lease for lease in group if lease not in party.tenures]
        jobs: list[Job] = []
        if self._options.mode == "session":
            jobs.append(partial(self._asking.keep_session, party, half))
            # Nearly always none: the watch has told of what is free.
            wanted = [lease for lease in wanted if self._is_free_for(party, lease)]
        elif kept:
            jobs.append(partial(self._asking.renew, party, kept))
        if wanted:
            jobs.append(partial(self._asking.acquire, party, wanted))
        if giving:
            jobs.append(partial(self._hand_over, party, giving))
        await together(jobs)

    def _is_free_for(self, party: Party, lease: int) -> bool:
        return self._asking.may_ask(party, lease) and not self._asking.is_held(
            self._asking.rival_of(party), lease
        )

    async def _hand_over(self, party: Party, leases: Collection[int]) -> None:
        """Release, and let the other party ask at once; one that watches does so by itself."""
        await self._asking.release(party, leases)
        if self._options.mode != "session":
            await self._asking.acquire(self._asking.rival_of(party), leases)

    async def _fall_silent(self) -> None:
        """The holder, of one half of the leases, a heartbeat after the start."""
        if not await self._over_before(trio.current_time() + self._options.heartbeat):
            holder = self._asking.parties[0]
            half = holder.silent_half = self._halves()[0]
            self.silenced = sum(half_of(lease) == half for lease in holder.tenures)

    def _halves(self) -> list[int]:
        return sorted({half_of(group[0]) for group in self._groups})

    def _seconds_since(self, begun_us: int) -> float:
        return (self._clock.boot_us() - begun_us) / MICROSECONDS


def _groups(leases: Sequence[int], options: BenchOptions) -> Iterator[Sequence[int]]:
    """The leases that one beat is about: one, a batch, or all of one half, which a session keeps."""
    size = {"single": 1, "batch": BATCH_SIZE, "session": len(leases)}[options.mode]
    for half in (0, 1):
        of_half = [lease for lease in leases if half_of(lease) == half]
        yield from (of_half[at : at + size] for at in range(0, len(of_half), size))
