"""What `berth lease acquire` does: ask once, or wait in line, and say why the lease was not granted."""

from random import Random

from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from berth.cli.connect import call, holder_of
from berth.cli.exit_codes import ExitCode, Failure
from berth.cli.lease import AcquireOptions
from berth.cli.lease_view import held_by, show_grant, still
from berth.cli.output import talk
from berth.client import BerthClient, LeaseNotAcquired
from berth.client.waiting import granted
from berth.wire.shapes import AcquireReply


def acquire(options: AcquireOptions, name: str) -> None:
    reply = call(options, lambda client: _Acquiring(client, options, name).reply())
    show_grant(name, reply, options.output)
    if not reply.acquired:
        raise Failure(f"not acquired: {_why_not(reply)}", ExitCode.NOT_MET)


class _Acquiring:
    """One acquire, or as many as a wait takes."""

    def __init__(self, client: BerthClient, options: AcquireOptions, name: str) -> None:
        self._client = client
        self._options = options
        self._name = name
        self._ttl_seconds = None if options.session else int(options.ttl)
        self._holder = ""
        self._place: int | UnsetType = UNSET
        self._told = False

    async def reply(self) -> AcquireReply:
        """The grant, or why there is none."""
        self._holder = await holder_of(self._client, self._options, self._options.holder)
        if not self._options.wait:
            return await self._ask(0)
        try:
            return await granted(
                self._ask_telling,
                f"{self._options.namespace}/{self._name}",
                ttl_seconds=self._ttl_seconds,
                wait_seconds=self._options.wait,
                rng=Random(),
            )
        except LeaseNotAcquired as fault:
            if fault.reply is None:
                raise Failure(f"not acquired: {fault}", ExitCode.UNREACHABLE) from fault
            # The last request may have been too short to wait in line.
            return replace(fault.reply, wait_position=self._place)

    async def _ask_telling(self, at_server_seconds: int) -> AcquireReply:
        reply = await self._ask(at_server_seconds)
        if not (reply.acquired or self._told):
            talk(f"waiting: {_why_not(reply)}")
            self._told = True
        self._place = self._place if reply.wait_position is UNSET else reply.wait_position
        return reply

    async def _ask(self, at_server_seconds: int) -> AcquireReply:
        return await self._client.acquire(
            self._options.namespace,
            self._name,
            holder=self._holder,
            ttl_seconds=self._ttl_seconds,
            session=self._options.session,
            semantics=self._options.semantics,
            max_holders=self._options.max_holders,
            wait_seconds=at_server_seconds,
        )


def _why_not(reply: AcquireReply) -> str:
    place = "" if reply.wait_position is UNSET else f"; place {reply.wait_position} in line"
    closed = f" for another {still(reply.available_after_seconds or 0)}"
    match reply.reason:
        case "lock_delay":
            return f"its last holder was lost, and the lease stays closed{closed}{place}"
        case "quarantine":
            return f"the server has restarted and grants nothing{closed}{place}"
        case "waiters":
            return f"others wait in line for it{place}"
        case _:
            for_another = f" for another {still(reply.remaining_seconds)}" if reply.remaining_seconds else ""
            return f"{held_by(reply)}{for_another}{place}"
