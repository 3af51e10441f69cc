"""The client of the lease API: one method a call, typed replies, one deadline each.

Owns what each call sends. Promises that a reply it returns is the answer to what was asked, that a lease held
by another is a reply and not an error, and that every error says whether the change can have been made. It
does not keep a lease alive: who acquires also renews. Calls may run at the same time in many tasks.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from math import isfinite
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Self
from urllib.parse import urlencode

import msgspec
import trio

from berth.client import believe
from berth.client.answers import Reader, ResultT
from berth.client.batches import AcquireRequest, ReleaseRequest, RenewRequest, results
from berth.client.bodies import json_of, segment, whole
from berth.client.errors import BerthError, Conflict, Misconfigured, OutcomeUnknown
from berth.client.keys import api_key as given_key
from berth.client.releases import Releases
from berth.client.servers import Call, Servers
from berth.client.urls import base_urls
from berth.client.watching import SILENCE_SECONDS, Events
from berth.runtime.http import CaFileInvalid, Channel, HttpClient
from berth.version import VERSION
from berth.wire import routes
from berth.wire.shapes import (
    AcquireBody,
    AcquireReply,
    ForceReleaseBody,
    ForceReleaseReply,
    LeaseList,
    LeaseObject,
    ReleaseBody,
    RenewBody,
    Semantics,
    SessionBody,
    SessionObject,
    SessionRenewBody,
    VerifyBody,
    VerifyReply,
    VersionReply,
    WhoamiReply,
)

Query = Mapping[str, str | int | None]


class BerthClient:
    """The lease API of one service. Open it with `async with`.

    `servers` is one or more base URLs, in a text with commas or one by one; calls go to the one that answered
    last and fail over to the others. The key is given as it is, or in a file that may be replaced at any
    time. Besides the system's certificate authorities those in `ca_file` are trusted. `timeout_seconds`
    bounds each call with all its tries. `rng` spreads the pauses between tries. `channel` is the way to the
    servers, when it is not HTTPS over this machine's network.

    Raises Misconfigured when the arguments cannot be used. Every call raises ApiError when it is refused,
    Unreachable when no server could do it, and OutcomeUnknown when it may or may not have been done.
    """

    def __init__(
        self,
        servers: str | Iterable[str],
        *,
        api_key: str | None = None,
        api_key_file: str | Path | None = None,
        ca_file: str | Path | None = None,
        timeout_seconds: float = 10.0,
        rng: Random | None = None,
        channel: Channel | None = None,
    ) -> None:
        if not (isfinite(timeout_seconds) and timeout_seconds > 0):
            raise Misconfigured(f"timeout_seconds must be a positive number, got {timeout_seconds}")
        self._urls = base_urls(servers)
        key = given_key(api_key, Path(api_key_file) if api_key_file is not None else None)
        try:
            ca_path = Path(ca_file) if ca_file is not None else None
            self._channel = channel or HttpClient(user_agent=f"berth/{VERSION}", ca_file=ca_path)
        except CaFileInvalid as fault:
            raise Misconfigured(str(fault)) from fault
        self._servers = Servers(
            self._urls, self._channel, key, timeout_seconds=timeout_seconds, rng=rng or Random()
        )

        self._timeout_seconds = timeout_seconds
        self._releases = Releases()

    def __repr__(self) -> str:
        return f"BerthClient({','.join(self._urls)!r})"

    async def __aenter__(self) -> Self:
        await self._channel.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._channel.__aexit__(kind, error, trace)

    async def acquire(
        self,
        namespace: str,
        name: str,
        *,
        holder: str,
        ttl_seconds: int | None = None,
        session: str | None = None,
        semantics: Semantics | None = None,
        max_holders: int | None = None,
        lock_delay_seconds: int | None = None,
        wait_seconds: int | None = None,
    ) -> AcquireReply:
        """Takes the lease or, as its live holder, keeps it with its token.

        The tenure lives by a ttl of its own or by a session's: exactly one of the two is given.
        `acquired` is false when it cannot be had now; `reason` and `holder` say why. Without `semantics` the
        lease is at-most-once; `max_holders` goes with at-least-once, 1,000 without it. After
        an expiry the lease stays closed for `lock_delay_seconds`, 0 without it.

        A server waits up to `wait_seconds` for the lease, 60 at most, and then says in `wait_position` who
        is next; the deadline of the call is that much later. Cancelled, it gives back what it is granted. The
        ttl counts from before the call, also after a wait.
        """
        body = AcquireBody(
            holder=holder,
            ttl_seconds=whole(ttl_seconds, "ttl_seconds"),
            session=session,
            semantics=semantics,
            max_holders=max_holders,
            lock_delay_seconds=whole(lock_delay_seconds, "lock_delay_seconds"),
        )
        read = partial(believe.grant, holder=holder)
        wait = whole(wait_seconds, "wait_seconds") or 0
        give_up = trio.current_time() + self._timeout_seconds + wait
        reply = await self._call(
            routes.ACQUIRE, read, body, wait_seconds=wait, namespace=namespace, name=name
        )
        if reply.acquired and self._releases.in_doubt((namespace, name, holder), reply.fencing_token):
            # A release may be on its way that would end what was kept; after it, a new tenure has its own
            # token.
            with trio.move_on_at(give_up):
                await self.release(namespace, name, holder=holder, fencing_token=reply.fencing_token)
                return await self._call(
                    routes.ACQUIRE, read, body, wait_seconds=wait, namespace=namespace, name=name
                )
            raise OutcomeUnknown(f"{namespace}/{name}: an earlier release may yet end what was granted")
        return reply

    async def renew(
        self, namespace: str, name: str, *, holder: str, fencing_token: int, ttl_seconds: int
    ) -> AcquireReply:
        """Keeps the tenure for `ttl_seconds`, from before the call. `acquired` is false when it is lost."""
        body = RenewBody(
            holder=holder, fencing_token=fencing_token, ttl_seconds=whole(ttl_seconds, "ttl_seconds")
        )
        read = partial(believe.grant, holder=holder, fencing_token=fencing_token)
        return await self._call(routes.RENEW, read, body, namespace=namespace, name=name)

    async def release(self, namespace: str, name: str, *, holder: str, fencing_token: int) -> None:
        """Gives the tenure up; a lease that is free already stays so. Conflict: another tenure is live."""
        body = ReleaseBody(holder=holder, fencing_token=fencing_token)
        tenure = (namespace, name, holder)
        self._releases.begin(tenure, fencing_token)
        try:
            await self._call(routes.RELEASE, believe.nothing, body, namespace=namespace, name=name)
        except Conflict:
            self._releases.end(tenure, fencing_token)
            raise
        self._releases.end(tenure, fencing_token)

    async def acquire_many(self, requests: Iterable[AcquireRequest]) -> list[AcquireReply | BerthError]:
        """Takes many leases, in requests of up to 5,000. Each has its reply, or the error of its own; those
        for one lease act in the order given. None waits.
        """
        asked = list(requests)
        replies = await results(self._servers.ask, [request.single() for request in asked])
        for place, (request, reply) in enumerate(zip(asked, replies, strict=True)):
            tenure = (request.namespace, request.name, request.holder)
            if isinstance(reply, AcquireReply) and self._releases.in_doubt(tenure, reply.fencing_token):
                replies[place] = OutcomeUnknown("an earlier release may yet end it; acquire it by itself")
        return replies

    async def renew_many(self, requests: Iterable[RenewRequest]) -> list[AcquireReply | BerthError]:
        """Keeps many tenures, as `acquire_many` takes leases."""
        return await results(self._servers.ask, [request.single() for request in requests])

    async def release_many(self, requests: Iterable[ReleaseRequest]) -> list[BerthError | None]:
        """Gives many tenures up, as `acquire_many` takes leases; None is done."""
        asked = list(requests)
        for request in asked:
            self._releases.begin((request.namespace, request.name, request.holder), request.fencing_token)
        answers = await results(self._servers.ask, [request.single() for request in asked])
        for request, answer in zip(asked, answers, strict=True):
            if answer is None or isinstance(answer, Conflict):
                self._releases.end((request.namespace, request.name, request.holder), request.fencing_token)
        return answers

    async def verify(
        self, namespace: str, name: str, *, fencing_token: int, holder: str | None = None
    ) -> VerifyReply:
        """Whether the token is current, and `holder`'s if one is given. Time passes after the reply."""
        body = VerifyBody(fencing_token=fencing_token, holder=holder)
        read = partial(believe.verified, fencing_token=fencing_token)
        return await self._call(routes.VERIFY, read, body, namespace=namespace, name=name)

    async def force_release(
        self, namespace: str, name: str, *, fencing_token: int, reason: str
    ) -> ForceReleaseReply:
        """Ends the tenure under the token at once, for admins. The reply says how long it may still act."""
        body = ForceReleaseBody(fencing_token=fencing_token, reason=reason)
        read = partial(believe.forced, fencing_token=fencing_token)
        return await self._call(routes.FORCE_RELEASE, read, body, namespace=namespace, name=name)

    async def get_lease(self, namespace: str, name: str) -> LeaseObject:
        """The lease as it stands. NotFound with code `not_found`: it was never used."""
        read = partial(believe.lease, namespace=namespace, name=name)
        return await self._call(routes.GET, read, namespace=namespace, name=name)

    async def list_leases(self, namespace: str | None = None) -> AsyncIterator[LeaseObject]:
        """Every lease of the namespace, or of all, free ones too, by namespace and name; page by page."""
        page = await self.list_page(namespace)
        while True:
            for lease in page.items:
                yield lease
            if not page.continue_:
                return
            page = await self.list_page(namespace, after=page.continue_)

    async def list_page(
        self, namespace: str | None = None, *, limit: int | None = None, after: str | None = None
    ) -> LeaseList:
        """At most `limit` leases, 500 without it, after the page whose `continue_` is `after`."""
        read = partial(believe.page, after=after)
        operation, segments = _listing(namespace)
        target = _target(operation, {"limit": limit, "continue": after}, **segments)
        return await self._servers.ask(Call(operation, target, read))

    @asynccontextmanager
    async def watch(
        self, namespace: str | None = None, *, revision: str | None = None
    ) -> AsyncGenerator[Events]:
        """Every change of ownership from now on, or from after `revision`, which a list or an event told.

        The first event, and one at least every 15 s, is a bookmark: its revision is all there is to it. The
        iteration ends when the server drains, and raises Unreachable when it falls silent. RevisionTooOld:
        list again. `follow` does all of that.
        """
        operation, segments = _listing(namespace)
        target = _target(operation, {"watch": "true", "revision": revision}, **segments)
        call = Call(operation, target, believe.no_watch, line_seconds=SILENCE_SECONDS)
        lines = await self._servers.ask(call)
        try:
            yield Events(lines, namespace)
        finally:
            await lines.aclose()

    async def open_session(self, *, holder: str, ttl_seconds: int, instance: str = "") -> SessionObject:
        """Opens a session: what is acquired under it lives as long as it does, renewed by one call."""
        body = SessionBody(
            holder=holder, ttl_seconds=whole(ttl_seconds, "ttl_seconds"), instance=instance or None
        )
        read = partial(believe.opened, holder=holder, instance=instance)
        return await self._call(routes.OPEN_SESSION, read, body)

    async def renew_session(self, session: str) -> SessionObject:
        """Keeps the session and all under it. `alive` is false when it is over; `reason` says how."""
        read = partial(believe.session, session_id=session)
        return await self._call(routes.RENEW_SESSION, read, SessionRenewBody(), id=session)

    async def end_session(self, session: str) -> None:
        """Ends the session, and frees all leases under it; also when it is over already."""
        await self._call(routes.END_SESSION, believe.nothing, id=session)

    async def get_session(self, session: str) -> SessionObject:
        """The session as it stands. NotFound: there is no such session."""
        read = partial(believe.session, session_id=session)
        return await self._call(routes.GET_SESSION, read, id=session)

    async def list_sessions(
        self, *, holder: str | None = None, instance: str | None = None
    ) -> AsyncIterator[SessionObject]:
        """Every session, those that are over too; of one holder or instance if given."""
        after: str | None = None
        while after != "":
            read = partial(believe.sessions, after=after)
            query = {"holder": holder, "instance": instance, "continue": after}
            page = await self._call(routes.LIST_SESSIONS, read, query=query)
            for session in page.items:
                yield session
            after = page.continue_

    async def whoami(self) -> WhoamiReply:
        """Whom the server takes this client for."""
        return await self._call(routes.WHOAMI, believe.identity)

    async def server_version(self) -> VersionReply:
        """What the server runs."""
        return await self._call(routes.VERSION, believe.version)

    async def ping(self) -> None:
        """Returns when a server is alive. It says nothing of its store."""
        await self._call(routes.HEALTHZ, believe.alive)

    async def _call(
        self,
        operation: routes.Operation,
        read: Reader[ResultT],
        body: msgspec.Struct | None = None,
        *,
        query: Query | None = None,
        wait_seconds: int = 0,
        **segments: str,
    ) -> ResultT:
        target = _target(operation, query or {}, **segments)
        json = None if body is None else _json(body)
        return await self._servers.ask(Call(operation, target, read, json, wait_seconds))


def _listing(namespace: str | None) -> tuple[routes.Operation, dict[str, str]]:
    return (routes.LIST_ALL, {}) if namespace is None else (routes.LIST, {"namespace": namespace})


def _target(operation: routes.Operation, query: Query, **segments: str) -> str:
    path = operation.path.format(**{key: segment(text) for key, text in segments.items()})
    given = {key: value for key, value in query.items() if value is not None}
    return f"{path}?{urlencode(given)}" if given else path


def _json(body: msgspec.Struct) -> Callable[[int], bytes]:
    """The body by what is left of a wait."""
    return lambda wait_seconds: json_of(body, **({"waitSeconds": wait_seconds} if wait_seconds else {}))
