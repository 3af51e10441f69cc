"""What most client commands do: ask, print the reply, and tell by the exit code how the lease stands.

Replies are data for stdout; why a condition is not met is talk for stderr.
"""

from functools import partial
from typing import NamedTuple

from msgspec import UNSET

from berth.cli.connect import call, holder_of
from berth.cli.exit_codes import ExitCode, Failure
from berth.cli.lease import (
    ForceReleaseOptions,
    GetOptions,
    ReleaseOptions,
    RenewOptions,
    VerifyOptions,
)
from berth.cli.lease_view import held_by, show_forced, show_grant, show_leases, show_record, still
from berth.cli.output import printable, talk
from berth.cli.whoami import WhoamiOptions
from berth.client import BerthClient
from berth.wire.shapes import AcquireReply, HolderObject, LeaseObject, VerifyReply


def get(options: GetOptions, name: str) -> None:
    lease = call(options, lambda client: client.get_lease(options.namespace, name))
    show_leases([lease], options.output, whole=lease)


def renew(options: RenewOptions, name: str) -> None:
    async def ask(client: BerthClient) -> AcquireReply:
        holder = await holder_of(client, options, options.holder)
        return await client.renew(
            options.namespace,
            name,
            holder=holder,
            fencing_token=await _own_token(client, options, name, holder),
            ttl_seconds=int(options.ttl),
        )

    reply = call(options, ask)
    show_grant(name, reply, options.output)
    if not reply.acquired:
        raise Failure(f"lost: the lease is {held_by(reply)}", ExitCode.NOT_MET)


def release(options: ReleaseOptions, name: str) -> None:
    async def ask(client: BerthClient) -> int:
        holder = await holder_of(client, options, options.holder)
        token = await _own_token(client, options, name, holder)
        await client.release(options.namespace, name, holder=holder, fencing_token=token)
        return token

    token = call(options, ask)
    key = f"{options.namespace}/{name}"
    # Of a token that was given, the server does not say whether it was held until now.
    talk(
        f"released {key} (token {token})"
        if options.token is None
        else f"{key} is not held under token {token}"
    )


async def _own_token(
    client: BerthClient, options: RenewOptions | ReleaseOptions, name: str, holder: str
) -> int:
    """The token that was given, else that of the holder's live tenure. Raises Failure when it has none."""
    if options.token is not None:
        return options.token
    lease = await client.get_lease(options.namespace, name)
    for tenure in lease.holders:
        if tenure.holder == holder:
            return tenure.fencing_token
    raise Failure(f"not held by {printable(holder)}: the lease is {_standing(lease)}", ExitCode.NOT_MET)


def _standing(lease: LeaseObject) -> str:
    if lease.holders:
        return "held by " + ", ".join(map(_tenure, lease.holders))
    if lease.available_after_seconds is not UNSET:
        return f"free in {still(lease.available_after_seconds)}"
    return "free"


def _tenure(tenure: HolderObject) -> str:
    return (
        f"{printable(tenure.holder)} (token {tenure.fencing_token}, {still(tenure.remaining_seconds)} left)"
    )


def verify(options: VerifyOptions, name: str) -> None:
    reply = call(
        options,
        lambda client: client.verify(
            options.namespace, name, fencing_token=options.token, holder=options.holder or None
        ),
    )
    show_record(reply, options.output)
    if not reply.current:
        raise Failure(_why_not_current(options, reply), ExitCode.NOT_MET)


def _why_not_current(options: VerifyOptions, reply: VerifyReply) -> str:
    if options.token != reply.fencing_token:
        return f"token {options.token} is not current; the highest issued is {reply.fencing_token}"
    return f"token {options.token} is not current" + (f" for {options.holder}" if options.holder else "")


def force_release(options: ForceReleaseOptions, name: str) -> None:
    key = f"{options.namespace}/{name}"
    end = call(options, partial(_end_of, options=options, name=name))
    if not options.yes:
        raise Failure(f"this would {end.deed}; to do it, repeat it with --yes", ExitCode.USAGE)
    reply = call(
        options,
        lambda client: client.force_release(
            options.namespace, name, fencing_token=end.token, reason=options.reason
        ),
    )
    show_forced(name, reply, options.output)
    holder = printable(reply.released.holder)
    if reply.may_act_for_seconds > 0:
        talk(f"released {key}; {holder} may still act on it for {still(reply.may_act_for_seconds)}")
    else:
        talk(f"opened {key}; the time of {holder} was over")


class _End(NamedTuple):
    """Which token is to end, and what that does, after "this would"."""

    token: int
    deed: str


async def _end_of(client: BerthClient, options: ForceReleaseOptions, name: str) -> _End:
    """The live tenure with the token that was given, or the only one; else the lost one that keeps the lease
    closed. Raises Failure when there is none.
    """
    key = f"{options.namespace}/{name}"
    lease = await client.get_lease(options.namespace, name)
    wanted = [tenure for tenure in lease.holders if options.token in (None, tenure.fencing_token)]
    closed = not lease.holders and lease.available_after_seconds is not UNSET
    match wanted:
        case [tenure] if tenure.session:
            end = f"berth session end {tenure.session}"
            raise Failure(
                f"{key} is held by {_tenure(tenure)} under a session, and its holder would never hear of it; "
                f"{end} ends it, with all other leases under that session",
                ExitCode.NOT_MET,
            )
        case [tenure]:
            deed = f"end on {key} the tenure of {_tenure(tenure)}, who may go on acting for that long"
            return _End(tenure.fencing_token, deed)
        case [] if closed and options.token in (None, lease.fencing_token):
            deed = f"open {key} at once; its last holder was lost, and the lease is {_standing(lease)}"
            return _End(lease.fencing_token, deed)
        case []:
            token = f"nobody holds token {options.token}: " if options.token else ""
            raise Failure(f"{token}the lease is {_standing(lease)}", ExitCode.NOT_MET)
        case _:
            raise Failure(f"the lease is {_standing(lease)}; say which with --token", ExitCode.USAGE)


def whoami(options: WhoamiOptions) -> None:
    show_record(call(options, BerthClient.whoami), options.output)
