"""The story: four acts with two clusters, told while they happen.

Owns the order of events, the words and the waiting; every wait has a limit. What was measured is judged by
`verdict`.
"""

from collections.abc import Callable, Sequence

import trio
from msgspec import UNSET

from berth.cli.demo.command import CLUSTERS, HEAD_START_SECONDS
from berth.cli.demo.ledger import UP
from berth.cli.demo.stage import Stage, Unmet
from berth.cli.demo.verdict import HAND_OVER_SECONDS, TAKE_OVER_SECONDS, Measured
from berth.cli.demo.view import Row, View
from berth.runtime.clock import MICROSECONDS

LOOK_SECONDS = 0.2
START_SECONDS = 20.0

_INTRODUCTION = """\
berth demo: two clusters, east and west, share four leases of one server.
Whoever holds a lease runs its job; nobody else may. A holder renews its leases all the time. One that is \
silent for {ttl} s, the ttl, loses them. Ctrl+C ends the demo.
"""

_SHARE = """
1. Both clusters start. Each asks for two leases at once and for the others a moment later: one gets them, \
the other waits. The token is the number of the holder's turn.
"""

_KILL = """
2. {victim} is killed (SIGKILL), and its jobs die with it. It cannot give its leases back, and from outside \
nobody knows whether it is dead or only slow. So they stay closed until the time left is over; then {other} \
takes them, with the next token.
"""

_RETURN = """
3. {victim} comes back. {other} holds its leases now, so it waits. Should something still write with an old \
token, the target can see that by the number, and refuse.
"""

_HAND_OVER = """
4. {other} is asked to end (SIGTERM). It ends each job first and then releases the lease, so that {victim} \
need not wait for the ttl.
"""


class Story:
    def __init__(self, stage: Stage, view: View) -> None:
        self._stage = stage
        self._view = view
        self._pause_seconds = 1.5 * stage.ttl_seconds

    async def tell(self) -> Measured:
        """All acts. Raises Unmet."""
        stage = self._stage
        self._view.say(_INTRODUCTION.format(ttl=stage.ttl_seconds))
        victim, other = await self._share()
        killed_us, expires_us = await self._kill(victim, other)
        await self._return(victim, other)
        asked_us = await self._hand_over(victim, other)
        stage.ask_to_end(victim)
        await stage.ended(victim)
        return Measured(stage.ttl_seconds, stage.ledger.read(), killed_us, expires_us, asked_us)

    async def _share(self) -> tuple[str, str]:
        self._view.say(_SHARE)
        for cluster in CLUSTERS:
            await self._stage.start(cluster)
        rows = await self._until(
            lambda rows: all(row.run for row in rows),
            START_SECONDS,
            "the clusters did not take all the leases",
        )
        await self._pause()
        victim = rows[0].holder
        (other,) = (cluster for cluster in CLUSTERS if cluster != victim)
        return victim, other

    async def _kill(self, victim: str, other: str) -> tuple[int, dict[str, int]]:
        """When it was killed, and when at the earliest each of its leases can expire."""
        stage = self._stage
        self._view.say(_KILL.format(victim=victim, other=other))
        killed_us = stage.clock.boot_us()
        await stage.kill(victim)
        asked_us = stage.clock.boot_us()
        expires_us = {
            name: asked_us + int(lease.remaining_seconds * MICROSECONDS)
            for name, lease in (await stage.leases()).items()
            if lease.holder and lease.holder.startswith(f"{victim}/") and lease.remaining_seconds is not UNSET
        }
        await self._until(
            lambda rows: _all_run_in(other, rows),
            stage.ttl_seconds + 2 * TAKE_OVER_SECONDS,
            f"{other} did not take over after the kill",
        )
        await self._pause()
        return killed_us, expires_us

    async def _return(self, victim: str, other: str) -> None:
        self._view.say(_RETURN.format(victim=victim, other=other))
        since = len(self._stage.ledger.entries)
        await self._stage.start(victim)
        await self._until(
            lambda _: any(entry.event == UP for entry in self._stage.ledger.entries[since:]),
            START_SECONDS + HEAD_START_SECONDS,
            f"{victim} did not come back",
        )
        await self._pause()

    async def _hand_over(self, victim: str, other: str) -> int:
        stage = self._stage
        self._view.say(_HAND_OVER.format(victim=victim, other=other))
        asked_us = stage.clock.boot_us()
        stage.ask_to_end(other)
        await self._until(
            lambda rows: _all_run_in(victim, rows),
            2 * HAND_OVER_SECONDS,
            f"{victim} did not take over after the release",
        )
        await stage.ended(other)
        await self._pause()
        return asked_us

    async def _until(
        self, happened: Callable[[Sequence[Row]], bool], within_seconds: float, unmet: str
    ) -> Sequence[Row]:
        """Show how things stand until something has happened, and how they stand then. Raises Unmet."""
        give_up = trio.current_time() + within_seconds
        while True:
            rows = await self._stage.look()
            self._view.show(rows)
            if happened(rows):
                return rows
            if trio.current_time() >= give_up:
                raise Unmet(f"{unmet} within {within_seconds:g} s")
            await trio.sleep(LOOK_SECONDS)

    async def _pause(self) -> None:
        """Time to read, while the table goes on."""
        until = trio.current_time() + self._pause_seconds
        await self._until(lambda _: trio.current_time() >= until, 2 * self._pause_seconds + START_SECONDS, "")


def _all_run_in(cluster: str, rows: Sequence[Row]) -> bool:
    return all(row.run is not None and row.run.cluster == cluster for row in rows)
