"""What the client commands do: ask, print the reply, and tell by the exit code how the lease stands.

Replies are data for stdout; why a condition is not met is talk for stderr.
"""

from functools import partial
from math import ceil
from typing import NamedTuple

from msgspec import UNSET

from berth.cli.connect import call, holder_of
from berth.cli.exit_codes import ExitCode, Failure
from berth.cli.lease import (
    AcquireOptions,
    ForceReleaseOptions,
    GetOptions,
    ListOptions,
    ReleaseOptions,
    RenewOptions,
    VerifyOptions,
)
from berth.cli.lease_view import show_forced, show_grant, show_leases, show_record
from berth.cli.output import printable, span, talk
from berth.cli.whoami import WhoamiOptions
from berth.client import BerthClient
from berth.wire.shapes import AcquireReply, HolderObject, LeaseList, LeaseObject, VerifyReply

PAGE_ITEMS = 1000


def list_leases(options: ListOptions) -> None:
    namespace = None if options.all_namespaces else options.namespace
    found = call(options, partial(_all_pages, namespace=namespace))
    if not found.items and options.output in ("table", "wide"):
        talk(f"no leases in namespace {namespace}" if namespace else "no leases")
        return
    show_leases(found.items, options.output, whole=found, with_namespace=options.all_namespaces)


async def _all_pages(client: BerthClient, namespace: str | None) -> LeaseList:
    """The list as one page, with the first one's revision: a watch from there misses nothing."""
    page = first = await client.list_page(namespace, limit=PAGE_ITEMS)
    items = [*page.items]
    while page.continue_:
        page = await client.list_page(namespace, limit=PAGE_ITEMS, after=page.continue_)
        items += page.items
    return LeaseList(items, first.revision)


def get(options: GetOptions, name: str) -> None:
    lease = call(options, lambda client: client.get_lease(options.namespace, name))
    show_leases([lease], options.output, whole=lease)


def acquire(options: AcquireOptions, name: str) -> None:
    async def ask(client: BerthClient) -> AcquireReply:
        return await client.acquire(
            options.namespace,
            name,
            holder=await holder_of(client, options, options.holder),
            ttl_seconds=None if options.session else int(options.ttl),
            session=options.session,
            semantics=options.semantics,
            max_holders=options.max_holders,
        )

    reply = call(options, ask)
    show_grant(name, reply, options.output)
    if not reply.acquired:
        raise Failure(f"not acquired: {_why_not(reply)}", ExitCode.NOT_MET)


def _why_not(reply: AcquireReply) -> str:
    closed = f" for another {_wait(reply.available_after_seconds or 0)}"
    match reply.reason:
        case "lock_delay":
            return f"its last holder was lost, and the lease stays closed{closed}"
        case "quarantine":
            return f"the server has restarted and grants nothing{closed}"
        case _:
            for_another = f" for another {_wait(reply.remaining_seconds)}" if reply.remaining_seconds else ""
            return _held_by(reply) + for_another


def _held_by(reply: AcquireReply) -> str:
    return f"held by {printable(reply.holder)} (token {reply.fencing_token})" if reply.holder else "free"


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
        raise Failure(f"lost: the lease is {_held_by(reply)}", ExitCode.NOT_MET)


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
        return f"free in {_wait(lease.available_after_seconds)}"
    return "free"


def _tenure(tenure: HolderObject) -> str:
    return (
        f"{printable(tenure.holder)} (token {tenure.fencing_token}, {_wait(tenure.remaining_seconds)} left)"
    )


def _wait(seconds: float) -> str:
    """Rounded up: after that time it is over."""
    return span(ceil(seconds))


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
        talk(f"released {key}; {holder} may still act on it for {_wait(reply.may_act_for_seconds)}")
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
