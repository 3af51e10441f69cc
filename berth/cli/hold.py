"""What `berth lease hold` does: wait for the leases, run the command, stop it, give the leases back.

Owns the order of things and the signals of this process. Promises that a lease is given back only when
nothing of the command is left, and left to expire where that is not known. When and how long one may act is
`berth.client.hold`'s to say; the command itself is `hold_run`'s.
"""

import signal
from collections.abc import Sequence
from contextlib import AsyncExitStack
from math import inf

import trio

from berth.cli.connect import call, holder_of
from berth.cli.exit_codes import ExitCode, Failure
from berth.cli.hold_leases import ToldLeases
from berth.cli.hold_line import Line
from berth.cli.hold_run import Run, grace_that_fits, say, stop_budget_seconds
from berth.cli.lease import HoldOptions
from berth.client import BerthClient, Held, LeaseLost, LeaseNotAcquired, OutcomeUnknown, Unreachable
from berth.client import hold as held_lease
from berth.client.hold import new_instance
from berth.config.duration import format_duration
from berth.runtime.child import ChildRemains
from berth.runtime.signals import not_ignored
from berth.runtime.supervise import alongside

RETRY_SECONDS = 1.0


def hold(options: HoldOptions, line: Line) -> int:
    """The exit code: the command's own, 128 + n for a signal that came while waiting. Raises Failure."""
    grace_seconds = grace_that_fits(options.ttl, options.grace)
    if grace_seconds < options.grace and options.semantics != "at-least-once":
        say(
            f"with a ttl of {format_duration(options.ttl)} the command has {grace_seconds:.1f} s to end when"
            f" the lease is lost, not {format_duration(options.grace)}; a longer --ttl gives it more"
        )
    return call(options, _Session(options, line).run)


class _Session:
    """One process's wish to hold its leases and run its command."""

    def __init__(self, options: HoldOptions, line: Line) -> None:
        self._options = options
        self._line = line
        self._all = trio.CancelScope()
        self._signal = 0  # the one that came first
        self._run: Run | None = None

    async def run(self, client: BerthClient) -> int:
        with self._all:
            async with alongside(self._listen):
                try:
                    return await self._hold(client)
                except LeaseNotAcquired as fault:
                    code = ExitCode.NOT_MET if fault.reply else ExitCode.UNREACHABLE
                    raise Failure(f"not acquired: {fault}", code) from fault
                except ChildRemains as fault:
                    raise Failure(f"{fault}; the lease is left to expire") from fault
                except (OSError, trio.TooSlowError) as fault:
                    why = str(fault) or "the machine is too busy"
                    raise Failure(f"the command cannot be started: {why}") from fault
        return 128 + self._signal

    async def _listen(self) -> None:
        optional = not_ignored(signal.SIGINT, signal.SIGHUP)
        with trio.open_signal_receiver(signal.SIGTERM, *optional) as received:
            async for number in received:
                self._signal = self._signal or number
                if self._run is not None and self._run.started:
                    self._run.forward(number)
                else:
                    self._all.cancel()

    async def _hold(self, client: BerthClient) -> int:
        """Run the command under the leases, after a loss again if that was asked for."""
        give_up = self._give_up()
        holder = await self._holder(client, give_up)
        while True:
            try:
                return await self._once(client, holder, give_up)
            except LeaseLost as loss:
                if self._run is None:
                    say(f"{loss}; waiting for it again")  # one was lost while another was waited for
                    continue
                if not self._options.restart or self._signal:
                    raise Failure(f"{loss}; the command was stopped", ExitCode.LOST) from loss
                say(f"{loss}; the command was stopped and runs again under the next token")
                self._run, give_up = None, self._give_up()

    def _give_up(self) -> float:
        return inf if self._options.wait is None else trio.current_time() + self._options.wait

    async def _holder(self, client: BerthClient, give_up: float) -> str:
        """The holder's name, for which the server may have to be asked who we are."""
        told = False
        while True:
            try:
                return await holder_of(client, self._options, self._options.holder)
            except (Unreachable, OutcomeUnknown) as fault:
                if trio.current_time() >= give_up:
                    raise
                if not told:
                    say(f"waiting for the server: {fault}")
                told = True
            await trio.sleep(min(RETRY_SECONDS, max(0.0, give_up - trio.current_time())))

    async def _once(self, client: BerthClient, holder: str, give_up: float) -> int:
        options = self._options
        leases = ToldLeases(client, waits=options.wait != 0)
        # A tenure that was lost may not have ended yet: another instance cannot be taken for it.
        instance = new_instance()
        held: dict[str, Held] = {}
        async with AsyncExitStack() as stack:
            for name in sorted(self._line.names):  # everybody in one order: nobody waits in a circle
                held[name] = await stack.enter_async_context(
                    held_lease(
                        leases,
                        options.namespace,
                        name,
                        holder=holder,
                        instance=instance,
                        ttl_seconds=int(options.ttl),
                        wait_seconds=max(0.0, give_up - trio.current_time()),
                        semantics=options.semantics or "at-most-once",
                        max_holders=options.max_holders,
                        stop_budget_seconds=stop_budget_seconds(options.ttl, options.grace),
                        on_danger=lambda seconds, name=name: _warn_of_danger(name, seconds),
                    )
                )
            try:
                return await self._run_under([held[name] for name in self._line.names])
            except ChildRemains:
                leases.left_to_expire = True
                raise

    async def _run_under(self, held: Sequence[Held]) -> int:
        self._run = Run(self._line.command, held, ttl=self._options.ttl, grace=self._options.grace)
        return await self._run.to_the_end()


def _warn_of_danger(name: str, seconds: float) -> None:
    say(f"{name} could not be renewed yet; the command is stopped in {seconds:.1f} s if that goes on")
