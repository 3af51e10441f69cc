"""Handlers: what each operation of the lease API does, from a request's parts to a reply's shape.

Owns the order of checks that clients can observe: key, then body, then fields, then permission, then names,
then the lease. Knows the service and the wire, not the framework that carries them.
"""

import platform
from collections.abc import Callable
from functools import partial

from msgspec.structs import replace

from berth.core.names import Key
from berth.core.requests import Acquire, Acquired, NotAcquired, Refused
from berth.roles.apiserver import paging, watch_handlers
from berth.roles.apiserver.ask import Ask, Handler, limited, told
from berth.roles.apiserver.batch_handlers import BatchHandlers
from berth.roles.apiserver.session_handlers import SessionHandlers
from berth.runtime.log import Logger
from berth.service.leases import LeaseService
from berth.service.waiters import Waited
from berth.version import COMMIT, VERSION
from berth.wire import checks, openapi, replies, routes
from berth.wire.problems import Failure
from berth.wire.shapes import (
    AcquireBody,
    ForceReleaseBody,
    LeaseList,
    ReleaseBody,
    RenewBody,
    VerifyBody,
    VersionReply,
    WhoamiReply,
)

_END_THE_SESSION = (
    "the tenure is under a session, whose holder would go on and never hear of it; end the session instead, "
    "which ends all leases under it"
)


class Handlers:
    """The operations that need a key, by id. A handler answers a shape, or None where there is no body.

    `waiting` and `watching` are told of each caller who begins to (1) and ends (-1).
    """

    def __init__(
        self,
        leases: LeaseService,
        *,
        bounds: checks.TtlBounds,
        auth_mode: str,
        logger: Logger,
        waiting: Callable[[int], None],
        watching: Callable[[int], None],
    ) -> None:
        self._leases = leases
        self._limits = leases.limits
        self._bounds = bounds
        self._waiting = waiting
        self._watching = watch_handlers.WatchHandlers(leases, count=watching)
        self._auth_mode = auth_mode
        self._openapi = openapi.document(VERSION)
        self.by_operation: dict[str, Handler] = {
            routes.ACQUIRE.id: self._acquire,
            routes.RENEW.id: self._renew,
            routes.RELEASE.id: self._release,
            routes.BATCH.id: BatchHandlers(leases, bounds=bounds, logger=logger).batch,
            routes.VERIFY.id: self._verify,
            routes.FORCE_RELEASE.id: self._force_release,
            routes.GET.id: self._get,
            routes.LIST.id: self._list,
            routes.LIST_ALL.id: self._list,
            **SessionHandlers(leases, bounds=bounds).by_operation,
            routes.WHOAMI.id: self._whoami,
            routes.VERSION.id: self._version,
            routes.OPENAPI.id: self._describe,
        }

    async def _acquire(self, ask: Ask) -> object:
        body: AcquireBody = await ask.read_body()
        request = checks.acquire_request(body, self._bounds)
        wait_seconds = checks.wait_seconds(body)
        ask.authorize(request.holder)
        key = ask.key()
        with self._limits.holdings.asking([request.holder]) as [may_take]:
            if may_take and wait_seconds:
                waited = await self._waited(ask, key, request, wait_seconds)
            else:
                asked = request if may_take else replace(request, keep_only=True)
                waited = Waited(await self._leases.acquire(key, asked, ask.origin()))
        if waited.outcome is None:
            raise Failure("shutting_down")
        outcome = told(ask, waited.outcome)
        if not may_take and isinstance(outcome, NotAcquired) and outcome.reason == "waiters":
            raise limited(self._limits, "leases")
        return replies.acquire_reply(outcome, position=waited.position)

    async def _waited(self, ask: Ask, key: Key, request: Acquire, wait_seconds: int) -> Waited:
        """Wait in line; a grant that cannot be told any more is taken back."""
        with self._limits.waiting.one(ask.identity.tenant) as free:
            if not free:
                raise limited(self._limits, "waiting")
            self._waiting(1)
            try:
                waited = await self._leases.acquire_waiting(key, request, wait_seconds, ask.origin())
            finally:
                self._waiting(-1)
        if isinstance(waited.outcome, Acquired) and waited.outcome.taken:
            ask.entry.take_back = partial(self._leases.give_back, key, waited.outcome, ask.origin())
        return waited

    async def _renew(self, ask: Ask) -> object:
        body: RenewBody = await ask.read_body()
        request = checks.renew_request(body, self._bounds)
        ask.authorize(request.holder)
        outcome = told(ask, await self._leases.renew(ask.key(), request, ask.origin()))
        return replies.renew_reply(outcome)

    async def _release(self, ask: Ask) -> object:
        body: ReleaseBody = await ask.read_body()
        request = checks.release_request(body)
        ask.authorize(request.holder)
        told(ask, await self._leases.release(ask.key(), request, ask.origin()))
        return None

    async def _verify(self, ask: Ask) -> object:
        body: VerifyBody = await ask.read_body()
        token, holder = checks.verify_question(body)
        ask.authorize()
        return replies.verify_reply(await self._leases.get(ask.key()), token, holder)

    async def _force_release(self, ask: Ask) -> object:
        body: ForceReleaseBody = await ask.read_body()
        request, reason = checks.force_release_request(body)
        ask.authorize()
        forced = await self._leases.force_release(ask.key(), request, ask.origin(reason))
        if isinstance(forced, Refused) and forced.reason == "held_by_session":
            raise Failure("held_by_session", _END_THE_SESSION)
        outcome = told(ask, forced)
        return replies.force_release_reply(outcome)

    async def _get(self, ask: Ask) -> object:
        ask.authorize()
        key = ask.key()
        lease = replies.lease_object(await self._leases.get(key))
        if lease is None:
            raise Failure("not_found", f"lease {key} was never used")
        return lease

    async def _list(self, ask: Ask) -> object:
        ask.authorize()
        namespace = ask.parts.get("namespace")
        if namespace is not None:
            checks.checked_namespace(namespace)
        if watch_handlers.wanted(ask):
            return await self._watching.watch(ask, namespace)
        limit, after = paging.limit(ask.query), paging.key_after(ask.query)
        revision = self._leases.feed.revision
        page = await self._leases.page(namespace, after, limit)
        items = [lease for observed in page.items if (lease := replies.lease_object(observed)) is not None]
        return LeaseList(items, revision, paging.token(str(page.after)) if page.after else "")

    async def _whoami(self, ask: Ask) -> object:
        return WhoamiReply(ask.identity.tenant, ask.identity.role, self._auth_mode)

    async def _version(self, _: Ask) -> object:
        return VersionReply(VERSION, COMMIT, platform.python_version())

    async def _describe(self, _: Ask) -> object:
        return self._openapi
