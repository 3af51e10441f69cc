"""Runs the bench: asks first whether it can be, shows how it goes, prints what was measured, and judges.

Promises that whatever ends it, what it holds is given back, or told to be left to expire.
"""

import signal
from collections.abc import Sequence
from typing import NamedTuple
from uuid import uuid4

import trio

from berth.cli.bench.asking import Asking
from berth.cli.bench.caller import Caller, Server
from berth.cli.bench.command import BenchOptions, Scenario
from berth.cli.bench.load import Load
from berth.cli.bench.party import Party, name_of
from berth.cli.bench.report import Result, result_of, show
from berth.cli.bench.safety import Safety
from berth.cli.bench.tally import Tally
from berth.cli.connect import call
from berth.cli.exit_codes import ExitCode, Failure
from berth.cli.output import printable, talk
from berth.client import BerthClient, BerthError
from berth.client.keys import api_key
from berth.client.urls import base_urls
from berth.config.duration import format_duration
from berth.runtime.clock import SystemClock
from berth.runtime.http import trusting
from berth.wire.problems import PROBLEMS

PROGRESS_SECONDS = 5.0
STRAYS_SECONDS = 5.0


class Found(NamedTuple):
    """What the server said before the load: its version, and what the holders' names begin with."""

    version: str
    prefix: str


def run(options: BenchOptions, scenario: Scenario) -> int:
    """The exit code: 1 when the server broke its promise, 128 + n after a signal. Raises Failure."""
    shortest_seconds = options.ttl + 2 * options.heartbeat
    if scenario == "failover" and options.duration < shortest_seconds:
        raise Failure(
            f"--duration: a failover takes the ttl and two heartbeats, {format_duration(shortest_seconds)}",
            ExitCode.USAGE,
        )
    ended = call(options, _Bench(options, scenario).run)
    if isinstance(ended, int):
        talk("ended early")
        return 128 + ended
    show(ended, options.output)
    if not ended["safety"]["ok"]:
        raise Failure(f"not safe: {printable(ended['safety']['told'][0])}")
    return ExitCode.DONE


class _Bench:
    def __init__(self, options: BenchOptions, scenario: Scenario) -> None:
        self._options = options
        self._scenario: Scenario = scenario
        self._clock = SystemClock()
        self._safety = Safety()

    async def run(self, client: BerthClient) -> Result | int:
        """What was measured, or the signal that ended it. Raises BerthError and Failure."""
        found = await self._look(client)
        options = self._options
        key = api_key(options.api_key.reveal() if options.api_key else None, options.api_key_file)
        server = Server(base_urls(options.api_server)[0], trusting(options.ca_file), key)
        async with Caller(server, options.concurrency, self._clock) as caller:
            asking = Asking(
                caller,
                self._safety,
                self._clock,
                parties=_parties(found.prefix),
                mode=options.mode,
                namespace=options.namespace,
                ttl_seconds=options.ttl_seconds,
            )
            load = Load(options, self._scenario, asking, self._clock)
            number = await self._until_a_signal(load)
            tally = caller.tally
            left = await load.tidy()
            if number:
                await self._give_back_strays(client, [party.holder for party in asking.parties])
        if left:
            talk(f"{left} leases could not be given back; they expire within {format_duration(options.ttl)}")
        if number:
            return number
        if not load.prepared:
            raise _not_prepared(tally, options)
        if not tally.answered:
            raise Failure(f"no request was answered as asked: {_codes(tally.errors)}", ExitCode.UNREACHABLE)
        return result_of(options, self._scenario, found.version, load, tally, self._safety)

    async def _look(self, client: BerthClient) -> Found:
        """Whether the server is there and lets us, so that a refusal is told once and in full."""
        version = await client.server_version()
        whoami = await client.whoami()
        prefix = f"{whoami.tenant}/" if whoami.tenant else ""
        options = self._options
        probe = f"{prefix}bench-{uuid4().hex[:8]}"
        reply = await client.acquire(
            options.namespace, name_of(1), holder=probe, ttl_seconds=options.ttl_seconds
        )
        if not reply.acquired:
            raise Failure(
                f"{options.namespace}/{name_of(1)} is held by {printable(reply.holder)}: another bench runs, "
                "or left it to expire; wait for it, or use another --namespace",
                ExitCode.NOT_MET,
            )
        await client.release(options.namespace, name_of(1), holder=probe, fencing_token=reply.fencing_token)
        return Found(version.version, prefix)

    async def _give_back_strays(self, client: BerthClient, holders: Sequence[str]) -> None:
        """What was asked for when the signal came may have been granted after everything was given back."""
        with trio.move_on_after(STRAYS_SECONDS, shield=True):
            try:
                async for lease in client.list_leases(self._options.namespace):
                    if lease.holder in holders:
                        await client.release(
                            lease.namespace,
                            lease.name,
                            holder=lease.holder,
                            fencing_token=lease.fencing_token,
                        )
            except BerthError as fault:
                talk(f"what was still being asked for may be left to expire: {fault}")

    async def _until_a_signal(self, load: Load) -> int:
        """Prepare and measure; the number of the signal that cut it short, or 0."""
        number = 0
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
            async with trio.open_nursery() as nursery:

                async def end() -> None:
                    nonlocal number
                    number = await anext(signals)
                    nursery.cancel_scope.cancel()

                nursery.start_soon(end)
                nursery.start_soon(self._show_progress, load)
                await load.run()
                nursery.cancel_scope.cancel()
        return number

    async def _show_progress(self, load: Load) -> None:
        started = trio.current_time()
        while True:
            await trio.sleep(PROGRESS_SECONDS)
            talk(f"{trio.current_time() - started:4.0f} s  {load.progress()}")


def _parties(prefix: str) -> tuple[Party, Party]:
    run_id = uuid4().hex[:8]
    return Party(f"{prefix}bench-{run_id}-a"), Party(f"{prefix}bench-{run_id}-b")


def _not_prepared(tally: Tally, options: BenchOptions) -> Failure:
    if tally.errors:
        (code, _), *_ = tally.errors.most_common(1)
        exit_code = ExitCode(PROBLEMS[code].exit_code) if code in PROBLEMS else ExitCode.UNREACHABLE
        return Failure(f"the leases could not be made ready: {_codes(tally.errors)}", exit_code)
    return Failure(
        f"some of the leases in {options.namespace} are held by others: another bench runs, or left them to "
        "expire; wait for it, or use another --namespace",
        ExitCode.NOT_MET,
    )


def _codes(errors: dict[str, int]) -> str:
    return ", ".join(f"{printable(code)} {count} times" for code, count in errors.items()) or "none was made"
