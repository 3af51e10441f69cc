"""The test API server itself: requests in, answers out. How they travel is `serving`'s."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote

import msgspec
import trio

from berth.kube.objects import Resource
from tests.kube.server.faults import Fault, Script
from tests.kube.server.kinds import BINDINGS, BUILT_IN, NAMESPACES, Kind, served_of
from tests.kube.server.listing import Lister
from tests.kube.server.refusing import Refusal, bad_request, invalid
from tests.kube.server.reviewing import REVIEWS, reviewed
from tests.kube.server.selecting import SelectorInvalid, Test, by_fields, by_labels
from tests.kube.server.storage import Address, Storage
from tests.kube.server.watching import Terms, Watches, WatchStream
from tests.kube.server.writing import Writer

Object = dict[str, Any]
LASTING_SECONDS = 1800.0
MERGE_PATCH = "application/merge-patch+json"


class Cut(Exception):
    """The connection breaks here."""


@dataclass
class Answer:
    status: int
    body: Object = field(default_factory=dict[str, Any])
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    stream: WatchStream | None = None


@dataclass
class Asked:
    """A request, taken apart."""

    method: str
    kind: Kind
    namespace: str
    name: str
    subresource: str
    query: dict[str, str]
    body: Object
    content_type: str
    scripted: bool = True

    @property
    def verb(self) -> str:
        if self.method == "GET" and not self.name:
            return "watch" if self.query.get("watch") in {"true", "1"} else "list"
        return {"GET": "get", "POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}[
            self.method
        ]


class KubeServer:
    """One cluster's API, in memory. `script` is what shall go wrong; `calls` is what was asked, by verb."""

    def __init__(self, *custom: Kind) -> None:
        self.storage = Storage()
        self.watches = Watches(self.storage)
        self.script = Script()
        self.calls: list[tuple[str, str]] = []
        self.permits: Callable[[str, str, str, str], bool] | None = None
        """Whether a verb may be used on what of a group, and under which name; all may where it is None."""
        self.tokens: dict[str, str] = {}
        """Bearer tokens and whose they are."""

        self.readers: set[tuple[str, str]] = set()
        """Users, and a path that is no resource's which they may get."""

        self.guarded = False
        """Whether a request needs one of the tokens."""

        self._kinds = {
            (kind.resource.group, kind.resource.version, kind.resource.plural): kind
            for kind in (*BUILT_IN, *custom)
        }
        self._writer = Writer(self.storage)
        self._lister = Lister(self.storage)
        for name in ("default", "kube-system"):
            self._writer.create(Kind(NAMESPACES, status=True), "", {"metadata": {"name": name}})

    def fail(self, fault: Fault) -> None:
        self.script.then(fault)

    def compact(self) -> None:
        """Forgets the past: watches from before now, and lists that have begun, are refused."""
        self.storage.forget_history()
        self._lister.forget()

    def create(self, resource: Resource, obj: Object, namespace: str = "default") -> Object:
        """As another client does it; so are the next three."""
        return self._writer.create(self._kind(resource), namespace if resource.namespaced else "", obj)

    def patch(self, resource: Resource, name: str, patch: Object, namespace: str = "default") -> Object:
        return self._writer.patch(self._kind(resource), namespace, name, patch, "")

    def delete(self, resource: Resource, name: str, namespace: str = "default") -> Object:
        return self._writer.delete(self._kind(resource), namespace, name, {})

    def find(self, resource: Resource, name: str, namespace: str = "default") -> Object | None:
        return self.storage.objects.get(Address(resource.plural, namespace, name))

    def _kind(self, resource: Resource) -> Kind:
        return self._kinds[resource.group, resource.version, resource.plural]

    def asked_for(self, verb: str, plural: str) -> int:
        return self.calls.count((verb, plural))

    async def handle(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes, *, scripted: bool = True
    ) -> Answer:
        """Raises Cut. What is not `scripted` the cluster itself asks: without a fault, and uncounted."""
        await trio.lowlevel.checkpoint()
        try:
            self._admit(headers)
            if served := self._discovered(target):
                return served
            asked = self._asked(method, target, headers, body, scripted)
            fault = self._noted(asked) if asked.scripted else None
            if fault and not fault.happening.endswith("after"):
                return await _befall(fault)
            answer = self._answer(asked)
            return await _befall(fault) if fault else answer
        except Refusal as refusal:
            return Answer(refusal.code, refusal.body)
        except SelectorInvalid as fault:
            return Answer(400, bad_request(str(fault)).body)

    def _noted(self, asked: Asked) -> Fault | None:
        resource = asked.kind.resource
        what = f"{resource.plural}/{asked.subresource}" if asked.subresource else resource.plural
        if self.permits is not None and not self.permits(asked.verb, resource.group, what, asked.name):
            raise Refusal(403, "Forbidden", f"cannot {asked.verb} {what} in API group {resource.group!r}")
        call = (asked.verb, asked.kind.resource.plural)
        self.calls.append(call)
        return self.script.next(*call)

    def _admit(self, headers: Mapping[str, str]) -> None:
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if self.guarded and not (scheme == "Bearer" and token in self.tokens):
            raise Refusal(401, "Unauthorized", "Unauthorized")

    def _discovered(self, target: str) -> Answer | None:
        """What is served, where that is asked for."""
        parts = target.strip("/").split("/")
        if (parts[0], len(parts)) not in {("api", 2), ("apis", 3)}:
            return None
        self.calls.append(("discover", target))
        if fault := self.script.next("discover", ""):
            return Answer(fault.status, Refusal(fault.status, fault.reason, fault.message).body)
        served = served_of(self._kinds.values(), "" if parts[0] == "api" else parts[1], parts[-1])
        if served is None:
            raise Refusal(404, "NotFound", "the server could not find the requested resource")
        return Answer(200, served)

    def define(self, kind: Kind) -> None:
        """From now on it is served."""
        resource = kind.resource
        self._kinds[resource.group, resource.version, resource.plural] = kind

    def _asked(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes, scripted: bool
    ) -> Asked:
        path, _, query = target.partition("?")
        parts = [unquote(part) for part in path.strip("/").split("/")]
        group, version, rest = ("", parts[1], parts[2:]) if parts[0] == "api" else (*parts[1:3], parts[3:])
        namespace = ""
        if rest[0] == "namespaces" and len(rest) > 2 and rest[2] not in {"status", "finalize"}:
            namespace, rest = rest[1], rest[2:]
        plural, name, subresource = (*rest, "", "")[:3]
        kind = self._kinds.get((group, version, plural))
        if kind is None:
            raise Refusal(404, "NotFound", "the server could not find the requested resource")
        content_type = headers.get("content-type", "").partition(";")[0]
        decoded = msgspec.json.decode(body) if body else {}
        return Asked(
            method,
            kind,
            namespace,
            name,
            subresource,
            dict(parse_qsl(query)),
            decoded,
            content_type,
            scripted,
        )

    def _answer(self, asked: Asked) -> Answer:
        kind, namespace, name = asked.kind, asked.namespace, asked.name
        match asked.verb:
            case "list":
                return Answer(200, self._list(asked))
            case "watch":
                return Answer(200, stream=self.watches.stream(_terms(asked)))
            case "get":
                return Answer(200, self._get(asked))
            case "create" if kind.resource in REVIEWS:
                return Answer(201, reviewed(kind, asked.body, self.tokens, self.readers))
            case "create" if kind.resource == BINDINGS:
                return Answer(201, self._writer.bind(namespace, asked.body))
            case "create":
                dry_run = asked.query.get("dryRun") == "All"
                return Answer(201, self._writer.create(kind, namespace, _timed(asked), dry_run=dry_run))
            case "update":
                stored, made = self._replace(asked)
                return Answer(201 if made else 200, stored)
            case "patch":
                if asked.content_type != MERGE_PATCH:
                    raise Refusal(415, "UnsupportedMediaType", f"not taken: {asked.content_type}")
                patched = self._writer.patch(kind, namespace, name, asked.body, asked.subresource)
                return Answer(200, patched)
            case "delete":
                return Answer(200, self._writer.delete(kind, namespace, name, asked.body))
            case _:
                raise Refusal(405, "MethodNotAllowed", "the server does not allow this method")

    def _list(self, asked: Asked) -> Object:
        query = asked.query
        counted = not (query.get("labelSelector") or query.get("fieldSelector"))
        return self._lister.page(
            asked.kind,
            asked.namespace,
            _test(query),
            limit=int(query.get("limit", "0")),
            token=query.get("continue", ""),
            counted=counted,
        )

    def _get(self, asked: Asked) -> Object:
        if asked.subresource == "scale":
            return self._writer.scale(asked.kind, asked.namespace, asked.name)
        address = Address(asked.kind.resource.plural, asked.namespace, asked.name)
        if address not in self.storage.objects:
            message = f'{asked.kind.qualified} "{asked.name}" not found'
            raise Refusal(404, "NotFound", message)
        return self.storage.objects[address]

    def _replace(self, asked: Asked) -> tuple[Object, bool]:
        where = (asked.kind, asked.namespace, asked.name)
        if asked.subresource == "scale":
            return self._writer.replace_scale(*where, asked.body), False
        if asked.subresource == "status":
            return self._writer.replace_status(*where, asked.body), False
        return self._writer.replace(*where, _timed(asked))


async def _befall(fault: Fault) -> Answer:
    if fault.happening.startswith("hang"):
        await trio.sleep_forever()
    if fault.happening.startswith("cut"):
        raise Cut
    headers = {} if fault.retry_after_seconds is None else {"retry-after": str(fault.retry_after_seconds)}
    return Answer(fault.status, Refusal(fault.status, fault.reason, fault.message).body, headers)


def _test(query: Mapping[str, str]) -> Test:
    tests: Iterable[Test] = (
        by_labels(query.get("labelSelector", "")),
        by_fields(query.get("fieldSelector", "")),
    )
    return lambda obj: all(test(obj) for test in tests)


def _terms(asked: Asked) -> Terms:
    since = asked.query.get("resourceVersion", "")
    return Terms(
        asked.kind,
        asked.namespace,
        _test(asked.query),
        int(since) if since not in {"", "0"} else None,
        asked.query.get("allowWatchBookmarks") == "true",
        float(asked.query.get("timeoutSeconds", LASTING_SECONDS)),
        asked.scripted,
    )


def _timed(asked: Asked) -> Object:
    """The body, its MicroTimes looked at: exactly six digits."""
    spec = asked.body.get("spec") or {}
    for key in ("acquireTime", "renewTime"):
        written = spec.get(key)
        if written is not None and len(written.partition(".")[2].rstrip("Z")) != 6:
            raise bad_request(f'parsing time "{written}" as "2006-01-02T15:04:05.000000Z07:00"')
    if not asked.body:
        raise invalid(asked.kind, asked.name, "no object")
    return asked.body
