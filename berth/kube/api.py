"""The client of a kube-apiserver: a call for each thing that can be asked for.

Owns URLs, bodies and the shapes of answers. Objects go in and out as JSON; nothing is cached. How a request
is made, and how often, is `asking`'s; what refuses it, `faults`'; watches are read by `reflector`.
"""

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from urllib.parse import quote, urlencode

import msgspec
import trio
from msgspec import Struct

from berth.kube.access import Access
from berth.kube.asking import Asker, Credentials, Request, Stream, Transport
from berth.kube.faults import Gone, Unavailable
from berth.kube.objects import (
    ACCESS_REVIEWS,
    TOKEN_REVIEWS,
    Object,
    Resource,
    mapping,
    metadata,
    name_of,
    text,
)
from berth.kube.pace import Pace
from berth.runtime.http import HttpClient, HttpFault
from berth.runtime.http_pool import HttpPool
from berth.version import VERSION

TIMEOUT_SECONDS = 10.0
PAGE_LIMIT = 500
PAGE_MAX_BYTES = 32 * 1024 * 1024
MERGE_PATCH = "application/merge-patch+json"


class Selector(Struct, frozen=True):
    """Which objects: all of them, or those with these labels and fields, as Kubernetes writes selectors."""

    labels: str = ""
    fields: str = ""

    def query(self) -> dict[str, str]:
        chosen = {"labelSelector": self.labels, "fieldSelector": self.fields}
        return {key: value for key, value in chosen.items() if value}


ALL = Selector()


class Page(Struct, frozen=True):
    """A part of a list, as of one resourceVersion. There is more when `continue_token` is not empty."""

    items: list[Object]
    resource_version: str
    continue_token: str


class TokenReview(Struct, frozen=True):
    """What the cluster says of a bearer token."""

    authenticated: bool
    username: str
    uid: str
    groups: tuple[str, ...]
    audiences: tuple[str, ...]
    error: str


class KubeClient:
    """One cluster. Every call raises the faults of `faults`; its text names the object, never a credential.

    Every call takes `timeout_seconds`: the whole of it, waiting for the server's patience and ours included.
    """

    def __init__(self, access: Credentials, transport: Transport, *, pace: Pace | None = None) -> None:
        self._asker = Asker(access, transport, pace)

    async def get(
        self,
        resource: Resource,
        name: str,
        namespace: str = "",
        *,
        subresource: str = "",
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> Object:
        """The object as the quorum has it: never a cached one."""
        target, asked = _addressed("get", resource, namespace, name, subresource)
        return await self._asker.for_object(Request("GET", target, asked, timeout_seconds))

    async def served(self, api_version: str, *, timeout_seconds: float = TIMEOUT_SECONDS) -> Object:
        """What the cluster serves of a group's version: an APIResourceList. Raises NotFound if nothing."""
        target = "".join(f"/{quote(part, safe='')}" for part in api_version.split("/"))
        target = f"/apis{target}" if "/" in api_version else f"/api{target}"
        asked = f"discover {api_version}"
        return await self._asker.for_object(Request("GET", target, asked, timeout_seconds))

    async def list_page(
        self,
        resource: Resource,
        namespace: str = "",
        *,
        selector: Selector = ALL,
        limit: int = PAGE_LIMIT,
        continue_token: str = "",
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> Page:
        """One page, of all namespaces without one; the next by the token that this gives. 0: no limit."""
        query = {**selector.query(), **({"limit": str(limit)} if limit else {})}
        if continue_token:
            query["continue"] = continue_token
        target, asked = _addressed("list", resource, namespace, query=query)
        request = Request("GET", target, asked, timeout_seconds, max_body_bytes=PAGE_MAX_BYTES)
        found = await self._asker.for_object(request)
        items = [item for item in found.get("items") or () if isinstance(item, dict)]
        for item in items:
            # Items of a list leave out what the list says for all of them.
            item.setdefault("apiVersion", resource.api_version)
            item.setdefault("kind", resource.kind)
        about = metadata(found)
        return Page(items, text(about.get("resourceVersion")), text(about.get("continue")))

    async def list_all(
        self,
        resource: Resource,
        namespace: str = "",
        *,
        selector: Selector = ALL,
        timeout_seconds: float = 3 * TIMEOUT_SECONDS,
    ) -> Page:
        """The whole list, as of one resourceVersion; asked for in one when that grew too old on the way."""
        deadline = trio.current_time() + timeout_seconds
        items: list[Object] = []
        page = Page([], "", "")
        limit = PAGE_LIMIT
        while True:
            try:
                page = await self.list_page(
                    resource,
                    namespace,
                    selector=selector,
                    limit=limit,
                    continue_token=page.continue_token,
                    timeout_seconds=max(0.0, deadline - trio.current_time()),
                )
            except Gone:
                if not limit:
                    raise
                items, page, limit = [], Page([], "", ""), 0
                continue
            items += page.items
            if not page.continue_token:
                return Page(items, page.resource_version, "")

    @asynccontextmanager
    async def watch(
        self,
        resource: Resource,
        namespace: str = "",
        *,
        resource_version: str,
        selector: Selector = ALL,
        lasting_seconds: int,
        idle_seconds: float,
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> AsyncGenerator[Stream]:
        """What changes after `resource_version`: JSON lines, cut anywhere, bookmarks among them.

        The server ends it after `lasting_seconds`; that nothing comes for `idle_seconds` is Unavailable, as
        is a connection that breaks. `timeout_seconds` is for it to begin.
        """
        query = {
            **selector.query(),
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": resource_version,
            "timeoutSeconds": str(lasting_seconds),
        }
        target, asked = _addressed("watch", resource, namespace, query=query)
        request = Request("GET", target, asked, timeout_seconds)

        pieces = await self._asker.for_stream(request, idle_seconds=idle_seconds)
        try:
            yield pieces
        except HttpFault as fault:
            raise Unavailable(f"{asked}: {fault}", outcome_known=True) from fault
        finally:
            with trio.CancelScope(shield=True), trio.move_on_after(1):
                await pieces.aclose()

    async def create(
        self,
        resource: Resource,
        obj: Object,
        *,
        dry_run: bool = False,
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> Object:
        """The new object as stored. Raises AlreadyExists, also when an earlier try had won unheard.

        `dry_run`: all that can refuse it is asked, and nothing is stored.
        """
        namespace, name = name_of(obj)
        query = {"dryRun": "All"} if dry_run else None
        target, _ = _addressed("create", resource, namespace, query=query)
        asked = f"create {resource.called(namespace, name)}"
        return await self._asker.for_object(Request("POST", target, asked, timeout_seconds, _encoded(obj)))

    async def replace(
        self,
        resource: Resource,
        obj: Object,
        *,
        subresource: str = "",
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> Object:
        """The object as stored.

        With its resourceVersion in it, as it should have, a Conflict if it has changed since. With its uid in
        it too, a Conflict if it is gone: a server may make it anew otherwise (it does so with a Lease).
        """
        namespace, name = name_of(obj)
        target, asked = _addressed("replace", resource, namespace, name, subresource)
        return await self._asker.for_object(Request("PUT", target, asked, timeout_seconds, _encoded(obj)))

    async def merge_patch(
        self,
        resource: Resource,
        name: str,
        namespace: str = "",
        *,
        patch: Object,
        subresource: str = "",
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> Object:
        """The object as stored. Only a patch with `metadata.resourceVersion` meets a Conflict."""
        target, asked = _addressed("patch", resource, namespace, name, subresource)
        request = Request("PATCH", target, asked, timeout_seconds, _encoded(patch), MERGE_PATCH)
        return await self._asker.for_object(request)

    async def delete(
        self,
        resource: Resource,
        name: str,
        namespace: str = "",
        *,
        uid: str = "",
        resource_version: str = "",
        propagation: str = "",
        grace_seconds: int | None = None,
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> Object:
        """Asks for deletion: of that very object, and in that very version, else it is a Conflict.

        Answers the object where finalizers keep it, else the server's word that it is gone.
        """
        named = {"uid": uid, "resourceVersion": resource_version}
        preconditions = {key: value for key, value in named.items() if value}
        options: Object = {"apiVersion": "v1", "kind": "DeleteOptions"}
        if preconditions:
            options["preconditions"] = preconditions
        if propagation:
            options["propagationPolicy"] = propagation
        if grace_seconds is not None:
            options["gracePeriodSeconds"] = grace_seconds
        target, asked = _addressed("delete", resource, namespace, name)
        return await self._asker.for_object(
            Request("DELETE", target, asked, timeout_seconds, _encoded(options))
        )

    async def review_token(
        self, token: str, *, audiences: tuple[str, ...] = (), timeout_seconds: float = TIMEOUT_SECONDS
    ) -> TokenReview:
        """Whose bearer token it is, and whether it is for one of `audiences`; by default the API server's."""
        spec: Object = {"token": token, **({"audiences": [*audiences]} if audiences else {})}
        review = {"apiVersion": TOKEN_REVIEWS.api_version, "kind": TOKEN_REVIEWS.kind, "spec": spec}
        reviewed = await self.create(TOKEN_REVIEWS, review, timeout_seconds=timeout_seconds)
        status = mapping(reviewed.get("status"))
        user = mapping(status.get("user"))
        return TokenReview(
            authenticated=status.get("authenticated") is True,
            username=text(user.get("username")),
            uid=text(user.get("uid")),
            groups=tuple(user.get("groups") or ()),
            audiences=tuple(status.get("audiences") or ()),
            error=text(status.get("error")),
        )

    async def review_access(
        self,
        user: str,
        groups: tuple[str, ...],
        *,
        path: str,
        verb: str,
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> bool:
        """Whether the cluster lets this user do that at a path which is no resource's."""
        asked = {"user": user, "groups": [*groups], "nonResourceAttributes": {"path": path, "verb": verb}}
        kind = {"apiVersion": ACCESS_REVIEWS.api_version, "kind": ACCESS_REVIEWS.kind}
        reviewed = await self.create(ACCESS_REVIEWS, {**kind, "spec": asked}, timeout_seconds=timeout_seconds)
        return mapping(reviewed.get("status")).get("allowed") is True


class Ways:
    """A `Transport`: what is answered at once over a few connections, and each watch over one of its own."""

    def __init__(self, prompt: HttpPool, patient: HttpClient) -> None:
        self.request = prompt.request
        self.pieces = patient.pieces


@asynccontextmanager
async def open_client(access: Access, *, pace: Pace | None = None) -> AsyncGenerator[KubeClient]:
    """A client with connections of its own, closed in the end."""
    who = {"user_agent": f"berth/{VERSION}", "tls": access.tls, "server_name": access.server_name}
    async with HttpPool(**who) as prompt, HttpClient(**who) as patient:
        yield KubeClient(access, Ways(prompt, patient), pace=pace)


def _addressed(
    verb: str,
    resource: Resource,
    namespace: str,
    name: str = "",
    subresource: str = "",
    query: Mapping[str, str] | None = None,
) -> tuple[str, str]:
    """The target of a request, and what it asks for, for people."""
    target = resource.path(namespace, name, subresource)
    asked = f"{verb} {resource.called(namespace, name, subresource)}"
    return (f"{target}?{urlencode(query)}" if query else target), asked


def _encoded(body: Object) -> bytes:
    return msgspec.json.encode(body)
