"""One cluster: a process that asks for every lease and, while it holds one, runs that lease's job.

Holds as `berth lease hold` does: no job without its lease, the job is over before the lease can be another's,
and on SIGTERM each job ends before its lease is released. When the process is killed, its jobs die with it.
"""

import os
import signal

import trio

from berth.cli.demo.command import HEAD_START_SECONDS, LEASES, ClusterOptions, itself
from berth.cli.demo.ledger import UP, Entry, append
from berth.cli.hold_run import Run, stop_budget_seconds
from berth.client import BerthClient, Held, LeaseLost, hold
from berth.runtime.clock import Clock, SystemClock

GRACE_SECONDS = 0.5


def run(options: ClusterOptions) -> None:
    """Compete until SIGTERM."""
    trio.run(_Cluster(options, SystemClock()).run)


class _Cluster:
    def __init__(self, options: ClusterOptions, clock: Clock) -> None:
        self._options = options
        self._clock = clock

    async def run(self) -> None:
        options = self._options
        client = BerthClient(options.api_server, api_key_file=options.api_key_file, ca_file=options.ca_file)
        with trio.open_signal_receiver(signal.SIGTERM) as asked:
            async with client, trio.open_nursery() as nursery:
                own = [lease for lease, home in LEASES.items() if home == options.cluster]
                for lease in own:
                    nursery.start_soon(self._compete, client, lease)
                nursery.start_soon(self._ask_for_the_rest, client, nursery, LEASES.keys() - set(own))
                await anext(asked)
                nursery.cancel_scope.cancel()

    async def _ask_for_the_rest(self, client: BerthClient, nursery: trio.Nursery, leases: set[str]) -> None:
        await trio.sleep(HEAD_START_SECONDS)
        for lease in leases:
            nursery.start_soon(self._compete, client, lease)
        append(
            self._options.ledger, Entry(self._clock.boot_us(), UP, self._options.cluster, "-", 0, os.getpid())
        )

    async def _compete(self, client: BerthClient, lease: str) -> None:
        options = self._options
        while True:
            try:
                async with hold(
                    client,
                    options.namespace,
                    lease,
                    holder=f"{options.cluster}/node-1",
                    ttl_seconds=options.ttl,
                    stop_budget_seconds=stop_budget_seconds(options.ttl, GRACE_SECONDS),
                ) as held:
                    await self._work(held)
            except LeaseLost:
                pass  # the job is over; ask again

    async def _work(self, held: Held) -> None:
        options = self._options
        command = itself("demo-job", f"--cluster={options.cluster}", f"--ledger={options.ledger}")
        await Run(command, [held], ttl=options.ttl, grace=GRACE_SECONDS).to_the_end()
