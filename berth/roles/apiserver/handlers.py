"""Handlers: what each operation of the lease API does, from a request's parts to a reply's shape.

Owns the order of checks that clients can observe: key, then body, then fields, then permission, then names,
then the lease. Knows the service and the wire, not the framework that carries them.
"""

import platform
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar, cast

from msgspec import Struct

from berth.core.names import Key
from berth.core.requests import Refused
from berth.roles.apiserver.auth import Identity, authorize
from berth.roles.apiserver.observe import Entry, label_of
from berth.runtime.log import Logger
from berth.service.leases import LeaseService
from berth.version import COMMIT, VERSION
from berth.wire import checks, openapi, replies, routes
from berth.wire.problems import Failure, refusal
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

OutcomeT = TypeVar("OutcomeT")


class Ask(Struct):
    """One request: who asks, the path's parts decoded, the query, and the body once it is wanted."""

    operation: routes.Operation
    identity: Identity
    entry: Entry
    parts: Mapping[str, str]
    query: Mapping[str, str]
    read_body: Callable[[], Awaitable[Any]]

    def authorize(self, holder: str | None = None) -> None:
        assert self.operation.role is not None
        authorize(self.identity, self.operation.role, holder)

    def key(self) -> Key:
        return checks.checked_key(self.parts["namespace"], self.parts["name"])


Handler = Callable[[Ask], Awaitable[object]]


class Handlers:
    """The operations that need a key, by id. A handler answers a shape, or None where there is no body."""

    def __init__(
        self, leases: LeaseService, *, bounds: checks.TtlBounds, auth_mode: str, audit: Logger
    ) -> None:
        self._leases = leases
        self._audit = audit
        self._bounds = bounds
        self._auth_mode = auth_mode
        self._openapi = openapi.document(VERSION)
        self.by_operation: dict[str, Handler] = {
            routes.ACQUIRE.id: self._acquire,
            routes.RENEW.id: self._renew,
            routes.RELEASE.id: self._release,
            routes.VERIFY.id: self._verify,
            routes.FORCE_RELEASE.id: self._force_release,
            routes.GET.id: self._get,
            routes.LIST.id: self._list,
            routes.LIST_ALL.id: self._list,
            routes.WHOAMI.id: self._whoami,
            routes.VERSION.id: self._version,
            routes.OPENAPI.id: self._describe,
        }

    async def _acquire(self, ask: Ask) -> object:
        body: AcquireBody = await ask.read_body()
        request = checks.acquire_request(body, self._bounds)
        ask.authorize(request.holder)
        outcome = _told(ask, await self._leases.acquire(ask.key(), request))
        return replies.acquire_reply(outcome)

    async def _renew(self, ask: Ask) -> object:
        body: RenewBody = await ask.read_body()
        request = checks.renew_request(body, self._bounds)
        ask.authorize(request.holder)
        outcome = _told(ask, await self._leases.renew(ask.key(), request))
        return replies.renew_reply(outcome)

    async def _release(self, ask: Ask) -> object:
        body: ReleaseBody = await ask.read_body()
        request = checks.release_request(body)
        ask.authorize(request.holder)
        _told(ask, await self._leases.release(ask.key(), request))
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
        key = ask.key()
        outcome = _told(ask, await self._leases.force_release(key, request))
        self._audit.warning(
            "lease.forced",
            lease=str(key),
            tenant=ask.identity.tenant,
            holder=outcome.view.holder,
            fencing_token=outcome.view.token,
            reason=reason,
            request_id=ask.entry.request_id,
        )
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
        limit, after = _page_asked_for(ask.query)
        revision = self._leases.revision
        page = await self._leases.page(namespace, after, limit)
        items = [lease for observed in page.items if (lease := replies.lease_object(observed)) is not None]
        return LeaseList(items, revision, _continue(page.after))

    async def _whoami(self, ask: Ask) -> object:
        return WhoamiReply(ask.identity.tenant, ask.identity.role, self._auth_mode)

    async def _version(self, _: Ask) -> object:
        return VersionReply(VERSION, COMMIT, platform.python_version())

    async def _describe(self, _: Ask) -> object:
        return self._openapi


def _told(ask: Ask, outcome: OutcomeT | Refused) -> OutcomeT:
    """The outcome, noted for log and metrics; a refusal is raised as the failure it is told as."""
    if isinstance(outcome, Refused):
        raise refusal(outcome)
    ask.entry.outcome = label_of(cast("Any", outcome))
    return outcome


def _page_asked_for(query: Mapping[str, str]) -> tuple[int, Key | None]:
    text = query.get("limit", "")
    limit = routes.LIST_LIMIT_DEFAULT
    if text:
        if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= routes.LIST_LIMIT_MAX):
            raise Failure("invalid_body", f"limit must be a whole number from 1 to {routes.LIST_LIMIT_MAX}")
        limit = int(text)
    token = query.get("continue", "")
    return limit, _after(token) if token else None


def _continue(after: Key | None) -> str:
    return "" if after is None else urlsafe_b64encode(str(after).encode()).decode()


def _after(token: str) -> Key:
    try:
        namespace, _, name = urlsafe_b64decode(token.encode()).decode().partition("/")
        return checks.checked_key(namespace, name)
    except (Base64Error, UnicodeError, ValueError, Failure) as error:
        raise Failure("invalid_body", "continue is not from this server; list from the beginning") from error
